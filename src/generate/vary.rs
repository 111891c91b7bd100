//! Variants of a given piece: some bars composed anew between what stands before and what comes after, with one hand kept if wished.
//!
//! The piece is listened to up to the first of these bars. From there many continuations are composed side by side; what comes
//! after is then given to each, note by note, and those are taken for which the network finds it likeliest. That is importance
//! sampling of the bars between, with the likelihood of the next [`LISTENED`] time steps as weight. Where the piece ends with the new
//! bars, those are taken that close it best ([`ending`]).

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use super::ending;
use super::generator::{Forced, Generator};
use super::steering::{NEVER, Steering, Wishes};
use crate::checkpoint::Checkpoint;
use crate::gpu::Device;
use crate::graph::session::KernelSelection;
use crate::models::RollShape;
use crate::music::hands::{self, Hand};
use crate::music::roll::BAR;
use crate::music::{Roll, StylePath, key};
use crate::ops::Uniforms;
use crate::ops::note_sweep::{GIVEN, MIXED};
use crate::{Error, Result};

/// What to compose anew in a piece.
#[derive(Clone, Debug)]
pub struct Variation {
    /// The piece, in the checkpoint's range of pitches.
    pub piece: Roll,
    /// The time steps to compose anew.
    pub steps: Range<usize>,
    /// The style of what is composed.
    pub style: StylePath,
    /// A hand whose notes stay as they are there.
    pub keep: Option<Hand>,
    /// What is wished of the new bars.
    pub wishes: Wishes,
    /// Continuations that are composed.
    pub candidates: usize,
    /// How many variants to take.
    pub count: usize,
    /// Seed of all random draws.
    pub seed: u32,
    /// See [`Composition::temperature`](super::Composition::temperature).
    pub temperature: f32,
}

/// Time steps of what comes after that are listened to.
pub const LISTENED: usize = 2 * BAR;
/// The most continuations.
pub const MAX_CANDIDATES: usize = 1_000;

/// A variant.
#[derive(Clone, Debug)]
pub struct Varied {
    /// The whole piece.
    pub roll: Roll,
    /// Nats of what comes after, a time step: less is likelier; `None` where the piece ends with the new bars.
    pub nats: Option<f64>,
}

/// The variants, best first, and the nats of what comes after the given piece itself; fewer than wished where `stop` was set.
///
/// # Errors
/// Bars that the piece does not have, options out of range, a device that fails.
pub async fn vary(
    checkpoint: &Checkpoint,
    variation: &Variation,
    device: Device,
    selection: KernelSelection,
    stop: &AtomicBool,
    mut progress: impl FnMut(usize),
) -> Result<(Vec<Varied>, Option<f64>)> {
    variation.check(checkpoint)?;
    let Variation { piece, steps, candidates, wishes, .. } = variation;
    let RollShape { beats, channels, .. } = checkpoint.model.roll();
    let range = checkpoint.corpus.range;
    // One more hears the piece as it is.
    let lanes = candidates + 1;
    let mut generator = Generator::new(checkpoint, lanes, beats, device, selection).await?;
    let mut steering = Steering::new(wishes, None, (range, checkpoint.model.roll()), lanes)?;
    if steps.start > 0 {
        steering = steering.within();
    }
    let given = Given::new(piece, variation.keep);
    let end = (steps.end + LISTENED).min(piece.steps());
    let mut values = vec![vec![]; lanes];
    let mut nats = vec![0.0; lanes];
    let (mut done, mut uniforms) =
        (0, Uniforms { seed: variation.seed, temperature: variation.temperature, ..Uniforms::default() });
    while done < end && !stop.load(Ordering::Relaxed) {
        let border = [steps.start, steps.end, end].into_iter().find(|&border| border > done).unwrap_or(end);
        let window = done..border.min((done / beats + 1) * beats);
        let anew = steps.contains(&done);
        let length = (piece.steps() as f64 / beats as f64 - 1.0).max(1.0);
        let styles = vec![variation.style.at(((done / beats) as f64 / length).min(1.0)); lanes];
        uniforms.forced = if done < steps.start { GIVEN } else { MIXED };
        let mut control = steering.control(window.clone(), beats, &styles);
        if anew {
            given.forbid(&mut control, window.clone(), (beats, lanes));
        } else {
            control.fill(0.0);
        }
        generator.control(&control)?;
        let forced = |t: usize, lane: usize, row: &mut [f32]| match anew && lane < *candidates {
            false => piece.write_values(channels, t as i64, row),
            true => given.write(t, channels.len(), row, |row| piece.write_values(channels, t as i64, row)),
        };
        let mut heard = vec![0.0; lanes];
        let forced = Forced { value: &forced, nats: Some(&mut heard) };
        generator.run(window.clone(), Some(forced), &styles, &uniforms, &mut values).await?;
        if anew {
            steering.hear(window.clone(), &values, &styles);
        } else if done >= steps.end {
            nats.iter_mut().zip(&heard).for_each(|(sum, heard)| *sum += heard);
        }
        done = window.end;
        progress(done);
    }
    if done < end {
        return Ok((vec![], None));
    }
    let listened = end - steps.end;
    let a_step = |lane: usize| (listened > 0).then(|| nats[lane] / listened as f64);
    let row = range.len() * channels.len();
    let rest = (end..piece.steps()).flat_map(|t| {
        let mut values = vec![0.0; row];
        piece.write_values(channels, t as i64, &mut values);
        values
    });
    let rest: Vec<f32> = rest.collect();
    let mut varied = vec![];
    for (lane, values) in values.iter().enumerate().take(*candidates) {
        let roll = Roll::from_values(range, channels, &[&values[..], &rest].concat())?;
        varied.push(Varied { roll, nats: a_step(lane) });
    }
    if listened > 0 {
        varied.sort_by(|a, b| a.nats.unwrap_or(0.0).total_cmp(&b.nats.unwrap_or(0.0)));
    } else if let Some(estimate) = key::estimate(&piece.notes()) {
        // Nothing comes after: what closes the piece best.
        let from = steps.start.max(piece.steps().saturating_sub(ending::ANEW));
        let mut closed = vec![];
        for one in varied {
            let close = ending::close(&one.roll, from, estimate.key);
            // Not at the cost of a hand that stays.
            let held = close.filter(|_| variation.keep.is_none());
            let roll = held.map(|close| ending::closed(&one.roll, close)).transpose()?;
            closed.push((close.map_or(0.0, |close| close.score), Varied { roll: roll.unwrap_or(one.roll), ..one }));
        }
        closed.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        varied = closed.into_iter().map(|(_, one)| one).collect();
    }
    varied.truncate(variation.count);
    Ok((varied, a_step(*candidates)))
}

impl Variation {
    /// Whether `checkpoint` can compose it; [`vary`] asks first.
    ///
    /// # Errors
    /// Bars that the piece does not have, or options out of range.
    pub fn check(&self, checkpoint: &Checkpoint) -> Result<()> {
        let (all, Range { start, end }) = (self.piece.steps(), self.steps.clone());
        if start >= end || end > all {
            let bars = |steps: usize| steps as f64 / BAR as f64;
            let what = format!("bars {} to {} of a piece of {} bars", bars(start) + 1.0, bars(end), bars(all));
            return Err(Error::usage(what, "give bars that the piece has, the first before the last"));
        }
        if self.count == 0 || self.count > self.candidates || self.candidates > MAX_CANDIDATES {
            let what = format!("{} variants of {} candidates", self.count, self.candidates);
            return Err(Error::usage(what, format!("compose 1 to {MAX_CANDIDATES}, at least as many as are taken")));
        }
        if !(0.01..=100.0).contains(&self.temperature) {
            let what = format!("a temperature of {}", self.temperature);
            return Err(Error::usage(what, "give 0.01 to 100; 1 samples what was learned"));
        }
        if self.piece.range() != checkpoint.corpus.range {
            let what = format!(
                "a piece with the pitches {}, but the model has {}",
                self.piece.range(),
                checkpoint.corpus.range
            );
            return Err(Error::usage(what, "read it in the model's range"));
        }
        Ok(())
    }
}

/// What stays in the bars that are composed anew.
struct Given {
    /// Of each time step, the numbers within the range of the notes that stay, and those on which none may begin: from the first
    /// up to the second.
    kept: Vec<Vec<usize>>,
    taken: Vec<Range<usize>>,
}

impl Given {
    fn new(piece: &Roll, keep: Option<Hand>) -> Self {
        let (low, count) = (piece.range().low(), piece.range().len());
        let mut kept = vec![vec![]; piece.steps()];
        if let Some(keep) = keep {
            let notes = piece.notes();
            for (note, _) in notes.iter().zip(hands::split(&notes)).filter(|(_, hand)| *hand == keep) {
                // With the rests around it: else another note on its pitch would go on in its place, or it itself beyond its end.
                let start = if note.replay { note.start } else { note.start.saturating_sub(1) };
                (start..(note.end + 1).min(kept.len())).for_each(|t| kept[t].push(usize::from(note.pitch - low)));
            }
        }
        // The kept hand has the side of the keyboard beyond its notes of this bar.
        let taken = (0..piece.steps()).map(|t| {
            let bar = &kept[t / BAR * BAR..((t / BAR + 1) * BAR).min(kept.len())];
            let notes = || bar.iter().flatten().copied();
            match keep {
                Some(Hand::Right) => notes().min().unwrap_or(count)..count,
                Some(Hand::Left) => 0..notes().max().map_or(0, |highest| highest + 1),
                None => 0..0,
            }
        });
        let taken = taken.collect();
        Self { kept, taken }
    }

    /// Writes the row of a time step: what stays as `whole` has it, the rest to be drawn.
    fn write(&self, t: usize, channels: usize, row: &mut [f32], whole: impl FnOnce(&mut [f32])) {
        let mut values = row.to_vec();
        whole(&mut values);
        row.fill(0.0);
        row.iter_mut().step_by(channels).for_each(|play| *play = -1.0);
        for &n in &self.kept[t] {
            row[n * channels..][..channels].copy_from_slice(&values[n * channels..][..channels]);
        }
    }

    /// Keeps notes from beginning where the kept hand plays.
    fn forbid(&self, control: &mut [f32], steps: Range<usize>, (window, lanes): (usize, usize)) {
        let row = control.len() / (window * lanes);
        for t in steps {
            for lane in control[t % window * lanes * row..][..lanes * row].chunks_exact_mut(row) {
                lane[self.taken[t].clone()].fill(NEVER);
            }
        }
    }
}
