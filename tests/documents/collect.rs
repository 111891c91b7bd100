//! What the documents show: lines of their blocks of code, and code within their text.

use std::path::{Path, PathBuf};

use crate::words;

/// What a block of code begins with if it shows commands.
const PROGRAMS: [&str; 9] = ["deepj", "cargo", "mpirun", "python3", "pip", "git", "cp", "mkdir", "for"];
/// Programs that are named by where they stand.
const FOLDERS: [&str; 4] = [".ci/", "fuzz/", "benches/", "target/release/"];

/// How a document shows something.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum How {
    /// As a line to type.
    Block,
    /// Within a sentence or a table.
    Span,
    /// Among the examples of the program's own help.
    Help,
}

/// Something that a document shows.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The document and the line, or the command whose help it is.
    pub place: String,
    pub text: String,
    pub how: How,
}

/// A document: its name from the project's folder on, and its text.
pub struct Document {
    pub name: String,
    pub text: String,
}

/// All documents, in the order of their names.
pub fn documents(root: &Path) -> Result<Vec<Document>, String> {
    let mut names = vec!["README.md".to_string(), "CONTRIBUTING.md".into(), "data/README.md".into()];
    names.push(".github/pull_request_template.md".into());
    let below = |folder: &str, wanted: &dyn Fn(&Path) -> bool| -> Result<Vec<String>, String> {
        let mut found = vec![];
        files(&root.join(folder), &mut found)?;
        let found = found.iter().filter(|path| wanted(path));
        Ok(found.map(|path| path.strip_prefix(root).unwrap().to_string_lossy().into_owned()).collect())
    };
    names.extend(below("docs", &|path| path.extension().is_some_and(|ending| ending == "md"))?);
    names.extend(below("benches", &|path| path.file_name().is_some_and(|name| name == "README.md"))?);
    names.extend(below("experiments", &|path| path.extension().is_some_and(|ending| ending == "toml"))?);
    names.sort();
    let read = |name: String| match std::fs::read_to_string(root.join(&name)) {
        Ok(text) => Ok(Document { name, text }),
        Err(error) => Err(format!("{name}: {error}")),
    };
    names.into_iter().map(read).collect()
}

/// All files below a folder, but for what builds leave there.
fn files(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for entry in entries {
        let path = entry.map_err(|error| error.to_string())?.path();
        match path.is_dir() {
            true if path.ends_with("target") => (),
            true => files(&path, found)?,
            false => found.push(path),
        }
    }
    Ok(())
}

/// A document in parts.
#[derive(Default)]
struct Parts {
    /// Blocks of code with their language: lines with their numbers.
    blocks: Vec<(String, Vec<(usize, String)>)>,
    /// Paragraphs, tables and lists: lines with their numbers.
    prose: Vec<Vec<(usize, String)>>,
}

impl Parts {
    fn of(document: &Document) -> Self {
        let mut parts = Self::default();
        if document.name.ends_with(".toml") {
            // What it says stands in its comments.
            let text = document.text.lines().map(|line| line.strip_prefix('#').unwrap_or(""));
            parts.prose.push(text.enumerate().map(|(i, line)| (i + 1, line.to_string())).collect());
            return parts;
        }
        let (mut fence, mut paragraph, mut indented) = (false, vec![], None::<Vec<(usize, String)>>);
        for (i, line) in document.text.lines().enumerate() {
            let here = (i + 1, line.to_string());
            if let Some(language) = line.trim_start().strip_prefix("```") {
                fence = !fence;
                parts.prose.push(std::mem::take(&mut paragraph));
                if fence {
                    parts.blocks.push((language.trim().to_string(), vec![]));
                }
            } else if fence {
                parts.blocks.last_mut().expect("a fence opens one").1.push(here);
            } else if line.starts_with("    ") && (indented.is_some() || paragraph.is_empty()) {
                indented.get_or_insert_default().push(here);
            } else {
                parts.blocks.extend(indented.take().map(|lines| (String::new(), lines)));
                match line.trim().is_empty() {
                    true => parts.prose.push(std::mem::take(&mut paragraph)),
                    false => paragraph.push(here),
                }
            }
        }
        parts.blocks.extend(indented.map(|lines| (String::new(), lines)));
        parts.prose.push(paragraph);
        parts
    }
}

fn is_command(line: &str) -> bool {
    let words = words::split(line).unwrap_or_default();
    let Some(first) = words.get(words::settings(&words)) else { return false };
    PROGRAMS.contains(&first.text.as_str()) || FOLDERS.iter().any(|folder| first.text.starts_with(folder))
}

/// The lines of blocks that show commands. Where a block has one, all of its lines must be some, so that a slip of the pen in a
/// program's name is not overlooked.
///
/// # Errors
/// Tells the lines that are none.
pub fn blocks(document: &Document) -> Result<Vec<Shown>, String> {
    let (mut found, mut others) = (vec![], vec![]);
    for (language, lines) in Parts::of(document).blocks {
        if !matches!(language.as_str(), "" | "sh" | "bash") || !lines.iter().any(|(_, line)| is_command(line)) {
            continue;
        }
        let mut variable = None::<(String, String)>;
        let mut lines = lines.into_iter();
        while let Some((number, mut line)) = lines.next() {
            while let Some(begun) = line.strip_suffix('\\') {
                let (_, next) = lines.next().ok_or(format!("{}:{number} goes on with nothing", document.name))?;
                line = format!("{} {}", begun.trim_end(), next.trim());
            }
            let text = line.trim();
            let words: Vec<&str> = text.split_whitespace().collect();
            match words[..] {
                ["for", name, "in", first, ..] => variable = Some((format!("${name}"), first.to_string())),
                ["done"] => variable = None,
                [] | ["#", ..] => (),
                _ if is_command(text) => {
                    let text = match &variable {
                        Some((name, value)) => text.replace(name.as_str(), value),
                        None => text.to_string(),
                    };
                    let text = without_comment(&text);
                    found.push(Shown { place: format!("{}:{number}", document.name), text, how: How::Block });
                }
                _ => others.push(format!("{}:{number}: {text}", document.name)),
            }
        }
    }
    match others.is_empty() {
        true => Ok(found),
        false => Err(format!("no commands, in a block that shows some:\n{}", others.join("\n"))),
    }
}

/// Without what stands behind two blanks and more, or behind ` #`.
pub fn without_comment(line: &str) -> String {
    let line = line.split_once("  ").map_or(line, |(command, _)| command);
    line.split_once(" #").map_or(line, |(command, _)| command).trim().to_string()
}

/// Code within text. Where it goes on in the next line, the place is that of its beginning.
pub fn spans(document: &Document) -> Vec<Shown> {
    let mut found = vec![];
    for paragraph in Parts::of(document).prose {
        let (mut numbers, mut text) = (vec![], String::new());
        for (number, line) in paragraph {
            let line = line.trim();
            numbers.extend(std::iter::repeat_n(number, line.len() + 1));
            text.push_str(line);
            text.push('\n');
        }
        let ticks: Vec<usize> = text.match_indices('`').map(|(at, _)| at).collect();
        for pair in ticks.chunks_exact(2) {
            let words: Vec<&str> = text[pair[0] + 1..pair[1]].split_whitespace().collect();
            let place = format!("{}:{}", document.name, numbers[pair[0]]);
            found.push(Shown { place, text: words.join(" "), how: How::Span });
        }
    }
    found
}

/// Where the links of a document lead: each with its line.
pub fn links(document: &Document) -> Vec<(usize, String)> {
    let mut found = vec![];
    let lines = Parts::of(document).prose.into_iter().flatten();
    for (number, line) in lines {
        let mut rest = line.as_str();
        while let Some((_, after)) = rest.split_once("](") {
            let Some((target, after)) = after.split_once(')') else { break };
            found.push((number, target.to_string()));
            rest = after;
        }
    }
    found
}

/// The anchors of a document's headings, as GitHub makes them.
pub fn anchors(document: &Document) -> Vec<String> {
    let lines = Parts::of(document).prose.into_iter().flatten();
    let mut found: Vec<String> = vec![];
    for (_, line) in lines {
        let title = line.trim_start_matches('#');
        if title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let kept = title.trim().chars().filter(|&c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>().to_lowercase();
        let same =
            |other: &&String| **other == anchor || other.rsplit_once('-').is_some_and(|(name, _)| name == anchor);
        let before = found.iter().filter(same).count();
        found.push(if before == 0 { anchor } else { format!("{anchor}-{before}") });
    }
    found
}
