//! A run: a trainer stepped until a limit is reached, with validations, checkpoints and a learning curve on the way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use web_time::Instant;

use super::among::{Among, Wishes};
use super::destination::{self, Destination};
use super::observer::{Observer, Started, UpdateRecord, ValidationRecord};
use super::plans::{self, Paired, Plans};
use super::run_files::{BEST, Folder, LAST, Nowhere, RunFiles};
use super::tensorboard::EventFile;
use super::trainer::{Snapshot, Start, Trainer, Update};
use super::{End, Outcome, Prepared, curve};
use crate::calendar::since_1970;
use crate::checkpoint::{Best, Checkpoint, CorpusInfo, StopConditions};
use crate::distributed::Ranks;
use crate::gpu::Device;
use crate::graph::session::KernelSelection;
use crate::models::LossValues;
use crate::music::{Piece, Split, Styles};
use crate::{Error, Result};

/// Trains as prepared, until a limit is reached or `stop` is set.
///
/// # Errors
/// A device that fails (the error names the last checkpoint), a loss that is not finite (the checkpoints stay as they were
/// before), or a file that cannot be written.
///
/// # Examples
///
/// ```
/// use std::sync::atomic::AtomicBool;
///
/// use deepj::checkpoint::StopConditions;
/// use deepj::prelude::*;
/// use deepj::train::{TrainOptions, prepare, train};
///
/// # fn main() -> deepj::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let run = folder.path().join("run");
/// let tiny = ["time_units", "note_units", "filters", "style_width"].map(|field| (field.into(), "4".into()));
/// let options = TrainOptions {
///     set: tiny.into(),
///     batch: Some(1),
///     seq: Some(8),
///     budget: StopConditions { steps: Some(2), ..StopConditions::default() },
///     out: Some(run), // `runs/<date-time>-<preset>` where it is None
///     ..TrainOptions::default()
/// };
/// let device = Device::Cpu { why: String::new() };
/// let (prepared, selection) = (prepare(&options, &device)?, KernelSelection::default());
/// let outcome = pollster::block_on(train(prepared, device, selection, &mut (), &AtomicBool::new(false)))?;
/// assert_eq!(outcome.step, 2);
/// # Ok(())
/// # }
/// ```
pub async fn train(
    prepared: Prepared,
    device: Device,
    selection: KernelSelection,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
) -> Result<Outcome> {
    train_and_hold(prepared, device, selection, observer, stop).await.map(|(outcome, _)| outcome)
}

/// The same, with the run's folder, which stays locked for as long as that value is there; `None` on a rank that writes no files.
///
/// # Errors
/// As [`train`].
pub async fn train_and_hold(
    mut prepared: Prepared,
    device: Device,
    selection: KernelSelection,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
) -> Result<(Outcome, Option<Folder>)> {
    let ranks = prepared.ranks.clone();
    let selection = Ranks::agree_if_several(ranks.as_ref(), Paired::of(&prepared, &device).measured(&selection).await)?;
    let plans = Ranks::agree_if_several(ranks.as_ref(), plans::checked(&prepared, &device, &selection))?;
    let writes = ranks.as_ref().is_none_or(Ranks::is_first);
    let mut folder =
        Ranks::agree_if_several(ranks.as_ref(), if writes { open(&prepared).map(Some) } else { Ok(None) })?;
    let mut nowhere = Nowhere;
    let files: &mut dyn RunFiles = match &mut folder {
        Some(folder) => {
            prepared.out = folder.folder().into();
            folder
        }
        None => &mut nowhere,
    };
    let run = Run::begin(files, prepared, plans, device, selection, observer, stop).await;
    let outcome = Ranks::agree_if_several(ranks.as_ref(), run)?.go().await?;
    Ok((outcome, folder))
}

/// The run's folder, locked.
fn open(prepared: &Prepared) -> Result<Folder> {
    let files = destination::open(&prepared.out, prepared.destination)?;
    if prepared.destination == Destination::Resumed
        && Checkpoint::read_progress(&files.folder().join(LAST))? != prepared.state.progress
    {
        let what = "another process has gone on with the run in the meantime";
        return Err(Error::file(files.folder(), what, "go on again from where it ended"));
    }
    Ok(files)
}

/// The same with files elsewhere, such as [`Memory`](super::Memory).
///
/// # Errors
/// As [`train`].
pub async fn train_into(
    files: &mut dyn RunFiles,
    prepared: Prepared,
    device: Device,
    selection: KernelSelection,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
) -> Result<Outcome> {
    let selection = Paired::of(&prepared, &device).measured(&selection).await?;
    let plans = plans::checked(&prepared, &device, &selection)?;
    Run::begin(files, prepared, plans, device, selection, observer, stop).await?.go().await
}

/// The plans of a run as [`explain`](crate::graph::explain) prints them, with the memory of all; nothing is allocated.
///
/// # Errors
/// A configuration that cannot be built, a kernel that does not exist, or a run that does not fit.
pub fn explain(prepared: &Prepared, device: &Device, selection: &KernelSelection) -> Result<String> {
    let adapter = device.capabilities();
    let selection = &Paired::of(prepared, device).remembered(selection)?;
    let plans = plans::checked(prepared, device, selection)?;
    let mut text = String::new();
    for plan in plans.iter() {
        text.push_str(&crate::graph::explain(plan, adapter, selection)?);
    }
    if plans.parts > 1 {
        let (parts, gflop) = (plans.parts, plans.flops() as f64 / 1e9);
        text.push_str(&format!(
            "an update runs the first plan {parts} times, for as many parts of its batch, and sums their gradients: {gflop:.2} GFLOP\n"
        ));
    }
    let mib = plans.bytes(adapter) as f64 / f64::from(1 << 20);
    text.push_str(&format!("all plans together: {mib:.1} MiB of memory\n"));
    Ok(text)
}

/// Whether the run can be on this device; nothing is allocated.
///
/// # Errors
/// As [`explain`].
pub fn check(prepared: &Prepared, device: &Device, selection: &KernelSelection) -> Result<()> {
    plans::checked(prepared, device, selection).map(drop)
}

/// A run under way.
struct Run<'a> {
    trainer: Trainer,
    /// What checkpoints say beside what the trainer knows.
    styles: Styles,
    split: Split,
    corpus: CorpusInfo,
    validation: Vec<Arc<Piece>>,
    save_every: u64,
    files: &'a mut dyn RunFiles,
    events: EventFile,
    observer: &'a mut dyn Observer,
    stop: &'a AtomicBool,
    /// What it does now, for the error of a device that fails.
    doing: &'static str,
    /// The update of the checkpoint to go on from, where there is one.
    resumable: Option<u64>,
    /// See [`Prepared::command`].
    command: Option<&'static str>,
    began: Instant,
    /// Seconds of the parts before this one.
    seconds_before: f64,
}

impl<'a> Run<'a> {
    async fn begin(
        files: &'a mut dyn RunFiles,
        prepared: Prepared,
        plans: Plans,
        device: Device,
        selection: KernelSelection,
        observer: &'a mut dyn Observer,
        stop: &'a AtomicBool,
    ) -> Result<Self> {
        let (validates, own_validation) = (!prepared.validation.is_empty(), prepared.own_validation());
        let Prepared { out, destination, state, sampler, train_files, validation, save_every, .. } = prepared;
        let Prepared { notices, command, ranks, .. } = prepared;
        let Checkpoint { model, styles, split, corpus, settings, mut progress, params, mean, resume } = state;
        progress.device = match &device {
            Device::Gpu(gpu) => gpu.capabilities.to_string(),
            Device::Cpu { .. } => "cpu".into(),
        };
        let mut started = Started {
            out: out.display().to_string(),
            device: progress.device.clone(),
            parameters: model.layout().elements(),
            train_files,
            validation_files: validation.len(),
            step: progress.step,
            flops: plans.flops() * ranks.as_ref().map_or(1, Ranks::size) as u64,
            memory_bytes: plans.bytes(device.capabilities()),
            parts: plans.parts,
            done: None,
            losses: model.losses(),
            notices,
        };
        let (step, seconds_before) = (progress.step, progress.seconds);
        let resume = resume.unwrap_or_default();
        let among = ranks.map(|ranks| Among::new(ranks, &device, &plans)).transpose()?;
        let start = Start { model, settings, progress, params, mean, resume, sampler, validates, among };
        let resumable = (destination == Destination::Resumed).then_some(step);
        let trainer = match Trainer::new(start, plans, device, selection).await {
            Err(e) if e.is_of_device() && resumable.is_some() => {
                return Err(e.during("preparing the device", last_checkpoint(files, resumable, command)));
            }
            trainer => trainer?,
        };
        started.memory_bytes += trainer.scratch_bytes();
        // Not before all that can fail for a beginning has not: what is removed was a run.
        match destination {
            Destination::Replaced => destination::clear(files)?,
            Destination::Begun => {
                for name in [curve::NAME, BEST] {
                    started.notices.extend(destination::keep_aside(files, name)?);
                }
            }
            Destination::New | Destination::Free | Destination::Resumed => {}
        }
        started.notices.extend(curve::begin(files, step)?);
        let events = EventFile::create(files, step)?;
        let began = Instant::now();
        let run = Self {
            trainer,
            styles,
            split,
            corpus,
            validation: own_validation,
            save_every,
            files,
            events,
            observer,
            stop,
            doing: "training",
            resumable,
            command,
            began,
            seconds_before,
        };
        started.done = run.done(step, run.trainer.progress().epochs);
        run.observer.started(&started);
        Ok(run)
    }

    async fn go(&mut self) -> Result<Outcome> {
        self.run_updates().await.map_err(|e| {
            if !e.is_of_device() {
                return e;
            }
            let doing = format!("{} after update {}", self.doing, self.trainer.progress().step);
            e.during(doing, last_checkpoint(self.files, self.resumable, self.command))
        })
    }

    async fn run_updates(&mut self) -> Result<Outcome> {
        let mut saved = None;
        loop {
            if let Some(pause) = self.observer.pause() {
                pause.await;
            }
            self.doing = "training";
            // Nothing is due in the middle of an update: where something may be, the one under way is waited for.
            let step = self.trainer.submitted();
            let every = |n: u64| step > 0 && step.is_multiple_of(n);
            let validation_due = every(self.trainer.settings().validate_every);
            let save_due = self.save_is_wanted() || validation_due || every(self.save_every);
            let mut end = self.end();
            if save_due || end.is_some() {
                if let Some(update) = self.trainer.finish().await? {
                    self.record(update)?;
                }
                let mut snapshot = None;
                if (validation_due || end.is_some()) && self.trainer.progress().validated != Some(step) {
                    self.validate(&mut snapshot).await?;
                    end = self.end();
                }
                if saved != Some(step) {
                    self.save(&mut snapshot).await?;
                    saved = Some(step);
                }
            }
            if let Some(end) = end {
                // What tells a run that has ended from one that was killed.
                let record = EndRecord { step, end, seconds: self.seconds() };
                curve::push(self.files, "end", &record)?;
                return Ok(self.outcome(end));
            }
            self.wish();
            if let Some(update) = self.trainer.step().await? {
                self.record(update)?;
            }
        }
    }

    /// Whether a checkpoint was asked for.
    fn save_is_wanted(&mut self) -> bool {
        match self.trainer.agreed() {
            Some(agreed) => agreed.save,
            None => self.observer.wants_checkpoint(),
        }
    }

    /// Tells other ranks what is asked for here, so that all do it after the same update.
    fn wish(&mut self) {
        if self.trainer.agreed().is_some() {
            let (stop, save) = (self.stop.load(Ordering::Relaxed), self.observer.wants_checkpoint());
            self.trainer.wish(Wishes { stop, save, time_up: self.time_is_up() });
        }
    }

    /// Whether the minutes of the budget have passed.
    fn time_is_up(&self) -> bool {
        self.trainer.settings().budget.minutes.is_some_and(|n| self.seconds() >= 60.0 * n)
    }

    /// Why training should end now, if it should.
    fn end(&self) -> Option<End> {
        let (progress, settings) = (self.trainer.progress(), self.trainer.settings());
        let StopConditions { steps, epochs, minutes: _, patience } = settings.budget;
        // Signals and clocks are for all ranks to agree on.
        let (stop, time_up) = match self.trainer.agreed() {
            Some(agreed) => (agreed.stop, agreed.time_up),
            None => (self.stop.load(Ordering::Relaxed), self.time_is_up()),
        };
        let step = self.trainer.submitted();
        let waited = progress.best.map_or(0, |best| step - best.step);
        let conditions = [
            (stop, End::Interrupted),
            (steps.is_some_and(|n| step >= n), End::Steps),
            (epochs.is_some_and(|n| self.trainer.epochs() >= n), End::Epochs),
            (time_up, End::Minutes),
            (patience.is_some_and(|n| waited >= n * settings.validate_every), End::Patience),
        ];
        conditions.into_iter().find(|(met, _)| *met).map(|(_, end)| end)
    }

    /// The part of the limits that is used up.
    fn done(&self, step: u64, epochs: f64) -> Option<f64> {
        let StopConditions { steps, epochs: most_epochs, minutes, .. } = self.trainer.settings().budget;
        let parts = [
            steps.map(|n| step as f64 / n as f64),
            most_epochs.map(|n| epochs / n),
            minutes.map(|n| self.seconds() / (60.0 * n)),
        ];
        parts.into_iter().flatten().max_by(f64::total_cmp).map(|part| part.min(1.0))
    }

    fn seconds(&self) -> f64 {
        self.seconds_before + self.began.elapsed().as_secs_f64()
    }

    /// Tells of what came of an update.
    fn record(&mut self, update: Update) -> Result<()> {
        let record = match update {
            Update::Overflowed { step, scale } => {
                self.observer.overflowed(step, scale);
                return Ok(());
            }
            Update::Made(record) => {
                let done = self.done(record.step, record.epochs);
                UpdateRecord { seconds: self.seconds(), done, ..record }
            }
        };
        curve::push(self.files, "train", &record)?;
        let mut scalars = scalars("train", &record.losses);
        scalars.push(("train/gradient_norm".into(), record.gradient_norm));
        scalars.push(("train/epochs".into(), record.epochs));
        scalars.push(("train/lr".into(), record.lr));
        self.events.scalars(self.files, record.step, &scalars)?;
        self.observer.stepped(&record);
        Ok(())
    }

    /// Measures the losses on the held-out pieces, and keeps the model if it is the best so far.
    async fn validate(&mut self, snapshot: &mut Option<Snapshot>) -> Result<()> {
        self.doing = "validating";
        let total = self.validation.iter().map(|piece| piece.roll.steps()).sum();
        let observer = &mut *self.observer;
        let progress = |done| observer.validating(done, total);
        let Some(metrics) = self.trainer.validate(&self.validation, self.stop, progress).await? else { return Ok(()) };
        let loss = metrics.losses.total();
        if !loss.is_finite() {
            // All have the same metrics.
            self.trainer.ranks().iter().for_each(|ranks| ranks.all_have_it());
            let step = self.trainer.progress().step;
            return Err(Error::run(
                format!("the validation loss after update {step} is not finite"),
                "start again with a lower --lr or with --clip-norm 1",
            ));
        }
        let seconds = self.seconds();
        let progress = self.trainer.progress_mut();
        let (step, epochs) = (progress.step, progress.epochs);
        progress.validated = Some(step);
        let best = progress.best.is_none_or(|best| loss < best.loss);
        if best {
            progress.best = Some(Best { step, loss, nats_per_step: metrics.losses.nats_per_step() });
        }
        let record = ValidationRecord { step, epochs, metrics, best, seconds };
        curve::push(self.files, "validation", &record)?;
        let scalars = scalars("validation", &record.metrics.losses);
        self.events.scalars(self.files, step, &scalars)?;
        self.observer.validated(&record);
        if best {
            self.write(BEST, snapshot, false).await?;
        }
        Ok(())
    }

    /// Writes what `--resume` needs. Without held-out pieces the last model also counts as the best.
    async fn save(&mut self, snapshot: &mut Option<Snapshot>) -> Result<()> {
        if !self.trainer.validates() {
            self.write(BEST, snapshot, false).await?;
        }
        self.write(LAST, snapshot, true).await
    }

    /// Writes a checkpoint of the last update, read from the device unless it was already.
    async fn write(&mut self, name: &str, snapshot: &mut Option<Snapshot>, resumable: bool) -> Result<()> {
        self.doing = "saving";
        let Snapshot { params, mean, resume } = match snapshot {
            Some(snapshot) => snapshot,
            None => snapshot.insert(self.trainer.snapshot().await?),
        };
        let seconds = self.seconds();
        let progress = self.trainer.progress_mut();
        (progress.seconds, progress.saved) = (seconds, since_1970().as_secs());
        let checkpoint = Checkpoint {
            model: self.trainer.model().clone(),
            styles: self.styles.clone(),
            split: self.split.clone(),
            corpus: self.corpus.clone(),
            settings: self.trainer.settings().clone(),
            progress: self.trainer.progress().clone(),
            params: params.clone(),
            mean: mean.clone(),
            resume: resumable.then(|| resume.clone()),
        };
        let ranks = self.trainer.ranks();
        let written = match ranks.is_none_or(Ranks::is_first) {
            true => checkpoint.to_bytes().and_then(|bytes| self.files.write(name, &bytes)),
            false => Ok(()),
        };
        Ranks::agree_if_several(ranks, written)?;
        if name == LAST {
            self.resumable = Some(checkpoint.progress.step);
        }
        self.observer.saved(&self.files.path(name));
        Ok(())
    }

    fn outcome(&self, end: End) -> Outcome {
        let progress = self.trainer.progress();
        let names = self.files.names().unwrap_or_default();
        let is_there = |name: &&str| names.iter().any(|other| other == name);
        Outcome {
            end,
            step: progress.step,
            epochs: progress.epochs,
            seconds: self.seconds(),
            best: progress.best,
            best_checkpoint: Some(BEST).filter(is_there).map(|name| self.files.path(name)),
            last_checkpoint: self.files.path(LAST),
        }
    }
}

/// Where a run whose device failed can be taken up again.
fn last_checkpoint(files: &dyn RunFiles, step: Option<u64>, command: Option<&str>) -> String {
    let Some(step) = step else {
        return "this run has written no checkpoint yet; --save-every has it do so sooner".into();
    };
    let path = files.path(LAST);
    let last = format!("the last checkpoint, of update {step}, is {}", path.display());
    // Files in memory are in no folder.
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => match command {
            Some(command) => format!("{last}; `{command} --out {}` goes on from there", folder.display()),
            None => format!("{last}; the same command goes on from there"),
        },
        None => last,
    }
}

/// The last line of the curve of a run that was not killed.
#[derive(Serialize)]
struct EndRecord {
    /// Updates made.
    step: u64,
    end: End,
    seconds: f64,
}

/// Losses and likelihoods under the names that TensorBoard shows.
fn scalars(of: &str, losses: &LossValues) -> Vec<(String, f64)> {
    let each = losses.iter().map(|(loss, value)| (loss.key, value));
    let all = [("loss", losses.total())].into_iter().chain(each).chain(losses.nats());
    all.map(|(name, value)| (format!("{of}/{name}"), value)).collect()
}
