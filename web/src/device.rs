//! What computes: the browser's GPU, or the CPU backend in this module.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

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

/// Where measured kernels are remembered: a name, since there is no disk.
const TUNING: &str = "tuning.json";
/// Whether something is remembered, or to be.
static TUNED: AtomicBool = AtomicBool::new(false);

/// Has kernels chosen by what an earlier visit measured.
#[wasm_bindgen(js_name = rememberTuning)]
pub fn remember_tuning(text: String) {
    gpu::remember_text(Path::new(TUNING), text);
    TUNED.store(true, Ordering::Relaxed);
}

/// Has kernels measured from now on, of which nothing is remembered.
#[wasm_bindgen(js_name = beginTuning)]
pub fn begin_tuning() {
    TUNED.store(true, Ordering::Relaxed);
}

/// What was measured, for the page to keep.
#[wasm_bindgen]
pub fn tuning() -> Option<String> {
    gpu::remembered_text(Path::new(TUNING))
}

/// How kernels are chosen: the first of each, or the fastest measured.
pub fn selection() -> KernelSelection {
    let tune = if TUNED.load(Ordering::Relaxed) { Tune::On } else { Tune::Off };
    KernelSelection { tune, remembered: Some(TUNING.into()), ..KernelSelection::default() }
}
