//! What was measured on each machine, remembered in a file of the user's cache folder; in a browser in memory, from where the page
//! takes it.

use std::io;
use std::path::Path;
#[cfg(not(target_arch = "wasm32"))]
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Machine;
use crate::Error;
#[cfg(not(target_arch = "wasm32"))]
use crate::files::{FileLock, make_folder, write_whole};

/// A kind of file: JSON that names its format and version, with a record for each machine.
pub(crate) struct Remembered {
    /// What `format` says.
    pub format: &'static str,
    /// What `version` says.
    pub version: u32,
}

/// The fields of `measured` stand beside the machine.
#[derive(Serialize, Deserialize)]
struct Record<T> {
    machine: Machine,
    #[serde(flatten)]
    measured: T,
}

#[derive(Serialize, Deserialize)]
struct File<T> {
    format: String,
    version: u32,
    /// The one written last is last.
    records: Vec<Record<T>>,
}

/// Most records in a file: of adapters, and of drivers and versions that have since been replaced.
const MOST_RECORDS: usize = 16;
#[cfg(not(target_arch = "wasm32"))]
/// How long a save waits for others: each takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

impl Remembered {
    /// The file's records, none if there is no file; else why the file cannot be used.
    fn read<T: DeserializeOwned>(&self, path: &Path) -> Result<Vec<Record<T>>, String> {
        let text = match read(path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
            Err(e) => return Err(e.to_string()),
        };
        let file: File<T> = serde_json::from_str(&text).map_err(|e| e.to_string())?;
        if (file.format.as_str(), file.version) != (self.format, self.version) {
            return Err(format!("format `{}`, version {}", file.format, file.version));
        }
        Ok(file.records)
    }

    /// What the file at `path` remembers of `machine`.
    ///
    /// # Errors
    /// Why the file cannot be used; the next [`Remembered::save`] replaces it.
    pub fn load<T: DeserializeOwned>(&self, path: &Path, machine: &Machine) -> Result<Option<T>, String> {
        let found = self.read(path)?.into_iter().find(|record| record.machine == *machine);
        Ok(found.map(|record| record.measured))
    }

    /// Replaces what is remembered of `machine` by what `update` makes of it. Another process reads the old file or the new one;
    /// of several that save at the same time, each finds what those before it saved.
    ///
    /// # Errors
    /// A folder or file that cannot be written, or that another process keeps locked.
    pub fn save<T>(&self, path: &Path, machine: &Machine, update: impl FnOnce(Option<T>) -> T) -> crate::Result<()>
    where
        T: Serialize + DeserializeOwned,
    {
        #[cfg(not(target_arch = "wasm32"))]
        make_folder(path.parent().unwrap_or(Path::new("")))?;
        #[cfg(not(target_arch = "wasm32"))]
        let _lock = FileLock::acquire_within(path, PATIENCE)?;
        let mut records = self.read(path).unwrap_or_default();
        let known = records.iter().position(|record| record.machine == *machine);
        let measured = update(known.map(|i| records.remove(i).measured));
        records.push(Record { machine: machine.clone(), measured });
        records.drain(..records.len().saturating_sub(MOST_RECORDS));
        let text = serde_json::to_vec_pretty(&File { format: self.format.into(), version: self.version, records });
        write(path, text.map_err(|e| Error::file(path, format!("cannot be written: {e}"), ""))?)
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn read(path: &Path) -> io::Result<String> {
    std::fs::read_to_string(path)
}

#[cfg(not(target_arch = "wasm32"))]
fn write(path: &Path, text: Vec<u8>) -> crate::Result<()> {
    write_whole(path, &text)
}

/// Files by path, where there is no disk.
#[cfg(target_arch = "wasm32")]
static KEPT: parking_lot::Mutex<std::collections::BTreeMap<std::path::PathBuf, String>> =
    parking_lot::Mutex::new(std::collections::BTreeMap::new());

/// What is remembered under this path.
#[cfg(target_arch = "wasm32")]
pub fn remembered_text(path: &Path) -> Option<String> {
    KEPT.lock().get(path).cloned()
}

/// Has this remembered under a path.
#[cfg(target_arch = "wasm32")]
pub fn remember_text(path: &Path, text: String) {
    KEPT.lock().insert(path.into(), text);
}

#[cfg(target_arch = "wasm32")]
fn read(path: &Path) -> io::Result<String> {
    remembered_text(path).ok_or_else(|| io::ErrorKind::NotFound.into())
}

#[cfg(target_arch = "wasm32")]
fn write(path: &Path, text: Vec<u8>) -> crate::Result<()> {
    remember_text(path, String::from_utf8_lossy(&text).into_owned());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Capabilities;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Measured {
        times: Vec<Option<f64>>,
    }

    const FILE: Remembered = Remembered { format: "test", version: 1 };

    fn machine(name: &str) -> Machine {
        Machine::of(&Capabilities { name: name.into(), ..Capabilities::portable() })
    }

    fn measured(time: f64) -> Measured {
        Measured { times: vec![Some(time), None] }
    }

    #[test]
    fn each_machine_remembers_its_own_and_keeps_what_it_knew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deepj").join("test.json");
        let [one, two] = ["one", "two"].map(machine);
        assert_eq!(FILE.load::<Measured>(&path, &one), Ok(None));
        FILE.save(&path, &one, |known| known.unwrap_or(measured(1.5))).unwrap();
        FILE.save(&path, &two, |known| known.unwrap_or(measured(2.5))).unwrap();
        FILE.save(&path, &one, |known| known.unwrap_or(measured(3.5))).unwrap();
        assert_eq!(FILE.load(&path, &one), Ok(Some(measured(1.5))));
        assert_eq!(FILE.load(&path, &two), Ok(Some(measured(2.5))));
        let newer = Machine { driver_info: "another".into(), ..one };
        assert_eq!(FILE.load::<Measured>(&path, &newer), Ok(None));
    }

    /// Each adds to what is there, as the tuner does.
    #[test]
    fn of_many_that_save_at_once_none_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.json");
        let names: Vec<_> = (0..4).map(|i| i.to_string()).collect();
        let add = |time: f64| {
            move |known: Option<Measured>| {
                let known = known.map_or(vec![], |known| known.times);
                Measured { times: known.into_iter().chain([Some(time)]).collect() }
            }
        };
        std::thread::scope(|scope| {
            for i in 0..8 {
                let (path, machine) = (&path, machine(&names[i % 4]));
                scope.spawn(move || (0..5).for_each(|_| FILE.save(path, &machine, add(i as f64)).unwrap()));
            }
        });
        for (i, name) in names.iter().enumerate() {
            let mut found = FILE.load::<Measured>(&path, &machine(name)).unwrap().unwrap().times;
            found.sort_by(|a, b| a.partial_cmp(b).unwrap());
            let expected = [[Some(i as f64); 5], [Some((i + 4) as f64); 5]].concat();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn old_records_make_room() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.json");
        for i in 0..MOST_RECORDS + 2 {
            FILE.save(&path, &machine(&i.to_string()), |_| measured(i as f64)).unwrap();
        }
        let found = |i: usize| FILE.load::<Measured>(&path, &machine(&i.to_string())).unwrap();
        assert_eq!([found(0), found(1)], [None, None]);
        assert_eq!([2, MOST_RECORDS + 1].map(found), [2, MOST_RECORDS + 1].map(|i| Some(measured(i as f64))));
    }

    #[test]
    fn a_file_that_is_none_is_refused_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.json");
        let machine = machine("one");
        let other_version = r#"{"format":"test","version":2,"records":[]}"#;
        let other_format = r#"{"format":"other","version":1,"records":[]}"#;
        for text in ["", "{", "[]", other_version, other_format, "\u{0}"] {
            std::fs::write(&path, text).unwrap();
            assert!(FILE.load::<Measured>(&path, &machine).is_err(), "{text}");
            FILE.save(&path, &machine, |known| known.unwrap_or(measured(1.0))).unwrap();
            assert_eq!(FILE.load(&path, &machine), Ok(Some(measured(1.0))));
        }
    }
}
