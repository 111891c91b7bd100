//! The plans of a run, and whether they fit the machine, found out before anything is allocated on the device.

use super::Prepared;
use crate::distributed::Ranks;
use crate::evaluate::EvaluationPlan;
use crate::gpu::{Capabilities, Device};
use crate::graph::Plan;
use crate::graph::session::KernelSelection;
use crate::memory::available_memory;
use crate::models::{self, Model, SequenceIo};
use crate::nn::optimizer;
use crate::ops::View;
use crate::shape::Slots;
use crate::{Error, Result};

/// The plans of a run, built once.
pub struct Plans {
    /// Makes the gradients of all parameters.
    pub gradients: Plan,
    /// How the host talks to it.
    pub io: SequenceIo,
    /// How often it runs in an update.
    pub parts: usize,
    /// Updates the parameters from the gradients.
    pub update: Plan,
    /// Output `[1]` of the update: the squared global gradient norm.
    pub squared_norm: View,
    /// Sums the gradients of the parts of a batch, where it has several: the plans, and the sum in the first.
    pub accumulation: Option<([Plan; 2], View)>,
    /// Evaluates the held-out pieces, where there are any.
    pub evaluation: Option<EvaluationPlan>,
}

impl Plans {
    /// The plans of a run with batches of so many slots, as they run on this adapter.
    ///
    /// # Errors
    /// A configuration that cannot be built.
    pub fn new(
        prepared: &Prepared,
        slots: usize,
        (selection, adapter): (&KernelSelection, Option<&Capabilities>),
    ) -> Result<Self> {
        let (model, settings) = (prepared.state.model.as_ref(), &prepared.state.settings);
        let own = prepared.ranks.as_ref().map_or(Slots::all(slots), |ranks| ranks.slots(slots));
        let slots = own.count.div_ceil(settings.accumulate.unwrap_or(1)).max(1);
        let options = selection.plan_options(settings.plan_options(), adapter);
        let (gradients, io) = models::training(model, options, (slots, settings.seq), adapter)?.compile();
        let (update, squared_norm) = optimizer::plan(settings.optimizer.0.as_ref(), settings.ema, model.layout());
        let validation = prepared.own_validation();
        let evaluation = match validation.is_empty() {
            true => None,
            false => Some(crate::evaluate::plan(model, &validation, slots, settings.seq)?),
        };
        let accumulation = settings.accumulate.map(|_| {
            let [(sum, buffer), (join, _)] = optimizer::accumulation(settings.optimizer.0.as_ref(), model.layout());
            ([sum, join], buffer)
        });
        let parts = settings.accumulate.unwrap_or(1);
        Ok(Self { gradients, io, parts, update, squared_norm, accumulation, evaluation })
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Plan> + Clone {
        let accumulation = self.accumulation.iter().flat_map(|(plans, _)| plans);
        [&self.gradients, &self.update]
            .into_iter()
            .chain(accumulation)
            .chain(self.evaluation.iter().map(|built| &built.plan))
    }

    /// Bytes that a session with them holds.
    pub fn bytes(&self, adapter: Option<&Capabilities>) -> u64 {
        Plan::total_bytes(self.iter(), adapter)
    }

    /// FLOPs of an update.
    pub fn flops(&self) -> u64 {
        let parts = self.parts as u64;
        parts * self.gradients.cost().flops + self.update.cost().flops
    }
}

/// The plans of a run that can be on this device: enough memory, f16 in shaders where it is needed, kernels that exist.
///
/// # Errors
/// What of it there is not, or a configuration that cannot be built.
pub fn checked(prepared: &Prepared, device: &Device, selection: &KernelSelection) -> Result<Plans> {
    let adapter = device.capabilities();
    prepared.state.settings.precision.check(adapter)?;
    let plans = fitting(prepared, (selection, adapter))?;
    selection.check(&plans.iter().collect::<Vec<_>>(), adapter)?;
    Ok(plans)
}

/// The plans of a run that fits.
///
/// # Errors
/// One that does not, by how much and which batch would: on a GPU a buffer larger than it allows, on the CPU more memory than
/// the system has left.
fn fitting(prepared: &Prepared, on: (&KernelSelection, Option<&Capabilities>)) -> Result<Plans> {
    // Ranks of one host all ask it at once.
    let sharing = prepared.ranks.as_ref().map_or(1, |ranks| ranks.on_host().1);
    fitting_within(prepared, on, available_memory().map(|bytes| bytes / sharing as u64))
}

fn fitting_within(
    prepared: &Prepared,
    on: (&KernelSelection, Option<&Capabilities>),
    available: Option<u64>,
) -> Result<Plans> {
    let wanted = prepared.state.settings.batch;
    let plans = Plans::new(prepared, wanted, on)?;
    let fits = |plans: &Plans| fit(plans.iter(), on.1, available);
    match fits(&plans) {
        Ok(()) => Ok(plans),
        Err(e) => {
            let ranks = prepared.ranks.as_ref().map_or(1, Ranks::size);
            let sharing = prepared.ranks.as_ref().map_or(1, |ranks| ranks.on_host().1);
            let e = match (sharing, on.1) {
                (2.., None) => {
                    Error { what: format!("{}, of which each of {sharing} ranks has its part", e.what), ..e }
                }
                _ => e,
            };
            Err(with_remedy(e, (wanted, ranks), |slots| fits(&Plans::new(prepared, slots, on)?)))
        }
    }
}

/// Fails if a plan that depends on the batch does not fit, and says by how much and which batch would; else returns what
/// `build` has built.
///
/// # Errors
/// As [`fitting`], or what `build` reports.
pub fn fitting_plan<T>(
    build: impl Fn(usize) -> Result<(Plan, T)>,
    batch: usize,
    adapter: Option<&Capabilities>,
) -> Result<(Plan, T)> {
    let available = available_memory();
    let built = build(batch)?;
    match fit([&built.0].into_iter(), adapter, available) {
        Ok(()) => Ok(built),
        Err(e) => Err(with_remedy(e, (batch, 1), |batch| fit([&build(batch)?.0].into_iter(), adapter, available))),
    }
}

fn fit<'a>(
    plans: impl Iterator<Item = &'a Plan> + Clone,
    adapter: Option<&Capabilities>,
    available: Option<u64>,
) -> Result<()> {
    if let Some(capabilities) = adapter {
        return plans.clone().try_for_each(|plan| plan.check_fits(capabilities));
    }
    fit_in_memory(Plan::total_bytes(plans, None), available).map_err(|what| Error::model(format!("it {what}"), ""))
}

/// What to say where there are not `needed` bytes of memory.
fn fit_in_memory(needed: u64, available: Option<u64>) -> std::result::Result<(), String> {
    let available = available.unwrap_or(u64::MAX);
    if needed <= available {
        return Ok(());
    }
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    Err(format!("takes {} MiB of memory, {} MiB more than the system has left", mib(needed), mib(needed - available)))
}

/// Fails if there is no memory for what a run begins with: parameters, so many buffers as long as they, and carried states. Asked
/// before they are allocated; plans are checked later, with a device.
///
/// # Errors
/// By how much they are too large.
pub fn check_beginning(model: &dyn Model, buffers: usize, slots: usize) -> Result<()> {
    let parameters = model.layout().len() as u64 * (1 + buffers as u64);
    let states = model.states(slots).iter().map(|state| state.shape.iter().product::<usize>() as u64).sum::<u64>();
    let needed = parameters.saturating_add(states).saturating_mul(size_of::<f32>() as u64);
    fit_in_memory(needed, available_memory()).map_err(|what| {
        Error::model(
            format!("the model with its optimiser {what}"),
            "use smaller sizes with --set, or a smaller --preset or --batch",
        )
    })
}

/// The error with the largest batch that fits, a multiple of `unit`, found by bisection: memory grows with the batch.
fn with_remedy(e: Error, (batch, unit): (usize, usize), fits: impl Fn(usize) -> Result<()>) -> Error {
    let (mut good, mut bad) = (0, batch / unit);
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if fits(middle * unit).is_ok() { good = middle } else { bad = middle }
    }
    let remedy = match good * unit {
        0 => "use a smaller --seq or --preset".to_string(),
        good => format!("--batch {good} would fit; a smaller --seq helps as well, and in training --accumulate"),
    };
    Error::model(e.what, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Device;
    use crate::train::{TrainOptions, prepare};

    #[test]
    fn too_little_memory_is_said_with_the_batch_that_fits() {
        let options = TrainOptions { batch: Some(16), seq: Some(32), ..TrainOptions::default() };
        let prepared = prepare(&options, &Device::Cpu { why: String::new() }).unwrap();
        let needed = |batch| Plans::new(&prepared, batch, (&KernelSelection::default(), None)).unwrap().bytes(None);
        let check = |adapter: Option<&Capabilities>, available: Option<u64>| {
            fitting_within(&prepared, (&KernelSelection::default(), adapter), available).map(|_| ())
        };
        assert!(check(None, Some(needed(16))).is_ok());
        let error = check(None, Some(needed(16) - 1)).unwrap_err().to_string();
        assert!(error.contains("1 MiB more") && error.contains("`batch` 15 would fit"), "{error}");
        let error = check(None, Some(needed(7))).unwrap_err().to_string();
        assert!(error.contains("`batch` 7 would fit"), "{error}");
        let error = check(None, Some(1 << 10)).unwrap_err().to_string();
        assert!(error.contains("smaller `seq`"), "{error}");
        let mut small = Capabilities::portable();
        small.max_buffer_size = needed(4) / 20;
        let error = check(Some(&small), None).unwrap_err().to_string();
        assert!(error.contains("MiB more") && error.contains("would fit"), "{error}");
    }
}
