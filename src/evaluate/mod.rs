//! Evaluation: the losses of a model on whole pieces, states carried from window to window, without dropout.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use crate::checkpoint::Checkpoint;
use crate::gpu::Device;
use crate::graph::session::Variants;
use crate::graph::{Kind, ProgramId, Session};
use crate::models::deepj::{Built, Config, Io, Mode, build};
use crate::music::{Batch, BatchShape, Evaluation, Piece};
use crate::ops::Step;
use crate::{Error, Result};

/// Losses of a model on a set of pieces. The three losses are means over all cells (step, pitch), as in training;
/// replay and dynamics count 0 where the target does not play.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Negative log-likelihood of `play` in nats a time step: summed over the pitches, mean over the steps.
    pub play_nats_per_step: f64,
    /// Binary cross-entropy of `play`.
    pub play_bce: f64,
    /// Binary cross-entropy of `replay`.
    pub replay_bce: f64,
    /// Squared error of the dynamics.
    pub dynamics_mse: f64,
    /// Sum of the three.
    pub loss: f64,
    /// Time steps predicted, the first step of every piece included.
    pub steps: usize,
    /// Pieces.
    pub files: usize,
}

impl Metrics {
    /// From the means of the three losses.
    fn new([play, replay, dynamics]: [f64; 3], notes: usize, steps: usize, files: usize) -> Self {
        Self {
            play_nats_per_step: play * notes as f64,
            play_bce: play,
            replay_bce: replay,
            dynamics_mse: dynamics,
            loss: play + replay + dynamics,
            steps,
            files,
        }
    }
}

/// Time steps of a window of evaluation. The result does not depend on it, as the state is carried; shorter windows
/// waste less on the ends of pieces, longer ones run faster.
const WINDOW: usize = 64;
/// The most pieces side by side.
const MAX_LANES: usize = 4096;

/// The evaluation plan for `pieces`, at most `lanes` of them side by side in windows of at most `steps`: as many as keep
/// each other company until the longest ends.
///
/// # Errors
/// A configuration that cannot be built.
pub fn plan(config: &Config, pieces: &[Arc<Piece>], lanes: usize, steps: usize) -> Result<(Built<Io>, BatchShape)> {
    let lengths = || pieces.iter().map(|piece| piece.roll.steps());
    let lanes = lanes.min(lengths().sum::<usize>().div_ceil(lengths().max().unwrap_or(1))).max(1);
    let shape = BatchShape { lanes, steps: steps.min(WINDOW), styles: config.styles };
    Ok((build(config, Mode::Evaluate, shape.lanes, shape.steps)?, shape))
}

/// An evaluation program in a session.
#[derive(Clone, Copy, Debug)]
pub struct Evaluator {
    program: ProgramId,
    io: Io,
    shape: BatchShape,
    notes: usize,
}

impl Evaluator {
    /// Adds what [`plan`] has built to the session.
    ///
    /// # Errors
    /// See [`Session::add`].
    pub async fn new(session: &mut Session, (built, shape): (Built<Io>, BatchShape), config: &Config) -> Result<Self> {
        let program = session.add(built.plan).await?;
        Ok(Self { program, io: built.io, shape, notes: config.notes })
    }

    /// The losses on `pieces` with the session's parameters; `None` if `stop` was set meanwhile. `progress` is told the
    /// number of steps done so far.
    ///
    /// # Errors
    /// No pieces, pieces of another note range, or a lost device.
    pub async fn run(
        &self,
        session: &mut Session,
        pieces: &[Arc<Piece>],
        stop: &AtomicBool,
        mut progress: impl FnMut(usize),
    ) -> Result<Option<Metrics>> {
        let (mut sums, mut cells) = ([0.0; 3], 0);
        for batch in Evaluation::new(pieces.to_vec(), self.shape)? {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            feed(session, self.program, &self.io, &batch)?;
            session.run(self.program, 1, &Step::default())?;
            session.prepare(self.program, 1)?;
            let losses = session.read(self.program, &[self.io.losses]).await?.swap_remove(0);
            for (sum, &loss) in sums.iter_mut().zip(&losses) {
                *sum += f64::from(loss) * batch.valid as f64;
            }
            cells += batch.valid;
            progress(cells);
        }
        Ok(Some(Metrics::new(sums.map(|sum| sum / cells as f64), self.notes, cells, pieces.len())))
    }
}

/// Writes a batch to the inputs of a training or evaluation program.
///
/// # Errors
/// A lost device.
pub fn feed(session: &mut Session, program: ProgramId, io: &Io, batch: &Batch) -> Result<()> {
    session.write(program, io.roll, &batch.roll)?;
    session.write(program, io.start, &batch.start)?;
    session.write(program, io.weight, &batch.weight)?;
    session.write(program, io.style, &batch.style)?;
    session.write(program, io.keep, &batch.keep)
}

/// The losses of a checkpoint on `pieces`, at most `lanes` side by side; `None` if `stop` was set meanwhile. `progress`
/// is told the number of steps done so far.
///
/// # Errors
/// No pieces, pieces of another note range, no lanes, or a device that fails.
pub async fn evaluate(
    checkpoint: &Checkpoint,
    pieces: &[Arc<Piece>],
    lanes: usize,
    device: Device,
    variants: Variants,
    stop: &AtomicBool,
    progress: impl FnMut(usize),
) -> Result<Option<Metrics>> {
    if pieces.is_empty() {
        return Err(Error::usage("there are no pieces to evaluate", "choose another --split, such as all"));
    }
    if lanes == 0 || lanes > MAX_LANES {
        return Err(Error::usage(format!("--batch {lanes}"), format!("give 1 to {MAX_LANES}")));
    }
    let config = &checkpoint.config;
    let built = plan(config, pieces, lanes, WINDOW)?;
    if let Device::Gpu(gpu) = &device {
        variants.check(&built.0.plan, &gpu.capabilities)?;
    }
    let mut session = Session::new(device, variants);
    let evaluator = Evaluator::new(&mut session, built, config).await?;
    let params = session.plan(evaluator.program).arena(Kind::Params);
    session.write(evaluator.program, params, &checkpoint.params)?;
    evaluator.run(&mut session, pieces, stop, progress).await
}
