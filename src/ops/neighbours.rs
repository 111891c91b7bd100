//! The raw neighbourhood of each note: what the octave convolution sees, as it is (docs/MODEL.md, "Switches").

use rayon::prelude::*;
use serde::Serialize;

use super::recorder::shader;
use super::{Arg, Args, Cost, Op, Real, Recorder, Uniforms, cpu_both};
use crate::error::Result;
use crate::gpu::Capabilities;

/// `y[r, n, k, :] = x[r, n + k - K / 2, :]`, zero beyond the range of notes.
///
/// Operands: `x [rows, N, C]`, `y [rows, N, K, C]`. There is no gradient: `x` is the model's input.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Neighbours {
    /// T * B.
    pub rows: usize,
    /// N.
    pub notes: usize,
    /// C, values of a cell.
    pub channels: usize,
    /// K, notes of the neighbourhood, odd.
    pub taps: usize,
}

impl Neighbours {
    /// Columns of the result.
    pub fn width(&self) -> usize {
        self.taps * self.channels
    }

    fn run_on_cpu<R: Real>(&self, _: &Uniforms, args: Args<'_, R>) {
        let ([x], [y]) = args.take();
        let (width, below) = (self.width(), self.taps / 2);
        y.par_chunks_mut(width).enumerate().for_each(|(cell, y)| {
            let (row, n) = (cell / self.notes, cell % self.notes);
            for (k, y) in y.chunks_exact_mut(self.channels).enumerate() {
                match (n + k).checked_sub(below).filter(|m| *m < self.notes) {
                    Some(m) => y.copy_from_slice(&x[(row * self.notes + m) * self.channels..][..self.channels]),
                    None => y.fill(R::ZERO),
                }
            }
        });
    }
}

impl Op for Neighbours {
    fn name(&self) -> &'static str {
        "neighbours"
    }

    fn label(&self) -> String {
        format!("neighbours rows={} N={} C={} K={}", self.rows, self.notes, self.channels, self.taps)
    }

    fn args(&self) -> Vec<Arg> {
        let cells = self.rows * self.notes;
        vec![Arg::read("x", cells * self.channels), Arg::write("y", cells * self.width())]
    }

    /// Copies alone.
    fn cost(&self) -> Cost {
        Cost { flops: 0, bytes: self.operand_bytes() }
    }

    cpu_both!();

    fn variants(&self, _: &Capabilities) -> Vec<&'static str> {
        vec!["portable"]
    }

    fn record(&self, _: &str, recorder: &mut Recorder<'_>) -> Result<()> {
        let [x, y] = [self.channels, self.width()].map(|width| self.notes * width);
        for (first, count) in recorder.row_chunks(self.rows, &[x, y]) {
            recorder
                .dispatch(shader!("neighbours", "main", []), recorder.share(count, self.rows))
                .read(0, first * x, count * x)
                .write(1, first * y, count * y)
                .words(&[count * y, self.notes, self.channels, self.taps])
                .groups((count * y).div_ceil(256));
        }
        Ok(())
    }
}
