//! Inverted dropout with counter-based masks: the backward pass computes the mask again instead of storing it.

use rayon::prelude::*;

use super::random::keep_mask;
use super::real::vectorized;
use super::recorder::shader;
use super::{Arg, Args, Cost, Op, Real, Recorder, Step, Tape, View, half_label, mirror_both};
use crate::Result;
use crate::gpu::{Capabilities, Format};

/// Where and how strongly to drop; rate 0 leaves everything.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drop {
    /// Number of the dropout site in the model; sites have masks of their own.
    pub site: u32,
    /// Probability that an element becomes 0.
    pub rate: f32,
}

impl Drop {
    /// No dropout, as in evaluation and generation.
    pub const NONE: Drop = Drop { site: 0, rate: 0.0 };

    /// The factor of what is kept, `1 / (1 - rate)`: a word of the shaders, whose own division is inexact.
    pub fn kept(&self) -> f32 {
        1.0 / (1.0 - self.rate)
    }

    /// The factor of element `index`: 0, or `1 / (1 - rate)`.
    #[inline(always)]
    pub fn factor<R: Real>(&self, step: &Step, index: usize) -> R {
        if self.rate == 0.0 {
            return R::ONE;
        }
        R::of(keep_mask(index as u32, self.site, self.rate, step.seed, step.step) as f64)
    }

    /// `y = x * mask`, where the first element has the number `first`.
    pub fn apply<R: Real>(&self, step: &Step, first: usize, x: &[R], y: &mut [R]) {
        vectorized(
            #[inline(always)]
            || {
                for (i, (y, &x)) in y.iter_mut().zip(x).enumerate() {
                    *y = x * self.factor::<R>(step, first + i);
                }
            },
        );
    }
}

/// `y = x * mask`. Operands: `x [len]`, `y [len]`. Its gradient is the same op on the gradients.
#[derive(Clone, Debug, PartialEq)]
pub struct Dropout {
    /// Elements; at most 2^32, since the mask's counter is a 32-bit word.
    pub len: usize,
    /// Site and rate.
    pub drop: Drop,
    /// Both operands' format.
    pub stored: Format,
}

impl Dropout {
    fn mirror<R: Real>(&self, step: &Step, args: Args<'_, R>) {
        let ([x], [y]) = args.take();
        const BLOCK: usize = 1 << 14;
        let blocks = y.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).enumerate();
        blocks.for_each(|(block, (y, x))| self.drop.apply(step, block * BLOCK, x, y));
    }
}

impl Op for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn label(&self) -> String {
        format!("dropout {} rate {}{}", self.len, self.drop.rate, half_label(self.stored))
    }

    fn args(&self) -> Vec<Arg> {
        vec![Arg::read("x", self.len).stored(self.stored), Arg::write("y", self.len).stored(self.stored)]
    }

    fn cost(&self) -> Cost {
        Cost { flops: self.len as u64, bytes: self.operand_bytes() }
    }

    mirror_both!();

    fn variants(&self, _: &Capabilities) -> Vec<&'static str> {
        vec!["portable"]
    }

    fn record(&self, _: &str, recorder: &mut Recorder<'_>) -> Result<()> {
        for (start, len) in recorder.row_chunks(self.len, &[1]) {
            let cost = recorder.share(len, self.len);
            let dispatch = recorder.dispatch(shader!("dropout", "main", [], [("S", self.stored)]), cost);
            let bound = dispatch.read(0, start, len).write(1, start, len).step();
            let words = bound.word(len).word(start).word(self.drop.site as usize);
            words.float(self.drop.rate).float(self.drop.kept()).groups(len.div_ceil(256));
        }
        Ok(())
    }

    fn gradient(&self, tape: &mut dyn Tape, operands: &[View]) {
        let Some(dy) = tape.grad(operands[1]) else { return };
        tape.contribute(operands[0], Box::new(self.clone()), &[dy]);
    }
}
