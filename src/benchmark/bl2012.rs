//! The four sets of Boulanger-Lewandowski, Bengio and Vincent (ICML 2012): piano rolls of 88 keys without onsets or loudness,
//! transposed to C, a time step an eighth note (JSB Chorales: a quarter).
//!
//! A set is a file of JSON, `{"train": P, "valid": P, "test": P}` with `P = [piece [step [MIDI pitch]]]`.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::error::Category;

use super::{Likelihood, one_gram, published::ONE_GRAM};
use crate::error::nearest;
use crate::files::read_bounded;
use crate::music::{Composer, Corpus, NoteRange, Part, Piece, Roll, Split, Styles};
use crate::shape::{Channel, Channels};
use crate::{Error, Result};

/// The lowest and the highest of the 88 keys, as MIDI pitches.
const KEYS: (u8, u8) = (21, 108);
/// The largest file that is read, in bytes; that of MuseData has 5 million.
const MAX_BYTES: u64 = 16 << 20;
/// Quarter notes a minute that pieces without a tempo are said to have.
const TEMPO: f64 = 120.0;
/// How far the 1-gram may be from its published value, which has two decimals.
const ROUNDING: f64 = 0.005_000_1;

/// One of the four sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Set {
    /// Chorales by J. S. Bach.
    Jsb,
    /// Classical piano music of piano-midi.de.
    PianoMidi,
    /// Folk tunes with chords.
    Nottingham,
    /// Orchestral and piano music of MuseData.
    #[serde(rename = "musedata")]
    MuseData,
}

impl Set {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Jsb, Self::PianoMidi, Self::Nottingham, Self::MuseData];

    /// Its name in arguments.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Jsb => "jsb",
            Self::PianoMidi => "piano-midi",
            Self::Nottingham => "nottingham",
            Self::MuseData => "musedata",
        }
    }

    /// Its file.
    pub const fn file(self) -> &'static str {
        match self {
            Self::Jsb => "JSB_Chorales.json",
            Self::PianoMidi => "Piano_midi.json",
            Self::Nottingham => "Nottingham.json",
            Self::MuseData => "MuseData.json",
        }
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Set {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|set| set.name() == text).ok_or_else(|| {
            let names = Self::ALL.iter().map(|set| set.name()).collect();
            Error::usage(format!("there is no set `{text}`"), nearest(text, names))
        })
    }
}

/// A set that was read.
#[derive(Clone, Debug)]
pub struct Data {
    /// Which one.
    pub set: Set,
    /// Its file.
    pub path: PathBuf,
    /// All pieces, of one composer `bl2012/SET`, over the 88 keys: cells play or do not; no note is struck again, and all have one
    /// velocity, so that nothing but `play` says anything.
    pub corpus: Corpus,
    /// The parts as the file has them, none of which is empty.
    pub split: Split,
}

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parts {
    train: Vec<Steps>,
    valid: Vec<Steps>,
    test: Vec<Steps>,
}

/// By time step: the pitches that sound.
type Steps = Vec<Vec<i64>>;

const FORM: &str = "give a file {\"train\": P, \"valid\": P, \"test\": P} with P = [piece [step [MIDI pitch 21 to 108]]]; \
                    docs/BENCHMARKS.md says where the data are from";

impl Data {
    /// Reads a set in the folder `dir`.
    ///
    /// # Errors
    /// The file is missing, cannot be read or is too large, is cut off or no such JSON (the error names the byte), holds a pitch
    /// that is none of the 88 keys or a piece without a time step (it names piece and step), or has an empty part.
    pub fn read(dir: &Path, set: Set) -> Result<Self> {
        let path = dir.join(set.file());
        let bytes = read_file(&path)?;
        let parts: Parts = serde_json::from_slice(&bytes).map_err(|e| unreadable(&path, &bytes, &e))?;
        let (low, high) = KEYS;
        let range = NoteRange::new(low, high)?;
        let mut pieces = vec![];
        let mut part = |name: &str, of: Vec<Steps>| {
            if of.is_empty() {
                return Err(Error::file(&path, format!("`{name}` has no piece"), FORM));
            }
            let mut names = vec![];
            for (i, steps) in of.into_iter().enumerate() {
                let place = |what: String| Error::file(&path, format!("`{name}`, piece {}{what}", i + 1), FORM);
                let roll = roll(range, &steps).map_err(place)?;
                let name = format!("bl2012/{set}/{name}-{:05}", i + 1);
                names.push(name.clone());
                pieces.push(Piece { name, style: 0, roll, mean_bpm: TEMPO });
            }
            names.sort();
            Ok(names)
        };
        let (train, validation, test) =
            (part("train", parts.train)?, part("valid", parts.valid)?, part("test", parts.test)?);
        let styles = Styles::new(vec![Composer { genre: "bl2012".into(), name: set.name().into() }])?;
        let corpus = Corpus::from_pieces(styles, pieces, crc32c::crc32c(&bytes))?;
        Ok(Self { set, path, corpus, split: Split { seed: 0, train, validation, test } })
    }

    /// The pieces of a part.
    ///
    /// # Errors
    /// None where corpus and split are as they were read.
    pub fn part(&self, part: Part) -> Result<Vec<Arc<Piece>>> {
        self.corpus.part(&self.split, part)
    }

    /// The note 1-gram of the training pieces on the test pieces, and whether it is the published one, to the decimals that are
    /// printed: so these are the data, and this is the average, of the published figures.
    ///
    /// # Errors
    /// As [`Data::part`].
    pub fn one_gram(&self) -> Result<(Likelihood, bool)> {
        let likelihood = one_gram(&self.part(Part::Train)?, &self.part(Part::Test)?)?;
        Ok((likelihood, (likelihood.pooled - ONE_GRAM.on(self.set)).abs() <= ROUNDING))
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    if std::fs::metadata(path).is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
        let files: Vec<&str> = Set::ALL.iter().map(|set| set.file()).collect();
        let remedy = format!("name the folder that holds {} by --data", files.join(", "));
        return Err(Error::file(path, "is not there", remedy));
    }
    read_bounded(path, MAX_BYTES, "name the folder of the sets by --data")
}

/// What is wrong with JSON, and at which byte of the file.
fn unreadable(path: &Path, bytes: &[u8], e: &serde_json::Error) -> Error {
    if e.classify() == Category::Eof {
        return Error::file(
            path,
            format!("is cut off: it ends after {} bytes", bytes.len()),
            "copy it again from its source",
        );
    }
    let before: usize =
        bytes.split_inclusive(|byte| *byte == b'\n').take(e.line().saturating_sub(1)).map(<[u8]>::len).sum();
    let what = e.to_string();
    let what = what.split(" at line ").next().unwrap_or(&what);
    Error::file(path, format!("byte {}: {what}", before + e.column()), FORM)
}

/// A roll over `range` on which these pitches sound, or what is wrong and at which step, as it follows the number of the piece.
fn roll(range: NoteRange, steps: &Steps) -> std::result::Result<Roll, String> {
    if steps.is_empty() {
        return Err(" has no time step".into());
    }
    let mut values = vec![0.0; steps.len() * range.len()];
    for ((t, pitches), row) in steps.iter().enumerate().zip(values.chunks_exact_mut(range.len())) {
        for &pitch in pitches {
            let key = u8::try_from(pitch).ok().and_then(|pitch| range.index(pitch));
            let key =
                key.ok_or_else(|| format!(", step {}: the pitch {pitch} is none of the 88 keys, {range}", t + 1))?;
            row[key] = 1.0;
        }
    }
    let play = Channels::new(&[Channel::Play]).map_err(|e| format!(": {}", e.what))?;
    Roll::from_values(range, play, &values).map_err(|e| format!(": {}", e.what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_have_names_and_files_of_their_own() {
        for set in Set::ALL {
            assert_eq!(set.name().parse::<Set>().unwrap(), set);
            assert_eq!(serde_json::to_value(set).unwrap(), set.name());
        }
        let e = "JSB".parse::<Set>().unwrap_err().to_string();
        assert!(e.contains("did you mean `jsb`?") && e.contains("musedata, nottingham, piano-midi"), "{e}");
    }

    #[test]
    fn a_note_that_is_held_is_not_struck_again() {
        let range = NoteRange::new(21, 108).unwrap();
        let roll = roll(range, &vec![vec![60, 64], vec![60], vec![], vec![60]]).unwrap();
        let mut values = vec![0.0; range.len() * 3];
        let mut sounding = vec![];
        for t in 0..4 {
            roll.write_values(Channels::PERFORMANCE, t, &mut values);
            assert!(values.chunks_exact(3).all(|value| value[1] == 0.0), "step {t}");
            sounding.push((0..range.len()).filter(|n| values[3 * n] == 1.0).map(|n| n + 21).collect::<Vec<_>>());
        }
        assert_eq!(sounding, [vec![60, 64], vec![60], vec![], vec![60]]);
    }
}
