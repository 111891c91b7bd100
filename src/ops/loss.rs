//! The three losses from logits, masked by what the target plays (paper, section III-B; spec, "Loss").

use super::note_input::{Block, CHANNELS};
use super::recorder::shader;
use super::{Arg, Args, Cost, Op, Real, Recorder, Step, Tape, View, mirror_both};
use crate::error::Result;
use crate::gpu::Capabilities;

/// The sizes and the mask that the loss and its gradient share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// T * B.
    pub rows: usize,
    /// N.
    pub notes: usize,
    /// Whether replay and dynamics count only where the target plays (the paper's way; off to measure its claim).
    pub masked: bool,
}

/// `losses[r] = weight[r] * sum over notes of [BCE(play), mask * BCE(replay), mask * (dynamics - target)^2]`.
///
/// Play and replay are logits, dynamics is linear. With `weight = 1 / (valid cells)` on valid rows and 0 elsewhere, the
/// sums over rows are means over the valid (t, b, n) cells.
///
/// Operands: `logits [N, rows, 3]`, `target [rows, N, 3]`, `weight [rows]`, `losses [rows, 3]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Loss(pub Shape);

/// The gradient of [`Loss`]. Operands: `logits`, `target`, `weight`, `dlosses [rows, 3]`, `dlogits [N, rows, 3]`.
#[derive(Clone, Debug, PartialEq)]
pub struct LossGrad(pub Shape);

impl Shape {
    fn cells(&self) -> usize {
        self.rows * self.notes
    }
    fn blocks(&self, recorder: &Recorder<'_>) -> Vec<Block> {
        Block::all(recorder, (self.rows, self.notes), &[CHANNELS], CHANNELS)
    }
    fn mask<R: Real>(&self, play: R) -> R {
        if self.masked { play } else { R::ONE }
    }
}

impl Loss {
    fn mirror<R: Real>(&self, _: &Step, args: Args<'_, R>) {
        let ([logits, target, weight], [losses]) = args.take();
        let s = &self.0;
        for (r, losses) in losses.chunks_exact_mut(CHANNELS).enumerate() {
            let mut sums = [R::ZERO; CHANNELS];
            for n in 0..s.notes {
                let logit = &logits[(n * s.rows + r) * CHANNELS..][..CHANNELS];
                let target = &target[(r * s.notes + n) * CHANNELS..][..CHANNELS];
                let mask = s.mask(target[0]);
                let error = logit[2] - target[2];
                // BCE from a logit z with target y: ln(1 + e^z) - y z.
                sums[0] += logit[0].softplus() - target[0] * logit[0];
                sums[1] += mask * (logit[1].softplus() - target[1] * logit[1]);
                sums[2] += mask * error * error;
            }
            for (loss, sum) in losses.iter_mut().zip(sums) {
                *loss = weight[r] * sum;
            }
        }
    }
}

impl LossGrad {
    fn mirror<R: Real>(&self, _: &Step, args: Args<'_, R>) {
        let ([logits, target, weight, dlosses], [dlogits]) = args.take();
        let s = &self.0;
        for (i, (d, logit)) in dlogits.chunks_exact_mut(CHANNELS).zip(logits.chunks_exact(CHANNELS)).enumerate() {
            let (n, r) = (i / s.rows, i % s.rows);
            let target = &target[(r * s.notes + n) * CHANNELS..][..CHANNELS];
            let scale = &dlosses[r * CHANNELS..][..CHANNELS];
            let mask = s.mask(target[0]) * weight[r];
            let error = logit[2] - target[2];
            d[0] = scale[0] * weight[r] * (logit[0].sigmoid() - target[0]);
            d[1] = scale[1] * mask * (logit[1].sigmoid() - target[1]);
            d[2] = scale[2] * mask * (error + error);
        }
    }
}

impl Op for Loss {
    fn name(&self) -> &'static str {
        "loss"
    }

    fn label(&self) -> String {
        format!("loss forward rows={} N={}{}", self.0.rows, self.0.notes, if self.0.masked { "" } else { " unmasked" })
    }

    fn args(&self) -> Vec<Arg> {
        let cells = self.0.cells() * CHANNELS;
        vec![
            Arg::read("logits", cells),
            Arg::read("target", cells),
            Arg::read("weight", self.0.rows),
            Arg::write("losses", self.0.rows * CHANNELS),
        ]
    }

    /// A cell costs twice 6 for a cross-entropy (4 of them softplus), 2 for the square, 2 masks and 3 sums; a row 3 weights.
    fn cost(&self) -> Cost {
        let cell = 17 + if self.0.masked { 2 } else { 0 };
        Cost { flops: (self.0.cells() * cell + self.0.rows * 3) as u64, bytes: self.operand_bytes() }
    }

    mirror_both!();

    fn variants(&self, _: &Capabilities) -> Vec<&'static str> {
        vec!["portable"]
    }

    fn record(&self, _: &str, recorder: &mut Recorder<'_>) -> Result<()> {
        for block in self.0.blocks(recorder) {
            let (logits, target) = (block.of_notes(CHANNELS), block.of_rows(CHANNELS));
            let building = recorder
                .dispatch(shader!("loss", "forward", []))
                .read(0, logits.0, logits.1)
                .read(1, target.0, target.1)
                .read(2, block.first_row, block.rows)
                .write(3, block.first_row * CHANNELS, block.rows * CHANNELS);
            block.words(building).word(self.0.masked.into()).groups(block.rows.div_ceil(64));
        }
        Ok(())
    }

    fn gradient(&self, tape: &mut dyn Tape, operands: &[View]) {
        let [logits, target, weight, losses] = *operands else { return };
        let Some(dlosses) = tape.grad(losses) else { return };
        tape.contribute(logits, Box::new(LossGrad(self.0)), &[logits, target, weight, dlosses]);
    }
}

impl Op for LossGrad {
    fn name(&self) -> &'static str {
        "loss"
    }

    fn label(&self) -> String {
        format!("loss backward rows={} N={}{}", self.0.rows, self.0.notes, if self.0.masked { "" } else { " unmasked" })
    }

    fn args(&self) -> Vec<Arg> {
        let cells = self.0.cells() * CHANNELS;
        vec![
            Arg::read("logits", cells),
            Arg::read("target", cells),
            Arg::read("weight", self.0.rows),
            Arg::read("dlosses", self.0.rows * CHANNELS),
            Arg::write("dlogits", cells),
        ]
    }

    /// A cell costs twice 2 for a sigmoid and its difference, 2 for the error, 6 for the scales and 1 for the mask.
    fn cost(&self) -> Cost {
        let cell = 12 + usize::from(self.0.masked);
        Cost { flops: (self.0.cells() * cell) as u64, bytes: self.operand_bytes() }
    }

    mirror_both!();

    fn variants(&self, _: &Capabilities) -> Vec<&'static str> {
        vec!["portable"]
    }

    fn record(&self, _: &str, recorder: &mut Recorder<'_>) -> Result<()> {
        for block in self.0.blocks(recorder) {
            let (logits, target) = (block.of_notes(CHANNELS), block.of_rows(CHANNELS));
            let building = recorder
                .dispatch(shader!("loss", "backward", []))
                .read(0, logits.0, logits.1)
                .read(1, target.0, target.1)
                .read(2, block.first_row, block.rows)
                .read(3, block.first_row * CHANNELS, block.rows * CHANNELS)
                .write(4, logits.0, logits.1);
            block.words(building).word(self.0.masked.into()).groups((block.rows * block.notes).div_ceil(64));
        }
        Ok(())
    }
}
