//! The piano within the program, played at times that are told of as the music comes.

use std::collections::VecDeque;

use super::live::LiveInstrument;
use super::{BLOCK, Instrument, RATES, frame_at};
use crate::{Error, Result};

/// A piano that sounds as [`render`](super::render()) has it, without a fade, block by block.
pub struct TimedPiano {
    piano: LiveInstrument,
    rate: u32,
    /// Frame, pitch, and the velocity of a strike, or 0 where the key is let go of; in the order of the frames.
    coming: VecDeque<(u64, u8, u8)>,
    /// The first frame of the next block.
    frame: u64,
    /// Whether the last block was silent.
    silent: bool,
}

impl TimedPiano {
    /// A piano at so many frames a second.
    ///
    /// # Errors
    /// A rate that cannot be asked for.
    pub fn new(rate: u32) -> Result<Self> {
        if !RATES.contains(&rate) {
            let (low, high) = (RATES.start(), RATES.end());
            return Err(Error::usage(format!("a rate of {rate} Hz"), format!("give one from {low} to {high}")));
        }
        let piano = LiveInstrument::new(&Instrument::Piano, rate)?;
        Ok(Self { piano, rate, coming: VecDeque::new(), frame: 0, silent: true })
    }

    /// Strikes a key at a time in seconds from the beginning, or lets go of it where the velocity is 0; what is past happens at once.
    /// A key that is struck while it sounds need not be let go of.
    pub fn add(&mut self, seconds: f64, pitch: u8, velocity: u8) {
        let frame = frame_at(seconds.max(0.0), self.rate);
        // Behind what happens on the same frame: a key is let go of before it is struck.
        let place = self.coming.partition_point(|(other, ..)| *other <= frame);
        self.coming.insert(place, (frame, pitch, velocity.min(127)));
    }

    /// Seconds of sound made so far.
    pub fn seconds(&self) -> f64 {
        self.frame as f64 / f64::from(self.rate)
    }

    /// Whether nothing sounds and nothing is to come.
    pub fn is_silent(&self) -> bool {
        self.coming.is_empty() && self.silent
    }

    /// Appends the next [`BLOCK`] frames to both channels.
    ///
    /// # Errors
    /// None that is known of.
    pub fn fill(&mut self, left: &mut Vec<f32>, right: &mut Vec<f32>) -> Result<()> {
        let end = self.frame + BLOCK as u64;
        while let Some((frame, pitch, velocity)) = self.coming.front().copied().filter(|(frame, ..)| *frame < end) {
            self.coming.pop_front();
            let at = frame.saturating_sub(self.frame) as usize;
            match velocity {
                0 => self.piano.release(pitch, at),
                _ => self.piano.press(pitch, velocity, at),
            }
        }
        self.frame = end;
        self.silent = true;
        for [l, r] in self.piano.block()? {
            self.silent &= l == 0.0 && r == 0.0;
            left.push(l);
            right.push(r);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::performance;
    use super::super::{Options, limit, sound};
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
        let mut live = TimedPiano::new(options.rate).unwrap();
        let (mut left, mut right) = (vec![], vec![]);
        // Told of as late as it may be.
        let mut events: Vec<(f64, u8, u8)> = vec![];
        for &(pitch, velocity, start, end) in &notes {
            events.push((start, pitch, velocity));
            if (pitch, start) != (60, 0.0) {
                events.push((end, pitch, 0));
            }
        }
        while left.len() < wanted.len() {
            let from = live.seconds();
            let until = from + BLOCK as f64 / f64::from(options.rate);
            let now = events.iter().filter(|(at, ..)| (from..until).contains(at));
            now.for_each(|&(at, pitch, what)| live.add(at, pitch, what));
            live.fill(&mut left, &mut right).unwrap();
        }
        let off = wanted.iter().zip(left.iter().zip(&right)).position(|(a, (l, r))| a != &[*l, *r]);
        assert_eq!(off, None, "the first frame that differs");
        assert!(left.iter().any(|x| x.abs() > 0.01));
    }

    #[test]
    fn what_is_let_go_of_becomes_silent() {
        let mut live = TimedPiano::new(48_000).unwrap();
        live.add(0.0, 60, 90);
        live.add(5.0, 62, 90);
        let (mut left, mut right) = (vec![], vec![]);
        (0..10).for_each(|_| live.fill(&mut left, &mut right).unwrap());
        assert!(!live.is_silent() && left[5000].abs() + left[5001].abs() > 1e-3);
        live.add(0.3, 60, 0);
        live.add(5.1, 62, 0);
        let mut blocks = 0;
        while !live.is_silent() {
            live.fill(&mut left, &mut right).unwrap();
            blocks += 1;
            assert!(blocks < 6 * 48, "six seconds");
        }
        assert!(TimedPiano::new(0).is_err());
    }
}
