//! The folder of runs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::Checkpoint;
use crate::files::refused;
use crate::{Error, Result};

/// The folder in which runs are kept unless another is named.
pub const RUNS: &str = "runs";

/// The file `name` of the newest run in `runs`: the one that says of itself that it was saved last, whatever became of its
/// file's time since. What is no checkpoint is passed over.
///
/// # Errors
/// There is none; the error says how to make one. Else as [`newest_if_any`].
pub fn newest(runs: &Path, name: &str) -> Result<PathBuf> {
    newest_if_any(runs, name)?.ok_or_else(|| missing(runs, name, ""))
}

/// The same; `None` where there is no run with such a file.
///
/// # Errors
/// There are such files, but none is a checkpoint, which the error names, or the folder cannot be read: nobody can say then.
pub fn newest_if_any(runs: &Path, name: &str) -> Result<Option<PathBuf>> {
    match find(runs, name)? {
        Found { newest: None, passed_over: Some(path) } => {
            Err(missing(runs, name, &format!(" ({} is no checkpoint)", path.display())))
        }
        Found { newest, .. } => Ok(newest),
    }
}

fn missing(runs: &Path, name: &str, no_checkpoint: &str) -> Error {
    let what = format!("there is no run with a {name}{no_checkpoint}");
    Error::file(runs, what, "train a model with `deepj train`, or name one's file or folder")
}

/// What there is of a file in the folders of runs.
struct Found {
    newest: Option<PathBuf>,
    /// One that is no checkpoint.
    passed_over: Option<PathBuf>,
}

fn find(runs: &Path, name: &str) -> Result<Found> {
    let entries = match fs::read_dir(runs) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Found { newest: None, passed_over: None }),
        Err(e) => return Err(refused(runs, "read", &e)),
    };
    let files = entries.flatten().map(|entry| entry.path().join(name)).filter(|path| path.exists());
    let (dated, others): (Vec<_>, Vec<_>) =
        files.map(|path| (saved(&path), path)).partition(|(saved, _)| saved.is_some());
    let path = |(_, path)| path;
    Ok(Found { newest: dated.into_iter().max().map(path), passed_over: others.into_iter().max().map(path) })
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
