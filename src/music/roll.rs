//! The piano roll: a grid of time steps, four a quarter note, by pitches.
//!
//! Each cell (time step t, pitch n) has play, replay and dynamics. `play[t,n]` is 1 while the note sounds. `replay[t,n]`
//! is 1 exactly where an onset falls on time step t and `play[t-1,n]` is 1: a re-attack without silence before it.
//! `dynamics[t,n]` is the velocity / 127 of the last onset. A model reads and writes those of them that its [`Channels`]
//! name. DeepJ (Mao et al. 2018), section III-A; its authors' decoder loses onsets, this one does not: a roll written as
//! MIDI and read again is the same roll.

use serde::Serialize;

use super::range::NoteRange;
use crate::shape::{Channel, Channels};
use crate::{Error, Result};

/// Time steps a quarter note.
pub const STEPS_PER_QUARTER: u32 = 4;

/// Time steps of a bar of 4/4.
pub const BAR: usize = 4 * STEPS_PER_QUARTER as usize;

/// The longest roll in time steps: 16,384 bars, about nine hours at 120 bpm. A file that asks for more is damaged, and
/// would take memory without bound.
pub const MAX_STEPS: usize = 1 << 18;

/// The velocity of every note that comes from a model without dynamics: mezzo-forte.
pub const DEFAULT_VELOCITY: u8 = 80;

/// One cell of a roll, packed: the velocity in the low seven bits (0 is silence), re-attack in the highest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cell(u8);

impl Cell {
    /// No note.
    pub const SILENT: Self = Self(0);

    const REPLAY: u8 = 0x80;

    /// A sounding note; the velocity is clamped to 1..=127.
    pub fn sounding(velocity: u8, replay: bool) -> Self {
        Self(velocity.clamp(1, 127) | if replay { Self::REPLAY } else { 0 })
    }

    /// Whether the note sounds.
    pub fn play(self) -> bool {
        self.0 != 0
    }

    /// Whether the note is struck again on this time step, having sounded on the one before.
    pub fn replay(self) -> bool {
        self.0 & Self::REPLAY != 0
    }

    /// The velocity, 1..=127, or 0 where silent.
    pub fn velocity(self) -> u8 {
        self.0 & !Self::REPLAY
    }

    /// One value of the cell as a model reads it.
    pub fn value(self, channel: Channel) -> f32 {
        match channel {
            Channel::Play => f32::from(u8::from(self.play())),
            Channel::Replay => f32::from(u8::from(self.replay())),
            Channel::Dynamics => f32::from(self.velocity()) / 127.0,
        }
    }
}

/// A note of a roll, as it is written to MIDI and drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RollNote {
    /// MIDI pitch.
    pub pitch: u8,
    /// 1..=127.
    pub velocity: u8,
    /// Time step of the onset.
    pub start: usize,
    /// The first time step on which it no longer sounds, or is struck again.
    pub end: usize,
    /// Whether it sounded on the time step before the onset.
    pub replay: bool,
}

/// A note while a roll is made: there may be millions.
#[derive(Clone, Copy)]
struct PackedNote {
    /// Number within the range.
    pitch: u8,
    velocity: u8,
    start: u32,
    end: u32,
}

fn check_steps(steps: usize) -> Result<()> {
    if steps > MAX_STEPS {
        return Err(Error::model(
            format!("a piano roll of {steps} steps, more than the {MAX_STEPS} allowed"),
            "cut the piece into shorter ones",
        ));
    }
    Ok(())
}

/// A piano roll of time steps by pitches.
///
/// Every roll is canonical: a re-attack is only of a note that sounded on the time step before, and a note keeps the
/// velocity of its onset. So two rolls are equal exactly if they sound alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roll {
    range: NoteRange,
    /// `[steps, N]`, pitches from low to high.
    cells: Vec<Cell>,
}

impl Roll {
    /// A roll of `notes` (in any order), as long as its last note. Notes outside `range` are left out; a note lasts at
    /// least one time step. Overlapping notes of one pitch become re-attacks that sound until the last of them ends; of
    /// notes with one pitch and onset the loudest counts.
    ///
    /// # Errors
    /// A note ends after [`MAX_STEPS`].
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> deepj::Result<()> {
    /// use deepj::music::{NoteRange, Roll, roll::RollNote};
    ///
    /// // Middle C for a bar, struck again after half of it.
    /// let note = |start, end, replay| RollNote { pitch: 60, velocity: 80, start, end, replay };
    /// let roll = Roll::from_notes(NoteRange::default(), [note(0, 8, false), note(8, 16, true)])?;
    /// assert_eq!((roll.steps(), roll.notes().len()), (16, 2));
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_notes(range: NoteRange, notes: impl IntoIterator<Item = RollNote>) -> Result<Self> {
        let mut steps = 0;
        let mut packed = Vec::new();
        for note in notes {
            let Some(pitch) = range.index(note.pitch) else { continue };
            let end = note.end.max(note.start.saturating_add(1));
            steps = steps.max(end);
            // A longer note is the error below.
            if end <= MAX_STEPS {
                packed.push(PackedNote {
                    pitch: pitch as u8,
                    velocity: note.velocity,
                    start: note.start as u32,
                    end: end as u32,
                });
            }
        }
        check_steps(steps)?;
        packed.sort_unstable_by_key(|note| (note.pitch, note.start, note.velocity));

        let mut roll = Self { range, cells: vec![Cell::SILENT; steps * range.len()] };
        for pitch in packed.chunk_by(|a, b| a.pitch == b.pitch) {
            let n = usize::from(pitch[0].pitch);
            let mut sounds_until = 0;
            let mut onsets = pitch.chunk_by(|a, b| a.start == b.start).peekable();
            while let Some(onset) = onsets.next() {
                let start = onset[0].start;
                let replay = start > 0 && start <= sounds_until;
                let velocity = onset[onset.len() - 1].velocity;
                sounds_until = onset.iter().map(|note| note.end).fold(sounds_until, u32::max);
                let next = onsets.peek().map_or(u32::MAX, |next| next[0].start);
                for t in start..sounds_until.min(next) {
                    roll.cells[t as usize * range.len() + n] = Cell::sounding(velocity, replay && t == start);
                }
            }
        }
        Ok(roll)
    }

    /// The roll with silence after it, so that it has `steps` time steps, unless it has more.
    ///
    /// # Errors
    /// More than [`MAX_STEPS`].
    pub fn padded(&self, steps: usize) -> Result<Self> {
        check_steps(steps)?;
        let mut cells = self.cells.clone();
        cells.resize(cells.len().max(steps * self.range.len()), Cell::SILENT);
        Ok(Self { range: self.range, cells })
    }

    /// The time steps from `start` up to `end`, which are cut to those that there are. What sounds on from before is struck on the
    /// first of them.
    pub fn excerpt(&self, start: usize, end: usize) -> Self {
        let n = self.range.len();
        let end = end.min(self.steps());
        let mut cells = self.cells[start.min(end) * n..end * n].to_vec();
        for cell in cells.iter_mut().take(n) {
            cell.0 &= !Cell::REPLAY;
        }
        Self { range: self.range, cells }
    }

    /// A roll of a model's `values`, `[steps, N, C]` of the C `channels`: play and replay count from 0.5 up, dynamics are
    /// rounded to velocities 1..=127, and what is not canonical is made so. Without replay no note is struck again,
    /// without dynamics every note has [`DEFAULT_VELOCITY`]. Values that are not numbers count as 0.
    ///
    /// # Errors
    /// The length is no whole number of time steps, or there are more than [`MAX_STEPS`].
    pub fn from_values(range: NoteRange, channels: Channels, values: &[f32]) -> Result<Self> {
        let (n, c) = (range.len(), channels.len());
        if !values.len().is_multiple_of(n * c) || values.len() / (n * c) > MAX_STEPS {
            return Err(Error::model(
                format!(
                    "{} values are no piano roll of [steps, {n}, {c}] with at most {MAX_STEPS} steps",
                    values.len()
                ),
                format!("give {channels} of every pitch and step"),
            ));
        }
        let [play, replay, dynamics] =
            [Channel::Play, Channel::Replay, Channel::Dynamics].map(|channel| channels.position(channel));
        let on = |value: &[f32], place: Option<usize>| place.is_some_and(|i| value[i] >= 0.5);
        let mut cells = Vec::with_capacity(values.len() / c);
        for (i, value) in values.chunks_exact(c).enumerate() {
            let before = if i < n { Cell::SILENT } else { cells[i - n] };
            cells.push(match (on(value, play), before.play() && !on(value, replay)) {
                (false, _) => Cell::SILENT,
                (true, true) => Cell::sounding(before.velocity(), false),
                // A cast of a float saturates, and takes NaN to 0.
                (true, false) => {
                    let velocity = dynamics.map_or(DEFAULT_VELOCITY, |i| (value[i] * 127.0).round() as u8);
                    Cell::sounding(velocity, before.play())
                }
            });
        }
        Ok(Self { range, cells })
    }

    /// The pitches.
    pub fn range(&self) -> NoteRange {
        self.range
    }

    /// The number of time steps.
    pub fn steps(&self) -> usize {
        self.cells.len() / self.range.len()
    }

    /// The number of cells that sound.
    pub fn sounding(&self) -> usize {
        self.cells.iter().filter(|cell| cell.play()).count()
    }

    /// The N cells of time step `t`, from the lowest pitch to the highest.
    pub fn step(&self, t: usize) -> &[Cell] {
        &self.cells[t * self.range.len()..][..self.range.len()]
    }

    /// Writes time step `t` as `[N, C]` values of the C `channels`; before the beginning and after the end all are 0.
    pub fn write_values(&self, channels: Channels, t: i64, values: &mut [f32]) {
        match usize::try_from(t) {
            Ok(t) if t < self.steps() => {
                for (values, cell) in values.chunks_exact_mut(channels.len()).zip(self.step(t)) {
                    for (value, channel) in values.iter_mut().zip(channels.iter()) {
                        *value = cell.value(channel);
                    }
                }
            }
            _ => values.fill(0.0),
        }
    }

    /// Whether pitch number `n` is struck on time step `t`.
    pub fn onset(&self, t: usize, n: usize) -> bool {
        let cell = self.step(t)[n];
        cell.replay() || cell.play() && (t == 0 || !self.step(t - 1)[n].play())
    }

    /// The notes, ordered by pitch and then by onset.
    pub fn notes(&self) -> Vec<RollNote> {
        let mut notes: Vec<RollNote> = Vec::new();
        for (n, pitch) in (self.range.low()..=self.range.high()).enumerate() {
            for t in 0..self.steps() {
                let cell = self.step(t)[n];
                if self.onset(t, n) {
                    notes.push(RollNote {
                        pitch,
                        velocity: cell.velocity(),
                        start: t,
                        end: t + 1,
                        replay: cell.replay(),
                    });
                } else if cell.play()
                    && let Some(note) = notes.last_mut()
                {
                    note.end = t + 1;
                }
            }
        }
        notes
    }
}

/// A time signature and the time step from which it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RollMetre {
    /// Time step of the roll.
    pub step: usize,
    /// Beats a bar.
    pub numerator: u8,
    /// The beat as a fraction of a whole note.
    pub denominator: u8,
}
