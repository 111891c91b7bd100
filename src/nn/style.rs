//! How style enters an LSTM layer (paper, section III-C): as a bias of its gates, one for each sequence.
//!
//! The style vector does not depend on note or step, so `(x + h') W = x W + h' W`: the second term is one row for each
//! sequence, added to the layer's bias. The same holds for a style that is concatenated, with weights of its own.

use super::dense::Dense;
use crate::graph::{Graph, Init, Layout, RowOrder};
use crate::ops::dropout::{Dropout, DropoutSite};
use crate::ops::gemm::{self, Activation, Gemm};
use crate::ops::{RowGroups, View};

/// What a layer does with the style embedding.
#[derive(Clone, Copy, Debug)]
pub enum Conditioning {
    /// Nothing.
    None,
    /// `h' = tanh(h W' + b')` as wide as the layer's input, added to it.
    Sum(Dense),
    /// The embedding itself, or `h'`, concatenated to the layer's input through weights `[width, 4H]`.
    Concat {
        /// Makes `h'` from the embedding; without it the embedding is concatenated as it is.
        hidden: Option<Dense>,
        /// `[width, 4H]`.
        weight: View,
    },
}

/// The sizes of one conditioned LSTM layer.
#[derive(Clone, Copy, Debug)]
pub struct Widths {
    /// Of the style embedding.
    pub style: usize,
    /// Of the layer's input.
    pub input: usize,
    /// Of its gates, 4H.
    pub gates: usize,
}

impl Conditioning {
    /// Summation: declares `style.weight [style, input]` and `style.bias [input]`.
    pub fn sum(layout: &mut Layout, widths: Widths) -> Self {
        Self::Sum(Dense::new(layout, "style", widths.style, widths.input))
    }

    /// Concatenation, of a hidden layer's `h'` or of the embedding itself: declares `style_input [style, 4H]`, and with
    /// `hidden` the layer `style`.
    pub fn concat(layout: &mut Layout, widths: Widths, hidden: bool) -> Self {
        let hidden = hidden.then(|| Dense::new(layout, "style", widths.style, widths.style));
        // They are columns of the layer's input matrix, whose bounds are those of one gate.
        let init = Init::Glorot { fan_in: widths.input + widths.style, fan_out: widths.gates / 4 };
        Self::Concat { hidden, weight: layout.param("style_input", &[widths.style, widths.gates], init) }
    }

    /// Appends what turns `embedding [batch, style]` into gate biases; the LSTM layer's name, widths, input weights and bias are
    /// its own. Returns the bias and how many sequences it tells apart.
    pub fn gate_bias(
        &self,
        graph: &mut Graph,
        (name, widths, input_weight, bias): (&str, Widths, View, View),
        (embedding, batch): (View, usize),
        drop: DropoutSite,
    ) -> (View, usize) {
        let hidden = |graph: &mut Graph, dense: &Dense, width: usize| {
            let h = dense.forward(graph, embedding, batch, Activation::Tanh);
            graph.expose(format!("{name}.style"), h, RowOrder::Slots, width);
            if drop.rate == 0.0 {
                return h;
            }
            let dropped = graph.temp("style_dropped", batch * width);
            let drop = DropoutSite { inner: width, ..drop };
            graph.apply(Dropout { len: batch * width, drop, stored: h.format }, &[h, dropped]);
            dropped
        };
        let (h, width, weight) = match self {
            Self::None => return (bias, 1),
            Self::Sum(dense) => (hidden(graph, dense, widths.input), widths.input, input_weight),
            Self::Concat { hidden: Some(dense), weight } => (hidden(graph, dense, widths.style), widths.style, *weight),
            Self::Concat { hidden: None, weight } => (embedding, widths.style, *weight),
        };
        let y = graph.temp("gate_bias", batch * widths.gates);
        let gemm =
            Gemm::new(gemm::Layout::NN, batch, widths.gates, width).with_bias(RowGroups { inner: 1, sequences: 1 });
        graph.apply(gemm, &[h, weight, bias, y]);
        (y, batch)
    }
}
