//! The octave convolution as a layer.

use crate::graph::{Graph, Init, Layout};
use crate::ops::View;
use crate::ops::octave_conv::{OctaveConv, Shape};

/// Parameters of the convolution: `weight [taps, channels, filters]`, `bias [filters]`.
#[derive(Clone, Copy, Debug)]
pub struct OctaveConvLayer {
    weight: View,
    bias: View,
    taps: usize,
    channels: usize,
    filters: usize,
}

impl OctaveConvLayer {
    /// Declares the parameters.
    pub fn new(layout: &mut Layout, name: &str, taps: usize, channels: usize, filters: usize) -> Self {
        layout.scope(name, |layout| Self {
            weight: layout.param(
                "weight",
                &[taps, channels, filters],
                Init::Glorot { fan_in: taps * channels, fan_out: taps * filters },
            ),
            bias: layout.param("bias", &[filters], Init::Zero),
            taps,
            channels,
            filters,
        })
    }

    /// Appends the layer on `x [rows, notes, channels]`; returns `[rows, notes, filters]`.
    pub fn forward(&self, graph: &mut Graph, x: View, rows: usize, notes: usize) -> View {
        let Self { taps, channels, filters, .. } = *self;
        let y = graph.temp("octave", rows * notes * filters);
        graph.apply(OctaveConv(Shape { rows, notes, channels, taps, filters }), &[x, self.weight, self.bias, y]);
        y
    }
}
