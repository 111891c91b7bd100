//! The weights within the program, so that a fresh clone composes. What they are is in `docs/WEIGHTS.md`.

use std::path::Path;

use super::Checkpoint;
use crate::{Error, Result};

/// Names the weights within the program wherever a checkpoint is named; `./builtin` is a file or folder of that name.
pub const BUILTIN: &str = "builtin";

/// Under what licence the weights within the program are, whom to credit, and what may be done with the music that they compose.
pub const LICENCE: &str = include_str!("../../data/weights/LICENSE");

static BYTES: &[u8] = include_bytes!("../../data/weights/deepj.safetensors");

/// Whether the weights within the program are meant.
pub fn is_builtin(path: &Path) -> bool {
    path.as_os_str() == BUILTIN
}

impl Checkpoint {
    /// The weights within the program.
    ///
    /// # Errors
    /// None in a program that was built from whole files.
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
        let mut checkpoint = Self::from_bytes(BYTES).map_err(|e| {
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
