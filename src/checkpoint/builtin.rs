//! The weights within the program, so that a fresh clone composes. What they are is in `docs/WEIGHTS.md`.

use std::path::Path;

use super::Checkpoint;
use crate::{Error, Result};

/// Names the weights within the program wherever a checkpoint is named; `./builtin` is a file or folder of that name.
pub const BUILTIN: &str = "builtin";

/// Under what licence the weights within the program are, whom to credit, and what may be done with the music that they compose.
pub const LICENCE: &str = include_str!("../../data/weights/LICENSE");

#[cfg(not(target_arch = "wasm32"))]
fn bytes() -> Result<&'static [u8]> {
    Ok(include_bytes!("../../data/weights/deepj.safetensors"))
}

/// A browser downloads them beside the program, which composes with other weights without them.
#[cfg(target_arch = "wasm32")]
static BYTES: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();

#[cfg(target_arch = "wasm32")]
fn bytes() -> Result<&'static [u8]> {
    let missing =
        || Error::run("the weights within the program are not there yet", "wait until the page has loaded them");
    BYTES.get().map(Vec::as_slice).ok_or_else(missing)
}

/// Hands in the bytes of `data/weights/deepj.safetensors`; what is handed in later changes nothing.
#[cfg(target_arch = "wasm32")]
pub fn provide_builtin(bytes: Vec<u8>) {
    let _ = BYTES.set(bytes);
}

/// Whether the weights within the program are meant.
pub fn is_builtin(path: &Path) -> bool {
    path.as_os_str() == BUILTIN
}

impl Checkpoint {
    /// The weights within the program.
    ///
    /// # Errors
    /// None in a program that was built from whole files; in a browser, weights that the page has not handed in.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> deepj::Result<()> {
    /// use deepj::checkpoint::Checkpoint;
    ///
    /// let weights = Checkpoint::builtin()?; // `Checkpoint::load("runs/first/best.safetensors")` reads a file
    /// assert_eq!(weights.model.architecture(), "deepj");
    /// assert_eq!(weights.styles.genres(), ["baroque", "classical", "romantic"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn builtin() -> Result<Self> {
        let mut checkpoint = Self::from_bytes(bytes()?).map_err(|e| {
            let what = format!("the weights within the program (data/weights/deepj.safetensors): {}", e.what);
            Error::run(what, "build the program anew from a whole copy of its source, or name another checkpoint")
        })?;
        checkpoint.corpus.licence = Some(LICENCE.into());
        Ok(checkpoint)
    }

    /// The checkpoint that `path` names: the weights within the program ([`BUILTIN`]), or a file.
    ///
    /// # Errors
    /// As [`Checkpoint::load`].
    pub fn named(path: &Path) -> Result<Self> {
        if is_builtin(path) { Self::builtin() } else { Self::load(path) }
    }
}
