//! Times what a dispatch costs beside its work, and prints lines of JSON: a submission of nothing; one with a dispatch that
//! adds one number, and its result read back; submissions of up to 10,000 such dispatches, each of which waits for the one
//! before: `cargo bench --bench dispatch -- [--runs 5] [--device cpu]`. On the CPU a dispatch is a call of the op on the CPU.

mod common;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use common::{Common, Spread, print, tell};
use deepj::Result;
use deepj::gpu::{Device, Format};
use deepj::graph::session::KernelSelection;
use deepj::ops::Uniforms;
use deepj::ops::add::Add;
use deepj::profile::Workload;
use serde_json::json;

/// Times what a dispatch costs beside its work
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    common: Common,
}

fn us(time: Duration) -> f64 {
    1e6 * time.as_secs_f64()
}

fn report(device: &Device, what: &str, dispatches: u32, samples: Vec<f64>, encode: Option<f64>) -> Result<()> {
    let Spread { median, min, max } = Spread::of(samples);
    let each = median / f64::from(dispatches.max(1));
    let encoding = encode.map_or(String::new(), |us| format!(", of encoding {us:.2} us"));
    tell!(
        "{what:<38} {dispatches:>6} dispatches {median:>10.1} us ({min:.1} to {max:.1}), {each:.2} us each{encoding}"
    );
    print(
        device,
        json!({
            "what": what, "dispatches": dispatches, "median_us": median, "min_us": min, "max_us": max,
            "us_per_dispatch": each, "encode_us_per_dispatch": encode,
        }),
    )
}

async fn bench(flags: Flags) -> Result<()> {
    let device = flags.common.open().await?;
    let runs = flags.common.runs();
    let add = Arc::new(Add { len: 1, stored: Format::F32 });
    let mut workload = Workload::op(add, device.clone(), KernelSelection::default()).await?;
    workload.run().await?;
    if device.capabilities().is_some() {
        let mut latencies = vec![];
        for _ in 0..runs {
            latencies.push(us(workload.session.latency().await?));
        }
        report(&device, "submit to wait, nothing", 0, latencies, None)?;
        let mut readbacks = vec![];
        for _ in 0..runs {
            readbacks.push(us(workload.run().await?.wall));
        }
        report(&device, "submit to result on the host", 1, readbacks, None)?;
    }
    let (session, program) = (&mut workload.session, workload.program);
    let step = Uniforms::default();
    for times in [1, 10, 100, 1_000, 10_000] {
        let (mut walls, mut encoding) = (vec![], vec![]);
        for _ in 0..=runs {
            let began = Instant::now();
            session.prepare(program, times)?;
            encoding.push(us(began.elapsed()));
            let began = Instant::now();
            session.run(program, times, &step)?;
            session.wait().await?;
            walls.push(us(began.elapsed()));
        }
        // The first warms up.
        let [walls, encoding] = [walls, encoding].map(|samples| samples[1..].to_vec());
        let encode = device.capabilities().map(|_| Spread::of(encoding).median / f64::from(times));
        report(&device, "submit to wait", times, walls, encode)?;
    }
    Ok(())
}

fn main() -> ExitCode {
    common::run(bench(Flags::parse()))
}
