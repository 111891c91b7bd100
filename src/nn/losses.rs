//! The heads with their losses as a layer: parts, totals, and where the backward pass begins.

use super::dense::Dense;
use crate::graph::{Graph, Kind};
use crate::ops::View;
use crate::ops::heads::{Heads, Shape};
use crate::ops::reduce::SumRows;

/// Appends the heads on `x [N, rows, H]` and their losses against `target [rows, N, C]`; returns the output `[C]`, head by
/// head the mean over the cells that `weight [rows]` counts.
pub fn losses(graph: &mut Graph, heads: &Dense, shape: Shape, x: View, target: View, weight: View) -> View {
    let (parts, count) = (shape.parts(), shape.heads.len());
    let of_parts = graph.temp("losses_of_parts", parts * count);
    let logit_grads = graph.temp("logit_grads", shape.notes * shape.rows * count);
    graph.apply(Heads(shape), &[x, heads.weight, heads.bias, target, weight, of_parts, logit_grads]);
    let totals = graph.tensor("losses", count, Kind::Output);
    graph.apply(SumRows::all(parts, count), &[of_parts, totals]);
    totals
}
