//! What a profile says, and the file format in which profiles are kept: one JSON object a line, first a `header`, then
//! `kernel` and `gap` records, last a `summary`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::gpu::Machine;
use crate::peaks::RooflineLimits;

/// What the first record of a profile says it is.
pub const FORMAT: &str = "deepj profile";
/// Version of the records' meaning; another one is refused.
pub const VERSION: u32 = 1;

/// What stands in place of a variant on the CPU, in files since their first version.
pub const CPU_VARIANT: &str = "mirror";

/// Where the times of kernels come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clock {
    /// The device's timestamps at the borders of a pass for each dispatch.
    Device,
    /// The CPU's clock around a submission for each dispatch: there are no timestamps, or they are of no use.
    Wall,
    /// The CPU's clock around each op of the CPU backend. Files have always called it `mirror`.
    #[serde(rename = "mirror")]
    Cpu,
}

/// What was profiled, where and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// `train`, `generate` or `op NAME`.
    pub what: String,
    /// The plan's name, with its shape: `train B=16 T=128`.
    pub plan: String,
    /// Sizes of the network, `small` or `paper`, with `FIELD=VALUE` of what was changed.
    pub preset: String,
    /// Pieces side by side.
    pub batch: usize,
    /// Time steps of a window; of generation, those of one submission.
    pub seq: usize,
    /// `f32` or `mixed`.
    pub precision: String,
    /// Whether activations are computed again in the backward pass.
    pub recompute: bool,
    /// What computed.
    pub machine: Machine,
    /// What told the times.
    pub clock: Clock,
    /// Profiled runs: updates, or submissions of `seq` time steps of generation. As many unprofiled ones were timed.
    pub runs: usize,
    /// Steps of one run: 1, or of generation `seq`.
    pub steps_per_run: usize,
    /// The machine's roofline limits, measured.
    pub peaks: RooflineLimits,
}

/// What a kernel's time goes into: the roofline limit that would take most of it, where that explains the time measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// Arithmetic.
    Compute,
    /// Traffic with device memory.
    Memory,
    /// Starting dispatches.
    Launch,
    /// None of them explains a quarter of the time, and there are too few workgroups to fill a large GPU.
    Occupancy,
    /// None of them explains a quarter of the time: it waits, for memory or for what came before.
    Latency,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Compute => "compute",
            Self::Memory => "memory",
            Self::Launch => "launch",
            Self::Occupancy => "occupancy",
            Self::Latency => "latency",
        })
    }
}

/// A kernel in one variant and shape. A call is a node of the plan that runs it, in one dispatch or several; times of a call
/// are sums over its dispatches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kernel {
    /// Name of the kernel, by which its variants are overridden: `lstm_fwd`.
    pub kernel: String,
    /// The variant that ran; on the CPU [`CPU_VARIANT`].
    pub variant: String,
    /// Op, mode and shape: `gemm NN 768x1024x256`.
    pub shape: String,
    /// Whether it is, of an op that was profiled alone, the variant that runs where none is measured or asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_default: bool,
    /// Calls in a run.
    pub calls: usize,
    /// Dispatches in a run; 0 on the CPU.
    pub dispatches: usize,
    /// Milliseconds in the run of median wall time, whose parts add up.
    pub total_ms: f64,
    /// Part of that run's wall time, 0 to 1.
    pub share: f64,
    /// Microseconds of the fastest call.
    pub min_us: f64,
    /// Median call.
    pub p50_us: f64,
    /// The call that 95 % are not slower than.
    pub p95_us: f64,
    /// Floating-point operations of a call, as the op declares them.
    pub flops: u64,
    /// Compulsory traffic of a call in bytes: every operand element that it reads and every one that it writes, once.
    pub bytes: u64,
    /// 10^9 floating-point operations a second, at the median.
    pub gflops: f64,
    /// 10^9 compulsory bytes a second, at the median.
    pub gbs: f64,
    /// `gflops` as a part of the peak of the arithmetic that the variant uses, 0 to 1.
    pub flop_share: f64,
    /// `gbs` as a part of the measured bandwidth, 0 to 1; more where caches serve.
    pub bandwidth_share: f64,
    /// Floating-point operations a compulsory byte.
    pub intensity: f64,
    /// What the time goes into.
    pub bound: Bound,
    /// The shader of the call's largest dispatch, with its constants; empty on the CPU and in profiles of earlier versions.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub shader: String,
    /// What a GPU's compiler made of it, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compiled: Option<Compiled>,
    /// Workgroups of the call's largest dispatch; zero on the CPU.
    pub workgroups: [u32; 3],
    /// Invocations of a workgroup of it.
    pub workgroup_size: [u32; 3],
    /// Bytes of workgroup memory of it.
    pub workgroup_bytes: u64,
    /// Microseconds between the dispatch before and the call's, and between the call's own: median over all calls.
    pub gap_us: f64,
    /// Milliseconds that compiling its pipelines took when the plan was made; `None` on the CPU.
    pub compile_ms: Option<f64>,
    /// Microseconds of CPU time in which a call was encoded, by the device's clock an equal part of what wgpu does for all
    /// dispatches at once: median; `None` on the CPU.
    pub encode_us: Option<f64>,
    /// Microseconds of a call, mean over the calls of a run: one for each run, in order.
    pub samples_us: Vec<f64>,
}

/// What a GPU's compiler made of a shader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compiled {
    /// The chip that it was compiled for: `navi21`.
    pub chip: String,
    /// Vector registers of an invocation.
    pub registers: u32,
    /// Registers that were spilled to memory.
    pub spills: u32,
    /// Waves that fit a SIMD.
    pub waves: u32,
}

/// A part of a run's wall time in which no kernel ran.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gap {
    /// What it is.
    pub name: String,
    /// Milliseconds in the run of median wall time. What is unaccounted may be negative.
    pub total_ms: f64,
    /// Part of that run's wall time.
    pub share: f64,
}

/// The end of a profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Median wall time of an unprofiled step in milliseconds.
    pub step_ms: f64,
    /// Wall times of unprofiled steps in milliseconds: one for each run, in order.
    pub samples_ms: Vec<f64>,
    /// Wall time of a profiled step in milliseconds, in the run of median wall time.
    pub profiled_ms: f64,
    /// What profiling adds: `profiled_ms / step_ms - 1`.
    pub overhead: f64,
    /// The part of that run's wall time that kernels and named gaps do not explain.
    pub unaccounted: f64,
    /// Floating-point operations of a step.
    pub flops: u64,
    /// Compulsory bytes of a step.
    pub bytes: u64,
    /// 10^9 floating-point operations a second of an unprofiled step.
    pub gflops: f64,
    /// `gflops` as a part of the f32 peak, 0 to 1.
    pub flop_share: f64,
}

/// A stretch of time on one of a trace's tracks.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Whether the GPU or the CPU was busy; ops of the CPU backend run on the CPU.
    pub track: Track,
    /// What ran: a node's label with its place in the model, or what the CPU did.
    pub name: String,
    /// Index of the kernel in [`Profile::kernels`], for what a kernel did.
    pub kernel: Option<usize>,
    /// Microseconds since the run began.
    pub start_us: f64,
    /// Microseconds.
    pub duration_us: f64,
}

/// Who was busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Track {
    /// Dispatches, by the clock of the profile.
    Gpu,
    /// Submitting, waiting, reading results; ops of the CPU backend.
    Cpu,
}

/// A profile.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// What was profiled.
    pub header: Header,
    /// The costliest first.
    pub kernels: Vec<Kernel>,
    /// What no kernel accounts for, "unaccounted" last.
    pub gaps: Vec<Gap>,
    /// The whole.
    pub summary: Summary,
    /// The run of median wall time, span by span, each track in the order of time; empty in a profile read from a file.
    pub spans: Vec<Span>,
}

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "lowercase")]
pub enum Record {
    /// The first.
    Header(Header),
    /// A kernel.
    Kernel(Kernel),
    /// A gap.
    Gap(Gap),
    /// The last.
    Summary(Summary),
}
