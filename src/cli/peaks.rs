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
            let before = peaks::recall(path, &machine).ok().flatten();
            let kept = match self.tune {
                Tune::Force => peaks::replace(path, &machine, &peaks).map(|()| peaks.clone()),
                _ => peaks::remember(path, &machine, &peaks),
            };
            match kept {
                Ok(kept) => {
                    let changed = before.map_or(vec![], |before| changed(&before, &peaks, &kept));
                    changed.iter().for_each(|line| tell(format_args!("note: {line}")));
                    if !changed.is_empty() && kept != peaks {
                        tell("note: the better figure of each is kept; --tune force keeps those of this time");
                    }
                }
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
        let on_cpu = device.capabilities().is_none();
        let how = [
            "multiply-adds, each 2 FLOP",
            "the same",
            "f16 factors, f32 sums",
            "read and written by a copy",
            "read by all workgroups",
            if on_cpu { "read and written by copies within them" } else { "read" },
            if on_cpu { "a parallel loop" } else { "a dispatch after the one it needs" },
            "from a submission to its result in host memory",
        ];
        say(&machine);
        for ((what, figure, unit), how) in figures(&peaks).into_iter().zip(how) {
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

/// Each figure with its name and unit; a readback of 0 us is the CPU's, which has none.
fn figures(peaks: &RooflineLimits) -> [(&'static str, Option<f64>, &'static str); 8] {
    [
        ("f32", Some(peaks.f32_gflops), "GFLOP/s"),
        ("f16", peaks.f16_gflops, "GFLOP/s"),
        ("matrix units", peaks.matrix_gflops, "GFLOP/s"),
        ("device memory", Some(peaks.bandwidth_gbs), "GB/s"),
        ("workgroup memory", peaks.workgroup_gbs, "GB/s"),
        ("caches", peaks.cache_gbs, "GB/s"),
        ("launch", Some(peaks.launch_us), "us"),
        ("readback", Some(peaks.readback_us).filter(|us| *us > 0.0), "us"),
    ]
}

/// What was remembered of each figure, what was measured now, and which of the two is kept, where they differ.
fn changed(before: &RooflineLimits, now: &RooflineLimits, kept: &RooflineLimits) -> Vec<String> {
    let all = figures(before).into_iter().zip(figures(now)).zip(figures(kept));
    let said = |(((what, before, unit), (_, now, _)), (_, kept, _))| {
        let which = if kept == now { "this time's" } else { "the remembered one" };
        let [before, now] = [before, now]
            .map(|figure: Option<f64>| figure.map_or("none".into(), |figure| format!("{figure:.1} {unit}")));
        (before != now).then(|| format!("{what}: {before} remembered, {now} measured now; {which} is kept"))
    };
    all.filter_map(said).collect()
}
