//! An instrument that is played while it sounds: nobody knows yet when a key will be let go of.

use super::{BLOCK, FAR, Instrument, Source, Strike, limit};
use crate::Result;

/// An instrument that is played key by key, and makes sound block by block.
pub struct LiveInstrument {
    source: Box<dyn Source>,
    /// Keys that are down.
    down: [bool; 128],
    left: Vec<f32>,
    right: Vec<f32>,
}

impl LiveInstrument {
    /// At `rate` frames a second.
    ///
    /// # Errors
    /// A SoundFont that cannot be played at that rate.
    pub fn new(instrument: &Instrument, rate: u32) -> Result<Self> {
        let block = || vec![0.0; BLOCK];
        Ok(Self { source: instrument.source(rate)?, down: [false; 128], left: block(), right: block() })
    }

    /// A key goes down at frame `at` of the block that is made next, with a velocity of 1..=127. One that is down is struck again.
    pub fn press(&mut self, pitch: u8, velocity: u8, at: usize) {
        if self.down[usize::from(pitch & 127)] {
            self.source.release(pitch, at, true);
        }
        self.down[usize::from(pitch & 127)] = true;
        let strike = Strike { pitch, velocity, start: 0.0, end: f64::INFINITY, restruck: false };
        self.source.strike(&strike, at, FAR);
    }

    /// A key goes up there.
    pub fn release(&mut self, pitch: u8, at: usize) {
        if std::mem::take(&mut self.down[usize::from(pitch & 127)]) {
            self.source.release(pitch, at, false);
        }
    }

    /// All keys go up at the beginning of the next block.
    pub fn release_all(&mut self) {
        (0..128).for_each(|pitch| self.release(pitch, 0));
    }

    /// The next [`BLOCK`] frames, left and right, within -1 to 1 as [`render`](super::render()) limits them.
    ///
    /// # Errors
    /// A SoundFont that turns out to be damaged.
    pub fn block(&mut self) -> Result<impl Iterator<Item = [f32; 2]>> {
        self.source.fill(&mut self.left, &mut self.right)?;
        Ok(self.left.iter().zip(&self.right).map(|(&left, &right)| [limit(left), limit(right)]))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::performance;
    use super::super::{Options, sound};
    use super::*;

    /// Keys that are played as it sounds make the sound that a performance of them makes.
    #[test]
    fn what_is_played_live_sounds_as_what_was_known_before() {
        let rate = 44_100;
        let at = |frame: u32| f64::from(frame) / f64::from(rate);
        let piece = performance(&[
            (60, 90, at(100), at(30_000)),
            (64, 70, at(5_000), at(12_000)),
            (64, 80, at(12_000), at(20_000)),
        ]);
        let mut known = vec![];
        let options = Options { rate, ..Options::default() };
        let collect = |left: &[f32], right: &[f32]| {
            known.extend(left.iter().zip(right).map(|(&l, &r)| [l, r]));
            Ok(())
        };
        sound(&piece, &Instrument::Piano, &options, collect).unwrap();
        // Pitch, velocity (0: up) and frame.
        let mut events =
            vec![(60, 90, 100), (64, 70, 5_000), (64, 0, 12_000), (64, 80, 12_000), (64, 0, 20_000), (60, 0, 30_000)]
                .into_iter()
                .peekable();
        let mut live = LiveInstrument::new(&Instrument::Piano, rate).unwrap();
        let mut played = vec![];
        while played.len() + BLOCK <= known.len() {
            let begin = played.len();
            while let Some((pitch, velocity, frame)) = events.next_if(|event| event.2 < begin + BLOCK) {
                match velocity {
                    0 => live.release(pitch, frame - begin),
                    _ => live.press(pitch, velocity, frame - begin),
                }
            }
            played.extend(live.block().unwrap());
        }
        assert!(played == known[..played.len()]);
        assert!(played.iter().flatten().any(|x| x.abs() > 0.01));
        live.press(70, 90, 0);
        live.block().unwrap().for_each(drop);
        live.release_all();
        (0..40).for_each(|_| live.block().unwrap().for_each(drop));
        assert!(live.block().unwrap().all(|frame| frame == [0.0; 2]), "a key that is up is silent in the end");
    }
}
