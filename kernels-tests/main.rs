//! Every op, in every variant, on every adapter of the machine, against its f64 mirror; the mirrors against references
//! written once more and their gradients against central differences; what ops declare against their shaders.
//!
//! Names are `op/shape/variant/adapter`, and any part filters: `cargo test --test kernels -- lstm/backward`,
//! `-- "lavapipe"`. `DEEPJ_VERBOSE=1` prints for every case how near it came to its tolerance.
//! `DEEPJ_REQUIRE_ADAPTERS=lavapipe,llvmpipe,swiftshader` makes the run fail where one of these is missing.

mod declaration;
mod environment;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use deepj::gpu::{Capabilities, Format};
use deepj::graph::Plan;
use deepj::ops::Op;
use deepj::verify::kernels::deepj::{Training, paper_plans, plans};
use deepj::verify::kernels::harness::adapters;
use deepj::verify::kernels::harness::report::Report;
use deepj::verify::kernels::harness::{Case, case, gradient, kernel};
use deepj::verify::kernels::{Check, Pass, Suite, Verdict, gradients, path, row};
use libtest_mimic::{Arguments, Failed, Trial};

/// What a run of the tests keeps.
struct Run {
    report: Report,
    /// Threads for the f32 mirror, more than one on any machine.
    pool: rayon::ThreadPool,
    /// Checks that ran on an adapter, by [`Pass`].
    ran: [AtomicUsize; 4],
}

type Test = Box<dyn FnOnce() -> Result<(), String> + Send>;

fn trial(name: String, test: impl FnOnce() -> Result<(), String> + Send + 'static) -> Trial {
    Trial::test(name, move || test().map_err(Failed::from))
}

fn main() -> ExitCode {
    environment::prepare();
    let arguments = Arguments::from_args();
    let adapters = adapters::all();
    let suite = Suite::new();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("threads can be started");
    let run = Arc::new(Run { report: Report::new(), pool, ran: Default::default() });
    let mut trials = vec![];
    for case in &suite.cases {
        add_host_trials(&mut trials, case, &run);
    }
    trials.push(trial("plans/every op is counted/declaration".into(), every_op_is_counted));
    trials.push(trial(
        "plans/what evaluation and generation run is forward/declaration".into(),
        passes_are_those_of_plans,
    ));
    for gradient in gradients() {
        let name = path(&gradient.name, "central differences", "cpu");
        trials.push(trial(name, move || gradient::check(&gradient)));
    }
    add_model_trials(&mut trials, &suite, &run);
    // Neighbours in the list are of different adapters, so that threads seldom wait for one another.
    let mut checks: Vec<_> = adapters.iter().map(|adapter| suite.checks(adapter).into_iter()).collect();
    let most = checks.iter().map(ExactSizeIterator::len).max().unwrap_or_default();
    for _ in 0..most {
        for check in checks.iter_mut().filter_map(Iterator::next) {
            let (name, run) = (check.name.clone(), run.clone());
            trials.push(trial(name, move || on_adapter(&check, &run)));
        }
    }
    let whole = arguments.filter.is_none() && arguments.skip.is_empty() && !arguments.list;
    let conclusion = libtest_mimic::run(&arguments, trials);
    if arguments.list {
        return ExitCode::SUCCESS;
    }
    run.report.print();
    let (lines, lacking) = adapters::missing(&adapters);
    lines.iter().for_each(|line| println!("{line}"));
    let [forward, backward, update, model] = run.ran.each_ref().map(|ran| ran.load(Ordering::Relaxed));
    let kernels = forward + backward + update + model;
    println!(
        "{kernels} cases on {} adapters: {forward} forward, {backward} backward, {update} of the update, {model} of the \
         whole model",
        adapters.len()
    );
    if adapters.is_empty() {
        println!("NO ADAPTER HERE: NO KERNEL WAS RUN, ONLY MIRRORS AND DECLARATIONS WERE CHECKED");
    } else if whole && kernels == 0 {
        println!("FAILED: there are adapters, and no case ran on one");
        return ExitCode::FAILURE;
    }
    if lacking { ExitCode::FAILURE } else { conclusion.exit_code() }
}

/// What needs no adapter.
fn add_host_trials(trials: &mut Vec<Trial>, case: &Arc<Case>, run: &Arc<Run>) {
    let label = case.to_string();
    let mut add = |variant: &str, adapter: &str, test: Test| trials.push(trial(path(&label, variant, adapter), test));
    let this = case.clone();
    add("mirror f64", "cpu", Box::new(move || this.oracle().map(|_| ())));
    let (this, run_) = (case.clone(), run.clone());
    add("mirror f32", "cpu", Box::new(move || mirror_f32(&this, &run_)));
    let this = case.clone();
    add("cost", "cpu", Box::new(move || this.check_cost()));

    // An op with operands stored as f16 is portable but for that.
    let shader_f16 = case.op.args().iter().any(|arg| arg.format == Format::F16);
    let (portable, everything) = (Capabilities { shader_f16, ..Capabilities::portable() }, declaration::everything());
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

/// The model on the CPU, and its kernels' declarations at the paper's sizes.
fn add_model_trials(trials: &mut Vec<Trial>, suite: &Suite, run: &Arc<Run>) {
    for training in &suite.trainings {
        let (this, run, name) = (training.clone(), run.clone(), format!("deepj/{}/mirror f32/cpu", training.name()));
        trials.push(trial(name.clone(), move || {
            run.report.enter("deepj step / mirror f32", "cpu", &name, &this.check_mirror()?);
            Ok(())
        }));
    }
    for (wiring, training) in Training::of_wirings() {
        let name = format!("deepj/{} {wiring}/central differences/cpu", training.name());
        trials.push(trial(name, move || training.check_gradients()));
    }
    let (this, run) = (suite.generation.clone(), run.clone());
    let name = format!("deepj/{}/mirror f32/cpu", this.name());
    trials.push(trial(name.clone(), move || {
        let (margin, flips) = this.check_mirror()?;
        flips.iter().for_each(|flip| println!("{name}: {flip}"));
        run.report.enter("deepj generate / mirror f32", "cpu", &name, &margin);
        Ok(())
    }));
    for plan in paper_plans() {
        let name = format!("deepj/paper {}/first variants/declaration", plan.name);
        trials.push(trial(name, move || check_portable(&plan)));
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

fn mirror_f32(case: &Case, run: &Run) -> Result<(), String> {
    let oracle = case.oracle()?;
    let mirror = || run.pool.install(|| case::mirror::<f32>(case.op.as_ref(), &case.step, &oracle.inputs));
    let (results, again) = (mirror(), mirror());
    for ((name, result), again) in case.written(results.clone()).into_iter().zip(again) {
        if let Some(i) = result.iter().zip(&again).position(|(a, b)| a.to_bits() != b.to_bits()) {
            return Err(format!("two runs differ: {name}[{i}] is {:e}, then {:e}", result[i], again[i]));
        }
    }
    let margin = kernel::compare(&case.written(results), &oracle.wanted)?;
    let name = path(&case.to_string(), "mirror f32", "cpu");
    run.report.enter(&row(&case.op.label(), "mirror f32"), "cpu", &name, &margin);
    Ok(())
}

fn on_adapter(check: &Check, run: &Run) -> Result<(), String> {
    let start = Instant::now();
    let (verdict, flips) = check.run();
    run.ran[check.pass as usize].fetch_add(1, Ordering::Relaxed);
    run.report.took(check.name.clone(), start.elapsed());
    flips.iter().for_each(|flip| println!("{}: {flip}", check.name));
    match verdict {
        Verdict::Passed(margin) => {
            run.report.enter(&check.row, check.adapter(), &check.name, &margin);
            Ok(())
        }
        Verdict::Failed(error) => Err(error),
        Verdict::Known(known, error) => {
            println!("known failure of {}: {} ({}): {error}", check.name, known.reason, known.link);
            Ok(())
        }
    }
}
