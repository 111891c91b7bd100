//! A corpus: MIDI files in folders `<genre>/<composer>`, read into rolls, reported on and split by piece.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::midi::read_file;
use super::roll::{NoteRange, Reading, Roll};
use super::shuffle::SplitMix64;
use super::styles::{Composer, Styles};
use crate::{Error, Result};

const LAYOUT: &str = "Lay the corpus out as <genre>/<composer>/*.mid, for example baroque/bach/invention_1.mid.";

/// How the files of a corpus are read.
#[derive(Clone, Copy, Debug, Default)]
pub struct CorpusOptions {
    /// The pitches of the rolls.
    pub range: NoteRange,
    /// Whether notes sound on until the sustain pedal is released.
    pub pedal: bool,
    /// Whether a file that cannot be used is an error; else it is skipped and reported.
    pub strict: bool,
}

/// One piece of a corpus.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// `<genre>/<composer>/<file>` with `/` on every platform; distinct within the corpus.
    pub name: String,
    /// Its composer's slot in the corpus's [`Styles`].
    pub style: usize,
    /// At least one step.
    pub roll: Roll,
    /// Quarter notes a minute on the average.
    pub mean_bpm: f64,
}

/// Pieces by genre and composer.
#[derive(Clone, Debug)]
pub struct Corpus {
    /// The composers, ordered by genre and name; each has a piece.
    pub styles: Styles,
    /// The pitches of the rolls.
    pub range: NoteRange,
    /// Ordered by name; never empty.
    pub pieces: Vec<Arc<Piece>>,
    /// What was read and what was not.
    pub report: CorpusReport,
}

/// A MIDI file of a corpus.
struct Source<'a> {
    name: String,
    composer: Composer,
    content: Content<'a>,
}

enum Content<'a> {
    File(PathBuf),
    Bytes(&'a [u8]),
}

impl Corpus {
    /// Reads the folder `dir`, laid out as `<genre>/<composer>/*.mid` (or `.midi`, in any case). Folders within a
    /// composer's are searched as well, hidden files and folders are left out, and links are followed, but no folder
    /// is searched twice for one composer.
    ///
    /// # Errors
    /// The folder or one within it cannot be read, it is not laid out so, a genre or composer has no usable file, or,
    /// where `options` are strict, one file cannot be used.
    pub fn read(dir: impl AsRef<Path>, options: &CorpusOptions) -> Result<Self> {
        let dir = dir.as_ref();
        let mut scan = Scan { dir, sources: Vec::new(), stray: Vec::new() };
        scan.genres()?;
        Self::from_sources(dir, scan.sources, scan.stray, options)
    }

    /// Reads `files` given as name (`<genre>/<composer>/<file>`) and bytes, such as a corpus within the program.
    ///
    /// # Errors
    /// As [`Corpus::read`]; `place` stands for the folder in them.
    pub fn from_files(place: &str, files: &[(&str, &[u8])], options: &CorpusOptions) -> Result<Self> {
        let sources = files.iter().map(|&(name, bytes)| {
            let mut parts = name.splitn(3, '/');
            match (parts.next(), parts.next(), parts.next()) {
                (Some(genre), Some(composer), Some(_)) => Ok(Source {
                    name: name.into(),
                    composer: Composer { genre: genre.into(), name: composer.into() },
                    content: Content::Bytes(bytes),
                }),
                _ => Err(Error::file(name, "is in no composer's folder", LAYOUT)),
            }
        });
        Self::from_sources(Path::new(place), sources.collect::<Result<_>>()?, Vec::new(), options)
    }

    fn from_sources(
        place: &Path,
        mut sources: Vec<Source>,
        mut skipped: Vec<Skipped>,
        options: &CorpusOptions,
    ) -> Result<Self> {
        sources.sort_by(|a, b| a.name.cmp(&b.name));
        let composers: BTreeSet<&Composer> = sources.iter().map(|source| &source.composer).collect();
        if composers.is_empty() {
            return Err(Error::file(place, "holds no MIDI file", LAYOUT));
        }
        let styles =
            Styles::new(composers.into_iter().cloned().collect()).map_err(|e| Error::file(place, e.what, e.remedy))?;

        let readings: Vec<Result<(Reading, u32)>> =
            sources.par_iter().map(|source| source.read(place, options)).collect();

        let mut pieces = Vec::new();
        let mut counts = vec![Counts::default(); styles.len()];
        let mut last_error: BTreeMap<usize, String> = BTreeMap::new();
        let mut fingerprint = 0;
        for (source, reading) in sources.into_iter().zip(readings) {
            let style = styles.index(&source.composer).unwrap_or_default();
            match reading {
                Ok((reading, checksum)) => {
                    fingerprint = crc32c::crc32c_append(fingerprint, source.name.as_bytes());
                    fingerprint = crc32c::crc32c_append(fingerprint, &[0]);
                    fingerprint = crc32c::crc32c_append(fingerprint, &checksum.to_le_bytes());
                    counts[style].add(&Counts::of(&reading));
                    let (roll, mean_bpm) = (reading.roll, reading.mean_bpm);
                    pieces.push(Arc::new(Piece { name: source.name, style, roll, mean_bpm }));
                }
                Err(e) if options.strict => return Err(e),
                Err(e) => {
                    let prefix = format!("{}: ", place.join(&source.name).display());
                    let reason = e.what.strip_prefix(&prefix).unwrap_or(&e.what).to_owned();
                    last_error.insert(style, format!("{}: {reason}", source.name));
                    skipped.push(Skipped { file: source.name, reason });
                }
            }
        }
        if let Some(empty) = counts.iter().position(|counts| counts.files == 0) {
            let Composer { genre, name } = &styles.composers()[empty];
            let reason = last_error.remove(&empty).unwrap_or_default();
            return Err(Error::file(
                place.join(genre).join(name),
                format!("has no usable MIDI file ({reason})"),
                format!("Repair or replace its files, or remove the folder. {LAYOUT}"),
            ));
        }
        let report = CorpusReport::new(&styles, &counts, skipped, fingerprint);
        Ok(Self { styles, range: options.range, pieces, report })
    }

    /// A number that changes with the name or content of any piece: CRC-32C.
    pub fn fingerprint(&self) -> u32 {
        self.report.fingerprint
    }

    /// Numbers the pieces' styles by `styles`, those of a checkpoint, instead of the corpus's own.
    ///
    /// # Errors
    /// A composer of the corpus is unknown to `styles`.
    pub fn with_styles(mut self, styles: &Styles) -> Result<Self> {
        for piece in &mut self.pieces {
            let composer = &self.styles.composers()[piece.style];
            let style = styles.index(composer).ok_or_else(|| {
                Error::usage(
                    format!(
                        "{}: the model does not know the composer {}/{}",
                        piece.name, composer.genre, composer.name
                    ),
                    "Take a corpus whose <genre>/<composer> folders are among those the model was trained on.",
                )
            })?;
            Arc::make_mut(piece).style = style;
        }
        self.styles = styles.clone();
        Ok(self)
    }

    /// Splits the pieces into training, validation and test, composer by composer.
    ///
    /// Of n pieces of a composer, n/10 rounded go to the test and as many to the validation, but at least one to the
    /// validation where n is 3 or more; of one or two pieces none, unless no composer has 3: then each that has two
    /// gives one to the validation. Which ones depends on `seed` and on the composer's own pieces only.
    pub fn split(&self, seed: u64) -> Split {
        let mut split = Split { seed, train: Vec::new(), validation: Vec::new(), test: Vec::new() };
        let count = |style| self.pieces.iter().filter(|piece| piece.style == style).count();
        let scarce = (0..self.styles.len()).all(|style| count(style) < 3);
        for (style, Composer { genre, name }) in self.styles.composers().iter().enumerate() {
            let pieces = self.pieces.iter().filter(|piece| piece.style == style);
            let mut names: Vec<String> = pieces.map(|piece| piece.name.clone()).collect();
            let stream = u64::from(crc32c::crc32c(format!("{genre}/{name}").as_bytes()));
            SplitMix64::new(seed, stream).shuffle(&mut names);
            let tenth = (names.len() + 5) / 10;
            let validation = if names.len() >= 3 || scarce && names.len() == 2 { tenth.max(1) } else { 0 };
            split.validation.extend(names.drain(..validation));
            split.test.extend(names.drain(..tenth.min(names.len().saturating_sub(1))));
            split.train.extend(names);
        }
        for part in [&mut split.train, &mut split.validation, &mut split.test] {
            part.sort();
        }
        split
    }

    /// The pieces of one part of `split`, in the order of their names.
    ///
    /// # Errors
    /// A piece of it is not in this corpus.
    pub fn part(&self, split: &Split, part: Part) -> Result<Vec<Arc<Piece>>> {
        let names = match part {
            Part::Train => &split.train,
            Part::Validation => &split.validation,
            Part::Test => &split.test,
            Part::All => return Ok(self.pieces.clone()),
        };
        let piece = |name: &String| match self.pieces.binary_search_by(|piece| piece.name.cmp(name)) {
            Ok(i) => Ok(self.pieces[i].clone()),
            Err(_) => Err(Error::usage(
                format!("{name} of the {part} split is not in this corpus"),
                "Give the corpus that the split was made from, or take all pieces.",
            )),
        };
        names.iter().map(piece).collect()
    }
}

impl Source<'_> {
    /// The roll and the CRC-32C of the file.
    fn read(&self, place: &Path, options: &CorpusOptions) -> Result<(Reading, u32)> {
        let path = place.join(&self.name);
        let owned;
        let bytes = match &self.content {
            Content::Bytes(bytes) => bytes,
            Content::File(file) => {
                owned = read_file(file)?;
                owned.as_slice()
            }
        };
        Ok((Reading::parse(path, bytes, options.range, options.pedal)?, crc32c::crc32c(bytes)))
    }
}

/// A walk through a corpus's folder.
struct Scan<'a> {
    dir: &'a Path,
    sources: Vec<Source<'a>>,
    stray: Vec<Skipped>,
}

/// The entries of a folder: folders and MIDI files, each ordered by name.
struct Entries {
    folders: Vec<(String, PathBuf)>,
    files: Vec<(String, PathBuf)>,
}

impl Entries {
    fn read(dir: &Path) -> Result<Self> {
        let unreadable = |e| Error::file(dir, format!("cannot be read: {e}"), "Check the path and its rights.");
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
    path.canonicalize().map_err(|e| Error::file(path, format!("cannot be read: {e}"), "Check the path and its rights."))
}

impl Scan<'_> {
    fn genres(&mut self) -> Result<()> {
        let top = Entries::read(self.dir)?;
        if top.folders.is_empty() {
            let what = match top.files.len() {
                0 => "is empty: no genre's folder, no MIDI file".into(),
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
                let before = self.sources.len();
                let prefix = format!("{}/{}/", composer.genre, composer.name);
                // A link from a composer up to here must not make others' pieces its own.
                let mut searched = [real(self.dir)?, real(&genre_path)?].into();
                self.composer(&composer, &prefix, &path, &mut searched)?;
                if self.sources.len() == before {
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
        self.sources.extend(entries.files.into_iter().map(|(name, path)| Source {
            name: format!("{prefix}{name}"),
            composer: composer.clone(),
            content: Content::File(path),
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

/// Which pieces go to training, to validation and to the test, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// The seed it was made with.
    pub seed: u64,
    /// Names of training pieces, ordered.
    pub train: Vec<String>,
    /// Names of validation pieces, ordered; empty only where no composer has two pieces.
    pub validation: Vec<String>,
    /// Names of test pieces, ordered.
    pub test: Vec<String>,
}

/// A part of a [`Split`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The training pieces.
    Train,
    /// The validation pieces.
    Validation,
    /// The test pieces.
    Test,
    /// Every piece of the corpus.
    All,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
            Self::All => "all",
        })
    }
}

impl std::str::FromStr for Part {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Train, Self::Validation, Self::Test, Self::All]
            .into_iter()
            .find(|part| part.to_string() == text)
            .ok_or_else(|| Error::usage(format!("'{text}' is no split"), "Give train, validation, test or all."))
    }
}

/// A file that was not read, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Its name within the corpus.
    pub file: String,
    /// What is wrong with it.
    pub reason: String,
}

/// What a set of files holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Files read.
    pub files: usize,
    /// Notes read within the range.
    pub notes: usize,
    /// Distinct pairs of step and pitch on which a note begins.
    pub onsets: usize,
    /// Steps, four a quarter note.
    pub steps: usize,
    /// Notes dropped because they are outside the range.
    pub out_of_range: usize,
    /// Notes dropped because they are on the drum channel.
    pub drums: usize,
}

impl Counts {
    fn of(reading: &Reading) -> Self {
        Self {
            files: 1,
            notes: reading.notes,
            onsets: reading.roll.notes().len(),
            steps: reading.roll.steps(),
            out_of_range: reading.out_of_range,
            drums: reading.drums,
        }
    }

    fn add(&mut self, other: &Self) {
        self.files += other.files;
        self.notes += other.notes;
        self.onsets += other.onsets;
        self.steps += other.steps;
        self.out_of_range += other.out_of_range;
        self.drums += other.drums;
    }
}

/// The files of one composer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ComposerReport {
    /// Name of the folder.
    pub composer: String,
    /// What it holds.
    #[serde(flatten)]
    pub counts: Counts,
}

/// The files of one genre.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GenreReport {
    /// Name of the folder.
    pub genre: String,
    /// What it holds.
    #[serde(flatten)]
    pub counts: Counts,
    /// By composer.
    pub composers: Vec<ComposerReport>,
}

/// What a corpus holds and what was left out. `Display` draws it as a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CorpusReport {
    /// Totals.
    #[serde(flatten)]
    pub counts: Counts,
    /// See [`Corpus::fingerprint`].
    pub fingerprint: u32,
    /// By genre.
    pub genres: Vec<GenreReport>,
    /// Files that were not read.
    pub skipped: Vec<Skipped>,
}

impl CorpusReport {
    fn new(styles: &Styles, counts: &[Counts], skipped: Vec<Skipped>, fingerprint: u32) -> Self {
        let mut report = Self { counts: Counts::default(), fingerprint, genres: Vec::new(), skipped };
        for (composer, counts) in styles.composers().iter().zip(counts) {
            report.counts.add(counts);
            if report.genres.last().is_none_or(|genre| genre.genre != composer.genre) {
                let genre = composer.genre.clone();
                report.genres.push(GenreReport { genre, counts: Counts::default(), composers: Vec::new() });
            }
            if let Some(genre) = report.genres.last_mut() {
                genre.counts.add(counts);
                genre.composers.push(ComposerReport { composer: composer.name.clone(), counts: counts.clone() });
            }
        }
        report
    }
}

impl fmt::Display for CorpusReport {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let row = |f: &mut fmt::Formatter, name: &str, c: &Counts| {
            writeln!(f, "{name:24} {:>7} {:>9} {:>9} {:>9} {:>12}", c.files, c.notes, c.onsets, c.steps, c.out_of_range)
        };
        writeln!(f, "{:24} {:>7} {:>9} {:>9} {:>9} {:>12}", "", "files", "notes", "onsets", "steps", "out of range")?;
        for genre in &self.genres {
            row(f, &genre.genre, &genre.counts)?;
            for composer in &genre.composers {
                row(f, &format!("  {}", composer.composer), &composer.counts)?;
            }
        }
        row(f, "total", &self.counts)?;
        for Skipped { file, reason } in &self.skipped {
            writeln!(f, "skipped {file}: {reason}")?;
        }
        Ok(())
    }
}
