//! `deepj experiment`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;
use deepj::checkpoint::RUNS;
use deepj::distributed::{Ranks, Wire};
use deepj::experiment::{self, Experiment, Next, Results, RunResult, Source, folder_name, markdown, page, page_within};
use deepj::files::{FileLock, Outputs, path_text, write_output};
use deepj::{Error, Result};
use indicatif::HumanDuration;

use super::train::Progress;
use super::{TrainingDeviceArguments, claim, ranks, say, signals::Signals, tell};

/// Train configurations with several seeds, and compare them
#[derive(Args)]
#[command(after_help = "\
Runs that are done stay done, and one that was stopped goes on: the same command again comes to the same tables.

Examples:
  deepj experiment experiments/quick.toml
  deepj experiment experiments/paper.toml --data midi --out runs/paper
  deepj experiment experiments/paper.toml --table          what is done so far
  deepj experiment --report docs/PAPER.md experiments/results/paper.json")]
pub struct ExperimentCommand {
    /// The experiment, in TOML; with --report result files: of experiments, of `deepj benchmark --json`, of benches/peers/compare.py, and what other commands print with --json
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The corpus, instead of the one that the file names
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The folder of runs and results [default: runs/<name of the experiment>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Run nothing: write the tables of the runs that are done
    #[arg(long)]
    table: bool,
    /// Run nothing: write a page (Markdown) with all claims in the result files and what these say of them; in a page with lines <!--
    /// measured --> and <!-- end of measured -->, what is between these
    #[arg(long, value_name = "PAGE", conflicts_with_all = ["data", "out", "table", "json"])]
    report: Option<PathBuf>,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: TrainingDeviceArguments,
}

impl ExperimentCommand {
    pub fn run(self) -> Result<ExitCode> {
        if let Some(page) = &self.report {
            return self.write_report(page).map(|()| ExitCode::SUCCESS);
        }
        let [file] = &self.files[..] else {
            return Err(Error::usage("several experiments at once", "name one, or --report for several result files"));
        };
        if !self.table {
            let ranks = ranks::join(Wire::F32)?;
            let read = Ranks::agree_if_several(ranks.as_ref(), self.read(file));
            let done = read.and_then(|(experiment, out)| self.make(&experiment, &out, ranks.as_ref()));
            return ranks::conclude(ranks, done);
        }
        let (experiment, out) = self.read(file)?;
        let results = Results::gather(&experiment, &out)?;
        // While the experiment goes on, its files are its own.
        if let Ok(_lock) = FileLock::acquire(&out) {
            results.write(&out)?;
        }
        self.show(&results, &out).map(|()| ExitCode::SUCCESS)
    }

    /// The experiment, and the folder of its runs.
    fn read(&self, file: &Path) -> Result<(Experiment, PathBuf)> {
        let mut experiment = Experiment::read(file)?;
        experiment.data = self.data.clone().or(experiment.data);
        let out = self.out.clone().unwrap_or_else(|| Path::new(RUNS).join(folder_name(&experiment.name)));
        Ok((experiment, out))
    }

    /// Makes the runs, alone or divided over several processes.
    fn make(&self, experiment: &Experiment, out: &Path, ranks: Option<&Ranks>) -> Result<ExitCode> {
        let device = match ranks {
            None => self.device.open()?,
            Some(ranks) => ranks.agree(self.device.open_for(ranks.on_host().0))?,
        };
        let signals = Signals::listen("stopping and saving");
        let device = device.waited_for(signals.wait_options());
        let (peaks, _) = self.device.peaks_of_all(&device, ranks)?;
        let device = self.device.in_time(device, peaks.as_ref());
        let mut progress = Progress::new(peaks, signals.save.clone());
        let (selection, stop) = (self.device.selection(), &signals.stop);
        let made = match ranks {
            None => pollster::block_on(experiment::run(experiment, out, device, selection, &mut progress, stop)),
            Some(ranks) => {
                let on = (device, selection);
                pollster::block_on(experiment::run_among(experiment, out, on, &mut progress, stop, ranks))
            }
        };
        progress.bar.finish_and_clear();
        let results = made?;
        self.show(&results, out)?;
        let (done, planned) = (results.runs.len(), results.planned());
        if done < planned {
            tell(format_args!("{done} of {planned} runs are done; the same command goes on from there"));
        }
        let stopped = match ranks {
            None => signals.stop.load(Ordering::Relaxed).then(|| signals.exit_code()),
            Some(ranks) => signals.exit_code_of_all(ranks)?,
        };
        if let Some(code) = stopped {
            return Ok(code);
        }
        let trained = |run: &&RunResult| experiment.find(&run.configuration).is_some_and(|of| of.model_of.is_none());
        let failed = results.runs.iter().filter(trained).filter(|run| run.failure.is_some()).count();
        // All have the same results.
        ranks.iter().for_each(|ranks| ranks.all_have_it());
        match failed {
            0 => Ok(ExitCode::SUCCESS),
            _ => Err(Error::run(format!("{failed} of {planned} runs failed"), "the tables say which, and why")),
        }
    }

    fn show(&self, results: &Results, out: &Path) -> Result<()> {
        match self.json {
            true => say(results.to_json()?.trim_end()),
            false => say(format_args!("{}\nFiles: {}", markdown(results).trim_end(), out.display())),
        }
        Ok(())
    }

    fn write_report(&self, target: &Path) -> Result<()> {
        let mut outputs = Outputs::default();
        self.files.iter().for_each(|file| outputs.reads(file));
        claim(&mut outputs, Some(target), &["md"])?;
        for (i, file) in self.files.iter().enumerate() {
            if self.files[..i].iter().any(|other| same_file::is_same_file(other, file).unwrap_or(false)) {
                return Err(Error::usage(format!("{} is named twice", path_text(file)), "name each file once"));
            }
        }
        let all = self.files.iter().map(|file| Source::read(file)).collect::<Result<Vec<_>>>()?;
        let files: Vec<String> = self.files.iter().map(path_text).collect();
        let command = format!("deepj experiment --report {} {}", path_text(target), files.join(" "));
        // What is not a file has no page in it, and reading it could wait for ever.
        let before = match target.is_file() {
            true => {
                std::fs::read_to_string(target).map_err(|e| Error::file(target, e.to_string(), "name another page"))?
            }
            false => String::new(),
        };
        let within = page_within(&before, &all, &command);
        let within = within.map_err(|e| Error::file(target, e.what, e.remedy))?;
        write_output(target, within.unwrap_or_else(|| page(&all, &command)).as_bytes())
    }
}

impl experiment::Observer for Progress {
    fn begins(&mut self, next: &Next) {
        let left = next.seconds_left.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let left = left.map_or(String::new(), |left| format!(", {} left in all", HumanDuration(left)));
        let (number, planned) = (next.done + 1, next.planned);
        self.line(format_args!("run {number} of {planned}: `{}`, seed {}{left}", next.configuration, next.seed));
    }

    fn ended(&mut self, result: &RunResult) {
        if let Some(failure) = &result.failure {
            self.line(format_args!("`{}`, seed {}, failed: {failure}", result.configuration, result.seed));
        }
    }
}
