//! What an adapter can do, read once.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::WatchdogBudget;

/// What kind of hardware an adapter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceType {
    Discrete,
    Integrated,
    /// A share of a host's GPU, inside a virtual machine.
    Virtual,
    /// A driver that computes on the CPU.
    Software,
    /// The driver does not say.
    Unknown,
}

/// A shape in which the hardware multiplies matrices: `[m, k] x [k, n]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CooperativeMatrix {
    pub m: u32,
    pub n: u32,
    pub k: u32,
    /// Element type of the factors, such as `f16`.
    pub factors: String,
    /// Element type of the accumulator and the result.
    pub result: String,
}

/// Limits and features of an adapter, or of a device opened on it. Sizes are in bytes; a limit has the name that WebGPU
/// gives it (<https://www.w3.org/TR/webgpu/#limits>).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    pub name: String,
    /// PCI identifier of the vendor, where there is one.
    pub vendor: u32,
    /// PCI identifier of the device, where there is one.
    pub device: u32,
    pub device_type: DeviceType,
    /// `vulkan`, `metal`, `dx12`, `gl` or `webgpu`.
    pub backend: String,
    pub driver: String,
    pub driver_info: String,

    pub max_buffer_size: u64,
    pub max_storage_buffer_binding_size: u64,
    pub max_uniform_buffer_binding_size: u64,
    pub max_storage_buffers_per_shader_stage: u32,
    pub max_compute_workgroup_storage_size: u32,
    pub max_compute_invocations_per_workgroup: u32,
    pub max_compute_workgroup_size_x: u32,
    pub max_compute_workgroup_size_y: u32,
    pub max_compute_workgroup_size_z: u32,
    pub max_compute_workgroups_per_dimension: u32,
    pub min_storage_buffer_offset_alignment: u32,

    pub shader_f16: bool,
    pub subgroup: bool,
    pub subgroup_min_size: u32,
    pub subgroup_max_size: u32,
    pub timestamp_query: bool,
    pub pipeline_cache: bool,
    /// Empty where cooperative matrices are not supported.
    pub cooperative_matrix: Vec<CooperativeMatrix>,
    /// All optional features, by wgpu's names, whether a kernel asks for them or not.
    pub features: Vec<String>,
    /// What one dispatch, and one submission, may do; `None` where there is no watchdog. The adapter does not report it: it
    /// follows from the measured roofline limits ([`Device::within`](super::Device::within)).
    #[serde(skip)]
    pub budget: Option<WatchdogBudget>,
}

impl Capabilities {
    /// Whether the adapter's line in the listing contains `part`, in either case.
    pub fn is_called(&self, part: &str) -> bool {
        self.to_string().to_lowercase().contains(&part.to_lowercase())
    }

    /// WebGPU's default limits and no optional feature: what the portable variant of every op must run with.
    pub fn portable() -> Self {
        let info = wgpu::AdapterInfo::new(wgpu::DeviceType::Other, wgpu::Backend::BrowserWebGpu);
        let mut capabilities = Self::new(info, &wgpu::Limits::default(), wgpu::Features::empty(), &[]);
        capabilities.name = "WebGPU default limits".into();
        capabilities
    }

    /// Those of a device opened with [`Limits::WebGpuDefaults`](super::Limits) on an adapter that has these.
    pub fn webgpu_defaults(&self) -> Self {
        let least = Self::portable();
        Self {
            max_buffer_size: self.max_buffer_size.min(least.max_buffer_size),
            max_storage_buffer_binding_size: self
                .max_storage_buffer_binding_size
                .min(least.max_storage_buffer_binding_size),
            max_uniform_buffer_binding_size: self
                .max_uniform_buffer_binding_size
                .min(least.max_uniform_buffer_binding_size),
            max_storage_buffers_per_shader_stage: self
                .max_storage_buffers_per_shader_stage
                .min(least.max_storage_buffers_per_shader_stage),
            max_compute_workgroup_storage_size: self
                .max_compute_workgroup_storage_size
                .min(least.max_compute_workgroup_storage_size),
            max_compute_invocations_per_workgroup: self
                .max_compute_invocations_per_workgroup
                .min(least.max_compute_invocations_per_workgroup),
            max_compute_workgroup_size_x: self.max_compute_workgroup_size_x.min(least.max_compute_workgroup_size_x),
            max_compute_workgroup_size_y: self.max_compute_workgroup_size_y.min(least.max_compute_workgroup_size_y),
            max_compute_workgroup_size_z: self.max_compute_workgroup_size_z.min(least.max_compute_workgroup_size_z),
            max_compute_workgroups_per_dimension: self
                .max_compute_workgroups_per_dimension
                .min(least.max_compute_workgroups_per_dimension),
            min_storage_buffer_offset_alignment: self
                .min_storage_buffer_offset_alignment
                .max(least.min_storage_buffer_offset_alignment),
            shader_f16: false,
            subgroup: false,
            timestamp_query: false,
            pipeline_cache: false,
            cooperative_matrix: vec![],
            features: vec![],
            ..self.clone()
        }
    }

    /// Those of an adapter with every optional feature that a kernel asks for, otherwise portable: for tests of what is
    /// chosen where it can be had.
    #[cfg(test)]
    pub(crate) fn able() -> Self {
        let matrix = CooperativeMatrix { m: 16, n: 16, k: 16, factors: "f16".into(), result: "f32".into() };
        Self {
            shader_f16: true,
            subgroup: true,
            subgroup_min_size: 32,
            subgroup_max_size: 32,
            cooperative_matrix: vec![matrix],
            max_compute_workgroup_storage_size: 1 << 15,
            ..Self::portable()
        }
    }

    /// Whether workgroups of so many subgroups, all of one size, can multiply 16 x 16 matrices of f16 with sums in f32.
    pub fn multiplies_matrices(&self, subgroups: u32) -> bool {
        let fits = |matrix: &CooperativeMatrix| {
            [matrix.m, matrix.n, matrix.k] == [16; 3] && matrix.factors == "f16" && matrix.result == "f32"
        };
        self.shader_f16
            && self.subgroup
            && self.subgroup_min_size == self.subgroup_max_size
            && subgroups * self.subgroup_max_size <= self.max_compute_invocations_per_workgroup
            && self.cooperative_matrix.iter().any(fits)
    }

    /// Those of an adapter, as it has them.
    pub(super) fn of_adapter(adapter: &wgpu::Adapter) -> Self {
        Self::new(adapter.get_info(), &adapter.limits(), adapter.features(), &adapter.cooperative_matrix_properties())
    }

    /// Those of a device, as they were granted to it.
    pub(super) fn of_device(adapter: &wgpu::Adapter, device: &wgpu::Device) -> Self {
        let matrices = adapter.cooperative_matrix_properties();
        Self::new(adapter.get_info(), &device.limits(), device.features(), &matrices)
    }

    fn new(
        info: wgpu::AdapterInfo,
        limits: &wgpu::Limits,
        features: wgpu::Features,
        matrices: &[wgpu::CooperativeMatrixProperties],
    ) -> Self {
        let matrices = if features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX) {
            matrices
        } else {
            Default::default()
        };
        Self {
            name: info.name,
            vendor: info.vendor,
            device: info.device,
            device_type: match info.device_type {
                wgpu::DeviceType::DiscreteGpu => DeviceType::Discrete,
                wgpu::DeviceType::IntegratedGpu => DeviceType::Integrated,
                wgpu::DeviceType::VirtualGpu => DeviceType::Virtual,
                wgpu::DeviceType::Cpu => DeviceType::Software,
                wgpu::DeviceType::Other => DeviceType::Unknown,
            },
            backend: info.backend.to_str().into(),
            driver: info.driver,
            driver_info: info.driver_info,
            max_buffer_size: limits.max_buffer_size,
            max_storage_buffer_binding_size: limits.max_storage_buffer_binding_size,
            max_uniform_buffer_binding_size: limits.max_uniform_buffer_binding_size,
            max_storage_buffers_per_shader_stage: limits.max_storage_buffers_per_shader_stage,
            max_compute_workgroup_storage_size: limits.max_compute_workgroup_storage_size,
            max_compute_invocations_per_workgroup: limits.max_compute_invocations_per_workgroup,
            max_compute_workgroup_size_x: limits.max_compute_workgroup_size_x,
            max_compute_workgroup_size_y: limits.max_compute_workgroup_size_y,
            max_compute_workgroup_size_z: limits.max_compute_workgroup_size_z,
            max_compute_workgroups_per_dimension: limits.max_compute_workgroups_per_dimension,
            min_storage_buffer_offset_alignment: limits.min_storage_buffer_offset_alignment,
            shader_f16: features.contains(wgpu::Features::SHADER_F16),
            subgroup: features.contains(wgpu::Features::SUBGROUP),
            subgroup_min_size: info.subgroup_min_size,
            subgroup_max_size: info.subgroup_max_size,
            timestamp_query: features.contains(wgpu::Features::TIMESTAMP_QUERY),
            pipeline_cache: features.contains(wgpu::Features::PIPELINE_CACHE),
            cooperative_matrix: matrices
                .iter()
                .map(|matrix| CooperativeMatrix {
                    m: matrix.m_size,
                    n: matrix.n_size,
                    k: matrix.k_size,
                    factors: format!("{:?}", matrix.ab_type).to_lowercase(),
                    result: format!("{:?}", matrix.cr_type).to_lowercase(),
                })
                .collect(),
            features: features.iter_names().map(|(name, _)| name.into()).collect(),
            budget: (info.device_type != wgpu::DeviceType::Cpu).then_some(WatchdogBudget::UNMEASURED),
        }
    }
}

/// The line by which an adapter is listed and chosen: name, backend, kind of hardware.
impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let device_type = format!("{:?}", self.device_type).to_lowercase();
        write!(f, "{} [{}, {device_type}]", self.name, self.backend)
    }
}
