//! `deepj benchmark`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use deepj::benchmark::bl2012::{Data, KEYS, Set};
use deepj::benchmark::{Convention, Likelihood, PUBLISHED, Published, prepare};
use deepj::checkpoint::{Checkpoint, RUNS};
use deepj::models;
use deepj::music::{NoteRange, Part};
use deepj::train::{End, Outcome, ResumeMode, TrainOptions, train_and_hold};
use deepj::{Error, Result};
use serde::Serialize;

use super::train::Progress;
use super::training::TrainingArguments;
use super::{Provenance, TrainingDeviceArguments, bar, pair, say, say_json, signals::Signals, tell};

/// Measure models on the data of published figures
#[derive(Args)]
#[command(after_help = "\
Examples:
  deepj benchmark bl2012 --data bl2012 --set jsb
  deepj benchmark bl2012 --data bl2012 --set nottingham --preset small --minutes 60 --json")]
pub struct BenchmarkCommand {
    #[command(subcommand)]
    which: Which,
}

#[derive(Subcommand)]
enum Which {
    Bl2012(Bl2012),
}

impl BenchmarkCommand {
    pub fn run(self) -> Result<ExitCode> {
        match self.which {
            Which::Bl2012(command) => command.run(),
        }
    }
}

/// Train on one of the four sets of Boulanger-Lewandowski et al. (2012), stopping by the validation pieces, and print the
/// log-likelihood of the test pieces beside published ones. The same command goes on with a run that was interrupted
#[derive(Args)]
struct Bl2012 {
    /// The folder with JSB_Chorales.json, Piano_midi.json, Nottingham.json and MuseData.json
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The set: jsb, piano-midi, nottingham or musedata
    #[arg(long)]
    set: Set,
    /// The run's folder [default: runs/bl2012/<set>-<model>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Begin anew: replace the run in the folder
    #[arg(long)]
    force: bool,
    /// Change one field of the network's configuration, for example dropout=0.3 or time_units=64
    #[arg(long, value_name = "FIELD=VALUE", value_parser = pair)]
    config: Vec<(String, String)>,
    #[command(flatten)]
    training: TrainingArguments,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: TrainingDeviceArguments,
}

impl Bl2012 {
    fn run(self) -> Result<ExitCode> {
        let data = Data::read(&self.data, self.set)?;
        let (one_gram, agrees) = data.one_gram()?;
        if !agrees {
            tell(format_args!(
                "note: {}: the note 1-gram has {:.2} nats a step on these test pieces, not the published one: these are other \
                 data, and published figures say nothing of them",
                data.path.display(),
                one_gram.pooled
            ));
        }
        let device = self.device.open()?;
        let selection = self.device.selection();
        let machine = device.machine().to_string();
        let prepared = prepare(self.options(), &data, &device).map_err(in_flags)?;
        let signals = Signals::listen("stopping and saving");
        let device = device.waited_for(signals.wait_options());
        let peaks = self.device.known_peaks(&device);
        let device = self.device.in_time(device, peaks.as_ref());
        let mut progress = Progress::new(peaks, signals.save.clone());
        let trained = train_and_hold(prepared, device.clone(), selection.clone(), &mut progress, &signals.stop);
        let outcome = pollster::block_on(trained);
        progress.bar.finish_and_clear();
        // Held while its best model is measured.
        let (outcome, _folder) = outcome.map_err(in_flags)?;
        let interrupted = || {
            tell("interrupted; the same command goes on from here");
            Ok(signals.exit_code())
        };
        if outcome.end == End::Interrupted {
            return interrupted();
        }
        let checkpoint = Checkpoint::load(outcome.best_checkpoint.as_ref().unwrap_or(&outcome.last_checkpoint))?;
        let total: usize = data.part(Part::Test)?.iter().map(|piece| piece.roll.steps()).sum();
        let bar = bar(total as u64, "{wide_bar} test pieces {percent}% ETA {eta}");
        let done = |steps: usize| bar.set_position(steps as u64);
        let measured = data.likelihood(&checkpoint, device, selection, &signals.stop, done);
        let measured = pollster::block_on(measured);
        bar.finish_and_clear();
        let Some(measured) = measured? else { return interrupted() };
        let one_gram = OneGram { likelihood: one_gram, agrees };
        let report = Report::new(&data, &checkpoint, &outcome, measured, one_gram, machine);
        match self.json {
            true => say_json(&report)?,
            false => report.print(),
        }
        Ok(ExitCode::SUCCESS)
    }

    fn options(&self) -> TrainOptions {
        let said = self.training.options();
        let model = said.model.as_deref().unwrap_or(models::DEFAULT);
        let out = || Path::new(RUNS).join("bl2012").join(format!("{}-{model}", self.set));
        TrainOptions {
            out: Some(self.out.clone().unwrap_or_else(out)),
            resume: if self.force { ResumeMode::Never } else { ResumeMode::Auto },
            force: self.force,
            set: self.config.clone(),
            ..said
        }
    }
}

/// The error with the flag that sets the configuration as it is called here: `--set` names a set.
fn in_flags(e: Error) -> Error {
    let here = |text: String| text.replace("--set ", "--config ").replace("--set,", "--config,");
    // What goes on with the run names a set.
    if e.is_of_device() { e } else { Error { what: here(e.what), remedy: here(e.remedy), ..e } }
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Report<'a> {
    set: Set,
    #[serde(flatten)]
    made: Provenance,
    /// The network's configuration.
    config: serde_json::Value,
    #[serde(serialize_with = "deepj::files::serialize_path")]
    data: PathBuf,
    /// Keys over which likelihoods are summed.
    keys: usize,
    /// Those that the network spans, as training pieces play them; the others have the 1-gram's probability.
    network_keys: NoteRange,
    /// Sequences by part.
    train: usize,
    validation: usize,
    model: &'static str,
    parameters: usize,
    run: &'a Outcome,
    /// The model's log-likelihood on the test pieces.
    test: Likelihood,
    one_gram: OneGram,
    published: Vec<Row>,
}

/// The note 1-gram on the test pieces.
#[derive(Serialize)]
struct OneGram {
    #[serde(flatten)]
    likelihood: Likelihood,
    /// Whether it is the published one.
    agrees: bool,
}

/// A published row.
#[derive(Serialize)]
struct Row {
    model: &'static str,
    value: f64,
    #[serde(skip)]
    decimals: usize,
    convention: Convention,
    source: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    remark: Option<&'static str>,
}

impl<'a> Report<'a> {
    fn new(
        data: &Data,
        model: &Checkpoint,
        run: &'a Outcome,
        test: Likelihood,
        one_gram: OneGram,
        machine: String,
    ) -> Self {
        let row = |row: &Published| Row {
            model: row.model,
            value: row.on(data.set),
            decimals: row.decimals,
            convention: row.convention,
            source: row.source,
            remark: row.remark_on(data.set),
        };
        let config = serde_json::from_str(&model.model.config()).unwrap_or_default();
        Self {
            set: data.set,
            made: Provenance::of(machine),
            config,
            data: data.path.clone(),
            keys: KEYS,
            network_keys: data.corpus.range,
            train: data.split.train.len(),
            validation: data.split.validation.len(),
            model: model.model.architecture(),
            parameters: model.model.layout().elements(),
            run,
            test,
            one_gram,
            published: PUBLISHED.iter().map(row).collect(),
        }
    }

    fn print(&self) {
        let Self { set, keys, network_keys, train, validation, model, parameters, run, test, .. } = self;
        say(format_args!(
            "bl2012 {set}: {train} training, {validation} validation and {} test pieces ({} steps), {keys} keys, of \
             which {} are played in training ({network_keys})",
            test.sequences,
            test.steps,
            network_keys.len()
        ));
        say(format_args!("{model} {}", self.config));
        if let Some(best) = run.best {
            say(format_args!(
                "{model}, {parameters} parameters, best of {} updates by validation after {}: {:.3} nats a step there",
                run.step, best.step, -best.nats_per_step
            ));
        }
        let mean = |name: &str, l: &Likelihood| format!("{name:<22} {:>9.3} {:>13.3}", l.pooled, l.per_sequence);
        say("\ntest log-likelihood in nats a step, summed over the keys, first steps included");
        say(format_args!("{:<22} {:>9} {:>13}", "measured here", "pooled", "per sequence"));
        say(mean(model, test));
        say(mean("note 1-gram", &self.one_gram.likelihood));
        say("\npublished (pooled: mean over all steps)");
        for Row { model, value, decimals, convention, source, remark } in &self.published {
            let remark = remark.map_or(String::new(), |remark| format!("; {remark}"));
            say(format_args!("{model:<22} {value:>9.decimals$}  {convention}; {source}{remark}"));
        }
    }
}
