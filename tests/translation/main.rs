//! Every shader that a plan can run, in every variant, through naga to the languages that drivers read, as wgpu has it
//! translated; and each translation through a real compiler of that language. The WGSL itself goes through a second front
//! end. No driver is needed.
//!
//! A compiler that is missing is named at the end, with how to get it. `DEEPJ_REQUIRE_COMPILERS=spirv-val,glslang,dxc,clang,tint`
//! makes the run fail where one of these is missing.

mod compilers;
mod dxc;
mod glsl;
mod hlsl;
mod msl;
mod shaders;
mod spirv;
mod target;
mod tint;

use std::collections::{BTreeMap, HashMap};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use libtest_mimic::{Arguments, Failed, Trial};
use rayon::prelude::*;
use shaders::Variant;
use target::{Target, Unit, Verdict};

/// Refused translations that are shown.
const SHOWN: usize = 5;

/// What came of a target.
#[derive(Default)]
struct Row {
    target: &'static str,
    /// The compiler with its version.
    compiler: String,
    variants: usize,
    /// Why how many variants were not translated.
    inapplicable: BTreeMap<&'static str, usize>,
    translations: usize,
    /// Those that no other is the same as.
    texts: usize,
    accepted: usize,
    known: BTreeMap<&'static str, usize>,
    refused: usize,
}

#[derive(Default)]
struct Run {
    variants: OnceLock<Result<Vec<Variant>, String>>,
    /// How many variants there are, of which `variants` may be a part.
    all: AtomicUsize,
    rows: Mutex<Vec<Row>>,
}

impl Run {
    fn variants(&self) -> Result<&[Variant], String> {
        self.variants.get_or_init(|| shaders::all().map(|all| self.sampled(all))).as_deref().map_err(Clone::clone)
    }

    /// Of all variants each entry point in each combination of formats, and a third of the others by their names; all with
    /// `DEEPJ_EVERY_SHADER=1`.
    fn sampled(&self, mut variants: Vec<Variant>) -> Vec<Variant> {
        self.all.store(variants.len(), Ordering::Relaxed);
        if std::env::var("DEEPJ_EVERY_SHADER").is_ok_and(|value| !matches!(value.trim(), "" | "0")) {
            return variants;
        }
        let mut seen = std::collections::HashSet::new();
        variants.retain(|variant| {
            let formats: String = variant
                .name
                .split(' ')
                .filter(|word| {
                    !word.contains(|c: char| c.is_ascii_digit()) || word.ends_with("=f16") || word.ends_with("=f32")
                })
                .collect();
            seen.insert(formats) || crc32c::crc32c(variant.name.as_bytes()).is_multiple_of(3)
        });
        variants
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let targets: [Arc<dyn Target>; 5] =
        [Arc::new(spirv::SpirV), Arc::new(glsl::Glsl), Arc::new(hlsl::Hlsl), Arc::new(msl::Msl), Arc::new(tint::Tint)];
    let run = Arc::new(Run::default());
    let mut trials = vec![];
    for target in &targets {
        let (name, compiler) = (target.name(), target.compiler().name);
        let (this, run) = (target.clone(), run.clone());
        let test = move || translate(this.as_ref(), &run).map_err(Failed::from);
        trials.push(Trial::test(format!("{name}/{compiler} accepts all translations"), test));
        let (this, here) = (target.clone(), target.version().is_some());
        let test = move || refuses(this.as_ref()).map_err(Failed::from);
        trials.push(Trial::test(format!("{name}/{compiler} refuses what is broken"), test).with_ignored_flag(!here));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    if arguments.list {
        return ExitCode::SUCCESS;
    }
    print(&run);
    if lacking(&targets) || outdated(&run) { ExitCode::FAILURE } else { conclusion.exit_code() }
}

/// Translates all variants that devices of the target take, and asks the compiler, where it is here.
fn translate(target: &dyn Target, run: &Run) -> Result<(), String> {
    let variants = run.variants()?;
    let mut row = Row { target: target.name(), ..Row::default() };
    let taken = |variant: &&Variant| match target.inapplicable(variant) {
        None => true,
        Some(reason) => {
            *row.inapplicable.entry(reason).or_default() += 1;
            false
        }
    };
    let taken: Vec<&Variant> = variants.iter().filter(taken).collect();
    row.variants = taken.len();
    let translated: Vec<Result<Vec<Unit>, String>> =
        taken.into_par_iter().map(|variant| target.translate(variant)).collect();
    let mut mistakes = vec![];
    let mut texts: HashMap<(Vec<u8>, String, &str), Unit> = HashMap::new();
    for units in translated {
        match units {
            Ok(units) => {
                row.translations += units.len();
                for unit in units {
                    texts.entry((unit.source.clone(), unit.entry.clone(), unit.setting)).or_insert(unit);
                }
            }
            Err(error) => mistakes.push(error),
        }
    }
    row.texts = texts.len();
    let mut units: Vec<Unit> = texts.into_values().collect();
    units.sort_by(|a, b| (a.setting, &a.name).cmp(&(b.setting, &b.name)));
    if let Some(version) = target.version() {
        row.compiler = format!("{}: {version}", target.compiler().name);
        for (unit, verdict) in units.iter().zip(target.compile(&units)?) {
            match verdict {
                Verdict::Accepted => row.accepted += 1,
                Verdict::Known(finding) => *row.known.entry(finding).or_default() += 1,
                Verdict::Refused(message) => {
                    row.refused += 1;
                    mistakes.push(format!("{}: {message}", unit.name));
                }
            }
        }
        for finding in target.known() {
            if !row.known.contains_key(finding.name) {
                mistakes.push(format!("{} is known, but occurs no more ({})", finding.name, finding.link));
            }
        }
        if row.accepted == 0 {
            mistakes.push("no translation was accepted".into());
        }
    }
    if row.translations == 0 {
        mistakes.push("nothing was translated".into());
    }
    run.rows.lock().unwrap_or_else(PoisonError::into_inner).push(row);
    match mistakes.len() {
        0 => Ok(()),
        count => Err(format!("{count} mistakes, of which\n{}", mistakes[..count.min(SHOWN)].join("\n"))),
    }
}

/// A compiler that accepts anything would prove nothing.
fn refuses(target: &dyn Target) -> Result<(), String> {
    let (units, messages): (Vec<Unit>, Vec<&str>) = target.broken()?.into_iter().unzip();
    let verdicts = target.compile(&units)?;
    if units.is_empty() || verdicts.len() != units.len() {
        return Err(format!("{} verdicts on {} translations", verdicts.len(), units.len()));
    }
    for ((unit, wanted), verdict) in units.iter().zip(messages).zip(verdicts) {
        match verdict {
            Verdict::Refused(message) if message.contains(wanted) => (),
            verdict => return Err(format!("{}: must be refused with `{wanted}`, is {verdict:?}", unit.name)),
        }
    }
    Ok(())
}

/// What was translated and accepted, and what was not and why.
fn print(run: &Run) {
    let rows = run.rows.lock().unwrap_or_else(PoisonError::into_inner);
    let (taken, all) = (run.variants().map_or(0, <[Variant]>::len), run.all.load(Ordering::Relaxed));
    match taken == all {
        true => println!("{all} shader variants"),
        false => println!("{taken} of {all} shader variants; DEEPJ_EVERY_SHADER=1 takes all"),
    }
    println!(
        "{:8} {:>8} {:>12} {:>8} {:>8} {:>8} {:>8}",
        "", "variants", "translations", "distinct", "accepted", "known", "refused"
    );
    for row in &*rows {
        let Row { target, variants, translations, texts, accepted, refused, .. } = row;
        let known: usize = row.known.values().sum();
        let by = if row.compiler.is_empty() { "not compiled" } else { &row.compiler };
        println!("{target:8} {variants:>8} {translations:>12} {texts:>8} {accepted:>8} {known:>8} {refused:>8}  {by}");
    }
    for row in &*rows {
        for (reason, count) in &row.inapplicable {
            println!("{count} variants not as {}: {reason}", row.target);
        }
        for (finding, count) in &row.known {
            println!("{count} translations to {} with the known {finding}", row.target);
        }
    }
}

/// Tells whether docs/DEVICES.md has another number of shader variants.
fn outdated(run: &Run) -> bool {
    let Some(Ok(_)) = run.variants.get() else { return false };
    let wanted = format!("all shaders, {} with their variants", run.all.load(Ordering::Relaxed));
    let page: Vec<&str> = include_str!("../../docs/DEVICES.md").split_whitespace().collect();
    let outdated = !page.join(" ").contains(&wanted);
    if outdated {
        println!("FAILED: docs/DEVICES.md lacks `{wanted}`");
    }
    outdated
}

/// Tells which compilers are missing, and whether one is that `DEEPJ_REQUIRE_COMPILERS` names, with commas between.
fn lacking(targets: &[Arc<dyn Target>]) -> bool {
    let mut missing = vec![];
    for target in targets.iter().filter(|target| target.version().is_none()) {
        println!("no compiler {} here ({})", target.compiler().name, target.compiler().install);
        missing.push(target.compiler().name);
    }
    let known = |name: &&str| targets.iter().any(|target| target.compiler().name == *name);
    let required = std::env::var("DEEPJ_REQUIRE_COMPILERS").unwrap_or_default();
    let required = required.split(',').map(str::trim).filter(|name| !name.is_empty());
    let lacking: Vec<&str> = required.filter(|name| missing.contains(name) || !known(name)).collect();
    for name in &lacking {
        println!("FAILED: DEEPJ_REQUIRE_COMPILERS names {name}, which is not here");
    }
    !lacking.is_empty()
}
