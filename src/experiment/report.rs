//! Claims held against results: a page with a verdict for each.

use std::fmt::{self, Write};
use std::path::Path;

use super::file::{Claim, Direction};
use super::measured::{self, Evaluated, Measured, Speed};
use super::results::{MAX_BYTES, Results};
use super::statistics::Summary;
use super::style::{self, OfStyle};
use super::table::{append, difference, escaped, title};
use crate::files::read_bounded;
use crate::{Error, Result};

/// What results say of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The whole interval lies on the side that is claimed.
    Confirmed,
    /// The whole interval lies on the other side.
    NotConfirmed,
    /// The interval has 0 in it, or there is none.
    Undecided,
}

impl Verdict {
    /// That of a difference of which this is claimed, and which lies in this interval.
    pub fn of(expected: Direction, interval: Option<[f64; 2]>) -> Self {
        let Some([low, high]) = interval else { return Self::Undecided };
        match expected {
            Direction::Lower if high < 0.0 => Self::Confirmed,
            Direction::Higher if low > 0.0 => Self::Confirmed,
            Direction::Lower if low > 0.0 => Self::NotConfirmed,
            Direction::Higher if high < 0.0 => Self::NotConfirmed,
            Direction::Lower | Direction::Higher => Self::Undecided,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Confirmed => "confirmed",
            Self::NotConfirmed => "not confirmed",
            Self::Undecided => "undecided",
        })
    }
}

/// What a page is made of: a file of results.
pub enum Source {
    /// Those of an experiment.
    Experiment(Results),
    /// What `deepj benchmark --json` printed.
    Benchmark(Measured),
    /// What `benches/peers/compare.py --out` wrote.
    Speeds(Vec<Speed>),
    /// What `deepj evaluate --json` printed.
    Losses(Evaluated),
    /// What `deepj classify`, `styles` or `evaluate --generated` printed as JSON.
    Style(OfStyle),
}

impl Source {
    /// The one in the file at `path`.
    ///
    /// # Errors
    /// A file that cannot be read, or holds none of them.
    pub fn read(path: &Path) -> Result<Self> {
        let remedy = "name a results.json of `deepj experiment`, what `deepj benchmark`, `classify`, `styles` or `evaluate` \
                      printed with --json, or the runs of benches/peers/compare.py";
        let bytes = read_bounded(path, MAX_BYTES, remedy)?;
        if let Ok(measured) = serde_json::from_slice::<Measured>(&bytes) {
            return Ok(Self::Benchmark(measured));
        }
        if let Ok(losses) = serde_json::from_slice::<Evaluated>(&bytes) {
            return Ok(Self::Losses(losses));
        }
        if let Ok(of_style) = serde_json::from_slice::<OfStyle>(&bytes) {
            return Ok(Self::Style(of_style));
        }
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let speeds: Option<Vec<Speed>> = lines.map(|line| serde_json::from_slice(line).ok()).collect();
        match speeds.filter(|speeds| !speeds.is_empty()) {
            Some(speeds) => Ok(Self::Speeds(speeds)),
            None => Results::parse(path, &bytes, remedy).map(Self::Experiment),
        }
    }
}

/// A page of all that was measured. `command` is what made it.
pub fn page(sources: &[Source], command: &str) -> String {
    format!("# The paper's claims, measured\n\nMade by `{command}`; not edited by hand.\n\n{}", sections(sources))
}

/// The page with all that was measured between its lines `<!-- measured -->` and `<!-- end of measured -->`; `None` of a page without
/// them. `command` is what made it.
///
/// # Errors
/// A page with one of them, several, or the end before the beginning: what else is in it would be lost.
pub fn page_within(page: &str, sources: &[Source], command: &str) -> Result<Option<String>> {
    let lines: Vec<&str> = page.lines().map(str::trim_end).collect();
    let places = |marker: &str| -> Vec<usize> {
        lines.iter().enumerate().filter(|(_, line)| **line == marker).map(|(i, _)| i).collect()
    };
    let (begin, end) = match (&places(BEGIN)[..], &places(END)[..]) {
        ([], []) => return Ok(None),
        ([begin], [end]) if begin < end => (*begin, *end),
        _ => {
            let what = format!("needs one line `{BEGIN}` and behind it one line `{END}`, or none of them");
            return Err(Error::usage(what, "mend these lines"));
        }
    };
    let (head, tail) = (lines[..=begin].join("\n"), lines[end..].join("\n"));
    let text = sections(sources);
    Ok(Some(format!("{head}\n\nMade by `{command}`; not edited by hand.\n\n{}\n\n{tail}\n", text.trim())))
}

const BEGIN: &str = "<!-- measured -->";
const END: &str = "<!-- end of measured -->";

/// All claims with what was measured and the verdict, likelihoods beside published ones, speeds beside others', losses, what styles
/// are, then the tables that the verdicts are from.
fn sections(sources: &[Source]) -> String {
    let mut text = String::new();
    let mut experiments = vec![];
    let (mut benchmarks, mut speeds, mut losses, mut styles) = (vec![], vec![], vec![], vec![]);
    for source in sources {
        match source {
            Source::Experiment(results) => experiments.push(results),
            Source::Benchmark(measured) => benchmarks.push(measured),
            Source::Speeds(of) => speeds.extend(of),
            Source::Losses(of) => losses.push(of),
            Source::Style(of) => styles.push(of),
        }
    }
    if !experiments.is_empty() {
        text.push_str(READING);
        text.push('\n');
        append_claims(&experiments, &mut text);
        text.push('\n');
    }
    measured::append_likelihoods(&benchmarks, &mut text);
    measured::append_speeds(&speeds, &mut text);
    losses.iter().for_each(|of| measured::append_losses(of, &mut text));
    styles.iter().for_each(|of| style::append(of, &mut text));
    for results in experiments {
        let _ = writeln!(text, "\n## {}\n", results.name);
        append(results, &mut text);
    }
    text
}

/// A table of the claims of these experiments, where there are any.
pub(super) fn append_claims(all: &[&Results], text: &mut String) {
    if all.iter().all(|results| results.claims.is_empty()) {
        return;
    }
    text.push_str(
        "| claim | measure | compared, and expected | difference | seeds | verdict |\n|---|---|---|---|---|---|\n",
    );
    for results in all {
        results.claims.iter().for_each(|claim| append_claim(results, claim, text));
    }
}

const READING: &str = "\
A difference is that of the first configuration's figure to the second's with the same seed: the mean over seeds, with the bounds
within which it lies with 95 % confidence (Student's t on the paired differences). A claim is confirmed where all between the bounds
is on the side that was expected, not confirmed where all is on the other side, and undecided where 0 lies between them, one seed
alone was measured, or a run failed. Each claim is judged by itself: of twenty differences that are zero in truth, one is expected to
look decided. Seeds vary initial values, orders and dropout; the pieces of training and validation are the same in all runs, so the
bounds say nothing of other pieces.
";

fn append_claim(results: &Results, claim: &Claim, text: &mut String) {
    let Claim { text: words, configuration, against, measure, expected } = claim;
    let summary = Summary::of(&results.differences(configuration, against, measure));
    let measured = summary.as_ref().map_or("not measured".into(), difference);
    let seeds = format!("{} of {}", summary.map_or(0, |summary| summary.seeds), results.seeds.len());
    // Of a configuration that fails with some seeds, the others are the lucky ones.
    let verdict = match results.failures(configuration, against) {
        0 => Verdict::of(*expected, summary.and_then(|summary| summary.interval)).to_string(),
        failed => format!("{}: {failed} failed", Verdict::Undecided),
    };
    let _ = writeln!(
        text,
        "| {} | {} | `{}` {expected} than `{}` | {measured} | {seeds} | {verdict} |",
        escaped(words),
        title(measure),
        escaped(configuration),
        escaped(against)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_keeps_what_is_around_the_measured() {
        let page = |text: &str| page_within(text, &[], "command");
        let made = page("a\n<!-- measured -->\nold\n<!-- end of measured -->\nb\n").unwrap().unwrap();
        assert!(
            made.starts_with("a\n<!-- measured -->\n\nMade by `command`") && made.ends_with("measured -->\nb\n"),
            "{made}"
        );
        assert!(!made.contains("old"), "{made}");
        assert_eq!(page(&made).unwrap().unwrap(), made);
        assert_eq!(page("a `<!-- measured -->` in a line\n").unwrap(), None);
        for broken in ["<!-- measured -->\n", "<!-- end of measured -->\n<!-- measured -->\n"] {
            assert!(page(broken).unwrap_err().what.contains("<!-- end of measured -->"), "{broken}");
        }
    }

    #[test]
    fn verdicts_follow_the_interval() {
        for (low, high, lower, higher) in [
            (-2.0, -1.0, Verdict::Confirmed, Verdict::NotConfirmed),
            (1.0, 2.0, Verdict::NotConfirmed, Verdict::Confirmed),
            (-1.0, 1.0, Verdict::Undecided, Verdict::Undecided),
            (0.0, 0.0, Verdict::Undecided, Verdict::Undecided),
        ] {
            assert_eq!(Verdict::of(Direction::Lower, Some([low, high])), lower, "{low} {high}");
            assert_eq!(Verdict::of(Direction::Higher, Some([low, high])), higher, "{low} {high}");
        }
        assert_eq!(Verdict::of(Direction::Lower, None), Verdict::Undecided);
    }
}
