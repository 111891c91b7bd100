//! The four sets of Boulanger-Lewandowski, Bengio and Vincent (ICML 2012): piano rolls of 88 keys without onsets or loudness,
//! transposed to C, a time step an eighth note (JSB Chorales: a quarter).
//!
//! A set is a file of JSON, `{"train": P, "valid": P, "test": P}` with `P = [piece [step [MIDI pitch]]]`.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};
use serde_json::error::Category;

use super::{Likelihood, play_loss, published::ONE_GRAM};
use crate::checkpoint::Checkpoint;
use crate::error::nearest;
use crate::evaluate::{Metrics, evaluate_each};
use crate::files::read_bounded;
use crate::gpu::Device;
use crate::graph::session::KernelSelection;
use crate::music::{Composer, Corpus, NoteRange, Part, Piece, Roll, Split, Styles, unigram_of_each};
use crate::shape::{Channel, Channels};
use crate::{Error, Result};

/// The lowest and the highest of the 88 keys, as MIDI pitches.
const LOWEST: u8 = 21;
const HIGHEST: u8 = 108;
/// The keys over which a likelihood is summed.
pub const KEYS: usize = (HIGHEST - LOWEST) as usize + 1;
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
    /// All pieces, of one composer `bl2012/SET`: cells play or do not; no note is struck again, and all have one velocity, so that
    /// nothing but `play` says anything. Their range is from the lowest to the highest key that a training piece plays; the notes
    /// of other keys are [`Data::outside`].
    pub corpus: Corpus,
    /// The parts as the file has them, none of which is empty.
    pub split: Split,
    /// By name of a piece: its notes on keys outside the range, counted once for each time step.
    notes_outside: BTreeMap<String, usize>,
    /// Time steps of the training pieces.
    train_steps: usize,
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
        let (mut pieces, mut notes_outside) = (vec![], BTreeMap::new());
        let mut part = |name: &str, of: Vec<Steps>, range: Option<NoteRange>| {
            if of.is_empty() {
                return Err(Error::file(&path, format!("`{name}` has no piece"), FORM));
            }
            let of: Vec<Vec<Vec<u8>>> = of
                .iter()
                .enumerate()
                .map(|(i, steps)| {
                    keys(steps).map_err(|e| Error::file(&path, format!("`{name}`, piece {}{e}", i + 1), FORM))
                })
                .collect::<Result<_>>()?;
            let range = range.map_or_else(|| played(&of), Ok)?;
            let mut names = vec![];
            for (i, steps) in of.iter().enumerate() {
                let name = format!("bl2012/{set}/{name}-{:05}", i + 1);
                let (roll, outside) = roll(range, steps)?;
                names.push(name.clone());
                notes_outside.insert(name.clone(), outside);
                pieces.push(Piece { name, style: 0, roll, dynamics: true, mean_bpm: TEMPO });
            }
            names.sort();
            Ok((names, range, of.iter().map(Vec::len).sum()))
        };
        let (train, range, train_steps) = part("train", parts.train, None)?;
        let (validation, ..) = part("valid", parts.valid, Some(range))?;
        let (test, ..) = part("test", parts.test, Some(range))?;
        let styles = Styles::new(vec![Composer { genre: "bl2012".into(), name: set.name().into() }])?;
        let corpus = Corpus::from_pieces(styles, pieces, crc32c::crc32c(&bytes))?;
        let split = Split { seed: 0, train, validation, test };
        Ok(Self { set, path, corpus, split, notes_outside, train_steps })
    }

    /// The pieces of a part.
    ///
    /// # Errors
    /// None where corpus and split are as they were read.
    pub fn part(&self, part: Part) -> Result<Vec<Arc<Piece>>> {
        self.corpus.part(&self.split, part)
    }

    /// The log-likelihood in nats of a piece's keys outside the range, summed over its time steps. No training piece plays them,
    /// so no network can learn of them more than that; each has the probability `1 / (training steps + 2)` of the note 1-gram.
    pub fn outside(&self, piece: &Piece) -> f64 {
        let p = 1.0 / (self.train_steps as f64 + 2.0);
        let all = piece.roll.steps() * (KEYS - self.corpus.range.len());
        let notes = self.notes_outside.get(&piece.name).copied().unwrap_or(0);
        notes as f64 * p.ln() + (all - notes) as f64 * (-p).ln_1p()
    }

    /// The note 1-gram of the training pieces on the test pieces: one probability a key, `(time steps with it + 1) / (time steps +
    /// 2)`. And whether it is the published one, to the decimals that are printed: so these are the data, and this is the average,
    /// of the published figures.
    ///
    /// # Errors
    /// As [`Data::part`].
    pub fn one_gram(&self) -> Result<(Likelihood, bool)> {
        let (train, test) = (self.part(Part::Train)?, self.part(Part::Test)?);
        let inside = unigram_of_each(&train, &test)?;
        let of_one = |(nats, piece): (f64, &Arc<Piece>)| (self.outside(piece) - nats, piece.roll.steps());
        let likelihood = Likelihood::of(inside.into_iter().zip(&test).map(of_one));
        Ok((likelihood, (likelihood.pooled - ONE_GRAM.on(self.set)).abs() <= ROUNDING))
    }

    /// The likelihood of the test pieces under the model of a checkpoint, over all 88 keys; `None` if `stop` was set meanwhile.
    /// `progress` is told the number of time steps done so far.
    ///
    /// # Errors
    /// A model that predicts no likelihood of a note or has another range, or a device that fails.
    pub async fn likelihood(
        &self,
        checkpoint: &Checkpoint,
        device: Device,
        selection: KernelSelection,
        stop: &AtomicBool,
        progress: impl FnMut(usize),
    ) -> Result<Option<Likelihood>> {
        play_loss(checkpoint.model.as_ref())?;
        let test = self.part(Part::Test)?;
        let each = evaluate_each(checkpoint, &test, device, selection, stop, progress).await?;
        let of_one = |(m, piece): (&Metrics, &Arc<Piece>)| {
            (self.outside(piece) - m.losses.nats_per_step() * m.steps as f64, m.steps)
        };
        Ok(each.map(|each| Likelihood::of(each.iter().zip(&test).map(of_one))))
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

/// The pitches of a piece by time step, or what is wrong and at which step, as it follows the number of the piece.
fn keys(steps: &Steps) -> std::result::Result<Vec<Vec<u8>>, String> {
    if steps.is_empty() {
        return Err(" has no time step".into());
    }
    let key = |t: usize, pitch: i64| {
        let key = u8::try_from(pitch).ok().filter(|key| (LOWEST..=HIGHEST).contains(key));
        key.ok_or_else(|| format!(", step {}: the pitch {pitch} is none of the 88 keys, {LOWEST}..={HIGHEST}", t + 1))
    };
    steps.iter().enumerate().map(|(t, pitches)| pitches.iter().map(|&pitch| key(t, pitch)).collect()).collect()
}

/// The range from the lowest to the highest note of pieces, all keys where there is no note.
fn played(pieces: &[Vec<Vec<u8>>]) -> Result<NoteRange> {
    let notes = || pieces.iter().flatten().flatten().copied();
    NoteRange::new(notes().min().unwrap_or(LOWEST), notes().max().unwrap_or(HIGHEST))
}

/// A roll over `range` on which these pitches sound, and the number of the others.
fn roll(range: NoteRange, steps: &[Vec<u8>]) -> Result<(Roll, usize)> {
    let mut outside = 0;
    let mut values = vec![0.0; steps.len() * range.len()];
    for (pitches, row) in steps.iter().zip(values.chunks_exact_mut(range.len())) {
        // A pitch that is named twice is one note.
        for (i, &pitch) in pitches.iter().enumerate() {
            match range.index(pitch) {
                Some(key) => row[key] = 1.0,
                None => outside += usize::from(!pitches[..i].contains(&pitch)),
            }
        }
    }
    Ok((Roll::from_values(range, Channels::new(&[Channel::Play])?, &values)?, outside))
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
        let (roll, outside) = roll(range, &[vec![60, 64], vec![60], vec![], vec![60]]).unwrap();
        assert_eq!(outside, 0);
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
