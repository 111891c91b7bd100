//! The plans of a run, and whether they fit the machine, found out before anything is allocated on the device.

use std::ops::Range;

use super::Prepared;
use crate::distributed::Ranks;
use crate::evaluate::EvaluationPlan;
use crate::gpu::{Capabilities, Device, DeviceType, Gpu};
use crate::graph::session::{KernelSelection, Tune};
use crate::graph::{Plan, Rivals};
use crate::memory::available_memory;
use crate::models::{self, Model, PlanOptions, SequenceIo};
use crate::nn::optimizer::{self, Accumulation};
use crate::ops::View;
use crate::shape::Slots;
use crate::{Error, Result};

/// The names under which it is remembered what two LSTM layers take beside each other, and one after the other.
const BESIDE: &str = "layers beside each other";
const AFTER: &str = "layers one after the other";

/// The plans of a run, built once.
pub struct Plans {
    /// Makes the gradients of all parameters.
    pub gradients: Plan,
    /// How the host talks to it.
    pub io: SequenceIo,
    /// How often it runs in an update.
    pub parts: usize,
    /// The gradients that ranks sum while the rest is computed: how many nodes make them, and their ranges.
    pub early: (usize, Vec<Range<usize>>),
    /// Updates the parameters from the gradients.
    pub update: Plan,
    /// Output `[1]` of the update: the squared global gradient norm.
    pub squared_norm: View,
    /// Sum the gradients of the parts of a batch, where it has several.
    pub accumulation: Option<Accumulation>,
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
        let own = own_slots(prepared, slots);
        let parts = settings.parts(own, adapter.is_none());
        let (slots, parts) = (parts[0].count, parts.len());
        let options = selection.plan_options(settings.plan_options(), adapter);
        let (gradients, io) = models::training(model, options, (slots, settings.seq), adapter)?.compile();
        let (update, squared_norm) = optimizer::plan(settings.optimizer.0.as_ref(), settings.ema, model.layout());
        let validation = prepared.own_validation();
        let evaluation = match validation.is_empty() {
            true => None,
            // As `evaluate` does, unless less at once was asked for.
            false => {
                let slots = settings.accumulate.map_or(own.count, |_| slots);
                Some(crate::evaluate::plan(model, &validation, slots, settings.seq)?)
            }
        };
        let early = prepared.ranks.as_ref().and_then(|_| gradients.early_gradients()).unwrap_or_default();
        let accumulation = (parts > 1)
            .then(|| optimizer::accumulation(settings.optimizer.0.as_ref(), model.layout(), parts, &early.1));
        Ok(Self { gradients, io, parts, early, update, squared_norm, accumulation, evaluation })
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Plan> + Clone {
        [&self.gradients, &self.update]
            .into_iter()
            .chain(self.accumulation.iter().flat_map(|accumulation| &accumulation.plans))
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

/// Which of so many slots of a batch this process computes.
fn own_slots(prepared: &Prepared, slots: usize) -> Slots {
    prepared.ranks.as_ref().map_or(Slots::all(slots), |ranks| ranks.slots(slots))
}

/// A training plan on a device, of which it is to be known whether two LSTM layers are to run beside each other.
pub struct Paired<'a> {
    pub model: &'a dyn Model,
    pub options: PlanOptions,
    /// Slots and time steps.
    pub shape: (usize, usize),
    pub device: &'a Device,
}

impl<'a> Paired<'a> {
    /// That of a run.
    pub fn of(prepared: &'a Prepared, device: &'a Device) -> Self {
        let settings = &prepared.state.settings;
        let parts = settings.parts(own_slots(prepared, settings.batch), device.capabilities().is_none());
        let shape = (parts[0].count, settings.seq);
        Self { model: prepared.state.model.as_ref(), options: settings.plan_options(), shape, device }
    }

    /// The GPU, where nothing says yet whether layers run beside each other and kernels are measured.
    fn undecided(&self, selection: &KernelSelection) -> Option<&Gpu> {
        match self.device {
            Device::Gpu(gpu) if selection.wanted_pairs().is_none() && selection.tune != Tune::Off => Some(gpu),
            _ => None,
        }
    }

    /// `selection` with the answer that is remembered, if nothing else gives one.
    ///
    /// # Errors
    /// A configuration that cannot be built.
    pub fn remembered(&self, selection: &KernelSelection) -> Result<KernelSelection> {
        let Some(gpu) = self.undecided(selection) else { return Ok(selection.clone()) };
        let plans = self.plans(&gpu.capabilities)?;
        let faster = rivals(&plans, gpu).and_then(|rivals| rivals.remembered(selection, &gpu.capabilities));
        Ok(with_faster(selection, faster))
    }

    /// The same, measured where it is not remembered: on hardware, and on other adapters by [`Tune::Force`].
    ///
    /// # Errors
    /// A configuration that cannot be built, or a lost device.
    pub async fn measured(&self, selection: &KernelSelection) -> Result<KernelSelection> {
        let Some(gpu) = self.undecided(selection) else { return Ok(selection.clone()) };
        let plans = self.plans(&gpu.capabilities)?;
        let Some(rivals) = rivals(&plans, gpu) else { return Ok(selection.clone()) };
        let known = rivals.remembered(selection, &gpu.capabilities).filter(|_| selection.tune != Tune::Force);
        let on_hardware = gpu.capabilities.device_type != DeviceType::Software;
        let faster = match known {
            None if on_hardware || selection.tune == Tune::Force => rivals.measure(gpu, selection).await?,
            known => known,
        };
        Ok(with_faster(selection, faster))
    }

    /// With pairs, and without.
    fn plans(&self, adapter: &Capabilities) -> Result<[Plan; 2]> {
        let plan = |pairs| {
            let options = PlanOptions { pairs, ..self.options };
            models::training(self.model, options, self.shape, Some(adapter)).map(|sequence| sequence.compile().0)
        };
        Ok([plan(true)?, plan(false)?])
    }
}

/// The plans with pairs and without, beside each other.
fn rivals<'a>([beside, after]: &'a [Plan; 2], gpu: &Gpu) -> Option<Rivals<'a>> {
    Rivals::new([(BESIDE, beside), (AFTER, after)], &gpu.capabilities)
}

fn with_faster(selection: &KernelSelection, faster: Option<&str>) -> KernelSelection {
    KernelSelection { pairs: faster.map(|faster| faster == BESIDE), ..selection.clone() }
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
            // Batches that 4 divides take least on the CPU, which computes them in parts.
            let in_parts = on.1.is_none() && prepared.state.settings.accumulate.is_none();
            let fours = (1..4).map(|k| k * ranks).find(|batch| batch.is_multiple_of(4)).unwrap_or(4 * ranks);
            let units = if in_parts { vec![fours, ranks] } else { vec![ranks] };
            Err(with_remedy(e, wanted, &units, |slots| fits(&Plans::new(prepared, slots, on)?)))
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
        Err(e) => Err(with_remedy(e, batch, &[1], |batch| fit([&build(batch)?.0].into_iter(), adapter, available))),
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

/// The error with the largest batch that fits, a multiple of the first unit of which one does, found by bisection: memory grows with
/// the batch from multiple to multiple.
fn with_remedy(e: Error, batch: usize, units: &[usize], fits: impl Fn(usize) -> Result<()>) -> Error {
    let largest = |unit: &usize| {
        let (mut good, mut bad) = (0, batch.div_ceil(*unit));
        while bad - good > 1 {
            let middle = good + (bad - good) / 2;
            if fits(middle * unit).is_ok() { good = middle } else { bad = middle }
        }
        good * unit
    };
    let remedy = match units.iter().map(largest).find(|good| *good > 0).unwrap_or(0) {
        0 => "use a smaller --seq or --preset".to_string(),
        good => format!("--batch {good} would fit; a smaller --seq helps as well, and in training --accumulate"),
    };
    Error::model(e.what, remedy)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use pollster::block_on;
    use serde_json::Value;

    use super::*;
    use crate::gpu::{Device, DeviceChoice, OpenOptions, adapters, open};
    use crate::graph::session::Observer;
    use crate::train::{TrainOptions, prepare};

    #[test]
    fn too_little_memory_is_said_with_the_batch_that_fits() {
        let options = TrainOptions { batch: Some(16), seq: Some(32), accumulate: Some(1), ..TrainOptions::default() };
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
        // In parts 8 slots take less than 5 at once.
        let prepared =
            prepare(&TrainOptions { accumulate: None, ..options }, &Device::Cpu { why: String::new() }).unwrap();
        let plans = |batch| Plans::new(&prepared, batch, (&KernelSelection::default(), None)).unwrap();
        assert!(plans(8).bytes(None) < plans(5).bytes(None));
        for (available, good) in [(plans(8).bytes(None), 8), (plans(2).bytes(None), 2)] {
            let on = (&KernelSelection::default(), None);
            let error = fitting_within(&prepared, on, Some(available)).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(&format!("`batch` {good} would fit")), "{error}");
        }
        let mut small = Capabilities::portable();
        small.max_buffer_size = needed(4) / 20;
        let error = check(Some(&small), None).unwrap_err().to_string();
        assert!(error.contains("MiB more") && error.contains("would fit"), "{error}");
    }

    #[test]
    fn whether_layers_run_beside_each_other_is_measured_and_remembered() {
        if block_on(adapters()).is_empty() {
            println!("skipped: no adapter here");
            return;
        }
        let sizes = ["time_units", "note_units"].map(|size| (size.to_string(), "32".to_string()));
        let options = TrainOptions { set: sizes.into(), batch: Some(1), seq: Some(3), ..TrainOptions::default() };
        let device = block_on(open(&DeviceChoice::Index(0), OpenOptions::default())).unwrap();
        let prepared = prepare(&options, &device).unwrap();
        let paired = Paired::of(&prepared, &device);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tuning.json");
        let told = Arc::new(Mutex::new(vec![]));
        let (heard, remembered) = (told.clone(), Some(file.clone()));
        let observer: Observer = Arc::new(move |event| heard.lock().push(format!("{event:?}")));
        let selection = |tune| KernelSelection {
            tune,
            remembered: remembered.clone(),
            observer: Some(observer.clone()),
            ..KernelSelection::default()
        };
        let (off, on, force) = (selection(Tune::Off), selection(Tune::On), selection(Tune::Force));
        assert_eq!(block_on(paired.measured(&off)).unwrap().pairs, None);
        assert!(!file.exists());
        if device.capabilities().is_some_and(|able| able.device_type == DeviceType::Software) {
            assert_eq!(block_on(paired.measured(&on)).unwrap().pairs, None, "in software it is not measured unasked");
        }

        let measured = block_on(paired.measured(&force)).unwrap().pairs.unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let known: Value = serde_json::from_str(&text).unwrap();
        let entry = &known["records"][0]["kernels"][0];
        let us = [BESIDE, AFTER].map(|name| entry["us"][name].as_f64().unwrap());
        assert!(us.iter().all(|us| *us > 0.0) && measured == (us[0] <= us[1]), "{entry}");
        let ops =
            |name: &str| entry["shape"][name].as_array().unwrap().iter().map(Value::to_string).collect::<String>();
        assert!(ops(BESIDE).contains("lstm pair") && !ops(AFTER).contains("lstm pair"), "{entry}");

        // What is remembered is what counts, whichever it is, and it decides what runs.
        for beside in [true, false] {
            let mut changed = known.clone();
            let slower = if beside { AFTER } else { BESIDE };
            changed["records"][0]["kernels"][0]["us"][slower] = Value::from(us[0] + us[1]);
            std::fs::write(&file, changed.to_string()).unwrap();
            let chosen = paired.remembered(&on).unwrap();
            assert_eq!(chosen.pairs, Some(beside));
            let plans = Plans::new(&prepared, 1, (&chosen, device.capabilities())).unwrap();
            assert_eq!(plans.gradients.nodes.iter().any(|node| node.op.name() == "lstm_pair"), beside);
            for wanted in [true, false] {
                let asked = KernelSelection { pairs: Some(wanted), ..on.clone() };
                assert_eq!(paired.remembered(&asked).unwrap().pairs, Some(wanted), "what is asked for is to run");
            }
        }
        let told = std::mem::take(&mut *told.lock()).join("\n");
        assert!(!told.contains("Notice") && told.matches("Finished").count() == 1, "measured once: {told}");
    }
}
