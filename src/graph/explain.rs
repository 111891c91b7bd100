//! Plans for people: what `train --explain` prints.

use std::fmt::Write;

use super::backend::gpu::record;
use super::placement::Home;
use super::plan::Plan;
use super::selection::{Chosen, KernelSelection};
use super::tuner::Tuner;
use crate::error::Result;
use crate::gpu::{Capabilities, Dispatch, Format, WatchdogBudget};
use crate::ops::Recorded;

/// The plan for people: nodes with their cost and kernel, buffers with their tenants, totals; with the dispatches that the
/// adapter with these capabilities would run, or for the CPU without any. Nothing is measured: kernels of which no choice is
/// remembered show their first variant.
///
/// # Errors
/// What recording reports.
pub fn explain(plan: &Plan, adapter: Option<&Capabilities>, selection: &KernelSelection) -> Result<String> {
    let Some(capabilities) = adapter else { return Ok(listing(plan, None, &[], 0)) };
    let mut tuner = Tuner::new(selection, capabilities);
    tuner.recall(plan, selection, capabilities);
    let chosen = selection.choose(plan, capabilities, |op| tuner.fastest(op));
    let (recorded, starts) = record(plan, capabilities, &chosen)?;
    let dispatches = starts.windows(2).map(|range| range[1] - range[0]);
    let kernels: Vec<_> = chosen.into_iter().zip(dispatches).collect();
    let mut text = listing(plan, adapter, &kernels, recorded.scratch);
    text.push_str(&longest(plan, capabilities, &recorded, &starts));
    Ok(text)
}

/// `dispatches` has each node's kernel and number of dispatches where the plan is for a GPU, `scratch` the elements of scratch
/// memory that they share.
fn listing(plan: &Plan, adapter: Option<&Capabilities>, dispatches: &[(Chosen, usize)], scratch: usize) -> String {
    let mib = |bytes: u64| bytes as f64 / (1 << 20) as f64;
    let scratch = 4 * scratch as u64;
    let mut s = String::new();
    let _ = writeln!(s, "plan `{}`", plan.name);
    let _ = writeln!(s, "{:>4} {:>10} {:>10} {:>24}  node", "", "MFLOP", "MiB", "dispatches");
    for (i, node) in plan.nodes.iter().enumerate() {
        let cost = node.op.cost();
        let kernel = dispatches
            .get(i)
            .map_or("cpu".to_string(), |(Chosen { variant, origin }, count)| format!("{count} x {variant}, {origin}"));
        let (mflop, mb) = (cost.flops as f64 / 1e6, cost.bytes as f64 / (1 << 20) as f64);
        let _ = writeln!(s, "{i:>4} {mflop:>10.2} {mb:>10.2} {kernel:>24}  {}", node.label());
    }
    let _ = writeln!(s, "{:>4} {:>10}  buffer", "", "MiB");
    for (i, slot) in plan.slots().iter().enumerate() {
        let tenants: Vec<String> = (plan.tensors.iter().enumerate())
            .filter(|(id, _)| plan.place(*id) == Home::Slot(i))
            .map(|(_, t)| match t.format {
                Format::F32 => t.name.clone(),
                format => format!("{} {}", t.name, format.name()),
            })
            .collect();
        let _ = writeln!(s, "{i:>4} {:>10.2}  {}", mib(slot.bytes_on(adapter)), tenants.join(", "));
    }
    let shared = |number: &usize| plan.tensors.iter().find(|tensor| tensor.kind.shared() == Some(*number));
    for tensor in plan.shared.iter().filter_map(shared) {
        let _ = writeln!(s, "{:>4} {:>10.2}  {}", "", mib(tensor.bytes()), tensor.kind.name());
    }
    if scratch > 0 {
        let _ = writeln!(s, "{:>4} {:>10.2}  scratch of kernels", "", mib(scratch));
    }
    let cost = plan.cost();
    let _ = writeln!(
        s,
        "total: {} nodes{}, {:.2} GFLOP, {:.2} GiB read and written at least, {:.1} MiB of memory",
        plan.nodes.len(),
        match adapter {
            None => String::new(),
            Some(_) => format!(", {} dispatches", dispatches.iter().map(|(_, count)| count).sum::<usize>()),
        },
        cost.flops as f64 / 1e9,
        cost.bytes as f64 / (1u64 << 30) as f64,
        plan.memory_bytes(adapter) as f64 / (1 << 20) as f64 + mib(scratch),
    );
    s
}

/// A line on the dispatch that is estimated to take longest, and what it may take.
fn longest(plan: &Plan, capabilities: &Capabilities, recorded: &Recorded, starts: &[usize]) -> String {
    let Some(budget) = capabilities.budget else {
        return "longest dispatch: of any length, as no watchdog ends it on a software adapter\n".into();
    };
    let ms = 1e3 * WatchdogBudget::SECONDS;
    let share = |dispatch: &Dispatch| budget.share(dispatch.cost, dispatch.groups());
    let shares = recorded.dispatches.iter().map(share).zip(0..);
    let Some((share, dispatch)) = shares.max_by(|a, b| a.0.total_cmp(&b.0)) else { return String::new() };
    let node = &plan.nodes[starts.partition_point(|&start| start <= dispatch) - 1];
    let [gflops, gbs] = [budget.flops, budget.bytes].map(|amount| amount as f64 / WatchdogBudget::SECONDS / 1e9);
    let limits = if budget == WatchdogBudget::UNMEASURED { "unmeasured, taken for" } else { "of" };
    format!(
        "longest dispatch: {:.1} ms at the roofline limits, {limits} {gflops:.0} GFLOP/s and {gbs:.0} GB/s; {ms:.0} ms are allowed ({})\n",
        ms * share,
        node.label()
    )
}
