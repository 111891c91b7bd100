//! A reader's folder, in which commands run. What the documents speak of is there under its name, see `things`. Each command has a
//! copy of its own of what it names, so none sees what another writes.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde_json::Value;

use crate::rules::{Adapters, shorten_experiment};
use crate::things::{self, THINGS};
use crate::words::{self, Word};

/// Seconds that a command may take: hundreds of times what any should.
const LIMIT: &str = "900";

/// The project's own folders that commands read.
const FOLDERS: [&str; 6] = ["docs", "data", "experiments", "benches", "tests", "shaders"];

/// Lines of errors that are shown.
const SHOWN: usize = 12;

type Outcome = Arc<OnceLock<Result<String, String>>>;

/// Where things are made and commands run.
pub struct Workshop {
    /// The project's folder.
    pub root: PathBuf,
    folder: tempfile::TempDir,
    things: [OnceLock<Result<(), String>>; THINGS.len()],
    /// What came of a command, by its line: many places show the same.
    outcomes: Mutex<HashMap<String, Outcome>>,
    adapters: OnceLock<Result<Adapters, String>>,
    trials: AtomicUsize,
}

impl Workshop {
    pub fn new(root: &Path, program: &Path) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let at = folder.path();
        for below in ["bin", "shared", "trials/before/target/release"] {
            fs::create_dir_all(at.join(below)).map_err(|error| error.to_string())?;
        }
        // The second is the other build that an example of `profile ab` names.
        for link in ["bin/deepj", "trials/before/target/release/deepj"] {
            symlink(program, at.join(link)).map_err(|error| error.to_string())?;
        }
        Ok(Self {
            root: root.into(),
            folder,
            things: std::array::from_fn(|_| OnceLock::new()),
            outcomes: Mutex::default(),
            adapters: OnceLock::new(),
            trials: AtomicUsize::new(0),
        })
    }

    /// The folder in which things are made.
    pub fn shared(&self) -> PathBuf {
        self.folder.path().join("shared")
    }

    /// The machine's adapters.
    pub fn adapters(&self) -> Result<&Adapters, String> {
        let asked = || {
            let told = self.run_in(&self.shared(), "deepj adapters --json")?;
            let all: Vec<Value> = serde_json::from_str(&told).map_err(|error| format!("deepj adapters: {error}"))?;
            let text = |adapter: &Value, field: &str| adapter[field].as_str().unwrap_or_default().to_lowercase();
            let named = |adapter| format!("{} [{}", text(adapter, "name"), text(adapter, "backend"));
            let hardware = all.iter().filter(|adapter| adapter["device_type"] != "software").map(named);
            Ok(Adapters { hardware: hardware.collect(), any: !all.is_empty() })
        };
        self.adapters.get_or_init(asked).as_ref().map_err(Clone::clone)
    }

    /// Runs a line in a shell that finds the program as `deepj`, on one thread of the CPU; returns what it printed. Peaks and
    /// tuning are not kept, since other trials compute meanwhile; what drivers compiled is.
    ///
    /// # Errors
    /// The line fails.
    pub fn run_in(&self, folder: &Path, line: &str) -> Result<String, String> {
        let mut command = Command::new("timeout");
        let path = std::env::var("PATH").unwrap_or_default();
        let cache = option_env!("CARGO_TARGET_TMPDIR").map_or_else(|| self.folder.path().into(), PathBuf::from);
        command.args([LIMIT, "bash", "-e", "-o", "pipefail", "-c", line]).current_dir(folder).stdin(Stdio::null());
        command.env("PATH", format!("{}:{path}", self.folder.path().join("bin").display()));
        command.env("XDG_CACHE_HOME", cache.join("cache"));
        command.env("DEEPJ_DEVICE", "cpu").env("DEEPJ_TUNE", "off").env("RAYON_NUM_THREADS", "1");
        let output = command.output().map_err(|error| format!("timeout: {error}"))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        let errors: Vec<&str> = errors.lines().collect();
        let last = errors[errors.len().saturating_sub(SHOWN)..].join("\n");
        Err(format!("{line}\n{}: {last}", output.status))
    }

    /// Runs words in a reader's folder, once for all places that show them; returns what they printed.
    pub fn run(&self, line: &[Word]) -> Result<String, String> {
        let text = words::join(line);
        let outcome = {
            let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
            outcomes.entry(text.clone()).or_default().clone()
        };
        let run = || {
            let folder = self.reader(line)?;
            let outcome = self.run_in(&folder, &text);
            let _ = fs::remove_dir_all(&folder);
            outcome
        };
        outcome.get_or_init(run).clone()
    }

    /// A folder with what a line names.
    fn reader(&self, line: &[Word]) -> Result<PathBuf, String> {
        let number = self.trials.fetch_add(1, Ordering::Relaxed);
        let here = self.folder.path().join(format!("trials/{number}"));
        fs::create_dir_all(&here).map_err(|error| error.to_string())?;
        let named = named(line);
        for name in &named {
            let folder = name.split('/').next().unwrap_or_default();
            if FOLDERS.contains(&folder) {
                let copied = if self.root.join(name).exists() { name } else { folder };
                copy(&self.root.join(copied), &here.join(copied))?;
            }
        }
        for thing in things::needed(&named, line) {
            self.make(thing)?;
            copy(&self.shared().join(thing), &here.join(thing))?;
        }
        shorten_experiments(&here)?;
        Ok(here)
    }

    /// Makes a thing that was not made before, and what it is made of.
    pub fn make(&self, thing: &'static str) -> Result<(), String> {
        let at = THINGS.iter().position(|name| *name == thing).ok_or(format!("nobody knows how to make {thing}"))?;
        let made = self.things[at].get_or_init(|| things::make(self, thing));
        made.clone().map_err(|error| format!("{thing} cannot be made: {error}"))
    }
}

/// The files and folders that words may name, but for those that the command makes.
fn named(line: &[Word]) -> Vec<String> {
    let before = line.iter().map(|word| word.text.as_str());
    let before = std::iter::once("").chain(before);
    let is_resumed = line.iter().any(|word| word.text == "--resume" || word.text == "--table");
    let is_made = |flag: &str| flag == "--out" && !is_resumed;
    let words = line.iter().zip(before).filter(|(_, before)| !is_made(before));
    words.map(|(word, _)| word.text.rsplit('=').next().unwrap_or_default().to_string()).collect()
}

/// Copies a file, or a folder with what is in it but for what builds leave there.
pub fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", from.display());
    if from.is_dir() {
        fs::create_dir_all(to).map_err(failed)?;
        for entry in fs::read_dir(from).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name() != "target" {
                copy(&entry.path(), &to.join(entry.file_name()))?;
            }
        }
        return Ok(());
    }
    fs::create_dir_all(to.parent().unwrap_or(to)).map_err(failed)?;
    fs::copy(from, to).map(drop).map_err(failed)
}

/// Shortens the experiments in a reader's folder.
pub fn shorten_experiments(folder: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    for folder in [folder.to_path_buf(), folder.join("experiments")].iter().filter(|folder| folder.exists()) {
        for entry in fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|ending| ending == "toml") {
                let text = fs::read_to_string(&path).map_err(failed)?;
                fs::write(&path, shorten_experiment(&text)).map_err(failed)?;
            }
        }
    }
    Ok(())
}
