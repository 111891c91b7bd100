//! Times one training update in the paper's sizes and prints a line of JSON:
//! `cargo bench --bench step -- [--model deepj] [--batch 4] [--seq 128] [--runs 5] [--precision f32] [--recompute] [--device cpu]
//! [--tune on] [--variant KERNEL=NAME]`.
//!
//! Data are random with the density of real rolls: the work hardly depends on them.

mod common;

use std::process::ExitCode;

use clap::Parser;
use common::{Chosen, Common, default_shape, measure, paper, print, tell};
use deepj::Result;
use deepj::models::{self, PlanOptions, Precision};
use deepj::profile::Workload;
use serde_json::json;

/// Times one training update in the paper's sizes
#[derive(Parser)]
struct Flags {
    /// The network: deepj or biaxial
    #[arg(long, default_value = models::DEFAULT, value_name = "NAME")]
    model: String,
    /// Pieces side by side [default: 4 on the CPU, 16 on a GPU, 1 on a software adapter]
    #[arg(long, value_name = "N", value_parser = common::size())]
    batch: Option<usize>,
    /// Time steps of a window [default: 128, on a software adapter 16]
    #[arg(long, value_name = "N", value_parser = common::size())]
    seq: Option<usize>,
    /// How values are stored: f32 or mixed
    #[arg(long, default_value = "f32")]
    precision: Precision,
    /// Compute gates again in the backward pass instead of keeping them
    #[arg(long)]
    recompute: bool,
    #[command(flatten)]
    chosen: Chosen,
    #[command(flatten)]
    common: Common,
}

async fn bench(flags: Flags) -> Result<()> {
    let device = flags.common.open().await?;
    flags.precision.check(device.capabilities())?;
    let (batch, seq) = default_shape(&device);
    let (batch, seq) = (flags.batch.unwrap_or(batch), flags.seq.unwrap_or(seq));
    let Flags { model, precision, recompute, .. } = flags;
    let options = PlanOptions { precision, recompute, pairs: false };
    let variants = flags.chosen.variants(&device)?;
    let mut workload =
        Workload::train(paper(&model)?.as_ref(), options, (batch, seq), device.clone(), variants).await?;
    let flops = workload.plan().cost().flops;
    let mut figures = measure(&mut workload, flags.common.runs(), flops).await?;
    for (name, value) in [
        ("what", json!("train")),
        ("model", json!(model)),
        ("batch", json!(batch)),
        ("seq", json!(seq)),
        ("precision", json!(precision)),
        ("recompute", json!(recompute)),
    ] {
        figures[name] = value;
    }
    let [median, gflops] = ["median_s", "gflops"].map(|name| figures[name].as_f64().unwrap_or_default());
    tell!("training update B={batch} T={seq}: {:.2} ms, {gflops:.1} GFLOP/s", 1e3 * median);
    print(&device, figures)
}

fn main() -> ExitCode {
    common::run(bench(Flags::parse()))
}
