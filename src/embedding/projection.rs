//! Points of many dimensions in two: principal components, and t-SNE.

use crate::eigen;

/// A point of a map.
pub type Place = [f64; 2];

/// The first two principal components of `points`, and the share of the variance that each has. The sign of each component is such
/// that its coordinate of largest size is positive.
pub fn principal_components(points: &[Vec<f64>]) -> (Vec<Place>, [f64; 2]) {
    let n = points.len();
    let width = points.first().map_or(0, Vec::len);
    let mean: Vec<f64> = (0..width).map(|i| points.iter().map(|point| point[i]).sum::<f64>() / n as f64).collect();
    let centred: Vec<Vec<f64>> =
        points.iter().map(|point| point.iter().zip(&mean).map(|(x, mean)| x - mean).collect()).collect();
    // The products of all pairs of points have the eigenvalues of the covariance, and are fewer where dimensions are many.
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let products = (0..n * n).map(|i| dot(&centred[i / n], &centred[i % n])).collect();
    let (values, vectors) = eigen::symmetric(products, n);
    let variance: f64 = values.iter().map(|value| value.max(0.0)).sum();
    let mut places = vec![[0.0; 2]; n];
    let mut shares = [0.0; 2];
    for (axis, (value, vector)) in values.iter().zip(&vectors).take(2).enumerate() {
        let largest = vector.iter().copied().fold(0.0, |a: f64, b| if b.abs() > a.abs() { b } else { a });
        let length = value.max(0.0).sqrt() * if largest < 0.0 { -1.0 } else { 1.0 };
        places.iter_mut().zip(vector).for_each(|(place, x)| place[axis] = x * length);
        shares[axis] = if variance > 0.0 { value.max(0.0) / variance } else { 0.0 };
    }
    (places, shares)
}

/// How t-SNE is computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tsne {
    /// The number of neighbours that a point has, as 2 to the power of the entropy of their distribution.
    pub perplexity: f64,
    /// Steps of gradient descent.
    pub steps: usize,
    /// Its learning rate.
    pub learning_rate: f64,
}

impl Default for Tsne {
    /// As in the paper (section VI-B).
    fn default() -> Self {
        Self { perplexity: 10.0, steps: 3000, learning_rate: 10.0 }
    }
}

impl Tsne {
    /// The largest perplexity of so many points: a third of the others, beyond which all are neighbours of all (van der Maaten
    /// 2014, section 5.1, takes three times the perplexity as neighbours).
    pub fn most_perplexity(points: usize) -> f64 {
        points.saturating_sub(1) as f64 / 3.0
    }

    /// t-distributed stochastic neighbour embedding (van der Maaten and Hinton 2008, J. Mach. Learn. Res. 9), all pairs exactly, of at
    /// least four points. It begins with the first principal components, small, instead of random places, so that the same points
    /// have the same map; 50 steps of early exaggeration by 4, momentum 0.5 and from step 250 on 0.8, and a gain for each coordinate,
    /// all as there. Returns the places and the Kullback-Leibler divergence in nats.
    pub fn run(&self, points: &[Vec<f64>]) -> (Vec<Place>, f64) {
        const EXAGGERATION: (usize, f64) = (50, 4.0);
        const MOMENTUM: (usize, f64, f64) = (250, 0.5, 0.8);
        let n = points.len();
        let p = self.affinities(points);
        let (mut y, _) = principal_components(points);
        let spread = (y.iter().map(|place| place[0] * place[0]).sum::<f64>() / n as f64).sqrt().max(1e-300);
        y.iter_mut().flatten().for_each(|x| *x *= 1e-4 / spread);
        let mut velocity = vec![[0.0; 2]; n];
        let mut gains = vec![[1.0_f64; 2]; n];
        for step in 0..self.steps {
            let exaggeration = if step < EXAGGERATION.0 { EXAGGERATION.1 } else { 1.0 };
            let momentum = if step < MOMENTUM.0 { MOMENTUM.1 } else { MOMENTUM.2 };
            let (q, kernel) = similarities(&y);
            for i in 0..n {
                let mut gradient = [0.0; 2];
                for j in 0..n {
                    let force = 4.0 * (exaggeration * p[i * n + j] - q[i * n + j]) * kernel[i * n + j];
                    (0..2).for_each(|axis| gradient[axis] += force * (y[i][axis] - y[j][axis]));
                }
                for axis in 0..2 {
                    let gain = &mut gains[i][axis];
                    let turned = (gradient[axis] > 0.0) != (velocity[i][axis] > 0.0);
                    *gain = if turned { *gain + 0.2 } else { (*gain * 0.8).max(0.01) };
                    velocity[i][axis] = momentum * velocity[i][axis] - self.learning_rate * *gain * gradient[axis];
                }
            }
            for (place, velocity) in y.iter_mut().zip(&velocity) {
                (0..2).for_each(|axis| place[axis] += velocity[axis]);
            }
            for axis in 0..2 {
                let mean = y.iter().map(|place| place[axis]).sum::<f64>() / n as f64;
                y.iter_mut().for_each(|place| place[axis] -= mean);
            }
        }
        let (q, _) = similarities(&y);
        let divergence = p.iter().zip(&q).filter(|(p, _)| **p > 0.0).map(|(p, q)| p * (p / q).ln()).sum();
        (y, divergence)
    }

    /// Symmetric probabilities of all pairs, `[n, n]`: those of a Gaussian around each point that is as wide as the perplexity asks
    /// for.
    fn affinities(&self, points: &[Vec<f64>]) -> Vec<f64> {
        let n = points.len();
        let wanted = self.perplexity.ln();
        let mut conditional = vec![0.0; n * n];
        for i in 0..n {
            let squares: Vec<f64> = points.iter().map(|point| distance(&points[i], point).powi(2)).collect();
            let nearest = (0..n).filter(|&j| j != i).map(|j| squares[j]).fold(f64::INFINITY, f64::min);
            let row = &mut conditional[i * n..][..n];
            let (mut low, mut high, mut precision) = (0.0, f64::INFINITY, 1.0);
            for _ in 0..200 {
                // Less the nearest's, so that not all exponentials are 0.
                let weight = |j: usize| if j == i { 0.0 } else { (-precision * (squares[j] - nearest)).exp() };
                row.iter_mut().enumerate().for_each(|(j, p)| *p = weight(j));
                let sum: f64 = row.iter().sum();
                row.iter_mut().for_each(|p| *p /= sum);
                let entropy: f64 = -row.iter().filter(|p| **p > 0.0).map(|p| p * p.ln()).sum::<f64>();
                if (entropy - wanted).abs() < 1e-10 {
                    break;
                }
                if entropy > wanted {
                    low = precision
                } else {
                    high = precision
                }
                precision = if high.is_finite() { (low + high) / 2.0 } else { precision * 2.0 };
            }
        }
        (0..n * n).map(|at| (conditional[at] + conditional[at % n * n + at / n]) / (2 * n) as f64).collect()
    }
}

/// The distance of two points.
pub(super) fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

/// Student's t with one degree of freedom of all pairs, `[n, n]`: as probabilities, and before they are divided by their sum.
fn similarities(y: &[Place]) -> (Vec<f64>, Vec<f64>) {
    let n = y.len();
    let of = |i: usize, j: usize| if i == j { 0.0 } else { 1.0 / (1.0 + distance(&y[i], &y[j]).powi(2)) };
    let kernel: Vec<f64> = (0..n * n).map(|at| of(at / n, at % n)).collect();
    let sum: f64 = kernel.iter().sum();
    (kernel.iter().map(|k| (k / sum).max(1e-300)).collect(), kernel)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two clusters of five in six dimensions.
    fn clusters() -> Vec<Vec<f64>> {
        let point = |i: usize| (0..6).map(|k| (i / 5 * 10) as f64 + ((i * 7 + k * 3) % 5) as f64 * 0.1).collect();
        (0..10).map(point).collect()
    }

    #[test]
    fn principal_components_keep_what_varies() {
        // On a line of direction (3, 4, 0), with a little across.
        let points: Vec<Vec<f64>> =
            [-2.0, -1.0, 0.0, 3.0].map(|t| vec![3.0 * t + 7.0, 4.0 * t - 1.0, 2.0]).into_iter().collect();
        let (places, shares) = principal_components(&points);
        for (place, t) in places.iter().zip([-2.0, -1.0, 0.0, 3.0]) {
            assert!((place[0] - 5.0 * t).abs() < 1e-9 && place[1].abs() < 1e-6, "{place:?}");
        }
        assert!((shares[0] - 1.0).abs() < 1e-12 && shares[1].abs() < 1e-12);
        let (places, shares) = principal_components(&[vec![1.0, 2.0], vec![1.0, 2.0]]);
        assert_eq!((places, shares), (vec![[0.0; 2]; 2], [0.0; 2]));
    }

    #[test]
    fn affinities_have_the_perplexity_that_was_asked_for() {
        let points = clusters();
        let tsne = Tsne { perplexity: 2.5, ..Tsne::default() };
        let p = tsne.affinities(&points);
        assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!((0..10).all(|i| p[i * 10 + i] == 0.0 && (0..10).all(|j| p[i * 10 + j] == p[j * 10 + i])));
        let across: f64 = (0..100).filter(|at| at / 10 / 5 != at % 10 / 5).map(|at| p[at]).sum();
        assert!(across < 1e-12, "{across}");
    }

    #[test]
    fn clusters_stay_apart_and_near_points_near() {
        let points = clusters();
        let (places, divergence) = Tsne { perplexity: 3.0, ..Tsne::default() }.run(&points);
        let mean = |pairs: &dyn Fn(usize, usize) -> bool| {
            let all: Vec<f64> = (0..100)
                .filter(|at| at / 10 < at % 10 && pairs(at / 10, at % 10))
                .map(|at| distance(&places[at / 10], &places[at % 10]))
                .collect();
            all.iter().sum::<f64>() / all.len() as f64
        };
        let (within, across) = (mean(&|i, j| i / 5 == j / 5), mean(&|i, j| i / 5 != j / 5));
        assert!(across > 5.0 * within, "{within} {across}");
        assert!(divergence.is_finite() && divergence < 0.5, "{divergence}");
        assert_eq!(Tsne { perplexity: 3.0, ..Tsne::default() }.run(&points), (places, divergence));
    }
}
