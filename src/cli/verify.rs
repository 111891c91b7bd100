//! `deepj verify`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use deepj::verify::{self, INSTALL, Report, Supervisor, Target, merged};
use deepj::{Error, Result};

use super::{bar, say, say_json, stop_flag};

/// Whether everything works on this machine's devices, and how fast
#[derive(clap::Args)]
#[command(after_help = "\
Every kernel in every variant and many shapes, forward and backward, against the f64 mirror on the CPU; a short training and a short
piece against the mirror's; peaks and timings. It takes some minutes a device. The report names neither the machine nor its user.

Examples:
  deepj verify --report report.json              the CPU mirror and all hardware adapters (without one: those in software)
  deepj verify --device nvidia --only lstm       some checks of one adapter
  deepj verify --merge *.json --markdown         the matrix of ops and adapters of many reports")]
pub struct VerifyVerb {
    /// auto (hardware), all, cpu, an adapter's index or a part of names (see `deepj adapters`)
    #[arg(long, env = "DEEPJ_DEVICE", default_value = "auto", value_name = "D")]
    device: String,
    /// Write the report to this file, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Run only checks whose name (op/shape/variant/adapter) contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Show these reports together instead of verifying
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["report", "only", "json", "worker"])]
    merge: Vec<PathBuf>,
    /// Show the matrix of ops and adapters in markdown
    #[arg(long, requires = "merge")]
    markdown: bool,
    /// The device whose checks this process runs, for a process that listens
    #[arg(long, hide = true)]
    worker: Option<String>,
    /// The first task to do
    #[arg(long, hide = true, default_value_t = 0)]
    from: usize,
}

impl VerifyVerb {
    pub fn run(self) -> Result<()> {
        if let Some(device) = &self.worker {
            let target = match device.parse() {
                Ok(index) => Target::Adapter(index),
                Err(_) => Target::Cpu,
            };
            // Standard output is how a worker tells, and a listener that has gone ends it.
            return verify::work(target, self.from, self.only.as_deref(), |event| drop(say_json(&event)));
        }
        if !self.merge.is_empty() {
            return self.show();
        }
        self.verify()
    }

    fn show(&self) -> Result<()> {
        let reports = self.merge.iter().map(|path| Report::read(path)).collect::<Result<Vec<_>>>()?;
        if self.markdown {
            say(verify::markdown(&merged(&reports)).trim_end());
        } else {
            for column in merged(&reports) {
                say(verify::summary(column.device).trim_end());
            }
        }
        Ok(())
    }

    fn verify(&self) -> Result<()> {
        let adapters = pollster::block_on(deepj::gpu::adapters());
        let chosen = verify::targets(&self.device, &adapters)?;
        let mut report = Report::new();
        if adapters.is_empty() {
            report.notes.push("no adapter is here: only the CPU mirror is verified".into());
            report.notes.extend(INSTALL.map(String::from));
            report.notes.iter().for_each(|note| eprintln!("{note}"));
        }
        if let Some(part) = &self.only {
            report.notes.push(format!("only checks whose name contains `{part}` were to be run"));
        }
        // A file that cannot be written is told of now, not after minutes.
        self.save(&report)?;

        let program = verify::this_program()?;
        let command = |target: Target, from: usize| self.command(&program, target, from);
        let stop = stop_flag();
        let supervisor = Supervisor { command: &command, stop: &stop, silence: None };
        let adapters = chosen.iter().map(|&i| (Target::Adapter(i), Some(adapters[i].clone())));
        let targets: Vec<_> = std::iter::once((Target::Cpu, None)).chain(adapters).collect();
        let all = targets.len();
        for (place, (target, capabilities)) in (1..).zip(targets) {
            let name = capabilities.as_ref().map_or_else(|| "CPU mirror".into(), ToString::to_string);
            let mut shown = Shown::new(format!("{place}/{all} {name}"));
            let device = supervisor.verify(target, capabilities, |task, done, tasks| shown.progress(task, done, tasks));
            shown.bar.finish_and_clear();
            let empty = device.checks.is_empty() && device.failures.is_empty();
            // A selection need not have checks for every device.
            if !(empty && self.only.is_some()) {
                if !self.json {
                    say(verify::summary(&device).trim_end());
                }
                report.devices.push(device);
            }
            report.complete = place == all && self.only.is_none() && !stop.load(Ordering::Relaxed);
            self.save(&report)?;
            if stop.load(Ordering::Relaxed) {
                break;
            }
        }
        if self.json {
            say_json(&report)?;
        }
        if let Some(path) = &self.report {
            eprintln!("the report is in {}", path.display());
        }
        self.verdict(&report, stop.load(Ordering::Relaxed))
    }

    fn verdict(&self, report: &Report, stopped: bool) -> Result<()> {
        if stopped {
            return Err(Error::run("stopped before all was verified", "what was found until then is reported"));
        }
        let failing: Vec<String> =
            report.devices.iter().filter(|device| !device.defects().is_empty()).map(|device| device.name()).collect();
        if !failing.is_empty() {
            let remedy = "please open an issue with the report (--report FILE) of this machine";
            return Err(Error::run(format!("not all is as it must be on {}", failing.join(", ")), remedy));
        }
        if report.devices.is_empty() {
            let what = format!("no check's name contains `{}`", self.only.as_deref().unwrap_or_default());
            return Err(Error::usage(what, "give a part of a name such as gemm/NN or lstm/backward"));
        }
        Ok(())
    }

    fn save(&self, report: &Report) -> Result<()> {
        self.report.as_ref().map_or(Ok(()), |path| report.write(path))
    }

    fn command(&self, program: &Path, target: Target, from: usize) -> Command {
        let mut command = Command::new(program);
        let target = match target {
            Target::Cpu => "cpu".into(),
            Target::Adapter(index) => index.to_string(),
        };
        command.args(["verify", "--worker", &target, "--from", &from.to_string()]);
        if let Some(part) = &self.only {
            command.args(["--only", part]);
        }
        command
    }
}

/// How a device's verification goes: a bar on a terminal, a line now and then elsewhere.
struct Shown {
    bar: indicatif::ProgressBar,
    device: String,
    told: Option<Instant>,
}

impl Shown {
    /// Between two lines where there is no terminal.
    const PAUSE: Duration = Duration::from_secs(20);

    fn new(device: String) -> Self {
        Self { bar: bar(0, "{wide_bar} {prefix} {pos}/{len}: {msg}").with_prefix(device.clone()), device, told: None }
    }

    fn progress(&mut self, task: &str, done: usize, tasks: usize) {
        self.bar.set_length(tasks as u64);
        self.bar.set_position(done as u64);
        self.bar.set_message(task.to_string());
        if self.bar.is_hidden() && self.told.is_none_or(|told| told.elapsed() > Self::PAUSE) {
            eprintln!("{}: {done} of {tasks}, {task}", self.device);
            self.told = Some(Instant::now());
        }
    }
}
