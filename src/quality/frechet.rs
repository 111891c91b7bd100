//! The Fréchet distance between two sets of features.
//!
//! Of Gaussians with the sets' means and covariances: `|m_a - m_b|² + tr(C_a + C_b - 2 (C_a^1/2 C_b C_a^1/2)^1/2)` (Dowson &
//! Landau 1982; Heusel et al. 2017 for features of a classifier). It depends on the features: a distance over those of one
//! classifier cannot be held against that over those of another.

use crate::eigen;
use crate::{Error, Result};

/// A square matrix, row by row.
struct Matrix {
    size: usize,
    values: Vec<f64>,
}

impl Matrix {
    fn zero(size: usize) -> Self {
        Self { size, values: vec![0.0; size * size] }
    }

    fn at(&self, row: usize, column: usize) -> f64 {
        self.values[row * self.size + column]
    }

    fn set(&mut self, row: usize, column: usize, value: f64) {
        self.values[row * self.size + column] = value;
    }

    fn times(&self, other: &Self) -> Self {
        let mut product = Self::zero(self.size);
        for (row, out) in product.values.chunks_exact_mut(self.size).enumerate() {
            for k in 0..self.size {
                let factor = self.at(row, k);
                let line = &other.values[k * self.size..][..self.size];
                out.iter_mut().zip(line).for_each(|(out, value)| *out += factor * value);
            }
        }
        product
    }

    fn trace(&self) -> f64 {
        (0..self.size).map(|i| self.at(i, i)).sum()
    }

    /// The square root of a symmetric matrix without negative eigenvalues; those that rounding made negative count as 0.
    fn root(self) -> Self {
        let n = self.size;
        let (values, vectors) = eigen::symmetric(self.values, n);
        let mut root = Self::zero(n);
        for (value, vector) in values.into_iter().zip(vectors) {
            let length = value.max(0.0).sqrt();
            for (at, out) in root.values.iter_mut().enumerate() {
                *out += length * vector[at / n] * vector[at % n];
            }
        }
        root
    }
}

/// The mean and the sample covariance of a set.
fn moments(set: &[Vec<f64>], width: usize) -> (Vec<f64>, Matrix) {
    let count = set.len() as f64;
    let mean: Vec<f64> = (0..width).map(|i| set.iter().map(|row| row[i]).sum::<f64>() / count).collect();
    let mut covariance = Matrix::zero(width);
    for row in set {
        for i in 0..width {
            for j in 0..width {
                covariance.values[i * width + j] += (row[i] - mean[i]) * (row[j] - mean[j]) / (count - 1.0);
            }
        }
    }
    (mean, covariance)
}

/// The distance between `a` and `b`, a row of features for each piece, at least 0.
///
/// # Errors
/// Fewer than two rows a side, rows without features or of different lengths, or a feature that is not finite.
pub fn frechet(a: &[Vec<f64>], b: &[Vec<f64>]) -> Result<f64> {
    if a.len() < 2 || b.len() < 2 {
        let what = format!("a Fréchet distance between {} and {} pieces", a.len(), b.len());
        return Err(Error::model(what, "give at least two pieces a side: a single one has no covariance"));
    }
    let width = a[0].len();
    if width == 0 || a.iter().chain(b).any(|row| row.len() != width) {
        return Err(Error::model("features of different numbers, or none", "take those of one classifier"));
    }
    if a.iter().chain(b).flatten().any(|value| !value.is_finite()) {
        return Err(Error::model("a feature is not finite", "look at the classifier and at its pieces"));
    }
    let ((mean_a, of_a), (mean_b, of_b)) = (moments(a, width), moments(b, width));
    let apart: f64 = mean_a.iter().zip(&mean_b).map(|(a, b)| (a - b).powi(2)).sum();
    let traces = of_a.trace() + of_b.trace();
    let root = of_a.root();
    let mut product = root.times(&of_b).times(&root);
    // Symmetric but for rounding.
    for (i, j) in (0..width).flat_map(|i| (0..i).map(move |j| (i, j))) {
        let mean = (product.at(i, j) + product.at(j, i)) / 2.0;
        product.set(i, j, mean);
        product.set(j, i, mean);
    }
    let (values, _) = eigen::symmetric(product.values, width);
    let common: f64 = values.into_iter().map(|value| value.max(0.0).sqrt()).sum();
    Ok((apart + traces - 2.0 * common).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows<const N: usize>(rows: &[[f64; N]]) -> Vec<Vec<f64>> {
        rows.iter().map(|row| row.to_vec()).collect()
    }

    /// The first number is NumPy's and SciPy's: `numpy.cov` and `scipy.linalg.sqrtm` of the product of the covariances; the second,
    /// of sets with fewer rows than features, has the square roots of that product's eigenvalues.
    #[test]
    fn distances_are_those_of_numpy() {
        let a = rows(&[[1.0, 2.0, 0.5], [2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [4.0, 1.0, 2.0], [2.0, 2.0, 2.5]]);
        let b = rows(&[[0.0, 1.0, 1.0], [1.0, 1.0, 3.0], [3.0, 0.0, 2.0], [2.0, 5.0, 1.5]]);
        for (a, b) in [(&a, &b), (&b, &a)] {
            let distance = frechet(a, b).unwrap();
            assert!((distance - 4.134_592_950_676).abs() < 1e-9, "{distance}");
        }
        let a = rows(&[[1.0, 2.0, 3.0, 4.0], [2.0, 2.0, 1.0, 0.0]]);
        let b = rows(&[[0.0, 1.0, 1.0, 0.0], [1.0, 1.0, 3.0, 2.0], [5.0, 5.0, 1.0, 0.0]]);
        let distance = frechet(&a, &b).unwrap();
        assert!((distance - 16.174_163_097_2).abs() < 1e-6, "{distance}");
    }

    #[test]
    fn a_set_is_at_no_distance_from_itself_and_at_that_of_its_means_when_moved() {
        let drawn = |i: usize, j: usize| ((i * 37 + j * 101) as f64 * 0.618_034).fract();
        let set: Vec<Vec<f64>> = (0..40).map(|i| (0..20).map(|j| drawn(i, j)).collect()).collect();
        assert!(frechet(&set, &set).unwrap() < 1e-9);
        let moved: Vec<Vec<f64>> = set.iter().map(|row| row.iter().map(|value| value + 0.5).collect()).collect();
        assert!((frechet(&set, &moved).unwrap() - 20.0 * 0.25).abs() < 1e-9);
    }

    #[test]
    fn roots_multiply_to_the_matrix() {
        // Of a product with its own transpose.
        let values = [4.0, 2.0, 0.6, 2.0, 5.0, 1.0, 0.6, 1.0, 0.5];
        let root = Matrix { size: 3, values: values.to_vec() }.root();
        for (found, expected) in root.times(&root).values.iter().zip(values) {
            assert!((found - expected).abs() < 1e-12, "{found}, not {expected}");
        }
    }

    #[test]
    fn what_has_no_distance_is_an_error() {
        let two = rows(&[[1.0], [2.0]]);
        for other in [rows(&[[1.0]]), rows(&[[1.0, 2.0], [1.0, 2.0]]), rows(&[[1.0], [f64::NAN]]), vec![]] {
            assert!(frechet(&two, &other).is_err());
        }
        assert!(frechet(&[vec![], vec![]], &[vec![], vec![]]).is_err());
    }
}
