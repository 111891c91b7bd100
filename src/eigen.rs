//! Eigenvalues of small symmetric matrices.

/// The eigenvalues of a symmetric matrix `[n, n]`, from the largest down, and its eigenvectors of length 1, a row each: the method
/// of Jacobi, sweeps of rotations that each make one element off the diagonal 0 (Golub and Van Loan, Matrix Computations,
/// section 8.5).
pub(crate) fn symmetric(mut a: Vec<f64>, n: usize) -> (Vec<f64>, Vec<Vec<f64>>) {
    const SWEEPS: usize = 64;
    let mut vectors: Vec<f64> = (0..n * n).map(|i| f64::from(u8::from(i / n == i % n))).collect();
    let scale: f64 = a.iter().map(|x| x * x).sum();
    for _ in 0..SWEEPS {
        let off: f64 = (0..n * n).filter(|i| i / n != i % n).map(|i| a[i] * a[i]).sum();
        if off <= scale * 1e-30 {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                let apq = a[p * n + q];
                if apq == 0.0 {
                    continue;
                }
                // The smaller of the two angles that make the element 0.
                let tau = (a[q * n + q] - a[p * n + p]) / (2.0 * apq);
                let t = tau.signum() / (tau.abs() + (1.0 + tau * tau).sqrt());
                let c = 1.0 / (1.0 + t * t).sqrt();
                let s = t * c;
                for k in 0..n {
                    let (x, y) = (a[k * n + p], a[k * n + q]);
                    (a[k * n + p], a[k * n + q]) = (c * x - s * y, s * x + c * y);
                }
                for k in 0..n {
                    let (x, y) = (a[p * n + k], a[q * n + k]);
                    (a[p * n + k], a[q * n + k]) = (c * x - s * y, s * x + c * y);
                    let (x, y) = (vectors[p * n + k], vectors[q * n + k]);
                    (vectors[p * n + k], vectors[q * n + k]) = (c * x - s * y, s * x + c * y);
                }
            }
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| a[j * n + j].total_cmp(&a[i * n + i]));
    let values = order.iter().map(|&i| a[i * n + i]).collect();
    (values, order.iter().map(|&i| vectors[i * n..][..n].to_vec()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_is_made_of_its_eigenvectors() {
        for n in [1, 2, 5, 30] {
            let a: Vec<f64> =
                (0..n * n).map(|i| ((i / n + 1) * (i % n + 1) % 7) as f64 + f64::from(i / n == i % n)).collect();
            let (values, vectors) = symmetric(a.clone(), n);
            assert!(values.is_sorted_by(|a, b| a >= b));
            for i in 0..n {
                for j in 0..n {
                    let made: f64 = (0..n).map(|k| values[k] * vectors[k][i] * vectors[k][j]).sum();
                    assert!((made - a[i * n + j]).abs() < 1e-9, "n={n} {i} {j}: {made}");
                    let dot: f64 = (0..n).map(|k| vectors[i][k] * vectors[j][k]).sum();
                    assert!((dot - f64::from(u8::from(i == j))).abs() < 1e-12, "n={n}: {dot}");
                }
            }
        }
        // [[2, 1], [1, 2]]
        let (values, vectors) = symmetric(vec![2.0, 1.0, 1.0, 2.0], 2);
        assert!((values[0] - 3.0).abs() < 1e-12 && (values[1] - 1.0).abs() < 1e-12);
        assert!((vectors[0][0] - vectors[0][1]).abs() < 1e-12);
    }
}
