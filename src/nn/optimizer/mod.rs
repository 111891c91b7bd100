//! Optimisers behind one type: which buffers they keep, how they update the parameters from the gradients, and how their
//! schedule goes on. Those that there are register themselves by name ([`register`]); a checkpoint stores name and settings.

use std::ops::Range;
use std::sync::Arc;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result, nearest};
use crate::gpu::Format;
use crate::graph::{Graph, Kind, Layout, Plan};
use crate::ops::View;
use crate::ops::add::Add;
use crate::ops::cast::Cast;
use crate::ops::ema::Ema;
use crate::ops::reduce::{SquaredNorm, SumRows};

pub mod adadelta;
pub mod nadam;
mod rate;
mod rule;

pub use rate::{RateCurve, RateSchedule};
pub use rule::{Optimizer, Rule, Schedule};

use adadelta::Adadelta;
use nadam::Nadam;

/// Appends the squared norm of all gradients and the update to a graph, and where it has a decay the running mean of the parameters,
/// which stands in the buffer after the optimiser's; returns the output `[1]` that holds the norm.
pub fn append(optimizer: &dyn Optimizer, ema: Option<f64>, graph: &mut Graph) -> View {
    let grads = graph.shared(Kind::Grads);
    graph.scope("update", |graph| {
        let norm = SquaredNorm { len: grads.len };
        let count = norm.partials();
        let partials = graph.temp("norm_partials", count);
        graph.apply(norm, &[grads, partials]);
        let squared = graph.tensor("squared_norm", 1, Kind::Output);
        graph.apply(SumRows::all(count, 1), &[partials, squared]);
        optimizer.append(graph, squared);
        if let Some(decay) = ema {
            let [params, mean] = [Kind::Params, mean_buffer(optimizer)].map(|kind| graph.shared(kind));
            graph.apply(Ema { len: params.len, decay: decay as f32 }, &[squared, params, mean]);
        }
        squared
    })
}

/// The plan of an update of parameters laid out like this, apart from the plan that makes the gradients: so these can be
/// accumulated, summed over processes or looked at before. Returns it with the output `[1]` of the squared gradient norm.
pub fn plan(optimizer: &dyn Optimizer, ema: Option<f64>, layout: &Arc<Layout>) -> (Plan, View) {
    let mut graph = Graph::new(layout.clone());
    let squared_norm = append(optimizer, ema, &mut graph);
    (Plan::compile(format!("update {}", optimizer.name()), graph), squared_norm)
}

/// The buffer of the running mean of parameters that an optimiser updates.
pub fn mean_buffer(optimizer: &dyn Optimizer) -> Kind {
    Kind::Optimizer(optimizer.buffers().len() as u8)
}

/// How the gradients of the parts of a batch are summed.
pub struct Accumulation {
    /// The first plan follows the last part and leaves the sum of all in the gradients; after any other part, with the number
    /// `part`, runs plan `1 + part.trailing_ones()`.
    pub plans: Vec<Plan>,
    /// So many nodes of the first plan sum the gradients that are wanted early.
    pub early: usize,
}

/// The plans by which the gradients of so many parts of a batch are summed, those of neighbours, then such sums of neighbours, and
/// so on: what ranks do that each have some of the parts, so the sum is the same bits. Sums of `2^i` parts wait in a buffer
/// each, behind the running mean's. The gradients in the ranges `early`, in their order, are summed first.
pub fn accumulation(
    optimizer: &dyn Optimizer,
    layout: &Arc<Layout>,
    parts: usize,
    early: &[Range<usize>],
) -> Accumulation {
    let last = parts.saturating_sub(1);
    let levels = last.checked_ilog2().map_or(0, |level| level + 1);
    let waiting = |level: u32| Kind::Optimizer((optimizer.buffers().len() as u32 + 1 + level) as u8);
    // `joined` has a bit for each level whose sum is added.
    let plan = |name: &str, joined: usize, kept: Option<u32>, ranges: &[Range<usize>]| {
        let mut graph = Graph::new(layout.clone());
        let grads = graph.shared(Kind::Grads);
        for range in ranges {
            for level in (0..levels).filter(|level| joined >> level & 1 == 1) {
                let operands = [graph.shared(waiting(level)), grads].map(|of| of.slice(range.start, range.len()));
                graph.apply(Add { len: range.len(), stored: Format::F32 }, &operands);
            }
        }
        if let Some(level) = kept {
            let sum = graph.shared(waiting(level));
            graph.apply(Cast { len: grads.len, from: Format::F32, to: Format::F32 }, &[grads, sum]);
        }
        Plan::compile(name, graph)
    };
    let all = 0..layout.len();
    let keep = |level: u32| plan("keep gradients", (1 << level) - 1, Some(level), std::slice::from_ref(&all));
    let mut ranges = early.to_vec();
    ranges.extend(others(early, layout.len()));
    let sum = plan("sum gradients", last, None, &ranges);
    let plans = std::iter::once(sum).chain((0..levels).map(keep)).collect();
    Accumulation { plans, early: early.len() * last.count_ones() as usize }
}

/// What of `0..len` is in none of `ranges`, which are in their order.
fn others(ranges: &[Range<usize>], len: usize) -> Vec<Range<usize>> {
    let starts = std::iter::once(0).chain(ranges.iter().map(|range| range.end));
    let ends = ranges.iter().map(|range| range.start).chain([len]);
    starts.zip(ends).map(|(start, end)| start..end).filter(|range| !range.is_empty()).collect()
}

/// Makes an optimiser from its settings, a JSON object in which what is left out has its default.
type Make = fn(Value) -> Result<Arc<dyn Optimizer>>;

/// Those of this crate, and those that were registered.
static BUILT_IN: [(&str, Make); 2] =
    [(Nadam::NAME, from_settings::<Nadam>), (Adadelta::NAME, from_settings::<Adadelta>)];
static REGISTERED: RwLock<Vec<(&str, Make)>> = RwLock::new(vec![]);

/// The optimiser that networks are trained with unless they say otherwise, and that of checkpoints that name none.
pub const DEFAULT: &str = Nadam::NAME;

/// Makes an update rule known by its name, as those of this crate are.
pub fn register<T: Rule>() {
    let mut registered = REGISTERED.write();
    registered.retain(|(other, _)| *other != T::NAME);
    registered.push((T::NAME, from_settings::<T>));
}

fn from_settings<T: Rule>(settings: Value) -> Result<Arc<dyn Optimizer>> {
    let made: T = serde_json::from_value(settings).map_err(|e| {
        Error::model(format!("settings of the optimiser {}: {e}", T::NAME), "leave out what it does not have")
    })?;
    Ok(Arc::new(made))
}

/// The optimiser of this name with these settings.
///
/// # Errors
/// An unknown name or field, or a value of another type.
///
/// # Examples
///
/// ```
/// # fn main() -> deepj::Result<()> {
/// use deepj::prelude::*;
///
/// let nadam = optimizer::make("nadam", serde_json::json!({ "lr": 0.01 }))?;
/// // What changes from update to update is kept outside of it, and given to the kernels as uniforms.
/// let (mut schedule, mut uniforms) = (Schedule::default(), Uniforms::default());
/// nadam.advance(&mut schedule, &mut uniforms);
/// assert_eq!(uniforms.lr, 0.01);
/// assert!(optimizer::make("sdg", serde_json::json!({})).is_err());
/// # Ok(())
/// # }
/// ```
pub fn make(name: &str, settings: Value) -> Result<Arc<dyn Optimizer>> {
    let known = [&BUILT_IN[..], &REGISTERED.read()].concat();
    let Some((_, make)) = known.iter().find(|(known, _)| *known == name) else {
        let names = known.iter().map(|(name, _)| *name).collect();
        return Err(Error::usage(format!("there is no optimiser `{name}`"), nearest(name, names)));
    };
    make(settings)
}

/// Looks at the learning rate and the largest global gradient norm (0 for no limit) among an optimiser's settings.
///
/// # Errors
/// A rate that is not above 0, or a norm below 0, or either not finite.
pub fn check_rates(optimizer: &dyn Optimizer) -> Result<()> {
    let settings = optimizer.settings();
    // JSON has no number for what is not finite.
    let number = |name: &str| settings.get(name).map(|value| value.as_f64().unwrap_or(f64::NAN));
    match (number("lr"), number("clip_norm")) {
        (Some(lr), _) if !lr.is_finite() || lr <= 0.0 => {
            Err(Error::usage(format!("--lr {lr}"), "give a number above 0, for example 0.002"))
        }
        (_, Some(norm)) if !norm.is_finite() || norm < 0.0 => {
            Err(Error::usage(format!("--clip-norm {norm}"), "give 0 for no limit, or a number above 0"))
        }
        _ => Ok(()),
    }
}

/// An optimiser as a checkpoint stores it: its settings with its name among them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub struct Stored(pub Arc<dyn Optimizer>);

impl PartialEq for Stored {
    fn eq(&self, other: &Self) -> bool {
        self.0.name() == other.0.name() && self.0.settings() == other.0.settings()
    }
}

impl TryFrom<Value> for Stored {
    type Error = Error;

    fn try_from(mut value: Value) -> Result<Self> {
        // Checkpoints from before there was a choice have no name.
        let name = value.as_object_mut().and_then(|fields| fields.remove("name"));
        let name = name.as_ref().map_or(Some(DEFAULT), Value::as_str).unwrap_or_default();
        make(name, value).map(Self)
    }
}

impl From<Stored> for Value {
    fn from(stored: Stored) -> Self {
        let mut fields = Map::from_iter([("name".to_string(), Value::from(stored.0.name()))]);
        if let Value::Object(settings) = stored.0.settings() {
            fields.extend(settings);
        }
        Value::Object(fields)
    }
}
