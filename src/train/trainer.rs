//! A training that is stepped from outside: by the training command, a browser's loop, an experiment, or a process of many.
//!
//! Gradients and update are plans of their own on the same buffers. On a GPU the losses of an update are read while the
//! next one runs, so that nothing idles between updates; not so in mixed precision, where it must be known before the
//! next update whether the gradients overflowed, and on the CPU, where an update is over when it returns.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::Prepared;
use super::observer::UpdateRecord;
use super::plans::{self, Plans};
use crate::checkpoint::{Checkpoint, Progress, Resume, Settings, averaged};
use crate::evaluate::{Evaluator, Metrics, feed};
use crate::gpu::Device;
use crate::graph::session::{KernelSelection, Reading};
use crate::graph::{Kind, ProgramId, Session};
use crate::models::{LossValues, Model, Precision, SequenceIo, losses};
use crate::music::{Batch, Cursor, Piece, Sampler};
use crate::nn::optimizer::{self, Schedule};
use crate::ops::{Uniforms, View};
use crate::shape::Slots;
use crate::{Error, Result};

/// A network in training, on a device. It knows nothing of files.
///
/// # Examples
///
/// ```
/// # fn main() -> deepj::Result<()> {
/// use deepj::prelude::*;
/// use deepj::train::{TrainOptions, Trainer, Update, prepare};
///
/// let tiny = ["time_units", "note_units", "filters", "style_width"].map(|field| (field.into(), "4".into()));
/// let options = TrainOptions { set: tiny.into(), batch: Some(1), seq: Some(8), ..TrainOptions::default() };
/// let device = Device::Cpu { why: String::new() };
/// let prepared = prepare(&options, &device)?; // on the pieces within the program
/// let mut trainer = pollster::block_on(Trainer::begin(prepared, device, KernelSelection::default()))?;
/// for _ in 0..2 {
///     if let Some(Update::Made(record)) = pollster::block_on(trainer.step())? {
///         println!("update {}: loss {}", record.step, record.losses.total());
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Trainer {
    model: Arc<dyn Model>,
    settings: Settings,
    /// As of the last update whose losses were read.
    progress: Progress,
    sampler: Sampler,
    session: Session,
    gradients: ProgramId,
    update: ProgramId,
    io: SequenceIo,
    squared_norm: View,
    evaluator: Option<Evaluator>,
    /// The parts of a batch.
    parts: Vec<Slots>,
    accumulation: Option<Accumulation>,
    /// The loss scale that the device has.
    scale: f32,
    /// The update whose losses were not read yet.
    in_flight: Option<InFlight>,
}

/// What sums the gradients of the parts of a batch.
struct Accumulation {
    /// Adds gradients to the sum, and the sum to gradients.
    programs: [ProgramId; 2],
    /// The sum in the first program.
    sum: View,
    /// The carried states of all slots: the device has those of one part.
    states: Vec<Vec<f32>>,
}

/// An update that was submitted.
struct InFlight {
    reading: Reading,
    /// The losses, where the batch has several parts: then they were read already.
    losses: Option<Vec<f32>>,
    uniforms: Uniforms,
    /// What becomes of the schedule and the sampler if the update is good.
    schedule: Schedule,
    cursor: Cursor,
    epochs: f64,
    /// Kept to look for the cause of a loss that is not finite.
    batches: Vec<Batch>,
}

/// What came of an update.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// The parameters were updated.
    Made(UpdateRecord),
    /// A gradient overflowed f16 after so many updates: the batch was passed over, and the loss scale is now this.
    Overflowed {
        /// Updates made before.
        step: u64,
        /// The new loss scale.
        scale: f32,
    },
}

/// Where a training begins.
pub(super) struct Start {
    pub model: Arc<dyn Model>,
    pub settings: Settings,
    pub progress: Progress,
    /// The parameter buffer.
    pub params: Vec<f32>,
    /// See [`Checkpoint::mean`].
    pub mean: Option<Vec<f32>>,
    /// The optimiser's buffers and the carried states.
    pub resume: Resume,
    pub sampler: Sampler,
}

/// What a checkpoint takes from a trainer.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The parameter buffer.
    pub params: Vec<f32>,
    /// See [`Checkpoint::mean`].
    pub mean: Option<Vec<f32>>,
    /// The optimiser's buffers and the carried states.
    pub resume: Resume,
}

impl Trainer {
    /// Puts a prepared training on a device.
    ///
    /// # Errors
    /// A configuration that cannot be built, a kernel override that fits no kernel, too little memory, a device that fails.
    pub async fn begin(prepared: Prepared, device: Device, selection: KernelSelection) -> Result<Self> {
        let plans = plans::checked(&prepared, &device, &selection)?;
        let Prepared { state, sampler, .. } = prepared;
        let Checkpoint { model, settings, progress, params, mean, resume, .. } = state;
        let start = Start { model, settings, progress, params, mean, resume: resume.unwrap_or_default(), sampler };
        Self::new(start, plans, device, selection).await
    }

    /// The same with plans that are [checked](plans::checked).
    pub(super) async fn new(start: Start, plans: Plans, device: Device, selection: KernelSelection) -> Result<Self> {
        let Start { model, settings, progress, params, mean, resume, sampler } = start;
        let mut session = Session::new(device, selection);
        let Plans { gradients, io, update, squared_norm, accumulation, evaluation, .. } = plans;
        let (evaluation, handles) = evaluation.map(|built| built.split()).unzip();
        let (sums, sum) = accumulation.unzip();
        let all = [gradients, update].into_iter().chain(evaluation).chain(sums.into_iter().flatten());
        let programs = session.add_all(all.collect()).await?;
        let (gradients, update, mut others) = (programs[0], programs[1], programs[2..].iter().copied());
        let evaluator = handles.and_then(|io| Some(Evaluator::new(others.next()?, io, model.clone())));
        let sums = others.next().zip(others.next());
        let accumulation = sums.zip(sum).map(|((add, join), sum)| {
            let states = resume.states.clone();
            Accumulation { programs: [add, join], sum, states }
        });
        session.write(gradients, session.plan(gradients).buffer(Kind::Params), &params)?;
        if let Some(mean) = &mean {
            let buffer = optimizer::mean_buffer(settings.optimizer.0.as_ref());
            session.write(update, session.plan(update).buffer(buffer), mean)?;
        }
        for (i, values) in resume.moments.iter().enumerate() {
            let view = session.plan(update).buffer(Kind::Optimizer(i as u8));
            session.write(update, view, values)?;
        }
        if accumulation.is_none() {
            for (&view, values) in io.states.iter().zip(&resume.states) {
                session.write(gradients, view, values)?;
            }
        }
        let parts = settings.parts();
        let (scale, in_flight) = (1.0, None);
        let mut trainer = Self {
            model,
            settings,
            progress,
            sampler,
            session,
            gradients,
            update,
            io,
            squared_norm,
            evaluator,
            parts,
            accumulation,
            scale,
            in_flight,
        };
        trainer.write_loss_scale()?;
        Ok(trainer)
    }

    /// The network.
    pub fn model(&self) -> &Arc<dyn Model> {
        &self.model
    }

    /// How it is trained.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How far training has come, as of the last update whose losses were read.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The same, for what the trainer itself does not keep: seconds, validations, the device's name.
    pub fn progress_mut(&mut self) -> &mut Progress {
        &mut self.progress
    }

    /// Updates submitted, whether or not their losses were read.
    pub fn submitted(&self) -> u64 {
        self.progress.step + u64::from(self.in_flight.is_some())
    }

    /// How often training has been through the pieces, with the update that was submitted.
    pub fn epochs(&self) -> f64 {
        self.in_flight.as_ref().map_or(self.progress.epochs, |update| update.epochs)
    }

    /// Bytes of scratch memory that kernels take beside what the plans say.
    pub fn scratch_bytes(&self) -> u64 {
        self.session.scratch_bytes()
    }

    /// Submits an update, and returns what came of the one before if there was one whose losses were not read; without
    /// overlap (see the module's head) what came of this one.
    ///
    /// # Errors
    /// A loss or gradient that is not finite (the error names the op), or a device that fails.
    pub async fn step(&mut self) -> Result<Option<Update>> {
        let submitted = self.submit().await?;
        if let Some(before) = self.in_flight.replace(submitted) {
            return self.complete(before).await.map(Some);
        }
        if self.session.capabilities().is_some() && self.settings.precision == Precision::F32 {
            return Ok(None);
        }
        self.finish().await
    }

    /// Waits for the update under way, if there is one, and returns what came of it. Afterwards [`Trainer::progress`], the
    /// parameters and the states are of one and the same update.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub async fn finish(&mut self) -> Result<Option<Update>> {
        match self.in_flight.take() {
            Some(update) => self.complete(update).await.map(Some),
            None => Ok(None),
        }
    }

    /// Makes a batch and submits gradients and update.
    async fn submit(&mut self) -> Result<InFlight> {
        let schedule_before = self.in_flight.as_ref().map_or(self.progress.schedule, |update| update.schedule);
        let number = self.submitted();
        let batches = self.sampler.next_batches(&self.parts);
        let unscale = 1.0 / self.scale;
        let mut uniforms = Uniforms {
            seed: self.settings.seed,
            update: number as u32,
            unscale,
            slots: self.parts[0],
            ..Uniforms::default()
        };
        let mut schedule = schedule_before;
        self.settings.optimizer.0.advance(&mut schedule, &mut uniforms);
        uniforms.lr = (f64::from(uniforms.lr) * self.settings.rate.factor(number)) as f32;
        let losses = match &batches[..] {
            [batch] => {
                feed(&mut self.session, self.gradients, &self.io, batch)?;
                self.session.run_all(&[self.gradients, self.update], &uniforms)?;
                None
            }
            batches => {
                let losses = self.accumulate(batches, &uniforms).await?;
                self.session.run(self.update, 1, &uniforms)?;
                Some(losses)
            }
        };
        let results = [(self.gradients, self.io.losses), (self.update, self.squared_norm)];
        let reading = self.session.begin_read(&results).await?;
        // Encoded while the device works.
        self.session.prepare(self.gradients, 1)?;
        self.session.prepare(self.update, 1)?;
        let (cursor, epochs) = (self.sampler.cursor().clone(), self.sampler.epochs());
        Ok(InFlight { reading, losses, uniforms, schedule, cursor, epochs, batches })
    }

    /// Makes the gradients of all parts of a batch, one after the other, and their sum; returns the sum of the losses. Cells weigh as
    /// in the whole batch, so both are what it would have.
    async fn accumulate(&mut self, batches: &[Batch], uniforms: &Uniforms) -> Result<Vec<f32>> {
        let none = || Error::run("the gradients of several parts of a batch have no sum", "");
        let Accumulation { programs: [add, join], sum, .. } = self.accumulation.as_ref().ok_or_else(none)?;
        let (add, join, sum) = (*add, *join, *sum);
        self.session.write(add, sum, &vec![0.0; sum.len])?;
        let mut losses = vec![0.0; self.io.losses.len];
        for (part, batch) in batches.iter().enumerate() {
            self.write_states(part)?;
            feed(&mut self.session, self.gradients, &self.io, batch)?;
            let program = if part + 1 < batches.len() { add } else { join };
            let uniforms = Uniforms { slots: self.parts[part], ..*uniforms };
            self.session.run_all(&[self.gradients, program], &uniforms)?;
            let views: Vec<View> = [self.io.losses].into_iter().chain(self.io.states.iter().copied()).collect();
            let mut read = self.session.read(self.gradients, &views).await?.into_iter();
            let of_part = read.next().unwrap_or_default();
            losses.iter_mut().zip(of_part).for_each(|(sum, loss)| *sum += loss);
            let states = self.accumulation.iter_mut().flat_map(|accumulation| &mut accumulation.states);
            for (all, of_part) in states.zip(read) {
                all[part * of_part.len()..][..of_part.len()].copy_from_slice(&of_part);
            }
        }
        Ok(losses)
    }

    /// Gives the device the carried states of a part of the batch, where it does not keep those of all.
    fn write_states(&mut self, part: usize) -> Result<()> {
        for (state, all) in self.accumulation.iter().flat_map(|accumulation| &accumulation.states).enumerate() {
            let view = self.io.states[state];
            self.session.write(self.gradients, view, &all[part * view.len..][..view.len])?;
        }
        Ok(())
    }

    /// Reads the losses of an update and counts it.
    async fn complete(&mut self, update: InFlight) -> Result<Update> {
        let InFlight { reading, losses, uniforms, schedule, cursor, epochs, batches } = update;
        let mut read = self.session.finish_read(reading).await?;
        read[0] = losses.unwrap_or_else(|| std::mem::take(&mut read[0]));
        let notes = self.model.roll().notes;
        let losses = LossValues::new(self.model.losses(), read[0].iter().map(|&loss| f64::from(loss)), notes);
        let losses = losses.weighted(&self.settings.loss_weights);
        let gradient_norm = f64::from(read[1][0]).sqrt() * f64::from(uniforms.unscale);
        let mixed = self.settings.precision == Precision::Mixed;
        let losses_finite = losses.total().is_finite();
        // The update has left everything as it was; the next batch is tried with half the scale.
        if mixed && losses_finite && !gradient_norm.is_finite() && self.progress.loss_scale.shrink() {
            self.progress.cursor = cursor;
            self.write_loss_scale()?;
            return Ok(Update::Overflowed { step: self.progress.step, scale: self.scale });
        }
        if !losses_finite || !gradient_norm.is_finite() {
            return Err(self.not_finite(&uniforms, &batches).await);
        }
        let progress = &mut self.progress;
        progress.schedule = schedule;
        progress.step += 1;
        progress.epochs = epochs;
        progress.cursor = cursor;
        let loss_scale = mixed.then_some(self.scale);
        let (step, lr) = (progress.step, f64::from(uniforms.lr));
        let record = UpdateRecord { step, epochs, losses, gradient_norm, lr, loss_scale, seconds: 0.0, done: None };
        if mixed {
            progress.loss_scale.grow();
            if progress.loss_scale.factor() != self.scale {
                self.write_loss_scale()?;
            }
        }
        Ok(Update::Made(record))
    }

    /// Tells the device how much each loss counts in the gradient (docs/MODEL.md, "Loss"), times the loss scale in mixed precision.
    fn write_loss_scale(&mut self) -> Result<()> {
        let mixed = self.settings.precision == Precision::Mixed;
        self.scale = if mixed { self.progress.loss_scale.factor() } else { 1.0 };
        match self.io.loss_weights {
            Some(weights) => {
                let each = losses::in_order(self.model.losses(), &self.settings.loss_weights);
                let values: Vec<f32> = each.map(|weight| weight as f32 * self.scale).collect();
                self.session.write(self.gradients, weights, &values)
            }
            None => Ok(()),
        }
    }

    /// Looks for the op that produced the first value that is not finite. With such a gradient the update has left the
    /// parameters alone, so it can be run again on the same batch; one that was submitted after it may have changed them a
    /// little, if it was finite.
    async fn not_finite(&mut self, uniforms: &Uniforms, batches: &[Batch]) -> Error {
        let number = self.progress.step + 1;
        let next_was_made = self.in_flight.is_some();
        let found = match self.first_non_finite(uniforms, batches).await {
            Ok(Some(node)) => format!("first in the op `{node}`"),
            Ok(None) if next_was_made => "which no longer shows: the next update was made meanwhile".into(),
            Ok(None) => "only with the state carried from the window before".into(),
            Err(e) => format!("and the search for the op failed: {}", e.what),
        };
        Error::run(
            format!("update {number}: the loss or its gradient is not finite, {found}"),
            "start again with a lower --lr or with --clip-norm 1; checkpoints of the run are from before and good",
        )
    }

    async fn first_non_finite(&mut self, uniforms: &Uniforms, batches: &[Batch]) -> Result<Option<String>> {
        self.in_flight = None;
        self.session.wait().await?;
        for (part, batch) in batches.iter().enumerate() {
            self.write_states(part)?;
            feed(&mut self.session, self.gradients, &self.io, batch)?;
            // Carried states that the failed update has spoilt are made finite again.
            let mut states = self.session.read(self.gradients, &self.io.states).await?;
            for (&view, values) in self.io.states.iter().zip(&mut states) {
                values.iter_mut().filter(|x| !x.is_finite()).for_each(|x| *x = 0.0);
                self.session.write(self.gradients, view, values)?;
            }
            let uniforms = Uniforms { slots: self.parts[part], ..*uniforms };
            let found = self.session.first_non_finite(self.gradients, &uniforms).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        self.session.first_non_finite(self.update, uniforms).await
    }

    /// The losses on `pieces`, the held-out ones that the evaluation plan was made for; `None` without one, or if `stop` was
    /// set meanwhile. `progress` is told the number of time steps done so far.
    ///
    /// # Errors
    /// An update under way ([`Trainer::finish`] ends it), or a device that fails.
    pub async fn validate(
        &mut self,
        pieces: &[Arc<Piece>],
        stop: &AtomicBool,
        progress: impl FnMut(usize),
    ) -> Result<Option<Metrics>> {
        self.nothing_in_flight()?;
        if self.evaluator.is_none() {
            return Ok(None);
        }
        let params = self.begin_mean().await?;
        let Some(evaluator) = &self.evaluator else { return Ok(None) };
        let metrics = evaluator.run(&mut self.session, pieces, stop, progress).await;
        if let Some(params) = params {
            self.session.write(self.gradients, self.session.plan(self.gradients).buffer(Kind::Params), &params)?;
        }
        let metrics = metrics?;
        Ok(metrics.map(|metrics| metrics.weighted(&self.settings.loss_weights)))
    }

    /// Puts the running mean in the place of the parameters, and returns these; `None` where there is no mean, or none yet.
    async fn begin_mean(&mut self) -> Result<Option<Vec<f32>>> {
        let Some((decay, buffer)) = self.mean() else { return Ok(None) };
        let place = self.session.plan(self.gradients).buffer(Kind::Params);
        let read = self.session.begin_read(&[(self.gradients, place), (self.update, buffer)]).await?;
        let [params, mean] = self.session.finish_read(read).await?.try_into().unwrap_or_default();
        let updates = self.progress.schedule.steps;
        self.session.write(self.gradients, place, &averaged(&params, &mean, decay, updates))?;
        Ok(Some(params))
    }

    /// Decay and buffer of the running mean, where there is one.
    fn mean(&self) -> Option<(f64, View)> {
        let buffer = optimizer::mean_buffer(self.settings.optimizer.0.as_ref());
        self.settings.ema.map(|decay| (decay, self.session.plan(self.update).buffer(buffer)))
    }

    /// Whether there is an evaluation plan.
    pub fn validates(&self) -> bool {
        self.evaluator.is_some()
    }

    /// Parameters would be those of an update that schedule and sampler do not know of.
    fn nothing_in_flight(&self) -> Result<()> {
        match self.in_flight {
            Some(_) => Err(Error::run("an update is under way", "call `Trainer::finish` before")),
            None => Ok(()),
        }
    }

    /// Reads parameters, the optimiser's buffers and carried states.
    ///
    /// # Errors
    /// An update under way ([`Trainer::finish`] ends it), or a device that fails.
    pub async fn snapshot(&self) -> Result<Snapshot> {
        self.nothing_in_flight()?;
        let buffers = self.settings.optimizer.0.buffers().len();
        let mut views = vec![(self.gradients, self.session.plan(self.gradients).buffer(Kind::Params))];
        let moment = |i: usize| self.session.plan(self.update).buffer(Kind::Optimizer(i as u8));
        views.extend((0..buffers).map(|i| (self.update, moment(i))));
        let mean = self.mean();
        views.extend(mean.map(|(_, buffer)| (self.update, buffer)));
        if self.accumulation.is_none() {
            views.extend(self.io.states.iter().map(|&state| (self.gradients, state)));
        }
        let reading = self.session.begin_read(&views).await?;
        let mut read = self.session.finish_read(reading).await?.into_iter();
        let params = read.next().unwrap_or_default();
        let moments = read.by_ref().take(buffers).collect();
        let mean = mean.and_then(|_| read.next());
        let states = match &self.accumulation {
            Some(accumulation) => accumulation.states.clone(),
            None => read.collect(),
        };
        Ok(Snapshot { params, mean, resume: Resume { moments, states } })
    }
}
