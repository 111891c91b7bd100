//! The tasks of a verification on one device, one after the other, each told of as it begins and ends: if a driver takes the
//! process down, whoever listens knows where.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};
use web_time::Instant;

use super::kernels::harness::adapters::{self, Adapter};
use super::kernels::networks::{self as model, OtherDraw};
use super::kernels::{Check, Pass, Suite};
use super::report::{Failure, Generation, Outcome, Timing, Training};
use crate::checkpoint::{Checkpoint, StopConditions};
use crate::gpu::{Checks, Device, DeviceType, Machine};
use crate::graph::session::{KernelSelection, Tune};
use crate::models::{self, Model, PlanOptions};
use crate::peaks::{self, RooflineLimits};
use crate::profile::Workload;
use crate::train::{LAST, Memory, Observer, RunFiles, TrainOptions, UpdateRecord, prepare, train_into};
use crate::{Error, Result};

/// Which device: the CPU backend, or the adapter at this place of [`adapters`](crate::gpu::adapters).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Cpu,
    Adapter(usize),
}

/// What a worker tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// The number of tasks, and the machine they run on.
    Tasks { tasks: usize, machine: Machine },
    /// Task number `task` begins; a check has the row that it is entered in.
    Begun { task: usize, name: String, row: Option<(String, Pass)> },
    /// It goes on.
    Alive,
    /// A check has ended.
    Checked { outcome: Outcome, other_draws: Vec<OtherDraw> },
    /// Nanoseconds between two ticks of the device's clock.
    Period(f64),
    /// The short training has ended.
    Trained(Training),
    /// The short generation has ended.
    Generated(Generation),
    /// The roofline limits were measured.
    RooflineLimits(RooflineLimits),
    /// Something is timed.
    Timed(Timing),
    /// A task could not be done.
    Failed(Failure),
    /// All tasks are done.
    End,
}

/// Updates of the short training.
const UPDATES: u64 = 20;
/// Slots and time steps of its batches.
const BATCH: (usize, usize) = (2, 16);
/// Time steps of the short generation.
const STEPS: usize = 64;
/// Runs of what is timed, fewer where they take longer than so many seconds.
const RUNS: usize = 5;
const TIMING_SECONDS: f64 = 10.0;

/// How far the losses of two short trainings in f32 may be apart, relative. Chosen, not derived: software adapters differ from
/// the CPU backend by 3e-7 to 2e-6 (docs/ADAPTERS.md), and a wrong gradient changes the second loss in its second or third digit.
const TOLERANCE: f64 = 1e-4;

/// What there is to do.
enum Task {
    Check(Check),
    Training,
    Generation,
    RooflineLimits,
    Time(Timed),
}

/// What is timed.
#[derive(Clone, Copy)]
enum Timed {
    Training,
    Generation,
}

impl Task {
    fn name(&self) -> String {
        match self {
            Self::Check(check) => check.name.clone(),
            Self::Training => format!("short training, {UPDATES} updates"),
            Self::Generation => format!("generation, {STEPS} steps"),
            Self::RooflineLimits => "roofline limits".into(),
            Self::Time(Timed::Training) => "timing an update".into(),
            Self::Time(Timed::Generation) => "timing generation".into(),
        }
    }
}

/// Who is told; also from threads that measure.
pub type Tell = Arc<dyn Fn(Event) + Send + Sync>;

/// What is waited for between two tasks, where others have to have their turn: in a browser, messages.
pub type Pause<'a> = &'a dyn Fn() -> Pin<Box<dyn Future<Output = ()>>>;

/// What to verify.
#[derive(Clone, Copy, Debug)]
pub struct Extent<'a> {
    /// The first task to do.
    pub from: usize,
    /// Just the checks whose name contains this.
    pub only: Option<&'a str>,
    /// Of kernels just the checks that [tell most in little time](Suite::quickly_on).
    pub quick: bool,
}

/// Does the tasks of a device.
///
/// # Errors
/// A device that is not there or cannot be opened. All else is told.
pub async fn work(target: Target, extent: Extent<'_>, tell: &Tell, pause: Pause<'_>) -> Result<()> {
    let Extent { from, only, quick } = extent;
    let suite = Suite::new();
    let place = match target {
        Target::Cpu => Place(None),
        Target::Adapter(index) => {
            let found = adapters::all().await.into_iter().nth(index);
            let gone = || Error::usage(format!("there is no adapter {index}"), "`deepj adapters` lists them");
            Place(Some(found.ok_or_else(gone)?))
        }
    };
    let machine = place.device().await?.machine();
    let checks = match &place.0 {
        None if quick => suite.quickly_on_cpu(),
        None => suite.on_cpu(),
        Some(adapter) if quick => suite.quickly_on(adapter),
        Some(adapter) => suite.on_adapter(adapter),
    };
    let mut tasks: Vec<Task> = checks.into_iter().map(Task::Check).collect();
    match only {
        Some(part) => tasks.retain(|task| task.name().contains(part)),
        None => {
            // The CPU backend's training is what others are compared with.
            tasks.extend(place.0.as_ref().map(|_| Task::Training));
            tasks.extend([Task::Generation, Task::RooflineLimits]);
            tasks.extend([Timed::Training, Timed::Generation].map(Task::Time));
        }
    }
    tell(Event::Tasks { tasks: tasks.len(), machine });
    if let (Device::Gpu(gpu), true) = (place.device().await?, from == 0) {
        tell(Event::Period(gpu.timestamp_period()));
    }
    // The next cases' oracles are computed while the device works.
    let cases = suite.cases.clone();
    if cfg!(not(target_arch = "wasm32"))
        && only.is_none()
        && !quick
        && tasks.iter().skip(from).any(|task| matches!(task, Task::Check(_)))
    {
        std::thread::spawn(move || cases.iter().for_each(|case| drop(case.oracle().map(|_| ()))));
    }
    let (mut trained, mut measured) = (None, None);
    for (i, task) in tasks.into_iter().enumerate().skip(from) {
        let row = match &task {
            Task::Check(check) => Some((check.row.clone(), check.pass)),
            _ => None,
        };
        let name = task.name();
        pause().await;
        tell(Event::Begun { task: i, name: name.clone(), row });
        let done = match task {
            Task::Check(check) => {
                let (verdict, other_draws) = check.run().await;
                Ok(Event::Checked { outcome: verdict.into(), other_draws })
            }
            Task::Training => match trained_on_cpu(&mut trained, tell).await {
                Ok(cpu) => short_training(&place, cpu, tell).await,
                Err(error) => Err(error),
            },
            Task::Generation => match trained_on_cpu(&mut trained, tell).await {
                Ok(cpu) => generation(&place, cpu).await,
                Err(error) => Err(error),
            },
            Task::RooflineLimits => {
                place.peaks().await.map(|peaks| Event::RooflineLimits(measured.insert(peaks).clone()))
            }
            Task::Time(what) => time(what, &place, measured.as_ref(), tell).await.map(Event::Timed),
        };
        tell(done.unwrap_or_else(|error| {
            place.reopen();
            Event::Failed(Failure::new(&name, &format!("{error:#}"), None))
        }));
    }
    tell(Event::End);
    Ok(())
}

/// Where the tasks run: on an adapter, else on the CPU.
struct Place(Option<Arc<Adapter>>);

impl Place {
    /// The device, opened anew where the one before was let go of.
    async fn device(&self) -> Result<Device> {
        match &self.0 {
            None => Ok(Device::Cpu { why: "it is verified".into() }),
            Some(adapter) => {
                adapter.gpu(Checks::Trusted).await.map(Device::Gpu).map_err(|error| Error::device(error, ""))
            }
        }
    }

    fn reopen(&self) {
        self.0.iter().for_each(|adapter| adapter.reopen());
    }

    async fn peaks(&self) -> Result<RooflineLimits> {
        let peaks = peaks::measure(&self.device().await?).await?;
        if !peaks.are_rates() {
            return Err(Error::run(
                format!("the measured limits are not positive numbers: {peaks:?}"),
                "the device's clock may stand still",
            ));
        }
        Ok(peaks)
    }
}

/// What the CPU backend makes of the short training.
struct Trained {
    losses: Vec<f64>,
    model: Arc<dyn Model>,
    params: Vec<f32>,
}

/// The CPU backend's short training, done once.
async fn trained_on_cpu<'a>(trained: &'a mut Option<Trained>, tell: &Tell) -> Result<&'a Trained> {
    let lost = || Error::run("the CPU backend's training is lost", "");
    if trained.is_none() {
        let mut files = Memory::default();
        let device = Device::Cpu { why: "it is compared with".into() };
        let (losses, error) = run_training(device, &mut files, tell).await;
        if let Some(error) = error {
            return Err(error);
        }
        let Checkpoint { model, params, .. } = Checkpoint::from_bytes(&files.read(LAST)?.ok_or_else(lost)?)?;
        *trained = Some(Trained { losses, model, params });
    }
    trained.as_ref().ok_or_else(lost)
}

/// Keeps the losses of all updates.
struct Losses<'a> {
    losses: Vec<f64>,
    tell: &'a Tell,
}

impl Observer for Losses<'_> {
    fn stepped(&mut self, record: &UpdateRecord) {
        self.losses.push(record.losses.total());
        (self.tell)(Event::Alive);
    }
}

/// The losses of the updates that were made, and why it ended early if it did.
async fn run_training(device: Device, files: &mut Memory, tell: &Tell) -> (Vec<f64>, Option<Error>) {
    let options = TrainOptions {
        preset: Some("small".into()),
        batch: Some(BATCH.0),
        seq: Some(BATCH.1),
        seed: Some(0),
        budget: StopConditions { steps: Some(UPDATES), ..StopConditions::default() },
        ..TrainOptions::default()
    };
    let mut observer = Losses { losses: vec![], tell };
    let done = match prepare(&options, &device) {
        Ok(mut prepared) => {
            // The losses of the updates are what is compared.
            prepared.validation.clear();
            let (selection, stop) = (KernelSelection::default(), AtomicBool::new(false));
            train_into(files, prepared, device, selection, &mut observer, &stop).await
        }
        Err(error) => Err(error),
    };
    (observer.losses, done.err())
}

async fn short_training(place: &Place, cpu: &Trained, tell: &Tell) -> Result<Event> {
    let began = Instant::now();
    let (losses, error) = run_training(place.device().await?, &mut Memory::default(), tell).await;
    if error.is_some() {
        place.reopen();
    }
    let off = losses.iter().zip(&cpu.losses).map(|(loss, wanted)| ((loss - wanted) / wanted).abs());
    Ok(Event::Trained(Training {
        off_by: off.fold(0.0, f64::max),
        losses,
        cpu: cpu.losses.clone(),
        tolerance: TOLERANCE,
        error: error.map(|error| super::report::public(&error.to_string())),
        seconds: began.elapsed().as_secs_f64(),
    }))
}

async fn generation(place: &Place, cpu: &Trained) -> Result<Event> {
    let pieces = cpu.model.roll().styles.clamp(1, 4);
    let generation = model::GenerationCase::new(cpu.model.as_ref(), cpu.params.clone(), pieces, STEPS)?;
    let outcome = match place.0.as_ref().map(|adapter| (adapter, generation.ways(adapter))) {
        None => generation.check_cpu(),
        Some((adapter, ways)) => match ways.first() {
            Some(way) => generation.check(adapter, way).await,
            None => Err("there is no way to run it".into()),
        },
    };
    let (margin, other_draws, error) = match outcome {
        Ok((margin, other_draws)) => (Some(margin), other_draws, None),
        Err(error) => {
            place.reopen();
            (None, vec![], Some(super::report::public(&error)))
        }
    };
    Ok(Event::Generated(Generation { steps: STEPS, pieces, margin, other_draws, error }))
}

/// Times one of the paper's plans, with measured variants on hardware: on a GPU at the paper's batch, or what fits into its
/// memory, elsewhere at one that ends in seconds.
async fn time(what: Timed, place: &Place, peaks: Option<&RooflineLimits>, tell: &Tell) -> Result<Timing> {
    // As the program runs it: dispatches as long as the device's watchdog allows.
    let device = place.device().await?;
    let device = peaks.map_or(device.clone(), |peaks| device.within(peaks.budget()));
    let hardware = device.capabilities().is_some_and(|able| able.device_type != DeviceType::Software);
    let shapes: &[(usize, usize)] = match what {
        Timed::Training if hardware => &[(16, 128), (4, 128), (1, 128)],
        Timed::Training => &[(1, 32)],
        Timed::Generation => &[(1, 16)],
    };
    let mut loaded = Err(Error::run("there is nothing to time", ""));
    for &shape in shapes {
        loaded = load(what, shape, device.clone(), hardware, tell).await.map(|load| (load, shape));
        if loaded.is_ok() {
            break;
        }
    }
    let (mut workload, (batch, steps)) = loaded?;
    let began = Instant::now();
    let mut times = vec![];
    // The first run warms up.
    workload.run().await?;
    while times.len() < RUNS && (times.is_empty() || began.elapsed().as_secs_f64() < TIMING_SECONDS) {
        times.push(workload.run().await?.wall.as_secs_f64());
        tell(Event::Alive);
    }
    times.sort_by(f64::total_cmp);
    // Above zero even by a clock that is coarse.
    let median = times[times.len() / 2].max(1e-9);
    let (name, rate) = match what {
        Timed::Training => (format!("update, paper, B={batch} T={steps}"), format!("{:.2} updates/s", 1.0 / median)),
        Timed::Generation => {
            let rate = format!("{:.0} time steps/s", steps as f64 / median);
            (format!("generation, paper, one piece, {steps} steps"), rate)
        }
    };
    let flops = workload.plan().cost().flops as f64 * f64::from(workload.times);
    Ok(Timing { name, ms: 1e3 * median, gflops: flops / median / 1e9, rate })
}

async fn load(what: Timed, shape: (usize, usize), device: Device, hardware: bool, tell: &Tell) -> Result<Workload> {
    let architecture = models::architecture(models::DEFAULT)?;
    let facts = models::CorpusFacts::of(architecture, 4);
    let (model, tell) = (models::configure(architecture, "paper", facts, &[])?, tell.clone());
    let selection = KernelSelection {
        tune: if hardware { Tune::On } else { Tune::Off },
        observer: Some(Arc::new(move |_| tell(Event::Alive))),
        ..KernelSelection::default()
    };
    match what {
        Timed::Training => Workload::train(model.as_ref(), PlanOptions::default(), shape, device, selection).await,
        Timed::Generation => Workload::generate(model.as_ref(), shape, device, selection).await,
    }
}
