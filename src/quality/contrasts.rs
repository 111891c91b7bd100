//! How the genres differ from each other, on either side: whether generated baroque pieces are more polyphonic than generated
//! classical ones, as the real ones are.

use std::collections::BTreeSet;

use serde::Serialize;

use super::measures::MEASURES;
use super::sets::Sample;
use crate::statistics::welch;

/// A measure of one genre's pieces beside another's; a piece counts as the mean over its excerpts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Contrast {
    /// The measure's key.
    pub measure: &'static str,
    /// The one genre.
    pub genre: String,
    /// The other one.
    pub against: String,
    /// Between generated pieces; none with fewer than two pieces of a genre for which the measure is defined.
    pub generated: Option<Difference>,
    /// Between real pieces, likewise.
    pub real: Option<Difference>,
}

/// The mean of one set less that of another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The difference.
    pub mean: f64,
    /// Bounds between which it lies with 95 % confidence (Welch's t).
    pub interval: [f64; 2],
}

/// The pieces of a side, and for each the mean of each measure over its excerpts.
pub(super) struct OfPieces<'a> {
    pub samples: &'a [Sample],
    pub means: Vec<Vec<Option<f64>>>,
}

impl OfPieces<'_> {
    fn values(&self, genre: &str, measure: usize) -> Vec<f64> {
        let pieces = self.samples.iter().zip(&self.means);
        let of = pieces.filter(|(sample, _)| sample.genre.as_deref() == Some(genre));
        of.filter_map(|(_, means)| means[measure]).collect()
    }
}

/// Each measure of each pair of genres that there are among the generated pieces.
pub(super) fn contrasts(generated: &OfPieces, real: &OfPieces) -> Vec<Contrast> {
    let genres: BTreeSet<&str> = generated.samples.iter().filter_map(|sample| sample.genre.as_deref()).collect();
    let genres: Vec<&str> = genres.into_iter().collect();
    let mut all = vec![];
    for (i, measure) in MEASURES.iter().enumerate() {
        for (first, genre) in genres.iter().enumerate() {
            for against in &genres[first + 1..] {
                let difference = |side: &OfPieces| {
                    let (mean, interval) = welch(&side.values(genre, i), &side.values(against, i))?;
                    Some(Difference { mean, interval })
                };
                let (generated, real) = (difference(generated), difference(real));
                let (genre, against) = (genre.to_string(), against.to_string());
                all.push(Contrast { measure: measure.key, genre, against, generated, real });
            }
        }
    }
    all
}
