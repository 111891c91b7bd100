//! The three heads and their losses in one pass over the last layer's features: logits stay where they are made (paper,
//! section III-B; spec, sections 2.7 and "Loss").

use rayon::prelude::*;

use super::note_input::CHANNELS;
use super::real::{dot, vectorized};
use super::recorder::{Building, chunks, shader};
use super::reduce::SumRows;
use super::{Arg, Args, Cost, Op, Real, Recorder, Step, Tape, View, half_label, mirror_both, unknown_variant};
use crate::error::Result;
use crate::gpu::{Capabilities, DeviceType, Format};

/// Rows of a part: what a workgroup sums up, of one note. The constant of this name in the shader.
const RUN: usize = 128;

/// The sizes and the mask that the heads and their gradients share.
///
/// Features stand note by note, `[N, rows, H]`. A part is a run of up to 128 rows of one note; parts are numbered note
/// by note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// T * B.
    pub rows: usize,
    /// N.
    pub notes: usize,
    /// H, features of a cell.
    pub units: usize,
    /// Whether replay and dynamics count only where the target plays (the paper's way; off to measure its claim).
    pub masked: bool,
    /// Format of the features and their gradients.
    pub stored: Format,
}

/// Logits `z = x w + bias`, and of each part the sum over its cells of `weight[r] * [BCE(play), mask * BCE(replay), mask *
/// (dynamics - target)^2]`, with the derivative of each of the three by its own logit.
///
/// Play and replay are logits, dynamics is linear. With `weight = 1 / (valid cells)` on valid rows and 0 elsewhere, the
/// sums over parts are means over the valid (t, b, n) cells.
///
/// Operands: `x [N, rows, H]`, `w [H, 3]`, `bias [3]`, `target [rows, N, 3]`, `weight [rows]`, `losses [parts, 3]`,
/// `slopes [N, rows, 3]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Heads(pub Shape);

/// `dx = (slopes * dlosses) w^T`. Operands: `w`, `slopes`, `dlosses [parts, 3]`, `dx [N, rows, H]`.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadsInputGrad(pub Shape);

/// Of each part `dw = x^T (slopes * dlosses)` and `dbias = sum of slopes * dlosses`.
///
/// Operands: `x`, `slopes`, `dlosses [parts, 3]`, `dw [parts, H, 3]`, `dbias [parts, 3]`.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadsWeightGrad(pub Shape);

impl Shape {
    /// Number of parts.
    pub fn parts(&self) -> usize {
        self.notes * self.runs()
    }

    /// Parts of a note.
    fn runs(&self) -> usize {
        self.rows.div_ceil(RUN)
    }

    fn cells(&self) -> usize {
        self.rows * self.notes
    }

    /// The first cell of a part, and its cells.
    fn cells_of(&self, part: usize) -> (usize, usize) {
        let (note, row) = (part / self.runs(), part % self.runs() * RUN);
        (note * self.rows + row, RUN.min(self.rows - row))
    }

    /// `data [N, rows, width]` cut into its parts.
    fn split<'a, R>(&self, mut data: &'a mut [R], width: usize) -> Vec<&'a mut [R]> {
        let part = |part| {
            let (head, tail) = std::mem::take(&mut data).split_at_mut(self.cells_of(part).1 * width);
            data = tail;
            head
        };
        (0..self.parts()).map(part).collect()
    }

    fn label(&self, what: &str) -> String {
        let unmasked = if self.masked { "" } else { " unmasked" };
        let half = half_label(self.stored);
        format!("heads {what} rows={} N={} H={}{unmasked}{half}", self.rows, self.notes, self.units)
    }

    /// The kernels of all three ops. A load that differs by lane is a loop over the lanes on a software adapter, so there
    /// the kernel without workgroup memory, which reads less, comes first.
    fn variants(capabilities: &Capabilities) -> Vec<&'static str> {
        match capabilities.device_type {
            DeviceType::Software => vec!["naive", "workgroup"],
            _ => vec!["workgroup", "naive"],
        }
    }

    /// Cuts the parts into blocks of which one dispatch can do each: some runs of some notes.
    fn blocks(&self, recorder: &Recorder<'_>) -> Vec<Block> {
        let most_runs = recorder.rows_per_binding(&[self.notes * CHANNELS, self.units]) / RUN;
        let most_runs = most_runs.min(recorder.parts_in_time(self.runs(), usize::MAX));
        let most_notes = recorder.rows_per_binding(&[self.rows * self.units]);
        let mut blocks = vec![];
        for (run, runs) in chunks(self.runs(), most_runs.max(1)) {
            let rows = (runs * RUN).min(self.rows - run * RUN);
            for (note, notes) in chunks(self.notes, most_notes) {
                blocks.push(Block { run, runs, rows, note, notes, shape: *self });
            }
        }
        blocks
    }
}

/// What one dispatch makes: the runs from `run` on, `rows` rows, of the notes from `note` on.
struct Block {
    run: usize,
    runs: usize,
    rows: usize,
    note: usize,
    notes: usize,
    shape: Shape,
}

impl Block {
    /// Start and length of what the block spans in an operand `[N, rows, width]`.
    fn cells(&self, width: usize) -> (usize, usize) {
        let start = self.note * self.shape.rows + self.run * RUN;
        let len = (self.notes - 1) * self.shape.rows + self.rows;
        (start * width, len * width)
    }

    fn parts(&self) -> usize {
        self.runs * self.notes
    }

    /// The words that the shaders start with after the offsets.
    fn words<'r, 'a>(&self, building: Building<'r, 'a>) -> Building<'r, 'a> {
        let words = [self.run, self.runs, self.note, self.notes, self.shape.rows];
        words.into_iter().fold(building, Building::word)
    }
}

/// The entry point of a variant.
fn entry(op: &dyn Op, variant: &str, [naive, workgroup]: [&'static str; 2]) -> Result<&'static str> {
    match variant {
        "naive" => Ok(naive),
        "workgroup" => Ok(workgroup),
        _ => Err(unknown_variant(op, variant)),
    }
}

/// `w [H, 3]` head by head.
fn columns<R: Real>(w: &[R]) -> [Vec<R>; CHANNELS] {
    [0, 1, 2].map(|head| w.iter().skip(head).step_by(CHANNELS).copied().collect())
}

impl Heads {
    fn mirror<R: Real>(&self, _: &Step, args: Args<'_, R>) {
        let ([x, w, bias, target, weight], [losses, slopes]) = args.take();
        let s = &self.0;
        let w = columns(w);
        let parts = losses.par_chunks_exact_mut(CHANNELS).zip(s.split(slopes, CHANNELS));
        parts.enumerate().for_each(|(part, (losses, slopes))| {
            let (first, _) = s.cells_of(part);
            vectorized(
                #[inline(always)]
                || {
                    losses.fill(R::ZERO);
                    for (cell, slopes) in (first..).zip(slopes.chunks_exact_mut(CHANNELS)) {
                        let (n, r) = (cell / s.rows, cell % s.rows);
                        let x = &x[cell * s.units..][..s.units];
                        let target = &target[(r * s.notes + n) * CHANNELS..][..CHANNELS];
                        for head in 0..CHANNELS {
                            let z = bias[head] + dot(x, &w[head]);
                            let y = target[head];
                            // BCE from a logit z with target y: ln(1 + e^z) - y z.
                            let (loss, slope) = match head {
                                2 => ((z - y) * (z - y), (z - y) + (z - y)),
                                _ => (z.softplus() - y * z, z.sigmoid() - y),
                            };
                            let scale = if s.masked && head > 0 { weight[r] * target[0] } else { weight[r] };
                            losses[head] += scale * loss;
                            slopes[head] = scale * slope;
                        }
                    }
                },
            );
        });
    }
}

/// `slopes * dlosses` of one cell.
#[inline(always)]
fn scaled<R: Real>(slopes: &[R], dlosses: &[R]) -> [R; CHANNELS] {
    [0, 1, 2].map(|head| slopes[head] * dlosses[head])
}

impl HeadsInputGrad {
    fn mirror<R: Real>(&self, _: &Step, args: Args<'_, R>) {
        let ([w, slopes, dlosses], [dx]) = args.take();
        let s = &self.0;
        let [w0, w1, w2] = columns(w);
        s.split(dx, s.units).into_par_iter().enumerate().for_each(|(part, dx)| {
            let (first, _) = s.cells_of(part);
            let dlosses = &dlosses[part * CHANNELS..][..CHANNELS];
            vectorized(
                #[inline(always)]
                || {
                    for (slopes, dx) in slopes[first * CHANNELS..].chunks(CHANNELS).zip(dx.chunks_exact_mut(s.units)) {
                        let [d0, d1, d2] = scaled(slopes, dlosses);
                        for (((dx, &w0), &w1), &w2) in dx.iter_mut().zip(&w0).zip(&w1).zip(&w2) {
                            *dx = d0 * w0 + d1 * w1 + d2 * w2;
                        }
                    }
                },
            );
        });
    }
}

impl HeadsWeightGrad {
    fn mirror<R: Real>(&self, _: &Step, args: Args<'_, R>) {
        let ([x, slopes, dlosses], [dw, dbias]) = args.take();
        let s = &self.0;
        let parts = dw.par_chunks_exact_mut(s.units * CHANNELS).zip(dbias.par_chunks_exact_mut(CHANNELS));
        parts.enumerate().for_each(|(part, (dw, dbias))| {
            let (first, cells) = s.cells_of(part);
            let dlosses = &dlosses[part * CHANNELS..][..CHANNELS];
            let [mut w0, mut w1, mut w2] = [0; CHANNELS].map(|_| vec![R::ZERO; s.units]);
            dbias.fill(R::ZERO);
            vectorized(
                #[inline(always)]
                || {
                    for cell in first..first + cells {
                        let d = scaled(&slopes[cell * CHANNELS..], dlosses);
                        dbias.iter_mut().zip(d).for_each(|(sum, d)| *sum += d);
                        let sums = w0.iter_mut().zip(&mut w1).zip(&mut w2);
                        for (((w0, w1), w2), &x) in sums.zip(&x[cell * s.units..][..s.units]) {
                            *w0 += d[0] * x;
                            *w1 += d[1] * x;
                            *w2 += d[2] * x;
                        }
                    }
                },
            );
            for (j, dw) in dw.chunks_exact_mut(CHANNELS).enumerate() {
                dw.copy_from_slice(&[w0[j], w1[j], w2[j]]);
            }
        });
    }
}

impl Op for Heads {
    fn name(&self) -> &'static str {
        "heads"
    }

    fn label(&self) -> String {
        self.0.label("forward")
    }

    fn args(&self) -> Vec<Arg> {
        let s = &self.0;
        vec![
            Arg::read("x", s.cells() * s.units).stored(s.stored),
            Arg::read("w", s.units * CHANNELS),
            Arg::read("bias", CHANNELS),
            Arg::read("target", s.cells() * CHANNELS),
            Arg::read("weight", s.rows),
            Arg::write("losses", s.parts() * CHANNELS),
            Arg::write("slopes", s.cells() * CHANNELS),
        ]
    }

    /// A cell costs its products, twice 6 for a cross-entropy (4 of them softplus) and 2 for the slope, 3 for the square and
    /// its slope, 6 for the scales, 3 sums and 1 mask.
    fn cost(&self) -> Cost {
        let cell = 2 * self.0.units * CHANNELS + 28 + usize::from(self.0.masked);
        Cost { flops: (self.0.cells() * cell) as u64, bytes: self.operand_bytes() }
    }

    mirror_both!();

    fn variants(&self, capabilities: &Capabilities) -> Vec<&'static str> {
        Shape::variants(capabilities)
    }

    fn record(&self, variant: &str, recorder: &mut Recorder<'_>) -> Result<()> {
        let s = &self.0;
        let entry = entry(self, variant, ["forward_naive", "forward_workgroup"])?;
        for block in s.blocks(recorder) {
            let (x, slopes) = (block.cells(s.units), block.cells(CHANNELS));
            let (row, per_row) = (block.run * RUN, s.notes * CHANNELS);
            let shader =
                shader!("heads", entry, [("RUN", RUN), ("H", s.units), ("MASKED", s.masked)], [("S", s.stored)]);
            let building = recorder
                .dispatch(shader, recorder.share(block.parts(), s.parts()))
                .read(0, x.0, x.1)
                .read_all(1)
                .read_all(2)
                .read(3, row * per_row, block.rows * per_row)
                .read(4, row, block.rows)
                .write_all(5)
                .write(6, slopes.0, slopes.1);
            block.words(building).word(s.notes).groups(block.parts());
        }
        Ok(())
    }

    fn gradient(&self, tape: &mut dyn Tape, operands: &[View]) {
        let [x, w, bias, _, _, losses, slopes] = *operands else { return };
        let Some(dlosses) = tape.grad(losses) else { return };
        tape.contribute(x, Box::new(HeadsInputGrad(self.0)), &[w, slopes, dlosses]);
        let parts = self.0.parts();
        let (dw, dbias) =
            (tape.temp("dw", parts * w.len, Format::F32), tape.temp("dbias", parts * CHANNELS, Format::F32));
        tape.push(Box::new(HeadsWeightGrad(self.0)), &[x, slopes, dlosses, dw, dbias]);
        tape.contribute(w, Box::new(SumRows::all(parts, w.len)), &[dw]);
        tape.contribute(bias, Box::new(SumRows::all(parts, CHANNELS)), &[dbias]);
    }
}

impl Op for HeadsInputGrad {
    fn name(&self) -> &'static str {
        "heads"
    }

    fn label(&self) -> String {
        self.0.label("input gradient")
    }

    fn args(&self) -> Vec<Arg> {
        let s = &self.0;
        vec![
            Arg::read("w", s.units * CHANNELS),
            Arg::read("slopes", s.cells() * CHANNELS),
            Arg::read("dlosses", s.parts() * CHANNELS),
            Arg::write("dx", s.cells() * s.units).stored(s.stored),
        ]
    }

    /// A cell costs 3 scales and 3 multiply-adds a feature.
    fn cost(&self) -> Cost {
        let cell = CHANNELS + 2 * CHANNELS * self.0.units;
        Cost { flops: (self.0.cells() * cell) as u64, bytes: self.operand_bytes() }
    }

    mirror_both!();

    fn variants(&self, capabilities: &Capabilities) -> Vec<&'static str> {
        Shape::variants(capabilities)
    }

    fn record(&self, variant: &str, recorder: &mut Recorder<'_>) -> Result<()> {
        let s = &self.0;
        let entry = entry(self, variant, ["input_grad_naive", "input_grad_workgroup"])?;
        for block in s.blocks(recorder) {
            let (slopes, dx) = (block.cells(CHANNELS), block.cells(s.units));
            let shader =
                shader!("heads", entry, [("RUN", RUN), ("H", s.units), ("COLS", cols(s.units))], [("S", s.stored)]);
            let building = recorder
                .dispatch(shader, recorder.share(block.parts(), s.parts()))
                .read_all(0)
                .read(1, slopes.0, slopes.1)
                .read_all(2)
                .write(3, dx.0, dx.1);
            block.words(building).groups(block.parts());
        }
        Ok(())
    }
}

impl Op for HeadsWeightGrad {
    fn name(&self) -> &'static str {
        "heads"
    }

    fn label(&self) -> String {
        self.0.label("weight gradient")
    }

    fn args(&self) -> Vec<Arg> {
        let s = &self.0;
        vec![
            Arg::read("x", s.cells() * s.units).stored(s.stored),
            Arg::read("slopes", s.cells() * CHANNELS),
            Arg::read("dlosses", s.parts() * CHANNELS),
            Arg::write("dw", s.parts() * s.units * CHANNELS),
            Arg::write("dbias", s.parts() * CHANNELS),
        ]
    }

    /// A cell costs 3 scales, 3 multiply-adds a feature and 3 sums.
    fn cost(&self) -> Cost {
        let cell = CHANNELS + 2 * CHANNELS * self.0.units + CHANNELS;
        Cost { flops: (self.0.cells() * cell) as u64, bytes: self.operand_bytes() }
    }

    mirror_both!();

    fn variants(&self, capabilities: &Capabilities) -> Vec<&'static str> {
        Shape::variants(capabilities)
    }

    fn record(&self, variant: &str, recorder: &mut Recorder<'_>) -> Result<()> {
        let s = &self.0;
        let entry = entry(self, variant, ["weight_grad_naive", "weight_grad_workgroup"])?;
        for block in s.blocks(recorder) {
            let (x, slopes) = (block.cells(s.units), block.cells(CHANNELS));
            let shader =
                shader!("heads", entry, [("RUN", RUN), ("H", s.units), ("COLS", cols(s.units))], [("S", s.stored)]);
            let building = recorder
                .dispatch(shader, recorder.share(block.parts(), s.parts()))
                .read(0, x.0, x.1)
                .read(1, slopes.0, slopes.1)
                .read_all(2)
                .write_all(3)
                .write_all(4);
            block.words(building).groups(block.parts());
        }
        Ok(())
    }
}

/// Features that the lanes of a workgroup make side by side.
fn cols(units: usize) -> usize {
    units.next_power_of_two().clamp(16, 256)
}
