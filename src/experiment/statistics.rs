//! Means over seeds, and differences between configurations that had the same seeds.

use serde::Serialize;

use crate::statistics::t_95;

/// Figures of several seeds together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// How many there are.
    pub seeds: usize,
    /// Their mean.
    pub mean: f64,
    /// Their sample standard deviation; none of fewer than two.
    pub spread: Option<f64>,
    /// The bounds within which the mean of all seeds lies with 95 % confidence (Student's t), if figures are normally distributed;
    /// none of fewer than two.
    pub interval: Option<[f64; 2]>,
}

impl Summary {
    /// Of these figures; `None` where there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let seeds = values.len();
        if seeds == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / seeds as f64;
        let (mut spread, mut interval) = (None, None);
        if seeds > 1 {
            let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
            let deviation = (squares / (seeds - 1) as f64).sqrt();
            let half = t_95(seeds - 1) * deviation / (seeds as f64).sqrt();
            (spread, interval) = (Some(deviation), Some([mean - half, mean + half]));
        }
        Some(Self { seeds, mean, spread, interval })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_those_computed_by_hand() {
        // Mean 4, squares 4 + 0 + 4 over 2, so a deviation of 2; half the interval is 4.3027 * 2 / sqrt(3).
        let summary = Summary::of(&[2.0, 4.0, 6.0]).unwrap();
        assert_eq!((summary.seeds, summary.mean, summary.spread), (3, 4.0, Some(2.0)));
        let [low, high] = summary.interval.unwrap();
        assert!((low - (4.0 - 4.9683)).abs() < 1e-4 && (high - (4.0 + 4.9683)).abs() < 1e-4, "{low} {high}");
        let one = Summary::of(&[1.5]).unwrap();
        assert_eq!(one, Summary { seeds: 1, mean: 1.5, spread: None, interval: None });
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(Summary::of(&[1.0, 1.0]).unwrap().interval, Some([1.0, 1.0]));
    }
}
