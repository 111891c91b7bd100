//! `deepj evaluate --generated`.

use std::path::{Path, PathBuf};

use deepj::files::{Outputs, is_standard_stream, write_output};
use deepj::music::{NoteRange, Part};
use deepj::quality::{Grids, Side, compare, draw, find_copies, median_bars};
use deepj::train::corpus_of_range;
use deepj::{Error, Result};

use crate::cli::{check_copies_bound, claim, load_checkpoint, say, say_json, tell};

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
    /// Write the table as CSV
    #[arg(long, value_name = "FILE.csv", requires = "generated")]
    csv: Option<PathBuf>,
    /// Draw the distributions side by side
    #[arg(long, value_name = "FILE.svg", requires = "generated")]
    svg: Option<PathBuf>,
}

/// The real pieces, those that may have been copied from, and how all are read.
struct Real {
    pieces: Side,
    sources: Side,
    range: NoteRange,
    pedal: bool,
}

impl Arguments {
    pub(super) fn run(&self, folder: &Path, checkpoint: Option<&Path>, split: Option<Part>, json: bool) -> Result<()> {
        let streams = [&self.csv, &self.svg].into_iter().flatten().filter(|file| is_standard_stream(file)).count();
        if streams > 0 && json {
            return Err(Error::usage("a file and JSON, both on standard output", "name a file"));
        }
        check_copies_bound(self.copies_bound)?;
        let mut outputs = Outputs::default();
        claim(&mut outputs, self.csv.as_deref(), &["csv"])?;
        claim(&mut outputs, self.svg.as_deref(), &["svg"])?;
        let Real { pieces, sources, range, pedal } = self.real(checkpoint, split)?;
        let generated = Side::read(folder, range, pedal, true)?;
        let bars = self.bars.unwrap_or_else(|| median_bars(&generated.samples));
        let grids = if self.mgeval_compatible { Grids::Original } else { Grids::Common };
        let mut report = compare(generated, pieces, range, bars, grids);
        find_copies(&mut report, &sources, self.copies_bound);
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
            return say_json(&report);
        }
        // Unless standard output is a file.
        if streams == 0 {
            say(report.to_string().trim_end());
        }
        Ok(())
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
                return Ok(Real { sources: sources.unwrap_or_else(|| pieces.clone()), pieces, range, pedal });
            }
            (against, checkpoint) => (
                against.as_deref(),
                load_checkpoint(checkpoint).map_err(|mut e| {
                    if checkpoint.is_none() {
                        e.remedy = format!("{}; or name a folder of real pieces with --against", e.remedy);
                    }
                    e
                })?,
            ),
        };
        let (path, checkpoint) = of_checkpoint;
        let (range, pedal) = (self.notes.unwrap_or(checkpoint.corpus.range), self.pedal || checkpoint.corpus.pedal);
        let mut checkpoint = checkpoint;
        checkpoint.corpus.pedal = pedal;
        let corpus = corpus_of_range(&checkpoint, against, false, range)?;
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
            let pieces = corpus.part(&checkpoint.split, part)?;
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
        Ok(Real { pieces, sources, range, pedal })
    }
}
