//! `deepj evaluate`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use deepj::Result;
use deepj::checkpoint::{Checkpoint, is_builtin};
use deepj::evaluate::{Metrics, evaluate_groups};
use deepj::models::Loss;
use deepj::music::{Baselines, Corpus, Part, Piece};
use deepj::shape::Channel;
use deepj::train::corpus_of;
use serde::Serialize;

use super::{
    DeviceArguments, ModelReport, Provenance, bar, load_checkpoint, no_corpus, say, say_json, signals::Signals, tell,
};

mod generated;

/// Measure a model's losses on pieces, or generated pieces beside real ones
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  deepj evaluate --data midi
  deepj evaluate --checkpoint runs/first --data midi --split test --json
  deepj evaluate --generated pieces --svg quality.svg
  deepj evaluate --generated pieces --against midi --csv quality.csv")]
pub struct Evaluate {
    /// A checkpoint, a run's folder, or builtin [default: the newest run's best, else builtin, the weights within the program]
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
    #[serde(flatten)]
    model: ModelReport,
    /// That of the training: of initial values, orders and dropout.
    seed: u32,
    /// Updates of the training.
    updates: u64,
    split: String,
    /// That of the split into training, validation and test pieces.
    split_seed: u64,
    /// Pieces of the split that are not in the corpus.
    missing: usize,
    #[serde(flatten)]
    all: &'a OfPieces,
    /// Of each genre's pieces, where there are several genres.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    genres: &'a BTreeMap<String, OfPieces>,
    /// What next to no memory reaches, fitted on those training pieces that are in the corpus.
    #[serde(skip_serializing_if = "Option::is_none")]
    baselines: Option<Baselines>,
}

/// The losses on some pieces.
#[derive(Serialize)]
struct OfPieces {
    #[serde(flatten)]
    metrics: Metrics,
    /// How many of them have dynamics of their own, which that loss is of.
    with_dynamics: usize,
}

impl OfPieces {
    fn new(metrics: Metrics, pieces: &[Arc<Piece>]) -> Self {
        Self { metrics, with_dynamics: pieces.iter().filter(|piece| piece.dynamics).count() }
    }

    /// Each loss that is one of some piece.
    fn losses(&self) -> impl Iterator<Item = (&'static Loss, f64, Option<f64>)> {
        let of = &self.metrics.losses;
        let counts = |loss: &Loss| self.with_dynamics > 0 || loss.channel != Channel::Dynamics;
        of.iter().filter(move |(loss, _)| counts(loss)).map(|(loss, value)| (loss, value, of.as_nats(loss, value)))
    }
}

impl Evaluate {
    pub fn run(self) -> Result<ExitCode> {
        if let Some(folder) = &self.generated.generated {
            let checkpoint = self.checkpoint.as_deref();
            return self.generated.run(folder, checkpoint, self.split, self.json, &self.device);
        }
        let split = self.split.unwrap_or(Part::Validation);
        let (path, checkpoint) = load_checkpoint(self.checkpoint.as_deref())?;
        if is_builtin(&path) && self.data.is_none() {
            return Err(no_corpus("--data"));
        }
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
        let (pieces, missing) = pieces(&corpus, &checkpoint, split)?;
        let device = self.device.open_in_time()?;
        let machine = device.machine().to_string();
        let signals = Signals::listen("stopping");
        let device = device.waited_for(signals.wait_options());
        let total: usize = pieces.iter().map(|piece| piece.roll.steps()).sum();
        let bar = bar(total as u64, "{wide_bar} {percent}% ETA {eta}");
        let done = |steps: usize| bar.set_position(steps as u64);
        let mut by_genre: BTreeMap<&str, Vec<Arc<Piece>>> = BTreeMap::new();
        for piece in &pieces {
            by_genre.entry(&corpus.styles.composers()[piece.style].genre).or_default().push(piece.clone());
        }
        let (names, groups): (Vec<_>, Vec<_>) = by_genre.into_iter().unzip();
        let measured = pollster::block_on(evaluate_groups(
            &checkpoint,
            &groups,
            self.batch,
            device,
            self.device.selection(),
            &signals.stop,
            done,
        ));
        bar.finish_and_clear();
        let Some((metrics, of_genres)) = measured? else {
            tell("interrupted: nothing was measured");
            return Ok(signals.exit_code());
        };
        let all = OfPieces::new(metrics, &pieces);
        let of_genres = of_genres.into_iter().zip(&groups).map(|(metrics, pieces)| OfPieces::new(metrics, pieces));
        let mut genres: BTreeMap<String, OfPieces> = names.into_iter().map(String::from).zip(of_genres).collect();
        if genres.len() == 1 {
            genres.clear();
        }
        let train = corpus.part_that_is_here(&checkpoint.split, Part::Train).ok();
        let baselines = train.and_then(|(train, _)| Baselines::measure(&train, &pieces).ok());
        if self.json {
            let (loaded, checkpoint, split) = (&checkpoint, path.display().to_string(), split.to_string());
            let report = Report {
                made: Provenance::of(machine),
                checkpoint,
                model: ModelReport::of(loaded.model.as_ref())?,
                seed: loaded.settings.seed,
                updates: loaded.progress.step,
                split,
                split_seed: loaded.split.seed,
                missing,
                all: &all,
                genres: &genres,
                baselines,
            };
            return say_json(&report).map(|()| ExitCode::SUCCESS);
        }
        let Metrics { files, steps, .. } = all.metrics;
        say(format_args!("{}, {files} pieces, {steps} steps ({split})", path.display()));
        print(&all, &genres, baselines.as_ref());
        Ok(ExitCode::SUCCESS)
    }
}

/// The pieces of a split, and how many of it are not in the corpus; what has to be known of them is said.
fn pieces(corpus: &Corpus, checkpoint: &Checkpoint, split: Part) -> Result<(Vec<Arc<Piece>>, usize)> {
    let (pieces, missing) = corpus.part_that_is_here(&checkpoint.split, split)?;
    if missing > 0 {
        let (here, all) = (pieces.len(), pieces.len() + missing);
        tell(format_args!("note: {here} of the {all} pieces of the {split} split are in this corpus, and measured"));
    }
    let flat = pieces.iter().filter(|piece| !piece.dynamics).count();
    if flat > 0 {
        let all = pieces.len();
        tell(format_args!("note: {flat} of {all} pieces have no dynamics of their own: that loss is of the others"));
    }
    Ok((pieces, missing))
}

fn print(all: &OfPieces, genres: &BTreeMap<String, OfPieces>, baselines: Option<&Baselines>) {
    for (Loss { label, .. }, value, nats) in all.losses() {
        match nats {
            Some(nats) => say(format_args!("{label:<9} {nats:.4} nats a step, {value:.5} a cell")),
            None => say(format_args!("{label:<9} {value:.5}")),
        }
    }
    say(format_args!("loss      {:.5}", all.metrics.losses.total()));
    for (genre, of) in genres {
        let figure = |(Loss { label, .. }, value, nats): (&Loss, f64, Option<f64>)| match nats {
            Some(nats) => format!("{label} {nats:.4} nats a step"),
            None => format!("{label} {value:.5}"),
        };
        let figures: Vec<String> = of.losses().map(figure).collect();
        say(format_args!("{genre}: {} ({} pieces)", figures.join(", "), of.metrics.files));
    }
    if let Some(Baselines { unigram, bigram, replay_bce, dynamics_mse, fitted_steps, .. }) = baselines {
        say(format_args!(
            "baselines, fitted on {fitted_steps} steps of training pieces: play {unigram:.4} nats a step by pitch, {bigram:.4} by pitch \
             and the step before; replay {replay_bce:.5} a cell by pitch; dynamics {dynamics_mse:.5} by the mean of the piece so far"
        ));
    }
}
