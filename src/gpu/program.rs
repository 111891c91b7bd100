//! A list of dispatches, made ready once and run many times: bind groups, recording, submission.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::check::{self, Operand, Workgroup};
use super::device::Inner;
use super::pipeline::{Pipeline, UNIFORMS_SIZE};
use super::{Access, Buffer, Dispatch, Gpu};
use crate::{Error, Result};

/// Where uniform blocks may start: the largest alignment that a device may ask for.
const UNIFORM_ALIGNMENT: u64 = 256;
const UNIFORM: wgpu::BufferUsages = wgpu::BufferUsages::UNIFORM.union(wgpu::BufferUsages::COPY_DST);

/// Dispatches with their pipelines, parameters and bind groups, bound to the buffers that they were built with.
pub struct Program {
    label: String,
    /// In the order they were given; none where the grid is empty.
    dispatches: Vec<Option<Bound>>,
    /// How many dispatches at the beginning are left out of repetitions.
    once: usize,
    /// The buffer of the uniforms and its bind group, where a dispatch reads them.
    uniforms: Option<(wgpu::Buffer, wgpu::BindGroup)>,
    /// A number of runs, and the commands that were encoded ahead for them.
    prepared: Mutex<Option<(u32, Vec<Commands>)>>,
}

/// A dispatch, bound to its buffers.
struct Bound {
    pipeline: Pipeline,
    /// [`Shader::name`](super::Shader::name).
    shader: Arc<str>,
    group: wgpu::BindGroup,
    grid: [u32; 3],
    uses_uniforms: bool,
    /// The share of a submission's budget that it takes.
    share: f64,
}

/// Dispatches that are encoded and go into one submission.
pub(super) struct Commands {
    pub raw: wgpu::CommandBuffer,
    /// The share of the submission's budget that they take.
    pub share: f64,
}

/// What is known of a dispatch before it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// The shader: [`Shader::name`](super::Shader::name).
    pub shader: Arc<str>,
    /// Workgroups in x, y, z.
    pub workgroups: [u32; 3],
    /// What its workgroups are.
    pub workgroup: Workgroup,
    /// The same for dispatches of one pipeline.
    pub pipeline: usize,
    /// How long compiling the pipeline took; little if the driver's cache had it.
    pub compile: Duration,
}

impl Program {
    async fn build(gpu: &Gpu, label: &str, dispatches: &[(Dispatch, &[&Buffer])]) -> Result<Self> {
        let runs = |dispatch: &Dispatch| !dispatch.grid.contains(&0);
        let mut offsets = Vec::with_capacity(dispatches.len());
        let mut params: Vec<u8> = Vec::new();
        for (dispatch, operands) in dispatches {
            offsets.push(params.len() as u64);
            if !runs(dispatch) {
                continue;
            }
            let operands: Vec<_> =
                operands.iter().map(|buffer| Operand { buffer: buffer.id, len: 4 * buffer.len().max(1) }).collect();
            check::check(dispatch, &operands, &gpu.capabilities)?;
            params.extend_from_slice(bytemuck::cast_slice(&dispatch.params));
            let end = offsets[offsets.len() - 1] + dispatch.params_size();
            params.resize(end.next_multiple_of(UNIFORM_ALIGNMENT) as usize, 0);
        }

        let params_size = (params.len() as u64).max(UNIFORM_ALIGNMENT);
        let params_buffer = gpu.raw_buffer(&format!("{label}: parameters"), params_size, UNIFORM).await?;
        gpu.write_bytes(&params_buffer, 0, &params);
        let uniforms = if dispatches.iter().any(|(dispatch, _)| dispatch.uses_uniforms && runs(dispatch)) {
            let buffer = gpu.raw_buffer(&format!("{label}: uniforms"), UNIFORMS_SIZE, UNIFORM).await?;
            let entries = [wgpu::BindGroupEntry { binding: 0, resource: buffer.as_entire_binding() }];
            let layout = &gpu.inner.pipelines.uniforms_layout;
            let description = wgpu::BindGroupDescriptor { label: None, layout, entries: &entries };
            let group = gpu.inner.device.create_bind_group(&description);
            Some((buffer, group))
        } else {
            None
        };

        let mut bound = Vec::with_capacity(dispatches.len());
        for ((dispatch, operands), offset) in dispatches.iter().zip(offsets) {
            bound.push(match runs(dispatch) {
                true => Some(Bound::new(gpu, dispatch, operands, (&params_buffer, offset)).await?),
                false => None,
            });
        }
        Ok(Self { label: label.into(), dispatches: bound, once: 0, uniforms, prepared: Mutex::default() })
    }

    /// The same program, but when it runs several times in a row, its first `dispatches` run only once, before all others.
    pub fn once(self, dispatches: usize) -> Self {
        Self { once: dispatches, ..self }
    }

    /// How many dispatches it was built from, those with an empty grid included.
    pub fn len(&self) -> usize {
        self.dispatches.len()
    }

    /// Whether it was built from no dispatch.
    pub fn is_empty(&self) -> bool {
        self.dispatches.is_empty()
    }

    /// What is known of dispatch `i`; `None` where its grid is empty, so that it does not run.
    pub fn facts(&self, i: usize) -> Option<Facts> {
        let Bound { pipeline, shader, grid, .. } = self.dispatches.get(i)?.as_ref()?;
        let Pipeline { number, workgroup, compile, .. } = *pipeline;
        Some(Facts { shader: shader.clone(), workgroups: *grid, workgroup, pipeline: number, compile })
    }

    /// The dispatches that `times` runs of `range` consist of, in the order in which they run, cut into submissions that keep to
    /// the budget, each with the share of the budget that it takes.
    pub(super) fn submissions(&self, range: Range<usize>, times: u32) -> Result<Vec<(Vec<usize>, f64)>> {
        let share = |&i: &usize| self.dispatches[i].as_ref().map_or(0.0, |dispatch| dispatch.share);
        Ok(cut(self.order(range, times)?, share))
    }

    /// The dispatches that `times` runs of `range` consist of, in the order in which they run.
    pub(super) fn order(&self, range: Range<usize>, times: u32) -> Result<impl Iterator<Item = usize>> {
        if range.start > range.end || range.end > self.len() {
            return Err(Error::device(
                format!("cannot run dispatches {range:?} of `{}`, which has {}", self.label, self.len()),
                "",
            ));
        }
        let again = self.once.clamp(range.start, range.end);
        let (once, repeated) = (range.start..again, again..range.end);
        let all = once.chain((0..times).flat_map(move |_| repeated.clone()));
        Ok(all.filter(|&i| self.dispatches[i].is_some()))
    }

    /// Encodes dispatches of [`Program::order`] in one pass, whose beginning and end `stamps` records.
    pub(super) fn record(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        order: impl Iterator<Item = usize>,
        stamps: Option<wgpu::ComputePassTimestampWrites<'_>>,
    ) {
        let mut pass = encoder
            .begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some(&self.label), timestamp_writes: stamps });
        let mut current = None;
        for dispatch in order.filter_map(|i| self.dispatches[i].as_ref()) {
            if current != Some(&dispatch.pipeline.raw) {
                pass.set_pipeline(&dispatch.pipeline.raw);
                current = Some(&dispatch.pipeline.raw);
            }
            pass.set_bind_group(0, &dispatch.group, &[]);
            if let (true, Some((_, uniforms))) = (dispatch.uses_uniforms, &self.uniforms) {
                pass.set_bind_group(1, uniforms, &[]);
            }
            let [x, y, z] = dispatch.grid;
            pass.dispatch_workgroups(x, y, z);
        }
    }

    /// What was encoded ahead, if it was for this number of runs.
    fn take_prepared(&self, times: u32) -> Option<Vec<Commands>> {
        let prepared = self.prepared.lock().take();
        prepared.filter(|(runs, _)| *runs == times).map(|(_, commands)| commands)
    }
}

impl Bound {
    /// `params` is where the dispatch's parameters are: the buffer and the offset in it.
    async fn new(
        gpu: &Gpu,
        dispatch: &Dispatch,
        operands: &[&Buffer],
        (params, offset): (&wgpu::Buffer, u64),
    ) -> Result<Self> {
        let Inner { device, faults, pipelines, .. } = &*gpu.inner;
        let accesses = accesses(dispatch, operands);
        let pipeline = pipelines.get(faults, &gpu.capabilities, dispatch, accesses).await?;
        let size = wgpu::BufferSize::new(dispatch.params_size());
        let params = wgpu::BufferBinding { buffer: params, offset, size };
        let storage = dispatch.bindings.iter().map(|binding| {
            let (offset, size) = binding.bytes();
            let size = wgpu::BufferSize::new(size);
            wgpu::BufferBinding { buffer: &operands[binding.arg].raw, offset, size }
        });
        let entries: Vec<_> = std::iter::once(params)
            .chain(storage)
            .zip(0..)
            .map(|(range, binding)| wgpu::BindGroupEntry { binding, resource: wgpu::BindingResource::Buffer(range) })
            .collect();
        let name = dispatch.name();
        let description = wgpu::BindGroupDescriptor { label: Some(&name), layout: &pipeline.layout, entries: &entries };
        let binding = || format!("binding the buffers of {name}");
        let group = faults.scoped(binding, || device.create_bind_group(&description)).await?;
        let share = gpu.capabilities.budget.map_or(0.0, |budget| budget.share(dispatch.cost, dispatch.groups()));
        let shader = dispatch.shader.name().into();
        Ok(Self { pipeline, shader, group, grid: dispatch.grid, uses_uniforms: dispatch.uses_uniforms, share })
    }
}

/// How each binding of `dispatch` is bound. WebGPU does not let a dispatch bind one buffer both as read-only and as writable,
/// whatever the ranges.
fn accesses(dispatch: &Dispatch, operands: &[&Buffer]) -> Vec<Access> {
    let writes = |buffer: &Buffer| {
        dispatch.bindings.iter().any(|other| other.access == Access::ReadWrite && operands[other.arg].id == buffer.id)
    };
    let access = |written| if written { Access::ReadWrite } else { Access::Read };
    dispatch.bindings.iter().map(|binding| access(writes(operands[binding.arg]))).collect()
}

impl Gpu {
    /// Builds a program: pipelines (once for each shader, whatever the program), parameters and bind groups.
    ///
    /// Each dispatch comes with the operands that its bindings count from. A dispatch may read and write disjoint
    /// ranges of one buffer: what it reads there is then bound as writable too, as WebGPU demands.
    ///
    /// # Errors
    /// A dispatch that the device's capabilities do not allow, or a shader that does not compile; both name the op.
    pub async fn program(&self, label: &str, dispatches: &[(Dispatch, &[&Buffer])]) -> Result<Program> {
        Program::build(self, label, dispatches).await
    }

    /// Runs the program's dispatches `times` times over (see [`Program::once`]), in one submission and one compute pass, or in
    /// several where one would take too long for a watchdog ([`WatchdogBudget`](super::WatchdogBudget)). `uniforms` holds the words of `Step`
    /// in `shaders/common.wgsl`, the same for all repetitions. Does not wait.
    ///
    /// # Errors
    /// A device that is lost or out of memory.
    pub fn submit(&self, program: &Program, times: u32, uniforms: &[u32; 16]) -> Result<()> {
        self.submit_all(&[(program, times)], uniforms)
    }

    /// Runs programs one after the other, each as many times over as it says, as [`Gpu::submit`] does, with as few submissions
    /// for all of them as the watchdog allows. Does not wait.
    ///
    /// # Errors
    /// A device that is lost or out of memory.
    pub fn submit_all(&self, runs: &[(&Program, u32)], uniforms: &[u32; 16]) -> Result<()> {
        let mut commands = vec![];
        for &(program, times) in runs {
            match program.take_prepared(times) {
                Some(prepared) => commands.extend(prepared),
                None => commands.extend(self.encode(program, 0..program.len(), times)?),
            }
        }
        let programs: Vec<_> = runs.iter().map(|(program, _)| *program).collect();
        self.submit_commands(&programs, commands, uniforms)
    }

    /// Encodes ahead what the next [`Gpu::submit`] with the same `times` runs. Encoding costs the CPU one or two microseconds a
    /// dispatch; called after a submission, it happens while the GPU works.
    ///
    /// # Errors
    /// A device that is lost or out of memory.
    pub fn prepare(&self, program: &Program, times: u32) -> Result<()> {
        let commands = self.encode(program, 0..program.len(), times)?;
        *program.prepared.lock() = Some((times, commands));
        self.inner.faults.check(|| format!("encoding `{}`", program.label))
    }

    /// Runs the dispatches of `range` once, without the others, and waits for their end: to find the one that goes wrong.
    ///
    /// # Errors
    /// A range beyond the program's end, or a device that is lost or out of memory.
    pub async fn run_range(&self, program: &Program, range: Range<usize>, uniforms: &[u32; 16]) -> Result<()> {
        self.submit_range(program, range, uniforms)?;
        self.wait().await
    }

    /// The same without waiting.
    ///
    /// # Errors
    /// As [`Gpu::run_range`].
    pub fn submit_range(&self, program: &Program, range: Range<usize>, uniforms: &[u32; 16]) -> Result<()> {
        self.submit_commands(&[program], self.encode(program, range, 1)?, uniforms)
    }

    /// A command buffer for each submission.
    fn encode(&self, program: &Program, range: Range<usize>, times: u32) -> Result<Vec<Commands>> {
        let encode = |(order, share): (Vec<usize>, f64)| {
            let mut encoder = self.inner.device.create_command_encoder(&Default::default());
            program.record(&mut encoder, order.into_iter(), None);
            Commands { raw: encoder.finish(), share }
        };
        Ok(program.submissions(range, times)?.into_iter().map(encode).collect())
    }

    /// Submits `commands`, which belong to `programs`, as many together as the watchdog allows.
    pub(super) fn submit_commands(
        &self,
        programs: &[&Program],
        commands: Vec<Commands>,
        uniforms: &[u32; 16],
    ) -> Result<()> {
        let asked = || {
            let labels: Vec<_> = programs.iter().map(|program| format!("`{}`", program.label)).collect();
            format!("running {}", labels.join(", "))
        };
        self.inner.faults.check(asked)?;
        for (buffer, _) in programs.iter().filter_map(|program| program.uniforms.as_ref()) {
            self.write_bytes(buffer, 0, bytemuck::cast_slice(uniforms));
        }
        for (together, _) in cut(commands.into_iter(), |commands| commands.share) {
            self.submit_buffers(together.into_iter().map(|commands| commands.raw));
        }
        self.inner.faults.check(asked)
    }
}

/// Cuts `items` into runs where the sum of their shares would exceed 1; each run comes with its sum. An item above 1 is a run
/// of its own.
///
/// Runs that are cut again by their sums stay apart: none has room for the first item of the next.
fn cut<T>(items: impl Iterator<Item = T>, share: impl Fn(&T) -> f64) -> Vec<(Vec<T>, f64)> {
    let mut runs = vec![];
    let (mut run, mut sum) = (vec![], 0.0);
    for item in items {
        let share = share(&item);
        if sum + share > 1.0 && !run.is_empty() {
            runs.push((std::mem::take(&mut run), sum));
            sum = 0.0;
        }
        sum += share;
        run.push(item);
    }
    runs.push((run, sum));
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn submissions_are_cut_where_their_budget_ends() {
        let cut = |shares: &[f64]| cut(shares.iter().copied(), |share| *share);
        let lengths = |shares: &[f64]| cut(shares).iter().map(|(run, _)| run.len()).collect::<Vec<_>>();
        assert_eq!(lengths(&[0.25; 4]), [4]);
        assert_eq!(lengths(&[0.5, 0.25, 0.5, 0.5, 0.25]), [2, 2, 1]);
        assert_eq!(lengths(&[0.5, 3.0, 0.5, 0.5]), [1, 1, 2], "what is too much is alone");
        assert_eq!(lengths(&[0.0; 1000]), [1000]);
        assert_eq!(lengths(&[]), [0], "one that runs nothing");

        let sums: Vec<_> = cut(&[0.7, 0.1, 0.3, 0.3, 2.0, 0.1, 0.1]).into_iter().map(|(_, sum)| sum).collect();
        assert_eq!(lengths(&sums), vec![1; sums.len()], "a second cut joins nothing: {sums:?}");
    }
}
