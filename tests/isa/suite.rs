//! The tests: a process a chip, since the driver takes the chip from its environment, and may crash.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, OnceLock};

use libtest_mimic::{Arguments, Failed, Trial};
use rayon::prelude::*;
use serde_json::{Value, json};

use crate::assembly;
use crate::driver::{Compiled, Driver};
use crate::kernels::{self, Placed};
use crate::shaders::{Features, Variant};
use crate::table::{self, Table, Taken};

/// A chip as RADV's null device knows it.
struct Chip {
    name: &'static str,
    /// What later versions of Mesa call it.
    later: &'static str,
    /// Lanes of a SIMD. One of 32 has its waves counted as waves of 32.
    lanes: u64,
}

/// AMD's GCN 5 (Vega), RDNA 2 (Radeon RX 6800) and RDNA 3 (Radeon RX 7900).
const CHIPS: [Chip; 3] = [
    Chip { name: "vega10", later: "vega10", lanes: 16 },
    Chip { name: "navi21", later: "navi21", lanes: 32 },
    Chip { name: "gfx1100", later: "navi31", lanes: 32 },
];

const MISSING: &str = "no driver radv here (Debian: mesa-vulkan-drivers)";
/// Names a file of WGSL that is compiled instead of the kernels.
const FILE: &str = "DEEPJ_ISA_WGSL";
/// Names a folder into which the machine code of the paper's plans is written.
const DUMP: &str = "DEEPJ_ISA_DUMP";
/// Names drivers that must be here.
const REQUIRED: &str = "DEEPJ_REQUIRE_DRIVERS";
const TABLE: &str = include_str!("table.tsv");
/// Names the chip to a child process.
const CHILD: &str = "DEEPJ_ISA_CHIP";
/// Where Mesa's packages put the driver's description.
const DRIVERS: [&str; 3] = [
    "/usr/share/vulkan/icd.d/radeon_icd.x86_64.json",
    "/usr/share/vulkan/icd.d/radeon_icd.aarch64.json",
    "/usr/share/vulkan/icd.d/radeon_icd.json",
];

/// What a chip's process says.
struct Outcome {
    driver: String,
    kernels: BTreeMap<String, Compiled>,
}

struct Run {
    icd: &'static str,
    outcomes: [OnceLock<Result<Outcome, String>>; CHIPS.len()],
    placed: OnceLock<Result<Vec<Placed>, String>>,
}

impl Run {
    fn outcome(&self, chip: usize) -> Result<&Outcome, String> {
        self.outcomes[chip].get_or_init(|| ask(&CHIPS[chip], self.icd)).as_ref().map_err(Clone::clone)
    }

    fn placed(&self) -> Result<&[Placed], String> {
        let placed = || kernels::all().map(|(_, placed)| placed);
        self.placed.get_or_init(placed).as_deref().map_err(Clone::clone)
    }

    fn defaults(&self) -> Result<impl Iterator<Item = &Placed>, String> {
        Ok(self.placed()?.iter().filter(|placed| placed.default))
    }
}

pub fn main() -> ExitCode {
    if std::env::var_os(CHILD).is_some() {
        return child();
    }
    let arguments = Arguments::from_args();
    let here = DRIVERS.into_iter().find(|path| Path::new(path).exists());
    let run = Arc::new(Run { icd: here.unwrap_or(""), outcomes: Default::default(), placed: OnceLock::new() });
    if std::env::var_os(FILE).is_some() {
        let all: Result<Vec<String>, String> = CHIPS.iter().map(|chip| compiled_for(chip, run.icd)).collect();
        print!("{}", all.as_deref().map_or_else(Clone::clone, <[String]>::concat));
        return if all.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if let Some(folder) = std::env::var_os(DUMP) {
        return match dump(&run, Path::new(&folder)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                println!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let mut trials = vec![];
    for (i, chip) in CHIPS.iter().enumerate() {
        let (this, name) =
            (run.clone(), format!("{}: what hardware runs by default keeps within its budgets", chip.name));
        trials.push(Trial::test(name, move || told(&this, i, budgets(&this, i))));
        let (this, name) = (run.clone(), format!("{}: the next tiles are read while these are multiplied", chip.name));
        trials.push(Trial::test(name, move || told(&this, i, reads_ahead(&this, i))));
    }
    let this = run.clone();
    trials.push(Trial::test("the table is that of the kernels", move || compare(&this).map_err(Failed::from)));
    let mut trials: Vec<Trial> = trials.into_iter().map(|trial| trial.with_ignored_flag(here.is_none())).collect();
    // These need no driver.
    let itself = || assembly::check_itself().map_err(Failed::from);
    trials.push(Trial::test("a wait for memory is seen in machine code", itself));
    let this = run.clone();
    trials.push(Trial::test("the paper's sizes fill a large GPU", move || grids(&this).map_err(Failed::from)));
    let conclusion = libtest_mimic::run(&arguments, trials);
    if here.is_some() || arguments.list {
        return conclusion.exit_code();
    }
    println!("{MISSING}");
    let required = std::env::var(REQUIRED).unwrap_or_default();
    if required.split(',').any(|name| name.trim() == "radv") {
        println!("FAILED: DEEPJ_REQUIRE_DRIVERS names radv, which is not here");
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

/// Compiles all kernels and prints what came of it, a line of JSON each; or those of the file that [`FILE`] names.
fn child() -> ExitCode {
    let compiled = || -> Result<Vec<Value>, String> {
        let driver = Driver::open()?;
        if let Some(file) = std::env::var_os(FILE) {
            return of_file(&driver, Path::new(&file));
        }
        let (variants, placed) = kernels::all()?;
        let all = std::env::var_os(DUMP).is_some();
        let chosen = placed.iter().filter(|placed| placed.default || all);
        let chosen: HashSet<&str> = chosen.map(|placed| &placed.shader[..]).collect();
        let defaults: HashSet<&str> =
            placed.iter().filter(|placed| placed.default).map(|placed| &placed.shader[..]).collect();
        let compile = |variant: &Variant| {
            let (shader, default) = (&variant.name, defaults.contains(&variant.name[..]));
            // A driver may refuse one kernel: the others are compiled all the same.
            match driver.compile(variant, chosen.contains(&variant.name[..])) {
                Ok(Compiled { statistics, assembly }) => {
                    json!({ "shader": shader, "default": default, "statistics": statistics, "assembly": assembly })
                }
                Err(error) => json!({ "shader": shader, "default": default, "error": error }),
            }
        };
        let mut lines = vec![json!({ "driver": driver.name })];
        lines.extend(variants.par_iter().map(compile).collect::<Vec<_>>());
        Ok(lines)
    };
    match compiled() {
        Ok(lines) => {
            lines.iter().for_each(|line| println!("{line}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Compiles the entry points of a file of WGSL, and writes the machine code of each beside it.
fn of_file(driver: &Driver, file: &Path) -> Result<Vec<Value>, String> {
    let at = |error: std::io::Error| format!("{}: {error}", file.display());
    let wgsl = std::fs::read_to_string(file).map_err(at)?;
    let module = naga::front::wgsl::parse_str(&wgsl).map_err(|error| error.emit_to_string(&wgsl))?;
    let features = Features { f16: wgsl.contains("enable f16"), subgroup: true, cooperative: false };
    let mut lines = vec![];
    for entry in &module.entry_points {
        // Names of entry points live as long as the program elsewhere.
        let name: &'static str = Box::leak(entry.name.clone().into_boxed_str());
        let variant = Variant::parse(name.into(), wgsl.clone(), name, features)?;
        let compiled = driver.compile(&variant, true)?;
        let code = file.with_extension(format!("{name}.{}.s", std::env::var(CHILD).unwrap_or_default()));
        std::fs::write(&code, compiled.assembly.clone().unwrap_or_default()).map_err(at)?;
        // A driver other than AMD's has figures of its own.
        let taken = Taken::of(&compiled).map_or_else(|_| json!(compiled.statistics), |taken| json!(taken));
        lines.push(json!({ "shader": name, "taken": taken, "code": code }));
    }
    Ok(lines)
}

/// Writes the machine code of what the paper's plans can run, and where it runs: for each chip a folder with `kernels.json`.
fn dump(run: &Run, folder: &Path) -> Result<(), String> {
    let at = |error: std::io::Error| format!("{}: {error}", folder.display());
    for (i, chip) in CHIPS.iter().enumerate() {
        let (outcome, folder) = (run.outcome(i)?, folder.join(chip.name));
        std::fs::create_dir_all(&folder).map_err(at)?;
        let mut listed = vec![];
        for (n, placed) in run.placed()?.iter().enumerate() {
            let Some(compiled) = outcome.kernels.get(&placed.shader) else { continue };
            let code = format!("{n}.s");
            std::fs::write(folder.join(&code), compiled.assembly.as_deref().unwrap_or_default()).map_err(at)?;
            let Placed { plan, label, kernel, variant, default, shader, groups, flops, dispatches, workgroup } = placed;
            listed.push(json!({
                "plan": plan, "label": label, "kernel": kernel, "variant": variant, "default": default, "shader": shader,
                "groups": groups, "flops": flops, "dispatches": dispatches, "workgroup": workgroup,
                "taken": Taken::of(compiled)?, "code": code,
            }));
        }
        let text = serde_json::to_string_pretty(&listed).map_err(|error| error.to_string())?;
        std::fs::write(folder.join("kernels.json"), text).map_err(at)?;
    }
    Ok(())
}

/// Has a process compile for a chip, and returns what it prints.
fn compiled_for(chip: &Chip, icd: &str) -> Result<String, String> {
    // RADV aborts where it does not know the name.
    compiled_as(chip.name, chip, icd).or_else(|error| match chip.later == chip.name {
        true => Err(error),
        false => compiled_as(chip.later, chip, icd),
    })
}

fn compiled_as(name: &str, chip: &Chip, icd: &str) -> Result<String, String> {
    if icd.is_empty() {
        return Err(MISSING.into());
    }
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new(program)
        .env(CHILD, chip.name)
        .env("RADV_FORCE_FAMILY", name)
        .env("VK_DRIVER_FILES", icd)
        .env("VK_ICD_FILENAMES", icd)
        .env("MESA_SHADER_CACHE_DISABLE", "true")
        .env_remove("VK_INSTANCE_LAYERS")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("{}: the compiler ended with {}: {}", chip.name, output.status, said.trim()))
        }
    }
}

/// Has a process compile everything for a chip.
fn ask(chip: &Chip, icd: &str) -> Result<Outcome, String> {
    let mut outcome = Outcome { driver: String::new(), kernels: BTreeMap::new() };
    for line in compiled_for(chip, icd)?.lines() {
        let value: Value = serde_json::from_str(line).map_err(|error| format!("{line}: {error}"))?;
        if let Some(driver) = value["driver"].as_str() {
            if ![chip.name, chip.later].iter().any(|name| driver.to_lowercase().contains(name)) {
                return Err(format!("{}: the driver is one for {driver}", chip.name));
            }
            outcome.driver = driver.into();
            continue;
        }
        if let Some(error) = value["error"].as_str() {
            return Err(format!("{}: {error}", chip.name));
        }
        let statistics = serde_json::from_value(value["statistics"].clone()).map_err(|error| error.to_string())?;
        let shader = value["shader"].as_str().unwrap_or_default().to_string();
        let assembly = value["assembly"].as_str().map(String::from);
        outcome.kernels.insert(shader, Compiled { statistics, assembly });
    }
    match outcome.kernels.is_empty() {
        true => Err(format!("{}: nothing was compiled", chip.name)),
        false => Ok(outcome),
    }
}

/// The fewest waves of 64 lanes a SIMD, to hide the time that memory takes.
const WAVES: u64 = 4;
/// The most bytes of code: half of the instruction cache that two compute units of RDNA 2 share.
const CODE: u64 = 16 << 10;

/// A mistake of another version of the compiler than the table's is told, and is not the kernels'.
fn told(run: &Run, chip: usize, result: Result<(), String>) -> Result<(), Failed> {
    let Err(error) = result else { return Ok(()) };
    let own =
        run.outcome(chip).is_ok_and(|outcome| !TABLE.lines().next().unwrap_or_default().contains(&outcome.driver));
    if own && std::env::var_os(REQUIRED).is_none() {
        println!("with another driver than the table's: {error}");
        return Ok(());
    }
    Err(Failed::from(error))
}

/// Budgets that are known not to be kept: chip, entry point, and what is beyond. 64 sums an invocation leave room for two waves among
/// the 256 registers of GCN. One that is kept again must go.
const KNOWN_BUDGETS: [(&str, &str, &str); 1] = [("vega10", "gemm.wgsl `vector`", "2 waves of 64 a SIMD, not 4")];

/// Holds what runs by default against the budgets.
fn budgets(run: &Run, chip: usize) -> Result<(), String> {
    let outcome = run.outcome(chip)?;
    let (mut mistakes, mut seen) = (BTreeMap::new(), HashSet::new());
    for default in run.defaults()? {
        let compiled = outcome.kernels.get(&default.shader).ok_or(format!("{} was not compiled", default.shader))?;
        let taken = Taken::of(compiled)?;
        // A wave of 64 takes the registers of two waves of 32.
        let waves = if CHIPS[chip].lanes == 32 { taken.waves / 2 } else { taken.waves };
        let mut beyond = vec![];
        if taken.spills > 0 || taken.scratch > 0 {
            beyond.push(format!("{} registers spilled, {} bytes of private memory", taken.spills, taken.scratch));
        }
        if waves < WAVES {
            beyond.push(format!("{waves} waves of 64 a SIMD, not {WAVES}"));
        }
        if taken.code > CODE {
            beyond.push(format!("{} bytes of code, more than {CODE}", taken.code));
        }
        let known = KNOWN_BUDGETS.iter().find(|(of, entry, what)| {
            (*of, &beyond[..]) == (CHIPS[chip].name, &[what.to_string()][..]) && default.shader.contains(entry)
        });
        if let Some(known) = known {
            seen.insert(known);
        } else if !beyond.is_empty() {
            mistakes.insert(&default.shader, format!("{}, {}: {}", default.plan, default.label, beyond.join("; ")));
        }
    }
    let gone = KNOWN_BUDGETS.iter().find(|known| known.0 == CHIPS[chip].name && !seen.contains(known));
    match (mistakes.is_empty(), gone) {
        (true, None) => Ok(()),
        (true, Some(gone)) => Err(format!("{gone:?} is known, but occurs no more")),
        (false, _) => {
            let text: Vec<String> = mistakes.into_iter().map(|(shader, what)| format!("{shader}\n  {what}")).collect();
            Err(format!("{} kernels are beyond their budgets:\n{}", text.len(), text.join("\n")))
        }
    }
}

/// The kernels whose tiles are read ahead, where sizes are even, and how many loops each has.
const AHEAD: [(&str, usize); 5] = [
    ("forward_split", 1),
    ("backward_split", 1),
    ("lstm_pair.wgsl `forward`", 3),
    ("lstm_pair.wgsl `backward`", 3),
    ("`vector`", 1),
];

/// Looks for waits in the machine code of what runs by default.
fn reads_ahead(run: &Run, chip: usize) -> Result<(), String> {
    let outcome = run.outcome(chip)?;
    let (mut seen, mut mistakes) = ([0; AHEAD.len()], vec![]);
    for shader in run.defaults()?.map(|placed| &placed.shader).collect::<HashSet<_>>() {
        let even = ["VECTOR=1 APART=0", "VECTOR=1 W=", "EVEN=1"].iter().any(|even| shader.contains(even));
        let Some(entry) = AHEAD.iter().position(|(entry, _)| even && shader.contains(entry)) else { continue };
        seen[entry] += 1;
        let assembly = outcome.kernels.get(shader).and_then(|compiled| compiled.assembly.as_deref());
        let result =
            assembly::reads_ahead(assembly.unwrap_or_default()).and_then(|loops| match loops == AHEAD[entry].1 {
                true => Ok(()),
                false => Err(format!("has {loops} loops")),
            });
        if let Err(error) = result {
            mistakes.push(format!("{shader}\n  {error}"));
        }
    }
    match mistakes.is_empty() {
        true if !seen.contains(&0) => Ok(()),
        true => Err(format!("of {AHEAD:?} there are {seen:?} among what runs by default")),
        false => Err(format!("{} of {seen:?} kernels:\n{}", mistakes.len(), mistakes.join("\n"))),
    }
}

/// Compute units of a large GPU (Radeon RX 6800 XT).
const UNITS: u64 = 72;
/// FLOPs from which on a dispatch is to fill it: what it makes in half a microsecond.
const LARGE: u64 = 10_000_000;

/// Holds the workgroups of a step at the paper's sizes against a large GPU's compute units.
fn grids(run: &Run) -> Result<(), String> {
    let (mut few, mut seen) = (vec![], HashSet::new());
    for Placed { plan, label, groups, flops, .. } in run.defaults()? {
        let wanted = match *plan {
            "train B=16" | "train B=16 mixed" => 3 * UNITS,
            "train B=1" => UNITS,
            _ => continue,
        };
        seen.insert(plan);
        if *flops >= LARGE && *groups < wanted {
            few.push(format!("{plan}, {label}: {groups} workgroups, not {wanted}"));
        }
    }
    match few.is_empty() {
        true if seen.len() == 3 => Ok(()),
        true => Err(format!("only {seen:?} were looked at")),
        false => Err(format!("{} kernels leave a large GPU idle:\n{}", few.len(), few.join("\n"))),
    }
}

/// The most differences that are shown.
const SHOWN: usize = 10;

/// Holds the kernels against `table.tsv`, or writes it.
fn compare(run: &Run) -> Result<(), String> {
    let mut table = Table::new();
    let mut drivers = vec![];
    for (i, chip) in CHIPS.iter().enumerate() {
        let outcome = run.outcome(i)?;
        drivers.push(outcome.driver.clone());
        for (shader, compiled) in &outcome.kernels {
            table.entry(shader.clone()).or_default().insert(chip.name, Taken::of(compiled)?);
        }
    }
    let now = table::written(&table, &CHIPS.map(|chip| chip.name), &drivers.join("; "));
    if let Some(path) = std::env::var_os("DEEPJ_ISA_TABLE") {
        return std::fs::write(&path, now).map_err(|error| format!("{}: {error}", path.display()));
    }
    let before = TABLE;
    if before.lines().next() != now.lines().next() {
        println!(
            "the table is of {}, here is {}: not compared",
            before.lines().next().unwrap_or(""),
            drivers.join("; ")
        );
        return Ok(());
    }
    let differences = table::differences(before, &now);
    match differences.len() {
        0 => Ok(()),
        count => Err(format!(
            "{count} kernels differ from tests/isa/table.tsv; if that is meant, renew it with DEEPJ_ISA_TABLE=tests/isa/table.tsv\n{}",
            differences[..count.min(SHOWN)].join("\n")
        )),
    }
}
