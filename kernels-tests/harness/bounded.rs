//! Where tolerances come from: numbers that carry a bound on what f32 arithmetic may be off by.
//!
//! Each op is written once more, as naive loops, in [`Bounded`] arithmetic. These give four things: the value (which the
//! f64 reference must have), the bound ("running error analysis", Higham 2002, section 3.3: every operation passes on what
//! its operands are off by and adds its own rounding), and the number of operations and, by
//! [`Operands`](super::Operands), the elements read and written (both of which [`Op::cost`] must declare). Sums are bounded
//! for any order of their terms, and a multiply-add may be fused, so the bound holds for every tiling.
//!
//! What one operation rounds is what WGSL grants (<https://www.w3.org/TR/WGSL/#floating-point-accuracy>): addition and
//! multiplication correctly rounded, division 2.5 units in the last place, `exp(x)` 3 + 2|x|, `log` 2^-21 between
//! 1/2 and 2 and 3 units elsewhere, `sqrt` as `1 / inverseSqrt` 4.5.
//!
//! [`Op::cost`]: crate::ops::Op::cost

use std::cell::Cell;
use std::ops::{Add, Div, Mul, Sub};

use crate::gpu::Format;

/// Half a unit in the last place of f32, relative: what one correctly rounded operation may be off by.
pub const ROUNDOFF: f64 = 1.0 / (1u64 << 24) as f64;
/// A unit in the last place is at most twice as much.
const ULP: f64 = 2.0 * ROUNDOFF;
/// Subnormal results may be flushed to zero; the exponentials of the shaders are clamped to normal numbers above 1e-35.
const TINY: f64 = 1e-34;
/// Half a unit in the last place of f16, relative.
pub const HALF_ROUNDOFF: f64 = HALF_ULP / 2.0;
/// A unit in the last place of f16, relative to the largest number that has it, and the distance of its subnormals.
const HALF_ULP: f64 = 1.0 / (1u64 << 10) as f64;
const HALF_TINY: f64 = 1.0 / (1u64 << 24) as f64;

thread_local! {
    static OPERATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count(operations: u64) {
    OPERATIONS.with(|counter| counter.set(counter.get() + operations));
}

/// Runs `f` and returns what it returns, and how many operations it did on this thread.
pub fn counted<T>(f: impl FnOnce() -> T) -> (T, u64) {
    let before = OPERATIONS.with(Cell::get);
    let result = f();
    (result, OPERATIONS.with(Cell::get) - before)
}

/// Runs `f` without counting its operations: what is done once for many elements and not worth a declaration.
pub fn uncounted<T>(f: impl FnOnce() -> T) -> T {
    let before = OPERATIONS.with(Cell::get);
    let result = f();
    OPERATIONS.with(|counter| counter.set(before));
    result
}

/// Whether an error keeps to its bound; one that is not a number does not.
pub fn within(error: f64, bound: f64) -> bool {
    error <= bound
}

/// A value and a bound on the error of its f32 computation.
#[derive(Clone, Copy, Debug)]
pub struct Bounded {
    pub value: f64,
    pub error: f64,
}

impl Bounded {
    pub const ZERO: Self = Self { value: 0.0, error: 0.0 };
    pub const ONE: Self = Self { value: 1.0, error: 0.0 };

    /// What stands in scratch memory after a run: anything.
    pub const ANYTHING: Self = Self { value: 0.0, error: f64::INFINITY };

    /// A number that f32 holds exactly, such as an operand.
    pub fn exact(value: impl Into<f64>) -> Self {
        Self { value: value.into(), error: 0.0 }
    }

    /// The result of a division of exact numbers, which counts as no operation: a constant of the kernel.
    pub fn quotient(value: impl Into<f64>) -> Self {
        let value = value.into();
        Self { value, error: (ROUNDOFF + 2.5 * ULP) * value.abs() }
    }

    /// The result of one operation: `passed_on` from its operands, and `rounding` relative to the result.
    fn operation(value: f64, passed_on: f64, rounding: f64) -> Self {
        count(1);
        Self { value, error: passed_on + rounding * (value.abs() + passed_on) + TINY }
    }

    /// The value stored in this format: f16 has 11 bits, either neighbour of a value may be stored (WGSL, section
    /// "Floating point conversion"), and subnormals lie 2^-24 apart.
    pub fn stored(self, format: Format) -> Self {
        match format {
            Format::F32 => self,
            Format::F16 => {
                let spacing = (self.value.abs() + self.error) * HALF_ULP + HALF_TINY;
                Self { value: self.value, error: self.error + spacing }
            }
        }
    }

    /// The number that the format holds in its place, from which the computation goes on.
    pub fn rounded(self, format: Format) -> Self {
        let stored = self.stored(format);
        let value = match format {
            Format::F32 => self.value,
            Format::F16 => half::f16::from_f64(self.value).to_f64(),
        };
        Self { value, error: stored.error + (value - self.value).abs() }
    }

    /// Square root.
    pub fn sqrt(self) -> Self {
        let (root, below) = (self.value.sqrt(), (self.value - self.error).max(0.0).sqrt());
        let passed_on = if below > 0.0 { self.error / (root + below) } else { (self.value + self.error).sqrt() };
        Self::operation(root, passed_on, 4.5 * ULP)
    }

    /// The square, one operation.
    pub fn squared(self) -> Self {
        self * self
    }

    /// Twice as much, one operation.
    pub fn doubled(self) -> Self {
        self + self
    }

    /// Logistic sigmoid, as `1 / (1 + exp(-x))`: with `e = exp(-x)` off by `d`, the result `s` is off by `s (1 - s) d`, and
    /// by an addition and a division.
    pub fn sigmoid(self) -> Self {
        let x = self.value;
        let s = 1.0 / (1.0 + (-x).exp());
        let slope = (s * (1.0 - s) + CURVATURE * self.error).min(0.25);
        let exp = s * (1.0 - s) * exp_error(x);
        Self::operation(s, slope * self.error + exp, ROUNDOFF + 2.5 * ULP)
    }

    /// Hyperbolic tangent, in any of three ways. What each rounds is relative to the result `y`, however small that is; in
    /// roundoffs `u`, half a unit in the last place:
    ///
    /// - Shaders, `|x| < 1/2`: `x + x z p(z)` with `z = x^2` and a polynomial `p` whose truncation is off by 1.6e-8 of `y`,
    ///   0.27 `u`. The terms of `p` after the first are less than a tenth of it, so `p` is good to 3 `u` and, three roundings
    ///   later, `x z p` to 6. It is at most a twelfth of `y`: `u / 2`. The final sum rounds once: in all below 2 `u`.
    /// - Shaders, elsewhere: `(1 - t) / (1 + t)` of `t = exp(-2|x|)`. The exponential's relative error times
    ///   `(1 - y^2) / 2` is an absolute error of `y` that does not shrink with `x`, which is why there is a polynomial. Two
    ///   additions round once each, and WGSL grants the division 2.5 units in the last place, 5 `u`: 7 `u`.
    /// - The CPU backend: `q / (q + 2)` of `q = e^(2x) - 1 = 2^n (e^r - 1) + (2^n - 1)` (`src/ops/real.rs`). `e^r - 1` as a
    ///   product is good to 2.6 `u`, and `r`, which is exact where `n = 0`, to `u`. What this comes to relative to `q` is
    ///   largest where the two summands cancel most, at `n = 1` and `r = -ln 2 / 2`: 6 `u`. It reaches `y` times
    ///   `2 / (q + 2)`, 0.83 there; an addition and a division follow: 7 `u`. At `n = -1` and `r = ln 2 / 2` it is 4 `u`
    ///   times 1.17 and 2, elsewhere less.
    pub fn tanh(self) -> Self {
        // Where shaders leave the polynomial.
        const NEAR: f64 = 0.5;
        let (least, most) = (self.value.abs() - self.error, self.value.abs() + self.error);
        let y = self.value.tanh();
        let slope = (1.0 - y * y + CURVATURE * self.error).min(1.0);
        let flatness = 1.0 - least.max(NEAR).tanh().powi(2);
        let exp = if most < NEAR { 0.0 } else { flatness / 2.0 * exp_error(2.0 * most) };
        Self::operation(y, slope * self.error + exp, 7.0 * ROUNDOFF)
    }

    /// `e^x` of what is not above 0, as differences from the largest are.
    pub fn exp(self) -> Self {
        let y = self.value.exp();
        Self::operation(y, y * (self.error.exp_m1() + exp_error(self.value)), ROUNDOFF)
    }

    /// Natural logarithm, which WGSL grants an absolute error of 2^-21 between 1/2 and 2, and 3 units in the last place elsewhere.
    pub fn ln(self) -> Self {
        let passed_on = self.error / (self.value - self.error).max(f64::MIN_POSITIVE);
        Self::operation(self.value.ln(), passed_on + 1.0 / (1u64 << 21) as f64, 3.0 * ULP)
    }

    /// `ln(1 + e^x)`, as `max(x, 0) + log(1 + exp(-|x|))`: four operations.
    pub fn softplus(self) -> Self {
        count(3);
        let x = self.value;
        let e = (-x.abs()).exp();
        let log = e * exp_error(x) + 2.0 * ROUNDOFF + 1.0 / (1u64 << 21) as f64;
        Self::operation(x.max(0.0) + e.ln_1p(), self.error + log, ROUNDOFF)
    }

    /// `start` and the sum of `terms`, in any order. Counts an addition for each term.
    pub fn sum(start: Self, terms: impl IntoIterator<Item = Self>) -> Self {
        let mut sum = Sum::from(start);
        for term in terms {
            sum.add(term.value, term.error, 0.0);
            count(1);
        }
        sum.end()
    }

    /// `start` and the sum of `a b` over `pairs`, in any order, fused or not. Counts two operations for each pair.
    pub fn dot(start: Self, pairs: impl IntoIterator<Item = (Self, Self)>) -> Self {
        let mut sum = Sum::from(start);
        for (a, b) in pairs {
            let error = a.value.abs() * b.error + a.error * b.value.abs() + a.error * b.error;
            sum.add(a.value * b.value, error, ROUNDOFF);
            count(2);
        }
        sum.end()
    }
}

/// Bounds on half the second derivative of sigmoid and tanh, 0.05 and 0.39.
const CURVATURE: f64 = 0.4;

/// The relative error of `exp(x)`, none beyond the clamp of the shaders (the result is below [`TINY`] there).
fn exp_error(x: f64) -> f64 {
    (3.0 + 2.0 * x.abs().min(88.0)) * ULP
}

struct Sum {
    value: f64,
    passed_on: f64,
    magnitude: f64,
    additions: f64,
}

impl Sum {
    fn from(start: Bounded) -> Self {
        Self { value: start.value, passed_on: start.error, magnitude: start.value.abs(), additions: 0.0 }
    }

    fn add(&mut self, term: f64, error: f64, rounding: f64) {
        self.value += term;
        self.passed_on += error + rounding * term.abs();
        self.magnitude += term.abs();
        self.additions += 1.0;
    }

    /// Whatever the order, no term goes through more additions than there are (Higham 2002, section 4.2).
    fn end(self) -> Bounded {
        let gamma = self.additions * ROUNDOFF / (1.0 - self.additions * ROUNDOFF);
        let error = self.passed_on + gamma * (self.magnitude + self.passed_on) + TINY;
        Bounded { value: self.value, error }
    }
}

impl Add for Bounded {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self::operation(self.value + other.value, self.error + other.error, ROUNDOFF)
    }
}

impl Sub for Bounded {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self::operation(self.value - other.value, self.error + other.error, ROUNDOFF)
    }
}

impl Mul for Bounded {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        let passed_on = self.value.abs() * other.error + self.error * (other.value.abs() + other.error);
        Self::operation(self.value * other.value, passed_on, ROUNDOFF)
    }
}

impl Div for Bounded {
    type Output = Self;
    fn div(self, other: Self) -> Self {
        let value = self.value / other.value;
        let passed_on = (self.error + value.abs() * other.error) / (other.value.abs() - other.error);
        Self::operation(value, passed_on, 2.5 * ULP)
    }
}
