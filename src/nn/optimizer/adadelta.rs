//! Adadelta (Zeiler 2012, arXiv 1212.5701), with which the Biaxial LSTM was trained.

use serde::{Deserialize, Serialize};

use super::rule::{Rule, Schedule};
use crate::graph::{Graph, Kind};
use crate::ops::adadelta as op;
use crate::ops::{Uniforms, View};

/// Adadelta with its settings (docs/MODEL.md, "The Biaxial LSTM").
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adadelta {
    /// What the steps are multiplied with; 1 in the paper.
    pub lr: f64,
    /// Decay of the running means of squared gradients and steps.
    pub rho: f64,
    /// Added to both means before their roots are taken.
    pub epsilon: f64,
    /// Largest global gradient norm; 0 leaves gradients as they are.
    pub clip_norm: f64,
}

impl Default for Adadelta {
    fn default() -> Self {
        Self { lr: 1.0, rho: 0.95, epsilon: 1e-6, clip_norm: 5.0 }
    }
}

impl Rule for Adadelta {
    const NAME: &'static str = "adadelta";
    const BUFFERS: &'static [&'static str] = &["s", "d"];

    fn append(&self, graph: &mut Graph, squared_norm: View) {
        let [params, grads] = [Kind::Params, Kind::Grads].map(|kind| graph.shared(kind));
        let [squares, steps] = [0, 1].map(|i| graph.shared(Kind::Optimizer(i)));
        let op = op::Adadelta { len: grads.len, rho: self.rho as f32, epsilon: self.epsilon as f32 };
        graph.apply(op, &[grads, squared_norm, params, squares, steps]);
    }

    fn advance(&self, _: &mut Schedule, uniforms: &mut Uniforms) {
        (uniforms.lr, uniforms.clip_norm) = (self.lr as f32, self.clip_norm as f32);
    }
}
