//! A MIDI file as music to be played.

use super::queue::{Passage, Place};
use super::{Event, Message, tick_seconds};
use crate::render::Performance;

/// All that a file plays, on one piano, in one passage at `bpm` quarter notes a minute (4 to 1000), by which its ticks
/// are counted; the times are those of the performance.
pub fn passage_of(performance: &Performance, bpm: f64) -> Passage {
    let place =
        |seconds: f64| Place { seconds, tick: (seconds / tick_seconds(bpm)).round().min(u32::MAX.into()) as u32 };
    let event = |seconds: f64, message| Event { at: seconds, tick: place(seconds).tick, message };
    let mut events = vec![];
    for strike in performance.strikes() {
        let pitch = strike.pitch;
        events.push(event(strike.end, Message::Up { pitch }));
        events.push(event(strike.start, Message::Down { pitch, velocity: strike.velocity }));
    }
    // Keys go up before others go down at the same time.
    let goes_down = |event: &Event| matches!(event.message, Message::Down { .. });
    events.sort_by(|a, b| a.at.total_cmp(&b.at).then(goes_down(a).cmp(&goes_down(b))));
    Passage { from: Place::default(), until: place(performance.end()), bpm, events }
}
