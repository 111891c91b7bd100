//! How loud a piece is to listeners: the integrated loudness of ITU-R BS.1770-4, of which EBU R 128 makes its LUFS.
//!
//! Both channels pass a filter for the head and one for what ears make of low frequencies, and the mean square of blocks of
//! 400 ms, one each 100 ms, is taken. Blocks below -70 LUFS are left out, and then those more than 10 LU below the mean of the
//! others: rests do not count. Filters for any rate are those of De Man, *Evaluation of Implementations of the EBU R128 Loudness
//! Measurement*, AES Convention 145 (2018), which at 48 kHz have the coefficients of BS.1770. Their functions come from `libm`, so
//! that a survey is the same on every machine.

use std::f64::consts::PI;

/// Below this a block is silence, in LUFS.
const SILENCE: f64 = -70.0;
/// So far below the mean of what is no silence a block does not count, in LU.
const GATE: f64 = 10.0;
/// Hops of 100 ms in a block.
const BLOCK: usize = 4;

/// A filter of second order (a biquad, in the transposed direct form II).
#[derive(Clone, Copy)]
struct Filter {
    /// Of the input: b0, b1, b2.
    forward: [f64; 3],
    /// Of the output: a1, a2.
    back: [f64; 2],
    state: [f64; 2],
}

impl Filter {
    /// A shelf that raises what lies above 1.7 kHz by 4 dB, as a head does.
    fn head(rate: u32) -> Self {
        let (gain, quality) = (3.999_843_853_973_347, 0.707_175_236_955_419_6);
        let k = libm::tan(PI * 1_681.974_450_955_533 / f64::from(rate));
        let high = libm::pow(10.0, gain / 20.0);
        let middle = libm::pow(high, 0.499_666_774_154_541_6);
        let scale = 1.0 + k / quality + k * k;
        let forward = [high + middle * k / quality + k * k, 2.0 * (k * k - high), high - middle * k / quality + k * k];
        let back = [2.0 * (k * k - 1.0), 1.0 - k / quality + k * k];
        Self { forward: forward.map(|b| b / scale), back: back.map(|a| a / scale), state: [0.0; 2] }
    }

    /// A high pass at 38 Hz.
    fn ears(rate: u32) -> Self {
        let quality = 0.500_327_037_323_877_3;
        let k = libm::tan(PI * 38.135_470_876_024_44 / f64::from(rate));
        let scale = 1.0 + k / quality + k * k;
        let back = [2.0 * (k * k - 1.0), 1.0 - k / quality + k * k];
        Self { forward: [1.0, -2.0, 1.0], back: back.map(|a| a / scale), state: [0.0; 2] }
    }

    fn next(&mut self, x: f64) -> f64 {
        let y = self.forward[0] * x + self.state[0];
        self.state = [self.forward[1] * x - self.back[0] * y + self.state[1], self.forward[2] * x - self.back[1] * y];
        y
    }
}

/// Measures sound that comes in blocks.
pub struct Meter {
    filters: [[Filter; 2]; 2],
    /// Frames of a hop.
    hop: usize,
    /// Of the hop that is not full: its frames so far, and their squares.
    filled: usize,
    sum: f64,
    /// The mean square of each hop, both channels added.
    hops: Vec<f64>,
    peak: f32,
}

impl Meter {
    /// A meter of sound at `rate` frames a second.
    pub fn new(rate: u32) -> Self {
        let hop = (rate / 10).max(1) as usize;
        let filters = [[Filter::head(rate), Filter::ears(rate)]; 2];
        Self { filters, hop, filled: 0, sum: 0.0, hops: vec![], peak: 0.0 }
    }

    /// Takes the next samples, left and right.
    pub fn push(&mut self, left: &[f32], right: &[f32]) {
        for (&left, &right) in left.iter().zip(right) {
            for (filters, sample) in self.filters.iter_mut().zip([left, right]) {
                self.peak = self.peak.max(sample.abs());
                let filtered = filters.iter_mut().fold(f64::from(sample), |sample, filter| filter.next(sample));
                self.sum += filtered * filtered;
            }
            self.filled += 1;
            if self.filled == self.hop {
                self.hops.push(self.sum / self.hop as f64);
                (self.filled, self.sum) = (0, 0.0);
            }
        }
    }

    /// The largest absolute value of a sample, 1 is full scale.
    pub fn peak(&self) -> f32 {
        self.peak
    }

    /// The integrated loudness in LUFS; `None` of silence, and of less than 400 ms.
    pub fn loudness(&self) -> Option<f64> {
        let blocks = self.hops.windows(BLOCK).map(|hops| hops.iter().sum::<f64>() / BLOCK as f64);
        let loud: Vec<f64> = blocks.filter(|&square| lufs(square) > SILENCE).collect();
        let mean = |squares: &[f64]| squares.iter().sum::<f64>() / squares.len() as f64;
        if loud.is_empty() {
            return None;
        }
        let gate = lufs(mean(&loud)) - GATE;
        let counted: Vec<f64> = loud.into_iter().filter(|&square| lufs(square) > gate).collect();
        Some(lufs(mean(&counted)))
    }
}

fn lufs(square: f64) -> f64 {
    -0.691 + 10.0 * libm::log10(square)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The loudness of sines of 1 kHz on both channels: how long, in seconds, and their peaks in dB of full scale.
    fn of_tones(rate: u32, tones: &[(f64, f64)]) -> Option<f64> {
        let mut meter = Meter::new(rate);
        for &(seconds, level) in tones {
            let peak = 10f64.powf(level / 20.0);
            let sample = |i: u32| (peak * (2.0 * PI * 1000.0 * f64::from(i) / f64::from(rate)).sin()) as f32;
            let tone: Vec<f32> = (0..(seconds * f64::from(rate)) as u32).map(sample).collect();
            tone.chunks(1000).for_each(|part| meter.push(part, part));
        }
        meter.loudness()
    }

    #[test]
    fn filters_are_those_of_the_standard() {
        // ITU-R BS.1770-4, tables 1 and 2.
        let (head, ears) = (Filter::head(48_000), Filter::ears(48_000));
        let close = |found: &[f64], wanted: &[f64]| found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-9);
        assert!(close(&head.forward, &[1.53512485958697, -2.69169618940638, 1.19839281085285]), "{:?}", head.forward);
        assert!(close(&head.back, &[-1.69065929318241, 0.73248077421585]), "{:?}", head.back);
        assert!(close(&ears.back, &[-1.99004745483398, 0.99007225036621]), "{:?}", ears.back);
    }

    #[test]
    fn the_test_signals_of_the_ebu_have_their_loudness() {
        // EBU Tech 3341, cases 1 to 5: within 0.1 LU.
        for rate in [44_100, 48_000, 22_050, 96_000] {
            for (tones, expected) in [
                (&[(20.0, -23.0)][..], -23.0),
                (&[(20.0, -33.0)], -33.0),
                (&[(10.0, -36.0), (60.0, -23.0), (10.0, -36.0)], -23.0),
                (&[(10.0, -72.0), (10.0, -36.0), (60.0, -23.0), (10.0, -36.0), (10.0, -72.0)], -23.0),
                (&[(20.0, -26.0), (20.1, -20.0), (20.0, -26.0)], -23.0),
            ] {
                let found = of_tones(rate, tones).unwrap();
                assert!((found - expected).abs() < 0.1, "{rate} Hz, {tones:?}: {found}");
            }
        }
        assert_eq!(of_tones(44_100, &[(5.0, -90.0)]), None);
        assert_eq!(of_tones(44_100, &[(0.3, -10.0)]), None);
        assert_eq!(Meter::new(44_100).loudness(), None);
    }
}
