//! Commands other than the program's own, which are not run, since they build, measure or fetch for minutes: what they name must be
//! there, and have the flags that they are given.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::words::Word;

/// Flags of cargo that the documents use, and whether a value follows.
const CARGO: [(&str, bool); 12] = [
    ("--release", false),
    ("--lib", false),
    ("--all", false),
    ("--all-targets", false),
    ("--no-run", false),
    ("--check", false),
    ("--locked", false),
    ("--test", true),
    ("--bench", true),
    ("--example", true),
    ("--manifest-path", true),
    ("--features", true),
];

/// Flags that every test program has.
const TESTS: [&str; 5] = ["--list", "--nocapture", "--test-threads", "--ignored", "--exact"];

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// The text of a file, or of all files of a folder and of its folders.
fn source(path: &Path) -> Result<String, String> {
    if path.is_file() {
        return read(path);
    }
    let mut text = String::new();
    let entries = fs::read_dir(path).map_err(|error| format!("{}: {error}", path.display()))?;
    for entry in entries {
        let path = entry.map_err(|error| error.to_string())?.path();
        // A module is named by its file.
        text += &format!("{}\n", path.file_stem().unwrap_or_default().to_string_lossy());
        if path.is_dir() || path.extension().is_some_and(|ending| ending == "rs") {
            text += &source(&path)?;
        }
    }
    Ok(text)
}

/// Where the source of a target is: named in the manifest, or where cargo finds it.
fn target(root: &Path, kind: &str, folder: &str, name: &str) -> Result<PathBuf, String> {
    let manifest = read(&root.join("Cargo.toml"))?;
    let sections = manifest.split("\n[[").filter(|section| section.starts_with(&format!("{kind}]]")));
    let mut declared = sections.filter(|section| section.contains(&format!("\nname = \"{name}\"\n")));
    let path = declared.next().and_then(|section| section.split_once("\npath = \"")?.1.split('"').next());
    let places = [path.map(Into::into), Some(format!("{folder}/{name}.rs")), Some(format!("{folder}/{name}/main.rs"))];
    let mut places = places.into_iter().flatten().map(|place| root.join(place));
    places.find(|place| place.exists()).ok_or_else(|| format!("there is no {kind} `{name}`"))
}

/// The folder of a program of several files, else its file.
fn whole(main: PathBuf) -> PathBuf {
    match main.parent() {
        Some(folder) if main.ends_with("main.rs") => folder.into(),
        _ => main,
    }
}

/// Checks the words behind `cargo`. Those of `cargo run --release --` are the program's, and not for here.
pub fn cargo(root: &Path, words: &[Word]) -> Result<(), String> {
    let (command, words) = words.split_first().ok_or("cargo alone")?;
    if !matches!(command.text.as_str(), "run" | "build" | "test" | "bench" | "clippy" | "fmt" | "doc") {
        return Err(format!("`cargo {}` is not known here", command.text));
    }
    let end = words.iter().position(|word| word.text == "--").unwrap_or(words.len());
    let (own, behind) = (&words[..end], words.get(end + 1..).unwrap_or_default());
    let (mut manifest, mut targets, mut own) = (root.join("Cargo.toml"), vec![], own.iter());
    while let Some(word) = own.next() {
        // What may be left out stands in square brackets.
        let flag = word.text.trim_matches(['[', ']']);
        let Some((_, takes)) = CARGO.iter().find(|(name, _)| *name == flag) else {
            return Err(format!("`cargo {}` has no {flag} that is known here", command.text));
        };
        let value = if *takes { own.next().ok_or(format!("{flag} of nothing"))?.text.as_str() } else { "" };
        let value = value.trim_end_matches(']');
        match flag {
            "--test" => targets.push(target(root, "test", "tests", value)?),
            "--bench" => targets.push(target(root, "bench", "benches", value)?),
            "--example" => targets.push(target(root, "example", "examples", value)?),
            "--manifest-path" => manifest = root.join(value),
            "--features" => features(&manifest, value)?,
            _ => (),
        }
    }
    read(&manifest)?;
    match command.text.as_str() {
        "test" => targets.into_iter().try_for_each(|main| filters(root, &source(&whole(main))?, behind)),
        "bench" => targets.iter().try_for_each(|bench| bench_flags(root, &read(bench)?, behind)),
        _ => Ok(()),
    }
}

/// Each feature must be one of the manifest's, or, as `crate/feature`, one of a crate that it names.
fn features(manifest: &Path, list: &str) -> Result<(), String> {
    let text = read(manifest)?;
    let known = |name: &str| match name.split_once('/') {
        Some((of, _)) => text.contains(&format!("\n{of} = ")),
        None => text.contains(&format!("\n{name} = [")),
    };
    let unknown = list.split(',').find(|name| !known(name));
    unknown.map_or(Ok(()), |name| Err(format!("{} has no feature {name}", manifest.display())))
}

/// The words behind `--` filter tests by their names. The first word of each must occur in the sources of the test or in those of
/// the ops, whose variants have names there. Docs/NEW-OP.md adds the op `scale`.
fn filters(root: &Path, source: &str, words: &[Word]) -> Result<(), String> {
    for word in words {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let name: String = word.text.chars().skip_while(|&c| !is_part(c)).take_while(|&c| is_part(c)).collect();
        let is_flag = TESTS.contains(&word.text.as_str());
        if !is_flag
            && name != "scale"
            && !source.contains(&name)
            && !self::source(&root.join("src/ops"))?.contains(&name)
        {
            return Err(format!("no name of the test has `{name}` in it"));
        }
    }
    Ok(())
}

/// Holds flags against those that a bench declares, and those that all benches share.
fn bench_flags(root: &Path, source: &str, words: &[Word]) -> Result<(), String> {
    let common = read(&root.join("benches/common/mod.rs"))?;
    let shared = common.split("\npub struct ").skip(1).filter_map(|part| part.split_once("\n}"));
    let mut declared = declared_flags(source);
    for (part, _) in shared {
        let name: String = part.chars().take_while(char::is_ascii_alphanumeric).collect();
        if source.contains(&format!(": {name},")) || part.contains("hide = true") {
            declared.extend(declared_flags(part));
        }
    }
    declared.push("--help".into());
    let unknown = words.iter().find(|word| word.text.starts_with("--") && !declared.contains(&word.text));
    unknown.map_or(Ok(()), |word| Err(format!("the bench has no flag {}", word.text)))
}

/// The flags of a struct that clap fills.
pub fn declared_flags(source: &str) -> Vec<String> {
    let mut found = vec![];
    let mut lines = source.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if !line.starts_with("#[arg(long") {
            continue;
        }
        let named = line.split_once("long = \"").and_then(|(_, rest)| rest.split('"').next());
        let mut field = || lines.next().and_then(|line| line.trim_start_matches("pub ").split(':').next());
        found.extend(
            named.map(Into::into).or_else(|| Some(field()?.replace('_', "-"))).map(|name: String| format!("--{name}")),
        );
    }
    found
}

/// Whether Python is here.
pub fn has_python() -> bool {
    Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Checks a script of Python and what it is given: it compiles, if Python is here, and has the flags.
pub fn python(root: &Path, words: &[Word]) -> Result<(), String> {
    let (script, words) = words.split_first().ok_or("python3 alone")?;
    let path = root.join(&script.text);
    let text = read(&path)?;
    if has_python() {
        let compiled = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
        let compile = "import py_compile, sys; py_compile.compile(sys.argv[1], cfile=sys.argv[2], doraise=True)";
        let mut command = Command::new("python3");
        command.args(["-c", compile]).arg(&path).arg(compiled.path());
        let output = command.output().map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
    }
    for word in words.iter().filter(|word| word.text.starts_with("--")) {
        let flag = word.text.split('=').next().unwrap_or_default();
        if !text.contains(&format!("\"{flag}\"")) {
            return Err(format!("{} has no flag {flag}", script.text));
        }
    }
    Ok(())
}

/// Checks a script of the shell: it is there, may be executed, and has no error of syntax. `fuzz/run` takes names of targets.
pub fn script(root: &Path, words: &[Word]) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let (script, words) = words.split_first().ok_or("no script")?;
    let path = root.join(&script.text);
    let about = fs::metadata(&path).map_err(|error| format!("{}: {error}", script.text))?;
    if about.permissions().mode() & 0o111 == 0 {
        return Err(format!("{} may not be executed", script.text));
    }
    let output = Command::new("bash").arg("-n").arg(&path).output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let is_fuzz = script.text.starts_with("fuzz/");
    let target = |word: &Word| root.join(format!("fuzz/fuzz_targets/{}.rs", word.text));
    let missing = words.iter().filter(|_| is_fuzz).find(|word| !target(word).exists());
    missing.map_or(Ok(()), |word| Err(format!("there is no target {}", word.text)))
}

/// The project's own files among the words of a command must be there, unless they name a place for something.
pub fn files(root: &Path, words: &[Word]) -> Result<(), String> {
    let own = ["benches/", "data/", "docs/", "experiments/", "tests/", "shaders/"];
    let is_own = |text: &str| own.iter().any(|folder| text.starts_with(folder)) && !text.contains(['<', '*', '$']);
    let mut before = "";
    for word in words {
        let is_made = ["--out", "--output", "-o", "--report"].contains(&before);
        if is_own(&word.text) && !is_made && !root.join(&word.text).exists() {
            return Err(format!("{} is not there", word.text));
        }
        before = &word.text;
    }
    Ok(())
}
