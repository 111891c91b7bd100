//! What an adapter, or the CPU, can do at most: measured, not read from a data sheet.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::calendar::today;
use crate::gpu::{Device, Machine, Remembered, WatchdogBudget, cache_folder};
use crate::statistics::median;
use crate::{Error, Result};

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
    /// Bytes read from caches, where a kernel's operands fit them; `None` where it was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_gbs: Option<f64>,
    /// How they were measured; `None` of those that an earlier version remembered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measurement: Option<Measurement>,
}

/// How limits were measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The day, `2026-11-29`.
    pub on: String,
    /// How many programs wanted a processor at the time, as Linux tells it of the last minute, a part of the processors; `None`
    /// elsewhere.
    pub load: Option<f64>,
    /// By how much the median run fell behind the best, 0 to 1: the larger of multiply-adds' and of copies'.
    pub spread: f64,
}

impl Measurement {
    /// Now, with samples of the rates of multiply-adds and of copies.
    fn now(load: Option<f64>, rates: [&[f64]; 2]) -> Self {
        let behind = |rates: &&[f64]| {
            let best = rates.iter().copied().fold(0.0, f64::max);
            if best > 0.0 { 1.0 - median(rates) / best } else { 0.0 }
        };
        Self { on: today(), load, spread: rates.iter().map(behind).fold(0.0, f64::max) }
    }

    /// Why limits measured so may be too low, if they may be.
    pub fn doubt(&self) -> Option<String> {
        let percent = |part: f64| format!("{:.0} %", 100.0 * part);
        match self.load.filter(|load| *load > MOST_LOAD) {
            Some(load) => Some(format!("in the minute before, programs kept {} of the processors busy", percent(load))),
            None if self.spread > MOST_SPREAD => {
                Some(format!("half of the runs were slower than the best by {} or more", percent(self.spread)))
            }
            None => None,
        }
    }
}

/// More load, or spread, than an idle machine shows: on the virtual machine of this project's measurements copies spread by up to
/// a quarter when nothing else runs.
const MOST_LOAD: f64 = 0.5;
const MOST_SPREAD: f64 = 0.35;

/// The load of the last minute as a part of the processors.
fn load() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    let programs: f64 = text.split(' ').next()?.parse().ok()?;
    Some(programs / std::thread::available_parallelism().map_or(1, usize::from) as f64)
}

impl RooflineLimits {
    /// What one dispatch may do on a device that has these.
    pub fn budget(&self) -> WatchdogBudget {
        WatchdogBudget::of(1e9 * self.f32_gflops, 1e9 * self.bandwidth_gbs)
    }

    /// These and others of the same device: the better figure of each, since what disturbs a measurement only makes it worse. They
    /// are as doubtful as the less doubtful ones.
    fn or_better(self, other: Self) -> Self {
        let most = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
        let measurement =
            if self.doubt().is_some() && other.doubt().is_none() { other.measurement } else { self.measurement };
        Self {
            f32_gflops: self.f32_gflops.max(other.f32_gflops),
            f16_gflops: most(self.f16_gflops, other.f16_gflops),
            matrix_gflops: most(self.matrix_gflops, other.matrix_gflops),
            bandwidth_gbs: self.bandwidth_gbs.max(other.bandwidth_gbs),
            workgroup_gbs: most(self.workgroup_gbs, other.workgroup_gbs),
            launch_us: self.launch_us.min(other.launch_us),
            readback_us: self.readback_us.min(other.readback_us),
            cache_gbs: most(self.cache_gbs, other.cache_gbs),
            measurement,
        }
    }

    /// Why they may be too low, if they may be.
    pub fn doubt(&self) -> Option<String> {
        match &self.measurement {
            Some(measurement) => measurement.doubt(),
            None => Some("an earlier version measured them, and it is not known how busy the machine was".into()),
        }
    }

    /// Whether something can be given as a part of them.
    pub(crate) fn are_rates(&self) -> bool {
        let rates = [self.f32_gflops, self.bandwidth_gbs, self.launch_us];
        rates.iter().all(|x| x.is_finite() && *x > 0.0) && self.impossible().is_none()
    }

    /// What of them no device can do, with its name: drivers have told times that did not pass, and work that they had not done.
    fn impossible(&self) -> Option<(&'static str, f64)> {
        let of = [
            ("GFLOP/s in f32", Some(self.f32_gflops), MOST_GFLOPS),
            ("GFLOP/s in f16", self.f16_gflops, MOST_GFLOPS),
            ("GFLOP/s of matrix units", self.matrix_gflops, MOST_MATRIX_GFLOPS),
            ("GB/s of device memory", Some(self.bandwidth_gbs), MOST_GBS),
            ("GB/s of workgroup memory", self.workgroup_gbs, MOST_WORKGROUP_GBS),
            ("GB/s of caches", self.cache_gbs, MOST_WORKGROUP_GBS),
        ];
        of.into_iter().find_map(|(name, value, most)| Some((name, value?)).filter(|(_, value)| *value > most))
    }
}

/// Ten times what the fastest device is said to do (NVIDIA B200, 2025: 80 TFLOP/s in f32, some PFLOP/s by matrix units, 8 TB/s; its
/// workgroup memory about 40 TB/s).
const MOST_GFLOPS: f64 = 1e6;
const MOST_MATRIX_GFLOPS: f64 = 1e8;
const MOST_GBS: f64 = 1e5;
const MOST_WORKGROUP_GBS: f64 = 4e5;

/// Measures a device, in about a second, three on a software adapter. Each figure is the best of several runs, since what
/// disturbs one only makes it worse.
///
/// # Errors
/// A lost device, too little memory, a driver that refuses what all adapters can do, or one with which more was measured than any
/// device can do.
pub async fn measure(device: &Device) -> Result<RooflineLimits> {
    measured(device, true).await
}

/// What is remembered of a device in the file at `remembered`; where nothing is, or what was measured beside other work, measures it, as [`measure`] does but without matrix units,
/// and remembers that. Shaders that use matrix units are experimental, and run only where they are asked for. `notice` is
/// told what the user should know: a file that is of no use or cannot be written. Without a file it measures every time.
///
/// # Errors
/// As [`measure`].
pub async fn of(device: &Device, remembered: Option<&Path>, mut notice: impl FnMut(&str)) -> Result<RooflineLimits> {
    let Some(path) = remembered else { return measured(device, false).await };
    let machine = device.machine();
    match recall(path, &machine) {
        Ok(Some(peaks)) if peaks.doubt().is_none() => return Ok(peaks),
        // Measured beside other work: perhaps there is none now.
        Ok(_) => (),
        Err(why) => notice(&format!(
            "{}: not a file of remembered roofline limits ({why}), it will be written anew",
            path.display()
        )),
    }
    let peaks = measured(device, false).await?;
    match remember(path, &machine, &peaks) {
        Ok(best) => Ok(best),
        Err(e) => {
            notice(&e.what);
            Ok(peaks)
        }
    }
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

/// Forgets the limits of a machine in the file at `path`, and keeps these.
///
/// # Errors
/// A folder or file that cannot be written.
pub fn replace(path: &Path, machine: &Machine, peaks: &RooflineLimits) -> Result<()> {
    FILE.save(path, machine, |_| Measured { peaks: peaks.clone() })
}

/// Keeps the limits of a machine in the file at `path`, where those remembered of it are not better, and returns what is kept.
///
/// # Errors
/// A folder or file that cannot be written.
pub fn remember(path: &Path, machine: &Machine, peaks: &RooflineLimits) -> Result<RooflineLimits> {
    let mut kept = peaks.clone();
    FILE.save(path, machine, |known: Option<Measured>| {
        if let Some(known) = known.map(|known| known.peaks).filter(RooflineLimits::are_rates) {
            kept = peaks.clone().or_better(known);
        }
        Measured { peaks: kept.clone() }
    })?;
    Ok(kept)
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
    let peaks = match device {
        Device::Gpu(gpu) => adapter::measure(gpu, matrices).await,
        Device::Cpu { .. } => cpu::measure(),
    }?;
    match peaks.impossible() {
        None => Ok(peaks),
        Some((what, value)) => Err(Error::device(
            format!("{value:.3e} {what} were measured on {}, more than any device can do", device.machine()),
            "its driver told a time that did not pass, or did not do the work: `deepj verify` says whether its results are right; try \
             another backend of it with --device (`deepj adapters` lists them), or --tune off, with which nothing is measured",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_device_can_do_is_refused() {
        let peaks = RooflineLimits {
            f32_gflops: 6e4,
            f16_gflops: None,
            matrix_gflops: Some(2e6),
            bandwidth_gbs: 4.8e3,
            workgroup_gbs: Some(3e4),
            launch_us: 4.0,
            readback_us: 30.0,
            cache_gbs: None,
            measurement: None,
        };
        assert!(peaks.are_rates());
        // As it was measured once: 400 PB/s.
        let fast = RooflineLimits { bandwidth_gbs: 4e8, ..peaks.clone() };
        assert_eq!(fast.impossible(), Some(("GB/s of device memory", 4e8)));
        assert!(!fast.are_rates(), "nor is it taken from a file");
        let matrix = RooflineLimits { matrix_gflops: Some(f64::INFINITY), ..peaks };
        assert_eq!(matrix.impossible(), Some(("GFLOP/s of matrix units", f64::INFINITY)));
    }

    #[test]
    fn the_better_of_two_figures_is_kept_with_the_less_doubtful_origin() {
        let measured = |load: Option<f64>, spread: f64| Some(Measurement { on: "2026-11-29".into(), load, spread });
        let quiet = RooflineLimits {
            f32_gflops: 90.0,
            f16_gflops: None,
            matrix_gflops: None,
            bandwidth_gbs: 9.0,
            workgroup_gbs: Some(50.0),
            launch_us: 4.0,
            readback_us: 30.0,
            cache_gbs: None,
            measurement: measured(Some(0.1), 0.02),
        };
        let busy = RooflineLimits {
            f32_gflops: 91.0,
            bandwidth_gbs: 0.94,
            launch_us: 40.0,
            cache_gbs: Some(70.0),
            measurement: measured(Some(0.9), 0.02),
            ..quiet.clone()
        };
        let best = RooflineLimits { f32_gflops: 91.0, cache_gbs: Some(70.0), ..quiet.clone() };
        assert_eq!(quiet.clone().or_better(busy.clone()), best);
        assert_eq!(busy.clone().or_better(quiet.clone()), best);
        assert!(quiet.doubt().is_none());
        assert_eq!(busy.doubt().unwrap(), "in the minute before, programs kept 90 % of the processors busy");
        // Of those that an earlier version kept nobody knows; they are measured again.
        let old = RooflineLimits { measurement: None, ..quiet.clone() };
        assert!(old.doubt().is_some());
        assert_eq!(old.or_better(quiet.clone()), quiet);
        let uneven = RooflineLimits { measurement: measured(None, 0.5), ..quiet };
        assert!(uneven.doubt().unwrap().contains("50 %"));
        // The best of three is 10, the median 6.
        assert_eq!(Measurement::now(None, [&[5.0, 10.0, 6.0], &[1.0]]).spread, 0.4);
    }
}
