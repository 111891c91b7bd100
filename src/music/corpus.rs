//! A corpus: MIDI files in folders `<genre>/<composer>`, read into rolls.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;

use super::files::{File, LAYOUT, search};
use super::piece::Piece;
use super::range::NoteRange;
use super::reading::Reading;
use super::report::{CorpusReport, Counts, Skipped, Warning};
use super::styles::{Composer, Styles};
use crate::{Error, Result};

const STRICT: &str = "repair or remove the file, or leave out --strict to read it with a warning";

/// How the files of a corpus are read.
#[derive(Clone, Copy, Debug, Default)]
pub struct CorpusOptions {
    /// The pitches of the rolls.
    pub range: NoteRange,
    /// Whether notes sound on until the sustain pedal is released.
    pub pedal: bool,
    /// Whether a file that cannot be used, or about which anything is odd, is an error; else it is skipped or read, and
    /// reported.
    pub strict: bool,
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
        files.sort_by(|a, b| a.name.cmp(&b.name));
        let composers: BTreeSet<&Composer> = files.iter().map(|file| &file.composer).collect();
        if composers.is_empty() {
            return Err(Error::file(place, "holds no MIDI file", LAYOUT));
        }
        let styles =
            Styles::new(composers.into_iter().cloned().collect()).map_err(|e| Error::file(place, e.what, e.remedy))?;

        let readings: Vec<Result<(Reading, u32)>> = files.par_iter().map(|file| read(file, place, options)).collect();

        let mut pieces = Vec::new();
        let mut counts = vec![Counts::default(); styles.len()];
        let mut last_error: BTreeMap<usize, String> = BTreeMap::new();
        let mut warnings = Vec::new();
        let mut fingerprint = 0;
        for (file, reading) in files.into_iter().zip(readings) {
            let style = styles.index(&file.composer).unwrap_or_default();
            match reading {
                Ok((reading, checksum)) => {
                    if let Some(warning) = reading.warnings.first().filter(|_| options.strict) {
                        return Err(Error::file(place.join(&file.name), warning, STRICT));
                    }
                    let warning = |warning| Warning { file: file.name.clone(), warning };
                    warnings.extend(reading.warnings.iter().cloned().map(warning));
                    fingerprint = crc32c::crc32c_append(fingerprint, file.name.as_bytes());
                    fingerprint = crc32c::crc32c_append(fingerprint, &[0]);
                    fingerprint = crc32c::crc32c_append(fingerprint, &checksum.to_le_bytes());
                    counts[style].add(&Counts::of(&reading));
                    let (roll, mean_bpm) = (reading.roll, reading.mean_bpm);
                    pieces.push(Arc::new(Piece { name: file.name, style, roll, mean_bpm }));
                }
                Err(e) if options.strict => return Err(e),
                Err(e) => {
                    let prefix = format!("{}: ", place.join(&file.name).display());
                    let reason = e.what.strip_prefix(&prefix).unwrap_or(&e.what).to_owned();
                    last_error.insert(style, format!("{}: {reason}", file.name));
                    skipped.push(Skipped { file: file.name, reason });
                }
            }
        }
        if let Some(empty) = counts.iter().position(|counts| counts.files == 0) {
            let Composer { genre, name } = &styles.composers()[empty];
            let reason = last_error.remove(&empty).unwrap_or_default();
            return Err(Error::file(
                place.join(genre).join(name),
                format!("has no usable MIDI file ({reason})"),
                format!("repair or replace its files, or remove the folder; {LAYOUT}"),
            ));
        }
        let report = CorpusReport::new(&styles, &counts, skipped, warnings, fingerprint);
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
                    "give a corpus whose <genre>/<composer> folders are among those the model was trained on",
                )
            })?;
            Arc::make_mut(piece).style = style;
        }
        self.styles = styles.clone();
        Ok(self)
    }
}

/// The roll and the CRC-32C of `file`; `place` is the folder of the corpus.
fn read(file: &File, place: &Path, options: &CorpusOptions) -> Result<(Reading, u32)> {
    let bytes = file.bytes()?;
    let reading = Reading::parse(place.join(&file.name), &bytes, options.range, options.pedal)?;
    Ok((reading, crc32c::crc32c(&bytes)))
}
