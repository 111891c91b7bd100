//! Something to run again and again and to time: a training step, some steps of generation, or a single op.

use std::sync::Arc;
use std::time::Duration;

use web_time::Instant;

use crate::error::{Error, Result};
use crate::gpu::{self, Access, Device, Format};
use crate::graph::session::{Timeline, Variants};
use crate::graph::{Graph, Kind, Plan, ProgramId, Session};
use crate::models::deepj::{Config, Mode, Training, build, build_generate};
use crate::nn::loss_scale::LossScale;
use crate::nn::{init, nadam};
use crate::ops::note_input::CHANNELS;
use crate::ops::random::{pcg4d, uniform01};
use crate::ops::{Op, Step, View};
use crate::train::check_plans;

/// Part of a roll's cells that play; of these, the part that is attacked again. Real rolls have about as many.
const DENSITY: [f32; 2] = [0.08, 0.3];

/// A program with its inputs filled in.
pub struct Workload {
    /// Where it runs.
    pub session: Session,
    /// What runs.
    pub program: ProgramId,
    /// How many times in a row a run executes the plan.
    pub times: u32,
    /// What the host reads after each run.
    outputs: View,
    step: Step,
    schedule: nadam::Schedule,
}

/// The times of an unprofiled run.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// CPU time of submitting it; on the CPU, all of it.
    pub submitting: Duration,
    /// Until the next run was encoded too, which happens while a GPU works.
    pub replaying: Duration,
    /// Until its results were there.
    pub wall: Duration,
    /// The results.
    pub outputs: Vec<f32>,
}

impl Workload {
    /// A training step on `batch` random rolls of `steps` time steps: the work hardly depends on what is in them.
    ///
    /// # Errors
    /// A configuration that cannot be built, too little memory, a variant that does not exist, a device that fails.
    pub async fn train(
        config: &Config,
        training: Training,
        (batch, steps): (usize, usize),
        device: Device,
        variants: Variants,
    ) -> Result<Self> {
        let of = |batch| build(config, Mode::Train(training), batch, steps);
        check_plans(|batch| Ok(vec![of(batch)?.plan]), batch, device.capabilities())?;
        let built = of(batch)?;
        let (io, scale) = (built.io, LossScale::default());
        let mut workload = Self::new(built.plan, io.losses, device, variants).await?;
        workload.step.unscale = 1.0 / scale.factor();
        workload.fill_params()?;
        let (session, id) = (&mut workload.session, workload.program);
        session.write(id, io.roll, &notes((steps + 1) * batch * config.notes))?;
        session.write(id, io.style, &one_hot(batch, config.styles))?;
        session.write(id, io.weight, &vec![1.0 / (batch * steps * config.notes) as f32; batch * steps])?;
        if let Some(weights) = io.loss_weights {
            session.write(id, weights, &[scale.factor(); 3])?;
        }
        Ok(workload)
    }

    /// `steps` time steps of generation in one submission, of `pieces` pieces side by side.
    ///
    /// # Errors
    /// As [`Workload::train`].
    pub async fn generate(
        config: &Config,
        (pieces, steps): (usize, usize),
        device: Device,
        variants: Variants,
    ) -> Result<Self> {
        let of = |pieces| build_generate(config, pieces, steps);
        check_plans(|pieces| Ok(vec![of(pieces)?.plan]), pieces, device.capabilities())?;
        let built = of(pieces)?;
        let mut workload = Self::new(built.plan, built.io.roll, device, variants).await?;
        workload.times = steps as u32;
        workload.fill_params()?;
        let style = one_hot(pieces, config.styles);
        workload.session.write(workload.program, built.io.style, &style)?;
        Ok(workload)
    }

    /// Calls of one op. What products and LSTMs read in f32 is random, since a GPU that is limited by its power is faster
    /// on zeros; the convolution hears a random roll, since the mirror passes silent notes over. All else is zero.
    ///
    /// # Errors
    /// As [`Workload::train`].
    pub async fn op(op: Arc<dyn Op>, device: Device, variants: Variants) -> Result<Self> {
        let plan = plan_of(&op.label(), std::slice::from_ref(&op));
        let (name, args) = (op.name(), op.args());
        let operands = plan.nodes[0].operands.clone();
        let written = plan.written(0).first().map_or(operands[0], |view| view.slice(0, view.len.min(1)));
        check_plans(|_| Ok(vec![plan.clone()]), 1, device.capabilities())
            .map_err(|e| Error { remedy: "use a smaller --shape".into(), ..e })?;
        let mut workload = Self::new(plan, written, device, variants).await?;
        for (&view, arg) in operands.iter().zip(&args).filter(|(view, _)| view.format == Format::F32) {
            let values = match name {
                "octave_conv" if arg.name == "x" => notes(view.len.div_ceil(CHANNELS)),
                "gemm" | "lstm" if arg.access == Access::Read => random(view.len),
                _ => continue,
            };
            workload.session.write(workload.program, view, &values[..view.len])?;
        }
        Ok(workload)
    }

    async fn new(plan: Plan, outputs: View, device: Device, variants: Variants) -> Result<Self> {
        if let Some(capabilities) = device.capabilities() {
            variants.check(&plan, capabilities)?;
        }
        let mut session = Session::new(device, variants);
        let program = session.add(plan).await?;
        let step = Step { seed: 1, temperature: 1.0, ..Step::default() };
        Ok(Self { session, program, times: 1, outputs, step, schedule: nadam::Schedule::default() })
    }

    fn fill_params(&mut self) -> Result<()> {
        let plan = self.session.plan(self.program);
        let values = init::initialise(&plan.params, plan.params_len, 1);
        let arena = plan.arena(Kind::Params);
        self.session.write(self.program, arena, &values)
    }

    fn advance(&mut self) {
        self.step.step += 1;
        self.schedule.advance(&nadam::Settings::default(), &mut self.step);
    }

    /// Runs it as training and generation do: submits, encodes the next run while the GPU works, reads the results.
    ///
    /// # Errors
    /// A lost device.
    pub async fn run(&mut self) -> Result<Run> {
        self.advance();
        let began = Instant::now();
        self.session.run(self.program, self.times, &self.step)?;
        let submitting = began.elapsed();
        self.session.prepare(self.program, self.times)?;
        let replaying = began.elapsed();
        let outputs = self.session.read(self.program, &[self.outputs]).await?.swap_remove(0);
        Ok(Run { submitting, replaying, wall: began.elapsed(), outputs })
    }

    /// Runs it with a look at the clock at each dispatch, the one named if any, and tells how long reading the results took
    /// after.
    ///
    /// # Errors
    /// A lost device; timestamps that are asked for and of no use.
    pub async fn timeline(&mut self, clock: Option<gpu::Clock>) -> Result<(Timeline, Duration)> {
        self.advance();
        let timeline = self.session.timeline(self.program, self.times, &self.step, clock).await?;
        let began = Instant::now();
        self.session.read(self.program, &[self.outputs]).await?;
        Ok((timeline, began.elapsed()))
    }

    /// The plan that runs.
    pub fn plan(&self) -> &Plan {
        self.session.plan(self.program)
    }
}

/// A plan of ops on operands of their own.
pub(super) fn plan_of(name: &str, ops: &[Arc<dyn Op>]) -> Plan {
    let mut graph = Graph::new();
    for op in ops {
        let operands: Vec<View> = op.args().iter().map(|arg| graph.temp_as(arg.name, arg.len, arg.format)).collect();
        graph.append(op.clone(), &operands);
    }
    let mut plan = Plan::compile(name, graph);
    // An op that reads nothing else would run once, however many calls a run is to have.
    plan.invariant = 0;
    plan
}

/// `cells` triples of play, replay and dynamics.
fn notes(cells: usize) -> Vec<f32> {
    let cell = |i: usize| {
        let [play, replay, dynamics, _] = pcg4d([i as u32, 0, 0, 1]).map(uniform01);
        let play = f32::from(play < DENSITY[0]);
        [play, play * f32::from(replay < DENSITY[1]), play * dynamics]
    };
    (0..cells).flat_map(cell).collect()
}

/// Uniform numbers around 0, so small that sums stay finite.
fn random(len: usize) -> Vec<f32> {
    (0..len).map(|i| 0.1 * (uniform01(pcg4d([i as u32, 0, 0, 2])[0]) - 0.5)).collect()
}

/// Row `i` of `rows` has its 1 in column `i`.
fn one_hot(rows: usize, width: usize) -> Vec<f32> {
    (0..rows * width).map(|i| f32::from(i % width == i / width % width)).collect()
}
