//! A running mean of all parameters in one dispatch (Polyak and Juditsky 1992, with exponential weights).

use rayon::prelude::*;
use serde::Serialize;

use super::recorder::shader;
use super::vectorized::vectorized;
use super::{Arg, Args, Cost, Op, Real, Recorder, Uniforms, cpu_both};
use crate::Result;
use crate::gpu::Capabilities;

/// `mean = decay mean + (1 - decay) p`, from a mean of zeros: who reads it divides by `1 - decay^updates`, as Adam's moments are
/// divided. Where the gradients' norm is not finite, so that the update was left out, nothing is changed.
///
/// Operands: `squared_norm [1]`, `p [len]`, `mean [len]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ema {
    /// Parameters.
    pub len: usize,
    /// What an update leaves of the mean.
    pub decay: f32,
}

impl Ema {
    fn run_on_cpu<R: Real>(&self, _: &Uniforms, args: Args<'_, R>) {
        let ([squared_norm, p], [mean]) = args.take();
        if !squared_norm[0].to_f64().is_finite() {
            return;
        }
        let (decay, rest) = (R::of(self.decay.into()), R::of((1.0 - self.decay).into()));
        const BLOCK: usize = 1 << 14;
        mean.par_chunks_mut(BLOCK).zip(p.par_chunks(BLOCK)).for_each(|(mean, p)| {
            vectorized(
                #[inline(always)]
                move || mean.iter_mut().zip(p).for_each(|(mean, &p)| *mean = decay * *mean + rest * p),
            );
        });
    }
}

impl Op for Ema {
    fn name(&self) -> &'static str {
        "ema"
    }

    fn label(&self) -> String {
        format!("ema {}", self.len)
    }

    fn args(&self) -> Vec<Arg> {
        vec![Arg::read("squared_norm", 1), Arg::read("p", self.len), Arg::update("mean", self.len)]
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
            let dispatch = recorder.dispatch(shader!("ema", "main", []), cost);
            let bound = dispatch.read_all(0).read(1, start, len).write(2, start, len);
            bound.word(len).float(self.decay).groups(len.div_ceil(256));
        }
        Ok(())
    }
}
