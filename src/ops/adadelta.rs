//! Adadelta (Zeiler 2012, arXiv 1212.5701, algorithm 1) over all parameters in one dispatch.

use rayon::prelude::*;
use serde::Serialize;

use super::nadam::gradient_scale;
use super::recorder::shader;
use super::vectorized::vectorized;
use super::{Arg, Args, Cost, Op, Real, Recorder, Uniforms, cpu_both};
use crate::Result;
use crate::gpu::Capabilities;

/// One update of all parameters: `s = rho s + (1 - rho) g^2`, `u = g sqrt(d + epsilon) / sqrt(s + epsilon)`,
/// `d = rho d + (1 - rho) u^2`, `p -= lr u`.
///
/// Gradients are freed of the loss scale and clipped as by [`Nadam`](super::nadam::Nadam); where their norm is not finite nothing
/// is changed.
///
/// Operands: `g [len]`, `squared_norm [1]`, `p [len]`, `s [len]`, `d [len]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Adadelta {
    /// Parameters.
    pub len: usize,
    /// Decay of both running means.
    pub rho: f32,
    /// Added to both means before their roots are taken.
    pub epsilon: f32,
}

impl Adadelta {
    fn run_on_cpu<R: Real>(&self, uniforms: &Uniforms, args: Args<'_, R>) {
        let ([g, squared_norm], [p, s, d]) = args.take();
        let Some(scale) = gradient_scale(uniforms, squared_norm[0]) else { return };
        let [rho, epsilon, lr] = [self.rho, self.epsilon, uniforms.lr].map(|x| R::of(x as f64));
        const BLOCK: usize = 1 << 14;
        p.par_chunks_mut(BLOCK)
            .zip(s.par_chunks_mut(BLOCK))
            .zip(d.par_chunks_mut(BLOCK))
            .zip(g.par_chunks(BLOCK))
            .for_each(|(((p, s), d), g)| {
                vectorized(
                    #[inline(always)]
                    || {
                        for (((p, s), d), &g) in p.iter_mut().zip(s).zip(d).zip(g) {
                            let g = g * scale;
                            *s = rho * *s + (R::ONE - rho) * g * g;
                            let step = g * (*d + epsilon).sqrt() / (*s + epsilon).sqrt();
                            *d = rho * *d + (R::ONE - rho) * step * step;
                            *p -= lr * step;
                        }
                    },
                );
            });
    }
}

impl Op for Adadelta {
    fn name(&self) -> &'static str {
        "adadelta"
    }

    fn label(&self) -> String {
        format!("adadelta {}", self.len)
    }

    fn args(&self) -> Vec<Arg> {
        vec![
            Arg::read("g", self.len),
            Arg::read("squared_norm", 1),
            Arg::update("p", self.len),
            Arg::update("s", self.len),
            Arg::update("d", self.len),
        ]
    }

    /// 1 for the clip, 4 for `s`, 6 for the step, 4 for `d`, 2 for the update.
    fn cost(&self) -> Cost {
        Cost { flops: 17 * self.len as u64, bytes: self.operand_bytes() }
    }

    cpu_both!();

    fn variants(&self, _: &Capabilities) -> Vec<&'static str> {
        vec!["portable"]
    }

    fn record(&self, _: &str, recorder: &mut Recorder<'_>) -> Result<()> {
        for (start, len) in recorder.row_chunks(self.len, &[1]) {
            let cost = recorder.share(len, self.len);
            let dispatch = recorder.dispatch(shader!("adadelta", "main", []), cost);
            let bound = dispatch.read(0, start, len).read_all(1).step();
            let bound = bound.write(2, start, len).write(3, start, len).write(4, start, len);
            bound.word(len).float(self.rho).float(self.epsilon).groups(len.div_ceil(256));
        }
        Ok(())
    }
}
