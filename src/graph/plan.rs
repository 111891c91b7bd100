//! A graph made ready to run: buffers assigned by lifetime, costs summed, everything known before anything is allocated.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::builder::{Graph, Kind, Node, Tensor};
use super::layout::Layout;
use super::placement::{Home, Placement, Slot};
use crate::error::{Error, Result};
use crate::gpu::{Access, Capabilities, Format};
use crate::ops::{Cost, Recorded, Recorder, TensorId, View};

/// A graph with a place for every tensor.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use deepj::prelude::*;
///
/// let mut layout = Layout::new();
/// let layer = Dense::new(&mut layout, "layer", 256, 1024);
/// let mut graph = Graph::new(Arc::new(layout));
/// let x = graph.tensor("x", 64 * 256, Kind::Input);
/// layer.forward(&mut graph, x, 64, Activation::Identity);
/// let plan = Plan::compile("layer", graph);
/// // Two operations a multiply-add.
/// assert_eq!(plan.cost().flops, 2 * 64 * 1024 * 256);
/// assert!(plan.memory_bytes(None) > 4 * 256 * 1024);
/// ```
#[derive(Clone, Debug)]
pub struct Plan {
    /// Name for listings and device labels.
    pub name: String,
    /// Storage roots.
    pub tensors: Vec<Tensor>,
    /// What runs, in order.
    pub nodes: Vec<Node>,
    /// The model's parameters.
    pub layout: Arc<Layout>,
    /// Which of the buffers that all programs of a session share the nodes touch, by [`Kind::shared`]; each is as long as the
    /// layout.
    pub shared: BTreeSet<usize>,
    /// Nodes at the beginning that need no repetition where the plan runs several times in a row.
    pub invariant: usize,
    placement: Placement,
}

/// How many nodes at the beginning see nothing but inputs, parameters that stay as they are, and each other: what they
/// write is the same in every repetition.
fn invariant(tensors: &[Tensor], nodes: &[Node]) -> usize {
    let written = |node: &Node| {
        let args = node.op.args();
        let views = args.iter().zip(&node.operands).filter(|(arg, _)| arg.access == Access::ReadWrite);
        views.map(|(_, view)| view.tensor).collect::<Vec<_>>()
    };
    let mut writers = vec![0; tensors.len()];
    nodes.iter().flat_map(written).for_each(|tensor| writers[tensor.0 as usize] += 1);
    let mut made = vec![false; tensors.len()];
    let repeats = |node: &&Node| {
        let alike = node.op.args().iter().zip(&node.operands).all(|(arg, view)| {
            let id = view.tensor.0 as usize;
            match (tensors[id].kind, arg.access) {
                (Kind::Input | Kind::Params, Access::Read) => writers[id] == 0,
                (Kind::Temp, Access::Read) => made[id],
                (Kind::Temp, Access::ReadWrite) => writers[id] == 1,
                _ => false,
            }
        });
        written(node).iter().for_each(|tensor| made[tensor.0 as usize] = alike);
        alike
    };
    nodes.iter().take_while(repeats).count()
}

impl Plan {
    /// A plan that is run once at a time. Assigns every tensor its memory: temporaries share buffers where they do not meet.
    pub fn compile(name: impl Into<String>, graph: Graph) -> Self {
        Self::new(name.into(), graph, |_, _| 0)
    }

    /// A plan that is run several times in a row: what is the same in all repetitions is computed once and its memory kept.
    pub fn compile_repeated(name: impl Into<String>, graph: Graph) -> Self {
        Self::new(name.into(), graph, invariant)
    }

    fn new(name: String, graph: Graph, invariant: impl Fn(&[Tensor], &[Node]) -> usize) -> Self {
        let Graph { tensors, nodes, layout, .. } = graph;
        let operands = nodes.iter().flat_map(|node| &node.operands);
        let shared = operands.filter_map(|view| tensors[view.tensor.0 as usize].kind.shared()).collect();
        let invariant = invariant(&tensors, &nodes);
        let placement = Placement::new(&tensors, &nodes, invariant);
        Self { name, tensors, nodes, layout, shared, invariant, placement }
    }

    /// The buffers of the program.
    pub fn slots(&self) -> &[Slot] {
        &self.placement.slots
    }

    /// Where the view's tensor lives.
    pub fn home(&self, view: View) -> Home {
        self.placement.home(view)
    }

    /// The view with its start counted from that of the buffer where it lives.
    pub fn in_buffer(&self, view: View) -> View {
        self.placement.in_buffer(view)
    }

    /// The view with its start counted in the CPU backend's storage.
    pub(super) fn on_cpu(&self, view: View) -> View {
        self.placement.on_cpu(view)
    }

    /// Where the tensor of this number lives.
    pub(super) fn place(&self, tensor: usize) -> Home {
        self.placement.place(tensor)
    }

    /// All of a shared buffer, for reading or writing it as a whole; empty where no node touches it.
    pub fn buffer(&self, kind: Kind) -> View {
        let touched = kind.shared().is_some_and(|number| self.shared.contains(&number));
        let id = self.tensors.iter().position(|t| t.kind == kind).unwrap_or_default();
        let len = if touched { self.layout.len() } else { 0 };
        View { tensor: TensorId(id as u32), start: 0, len, format: Format::F32 }
    }

    /// FLOPs and bytes of one run.
    pub fn cost(&self) -> Cost {
        self.nodes
            .iter()
            .map(|n| n.op.cost())
            .fold(Cost::default(), |a, b| Cost { flops: a.flops + b.flops, bytes: a.bytes + b.bytes })
    }

    /// Bytes that a session with this program alone holds on the adapter with these capabilities, or on the CPU: its buffers and
    /// the shared ones that it touches, but for scratch memory, which depends on the kernels.
    pub fn memory_bytes(&self, adapter: Option<&Capabilities>) -> u64 {
        Self::total_bytes([self].into_iter(), adapter)
    }

    /// Bytes that a session with these programs holds, shared buffers counted once.
    pub fn total_bytes<'a>(plans: impl Iterator<Item = &'a Self>, adapter: Option<&Capabilities>) -> u64 {
        let (mut shared, mut own) = (BTreeMap::new(), 0);
        for plan in plans {
            shared.extend(plan.shared.iter().map(|&number| (number, plan.layout.len())));
            own += plan.slots().iter().map(|slot| slot.bytes_on(adapter)).sum::<u64>();
        }
        own + 4 * shared.into_values().sum::<usize>() as u64
    }

    /// Fails if a buffer is larger than the adapter allows, and says by how much.
    ///
    /// # Errors
    /// Names the largest tensor, its size and the limit.
    pub fn check_fits(&self, capabilities: &Capabilities) -> Result<()> {
        let Some(tensor) = self.tensors.iter().max_by_key(|t| t.bytes()) else { return Ok(()) };
        let bytes = tensor.bytes();
        if bytes <= capabilities.max_buffer_size {
            return Ok(());
        }
        let mib = |b: u64| b as f64 / (1 << 20) as f64;
        Err(Error::model(
            format!(
                "{}: the tensor `{}` needs {:.0} MiB, {:.0} MiB more than the largest buffer of {}",
                self.name,
                tensor.name,
                mib(bytes),
                mib(bytes.saturating_sub(capabilities.max_buffer_size)),
                capabilities.name
            ),
            "use a smaller --batch or --seq",
        ))
    }

    /// The dispatches of node `i`, in this variant.
    ///
    /// # Errors
    /// What the op's recording reports: an unknown variant, a shape that does not fit.
    pub fn dispatches(&self, i: usize, capabilities: &Capabilities, variant: &str) -> Result<Recorded> {
        let node = &self.nodes[i];
        let operands: Vec<View> = node.operands.iter().map(|&view| self.in_buffer(view)).collect();
        Recorder::record(node.op.as_ref(), variant, capabilities, &operands)
    }

    /// The nodes in the order in which `times` runs in a row execute them: what is the same in all of them once.
    pub fn order(&self, times: u32) -> impl Iterator<Item = usize> + use<> {
        let (first, all) = (self.invariant, self.nodes.len());
        (0..first).chain((0..times).flat_map(move |_| first..all))
    }

    /// How many nodes make the gradients of many parameters while much is left to be computed, and the ranges of these gradients: what
    /// of them can be used meanwhile. `None` where there are none.
    pub fn early_gradients(&self) -> Option<(usize, Vec<Range<usize>>)> {
        let params = self.layout.params();
        // The last node that writes the gradient of each parameter.
        let mut last = vec![0; params.len()];
        for i in 0..self.nodes.len() {
            let is_gradient = |view: &View| self.tensors[view.tensor.0 as usize].kind == Kind::Grads;
            for written in self.written(i).iter().filter(|view| is_gradient(view)) {
                let meets = |own: View| own.start < written.start + written.len && written.start < own.start + own.len;
                last.iter_mut().zip(params).filter(|(_, param)| meets(param.view)).for_each(|(last, _)| *last = i);
            }
        }
        let done =
            |cut: usize| params.iter().zip(&last).filter(move |(_, last)| **last < cut).map(|(param, _)| param.view);
        let mut flops: u64 = self.cost().flops;
        let mut best = (0.0, 0);
        for (i, node) in self.nodes.iter().enumerate() {
            flops -= node.op.cost().flops;
            let worth = done(i + 1).map(|view| view.len).sum::<usize>() as f64 * flops as f64;
            if worth > best.0 {
                best = (worth, i + 1);
            }
        }
        let ranges = joined(done(best.1).map(|view| view.start..view.start + view.len).collect());
        (best.0 > 0.0).then_some((best.1, ranges))
    }

    /// The operands of node `i` that it writes.
    pub fn written(&self, i: usize) -> Vec<View> {
        let node = &self.nodes[i];
        let args = node.op.args();
        args.iter().zip(&node.operands).filter(|(a, _)| a.access == Access::ReadWrite).map(|(_, &v)| v).collect()
    }
}

/// Ranges in their order, those that meet as one.
pub(crate) fn joined(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_by_key(|range| range.start);
    let mut joined: Vec<Range<usize>> = vec![];
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{CpuProgram, cpu};
    use crate::ops::add::Add;
    use crate::ops::dropout::{Dropout, DropoutSite};

    #[test]
    fn what_repetitions_share_is_computed_once_and_kept() {
        let mut graph = Graph::without_params();
        let copy = || Dropout { len: 3, drop: DropoutSite::NONE, stored: Format::F32 };
        let (x, sum) = (graph.tensor("x", 3, Kind::Input), graph.tensor("sum", 3, Kind::State));
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| graph.temp(name, 3));
        graph.apply(copy(), &[x, a]);
        graph.apply(copy(), &[a, b]);
        graph.apply(Add { len: 3, stored: Format::F32 }, &[b, sum]);
        // Born after the last readings of `a` and `b`; only the memory of `a` is free.
        graph.apply(copy(), &[sum, c]);
        graph.apply(copy(), &[c, d]);
        assert_eq!(Plan::compile("test", graph.clone()).invariant, 0, "a plan that is not repeated keeps nothing");
        let plan = Plan::compile_repeated("test", graph);
        assert_eq!(plan.invariant, 2);
        assert!(![c, d].map(|later| plan.home(later)).contains(&plan.home(b)));
        let mut shared = cpu::shared::<f64>(&plan);
        let mut program = CpuProgram::new(plan);
        program.get_mut(&mut shared, x).copy_from_slice(&[1.0, 2.0, 4.0]);
        program.repeat(&mut shared, 3, &crate::ops::Uniforms::default());
        assert_eq!(program.get(&shared, sum), [3.0, 6.0, 12.0]);
    }
}
