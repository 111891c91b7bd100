//! Models: what the rest of the program knows of any network, and the networks that there are, a folder each. Training,
//! evaluation, generation, checkpoints, profiles and verification see a model through [`Model`] and find it by name through
//! [`architecture`]. A new one is a file that implements [`Network`](network::Network), from which both follow, and calls
//! [`register`].

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::gpu::Capabilities;
use crate::graph::{Graph, Layout, Plan};
use crate::nn::optimizer::{self, Optimizer};
use crate::ops::View;
use crate::shape::Channels;

mod axes;
pub mod biaxial;
pub mod deepj;
mod fields;
pub(crate) mod losses;
pub mod network;
mod registry;

pub use fields::{Field, fields, table as fields_table};
pub use losses::{Likelihood, Loss, LossValues, LossWeights};
pub use registry::{DEFAULT, architecture, configure, preset_info, register, with_overrides};

/// How weights, activations and their gradients are stored while training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// All as f32.
    #[default]
    F32,
    /// Activations, their gradients and a copy of the weights as f16; parameters, sums and the optimiser as f32.
    Mixed,
}

impl Precision {
    /// Fails where values would be stored as f16 and the adapter's shaders cannot read that; the CPU can all.
    ///
    /// # Errors
    /// Names the adapter.
    pub fn check(self, capabilities: Option<&Capabilities>) -> Result<()> {
        match (self, capabilities) {
            (Self::Mixed, Some(Capabilities { name, shader_f16: false, .. })) => Err(Error::usage(
                format!("{name} has no 16-bit floats in shaders, which --precision mixed needs"),
                "use --precision f32, or another device (`deepj adapters` lists what each can do)",
            )),
            _ => Ok(()),
        }
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "f32" => Ok(Self::F32),
            "mixed" => Ok(Self::Mixed),
            _ => Err(Error::usage(format!("`{text}` is not a precision"), "use f32 or mixed")),
        }
    }
}

/// How a training plan computes; the network is the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlanOptions {
    /// How values are stored.
    pub precision: Precision,
    /// Whether activations that need not be kept are computed again in the backward pass.
    pub recompute: bool,
    /// Whether two layers of an axis run beside each other, step by step ([`crate::ops::lstm_pair`]). Not together with `recompute`,
    /// since they make gates that are kept.
    pub pairs: bool,
}

/// The training sequence of a model for this adapter: layers run beside each other where that is asked for and fits.
///
/// # Errors
/// As [`Model::training`].
pub fn training(
    model: &dyn Model,
    options: PlanOptions,
    (slots, steps): (usize, usize),
    adapter: Option<&Capabilities>,
) -> Result<Sequence> {
    let sequence = model.training(options, slots, steps)?;
    let fits = |able: &Capabilities| sequence.graph.nodes.iter().all(|node| !node.op.supported(able).is_empty());
    match options.pairs && !adapter.is_some_and(fits) {
        true => model.training(PlanOptions { pairs: false, ..options }, slots, steps),
        false => Ok(sequence),
    }
}

/// The piano rolls that a model reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RollShape {
    /// MIDI pitch of the lowest note.
    pub lowest: usize,
    /// N, number of notes.
    pub notes: usize,
    /// The values of a cell.
    pub channels: Channels,
    /// q, time steps of a bar.
    pub beats: usize,
    /// S, number of styles; 0 where the model knows none.
    pub styles: usize,
}

/// A state that a model carries from window to window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateShape {
    /// Its name in checkpoints.
    pub name: String,
    /// Its shape, row-major.
    pub shape: Vec<usize>,
}

impl StateShape {
    /// A state of this name and shape.
    pub fn new(name: impl Into<String>, shape: impl Into<Vec<usize>>) -> Self {
        Self { name: name.into(), shape: shape.into() }
    }
}

/// The graph of training or evaluation on windows of rolls, and the tensors through which the host talks to it.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// Name for listings.
    pub name: String,
    /// Forward pass and losses; in training the gradients too.
    pub graph: Graph,
    /// Inputs, outputs, states.
    pub io: SequenceIo,
}

/// The tensors of a [`Sequence`]; T time steps, B batch slots, N notes, C channels, L losses.
#[derive(Clone, Debug)]
pub struct SequenceIo {
    /// Input `[T+1, B, N, C]`; time steps 0..T are read, 1..=T are to be predicted.
    pub roll: View,
    /// Input `[B]`: index in the piece of the first time step, which decides the beat.
    pub start: View,
    /// Input `[T, B, C]`: 1 / (number of valid cells) where a channel of the target counts, 0 elsewhere.
    pub weight: View,
    /// Input `[B, S]`: a point in the simplex of styles; `None` where the model knows none.
    pub style: Option<View>,
    /// Input `[B]`: 1 where the slot's state is carried over, 0 where it starts from zero.
    pub keep: View,
    /// Input `[L]`: weights of the losses in the gradient; only in training.
    pub loss_weights: Option<View>,
    /// Output `[L]`: the losses in the order of [`Model::losses`].
    pub losses: View,
    /// The states in the order of [`Model::states`].
    pub states: Vec<View>,
}

/// The graph of one time step of generation, and the tensors through which the host talks to it.
#[derive(Clone, Debug)]
pub struct Generation {
    /// Name for listings.
    pub name: String,
    /// Run it as often as there are time steps to compose, up to W times between two readings of the roll.
    pub graph: Graph,
    /// Inputs, outputs, states.
    pub io: GenerationIo,
}

/// The tensors of a [`Generation`]; P pieces, W time steps of a window, N notes, C channels.
#[derive(Clone, Debug)]
pub struct GenerationIo {
    /// Input `[P, S]`: each piece's style, a point in the simplex; `None` where the model knows none.
    pub style: Option<View>,
    /// Input `[W, P, N, C]`: notes that are given while `Uniforms::forced` is 1, or 2 where play is not negative; row `clock mod W`.
    pub forced: View,
    /// Input `[W, P, N + 4]`: what is added to logits and dynamics ([`crate::ops::note_sweep::NoteSweep`]); row `clock mod W`.
    pub control: View,
    /// State `[P, N, C]`: the notes of the time step before.
    pub notes: View,
    /// State `[2, P]`: clock (index of the time step before, so -1 at the beginning), silent time steps so far.
    pub clock: View,
    /// Every other state that a time step leaves to the next, `[P, ..]` each.
    pub states: Vec<View>,
    /// Output `[W, P, N, reported]`: row `clock mod W` holds each note's channels, then the probabilities that were drawn
    /// from.
    pub roll: View,
    /// Values that `roll` holds of each note.
    pub reported: usize,
}

impl Sequence {
    /// The plan, and the tensors through which the host talks to it.
    pub fn compile(self) -> (Plan, SequenceIo) {
        (Plan::compile(self.name, self.graph), self.io)
    }
}

impl Generation {
    /// The plan, and the tensors through which the host talks to it.
    pub fn compile(self) -> (Plan, GenerationIo) {
        (Plan::compile_repeated(self.name, self.graph), self.io)
    }
}

/// Sizes that `profile op` takes for an op where the user gives none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TypicalSizes {
    /// MIDI pitch of the lowest note.
    pub lowest: usize,
    /// N.
    pub notes: usize,
    /// q.
    pub beats: usize,
    /// Features of a convolution, and its taps.
    pub filters: usize,
    /// Taps of a convolution, odd.
    pub taps: usize,
    /// Units of a layer over the time axis.
    pub time_units: usize,
    /// Units of the lower layer over the note axis.
    pub note_units: usize,
    /// Those of the upper one, whose output the heads read.
    pub upper_units: usize,
    /// C, values of a cell.
    pub channels: usize,
    /// Dropout of inputs.
    pub input_dropout: f32,
    /// Dropout everywhere else.
    pub dropout: f32,
    /// Whether losses are masked.
    pub masked: bool,
}

impl TypicalSizes {
    /// Those of a network in which each is another: what is made of both alike depends on none.
    pub(crate) fn all_other(self) -> Self {
        Self {
            lowest: self.lowest + 1,
            notes: self.notes + 1,
            beats: self.beats + 1,
            filters: self.filters + 1,
            taps: self.taps + 2,
            time_units: 2 * self.time_units,
            note_units: 2 * self.note_units,
            upper_units: 3 * self.upper_units,
            channels: if self.channels == 2 { 3 } else { 2 },
            input_dropout: (self.input_dropout + 0.25).fract(),
            dropout: (self.dropout + 0.25).fract(),
            masked: !self.masked,
        }
    }

    /// The paper's, but for the rolls, which are these.
    pub fn of(roll: RollShape) -> Self {
        let RollShape { lowest, notes, beats, channels, .. } = roll;
        Self {
            lowest,
            notes,
            beats,
            filters: 64,
            taps: 25,
            time_units: 256,
            note_units: 128,
            upper_units: 128,
            channels: channels.len(),
            input_dropout: 0.2,
            dropout: 0.5,
            masked: true,
        }
    }
}

/// A network of a certain configuration: parameters, plans, and what the program must know to feed and store it.
pub trait Model: fmt::Debug + Send + Sync {
    /// The name of its [`Architecture`].
    fn architecture(&self) -> &'static str;
    /// All that defines it, as one JSON object: what a checkpoint stores.
    fn config(&self) -> String;
    /// The parameters: names, shapes and initial values.
    fn layout(&self) -> &Arc<Layout>;
    /// The rolls that it reads and writes.
    fn roll(&self) -> RollShape;
    /// Its losses; their sum is what training minimises and validation compares.
    fn losses(&self) -> &'static [Loss];
    /// What it carries from window to window for so many batch slots.
    fn states(&self, slots: usize) -> Vec<StateShape>;
    /// The graph that makes the gradients of all parameters on windows of `steps` time steps, in so many batch slots: those that
    /// this process computes. Masks of dropout depend on a slot's number in the whole batch (`Uniforms::slots`), not on who
    /// computes it.
    ///
    /// # Errors
    /// Sizes that cannot be built.
    fn training(&self, options: PlanOptions, slots: usize, steps: usize) -> Result<Sequence>;
    /// The graph of the losses alone, without dropout, on so many slots.
    ///
    /// # Errors
    /// Sizes that cannot be built.
    fn evaluation(&self, slots: usize, steps: usize) -> Result<Sequence>;
    /// The graph of [`Model::evaluation`] on one slot, in which the layers' values are kept ([`Graph::exposed`]).
    ///
    /// # Errors
    /// Sizes that cannot be built.
    fn inspection(&self, steps: usize) -> Result<Sequence>;
    /// The graph of one time step of generation, for `pieces` pieces side by side and windows of `window` time steps.
    ///
    /// # Errors
    /// Sizes that cannot be built, or a model that cannot compose.
    fn generation(&self, pieces: usize, window: usize) -> Result<Generation>;
    /// The name of the parameter `[S, …]` that has a row for each style, where there is one.
    fn style_rows(&self) -> Option<&'static str>;
    /// Sizes for ops that are profiled by themselves.
    fn typical_sizes(&self) -> TypicalSizes;
}

impl PartialEq for dyn Model {
    fn eq(&self, other: &Self) -> bool {
        self.architecture() == other.architecture() && self.config() == other.config()
    }
}

/// Where a preset is taken unless the user names one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultOn {
    /// On a GPU.
    Gpu,
    /// On the CPU.
    Cpu,
    /// Nowhere.
    Neither,
}

/// Named sizes of an architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PresetInfo {
    /// Its name, as in `--preset`.
    pub name: &'static str,
    /// B and T that training takes with these sizes unless told otherwise.
    pub batch: (usize, usize),
    /// Where it is the default.
    pub default_on: DefaultOn,
}

/// What the corpus decides of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorpusFacts {
    /// MIDI pitch of the lowest note.
    pub lowest: usize,
    /// N, number of notes.
    pub notes: usize,
    /// S, number of styles.
    pub styles: usize,
}

impl CorpusFacts {
    /// Those of a corpus in the architecture's own range of pitches.
    pub fn of(architecture: &dyn Architecture, styles: usize) -> Self {
        let pitches = architecture.pitches();
        Self { lowest: (*pitches.start()).into(), notes: pitches.len(), styles }
    }
}

/// The optimiser that a model is trained with unless told otherwise.
///
/// # Errors
/// There is none while its architecture is known.
pub fn default_optimizer(model: &dyn Model) -> Result<Arc<dyn Optimizer>> {
    optimizer::make(architecture(model.architecture())?.optimizer(), serde_json::json!({}))
}

/// A kind of network: makes [`Model`]s from presets and from the configurations in checkpoints.
pub trait Architecture: Sync {
    /// Its name in checkpoints.
    fn name(&self) -> &'static str;
    /// The sizes that have names, at least one.
    fn presets(&self) -> &'static [PresetInfo];
    /// The MIDI pitches that its models read and write unless told otherwise.
    fn pitches(&self) -> RangeInclusive<u8>;
    /// The optimiser that they are trained with unless told otherwise, by its name among [`crate::nn::optimizer`].
    fn optimizer(&self) -> &'static str;
    /// The configuration of a preset, a JSON object.
    ///
    /// # Errors
    /// A preset that there is not.
    fn preset(&self, name: &str, corpus: CorpusFacts) -> Result<Value>;
    /// The fields of a configuration that the corpus decides, not the user: those of [`CorpusFacts`], unless said otherwise.
    fn decided_by_corpus(&self) -> &'static [&'static str] {
        &["lowest", "notes", "styles"]
    }
    /// The JSON schema of a configuration: its fields, what they may be, and what they are.
    fn schema(&self) -> Value;
    /// The model of a configuration.
    ///
    /// # Errors
    /// A field that is missing, unknown or out of range.
    fn model(&self, config: Value) -> Result<Arc<dyn Model>>;
}

/// Fails where the notes go beyond MIDI's.
fn check_pitches(lowest: usize, notes: usize) -> Result<()> {
    match lowest.saturating_add(notes) {
        ..=128 => Ok(()),
        end => Err(Error::model(format!("configuration: notes up to MIDI pitch {}", end - 1), "MIDI ends at 127")),
    }
}

/// Fails on a rate of dropout that is none.
fn check_rate(name: &str, rate: f32) -> Result<()> {
    match rate {
        0.0..1.0 => Ok(()),
        _ => Err(Error::model(format!("configuration: {name} = {rate}"), "it must be at least 0 and below 1")),
    }
}
