//! The files that a command reads and writes, looked at before it computes anything.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal, Seek, Write};
use std::path::{Path, PathBuf};

use serde::Serializer;

use super::lock::LOCK;
use super::{FileLock, folder_of, followed, is_special, make_new_folder, refused, replace, write_whole};
use crate::{Error, Result};

/// What stands for standard input or output where a file is to be named.
const STREAM: &str = "-";

/// The files that one command reads and writes: none is written that it reads, and none twice.
#[derive(Debug, Default)]
pub struct Outputs {
    /// Those that are read.
    read: Vec<PathBuf>,
    /// Those to be written.
    written: Vec<PathBuf>,
    /// Folders that a file can be made in.
    tried: Vec<PathBuf>,
    /// Folders of runs that files are written into, which nobody else may work on meanwhile.
    locks: Vec<FileLock>,
}

impl Outputs {
    /// Takes note of a file that the command reads.
    pub fn reads(&mut self, path: &Path) {
        self.read.push(path.into());
    }

    /// Takes note of a file that the command will write, and tries all of that but the writing. A folder that is missing is made
    /// if the one above it is there; then its path is returned. `-` is standard output.
    ///
    /// # Errors
    /// A name that ends otherwise than in one of `endings` (a name without an ending is welcome), a folder in the place of the
    /// file, a file that the command reads or writes already under whatever name, a folder of a run that another process works
    /// on, or what the system refuses.
    pub fn claim(&mut self, path: &Path, endings: &[&str]) -> Result<Option<PathBuf>> {
        if is_standard_stream(path) {
            return self.claim_stdout().map(|()| None);
        }
        check_ending(path, endings)?;
        let found = match fs::metadata(path) {
            Ok(found) => Some(found),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(refused(path, "written", &e)),
        };
        if found.as_ref().is_some_and(fs::Metadata::is_dir) {
            return Err(Error::file(path, "is a folder", "name a file"));
        }
        // A pipe or a device, such as /dev/null, takes what it is given and has no folder of its own to speak of.
        if found.as_ref().is_some_and(|found| !found.is_file()) {
            return Ok(None);
        }
        if let Some(other) = self.read.iter().find(|other| same(other, path)) {
            let what = format!("is read by this command, as {}", other.display());
            return Err(Error::file(path, what, "name another file to be written"));
        }
        if let Some(other) = self.written.iter().find(|other| same(other, path)) {
            let what = format!("is to be written twice by this command, also as {}", other.display());
            return Err(Error::file(path, what, "name different files"));
        }
        let target = followed(path).map_err(|e| refused(path, "written", &e))?;
        let folder = folder_of(&target);
        let made = make_last(folder).map_err(|e| refused(path, "written", &e))?;
        self.try_folder(folder).map_err(|e| refused(path, "written", &e))?;
        if folder.join(LOCK).exists() && !self.written.iter().any(|other| folder_of(other) == folder) {
            self.locks.push(FileLock::acquire(folder)?);
        }
        if found.is_some() {
            // It would be replaced even so, where the folder allows it; but that is not what its owner meant.
            OpenOptions::new().append(true).open(&target).map_err(|e| refused(path, "written", &e))?;
        }
        self.written.push(target.clone());
        Ok(made.then(|| folder.to_path_buf()))
    }

    fn claim_stdout(&mut self) -> Result<()> {
        if self.written.iter().any(|other| is_standard_stream(other)) {
            return Err(Error::usage("two outputs on standard output", "name files"));
        }
        if io::stdout().is_terminal() {
            return Err(Error::usage("standard output is a terminal", "redirect it to a file, or name one"));
        }
        self.written.push(STREAM.into());
        Ok(())
    }

    /// Makes a file in the folder that has no name there, and lets it go.
    fn try_folder(&mut self, folder: &Path) -> io::Result<()> {
        if !self.tried.iter().any(|tried| tried == folder) {
            tempfile::tempfile_in(folder)?;
            self.tried.push(folder.into());
        }
        Ok(())
    }
}

/// Whether the path is `-`: standard output where a file is written, standard input where one is read.
pub fn is_standard_stream(path: &Path) -> bool {
    path.as_os_str() == STREAM
}

/// Replaces the file at `path` as [`write_whole`] does, or writes to standard output.
///
/// # Errors
/// What the system refuses.
pub fn write_output(path: &Path, bytes: &[u8]) -> Result<()> {
    if !is_standard_stream(path) {
        return write_whole(path, bytes);
    }
    let mut out = io::stdout().lock();
    let written = out.write_all(bytes).and_then(|()| out.flush());
    written.map_err(|e| Error::run(format!("standard output cannot be written: {e}"), "name a file"))
}

/// The same for a file that is too long to be held in memory: `write` writes it piece by piece and may go back in it. Standard
/// output, a pipe or a device gets it when it is whole, from a file without a name in the system's folder of temporary files.
///
/// # Errors
/// Those of `write`, after which nothing is written, and what the system refuses.
pub fn write_output_with<T>(path: &Path, write: impl FnOnce(&mut fs::File) -> Result<T>) -> Result<T> {
    let stdout = is_standard_stream(path);
    if !stdout && !is_special(path) {
        return replace(path, write);
    }
    let temporary = |e: io::Error| refused(&std::env::temp_dir(), "written", &e);
    let mut file = tempfile::tempfile().map_err(temporary)?;
    let written = write(&mut file)?;
    file.rewind().map_err(temporary)?;
    if stdout {
        let mut out = io::stdout().lock();
        let copied = io::copy(&mut file, &mut out).and_then(|_| out.flush());
        copied.map_err(|e| Error::run(format!("standard output cannot be written: {e}"), "name a file"))?;
    } else {
        let mut device = OpenOptions::new().write(true).open(path).map_err(|e| refused(path, "written", &e))?;
        io::copy(&mut file, &mut device).map_err(|e| refused(path, "written", &e))?;
    }
    Ok(written)
}

/// Fails on a file name with another ending than these, which would promise what the file will not be.
fn check_ending(path: &Path, endings: &[&str]) -> Result<()> {
    let Some(ending) = path.extension().and_then(OsStr::to_str) else { return Ok(()) };
    if endings.is_empty() || endings.iter().any(|known| known.eq_ignore_ascii_case(ending)) {
        return Ok(());
    }
    let instead = path.with_extension(endings[0]);
    let what = format!("is not written as .{ending}, only as .{}", endings.join(" or ."));
    Err(Error::usage(format!("{}: {what}", path.display()), format!("name it {}", instead.display())))
}

/// Whether two paths lead to one file, by links of any kind; also to one that is not there yet.
fn same(a: &Path, b: &Path) -> bool {
    if let Ok(same) = same_file::is_same_file(a, b) {
        return same;
    }
    let place = |path: &Path| {
        let target = followed(path).ok()?;
        Some((folder_of(&target).canonicalize().ok()?, target.file_name()?.to_os_string()))
    };
    place(a).is_some_and(|a| Some(a) == place(b))
}

/// Makes the folder if that above it is there; returns whether it was made.
fn make_last(folder: &Path) -> io::Result<bool> {
    match make_new_folder(folder) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        // `.` and the like.
        Err(_) if folder.is_dir() => Ok(false),
        Err(e) => Err(e),
    }
}

/// A path, or a part of one, as text: bytes that are no UTF-8 are escaped, as in `Dvo\xF8\xE1k`, so that two names stay two.
pub fn path_text(path: impl AsRef<OsStr>) -> String {
    let mut text = String::new();
    for chunk in path.as_ref().as_encoded_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02X}")));
    }
    text
}

/// Serialises a path as [`path_text`]: serde's own refuses what is not UTF-8, when all work is done.
///
/// # Errors
/// Those of the serializer.
pub fn serialize_path<S: Serializer>(path: impl AsRef<Path>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(&path_text(path.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(outputs: &mut Outputs, path: impl AsRef<Path>) -> Result<Option<PathBuf>> {
        outputs.claim(path.as_ref(), &["mid", "midi"])
    }

    #[test]
    fn what_is_read_or_written_already_is_refused_under_any_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("in.mid"), "notes").unwrap();
        fs::hard_link(at("in.mid"), at("hard.mid")).unwrap();
        fs::create_dir(at("below")).unwrap();
        let mut names = vec![at("in.mid"), at("hard.mid"), at("below/../in.mid")];
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(at("in.mid"), at("soft.mid")).unwrap();
            names.push(at("soft.mid"));
        }
        for name in names {
            let mut outputs = Outputs::default();
            outputs.reads(&at("in.mid"));
            let error = claim(&mut outputs, &name).unwrap_err();
            assert!(error.what.contains("is read by this command"), "{error}");
        }
        let mut outputs = Outputs::default();
        claim(&mut outputs, at("new.mid")).unwrap();
        for again in [at("new.mid"), at("below/../new.mid")] {
            let error = claim(&mut outputs, again).unwrap_err();
            assert!(error.what.contains("written twice"), "{error}");
        }
        claim(&mut outputs, at("newer.mid")).unwrap();
    }

    #[test]
    fn what_cannot_be_written_is_found_out_and_nothing_stays() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "").unwrap();
        let long = "n".repeat(300);
        for (name, text) in [
            ("", "is a folder"),
            ("file/below.mid", "cannot be written"),
            ("none/none/a.mid", "cannot be written"),
            (&long, "cannot be written"),
            ("piece.wav", "is not written as .wav"),
        ] {
            let error = claim(&mut Outputs::default(), at(name)).unwrap_err();
            assert!(error.to_string().contains(text), "{name}: {error}");
        }
        for fine in ["piece", "piece.mid", "PIECE.MIDI"] {
            assert_eq!(claim(&mut Outputs::default(), at(fine)).unwrap(), None);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(claim(&mut Outputs::default(), at("made/piece.mid")).unwrap(), Some(at("made")));
    }

    #[test]
    fn a_file_written_piece_by_piece_is_whole_or_not_there() {
        use std::io::SeekFrom;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let pieces = |file: &mut fs::File| {
            file.write_all(b"??, then more").unwrap();
            file.seek(SeekFrom::Start(0)).unwrap();
            file.write_all(b"1,").unwrap();
            Ok(7)
        };
        assert_eq!(write_output_with(&path, pieces).unwrap(), 7);
        assert_eq!(fs::read(&path).unwrap(), b"1,, then more");
        let fails = |file: &mut fs::File| {
            file.write_all(b"other").unwrap();
            Err::<(), _>(Error::run("no more", ""))
        };
        assert_eq!(write_output_with(&path, fails).unwrap_err().what, "no more");
        assert_eq!(fs::read(&path).unwrap(), b"1,, then more");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing stays beside it");
        #[cfg(unix)]
        write_output_with(Path::new("/dev/null"), pieces).unwrap();
    }

    #[test]
    fn the_folder_of_a_run_under_way_takes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let lock = FileLock::acquire(folder.path()).unwrap();
        let error = claim(&mut Outputs::default(), folder.path().join("piece.mid")).unwrap_err();
        assert!(error.what.contains(&format!("process {}", std::process::id())), "{error}");
        drop(lock);
        let mut outputs = Outputs::default();
        claim(&mut outputs, folder.path().join("piece.mid")).unwrap();
        assert!(FileLock::acquire(folder.path()).is_err(), "locked meanwhile");
        claim(&mut outputs, folder.path().join("another.mid")).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn names_beyond_utf8_are_escaped() {
        use std::os::unix::ffi::OsStrExt;
        let name = Path::new(OsStr::from_bytes(b"caf\xe9/\xff\xc3\xa9"));
        assert_eq!(path_text(name), "caf\\xE9/\\xFF\u{e9}");
    }
}
