//! Every op, in every variant, on every adapter of the machine, against its f64 mirror; the mirrors against references
//! written once more and their gradients against central differences; what ops declare against their shaders.
//!
//! Names are `op/shape/variant/adapter`, and any part filters: `cargo test --test kernels -- lstm/backward`,
//! `-- "lavapipe"`. `DEEPJ_VERBOSE=1` prints for every case how near it came to its tolerance.
//! `DEEPJ_REQUIRE_ADAPTERS=lavapipe,llvmpipe,swiftshader` makes the run fail where one of these is missing.

// The references are written with the indices of the formulas.
#![allow(clippy::needless_range_loop)]

mod harness;
mod known;

mod add;
mod carry;
mod cast;
mod deepj;
mod dropout;
mod features;
mod gemm;
mod heads;
mod lstm;
mod nadam;
mod note_input;
mod note_sweep;
mod octave_conv;
mod reduce;
mod tanh_grad;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ::deepj::gpu::{Capabilities, Format};
use ::deepj::ops::Op;
use harness::adapters::{self, Adapter};
use harness::report::Report;
use harness::{Case, Gradient, case, declaration, environment, gradient, kernel};
use libtest_mimic::{Arguments, Failed, Trial};

fn cases() -> Vec<Case> {
    let of_ops = [
        add::cases,
        carry::cases,
        cast::cases,
        dropout::cases,
        features::cases,
        gemm::cases,
        heads::cases,
        lstm::cases,
        nadam::cases,
        note_input::cases,
        note_sweep::cases,
        octave_conv::cases,
        reduce::cases,
        tanh_grad::cases,
    ];
    of_ops.into_iter().flat_map(|cases| cases()).collect()
}

fn gradients() -> Vec<Gradient> {
    let of_ops = [
        add::gradients,
        dropout::gradients,
        features::gradients,
        gemm::gradients,
        heads::gradients,
        lstm::gradients,
        note_input::gradients,
        octave_conv::gradients,
        reduce::gradients,
    ];
    of_ops.into_iter().flat_map(|gradients| gradients()).collect()
}

/// What a run of the tests keeps.
struct Run {
    report: Arc<Report>,
    /// Threads for the f32 mirror, more than one on any machine.
    pool: rayon::ThreadPool,
    /// Cases that ran on an adapter.
    kernels: AtomicUsize,
}

impl Run {
    /// Counts a case that ran on an adapter, whatever came of it.
    fn ran(&self, path: String, time: Duration) {
        self.kernels.fetch_add(1, Ordering::Relaxed);
        self.report.took(path, time);
    }
}

fn main() -> ExitCode {
    environment::prepare();
    let arguments = Arguments::from_args();
    let adapters = adapters::all();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("threads can be started");
    let run = Arc::new(Run { report: Arc::new(Report::new()), pool, kernels: AtomicUsize::new(0) });
    let mut trials = vec![];
    for case in cases() {
        add_case(&mut trials, Arc::new(case), &adapters, &run);
    }
    trials.push(Trial::test("plans/every op is counted/declaration", || every_op_is_counted().map_err(Failed::from)));
    for gradient in gradients() {
        let name = path(&gradient.name, "central differences", "cpu");
        trials.push(Trial::test(name, move || gradient::check(&gradient).map_err(Failed::from)));
    }
    let told = run.clone();
    let ran = move |path: String, time: Duration| told.ran(path, time);
    trials.extend(deepj::trials(&adapters, &run.report, ran));
    let whole = arguments.filter.is_none() && arguments.skip.is_empty() && !arguments.list;
    let conclusion = libtest_mimic::run(&arguments, trials);
    if arguments.list {
        return ExitCode::SUCCESS;
    }
    run.report.print();
    let (lines, lacking) = adapters::missing(&adapters);
    lines.iter().for_each(|line| println!("{line}"));
    let kernels = run.kernels.load(Ordering::Relaxed);
    println!("{kernels} cases on {} adapters", adapters.len());
    if adapters.is_empty() {
        println!("NO ADAPTER HERE: NO KERNEL WAS RUN, ONLY MIRRORS AND DECLARATIONS WERE CHECKED");
    } else if whole && kernels == 0 {
        println!("FAILED: there are adapters, and no case ran on one");
        return ExitCode::FAILURE;
    }
    if lacking { ExitCode::FAILURE } else { conclusion.exit_code() }
}

/// A trial's name. `label` starts with the op's name.
fn path(label: &str, variant: &str, adapter: &str) -> String {
    format!("{}/{variant}/{adapter}", label.replacen(' ', "/", 1))
}

fn add_case(trials: &mut Vec<Trial>, case: Arc<Case>, adapters: &[Arc<Adapter>], run: &Arc<Run>) {
    let label = case.to_string();
    let mut add = |variant: &str, adapter: &str, test: Box<dyn FnOnce() -> Result<(), String> + Send>| {
        trials.push(Trial::test(path(&label, variant, adapter), move || test().map_err(Failed::from)));
    };
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
    // Neighbours in the list are of different adapters, so that threads seldom wait for one another.
    let most = adapters.iter().map(|adapter| case.op.legal(&adapter.capabilities).len()).max().unwrap_or_default();
    for i in 0..most {
        for adapter in adapters {
            let Some(&variant) = case.op.legal(&adapter.capabilities).get(i) else { continue };
            let (this, run, adapter_) = (case.clone(), run.clone(), adapter.clone());
            add(variant, &adapter.name, Box::new(move || on_adapter(&this, variant, &adapter_, &run)));
        }
    }
}

/// Every op that a plan runs has a case, and so a count of its cost, in the same mode and formats.
fn every_op_is_counted() -> Result<(), String> {
    let counted: BTreeSet<String> = cases().iter().map(|case| kind(case.op.as_ref())).collect();
    let plans = deepj::plans();
    let used: BTreeSet<String> = plans.iter().flat_map(|plan| &plan.nodes).map(|node| kind(node.op.as_ref())).collect();
    let lacking: Vec<&String> = used.difference(&counted).collect();
    if lacking.is_empty() { Ok(()) } else { Err(format!("no case counts {lacking:?}")) }
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
    run.report.enter(&row(case, "mirror f32"), "cpu", &path(&case.to_string(), "mirror f32", "cpu"), &margin);
    Ok(())
}

fn on_adapter(case: &Case, variant: &str, adapter: &Adapter, run: &Run) -> Result<(), String> {
    let name = path(&case.to_string(), variant, &adapter.name);
    case.oracle()?;
    let _turn = adapter.turn();
    let start = Instant::now();
    let outcome = kernel::run(case, variant, adapter);
    run.ran(name.clone(), start.elapsed());
    match (outcome, known::find(&name, &adapter.name)) {
        (Ok(margin), None) => {
            run.report.enter(&row(case, variant), &adapter.name, &name, &margin);
            Ok(())
        }
        (Err(error), None) => Err(error),
        (Ok(_), Some(known)) => Err(format!("passes, but is in known.rs: {} ({})", known.reason, known.link)),
        (Err(error), Some(known)) => {
            println!("known failure of {name}: {} ({}): {error}", known.reason, known.link);
            Ok(())
        }
    }
}

/// The row of the report for a case: op and kind, without the shape, then the variant.
fn row(case: &Case, variant: &str) -> String {
    let label = case.op.label();
    let words = label.split(' ').take_while(|word| !word.contains(|c: char| c.is_ascii_digit()));
    format!("{} / {variant}", words.collect::<Vec<_>>().join(" "))
}
