//! What a training run is asked to do.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value};

use crate::checkpoint::StopConditions;
use crate::gpu::Device;
use crate::models::{self, LossWeights, Precision};
use crate::music::{Augmentation, Bptt, FlatDynamics, NoteRange};
use crate::nn::optimizer::{self, RateCurve, RateSchedule};
use crate::{Error, Result};

/// What to do. `None` is the default, or in a resumed run what it was begun with.
///
/// Read from a file it has the settings of a training, under the names of the flags of `deepj train`; what else there is (folders,
/// seed, limits) is left to the reader.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct TrainOptions {
    /// The corpus' folder.
    #[serde(skip)]
    pub data: Option<PathBuf>,
    /// The run's folder: one named by date and preset in `runs` unless given, to resume the newest there.
    #[serde(skip)]
    pub out: Option<PathBuf>,
    /// Whether to go on with the run in `out`.
    #[serde(skip)]
    pub resume: ResumeMode,
    /// Replace the run in `out`.
    #[serde(skip)]
    pub force: bool,
    /// Whether what is left open is the default also in a run that is gone on with, so that no run is taken that these options would
    /// not have begun.
    #[serde(skip)]
    pub whole: bool,
    /// The kind of network, by its name among [`crate::models`]: DeepJ unless given.
    pub model: Option<String>,
    /// Sizes of the network, by name: small ones on the CPU, the paper's on a GPU.
    pub preset: Option<String>,
    /// Fields of the configuration that differ from the preset: name and JSON value.
    #[serde(deserialize_with = "fields")]
    pub set: Vec<(String, String)>,
    /// The pitches: the network's own unless given.
    pub notes: Option<NoteRange>,
    /// Whether notes last until the sustain pedal is released.
    pub pedal: bool,
    /// What is made of the velocities of pieces that have no dynamics of their own: they are learned like others unless given.
    pub flat_dynamics: Option<FlatDynamics>,
    /// Whether one unusable file of the corpus is an error.
    #[serde(skip)]
    pub strict: bool,
    /// How training takes windows from the pieces.
    pub bptt: Option<Bptt>,
    /// B, batch slots.
    pub batch: Option<usize>,
    /// In how many parts a batch is computed, one after the other, which takes less memory. By default 1 on a GPU; on the
    /// CPU 4, 2 or 1, as many as divide the batch, divided by the number of ranks ([`Settings::parts`](crate::checkpoint::Settings::parts)).
    pub accumulate: Option<usize>,
    /// T, time steps of a window.
    pub seq: Option<usize>,
    /// The optimiser, by its name among [`crate::nn::optimizer`]: the network's own unless given.
    pub optimizer: Option<String>,
    /// Learning rate.
    pub lr: Option<f64>,
    /// Largest global gradient norm; 0 for no limit.
    pub clip_norm: Option<f64>,
    /// How the learning rate changes over the updates: constant unless given.
    pub lr_schedule: Option<RateCurve>,
    /// Updates over which the rate falls (cosine), or from one fall to the next (step).
    pub lr_steps: Option<u64>,
    /// What a fall leaves of the rate: of all of it (cosine), or each of them (step).
    pub lr_factor: Option<f64>,
    /// Updates over which the rate rises from nothing.
    pub warmup: Option<u64>,
    /// The most semitones by which training pieces are transposed, up or down: 0 unless given.
    pub transpose: Option<u8>,
    /// With which power of its length a composer's music takes part in training: 1, as it is in the corpus, unless given; with 0
    /// all composers take part alike.
    pub balance: Option<f64>,
    /// Decay of a running mean of the parameters, which is validated and used in their place: none unless given, or with 0.
    pub ema: Option<f64>,
    /// A checkpoint whose parameters the run begins with, as far as they fit.
    #[serde(skip)]
    pub init: Option<PathBuf>,
    /// How values are stored while training.
    pub precision: Option<Precision>,
    /// Compute gates again in the backward pass instead of keeping them.
    pub recompute: bool,
    /// How much losses count in the gradient and in the sum that validation compares: once unless given.
    #[serde(rename = "loss-weight")]
    pub loss_weights: LossWeights,
    /// Seed of initial values, orders and dropout masks.
    #[serde(skip)]
    pub seed: Option<u32>,
    /// Seed of the split into training, validation and test pieces.
    pub split_seed: Option<u64>,
    /// When to stop.
    #[serde(skip)]
    pub budget: StopConditions,
    /// Updates between validations.
    #[serde(skip)]
    pub validate_every: Option<u64>,
    /// Updates between checkpoints: as often as validations, unless given.
    #[serde(skip)]
    pub save_every: Option<u64>,
    /// Bars of the pieces that the program composes at the end. The library only remembers it for a resumed run.
    #[serde(skip)]
    pub samples: Option<usize>,
}

impl TrainOptions {
    /// The same with all that is left open as a new run has it on this device.
    ///
    /// # Errors
    /// A model, preset or optimiser that there is not, a rate that is not finite, or a schedule that does not say how long it is.
    pub fn complete(&self, device: &Device) -> Result<Self> {
        let architecture = models::architecture(self.model.as_deref().unwrap_or(models::DEFAULT))?;
        let preset = models::preset_info(architecture, self.preset.as_deref(), device.capabilities())?;
        let pitches = architecture.pitches();
        let optimizer = self.optimizer.as_deref().unwrap_or(architecture.optimizer());
        let settings = self.optimizer_settings();
        let settings = optimizer::make(optimizer, settings?)?.settings();
        let number = |name: &str| settings.get(name).and_then(Value::as_f64);
        Ok(Self {
            model: Some(architecture.name().into()),
            preset: Some(preset.name.into()),
            notes: Some(self.notes.map_or_else(|| NoteRange::new(*pitches.start(), *pitches.end()), Ok)?),
            bptt: self.bptt.or(Some(Bptt::Stateful)),
            batch: self.batch.or(Some(preset.batch.0)),
            seq: self.seq.or(Some(preset.batch.1)),
            optimizer: Some(optimizer.into()),
            lr: self.lr.or(number("lr")),
            clip_norm: self.clip_norm.or(number("clip_norm")),
            flat_dynamics: self.flat_dynamics.or(Some(FlatDynamics::default())),
            transpose: self.transpose.or(Some(Augmentation::default().transpose)),
            balance: self.balance.or(Some(Augmentation::default().balance)),
            ema: self.ema.or(Some(0.0)),
            precision: self.precision.or(Some(Precision::default())),
            seed: self.seed.or(Some(0)),
            split_seed: self.split_seed.or(Some(0)),
            ..self.clone()
        })
    }

    /// What is said of the optimiser's settings, as JSON.
    pub(super) fn optimizer_settings(&self) -> Result<Value> {
        let mut settings = Map::new();
        for (name, value) in [("lr", self.lr), ("clip_norm", self.clip_norm)] {
            if let Some(value) = value {
                let number = Number::from_f64(value);
                let finite = || Error::usage(format!("--{} {value}", name.replace('_', "-")), "give a finite number");
                settings.insert(name.into(), Value::Number(number.ok_or_else(finite)?));
            }
        }
        Ok(Value::Object(settings))
    }

    /// The schedule of the learning rate after `from` updates, where one is named, or something of `before` is changed.
    ///
    /// # Errors
    /// A schedule that does not say how long it is, or of which something is said that it has not.
    pub(super) fn rate(&self, before: &RateSchedule, from: u64) -> Result<RateSchedule> {
        if (self.lr_schedule, self.lr_steps, self.lr_factor, self.warmup) == (None, None, None, None) {
            return Ok(*before);
        }
        let curve = self.lr_schedule.unwrap_or(before.curve);
        let before = (curve == before.curve && !before.is_constant()).then_some(before);
        let warmup = self.warmup.or(before.map(|before| before.warmup)).unwrap_or(0);
        let rest = self.budget.steps.map(|steps| steps.saturating_sub(from + warmup));
        let (steps, factor) = match curve {
            RateCurve::Constant => {
                for (flag, given) in
                    [("--lr-steps", self.lr_steps.is_some()), ("--lr-factor", self.lr_factor.is_some())]
                {
                    if given {
                        let what = format!("{flag} says how a learning rate falls, and this one is constant");
                        return Err(Error::usage(what, "add --lr-schedule cosine or step"));
                    }
                }
                (Some(RateSchedule::default().steps), RateSchedule::default().factor)
            }
            RateCurve::Cosine => (self.lr_steps.or(before.map(|before| before.steps)).or(rest), COSINE_FACTOR),
            RateCurve::Step => (self.lr_steps.or(before.map(|before| before.steps)), STEP_FACTOR),
        };
        let factor = self.lr_factor.or(before.map(|before| before.factor)).unwrap_or(factor);
        let said = match curve {
            RateCurve::Cosine => "over how many updates the rate falls: --lr-steps, or --steps",
            RateCurve::Constant | RateCurve::Step => "after how many updates the rate falls: --lr-steps",
        };
        let Some(steps) = steps.filter(|steps| *steps > 0) else {
            return Err(Error::usage(format!("--lr-schedule {}", curve.name()), format!("say {said}")));
        };
        let rate = RateSchedule { curve, steps, factor, warmup, from };
        rate.check().map(|()| rate)
    }
}

/// What cosine leaves of the learning rate unless told otherwise.
const COSINE_FACTOR: f64 = 0.01;
/// What a step leaves of it.
const STEP_FACTOR: f64 = 0.5;

/// Reads fields of a configuration: a text stays one, also where it reads as a number.
fn fields<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<(String, String)>, D::Error> {
    let fields = BTreeMap::<String, Value>::deserialize(deserializer)?;
    Ok(fields.into_iter().map(|(name, value)| (name, value.to_string())).collect())
}

/// Whether a run goes on with one that was saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResumeMode {
    /// It begins.
    #[default]
    Never,
    /// It goes on, and fails where there is nothing to go on with.
    Always,
    /// It goes on where there is something to go on with, and begins where there is not: one line serves a first start and the
    /// next.
    Auto,
}

impl FromStr for ResumeMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "always" => Ok(Self::Always),
            "auto" => Ok(Self::Auto),
            _ => Err(Error::usage(format!("`{text}` is no way to resume"), "leave it out, or use auto")),
        }
    }
}
