//! `deepj compare-runs`.

use std::path::PathBuf;

use deepj::files::{Outputs, is_standard_stream, path_text, write_output};
use deepj::train::{BEST, CURVE, Comparison, LAST, Over, Run, draw_curves};
use deepj::{Error, Result};

use super::{claim, say, say_json, tell};

/// Compare training runs: one table, and their learning curves in one picture
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  deepj compare-runs runs/first runs/second
  deepj compare-runs runs/first runs/second --svg curves.svg --over seconds
  deepj compare-runs runs/first runs/second --measure replay_bce --json")]
pub struct CompareRuns {
    /// The runs' folders; a run may still be going on
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// The figure to compare, by its name in the validations of curve.jsonl [default: the likelihood of the notes, or loss where that is not in all]
    #[arg(long, value_name = "NAME")]
    measure: Option<String>,
    /// Draw the curves
    #[arg(long, value_name = "FILE.svg")]
    svg: Option<PathBuf>,
    /// What the curves are drawn over: updates, seconds or epochs
    #[arg(long, value_name = "AXIS", default_value = "updates")]
    over: Over,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl CompareRuns {
    pub fn run(self) -> Result<()> {
        let piped = self.svg.as_deref().is_some_and(is_standard_stream);
        if piped && self.json {
            return Err(Error::usage("a picture and JSON, both on standard output", "name a file"));
        }
        let mut outputs = Outputs::default();
        let files = [CURVE, LAST, BEST];
        self.runs.iter().flat_map(|run| files.map(|name| run.join(name))).for_each(|file| outputs.reads(&file));
        claim(&mut outputs, self.svg.as_deref(), &["svg"])?;
        let comparison = Comparison::read(&self.runs, self.measure.as_deref())?;
        comparison.notes.iter().for_each(|note| tell(format_args!("note: {note}")));
        if let Some(svg) = &self.svg {
            write_output(svg, draw_curves(&comparison, self.over).as_bytes())?;
        }
        if self.json {
            return say_json(&comparison);
        }
        if !piped {
            print(&comparison);
        }
        Ok(())
    }
}

/// The table, best run first.
fn print(comparison: &Comparison) {
    let measure = &comparison.measure;
    let best = |run: &Run| run.best.as_ref().and_then(|best| best.get(measure)).copied();
    let mut runs: Vec<&Run> = comparison.runs.iter().collect();
    runs.sort_by(|a, b| best(a).unwrap_or(f64::INFINITY).total_cmp(&best(b).unwrap_or(f64::INFINITY)));
    let width = runs.iter().map(|run| path_text(&run.folder).chars().count()).max().unwrap_or(0).max(3);
    say(format_args!("`best` is {measure} of the validation with the lowest loss"));
    say(format_args!(
        "{:width$} {:>10} {:>9} {:>9} {:>7} {:>9} {:>8} {:>10}  what differs",
        "run", "best", "at update", "updates", "epochs", "seconds", "model", "parameters"
    ));
    for run in runs {
        let at = run.best.as_ref().and_then(|best| best.get("step"));
        let text = |value: Option<f64>, digits: usize| value.map_or("-".into(), |value| format!("{value:.digits$}"));
        let (best, at) = (text(best(run), 4), text(at.copied(), 0));
        let (folder, difference) = (path_text(&run.folder).replace('\n', "\\n"), comparison.difference(run));
        let Run { updates, epochs, seconds, model, parameters, .. } = run;
        let line = format!(
            "{folder:width$} {best:>10} {at:>9} {updates:>9} {epochs:>7.2} {seconds:>9.0} {model:>8} {parameters:>10}  {difference}"
        );
        say(line.trim_end());
    }
}
