//! A roll as a MIDI file.

use std::path::Path;

use midly::num::{u4, u7, u15, u24, u28};
use midly::{Format, Header, MetaMessage, MidiMessage, Smf, Timing, TrackEvent, TrackEventKind};

use crate::files::write_output;
use crate::music::roll::{Roll, STEPS_PER_QUARTER};
use crate::{Error, Result};

/// Ticks a quarter note of the files written.
const DIVISION: u16 = 480;

const TICKS_PER_STEP: u32 = DIVISION as u32 / STEPS_PER_QUARTER;

impl Roll {
    /// The roll as a type 0 MIDI file with one piano track at `bpm` quarter notes a minute: a re-attack is a note-off and
    /// a note-on on one tick, in this order, and every note is closed. The track ends with the roll.
    ///
    /// # Errors
    /// `bpm` is not within 4..=1000. MIDI ends at 3.6, a tempo of 2^24 microseconds; 1000 is more than any piece asks for.
    pub fn to_midi(&self, bpm: f64) -> Result<Vec<u8>> {
        if !(4.0..=1000.0).contains(&bpm) {
            return Err(Error::usage(format!("a tempo of {bpm} bpm"), "give a tempo from 4 to 1000 bpm"));
        }
        let mut events = Vec::new();
        for note in self.notes() {
            let key = u7::new(note.pitch);
            // false sorts before true: notes end before others begin on the same time step.
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
            .map_err(|e| Error::run(format!("the piece cannot be written as MIDI: {e}"), "write fewer bars"))?;
        Ok(bytes)
    }

    /// Writes [`Roll::to_midi`] to the file at `path`, whole or not at all; `-` is standard output.
    ///
    /// # Errors
    /// Those of [`Roll::to_midi`], and a file that cannot be written.
    pub fn write_midi(&self, path: impl AsRef<Path>, bpm: f64) -> Result<()> {
        write_output(path.as_ref(), &self.to_midi(bpm)?)
    }
}
