//! `deepj peaks`.

use std::path::PathBuf;
use std::time::Instant;

use deepj::Result;
use deepj::gpu::Machine;
use deepj::graph::session::Tune;
use deepj::peaks::{self, RooflineLimits};
use serde::Serialize;

use super::{DeviceArgument, peaks_file, say, say_json, tell};

/// Measure what a device can do at most: FLOP/s, bandwidths, latencies
#[derive(clap::Args)]
#[command(after_help = "\
Each figure is the best of several runs; other programs should rest meanwhile. What is measured is remembered, for the
percentages that training and profiles print; with --tune off it is not.

Examples:
  deepj peaks
  deepj peaks --device cpu --json")]
pub struct PeaksCommand {
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgument,
    /// With off, do not remember what is measured; with force, forget what was, which otherwise stays where it is better
    #[arg(long, env = "DEEPJ_TUNE", default_value = "on", value_name = "off|on|force")]
    tune: Tune,
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Report<'a> {
    machine: &'a Machine,
    peaks: &'a RooflineLimits,
    seconds: f64,
    remembered: Option<PathBuf>,
}

impl PeaksCommand {
    pub fn run(self) -> Result<()> {
        let device = self.device.open()?;
        let machine = device.machine();
        let began = Instant::now();
        let peaks = pollster::block_on(peaks::measure(&device))?;
        let seconds = began.elapsed().as_secs_f64();
        let mut remembered = peaks_file(self.tune);
        if let Some(path) = &remembered {
            let kept = match self.tune {
                Tune::Force => peaks::replace(path, &machine, &peaks).map(|()| peaks.clone()),
                _ => peaks::remember(path, &machine, &peaks),
            };
            match kept {
                Ok(best) if best != peaks => {
                    tell("note: a better figure than this time's was remembered, and stays (--tune force forgets it)");
                }
                Ok(_) => (),
                Err(e) => {
                    tell(format_args!("note: {}", e.what));
                    remembered = None;
                }
            }
        }
        if let Some(why) = peaks.doubt() {
            tell(format_args!("note: these may be too low: {why}"));
        }
        if self.json {
            return say_json(&Report { machine: &machine, peaks: &peaks, seconds, remembered });
        }
        let RooflineLimits {
            f32_gflops,
            f16_gflops,
            matrix_gflops,
            bandwidth_gbs,
            workgroup_gbs,
            launch_us,
            readback_us,
            cache_gbs,
            measurement: _,
        } = peaks;
        let on_cpu = device.capabilities().is_none();
        let readback_us = Some(readback_us).filter(|_| !on_cpu);
        say(&machine);
        for (what, figure, unit, how) in [
            ("f32", Some(f32_gflops), "GFLOP/s", "multiply-adds, each 2 FLOP"),
            ("f16", f16_gflops, "GFLOP/s", "the same"),
            ("matrix units", matrix_gflops, "GFLOP/s", "f16 factors, f32 sums"),
            ("device memory", Some(bandwidth_gbs), "GB/s", "read and written by a copy"),
            ("workgroup memory", workgroup_gbs, "GB/s", "read by all workgroups"),
            ("caches", cache_gbs, "GB/s", if on_cpu { "read and written by copies within them" } else { "read" }),
            (
                "launch",
                Some(launch_us),
                "us",
                if on_cpu { "a parallel loop" } else { "a dispatch after the one it needs" },
            ),
            ("readback", readback_us, "us", "from a submission to its result in host memory"),
        ] {
            match figure {
                Some(figure) => say(format_args!("  {what:16} {figure:10.1} {unit:8} {how}")),
                None => say(format_args!("  {what:16} {:>10}", "none")),
            }
        }
        match remembered {
            Some(path) => tell(format_args!("measured in {seconds:.1} s (remembered in {})", path.display())),
            None => tell(format_args!("measured in {seconds:.1} s (not remembered)")),
        }
        Ok(())
    }
}
