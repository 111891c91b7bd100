//! DeepJ (Mao, Shin, Cottrell 2018): the wiring of the paper's figure 2.

mod config;

pub use config::{Config, Dynamics, Join, Octave, Preset, StyleUse};

use super::network::{ArchitectureOf, Built, Inputs, Network, Outputs};
use super::{CorpusFacts, DefaultOn, Generation, GenerationIo, Loss, PresetInfo, RollShape, StateShape, TypicalSizes};
use crate::error::Result;
use crate::graph::{Graph, Kind, Layout};
use crate::nn::dense::Dense;
use crate::nn::losses::losses;
use crate::nn::lstm::{LstmLayer, Rows, State};
use crate::nn::octave_conv::OctaveConvLayer;
use crate::nn::style::{Conditioning, Widths};
use crate::ops::dropout::{Dropout, DropoutSite};
use crate::ops::features::{BEFORE_OCTAVE, Features};
use crate::ops::gemm::{self, Activation, Gemm};
use crate::ops::heads::{HeadSet, Shape};
use crate::ops::note_input::NoteInput;
use crate::ops::note_sweep::{NoteSweep, Offsets, STATE};
use crate::ops::reduce::BroadcastRows;
use crate::ops::{RowGroups, View};
use crate::shape::Channels;

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

/// The losses, in the order of the heads.
const LOSSES: [Loss; 3] = [
    Loss { key: "play_bce", label: "play", nats_per_step: Some("play_nats_per_step") },
    Loss { key: "replay_bce", label: "replay", nats_per_step: None },
    Loss { key: "dynamics_mse", label: "dynamics", nats_per_step: None },
];

impl Network for Config {
    type Layers = Layers;
    const NAME: &'static str = "deepj";
    const PRESETS: &'static [PresetInfo] = &PRESETS;
    const LOSSES: &'static [Loss] = &LOSSES;

    fn preset(name: &str, corpus: CorpusFacts) -> Self {
        let CorpusFacts { lowest, notes, styles } = corpus;
        let preset = if name == "paper" { Preset::Paper } else { Preset::Small };
        Self { lowest, notes, ..Config::preset(preset, styles) }
    }

    fn check(&self) -> Result<()> {
        Config::check(self)
    }

    fn roll(&self) -> RollShape {
        let Config { lowest, notes, beats, styles, .. } = *self;
        RollShape { lowest, notes, channels: CHANNELS, beats, styles }
    }

    fn layers(&self, layout: &mut Layout) -> Layers {
        Layers::declare(layout, self)
    }

    fn states(&self, slots: usize) -> Vec<StateShape> {
        let shape = [slots, self.notes, self.time_units];
        let names = (0..LAYERS).flat_map(|layer| ["h", "c"].map(|part| format!("state.time.{layer}.{part}")));
        names.map(|name| StateShape::new(name, shape)).collect()
    }

    fn forward(&self, layers: &Layers, graph: &mut Graph, inputs: &Inputs) -> Outputs {
        layers.forward(self, graph, inputs)
    }

    fn generation(built: &DeepJ, pieces: usize, window: usize) -> Result<Generation> {
        Ok(built.time_step(pieces, window))
    }

    fn typical_sizes(&self) -> TypicalSizes {
        TypicalSizes {
            lowest: self.lowest,
            notes: self.notes,
            beats: self.beats,
            filters: self.filters,
            taps: self.taps,
            time_units: self.time_units,
            note_units: self.note_units,
            input_dropout: self.input_dropout,
            dropout: self.dropout,
            masked: self.masked_losses,
        }
    }
}

/// LSTM layers of each axis.
const LAYERS: usize = 2;

/// The values of a cell.
const CHANNELS: Channels = Channels::PERFORMANCE;

/// The dropout sites of the model: each has masks of its own.
#[derive(Clone, Copy)]
enum Site {
    Notes = 1,
    Beat,
    Octave,
    Chosen,
    /// After each LSTM layer: `Hidden + layer`.
    Hidden = 16,
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
    octave: OctaveConvLayer,
    time: Vec<LstmLayer>,
    note: Vec<LstmLayer>,
    heads: Dense,
}

impl Layers {
    fn declare(layout: &mut Layout, c: &Config) -> Self {
        let embedding =
            (c.style != StyleUse::None).then(|| Dense::new(layout, "style.embedding", c.styles, c.style_width));
        let octave = OctaveConvLayer::new(layout, "octave", c.taps, CHANNELS.len(), c.filters);
        let mut layer = 0;
        let mut axis = |layout: &mut Layout, name: &str, inputs: usize, units: usize| {
            (0..LAYERS)
                .map(|i| {
                    let input = if i == 0 { inputs } else { units };
                    let widths = Widths { style: c.style_width, input, gates: 4 * units };
                    let first = layer == 0;
                    layer += 1;
                    LstmLayer::new(layout, &format!("{name}.{i}"), widths, |layout, widths| match (c.style, c.join) {
                        (StyleUse::PerLayer, Join::Sum) => Conditioning::sum(layout, widths),
                        (StyleUse::PerLayer, Join::Concat) => Conditioning::concat(layout, widths, true),
                        (StyleUse::Input, _) if first => Conditioning::concat(layout, widths, false),
                        _ => Conditioning::None,
                    })
                })
                .collect::<Vec<_>>()
        };
        let time = axis(layout, "time", c.feature_width(), c.time_units);
        let note = axis(layout, "note", c.time_units + CHANNELS.len(), c.note_units);
        let heads = Dense::new(layout, "heads", c.note_units, CHANNELS.len());
        Self { embedding, octave, time, note, heads }
    }

    /// The gate biases of all four layers, time axis first, from `style [batch, styles]`.
    fn gate_biases(&self, graph: &mut Graph, style: Option<View>, batch: usize, rate: f32) -> Vec<(View, usize)> {
        let (Some(embedding), Some(style)) = (&self.embedding, style) else {
            return self.time.iter().chain(&self.note).map(|l| (l.bias, 1)).collect();
        };
        graph.scope("style", |graph| {
            let e = embedding.forward(graph, style, batch, Activation::Identity);
            let layers = self.time.iter().chain(&self.note).enumerate();
            layers.map(|(i, l)| l.gate_bias(graph, e, batch, site(Site::Style, i, rate, 1))).collect()
        })
    }

    /// Appends forward pass and losses, with dropout where they are for training.
    fn forward(&self, c: &Config, g: &mut Graph, inputs: &Inputs) -> Outputs {
        let (input_rate, rate) = if inputs.training { (c.input_dropout, c.dropout) } else { (0.0, 0.0) };
        let (n, channels) = (c.notes, CHANNELS.len());
        let Inputs { slots: batch, steps, start, weight, keep, .. } = *inputs;
        let (rows, seen, target) = (batch * steps, inputs.seen(), inputs.target());

        let biases = self.gate_biases(g, inputs.style, batch, rate);
        let notes = dropped(g, seen, site(Site::Notes, 0, input_rate, n * channels));
        let beat_drop = site(Site::Beat, 0, input_rate, c.beats);
        let octave_drop = site(Site::Octave, 0, rate, n * c.filters);
        let x = self.features(c, g, (batch, steps), notes, start, [octave_drop, beat_drop]);

        let of_time = Rows { steps, rows: batch * n, groups: RowGroups { inner: n, sequences: batch } };
        let carried = State::Carried { keep: Some(keep) };
        let lower = g.scope("time.0", |g| self.time[0].forward(g, x, of_time, biases[0], carried));
        let x = dropped(g, lower.h, site(Site::Hidden, 0, rate, n * c.time_units));
        let upper = g.scope("time.1", |g| self.time[1].forward(g, x, of_time, biases[1], carried));

        let stored = upper.h.format;
        let x = g.temp_as("note_input", n * rows * (c.time_units + channels), stored);
        let transpose = NoteInput {
            rows,
            notes: n,
            units: c.time_units,
            channels,
            drop: site(Site::Hidden, 1, rate, n * c.time_units),
            chosen_drop: site(Site::Chosen, 0, input_rate, n * channels),
            stored,
        };
        g.apply(transpose, &[upper.h, target, x]);
        g.drop_after_forward(x);
        let of_notes = Rows { steps: n, rows, groups: RowGroups { inner: 1, sequences: batch } };
        let out = g.scope("note.0", |g| self.note[0].forward(g, x, of_notes, biases[2], State::Zero));
        let x = dropped(g, out.h, site(Site::Hidden, 2, rate, c.note_units));
        let out = g.scope("note.1", |g| self.note[1].forward(g, x, of_notes, biases[3], State::Zero));
        let x = dropped(g, out.h, site(Site::Hidden, 3, rate, c.note_units));

        let heads = HeadSet::performance(c.masked_losses);
        let shape = Shape { rows, notes: n, units: c.note_units, heads, stored: x.format };
        let losses = g.scope("heads", |g| losses(g, &self.heads, shape, x, target, weight));
        let states = [lower, upper].into_iter().flat_map(|layer| layer.state.into_iter().flatten()).collect();
        Outputs { losses, states }
    }

    /// The input of the time axis on `batch` slots of `steps` time steps, from `notes` and the octave convolution over them.
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
            let octave = self.octave.forward(g, notes, batch * steps, c.notes);
            let op = Features {
                steps,
                batch,
                notes: c.notes,
                channels: CHANNELS.len(),
                lowest: c.lowest,
                octave: c.filters,
                beats: c.beats,
                octave_drop,
                beat_drop,
                stored: g.stored(),
            };
            let x = g.temp_as("features", batch * steps * c.notes * op.width(), op.stored);
            g.apply(op, &[notes, octave, start, x]);
            g.drop_after_forward(octave);
            g.drop_after_forward(x);
            x
        })
    }
}

impl DeepJ {
    /// One time step of generation.
    fn time_step(&self, pieces: usize, window: usize) -> Generation {
        let (c, layers) = (&self.config, &self.layers);
        let (n, channels) = (c.notes, CHANNELS.len());
        let mut graph = Graph::new(self.layout.clone());
        let g = &mut graph;
        let style = g.tensor("style", pieces * c.styles, Kind::Input);
        let forced = g.tensor("forced", window * pieces * n * channels, Kind::Input);
        let notes = g.tensor("notes", pieces * n * channels, Kind::State);
        let clock = g.tensor("clock", STATE * pieces, Kind::State);

        let biases = layers.gate_biases(g, Some(style), pieces, 0.0);
        let x = layers.features(c, g, (pieces, 1), notes, clock.slice(0, pieces), [DropoutSite::NONE; 2]);
        let groups = RowGroups { inner: n, sequences: pieces };
        let of_time = Rows { steps: 1, rows: pieces * n, groups };
        let carried = State::Carried { keep: None };
        let lower = g.scope("time.0", |g| layers.time[0].forward(g, x, of_time, biases[0], carried));
        let upper = g.scope("time.1", |g| layers.time[1].forward(g, lower.h, of_time, biases[1], carried));

        // The first note layer's input product waits for no random draw but in its last columns, the lower note.
        let [first, second] = [&layers.note[0], &layers.note[1]];
        let gates = 4 * first.units;
        let input = g.temp("note_input", pieces * n * gates);
        let (bias, sequences) = biases[2];
        let rows = if sequences == 1 { RowGroups { inner: 1, sequences: 1 } } else { groups };
        let product = Gemm::new(gemm::Layout::NN, pieces * n, gates, c.time_units).with_bias(rows);
        g.apply(product, &[upper.h, first.input.slice(0, c.time_units * gates), bias, input]);
        let bias2 = per_piece(g, biases[3], pieces, 4 * second.units);
        // One range that covers all weights of the sweep: the note layers and the heads were declared last.
        let from = first.input.start;
        let weights = View { start: from, len: self.layout.len() - from, ..first.input };
        let offsets = Offsets {
            chosen: c.time_units * gates,
            recurrent1: first.recurrent.start - from,
            input2: second.input.start - from,
            recurrent2: second.recurrent.start - from,
            head: layers.heads.weight.start - from,
            head_bias: layers.heads.bias.start - from,
        };
        let units = [first.units, second.units];
        let sweep = NoteSweep { pieces, notes: n, units, channels, window, weights: weights.len, offsets };
        let reported = sweep.reported();
        let roll = g.tensor("roll", window * pieces * n * reported, Kind::Output);
        g.scope("sweep", |g| g.apply(sweep, &[weights, input, bias2, forced, notes, clock, roll]));
        let io = GenerationIo { style: Some(style), forced, notes, clock, roll, reported };
        Generation { name: format!("generate pieces={pieces}"), graph, io }
    }
}

fn dropped(g: &mut Graph, x: View, drop: DropoutSite) -> View {
    if drop.rate == 0.0 {
        return x;
    }
    let y = g.temp_as("dropped", x.len, x.format);
    g.apply(Dropout { len: x.len, drop, stored: x.format }, &[x, y]);
    g.drop_after_forward(y);
    y
}

/// A bias with one row a piece.
fn per_piece(g: &mut Graph, (bias, sequences): (View, usize), pieces: usize, width: usize) -> View {
    if sequences == pieces && sequences > 1 || pieces == 1 {
        return bias;
    }
    let rows = g.temp("bias_rows", pieces * width);
    let groups = RowGroups { inner: 1, sequences: 1 };
    g.apply(BroadcastRows { rows: pieces, cols: width, groups }, &[bias, rows]);
    rows
}

/// Columns of the time axis' input.
fn feature_width(c: &Config) -> usize {
    BEFORE_OCTAVE + c.filters + c.beats
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{Model, Storage};

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
        for sequence in [model.training(Storage::default(), 2, 8).unwrap(), model.evaluation(2, 8).unwrap()] {
            let declared: Vec<usize> = model.states(2).iter().map(|state| state.shape.iter().product()).collect();
            assert_eq!(sequence.io.states.iter().map(|state| state.len).collect::<Vec<_>>(), declared);
        }
    }
}
