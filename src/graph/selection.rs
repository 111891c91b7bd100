//! Which variant of a kernel runs: the one that the user names, else the fastest measured, else the first.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use super::plan::Plan;
use crate::error::{Error, Result, nearest};
use crate::gpu::Capabilities;
use crate::models::PlanOptions;
use crate::ops::Op;
use crate::ops::order::{self, Family};

/// Whether kernels are measured, as `--tune` and `DEEPJ_TUNE` name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tune {
    /// No: kernels without an override take their first variant; no file is read or written.
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

/// How tuning goes; see [`KernelSelection::observer`].
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

/// Runs a variant of a kernel (their names) on the adapter with these capabilities and says whether it computes right, or what is wrong.
pub type Check = Arc<dyn Fn(&Capabilities, &str, &str) -> std::result::Result<(), String> + Send + Sync>;

/// How the kernels of a session's plans are chosen. The default is the first variant of each, unmeasured.
///
/// # Examples
///
/// ```
/// use deepj::prelude::*;
///
/// // As `--variant gemm=tiled --tune off`: a session says if the adapter has no such kernel.
/// let selection = KernelSelection { overrides: vec![("gemm".into(), "tiled".into())], ..KernelSelection::default() };
/// let session = Session::new(Device::Cpu { why: String::new() }, selection);
/// assert!(session.capabilities().is_none());
/// ```
#[derive(Clone, Default)]
pub struct KernelSelection {
    /// Kernel (`lstm_fwd`) or op (`lstm`: all its kernels that have the variant), and variant. A kernel's own override goes
    /// before its op's, a later override before an earlier one.
    pub overrides: Vec<(String, String)>,
    /// Whether overrides may be of kernels that the plans do not have, since they are meant for other plans too.
    pub overrides_elsewhere: bool,
    /// Whether two LSTM layers run beside each other where they can ([`crate::ops::lstm_pair`]). Unless given, an override of one of
    /// their kernels says so, or of a kernel of single layers; else what was measured, and on hardware where nothing was.
    pub pairs: Option<bool>,
    /// Whether kernels are measured.
    pub tune: Tune,
    /// The file in which choices are remembered; see [`KernelSelection::file`].
    pub remembered: Option<PathBuf>,
    /// Is told how tuning goes.
    pub observer: Option<Observer>,
    /// Tries [variants on experimental features](Op::experimental), once an adapter and text of the shader; those that pass are
    /// measured as others are. Without it none are.
    pub check: Option<Check>,
}

/// Why a variant was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The user asked for it.
    Override,
    /// It was the fastest.
    Tuned,
    /// It is the first; nothing was measured.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Override => "overridden",
            Self::Tuned => "tuned",
            Self::Default => "default",
        })
    }
}

/// The variant that a node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// One of [`Op::supported`].
    pub variant: &'static str,
    /// Why this one.
    pub origin: Origin,
}

impl KernelSelection {
    /// These overrides, nothing measured.
    pub fn overriding(overrides: Vec<(String, String)>) -> Self {
        Self { overrides, ..Self::default() }
    }

    /// Where choices are remembered unless someone says otherwise: in the user's cache folder, if there is one.
    pub fn file() -> Option<PathBuf> {
        crate::gpu::cache_folder().map(|folder| folder.join("tuning.json"))
    }

    /// How a training plan computes on this adapter.
    pub fn plan_options(&self, options: PlanOptions, adapter: Option<&Capabilities>) -> PlanOptions {
        let pairs = |able| self.wanted_pairs().unwrap_or_else(|| order::pairs(Family::of(able)));
        PlanOptions { pairs: adapter.is_some_and(pairs), ..options }
    }

    /// Whether two LSTM layers are to run beside each other, where anything says so.
    pub fn wanted_pairs(&self) -> Option<bool> {
        let by_override = self.overrides.iter().rev().find_map(|(kernel, _)| match kernel.as_str() {
            "lstm_pair" | "lstm_pair_fwd" | "lstm_pair_bwd" => Some(true),
            "lstm" | "lstm_fwd" | "lstm_bwd" => Some(false),
            _ => None,
        });
        self.pairs.or(by_override)
    }

    /// Fails on an override where the CPU computes, which has one implementation of each op; of a kernel that none of the plans
    /// has; of a variant that the kernel does not have on this adapter.
    ///
    /// # Errors
    /// Names the nearest and lists what there is.
    pub fn check(&self, plans: &[&Plan], adapter: Option<&Capabilities>) -> Result<()> {
        self.check_device(adapter)?;
        let Some(capabilities) = adapter else { return Ok(()) };
        let nodes = || plans.iter().flat_map(|plan| &plan.nodes);
        for (kernel, wanted) in &self.overrides {
            let mut named_nodes = nodes().filter(|node| named(node.op.as_ref(), kernel)).peekable();
            if named_nodes.peek().is_none() && self.overrides_elsewhere {
                continue;
            }
            if named_nodes.peek().is_none() {
                let known = nodes().flat_map(|node| [node.op.kernel(), node.op.name()]).collect();
                let what = format!("--variant {kernel}={wanted}: the plan has no kernel `{kernel}`");
                return Err(Error::usage(what, nearest(kernel, known)));
            }
            let supported: BTreeSet<_> = named_nodes.flat_map(|node| node.op.supported(capabilities)).collect();
            if !supported.contains(wanted.as_str()) {
                let what = format!(
                    "--variant {kernel}={wanted}: `{kernel}` has no variant `{wanted}` on {}",
                    capabilities.name
                );
                return Err(Error::usage(what, nearest(wanted, supported)));
            }
        }
        Ok(())
    }

    /// Fails on an override where the CPU computes, before there are plans.
    ///
    /// # Errors
    /// Names the first.
    pub fn check_device(&self, adapter: Option<&Capabilities>) -> Result<()> {
        match (adapter, self.overrides.first()) {
            (None, Some((kernel, variant))) => Err(Error::usage(
                format!("--variant {kernel}={variant} is for a GPU, but the CPU computes"),
                "leave it out, or choose a GPU with --device (`deepj adapters` lists them)",
            )),
            _ => Ok(()),
        }
    }

    /// The variant that the user wants for a kernel, among its supported ones.
    pub(super) fn override_for(&self, op: &dyn Op, supported: &[&'static str]) -> Option<&'static str> {
        [op.kernel(), op.name()].iter().find_map(|name| {
            let wanted = self.overrides.iter().rev().filter(|(kernel, _)| kernel == name);
            // A name may stand for several kernels or shapes, of which only some have the variant.
            wanted.filter_map(|(_, wanted)| supported.iter().copied().find(|variant| variant == wanted)).next()
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
            let supported = op.supported(capabilities);
            let by_user = self.override_for(op, &supported).map(|variant| Chosen { variant, origin: Origin::Override });
            let fastest = || tuned(op).map(|variant| Chosen { variant, origin: Origin::Tuned });
            let first = || Chosen { variant: supported.first().copied().unwrap_or_default(), origin: Origin::Default };
            by_user.or_else(fastest).unwrap_or_else(first)
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

/// Whether an override of `kernel` is meant for `op`.
fn named(op: &dyn Op, kernel: &str) -> bool {
    op.kernel() == kernel || op.name() == kernel
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::DeviceType;

    #[test]
    fn layers_run_beside_each_other_as_flags_overrides_or_the_adapter_say() {
        let of = |device_type| Capabilities { device_type, ..Capabilities::portable() };
        let (software, hardware) = (of(DeviceType::Software), of(DeviceType::Discrete));
        let pairs = |pairs, kernels: &[&str], adapter| {
            let overrides = kernels.iter().map(|kernel| (kernel.to_string(), "split_8".to_string())).collect();
            let selection = KernelSelection { pairs, overrides, ..KernelSelection::default() };
            selection.plan_options(PlanOptions::default(), adapter).pairs
        };
        assert!(pairs(None, &[], Some(&hardware)) && !pairs(None, &["gemm"], Some(&software)));
        assert!(!pairs(None, &["lstm_fwd"], Some(&hardware)), "what is overridden is to run");
        assert!(pairs(None, &["lstm_pair"], Some(&software)));
        assert!(
            pairs(Some(true), &["lstm"], Some(&software)) && !pairs(Some(false), &["lstm_pair_bwd"], Some(&hardware))
        );
        assert!(!pairs(Some(true), &[], None), "the CPU has no kernels");
    }
}
