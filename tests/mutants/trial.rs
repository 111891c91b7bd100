//! Runs cases with a broken kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deepj::gpu::{Capabilities, Dispatch};
use deepj::ops::Recorder;
use deepj::verify::kernels::harness::adapters::Adapter;
use deepj::verify::kernels::harness::{Case, kernel};

use super::mutant::Broken;

/// No case takes as long, its compilation included.
const LIMIT: Duration = Duration::from_secs(180);

/// A case in one of its variants.
#[derive(Clone)]
pub struct Attempt {
    pub case: Arc<Case>,
    pub variant: &'static str,
    /// As they are recorded on a device.
    pub dispatches: Vec<Dispatch>,
}

impl Attempt {
    /// All cases in all variants that run on a device with these capabilities.
    pub fn all(cases: &[Arc<Case>], capabilities: &Capabilities) -> Vec<Self> {
        let mut attempts = vec![];
        for case in cases {
            let (op, limited, views) = (case.op.as_ref(), case.limited(capabilities), kernel::views(case, false));
            for variant in op.supported(capabilities) {
                if let Ok(recorded) = Recorder::record(op, variant, &limited, &views) {
                    attempts.push(Self { case: case.clone(), variant, dispatches: recorded.dispatches });
                }
            }
        }
        attempts
    }

    /// Whether it runs a text that is broken.
    pub fn changes(&self, broken: &Broken) -> bool {
        self.dispatches.iter().any(|dispatch| broken.changes(&dispatch.shader))
    }

    fn name(&self) -> String {
        format!("{}/{}", self.case, self.variant)
    }

    /// What the kernel tests say of it on an adapter. `what` is done to it.
    fn run(&self, adapter: &Adapter, what: &str, change: &dyn Fn(&mut Dispatch)) -> Result<(), String> {
        let name = format!("{what}: {} on {}", self.name(), adapter.name);
        self.case.oracle()?;
        let (done, waiting) = channel::<()>();
        std::thread::spawn(move || {
            // A driver cannot be made to give up a kernel that does not end.
            if waiting.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{name} has not ended for {} s", LIMIT.as_secs());
                std::process::abort();
            }
        });
        let outcome = pollster::block_on(kernel::run_changed(&self.case, self.variant, adapter, change));
        drop(done);
        outcome.map(|_| ())
    }

    /// The same without a change, which is done once.
    fn passes(&self, adapter: &Adapter) -> Result<(), String> {
        static KNOWN: Mutex<BTreeMap<String, Result<(), String>>> = Mutex::new(BTreeMap::new());
        let key = format!("{} on {}", self.name(), adapter.name);
        if let Some(known) = KNOWN.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return known.clone();
        }
        let outcome = self.run(adapter, "no change", &|_| ());
        KNOWN.lock().unwrap_or_else(PoisonError::into_inner).insert(key, outcome.clone());
        outcome
    }
}

/// Sorts attempts so that those come first that find most in least time: one of each shader, and of those the smallest that
/// has more than a handful of elements.
pub fn likeliest_first(attempts: &mut Vec<Attempt>) {
    const HANDFUL: u64 = 4000;
    attempts.sort_by_key(|attempt| {
        let cost = attempt.case.op.cost();
        let size = cost.bytes.max(cost.flops);
        (size < HANDFUL, size)
    });
    let mut seen = BTreeSet::new();
    let constants =
        |attempt: &Attempt| attempt.dispatches.iter().map(|dispatch| dispatch.shader.consts.clone()).collect();
    let (first, more): (Vec<_>, Vec<_>) = attempts.drain(..).partition(|attempt| {
        let constants: Vec<_> = constants(attempt);
        seen.insert(constants)
    });
    attempts.extend(first.into_iter().chain(more));
}

/// By which of the kernel tests' checks a mutant was caught.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub enum Check {
    /// A result so many times its tolerance away from what it must be.
    Beyond(f64),
    /// A result that has no tolerance, and is not what it must be.
    Inexact,
    /// A result that is not finite: it was not written, or made of something that was not, or of a guard band.
    NotFinite,
    /// A guard band was written.
    Guard,
    /// An operand that is only read was written.
    Operand,
    /// The run with checks and the one without, or one that is cut and one that is not, have different bits.
    Differ,
}

impl Check {
    /// That of a failure's message; none where the device gave no result.
    fn of(message: &str) -> Option<Self> {
        let times =
            message.split_once("the worst at ").and_then(|(_, rest)| rest.split(' ').next()?.parse::<f64>().ok());
        match times {
            Some(times) if times.is_finite() => Some(Self::Beyond(times)),
            Some(_) => {
                let result =
                    message.split_once("] is ").and_then(|(_, rest)| rest.split(',').next()?.parse::<f64>().ok());
                Some(if result.is_some_and(f64::is_finite) { Self::Inexact } else { Self::NotFinite })
            }
            None if message.contains(" was written ") => Some(Self::Guard),
            None if message.contains("is only read, was changed") => Some(Self::Operand),
            None if message.contains(" differ: ") => Some(Self::Differ),
            None => None,
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beyond(times) => write!(f, "{times:.0e}"),
            Self::Inexact => write!(f, "inexact"),
            Self::NotFinite => write!(f, "not finite"),
            Self::Guard => write!(f, "guard band"),
            Self::Operand => write!(f, "operand"),
            Self::Differ => write!(f, "runs differ"),
        }
    }
}

/// How a mutant was caught.
#[derive(Clone, Debug)]
pub struct Caught {
    pub check: Check,
    /// The case and its variant.
    pub case: String,
    /// What the kernel tests say.
    pub message: String,
}

/// Tries the cases with a kernel that is broken in this way, one after the other until one fails, which must pass with
/// the kernel as it is.
///
/// # Errors
/// A case that fails with the kernel as it is too, or a device that gave no result.
pub fn attempt(attempts: &[Attempt], adapter: &Adapter, what: &str, broken: &Broken) -> Result<Option<Caught>, String> {
    for attempt in attempts {
        let Err(message) = attempt.run(adapter, what, &|dispatch| broken.put(dispatch)) else { continue };
        let case = attempt.name();
        attempt.passes(adapter).map_err(|error| format!("{case} fails without the mutant too: {error}"))?;
        let check = Check::of(&message).ok_or_else(|| format!("{case} gives no result: {message}"))?;
        return Ok(Some(Caught { check, case, message }));
    }
    Ok(None)
}

/// Everything that was caught: by kernel and change, by adapter.
#[derive(Default)]
pub struct Findings(Mutex<BTreeMap<(String, String), BTreeMap<String, Caught>>>);

impl Findings {
    /// Enters what came of a mutant on an adapter.
    pub fn enter(&self, kernel: &str, what: &str, adapter: &str, caught: Caught) {
        if std::env::var("DEEPJ_VERBOSE").is_ok_and(|value| !value.is_empty() && value != "0") {
            println!("{kernel}/{what}/{adapter}: {}: {}", caught.case, caught.message);
        }
        let mut findings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        findings.entry((kernel.into(), what.into())).or_default().insert(adapter.into(), caught);
    }

    /// By which check a mutant was caught on an adapter.
    pub fn check(&self, kernel: &str, what: &str, adapter: &str) -> Option<Check> {
        let findings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Some(findings.get(&(kernel.into(), what.into()))?.get(adapter)?.check)
    }

    /// How often each check caught something, in words.
    pub fn summary(&self) -> String {
        let findings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counts = BTreeMap::new();
        let (mut all, mut least) = (0, f64::INFINITY);
        for caught in findings.values().flat_map(BTreeMap::values) {
            all += 1;
            let by = match caught.check {
                Check::Beyond(times) => {
                    least = least.min(times);
                    "beyond tolerance".into()
                }
                other => other.to_string(),
            };
            *counts.entry(by).or_insert(0) += 1;
        }
        let counts: Vec<String> = counts.into_iter().map(|(check, count)| format!("{check} {count}")).collect();
        let mutants = findings.len();
        format!(
            "{mutants} mutants caught {all} times: {}; at {least:.1} times the tolerance or more",
            counts.join(", ")
        )
    }
}
