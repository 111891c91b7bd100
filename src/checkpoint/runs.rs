//! The folder of runs.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Deserialize;

use crate::{Error, Result};

/// The folder in which runs are kept unless another is named.
pub const RUNS: &str = "runs";

/// The file `name` of the newest run in `runs`: the one that says of itself that it was saved last, whatever became of its
/// file's time since. What is no checkpoint is passed over.
///
/// # Errors
/// There is none; the error says how to make one.
pub fn newest(runs: &Path, name: &str) -> Result<PathBuf> {
    let files = fs::read_dir(runs).into_iter().flatten().flatten().map(|entry| entry.path().join(name));
    let dated = files.filter_map(|path| Some((saved(&path)?, path)));
    let newest = dated.max();
    newest.map(|(_, path)| path).ok_or_else(|| {
        Error::file(
            runs,
            format!("there is no run with a {name}"),
            "train a model with `deepj train`, or name one's file or folder",
        )
    })
}

/// The largest header of a checkpoint that is looked at, in bytes.
const MOST_HEADER: u64 = 64 << 20;

/// When the checkpoint at `path` was saved, in seconds since 1970, as its header says or, of an older one that does not, its file;
/// `None` if it is no checkpoint.
fn saved(path: &Path) -> Option<u64> {
    #[derive(Deserialize)]
    struct Header {
        #[serde(rename = "__metadata__")]
        metadata: HashMap<String, String>,
    }
    #[derive(Deserialize)]
    struct Saved {
        #[serde(default)]
        saved: u64,
    }
    let mut file = fs::File::open(path).ok()?;
    let mut length = [0; 8];
    file.read_exact(&mut length).ok()?;
    let length = Some(u64::from_le_bytes(length)).filter(|length| *length <= MOST_HEADER)?;
    let mut header = vec![];
    (&mut file).take(length).read_to_end(&mut header).ok()?;
    let header: Header = serde_json::from_slice(&header).ok()?;
    let Saved { saved } = serde_json::from_str(header.metadata.get("progress")?).ok()?;
    if saved > 0 {
        return Some(saved);
    }
    let modified = file.metadata().ok()?.modified().ok()?;
    modified.duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs())
}
