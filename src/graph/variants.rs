//! Which variant of a kernel runs: the one that the user pinned, else the fastest measured, else the first.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use super::Plan;
use crate::error::{Error, Result, nearest};
use crate::gpu::{Capabilities, Device};
use crate::ops::Op;

/// Whether kernels are measured, as `--tune` and `DEEPJ_TUNE` name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tune {
    /// No: kernels without a pin take their first variant; no file is read or written.
    #[default]
    Off,
    /// Those of which no choice is remembered.
    On,
    /// All, whatever is remembered.
    Force,
}

impl FromStr for Tune {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "off" => Ok(Self::Off),
            "on" => Ok(Self::On),
            "force" => Ok(Self::Force),
            _ => Err(Error::usage(format!("`{text}` is no way to tune"), "use off, on or force")),
        }
    }
}

/// How tuning goes; see [`Variants::observer`].
#[derive(Clone, Debug, PartialEq)]
pub enum Event<'a> {
    /// So many kernels of a plan will be measured.
    Started {
        /// The plan's name.
        plan: &'a str,
        /// Different kernels and shapes.
        kernels: usize,
    },
    /// Kernel number `done`, from 0, is measured now.
    Measuring {
        /// Kernels done before.
        done: usize,
        /// Kernel and shape.
        label: &'a str,
    },
    /// Something that the user should know; tuning goes on.
    Notice(&'a str),
    /// The plan's kernels are measured.
    Finished(&'a Tuned),
}

/// What came of measuring a plan's kernels.
#[derive(Clone, Debug, PartialEq)]
pub struct Tuned {
    /// The plan's name.
    pub plan: String,
    /// Kernels measured.
    pub measured: usize,
    /// Kernels that were left with their first variant because the time was up.
    pub left: usize,
    /// How long it took.
    pub seconds: f64,
    /// The file in which the choices are remembered, if they are.
    pub remembered: Option<PathBuf>,
}

impl fmt::Display for Tuned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = if self.measured == 1 { "" } else { "s" };
        write!(f, "tuned {} kernel{s} of `{}` in {:.1} s", self.measured, self.plan, self.seconds)?;
        match &self.remembered {
            Some(path) => write!(f, " (remembered in {})", path.display())?,
            None => write!(f, " (not remembered)")?,
        }
        if self.left > 0 {
            write!(f, "; the time for tuning is up, {} more take their first variant", self.left)?;
        }
        Ok(())
    }
}

/// Is told how tuning goes.
pub type Observer = Arc<dyn Fn(&Event<'_>) + Send + Sync>;

/// How the kernels of a session's plans are chosen. The default is the first variant of each, unmeasured.
#[derive(Clone, Default)]
pub struct Variants {
    /// Kernel (`lstm_fwd`) or op (`lstm`: all its kernels that have the variant), and variant. A kernel's own pin goes
    /// before its op's, a later pin before an earlier one.
    pub pins: Vec<(String, String)>,
    /// Whether kernels are measured. On the web they never are: there is no file to remember the choices in.
    pub tune: Tune,
    /// The file in which choices are remembered; see [`Variants::file`].
    pub remembered: Option<PathBuf>,
    /// Is told how tuning goes.
    pub observer: Option<Observer>,
}

/// Why a variant was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The user asked for it.
    Pinned,
    /// It was the fastest.
    Tuned,
    /// It is the first; nothing was measured.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pinned => "pinned",
            Self::Tuned => "tuned",
            Self::Default => "default",
        })
    }
}

/// The variant that a node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// One of [`Op::legal`].
    pub variant: &'static str,
    /// Why this one.
    pub origin: Origin,
}

impl Variants {
    /// These pins, nothing measured.
    pub fn pinned(pins: Vec<(String, String)>) -> Self {
        Self { pins, ..Self::default() }
    }

    /// Where choices are remembered unless someone says otherwise: in the user's cache folder, if there is one.
    pub fn file() -> Option<PathBuf> {
        crate::gpu::cache_folder().map(|folder| folder.join("tuning.json"))
    }

    /// The same without pins of kernels that the plan does not have.
    pub fn of(mut self, plan: &Plan) -> Self {
        self.pins.retain(|(kernel, _)| plan.nodes.iter().any(|node| named(node.op.as_ref(), kernel)));
        self
    }

    /// Fails on a pin of a kernel that the plan does not have, or of a variant that the kernel does not have on this
    /// adapter.
    ///
    /// # Errors
    /// Names the nearest and lists what there is.
    pub fn check(&self, plan: &Plan, capabilities: &Capabilities) -> Result<()> {
        for (kernel, wanted) in &self.pins {
            let nodes = || plan.nodes.iter().filter(|node| named(node.op.as_ref(), kernel));
            if nodes().next().is_none() {
                let known = plan.nodes.iter().flat_map(|node| [node.op.kernel(), node.op.name()]).collect();
                let what = format!("--variant {kernel}={wanted}: the plan has no kernel `{kernel}`");
                return Err(Error::usage(what, nearest(kernel, known)));
            }
            let legal: BTreeSet<_> = nodes().flat_map(|node| node.op.legal(capabilities)).collect();
            if !legal.contains(wanted.as_str()) {
                let what = format!(
                    "--variant {kernel}={wanted}: `{kernel}` has no variant `{wanted}` on {}",
                    capabilities.name
                );
                return Err(Error::usage(what, nearest(wanted, legal)));
            }
        }
        Ok(())
    }

    /// The variant that the user wants for a kernel, among its legal ones.
    pub(super) fn pin(&self, op: &dyn Op, legal: &[&'static str]) -> Option<&'static str> {
        [op.kernel(), op.name()].iter().find_map(|name| {
            let wanted = self.pins.iter().rev().filter(|(kernel, _)| kernel == name);
            // A name may stand for several kernels or shapes, of which only some have the variant.
            wanted.filter_map(|(_, wanted)| legal.iter().copied().find(|variant| variant == wanted)).next()
        })
    }

    /// The variant of each of the plan's nodes, where `tuned` knows the fastest of those measured.
    pub(super) fn choose(
        &self,
        plan: &Plan,
        capabilities: &Capabilities,
        tuned: impl Fn(&dyn Op) -> Option<&'static str>,
    ) -> Vec<Chosen> {
        let choose = |op: &dyn Op| {
            let legal = op.legal(capabilities);
            let pin = self.pin(op, &legal).map(|variant| Chosen { variant, origin: Origin::Pinned });
            let fastest = || tuned(op).map(|variant| Chosen { variant, origin: Origin::Tuned });
            let first = || Chosen { variant: legal.first().copied().unwrap_or_default(), origin: Origin::Default };
            pin.or_else(fastest).unwrap_or_else(first)
        };
        plan.nodes.iter().map(|node| choose(node.op.as_ref())).collect()
    }

    pub(super) fn tell(&self, event: &Event<'_>) {
        if let Some(observer) = &self.observer {
            observer(event);
        }
    }

    /// The file of remembered choices, where tuning takes any notice of it.
    pub(super) fn remembered(&self) -> Option<&Path> {
        self.remembered.as_deref().filter(|_| self.tune != Tune::Off)
    }
}

/// Fails on pins where the CPU computes, whose mirror has no variants.
///
/// # Errors
/// Names the first.
pub fn check_pins(pins: &[(String, String)], device: &Device) -> Result<()> {
    match (device, pins.first()) {
        (Device::Cpu { .. }, Some((kernel, variant))) => Err(Error::usage(
            format!("--variant {kernel}={variant} is for a GPU, but the CPU computes"),
            "leave it out, or choose a GPU with --device (`deepj adapters` lists them)",
        )),
        _ => Ok(()),
    }
}

/// Whether a pin of `kernel` is meant for `op`.
fn named(op: &dyn Op, kernel: &str) -> bool {
    op.kernel() == kernel || op.name() == kernel
}
