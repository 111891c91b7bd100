//! Every op in every variant on an adapter against its f64 mirror, with shapes that have tails, cuts and folded grids; and
//! whole steps of the model. `deepj verify` runs this on testers' machines, `cargo test --test kernels` in development.

// The references are written with the indices of the formulas.
#![allow(clippy::needless_range_loop)]

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::gpu::Capabilities;

pub mod deepj;
pub mod harness;
pub mod known;

mod add;
mod carry;
mod cast;
mod dropout;
mod features;
mod gemm;
mod heads;
mod lstm;
mod nadam;
mod note_input;
mod note_sweep;
mod octave_conv;
mod reduce;
mod tanh_grad;

use deepj::{Flip, Generation, Training};
use harness::adapters::Adapter;
use harness::kernel::{self, Margin};
use harness::{Case, Gradient, case, gradient};
use known::Known;

/// All cases of all ops.
pub fn cases() -> Vec<Case> {
    let of_ops = [
        add::cases,
        carry::cases,
        cast::cases,
        dropout::cases,
        features::cases,
        gemm::cases,
        heads::cases,
        lstm::cases,
        nadam::cases,
        note_input::cases,
        note_sweep::cases,
        octave_conv::cases,
        reduce::cases,
        tanh_grad::cases,
    ];
    of_ops.into_iter().flat_map(|cases| cases()).collect()
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
        note_input::gradients,
        octave_conv::gradients,
        reduce::gradients,
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
    /// As it must be.
    Passed(Margin),
    /// What is wrong.
    Failed(String),
    /// What is wrong, and known to be.
    Known(&'static Known, String),
    /// As it must be, though it is known not to be: mended, here at least.
    Mended(&'static Known, Margin),
}

/// Margin, and coins that fell otherwise; or what is wrong.
type Outcome = Result<(Margin, Vec<Flip>), String>;

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
    run: Box<dyn Fn() -> Outcome + Send + Sync>,
}

impl Check {
    /// Runs it, on an adapter when no other check does. Coins of a generation that fell otherwise are no failure; they are
    /// told of beside the verdict.
    pub fn run(&self) -> (Verdict, Vec<Flip>) {
        match ((self.run)(), known::find(&self.name, &self.on)) {
            (Ok((margin, flips)), None) => (Verdict::Passed(margin), flips),
            (Err(error), None) => (Verdict::Failed(error), vec![]),
            (Ok((margin, flips)), Some(known)) => (Verdict::Mended(known, margin), flips),
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
        Self { row: format!("deepj {what} / {way}"), pass: Pass::Model }
    }

    fn on_cpu(self, name: String, run: impl Fn() -> Outcome + Send + Sync + 'static) -> Check {
        Check { name, row: self.row, on: "cpu".into(), pass: self.pass, run: Box::new(run) }
    }

    fn on_adapter(
        self,
        name: String,
        adapter: &Arc<Adapter>,
        run: impl Fn(&Adapter) -> Outcome + Send + Sync + 'static,
    ) -> Check {
        let this = adapter.clone();
        let run = move || {
            let _turn = this.turn();
            let outcome = run(&this);
            if outcome.is_err() {
                this.reopen();
            }
            outcome
        };
        Check { name, row: self.row, on: adapter.name.clone(), pass: self.pass, run: Box::new(run) }
    }
}

/// All that is checked. The f64 mirror's results are computed once, when they are first needed.
pub struct Suite {
    /// Ops.
    pub cases: Vec<Arc<Case>>,
    trainings: Vec<Arc<Training>>,
    generation: Arc<Generation>,
}

impl Suite {
    /// All that there is.
    pub fn new() -> Self {
        Self {
            cases: cases().into_iter().map(Arc::new).collect(),
            trainings: Training::all().into_iter().map(Arc::new).collect(),
            generation: Arc::new(Generation::small()),
        }
    }

    /// All checks on an adapter: every case in every variant that is legal there, then the model. With WebGPU's limits, the first
    /// variant of each case that is not cut as for a lesser device, and of the largest of each kind all.
    pub fn on_adapter(&self, adapter: &Arc<Adapter>) -> Vec<Check> {
        let mut checks = vec![];
        for case in &self.cases {
            let label = case.op.label();
            let most = match adapter.is_portable() {
                true if case.is_limited() => 0,
                true if !self.is_largest(case) => 1,
                _ => usize::MAX,
            };
            for variant in case.op.legal(&adapter.capabilities).into_iter().take(most) {
                let (this, name) = (case.clone(), path(&case.to_string(), variant, &adapter.name));
                let run = move |adapter: &Adapter| Ok((kernel::run(&this, variant, adapter)?, vec![]));
                checks.push(Place::of(&label, variant).on_adapter(name, adapter, run));
            }
        }
        let name = |of: String, way: &str| format!("deepj/{of}/{way}/{}", adapter.name);
        for training in &self.trainings {
            for way in training.ways(adapter) {
                let (this, name) = (training.clone(), name(training.name(), way.name));
                let place = Place::of_model("step", way.name);
                checks.push(place.on_adapter(name, adapter, move |on| Ok((this.check(on, &way)?, vec![]))));
            }
        }
        for way in self.generation.ways(adapter) {
            let (this, name) = (self.generation.clone(), name(self.generation.name(), way.name));
            let place = Place::of_model("generate", way.name);
            checks.push(place.on_adapter(name, adapter, move |on| this.check(on, &way)));
        }
        checks
    }

    /// Whether the case costs most of those of its op and kind, f16 and limits aside.
    fn is_largest(&self, case: &Case) -> bool {
        let (kind, cost) = (row(&case.op.label(), ""), case.op.cost());
        let alike = self.cases.iter().filter(|other| !other.is_limited() && row(&other.op.label(), "") == kind);
        let portable = Capabilities::portable();
        let costs = alike.filter(|other| !other.op.legal(&portable).is_empty()).map(|other| other.op.cost());
        costs.map(|cost| (cost.flops, cost.bytes)).max() == Some((cost.flops, cost.bytes))
    }

    /// All checks of the mirrors: in f64 against the references, in f32 against that, gradients against central differences.
    pub fn on_cpu(&self) -> Vec<Check> {
        let mut checks = vec![];
        for case in &self.cases {
            let label = case.op.label();
            let name = |mirror| path(&case.to_string(), mirror, "cpu");
            let this = case.clone();
            let check = move || this.oracle().map(|_| (Margin::none(), vec![]));
            checks.push(Place::of(&label, "mirror f64").on_cpu(name("mirror f64"), check));
            let this = case.clone();
            let check = move || Ok((case::check_mirror(&this)?, vec![]));
            checks.push(Place::of(&label, "mirror f32").on_cpu(name("mirror f32"), check));
        }
        for gradient in gradients() {
            let name = path(&gradient.name, "central differences", "cpu");
            let row = format!("{} / central differences", gradient.name.split(' ').next().unwrap_or_default());
            let place = Place { row, pass: Pass::Backward };
            checks.push(place.on_cpu(name, move || gradient::check(&gradient).map(|()| (Margin::none(), vec![]))));
        }
        for training in &self.trainings {
            let (this, name) = (training.clone(), format!("deepj/{}/mirror f32/cpu", training.name()));
            let place = Place::of_model("step", "mirror f32");
            checks.push(place.on_cpu(name, move || Ok((this.check_mirror()?, vec![]))));
        }
        for (wiring, training) in Training::of_wirings() {
            let name = format!("deepj/{} {wiring}/central differences/cpu", training.name());
            let place = Place::of_model("step", "central differences");
            checks.push(place.on_cpu(name, move || training.check_gradients().map(|()| (Margin::none(), vec![]))));
        }
        let (this, name) = (self.generation.clone(), format!("deepj/{}/mirror f32/cpu", self.generation.name()));
        checks.push(Place::of_model("generate", "mirror f32").on_cpu(name, move || this.check_mirror()));
        checks
    }
}

impl Default for Suite {
    fn default() -> Self {
        Self::new()
    }
}

/// The name of a test. `label` starts with the op's name.
pub fn path(label: &str, variant: &str, adapter: &str) -> String {
    format!("{}/{variant}/{adapter}", label.replacen(' ', "/", 1))
}

/// The row of a report for an op's label: op and kind, without the shape, then the variant.
pub fn row(label: &str, variant: &str) -> String {
    let words = label.split(' ').take_while(|word| !word.contains(|c: char| c.is_ascii_digit()));
    format!("{} / {variant}", words.collect::<Vec<_>>().join(" "))
}
