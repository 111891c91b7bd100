//! Times generation with DeepJ in the paper's sizes and prints a line of JSON for one piece and for 16 side by side:
//! `cargo bench --bench generation -- [--batch 1] [--seq 64] [--runs 5] [--device cpu] [--tune on]
//! [--variant KERNEL=NAME]`.

mod common;

use std::process::ExitCode;

use clap::Parser;
use common::{Chosen, Common, measure, paper, print, software, tell};
use deepj::Result;
use deepj::models;
use deepj::profile::Workload;
use serde_json::json;

/// Times generation in the paper's sizes
#[derive(Parser)]
struct Flags {
    /// Pieces side by side [default: 1, then 16]
    #[arg(long, value_name = "N", value_parser = common::size())]
    batch: Option<usize>,
    /// Time steps of a run, which is one submission [default: 64, on a software adapter 16]
    #[arg(long, value_name = "N", value_parser = common::size())]
    seq: Option<usize>,
    #[command(flatten)]
    chosen: Chosen,
    #[command(flatten)]
    common: Common,
}

async fn bench(flags: Flags) -> Result<()> {
    let device = flags.common.open().await?;
    let steps = flags.seq.unwrap_or(if software(&device) { 16 } else { 64 });
    for pieces in flags.batch.map_or(vec![1, 16], |pieces| vec![pieces]) {
        let variants = flags.chosen.variants(&device)?;
        let mut workload =
            Workload::generate(paper(models::DEFAULT)?.as_ref(), (pieces, steps), device.clone(), variants).await?;
        let plan = workload.plan();
        // What is the same in all steps of a run is done once.
        let flops = plan.order(workload.times).map(|i| plan.nodes[i].op.cost().flops).sum();
        let mut figures = measure(&mut workload, flags.common.runs(), flops).await?;
        for (name, value) in [("what", json!("generate")), ("batch", json!(pieces)), ("seq", json!(steps))] {
            figures[name] = value;
        }
        let [rate, gflops] = ["steps_per_s", "gflops"].map(|name| figures[name].as_f64().unwrap_or_default());
        tell!("generation, pieces={pieces}: {rate:.1} steps/s, {gflops:.2} GFLOP/s");
        print(&device, figures)?;
    }
    Ok(())
}

fn main() -> ExitCode {
    common::run(bench(Flags::parse()))
}
