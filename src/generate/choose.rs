//! Choosing among pieces that were composed side by side, and saying why.
//!
//! What is measured of a candidate, and the points that it gives or takes:
//!
//! | | points |
//! |---|---|
//! | it is in the wished key by [`crate::music::key`]'s estimate | 41, 10 times its confidence, 1.5 at most, and 8 times how clearly published profiles agree ([`key::agreement`]) |
//! | it is in another key of the wished mode, from which it is moved | one less than that |
//! | no key is wished | 10 times the confidence of its key, 1.5 at most |
//! | how far its onsets a bar are from what was wished: the absolute logarithm of their ratio | -1 times it |
//! | correlation of its loudness, bar by bar, with the wished curve | 1 times it |
//! | the same of its onsets | 4 times it, and -25 times what it is below 0.8 |
//! | time steps of its longest rest beyond a half note | -0.1 a step |
//! | bars that it shares with a training piece ([`crate::quality::copies`]), where these are at hand | -0.5 a bar |
//! | the largest similarity to a piece that was taken before | -2 times it |
//!
//! Candidates are taken one after the other, each time the one with the most points. The similarity of two pieces is the cosine of
//! how often each pitch class begins on each time step of the bar.

use std::fmt::Write;

use serde::Serialize;

use super::curve::Curve;
use super::steering::{NOMINAL, Wishes};
use crate::music::key;
use crate::music::levels::mixed;
use crate::music::roll::{BAR, RollNote};
use crate::music::{Key, Roll, RollStats};
use crate::statistics::correlation;

/// How one candidate was judged.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    /// Its number among the candidates, from 0.
    pub candidate: usize,
    /// The estimated key, and the correlation with its profile; `None` of a piece without notes.
    pub key: Option<(String, f64)>,
    /// Semitones by which the piece is moved into the wished key.
    pub moved: i8,
    /// Onsets a bar.
    pub density: f64,
    /// Correlation of the mean velocities of its bars with those wished; `None` where none or always the same are wished.
    pub dynamics: Option<f64>,
    /// The same of the onsets of its bars.
    pub onsets: Option<f64>,
    /// Its longest rest in time steps.
    pub rest: usize,
    /// Bars that it shares with a training piece; `None` where nobody looked.
    pub copied: Option<f64>,
    /// The largest similarity to a piece taken before it, 0..=1.
    pub similar: f64,
    /// The sum of the points.
    pub points: f64,
    /// The key by which it is judged and closed.
    #[serde(skip)]
    pub estimate: Option<Key>,
}

impl Judged {
    /// What spoke for it and against it, in words.
    pub fn why(&self) -> String {
        let mut text = String::new();
        if let Some((key, correlation)) = &self.key {
            let _ = write!(text, "{key} ({correlation:.2})");
        }
        if self.moved != 0 {
            let _ = write!(text, ", moved by {:+}", self.moved);
        }
        let _ = write!(text, ", {:.1} onsets a bar", self.density);
        if let Some(dynamics) = self.dynamics {
            let _ = write!(text, ", dynamics {dynamics:+.2}");
        }
        if let Some(onsets) = self.onsets {
            let _ = write!(text, ", density {onsets:+.2}");
        }
        if self.rest > BAR / 2 {
            let _ = write!(text, ", a rest of {} steps", self.rest);
        }
        if let Some(copied) = self.copied {
            let _ = write!(text, ", {copied:.1} bars shared");
        }
        text.trim_start_matches(", ").to_string()
    }
}

/// Judges `rolls`, composed in `styles` (a weight by style each) from time step `given` on, and takes the best `count`, best first.
/// `copied` has the bars that each shares with a training piece, where that is known. All candidates are returned: those
/// taken, then the others.
pub fn choose(
    rolls: &[Roll],
    styles: &[Vec<f32>],
    (wishes, given): (&Wishes, usize),
    copied: Option<&[f64]>,
    count: usize,
) -> (Vec<Judged>, Vec<Judged>) {
    let mut candidates: Vec<(Judged, Vec<f64>)> = rolls
        .iter()
        .enumerate()
        .map(|(i, roll)| {
            let composed = roll.excerpt(given, roll.steps());
            let judged = judged(i, &composed, &styles[i], (wishes, given), copied.map(|copied| copied[i]));
            (judged, rhythm(&composed))
        })
        .collect();
    let mut taken: Vec<(Judged, Vec<f64>)> = vec![];
    while taken.len() < count && !candidates.is_empty() {
        for (judged, rhythm) in &mut candidates {
            let similar = taken.iter().map(|(_, other)| cosine(rhythm, other)).fold(0.0, f64::max);
            judged.points -= 2.0 * (similar - judged.similar);
            judged.similar = similar;
        }
        let points = |i: &usize| candidates[*i].0.points;
        let best = (0..candidates.len()).reduce(|a, b| if points(&b) > points(&a) { b } else { a });
        taken.extend(best.map(|best| candidates.remove(best)));
    }
    let judged = |list: Vec<(Judged, Vec<f64>)>| list.into_iter().map(|(judged, _)| judged).collect();
    (judged(taken), judged(candidates))
}

fn judged(
    candidate: usize,
    composed: &Roll,
    style: &[f32],
    (wishes, given): (&Wishes, usize),
    copied: Option<f64>,
) -> Judged {
    let stats = RollStats::new(composed);
    let notes = composed.notes();
    let estimate = key::estimate(&notes);
    let mut points = 0.0;
    let mut moved = 0;
    if let Some(estimate) = &estimate {
        let sure = estimate.confidence.min(0.15);
        let agreement = key::agreement(&notes, estimate.key);
        match wishes.key.map(|wanted| estimate.key.least_interval(wanted)) {
            None => points += 10.0 * sure,
            Some(Some(0)) => points += 41.0 + 10.0 * sure + 8.0 * agreement,
            // What the given beginning has is not moved.
            Some(Some(interval)) if given == 0 => {
                points += 40.0 + 10.0 * sure + 8.0 * agreement;
                moved = interval;
            }
            Some(_) => {}
        }
    }
    let bars = (stats.steps as f64 / BAR as f64).max(1.0 / BAR as f64);
    let density = stats.onsets as f64 / bars;
    let level = mixed(&wishes.levels, style).map_or(NOMINAL, |level| f64::from(level.density));
    let factor = wishes.density.as_ref().map_or(1.0, |curve| curve.mean(given..given + stats.steps));
    points -= (density.max(0.1) / (level * factor)).ln().abs();
    let loudness = |notes: &[RollNote]| {
        let sum: f64 = notes.iter().map(|note| f64::from(note.velocity)).sum();
        (!notes.is_empty()).then(|| sum / notes.len() as f64)
    };
    let dynamics = followed(composed, given, wishes.dynamics.as_ref(), loudness);
    let onsets = followed(composed, given, wishes.density.as_ref(), |notes| Some(notes.len() as f64));
    points += dynamics.unwrap_or(0.0);
    points += onsets.map_or(0.0, |onsets| 4.0 * onsets - 25.0 * (0.8 - onsets).max(0.0));
    points -= 0.1 * stats.longest_rest.saturating_sub(BAR / 2) as f64;
    points -= 0.5 * copied.unwrap_or(0.0);
    Judged {
        candidate,
        key: estimate.as_ref().map(|estimate| (estimate.key.to_string(), estimate.score(estimate.key))),
        moved,
        density,
        dynamics,
        onsets,
        rest: stats.longest_rest,
        copied,
        similar: 0.0,
        points,
        estimate: estimate.map(|estimate| estimate.key),
    }
}

/// The correlation of a value of the notes of each bar with those that a curve wishes; `None` where it wishes always the same.
fn followed(
    composed: &Roll,
    given: usize,
    curve: Option<&Curve>,
    value: impl Fn(&[RollNote]) -> Option<f64>,
) -> Option<f64> {
    let curve = curve.filter(|curve| !curve.is_constant())?;
    // Sorted by onset, so that each bar's are together.
    let mut notes = composed.notes();
    notes.sort_by_key(|note| note.start);
    let place = |step: usize| notes.partition_point(|note| note.start < step);
    // A last bar that is not whole has fewer onsets.
    let of_bar = |bar: usize| {
        let (from, to) = (bar * BAR, (bar + 1) * BAR);
        let value = value(&notes[place(from)..place(to)])?;
        Some((curve.mean(given + from..given + to), value))
    };
    correlation(&(0..composed.steps() / BAR).filter_map(of_bar).collect::<Vec<_>>())
}

/// How often each pitch class begins on each time step of the bar.
fn rhythm(roll: &Roll) -> Vec<f64> {
    let mut counts = vec![0.0; BAR * 12];
    for note in roll.notes() {
        counts[note.start % BAR * 12 + usize::from(note.pitch % 12)] += 1.0;
    }
    counts
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let norms = (dot(a, a) * dot(b, b)).sqrt();
    if norms > 0.0 { dot(a, b) / norms } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::curve::{Clock, DENSITY, DYNAMICS};
    use crate::music::NoteRange;

    /// Eight bars of a scale from `tonic` up and a chord, `onsets` quarter notes a bar, louder bar by bar by `louder`.
    fn piece(tonic: u8, onsets: usize, louder: i32) -> Roll {
        let scale = [0, 7, 4, 5, 0, 2, 4, 11, 0, 9, 7, 5, 4, 7, 2, 0];
        let notes = (0..8 * onsets).map(|i| RollNote {
            pitch: tonic + scale[i % 16],
            velocity: (60 + louder * (i / onsets) as i32) as u8,
            start: i / onsets * BAR + i % onsets * (BAR / onsets),
            end: i / onsets * BAR + (i % onsets + 1) * (BAR / onsets),
            replay: false,
        });
        Roll::from_notes(NoteRange::default(), notes).unwrap()
    }

    fn best(rolls: &[Roll], wishes: &Wishes, copied: Option<&[f64]>, count: usize) -> Vec<usize> {
        let styles = vec![vec![]; rolls.len()];
        let (taken, others) = choose(rolls, &styles, (wishes, 0), copied, count);
        assert_eq!(taken.len() + others.len(), rolls.len());
        taken.iter().map(|judged| judged.candidate).collect()
    }

    #[test]
    fn what_fits_the_wishes_best_is_taken() {
        let key = Wishes { key: Some("D major".parse().unwrap()), ..Wishes::default() };
        let rolls = [piece(48, 4, 0), piece(50, 4, 0), piece(51, 4, 0)];
        assert_eq!(best(&rolls, &key, None, 1), [1]);
        let (taken, _) = choose(&rolls[..1], &[vec![]], (&key, 0), None, 1);
        assert_eq!((taken[0].moved, taken[0].key.as_ref().unwrap().0.as_str()), (2, "C major"));
        // With a beginning nothing is moved.
        let (taken, _) = choose(&rolls[..1], &[vec![]], (&key, BAR), None, 1);
        assert_eq!(taken[0].moved, 0);

        let clock = Clock { steps: 8 * BAR, seconds: 0.125 };
        let wishes = Wishes { dynamics: Some(Curve::parse("p@0 f@16", DYNAMICS, clock).unwrap()), ..Wishes::default() };
        assert_eq!(best(&[piece(48, 4, -5), piece(48, 4, 5)], &wishes, None, 1), [1]);
        // Denser bar by bar, and as many notes spread evenly.
        let notes = (0..8).flat_map(|bar| (0..=bar).map(move |i| (bar * BAR + i, 60 + 2 * (i % 4) as u8)));
        let rising = notes.map(|(start, pitch)| RollNote { pitch, velocity: 60, start, end: start + 1, replay: false });
        let rising = Roll::from_notes(NoteRange::default(), rising).unwrap().padded(8 * BAR).unwrap();
        let curve = Curve::parse("0.2@1b 1@9b", DENSITY, clock).unwrap();
        let wishes = Wishes { density: Some(curve), ..Wishes::default() };
        assert_eq!(best(&[piece(48, 4, 0), rising], &wishes, None, 1), [1]);
        let dense = Wishes { density: Some(Curve::constant(16.0 / NOMINAL)), ..Wishes::default() };
        assert_eq!(best(&[piece(48, 4, 0), piece(48, 16, 0)], &dense, None, 1), [1]);
        assert_eq!(best(&[piece(48, 4, 0), piece(48, 4, 0)], &Wishes::default(), Some(&[4.0, 1.0]), 1), [1]);
    }

    #[test]
    fn the_second_taken_is_another_piece() {
        let rolls = [piece(48, 8, 0), piece(48, 8, 0), piece(53, 8, 0)];
        assert_eq!(best(&rolls, &Wishes::default(), None, 3)[1], 2);
    }
}
