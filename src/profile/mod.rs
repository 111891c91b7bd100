//! Where the time of a step goes: kernel by kernel, with what each costs and what the device could do at most.

use std::collections::HashSet;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::gpu::{self, Device};
use crate::graph::Plan;
use crate::graph::session::{KernelSelection, Tune};
use crate::models::{self, CorpusFacts, Model, PlanOptions, Precision, PresetInfo};

use crate::ops::Op;
use crate::peaks::RooflineLimits;
use crate::train::{Paired, batch_shape};

pub mod ab;
pub mod compare;
mod file;
#[cfg(test)]
mod fixtures;
mod isa;
mod measure;
mod report;
mod roofline;
mod shapes;
mod table;
mod trace;
mod workload;

pub use isa::compiled;
pub use report::{
    Bound, CPU_VARIANT, Clock, FORMAT, Gap, Header, Kernel, Profile, Record, Span, Summary, Track, VERSION,
};
pub use roofline::roofline;
pub use table::{csv, markdown, table};
pub use trace::trace;
pub use workload::{Run, Workload, training_plan};

/// Composers of the corpus that the profiled network is made for: as many as the paper's has.
pub const STYLES: usize = 23;
/// Time steps of generation in one submission unless the user says otherwise: a bar.
const BAR: usize = 16;
/// The most of them: each is some dozens of dispatches, which are timed one by one.
const MOST_STEPS: usize = 1024;
/// How long the calls of an op in one run should take at least, in microseconds, and how many there are at most.
const OP_RUN: (f64, f64) = (20_000.0, 1_000.0);

/// What to profile and how; `None` where the default is to be taken, which is that of training.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The kind of network, by its name among [`crate::models`]: DeepJ unless given.
    pub model: Option<String>,
    /// Sizes of the network, by name.
    pub preset: Option<String>,
    /// Fields of the configuration that differ from the preset: name and JSON value.
    pub set: Vec<(String, String)>,
    /// Pieces side by side.
    pub batch: Option<usize>,
    /// Time steps of a window; of generation, those of a submission.
    pub seq: Option<usize>,
    /// How values are stored.
    pub precision: Precision,
    /// Whether activations are computed again.
    pub recompute: bool,
    /// Profiled runs, and as many unprofiled ones.
    pub runs: usize,
}

/// What is profiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// An update.
    Train,
    /// Time steps of generation.
    Generate,
    /// An op, in every variant that the device has or in those that are overridden.
    Op {
        /// Of the op, or of one of its kernels.
        name: String,
        /// `FIELD=VALUE,…`; without it the shapes that training has, or generation where training has none.
        shape: Option<String>,
    },
}

/// The sizes that settings stand for.
#[derive(Clone, Debug)]
struct Sizes {
    model: Arc<dyn Model>,
    preset: PresetInfo,
    options: PlanOptions,
    batch: usize,
    seq: usize,
}

impl Sizes {
    /// The plan of a training update on a device.
    fn training_plan(&self, device: &Device, selection: &KernelSelection) -> Result<Plan> {
        let optimizer = models::default_optimizer(self.model.as_ref())?;
        let (adapter, shape) = (device.capabilities(), (self.batch, self.seq));
        let paired = Paired { model: self.model.as_ref(), options: self.options, shape, device };
        let options = paired.remembered(selection)?.plan_options(self.options, adapter);
        Ok(workload::training_plan(self.model.as_ref(), optimizer.as_ref(), options, shape, adapter)?.0)
    }
}

impl Settings {
    fn sizes(&self, what: &What, device: &Device) -> Result<Sizes> {
        let architecture = models::architecture(self.model.as_deref().unwrap_or(models::DEFAULT))?;
        let preset = models::preset_info(architecture, self.preset.as_deref(), device.capabilities())?;
        let model = models::configure(architecture, preset.name, CorpusFacts::of(architecture, STYLES), &self.set)?;
        let (batch, seq) = if *what == What::Generate { (1, BAR) } else { preset.batch };
        let (batch, seq) = (self.batch.unwrap_or(batch), self.seq.unwrap_or(seq));
        batch_shape(model.as_ref(), batch, seq)?;
        if *what == What::Generate && seq > MOST_STEPS {
            return Err(Error::usage(
                format!("--seq {seq}"),
                format!("a submission has at most {MOST_STEPS} time steps"),
            ));
        }
        if self.runs == 0 {
            return Err(Error::usage("--runs 0", "give 1 or more"));
        }
        let options = PlanOptions { precision: self.precision, recompute: self.recompute, pairs: false };
        Ok(Sizes { model, preset, options, batch, seq })
    }

    fn header(&self, what: String, plan: String, sizes: &Sizes, device: &Device, peaks: RooflineLimits) -> Header {
        let set = self.set.iter().map(|(field, value)| format!(" {field}={value}"));
        let other = self.model.as_ref().filter(|name| *name != models::DEFAULT).map(|name| format!("{name} "));
        Header {
            format: FORMAT.into(),
            version: VERSION,
            what,
            plan,
            preset: other.unwrap_or_default() + sizes.preset.name + &set.collect::<String>(),
            batch: sizes.batch,
            seq: sizes.seq,
            precision: format!("{:?}", self.precision).to_lowercase(),
            recompute: self.recompute,
            machine: device.machine(),
            clock: Clock::Cpu,
            runs: self.runs,
            steps_per_run: 1,
            peaks,
        }
    }
}

/// Fails on what [`profile`] would refuse, as far as it can be told before anything is measured.
///
/// # Errors
/// Sizes, shapes, names or variants that do not exist or do not fit; settings that would change nothing.
pub fn check(what: &What, settings: &Settings, device: &Device, selection: &KernelSelection) -> Result<()> {
    let remedies = match what {
        What::Generate => Some(["leave it out: generation computes in f32 and keeps nothing for a backward pass"; 2]),
        What::Op { shape: Some(_), .. } => Some([
            "leave it out: an op alone has no forward pass that could be computed again",
            "leave it out: a shape says itself what is stored as f16, such as a=f16 of gemm",
        ]),
        What::Train | What::Op { shape: None, .. } => None,
    };
    let given = [(settings.recompute, "--recompute"), (settings.precision != Precision::F32, "--precision")];
    if let Some(remedies) = remedies
        && let Some(((_, flag), remedy)) = given.into_iter().zip(remedies).find(|((given, _), _)| *given)
    {
        return Err(Error::usage(format!("{flag} has no effect here"), remedy));
    }
    let remedy = match (what, device) {
        (What::Train, Device::Gpu(_)) => None,
        (What::Train, Device::Cpu { .. }) => Some("leave it out: it is about kernels of a GPU, and the CPU computes"),
        _ => Some("leave it out: it is about the plans of training"),
    };
    if let (Some(remedy), Some(_)) = (remedy, selection.pairs) {
        return Err(Error::usage("--pairs has no effect here", remedy));
    }
    let sizes = settings.sizes(what, device)?;
    sizes.options.precision.check(device.capabilities())?;
    let plan = match what {
        What::Train => {
            let plan = sizes.training_plan(device, selection)?;
            if selection.pairs == Some(true) && !plan.nodes.iter().any(|node| node.op.name() == "lstm_pair") {
                let remedy = "leave it out: with --recompute, and where units or memory do not fit, layers run one after the other";
                return Err(Error::usage("--pairs on has no effect here", remedy));
            }
            plan
        }
        What::Generate => sizes.model.generation(sizes.batch, sizes.seq)?.compile().0,
        What::Op { name, shape } => {
            let shape = shape.as_deref();
            let ops = ops(name, shape, &sizes, (device, selection))?;
            if let Some(flag) = idle(&ops, (name, shape), settings, &sizes, (device, selection)) {
                let remedy = match shape {
                    Some(_) => "leave it out: the shape says all that it could",
                    None => "leave it out: no size of this op depends on it",
                };
                return Err(Error::usage(format!("{flag} has no effect here"), remedy));
            }
            workload::plan_of(name, &ops)
        }
    };
    selection.check(&[&plan], device.capabilities())
}

/// Profiles `what` on `device`, whose `peaks` are known. `progress` is told what is measured, and the part of it that is
/// done, 0 to 1.
///
/// # Errors
/// As [`check`]; a device that fails.
pub async fn profile(
    what: &What,
    settings: &Settings,
    device: Device,
    selection: KernelSelection,
    peaks: RooflineLimits,
    mut progress: impl FnMut(&str, f64),
) -> Result<Profile> {
    check(what, settings, &device, &selection)?;
    let sizes = settings.sizes(what, &device)?;
    let shape = (sizes.batch, sizes.seq);
    let (name, mut workload) = match what {
        What::Train => {
            let made = Workload::train(sizes.model.as_ref(), sizes.options, shape, device.clone(), selection).await?;
            ("train", made)
        }
        What::Generate => {
            ("generate", Workload::generate(sizes.model.as_ref(), shape, device.clone(), selection).await?)
        }
        What::Op { name, shape } => {
            let ops = ops(name, shape.as_deref(), &sizes, (&device, &selection))?;
            return profile_ops(name, (ops, shape.is_none()), settings, &sizes, device, selection, peaks, progress)
                .await;
        }
    };
    let plan = workload.plan().name.clone();
    let header = settings.header(name.into(), plan.clone(), &sizes, &device, peaks);
    let total = 2.0 * settings.runs as f64;
    measure::measure(&mut workload, header, None, |done| progress(&plan, done as f64 / total)).await
}

/// An excerpt of an op that a software adapter, or the CPU, runs in about a tenth of a second in its first variant, less where there are
/// many, or all of it where that does. It begins small, since how far a kernel stays below the device's peak is not known before it has run.
async fn fitting(op: Arc<dyn Op>, device: &Device, selection: &KernelSelection) -> Result<Arc<dyn Op>> {
    const FIRST: u64 = 1 << 22;
    let variants = device.capabilities().map_or(1, |able| op.supported(able).len());
    let most_seconds = 0.1_f64.min(0.4 / variants.max(1) as f64);
    if device.capabilities().is_some_and(|able| able.device_type != gpu::DeviceType::Software) {
        return Ok(op);
    }
    let mut most = FIRST;
    loop {
        if op.cost().flops <= most {
            return Ok(op);
        }
        let Some(excerpt) = op.excerpt(most).map(Arc::<dyn Op>::from) else { return Ok(op) };
        let first = KernelSelection { overrides: vec![], tune: Tune::Off, ..selection.clone() };
        let mut workload = Workload::op(excerpt.clone(), device.clone(), first).await?;
        workload.run().await?;
        let seconds = workload.run().await?.wall.as_secs_f64();
        if seconds >= most_seconds / 4.0 {
            return Ok(excerpt);
        }
        most = most.saturating_mul((most_seconds / seconds.max(1e-6)).clamp(2.0, 16.0) as u64);
    }
}

/// The different ops that `name` stands for in the plans of training and generation, or in the given shape.
fn ops(
    name: &str,
    shape: Option<&str>,
    sizes: &Sizes,
    (device, selection): (&Device, &KernelSelection),
) -> Result<Vec<Arc<dyn Op>>> {
    let (typical, batch) = (sizes.model.typical_sizes(), (sizes.batch, sizes.seq));
    if let Some(shape) = shape {
        return shapes::shaped(name, shape, &typical, batch);
    }
    shapes::check_name(name)?;
    let train = sizes.training_plan(device, selection)?;
    let generate = sizes.model.generation(1, BAR)?.compile().0;
    let mut seen = HashSet::new();
    let mut found = vec![];
    // An op that training has is asked for in training's shapes.
    for plan in [train, generate] {
        if found.is_empty() {
            let nodes = plan.nodes.into_iter().map(|node| node.op);
            let nodes = nodes.filter(|op| op.kernel() == name || op.name() == name);
            found.extend(nodes.filter(|op| seen.insert((op.kernel(), op.label()))));
        }
    }
    match found.is_empty() {
        true => shapes::shaped(name, "", &typical, batch),
        false => Ok(found),
    }
}

/// The first option for sizes that was given and of which `ops` do not depend: with another value they would be the same.
fn idle(
    made: &[Arc<dyn Op>],
    (name, shape): (&str, Option<&str>),
    settings: &Settings,
    sizes: &Sizes,
    on: (&Device, &KernelSelection),
) -> Option<&'static str> {
    let same =
        |others: Result<Vec<Arc<dyn Op>>>| others.is_ok_and(|others| format!("{others:?}") == format!("{made:?}"));
    let sized = |batch, seq| same(ops(name, shape, &Sizes { batch, seq, ..sizes.clone() }, on));
    let Sizes { batch, seq, .. } = *sizes;
    let of_network = [
        (settings.model.is_some(), "--model"),
        (settings.preset.is_some(), "--preset"),
        (!settings.set.is_empty(), "--set"),
    ];
    let network = of_network.into_iter().find(|(given, _)| *given).map(|(_, flag)| flag);
    match shape {
        _ if settings.batch.is_some() && sized(batch + 1, seq) => Some("--batch"),
        _ if settings.seq.is_some() && sized(batch, seq + 1) => Some("--seq"),
        Some(shape) => network.filter(|_| {
            let other = sizes.model.typical_sizes().all_other();
            same(shapes::shaped(name, shape, &other, (batch, seq)))
        }),
        None => None,
    }
}

#[allow(clippy::too_many_arguments)] // the arguments of `profile`, and what it has found out
async fn profile_ops(
    name: &str,
    (ops, to_fit): (Vec<Arc<dyn Op>>, bool),
    settings: &Settings,
    sizes: &Sizes,
    device: Device,
    selection: KernelSelection,
    peaks: RooflineLimits,
    mut progress: impl FnMut(&str, f64),
) -> Result<Profile> {
    let header = settings.header(format!("op {name}"), name.into(), sizes, &device, peaks);
    let mut wanted = vec![];
    for op in ops {
        // Sized to the device, where it is a software adapter that a whole op of training keeps busy for long.
        let op = if to_fit {
            progress(&format!("the size of {}", op.label()), 0.0);
            fitting(op, &device, &selection).await?
        } else {
            op
        };
        let supported = device.capabilities().map(|capabilities| op.supported(capabilities));
        let overridden =
            selection.overrides.iter().filter(|(kernel, _)| [op.kernel(), op.name()].contains(&kernel.as_str()));
        let overridden: Vec<_> = overridden.map(|(_, variant)| variant.clone()).collect();
        match supported {
            None => wanted.push((op, vec![], true)),
            Some(supported) if supported.is_empty() => {
                let what =
                    format!("{} has no 16-bit floats in shaders, which {} needs", header.machine.adapter, op.label());
                return Err(Error::usage(what, "use f32, or another device (`deepj adapters` lists what each can do)"));
            }
            Some(supported) => {
                // An override of an op may be of a variant that only some of its kernels have; that one has it is checked.
                let asked = |variant: &&str| match overridden.is_empty() {
                    true => !op.experimental().contains(variant),
                    false => overridden.iter().any(|overridden| overridden == variant),
                };
                let by_user = |variant: &str| vec![(op.kernel().to_string(), variant.to_string())];
                let default = supported[0];
                let asked = supported.into_iter().filter(asked);
                wanted.extend(asked.map(|variant| (op.clone(), by_user(variant), variant == default)));
            }
        }
    }
    let all = wanted.len() as f64;
    let mut whole: Option<Profile> = None;
    // That of the first is that of all.
    let mut clock = None;
    for (i, (op, overrides, is_default)) in wanted.into_iter().enumerate() {
        let label = op.label();
        let said = overrides.first().map_or(label.clone(), |(_, variant)| format!("{label}, {variant}"));
        progress(&said, i as f64 / all);
        let overridden = KernelSelection { overrides, tune: Tune::Off, ..selection.clone() };
        let mut workload = Workload::op(op, device.clone(), overridden).await?;
        // The first run may still compile.
        workload.run().await?;
        let once = workload.run().await?.wall.as_secs_f64() * 1e6;
        workload.times = (OP_RUN.0 / once).clamp(1.0, OP_RUN.1) as u32;
        let total = 2.0 * settings.runs as f64;
        let done = |done: usize| progress(&said, (i as f64 + done as f64 / total) / all);
        let mut profile = measure::measure(&mut workload, header.clone(), clock, done).await?;
        profile.kernels.iter_mut().for_each(|kernel| kernel.is_default = is_default);
        clock = match profile.header.clock {
            Clock::Device => Some(gpu::Clock::Device),
            Clock::Wall => Some(gpu::Clock::Wall),
            Clock::Cpu => None,
        };
        match &mut whole {
            None => whole = Some(profile.per_step()),
            Some(whole) => whole.join(profile.per_step()),
        }
    }
    whole.ok_or_else(|| Error::usage(format!("`{name}` stands for no op"), ""))
}
