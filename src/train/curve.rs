//! The learning curve: one JSON object a line, in `curve.jsonl` of the run's folder.

use serde::Serialize;
use serde_json::Value;

use super::run_files::RunFiles;
use crate::Result;

/// The learning curve of a run, a JSON object a line.
pub const NAME: &str = "curve.jsonl";
/// What a line of a curve tells beside figures of the model.
pub(crate) const BESIDE: [&str; 8] = ["kind", "step", "epochs", "steps", "files", "best", "seconds", "lr"];
/// Lines that could not be read when a run went on.
const UNREADABLE: &str = "curve-unreadable.jsonl";

/// Whether a file of this name is a curve or a part of one.
pub fn is_curve(name: &str) -> bool {
    name == NAME || name.starts_with("curve-") && name.ends_with(".jsonl")
}

/// Begins a curve, or goes on with the one that is there, from which lines after `step` are removed: a run that was killed
/// may have gone further than its checkpoint. Lines that cannot be read are put into a file of their own; returns what is to be
/// said of them, or of a curve that is not there.
///
/// # Errors
/// What the file system refuses.
pub fn begin(files: &mut dyn RunFiles, step: u64) -> Result<Option<String>> {
    let before = if step > 0 { files.read(NAME)? } else { Some(vec![]) };
    let Some(before) = before else {
        files.write(NAME, &[])?;
        let path = files.path(NAME);
        return Ok(Some(format!("{} is missing; it begins again behind update {step}", path.display())));
    };
    let (mut kept, mut unreadable, mut count) = (vec![], vec![], 0);
    for line in before.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
        let value: Option<Value> = serde_json::from_slice(line).ok();
        let to = match value.and_then(|value| value["step"].as_u64()) {
            Some(update) if update <= step => &mut kept,
            Some(_) => continue,
            None => {
                count += 1;
                &mut unreadable
            }
        };
        to.extend(line);
        to.push(b'\n');
    }
    // First to the other file: what happens in between may double a line, but loses none.
    if count > 0 {
        files.append(UNREADABLE, &unreadable)?;
    }
    files.write(NAME, &kept)?;
    let path = || files.path(UNREADABLE).display().to_string();
    Ok((count > 0).then(|| format!("unreadable lines of the learning curve: {count}, kept in {}", path())))
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
