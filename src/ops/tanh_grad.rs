//! Gradient of tanh from its value: `dx = dy (1 - y^2)`.

use serde::Serialize;

use super::recorder::shader;
use super::vectorized::vectorized;
use super::{Arg, Args, Cost, Op, Real, Recorder, Uniforms, cpu_both};
use crate::Result;
use crate::gpu::Capabilities;

/// `dx = dy (1 - y^2)`. Operands: `y`, `dy`, `dx`, each `[len]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TanhGrad {
    /// Elements.
    pub len: usize,
}

impl TanhGrad {
    fn run_on_cpu<R: Real>(&self, _: &Uniforms, args: Args<'_, R>) {
        let ([y, dy], [dx]) = args.take();
        vectorized(
            #[inline(always)]
            || {
                for ((dx, &dy), &y) in dx.iter_mut().zip(dy).zip(y) {
                    *dx = dy * (R::ONE - y * y);
                }
            },
        );
    }
}

impl Op for TanhGrad {
    fn name(&self) -> &'static str {
        "tanh_grad"
    }

    fn label(&self) -> String {
        format!("tanh_grad {}", self.len)
    }

    fn args(&self) -> Vec<Arg> {
        vec![Arg::read("y", self.len), Arg::read("dy", self.len), Arg::write("dx", self.len)]
    }

    fn cost(&self) -> Cost {
        Cost { flops: 3 * self.len as u64, bytes: self.operand_bytes() }
    }

    cpu_both!();

    fn variants(&self, _: &Capabilities) -> Vec<&'static str> {
        vec!["portable"]
    }

    fn record(&self, _: &str, recorder: &mut Recorder<'_>) -> Result<()> {
        for (start, len) in recorder.row_chunks(self.len, &[1]) {
            let cost = recorder.share(len, self.len);
            let dispatch = recorder.dispatch(shader!("tanh_grad", "main", []), cost);
            let bound = dispatch.read(0, start, len).read(1, start, len).write(2, start, len);
            bound.word(len).groups(len.div_ceil(256));
        }
        Ok(())
    }
}
