//! What a checkpoint says of the training beside its tensors; JSON in the file's metadata.

use serde::{Deserialize, Serialize};

use crate::models::{LossWeights, PlanOptions, Precision};
use crate::music::levels::Level;
use crate::music::{Bptt, Cursor, FlatDynamics, NoteRange};
use crate::nn::loss_scale::LossScale;
use crate::nn::optimizer::{self, RateSchedule};
use crate::shape::Slots;

/// The corpus that a model was trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusInfo {
    /// The folder as the user gave it; `None` for the corpus within the program.
    pub data: Option<String>,
    /// Changes with the name or content of any piece.
    pub fingerprint: u32,
    /// The pitches.
    pub range: NoteRange,
    /// Whether the sustain pedal was heeded.
    pub pedal: bool,
    /// What was made of the velocities of pieces that have no dynamics of their own.
    #[serde(default, skip_serializing_if = "FlatDynamics::is_learn")]
    pub flat_dynamics: FlatDynamics,
    /// Under what licence weights are that were trained on it, where it is known: that of the weights within the program
    /// ([`LICENCE`](super::LICENCE)) also holds for those that are derived from them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// How dense and how loud the training pieces of each style are; empty in checkpoints from before this was stored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub levels: Vec<Option<Level>>,
}

/// What may not change between the parts of a resumed run, beside the configuration and the corpus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How training takes windows from the pieces.
    pub bptt: Bptt,
    /// B, batch slots.
    pub batch: usize,
    /// T, time steps of a window.
    pub seq: usize,
    /// Seed of initial values, orders and dropout masks.
    pub seed: u32,
    /// The optimiser with its settings.
    pub optimizer: optimizer::Stored,
    /// How the optimiser's learning rate changes; not at all in checkpoints from before this was stored.
    #[serde(default, skip_serializing_if = "RateSchedule::is_constant")]
    pub rate: RateSchedule,
    /// In how many parts an update's batch is computed, one after the other, where it is said; see [`Settings::parts`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accumulate: Option<usize>,
    /// Decay of the running mean of the parameters, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
    /// How values are stored while training.
    #[serde(default)]
    pub precision: Precision,
    /// Whether gates are computed again in the backward pass.
    #[serde(default)]
    pub recompute: bool,
    /// Updates between two validations.
    pub validate_every: u64,
    /// Updates between two checkpoints; as often as validations in checkpoints from before this was stored.
    #[serde(default)]
    pub save_every: Option<u64>,
    /// Bars of the pieces that are composed at the end, where it was said.
    #[serde(default)]
    pub samples: Option<usize>,
    /// How much losses count in the gradient and in the sum that validation compares; once where it is not said.
    #[serde(default, skip_serializing_if = "LossWeights::is_empty")]
    pub loss_weights: LossWeights,
    /// When to stop.
    pub budget: StopConditions,
}

impl Settings {
    /// The parts in which a process computes its slots of a batch, one after the other: as many as was said, or else one on a GPU
    /// and some on the CPU, where that costs next to nothing.
    pub fn parts(&self, own: Slots, on_cpu: bool) -> Vec<Slots> {
        let parts = self.accumulate.unwrap_or(if on_cpu { own.parts_on_cpu() } else { 1 });
        let count = own.count.div_ceil(parts).max(1);
        (0..own.count / count).map(|part| Slots { first: own.first + part * count, count, ..own }).collect()
    }

    /// How the training plan stores values; whether layers run beside each other is for the device to say.
    pub fn plan_options(&self) -> PlanOptions {
        PlanOptions { precision: self.precision, recompute: self.recompute, pairs: false }
    }
}

/// When training stops; `None` does not limit. A resumed run may have others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopConditions {
    /// Updates.
    pub steps: Option<u64>,
    /// Times through the training pieces.
    pub epochs: Option<f64>,
    /// Wall-clock minutes, over all parts of a resumed run.
    pub minutes: Option<f64>,
    /// Validations without a better loss.
    pub patience: Option<u64>,
}

/// The best validation so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// After how many updates.
    pub step: u64,
    /// Its loss.
    pub loss: f64,
    /// Its negative log-likelihood in nats a time step.
    #[serde(rename = "play_nats_per_step")]
    pub nats_per_step: f64,
}

/// How far training has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Updates made.
    pub step: u64,
    /// Times through the training pieces.
    pub epochs: f64,
    /// Seconds spent.
    pub seconds: f64,
    /// The optimiser's schedule.
    pub schedule: optimizer::Schedule,
    /// The loss scale of mixed precision.
    #[serde(default)]
    pub loss_scale: LossScale,
    /// Where the batch sampler stands.
    pub cursor: Cursor,
    /// After how many updates the last validation was made.
    pub validated: Option<u64>,
    /// The best validation so far.
    pub best: Option<Best>,
    /// The device, for people.
    pub device: String,
    /// When this was saved, in seconds since 1970 (UTC); 0 in checkpoints from before this was stored.
    #[serde(default)]
    pub saved: u64,
}

impl Progress {
    /// Before the first update, with the sampler's cursor there.
    pub fn beginning(cursor: Cursor) -> Self {
        Self {
            step: 0,
            epochs: 0.0,
            seconds: 0.0,
            schedule: optimizer::Schedule::default(),
            loss_scale: LossScale::default(),
            cursor,
            validated: None,
            best: None,
            device: String::new(),
            saved: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A resumed run goes on from the very numbers of the run before.
    #[test]
    fn numbers_are_read_as_they_were_written() {
        let cursor = Cursor {
            bptt: Bptt::Windowed,
            seed: 1,
            transpose: 6,
            balance: 0.3,
            epoch: 0,
            taken: 0,
            finished: 0,
            slots: vec![],
        };
        let mut progress = Progress::beginning(cursor);
        for _ in 0..1000 {
            progress.schedule.product *= 0.999_173;
            progress.seconds += 0.1;
            let text = serde_json::to_string(&progress).unwrap();
            assert_eq!(serde_json::from_str::<Progress>(&text).unwrap(), progress);
        }
    }
}
