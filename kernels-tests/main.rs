//! Every op, in every variant, on every adapter of the machine, against its f64 reference; the f64 references against naive
//! loops, and their gradients against central differences; what ops declare against their shaders.
//! Cases and what runs them are in `mod.rs` and the files beside it, a part of the library that `deepj verify` runs too.
//!
//! Each adapter is also opened with WebGPU's default limits and no optional feature, for what is portable.
//!
//! Names are `op/shape/variant/adapter`, and any part filters: `cargo test --test kernels -- lstm/backward`,
//! `-- "lavapipe"`. `DEEPJ_VERBOSE=1` prints for every case how near it came to its tolerance.
//! `DEEPJ_REQUIRE_ADAPTERS=lavapipe,llvmpipe,swiftshader` makes the run fail where one of these is missing; without any
//! adapter it fails unless that variable is `none`.
//! Of several software adapters the first runs every case in every variant, the others the largest cases; with
//! `DEEPJ_EVERY_ADAPTER=1` all run all.
//! `DEEPJ_SHADERS=FOLDER` reads shaders from there, so that a changed one needs no build.
//! `DEEPJ_VALIDATION=1` puts the Khronos validation layer beneath all (`validation.rs`). `DEEPJ_QUICK=1` runs the part that is
//! for the time between two edits (`quick.rs`).

mod batches;
mod declaration;
mod environment;
mod needs;
mod quick;
#[cfg(target_os = "linux")]
mod validation;
#[cfg(not(target_os = "linux"))]
#[path = "validation_elsewhere.rs"]
mod validation;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use batches::{Batches, Test};
use deepj::gpu::{self, Capabilities, Format};
use deepj::graph::Plan;
use deepj::ops::Op;
use deepj::verify::kernels::harness::adapters::{self, Adapter};
use deepj::verify::kernels::harness::report::Report;
use deepj::verify::kernels::harness::{Case, kernel};
use deepj::verify::kernels::networks::{paper_plans, plans};
use deepj::verify::kernels::{Check, MODEL, Pass, Suite, Verdict, mode, path};
use libtest_mimic::Arguments;
use pollster::block_on;
use quick::Quick;
use validation::Layer;

/// What a run of the tests keeps.
struct Run {
    report: Report,
    /// Checks that ran on an adapter, by [`Pass`].
    ran: [AtomicUsize; 4],
    /// The validation layer beneath Vulkan, if it was asked for.
    layer: Option<Layer>,
}

fn main() -> ExitCode {
    environment::prepare();
    if let Some(folder) = gpu::shaders_folder() {
        println!("shaders are read from {}", folder.display());
    }
    let layer = match Layer::start() {
        Ok(layer) => layer,
        Err(why) => {
            println!("FAILED: {why}");
            return ExitCode::FAILURE;
        }
    };
    let arguments = Arguments::from_args();
    let self_tests = layer.as_ref().map(Layer::self_test).unwrap_or_default();
    let adapters = block_on(adapters::all());
    let quick = match Quick::asked(&adapters) {
        Ok(quick) => quick,
        Err(why) => {
            println!("FAILED: {why}");
            return ExitCode::FAILURE;
        }
    };
    let run = Arc::new(Run { report: Report::new(), ran: Default::default(), layer });
    let batches = Batches::new(&arguments);
    let mut trials = vec![];
    for (adapter, outcome) in self_tests {
        let test: Test = Box::new(|| outcome);
        trials.extend(batches.add(None, vec![(format!("validation layer/notices wrong use/{adapter}"), test)]));
    }
    for Group { alone, tests } in groups(&adapters, quick.as_ref(), &run) {
        trials.extend(batches.add(alone, tests));
    }
    let whole = quick.is_none() && arguments.filter.is_none() && arguments.skip.is_empty() && !arguments.list;
    let conclusion = libtest_mimic::run(&arguments, trials);
    if arguments.list {
        return ExitCode::SUCCESS;
    }
    run.report.print();
    let valid = match &run.layer {
        Some(layer) => layer.finish(whole, || batches.end()),
        None => {
            batches.end();
            true
        }
    };
    let (lines, lacking) = adapters::missing(&adapters);
    lines.iter().for_each(|line| println!("{line}"));
    let [forward, backward, update, model] = run.ran.each_ref().map(|ran| ran.load(Ordering::Relaxed));
    let kernels = forward + backward + update + model;
    println!(
        "{kernels} cases on {} adapters: {forward} forward, {backward} backward, {update} of the update, {model} of the \
         whole model",
        adapters.len()
    );
    if let Some(quick) = quick {
        println!("{quick}");
    }
    if whole && forward.min(backward) == 0 {
        println!("NO KERNEL WAS RUN: only the CPU backend and declarations were checked");
        if !adapters::none_is_fine() {
            println!("FAILED: install a driver (`deepj adapters` says which), or set DEEPJ_REQUIRE_ADAPTERS=none");
            return ExitCode::FAILURE;
        }
    }
    if lacking || !valid { ExitCode::FAILURE } else { conclusion.exit_code() }
}

/// Tests that run one after the other.
struct Group {
    /// As [`Batches::add`] has it.
    alone: Option<String>,
    tests: Vec<(String, Test)>,
}

impl Group {
    fn of(tests: Vec<(String, Test)>) -> Self {
        Self { alone: None, tests }
    }

    fn of_checks(alone: Option<String>, checks: Vec<Check>, run: &Arc<Run>) -> Self {
        let test = |check: Check| {
            let (name, run) = (check.name.clone(), run.clone());
            let test: Test = Box::new(move || outcome(&check, &run));
            (name, test)
        };
        Self { alone, tests: checks.into_iter().map(test).collect() }
    }

    /// What its names begin with: an op, or what is not of one op.
    fn subject(&self) -> &str {
        self.tests.first().and_then(|(name, _)| name.split('/').next()).unwrap_or_default()
    }
}

/// All tests, or the quick ones. They are in the order of the ops, so that what the f64 reference makes of a case goes with
/// the last test that needs it.
fn groups(adapters: &[Arc<Adapter>], quick: Option<&Quick>, run: &Arc<Run>) -> Vec<Group> {
    let suite = Suite::new();
    let mut groups = of_plans(&suite);
    groups.extend(suite.cases.iter().map(of_declarations));
    groups.extend(suite.on_cpu().into_iter().map(|check| Group::of_checks(None, vec![check], run)));
    let mut add = |adapter: &Adapter, mut checks: Vec<Check>| {
        // A device other than a software adapter's runs one check at a time, whatever its limits; the validation layer
        // tells of one at a time.
        let alone = match &run.layer {
            Some(_) if is_beneath(&adapter.name) => Some("the validation layer".into()),
            _ if adapter.is_software() => None,
            _ => Some(adapter.capabilities.name.clone()),
        };
        while let Some(first) = checks.first() {
            let others = checks.iter().position(|check| check.batch != first.batch).unwrap_or(checks.len());
            let rest = checks.split_off(others);
            groups.push(Group::of_checks(alone.clone(), std::mem::replace(&mut checks, rest), run));
        }
    };
    match quick {
        Some(quick) => quick.adapter.iter().for_each(|adapter| add(adapter, suite.quickly_on(adapter))),
        None => {
            let every = adapters::every_adapter();
            let first = adapters.iter().find(|adapter| adapter.is_software()).map(|adapter| adapter.name.as_str());
            for adapter in adapters {
                // What a variant makes of a shape does not depend on the driver but where that is wrong.
                let thorough = every || !adapter.is_software() || first == Some(adapter.name.as_str());
                for adapter in [adapter.clone(), Arc::new(adapter.portable())] {
                    add(&adapter, if thorough { suite.on_adapter(&adapter) } else { suite.also_on(&adapter) });
                }
            }
        }
    }
    let labels = suite.cases.iter().map(|case| case.op.label());
    let mut ops: Vec<String> = labels.filter_map(|label| label.split(' ').next().map(String::from)).collect();
    ops.dedup();
    groups.sort_by_key(|group| match ops.iter().position(|op| op == group.subject()) {
        Some(place) => place + 1,
        None if group.subject() == MODEL => usize::MAX,
        None => 0,
    });
    groups
}

/// Whether what runs on the adapter of this name reaches a Vulkan driver.
fn is_beneath(adapter: &str) -> bool {
    adapter.contains(" vulkan")
}

/// What plans demand of ops and cases, and what ops demand of devices.
fn of_plans(suite: &Suite) -> Vec<Group> {
    let test = |name: &str, test: Test| Group::of(vec![(name.into(), test)]);
    let cases = suite.cases.clone();
    let needs = move || {
        let ops: Vec<_> = cases.iter().map(|case| (case.op.as_ref(), kernel::views(case, true))).collect();
        needs::check(&ops)
    };
    let mut groups = vec![
        test("plans/every op is counted/declaration", Box::new(every_op_is_counted)),
        test("plans/what evaluation and generation run is forward/declaration", Box::new(passes_are_those_of_plans)),
        test("capabilities/variants need what there is/declaration", Box::new(needs)),
        test("capabilities/overrides need what there is/declaration", Box::new(|| needs::check_overrides(&plans()))),
    ];
    for plan in paper_plans() {
        let name = format!("{MODEL}/paper {}/first variants/declaration", plan.name);
        groups.push(test(&name, Box::new(move || check_portable(&plan))));
    }
    groups
}

/// What the op declares: its cost, and its dispatches in every variant.
fn of_declarations(case: &Arc<Case>) -> Group {
    let label = case.to_string();
    let mut tests: Vec<(String, Test)> = vec![];
    let mut add = |variant: &str, adapter: &str, test: Test| tests.push((path(&label, variant, adapter), test));
    let this = case.clone();
    add("cost", "cpu", Box::new(move || this.check_cost()));

    // An op with operands stored as f16 is portable but for that.
    let shader_f16 = case.op.args().iter().any(|arg| arg.format == Format::F16);
    let (portable, everything) = (Capabilities { shader_f16, ..Capabilities::portable() }, adapters::everything());
    if shader_f16 && !case.op.supported(&Capabilities::portable()).is_empty() {
        add("supported", "declaration", Box::new(|| Err("f16 operands are supported without shader_f16".into())));
    }
    if case.op.variants(&portable).is_empty() {
        add("portable", "declaration", Box::new(|| Err("there is no portable kernel".into())));
    }
    for capabilities in [&portable, &everything] {
        for variant in case.op.variants(capabilities) {
            if capabilities == &everything && case.op.variants(&portable).contains(&variant) {
                continue;
            }
            let (this, capabilities) = (case.clone(), case.limited(capabilities));
            let check =
                move || declaration::check(this.op.as_ref(), variant, &capabilities, &kernel::views(&this, false));
            add(variant, "declaration", Box::new(check));
        }
    }
    Group::of(tests)
}

/// Checks the first variant of every node against WebGPU's default limits and its shader.
fn check_portable(plan: &Plan) -> Result<(), String> {
    let portable = Capabilities::portable();
    plan.check_fits(&portable).map_err(|error| error.to_string())?;
    for node in &plan.nodes {
        let variants = node.op.variants(&portable);
        let first = variants.first().ok_or_else(|| format!("{}: no kernel", node.label()))?;
        declaration::check(node.op.as_ref(), first, &portable, &node.operands)
            .map_err(|error| format!("{}: {error}", node.label()))?;
    }
    Ok(())
}

/// Every op that a plan runs has a case, and so a count of its cost, in the same mode and formats.
fn every_op_is_counted() -> Result<(), String> {
    let counted: BTreeSet<String> = deepj::verify::kernels::cases().iter().map(|case| kind(case.op.as_ref())).collect();
    let plans = plans();
    let used: BTreeSet<String> = plans.iter().flat_map(|plan| &plan.nodes).map(|node| kind(node.op.as_ref())).collect();
    let lacking: Vec<&String> = used.difference(&counted).collect();
    if lacking.is_empty() { Ok(()) } else { Err(format!("no case counts {lacking:?}")) }
}

/// Whether a plan of this name makes gradients or updates parameters.
fn trains(name: &str) -> bool {
    ["train", "update"].iter().any(|word| name.contains(word))
}

/// Plans that do not train run what counts as forward, plans that train also all else.
fn passes_are_those_of_plans() -> Result<(), String> {
    let (training, other): (Vec<Plan>, Vec<Plan>) = plans().into_iter().partition(|plan| trains(&plan.name));
    let passes = |plans: &[Plan]| -> BTreeSet<(Pass, String)> {
        let nodes = plans.iter().flat_map(|plan| &plan.nodes);
        nodes.map(|node| (Pass::of(&node.op.label()), kind(node.op.as_ref()))).collect()
    };
    if let Some((pass, kind)) = passes(&other).iter().find(|(pass, _)| *pass != Pass::Forward) {
        return Err(format!("{kind} counts as {pass:?}"));
    }
    let trained = passes(&training);
    let all = [Pass::Forward, Pass::Backward, Pass::Update];
    match all.iter().find(|pass| !trained.iter().any(|(found, _)| found == *pass)) {
        Some(pass) => Err(format!("training runs nothing that counts as {pass:?}")),
        None => Ok(()),
    }
}

/// Kernel, mode and formats of an op.
fn kind(op: &dyn Op) -> String {
    format!("{}: {}", op.kernel(), mode(&op.label()))
}

fn outcome(check: &Check, run: &Run) -> Result<(), String> {
    let start = Instant::now();
    let ((verdict, other_draws), valid) = match &run.layer {
        Some(layer) if is_beneath(&check.on) => layer.watch(|| block_on(check.run())),
        _ => (block_on(check.run()), Ok(())),
    };
    if check.on != "cpu" {
        run.ran[check.pass as usize].fetch_add(1, Ordering::Relaxed);
    }
    run.report.took(check.name.clone(), start.elapsed());
    other_draws.iter().for_each(|draw| println!("{}: {draw}", check.name));
    let correct = match verdict {
        Verdict::Passed(margin) => {
            run.report.enter(&check.row, &check.on, &check.name, &margin);
            Ok(())
        }
        Verdict::Failed(error) => Err(error),
        Verdict::Fixed(known, _) => Err(format!("passes, but is in known.rs: {} ({})", known.reason, known.link)),
        Verdict::Known(known, error) => {
            println!("known failure of {}: {} ({}): {error}", check.name, known.reason, known.link);
            Ok(())
        }
    };
    match (correct, valid) {
        (Err(error), Err(said)) => Err(format!("{error}\n{said}")),
        (correct, valid) => correct.and(valid),
    }
}
