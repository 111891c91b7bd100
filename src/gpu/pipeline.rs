//! Shaders made into pipelines, and the store of them: each is compiled once, whatever the program.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use web_time::Instant;

use super::Capabilities;
use super::check::{self, Workgroup};
use super::errors::Faults;
use super::kernel::{Access, Dispatch, Shader, with_writable};
use super::options::Checks;
#[cfg(not(target_arch = "wasm32"))]
use super::pipeline_cache::PipelineCache;
use crate::error::Kind;
use crate::{Error, Result};

/// Bytes of the uniforms: `Uniforms` in `shaders/common.wgsl`.
pub(super) const UNIFORMS_SIZE: u64 = 64;

/// The pipelines of a device.
pub(super) struct Pipelines {
    device: wgpu::Device,
    checks: Checks,
    /// The layout of the uniforms' bind group, the same for all pipelines.
    pub uniforms_layout: wgpu::BindGroupLayout,
    #[cfg(not(target_arch = "wasm32"))]
    cache: Option<PipelineCache>,
    compiled: Mutex<HashMap<Key, Pipeline>>,
}

/// All that a pipeline depends on.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    shader: Shader,
    accesses: Vec<Access>,
    params_size: u64,
    uses_uniforms: bool,
}

/// A compiled entry point.
#[derive(Clone)]
pub(super) struct Pipeline {
    pub raw: wgpu::ComputePipeline,
    /// The layout of the bind group of its parameters and storage buffers.
    pub layout: wgpu::BindGroupLayout,
    /// How many the device had before.
    pub number: usize,
    pub workgroup: Workgroup,
    /// How long compiling it took.
    pub compile: Duration,
}

impl Pipelines {
    /// An empty store, with what the driver's cache kept of earlier runs.
    pub fn new(adapter: &wgpu::Adapter, device: &wgpu::Device, checks: Checks) -> Self {
        #[cfg(target_arch = "wasm32")]
        let _ = adapter;
        let uniforms_layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some("uniforms"),
            entries: &[layout_entry(0, wgpu::BufferBindingType::Uniform, Some(UNIFORMS_SIZE))],
        });
        Self {
            device: device.clone(),
            checks,
            uniforms_layout,
            #[cfg(not(target_arch = "wasm32"))]
            cache: PipelineCache::open(adapter, device),
            compiled: Mutex::default(),
        }
    }

    /// The pipeline of `dispatch`, whose storage buffers are bound with these `accesses`: compiled earlier, or now.
    ///
    /// # Errors
    /// A shader that does not compile, or whose workgroups are more than the device runs.
    pub async fn get(
        &self,
        faults: &Faults,
        capabilities: &Capabilities,
        dispatch: &Dispatch,
        accesses: Vec<Access>,
    ) -> Result<Pipeline> {
        let key = Key {
            shader: dispatch.shader.clone(),
            accesses,
            params_size: dispatch.params_size(),
            uses_uniforms: dispatch.uses_uniforms,
        };
        if let Some(pipeline) = self.compiled.lock().get(&key) {
            return Ok(pipeline.clone());
        }

        let text = bound_text(dispatch, &key.accesses)?;
        let workgroup = check::workgroup(dispatch, &text, capabilities)?;

        let name = dispatch.name();
        let began = Instant::now();
        let compiling = || format!("compiling {name}");
        let (raw, layout) = faults.scoped_as(Kind::Shader, compiling, || self.compile(&key, &name, text)).await?;
        let compile = began.elapsed();
        #[cfg(not(target_arch = "wasm32"))]
        if let Some(cache) = &self.cache {
            cache.grow();
        }
        let mut compiled = self.compiled.lock();
        let pipeline = Pipeline { raw, layout, number: compiled.len(), workgroup, compile };
        compiled.insert(key, pipeline.clone());
        Ok(pipeline)
    }

    fn compile(&self, key: &Key, name: &str, text: String) -> (wgpu::ComputePipeline, wgpu::BindGroupLayout) {
        let device = &self.device;
        let source = wgpu::ShaderModuleDescriptor { label: Some(name), source: wgpu::ShaderSource::Wgsl(text.into()) };
        let module = match self.checks {
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
        let groups = [Some(&layout), key.uses_uniforms.then_some(&self.uniforms_layout)];
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(name),
            bind_group_layouts: &groups[..if key.uses_uniforms { 2 } else { 1 }],
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
            cache: self.cache.as_ref().map(|cache| &cache.raw),
            #[cfg(target_arch = "wasm32")]
            cache: None,
        });
        (pipeline, layout)
    }

    /// Keeps the driver's compiled pipelines for the next process, where the driver can and the user has a cache folder.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn save_cache(&self) {
        if let Some(cache) = &self.cache {
            cache.save();
        }
    }
}

/// The text of the dispatch's shader, in which every buffer that is bound as writable is declared so.
fn bound_text(dispatch: &Dispatch, accesses: &[Access]) -> Result<String> {
    let mut text = dispatch.shader.wgsl()?;
    for (i, binding) in dispatch.bindings.iter().enumerate() {
        if binding.access == Access::Read && accesses[i] == Access::ReadWrite {
            text = with_writable(&text, i + 1).ok_or_else(|| {
                Error::device(
                    format!("{}: binding {} shares its buffer with one that is written", dispatch.name(), i + 1),
                    format!("declare it on one line: `@group(0) @binding({}) var<storage, read> …`", i + 1),
                )
            })?;
        }
    }
    Ok(text)
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
