//! Plans on a GPU.

use std::ops::Range;
use std::time::Duration;

use super::{Backend, Pending, Task};
use crate::error::{Error, Result};
use crate::gpu::{self, Buffer, Capabilities, Clock, Facts, Format, Gpu, Program};
use crate::graph::Plan;
use crate::graph::placement::Home;
use crate::graph::selection::{Chosen, KernelSelection};
use crate::graph::timeline::{Span, Timeline};
use crate::graph::tuner::Tuner;
use crate::ops::{Recorded, Uniforms, View};

/// Programs on one device, and what is known of its kernels.
pub(in crate::graph) struct OnGpu {
    gpu: Gpu,
    /// By [`Kind::shared`](crate::graph::Kind::shared).
    shared: Vec<Option<Buffer>>,
    scratch: Option<Buffer>,
    programs: Vec<Runnable>,
    tuner: Tuner,
}

/// A plan with its buffers and commands.
struct Runnable {
    plan: Plan,
    slots: Vec<Buffer>,
    program: Program,
    /// The dispatches of node `i` are `starts[i] .. starts[i + 1]`.
    starts: Vec<usize>,
    /// By node.
    chosen: Vec<Chosen>,
}

impl OnGpu {
    pub fn new(gpu: Gpu, selection: &KernelSelection) -> Self {
        let tuner = Tuner::new(selection, &gpu.capabilities);
        Self { gpu, shared: vec![], scratch: None, programs: vec![], tuner }
    }

    /// Chooses the plan's kernels, which may take seconds of measuring, allocates its buffers and those shared ones that it is
    /// the first to touch, and binds them.
    async fn make_runnable(&mut self, plan: Plan, selection: &KernelSelection) -> Result<()> {
        let Self { gpu, shared, scratch, programs, tuner } = self;
        plan.check_fits(&gpu.capabilities)?;
        // Before the plan has buffers, so that those of tuning do not stand beside them.
        tuner.tune(gpu, &plan, selection).await?;
        let chosen = selection.choose(&plan, &gpu.capabilities, |op| tuner.fastest(op));
        for &number in &plan.shared {
            if number >= shared.len() {
                shared.resize_with(number + 1, || None);
            }
            if shared[number].is_none() {
                let name = plan.tensors.iter().find(|tensor| tensor.kind.shared() == Some(number));
                let name = name.map_or(String::new(), |tensor| tensor.kind.name());
                shared[number] = Some(gpu.buffer(&name, plan.layout.len() as u64).await?);
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
            let buffers = node.operands.iter().map(|&v| buffer(shared, &slots, plan.home(v)));
            let mut buffers: Vec<&Buffer> = buffers.collect::<Result<_>>()?;
            buffers.extend(scratch.as_ref());
            operands.push(buffers);
        }
        let mut bound = Vec::with_capacity(dispatches.len());
        for (i, range) in starts.windows(2).enumerate() {
            for dispatch in &dispatches[range[0]..range[1]] {
                bound.push((dispatch.clone(), operands[i].as_slice()));
            }
        }
        let program = gpu.program(&plan.name, &bound).await?.once(starts[plan.invariant]);
        gpu.save_pipeline_cache();
        programs.push(Runnable { plan, slots, program, starts, chosen });
        Ok(())
    }

    /// The words that hold a view: buffer, first and number; where it is stored as f16, a neighbour may come along.
    fn place(&self, program: usize, view: View) -> Result<(&Buffer, u64, u64)> {
        let Runnable { plan, slots, .. } = &self.programs[program];
        let View { start, len, format, .. } = plan.in_buffer(view);
        let bytes = |elements: usize| elements as u64 * format.bytes();
        let (first, end) = (bytes(start) / 4, bytes(start + len).div_ceil(4));
        Ok((buffer(&self.shared, slots, plan.home(view))?, first, end - first))
    }
}

impl Backend for OnGpu {
    fn add<'a>(&'a mut self, plan: Plan, selection: &'a KernelSelection) -> Task<'a, ()> {
        Box::pin(self.make_runnable(plan, selection))
    }

    fn plan(&self, program: usize) -> &Plan {
        &self.programs[program].plan
    }

    fn write(&mut self, program: usize, view: View, data: &[f32]) -> Result<()> {
        let (buffer, first, _) = self.place(program, view)?;
        self.gpu.write(buffer, first, data)
    }

    fn begin_read<'a>(&'a self, views: &'a [(usize, View)]) -> Task<'a, Pending> {
        Box::pin(async {
            let places = views.iter().map(|&(program, view)| self.place(program, view)).collect::<Result<Vec<_>>>()?;
            self.gpu.begin_read(&places).await.map(Pending::Gpu)
        })
    }

    fn finish_read(&self, pending: Pending) -> Task<'_, Vec<Vec<f32>>> {
        Box::pin(async {
            match pending {
                Pending::Ready(values) => Ok(values),
                Pending::Gpu(pending) => self.gpu.finish_read(pending).await,
            }
        })
    }

    fn run(&mut self, runs: &[(usize, u32)], uniforms: &Uniforms) -> Result<()> {
        let runs: Vec<_> = runs.iter().map(|&(program, times)| (&self.programs[program].program, times)).collect();
        self.gpu.submit_all(&runs, &uniforms.words())
    }

    fn run_nodes(&mut self, program: usize, nodes: Range<usize>, uniforms: &Uniforms) -> Result<()> {
        let Runnable { program, starts, .. } = &self.programs[program];
        self.gpu.submit_range(program, starts[nodes.start]..starts[nodes.end], &uniforms.words())
    }

    fn timeline<'a>(
        &'a mut self,
        (program, times): (usize, u32),
        uniforms: &'a Uniforms,
        clock: Option<Clock>,
    ) -> Task<'a, Timeline> {
        Box::pin(async move {
            let Runnable { program, starts, .. } = &self.programs[program];
            let timeline = self.gpu.timeline(program, times, &uniforms.words(), clock).await?;
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
        })
    }

    fn first_non_finite<'a>(&'a mut self, program: usize, uniforms: &'a Uniforms) -> Task<'a, Option<String>> {
        Box::pin(async move {
            let Runnable { plan, program: commands, starts, .. } = &self.programs[program];
            for i in 0..plan.nodes.len() {
                self.gpu.run_range(commands, starts[i]..starts[i + 1], &uniforms.words()).await?;
                let written = plan.written(i);
                let places = written.iter().map(|&v| self.place(program, v)).collect::<Result<Vec<_>>>()?;
                let values = self.gpu.read(&places).await?;
                if !written.iter().zip(&values).all(|(v, words)| finite(v.format, words)) {
                    return Ok(Some(plan.nodes[i].label()));
                }
            }
            Ok(None)
        })
    }

    fn capabilities(&self) -> Option<&Capabilities> {
        Some(&self.gpu.capabilities)
    }

    fn scratch_bytes(&self) -> u64 {
        4 * self.scratch.as_ref().map_or(0, Buffer::len)
    }

    fn chosen(&self, program: usize) -> &[Chosen] {
        &self.programs[program].chosen
    }

    fn dispatches(&self, program: usize) -> usize {
        self.programs[program].program.len()
    }

    fn prepare(&self, program: usize, times: u32) -> Result<()> {
        self.gpu.prepare(&self.programs[program].program, times)
    }

    fn latency(&self) -> Task<'_, Duration> {
        Box::pin(self.gpu.latency())
    }

    fn facts(&self, program: usize, node: usize) -> Vec<Facts> {
        let Runnable { program, starts, .. } = &self.programs[program];
        (starts[node]..starts[node + 1]).filter_map(|i| program.facts(i)).collect()
    }

    fn wait(&self) -> Task<'_, ()> {
        Box::pin(self.gpu.wait())
    }
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
fn buffer<'a>(shared: &'a [Option<Buffer>], slots: &'a [Buffer], home: Home) -> Result<&'a Buffer> {
    let found = match home {
        Home::Shared(number) => shared.get(number).and_then(Option::as_ref),
        Home::Slot(s) => slots.get(s),
    };
    found.ok_or_else(|| Error::model("a tensor that no node touches has no buffer", ""))
}

/// All dispatches of a plan, the largest scratch memory that a node needs, and where each node's dispatches begin.
pub(in crate::graph) fn record(
    plan: &Plan,
    capabilities: &Capabilities,
    chosen: &[Chosen],
) -> Result<(Recorded, Vec<usize>)> {
    let (mut all, mut starts) = (Recorded::default(), vec![0]);
    for (i, chosen) in chosen.iter().enumerate() {
        let Recorded { dispatches, scratch } = plan.dispatches(i, capabilities, chosen.variant)?;
        all.dispatches.extend(dispatches);
        all.scratch = all.scratch.max(scratch);
        starts.push(all.dispatches.len());
    }
    Ok((all, starts))
}
