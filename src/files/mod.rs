//! The file system: files that are whole at any time, locks between processes, and errors that say what to do.

use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Error, Result};

mod arrays;
mod lock;
mod output;

pub use arrays::{npy, safetensors};
pub use lock::FileLock;
pub use output::{Outputs, is_standard_stream, path_text, serialize_path, write_output, write_output_with};

/// Symbolic links that are followed from a path; as many as Linux follows.
const MOST_LINKS: usize = 40;
/// Bytes of a name to which a temporary file's own part can be added.
const LONG_NAME: usize = 200;
/// A temporary file that nobody wrote to for so long was left behind by a process that was killed.
const ABANDONED: Duration = Duration::from_secs(3600);

/// Replaces the file at `path` by `bytes`. Whatever happens in between, a crash or a full disk, `path` holds either its
/// old content or the new one: the bytes go to a file beside it, reach the disk, and only then take its name. Others who write
/// the same file in the same moment do the same with a file of their own; the last one's content stays.
///
/// A symbolic link stays one: the file it leads to is replaced. What is no ordinary file, such as `/dev/null`, is written to as
/// it is.
///
/// # Errors
/// Any step that the system refuses, with the path and what to do; the old file is untouched then, unless the last step, which
/// makes the new name outlive a power failure, is what fails.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let unwritable = |e: io::Error| refused(path, "written", &e);
    if is_special(path) {
        return fs::write(path, bytes).map_err(unwritable);
    }
    replace(path, |file| file.write_all(bytes).map_err(unwritable))
}

/// Whether something is at `path` that is no ordinary file.
fn is_special(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| !found.is_file())
}

/// Replaces the ordinary file at `path` by what `write` writes to one beside it. An error of `write` leaves the old one.
fn replace<T>(path: &Path, write: impl FnOnce(&mut fs::File) -> Result<T>) -> Result<T> {
    let unwritable = |e: io::Error| refused(path, "written", &e);
    let target = followed(path).map_err(unwritable)?;
    let folder = folder_of(&target);
    let name = target.file_name().ok_or_else(|| unwritable(io::ErrorKind::InvalidFilename.into()))?;
    remove_temporaries(folder, ABANDONED, |of| of == name.as_encoded_bytes());
    // File systems take names of 255 bytes, and a long one leaves no room for more.
    let named = if name.len() > LONG_NAME { OsStr::new("deepj") } else { name };
    let prefix: OsString = [OsStr::new("."), named, OsStr::new(".")].into_iter().collect();
    // Opened by hand, since tempfile's own files are readable by their owner only.
    let mut file = tempfile::Builder::new()
        .prefix(&prefix)
        .suffix(".tmp")
        .make_in(folder, |beside| OpenOptions::new().write(true).create_new(true).open(beside))
        .map_err(unwritable)?;
    let written = write(file.as_file_mut())?;
    let keep = || -> io::Result<()> {
        file.as_file().sync_all()?;
        let folder = OpenFolder::of(folder)?;
        file.persist(&target)?;
        folder.sync()
    };
    keep().map_err(unwritable)?;
    Ok(written)
}

/// Where the symbolic links at `path` lead in the end, whether or not anything is there; `path` itself, if it is none.
fn followed(path: &Path) -> io::Result<PathBuf> {
    let mut target = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&target) {
            Ok(next) => target = folder_of(&target).join(next),
            // No link, or nothing at all.
            Err(_) => return Ok(target),
        }
    }
    Err(io::Error::other("too many symbolic links, one after the other"))
}

/// The folder that `path` is in.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Removes the temporary files in `folder` that nobody wrote to for `age`, as processes that were killed leave them, of the files
/// whose names, as encoded bytes, are `chosen`. That is no more than tidy, so failures are passed over.
pub fn remove_temporaries(folder: &Path, age: Duration, chosen: impl Fn(&[u8]) -> bool) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let since = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        let ours = temporary_of(entry.file_name().as_encoded_bytes()).is_some_and(&chosen);
        if ours && (age.is_zero() || since().is_some_and(|since| since > age)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The name of the file that is to be replaced by a temporary one of this name: `.FILE.RANDOM.tmp`.
fn temporary_of(name: &[u8]) -> Option<&[u8]> {
    let name = name.strip_prefix(b".")?.strip_suffix(b".tmp")?;
    Some(&name[..name.iter().rposition(|byte| *byte == b'.')?])
}

/// A folder whose entries can be made durable.
struct OpenFolder(#[cfg(unix)] Option<fs::File>);

impl OpenFolder {
    #[cfg(unix)]
    fn of(folder: &Path) -> io::Result<Self> {
        match fs::File::open(folder) {
            // A folder may take files from those who may not read it.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(Self(None)),
            opened => opened.map(|folder| Self(Some(folder))),
        }
    }

    #[cfg(unix)]
    fn sync(&self) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), |folder| unless_unknown(folder.sync_all()))
    }

    /// Elsewhere a folder cannot be opened as a file; a rename is as durable as the system makes it.
    #[cfg(not(unix))]
    fn of(_: &Path) -> io::Result<Self> {
        Ok(Self())
    }

    #[cfg(not(unix))]
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// The outcome of a sync, which file systems that have none for this kind of file refuse.
pub fn unless_unknown(synced: io::Result<()>) -> io::Result<()> {
    match synced {
        Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        synced => synced,
    }
}

/// Makes the folder and those above it, so that they outlive a power failure.
///
/// # Errors
/// What the system refuses.
pub fn make_folder(path: &Path) -> Result<()> {
    fn make(path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) {
            make(above)?;
        }
        match make_new_folder(path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            made => made,
        }
    }
    make(path).map_err(|e| refused(path, "made", &e))
}

/// Makes a folder that is not there yet, in one that is, so that it outlives a power failure.
///
/// # Errors
/// What the system refuses.
pub fn make_new_folder(path: &Path) -> io::Result<()> {
    let above = OpenFolder::of(folder_of(path))?;
    fs::create_dir(path)?;
    above.sync()
}

/// Fails where something other than an empty folder is at `path`, which a new folder would have to replace.
///
/// # Errors
/// A file or a folder that holds something, or what the system refuses.
pub fn check_new_folder(path: &Path) -> Result<()> {
    const REMEDY: &str = "name another folder, or move it away";
    match fs::read_dir(path).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::file(path, "the folder is not empty", REMEDY)),
        Err(e) if e.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(path).is_err() => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => Err(Error::file(path, "is no folder", REMEDY)),
        Err(e) => Err(refused(path, "read", &e)),
    }
}

/// Makes the folder at `path` with all that `write` writes into it, or not at all: it is written beside it under another name,
/// which it gives up when it is whole. What a process that was killed leaves is that other folder.
///
/// # Errors
/// Those of `write`, after which nothing stays, those of [`check_new_folder`], and what the system refuses.
pub fn write_folder<T>(path: &Path, write: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let unwritable = |e: io::Error| refused(path, "made", &e);
    check_new_folder(path)?;
    let above = folder_of(path);
    let mut builder = tempfile::Builder::new();
    builder.prefix(".deepj.").suffix(".tmp");
    // As new folders are: the user's mask takes from it what others may not do.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    let beside = builder.tempdir_in(above).map_err(unwritable)?;
    let written = write(beside.path())?;
    let keep = || -> io::Result<()> {
        OpenFolder::of(beside.path())?.sync()?;
        let above = OpenFolder::of(above)?;
        // Not every system renames onto an empty folder.
        match fs::remove_dir(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => fs::rename(beside.path(), path)?,
        }
        above.sync()
    };
    keep().map_err(unwritable)?;
    // It is not there under this name any more.
    let _ = beside.keep();
    Ok(written)
}

/// Removes a file so that it does not come back after a power failure.
///
/// # Errors
/// What the system refuses.
pub fn remove(path: &Path) -> Result<()> {
    let folder = OpenFolder::of(folder_of(path));
    folder
        .and_then(|folder| fs::remove_file(path).and_then(|()| folder.sync()))
        .map_err(|e| refused(path, "removed", &e))
}

/// The content of the ordinary file at `path`, of at most so many bytes.
///
/// # Errors
/// What the system refuses, a pipe or a device (which could block for ever or never end), or a longer file; `remedy` is for the
/// last two.
pub fn read_bounded(path: &Path, most: u64, remedy: &str) -> Result<Vec<u8>> {
    read_from(open_ordinary(path, remedy)?, path, most, remedy)
}

/// The ordinary file at `path`, to be read.
///
/// # Errors
/// What the system refuses, a pipe or a device (which could block for ever or never end), for which `remedy` is.
pub(crate) fn open_ordinary(path: &Path, remedy: &str) -> Result<fs::File> {
    let unreadable = |e: io::Error| refused(path, "read", &e);
    // Opening a pipe would wait for who writes into it.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(Error::file(path, "is not an ordinary file", remedy));
    }
    fs::File::open(path).map_err(unreadable)
}

/// All of a stream that errors call `path`, of at most so many bytes.
///
/// # Errors
/// What the system refuses, or a longer one.
pub fn read_from(stream: impl Read, path: &Path, most: u64, remedy: &str) -> Result<Vec<u8>> {
    let mut bytes = vec![];
    stream.take(most + 1).read_to_end(&mut bytes).map_err(|e| refused(path, "read", &e))?;
    match bytes.len() as u64 > most {
        true => Err(Error::file(path, format!("has more than the {most} bytes that are read"), remedy)),
        false => Ok(bytes),
    }
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

/// What is wrong with a file of which [`is_lfs_pointer`] is true.
pub const LFS_POINTER: &str =
    "is a Git LFS pointer, a few lines of text in place of the file (`git lfs pull` fetches it)";
/// What to do about it.
pub const LFS_REMEDY: &str = "install Git LFS and run `git lfs pull` in the repository it is from";

/// Whether `bytes` are what Git leaves in the place of a file that Git LFS has not fetched.
pub fn is_lfs_pointer(bytes: &[u8]) -> bool {
    bytes.starts_with(b"version https://git-lfs.github.com/spec/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_made_and_replaced_and_nothing_stays_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for bytes in [&b"one"[..], b"", b"another"] {
            write_whole(&path, bytes).unwrap();
            assert_eq!(fs::read(&path).unwrap(), bytes);
            assert_eq!(names(folder.path()), ["file"]);
        }
    }

    #[test]
    fn what_cannot_be_replaced_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        for (path, remedy) in [
            (file.join("below"), "a part of the path is a file"),
            (folder.path().join("none/file"), "check the path"),
            (folder.path().into(), "check the folder"),
        ] {
            let error = write_whole(&path, b"bytes").unwrap_err();
            let what = format!("{}: cannot be written: ", path.display());
            assert!(error.what.starts_with(&what) && !error.what.contains("at path"), "{error}");
            assert!(error.remedy.contains(remedy), "{error}");
        }
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let hours = |hours: u64| std::time::SystemTime::now() - Duration::from_secs(3600 * hours);
        for (name, age) in
            [(".file.a.tmp", 2), (".file.b.tmp", 0), (".other.a.tmp", 2), (".file.a", 2), ("file.tmp", 2)]
        {
            fs::File::create(folder.path().join(name)).unwrap().set_modified(hours(age)).unwrap();
        }
        write_whole(&folder.path().join("file"), b"bytes").unwrap();
        assert_eq!(names(folder.path()), [".file.a", ".file.b.tmp", ".other.a.tmp", "file", "file.tmp"]);
    }

    /// Threads that write one file: any content it ever has is one of theirs as a whole.
    #[test]
    fn writers_at_the_same_time_do_not_mix() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let content = |i: u8| vec![i; 100_000];
        write_whole(&path, &content(0)).unwrap();
        std::thread::scope(|scope| {
            for i in 1..=4 {
                let path = &path;
                scope.spawn(move || (0..5).for_each(|_| write_whole(path, &content(i)).unwrap()));
            }
            for _ in 0..50 {
                let read = fs::read(&path).unwrap();
                assert!((0..=4).any(|i| read == content(i)), "{} bytes", read.len());
            }
        });
        assert_eq!(names(folder.path()), ["file"]);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_written_through() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("below")).unwrap();
        fs::write(at("below/file"), "old").unwrap();
        symlink("below/file", at("link")).unwrap();
        symlink("link", at("another")).unwrap();
        symlink("below/none", at("dangling")).unwrap();
        symlink("circle", at("circle")).unwrap();
        write_whole(&at("another"), b"new").unwrap();
        assert_eq!(fs::read(at("below/file")).unwrap(), b"new");
        write_whole(&at("dangling"), b"made").unwrap();
        assert_eq!(fs::read(at("below/none")).unwrap(), b"made");
        assert!(
            ["link", "another", "dangling"].iter().all(|name| fs::symlink_metadata(at(name)).unwrap().is_symlink())
        );
        assert_eq!(names(&at("below")), ["file", "none"]);
        let error = write_whole(&at("circle"), b"bytes").unwrap_err();
        assert!(error.what.contains("circle: cannot be written: too many symbolic links"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_written_to_and_stays_one() {
        use std::os::unix::fs::FileTypeExt;
        write_whole(Path::new("/dev/null"), b"bytes").unwrap();
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    }

    /// Where a process of its own writes: with this umask, with files of this many blocks at most.
    #[cfg(unix)]
    const PATH: &str = "DEEPJ_TEST_WRITE_WHOLE";

    /// Not a test of its own: what [`written_elsewhere`] runs.
    #[cfg(unix)]
    #[test]
    fn writes_if_asked() {
        let Ok(path) = std::env::var(PATH) else { return };
        let path = Path::new(&path);
        let error = write_whole(path, &[7; 100_000]).err().map(|e| e.to_string()).unwrap_or_default();
        println!("WROTE {}", error.replace('\n', " "));
    }

    /// Writes 100 000 bytes in a process of its own, after these commands of the shell; the error, empty if there is none.
    #[cfg(unix)]
    fn written_elsewhere(path: &Path, commands: &str) -> String {
        let output = std::process::Command::new("sh")
            .args(["-c", &format!("{commands}; exec \"$@\""), "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "files::tests::writes_if_asked", "--nocapture", "--test-threads", "1"])
            .env(PATH, path)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (_, after) = text.split_once("WROTE ").unwrap_or_else(|| panic!("{text}"));
        after.lines().next().unwrap().trim().into()
    }

    #[cfg(unix)]
    #[test]
    fn new_files_have_the_rights_that_the_user_gives_to_new_files() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for (umask, mode) in [("022", 0o644), ("077", 0o600), ("002", 0o664)] {
            assert_eq!(written_elsewhere(&path, &format!("umask {umask}")), "");
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode, "umask {umask}");
        }
    }

    #[test]
    fn a_folder_is_made_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made");
        let fails = |beside: &Path| {
            write_whole(&beside.join("one"), b"1")?;
            Err::<(), _>(Error::run("no more", ""))
        };
        assert_eq!(write_folder(&path, fails).unwrap_err().what, "no more");
        assert!(names(folder.path()).is_empty(), "nothing stays");
        let writes = |beside: &Path| {
            assert!(!path.join("one").exists());
            write_whole(&beside.join("one"), b"1").map(|()| 7)
        };
        fs::create_dir(&path).unwrap();
        assert_eq!(write_folder(&path, writes).unwrap(), 7, "in the place of an empty one");
        assert_eq!((names(folder.path()), names(&path)), (vec!["made".to_string()], vec!["one".to_string()]));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
            let usual = folder.path().join("usual");
            fs::create_dir(&usual).unwrap();
            assert_eq!(mode(&path), mode(&usual), "as others are");
            fs::remove_dir(usual).unwrap();
        }
        let error = write_folder(&path, |_| Ok(())).unwrap_err();
        assert!(error.what.ends_with("the folder is not empty"), "{error}");
        let error = write_folder(&path.join("one"), |_| Ok(())).unwrap_err();
        assert!(error.what.ends_with("is no folder"), "{error}");
        assert!(write_folder(&folder.path().join("none/made"), |_| Ok(())).is_err());
        assert_eq!(names(folder.path()), ["made"]);
    }

    /// A limit on the size of files fails as a full disk does: amid writing.
    #[cfg(unix)]
    #[test]
    fn a_full_disk_leaves_the_file_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_whole(&path, b"before").unwrap();
        let error = written_elsewhere(&path, "trap '' XFSZ; ulimit -f 16");
        assert!(error.contains("file: cannot be written: ") && error.contains("make room"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"before");
        assert_eq!(names(folder.path()), ["file"]);
        write_whole(&path, b"after").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"after");
    }
}
