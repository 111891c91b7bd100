//! An open device.

use std::sync::Arc;

use parking_lot::Mutex;

use super::Capabilities;
use super::errors::Faults;
use super::options::{Limits, OpenOptions, WaitOptions};
use super::pipeline::Pipelines;
#[cfg(not(target_arch = "wasm32"))]
use super::silence::Activity;
use crate::{Error, Result};

/// An open GPU. Clones are the same device.
///
/// Errors that the driver reports late (a lost device, memory that ran out during a submission) are returned by the call
/// that meets them first, as [`Kind::Device`](crate::error::Kind::Device) or [`Kind::Memory`](crate::error::Kind::Memory).
#[derive(Clone)]
pub struct Gpu {
    /// Those of the device as it was opened, which may be less than the adapter has.
    pub capabilities: Arc<Capabilities>,
    #[cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "a browser gives up on its own"))]
    pub(super) wait_options: WaitOptions,
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub faults: Faults,
    pub pipelines: Pipelines,
    /// Buffers that results were read through, kept for later reads, the one used last at the end.
    pub staging: Mutex<Vec<wgpu::Buffer>>,
    #[cfg(not(target_arch = "wasm32"))]
    pub activity: Arc<Activity>,
}

impl Gpu {
    pub(super) async fn open(adapter: &wgpu::Adapter, options: OpenOptions) -> Result<Self> {
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

        let faults = Faults::of(&device);
        let pipelines = Pipelines::new(adapter, &device, options.checks);
        let capabilities = Arc::new(Capabilities::of_device(adapter, &device));
        Ok(Self {
            capabilities,
            wait_options: WaitOptions::default(),
            inner: Arc::new(Inner {
                device,
                queue,
                faults,
                pipelines,
                staging: Mutex::default(),
                #[cfg(not(target_arch = "wasm32"))]
                activity: Arc::default(),
            }),
        })
    }

    /// Gives the device up at once, with its memory: whatever is submitted or waited for from now on, on any clone, is an error
    /// as on a device that was lost.
    pub fn destroy(&self) {
        self.inner.device.destroy();
        self.inner.faults.give_up("the device is lost (destroyed)".into(), "open it again");
    }

    /// Whether the driver has lost it, or it was given up: every call is an error, and it has to be opened again.
    pub fn is_lost(&self) -> bool {
        self.inner.faults.is_lost()
    }

    /// Has the next call meet a fault of this kind.
    #[cfg(test)]
    pub(crate) fn inject(&self, kind: crate::error::Kind) {
        self.inner.faults.inject(kind);
    }

    /// Has nothing finish from now on.
    #[cfg(test)]
    pub(crate) fn hang(&self) {
        self.inner.activity.hang();
    }

    /// Submits commands, whose end is noticed by those who wait.
    pub(super) fn submit_buffers(
        &self,
        commands: impl IntoIterator<Item = wgpu::CommandBuffer>,
    ) -> wgpu::SubmissionIndex {
        let index = self.inner.queue.submit(commands);
        #[cfg(not(target_arch = "wasm32"))]
        {
            let activity = self.inner.activity.clone();
            self.inner.queue.on_submitted_work_done(move || activity.finish());
        }
        index
    }

    /// Bytes of device memory that are allocated for buffers, where the backend's allocator tells (Vulkan, DX12).
    pub fn allocated_bytes(&self) -> Option<u64> {
        self.inner.device.generate_allocator_report().map(|report| report.total_allocated_bytes)
    }

    /// Keeps the driver's compiled pipelines for the next process, where the driver can and the user has a cache folder.
    /// Without effect if that fails: the cache saves time and nothing else.
    pub fn save_pipeline_cache(&self) {
        #[cfg(not(target_arch = "wasm32"))]
        self.inner.pipelines.save_cache();
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
