//! The losses of a model as values with names.

use serde::ser::SerializeMap;

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
        Self { of, values: values.into_iter().take(of.len()).collect(), notes }
    }

    /// Their sum: what training minimises.
    pub fn total(&self) -> f64 {
        self.values.iter().sum()
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

    /// `play 0.1234, replay …`, for people.
    pub fn listing(&self) -> String {
        self.iter().map(|(loss, value)| format!("{} {value:.4}", loss.label)).collect::<Vec<_>>().join(", ")
    }

    /// Appends each loss under its key.
    pub(crate) fn serialize_each<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        self.iter().try_for_each(|(loss, value)| map.serialize_entry(loss.key, &value))
    }

    /// Appends each of [`LossValues::nats`] under its name.
    pub(crate) fn serialize_nats<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        self.nats().try_for_each(|(name, value)| map.serialize_entry(name, &value))
    }
}
