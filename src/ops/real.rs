//! The number type of the CPU backend: f32 to run, f64 to check.

use std::fmt::Debug;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign};

use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

use super::{Args, Op, Uniforms};

/// f32 or f64, with the few functions that the ops need. f32's functions are branch-free polynomials that the compiler
/// vectorises inside [`vectorized`](super::vectorized::vectorized); f64's are the standard library's.
pub trait Real:
    Copy
    + Debug
    + Default
    + PartialOrd
    + Send
    + Sync
    + Sum
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + 'static
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// From f64, rounded.
    fn of(x: f64) -> Self;
    /// To f64.
    fn to_f64(self) -> f64;
    /// `e^x`.
    fn exp(self) -> Self;
    /// `ln(1 + x)`.
    fn ln_1p(self) -> Self;
    /// Hyperbolic tangent; its error is relative to the result, however small that is.
    fn tanh(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Absolute value.
    fn abs(self) -> Self;
    /// Rounds to what f16 holds; beyond its range to infinity.
    fn round_half(values: &mut [Self]);
    /// Runs the CPU backend of `op` in this precision.
    fn run_on_cpu(op: &dyn Op, uniforms: &Uniforms, args: Args<'_, Self>);

    /// Logistic sigmoid.
    #[inline(always)]
    fn sigmoid(self) -> Self {
        Self::ONE / (Self::ONE + (-self).exp())
    }
    /// `ln(1 + e^x)` without overflow.
    #[inline(always)]
    fn softplus(self) -> Self {
        let m = if self > Self::ZERO { self } else { Self::ZERO };
        m + (-self.abs()).exp().ln_1p()
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    fn of(x: f64) -> Self {
        x
    }
    fn to_f64(self) -> f64 {
        self
    }
    fn exp(self) -> Self {
        f64::exp(self)
    }
    fn ln_1p(self) -> Self {
        f64::ln_1p(self)
    }
    fn tanh(self) -> Self {
        f64::tanh(self)
    }
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }
    fn abs(self) -> Self {
        f64::abs(self)
    }
    fn round_half(values: &mut [Self]) {
        values.iter_mut().for_each(|x| *x = half::f16::from_f64(*x).to_f64());
    }
    fn run_on_cpu(op: &dyn Op, uniforms: &Uniforms, args: Args<'_, Self>) {
        op.cpu_f64(uniforms, args)
    }
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    #[inline(always)]
    fn of(x: f64) -> Self {
        x as f32
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self as f64
    }
    /// Relative error below 2 ulp. Arguments are clamped to `[-87, 88]`, so the result is finite; a NaN stays one.
    #[inline(always)]
    fn exp(self) -> Self {
        let (power, rest) = exp_parts(self);
        (rest + 1.0) * power
    }
    fn ln_1p(self) -> Self {
        f32::ln_1p(self)
    }
    /// `q / (q + 2)` of `q = e^(2x) - 1`. The exponential's parts lose nothing where the 1 is taken from them: for a small
    /// `x` the power of two is 1, and `q` is all rest. So the relative error stays below 2.5 ulp without a second formula to
    /// choose where `x` is small.
    #[inline(always)]
    fn tanh(self) -> Self {
        let (power, rest) = exp_parts(self + self);
        let q = rest * power + (power - 1.0);
        q / (q + 2.0)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f32::sqrt(self)
    }
    #[inline(always)]
    fn abs(self) -> Self {
        f32::abs(self)
    }
    fn round_half(values: &mut [Self]) {
        const BLOCK: usize = 256;
        values.par_chunks_mut(64 * BLOCK).flat_map_iter(|part| part.chunks_mut(BLOCK)).for_each(|values| {
            let mut halves = [half::f16::ZERO; BLOCK];
            let halves = &mut halves[..values.len()];
            halves.convert_from_f32_slice(values);
            halves.convert_to_f32_slice(values);
        });
    }
    fn run_on_cpu(op: &dyn Op, uniforms: &Uniforms, args: Args<'_, Self>) {
        op.cpu_f32(uniforms, args)
    }
}

/// The power of two and the rest with `e^x = power * (1 + rest)`: range reduction to `|r| <= ln 2 / 2`, where `rest` is the
/// Taylor polynomial of degree 7 of `e^r - 1`, whose remainder is below 6e-9. `x` is clamped to `[-87, 88]`; a NaN stays one.
#[inline(always)]
fn exp_parts(x: f32) -> (f32, f32) {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer, which then stands in the low bits
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let z = x * std::f32::consts::LOG2_E + ROUND;
    let n = z - ROUND;
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4; // ln 2 in two parts
    let mut p = 1.0 / 5040.0;
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0] {
        p = p * r + c;
    }
    let exponent = z.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    (f32::from_bits(exponent), p * r)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f32_exp_is_within_two_ulp() {
        let mut x = -87.0f32;
        while x < 88.0 {
            let want = (x as f64).exp();
            let got = Real::exp(x) as f64;
            assert!(((got - want) / want).abs() < 2.4e-7, "exp({x}) = {got}, want {want}");
            x += 0.00937;
        }
        assert!(Real::exp(f32::NAN).is_nan());
        assert!(Real::exp(-1e4f32) < 1e-37 && Real::exp(1e4f32).is_finite());
    }

    #[test]
    fn f32_sigmoid_follows_f64() {
        for i in -4000..4000 {
            let x = i as f32 * 0.01;
            assert!((x.sigmoid() as f64 - (x as f64).sigmoid()).abs() < 2e-7, "sigmoid {x}");
        }
    }

    #[test]
    fn f32_tanh_is_within_two_and_a_half_ulp_however_small() {
        // From the smallest normal number on, thousands of numbers between a power of two and the next.
        for bits in (f32::MIN_POSITIVE.to_bits()..16f32.to_bits()).step_by(1013) {
            for x in [f32::from_bits(bits), -f32::from_bits(bits)] {
                let (got, want) = (Real::tanh(x) as f64, f64::tanh(x as f64));
                assert!(((got - want) / want).abs() < 2.5 * f32::EPSILON as f64, "tanh({x}) = {got}, want {want}");
            }
        }
        for (x, y) in [(0f32, 0.0), (1e4, 1.0), (f32::INFINITY, 1.0), (-1e4, -1.0), (f32::NEG_INFINITY, -1.0)] {
            assert_eq!(Real::tanh(x), y);
        }
        assert!(Real::tanh(f32::NAN).is_nan());
    }
}
