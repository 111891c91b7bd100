//! No dispatch of a plan is estimated above what a watchdog allows, in any variant of any op, on paper and on slow GPUs; on
//! fast ones nothing is cut for it. Plans are recorded, and nothing runs.

use std::collections::HashSet;

use deepj::gpu::{Capabilities, CooperativeMatrix, DeviceType, Dispatch, WatchdogBudget};
use deepj::graph::session::KernelSelection;
use deepj::graph::{Plan, explain};
use deepj::models::deepj::{Config, DeepJ, Preset};
use deepj::models::{Model, PlanOptions, Precision};
use deepj::nn::optimizer::nadam::Nadam;
use deepj::ops::{Op, Recorded, Recorder};
use deepj::profile::training_plan;

/// A slow integrated GPU's, and a mid-range discrete one's.
fn slow() -> WatchdogBudget {
    WatchdogBudget::of(200e9, 25e9)
}
fn fast() -> WatchdogBudget {
    WatchdogBudget::of(10e12, 350e9)
}

/// WebGPU's default limits.
fn portable() -> Capabilities {
    Capabilities { device_type: DeviceType::Integrated, ..Capabilities::portable() }
}

/// All that a kernel may ask for, and bindings that hold any operand.
fn able() -> Capabilities {
    let matrix = CooperativeMatrix { m: 16, n: 16, k: 16, factors: "f16".into(), result: "f32".into() };
    Capabilities {
        max_storage_buffer_binding_size: 1 << 40,
        max_compute_workgroup_storage_size: 1 << 16,
        max_compute_invocations_per_workgroup: 1024,
        shader_f16: true,
        subgroup: true,
        subgroup_min_size: 32,
        subgroup_max_size: 32,
        cooperative_matrix: vec![matrix],
        ..portable()
    }
}

fn paper() -> Config {
    Config::preset(Preset::Paper, 23)
}

fn step(precision: Precision, batch: usize, seq: usize) -> Plan {
    let (model, options) = (DeepJ::new(paper()).unwrap(), PlanOptions { precision, ..PlanOptions::default() });
    training_plan(&model, &Nadam::default(), options, (batch, seq), None).unwrap().0
}

fn generation(config: Config, pieces: usize) -> Plan {
    DeepJ::new(config).unwrap().generation(pieces, 16).unwrap().compile().0
}

/// Each op of the plan in each of its variants, once a shape: its name, itself and its dispatches.
fn recorded<'a>(
    plan: &'a Plan,
    capabilities: &'a Capabilities,
) -> impl Iterator<Item = (String, &'a dyn Op, deepj::Result<Recorded>)> {
    let mut seen = HashSet::new();
    let nodes = plan.nodes.iter().filter(move |node| seen.insert(node.op.label()));
    nodes.flat_map(move |node| {
        node.op.supported(capabilities).into_iter().map(move |variant| {
            let name = format!("{}, {variant}", node.label());
            (name, node.op.as_ref(), Recorder::record(node.op.as_ref(), variant, capabilities, &node.operands))
        })
    })
}

fn share(budget: WatchdogBudget, dispatch: &Dispatch) -> f64 {
    let groups: u64 = dispatch.grid.iter().map(|&groups| u64::from(groups)).product();
    let part = |amount: u64, of: u64| amount as f64 / of as f64;
    let alone = part(dispatch.cost.flops, budget.flops).max(part(dispatch.cost.bytes, budget.bytes));
    alone * part(budget.groups, groups.min(budget.groups))
}

#[test]
fn no_dispatch_is_estimated_above_the_budget() {
    let plans = [
        step(Precision::F32, 16, 128),
        step(Precision::F32, 128, 256),
        step(Precision::Mixed, 128, 256),
        generation(paper(), 1),
        generation(paper(), 1000),
    ];
    for plan in &plans {
        for budget in [slow(), WatchdogBudget::UNMEASURED, fast()] {
            for capabilities in [portable(), able()].map(|c| Capabilities { budget: Some(budget), ..c }) {
                let mut longest = (0.0, String::new());
                let mut dispatches = 0;
                for (name, op, recorded) in recorded(plan, &capabilities) {
                    let recorded = recorded.unwrap_or_else(|error| panic!("{name}: {error}"));
                    // What all dispatches declare is what the op does, or more where one adds up what others left.
                    let sum = |amount: fn(&Dispatch) -> u64| recorded.dispatches.iter().map(amount).sum::<u64>();
                    let (flops, bytes) = (sum(|d| d.cost.flops), sum(|d| d.cost.bytes));
                    assert!(flops >= op.cost().flops && bytes >= op.cost().bytes, "{name}: {flops}, {bytes}");
                    for dispatch in &recorded.dispatches {
                        let share = share(budget, dispatch);
                        assert!(share <= 1.0, "{name}: {share} of the budget, {dispatch:?}");
                        if share > longest.0 {
                            longest = (share, name.clone());
                        }
                    }
                    dispatches += recorded.dispatches.len();
                }
                println!(
                    "{} on {} GFLOP/s: {dispatches} dispatches, the longest {:.1} ms: {}",
                    plan.name,
                    budget.flops / 100_000_000,
                    100.0 * longest.0,
                    longest.1
                );
            }
        }
    }
}

/// On a mid-range GPU the paper's step is recorded as without any budget.
#[test]
fn nothing_is_cut_where_the_budget_is_far() {
    let [without, with] = [None, Some(fast())].map(|budget| Capabilities { budget, ..able() });
    for plan in [step(Precision::F32, 16, 128), step(Precision::Mixed, 16, 128)] {
        let (without, with) = (recorded(&plan, &without), recorded(&plan, &with));
        for ((name, _, without), (_, _, with)) in without.zip(with) {
            assert_eq!(with.unwrap(), without.unwrap(), "{name}");
        }
    }
}

#[test]
fn what_cannot_be_cut_is_refused_with_a_remedy() {
    let config = Config { note_units: 500, ..paper() };
    let plan = generation(config, 1);
    let capabilities = Capabilities { budget: Some(WatchdogBudget::of(50e9, 25e9)), ..portable() };
    let (_, _, sweep) = recorded(&plan, &capabilities).find(|(_, op, _)| op.name() == "note_sweep").unwrap();
    let error = sweep.unwrap_err().to_string();
    for part in ["note_sweep pieces=1", "100 ms are allowed", "fewer units", "`device` cpu"] {
        assert!(error.contains(part), "{error}");
    }
    let able = Capabilities { budget: Some(fast()), ..portable() };
    assert!(recorded(&plan, &able).all(|(_, _, recorded)| recorded.is_ok()));
}

#[test]
fn explain_tells_the_longest_dispatch_and_the_budget() {
    let plan = step(Precision::F32, 16, 128);
    let last = |budget| {
        let capabilities = Capabilities { budget, ..portable() };
        explain(&plan, Some(&capabilities), &KernelSelection::default()).unwrap().lines().last().unwrap().to_string()
    };
    let measured = last(Some(slow()));
    for part in ["longest dispatch: ", "of 200 GFLOP/s and 25 GB/s; 100 ms are allowed (", ": gemm "] {
        assert!(measured.contains(part), "{measured}");
    }
    assert!(last(Some(WatchdogBudget::UNMEASURED)).contains("unmeasured, taken for 100 GFLOP/s and 10 GB/s"));
    assert!(last(None).contains("no watchdog"));
    assert!(
        !explain(&plan, None, &KernelSelection::default()).unwrap().contains("longest"),
        "the CPU backend has no dispatches"
    );
}
