//! An update rule as its author writes it, and as the rest of the program sees it.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::graph::Graph;
use crate::ops::{Uniforms, View};

/// How parameters are updated from their gradients.
pub trait Optimizer: fmt::Debug + Send + Sync {
    /// Its name in checkpoints.
    fn name(&self) -> &'static str;
    /// Its settings as a JSON object; the learning rate is called `lr` and the largest global gradient norm `clip_norm`, where
    /// it has them.
    fn settings(&self) -> Value;
    /// The buffers that it keeps, each as long as the parameters and laid out like them: names in checkpoints, in the order
    /// of [`Kind::Optimizer`](crate::graph::Kind::Optimizer).
    fn buffers(&self) -> &'static [&'static str];
    /// Appends the update of all parameters from the gradients in their buffer, whose squared norm stands in `squared_norm`.
    /// With a norm that is not finite nothing may change, so that the cause can be looked for.
    fn append(&self, graph: &mut Graph, squared_norm: View);
    /// Counts an update in `schedule` and puts what the update needs of it into the words of the run.
    fn advance(&self, schedule: &mut Schedule, uniforms: &mut Uniforms);
}

/// An update rule as its author writes it: a type whose fields are its settings. An [`Optimizer`] follows from that.
pub trait Rule: Serialize + DeserializeOwned + fmt::Debug + Send + Sync + 'static {
    /// Its name in checkpoints.
    const NAME: &'static str;
    /// The buffers that it keeps; see [`Optimizer::buffers`].
    const BUFFERS: &'static [&'static str] = &[];

    /// Appends the update of all parameters; see [`Optimizer::append`].
    fn append(&self, graph: &mut Graph, squared_norm: View);
    /// Puts what the update needs of the schedule into the words of the run; the update is already counted in
    /// `schedule.steps`.
    fn advance(&self, schedule: &mut Schedule, uniforms: &mut Uniforms);
}

impl<T: Rule> Optimizer for T {
    fn name(&self) -> &'static str {
        T::NAME
    }

    fn settings(&self) -> Value {
        serde_json::json!(self)
    }

    fn buffers(&self) -> &'static [&'static str] {
        T::BUFFERS
    }

    fn append(&self, graph: &mut Graph, squared_norm: View) {
        Rule::append(self, graph, squared_norm);
    }

    fn advance(&self, schedule: &mut Schedule, uniforms: &mut Uniforms) {
        schedule.steps += 1;
        Rule::advance(self, schedule, uniforms);
    }
}

/// How far an optimiser's schedule has come; part of a checkpoint.
///
/// # Examples
///
/// ```
/// # fn main() -> deepj::Result<()> {
/// use deepj::prelude::*;
///
/// let nadam = optimizer::make("nadam", serde_json::json!({}))?;
/// let (mut schedule, mut uniforms) = (Schedule::default(), Uniforms::default());
/// nadam.advance(&mut schedule, &mut uniforms);
/// assert_eq!(schedule.steps, 1);
/// assert!(schedule.product < 1.0, "the first momentum");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Updates made.
    pub steps: u64,
    /// Product of the momenta of those updates, where the optimiser has a momentum schedule; else 1.
    pub product: f64,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { steps: 0, product: 1.0 }
    }
}
