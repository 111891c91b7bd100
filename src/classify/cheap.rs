//! A baseline: how far density, polyphony and range alone tell styles apart. A classifier that is no better has heard how full the
//! music is, and no style.

use crate::music::roll::BAR;
use crate::music::{Roll, RollStats};

/// What the baseline knows of a piece: onsets a bar, notes that sound at once, the lowest and the highest pitch and their mean
/// distance.
const FEATURES: usize = 5;

fn features(roll: &Roll) -> [f64; FEATURES] {
    let stats = RollStats::new(roll);
    let bars = (stats.steps as f64 / BAR as f64).max(1.0);
    let [low, high] = [stats.lowest, stats.highest].map(|pitch| f64::from(pitch.unwrap_or(60)));
    [stats.onsets as f64 / bars, stats.mean_polyphony, low, high, high - low]
}

/// A multinomial logistic regression on these features.
#[derive(Clone, Debug, PartialEq)]
pub struct Cheap {
    mean: [f64; FEATURES],
    spread: [f64; FEATURES],
    /// By class: a weight for each feature, and the bias.
    weights: Vec<[f64; FEATURES + 1]>,
}

impl Cheap {
    /// Fits it to rolls with their classes, 0 to `classes`, all classes alike: gradient descent on the cross-entropy with a small
    /// ridge, until it is flat.
    pub fn fit(rolls: &[(&Roll, usize)], classes: usize) -> Self {
        const STEPS: usize = 2000;
        const RATE: f64 = 0.5;
        const RIDGE: f64 = 1e-3;
        let all: Vec<([f64; FEATURES], usize)> = rolls.iter().map(|(roll, class)| (features(roll), *class)).collect();
        let count = all.len().max(1) as f64;
        let mean = std::array::from_fn(|i| all.iter().map(|(x, _)| x[i]).sum::<f64>() / count);
        let variance = |i: usize| all.iter().map(|(x, _)| (x[i] - mean[i]).powi(2)).sum::<f64>() / count;
        let spread = std::array::from_fn(|i| variance(i).sqrt().max(1e-9));
        let mut fitted = Self { mean, spread, weights: vec![[0.0; FEATURES + 1]; classes] };
        let of_class = |class: usize| all.iter().filter(|(_, other)| *other == class).count().max(1) as f64;
        let share: Vec<f64> = (0..classes).map(|class| 1.0 / (of_class(class) * classes as f64)).collect();
        for _ in 0..STEPS {
            let mut gradient: Vec<[f64; FEATURES + 1]> =
                fitted.weights.iter().map(|weights| weights.map(|weight| RIDGE * weight)).collect();
            for (x, class) in &all {
                let x = fitted.scaled(x);
                let p = fitted.probabilities(&x);
                for (k, (gradient, p)) in gradient.iter_mut().zip(p).enumerate() {
                    let error = share[*class] * (p - f64::from(u8::from(k == *class)));
                    gradient.iter_mut().zip(x).for_each(|(gradient, x)| *gradient += error * x);
                }
            }
            for (weights, gradient) in fitted.weights.iter_mut().zip(gradient) {
                weights.iter_mut().zip(gradient).for_each(|(weight, gradient)| *weight -= RATE * gradient);
            }
        }
        fitted
    }

    fn scaled(&self, x: &[f64; FEATURES]) -> [f64; FEATURES + 1] {
        std::array::from_fn(|i| if i < FEATURES { (x[i] - self.mean[i]) / self.spread[i] } else { 1.0 })
    }

    fn probabilities(&self, x: &[f64; FEATURES + 1]) -> Vec<f64> {
        let logits: Vec<f64> = self.weights.iter().map(|w| w.iter().zip(x).map(|(w, x)| w * x).sum()).collect();
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let exponentials: Vec<f64> = logits.iter().map(|z| (z - largest).exp()).collect();
        let sum: f64 = exponentials.iter().sum();
        exponentials.iter().map(|e| e / sum).collect()
    }

    /// The class that it names.
    pub fn class(&self, roll: &Roll) -> usize {
        super::most(&self.probabilities(&self.scaled(&features(roll))))
    }
}
