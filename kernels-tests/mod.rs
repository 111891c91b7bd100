//! Every op in every variant on an adapter against its f64 mirror, with shapes that have tails, cuts and folded grids; and
//! whole steps of the model. `deepj verify` runs this on testers' machines, `cargo test --test kernels` in development.

// The references are written with the indices of the formulas.
#![allow(clippy::needless_range_loop)]

use std::sync::Arc;

use serde::{Deserialize, Serialize};

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
use harness::{Case, Gradient};
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
}

/// Margin, and coins that fell otherwise; or what is wrong.
type Run = dyn Fn(&Adapter) -> Result<(Margin, Vec<Flip>), String> + Send + Sync;

/// A kernel with a shape, or the whole model, on an adapter.
pub struct Check {
    /// `op/shape/variant/adapter`.
    pub name: String,
    /// The op and its kind, without the shape, then ` / ` and the variant.
    pub row: String,
    /// Where in training it runs.
    pub pass: Pass,
    adapter: Arc<Adapter>,
    run: Box<Run>,
}

impl Check {
    /// The adapter's name.
    pub fn adapter(&self) -> &str {
        &self.adapter.name
    }

    /// Runs it, when no other check runs on the adapter. Coins of a generation that fell otherwise are no failure; they
    /// are told of beside the verdict.
    pub fn run(&self) -> (Verdict, Vec<Flip>) {
        let _turn = self.adapter.turn();
        let outcome = (self.run)(&self.adapter);
        if outcome.is_err() {
            self.adapter.reopen();
        }
        match (outcome, known::find(&self.name, &self.adapter.name)) {
            (Ok((margin, flips)), None) => (Verdict::Passed(margin), flips),
            (Err(error), None) => (Verdict::Failed(error), vec![]),
            (Ok(_), Some(Known { reason, link, .. })) => {
                (Verdict::Failed(format!("passes, but is in known.rs: {reason} ({link})")), vec![])
            }
            (Err(error), Some(known)) => (Verdict::Known(known, error), vec![]),
        }
    }
}

/// What is run on every adapter. The f64 mirror's results are computed once, when they are first needed.
pub struct Suite {
    /// Ops.
    pub cases: Vec<Arc<Case>>,
    /// Training steps.
    pub trainings: Vec<Arc<Training>>,
    /// Generation.
    pub generation: Arc<Generation>,
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

    /// All checks on an adapter: every case in every variant that is legal there, then the model.
    pub fn checks(&self, adapter: &Arc<Adapter>) -> Vec<Check> {
        let mut checks = vec![];
        for case in &self.cases {
            for variant in case.op.legal(&adapter.capabilities) {
                let this = case.clone();
                checks.push(Check {
                    name: path(&case.to_string(), variant, &adapter.name),
                    row: row(&case.op.label(), variant),
                    pass: Pass::of(&case.op.label()),
                    adapter: adapter.clone(),
                    run: Box::new(move |adapter| Ok((kernel::run(&this, variant, adapter)?, vec![]))),
                });
            }
        }
        let model = |what: &str, name: &str, way: &str| Check {
            name: format!("deepj/{name}/{way}/{}", adapter.name),
            row: format!("deepj {what} / {way}"),
            pass: Pass::Model,
            adapter: adapter.clone(),
            run: Box::new(|_| Err("nothing is run".into())),
        };
        for training in &self.trainings {
            for way in training.ways(adapter) {
                let (this, check) = (training.clone(), model("step", &training.name(), way.name));
                checks.push(Check { run: Box::new(move |adapter| Ok((this.check(adapter, &way)?, vec![]))), ..check });
            }
        }
        for way in self.generation.ways(adapter) {
            let (this, check) = (self.generation.clone(), model("generate", &self.generation.name(), way.name));
            checks.push(Check { run: Box::new(move |adapter| this.check(adapter, &way)), ..check });
        }
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
