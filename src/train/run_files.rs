//! The files of a training run: a folder on disk, or memory where there is none, as in a browser.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::calendar::run_stamp;
use crate::files::{FileLock, make_folder, make_new_folder, refused, remove, unless_unknown, write_whole};
use crate::{Error, Result};

/// The last state of a run, in its folder: what `--resume` reads.
pub const LAST: &str = "last.safetensors";
/// The state with the best validation loss.
pub const BEST: &str = "best.safetensors";
/// Runs of one second and one preset that get names of their own.
const MOST_NAMES: usize = 1000;

/// Where a run keeps its files, by name.
pub trait RunFiles {
    /// Replaces a file by `bytes`, whole or not at all.
    ///
    /// # Errors
    /// What the file system refuses; the old file is untouched then.
    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()>;
    /// Appends to a file, which is made where there is none.
    ///
    /// # Errors
    /// What the file system refuses.
    fn append(&mut self, name: &str, bytes: &[u8]) -> Result<()>;
    /// A file's content; `None` where there is no such file.
    ///
    /// # Errors
    /// What the file system refuses.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>>;
    /// The names of all files.
    ///
    /// # Errors
    /// What the file system refuses.
    fn names(&self) -> Result<Vec<String>>;
    /// Removes a file.
    ///
    /// # Errors
    /// What the file system refuses.
    fn remove(&mut self, name: &str) -> Result<()>;
    /// Where people find the file.
    fn path(&self, name: &str) -> PathBuf;
}

/// A folder on disk.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Two runs in one folder would overwrite each other's files.
    _lock: FileLock,
    /// Files that were appended to, open.
    open: HashMap<String, File>,
}

impl Folder {
    /// The folder at `path`, made with those above it where it is not there, and locked for as long as this value is there.
    ///
    /// # Errors
    /// Another run that works on the folder, whose process is named, or what the file system refuses.
    pub fn open(path: &Path) -> Result<Self> {
        make_folder(path)?;
        Ok(Self { path: path.into(), _lock: FileLock::acquire(path)?, open: HashMap::new() })
    }

    /// A folder that nobody else has made, locked: where the name is taken, with a number behind it.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn make_new(path: &Path) -> Result<Self> {
        Self::open(&new_folder(path)?)
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.path
    }
}

/// Makes a folder that was not there, named as `path` or as that with a number.
fn new_folder(path: &Path) -> Result<PathBuf> {
    if let Some(above) = path.parent() {
        make_folder(above)?;
    }
    let mut taken = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
    for number in 1..=MOST_NAMES {
        let mut name = path.as_os_str().to_owned();
        if number > 1 {
            name.push(format!("-{number}"));
        }
        match make_new_folder(Path::new(&name)) {
            Ok(()) => return Ok(name.into()),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => taken = e,
            Err(e) => return Err(refused(Path::new(&name), "made", &e)),
        }
    }
    Err(refused(path, "made", &taken))
}

impl RunFiles for Folder {
    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.open.remove(name);
        // A checkpoint must not be ahead of its curve after a power failure.
        for (name, file) in &self.open {
            unless_unknown(file.sync_data()).map_err(|e| refused(&self.path.join(name), "written", &e))?;
        }
        write_whole(&self.path.join(name), bytes)
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path.join(name);
        if !self.open.contains_key(name) {
            let file = OpenOptions::new().append(true).create(true).open(&path);
            self.open.insert(name.into(), file.map_err(|e| refused(&path, "opened", &e))?);
        }
        match self.open.get_mut(name) {
            Some(file) => file.write_all(bytes).map_err(|e| refused(&path, "written", &e)),
            None => Ok(()),
        }
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path.join(name);
        // A pipe would block for ever.
        if path.metadata().is_ok_and(|found| !found.is_file()) {
            return Err(Error::file(path, "is not an ordinary file", "remove it, or name another folder with --out"));
        }
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(refused(&path, "read", &e)),
        }
    }

    fn names(&self) -> Result<Vec<String>> {
        let entries = std::fs::read_dir(&self.path).map_err(|e| refused(&self.path, "read", &e))?;
        Ok(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
    }

    fn remove(&mut self, name: &str) -> Result<()> {
        self.open.remove(name);
        remove(&self.path.join(name))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// Files in memory.
#[derive(Clone, Debug, Default)]
pub struct Memory(BTreeMap<String, Vec<u8>>);

impl RunFiles for Memory {
    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.0.insert(name.into(), bytes.into());
        Ok(())
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.0.entry(name.into()).or_default().extend(bytes);
        Ok(())
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.0.get(name).cloned())
    }

    fn names(&self) -> Result<Vec<String>> {
        Ok(self.0.keys().cloned().collect())
    }

    fn remove(&mut self, name: &str) -> Result<()> {
        self.0.remove(name);
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        name.into()
    }
}

/// No files: those of a rank for which another writes.
pub(super) struct Nowhere;

impl RunFiles for Nowhere {
    fn write(&mut self, _: &str, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn append(&mut self, _: &str, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn read(&self, _: &str) -> Result<Option<Vec<u8>>> {
        Ok(Some(vec![]))
    }

    fn names(&self) -> Result<Vec<String>> {
        Ok(vec![])
    }

    fn remove(&mut self, _: &str) -> Result<()> {
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        name.into()
    }
}

/// The name of a new run: date and time (UTC) and preset.
pub(super) fn run_name(preset: &str) -> String {
    format!("{}-{preset}", run_stamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_run_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let first = Folder::open(&path).unwrap();
        let error = Folder::open(&path).unwrap_err();
        assert!(error.what.contains("run: process") && error.what.contains("is working on it"), "{error}");
        drop(first);
        Folder::open(&path).unwrap();
    }
}
