//! Evaluation: the losses of a model on whole pieces, states carried from window to window, without dropout.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

use crate::checkpoint::Checkpoint;
use crate::gpu::Device;
use crate::graph::session::KernelSelection;
use crate::graph::{Kind, Plan, ProgramId, Session};
use crate::models::{Loss, LossValues, LossWeights, Model, RollShape, SequenceIo};
use crate::music::{Batch, BatchShape, Evaluation, Piece};
use crate::ops::Uniforms;
use crate::shape::{Channel, Slots};
use crate::{Error, Result};

mod layers;

pub use layers::{Inspection, LayerValues, NOTES, STYLE_VECTOR, TARGET, layer_values, names as layer_names};

/// Losses of a model on a set of pieces: means over all cells (time step, pitch), as in training; masked losses count 0
/// where the target does not play. That of dynamics is a mean over the pieces whose dynamics count ([`Piece::dynamics`]), and 0
/// where there is none.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    /// The losses.
    pub losses: LossValues,
    /// Time steps predicted, the first of every piece included.
    pub steps: usize,
    /// Pieces.
    pub files: usize,
}

impl Metrics {
    /// The same, with a sum of the losses with these weights; see [`LossValues::weighted`].
    #[must_use]
    pub fn weighted(self, weights: &LossWeights) -> Self {
        Self { losses: self.losses.weighted(weights), ..self }
    }
}

/// A flat JSON object: nats a time step, each loss, `loss` (their sum), `steps`, `files`.
impl Serialize for Metrics {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.losses.serialize_nats(&mut map)?;
        self.losses.serialize_each(&mut map)?;
        map.serialize_entry("loss", &self.losses.total())?;
        map.serialize_entry("steps", &self.steps)?;
        map.serialize_entry("files", &self.files)?;
        map.end()
    }
}

/// Time steps of a window of evaluation. The result does not depend on it, as the state is carried; shorter windows
/// waste less on the ends of pieces, longer ones run faster.
const WINDOW: usize = 64;
/// The most pieces side by side.
const MAX_SLOTS: usize = 4096;

/// The evaluation plan for some pieces, with its handles and the shape of its batches.
#[derive(Clone, Debug)]
pub struct EvaluationPlan {
    /// What runs.
    pub plan: Plan,
    io: SequenceIo,
    shape: BatchShape,
}

/// How the host talks to an evaluation plan, and the shape of its batches.
pub type Handles = (SequenceIo, BatchShape);

impl EvaluationPlan {
    /// What runs, and its handles.
    pub fn split(self) -> (Plan, Handles) {
        (self.plan, (self.io, self.shape))
    }
}

/// The evaluation plan for `pieces`, at most `slots` of them side by side in windows of at most `steps`. Fewer slots are
/// taken where the longest piece alone takes as long as all others one after the other.
///
/// # Errors
/// A configuration that cannot be built.
pub fn plan(model: &dyn Model, pieces: &[Arc<Piece>], slots: usize, steps: usize) -> Result<EvaluationPlan> {
    let lengths = || pieces.iter().map(|piece| piece.roll.steps());
    let slots = slots.min(lengths().sum::<usize>().div_ceil(lengths().max().unwrap_or(1))).max(1);
    let shape = batch_shape(model, Slots::all(slots), steps.min(WINDOW));
    let (plan, io) = model.evaluation(slots, shape.steps)?.compile();
    Ok(EvaluationPlan { plan, io, shape })
}

/// The shape of a model's batches.
pub(crate) fn batch_shape(model: &dyn Model, slots: Slots, steps: usize) -> BatchShape {
    let roll = model.roll();
    // Where a model knows no style, that of a piece is not looked at.
    BatchShape { slots, steps, styles: roll.styles, channels: roll.channels }
}

/// An evaluation program in a session.
#[derive(Clone, Debug)]
pub struct Evaluator {
    program: ProgramId,
    io: SequenceIo,
    shape: BatchShape,
    model: Arc<dyn Model>,
}

impl Evaluator {
    /// The program that a session has made of a plan, with the plan's handles.
    pub fn new(program: ProgramId, (io, shape): Handles, model: Arc<dyn Model>) -> Self {
        Self { program, io, shape, model }
    }

    /// The losses on `pieces` with the session's parameters; `None` if `stop` was set meanwhile. `progress` is told the
    /// number of time steps done so far.
    ///
    /// # Errors
    /// No pieces, pieces of another note range, or a lost device.
    pub async fn run(
        &self,
        session: &mut Session,
        pieces: &[Arc<Piece>],
        stop: &AtomicBool,
        progress: impl FnMut(usize),
    ) -> Result<Option<Metrics>> {
        Ok(self.summed(session, pieces, stop, progress).await?.map(Sum::metrics))
    }

    /// As [`Evaluator::run`], before means are made.
    pub(crate) async fn summed(
        &self,
        session: &mut Session,
        pieces: &[Arc<Piece>],
        stop: &AtomicBool,
        mut progress: impl FnMut(usize),
    ) -> Result<Option<Sum>> {
        let mut sum = Sum::of(self.model.as_ref(), pieces);
        for batch in Evaluation::new(pieces.to_vec(), self.shape)? {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            sum.add(&self.losses(session, &batch).await?, &batch);
            progress(sum.steps);
        }
        Ok(Some(sum))
    }

    /// The losses on each of `pieces`, in their order, one after the other: of a program with one slot. As [`Evaluator::run`]
    /// otherwise.
    async fn run_each(
        &self,
        session: &mut Session,
        pieces: &[Arc<Piece>],
        stop: &AtomicBool,
        mut progress: impl FnMut(usize),
    ) -> Result<Option<Vec<Metrics>>> {
        let mut sums: Vec<Sum> =
            pieces.iter().map(|piece| Sum::of(self.model.as_ref(), std::slice::from_ref(piece))).collect();
        let mut steps = 0;
        for batch in Evaluation::new(pieces.to_vec(), self.shape)? {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let losses = self.losses(session, &batch).await?;
            if let [Some(piece)] = batch.piece[..] {
                sums[piece].add(&losses, &batch);
            }
            steps += batch.valid;
            progress(steps);
        }
        Ok(Some(sums.into_iter().map(Sum::metrics).collect()))
    }

    /// The losses of one batch: means over its cells that count.
    async fn losses(&self, session: &mut Session, batch: &Batch) -> Result<Vec<f32>> {
        feed(session, self.program, &self.io, batch)?;
        session.run(self.program, 1, &Uniforms::default())?;
        session.prepare(self.program, 1)?;
        Ok(session.read(self.program, &[self.io.losses]).await?.swap_remove(0))
    }
}

/// Losses summed over batches.
#[derive(Clone, Debug)]
pub(crate) struct Sum {
    of: &'static [Loss],
    roll: RollShape,
    /// By loss: its means, times the time steps that they are of, and those among them that count.
    sums: Vec<(f64, usize)>,
    /// Cells that sound in all of the pieces whose dynamics count.
    sounding: usize,
    /// Time steps of these.
    with_dynamics: usize,
    steps: usize,
    files: usize,
}

/// The numbers of a sum, as they go from one process to another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SumParts {
    /// Bits, since JSON has no number for what is not finite.
    sums: Vec<(u64, usize)>,
    sounding: usize,
    with_dynamics: usize,
    steps: usize,
    files: usize,
}

impl Sum {
    /// Of no time step yet of these pieces.
    pub(crate) fn of(model: &dyn Model, pieces: &[Arc<Piece>]) -> Self {
        let of = model.losses();
        let with_dynamics = pieces.iter().filter(|piece| piece.dynamics);
        let sounding = with_dynamics.map(|piece| piece.roll.sounding()).sum();
        let (roll, files) = (model.roll(), pieces.len());
        Self { of, roll, sums: vec![(0.0, 0); of.len()], sounding, with_dynamics: 0, steps: 0, files }
    }

    /// Its numbers.
    pub(crate) fn parts(self) -> SumParts {
        let Self { sums, sounding, with_dynamics, steps, files, .. } = self;
        let sums = sums.into_iter().map(|(sum, count)| (sum.to_bits(), count)).collect();
        SumParts { sums, sounding, with_dynamics, steps, files }
    }

    /// Of the time steps of both.
    pub(crate) fn with_parts(self, SumParts { sums, sounding, with_dynamics, steps, files }: SumParts) -> Self {
        let sums = sums.into_iter().map(|(bits, count)| (f64::from_bits(bits), count)).collect();
        let other = Self { of: self.of, roll: self.roll, sums, sounding, with_dynamics, steps, files };
        self.with(&other)
    }

    fn add(&mut self, losses: &[f32], batch: &Batch) {
        let channels = self.roll.channels;
        for ((sum, &loss), of) in self.sums.iter_mut().zip(losses).zip(self.of) {
            sum.0 += f64::from(loss) * batch.valid as f64;
            sum.1 += batch.counted(channels, of.channel);
        }
        self.with_dynamics += batch.counted(channels, Channel::Dynamics);
        self.steps += batch.valid;
    }

    /// Of the time steps of both.
    fn with(mut self, other: &Self) -> Self {
        for (sum, (loss, counted)) in self.sums.iter_mut().zip(&other.sums) {
            *sum = (sum.0 + loss, sum.1 + counted);
        }
        self.sounding += other.sounding;
        self.with_dynamics += other.with_dynamics;
        self.steps += other.steps;
        self.files += other.files;
        self
    }

    pub(crate) fn metrics(self) -> Metrics {
        let Self { of, roll: RollShape { notes, .. }, sums, sounding, with_dynamics, steps, files } = self;
        let means = sums.into_iter().map(|(sum, steps)| if steps > 0 { sum / steps as f64 } else { 0.0 });
        let sounding = sounding as f64 / (with_dynamics.max(1) * notes) as f64;
        Metrics { losses: LossValues::new(of, means, notes).of_sounding(sounding), steps, files }
    }
}

/// Writes a batch to the inputs of a training or evaluation program.
///
/// # Errors
/// A lost device.
pub fn feed(session: &mut Session, program: ProgramId, io: &SequenceIo, batch: &Batch) -> Result<()> {
    session.write(program, io.roll, &batch.roll)?;
    session.write(program, io.start, &batch.start)?;
    session.write(program, io.weight, &batch.weight)?;
    if let Some(style) = io.style {
        session.write(program, style, &batch.style)?;
    }
    session.write(program, io.keep, &batch.keep)
}

/// The losses of a checkpoint on `pieces`, at most `slots` side by side; `None` if `stop` was set meanwhile. `progress`
/// is told the number of time steps done so far.
///
/// # Errors
/// No pieces, pieces of another note range, no slots, or a device that fails.
///
/// # Examples
///
/// ```
/// # fn main() -> deepj::Result<()> {
/// use std::sync::atomic::AtomicBool;
///
/// use deepj::checkpoint::Checkpoint;
/// use deepj::evaluate::evaluate;
/// use deepj::music::{Corpus, CorpusOptions};
/// use deepj::prelude::*;
///
/// let checkpoint = Checkpoint::builtin()?;
/// let files = deepj::data::FILES.iter().copied().filter(|(name, _)| name.starts_with("baroque")).take(1);
/// let corpus = Corpus::from_files("one piece", &files.collect::<Vec<_>>(), &CorpusOptions::default())?;
/// let (device, selection) = (Device::Cpu { why: String::new() }, KernelSelection::default());
/// let stop = AtomicBool::new(false);
/// let metrics = pollster::block_on(evaluate(&checkpoint, &corpus.pieces, 1, device, selection, &stop, |_steps| ()))?;
/// let metrics = metrics.expect("nobody set `stop`");
/// assert_eq!((metrics.files, metrics.losses.total() > 0.0), (1, true));
/// # Ok(())
/// # }
/// ```
pub async fn evaluate(
    checkpoint: &Checkpoint,
    pieces: &[Arc<Piece>],
    slots: usize,
    device: Device,
    selection: KernelSelection,
    stop: &AtomicBool,
    progress: impl FnMut(usize),
) -> Result<Option<Metrics>> {
    let groups = [pieces.to_vec()];
    let metrics = evaluate_groups(checkpoint, &groups, slots, device, selection, stop, progress).await?;
    Ok(metrics.map(|(all, _)| all))
}

/// The losses of a checkpoint on all pieces of `groups`, and on each group alone: as [`evaluate`] otherwise.
///
/// # Errors
/// As [`evaluate`].
pub async fn evaluate_groups(
    checkpoint: &Checkpoint,
    groups: &[Vec<Arc<Piece>>],
    slots: usize,
    device: Device,
    selection: KernelSelection,
    stop: &AtomicBool,
    mut progress: impl FnMut(usize),
) -> Result<Option<(Metrics, Vec<Metrics>)>> {
    if slots == 0 || slots > MAX_SLOTS {
        return Err(Error::usage(format!("--batch {slots}"), format!("give 1 to {MAX_SLOTS}")));
    }
    let (mut session, evaluator) = begin(checkpoint, &groups.concat(), slots, device, selection).await?;
    let mut sums: Vec<Sum> = vec![];
    for pieces in groups {
        let before: usize = sums.iter().map(|sum| sum.steps).sum();
        let progress = |steps: usize| progress(before + steps);
        let Some(sum) = evaluator.summed(&mut session, pieces, stop, progress).await? else { return Ok(None) };
        sums.push(sum);
    }
    let all = sums.iter().fold(Sum::of(checkpoint.model.as_ref(), &[]), Sum::with);
    let metrics = |sum: Sum| sum.metrics().weighted(&checkpoint.settings.loss_weights);
    Ok(Some((metrics(all), sums.into_iter().map(metrics).collect())))
}

/// The losses of a checkpoint on each of `pieces`, in their order; `None` if `stop` was set meanwhile. The pieces are read one
/// after the other, which takes longer on a GPU than [`evaluate`], where they stand side by side. `progress` is told the number
/// of time steps done so far.
///
/// # Errors
/// As [`evaluate`].
pub async fn evaluate_each(
    checkpoint: &Checkpoint,
    pieces: &[Arc<Piece>],
    device: Device,
    selection: KernelSelection,
    stop: &AtomicBool,
    progress: impl FnMut(usize),
) -> Result<Option<Vec<Metrics>>> {
    let (mut session, evaluator) = begin(checkpoint, pieces, 1, device, selection).await?;
    let metrics = evaluator.run_each(&mut session, pieces, stop, progress).await?;
    let weighted = |metrics: Metrics| metrics.weighted(&checkpoint.settings.loss_weights);
    Ok(metrics.map(|metrics| metrics.into_iter().map(weighted).collect()))
}

/// A session with the parameters of a checkpoint, and its program that evaluates `pieces` in so many slots.
async fn begin(
    checkpoint: &Checkpoint,
    pieces: &[Arc<Piece>],
    slots: usize,
    device: Device,
    selection: KernelSelection,
) -> Result<(Session, Evaluator)> {
    if pieces.is_empty() {
        return Err(Error::usage("there are no pieces to evaluate", "choose another --split, such as all"));
    }
    let model = &checkpoint.model;
    let (plan, handles) = plan(model.as_ref(), pieces, slots, WINDOW)?.split();
    let mut session = Session::new(device, selection);
    let program = session.add(plan).await?;
    let params = session.plan(program).buffer(Kind::Params);
    session.write(program, params, &checkpoint.weights())?;
    Ok((session, Evaluator::new(program, handles, model.clone())))
}
