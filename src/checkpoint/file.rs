//! Files that are whole at any time: written beside their place, synced, and moved there.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Replaces the file at `path` by `bytes`. Whatever happens in between, a crash or a full disk, `path` holds either its
/// old content or the new one: the bytes go to a file beside it, reach the disk, and only then take its name.
///
/// # Errors
/// Any step that the system refuses, with the path and what to do; the old file is untouched then.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let beside = beside(path);
    let written = (|| {
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        sync_folder(path)
    })();
    written.map_err(|e| {
        // The half-written file is of no use to anybody; that it may resist removal changes nothing for the caller.
        let _ = fs::remove_file(&beside);
        refused(path, "written", &e)
    })
}

/// Where the bytes are until they are whole. The name is fixed, so that what a killed process left is overwritten.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.tmp"))
}

/// Makes the new name itself durable.
#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Elsewhere a folder cannot be opened as a file; the rename is as durable as the system makes it.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

/// An error of the file system as ours; `done` completes "cannot be".
pub fn refused(path: &Path, done: &str, e: &io::Error) -> Error {
    let remedy = match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "make room on the disk, or name another folder"
        }
        io::ErrorKind::NotFound => "check the path",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "a part of the path is a file; name another folder"
        }
        _ => "check the folder and its rights, or name another",
    };
    Error::file(path, format!("cannot be {done}: {e}"), remedy)
}

/// Makes the folder and those above it.
///
/// # Errors
/// What the system refuses.
pub fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|e| refused(path, "made", &e))
}

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
