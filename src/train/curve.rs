//! The learning curve: one JSON object a line, in `curve.jsonl` of the run's folder.

use serde::Serialize;
use serde_json::Value;

use super::run_files::RunFiles;
use crate::Result;

/// The curve's file.
const NAME: &str = "curve.jsonl";

/// Begins a curve, or goes on with the one that is there, from which lines after `step` are removed: a run that was killed
/// may have gone further than its checkpoint.
///
/// # Errors
/// What the file system refuses.
pub fn begin(files: &mut dyn RunFiles, step: u64) -> Result<()> {
    let before = if step > 0 { files.read(NAME)? } else { None };
    let text = before.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
    let kept = |line: &&str| {
        let value: Option<Value> = serde_json::from_str(line).ok();
        value.and_then(|v| v["step"].as_u64()).is_some_and(|s| s <= step)
    };
    let kept: String = text.lines().filter(kept).map(|line| format!("{line}\n")).collect();
    files.write(NAME, kept.as_bytes())
}

/// Appends one line: `record` with its `kind`.
///
/// # Errors
/// What the file system refuses.
pub fn push(files: &mut dyn RunFiles, kind: &'static str, record: &impl Serialize) -> Result<()> {
    let line = serde_json::to_string(&Line { kind, record });
    let line = line.map_err(|e| crate::Error::run(format!("the curve: {e}"), ""))?;
    files.append(NAME, (line + "\n").as_bytes())
}

/// One line of the curve.
#[derive(Serialize)]
struct Line<'a, T> {
    kind: &'static str,
    #[serde(flatten)]
    record: &'a T,
}
