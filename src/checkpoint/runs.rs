//! The folder of runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::Checkpoint;
use crate::{Error, Result};

/// The folder in which runs are kept unless another is named.
pub const RUNS: &str = "runs";

/// The file `name` of the newest run in `runs`: the one that says of itself that it was saved last, whatever became of its
/// file's time since. What is no checkpoint is passed over.
///
/// # Errors
/// There is none; the error says how to make one.
pub fn newest(runs: &Path, name: &str) -> Result<PathBuf> {
    let files = fs::read_dir(runs).into_iter().flatten().flatten().map(|entry| entry.path().join(name));
    let dated = files.filter_map(|path| Some((saved(&path)?, path)));
    let newest = dated.max();
    newest.map(|(_, path)| path).ok_or_else(|| {
        Error::file(
            runs,
            format!("there is no run with a {name}"),
            "train a model with `deepj train`, or name one's file or folder",
        )
    })
}

/// When the checkpoint at `path` was saved, in seconds since 1970, as it says or, of an older one that does not, its file; `None`
/// if it is no checkpoint.
fn saved(path: &Path) -> Option<u64> {
    let progress = Checkpoint::read_progress(path).ok()?;
    if progress.saved > 0 {
        return Some(progress.saved);
    }
    let modified = fs::metadata(path).ok()?.modified().ok()?;
    modified.duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs())
}
