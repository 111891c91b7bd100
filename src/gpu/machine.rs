//! What measured times depend on besides the code measured.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Capabilities;

/// An adapter with its driver, or the CPU, and the version of this crate. Times measured on one say nothing of another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The adapter's name, or the processor's.
    pub adapter: String,
    /// PCI identifier of the vendor; 0 on the CPU.
    pub vendor: u32,
    /// PCI identifier of the device; 0 on the CPU.
    pub device: u32,
    /// `vulkan`, `metal`, `dx12`, `gl`, `webgpu`, or `cpu`.
    pub backend: String,
    /// The driver's name; on the CPU the number of threads.
    pub driver: String,
    /// The driver's version.
    pub driver_info: String,
    /// Version of this crate.
    pub deepj: String,
}

impl Machine {
    /// The machine of an adapter.
    pub fn of(capabilities: &Capabilities) -> Self {
        Self {
            adapter: capabilities.name.clone(),
            vendor: capabilities.vendor,
            device: capabilities.device,
            backend: capabilities.backend.clone(),
            driver: capabilities.driver.clone(),
            driver_info: capabilities.driver_info.clone(),
            deepj: env!("CARGO_PKG_VERSION").into(),
        }
    }

    /// The CPU with the threads that the CPU backend uses.
    pub fn cpu() -> Self {
        Self {
            adapter: processor().unwrap_or_else(|| std::env::consts::ARCH.into()),
            vendor: 0,
            device: 0,
            backend: "cpu".into(),
            driver: format!("{} threads", rayon::current_num_threads()),
            driver_info: String::new(),
            deepj: env!("CARGO_PKG_VERSION").into(),
        }
    }
}

/// The processor's name, where the system tells (Linux on x86).
fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("model name"))?;
    Some(line.trim_start_matches([' ', '\t', ':']).trim().into())
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { adapter, backend, driver, driver_info, .. } = self;
        write!(f, "{adapter} [{backend}, {}]", format!("{driver} {driver_info}").trim())
    }
}
