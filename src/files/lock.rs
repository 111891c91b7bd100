//! Locks between processes.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use web_time::Instant;

use super::{folder_of, refused};
use crate::{Error, Result};

/// The file within a folder that is locked for it.
pub(super) const LOCK: &str = ".lock";
/// Bytes that are read of a lock: more than any process' number has.
const MOST_TEXT: u64 = 32;
/// Time between two attempts.
const PAUSE: Duration = Duration::from_millis(5);

/// A folder or file that one holder at a time may work on, as long as all ask for the lock: nothing keeps others from reading or
/// writing. It is released when it is dropped, and when its process ends in any way.
///
/// What is locked is a file named `.lock` in the folder, or `.NAME.lock` beside the file `NAME`; it stays when the lock is
/// released, since removing it would let two others lock two files of that name. While locked, it holds the holder's process
/// number.
#[derive(Debug)]
pub struct FileLock {
    /// Locked; none where the system has no locks.
    file: Option<File>,
}

impl FileLock {
    /// Locks the folder or file at `path`, without waiting. A file need not exist, its folder must. Where the system has no
    /// locks, as on the web, nothing is locked.
    ///
    /// # Errors
    /// Another holder, whose process the error names, or a folder that takes no file.
    pub fn acquire(path: &Path) -> Result<Self> {
        Self::acquire_within(path, Duration::ZERO)
    }

    /// As [`FileLock::acquire`], but waits up to `patience` for another holder.
    ///
    /// # Errors
    /// As [`FileLock::acquire`].
    pub fn acquire_within(path: &Path, patience: Duration) -> Result<Self> {
        let beside = beside(path);
        let locking = |e: io::Error| refused(path, "locked", &e);
        let began = Instant::now();
        let mut file = match OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&beside) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::Unsupported => return Ok(Self { file: None }),
            Err(e) => return Err(locking(e)),
        };
        let mut text = vec![];
        // Some systems do not let a locked file be read; then it is no other's.
        let _ = (&file).take(MOST_TEXT).read_to_end(&mut text);
        let process = str::from_utf8(text.trim_ascii()).ok().and_then(|text| text.parse::<u32>().ok());
        if !text.trim_ascii().is_empty() && process.is_none() {
            return Err(Error::file(&beside, "is not a lock of this program", "move it away, or name another folder"));
        }
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if began.elapsed() < patience => std::thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => return Err(held(path, &mut file)),
                Err(TryLockError::Error(e)) if e.kind() == io::ErrorKind::Unsupported => {
                    return Ok(Self { file: None });
                }
                Err(TryLockError::Error(e)) => return Err(locking(e)),
            }
        }
        // For messages only, so a disk that has no room for it does no harm.
        let process = format!("{}\n", std::process::id());
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(process.as_bytes()));
        Ok(Self { file: Some(file) })
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            // Emptied, so that the next holder is not taken for this one. Closing the file releases it in any case.
            let _ = file.set_len(0);
            let _ = file.unlock();
        }
    }
}

/// The file that is locked for `path`.
fn beside(path: &Path) -> PathBuf {
    if path.is_dir() {
        return path.join(LOCK);
    }
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".lock");
    folder_of(path).join(name)
}

/// The error over a lock that another holds, whose process number is in `file`.
fn held(path: &Path, file: &mut File) -> Error {
    let mut text = String::new();
    // Some systems do not let a locked file be read; the message does without.
    let read = file.rewind().and_then(|()| file.take(MOST_TEXT).read_to_string(&mut text));
    let holder = match read.ok().and_then(|_| text.trim().parse::<u32>().ok()) {
        Some(process) => format!("process {process}"),
        None => "another process".into(),
    };
    Error::file(path, format!("{holder} is working on it"), "wait until it has ended, or end it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_holds_a_lock_and_the_other_is_told_whose_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        for path in [folder.path(), &file] {
            let first = FileLock::acquire(path).unwrap();
            let error = FileLock::acquire(path).unwrap_err();
            let what = format!("{}: process {} is working on it", path.display(), std::process::id());
            assert_eq!(error.what, what);
            drop(first);
            drop(FileLock::acquire(path).unwrap());
        }
        assert!(!file.exists());
        let [of_folder, of_file] = [folder.path(), &file].map(|path| FileLock::acquire(path).unwrap());
        drop((of_folder, of_file));
        let error = FileLock::acquire(&folder.path().join("none/file")).unwrap_err();
        assert!(error.what.contains("none/file: cannot be locked") && error.remedy.contains("path"), "{error}");
    }

    #[test]
    fn the_patient_get_it_when_it_is_released() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let first = FileLock::acquire(&path).unwrap();
        let error = FileLock::acquire_within(&path, 4 * PAUSE).unwrap_err();
        assert!(error.what.contains("working on it"), "{error}");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| FileLock::acquire_within(&path, Duration::from_secs(60)).map(drop));
            std::thread::sleep(4 * PAUSE);
            drop(first);
            waiting.join().unwrap().unwrap();
        });
    }

    /// What a process of its own locks.
    const PATH: &str = "DEEPJ_TEST_LOCK";

    /// Not a test of its own: locks until it is killed.
    #[test]
    fn locks_if_asked() {
        let Ok(path) = std::env::var(PATH) else { return };
        let _lock = FileLock::acquire(Path::new(&path)).unwrap();
        println!("LOCKED");
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    #[test]
    fn a_killed_process_holds_nothing() {
        use std::io::BufRead;
        let folder = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "files::lock::tests::locks_if_asked", "--nocapture"])
            .env(PATH, folder.path())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = io::BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("LOCKED")), "it ended");
        let error = FileLock::acquire(folder.path()).unwrap_err();
        assert!(error.what.contains(&format!("process {} is", child.id())), "{error}");
        child.kill().unwrap();
        child.wait().unwrap();
        FileLock::acquire(folder.path()).unwrap();
    }
}
