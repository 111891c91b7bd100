//! Matrix product with an optional bias and tanh: the dense layers, the hoisted input products of the LSTMs and all
//! weight gradients.

use rayon::prelude::*;
use serde::Serialize;

use super::matmul::{Mat, matmul, transposed};
use super::order::{self, Family};
use super::recorder::{chunks, shader};
use super::reduce::SumRows;
use super::tanh_grad::TanhGrad;
use super::vectorized::vectorized;
use super::{
    Arg, Args, Cost, Op, Real, Recorder, RowGroups, Tape, Uniforms, View, cpu_both, half_if_all, unknown_variant,
};
use crate::Result;
use crate::gpu::{Capabilities, Format, Shader, shader_text};

/// Rows of operands that are padded have multiples of so many elements: no variant has tiles of fewer columns, and vectors and
/// the steps of [`VECTOR_GROUPS`] divide it.
const ROW: usize = 8;

/// Elements of a row of this width that is padded.
pub fn padded_width(width: usize) -> usize {
    width.next_multiple_of(ROW)
}

/// The least rows, or the shortest sums, of an excerpt: less would measure the edges of tiles.
const EXCERPT: usize = 128;

/// Which operands are stored transposed. `C` is always `[m, n]`, all matrices row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Layout {
    /// `A [m, k]`, `B [k, n]`.
    NN,
    /// `A [m, k]`, `B [n, k]`.
    NT,
    /// `A [k, m]`, `B [k, n]`.
    TN,
}

/// What is applied to the product and its bias.
///
/// # Examples
///
/// ```
/// use deepj::prelude::*;
///
/// let product = Gemm { activation: Activation::Tanh, ..Gemm::new(deepj::ops::gemm::Layout::NN, 2, 3, 4) };
/// assert_eq!(product.label(), "gemm NN 2x3x4 tanh");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Activation {
    /// Nothing.
    Identity,
    /// Hyperbolic tangent.
    Tanh,
}

/// `C = activation(A B + bias)`, or `C += A B` with `accumulate`.
///
/// Operands: `a`, `b`, `bias [sequences, n]` where there is one, and `c [m, n]`. Row `r` of `C` takes the bias row of its
/// sequence; a plain bias vector is a bias for one sequence.
///
/// # Examples
///
/// ```
/// # fn main() -> deepj::Result<()> {
/// use deepj::ops::gemm::{Gemm, Layout};
/// use deepj::prelude::{Graph, Kind, Device, KernelSelection, Plan, Session, Uniforms};
///
/// let mut graph = Graph::without_params();
/// let (a, b) = (graph.tensor("a", 2 * 3, Kind::Input), graph.tensor("b", 3, Kind::Input));
/// let c = graph.tensor("c", 2, Kind::Output);
/// graph.apply(Gemm::new(Layout::NN, 2, 1, 3), &[a, b, c]);
///
/// let mut session = Session::new(Device::Cpu { why: String::new() }, KernelSelection::default());
/// let program = session.add_all_blocking(vec![Plan::compile("product", graph)])?[0];
/// session.write(program, a, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?;
/// session.write(program, b, &[1.0, 0.0, -1.0])?;
/// session.run(program, 1, &Uniforms::default())?;
/// assert_eq!(session.read_blocking(program, &[c])?, [[-2.0, -2.0]]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gemm {
    /// Storage of `A` and `B`.
    pub layout: Layout,
    /// Rows of `C`.
    pub m: usize,
    /// Columns of `C`.
    pub n: usize,
    /// Length of the inner sums.
    pub k: usize,
    /// The bias, if any: which of its rows each row of `C` takes.
    pub bias: Option<RowGroups>,
    /// Applied last.
    pub activation: Activation,
    /// Adds to `C` instead of overwriting it; only without bias and activation.
    pub accumulate: bool,
    /// Elements from one stored row of `A` to the next, and of `C`: as many as it has columns, or more where rows are padded so
    /// that each begins where a vector may ([`padded_width`]). The padding of `A` holds zeros, and that of `C` gets them.
    pub strides: [usize; 2],
    /// Formats of `A`, `B` and `C`; the bias is f32. Products and sums are f32 in any case, and `C` is rounded once, but
    /// where a binding cannot hold `B` and the sum is cut, after each part.
    pub formats: [Format; 3],
}

impl Gemm {
    /// A plain product.
    pub fn new(layout: Layout, m: usize, n: usize, k: usize) -> Self {
        let formats = [Format::F32; 3];
        let strides = [if layout == Layout::TN { m } else { k }, n];
        Self { layout, m, n, k, bias: None, activation: Activation::Identity, accumulate: false, strides, formats }
    }

    /// The same with rows of `A` and `C` that are padded to so many elements.
    pub fn padded(self, strides: [usize; 2]) -> Self {
        Self { strides, ..self }
    }

    /// The same of operands `a`, `b` and `c` in these formats.
    pub fn of(self, formats: [Format; 3]) -> Self {
        Self { formats, ..self }
    }

    /// The same with a bias.
    pub fn with_bias(self, groups: RowGroups) -> Self {
        Self { bias: Some(groups), ..self }
    }

    /// The same with a bias vector that all rows share.
    pub fn with_bias_vector(self) -> Self {
        self.with_bias(RowGroups { inner: 1, sequences: 1 })
    }

    /// The same with tanh.
    pub fn with_tanh(self) -> Self {
        Self { activation: Activation::Tanh, ..self }
    }

    /// `rows` rows of `A B` (first row `first`), with bias and activation, into `c`.
    fn rows_on_cpu<R: Real>(&self, a: &[R], b: &[R], bias: Option<&[R]>, c: &mut [R], first: usize, threads: bool) {
        let (n, k, [a_stride, c_stride]) = (self.n, self.k, self.strides);
        let rows = c.len() / c_stride;
        if let (Some(bias), Some(groups)) = (bias, self.bias) {
            for (r, row) in c.chunks_exact_mut(c_stride).enumerate() {
                let s = groups.of(first + r);
                row[..n].copy_from_slice(&bias[s * n..(s + 1) * n]);
            }
        }
        if c_stride > n {
            c.chunks_exact_mut(c_stride).for_each(|row| row[n..].fill(R::ZERO));
        }
        let a = match self.layout {
            Layout::NN | Layout::NT => Mat::new(&a[first * a_stride..], rows, k, a_stride),
            Layout::TN => Mat::new(&a[first..], k, rows, a_stride).t(),
        };
        let b = match self.layout {
            Layout::NN | Layout::TN => Mat::new(b, k, n, n),
            Layout::NT => Mat::new(b, n, k, k).t(),
        };
        matmul(c, c_stride, a, b, self.accumulate || bias.is_some(), threads);
        if self.activation == Activation::Tanh {
            vectorized(
                #[inline(always)]
                || c.iter_mut().for_each(|y| *y = y.tanh()),
            );
        }
    }

    fn run_on_cpu<R: Real>(&self, _: &Uniforms, args: Args<'_, R>) {
        let (a, b, bias, c) = if self.bias.is_some() {
            let ([a, b, bias], [c]) = args.take();
            (a, b, Some(bias), c)
        } else {
            let ([a, b], [c]) = args.take();
            (a, b, None, c)
        };
        // Row blocks tall enough to pay for packing `B` again, several a thread; a tall `K` is left whole, so that every
        // sum has one order whatever the number of threads.
        let block = 768;
        if self.layout == Layout::TN || self.m < 2 * block {
            let threads = 2 * self.m * self.n * self.k > 1 << 22;
            self.rows_on_cpu(a, b, bias, c, 0, threads);
        } else if self.layout == Layout::NT {
            let b = transposed(b, self.n, self.k);
            Gemm { layout: Layout::NN, ..self.clone() }.blocks_on_cpu(a, &b, bias, c, block);
        } else {
            self.blocks_on_cpu(a, b, bias, c, block);
        }
    }

    fn blocks_on_cpu<R: Real>(&self, a: &[R], b: &[R], bias: Option<&[R]>, c: &mut [R], block: usize) {
        let blocks = c.par_chunks_mut(block * self.strides[1]).enumerate();
        blocks.for_each(|(i, c)| self.rows_on_cpu(a, b, bias, c, i * block, false));
    }
}

/// A matrix, or a part of one, in an operand: first element, stored rows and columns, elements from row to row.
#[derive(Clone, Copy)]
struct Part {
    start: usize,
    rows: usize,
    cols: usize,
    stride: usize,
}

impl Part {
    /// The part of `rows` and `cols` (first and number each) of a matrix with this stride.
    fn new((row, rows): (usize, usize), (col, cols): (usize, usize), stride: usize) -> Self {
        Self { start: row * stride + col, rows, cols, stride }
    }

    /// Elements from its first to its last.
    fn len(&self) -> usize {
        (self.rows - 1) * self.stride + self.cols
    }
}

/// A kernel of `shaders/gemm*.wgsl`: entry point, rows and columns of the tile of `C` that a workgroup owns, constants; whether it
/// reads and writes vectors where it can, and whether it cuts long sums into slices.
struct Kernel {
    entry: &'static str,
    tile: [usize; 2],
    consts: Vec<(&'static str, u32)>,
    by_vectors: bool,
    in_slices: bool,
}

/// What the products are added to: `START` in the shader.
#[derive(Clone, Copy)]
enum Start {
    Zero,
    Bias,
    C,
}

/// Workgroups along the columns and the rows of `C`, and how many steps of `k` of such a tile pass through workgroup memory
/// at a time.
type Group = (usize, usize, u32);

/// Of 64 invocations. The square one reads least, the others suit few columns or few rows.
const GROUPS: [Group; 3] = [(8, 8, 16), (2, 32, 8), (32, 2, 8)];

/// For `vector`: the first reads least, the second is for small products, the others for few rows or few columns. Two
/// tiles of A and B fit 16 KiB, and there is an invocation for each of their blocks of 4 x 4.
const VECTOR_GROUPS: [Group; 4] = [(16, 16, 8), (8, 8, 8), (32, 4, 4), (8, 32, 4)];

/// Workgroups that keep any GPU busy.
const MANY_GROUPS: usize = 512;

/// Fewest steps of `k` for which it pays to add one more slice in the end.
const SHORTEST_SLICE: usize = 256;

/// Slices start at multiples of this, which `K_TILE` divides.
const SLICE_STEP: usize = 16;

impl Kernel {
    /// The kernel of a variant for `m x n` results.
    fn of(variant: &str, m: usize, n: usize) -> Option<Self> {
        // How many tiles of invocations with 8 columns and so many rows each.
        let tiles = |rows: usize, &(x, y, _): &Group| m.div_ceil(rows * y) * n.div_ceil(8 * x);
        let plain = |entry, tile| Self { entry, tile, consts: vec![], by_vectors: false, in_slices: false };
        // Rows of one invocation.
        let (entry, rows, group) = match variant {
            "naive" => return Some(plain("naive", [16, 16])),
            "tiled" => return Some(plain("tiled", [16, 16])),
            "subgroup" => return Some(plain("subgroup", [16, 256])),
            "cooperative" => {
                return Some(Self { by_vectors: true, in_slices: true, ..plain("cooperative", [128, 128]) });
            }
            // All tiles have one area, so the fewest hang over the edge least.
            "register" => ("registers", 8, GROUPS.into_iter().min_by_key(|group| tiles(8, group))?),
            "direct" => ("direct", 16, GROUPS.into_iter().min_by_key(|group| tiles(16, group))?),
            // Half as many tiles run at a time, each for as long as its area is large.
            "vector" => {
                let time = |group: &Group| tiles(8, group).div_ceil(MANY_GROUPS / 2) * group.0 * group.1;
                ("vector", 8, VECTOR_GROUPS.into_iter().min_by_key(time)?)
            }
            // Slices make up for few tiles.
            "split" => {
                let area = |group: &Group| tiles(8, group) * group.0 * group.1;
                ("vector", 8, VECTOR_GROUPS.into_iter().min_by_key(area)?)
            }
            _ => return None,
        };
        let (x, y, k_tile) = group;
        let consts = vec![("GROUP_X", x as u32), ("GROUP_Y", y as u32), ("K_TILE", k_tile)];
        let (by_vectors, in_slices) = (entry == "vector", variant == "split");
        Some(Self { entry, tile: [rows * y, 8 * x], consts, by_vectors, in_slices })
    }

    /// Steps of `k` that pass through workgroup memory at a time; 1 where the kernel has no such number.
    fn k_tile(&self) -> usize {
        self.consts.iter().find(|(name, _)| *name == "K_TILE").map_or(1, |(_, steps)| *steps as usize)
    }

    /// How many tiles `m x n` results make.
    fn tiles(&self, m: usize, n: usize) -> usize {
        m.div_ceil(self.tile[0]) * n.div_ceil(self.tile[1])
    }

    /// Steps of `k` in a slice where tiles alone are too few to keep a GPU busy: `k` if one slice is enough, or if no more
    /// than `most` are allowed.
    fn slice(&self, m: usize, n: usize, k: usize, most: usize) -> usize {
        let slices = (MANY_GROUPS / self.tiles(m, n)).min(k / SHORTEST_SLICE).min(most).max(1);
        if slices == 1 { k } else { k.div_ceil(slices).next_multiple_of(SLICE_STEP) }
    }

    fn shader(&self, layout: Layout, start: Start, tanh: bool, formats: [Format; 3], bias: Format) -> Shader {
        let (a, b) = (layout == Layout::TN, layout == Layout::NT);
        let [stored_a, stored_b, stored_c] = formats;
        let mut shader = shader!(
            "gemm",
            self.entry,
            [("A_TRANSPOSED", a), ("B_TRANSPOSED", b), ("START", start), ("TANH", tanh)],
            [("StoredA", stored_a), ("StoredB", stored_b), ("StoredC", stored_c), ("StoredBias", bias)]
        );
        shader.consts.extend_from_slice(&self.consts);
        if self.entry == "vector" {
            shader.types.push(("Ahead", half_if_all([stored_a, stored_b])));
        }
        match self.entry {
            "subgroup" => Shader { op: "gemm_subgroup", source: shader_text!("gemm_subgroup", "gemm"), ..shader },
            "cooperative" => {
                Shader { op: "gemm_cooperative", source: shader_text!("gemm_cooperative", "gemm"), ..shader }
            }
            _ => shader,
        }
    }

    /// Sets the constants of a kernel that reads and writes vectors, where A, B and C allow it; of steps there are these, these with
    /// the padding of A's rows, and these in a slice.
    fn read_vectors(&self, shader: &mut Shader, by: [bool; 3], [steps, padded, slice]: [usize; 3]) {
        let [by_a, by_b, by_c] = by.map(u32::from);
        shader.consts.extend([("A_VECTOR", by_a), ("B_VECTOR", by_b), ("C_VECTOR", by_c)]);
        if self.entry == "vector" {
            let tiled = |steps: usize| steps.is_multiple_of(self.k_tile());
            let even = by[0] && by[1] && tiled(padded) && (slice >= steps || tiled(slice));
            shader.consts.push(("EVEN", even.into()));
            if even && !tiled(steps) {
                shader.consts.push(("PAST_END", 1));
            }
        }
    }
}

impl Gemm {
    /// Columns of a part of A as it is stored, and steps of the part (rows, columns and steps, first and number each), both with the
    /// padding behind them: the last vector of a row may reach into it, and it may be what the last tile of steps lacks.
    fn with_padding(&self, [in_m, _, in_k]: [(usize, usize); 3]) -> (usize, usize) {
        let padded = |(first, count): (usize, usize), columns: usize| {
            if first + count == columns { self.strides[0] - first } else { count }
        };
        match self.layout {
            Layout::NN | Layout::NT => (padded(in_k, self.k), padded(in_k, self.k)),
            Layout::TN => (padded(in_m, self.m), in_k.1),
        }
    }

    /// Records the product of these rows, columns and steps (first and number each), with so many steps in a slice.
    fn record_part(&self, kernel: &Kernel, recorder: &mut Recorder<'_>, part: [(usize, usize); 3], slice: usize) {
        let (n, k, [a_stride, c_stride]) = (self.n, self.k, self.strides);
        let [in_m, in_n, in_k] = part;
        let bias_groups = self.bias.unwrap_or(RowGroups { inner: 1, sequences: 1 });
        let (a, b) = match self.layout {
            Layout::NN => (Part::new(in_m, in_k, a_stride), Part::new(in_k, in_n, n)),
            Layout::NT => (Part::new(in_m, in_k, a_stride), Part::new(in_n, in_k, k)),
            Layout::TN => (Part::new(in_k, in_m, a_stride), Part::new(in_k, in_n, n)),
        };
        // What is bound of A ends with the padding of its last row, of which vectors read.
        let (cols, steps) = self.with_padding(part);
        let a = Part { cols, ..a };
        // The part that ends with the last columns makes the padding behind them.
        let all_n = if in_n.0 + in_n.1 == n { (in_n.0, c_stride - in_n.0) } else { in_n };
        let start = match (in_k.0 > 0 || self.accumulate, self.bias) {
            (true, _) => Start::C,
            (false, Some(_)) => Start::Bias,
            (false, None) => Start::Zero,
        };
        let tanh = self.activation == Activation::Tanh && in_k.0 + in_k.1 == k;

        let bias = Part::new((0, bias_groups.sequences), in_n, n);
        // Operands 0 and 1 are A and B; without a bias, part of B is bound in its place and not read, so that all products
        // have one layout of bindings: a vector of it, where it is declared as vectors.
        let (bias_arg, bias, stored_bias) = match self.bias {
            Some(_) => (2, bias, Format::F32),
            None => (1, Part::new((0, 1), (0, b.len().min(4)), 4), self.formats[1]),
        };
        let (c_arg, c) = (self.args().len() - 1, Part::new(in_m, all_n, c_stride));

        let slices = in_k.1.div_ceil(slice);
        let products = in_m.1 * all_n.1;
        let [stored_a, stored_b, stored_c] = self.formats;
        let (product_arg, product, mut shader) = match slices {
            1 => (c_arg, c, kernel.shader(self.layout, start, tanh, self.formats, stored_bias)),
            _ => {
                let scratch = recorder.scratch(slices * products);
                let part = Part::new((0, slices * in_m.1), (0, all_n.1), all_n.1);
                let formats = [stored_a, stored_b, Format::F32];
                (scratch, part, kernel.shader(self.layout, Start::Zero, false, formats, stored_bias))
            }
        };
        if kernel.by_vectors {
            let by_vectors = |arg: usize, part: &Part| {
                [recorder.offset(arg, part.start), part.stride, part.cols].iter().all(|x| x.is_multiple_of(4))
            };
            // The bias is read by the vectors in which C is written, and what stands in its place is as long as one.
            let by_bias = if self.bias.is_some() { by_vectors(bias_arg, &bias) } else { bias.len() == 4 };
            let by_c = by_vectors(product_arg, &product) && by_bias;
            let by = [by_vectors(0, &a), by_vectors(1, &b), by_c];
            kernel.read_vectors(&mut shader, by, [in_k.1, steps, slice]);
        }
        let words = [in_m.0, bias_groups.inner, bias_groups.sequences];
        if all_n != in_n {
            shader.consts.push(("C_PADDED", 1));
        }
        let cost = recorder.share(in_m.1, self.m).part(in_n.1, n).part(in_k.1, k);
        recorder
            .dispatch(shader, cost)
            .write(product_arg, product.start, product.len())
            .read(bias_arg, bias.start, bias.len())
            .read(0, a.start, a.len())
            .read(1, b.start, b.len())
            .words(&[in_m.1, in_n.1, in_k.1, a.stride, b.stride, product.stride])
            .words(&words)
            .words(&[slice, all_n.1])
            .groups(slices * kernel.tiles(in_m.1, in_n.1));
        if slices > 1 {
            let shader = shader!(
                "gemm",
                "sum_slices",
                [("START", start), ("TANH", tanh)],
                [("StoredC", stored_c), ("StoredBias", stored_bias)]
            );
            let summed = (slices * products) as u64;
            let cost = Cost { flops: summed, bytes: Format::F32.bytes() * (summed + products as u64) };
            recorder
                .dispatch(shader, cost)
                .write(c_arg, c.start, c.len())
                .read(bias_arg, bias.start, bias.len())
                .read(product_arg, 0, slices * products)
                // B and its offset have no part in it.
                .word(0)
                .words(&[in_m.1, all_n.1, slices, all_n.1, 0, c.stride])
                .words(&words)
                .word(1)
                .word(all_n.1)
                .groups(products.div_ceil(256));
        }
    }
}

impl Op for Gemm {
    fn name(&self) -> &'static str {
        "gemm"
    }

    fn label(&self) -> String {
        let bias = if self.bias.is_some() { " bias" } else { "" };
        let tanh = if self.activation == Activation::Tanh { " tanh" } else { "" };
        let add = if self.accumulate { " accumulate" } else { "" };
        let halves = ["a", "b", "c"].into_iter().zip(self.formats).filter(|(_, format)| *format == Format::F16);
        let halves: String = halves.map(|(name, _)| name).collect();
        let halves = if halves.is_empty() { halves } else { format!(" {halves} f16") };
        let rows = |name: &str, stride: usize, columns: usize| match stride == columns {
            true => String::new(),
            false => format!(" {name} in rows of {stride}"),
        };
        let plain = Self::new(self.layout, self.m, self.n, self.k).strides;
        let padded = rows("a", self.strides[0], plain[0]) + &rows("c", self.strides[1], plain[1]);
        format!("gemm {:?} {}x{}x{}{bias}{tanh}{add}{padded}{halves}", self.layout, self.m, self.n, self.k)
    }

    fn args(&self) -> Vec<Arg> {
        let [a, b, c] = self.formats;
        let [a_stride, c_stride] = self.strides;
        let a_rows = if self.layout == Layout::TN { self.k } else { self.m };
        let mut args = vec![
            Arg::read("a", a_rows * a_stride).moving(self.m * self.k).stored(a),
            Arg::read("b", self.k * self.n).stored(b),
        ];
        if let Some(groups) = self.bias {
            args.push(Arg::read("bias", groups.sequences * self.n).moving(groups.among(self.m) * self.n));
        }
        let result = if self.accumulate { Arg::update } else { Arg::write };
        args.push(result("c", self.m * c_stride).stored(c));
        args
    }

    /// An element costs `k` multiply-adds, which start from the bias or from what is added to, and a tanh.
    fn cost(&self) -> Cost {
        let outputs = (self.m * self.n) as u64;
        let activation = u64::from(self.activation == Activation::Tanh);
        Cost { flops: outputs * (2 * self.k as u64 + activation), bytes: self.operand_bytes() }
    }

    cpu_both!();

    /// `cooperative` comes last: it is tried on devices where it has passed a check.
    fn variants(&self, capabilities: &Capabilities) -> Vec<&'static str> {
        let is_small =
            Kernel::of("vector", self.m, self.n).is_some_and(|of| of.tiles(self.m, self.n) < order::COMPUTE_UNITS);
        let family = Family::of(capabilities);
        let mut variants = order::products(family, is_small);
        // A subgroup larger than the workgroup would have invocations that hold nothing.
        if capabilities.subgroup && capabilities.subgroup_max_size <= 64 {
            variants.insert(order::place_of_subgroup(family, variants.len()), "subgroup");
        }
        let sliced = |kernel: Kernel| kernel.slice(self.m, self.n, self.k, usize::MAX) < self.k;
        if Kernel::of("split", self.m, self.n).is_some_and(sliced) {
            variants.insert(order::place_of_split(family, variants.len()), "split");
        }
        // Eight subgroups of a size that its fills divide, two tiles of each factor and a matrix of each subgroup.
        let able = capabilities.multiplies_matrices(8)
            && matches!(capabilities.subgroup_max_size, 32 | 64)
            && capabilities.max_compute_workgroup_storage_size >= 1 << 15;
        if self.formats[..2] == [Format::F16; 2] && able {
            variants.push("cooperative");
        }
        variants
    }

    fn experimental(&self) -> &'static [&'static str] {
        &["cooperative"]
    }

    fn record(&self, variant: &str, recorder: &mut Recorder<'_>) -> Result<()> {
        let mut kernel = Kernel::of(variant, self.m, self.n).ok_or_else(|| unknown_variant(self, variant))?;
        if variant == "cooperative" {
            let invocations = recorder.capabilities.subgroup_max_size;
            kernel.consts.extend([("INVOCATIONS", invocations), ("TWO", u32::from(invocations == 32))]);
        }
        let (m, n, k, [a_stride, c_stride]) = (self.m, self.n, self.k, self.strides);
        // Each matrix is cut along its stored rows, so that every part fits a binding.
        let rows = |widths: &[usize]| recorder.rows_per_binding(widths);
        let [most_m, most_n, most_k] = match self.layout {
            Layout::NN => [rows(&[a_stride, c_stride]), n, rows(&[n])],
            Layout::NT => [rows(&[a_stride, c_stride]), rows(&[k]), k],
            Layout::TN => [rows(&[c_stride]), n, rows(&[a_stride, n])],
        };
        // What takes too long for a watchdog has fewer rows, or shorter sums where these are long and tiles few.
        let most_m = match self.layout {
            Layout::NN | Layout::NT => most_m.min(recorder.parts_in_time(m, usize::MAX)),
            Layout::TN => most_m,
        };
        let most_m = most_m.min(m).max(1);
        let (cost, tiles) = (recorder.share(most_m, m), kernel.tiles(most_m, n.min(most_n)));
        let slices = if kernel.in_slices { k.div_ceil(kernel.slice(m, n, k, usize::MAX)) } else { 1 };
        let groups = slices * tiles;
        let most_k = most_k.min(recorder.in_time(cost, k, groups)).max(1);
        for in_m in chunks(m, most_m) {
            for in_n in chunks(n, most_n) {
                for in_k in chunks(k, most_k) {
                    // Fewer rows at a time have the whole's slices, and so its bits.
                    let (rows, cols) = if in_k.1 == k { (m, n) } else { (in_m.1, in_n.1) };
                    let most = recorder.rows_per_binding(&[in_m.1 * (in_n.1 + c_stride - n)]);
                    let slice = if kernel.in_slices { kernel.slice(rows, cols, in_k.1, most) } else { in_k.1 };
                    self.record_part(&kernel, recorder, [in_m, in_n, in_k], slice);
                }
            }
        }
        Ok(())
    }

    /// Fewer rows of `C`, or shorter sums where those are long and the rows few.
    fn excerpt(&self, flops: u64) -> Option<Box<dyn Op>> {
        let length = if self.layout == Layout::TN { self.k } else { self.m };
        let per_length = (self.cost().flops / length.max(1) as u64).max(1);
        let length = usize::try_from(flops / per_length).unwrap_or(usize::MAX).max(EXCERPT).min(length);
        let part = match self.layout {
            Layout::TN => Self { k: length, ..self.clone() },
            Layout::NN | Layout::NT => Self { m: length, ..self.clone() },
        };
        (part != *self).then(|| Box::new(part) as Box<dyn Op>)
    }

    fn gradient(&self, tape: &mut dyn Tape, operands: &[View]) {
        let (a, b, c) = (operands[0], operands[1], operands[operands.len() - 1]);
        let Some(mut dc) = tape.grad(c) else { return };
        if self.activation == Activation::Tanh {
            let dz = tape.temp("dz", c.len, Format::F32);
            tape.push(Box::new(TanhGrad { len: c.len }), &[c, dc, dz]);
            dc = dz;
        }
        let (m, n, k, [a_stride, c_stride]) = (self.m, self.n, self.k, self.strides);
        // Only gradients have padded results, and what is padded in a forward pass is the A of a layer.
        let plain = Self::new(self.layout, m, n, k).strides;
        assert!(c_stride == n && (a_stride == plain[0] || self.layout == Layout::NN), "{}", self.label());
        // The factors of each gradient, with its shape.
        let [(da, of_a), (db, of_b)] = match self.layout {
            Layout::NN => [
                (Gemm::new(Layout::NT, m, k, n).padded([n, a_stride]), [dc, b]),
                (Gemm::new(Layout::TN, k, n, m).padded([a_stride, n]), [a, dc]),
            ],
            Layout::NT => [(Gemm::new(Layout::NN, m, k, n), [dc, b]), (Gemm::new(Layout::TN, n, k, m), [dc, a])],
            Layout::TN => [(Gemm::new(Layout::NT, k, m, n), [b, dc]), (Gemm::new(Layout::NN, k, n, m), [a, dc])],
        };
        for (x, product, factors) in [(a, da, of_a), (b, db, of_b)] {
            let formats = [factors[0].format, factors[1].format, tape.grad_format(x)];
            tape.contribute(x, Box::new(product.of(formats)), &factors);
        }
        if let Some(groups) = self.bias {
            tape.contribute(operands[2], Box::new(SumRows::new(m, n, groups).of(dc.format)), &[dc]);
        }
    }

    fn accumulating(&self) -> Option<Box<dyn Op>> {
        let plain = self.bias.is_none() && self.activation == Activation::Identity;
        plain.then(|| Box::new(Gemm { accumulate: true, ..self.clone() }) as Box<dyn Op>)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_that_need_features_are_legal_only_where_these_are() {
        let halves = Gemm::new(Layout::NN, 64, 64, 64).of([Format::F16; 3]);
        let supported = |op: &Gemm, change: fn(&mut Capabilities), variant: &str| {
            let mut capabilities = Capabilities::able();
            change(&mut capabilities);
            op.supported(&capabilities).contains(&variant)
        };
        assert!(supported(&halves, |_| (), "subgroup") && supported(&halves, |_| (), "cooperative"));
        assert!(!supported(&Gemm::new(Layout::NN, 64, 64, 64), |_| (), "cooperative"));
        assert!(!supported(&halves, |c| c.cooperative_matrix.clear(), "cooperative"));
        assert!(!supported(&halves, |c| c.cooperative_matrix[0].result = "f16".into(), "cooperative"));
        assert!(!supported(&halves, |c| c.subgroup_min_size = 8, "cooperative"));
        assert!(!supported(&halves, |c| c.subgroup_max_size = 128, "subgroup"));
        for variant in ["subgroup", "cooperative"] {
            assert!(!supported(&halves, |c| c.subgroup = false, variant));
            assert!(!supported(&halves, |c| c.shader_f16 = false, variant));
        }
    }

    #[test]
    fn sums_are_cut_where_tiles_are_few_and_sums_are_long() {
        let slice = |m, n, k| Kernel::of("split", m, n).unwrap().slice(m, n, k, usize::MAX);
        // A weight's gradient: 16 tiles of 128 x 128, so 32 slices.
        assert_eq!(slice(256, 1024, 98_304), 3072);
        // A slice starts at a multiple of what passes through workgroup memory, and is not shorter than what pays.
        assert_eq!(slice(94, 1024, 5000), 272);
        assert_eq!(slice(94, 1024, 511), 511);
        assert_eq!(slice(98_304, 1024, 2048), 2048);
    }
}
