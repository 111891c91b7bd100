//! What was measured of each kernel, remembered in a file of the user's cache folder.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::gpu::{Machine, Remembered};

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

/// What a machine's record holds.
#[derive(Serialize, Deserialize)]
struct Choices {
    kernels: Kernels,
}

const FILE: Remembered = Remembered { format: "deepj tuning", version: 1 };

/// What the file at `path` remembers of `machine`, or why it is of no use.
pub(super) fn load(path: &Path, machine: &Machine) -> Result<Kernels, String> {
    let found: Option<Choices> = FILE.load(path, machine)?;
    Ok(found.map(|choices| choices.kernels).unwrap_or_default())
}

/// Adds `kernels` to what the file at `path` remembers.
pub(super) fn save(path: &Path, machine: &Machine, kernels: &Kernels) -> io::Result<()> {
    FILE.save(path, machine, |known: Option<Choices>| {
        let mut known = known.map(|choices| choices.kernels).unwrap_or_default();
        for (kernel, shapes) in kernels {
            known.entry(kernel.clone()).or_default().extend(shapes.clone());
        }
        Choices { kernels: known }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Capabilities;

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
    fn kernels_are_added_to_those_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tuning.json");
        let machine = Machine::of(&Capabilities::portable());
        assert_eq!(load(&path, &machine), Ok(Kernels::new()));
        for (kernel, label) in [("gemm", "small"), ("lstm_fwd", "small"), ("gemm", "large")] {
            save(&path, &machine, &kernels(kernel, label)).unwrap();
        }
        let found = load(&path, &machine).unwrap();
        assert_eq!(found["gemm"].keys().collect::<Vec<_>>(), ["large", "small"]);
        assert_eq!(found["lstm_fwd"], kernels("lstm_fwd", "small")["lstm_fwd"]);
    }
}
