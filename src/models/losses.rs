//! The losses of a model as values with names.

use serde::ser::SerializeMap;

use crate::{Error, Result};

/// One of a model's losses, a mean over the cells that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Its name in files: `play_bce`.
    pub key: &'static str,
    /// Its name for people: `play`.
    pub label: &'static str,
    /// Whether it is a negative log-likelihood in nats a cell, so that N times it is one of a time step, which is reported
    /// under this name: `play_nats_per_step`.
    pub nats_per_step: Option<&'static str>,
}

/// A value for each of a model's losses.
#[derive(Clone, Debug, PartialEq)]
pub struct LossValues {
    of: &'static [Loss],
    values: Vec<f64>,
    /// Which of them training minimises, in the same order.
    counted: Vec<bool>,
    /// N, notes of a time step.
    notes: usize,
}

impl Loss {
    /// The cross-entropy of whether a note sounds.
    pub const PLAY: Self = Self { key: "play_bce", label: "play", nats_per_step: Some("play_nats_per_step") };
    /// That of whether it is struck again.
    pub const REPLAY: Self = Self { key: "replay_bce", label: "replay", nats_per_step: None };
}

impl LossValues {
    /// One value for each of these losses of a model of so many notes.
    pub fn new(of: &'static [Loss], values: impl IntoIterator<Item = f64>, notes: usize) -> Self {
        Self { of, values: values.into_iter().take(of.len()).collect(), counted: vec![true; of.len()], notes }
    }

    /// The same losses, of which training minimises those with these `keys` only; all with `None`.
    #[must_use]
    pub fn counting(self, keys: Option<&[String]>) -> Self {
        Self { counted: counted(self.of, keys).collect(), ..self }
    }

    /// The same losses with other values, such as means over several updates.
    #[must_use]
    pub fn with_values(&self, values: impl IntoIterator<Item = f64>) -> Self {
        Self { values: values.into_iter().take(self.of.len()).collect(), ..self.clone() }
    }

    /// The sum of those that count: what training minimises and validation compares.
    pub fn total(&self) -> f64 {
        self.values.iter().zip(&self.counted).filter(|(_, counted)| **counted).map(|(value, _)| value).sum()
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

    /// Negative log-likelihoods in nats a time step, of the losses that are some: name and value.
    pub fn nats(&self) -> impl Iterator<Item = (&'static str, f64)> {
        self.iter().filter_map(|(loss, value)| Some((loss.nats_per_step?, value * self.notes as f64)))
    }

    /// The first of [`LossValues::nats`], by which models are compared; 0 where the model has none.
    pub fn nats_per_step(&self) -> f64 {
        self.nats().next().map_or(0.0, |(_, value)| value)
    }

    /// `play 0.1234, replay …`, for people: those that count.
    pub fn listing(&self) -> String {
        let counted = self.iter().zip(&self.counted).filter(|(_, counted)| **counted);
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

/// Of each of a model's losses, whether it counts where those with these `keys` do; all with `None`.
pub(crate) fn counted(of: &'static [Loss], keys: Option<&[String]>) -> impl Iterator<Item = bool> {
    of.iter().map(move |loss| keys.is_none_or(|keys| keys.iter().any(|key| key == loss.key)))
}

/// Fails where a model has no loss of one of these `keys`, or where there is none.
///
/// # Errors
/// Names the key, and lists the losses that there are.
pub(crate) fn check_counted(of: &'static [Loss], keys: Option<&[String]>) -> Result<()> {
    let known = || of.iter().map(|loss| loss.key);
    let remedy = || format!("there is {}", known().collect::<Vec<_>>().join(", "));
    match keys {
        Some([]) => Err(Error::usage("no loss counts in training", remedy())),
        Some(keys) => match keys.iter().find(|key| known().all(|known| known != **key)) {
            Some(key) => Err(Error::usage(format!("the model has no loss `{key}`"), remedy())),
            None => Ok(()),
        },
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF: [Loss; 2] = [
        Loss { key: "a_bce", label: "a", nats_per_step: Some("a_nats_per_step") },
        Loss { key: "b_mse", label: "b", nats_per_step: None },
    ];

    #[test]
    fn the_sum_is_of_the_losses_that_count() {
        let all = LossValues::new(&OF, [0.5, 0.25], 4);
        assert_eq!((all.total(), all.listing().as_str()), (0.75, "a 0.5000, b 0.2500"));
        let first = all.counting(Some(&["a_bce".into()]));
        assert_eq!((first.total(), first.listing().as_str(), first.nats_per_step()), (0.5, "a 0.5000", 2.0));
        assert_eq!(first.values(), [0.5, 0.25]);
        assert_eq!(first.with_values([2.0, 3.0]).total(), 2.0);
        assert_eq!(first.counting(None).total(), 0.75);
    }

    #[test]
    fn unknown_losses_are_named() {
        assert!(check_counted(&OF, None).is_ok() && check_counted(&OF, Some(&["b_mse".into()])).is_ok());
        let e = check_counted(&OF, Some(&["c".into()])).unwrap_err().to_string();
        assert!(e.contains("`c`") && e.contains("a_bce, b_mse"), "{e}");
        assert!(check_counted(&OF, Some(&[])).is_err());
    }
}
