//! DeepJ (Mao, Shin, Cottrell 2018): the wiring of the paper's figure 2.

mod config;

pub use config::{Config, Dynamics, Join, Octave, Preset, StyleUse};

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::gpu::{Capabilities, Format};
use crate::graph::{Graph, Kind, Plan};
use crate::nn::dense::Dense;
use crate::nn::losses::losses;
use crate::nn::lstm::{LstmLayer, Output, Rows, State};
use crate::nn::nadam;
use crate::nn::octave_conv::OctaveConvLayer;
use crate::nn::style::{Conditioning, Widths};
use crate::ops::dropout::{Drop, Dropout};
use crate::ops::features::{BEFORE_OCTAVE, Features};
use crate::ops::gemm::{Activation, Gemm, Layout};
use crate::ops::heads::Shape;
use crate::ops::note_input::{CHANNELS, NoteInput};
use crate::ops::note_sweep::{NoteSweep, Offsets, REPORTED, STATE};
use crate::ops::{RowGroups, View};

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

fn drop(site: Site, layer: usize, rate: f32) -> Drop {
    Drop { site: site as u32 + layer as u32, rate }
}

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

/// What a training plan is beyond the network.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Training {
    /// Settings of the update.
    pub optimizer: nadam::Settings,
    /// How values are stored.
    pub precision: Precision,
    /// Whether gates and dropped-out activations are computed again in the backward pass instead of being kept.
    pub recompute: bool,
}

/// Whether dropout is on and gradients are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// Dropout, gradients, update.
    Train(Training),
    /// Neither: losses only.
    Evaluate,
}

/// The parameters of the model, in the order of their declaration, which is the order in the arena.
struct Layers {
    embedding: Option<Dense>,
    octave: OctaveConvLayer,
    time: Vec<LstmLayer>,
    note: Vec<LstmLayer>,
    heads: Dense,
}

impl Layers {
    fn declare(graph: &mut Graph, c: &Config) -> Self {
        let embedding =
            (c.style != StyleUse::None).then(|| Dense::new(graph, "style.embedding", c.styles, c.style_width));
        let octave = OctaveConvLayer::new(graph, "octave", c.taps, CHANNELS, c.filters);
        let mut layer = 0;
        let mut axis = |graph: &mut Graph, name: &str, inputs: usize, units: usize| {
            (0..2)
                .map(|i| {
                    let input = if i == 0 { inputs } else { units };
                    let widths = Widths { style: c.style_width, input, gates: 4 * units };
                    let first = layer == 0;
                    layer += 1;
                    LstmLayer::new(graph, &format!("{name}.{i}"), widths, |graph, widths| match (c.style, c.join) {
                        (StyleUse::PerLayer, Join::Sum) => Conditioning::sum(graph, widths),
                        (StyleUse::PerLayer, Join::Concat) => Conditioning::concat(graph, widths, true),
                        (StyleUse::Input, _) if first => Conditioning::concat(graph, widths, false),
                        _ => Conditioning::None,
                    })
                })
                .collect::<Vec<_>>()
        };
        let time = axis(graph, "time", c.feature_width(), c.time_units);
        let note = axis(graph, "note", c.time_units + CHANNELS, c.note_units);
        let heads = Dense::new(graph, "heads", c.note_units, CHANNELS);
        Self { embedding, octave, time, note, heads }
    }

    /// The gate biases of all four layers, time axis first, from `style [batch, styles]`.
    fn gate_biases(&self, graph: &mut Graph, style: View, batch: usize, rate: f32) -> Vec<(View, usize)> {
        let Some(embedding) = &self.embedding else {
            return self.time.iter().chain(&self.note).map(|l| (l.bias, 1)).collect();
        };
        graph.scope("style", |graph| {
            let e = embedding.forward(graph, style, batch, Activation::Identity);
            let layers = self.time.iter().chain(&self.note).enumerate();
            layers.map(|(i, l)| l.gate_bias(graph, e, batch, drop(Site::Style, i, rate))).collect()
        })
    }
}

/// The tensors through which the host talks to a training or evaluation plan.
#[derive(Clone, Copy, Debug)]
pub struct Io {
    /// Input `[T+1, B, N, 3]`: play, replay, dynamics; steps 0..T are read, 1..=T are to be predicted.
    pub roll: View,
    /// Input `[B]`: index in the piece of the first step, which decides the beat.
    pub start: View,
    /// Input `[T, B]`: 1 / (number of valid cells) where the target counts, 0 elsewhere.
    pub weight: View,
    /// Input `[B, S]`: a point in the simplex of styles.
    pub style: View,
    /// Input `[B]`: 1 where the lane's state is carried over, 0 where it starts from zero.
    pub keep: View,
    /// Input `[3]`: weights of the losses in the gradient; only in training.
    pub loss_weights: Option<View>,
    /// Output `[3]`: play, replay, dynamics.
    pub losses: View,
    /// Output `[1]`: the squared global gradient norm; only in training.
    pub squared_norm: Option<View>,
    /// States of the time axis: h and c of both layers, `[B N, H]` each.
    pub states: [View; 4],
}

/// A plan with its handles.
#[derive(Clone, Debug)]
pub struct Built<I> {
    /// What runs.
    pub plan: Plan,
    /// How the host talks to it.
    pub io: I,
}

/// The plan of one step of training or evaluation on `batch` lanes of `steps` time steps.
///
/// # Errors
/// A configuration that cannot be built.
pub fn build(c: &Config, mode: Mode, batch: usize, steps: usize) -> Result<Built<Io>> {
    c.check()?;
    let (train, name) = match mode {
        Mode::Train(training) => (Some(training), "train"),
        Mode::Evaluate => (None, "evaluate"),
    };
    let (input_rate, rate) = if train.is_some() { (c.input_dropout, c.dropout) } else { (0.0, 0.0) };
    let n = c.notes;
    let rows = batch * steps;
    let mut graph = Graph::new();
    let g = &mut graph;
    let layers = Layers::declare(g, c);
    if let Some(Training { precision, recompute, .. }) = train {
        if precision == Precision::Mixed {
            g.keep_half();
        }
        if recompute {
            g.recompute();
        }
    }
    let cells = batch * n * CHANNELS;
    let roll = g.tensor("roll", (steps + 1) * cells, Kind::Input);
    let start = g.tensor("start", batch, Kind::Input);
    let weight = g.tensor("weight", rows, Kind::Input);
    let style = g.tensor("style", batch * c.styles, Kind::Input);
    let keep = g.tensor("keep", batch, Kind::Input);
    let (seen, target) = (roll.slice(0, steps * cells), roll.slice(cells, steps * cells));

    let biases = layers.gate_biases(g, style, batch, rate);
    let notes = dropped(g, seen, drop(Site::Notes, 0, input_rate));
    let x = g.scope("features", |g| {
        let octave = layers.octave.forward(g, notes, rows, n);
        let op = Features {
            steps,
            batch,
            notes: n,
            lowest: c.lowest,
            octave: c.filters,
            beats: c.beats,
            octave_drop: drop(Site::Octave, 0, rate),
            beat_drop: drop(Site::Beat, 0, input_rate),
            stored: g.stored(),
        };
        let x = g.temp_as("features", rows * n * op.width(), op.stored);
        g.apply(op, &[notes, octave, start, x]);
        g.drop_after_forward(octave);
        g.drop_after_forward(x);
        x
    });

    let lanes = Rows { steps, rows: batch * n, groups: RowGroups { inner: n, sequences: batch } };
    let carried = State::Carried { keep: Some(keep) };
    let lower = g.scope("time.0", |g| layers.time[0].forward(g, x, lanes, biases[0], carried));
    let x = dropped(g, lower.h, drop(Site::Hidden, 0, rate));
    let upper = g.scope("time.1", |g| layers.time[1].forward(g, x, lanes, biases[1], carried));

    let stored = upper.h.format;
    let x = g.temp_as("note_input", n * rows * (c.time_units + CHANNELS), stored);
    let turn = NoteInput {
        rows,
        notes: n,
        units: c.time_units,
        drop: drop(Site::Hidden, 1, rate),
        chosen_drop: drop(Site::Chosen, 0, input_rate),
        stored,
    };
    g.apply(turn, &[upper.h, target, x]);
    g.drop_after_forward(x);
    let steps_of_notes = Rows { steps: n, rows, groups: RowGroups { inner: 1, sequences: batch } };
    let out = g.scope("note.0", |g| layers.note[0].forward(g, x, steps_of_notes, biases[2], State::Zero));
    let x = dropped(g, out.h, drop(Site::Hidden, 2, rate));
    let out = g.scope("note.1", |g| layers.note[1].forward(g, x, steps_of_notes, biases[3], State::Zero));
    let x = dropped(g, out.h, drop(Site::Hidden, 3, rate));

    let shape = Shape { rows, notes: n, units: c.note_units, masked: c.masked_losses, stored: x.format };
    let losses = g.scope("heads", |g| losses(g, &layers.heads, shape, x, target, weight));
    let (mut loss_weights, mut squared_norm) = (None, None);
    if let Some(Training { optimizer, .. }) = train {
        let seed = g.tensor("loss_weights", CHANNELS, Kind::Input);
        g.backward(losses, seed)?;
        squared_norm = Some(g.scope("update", |g| nadam::update(g, &optimizer)));
        loss_weights = Some(seed);
    }
    let states = states(&[lower, upper]);
    let io = Io { roll, start, weight, style, keep, loss_weights, losses, squared_norm, states };
    Ok(Built { plan: Plan::compile(format!("{name} B={batch} T={steps}"), graph), io })
}

fn dropped(g: &mut Graph, x: View, drop: Drop) -> View {
    if drop.rate == 0.0 {
        return x;
    }
    let y = g.temp_as("dropped", x.len, x.format);
    g.apply(Dropout { len: x.len, drop, stored: x.format }, &[x, y]);
    g.drop_after_forward(y);
    y
}

/// h and c of the time axis' layers, all of which carry their state.
fn states(layers: &[Output; 2]) -> [View; 4] {
    let [a, b] = layers.each_ref().map(|l| l.state.unwrap_or([l.h, l.h]));
    [a[0], a[1], b[0], b[1]]
}

/// The tensors through which the host talks to a generation plan.
#[derive(Clone, Copy, Debug)]
pub struct GenerateIo {
    /// Input `[P, S]`: each piece's style, a point in the simplex.
    pub style: View,
    /// Input `[W, P, N, 3]`: notes to be led through while `Step::forced` is set; row `clock mod W`.
    pub forced: View,
    /// State `[P, N, 3]`: the notes of the step before.
    pub notes: View,
    /// State `[2, P]`: clock (index of the step before, so -1 at the beginning), silent steps so far.
    pub clock: View,
    /// Output `[W, P, N, 5]`: row `clock mod W` holds play, replay, dynamics and the two probabilities.
    pub roll: View,
    /// States of the time axis: h and c of both layers, `[P N, H]` each.
    pub states: [View; 4],
}

/// The plan of one time step of generation for `pieces` pieces; run it as often as there are steps to compose, up to
/// `window` times between two readings of the roll.
///
/// # Errors
/// A configuration that cannot be built.
pub fn build_generate(c: &Config, pieces: usize, window: usize) -> Result<Built<GenerateIo>> {
    c.check()?;
    let n = c.notes;
    let mut graph = Graph::new();
    let g = &mut graph;
    let layers = Layers::declare(g, c);
    let style = g.tensor("style", pieces * c.styles, Kind::Input);
    let forced = g.tensor("forced", window * pieces * n * CHANNELS, Kind::Input);
    let notes = g.tensor("notes", pieces * n * CHANNELS, Kind::State);
    let clock = g.tensor("clock", STATE * pieces, Kind::State);
    let roll = g.tensor("roll", window * pieces * n * REPORTED, Kind::Output);

    let biases = layers.gate_biases(g, style, pieces, 0.0);
    let x = g.scope("features", |g| {
        let octave = layers.octave.forward(g, notes, pieces, n);
        let op = Features {
            steps: 1,
            batch: pieces,
            notes: n,
            lowest: c.lowest,
            octave: c.filters,
            beats: c.beats,
            octave_drop: Drop::NONE,
            beat_drop: Drop::NONE,
            stored: Format::F32,
        };
        let x = g.temp("features", pieces * n * op.width());
        g.apply(op, &[notes, octave, clock.slice(0, pieces), x]);
        x
    });
    let groups = RowGroups { inner: n, sequences: pieces };
    let lanes = Rows { steps: 1, rows: pieces * n, groups };
    let carried = State::Carried { keep: None };
    let lower = g.scope("time.0", |g| layers.time[0].forward(g, x, lanes, biases[0], carried));
    let upper = g.scope("time.1", |g| layers.time[1].forward(g, lower.h, lanes, biases[1], carried));

    // The first note layer's input product does not wait for the coins but for its last three columns, the lower note.
    let [first, second] = [&layers.note[0], &layers.note[1]];
    let gates = 4 * c.note_units;
    let input = g.temp("note_input", pieces * n * gates);
    let (bias, sequences) = biases[2];
    let rows = if sequences == 1 { RowGroups { inner: 1, sequences: 1 } } else { groups };
    let product = Gemm::new(Layout::NN, pieces * n, gates, c.time_units).with_bias(rows);
    g.apply(product, &[upper.h, first.input.slice(0, c.time_units * gates), bias, input]);
    let bias2 = per_piece(g, biases[3], pieces, gates);
    // One range that covers all weights of the sweep: the note layers and the heads were declared last.
    let from = first.input.start;
    let weights = View { start: from, len: g.params_len() - from, ..first.input };
    let offsets = Offsets {
        chosen: c.time_units * gates,
        recurrent1: first.recurrent.start - from,
        input2: second.input.start - from,
        recurrent2: second.recurrent.start - from,
        head: layers.heads.weight.start - from,
        head_bias: layers.heads.bias.start - from,
    };
    let sweep = NoteSweep { pieces, notes: n, units: c.note_units, window, weights: weights.len, offsets };
    g.scope("sweep", |g| g.apply(sweep, &[weights, input, bias2, forced, notes, clock, roll]));
    let io = GenerateIo { style, forced, notes, clock, roll, states: states(&[lower, upper]) };
    Ok(Built { plan: Plan::compile(format!("generate pieces={pieces}"), graph), io })
}

/// A bias with one row a piece.
fn per_piece(g: &mut Graph, (bias, sequences): (View, usize), pieces: usize, width: usize) -> View {
    if sequences == pieces && sequences > 1 || pieces == 1 {
        return bias;
    }
    let rows = g.temp("bias_rows", pieces * width);
    let groups = RowGroups { inner: 1, sequences: 1 };
    g.apply(crate::ops::reduce::BroadcastRows { rows: pieces, cols: width, groups }, &[bias, rows]);
    rows
}

/// Columns of the time axis' input.
fn feature_width(c: &Config) -> usize {
    BEFORE_OCTAVE + c.filters + c.beats
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_makes_what_depends_on_style_alone_once_a_run() {
        let plan = build_generate(&Config::preset(Preset::Small, 3), 2, 16).unwrap().plan;
        let (once, repeated) = plan.nodes.split_at(plan.invariant);
        assert!(!once.is_empty() && once.iter().all(|node| node.scope == "style"));
        assert!(repeated.iter().all(|node| node.scope != "style"));
    }
}
