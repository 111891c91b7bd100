//! How a command is shortened, so that all of them run in a minute: values are replaced and flags are added, and nothing of what a
//! document teaches is taken away. `docs/TESTING.md` has the same table.

use std::fmt::Write;

use crate::help::Help;
use crate::words::Word;

/// What is changed.
enum Rule {
    /// The number behind a flag is at most this.
    AtMost { of: &'static [&'static str], flag: &'static str, most: u32, missing: Missing },
    /// A flag is added where it is not there.
    Added { of: &'static [&'static str], flag: &'static str, value: &'static str, but: &'static str },
    /// A word is replaced by another.
    Replaced { word: &'static str, by: &'static str, because: &'static str },
    /// What more is done, in words. `apply` does it, or the module that is named.
    Told { shown: &'static str, run: &'static str },
}

/// What comes of a flag that is not there.
enum Missing {
    Added,
    /// It is not added beside this one.
    AddedWithout(&'static str),
    /// It is added beside this one alone.
    AddedWith(&'static str),
    Left,
}

const TRAINING: &[&str] = &["train", "benchmark bl2012"];
const PROFILES: &[&str] = &["profile train", "profile generate", "profile op"];
/// A product so small that its kernels are compiled and run in a moment.
const SMALL_SHAPE: &str = "m=64,n=64,k=64";

/// All rules, in the order in which they are applied.
const RULES: &[Rule] = &[
    Rule::AtMost { of: TRAINING, flag: "--steps", most: 2, missing: Missing::Added },
    Rule::AtMost { of: TRAINING, flag: "--batch", most: 1, missing: Missing::AddedWithout("--resume") },
    Rule::AtMost { of: TRAINING, flag: "--seq", most: 8, missing: Missing::AddedWithout("--resume") },
    Rule::AtMost { of: TRAINING, flag: "--warmup", most: 1, missing: Missing::Left },
    Rule::AtMost { of: &["train"], flag: "--samples", most: 1, missing: Missing::Added },
    Rule::Added { of: &["train"], flag: "--data", value: "midi", but: "beside `--resume`, or to `deepj train` alone" },
    Rule::AtMost { of: &["generate"], flag: "--bars", most: 2, missing: Missing::AddedWithout("--seconds") },
    Rule::AtMost { of: &["generate"], flag: "--count", most: 2, missing: Missing::Left },
    Rule::AtMost { of: &["generate"], flag: "--candidates", most: 2, missing: Missing::Added },
    Rule::AtMost { of: &["play"], flag: "--bars", most: 1, missing: Missing::Left },
    Rule::AtMost { of: &["play"], flag: "--seconds", most: 1, missing: Missing::AddedWithout("--bars") },
    Rule::Told {
        shown: "`play`: `--port`, `--virtual-port`, `--audio-device`, `--soundfont`, `--control`",
        run: "`--silent` in their place, and where none of them is",
    },
    Rule::AtMost { of: &["vary"], flag: "--candidates", most: 4, missing: Missing::Added },
    Rule::AtMost { of: &["classify"], flag: "--count", most: 1, missing: Missing::AddedWith("--checkpoint") },
    Rule::AtMost { of: &["classify"], flag: "--bars", most: 4, missing: Missing::Added },
    Rule::AtMost { of: &["classify"], flag: "--updates", most: 2, missing: Missing::Added },
    Rule::AtMost { of: &["survey"], flag: "--pairs", most: 1, missing: Missing::Left },
    Rule::AtMost { of: &["survey"], flag: "--seconds", most: 2, missing: Missing::AddedWithout("--score") },
    Rule::AtMost { of: &["profile train"], flag: "--batch", most: 1, missing: Missing::Added },
    Rule::AtMost { of: &["profile train"], flag: "--seq", most: 8, missing: Missing::Added },
    Rule::AtMost { of: PROFILES, flag: "--runs", most: 2, missing: Missing::Added },
    Rule::AtMost { of: &["profile ab"], flag: "--runs", most: 1, missing: Missing::Added },
    Rule::AtMost { of: &["profile ab"], flag: "--pairs", most: 2, missing: Missing::Added },
    Rule::AtMost { of: &["scale"], flag: "--updates", most: 1, missing: Missing::Added },
    Rule::AtMost { of: &["scale"], flag: "--batch", most: 1, missing: Missing::Added },
    Rule::AtMost { of: &["scale"], flag: "--seq", most: 8, missing: Missing::Added },
    Rule::Added { of: &["verify"], flag: "--only", value: "add/", but: "beside `--merge`" },
    Rule::Replaced { word: "WHAT", by: "train", because: "the page's word for `train` and `generate`" },
    Rule::Replaced { word: "scale", by: "add", because: "the op that [NEW-OP.md](NEW-OP.md) adds" },
    Rule::Replaced { word: "LAYER", by: "time.1", because: "a placeholder" },
    Rule::Told { shown: "`--device` with an adapter that is not here, or is software", run: "`--device cpu`" },
    Rule::Told {
        shown: "`--variant` or `--isa`, which no CPU has",
        run: "on the machine's first adapter, and there `op gemm --shape m=64,n=64,k=64`; without an adapter not at all",
    },
    Rule::Told {
        shown: "`experiments/*.toml`",
        run: "a copy with one seed, one update of `batch = 1`, `seq = 8` a run, and samples of one piece and one bar",
    },
    Rule::Told { shown: "`for x in a b c`", run: "its first value" },
    Rule::Told {
        shown: "`midi`, `both`, `bl2012`, `pieces`, `runs/first` and other files and folders that the documents speak of; \
                placeholders in capitals",
        run: "small ones of this name, which the program makes before: pieces of a few bars, runs of one update",
    },
];

/// The rules as rows of a table.
pub fn table() -> String {
    let names = |of: &[&str]| of.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let mut rows = String::from("| a document shows | what runs |\n|---|---|\n");
    for rule in RULES {
        let (shown, run) = match rule {
            Rule::AtMost { of, flag, most, missing } => {
                let added = match missing {
                    Missing::Added => "; added where it is missing".into(),
                    Missing::AddedWithout(other) => format!("; added where it is missing, but not beside `{other}`"),
                    Missing::AddedWith(other) => format!("; added where it is missing beside `{other}`"),
                    Missing::Left => String::new(),
                };
                (format!("{}: `{flag}`", names(of)), format!("at most {most}{added}"))
            }
            Rule::Added { of, flag, value, but } => {
                (format!("{} without `{flag}`", names(of)), format!("with `{flag} {value}`, but not {but}"))
            }
            Rule::Replaced { word, by, because } => (format!("`{word}`, {because}"), format!("`{by}`")),
            Rule::Told { shown, run } => ((*shown).to_string(), (*run).to_string()),
        };
        let _ = writeln!(rows, "| {shown} | {run} |");
    }
    rows
}

/// The adapters of the machine.
#[derive(Clone, Debug, Default)]
pub struct Adapters {
    /// Names of those in hardware, in small letters, with their interface as in `[vulkan`.
    pub hardware: Vec<String>,
    /// Whether there is any.
    pub any: bool,
}

/// Why a command does not run here: it needs an adapter, and there is none.
pub const NO_ADAPTER: &str = "--variant and --isa need an adapter, and none is here";

/// Puts words in the place of others.
pub fn replace(words: &mut [Word]) {
    for rule in RULES {
        if let Rule::Replaced { word, by, .. } = rule {
            // The first word is a command, which may have the same name.
            words.iter_mut().skip(1).filter(|own| own.text == *word).for_each(|own| *own = Word::new(*by));
        }
    }
}

/// Applies the other rules to the words behind the program's name.
///
/// # Errors
/// There is no such command, or [`NO_ADAPTER`].
pub fn apply(words: &mut Vec<Word>, help: &Help, adapters: &Adapters) -> Result<(), String> {
    let verb = help.verb(words)?.0.name.clone();
    // What `profile ab` profiles has flags as `profile` has them.
    let at = words.iter().position(|word| word.text == "--").unwrap_or(words.len());
    let mut inner = words.split_off(at);
    let whole = crate::words::join(words);
    limit(words, &verb, &whole);
    devices(words, adapters);
    if verb == "play" {
        silence(words);
    }
    if verb != "profile ab" {
        if whole.contains("--variant") || whole.contains("--isa") {
            on_an_adapter(words, adapters)?;
            let shape = !whole.contains("--shape") && verb == "profile op";
            words.extend(shape.then(|| ["--shape", SMALL_SHAPE].map(Word::new)).into_iter().flatten());
        }
        words.extend(inner);
        return Ok(());
    }
    if whole.contains("--variant") {
        inner = ["--", "op", "gemm", "--shape", SMALL_SHAPE].map(Word::new).into();
        on_an_adapter(&mut inner, adapters)?;
    } else {
        if inner.len() < 2 {
            inner = ["--", "train"].map(Word::new).into();
        }
        let profiled = format!("profile {}", inner[1].text);
        let runs = inner.len();
        limit(&mut inner, &profiled, &format!("{whole} --runs"));
        devices(&mut inner[..runs], adapters);
    }
    words.extend(inner);
    Ok(())
}

/// Lowers numbers and adds flags. A flag that stands in `whole`, be it within quotes, is not added.
fn limit(words: &mut Vec<Word>, verb: &str, whole: &str) {
    let has = |flag: &str| whole.split(['\'', ' ', '=']).any(|word| word == flag);
    let alone = words.len() == verb.split(' ').count();
    // Ends at once, and takes no flag of a training.
    if has("--fields") {
        return;
    }
    for rule in RULES {
        match rule {
            Rule::AtMost { of, flag, most, missing } if of.contains(&verb) => {
                if let Some(value) = value(words, flag) {
                    let is_more = value.parse::<f64>().is_ok_and(|value| value > f64::from(*most));
                    if is_more {
                        *value = most.to_string();
                    }
                    continue;
                }
                let is_added = match missing {
                    Missing::Added => true,
                    Missing::AddedWithout(other) => !has(other),
                    Missing::AddedWith(other) => has(other),
                    Missing::Left => false,
                };
                if is_added && !has(flag) {
                    words.extend([Word::new(*flag), Word::new(most.to_string())]);
                }
            }
            Rule::Added { of, flag, value, .. } if of.contains(&verb) => {
                let excepted = has("--resume") || has("--merge") || alone && verb == "train";
                if !has(flag) && !excepted {
                    words.extend([Word::new(*flag), Word::new(*value)]);
                }
            }
            _ => (),
        }
    }
}

/// The word behind a flag.
fn value<'a>(words: &'a mut [Word], flag: &str) -> Option<&'a mut String> {
    let at = words.iter().position(|word| word.text == flag)?;
    words.get_mut(at + 1).map(|word| &mut word.text)
}

/// The CPU in place of an adapter that is not here. One in software would compile kernels for minutes.
fn devices(words: &mut [Word], adapters: &Adapters) {
    if let Some(device) = value(words, "--device") {
        let wanted = device.to_lowercase();
        if !adapters.hardware.iter().any(|name| name.contains(&wanted)) {
            *device = "cpu".into();
        }
    }
}

/// Without sound, ports and controllers, which are hardly here.
fn silence(words: &mut Vec<Word>) {
    for flag in ["--port", "--virtual-port", "--audio-device", "--soundfont", "--control"] {
        if let Some(at) = words.iter().position(|word| word.text == flag) {
            words.drain(at..(at + 2).min(words.len()));
        }
    }
    if !words.iter().any(|word| word.text == "--silent") {
        words.push(Word::new("--silent"));
    }
}

fn on_an_adapter(words: &mut Vec<Word>, adapters: &Adapters) -> Result<(), String> {
    match value(words, "--device") {
        _ if !adapters.any => return Err(NO_ADAPTER.into()),
        Some(device) => *device = "0".into(),
        None => words.extend(["--device", "0"].map(Word::new)),
    }
    Ok(())
}

/// An experiment that is over in a moment.
pub fn shorten_experiment(text: &str) -> String {
    let mut part = "";
    let mut short = String::new();
    for line in text.lines() {
        let key = line.split_once('=').map_or("", |(key, _)| key.trim());
        part = if line.starts_with('[') { line } else { part };
        let line = match (part, key) {
            ("", "seeds") => "seeds = [0]",
            ("[budget]", "steps" | "minutes") => "steps = 1",
            ("[budget]", "validate-every") => "validate-every = 1",
            ("[samples]", "pieces") => "pieces = 1",
            ("[samples]", "bars") => "bars = 1",
            ("[base]", "batch" | "seq") => continue,
            _ => line,
        };
        short += line;
        short += if line == "[base]" { "\nbatch = 1\nseq = 8\n" } else { "\n" };
    }
    short
}
