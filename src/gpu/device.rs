//! An open device: its buffers, its queue, its errors.

use std::collections::HashMap;
use std::future::Future;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use web_time::Instant;

use super::adapter::{Checks, Limits, Options};
use super::check::bytes;
use super::program::{Pipeline, PipelineKey, Program};
use super::wait::Signal;
use super::{Capabilities, Dispatch};
use crate::{Error, Result};

/// Submissions of which [`Gpu::latency`] takes the median.
const LATENCIES: usize = 9;

/// An open GPU. Clones are the same device.
///
/// Errors that the driver reports late (a lost device, memory that ran out during a submission) are returned by the call
/// that meets them first, as [`Error::device`].
#[derive(Clone)]
pub struct Gpu {
    /// Those of the device as it was opened, which may be less than the adapter has.
    pub capabilities: Arc<Capabilities>,
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) checks: Checks,
    faults: Arc<Faults>,
    pub(super) pipelines: Mutex<HashMap<PipelineKey, Pipeline>>,
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) pipeline_cache: Option<PipelineCache>,
    /// The buffer that results are read through, kept for the next read.
    staging: Mutex<Option<wgpu::Buffer>>,
}

#[cfg(not(target_arch = "wasm32"))]
pub(super) struct PipelineCache {
    pub(super) cache: wgpu::PipelineCache,
    path: std::path::PathBuf,
    /// Whether pipelines were built that the file may lack.
    pub(super) grown: std::sync::atomic::AtomicBool,
}

/// What the driver reported outside of any call.
#[derive(Default)]
struct Faults {
    lost: Mutex<Option<String>>,
    uncaptured: Mutex<Option<Fault>>,
}

/// An error of the driver's in our words.
struct Fault {
    what: String,
    remedy: &'static str,
}

/// A buffer of f32 on a device, zero when made.
pub struct Buffer {
    /// Different for every buffer of the process.
    pub(super) id: u64,
    pub(super) raw: wgpu::Buffer,
    label: String,
    len: u64,
}

impl Buffer {
    /// Length in elements.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no element.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn range(&self, start: u64, len: u64, doing: &str) -> Result<Range<u64>> {
        match start.checked_add(len) {
            Some(end) if end <= self.len => Ok(start * 4..end * 4),
            _ => Err(Error::device(
                format!("{doing} {len} elements at {start} of buffer `{}`, which has {}", self.label, self.len),
                "the range must lie inside the buffer",
            )),
        }
    }
}

impl Gpu {
    pub(super) async fn open(adapter: &wgpu::Adapter, options: Options) -> Result<Self> {
        let (limits, features) = match options.limits {
            Limits::Adapter => (adapter.limits(), useful_features(adapter)),
            Limits::WebGpuDefaults => {
                (wgpu::Limits::default().or_worse_values_from(&adapter.limits()), wgpu::Features::empty())
            }
        };
        // SAFETY: cooperative matrices are the one experimental feature asked for, and only a shader that uses them is
        // touched by it.
        let experimental_features = unsafe { wgpu::ExperimentalFeatures::enabled() };
        let description = wgpu::DeviceDescriptor {
            label: Some("deepj"),
            required_features: features,
            required_limits: limits,
            experimental_features,
            ..Default::default()
        };
        let (device, queue) = adapter.request_device(&description).await.map_err(|error| {
            Error::device(
                format!("{} cannot be opened: {error}", adapter.get_info().name),
                "update its driver, or choose another device with --device (`deepj adapters` lists them)",
            )
        })?;

        let faults = Arc::new(Faults::default());
        let reported = faults.clone();
        device.set_device_lost_callback(move |reason, message| {
            lock(&reported.lost).get_or_insert(format!("{reason:?} {message}").trim().to_string());
        });
        let reported = faults.clone();
        device.on_uncaptured_error(Arc::new(move |error| {
            lock(&reported.uncaptured).get_or_insert(Fault::of(&error));
        }));

        Ok(Self {
            capabilities: Arc::new(Capabilities::of_device(adapter, &device)),
            inner: Arc::new(Inner {
                #[cfg(not(target_arch = "wasm32"))]
                pipeline_cache: open_pipeline_cache(adapter, &device),
                device,
                queue,
                checks: options.checks,
                faults,
                pipelines: Mutex::default(),
                staging: Mutex::default(),
            }),
        })
    }

    /// A buffer of `elements` zeros.
    ///
    /// # Errors
    /// More than the device allows or has left; the message says how much was asked for.
    pub async fn buffer(&self, label: &str, elements: u64) -> Result<Buffer> {
        // WebGPU has no empty bindings; one element makes an empty buffer harmless.
        let size = elements.max(1).saturating_mul(4);
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let raw = self.raw_buffer(label, size, usage).await?;
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Ok(Buffer { id: NEXT.fetch_add(1, Ordering::Relaxed), raw, label: label.into(), len: elements })
    }

    pub(super) async fn raw_buffer(&self, label: &str, size: u64, usage: wgpu::BufferUsages) -> Result<wgpu::Buffer> {
        let limit = self.capabilities.max_buffer_size;
        if size > limit {
            return Err(Error::device(
                format!("buffer `{label}` of {} is larger than the device allows, {}", bytes(size), bytes(limit)),
                "lower the batch or the sequence length, or use another device",
            ));
        }
        let asked = || format!("a buffer `{label}` of {}", bytes(size));
        let description = wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false };
        self.scoped(asked, || self.inner.device.create_buffer(&description)).await
    }

    /// Writes `data` into `buffer` from element `start` on, before anything submitted later runs.
    ///
    /// # Errors
    /// A range outside of the buffer, or a device that is lost or out of memory.
    pub fn write(&self, buffer: &Buffer, start: u64, data: &[f32]) -> Result<()> {
        let range = buffer.range(start, data.len() as u64, "cannot write")?;
        self.write_bytes(&buffer.raw, range.start, bytemuck::cast_slice(data));
        self.faults(|| format!("writing {} to buffer `{}`", bytes(range.end - range.start), buffer.label))
    }

    pub(super) fn write_bytes(&self, buffer: &wgpu::Buffer, offset: u64, data: &[u8]) {
        self.inner.queue.write_buffer(buffer, offset, data);
    }

    /// Reads `(buffer, start, elements)` each, after all that was submitted, with one copy and one map for all.
    ///
    /// # Errors
    /// A range outside of its buffer, more in all than one buffer may hold, or a device that is lost or out of memory.
    pub async fn read(&self, parts: &[(&Buffer, u64, u64)]) -> Result<Vec<Vec<f32>>> {
        let ranges: Vec<_> = parts
            .iter()
            .map(|(buffer, start, len)| buffer.range(*start, *len, "cannot read"))
            .collect::<Result<_>>()?;
        let size = ranges.iter().map(|range| range.end - range.start).sum::<u64>();
        if size == 0 {
            return Ok(vec![Vec::new(); parts.len()]);
        }
        let asked = || format!("reading {} back", bytes(size));
        self.faults(asked)?;

        // Taken for the time of the read, so that a read at the same time makes its own.
        let kept = lock(&self.inner.staging).take().filter(|staging| staging.size() >= size);
        let staging = match kept {
            Some(staging) => staging,
            None => {
                let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
                self.raw_buffer("read back", size, usage).await?
            }
        };
        let mut encoder = self.inner.device.create_command_encoder(&Default::default());
        let mut offset = 0;
        for ((buffer, ..), range) in parts.iter().zip(&ranges) {
            let len = range.end - range.start;
            if len > 0 {
                encoder.copy_buffer_to_buffer(&buffer.raw, range.start, &staging, offset, len);
            }
            offset += len;
        }
        let submission = self.inner.queue.submit([encoder.finish()]);
        let signal = Arc::new(Signal::default());
        let mapped = signal.clone();
        staging.map_async(wgpu::MapMode::Read, ..size, move |result| {
            mapped.set(result.map_err(|error| error.to_string()))
        });
        self.faults(asked)?;
        let refused = |error: String| Error::device(format!("{}: {error}", asked()), "");
        self.arrival(&signal, Some(submission), asked).await?.map_err(refused)?;

        let view = staging.get_mapped_range(..size).map_err(|error| refused(error.to_string()))?;
        let mut rest = &view[..];
        let mut results = Vec::with_capacity(parts.len());
        for range in &ranges {
            let (part, after) = rest.split_at((range.end - range.start) as usize);
            results.push(bytemuck::pod_collect_to_vec(part));
            rest = after;
        }
        drop(view);
        staging.unmap();
        *lock(&self.inner.staging) = Some(staging);
        Ok(results)
    }

    /// Builds a program: pipelines (once for each shader, whatever the program), parameters and bind groups.
    ///
    /// Each step is a dispatch and the operands that its bindings count from. A dispatch may read and write disjoint
    /// ranges of one buffer: what it reads there is then bound as writable too, as WebGPU demands.
    ///
    /// # Errors
    /// A dispatch that the device's capabilities do not allow, or a shader that does not compile; both name the op.
    pub async fn program(&self, label: &str, steps: &[(Dispatch, &[&Buffer])]) -> Result<Program> {
        Program::build(self, label, steps).await
    }

    /// Runs the program's dispatches `times` times over (see [`Program::once`]), in one submission and one compute pass, or
    /// where that would take too long for a watchdog in several ([`Budget`](super::Budget)). `step` holds the words of `Step` in
    /// `shaders/common.wgsl`, the same for all repetitions. Does not wait.
    ///
    /// # Errors
    /// A device that is lost or out of memory.
    pub fn submit(&self, program: &Program, times: u32, step: &[u32; 16]) -> Result<()> {
        match program.take_prepared(times) {
            Some(commands) => self.submit_commands(program, commands, step),
            None => self.submit_range(program, 0..program.len(), times, step),
        }
    }

    /// Encodes what the next [`Gpu::submit`] of as many `times` runs. Encoding costs the CPU one or two microseconds a
    /// dispatch; called after a submission, it is done while the GPU works.
    ///
    /// # Errors
    /// A device that is lost or out of memory.
    pub fn prepare(&self, program: &Program, times: u32) -> Result<()> {
        let commands = self.encode(program, 0..program.len(), times)?;
        program.keep_prepared(times, commands);
        self.faults(|| format!("encoding `{}`", program.label()))
    }

    /// Runs the dispatches of `range` alone, once, and waits for their end; to find the one that goes wrong.
    ///
    /// # Errors
    /// A range beyond the program's end, or a device that is lost or out of memory.
    pub async fn run_range(&self, program: &Program, range: Range<usize>, step: &[u32; 16]) -> Result<()> {
        self.submit_range(program, range, 1, step)?;
        self.wait().await
    }

    fn submit_range(&self, program: &Program, range: Range<usize>, times: u32, step: &[u32; 16]) -> Result<()> {
        self.submit_commands(program, self.encode(program, range, times)?, step)
    }

    /// A command buffer for each submission.
    fn encode(&self, program: &Program, range: Range<usize>, times: u32) -> Result<Vec<wgpu::CommandBuffer>> {
        let encode = |order: Vec<usize>| {
            let mut encoder = self.inner.device.create_command_encoder(&Default::default());
            program.record(&mut encoder, order.into_iter(), None);
            encoder.finish()
        };
        Ok(program.submissions(range, times)?.into_iter().map(encode).collect())
    }

    pub(super) fn submit_commands(
        &self,
        program: &Program,
        commands: Vec<wgpu::CommandBuffer>,
        step: &[u32; 16],
    ) -> Result<()> {
        let asked = || format!("running `{}`", program.label());
        self.faults(asked)?;
        if let Some(buffer) = program.step_buffer() {
            self.write_bytes(buffer, 0, bytemuck::cast_slice(step));
        }
        for commands in commands {
            self.inner.queue.submit([commands]);
        }
        self.faults(asked)
    }

    /// Waits until all that was submitted has run.
    ///
    /// # Errors
    /// A device that is lost or out of memory.
    pub async fn wait(&self) -> Result<()> {
        let asked = || "waiting for the GPU".to_string();
        self.faults(asked)?;
        let signal = Arc::new(Signal::default());
        let done = signal.clone();
        self.inner.queue.on_submitted_work_done(move || done.set(()));
        self.arrival(&signal, None, asked).await?;
        self.faults(asked)
    }

    /// How long `times` runs of the program in one submission take, encoded ahead.
    ///
    /// # Errors
    /// A device that is lost or out of memory.
    pub async fn time(&self, program: &Program, times: u32) -> Result<Duration> {
        self.prepare(program, times)?;
        let began = Instant::now();
        self.submit(program, times, &[0; 16])?;
        self.wait().await?;
        Ok(began.elapsed())
    }

    /// From the submission of nothing to its end: median of several.
    ///
    /// # Errors
    /// A device that is lost or out of memory.
    pub async fn latency(&self) -> Result<Duration> {
        let mut times = [Duration::ZERO; LATENCIES];
        for time in &mut times {
            let commands = self.inner.device.create_command_encoder(&Default::default()).finish();
            let began = Instant::now();
            self.inner.queue.submit([commands]);
            self.wait().await?;
            *time = began.elapsed();
        }
        times.sort();
        Ok(times[LATENCIES / 2])
    }

    /// Bytes of device memory that are allocated for buffers, where the backend's allocator tells (Vulkan, DX12).
    pub fn allocated_bytes(&self) -> Option<u64> {
        self.inner.device.generate_allocator_report().map(|report| report.total_allocated_bytes)
    }

    /// Keeps the driver's compiled pipelines for the next process, where the driver can and the user has a cache folder.
    /// Without effect if that fails: the cache saves time and nothing else.
    pub fn save_pipeline_cache(&self) {
        #[cfg(not(target_arch = "wasm32"))]
        if let Some(PipelineCache { cache, path, grown }) = &self.inner.pipeline_cache
            && grown.swap(false, Ordering::Relaxed)
            && let Some(data) = cache.get_data()
        {
            // Nothing depends on it, see above.
            let _ = super::pipeline_cache::save(path, &data);
        }
    }

    /// Does `work` on the device and returns what it made, or the error that the driver raised over it; `asked` says what
    /// was asked for.
    pub(super) fn scoped<T>(
        &self,
        asked: impl Fn() -> String,
        work: impl FnOnce() -> T,
    ) -> impl Future<Output = Result<T>> {
        use wgpu::ErrorFilter::{Internal, OutOfMemory, Validation};
        // Scopes belong to the thread, so they are closed before the future is handed out.
        let device = &self.inner.device;
        let [memory, internal, validation] =
            [OutOfMemory, Internal, Validation].map(|filter| device.push_error_scope(filter));
        let made = work();
        let (validation, internal, memory) = (validation.pop(), internal.pop(), memory.pop());
        async move {
            let (memory, internal, validation) = (memory.await, internal.await, validation.await);
            if let Some(error) = memory.or(internal).or(validation) {
                return Err(Fault::of(&error).met(&asked()));
            }
            self.faults(asked)?;
            Ok(made)
        }
    }

    /// The fault that the driver reported since the last call, if any, met in doing `asked`.
    pub(super) fn faults(&self, asked: impl Fn() -> String) -> Result<()> {
        if let Some(reason) = &*lock(&self.inner.faults.lost) {
            return Err(Error::device(
                format!("{}: the device is lost ({reason})", asked()),
                "the driver gave up, was updated, or the device was removed; start again, with a smaller batch if it recurs",
            ));
        }
        match lock(&self.inner.faults.uncaptured).take() {
            Some(fault) => Err(fault.met(&asked())),
            None => Ok(()),
        }
    }
}

/// The optional features that shader variants, profiling or start-up time profit from, where the adapter has them.
fn useful_features(adapter: &wgpu::Adapter) -> wgpu::Features {
    let mut wanted = wgpu::Features::SHADER_F16
        | wgpu::Features::SUBGROUP
        | wgpu::Features::TIMESTAMP_QUERY
        | wgpu::Features::PIPELINE_CACHE;
    if !adapter.cooperative_matrix_properties().is_empty() {
        wanted |= wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
    }
    wanted & adapter.features()
}

#[cfg(not(target_arch = "wasm32"))]
fn open_pipeline_cache(adapter: &wgpu::Adapter, device: &wgpu::Device) -> Option<PipelineCache> {
    if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
        return None;
    }
    let path = super::pipeline_cache::path(&wgpu::util::pipeline_cache_key(&adapter.get_info())?)?;
    let data = super::pipeline_cache::load(&path);
    let description = wgpu::PipelineCacheDescriptor { label: None, data: data.as_deref(), fallback: true };
    // SAFETY: the data came from `get_data`, as far as its checksum tells; wgpu and the driver refuse data of another
    // version or device.
    let cache = unsafe { device.create_pipeline_cache(&description) };
    Some(PipelineCache { cache, path, grown: false.into() })
}

impl Fault {
    fn of(error: &wgpu::Error) -> Self {
        let (what, remedy) = match error {
            wgpu::Error::OutOfMemory { .. } => (
                "the GPU is out of memory".into(),
                "lower the batch or the sequence length, close other programs that use the GPU, or use --device cpu",
            ),
            wgpu::Error::Validation { description, .. } => {
                (format!("refused: {}", description.trim()), "the shader or the plan has a defect")
            }
            wgpu::Error::Internal { description, .. } => (
                format!("the driver failed: {}", description.trim()),
                "update the driver, or choose another device with --device (`deepj adapters` lists them)",
            ),
        };
        Self { what, remedy }
    }

    fn met(self, asked: &str) -> Error {
        Error::device(format!("{asked}: {}", self.what), self.remedy)
    }
}

/// Locks, also after a panic elsewhere: what these mutexes hold is whole at any time.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::{Device, DeviceChoice, adapters, open};
    use super::*;

    #[test]
    fn a_lost_device_is_an_error_of_every_call() {
        pollster::block_on(async {
            let found = adapters().await;
            if found.is_empty() {
                println!("skipped: no adapter here");
            }
            for index in 0..found.len() {
                let Ok(Device::Gpu(gpu)) = open(&DeviceChoice::Index(index), Options::default()).await else {
                    panic!("adapter {index} cannot be opened");
                };
                let buffer = gpu.buffer("buffer", 10).await.unwrap();
                let program = gpu.program("empty", &[]).await.unwrap();
                gpu.wait().await.unwrap();
                gpu.inner.device.destroy();
                // Whoever was waiting is told.
                let signal = Arc::new(Signal::<()>::default());
                let errors = [
                    gpu.arrival(&signal, None, || "waiting".into()).await.err(),
                    gpu.wait().await.err(),
                    gpu.buffer("more", 10).await.err(),
                    gpu.write(&buffer, 0, &[1.0]).err(),
                    gpu.submit(&program, 1, &[0; 16]).err(),
                    gpu.read(&[(&buffer, 0, 10)]).await.err(),
                    gpu.program("more", &[]).await.err(),
                ];
                for error in errors {
                    let error = error.expect("an error").to_string();
                    assert!(error.contains("lost"), "{error}");
                }
            }
        });
    }
}
