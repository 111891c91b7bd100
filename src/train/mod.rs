//! Training: batches in, updates on the device, a learning curve and checkpoints out.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use web_time::Instant;

use crate::checkpoint::{Best, Budget, Checkpoint, Resume, make_folder};
use crate::evaluate::{Evaluator, feed};
use crate::gpu::{Capabilities, Device};
use crate::graph::session::Variants;
use crate::graph::{Kind, ProgramId, Session};
use crate::models::deepj::{Built, Io, Mode, Precision, build};
use crate::ops::Step;
use crate::{Error, Result};

mod curve;
mod memory;
mod observer;
mod options;
mod tensorboard;

pub(crate) use memory::check_plans;
pub use observer::{Observer, Started, StepRecord, ValidationRecord};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use options::today;
pub use options::{BEST, LAST, Options, Prepared, corpus_of, prepare, read_corpus};
pub(crate) use options::{batch_shape, default_batch, with_overrides};

use curve::Curve;
use tensorboard::EventFile;

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
    pub best_checkpoint: Option<PathBuf>,
    /// The last checkpoint.
    pub last_checkpoint: PathBuf,
}

/// A run under way.
struct Run<'a> {
    prepared: Prepared,
    session: Session,
    program: ProgramId,
    io: Io,
    evaluator: Option<Evaluator>,
    observer: &'a mut dyn Observer,
    stop: &'a AtomicBool,
    curve: Curve,
    events: EventFile,
    began: Instant,
    /// Seconds of the parts before this one.
    seconds_before: f64,
    /// The loss scale that the device has.
    scale: f32,
}

/// Trains as prepared, until the budget is used up or `stop` is set.
///
/// # Errors
/// A device that fails, a loss that is not finite (the checkpoints stay as they were before), or a file that cannot be
/// written.
pub async fn train(
    prepared: Prepared,
    device: Device,
    variants: Variants,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
) -> Result<Outcome> {
    let mut run = Run::begin(prepared, device, variants, observer, stop).await?;
    run.go().await
}

/// The plans of a run as [`explain`](crate::graph::session::explain) prints them, with the memory of all; nothing is
/// allocated.
///
/// # Errors
/// A configuration that cannot be built, a variant that does not exist, or a run that does not fit.
pub fn explain(prepared: &Prepared, device: &Device, variants: &Variants) -> Result<String> {
    let capabilities = device.capabilities();
    let plans = memory::plans(prepared, prepared.state.settings.batch)?;
    let mut text = String::new();
    if let (Some(capabilities), Some(plan)) = (capabilities, plans.first()) {
        variants.check(plan, capabilities)?;
    }
    for plan in &plans {
        text.push_str(&crate::graph::session::explain(plan, capabilities, variants)?);
    }
    let mib = memory::bytes(&plans, capabilities.is_none()) as f64 / f64::from(1 << 20);
    text.push_str(&format!("all plans together: {mib:.1} MiB of memory\n"));
    check(prepared, capabilities)?;
    Ok(text)
}

/// Fails if the run cannot be on this device: too little memory, or no f16 in shaders.
fn check(prepared: &Prepared, capabilities: Option<&Capabilities>) -> Result<()> {
    prepared.state.settings.precision.check(capabilities)?;
    memory::check(prepared, capabilities)
}

impl<'a> Run<'a> {
    async fn begin(
        mut prepared: Prepared,
        device: Device,
        variants: Variants,
        observer: &'a mut dyn Observer,
        stop: &'a AtomicBool,
    ) -> Result<Self> {
        check(&prepared, device.capabilities())?;
        make_folder(&prepared.out)?;
        // Megabytes that nobody needs once they are on the device.
        let resume = std::mem::take(&mut prepared.resume);
        let settings = &prepared.state.settings;
        let config = &prepared.state.config;
        let device_name = match &device {
            Device::Gpu(gpu) => gpu.capabilities.to_string(),
            Device::Cpu { .. } => "cpu".into(),
        };
        let Built { plan, io } = build(config, Mode::Train(settings.training()), settings.batch, settings.seq)?;
        if let Some(capabilities) = device.capabilities() {
            variants.check(&plan, capabilities)?;
        }
        let mut session = Session::new(device, variants);
        let on_cpu = session.capabilities().is_none();
        let mut started = Started {
            out: prepared.out.display().to_string(),
            device: device_name.clone(),
            parameters: plan.params.iter().map(|p| p.view.len).sum(),
            train_files: prepared.train_files,
            validation_files: prepared.validation.len(),
            step: prepared.state.progress.step,
            flops: plan.cost().flops,
            memory_bytes: plan.memory_bytes(on_cpu),
            done: None,
            notices: prepared.notices.clone(),
        };
        let program = session.add(plan).await?;
        let evaluator = if prepared.validation.is_empty() {
            None
        } else {
            let built = crate::evaluate::plan(config, &prepared.validation, settings.batch, settings.seq)?;
            started.memory_bytes += built.0.plan.slots_bytes(on_cpu);
            Some(Evaluator::new(&mut session, built, config).await?)
        };
        started.memory_bytes += session.scratch_bytes();

        let [m, v] = &resume.moments;
        for (kind, values) in [(Kind::Params, &prepared.state.params), (Kind::Moment1, m), (Kind::Moment2, v)] {
            let view = session.plan(program).arena(kind);
            session.write(program, view, values)?;
        }
        let scale = write_loss_scale(&mut session, program, &io, &prepared)?;
        for (&view, values) in io.states.iter().zip(&resume.states) {
            session.write(program, view, values)?;
        }
        prepared.state.progress.device = device_name;
        let curve = Curve::open(&prepared.out.join("curve.jsonl"), prepared.state.progress.step)?;
        let events = EventFile::create(&prepared.out, prepared.state.progress.step)?;
        let seconds_before = prepared.state.progress.seconds;
        let run = Self {
            prepared,
            session,
            program,
            io,
            evaluator,
            observer,
            stop,
            curve,
            events,
            began: Instant::now(),
            seconds_before,
            scale,
        };
        started.done = run.done();
        run.observer.started(&started);
        Ok(run)
    }

    async fn go(&mut self) -> Result<Outcome> {
        let mut saved = None;
        loop {
            let step = self.prepared.state.progress.step;
            let every = |n: u64| step > 0 && step.is_multiple_of(n);
            let mut end = self.end();
            let due = every(self.prepared.state.settings.validate_every) || end.is_some();
            if due && self.prepared.state.progress.validated != Some(step) {
                self.validate().await?;
                end = self.end();
            }
            if (due || every(self.prepared.save_every) || end.is_some()) && saved != Some(step) {
                self.save().await?;
                saved = Some(step);
            }
            if let Some(end) = end {
                return Ok(self.outcome(end));
            }
            self.step().await?;
        }
    }

    /// Why training should end now, if it should.
    fn end(&self) -> Option<End> {
        let progress = &self.prepared.state.progress;
        let settings = &self.prepared.state.settings;
        let Budget { steps, epochs, minutes, patience } = settings.budget;
        let waited = progress.best.map_or(0, |best| progress.step - best.step);
        let conditions = [
            (self.stop.load(Ordering::Relaxed), End::Interrupted),
            (steps.is_some_and(|n| progress.step >= n), End::Steps),
            (epochs.is_some_and(|n| progress.epochs >= n), End::Epochs),
            (minutes.is_some_and(|n| self.seconds() >= 60.0 * n), End::Minutes),
            (patience.is_some_and(|n| waited >= n * settings.validate_every), End::Patience),
        ];
        conditions.into_iter().find(|(met, _)| *met).map(|(_, end)| end)
    }

    /// The part of the budget that is used up.
    fn done(&self) -> Option<f64> {
        let progress = &self.prepared.state.progress;
        let Budget { steps, epochs, minutes, .. } = self.prepared.state.settings.budget;
        let parts = [
            steps.map(|n| progress.step as f64 / n as f64),
            epochs.map(|n| progress.epochs / n),
            minutes.map(|n| self.seconds() / (60.0 * n)),
        ];
        parts.into_iter().flatten().max_by(f64::total_cmp).map(|part| part.min(1.0))
    }

    fn seconds(&self) -> f64 {
        self.seconds_before + self.began.elapsed().as_secs_f64()
    }

    /// One update.
    async fn step(&mut self) -> Result<()> {
        let batch = self.prepared.walk.next_batch();
        feed(&mut self.session, self.program, &self.io, &batch)?;
        let Checkpoint { settings, progress, config, .. } = &mut self.prepared.state;
        let unscale = 1.0 / self.scale;
        let mut step = Step { seed: settings.seed, step: progress.step as u32, unscale, ..Step::default() };
        let mut schedule = progress.schedule;
        schedule.advance(&settings.optimizer, &mut step);
        self.session.run(self.program, 1, &step)?;
        self.session.prepare(self.program, 1)?;
        let views: Vec<_> = [Some(self.io.losses), self.io.squared_norm].into_iter().flatten().collect();
        let read = self.session.read(self.program, &views).await?;
        let [play, replay, dynamics] = std::array::from_fn(|i| f64::from(read[0][i]));
        let gradient_norm = f64::from(read[1][0]).sqrt() * f64::from(unscale);
        let losses_finite = (play + replay + dynamics).is_finite();
        let mixed = settings.precision == Precision::Mixed;
        if losses_finite && !gradient_norm.is_finite() && mixed {
            // The update has left everything as it was; the next batch is tried with half the scale.
            if progress.loss_scale.shrink() {
                progress.cursor = self.prepared.walk.cursor().clone();
                self.scale = write_loss_scale(&mut self.session, self.program, &self.io, &self.prepared)?;
                self.observer.overflowed(self.prepared.state.progress.step, self.scale);
                return Ok(());
            }
        }
        if !losses_finite || !gradient_norm.is_finite() {
            return Err(self.not_finite(&step).await);
        }
        progress.schedule = schedule;
        if mixed {
            progress.loss_scale.grow();
        }
        progress.step += 1;
        progress.epochs = self.prepared.walk.epochs();
        progress.cursor = self.prepared.walk.cursor().clone();
        let record = StepRecord {
            step: progress.step,
            epochs: progress.epochs,
            loss: play + replay + dynamics,
            play_bce: play,
            replay_bce: replay,
            dynamics_mse: dynamics,
            play_nats_per_step: play * config.notes as f64,
            gradient_norm,
            loss_scale: mixed.then_some(self.scale),
            seconds: self.seconds_before + self.began.elapsed().as_secs_f64(),
            done: self.done(),
        };
        if mixed && self.prepared.state.progress.loss_scale.factor() != self.scale {
            self.scale = write_loss_scale(&mut self.session, self.program, &self.io, &self.prepared)?;
        }
        self.curve.push(&Line { kind: "train", record: &record })?;
        let scalars = [
            ("train/loss", record.loss),
            ("train/play_bce", play),
            ("train/replay_bce", replay),
            ("train/dynamics_mse", dynamics),
            ("train/play_nats_per_step", record.play_nats_per_step),
            ("train/gradient_norm", gradient_norm),
            ("train/epochs", record.epochs),
        ];
        self.events.scalars(record.step, &scalars)?;
        self.observer.stepped(&record);
        Ok(())
    }

    /// Looks for the op that produced the first value that is not finite. With such a gradient the update has left the
    /// parameters alone, so the same step can be run again.
    async fn not_finite(&mut self, step: &Step) -> Error {
        let number = self.prepared.state.progress.step + 1;
        let found = match self.restore_states().await {
            Ok(()) => self.session.first_non_finite(self.program, step).await,
            Err(e) => Err(e),
        };
        let place = match found {
            Ok(Some(node)) => format!("first in the op `{node}`"),
            Ok(None) => "only with the state carried from the window before".into(),
            Err(e) => format!("and the search for the op failed: {}", e.what),
        };
        Error::run(
            format!("update {number}: the loss or its gradient is not finite, {place}"),
            "start again with a lower --lr or with --clip-norm 1; checkpoints of the run are from before and good",
        )
    }

    /// Makes carried states finite again where the failed step has spoilt them.
    async fn restore_states(&mut self) -> Result<()> {
        let mut states = self.session.read(self.program, &self.io.states).await?;
        for (view, values) in self.io.states.into_iter().zip(&mut states) {
            values.iter_mut().filter(|x| !x.is_finite()).for_each(|x| *x = 0.0);
            self.session.write(self.program, view, values)?;
        }
        Ok(())
    }

    /// Measures the losses on the held-out pieces, and keeps the model if it is the best so far.
    async fn validate(&mut self) -> Result<()> {
        let Some(evaluator) = self.evaluator else { return Ok(()) };
        let pieces = &self.prepared.validation;
        let total = pieces.iter().map(|piece| piece.roll.steps()).sum();
        let observer = &mut *self.observer;
        let progress = |done| observer.validating(done, total);
        let Some(metrics) = evaluator.run(&mut self.session, pieces, self.stop, progress).await? else { return Ok(()) };
        if !metrics.loss.is_finite() {
            let step = self.prepared.state.progress.step;
            return Err(Error::run(
                format!("the validation loss after update {step} is not finite"),
                "start again with a lower --lr or with --clip-norm 1",
            ));
        }
        let seconds = self.seconds();
        let progress = &mut self.prepared.state.progress;
        progress.validated = Some(progress.step);
        let best = progress.best.is_none_or(|best| metrics.loss < best.loss);
        if best {
            let (loss, play_nats_per_step) = (metrics.loss, metrics.play_nats_per_step);
            progress.best = Some(Best { step: progress.step, loss, play_nats_per_step });
        }
        let record = ValidationRecord { step: progress.step, epochs: progress.epochs, metrics, best, seconds };
        self.curve.push(&Line { kind: "validation", record: &record })?;
        let scalars = [
            ("validation/loss", metrics.loss),
            ("validation/play_bce", metrics.play_bce),
            ("validation/replay_bce", metrics.replay_bce),
            ("validation/dynamics_mse", metrics.dynamics_mse),
            ("validation/play_nats_per_step", metrics.play_nats_per_step),
        ];
        self.events.scalars(record.step, &scalars)?;
        self.observer.validated(&record);
        if best {
            self.read_params().await?;
            self.write(BEST)?;
        }
        Ok(())
    }

    async fn read_params(&mut self) -> Result<()> {
        let view = self.session.plan(self.program).arena(Kind::Params);
        self.prepared.state.params = self.session.read(self.program, &[view]).await?.swap_remove(0);
        Ok(())
    }

    /// Writes what `--resume` needs. Without held-out pieces the last model also counts as the best.
    async fn save(&mut self) -> Result<()> {
        let plan = self.session.plan(self.program);
        let arenas = [Kind::Params, Kind::Moment1, Kind::Moment2].map(|kind| plan.arena(kind));
        let views: Vec<_> = arenas.into_iter().chain(self.io.states).collect();
        let read = self.session.read(self.program, &views).await?;
        let Ok([params, m, v, h1, c1, h2, c2]) = <[Vec<f32>; 7]>::try_from(read) else {
            return Err(Error::device("the device returned another number of buffers than asked for", ""));
        };
        self.prepared.state.params = params;
        if self.evaluator.is_none() {
            self.write(BEST)?;
        }
        self.prepared.state.resume = Some(Resume { moments: [m, v], states: [h1, c1, h2, c2] });
        let written = self.write(LAST);
        self.prepared.state.resume = None;
        written
    }

    fn write(&mut self, name: &str) -> Result<()> {
        self.prepared.state.progress.seconds = self.seconds();
        let path = self.prepared.out.join(name);
        self.prepared.state.save(&path)?;
        self.observer.saved(&path);
        Ok(())
    }

    fn outcome(&self, end: End) -> Outcome {
        let progress = &self.prepared.state.progress;
        let file = |name| self.prepared.out.join(name);
        Outcome {
            end,
            step: progress.step,
            epochs: progress.epochs,
            seconds: self.seconds(),
            best: progress.best,
            best_checkpoint: Some(file(BEST)).filter(|path: &PathBuf| Path::exists(path)),
            last_checkpoint: file(LAST),
        }
    }
}

/// One line of the curve.
#[derive(Serialize)]
struct Line<'a, T> {
    kind: &'static str,
    #[serde(flatten)]
    record: &'a T,
}

/// Tells the device how much each loss counts in the gradient: all alike (spec, "Loss"), times the loss scale in mixed
/// precision. Returns the scale.
fn write_loss_scale(session: &mut Session, program: ProgramId, io: &Io, prepared: &Prepared) -> Result<f32> {
    let Checkpoint { settings, progress, .. } = &prepared.state;
    let scale = if settings.precision == Precision::Mixed { progress.loss_scale.factor() } else { 1.0 };
    if let Some(weights) = io.loss_weights {
        session.write(program, weights, &[scale; 3])?;
    }
    Ok(scale)
}
