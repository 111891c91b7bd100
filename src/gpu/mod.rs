//! WebGPU and nothing above it: adapters and their capabilities, buffers, pipelines, recording, reading back.

mod adapter;
mod budget;
mod cache_folder;
mod capabilities;
mod check;
mod device;
mod kernel;
mod machine;
#[cfg(not(target_arch = "wasm32"))]
mod pipeline_cache;
mod program;
mod remembered;
mod timeline;
mod wait;

pub use adapter::{Checks, Device, DeviceChoice, Limits, Options, adapters, open};
pub use budget::{Budget, Cost};
pub use cache_folder::cache_folder;
pub use capabilities::{Capabilities, CooperativeMatrix, DeviceType};
pub use device::{Buffer, Gpu};
pub use kernel::{Access, Binding, COMMON, Dispatch, Format, Shader};
pub use machine::{Machine, available_memory};
pub use program::{Facts, Program, Workgroup, with_writable};
pub(crate) use remembered::Remembered;
pub use timeline::{Clock, Stamp, Timeline};
