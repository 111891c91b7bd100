//! Nadam as a layer: the gradient norm, the update, and the momentum schedule (Dozat 2016, with the schedule of Keras
//! that the authors used).

use serde::{Deserialize, Serialize};

use crate::graph::{Graph, Kind};
use crate::ops::Step;
use crate::ops::View;
use crate::ops::nadam::Nadam;
use crate::ops::reduce::{SquaredNorm, SumRows};

/// Settings of the optimiser (spec, "Optimiser").
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// How fast the momentum schedule warms up.
    pub schedule_decay: f64,
    /// Largest global gradient norm; 0 leaves gradients as they are.
    pub clip_norm: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { lr: 0.002, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, schedule_decay: 0.004, clip_norm: 0.0 }
    }
}

/// How far the schedule has come; part of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Updates made.
    pub steps: u64,
    /// Product of the momenta of those updates.
    pub product: f64,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { steps: 0, product: 1.0 }
    }
}

impl Schedule {
    /// Counts one update and puts its factors into `step`.
    pub fn advance(&mut self, settings: &Settings, step: &mut Step) {
        self.steps += 1;
        let t = self.steps as f64;
        let momentum = |t: f64| settings.beta1 * (1.0 - 0.5 * 0.96f64.powf(t * settings.schedule_decay));
        let (now, next) = (momentum(t), momentum(t + 1.0));
        self.product *= now;
        step.lr = settings.lr as f32;
        step.clip_norm = settings.clip_norm as f32;
        step.nadam_gradient = ((1.0 - now) / (1.0 - self.product)) as f32;
        step.nadam_moment = (next / (1.0 - self.product * next)) as f32;
        step.nadam_variance = (1.0 / (1.0 - settings.beta2.powf(t))) as f32;
    }
}

/// Appends the update of all parameters from their gradients; returns the output that holds the squared gradient norm.
pub fn update(graph: &mut Graph, settings: &Settings) -> View {
    let arenas = Kind::ARENAS.map(|kind| graph.arena(kind));
    let [params, grads, moment1, moment2] = arenas;
    let norm = SquaredNorm { len: grads.len };
    let partials = graph.temp("norm_partials", norm.partials());
    let count = norm.partials();
    graph.apply(norm, &[grads, partials]);
    let squared = graph.tensor("squared_norm", 1, Kind::Output);
    graph.apply(SumRows::all(count, 1), &[partials, squared]);
    let nadam = Nadam {
        len: grads.len,
        beta1: settings.beta1 as f32,
        beta2: settings.beta2 as f32,
        epsilon: settings.epsilon as f32,
    };
    graph.apply(nadam, &[grads, squared, params, moment1, moment2]);
    squared
}
