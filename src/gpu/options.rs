//! How a device is opened, and how long it is waited for.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Whether shaders are compiled with wgpu's run-time checks (array bounds, loop bounds, integer division).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checks {
    /// For tests: a shader that reads or writes out of bounds does no harm.
    Checked,
    /// For use: the shaders are our own and tested, and the checks cost time.
    #[default]
    Trusted,
}

/// Which limits and features a device is opened with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Limits {
    /// All that the adapter has.
    #[default]
    Adapter,
    /// WebGPU's defaults (or less, where the adapter has less) and no optional feature, to test portable variants.
    WebGpuDefaults,
}

/// How to open a device.
///
/// # Examples
///
/// ```
/// # fn main() -> deepj::Result<()> {
/// use deepj::gpu::Limits;
/// use deepj::prelude::*;
///
/// // A device as the weakest that WebGPU allows, to try what runs everywhere.
/// let options = OpenOptions { limits: Limits::WebGpuDefaults, ..OpenOptions::default() };
/// let device = open_blocking(&DeviceChoice::Cpu, options)?;
/// assert!(device.capabilities().is_none(), "the CPU has no adapter");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    pub checks: Checks,
    pub limits: Limits,
}

/// Is told what the user should know.
pub type Notice = Arc<dyn Fn(&str) + Send + Sync>;

/// How long to wait for a GPU that finishes nothing. One that is given up stays so: each later call is an error too. Nothing is
/// given up in a browser, which has watchdogs of its own.
#[derive(Clone, Default)]
pub struct WaitOptions {
    /// Set by whoever wants to stop. A GPU that has then finished nothing for 5 s, and for three times as long as it ever took
    /// before, is given up.
    pub stop: Arc<AtomicBool>,
    /// After how long it is given up in any case. By default after 5 minutes, three thousand times as long as a submission should
    /// take (see [`WatchdogBudget`](super::WatchdogBudget)); on a software adapter, where a submission is of any length, after an
    /// hour.
    pub timeout: Option<Duration>,
    /// Is told once a device when nothing was finished for 10 s, and for three times as long as ever before.
    pub notice: Option<Notice>,
}

#[cfg(not(target_arch = "wasm32"))]
impl WaitOptions {
    pub(super) fn timeout(&self, software: bool) -> Duration {
        const TIMEOUT: [Duration; 2] = [Duration::from_secs(5 * 60), Duration::from_secs(60 * 60)];
        self.timeout.unwrap_or(TIMEOUT[usize::from(software)])
    }
}
