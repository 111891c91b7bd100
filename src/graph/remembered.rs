//! What was measured of each kernel, remembered in a file of the user's cache folder.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::gpu::{Machine, Remembered};
use crate::ops::Op;

/// Microseconds of each supported variant of a kernel on one shape; `None` for one that the driver refuses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Measured {
    /// Checksum of the text of all variants' shaders: other text, other times.
    pub shaders: u32,
    /// By variant.
    pub us: BTreeMap<String, Option<f64>>,
}

impl Measured {
    /// The fastest of `supported`, the first of equals; `None` if these are not the variants that were measured.
    pub fn fastest(&self, supported: &[&'static str]) -> Option<&'static str> {
        if supported.len() != self.us.len() {
            return None;
        }
        let times = supported.iter().map(|variant| self.us.get(*variant)).collect::<Option<Vec<_>>>()?;
        let ran = times.into_iter().zip(supported).filter_map(|(us, variant)| us.map(|us| (us, *variant)));
        ran.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, variant)| variant)
    }
}

/// A kernel on one shape: what measured times are remembered under.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    /// [`Op::kernel`].
    kernel: String,
    /// [`Op::shape`] as JSON.
    shape: String,
}

impl Key {
    /// That of an op.
    pub fn of(op: &dyn Op) -> Self {
        Self::named(op.kernel(), &op.shape())
    }

    /// That of something else that is measured.
    pub fn named(kernel: &str, shape: &Value) -> Self {
        Self { kernel: kernel.into(), shape: shape.to_string() }
    }
}

/// By kernel and shape.
pub(super) type Kernels = BTreeMap<Key, Measured>;

/// What came of trying an experimental variant on a machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Checked {
    pub kernel: String,
    pub variant: String,
    /// Checksum of the shader's file.
    pub text: u32,
    /// What is wrong with it, if anything is.
    pub wrong: Option<String>,
}

impl Checked {
    fn is_of(&self, other: &Self) -> bool {
        (&self.kernel, &self.variant) == (&other.kernel, &other.variant)
    }
}

/// An entry of the file.
#[derive(Serialize, Deserialize)]
struct Entry {
    kernel: String,
    shape: Value,
    #[serde(flatten)]
    measured: Measured,
}

/// What a machine's record holds.
#[derive(Serialize, Deserialize)]
struct Choices {
    kernels: Vec<Entry>,
    #[serde(default)]
    checked: Vec<Checked>,
}

/// What is remembered of a machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Known {
    pub kernels: Kernels,
    pub checked: Vec<Checked>,
}

impl From<Choices> for Known {
    fn from(choices: Choices) -> Self {
        let entry = |Entry { kernel, shape, measured }| (Key { kernel, shape: shape.to_string() }, measured);
        Self { kernels: choices.kernels.into_iter().map(entry).collect(), checked: choices.checked }
    }
}

impl From<Known> for Choices {
    fn from(known: Known) -> Self {
        let entry = |(Key { kernel, shape }, measured)| {
            let shape = serde_json::from_str(&shape).unwrap_or(Value::String(shape));
            Entry { kernel, shape, measured }
        };
        Self { kernels: known.kernels.into_iter().map(entry).collect(), checked: known.checked }
    }
}

const FILE: Remembered = Remembered { format: "deepj tuning", version: 2 };

/// What the file at `path` remembers of `machine`, or why it is of no use.
pub(super) fn load(path: &Path, machine: &Machine) -> Result<Known, String> {
    let found: Option<Choices> = FILE.load(path, machine)?;
    Ok(found.map(Known::from).unwrap_or_default())
}

/// Adds to what the file at `path` remembers.
pub(super) fn save(path: &Path, machine: &Machine, new: &Known) -> crate::Result<()> {
    FILE.save(path, machine, |known: Option<Choices>| {
        let mut all = known.map(Known::from).unwrap_or_default();
        all.kernels.extend(new.kernels.clone());
        all.checked.retain(|old| !new.checked.iter().any(|new| new.is_of(old)));
        all.checked.extend(new.checked.iter().cloned());
        all.into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Capabilities;

    fn measured(times: &[(&str, Option<f64>)]) -> Measured {
        Measured { shaders: 1, us: times.iter().map(|(variant, us)| (variant.to_string(), *us)).collect() }
    }

    fn key(kernel: &str, m: usize) -> Key {
        Key { kernel: kernel.into(), shape: serde_json::json!({ "m": m }).to_string() }
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
    fn kernels_are_added_to_those_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tuning.json");
        let machine = Machine::of(&Capabilities::portable());
        assert_eq!(load(&path, &machine), Ok(Known::default()));
        let keys = [key("gemm", 1), key("lstm_fwd", 1), key("gemm", 2)];
        for key in &keys {
            let kernels = Kernels::from([(key.clone(), measured(&[("a", Some(1.5))]))]);
            save(&path, &machine, &Known { kernels, ..Known::default() }).unwrap();
        }
        // The later of two checks of one variant stands, and those of others beside it.
        let checked = |variant: &str, wrong: Option<&str>| Checked {
            kernel: "gemm".into(),
            variant: variant.into(),
            text: 7,
            wrong: wrong.map(Into::into),
        };
        for one in [checked("a", Some("it did not end")), checked("b", None), checked("a", None)] {
            save(&path, &machine, &Known { checked: vec![one], ..Known::default() }).unwrap();
        }
        let Known { kernels: found, checked: tried } = load(&path, &machine).unwrap();
        assert_eq!(tried, [checked("b", None), checked("a", None)]);
        assert_eq!(found.keys().collect::<Vec<_>>(), [&keys[0], &keys[2], &keys[1]]);
        assert_eq!(found[&keys[1]], measured(&[("a", Some(1.5))]));
        // The shape is an object that people and other programs can read.
        let text: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(text["records"][0]["kernels"][1]["shape"]["m"], 2);
    }
}
