//! A fully connected layer.

use crate::graph::{Graph, Init, Layout};
use crate::ops::View;
use crate::ops::gemm::{self, Activation, Gemm};

/// `y = activation(x W + b)`, with the parameters `weight [inputs, outputs]` and `bias [outputs]`.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use deepj::prelude::*;
///
/// let mut layout = Layout::new();
/// let hidden = Dense::new(&mut layout, "hidden", 2, 8);
/// let mut graph = Graph::new(Arc::new(layout));
/// let x = graph.tensor("x", 10 * 2, Kind::Input);
/// let y = hidden.forward(&mut graph, x, 10, Activation::Tanh);
/// assert_eq!(y.len, 10 * 8);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Dense {
    /// `[inputs, outputs]`.
    pub weight: View,
    /// `[outputs]`.
    pub bias: View,
    inputs: usize,
    outputs: usize,
}

impl Dense {
    /// Declares the parameters.
    pub fn new(layout: &mut Layout, name: &str, inputs: usize, outputs: usize) -> Self {
        layout.scope(name, |layout| Self {
            weight: layout.param("weight", &[inputs, outputs], Init::Glorot { fan_in: inputs, fan_out: outputs }),
            bias: layout.param("bias", &[outputs], Init::Zero),
            inputs,
            outputs,
        })
    }

    /// Appends the layer on `x [rows, inputs]`; returns `[rows, outputs]`.
    pub fn forward(&self, graph: &mut Graph, x: View, rows: usize, activation: Activation) -> View {
        let y = graph.temp("y", rows * self.outputs);
        let gemm = Gemm::new(gemm::Layout::NN, rows, self.outputs, self.inputs).with_bias_vector();
        let gemm = gemm.of([x.format, self.weight.format, y.format]);
        graph.apply(Gemm { activation, ..gemm }, &[x, self.weight, self.bias, y]);
        y
    }
}
