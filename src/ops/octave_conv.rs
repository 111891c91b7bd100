//! Octave convolution: a 1-D convolution over pitch that gives each note features of the octave around it (paper,
//! section III-C).

use rayon::prelude::*;
use serde::Serialize;

use super::order::{self, Family};
use super::recorder::{Building, shader};
use super::reduce::SumRows;
use super::tanh_grad::TanhGrad;
use super::vectorized::vectorized;
use super::{Arg, Args, Cost, Op, Real, Recorder, Tape, Uniforms, View, cpu_both, unknown_variant};
use crate::error::Result;
use crate::gpu::{Capabilities, Format};

/// The sizes that the convolution and its gradients share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// Independent pitch axes: T * B.
    pub rows: usize,
    /// N, notes of the pitch axis.
    pub notes: usize,
    /// Input channels: 3 (play, replay, dynamics).
    pub channels: usize,
    /// Taps, odd: 25 for an octave below to an octave above.
    pub taps: usize,
    /// Output features.
    pub filters: usize,
}

impl Shape {
    fn x(&self) -> usize {
        self.rows * self.notes * self.channels
    }
    fn w(&self) -> usize {
        self.taps * self.channels * self.filters
    }
    /// Elements of `w` whose tap falls inside the pitch axis for some note.
    fn reaching(&self) -> usize {
        self.taps.min(2 * self.notes - 1) * self.channels * self.filters
    }
    fn y(&self) -> usize {
        self.rows * self.notes * self.filters
    }
    /// Taps that fall inside the pitch axis, summed over all notes: outside it the input is zero and costs nothing.
    fn inner_taps(&self) -> usize {
        let half = self.taps / 2;
        (0..self.notes).map(|n| (n + half + 1).min(self.notes) - n.saturating_sub(half)).sum()
    }
    fn products(&self) -> u64 {
        2 * (self.rows * self.inner_taps() * self.channels * self.filters) as u64
    }
    /// For every input note `m` and tap `k` inside the axis: the output note that it reaches.
    fn reached(&self, m: usize) -> impl Iterator<Item = (usize, usize)> {
        let (half, notes) = (self.taps / 2, self.notes);
        (0..self.taps).filter_map(move |k| (m + half).checked_sub(k).filter(|&n| n < notes).map(|n| (k, n)))
    }
    /// Cuts the rows into blocks of which one dispatch can do each: first row and number of rows.
    fn blocks(&self, recorder: &Recorder<'_>) -> impl Iterator<Item = (usize, usize)> + use<> {
        recorder.row_chunks(self.rows, &[self.notes * self.channels, self.notes * self.filters])
    }
    /// The words that the shaders start with after the offsets.
    fn words<'r, 'a>(&self, rows: usize, building: Building<'r, 'a>) -> Building<'r, 'a> {
        building.word(rows).word(self.notes).word(self.channels).word(self.taps).word(self.filters)
    }
    fn label(&self, what: &str) -> String {
        format!(
            "octave_conv {what} {}x{} {}->{} taps {}",
            self.rows, self.notes, self.channels, self.filters, self.taps
        )
    }
}

/// `y[r, n, :] = tanh(bias + sum over taps k of x[r, n + k - taps/2, :] w[k])`, zero outside the pitch axis.
///
/// Operands: `x [rows, N, channels]`, `w [taps, channels, filters]`, `bias [filters]`, `y [rows, N, filters]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OctaveConv(pub Shape);

/// `dw[k, c, :] = sum over rows and notes of x[r, n + k - taps/2, c] dz[r, n, :]`.
///
/// Operands: `x`, `dz [rows, N, filters]`, `dw [taps, channels, filters]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OctaveConvWeightGrad(pub Shape);

/// `dx[r, m, c] = sum over taps k of dz[r, m - k + taps/2, :] w[k, c, :]`. Operands: `w`, `dz`, `dx [rows, N, channels]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OctaveConvInputGrad(pub Shape);

/// Neighbouring notes of an invocation, and of the weight gradient neighbouring taps of a workgroup: the constants of
/// these names in the shader.
const NOTES: usize = 8;
const TAPS: usize = 5;

/// Rows that one partial sum of the CPU backend covers: fixed, so that the order does not depend on the number of threads.
const BLOCK: usize = 64;

impl OctaveConv {
    /// Inputs are mostly silent notes, so the CPU backend scatters each sounding value instead of gathering all taps.
    fn run_on_cpu<R: Real>(&self, _: &Uniforms, args: Args<'_, R>) {
        let ([x, w, bias], [y]) = args.take();
        let s = &self.0;
        let per_row = s.notes * s.filters;
        y.par_chunks_mut(per_row).zip(x.par_chunks(s.notes * s.channels)).for_each(|(y, x)| {
            vectorized(
                #[inline(always)]
                || {
                    y.chunks_exact_mut(s.filters).for_each(|y| y.copy_from_slice(bias));
                    for (i, &x) in x.iter().enumerate().filter(|(_, x)| **x != R::ZERO) {
                        let (m, c) = (i / s.channels, i % s.channels);
                        for (k, n) in s.reached(m) {
                            let w = &w[(k * s.channels + c) * s.filters..][..s.filters];
                            y[n * s.filters..][..s.filters].iter_mut().zip(w).for_each(|(y, &w)| *y += x * w);
                        }
                    }
                    y.iter_mut().for_each(|y| *y = y.tanh());
                },
            )
        });
    }
}

impl OctaveConvWeightGrad {
    fn run_on_cpu<R: Real>(&self, _: &Uniforms, args: Args<'_, R>) {
        let ([x, dz], [dw]) = args.take();
        let s = &self.0;
        let (x_row, z_row) = (s.notes * s.channels, s.notes * s.filters);
        let partials: Vec<Vec<R>> = x
            .par_chunks(BLOCK * x_row)
            .zip(dz.par_chunks(BLOCK * z_row))
            .map(|(x, dz)| {
                let mut sums = vec![R::ZERO; s.w()];
                vectorized(
                    #[inline(always)]
                    || {
                        for (x, dz) in x.chunks_exact(x_row).zip(dz.chunks_exact(z_row)) {
                            for (i, &x) in x.iter().enumerate().filter(|(_, x)| **x != R::ZERO) {
                                let (m, c) = (i / s.channels, i % s.channels);
                                for (k, n) in s.reached(m) {
                                    let dz = &dz[n * s.filters..][..s.filters];
                                    let sums = &mut sums[(k * s.channels + c) * s.filters..][..s.filters];
                                    sums.iter_mut().zip(dz).for_each(|(sum, &dz)| *sum += x * dz);
                                }
                            }
                        }
                    },
                );
                sums
            })
            .collect();
        dw.fill(R::ZERO);
        for sums in partials {
            dw.iter_mut().zip(sums).for_each(|(dw, sum)| *dw += sum);
        }
    }
}

impl OctaveConvInputGrad {
    fn run_on_cpu<R: Real>(&self, _: &Uniforms, args: Args<'_, R>) {
        let ([w, dz], [dx]) = args.take();
        let s = &self.0;
        dx.par_chunks_mut(s.notes * s.channels).zip(dz.par_chunks(s.notes * s.filters)).for_each(|(dx, dz)| {
            for (i, dx) in dx.iter_mut().enumerate() {
                let (m, c) = (i / s.channels, i % s.channels);
                *dx = s
                    .reached(m)
                    .map(|(k, n)| {
                        let w = &w[(k * s.channels + c) * s.filters..][..s.filters];
                        let dz = &dz[n * s.filters..][..s.filters];
                        w.iter().zip(dz).map(|(&w, &dz)| w * dz).sum::<R>()
                    })
                    .sum();
            }
        });
    }
}

impl Op for OctaveConv {
    fn name(&self) -> &'static str {
        "octave_conv"
    }

    fn kernel(&self) -> &'static str {
        "octave_conv_fwd"
    }

    fn label(&self) -> String {
        self.0.label("forward")
    }

    fn args(&self) -> Vec<Arg> {
        let s = &self.0;
        vec![
            Arg::read("x", s.x()),
            Arg::read("w", s.w()).moving(s.reaching()),
            Arg::read("bias", s.filters),
            Arg::write("y", s.y()),
        ]
    }

    /// The products' sums start from the bias; a tanh follows.
    fn cost(&self) -> Cost {
        Cost { flops: self.0.products() + self.0.y() as u64, bytes: self.operand_bytes() }
    }

    cpu_both!();

    fn variants(&self, _: &Capabilities) -> Vec<&'static str> {
        vec!["portable"]
    }

    fn record(&self, _: &str, recorder: &mut Recorder<'_>) -> Result<()> {
        let s = &self.0;
        let (x, y) = (s.notes * s.channels, s.notes * s.filters);
        for (first, rows) in s.blocks(recorder) {
            let building = recorder
                .dispatch(shader!("octave_conv", "forward", [("NOTES", NOTES)]), recorder.share(rows, s.rows))
                .read(0, first * x, rows * x)
                .read_all(1)
                .read_all(2)
                .write(3, first * y, rows * y);
            s.words(rows, building).groups(rows * s.notes.div_ceil(NOTES) * s.filters.div_ceil(64));
        }
        Ok(())
    }

    fn gradient(&self, tape: &mut dyn Tape, operands: &[View]) {
        let [x, w, bias, y] = *operands else { return };
        let Some(dy) = tape.grad(y) else { return };
        let dz = tape.temp("dz", y.len, Format::F32);
        tape.push(Box::new(TanhGrad { len: y.len }), &[y, dy, dz]);
        tape.contribute(x, Box::new(OctaveConvInputGrad(self.0)), &[w, dz]);
        tape.contribute(w, Box::new(OctaveConvWeightGrad(self.0)), &[x, dz]);
        tape.contribute(bias, Box::new(SumRows::all(self.0.rows * self.0.notes, self.0.filters)), &[dz]);
    }
}

impl Op for OctaveConvWeightGrad {
    fn name(&self) -> &'static str {
        "octave_conv"
    }

    fn kernel(&self) -> &'static str {
        "octave_conv_weight_grad"
    }

    fn label(&self) -> String {
        self.0.label("weight_grad")
    }

    fn args(&self) -> Vec<Arg> {
        let s = &self.0;
        vec![Arg::read("x", s.x()), Arg::read("dz", s.y()), Arg::write("dw", s.w())]
    }

    fn cost(&self) -> Cost {
        Cost { flops: self.0.products(), bytes: self.operand_bytes() }
    }

    cpu_both!();

    /// By how many filters a workgroup makes.
    fn variants(&self, capabilities: &Capabilities) -> Vec<&'static str> {
        order::octave_weight_grad(Family::of(capabilities))
    }

    /// Where the operands are cut, the parts of the sum are added in order.
    fn record(&self, variant: &str, recorder: &mut Recorder<'_>) -> Result<()> {
        let s = &self.0;
        let (x, dz) = (s.notes * s.channels, s.notes * s.filters);
        let filters: usize = match variant {
            "filters_8" => 8,
            "filters_4" => 4,
            _ => return Err(unknown_variant(self, variant)),
        };
        let groups = s.taps.div_ceil(TAPS) * s.channels * s.filters.div_ceil(filters);
        for (first, rows) in recorder.sum_chunks(s.rows, &[x, dz], groups) {
            let shader =
                shader!("octave_conv", "weight_grad", [("NOTES", NOTES), ("TAPS", TAPS), ("FILTERS", filters)]);
            let building = recorder
                .dispatch(shader, recorder.share(rows, s.rows))
                .read(0, first * x, rows * x)
                .read(1, first * dz, rows * dz)
                .write_all(2);
            s.words(rows, building).word((first > 0).into()).groups(groups);
        }
        Ok(())
    }
}

impl Op for OctaveConvInputGrad {
    fn name(&self) -> &'static str {
        "octave_conv"
    }

    fn kernel(&self) -> &'static str {
        "octave_conv_input_grad"
    }

    fn label(&self) -> String {
        self.0.label("input_grad")
    }

    fn args(&self) -> Vec<Arg> {
        let s = &self.0;
        vec![Arg::read("w", s.w()).moving(s.reaching()), Arg::read("dz", s.y()), Arg::write("dx", s.x())]
    }

    fn cost(&self) -> Cost {
        Cost { flops: self.0.products(), bytes: self.operand_bytes() }
    }

    cpu_both!();

    fn variants(&self, _: &Capabilities) -> Vec<&'static str> {
        vec!["portable"]
    }

    fn record(&self, _: &str, recorder: &mut Recorder<'_>) -> Result<()> {
        let s = &self.0;
        let (dz, dx) = (s.notes * s.filters, s.notes * s.channels);
        for (first, rows) in s.blocks(recorder) {
            let building = recorder
                .dispatch(shader!("octave_conv", "input_grad", []), recorder.share(rows, s.rows))
                .read_all(0)
                .read(1, first * dz, rows * dz)
                .write(2, first * dx, rows * dx);
            s.words(rows, building).groups((rows * dx).div_ceil(64));
        }
        Ok(())
    }
}
