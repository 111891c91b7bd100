//! How often styles are named, with intervals.

use serde::Serialize;

/// One piece: what it is and what it was taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Named {
    /// Its class.
    pub is: usize,
    /// The class it was taken for.
    pub named: usize,
}

/// A share with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// A mean over classes of the share that was named: all classes count alike, however many pieces they have.
    pub share: f64,
    /// The interval of 95 %: 1.96 standard errors of the mean to both sides, within 0 to 1. The variance of a class's share is that of a
    /// proportion with two successes and two failures more, so that one of no or all pieces is not taken for certain (Agresti and
    /// Coull 1998).
    pub interval: [f64; 2],
    /// Pieces.
    pub pieces: usize,
}

/// How often each class was taken for each.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Confusion(pub Vec<Vec<usize>>);

impl Confusion {
    /// That of some pieces, of so many classes.
    pub fn of(pieces: &[Named], classes: usize) -> Self {
        let mut counts = vec![vec![0; classes]; classes];
        pieces.iter().for_each(|piece| counts[piece.is][piece.named] += 1);
        Self(counts)
    }
}

impl Estimate {
    /// That of some pieces; `None` where there is none.
    pub fn of(pieces: &[Named]) -> Option<Self> {
        let classes = pieces.iter().map(|piece| piece.is + 1).max()?;
        let mut counts = vec![(0.0, 0.0); classes];
        for piece in pieces {
            counts[piece.is].0 += f64::from(u8::from(piece.is == piece.named));
            counts[piece.is].1 += 1.0;
        }
        counts.retain(|(_, all)| *all > 0.0);
        let count = counts.len() as f64;
        let share = counts.iter().map(|(hits, all)| hits / all).sum::<f64>() / count;
        let variance = |&(hits, all): &(f64, f64)| {
            let (hits, all) = (hits + 2.0, all + 4.0);
            hits / all * (1.0 - hits / all) / all
        };
        let half = 1.96 * counts.iter().map(variance).sum::<f64>().sqrt() / count;
        Some(Self { share, interval: [(share - half).max(0.0), (share + half).min(1.0)], pieces: pieces.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_means_over_classes() {
        let of = |is: usize, hits: usize, all: usize| {
            (0..all).map(move |i| Named { is, named: if i < hits { is } else { 1 - is } })
        };
        let pieces: Vec<Named> = of(0, 90, 100).chain(of(1, 1, 4)).collect();
        let estimate = Estimate::of(&pieces).unwrap();
        assert!((estimate.share - (0.9 + 0.25) / 2.0).abs() < 1e-12);
        // 92 of 104 and 3 of 8: variances 0.000981 and 0.0293, so that half the interval is 1.96 / 2 * 0.1740.
        let [low, high] = estimate.interval;
        assert!((low - (0.575 - 0.1705)).abs() < 1e-3 && (high - (0.575 + 0.1705)).abs() < 1e-3, "{low} {high}");
        assert_eq!(Confusion::of(&pieces, 2).0, [vec![90, 10], vec![3, 1]]);
        // 22 of 24: a deviation of 0.0564.
        let [low, high] = Estimate::of(&of(0, 20, 20).collect::<Vec<_>>()).unwrap().interval;
        assert!((low - 0.8894).abs() < 1e-3 && high == 1.0, "{low} {high}");
        assert_eq!(Estimate::of(&[]), None);
    }
}
