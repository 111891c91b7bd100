//! Training in a browser: the files of a run are in memory, and the page is handed each checkpoint.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use deepj::checkpoint::{Checkpoint, StopConditions};
use deepj::evaluate::Metrics;
use deepj::graph::session::KernelSelection;
use deepj::models;
use deepj::music::{Corpus, CorpusOptions, NoteRange};
use deepj::train::{
    Memory, Observer, Pieces, RunFiles, Started, TrainOptions, UpdateRecord, ValidationRecord, prepare, prepare_pieces,
    prepare_resumed, train_into,
};
use js_sys::{Function, Uint8Array};
use serde::{Deserialize, Serialize};
use wasm_bindgen::prelude::*;

use crate::device::Device;
use crate::verify::paused;
use crate::{Result, json, parsed, thrown, wrong};

/// What the page wishes of a run.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wanted {
    /// Updates at which it ends, and minutes.
    steps: Option<u64>,
    minutes: Option<f64>,
    seed: u32,
    batch: Option<usize>,
    seq: Option<usize>,
    lr: Option<f64>,
    preset: Option<String>,
    validate_every: Option<u64>,
}

/// What ends a run, or the composing of an ending, from outside.
#[wasm_bindgen]
#[derive(Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// What sets this.
    pub fn of(flag: Arc<AtomicBool>) -> Self {
        Self(flag)
    }
}

#[wasm_bindgen]
impl Stop {
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Has the run end after its update.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Files in memory, of which the page is told.
struct Told<'a> {
    files: Memory,
    tell: &'a Function,
}

impl Told<'_> {
    fn tell(&self, what: &str, value: &JsValue) {
        // What the page makes of it is the page's concern.
        let _ = self.tell.call2(&JsValue::NULL, &JsValue::from_str(what), value);
    }
}

impl RunFiles for Told<'_> {
    fn write(&mut self, name: &str, bytes: &[u8]) -> deepj::Result<()> {
        self.tell(name, &Uint8Array::from(bytes));
        self.files.write(name, bytes)
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> deepj::Result<()> {
        self.files.append(name, bytes)
    }

    fn read(&self, name: &str) -> deepj::Result<Option<Vec<u8>>> {
        self.files.read(name)
    }

    fn names(&self) -> deepj::Result<Vec<String>> {
        self.files.names()
    }

    fn remove(&mut self, name: &str) -> deepj::Result<()> {
        self.files.remove(name)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.files.path(name)
    }
}

/// Tells the page how it goes.
struct Telling {
    tell: Function,
    pause: Function,
}

impl Telling {
    fn tell(&self, what: &str, value: &impl Serialize) {
        let text = serde_json::to_string(value).unwrap_or_default();
        let _ = self.tell.call2(&JsValue::NULL, &JsValue::from_str(what), &JsValue::from_str(&text));
    }
}

#[derive(Serialize)]
struct Validated<'a> {
    step: u64,
    loss: f64,
    best: bool,
    #[serde(flatten)]
    metrics: &'a Metrics,
}

impl Observer for Telling {
    fn started(&mut self, started: &Started) {
        self.tell("started", started);
    }

    fn stepped(&mut self, record: &UpdateRecord) {
        self.tell("stepped", record);
    }

    fn validating(&mut self, done: usize, total: usize) {
        self.tell("validating", &[done, total]);
    }

    fn validated(&mut self, record: &ValidationRecord) {
        let ValidationRecord { step, metrics, best, .. } = record;
        self.tell("validated", &Validated { step: *step, loss: metrics.losses.total(), best: *best, metrics });
    }

    fn pause(&mut self) -> Option<Pin<Box<dyn Future<Output = ()>>>> {
        Some(Box::pin(paused(self.pause.clone())))
    }
}

/// Trains a network on MIDI files, named `genre/composer/title.mid`, or on the pieces within the program where there are none; goes on
/// from the checkpoint `resume`, if it has bytes. `tell` is called with what happens: `started`, `stepped`, `validating` and `validated`
/// with JSON, and a checkpoint's name with its bytes. Returns why it ended, as JSON.
///
/// # Errors
/// Wishes out of range, files that cannot be used, a checkpoint of another kind or corpus, or a device that fails.
#[wasm_bindgen]
#[allow(clippy::too_many_arguments, reason = "JavaScript has no structs")]
pub async fn train(
    device: &Device,
    wanted: &str,
    names: Vec<String>,
    files: Vec<Uint8Array>,
    resume: &[u8],
    stop: &Stop,
    tell: Function,
    pause: Function,
) -> Result<String> {
    let Wanted { steps, minutes, seed, batch, seq, lr, preset, validate_every } = parsed(wanted)?;
    let (device, stop) = (device.get(), stop.0.clone());
    let resumed = match resume {
        [] => None,
        bytes => Some(Checkpoint::from_bytes(bytes).map_err(thrown)?),
    };
    let budget = StopConditions { steps, minutes, ..StopConditions::default() };
    let own = !names.is_empty();
    let options = TrainOptions {
        data: own.then(|| "the files of a page".into()),
        seed: resumed.is_none().then_some(seed),
        // What a run was begun with stays.
        batch: batch.filter(|_| resumed.is_none()),
        seq: seq.filter(|_| resumed.is_none()),
        preset: resumed.is_none().then(|| preset.unwrap_or_else(|| "small".into())),
        lr,
        validate_every,
        budget,
        ..TrainOptions::default()
    };
    let pieces = if own { Some(pieces(&names, &files, resumed.as_ref())?) } else { None };
    let prepared = match (resumed, &pieces) {
        (Some(state), pieces) => {
            prepare_resumed(&options, &device, (Path::new("the checkpoint"), state), pieces.as_ref())
        }
        (None, Some(pieces)) => prepare_pieces(&options, &device, pieces),
        (None, None) => prepare(&options, &device),
    };
    let (mut observer, mut files) =
        (Telling { tell: tell.clone(), pause }, Told { files: Memory::default(), tell: &tell });
    // Training has kernels of its own, which nobody has measured.
    let selection = KernelSelection::default();
    let prepared = prepared.map_err(thrown)?;
    let outcome = train_into(&mut files, prepared, device, selection, &mut observer, &stop).await.map_err(thrown)?;
    json(&outcome)
}

/// Hands in the pieces within the program, named `genre/composer/title.mid`, which are downloaded apart.
#[wasm_bindgen(js_name = provideCorpus)]
pub fn provide_corpus(names: Vec<String>, files: Vec<Uint8Array>) {
    deepj::train::provide_corpus(names.into_iter().zip(files.iter().map(Uint8Array::to_vec)).collect());
}

fn pieces(names: &[String], files: &[Uint8Array], resumed: Option<&Checkpoint>) -> Result<Pieces> {
    if names.len() != files.len() {
        return Err(wrong("files without names", "reload the page"));
    }
    let bytes: Vec<Vec<u8>> = files.iter().map(Uint8Array::to_vec).collect();
    let named: Vec<(&str, &[u8])> = names.iter().zip(&bytes).map(|(name, bytes)| (&**name, &**bytes)).collect();
    let architecture = models::architecture(models::DEFAULT).map_err(thrown)?;
    let range = match resumed {
        Some(state) => state.corpus.range,
        None => NoteRange::new(*architecture.pitches().start(), *architecture.pitches().end()).map_err(thrown)?,
    };
    let options = match resumed {
        Some(state) => {
            CorpusOptions { range, pedal: state.corpus.pedal, flat_dynamics: state.corpus.flat_dynamics, strict: false }
        }
        None => CorpusOptions { range, ..CorpusOptions::default() },
    };
    let corpus = Corpus::from_files("the chosen files", &named, &options).map_err(thrown)?;
    let split = resumed.map_or_else(|| corpus.split(0), |state| state.split.clone());
    Ok(Pieces { corpus, split })
}
