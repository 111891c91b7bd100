//! The MIDI files of a corpus, in a folder or in memory.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::midi::read_file;
use super::report::Skipped;
use super::styles::Composer;
use crate::{Error, Result};

/// The remedy for all that is wrong with a folder.
pub(super) const LAYOUT: &str =
    "lay the corpus out as <genre>/<composer>/*.mid, for example baroque/bach/invention_1.mid";

/// A MIDI file of a corpus.
pub(super) struct File<'a> {
    /// `<genre>/<composer>/<file>`, with `/` on every platform.
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
                composer: Composer { genre: genre.into(), name: composer.into() },
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

/// The MIDI files in the folder `dir`, laid out as `<genre>/<composer>/*.mid`, and those in no composer's folder.
///
/// # Errors
/// A folder that cannot be read or is not laid out so.
pub(super) fn search(dir: &Path) -> Result<(Vec<File<'static>>, Vec<Skipped>)> {
    let mut search = Search { dir, files: Vec::new(), stray: Vec::new() };
    search.genres()?;
    Ok((search.files, search.stray))
}

struct Search<'a> {
    dir: &'a Path,
    files: Vec<File<'static>>,
    stray: Vec<Skipped>,
}

/// The entries of a folder: folders and MIDI files, each ordered by name.
struct Entries {
    folders: Vec<(String, PathBuf)>,
    files: Vec<(String, PathBuf)>,
}

impl Entries {
    fn read(dir: &Path) -> Result<Self> {
        let unreadable = |e| Error::file(dir, format!("cannot be read: {e}"), "check the path and its rights");
        let mut entries = Self { folders: Vec::new(), files: Vec::new() };
        for entry in std::fs::read_dir(dir).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
            if name.starts_with('.') {
                continue;
            } else if path.is_dir() {
                entries.folders.push((name, path));
            } else if extension == "mid" || extension == "midi" {
                entries.files.push((name, path));
            }
        }
        entries.folders.sort();
        entries.files.sort();
        Ok(entries)
    }
}

/// `path` without links.
fn real(path: &Path) -> Result<PathBuf> {
    path.canonicalize().map_err(|e| Error::file(path, format!("cannot be read: {e}"), "check the path and its rights"))
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
        self.stray("", &top.files);
        for (genre, genre_path) in top.folders {
            let entries = Entries::read(&genre_path)?;
            if entries.folders.is_empty() {
                let what = match entries.files.len() {
                    0 => "is a genre without a composer's folder".into(),
                    files => format!("is a genre without a composer's folder, but with {files} MIDI files of its own"),
                };
                return Err(Error::file(genre_path, what, LAYOUT));
            }
            self.stray(&format!("{genre}/"), &entries.files);
            for (name, path) in entries.folders {
                let composer = Composer { genre: genre.clone(), name };
                let before = self.files.len();
                let prefix = format!("{}/{}/", composer.genre, composer.name);
                // A link from a composer up to here must not make others' pieces its own.
                let mut searched = [real(self.dir)?, real(&genre_path)?].into();
                self.composer(&composer, &prefix, &path, &mut searched)?;
                if self.files.len() == before {
                    return Err(Error::file(path, "is a composer without a MIDI file", LAYOUT));
                }
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
        self.files.extend(entries.files.into_iter().map(|(name, path)| File {
            name: format!("{prefix}{name}"),
            composer: composer.clone(),
            content: Content::Path(path),
        }));
        for (name, path) in entries.folders {
            self.composer(composer, &format!("{prefix}{name}/"), &path, searched)?;
        }
        Ok(())
    }

    fn stray(&mut self, prefix: &str, files: &[(String, PathBuf)]) {
        self.stray.extend(
            files.iter().map(|(name, _)| Skipped {
                file: format!("{prefix}{name}"),
                reason: "is in no composer's folder".into(),
            }),
        );
    }
}
