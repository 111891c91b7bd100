//! Baselines: what models reach that remember next to nothing, to compare a trained model with.

use std::borrow::Borrow;

use serde::Serialize;

use super::piece::Piece;
use super::range::NoteRange;
use super::roll::{Cell, Roll};
use crate::shape::Channel;
use crate::{Error, Result};

/// Of `play` the negative log-likelihood in nats a time step: summed over the N pitches, mean over all time steps of all
/// pieces. Of replay and dynamics losses as a model has them: means over all cells, of which those count that sound.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Baselines {
    /// One probability a pitch.
    pub unigram: f64,
    /// Two probabilities a pitch: of sounding after silence and after sound. The first time step follows silence.
    pub bigram: f64,
    /// The cross-entropy of replay for one probability a pitch of being struck again, given that it sounds.
    pub replay_bce: f64,
    /// The squared error of dynamics for the mean over all notes that sounded on earlier time steps of the piece, before the first of
    /// them that of the training pieces. Only of pieces whose dynamics count ([`Piece::dynamics`]), and 0 where there is none.
    pub dynamics_mse: f64,
    /// Time steps on which the probabilities were counted.
    pub fitted_steps: usize,
    /// Time steps over which the figures are means.
    pub steps: usize,
}

impl Baselines {
    /// Counts the models on `train`, with add-one smoothing, and evaluates them on `held_out`.
    ///
    /// # Errors
    /// Either is empty, or the rolls have different note ranges.
    pub fn measure<P: Borrow<Piece>>(train: &[P], held_out: &[P]) -> Result<Self> {
        let range = common_range(train, held_out)?;
        let fitted = Counts::new(train, range.len());
        let seen = Counts::new(held_out, range.len());
        let nats = |before: &[usize]| -> f64 {
            let pitch = |n: usize| {
                let sum = |counts: &Counts, now: usize| -> f64 {
                    before.iter().map(|&before| counts.0[n][before][now] as f64).sum()
                };
                let fitted = [sum(&fitted, 0) + 1.0, sum(&fitted, 1) + 1.0];
                (0..2).map(|now| -sum(&seen, now) * (fitted[now] / (fitted[0] + fitted[1])).ln()).sum::<f64>()
            };
            (0..range.len()).map(pitch).sum()
        };
        let steps = |pieces: &[P]| pieces.iter().map(|piece| piece.borrow().roll.steps()).sum::<usize>();
        let total = steps(held_out) as f64;
        Ok(Self {
            unigram: nats(&[0, 1]) / total,
            bigram: (nats(&[0]) + nats(&[1])) / total,
            replay_bce: replay(train, held_out, range.len()),
            dynamics_mse: dynamics(train, held_out),
            fitted_steps: steps(train),
            steps: steps(held_out),
        })
    }
}

/// See [`Baselines::replay_bce`].
fn replay<P: Borrow<Piece>>(train: &[P], held_out: &[P], n: usize) -> f64 {
    // By pitch: cells that sound, and those among them that are struck again.
    let counted = |pieces: &[P]| {
        let mut counts = vec![[0.0; 2]; n];
        let rolls = pieces.iter().map(|piece| &piece.borrow().roll);
        for step in rolls.flat_map(|roll| (0..roll.steps()).map(|t| roll.step(t))) {
            for (count, cell) in counts.iter_mut().zip(step).filter(|(_, cell)| cell.play()) {
                count[0] += 1.0;
                count[1] += f64::from(u8::from(cell.replay()));
            }
        }
        counts
    };
    let cells: usize = held_out.iter().map(|piece| piece.borrow().roll.steps() * n).sum();
    let of_pitch = |([all, struck], [seen, seen_struck]): ([f64; 2], [f64; 2])| {
        let p: f64 = (struck + 1.0) / (all + 2.0);
        -(seen_struck * p.ln() + (seen - seen_struck) * (1.0 - p).ln())
    };
    counted(train).into_iter().zip(counted(held_out)).map(of_pitch).sum::<f64>() / cells as f64
}

/// See [`Baselines::dynamics_mse`].
fn dynamics<P: Borrow<Piece>>(train: &[P], held_out: &[P]) -> f64 {
    let sounding = |roll: &Roll, t: usize| -> Vec<f64> {
        let value = |cell: &Cell| f64::from(cell.value(Channel::Dynamics));
        roll.step(t).iter().filter(|cell| cell.play()).map(value).collect()
    };
    let counting = |pieces: &[P]| -> Vec<Roll> {
        pieces.iter().map(Borrow::borrow).filter(|piece| piece.dynamics).map(|piece| piece.roll.clone()).collect()
    };
    let (mut sum, mut count) = (0.0, 0.0);
    for roll in &counting(train) {
        for values in (0..roll.steps()).map(|t| sounding(roll, t)) {
            sum += values.iter().sum::<f64>();
            count += values.len() as f64;
        }
    }
    let usual = if count > 0.0 { sum / count } else { 0.5 };
    let (mut squares, mut cells) = (0.0, 0);
    for roll in &counting(held_out) {
        let (mut sum, mut count) = (0.0, 0.0);
        for values in (0..roll.steps()).map(|t| sounding(roll, t)) {
            let expected = if count > 0.0 { sum / count } else { usual };
            squares += values.iter().map(|value| (value - expected).powi(2)).sum::<f64>();
            sum += values.iter().sum::<f64>();
            count += values.len() as f64;
        }
        cells += roll.steps() * roll.range().len();
    }
    if cells > 0 { squares / cells as f64 } else { 0.0 }
}

/// The pitches of two sets of pieces, of which neither is empty.
fn common_range<P: Borrow<Piece>>(train: &[P], held_out: &[P]) -> Result<NoteRange> {
    let (Some(first), false) = (train.first(), held_out.is_empty()) else {
        return Err(Error::usage(
            "baselines need at least one training and one held-out piece",
            "give a corpus with two or more pieces of some composer",
        ));
    };
    let range = first.borrow().roll.range();
    if train.iter().chain(held_out).any(|piece| piece.borrow().roll.range() != range) {
        return Err(Error::model("the pieces have different note ranges", "read them with one range"));
    }
    Ok(range)
}

/// The negative log-likelihood of `play` in nats on each of `held_out`, in their order, summed over all its pitches and time
/// steps, for one probability a pitch that was counted on `train`: (time steps with it + 1) / (time steps + 2). The sum over
/// the pieces, by their time steps, is [`Baselines::unigram`].
///
/// # Errors
/// As [`Baselines::measure`].
pub fn unigram_of_each<P: Borrow<Piece>>(train: &[P], held_out: &[P]) -> Result<Vec<f64>> {
    let n = common_range(train, held_out)?.len();
    let fitted = sounding(train.iter().map(|piece| &piece.borrow().roll), n);
    let steps = train.iter().map(|piece| piece.borrow().roll.steps()).sum::<usize>() as f64;
    let nats = |roll: &Roll| -> f64 {
        let pitches = fitted.iter().zip(sounding([roll].into_iter(), n));
        let pitch = |(&fitted, seen): (&usize, usize)| {
            let p = (fitted as f64 + 1.0) / (steps + 2.0);
            -(seen as f64 * p.ln() + (roll.steps() - seen) as f64 * (1.0 - p).ln())
        };
        pitches.map(pitch).sum()
    };
    Ok(held_out.iter().map(|piece| nats(&piece.borrow().roll)).collect())
}

/// By pitch: the number of time steps on which it sounds.
fn sounding<'a>(rolls: impl Iterator<Item = &'a Roll>, n: usize) -> Vec<usize> {
    let mut counts = vec![0; n];
    for roll in rolls {
        for t in 0..roll.steps() {
            for (count, cell) in counts.iter_mut().zip(roll.step(t)) {
                *count += usize::from(cell.play());
            }
        }
    }
    counts
}

/// By pitch, by `play` on the time step before, by `play`: the number of time steps.
struct Counts(Vec<[[usize; 2]; 2]>);

impl Counts {
    fn new<P: Borrow<Piece>>(pieces: &[P], n: usize) -> Self {
        let mut counts = vec![[[0; 2]; 2]; n];
        for piece in pieces {
            let mut before = vec![0; n];
            for t in 0..piece.borrow().roll.steps() {
                for ((count, before), cell) in counts.iter_mut().zip(&mut before).zip(piece.borrow().roll.step(t)) {
                    let now = usize::from(cell.play());
                    count[*before][now] += 1;
                    *before = now;
                }
            }
        }
        Self(counts)
    }
}
