//! Which trials there are: one for each command, and some for each page.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use libtest_mimic::{Failed, Trial};

use crate::collect::{self, Document, How, Shown};
use crate::figures::FIGURES;
use crate::help::Help;
use crate::reader::Workshop;
use crate::words::{self, Word};
use crate::{others, pages, rules};

/// Commands that are left out, by how they begin, and why.
const LEFT_OUT: [(&str, &str); 5] = [
    ("mpirun", "wants MPI and a build for it; tests/mpirun.rs starts ranks"),
    ("git clone", "fetches the project from a place that the page does not name"),
    ("pip install", "fetches packages"),
    ("cargo install", "fetches and builds a program"),
    ("cargo fuzz", "wants cargo-fuzz; .ci/run builds the targets"),
];

/// A command that sentences speak of, and that does nothing without arguments.
const SPOKEN_OF: &str = "deepj profile ab";

/// Scripts as sentences name them.
const SCRIPTS: [&str; 6] =
    [".ci/run", ".ci/compilers", ".ci/dependencies", ".ci/wasm", "fuzz/run", "benches/gpu/measure.sh"];

/// Letters of a command in the name of its trial.
const NAME: usize = 80;

/// What must at least be found of each kind, so that a document that is read wrongly is noticed.
const LEAST: [(&str, usize); 9] = [
    ("run in help", 50),
    ("run in blocks", 45),
    ("run in text", 45),
    ("fragment", 8),
    ("cargo", 45),
    ("python", 10),
    ("script", 8),
    ("flags", 180),
    ("links", 100),
];

pub struct All {
    pub trials: Vec<Trial>,
    /// What does not run, and why.
    pub left_out: Vec<String>,
}

/// What is done with something that a document shows.
enum Kind {
    /// The program runs, as often as there are words between `|`, with what is set before.
    Run {
        settings: Vec<Word>,
        commands: Vec<Vec<Word>>,
    },
    /// A part of a command of the program, without its name.
    Fragment(Vec<Word>),
    Cargo(Vec<Word>),
    Python(Vec<Word>),
    Script(Vec<Word>),
    /// A command of the system.
    System(Vec<Word>),
    LeftOut(&'static str),
    /// No command.
    Text,
}

impl Kind {
    const fn name(&self) -> &'static str {
        match self {
            Self::Run { .. } | Self::System(_) => "run",
            Self::Fragment(_) => "fragment",
            Self::Cargo(_) => "cargo",
            Self::Python(_) => "python",
            Self::Script(_) => "script",
            Self::LeftOut(_) => "left out",
            Self::Text => "text",
        }
    }
}

/// The project's files, the program and what it says of itself.
struct Project {
    root: PathBuf,
    help: Help,
    workshop: Workshop,
}

/// # Errors
/// The program or the documents cannot be read.
pub fn all() -> Result<All, String> {
    let given = |variable: &str| std::env::var_os(variable).map(PathBuf::from);
    let absolute = |path: PathBuf| std::path::absolute(path).map_err(|error| error.to_string());
    let root = absolute(given("DEEPJ_DOCUMENTS").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into()))?;
    let built = option_env!("CARGO_BIN_EXE_deepj").map(PathBuf::from);
    let program = absolute(given("DEEPJ_PROGRAM").or(built).ok_or("DEEPJ_PROGRAM names no program")?)?;
    let documents = Arc::new(collect::documents(&root)?);
    let project = Project { help: Help::of(&program)?, workshop: Workshop::new(&root, &program)?, root };
    let project = Arc::new(project);
    let (mut trials, mut left_out, mut counts) = (vec![], vec![], BTreeMap::new());
    let mut shown: Vec<Shown> = project.help.examples();
    for document in documents.iter() {
        match collect::blocks(document) {
            Ok(blocks) => shown.extend(blocks),
            Err(error) => trials.push(failing(format!("blocks/{}", document.name), error)),
        }
        shown.extend(collect::spans(document));
        *counts.entry("links").or_insert(0) += collect::links(document).len();
    }
    for shown in shown {
        let kind = sorted(&shown, &project.help);
        let name = kind.as_ref().map_or("run", Kind::name);
        let counted = match (name, shown.how) {
            ("run", How::Help) => "run in help",
            ("run", How::Block) => "run in blocks",
            ("run", How::Span) => "run in text",
            ("text", _) if shown.text.starts_with("--") => "flags",
            (name, _) => name,
        };
        *counts.entry(counted).or_insert(0) += 1;
        let trial = format!("{name}/{} {}", shown.place, clipped(&shown.text));
        match kind {
            Ok(Kind::Text) => (),
            Ok(Kind::LeftOut(why)) => left_out.push(format!("not run: {} {}: {why}", shown.place, shown.text)),
            Ok(kind) => {
                let project = project.clone();
                trials.push(Trial::test(trial, move || kind.check(&project).map_err(Failed::from)));
            }
            Err(error) => trials.push(failing(trial, error)),
        }
    }
    let mut page = |name: &str, document: usize, check: fn(&Project, &[Document], usize) -> Result<(), String>| {
        let (project, documents) = (project.clone(), documents.clone());
        let trial = format!("{name}/{}", documents[document].name);
        trials.push(Trial::test(trial, move || check(&project, &documents, document).map_err(Failed::from)));
    };
    for document in 0..documents.len() {
        page("flags", document, |project, all, i| pages::flags(&project.root, &project.help, &all[i]));
        page("links", document, |project, all, i| pages::links(&project.root, all, &all[i]));
    }
    for (name, figure) in FIGURES {
        let project = project.clone();
        let check = move || figure(&project.workshop, &project.help).map_err(Failed::from);
        trials.push(Trial::test(format!("figures/{name}"), check));
    }
    let root = project.root.clone();
    trials.push(Trial::test("rules/docs/TESTING.md has them all", move || table(&root).map_err(Failed::from)));
    trials.push(Trial::test("found/enough of each kind", move || enough(&counts).map_err(Failed::from)));
    left_out.push("checked, not run: cargo, python3 and scripts, which build, measure or install for minutes".into());
    Ok(All { trials, left_out })
}

/// The beginning of a command: names of trials stand in a column.
fn clipped(text: &str) -> String {
    let mut clipped: String = text.chars().take(NAME).collect();
    if clipped.len() < text.len() {
        clipped.push('…');
    }
    clipped
}

fn failing(name: String, error: String) -> Trial {
    Trial::test(name, move || Err(Failed::from(error)))
}

/// What something is that a document shows.
fn sorted(shown: &Shown, help: &Help) -> Result<Kind, String> {
    let is_span = shown.how == How::Span;
    if let Some((_, why)) = LEFT_OUT.iter().find(|(begin, _)| shown.text.starts_with(begin)) {
        return Ok(Kind::LeftOut(why));
    }
    let words = match words::split(&shown.text) {
        Err(_) if is_span => return Ok(Kind::Text),
        words => words?,
    };
    let (settings, words) = words.split_at(words::settings(&words));
    let texts: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
    match texts[..] {
        ["deepj", ..] | ["cargo", "run", "--release", "--", ..] => program(shown, settings, words, help),
        ["cargo", _, ..] => Ok(Kind::Cargo(words[1..].to_vec())),
        ["python3", _, ..] => Ok(Kind::Python(words[1..].to_vec())),
        ["cp" | "mkdir", ..] if !is_span => Ok(Kind::System(words.to_vec())),
        [script, ..] if !is_span || SCRIPTS.contains(&script) => Ok(Kind::Script(words.to_vec())),
        // The filters of docs/TRUST.md are those of the kernel tests.
        ["--", ..] => Ok(Kind::Cargo([&words::split("test --test kernels")?, words].concat())),
        _ => Ok(Kind::Text),
    }
}

/// What to do with a line that runs the program: nothing in sentences that only name it, and a part of a command is checked.
fn program(shown: &Shown, settings: &[Word], words: &[Word], help: &Help) -> Result<Kind, String> {
    let commands = words.split(|word| word.bare && word.text == "|");
    let own = |words: &[Word]| match words {
        [first, rest @ ..] if first.text == "deepj" => Ok(rest.to_vec()),
        [first, _, _, _, rest @ ..] if first.text == "cargo" => Ok(rest.to_vec()),
        _ => Err(format!("`{}` is not the program", words::join(words))),
    };
    let mut commands: Vec<Vec<Word>> = commands.map(own).collect::<Result<_, _>>()?;
    commands.iter_mut().for_each(|command| rules::replace(command));
    let is_span = shown.how == How::Span;
    if is_span && commands == [vec![]] {
        return Ok(Kind::Text);
    }
    let is_part = is_span && (shown.text == SPOKEN_OF || shown.text.contains('…'));
    for command in &commands {
        match help.lacks(command)? {
            _ if is_part => return Ok(Kind::Fragment(command.clone())),
            None => (),
            Some(_) if is_span => return Ok(Kind::Fragment(command.clone())),
            Some(lacking) => return Err(format!("the command lacks {lacking}")),
        }
    }
    Ok(Kind::Run { settings: settings.to_vec(), commands })
}

impl Kind {
    fn check(&self, project: &Project) -> Result<(), String> {
        let root = &project.root;
        match self {
            Self::Run { settings, commands } => run(project, settings, commands),
            Self::Fragment(words) => project.help.check_flags(words),
            Self::Cargo(words) => others::cargo(root, words),
            Self::Python(words) => others::python(root, words).and_then(|()| others::files(root, &words[1..])),
            Self::Script(words) => others::script(root, words),
            Self::System(words) => project.workshop.run(words).map(drop),
            Self::LeftOut(_) | Self::Text => Ok(()),
        }
    }
}

/// Runs commands of the program, shortened.
fn run(project: &Project, settings: &[Word], commands: &[Vec<Word>]) -> Result<(), String> {
    let adapters = project.workshop.adapters()?;
    let mut line = settings.to_vec();
    for (i, command) in commands.iter().enumerate() {
        if i > 0 {
            line.push(Word { text: "|".into(), bare: true });
        }
        let mut command = command.clone();
        match rules::apply(&mut command, &project.help, adapters) {
            Err(why) if why == rules::NO_ADAPTER => {
                println!("not run: deepj {}: {why}", words::join(&command));
                return Ok(());
            }
            done => done?,
        }
        line.push(Word::new("deepj"));
        line.extend(command);
    }
    project.workshop.run(&line).map(drop)
}

/// Holds the rules of docs/TESTING.md against those that there are.
fn table(root: &Path) -> Result<(), String> {
    let page = std::fs::read_to_string(root.join("docs/TESTING.md")).map_err(|error| error.to_string())?;
    let table = rules::table();
    if page.contains(&table) { Ok(()) } else { Err(format!("docs/TESTING.md must have\n\n{table}")) }
}

/// Tells what was found too little of.
fn enough(counts: &BTreeMap<&str, usize>) -> Result<(), String> {
    let found = |kind: &str| counts.get(kind).copied().unwrap_or_default();
    let few = LEAST.iter().filter(|(kind, least)| found(kind) < *least);
    let few: Vec<String> = few.map(|(kind, least)| format!("{kind}: {} of at least {least}", found(kind))).collect();
    if few.is_empty() { Ok(()) } else { Err(few.join(", ")) }
}
