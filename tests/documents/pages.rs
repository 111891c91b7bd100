//! What each page is checked for as a whole: flags in its sentences, and links.

use std::path::{Component, Path, PathBuf};

use crate::collect::{self, Document};
use crate::help::Help;
use crate::words::{self, Word};

/// Folders with programs that have flags of their own.
const SCRIPTS: [&str; 3] = ["benches", "benches/peers", "benches/isa"];

/// Holds flags in sentences and tables against the commands that they are of: the one that is named before them, or those of the
/// row in README.md's table of commands, or any, or a bench or a script of the project.
pub fn flags(root: &Path, help: &Help, document: &Document) -> Result<(), String> {
    let lines: Vec<&str> = document.text.lines().collect();
    let mut mistakes = vec![];
    for shown in collect::spans(document) {
        let Ok(words) = words::split(&shown.text.replace("\\|", "|")) else { continue };
        let Some(first) = words.first().map(|word| word.text.as_str()) else { continue };
        let line = shown.place.rsplit(':').next().and_then(|line| line.parse::<usize>().ok());
        let row = line.and_then(|line| lines.get(line - 1)).map_or("", |line| line);
        let is_verb = first.len() > 1 && help.named(first).is_ok();
        let outcome = match () {
            () if is_verb => help.check_flags(&words),
            () if first.ends_with(".py") => known(&scripts(root, Some(first)), &words),
            () if first.len() > 2 && first.starts_with("--") => match of_row(row, help) {
                verbs if verbs.is_empty() => any(root, help, &words),
                verbs => {
                    verbs.iter().map(|verb| in_row(help, verb, &words)).find(Result::is_ok).unwrap_or_else(|| {
                        Err(format!("`{}` is no flag of {}", words::join(&words), verbs.join(" or ")))
                    })
                }
            },
            () => Ok(()),
        };
        mistakes.extend(outcome.err().map(|error| format!("{}: `{}`: {error}", shown.place, shown.text)));
    }
    if mistakes.is_empty() { Ok(()) } else { Err(mistakes.join("\n")) }
}

/// The commands that a row of README.md's table is of.
fn of_row(row: &str, help: &Help) -> Vec<String> {
    let cell = row.strip_prefix("| ").and_then(|row| row.split(" | ").next()).unwrap_or_default();
    let names = cell.split(", ").filter_map(|name| name.strip_prefix('`')?.strip_suffix('`'));
    names.filter(|name| help.named(name).is_ok()).map(Into::into).collect()
}

/// A flag in the row of a command, or of a command below it.
fn in_row(help: &Help, verb: &str, words: &[Word]) -> Result<(), String> {
    let is_below = |name: &str| name == verb || name.starts_with(&format!("{verb} "));
    let verbs = help.verbs.iter().filter(|own| is_below(&own.name));
    known(&verbs.flat_map(|verb| verb.flags.keys().cloned()).collect::<Vec<_>>().join("\n"), words)
}

/// A flag of any command, bench or script.
fn any(root: &Path, help: &Help, words: &[Word]) -> Result<(), String> {
    let flags = help.verbs.iter().flat_map(|verb| verb.flags.keys().cloned());
    let all = flags.collect::<Vec<_>>().join("\n");
    known(&format!("{all}\n{}", scripts(root, None)), words)
}

/// Whether all flags among the words are in a list, each in a line or in quotes.
fn known(list: &str, words: &[Word]) -> Result<(), String> {
    let list: Vec<&str> = list.split(['\n', '"']).collect();
    for word in words.iter().filter(|word| word.text.len() > 2 && word.text.starts_with("--")) {
        let flag = word.text.split(['=', '|']).next().unwrap_or_default();
        if !list.contains(&flag) {
            return Err(format!("nothing has the flag {flag}"));
        }
    }
    Ok(())
}

/// The text of the project's scripts in Python and of the program in Burn, or of one of them.
fn scripts(root: &Path, name: Option<&str>) -> String {
    let mut text = String::new();
    for folder in SCRIPTS {
        let entries = std::fs::read_dir(root.join(folder)).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            let is_wanted = name.is_none_or(|name| path.ends_with(name));
            if is_wanted && path.extension().is_some_and(|ending| ending == "py") {
                text += &std::fs::read_to_string(path).unwrap_or_default();
            }
        }
    }
    if name.is_none() {
        let burn = std::fs::read_to_string(root.join("benches/peers/burn/src/main.rs")).unwrap_or_default();
        text += &crate::others::declared_flags(&burn).join("\n");
        // It is told of each command, and none explains it.
        text += "\n--help\n";
    }
    text
}

/// Follows the links to files of the project, and to headings of documents.
pub fn links(root: &Path, documents: &[Document], document: &Document) -> Result<(), String> {
    let folder = Path::new(&document.name).parent().unwrap_or(Path::new(""));
    let mut mistakes = vec![];
    for (line, target) in collect::links(document) {
        if target.contains("://") {
            continue;
        }
        let (path, anchor) =
            target.split_once('#').map_or((target.as_str(), None), |(path, anchor)| (path, Some(anchor)));
        let path = if path.is_empty() { PathBuf::from(&document.name) } else { plain(&folder.join(path)) };
        let page = documents.iter().find(|document| Path::new(&document.name) == path);
        let has = |anchor: &str| page.is_some_and(|page| collect::anchors(page).iter().any(|own| own == anchor));
        if !root.join(&path).exists() {
            mistakes.push(format!("{}:{line}: {target} is not there", document.name));
        } else if anchor.is_some_and(|anchor| !has(anchor)) {
            mistakes.push(format!("{}:{line}: {target}: there is no such heading", document.name));
        }
    }
    if mistakes.is_empty() { Ok(()) } else { Err(mistakes.join("\n")) }
}

/// A path without `..`.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut plain, part| {
        match part {
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
        plain
    })
}
