//! What the benches share: flags, the device, runs of a workload, lines of JSON on standard output and of text on standard
//! error.

#![allow(dead_code)] // a bench is a program of its own, and none uses all of it

use std::future::Future;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use clap::builder::TypedValueParser;
use deepj::gpu::{self, Device, DeviceChoice, DeviceType};
use deepj::graph::session::{Event, KernelSelection, Tune};
use deepj::models::{self, CorpusFacts, Model};
use deepj::profile::{STYLES, Workload};
use deepj::{Error, Result};
use serde_json::{Value, json};

/// Says something on standard error, whether or not someone listens.
macro_rules! tell {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}
pub(crate) use tell;

/// The flags that all benches have.
#[derive(Args)]
pub struct Common {
    /// auto, cpu, an adapter's index or a part of its name (see `deepj adapters`)
    #[arg(long, env = "DEEPJ_DEVICE", default_value = "auto", value_name = "D")]
    device: DeviceChoice,
    /// Samples of each figure, of which the median counts
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// What `cargo bench` gives each bench
    #[arg(long, hide = true)]
    bench: bool,
}

impl Common {
    pub fn runs(&self) -> usize {
        self.runs as usize
    }

    /// Opens the device, and says which it is.
    pub async fn open(&self) -> Result<Device> {
        let device = gpu::open(&self.device, gpu::OpenOptions::default()).await?;
        tell!("{}", device.machine());
        Ok(device)
    }
}

/// How the kernels of whole plans are chosen.
#[derive(Args)]
pub struct Chosen {
    /// Measure the GPU's kernels: on (those not measured before), off, or force (all again)
    #[arg(long, env = "DEEPJ_TUNE", default_value = "on", value_name = "off|on|force")]
    tune: Tune,
    /// Override which variant of a GPU kernel runs, such as lstm_fwd=step_32; may be given several times
    #[arg(long = "variant", value_name = "KERNEL=NAME", value_parser = pair)]
    overrides: Vec<(String, String)>,
}

impl Chosen {
    /// # Errors
    /// Fixes where the CPU computes.
    pub fn variants(&self, device: &Device) -> Result<KernelSelection> {
        let variants = KernelSelection {
            overrides: self.overrides.clone(),
            tune: self.tune,
            remembered: KernelSelection::file(),
            observer: Some(Arc::new(|event| match event {
                Event::Notice(text) => tell!("note: {text}"),
                Event::Finished(tuned) => tell!("{tuned}"),
                Event::Started { .. } | Event::Measuring { .. } => (),
            })),
            ..KernelSelection::default()
        };
        variants.check_device(device.capabilities())?;
        Ok(variants)
    }
}

/// Parses a number of pieces or steps.
pub fn size() -> impl TypedValueParser<Value = usize> {
    clap::value_parser!(u32).range(1..=1 << 16).map(|size| size as usize)
}

/// Splits `key=value`.
pub fn pair(text: &str) -> std::result::Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("`{text}` has no `=`"))?;
    Ok((key.trim().into(), value.trim().into()))
}

/// A network in the paper's sizes, for as many composers as its corpus has.
///
/// # Errors
/// There is no model of this name.
pub fn paper(model: &str) -> Result<Arc<dyn Model>> {
    let architecture = models::architecture(model)?;
    models::configure(architecture, "paper", CorpusFacts::of(architecture, STYLES), &[])
}

/// Whether a driver computes on the CPU: then a bench is given less to do, so that it ends in minutes.
pub fn software(device: &Device) -> bool {
    device.capabilities().is_some_and(|capabilities| capabilities.device_type == DeviceType::Software)
}

/// Pieces and time steps of a training update on this device unless the user says otherwise.
pub fn default_shape(device: &Device) -> (usize, usize) {
    match device.capabilities() {
        None => (4, 128),
        Some(_) if software(device) => (1, 16),
        Some(_) => (16, 128),
    }
}

/// Runs a bench.
pub fn run(bench: impl Future<Output = Result<()>>) -> ExitCode {
    match pollster::block_on(bench) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            tell!("error: {e}");
            ExitCode::from(e.exit_code())
        }
    }
}

/// Prints `figures`, an object, as a line of JSON that says on what machine they were measured.
///
/// # Errors
/// Standard output that cannot be written to.
pub fn print(device: &Device, mut figures: Value) -> Result<()> {
    let capabilities = device.capabilities();
    figures["bench"] = json!(env!("CARGO_CRATE_NAME"));
    figures["device"] = json!(capabilities.map_or("cpu".into(), |capabilities| capabilities.to_string()));
    figures["machine"] = json!(device.machine());
    let written = writeln!(std::io::stdout(), "{figures}");
    written.map_err(|e| Error::run(format!("standard output: {e}"), ""))
}

/// The median of what is measured, its least and its most.
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// Of at least one sample.
    pub fn of(samples: impl IntoIterator<Item = f64>) -> Self {
        let mut samples: Vec<f64> = samples.into_iter().collect();
        samples.sort_by(f64::total_cmp);
        let middle = samples.len() / 2;
        let median =
            if samples.len() % 2 == 1 { samples[middle] } else { (samples[middle - 1] + samples[middle]) / 2.0 };
        Self { median, min: samples[0], max: samples[samples.len() - 1] }
    }
}

/// Times a workload, after a run that warms up, and tells what a whole update is told by: `flops` are those of a run.
///
/// `replay_cpu_ms` is the time in which the CPU submits an update and encodes the next, which it does while a GPU works, and
/// `replay_share` its part of the whole; `submit_share` is the part that the GPU waits for. A driver that computes within
/// the submission, such as Mesa's GL in software, makes them all of it.
///
/// # Errors
/// A lost device.
pub async fn measure(workload: &mut Workload, runs: usize, flops: u64) -> Result<Value> {
    let mut last = workload.run().await?;
    let (mut seconds, mut submitting, mut replaying) = (vec![], vec![], vec![]);
    for _ in 0..runs {
        last = workload.run().await?;
        seconds.push(last.wall.as_secs_f64());
        submitting.push(last.submitting.as_secs_f64());
        replaying.push(last.replaying.as_secs_f64());
    }
    let [Spread { median, min, max }, submit, replay] = [seconds, submitting, replaying].map(Spread::of);
    let (session, id, times) = (&workload.session, workload.program, f64::from(workload.times));
    // On the CPU a run is the work itself.
    let adapter = session.capabilities();
    let on_gpu = adapter.is_some();
    let plan = session.plan(id);
    Ok(json!({
        "plan": plan.name, "plan_mib": plan.memory_bytes(adapter) as f64 / f64::from(1 << 20), "runs": runs,
        "median_s": median, "min_s": min, "max_s": max, "flops": flops, "gflops": flops as f64 / median / 1e9,
        "steps_per_s": times / median, "check": last.outputs.iter().take(3).collect::<Vec<_>>(),
        "peak_rss_mib": peak_rss_mib(), "dispatches": session.dispatches(id),
        "replay_cpu_ms": on_gpu.then_some(replay.median / times * 1e3),
        "replay_share": on_gpu.then_some(replay.median / median),
        "submit_share": on_gpu.then_some(submit.median / median),
    }))
}

/// The process' peak memory, where the system tells (Linux).
fn peak_rss_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
}
