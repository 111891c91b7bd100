//! The one error type of the crate: what is wrong, where, and what to do about it.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

/// What kind of thing went wrong; decides the program's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The command line or an API argument is wrong (exit code 2).
    Usage,
    /// A file or folder cannot be used (exit code 1).
    File,
    /// A GPU or its driver (exit code 1).
    Device,
    /// A shader that the driver refuses, and will refuse until either of them changes (exit code 1).
    Shader,
    /// Memory of the device or of the system ran out; the same may succeed when others have released theirs, or with a smaller
    /// batch (exit code 1).
    Memory,
    /// A shape, a plan or a configuration does not fit (exit code 1).
    Model,
    /// Training or generation cannot go on, for example a non-finite loss (exit code 1).
    Run,
}

/// An error that names the problem, its place and the remedy. It is debugged as it is displayed, for a `main` that returns it.
pub struct Error {
    /// Decides the exit code.
    pub kind: Kind,
    /// What is wrong and where, one sentence without a final stop.
    pub what: String,
    /// What to do about it; may be empty where nothing helps.
    pub remedy: String,
}

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `kind`, with `what` is wrong and the `remedy`.
    pub fn new(kind: Kind, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { kind, what: what.into(), remedy: remedy.into() }
    }

    /// Wrong use: a flag, a value, a name.
    pub fn usage(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Kind::Usage, what, remedy)
    }

    /// A file or folder at `path` that cannot be used; `what` says why and, where known, at which place in it.
    pub fn file(path: impl AsRef<Path>, what: impl fmt::Display, remedy: impl Into<String>) -> Self {
        Self::new(Kind::File, format!("{}: {what}", path.as_ref().display()), remedy)
    }

    /// A problem of a device or its driver.
    pub fn device(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Kind::Device, what, remedy)
    }

    /// Memory that ran out.
    pub fn memory(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Kind::Memory, what, remedy)
    }

    /// A model, plan or configuration problem.
    pub fn model(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Kind::Model, what, remedy)
    }

    /// A run that cannot go on.
    pub fn run(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Kind::Run, what, remedy)
    }

    /// Whether a device failed, or memory ran out, rather than that something is wrong with what was asked for.
    pub fn is_of_device(&self) -> bool {
        matches!(self.kind, Kind::Device | Kind::Memory)
    }

    /// The same error with what was being done, and one more line of what to do about it.
    pub fn during(self, doing: impl fmt::Display, remedy: impl fmt::Display) -> Self {
        let remedy = if self.remedy.is_empty() { remedy.to_string() } else { format!("{}\n  {remedy}", self.remedy) };
        Self { what: format!("{doing}: {}", self.what), remedy, ..self }
    }

    /// The program's exit code for this error: 2 for wrong use, 1 otherwise.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Usage => 2,
            _ => 1,
        }
    }
}

/// Names what the library's user has given by its fields (`seq`), with `{:#}` by the command line's flags (`--seq`), as the texts
/// of an error do.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole =
            if self.remedy.is_empty() { self.what.clone() } else { format!("{}\n  {}", self.what, self.remedy) };
        f.write_str(&if f.alternate() { whole } else { in_fields(&whole) })
    }
}

/// The text with each flag as a field, but for those within commands: `--lr-steps 0` as "`lr_steps` 0".
fn in_fields(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    // What stands between backticks is code, commands among it.
    for (i, part) in text.split('`').enumerate() {
        if i > 0 {
            result.push('`');
        }
        if i % 2 == 1 {
            result.push_str(part);
            continue;
        }
        let mut rest = part;
        while let Some(place) = rest.find("--") {
            let (before, flag) = rest.split_at(place);
            let name: &str = &flag[2..];
            let name = &name[..name.find(|c: char| !c.is_ascii_lowercase() && c != '-').unwrap_or(name.len())];
            let begins = before.chars().next_back().is_none_or(|c| c == ' ' || c == '(' || c == '\n');
            result.push_str(before);
            match name.starts_with(|c: char| c.is_ascii_lowercase()) && begins {
                true => result.push_str(&format!("`{}`", name.replace('-', "_"))),
                false => result.push_str(&flag[..2 + name.len()]),
            }
            rest = &flag[2 + name.len()..];
        }
        result.push_str(rest);
    }
    result
}

impl std::error::Error for Error {}

/// The name among `known` that is nearest to `name`, whatever their case, if any is near.
pub fn closest<T: AsRef<str>>(name: &str, known: impl IntoIterator<Item = T>) -> Option<T> {
    let name = name.to_lowercase();
    let similar = known.into_iter().map(|known| (strsim::jaro_winkler(&known.as_ref().to_lowercase(), &name), known));
    let nearest = similar.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(similarity, _)| *similarity > 0.6);
    nearest.map(|(_, known)| known)
}

/// The nearest of `known`, if any is near, and the list of them.
pub fn nearest(name: &str, known: BTreeSet<&str>) -> String {
    let hint = closest(name, &known).map_or(String::new(), |known| format!("did you mean `{known}`? "));
    format!("{hint}there is {}", known.into_iter().collect::<Vec<_>>().join(", "))
}

/// The same for a name that serde does not know, from its message: "unknown field `x`, expected one of `a`, `b`". `None` for all
/// other messages.
pub fn nearest_expected(message: &str) -> Option<String> {
    let (_, message) = message.split_once("unknown ")?;
    let (_, after) = message.split_once('`')?;
    let (name, expected) = after.split_once("`, expected ")?;
    let known: BTreeSet<&str> = expected.split('`').skip(1).step_by(2).collect();
    (!known.is_empty()).then(|| nearest(name, known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_speaks_of_fields_and_the_command_line_of_flags() {
        let error = Error::usage("--lr-steps 0 (--batch 3)", "see `deepj train --help`, not a--b -- or --");
        assert_eq!(format!("{error:#}"), "--lr-steps 0 (--batch 3)\n  see `deepj train --help`, not a--b -- or --");
        let text = "`lr_steps` 0 (`batch` 3)\n  see `deepj train --help`, not a--b -- or --";
        assert_eq!(error.to_string(), text);
        assert_eq!(Error::run("a", "").to_string(), "a");
    }

    #[test]
    fn names_that_serde_does_not_know_have_a_nearest_one() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            #[expect(dead_code, reason = "only its name counts")]
            seeds: u32,
            #[expect(dead_code, reason = "only its name counts")]
            budget: u32,
        }
        let error = serde_json::from_str::<Fields>(r#"{"sedes": 1}"#).unwrap_err().to_string();
        assert_eq!(nearest_expected(&error).as_deref(), Some("did you mean `seeds`? there is budget, seeds"));
        assert_eq!(nearest_expected("missing field `seeds`"), None);
        assert_eq!(nearest_expected("unknown field `x`, there are no fields"), None);
    }
}
