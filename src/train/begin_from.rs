//! Beginning with the parameters of another run (`--init`): fine-tuning on other pieces, styles or settings.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use super::options::TrainOptions;
use crate::checkpoint::Checkpoint;
use crate::models::{self, Architecture, CorpusFacts, Model};
use crate::music::Styles;
use crate::nn::init;
use crate::{Error, Result};

/// The run that another begins with.
pub struct Origin {
    path: PathBuf,
    checkpoint: Checkpoint,
}

impl Origin {
    /// The one that the options name, and the options with its network and pitches where they leave these open.
    ///
    /// # Errors
    /// A checkpoint that cannot be read, or is of another network than the options ask for.
    pub fn of(options: &TrainOptions) -> Result<(Option<Self>, TrainOptions)> {
        let Some(path) = options.init.clone() else { return Ok((None, options.clone())) };
        let checkpoint = Checkpoint::named(&path)?;
        let (own, wanted) = (checkpoint.model.architecture(), options.model.as_deref());
        if let Some(wanted) = wanted.filter(|wanted| *wanted != own) {
            let what = format!("--init {}: the checkpoint is of the model {own}, not {wanted}", path.display());
            return Err(Error::usage(what, "leave --model out, or take another checkpoint"));
        }
        let options = TrainOptions {
            model: Some(own.into()),
            notes: options.notes.or(Some(checkpoint.corpus.range)),
            ..options.clone()
        };
        Ok((Some(Self { path, checkpoint }), options))
    }

    /// See [`CorpusInfo::licence`](crate::checkpoint::CorpusInfo::licence).
    pub fn licence(&self) -> Option<String> {
        self.checkpoint.corpus.licence.clone()
    }

    /// Its configuration on another corpus.
    fn config(&self, facts: CorpusFacts) -> Result<Value> {
        let config = serde_json::from_str(&self.checkpoint.model.config());
        let mut config: Value =
            config.map_err(|e| Error::file(&self.path, format!("configuration: {e}"), "take another checkpoint"))?;
        let CorpusFacts { lowest, notes, styles } = facts;
        for (name, value) in [("lowest", lowest), ("notes", notes), ("styles", styles)] {
            if let Some(field) = config.get_mut(name) {
                *field = json!(value);
            }
        }
        Ok(config)
    }

    /// Puts its parameters into `params`, those of `model`, as far as they fit: those of one name and shape, and of the styles those
    /// of composers that both know; another composer begins with the mean of all that the origin knows. Returns what is to be said.
    fn give(&self, model: &dyn Model, styles: &Styles, params: &mut [f32]) -> Vec<String> {
        let Checkpoint { model: own, styles: known, .. } = &self.checkpoint;
        let weights = self.checkpoint.weights();
        let (mut new, mut taken) = (vec![], 0);
        for param in model.layout().params() {
            let to = &mut params[param.view.start..][..param.view.len];
            let from = own.layout().params().iter().find(|other| other.name == param.name);
            let from = from.map(|from| (&from.shape, &weights[from.view.start..][..from.view.len]));
            match from {
                Some((shape, values))
                    if model.style_rows() == Some(param.name.as_str()) && shape[1..] == param.shape[1..] =>
                {
                    let width = values.len() / known.len();
                    for (row, composer) in to.chunks_exact_mut(width).zip(styles.composers()) {
                        match known.composers().iter().position(|other| other == composer) {
                            Some(place) => row.copy_from_slice(&values[place * width..][..width]),
                            None => {
                                let mean =
                                    |i: usize| values.iter().skip(i).step_by(width).sum::<f32>() / known.len() as f32;
                                row.iter_mut().enumerate().for_each(|(i, value)| *value = mean(i));
                            }
                        }
                    }
                    taken += 1;
                }
                Some((shape, values)) if *shape == param.shape => {
                    to.copy_from_slice(values);
                    taken += 1;
                }
                _ => new.push(param.name.as_str()),
            }
        }
        let unknown: Vec<String> = (0..styles.len())
            .filter(|&i| !known.composers().contains(&styles.composers()[i]))
            .map(|i| styles.label(i))
            .collect();
        let path = self.path.display();
        let mut said = vec![format!("{taken} of {} parameters are those of {path}", taken + new.len())];
        if !new.is_empty() {
            said.push(format!("not taken, as there are none or they have other shapes: {}", new.join(", ")));
        }
        if !unknown.is_empty() && model.style_rows().is_some() {
            said.push(format!("styles that it does not know begin with the mean of its own: {}", unknown.join(", ")));
        }
        said
    }
}

/// The network of a new run: that of a preset, or of its origin, with the fields that were set.
///
/// # Errors
/// A preset, field or value that does not fit.
pub fn model(
    options: &TrainOptions,
    architecture: &dyn Architecture,
    preset: &str,
    facts: CorpusFacts,
    origin: Option<&Origin>,
) -> Result<Arc<dyn Model>> {
    match origin.filter(|_| options.preset.is_none()) {
        Some(origin) => models::with_overrides(architecture, origin.config(facts)?, &options.set),
        None => models::configure(architecture, preset, facts, &options.set),
    }
}

/// The parameters that a new run begins with, and what is to be said of them.
pub fn parameters(model: &dyn Model, styles: &Styles, seed: u32, origin: Option<&Origin>) -> (Vec<f32>, Vec<String>) {
    let mut params = init::initialise(model.layout(), seed);
    let said = origin.map_or(vec![], |origin| origin.give(model, styles, &mut params));
    (params, said)
}
