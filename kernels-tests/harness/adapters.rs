//! The adapters of the machine, and the devices that tests open on them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::gpu::{
    self, Capabilities, Checks, CooperativeMatrix, Device, DeviceChoice, DeviceType, Gpu, Limits, OpenOptions,
};

/// An adapter and the devices opened on it, for one thread at a time. The devices keep every kernel that they compile for as
/// long as the adapter is kept.
pub struct Adapter {
    /// Short name and backend, such as `lavapipe vulkan`.
    pub name: String,
    /// As the adapter has them.
    pub capabilities: Capabilities,
    index: usize,
    limits: Limits,
    checked: Mutex<Option<Gpu>>,
    trusted: Mutex<Option<Gpu>>,
}

impl Adapter {
    fn new(name: String, capabilities: Capabilities, index: usize, limits: Limits) -> Self {
        Self { name, capabilities, index, limits, checked: Mutex::default(), trusted: Mutex::default() }
    }

    /// The same adapter with WebGPU's default limits and no optional feature, as it may be in a browser.
    pub fn portable(&self) -> Self {
        let name = format!("{}, WebGPU limits", self.name);
        Self::new(name, self.capabilities.webgpu_defaults(), self.index, Limits::WebGpuDefaults)
    }

    /// The same adapter with devices of its own, none of which is open yet. They share nothing with those of others: even
    /// the context of wgpu's GL backend, which gives up where another thread keeps it for more than six seconds, is theirs
    /// alone.
    pub fn another(&self) -> Self {
        Self::new(self.name.clone(), self.capabilities.clone(), self.index, self.limits)
    }

    /// Whether it is one of [`Adapter::portable`].
    pub fn is_portable(&self) -> bool {
        self.limits == Limits::WebGpuDefaults
    }

    /// Whether it computes on the CPU. Then several threads may use it, each by an adapter [of its own](Adapter::another):
    /// compiling a kernel, which takes most of the time there, keeps one core busy.
    pub fn is_software(&self) -> bool {
        self.capabilities.device_type == DeviceType::Software
    }

    /// Capabilities of this adapter with what the harness does for it: on software adapters invocations stand in for matrix units
    /// (`matrices.rs`).
    pub fn with_emulation(&self, capabilities: &Capabilities) -> Capabilities {
        let mut offered = capabilities.clone();
        if self.is_software() && !self.is_portable() && offered.shader_f16 && offered.subgroup {
            (offered.subgroup_min_size, offered.subgroup_max_size) = (32, 32);
            offered.cooperative_matrix = vec![matrix("f16", 16)];
        }
        offered
    }

    /// The device that compiles shaders with or without wgpu's run-time checks, opened when it is first needed.
    ///
    /// # Errors
    /// A device that cannot be opened.
    pub async fn gpu(&self, checks: Checks) -> Result<Gpu, String> {
        if let Some(gpu) = &*locked(self.place(checks)) {
            return Ok(gpu.clone());
        }
        // One thread at a time uses an adapter, so nobody opens it meanwhile.
        match gpu::open(&DeviceChoice::Index(self.index), OpenOptions { checks, limits: self.limits }).await {
            Ok(Device::Gpu(gpu)) => Ok(locked(self.place(checks)).insert(gpu).clone()),
            Ok(Device::Cpu { why }) => Err(why),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Lets go of the devices, so that what went wrong on one, which may be lost, is not met again.
    pub fn reopen(&self) {
        for checks in [Checks::Checked, Checks::Trusted] {
            *locked(self.place(checks)) = None;
        }
    }

    fn place(&self, checks: Checks) -> &Mutex<Option<Gpu>> {
        match checks {
            Checks::Checked => &self.checked,
            Checks::Trusted => &self.trusted,
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Square matrices with sums in f32.
fn matrix(factors: &str, side: u32) -> CooperativeMatrix {
    CooperativeMatrix { m: side, n: side, k: side, factors: factors.into(), result: "f32".into() }
}

/// An adapter that has every optional feature, so that all variants show.
pub fn everything() -> Capabilities {
    Capabilities {
        name: "every feature".into(),
        max_compute_workgroup_storage_size: 1 << 16,
        max_compute_invocations_per_workgroup: 1024,
        max_compute_workgroup_size_x: 1024,
        max_compute_workgroup_size_y: 1024,
        max_storage_buffers_per_shader_stage: 16,
        shader_f16: true,
        subgroup: true,
        subgroup_min_size: 32,
        subgroup_max_size: 32,
        timestamp_query: true,
        pipeline_cache: true,
        cooperative_matrix: vec![matrix("f16", 16), matrix("f32", 8)],
        ..Capabilities::portable()
    }
}

/// All adapters.
pub async fn all() -> Vec<Arc<Adapter>> {
    let adapter = |(index, capabilities): (usize, Capabilities)| {
        let name = format!("{} {}", short_name(&capabilities), capabilities.backend);
        Adapter::new(name, capabilities, index, Limits::Adapter)
    };
    gpu::adapters().await.into_iter().enumerate().map(adapter).map(Arc::new).collect()
}

/// The name under which people know an adapter: Mesa's software driver for Vulkan calls itself as that for GL does, and
/// vendors' names come with much else.
fn short_name(capabilities: &Capabilities) -> String {
    let name = capabilities.name.to_lowercase();
    match (name.contains("llvmpipe"), &*capabilities.backend) {
        (true, "vulkan") => "lavapipe".into(),
        (true, _) => "llvmpipe".into(),
        _ if name.contains("swiftshader") => "swiftshader".into(),
        _ => name.split(['(', '/']).next().unwrap_or(&name).trim().into(),
    }
}

/// A software adapter, which any machine can have.
struct Software {
    name: &'static str,
    install: &'static str,
}

const SOFTWARE: [Software; 3] = [
    Software { name: "lavapipe", install: "Debian: apt-get install mesa-vulkan-drivers" },
    Software { name: "llvmpipe", install: "Debian: apt-get install libegl1 libgl1-mesa-dri" },
    Software { name: "swiftshader", install: "Debian: apt-get install chromium, whose SwiftShader is found by itself" },
];

/// A line for each software adapter that is missing, and whether one is that `DEEPJ_REQUIRE_ADAPTERS` (a list of short
/// names, with commas) names.
pub fn missing(adapters: &[Arc<Adapter>]) -> (Vec<String>, bool) {
    let has = |name: &str| adapters.iter().any(|adapter| adapter.name.contains(name));
    let mut lines: Vec<String> = SOFTWARE
        .iter()
        .filter(|software| !has(software.name))
        .map(|Software { name, install }| format!("no adapter {name} here ({install})"))
        .collect();
    let required = required();
    let lacking: Vec<&str> = required
        .split(',')
        .map(str::trim)
        .filter(|name| !matches!(*name, "" | "none") && !has(&name.to_lowercase()))
        .collect();
    for name in &lacking {
        lines.push(format!("FAILED: DEEPJ_REQUIRE_ADAPTERS names {name}, which is not here"));
    }
    (lines, !lacking.is_empty())
}

fn required() -> String {
    std::env::var("DEEPJ_REQUIRE_ADAPTERS").unwrap_or_default()
}

/// Whether the user wants all that the first software adapter runs from the others too: `DEEPJ_EVERY_ADAPTER`.
pub fn every_adapter() -> bool {
    std::env::var("DEEPJ_EVERY_ADAPTER").is_ok_and(|value| !matches!(value.trim(), "" | "0"))
}

/// Whether the user has said that a machine without adapters is meant to have none.
pub fn none_is_fine() -> bool {
    required().trim() == "none"
}
