//! Checkpoints: a trained model in one safetensors file.
//!
//! Tensors are f32, row-major. A parameter stands under its name with the shape in which the model declares it: a dense
//! or LSTM matrix is `[inputs, outputs]`, the gates of an LSTM are in the order i, f, g, o. A file to resume from also
//! holds the optimiser's buffers, such as Nadam's moments `optimizer.m.<name>` and `optimizer.v.<name>`, after a training of several
//! ranks with sums in f16 what rounding has taken away from these, `owed.<name>`, and the states that the model carries from window to window, such as DeepJ's `state.time.<layer>.h` and `.c`, `[B, N, H]`. The metadata are
//! strings: `format`, `version`, `model`, as JSON `config`, `styles`, `split`, `corpus`, `settings`, `progress`, and `crc32c`, a
//! checksum of all the rest.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::files::{refused, write_whole};
use crate::graph::Param;
use crate::models::Model;
use crate::music::{Split, Styles};
use crate::{Error, Result};

mod builtin;
mod format;
mod metadata;
mod runs;

#[cfg(target_arch = "wasm32")]
pub use builtin::provide_builtin;
pub use builtin::{BUILTIN, LICENCE, is_builtin};
pub use format::{FORMAT, VERSION};
pub use metadata::{Best, CorpusInfo, Progress, Settings, StopConditions};
pub use runs::{RUNS, newest, newest_if_any};

/// The largest file that is read, in bytes; the paper's size takes 15 MB with moments.
const MAX_BYTES: u64 = 4 << 30;

/// What only a resumed training needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resume {
    /// The optimiser's buffers, in its order, laid out as [`Checkpoint::params`].
    pub moments: Vec<Vec<f32>>,
    /// The states that the model carries from window to window, in its order.
    pub states: Vec<Vec<f32>>,
    /// What rounding has taken away from sums of gradients over ranks that travel as f16, laid out as [`Checkpoint::params`]: it is
    /// added to the next.
    pub owed: Option<Vec<f32>>,
}

/// A model with all that was known when it was saved.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The network.
    pub model: Arc<dyn Model>,
    /// The names of its styles.
    pub styles: Styles,
    /// Which pieces were trained on.
    pub split: Split,
    /// The corpus.
    pub corpus: CorpusInfo,
    /// How it was trained.
    pub settings: Settings,
    /// How far.
    pub progress: Progress,
    /// All parameters, laid out as the session's parameter buffer, padding zero.
    pub params: Vec<f32>,
    /// Their running mean, where the training has one ([`Settings::ema`]): from a mean of zeros, see [`Checkpoint::weights`].
    pub mean: Option<Vec<f32>>,
    /// `None` in a file that is only to be used, not to be resumed.
    pub resume: Option<Resume>,
}

impl PartialEq for Checkpoint {
    fn eq(&self, other: &Self) -> bool {
        let Self { model, styles, split, corpus, settings, progress, params, mean, resume } = self;
        **model == *other.model
            && (styles, split, corpus) == (&other.styles, &other.split, &other.corpus)
            && (settings, progress) == (&other.settings, &other.progress)
            && (params, mean, resume) == (&other.params, &other.mean, &other.resume)
    }
}

impl Checkpoint {
    /// What the model computes with: the running mean of the parameters, where there is one, else the parameters.
    pub fn weights(&self) -> Cow<'_, [f32]> {
        let mean = self.settings.ema.zip(self.mean.as_ref());
        mean.map_or(Cow::Borrowed(&self.params), |(decay, mean)| {
            averaged(&self.params, mean, decay, self.progress.schedule.steps)
        })
    }

    /// What others need to compose and evaluate with it: the weights as parameters, without their mean and what training goes on
    /// from.
    #[must_use]
    pub fn weights_alone(&self) -> Self {
        let mut alone = Self { params: self.weights().into_owned(), mean: None, resume: None, ..self.clone() };
        alone.settings.ema = None;
        alone
    }

    /// Writes the file at `path`, whole or not at all: see [`write_whole`].
    ///
    /// # Errors
    /// What the file system refuses; the file that was there before stays.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        write_whole(path.as_ref(), &self.to_bytes()?)
    }

    /// Reads the file at `path` and checks all of it.
    ///
    /// # Errors
    /// A file that cannot be read, is damaged (its content does not have the checksum that it names), is of another format or
    /// version, or in which any name, shape, type or number is not what its own configuration asks for.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let meta = std::fs::metadata(path).map_err(|e| refused(path, "read", &e))?;
        if !meta.is_file() || meta.len() > MAX_BYTES {
            return Err(Error::file(
                path,
                "is no checkpoint file",
                "name a .safetensors file that `train` has written",
            ));
        }
        let bytes = std::fs::read(path).map_err(|e| refused(path, "read", &e))?;
        Self::from_bytes(&bytes).map_err(|e| Error::file(path, e.what, e.remedy))
    }
}

/// The mean of parameters over so many updates, from one that began with zeros (Kingma and Ba 2015, section 3); before the first
/// update the parameters.
pub(crate) fn averaged<'a>(params: &'a [f32], mean: &[f32], decay: f64, updates: u64) -> Cow<'a, [f32]> {
    // As the shader has it.
    let decay = f64::from(decay as f32);
    let share = 1.0 - decay.powf(updates as f64);
    match updates {
        0 => Cow::Borrowed(params),
        _ => mean.iter().map(|&mean| (f64::from(mean) / share) as f32).collect::<Vec<_>>().into(),
    }
}

/// What is in a checkpoint, by parameter: shape and Euclidean norm.
pub fn norms(checkpoint: &Checkpoint) -> BTreeMap<String, (Vec<usize>, f64)> {
    let weights = checkpoint.weights();
    let norm = |p: &Param| {
        let values = &weights[p.view.start..][..p.view.len];
        values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt()
    };
    let params = checkpoint.model.layout().params();
    params.iter().map(|p| (p.name.clone(), (p.shape.clone(), norm(p)))).collect()
}
