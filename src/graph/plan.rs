//! A graph made ready to run: buffers assigned by lifetime, costs summed, everything known before anything is allocated.

use std::fmt::Write;

use super::placement::{Home, Placement, Slot};
use super::variants::Chosen;
use super::{Graph, Kind, Node, Param, Tensor};
use crate::error::{Error, Result};
use crate::gpu::{Access, Capabilities, Format};
use crate::ops::{Cost, Recorded, Recorder, TensorId, View};

/// A graph with a place for every tensor.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Name for listings and device labels.
    pub name: String,
    /// Storage roots.
    pub tensors: Vec<Tensor>,
    /// What runs, in order.
    pub nodes: Vec<Node>,
    /// The model's parameters.
    pub params: Vec<Param>,
    /// Elements of each parameter arena.
    pub params_len: usize,
    /// Which arenas the nodes touch.
    pub arenas: [bool; 4],
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
    /// Assigns every tensor its memory: temporaries share buffers where they do not meet.
    pub fn compile(name: impl Into<String>, graph: Graph) -> Self {
        let params_len = graph.params_len();
        let Graph { tensors, nodes, params, .. } = graph;
        let mut arenas = [false; 4];
        for view in nodes.iter().flat_map(|node| &node.operands) {
            if let Some(arena) = tensors[view.tensor.0 as usize].kind.arena() {
                arenas[arena] = true;
            }
        }
        let invariant = invariant(&tensors, &nodes);
        let placement = Placement::new(&tensors, &nodes, invariant);
        Self { name: name.into(), tensors, nodes, params, params_len, arenas, invariant, placement }
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

    /// The view with its start counted in the mirror's storage.
    pub(super) fn in_mirror(&self, view: View) -> View {
        self.placement.in_mirror(view)
    }

    /// All of an arena, for reading or writing it as a whole; empty where no node touches it.
    pub fn arena(&self, kind: Kind) -> View {
        let id = self.tensors.iter().position(|t| t.kind == kind).unwrap_or_default();
        let len = if self.tensors.get(id).is_some_and(|t| t.kind == kind) { self.params_len } else { 0 };
        View { tensor: TensorId(id as u32), start: 0, len, format: Format::F32 }
    }

    /// FLOPs and bytes of one run.
    pub fn cost(&self) -> Cost {
        self.nodes
            .iter()
            .map(|n| n.op.cost())
            .fold(Cost::default(), |a, b| Cost { flops: a.flops + b.flops, bytes: a.bytes + b.bytes })
    }

    /// Bytes that a session with this program alone holds, its buffers and the arenas it touches, but for scratch memory,
    /// which depends on the kernels.
    pub fn memory_bytes(&self, on_cpu: bool) -> u64 {
        let arenas = self.arenas.iter().filter(|&&used| used).count() * self.params_len;
        self.slots_bytes(on_cpu) + 4 * arenas as u64
    }

    /// Bytes of the program's own buffers; the mirror keeps all values as f32.
    pub fn slots_bytes(&self, on_cpu: bool) -> u64 {
        self.slots().iter().map(|slot| if on_cpu { 4 * slot.len() as u64 } else { slot.bytes }).sum()
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

    /// The plan for people: nodes with cost, buffers with tenants, totals. `dispatches` gives each node's variant and
    /// number of dispatches where the plan is for a GPU, `scratch` the elements of scratch memory that they share.
    pub fn explain(&self, dispatches: Option<&[(Chosen, usize)]>, scratch: usize) -> String {
        let mib = |bytes: u64| bytes as f64 / (1 << 20) as f64;
        let (on_cpu, scratch) = (dispatches.is_none(), 4 * scratch as u64);
        let mut s = String::new();
        let _ = writeln!(s, "plan `{}`", self.name);
        let _ = writeln!(s, "{:>4} {:>10} {:>10} {:>24}  node", "", "MFLOP", "MiB", "dispatches");
        for (i, node) in self.nodes.iter().enumerate() {
            let cost = node.op.cost();
            let kernel = dispatches.map_or("mirror".to_string(), |dispatches| {
                let (Chosen { variant, origin }, count) = dispatches[i];
                format!("{count} x {variant}, {origin}")
            });
            let (mflop, mb) = (cost.flops as f64 / 1e6, cost.bytes as f64 / (1 << 20) as f64);
            let _ = writeln!(s, "{i:>4} {mflop:>10.2} {mb:>10.2} {kernel:>24}  {}", node.label());
        }
        let _ = writeln!(s, "{:>4} {:>10}  buffer", "", "MiB");
        for (i, slot) in self.slots().iter().enumerate() {
            let bytes = if on_cpu { 4 * slot.len() as u64 } else { slot.bytes };
            let tenants: Vec<String> = (self.tensors.iter().enumerate())
                .filter(|(id, _)| self.placement.place(*id) == Home::Slot(i))
                .map(|(_, t)| match t.format {
                    Format::F32 => t.name.clone(),
                    format => format!("{} {}", t.name, format.name()),
                })
                .collect();
            let _ = writeln!(s, "{i:>4} {:>10.2}  {}", mib(bytes), tenants.join(", "));
        }
        for (kind, _) in Kind::ARENAS.iter().zip(self.arenas).filter(|(_, used)| *used) {
            let _ = writeln!(
                s,
                "{:>4} {:>10.2}  {}",
                "",
                mib(4 * self.params_len as u64),
                format!("{kind:?}").to_lowercase()
            );
        }
        if scratch > 0 {
            let _ = writeln!(s, "{:>4} {:>10.2}  scratch of kernels", "", mib(scratch));
        }
        let cost = self.cost();
        let _ = writeln!(
            s,
            "total: {} nodes{}, {:.2} GFLOP, {:.2} GiB read and written at least, {:.1} MiB of memory",
            self.nodes.len(),
            dispatches.map_or(String::new(), |d| format!(", {} dispatches", d.iter().map(|d| d.1).sum::<usize>())),
            cost.flops as f64 / 1e9,
            cost.bytes as f64 / (1u64 << 30) as f64,
            self.memory_bytes(on_cpu) as f64 / (1 << 20) as f64 + mib(scratch),
        );
        s
    }

    /// The nodes in the order in which `times` runs in a row execute them: what is the same in all of them once.
    pub fn order(&self, times: u32) -> impl Iterator<Item = usize> + use<> {
        let (first, all) = (self.invariant, self.nodes.len());
        (0..first).chain((0..times).flat_map(move |_| first..all))
    }

    /// The operands of node `i` that it writes.
    pub fn written(&self, i: usize) -> Vec<View> {
        let node = &self.nodes[i];
        let args = node.op.args();
        args.iter().zip(&node.operands).filter(|(a, _)| a.access == Access::ReadWrite).map(|(_, &v)| v).collect()
    }
}
