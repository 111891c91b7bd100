//! LSTM over a sequence, forward and backward, with the input product hoisted out: one [`Gemm`] over all steps before,
//! one for each weight gradient after (Appleyard et al. 2016). Gates stand in the order i, f, g, o.

use rayon::prelude::*;
use serde::Serialize;

use super::gemm::{Gemm, Layout};
use super::matmul::{Mat, matmul, transposed};
use super::order::{self, Family, LstmKernels};
use super::recorder::{chunks, shader};
use super::vectorized::vectorized;
use super::{
    Arg, Args, Cost, Op, Real, Recorder, Tape, Uniforms, View, cpu_both, half_if_all, half_label, unknown_variant,
};
use crate::error::Result;
use crate::gpu::{Capabilities, Format, Shader};

/// `[i f g o] = gates[t] + h[t] R`; `c[t+1] = sigmoid(f) c[t] + sigmoid(i) tanh(g)`; `h[t+1] = sigmoid(o) tanh(c[t+1])`.
///
/// Operands:
/// - `recurrent [H, 4H]`, the matrix `R`;
/// - `gates [T, rows, 4H]`: on entry the input products with biases, on exit the activated gates;
/// - `h [T+1, rows, H]` and `c [T+1, rows, H]`: slot 0 holds the initial state, slot T the final one.
///
/// Where `h` is stored as f16, the next step reads what is stored; `c` is always f32, and made of gates not yet rounded.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Lstm {
    /// T, steps of the sequence.
    pub steps: usize,
    /// Independent sequences.
    pub rows: usize,
    /// H, units.
    pub units: usize,
    /// Format of `recurrent`.
    pub weights: Format,
    /// Format of `gates` and `h`.
    pub stored: Format,
}

/// The gradient of [`Lstm`] with respect to its gates' pre-activations.
///
/// Operands:
/// - `recurrent [H, 4H]`;
/// - `dh [T, rows, H]`: gradients of `h[1..=T]` from above;
/// - `c [T+1, rows, H]` as the forward pass left it;
/// - `gates [T, rows, 4H]`: on entry the activated gates, on exit the gradients of the pre-activations;
/// - `dc [rows, H]`: scratch, the gradient of `c` on its way back.
///
/// The gradient of the initial state is not computed: truncated backpropagation stops there. Where `gates` are stored as
/// f16, the step before reads gradients as stored; `dc` is always f32.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LstmGrad {
    /// T, steps of the sequence.
    pub steps: usize,
    /// Independent sequences.
    pub rows: usize,
    /// H, units.
    pub units: usize,
    /// Format of `recurrent`.
    pub weights: Format,
    /// Format of `gates` and `dh`.
    pub stored: Format,
}

/// The gates' functions alone: makes activated gates of the sums of input and recurrent products, where `h` is known and no
/// step has to wait for another. Operand: `gates [rows, 4H]`, the rows of all steps.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LstmGates {
    /// Sequences times steps.
    pub rows: usize,
    /// H, units.
    pub units: usize,
    /// Format of `gates`.
    pub stored: Format,
}

/// Cuts `data [steps, rows, width]` at the row numbers `cuts`: for each block of rows, its slice of every step.
fn split_rows<'a, R>(data: &'a mut [R], rows: usize, width: usize, cuts: &[usize]) -> Vec<Vec<&'a mut [R]>> {
    let mut blocks: Vec<Vec<&mut [R]>> = cuts.windows(2).map(|_| Vec::new()).collect();
    for mut step in data.chunks_exact_mut(rows * width) {
        for (block, cut) in blocks.iter_mut().zip(cuts.windows(2)) {
            let (head, tail) = step.split_at_mut((cut[1] - cut[0]) * width);
            block.push(head);
            step = tail;
        }
    }
    blocks
}

/// Row numbers at which to cut `rows` rows into one block a thread, of two rows at least: the product of a single row sums in another
/// order, and the number of threads is not to change results.
fn cuts(rows: usize) -> Vec<usize> {
    let blocks = rayon::current_num_threads().clamp(1, (rows / 2).max(1));
    (0..=blocks).map(|i| rows * i / blocks).collect()
}

/// Units that the CPU backend computes together: through local arrays, whose independence the compiler sees, so that it
/// vectorises the activations.
const VECTOR: usize = 64;

/// One step of one row: activates `gates [4H]` in place, writes `c` and `h`.
#[inline(always)]
pub(super) fn cell<R: Real>(gates: &mut [R], c_before: &[R], c: &mut [R], h: &mut [R]) {
    let n = h.len();
    let mut j = 0;
    while j + VECTOR <= n {
        cell_lanes::<R, VECTOR>(gates, c_before, c, h, j);
        j += VECTOR;
    }
    while j < n {
        cell_lanes::<R, 1>(gates, c_before, c, h, j);
        j += 1;
    }
}

/// Elements `at .. at + L` of `x`.
#[inline(always)]
fn load<R: Real, const L: usize>(x: &[R], at: usize) -> [R; L] {
    let mut lanes = [R::ZERO; L];
    lanes.copy_from_slice(&x[at..at + L]);
    lanes
}

#[inline(always)]
fn cell_lanes<R: Real, const L: usize>(gates: &mut [R], c_before: &[R], c: &mut [R], h: &mut [R], j: usize) {
    let n = h.len();
    let (mut i, mut f) = (load::<R, L>(gates, j), load::<R, L>(gates, n + j));
    let (mut g, mut o) = (load::<R, L>(gates, 2 * n + j), load::<R, L>(gates, 3 * n + j));
    let (mut s, mut y) = (load::<R, L>(c_before, j), [R::ZERO; L]);
    i.iter_mut().for_each(|x| *x = x.sigmoid());
    f.iter_mut().for_each(|x| *x = x.sigmoid());
    g.iter_mut().for_each(|x| *x = x.tanh());
    o.iter_mut().for_each(|x| *x = x.sigmoid());
    for l in 0..L {
        s[l] = f[l] * s[l] + i[l] * g[l];
        y[l] = o[l] * s[l].tanh();
    }
    for (gate, lanes) in [i, f, g, o].iter().enumerate() {
        gates[gate * n + j..][..L].copy_from_slice(lanes);
    }
    c[j..j + L].copy_from_slice(&s);
    h[j..j + L].copy_from_slice(&y);
}

/// One step of one row backwards: turns activated `gates [4H]` into gradients of the pre-activations and takes `dc` from
/// the step's own to the one before.
#[inline(always)]
pub(super) fn cell_grad<R: Real>(gates: &mut [R], dh: &[R], c_before: &[R], c: &[R], dc: &mut [R]) {
    let n = dh.len();
    let mut j = 0;
    while j + VECTOR <= n {
        cell_grad_lanes::<R, VECTOR>(gates, dh, c_before, c, dc, j);
        j += VECTOR;
    }
    while j < n {
        cell_grad_lanes::<R, 1>(gates, dh, c_before, c, dc, j);
        j += 1;
    }
}

#[inline(always)]
fn cell_grad_lanes<R: Real, const L: usize>(
    gates: &mut [R],
    dh: &[R],
    c_before: &[R],
    c: &[R],
    dc: &mut [R],
    j: usize,
) {
    let n = dh.len();
    let (mut i, mut f) = (load::<R, L>(gates, j), load::<R, L>(gates, n + j));
    let (mut g, mut o) = (load::<R, L>(gates, 2 * n + j), load::<R, L>(gates, 3 * n + j));
    let (dh, before) = (load::<R, L>(dh, j), load::<R, L>(c_before, j));
    let (mut tc, mut d) = (load::<R, L>(c, j), load::<R, L>(dc, j));
    tc.iter_mut().for_each(|x| *x = x.tanh());
    for l in 0..L {
        let s = d[l] + dh[l] * o[l] * (R::ONE - tc[l] * tc[l]);
        d[l] = s * f[l];
        o[l] = dh[l] * tc[l] * o[l] * (R::ONE - o[l]);
        f[l] = s * before[l] * f[l] * (R::ONE - f[l]);
        (i[l], g[l]) = (s * g[l] * i[l] * (R::ONE - i[l]), s * i[l] * (R::ONE - g[l] * g[l]));
    }
    for (gate, lanes) in [i, f, g, o].iter().enumerate() {
        gates[gate * n + j..][..L].copy_from_slice(lanes);
    }
    dc[j..j + L].copy_from_slice(&d);
}

impl Lstm {
    fn run_on_cpu<R: Real>(&self, _: &Uniforms, args: Args<'_, R>) {
        let ([recurrent], [gates, h, c]) = args.take();
        let (rows, units) = (self.rows, self.units);
        let cuts = cuts(rows);
        let gates = split_rows(gates, rows, 4 * units, &cuts);
        let h = split_rows(h, rows, units, &cuts);
        let c = split_rows(c, rows, units, &cuts);
        let r = Mat::new(recurrent, units, 4 * units, 4 * units);
        gates.into_par_iter().zip(h).zip(c).for_each(|((mut gates, mut h), mut c)| {
            for t in 0..self.steps {
                let (h_before, h_after) = h.split_at_mut(t + 1);
                let (c_before, c_after) = c.split_at_mut(t + 1);
                let (h_before, h) = (&*h_before[t], &mut *h_after[0]);
                let (c_before, c) = (&*c_before[t], &mut *c_after[0]);
                let gates = &mut *gates[t];
                matmul(gates, 4 * units, Mat::new(h_before, h_before.len() / units, units, units), r, true, false);
                vectorized(
                    #[inline(always)]
                    || {
                        for (((gates, c_before), c), h) in gates
                            .chunks_exact_mut(4 * units)
                            .zip(c_before.chunks_exact(units))
                            .zip(c.chunks_exact_mut(units))
                            .zip(h.chunks_exact_mut(units))
                        {
                            cell(gates, c_before, c, h);
                        }
                    },
                );
                if self.stored == Format::F16 {
                    R::round_half(h);
                }
            }
        });
    }
}

impl LstmGrad {
    fn run_on_cpu<R: Real>(&self, _: &Uniforms, args: Args<'_, R>) {
        let ([recurrent, dh, c], [gates, dc]) = args.take();
        let (rows, units) = (self.rows, self.units);
        let cuts = cuts(rows);
        let gates = split_rows(gates, rows, 4 * units, &cuts);
        let dc = split_rows(dc, rows, units, &cuts);
        let r = transposed(recurrent, units, 4 * units);
        let r = Mat::new(&r, 4 * units, units, units);
        gates.into_par_iter().zip(dc).zip(cuts).for_each(|((mut gates, mut dc), first)| {
            let dc = &mut *dc[0];
            dc.fill(R::ZERO);
            let len = dc.len();
            let at = |t: usize| (t * rows + first) * units..(t * rows + first) * units + len;
            let mut total = vec![R::ZERO; len];
            for t in (0..self.steps).rev() {
                total.copy_from_slice(&dh[at(t)]);
                let (gates, later) = gates.split_at_mut(t + 1);
                if let Some(later) = later.first() {
                    matmul(&mut total, units, Mat::new(later, len / units, 4 * units, 4 * units), r, true, false);
                }
                let (c_before, c) = (&c[at(t)], &c[at(t + 1)]);
                let gates = &mut *gates[t];
                vectorized(
                    #[inline(always)]
                    || {
                        for ((((gates, dh), c_before), c), dc) in gates
                            .chunks_exact_mut(4 * units)
                            .zip(total.chunks_exact(units))
                            .zip(c_before.chunks_exact(units))
                            .zip(c.chunks_exact(units))
                            .zip(dc.chunks_exact_mut(units))
                        {
                            cell_grad(gates, dh, c_before, c, dc);
                        }
                    },
                );
                if self.stored == Format::F16 {
                    R::round_half(gates);
                }
            }
        });
    }
}

impl LstmGates {
    fn run_on_cpu<R: Real>(&self, _: &Uniforms, args: Args<'_, R>) {
        let ([], [gates]) = args.take();
        let units = self.units;
        gates.par_chunks_mut(4 * units).for_each(|gates| {
            vectorized(
                #[inline(always)]
                || {
                    for (gate, gates) in gates.chunks_exact_mut(units).enumerate() {
                        match gate {
                            2 => gates.iter_mut().for_each(|x| *x = x.tanh()),
                            _ => gates.iter_mut().for_each(|x| *x = x.sigmoid()),
                        }
                    }
                },
            );
        });
    }
}

/// How the products of a step are cut into workgroups; see `shaders/lstm.wgsl`.
#[derive(Clone, Copy)]
enum Kernel {
    /// A dispatch a step, an invocation makes one cell.
    Naive,
    /// A dispatch a step, an invocation makes so many rows and units.
    Block { rows: usize, units: usize },
    /// A dispatch a step, a workgroup makes a tile.
    Tiled(Tile),
    /// A dispatch a step, a workgroup makes a tile in several parts of the sums' length.
    Split(Split),
    /// A dispatch for many steps, a workgroup makes this many quadruples of rows.
    Sequence { quads: usize },
}

/// A workgroup of `x * y` invocations, of which one makes `units` units of `quads` quadruples of rows; its factors pass through
/// workgroup memory `depth` terms of the sums at a time.
#[derive(Clone, Copy)]
struct Tile {
    x: usize,
    y: usize,
    units: usize,
    quads: usize,
    depth: usize,
    /// Padding of the tiles of rows, in vectors.
    pad: usize,
}

impl Tile {
    fn rows(self) -> usize {
        4 * self.quads * self.y
    }

    fn groups(self, rows: usize, units: usize) -> usize {
        rows.div_ceil(self.rows()) * units.div_ceil(self.units * self.x)
    }
}

/// Tiles by their number of rows. Large ones read least; with few rows, small ones keep more of a GPU at work, and as their
/// invocations are few, much of the sums' length in memory at a time hides what reading it takes.
///
/// Forward an invocation makes the four gates of one unit, so that neighbours read neighbouring weights of each gate.
const FORWARD_TILES: [(&str, Tile); 4] = [
    ("step_128", Tile { x: 32, y: 8, units: 1, quads: 4, depth: 16, pad: 0 }),
    ("step_64", Tile { x: 32, y: 8, units: 1, quads: 2, depth: 16, pad: 0 }),
    ("step_32", Tile { x: 32, y: 8, units: 1, quads: 1, depth: 16, pad: 0 }),
    ("step_16", Tile { x: 16, y: 4, units: 1, quads: 1, depth: 32, pad: 1 }),
];

/// Backward there is one sum a unit, so an invocation makes four units.
const BACKWARD_TILES: [(&str, Tile); 4] = [
    ("step_128", Tile { x: 16, y: 16, units: 4, quads: 2, depth: 16, pad: 1 }),
    ("step_64", Tile { x: 16, y: 16, units: 4, quads: 1, depth: 16, pad: 1 }),
    ("step_32", Tile { x: 8, y: 8, units: 4, quads: 1, depth: 32, pad: 1 }),
    ("step_16", Tile { x: 8, y: 4, units: 4, quads: 1, depth: 32, pad: 1 }),
];

/// A tile whose sums are cut into so many parts along their length, each made by `x * y` invocations of four rows.
#[derive(Clone, Copy)]
pub(super) struct Split {
    tile: Tile,
    parts: usize,
}

impl Split {
    const fn new(x: usize, y: usize, units: usize, depth: usize, parts: usize, pad: usize) -> Self {
        Self { tile: Tile { x, y, units, quads: 1, depth, pad }, parts }
    }

    pub(super) fn rows(self) -> usize {
        self.tile.rows()
    }

    pub(super) fn groups(self, rows: usize, units: usize) -> usize {
        self.tile.groups(rows, units)
    }

    /// An entry point with these sizes, reading by vectors or not.
    pub(super) fn shader(self, entry: &'static str, vector: bool) -> Shader {
        let Self { tile: Tile { x, y, depth, pad, .. }, parts } = self;
        shader!(
            "lstm",
            entry,
            [("X", x), ("Y", y), ("DEPTH", depth), ("PARTS", parts), ("PAD", pad), ("VECTOR", vector)]
        )
    }

    /// Whether tiles divide the parts of a sum of so many terms evenly.
    fn is_even(self, terms: usize) -> bool {
        terms.is_multiple_of(self.parts * self.tile.depth)
    }
}

/// Tiles in parts by their number of rows. Where few rows make few workgroups, parts make more waves of them.
pub(super) const FORWARD_SPLITS: [(&str, Split); 3] = [
    ("split_64", Split::new(16, 16, 1, 16, 1, 1)),
    ("split_32", Split::new(16, 8, 1, 16, 1, 1)),
    ("split_8", Split::new(16, 2, 1, 4, 4, 1)),
];

/// The same backward, where sums are four times as long. Without padding, `split_32` fits into the workgroup memory that every device
/// has.
pub(super) const BACKWARD_SPLITS: [(&str, Split); 3] = [
    ("split_32", Split::new(8, 8, 4, 16, 4, 0)),
    ("split_16", Split::new(8, 4, 4, 8, 8, 1)),
    ("split_8", Split::new(4, 2, 4, 4, 16, 1)),
];

/// Workgroups that [`Kernel::Split`] should make of a step: three for each of a large GPU's compute units.
pub(super) const SPLIT_GROUPS: usize = 3 * order::COMPUTE_UNITS;

/// Rows of a workgroup of [`Kernel::Sequence`].
const SEQUENCES: [(&str, usize); 3] = [("seq_r4", 4), ("seq_r8", 8), ("seq_r16", 16)];

/// The steps `t .. t + steps` of the rows `row .. row + rows`.
#[derive(Clone, Copy)]
struct Part {
    t: usize,
    steps: usize,
    row: usize,
    rows: usize,
}

/// Invocations of a workgroup of [`Kernel::Naive`] and [`Kernel::Block`].
const INVOCATIONS: usize = 64;

/// Workgroups that a GPU should have of a step, so that a tile is worth its size.
const ENOUGH_GROUPS: usize = 128;

/// Kernels of a kind by name.
pub(super) type Named<K> = [(&'static str, K)];

/// Of kernels by their size, the largest first, those of whose rows at most half would be empty, and the smallest; first the largest
/// that makes enough workgroups.
pub(super) fn by_size<K: Copy>(
    all: &Named<K>,
    rows: usize,
    rows_of: fn(K) -> usize,
    is_enough: impl Fn(K) -> bool,
) -> Vec<(&'static str, K)> {
    let smallest = all.len() - 1;
    let fitting = all.iter().enumerate().filter(|&(i, &(_, kernel))| i == smallest || rows > rows_of(kernel) / 2);
    let mut kernels: Vec<_> = fitting.map(|(_, &kernel)| kernel).collect();
    let best = kernels.iter().position(|&(_, kernel)| is_enough(kernel)).unwrap_or(kernels.len() - 1);
    kernels[..=best].rotate_right(1);
    kernels
}

/// The kernels that fit, the one to take unmeasured first; a workgroup of [`Kernel::Sequence`] needs `row_bytes` for a row.
fn kernels(
    capabilities: &Capabilities,
    (rows, units): (usize, usize),
    row_bytes: usize,
    block: Kernel,
    (splits, tiles): (&Named<Split>, &Named<Tile>),
) -> Vec<(&'static str, Kernel)> {
    let larger = |most: usize| rows > most / 2;
    let splits = by_size(splits, rows, Split::rows, |split| split.groups(rows, units) >= SPLIT_GROUPS);
    let splits: Vec<_> = splits.into_iter().map(|(name, split)| (name, Kernel::Split(split))).collect();
    let tiles = by_size(tiles, rows, Tile::rows, |tile| tile.groups(rows, units) >= ENOUGH_GROUPS);
    let tiles: Vec<_> = tiles.into_iter().map(|(name, tile)| (name, Kernel::Tiled(tile))).collect();
    let of_kind = |kind| match kind {
        LstmKernels::Block => vec![("block", block)],
        LstmKernels::Tiled => tiles.clone(),
        LstmKernels::Split => splits.clone(),
    };
    let mut kernels = order::lstm_steps(Family::of(capabilities)).map(of_kind).concat();
    kernels.push(("naive", Kernel::Naive));
    let memory = capabilities.max_compute_workgroup_storage_size as usize;
    let fits = |most: usize| most * row_bytes <= memory && (most == SEQUENCES[0].1 || larger(most));
    let fitting = SEQUENCES.into_iter().filter(|&(_, most)| fits(most));
    kernels.extend(fitting.map(|(name, most)| (name, Kernel::Sequence { quads: most / 4 })));
    kernels
}

impl Kernel {
    /// Workgroups of one step.
    fn groups(self, rows: usize, units: usize) -> usize {
        match self {
            Kernel::Naive => rows * units.div_ceil(INVOCATIONS),
            Kernel::Block { rows: r, units: u } => rows.div_ceil(r) * units.div_ceil(INVOCATIONS * u),
            Kernel::Tiled(tile) => tile.groups(rows, units),
            Kernel::Split(split) => split.groups(rows, units),
            Kernel::Sequence { quads } => rows.div_ceil(4 * quads),
        }
    }

    /// Cuts the sequence into parts, one a dispatch. Where a binding holds the gates of two steps, and a step of all rows ends
    /// in time for a watchdog, a part is all rows of one or more steps; else it is some rows of one step.
    fn parts(self, recorder: &Recorder<'_>, (steps, rows, units): (usize, usize, usize)) -> Vec<Part> {
        let bound = recorder.rows_per_binding(&[rows * 4 * units]);
        let in_time = recorder.parts_in_time(steps, self.groups(rows, units));
        // What is bound of this step and of the next must be so far apart, in halves of the rows.
        let apart = 2 * rows * units >= Format::F16.alignment() as usize;
        if bound == 1 || (in_time == 0 && apart) {
            let in_time = recorder.parts_in_time(steps * rows, usize::MAX);
            let most = recorder.rows_per_binding(&[16 * units]).min(in_time).min(rows / 2).max(1);
            let cut = |t| chunks(rows, most).map(move |(row, rows)| Part { t, steps: 1, row, rows });
            return (0..steps).flat_map(cut).collect();
        }
        let most = match self {
            Kernel::Naive | Kernel::Block { .. } | Kernel::Tiled(_) | Kernel::Split(_) => 1,
            Kernel::Sequence { .. } => (bound - 1).min(in_time).max(1),
        };
        chunks(steps, most).map(|(t, steps)| Part { t, steps, row: 0, rows }).collect()
    }

    /// The entry point of this kind, of those for [`Kernel`]'s five. `starts` are where its operands begin in what is bound, and
    /// `terms` is the length of its sums.
    fn shader(
        self,
        (units, terms): (usize, usize),
        (weights, stored): (Format, Format),
        starts: &[usize],
        [naive, block, tiled, split, sequence]: [&'static str; 5],
    ) -> Shader {
        let mut shader = match self {
            Kernel::Naive => shader!("lstm", naive, []),
            Kernel::Block { .. } => shader!("lstm", block, []),
            Kernel::Tiled(Tile { x, y, quads, depth, pad, .. }) => {
                shader!("lstm", tiled, [("X", x), ("Y", y), ("QUADS", quads), ("DEPTH", depth), ("PAD", pad)])
            }
            Kernel::Split(of) => {
                let vector = of.is_even(terms) && starts.iter().all(|start| start.is_multiple_of(4));
                of.shader(split, vector)
            }
            Kernel::Sequence { quads } => {
                let invocations = units.next_multiple_of(64).min(256);
                shader!("lstm", sequence, [("H", units), ("INVOCATIONS", invocations), ("QUADS", quads)])
            }
        };
        shader.types = vec![("W", weights), ("S", stored)];
        if matches!(self, Kernel::Split(_)) {
            shader.types.push(("Ahead", half_if_all([weights, stored])));
        }
        shader
    }
}

/// What a label says of formats other than f32.
pub(super) fn formats_label(weights: Format, stored: Format) -> String {
    let label = |format, what| if format == Format::F16 { format!(" f16 {what}") } else { String::new() };
    label(weights, "weights") + &label(stored, "stored")
}

/// The kernel of this name among those that fit.
pub(super) fn named<K>(kernels: Vec<(&'static str, K)>, op: &dyn Op, variant: &str) -> Result<K> {
    let found = kernels.into_iter().find(|(name, _)| *name == variant);
    found.map(|(_, kernel)| kernel).ok_or_else(|| unknown_variant(op, variant))
}

/// How many of `steps` steps, which take `all` FLOPs, make an excerpt of `flops`; at least two, so that one follows another.
pub(super) fn excerpt(steps: usize, all: u64, flops: u64) -> Option<usize> {
    let part = (flops / (all / steps.max(1) as u64).max(1)).max(2);
    usize::try_from(part).ok().filter(|&part| part < steps)
}

impl Lstm {
    /// A workgroup of a sequence holds h of its rows. A block of 12 x 2 runs at 1.4 times the speed of 16 x 1 on Mesa's
    /// software driver, and at 2.4 times that of a block of 8 x 4, which spills.
    fn kernels(&self, capabilities: &Capabilities) -> Vec<(&'static str, Kernel)> {
        let block = Kernel::Block { rows: 12, units: 2 };
        let row_bytes = self.stored.bytes() as usize * self.units;
        kernels(capabilities, (self.rows, self.units), row_bytes, block, (&FORWARD_SPLITS, &FORWARD_TILES))
    }

    /// The activated gates in the backward pass. Where the graph has dropped them, it has their input products made again,
    /// to which all steps' recurrent products are added here at once, since `h [T, rows, H]`, that before each step, is
    /// known.
    fn kept_or_made_again(&self, tape: &mut dyn Tape, recurrent: View, gates: View, h: View) -> View {
        let again = tape.recomputed(gates);
        if again != gates {
            let (rows, units) = (self.steps * self.rows, self.units);
            let product = Gemm { accumulate: true, ..Gemm::new(Layout::NN, rows, 4 * units, units) };
            let product = product.of([self.stored, self.weights, self.stored]);
            tape.push(Box::new(product), &[h, recurrent, again]);
            tape.push(Box::new(LstmGates { rows, units, stored: self.stored }), &[again]);
        }
        again
    }
}

impl LstmGrad {
    /// A workgroup of a sequence holds the gradients of its rows' gates. A block of 8 x 4 runs at 1.5 times the speed of
    /// 12 x 2 on Mesa's software driver.
    fn kernels(&self, capabilities: &Capabilities) -> Vec<(&'static str, Kernel)> {
        let block = Kernel::Block { rows: 8, units: 4 };
        let row_bytes = 4 * self.stored.bytes() as usize * self.units;
        kernels(capabilities, (self.rows, self.units), row_bytes, block, (&BACKWARD_SPLITS, &BACKWARD_TILES))
    }
}

impl Op for Lstm {
    fn name(&self) -> &'static str {
        "lstm"
    }

    fn kernel(&self) -> &'static str {
        "lstm_fwd"
    }

    fn label(&self) -> String {
        let formats = formats_label(self.weights, self.stored);
        format!("lstm forward T={} rows={} H={}{formats}", self.steps, self.rows, self.units)
    }

    fn args(&self) -> Vec<Arg> {
        let (t, r, h) = (self.steps, self.rows, self.units);
        vec![
            Arg::read("recurrent", h * 4 * h).stored(self.weights),
            Arg::update("gates", t * r * 4 * h).stored(self.stored),
            Arg::write("h", (t + 1) * r * h).stored(self.stored),
            Arg::write("c", (t + 1) * r * h),
        ]
    }

    /// A unit costs 8H for its four products, 5 transcendental functions, 3 for `c` and 1 for `h`.
    fn cost(&self) -> Cost {
        let cells = (self.steps * self.rows * self.units) as u64;
        Cost { flops: cells * (8 * self.units as u64 + 9), bytes: self.operand_bytes() }
    }

    cpu_both!();

    fn variants(&self, capabilities: &Capabilities) -> Vec<&'static str> {
        self.kernels(capabilities).into_iter().map(|(name, _)| name).collect()
    }

    fn record(&self, variant: &str, recorder: &mut Recorder<'_>) -> Result<()> {
        let kernel = named(self.kernels(recorder.capabilities), self, variant)?;
        let (pitch, units) = (self.rows, self.units);
        let entries = ["forward_naive", "forward_block", "forward_tiled", "forward_split", "forward_sequence"];
        for Part { t, steps, row, rows } in kernel.parts(recorder, (self.steps, pitch, units)) {
            let state = ((t * pitch + row) * units, (steps * pitch + rows) * units);
            let starts = [(0, 0), (1, 4 * state.0), (2, state.0), (3, state.0)];
            let starts = starts.map(|(arg, start)| recorder.offset(arg, start));
            recorder
                .dispatch(
                    kernel.shader((units, units), (self.weights, self.stored), &starts, entries),
                    recorder.share(steps * rows, self.steps * pitch),
                )
                .read_all(0)
                .write(1, (t * pitch + row) * 4 * units, steps * rows * 4 * units)
                .write(2, state.0, state.1)
                .write(3, state.0, state.1)
                .word(steps)
                .word(rows)
                .word(pitch)
                .word(units)
                .groups(kernel.groups(rows, units));
        }
        Ok(())
    }

    fn excerpt(&self, flops: u64) -> Option<Box<dyn Op>> {
        let steps = excerpt(self.steps, self.cost().flops, flops)?;
        Some(Box::new(Self { steps, ..self.clone() }))
    }

    fn gradient(&self, tape: &mut dyn Tape, operands: &[View]) {
        let [recurrent, before, h, c] = *operands else { return };
        let (steps, rows, units) = (self.steps, self.rows, self.units);
        let all = steps * rows * units;
        let Some(dh) = tape.grad(h.slice(rows * units, all)) else { return };
        let gates = self.kept_or_made_again(tape, recurrent, before, h.slice(0, all));
        let dc = tape.temp("dc", rows * units, Format::F32);
        let Self { weights, stored, .. } = *self;
        let grad = LstmGrad { steps, rows, units, weights, stored };
        tape.push(Box::new(grad), &[recurrent, dh, c, gates, dc]);
        tape.set_grad(before, gates);
        let product = Gemm::new(Layout::TN, units, 4 * units, steps * rows);
        let product = product.of([stored, stored, tape.grad_format(recurrent)]);
        tape.contribute(recurrent, Box::new(product), &[h.slice(0, all), gates]);
    }
}

impl Op for LstmGrad {
    fn name(&self) -> &'static str {
        "lstm"
    }

    fn kernel(&self) -> &'static str {
        "lstm_bwd"
    }

    fn label(&self) -> String {
        let formats = formats_label(self.weights, self.stored);
        format!("lstm backward T={} rows={} H={}{formats}", self.steps, self.rows, self.units)
    }

    fn args(&self) -> Vec<Arg> {
        let (t, r, h) = (self.steps, self.rows, self.units);
        // The last step has none after it whose gradients would come back through the matrix.
        let read = if t > 1 { h * 4 * h } else { 0 };
        vec![
            Arg::read("recurrent", h * 4 * h).stored(self.weights).moving(read),
            Arg::read("dh", t * r * h).stored(self.stored),
            Arg::read("c", (t + 1) * r * h),
            Arg::update("gates", t * r * 4 * h).stored(self.stored),
            Arg::write("dc", r * h),
        ]
    }

    /// A unit costs 8H for `dgates R^T` (all steps but the last), and 23 for the derivatives, tanh among them.
    fn cost(&self) -> Cost {
        let (t, r, h) = (self.steps as u64, self.rows as u64, self.units as u64);
        Cost { flops: t.saturating_sub(1) * r * h * 8 * h + t * r * h * 23, bytes: self.operand_bytes() }
    }

    fn excerpt(&self, flops: u64) -> Option<Box<dyn Op>> {
        let steps = excerpt(self.steps, self.cost().flops, flops)?;
        Some(Box::new(Self { steps, ..self.clone() }))
    }

    cpu_both!();

    fn variants(&self, capabilities: &Capabilities) -> Vec<&'static str> {
        self.kernels(capabilities).into_iter().map(|(name, _)| name).collect()
    }

    fn record(&self, variant: &str, recorder: &mut Recorder<'_>) -> Result<()> {
        let kernel = named(self.kernels(recorder.capabilities), self, variant)?;
        let (pitch, units) = (self.rows, self.units);
        let parts = kernel.parts(recorder, (self.steps, pitch, units));
        // Scratch memory for R transposed, for the kernels that read it.
        let matrix = match kernel {
            Kernel::Sequence { .. } => recorder.scratch_as(4 * units * units, self.weights),
            _ => 0,
        };
        if matrix != 0 {
            const SQUARE: usize = 16;
            let cost = Cost { flops: 0, bytes: 2 * self.weights.bytes() * (4 * units * units) as u64 };
            recorder
                .dispatch(shader!("lstm", "transpose_recurrent", [], [("W", self.weights)]), cost)
                .read_all(0)
                .write(matrix, 0, 4 * units * units)
                .word(units)
                .groups(units.div_ceil(SQUARE) * (4 * units).div_ceil(SQUARE));
        }
        for Part { t, steps, row, rows } in parts.into_iter().rev() {
            let at = |step: usize| (step * pitch + row) * units;
            let has_later = t + steps < self.steps;
            let apart = has_later && rows < pitch;
            let follow = usize::from(has_later && !apart);
            let entries = ["backward_naive", "backward_block", "backward_tiled", "backward_split", "backward_sequence"];
            let starts = [(0, 0), (1, at(t)), (2, at(t)), (3, 4 * at(t)), (3, 4 * at(t + 1)), (4, row * units)];
            let starts = starts.map(|(arg, start)| recorder.offset(arg, start));
            let mut shader = kernel.shader((units, 4 * units), (self.weights, self.stored), &starts, entries);
            shader.consts.push(("APART", apart.into()));
            let building = recorder
                .dispatch(shader, recorder.share(steps * rows, self.steps * pitch))
                .read(matrix, 0, 4 * units * units)
                .read(1, at(t), steps * rows * units)
                .read(2, at(t), (steps * pitch + rows) * units);
            // Where the shader does not read `later`, something must be bound all the same, which holds a vector.
            let any = (self.steps * pitch * units).min(4);
            let building =
                if apart { building.read(3, 4 * at(t + 1), rows * 4 * units) } else { building.read(1, 0, any) };
            building
                .write(3, 4 * at(t), (steps + follow) * rows * 4 * units)
                .write(4, row * units, rows * units)
                .word(steps)
                .word(rows)
                .word(pitch)
                .word(units)
                .word(has_later.into())
                .groups(kernel.groups(rows, units));
        }
        Ok(())
    }
}

impl Op for LstmGates {
    fn name(&self) -> &'static str {
        "lstm"
    }

    fn kernel(&self) -> &'static str {
        "lstm_gates"
    }

    fn label(&self) -> String {
        format!("lstm gates rows={} H={}{}", self.rows, self.units, half_label(self.stored))
    }

    fn args(&self) -> Vec<Arg> {
        vec![Arg::update("gates", self.rows * 4 * self.units).stored(self.stored)]
    }

    fn cost(&self) -> Cost {
        Cost { flops: (self.rows * 4 * self.units) as u64, bytes: self.operand_bytes() }
    }

    cpu_both!();

    fn variants(&self, _: &Capabilities) -> Vec<&'static str> {
        vec!["portable"]
    }

    fn record(&self, _: &str, recorder: &mut Recorder<'_>) -> Result<()> {
        let units = self.units;
        for (row, rows) in recorder.row_chunks(self.rows, &[4 * units]) {
            recorder
                .dispatch(shader!("lstm", "activate", [], [("S", self.stored)]), recorder.share(rows, self.rows))
                .write(0, row * 4 * units, rows * 4 * units)
                .word(rows)
                .word(units)
                .groups((rows * units).div_ceil(INVOCATIONS));
        }
        Ok(())
    }
}
