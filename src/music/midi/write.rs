//! A roll, or what was played, as a MIDI file.

use std::path::Path;

use midly::num::{u4, u7, u15, u24, u28};
use midly::{Format, Header, MetaMessage, MidiMessage, Smf, Timing, TrackEvent, TrackEventKind};

use super::play::Note;
use crate::files::write_output;
use crate::music::hands::{self, Hand};
use crate::music::roll::{Roll, RollNote, STEPS_PER_QUARTER};
use crate::{Error, Result};

/// Ticks a quarter note of the files written.
pub const DIVISION: u16 = 480;

const TICKS_PER_STEP: u32 = DIVISION as u32 / STEPS_PER_QUARTER;

/// How a roll is written as MIDI.
#[derive(Clone, Debug, PartialEq)]
pub struct Writing {
    /// Quarter notes a minute, 4 to 1000.
    pub bpm: f64,
    /// The length of the file in seconds, where it is not that of the roll: to a thousandth of a second, for which the
    /// tempo is changed by as little as that takes. What lies behind it is cut.
    pub seconds: Option<f64>,
    /// On a track for each hand ([`hands`]), as a type 1 file, instead of one track.
    pub two_hands: bool,
    /// Whose it is, as the file's copyright notice.
    pub copyright: Option<String>,
    /// Texts at the file's beginning.
    pub texts: Vec<String>,
}

impl Writing {
    /// On one track, without texts.
    pub fn new(bpm: f64) -> Self {
        Self { bpm, seconds: None, two_hands: false, copyright: None, texts: vec![] }
    }

    /// Ticks and microseconds a quarter note of a roll of so many time steps.
    fn clock(&self, steps: usize) -> Result<(u32, u32)> {
        let Self { bpm, seconds, .. } = *self;
        if !(4.0..=1000.0).contains(&bpm) {
            return Err(Error::usage(format!("a tempo of {bpm} bpm"), "give a tempo from 4 to 1000 bpm"));
        }
        let quarter = 60e6 / bpm;
        let Some(seconds) = seconds else { return Ok((steps as u32 * TICKS_PER_STEP, quarter.round() as u32)) };
        let ticks = (seconds * 1e6 / quarter * f64::from(DIVISION)).round();
        if !(1.0..=f64::from(u32::MAX >> 4)).contains(&ticks) {
            let what = format!("a piece of {seconds} seconds at {bpm} bpm");
            return Err(Error::usage(what, "give a length of at least a thousandth of a second, and below nine hours"));
        }
        // A whole number of ticks lasts as long as asked for in a tempo that is off by less than half a tick.
        let exact = seconds * 1e6 * f64::from(DIVISION) / ticks;
        Ok((ticks as u32, exact.round().clamp(60_000.0, 15_000_000.0) as u32))
    }
}

impl Roll {
    /// The roll as a type 0 MIDI file with one piano track at `bpm` quarter notes a minute: a re-attack is a note-off
    /// and a note-on on one tick, in this order, and every note is closed. The track ends with the roll.
    ///
    /// # Errors
    /// `bpm` is not within 4..=1000. MIDI ends at 3.6, a tempo of 2^24 microseconds; 1000 is more than any piece asks
    /// for.
    pub fn to_midi(&self, bpm: f64) -> Result<Vec<u8>> {
        self.to_midi_as(&Writing::new(bpm))
    }

    /// The roll as a MIDI file, as `writing` says; see [`Roll::to_midi`].
    ///
    /// # Errors
    /// A tempo out of range, or a length that no file has.
    pub fn to_midi_as(&self, writing: &Writing) -> Result<Vec<u8>> {
        let (end, tempo) = writing.clock(self.steps())?;
        let notes = self.notes();
        let hands = writing.two_hands.then(|| hands::split(&notes));
        let tick = |step: usize| step as u32 * TICKS_PER_STEP;
        let note = |n: &RollNote| Note { pitch: n.pitch, velocity: n.velocity, start: tick(n.start), end: tick(n.end) };
        let notes: Vec<Note> = notes.iter().map(note).collect();
        file(&notes, hands.as_deref(), end, &[(0, tempo)], writing)
    }

    /// Writes [`Roll::to_midi`] to the file at `path`, whole or not at all; `-` is standard output.
    ///
    /// # Errors
    /// Those of [`Roll::to_midi`], and a file that cannot be written.
    pub fn write_midi(&self, path: impl AsRef<Path>, bpm: f64) -> Result<()> {
        write_output(path.as_ref(), &self.to_midi(bpm)?)
    }
}

/// What was played, as a MIDI file: `notes` in ticks, [`DIVISION`] a quarter note, in any order; quarter notes a minute
/// from a tick on, the first from tick 0; the file ends at `end`. Of `writing`, `bpm` and `seconds` do not count. Where
/// it asks for two hands, these are found with the notes on the grid of sixteenths.
///
/// # Errors
/// A tempo that is not within 4..=1000, or an end beyond the ticks that a file can have.
pub fn write_notes(notes: &[Note], tempos: &[(u32, f64)], end: u32, writing: &Writing) -> Result<Vec<u8>> {
    let step = |tick: u32| ((f64::from(tick) / f64::from(TICKS_PER_STEP)).round()) as usize;
    let on_grid = |n: &Note| {
        let start = step(n.start);
        let end = step(n.end).max(start + 1);
        RollNote { pitch: n.pitch, velocity: n.velocity, start, end, replay: false }
    };
    let hands = writing.two_hands.then(|| hands::split(&notes.iter().map(on_grid).collect::<Vec<_>>()));
    let tempo = |&(tick, bpm): &(u32, f64)| Writing::new(bpm).clock(0).map(|(_, us)| (tick, us));
    let tempos = tempos.iter().map(tempo).collect::<Result<Vec<_>>>()?;
    if end > u28::max_value().as_int() {
        return Err(Error::run("what was played is longer than a MIDI file can be", "play less at a time"));
    }
    file(notes, hands.as_deref(), end, &tempos, writing)
}

/// A file of notes in ticks, with the hand of each where there are two tracks; tempos are microseconds a quarter note
/// from a tick on.
fn file(notes: &[Note], hands: Option<&[Hand]>, end: u32, tempos: &[(u32, u32)], writing: &Writing) -> Result<Vec<u8>> {
    let parts: &[Hand] = if hands.is_some() { &[Hand::Right, Hand::Left] } else { &[Hand::Right] };
    let meta = |message| (0, TrackEventKind::Meta(message));
    let mut head = vec![];
    head.extend(writing.copyright.iter().map(|text| meta(MetaMessage::Copyright(text.as_bytes()))));
    head.extend(writing.texts.iter().map(|text| meta(MetaMessage::Text(text.as_bytes()))));
    let tempo = |&(tick, us): &(u32, u32)| (tick, TrackEventKind::Meta(MetaMessage::Tempo(u24::new(us))));
    head.extend(tempos.iter().take(1).map(tempo));
    let mut later: Vec<_> = tempos.iter().skip(1).map(tempo).collect();
    let mut tracks = vec![];
    // Of two hands the first track has the tempo and no notes.
    if hands.is_some() {
        head.append(&mut later);
        tracks.push(track(std::mem::take(&mut head), end));
    }
    for (channel, &part) in parts.iter().enumerate() {
        let midi = |message| TrackEventKind::Midi { channel: u4::new(channel as u8), message };
        let mut events = std::mem::take(&mut head);
        if hands.is_some() {
            let name: &[u8] = if part == Hand::Right { b"Piano right" } else { b"Piano left" };
            events.push(meta(MetaMessage::TrackName(name)));
        }
        events.push((0, midi(MidiMessage::ProgramChange { program: u7::new(0) })));
        // Tempos, then notes that end, then those that begin, on the same tick.
        let mut played: Vec<_> = later.drain(..).map(|(tick, kind)| (tick, 0, kind)).collect();
        for (i, note) in notes.iter().enumerate() {
            let elsewhere = hands.is_some_and(|hands| hands[i] != part);
            let [start, stop] = [note.start, note.end].map(|tick| tick.min(end));
            if elsewhere || start == end {
                continue;
            }
            let key = u7::new(note.pitch);
            played.push((stop, 1, midi(MidiMessage::NoteOff { key, vel: u7::new(64) })));
            played.push((start, 2, midi(MidiMessage::NoteOn { key, vel: u7::new(note.velocity) })));
        }
        played.sort_by_key(|&(tick, order, _)| (tick, order));
        events.extend(played.into_iter().map(|(tick, _, kind)| (tick, kind)));
        tracks.push(track(events, end));
    }
    let format = if hands.is_some() { Format::Parallel } else { Format::SingleTrack };
    let header = Header::new(format, Timing::Metrical(u15::new(DIVISION)));
    let mut bytes = Vec::new();
    Smf { header, tracks }
        .write_std(&mut bytes)
        .map_err(|e| Error::run(format!("the piece cannot be written as MIDI: {e}"), "write fewer bars"))?;
    Ok(bytes)
}

/// A track of events at ticks, in order, that ends at `end`.
fn track<'a>(events: Vec<(u32, TrackEventKind<'a>)>, end: u32) -> Vec<TrackEvent<'a>> {
    let mut now = 0;
    let events = events.into_iter().chain([(end, TrackEventKind::Meta(MetaMessage::EndOfTrack))]);
    // At most MAX_STEPS * TICKS_PER_STEP < 2^28.
    let delta = events.map(|(tick, kind)| {
        let delta = u28::new(tick - now);
        now = tick;
        TrackEvent { delta, kind }
    });
    delta.collect()
}
