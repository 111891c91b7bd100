//! Whether a run fits the machine, found out before anything is allocated.

use crate::gpu::{Capabilities, available_memory};
use crate::graph::Plan;
use crate::models::deepj::{Mode, build};
use crate::{Error, Result};

use super::Prepared;

/// The plans of a run: training, and evaluation where there are held-out pieces.
///
/// # Errors
/// A configuration that cannot be built.
pub fn plans(prepared: &Prepared, batch: usize) -> Result<Vec<Plan>> {
    let settings = &prepared.state.settings;
    let config = &prepared.state.config;
    let mut plans = vec![build(config, Mode::Train(settings.training()), batch, settings.seq)?.plan];
    if !prepared.validation.is_empty() {
        plans.push(crate::evaluate::plan(config, &prepared.validation, batch, settings.seq)?.0.plan);
    }
    Ok(plans)
}

/// Bytes that a session with these plans holds, the arenas counted once.
pub fn bytes(plans: &[Plan], on_cpu: bool) -> u64 {
    let arenas = plans.iter().map(|plan| plan.arenas.iter().filter(|&&used| used).count() * plan.params_len).max();
    let slots: u64 = plans.iter().map(|plan| plan.slots_bytes(on_cpu)).sum();
    slots + 4 * arenas.unwrap_or(0) as u64
}

/// Fails if the run does not fit, and says by how much and which batch would.
///
/// # Errors
/// On a GPU a buffer larger than it allows, on the CPU more memory than the system has left.
pub fn check(prepared: &Prepared, capabilities: Option<&Capabilities>) -> Result<()> {
    check_plans(|batch| plans(prepared, batch), prepared.state.settings.batch, capabilities)
}

/// The same of any plans that depend on the batch.
///
/// # Errors
/// As [`check`], or what `plans` reports.
pub fn check_plans(
    plans: impl Fn(usize) -> Result<Vec<Plan>>,
    batch: usize,
    capabilities: Option<&Capabilities>,
) -> Result<()> {
    check_within(plans, batch, capabilities, available_memory())
}

fn check_within(
    plans: impl Fn(usize) -> Result<Vec<Plan>>,
    batch: usize,
    capabilities: Option<&Capabilities>,
    available: Option<u64>,
) -> Result<()> {
    let fits = |batch: usize| -> Result<()> {
        let plans = plans(batch)?;
        if let Some(capabilities) = capabilities {
            return plans.iter().try_for_each(|plan| plan.check_fits(capabilities));
        }
        let (needed, available) = (bytes(&plans, true), available.unwrap_or(u64::MAX));
        if needed <= available {
            return Ok(());
        }
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let what = format!(
            "it takes {} MiB of memory, {} MiB more than the system has left",
            mib(needed),
            mib(needed - available)
        );
        Err(Error::model(what, ""))
    };
    let Err(e) = fits(batch) else { return Ok(()) };
    // The largest batch that fits, by bisection: memory grows with the batch.
    let (mut good, mut bad) = (0, batch);
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if fits(middle).is_ok() { good = middle } else { bad = middle }
    }
    let remedy = match good {
        0 => "use a smaller --seq or --preset small".to_string(),
        _ => format!("--batch {good} would fit; a smaller --seq helps as well"),
    };
    Err(Error::model(e.what, remedy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::{Options, prepare};

    #[test]
    fn too_little_memory_is_said_with_the_batch_that_fits() {
        let options = Options { batch: Some(16), seq: Some(32), ..Options::default() };
        let prepared = prepare(&options, true).unwrap();
        let needed = |batch| bytes(&plans(&prepared, batch).unwrap(), true);
        let check_within = |capabilities: Option<&Capabilities>, available: Option<u64>| {
            check_within(|batch| plans(&prepared, batch), prepared.state.settings.batch, capabilities, available)
        };
        assert!(check_within(None, Some(needed(16))).is_ok());
        let error = check_within(None, Some(needed(16) - 1)).unwrap_err().to_string();
        assert!(error.contains("1 MiB more") && error.contains("--batch 15 would fit"), "{error}");
        let error = check_within(None, Some(needed(7))).unwrap_err().to_string();
        assert!(error.contains("--batch 7 would fit"), "{error}");
        let error = check_within(None, Some(1 << 10)).unwrap_err().to_string();
        assert!(error.contains("smaller --seq"), "{error}");
        let mut small = Capabilities::portable();
        small.max_buffer_size = needed(4) / 20;
        let error = check_within(Some(&small), None).unwrap_err().to_string();
        assert!(error.contains("MiB more") && error.contains("would fit"), "{error}");
    }
}
