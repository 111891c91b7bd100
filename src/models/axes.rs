//! What DeepJ and the Biaxial LSTM share: LSTM layers over time, whose weights all notes share, then LSTM layers over notes, whose
//! weights all time steps share, then heads (paper, sections II-B and III).

use super::network::Inputs;
use super::{Generation, GenerationIo, StateShape};
use crate::graph::{Graph, Kind, Layout, RowOrder};
use crate::nn::losses::{Heads, Scores};
use crate::nn::lstm::{self, LstmLayer, Rows, State};
use crate::ops::dropout::DropoutSite;
use crate::ops::gemm::{self, Gemm};
use crate::ops::note_input::NoteInput;
use crate::ops::note_sweep::{CONTROLS, NoteSweep, Offsets, STATE};
use crate::ops::reduce::BroadcastRows;
use crate::ops::{RowGroups, View};

/// LSTM layers of each axis.
pub const LAYERS: usize = 2;
/// The names of the layers, time axis first.
pub const NAMES: [&str; 2 * LAYERS] = ["time.0", "time.1", "note.0", "note.1"];

/// The first of the dropout sites after the LSTM layers, time axis first; the others follow. A network's own sites are below.
const HIDDEN: u32 = 16;
/// The dropout site of the notes that were chosen, as the note axis sees them.
pub const CHOSEN: u32 = 4;

/// The layers, in the order in which they are declared; the note axis and the heads must be a network's last.
#[derive(Clone, Debug)]
pub struct Axes {
    /// Over time.
    pub time: [LstmLayer; LAYERS],
    /// Over notes.
    pub note: [LstmLayer; LAYERS],
    /// On top of the last.
    pub heads: Heads,
}

/// Bias of a layer's gates, and how many sequences it tells apart.
pub type GateBias = (View, usize);

/// The sizes and rates of a forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// N.
    pub notes: usize,
    /// C, values of a cell.
    pub channels: usize,
    /// How the outputs are scored.
    pub scores: Scores,
    /// Dropout after each LSTM layer.
    pub dropout: f32,
    /// Dropout of the chosen notes.
    pub chosen_dropout: f32,
}

impl Axes {
    /// All LSTM layers, time axis first.
    pub fn layers(&self) -> impl Iterator<Item = &LstmLayer> {
        self.time.iter().chain(&self.note)
    }

    /// The gates' biases of layers that nothing conditions.
    pub fn plain_biases(&self) -> Vec<GateBias> {
        self.layers().map(|layer| (layer.bias, 1)).collect()
    }

    /// Appends the layers on `x [T, B, N, features]`, and the losses. Returns these, `[L]`, and the states of the time axis: of
    /// each layer h and c.
    pub fn forward(
        &self,
        g: &mut Graph,
        x: View,
        biases: &[GateBias],
        inputs: &Inputs,
        pass: Pass,
    ) -> (View, Vec<View>) {
        let Pass { notes: n, channels, scores, dropout: rate, chosen_dropout } = pass;
        let Inputs { slots: batch, steps, weight, keep, .. } = *inputs;
        let (rows, target) = (batch * steps, inputs.target());
        let hidden = |layer: usize, inner: usize| DropoutSite { site: HIDDEN + layer as u32, rate, inner };
        let [time_units, note_units] = [&self.time, &self.note].map(|axis| axis.each_ref().map(|layer| layer.units));

        g.expose("features", x, RowOrder::TimeFirst, self.time[0].widths.input);
        let of_time = Rows { steps, rows: batch * n, groups: RowGroups { inner: n, sequences: batch } };
        let carried = State::Carried { keep: Some(keep) };
        let (layers, drop) = (self.time.each_ref(), hidden(0, n * time_units[0]));
        let [lower, upper] = lstm::stacked(g, "time", layers, x, (of_time, carried), [biases[0], biases[1]], drop);

        for (name, layer, units) in [(NAMES[0], lower, time_units[0]), (NAMES[1], upper, time_units[1])] {
            g.expose(name, layer.h, RowOrder::TimeFirst, units);
        }

        let (units, stored) = (time_units[1], upper.h.format);
        let transpose = NoteInput {
            rows,
            notes: n,
            units,
            channels,
            drop: hidden(1, n * units),
            chosen_drop: DropoutSite { site: CHOSEN, rate: chosen_dropout, inner: n * channels },
            stored,
        };
        let x = g.temp_as("note_input", n * rows * transpose.row(), stored);
        g.apply(transpose, &[upper.h, target, x]);
        g.drop_after_forward(x);
        g.expose("note_input", x, RowOrder::NoteFirst, self.note[0].widths.input);
        let of_notes = Rows { steps: n, rows, groups: RowGroups { inner: 1, sequences: batch } };
        let (layers, drop) = (self.note.each_ref(), hidden(2, note_units[0]));
        let [below, out] = lstm::stacked(g, "note", layers, x, (of_notes, State::Zero), [biases[2], biases[3]], drop);
        for (name, layer, units) in [(NAMES[2], below, note_units[0]), (NAMES[3], out, note_units[1])] {
            g.expose(name, layer.h, RowOrder::NoteFirst, units);
        }
        let x = (out.h, hidden(3, note_units[1]));
        let losses = g.scope("heads", |g| self.heads.losses(g, scores, (rows, n), x, target, weight));
        (losses, [lower, upper].into_iter().flat_map(|layer| layer.state.into_iter().flatten()).collect())
    }
}

/// What the time axis carries, of each layer h and c, for so many slots, notes and units of its layers.
pub fn states(slots: usize, notes: usize, units: [usize; LAYERS]) -> Vec<StateShape> {
    let of_layer = |(layer, units): (usize, usize)| {
        ["h", "c"].map(|part| StateShape::new(format!("state.time.{layer}.{part}"), [slots, notes, units]))
    };
    units.into_iter().enumerate().flat_map(of_layer).collect()
}

/// The inputs of a time step of generation that a network sees.
#[derive(Clone, Copy, Debug)]
pub struct Composing {
    /// P, pieces side by side.
    pub pieces: usize,
    /// See [`GenerationIo::style`].
    pub style: Option<View>,
    /// See [`GenerationIo::notes`].
    pub notes: View,
    /// `[P]`: index in each piece of the time step before.
    pub clock: View,
}

impl Axes {
    /// The graph of one time step of generation, for so many pieces and windows of so many time steps; `first` appends what a
    /// network makes of its inputs: the gates' biases and the time axis' input.
    pub fn time_step(
        &self,
        layout: &std::sync::Arc<Layout>,
        (n, channels, styles): (usize, usize, usize),
        (pieces, window): (usize, usize),
        first: impl FnOnce(&mut Graph, Composing) -> (Vec<GateBias>, View),
    ) -> Generation {
        let mut graph = Graph::new(layout.clone());
        let g = &mut graph;
        let style = (styles > 0).then(|| g.tensor("style", pieces * styles, Kind::Input));
        let forced = g.tensor("forced", window * pieces * n * channels, Kind::Input);
        let control = g.tensor("control", window * pieces * (n + CONTROLS), Kind::Input);
        let notes = g.tensor("notes", pieces * n * channels, Kind::State);
        let clock = g.tensor("clock", STATE * pieces, Kind::State);
        let (biases, x) = first(g, Composing { pieces, style, notes, clock: clock.slice(0, pieces) });

        let groups = RowGroups { inner: n, sequences: pieces };
        let of_time = Rows { steps: 1, rows: pieces * n, groups };
        let carried = State::Carried { keep: None };
        let lower = g.scope("time.0", |g| self.time[0].forward(g, x, of_time, biases[0], carried));
        let upper = g.scope("time.1", |g| self.time[1].forward(g, lower.h, of_time, biases[1], carried));
        let states = [lower.state, upper.state].into_iter().flatten().flatten().collect();

        // The first note layer's input product waits for no random draw but in its last columns, the lower note.
        let [lower, higher] = &self.note;
        let (gates, time_units) = (4 * lower.units, self.time[1].units);
        let input = g.temp("note_input", pieces * n * gates);
        let (bias, sequences) = biases[2];
        let rows = if sequences == 1 { RowGroups { inner: 1, sequences: 1 } } else { groups };
        let product = Gemm::new(gemm::Layout::NN, pieces * n, gates, time_units).with_bias(rows);
        g.apply(product, &[upper.h, lower.input.slice(0, time_units * gates), bias, input]);
        let bias2 = per_piece(g, biases[3], pieces, 4 * higher.units);
        // One range that covers all weights of the sweep: the note layers and the heads were declared last.
        let from = lower.input.start;
        let weights = View { start: from, len: layout.len() - from, ..lower.input };
        let bins = self.heads.bins();
        let offsets = Offsets {
            chosen: time_units * gates,
            recurrent1: lower.recurrent.start - from,
            input2: higher.input.start - from,
            recurrent2: higher.recurrent.start - from,
            head: self.heads.outputs.weight.start - from,
            head_bias: self.heads.outputs.bias.start - from,
            bins: bins.map_or(0, |dense| dense.weight.start - from),
            bins_bias: bins.map_or(0, |dense| dense.bias.start - from),
        };
        let (units, bins) = ([lower.units, higher.units], bins.map_or(0, |dense| dense.bias.len));
        let sweep = NoteSweep { pieces, notes: n, units, channels, bins, window, weights: weights.len, offsets };
        let reported = sweep.reported();
        let roll = g.tensor("roll", window * pieces * n * reported, Kind::Output);
        g.scope("sweep", |g| g.apply(sweep, &[weights, input, bias2, forced, control, notes, clock, roll]));
        let io = GenerationIo { style, forced, control, notes, clock, states, roll, reported };
        Generation { name: format!("generate pieces={pieces}"), graph, io }
    }
}

/// A bias with one row a piece.
fn per_piece(g: &mut Graph, (bias, sequences): GateBias, pieces: usize, width: usize) -> View {
    if sequences == pieces && sequences > 1 || pieces == 1 {
        return bias;
    }
    let rows = g.temp("bias_rows", pieces * width);
    let groups = RowGroups { inner: 1, sequences: 1 };
    g.apply(BroadcastRows { rows: pieces, cols: width, groups }, &[bias, rows]);
    rows
}
