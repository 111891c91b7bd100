//! `deepj corpus`.

use std::path::PathBuf;

use deepj::Result;
use deepj::music::Warning;
use deepj::music::{Baselines, CorpusOptions, CorpusReport, NoteRange, Part};
use deepj::train::read_corpus;
use serde::Serialize;

use super::{say, say_json, tell};

/// Report what a corpus holds
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  deepj corpus --data midi
  deepj corpus --data midi --baselines --json")]
pub struct CorpusCommand {
    /// A folder with <genre>/<composer>/*.mid [default: the pieces within the program]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Measure what models that remember next to nothing reach, fitted on the training pieces: of play a unigram and a bigram of each
    /// pitch, of replay a rate of each pitch, of dynamics the mean of the piece so far
    // An alias of earlier versions, for scripts.
    #[arg(long, alias = "floors")]
    baselines: bool,
    /// Seed of the split into training, validation and test pieces
    #[arg(long, value_name = "N", default_value_t = 0)]
    split_seed: u64,
    /// MIDI pitches of the rolls
    #[arg(long, value_name = "LOW..=HIGH", default_value_t)]
    notes: NoteRange,
    /// Extend notes to the release of the sustain pedal
    #[arg(long)]
    pedal: bool,
    /// Fail if one file or folder cannot be used or is odd, instead of skipping it or warning
    #[arg(long)]
    strict: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    corpus: &'a CorpusReport,
    split: Counts,
    /// Called as scripts have always read it.
    #[serde(rename = "floors", skip_serializing_if = "Option::is_none")]
    baselines: Option<HeldOut>,
}

/// Pieces by part of the split.
#[derive(Serialize)]
struct Counts {
    train: usize,
    validation: usize,
    test: usize,
}

/// Baselines on the two held-out parts; `None` where a part is empty.
#[derive(Serialize)]
struct HeldOut {
    validation: Option<Baselines>,
    test: Option<Baselines>,
}

impl CorpusCommand {
    pub fn run(self) -> Result<()> {
        let options =
            CorpusOptions { range: self.notes, pedal: self.pedal, strict: self.strict, ..CorpusOptions::default() };
        let corpus = read_corpus(self.data.as_deref(), &options)?;
        let split = corpus.split(self.split_seed);
        let counts = Counts { train: split.train.len(), validation: split.validation.len(), test: split.test.len() };
        let baselines = if self.baselines {
            let train = corpus.part(&split, Part::Train)?;
            let held_out = |part| {
                let pieces = corpus.part(&split, part)?;
                if pieces.is_empty() { Ok(None) } else { Baselines::measure(&train, &pieces).map(Some) }
            };
            Some(HeldOut { validation: held_out(Part::Validation)?, test: held_out(Part::Test)? })
        } else {
            None
        };
        for Warning { file, warning } in &corpus.report.warnings {
            tell(format_args!("warning: {file}: {warning}"));
        }
        for note in &corpus.report.remarks {
            tell(format_args!("note: {note}"));
        }
        if self.json {
            return say_json(&Report { corpus: &corpus.report, split: counts, baselines });
        }
        say(corpus.report.to_string().trim_end());
        say(format_args!(
            "split with seed {}: {} training, {} validation, {} test pieces",
            self.split_seed, counts.train, counts.validation, counts.test
        ));
        if let Some(HeldOut { validation, test }) = baselines {
            for (part, baselines) in [("validation", validation), ("test", test)] {
                match baselines {
                    Some(b) => say(format_args!(
                        "{part}: play {:.3} nats a step for the unigram, {:.3} for the bigram; replay {:.5} a cell for a rate by pitch, \
                         dynamics {:.5} for the mean so far ({} steps, fitted on {})",
                        b.unigram, b.bigram, b.replay_bce, b.dynamics_mse, b.steps, b.fitted_steps
                    )),
                    None => say(format_args!("{part}: no pieces")),
                }
            }
        }
        Ok(())
    }
}
