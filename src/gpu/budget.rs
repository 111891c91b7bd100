//! How much work one dispatch, and one submission, may do, so that no watchdog takes it for hung.
//!
//! Operating systems end work that occupies a GPU for too long. What they time is a single dispatch where the hardware can
//! switch to other work between dispatches, and otherwise everything that was submitted together.
//! - Windows resets a GPU that does not yield within 2 s
//!   (<https://learn.microsoft.com/en-us/windows-hardware/drivers/display/timeout-detection-and-recovery>); some GPUs yield
//!   between dispatches, some only between submissions
//!   (<https://learn.microsoft.com/en-us/windows/win32/api/dxgi1_2/ne-dxgi1_2-dxgi_compute_preemption_granularity>).
//! - macOS ends a command buffer that runs for seconds, or holds up the screen
//!   (<https://github.com/gfx-rs/wgpu/issues/9531>), and wgpu 30 reports it as
//!   finished (<https://github.com/gfx-rs/wgpu/issues/9545>): its results are missing, and no error says so.
//! - Linux resets an Intel GPU that does not yield to other work within 0.64 s, and ends requests of 20 s
//!   (`drivers/gpu/drm/i915/Kconfig.profile`); on an AMD GPU, jobs of some seconds (`amdgpu.lockup_timeout`).
//!
//! So dispatches and submissions share one budget: [`WatchdogBudget::SECONDS`] at the device's measured roofline limits. A kernel that
//! reaches only 5 % of its limit still ends within the 2 s of Windows, one that reaches 16 % within 0.64 s. Drivers that
//! compute on the CPU have no watchdog, and no budget.

use serde::Serialize;

/// What running an op once, or one dispatch of it, costs, from shapes alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cost {
    /// Floating-point operations; a multiply-add counts 2, a transcendental function 1.
    pub flops: u64,
    /// Compulsory traffic in bytes: every operand element that is read, once, and every one that is written, once. An element
    /// that is changed in place counts as both.
    pub bytes: u64,
}

impl Cost {
    /// What `part` of `whole` costs, rounded up.
    pub fn part(self, part: usize, whole: usize) -> Self {
        let share = |all: u64| (u128::from(all) * part as u128).div_ceil(whole.max(1) as u128) as u64;
        Self { flops: share(self.flops), bytes: share(self.bytes) }
    }
}

/// What a device can do in [`WatchdogBudget::SECONDS`] at its roofline limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct WatchdogBudget {
    /// Floating-point operations in f32.
    pub flops: u64,
    /// Bytes read and written.
    pub bytes: u64,
    /// Workgroups that it takes to fill the device. Fewer of them reach only that share of the limits.
    pub groups: u64,
}

impl WatchdogBudget {
    /// The longest estimated time of a dispatch or a submission.
    pub const SECONDS: f64 = 0.1;

    /// The budget of a device that was not measured: that of a slow integrated GPU, with 100 GFLOP/s and 10 GB/s.
    pub const UNMEASURED: Self = Self { flops: 10_000_000_000, bytes: 1_000_000_000, groups: FILLING };

    /// The budget of a device with these limits, in f32 operations and bytes per second.
    pub fn of(flops: f64, bytes: f64) -> Self {
        let [flops, bytes] = [flops, bytes].map(|rate| ((Self::SECONDS * rate) as u64).max(1));
        Self { flops, bytes, groups: FILLING }
    }

    /// The share of the budget that a dispatch of `groups` workgroups takes; above 1 is too much. Its time is estimated by the
    /// roofline: as long as its operations, or its traffic, would take at the device's limit.
    pub fn share(&self, cost: Cost, groups: u64) -> f64 {
        let idle = (self.groups as f64 / groups.max(1) as f64).max(1.0);
        idle * (cost.flops as f64 / self.flops as f64).max(cost.bytes as f64 / self.bytes as f64)
    }

    /// How many of `parts` equal parts, which cost `cost` together, a dispatch of `groups` workgroups may do; 0 if one part is
    /// already too much.
    pub fn parts(&self, parts: usize, cost: Cost, groups: u64) -> usize {
        let share = self.share(cost, groups);
        if share <= 1.0 { parts } else { (parts as f64 / share) as usize }
    }
}

/// GPUs that are slow enough for a watchdog to matter rarely run more workgroups at a time.
const FILLING: u64 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_that_of_what_bounds_a_dispatch() {
        let budget = WatchdogBudget::of(200e9, 20e9);
        assert_eq!((budget.flops, budget.bytes), (20_000_000_000, 2_000_000_000));
        let share = |flops, bytes, groups| budget.share(Cost { flops, bytes }, groups);
        assert_eq!(share(10_000_000_000, 10_000_000, 32), 0.5);
        assert_eq!(share(1_000, 3_000_000_000, 1 << 20), 1.5);
        assert_eq!(share(1_000_000_000, 0, 1), 1.6, "alone it has a 32nd of the device");
        assert_eq!(share(0, 0, 0), 0.0, "nothing");
    }

    #[test]
    fn parts_fit_and_one_more_does_not() {
        let budget = WatchdogBudget::of(100e9, 10e9);
        let each = 730_000_000;
        for groups in [1, 7, 1000] {
            let parts = budget.parts(100, Cost { flops: 100 * each, bytes: 0 }, groups);
            let share = |parts: usize| budget.share(Cost { flops: parts as u64 * each, bytes: 0 }, groups);
            assert!(share(parts) <= 1.0 && share(parts + 1) > 1.0, "{parts} of {groups} groups");
        }
        assert_eq!(budget.parts(3, Cost { flops: 3, bytes: 0 }, 1), 3);
        assert_eq!(budget.parts(3, Cost { flops: 3 << 40, bytes: 0 }, 1), 0);
    }
}
