//! An LSTM layer over a sequence, conditioned on style.

use super::style::{Conditioning, Widths};
use crate::graph::{Graph, Init, Kind, Layout};
use crate::ops::carry::{Carry, Source};
use crate::ops::cast::Cast;
use crate::ops::dropout::DropoutSite;
use crate::ops::gemm::{self, Gemm};
use crate::ops::lstm::Lstm;
use crate::ops::{RowGroups, View};

/// Parameters: `input [inputs, 4H]`, `recurrent [H, 4H]`, `bias [4H]`, gates in the order i, f, g, o, and those of the
/// style conditioning.
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
}

/// Where the state of a sequence starts.
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

    /// Appends the gate biases from the style embedding; see [`Conditioning::gate_bias`].
    pub fn gate_bias(&self, graph: &mut Graph, embedding: View, batch: usize, drop: DropoutSite) -> (View, usize) {
        self.conditioning.gate_bias(graph, embedding, batch, self.widths, (self.input, self.bias), drop)
    }

    /// Appends the layer on `x [T, rows, inputs]`.
    pub fn forward(
        &self,
        graph: &mut Graph,
        x: View,
        rows: Rows,
        (bias, sequences): (View, usize),
        state: State,
    ) -> Output {
        let (steps, n, units, gates_width) = (rows.steps, rows.rows, self.units, self.widths.gates);
        let (input, recurrent) = (graph.weight(self.input), graph.weight(self.recurrent));
        let stored = x.format;
        let gates = graph.temp_as("gates", steps * n * gates_width, stored);
        let groups = if sequences == 1 { RowGroups { inner: 1, sequences: 1 } } else { rows.groups };
        let product = Gemm::new(gemm::Layout::NN, steps * n, gates_width, self.widths.input).with_bias(groups);
        graph.apply(product.of([stored, input.format, stored]), &[x, input, bias, gates]);
        graph.drop_after_forward(gates);
        let size = n * units;
        let h = graph.temp_as("h", (steps + 1) * size, stored);
        // What is summed over all steps stays in f32.
        let c = graph.temp("c", (steps + 1) * size);
        // Into and out of the slots of the window's border.
        let copy = |graph: &mut Graph, from: View, to: View| {
            graph.apply(Cast { len: size, from: from.format, to: to.format }, &[from, to]);
        };
        let carry =
            |source, stored: [View; 2]| Carry { rows: n, width: units, source, stored: stored.map(|view| view.format) };
        let kept = match state {
            State::Zero => {
                for to in [h, c] {
                    graph.apply(carry(Source::Zero, [to, to]), &[to.slice(0, size)]);
                }
                None
            }
            State::Carried { keep } => {
                let kept = [graph.tensor("state_h", size, Kind::State), graph.tensor("state_c", size, Kind::State)];
                for (from, to) in kept.into_iter().zip([h, c]) {
                    match keep {
                        Some(keep) => {
                            let op = carry(Source::Keep(rows.groups), [from, to]);
                            graph.apply(op, &[from, keep, to.slice(0, size)]);
                        }
                        None => copy(graph, from, to.slice(0, size)),
                    }
                }
                Some(kept)
            }
        };
        let op = Lstm { steps, rows: n, units, weights: recurrent.format, stored };
        graph.apply(op, &[recurrent, gates, h, c]);
        for (from, to) in [h, c].into_iter().zip(kept.into_iter().flatten()) {
            copy(graph, from.slice(steps * size, size), to);
        }
        Output { h: h.slice(size, steps * size), state: kept }
    }
}
