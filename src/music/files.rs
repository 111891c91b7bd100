//! The MIDI files of a corpus, in a folder or in memory.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::midi::{is_midi, read_file};
use super::names::composed;
use super::report::Skipped;
use super::styles::Composer;
use crate::files::{is_lfs_pointer, path_text, refused};
use crate::{Error, Result};

/// The remedy for all that is wrong with a folder.
pub(super) const LAYOUT: &str =
    "lay the corpus out as <genre>/<composer>/*.mid, for example baroque/bach/invention_1.mid";

/// A MIDI file of a corpus.
pub(super) struct File<'a> {
    /// `<genre>/<composer>/<file>`, with `/` on every platform, as the system has it.
    pub(super) name: String,
    pub(super) composer: Composer,
    content: Content<'a>,
}

enum Content<'a> {
    Path(PathBuf),
    Bytes(&'a [u8]),
}

impl<'a> File<'a> {
    /// A file in memory. The error is that of a name that is not `<genre>/<composer>/<file>`.
    pub(super) fn in_memory(name: &str, bytes: &'a [u8]) -> Result<Self> {
        let mut parts = name.splitn(3, '/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(genre), Some(composer), Some(_)) => Ok(Self {
                name: name.into(),
                composer: Composer { genre: composed(genre), name: composed(composer) },
                content: Content::Bytes(bytes),
            }),
            _ => Err(Error::file(name, "is in no composer's folder", LAYOUT)),
        }
    }

    pub(super) fn bytes(&self) -> Result<Cow<'a, [u8]>> {
        match &self.content {
            Content::Bytes(bytes) => Ok(Cow::Borrowed(bytes)),
            Content::Path(path) => read_file(path).map(Cow::Owned),
        }
    }
}

/// The MIDI files in the folder `dir`, laid out as `<genre>/<composer>/*.mid`, and what was left out of it.
///
/// # Errors
/// The folder cannot be read, or holds no composer's folder with a MIDI file.
pub(super) fn search(dir: &Path) -> Result<(Vec<File<'static>>, Vec<Skipped>)> {
    let mut search = Search { dir, files: Vec::new(), skipped: Vec::new() };
    search.genres()?;
    Ok((search.files, search.skipped))
}

/// A MIDI file in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MidiFile {
    /// Its path within the folder, with `/` on every platform.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
}

/// The MIDI files in the folder `dir` and in those within, however they are laid out, ordered by name, and what was left out.
/// Which files count as such is as for [`Corpus::read`](super::Corpus::read).
///
/// # Errors
/// The folder cannot be read, or holds no MIDI file.
pub fn midi_files(dir: impl AsRef<Path>) -> Result<(Vec<MidiFile>, Vec<Skipped>)> {
    let dir = dir.as_ref();
    let mut search = Search { dir, files: Vec::new(), skipped: Vec::new() };
    let nobody = Composer { genre: String::new(), name: String::new() };
    search.composer(&nobody, "", dir, &mut BTreeSet::new())?;
    let file = |File { name, content, .. }: File<'_>| match content {
        Content::Path(path) => Some(MidiFile { name: composed(&name), path }),
        Content::Bytes(_) => None,
    };
    let mut files: Vec<MidiFile> = search.files.into_iter().filter_map(file).collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    match (files.is_empty(), search.skipped.first()) {
        (false, _) => Ok((files, search.skipped)),
        (true, None) => Err(Error::file(dir, "holds no MIDI file", "name a folder with .mid files in it")),
        (true, Some(Skipped { file, reason })) => {
            let what = format!("holds no MIDI file ({file}: {reason})");
            Err(Error::file(dir, what, "name a folder with .mid files in it"))
        }
    }
}

struct Search<'a> {
    dir: &'a Path,
    files: Vec<File<'static>>,
    skipped: Vec<Skipped>,
}

/// The entries of a folder that matter, each ordered by name.
struct Entries {
    folders: Vec<(String, PathBuf)>,
    /// MIDI files.
    files: Vec<(String, PathBuf)>,
    /// Files that may have been meant as such, and what they are.
    others: Vec<(String, &'static str)>,
}

impl Entries {
    fn read(dir: &Path) -> Result<Self> {
        let unreadable = |e| refused(dir, "read", &e);
        let mut entries = Self { folders: Vec::new(), files: Vec::new(), others: Vec::new() };
        for entry in std::fs::read_dir(dir).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let name = path_text(path.file_name().unwrap_or_default());
            if name.starts_with('.') {
                continue;
            } else if path.is_dir() {
                entries.folders.push((name, path));
                continue;
            }
            match FileKind::of(&path) {
                FileKind::Midi => entries.files.push((name, path)),
                FileKind::Skipped(reason) => entries.others.push((name, reason)),
                FileKind::Other => {}
            }
        }
        entries.folders.sort();
        entries.files.sort();
        entries.others.sort();
        Ok(entries)
    }
}

/// What a file is to a corpus.
enum FileKind {
    Midi,
    /// Not to be read, and why; it may have been meant to be.
    Skipped(&'static str),
    /// Nobody would take it for a piece.
    Other,
}

impl FileKind {
    /// By the ending of its name, and where other files may have that too, by its content.
    fn of(path: &Path) -> Self {
        const ARCHIVES: [&str; 11] = ["zip", "tar", "gz", "tgz", "bz2", "xz", "zst", "7z", "rar", "lzh", "sit"];
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
        match ending.as_deref() {
            Some("mid" | "midi") => Self::Midi,
            None | Some("rmi" | "kar" | "smf") if starts_as_midi(path) => Self::Midi,
            None | Some("rmi" | "kar" | "smf") => Self::Skipped("is not a MIDI file (it does not begin with MThd)"),
            Some(ending) if ARCHIVES.contains(&ending) => {
                Self::Skipped("is an archive; unpack it if there are pieces in it")
            }
            Some(_) => Self::Other,
        }
    }
}

/// Whether the file at `path` begins as a MIDI file does, or as what Git LFS leaves in the place of one, which is an error
/// later. What is no ordinary file is not opened, since a pipe could block for ever.
fn starts_as_midi(path: &Path) -> bool {
    let mut start = Vec::new();
    let ordinary = path.metadata().is_ok_and(|metadata| metadata.is_file());
    let mut read = || std::fs::File::open(path)?.take(64).read_to_end(&mut start);
    ordinary && read().is_ok() && (is_midi(&start) || is_lfs_pointer(&start))
}

/// `path` without links.
fn real(path: &Path) -> Result<PathBuf> {
    path.canonicalize().map_err(|e| refused(path, "read", &e))
}

impl Search<'_> {
    fn genres(&mut self) -> Result<()> {
        let top = Entries::read(self.dir)?;
        if top.folders.is_empty() {
            let what = match top.files.len() {
                0 => "holds neither a genre's folder nor a MIDI file".into(),
                files => format!("has no genre's folder, but {files} MIDI files of its own"),
            };
            return Err(Error::file(self.dir, what, LAYOUT));
        }
        self.left_out("", &top);
        for (genre, path) in &top.folders {
            if let Err(e) = self.genre(genre, path) {
                self.skip(genre, path, &e);
            }
        }
        if !self.files.is_empty() {
            return Ok(());
        }
        let wrong: Vec<String> =
            self.skipped.iter().map(|Skipped { file, reason }| format!("{file}: {reason}")).collect();
        let what = format!("holds no composer's folder with a MIDI file ({})", wrong.join("; "));
        Err(Error::file(self.dir, what, LAYOUT))
    }

    /// Whatever is wrong with one folder is an error of it alone: archives and tools leave folders of their own.
    fn genre(&mut self, genre: &str, path: &Path) -> Result<()> {
        let entries = Entries::read(path)?;
        if entries.folders.is_empty() {
            let what = match entries.files.len() {
                0 => "is a genre without a composer's folder".into(),
                files => format!("is a genre without a composer's folder, but with {files} MIDI files of its own"),
            };
            return Err(Error::file(path, what, LAYOUT));
        }
        self.left_out(&format!("{genre}/"), &entries);
        for (name, folder) in &entries.folders {
            let place = format!("{genre}/{name}");
            let composer = Composer { genre: composed(genre), name: composed(name) };
            let before = self.files.len();
            // A link from a composer up to here must not make others' pieces its own.
            let mut searched = [real(self.dir)?, real(path)?].into();
            if let Err(e) = self.composer(&composer, &format!("{place}/"), folder, &mut searched) {
                self.skip(&place, folder, &e);
            } else if self.files.len() == before {
                self.skip(&place, folder, &Error::file(folder, "is a composer without a MIDI file", LAYOUT));
            }
        }
        Ok(())
    }

    fn composer(
        &mut self,
        composer: &Composer,
        prefix: &str,
        path: &Path,
        searched: &mut BTreeSet<PathBuf>,
    ) -> Result<()> {
        if !searched.insert(real(path)?) {
            return Ok(()); // a link back
        }
        let entries = Entries::read(path)?;
        self.skip_others(prefix, &entries);
        self.files.extend(entries.files.into_iter().map(|(name, path)| File {
            name: format!("{prefix}{name}"),
            composer: composer.clone(),
            content: Content::Path(path),
        }));
        for (name, path) in entries.folders {
            if let Err(e) = self.composer(composer, &format!("{prefix}{name}/"), &path, searched) {
                self.skip(&format!("{prefix}{name}"), &path, &e);
            }
        }
        Ok(())
    }

    /// Takes note of the files of a folder that is no composer's.
    fn left_out(&mut self, prefix: &str, entries: &Entries) {
        let reason = "is in no composer's folder";
        self.skipped.extend(entries.files.iter().map(|(name, _)| Skipped::new(format!("{prefix}{name}"), reason)));
        self.skip_others(prefix, entries);
    }

    fn skip_others(&mut self, prefix: &str, entries: &Entries) {
        self.skipped
            .extend(entries.others.iter().map(|(name, reason)| Skipped::new(format!("{prefix}{name}"), *reason)));
    }

    /// Takes note of the folder `name` at `path`, which is of no use because of `e`.
    fn skip(&mut self, name: &str, path: &Path, e: &Error) {
        let prefix = format!("{}: ", path.display());
        self.skipped.push(Skipped::new(name, e.what.strip_prefix(&prefix).unwrap_or(&e.what)));
    }
}
