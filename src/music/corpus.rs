//! A corpus: MIDI files in folders `<genre>/<composer>`, read into rolls.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;

use super::files::{File, LAYOUT, search};
use super::names::{composed, folded};
use super::piece::{FlatDynamics, Piece};
use super::range::NoteRange;
use super::reading::Reading;
use super::report::{CorpusReport, Counts, Skipped, Warning};
use super::styles::{Composer, Styles};
use crate::{Error, Result};

const STRICT: &str = "repair or remove it, or leave out --strict to go on with a warning";

/// How the files of a corpus are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CorpusOptions {
    /// The pitches of the rolls.
    pub range: NoteRange,
    /// Whether notes sound on until the sustain pedal is released.
    pub pedal: bool,
    /// What is made of the velocities of pieces that have no dynamics of their own.
    pub flat_dynamics: FlatDynamics,
    /// Whether a file or folder that cannot be used, or about which anything is odd, is an error; else it is skipped or read,
    /// and reported.
    pub strict: bool,
}

/// Pieces by genre and composer.
///
/// # Examples
///
/// ```
/// # fn main() -> deepj::Result<()> {
/// use deepj::music::{Corpus, CorpusOptions};
///
/// // `Corpus::read("midi", …)` reads a folder `midi/<genre>/<composer>/*.mid`.
/// let corpus = Corpus::from_files("the pieces within the program", deepj::data::FILES, &CorpusOptions::default())?;
/// assert_eq!(corpus.styles.genres(), ["baroque", "classical", "romantic"]);
/// let split = corpus.split(0);
/// assert_eq!(split.train.len() + split.validation.len() + split.test.len(), corpus.pieces.len());
/// # Ok(())
/// # }
/// ```
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
    /// The names of pieces that are equal to another one but for transposition, velocities and the rest before them.
    pub(super) equal: BTreeSet<String>,
}

impl Corpus {
    /// Reads the folder `dir`, laid out as `<genre>/<composer>/*.mid` (or `.midi`, in any case; `.rmi`, `.kar`, `.smf` and files
    /// without an ending if they begin as MIDI files do). Folders within a composer's are searched as well, hidden files and
    /// folders are left out, and links are followed, but no folder is searched twice for one composer. Folders that are no
    /// genre's or composer's are skipped and reported.
    ///
    /// # Errors
    /// The folder cannot be read, no folder within it is a composer's, a composer has no usable file, or, where `options` are
    /// strict, a file or folder cannot be used or is odd. All such are named at once.
    pub fn read(dir: impl AsRef<Path>, options: &CorpusOptions) -> Result<Self> {
        let dir = dir.as_ref();
        let (files, stray) = search(dir)?;
        Self::from_found(dir, files, stray, options)
    }

    /// Reads `files` given as name (`<genre>/<composer>/<file>`) and bytes, such as a corpus within the program.
    ///
    /// # Errors
    /// As [`Corpus::read`]; `place` stands for the folder in them.
    pub fn from_files(place: &str, files: &[(&str, &[u8])], options: &CorpusOptions) -> Result<Self> {
        let files = files.iter().map(|&(name, bytes)| File::in_memory(name, bytes)).collect::<Result<_>>()?;
        Self::from_found(Path::new(place), files, Vec::new(), options)
    }

    /// Reads the `files` found at `place`; others there were `skipped` already.
    fn from_found(
        place: &Path,
        mut files: Vec<File>,
        mut skipped: Vec<Skipped>,
        options: &CorpusOptions,
    ) -> Result<Self> {
        // Before, so that which of two spellings becomes the common one does not depend on the order of `files`.
        files.sort_by(|a, b| a.name.cmp(&b.name));
        let mut notes = one_form(&mut files);
        files.sort_by(|a, b| a.name.cmp(&b.name));
        let composers: BTreeSet<&Composer> = files.iter().map(|file| &file.composer).collect();
        if composers.is_empty() {
            return Err(Error::file(place, "holds no MIDI file", LAYOUT));
        }
        let wrong: Vec<Error> = composers.iter().filter_map(|composer| composer.check().err()).collect();
        if let [first, ..] = wrong.as_slice() {
            let all: Vec<&str> = wrong.iter().map(|e| e.what.as_str()).collect();
            return Err(Error::file(place, all.join("; "), first.remedy.clone()));
        }
        let styles =
            Styles::new(composers.into_iter().cloned().collect()).map_err(|e| Error::file(place, e.what, e.remedy))?;
        notes.extend(similar_names(&styles));

        let readings: Vec<Result<(Reading, u32)>> = files.par_iter().map(|file| read(file, place, options)).collect();

        let mut pieces = Vec::new();
        let mut counts = vec![Counts::default(); styles.len()];
        let mut last_error: BTreeMap<usize, String> = BTreeMap::new();
        let mut alike: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        let of_no_use = |Skipped { file, reason }: &Skipped| Error::file(place.join(file), reason, STRICT);
        let mut refused: Vec<Error> = skipped.iter().filter(|_| options.strict).map(of_no_use).collect();
        let mut warnings = Vec::new();
        let mut fingerprint = 0;
        for (file, reading) in files.into_iter().zip(readings) {
            let style = styles.index(&file.composer).unwrap_or_default();
            match reading {
                Ok((reading, checksum)) => {
                    if let Some(warning) = reading.warnings.first().filter(|_| options.strict) {
                        refused.push(Error::file(place.join(&file.name), warning, STRICT));
                    }
                    alike.entry(reading.likeness).or_default().push(file.name.clone());
                    let warning = |warning| Warning { file: file.name.clone(), warning };
                    warnings.extend(reading.warnings.iter().cloned().map(warning));
                    fingerprint = crc32c::crc32c_append(fingerprint, file.name.as_bytes());
                    fingerprint = crc32c::crc32c_append(fingerprint, &[0]);
                    fingerprint = crc32c::crc32c_append(fingerprint, &checksum.to_le_bytes());
                    let of_piece = Counts::of(&reading);
                    counts[style].add(&of_piece);
                    let dynamics = options.flat_dynamics == FlatDynamics::Learn || of_piece.flat_dynamics == 0;
                    let (roll, mean_bpm) = (reading.roll, reading.mean_bpm);
                    pieces.push(Arc::new(Piece { name: file.name, style, roll, dynamics, mean_bpm }));
                }
                Err(e) if options.strict => refused.push(e),
                Err(e) => {
                    let prefix = format!("{}: ", place.join(&file.name).display());
                    let reason = e.what.strip_prefix(&prefix).unwrap_or(&e.what).to_owned();
                    last_error.insert(style, format!("{}: {reason}", file.name));
                    skipped.push(Skipped { file: file.name, reason });
                }
            }
        }
        for (style, Composer { genre, name }) in styles.composers().iter().enumerate() {
            if counts[style].files == 0 && !options.strict {
                let reason = last_error.remove(&style).unwrap_or_default();
                refused.push(Error::file(
                    place.join(genre).join(name),
                    format!("has no usable MIDI file ({reason})"),
                    format!("repair or replace its files, or remove the folder; {LAYOUT}"),
                ));
            }
        }
        if let Some(error) = all_at_once(refused) {
            return Err(error);
        }
        alike.retain(|_, names| names.len() > 1);
        notes.extend(alike.values().map(|names| {
            format!("{} are one piece, but for key, velocities or a rest before it; it is not held out", listed(names))
        }));
        let equal = alike.into_values().flatten().collect();
        let report = CorpusReport::new(&styles, &counts, skipped, warnings, notes, fingerprint);
        Ok(Self { styles, range: options.range, pieces, report, equal })
    }

    /// A corpus of `pieces` that are not from MIDI files. `fingerprint` is to change with the name or content of any of them.
    ///
    /// # Errors
    /// There is no piece, two have one name, or they have different note ranges or a style that is none of `styles`.
    pub fn from_pieces(styles: Styles, mut pieces: Vec<Piece>, fingerprint: u32) -> Result<Self> {
        pieces.sort_by(|a, b| a.name.cmp(&b.name));
        let Some(range) = pieces.first().map(|piece| piece.roll.range()) else {
            return Err(Error::model("a corpus without a piece", "give at least one"));
        };
        if let Some(pair) = pieces.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(Error::model(format!("two pieces are named {}", pair[0].name), "give each a name of its own"));
        }
        let mut counts = vec![Counts::default(); styles.len()];
        for piece in &pieces {
            let Some(counts) = counts.get_mut(piece.style).filter(|_| piece.roll.range() == range) else {
                let what = format!("{} has another note range than the first piece, or an unknown style", piece.name);
                return Err(Error::model(what, "read the pieces with one range, and name their styles"));
            };
            counts.add(&Counts::of_roll(&piece.roll));
        }
        let report = CorpusReport::new(&styles, &counts, vec![], vec![], vec![], fingerprint);
        let pieces = pieces.into_iter().map(Arc::new).collect();
        Ok(Self { styles, range, pieces, report, equal: BTreeSet::new() })
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
                    "give a corpus whose <genre>/<composer> folders are among those the model was trained on",
                )
            })?;
            Arc::make_mut(piece).style = style;
        }
        self.styles = styles.clone();
        Ok(self)
    }
}

/// One error of several of one kind.
fn all_at_once(mut errors: Vec<Error>) -> Option<Error> {
    const MOST: usize = 20;
    let count = errors.len();
    let mut whats: Vec<String> = errors.iter().take(MOST).map(|e| e.what.clone()).collect();
    if count > MOST {
        whats.push(format!("and {} more", count - MOST));
    }
    let first = errors.drain(..).next()?;
    Some(Error { what: whats.join("\n"), ..first })
}

/// Gives names Unicode's composed form, so that a corpus is the same on every system, and says which composers it made one.
/// A name that another file has already in that form stays as it is.
fn one_form(files: &mut [File]) -> Vec<String> {
    let folders = |file: &File| file.name.splitn(3, '/').take(2).collect::<Vec<_>>().join("/");
    let mut spellings: BTreeMap<Composer, BTreeSet<String>> = BTreeMap::new();
    let mut taken: BTreeSet<String> = files.iter().map(|file| file.name.clone()).collect();
    for file in files {
        spellings.entry(file.composer.clone()).or_default().insert(folders(file));
        let name = composed(&file.name);
        if name != file.name && taken.insert(name.clone()) {
            file.name = name;
        }
    }
    let notes = spellings.into_iter().filter(|(_, spellings)| spellings.len() > 1);
    let note = |(Composer { genre, name }, spellings): (Composer, BTreeSet<String>)| {
        format!(
            "{} folders are named {genre}/{name}, in different Unicode forms; they are one composer",
            spellings.len()
        )
    };
    notes.map(note).collect()
}

/// Names of genres, and of composers, that differ in case or accents only.
fn similar_names(styles: &Styles) -> Vec<String> {
    let genres = styles.genres().into_iter().map(|genre| ("genres", genre));
    let composers = styles.composers().iter().map(|composer| ("composers", composer.name.as_str()));
    let mut similar: BTreeMap<(&str, String), BTreeSet<&str>> = BTreeMap::new();
    for (kind, name) in genres.chain(composers) {
        similar.entry((kind, folded(name))).or_default().insert(name);
    }
    let notes = similar.into_iter().filter(|(_, names)| names.len() > 1);
    let note = |((kind, _), names): ((&str, String), BTreeSet<&str>)| {
        let (count, names) = (names.len(), listed(&names.into_iter().collect::<Vec<_>>()));
        format!("{names} are {count} {kind}, though their names are alike; rename the folders if they are one")
    };
    notes.map(note).collect()
}

/// `a, b and c`; of many names the first only.
fn listed(names: &[impl AsRef<str>]) -> String {
    const MOST: usize = 5;
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    match names.split_last() {
        _ if names.len() > MOST => format!("{} and {} more", names[..MOST].join(", "), names.len() - MOST),
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => names.concat(),
    }
}

/// The roll and the CRC-32C of `file`; `place` is the folder of the corpus.
fn read(file: &File, place: &Path, options: &CorpusOptions) -> Result<(Reading, u32)> {
    let bytes = file.bytes()?;
    let reading = Reading::parse(place.join(&file.name), &bytes, options.range, options.pedal)?;
    Ok((reading, crc32c::crc32c(&bytes)))
}
