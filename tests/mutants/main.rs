//! Broken kernels, each of which the kernel tests must notice: what tests are worth is what they catch.
//!
//! A mutant is a change of one place of a shader's text. Those of `written.rs` are mistakes that a person makes, and each
//! names the case that must fail with it on lavapipe, and with `DEEPJ_EVERY_ADAPTER=1` on every software adapter that runs the
//! kernel. Those of `drawn.rs` are changes by rule, of which some are drawn for each kernel; they run on one adapter, and any case may catch them. Those among them
//! that change nothing that can be seen are listed in `equivalent.rs`, each with its reason. The case that catches a mutant
//! must pass without it.
//!
//! `cargo test --release --test mutants -- lstm` runs those of one op. `DEEPJ_MUTANTS_TABLE=FILE` writes the tables of
//! `docs/TRUST.md`, whose list of mutants is held against the one here. `DEEPJ_MUTANTS_DRAWN=N` draws more of them, and
//! tries those in `equivalent.rs` in all cases.

#[path = "../../kernels-tests/batches.rs"]
mod batches;
#[path = "../../kernels-tests/environment.rs"]
mod environment;

mod drawn;
mod equivalent;
mod kernels;
mod mutant;
mod table;
mod trial;
mod written;

use std::process::ExitCode;
use std::sync::Arc;

use batches::{Batches, Test};
use deepj::verify::kernels::cases;
use deepj::verify::kernels::harness::Case;
use deepj::verify::kernels::harness::adapters::{self, Adapter, everything};
use drawn::Change;
use kernels::Kernels;
use libtest_mimic::Arguments;
use mutant::{Broken, Mutant};
use trial::{Attempt, Findings};
use written::WRITTEN;

/// Changes that are drawn for each kernel.
const DRAWN: usize = 4;

/// The adapter that runs them.
const ADAPTER: &str = "lavapipe";

/// So many cases are tried with a change that is known to be equivalent.
const EQUIVALENT_CASES: usize = 3;

fn test(name: impl Into<String>, test: impl FnOnce() -> Result<(), String> + Send + 'static) -> (String, Test) {
    (name.into(), Box::new(test))
}

/// A mutant whose case must notice it.
fn of_written(
    mutant: &'static Mutant,
    broken: Broken,
    attempts: Vec<Attempt>,
    adapter: &Arc<Adapter>,
    findings: &Arc<Findings>,
) -> (String, Test) {
    let (adapter, findings) = (adapter.clone(), findings.clone());
    let Mutant { kernel, what, case, .. } = *mutant;
    test(format!("{kernel}/{what}/{}", adapter.name), move || {
        let caught = trial::attempt(&attempts, &adapter, what, &broken)?;
        findings.enter(kernel, what, &adapter.name, caught.ok_or_else(|| format!("`{case}` does not notice it"))?);
        Ok(())
    })
}

/// A change that any of the cases must notice, unless it is known that none can.
fn of_drawn(
    change: &Change,
    known: Option<&'static str>,
    attempts: Vec<Attempt>,
    adapter: &Arc<Adapter>,
    findings: &Arc<Findings>,
) -> (String, Test) {
    let (adapter, findings, broken) = (adapter.clone(), findings.clone(), change.broken);
    let (kernel, name) = (change.kernel.clone(), change.name.clone());
    test(format!("{kernel}/drawn/{name}"), move || {
        match (trial::attempt(&attempts, &adapter, &name, &broken)?, known) {
            (Some(caught), None) => {
                findings.enter(&kernel, &name, &adapter.name, caught);
                Ok(())
            }
            (None, Some(_)) => Ok(()),
            (Some(caught), Some(why)) => {
                Err(format!("is in equivalent.rs ({why}), but {} fails: {}", caught.case, caught.message))
            }
            (None, None) => {
                let cases = attempts.len();
                Err(format!("none of {cases} cases notices it: they lack one, or equivalent.rs lacks the reason"))
            }
        }
    })
}

/// The written mutants, in batches: those of a kernel on one adapter share a device, on which the kernels beside it are compiled
/// once.
fn written(
    kernels: &Kernels,
    adapters: &[Arc<Adapter>],
    attempts: &[Vec<Attempt>],
    findings: &Arc<Findings>,
) -> Vec<Vec<(String, Test)>> {
    let mut batches = vec![];
    for mutants in WRITTEN.chunk_by(|a, b| a.kernel == b.kernel) {
        // One that cannot be put into its shader is told of by the test of the list.
        let broken = |mutant: &'static Mutant| Some((mutant, kernels.broken(mutant).ok()?));
        let broken: Vec<(&'static Mutant, Broken)> = mutants.iter().filter_map(broken).collect();
        for (adapter, attempts) in adapters.iter().zip(attempts) {
            let adapter = Arc::new(adapter.another());
            let mut tests = vec![];
            for &(mutant, broken) in &broken {
                let named = |attempt: &&Attempt| attempt.case.to_string() == mutant.case && attempt.changes(&broken);
                let attempts: Vec<Attempt> = attempts.iter().filter(named).cloned().collect();
                if !attempts.is_empty() {
                    tests.push(of_written(mutant, broken, attempts, &adapter, findings));
                }
            }
            batches.push(tests);
        }
    }
    batches
}

/// The drawn changes, in batches: those of a kernel share a device. Those that are known to be equivalent are tried in so many
/// cases.
fn of_all_drawn(
    drawn: &[Change],
    equivalent_cases: usize,
    adapter: &Adapter,
    attempts: &[Attempt],
    findings: &Arc<Findings>,
) -> Vec<Vec<(String, Test)>> {
    let mut batches = vec![];
    for changes in drawn.chunk_by(|a, b| a.kernel == b.kernel) {
        let adapter = Arc::new(adapter.another());
        let mut tests = vec![];
        for change in changes {
            let changed = |attempt: &&Attempt| attempt.changes(&change.broken);
            let mut attempts: Vec<Attempt> = attempts.iter().filter(changed).cloned().collect();
            trial::likeliest_first(&mut attempts);
            let known = equivalent::find(&change.kernel, &change.name);
            if known.is_some() {
                attempts.truncate(equivalent_cases);
            }
            if !attempts.is_empty() {
                tests.push(of_drawn(change, known, attempts, &adapter, findings));
            }
        }
        batches.push(tests);
    }
    batches
}

fn software() -> Vec<Arc<Adapter>> {
    let mut adapters = pollster::block_on(adapters::all());
    adapters.retain(|adapter| adapter.is_software());
    adapters
}

fn main() -> ExitCode {
    environment::prepare();
    let arguments = Arguments::from_args();
    let here = software();
    // The table has a column for each adapter.
    let writes = std::env::var_os("DEEPJ_MUTANTS_TABLE").is_some();
    let every = adapters::every_adapter() || writes;
    let runs = |adapter: &&Arc<Adapter>| every || adapter.name.contains(ADAPTER);
    let adapters: Vec<Arc<Adapter>> = here.iter().filter(runs).cloned().collect();
    let cases: Vec<Arc<Case>> = cases().into_iter().map(Arc::new).collect();
    let kernels = Arc::new(Kernels::of(&Attempt::all(&cases, &everything())));
    let more = std::env::var("DEEPJ_MUTANTS_DRAWN").ok().and_then(|count| count.parse().ok());
    let drawn = kernels.draw(more.unwrap_or(DRAWN));
    let findings = Arc::new(Findings::default());

    let (lists, folding) = (kernels.clone(), kernels.clone());
    let mut tests = vec![
        test("lists/every mutant is a kernel, and every kernel has one", move || lists.check()),
        test("lists/every kernel has a case whose grid is folded", move || folding.check_folding()),
    ];
    if more.is_none() {
        let rows = table::rows(&drawn);
        let unknown = equivalent::unknown(&drawn);
        tests.push(test("lists/what is equivalent is drawn", move || unknown));
        if !writes {
            tests.push(test("lists/docs/TRUST.md has them all", move || table::check(&rows)));
        }
    }
    let batches = Batches::new(&arguments);
    let mut trials = batches.add(None, tests);
    let attempts: Vec<Vec<Attempt>> =
        adapters.iter().map(|adapter| Attempt::all(&cases, &adapter.with_emulation(&adapter.capabilities))).collect();
    for tests in written(&kernels, &adapters, &attempts, &findings) {
        trials.extend(batches.add(None, tests));
    }
    if let Some(place) = adapters.iter().position(|adapter| adapter.name.contains(ADAPTER)) {
        let equivalent_cases = more.map_or(EQUIVALENT_CASES, |_| usize::MAX);
        for tests in of_all_drawn(&drawn, equivalent_cases, &adapters[place], &attempts[place], &findings) {
            trials.extend(batches.add(None, tests));
        }
    }
    let whole = arguments.filter.is_none() && arguments.skip.is_empty() && !arguments.list;
    let conclusion = libtest_mimic::run(&arguments, trials);
    if arguments.list {
        return ExitCode::SUCCESS;
    }
    batches.end();
    if adapters.is_empty() {
        println!("NO SOFTWARE ADAPTER HERE: NO MUTANT WAS RUN");
    } else {
        println!("{}", findings.summary());
    }
    for kernel in kernels.missing_in(&attempts.concat()) {
        println!("no adapter here runs {kernel}: its mutants were not tried");
    }
    let (lines, lacking) = adapters::missing(&here);
    lines.iter().for_each(|line| println!("{line}"));
    if let (Ok(path), true) = (std::env::var("DEEPJ_MUTANTS_TABLE"), whole)
        && let Err(error) = table::write(&path, &findings, &adapters, &drawn)
    {
        println!("FAILED: {error}");
        return ExitCode::FAILURE;
    }
    if lacking { ExitCode::FAILURE } else { conclusion.exit_code() }
}
