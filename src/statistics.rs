//! Statistics: of repeated timings, of means, and of shares.

use std::f64::consts::LN_2;

/// The value below which the part `q` of the sorted `values` lies, between two of them in proportion (type 7 of Hyndman &
/// Fan 1996); NaN of none.
pub(crate) fn quantile(sorted: &[f64], q: f64) -> f64 {
    let place = q * sorted.len().saturating_sub(1) as f64;
    match (sorted.get(place.floor() as usize), sorted.get(place.ceil() as usize)) {
        (Some(a), Some(b)) => a + (b - a) * place.fract(),
        _ => f64::NAN,
    }
}

/// The values in ascending order.
pub(crate) fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
}

/// The median; NaN of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    quantile(&sorted(values), 0.5)
}

/// How far the fastest tenth lies below the median, as the standard deviation of normally distributed values that do so.
/// What else a machine does makes runs slower, never faster, so the slow side says little of what is timed.
pub(crate) fn spread(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    (quantile(&sorted, 0.5) - quantile(&sorted, 0.1)) / 1.2816
}

/// Medians of `count` blocks of consecutive values, of each value alone where there are fewer.
pub(crate) fn blocks(values: &[f64], count: usize) -> Vec<f64> {
    let count = count.min(values.len());
    (0..count).map(|i| median(&values[values.len() * i / count..values.len() * (i + 1) / count])).collect()
}

/// Standard error of the median of `n` independent values of this [`spread`].
pub(crate) fn standard_error(spread: f64, n: usize) -> f64 {
    spread * (std::f64::consts::FRAC_PI_2 / n as f64).sqrt()
}

/// Bounds between which the median of what independent `values` are drawn from lies with 95 % confidence at least,
/// whatever its distribution: the innermost order statistics of which that is true (Thompson 1936). `None` of fewer than 6
/// values, whose range does not have that confidence.
pub(crate) fn median_interval(values: &[f64]) -> Option<[f64; 2]> {
    let n = values.len();
    // The chance that `outside` or fewer of n values lie below the median is that of so many heads.
    let (mut heads, mut chance, mut outside) = (0.5f64.powi(n as i32), 0.0, 0);
    while outside < n && 2.0 * (chance + heads) <= 0.05 {
        chance += heads;
        heads *= (n - outside) as f64 / (outside + 1) as f64;
        outside += 1;
    }
    let sorted = sorted(values);
    (outside > 0).then(|| [sorted[outside - 1], sorted[n - outside]])
}

/// Two-sided p of the Mann-Whitney U test (Mann & Whitney 1947; Wilcoxon 1945): the chance that ranks drawn blindly from
/// those of `a` and `b` together differ as much as theirs. Exact, with ties too, by counting all draws (the shift algorithm,
/// Streitberg & Roehmel 1986); meant for some dozens of values. 1 where one side is empty.
pub(crate) fn mann_whitney(a: &[f64], b: &[f64]) -> f64 {
    let all = sorted(&[a, b].concat());
    // Twice the mean rank of equal values, which is whole.
    let rank = |x: f64| all.partition_point(|&y| y < x) + all.partition_point(|&y| y <= x) + 1;
    let sum: usize = a.iter().map(|&x| rank(x)).sum();
    let most: usize = all.iter().map(|&x| rank(x)).sum();
    // draws[k][s]: ways to draw k of the ranks so far that sum to s.
    let mut draws = vec![vec![0.0; most + 1]; a.len() + 1];
    draws[0][0] = 1.0;
    for &x in &all {
        let rank = rank(x);
        for k in (1..=a.len()).rev() {
            let (fewer, more) = draws.split_at_mut(k);
            for s in rank..=most {
                more[0][s] += fewer[k - 1][s - rank];
            }
        }
    }
    let draws = &draws[a.len()];
    let [low, high, total] = [&draws[..=sum], &draws[sum..], &draws[..]].map(|part| part.iter().sum::<f64>());
    (2.0 * low.min(high) / total).min(1.0)
}

/// The smallest p that [`mann_whitney`] can have for so many values without ties: two of all draws.
pub(crate) fn smallest_p(a: usize, b: usize) -> f64 {
    // 2 / binomial(a + b, a)
    (1..=a).fold(2.0, |p, i| p * i as f64 / (b + i) as f64).min(1.0)
}

/// The two-sided 95 % point of Student's t distribution with so many degrees of freedom, at least one.
pub(crate) fn t_95(freedom: usize) -> f64 {
    // It falls from 12.71 to 1.96.
    let (mut low, mut high) = (1.0, 13.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if within_t(middle, freedom) < 0.95 { low = middle } else { high = middle }
    }
    high
}

/// The chance that Student's t lies between -t and t (Abramowitz & Stegun 1964, 26.7.3 and 26.7.4).
fn within_t(t: f64, freedom: usize) -> f64 {
    let angle = (t / (freedom as f64).sqrt()).atan();
    let (sin, cos) = angle.sin_cos();
    let odd = freedom % 2 == 1;
    let (mut power, mut term) = if odd { (1, cos) } else { (0, 1.0) };
    let mut sum = 0.0;
    while power + 2 <= freedom {
        sum += term;
        term *= cos * cos * (power + 1) as f64 / (power + 2) as f64;
        power += 2;
    }
    if odd { (angle + sin * sum) * std::f64::consts::FRAC_2_PI } else { sin * sum }
}

/// Pearson's correlation of pairs; `None` of fewer than three, or where one side does not vary.
pub(crate) fn correlation(pairs: &[(f64, f64)]) -> Option<f64> {
    let count = pairs.len() as f64;
    let mean = |side: fn(&(f64, f64)) -> f64| pairs.iter().map(side).sum::<f64>() / count;
    let (x, y) = (mean(|pair| pair.0), mean(|pair| pair.1));
    let sum = |f: fn(f64, f64) -> f64| pairs.iter().map(|&(a, b)| f(a - x, b - y)).sum::<f64>();
    let (xx, yy) = (sum(|a, _| a * a), sum(|_, b| b * b));
    (pairs.len() > 2 && xx > 0.0 && yy > 0.0).then(|| sum(|a, b| a * b) / (xx * yy).sqrt())
}

/// The mean of `a` less that of `b`, with the bounds between which the difference of the means of what they are drawn from lies with
/// 95 % confidence, if that is normally distributed (Welch 1947, with whole degrees of freedom, rounded down). `None` with fewer than
/// two on a side, or where all on each side are alike, which says nothing of others.
pub(crate) fn welch(a: &[f64], b: &[f64]) -> Option<(f64, [f64; 2])> {
    if a.len() < 2 || b.len() < 2 {
        return None;
    }
    // The mean, and the variance of that.
    let moments = |values: &[f64]| {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        (mean, values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0) / n)
    };
    let ((a_mean, a_variance), (b_mean, b_variance)) = (moments(a), moments(b));
    let (difference, variance) = (a_mean - b_mean, a_variance + b_variance);
    if variance == 0.0 {
        return None;
    }
    let squares = a_variance.powi(2) / (a.len() - 1) as f64 + b_variance.powi(2) / (b.len() - 1) as f64;
    let half = t_95(((variance.powi(2) / squares) as usize).max(1)) * variance.sqrt();
    Some((difference, [difference - half, difference + half]))
}

/// Two-sided p of a normally distributed value `z` standard deviations from its mean.
pub(crate) fn normal_p(z: f64) -> f64 {
    libm::erfc(z.abs() / std::f64::consts::SQRT_2)
}

/// How many standard deviations from the mean a normally distributed value has a two-sided p of `p`: the inverse of
/// [`normal_p`], by halving.
pub(crate) fn normal_z(p: f64) -> f64 {
    let (mut low, mut high) = (0.0, 40.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if normal_p(middle) > p { low = middle } else { high = middle }
    }
    high
}

/// The p of several tests adjusted so that the chance of one false alarm among all of them is what each says (Holm 1979).
pub(crate) fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&i, &j| p[i].total_cmp(&p[j]));
    let (mut adjusted, mut before) = (vec![1.0; p.len()], 0.0f64);
    for (rank, &i) in order.iter().enumerate() {
        before = before.max((p[i] * (p.len() - rank) as f64).min(1.0));
        adjusted[i] = before;
    }
    adjusted
}

/// The bounds between which the chance of what came about in `hits` of `n` independent trials lies with 95 % confidence: the
/// score interval (Wilson 1927, without correction for continuity). From 0 to 1 for no trials.
pub(crate) fn wilson(hits: u64, n: u64) -> [f64; 2] {
    if n == 0 {
        return [0.0, 1.0];
    }
    let (none, all) = (hits == 0, hits >= n);
    let (z, share, n) = (normal_z(0.05), hits as f64 / n as f64, n as f64);
    let square = z * z / n;
    let middle = (share + square / 2.0) / (1.0 + square);
    let half = z / (1.0 + square) * (share * (1.0 - share) / n + square / (4.0 * n)).sqrt();
    // Without the error of rounding at either end.
    [if none { 0.0 } else { middle - half }, if all { 1.0 } else { middle + half }]
}

/// Two-sided p of the exact binomial test against a chance of a half: how likely so many `hits` of `n`, or as many on the other
/// side, or more extreme ones, are for a fair coin. In logarithms, so that it holds for any number of trials.
pub(crate) fn binomial_p(hits: u64, n: u64) -> f64 {
    let fewer = hits.min(n.saturating_sub(hits));
    let factorial = |k: u64| libm::lgamma(k as f64 + 1.0);
    let chance = |k: u64| (factorial(n) - factorial(k) - factorial(n - k) - n as f64 * LN_2).exp();
    (2.0 * (0..=fewer).map(chance).sum::<f64>()).min(1.0)
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq as close;

    use super::*;

    #[test]
    fn t_is_that_of_the_tables() {
        for (freedom, expected) in [
            (1, 12.706),
            (2, 4.303),
            (3, 3.182),
            (4, 2.776),
            (5, 2.571),
            (9, 2.262),
            (10, 2.228),
            (30, 2.042),
            (120, 1.980),
        ] {
            assert!((t_95(freedom) - expected).abs() < 5e-4, "{freedom}: {}", t_95(freedom));
        }
    }

    #[test]
    fn welch_is_that_computed_by_hand() {
        // Means 4 and 1, variances 4 and 1 of three each: a standard error of sqrt(5 / 3) and 25 / (16 / 2 + 1 / 2) = 2.94 degrees of
        // freedom, taken as 2.
        let (mean, [low, high]) = welch(&[2.0, 4.0, 6.0], &[0.0, 1.0, 2.0]).unwrap();
        close!(mean, 3.0);
        close!(high - mean, 4.3027 * (5.0_f64 / 3.0).sqrt(), epsilon = 1e-3);
        close!(mean - low, high - mean, epsilon = 1e-9);
        assert_eq!(welch(&[1.0, 1.0], &[3.0, 3.0]), None);
        assert_eq!(welch(&[1.0], &[3.0, 3.0]), None);
    }

    #[test]
    fn quantiles_and_blocks_are_what_they_say() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
        assert_eq!(quantile(&[0.0, 1.0, 2.0, 3.0, 4.0], 0.25), 1.0);
        assert_eq!(quantile(&[0.0, 10.0], 0.75), 7.5);
        // A tenth of normally distributed values lies 1.2816 standard deviations below their mean, whatever is above it.
        close!(spread(&[-1.2816, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 9.0, 9.0, 9.0]), 0.0);
        close!(spread(&[-9.0, -1.2816, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 9.0, 9.0, 9.0]), 1.0, epsilon = 1e-12);
        assert_eq!(blocks(&[1.0, 2.0, 3.0, 10.0, 20.0, 30.0], 2), [2.0, 20.0]);
        assert_eq!(blocks(&[1.0, 2.0, 3.0, 4.0, 5.0], 2), [1.5, 4.0]);
        assert_eq!(blocks(&[1.0, 2.0], 10), [1.0, 2.0]);
        close!(standard_error(2.0, 100), 0.2 * 1.2533, epsilon = 1e-4);
    }

    #[test]
    fn intervals_of_the_median_are_the_published_ones() {
        // Ranks of the 95 % interval, as in Conover, Practical Nonparametric Statistics: 10: 2 and 9, 20: 6 and 15.
        let of = |n: usize| median_interval(&(1..=n).map(|i| i as f64).collect::<Vec<_>>());
        assert_eq!(
            [5, 6, 8, 9, 10, 20].map(of),
            [None, Some([1.0, 6.0]), Some([1.0, 8.0]), Some([2.0, 8.0]), Some([2.0, 9.0]), Some([6.0, 15.0])]
        );
        assert_eq!(median_interval(&[]), None);
    }

    /// Two samples of `n` and `m` values, all different, whose U is `u`.
    fn with_u(n: usize, m: usize, u: usize) -> (Vec<f64>, Vec<f64>) {
        // Value i of the first is above as many of the second as are left of `u`.
        let a = (0..n).map(|i| u.saturating_sub((n - 1 - i) * m).min(m) as f64 + 0.5 + 0.01 * i as f64).collect();
        (a, (1..=m).map(|i| i as f64).collect())
    }

    #[test]
    fn mann_whitney_has_the_published_critical_values() {
        // The largest U that is significant at 5 % and at 1 %, two-sided, from the tables that follow Mann & Whitney 1947.
        let table = [
            (4, 4, Some(0), None),
            (5, 5, Some(2), Some(0)),
            (6, 6, Some(5), Some(2)),
            (7, 7, Some(8), Some(4)),
            (8, 8, Some(13), Some(7)),
            (9, 9, Some(17), Some(11)),
            (10, 10, Some(23), Some(16)),
            (5, 10, Some(8), Some(4)),
            (8, 10, Some(17), Some(11)),
            (3, 3, None, None),
        ];
        for (n, m, five, one) in table {
            for (level, critical) in [(0.05, five), (0.01, one)] {
                let p = |u: usize| {
                    let (a, b) = with_u(n, m, u);
                    let below: usize = a.iter().map(|x| b.iter().filter(|y| *y < x).count()).sum();
                    assert_eq!(below, u);
                    assert_eq!(mann_whitney(&a, &b), mann_whitney(&b, &a));
                    mann_whitney(&a, &b)
                };
                let significant = (0..=n * m / 2).take_while(|&u| p(u) <= level).last();
                assert_eq!(significant, critical, "{n} and {m} at {level}");
            }
            close!(smallest_p(n, m), mann_whitney(&with_u(n, m, 0).0, &with_u(n, m, 0).1), epsilon = 1e-12);
        }
    }

    #[test]
    fn mann_whitney_counts_ties_exactly() {
        // 1 1 | 1 2: 6 draws of 2; the first has twice the mean ranks 4, 4 of 4, 4, 4, 8: sums 8 (3 draws), 12 (3 draws).
        assert_eq!(mann_whitney(&[1.0, 1.0], &[1.0, 2.0]), 1.0);
        // 1 1 1 | 2 2 2: of 20 draws one is as low, one as high.
        close!(mann_whitney(&[1.0; 3], &[2.0; 3]), 0.1);
        assert_eq!(mann_whitney(&[1.0; 9], &[1.0; 9]), 1.0);
        assert_eq!(mann_whitney(&[], &[1.0]), 1.0);
    }

    #[test]
    fn normal_p_and_z_are_inverse() {
        close!(normal_p(1.959963984540054), 0.05, epsilon = 1e-9);
        close!(normal_z(0.05), 1.959963984540054, epsilon = 1e-9);
        close!(normal_z(0.001), 3.290526731491926, epsilon = 1e-9);
    }

    #[test]
    fn holm_is_the_worked_example() {
        let adjusted = holm(&[0.01, 0.04, 0.03, 0.005]);
        for (found, wanted) in adjusted.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            close!(*found, wanted, epsilon = 1e-12);
        }
        assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
    }
    #[test]
    fn wilson_intervals_are_the_published_ones() {
        // Newcombe 1998, Table I, method 3; and by hand for the 210 of 300 of docs/SURVEY.md.
        for (hits, n, low, high) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
            (210, 300, 0.6459, 0.7491),
        ] {
            let [a, b] = wilson(hits, n);
            assert!((a - low).abs() < 6e-5 && (b - high).abs() < 6e-5, "{hits} of {n}: {a} {b}");
            let [c, d] = wilson(n - hits, n);
            assert!((1.0 - d - a).abs() < 1e-12 && (1.0 - c - b).abs() < 1e-12, "the other way round");
        }
        assert_eq!(wilson(0, 0), [0.0, 1.0]);
    }

    #[test]
    fn binomial_p_is_exact() {
        // 2 (1 + 10 + 45) / 1024, and so on; the larger ones summed as whole numbers.
        for (hits, n, p) in [
            (8, 10, 0.109375),
            (9, 10, 0.021484375),
            (5, 5, 0.0625),
            (5, 10, 1.0),
            (12, 15, 0.03515625),
            (0, 0, 1.0),
            (501, 1000, 0.9747749818216392),
            (600, 1000, 2.7284641560660184e-10),
            (210, 300, 3.305245854445861e-12),
            (5300, 10_000, 2.0760336959207247e-9),
        ] {
            close!(binomial_p(hits, n), p, max_relative = 1e-9);
            close!(binomial_p(n - hits, n), p, max_relative = 1e-9);
        }
        let far = binomial_p(0, 1_000_000);
        assert!((0.0..1e-300).contains(&far), "{far}");
    }
}
