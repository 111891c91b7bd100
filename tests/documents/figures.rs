//! Figures of the documents that a command tells in a moment: each page that has one must have it right.

use std::fs;

use serde_json::Value;

use crate::help::Help;
use crate::reader::Workshop;
use crate::words;

/// A figure's name, and what holds the documents against the program.
pub type Figure = (&'static str, fn(&Workshop, &Help) -> Result<(), String>);

pub const FIGURES: [Figure; 5] = [
    ("the bigram baseline of the pieces within the program", baseline),
    ("parameters of the paper's network at 23 styles", parameters),
    ("pieces, styles and parameters of the weights within the program", weights),
    ("README.md has all commands", commands),
    ("every command has examples", examples),
];

fn told(workshop: &Workshop, line: &str) -> Result<String, String> {
    workshop.run(&words::split(line)?)
}

/// A page in one line, so that a figure may stand at the end of one.
fn page(workshop: &Workshop, name: &str) -> Result<String, String> {
    let text = fs::read_to_string(workshop.root.join(name)).map_err(|error| format!("{name}: {error}"))?;
    Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn has(workshop: &Workshop, name: &str, wanted: &str) -> Result<(), String> {
    match page(workshop, name)?.contains(wanted) {
        true => Ok(()),
        false => Err(format!("{name} lacks `{wanted}`")),
    }
}

/// 1270436 as 1,270,436.
fn grouped(number: &str) -> String {
    let parts = number.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    parts.collect::<Vec<_>>().join(",")
}

fn baseline(workshop: &Workshop, _: &Help) -> Result<(), String> {
    let told = told(workshop, "deepj corpus --baselines --json")?;
    let told: Value = serde_json::from_str(&told).map_err(|error| format!("{error}: {told}"))?;
    let bigram = told.pointer("/floors/validation/bigram").and_then(Value::as_f64);
    let bigram = bigram.ok_or_else(|| format!("no baseline in {told}"))?;
    has(workshop, "README.md", &format!("the bigram baseline has {bigram:.2}; three sampled pieces"))
}

fn parameters(workshop: &Workshop, _: &Help) -> Result<(), String> {
    let train = "deepj train --data many --preset paper --batch 1 --seq 8 --steps 1 --samples 0 2>&1";
    let told = told(workshop, train)?;
    let number = told.split_once(" parameters").and_then(|(before, _)| before.split_whitespace().last());
    let number = grouped(number.ok_or_else(|| format!("no parameters in {told}"))?);
    has(workshop, "docs/MODEL.md", &format!("The parameters are {number} numbers at 23 styles"))?;
    has(workshop, "benches/peers/README.md", &format!("{number} parameters at 23 styles"))
}

fn weights(workshop: &Workshop, _: &Help) -> Result<(), String> {
    let told = told(workshop, "deepj inspect builtin")?;
    let lacks = || format!("deepj inspect builtin: {told}");
    let number = |behind: &str| told.split_once(behind)?.0.split([' ', '\n', ';']).next_back();
    let training = number(" training, ").ok_or_else(lacks)?;
    let line = |name: &str| told.lines().find_map(|line| line.strip_prefix(name));
    let styles = line("styles ").ok_or_else(lacks)?.split(", ").count();
    has(workshop, "README.md", &format!("learned from {training} freely licensed pieces in {styles} styles"))?;
    has(workshop, "docs/WEIGHTS.md", &format!("{training} pieces in {styles} styles"))?;
    let parameters = grouped(number(" parameters").ok_or_else(lacks)?);
    has(workshop, "docs/WEIGHTS.md", &format!("{parameters} parameters as f16"))
}

/// The table of README.md names all commands, and none that is not there.
fn commands(workshop: &Workshop, help: &Help) -> Result<(), String> {
    let text = fs::read_to_string(workshop.root.join("README.md")).map_err(|error| error.to_string())?;
    let table = text.split("\n## The commands\n").nth(1).ok_or("README.md has no section of commands")?;
    let rows = table.lines().take_while(|line| !line.starts_with("## ")).filter_map(|line| line.strip_prefix("| `"));
    let names = rows.filter_map(|row| row.split_once(" |")).flat_map(|(cell, _)| cell.split(", "));
    let mut shown: Vec<&str> = names.map(|name| name.trim_matches('`')).collect();
    let own = help.verbs.iter().map(|verb| verb.name.as_str()).filter(|name| !name.is_empty() && !name.contains(' '));
    // The studio is a feature, of which README tells in its own place.
    let mut own: Vec<&str> = own.filter(|name| *name != "studio").collect();
    shown.sort_unstable();
    own.sort_unstable();
    if shown == own { Ok(()) } else { Err(format!("README.md has {shown:?}, the program {own:?}")) }
}

/// Commands of a command have theirs in its help.
fn examples(_: &Workshop, help: &Help) -> Result<(), String> {
    let without = help.verbs.iter().filter(|verb| !verb.name.contains(' ') && verb.examples.is_empty());
    let without: Vec<&str> = without.map(|verb| verb.name.as_str()).collect();
    if without.is_empty() { Ok(()) } else { Err(format!("README.md says that {without:?} have examples")) }
}
