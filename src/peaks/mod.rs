//! What an adapter, or the CPU, can do at most: measured, not read from a data sheet.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::gpu::{Device, Machine, Remembered, WatchdogBudget, cache_folder};

mod adapter;
mod cpu;

pub use adapter::shaders;

/// The measured roofline limits of a device. Rates are in 10^9 a second, times in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RooflineLimits {
    /// Floating-point operations in f32, a multiply-add counts 2.
    pub f32_gflops: f64,
    /// The same in f16; `None` where shaders have none.
    pub f16_gflops: Option<f64>,
    /// Products of f16 matrices summed in f32 by matrix units; `None` where there are none.
    pub matrix_gflops: Option<f64>,
    /// Bytes read and written by a copy within device memory.
    pub bandwidth_gbs: f64,
    /// Bytes read from workgroup memory by all workgroups together; `None` on the CPU.
    pub workgroup_gbs: Option<f64>,
    /// From the end of a dispatch to that of the next one that does nothing and depends on it; on the CPU, of a parallel loop.
    pub launch_us: f64,
    /// From a submission to its result in host memory; 0 on the CPU.
    pub readback_us: f64,
}

impl RooflineLimits {
    /// What one dispatch may do on a device that has these.
    pub fn budget(&self) -> WatchdogBudget {
        WatchdogBudget::of(1e9 * self.f32_gflops, 1e9 * self.bandwidth_gbs)
    }

    /// Whether something can be given as a part of them.
    pub(crate) fn are_rates(&self) -> bool {
        [self.f32_gflops, self.bandwidth_gbs, self.launch_us].iter().all(|x| x.is_finite() && *x > 0.0)
    }
}

/// Measures a device, in about a second, three on a software adapter. Each figure is the best of several runs, since what
/// disturbs one only makes it worse.
///
/// # Errors
/// A lost device, too little memory, or a driver that refuses what all adapters can do.
pub async fn measure(device: &Device) -> Result<RooflineLimits> {
    measured(device, true).await
}

/// What is remembered of a device in the file at `remembered`; else measures it, as [`measure`] does but without matrix units,
/// and remembers that. Shaders that use matrix units are experimental, and run only where they are asked for. `notice` is
/// told what the user should know: a file that is of no use or cannot be written. Without a file it measures every time.
///
/// # Errors
/// As [`measure`].
pub async fn of(device: &Device, remembered: Option<&Path>, mut notice: impl FnMut(&str)) -> Result<RooflineLimits> {
    let Some(path) = remembered else { return measured(device, false).await };
    let machine = device.machine();
    match recall(path, &machine) {
        Ok(Some(peaks)) => return Ok(peaks),
        Ok(None) => (),
        Err(why) => notice(&format!(
            "{}: not a file of remembered roofline limits ({why}), it will be written anew",
            path.display()
        )),
    }
    let peaks = measured(device, false).await?;
    if let Err(e) = remember(path, &machine, &peaks) {
        notice(&e.what);
    }
    Ok(peaks)
}

/// What is remembered of a machine in the file at `path`, if anything is that can be used; why the file is of no use, where it
/// is not.
///
/// # Errors
/// A file that cannot be read, or is none of remembered limits.
pub fn recall(path: &Path, machine: &Machine) -> std::result::Result<Option<RooflineLimits>, String> {
    let found: Option<Measured> = FILE.load(path, machine)?;
    Ok(found.map(|Measured { peaks }| peaks).filter(RooflineLimits::are_rates))
}

/// Keeps the limits of a machine in the file at `path`, in place of those remembered of it.
///
/// # Errors
/// A folder or file that cannot be written.
pub fn remember(path: &Path, machine: &Machine, peaks: &RooflineLimits) -> Result<()> {
    FILE.save(path, machine, |_| Measured { peaks: peaks.clone() })
}

/// Where limits are remembered unless someone says otherwise: in the user's cache folder, if there is one.
pub fn file() -> Option<PathBuf> {
    cache_folder().map(|folder| folder.join("peaks.json"))
}

/// What a machine's record holds.
#[derive(Serialize, Deserialize)]
struct Measured {
    peaks: RooflineLimits,
}

const FILE: Remembered = Remembered { format: "deepj peaks", version: 1 };

async fn measured(device: &Device, matrices: bool) -> Result<RooflineLimits> {
    match device {
        Device::Gpu(gpu) => adapter::measure(gpu, matrices).await,
        Device::Cpu { .. } => cpu::measure(),
    }
}
