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
        Self { kernel: op.kernel().into(), shape: op.shape().to_string() }
    }
}

/// By kernel and shape.
pub(super) type Kernels = BTreeMap<Key, Measured>;

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
}

impl From<Choices> for Kernels {
    fn from(choices: Choices) -> Self {
        let entry = |Entry { kernel, shape, measured }| (Key { kernel, shape: shape.to_string() }, measured);
        choices.kernels.into_iter().map(entry).collect()
    }
}

impl From<Kernels> for Choices {
    fn from(kernels: Kernels) -> Self {
        let entry = |(Key { kernel, shape }, measured)| {
            let shape = serde_json::from_str(&shape).unwrap_or(Value::String(shape));
            Entry { kernel, shape, measured }
        };
        Self { kernels: kernels.into_iter().map(entry).collect() }
    }
}

const FILE: Remembered = Remembered { format: "deepj tuning", version: 2 };

/// What the file at `path` remembers of `machine`, or why it is of no use.
pub(super) fn load(path: &Path, machine: &Machine) -> Result<Kernels, String> {
    let found: Option<Choices> = FILE.load(path, machine)?;
    Ok(found.map(Kernels::from).unwrap_or_default())
}

/// Adds `kernels` to what the file at `path` remembers.
pub(super) fn save(path: &Path, machine: &Machine, kernels: &Kernels) -> crate::Result<()> {
    FILE.save(path, machine, |known: Option<Choices>| {
        let mut all = known.map(Kernels::from).unwrap_or_default();
        all.extend(kernels.clone());
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
        assert_eq!(load(&path, &machine), Ok(Kernels::new()));
        let keys = [key("gemm", 1), key("lstm_fwd", 1), key("gemm", 2)];
        for key in &keys {
            save(&path, &machine, &Kernels::from([(key.clone(), measured(&[("a", Some(1.5))]))])).unwrap();
        }
        let found = load(&path, &machine).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), [&keys[0], &keys[2], &keys[1]]);
        assert_eq!(found[&keys[1]], measured(&[("a", Some(1.5))]));
        // The shape is an object that people and other programs can read.
        let text: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(text["records"][0]["kernels"][1]["shape"]["m"], 2);
    }
}
