//! A training that is stepped from outside: by the training command, a browser's loop, an experiment, or a process of many.
//!
//! Gradients and update are plans of their own on the same buffers. On a GPU the losses of an update are read while the
//! next one runs, so that nothing idles between updates; not so in mixed precision, where it must be known before the
//! next update whether the gradients overflowed, on the CPU, where an update is over when it returns, nor among ranks whose
//! devices differ.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::Prepared;
use super::among::Among;
use super::observer::{RanksRecord, UpdateRecord};
use super::plans::{self, Paired, Plans};
use crate::checkpoint::{Checkpoint, Progress, Resume, Settings, averaged};
use crate::distributed::{Ranks, Sum, pairwise};
use crate::evaluate::{self, Evaluator, Metrics, feed};
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
    pub(super) session: Session,
    pub(super) gradients: ProgramId,
    /// In the session [`Trainer::updating`].
    pub(super) update: ProgramId,
    pub(super) io: SequenceIo,
    squared_norm: View,
    evaluator: Option<Evaluator>,
    /// Whether any process validates.
    validates: bool,
    /// The other ranks, where several train together.
    pub(super) among: Option<Among>,
    /// The parts of this process' slots of a batch.
    pub(super) parts: Vec<Slots>,
    accumulation: Option<Accumulation>,
    /// The loss scale that the device has.
    pub(super) scale: f32,
    /// The update whose losses were not read yet.
    in_flight: Option<InFlight>,
}

/// What sums the gradients of the parts of a batch.
struct Accumulation {
    /// Of the plans of [`optimizer::Accumulation`].
    programs: Vec<ProgramId>,
    /// See [`optimizer::Accumulation`].
    early: usize,
    /// The carried states of all slots: the device has those of one part.
    states: Vec<Vec<f32>>,
}

/// An update that was submitted.
struct InFlight {
    reading: Reading,
    /// The losses, where the batch has several parts or ranks: then they were read already.
    losses: Option<Vec<f32>>,
    /// What it took of several ranks.
    ranks: Option<Box<RanksRecord>>,
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
    /// Whether there are held-out pieces.
    pub validates: bool,
    pub among: Option<Among>,
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
        let selection = Paired::of(&prepared, &device).measured(&selection).await?;
        let plans = plans::checked(&prepared, &device, &selection)?;
        let validates = !prepared.validation.is_empty();
        let Prepared { state, sampler, ranks, .. } = prepared;
        let Checkpoint { model, settings, progress, params, mean, resume, .. } = state;
        let resume = resume.unwrap_or_default();
        let among = ranks.map(|ranks| Among::new(ranks, &device, &plans)).transpose()?;
        let start = Start { model, settings, progress, params, mean, resume, sampler, validates, among };
        Self::new(start, plans, device, selection).await
    }

    /// The same with plans that are [checked](plans::checked).
    pub(super) async fn new(start: Start, plans: Plans, device: Device, selection: KernelSelection) -> Result<Self> {
        let Start { model, settings, progress, params, mean, mut resume, sampler, validates, mut among } = start;
        if let Some(among) = &among {
            resume.states = among.own_states(&resume.states, settings.batch);
        }
        let own = among.as_ref().map_or(Slots::all(settings.batch), |among| among.ranks.slots(settings.batch));
        let mut session = Session::new(device, selection);
        let Plans { gradients, io, update, squared_norm, accumulation, evaluation, .. } = plans;
        let (evaluation, handles) = evaluation.map(|built| built.split()).unzip();
        let early = accumulation.as_ref().map(|accumulation| accumulation.early);
        let others = evaluation.into_iter().chain(accumulation.into_iter().flat_map(|accumulation| accumulation.plans));
        let mut host = among.as_mut().and_then(|among| among.host.as_mut());
        let (gradients, update, others) = match &mut host {
            None => {
                let programs = session.add_all([gradients, update].into_iter().chain(others).collect()).await?;
                (programs[0], programs[1], programs[2..].to_vec())
            }
            Some(host) => {
                let programs = session.add_all([gradients].into_iter().chain(others).collect()).await?;
                (programs[0], host.add(update).await?, programs[1..].to_vec())
            }
        };
        let mut others = others.into_iter();
        let evaluator = handles.and_then(|io| Some(Evaluator::new(others.next()?, io, model.clone())));
        let states = &resume.states;
        let accumulation =
            early.map(|early| Accumulation { programs: others.collect(), early, states: states.clone() });
        session.write(gradients, session.plan(gradients).buffer(Kind::Params), &params)?;
        let updating = match host {
            None => &mut session,
            Some(host) => {
                host.write(update, host.plan(update).buffer(Kind::Params), &params)?;
                host
            }
        };
        if let Some(mean) = &mean {
            let buffer = optimizer::mean_buffer(settings.optimizer.0.as_ref());
            updating.write(update, updating.plan(update).buffer(buffer), mean)?;
        }
        for (i, values) in resume.moments.iter().enumerate() {
            let view = updating.plan(update).buffer(Kind::Optimizer(i as u8));
            updating.write(update, view, values)?;
        }
        if accumulation.is_none() {
            for (&view, values) in io.states.iter().zip(&resume.states) {
                session.write(gradients, view, values)?;
            }
        }
        let parts = settings.parts(own, session.capabilities().is_none());
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
            validates,
            among,
            parts,
            accumulation,
            scale,
            in_flight,
        };
        trainer.write_loss_scale()?;
        trainer.owe(resume.owed)?;
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
        // Ranks of which some are on the CPU complete their updates at one time: what follows is for all of them to agree on.
        let alike = self.among.as_ref().is_none_or(|among| among.host.is_none());
        if self.session.capabilities().is_some() && self.settings.precision == Precision::F32 && alike {
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
        let (losses, ranks) = match &batches[..] {
            batches if self.among.is_some() => {
                let (losses, record) = self.submit_among(batches, &uniforms).await?;
                (Some(losses), Some(Box::new(record)))
            }
            [batch] => {
                feed(&mut self.session, self.gradients, &self.io, batch)?;
                self.session.run_all(&[self.gradients, self.update], &uniforms)?;
                (None, None)
            }
            batches => {
                let (losses, _) = self.accumulate(batches, &uniforms, None).await?;
                self.session.run(self.update, 1, &uniforms)?;
                (Some(losses), None)
            }
        };
        // The norm first, since the losses may be known.
        let results = [(self.update, self.squared_norm), (self.gradients, self.io.losses)];
        let reading = match ranks {
            None => self.session.begin_read(&results).await?,
            Some(_) => self.updating().begin_read(&results[..1]).await?,
        };
        // Encoded while the device works. What ranks run of the gradients is cut in two.
        if ranks.is_none() {
            self.session.prepare(self.gradients, 1)?;
        }
        self.updating().prepare(self.update, 1)?;
        let (cursor, epochs) = (self.sampler.cursor().clone(), self.sampler.epochs());
        Ok(InFlight { reading, losses, ranks, uniforms, schedule, cursor, epochs, batches })
    }

    /// Makes the gradients of all parts of a batch, one after the other, and their sum; returns the sum of the losses. Cells weigh as
    /// in the whole batch, so both are what it would have. With `ranks` begins to sum over these what is done early of the last.
    pub(super) async fn accumulate(
        &mut self,
        batches: &[Batch],
        uniforms: &Uniforms,
        ranks: Option<&Ranks>,
    ) -> Result<(Vec<f32>, Option<Sum>)> {
        let none = || Error::run("the gradients of several parts of a batch have no sum", "");
        let programs = self.accumulation.as_ref().ok_or_else(none)?.programs.clone();
        let (mut losses, mut sum) = (vec![], None);
        for (part, batch) in batches.iter().enumerate() {
            self.write_states(part)?;
            feed(&mut self.session, self.gradients, &self.io, batch)?;
            let uniforms = Uniforms { slots: self.parts[part], ..*uniforms };
            match ranks.filter(|_| part + 1 == batches.len()) {
                Some(ranks) => sum = self.gradients_among(&uniforms, ranks).await?,
                None => {
                    let program = if part + 1 < batches.len() { 1 + part.trailing_ones() as usize } else { 0 };
                    self.session.run_all(&[self.gradients, programs[program]], &uniforms)?;
                }
            }
            let views: Vec<View> = [self.io.losses].into_iter().chain(self.io.states.iter().copied()).collect();
            let mut read = self.session.read(self.gradients, &views).await?.into_iter();
            losses.push(read.next().unwrap_or_default());
            let states = self.accumulation.iter_mut().flat_map(|accumulation| &mut accumulation.states);
            for (all, of_part) in states.zip(read) {
                all[part * of_part.len()..][..of_part.len()].copy_from_slice(&of_part);
            }
        }
        Ok((pairwise(&losses.iter().map(Vec::as_slice).collect::<Vec<_>>()), sum))
    }

    /// What runs after the last part of a batch has been fed: the program of its gradients and that which sums them with those
    /// of other parts, where there are any, each with the number of its nodes that make the gradients which are done early.
    pub(super) fn last_programs(&self, early: usize) -> Vec<(ProgramId, usize)> {
        let sum = self.accumulation.as_ref().map(|accumulation| (accumulation.programs[0], accumulation.early));
        [(self.gradients, early)].into_iter().chain(sum).collect()
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
        let InFlight { reading, losses, ranks, uniforms, schedule, cursor, epochs, batches } = update;
        let mut read = self.updating().finish_read(reading).await?.into_iter();
        let squared_norm = read.next().and_then(|norm| norm.first().copied()).unwrap_or(f32::NAN);
        let losses = losses.or_else(|| read.next()).unwrap_or_default();
        let notes = self.model.roll().notes;
        let losses = LossValues::new(self.model.losses(), losses.iter().map(|&loss| f64::from(loss)), notes);
        let losses = losses.weighted(&self.settings.loss_weights);
        let gradient_norm = f64::from(squared_norm).sqrt() * f64::from(uniforms.unscale);
        let mixed = self.settings.precision == Precision::Mixed;
        let losses_finite = losses.total().is_finite();
        // The update has left everything as it was; the next batch is tried with half the scale.
        if mixed && losses_finite && !gradient_norm.is_finite() && self.progress.loss_scale.shrink() {
            self.progress.cursor = cursor;
            self.take_sums_back()?;
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
        let (seconds, done) = (0.0, None);
        let record = UpdateRecord { step, epochs, losses, gradient_norm, lr, loss_scale, seconds, done, ranks };
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
        let scale = if mixed { self.progress.loss_scale.factor() } else { 1.0 };
        self.rescale_sums(scale / self.scale)?;
        self.scale = scale;
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
        let found = match self.first_non_finite_of_all(uniforms, batches).await {
            Ok(Some(node)) => format!("first in the op {node}"),
            Ok(None) if next_was_made => "which no longer shows: the next update was made meanwhile".into(),
            Ok(None) => "only with the state carried from the window before".into(),
            Err(e) => format!("and the search for the op failed: {}", e.what),
        };
        Error::run(
            format!("update {number}: the loss or its gradient is not finite, {found}"),
            "start again with a lower --lr or with --clip-norm 1; checkpoints of the run are from before and good",
        )
    }

    /// The op, and of several ranks those that have it.
    async fn first_non_finite_of_all(&mut self, uniforms: &Uniforms, batches: &[Batch]) -> Result<Option<String>> {
        let found = self.first_non_finite(uniforms, batches).await;
        let Some(ranks) = self.ranks() else { return Ok(found?.map(|node| format!("`{node}`"))) };
        let own = found.unwrap_or_else(|e| Some(e.what));
        let all = ranks.all(&own)?;
        ranks.all_have_it();
        let first = all.iter().flatten().next().cloned();
        let having: Vec<usize> = (0..all.len()).filter(|&rank| first.is_some() && all[rank] == first).collect();
        Ok(first.map(|node| format!("`{node}` of {}", ranks.names_of(&having))))
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
        // That of several ranks has other gradients.
        if self.among.is_some() {
            return Ok(None);
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
        if !self.validates {
            return Ok(None);
        }
        let params = self.begin_mean().await?;
        let sum = match &self.evaluator {
            Some(evaluator) => evaluator.summed(&mut self.session, pieces, stop, progress).await,
            None => Ok(Some(evaluate::Sum::of(self.model.as_ref(), &[]))),
        };
        if let Some(params) = params {
            self.session.write(self.gradients, self.session.plan(self.gradients).buffer(Kind::Params), &params)?;
        }
        let metrics = match &mut self.among {
            None => sum?.map(evaluate::Sum::metrics),
            Some(among) => {
                let sums = among.ranks.all(&sum?.map(|sum| sum.parts()))?;
                // Whoever was stopped has all others stop.
                among.agreed.stop |= sums.iter().any(Option::is_none);
                let sums: Option<Vec<_>> = sums.into_iter().collect();
                let none = evaluate::Sum::of(self.model.as_ref(), &[]);
                sums.map(|sums| sums.into_iter().fold(none, evaluate::Sum::with_parts).metrics())
            }
        };
        Ok(metrics.map(|metrics| metrics.weighted(&self.settings.loss_weights)))
    }

    /// Puts the running mean in the place of the parameters, and returns these; `None` where there is no mean, or none yet.
    async fn begin_mean(&mut self) -> Result<Option<Vec<f32>>> {
        let Some((decay, buffer)) = self.mean() else { return Ok(None) };
        let place = self.session.plan(self.gradients).buffer(Kind::Params);
        let params = self.session.read(self.gradients, &[place]).await?.swap_remove(0);
        let mean = self.updating().read(self.update, &[buffer]).await?.swap_remove(0);
        let updates = self.progress.schedule.steps;
        self.session.write(self.gradients, place, &averaged(&params, &mean, decay, updates))?;
        Ok(Some(params))
    }

    /// Decay and buffer of the running mean, where there is one.
    fn mean(&self) -> Option<(f64, View)> {
        let buffer = optimizer::mean_buffer(self.settings.optimizer.0.as_ref());
        self.settings.ema.map(|decay| (decay, self.updating().plan(self.update).buffer(buffer)))
    }

    /// Whether there are pieces to validate on.
    pub fn validates(&self) -> bool {
        self.validates
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
        let mut views = vec![self.session.plan(self.gradients).buffer(Kind::Params)];
        if self.accumulation.is_none() {
            views.extend(&self.io.states);
        }
        let mut read = self.session.read(self.gradients, &views).await?.into_iter();
        let params = read.next().unwrap_or_default();
        let mut states = match &self.accumulation {
            Some(accumulation) => accumulation.states.clone(),
            None => read.collect(),
        };
        if let Some(among) = &self.among {
            states = among.all_states(&states)?;
        }
        let updating = self.updating();
        let moment = |i: usize| updating.plan(self.update).buffer(Kind::Optimizer(i as u8));
        let mean = self.mean();
        let views: Vec<View> = (0..buffers).map(moment).chain(mean.map(|(_, buffer)| buffer)).collect();
        let mut read = updating.read(self.update, &views).await?.into_iter();
        let moments = read.by_ref().take(buffers).collect();
        let mean = mean.and_then(|_| read.next());
        let owed = self.settle()?;
        Ok(Snapshot { params, mean, resume: Resume { moments, states, owed } })
    }
}
