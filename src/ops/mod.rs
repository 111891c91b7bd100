//! Operations: one file per op, the same name as its shader. Each file declares the op's operands and cost, runs it on
//! the CPU in f32 (the CPU backend) and f64 (the reference), says how it is recorded as GPU dispatches, and holds its gradient.
//!
//! An op knows shapes but no buffers: operands are bound by the graph, in the order of [`Op::args`].

use std::fmt;

use serde::Serialize;

use crate::error::Result;
use crate::gpu::{Access, Capabilities, Format};
use crate::shape::Slots;

pub mod adadelta;
pub mod add;
pub mod aligned;
pub mod biaxial_features;
pub mod carry;
pub mod cast;
pub mod dropout;
pub mod ema;
pub mod features;
pub mod gemm;
pub mod heads;
pub mod lstm;
pub mod lstm_pair;
pub mod matmul;
pub mod nadam;
pub mod neighbours;
pub mod note_input;
pub mod note_sweep;
pub mod octave_conv;
pub mod order;
pub mod random;
pub mod real;
pub mod recorder;
pub mod reduce;
pub mod softmax_loss;
pub mod tanh_grad;
pub mod vectorized;

pub use crate::gpu::Cost;
pub use real::Real;
pub use recorder::{Recorded, Recorder};

/// A tensor of the graph: a storage root. Its shape is known to whoever made it; ops see flat ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TensorId(pub u32);

/// A range of a tensor, in elements. What ops are bound to.
///
/// # Examples
///
/// ```
/// use deepj::prelude::*;
///
/// let x: View = Graph::without_params().tensor("x", 10, Kind::Input);
/// let last = x.slice(8, 2);
/// assert_eq!((last.start, last.len, last.tensor), (8, 2, x.tensor));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// The storage root.
    pub tensor: TensorId,
    /// First element.
    pub start: usize,
    /// Number of elements.
    pub len: usize,
    /// How the tensor's elements are stored.
    pub format: Format,
}

impl View {
    /// The sub-range `[start, start + len)` of this view.
    pub fn slice(self, start: usize, len: usize) -> View {
        debug_assert!(start + len <= self.len);
        View { start: self.start + start, len, ..self }
    }
}

/// One operand of an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arg {
    /// Name as in the op's documentation.
    pub name: &'static str,
    /// Number of elements.
    pub len: usize,
    /// `Read`, or `ReadWrite` for every operand that the op writes.
    pub access: Access,
    /// How its elements are stored.
    pub format: Format,
    /// How many elements the op reads, and how many it writes, each element once for either: what must go from memory and
    /// to it. What the op has written itself it need not read from there.
    pub moved: usize,
}

impl Arg {
    /// An operand of f32 that is only read, all of it.
    pub const fn read(name: &'static str, len: usize) -> Self {
        Self { name, len, access: Access::Read, format: Format::F32, moved: len }
    }

    /// An operand of f32 that is written, all of it, without a look at what was there.
    pub const fn write(name: &'static str, len: usize) -> Self {
        Self { access: Access::ReadWrite, ..Self::read(name, len) }
    }

    /// An operand of f32 that is read and written, all of it.
    pub const fn update(name: &'static str, len: usize) -> Self {
        Self::write(name, len).moving(2 * len)
    }

    /// The same, of which so many elements are read and written.
    pub const fn moving(self, moved: usize) -> Self {
        Self { moved, ..self }
    }

    /// The same, stored in this format.
    pub const fn stored(self, format: Format) -> Self {
        Self { format, ..self }
    }

    /// Bytes of the operand.
    pub const fn bytes(&self) -> u64 {
        self.format.bytes() * self.len as u64
    }
}

/// What changes from run to run without being a tensor: 16 words, rewritten by the host before each run.
///
/// The shaders' `struct Uniforms` in `shaders/common.wgsl` has the same words in the same order.
///
/// # Examples
///
/// ```
/// use deepj::prelude::*;
///
/// // Update 7 of a run with seed 1: an optimiser's `advance` sets the rest.
/// let uniforms = Uniforms { seed: 1, update: 7, ..Uniforms::default() };
/// assert_eq!(uniforms.update, 7);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Uniforms {
    /// Seed of all random decisions.
    pub seed: u32,
    /// Counter that makes the masks of each run differ.
    pub update: u32,
    /// Learning rate.
    pub lr: f32,
    /// Factors of the optimiser's schedule; its op says what they mean.
    pub factors: [f32; 3],
    /// Largest global gradient norm; 0 leaves gradients as they are.
    pub clip_norm: f32,
    /// Sampling temperature.
    pub temperature: f32,
    /// 0 where generation samples, 1 where it takes given notes (priming), 2 where some cells are given
    /// ([`note_sweep`]).
    pub forced: f32,
    /// Silence temperature: what each consecutive silent step adds to the temperature (paper, section IV-B: 0.1).
    pub silence: f32,
    /// What gradients are multiplied with before the update: the inverse of the loss scale.
    pub unscale: f32,
    /// The batch slots that this process computes; as many as there are in all, unless several processes share a batch.
    pub slots: Slots,
}

impl Default for Uniforms {
    fn default() -> Self {
        Self {
            seed: 0,
            update: 0,
            lr: 0.0,
            factors: [0.0; 3],
            clip_norm: 0.0,
            temperature: 0.0,
            forced: 0.0,
            silence: 0.0,
            unscale: 1.0,
            slots: Slots::all(0),
        }
    }
}

impl Uniforms {
    /// The words as the GPU reads them.
    pub fn words(&self) -> [u32; 16] {
        let mut w = [0; 16];
        w[0] = self.seed;
        w[1] = self.update;
        let floats = [
            self.lr,
            self.factors[0],
            self.factors[1],
            self.factors[2],
            self.clip_norm,
            self.temperature,
            self.forced,
            self.silence,
            self.unscale,
        ];
        for (slot, f) in w[2..].iter_mut().zip(floats) {
            *slot = f.to_bits();
        }
        let Slots { first, count, total } = self.slots;
        w[11..14].copy_from_slice(&[first, count, total].map(|slots| slots as u32));
        w
    }
}

/// Operands of a call on the CPU, split by access; each list keeps the order of [`Op::args`].
pub struct Args<'a, R> {
    /// Operands with `Access::Read`.
    pub reads: Vec<&'a [R]>,
    /// Operands with `Access::ReadWrite`.
    pub writes: Vec<&'a mut [R]>,
}

impl<'a, R> Args<'a, R> {
    /// The operands as arrays. An op knows how many it declared, so another count is a bug in the op itself.
    pub fn take<const I: usize, const O: usize>(self) -> ([&'a [R]; I], [&'a mut [R]; O]) {
        let reads = self.reads.try_into().unwrap_or_else(|v: Vec<_>| panic!("{} operands read, {I} declared", v.len()));
        let writes =
            self.writes.try_into().unwrap_or_else(|v: Vec<_>| panic!("{} operands written, {O} declared", v.len()));
        (reads, writes)
    }
}

/// What an op's gradient may do to the graph: ask for gradients that arrived, append nodes, contribute gradients.
pub trait Tape {
    /// The gradient that arrived at `y`, or `None` if nothing flows back from there.
    fn grad(&self, y: View) -> Option<View>;
    /// Whether anything upstream of `x` wants a gradient.
    fn wants_grad(&self, x: View) -> bool;
    /// The format of the gradient of `x`: that of `x`, but f32 for parameters, whatever copy of them an op reads.
    fn grad_format(&self, x: View) -> Format;
    /// A new temporary of `len` elements.
    fn temp(&mut self, name: &str, len: usize, format: Format) -> View;
    /// Appends a node.
    fn push(&mut self, op: Box<dyn Op>, operands: &[View]);
    /// Appends a node whose last operand, bound here, is the gradient of `x`. A second contribution to the same `x` is
    /// added to the first. Nothing is appended if `x` wants no gradient.
    fn contribute(&mut self, x: View, op: Box<dyn Op>, operands: &[View]);
    /// Where the value of `x` stands in the backward pass: `x` itself, or, where the graph drops it after the forward pass
    /// ([`Graph::drop_after_forward`](crate::graph::Graph::drop_after_forward)), a temporary that the nodes before the
    /// one being differentiated fill once more. What nodes of the backward pass read need not be asked for: the graph puts
    /// it in.
    fn recomputed(&mut self, x: View) -> View;
    /// Declares that the gradient of `x` now stands in `grad` (for ops that turn a value into its gradient in place).
    fn set_grad(&mut self, x: View, grad: View);
}

/// One operation with its shapes.
///
/// # Examples
///
/// ```
/// # fn main() -> deepj::Result<()> {
/// use deepj::ops::{Arg, Args, Cost, Real, cpu_both};
/// use deepj::prelude::*;
///
/// /// `y = x^2`. This one runs on the CPU; `variants` and `record` would give it kernels.
/// #[derive(Debug, serde::Serialize)]
/// struct Square {
///     len: usize,
/// }
///
/// impl Square {
///     fn run_on_cpu<R: Real>(&self, _: &Uniforms, args: Args<'_, R>) {
///         let ([x], [y]) = args.take();
///         y.iter_mut().zip(x).for_each(|(y, &x)| *y = x * x);
///     }
/// }
///
/// impl Op for Square {
///     fn args(&self) -> Vec<Arg> {
///         vec![Arg::read("x", self.len), Arg::write("y", self.len)]
///     }
///     fn cost(&self) -> Cost {
///         Cost { flops: self.len as u64, bytes: self.operand_bytes() }
///     }
///     cpu_both!();
/// }
///
/// let mut graph = Graph::without_params();
/// let (x, y) = (graph.tensor("x", 2, Kind::Input), graph.tensor("y", 2, Kind::Output));
/// graph.apply(Square { len: 2 }, &[x, y]);
/// let mut session = Session::new(Device::Cpu { why: String::new() }, KernelSelection::default());
/// let program = session.add_all_blocking(vec![Plan::compile("squares", graph)])?[0];
/// session.write(program, x, &[3.0, -4.0])?;
/// session.run(program, 1, &Uniforms::default())?;
/// assert_eq!(session.read_blocking(program, &[y])?, [[9.0, 16.0]]);
/// # Ok(())
/// # }
/// ```
pub trait Op: fmt::Debug + Send + Sync {
    /// The op's name: this file's, and its shader's. Unless said otherwise, its type's.
    fn name(&self) -> &'static str {
        std::any::type_name::<Self>().rsplit("::").next().unwrap_or_default()
    }
    /// The name under which its variants are overridden and measured times are remembered. Ops of one name whose variants are
    /// worth choosing apart have different ones, such as `lstm_fwd` and `lstm_bwd`.
    fn kernel(&self) -> &'static str {
        self.name()
    }
    /// Name, mode and shape for people: `gemm NN 768x1024x256`. Nodes of one kernel and one label take equally long. Unless said
    /// otherwise, the op as [`fmt::Debug`] prints it.
    fn label(&self) -> String {
        format!("{self:?}")
    }
    /// All that its kernels' times depend on, by field: what measured times are remembered under.
    fn shape(&self) -> serde_json::Value {
        serde_json::json!(self.label())
    }
    /// The operands, all read ones first.
    fn args(&self) -> Vec<Arg>;
    /// FLOPs and bytes of one run.
    fn cost(&self) -> Cost;
    /// The CPU backend in f32: what `--device cpu` runs.
    fn cpu_f32(&self, uniforms: &Uniforms, args: Args<'_, f32>);
    /// The CPU backend in f64: the oracle of the kernel tests.
    fn cpu_f64(&self, uniforms: &Uniforms, args: Args<'_, f64>);
    /// Names of the kernel variants that are supported with these capabilities; the first is portable, that is within
    /// WebGPU default limits and without optional features. An op without kernels, as it is unless said otherwise, runs on the
    /// CPU alone.
    fn variants(&self, _capabilities: &Capabilities) -> Vec<&'static str> {
        vec![]
    }
    /// Variants on experimental features: they run only where a user overrides them, and are not measured unasked.
    fn experimental(&self) -> &'static [&'static str] {
        &[]
    }
    /// The op as dispatches. `recorder` knows where each operand stands and cuts nothing: an op whose operand is larger
    /// than one binding may hold records several dispatches.
    ///
    /// # Errors
    /// An unknown variant, or an op without kernels.
    fn record(&self, _variant: &str, _recorder: &mut Recorder<'_>) -> Result<()> {
        Err(no_kernel(self.name()))
    }
    /// A smaller op of about so many FLOPs on which the variants compare as on this one, for measuring them in little time;
    /// `None` where this one is no larger, or cannot be cut.
    fn excerpt(&self, _flops: u64) -> Option<Box<dyn Op>> {
        None
    }
    /// Appends the nodes of this op's gradient for a node with these operands. Ops without one (optimiser, metrics,
    /// sampling) append nothing.
    fn gradient(&self, _tape: &mut dyn Tape, _operands: &[View]) {}
    /// The same op adding to its last operand instead of overwriting it, where the op can.
    fn accumulating(&self) -> Option<Box<dyn Op>> {
        None
    }
    /// [`Cost::bytes`], which the operands say.
    fn operand_bytes(&self) -> u64 {
        self.args().iter().map(|arg| arg.format.bytes() * arg.moved as u64).sum()
    }
    /// The variants that can run with these capabilities: none where an operand is stored as f16 and shaders cannot read
    /// that.
    fn supported(&self, capabilities: &Capabilities) -> Vec<&'static str> {
        match capabilities.shader_f16 || self.args().iter().all(|arg| arg.format == Format::F32) {
            true => self.variants(capabilities),
            false => vec![],
        }
    }
}

/// Wires the two CPU entry points of [`Op`](crate::ops::Op) to one generic `fn run_on_cpu<R: Real>(&self, &Uniforms, Args<R>)`, and
/// its shape to the fields of the struct, which is to implement [`serde::Serialize`].
#[macro_export]
macro_rules! cpu_both {
    () => {
        fn cpu_f32(&self, step: &$crate::ops::Uniforms, args: $crate::ops::Args<'_, f32>) {
            self.run_on_cpu(step, args)
        }
        fn cpu_f64(&self, step: &$crate::ops::Uniforms, args: $crate::ops::Args<'_, f64>) {
            self.run_on_cpu(step, args)
        }
        fn shape(&self) -> serde_json::Value {
            $crate::ops::fields(self)
        }
    };
}
pub use cpu_both;

/// The fields of an op as [`Op::shape`] gives them.
pub fn fields(op: &impl Serialize) -> serde_json::Value {
    serde_json::json!(op)
}

/// f16 where all are stored so: what kernels keep of tiles that they have read ahead.
fn half_if_all(formats: [Format; 2]) -> Format {
    if formats.iter().all(|format| *format == Format::F16) { Format::F16 } else { Format::F32 }
}

/// Which of several sequences a row belongs to: rows are numbered so that row `r` is of sequence
/// `(r / inner) % sequences`. On the time axis rows are `(b, n)`, so `inner = N`; on the note axis `(t, b)`, `inner = 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct RowGroups {
    /// Consecutive rows of one sequence.
    pub inner: usize,
    /// Number of sequences.
    pub sequences: usize,
}

impl RowGroups {
    /// The sequence of row `r`.
    pub fn of(&self, r: usize) -> usize {
        (r / self.inner) % self.sequences
    }

    /// How many sequences the first `rows` rows belong to.
    pub fn among(&self, rows: usize) -> usize {
        rows.div_ceil(self.inner).min(self.sequences)
    }
}

/// Runs `op` on the CPU in the precision of `R`.
pub fn run_on_cpu<R: Real>(op: &dyn Op, uniforms: &Uniforms, args: Args<'_, R>) {
    R::run_on_cpu(op, uniforms, args)
}

/// What a label says of operands stored as f16.
pub(crate) fn half_label(stored: Format) -> &'static str {
    if stored == Format::F16 { " f16" } else { "" }
}

/// Reports an op variant that does not exist; variants come from [`Op::variants`] or a user's `--variant`.
pub(crate) fn unknown_variant(op: &dyn Op, variant: &str) -> crate::Error {
    if op.variants(&Capabilities::portable()).is_empty() {
        return no_kernel(op.name());
    }
    crate::Error::usage(
        format!("op `{}` has no kernel variant `{variant}`", op.name()),
        format!("known on every adapter: {}", op.variants(&Capabilities::portable()).join(", ")),
    )
}

/// Reports an op that runs on the CPU alone.
fn no_kernel(op: &str) -> crate::Error {
    crate::Error::usage(format!("op `{op}` has no GPU kernel"), "use --device cpu")
}
