//! `deepj profile compare`.

use std::path::PathBuf;

use clap::ValueEnum;
use deepj::profile::Profile;
use deepj::profile::compare::{Change, Comparison, Estimate, Judgement, Verdict, comparable, compare};
use deepj::{Error, Result};
use serde::Serialize;

use crate::cli::{say, say_json, tell};

/// Compare two profiles of the same work on the same machine
#[derive(clap::Args)]
#[command(after_help = "\
Each kernel is shown with its median time in both, +- the 95 % confidence interval, and by how much it changed,
or ~ where that is no more than two profiles of one build differ by, ? where there are too few runs to tell.
`visible` is the smallest change that would have been told from none.
The last line is the verdict. Exit code 1 where a kernel or the whole step is slower by more than --threshold, or all kernels
together are, which may be the machine's doing, or where too few runs tell nothing.

Take 20 runs or more, on an idle machine; for small changes profile both builds in turn, several times.

Examples:
  deepj profile train --runs 20 --format jsonl -o before.jsonl
  deepj profile compare before.jsonl after.jsonl
  deepj profile compare before.jsonl after.jsonl --threshold 10 --format markdown")]
pub struct Compare {
    /// The profile to compare with, written with --format jsonl
    first: PathBuf,
    /// The profile that may be slower or faster
    second: PathBuf,
    /// Percent by which a time may become slower
    #[arg(long, value_name = "PERCENT", default_value = "5", value_parser = percent)]
    threshold: f64,
    /// Compare also what another machine, other work or another clock makes hardly comparable
    #[arg(long)]
    force: bool,
    /// How to print
    #[arg(long, value_name = "F", default_value = "table")]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Table,
    Markdown,
    Jsonl,
}

pub(super) fn percent(text: &str) -> std::result::Result<f64, String> {
    match text.trim_end_matches('%').trim().parse::<f64>() {
        Ok(percent) if percent.is_finite() && percent >= 0.0 => Ok(percent),
        _ => Err("wanted is a percentage from 0".into()),
    }
}

/// A line of JSON.
#[derive(Serialize)]
#[serde(tag = "record", rename_all = "lowercase")]
enum Record<'a> {
    Kernel(&'a deepj::profile::compare::Row),
    Alone {
        file: String,
        #[serde(flatten)]
        kernel: &'a deepj::profile::compare::Alone,
    },
    Summary {
        files: [String; 2],
        versions: [&'a str; 2],
        step: &'a Change,
        geometric_mean: f64,
        total_ms: [f64; 2],
        machine: Option<f64>,
        notes: &'a [String],
        threshold: f64,
        verdict: &'a str,
        regressions: &'a [&'a str],
    },
}

impl Compare {
    pub fn run(self) -> Result<()> {
        let profiles = [Profile::read(&self.first)?, Profile::read(&self.second)?];
        let [a, b] = &profiles;
        match comparable(&a.header, &b.header) {
            Err(e) if self.force => tell(format_args!("note: {}", e.what)),
            other => other?,
        }
        let comparison = compare(a, b);
        let judgement = comparison.judgement(self.threshold / 100.0);
        let verdict = self.verdict(&judgement, &comparison);
        match self.format {
            Format::Table => self.say_table(&profiles, &comparison),
            Format::Markdown => self.say_markdown(&comparison),
            Format::Jsonl => self.say_jsonl(&profiles, &comparison, &judgement)?,
        }
        if !matches!(self.format, Format::Jsonl) {
            say(format_args!("verdict: {verdict}"));
        }
        match judgement {
            Judgement::Fine => Ok(()),
            Judgement::Slower(_) => {
                Err(Error::run(verdict, "if the machine was not idle, profile both again; --threshold allows more"))
            }
            Judgement::Undecided(_) => Err(Error::run(verdict, "`deepj profile ab` runs both in turn and tells")),
            Judgement::Unknown(_) => Err(Error::run(verdict, "profile the same work in both with --runs 20")),
        }
    }

    /// What the comparison comes to, in words.
    fn verdict(&self, judgement: &Judgement<'_>, comparison: &Comparison) -> String {
        match judgement {
            Judgement::Fine => {
                let rows = comparison.rows.iter().map(|row| &row.change).chain([&comparison.step]);
                let visible = rows.map(|change| change.visible.unwrap_or(f64::INFINITY)).fold(0.0, f64::max);
                let would_show = match 100.0 * visible {
                    visible if visible <= self.threshold => String::new(),
                    visible if visible.is_finite() => {
                        format!("; of some, less than {visible:.0} % would not have shown")
                    }
                    _ => "; of some, nothing would have shown".into(),
                };
                format!("nothing is seen to be slower by more than {} %{would_show}", self.threshold)
            }
            Judgement::Unknown(why) => format!("undecided: {why}"),
            Judgement::Slower(what) => format!("slower by more than {} %: {}", self.threshold, what.join(", ")),
            Judgement::Undecided(drift) => format!(
                "undecided: all kernels together are slower by {:.1} %, which may be the machine's doing or the program's",
                100.0 * drift
            ),
        }
    }

    fn files(&self) -> [String; 2] {
        [&self.first, &self.second].map(|path| path.display().to_string())
    }

    fn say_table(&self, [a, b]: &[Profile; 2], comparison: &Comparison) {
        let h = &a.header;
        say(format_args!("{}, {}, {}, on {}", h.plan, h.preset, h.precision, h.machine));
        for (letter, file, profile) in [("A", &self.first, a), ("B", &self.second, b)] {
            let Profile { header, summary, .. } = profile;
            let (file, runs, version) = (file.display(), summary.samples_ms.len(), &header.machine.deepj);
            say(format_args!("{letter}  {file}: {runs} runs, deepj {version}"));
        }
        let rows = table(comparison);
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
        let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
        for row in &rows {
            let cells = row.iter().zip(&widths).enumerate().map(|(i, (cell, &width))| match i {
                0 => format!("{cell:width$}"),
                _ => format!("{cell:>width$}"),
            });
            say(cells.collect::<Vec<_>>().join("  ").trim_end());
        }
        self.notes(comparison).iter().for_each(say);
    }

    fn say_markdown(&self, comparison: &Comparison) {
        for (i, row) in table(comparison).iter().enumerate() {
            say(format_args!("| {} |", row.join(" | ")));
            if i == 0 {
                say("|---|---:|---:|---:|---:|---:|---:|");
            }
        }
        say("");
        self.notes(comparison).iter().for_each(|note| say(format_args!("- {note}")));
    }

    fn say_jsonl(&self, [a, b]: &[Profile; 2], comparison: &Comparison, judgement: &Judgement<'_>) -> Result<()> {
        let (verdict, slower) = match judgement {
            Judgement::Fine => ("fine", &[][..]),
            Judgement::Slower(what) => ("slower", &what[..]),
            Judgement::Undecided(_) | Judgement::Unknown(_) => ("undecided", &[][..]),
        };
        comparison.rows.iter().try_for_each(|row| say_json(&Record::Kernel(row)))?;
        for (file, kernels) in self.files().iter().zip(&comparison.alone) {
            for kernel in kernels {
                say_json(&Record::Alone { file: file.clone(), kernel })?;
            }
        }
        say_json(&Record::Summary {
            files: self.files(),
            versions: [a, b].map(|profile| profile.header.machine.deepj.as_str()),
            step: &comparison.step,
            geometric_mean: comparison.geometric_mean,
            total_ms: comparison.total_ms,
            machine: comparison.machine,
            notes: &comparison.notes,
            threshold: self.threshold,
            verdict,
            regressions: slower,
        })
    }

    /// What stands below the table.
    fn notes(&self, comparison: &Comparison) -> Vec<String> {
        let mut notes = vec![];
        for row in comparison.rows.iter().filter(|row| row.variants[0] != row.variants[1]) {
            notes.push(format!("another variant: {}: {} -> {}", row.shape, row.variants[0], row.variants[1]));
        }
        for (file, kernels) in self.files().iter().zip(&comparison.alone) {
            for kernel in kernels {
                notes.push(format!("only in {file}: {} ({}), {:.2} us", kernel.shape, kernel.variant, kernel.median));
            }
        }
        notes.extend(comparison.notes.iter().map(|note| format!("note: {note}")));
        notes
    }
}

const HEAD: [&str; 7] = ["kernel", "A", "B", "change", "p", "visible", "runs"];

/// Heading, kernels, and what they sum up to.
fn table(comparison: &Comparison) -> Vec<[String; 7]> {
    let mut rows = vec![HEAD.map(String::from)];
    rows.extend(comparison.rows.iter().map(|row| cells(&row.shape, "us", &row.change)));
    rows.push(cells("whole step", "ms", &comparison.step));
    if comparison.rows.is_empty() {
        return rows;
    }
    let [a, b] = comparison.total_ms;
    let sum = |name: &str, a: String, b: String, ratio: f64| {
        [name.into(), a, b, format!("{:+.1} %", 100.0 * (ratio - 1.0)), String::new(), String::new(), String::new()]
    };
    rows.push(sum("kernels by calls", format!("{a:.3} ms"), format!("{b:.3} ms"), b / a));
    rows.push(sum("geometric mean of kernels", String::new(), String::new(), comparison.geometric_mean));
    rows
}

fn cells(name: &str, unit: &str, c: &Change) -> [String; 7] {
    let time = |Estimate { median, interval, .. }: &Estimate| {
        let interval = match interval {
            Some([low, high]) if *median > 0.0 => {
                format!("{:>3.0} %", 100.0 * (high - median).max(median - low) / median)
            }
            _ => "  ? %".into(),
        };
        format!("{median:.2} {unit} +-{interval}")
    };
    let change = match c.verdict {
        Verdict::Same => "~".into(),
        Verdict::Unknown => "?".into(),
        Verdict::Faster | Verdict::Slower => format!("{:+.1} %", 100.0 * c.change),
    };
    let p = if c.p < 1e-3 { "<0.001".into() } else { format!("{:.3}", c.p) };
    let [a, b] = &c.times;
    let visible = c.visible.map_or("-".into(), |visible| format!("{:.0} %", 100.0 * visible));
    [name.into(), time(a), time(b), change, p, visible, format!("{}+{}", a.runs, b.runs)]
}
