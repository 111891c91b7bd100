//! What a training run is asked to do.

use std::path::PathBuf;
use std::str::FromStr;

use crate::checkpoint::StopConditions;
use crate::models::Precision;
use crate::music::{Bptt, NoteRange};
use crate::{Error, Result};

/// What to do. `None` is the default, or in a resumed run what it was begun with.
#[derive(Clone, Debug, Default)]
pub struct TrainOptions {
    /// The corpus' folder.
    pub data: Option<PathBuf>,
    /// The run's folder: one named by date and preset in `runs` unless given, to resume the newest there.
    pub out: Option<PathBuf>,
    /// Whether to go on with the run in `out`.
    pub resume: ResumeMode,
    /// Replace the run in `out`.
    pub force: bool,
    /// The kind of network, by its name among [`crate::models`]: DeepJ unless given.
    pub model: Option<String>,
    /// Sizes of the network, by name: small ones on the CPU, the paper's on a GPU.
    pub preset: Option<String>,
    /// Fields of the configuration that differ from the preset: name and JSON value.
    pub set: Vec<(String, String)>,
    /// The pitches: the network's own unless given.
    pub notes: Option<NoteRange>,
    /// Whether notes last until the sustain pedal is released.
    pub pedal: bool,
    /// Whether one unusable file of the corpus is an error.
    pub strict: bool,
    /// How training takes windows from the pieces.
    pub bptt: Option<Bptt>,
    /// B, batch slots.
    pub batch: Option<usize>,
    /// T, time steps of a window.
    pub seq: Option<usize>,
    /// The optimiser, by its name among [`crate::nn::optimizer`]: the network's own unless given.
    pub optimizer: Option<String>,
    /// Learning rate.
    pub lr: Option<f64>,
    /// Largest global gradient norm; 0 for no limit.
    pub clip_norm: Option<f64>,
    /// How values are stored while training.
    pub precision: Option<Precision>,
    /// Compute gates again in the backward pass instead of keeping them.
    pub recompute: bool,
    /// Keys of the losses that count in the gradient and in validation ([`Loss::key`](crate::models::Loss::key)): all unless given.
    pub losses: Option<Vec<String>>,
    /// Seed of initial values, orders and dropout masks.
    pub seed: Option<u32>,
    /// Seed of the split into training, validation and test pieces.
    pub split_seed: Option<u64>,
    /// When to stop.
    pub budget: StopConditions,
    /// Updates between validations.
    pub validate_every: Option<u64>,
    /// Updates between checkpoints: as often as validations, unless given.
    pub save_every: Option<u64>,
    /// Bars of the pieces that the program composes at the end. The library only remembers it for a resumed run.
    pub samples: Option<usize>,
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
