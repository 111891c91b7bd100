//! What a training run tells the outside.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::evaluate::Metrics;
use crate::models::{Loss, LossValues};

/// A run at its beginning.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Started {
    /// The run's folder.
    pub out: String,
    /// What computes.
    pub device: String,
    /// Parameters of the model.
    pub parameters: usize,
    /// Training pieces.
    pub train_files: usize,
    /// Held-out pieces.
    pub validation_files: usize,
    /// Updates already made, 0 unless resumed.
    pub step: u64,
    /// Floating-point operations of one update, of all ranks together.
    pub flops: u64,
    /// Bytes of device memory for buffers.
    pub memory_bytes: u64,
    /// In how many parts this process computes its batch, one after the other.
    pub parts: usize,
    /// The part of the run's limits that is used up, 0 to 1; `None` without limits.
    pub done: Option<f64>,
    /// What the losses are.
    #[serde(skip)]
    pub losses: &'static [Loss],
    /// What the user should know.
    pub notices: Vec<String>,
}

/// One update.
#[derive(Clone, Debug, PartialEq)]
pub struct UpdateRecord {
    /// Updates made, this one included.
    pub step: u64,
    /// Times through the training pieces.
    pub epochs: f64,
    /// The losses, means over the batch's cells, before the update, with dropout.
    pub losses: LossValues,
    /// Euclidean norm of all gradients.
    pub gradient_norm: f64,
    /// The learning rate.
    pub lr: f64,
    /// The loss scale of the update, in mixed precision.
    pub loss_scale: Option<f32>,
    /// Seconds since the run began, over all its parts.
    pub seconds: f64,
    /// The part of the run's limits that is used up, 0 to 1; `None` without limits. Not in files.
    pub done: Option<f64>,
    /// What the update took where several ranks made it together. Not in files.
    pub ranks: Option<Box<RanksRecord>>,
}

/// What an update of several ranks took, in seconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RanksRecord {
    /// This rank, from the batch to the update.
    pub seconds: f64,
    /// This rank, waiting for others: for sums that are under way, and for ranks that are slower.
    pub waited: f64,
    /// Bytes that this rank sent.
    pub bytes: u64,
    /// The rank that computed longest in the update before.
    pub slowest: usize,
    /// That rank, without waiting.
    pub slowest_seconds: f64,
    /// All ranks on average, without waiting.
    pub mean_seconds: f64,
}

/// A flat JSON object: `step`, `epochs`, `loss` (the sum), each loss, nats a time step, `gradient_norm`, `lr`, `loss_scale` in mixed
/// precision, `seconds`.
impl Serialize for UpdateRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("step", &self.step)?;
        map.serialize_entry("epochs", &self.epochs)?;
        map.serialize_entry("loss", &self.losses.total())?;
        self.losses.serialize_each(&mut map)?;
        self.losses.serialize_nats(&mut map)?;
        map.serialize_entry("gradient_norm", &self.gradient_norm)?;
        map.serialize_entry("lr", &self.lr)?;
        if let Some(scale) = self.loss_scale {
            map.serialize_entry("loss_scale", &scale)?;
        }
        map.serialize_entry("seconds", &self.seconds)?;
        map.end()
    }
}

/// One validation.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct ValidationRecord {
    /// Updates made.
    pub step: u64,
    /// Times through the training pieces.
    pub epochs: f64,
    /// Losses on the held-out pieces.
    #[serde(flatten)]
    pub metrics: Metrics,
    /// Whether no validation before was as good.
    pub best: bool,
    /// Seconds since the run began.
    pub seconds: f64,
}

/// Is told how training goes, and may ask for a checkpoint. All methods do nothing unless implemented.
pub trait Observer {
    /// Before the first update.
    fn started(&mut self, _: &Started) {}
    /// After each update.
    fn stepped(&mut self, _: &UpdateRecord) {}
    /// A gradient overflowed f16 after so many updates: the batch was passed over, and the loss scale is now this.
    fn overflowed(&mut self, _step: u64, _scale: f32) {}
    /// While validating: predicted steps and their total.
    fn validating(&mut self, _done: usize, _total: usize) {}
    /// After each validation.
    fn validated(&mut self, _: &ValidationRecord) {}
    /// Asked before each update: whether a checkpoint is wanted now, after which training goes on.
    fn wants_checkpoint(&mut self) -> bool {
        false
    }
    /// A checkpoint has been written.
    fn saved(&mut self, _: &Path) {}
    /// Is waited for before each update, so that others have their turn on the one thread that a browser gives.
    fn pause(&mut self) -> Option<Pin<Box<dyn Future<Output = ()>>>> {
        None
    }
}

/// Observes nothing.
impl Observer for () {}
