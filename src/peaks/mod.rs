//! What an adapter, or the CPU, can do at most: measured, not read from a data sheet.

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::gpu::Device;

mod adapter;
mod cpu;

/// The measured peaks of a device. Rates are in 10^9 a second, times in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peaks {
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

/// Measures a device, in about a second, three on a software adapter. Each figure is the best of several runs, since what
/// disturbs one only makes it worse.
///
/// # Errors
/// A lost device, too little memory, or a driver that refuses what all adapters can do.
pub async fn measure(device: &Device) -> Result<Peaks> {
    measured(device, true).await
}

async fn measured(device: &Device, matrices: bool) -> Result<Peaks> {
    match device {
        Device::Gpu(gpu) => adapter::measure(gpu, matrices).await,
        Device::Cpu { .. } => cpu::measure(),
    }
}
