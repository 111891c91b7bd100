//! The time of a file's ticks.

use std::path::Path;

use midly::Timing;

use super::events::EventKind;
use super::file::Event;
use crate::{Error, Result};

/// Ticks a quarter note of a [`Score`](super::Score) that came from a file with SMPTE division.
const SMPTE_DIVISION: u32 = 960;

/// Microseconds a quarter note where a file says nothing: 120 bpm.
const DEFAULT_TEMPO: u32 = 500_000;

/// Turns ticks of a file into quarter notes, seconds and ticks of a [`Score`](super::Score).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Clock {
    /// Ticks of the score in a quarter note.
    pub(super) division: u32,
    /// Whether the file's ticks divide quarter notes (and are the score's ticks); else they divide seconds (SMPTE).
    metrical: bool,
    /// Ticks of the file in a quarter note, or in a second.
    ticks: f64,
    /// Spans of one tempo, in order; the first begins at tick 0.
    spans: Vec<Span>,
}

#[derive(Clone, Debug, PartialEq)]
struct Span {
    tick: u64,
    quarters: f64,
    seconds: f64,
    /// Seconds a quarter note.
    tempo: f64,
}

impl Clock {
    pub(super) fn new(name: &Path, timing: Timing, events: impl Iterator<Item = Event>) -> Result<Self> {
        let (metrical, division, ticks) = match timing {
            Timing::Metrical(division) => (true, u32::from(division.as_int()), f64::from(division.as_int())),
            Timing::Timecode(fps, parts) => (false, SMPTE_DIVISION, f64::from(fps.as_f32()) * f64::from(parts)),
        };
        if ticks == 0.0 {
            return Err(Error::file(
                name,
                "has a division of 0 ticks (bytes 12 and 13 of the header)",
                "the file is damaged; fetch it again",
            ));
        }
        let first = Span { tick: 0, quarters: 0.0, seconds: 0.0, tempo: f64::from(DEFAULT_TEMPO) * 1e-6 };
        let mut clock = Self { division, metrical, ticks, spans: vec![first] };
        for event in events {
            if let EventKind::Tempo(tempo) = event.kind {
                let (quarters, seconds) = clock.at(event.tick);
                // Of tempos at one tick the last one holds.
                clock.spans.pop_if(|span| span.tick == event.tick);
                clock.spans.push(Span { tick: event.tick, quarters, seconds, tempo: f64::from(tempo) * 1e-6 });
            }
        }
        Ok(clock)
    }

    fn span(&self, tick: u64) -> &Span {
        &self.spans[self.spans.partition_point(|span| span.tick <= tick) - 1]
    }

    /// Quarter notes and seconds from the beginning to `tick` of the file.
    pub(super) fn at(&self, tick: u64) -> (f64, f64) {
        let span = self.span(tick);
        let units = (tick - span.tick) as f64 / self.ticks;
        let (quarters, seconds) = if self.metrical { (units, units * span.tempo) } else { (units / span.tempo, units) };
        (span.quarters + quarters, span.seconds + seconds)
    }

    /// The tick of the score nearest to `tick` of the file.
    pub(super) fn tick(&self, tick: u64) -> u64 {
        if self.metrical { tick } else { (self.at(tick).0 * f64::from(self.division)).round() as u64 }
    }

    /// Seconds from the beginning to `tick` of the score.
    pub(super) fn seconds(&self, tick: u64) -> f64 {
        if self.metrical { self.at(tick).1 } else { self.seconds_of(tick as f64 / f64::from(self.division)) }
    }

    /// Seconds that the first `quarters` quarter notes last.
    pub(super) fn seconds_of(&self, quarters: f64) -> f64 {
        let span = self.span_of(quarters);
        span.seconds + (quarters - span.quarters) * span.tempo
    }

    fn span_of(&self, quarters: f64) -> &Span {
        &self.spans[self.spans.partition_point(|span| span.quarters <= quarters).max(1) - 1]
    }

    /// Quarter notes a minute on the average over the first `quarters` quarter notes.
    pub(super) fn mean_bpm(&self, quarters: f64) -> f64 {
        let seconds = self.seconds_of(quarters);
        let tempo = if seconds > 0.0 { seconds / quarters } else { self.span_of(quarters).tempo };
        60.0 / tempo
    }
}
