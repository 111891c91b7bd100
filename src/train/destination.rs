//! What the folder of a run may hold when the run begins, and what of it gives way.

use std::path::Path;
use std::time::Duration;

use super::run_files::{BEST, Folder, LAST, RunFiles};
use super::{curve, tensorboard};
use crate::files::remove_temporaries;
use crate::{Error, Result};

/// The beginning of the names of pieces that the program composes at a run's end.
pub const SAMPLE: &str = "sample-";

/// What the folder of a run may hold when the run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Nothing: the name is this program's own choice, and another is taken where it is in use.
    New,
    /// No run.
    Free,
    /// Another run, which is removed before the first update.
    Replaced,
    /// No checkpoint to go on from; what a run that did not get so far left is kept under other names.
    Begun,
    /// The run that goes on.
    Resumed,
}

/// The folder of a run that begins or goes on, locked.
///
/// # Errors
/// Another run that works on the folder, whose process is named; files that it must not hold; what the file system refuses.
pub(super) fn open(path: &Path, destination: Destination) -> Result<Folder> {
    if destination == Destination::New {
        return Folder::make_new(path);
    }
    let folder = Folder::open(path)?;
    check(path, destination)?;
    // The lock is ours, so nobody writes them any more.
    remove_temporaries(path, Duration::ZERO, |name| str::from_utf8(name).is_ok_and(is_of_a_run));
    Ok(folder)
}

/// Fails where the folder at `path` holds what a run that is to be there would overwrite.
///
/// # Errors
/// The file in the way, and how to go on.
pub(super) fn check(path: &Path, destination: Destination) -> Result<()> {
    let forbidden: &[&str] = match destination {
        Destination::Free => &[LAST, BEST, curve::NAME],
        Destination::Begun => &[LAST],
        Destination::New | Destination::Replaced | Destination::Resumed => &[],
    };
    let Some(name) = forbidden.iter().find(|name| path.join(name).exists()) else { return Ok(()) };
    let (what, remedy) = match *name {
        curve::NAME | BEST => (
            "the folder holds what a run left that ended before its first checkpoint",
            "keep it by --resume auto, which begins anew, replace it by --force, or name another folder with --out",
        ),
        _ => (
            "the folder holds a run already",
            "go on with it by --resume, replace it by --force, or name another folder with --out",
        ),
    };
    Err(Error::file(path.join(name), what, remedy))
}

/// Removes all that a run leaves.
///
/// # Errors
/// What the file system refuses.
pub(super) fn clear(files: &mut dyn RunFiles) -> Result<()> {
    let mut names = files.names()?;
    // First that by which a run goes on: whatever happens in between, nothing goes on with a part of it.
    names.sort_by_key(|name| name != LAST);
    for name in names {
        if is_of_a_run(&name) {
            files.remove(&name)?;
        }
    }
    Ok(())
}

/// Keeps a file of a run that got to no checkpoint under another name; returns what is to be said of it.
///
/// # Errors
/// What the file system refuses.
pub(super) fn keep_aside(files: &mut dyn RunFiles, name: &str) -> Result<Option<String>> {
    let Some(bytes) = files.read(name)?.filter(|bytes| !bytes.is_empty()) else { return Ok(None) };
    let names = files.names()?;
    let (stem, ending) = name.split_once('.').unwrap_or((name, ""));
    let mut numbered = (1..).map(|number| format!("{stem}-{number}.{ending}"));
    let Some(kept) = numbered.find(|name| !names.contains(name)) else { return Ok(None) };
    files.write(&kept, &bytes)?;
    files.remove(name)?;
    let path = files.path(&kept);
    Ok(Some(format!("the run before this one got to no checkpoint; its {name} is kept as {}", path.display())))
}

/// Whether a run of ours leaves a file of this name.
fn is_of_a_run(name: &str) -> bool {
    let sample = name.starts_with(SAMPLE) && name.ends_with(".mid");
    [LAST, BEST].contains(&name) || sample || curve::is_curve(name) || tensorboard::is_event_file(name)
}
