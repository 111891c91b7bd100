//! Verification: whether everything works on the devices of a machine, and how fast. Workers in processes of their own do
//! the work and tell how it goes, a supervisor collects it in a [`Report`].

#[path = "../../kernels-tests/mod.rs"]
pub mod kernels;

mod collected;
mod fingerprint;
mod matrix;
mod report;
#[cfg(not(target_arch = "wasm32"))]
mod supervisor;
mod worker;

pub use collected::Collected;
pub use fingerprint::fingerprint;
pub use matrix::{Column, markdown, merged, merged_summary, summary};
pub use report::{DeviceReport, FORMAT, Failure, Generation, Outcome, Report, Row, Timing, Training, VERSION};
#[cfg(not(target_arch = "wasm32"))]
pub use supervisor::{Supervisor, adapters, this_program};
pub use worker::{Event, Extent, Pause, Target, Tell, work};

use crate::gpu::{Capabilities, DeviceType};
use crate::{Error, Result};

/// What to install where no adapter is found.
pub const INSTALL: [&str; 5] = [
    "Debian, Ubuntu: sudo apt install mesa-vulkan-drivers (Intel, AMD, and a driver in software); NVIDIA: sudo apt install nvidia-driver",
    "Fedora: sudo dnf install mesa-vulkan-drivers; NVIDIA: sudo dnf install akmod-nvidia (from RPM Fusion)",
    "Arch: sudo pacman -S vulkan-icd-loader and vulkan-radeon (AMD), vulkan-intel (Intel), nvidia-utils (NVIDIA) or vulkan-swrast (in software)",
    "Windows: nothing, Direct3D 12 is part of it; update the graphics driver if the GPU is not found",
    "macOS: nothing, Metal is part of it",
];

/// The adapters that `choice` names among those that are here: `auto` is every hardware adapter, or every software one where
/// there is no hardware; `all` is all; `cpu` none; else an index or a part of names, in either case.
///
/// # Errors
/// An index or a name that no adapter has: lists what there is.
pub fn targets(choice: &str, adapters: &[Capabilities]) -> Result<Vec<usize>> {
    let software = |i: &usize| adapters[*i].device_type == DeviceType::Software;
    let all = 0..adapters.len();
    let found: Vec<usize> = match (choice.trim().to_lowercase().as_str(), choice.trim().parse::<usize>()) {
        ("cpu", _) => return Ok(vec![]),
        ("all", _) => return Ok(all.collect()),
        ("auto", _) => {
            let hardware: Vec<usize> = all.clone().filter(|i| !software(i)).collect();
            return Ok(if hardware.is_empty() { all.collect() } else { hardware });
        }
        (_, Ok(index)) if index < adapters.len() => vec![index],
        ("", _) => vec![],
        (part, _) => all.filter(|i| adapters[*i].is_called(part)).collect(),
    };
    if found.is_empty() {
        let lines: Vec<String> = adapters.iter().enumerate().map(|(i, adapter)| format!("{i}: {adapter}")).collect();
        let remedy = match lines.is_empty() {
            true => "no adapter is here; use --device cpu for the CPU backend".into(),
            false => format!("use auto, all, cpu, or one of these: {}", lines.join("; ")),
        };
        return Err(Error::usage(format!("no adapter is called `{choice}`"), remedy));
    }
    Ok(found)
}
