//! Softmax cross-entropy of one channel of the target that was cut into bins, such as 128 velocities: what the paper tried for
//! dynamics and dropped (docs/MODEL.md, "Switches").

use rayon::prelude::*;
use serde::Serialize;

use super::recorder::{Building, chunks, shader};
use super::{Arg, Args, Cost, Op, Real, Recorder, Tape, Uniforms, View, cpu_both};
use crate::error::Result;
use crate::gpu::Capabilities;

/// Rows of a part: what a workgroup sums up, of one note. The constant of this name in the shader.
const RUN: usize = 128;

/// Of each part, a run of up to 128 rows of one note, the sum over its cells of `weight[r, channel] * mask * (ln(sum of e^z) - z[bin])`,
/// where the bin is that of the target's value: `round(value (K - 1))`, within 0 to K - 1.
///
/// With `weight = 1 / (valid cells)` on valid rows and 0 elsewhere, the sum over parts is a mean over the valid (t, b, n) cells.
///
/// Operands: `z [N, rows, K]`, `target [rows, N, C]`, `weight [rows, C]`, `losses [parts]`.
///
/// # Examples
///
/// ```
/// use deepj::prelude::*;
///
/// // 12 time steps, of each a choice among 28 classes: `target` holds the class divided by 27.
/// let op = SoftmaxLoss { rows: 12, notes: 1, bins: 28, channels: 1, channel: 0, masked: false };
/// let mut graph = Graph::without_params();
/// let mut input = |name: &str, len: usize| graph.tensor(name, len, Kind::Input);
/// let operands = [input("z", 12 * 28), input("target", 12), input("weight", 12)];
/// let parts = graph.tensor("parts", op.parts(), Kind::Output);
/// graph.apply(op, &[operands[0], operands[1], operands[2], parts]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SoftmaxLoss {
    /// T * B.
    pub rows: usize,
    /// N.
    pub notes: usize,
    /// K, at least 2.
    pub bins: usize,
    /// C, values of a cell of the target, the first of which is play.
    pub channels: usize,
    /// Which of them is predicted.
    pub channel: usize,
    /// Whether a cell counts only where the target plays.
    pub masked: bool,
}

/// `dz = dlosses[part] * weight[r, channel] * mask * (softmax(z) - one-hot of the bin)`.
///
/// Operands: `z`, `target`, `weight`, `dlosses [parts]`, `dz [N, rows, K]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SoftmaxLossGrad(pub SoftmaxLoss);

impl SoftmaxLoss {
    /// Number of parts: note by note, of each its runs of rows.
    pub fn parts(&self) -> usize {
        self.notes * self.rows.div_ceil(RUN)
    }

    fn cells(&self) -> usize {
        self.rows * self.notes
    }

    /// Values of the target that are read: the channel's, and play as a mask.
    fn targets(&self) -> usize {
        self.cells() * (1 + usize::from(self.masked))
    }

    fn label(&self, what: &str) -> String {
        let Self { rows, notes, bins, masked, .. } = self;
        let masked = if *masked { "" } else { " unmasked" };
        format!("softmax_loss {what} rows={rows} N={notes} K={bins}{masked}")
    }

    /// What a cell counts, and its bin.
    fn wanted<R: Real>(&self, cell: usize, target: &[R], weight: &[R]) -> (R, usize) {
        let (n, r) = (cell / self.rows, cell % self.rows);
        let target = &target[(r * self.notes + n) * self.channels..][..self.channels];
        let weight = weight[r * self.channels + self.channel];
        let scale = if self.masked { weight * target[0] } else { weight };
        let bin = (target[self.channel].to_f64() * (self.bins - 1) as f64 + 0.5).max(0.0) as usize;
        (scale, bin.min(self.bins - 1))
    }

    fn run_on_cpu<R: Real>(&self, _: &Uniforms, args: Args<'_, R>) {
        let ([z, target, weight], [losses]) = args.take();
        let runs = self.rows.div_ceil(RUN);
        losses.par_iter_mut().enumerate().for_each(|(part, loss)| {
            let (note, first) = (part / runs, part % runs * RUN);
            *loss = R::ZERO;
            for cell in (first..self.rows.min(first + RUN)).map(|row| note * self.rows + row) {
                let (scale, bin) = self.wanted(cell, target, weight);
                if scale != R::ZERO {
                    let z = &z[cell * self.bins..][..self.bins];
                    let (largest, sum) = largest_and_sum(z);
                    *loss += scale * ((sum - R::ONE).ln_1p() + largest - z[bin]);
                }
            }
        });
    }

    /// Blocks of which one dispatch can do each: some runs of some notes.
    fn blocks(&self, recorder: &Recorder<'_>) -> Vec<Block> {
        let runs = self.rows.div_ceil(RUN);
        let in_time = recorder.parts_in_time(self.parts(), usize::MAX);
        let most_runs = recorder.rows_per_binding(&[self.notes * self.channels, self.bins]) / RUN;
        let most_runs = most_runs.min(in_time).clamp(1, runs);
        let most_notes = recorder.rows_per_binding(&[self.rows * self.bins]).min(in_time / most_runs).max(1);
        let mut blocks = vec![];
        for (run, runs) in chunks(runs, most_runs) {
            let rows = (runs * RUN).min(self.rows - run * RUN);
            blocks.extend(chunks(self.notes, most_notes).map(|(note, notes)| Block { run, runs, rows, note, notes }));
        }
        blocks
    }
}

/// The largest of the logits and the sum of `e^(z - largest)`, at least 1.
fn largest_and_sum<R: Real>(z: &[R]) -> (R, R) {
    let largest = z.iter().fold(z[0], |a, &b| if a > b { a } else { b });
    (largest, z.iter().map(|&z| (z - largest).exp()).sum())
}

/// What one dispatch makes: the runs from `run` on, `rows` rows, of the notes from `note` on.
struct Block {
    run: usize,
    runs: usize,
    rows: usize,
    note: usize,
    notes: usize,
}

impl Block {
    /// Start and length of what the block spans in `z`.
    fn logits(&self, op: &SoftmaxLoss) -> (usize, usize) {
        let start = self.note * op.rows + self.run * RUN;
        (start * op.bins, ((self.notes - 1) * op.rows + self.rows) * op.bins)
    }

    /// Start and length of the rows in `target`.
    fn targets(&self, op: &SoftmaxLoss) -> (usize, usize) {
        let row = op.notes * op.channels;
        (self.run * RUN * row, self.rows * row)
    }

    /// The words that both shaders start with after the offsets.
    fn words<'r, 'a>(&self, op: &SoftmaxLoss, building: Building<'r, 'a>) -> Building<'r, 'a> {
        let masked = usize::from(op.masked);
        let block = [self.run, self.runs, self.note, self.notes];
        building.words(&block).words(&[op.rows, op.notes, op.bins, op.channels, op.channel, masked])
    }
}

impl Op for SoftmaxLoss {
    fn name(&self) -> &'static str {
        "softmax_loss"
    }

    fn label(&self) -> String {
        SoftmaxLoss::label(self, "forward")
    }

    fn args(&self) -> Vec<Arg> {
        vec![
            Arg::read("z", self.cells() * self.bins),
            Arg::read("target", self.cells() * self.channels).moving(self.targets()),
            Arg::read("weight", self.rows * self.channels).moving(self.rows),
            Arg::write("losses", self.parts()),
        ]
    }

    /// That of cells which all count: a subtraction, an exponential and an addition a bin; a logarithm, two sums, the scale and
    /// the part's sum; and 1 for the mask.
    fn cost(&self) -> Cost {
        let cell = 3 * self.bins + 5 + usize::from(self.masked);
        Cost { flops: (self.cells() * cell) as u64, bytes: self.operand_bytes() }
    }

    cpu_both!();

    fn variants(&self, _: &Capabilities) -> Vec<&'static str> {
        vec!["portable"]
    }

    fn record(&self, _: &str, recorder: &mut Recorder<'_>) -> Result<()> {
        for block in self.blocks(recorder) {
            let (z, target) = (block.logits(self), block.targets(self));
            let share = recorder.share(block.runs * block.notes, self.parts());
            let building = recorder
                .dispatch(shader!("softmax_loss", "forward", []), share)
                .read(0, z.0, z.1)
                .read(1, target.0, target.1)
                .read(2, block.run * RUN * self.channels, block.rows * self.channels)
                .write_all(3);
            block.words(self, building).groups(block.runs * block.notes);
        }
        Ok(())
    }

    fn gradient(&self, tape: &mut dyn Tape, operands: &[View]) {
        let [z, target, weight, losses] = *operands else { return };
        let Some(dlosses) = tape.grad(losses) else { return };
        tape.contribute(z, Box::new(SoftmaxLossGrad(*self)), &[z, target, weight, dlosses]);
    }
}

impl SoftmaxLossGrad {
    fn run_on_cpu<R: Real>(&self, _: &Uniforms, args: Args<'_, R>) {
        let ([z, target, weight, dlosses], [dz]) = args.take();
        let op = &self.0;
        let runs = op.rows.div_ceil(RUN);
        dz.par_chunks_mut(op.bins).zip(z.par_chunks(op.bins)).enumerate().for_each(|(cell, (dz, z))| {
            let (scale, bin) = op.wanted(cell, target, weight);
            let scale = scale * dlosses[cell / op.rows * runs + cell % op.rows / RUN];
            dz.fill(R::ZERO);
            if scale != R::ZERO {
                let (largest, sum) = largest_and_sum(z);
                for (k, (dz, &z)) in dz.iter_mut().zip(z).enumerate() {
                    let one_hot = if k == bin { R::ONE } else { R::ZERO };
                    *dz = scale * ((z - largest).exp() / sum - one_hot);
                }
            }
        });
    }
}

impl Op for SoftmaxLossGrad {
    fn name(&self) -> &'static str {
        "softmax_loss"
    }

    fn label(&self) -> String {
        self.0.label("backward")
    }

    fn args(&self) -> Vec<Arg> {
        let op = &self.0;
        vec![
            Arg::read("z", op.cells() * op.bins),
            Arg::read("target", op.cells() * op.channels).moving(op.targets()),
            Arg::read("weight", op.rows * op.channels).moving(op.rows),
            Arg::read("dlosses", op.parts()),
            Arg::write("dz", op.cells() * op.bins),
        ]
    }

    /// That of cells which all count: 3 a bin for the exponentials and their sum, 3 for the gradient; the scale, and 1 for the mask.
    fn cost(&self) -> Cost {
        let cell = 6 * self.0.bins + 1 + usize::from(self.0.masked);
        Cost { flops: (self.0.cells() * cell) as u64, bytes: self.operand_bytes() }
    }

    cpu_both!();

    fn variants(&self, _: &Capabilities) -> Vec<&'static str> {
        vec!["portable"]
    }

    fn record(&self, _: &str, recorder: &mut Recorder<'_>) -> Result<()> {
        let op = &self.0;
        for block in op.blocks(recorder) {
            let (z, target) = (block.logits(op), block.targets(op));
            let share = recorder.share(block.runs * block.notes, op.parts());
            let building = recorder
                .dispatch(shader!("softmax_loss", "backward", []), share)
                .read(0, z.0, z.1)
                .read(1, target.0, target.1)
                .read(2, block.run * RUN * op.channels, block.rows * op.channels)
                .read_all(3)
                .write(4, z.0, z.1);
            block.words(op, building).groups(block.runs * block.notes);
        }
        Ok(())
    }
}
