//! An LSTM layer over a sequence, conditioned on style.

use super::dropout::dropped;
use super::style::{Conditioning, Widths};
use crate::graph::{Graph, Init, Kind, Layout};
use crate::ops::carry::{Carry, Source};
use crate::ops::cast::Cast;
use crate::ops::dropout::DropoutSite;
use crate::ops::gemm::{self, Gemm};
use crate::ops::lstm::Lstm;
use crate::ops::lstm_pair::{LstmPair, Pair};
use crate::ops::{RowGroups, View};

/// Parameters: `input [inputs, 4H]`, `recurrent [H, 4H]`, `bias [4H]`, gates in the order i, f, g, o, and those of the
/// style conditioning.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use deepj::prelude::*;
///
/// let mut layout = Layout::new();
/// let lstm = LstmLayer::plain(&mut layout, "lstm", 3, 16);
/// let mut graph = Graph::new(Arc::new(layout));
/// let (slots, steps) = (4, 32);
/// let x = graph.tensor("x", steps * slots * 3, Kind::Input);
/// let bias = (lstm.bias, 1);
/// let output = lstm.forward(&mut graph, x, Rows::of_slots(slots, steps), bias, State::Zero);
/// assert_eq!(output.h.len, steps * slots * 16);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct LstmLayer {
    /// `[inputs, 4H]`.
    pub input: View,
    /// `[H, 4H]`.
    pub recurrent: View,
    /// `[4H]`.
    pub bias: View,
    /// How style enters.
    pub conditioning: Conditioning,
    /// H.
    pub units: usize,
    /// Widths of style, input and gates.
    pub widths: Widths,
}

/// The rows of an LSTM's sequences.
///
/// # Examples
///
/// ```
/// use deepj::prelude::*;
///
/// let rows = Rows::of_slots(8, 64);
/// assert_eq!((rows.steps, rows.rows), (64, 8));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    /// T, steps of the sequence.
    pub steps: usize,
    /// Independent sequences.
    pub rows: usize,
    /// Which batch slot each row belongs to.
    pub groups: RowGroups,
}

impl Rows {
    /// One sequence of so many steps for each batch slot.
    pub fn of_slots(slots: usize, steps: usize) -> Self {
        Self { steps, rows: slots, groups: RowGroups { inner: 1, sequences: slots } }
    }

    /// The rows of a bias with so many sequences: one, or one for each batch slot.
    fn told_apart(&self, sequences: usize) -> RowGroups {
        if sequences == 1 { RowGroups { inner: 1, sequences: 1 } } else { self.groups }
    }
}

/// Where the state of a sequence starts.
///
/// # Examples
///
/// ```
/// use deepj::prelude::*;
///
/// // Windows that follow one another, of which each slot may begin another piece.
/// let mut graph = Graph::without_params();
/// let keep = graph.tensor("keep", 8, Kind::Input);
/// assert!(matches!(State::Carried { keep: Some(keep) }, State::Carried { keep: Some(view) } if view.len == 8));
/// ```
#[derive(Clone, Copy, Debug)]
pub enum State {
    /// From zero each time.
    Zero,
    /// From where the run before ended, row by row times `keep [batch]` where that is given.
    Carried {
        /// 1 to carry on, 0 to start anew, for each batch slot.
        keep: Option<View>,
    },
}

/// What a layer gives.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// `[T, rows, H]`.
    pub h: View,
    /// The tensors in which the state is kept from run to run, `[rows, H]` each: h and c.
    pub state: Option<[View; 2]>,
}

impl LstmLayer {
    /// Declares the parameters; `condition` declares those of the style.
    pub fn new(
        layout: &mut Layout,
        name: &str,
        widths: Widths,
        condition: impl FnOnce(&mut Layout, Widths) -> Conditioning,
    ) -> Self {
        let units = widths.gates / 4;
        layout.scope(name, |layout| Self {
            // Glorot's bounds are those of one gate, as if the four matrices stood apart.
            input: layout.param(
                "input",
                &[widths.input, widths.gates],
                Init::Glorot { fan_in: widths.input, fan_out: units },
            ),
            recurrent: layout.param("recurrent", &[units, widths.gates], Init::OrthogonalGates),
            bias: layout.param("bias", &[widths.gates], Init::ForgetOne),
            conditioning: condition(layout, widths),
            units,
            widths,
        })
    }

    /// Declares the parameters of a layer without style; its gates' biases are `(bias, 1)` for [`LstmLayer::forward`].
    pub fn plain(layout: &mut Layout, name: &str, inputs: usize, units: usize) -> Self {
        let widths = Widths { style: 0, input: inputs, gates: 4 * units };
        Self::new(layout, name, widths, |_, _| Conditioning::None)
    }

    /// Appends the gate biases of the layer of this name from the style embedding; see [`Conditioning::gate_bias`].
    pub fn gate_bias(
        &self,
        graph: &mut Graph,
        name: &str,
        embedding: (View, usize),
        drop: DropoutSite,
    ) -> (View, usize) {
        let layer = (name, self.widths, self.input, self.bias);
        self.conditioning.gate_bias(graph, layer, embedding, drop)
    }

    /// Appends the layer on `x [T, rows, inputs]`, whose rows may be padded with zeros.
    pub fn forward(&self, graph: &mut Graph, x: View, rows: Rows, bias: (View, usize), state: State) -> Output {
        let (steps, n, units) = (rows.steps, rows.rows, self.units);
        let gates = self.input_product(graph, x, rows, bias);
        let (stored, size) = (x.format, n * units);
        let h = graph.temp_as("h", (steps + 1) * size, stored);
        // What is summed over all steps stays in f32.
        let c = graph.temp("c", (steps + 1) * size);
        let kept = begin(graph, rows, units, state, [h.slice(0, size), c.slice(0, size)]);
        let recurrent = graph.weight(self.recurrent);
        let op = Lstm { steps, rows: n, units, weights: recurrent.format, stored };
        graph.apply(op, &[recurrent, gates, h, c]);
        end(graph, [h, c].map(|of| of.slice(steps * size, size)), kept);
        Output { h: h.slice(size, steps * size), state: kept }
    }

    /// The gates' pre-activations without their recurrent products.
    fn input_product(&self, graph: &mut Graph, x: View, rows: Rows, (bias, sequences): (View, usize)) -> View {
        let (all, gates_width, stored) = (rows.steps * rows.rows, self.widths.gates, x.format);
        let input = graph.weight(self.input);
        let gates = graph.temp_as("gates", all * gates_width, stored);
        let product =
            Gemm::new(gemm::Layout::NN, all, gates_width, self.widths.input).padded([x.len / all, gates_width]);
        let product = product.with_bias(rows.told_apart(sequences));
        graph.apply(product.of([stored, input.format, stored]), &[x, input, bias, gates]);
        graph.drop_after_forward(gates);
        gates
    }
}

/// Appends what puts the states before the first step, h and c, into `to`, `[rows, H]` each. Returns where they are kept from run to
/// run, if they are.
fn begin(graph: &mut Graph, rows: Rows, units: usize, state: State, to: [View; 2]) -> Option<[View; 2]> {
    let carry = |source, stored: [View; 2]| Carry {
        rows: rows.rows,
        width: units,
        source,
        stored: stored.map(|view| view.format),
    };
    let State::Carried { keep } = state else {
        to.into_iter().for_each(|to| graph.apply(carry(Source::Zero, [to, to]), &[to]));
        return None;
    };
    let size = rows.rows * units;
    let kept = [graph.tensor("state_h", size, Kind::State), graph.tensor("state_c", size, Kind::State)];
    for (from, to) in kept.into_iter().zip(to) {
        match keep {
            Some(keep) => graph.apply(carry(Source::Keep(rows.groups), [from, to]), &[from, keep, to]),
            None => copy(graph, from, to),
        }
    }
    Some(kept)
}

/// Appends what keeps the states after the last step.
fn end(graph: &mut Graph, last: [View; 2], kept: Option<[View; 2]>) {
    last.into_iter().zip(kept.into_iter().flatten()).for_each(|(from, to)| copy(graph, from, to));
}

fn copy(graph: &mut Graph, from: View, to: View) {
    graph.apply(Cast { len: from.len, from: from.format, to: to.format }, &[from, to]);
}

/// Appends two layers on `x [T, rows, inputs]`, one above the other with dropout between them, in the scopes `name.0` and `name.1`:
/// one after the other, or beside each other where the graph does so and their sizes allow it.
pub fn stacked(
    graph: &mut Graph,
    name: &str,
    [lower, upper]: [&LstmLayer; 2],
    x: View,
    (rows, state): (Rows, State),
    [below, above]: [(View, usize); 2],
    drop: DropoutSite,
) -> [Output; 2] {
    let [scope, upper_scope] = [0, 1].map(|layer| format!("{name}.{layer}"));
    let units = [lower.units, upper.units];
    if !graph.pairs() || units.iter().any(|units| !units.is_multiple_of(Pair::UNITS)) {
        let first = graph.scope(&scope, |g| lower.forward(g, x, rows, below, state));
        let x = dropped(graph, first.h, drop);
        let second = graph.scope(&upper_scope, |g| upper.forward(g, x, rows, above, state));
        return [first, second];
    }
    let (steps, n, stored) = (rows.steps, rows.rows, x.format);
    let sizes = units.map(|units| n * units);
    let cells = sizes[0] + sizes[1];
    let gates = graph.scope(&scope, |g| lower.input_product(g, x, rows, below));
    let [h, upper_h] = [(&scope, 0), (&upper_scope, 1)]
        .map(|(scope, i)| graph.scope(scope, |g| g.temp_as("h", (steps + 1) * sizes[i], stored)));
    let between = graph.temp_as("dropped", steps * sizes[0], stored);
    let upper_gates = graph.scope(&upper_scope, |g| g.temp_as("gates", steps * n * upper.widths.gates, stored));
    let c = graph.scope(name, |g| g.temp("c", (steps + 1) * cells));
    let slots = |slot: usize| {
        let of = |h: View, i: usize, start: usize| {
            [h.slice(slot * sizes[i], sizes[i]), c.slice(slot * cells + start, sizes[i])]
        };
        [of(h, 0, 0), of(upper_h, 1, sizes[0])]
    };
    let kept = [(&scope, 0), (&upper_scope, 1)]
        .map(|(scope, i)| graph.scope(scope, |g| begin(g, rows, units[i], state, slots(0)[i])));
    // The weights of both layers, and what was declared between them.
    let from = lower.recurrent.start;
    let len = upper.recurrent.start + upper.recurrent.len - from;
    let weights = graph.weight(View { len, ..lower.recurrent });
    let starts = [lower.recurrent, upper.input, upper.recurrent].map(|matrix| matrix.start - from);
    let pair =
        Pair { steps, rows: n, units, weights_len: len, weights: starts, drop, weights_in: weights.format, stored };
    let op = LstmPair { pair, groups: rows.told_apart(above.1) };
    graph.scope(name, |g| g.apply(op, &[weights, above.0, gates, h, between, upper_gates, upper_h, c]));
    for (i, scope) in [&scope, &upper_scope].into_iter().enumerate() {
        graph.scope(scope, |g| end(g, slots(steps)[i], kept[i]));
    }
    [(h, 0), (upper_h, 1)].map(|(h, i)| Output { h: h.slice(sizes[i], steps * sizes[i]), state: kept[i] })
}
