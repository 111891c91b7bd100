//! What a file plays, as strikes of the keys of one piano.

use crate::music::Score;

/// Two strikes of one key that follow each other faster are one: no action repeats so fast. It keeps the work for a file of
/// millions of notes at one time small.
const FASTEST_REPETITION: f64 = 0.01;

/// A key struck once; times in seconds from the beginning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Strike {
    /// MIDI pitch.
    pub pitch: u8,
    /// 1..=127.
    pub velocity: u8,
    /// When the hammer hits the string.
    pub start: f64,
    /// When the damper falls onto it, or the hammer hits it again.
    pub end: f64,
    /// Whether the hammer hits it again while it sounds.
    pub restruck: bool,
}

/// What a file plays, on one piano: all tracks and channels but the drums.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Performance {
    /// In the order of their starts.
    pub(super) strikes: Vec<Strike>,
    /// When the last damper falls, in seconds.
    pub(super) end: f64,
}

impl Performance {
    /// The notes of `score`, at their times by its tempo map. The score is to be read with its pedal, which the ends of its notes
    /// tell of.
    ///
    /// A key has one string. Where parts share a key, or the pedal holds a note whose key is struck again, the earlier note ends
    /// where the later one begins, and the string sounds until the last of them lets go of it.
    pub fn new(score: &Score) -> Self {
        let seconds = |tick: u32| score.seconds(tick.into());
        Self::from_notes(score.notes.iter().map(|n| (n.pitch, n.velocity, seconds(n.start), seconds(n.end))))
    }

    /// The same of notes in the order of their starts: pitch, velocity, start and end in seconds.
    pub(crate) fn from_notes(notes: impl Iterator<Item = (u8, u8, f64, f64)>) -> Self {
        let mut strikes: Vec<Strike> = Vec::with_capacity(notes.size_hint().0);
        let mut last: [Option<usize>; 128] = [None; 128];
        for (pitch, velocity, start, mut end) in notes {
            let key = usize::from(pitch) % last.len();
            if let Some(before) = last[key].map(|i| &mut strikes[i]) {
                if start - before.start < FASTEST_REPETITION {
                    before.velocity = before.velocity.max(velocity);
                    before.end = before.end.max(end);
                    continue;
                }
                if before.end > start {
                    end = end.max(before.end);
                    (before.end, before.restruck) = (start, true);
                }
            }
            last[key] = Some(strikes.len());
            strikes.push(Strike { pitch, velocity, start, end, restruck: false });
        }
        let end = strikes.iter().map(|strike| strike.end).fold(0.0, f64::max);
        Self { strikes, end }
    }

    /// The same without the silence before its first strike.
    pub fn without_rest(mut self) -> Self {
        let rest = self.strikes.first().map_or(0.0, |strike| strike.start);
        for strike in &mut self.strikes {
            (strike.start, strike.end) = (strike.start - rest, strike.end - rest);
        }
        self.end -= rest;
        self
    }

    /// The strikes in the order of their starts.
    pub fn strikes(&self) -> &[Strike] {
        &self.strikes
    }

    /// What happens to keys: seconds, pitch, and velocity, which is 0 where a key is let go of; in the order of the times, and at one
    /// time keys are let go of first. A key that is struck again while it sounds is not let go of before.
    pub fn events(&self) -> Vec<(f64, u8, u8)> {
        let struck = self.strikes.iter().map(|strike| (strike.start, strike.pitch, strike.velocity));
        let released =
            self.strikes.iter().filter(|strike| !strike.restruck).map(|strike| (strike.end, strike.pitch, 0));
        let mut events: Vec<(f64, u8, u8)> = struck.chain(released).collect();
        events.sort_by(|a, b| a.0.total_cmp(&b.0).then((a.2 > 0).cmp(&(b.2 > 0))));
        events
    }

    /// When the last damper falls, in seconds from the beginning.
    pub fn end(&self) -> f64 {
        self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strikes(notes: &[(u8, u8, f64, f64)]) -> Vec<(u8, f64, f64, bool)> {
        let performance = Performance::from_notes(notes.iter().copied());
        performance.strikes.iter().map(|s| (s.velocity, s.start, s.end, s.restruck)).collect()
    }

    #[test]
    fn a_key_has_one_string() {
        let held_by_the_first = strikes(&[(60, 50, 0.0, 4.0), (60, 60, 1.0, 2.0)]);
        assert_eq!(held_by_the_first, [(50, 0.0, 1.0, true), (60, 1.0, 4.0, false)]);
        let apart = strikes(&[(60, 50, 0.0, 1.0), (60, 60, 1.0, 2.0)]);
        assert_eq!(apart, [(50, 0.0, 1.0, false), (60, 1.0, 2.0, false)]);
        let of_two_keys = strikes(&[(60, 50, 0.0, 4.0), (61, 60, 1.0, 2.0)]);
        assert_eq!(of_two_keys, [(50, 0.0, 4.0, false), (60, 1.0, 2.0, false)]);
        let at_once = strikes(&[(60, 50, 1.0, 2.0), (60, 90, 1.0, 1.5), (60, 60, 1.005, 3.0)]);
        assert_eq!(at_once, [(90, 1.0, 3.0, false)]);
    }

    #[test]
    fn keys_are_let_go_of_before_they_are_struck() {
        let notes = [(60, 50, 0.0, 1.0), (60, 60, 1.0, 3.0), (60, 70, 2.0, 3.0)];
        let events = Performance::from_notes(notes.into_iter()).events();
        assert_eq!(events, [(0.0, 60, 50), (1.0, 60, 0), (1.0, 60, 60), (2.0, 60, 70), (3.0, 60, 0)]);
    }

    #[test]
    fn it_ends_with_the_last_damper() {
        let performance =
            Performance::from_notes([(60, 50, 0.0, 4.0), (60, 60, 1.0, 2.0), (62, 1, 3.0, 3.5)].into_iter());
        assert_eq!(performance.end(), 4.0);
        let late = Performance::from_notes([(60, 50, 1.5, 4.0), (62, 1, 3.0, 3.5)].into_iter()).without_rest();
        assert_eq!((late.strikes[0].start, late.strikes[1].end, late.end()), (0.0, 2.0, 2.5));
        assert_eq!(Performance::default().without_rest(), Performance::default());
    }
}
