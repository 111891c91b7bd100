//! Something to run again and again and to time: an update, some time steps of generation, or a single op.

use std::sync::Arc;
use std::time::Duration;

use web_time::Instant;

use crate::error::{Error, Result};
use crate::gpu::{self, Access, Capabilities, Device, Format};
use crate::graph::session::{KernelSelection, Timeline};
use crate::graph::{Graph, Kind, Plan, ProgramId, Session};
use crate::models::{self, Model, PlanOptions, SequenceIo};
use crate::nn::init;
use crate::nn::loss_scale::LossScale;
use crate::nn::optimizer::{self, Optimizer, Schedule};
use crate::ops::random::{pcg4d, uniform01};
use crate::ops::{Op, Uniforms, View};
use crate::shape::{Channel, Channels};
use crate::train::{Paired, fitting_plan};

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
    uniforms: Uniforms,
    /// Whose factors change from run to run, where there is one.
    optimizer: Option<Arc<dyn Optimizer>>,
    schedule: Schedule,
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
    /// A training update on `batch` random rolls of `steps` time steps, gradients and update in one plan: the work hardly
    /// depends on what is in the rolls.
    ///
    /// # Errors
    /// A configuration that cannot be built, too little memory, a kernel that does not exist, a device that fails.
    pub async fn train(
        model: &dyn Model,
        options: PlanOptions,
        (batch, steps): (usize, usize),
        device: Device,
        selection: KernelSelection,
    ) -> Result<Self> {
        let optimizer = models::default_optimizer(model)?;
        let selection = Paired { model, options, shape: (batch, steps), device: &device }.measured(&selection).await?;
        let adapter = device.capabilities();
        let options = selection.plan_options(options, adapter);
        let build = |batch| training_plan(model, optimizer.as_ref(), options, (batch, steps), adapter);
        let (plan, io) = fitting_plan(build, batch, adapter)?;
        let (roll, scale) = (model.roll(), LossScale::default());
        let mut workload = Self::new(plan, io.losses, device, selection).await?;
        workload.uniforms.unscale = 1.0 / scale.factor();
        workload.optimizer = Some(optimizer);
        workload.fill_params()?;
        let (session, id) = (&mut workload.session, workload.program);
        session.write(id, io.roll, &notes((steps + 1) * batch * roll.notes, roll.channels))?;
        if let Some(style) = io.style {
            session.write(id, style, &one_hot(batch, roll.styles))?;
        }
        session.write(id, io.weight, &vec![1.0 / (batch * steps * roll.notes) as f32; io.weight.len])?;
        if let Some(weights) = io.loss_weights {
            session.write(id, weights, &vec![scale.factor(); weights.len])?;
        }
        Ok(workload)
    }

    /// `steps` time steps of generation in one submission, of `pieces` pieces side by side.
    ///
    /// # Errors
    /// As [`Workload::train`].
    pub async fn generate(
        model: &dyn Model,
        (pieces, steps): (usize, usize),
        device: Device,
        selection: KernelSelection,
    ) -> Result<Self> {
        let build = |pieces| Ok(model.generation(pieces, steps)?.compile());
        let (plan, io) = fitting_plan(build, pieces, device.capabilities())?;
        let mut workload = Self::new(plan, io.roll, device, selection).await?;
        workload.times = steps as u32;
        workload.fill_params()?;
        if let Some(style) = io.style {
            workload.session.write(workload.program, style, &one_hot(pieces, model.roll().styles))?;
        }
        Ok(workload)
    }

    /// Whether a real GPU runs it.
    pub fn is_on_hardware(&self) -> bool {
        self.session.capabilities().is_some_and(|able| able.device_type != gpu::DeviceType::Software)
    }

    /// Calls of one op. What products and LSTMs read in f32 is random, since a GPU that is limited by its power is faster
    /// on zeros; the convolution hears a random roll, since the CPU backend passes silent notes over. All else is zero.
    ///
    /// # Errors
    /// As [`Workload::train`].
    pub async fn op(op: Arc<dyn Op>, device: Device, selection: KernelSelection) -> Result<Self> {
        let plan = plan_of(&op.label(), std::slice::from_ref(&op));
        let (name, args) = (op.name(), op.args());
        let operands = plan.nodes[0].operands.clone();
        let written = plan.written(0).first().map_or(operands[0], |view| view.slice(0, view.len.min(1)));
        let (plan, ()) = fitting_plan(|_| Ok((plan.clone(), ())), 1, device.capabilities())
            .map_err(|e| Error { remedy: "use a smaller --shape".into(), ..e })?;
        let mut workload = Self::new(plan, written, device, selection).await?;
        for (&view, arg) in operands.iter().zip(&args).filter(|(view, _)| view.format == Format::F32) {
            let values = match name {
                "octave_conv" if arg.name == "x" => notes(view.len.div_ceil(3), Channels::PERFORMANCE),
                "gemm" | "lstm" | "lstm_pair" if arg.access == Access::Read => random(view.len),
                _ => continue,
            };
            workload.session.write(workload.program, view, &values[..view.len])?;
        }
        Ok(workload)
    }

    async fn new(plan: Plan, outputs: View, device: Device, selection: KernelSelection) -> Result<Self> {
        let mut session = Session::new(device, selection);
        let program = session.add(plan).await?;
        let uniforms = Uniforms { seed: 1, temperature: 1.0, ..Uniforms::default() };
        Ok(Self { session, program, times: 1, outputs, uniforms, optimizer: None, schedule: Schedule::default() })
    }

    fn fill_params(&mut self) -> Result<()> {
        let plan = self.session.plan(self.program);
        let (values, params) = (init::initialise(&plan.layout, 1), plan.buffer(Kind::Params));
        self.session.write(self.program, params, &values)
    }

    fn advance(&mut self) {
        self.uniforms.update += 1;
        if let Some(optimizer) = &self.optimizer {
            optimizer.advance(&mut self.schedule, &mut self.uniforms);
        }
    }

    /// Runs it as training and generation do: submits, encodes the next run while the GPU works, reads the results.
    ///
    /// # Errors
    /// A lost device.
    pub async fn run(&mut self) -> Result<Run> {
        self.advance();
        let began = Instant::now();
        self.session.run(self.program, self.times, &self.uniforms)?;
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
        let timeline = self.session.timeline(self.program, self.times, &self.uniforms, clock).await?;
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
    let mut graph = Graph::without_params();
    for op in ops {
        let operands: Vec<View> = op.args().iter().map(|arg| graph.temp_as(arg.name, arg.len, arg.format)).collect();
        graph.append(op.clone(), &operands);
    }
    let mut plan = Plan::compile(name, graph);
    // An op that reads nothing else would run once, however many calls a run is to have.
    plan.invariant = 0;
    plan
}

/// The plan of a whole training update on this adapter: gradients, then the optimiser's update of all parameters.
///
/// # Errors
/// A configuration that cannot be built.
pub fn training_plan(
    model: &dyn Model,
    optimizer: &dyn Optimizer,
    options: PlanOptions,
    shape: (usize, usize),
    adapter: Option<&Capabilities>,
) -> Result<(Plan, SequenceIo)> {
    let mut sequence = models::training(model, options, shape, adapter)?;
    optimizer::append(optimizer, None, &mut sequence.graph);
    Ok(sequence.compile())
}

/// `cells` cells with these channels.
fn notes(cells: usize, channels: Channels) -> Vec<f32> {
    let cell = |i: usize| {
        let [play, replay, dynamics, _] = pcg4d([i as u32, 0, 0, 1]).map(uniform01);
        let play = f32::from(play < DENSITY[0]);
        channels
            .iter()
            .map(move |channel| match channel {
                Channel::Play => play,
                Channel::Replay => play * f32::from(replay < DENSITY[1]),
                Channel::Dynamics => play * dynamics,
            })
            .collect::<Vec<_>>()
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
