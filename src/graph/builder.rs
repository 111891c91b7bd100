//! A graph under construction: tensors, and nodes in the order they run.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::layout::Layout;
use crate::gpu::{Access, Format};
use crate::ops::cast::Cast;
use crate::ops::{Op, Tape, TensorId, View};

/// What a tensor is for; decides who owns its memory and for how long.
///
/// # Examples
///
/// ```
/// use deepj::prelude::*;
///
/// // What the host writes, what stays from run to run, and what it reads.
/// let mut graph = Graph::without_params();
/// let [x, sum, y] = [Kind::Input, Kind::State, Kind::Output].map(|kind| graph.tensor("some", 8, kind));
/// assert!(x.tensor != sum.tensor && sum.tensor != y.tensor);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The parameter buffer: all parameters, one after the other; shared by all programs of a session, as are the next two.
    Params,
    /// Their gradients, at the same places.
    Grads,
    /// The optimiser's buffer of this number, such as its first moments, at the same places.
    Optimizer(u8),
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
    /// The number of the buffer among those that all programs of a session share; `None` for tensors of one program.
    pub fn shared(self) -> Option<usize> {
        match self {
            Self::Params => Some(0),
            Self::Grads => Some(1),
            Self::Optimizer(i) => Some(2 + usize::from(i)),
            _ => None,
        }
    }

    /// For people: `params`, `optimizer 1`.
    pub fn name(self) -> String {
        match self {
            Self::Optimizer(i) => format!("optimizer {}", u16::from(i) + 1),
            kind => format!("{kind:?}").to_lowercase(),
        }
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

/// In which order the rows of an exposed tensor lie; T time steps, B batch slots, N notes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowOrder {
    /// `[T, B, N, row]`.
    TimeFirst,
    /// `[N, T, B, row]`.
    NoteFirst,
    /// `[B, row]`: the same for all time steps and notes.
    Slots,
}

/// A layer's values, which the host may read after a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Exposed {
    /// The layer's name: that of its parameters, where it has some.
    pub name: String,
    /// The values.
    pub view: View,
    /// In which order its rows lie.
    pub order: RowOrder,
    /// Values of a row; what a row is longer is padding.
    pub width: usize,
}

/// Nodes and tensors under construction.
///
/// # Examples
///
/// ```
/// # fn main() -> deepj::Result<()> {
/// use deepj::prelude::*;
///
/// // The sum of four numbers: nodes run in the order in which they are appended.
/// let mut graph = Graph::without_params();
/// let x = graph.tensor("x", 4, Kind::Input);
/// let sum = graph.tensor("sum", 1, Kind::Output);
/// graph.apply(SumRows::all(4, 1), &[x, sum]);
///
/// let mut session = Session::new(Device::Cpu { why: String::new() }, KernelSelection::default());
/// let program = session.add_all_blocking(vec![Plan::compile("sum", graph)])?[0];
/// session.write(program, x, &[1.0, 2.0, 3.0, 4.0])?;
/// session.run(program, 1, &Uniforms::default())?;
/// assert_eq!(session.read_blocking(program, &[sum])?, [[10.0]]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Graph {
    /// Storage roots; a [`TensorId`] is an index here. The first is the parameter buffer.
    pub tensors: Vec<Tensor>,
    /// Nodes in the order they run.
    pub nodes: Vec<Node>,
    pub(super) layout: Arc<Layout>,
    /// By [`Kind::shared`].
    shared: HashMap<usize, TensorId>,
    scope: Vec<String>,
    /// Roots whose values depend on parameters.
    dependent: HashSet<TensorId>,
    pub(super) grads: HashMap<View, View>,
    /// The f16 copy of the parameter buffer, where there is one.
    half: Option<TensorId>,
    recompute: bool,
    pairs: bool,
    /// Layers' values that the host may read, where it wants any.
    exposed: Option<Vec<Exposed>>,
    /// Roots that are not kept for the backward pass, and what takes their place there.
    pub(super) dropped: HashMap<TensorId, Option<TensorId>>,
    /// The node whose gradient is being appended.
    pub(super) differentiating: Option<usize>,
}

impl Graph {
    /// A graph without nodes over these parameters.
    pub fn new(layout: Arc<Layout>) -> Self {
        let params = Tensor { name: Kind::Params.name(), len: layout.len(), format: Format::F32, kind: Kind::Params };
        Self {
            tensors: vec![params],
            nodes: vec![],
            layout,
            shared: HashMap::from([(0, Layout::TENSOR)]),
            scope: vec![],
            dependent: HashSet::from([Layout::TENSOR]),
            grads: HashMap::new(),
            half: None,
            recompute: false,
            pairs: false,
            exposed: None,
            dropped: HashMap::new(),
            differentiating: None,
        }
    }

    /// A graph without parameters.
    pub fn without_params() -> Self {
        Self::new(Arc::default())
    }

    /// The parameters.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// A new tensor of `len` elements of f32.
    pub fn tensor(&mut self, name: impl Into<String>, len: usize, kind: Kind) -> View {
        let name = self.scoped(&name.into());
        self.root(Tensor { name, len, format: Format::F32, kind })
    }

    pub(super) fn root(&mut self, tensor: Tensor) -> View {
        let view =
            View { tensor: TensorId(self.tensors.len() as u32), start: 0, len: tensor.len, format: tensor.format };
        self.tensors.push(tensor);
        view
    }

    /// The buffer of this kind that all programs of a session share, as long as the parameter buffer; made at first use.
    pub fn shared(&mut self, kind: Kind) -> View {
        let len = self.layout.len();
        let Some(number) = kind.shared() else { return self.tensor(kind.name(), len, kind) };
        let tensor = match self.shared.get(&number) {
            Some(&tensor) => tensor,
            None => self.root(Tensor { name: kind.name(), len, format: Format::F32, kind }).tensor,
        };
        self.shared.insert(number, tensor);
        View { tensor, start: 0, len, format: Format::F32 }
    }

    /// Keeps weights and activations as f16 from here on: appends a copy of all parameters, which
    /// [`Graph::weight`] hands out, and makes [`Graph::stored`] say f16. The parameters themselves, their gradients and
    /// the optimiser stay f32 (Micikevicius et al. 2018, "Mixed Precision Training").
    pub fn keep_half(&mut self) {
        let params = self.shared(Kind::Params);
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

    /// From here on, two layers of an axis run beside each other where they can.
    pub fn run_pairs(&mut self) {
        self.pairs = true;
    }

    /// Whether [`Graph::run_pairs`] was called.
    pub fn pairs(&self) -> bool {
        self.pairs
    }

    /// From here on, what is given to [`Graph::expose`] is kept to be read after a run.
    pub fn expose_layers(&mut self) {
        self.exposed = Some(vec![]);
    }

    /// Whether [`Graph::expose_layers`] was called, so that a layer whose values are part of another op makes them apart.
    pub fn exposes_layers(&self) -> bool {
        self.exposed.is_some()
    }

    /// The values that can be read, in the order in which they are made.
    pub fn exposed(&self) -> &[Exposed] {
        self.exposed.as_deref().unwrap_or_default()
    }

    /// Keeps a layer's values for the host, rows of `width` values and perhaps padding; without effect unless
    /// [`Graph::expose_layers`] was called.
    pub fn expose(&mut self, name: impl Into<String>, view: View, order: RowOrder, width: usize) {
        let Some(exposed) = &mut self.exposed else { return };
        exposed.push(Exposed { name: name.into(), view, order, width });
        let kind = &mut self.tensors[view.tensor.0 as usize].kind;
        if *kind == Kind::Temp {
            *kind = Kind::Output;
        }
    }

    /// Lets go of the memory of a temporary after its last use in the forward pass and computes it again in the backward
    /// pass, from what its producers read; without effect unless [`Graph::recompute`] was called.
    pub fn drop_after_forward(&mut self, x: View) {
        if self.recompute {
            self.dropped.insert(x.tensor, None);
        }
    }

    /// What stands behind a view: the parameter where it is of the copy.
    pub(super) fn master(&self, x: View) -> View {
        match self.half {
            Some(half) if half == x.tensor => View { tensor: Layout::TENSOR, format: Format::F32, ..x },
            _ => x,
        }
    }

    /// Whether the tensor's values depend on parameters.
    pub(super) fn is_dependent(&self, tensor: TensorId) -> bool {
        self.dependent.contains(&tensor)
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
        // WebGPU forbids a buffer that is both read-only and writable in one dispatch; so does the CPU backend's borrowing.
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
}
