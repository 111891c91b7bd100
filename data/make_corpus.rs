//! Composes the corpus that ships with the crate.
//!
//! `cargo run --release --example make_corpus -- data [--seed N]` writes the pieces and `mod.rs` into `data` and, where
//! there is a `README.md` with the two marker lines, the table of statistics between them.

#[path = "compose/mod.rs"]
mod compose;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "usage: make_corpus FOLDER [--seed N]";
const BEGIN: &str = "<!-- statistics -->\n\n";
const END: &str = "\n<!-- end of statistics -->\n";

fn main() -> ExitCode {
    let (folder, seed) = match arguments() {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!("{message}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let written = compose::write(&folder, seed).and_then(|table| {
        print!("{table}");
        update_readme(&folder.join("README.md"), &table)
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<(PathBuf, u64), String> {
    let (mut folder, mut seed) = (None, compose::SEED);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--seed" {
            let value = words.next().ok_or("--seed needs a number")?;
            seed = value.parse().map_err(|e| format!("--seed {value}: {e}"))?;
        } else if word.starts_with('-') || folder.is_some() {
            return Err(format!("unknown argument {word}"));
        } else {
            folder = Some(PathBuf::from(word));
        }
    }
    Ok((folder.ok_or("no folder given")?, seed))
}

/// Puts `table` between the markers of the README, if there is one.
fn update_readme(path: &Path, table: &str) -> Result<(), String> {
    let Ok(text) = fs::read_to_string(path) else { return Ok(()) };
    let Some((head, rest)) = text.split_once(BEGIN) else { return Ok(()) };
    let Some((_, tail)) = rest.split_once(END) else { return Ok(()) };
    let text = [head, BEGIN, table, END, tail].concat();
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}
