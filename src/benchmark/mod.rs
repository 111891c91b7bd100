//! Benchmarks: models on the data of published figures, measured as those were. What a benchmark prints is an exact
//! log-likelihood: a model predicts each note given the lower ones of its time step and all time steps before, so that the
//! product over a piece is the probability of the piece.

use serde::Serialize;

use crate::checkpoint::StopConditions;
use crate::gpu::Device;
use crate::models::{self, CorpusFacts, Loss, Model, losses};
use crate::train::{LAST, Pieces, Prepared, TrainOptions, prepare_pieces};
use crate::{Error, Result};

pub mod bl2012;
mod published;

pub use published::{Convention, PUBLISHED, Published};

/// Validations without a better one after which a run ends, unless it was begun with another number.
const PATIENCE: u64 = 20;

/// A run that can begin, or go on, on the training pieces of a set: only the loss of `play` counts, also in validation, and the
/// test pieces are not looked at. Of the options, those that speak of a corpus are replaced.
///
/// # Errors
/// A model that predicts no likelihood of a note, and as [`crate::train::prepare`].
pub fn prepare(options: TrainOptions, data: &bl2012::Data, device: &Device) -> Result<Prepared> {
    let architecture = models::architecture(options.model.as_deref().unwrap_or(models::DEFAULT))?;
    let preset = models::preset_info(architecture, options.preset.as_deref(), device.capabilities())?;
    let (range, styles) = (data.corpus.range, data.corpus.styles.len());
    let facts = CorpusFacts { lowest: usize::from(range.low()), notes: range.len(), styles };
    let model = models::configure(architecture, preset.name, facts, &options.set)?;
    let pieces = Pieces { corpus: data.corpus.clone(), split: data.split.clone() };
    let begins = !options.out.as_ref().is_some_and(|out| out.join(LAST).exists()) || options.force;
    let budget =
        StopConditions { patience: options.budget.patience.or(begins.then_some(PATIENCE)), ..options.budget.clone() };
    let options = TrainOptions {
        budget,
        data: Some(data.path.clone()),
        loss_weights: losses::alone(model.losses(), play_loss(model.as_ref())?),
        notes: Some(data.corpus.range),
        pedal: false,
        split_seed: Some(data.split.seed),
        whole: true,
        ..options
    };
    prepare_pieces(&options, device, &pieces)
}

/// The log-likelihood of some sequences in nats a time step, summed over the notes, in the two averages that are in use. The
/// first time step of each sequence counts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Likelihood {
    /// The mean over all time steps of all sequences.
    pub pooled: f64,
    /// The mean over the sequences of the mean over each one's time steps.
    pub per_sequence: f64,
    /// Time steps.
    pub steps: usize,
    /// Sequences.
    pub sequences: usize,
}

impl Likelihood {
    /// That of sequences, of each of which the log-likelihood in nats, summed over its time steps, and the number of these is
    /// given. Not a number where there is none.
    pub fn of(sequences: impl IntoIterator<Item = (f64, usize)>) -> Self {
        let (mut nats, mut means, mut steps, mut count) = (0.0, 0.0, 0, 0);
        for (of_one, steps_of_one) in sequences {
            nats += of_one;
            means += of_one / steps_of_one as f64;
            steps += steps_of_one;
            count += 1;
        }
        Self { pooled: nats / steps as f64, per_sequence: means / f64::from(count), steps, sequences: count as usize }
    }
}

/// The loss that is the negative log-likelihood of `play`.
///
/// # Errors
/// The model has none.
pub fn play_loss(model: &dyn Model) -> Result<&'static Loss> {
    let likelihood = model.losses().iter().find(|loss| loss.is_likelihood());
    likelihood.ok_or_else(|| {
        let what = format!("the model {} predicts no likelihood of a note", model.architecture());
        Error::model(what, "take another --model")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_averages_differ_where_lengths_do() {
        let of = |sequences: &[(f64, usize)]| Likelihood::of(sequences.iter().copied());
        let unequal = of(&[(-6.0, 1), (-9.0, 3)]);
        assert_eq!((unequal.pooled, unequal.per_sequence), (-15.0 / 4.0, -(6.0 + 3.0) / 2.0));
        assert_eq!((unequal.steps, unequal.sequences), (4, 2));
        let equal = of(&[(-6.0, 2), (-9.0, 2)]);
        assert_eq!(equal.pooled, equal.per_sequence);
    }
}
