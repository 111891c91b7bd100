//! `deepj verify`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use deepj::files::{Outputs, is_standard_stream};
use deepj::verify::{self, Event, Extent, INSTALL, Report, Supervisor, Target, Tell, merged};
use deepj::{Error, Result, gpu};

use super::{bar, claim, is_given, say, say_json, signals::Signals, tell};

/// Whether everything works on this machine's devices, and how fast
#[derive(clap::Args)]
#[command(after_help = "\
Every kernel in every variant and many shapes, forward and backward, against the f64 reference on the CPU; a short training and a short
piece against the CPU backend's; roofline limits and timings. It takes some minutes a device. The report names neither the machine nor its user.
Exit code 1 where something failed on any device, with --merge in any of the reports or where one has no device: the error says which.

Examples:
  deepj verify --report report.json              the CPU backend and all hardware adapters (without one: those in software)
  deepj verify --device nvidia --only lstm       some checks of one adapter
  deepj verify --merge *.json --markdown         the matrix of ops and adapters of many reports")]
pub struct VerifyCommand {
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

impl VerifyCommand {
    pub fn run(self) -> Result<ExitCode> {
        if let Some(device) = &self.worker {
            let target = match (device.as_str(), device.parse()) {
                ("cpu", _) => Target::Cpu,
                (_, Ok(index)) => Target::Adapter(index),
                (name, _) => return Err(Error::usage(format!("--worker {name}"), "leave it to the program itself")),
            };
            // A listener that has gone ends the worker.
            let tell: Tell = Arc::new(|event| report(&event));
            let extent = Extent { from: self.from, only: self.only.as_deref(), quick: false };
            let worked = verify::work(target, extent, &tell, &|| Box::pin(std::future::ready(())));
            return pollster::block_on(worked).map(|()| ExitCode::SUCCESS);
        }
        if !self.merge.is_empty() {
            return self.show().map(|()| ExitCode::SUCCESS);
        }
        self.verify()
    }

    fn show(&self) -> Result<()> {
        if is_given("--device") {
            return Err(Error::usage(
                "--device has no effect here",
                "leave it out: --merge shows the reports' devices",
            ));
        }
        let reports = self.merge.iter().map(|path| Report::read(path)).collect::<Result<Vec<_>>>()?;
        if self.markdown {
            say(verify::markdown(&merged(&reports)).trim_end());
        } else {
            for column in merged(&reports) {
                say(verify::merged_summary(&column).trim_end());
            }
        }
        let failing = self.merge.iter().zip(&reports).map(|(path, report)| (path.display(), report.failing()));
        let failing: Vec<String> = failing
            .filter(|(_, devices)| !devices.is_empty())
            .map(|(path, devices)| format!("{path} ({})", devices.join(", ")))
            .collect();
        match failing.is_empty() {
            true => Ok(()),
            false => {
                let what = format!("not all is as it must be in {}", failing.join(", "));
                Err(Error::run(what, "show such a report alone to see what failed; leave it out if it is not to count"))
            }
        }
    }

    fn verify(&self) -> Result<ExitCode> {
        // It is written again and again while devices are verified.
        if self.report.as_deref().is_some_and(is_standard_stream) {
            return Err(Error::usage("--report -: a report is a file", "use --json for standard output"));
        }
        let mut outputs = Outputs::default();
        claim(&mut outputs, self.report.as_deref(), &["json"])?;
        let program = verify::this_program()?;
        let mut report = Report::new();
        let mut listing = Command::new(&program);
        listing.args(["adapters", "--json"]);
        let (adapters, unlisted) = match verify::adapters(listing) {
            Ok(adapters) => (adapters, None),
            Err(why) => (vec![], Some(why)),
        };
        if let Some(why) = &unlisted {
            report.note(&format!("the adapters cannot be listed: {why}"));
        } else if adapters.is_empty() {
            match gpu::excluded_by_environment() {
                Some(excluded) => {
                    report.note(&format!("no adapter is here: {excluded}; only the CPU backend is verified"))
                }
                None => {
                    report.note("no adapter is here: only the CPU backend is verified; what to install:");
                    INSTALL.iter().for_each(|line| report.note(line));
                }
            }
        }
        report.notes.iter().for_each(tell);
        if let Some(part) = &self.only {
            report.note(&format!("only checks whose name contains `{part}` were to be run"));
        }
        let chosen = if unlisted.is_some() { vec![] } else { verify::targets(&self.device, &adapters)? };

        let command = |target: Target, from: usize| self.command(&program, target, from);
        let signals = Signals::listen("stopping, and writing the report of what was found");
        let supervisor = Supervisor { command: &command, stop: &signals.stop, silence: None };
        let adapters = chosen.iter().map(|&i| (Target::Adapter(i), Some(adapters[i].clone())));
        let targets: Vec<_> = std::iter::once((Target::Cpu, None)).chain(adapters).collect();
        let all = targets.len();
        for (place, (target, capabilities)) in (1..).zip(targets) {
            let name = capabilities.as_ref().map_or_else(|| "CPU backend".into(), ToString::to_string);
            let mut shown = Shown::new(format!("{place}/{all} {name}"));
            let mut saved: Option<Instant> = None;
            let device = supervisor.verify(target, capabilities, |device, done, tasks| {
                shown.progress(device.running.as_deref().unwrap_or_default(), done, tasks);
                // Where a machine stands still, what is on the disk is all there is.
                if saved.is_none_or(|saved| saved.elapsed() > Shown::SAVED) {
                    saved = Some(Instant::now());
                    let so_far = report.devices.iter().cloned().chain([device.clone()]).collect();
                    // The end tells of a file that cannot be written.
                    let _ = self.save(&Report { devices: so_far, ..report.clone() });
                }
            });
            shown.bar.finish_and_clear();
            let empty = device.checks.is_empty() && device.failures.is_empty();
            // A selection need not have checks for every device.
            if !(empty && self.only.is_some()) {
                if !self.json {
                    say(verify::summary(&device).trim_end());
                }
                report.devices.push(device);
            }
            let stopped = signals.stop.load(Ordering::Relaxed);
            report.complete = place == all && self.only.is_none() && unlisted.is_none() && !stopped;
            self.save(&report)?;
            if stopped {
                break;
            }
        }
        if self.json {
            say_json(&report)?;
        }
        if let Some(path) = &self.report {
            tell(format_args!("the report is in {}", path.display()));
        }
        if let Some(why) = unlisted {
            return Err(Error::device(format!("the adapters cannot be listed: {why}"), "update or remove the drivers"));
        }
        if signals.stop.load(Ordering::Relaxed) {
            tell("stopped before all was verified; what was found until then is reported");
            return Ok(signals.exit_code());
        }
        self.verdict(&report).map(|()| ExitCode::SUCCESS)
    }

    fn verdict(&self, report: &Report) -> Result<()> {
        if report.devices.is_empty() {
            let what = format!("no check's name contains `{}`", self.only.as_deref().unwrap_or_default());
            return Err(Error::usage(what, "give a part of a name such as gemm/NN or lstm/backward"));
        }
        let failing = report.failing();
        if !failing.is_empty() {
            let remedy = "please open an issue with the report (--report FILE) of this machine";
            return Err(Error::run(format!("not all is as it must be on {}", failing.join(", ")), remedy));
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
    /// Between two reports on the disk.
    const SAVED: Duration = Duration::from_secs(1);
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
            tell(format_args!("{}: {done} of {tasks}, {task}", self.device));
            self.told = Some(Instant::now());
        }
    }
}

/// Writes an event as a line of its own, in one piece, whatever a driver has written before on standard output.
fn report(event: &Event) {
    if let Ok(text) = serde_json::to_string(event)
        && std::io::stdout().lock().write_all(format!("\n{text}\n").as_bytes()).is_err()
    {
        std::process::exit(1);
    }
}
