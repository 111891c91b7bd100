//! The folder of runs.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The folder in which runs are kept unless another is named.
pub const RUNS: &str = "runs";

/// The file `name` of the newest run in `runs`: the one that was written last.
///
/// # Errors
/// There is none; the error says how to make one.
pub fn newest(runs: &Path, name: &str) -> Result<PathBuf> {
    let files = fs::read_dir(runs).into_iter().flatten().flatten().map(|entry| entry.path().join(name));
    let dated = files.filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path)));
    let newest = dated.max();
    newest.map(|(_, path)| path).ok_or_else(|| {
        Error::file(
            runs,
            format!("there is no run with a {name}"),
            "train a model with `deepj train`, or name one's file or folder",
        )
    })
}
