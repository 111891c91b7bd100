//! What a training run tells the outside.

use std::path::Path;

use serde::Serialize;

use crate::evaluate::Metrics;

/// A run at its beginning.
#[derive(Clone, Debug, PartialEq, Serialize)]
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
    /// Floating-point operations of one update.
    pub flops: u64,
    /// Bytes of device memory for buffers.
    pub memory_bytes: u64,
    /// The part of the budget that is used up, 0 to 1; `None` without a budget.
    pub done: Option<f64>,
    /// What the user should know.
    pub notices: Vec<String>,
}

/// One update.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StepRecord {
    /// Updates made, this one included.
    pub step: u64,
    /// Times through the training pieces.
    pub epochs: f64,
    /// Sum of the three losses.
    pub loss: f64,
    /// Binary cross-entropy of play, mean over the batch's cells, before the update, with dropout.
    pub play_bce: f64,
    /// That of replay.
    pub replay_bce: f64,
    /// Squared error of the dynamics.
    pub dynamics_mse: f64,
    /// Negative log-likelihood of play in nats a time step.
    pub play_nats_per_step: f64,
    /// Euclidean norm of all gradients.
    pub gradient_norm: f64,
    /// The loss scale of the update, in mixed precision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<f32>,
    /// Seconds since the run began, over all its parts.
    pub seconds: f64,
    /// The part of the budget that is used up, 0 to 1; `None` without a budget.
    #[serde(skip)]
    pub done: Option<f64>,
}

/// One validation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
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

/// Is told how training goes. All methods do nothing unless implemented.
pub trait Observer {
    /// Before the first update.
    fn started(&mut self, _: &Started) {}
    /// After each update.
    fn stepped(&mut self, _: &StepRecord) {}
    /// A gradient overflowed f16 after so many updates: the batch was passed over, and the loss scale is now this.
    fn overflowed(&mut self, _step: u64, _scale: f32) {}
    /// While validating: predicted steps and their total.
    fn validating(&mut self, _done: usize, _total: usize) {}
    /// After each validation.
    fn validated(&mut self, _: &ValidationRecord) {}
    /// A checkpoint has been written.
    fn saved(&mut self, _: &Path) {}
}

/// Observes nothing.
impl Observer for () {}
