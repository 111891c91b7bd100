//! The number type of the CPU mirror: f32 to run, f64 to check.

use std::fmt::Debug;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Deref, DerefMut, Div, Mul, MulAssign, Neg, Sub, SubAssign};

use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

use super::{Args, Op, Step};

/// f32 or f64, with the few functions that the ops need. f32's functions are branch-free polynomials that the compiler
/// vectorises inside [`vectorized`]; f64's are the standard library's.
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
    /// Square root.
    fn sqrt(self) -> Self;
    /// Absolute value.
    fn abs(self) -> Self;
    /// Rounds to what f16 holds; beyond its range to infinity.
    fn round_half(values: &mut [Self]);
    /// Runs the mirror of `op` in this precision.
    fn mirror(op: &dyn Op, step: &Step, args: Args<'_, Self>);

    /// Logistic sigmoid.
    #[inline(always)]
    fn sigmoid(self) -> Self {
        Self::ONE / (Self::ONE + (-self).exp())
    }
    /// Hyperbolic tangent.
    #[inline(always)]
    fn tanh(self) -> Self {
        let e = (self + self).exp();
        Self::ONE - (Self::ONE + Self::ONE) / (e + Self::ONE)
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
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }
    fn abs(self) -> Self {
        f64::abs(self)
    }
    fn round_half(values: &mut [Self]) {
        values.iter_mut().for_each(|x| *x = half::f16::from_f64(*x).to_f64());
    }
    fn mirror(op: &dyn Op, step: &Step, args: Args<'_, Self>) {
        op.mirror_f64(step, args)
    }
    fn tanh(self) -> Self {
        f64::tanh(self)
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
    /// Range reduction to `|r| <= ln 2 / 2` and the Taylor polynomial of degree 7, whose remainder there is below
    /// 6e-9; relative error below 2 ulp. Arguments are clamped to `[-87, 88]`, so the result is finite; a NaN stays one.
    #[inline(always)]
    fn exp(self) -> Self {
        const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer, which then stands in the low bits
        let x = if self < -87.0 { -87.0 } else { self };
        let x = if x > 88.0 { 88.0 } else { x };
        let z = x * std::f32::consts::LOG2_E + ROUND;
        let n = z - ROUND;
        let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4; // ln 2 in two parts
        let mut p = 1.0 / 5040.0;
        for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
            p = p * r + c;
        }
        let exponent = z.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
        p * f32::from_bits(exponent)
    }
    fn ln_1p(self) -> Self {
        f32::ln_1p(self)
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
    fn mirror(op: &dyn Op, step: &Step, args: Args<'_, Self>) {
        op.mirror_f32(step, args)
    }
}

/// Runs `f` compiled for the best vector instructions of this CPU.
#[inline(always)]
pub fn vectorized<T>(f: impl FnOnce() -> T) -> T {
    pulp::Arch::new().dispatch(f)
}

/// The sum of `a[i] b[i]`, in lanes that the compiler vectorises inside [`vectorized`].
#[inline(always)]
pub fn dot<R: Real>(a: &[R], b: &[R]) -> R {
    const LANES: usize = 32;
    let mut sums = [R::ZERO; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a.remainder().iter().zip(b.remainder()).map(|(&a, &b)| a * b).sum::<R>();
    for (a, b) in a.zip(b) {
        for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.into_iter().sum::<R>() + rest
}

/// Numbers that start on a cache line: a vector load that crosses two costs twice, which allocators with their headers
/// make every one.
#[derive(Debug, Default)]
pub struct Aligned<R> {
    /// Some numbers longer than what is in use; never grows, so that it stays where it is.
    data: Vec<R>,
    start: usize,
    len: usize,
}

impl<R: Real> Aligned<R> {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        const LINE: usize = 64;
        let data = vec![R::ZERO; len + LINE / size_of::<R>()];
        let start = data.as_ptr().align_offset(LINE).min(data.len() - len);
        Self { data, start, len }
    }
}

impl<R: Real> Clone for Aligned<R> {
    fn clone(&self) -> Self {
        let mut copy = Self::zeros(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

impl<R> Deref for Aligned<R> {
    type Target = [R];

    fn deref(&self) -> &[R] {
        &self.data[self.start..self.start + self.len]
    }
}

impl<R> DerefMut for Aligned<R> {
    fn deref_mut(&mut self) -> &mut [R] {
        &mut self.data[self.start..self.start + self.len]
    }
}

/// A matrix in memory: first element and the steps between rows and columns, in elements.
#[derive(Clone, Copy)]
pub struct Mat<'a, R> {
    data: &'a [R],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, R> Mat<'a, R> {
    /// `rows x cols`, stored row by row with `stride` elements from one row to the next.
    pub fn new(data: &'a [R], rows: usize, cols: usize, stride: usize) -> Self {
        assert!(rows == 0 || cols == 0 || data.len() >= (rows - 1) * stride + cols);
        Self { data, rows, cols, row_stride: stride, col_stride: 1 }
    }

    /// The transpose, without moving anything.
    pub fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            data: self.data,
        }
    }
}

/// `dst = a b`, or `dst += a b` with `accumulate`; `dst` is stored row by row with `stride`. `threads` spreads the
/// product over the worker threads; leave it off inside a parallel region.
pub fn matmul<R: Real>(dst: &mut [R], stride: usize, a: Mat<'_, R>, b: Mat<'_, R>, accumulate: bool, threads: bool) {
    let (m, k, n) = (a.rows, a.cols, b.cols);
    assert_eq!(k, b.rows);
    assert!(m == 0 || n == 0 || dst.len() >= (m - 1) * stride + n);
    if m == 0 || n == 0 {
        return;
    }
    if m == 1 && b.col_stride == 1 {
        vectorized(
            #[inline(always)]
            || row_product(&mut dst[..n], a, b, accumulate),
        );
        return;
    }
    let parallelism = if threads { gemm::Parallelism::Rayon(0) } else { gemm::Parallelism::None };
    // Safety: the asserts here and in `Mat::new` keep every address that the strides reach inside the slices, and `dst`
    // is borrowed mutably, so it overlaps neither `a` nor `b`.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst.as_mut_ptr(),
            1,
            stride as isize,
            accumulate,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            R::ONE,
            R::ONE,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// `y = a b`, or `y += a b`, for one row `a` and rows of `b` without gaps: 256 sums at a time, so that `b` streams from the
/// cache while they stay in registers.
#[inline(always)]
fn row_product<R: Real>(y: &mut [R], a: Mat<'_, R>, b: Mat<'_, R>, accumulate: bool) {
    if !accumulate {
        y.fill(R::ZERO);
    }
    let mut j = 0;
    while j + 256 <= y.len() {
        row_product_lanes::<R, 256>(&mut y[j..], a, b, j);
        j += 256;
    }
    while j + 16 <= y.len() {
        row_product_lanes::<R, 16>(&mut y[j..], a, b, j);
        j += 16;
    }
    while j < y.len() {
        row_product_lanes::<R, 1>(&mut y[j..], a, b, j);
        j += 1;
    }
}

#[inline(always)]
fn row_product_lanes<R: Real, const L: usize>(y: &mut [R], a: Mat<'_, R>, b: Mat<'_, R>, j: usize) {
    let mut sums = [R::ZERO; L];
    sums.copy_from_slice(&y[..L]);
    for k in 0..b.rows {
        let x = a.data[k * a.col_stride];
        for (sum, &w) in sums.iter_mut().zip(&b.data[k * b.row_stride + j..][..L]) {
            *sum += x * w;
        }
    }
    y[..L].copy_from_slice(&sums);
}

/// The transpose of `a`, `rows x cols` without gaps, as a copy: for a product that many others use, since reading across
/// the rows costs more than the copy.
pub fn transposed<R: Real>(a: &[R], rows: usize, cols: usize) -> Aligned<R> {
    // Both sides of a tile stay in the cache.
    const TILE: usize = 16;
    let mut t = Aligned::zeros(rows * cols);
    for i in (0..rows).step_by(TILE) {
        for j in (0..cols).step_by(TILE) {
            for i in i..rows.min(i + TILE) {
                for j in j..cols.min(j + TILE) {
                    t[j * rows + i] = a[i * cols + j];
                }
            }
        }
    }
    t
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_numbers_start_on_a_cache_line() {
        for len in [0, 1, 5, 1000] {
            let numbers = Aligned::<f32>::zeros(len);
            assert_eq!((numbers.len(), numbers.as_ptr() as usize % 64), (len, 0));
            assert_eq!(numbers.clone().as_ptr() as usize % 64, 0);
        }
    }

    #[test]
    fn a_row_times_a_matrix_is_the_sum_of_its_rows() {
        let value = |i: usize| ((i * 37) % 11) as f64 - 5.0;
        // Blocks of 256 and of 16 columns, and single ones; `b` has gaps.
        let (k, n, stride) = (7, 256 + 2 * 16 + 3, 300);
        let a: Vec<f64> = (0..k).map(value).collect();
        let b: Vec<f64> = (0..k * stride).map(|i| value(i + 3)).collect();
        for accumulate in [false, true] {
            let mut y = vec![2.0; n];
            matmul(&mut y, n, Mat::new(&a, 1, k, k), Mat::new(&b, k, n, stride), accumulate, false);
            for (j, y) in y.into_iter().enumerate() {
                let start = if accumulate { 2.0 } else { 0.0 };
                assert_eq!(y, (0..k).fold(start, |sum, i| sum + a[i] * b[i * stride + j]), "column {j}");
            }
        }
    }

    #[test]
    fn a_transpose_has_rows_for_columns() {
        let (rows, cols) = (33, 18);
        let a: Vec<f32> = (0..rows * cols).map(|i| i as f32).collect();
        let t = transposed(&a, rows, cols);
        assert!((0..rows * cols).all(|i| t[i % cols * rows + i / cols] == a[i]));
    }

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
    fn f32_tanh_and_sigmoid_follow_f64() {
        for i in -4000..4000 {
            let x = i as f32 * 0.01;
            assert!((Real::tanh(x) as f64 - f64::tanh(x as f64)).abs() < 2e-7, "tanh {x}");
            assert!((x.sigmoid() as f64 - (x as f64).sigmoid()).abs() < 2e-7, "sigmoid {x}");
        }
        assert_eq!(Real::tanh(1e4f32), 1.0);
        assert_eq!(Real::tanh(-1e4f32), -1.0);
    }
}
