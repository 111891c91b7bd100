//! When the nodes of a program ran.

use std::time::Duration;

use crate::gpu;

/// When a dispatch of a node ran, or on the CPU the node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// The node of the plan.
    pub node: usize,
    /// Nanoseconds since the first span's start by the device's clock, or since the run began by the CPU's.
    pub start: u64,
    /// The end.
    pub end: u64,
    /// CPU time in which the dispatch was encoded; zero on the CPU.
    pub encoding: Duration,
}

/// When the nodes of a program ran; see [`gpu::Timeline`].
#[derive(Clone, Debug, PartialEq)]
pub struct Timeline {
    /// What told the times; `None` on the CPU.
    pub clock: Option<gpu::Clock>,
    /// In the order in which they ran.
    pub spans: Vec<Span>,
    /// CPU time of the submission; zero on the CPU.
    pub submitting: Duration,
    /// From the beginning of the submission to the end of all work.
    pub wall: Duration,
}
