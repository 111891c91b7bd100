//! Checkpoints: a trained model in one safetensors file.
//!
//! Tensors are f32, row-major. A parameter stands under its name with the shape in which the model declares it: a dense
//! or LSTM matrix is `[inputs, outputs]`, the gates of an LSTM are in the order i, f, g, o. A file to resume from also
//! holds the optimiser's moments as `optimizer.m.<name>` and `optimizer.v.<name>`, and the state that the time axis
//! carries from window to window as `state.time.<layer>.h` and `.c`, `[B, N, H]`. The metadata are strings: `format`,
//! `version`, and as JSON `config`, `styles`, `split`, `corpus`, `settings`, `progress`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, View as Stored};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::graph::Param;
use crate::models::deepj::{self, Config, Precision, Training};
use crate::music::{Bptt, Cursor, NoteRange, Split, Styles};
use crate::nn::loss_scale::LossScale;
use crate::nn::nadam;
use crate::{Error, Result};

mod file;

pub use file::{RUNS, make_folder, newest, refused, write_whole};

/// The value of the metadata's `format`.
pub const FORMAT: &str = "deepj";
/// The value of the metadata's `version`: files of another version are refused.
pub const VERSION: &str = "1";
/// The largest file that is read, in bytes; the paper's size takes 15 MB with moments.
const MAX_BYTES: u64 = 4 << 30;
const RETRAIN: &str = "take another checkpoint (a run keeps best.safetensors and last.safetensors), or train again";

/// The corpus that a model was trained on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// What may not change between the parts of a resumed run, beside the configuration and the corpus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How training walks through the pieces.
    pub bptt: Bptt,
    /// B, lanes of a batch.
    pub batch: usize,
    /// T, time steps of a window.
    pub seq: usize,
    /// Seed of initial values, orders and dropout masks.
    pub seed: u32,
    /// The optimiser's.
    pub optimizer: nadam::Settings,
    /// How values are stored while training.
    #[serde(default)]
    pub precision: Precision,
    /// Whether gates are computed again in the backward pass.
    #[serde(default)]
    pub recompute: bool,
    /// Steps between two validations.
    pub validate_every: u64,
    /// When to stop.
    pub budget: Budget,
}

impl Settings {
    /// What the training plan takes from them.
    pub fn training(&self) -> Training {
        Training { optimizer: self.optimizer, precision: self.precision, recompute: self.recompute }
    }
}

/// When training stops; `None` does not limit. A resumed run may have another budget.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
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
    /// Its `play_nats_per_step`.
    pub play_nats_per_step: f64,
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
    /// The optimiser's momentum schedule.
    pub schedule: nadam::Schedule,
    /// The loss scale of mixed precision.
    #[serde(default)]
    pub loss_scale: LossScale,
    /// Where the walk through the training pieces stands.
    pub cursor: Cursor,
    /// After how many updates the last validation was made.
    pub validated: Option<u64>,
    /// The best validation so far.
    pub best: Option<Best>,
    /// The device, for people.
    pub device: String,
}

/// What only a resumed training needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resume {
    /// The optimiser's first and second moments, laid out as [`Checkpoint::params`].
    pub moments: [Vec<f32>; 2],
    /// h and c of both layers of the time axis, `[B, N, H]` each.
    pub states: [Vec<f32>; 4],
}

/// A model with all that was known when it was saved.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// The network.
    pub config: Config,
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
    /// All parameters, laid out as the session's arena, padding zero.
    pub params: Vec<f32>,
    /// `None` in a file that is only to be used, not to be resumed.
    pub resume: Option<Resume>,
}

/// The parameters of a configuration, and the length of the arena that holds them.
///
/// # Errors
/// A configuration that cannot be built.
pub fn layout(config: &Config) -> Result<(Vec<Param>, usize)> {
    // Every plan of a model declares the same parameters; the one of generation is the smallest.
    let plan = deepj::build_generate(config, 1, 1)?.plan;
    Ok((plan.params, plan.params_len))
}

/// Names and shapes of the carried states, in the order of [`Resume::states`].
fn state_shapes(config: &Config, batch: usize) -> [(String, Vec<usize>); 4] {
    let name = |layer: usize, part: &str| format!("state.time.{layer}.{part}");
    [name(0, "h"), name(0, "c"), name(1, "h"), name(1, "c")]
        .map(|name| (name, vec![batch, config.notes, config.time_units]))
}

/// A tensor on its way to a file.
struct Tensor<'a> {
    shape: &'a [usize],
    data: &'a [f32],
}

impl Stored for Tensor<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        // safetensors is little-endian, as are f32 on every machine but a few.
        if cfg!(target_endian = "little") {
            return bytemuck::cast_slice(self.data).into();
        }
        self.data.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>().into()
    }
    fn data_len(&self) -> usize {
        4 * self.data.len()
    }
}

impl Checkpoint {
    /// The file's bytes.
    ///
    /// # Errors
    /// Metadata that cannot be written as JSON: an infinite number.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let (params, _) = layout(&self.config)?;
        let states = state_shapes(&self.config, self.settings.batch);
        let mut tensors: Vec<(String, Tensor)> = vec![];
        let slice = |arena: &'_ [f32], p: &Param| p.view.start..(p.view.start + p.view.len).min(arena.len());
        for p in &params {
            tensors.push((p.name.clone(), Tensor { shape: &p.shape, data: &self.params[slice(&self.params, p)] }));
            for (prefix, arena) in ["m", "v"].iter().zip(self.resume.iter().flat_map(|r| &r.moments)) {
                let name = format!("optimizer.{prefix}.{}", p.name);
                tensors.push((name, Tensor { shape: &p.shape, data: &arena[slice(arena, p)] }));
            }
        }
        for ((name, shape), data) in states.iter().zip(self.resume.iter().flat_map(|r| &r.states)) {
            tensors.push((name.clone(), Tensor { shape, data }));
        }
        let metadata = HashMap::from([
            ("format".to_string(), FORMAT.to_string()),
            ("version".to_string(), VERSION.to_string()),
            ("config".to_string(), json(&self.config)?),
            ("styles".to_string(), json(&self.styles)?),
            ("split".to_string(), json(&self.split)?),
            ("corpus".to_string(), json(&self.corpus)?),
            ("settings".to_string(), json(&self.settings)?),
            ("progress".to_string(), json(&self.progress)?),
        ]);
        safetensors::serialize(tensors, Some(metadata))
            .map_err(|e| Error::run(format!("the checkpoint cannot be laid out: {e}"), ""))
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
    /// A file that cannot be read, is damaged, is of another format or version, or in which any name, shape, type or
    /// number is not what its own configuration asks for.
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

    /// Reads a checkpoint from the bytes of its file.
    ///
    /// # Errors
    /// As [`Checkpoint::load`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| damaged(&e, bytes.len()))?;
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| damaged(&e, bytes.len()))?;
        let Some(meta) = header.metadata() else {
            return Err(wrong("has no metadata, so it is not one of deepj's"));
        };
        if meta.get("format").map(String::as_str) != Some(FORMAT) {
            return Err(wrong("is a safetensors file, but not one of deepj's"));
        }
        match meta.get("version").map(String::as_str) {
            Some(VERSION) => {}
            other => {
                return Err(Error::model(
                    format!("is a checkpoint of version {}, this program reads {VERSION}", other.unwrap_or("unknown")),
                    "use the program that wrote it, or train again",
                ));
            }
        }
        let config: Config = field(meta, "config")?;
        config.check().map_err(|e| wrong(format!("metadata: {}; {}", e.what, e.remedy)))?;
        let styles: Styles = field(meta, "styles")?;
        let split: Split = field(meta, "split")?;
        let corpus: CorpusInfo = field(meta, "corpus")?;
        let settings: Settings = field(meta, "settings")?;
        let progress: Progress = field(meta, "progress")?;
        if styles.len() != config.styles {
            return Err(wrong(format!("names {} styles, but its configuration has {}", styles.len(), config.styles)));
        }
        let range = NoteRange::new(config.lowest as u8, (config.lowest + config.notes - 1) as u8)?;
        if corpus.range != range {
            return Err(wrong(format!("has a corpus of pitches {}, but a configuration of {range}", corpus.range)));
        }
        let mut read = Reader { tensors: &tensors, left: tensors.names().into_iter().collect() };
        let (layout, len) = layout(&config)?;
        let resumable = read.left.iter().any(|name| name.starts_with("optimizer.") || name.starts_with("state."));
        let params = read.arena("", &layout, len)?;
        let resume = if resumable {
            let moments = [read.arena("optimizer.m.", &layout, len)?, read.arena("optimizer.v.", &layout, len)?];
            let [a, b, c, d] = state_shapes(&config, settings.batch);
            let mut state = |(name, shape): (String, Vec<usize>)| read.tensor(&name, &shape);
            Some(Resume { moments, states: [state(a)?, state(b)?, state(c)?, state(d)?] })
        } else {
            None
        };
        if let Some(name) = read.left.first() {
            return Err(wrong(format!("holds a tensor `{name}` that its configuration does not have")));
        }
        Ok(Self { config, styles, split, corpus, settings, progress, params, resume })
    }
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::run(format!("metadata cannot be written: {e}"), ""))
}

fn wrong(what: impl Into<String>) -> Error {
    Error::model(what, RETRAIN)
}

/// One JSON string of the metadata.
fn field<T: DeserializeOwned>(meta: &HashMap<String, String>, name: &str) -> Result<T> {
    let text = meta.get(name).ok_or_else(|| wrong(format!("metadata: `{name}` is missing")))?;
    serde_json::from_str(text).map_err(|e| wrong(format!("metadata: `{name}`: {e}")))
}

/// What the safetensors crate found, in words for a user.
fn damaged(e: &SafeTensorError, len: usize) -> Error {
    let what = match e {
        SafeTensorError::HeaderTooSmall => format!("is cut off: it has {len} bytes"),
        SafeTensorError::InvalidHeaderLength => {
            format!("is cut off within its header ({len} bytes), or no safetensors file")
        }
        SafeTensorError::HeaderTooLarge => "is no safetensors file: the length of its header makes no sense".into(),
        SafeTensorError::MetadataIncompleteBuffer => {
            format!("is cut off within its tensors, or has bytes too many ({len} bytes)")
        }
        other => format!("is damaged or no safetensors file: {other}"),
    };
    wrong(what)
}

/// Takes tensors by name and notes which are left.
struct Reader<'a> {
    tensors: &'a SafeTensors<'a>,
    left: BTreeSet<&'a str>,
}

impl Reader<'_> {
    /// A tensor of exactly this shape, all finite.
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let Ok(found) = self.tensors.tensor(name) else {
            return Err(wrong(format!("the tensor `{name}` is missing")));
        };
        self.left.remove(name);
        if found.dtype() != Dtype::F32 {
            return Err(wrong(format!("the tensor `{name}` is of type {}, not F32", found.dtype())));
        }
        if found.shape() != shape {
            return Err(wrong(format!(
                "the tensor `{name}` has the shape {:?}, the configuration asks for {shape:?}",
                found.shape()
            )));
        }
        let values = found.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let values: Vec<f32> = values.collect();
        match values.iter().position(|x| !x.is_finite()) {
            Some(i) => Err(wrong(format!("the tensor `{name}` holds {} at element {i}", values[i]))),
            None => Ok(values),
        }
    }

    /// The tensors `prefix<parameter>` at their places in an arena.
    fn arena(&mut self, prefix: &str, layout: &[Param], len: usize) -> Result<Vec<f32>> {
        let mut arena = vec![0.0; len];
        for p in layout {
            let values = self.tensor(&format!("{prefix}{}", p.name), &p.shape)?;
            arena[p.view.start..][..p.view.len].copy_from_slice(&values);
        }
        Ok(arena)
    }
}

/// What is in a checkpoint, by parameter: shape and Euclidean norm.
pub fn norms(checkpoint: &Checkpoint) -> Result<BTreeMap<String, (Vec<usize>, f64)>> {
    let (layout, _) = layout(&checkpoint.config)?;
    let norm = |p: &Param| {
        let values = &checkpoint.params[p.view.start..][..p.view.len];
        values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt()
    };
    Ok(layout.iter().map(|p| (p.name.clone(), (p.shape.clone(), norm(p)))).collect())
}
