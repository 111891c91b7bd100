//! From what a training run is asked to a run that can begin: everything is read, checked and decided here, before a device
//! computes anything.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::alike;
use super::begin_from::{self, Origin};
use super::corpus::{corpus_of, read_corpus};
use super::destination::{self, Destination};
use super::options::{ResumeMode, TrainOptions};
use super::plans;
use super::run_files::{LAST, run_name};
use crate::checkpoint::{
    Checkpoint, CorpusInfo, Progress, RUNS, Resume, Settings, StopConditions, newest, newest_if_any,
};
use crate::distributed::Ranks;
use crate::files::{path_text, refused};
use crate::gpu::Device;
use crate::models::{self, Architecture, CorpusFacts, DefaultOn, LossWeights, Model, Precision, losses};
use crate::music::levels::levels;
use crate::music::sampler::WINDOW_STRIDE;
use crate::music::{
    Augmentation, BatchShape, Bptt, Corpus, CorpusOptions, Cursor, FlatDynamics, NoteRange, Part, Piece, Sampler, Split,
};
use crate::nn::optimizer::{self, RateCurve, RateSchedule};
use crate::shape::Slots;
use crate::{Error, Result};

/// A run that can begin: what [`super::train`] takes.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The run's folder.
    pub out: PathBuf,
    /// What the folder may hold.
    pub destination: Destination,
    /// Where training stands, the optimiser's buffers and carried states included: at its beginning, or where the resumed run
    /// was.
    pub state: Checkpoint,
    /// What takes batches from the training pieces.
    pub sampler: Sampler,
    /// Training pieces.
    pub train_files: usize,
    /// Held-out pieces; may be empty where no composer has two.
    pub validation: Vec<Arc<Piece>>,
    /// Updates between checkpoints.
    pub save_every: u64,
    /// What the user should know.
    pub notices: Vec<String>,
    /// The command line that goes on with the run, but for `--out`, where that is not the one which began it: for the error of a
    /// device that fails.
    pub command: Option<&'static str>,
    /// The processes that train together, where there are several.
    pub ranks: Option<Ranks>,
}

impl Prepared {
    /// The held-out pieces that this process validates on: of several ranks each has about as many time steps.
    pub(super) fn own_validation(&self) -> Vec<Arc<Piece>> {
        let Some(ranks) = &self.ranks else { return self.validation.clone() };
        let steps = |piece: &Arc<Piece>| piece.roll.steps();
        let mut order: Vec<&Arc<Piece>> = self.validation.iter().collect();
        order.sort_by_key(|piece| std::cmp::Reverse(steps(piece)));
        let mut shares = vec![(0, vec![]); ranks.size()];
        for piece in order {
            if let Some(least) = shares.iter_mut().min_by_key(|(sum, _)| *sum) {
                least.0 += steps(piece);
                least.1.push(piece.clone());
            }
        }
        shares.swap_remove(ranks.rank()).1
    }
}

/// Pieces that a run is given, where it does not read a corpus of MIDI files.
#[derive(Clone, Debug)]
pub struct Pieces {
    /// All of them.
    pub corpus: Corpus,
    /// Which are trained on, and which are held out.
    pub split: Split,
}

/// What goes on with a run of MIDI files.
const COMMAND: &str = "deepj train --resume";
/// Minutes of training on the CPU when no budget is given.
const CPU_MINUTES: f64 = 8.0;
/// Validations without progress after which to stop when no budget is given.
const PATIENCE: u64 = 10;
/// Epochs of a training that has no validation loss to go by, when nothing is said.
const UNVALIDATED_EPOCHS: f64 = 100.0;
/// Longest time between two validations, in updates, when nothing is said.
const VALIDATE_EVERY: u64 = 200;

/// Reads the corpus and, to resume, the checkpoint, and decides all that is left open. The device decides defaults only.
///
/// # Errors
/// Anything that cannot be read or does not fit together, values out of range, or a folder that holds a run already.
pub fn prepare(options: &TrainOptions, device: &Device) -> Result<Prepared> {
    prepared(options, device, None, None)
}

/// The same on one of several ranks that are to train together, each with its share of every batch. Rank 0 decides on the run's
/// folder and reads the checkpoint to go on from; each reads the corpus for itself.
///
/// # Errors
/// As [`prepare`], on any rank; a batch that cannot be divided; ranks of another version, corpus or configuration than rank 0.
pub fn prepare_among(options: &TrainOptions, device: &Device, ranks: &Ranks) -> Result<Prepared> {
    prepared(options, device, None, Some(ranks))
}

/// The same for `pieces` that were read already; `data` of the options is where they are from, and what else the options say of a
/// corpus is not looked at.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_pieces(options: &TrainOptions, device: &Device, pieces: &Pieces) -> Result<Prepared> {
    prepared(options, device, Some(pieces), None)
}

/// A run that goes on from a checkpoint which is at hand, and not in a folder; errors call it `name`. The pieces are given, or read as
/// [`prepare`] does.
///
/// # Errors
/// As [`prepare`]; a checkpoint that holds nothing to go on with.
pub fn prepare_resumed(
    options: &TrainOptions,
    device: &Device,
    (name, checkpoint): (&Path, Checkpoint),
    pieces: Option<&Pieces>,
) -> Result<Prepared> {
    let mut prepared = gone_on_with(options, device, (name, checkpoint), pieces)?;
    prepared.command = None;
    check(&prepared.state.settings)?;
    Ok(prepared)
}

fn prepared(
    options: &TrainOptions,
    device: &Device,
    pieces: Option<&Pieces>,
    ranks: Option<&Ranks>,
) -> Result<Prepared> {
    let found = match ranks {
        None => find(options)?,
        Some(ranks) => found_by_first(options, ranks)?,
    };
    let first = ranks.is_none_or(Ranks::is_first);
    let prepare = || {
        let mut prepared = match found {
            Some((path, state)) => gone_on_with(options, device, (&path, state), pieces)?,
            None => fresh(options, device, pieces, first)?,
        };
        prepared.command = (!options.whole && pieces.is_none()).then_some(COMMAND);
        check(&prepared.state.settings)?;
        Ok(prepared)
    };
    match ranks {
        None => prepare(),
        Some(ranks) => alike::together(ranks.agree(prepare())?, ranks),
    }
}

/// The run that is to go on, if one is, with the file that it goes on from.
fn find(options: &TrainOptions) -> Result<Option<(PathBuf, Checkpoint)>> {
    match options.resume {
        ResumeMode::Never => return Ok(None),
        ResumeMode::Auto if !there_is_a_run(options)? => return Ok(None),
        ResumeMode::Always | ResumeMode::Auto => {}
    }
    let path = match &options.out {
        Some(out) => out.join(LAST),
        None => newest(Path::new(RUNS), LAST)?,
    };
    if !path.exists() {
        let remedy = "name its folder with --out, or leave out --resume";
        return Err(Error::file(&path, "there is no run to go on with", remedy));
    }
    let state = Checkpoint::load(&path)?;
    Ok(Some((path, state)))
}

/// The same, as rank 0 finds it: the others need not see the folder.
fn found_by_first(options: &TrainOptions, ranks: &Ranks) -> Result<Option<(PathBuf, Checkpoint)>> {
    let found = ranks.agree(if ranks.is_first() { find(options) } else { Ok(None) })?;
    let (path, bytes) = match &found {
        Some((path, state)) => (path_text(path).into_bytes(), state.to_bytes()?),
        None => (vec![], vec![]),
    };
    let (path, bytes) = (ranks.from_first(path)?, ranks.from_first(bytes)?);
    match (found, bytes.is_empty()) {
        (_, true) => Ok(None),
        (Some(found), _) => Ok(Some(found)),
        (None, _) => {
            let path = PathBuf::from(String::from_utf8_lossy(&path).into_owned());
            Ok(Some((path, Checkpoint::from_bytes(&bytes)?)))
        }
    }
}

/// Fails on settings out of range, by the names of their flags.
fn check(settings: &Settings) -> Result<()> {
    let positive = |flag: &str, value: Option<f64>| match value {
        Some(v) if v.is_nan() || v <= 0.0 => Err(Error::usage(format!("{flag} {v}"), "give a number above 0")),
        _ => Ok(()),
    };
    optimizer::check_rates(settings.optimizer.0.as_ref())?;
    settings.rate.check()?;
    if let Some(parts) = settings.accumulate.filter(|parts| *parts == 0 || !settings.batch.is_multiple_of(*parts)) {
        let what = format!("--accumulate {parts} with a batch of {}", settings.batch);
        return Err(Error::usage(what, "give a number of equal parts that the batch has"));
    }
    if let Some(decay) = settings.ema.filter(|decay| !(0.5..1.0).contains(decay)) {
        let what = format!("--ema {decay}");
        return Err(Error::usage(
            what,
            "give what an update leaves of the mean, 0.5 to below 1, such as 0.999; 0 for none",
        ));
    }
    positive("--epochs", settings.budget.epochs)?;
    positive("--minutes", settings.budget.minutes)?;
    positive("--validate-every", Some(settings.validate_every as f64))?;
    positive("--save-every", settings.save_every.map(|every| every as f64))?;
    positive("--patience", settings.budget.patience.map(|p| p as f64))
}

/// `writes` says whether this process is to write the run's files.
fn fresh(options: &TrainOptions, device: &Device, pieces: Option<&Pieces>, writes: bool) -> Result<Prepared> {
    let (origin, said) = &Origin::of(options)?;
    let options = &said.complete(device)?;
    let on_cpu = device.capabilities().is_none();
    let architecture = models::architecture(options.model.as_deref().unwrap_or(models::DEFAULT))?;
    let preset = models::preset_info(architecture, options.preset.as_deref(), device.capabilities())?;
    let (out, destination) = place(options, preset.name);
    // Found out again when the folder is locked; here before anything is read.
    if writes {
        destination::check(&out, destination)?;
    }
    let (corpus, split) = corpus_and_split(options, architecture, pieces)?;
    let range = corpus.range;
    let facts = CorpusFacts { lowest: usize::from(range.low()), notes: range.len(), styles: corpus.styles.len() };
    let model = begin_from::model(said, architecture, preset.name, facts, origin.as_ref())?;
    losses::check_weights(model.losses(), &options.loss_weights)?;
    let train = corpus.part(&split, Part::Train)?;
    let validation = corpus.part(&split, Part::Validation)?;
    let (batch, seq) = (options.batch.unwrap_or(preset.batch.0), options.seq.unwrap_or(preset.batch.1));
    let bptt = options.bptt.unwrap_or(Bptt::Stateful);
    let seed = options.seed.unwrap_or(0);
    let shape = batch_shape(model.as_ref(), batch, seq)?;
    let train_files = train.len();
    let steps: usize = train.iter().map(|piece| piece.roll.steps()).sum();
    let augmentation = augmentation(options)?;
    let sampler = Sampler::augmented(bptt, train.clone(), shape, u64::from(seed), augmentation)?;

    let of_a_gpu = architecture.presets().iter().find(|other| other.default_on == DefaultOn::Gpu);
    let other_preset =
        of_a_gpu.filter(|other| on_cpu && said.preset.is_none() && origin.is_none() && other.name != preset.name);
    let other_preset = other_preset.map(|other| (preset.name, other.name));
    let (budget, mut notices) = defaults(options, on_cpu, other_preset, &corpus, validation.is_empty());
    notices.extend(room(&sampler));
    let per_window = if bptt == Bptt::Stateful { seq } else { WINDOW_STRIDE };
    let epoch = (steps / (batch * per_window)).max(1) as u64;
    let validate_every = options.validate_every.unwrap_or(epoch.min(VALIDATE_EVERY));
    let named = options.optimizer.as_deref().unwrap_or(architecture.optimizer());
    let optimizer = optimizer::make(named, said.optimizer_settings()?)?;
    let rate = options.rate(&RateSchedule::default(), 0)?;
    let layout = model.layout();
    let ema = options.ema.filter(|decay| *decay != 0.0);
    plans::check_beginning(model.as_ref(), optimizer.buffers().len() + usize::from(ema.is_some()), batch)?;
    let (params, of_origin) = begin_from::parameters(model.as_ref(), &corpus.styles, seed, origin.as_ref());
    notices.extend(of_origin);
    let resume = at_the_beginning(model.as_ref(), optimizer.as_ref(), batch);
    let state = Checkpoint {
        mean: ema.map(|_| vec![0.0; layout.len()]),
        params,
        resume: Some(resume),
        styles: corpus.styles.clone(),
        corpus: CorpusInfo {
            data: options.data.as_ref().map(|dir| dir.display().to_string()),
            fingerprint: corpus.fingerprint(),
            range,
            pedal: options.pedal,
            flat_dynamics: options.flat_dynamics.unwrap_or_default(),
            licence: origin.as_ref().and_then(Origin::licence),
            levels: levels(&train, corpus.styles.len()),
        },
        split,
        settings: Settings {
            bptt,
            batch,
            seq,
            seed,
            optimizer: optimizer::Stored(optimizer),
            rate,
            accumulate: options.accumulate,
            ema,
            precision: options.precision.unwrap_or_default(),
            recompute: options.recompute,
            validate_every,
            save_every: options.save_every,
            samples: options.samples,
            loss_weights: options.loss_weights.clone(),
            budget,
        },
        progress: Progress::beginning(sampler.cursor().clone()),
        model,
    };
    let (save_every, command, ranks) = (options.save_every.unwrap_or(validate_every), None, None);
    Ok(Prepared { out, destination, state, sampler, train_files, validation, save_every, notices, command, ranks })
}

/// What a run goes on from before its first update.
fn at_the_beginning(model: &dyn Model, optimizer: &dyn optimizer::Optimizer, batch: usize) -> Resume {
    let zeros = |len: usize| vec![0.0; len];
    Resume {
        moments: optimizer.buffers().iter().map(|_| zeros(model.layout().len())).collect(),
        states: model.states(batch).iter().map(|state| zeros(state.shape.iter().product())).collect(),
        owed: None,
    }
}

/// How many pieces have room to be transposed, where they are.
fn room(sampler: &Sampler) -> Option<String> {
    let Cursor { transpose, bptt, .. } = *sampler.cursor();
    if transpose == 0 || bptt == Bptt::Windowed {
        return None;
    }
    let (movable, all) = sampler.movable();
    Some(format!("{movable} of {all} training pieces have room to be transposed within the pitches"))
}

/// The folder of a new run, and what it may hold.
fn place(options: &TrainOptions, preset: &str) -> (PathBuf, Destination) {
    match (&options.out, options.resume, options.force) {
        (None, ..) => (Path::new(RUNS).join(run_name(preset)), Destination::New),
        (Some(out), _, true) => (out.clone(), Destination::Replaced),
        (Some(out), ResumeMode::Auto, _) => (out.clone(), Destination::Begun),
        (Some(out), ..) => (out.clone(), Destination::Free),
    }
}

/// What is done with the training pieces.
///
/// # Errors
/// Values out of range.
fn augmentation(options: &TrainOptions) -> Result<Augmentation> {
    let none = Augmentation::default();
    let (transpose, balance) = (options.transpose, options.balance);
    let new = Augmentation { transpose: transpose.unwrap_or(none.transpose), balance: balance.unwrap_or(none.balance) };
    if new.transpose > MAX_INTERVAL {
        let what = format!("--transpose {}", new.transpose);
        return Err(Error::usage(what, format!("give at most {MAX_INTERVAL} semitones; 6 reaches all keys")));
    }
    if !(0.0..=1.0).contains(&new.balance) {
        let what = format!("--balance {}", new.balance);
        return Err(Error::usage(what, "give 0 (all composers alike) to 1 (as they are in the corpus)"));
    }
    Ok(new)
}

/// The most semitones by which pieces are transposed: two octaves.
const MAX_INTERVAL: u8 = 24;

/// The pieces of a new run and their parts: those given, else read.
fn corpus_and_split(
    options: &TrainOptions,
    architecture: &dyn Architecture,
    pieces: Option<&Pieces>,
) -> Result<(Corpus, Split)> {
    if let Some(Pieces { corpus, split, .. }) = pieces {
        return Ok((corpus.clone(), split.clone()));
    }
    let range = match options.notes {
        Some(range) => range,
        None => NoteRange::new(*architecture.pitches().start(), *architecture.pitches().end())?,
    };
    let reading = CorpusOptions {
        range,
        pedal: options.pedal,
        flat_dynamics: options.flat_dynamics.unwrap_or_default(),
        strict: options.strict,
    };
    let corpus = read_corpus(options.data.as_deref(), &reading)?;
    let split = corpus.split(options.split_seed.unwrap_or(0));
    Ok((corpus, split))
}

/// When a new run stops, and what its user should know of the defaults that were taken: `other_preset` are the preset that the
/// CPU takes and that of a GPU, where they differ.
fn defaults(
    options: &TrainOptions,
    on_cpu: bool,
    other_preset: Option<(&str, &str)>,
    corpus: &Corpus,
    nothing_held_out: bool,
) -> (StopConditions, Vec<String>) {
    let mut notices = vec![];
    let mut budget = options.budget.clone();
    if budget == StopConditions::default() {
        budget.patience = Some(PATIENCE);
        if on_cpu {
            budget.minutes = Some(CPU_MINUTES);
            notices.push(format!(
                "on the CPU training stops after {CPU_MINUTES} minutes; set --steps, --epochs or --minutes for more"
            ));
        }
    }
    if on_cpu && options.precision == Some(Precision::Mixed) {
        notices.push("on the CPU mixed precision rounds as a GPU would, and saves no memory".into());
    }
    if let Some((own, other)) = other_preset {
        notices.push(format!("on the CPU the {own} preset is used; --preset {other} is the default on a GPU"));
    }
    if nothing_held_out {
        notices.push("no composer has two pieces, so nothing is held out for validation".into());
    }
    if nothing_held_out && [budget.steps.is_none(), budget.epochs.is_none(), budget.minutes.is_none()] == [true; 3] {
        // Patience alone would wait for ever: there is no validation loss that could stop falling.
        budget.epochs = Some(UNVALIDATED_EPOCHS);
        notices.push(format!(
            "so training stops after {UNVALIDATED_EPOCHS} epochs; set --steps, --epochs or --minutes for another end"
        ));
    }
    notices.extend(notices_of(corpus));
    (budget, notices)
}

/// Whether there is a run to go on with.
fn there_is_a_run(options: &TrainOptions) -> Result<bool> {
    match &options.out {
        Some(out) => Ok(out.join(LAST).try_exists().map_err(|e| refused(out, "read", &e))?),
        None => newest_if_any(Path::new(RUNS), LAST).map(|run| run.is_some()),
    }
}

fn gone_on_with(
    options: &TrainOptions,
    device: &Device,
    (path, mut state): (&Path, Checkpoint),
    pieces: Option<&Pieces>,
) -> Result<Prepared> {
    let options = &if options.whole { options.complete(device)? } else { options.clone() };
    // Those of pieces that are given are not the user's.
    let options = &TrainOptions { notes: options.notes.filter(|_| pieces.is_none()), ..options.clone() };
    if state.resume.is_none() {
        return Err(Error::file(path, "holds no optimiser state to go on with", "start a new run"));
    }
    let damaged = |e: Error| {
        Error::file(path, format!("was saved with {}", e.what), "take another checkpoint, or start a new run")
    };
    check(&state.settings).map_err(damaged)?;
    check_flags(options, path, &state)?;
    let (architecture, roll) = (models::architecture(state.model.architecture())?, state.model.roll());
    let facts = CorpusFacts { lowest: roll.lowest, notes: roll.notes, styles: state.styles.len() };
    let wanted = match &options.preset {
        Some(preset) => models::configure(architecture, preset, facts, &options.set)?,
        None => {
            let config = serde_json::from_str(&state.model.config());
            let config = config.map_err(|e| Error::model(format!("configuration: {e}"), ""))?;
            models::with_overrides(architecture, config, &options.set)?
        }
    };
    if *wanted != *state.model {
        let what = format!("{}: the run was begun with another configuration", path.display());
        return Err(match options.whole {
            true => Error::usage(what, OTHER_FOLDER),
            false => Error::usage(
                format!("{what} than --preset and --set ask for"),
                "leave --preset and --set out, or start a new run in another folder",
            ),
        });
    }
    let corpus = match pieces {
        Some(pieces) => pieces.corpus.clone(),
        None => corpus_of(&state, options.data.as_deref(), options.strict)?,
    };
    check_corpus(options, path, &state, &corpus)?;
    let mut notices = notices_of(&corpus);
    notices.extend(change_rate(options, &mut state)?);
    let corpus = corpus.with_styles(&state.styles)?;
    let train = corpus.part(&state.split, Part::Train)?;
    let validation = corpus.part(&state.split, Part::Validation)?;
    let train_files = train.len();
    let shape = batch_shape(state.model.as_ref(), state.settings.batch, state.settings.seq).map_err(damaged)?;
    let sampler = Sampler::resume(state.progress.cursor.clone(), train, shape)
        .map_err(|e| Error::file(path, e.what, e.remedy))?;
    let settings = &mut state.settings;
    let b = &options.budget;
    if *b != StopConditions::default() {
        // A new budget replaces the old one as a whole, but for what it does not speak of.
        settings.budget = StopConditions { patience: b.patience.or(settings.budget.patience), ..b.clone() };
    }
    settings.recompute |= options.recompute;
    settings.accumulate = options.accumulate.or(settings.accumulate.filter(|_| !options.whole));
    settings.validate_every = options.validate_every.unwrap_or(settings.validate_every);
    settings.save_every = options.save_every.or(settings.save_every);
    settings.samples = options.samples.or(settings.samples);
    let save_every = settings.save_every.unwrap_or(settings.validate_every);
    check(settings)?;
    let out = path.parent().unwrap_or(Path::new(".")).to_path_buf();
    Ok(Prepared {
        out,
        destination: Destination::Resumed,
        state,
        sampler,
        train_files,
        validation,
        save_every,
        notices,
        command: None,
        ranks: None,
    })
}

/// Gives a run that goes on another learning rate or schedule, where one is said, and says so.
fn change_rate(options: &TrainOptions, state: &mut Checkpoint) -> Result<Option<String>> {
    let made = state.progress.step;
    let settings = &mut state.settings;
    let mut fields = settings.optimizer.0.settings();
    let (before, said) = (fields.clone(), options.optimizer_settings()?);
    if let (Some(fields), Some(lr)) = (fields.as_object_mut(), said.get("lr")) {
        fields.insert("lr".into(), lr.clone());
    }
    let rate = options.rate(&settings.rate, made)?;
    let same_rate = RateSchedule { from: settings.rate.from, ..rate } == settings.rate;
    if fields == before && same_rate {
        return Ok(None);
    }
    let name = settings.optimizer.0.name();
    settings.optimizer = optimizer::Stored(optimizer::make(name, fields)?);
    if !same_rate {
        settings.rate = rate;
    }
    check(settings)?;
    let number = |value: &Value| value.get("lr").map_or(String::new(), |lr| format!(" {lr}"));
    let now = settings.optimizer.0.settings();
    let text = format!("from update {made} on the learning rate is{}, not{}", number(&now), number(&before));
    let kept = format!("from update {made} on the learning rate has another schedule");
    Ok(Some(if now == before { kept } else { text }))
}

/// What to do where the folder holds a run that is not the one which is wanted.
const OTHER_FOLDER: &str = "name another folder with --out, or remove the run that is there";

/// Fails if a run was begun with another corpus than this.
fn check_corpus(options: &TrainOptions, path: &Path, state: &Checkpoint, corpus: &Corpus) -> Result<()> {
    if corpus.fingerprint() == state.corpus.fingerprint {
        return Ok(());
    }
    if options.whole {
        let what = format!("{}: the run was begun with another corpus or set", path.display());
        return Err(Error::usage(what, OTHER_FOLDER));
    }
    let data = options.data.clone().or_else(|| state.corpus.data.as_ref().map(PathBuf::from));
    Err(Error::usage(
        format!(
            "{}: the run was begun with another corpus (fingerprint {:08x}, that of {} is {:08x})",
            path.display(),
            state.corpus.fingerprint,
            data.map_or("the program's own".into(), |d| d.display().to_string()),
            corpus.fingerprint()
        ),
        "give the corpus it was begun with by --data, or start a new run in another folder",
    ))
}

/// Fails on a flag with another value than the run was begun with; one that says it again is welcome.
fn check_flags(options: &TrainOptions, path: &Path, state: &Checkpoint) -> Result<()> {
    let settings = &state.settings;
    let differs = |flag: &str, given: Option<String>, stored: String| match given {
        Some(given) if given != stored => {
            let what = format!("{}: the run was begun with {flag} {stored}, not {given}", path.display());
            Err(Error::usage(
                what,
                match options.whole {
                    true => OTHER_FOLDER.into(),
                    false => format!("leave {flag} out, or start a new run in another folder"),
                },
            ))
        }
        _ => Ok(()),
    };
    let text = |value: &dyn std::fmt::Debug| format!("{value:?}").to_lowercase();
    differs("--batch", options.batch.map(|v| text(&v)), text(&settings.batch))?;
    differs("--seq", options.seq.map(|v| text(&v)), text(&settings.seq))?;
    differs("--bptt", options.bptt.map(|v| text(&v)), text(&settings.bptt))?;
    differs("--seed", options.seed.map(|v| text(&v)), text(&settings.seed))?;
    differs("--precision", options.precision.map(|v| text(&v)), text(&settings.precision))?;
    differs("--optimizer", options.optimizer.clone(), settings.optimizer.0.name().into())?;
    let stored = settings.optimizer.0.settings();
    let number = |name: &str| stored.get(name).and_then(Value::as_f64).map_or("none".into(), |v| text(&v));
    if options.whole {
        differs("--lr", options.lr.map(|v| text(&v)), number("lr"))?;
        let rate = options.rate(&RateSchedule::default(), 0)?;
        differs("--lr-schedule", (rate != settings.rate).then(|| described(&rate)), described(&settings.rate))?;
    }
    let augmentation = &state.progress.cursor;
    differs("--transpose", options.transpose.map(|v| text(&v)), text(&augmentation.transpose))?;
    differs("--balance", options.balance.map(|v| text(&v)), text(&augmentation.balance))?;
    differs("--ema", options.ema.map(|v| text(&v)), text(&settings.ema.unwrap_or(0.0)))?;
    differs("--clip-norm", options.clip_norm.map(|v| text(&v)), number("clip_norm"))?;
    differs("--model", options.model.clone(), state.model.architecture().into())?;
    let weights = options.whole || !options.loss_weights.is_empty();
    differs("--loss-weight", weights.then(|| listed(&options.loss_weights)), listed(&settings.loss_weights))?;
    differs("--split-seed", options.split_seed.map(|v| text(&v)), text(&state.split.seed))?;
    differs("--notes", options.notes.map(|v| v.to_string()), state.corpus.range.to_string())?;
    differs("--pedal", options.pedal.then(|| text(&true)), text(&state.corpus.pedal))?;
    let (given, stored) = (options.flat_dynamics.map(FlatDynamics::name), state.corpus.flat_dynamics.name());
    differs("--flat-dynamics", given.map(String::from), stored.into())
}

/// What losses count, for people.
fn listed(weights: &LossWeights) -> String {
    let each: Vec<String> = weights.iter().map(|(label, weight)| format!("{label}={weight}")).collect();
    if each.is_empty() { "1 for each".into() } else { each.join(", ") }
}

/// A schedule of the learning rate, for people.
fn described(rate: &RateSchedule) -> String {
    let RateSchedule { curve, steps, factor, warmup, .. } = rate;
    match curve {
        RateCurve::Constant => format!("constant, warm-up {warmup}"),
        RateCurve::Cosine | RateCurve::Step => {
            format!("{}, steps {steps}, factor {factor}, warm-up {warmup}", curve.name())
        }
    }
}

/// The largest batch and window: B * T rows of N notes must be countable by 32-bit words on a GPU.
const MAX_ROWS: usize = 1 << 20;

/// The shape of batches of so many slots, which must be in range.
pub(crate) fn batch_shape(model: &dyn Model, slots: usize, steps: usize) -> Result<BatchShape> {
    if slots == 0 || steps == 0 || slots.saturating_mul(steps) > MAX_ROWS {
        return Err(Error::usage(
            format!("--batch {slots} --seq {steps}"),
            format!("both must be at least 1, and their product at most {MAX_ROWS}"),
        ));
    }
    Ok(crate::evaluate::batch_shape(model, Slots::all(slots), steps))
}

/// Notices for files that were left out, and for what is odd about those that were read.
fn notices_of(corpus: &Corpus) -> Vec<String> {
    let more = |count: usize| if count > 1 { format!(" and {} more", count - 1) } else { String::new() };
    let (skipped, odd) = (&corpus.report.skipped, &corpus.report.warnings);
    let skipped = skipped.first().map(|first| {
        format!("skipped {} ({}){}; `deepj corpus` lists them", first.file, first.reason, more(skipped.len()))
    });
    let odd = odd.first().map(|first| {
        format!("warning: {}: {}{}; `deepj corpus` lists them", first.file, first.warning, more(odd.len()))
    });
    skipped.into_iter().chain(odd).collect()
}
