//! The architectures by name, and the models of their presets and configurations.

use std::sync::Arc;

use parking_lot::RwLock;
use serde_json::Value;

use super::network::{ArchitectureOf, Network};
use super::{Architecture, CorpusFacts, DefaultOn, Model, PresetInfo, biaxial, deepj};
use crate::error::{Error, Result, nearest};
use crate::gpu::Capabilities;

/// Those of this crate, and those that were registered.
static BUILT_IN: [&dyn Architecture; 2] = [&deepj::DEEPJ, &biaxial::BIAXIAL];
static REGISTERED: RwLock<Vec<&'static dyn Architecture>> = RwLock::new(vec![]);

/// The architecture that training takes unless told otherwise, and that of checkpoints that name none.
pub const DEFAULT: &str = "deepj";

/// Makes a kind of network known by its name, as those of this crate are.
pub fn register<N: Network>() {
    let architecture: &'static dyn Architecture = &ArchitectureOf::<N>::NEW;
    let mut registered = REGISTERED.write();
    registered.retain(|other| other.name() != architecture.name());
    registered.push(architecture);
}

/// The architecture of this name.
///
/// # Errors
/// There is none; the error names the nearest and lists what there is.
pub fn architecture(name: &str) -> Result<&'static dyn Architecture> {
    let registered = REGISTERED.read();
    let known = || BUILT_IN.iter().chain(registered.iter()).copied();
    known().find(|known| known.name() == name).ok_or_else(|| {
        let names = known().map(|known| known.name()).collect();
        Error::usage(format!("there is no model `{name}`"), nearest(name, names))
    })
}

/// An architecture's preset by name, or the one that is the default on the CPU or on a GPU.
///
/// # Errors
/// A name that it does not have.
pub fn preset_info(
    architecture: &dyn Architecture,
    name: Option<&str>,
    adapter: Option<&Capabilities>,
) -> Result<PresetInfo> {
    let presets = architecture.presets();
    let default_on = if adapter.is_some() { DefaultOn::Gpu } else { DefaultOn::Cpu };
    let found = match name {
        Some(name) => presets.iter().find(|preset| preset.name == name),
        None => presets.iter().find(|preset| preset.default_on == default_on).or(presets.first()),
    };
    found.copied().ok_or_else(|| {
        let names: Vec<&str> = presets.iter().map(|preset| preset.name).collect();
        let what = format!("the model {} has no preset `{}`", architecture.name(), name.unwrap_or_default());
        Error::usage(what, format!("give {}", names.join(" or ")))
    })
}

/// The model of a preset, single fields of whose configuration are replaced: name and JSON value, as `--set` gives them.
///
/// # Errors
/// A preset or field that there is not, or a value that does not fit.
pub fn configure(
    architecture: &dyn Architecture,
    preset: &str,
    corpus: CorpusFacts,
    set: &[(String, String)],
) -> Result<Arc<dyn Model>> {
    with_overrides(architecture, architecture.preset(preset, corpus)?, set)
}

/// The model of a configuration, single fields of which are replaced.
///
/// # Errors
/// As [`configure`].
pub fn with_overrides(
    architecture: &dyn Architecture,
    base: Value,
    set: &[(String, String)],
) -> Result<Arc<dyn Model>> {
    let mut config = base.clone();
    let names: Vec<String> = config.as_object().map_or(vec![], |fields| {
        let settable = fields.keys().filter(|name| !architecture.decided_by_corpus().contains(&name.as_str()));
        settable.cloned().collect()
    });
    for (name, value) in set {
        if !names.contains(name) {
            return Err(Error::usage(
                format!("--set {name}: no such field"),
                nearest(name, names.iter().map(String::as_str).collect()),
            ));
        }
        config[name.as_str()] = json_or_text(value);
    }
    architecture.model(config).map_err(|e| {
        // The one that is to blame by itself, if one is.
        let alone = |(name, value): &&(String, String)| {
            let mut config = base.clone();
            config[name.as_str()] = json_or_text(value);
            architecture.model(config).is_err()
        };
        let what = set.iter().find(alone).map_or(e.what.clone(), |(name, _)| format!("--set {name}: {}", e.what));
        Error::usage(what, e.remedy)
    })
}

/// JSON, or where it is none a text as it stands.
fn json_or_text(value: &str) -> Value {
    serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.into()))
}
