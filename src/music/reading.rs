//! A MIDI file as a roll.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use super::midi::Score;
use super::range::NoteRange;
use super::roll::{BAR, Roll, RollMetre, RollNote, STEPS_PER_QUARTER};
use super::stats::RollStats;
use crate::{Error, Result};

/// A larger share of onsets off the grid is worth a warning; triplets among eighths stay below it.
const OFF_GRID_SHARE: f64 = 0.25;

/// Time steps of a bar in `metre`.
fn bar(metre: &RollMetre) -> usize {
    BAR * usize::from(metre.numerator) / usize::from(metre.denominator)
}

/// A number that two scores share if they are equal but for transposition, velocities and the rest before the first note.
fn likeness(score: &Score, step: impl Fn(u64) -> usize) -> u64 {
    let notes = || score.notes.iter().map(|note| (step(note.start.into()), step(note.end.into()), note.pitch));
    let first = notes().map(|(start, ..)| start).min().unwrap_or(0);
    let lowest = notes().map(|(.., pitch)| pitch).min().unwrap_or(0);
    let mut hasher = DefaultHasher::new();
    for (start, end, pitch) in notes() {
        (start - first, end - first, pitch - lowest).hash(&mut hasher);
    }
    hasher.finish()
}

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
    /// The share of the notes whose onset lies off the grid, by more than an eighth of a time step, 0..=1.
    pub off_grid_share: f64,
    /// Time steps from the roll's end to the end of the file: a rest.
    pub rest: usize,
    /// The same for pieces of the same notes on the grid, whatever their key, velocities and the rest before them.
    pub likeness: u64,
    /// What is odd about the file, one sentence each without a final stop: [`Score::warnings`], and more onsets off the grid
    /// than a quarter of all.
    pub warnings: Vec<String>,
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
                start: step(note.start.into()),
                end: step(note.end.into()),
                replay: false,
            }),
        )
        .map_err(|e| Error::file(name, e.what, e.remedy))?;
        let within = || score.notes.iter().filter(|note| range.index(note.pitch).is_some());
        let notes = within().count();
        if notes == 0 {
            return Err(Error::file(
                name,
                format!("has no note within {range} (notes outside: {})", score.notes.len()),
                "widen the range with --notes LOW..=HIGH",
            ));
        }
        let metres = score.metres.iter().map(|metre| RollMetre {
            step: step(metre.tick),
            numerator: metre.numerator,
            denominator: metre.denominator,
        });
        // Eighths of a time step to the nearest one, times the division.
        let distance = |tick: u32| {
            let phase = u64::from(STEPS_PER_QUARTER) * u64::from(tick) % division;
            8 * phase.min(division - phase)
        };
        let off_grid = within().filter(|note| distance(note.start) > division).count();
        let off_grid_share = off_grid as f64 / notes as f64;
        let mut warnings = score.warnings.clone();
        if off_grid_share > OFF_GRID_SHARE {
            warnings.push(format!(
                "{:.0} % of the onsets lie off the grid of four time steps a quarter note; they were moved to it",
                100.0 * off_grid_share
            ));
        }
        Ok(Self {
            likeness: likeness(score, step),
            rest: step(score.end).saturating_sub(roll.steps()),
            off_grid_share,
            warnings,
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
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> deepj::Result<()> {
    /// use deepj::music::{NoteRange, Reading};
    ///
    /// let (name, bytes) = deepj::data::FILES[0];
    /// let reading = Reading::parse(name, bytes, NoteRange::default(), false)?;
    /// println!("{name}: {} time steps, {} notes, {:?}", reading.roll.steps(), reading.notes, reading.warnings);
    /// assert!(Reading::parse("cut.mid", &bytes[..40], NoteRange::default(), false).is_err());
    /// # Ok(())
    /// # }
    /// ```
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

    /// Whether a bar of it is not as long as one of 4/4.
    pub(super) fn other_metres(&self) -> bool {
        self.metres.iter().any(|metre| bar(metre) != BAR)
    }

    /// Whether its first note is not on the beginning of a bar, or its first bar is a short one.
    pub(super) fn upbeat(&self) -> bool {
        let first = self.metres.first().map_or(BAR, bar);
        let short =
            |pair: &[RollMetre]| pair[0].step == 0 && bar(&pair[0]) == pair[1].step && bar(&pair[0]) < bar(&pair[1]);
        let sounds = |&step: &usize| self.roll.step(step).iter().any(|cell| cell.play());
        let onset = (0..self.roll.steps()).find(sounds).unwrap_or(0);
        self.metres.windows(2).take(1).any(short) || !onset.is_multiple_of(first.max(1))
    }

    /// What was left out of the roll, in words; `None` if nothing was.
    pub fn left_out(&self) -> Option<String> {
        let range = self.roll.range();
        let parts = [(self.out_of_range, format!("outside {range}")), (self.drums, "on channel 10 (drums)".into())];
        let parts: Vec<String> =
            parts.into_iter().filter(|(n, _)| *n > 0).map(|(n, place)| format!("{n} {place}")).collect();
        let all = self.notes + self.out_of_range + self.drums;
        (!parts.is_empty()).then(|| format!("of {all} notes these were left out: {}", parts.join(", ")))
    }

    /// The roll with the rest that follows it in the file.
    ///
    /// # Errors
    /// It would be longer than [`MAX_STEPS`](super::roll::MAX_STEPS).
    pub fn roll_with_rest(&self) -> Result<Roll> {
        self.roll.padded(self.roll.steps().saturating_add(self.rest))
    }

    /// The statistics of the roll, with the counts of the file.
    pub fn stats(&self) -> RollStats {
        RollStats {
            notes: self.notes,
            out_of_range: self.out_of_range,
            drums: self.drums,
            bpm: Some(self.mean_bpm),
            metres: self.metres.clone(),
            off_grid_share: self.off_grid_share,
            ..RollStats::new(&self.roll)
        }
    }
}
