//! Training: batches in, updates on the device, a learning curve and checkpoints out. [`prepare`] reads and decides, a
//! [`Trainer`] makes updates, [`train`] steps one until a limit is reached.

use std::path::PathBuf;

use serde::{Serialize, Serializer};

use crate::checkpoint::Best;
use crate::files::path_text;

mod alike;
mod among;
mod begin_from;
mod compare;
mod compare_svg;
mod corpus;
mod curve;
mod destination;
mod observer;
mod options;
mod plans;
mod prepare;
mod run;
mod run_files;
mod tensorboard;
mod trainer;

pub use compare::{Comparison, Lines, Over, Run};
pub use compare_svg::draw as draw_curves;
#[cfg(target_arch = "wasm32")]
pub use corpus::provide_corpus;
pub use corpus::{corpus_of, corpus_of_range, read_corpus};
pub(crate) use curve::BESIDE;
pub use curve::NAME as CURVE;
pub use destination::{Destination, SAMPLE};
pub use observer::{Observer, RanksRecord, Started, UpdateRecord, ValidationRecord};
pub use options::{ResumeMode, TrainOptions};
pub(crate) use plans::{Paired, fitting_plan};
pub(crate) use prepare::batch_shape;
pub use prepare::{Pieces, Prepared, prepare, prepare_among, prepare_pieces, prepare_resumed};
pub use run::{check, explain, train, train_and_hold, train_into};
pub use run_files::{BEST, Folder, LAST, Memory, RunFiles};
pub use trainer::{Snapshot, Trainer, Update};

/// Why training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// The number of updates was reached.
    Steps,
    /// The number of epochs was reached.
    Epochs,
    /// The time was up.
    Minutes,
    /// The validation loss had not fallen for long.
    Patience,
    /// The user asked for it.
    Interrupted,
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// Why it ended.
    pub end: End,
    /// Updates made, over all parts.
    pub step: u64,
    /// Times through the training pieces.
    pub epochs: f64,
    /// Seconds, over all parts.
    pub seconds: f64,
    /// The best validation.
    pub best: Option<Best>,
    /// The best checkpoint, where one was written.
    #[serde(serialize_with = "serialize_each")]
    pub best_checkpoint: Option<PathBuf>,
    /// The last checkpoint.
    #[serde(serialize_with = "crate::files::serialize_path")]
    pub last_checkpoint: PathBuf,
}

fn serialize_each<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    path.as_deref().map(path_text).serialize(serializer)
}
