//! The piano roll: a grid of time steps, four a quarter note, by pitches.
//!
//! Each cell (time step t, pitch n) has play, replay and dynamics. `play[t,n]` is 1 while the note sounds. `replay[t,n]`
//! is 1 exactly where an onset falls on time step t and `play[t-1,n]` is 1: a re-attack without silence before it.
//! `dynamics[t,n]` is the velocity / 127 of the last onset. A model reads and writes those of them that its [`Channels`]
//! name. DeepJ (Mao et al. 2018), section III-A; its authors' decoder loses onsets, this one does not: a roll written as
//! MIDI and read again is the same roll.

use serde::Serialize;

use super::pitch;
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

    /// The roll moved by `semitones`, up if positive. Its pitches are those of this one, and as many more as its notes
    /// need.
    ///
    /// # Errors
    /// A note would leave the MIDI pitches 0..=127.
    pub fn transposed(&self, semitones: i8) -> Result<Self> {
        let n = self.range.len();
        let sounds = |&i: &usize| self.cells.iter().skip(i).step_by(n).any(|cell| cell.play());
        let moved = |i: usize| i16::from(self.range.low()) + i as i16 + i16::from(semitones);
        let (Some(lowest), Some(highest)) = ((0..n).find(sounds), (0..n).rev().find(sounds)) else {
            return Ok(self.clone());
        };
        let (Ok(low @ 0..=127), Ok(high @ 0..=127)) = (u8::try_from(moved(lowest)), u8::try_from(moved(highest)))
        else {
            return Err(Error::usage(
                format!("{semitones} semitones take a note out of the MIDI pitches 0..=127"),
                "transpose by a smaller interval, or by one in the other direction",
            ));
        };
        let range = NoteRange::new(low.min(self.range.low()), high.max(self.range.high()))?;
        let place = usize::from(low - range.low());
        let mut cells = vec![Cell::SILENT; self.steps() * range.len()];
        for (to, from) in cells.chunks_exact_mut(range.len()).zip(self.cells.chunks_exact(n)) {
            to[place..=place + highest - lowest].copy_from_slice(&from[lowest..=highest]);
        }
        Ok(Self { range, cells })
    }

    /// The roll with each note outside `range` moved into it by as few octaves as that takes. Notes that then fall on
    /// one pitch are merged as [`Roll::from_notes`] merges them.
    ///
    /// # Errors
    /// `range` has less than an octave, and some note none of its pitches.
    pub fn folded_into(&self, range: NoteRange) -> Result<Self> {
        let mut notes = self.notes();
        for note in &mut notes {
            let below = range.low().saturating_sub(note.pitch).div_ceil(12);
            let above = note.pitch.saturating_sub(range.high()).div_ceil(12);
            let pitch = i16::from(note.pitch) + 12 * (i16::from(below) - i16::from(above));
            let within = u8::try_from(pitch).ok().filter(|&pitch| range.index(pitch).is_some());
            note.pitch = within.ok_or_else(|| {
                let name = pitch::name(note.pitch);
                Error::usage(
                    format!("no octave of the note {name} lies within {} ({range})", range.names()),
                    "give a range of at least twelve pitches, for example C3..B3",
                )
            })?;
        }
        Self::from_notes(range, notes)?.padded(self.steps())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn note(pitch: u8, start: usize, end: usize, velocity: u8) -> RollNote {
        RollNote { pitch, velocity, start, end, replay: false }
    }

    /// Two notes of C4 without silence between, C6 above, and a rest of three time steps at the end.
    fn roll() -> Roll {
        let notes = [note(60, 0, 4, 80), note(60, 4, 6, 90), note(84, 1, 3, 70)];
        Roll::from_notes(NoteRange::new(48, 84).unwrap(), notes).unwrap().padded(9).unwrap()
    }

    #[test]
    fn a_transposed_roll_has_the_same_notes_elsewhere() {
        let roll = roll();
        for (semitones, low, high) in
            [(0, 48, 84), (3, 48, 87), (-12, 48, 84), (-13, 47, 84), (43, 48, 127), (-60, 0, 84)]
        {
            let moved = roll.transposed(semitones).unwrap();
            assert_eq!((moved.range().low(), moved.range().high()), (low, high), "{semitones}");
            assert_eq!(moved.steps(), 9);
            let wanted = roll
                .notes()
                .into_iter()
                .map(|note| RollNote { pitch: (i16::from(note.pitch) + i16::from(semitones)) as u8, ..note });
            assert_eq!(moved.notes(), wanted.collect::<Vec<_>>(), "{semitones}");
            let back = moved.transposed(-semitones).unwrap();
            assert_eq!(back.notes(), roll.notes());
        }
        assert!(roll.transposed(44).unwrap_err().what.contains("44 semitones"));
        for semitones in [-61, -128, 127] {
            assert!(roll.transposed(semitones).is_err());
        }
        let silent = Roll::from_notes(NoteRange::default(), []).unwrap().padded(5).unwrap();
        assert_eq!(silent.transposed(127).unwrap(), silent);
        assert!(Roll::from_notes(NoteRange::default(), []).unwrap().transposed(-128).is_ok());
    }

    #[test]
    fn notes_are_folded_by_octaves_into_a_range() {
        let range = NoteRange::new(60, 71).unwrap();
        let of = |notes: &[RollNote], range| {
            Roll::from_notes(NoteRange::new(0, 127).unwrap(), notes.to_vec()).unwrap().folded_into(range)
        };
        for pitch in 0..=127 {
            let folded = of(&[note(pitch, 2, 5, 64)], range).unwrap();
            assert_eq!(folded.range(), range);
            assert_eq!(folded.notes(), [note(60 + pitch % 12, 2, 5, 64)]);
        }
        // The nearest octave, not the range's middle; what lies within stays.
        let notes = [note(40, 0, 1, 64), note(50, 0, 1, 64), note(97, 0, 1, 64)];
        let wide = of(&notes, "C3..C6".parse().unwrap()).unwrap();
        assert_eq!(wide.notes().iter().map(|note| note.pitch).collect::<Vec<_>>(), [50, 52, 73]);
    }

    #[test]
    fn notes_folded_onto_each_other_are_merged_as_from_notes_says() {
        let folded = roll().folded_into("C4..B4".parse().unwrap()).unwrap();
        let replay = |pitch, start, end, velocity| RollNote { replay: true, ..note(pitch, start, end, velocity) };
        assert_eq!(folded.notes(), [note(60, 0, 1, 80), replay(60, 1, 4, 70), replay(60, 4, 6, 90)]);
        assert_eq!(folded.steps(), 9);
        // Of one pitch and onset the loudest counts.
        let both = Roll::from_notes("C4..C6".parse().unwrap(), [note(60, 0, 4, 50), note(84, 0, 2, 99)]).unwrap();
        assert_eq!(both.folded_into("C4..B4".parse().unwrap()).unwrap().notes(), [note(60, 0, 4, 99)]);
    }

    #[test]
    fn a_range_without_the_pitch_class_is_refused() {
        let error = roll().folded_into("D4..G4".parse().unwrap()).unwrap_err();
        assert!(error.what.contains("C4") && error.what.contains("D4..G4"), "{error}");
        // Less than an octave is enough where every note has a place.
        assert!(roll().folded_into("C5..C5".parse().unwrap()).is_ok());
    }
}
