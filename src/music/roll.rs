//! The piano roll: a grid of four steps a quarter note by pitches, each cell play, replay and dynamics.
//!
//! `play[t,n]` is 1 while the note sounds. `replay[t,n]` is 1 exactly where an onset falls on step t and
//! `play[t-1,n]` is 1: a re-attack without silence before it. `dynamics[t,n]` is the velocity / 127 of the last onset.
//! DeepJ (Mao et al. 2018), section III-A; its authors' decoder loses onsets, this one does not: a roll written as MIDI
//! and read again is the same roll.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use midly::num::{u4, u7, u15, u24, u28};
use midly::{Format, Header, MetaMessage, MidiMessage, Smf, Timing, TrackEvent, TrackEventKind};
use serde::{Deserialize, Serialize};

use super::midi::Score;
use crate::{Error, Result};

/// Steps a quarter note.
pub const STEPS_PER_QUARTER: u32 = 4;

/// The longest roll in steps: 16,384 bars, about nine hours at 120 bpm. A file that asks for more is damaged, and would
/// take memory without bound.
pub const MAX_STEPS: usize = 1 << 18;

/// Ticks a quarter note of the MIDI files written.
const DIVISION: u16 = 480;

const TICKS_PER_STEP: u32 = DIVISION as u32 / STEPS_PER_QUARTER;

/// The MIDI pitches `low..=high` that a roll holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NoteRange {
    low: u8,
    high: u8,
}

impl NoteRange {
    /// The pitches `low..=high`.
    ///
    /// # Errors
    /// `low` is above `high`, or `high` above 127.
    pub fn new(low: u8, high: u8) -> Result<Self> {
        if low > high || high > 127 {
            return Err(Error::usage(
                format!("{low}..={high} is no range of MIDI pitches"),
                "Give LOW..=HIGH with 0 <= LOW <= HIGH <= 127, for example 36..=83.",
            ));
        }
        Ok(Self { low, high })
    }

    /// The lowest pitch.
    pub fn low(self) -> u8 {
        self.low
    }

    /// The highest pitch.
    pub fn high(self) -> u8 {
        self.high
    }

    /// The number N of pitches, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "a range is never empty")]
    pub fn len(self) -> usize {
        usize::from(self.high - self.low) + 1
    }

    /// The place of `pitch` in the range, 0 for the lowest; `None` outside.
    pub fn index(self, pitch: u8) -> Option<usize> {
        (self.low..=self.high).contains(&pitch).then(|| usize::from(pitch - self.low))
    }
}

impl Default for NoteRange {
    /// The paper's four octaves, 36..=83.
    fn default() -> Self {
        Self { low: 36, high: 83 }
    }
}

impl fmt::Display for NoteRange {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}..={}", self.low, self.high)
    }
}

impl FromStr for NoteRange {
    type Err = Error;

    /// Reads `LOW..=HIGH`.
    fn from_str(text: &str) -> Result<Self> {
        let bad =
            || Error::usage(format!("'{text}' is no range of MIDI pitches"), "Give LOW..=HIGH, for example 36..=83.");
        let (low, high) = text.split_once("..=").ok_or_else(bad)?;
        let pitch = |text: &str| text.trim().parse().map_err(|_| bad());
        Self::new(pitch(low)?, pitch(high)?)
    }
}

impl TryFrom<String> for NoteRange {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<NoteRange> for String {
    fn from(range: NoteRange) -> Self {
        range.to_string()
    }
}

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

    /// Whether the note is struck again on this step, having sounded on the step before.
    pub fn replay(self) -> bool {
        self.0 & Self::REPLAY != 0
    }

    /// The velocity, 1..=127, or 0 where silent.
    pub fn velocity(self) -> u8 {
        self.0 & !Self::REPLAY
    }

    /// Play, replay and dynamics as the model reads them.
    pub fn values(self) -> [f32; 3] {
        [f32::from(u8::from(self.play())), f32::from(u8::from(self.replay())), f32::from(self.velocity()) / 127.0]
    }
}

/// A note of a roll, as it is written to MIDI and drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RollNote {
    /// MIDI pitch.
    pub pitch: u8,
    /// 1..=127.
    pub velocity: u8,
    /// Step of the onset.
    pub start: usize,
    /// The first step on which it no longer sounds, or is struck again.
    pub end: usize,
    /// Whether it sounded on the step before the onset.
    pub replay: bool,
}

/// A piano roll of steps by pitches.
///
/// Every roll is canonical: a re-attack stands only on a note that sounded on the step before, and a note keeps the
/// velocity of its onset. So two rolls are equal exactly if they sound alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roll {
    range: NoteRange,
    /// `[steps, N]`, pitches from low to high.
    cells: Vec<Cell>,
}

impl Roll {
    /// A roll of `notes` (in any order), as long as its last note. Notes outside `range` are left out; a note lasts at
    /// least one step. Overlapping notes of one pitch become re-attacks that sound until the last of them ends; of
    /// notes with one pitch and onset the loudest counts.
    ///
    /// # Errors
    /// A note ends after [`MAX_STEPS`].
    pub fn from_notes(range: NoteRange, notes: impl IntoIterator<Item = RollNote>) -> Result<Self> {
        let mut notes: Vec<(usize, RollNote)> = notes
            .into_iter()
            .filter_map(|note| Some((range.index(note.pitch)?, note)))
            .map(|(n, note)| (n, RollNote { end: note.end.max(note.start.saturating_add(1)), ..note }))
            .collect();
        let steps = notes.iter().map(|(_, note)| note.end).max().unwrap_or(0);
        if steps > MAX_STEPS {
            return Err(Error::model(
                format!("a piano roll of {steps} steps, more than the {MAX_STEPS} allowed"),
                "Cut the piece into shorter ones.",
            ));
        }
        notes.sort_unstable_by_key(|&(n, note)| (n, note.start, note.velocity));

        let mut roll = Self { range, cells: vec![Cell::SILENT; steps * range.len()] };
        for pitch in notes.chunk_by(|a, b| a.0 == b.0) {
            let n = pitch[0].0;
            let mut sounds_until = 0;
            let mut onsets = pitch.chunk_by(|a, b| a.1.start == b.1.start).peekable();
            while let Some(onset) = onsets.next() {
                let start = onset[0].1.start;
                let replay = start > 0 && start <= sounds_until;
                let velocity = onset[onset.len() - 1].1.velocity;
                sounds_until = onset.iter().map(|(_, note)| note.end).fold(sounds_until, usize::max);
                let next = onsets.peek().map_or(usize::MAX, |next| next[0].1.start);
                for t in start..sounds_until.min(next) {
                    roll.cells[t * range.len() + n] = Cell::sounding(velocity, replay && t == start);
                }
            }
        }
        Ok(roll)
    }

    /// A roll of a model's `values`, `[steps, N, 3]` of play, replay and dynamics: play and replay count from 0.5 up,
    /// dynamics are rounded to velocities 1..=127, and what is not canonical is made so. Values that are not numbers
    /// count as 0.
    ///
    /// # Errors
    /// The length is no whole number of steps, or there are more than [`MAX_STEPS`].
    pub fn from_values(range: NoteRange, values: &[f32]) -> Result<Self> {
        let n = range.len();
        if !values.len().is_multiple_of(n * 3) || values.len() / (n * 3) > MAX_STEPS {
            return Err(Error::model(
                format!("{} values are no piano roll of [steps, {n}, 3] with at most {MAX_STEPS} steps", values.len()),
                "Give play, replay and dynamics of every pitch and step.",
            ));
        }
        let mut cells = Vec::with_capacity(values.len() / 3);
        for (i, value) in values.chunks_exact(3).enumerate() {
            let before = if i < n { Cell::SILENT } else { cells[i - n] };
            let (play, replay) = (value[0] >= 0.5, value[1] >= 0.5);
            cells.push(match (play, before.play() && !replay) {
                (false, _) => Cell::SILENT,
                (true, true) => Cell::sounding(before.velocity(), false),
                // A cast of a float saturates, and takes NaN to 0.
                (true, false) => Cell::sounding((value[2] * 127.0).round() as u8, before.play()),
            });
        }
        Ok(Self { range, cells })
    }

    /// The pitches.
    pub fn range(&self) -> NoteRange {
        self.range
    }

    /// The number of steps.
    pub fn steps(&self) -> usize {
        self.cells.len() / self.range.len()
    }

    /// The N cells of step `t`, from the lowest pitch to the highest.
    pub fn step(&self, t: usize) -> &[Cell] {
        &self.cells[t * self.range.len()..][..self.range.len()]
    }

    /// Writes step `t` as `[N, 3]` values of play, replay and dynamics; a step before the beginning or after the end is
    /// silent.
    pub fn write_values(&self, t: i64, values: &mut [f32]) {
        match usize::try_from(t) {
            Ok(t) if t < self.steps() => {
                for (value, cell) in values.chunks_exact_mut(3).zip(self.step(t)) {
                    value.copy_from_slice(&cell.values());
                }
            }
            _ => values.fill(0.0),
        }
    }

    /// Whether pitch number `n` is struck on step `t`.
    pub fn onset(&self, t: usize, n: usize) -> bool {
        let cell = self.step(t)[n];
        cell.replay() || cell.play() && (t == 0 || !self.step(t - 1)[n].play())
    }

    /// The notes, ordered by pitch and then by onset.
    pub fn notes(&self) -> Vec<RollNote> {
        let mut notes: Vec<RollNote> = Vec::new();
        for (n, pitch) in (self.range.low..=self.range.high).enumerate() {
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

    /// A type 0 MIDI file with one piano track at `bpm` quarter notes a minute: a re-attack is a note-off and a note-on
    /// on one tick, in this order, and every note is closed. The track ends with the roll.
    ///
    /// # Errors
    /// `bpm` is not within 4..=1000, the tempos that MIDI players take.
    pub fn to_midi(&self, bpm: f64) -> Result<Vec<u8>> {
        if !(4.0..=1000.0).contains(&bpm) {
            return Err(Error::usage(format!("a tempo of {bpm} bpm"), "Give a tempo from 4 to 1000 bpm."));
        }
        let mut events = Vec::new();
        for note in self.notes() {
            let key = u7::new(note.pitch);
            // false sorts before true: notes end before others begin on the same step.
            events.push((note.end, false, MidiMessage::NoteOff { key, vel: u7::new(64) }));
            events.push((note.start, true, MidiMessage::NoteOn { key, vel: u7::new(note.velocity) }));
        }
        events.sort_by_key(|&(step, on, _)| (step, on));

        let midi = |message| TrackEventKind::Midi { channel: u4::new(0), message };
        let tempo = u24::new((60e6 / bpm).round() as u32);
        let head =
            [TrackEventKind::Meta(MetaMessage::Tempo(tempo)), midi(MidiMessage::ProgramChange { program: u7::new(0) })];
        let mut track: Vec<TrackEvent> = head.map(|kind| TrackEvent { delta: u28::new(0), kind }).into();
        let mut now = 0;
        let body = events.into_iter().map(|(step, _, message)| (step, midi(message)));
        for (step, kind) in body.chain([(self.steps(), TrackEventKind::Meta(MetaMessage::EndOfTrack))]) {
            // At most MAX_STEPS * TICKS_PER_STEP < 2^28.
            track.push(TrackEvent { delta: u28::new((step - now) as u32 * TICKS_PER_STEP), kind });
            now = step;
        }
        let header = Header::new(Format::SingleTrack, Timing::Metrical(u15::new(DIVISION)));
        let mut bytes = Vec::new();
        Smf { header, tracks: vec![track] }
            .write_std(&mut bytes)
            .map_err(|e| Error::run(format!("the piece cannot be written as MIDI: {e}"), "Write fewer bars."))?;
        Ok(bytes)
    }

    /// Writes [`Roll::to_midi`] to the file at `path`.
    ///
    /// # Errors
    /// Those of [`Roll::to_midi`], and a file that cannot be written.
    pub fn write_midi(&self, path: impl AsRef<Path>, bpm: f64) -> Result<()> {
        let path = path.as_ref();
        std::fs::write(path, self.to_midi(bpm)?).map_err(|e| {
            Error::file(path, format!("cannot be written: {e}"), "Check the folder, its rights and space.")
        })
    }
}

/// A time signature and the step from which it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RollMetre {
    /// Step of the roll.
    pub step: usize,
    /// Beats a bar.
    pub numerator: u8,
    /// The beat as a fraction of a whole note.
    pub denominator: u8,
}

/// A roll read from MIDI, and what the file held besides.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The roll, at least one step long and not silent.
    pub roll: Roll,
    /// Notes read within the range; more than the roll's onsets where notes fall on one step and pitch.
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
    /// Puts `score` on the grid: onsets and releases to the nearest step (halves up), notes at least one step long.
    /// `name` is used in errors only.
    ///
    /// # Errors
    /// No note lies within `range`, or the roll is longer than [`MAX_STEPS`].
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
                "Widen the range with --notes LOW..=HIGH.",
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

/// Figures of a roll.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RollStats {
    /// Notes read within the range.
    pub notes: usize,
    /// Distinct pairs of step and pitch on which a note begins.
    pub onsets: usize,
    /// Length in steps, four a quarter note.
    pub steps: usize,
    /// Notes dropped because they are outside the range.
    pub out_of_range: usize,
    /// Notes dropped because they are on the drum channel.
    pub drums: usize,
    /// Onsets on a note that sounded on the step before.
    pub replays: usize,
    /// The share of steps on which nothing sounds, 0..=1.
    pub silent_share: f64,
    /// Sounding notes, averaged over the steps on which any sounds.
    pub mean_polyphony: f64,
    /// Mean length of a note in steps.
    pub mean_note_steps: f64,
    /// Mean velocity of the onsets, 1..=127.
    pub mean_velocity: f64,
    /// Standard deviation of the onsets' velocity.
    pub std_velocity: f64,
    /// The lowest and the highest pitch that sounds.
    pub lowest: Option<u8>,
    /// See `lowest`.
    pub highest: Option<u8>,
    /// Onsets by pitch class, C first.
    pub pitch_classes: [usize; 12],
    /// Quarter notes a minute, where known.
    pub bpm: Option<f64>,
    /// Time signatures, where known.
    pub metres: Vec<RollMetre>,
}

impl RollStats {
    /// The figures of `roll`, of which nothing else is known.
    pub fn new(roll: &Roll) -> Self {
        let notes = roll.notes();
        let steps = roll.steps();
        let polyphony = |t: usize| roll.step(t).iter().filter(|cell| cell.play()).count();
        let sounding = (0..steps).filter(|&t| polyphony(t) > 0).count();
        let cells: usize = (0..steps).map(polyphony).sum();
        let mean = |sum: f64, count: usize| if count > 0 { sum / count as f64 } else { 0.0 };
        let velocity = |note: &RollNote| f64::from(note.velocity);
        let mean_velocity = mean(notes.iter().map(velocity).sum(), notes.len());
        let variance = mean(notes.iter().map(|note| (velocity(note) - mean_velocity).powi(2)).sum(), notes.len());
        let mut pitch_classes = [0; 12];
        for note in &notes {
            pitch_classes[usize::from(note.pitch % 12)] += 1;
        }
        Self {
            notes: notes.len(),
            onsets: notes.len(),
            steps,
            out_of_range: 0,
            drums: 0,
            replays: notes.iter().filter(|note| note.replay).count(),
            silent_share: mean((steps - sounding) as f64, steps),
            mean_polyphony: mean(cells as f64, sounding),
            mean_note_steps: mean(cells as f64, notes.len()),
            mean_velocity,
            std_velocity: variance.sqrt(),
            lowest: notes.first().map(|note| note.pitch),
            highest: notes.last().map(|note| note.pitch),
            pitch_classes,
            bpm: None,
            metres: Vec::new(),
        }
    }
}
