//! A model as a list of nodes: written once as forward calls, extended by the reverse walk, compiled to a [`Plan`], run by
//! a [`Session`] on a GPU or on the CPU.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::gpu::{Access, Format};
use crate::ops::add::Add;
use crate::ops::cast::Cast;
use crate::ops::{Op, Tape, TensorId, View};

mod choices;
pub mod mirror;
mod placement;
pub mod plan;
pub mod session;
mod tuner;
mod variants;

pub use mirror::Mirror;
pub use placement::{Home, Slot};
pub use plan::Plan;
pub use session::{ProgramId, Session};
pub use tuner::{Bench, Times, candidates};

/// What a tensor is for; decides who owns its memory and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// All parameters, one after the other; shared by all programs of a session.
    Params,
    /// Their gradients, at the same places.
    Grads,
    /// The optimiser's first moments, at the same places.
    Moment1,
    /// The optimiser's second moments, at the same places.
    Moment2,
    /// Written by the host before a run, read by nodes.
    Input,
    /// Kept from run to run; starts at zero.
    State,
    /// Written by nodes, read by the host after a run.
    Output,
    /// Lives between two nodes of one run; its memory is shared with others.
    Temp,
}

impl Kind {
    /// The four arenas that all programs of a session share, in the order of their storage.
    pub const ARENAS: [Kind; 4] = [Kind::Params, Kind::Grads, Kind::Moment1, Kind::Moment2];

    /// The arena's place in [`Kind::ARENAS`].
    pub fn arena(self) -> Option<usize> {
        Self::ARENAS.iter().position(|&a| a == self)
    }
}

/// A storage root.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Name for people.
    pub name: String,
    /// Elements.
    pub len: usize,
    /// How they are stored; f32 for all that the host reads or writes.
    pub format: Format,
    /// What it is for.
    pub kind: Kind,
}

impl Tensor {
    /// Bytes of storage.
    pub fn bytes(&self) -> u64 {
        self.format.bytes() * self.len as u64
    }
}

/// One op bound to its operands.
#[derive(Clone, Debug)]
pub struct Node {
    /// What runs.
    pub op: Arc<dyn Op>,
    /// In the order of [`Op::args`].
    pub operands: Vec<View>,
    /// Where in the model: `time_axis.0.input`, `backward of …`.
    pub scope: String,
}

impl Node {
    /// Scope and op, for listings and error messages.
    pub fn label(&self) -> String {
        format!("{}: {}", self.scope, self.op.label())
    }
}

/// How a parameter starts (spec, "Initialisation").
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Uniform in `+-sqrt(6 / (fan_in + fan_out))` (Glorot & Bengio 2010).
    Glorot {
        /// Inputs of one output.
        fan_in: usize,
        /// Outputs of one input.
        fan_out: usize,
    },
    /// Each `[H, H]` gate block orthogonal (Saxe et al. 2013).
    OrthogonalGates,
    /// All zero.
    Zero,
    /// LSTM bias in gate order i, f, g, o: zero but 1 for the forget gate (Jozefowicz et al. 2015).
    ForgetOne,
}

/// A named parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// Name in checkpoints.
    pub name: String,
    /// Shape, row-major.
    pub shape: Vec<usize>,
    /// Where it stands in the arena of all parameters.
    pub view: View,
    /// How it starts.
    pub init: Init,
}

/// Parameters start on multiples of 64 elements (256 bytes), which every adapter can bind.
const PARAM_ALIGN: usize = 64;

/// Nodes and tensors under construction.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Storage roots; a [`TensorId`] is an index here.
    pub tensors: Vec<Tensor>,
    /// Nodes in the order they run.
    pub nodes: Vec<Node>,
    /// Parameters in the order they were declared.
    pub params: Vec<Param>,
    arenas: [Option<TensorId>; 4],
    scope: Vec<String>,
    /// Roots whose values depend on parameters.
    dependent: HashSet<TensorId>,
    grads: HashMap<View, View>,
    /// The f16 copy of the parameter arena, where there is one.
    half: Option<TensorId>,
    recompute: bool,
    /// Roots that are not kept for the backward pass, and what takes their place there.
    dropped: HashMap<TensorId, Option<TensorId>>,
    /// The node whose gradient is being appended.
    walking: Option<usize>,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// A new tensor of `len` elements of f32.
    pub fn tensor(&mut self, name: impl Into<String>, len: usize, kind: Kind) -> View {
        let name = self.scoped(&name.into());
        self.root(Tensor { name, len, format: Format::F32, kind })
    }

    fn root(&mut self, tensor: Tensor) -> View {
        let view =
            View { tensor: TensorId(self.tensors.len() as u32), start: 0, len: tensor.len, format: tensor.format };
        self.tensors.push(tensor);
        view
    }

    /// The arena of this kind, made at first use; as long as the parameters declared so far.
    pub fn arena(&mut self, kind: Kind) -> View {
        let Some(slot) = kind.arena() else { return self.tensor(format!("{kind:?}"), 0, kind) };
        let len = self.params_len();
        let id = match self.arenas[slot] {
            Some(id) => id,
            None => {
                let name = format!("{kind:?}").to_lowercase();
                self.root(Tensor { name, len, format: Format::F32, kind }).tensor
            }
        };
        self.arenas[slot] = Some(id);
        self.tensors[id.0 as usize].len = len;
        View { tensor: id, start: 0, len, format: Format::F32 }
    }

    /// Keeps weights and activations as f16 from here on: appends a copy of all parameters declared so far, which
    /// [`Graph::weight`] hands out, and makes [`Graph::stored`] say f16. The parameters themselves, their gradients and
    /// the optimiser stay f32 (Micikevicius et al. 2018, "Mixed Precision Training").
    pub fn keep_half(&mut self) {
        let params = self.arena(Kind::Params);
        let copy = self.temp_as("weights", params.len, Format::F16);
        self.apply(Cast { len: params.len, from: Format::F32, to: Format::F16 }, &[params, copy]);
        self.half = Some(copy.tensor);
    }

    /// The format of activations: f16 after [`Graph::keep_half`].
    pub fn stored(&self) -> Format {
        if self.half.is_some() { Format::F16 } else { Format::F32 }
    }

    /// The parameter as products read it: its f16 copy after [`Graph::keep_half`], else itself. Its gradient is the
    /// parameter's.
    pub fn weight(&self, param: View) -> View {
        match self.half {
            Some(tensor) => View { tensor, format: Format::F16, ..param },
            None => param,
        }
    }

    /// From here on, tensors given to [`Graph::drop_after_forward`] are computed again in the backward pass (Chen et al.
    /// 2016, "Training Deep Nets with Sublinear Memory Cost").
    pub fn recompute(&mut self) {
        self.recompute = true;
    }

    /// Lets go of the memory of a temporary after its last use in the forward pass and computes it again in the backward
    /// pass, from what its producers read; without effect unless [`Graph::recompute`] was called.
    pub fn drop_after_forward(&mut self, x: View) {
        if self.recompute {
            self.dropped.insert(x.tensor, None);
        }
    }

    /// What stands behind a view: the parameter where it is of the copy.
    fn master(&self, x: View) -> View {
        match (self.half, self.arenas[0]) {
            (Some(half), Some(params)) if half == x.tensor => View { tensor: params, format: Format::F32, ..x },
            _ => x,
        }
    }

    /// Elements of the parameter arena, padding included.
    pub fn params_len(&self) -> usize {
        self.params.last().map_or(0, |p| (p.view.start + p.view.len).next_multiple_of(PARAM_ALIGN))
    }

    /// Declares a parameter.
    pub fn param(&mut self, name: &str, shape: &[usize], init: Init) -> View {
        let start = self.params_len();
        let len = shape.iter().product();
        let arena = self.arena(Kind::Params);
        let view = View { start, len, ..arena };
        self.params.push(Param { name: self.scoped(name), shape: shape.to_vec(), view, init });
        self.dependent.insert(arena.tensor);
        self.arena(Kind::Params);
        view
    }

    /// Runs `f` with `name` appended to the names of what it makes.
    pub fn scope<T>(&mut self, name: &str, f: impl FnOnce(&mut Self) -> T) -> T {
        self.scope.push(name.to_string());
        let result = f(self);
        self.scope.pop();
        result
    }

    fn scoped(&self, name: &str) -> String {
        self.scope.iter().map(String::as_str).chain([name]).collect::<Vec<_>>().join(".")
    }

    /// Appends a node that runs `op` on `operands` (in the order of [`Op::args`]).
    ///
    /// # Panics
    /// As [`Graph::apply`].
    pub fn append(&mut self, op: Arc<dyn Op>, operands: &[View]) {
        let args = op.args();
        let operands: &[View] = &operands.iter().map(|&view| self.recomputed(view)).collect::<Vec<_>>();
        assert_eq!(args.len(), operands.len(), "{}: operands", op.label());
        for (arg, view) in args.iter().zip(operands) {
            assert_eq!(arg.len, view.len, "{}: operand `{}`", op.label(), arg.name);
            let tensor = &self.tensors[view.tensor.0 as usize];
            assert_eq!((arg.format, view.format), (view.format, tensor.format), "{}: `{}`", op.label(), arg.name);
            assert!(
                view.start + view.len <= tensor.len,
                "{}: operand `{}` leaves `{}`",
                op.label(),
                arg.name,
                tensor.name
            );
        }
        // WebGPU forbids a buffer that is both read-only and writable in one dispatch; so does the mirror's borrowing.
        for (arg, view) in args.iter().zip(operands).filter(|(arg, _)| arg.access == Access::ReadWrite) {
            for (other, read) in args.iter().zip(operands).filter(|(other, _)| other.access == Access::Read) {
                let (label, name) = (op.label(), &self.tensors[view.tensor.0 as usize].name);
                assert_ne!(
                    view.tensor, read.tensor,
                    "{label}: `{}` writes `{name}`, which `{}` reads",
                    arg.name, other.name
                );
            }
        }
        if operands.iter().any(|v| self.dependent.contains(&v.tensor)) {
            let written = args.iter().zip(operands).filter(|(arg, _)| arg.access == Access::ReadWrite);
            self.dependent.extend(written.map(|(_, view)| view.tensor));
        }
        self.nodes.push(Node { op, operands: operands.to_vec(), scope: self.scope.join(".") });
    }

    /// Appends a node that runs `op` on `operands` (in the order of [`Op::args`]).
    ///
    /// # Panics
    /// If operands do not have the declared lengths: a model that wires ops wrongly is a bug, whatever the input.
    pub fn apply(&mut self, op: impl Op + 'static, operands: &[View]) {
        self.append(Arc::new(op), operands);
    }

    /// A new temporary of f32.
    pub fn temp(&mut self, name: &str, len: usize) -> View {
        self.temp_as(name, len, Format::F32)
    }

    /// A new temporary.
    pub fn temp_as(&mut self, name: &str, len: usize, format: Format) -> View {
        let name = self.scoped(name);
        self.root(Tensor { name, len, format, kind: Kind::Temp })
    }

    /// Appends the gradient nodes of everything so far: `seed` is the gradient of `y` that the walk starts from.
    ///
    /// # Errors
    /// A parameter that `y` does not depend on; a value of which two overlapping parts have gradients of their own, which
    /// would have to be added up.
    pub fn backward(&mut self, y: View, seed: View) -> Result<()> {
        self.arena(Kind::Grads);
        self.grads.insert(y, seed);
        for i in (0..self.nodes.len()).rev() {
            self.walking = Some(i);
            let Node { op, operands, scope } = self.nodes[i].clone();
            let name = if scope.is_empty() { "grad".to_string() } else { format!("grad.{scope}") };
            self.scope(&name, |graph| op.gradient(graph, &operands));
        }
        self.walking = None;
        for a in self.grads.keys() {
            let overlaps =
                |b: &&View| a.tensor == b.tensor && a != *b && a.start < b.start + b.len && b.start < a.start + a.len;
            if self.grads.keys().any(|b| overlaps(&b)) {
                let name = &self.tensors[a.tensor.0 as usize].name;
                return Err(Error::model(format!("overlapping parts of `{name}` have gradients of their own"), ""));
            }
        }
        match self.params.iter().find(|p| !self.grads.contains_key(&p.view)) {
            Some(p) => Err(Error::model(format!("no gradient reaches the parameter `{}`", p.name), "")),
            None => Ok(()),
        }
    }
}

impl Tape for Graph {
    fn grad(&self, y: View) -> Option<View> {
        self.grads.get(&y).copied()
    }

    fn grad_format(&self, x: View) -> Format {
        self.master(x).format
    }

    fn wants_grad(&self, x: View) -> bool {
        self.dependent.contains(&x.tensor)
    }

    fn temp(&mut self, name: &str, len: usize, format: Format) -> View {
        self.temp_as(name, len, format)
    }

    fn push(&mut self, op: Box<dyn Op>, operands: &[View]) {
        self.append(Arc::from(op), operands);
    }

    fn contribute(&mut self, x: View, op: Box<dyn Op>, operands: &[View]) {
        if !self.wants_grad(x) {
            return;
        }
        let x = self.master(x);
        let before = self.grads.get(&x).copied();
        let target = match before {
            Some(target) => target,
            None if self.tensors[x.tensor.0 as usize].kind == Kind::Params => {
                View { tensor: self.arena(Kind::Grads).tensor, ..x }
            }
            None => {
                let name = format!("d({})", self.tensors[x.tensor.0 as usize].name);
                self.root(Tensor { name, len: x.len, format: x.format, kind: Kind::Temp })
            }
        };
        self.grads.insert(x, target);
        let with = |target: View| operands.iter().copied().chain([target]).collect::<Vec<_>>();
        match (before, op.accumulating()) {
            (None, _) => self.append(Arc::from(op), &with(target)),
            (Some(_), Some(adding)) => self.append(Arc::from(adding), &with(target)),
            (Some(_), None) => {
                let part = self.temp_as("part", x.len, target.format);
                self.append(Arc::from(op), &with(part));
                self.append(Arc::new(Add { len: x.len, stored: target.format }), &[part, target]);
            }
        }
    }

    fn recomputed(&mut self, x: View) -> View {
        let (Some(walking), Some(&again)) = (self.walking, self.dropped.get(&x.tensor)) else { return x };
        if let Some(tensor) = again {
            return View { tensor, ..x };
        }
        let Tensor { name, len, format, kind } = self.tensors[x.tensor.0 as usize].clone();
        let tensor = self.root(Tensor { name: format!("{name} again"), len, format, kind }).tensor;
        self.dropped.insert(x.tensor, Some(tensor));
        let writes = |node: &Node| {
            let args = node.op.args();
            args.iter().zip(&node.operands).any(|(arg, v)| arg.access == Access::ReadWrite && v.tensor == x.tensor)
        };
        let producers: Vec<Node> = self.nodes[..walking].iter().filter(|node| writes(node)).cloned().collect();
        for Node { op, operands, .. } in producers {
            self.append(op, &operands);
        }
        View { tensor, ..x }
    }

    fn set_grad(&mut self, x: View, grad: View) {
        self.grads.insert(x, grad);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::dropout::{Drop, Dropout};
    use crate::ops::gemm::{Gemm, Layout};
    use crate::ops::reduce::SumRows;

    /// `(x[0] + x[1] + x[2]) * (sum of the three from `second`)` with its backward walk.
    fn product_of_sums(second: usize) -> Result<()> {
        let mut graph = Graph::new();
        let p = graph.param("p", &[6], Init::Zero);
        let x = graph.temp("x", 6);
        graph.apply(Dropout { len: 6, drop: Drop::NONE, stored: Format::F32 }, &[p, x]);
        let sums = [0, second].map(|start| {
            let sum = graph.temp("sum", 1);
            graph.apply(SumRows::all(3, 1), &[x.slice(start, 3), sum]);
            sum
        });
        let y = graph.tensor("y", 1, Kind::Output);
        graph.apply(Gemm::new(Layout::NN, 1, 1, 1), &[sums[0], sums[1], y]);
        let seed = graph.tensor("seed", 1, Kind::Input);
        graph.backward(y, seed)
    }

    #[test]
    fn what_is_dropped_is_computed_again_once_and_gives_the_same_gradient() {
        // y = (a dropped copy of p) * (itself): its gradient reads the copy twice.
        let build = |recompute: bool| {
            let mut graph = Graph::new();
            if recompute {
                graph.recompute();
            }
            let p = graph.param("p", &[3], Init::Zero);
            let x = graph.temp("x", 3);
            graph.apply(Dropout { len: 3, drop: Drop::NONE, stored: Format::F32 }, &[p, x]);
            graph.drop_after_forward(x);
            let y = graph.tensor("y", 1, Kind::Output);
            graph.apply(Gemm::new(Layout::NN, 1, 1, 3), &[x, x, y]);
            let seed = graph.tensor("seed", 1, Kind::Input);
            graph.backward(y, seed).unwrap();
            (Plan::compile("test", graph), seed)
        };
        let gradients = [false, true].map(|recompute| {
            let (plan, seed) = build(recompute);
            let copies = plan.nodes.iter().filter(|node| node.scope.is_empty() && node.op.name() == "dropout").count();
            let again = plan.tensors.iter().any(|tensor| tensor.name == "x again");
            assert_eq!((copies, again), if recompute { (1, true) } else { (1, false) });
            let dropouts = plan.nodes.iter().filter(|node| node.op.name() == "dropout").count();
            assert_eq!(dropouts, if recompute { 3 } else { 2 });
            let mut arenas = mirror::arenas::<f64>(&plan);
            arenas[0][..3].copy_from_slice(&[1.0, -2.0, 0.5]);
            let mut mirror = Mirror::new(plan);
            mirror.get_mut(&mut arenas, seed)[0] = 3.0;
            mirror.run(&mut arenas, &crate::ops::Step::default());
            arenas[1].clone()
        });
        assert_eq!(gradients[0][..3], [6.0, -12.0, 3.0]);
        assert_eq!(gradients[0][..], gradients[1][..]);
    }

    #[test]
    fn what_repetitions_share_is_computed_once_and_kept() {
        let mut graph = Graph::new();
        let copy = || Dropout { len: 3, drop: Drop::NONE, stored: Format::F32 };
        let (x, sum) = (graph.tensor("x", 3, Kind::Input), graph.tensor("sum", 3, Kind::State));
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| graph.temp(name, 3));
        graph.apply(copy(), &[x, a]);
        graph.apply(copy(), &[a, b]);
        graph.apply(Add { len: 3, stored: Format::F32 }, &[b, sum]);
        // Born after the last readings of `a` and `b`; only the memory of `a` is free.
        graph.apply(copy(), &[sum, c]);
        graph.apply(copy(), &[c, d]);
        let plan = Plan::compile("test", graph);
        assert_eq!(plan.invariant, 2);
        assert!(![c, d].map(|later| plan.home(later)).contains(&plan.home(b)));
        let mut arenas = mirror::arenas::<f64>(&plan);
        let mut mirror = Mirror::new(plan);
        mirror.get_mut(&mut arenas, x).copy_from_slice(&[1.0, 2.0, 4.0]);
        mirror.repeat(&mut arenas, 3, &crate::ops::Step::default());
        assert_eq!(mirror.get(&arenas, sum), [3.0, 6.0, 12.0]);
    }

    #[test]
    fn overlapping_parts_with_gradients_are_refused() {
        let error = product_of_sums(1).unwrap_err();
        assert!(error.what.contains("overlapping parts of `x`"), "{error}");
    }

    #[test]
    fn a_parameter_without_a_gradient_is_refused() {
        // Parts that touch do not overlap; but nothing joins them to the whole of x, so the parameter is not reached.
        let error = product_of_sums(3).unwrap_err();
        assert!(error.what.contains("`p`"), "{error}");
    }
}
