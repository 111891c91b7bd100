//! Addition in place: joins the gradients of a value that is used more than once.

use rayon::prelude::*;
use serde::Serialize;

use super::recorder::shader;
use super::vectorized::vectorized;
use super::{Arg, Args, Cost, Op, Real, Recorder, Uniforms, cpu_both, half_label};
use crate::Result;
use crate::gpu::{Capabilities, Format};

/// `y += x`. Operands: `x [len]`, `y [len]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Add {
    /// Elements.
    pub len: usize,
    /// Both operands' format.
    pub stored: Format,
}

impl Add {
    fn run_on_cpu<R: Real>(&self, _: &Uniforms, args: Args<'_, R>) {
        let ([x], [y]) = args.take();
        const BLOCK: usize = 1 << 14;
        y.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).for_each(|(y, x)| {
            vectorized(
                #[inline(always)]
                move || y.iter_mut().zip(x).for_each(|(y, &x)| *y += x),
            );
        });
    }
}

impl Op for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn label(&self) -> String {
        format!("add {}{}", self.len, half_label(self.stored))
    }

    fn args(&self) -> Vec<Arg> {
        vec![Arg::read("x", self.len).stored(self.stored), Arg::update("y", self.len).stored(self.stored)]
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
            let dispatch = recorder.dispatch(shader!("add", "main", [], [("S", self.stored)]), cost);
            dispatch.read(0, start, len).write(1, start, len).word(len).groups(len.div_ceil(256));
        }
        Ok(())
    }
}
