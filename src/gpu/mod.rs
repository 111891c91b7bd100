//! WebGPU and nothing above it: adapters and their capabilities, buffers, pipelines, recording, reading back.

mod kernel;

pub use kernel::{Access, Binding, COMMON, Dispatch, Shader};
