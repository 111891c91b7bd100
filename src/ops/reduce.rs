//! Sums over rows in a fixed order, their gradient, and the squared norm of a vector.

use rayon::prelude::*;
use serde::Serialize;

use super::recorder::shader;
use super::vectorized::{dot, vectorized};
use super::{Arg, Args, Cost, Op, Real, Recorder, RowGroups, Tape, Uniforms, View, cpu_both, half_label};
use crate::Result;
use crate::gpu::{Capabilities, Format};

/// Rows that one partial sum of the CPU backend covers: fixed, so that the order does not depend on the number of threads.
const BLOCK: usize = 1024;

/// `y[s, :] = sum of x[r, :] over the rows r of sequence s`: bias gradients and loss totals.
///
/// Operands: `x [rows, cols]`, `y [sequences, cols]`.
///
/// # Examples
///
/// ```
/// # fn main() -> deepj::Result<()> {
/// use deepj::ops::RowGroups;
/// use deepj::prelude::*;
///
/// let mut graph = Graph::without_params();
/// let (x, y) = (graph.tensor("x", 6, Kind::Input), graph.tensor("y", 2, Kind::Output));
/// graph.apply(SumRows::new(3, 2, RowGroups { inner: 1, sequences: 1 }), &[x, y]);
/// let mut session = Session::new(Device::Cpu { why: String::new() }, KernelSelection::default());
/// let program = session.add_all_blocking(vec![Plan::compile("sums", graph)])?[0];
/// session.write(program, x, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?;
/// session.run(program, 1, &Uniforms::default())?;
/// assert_eq!(session.read_blocking(program, &[y])?, [[9.0, 12.0]]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SumRows {
    /// Rows of `x`.
    pub rows: usize,
    /// Columns of both.
    pub cols: usize,
    /// Which row of `y` each row of `x` goes to.
    pub groups: RowGroups,
    /// Adds to `y` instead of overwriting it.
    pub accumulate: bool,
    /// Format of `x`.
    pub stored: Format,
}

impl SumRows {
    /// The sum that overwrites its result.
    pub fn new(rows: usize, cols: usize, groups: RowGroups) -> Self {
        Self { rows, cols, groups, accumulate: false, stored: Format::F32 }
    }

    /// The same of an `x` in this format.
    pub fn of(self, stored: Format) -> Self {
        Self { stored, ..self }
    }

    /// The sum over all rows.
    pub fn all(rows: usize, cols: usize) -> Self {
        Self::new(rows, cols, RowGroups { inner: 1, sequences: 1 })
    }

    fn run_on_cpu<R: Real>(&self, _: &Uniforms, args: Args<'_, R>) {
        let ([x], [y]) = args.take();
        let cols = self.cols;
        let partials: Vec<Vec<R>> = x
            .par_chunks(BLOCK * cols)
            .enumerate()
            .map(|(block, x)| {
                let mut sums = vec![R::ZERO; self.groups.sequences * cols];
                vectorized(
                    #[inline(always)]
                    || {
                        for (i, row) in x.chunks_exact(cols).enumerate() {
                            let s = self.groups.of(block * BLOCK + i);
                            for (sum, &x) in sums[s * cols..(s + 1) * cols].iter_mut().zip(row) {
                                *sum += x;
                            }
                        }
                    },
                );
                sums
            })
            .collect();
        if !self.accumulate {
            y.fill(R::ZERO);
        }
        for sums in partials {
            for (y, sum) in y.iter_mut().zip(sums) {
                *y += sum;
            }
        }
    }
}

impl Op for SumRows {
    fn name(&self) -> &'static str {
        "reduce"
    }

    fn label(&self) -> String {
        let add = if self.accumulate { " accumulate" } else { "" };
        let half = half_label(self.stored);
        format!("reduce sum_rows {}x{} to {}{add}{half}", self.rows, self.cols, self.groups.sequences)
    }

    fn args(&self) -> Vec<Arg> {
        let x = Arg::read("x", self.rows * self.cols).stored(self.stored);
        let sums = if self.accumulate { Arg::update } else { Arg::write };
        vec![x, sums("y", self.groups.sequences * self.cols)]
    }

    fn cost(&self) -> Cost {
        Cost { flops: (self.rows * self.cols) as u64, bytes: self.operand_bytes() }
    }

    cpu_both!();

    fn variants(&self, _: &Capabilities) -> Vec<&'static str> {
        vec!["portable"]
    }

    fn record(&self, _: &str, recorder: &mut Recorder<'_>) -> Result<()> {
        let (cols, groups) = (self.cols, self.groups);
        // Narrow blocks of columns give more workgroups; below 16 columns, 64 bytes, memory is read in parts of its lines.
        let block = cols.next_power_of_two().min(16);
        let blocks = groups.sequences * cols.div_ceil(block);
        for (row, rows) in recorder.sum_chunks(self.rows, &[cols], blocks) {
            let add = self.accumulate || row > 0;
            let shader = shader!("reduce", "sum_rows", [("COLS", block), ("ACCUMULATE", add)], [("S", self.stored)]);
            let dispatch = recorder.dispatch(shader, recorder.share(rows, self.rows));
            let bound = dispatch.read(0, row * cols, rows * cols).write_all(1);
            let words = bound.word(row).word(rows).word(cols).word(groups.inner).word(groups.sequences);
            words.groups(blocks);
        }
        Ok(())
    }

    fn gradient(&self, tape: &mut dyn Tape, operands: &[View]) {
        let Some(dy) = tape.grad(operands[1]) else { return };
        let op = BroadcastRows { rows: self.rows, cols: self.cols, groups: self.groups };
        tape.contribute(operands[0], Box::new(op), &[dy]);
    }

    fn accumulating(&self) -> Option<Box<dyn Op>> {
        Some(Box::new(Self { accumulate: true, ..self.clone() }))
    }
}

/// `x[r, :] = y[sequence of r, :]`, the gradient of [`SumRows`]. Operands: `y [sequences, cols]`, `x [rows, cols]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BroadcastRows {
    /// Rows of `x`.
    pub rows: usize,
    /// Columns of both.
    pub cols: usize,
    /// Which row of `y` each row of `x` takes.
    pub groups: RowGroups,
}

impl BroadcastRows {
    fn run_on_cpu<R: Real>(&self, _: &Uniforms, args: Args<'_, R>) {
        let ([y], [x]) = args.take();
        for (r, row) in x.chunks_exact_mut(self.cols).enumerate() {
            let s = self.groups.of(r);
            row.copy_from_slice(&y[s * self.cols..(s + 1) * self.cols]);
        }
    }
}

impl Op for BroadcastRows {
    fn name(&self) -> &'static str {
        "reduce"
    }

    fn label(&self) -> String {
        format!("reduce broadcast_rows {}x{} from {}", self.rows, self.cols, self.groups.sequences)
    }

    fn args(&self) -> Vec<Arg> {
        let read = self.groups.among(self.rows) * self.cols;
        vec![Arg::read("y", self.groups.sequences * self.cols).moving(read), Arg::write("x", self.rows * self.cols)]
    }

    fn cost(&self) -> Cost {
        Cost { flops: 0, bytes: self.operand_bytes() }
    }

    cpu_both!();

    fn variants(&self, _: &Capabilities) -> Vec<&'static str> {
        vec!["portable"]
    }

    fn record(&self, _: &str, recorder: &mut Recorder<'_>) -> Result<()> {
        let (cols, groups) = (self.cols, self.groups);
        for (row, rows) in recorder.row_chunks(self.rows, &[cols]) {
            let cost = recorder.share(rows, self.rows);
            let dispatch = recorder.dispatch(shader!("reduce", "broadcast_rows", []), cost);
            let bound = dispatch.read_all(0).write(1, row * cols, rows * cols);
            let words = bound.word(row).word(rows).word(cols).word(groups.inner).word(groups.sequences);
            words.groups((rows * cols).div_ceil(256));
        }
        Ok(())
    }

    fn gradient(&self, tape: &mut dyn Tape, operands: &[View]) {
        let Some(dx) = tape.grad(operands[1]) else { return };
        tape.contribute(operands[0], Box::new(SumRows::new(self.rows, self.cols, self.groups)), &[dx]);
    }
}

/// Partial sums of squares: `partials[i] = sum of x[j]^2 for j in [1024 i, 1024 (i + 1))`.
///
/// With [`SumRows`] over the partials this is the squared global gradient norm. Operands: `x [len]`,
/// `partials [ceil(len / 1024)]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SquaredNorm {
    /// Elements.
    pub len: usize,
}

impl SquaredNorm {
    /// Number of partial sums.
    pub fn partials(&self) -> usize {
        self.len.div_ceil(BLOCK)
    }

    fn run_on_cpu<R: Real>(&self, _: &Uniforms, args: Args<'_, R>) {
        let ([x], [partials]) = args.take();
        partials.par_iter_mut().zip(x.par_chunks(BLOCK)).with_min_len(64).for_each(|(sum, x)| {
            *sum = vectorized(
                #[inline(always)]
                || dot(x, x),
            );
        });
    }
}

impl Op for SquaredNorm {
    fn name(&self) -> &'static str {
        "reduce"
    }

    fn label(&self) -> String {
        format!("reduce squared_norm {}", self.len)
    }

    fn args(&self) -> Vec<Arg> {
        vec![Arg::read("x", self.len), Arg::write("partials", self.partials())]
    }

    fn cost(&self) -> Cost {
        Cost { flops: 2 * self.len as u64, bytes: self.operand_bytes() }
    }

    cpu_both!();

    fn variants(&self, _: &Capabilities) -> Vec<&'static str> {
        vec!["portable"]
    }

    fn record(&self, _: &str, recorder: &mut Recorder<'_>) -> Result<()> {
        for (part, parts) in recorder.row_chunks(self.partials(), &[BLOCK]) {
            let (start, len) = (part * BLOCK, (parts * BLOCK).min(self.len - part * BLOCK));
            let cost = recorder.share(parts, self.partials());
            let dispatch = recorder.dispatch(shader!("reduce", "squared_norm", [("BLOCK", BLOCK)]), cost);
            dispatch.read(0, start, len).write(1, part, parts).word(len).groups(parts);
        }
        Ok(())
    }
}
