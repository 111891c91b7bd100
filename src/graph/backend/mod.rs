//! What a session needs of a device: the CPU and GPUs are the two that there are.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::time::Duration;

use super::plan::Plan;
use super::selection::{Chosen, KernelSelection};
use super::timeline::Timeline;
use crate::error::Result;
use crate::gpu::{Capabilities, Clock, Facts, PendingRead};
use crate::ops::{Uniforms, View};

mod cpu;
pub(super) mod gpu;

pub(super) use cpu::Cpu;
pub(super) use gpu::OnGpu;

/// What a backend promises to do.
pub(super) type Task<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + 'a>>;

/// Values on their way to the host.
pub(super) enum Pending {
    /// They are there.
    Ready(Vec<Vec<f32>>),
    /// They follow what was submitted before.
    Gpu(PendingRead),
}

/// A device with the memory that all programs of a session share, and those programs, by number from 0. Errors are those
/// of [`Session`](super::Session)'s methods of the same name.
pub(super) trait Backend: Send {
    /// Makes a plan runnable, on kernels chosen by `selection`, as the program with the next number.
    fn add<'a>(&'a mut self, plan: Plan, selection: &'a KernelSelection) -> Task<'a, ()>;
    /// The plan of a program.
    fn plan(&self, program: usize) -> &Plan;
    /// Writes a view, which takes effect before the next run.
    fn write(&mut self, program: usize, view: View, data: &[f32]) -> Result<()>;
    /// Asks for views as what was submitted leaves them.
    fn begin_read<'a>(&'a self, views: &'a [(usize, View)]) -> Task<'a, Pending>;
    /// Waits for what was asked for.
    fn finish_read(&self, pending: Pending) -> Task<'_, Vec<Vec<f32>>>;
    /// Runs programs one after the other, each so many times in a row.
    fn run(&mut self, runs: &[(usize, u32)], uniforms: &Uniforms) -> Result<()>;
    /// Runs some of a program's nodes once.
    fn run_nodes(&mut self, program: usize, nodes: Range<usize>, uniforms: &Uniforms) -> Result<()>;
    /// Runs a program and tells when each part of each node ran.
    fn timeline<'a>(
        &'a mut self,
        run: (usize, u32),
        uniforms: &'a Uniforms,
        clock: Option<Clock>,
    ) -> Task<'a, Timeline>;
    /// Runs a program once, node by node, and names the first that writes a value that is not finite.
    fn first_non_finite<'a>(&'a mut self, program: usize, uniforms: &'a Uniforms) -> Task<'a, Option<String>>;

    /// The adapter's capabilities, or `None` on the CPU.
    fn capabilities(&self) -> Option<&Capabilities> {
        None
    }
    /// Bytes of the scratch memory that the programs' kernels share, beside what the plans say.
    fn scratch_bytes(&self) -> u64 {
        0
    }
    /// The kernel that each node of a program runs; empty on the CPU.
    fn chosen(&self, _program: usize) -> &[Chosen] {
        &[]
    }
    /// Dispatches of one run of a program.
    fn dispatches(&self, _program: usize) -> usize {
        0
    }
    /// Does ahead what it can of the next run of as many times.
    fn prepare(&self, _program: usize, _times: u32) -> Result<()> {
        Ok(())
    }
    /// From a submission of nothing to its end.
    fn latency(&self) -> Task<'_, Duration> {
        Box::pin(async { Ok(Duration::ZERO) })
    }
    /// What is known of the dispatches of a program's node.
    fn facts(&self, _program: usize, _node: usize) -> Vec<Facts> {
        vec![]
    }
    /// Waits until everything submitted has run.
    fn wait(&self) -> Task<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}
