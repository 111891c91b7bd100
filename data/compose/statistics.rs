//! Figures by which the genres differ, as a table for the README.

use super::score::Score;
use super::theory::{BAR, Key};
use std::fmt::Write as _;

/// Sums over pieces; the shares are made from them at the end.
#[derive(Clone, Copy, Default)]
struct Sums {
    pieces: usize,
    bars: i32,
    notes: i32,
    velocity: f64,
    /// Standard deviation of the velocities within a piece, summed over pieces.
    deviation: f64,
    sounding: i32,
    silent: i32,
    chromatic: i32,
    repeated: i32,
}

/// A row for each composer and each genre. Silent steps have no note sounding; chromatic notes lie outside the scale of
/// the piece's home key, in minor with the raised sixth and seventh degrees counted in; re-attacks follow a note of the
/// same pitch without a gap.
pub fn table(composers: &[(&str, &str, Vec<Score>)]) -> String {
    let mut text = String::from(
        "| genre | composer | pieces | bars | notes | mean velocity | std of velocity | mean polyphony | silent steps \
         | chromatic notes | re-attacks |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for genre in composers.chunk_by(|a, b| a.0 == b.0) {
        let mut all = Sums::default();
        for (name, composer, scores) in genre {
            let mut own = Sums::default();
            for score in scores {
                add(&mut own, score);
                add(&mut all, score);
            }
            row(&mut text, name, composer, own);
        }
        row(&mut text, genre[0].0, "both", all);
    }
    text
}

fn add(sums: &mut Sums, score: &Score) {
    let notes: Vec<_> = score.notes().collect();
    let count = notes.len() as f64;
    let mean = notes.iter().map(|n| f64::from(n.1)).sum::<f64>() / count;
    let variance = notes.iter().map(|n| (f64::from(n.1) - mean).powi(2)).sum::<f64>() / count;
    let sounds = |step: i32| notes.iter().filter(|(n, _)| n.start <= step && step < n.end()).count() as i32;
    let steps: Vec<i32> = (0..score.bars * BAR).map(sounds).collect();
    sums.pieces += 1;
    sums.bars += score.bars;
    sums.notes += notes.len() as i32;
    sums.velocity += mean * count;
    sums.deviation += variance.sqrt();
    sums.sounding += steps.iter().sum::<i32>();
    sums.silent += steps.iter().filter(|&&s| s == 0).count() as i32;
    sums.chromatic += notes.iter().filter(|(n, _)| is_chromatic(score.key, n.pitch)).count() as i32;
    let repeats = |n: &super::line::Note| notes.iter().any(|(m, _)| m.pitch == n.pitch && m.end() == n.start);
    sums.repeated += notes.iter().filter(|(n, _)| repeats(n)).count() as i32;
}

fn is_chromatic(key: Key, pitch: i32) -> bool {
    let above = (pitch - key.tonic).rem_euclid(12);
    let raised = key.is_minor() && matches!(above, 9 | 11);
    !key.scale().contains(&above) && !raised
}

fn row(text: &mut String, genre: &str, composer: &str, sums: Sums) {
    let steps = f64::from(sums.bars * BAR);
    let notes = f64::from(sums.notes);
    let percent = |part: i32, whole: f64| 100.0 * f64::from(part) / whole;
    let _ = writeln!(
        text,
        "| {genre} | {composer} | {} | {} | {} | {:.1} | {:.1} | {:.2} | {:.1} % | {:.1} % | {:.1} % |",
        sums.pieces,
        sums.bars,
        sums.notes,
        sums.velocity / notes,
        sums.deviation / sums.pieces as f64,
        f64::from(sums.sounding) / steps,
        percent(sums.silent, steps),
        percent(sums.chromatic, notes),
        percent(sums.repeated, notes),
    );
}
