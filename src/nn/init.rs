//! Initial values of parameters, from a seed (docs/MODEL.md, "Initialisation").

use crate::graph::{Init, Layout, Param};
use crate::ops::random::pcg4d;

/// Uniform in (0, 1) from a counter; 53 bits from two words of the hash.
fn uniform(seed: u32, stream: u32, index: u32) -> f64 {
    let [a, b, ..] = pcg4d([index, stream, 0x1417_0001, seed]);
    (((a as u64) << 21 | (b as u64) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

/// Standard normal from a counter (Box & Muller 1958).
fn normal(seed: u32, stream: u32, index: u32) -> f64 {
    let (u, v) = (uniform(seed, stream, 2 * index), uniform(seed, stream, 2 * index + 1));
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// A random orthogonal `n x n` matrix, row by row: Gram-Schmidt, twice for accuracy, on a matrix of normals.
fn orthogonal(n: usize, seed: u32, stream: u32) -> Vec<f64> {
    let mut q: Vec<f64> = (0..n * n).map(|i| normal(seed, stream, i as u32)).collect();
    for i in 0..n {
        let (before, rest) = q.split_at_mut(i * n);
        let row = &mut rest[..n];
        for _ in 0..2 {
            for other in before.chunks_exact(n) {
                let dot: f64 = row.iter().zip(other).map(|(a, b)| a * b).sum();
                row.iter_mut().zip(other).for_each(|(a, b)| *a -= dot * b);
            }
        }
        let norm = row.iter().map(|a| a * a).sum::<f64>().sqrt();
        row.iter_mut().for_each(|a| *a /= norm);
    }
    q
}

/// The values of one parameter; `stream` tells parameters apart.
fn values(param: &Param, seed: u32, stream: u32) -> Vec<f32> {
    let len = param.view.len;
    match param.init {
        Init::Zero => vec![0.0; len],
        Init::Glorot { fan_in, fan_out } => {
            let bound = (6.0 / (fan_in + fan_out) as f64).sqrt();
            (0..len).map(|i| ((2.0 * uniform(seed, stream, i as u32) - 1.0) * bound) as f32).collect()
        }
        Init::ForgetOne => (0..len).map(|i| if i * 4 / len == 1 { 1.0 } else { 0.0 }).collect(),
        Init::OrthogonalGates => {
            let h = param.shape[0];
            let gates: Vec<Vec<f64>> = (0..4).map(|gate| orthogonal(h, seed, stream + ((gate + 1) << 16))).collect();
            (0..len).map(|i| gates[i / h % 4][i / (4 * h) * h + i % h] as f32).collect()
        }
    }
}

/// The initial parameter buffer, with the padding between parameters zero.
///
/// # Examples
///
/// ```
/// use deepj::prelude::*;
///
/// let mut layout = Layout::new();
/// Dense::new(&mut layout, "layer", 2, 4);
/// let values = initialise(&layout, 7);
/// assert_eq!(values.len(), layout.len());
/// assert_eq!(values, initialise(&layout, 7), "the same on every platform");
/// ```
pub fn initialise(layout: &Layout, seed: u32) -> Vec<f32> {
    let mut buffer = vec![0.0; layout.len()];
    for (stream, param) in layout.params().iter().enumerate() {
        buffer[param.view.start..][..param.view.len].copy_from_slice(&values(param, seed, stream as u32));
    }
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gate_blocks_are_orthogonal() {
        let n = 24;
        let q = orthogonal(n, 7, 1);
        for i in 0..n {
            for j in 0..n {
                let dot: f64 = (0..n).map(|k| q[i * n + k] * q[j * n + k]).sum();
                assert!((dot - f64::from(i == j)).abs() < 1e-12, "row {i} times row {j} is {dot}");
            }
        }
    }

    #[test]
    fn uniform_has_the_right_mean_and_variance() {
        let xs: Vec<f64> = (0..100_000).map(|i| uniform(3, 1, i)).collect();
        let mean = xs.iter().sum::<f64>() / xs.len() as f64;
        let variance = xs.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / xs.len() as f64;
        assert!((mean - 0.5).abs() < 0.004 && (variance - 1.0 / 12.0).abs() < 0.001, "{mean} {variance}");
    }
}
