//! Experiments: what is in their tables, what is refused, and that neither kills nor full disks change them.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use deepj::experiment::{Experiment, Results, Source};
use deepj::graph::session::KernelSelection;
use serde_json::Value;

use crate::{corpus, cpu, fails, folder, program, succeeds};

/// Two configurations that are trained and one that is not, tiny.
const TINY: &str = r#"
name = "tiny one"
about = "As small as can be."
data = "corpus"
seeds = [0, 1]

[budget]
steps = 6
validate-every = 2

[base]
batch = 2
seq = 16
set = { time_units = 8, note_units = 8, filters = 4, style_width = 4 }

[samples]
pieces = 1
bars = 1

[[configuration]]
name = "silent"
model-of = "deepj"
silence-temperature = false

[[configuration]]
name = "deepj"

[[configuration]]
name = "no style"
set = { style = "none" }

[[claim]]
text = "style helps"
configuration = "deepj"
against = "no style"
measure = "play_nats_per_step"
expected = "lower"
"#;

const FILE: &str = "tiny.toml";

/// A folder with a corpus and the experiment above, changed.
fn with_experiment(change: impl Fn(String) -> String) -> tempfile::TempDir {
    let dir = folder();
    corpus(&dir.path().join("corpus"), 4, 4, 48);
    std::fs::write(dir.path().join(FILE), change(TINY.replace("\nseeds", "\nbaseline = \"deepj\"\nseeds"))).unwrap();
    dir
}

/// The tables of the experiment in `out`, without what differs from one time to the next.
fn tables(out: &Path) -> (Value, Vec<String>) {
    let text = std::fs::read_to_string(out.join("results.json")).unwrap();
    let mut results: Value = serde_json::from_str(&text).unwrap();
    for run in results["runs"].as_array_mut().unwrap() {
        let run = run.as_object_mut().unwrap();
        run.remove("date");
        run.get_mut("cost").unwrap().as_object_mut().unwrap().retain(|name, _| !name.starts_with("seconds"));
    }
    let of_clock = |row: &Value| row["measure"].as_str().unwrap().starts_with("seconds");
    results["table"].as_array_mut().unwrap().retain(|row| !of_clock(row));
    let csv = std::fs::read_to_string(out.join("results.csv")).unwrap();
    let csv = csv.lines().filter(|line| !line.contains(",seconds")).map(String::from).collect();
    (results, csv)
}

#[test]
fn an_experiment_leaves_runs_and_tables() {
    let dir = with_experiment(|text| text);
    let path = dir.path();
    let said = succeeds(path, &["experiment", FILE]);
    assert!(said.contains("| no style |") && said.contains("Differences to `deepj`"), "{said}");
    let out = path.join("runs/tiny-one");
    for (configuration, trained) in [("deepj", true), ("no-style", true), ("silent", false)] {
        for seed in ["seed-0", "seed-1"] {
            let run = out.join(configuration).join(seed);
            let sample = if configuration == "no-style" { "sample-deepj-1.mid" } else { "sample-plain-1.mid" };
            assert!(run.join("result.json").exists() && run.join(sample).exists(), "{}", run.display());
            assert_eq!(run.join("best.safetensors").exists(), trained, "{}", run.display());
        }
    }
    let results = Results::read(&out.join("results.json")).unwrap();
    assert_eq!((results.runs.len(), results.planned()), (6, 6));
    for run in &results.runs {
        assert_eq!(run.pieces, [6, 2]);
        if run.configuration == "silent" {
            assert!(run.cost.is_empty() && run.validation.is_empty(), "nothing was trained: {run:?}");
        } else {
            assert_eq!((run.cost["updates"], run.cost["parameters"]), (6.0, run.parameters as f64));
            assert!(run.cost["gflop"] > 0.0 && run.validation["play_nats_per_step"] > 0.0, "{run:?}");
            assert_eq!(run.validation.contains_key("style_effect"), run.configuration == "deepj", "{run:?}");
        }
        assert!(run.samples.keys().any(|figure| figure == "longest_rest"), "{run:?}");
    }
    // By hand: differences are those of runs with one seed.
    let value = |configuration, seed| results.find(configuration, seed).unwrap().validation["play_nats_per_step"];
    let differences = [0, 1].map(|seed| value("no style", seed) - value("deepj", seed));
    let (tables, csv) = tables(&out);
    let rows = tables["table"].as_array().unwrap();
    let row = rows.iter().find(|row| row["configuration"] == "no style" && row["measure"] == "play_nats_per_step");
    let row = &row.unwrap()["difference"];
    let mean = (differences[0] + differences[1]) / 2.0;
    assert!((row["mean"].as_f64().unwrap() - mean).abs() < 1e-12, "{row}");
    // Of two values the standard error is half their distance; t with one degree of freedom is 12.706.
    let low = mean - 12.7062 * (differences[0] - differences[1]).abs() / 2.0;
    assert!((row["interval"][0].as_f64().unwrap() - low).abs() < 1e-4, "{row}");
    assert!(csv.iter().any(|line| line.starts_with("no style,play_nats_per_step,2,")), "{csv:?}");

    // What is done is not done again.
    let before = std::fs::read(out.join("results.json")).unwrap();
    succeeds(path, &["experiment", FILE]);
    let said = succeeds(path, &["experiment", FILE, "--table", "--json"]);
    assert_eq!(std::fs::read(out.join("results.json")).unwrap(), before);
    assert_eq!(said.as_bytes(), before);

    let table = std::fs::read_to_string(out.join("results.md")).unwrap();
    assert!(table.contains("| style helps | play nats a step | `deepj` lower than `no style` |"), "{table}");
    succeeds(path, &["experiment", "--report", "page.md", "runs/tiny-one/results.json"]);
    let page = std::fs::read_to_string(path.join("page.md")).unwrap();
    assert!(page.contains("| style helps | play nats a step | `deepj` lower than `no style` |"), "{page}");
    assert!(page.contains("--report page.md runs/tiny-one/results.json"), "{page}");
}

#[test]
fn a_changed_experiment_or_corpus_is_refused() {
    let dir = with_experiment(|text| text.replace("seeds = [0, 1]", "seeds = [0]").replace("steps = 6", "steps = 2"));
    let path = dir.path();
    fails(path, &["experiment", FILE, "--table"], 1, &["runs/tiny-one/experiment.toml"]);
    succeeds(path, &["experiment", FILE]);
    let before = std::fs::read_to_string(path.join(FILE)).unwrap();
    for (old, new, what) in [
        ("seeds = [0]", "seeds = [0, 1]", "seeds"),
        ("steps = 2", "steps = 3", "[budget]"),
        ("bars = 1", "bars = 2", "[samples]"),
        ("style = \"none\"", "style = \"input\"", "configuration `no style`"),
        ("seq = 16", "seq = 32", "configuration `silent`"),
        ("name = \"no style\"", "name = \"other\"", "configuration `no style`"),
    ] {
        let changed = before.replace(old, new).replace(
            "against = \"no style\"\nmeasure = \"play_nats_per_step\"",
            "against = \"silent\"\nmeasure = \"longest_rest\"",
        );
        std::fs::write(path.join(FILE), changed).unwrap();
        for more in [&[][..], &["--table"]] {
            let arguments = [&["experiment", FILE], more].concat();
            fails(path, &arguments, 2, &[what, "experiment.toml", "--out"]);
        }
    }
    // Words make no other runs.
    std::fs::write(path.join(FILE), before.replace("style helps", "style is good") + "# A remark.\n").unwrap();
    let said = succeeds(path, &["experiment", FILE, "--json"]);
    assert!(said.contains("style is good"), "{said}");
    corpus(&path.join("other"), 5, 4, 50);
    fails(path, &["experiment", FILE, "--data", "other"], 2, &["another corpus", "other", "--data"]);
}

#[test]
fn what_is_wrong_with_an_experiment_is_said_before_the_first_run() {
    let claim = |text: &str| text.replace("measure = \"play_nats_per_step\"", "measure = \"play_nats_per_stp\"");
    type Change = (&'static str, &'static str, &'static [&'static str]);
    let changes: [Change; 27] = [
        ("seeds =", "sedes =", &["line", "`sedes`", "did you mean `seeds`?"]),
        ("batch =", "bacth =", &["`bacth`", "did you mean `batch`?"]),
        ("steps =", "step =", &["`step`", "did you mean `steps`?"]),
        ("pieces = 1", "pieces = 0", &["[samples]", "0 pieces"]),
        ("seeds = [0, 1]", "seeds = []", &["no seeds", "seeds = [0, 1, 2]"]),
        ("seeds = [0, 1]", "seeds = [1, 1]", &["seed 1 comes twice"]),
        ("steps = 6", "steps = 0", &["[budget] is of nothing"]),
        ("steps = 6", "", &["[budget] is of nothing", "steps or minutes"]),
        ("steps = 6", "minutes = 0.0", &["[budget] is of nothing"]),
        ("steps = 6", "steps = 6\nminutes = 1.0", &["give one of them"]),
        ("validate-every = 2", "validate-every = 0", &["configuration `deepj`", "--validate-every"]),
        ("\"no style\"\nset", "\"deepj\"\nset", &["two configurations are named `deepj`"]),
        ("\"no style\"\nset", "\"...\"\nset", &["`...`", "letters or digits"]),
        ("batch = 2", "batch = 2\nmodel = \"deepjay\"", &["there is no model `deepjay`", "did you mean `deepj`?"]),
        ("batch = 2", "batch = 2\noptimizer = \"nada\"", &["optimiser `nada`", "did you mean `nadam`?"]),
        ("batch = 2", "batch = 2\npreset = \"big\"", &["no preset `big`", "small"]),
        ("{ style", "{ stile", &["configuration `no style`", "stile: no such field", "did you mean `style`?"]),
        ("\"none\"", "\"non\"", &["configuration `no style`", "`non`", "did you mean `none`?"]),
        ("baseline = \"deepj\"", "baseline = \"depj\"", &["baseline", "did you mean `deepj`?"]),
        ("batch = 2", "batch = \"two\"", &["line 13: batch: invalid type"]),
        ("\"no style\"\nset", "\"results.json\"\nset", &["`results.json` has the name of a file"]),
        ("style = \"none\" }", "style = \"none\" }\nnotes = \"40..=60\"", &["style helps", "other rolls", "36..=83"]),
        ("style = \"none\" }", "style = \"none\" }\nsplit-seed = 3", &["style helps", "other rolls", "split-seed"]),
        ("measure = \"play_nats_per_step\"", "measure = \"style_effect\"", &["`no style` has no `style_effect`"]),
        ("against = \"no style\"", "against = \"silent\"", &["`silent` has no `play_nats_per_step`"]),
        ("model-of = \"deepj\"", "model-of = \"silent\"", &["model-of", "is trained"]),
        ("model-of = \"deepj\"", "model-of = \"deepj\"\nlr = 0.1", &["`silent`", "`model-of`", "leave out"]),
    ];
    for (old, new, texts) in changes {
        let dir = with_experiment(|text| {
            assert!(text.contains(old), "{old}");
            text.replacen(old, new, 1)
        });
        fails(dir.path(), &["experiment", FILE], 2, &[&[FILE], texts].concat());
        assert!(!dir.path().join("runs").exists(), "{new}");
    }
    let dir = with_experiment(|text| claim(&text));
    fails(dir.path(), &["experiment", FILE], 2, &["style helps", "did you mean `play_nats_per_step`?"]);
    let dir = with_experiment(|text| text.replace("against = \"no style\"", "against = \"no stile\""));
    fails(dir.path(), &["experiment", FILE], 2, &["style helps", "did you mean `no style`?"]);
    let path = dir.path();
    fails(path, &["experiment", "none.toml"], 1, &["none.toml"]);
    fails(path, &["experiment", FILE, "other.toml"], 2, &["--report"]);
    std::fs::write(path.join("bad.json"), "{}").unwrap();
    fails(path, &["experiment", "--report", "page.md", "bad.json"], 1, &["bad.json", "results"]);
    assert!(!path.join("page.md").exists());
}

/// A training that diverges is a result, and costs the others nothing.
#[test]
fn a_run_that_diverges_is_told_and_the_others_are_made() {
    let dir = with_experiment(|text| text.replace("set = { style = \"none\" }", "lr = 1e38"));
    let path = dir.path();
    for _ in 0..2 {
        fails(path, &["experiment", FILE], 1, &["2 of 6 runs failed"]);
        let results = Results::read(&path.join("runs/tiny-one/results.json")).unwrap();
        assert_eq!(results.runs.len(), 6);
        assert!(results.runs.iter().all(|run| run.failure.is_some() == (run.configuration == "no style")));
        let table = std::fs::read_to_string(path.join("runs/tiny-one/results.md")).unwrap();
        assert!(table.contains("`no style`, seed 1, failed: "), "{table}");
    }
}

#[cfg(unix)]
#[test]
fn kills_and_signals_in_the_middle_change_no_table() {
    use crate::signals::{send, wait_until};

    let dir = with_experiment(|text| text.replace("steps = 6", "steps = 100").replace("every = 2", "every = 10"));
    let path = dir.path();
    succeeds(path, &["experiment", FILE, "--out", "whole"]);
    let whole = tables(&path.join("whole"));
    let started = || -> Child {
        let mut command = program(path, &["experiment", FILE, "--out", "cut"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    // In the middle of a first run and of a later one, and once more soon after a start.
    for (run, signal) in
        [("deepj/seed-0", "KILL"), ("no-style/seed-0", "INT"), ("deepj/seed-1", "KILL"), ("deepj/seed-1", "TERM")]
    {
        let last = path.join("cut").join(run).join("last.safetensors");
        let saved = || std::fs::metadata(&last).and_then(|file| file.modified()).ok();
        let before = saved();
        let mut child = started();
        wait_until(&mut child, run, || saved() != before);
        send(&child, signal);
        let output = child.wait_with_output().unwrap();
        let code = match signal {
            "INT" => Some(130),
            "TERM" => Some(143),
            _ => None,
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), code, "{run}: {said}");
        assert!(code.is_none() || said.contains("of 6 runs are done; the same command goes on"), "{said}");
    }
    succeeds(path, &["experiment", FILE, "--out", "cut"]);
    assert_eq!(tables(&path.join("cut")), whole);
}

/// A limit on the size of files is as a full disk: see `faults.rs`.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_in_the_middle_changes_no_table() {
    use std::process::Command;

    use crate::started_by;

    if Command::new("prlimit").arg("--version").output().is_err() {
        println!("skipped: prlimit is missing");
        return;
    }
    let dir = with_experiment(|text| text);
    let path = dir.path();
    succeeds(path, &["experiment", FILE, "--out", "whole"]);
    let whole = tables(&path.join("whole"));
    let largest = std::fs::metadata(path.join("whole/deepj/seed-0/last.safetensors")).unwrap().len();
    // Too small for the copy of the experiment, a curve, a checkpoint, the results.
    for limit in [500, 1200, 2000, 3000, largest - 1] {
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh", "prlimit", &format!("--fsize={limit}")]);
        let output = started_by(shell, &program(path, &["experiment", FILE, "--out", "cut"])).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains("error: ") && !said.contains("panicked"), "{said}");
    }
    succeeds(path, &["experiment", FILE, "--out", "cut"]);
    assert_eq!(tables(&path.join("cut")), whole);
}

#[test]
fn one_process_at_a_time_works_on_an_experiment() {
    let dir = with_experiment(|text| text);
    let path = dir.path();
    std::fs::create_dir_all(path.join("out")).unwrap();
    let lock = deepj::files::FileLock::acquire(&path.join("out")).unwrap();
    fails(path, &["experiment", FILE, "--out", "out"], 1, &[&format!("process {}", std::process::id())]);
    drop(lock);
}

/// The repository's own experiments.
fn experiments() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments")
}

#[test]
fn the_quick_experiment_runs() {
    let text = std::fs::read_to_string(experiments().join("quick.toml")).unwrap();
    let shorter = text.replace("steps = 120", "steps = 2").replace("validate-every = 40", "validate-every = 2");
    assert_ne!(text, shorter);
    let dir = folder();
    std::fs::write(dir.path().join("quick.toml"), shorter.replace("[0, 1, 2]", "[0, 1]")).unwrap();
    succeeds(dir.path(), &["experiment", "quick.toml"]);
    let results = Results::read(&dir.path().join("runs/quick/results.json")).unwrap();
    assert!(results.runs.len() == results.planned() && results.runs.iter().all(|run| run.failure.is_none()));
    // Each of its claims has figures.
    for claim in &results.claims {
        let differences = results.differences(&claim.configuration, &claim.against, &claim.measure);
        assert_eq!(differences.len(), 2, "{claim:?}");
    }
}

#[test]
fn the_experiment_in_the_documentation_can_be_read() {
    let page = std::fs::read_to_string(experiments().join("../docs/EXPERIMENTS.md")).unwrap();
    let (_, after) = page.split_once("```toml\n").unwrap();
    let dir = folder();
    let path = dir.path().join("page.toml");
    std::fs::write(&path, after.split("```").next().unwrap()).unwrap();
    assert_eq!(Experiment::read(&path).unwrap().runs().len(), 9);
}

#[test]
fn the_papers_experiment_can_be_read() {
    let paper = Experiment::read(&experiments().join("paper.toml")).unwrap();
    assert!(paper.claims.len() >= 8, "{:?}", paper.claims);
    deepj::experiment::check(&paper, &cpu(), &KernelSelection::default()).unwrap();
}

/// Figures that do not mean the same are not compared, and a configuration that fails with some seeds is not judged by the others.
#[test]
fn verdicts_are_of_what_can_be_compared() {
    let dir =
        with_experiment(|text| text.replace("[[claim]]", MORE).replace("\"silent\"\nmodel-of", "\"still\"\nmodel-of"));
    let path = dir.path();
    succeeds(path, &["experiment", FILE]);
    let file = path.join("runs/tiny-one/results.json");
    let results = Results::read(&file).unwrap();
    let compared = |against: &str, measure: &str| results.differences("deepj", against, measure).len();
    assert_eq!([compared("no style", "loss"), compared("no style", "replay_bce")], [2, 2]);
    assert_eq!([compared("narrow", "play_nats_per_step"), compared("narrow", "longest_rest")], [0, 2]);
    assert_eq!([compared("no masks", "play_nats_per_step"), compared("no masks", "loss")], [2, 0]);
    assert_eq!([compared("no masks", "replay_bce"), compared("no masks", "dynamics_nats_per_step")], [0, 0]);
    assert_eq!([compared("biaxial", "mean_velocity"), compared("biaxial", "mean_polyphony")], [0, 2]);
    assert!(path.join("runs/tiny-one/biaxial/seed-0/sample-biaxial-1.mid").exists());

    let text = std::fs::read_to_string(&file).unwrap();
    let mut changed: Value = serde_json::from_str(&text).unwrap();
    let write = |value: &Value| std::fs::write(path.join("changed.json"), value.to_string()).unwrap();
    let page = || {
        succeeds(path, &["experiment", "--report", "page.md", "changed.json"]);
        std::fs::read_to_string(path.join("page.md")).unwrap()
    };
    let set = |changed: &mut Value, name: &str, by: &dyn Fn(usize) -> Value| {
        let runs = changed["runs"].as_array_mut().unwrap().iter_mut().filter(|run| run["configuration"] == name);
        runs.enumerate().for_each(|(i, run)| run["validation"]["play_nats_per_step"] = by(i));
    };
    set(&mut changed, "deepj", &|i| (i as f64).into());
    set(&mut changed, "no style", &|i| (i as f64 + 1.0).into());
    write(&changed);
    assert!(page().contains("| 2 of 2 | confirmed |"), "{}", page());
    let failed = changed["runs"].as_array_mut().unwrap().iter_mut();
    let mut failed = failed.filter(|run| run["configuration"] == "no style");
    failed.next().unwrap()["failure"] = "the loss is not finite".into();
    write(&changed);
    assert!(page().contains("undecided: 1 failed"), "{}", page());
    let twice = changed["runs"][0].clone();
    changed["runs"].as_array_mut().unwrap().push(twice);
    write(&changed);
    fails(path, &["experiment", "--report", "page.md", "changed.json"], 1, &["changed.json", "comes twice"]);
    let same = "runs/tiny-one/results.json";
    fails(path, &["experiment", "--report", "page.md", same, same], 2, &["is named twice"]);
}

/// More configurations, which differ in what their figures mean.
const MORE: &str = r#"
[[configuration]]
name = "narrow"
notes = "40..=60"

[[configuration]]
name = "no masks"
set = { masked_losses = false }

[[configuration]]
name = "biaxial"
model = "biaxial"
notes = "36..=83"
set = { time_units = [8, 8], note_units = [8, 8] }

[[claim]]"#;

/// The folder of a run may hold one that another command has begun.
#[test]
fn a_run_of_other_settings_is_not_taken_for_one_of_the_experiment() {
    let dir = with_experiment(|text| text);
    let path = dir.path();
    let tiny = TINY_SETTINGS.iter().flat_map(|setting| ["--set", setting]);
    let begin = |more: &[&str]| {
        let fixed =
            ["train", "--data", "corpus", "--out", "runs/tiny-one/deepj/seed-0", "--samples", "0", "--device", "cpu"];
        let sizes = ["--batch", "2", "--seq", "16", "--validate-every", "2"];
        succeeds(path, &[&fixed[..], &sizes, &tiny.clone().collect::<Vec<_>>(), more].concat());
    };
    begin(&["--steps", "2", "--optimizer", "adadelta"]);
    fails(path, &["experiment", FILE], 2, &["configuration `deepj`, seed 0", "--optimizer adadelta, not nadam"]);
    begin(&["--force", "--steps", "8"]);
    fails(path, &["experiment", FILE], 2, &["more updates than the budget", "begins anew"]);
    begin(&["--force", "--steps", "2"]);
    succeeds(path, &["experiment", FILE]);
}

const TINY_SETTINGS: [&str; 4] = ["time_units=8", "note_units=8", "filters=4", "style_width=4"];

/// `docs/PAPER.md` is what the command makes of the results that are there, but for those of the weights, which are in docs/WEIGHTS.md
/// (builtin.rs).
#[test]
fn the_page_of_claims_is_made_of_the_committed_results() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries = std::fs::read_dir(experiments().join("results")).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    let is_of_paper = |name: &String| name.contains(".json") && !name.starts_with("weights-");
    let mut files: Vec<String> = names.filter(is_of_paper).map(|name| format!("experiments/results/{name}")).collect();
    files.sort();
    let page = root.join("docs/PAPER.md");
    if files.is_empty() {
        assert!(!page.exists(), "docs/PAPER.md has no results that it is made of");
        return;
    }
    let results: Vec<Source> = files.iter().map(|file| Source::read(&root.join(file)).unwrap()).collect();
    let command = format!("deepj experiment --report docs/PAPER.md {}", files.join(" "));
    let made = deepj::experiment::page(&results, &command);
    assert!(std::fs::read_to_string(page).unwrap() == made, "docs/PAPER.md is not what `{command}` makes");
}

/// They could block for ever, or never end.
#[test]
fn what_is_no_experiment_by_its_kind_or_size_is_not_read() {
    let dir = folder();
    fails(dir.path(), &["experiment", "."], 1, &["error: .: is not an ordinary file", "a file in TOML"]);
    std::fs::write(dir.path().join("large.toml"), vec![b'#'; (1 << 20) + 1]).unwrap();
    fails(dir.path(), &["experiment", "large.toml"], 1, &["large.toml: has more than the 1048576 bytes"]);
}
