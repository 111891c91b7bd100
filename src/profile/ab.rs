//! Two programs, variants or settings timed in turn: whether one is faster, from pairs of processes.
//!
//! What differs from process to process (where memory came to lie, which clock the device kept to, what else the machine did) is met
//! by both sides alike where their processes run one after the other, in an order that changes from pair to pair. The logarithm of
//! the ratio of a pair's times is one value, and the mean of all pairs has a Student interval: the unit of repetition is the process,
//! not the run within it (Kalibera & Jones, *Rigorous Benchmarking in Reasonable Time*, 2013).

use serde::Serialize;

use crate::statistics::t_95;

/// Pairs that tell how many are needed.
pub const PILOT: usize = 4;
/// The most pairs that are made unasked.
pub const MOST: usize = 60;

/// The times of both sides, pair by pair, in any unit.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Pairs {
    /// First and second side.
    pub times: Vec<[f64; 2]>,
}

/// What pairs say.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// Geometric mean of second time / first - 1.
    pub change: f64,
    /// Bounds of it with 95 % confidence; `None` of fewer than two pairs.
    pub interval: Option<[f64; 2]>,
    /// Whether they differ.
    pub verdict: Verdict,
}

/// Whether two sides differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The second is faster: the interval lies below 0.
    Faster,
    /// The second is slower: the interval lies above 0.
    Slower,
    /// Neither, and the interval lies within the precision that was asked for.
    Same,
    /// The interval holds 0 and is wider than that.
    Undecided,
}

impl Pairs {
    /// Of each pair the logarithm of second / first.
    fn logs(&self) -> Vec<f64> {
        self.times.iter().map(|[first, second]| (second / first).ln()).collect()
    }

    /// The standard deviation of the logarithms; `None` of fewer than two.
    fn deviation(&self) -> Option<f64> {
        let logs = self.logs();
        let n = logs.len() as f64;
        let mean = logs.iter().sum::<f64>() / n;
        (logs.len() > 1).then(|| (logs.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt())
    }

    /// How many pairs give an interval of this half width (0.02 for 2 %), if they vary as these do.
    pub fn needed(&self, precision: f64) -> usize {
        let Some(deviation) = self.deviation() else { return MOST };
        let half = |n: usize| t_95(n - 1) * deviation / (n as f64).sqrt();
        (2..).find(|&n| n > 100_000 || half(n) <= precision.ln_1p()).unwrap_or(MOST)
    }

    /// What they say, where differences of up to `precision` do not matter.
    pub fn ratio(&self, precision: f64) -> Ratio {
        let logs = self.logs();
        let n = logs.len();
        let mean = logs.iter().sum::<f64>() / n.max(1) as f64;
        let bounds = self.deviation().map(|deviation| {
            let half = t_95(n - 1) * deviation / (n as f64).sqrt();
            [mean - half, mean + half]
        });
        let verdict = match bounds {
            Some([_, high]) if high < 0.0 => Verdict::Faster,
            Some([low, _]) if low > 0.0 => Verdict::Slower,
            Some([low, high]) if low.exp_m1() >= -precision && high.exp_m1() <= precision => Verdict::Same,
            _ => Verdict::Undecided,
        };
        Ratio { change: mean.exp_m1(), interval: bounds.map(|bounds| bounds.map(f64::exp_m1)), verdict }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::random::{pcg4d, uniform01};

    /// Pairs of processes that drift together by up to half and differ by `factor`, with noise of `noise`.
    fn pairs(n: u32, factor: f64, noise: f64, seed: u32) -> Pairs {
        let random = |i: u32, word: usize| f64::from(uniform01(pcg4d([i, 7, seed, 9])[word])) - 0.5;
        let pair = |i: u32| {
            let machine = 100.0 * (1.0 + random(i, 0));
            [machine * (1.0 + noise * random(i, 1)), machine * factor * (1.0 + noise * random(i, 2))]
        };
        Pairs { times: (0..n).map(pair).collect() }
    }

    #[test]
    fn a_difference_is_found_beneath_a_machine_that_drifts() {
        let verdicts =
            |factor: f64| (0..20).map(|seed| pairs(20, factor, 0.02, seed).ratio(0.02).verdict).collect::<Vec<_>>();
        assert!(verdicts(1.05).iter().all(|verdict| *verdict == Verdict::Slower));
        assert!(verdicts(0.95).iter().all(|verdict| *verdict == Verdict::Faster));
        let same = verdicts(1.0);
        assert!(same.iter().filter(|verdict| **verdict == Verdict::Same).count() >= 17, "{same:?}");
        let Ratio { change, interval, .. } = pairs(20, 1.05, 0.02, 1).ratio(0.02);
        let [low, high] = interval.unwrap();
        assert!((change - 0.05).abs() < 0.02 && low < change && change < high);
    }

    #[test]
    fn more_pairs_are_needed_for_less() {
        let pilot = pairs(PILOT as u32, 1.0, 0.1, 3);
        let [coarse, fine] = [0.1, 0.01].map(|precision| pilot.needed(precision));
        assert!(coarse < fine && fine > 20, "{coarse} {fine}");
        let exact = Pairs { times: vec![[1.0, 2.0]; 4] };
        assert_eq!(exact.needed(0.01), 2);
        assert_eq!(Pairs { times: vec![[1.0, 2.0]] }.needed(0.01), MOST, "one says nothing of how they vary");
    }

    #[test]
    fn too_few_or_too_noisy_pairs_are_undecided() {
        assert_eq!(Pairs { times: vec![[1.0, 1.5]] }.ratio(0.02).verdict, Verdict::Undecided);
        assert_eq!(pairs(4, 1.0, 0.3, 5).ratio(0.02).verdict, Verdict::Undecided);
    }
}
