//! Distances within two sets and between them (MGEval): Yang & Lerch 2020, "On the evaluation of generative models in music".
//!
//! Each set has the Euclidean distances of a feature between any two of its own, and both have those from any of one to any of
//! the other. Densities of these three are estimated with Gaussian kernels; how much the first two overlap with the third, and
//! how far they diverge from it, says how alike the sets are.

use serde::Serialize;

/// Where densities are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grids {
    /// Both at the same places, from below the smallest distance to above the largest, where both have fallen to nothing.
    #[default]
    Common,
    /// As the program of the authors does: the divergence is that of each density at 1,000 places of its own range, so that it
    /// compares values at different places; the overlap ends at the smallest and largest distance; a pair counts twice.
    Original,
}

/// How a set's own distances compare with those between the sets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Similarity {
    /// The area that both densities cover, 0..=1.
    pub overlap: f64,
    /// The Kullback-Leibler divergence of the distances between the sets from the set's own, in nats.
    pub divergence: f64,
}

/// Mean and sample standard deviation of distances.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The sample standard deviation; none of a single distance.
    pub deviation: Option<f64>,
}

/// The distances of one feature.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Distances {
    /// Those within the generated set.
    pub within_generated: Spread,
    /// Those within the real set.
    pub within_real: Spread,
    /// Those between the sets.
    pub between: Spread,
    /// Of the generated set's own; none where all distances of a kind are alike, so that they have no density.
    pub generated: Option<Similarity>,
    /// Of the real set's own.
    pub real: Option<Similarity>,
}

/// The most members of a set that are compared; of more, so many at equal distances.
pub const MOST: usize = 1000;

/// The distances of a feature whose values are `generated` and `real`, all of one length; `None` of fewer than two a side.
pub fn distances(generated: &[Vec<f64>], real: &[Vec<f64>], grids: Grids) -> Option<Distances> {
    let [generated, real] = [generated, real].map(thinned);
    if generated.len() < 2 || real.len() < 2 {
        return None;
    }
    let within = |set: &[&Vec<f64>]| {
        let times = if grids == Grids::Original { 2 } else { 1 };
        let pairs = (0..set.len()).flat_map(|i| (0..i).map(move |j| (i, j)));
        pairs.flat_map(|(i, j)| std::iter::repeat_n(euclidean(set[i], set[j]), times)).collect::<Vec<f64>>()
    };
    let (of_generated, of_real) = (within(&generated), within(&real));
    let between: Vec<f64> = generated.iter().flat_map(|a| real.iter().map(|b| euclidean(a, b))).collect();
    let [generated, real, inter] = [&of_generated, &of_real, &between].map(|values| Density::new(values));
    let similarity = |own: &Option<Density>| Some(own.as_ref()?.similarity(inter.as_ref()?, grids));
    Some(Distances {
        within_generated: Spread::of(&of_generated),
        within_real: Spread::of(&of_real),
        between: Spread::of(&between),
        generated: similarity(&generated),
        real: similarity(&real),
    })
}

fn thinned(set: &[Vec<f64>]) -> Vec<&Vec<f64>> {
    let count = set.len().min(MOST);
    (0..count).map(|i| &set[i * set.len() / count]).collect()
}

fn euclidean(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

impl Spread {
    /// Of `values`, at least one.
    fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Self { mean, deviation: (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt()) }
    }
}

/// A density estimated with Gaussian kernels, whose width follows Scott's rule (1992): the sample standard deviation times the
/// number of values to the power of -1/5.
#[derive(Clone, Debug)]
pub struct Density {
    /// Ascending.
    points: Vec<f64>,
    /// Sum to 1.
    weights: Vec<f64>,
    /// From each point to the next, in bandwidths, where they are at equal distances.
    spacing: Option<f64>,
    bandwidth: f64,
}

/// Kernels end so many bandwidths from their middle, where they are 1e-14 of it.
const REACH: f64 = 8.0;

/// More values than this are put on places at equal distances, each on the nearest two in proportion (linear binning; Wand 1994).
const EXACT: usize = 1000;

/// Such places a bandwidth: the density changes by less than a thousandth of it.
const BINS: f64 = 20.0;

/// What a density is at least, so that a divergence is finite.
const FLOOR: f64 = f64::MIN_POSITIVE;

/// Places at which the authors' program evaluates a density.
const PLACES: usize = 1000;

impl Density {
    /// Of `values`; `None` of fewer than two, or where all are alike.
    pub fn new(values: &[f64]) -> Option<Self> {
        let deviation = if values.len() > 1 { Spread::of(values).deviation? } else { 0.0 };
        let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(low, high), x| (low.min(*x), high.max(*x)));
        let bandwidth = deviation * (values.len() as f64).powf(-0.2);
        // What rounding leaves of equal values is no spread.
        if bandwidth.is_nan() || bandwidth <= 1e-12 * high.abs().max(low.abs()) {
            return None;
        }
        let part = 1.0 / values.len() as f64;
        if values.len() <= EXACT {
            let weights = vec![part; values.len()];
            return Some(Self { points: crate::statistics::sorted(values), weights, spacing: None, bandwidth });
        }
        // All of so many values lie within 32 standard deviations, unless a few are very odd: then bins are wider.
        let intervals = (BINS * (high - low) / bandwidth).ceil().min(65_536.0) as usize;
        let width = (high - low) / intervals as f64;
        let mut weights = vec![0.0; intervals + 1];
        for value in values {
            let place = (value - low) / width;
            let bin = (place as usize).min(intervals - 1);
            weights[bin] += part * (1.0 - (place - bin as f64));
            weights[bin + 1] += part * (place - bin as f64);
        }
        let points = (0..=intervals).map(|bin| low + bin as f64 * width).collect();
        Some(Self { points, weights, spacing: Some(width / bandwidth), bandwidth })
    }

    /// The smallest and the largest value.
    pub fn ends(&self) -> (f64, f64) {
        (self.points[0], self.points[self.points.len() - 1])
    }

    /// At `x`.
    pub fn at(&self, x: f64) -> f64 {
        // The nearest points count however far they are, for the logarithm of what is next to nothing.
        let near = self.points.partition_point(|point| *point < x);
        let from = self.points.partition_point(|point| *point < x - REACH * self.bandwidth).min(near.saturating_sub(1));
        let to = self.points.partition_point(|point| *point <= x + REACH * self.bandwidth).max(near + 1);
        let to = to.min(self.points.len());
        let below = self.points[from..near].iter().zip(&self.weights[from..near]).rev();
        let above = self.points[near..to].iter().zip(&self.weights[near..to]);
        let sum = self.kernels(x, below) + self.kernels(x, above);
        sum / (self.bandwidth * (2.0 * std::f64::consts::PI).sqrt())
    }

    /// The sum of kernels, from the nearest point on.
    fn kernels<'a>(&self, x: f64, points: impl Iterator<Item = (&'a f64, &'a f64)>) -> f64 {
        let distance = |point: &f64| (x - point).abs() / self.bandwidth;
        let mut points = points.peekable();
        let Some(spacing) = self.spacing else {
            return points.map(|(point, weight)| weight * (-0.5 * distance(point).powi(2)).exp()).sum();
        };
        // At equal distances each kernel is the one before times a factor, which itself changes by a constant one.
        let first = points.peek().map_or(0.0, |(point, _)| distance(point));
        let (mut kernel, mut factor) = ((-0.5 * first * first).exp(), (-spacing * (first + 0.5 * spacing)).exp());
        let change = (-spacing * spacing).exp();
        let mut sum = 0.0;
        for (_, weight) in points {
            sum += weight * kernel;
            kernel *= factor;
            factor *= change;
        }
        sum
    }

    fn on(&self, grid: &[f64]) -> Vec<f64> {
        grid.iter().map(|x| self.at(*x).max(FLOOR)).collect()
    }

    /// How this density compares with that of the distances between the sets.
    fn similarity(&self, between: &Self, grids: Grids) -> Similarity {
        let ((a, b), (c, d)) = (self.ends(), between.ends());
        let (low, high) = (a.min(c), b.max(d));
        // Two places a bandwidth.
        let narrow = self.bandwidth.min(between.bandwidth);
        let places = |low: f64, high: f64| (2.0 * (high - low) / narrow).clamp(PLACES as f64, 20_000.0) as usize;
        let (own, other, common) = match grids {
            Grids::Common => {
                let wide = 4.0 * self.bandwidth.max(between.bandwidth);
                let (low, high) = (low - wide, high + wide);
                let grid = linspace(low, high, places(low, high));
                (grid.clone(), grid.clone(), grid)
            }
            Grids::Original => {
                // Finer than its quadrature needs to be.
                let common = linspace(low, high, 4 * places(low, high));
                (linspace(a, b, PLACES), linspace(c, d, PLACES), common)
            }
        };
        Similarity {
            overlap: overlap(&self.on(&common), &between.on(&common), common[1] - common[0]),
            divergence: divergence(&self.on(&own), &between.on(&other)),
        }
    }
}

/// `count` numbers at equal distances, both ends among them.
fn linspace(low: f64, high: f64, count: usize) -> Vec<f64> {
    (0..count).map(|i| low + (high - low) * i as f64 / (count - 1) as f64).collect()
}

/// The area below both, by trapezoids of this width.
fn overlap(a: &[f64], b: &[f64], width: f64) -> f64 {
    let lower: Vec<f64> = a.iter().zip(b).map(|(a, b)| a.min(*b)).collect();
    lower.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0 * width).sum()
}

/// Of `b` from `a`, each made to sum to 1, in nats.
fn divergence(a: &[f64], b: &[f64]) -> f64 {
    let (sum_a, sum_b) = (a.iter().sum::<f64>(), b.iter().sum::<f64>());
    a.iter().zip(b).map(|(a, b)| a / sum_a * ((a / sum_a).ln() - (b / sum_b).ln())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GENERATED: [f64; 6] = [0.5, 1.25, 1.0, 3.0, 2.2, 0.1];
    const REAL: [f64; 5] = [2.0, 2.5, 0.7, 4.0, 3.3];

    fn near(value: f64, expected: f64, tolerance: f64) {
        assert!((value - expected).abs() <= tolerance * expected.abs(), "{value}, not {expected}");
    }

    fn of(grids: Grids) -> Distances {
        let [generated, real] =
            [&GENERATED[..], &REAL].map(|set| set.iter().map(|value| vec![*value]).collect::<Vec<_>>());
        distances(&generated, &real, grids).unwrap()
    }

    /// The numbers are those of SciPy 1.16: `stats.gaussian_kde`, `integrate.quad` and `stats.entropy` of the absolute differences
    /// of the pairs. Those of the common grid are at 200,001 places from four bandwidths below the smallest to four above the
    /// largest; those of the original program's grids are its own functions, with each pair twice, as its leave-one-out has it.
    #[test]
    fn overlap_and_divergence_are_those_of_scipy() {
        for (grids, generated, real, tolerance) in [
            (Grids::Common, (0.858_727_018_8, 0.084_090_727_54), (0.888_608_224_3, 0.037_798_507_23), 1e-5),
            (Grids::Original, (0.759_173_564_6, 0.003_095_438_27), (0.802_480_101_8, 0.004_802_035_437), 1e-5),
        ] {
            let found = of(grids);
            for (found, (overlap, divergence)) in [(found.generated, generated), (found.real, real)] {
                let Similarity { overlap: found, divergence: diverges } = found.unwrap();
                near(found, overlap, tolerance);
                near(diverges, divergence, tolerance);
            }
        }
        let found = of(Grids::Common);
        near(found.within_generated.mean, 1.323_333_333, 1e-9);
        near(found.within_generated.deviation.unwrap(), 0.797_511_009, 1e-9);
        near(found.within_real.mean, 1.58, 1e-9);
        near(found.between.mean, 1.581_666_667, 1e-9);
        near(found.between.deviation.unwrap(), 1.063_378_102, 1e-9);
    }

    /// SciPy's `gaussian_kde` of the distances within the generated set.
    #[test]
    fn densities_are_those_of_scipy() {
        let pairs = (0..6).flat_map(|i| (0..i).map(move |j| (GENERATED[i] - GENERATED[j]).abs()));
        let density = Density::new(&pairs.collect::<Vec<_>>()).unwrap();
        for (x, expected) in [
            (-1.0, 2.535_836_95e-3),
            (0.0, 1.702_549_53e-1),
            (0.9, 4.431_838_07e-1),
            (2.5, 1.993_956_28e-1),
            (5.0, 2.072_292_66e-6),
        ] {
            near(density.at(x), expected, 1e-8);
        }
    }

    #[test]
    fn many_values_have_the_density_of_all_of_them() {
        let values: Vec<f64> = (0..20_000).map(|i| (f64::from(i) * 0.618_034).fract().powi(2) * 10.0).collect();
        let binned = Density::new(&values).unwrap();
        assert!(binned.spacing.is_some() && binned.points.len() < values.len());
        for x in [-0.5, 0.0, 0.1, 1.0, 5.0, 9.9, 10.5] {
            let kernel = |value: &f64| (-0.5 * ((x - value) / binned.bandwidth).powi(2)).exp();
            let width = binned.bandwidth * (2.0 * std::f64::consts::PI).sqrt() * values.len() as f64;
            near(binned.at(x), values.iter().map(kernel).sum::<f64>() / width, 1e-3);
        }
    }

    #[test]
    fn a_set_is_like_itself_and_unlike_another() {
        let set = |from: f64| (0..60).map(|i| vec![from + (f64::from(i) * 0.618_034).fract()]).collect::<Vec<_>>();
        let same = distances(&set(0.0), &set(0.0), Grids::Common).unwrap().real.unwrap();
        assert!(same.overlap > 0.95 && same.divergence < 0.01, "{same:?}");
        let far = distances(&set(0.0), &set(50.0), Grids::Common).unwrap().real.unwrap();
        assert!(far.overlap < 1e-6 && far.divergence > 10.0 && far.divergence.is_finite(), "{far:?}");
    }

    #[test]
    fn what_has_no_density_has_no_similarity() {
        let [one, alike, two] = [vec![vec![1.0]], vec![vec![0.1 + 0.2]; 9], vec![vec![1.0], vec![2.0], vec![4.0]]];
        assert_eq!(distances(&one, &two, Grids::Common), None);
        assert_eq!(distances(&two, &[], Grids::Original), None);
        let found = distances(&alike, &two, Grids::Common).unwrap();
        assert!(found.generated.is_none() && found.real.is_some() && found.within_generated.mean == 0.0, "{found:?}");
        assert!(Density::new(&[2.0, 2.0]).is_none() && Density::new(&[2.0]).is_none() && Density::new(&[]).is_none());
    }

    #[test]
    fn large_sets_are_thinned() {
        let set: Vec<Vec<f64>> = (0..2500).map(|i| vec![f64::from(i)]).collect();
        let thin = thinned(&set);
        assert_eq!((thin.len(), thin[0][0], thin[1][0], thin[999][0]), (MOST, 0.0, 2.0, 2497.0));
        assert_eq!(thinned(&set[..7]).len(), 7);
    }
}
