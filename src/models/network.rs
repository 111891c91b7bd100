//! A model as its author writes it: a configuration, layers and their wiring. [`Model`] and [`Architecture`] follow from that.

use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    Architecture, CorpusFacts, Generation, Loss, Model, PlanOptions, Precision, PresetInfo, RollShape, Sequence,
    SequenceIo, StateShape, TypicalSizes,
};
use crate::error::{Error, Result, nearest_expected};
use crate::graph::{Graph, Kind, Layout};
use crate::nn::optimizer;
use crate::ops::View;

/// A kind of network. Its values are configurations: all that defines a network of this kind, which a checkpoint stores as JSON. What
/// a user may set of it is documented by the comments on its fields ([`super::fields`]).
pub trait Network: Serialize + DeserializeOwned + JsonSchema + fmt::Debug + Send + Sync + 'static {
    /// The layers of such a network: what knows where its parameters are.
    type Layers: fmt::Debug + Send + Sync;
    /// Its name in checkpoints.
    const NAME: &'static str;
    /// The sizes that have names, at least one.
    const PRESETS: &'static [PresetInfo];
    /// Its losses; their sum is what training minimises and validation compares.
    const LOSSES: &'static [Loss];
    /// The MIDI pitches that it reads and writes unless told otherwise.
    const PITCHES: RangeInclusive<u8> = 36..=83;
    /// The optimiser that it is trained with unless told otherwise, by its name.
    const OPTIMIZER: &'static str = optimizer::DEFAULT;

    /// The configuration of one of the [`Network::PRESETS`].
    fn preset(name: &str, corpus: CorpusFacts) -> Self;
    /// Fails on a configuration that makes no network.
    ///
    /// # Errors
    /// Names the field and what it may be.
    fn check(&self) -> Result<()> {
        Ok(())
    }
    /// The losses of this configuration: [`Network::LOSSES`], unless said otherwise.
    fn losses(&self) -> &'static [Loss] {
        Self::LOSSES
    }
    /// The rolls that it reads and writes.
    fn roll(&self) -> RollShape;
    /// Declares the parameters.
    fn layers(&self, layout: &mut Layout) -> Self::Layers;
    /// Appends forward pass and losses to a graph.
    fn forward(&self, layers: &Self::Layers, graph: &mut Graph, inputs: &Inputs) -> Outputs;
    /// What it carries from window to window for so many batch slots, in the order of [`Outputs::states`]. Nothing unless said
    /// otherwise.
    fn states(&self, _slots: usize) -> Vec<StateShape> {
        vec![]
    }
    /// The graph of one time step of generation; see [`Model::generation`].
    ///
    /// # Errors
    /// Unless said otherwise, that it cannot compose.
    fn generation(_built: &Built<Self>, _pieces: usize, _window: usize) -> Result<Generation> {
        Err(Error::model(format!("the model {} cannot compose", Self::NAME), "take a checkpoint of a model that can"))
    }
    /// See [`Model::style_rows`].
    fn style_rows(&self) -> Option<&'static str> {
        None
    }
    /// Sizes for ops that are profiled by themselves.
    fn typical_sizes(&self) -> TypicalSizes {
        TypicalSizes::of(self.roll())
    }
}

/// The inputs of a [`Sequence`], and what of them is read.
#[derive(Clone, Copy, Debug)]
pub struct Inputs {
    /// Whether it is for training, that is with dropout.
    pub training: bool,
    /// B, batch slots.
    pub slots: usize,
    /// T, time steps of a window.
    pub steps: usize,
    /// See [`SequenceIo::roll`].
    pub roll: View,
    /// See [`SequenceIo::start`].
    pub start: View,
    /// See [`SequenceIo::weight`].
    pub weight: View,
    /// See [`SequenceIo::style`].
    pub style: Option<View>,
    /// See [`SequenceIo::keep`].
    pub keep: View,
}

impl Inputs {
    fn declare(graph: &mut Graph, shape: RollShape, (slots, steps): (usize, usize), training: bool) -> Self {
        let mut input = |name: &str, len: usize| graph.tensor(name, len, Kind::Input);
        Self {
            training,
            slots,
            steps,
            roll: input("roll", (steps + 1) * slots * shape.notes * shape.channels.len()),
            start: input("start", slots),
            weight: input("weight", steps * slots * shape.channels.len()),
            style: (shape.styles > 0).then(|| input("style", slots * shape.styles)),
            keep: input("keep", slots),
        }
    }

    /// What is read: time steps 0..T of the roll, `[T, B, N, C]`.
    pub fn seen(&self) -> View {
        self.roll.slice(0, self.roll.len / (self.steps + 1) * self.steps)
    }

    /// What is to be predicted: time steps 1..=T of the roll, `[T, B, N, C]`.
    pub fn target(&self) -> View {
        let step = self.roll.len / (self.steps + 1);
        self.roll.slice(step, step * self.steps)
    }
}

/// What a forward pass ends in.
#[derive(Clone, Debug)]
pub struct Outputs {
    /// Output `[L]`: the losses in the order of [`Network::losses`].
    pub losses: View,
    /// The states in the order of [`Network::states`].
    pub states: Vec<View>,
}

/// A network of a certain configuration, its parameters declared.
#[derive(Clone, Debug)]
pub struct Built<N: Network> {
    /// The configuration.
    pub config: N,
    /// The layers.
    pub layers: N::Layers,
    /// The parameters.
    pub layout: Arc<Layout>,
}

impl<N: Network> Built<N> {
    /// The network of a configuration.
    ///
    /// # Errors
    /// Sizes that make no network.
    pub fn new(config: N) -> Result<Self> {
        config.check()?;
        let mut layout = Layout::new();
        let layers = config.layers(&mut layout);
        Ok(Self { config, layers, layout: Arc::new(layout) })
    }

    /// Inputs, forward pass and losses, appended to `graph`; stored as training wants it, where it is for that.
    fn sequence(
        &self,
        mut graph: Graph,
        training: Option<PlanOptions>,
        (slots, steps): (usize, usize),
    ) -> Result<Sequence> {
        let PlanOptions { precision, recompute, pairs } = training.unwrap_or_default();
        if precision == Precision::Mixed {
            graph.keep_half();
        }
        if recompute {
            graph.recompute();
        } else if pairs {
            graph.run_pairs();
        }
        let inputs = Inputs::declare(&mut graph, self.config.roll(), (slots, steps), training.is_some());
        let Outputs { losses, states } = self.config.forward(&self.layers, &mut graph, &inputs);
        let declared = self.config.states(slots);
        let declared = declared.iter().map(|state| state.shape.iter().product::<usize>());
        if losses.len != self.config.losses().len() || !declared.eq(states.iter().map(|state| state.len)) {
            let what =
                format!("the forward pass of the model {} ends in other losses or states than it declares", N::NAME);
            return Err(Error::model(what, "declare those that it has, in their order"));
        }
        let Inputs { roll, start, weight, style, keep, .. } = inputs;
        let io = SequenceIo { roll, start, weight, style, keep, loss_weights: None, losses, states };
        let name = if training.is_some() { "train" } else { "evaluate" };
        Ok(Sequence { name: format!("{name} B={slots} T={steps}"), graph, io })
    }
}

impl<N: Network> Model for Built<N> {
    fn architecture(&self) -> &'static str {
        N::NAME
    }

    fn config(&self) -> String {
        // Fields that can be read from JSON can be written as such.
        serde_json::to_string(&self.config).unwrap_or_default()
    }

    fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    fn roll(&self) -> RollShape {
        self.config.roll()
    }

    fn losses(&self) -> &'static [Loss] {
        self.config.losses()
    }

    fn states(&self, slots: usize) -> Vec<StateShape> {
        self.config.states(slots)
    }

    fn training(&self, options: PlanOptions, slots: usize, steps: usize) -> Result<Sequence> {
        let mut sequence = self.sequence(Graph::new(self.layout.clone()), Some(options), (slots, steps))?;
        let seed = sequence.graph.tensor("loss_weights", self.config.losses().len(), Kind::Input);
        sequence.graph.backward(sequence.io.losses, seed)?;
        sequence.io.loss_weights = Some(seed);
        Ok(sequence)
    }

    fn evaluation(&self, slots: usize, steps: usize) -> Result<Sequence> {
        self.sequence(Graph::new(self.layout.clone()), None, (slots, steps))
    }

    fn inspection(&self, steps: usize) -> Result<Sequence> {
        let mut graph = Graph::new(self.layout.clone());
        graph.expose_layers();
        self.sequence(graph, None, (1, steps))
    }

    fn generation(&self, pieces: usize, window: usize) -> Result<Generation> {
        N::generation(self, pieces, window)
    }

    fn style_rows(&self) -> Option<&'static str> {
        self.config.style_rows()
    }

    fn typical_sizes(&self) -> TypicalSizes {
        self.config.typical_sizes()
    }
}

/// A kind of network as an [`Architecture`].
#[derive(Debug)]
pub struct ArchitectureOf<N>(PhantomData<fn() -> N>);

impl<N: Network> ArchitectureOf<N> {
    /// There is one of each kind.
    pub const NEW: Self = Self(PhantomData);
}

impl<N: Network> Architecture for ArchitectureOf<N> {
    fn name(&self) -> &'static str {
        N::NAME
    }

    fn presets(&self) -> &'static [PresetInfo] {
        N::PRESETS
    }

    fn pitches(&self) -> RangeInclusive<u8> {
        N::PITCHES
    }

    fn optimizer(&self) -> &'static str {
        N::OPTIMIZER
    }

    fn preset(&self, name: &str, corpus: CorpusFacts) -> Result<Value> {
        super::preset_info(self, Some(name), None)?;
        Ok(serde_json::json!(N::preset(name, corpus)))
    }

    fn schema(&self) -> Value {
        schemars::schema_for!(N).to_value()
    }

    fn model(&self, config: Value) -> Result<Arc<dyn Model>> {
        let config: N = serde_json::from_value(config).map_err(|e| {
            let what = e.to_string();
            let remedy = nearest_expected(&what).unwrap_or("see `deepj train --help`".into());
            Error::model(what, remedy)
        })?;
        Ok(Arc::new(Built::new(config)?))
    }
}
