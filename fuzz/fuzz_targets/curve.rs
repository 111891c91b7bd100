//! The learning curve of a run that goes on, after a first line with the number of updates of its checkpoint: of the lines that are
//! there each is kept, put aside as unreadable, or of an update after the checkpoint.

#![no_main]

// As the module's source calls them.
use deepj::train::{self as run_files, Memory, RunFiles};
use deepj::{Error, Result};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

/// The module is private, and only whole training runs use it; so its source is a part of this target.
#[allow(dead_code)] // the target calls a part of it
#[path = "../../src/train/curve.rs"]
mod curve;

fuzz_target!(|input: &[u8]| {
    let (first, before) = input.split_at(input.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1));
    let step = std::str::from_utf8(first).ok().and_then(|step| step.trim().parse().ok()).unwrap_or(1).max(1);
    let mut files = Memory::default();
    files.write(curve::NAME, before).unwrap();
    let notice = curve::begin(&mut files, step).unwrap();

    let kept = files.read(curve::NAME).unwrap().unwrap();
    let other = |name: &&String| *name != curve::NAME;
    let aside: Vec<u8> =
        files.names().unwrap().iter().filter(other).flat_map(|name| files.read(name).unwrap().unwrap()).collect();
    assert_eq!(notice.is_some(), !aside.is_empty());
    let (mut kept_lines, mut aside_lines) = (lines(&kept).peekable(), lines(&aside).peekable());
    for line in lines(before) {
        let update = serde_json::from_slice::<Value>(line).ok().and_then(|value| value["step"].as_u64());
        if kept_lines.next_if_eq(&line).is_some() {
            assert!(update.is_some_and(|update| update <= step));
        } else if aside_lines.next_if_eq(&line).is_none() {
            assert!(update.is_some_and(|update| update > step), "a line is lost");
        }
    }
    assert!(kept_lines.next().is_none() && aside_lines.next().is_none(), "a line came from nowhere");

    // What is kept is kept again, with what is written to it.
    curve::push(&mut files, "train", &json!({"step": step})).unwrap();
    let pushed = files.read(curve::NAME).unwrap().unwrap();
    assert_eq!(curve::begin(&mut files, step).unwrap(), None);
    assert_eq!(files.read(curve::NAME).unwrap().unwrap(), pushed);
    assert!(pushed.starts_with(&kept) && lines(&pushed).count() == lines(&kept).count() + 1);
});

/// The lines that are not blank.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty())
}
