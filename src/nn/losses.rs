//! The heads with their losses as a layer: parts, totals, and the seed of the backward walk.

use super::dense::Dense;
use crate::graph::{Graph, Kind};
use crate::ops::View;
use crate::ops::heads::{Heads, Shape};
use crate::ops::note_input::CHANNELS;
use crate::ops::reduce::SumRows;

/// Appends the heads on `x [N, rows, H]` and their losses against `target [rows, N, 3]`; returns the output `[play, replay,
/// dynamics]`, means over the cells that `weight [rows]` counts.
pub fn losses(graph: &mut Graph, heads: &Dense, shape: Shape, x: View, target: View, weight: View) -> View {
    let parts = graph.temp("losses_of_parts", shape.parts() * CHANNELS);
    let slopes = graph.temp("slopes", shape.notes * shape.rows * CHANNELS);
    graph.apply(Heads(shape), &[x, heads.weight, heads.bias, target, weight, parts, slopes]);
    let totals = graph.tensor("losses", CHANNELS, Kind::Output);
    graph.apply(SumRows::all(shape.parts(), CHANNELS), &[parts, totals]);
    totals
}
