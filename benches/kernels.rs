//! Times the kernels of the paper's training update and of generation, each distinct shape once, in every variant that the
//! adapter has (on a software adapter in the likeliest two), and prints a line of JSON for each:
//! `cargo bench --bench kernels -- [--kernel gemm] [--batch 16] [--seq 128] [--precision f32] [--runs 5] [--device cpu]
//! [--variant KERNEL=NAME]`.
//!
//! On a GPU they are timed as the tuner does it: as many runs in one submission as outlast a submission of nothing by far.
//! Operands are zeros, and those of small kernels stay in caches, so their bytes a second may exceed the device's bandwidth.

mod common;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use common::{Common, Spread, default_shape, pair, paper, print, tell};
use deepj::error::nearest;
use deepj::gpu::Device;
use deepj::graph::session::KernelSelection;
use deepj::graph::{Bench, Plan, candidates};
use deepj::models::{self, PlanOptions, Precision};
use deepj::nn::optimizer::nadam::Nadam;
use deepj::ops::{Cost, Op};
use deepj::profile::{CPU_VARIANT, Workload, training_plan};
use deepj::{Error, Result};
use serde_json::json;

/// Times the kernels of the paper's training update and of generation
#[derive(Parser)]
struct Flags {
    /// Only this kernel, or this op's, such as lstm_fwd or gemm; may be given several times
    #[arg(long = "kernel", value_name = "NAME")]
    kernels: Vec<String>,
    /// Pieces side by side in the training update [default: 4 on the CPU, 16 on a GPU, 1 on a software adapter]
    #[arg(long, value_name = "N", value_parser = common::size())]
    batch: Option<usize>,
    /// Time steps of its window [default: 128, on a software adapter 16]
    #[arg(long, value_name = "N", value_parser = common::size())]
    seq: Option<usize>,
    /// How its values are stored: f32 or mixed
    #[arg(long, default_value = "f32")]
    precision: Precision,
    /// Of a kernel only this variant, such as gemm=cooperative; may be given several times
    #[arg(long = "variant", value_name = "KERNEL=NAME", value_parser = pair)]
    variants: Vec<(String, String)>,
    #[command(flatten)]
    common: Common,
}

/// An op in one shape, and how often a plan runs it.
struct Job {
    plan: String,
    op: Arc<dyn Op>,
    calls: usize,
}

/// The plans' different ops.
fn jobs(plans: Vec<Plan>) -> Vec<Job> {
    let mut jobs: Vec<Job> = vec![];
    for plan in plans {
        for node in plan.nodes {
            let alike = |job: &&mut Job| job.op.kernel() == node.op.kernel() && job.op.label() == node.op.label();
            match jobs.iter_mut().find(alike) {
                Some(job) if job.plan == plan.name => job.calls += 1,
                Some(_) => (),
                None => jobs.push(Job { plan: plan.name.clone(), op: node.op, calls: 1 }),
            }
        }
    }
    jobs
}

fn is(op: &dyn Op, name: &str) -> bool {
    [op.kernel(), op.name()].contains(&name)
}

/// The variants of `op` to be timed: the overridden ones that it has, else all that are measured unasked.
fn variants(flags: &Flags, device: &Device, op: &dyn Op) -> Vec<&'static str> {
    let Some(capabilities) = device.capabilities() else { return vec![CPU_VARIANT] };
    let overridden: Vec<&str> =
        flags.variants.iter().filter(|(kernel, _)| is(op, kernel)).map(|(_, variant)| variant.as_str()).collect();
    match overridden.is_empty() {
        true => candidates(op, capabilities),
        false => op.supported(capabilities).into_iter().filter(|variant| overridden.contains(variant)).collect(),
    }
}

/// Samples of the op on the CPU in seconds.
async fn on_cpu(op: Arc<dyn Op>, device: &Device, samples: usize) -> Result<Vec<f64>> {
    /// The least that a sample should take, in seconds, and the most runs of it.
    const SAMPLE: (f64, f64) = (0.002, 10_000.0);
    let mut workload = Workload::op(op, device.clone(), KernelSelection::default()).await?;
    workload.run().await?;
    let once = workload.run().await?.wall.as_secs_f64();
    workload.times = (SAMPLE.0 / once).clamp(1.0, SAMPLE.1) as u32;
    let mut seconds = vec![];
    for _ in 0..samples {
        seconds.push(workload.run().await?.wall.as_secs_f64() / f64::from(workload.times));
    }
    Ok(seconds)
}

fn report(device: &Device, job: &Job, variant: &str, samples: Vec<f64>) -> Result<()> {
    let Cost { flops, bytes } = job.op.cost();
    let (label, samples_us) = (job.op.label(), samples.into_iter().map(|s| 1e6 * s).collect::<Vec<_>>());
    let Spread { median, min, max } = Spread::of(samples_us.iter().copied());
    let [gflops, gbs] = [flops, bytes].map(|amount| amount as f64 / median / 1e3);
    let spread = format!("{min:.1} to {max:.1}");
    tell!("{label:<58} {variant:<11} {:>5} {median:>11.1} {spread:>22} {gflops:>9.2} {gbs:>8.2}", job.calls);
    print(
        device,
        json!({
            "what": "kernel", "plan": job.plan, "kernel": job.op.kernel(), "shape": label, "variant": variant,
            "calls": job.calls, "flops": flops, "bytes": bytes, "median_us": median, "min_us": min, "max_us": max,
            "samples_us": samples_us, "gflops": gflops, "gbs": gbs,
        }),
    )
}

async fn bench(flags: Flags) -> Result<()> {
    let device = flags.common.open().await?;
    flags.precision.check(device.capabilities())?;
    let (batch, seq) = default_shape(&device);
    let (batch, seq) = (flags.batch.unwrap_or(batch), flags.seq.unwrap_or(seq));
    let (model, options) =
        (paper(models::DEFAULT)?, PlanOptions { precision: flags.precision, ..PlanOptions::default() });
    let (train, _) = training_plan(model.as_ref(), &Nadam::default(), options, (batch, seq), None)?;
    let mut jobs = jobs(vec![train, model.generation(1, seq)?.compile().0]);
    KernelSelection::overriding(flags.variants.clone()).check_device(device.capabilities())?;
    for name in flags.kernels.iter().chain(flags.variants.iter().map(|(kernel, _)| kernel)) {
        if !jobs.iter().any(|job| is(job.op.as_ref(), name)) {
            let known = jobs.iter().flat_map(|job| [job.op.kernel(), job.op.name()]).collect();
            return Err(Error::usage(format!("there is no kernel `{name}`"), nearest(name, known)));
        }
    }
    for (kernel, variant) in &flags.variants {
        let supported =
            |op: &dyn Op| device.capabilities().map(|capabilities| op.supported(capabilities)).unwrap_or_default();
        let of_kernel = jobs.iter().filter(|job| is(job.op.as_ref(), kernel));
        let known: BTreeSet<_> = of_kernel.flat_map(|job| supported(job.op.as_ref())).collect();
        if !known.contains(variant.as_str()) {
            let what = format!("--variant {kernel}={variant}: there is no such variant on this adapter");
            return Err(Error::usage(what, nearest(variant, known)));
        }
    }
    jobs.retain(|job| flags.kernels.is_empty() || flags.kernels.iter().any(|name| is(job.op.as_ref(), name)));
    let mut timer = match &device {
        Device::Gpu(gpu) => Some(Bench::new(gpu).await?),
        Device::Cpu { .. } => None,
    };
    tell!(
        "{:<58} {:<11} {:>5} {:>11} {:>22} {:>9} {:>8}",
        "shape",
        "variant",
        "calls",
        "median us",
        "least to most",
        "GFLOP/s",
        "GB/s"
    );
    for job in &jobs {
        let variants = variants(&flags, &device, job.op.as_ref());
        if variants.is_empty() {
            tell!("{:<58} left out: it has no such variant on this adapter", job.op.label());
        }
        let Some(timer) = &mut timer else {
            let samples = on_cpu(job.op.clone(), &device, flags.common.runs()).await?;
            report(&device, job, CPU_VARIANT, samples)?;
            continue;
        };
        for times in timer.times(job.op.as_ref(), &variants, flags.common.runs()).await {
            match times.samples {
                Ok(samples) => report(&device, job, times.variant, samples)?,
                Err(e) => tell!("{:<58} {:<11} left out: {e}", job.op.label(), times.variant),
            }
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    common::run(bench(Flags::parse()))
}
