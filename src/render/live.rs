//! The piano within the program, played as music comes: strikes of which nobody knows yet how long they last.

use std::collections::VecDeque;

use super::piano::Piano;
use super::{BLOCK, RATES, Source, Strike, frame_at, limit};
use crate::{Error, Result};

/// What happens to a key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Happening {
    /// It is struck with this velocity, 1..=127.
    Strike(u8),
    /// It is let go of.
    Release,
}

/// A piano that sounds as [`render`](super::render) has it, without a fade, block by block.
pub struct LivePiano {
    piano: Piano,
    rate: u32,
    /// Frame, pitch, and what happens; in the order of the frames.
    coming: VecDeque<(u64, u8, Happening)>,
    /// The first frame of the next block.
    frame: u64,
}

/// A tone's end while nobody knows it.
const UNKNOWN: u64 = 1 << 60;

impl LivePiano {
    /// A piano at so many frames a second.
    ///
    /// # Errors
    /// A rate that cannot be asked for.
    pub fn new(rate: u32) -> Result<Self> {
        if !RATES.contains(&rate) {
            let (low, high) = (RATES.start(), RATES.end());
            return Err(Error::usage(format!("a rate of {rate} Hz"), format!("give one from {low} to {high}")));
        }
        Ok(Self { piano: Piano::new(rate), rate, coming: VecDeque::new(), frame: 0 })
    }

    /// Has something happen to a key at a time in seconds from the beginning; what is past happens at once. A key that is struck
    /// while it sounds need not be let go of.
    pub fn add(&mut self, seconds: f64, pitch: u8, happening: Happening) {
        let frame = frame_at(seconds.max(0.0), self.rate);
        // Behind what happens on the same frame: a key is let go of before it is struck.
        let place = self.coming.partition_point(|(other, ..)| *other <= frame);
        self.coming.insert(place, (frame, pitch, happening));
    }

    /// Seconds of sound made so far.
    pub fn seconds(&self) -> f64 {
        self.frame as f64 / f64::from(self.rate)
    }

    /// Whether nothing sounds and nothing is to come.
    pub fn is_silent(&self) -> bool {
        self.coming.is_empty() && self.piano.is_silent()
    }

    /// Lets go of all keys now, and forgets what was to come.
    pub fn stop(&mut self) {
        self.coming.clear();
        (0..128).for_each(|pitch| self.piano.release(pitch, 0, false));
    }

    /// Appends the next [`BLOCK`] frames to both channels.
    pub fn fill(&mut self, left: &mut Vec<f32>, right: &mut Vec<f32>) {
        let end = self.frame + BLOCK as u64;
        while let Some((frame, pitch, happening)) = self.coming.front().copied().filter(|(frame, ..)| *frame < end) {
            self.coming.pop_front();
            let at = frame.saturating_sub(self.frame);
            let velocity = match happening {
                Happening::Release => {
                    self.piano.release(pitch, at, false);
                    continue;
                }
                Happening::Strike(velocity) => velocity,
            };
            self.piano.release(pitch, at, true);
            let strike = Strike { pitch, velocity, start: 0.0, end: 0.0, restruck: false };
            self.piano.strike(&strike, at as usize, UNKNOWN);
        }
        self.frame = end;
        for channel in [&mut *left, &mut *right] {
            channel.resize(channel.len() + BLOCK, 0.0);
        }
        let (from, to) = (left.len() - BLOCK, right.len() - BLOCK);
        self.piano.make(&mut left[from..], &mut right[to..]);
        left[from..].iter_mut().chain(&mut right[to..]).for_each(|sample| *sample = limit(*sample));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::performance;
    use super::super::{Instrument, Options, sound};
    use super::*;

    #[test]
    fn it_sounds_as_a_performance_that_is_known_beforehand() {
        let notes =
            [(60, 80, 0.0, 0.9), (43, 40, 0.013, 1.7), (60, 100, 0.5, 0.9), (100, 60, 0.6, 0.61), (72, 30, 1.2, 1.3)];
        let piece = performance(&notes);
        let (mut wanted, options) = (vec![], Options::default());
        sound(&piece, &Instrument::Piano, &options, |left, right| {
            wanted.extend(left.iter().zip(right).map(|(&left, &right)| [limit(left), limit(right)]));
            Ok(())
        })
        .unwrap();
        let mut live = LivePiano::new(options.rate).unwrap();
        let (mut left, mut right) = (vec![], vec![]);
        // Told of as late as it may be.
        let mut events: Vec<(f64, u8, Happening)> = vec![];
        for &(pitch, velocity, start, end) in &notes {
            events.push((start, pitch, Happening::Strike(velocity)));
            if (pitch, start) != (60, 0.0) {
                events.push((end, pitch, Happening::Release));
            }
        }
        while left.len() < wanted.len() {
            let from = live.seconds();
            let until = from + BLOCK as f64 / f64::from(options.rate);
            let now = events.iter().filter(|(at, ..)| (from..until).contains(at));
            now.for_each(|&(at, pitch, what)| live.add(at, pitch, what));
            live.fill(&mut left, &mut right);
        }
        let off = wanted.iter().zip(left.iter().zip(&right)).position(|(a, (l, r))| a != &[*l, *r]);
        assert_eq!(off, None, "the first frame that differs");
        assert!(left.iter().any(|x| x.abs() > 0.01));
    }

    #[test]
    fn what_is_stopped_becomes_silent() {
        let mut live = LivePiano::new(48_000).unwrap();
        live.add(0.0, 60, Happening::Strike(90));
        live.add(5.0, 62, Happening::Strike(90));
        let (mut left, mut right) = (vec![], vec![]);
        (0..10).for_each(|_| live.fill(&mut left, &mut right));
        assert!(!live.is_silent() && left[5000].abs() + left[5001].abs() > 1e-3);
        live.stop();
        let mut blocks = 0;
        while !live.is_silent() {
            live.fill(&mut left, &mut right);
            blocks += 1;
            assert!(blocks < 48, "a second");
        }
        assert!(LivePiano::new(0).is_err());
    }
}
