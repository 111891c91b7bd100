//! Every op in every variant on an adapter against its f64 reference, with shapes that have tails, cuts and folded grids; and
//! whole updates of the model. `deepj verify` runs this on testers' machines, `cargo test --test kernels` in development.

// The references are written with the indices of the formulas.
#![allow(clippy::needless_range_loop)]

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::gpu::{Capabilities, Machine, Shader};
use crate::ops::Recorder;

pub mod harness;
pub mod known;
pub mod networks;

mod adadelta;
mod add;
mod biaxial_features;
mod carry;
mod cast;
mod dropout;
mod ema;
mod features;
mod gemm;
mod heads;
mod lstm;
mod lstm_pair;
mod nadam;
mod neighbours;
mod note_input;
mod note_sweep;
mod octave_conv;
mod reduce;
mod softmax_loss;
mod tanh_grad;

use harness::adapters::{self, Adapter};
use harness::comparison::Margin;
use harness::{Case, Gradient, case, gradient, kernel};
use known::Known;
use networks::{GenerationCase, OtherDraw, TrainingCase};

/// All cases of all ops.
pub fn cases() -> Vec<Case> {
    let of_ops = [
        adadelta::cases,
        add::cases,
        biaxial_features::cases,
        carry::cases,
        cast::cases,
        dropout::cases,
        ema::cases,
        features::cases,
        gemm::cases,
        heads::cases,
        lstm::cases,
        lstm_pair::cases,
        nadam::cases,
        neighbours::cases,
        note_input::cases,
        note_sweep::cases,
        octave_conv::cases,
        reduce::cases,
        softmax_loss::cases,
        tanh_grad::cases,
    ];
    of_ops.into_iter().flat_map(|cases| cases()).collect()
}

/// Runs a case of each text that a kernel has in a variant, on the adapter of this machine with these capabilities.
///
/// # Errors
/// The first case whose results are wrong; no such adapter or case.
pub async fn check_variant(capabilities: &Capabilities, kernel: &str, variant: &str) -> Result<(), String> {
    let machine = Machine::of(capabilities);
    let adapter = adapters::all().await.into_iter().find(|adapter| Machine::of(&adapter.capabilities) == machine);
    let adapter = adapter.ok_or_else(|| format!("{machine} is not among the adapters"))?;
    let offered = adapter.with_emulation(&adapter.capabilities);
    let mut seen = vec![];
    for case in cases().into_iter().filter(|case| case.op.kernel() == kernel && !case.is_limited()) {
        let Ok(recorded) = Recorder::record(case.op.as_ref(), variant, &offered, &kernel::views(&case, true)) else {
            continue;
        };
        let shaders: Vec<_> = recorded.dispatches.into_iter().map(|dispatch| dispatch.shader).collect();
        if shaders.iter().any(|shader| !seen.contains(shader)) {
            seen.extend(shaders);
            kernel::run(&case, variant, &adapter).await.map_err(|error| format!("{case}: {error}"))?;
        }
    }
    if seen.is_empty() { Err(format!("no case has {kernel}={variant}")) } else { Ok(()) }
}

/// All gradients that are held against central differences.
pub fn gradients() -> Vec<Gradient> {
    let of_ops = [
        add::gradients,
        dropout::gradients,
        features::gradients,
        gemm::gradients,
        heads::gradients,
        lstm::gradients,
        lstm_pair::gradients,
        note_input::gradients,
        octave_conv::gradients,
        reduce::gradients,
        softmax_loss::gradients,
    ];
    of_ops.into_iter().flat_map(|gradients| gradients()).collect()
}

/// Where in training a kernel runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pass {
    /// On the way to the losses, and in generation.
    Forward,
    /// On the way back: gradients of inputs and weights.
    Backward,
    /// Changes the parameters.
    Update,
    /// The whole model.
    Model,
}

impl Pass {
    /// That of an op, by its label: forward if evaluation or generation run such an op. A product's gradients are products
    /// with a transposed factor.
    pub fn of(label: &str) -> Self {
        let backward = |word| {
            matches!(word, "backward" | "gradient" | "NT" | "TN" | "squared_norm") || str::ends_with(word, "_grad")
        };
        match label.split(' ').next() {
            Some("nadam") => Self::Update,
            _ if label.split(' ').any(backward) => Self::Backward,
            _ => Self::Forward,
        }
    }
}

/// What came of a check.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Within all bounds.
    Passed(Margin),
    /// An error.
    Failed(String),
    /// An error that `known.rs` lists.
    Known(&'static Known, String),
    /// Within all bounds, although `known.rs` lists it as failing.
    Fixed(&'static Known, Margin),
}

/// Margin, and random draws with another result; or what is wrong.
type Outcome = Result<(Margin, Vec<OtherDraw>), String>;

/// What is awaited of it, on the thread that began it.
type Running = Pin<Box<dyn Future<Output = Outcome>>>;

/// Something that is computed with a shape, in one way, on one device, and held against what it must be.
pub struct Check {
    /// `op/shape/variant/adapter`.
    pub name: String,
    /// The op and its kind, without the shape, then ` / ` and the variant.
    pub row: String,
    /// The adapter's name, or `cpu`.
    pub on: String,
    /// Where in training it runs.
    pub pass: Pass,
    /// Those of one number on an adapter share its devices and the kernels that these have compiled, and run on one thread
    /// at a time. The last of them takes the devices with it.
    pub batch: usize,
    run: Box<dyn Fn() -> Running + Send + Sync>,
}

impl Check {
    /// Runs it. Random draws of a generation with another result are no failure; they are
    /// told of beside the verdict.
    pub async fn run(&self) -> (Verdict, Vec<OtherDraw>) {
        match ((self.run)().await, known::find(&self.name, &self.on)) {
            (Ok((margin, other_draws)), None) => (Verdict::Passed(margin), other_draws),
            (Err(error), None) => (Verdict::Failed(error), vec![]),
            (Ok((margin, other_draws)), Some(known)) => (Verdict::Fixed(known, margin), other_draws),
            (Err(error), Some(known)) => (Verdict::Known(known, error), vec![]),
        }
    }
}

/// A check before it has a device: where it belongs in reports.
struct Place {
    row: String,
    pass: Pass,
}

impl Place {
    fn of(label: &str, variant: &str) -> Self {
        Self { row: row(label, variant), pass: Pass::of(label) }
    }

    fn of_model(what: &str, way: &str) -> Self {
        Self { row: format!("{MODEL} {what} / {way}"), pass: Pass::Model }
    }

    fn on_cpu(self, name: String, run: impl Fn() -> Outcome + Send + Sync + 'static) -> Check {
        let run = Box::new(move || -> Running { Box::pin(ready(run())) });
        Check { name, row: self.row, on: "cpu".into(), pass: self.pass, batch: 0, run }
    }
}

/// A check of an adapter before it has devices.
struct Planned {
    place: Place,
    name: String,
    run: Box<dyn Fn(Arc<Adapter>) -> Running + Send + Sync>,
}

impl Planned {
    /// What the checks compile that had better share a device: an op of a kind in one variant, or the model.
    fn kernels(&self) -> &str {
        if self.place.pass == Pass::Model { MODEL } else { &self.place.row }
    }

    fn on(self, adapter: &Arc<Adapter>, batch: usize) -> Check {
        let Self { place: Place { row, pass }, name, run } = self;
        let on = adapter.clone();
        let run = move || -> Running {
            let (on, outcome) = (on.clone(), run(on.clone()));
            Box::pin(async move {
                let outcome = outcome.await;
                if outcome.is_err() {
                    on.reopen();
                }
                outcome
            })
        };
        Check { name, row, on: adapter.name.clone(), pass, batch, run: Box::new(run) }
    }
}

/// All that is checked. The f64 reference's results are computed once, when they are first needed.
pub struct Suite {
    /// Ops.
    pub cases: Vec<Arc<Case>>,
    trainings: Vec<Arc<TrainingCase>>,
    generations: Vec<Arc<GenerationCase>>,
}

impl Suite {
    /// All that there is.
    pub fn new() -> Self {
        Self {
            cases: cases().into_iter().map(Arc::new).collect(),
            trainings: TrainingCase::all().into_iter().map(Arc::new).collect(),
            generations: GenerationCase::all().into_iter().map(Arc::new).collect(),
        }
    }

    /// The checks of an adapter beside one that has had all: [the largest cases](Suite::largest) in every variant (with WebGPU's
    /// limits those that are not cut as for a lesser device in the first), then the model.
    pub fn also_on(&self, adapter: &Arc<Adapter>) -> Vec<Check> {
        let largest = self.largest();
        let variants = |case: &Case| match largest.iter().any(|other| std::ptr::eq(other.as_ref(), case)) {
            true if adapter.is_portable() => usize::from(!case.is_limited()),
            true => usize::MAX,
            false => 0,
        };
        batches(self.planned(adapter, variants, usize::MAX), adapter)
    }

    /// All checks on an adapter: every case in every variant that is supported there, then the model. With WebGPU's limits,
    /// the first variant of each case that is not cut as for a lesser device, and of the largest of each kind all.
    pub fn on_adapter(&self, adapter: &Arc<Adapter>) -> Vec<Check> {
        let variants = |case: &Case| match adapter.is_portable() {
            true if case.is_limited() => 0,
            true if !self.is_largest(case) => 1,
            _ => usize::MAX,
        };
        batches(self.planned(adapter, variants, usize::MAX), adapter)
    }

    /// What tells most in little time: [the largest cases](Suite::largest) in every variant, and the model in one way.
    pub fn quickly_on(&self, adapter: &Arc<Adapter>) -> Vec<Check> {
        let largest = self.largest();
        let variants = |case: &Case| match largest.iter().any(|other| std::ptr::eq(other.as_ref(), case)) {
            true => usize::MAX,
            false => 0,
        };
        batches(self.planned(adapter, variants, 1), adapter)
    }

    /// The same of the CPU backend.
    pub fn quickly_on_cpu(&self) -> Vec<Check> {
        const BACKEND: &str = "cpu f32";
        let largest = self.largest().into_iter().map(|case| path(&case.to_string(), BACKEND, "cpu"));
        let largest: BTreeSet<String> = largest.collect();
        let is_quick =
            |check: &Check| largest.contains(&check.name) || check.pass == Pass::Model && check.row.ends_with(BACKEND);
        self.on_cpu().into_iter().filter(is_quick).collect()
    }

    /// One case for each op, mode, format and special note: the costliest. Of the cases that are cut as for a lesser device, one
    /// for each op and each limit.
    pub fn largest(&self) -> Vec<Arc<Case>> {
        let key = |case: &Case| {
            let label = case.op.label();
            let mode = if case.is_limited() { row(&label, "") } else { mode(&label) };
            (mode, case.to_string()[label.len()..].to_string())
        };
        let mut largest: BTreeMap<_, &Arc<Case>> = BTreeMap::new();
        for case in &self.cases {
            let cost = |case: &Case| (case.op.cost().flops, case.op.cost().bytes);
            let kept = largest.entry(key(case)).or_insert(case);
            if cost(case) > cost(kept) {
                *kept = case;
            }
        }
        largest.into_values().cloned().collect()
    }

    /// So many variants of each case, then so many networks' training and generation, each in as many ways.
    fn planned(&self, adapter: &Adapter, variants: impl Fn(&Case) -> usize, model: usize) -> Vec<Planned> {
        let mut planned = vec![];
        let offered = adapter.with_emulation(&adapter.capabilities);
        // Where invocations stand in for hardware, a text takes many seconds to compile, and one case of each is enough.
        let mut texts: Vec<Vec<Shader>> = vec![];
        for case in &self.cases {
            let label = case.op.label();
            for variant in case.op.supported(&offered).into_iter().take(variants(case)) {
                let emulated = case.op.experimental().contains(&variant) && offered != adapter.capabilities;
                if emulated {
                    let recorded = Recorder::record(case.op.as_ref(), variant, &offered, &kernel::views(case, true));
                    let shaders = recorded.into_iter().flat_map(|recorded| recorded.dispatches).map(|of| of.shader);
                    let shaders: Vec<Shader> = shaders.collect();
                    if texts.contains(&shaders) {
                        continue;
                    }
                    texts.push(shaders);
                }
                let shown = if emulated { format!("{variant}, emulated") } else { variant.into() };
                let (this, name) = (case.clone(), path(&case.to_string(), &shown, &adapter.name));
                let run = move |on: Arc<Adapter>| -> Running {
                    let this = this.clone();
                    Box::pin(async move { Ok((kernel::run(&this, variant, &on).await?, vec![])) })
                };
                planned.push(Planned { place: Place::of(&label, &shown), name, run: Box::new(run) });
            }
        }
        let name = |of: String, way: &str| format!("{MODEL}/{of}/{way}/{}", adapter.name);
        for training in self.trainings.iter().take(model) {
            for way in training.ways(adapter).into_iter().take(model) {
                let (this, name) = (training.clone(), name(training.name(), way.name));
                let (place, way) = (Place::of_model("update", way.name), Arc::new(way));
                let run = move |on: Arc<Adapter>| -> Running {
                    let (this, way) = (this.clone(), way.clone());
                    Box::pin(async move { Ok((this.check(&on, &way).await?, vec![])) })
                };
                planned.push(Planned { place, name, run: Box::new(run) });
            }
        }
        for generation in self.generations.iter().take(model) {
            for way in generation.ways(adapter).into_iter().take(model) {
                let (this, name) = (generation.clone(), name(generation.name(), way.name));
                let (place, way) = (Place::of_model("generate", way.name), Arc::new(way));
                let run = move |on: Arc<Adapter>| -> Running {
                    let (this, way) = (this.clone(), way.clone());
                    Box::pin(async move { this.check(&on, &way).await })
                };
                planned.push(Planned { place, name, run: Box::new(run) });
            }
        }
        planned
    }

    /// Whether the case costs most of those of its op and kind, f16 and limits aside.
    fn is_largest(&self, case: &Case) -> bool {
        let (kind, cost) = (row(&case.op.label(), ""), case.op.cost());
        let alike = self.cases.iter().filter(|other| !other.is_limited() && row(&other.op.label(), "") == kind);
        let portable = Capabilities::portable();
        let costs = alike.filter(|other| !other.op.supported(&portable).is_empty()).map(|other| other.op.cost());
        costs.map(|cost| (cost.flops, cost.bytes)).max() == Some((cost.flops, cost.bytes))
    }

    /// All checks of the CPU backend: in f64, as the reference, against naive loops; in f32 against that; gradients against
    /// central differences.
    pub fn on_cpu(&self) -> Vec<Check> {
        let mut checks = vec![];
        for case in &self.cases {
            let label = case.op.label();
            let name = |way| path(&case.to_string(), way, "cpu");
            let this = case.clone();
            let check = move || this.oracle().map(|_| (Margin::none(), vec![]));
            checks.push(Place::of(&label, "reference f64").on_cpu(name("reference f64"), check));
            let this = case.clone();
            let check = move || Ok((case::check_cpu(&this)?, vec![]));
            checks.push(Place::of(&label, "cpu f32").on_cpu(name("cpu f32"), check));
        }
        for gradient in gradients() {
            let name = path(&gradient.name, "central differences", "cpu");
            let row = format!("{} / central differences", gradient.name.split(' ').next().unwrap_or_default());
            let place = Place { row, pass: Pass::Backward };
            checks.push(place.on_cpu(name, move || gradient::check(&gradient).map(|()| (Margin::none(), vec![]))));
        }
        for training in &self.trainings {
            let (this, name) = (training.clone(), format!("{MODEL}/{}/cpu f32/cpu", training.name()));
            let place = Place::of_model("update", "cpu f32");
            checks.push(place.on_cpu(name, move || Ok((this.check_cpu()?, vec![]))));
        }
        for (wiring, training) in TrainingCase::of_wirings() {
            let name = format!("{MODEL}/{} {wiring}/central differences/cpu", training.name());
            let place = Place::of_model("update", "central differences");
            checks.push(place.on_cpu(name, move || training.check_gradients().map(|()| (Margin::none(), vec![]))));
        }
        for generation in &self.generations {
            let (this, name) = (generation.clone(), format!("{MODEL}/{}/cpu f32/cpu", generation.name()));
            checks.push(Place::of_model("generate", "cpu f32").on_cpu(name, move || this.check_cpu()));
        }
        checks
    }
}

/// Puts checks that compile the same kernels together. On a software adapter they have devices of their own, since what
/// a driver has compiled is in memory for as long as its device is: all of lavapipe's kernels together take 4 GiB. On others,
/// where opening a device takes long and the kernels take little, all have the same.
fn batches(planned: Vec<Planned>, adapter: &Arc<Adapter>) -> Vec<Check> {
    let mut groups: Vec<Vec<Planned>> = vec![];
    for check in planned {
        match groups.iter_mut().find(|group| group[0].kernels() == check.kernels()) {
            Some(group) => group.push(check),
            None => groups.push(vec![check]),
        }
    }
    let software = adapter.is_software();
    let of_group = |(i, group): (usize, Vec<Planned>)| {
        let (on, batch) = if software { (Arc::new(adapter.another()), i) } else { (adapter.clone(), 0) };
        group.into_iter().map(move |check| check.on(&on, batch))
    };
    groups.into_iter().enumerate().flat_map(of_group).collect()
}

impl Default for Suite {
    fn default() -> Self {
        Self::new()
    }
}

/// What the names of checks of the whole model begin with.
pub const MODEL: &str = "deepj";

/// The name of a test. `label` starts with the op's name.
pub fn path(label: &str, variant: &str, adapter: &str) -> String {
    format!("{}/{variant}/{adapter}", label.replacen(' ', "/", 1))
}

/// The mode and formats of an op: its label without the shape.
pub fn mode(label: &str) -> String {
    let shape = |word: &&str| word.contains(|c: char| c.is_ascii_digit()) && !matches!(*word, "f16" | "f32");
    label.split(' ').filter(|word| !shape(word)).collect::<Vec<_>>().join(" ")
}

/// The row of a report for an op's label: op and kind, without the shape, then the variant.
pub fn row(label: &str, variant: &str) -> String {
    let words = label.split(' ').take_while(|word| !word.contains(|c: char| c.is_ascii_digit()));
    format!("{} / {variant}", words.collect::<Vec<_>>().join(" "))
}
