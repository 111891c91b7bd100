//! Matrices of the CPU backend and their product.

use super::Real;
use super::aligned::Aligned;
use super::vectorized::vectorized;

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
    // SAFETY: the asserts here and in `Mat::new` keep every address that the strides reach inside the slices, and `dst`
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
}
