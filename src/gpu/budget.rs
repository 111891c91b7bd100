//! How much one dispatch, and one submission, may do, so that no watchdog takes it for hung.
//!
//! Systems end work that keeps a GPU for too long, and look at different things: at a dispatch where the hardware can turn to
//! other work between dispatches, else at all that was submitted together.
//! - Windows resets a GPU that does not give way within 2 s
//!   (<https://learn.microsoft.com/en-us/windows-hardware/drivers/display/timeout-detection-and-recovery>); some give way
//!   between dispatches, some only between submissions
//!   (<https://learn.microsoft.com/en-us/windows/win32/api/dxgi1_2/ne-dxgi1_2-dxgi_compute_preemption_granularity>).
//! - macOS ends a command buffer that runs for seconds, or holds up the screen
//!   (<https://github.com/gfx-rs/wgpu/issues/9531>), and wgpu 30 takes it for done
//!   (<https://github.com/gfx-rs/wgpu/issues/9545>): what it should have computed is missing without an error.
//! - Linux resets an Intel GPU that does not give way to other work within 0.64 s, and ends requests of 20 s
//!   (`drivers/gpu/drm/i915/Kconfig.profile`); on an AMD GPU, jobs of some seconds (`amdgpu.lockup_timeout`).
//!
//! So both have one budget: [`Budget::SECONDS`] at the device's measured peaks. A kernel that reaches only 5 % of a peak still
//! ends within the 2 s of Windows, one that reaches 16 % within 0.64 s. Drivers that compute on the CPU have no watchdog, and
//! no budget.

use serde::Serialize;

/// What running an op once, or one dispatch of it, costs, from shapes alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cost {
    /// Floating-point operations; a multiply-add counts 2, a transcendental function 1.
    pub flops: u64,
    /// Compulsory traffic: every operand element that is read and every one that is written, once for either, in bytes. An
    /// element that is changed in place is both.
    pub bytes: u64,
}

impl Cost {
    /// What `part` of `whole` costs, none too little.
    pub fn part(self, part: usize, whole: usize) -> Self {
        let share = |all: u64| (u128::from(all) * part as u128).div_ceil(whole.max(1) as u128) as u64;
        Self { flops: share(self.flops), bytes: share(self.bytes) }
    }
}

/// What a device does in [`Budget::SECONDS`] at its peaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Budget {
    /// Floating-point operations in f32.
    pub flops: u64,
    /// Bytes read and written.
    pub bytes: u64,
    /// Workgroups that it takes to fill the device. Of fewer, each gets its part of the peaks and no more.
    pub groups: u64,
}

impl Budget {
    /// The time that a dispatch or a submission is estimated to take at most.
    pub const SECONDS: f64 = 0.1;

    /// That of a device of which nothing was measured: a slow integrated GPU's, with 100 GFLOP/s and 10 GB/s.
    pub const UNMEASURED: Self = Self { flops: 10_000_000_000, bytes: 1_000_000_000, groups: FILLING };

    /// That of a device with these peaks, in f32 operations and bytes a second.
    pub fn of(flops: f64, bytes: f64) -> Self {
        let [flops, bytes] = [flops, bytes].map(|rate| ((Self::SECONDS * rate) as u64).max(1));
        Self { flops, bytes, groups: FILLING }
    }

    /// The part of the budget that a dispatch of so many workgroups takes; above 1 is too much. By the roofline: it takes as
    /// long as its operations, or its traffic, would at the peak.
    pub fn share(&self, cost: Cost, groups: u64) -> f64 {
        let idle = (self.groups as f64 / groups.max(1) as f64).max(1.0);
        idle * (cost.flops as f64 / self.flops as f64).max(cost.bytes as f64 / self.bytes as f64)
    }

    /// How many of `parts` alike, which cost `cost` together, a dispatch of so many workgroups may do; 0 where one is too
    /// much.
    pub fn parts(&self, parts: usize, cost: Cost, groups: u64) -> usize {
        let share = self.share(cost, groups);
        if share <= 1.0 { parts } else { (parts as f64 / share) as usize }
    }
}

/// Few GPUs that are slow enough for a watchdog to matter run more workgroups at a time.
const FILLING: u64 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_that_of_what_bounds_a_dispatch() {
        let budget = Budget::of(200e9, 20e9);
        assert_eq!((budget.flops, budget.bytes), (20_000_000_000, 2_000_000_000));
        let share = |flops, bytes, groups| budget.share(Cost { flops, bytes }, groups);
        assert_eq!(share(10_000_000_000, 10_000_000, 32), 0.5);
        assert_eq!(share(1_000, 3_000_000_000, 1 << 20), 1.5);
        assert_eq!(share(1_000_000_000, 0, 1), 1.6, "alone it has a 32nd of the device");
        assert_eq!(share(0, 0, 0), 0.0, "nothing");
    }

    #[test]
    fn parts_fit_and_one_more_does_not() {
        let budget = Budget::of(100e9, 10e9);
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
