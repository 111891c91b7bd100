//! Runs for the page: their files, their curves, and what is added to a curve while its run is under way.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use axum::response::sse::{Event, KeepAlive, Sse};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;

use crate::files::refused;
use crate::train::CURVE;
use crate::{Error, Result};

/// A curve that has grown within this time is of a run that may be under way.
const UNDER_WAY: Duration = Duration::from_secs(120);
/// How often a curve is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// The most of a curve that is sent: the end of it.
const MOST_BYTES: u64 = 32 << 20;

/// All runs, the one whose curve has grown last first: name, files, and whether it may be under way.
///
/// # Errors
/// A folder that cannot be read; none at all is no error.
pub fn list(runs: &Path) -> Result<Value> {
    let entries = match fs::read_dir(runs) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(json!([])),
        Err(e) => return Err(refused(runs, "read", &e)),
    };
    let mut found: Vec<(SystemTime, Value)> = vec![];
    for folder in entries.flatten().map(|entry| entry.path()) {
        let Ok(grown) = fs::metadata(folder.join(CURVE)).and_then(|curve| curve.modified()) else { continue };
        let Some(name) = folder.file_name().and_then(|name| name.to_str()) else { continue };
        let files = fs::read_dir(&folder).map(|entries| {
            let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
            let mut names: Vec<String> = names.filter(|name| is_shown(name)).collect();
            names.sort();
            names
        });
        let fresh = grown.elapsed().is_ok_and(|since| since < UNDER_WAY) && !has_ended(&folder.join(CURVE));
        found.push((grown, json!({ "name": name, "files": files.unwrap_or_default(), "live": fresh })));
    }
    found.sort_by_key(|(grown, _)| std::cmp::Reverse(*grown));
    Ok(found.into_iter().map(|(_, run)| run).collect())
}

/// Files of a run that the page plays or offers.
fn is_shown(name: &str) -> bool {
    name.ends_with(".mid") || name.ends_with(".safetensors")
}

/// Whether the last line says that the run has come to its end.
fn has_ended(curve: &Path) -> bool {
    let (end, _) = tail(curve, 4096).unwrap_or_default();
    let last = end.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    serde_json::from_slice::<Value>(last).is_ok_and(|line| line["kind"] == "end")
}

/// The end of a file, and the byte at which it begins.
fn tail(path: &Path, most: u64) -> std::io::Result<(Vec<u8>, u64)> {
    let mut file = File::open(path)?;
    let from = file.metadata()?.len().saturating_sub(most);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = vec![];
    file.take(most).read_to_end(&mut bytes)?;
    Ok((bytes, from))
}

/// The path of a run's file; names that lead elsewhere are refused.
fn within(runs: &Path, run: &str, name: &str) -> Result<PathBuf> {
    let plain = |name: &str| !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', ':']);
    if plain(run) && plain(name) {
        return Ok(runs.join(run).join(name));
    }
    Err(Error::usage(format!("`{run}` and `{name}` are no names of a run and its file"), "choose one of those listed"))
}

/// The curve of a run, a JSON object a line, and the byte at which its last whole line ends.
///
/// # Errors
/// A name that is none, or a file that cannot be read.
pub fn curve(runs: &Path, run: &str) -> Result<(Vec<u8>, u64)> {
    let path = within(runs, run, CURVE)?;
    let (mut bytes, from) = tail(&path, MOST_BYTES).map_err(|e| refused(&path, "read", &e))?;
    bytes.truncate(whole(&bytes));
    let end = from + bytes.len() as u64;
    Ok((bytes, end))
}

/// Bytes of the whole lines among these.
fn whole(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1)
}

/// One of a run's pieces or checkpoints.
///
/// # Errors
/// A name that is none, or a file that cannot be read.
pub fn file(runs: &Path, run: &str, name: &str) -> Result<Vec<u8>> {
    let path = within(runs, run, name)?;
    if !is_shown(name) {
        return Err(Error::usage(format!("{name} is no piece and no checkpoint"), "choose one of those listed"));
    }
    fs::read(&path).map_err(|e| refused(&path, "read", &e))
}

/// The lines of a curve from a byte on, and those that are added to it, an event each with the byte behind it as its id; it ends with
/// the run.
///
/// # Errors
/// A name that is none, or a run without a curve.
pub fn live(
    runs: &Path,
    run: &str,
    from: u64,
) -> Result<Sse<impl Stream<Item = std::result::Result<Event, Infallible>> + use<>>> {
    let path = within(runs, run, CURVE)?;
    fs::metadata(&path).map_err(|e| refused(&path, "read", &e))?;
    let mut place = from;
    let (tell, told) = mpsc::channel(64);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(LOOK).await;
            let size = fs::metadata(&path).map_or(0, |curve| curve.len());
            // A run that goes on may have cut its curve.
            place = place.min(size);
            let mut more = vec![];
            let read = File::open(&path).and_then(|mut file| {
                file.seek(SeekFrom::Start(place))?;
                file.take(size - place).read_to_end(&mut more)
            });
            // What could not be read is read the next time, as is a line that is not whole.
            more.truncate(if read.is_ok() { whole(&more) } else { 0 });
            for line in more.split_inclusive(|byte| *byte == b'\n') {
                place += line.len() as u64;
                let text = String::from_utf8_lossy(line).trim().to_string();
                let ended = text.contains("\"kind\":\"end\"");
                // A page that is closed does not listen.
                if tell.send(Ok(Event::default().id(place.to_string()).data(text))).await.is_err() || ended {
                    return;
                }
            }
            if tell.is_closed() {
                return;
            }
        }
    });
    Ok(Sse::new(ReceiverStream::new(told)).keep_alive(KeepAlive::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_listed_and_names_that_lead_elsewhere_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(list(&folder.path().join("none")).unwrap(), json!([]));
        let run = folder.path().join("first");
        fs::create_dir(&run).unwrap();
        let line = r#"{"kind":"train","step":1,"loss":2.5}"#;
        fs::write(run.join(CURVE), format!("{line}\n")).unwrap();
        for name in ["sample-baroque.mid", "last.safetensors", "notes.txt"] {
            fs::write(run.join(name), name).unwrap();
        }
        let wanted = json!([{ "name": "first", "files": ["last.safetensors", "sample-baroque.mid"], "live": true }]);
        assert_eq!(list(folder.path()).unwrap(), wanted);
        assert_eq!(curve(folder.path(), "first").unwrap().0, format!("{line}\n").as_bytes());
        assert_eq!(file(folder.path(), "first", "last.safetensors").unwrap(), b"last.safetensors");
        for (run, name) in [("first", "notes.txt"), ("..", "last.safetensors"), ("first", "../x.mid"), ("", "x.mid")] {
            assert!(file(folder.path(), run, name).is_err(), "{run} {name}");
        }
        fs::write(run.join(CURVE), format!("{line}\n{{\"kind\":\"end\",\"step\":1}}\n")).unwrap();
        assert_eq!(list(folder.path()).unwrap()[0]["live"], false);
    }
}
