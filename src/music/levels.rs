//! How dense and how loud the pieces of each style are: what composing aims at where nothing else is wished.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::piece::Piece;
use super::roll::BAR;
use super::stats::RollStats;

/// Means over the pieces of a style, each piece weighing as much as it is long.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Level {
    /// Onsets a bar of 16 time steps.
    pub density: f32,
    /// Notes that sound, over the time steps on which any does.
    pub polyphony: f32,
    /// Velocities of the onsets, over pieces that have dynamics of their own; `None` where no piece has.
    pub velocity: Option<Velocities>,
}

/// The mean velocity of pieces, and by how much it varies within one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Velocities {
    /// Mean, 1..=127.
    pub mean: f32,
    /// Standard deviation within a piece.
    pub deviation: f32,
}

/// Sums over pieces.
#[derive(Clone, Copy, Default)]
struct Sums {
    steps: f64,
    onsets: f64,
    sounding: f64,
    cells: f64,
    /// Onsets of pieces with dynamics; these times their velocity's mean and times its variance.
    velocities: [f64; 3],
}

/// The levels of so many styles from `pieces` of them; `None` for a style without a note.
pub fn levels(pieces: &[Arc<Piece>], styles: usize) -> Vec<Option<Level>> {
    let mut sums: BTreeMap<usize, Sums> = BTreeMap::new();
    for piece in pieces {
        let (stats, sums) = (RollStats::new(&piece.roll), sums.entry(piece.style).or_default());
        let (steps, onsets) = (stats.steps as f64, stats.onsets as f64);
        let sounding = steps * (1.0 - stats.silent_share);
        sums.steps += steps;
        sums.onsets += onsets;
        sums.sounding += sounding;
        sums.cells += sounding * stats.mean_polyphony;
        if !stats.flat_dynamics() {
            let moments = [1.0, stats.mean_velocity, stats.std_velocity.powi(2)];
            sums.velocities.iter_mut().zip(moments).for_each(|(sum, moment)| *sum += onsets * moment);
        }
    }
    let level = |sums: &Sums| {
        let [count, mean, variance] = sums.velocities;
        let velocity = (count > 0.0)
            .then(|| Velocities { mean: (mean / count) as f32, deviation: (variance / count).sqrt() as f32 });
        let density = (sums.onsets / sums.steps * BAR as f64) as f32;
        Level { density, polyphony: (sums.cells / sums.sounding) as f32, velocity }
    };
    (0..styles).map(|style| sums.get(&style).filter(|sums| sums.onsets > 0.0).map(level)).collect()
}

/// The level of a mixture with these weights by style, over those that have one; `None` where none has.
pub fn mixed(levels: &[Option<Level>], weights: &[f32]) -> Option<Level> {
    let of = |value: &dyn Fn(&Level) -> Option<f32>| {
        let known = levels.iter().zip(weights).filter_map(|(level, &w)| Some((value(level.as_ref()?)?, w)));
        let (sum, total) = known.filter(|(_, w)| *w > 0.0).fold((0.0, 0.0), |(s, t), (v, w)| (s + w * v, t + w));
        (total > 0.0).then(|| sum / total)
    };
    let velocity = |value: fn(Velocities) -> f32| of(&|level: &Level| level.velocity.map(value));
    let velocity = velocity(|v| v.mean).zip(velocity(|v| v.deviation));
    Some(Level {
        density: of(&|level| Some(level.density))?,
        polyphony: of(&|level| Some(level.polyphony))?,
        velocity: velocity.map(|(mean, deviation)| Velocities { mean, deviation }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::music::roll::RollNote;
    use crate::music::{NoteRange, Roll};

    fn piece(style: usize, notes: &[(u8, usize, usize)]) -> Arc<Piece> {
        let notes = notes.iter().enumerate().map(|(i, &(velocity, start, end))| RollNote {
            pitch: 40 + i as u8,
            velocity,
            start,
            end,
            replay: false,
        });
        let roll = Roll::from_notes(NoteRange::default(), notes).unwrap();
        Arc::new(Piece { name: String::new(), style, roll, dynamics: true, mean_bpm: 120.0 })
    }

    #[test]
    fn a_style_has_the_means_of_its_pieces() {
        let loud = piece(1, &[(60, 0, 16), (100, 0, 16), (80, 16, 32)]);
        let flat = piece(1, &[(90, 0, 8), (90, 0, 16)]);
        let levels = levels(&[loud, flat], 3);
        assert_eq!((levels[0], levels[2]), (None, None));
        let Level { density, polyphony, velocity } = levels[1].unwrap();
        // Five onsets in three bars; 32 + 16 and 8 + 16 cells on 48 time steps.
        assert_eq!((density, polyphony), (5.0 / 3.0, 72.0 / 48.0));
        // Of the piece that has dynamics alone.
        let Velocities { mean, deviation } = velocity.unwrap();
        assert!(mean == 80.0 && (deviation - (800.0f32 / 3.0).sqrt()).abs() < 1e-3, "{mean} {deviation}");
    }

    #[test]
    fn a_mixture_has_the_means_of_those_that_have_a_level() {
        let level = |density, mean: Option<f32>| {
            let velocity = mean.map(|mean| Velocities { mean, deviation: 10.0 });
            Some(Level { density, polyphony: 2.0, velocity })
        };
        let levels = [level(10.0, Some(60.0)), None, level(20.0, None)];
        let half = mixed(&levels, &[0.25, 0.5, 0.25]).unwrap();
        assert_eq!((half.density, half.velocity.unwrap().mean), (15.0, 60.0));
        assert_eq!(mixed(&levels, &[0.0, 1.0, 0.0]), None);
        assert_eq!(mixed(&levels, &[0.0, 0.0, 1.0]).unwrap().velocity, None);
    }
}
