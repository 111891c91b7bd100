//! What was measured of each kernel, remembered in a file of the user's cache folder.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::gpu::Machine;

/// Microseconds of each legal variant of a kernel on one shape; `None` for one that does not run on the adapter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Measured {
    /// Checksum of the text of all variants' shaders: other text, other times.
    pub shaders: u32,
    /// By variant.
    pub us: BTreeMap<String, Option<f64>>,
}

impl Measured {
    /// The fastest of `legal`, the first of equals; `None` if these are not the variants that were measured.
    pub fn fastest(&self, legal: &[&'static str]) -> Option<&'static str> {
        if legal.len() != self.us.len() {
            return None;
        }
        let times = legal.iter().map(|variant| self.us.get(*variant)).collect::<Option<Vec<_>>>()?;
        let ran = times.into_iter().zip(legal).filter_map(|(us, variant)| us.map(|us| (us, *variant)));
        ran.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, variant)| variant)
    }
}

/// By kernel, then by label.
pub(super) type Kernels = BTreeMap<String, BTreeMap<String, Measured>>;

#[derive(Serialize, Deserialize)]
struct Record {
    machine: Machine,
    kernels: Kernels,
}

#[derive(Serialize, Deserialize)]
struct File {
    format: String,
    version: u32,
    /// The one written last is last.
    records: Vec<Record>,
}

const FORMAT: &str = "deepj tuning";
const VERSION: u32 = 1;
/// Records kept in a file: adapters, and drivers and versions that had their day.
const MOST_RECORDS: usize = 16;

/// The file's records, none where there is no file; why the file is of no use, where it is not.
fn read(path: &Path) -> Result<Vec<Record>, String> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        Err(e) => return Err(e.to_string()),
    };
    let file: File = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    match (file.format.as_str(), file.version) {
        (FORMAT, VERSION) => Ok(file.records),
        (format, version) => Err(format!("format `{format}`, version {version}")),
    }
}

/// What the file at `path` remembers of `machine`, or why it is of no use.
pub(super) fn load(path: &Path, machine: &Machine) -> Result<Kernels, String> {
    let found = read(path)?.into_iter().find(|record| record.machine == *machine);
    Ok(found.map(|record| record.kernels).unwrap_or_default())
}

/// Adds `kernels` to what the file at `path` remembers, and replaces it at once: another process reads the old file or the
/// new one. Of two that save in the same moment one may be forgotten, and its kernels be measured again some time.
pub(super) fn save(path: &Path, machine: &Machine, kernels: &Kernels) -> io::Result<()> {
    let mut records = read(path).unwrap_or_default();
    let known = records.iter().position(|record| record.machine == *machine);
    let mut record = match known {
        Some(i) => records.remove(i),
        None => Record { machine: machine.clone(), kernels: Kernels::new() },
    };
    for (kernel, shapes) in kernels {
        record.kernels.entry(kernel.clone()).or_default().extend(shapes.clone());
    }
    records.push(record);
    records.drain(..records.len().saturating_sub(MOST_RECORDS));
    let folder = path.parent().unwrap_or(Path::new(""));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    let text = serde_json::to_vec_pretty(&File { format: FORMAT.into(), version: VERSION, records })?;
    file.write_all(&text)?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Capabilities;

    fn machine(name: &str) -> Machine {
        Machine::of(&Capabilities { name: name.into(), ..Capabilities::portable() })
    }

    fn measured(times: &[(&str, Option<f64>)]) -> Measured {
        Measured { shaders: 1, us: times.iter().map(|(variant, us)| (variant.to_string(), *us)).collect() }
    }

    fn kernels(kernel: &str, label: &str) -> Kernels {
        Kernels::from([(kernel.into(), BTreeMap::from([(label.into(), measured(&[("a", Some(1.5))]))]))])
    }

    #[test]
    fn the_fastest_is_chosen_if_what_was_measured_is_what_there_is() {
        let times = measured(&[("a", Some(3.0)), ("b", Some(2.0)), ("c", None)]);
        assert_eq!(times.fastest(&["a", "b", "c"]), Some("b"));
        assert_eq!(times.fastest(&["a", "b"]), None, "one less");
        assert_eq!(times.fastest(&["a", "b", "d"]), None, "another one");
        assert_eq!(
            measured(&[("a", Some(2.0)), ("b", Some(2.0))]).fastest(&["b", "a"]),
            Some("b"),
            "the first of equals"
        );
        assert_eq!(measured(&[("a", None)]).fastest(&["a"]), None);
    }

    #[test]
    fn each_machine_remembers_its_own_and_keeps_what_it_knew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deepj").join("tuning.json");
        let [one, two] = ["one", "two"].map(machine);
        assert_eq!(load(&path, &one), Ok(Kernels::new()));
        save(&path, &one, &kernels("gemm", "small")).unwrap();
        save(&path, &two, &kernels("lstm_fwd", "small")).unwrap();
        save(&path, &one, &kernels("gemm", "large")).unwrap();
        let found = load(&path, &one).unwrap();
        assert_eq!(found["gemm"].keys().collect::<Vec<_>>(), ["large", "small"]);
        assert!(!found.contains_key("lstm_fwd"));
        assert_eq!(load(&path, &two), Ok(kernels("lstm_fwd", "small")));
        let newer = Machine { driver_info: "another".into(), ..one };
        assert_eq!(load(&path, &newer), Ok(Kernels::new()));
    }

    #[test]
    fn old_records_make_room() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tuning.json");
        for i in 0..MOST_RECORDS + 2 {
            save(&path, &machine(&i.to_string()), &kernels("gemm", "small")).unwrap();
        }
        let empty = |i: usize| load(&path, &machine(&i.to_string())).unwrap().is_empty();
        assert!(empty(0) && empty(1) && !empty(2) && !empty(MOST_RECORDS + 1));
    }

    #[test]
    fn a_file_that_is_none_is_refused_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tuning.json");
        let machine = machine("one");
        for text in ["", "{", "[]", r#"{"format":"deepj tuning","version":2,"records":[]}"#, "\u{0}"] {
            std::fs::write(&path, text).unwrap();
            assert!(load(&path, &machine).is_err(), "{text}");
            save(&path, &machine, &kernels("gemm", "small")).unwrap();
            assert_eq!(load(&path, &machine), Ok(kernels("gemm", "small")));
        }
    }
}
