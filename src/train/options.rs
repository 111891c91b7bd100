//! What a training run is asked to do, and what comes of it: everything is read, checked and decided here, before a
//! device computes anything.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::checkpoint::{Budget, Checkpoint, CorpusInfo, Progress, RUNS, Resume, Settings, layout, newest};
use crate::models::deepj::{Config, Precision, Preset};
use crate::music::{BatchShape, Bptt, Corpus, CorpusOptions, NoteRange, Part, Piece, Training};
use crate::nn::loss_scale::LossScale;
use crate::nn::{init, nadam};
use crate::{Error, Result};

/// The last state of a run, in its folder: what `--resume` reads.
pub const LAST: &str = "last.safetensors";
/// The state with the best validation loss.
pub const BEST: &str = "best.safetensors";

/// What to do. `None` is the default, or in a resumed run what it was begun with.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The corpus' folder.
    pub data: Option<PathBuf>,
    /// The run's folder: one named by date and preset in `runs` unless given, to resume the newest there.
    pub out: Option<PathBuf>,
    /// Go on with the run in `out`.
    pub resume: bool,
    /// Replace the run in `out`.
    pub force: bool,
    /// Sizes of the network: small on the CPU, the paper's on a GPU.
    pub preset: Option<Preset>,
    /// Fields of the configuration that differ from the preset: name and JSON value.
    pub set: Vec<(String, String)>,
    /// The pitches.
    pub notes: Option<NoteRange>,
    /// Whether notes last until the sustain pedal is released.
    pub pedal: bool,
    /// Whether one unusable file of the corpus is an error.
    pub strict: bool,
    /// How training walks through the pieces.
    pub bptt: Option<Bptt>,
    /// B, lanes of a batch.
    pub batch: Option<usize>,
    /// T, time steps of a window.
    pub seq: Option<usize>,
    /// Learning rate.
    pub lr: Option<f64>,
    /// Largest global gradient norm; 0 for no limit.
    pub clip_norm: Option<f64>,
    /// How values are stored while training.
    pub precision: Option<Precision>,
    /// Compute gates again in the backward pass instead of keeping them.
    pub recompute: bool,
    /// Seed of initial values, orders and dropout masks.
    pub seed: Option<u32>,
    /// Seed of the split into training, validation and test pieces.
    pub split_seed: Option<u64>,
    /// When to stop.
    pub budget: Budget,
    /// Updates between validations.
    pub validate_every: Option<u64>,
    /// Updates between checkpoints: as often as validations, unless given.
    pub save_every: Option<u64>,
}

/// A run that can begin: what [`super::train`] takes.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The run's folder.
    pub out: PathBuf,
    /// Where training stands: at its beginning, or where the resumed run was.
    pub state: Checkpoint,
    /// Moments and carried states of `state`.
    pub resume: Resume,
    /// The walk through the training pieces.
    pub walk: Training,
    /// Training pieces.
    pub train_files: usize,
    /// Held-out pieces; may be empty where no composer has two.
    pub validation: Vec<Arc<Piece>>,
    /// Updates between checkpoints.
    pub save_every: u64,
    /// What the user should know.
    pub notices: Vec<String>,
}

/// B and T without a word from the user. With the paper's sizes those of its authors, 8 bars; with the small ones what
/// learns most in a given time: 400 updates of 4 x 64 reach 5.07 nats a step on the held-out pieces of the program's own
/// corpus, where in the same time 200 of 8 x 64 reach 5.49, 200 of 4 x 128 5.81, and 50 of 16 x 128 10.63.
pub(crate) fn default_batch(preset: Preset) -> (usize, usize) {
    match preset {
        Preset::Paper => (16, 128),
        Preset::Small => (4, 64),
    }
}
/// Minutes of training on the CPU when no budget is given.
const CPU_MINUTES: f64 = 8.0;
/// Validations without progress after which to stop when no budget is given.
const PATIENCE: u64 = 10;
/// Longest time between two validations, in updates, when nothing is said.
const VALIDATE_EVERY: u64 = 200;

/// Reads the corpus and, to resume, the checkpoint, and decides all that is left open. `on_cpu` decides defaults only.
///
/// # Errors
/// Anything that cannot be read or does not fit together, values out of range, or a folder that holds a run already.
pub fn prepare(options: &Options, on_cpu: bool) -> Result<Prepared> {
    let prepared = if options.resume { resumed(options)? } else { fresh(options, on_cpu)? };
    let settings = &prepared.state.settings;
    let positive = |flag: &str, value: Option<f64>| match value {
        Some(v) if v.is_nan() || v <= 0.0 => Err(Error::usage(format!("{flag} {v}"), "give a number above 0")),
        _ => Ok(()),
    };
    positive("--lr", Some(settings.optimizer.lr))?;
    positive("--epochs", settings.budget.epochs)?;
    positive("--minutes", settings.budget.minutes)?;
    positive("--validate-every", Some(settings.validate_every as f64))?;
    positive("--save-every", Some(prepared.save_every as f64))?;
    positive("--patience", settings.budget.patience.map(|p| p as f64))?;
    if !settings.optimizer.lr.is_finite()
        || !settings.optimizer.clip_norm.is_finite()
        || settings.optimizer.clip_norm < 0.0
    {
        return Err(Error::usage(
            "--lr and --clip-norm must be finite and not negative",
            "give for example --lr 0.002",
        ));
    }
    Ok(prepared)
}

/// The corpus in the folder `data`, or the one within the program.
///
/// # Errors
/// See [`Corpus::read`].
pub fn read_corpus(data: Option<&Path>, options: &CorpusOptions) -> Result<Corpus> {
    match data {
        Some(dir) => Corpus::read(dir, options),
        None => Corpus::from_files("the program's corpus", crate::data::FILES, options),
    }
}

/// The corpus that a model was trained on, read as it was then, or another one in the folder `data`.
///
/// # Errors
/// See [`Corpus::read`].
pub fn corpus_of(checkpoint: &Checkpoint, data: Option<&Path>, strict: bool) -> Result<Corpus> {
    let info = &checkpoint.corpus;
    let reading = CorpusOptions { range: info.range, pedal: info.pedal, strict };
    match (data, &info.data) {
        (None, Some(stored)) => read_corpus(Some(Path::new(stored)), &reading).map_err(|e| {
            let remedy = format!("That is where the corpus was in training; name its place with --data. {}", e.remedy);
            Error { remedy, ..e }
        }),
        (data, _) => read_corpus(data, &reading),
    }
}

fn fresh(options: &Options, on_cpu: bool) -> Result<Prepared> {
    let preset = options.preset.unwrap_or(if on_cpu { Preset::Small } else { Preset::Paper });
    let out = options.out.clone().unwrap_or_else(|| Path::new(RUNS).join(run_name(preset)));
    for name in [LAST, BEST] {
        let path = out.join(name);
        if path.exists() && !options.force {
            let remedy = "go on with it by --resume, replace it by --force, or name another folder with --out";
            return Err(Error::file(path, "the folder holds a run already", remedy));
        }
    }
    let range = options.notes.unwrap_or_default();
    let reading = CorpusOptions { range, pedal: options.pedal, strict: options.strict };
    let corpus = read_corpus(options.data.as_deref(), &reading)?;
    let base =
        Config { lowest: usize::from(range.low()), notes: range.len(), ..Config::preset(preset, corpus.styles.len()) };
    let config = with_overrides(base, &options.set)?;
    let split = corpus.split(options.split_seed.unwrap_or(0));
    let train = corpus.part(&split, Part::Train)?;
    let validation = corpus.part(&split, Part::Validation)?;
    let (batch, seq) = default_batch(preset);
    let (batch, seq) = (options.batch.unwrap_or(batch), options.seq.unwrap_or(seq));
    let bptt = options.bptt.unwrap_or(Bptt::Stateful);
    let seed = options.seed.unwrap_or(0);
    let shape = batch_shape(&config, batch, seq)?;
    let train_files = train.len();
    let steps: usize = train.iter().map(|piece| piece.roll.steps()).sum();
    let walk = Training::new(bptt, train, shape, u64::from(seed))?;

    let mut notices = vec![];
    let mut budget = options.budget.clone();
    if budget == Budget::default() {
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
    if on_cpu && options.preset.is_none() {
        notices.push("on the CPU the small preset is used; --preset paper has the paper's size".into());
    }
    if validation.is_empty() {
        notices.push("no composer has two pieces, so nothing is held out for validation".into());
    }
    notices.extend(skipped(&corpus));
    let per_window = match bptt {
        Bptt::Stateful => seq,
        Bptt::Windowed => crate::music::batch::WINDOW_STRIDE,
    };
    let epoch = (steps / (batch * per_window)).max(1) as u64;
    let validate_every = options.validate_every.unwrap_or(epoch.min(VALIDATE_EVERY));
    let default = nadam::Settings::default();
    let optimizer = nadam::Settings {
        lr: options.lr.unwrap_or(default.lr),
        clip_norm: options.clip_norm.unwrap_or(default.clip_norm),
        ..default
    };
    let (params, len) = layout(&config)?;
    let carried = batch * config.notes * config.time_units;
    let state = Checkpoint {
        params: init::initialise(&params, len, seed),
        resume: None,
        styles: corpus.styles.clone(),
        corpus: CorpusInfo {
            data: options.data.as_ref().map(|dir| dir.display().to_string()),
            fingerprint: corpus.fingerprint(),
            range,
            pedal: options.pedal,
        },
        split,
        settings: Settings {
            bptt,
            batch,
            seq,
            seed,
            optimizer,
            precision: options.precision.unwrap_or_default(),
            recompute: options.recompute,
            validate_every,
            budget,
        },
        progress: Progress {
            step: 0,
            epochs: 0.0,
            seconds: 0.0,
            schedule: nadam::Schedule::default(),
            loss_scale: LossScale::default(),
            cursor: walk.cursor().clone(),
            validated: None,
            best: None,
            device: String::new(),
        },
        config,
    };
    Ok(Prepared {
        out,
        state,
        resume: Resume {
            moments: [vec![0.0; len], vec![0.0; len]],
            states: std::array::from_fn(|_| vec![0.0; carried]),
        },
        walk,
        train_files,
        validation,
        save_every: options.save_every.unwrap_or(validate_every),
        notices,
    })
}

fn resumed(options: &Options) -> Result<Prepared> {
    let path = match &options.out {
        Some(out) => out.join(LAST),
        None => newest(Path::new(RUNS), LAST)?,
    };
    if !path.exists() {
        let remedy = "name its folder with --out, or leave out --resume";
        return Err(Error::file(&path, "there is no run to go on with", remedy));
    }
    let mut state = Checkpoint::load(&path)?;
    let Some(resume) = state.resume.take() else {
        return Err(Error::file(path, "holds no optimiser state to go on with", "start a new run"));
    };
    let settings = &state.settings;
    let config = &state.config;
    // A flag that says again what the run was begun with is welcome, another value is not.
    let differs = |flag: &str, given: Option<String>, stored: String| match given {
        Some(given) if given != stored => Err(Error::usage(
            format!("{}: the run was begun with {flag} {stored}, not {given}", path.display()),
            format!("leave {flag} out, or start a new run in another folder"),
        )),
        _ => Ok(()),
    };
    let text = |value: &dyn std::fmt::Debug| format!("{value:?}").to_lowercase();
    differs("--batch", options.batch.map(|v| text(&v)), text(&settings.batch))?;
    differs("--seq", options.seq.map(|v| text(&v)), text(&settings.seq))?;
    differs("--bptt", options.bptt.map(|v| text(&v)), text(&settings.bptt))?;
    differs("--seed", options.seed.map(|v| text(&v)), text(&settings.seed))?;
    differs("--precision", options.precision.map(|v| text(&v)), text(&settings.precision))?;
    differs("--lr", options.lr.map(|v| text(&v)), text(&settings.optimizer.lr))?;
    differs("--clip-norm", options.clip_norm.map(|v| text(&v)), text(&settings.optimizer.clip_norm))?;
    differs("--split-seed", options.split_seed.map(|v| text(&v)), text(&state.split.seed))?;
    differs("--notes", options.notes.map(|v| v.to_string()), state.corpus.range.to_string())?;
    differs("--pedal", options.pedal.then(|| text(&true)), text(&state.corpus.pedal))?;
    let wanted = match options.preset {
        Some(preset) => Config { lowest: config.lowest, notes: config.notes, ..Config::preset(preset, config.styles) },
        None => config.clone(),
    };
    if with_overrides(wanted, &options.set)? != *config {
        return Err(Error::usage(
            format!("{}: the run was begun with another configuration than --preset and --set ask for", path.display()),
            "leave --preset and --set out, or start a new run in another folder",
        ));
    }
    let data = options.data.clone().or_else(|| state.corpus.data.as_ref().map(PathBuf::from));
    let corpus = corpus_of(&state, options.data.as_deref(), options.strict)?;
    if corpus.fingerprint() != state.corpus.fingerprint {
        return Err(Error::usage(
            format!(
                "{}: the run was begun with another corpus (fingerprint {:08x}, that of {} is {:08x})",
                path.display(),
                state.corpus.fingerprint,
                data.map_or("the program's own".into(), |d| d.display().to_string()),
                corpus.fingerprint()
            ),
            "give the corpus it was begun with by --data, or start a new run in another folder",
        ));
    }
    let notices = Vec::from_iter(skipped(&corpus));
    let corpus = corpus.with_styles(&state.styles)?;
    let train = corpus.part(&state.split, Part::Train)?;
    let validation = corpus.part(&state.split, Part::Validation)?;
    let train_files = train.len();
    let shape = batch_shape(config, settings.batch, settings.seq)?;
    let walk = Training::resume(state.progress.cursor.clone(), train, shape)
        .map_err(|e| Error::file(&path, e.what, e.remedy))?;
    let settings = &mut state.settings;
    let b = &options.budget;
    if *b != Budget::default() {
        // A new budget replaces the old one as a whole, but for what it does not speak of.
        settings.budget = Budget { patience: b.patience.or(settings.budget.patience), ..b.clone() };
    }
    settings.recompute |= options.recompute;
    settings.validate_every = options.validate_every.unwrap_or(settings.validate_every);
    let save_every = options.save_every.unwrap_or(settings.validate_every);
    let out = path.parent().unwrap_or(Path::new(".")).to_path_buf();
    Ok(Prepared { out, state, resume, walk, train_files, validation, save_every, notices })
}

/// The largest batch and window: B * T rows of N notes must be countable by 32-bit words on a GPU.
const MAX_ROWS: usize = 1 << 20;

pub(crate) fn batch_shape(config: &Config, lanes: usize, steps: usize) -> Result<BatchShape> {
    if lanes == 0 || steps == 0 || lanes.saturating_mul(steps) > MAX_ROWS {
        return Err(Error::usage(
            format!("--batch {lanes} --seq {steps}"),
            format!("both must be at least 1, and their product at most {MAX_ROWS}"),
        ));
    }
    Ok(BatchShape { lanes, steps, styles: config.styles })
}

/// The configuration with single fields replaced.
pub(crate) fn with_overrides(config: Config, set: &[(String, String)]) -> Result<Config> {
    let Ok(Value::Object(mut fields)) = serde_json::to_value(&config) else { return Ok(config) };
    // What the corpus decides is not the user's to set.
    let settable = |fields: &Map<String, Value>| {
        let names = fields.keys().filter(|name| !["styles", "lowest", "notes"].contains(&name.as_str()));
        names.cloned().collect::<Vec<_>>()
    };
    let names = settable(&fields);
    for (name, value) in set {
        if !names.contains(name) {
            return Err(Error::usage(
                format!("--set {name}: no such field"),
                format!("there are {}", names.join(", ")),
            ));
        }
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.clone()));
        fields.insert(name.clone(), value);
        serde_json::from_value::<Config>(Value::Object(fields.clone()))
            .map_err(|e| Error::usage(format!("--set {name}: {e}"), "see `deepj train --help`"))?;
    }
    let config = serde_json::from_value(Value::Object(fields)).unwrap_or(config);
    config.check().map_err(|e| Error::usage(e.what, e.remedy))?;
    Ok(config)
}

/// A notice for files that were left out.
fn skipped(corpus: &Corpus) -> Option<String> {
    let skipped = &corpus.report.skipped;
    let first = skipped.first()?;
    let more = if skipped.len() > 1 { format!(" and {} more", skipped.len() - 1) } else { String::new() };
    Some(format!("skipped {} ({}){more}; `deepj corpus` lists them", first.file, first.reason))
}

/// The name of a new run: date and time (UTC) and preset.
fn run_name(preset: Preset) -> String {
    let seconds = now();
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let preset = format!("{preset:?}").to_lowercase();
    format!("{}-{hour:02}{minute:02}{second:02}-{preset}", today())
}

/// Seconds since 1970.
fn now() -> u64 {
    let now = web_time::SystemTime::now().duration_since(web_time::SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}

/// The date (UTC), year first.
pub(crate) fn today() -> String {
    let (year, month, day) = date(now() / 86_400);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Year, month and day of the day that is this many days after 1970-01-01, in the Gregorian calendar.
fn date(mut days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        // From `date -u -d @$((86400 * days))`.
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(11_016), (2000, 2, 29));
        assert_eq!(date(20_453), (2025, 12, 31));
        assert_eq!(date(47_540), (2100, 2, 28));
        assert_eq!(date(47_541), (2100, 3, 1));
    }
}
