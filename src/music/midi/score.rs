//! A MIDI file as notes.

use std::path::Path;

use super::clock::Clock;
use super::events::EventKind;
use super::file::{File, read_file};
use super::play::{Note, Played, play};
use super::warnings::{Oddity, Warnings};
use crate::music::roll::{MAX_STEPS, STEPS_PER_QUARTER};
use crate::{Error, Result};

/// A time signature and the tick from which it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metre {
    /// Tick of its [`Score`].
    pub tick: u64,
    /// Beats a bar, at least 1.
    pub numerator: u8,
    /// The beat as a fraction of a whole note: 1, 2, 4, … 64.
    pub denominator: u8,
}

/// The notes of a MIDI file, all tracks and channels merged, and what is known about them.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// The file's type: 0 (one track), 1 (tracks in parallel) or 2 (tracks in sequence).
    pub format: u8,
    /// Number of tracks in the file.
    pub tracks: usize,
    /// Ticks a quarter note.
    pub division: u32,
    /// Notes ordered by start, pitch, end and velocity. Never empty.
    pub notes: Vec<Note>,
    /// Quarter notes a minute, averaged over the time from the beginning to the last note's end.
    pub mean_bpm: f64,
    /// Time signatures in order; empty where the file has none.
    pub metres: Vec<Metre>,
    /// Notes dropped because they are on the drum channel.
    pub drums: usize,
    /// Notes that had no note-off and were closed at their track's end, or before it by the rules of [`midi`](super).
    pub unclosed: usize,
    /// The tick at which the last track ends; not before the last note's end, unless that is held by the pedal.
    pub end: u64,
    /// What is odd about the file, one sentence each without a final stop; where a place is known, with the byte.
    pub warnings: Vec<String>,
    /// The tempo map.
    clock: Clock,
}

impl Score {
    /// Reads the MIDI file at `path`. With `pedal`, notes sound on until the sustain pedal (controller 64) is released.
    ///
    /// # Errors
    /// The file cannot be read, is larger than [`MAX_BYTES`](super::MAX_BYTES), or [`Score::parse`] refuses its content.
    pub fn read(path: impl AsRef<Path>, pedal: bool) -> Result<Self> {
        let path = path.as_ref();
        Self::parse(path, &read_file(path)?, pedal)
    }

    /// Reads the `bytes` of a MIDI file; `name` is used in errors only.
    ///
    /// # Errors
    /// Not a MIDI file, cut off, malformed (each with the place), without notes, with drums only, or longer than
    /// [`MAX_STEPS`] sixteenths.
    pub fn parse(name: impl AsRef<Path>, bytes: &[u8], pedal: bool) -> Result<Self> {
        let name = name.as_ref();
        let (file, mut warnings) = File::parse(name, bytes)?;
        let clock = Clock::new(name, file.timing, file.events())?;
        let mut played = play(&file, &clock, pedal);
        let drums = played.percussion.notes();
        if played.notes.is_empty() {
            return Err(match drums {
                0 => Error::file(name, "holds no notes", "give a MIDI file with notes in it"),
                _ => Error::file(
                    name,
                    format!("holds only drums ({drums} notes on channel 10)"),
                    "drums are left out; give a MIDI file with notes on another channel",
                ),
            });
        }
        warn_of_notes(&played, clock.division, &mut warnings);

        let last = played.notes.iter().map(|note| note.end).max().unwrap_or(0);
        let limit = MAX_STEPS as f64 / f64::from(STEPS_PER_QUARTER);
        let quarters = f64::from(last) / f64::from(clock.division);
        if quarters > limit {
            return Err(Error::file(
                name,
                format!(
                    "lasts {quarters:.0} quarter notes, more than the {limit:.0} that are read ({:.1} hours)",
                    clock.seconds_of(quarters) / 3600.0
                ),
                "cut the file, or look for a note-off or an end of track that comes far too late",
            ));
        }

        played.notes.sort_unstable_by_key(|note| (note.start, note.pitch, note.end, note.velocity));
        let metres = file.events().filter_map(|event| match event.kind {
            EventKind::Metre { numerator, denominator } => {
                Some(Metre { tick: clock.tick(event.tick), numerator, denominator })
            }
            _ => None,
        });
        Ok(Self {
            format: file.format,
            tracks: file.tracks.len(),
            division: clock.division,
            mean_bpm: clock.mean_bpm(quarters),
            metres: metres.take_while(|metre| metre.tick <= u64::from(last)).collect(),
            drums,
            unclosed: played.unclosed,
            end: clock.tick(file.tracks.iter().map(|track| track.end_tick).max().unwrap_or(0)),
            warnings: warnings.into_lines(),
            notes: played.notes,
            clock,
        })
    }

    /// Seconds from the beginning to `tick` by the file's tempo map. The times of a file whose division is in SMPTE frames are
    /// rounded to the score's ticks, 960 a quarter note.
    pub fn seconds(&self, tick: u64) -> f64 {
        self.clock.seconds(tick)
    }
}

/// Adds what is odd about the notes.
fn warn_of_notes(played: &Played, division: u32, warnings: &mut Warnings) {
    let (notes, lost) = (played.notes.len(), played.unclosed + played.struck_again);
    if lost > 0 {
        let text = || {
            format!(
                "{lost} of {notes} notes have no note-off; each ends when its key is struck again or its track ends, but lasts no \
                 longer than the longest other note"
            )
        };
        warnings.add(Oddity::NoNoteOff, text);
    }
    if played.stray_offs > 0 {
        let text = || format!("{} note-offs came where no note was open; they were passed over", played.stray_offs);
        warnings.add(Oddity::StrayNoteOff, text);
    }
    if let Some(signs) = played.percussion.piano(division) {
        let drums = played.percussion.notes();
        let text =
            || format!("the {drums} notes on channel 10 were left out as drums, but look like a piano part ({signs})");
        warnings.add(Oddity::Drums, text);
    }
}
