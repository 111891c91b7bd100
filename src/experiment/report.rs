//! Claims held against results: a page with a verdict for each.

use std::fmt::{self, Write};
use std::path::Path;

use super::file::{Claim, Direction};
use super::measured::{self, Measured, Speed};
use super::results::{MAX_BYTES, Results};
use super::statistics::Summary;
use super::style::{self, OfStyle};
use super::table::{append, difference, escaped, title};
use crate::Result;
use crate::files::read_bounded;

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
    /// That of a difference of which this is claimed.
    pub fn of(expected: Direction, difference: Option<&Summary>) -> Self {
        let Some([low, high]) = difference.and_then(|difference| difference.interval) else { return Self::Undecided };
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
    /// What `deepj classify`, `styles` or `evaluate --generated` printed as JSON.
    Style(OfStyle),
}

impl Source {
    /// The one in the file at `path`.
    ///
    /// # Errors
    /// A file that cannot be read, or holds none of them.
    pub fn read(path: &Path) -> Result<Self> {
        let remedy = "name a results.json of `deepj experiment`, what `deepj benchmark`, `classify`, `styles` or `evaluate \
                      --generated` printed with --json, or the runs of benches/peers/compare.py";
        let bytes = read_bounded(path, MAX_BYTES, remedy)?;
        if let Ok(measured) = serde_json::from_slice::<Measured>(&bytes) {
            return Ok(Self::Benchmark(measured));
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

/// The page: all claims with what was measured and the verdict, likelihoods beside published ones, speeds beside others', what styles
/// are, then the tables that the verdicts are from. `command` is what made it.
pub fn page(sources: &[Source], command: &str) -> String {
    let mut text = format!("# The paper's claims, measured\n\nMade by `{command}`; not edited by hand.\n\n");
    let mut experiments = vec![];
    let (mut benchmarks, mut speeds, mut styles) = (vec![], vec![], vec![]);
    for source in sources {
        match source {
            Source::Experiment(results) => experiments.push(results),
            Source::Benchmark(measured) => benchmarks.push(measured),
            Source::Speeds(of) => speeds.extend(of),
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
        0 => Verdict::of(*expected, summary.as_ref()).to_string(),
        failed => format!("{}: {failed} failed", Verdict::Undecided),
    };
    let side = match expected {
        Direction::Lower => "lower",
        Direction::Higher => "higher",
    };
    let _ = writeln!(
        text,
        "| {} | {} | `{}` {side} than `{}` | {measured} | {seeds} | {verdict} |",
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
    fn verdicts_follow_the_interval() {
        let summary = |low, high| Summary { seeds: 3, mean: 0.5, spread: Some(1.0), interval: Some([low, high]) };
        for (low, high, lower, higher) in [
            (-2.0, -1.0, Verdict::Confirmed, Verdict::NotConfirmed),
            (1.0, 2.0, Verdict::NotConfirmed, Verdict::Confirmed),
            (-1.0, 1.0, Verdict::Undecided, Verdict::Undecided),
            (0.0, 0.0, Verdict::Undecided, Verdict::Undecided),
        ] {
            let summary = summary(low, high);
            assert_eq!(Verdict::of(Direction::Lower, Some(&summary)), lower, "{low} {high}");
            assert_eq!(Verdict::of(Direction::Higher, Some(&summary)), higher, "{low} {high}");
        }
        let one = Summary { seeds: 1, mean: 0.5, spread: None, interval: None };
        assert_eq!(Verdict::of(Direction::Lower, Some(&one)), Verdict::Undecided);
        assert_eq!(Verdict::of(Direction::Lower, None), Verdict::Undecided);
    }
}
