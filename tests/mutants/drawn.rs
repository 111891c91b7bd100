//! Kernels broken by the rules of mutation testing: operators, numbers, names and whole statements of a shader's functions
//! are changed one at a time. Of all such changes a few are drawn for each kernel; the same each time, since a change's
//! place in the draw is a hash of what it says.

use std::collections::BTreeSet;

use deepj::gpu::Shader;

use super::kernels::kernel_of;
use super::mutant::{Broken, OWN, with_common, words};

/// Another seed draws other changes.
const SEED: u64 = 5;

/// Each is changed into what stands beside it.
const OPERATORS: [(&str, &str); 13] = [
    (" + ", " - "),
    (" - ", " + "),
    (" * ", " + "),
    (" / ", " * "),
    (" % ", " / "),
    (" < ", " <= "),
    (" <= ", " < "),
    (" > ", " >= "),
    (" >= ", " > "),
    (" == ", " != "),
    (" || ", " && "),
    (" && ", " || "),
    (" += ", " = "),
];

/// Names that a person might mix up: each is changed into the next of its group.
const NAMES: [&[&str]; 16] = [
    &["i", "f", "g", "o"],
    &["x", "y", "z", "w"],
    &["m", "n", "k"],
    &["row", "col"],
    &["rows", "cols", "notes"],
    &["first", "step"],
    &["a0", "a1"],
    &["b0", "b1"],
    &["h0", "h1", "h2"],
    &["w0", "w1"],
    &["s0", "s1"],
    &["a_step", "b_step"],
    &["before", "after"],
    &["min", "max"],
    &["sigmoid_", "tanh_"],
    &["site", "chosen_site"],
];

/// A change of one line.
pub struct Change {
    /// `file/entry`.
    pub kernel: String,
    /// The function, the line and what becomes of it.
    pub name: String,
    pub broken: Broken,
}

/// Draws `count` changes of a kernel, or as many as there are, of which all make a shader that compiles; `shaders` are
/// those that its cases run. Functions of the common text that are in `common` are left alone; others join them, so that
/// they are changed in one kernel.
pub fn draw(shaders: &[Shader], count: usize, common: &mut BTreeSet<String>) -> Vec<Change> {
    let Some(shader) = shaders.first() else { return vec![] };
    let kernel = kernel_of(shader);
    let text = with_common(shader.source);
    let mut changes: Vec<(u64, String, String)> = vec![];
    for function in reached(&text, shader.entry) {
        if function.name.ends_with(OWN) && !common.insert(function.name.into()) {
            continue;
        }
        for (line, at) in &function.lines {
            let before = function.lines.iter().filter(|(other, other_at)| other_at < at && other.trim() == line.trim());
            let again = match before.count() {
                0 => String::new(),
                count => format!(" (number {})", count + 1),
            };
            for changed in changed(line, &text) {
                let name = format!("{}: `{}`{again} becomes `{}`", function.name, line.trim(), changed.trim());
                let name = name.replace(OWN, "");
                let text = format!("{}{changed}{}", &text[..*at], &text[at + line.len()..]);
                changes.push((hash(&format!("{kernel} {name}")), name, text));
            }
        }
    }
    changes.sort();
    let compiling = changes.into_iter().filter_map(|(_, name, text)| {
        let broken = Broken::new(shader, text);
        let changed = shaders.iter().find(|shader| broken.changes(shader))?;
        broken.validate(changed).ok()?;
        Some(Change { kernel: kernel.clone(), name, broken })
    });
    compiling.take(count).collect()
}

/// FNV-1a.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325 ^ SEED, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// A function of a shader: the lines of its body, with their places in the text.
struct Function<'a> {
    name: &'a str,
    lines: Vec<(&'a str, usize)>,
}

/// The functions of a text that an entry point calls, itself first.
fn reached<'a>(text: &'a str, entry: &str) -> Vec<Function<'a>> {
    let mut all: Vec<Function> = vec![];
    let (mut at, mut inside, mut body) = (0, false, false);
    for line in text.split_inclusive('\n') {
        if let Some(declared) = line.strip_prefix("fn ") {
            let name = words(declared).next().map_or("", |(_, name)| name);
            all.push(Function { name, lines: vec![] });
            inside = true;
        }
        if line.starts_with('}') {
            (inside, body) = (false, false);
        }
        if let (true, Some(function)) = (body, all.last_mut()) {
            function.lines.push((line.trim_end_matches('\n'), at));
        }
        // Parameters may stand on lines of their own.
        body = inside && (body || line.trim_end().ends_with('{'));
        at += line.len();
    }
    let mut found: Vec<usize> = all.iter().position(|function| function.name == entry).into_iter().collect();
    let mut next = 0;
    while let Some(&i) = found.get(next) {
        for (line, _) in &all[i].lines {
            let line = code(line);
            let calls = words(line).filter(|(at, word)| line[at + word.len()..].starts_with('('));
            let called = calls.filter_map(|(_, word)| all.iter().position(|function| function.name == word));
            for j in called {
                if !found.contains(&j) {
                    found.push(j);
                }
            }
        }
        next += 1;
    }
    let mut functions: Vec<Option<Function>> = all.into_iter().map(Some).collect();
    found.into_iter().filter_map(|i| functions[i].take()).collect()
}

/// A line without its comment.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or(line)
}

/// All that may become of a line. How a loop goes on is left alone, so that all loops end.
fn changed(line: &str, text: &str) -> Vec<String> {
    let whole = code(line).trim_end();
    let header = ["for (", "while "].iter().any(|word| whole.trim_start().starts_with(word));
    let steers = |name: &str| {
        let headers = text.lines().filter(|line| line.trim_start().starts_with("while "));
        headers.flat_map(words).any(|(_, word)| word == name)
    };
    let assigned = whole.trim_start().split_once('=').map(|(left, _)| left.trim_end_matches([' ', '+', '-', '*', '/']));
    if assigned.is_some_and(|name| !name.contains(' ') && steers(name)) {
        return vec![];
    }
    let code = match header {
        true => &whole[..whole.rfind(';').unwrap_or(whole.len())],
        false => whole,
    };
    let put = |at: usize, len: usize, new: &str| format!("{}{new}{}", &line[..at], &line[at + len..]);
    let mut all = vec![];
    for (old, new) in OPERATORS {
        let allowed = !header || [" < ", " <= ", " >= "].contains(&old);
        if allowed {
            all.extend(code.match_indices(old).map(|(at, _)| put(at, old.len(), new)));
        }
    }
    for (at, word) in words(code) {
        let number = word.strip_suffix('u').and_then(|digits| digits.parse::<u32>().ok());
        if let Some(number) = number {
            all.push(put(at, word.len(), &format!("{}u", number + 1)));
            if number > 0 && !header {
                all.push(put(at, word.len(), &format!("{}u", number - 1)));
            }
        }
        let group = NAMES.iter().find(|group| group.contains(&word)).filter(|_| !header);
        if let Some(group) = group {
            let place = group.iter().position(|name| *name == word).unwrap_or_default();
            all.push(put(at, word.len(), group[(place + 1) % group.len()]));
        }
    }
    for (old, new) in [("1.0", "2.0"), ("2.0", "1.0"), ("0.0", "1.0")] {
        let parts = code.match_indices(old).filter(|(at, _)| !code[..*at].ends_with(|c: char| c.is_ascii_digit()));
        all.extend(parts.map(|(at, _)| put(at, old.len(), new)));
    }
    let statement = code.trim_start();
    let declares = ["let ", "var ", "return", "_ "].iter().any(|word| statement.starts_with(word));
    let balanced = code.matches('(').count() == code.matches(')').count();
    if !header && !declares && balanced && statement.ends_with(';') {
        all.push(put(code.len() - statement.len(), statement.len(), ""));
    }
    all
}
