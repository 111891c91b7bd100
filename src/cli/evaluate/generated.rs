//! `deepj evaluate --generated`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use deepj::checkpoint::{Checkpoint, is_builtin};
use deepj::classify::{Classifier, Parts, Progress, Settings};
use deepj::files::{Outputs, is_standard_stream, write_output};
use deepj::music::{Corpus, CorpusOptions, NoteRange, Part, Piece, Roll};
use deepj::quality::{BAR, Grids, Report, Side, add_frechet, compare, draw, find_copies, median_bars};
use deepj::train::{corpus_of_range, read_corpus};
use deepj::{Error, Result};
use serde::Serialize;

use crate::cli::signals::Signals;
use crate::cli::{
    DeviceArguments, Provenance, bar, check_copies_bound, claim, load_checkpoint, no_corpus, say, say_json, tell,
};

/// What generated pieces are measured by.
#[derive(clap::Args)]
#[command(next_help_heading = "Generated pieces beside real ones")]
pub(super) struct Arguments {
    /// Measure the MIDI files of this folder instead of losses: <genre>/<composer>/*.mid, <genre>/*.mid or *.mid
    #[arg(long, value_name = "DIR")]
    pub(super) generated: Option<PathBuf>,
    /// The real pieces [default: those of the checkpoint's corpus that --split names]
    #[arg(long, value_name = "DIR", requires = "generated")]
    against: Option<PathBuf>,
    /// Bars of the excerpts that both are cut into, 0 for whole pieces [default: the median of the generated pieces]
    #[arg(long, value_name = "N", requires = "generated")]
    bars: Option<usize>,
    /// MIDI pitches that are measured [default: the checkpoint's, or 36..=83]
    #[arg(long, value_name = "LOW..=HIGH", requires = "generated")]
    notes: Option<NoteRange>,
    /// Extend notes to the release of the sustain pedal [default: as in training, or not]
    #[arg(long, requires = "generated")]
    pedal: bool,
    /// Compute MGEval's divergences at different places of the two densities, as its authors' program does
    #[arg(long, requires = "generated")]
    mgeval_compatible: bool,
    /// Look for passages copied from the MIDI files of this folder [default: the checkpoint's training pieces, or --against]
    #[arg(long, value_name = "DIR", requires = "generated")]
    copies_from: Option<PathBuf>,
    /// Count pieces that share more than so many bars with a real one
    #[arg(long, value_name = "BARS", default_value_t = 2.0, requires = "generated")]
    copies_bound: f64,
    /// Train a classifier of genre and composer on the real pieces, which takes a minute, and compare its features by the Fréchet
    /// distance
    #[arg(long, requires = "generated")]
    frechet: bool,
    /// Write the table as CSV
    #[arg(long, value_name = "FILE.csv", requires = "generated")]
    csv: Option<PathBuf>,
    /// Draw the distributions side by side
    #[arg(long, value_name = "FILE.svg", requires = "generated")]
    svg: Option<PathBuf>,
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Named<'a> {
    #[serde(flatten)]
    made: Provenance,
    #[serde(flatten)]
    report: &'a Report,
}

/// The real pieces, those that may have been copied from, and how all are read.
struct Real {
    pieces: Side,
    sources: Side,
    range: NoteRange,
    pedal: bool,
    /// Whose corpus the real pieces are from; none with `--against` alone.
    of_checkpoint: Option<Checkpoint>,
}

impl Arguments {
    pub(super) fn run(
        &self,
        folder: &Path,
        checkpoint: Option<&Path>,
        split: Option<Part>,
        json: bool,
        device: &DeviceArguments,
    ) -> Result<ExitCode> {
        let streams = [&self.csv, &self.svg].into_iter().flatten().filter(|file| is_standard_stream(file)).count();
        if streams > 0 && json {
            return Err(Error::usage("a file and JSON, both on standard output", "name a file"));
        }
        check_copies_bound(self.copies_bound)?;
        let mut outputs = Outputs::default();
        claim(&mut outputs, self.csv.as_deref(), &["csv"])?;
        claim(&mut outputs, self.svg.as_deref(), &["svg"])?;
        let Real { pieces, sources, range, pedal, of_checkpoint } = self.real(checkpoint, split)?;
        let generated = Side::read(folder, range, pedal, true)?;
        let bars = self.bars.unwrap_or_else(|| median_bars(&generated.samples));
        let grids = if self.mgeval_compatible { Grids::Original } else { Grids::Common };
        let mut report = compare(generated, pieces, range, bars, grids);
        find_copies(&mut report, &sources, self.copies_bound);
        if self.frechet {
            let signals = Signals::listen("stopping");
            let corpus = match &of_checkpoint {
                Some(checkpoint) => corpus_of_range(checkpoint, self.against.as_deref(), false, range)?,
                None => {
                    let options = CorpusOptions { range, pedal, ..CorpusOptions::default() };
                    read_corpus(self.against.as_deref(), &options)?
                }
            };
            if !add_features(&mut report, &corpus, device, &signals)? {
                tell("interrupted: nothing was measured");
                return Ok(signals.exit_code());
            }
        }
        for notice in report.notices() {
            tell(format_args!("note: {notice}"));
        }
        if let Some(path) = &self.csv {
            write_output(path, report.csv()?.as_bytes())?;
        }
        if let Some(path) = &self.svg {
            write_output(path, draw(&report).as_bytes())?;
        }
        if json {
            let named = Named { made: Provenance::of(""), report: &report };
            return say_json(&named).map(|()| ExitCode::SUCCESS);
        }
        // Unless standard output is a file.
        if streams == 0 {
            say(report.to_string().trim_end());
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Reads the real pieces: those of `--against`, or of a checkpoint's corpus.
    fn real(&self, checkpoint: Option<&Path>, split: Option<Part>) -> Result<Real> {
        let of_folder = |dir: &Path, range, pedal| Side::read(dir, range, pedal, false);
        let (against, of_checkpoint) = match (&self.against, checkpoint) {
            (Some(against), None) => {
                if let Some(split) = split.filter(|split| *split != Part::All) {
                    let what = format!("--split {split} of --against without a checkpoint, which knows the split");
                    return Err(Error::usage(what, "name the checkpoint with --checkpoint, or leave out --split"));
                }
                let (range, pedal) = (self.notes.unwrap_or_default(), self.pedal);
                let pieces = of_folder(against, range, pedal)?;
                let sources = self.copies_from.as_deref().map(|dir| of_folder(dir, range, pedal)).transpose()?;
                let sources = sources.unwrap_or_else(|| pieces.clone());
                return Ok(Real { sources, pieces, range, pedal, of_checkpoint: None });
            }
            (against, checkpoint) => (against.as_deref(), load_checkpoint(checkpoint)?),
        };
        let (path, checkpoint) = of_checkpoint;
        if is_builtin(&path) && against.is_none() {
            return Err(no_corpus("--against"));
        }
        let (range, pedal) = (self.notes.unwrap_or(checkpoint.corpus.range), self.pedal || checkpoint.corpus.pedal);
        let mut checkpoint = checkpoint;
        checkpoint.corpus.pedal = pedal;
        let corpus = corpus_of_range(&checkpoint, against, false, range).map_err(|mut e| {
            e.remedy = e.remedy.replace("--data", "--against");
            e
        })?;
        let same = corpus.fingerprint() == checkpoint.corpus.fingerprint;
        let part = match (split, same) {
            (Some(part), _) => part,
            (None, true) => Part::HeldOut,
            (None, false) => Part::All,
        };
        if !same {
            let seen = "pieces that the model has seen may be among the real ones";
            tell(format_args!(
                "note: this is not the corpus that {} was trained on: {part} is taken, {seen}",
                path.display()
            ));
        }
        let place = match against.or(checkpoint.corpus.data.as_deref().map(Path::new)) {
            Some(dir) => deepj::files::path_text(dir),
            None => "the program's corpus".into(),
        };
        let side = |part: Part| -> Result<Side> {
            let (pieces, missing) = corpus.part_that_is_here(&checkpoint.split, part)?;
            if missing > 0 {
                let all = pieces.len() + missing;
                tell(format_args!("note: {} of the {all} pieces of the {part} split are in {place}", pieces.len()));
            }
            if pieces.is_empty() {
                let what = format!("the {part} split of {place} holds no piece");
                return Err(Error::usage(what, "take all pieces with --split all, or others with --against"));
            }
            Ok(Side::of_pieces(format!("{place} ({part})"), &pieces, &corpus.styles))
        };
        let mut pieces = side(part)?;
        pieces.skipped = corpus.report.skipped.clone();
        let sources = match &self.copies_from {
            Some(dir) => of_folder(dir, range, pedal)?,
            None => side(if same { Part::Train } else { Part::All })?,
        };
        Ok(Real { pieces, sources, range, pedal, of_checkpoint: Some(checkpoint) })
    }
}

/// Trains a classifier on the training pieces of `corpus`, split by work, and compares what it makes of the generated pieces and of
/// the other real ones, cut to the length of an excerpt; false where it was interrupted.
fn add_features(report: &mut Report, corpus: &Corpus, device: &DeviceArguments, signals: &Signals) -> Result<bool> {
    let settings = Settings::default();
    let parts = Parts::of(corpus, settings.seed.into());
    let opened = device.open_in_time()?.waited_for(signals.wait_options());
    let bar = bar(settings.updates as u64, "{wide_bar} learning {pos}/{len}");
    let progress = |progress: &Progress| bar.set_position(progress.updates as u64);
    let training = Classifier::train(corpus, &parts, &settings, opened, device.selection(), &signals.stop, progress);
    let trained = pollster::block_on(training);
    bar.finish_and_clear();
    let Some(mut classifier) = trained? else { return Ok(false) };
    let steps = if report.bars == 0 { usize::MAX } else { report.bars.saturating_mul(BAR) };
    let mut features = |rolls: Vec<Roll>| -> Result<Vec<Vec<f64>>> {
        let verdicts = pollster::block_on(classifier.hear(&rolls))?;
        Ok(verdicts.into_iter().map(|verdict| verdict.features).collect())
    };
    let generated = features(report.generated.samples.iter().map(|sample| sample.roll.excerpt(0, steps)).collect())?;
    let unseen: Vec<_> = parts.validation.iter().chain(&parts.test).collect();
    let real = features(unseen.iter().map(|piece| piece.roll.excerpt(0, steps)).collect())?;
    let genre = |piece: &Piece| corpus.styles.composers()[piece.style].genre.clone();
    let real: Vec<(String, Vec<f64>)> = unseen.iter().map(|piece| genre(piece)).zip(real).collect();
    add_frechet(report, &generated, &real).map(|()| true)
}
