//! What computes: the browser's GPU, or the CPU backend in this module.

use deepj::gpu::{self, DeviceChoice, DeviceType, OpenOptions};
use deepj::graph::session::{KernelSelection, Tune};
use wasm_bindgen::prelude::*;

use crate::{Result, json, thrown};

/// An open device.
#[wasm_bindgen]
pub struct Device {
    device: gpu::Device,
}

#[wasm_bindgen]
impl Device {
    /// The browser's adapter, or with `cpu` the CPU backend.
    ///
    /// # Errors
    /// No adapter, or one that cannot be opened.
    pub async fn open(cpu: bool) -> Result<Device> {
        let choice = if cpu { DeviceChoice::Cpu } else { DeviceChoice::Index(0) };
        gpu::open(&choice, OpenOptions::default()).await.map(|device| Self { device }).map_err(thrown)
    }

    /// Whether it is the CPU backend.
    #[wasm_bindgen(getter)]
    pub fn cpu(&self) -> bool {
        self.device.capabilities().is_none()
    }

    /// Whether it is an adapter that computes on the CPU.
    #[wasm_bindgen(getter)]
    pub fn software(&self) -> bool {
        self.device.capabilities().is_some_and(|able| able.device_type == DeviceType::Software)
    }

    /// The adapter's name.
    #[wasm_bindgen(getter)]
    pub fn name(&self) -> String {
        self.device.capabilities().map_or_else(|| "CPU".into(), |able| able.name.clone())
    }

    /// Limits and features, as JSON; `null` of the CPU backend.
    ///
    /// # Errors
    /// None that is known of.
    pub fn capabilities(&self) -> Result<String> {
        json(&self.device.capabilities())
    }

    /// Gives the device up, as a browser does that has lost it.
    pub fn lose(&self) {
        if let gpu::Device::Gpu(gpu) = &self.device {
            gpu.destroy();
        }
    }
}

impl Device {
    pub fn get(&self) -> gpu::Device {
        self.device.clone()
    }
}

/// How kernels are chosen: measured ones first, where `tune` is on or the page has handed in what was remembered.
pub fn selection(tune: Tune) -> KernelSelection {
    KernelSelection { tune, ..KernelSelection::default() }
}
