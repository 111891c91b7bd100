//! Every op, in every variant, on every adapter of the machine, against its f64 mirror; the mirrors against references
//! written once more and their gradients against central differences; what ops declare against their shaders.
//! Cases and what runs them are in `mod.rs` and the files beside it, a part of the library that `deepj verify` runs too.
//!
//! Each adapter is also opened with WebGPU's default limits and no optional feature, for what is portable.
//!
//! Names are `op/shape/variant/adapter`, and any part filters: `cargo test --test kernels -- lstm/backward`,
//! `-- "lavapipe"`. `DEEPJ_VERBOSE=1` prints for every case how near it came to its tolerance.
//! `DEEPJ_REQUIRE_ADAPTERS=lavapipe,llvmpipe,swiftshader` makes the run fail where one of these is missing; without any
//! adapter it fails unless that variable is `none`.
//! `DEEPJ_VALIDATION=1` puts the Khronos validation layer beneath all (`validation.rs`).

mod declaration;
mod environment;
mod needs;
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

use deepj::gpu::{Capabilities, Format};
use deepj::graph::Plan;
use deepj::ops::Op;
use deepj::verify::kernels::deepj::{paper_plans, plans};
use deepj::verify::kernels::harness::adapters;
use deepj::verify::kernels::harness::report::Report;
use deepj::verify::kernels::harness::{Case, kernel};
use deepj::verify::kernels::{Check, Pass, Suite, Verdict, path};
use libtest_mimic::{Arguments, Failed, Trial};
use validation::Layer;

/// What a run of the tests keeps.
struct Run {
    report: Report,
    /// Checks that ran on an adapter, by [`Pass`].
    ran: [AtomicUsize; 4],
    /// The validation layer beneath Vulkan, if it was asked for.
    layer: Option<Layer>,
}

type Test = Box<dyn FnOnce() -> Result<(), String> + Send>;

fn trial(name: String, test: impl FnOnce() -> Result<(), String> + Send + 'static) -> Trial {
    Trial::test(name, move || test().map_err(Failed::from))
}

fn main() -> ExitCode {
    environment::prepare();
    let layer = match Layer::start() {
        Ok(layer) => layer,
        Err(why) => {
            println!("FAILED: {why}");
            return ExitCode::FAILURE;
        }
    };
    let arguments = Arguments::from_args();
    let mut trials = vec![];
    for (adapter, outcome) in layer.iter().flat_map(Layer::self_test) {
        trials.push(trial(format!("validation layer/notices wrong use/{adapter}"), || outcome));
    }
    let adapters = adapters::all();
    let portable = adapters.iter().map(|adapter| Arc::new(adapter.portable()));
    let devices: Vec<_> = adapters.iter().cloned().chain(portable).collect();
    let suite = Suite::new();
    let run = Arc::new(Run { report: Report::new(), ran: Default::default(), layer });
    for case in &suite.cases {
        add_declarations(&mut trials, case);
    }
    trials.push(trial("plans/every op is counted/declaration".into(), every_op_is_counted));
    trials.push(trial(
        "plans/what evaluation and generation run is forward/declaration".into(),
        passes_are_those_of_plans,
    ));
    let cases = suite.cases.clone();
    trials.push(trial("capabilities/variants need what there is/declaration".into(), move || {
        let ops: Vec<_> = cases.iter().map(|case| (case.op.as_ref(), kernel::views(case, true))).collect();
        needs::check(&ops)
    }));
    trials.push(trial("capabilities/pins need what there is/declaration".into(), || needs::check_pins(&plans())));
    for plan in paper_plans() {
        let name = format!("deepj/paper {}/first variants/declaration", plan.name);
        trials.push(trial(name, move || check_portable(&plan)));
    }
    // Neighbours in the list are of different adapters, so that threads seldom wait for one another.
    let mut checks: Vec<_> = devices.iter().map(|device| suite.on_adapter(device).into_iter()).collect();
    checks.push(suite.on_cpu().into_iter());
    let most = checks.iter().map(ExactSizeIterator::len).max().unwrap_or_default();
    for _ in 0..most {
        for check in checks.iter_mut().filter_map(Iterator::next) {
            let (name, run) = (check.name.clone(), run.clone());
            trials.push(trial(name, move || outcome(&check, &run)));
        }
    }
    let whole = arguments.filter.is_none() && arguments.skip.is_empty() && !arguments.list;
    let conclusion = libtest_mimic::run(&arguments, trials);
    if arguments.list {
        return ExitCode::SUCCESS;
    }
    run.report.print();
    let close = || devices.iter().for_each(|adapter| adapter.reopen());
    let valid = run.layer.as_ref().is_none_or(|layer| layer.finish(whole, close));
    let (lines, lacking) = adapters::missing(&adapters);
    lines.iter().for_each(|line| println!("{line}"));
    let [forward, backward, update, model] = run.ran.each_ref().map(|ran| ran.load(Ordering::Relaxed));
    let kernels = forward + backward + update + model;
    println!(
        "{kernels} cases on {} adapters: {forward} forward, {backward} backward, {update} of the update, {model} of the \
         whole model",
        adapters.len()
    );
    if whole && forward.min(backward) == 0 {
        println!("NO KERNEL WAS RUN: only mirrors and declarations were checked");
        if !adapters::none_is_fine() {
            println!("FAILED: install a driver (`deepj adapters` says which), or set DEEPJ_REQUIRE_ADAPTERS=none");
            return ExitCode::FAILURE;
        }
    }
    if lacking || !valid { ExitCode::FAILURE } else { conclusion.exit_code() }
}

/// What the op declares: its cost, and its dispatches in every variant.
fn add_declarations(trials: &mut Vec<Trial>, case: &Arc<Case>) {
    let label = case.to_string();
    let mut add = |variant: &str, adapter: &str, test: Test| trials.push(trial(path(&label, variant, adapter), test));
    let this = case.clone();
    add("cost", "cpu", Box::new(move || this.check_cost()));

    // An op with operands stored as f16 is portable but for that.
    let shader_f16 = case.op.args().iter().any(|arg| arg.format == Format::F16);
    let (portable, everything) = (Capabilities { shader_f16, ..Capabilities::portable() }, adapters::everything());
    if shader_f16 && !case.op.legal(&Capabilities::portable()).is_empty() {
        add("legal", "declaration", Box::new(|| Err("f16 operands are legal without shader_f16".into())));
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

/// Plans that do not train run what counts as forward, plans that train also all else.
fn passes_are_those_of_plans() -> Result<(), String> {
    let (training, other): (Vec<Plan>, Vec<Plan>) = plans().into_iter().partition(|plan| plan.name.contains("train"));
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

/// Kernel, mode and formats of an op: its label without the shape.
fn kind(op: &dyn Op) -> String {
    let label = op.label();
    let words =
        label.split(' ').filter(|word| matches!(*word, "f16" | "f32") || !word.contains(|c: char| c.is_ascii_digit()));
    format!("{}: {}", op.kernel(), words.collect::<Vec<_>>().join(" "))
}

fn outcome(check: &Check, run: &Run) -> Result<(), String> {
    let start = Instant::now();
    let ((verdict, flips), valid) = match &run.layer {
        Some(layer) if check.on.contains(" vulkan") => layer.watch(|| check.run()),
        _ => (check.run(), Ok(())),
    };
    if check.on != "cpu" {
        run.ran[check.pass as usize].fetch_add(1, Ordering::Relaxed);
    }
    run.report.took(check.name.clone(), start.elapsed());
    flips.iter().for_each(|flip| println!("{}: {flip}", check.name));
    let correct = match verdict {
        Verdict::Passed(margin) => {
            run.report.enter(&check.row, &check.on, &check.name, &margin);
            Ok(())
        }
        Verdict::Failed(error) => Err(error),
        Verdict::Mended(known, _) => Err(format!("passes, but is in known.rs: {} ({})", known.reason, known.link)),
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
