//! `deepj scale`.

use std::process::ExitCode;

use clap::Args;
use deepj::distributed::{Ranks, Wire};
use deepj::models;
use deepj::scale::{self, Link, MOST_RANKS, MOST_UPDATES, Measured, Predicted};
use deepj::{Error, Result};
use serde::Serialize;

use super::training::TrainingArguments;
use super::{TrainingDeviceArguments, ranks, say, say_json, tell};

/// Predict how fast more machines would train
///
/// Measures this machine, or the ranks of an mpirun.
#[derive(Args)]
#[command(after_help = "\
Examples:
  deepj scale --bandwidth 10 --latency 20
  mpirun -n 2 deepj scale --preset paper
  mpirun -n 2 deepj scale --preset small --batch 4 --updates 20 --json

--batch is that of each rank. Without an mpirun nothing is known of what connects machines: say it by --bandwidth and --latency.")]
pub struct Scale {
    #[command(flatten)]
    training: TrainingArguments,
    /// Change one field of the network's configuration, for example time_units=64
    #[arg(long, value_name = "FIELD=VALUE", value_parser = super::pair)]
    set: Vec<(String, String)>,
    /// Updates that are timed of one rank and of all together
    #[arg(long, value_name = "N", default_value = "10")]
    updates: usize,
    /// Gigabits a second through the link of each rank [default: as measured]
    #[arg(long, value_name = "GBIT/S")]
    bandwidth: Option<f64>,
    /// Microseconds that a message takes beside its bytes [default: as measured]
    #[arg(long, value_name = "US")]
    latency: Option<f64>,
    /// Predict for a device that is so many times as fast as this one
    #[arg(long, value_name = "X", default_value = "1")]
    faster: f64,
    /// The most ranks to predict for
    #[arg(long, value_name = "N", default_value = "4096")]
    ranks: u64,
    /// How gradients travel: f32 or f16
    #[arg(long, value_name = "f32|f16", default_value = "f32")]
    allreduce: Wire,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: TrainingDeviceArguments,
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Report {
    measured: Measured,
    /// What the predictions are made with.
    link: Link,
    /// Of as many ranks as were measured together.
    check: Option<Check>,
    weak: Vec<Predicted>,
    strong: Vec<Predicted>,
}

/// A prediction beside what was measured.
#[derive(Serialize)]
struct Check {
    ranks: u64,
    predicted: f64,
    measured: f64,
    /// Seconds that ranks waited in an update, as the slowest has them.
    waited: f64,
    /// Bytes that a rank sent in an update, and `2 (N - 1) / N` times those of the gradients as they travel.
    bytes: [u64; 2],
}

impl Scale {
    pub fn run(self) -> Result<ExitCode> {
        let ranks = ranks::join(self.allreduce)?;
        let done = self.scale(ranks.as_ref());
        ranks::conclude(ranks, done)
    }

    fn scale(&self, ranks: Option<&Ranks>) -> Result<ExitCode> {
        Ranks::agree_if_several(ranks, self.check(ranks))?;
        let device = match ranks {
            None => self.device.open()?,
            Some(ranks) => ranks.agree(self.device.open_for(ranks.on_host().0))?,
        };
        let selection = self.device.selection();
        let (own, _) = self.device.peaks_of_all(&device, ranks)?;
        let device = self.device.in_time(device, own.as_ref());
        let mut options = deepj::train::TrainOptions { set: self.set.clone(), ..self.training.options() };
        let architecture = models::architecture(options.model.as_deref().unwrap_or(models::DEFAULT));
        let preset =
            architecture.and_then(|of| models::preset_info(of, options.preset.as_deref(), device.capabilities()));
        let preset = Ranks::agree_if_several(ranks, preset)?;
        options.preset = Some(preset.name.into());
        let slots = options.batch.take().unwrap_or(preset.batch.0);
        let one = Ranks::threads(1).pop().map(|one| one.with_wire(self.allreduce));
        let group = match (ranks, &one) {
            (Some(ranks), _) | (None, Some(ranks)) => ranks,
            (None, None) => return Err(Error::run("no thread can be started", "")),
        };
        if let Some(ranks) = ranks {
            ranks::listing(ranks, &device, slots)?.iter().for_each(tell);
        }
        tell(format_args!("timing {} updates of one rank with {slots} slots, and of fewer; then of all", self.updates));
        let measured = scale::measure(&options, slots, self.updates, (&device, &selection), group);
        let report = self.report(pollster::block_on(measured)?);
        match self.json {
            true => say_json(&report)?,
            false => print(&report, preset.name, own.as_ref().map(|peaks| peaks.f32_gflops)),
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Fails on values out of range.
    fn check(&self, ranks: Option<&Ranks>) -> Result<()> {
        let numbers = [("--bandwidth", self.bandwidth), ("--latency", self.latency), ("--faster", Some(self.faster))];
        for (flag, value) in numbers {
            if let Some(value) =
                value.filter(|value| !value.is_finite() || *value < 0.0 || *value == 0.0 && flag != "--latency")
            {
                return Err(Error::usage(format!("{flag} {value}"), "give a number above 0"));
            }
        }
        if !(1..=MOST_UPDATES).contains(&self.updates) || !(1..=MOST_RANKS).contains(&self.ranks) {
            let what = format!("--updates {} --ranks {}", self.updates, self.ranks);
            return Err(Error::usage(
                what,
                format!("time 1 to {MOST_UPDATES} updates, and predict for 1 to {MOST_RANKS} ranks"),
            ));
        }
        if ranks.is_none() && (self.bandwidth.is_none() || self.latency.is_none()) {
            return Err(Error::usage(
                "nothing is known of what connects machines",
                "start two or more ranks by mpirun, which measure it, or say it by --bandwidth and --latency",
            ));
        }
        Ok(())
    }

    fn report(&self, measured: Measured) -> Report {
        let said = Link {
            latency: self.latency.unwrap_or(0.0) / 1e6,
            bandwidth: self.bandwidth.unwrap_or(f64::INFINITY) * 1e9 / 8.0,
        };
        let mut link = measured.link.unwrap_or(said);
        link.latency = self.latency.map_or(link.latency, |_| said.latency);
        link.bandwidth = self.bandwidth.map_or(link.bandwidth, |_| said.bandwidth);
        let slots = measured.slots;
        let check = measured.together.map(|together| {
            let ranks = together.ranks;
            let gradients: u64 = measured.work.bytes.iter().sum();
            Check {
                ranks,
                predicted: scale::weak(&measured.work, &measured.link.unwrap_or(link), ranks, slots).seconds,
                measured: together.timing.seconds,
                waited: together.timing.waited,
                bytes: [together.timing.bytes, 2 * (ranks - 1) * gradients / ranks],
            }
        });
        let mut work = measured.work;
        work.fixed /= self.faster;
        work.per_slot /= self.faster;
        let counts = || (0..).map(|power| 1_u64 << power).take_while(|ranks| *ranks <= self.ranks);
        let weak = counts().map(|ranks| scale::weak(&work, &link, ranks, slots)).collect();
        let strong = counts().map_while(|ranks| scale::strong(&work, &link, ranks, STRONG * slots)).collect();
        Report { measured, link, check, weak, strong }
    }
}

/// How many times the slots of a rank the batch has that is divided in the prediction of strong scaling.
const STRONG: usize = 16;

fn print(report: &Report, preset: &str, peak: Option<f64>) {
    let Report { measured, link, check, weak, strong } = report;
    let Measured { work, slots, parameters, flops, sums, .. } = measured;
    let whole = work.seconds(*slots as f64);
    let gflops = *flops as f64 / whole / 1e9;
    let of_peak = peak.map_or(String::new(), |peak| format!(" ({:.0} % of the f32 peak)", 100.0 * gflops / peak));
    let [early, late] = work.bytes.map(|bytes| bytes as f64 / 1e6);
    say(format_args!(
        "{preset}: {parameters} parameters, {:.2} MB of gradients, of which {early:.2} MB travel while {:.0} % of the computing is \
         left",
        early + late,
        100.0 * work.after
    ));
    say(format_args!(
        "a rank with {slots} slots: {:.1} ms an update, {:.1} ms of it whatever the slots; {gflops:.1} GFLOP/s{of_peak}; times \
         scatter by {:.1} %",
        1e3 * whole,
        1e3 * work.fixed,
        100.0 * work.scatter
    ));
    for (bytes, seconds) in sums {
        say(format_args!(
            "a sum of {:.3} MB: {}, by the model {:.2} ms",
            *bytes as f64 / 1e6,
            if *seconds > 0.0 { format!("{:.2} ms", 1e3 * seconds) } else { "no longer than copying".into() },
            1e3 * measured
                .link
                .map_or(0.0, |own| own.sum_seconds(check.as_ref().map_or(1, |check| check.ranks), *bytes))
        ));
    }
    let gbits = 8.0 * link.bandwidth / 1e9;
    say(format_args!("between ranks: {:.1} us a message, {gbits:.2} Gbit/s", 1e6 * link.latency));
    if let Some(Check { ranks, predicted, measured, waited, bytes: [sent, least] }) = check {
        say(format_args!(
            "{ranks} ranks: measured {:.1} ms an update, predicted {:.1} ms ({:+.1} %); {:.1} ms of waiting, {:.3} MB sent by each, \
             2 (N - 1) / N of the gradients are {:.3} MB",
            1e3 * measured,
            1e3 * predicted,
            100.0 * (predicted / measured - 1.0),
            1e3 * waited,
            *sent as f64 / 1e6,
            *least as f64 / 1e6
        ));
    }
    let table = |title: String, rows: &[Predicted]| {
        say(format_args!("\n{title}\n ranks  batch    ms/update  slots/s  efficiency  limited by"));
        for row in rows {
            say(format_args!(
                "{:6} {:6} {:12.1} {:8.1} {:9.0} %  {}",
                row.ranks,
                row.batch,
                1e3 * row.seconds,
                row.batch / row.seconds,
                100.0 * row.efficiency,
                row.limit.name()
            ));
        }
    };
    table(format!("weak scaling, {slots} slots on each rank"), weak);
    table(format!("strong scaling, a batch of {} slots", STRONG * slots), strong);
}
