//! Nadam (Dozat 2016, "Incorporating Nesterov Momentum into Adam"), with the momentum schedule of Keras that DeepJ's authors
//! used.

use serde::{Deserialize, Serialize};

use super::rule::{Rule, Schedule};
use crate::graph::{Graph, Kind};
use crate::ops::nadam as op;
use crate::ops::{Uniforms, View};

/// Nadam with its settings (docs/MODEL.md, "Optimiser").
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Nadam {
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

impl Default for Nadam {
    fn default() -> Self {
        Self { lr: 0.002, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, schedule_decay: 0.004, clip_norm: 0.0 }
    }
}

impl Rule for Nadam {
    const NAME: &'static str = "nadam";
    const BUFFERS: &'static [&'static str] = &["m", "v"];

    fn append(&self, graph: &mut Graph, squared_norm: View) {
        let [params, grads] = [Kind::Params, Kind::Grads].map(|kind| graph.shared(kind));
        let [moment1, moment2] = [0, 1].map(|i| graph.shared(Kind::Optimizer(i)));
        let nadam = op::Nadam {
            len: grads.len,
            beta1: self.beta1 as f32,
            beta2: self.beta2 as f32,
            epsilon: self.epsilon as f32,
        };
        graph.apply(nadam, &[grads, squared_norm, params, moment1, moment2]);
    }

    fn advance(&self, schedule: &mut Schedule, uniforms: &mut Uniforms) {
        let t = schedule.steps as f64;
        let momentum = |t: f64| self.beta1 * (1.0 - 0.5 * 0.96f64.powf(t * self.schedule_decay));
        let (now, next) = (momentum(t), momentum(t + 1.0));
        schedule.product *= now;
        uniforms.lr = self.lr as f32;
        uniforms.clip_norm = self.clip_norm as f32;
        let moment = next / (1.0 - schedule.product * next);
        let gradient = (1.0 - now) / (1.0 - schedule.product);
        let variance = 1.0 / (1.0 - self.beta2.powf(t));
        uniforms.factors = [moment, gradient, variance].map(|factor| factor as f32);
    }
}
