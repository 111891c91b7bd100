//! Nadam (Dozat 2016) over all parameters in one dispatch.

use rayon::prelude::*;
use serde::Serialize;

use super::recorder::shader;
use super::vectorized::vectorized;
use super::{Arg, Args, Cost, Op, Real, Recorder, Uniforms, cpu_both};
use crate::Result;
use crate::gpu::Capabilities;

/// One update of all parameters, with the schedule's factors `[from_m, from_g, from_v]` taken from [`Uniforms::factors`] (see
/// `nn::optimizer::nadam`): `mu[t+1] / (1 - prod mu[1..=t+1])`, `(1 - mu[t]) / (1 - prod mu[1..=t])`, `1 / (1 - beta2^t)`.
///
/// `m = beta1 m + (1 - beta1) g`, `v = beta2 v + (1 - beta2) g^2`,
/// `p -= lr (from_g g + from_m m) / (sqrt(from_v v) + epsilon)`.
///
/// Gradients, and their norm, are freed of the loss scale (`unscale`), and scaled to `clip_norm` where that is set and
/// their global norm is larger. Where the norm is not finite nothing is changed, so that the gradients can be made again to
/// find the cause.
///
/// Operands: `g [len]`, `squared_norm [1]`, `p [len]`, `m [len]`, `v [len]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Nadam {
    /// Parameters.
    pub len: usize,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
}

/// What an update multiplies the gradients with, whose squared norm, loss scale included, this is: it takes away the loss scale,
/// and shortens them to `clip_norm` where that is set and they are longer. `None` where the norm is not finite.
pub(super) fn gradient_scale<R: Real>(uniforms: &Uniforms, squared_norm: R) -> Option<R> {
    let unscale = uniforms.unscale as f64;
    let norm = squared_norm.to_f64().sqrt() * unscale;
    let clip = uniforms.clip_norm as f64;
    let scale = if clip > 0.0 && norm > clip { clip / norm * unscale } else { unscale };
    norm.is_finite().then(|| R::of(scale))
}

impl Nadam {
    fn run_on_cpu<R: Real>(&self, uniforms: &Uniforms, args: Args<'_, R>) {
        let ([g, squared_norm], [p, m, v]) = args.take();
        let Some(scale) = gradient_scale(uniforms, squared_norm[0]) else { return };
        let (beta1, beta2, epsilon) = (R::of(self.beta1 as f64), R::of(self.beta2 as f64), R::of(self.epsilon as f64));
        let [from_m, from_g, from_v] = uniforms.factors.map(|x| R::of(x as f64));
        let lr = R::of(uniforms.lr as f64);
        const BLOCK: usize = 1 << 14;
        p.par_chunks_mut(BLOCK)
            .zip(m.par_chunks_mut(BLOCK))
            .zip(v.par_chunks_mut(BLOCK))
            .zip(g.par_chunks(BLOCK))
            .for_each(|(((p, m), v), g)| {
                vectorized(
                    #[inline(always)]
                    || {
                        for (((p, m), v), &g) in p.iter_mut().zip(m).zip(v).zip(g) {
                            let g = g * scale;
                            *m = beta1 * *m + (R::ONE - beta1) * g;
                            *v = beta2 * *v + (R::ONE - beta2) * g * g;
                            *p -= lr * (from_g * g + from_m * *m) / ((from_v * *v).sqrt() + epsilon);
                        }
                    },
                );
            });
    }
}

impl Op for Nadam {
    fn name(&self) -> &'static str {
        "nadam"
    }

    fn label(&self) -> String {
        format!("nadam {}", self.len)
    }

    fn args(&self) -> Vec<Arg> {
        vec![
            Arg::read("g", self.len),
            Arg::read("squared_norm", 1),
            Arg::update("p", self.len),
            Arg::update("m", self.len),
            Arg::update("v", self.len),
        ]
    }

    /// 1 for the clip, 3 for `m`, 4 for `v`, 9 for the update.
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
            let dispatch = recorder.dispatch(shader!("nadam", "main", []), cost);
            let bound = dispatch.read(0, start, len).read_all(1).step();
            let bound = bound.write(2, start, len).write(3, start, len).write(4, start, len);
            let words = bound.word(len).float(self.beta1).float(self.beta2).float(self.epsilon);
            words.groups(len.div_ceil(256));
        }
        Ok(())
    }
}
