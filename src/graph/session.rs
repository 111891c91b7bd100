//! Where plans run: one device, one set of parameter arenas, any number of programs on them.

use std::time::Duration;

use web_time::Instant;

use super::Kind;
use super::mirror::{self, Arenas, Mirror};
use super::placement::Home;
use super::plan::Plan;
use super::tuner::Tuner;
use crate::error::{Error, Result};
use crate::gpu::{self, Budget, Buffer, Capabilities, Device, Dispatch, Facts, Format, Gpu, Program};
use crate::ops::{Recorded, Step, View};

pub use super::variants::{Chosen, Event, Observer, Origin, Tune, Tuned, Variants, check_pins};

/// Which program of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProgramId(usize);

/// A plan on a GPU.
struct OnGpu {
    plan: Plan,
    slots: Vec<Buffer>,
    program: Program,
    /// The dispatches of node `i` are `starts[i] .. starts[i + 1]`.
    starts: Vec<usize>,
    /// By node.
    chosen: Vec<Chosen>,
}

#[allow(clippy::large_enum_variant)] // one a session, never moved
enum Backend {
    Cpu {
        arenas: Arenas<f32>,
        programs: Vec<Mirror<f32>>,
    },
    Gpu {
        gpu: Gpu,
        arenas: [Option<Buffer>; 4],
        scratch: Option<Buffer>,
        programs: Vec<OnGpu>,
        variants: Variants,
        tuner: Tuner,
    },
}

/// A device with the parameters of one model and the programs that use them.
///
/// All programs must come from models that declare the same parameters, so that they agree on the arenas' layout.
pub struct Session {
    backend: Backend,
    params_len: Option<usize>,
}

impl Session {
    /// A session on this device, without programs.
    pub fn new(device: Device, variants: Variants) -> Self {
        let backend = match device {
            Device::Cpu { .. } => Backend::Cpu { arenas: Default::default(), programs: vec![] },
            Device::Gpu(gpu) => {
                let tuner = Tuner::new(&variants, &gpu.capabilities);
                Backend::Gpu { gpu, arenas: Default::default(), scratch: None, programs: vec![], variants, tuner }
            }
        };
        Self { backend, params_len: None }
    }

    /// The GPU's capabilities, or `None` on the CPU.
    pub fn capabilities(&self) -> Option<&Capabilities> {
        match &self.backend {
            Backend::Cpu { .. } => None,
            Backend::Gpu { gpu, .. } => Some(&gpu.capabilities),
        }
    }

    /// Bytes of the scratch memory that the programs' kernels share, beside what the plans say.
    pub fn scratch_bytes(&self) -> u64 {
        match &self.backend {
            Backend::Cpu { .. } => 0,
            Backend::Gpu { scratch, .. } => 4 * scratch.as_ref().map_or(0, Buffer::len),
        }
    }

    /// Chooses the plan's kernels, which may take seconds of measuring (see [`Variants`]), allocates its buffers and makes
    /// it runnable; grows the arenas that it is the first to need.
    ///
    /// # Errors
    /// Parameters laid out otherwise than in earlier programs; a buffer over the adapter's limit or out of memory; a
    /// kernel that the driver refuses.
    pub async fn add(&mut self, plan: Plan) -> Result<ProgramId> {
        if *self.params_len.get_or_insert(plan.params_len) != plan.params_len {
            let what = format!("the plan `{}` has other parameters than the session's first", plan.name);
            return Err(Error::model(what, "build all plans of a session from one configuration"));
        }
        match &mut self.backend {
            Backend::Cpu { arenas, programs } => {
                for (arena, new) in arenas.iter_mut().zip(mirror::arenas(&plan)) {
                    if arena.is_empty() {
                        *arena = new;
                    }
                }
                programs.push(Mirror::new(plan));
                Ok(ProgramId(programs.len() - 1))
            }
            Backend::Gpu { gpu, arenas, scratch, programs, variants, tuner } => {
                plan.check_fits(&gpu.capabilities)?;
                // Before the plan has buffers, so that those of tuning do not stand beside them.
                tuner.tune(gpu, &plan, variants).await?;
                let chosen = variants.choose(&plan, &gpu.capabilities, |op| tuner.fastest(op));
                for ((arena, used), kind) in arenas.iter_mut().zip(plan.arenas).zip(Kind::ARENAS) {
                    if used && arena.is_none() {
                        *arena = Some(gpu.buffer(&format!("{kind:?}"), plan.params_len as u64).await?);
                    }
                }
                let mut slots = Vec::with_capacity(plan.slots().len());
                for (i, slot) in plan.slots().iter().enumerate() {
                    slots.push(gpu.buffer(&format!("{} buffer {i}", plan.name), slot.bytes / 4).await?);
                }
                let (Recorded { dispatches, scratch: needed }, starts) = record(&plan, &gpu.capabilities, &chosen)?;
                // One for all programs; those built with a smaller one keep that.
                if scratch.as_ref().is_none_or(|buffer| buffer.len() < needed as u64) && needed > 0 {
                    *scratch = Some(gpu.buffer("scratch", needed as u64).await?);
                }
                let mut operands: Vec<Vec<&Buffer>> = Vec::with_capacity(plan.nodes.len());
                for node in &plan.nodes {
                    let buffers = node.operands.iter().map(|&v| buffer(arenas, &slots, plan.home(v)));
                    let mut buffers: Vec<&Buffer> = buffers.collect::<Result<_>>()?;
                    buffers.extend(scratch.as_ref());
                    operands.push(buffers);
                }
                let mut steps = Vec::with_capacity(dispatches.len());
                for (i, range) in starts.windows(2).enumerate() {
                    for dispatch in &dispatches[range[0]..range[1]] {
                        steps.push((dispatch.clone(), operands[i].as_slice()));
                    }
                }
                let program = gpu.program(&plan.name, &steps).await?.once(starts[plan.invariant]);
                gpu.save_pipeline_cache();
                programs.push(OnGpu { plan, slots, program, starts, chosen });
                Ok(ProgramId(programs.len() - 1))
            }
        }
    }

    /// The plan of a program.
    pub fn plan(&self, id: ProgramId) -> &Plan {
        match &self.backend {
            Backend::Cpu { programs, .. } => programs[id.0].plan(),
            Backend::Gpu { programs, .. } => &programs[id.0].plan,
        }
    }

    /// The variant that each node of a program runs; empty on the CPU.
    pub fn chosen(&self, id: ProgramId) -> &[Chosen] {
        match &self.backend {
            Backend::Cpu { .. } => &[],
            Backend::Gpu { programs, .. } => &programs[id.0].chosen,
        }
    }

    /// Dispatches of one run of a program; 0 on the CPU.
    pub fn dispatches(&self, id: ProgramId) -> usize {
        match &self.backend {
            Backend::Cpu { .. } => 0,
            Backend::Gpu { programs, .. } => programs[id.0].program.len(),
        }
    }

    /// Writes a view, which takes effect before the next run.
    ///
    /// # Errors
    /// A lost device.
    ///
    /// # Panics
    /// If `data` is not as long as the view: a bug in the caller.
    pub fn write(&mut self, id: ProgramId, view: View, data: &[f32]) -> Result<()> {
        assert_eq!(view.len, data.len(), "write of another length than the view's");
        match &mut self.backend {
            Backend::Cpu { arenas, programs } => {
                programs[id.0].get_mut(arenas, view).copy_from_slice(data);
                Ok(())
            }
            Backend::Gpu { gpu, arenas, programs, .. } => {
                let program = &programs[id.0];
                let buffer = buffer(arenas, &program.slots, program.plan.home(view))?;
                gpu.write(buffer, program.plan.in_buffer(view).start as u64, data)
            }
        }
    }

    /// Waits for what was submitted and reads views, all in one copy.
    ///
    /// # Errors
    /// A lost device, or what went wrong in runs submitted before.
    pub async fn read(&self, id: ProgramId, views: &[View]) -> Result<Vec<Vec<f32>>> {
        match &self.backend {
            Backend::Cpu { arenas, programs } => {
                Ok(views.iter().map(|&v| programs[id.0].get(arenas, v).to_vec()).collect())
            }
            Backend::Gpu { gpu, arenas, programs, .. } => {
                let program = &programs[id.0];
                let parts = views
                    .iter()
                    .map(|&v| place(arenas, &program.slots, &program.plan, v))
                    .collect::<Result<Vec<_>>>()?;
                gpu.read(&parts).await
            }
        }
    }

    /// Runs the program `times` times in a row, on a GPU in one submission; what is the same in all of them runs once.
    ///
    /// # Errors
    /// A lost device.
    pub fn run(&mut self, id: ProgramId, times: u32, step: &Step) -> Result<()> {
        match &mut self.backend {
            Backend::Cpu { arenas, programs } => {
                let program = &mut programs[id.0];
                // From a thread of the pool, nodes start their parallel parts without waking it first.
                rayon::scope(|_| program.repeat(arenas, times, step));
                Ok(())
            }
            Backend::Gpu { gpu, programs, .. } => gpu.submit(&programs[id.0].program, times, &step.words()),
        }
    }

    /// Does ahead what it can of the next [`Session::run`] of as many `times`; after a run, the GPU works meanwhile.
    ///
    /// # Errors
    /// A lost device.
    pub fn prepare(&self, id: ProgramId, times: u32) -> Result<()> {
        match &self.backend {
            Backend::Cpu { .. } => Ok(()),
            Backend::Gpu { gpu, programs, .. } => gpu.prepare(&programs[id.0].program, times),
        }
    }

    /// Runs the program `times` times in a row and tells when each part of each node ran, by this clock or by the best that
    /// the device has; see [`Gpu::timeline`].
    ///
    /// # Errors
    /// A lost device; timestamps that are asked for and of no use.
    pub async fn timeline(
        &mut self,
        id: ProgramId,
        times: u32,
        step: &Step,
        clock: Option<gpu::Clock>,
    ) -> Result<Timeline> {
        match &mut self.backend {
            Backend::Cpu { arenas, programs } => {
                let program = &mut programs[id.0];
                Ok(rayon::scope(|_| timed(program, arenas, times, step)))
            }
            Backend::Gpu { gpu, programs, .. } => {
                let OnGpu { program, starts, .. } = &programs[id.0];
                let timeline = gpu.timeline(program, times, &step.words(), clock).await?;
                let node = |dispatch| starts.partition_point(|&start| start <= dispatch) - 1;
                let span = |stamp: gpu::Stamp| Span {
                    node: node(stamp.dispatch),
                    start: stamp.start,
                    end: stamp.end,
                    encoding: stamp.encoding,
                };
                Ok(Timeline {
                    clock: Some(timeline.clock),
                    spans: timeline.stamps.into_iter().map(span).collect(),
                    submitting: timeline.submitting,
                    wall: timeline.wall,
                })
            }
        }
    }

    /// From a submission of nothing to its end; zero on the CPU.
    ///
    /// # Errors
    /// A lost device.
    pub async fn latency(&self) -> Result<Duration> {
        match &self.backend {
            Backend::Cpu { .. } => Ok(Duration::ZERO),
            Backend::Gpu { gpu, .. } => gpu.latency().await,
        }
    }

    /// What is known of the dispatches of a program's node, those with empty grids left out; none on the CPU.
    pub fn facts(&self, id: ProgramId, node: usize) -> Vec<Facts> {
        match &self.backend {
            Backend::Cpu { .. } => vec![],
            Backend::Gpu { programs, .. } => {
                let OnGpu { program, starts, .. } = &programs[id.0];
                (starts[node]..starts[node + 1]).filter_map(|i| program.facts(i)).collect()
            }
        }
    }

    /// Runs the program once, node by node, and names the first node that writes a value that is not finite.
    ///
    /// # Errors
    /// A lost device.
    pub async fn first_non_finite(&mut self, id: ProgramId, step: &Step) -> Result<Option<String>> {
        match &mut self.backend {
            Backend::Cpu { arenas, programs } => {
                let program = &mut programs[id.0];
                for i in 0..program.plan().nodes.len() {
                    program.run_node(arenas, i, step);
                    if !program.finite(arenas, i) {
                        return Ok(Some(program.plan().nodes[i].label()));
                    }
                }
            }
            Backend::Gpu { gpu, arenas, programs, .. } => {
                let OnGpu { plan, slots, program, starts, .. } = &programs[id.0];
                for i in 0..plan.nodes.len() {
                    gpu.run_range(program, starts[i]..starts[i + 1], &step.words()).await?;
                    let written = plan.written(i);
                    let parts = written.iter().map(|&v| place(arenas, slots, plan, v)).collect::<Result<Vec<_>>>()?;
                    let values = gpu.read(&parts).await?;
                    if !written.iter().zip(&values).all(|(v, words)| finite(v.format, words)) {
                        return Ok(Some(plan.nodes[i].label()));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Waits until everything submitted has run.
    ///
    /// # Errors
    /// A lost device, or what went wrong in runs submitted before.
    pub async fn wait(&self) -> Result<()> {
        match &self.backend {
            Backend::Cpu { .. } => Ok(()),
            Backend::Gpu { gpu, .. } => gpu.wait().await,
        }
    }
}

/// When a dispatch of a node ran, or on the CPU the node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// The node of the plan.
    pub node: usize,
    /// Nanoseconds since the first span's start by the device's clock, or since the run began by the CPU's.
    pub start: u64,
    /// The end.
    pub end: u64,
    /// CPU time in which the dispatch was encoded; zero on the CPU.
    pub encoding: Duration,
}

/// When the nodes of a program ran; see [`gpu::Timeline`].
#[derive(Clone, Debug, PartialEq)]
pub struct Timeline {
    /// What told the times; `None` on the CPU.
    pub clock: Option<gpu::Clock>,
    /// In the order in which they ran.
    pub spans: Vec<Span>,
    /// CPU time of the submission; zero on the CPU.
    pub submitting: Duration,
    /// From the beginning of the submission to the end of all work.
    pub wall: Duration,
}

/// Runs a plan on the CPU, node by node.
fn timed(program: &mut Mirror<f32>, arenas: &mut Arenas<f32>, times: u32, step: &Step) -> Timeline {
    let began = Instant::now();
    let mut spans = vec![];
    for node in program.plan().order(times) {
        let start = began.elapsed().as_nanos() as u64;
        program.run_node(arenas, node, step);
        spans.push(Span { node, start, end: began.elapsed().as_nanos() as u64, encoding: Duration::ZERO });
    }
    Timeline { clock: None, spans, submitting: Duration::ZERO, wall: began.elapsed() }
}

/// The words that hold a view: buffer, first and number; where it is stored as f16, a neighbour may come along.
fn place<'a>(
    arenas: &'a [Option<Buffer>; 4],
    slots: &'a [Buffer],
    plan: &Plan,
    view: View,
) -> Result<(&'a Buffer, u64, u64)> {
    let View { start, len, format, .. } = plan.in_buffer(view);
    let bytes = |elements: usize| elements as u64 * format.bytes();
    let (first, end) = (bytes(start) / 4, bytes(start + len).div_ceil(4));
    Ok((buffer(arenas, slots, plan.home(view))?, first, end - first))
}

/// Whether all numbers in these words are finite.
fn finite(format: Format, words: &[f32]) -> bool {
    match format {
        Format::F32 => words.iter().all(|x| x.is_finite()),
        Format::F16 => {
            bytemuck::cast_slice::<f32, u16>(words).iter().all(|&bits| half::f16::from_bits(bits).is_finite())
        }
    }
}

/// The buffer where a tensor lives.
fn buffer<'a>(arenas: &'a [Option<Buffer>; 4], slots: &'a [Buffer], home: Home) -> Result<&'a Buffer> {
    let found = match home {
        Home::Arena(a) => arenas[a].as_ref(),
        Home::Slot(s) => slots.get(s),
    };
    found.ok_or_else(|| Error::model("a tensor that no node touches has no buffer", ""))
}

/// All dispatches of a plan, the largest scratch memory that a node needs, and where each node's dispatches begin.
fn record(plan: &Plan, capabilities: &Capabilities, chosen: &[Chosen]) -> Result<(Recorded, Vec<usize>)> {
    let (mut all, mut starts) = (Recorded::default(), vec![0]);
    for (i, chosen) in chosen.iter().enumerate() {
        let Recorded { dispatches, scratch } = plan.dispatches(i, capabilities, chosen.variant)?;
        all.dispatches.extend(dispatches);
        all.scratch = all.scratch.max(scratch);
        starts.push(all.dispatches.len());
    }
    Ok((all, starts))
}

/// The plan for people, with the dispatches that this adapter would run, or for the CPU without one. Nothing is measured:
/// kernels of which no choice is remembered show their first variant.
///
/// # Errors
/// What recording reports.
pub fn explain(plan: &Plan, capabilities: Option<&Capabilities>, variants: &Variants) -> Result<String> {
    let Some(capabilities) = capabilities else { return Ok(plan.explain(None, 0)) };
    let mut tuner = Tuner::new(variants, capabilities);
    tuner.recall(plan, variants, capabilities);
    let chosen = variants.choose(plan, capabilities, |op| tuner.fastest(op));
    let (recorded, starts) = record(plan, capabilities, &chosen)?;
    let dispatches = starts.windows(2).map(|range| range[1] - range[0]);
    let mut text = plan.explain(Some(&chosen.into_iter().zip(dispatches).collect::<Vec<_>>()), recorded.scratch);
    text.push_str(&longest(plan, capabilities, &recorded, &starts));
    Ok(text)
}

/// A line on the dispatch that is estimated to take longest, and what it may take.
fn longest(plan: &Plan, capabilities: &Capabilities, recorded: &Recorded, starts: &[usize]) -> String {
    let Some(budget) = capabilities.budget else {
        return "longest dispatch: of any length, as no watchdog ends it on a software adapter\n".into();
    };
    let ms = 1e3 * Budget::SECONDS;
    let share = |dispatch: &Dispatch| budget.share(dispatch.cost, dispatch.groups());
    let shares = recorded.dispatches.iter().map(share).zip(0..);
    let Some((share, dispatch)) = shares.max_by(|a, b| a.0.total_cmp(&b.0)) else { return String::new() };
    let node = &plan.nodes[starts.partition_point(|&start| start <= dispatch) - 1];
    let [gflops, gbs] = [budget.flops, budget.bytes].map(|amount| amount as f64 / Budget::SECONDS / 1e9);
    let peaks = if budget == Budget::UNMEASURED { "unmeasured, taken for" } else { "of" };
    format!(
        "longest dispatch: {:.1} ms at the peaks, {peaks} {gflops:.0} GFLOP/s and {gbs:.0} GB/s; {ms:.0} ms are allowed ({})\n",
        ms * share,
        node.label()
    )
}
