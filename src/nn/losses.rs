//! The heads with their losses as a layer: parts, totals, and where the backward pass begins.

use super::dense::Dense;
use super::dropout::dropped;
use crate::graph::{Graph, Kind, Layout, RowOrder};
use crate::ops::View;
use crate::ops::dropout::DropoutSite;
use crate::ops::gemm::Activation;
use crate::ops::heads::{HeadSet, Shape};
use crate::ops::reduce::SumRows;
use crate::ops::softmax_loss::SoftmaxLoss;

/// How the outputs of a cell are scored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scores {
    /// The heads of one output each.
    pub heads: HeadSet,
    /// The channel that is predicted as a distribution over bins, where there is one, and whether it counts only where the
    /// target plays.
    pub binned: Option<(usize, bool)>,
}

/// Parameters: `heads.weight [H, heads]`, `heads.bias [heads]`, and of a channel that is predicted as a distribution `bins.weight
/// [H, bins]`, `bins.bias [bins]`.
#[derive(Clone, Debug)]
pub struct Heads {
    /// The heads of one output each.
    pub outputs: Dense,
    bins: Option<(Dense, usize)>,
    units: usize,
}

impl Heads {
    /// Declares the parameters of heads on `units` features; `bins` is 0 where no channel is a distribution.
    pub fn new(layout: &mut Layout, units: usize, heads: usize, bins: usize) -> Self {
        let outputs = Dense::new(layout, "heads", units, heads);
        let bins = (bins > 0).then(|| (Dense::new(layout, "bins", units, bins), bins));
        Self { outputs, bins, units }
    }

    /// The layer that makes the bins' logits.
    pub fn bins(&self) -> Option<Dense> {
        self.bins.map(|(dense, _)| dense)
    }

    /// Appends the heads on `x [N, rows, H]`, which is dropped out before, and their losses against `target [rows, N, C]`; returns the output `[L]`, loss by
    /// loss the mean over the cells that `weight [rows, C]` counts: those of the heads, then that of the bins.
    pub fn losses(
        &self,
        graph: &mut Graph,
        scores: Scores,
        (rows, notes): (usize, usize),
        (x, drop): (View, DropoutSite),
        target: View,
        weight: View,
    ) -> View {
        let Scores { heads, binned } = scores;
        // The bins see the same features, and do not drop them on their own.
        let (x, drop) = if self.bins.is_some() { (dropped(graph, x, drop), DropoutSite::NONE) } else { (x, drop) };
        let shape = Shape { rows, notes, units: self.units, heads, drop, stored: x.format };
        let (parts, count, cells) = (shape.parts(), heads.len(), rows * notes);
        let of_parts = graph.temp("losses_of_parts", parts * count);
        let logit_grads = graph.temp("logit_grads", cells * count);
        let Dense { weight: w, bias, .. } = self.outputs;
        graph.apply(crate::ops::heads::Heads(shape), &[x, w, bias, target, weight, of_parts, logit_grads]);
        if graph.exposes_layers() {
            let z = self.outputs.forward(graph, x, cells, Activation::Identity);
            graph.expose("heads", z, RowOrder::NoteFirst, count);
        }
        let totals = graph.tensor("losses", count + usize::from(self.bins.is_some()), Kind::Output);
        graph.apply(SumRows::all(parts, count), &[of_parts, totals.slice(0, count)]);
        if let (Some((dense, bins)), Some((channel, masked))) = (&self.bins, binned) {
            let z = dense.forward(graph, x, cells, Activation::Identity);
            graph.expose("bins", z, RowOrder::NoteFirst, *bins);
            let channels = target.len / cells;
            let op = SoftmaxLoss { rows, notes, bins: *bins, channels, channel, masked };
            let of_parts = graph.temp("losses_of_parts", op.parts());
            graph.apply(op, &[z, target, weight, of_parts]);
            graph.apply(SumRows::all(op.parts(), 1), &[of_parts, totals.slice(count, 1)]);
        }
        totals
    }
}
