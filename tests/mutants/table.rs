//! The tables of `docs/TRUST.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use deepj::verify::kernels::harness::adapters::Adapter;

use super::drawn::Change;
use super::equivalent::{self, EQUIVALENT};
use super::trial::{Check, Findings};
use super::written::WRITTEN;

/// Around what is written here.
const BEGIN: &str = "<!-- mutants: begin -->\n";
const END: &str = "<!-- mutants: end -->\n";

/// The first cells of the rows that `docs/TRUST.md` must have, in their order.
pub fn rows(drawn: &[Change]) -> Vec<String> {
    let written = WRITTEN.iter().map(|mutant| format!("| {} | {} |", mutant.kernel, mutant.what));
    let drawn = by_kernel(drawn).into_iter().map(|(kernel, changes)| format!("| {kernel} | {} |", changes.len()));
    let equivalent = EQUIVALENT.iter().map(|(kernel, change, _)| format!("| {kernel} | {} |", shown(change)));
    written.chain(drawn).chain(equivalent).collect()
}

/// Holds the rows of `docs/TRUST.md` against the mutants that there are.
///
/// # Errors
/// The first row that is not as it should be.
pub fn check(rows: &[String]) -> Result<(), String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/TRUST.md");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("docs/TRUST.md cannot be read: {error}"))?;
    let (_, part, _) = parts(&text).ok_or("docs/TRUST.md has no place for the tables")?;
    let is_row = |line: &&str| line.starts_with("| ") && !line.starts_with("| kernel ");
    let mut there = part.lines().filter(is_row);
    for row in rows {
        match there.next() {
            Some(line) if line.starts_with(row) => (),
            line => return Err(format!("docs/TRUST.md has {line:?} where it should have {row:?}; {REMEDY}")),
        }
    }
    match there.next() {
        Some(line) => Err(format!("docs/TRUST.md has {line:?}, which is no mutant; {REMEDY}")),
        None => Ok(()),
    }
}

const REMEDY: &str = "DEEPJ_MUTANTS_TABLE=docs/TRUST.md writes its tables anew";

/// What stands before the tables, in their place, and behind.
fn parts(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (part, after) = rest.split_once(END)?;
    Some((before, part, after))
}

/// A change as a cell of a table.
fn shown(change: &str) -> String {
    change.replace("becomes ``", "is left out").replace('|', "\\|")
}

fn by_kernel(drawn: &[Change]) -> BTreeMap<&str, Vec<&Change>> {
    let mut kernels: BTreeMap<&str, Vec<&Change>> = BTreeMap::new();
    for change in drawn {
        kernels.entry(&change.kernel).or_default().push(change);
    }
    kernels
}

/// Puts the tables into their place in a file.
///
/// # Errors
/// A file that cannot be read or written, or has no such place.
pub fn write(path: &str, findings: &Findings, adapters: &[Arc<Adapter>], drawn: &[Change]) -> Result<(), String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path} cannot be read: {error}"))?;
    let (before, _, after) = parts(&text).ok_or_else(|| format!("{path} has no place for the tables"))?;
    let text = format!("{before}{BEGIN}{}{END}{after}", tables(findings, adapters, drawn));
    std::fs::write(path, text).map_err(|error| format!("{path} cannot be written: {error}"))
}

fn tables(findings: &Findings, adapters: &[Arc<Adapter>], drawn: &[Change]) -> String {
    let mut text = String::from("\n| kernel | what is broken |");
    // Writing to a string cannot fail.
    adapters.iter().for_each(|adapter| _ = write!(text, " {} |", adapter.name));
    _ = write!(text, "\n|---|---|{}\n", "---|".repeat(adapters.len()));
    for mutant in WRITTEN {
        _ = write!(text, "| {} | {} |", mutant.kernel, mutant.what);
        for adapter in adapters {
            let check = findings.check(mutant.kernel, mutant.what, &adapter.name);
            _ = write!(text, " {} |", check.map_or("-".into(), |check| check.to_string()));
        }
        text.push('\n');
    }
    text.push_str(
        "\n| kernel | drawn | beyond tolerance | inexact | not finite | guard band | runs differ | equivalent |\n",
    );
    text.push_str("|---|---|---|---|---|---|---|---|\n");
    for (kernel, changes) in by_kernel(drawn) {
        let caught: Vec<Check> = changes
            .iter()
            .flat_map(|change| adapters.iter().find_map(|a| findings.check(kernel, &change.name, &a.name)))
            .collect();
        let count = |is: fn(&Check) -> bool| caught.iter().filter(|check| is(check)).count();
        let equivalent = changes.iter().filter(|change| equivalent::find(kernel, &change.name).is_some()).count();
        let counts = [
            count(|check| matches!(check, Check::Beyond(_))),
            count(|check| matches!(check, Check::Inexact)),
            count(|check| matches!(check, Check::NotFinite)),
            count(|check| matches!(check, Check::Guard | Check::Operand)),
            count(|check| matches!(check, Check::Differ)),
            equivalent,
        ];
        let counts: Vec<String> = counts.iter().map(usize::to_string).collect();
        _ = writeln!(text, "| {kernel} | {} | {} |", changes.len(), counts.join(" | "));
    }
    if !EQUIVALENT.is_empty() {
        text.push_str("\n| kernel | change | why nothing comes of it |\n|---|---|---|\n");
        for (kernel, change, why) in EQUIVALENT {
            _ = writeln!(text, "| {kernel} | {} | {why} |", shown(change));
        }
    }
    text.push('\n');
    text
}
