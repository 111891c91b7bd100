//! The losses of a model as values with names.

use std::collections::BTreeMap;
use std::f64::consts::TAU;

use serde::ser::SerializeMap;

use crate::shape::Channel;
use crate::{Error, Result};

/// One of a model's losses, a mean over the cells that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Its name in files: `play_bce`.
    pub key: &'static str,
    /// Its name for people: `play`.
    pub label: &'static str,
    /// What it scores.
    pub channel: Channel,
    /// Where it says something of a negative log-likelihood: its name as one in nats a time step, `play_nats_per_step`.
    pub nats_per_step: Option<&'static str>,
    /// How it says it.
    pub likelihood: Likelihood,
}

/// How a loss is a negative log-likelihood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likelihood {
    /// It is one in nats a cell, so that N times it is one of a time step.
    Exact,
    /// It is the squared error of a value from 0 to 1 that has so many equal steps, counted in cells that sound. What is reported
    /// is the likelihood of a Gaussian around each output, with the one variance that fits best, times the width of a step: what
    /// compares it with a model that gives each step a probability.
    Gaussian {
        /// Steps from 0 to 1, such as 127.
        steps: u16,
    },
}

/// A value for each of a model's losses.
#[derive(Clone, Debug, PartialEq)]
pub struct LossValues {
    of: &'static [Loss],
    values: Vec<f64>,
    /// How much each counts in what training minimises, in the same order.
    weights: Vec<f64>,
    /// N, notes of a time step.
    notes: usize,
    /// The share of cells that sound, where it is known.
    sounding: Option<f64>,
}

impl Loss {
    /// The cross-entropy of whether a note sounds.
    pub const PLAY: Self = Self {
        key: "play_bce",
        label: "play",
        channel: Channel::Play,
        nats_per_step: Some("play_nats_per_step"),
        likelihood: Likelihood::Exact,
    };
    /// That of whether it is struck again, given that it sounds.
    pub const REPLAY: Self = Self {
        key: "replay_bce",
        label: "replay",
        channel: Channel::Replay,
        nats_per_step: Some("replay_nats_per_step"),
        likelihood: Likelihood::Exact,
    };

    /// The same loss where it counts all cells, so that what it says is not given that a note sounds, under another `key`.
    pub const fn unmasked(self, key: &'static str) -> Self {
        Self { key, nats_per_step: None, ..self }
    }

    /// Whether it is, without more, a negative log-likelihood.
    pub fn is_likelihood(&self) -> bool {
        self.nats_per_step.is_some() && self.likelihood == Likelihood::Exact
    }
}

/// Replay where silent cells count too.
pub(super) const REPLAY_OF_ALL: Loss = Loss::REPLAY.unmasked("replay_bce_of_all");

impl LossValues {
    /// One value for each of these losses of a model of so many notes.
    pub fn new(of: &'static [Loss], values: impl IntoIterator<Item = f64>, notes: usize) -> Self {
        Self {
            of,
            values: values.into_iter().take(of.len()).collect(),
            weights: vec![1.0; of.len()],
            notes,
            sounding: None,
        }
    }

    /// The same losses where training minimises their sum with these weights.
    #[must_use]
    pub fn weighted(self, weights: &LossWeights) -> Self {
        Self { weights: in_order(self.of, weights).collect(), ..self }
    }

    /// The same losses, of cells of which this share sounds.
    #[must_use]
    pub fn of_sounding(self, share: f64) -> Self {
        Self { sounding: Some(share), ..self }
    }

    /// The same losses with other values, such as means over several updates.
    #[must_use]
    pub fn with_values(&self, values: impl IntoIterator<Item = f64>) -> Self {
        Self { values: values.into_iter().take(self.of.len()).collect(), ..self.clone() }
    }

    /// The weighted sum of those that count: what training minimises and validation compares.
    pub fn total(&self) -> f64 {
        let counted = self.values.iter().zip(&self.weights).filter(|(_, weight)| **weight != 0.0);
        counted.map(|(value, weight)| value * weight).sum()
    }

    /// The values, in the model's order.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Losses and values, in the model's order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Loss, f64)> {
        self.of.iter().zip(self.values.iter().copied())
    }

    /// The value of the loss with this key.
    pub fn get(&self, key: &str) -> Option<f64> {
        self.iter().find(|(loss, _)| loss.key == key).map(|(_, value)| value)
    }

    /// The value of one of these losses as a negative log-likelihood in nats a time step: where it is one, and for a Gaussian where
    /// the share of cells that sound is known.
    pub fn as_nats(&self, loss: &Loss, value: f64) -> Option<f64> {
        loss.nats_per_step?;
        let a_cell = match loss.likelihood {
            Likelihood::Exact => value,
            Likelihood::Gaussian { steps } => {
                let share = self.sounding.filter(|share| *share > 0.0)?;
                // Values that are rounded to steps vary at least as much as those within one of them.
                let (step, variance) = (1.0 / f64::from(steps), value / share);
                let variance = variance.max(step * step / 12.0);
                share * ((TAU * variance).ln() / 2.0 + 0.5 - step.ln())
            }
        };
        Some(a_cell * self.notes as f64)
    }

    /// Negative log-likelihoods in nats a time step, of the losses that say one: name and value.
    pub fn nats(&self) -> impl Iterator<Item = (&'static str, f64)> {
        self.iter().filter_map(|(loss, value)| Some((loss.nats_per_step?, self.as_nats(loss, value)?)))
    }

    /// That of the first loss that is a likelihood, by which models are compared; 0 where the model has none.
    pub fn nats_per_step(&self) -> f64 {
        let mut likelihoods = self.iter().filter(|(loss, _)| loss.is_likelihood());
        likelihoods.next().and_then(|(loss, value)| self.as_nats(loss, value)).unwrap_or(0.0)
    }

    /// `play 0.1234, replay …`, for people: those that count.
    pub fn listing(&self) -> String {
        let counted = self.iter().zip(&self.weights).filter(|(_, weight)| **weight != 0.0);
        counted.map(|((loss, value), _)| format!("{} {value:.4}", loss.label)).collect::<Vec<_>>().join(", ")
    }

    /// Appends each loss under its key.
    pub(crate) fn serialize_each<M: SerializeMap>(&self, map: &mut M) -> std::result::Result<(), M::Error> {
        self.iter().try_for_each(|(loss, value)| map.serialize_entry(loss.key, &value))
    }

    /// Appends each of [`LossValues::nats`] under its name.
    pub(crate) fn serialize_nats<M: SerializeMap>(&self, map: &mut M) -> std::result::Result<(), M::Error> {
        self.nats().try_for_each(|(name, value)| map.serialize_entry(name, &value))
    }
}

/// How much some losses count in what training minimises, by their [labels](Loss::label). The others count once.
pub type LossWeights = BTreeMap<String, f64>;

/// The weight of each of a model's losses.
pub(crate) fn in_order(of: &'static [Loss], weights: &LossWeights) -> impl Iterator<Item = f64> {
    of.iter().map(|loss| weights.get(loss.label).copied().unwrap_or(1.0))
}

/// The weights with which one loss alone counts.
pub(crate) fn alone(of: &'static [Loss], loss: &Loss) -> LossWeights {
    of.iter().filter(|other| *other != loss).map(|other| (other.label.into(), 0.0)).collect()
}

/// Fails on weights that make no sum of a model's losses.
///
/// # Errors
/// Names a loss that the model does not have, and lists those that it has, or a weight that is negative or not finite. Or no loss
/// counts.
pub(crate) fn check_weights(of: &'static [Loss], weights: &LossWeights) -> Result<()> {
    let known = || of.iter().map(|loss| loss.label).collect::<Vec<_>>().join(", ");
    for (label, weight) in weights {
        if of.iter().all(|loss| loss.label != label) {
            return Err(Error::usage(format!("the model has no loss `{label}`"), format!("there is {}", known())));
        }
        if !(0.0..=MAX_WEIGHT).contains(weight) {
            let what = format!("the loss `{label}` counts {weight} times");
            return Err(Error::usage(what, format!("give a weight from 0 to {MAX_WEIGHT}")));
        }
    }
    if in_order(of, weights).all(|weight| weight == 0.0) {
        let remedy = format!("give one of {} a weight above 0", known());
        return Err(Error::usage("no loss counts in training", remedy));
    }
    Ok(())
}

/// Far above any use, and far below what overflows.
const MAX_WEIGHT: f64 = 1e6;

#[cfg(test)]
mod tests {
    use super::*;

    const OF: [Loss; 2] = [
        Loss { key: "a_bce", label: "a", nats_per_step: Some("a_nats_per_step"), ..Loss::PLAY },
        Loss {
            key: "b_mse",
            label: "b",
            channel: Channel::Dynamics,
            nats_per_step: Some("b_nats_per_step"),
            likelihood: Likelihood::Gaussian { steps: 127 },
        },
    ];

    fn weights(of: &[(&str, f64)]) -> LossWeights {
        of.iter().map(|&(label, weight)| (label.into(), weight)).collect()
    }

    #[test]
    fn the_sum_is_of_the_losses_as_they_count() {
        let all = LossValues::new(&OF, [0.5, 0.25], 4);
        assert_eq!((all.total(), all.listing().as_str()), (0.75, "a 0.5000, b 0.2500"));
        let more = all.clone().weighted(&weights(&[("b", 4.0)]));
        assert_eq!((more.total(), more.values()), (1.5, &[0.5, 0.25][..]), "what is reported has no weight");
        let first = all.weighted(&alone(&OF, &OF[0]));
        assert_eq!((first.total(), first.listing().as_str(), first.nats_per_step()), (0.5, "a 0.5000", 2.0));
        assert_eq!(first.values(), [0.5, 0.25]);
        assert_eq!(first.with_values([2.0, f64::NAN]).total(), 2.0);
        assert_eq!(first.weighted(&weights(&[])).total(), 0.75);
    }

    /// Beside the sum over the steps of a Gaussian that is much wider than they are.
    #[test]
    fn a_squared_error_is_the_likelihood_of_a_gaussian() {
        let (share, variance, notes) = (0.1, 0.01f64, 48);
        let values = LossValues::new(&OF, [0.5, share * variance], notes);
        assert_eq!(values.nats().collect::<Vec<_>>(), [("a_nats_per_step", 24.0)], "the share is not known");
        let density = |x: f64| (-x * x / (2.0 * variance)).exp() / (TAU * variance).sqrt();
        let errors: Vec<f64> = (-1270..=1270).map(|i| f64::from(i) / 1270.0).collect();
        let weights: f64 = errors.iter().map(|&x| density(x)).sum();
        // The mean of -ln(probability of a step) over errors that are spread as the Gaussian says.
        let nats = errors.iter().map(|&x| -density(x) * (density(x) / 127.0).ln()).sum::<f64>() / weights;
        let found = values.clone().of_sounding(share).nats().nth(1).unwrap();
        let expected = share * notes as f64 * nats;
        assert!(found.0 == "b_nats_per_step" && (found.1 - expected).abs() < 1e-6 * expected, "{found:?} {expected}");
        let exact = values.with_values([0.0, 0.0]).of_sounding(share).nats().nth(1).unwrap().1;
        assert!(exact.is_finite() && exact < found.1, "{exact}");
    }

    #[test]
    fn weights_that_make_no_sum_are_refused() {
        let fails = |of: &[(&str, f64)]| check_weights(&OF, &weights(of)).unwrap_err().to_string();
        assert!(
            check_weights(&OF, &weights(&[])).is_ok()
                && check_weights(&OF, &weights(&[("b", 10.0), ("a", 0.0)])).is_ok()
        );
        let e = fails(&[("b_mse", 1.0)]);
        assert!(e.contains("`b_mse`") && e.contains("a, b"), "{e}");
        for weight in [-1.0, f64::NAN, f64::INFINITY, 1e30] {
            assert!(fails(&[("b", weight)]).contains("`b`"), "{weight}");
        }
        assert!(fails(&[("a", 0.0), ("b", 0.0)]).contains("no loss counts"));
    }
}
