//! DeepJ (Mao, Shin, Cottrell 2018): the wiring of the paper's figure 2.

mod config;

pub use config::{Config, Dynamics, Join, Octave, Preset, StyleUse};

use super::axes::{self, Axes, Composing, GateBias, Pass};
use super::losses::REPLAY_OF_ALL;
use super::network::{ArchitectureOf, Built, Inputs, Network, Outputs};
use super::{CorpusFacts, DefaultOn, Generation, Likelihood, Loss, PresetInfo, RollShape, StateShape, TypicalSizes};
use crate::error::Result;
use crate::graph::{Graph, Layout, RowOrder};
use crate::nn::dense::Dense;
use crate::nn::dropout::dropped;
use crate::nn::losses::{Heads, Scores};
use crate::nn::lstm::LstmLayer;
use crate::nn::octave_conv::OctaveConvLayer;
use crate::nn::style::{Conditioning, Widths};
use crate::ops::View;
use crate::ops::dropout::DropoutSite;
use crate::ops::features::{BEFORE_OCTAVE, Features};
use crate::ops::gemm::Activation;
use crate::ops::heads::HeadSet;
use crate::ops::neighbours::Neighbours;
use crate::shape::{Channel, Channels};

/// DeepJ as a kind of network.
pub static DEEPJ: ArchitectureOf<Config> = ArchitectureOf::NEW;

/// A network of a certain configuration.
pub type DeepJ = Built<Config>;

/// B and T of training without a word from the user. With the paper's sizes those of its authors, 8 bars; with the small ones
/// what learns most in a given time: 400 updates of 4 x 64 reach 5.07 nats a time step on the held-out pieces of the
/// program's own corpus, where in the same time 200 of 8 x 64 reach 5.49, 200 of 4 x 128 5.81, and 50 of 16 x 128 10.63.
const PRESETS: [PresetInfo; 2] = [
    PresetInfo { name: "paper", batch: (16, 128), default_on: DefaultOn::Gpu },
    PresetInfo { name: "small", batch: (4, 64), default_on: DefaultOn::Cpu },
];

/// The loss of dynamics as a number.
const SCALAR: Loss = Loss {
    key: "dynamics_mse",
    label: "dynamics",
    channel: Channel::Dynamics,
    nats_per_step: Some("dynamics_nats_per_step"),
    likelihood: Likelihood::Gaussian { steps: 127 },
};
/// That of dynamics in categories.
const CATEGORICAL: Loss = Loss {
    key: "dynamics_ce",
    label: "dynamics",
    channel: Channel::Dynamics,
    nats_per_step: Some("dynamics_nats_per_step"),
    likelihood: Likelihood::Exact,
};
/// The losses, in the order of the heads.
const LOSSES: [Loss; 3] = [Loss::PLAY, Loss::REPLAY, SCALAR];

impl Network for Config {
    type Layers = Layers;
    const NAME: &'static str = "deepj";
    const PRESETS: &'static [PresetInfo] = &PRESETS;
    const LOSSES: &'static [Loss] = &LOSSES;

    fn losses(&self) -> &'static [Loss] {
        match (self.dynamics, self.masked_losses) {
            (Dynamics::Scalar, true) => &LOSSES,
            (Dynamics::Scalar, false) => &const { [Loss::PLAY, REPLAY_OF_ALL, SCALAR.unmasked("dynamics_mse_of_all")] },
            (Dynamics::Categorical, true) => &[Loss::PLAY, Loss::REPLAY, CATEGORICAL],
            (Dynamics::Categorical, false) => {
                &const { [Loss::PLAY, REPLAY_OF_ALL, CATEGORICAL.unmasked("dynamics_ce_of_all")] }
            }
        }
    }

    fn preset(name: &str, corpus: CorpusFacts) -> Self {
        let CorpusFacts { lowest, notes, styles } = corpus;
        let preset = if name == "paper" { Preset::Paper } else { Preset::Small };
        Self { lowest, notes, ..Config::preset(preset, styles) }
    }

    fn check(&self) -> Result<()> {
        Config::check(self)
    }

    fn roll(&self) -> RollShape {
        let Config { lowest, notes, beats, .. } = *self;
        // A network without style is given none.
        let styles = if self.style == StyleUse::None { 0 } else { self.styles };
        RollShape { lowest, notes, channels: CHANNELS, beats, styles }
    }

    fn layers(&self, layout: &mut Layout) -> Layers {
        Layers::declare(layout, self)
    }

    fn states(&self, slots: usize) -> Vec<StateShape> {
        axes::states(slots, self.notes, [self.time_units; axes::LAYERS])
    }

    fn forward(&self, layers: &Layers, graph: &mut Graph, inputs: &Inputs) -> Outputs {
        layers.forward(self, graph, inputs)
    }

    fn generation(built: &DeepJ, pieces: usize, window: usize) -> Result<Generation> {
        let (c, layers) = (&built.config, &built.layers);
        let sizes = (c.notes, CHANNELS.len(), Network::roll(c).styles);
        Ok(layers.axes.time_step(
            &built.layout,
            sizes,
            (pieces, window),
            |g, Composing { style, notes, clock, .. }| {
                let biases = layers.gate_biases(g, style, pieces, 0.0);
                (biases, layers.features(c, g, (pieces, 1), notes, clock, [DropoutSite::NONE; 2]))
            },
        ))
    }

    fn style_rows(&self) -> Option<&'static str> {
        (self.style != StyleUse::None).then_some("style.embedding.weight")
    }

    fn typical_sizes(&self) -> TypicalSizes {
        TypicalSizes {
            filters: self.filters,
            taps: self.taps,
            time_units: self.time_units,
            note_units: self.note_units,
            upper_units: self.note_units,
            input_dropout: self.input_dropout,
            dropout: self.dropout,
            masked: self.masked_losses,
            ..TypicalSizes::of(Network::roll(self))
        }
    }
}

/// The values of a cell.
const CHANNELS: Channels = Channels::PERFORMANCE;
/// Velocities that categorical dynamics choose among: those of MIDI.
const VELOCITIES: usize = 128;

/// The dropout sites of the model beside those of the axes: each has masks of its own.
#[derive(Clone, Copy)]
enum Site {
    Notes = 1,
    Beat,
    Octave,
    /// On `h'` before each LSTM layer: `Style + layer`.
    Style = 32,
}

/// The site of a layer on a tensor `[outer, B, inner]`.
fn site(site: Site, layer: usize, rate: f32, inner: usize) -> DropoutSite {
    DropoutSite { site: site as u32 + layer as u32, rate, inner }
}

/// The layers of the model, in the order of their declaration, which is the order in the parameter buffer.
#[derive(Clone, Debug)]
pub struct Layers {
    embedding: Option<Dense>,
    octave: Option<OctaveConvLayer>,
    axes: Axes,
}

impl Layers {
    fn declare(layout: &mut Layout, c: &Config) -> Self {
        let embedding =
            (c.style != StyleUse::None).then(|| Dense::new(layout, "style.embedding", c.styles, c.style_width));
        let octave = (c.octave == Octave::Conv)
            .then(|| OctaveConvLayer::new(layout, "octave", c.taps, CHANNELS.len(), c.filters));
        let mut layer = |name: &str, inputs: usize, units: usize, first: bool| {
            let widths = Widths { style: c.style_width, input: inputs, gates: 4 * units };
            LstmLayer::new(layout, name, widths, |layout, widths| match (c.style, c.join) {
                (StyleUse::PerLayer, Join::Sum) => Conditioning::sum(layout, widths),
                (StyleUse::PerLayer, Join::Concat) => Conditioning::concat(layout, widths, true),
                (StyleUse::Input, _) if first => Conditioning::concat(layout, widths, false),
                _ => Conditioning::None,
            })
        };
        let time = [
            layer("time.0", c.feature_width(), c.time_units, true),
            layer("time.1", c.time_units, c.time_units, false),
        ];
        let note = [
            layer("note.0", c.time_units + CHANNELS.len(), c.note_units, false),
            layer("note.1", c.note_units, c.note_units, false),
        ];
        let heads = match c.dynamics {
            Dynamics::Scalar => Heads::new(layout, c.note_units, CHANNELS.len(), 0),
            Dynamics::Categorical => Heads::new(layout, c.note_units, CHANNELS.len() - 1, VELOCITIES),
        };
        Self { embedding, octave, axes: Axes { time, note, heads } }
    }

    /// The gate biases of all four layers, time axis first, from `style [batch, styles]`.
    fn gate_biases(&self, graph: &mut Graph, style: Option<View>, batch: usize, rate: f32) -> Vec<GateBias> {
        let (Some(embedding), Some(style)) = (&self.embedding, style) else { return self.axes.plain_biases() };
        graph.scope("style", |graph| {
            let e = embedding.forward(graph, style, batch, Activation::Identity);
            graph.expose("style", e, RowOrder::Slots, e.len / batch);
            let layers = self.axes.layers().zip(axes::NAMES).enumerate();
            let bias = |(i, (layer, name)): (usize, (&LstmLayer, &str))| {
                layer.gate_bias(graph, name, (e, batch), site(Site::Style, i, rate, 1))
            };
            layers.map(bias).collect()
        })
    }

    /// Appends forward pass and losses, with dropout where they are for training.
    fn forward(&self, c: &Config, g: &mut Graph, inputs: &Inputs) -> Outputs {
        let (input_rate, rate) = if inputs.training { (c.input_dropout, c.dropout) } else { (0.0, 0.0) };
        let (n, channels) = (c.notes, CHANNELS.len());
        let (batch, steps) = (inputs.slots, inputs.steps);
        let biases = self.gate_biases(g, inputs.style, batch, rate);
        let notes = dropped(g, inputs.seen(), site(Site::Notes, 0, input_rate, n * channels));
        let beat_drop = site(Site::Beat, 0, input_rate, c.beats);
        let octave_drop = site(Site::Octave, 0, rate, n * c.filters);
        let x = self.features(c, g, (batch, steps), notes, inputs.start, [octave_drop, beat_drop]);
        let pass = Pass { notes: n, channels, scores: c.scores(), dropout: rate, chosen_dropout: input_rate };
        let (losses, states) = self.axes.forward(g, x, &biases, inputs, pass);
        Outputs { losses, states }
    }

    /// The input of the time axis on `batch` slots of `steps` time steps, from `notes` and what they have around them.
    fn features(
        &self,
        c: &Config,
        graph: &mut Graph,
        (batch, steps): (usize, usize),
        notes: View,
        start: View,
        [octave_drop, beat_drop]: [DropoutSite; 2],
    ) -> View {
        graph.scope("features", |g| {
            let (rows, channels) = (batch * steps, CHANNELS.len());
            let (octave, octave_drop) = match &self.octave {
                Some(conv) => (conv.forward(g, notes, rows, c.notes), octave_drop),
                // Its notes were dropped out already.
                None => {
                    let op = Neighbours { rows, notes: c.notes, channels, taps: c.taps };
                    let around = g.temp("octave", rows * c.notes * op.width());
                    g.apply(op, &[notes, around]);
                    (around, DropoutSite::NONE)
                }
            };
            g.expose("octave", octave, RowOrder::TimeFirst, c.octave_width());
            let op = Features {
                steps,
                batch,
                notes: c.notes,
                channels,
                lowest: c.lowest,
                octave: c.octave_width(),
                beats: c.beats,
                octave_drop,
                beat_drop,
                stored: g.stored(),
            };
            let x = g.temp_as("features", rows * c.notes * op.row(), op.stored);
            g.apply(op, &[notes, octave, start, x]);
            g.drop_after_forward(octave);
            g.drop_after_forward(x);
            x
        })
    }
}

impl Config {
    /// How the outputs of a cell are scored.
    fn scores(&self) -> Scores {
        let masked = self.masked_losses;
        match self.dynamics {
            Dynamics::Scalar => Scores { heads: HeadSet::performance(masked), binned: None },
            Dynamics::Categorical => {
                Scores { heads: HeadSet::notes(masked).of_channels(CHANNELS.len()), binned: Some((2, masked)) }
            }
        }
    }

    /// Columns of what a note sees of the octave around it.
    fn octave_width(&self) -> usize {
        match self.octave {
            Octave::Conv => self.filters,
            Octave::Direct => self.taps * CHANNELS.len(),
        }
    }

    /// Columns of the time axis' input: 94 in the paper's sizes.
    pub fn feature_width(&self) -> usize {
        BEFORE_OCTAVE + self.octave_width() + self.beats
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use crate::graph::{CpuProgram, Kind, cpu};
    use crate::models::{Model, PlanOptions};
    use crate::nn::init;
    use crate::ops::{Uniforms, View};
    use crate::shape::Slots;

    #[test]
    fn generation_makes_what_depends_on_style_alone_once_a_run() {
        let model = DeepJ::new(Config::preset(Preset::Small, 3)).unwrap();
        let (plan, _) = model.generation(2, 16).unwrap().compile();
        let (once, repeated) = plan.nodes.split_at(plan.invariant);
        assert!(!once.is_empty() && once.iter().all(|node| node.scope == "style"));
        assert!(repeated.iter().all(|node| node.scope != "style"));
    }

    /// What the checkpoint's reader takes from the declaration is what the plans have.
    #[test]
    fn states_are_declared_as_plans_have_them() {
        let model = DeepJ::new(Config::preset(Preset::Small, 3)).unwrap();
        for sequence in [model.training(PlanOptions::default(), 2, 8).unwrap(), model.evaluation(2, 8).unwrap()] {
            let declared: Vec<usize> = model.states(2).iter().map(|state| state.shape.iter().product()).collect();
            assert_eq!(sequence.io.states.iter().map(|state| state.len).collect::<Vec<_>>(), declared);
        }
    }

    /// Losses, gradients and states of an update on the CPU in f64, by names.
    fn update(config: Config, options: PlanOptions) -> (usize, BTreeMap<String, Vec<f64>>) {
        let model = DeepJ::new(config).unwrap();
        let (plan, io) = model.training(options, 2, 4).unwrap().compile();
        let mut shared = cpu::shared::<f64>(&plan);
        let values = init::initialise(&plan.layout, 3);
        shared[0].iter_mut().zip(values).for_each(|(to, from)| *to = from.into());
        let mut program = CpuProgram::<f64>::new(plan.clone());
        let inputs = [io.roll, io.start, io.weight, io.keep].into_iter().chain(io.style).chain(io.loss_weights);
        for view in inputs.chain(io.states.iter().copied()) {
            let given = program.get_mut(&mut shared, view);
            given.iter_mut().enumerate().for_each(|(i, x)| *x = f64::from(i as u32 * 7 % 5) / 8.0);
        }
        program.run(&mut shared, &Uniforms { seed: 5, update: 2, slots: Slots::all(2), ..Uniforms::default() });
        let grads = plan.buffer(Kind::Grads).tensor;
        let params = plan.layout.params().iter().map(|p| (p.name.clone(), View { tensor: grads, ..p.view }));
        let states = io.states.iter().enumerate().map(|(i, &state)| (format!("state {i}"), state));
        let views = params.chain(states).chain([("losses".to_string(), io.losses)]);
        let results = views.map(|(name, view)| (name, program.get(&shared, view).to_vec())).collect();
        (plan.nodes.iter().filter(|node| node.op.kernel().starts_with("lstm_pair")).count(), results)
    }

    /// Other kernels, the same network; and layers whose units no tile divides run one after the other.
    #[test]
    fn layers_beside_each_other_give_what_they_give_one_after_the_other() {
        let config = |units: usize| Config {
            notes: 5,
            time_units: units,
            note_units: units,
            dropout: 0.4,
            ..Config::preset(Preset::Small, 3)
        };
        let pairs = PlanOptions { pairs: true, ..PlanOptions::default() };
        let ((none, apart), (four, beside)) = (update(config(32), PlanOptions::default()), update(config(32), pairs));
        assert_eq!((none, four), (0, 4), "forward and backward of two axes");
        for (name, values) in &apart {
            let largest = values.iter().fold(0.0f64, |most, x| most.max(x.abs()));
            assert!(largest > 0.0, "{name}");
            for (a, b) in values.iter().zip(&beside[name]) {
                assert!((a - b).abs() <= 1e-12 * largest, "{name}: {a} {b}");
            }
        }
        assert_eq!(update(config(20), pairs).0, 0);
        assert_eq!(update(config(32), PlanOptions { recompute: true, ..pairs }).0, 0, "gates are kept");
    }
}
