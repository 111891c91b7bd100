//! Inverted dropout with counter-based masks: the backward pass computes the mask again instead of storing it.

use rayon::prelude::*;
use serde::Serialize;

use super::random::{dropped, in_whole_batch, keep_mask, keeps};
use super::recorder::{Building, shader};
use super::vectorized::vectorized;
use super::{Arg, Args, Cost, Op, Real, Recorder, Tape, Uniforms, View, cpu_both, half_label};
use crate::Result;
use crate::gpu::{Capabilities, Format};

/// Where and how strongly to drop; rate 0 leaves everything.
///
/// # Examples
///
/// ```
/// use deepj::prelude::*;
///
/// // The second dropout of a network, of half of a tensor `[T, B, 32]`.
/// let site = DropoutSite { site: 1, rate: 0.5, inner: 32 };
/// assert_eq!(site.rate, 0.5);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct DropoutSite {
    /// Number of the dropout site in the model; sites have masks of their own.
    pub site: u32,
    /// Probability that an element becomes 0.
    pub rate: f32,
    /// Consecutive elements of one batch slot, where the tensor is `[outer, B, inner]`: with them an element's number in the
    /// whole batch is found, which its mask is made of.
    pub inner: usize,
}

impl DropoutSite {
    /// No dropout, as in evaluation and generation.
    pub const NONE: DropoutSite = DropoutSite { site: 0, rate: 0.0, inner: 1 };

    /// The factor of what is kept, `1 / (1 - rate)`: a word of the shaders, whose own division is inexact.
    pub fn kept(&self) -> f32 {
        1.0 / (1.0 - self.rate)
    }

    /// The factor of element `index`: 0, or `1 / (1 - rate)`.
    pub fn factor<R: Real>(&self, uniforms: &Uniforms, index: usize) -> R {
        let number = in_whole_batch(index as u32, self.inner as u32, uniforms.slots);
        R::of(keep_mask(number, self.site, self.rate, uniforms.seed, uniforms.update).into())
    }

    /// `y = x * mask`, where the first element has the number `first`.
    pub fn apply<R: Real>(&self, uniforms: &Uniforms, first: usize, x: &[R], y: &mut [R]) {
        let slots = uniforms.slots;
        if slots.count == slots.total {
            return self.apply_run(uniforms, first as u32, x, y);
        }
        let run = self.inner * slots.count;
        let mut done = 0;
        while done < x.len() {
            let start = first + done;
            let end = x.len().min(done + run - start % run);
            let number = in_whole_batch(start as u32, self.inner as u32, slots);
            self.apply_run(uniforms, number, &x[done..end], &mut y[done..end]);
            done = end;
        }
    }

    /// The same for elements whose numbers in the whole batch are `number` and those that follow: the loop has no division and
    /// vectorises.
    fn apply_run<R: Real>(&self, uniforms: &Uniforms, number: u32, x: &[R], y: &mut [R]) {
        if self.rate == 0.0 {
            return y.copy_from_slice(x);
        }
        let (kept, site, dropped) = (R::of(self.kept().into()), self.site, dropped(self.rate));
        let Uniforms { seed, update, .. } = *uniforms;
        // Values, not references: whether to load through one would be a branch for each element, which does not vectorise.
        vectorized(
            #[inline(always)]
            move || {
                for (i, (y, &x)) in (0u32..).zip(y.iter_mut().zip(x)) {
                    let keeps = keeps(number.wrapping_add(i), site, dropped, seed, update);
                    *y = x * if keeps { kept } else { R::ZERO };
                }
            },
        );
    }

    /// Appends what `keep_mask` takes: elements of a slot, site, rate, factor of what is kept.
    pub(super) fn words<'r, 'a>(&self, building: Building<'r, 'a>) -> Building<'r, 'a> {
        building.word(self.inner).word(self.site as usize).float(self.rate).float(self.kept())
    }
}

/// `y = x * mask`. Operands: `x [len]`, `y [len]`. Its gradient is the same op on the gradients.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Dropout {
    /// Elements; at most 2^32, since the mask's counter is a 32-bit word.
    pub len: usize,
    /// Site and rate.
    pub drop: DropoutSite,
    /// Both operands' format.
    pub stored: Format,
}

impl Dropout {
    fn run_on_cpu<R: Real>(&self, uniforms: &Uniforms, args: Args<'_, R>) {
        let ([x], [y]) = args.take();
        const BLOCK: usize = 1 << 14;
        let blocks = y.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).enumerate();
        blocks.for_each(|(block, (y, x))| self.drop.apply(uniforms, block * BLOCK, x, y));
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

    cpu_both!();

    fn variants(&self, _: &Capabilities) -> Vec<&'static str> {
        vec!["portable"]
    }

    fn record(&self, _: &str, recorder: &mut Recorder<'_>) -> Result<()> {
        for (start, len) in recorder.row_chunks(self.len, &[1]) {
            let cost = recorder.share(len, self.len);
            let dispatch = recorder.dispatch(shader!("dropout", "main", [], [("S", self.stored)]), cost);
            let bound = dispatch.read(0, start, len).write(1, start, len).step();
            self.drop.words(bound.word(len).word(start)).groups(len.div_ceil(256));
        }
        Ok(())
    }

    fn gradient(&self, tape: &mut dyn Tape, operands: &[View]) {
        let Some(dy) = tape.grad(operands[1]) else { return };
        tape.contribute(operands[0], Box::new(self.clone()), &[dy]);
    }
}
