//! The losses as a layer: rows, totals, and the seed of the backward walk.

use crate::graph::{Graph, Kind};
use crate::ops::View;
use crate::ops::loss::{Loss, Shape};
use crate::ops::note_input::CHANNELS;
use crate::ops::reduce::SumRows;

/// Appends the losses of `logits [N, rows, 3]` against `target [rows, N, 3]`; returns the output `[play, replay,
/// dynamics]`, means over the cells that `weight [rows]` counts.
pub fn losses(graph: &mut Graph, shape: Shape, logits: View, target: View, weight: View) -> View {
    let rows = graph.temp("loss_rows", shape.rows * CHANNELS);
    graph.apply(Loss(shape), &[logits, target, weight, rows]);
    let totals = graph.tensor("losses", CHANNELS, Kind::Output);
    graph.apply(SumRows::all(shape.rows, CHANNELS), &[rows, totals]);
    totals
}
