//! A list of dispatches, made ready once and run many times.

use std::ops::Range;
use std::sync::Mutex;
use std::time::Duration;

use web_time::Instant;

use super::adapter::Checks;
use super::check::{self, Operand};
use super::device::lock;
use super::{Access, Buffer, Dispatch, Gpu, Shader};
use crate::{Error, Result};

/// Bytes of `Step` in `shaders/common.wgsl`.
const STEP_SIZE: u64 = 64;
/// Where uniform blocks may start: the largest alignment that a device may ask for.
const UNIFORM_ALIGNMENT: u64 = 256;

/// Dispatches with their pipelines, parameters and bind groups, bound to the buffers that they were built with.
pub struct Program {
    label: String,
    /// In the order they were given; none where the grid is empty.
    steps: Vec<Option<Step>>,
    /// So many dispatches at the beginning are left out of repetitions.
    once: usize,
    /// The uniform buffer of `Step`'s words, where a dispatch reads them.
    words: Option<(wgpu::Buffer, wgpu::BindGroup)>,
    /// The commands of so many runs, encoded ahead.
    prepared: Mutex<Option<(u32, Vec<wgpu::CommandBuffer>)>>,
}

struct Step {
    pipeline: Pipeline,
    group: wgpu::BindGroup,
    grid: [u32; 3],
    uses_step: bool,
    /// The part that it takes of what a submission may do.
    share: f64,
}

/// What is known of a dispatch before it runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Facts {
    /// Workgroups in x, y, z.
    pub workgroups: [u32; 3],
    /// What its workgroups are.
    pub workgroup: Workgroup,
    /// The same for dispatches of one pipeline.
    pub pipeline: usize,
    /// How long compiling the pipeline took; little where the driver remembered it.
    pub compile: Duration,
}

/// A workgroup of a pipeline; all zero on the web, where shaders are not looked into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Workgroup {
    /// Invocations in x, y, z.
    pub size: [u32; 3],
    /// Bytes of workgroup memory.
    pub memory: u64,
}

/// All that a pipeline depends on.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct PipelineKey {
    shader: Shader,
    accesses: Vec<Access>,
    params_size: u64,
    uses_step: bool,
}

#[derive(Clone)]
pub(super) struct Pipeline {
    raw: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
    /// How many the device had before.
    number: usize,
    workgroup: Workgroup,
    compile: Duration,
}

impl Program {
    pub(super) async fn build(gpu: &Gpu, label: &str, steps: &[(Dispatch, &[&Buffer])]) -> Result<Self> {
        let skipped = |dispatch: &Dispatch| dispatch.grid.contains(&0);
        let mut offsets = Vec::with_capacity(steps.len());
        let mut params: Vec<u8> = Vec::new();
        for (dispatch, operands) in steps {
            offsets.push(params.len() as u64);
            if skipped(dispatch) {
                continue;
            }
            let operands: Vec<_> =
                operands.iter().map(|buffer| Operand { buffer: buffer.id, len: 4 * buffer.len().max(1) }).collect();
            check::check(dispatch, &operands, &gpu.capabilities)?;
            params.extend_from_slice(bytemuck::cast_slice(&dispatch.params));
            let end = offsets[offsets.len() - 1] + check::params_size(dispatch);
            params.resize(end.next_multiple_of(UNIFORM_ALIGNMENT) as usize, 0);
        }

        let uniform = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let params_size = (params.len() as u64).max(UNIFORM_ALIGNMENT);
        let params_buffer = gpu.raw_buffer(&format!("{label}: parameters"), params_size, uniform).await?;
        gpu.write_bytes(&params_buffer, 0, &params);
        let words_layout = words_layout(gpu);
        let words = if steps.iter().any(|(dispatch, _)| dispatch.uses_step && !skipped(dispatch)) {
            let buffer = gpu.raw_buffer(&format!("{label}: step"), STEP_SIZE, uniform).await?;
            let entries = [wgpu::BindGroupEntry { binding: 0, resource: buffer.as_entire_binding() }];
            let description = wgpu::BindGroupDescriptor { label: None, layout: &words_layout, entries: &entries };
            let group = gpu.inner.device.create_bind_group(&description);
            Some((buffer, group))
        } else {
            None
        };

        let mut built = Vec::with_capacity(steps.len());
        for ((dispatch, operands), offset) in steps.iter().zip(offsets) {
            if skipped(dispatch) {
                built.push(None);
                continue;
            }
            let pipeline = pipeline(gpu, dispatch, operands, &words_layout).await?;
            let params = wgpu::BufferBinding {
                buffer: &params_buffer,
                offset,
                size: wgpu::BufferSize::new(check::params_size(dispatch)),
            };
            let storage = dispatch.bindings.iter().map(|binding| {
                let (offset, size) = binding.bytes();
                let size = wgpu::BufferSize::new(size);
                wgpu::BufferBinding { buffer: &operands[binding.arg].raw, offset, size }
            });
            let entries: Vec<_> = std::iter::once(params)
                .chain(storage)
                .zip(0..)
                .map(|(range, binding)| wgpu::BindGroupEntry {
                    binding,
                    resource: wgpu::BindingResource::Buffer(range),
                })
                .collect();
            let name = check::name(dispatch);
            let description =
                wgpu::BindGroupDescriptor { label: Some(&name), layout: &pipeline.layout, entries: &entries };
            let group = gpu
                .scoped(
                    || format!("binding the buffers of {name}"),
                    || gpu.inner.device.create_bind_group(&description),
                )
                .await?;
            let share = gpu.capabilities.budget.map_or(0.0, |budget| budget.share(dispatch.cost, dispatch.groups()));
            built.push(Some(Step { pipeline, group, grid: dispatch.grid, uses_step: dispatch.uses_step, share }));
        }
        Ok(Self { label: label.into(), steps: built, once: 0, words, prepared: Mutex::default() })
    }

    /// The same, but where it runs several times in a row, its first `dispatches` run once, before all others.
    pub fn once(self, dispatches: usize) -> Self {
        Self { once: dispatches, ..self }
    }

    /// How many dispatches it was built from, those with an empty grid included.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether it was built from no dispatch.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    pub(super) fn label(&self) -> &str {
        &self.label
    }

    pub(super) fn step_buffer(&self) -> Option<&wgpu::Buffer> {
        self.words.as_ref().map(|(buffer, _)| buffer)
    }

    /// What was encoded ahead, if it is as many runs.
    pub(super) fn take_prepared(&self, times: u32) -> Option<Vec<wgpu::CommandBuffer>> {
        let prepared = lock(&self.prepared).take();
        prepared.filter(|(runs, _)| *runs == times).map(|(_, commands)| commands)
    }

    pub(super) fn keep_prepared(&self, times: u32, commands: Vec<wgpu::CommandBuffer>) {
        *lock(&self.prepared) = Some((times, commands));
    }

    /// What is known of dispatch `i`; `None` where its grid is empty, so that it does not run.
    pub fn facts(&self, i: usize) -> Option<Facts> {
        let Step { pipeline, grid, .. } = self.steps.get(i)?.as_ref()?;
        let Pipeline { number, workgroup, compile, .. } = *pipeline;
        Some(Facts { workgroups: *grid, workgroup, pipeline: number, compile })
    }

    /// The dispatches that so many runs of those in `range` consist of, in the order in which they run, cut into submissions
    /// of which none takes more than its budget.
    pub(super) fn submissions(&self, range: Range<usize>, times: u32) -> Result<Vec<Vec<usize>>> {
        let share = |&i: &usize| self.steps[i].as_ref().map_or(0.0, |step| step.share);
        Ok(cut(self.order(range, times)?, share))
    }

    /// The dispatches that so many runs of those in `range` consist of, in the order in which they run.
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
        Ok(all.filter(|&i| self.steps[i].is_some()))
    }

    /// Encodes dispatches of [`Program::order`] in one pass, whose borders `stamps` times.
    pub(super) fn record(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        order: impl Iterator<Item = usize>,
        stamps: Option<wgpu::ComputePassTimestampWrites<'_>>,
    ) {
        let mut pass = encoder
            .begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some(&self.label), timestamp_writes: stamps });
        let mut current = None;
        for step in order.filter_map(|i| self.steps[i].as_ref()) {
            if current != Some(&step.pipeline.raw) {
                pass.set_pipeline(&step.pipeline.raw);
                current = Some(&step.pipeline.raw);
            }
            pass.set_bind_group(0, &step.group, &[]);
            if let (true, Some((_, words))) = (step.uses_step, &self.words) {
                pass.set_bind_group(1, words, &[]);
            }
            let [x, y, z] = step.grid;
            pass.dispatch_workgroups(x, y, z);
        }
    }
}

/// Cuts `items` where the sum of their shares would pass 1. What is more by itself is alone.
fn cut<T>(items: impl Iterator<Item = T>, share: impl Fn(&T) -> f64) -> Vec<Vec<T>> {
    let mut runs = vec![];
    let (mut run, mut sum) = (vec![], 0.0);
    for item in items {
        let share = share(&item);
        if sum + share > 1.0 && !run.is_empty() {
            runs.push(std::mem::take(&mut run));
            sum = 0.0;
        }
        sum += share;
        run.push(item);
    }
    runs.push(run);
    runs
}

/// The pipeline of a dispatch, from the device's store or newly compiled.
async fn pipeline(
    gpu: &Gpu,
    dispatch: &Dispatch,
    operands: &[&Buffer],
    words_layout: &wgpu::BindGroupLayout,
) -> Result<Pipeline> {
    // WebGPU does not let a dispatch bind one buffer both as read-only and as writable, whatever the ranges.
    let writes = |buffer: &Buffer| {
        dispatch.bindings.iter().any(|other| other.access == Access::ReadWrite && operands[other.arg].id == buffer.id)
    };
    let accesses = dispatch
        .bindings
        .iter()
        .map(|binding| if writes(operands[binding.arg]) { Access::ReadWrite } else { Access::Read })
        .collect();
    let key = PipelineKey {
        shader: dispatch.shader.clone(),
        accesses,
        params_size: check::params_size(dispatch),
        uses_step: dispatch.uses_step,
    };
    if let Some(pipeline) = lock(&gpu.inner.pipelines).get(&key) {
        return Ok(pipeline.clone());
    }

    let mut text = dispatch.shader.wgsl()?;
    for (i, binding) in dispatch.bindings.iter().enumerate() {
        if binding.access == Access::Read && key.accesses[i] == Access::ReadWrite {
            text = with_writable(&text, i + 1).ok_or_else(|| {
                Error::device(
                    format!("{}: binding {} shares its buffer with one that is written", check::name(dispatch), i + 1),
                    format!("declare it on one line: `@group(0) @binding({}) var<storage, read> …`", i + 1),
                )
            })?;
        }
    }
    #[cfg(not(target_arch = "wasm32"))]
    let workgroup = workgroup(dispatch, &text, &gpu.capabilities)?;
    #[cfg(target_arch = "wasm32")]
    let workgroup = Workgroup::default();

    let name = check::name(dispatch);
    let began = Instant::now();
    let compile = || compile(gpu, &key, &name, text, words_layout);
    let (raw, layout) = gpu.scoped(|| format!("compiling {name}"), compile).await?;
    let compile = began.elapsed();
    #[cfg(not(target_arch = "wasm32"))]
    if let Some(cache) = &gpu.inner.pipeline_cache {
        cache.grown.store(true, std::sync::atomic::Ordering::Relaxed);
    }
    let mut pipelines = lock(&gpu.inner.pipelines);
    let pipeline = Pipeline { raw, layout, number: pipelines.len(), workgroup, compile };
    pipelines.insert(key, pipeline.clone());
    Ok(pipeline)
}

fn compile(
    gpu: &Gpu,
    key: &PipelineKey,
    name: &str,
    text: String,
    words_layout: &wgpu::BindGroupLayout,
) -> (wgpu::ComputePipeline, wgpu::BindGroupLayout) {
    let device = &gpu.inner.device;
    let source = wgpu::ShaderModuleDescriptor { label: Some(name), source: wgpu::ShaderSource::Wgsl(text.into()) };
    let module = match gpu.inner.checks {
        Checks::Checked => device.create_shader_module(source),
        // SAFETY: the shaders are this crate's own; its tests run each of them with checks, over ragged shapes, against
        // guard bands. Their loops end and their divisors are not zero.
        Checks::Trusted => unsafe {
            device.create_shader_module_trusted(source, wgpu::ShaderRuntimeChecks::unchecked())
        },
    };
    let mut entries = vec![layout_entry(0, wgpu::BufferBindingType::Uniform, Some(key.params_size))];
    for (access, binding) in key.accesses.iter().zip(1..) {
        let read_only = *access == Access::Read;
        entries.push(layout_entry(binding, wgpu::BufferBindingType::Storage { read_only }, None));
    }
    let layout =
        device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(name), entries: &entries });
    let groups = [Some(&layout), key.uses_step.then_some(words_layout)];
    let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: Some(name),
        bind_group_layouts: &groups[..if key.uses_step { 2 } else { 1 }],
        immediate_size: 0,
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(name),
        layout: Some(&pipeline_layout),
        module: &module,
        entry_point: Some(key.shader.entry),
        compilation_options: wgpu::PipelineCompilationOptions {
            zero_initialize_workgroup_memory: false,
            ..Default::default()
        },
        #[cfg(not(target_arch = "wasm32"))]
        cache: gpu.inner.pipeline_cache.as_ref().map(|cache| &cache.cache),
        #[cfg(target_arch = "wasm32")]
        cache: None,
    });
    (pipeline, layout)
}

fn words_layout(gpu: &Gpu) -> wgpu::BindGroupLayout {
    gpu.inner.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label: Some("step"),
        entries: &[layout_entry(0, wgpu::BufferBindingType::Uniform, Some(STEP_SIZE))],
    })
}

/// An entry of a bind group layout. Naming the least size lets wgpu check it when the bind group is made, not at each
/// dispatch; that of a storage buffer is an element of it, whose type only the shader knows.
fn layout_entry(binding: u32, ty: wgpu::BufferBindingType, size: Option<u64>) -> wgpu::BindGroupLayoutEntry {
    let min_binding_size = size.and_then(wgpu::BufferSize::new);
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size },
        count: None,
    }
}

/// `text` with every storage buffer at `@binding(binding)` declared `read_write` instead of `read`; `None` where there is
/// none.
pub fn with_writable(text: &str, binding: usize) -> Option<String> {
    let place = format!("@group(0) @binding({binding}) var<storage, read>");
    let writable = format!("@group(0) @binding({binding}) var<storage, read_write>");
    text.contains(&place).then(|| text.replace(&place, &writable))
}

/// What the entry point's workgroups are, checked against the device; wgpu leaves their memory unchecked. Each variable that the
/// entry point uses counts in whole vectors of 16 bytes, as WebGPU wants it and wgpu gives it to Metal; translation adds none,
/// since the memory is not cleared. Text that does not parse passes: compiling it gives the better message.
#[cfg(not(target_arch = "wasm32"))]
fn workgroup(dispatch: &Dispatch, text: &str, capabilities: &super::Capabilities) -> Result<Workgroup> {
    let Ok(module) = naga::front::wgsl::parse_str(text) else { return Ok(Workgroup::default()) };
    let mut validator =
        naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::all());
    let Ok(info) = validator.validate(&module) else { return Ok(Workgroup::default()) };
    let Some((i, entry)) = module.entry_points.iter().enumerate().find(|(_, e)| e.name == dispatch.shader.entry) else {
        return Ok(Workgroup::default());
    };
    let refuse = |what: String| Err(Error::device(format!("{}: {what}", check::name(dispatch)), "use a smaller tile"));

    let uses = info.get_entry_point(i);
    let memory: u64 = module
        .global_variables
        .iter()
        .filter(|(handle, variable)| variable.space == naga::AddressSpace::WorkGroup && !uses[*handle].is_empty())
        .filter_map(|(_, variable)| module.types[variable.ty].inner.try_size(module.to_ctx()))
        .map(|size| u64::from(size).next_multiple_of(16))
        .sum();
    let limit = u64::from(capabilities.max_compute_workgroup_storage_size);
    if memory > limit {
        return refuse(format!("a workgroup needs {memory} bytes of memory, the device has {limit}"));
    }

    let size = entry.workgroup_size;
    let invocations = size.iter().map(|&n| u64::from(n)).product::<u64>();
    let limits = [
        capabilities.max_compute_workgroup_size_x,
        capabilities.max_compute_workgroup_size_y,
        capabilities.max_compute_workgroup_size_z,
    ];
    let limit = capabilities.max_compute_invocations_per_workgroup;
    if invocations > u64::from(limit) || size.iter().zip(limits).any(|(&n, limit)| n > limit) {
        return refuse(format!(
            "a workgroup is {size:?} invocations, the device runs at most {limit}, and {limits:?} a side"
        ));
    }
    Ok(Workgroup { size, memory })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One variable is large, one small, and one is of another entry point, which does not count.
    #[test]
    fn workgroups_that_need_too_much_are_refused_before_the_driver_sees_them() {
        let capabilities = super::super::Capabilities::portable();
        let looked_into = |elements: u32, format: &str, size: &str| {
            let text = format!(
                "enable f16;
                 var<workgroup> numbers: array<{format}, {elements}>;
                 var<workgroup> one: f32;
                 var<workgroup> another: array<f32, 1000000>;
                 @compute @workgroup_size({size}) fn main() {{ numbers[0] = {format}(1.0); one = 1.0; }}
                 @compute @workgroup_size(1) fn other() {{ another[0] = 1.0; }}"
            );
            let shader = Shader { op: "example", source: "", entry: "main", consts: vec![], types: vec![] };
            let cost = super::super::Cost::default();
            let dispatch = Dispatch { shader, bindings: vec![], params: vec![], grid: [1; 3], uses_step: false, cost };
            workgroup(&dispatch, &text, &capabilities).map_err(|error| error.to_string())
        };
        let fits = |elements, format| looked_into(elements, format, "8, 8, 4").unwrap();
        assert_eq!(fits(4092, "f32"), Workgroup { size: [8, 8, 4], memory: 16384 });
        assert_eq!(fits(8184, "f16").memory, 16384);
        assert_eq!(fits(1023, "vec3<f32>").memory, 16384, "as far apart as vectors of four");
        let error = looked_into(4093, "f32", "1").unwrap_err();
        for part in ["shaders/example.wgsl", "`main`", "16400 bytes", "has 16384", "smaller tile"] {
            assert!(error.contains(part), "{error}");
        }
        for size in ["257", "16, 17", "1, 1, 65"] {
            let error = looked_into(1, "f32", size).unwrap_err();
            assert!(error.contains("at most 256") && error.contains("64] a side"), "{error}");
        }
    }

    #[test]
    fn submissions_are_cut_where_their_budget_ends() {
        let cut = |shares: &[f64]| cut(shares.iter().copied(), |share| *share).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(cut(&[0.25; 4]), [4]);
        assert_eq!(cut(&[0.5, 0.25, 0.5, 0.5, 0.25]), [2, 2, 1]);
        assert_eq!(cut(&[0.5, 3.0, 0.5, 0.5]), [1, 1, 2], "what is too much is alone");
        assert_eq!(cut(&[0.0; 1000]), [1000]);
        assert_eq!(cut(&[]), [0], "one that runs nothing");
    }
}
