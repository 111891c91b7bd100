//! The tables of an experiment.

use std::fmt::Write;

use serde::Serialize;

use super::report::append_claims;
use super::results::{COSTS, Results};
use super::statistics::Summary;
use crate::{Error, Result};

/// One figure of a configuration, and how much it differs from the baseline's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The configuration's name.
    pub configuration: String,
    /// The figure's name.
    pub measure: String,
    /// Over seeds.
    pub value: Summary,
    /// Of the differences to the baseline with the same seed; none for the baseline itself, and where no seed has both.
    pub difference: Option<Summary>,
}

/// All figures of all configurations.
pub fn rows(results: &Results) -> Vec<Row> {
    let measures = results.measures();
    let mut rows = vec![];
    for configuration in &results.configurations {
        for measure in &measures {
            let Some(value) = Summary::of(&results.values(configuration, measure)) else { continue };
            let differences = match *configuration == results.baseline {
                true => vec![],
                false => results.differences(configuration, &results.baseline, measure),
            };
            let difference = Summary::of(&differences);
            let (configuration, measure) = (configuration.clone(), measure.clone());
            rows.push(Row { configuration, measure, value, difference });
        }
    }
    rows
}

/// [`rows`] as CSV.
///
/// # Errors
/// None that can come of memory.
pub fn csv(results: &Results) -> Result<String> {
    let failed = |e: &dyn std::fmt::Display| Error::run(format!("the table cannot be written as CSV: {e}"), "");
    let mut writer = csv::Writer::from_writer(vec![]);
    let titles = ["configuration", "measure", "seeds", "mean", "spread", "difference", "low", "high"];
    writer.write_record(titles).map_err(|e| failed(&e))?;
    let text = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
    for Row { configuration, measure, value, difference } in rows(results) {
        let interval = difference.and_then(|difference| difference.interval);
        let numbers = [
            Some(value.mean),
            value.spread,
            difference.map(|difference| difference.mean),
            interval.map(|[low, _]| low),
            interval.map(|[_, high]| high),
        ];
        let record = [configuration, measure, value.seeds.to_string()].into_iter().chain(numbers.map(text));
        writer.write_record(record).map_err(|e| failed(&e))?;
    }
    let bytes = writer.into_inner().map_err(|e| failed(&e))?;
    String::from_utf8(bytes).map_err(|e| failed(&e))
}

/// The experiment with its tables as Markdown.
pub fn markdown(results: &Results) -> String {
    let mut text = format!("# {}\n\n", results.name);
    append(results, &mut text);
    if !results.claims.is_empty() && !results.runs.is_empty() {
        text.push_str("\nWhat is claimed:\n\n");
        append_claims(&[results], &mut text);
    }
    text
}

/// What the experiment is and under which conditions it was made, then its tables.
pub(super) fn append(results: &Results, text: &mut String) {
    if !results.about.is_empty() {
        let _ = writeln!(text, "{}\n", results.about);
    }
    let _ = writeln!(text, "{}\n", conditions(results));
    if results.runs.is_empty() {
        return;
    }
    let rows = rows(results);
    text.push_str("Means over seeds, +- their standard deviation:\n\n");
    let value = |row: &Row| match row.value.spread {
        Some(spread) => format!("{} +- {}", figure(row.value.mean, row.value.mean), figure(spread, row.value.mean)),
        None => figure(row.value.mean, row.value.mean),
    };
    grid(results, &rows, &results.measures(), |row| Some(value(row)), text);
    let compared = |measure: &String| !COSTS.contains(&measure.as_str()) || measure == "seconds_per_update";
    let compared: Vec<String> = results.measures().into_iter().filter(compared).collect();
    if rows.iter().any(|row| row.difference.is_some()) {
        let _ = writeln!(
            text,
            "\nDifferences to `{}` with the same seed, means with 95 % intervals (Student's t):\n",
            results.baseline
        );
        grid(results, &rows, &compared, |row| row.difference.as_ref().map(difference), text);
    }
    for run in &results.runs {
        if let Some(failure) = &run.failure {
            let _ = writeln!(text, "\n`{}`, seed {}, failed: {failure}", run.configuration, run.seed);
        }
    }
}

/// A table with a row a configuration and a column a measure.
fn grid(
    results: &Results,
    rows: &[Row],
    measures: &[String],
    cell: impl Fn(&Row) -> Option<String>,
    text: &mut String,
) {
    let _ =
        writeln!(text, "| configuration | {} |", measures.iter().map(|of| title(of)).collect::<Vec<_>>().join(" | "));
    let _ = writeln!(text, "|---|{}", "---|".repeat(measures.len()));
    for configuration in &results.configurations {
        let of = |measure: &String| {
            rows.iter().find(|row| row.configuration == *configuration && row.measure == *measure).and_then(&cell)
        };
        let cells: Vec<String> = measures.iter().map(|measure| of(measure).unwrap_or_default()).collect();
        if cells.iter().any(|cell| !cell.is_empty()) {
            let _ = writeln!(text, "| {} | {} |", escaped(configuration), cells.join(" | "));
        }
    }
}

/// Budget, seeds, corpus, devices and days.
fn conditions(results: &Results) -> String {
    let budget = match (results.budget.steps, results.budget.minutes) {
        (Some(steps), _) => format!("{steps} updates"),
        (None, minutes) => format!("{} minutes", minutes.unwrap_or_default()),
    };
    let seeds: Vec<String> = results.seeds.iter().map(u32::to_string).collect();
    let mut parts = vec![format!("Budget of a run: {budget}"), format!("seeds {}", seeds.join(", "))];
    let (done, planned) = (results.runs.len(), results.planned());
    if done < planned {
        parts.push(format!("{done} of {planned} runs are done so far"));
    }
    let mut once = |of: Vec<String>| {
        let mut known: Vec<String> = vec![];
        of.into_iter().for_each(|text| {
            if !known.contains(&text) {
                known.push(text)
            }
        });
        if !known.is_empty() {
            parts.push(known.join(" and "));
        }
    };
    let corpus = |[train, validation]: [usize; 2], print: &str| {
        format!("{train} training and {validation} validation pieces (fingerprint {print})")
    };
    once(results.runs.iter().map(|run| corpus(run.pieces, &run.corpus)).collect());
    once(results.runs.iter().map(|run| run.device.clone()).filter(|device| !device.is_empty()).collect());
    let mut days: Vec<String> = results.runs.iter().map(|run| run.date.clone()).collect();
    days.sort();
    once(days);
    parts.push(format!("made by {}", results.made_by));
    parts.join("; ") + "."
}

/// What a measure is called for people.
pub(super) fn title(measure: &str) -> String {
    if measure == "gflop" {
        return "GFLOP".into();
    }
    measure.replace('_', " ").replace("nats per step", "nats a step")
}

/// `-0.123 [-0.2, -0.05]`.
pub(super) fn difference(of: &Summary) -> String {
    let [low, high] = of.interval.unwrap_or([of.mean; 2]);
    let largest = [of.mean, low, high].into_iter().map(f64::abs).fold(0.0, f64::max);
    let signed = |value: f64| format!("{}{}", if value > 0.0 { "+" } else { "" }, figure(value, largest));
    match of.interval {
        Some(_) => format!("{} [{}, {}]", signed(of.mean), signed(low), signed(high)),
        None => signed(of.mean),
    }
}

/// A number with as many decimals as `like` has with four digits.
fn figure(value: f64, like: f64) -> String {
    let before = if like == 0.0 { 1.0 } else { like.abs().log10().floor() + 1.0 };
    let decimals = (4.0 - before).clamp(0.0, 6.0) as usize;
    format!("{value:.decimals$}")
}

/// A name as a cell of a table.
pub(super) fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_four_digits() {
        for (value, expected) in [
            (5.23456, "5.235"),
            (0.0123456, "0.01235"),
            (1234.5, "1234"),
            (0.0, "0.000"),
            (-12.345, "-12.35"),
            (1e-9, "0.000000"),
        ] {
            assert_eq!(figure(value, value), expected, "{value}");
        }
        let summary = |interval| Summary { seeds: 2, mean: -0.5, spread: None, interval };
        assert_eq!(difference(&summary(Some([-1.25, 0.25]))), "-0.500 [-1.250, +0.250]");
        assert_eq!(difference(&summary(None)), "-0.5000");
    }
}
