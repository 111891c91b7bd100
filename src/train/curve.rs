//! The learning curve: one JSON object a line, in `curve.jsonl` of the run's folder.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::Result;
use crate::checkpoint::{refused, write_whole};

/// An open curve.
#[derive(Debug)]
pub struct Curve {
    path: PathBuf,
    file: File,
}

impl Curve {
    /// Begins a curve, or goes on with the one that is there, from which lines after `step` are removed: a run that was
    /// killed may have gone further than its checkpoint.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn open(path: &Path, step: u64) -> Result<Self> {
        let kept = match std::fs::read_to_string(path) {
            Ok(text) if step > 0 => {
                let before = |line: &&str| {
                    let value: Option<Value> = serde_json::from_str(line).ok();
                    value.and_then(|v| v["step"].as_u64()).is_some_and(|s| s <= step)
                };
                text.lines().filter(before).map(|line| format!("{line}\n")).collect()
            }
            _ => String::new(),
        };
        write_whole(path, kept.as_bytes())?;
        let file = OpenOptions::new().append(true).open(path).map_err(|e| refused(path, "opened", &e))?;
        Ok(Self { path: path.into(), file })
    }

    /// Appends one line.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn push(&mut self, record: &impl Serialize) -> Result<()> {
        let line = serde_json::to_string(record).map_err(|e| crate::Error::run(format!("the curve: {e}"), ""))?;
        writeln!(self.file, "{line}").map_err(|e| refused(&self.path, "written", &e))
    }
}
