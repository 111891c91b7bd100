//! `deepj evaluate`.

use std::path::PathBuf;
use std::process::ExitCode;

use deepj::Result;
use deepj::evaluate::{Metrics, evaluate};
use deepj::music::{Baselines, Part};
use deepj::train::corpus_of;
use serde::Serialize;

use super::{DeviceArguments, Provenance, bar, load_checkpoint, say, say_json, signals::Signals, tell};

mod generated;

/// Measure a model's losses on pieces, or generated pieces beside real ones
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  deepj evaluate
  deepj evaluate --checkpoint runs/first --data midi --split test --json
  deepj evaluate --generated pieces --svg quality.svg
  deepj evaluate --generated pieces --against midi --csv quality.csv")]
pub struct Evaluate {
    /// A checkpoint or a run's folder [default: the newest run's best]
    #[arg(long, value_name = "F")]
    checkpoint: Option<PathBuf>,
    /// The corpus [default: the one the model was trained on]
    #[arg(long, value_name = "DIR", conflicts_with = "generated")]
    data: Option<PathBuf>,
    /// Which pieces: train, validation, test, held-out (validation and test) or all [default: validation; with --generated held-out]
    #[arg(long)]
    split: Option<Part>,
    /// Pieces side by side at most
    #[arg(long, value_name = "N", default_value_t = 16)]
    batch: usize,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    generated: generated::Arguments,
    #[command(flatten)]
    device: DeviceArguments,
}

#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    made: Provenance,
    checkpoint: String,
    split: String,
    #[serde(flatten)]
    metrics: &'a Metrics,
    /// What next to no memory reaches, fitted on the training pieces, where these are there.
    #[serde(skip_serializing_if = "Option::is_none")]
    baselines: Option<Baselines>,
}

impl Evaluate {
    pub fn run(self) -> Result<ExitCode> {
        if let Some(folder) = &self.generated.generated {
            let checkpoint = self.checkpoint.as_deref();
            return self.generated.run(folder, checkpoint, self.split, self.json, &self.device);
        }
        let split = self.split.unwrap_or(Part::Validation);
        let (path, checkpoint) = load_checkpoint(self.checkpoint.as_deref())?;
        let corpus = corpus_of(&checkpoint, self.data.as_deref(), false)?.with_styles(&checkpoint.styles)?;
        for skipped in &corpus.report.skipped {
            tell(format_args!("note: skipped {}: {}", skipped.file, skipped.reason));
        }
        if corpus.fingerprint() != checkpoint.corpus.fingerprint {
            tell(format_args!(
                "note: this is not the corpus of the training (fingerprint {:08x}, not {:08x}): pieces that the model has not \
                 seen, or has seen otherwise, may be among them",
                corpus.fingerprint(),
                checkpoint.corpus.fingerprint
            ));
        }
        let pieces = corpus.part(&checkpoint.split, split)?;
        let flat = pieces.iter().filter(|piece| !piece.dynamics).count();
        if flat > 0 {
            let all = pieces.len();
            tell(format_args!(
                "note: {flat} of {all} pieces have no dynamics of their own: that loss is of the others"
            ));
        }
        let device = self.device.open_in_time()?;
        let machine = device.machine().to_string();
        let signals = Signals::listen("stopping");
        let device = device.waited_for(signals.wait_options());
        let total: usize = pieces.iter().map(|piece| piece.roll.steps()).sum();
        let bar = bar(total as u64, "{wide_bar} {percent}% ETA {eta}");
        let done = |steps: usize| bar.set_position(steps as u64);
        let metrics = pollster::block_on(evaluate(
            &checkpoint,
            &pieces,
            self.batch,
            device,
            self.device.selection(),
            &signals.stop,
            done,
        ));
        bar.finish_and_clear();
        let Some(metrics) = metrics? else {
            tell("interrupted: nothing was measured");
            return Ok(signals.exit_code());
        };
        let baselines = corpus.part(&checkpoint.split, Part::Train).ok();
        let baselines = baselines.and_then(|train| Baselines::measure(&train, &pieces).ok());
        if self.json {
            let (checkpoint, split) = (path.display().to_string(), split.to_string());
            let made = Provenance::of(machine);
            let report = Report { made, checkpoint, split, metrics: &metrics, baselines };
            return say_json(&report).map(|()| ExitCode::SUCCESS);
        }
        let m = &metrics;
        say(format_args!("{}, {} pieces, {} steps ({})", path.display(), m.files, m.steps, split));
        for (loss, value) in m.losses.iter() {
            let label = loss.label;
            match m.losses.as_nats(loss, value) {
                Some(nats) => say(format_args!("{label:<9} {nats:.4} nats a step, {value:.5} a cell")),
                None => say(format_args!("{label:<9} {value:.5}")),
            }
        }
        say(format_args!("loss      {:.5}", m.losses.total()));
        if let Some(Baselines { unigram, bigram, replay_bce, dynamics_mse, .. }) = baselines {
            say(format_args!(
                "baselines: play {unigram:.4} nats a step by pitch, {bigram:.4} by pitch and the step before; replay {replay_bce:.5} a \
                 cell by pitch; dynamics {dynamics_mse:.5} by the mean of the piece so far"
            ));
        }
        Ok(ExitCode::SUCCESS)
    }
}
