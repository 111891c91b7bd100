//! What was played.

use super::queue::Place;
use super::{Event, Message, tick_seconds};
use crate::Result;
use crate::music::midi::{DIVISION, Note, Writing, write_notes};
use crate::music::roll::{MAX_STEPS, STEPS_PER_QUARTER};

/// The last tick of which a take tells: files that are longer are not read.
const LAST: u32 = MAX_STEPS as u32 * (DIVISION as u32 / STEPS_PER_QUARTER);
/// The end of a note whose key is down.
const DOWN: u32 = u32::MAX;

/// The notes that were played, with their tempos.
#[derive(Clone, Debug, Default)]
pub struct Take {
    /// In the order of their starts.
    notes: Vec<Note>,
    tempos: Vec<(Place, f64)>,
    /// Where it ends.
    end: u32,
    full: bool,
}

impl Take {
    pub(super) fn tempo(&mut self, place: Place, bpm: f64) {
        if place.tick < LAST && self.tempos.last().is_none_or(|(_, last)| *last != bpm) {
            self.tempos.push((place, bpm));
        }
    }

    pub(super) fn event(&mut self, event: Event) {
        if event.tick >= LAST {
            self.full = true;
            return;
        }
        let (Message::Up { pitch } | Message::Down { pitch, .. }) = event.message;
        // Keys that are down are among the last.
        if let Some(note) = self.notes.iter_mut().rev().find(|note| note.pitch == pitch)
            && note.end == DOWN
        {
            note.end = event.tick.max(note.start + 1);
        }
        if let Message::Down { velocity, .. } = event.message {
            self.notes.push(Note { pitch, velocity, start: event.tick, end: DOWN });
        }
    }

    /// It ends after so many seconds: what lies behind was not heard.
    pub(super) fn end(&mut self, seconds: f64) {
        self.tempos.retain(|(place, _)| place.seconds < seconds);
        let (place, bpm) = self.tempos.last().copied().unwrap_or((Place::default(), 120.0));
        let ticks = (seconds - place.seconds) / tick_seconds(bpm);
        self.end = (f64::from(place.tick) + ticks).round().clamp(0.0, f64::from(LAST)) as u32;
        let end = self.end;
        self.notes.retain(|note| note.start < end);
        self.notes.iter_mut().for_each(|note| note.end = note.end.min(end));
    }

    /// The notes, in ticks of [`DIVISION`] a quarter note.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// Whether it was longer than a file can be, and this is its beginning: nine hours at 120 quarter notes a minute.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// As a MIDI file, in the tempos in which it was played; see [`write_notes`] for what of `writing` counts.
    ///
    /// # Errors
    /// Those of [`write_notes`].
    pub fn to_midi(&self, writing: &Writing) -> Result<Vec<u8>> {
        let mut tempos: Vec<(u32, f64)> = self.tempos.iter().map(|(place, bpm)| (place.tick, *bpm)).collect();
        if tempos.is_empty() {
            tempos.push((0, writing.bpm));
        }
        write_notes(&self.notes, &tempos, self.end, writing)
    }
}
