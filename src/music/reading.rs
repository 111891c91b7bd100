//! A MIDI file as a roll.

use std::path::Path;

use super::midi::Score;
use super::range::NoteRange;
use super::roll::{Roll, RollMetre, RollNote, STEPS_PER_QUARTER};
use super::stats::RollStats;
use crate::{Error, Result};

/// A roll read from MIDI, and what else the file held.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The roll, at least one time step long and not silent.
    pub roll: Roll,
    /// Notes read within the range; more than the roll's onsets where several fall on one time step and pitch.
    pub notes: usize,
    /// Notes dropped because they are outside the range.
    pub out_of_range: usize,
    /// Notes dropped because they are on the drum channel.
    pub drums: usize,
    /// Quarter notes a minute on the average.
    pub mean_bpm: f64,
    /// Time signatures.
    pub metres: Vec<RollMetre>,
}

impl Reading {
    /// Puts `score` on the grid: onsets and releases to the nearest time step (halves up), notes at least one time step
    /// long.
    ///
    /// `name` is used in errors only.
    ///
    /// # Errors
    /// No note lies within `range`, or the roll is longer than [`MAX_STEPS`](super::roll::MAX_STEPS).
    pub fn new(name: impl AsRef<Path>, score: &Score, range: NoteRange) -> Result<Self> {
        let name = name.as_ref();
        let division = u64::from(score.division);
        let step = |tick: u64| ((2 * u64::from(STEPS_PER_QUARTER) * tick + division) / (2 * division)) as usize;
        let roll = Roll::from_notes(
            range,
            score.notes.iter().map(|note| RollNote {
                pitch: note.pitch,
                velocity: note.velocity,
                start: step(note.start),
                end: step(note.end),
                replay: false,
            }),
        )
        .map_err(|e| Error::file(name, e.what, e.remedy))?;
        let notes = score.notes.iter().filter(|note| range.index(note.pitch).is_some()).count();
        if notes == 0 {
            return Err(Error::file(
                name,
                format!("has no note within {range} (its {} notes lie outside)", score.notes.len()),
                "widen the range with --notes LOW..=HIGH",
            ));
        }
        let metres = score.metres.iter().map(|metre| RollMetre {
            step: step(metre.tick),
            numerator: metre.numerator,
            denominator: metre.denominator,
        });
        Ok(Self {
            roll,
            notes,
            out_of_range: score.notes.len() - notes,
            drums: score.drums,
            mean_bpm: score.mean_bpm,
            metres: metres.collect(),
        })
    }

    /// Reads `bytes` of a MIDI file: [`Score::parse`], then [`Reading::new`].
    ///
    /// # Errors
    /// Those of the two.
    pub fn parse(name: impl AsRef<Path>, bytes: &[u8], range: NoteRange, pedal: bool) -> Result<Self> {
        Self::new(&name, &Score::parse(&name, bytes, pedal)?, range)
    }

    /// Reads the MIDI file at `path`: [`Score::read`], then [`Reading::new`].
    ///
    /// # Errors
    /// Those of the two.
    pub fn read(path: impl AsRef<Path>, range: NoteRange, pedal: bool) -> Result<Self> {
        Self::new(&path, &Score::read(&path, pedal)?, range)
    }

    /// The statistics of the roll, with the counts of the file.
    pub fn stats(&self) -> RollStats {
        RollStats {
            notes: self.notes,
            out_of_range: self.out_of_range,
            drums: self.drums,
            bpm: Some(self.mean_bpm),
            metres: self.metres.clone(),
            ..RollStats::new(&self.roll)
        }
    }
}
