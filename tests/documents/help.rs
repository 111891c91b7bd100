//! The program's commands and flags, as its own help tells them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::collect::{How, Shown, without_comment};
use crate::words::Word;

/// What follows a flag.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Takes {
    Nothing,
    /// A value or nothing, as `--resume [auto]`.
    Maybe,
    Value,
}

/// A command of the program.
pub struct Verb {
    /// Its name, such as `profile train`; that of the program itself is empty.
    pub name: String,
    pub flags: BTreeMap<String, Takes>,
    /// How many arguments must be there that are no flags, and which flags.
    arguments: usize,
    required: Vec<String>,
    /// Commands of its own.
    subcommands: Vec<String>,
    pub examples: Vec<String>,
}

/// All commands.
pub struct Help {
    pub verbs: Vec<Verb>,
}

impl Help {
    /// Asks the program.
    pub fn of(program: &Path) -> Result<Self, String> {
        let mut verbs = vec![];
        let mut names = vec![String::new()];
        while let Some(name) = names.pop() {
            let verb = Verb::of(program, &name)?;
            names.extend(verb.subcommands.iter().rev().map(|sub| format!("{name} {sub}").trim().to_string()));
            verbs.push(verb);
        }
        Ok(Self { verbs })
    }

    /// The command that the words behind the program's name begin with, and how many of them are its name.
    pub fn verb(&self, words: &[Word]) -> Result<(&Verb, usize), String> {
        let mut found = self.named("")?;
        for (i, word) in words.iter().enumerate() {
            if !found.subcommands.contains(&word.text) {
                // A group of commands is none, but for its help.
                let is_group = !found.subcommands.is_empty() && !word.text.starts_with('-');
                return if is_group { Err(format!("there is no command `{}`", word.text)) } else { Ok((found, i)) };
            }
            found = self.named(format!("{} {}", found.name, word.text).trim())?;
        }
        Ok((found, words.len()))
    }

    pub fn named(&self, name: &str) -> Result<&Verb, String> {
        self.verbs.iter().find(|verb| verb.name == name).ok_or_else(|| format!("there is no command `{name}`"))
    }

    /// Holds the flags among the words behind the program's name against the help.
    pub fn check_flags(&self, words: &[Word]) -> Result<(), String> {
        let (verb, _) = self.verb(words)?;
        let own = words.iter().take_while(|word| word.text != "--");
        for word in own.filter(|word| word.text.starts_with('-') && word.text.len() > 1) {
            verb.takes(word)?;
        }
        Ok(())
    }

    /// What a command lacks to be run: an argument, or the value of its last flag.
    pub fn lacks(&self, words: &[Word]) -> Result<Option<String>, String> {
        let (verb, name) = self.verb(words)?;
        let (mut arguments, mut flags, mut words) = (0, vec![], words[name..].iter().peekable());
        while let Some(word) = words.next() {
            if word.text == "--" {
                break;
            }
            if word.text == "-" || !word.text.starts_with('-') {
                arguments += 1;
                continue;
            }
            flags.push(word.text.split('=').next().unwrap_or_default());
            let is_value = |next: &&Word| next.text == "-" || !next.text.starts_with('-');
            match verb.takes(word)? {
                _ if word.text.contains('=') => (),
                Takes::Nothing => (),
                Takes::Maybe => drop(words.next_if(|next| is_value(next))),
                Takes::Value => match words.next_if(|next| is_value(next)) {
                    Some(_) => (),
                    None => return Ok(Some(format!("the value of {}", word.text))),
                },
            }
        }
        let given = |name: &str| flags.contains(&name) || name == "--output" && flags.contains(&"-o");
        let lacking = verb.required.iter().find(|name| !given(name));
        Ok(match lacking {
            Some(flag) => Some(flag.clone()),
            None => (arguments < verb.arguments).then(|| "an argument".to_string()),
        })
    }

    /// The examples, each a line to type.
    pub fn examples(&self) -> Vec<Shown> {
        let shown = |verb: &Verb| {
            let place = format!("deepj {} --help", verb.name).replace("  ", " ");
            let line = |text: &String| Shown { place: place.clone(), text: text.clone(), how: How::Help };
            verb.examples.iter().map(line).collect::<Vec<_>>()
        };
        self.verbs.iter().flat_map(shown).collect()
    }
}

impl Verb {
    fn of(program: &Path, name: &str) -> Result<Self, String> {
        let mut command = Command::new(program);
        command.args(name.split_whitespace()).arg("--help").env_remove("DEEPJ_DEVICE").env("COLUMNS", "200");
        let output = command.output().map_err(|error| format!("{}: {error}", program.display()))?;
        if !output.status.success() {
            return Err(format!("deepj {name} --help: {}", String::from_utf8_lossy(&output.stderr)));
        }
        // All of the program's own help is to fit on a screen, so its heading stands behind the line of usage.
        let text = String::from_utf8_lossy(&output.stdout).replace(". Commands:", "\nCommands:");
        let (arguments, required) = usage(&text);
        Ok(Self {
            name: name.into(),
            flags: text.lines().flat_map(flags).collect(),
            arguments,
            required,
            subcommands: section(&text, "Commands:")
                .filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')))
                .filter_map(|line| line.split_whitespace().next())
                .filter(|name| *name != "help")
                .map(Into::into)
                .collect(),
            examples: examples(&text),
        })
    }

    /// What the flag takes that a word is.
    fn takes(&self, word: &Word) -> Result<Takes, String> {
        let flag = word.text.split('=').next().unwrap_or_default();
        match self.flags.get(flag) {
            Some(takes) => Ok(*takes),
            None => Err(format!("`deepj {}` has no flag {flag}", self.name)),
        }
    }
}

/// The lines of the help behind the one that is `title`, as far as they stand further to the right.
fn section<'a>(text: &'a str, title: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().skip_while(move |line| *line != title).skip(1).take_while(|line| line.starts_with("  "))
}

/// The flags that a line of the help explains. Its text stands further to the right than they do.
fn flags(line: &str) -> Vec<(String, Takes)> {
    let names = line.trim_start();
    if line.len() - names.len() > 6 || !names.starts_with('-') {
        return vec![];
    }
    let names = names.split_once("  ").map_or(names, |(names, _)| names);
    let takes = match (names.contains("[<"), names.contains('<')) {
        (true, _) => Takes::Maybe,
        (_, true) => Takes::Value,
        _ => Takes::Nothing,
    };
    let flags = names.split([' ', ',']).filter(|name| name.starts_with('-'));
    flags.map(|flag| (flag.to_string(), takes)).collect()
}

/// What the line of usage demands: how many arguments, and which flags.
fn usage(text: &str) -> (usize, Vec<String>) {
    let mut lines = text.lines().skip_while(|line| !line.starts_with("Usage:"));
    let first = lines.next().unwrap_or_default();
    let more = lines.take_while(|line| line.starts_with("  "));
    let (mut depth, mut kept) = (0, String::new());
    for c in std::iter::once(first).chain(more).collect::<Vec<_>>().join(" ").chars() {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ if depth == 0 => kept.push(c),
            _ => (),
        }
    }
    let words: Vec<&str> = kept.split_whitespace().collect();
    let flags: Vec<String> = words.iter().filter(|word| word.starts_with("--")).map(ToString::to_string).collect();
    let values = words.iter().filter(|word| word.starts_with('<')).count();
    (values - flags.len(), flags)
}

/// The lines under `Examples:` and `First steps:`. One that does not begin with a command goes on with the one before.
fn examples(text: &str) -> Vec<String> {
    // These stand on the line of their heading, so that all of the program's help fits on a screen.
    let text = &text.replace("First steps: ", "First steps:\n  ").replace("; deepj ", "\n  deepj ");
    let mut found: Vec<String> = vec![];
    for line in section(text, "Examples:").chain(section(text, "First steps:")) {
        let line = line.trim();
        match found.last_mut() {
            Some(last) if !["deepj", "mpirun"].iter().any(|program| line.starts_with(program)) => {
                *last = format!("{last} {line}")
            }
            _ => found.push(line.to_string()),
        }
    }
    found.iter().map(|line| without_comment(line)).collect()
}
