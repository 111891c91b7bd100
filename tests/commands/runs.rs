//! The folder of a run: it belongs to one process, and what it holds is one run's.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use deepj::checkpoint::Checkpoint;
use deepj::train::{Destination, ResumeMode, TrainOptions, prepare};

use crate::{corpus, cpu, deepj, fails, folder, program, run_quietly, succeeds, tiny, tiny_arguments};

fn begun(dir: &Path, more: &[&str]) -> Child {
    let mut child = program(dir, &tiny_arguments(&[&["--steps", "100000000"], more].concat()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while !dir.join("run/last.safetensors").exists() {
        assert!(child.try_wait().unwrap().is_none() && began.elapsed() < Duration::from_secs(120), "no checkpoint");
        std::thread::sleep(Duration::from_millis(10));
    }
    child
}

#[test]
fn a_run_under_way_is_left_alone_and_a_killed_one_is_not() {
    let dir = folder();
    let path = dir.path();
    corpus(&path.join("corpus"), 4, 4, 48);
    let mut child = begun(path, &["--validate-every", "20"]);
    let process = format!("process {}", child.id());
    fails(path, &["train", "--resume", "--out", "run", "--steps", "1"], 1, &[&process]);
    fails(path, &tiny_arguments(&["--force", "--steps", "1"]), 1, &[&process]);
    fails(path, &["generate", "--checkpoint", "run", "--bars", "1", "-o", "run/piece.mid"], 1, &[&process]);
    assert!(child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
    succeeds(path, &["generate", "--checkpoint", "run", "--bars", "1", "-o", "run/piece.mid"]);
    let step = Checkpoint::load(path.join("run/last.safetensors")).unwrap().progress.step;
    succeeds(path, &["train", "--resume", "--out", "run", "--steps", &(step + 1).to_string()]);
}

#[test]
fn runs_of_one_second_have_folders_of_their_own() {
    let dir = folder();
    let path = dir.path();
    corpus(&path.join("corpus"), 4, 4, 48);
    let arguments = tiny_arguments(&["--steps", "1"]);
    let unnamed: Vec<&str> = arguments.into_iter().filter(|argument| !["--out", "run"].contains(argument)).collect();
    let start = || program(path, &unnamed).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let children: Vec<Child> = (0..4).map(|_| start()).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let runs: Vec<_> = std::fs::read_dir(path.join("runs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(runs.len(), 4, "{runs:?}");
    assert!(runs.iter().all(|run| run.join("last.safetensors").exists()));
}

#[test]
fn force_removes_the_old_run_before_the_first_update() {
    let dir = folder();
    let path = dir.path();
    run_quietly(&tiny(path, 4)).unwrap();
    std::fs::write(path.join("run/sample-plain.mid"), "old").unwrap();
    std::fs::write(path.join("run/notes.txt"), "the user's").unwrap();
    // It ends in its second update, before its first checkpoint.
    let bad = TrainOptions { lr: Some(1e38), force: true, validate_every: Some(100), ..tiny(path, 9) };
    run_quietly(&bad).unwrap_err();
    let mut left: Vec<_> =
        std::fs::read_dir(path.join("run")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    left.retain(|name| !name.starts_with("events.") && name != ".lock");
    left.sort();
    assert_eq!(left, ["curve.jsonl", "notes.txt"]);
    fails(path, &["generate", "--checkpoint", "run", "--bars", "1"], 1, &["run"]);
}

#[test]
fn a_run_that_cannot_begin_replaces_nothing() {
    let dir = folder();
    let path = dir.path();
    run_quietly(&tiny(path, 4)).unwrap();
    let before = std::fs::read(path.join("run/last.safetensors")).unwrap();
    let forced = tiny_arguments(&["--force", "--variant", "gemm=none"]);
    fails(path, &forced, 2, &["none"]);
    assert_eq!(std::fs::read(path.join("run/last.safetensors")).unwrap(), before);
}

const AUTO: [&str; 6] = ["--resume", "auto", "--steps", "2", "--validate-every", "1"];

/// A new run in `run`, which holds the file `name` and no last checkpoint, is refused; `--resume auto` begins one, and keeps the
/// file as `kept`.
fn assert_kept_aside(path: &Path, name: &str, kept: &str) {
    let before = std::fs::read(path.join("run").join(name)).unwrap();
    let fresh = tiny_arguments(&["--steps", "2", "--validate-every", "1"]);
    fails(path, &fresh, 1, &[&format!("run/{name}"), "before its first checkpoint", "--resume auto", "--force"]);
    let output = deepj(path, &tiny_arguments(&AUTO));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains(&format!("run/{kept}")), "{said}");
    assert_eq!(std::fs::read(path.join("run").join(kept)).unwrap(), before);
    assert!(path.join("run/last.safetensors").exists());
}

#[test]
fn the_curve_of_a_run_without_a_checkpoint_is_kept() {
    let dir = folder();
    let path = dir.path();
    corpus(&path.join("corpus"), 4, 4, 48);
    std::fs::create_dir(path.join("run")).unwrap();
    std::fs::write(path.join("run/curve.jsonl"), "{\"kind\":\"train\",\"step\":1,\"loss\":0.5}\n").unwrap();
    assert_kept_aside(path, "curve.jsonl", "curve-1.jsonl");
    // One line for a first start and for the next ones.
    succeeds(path, &tiny_arguments(&AUTO));
    let out = tiny_arguments(&["--resume", "auto", "--steps", "3", "--validate-every", "1", "--json"]);
    let out: serde_json::Value = serde_json::from_str(&succeeds(path, &out)).unwrap();
    assert_eq!(out["step"], 3, "it went on");
    let curve = std::fs::read_to_string(path.join("run/curve.jsonl")).unwrap();
    assert_eq!(curve.matches("\"kind\":\"train\"").count(), 3);
}

#[test]
fn a_run_that_cannot_be_read_is_not_taken_for_none() {
    let dir = folder();
    let path = dir.path();
    corpus(&path.join("corpus"), 4, 4, 48);
    let mut auto = tiny_arguments(&AUTO);
    let out = auto.iter().position(|argument| *argument == "--out").unwrap();
    auto.drain(out..out + 2);
    let broken = path.join("runs/broken/last.safetensors");
    std::fs::create_dir_all(broken.parent().unwrap()).unwrap();
    std::fs::write(&broken, "broken").unwrap();
    fails(path, &auto, 1, &["no run with a last.safetensors", "runs/broken/last.safetensors is no checkpoint"]);
    std::fs::remove_file(broken).unwrap();
    succeeds(path, &auto);
    assert_eq!(std::fs::read_dir(path.join("runs")).unwrap().count(), 2, "a new run");
    succeeds(path, &auto);
    assert_eq!(std::fs::read_dir(path.join("runs")).unwrap().count(), 2, "the same again");
}

#[test]
fn a_curve_that_is_not_there_is_said() {
    let dir = folder();
    let path = dir.path();
    run_quietly(&tiny(path, 2)).unwrap();
    std::fs::remove_file(path.join("run/curve.jsonl")).unwrap();
    let output = deepj(path, &["train", "--resume", "--out", "run", "--steps", "3", "--samples", "0"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("run/curve.jsonl is missing; it begins again behind update 2"), "{said}");
}

/// Whoever gave no flag is not told of one.
#[test]
fn values_of_a_checkpoint_are_not_blamed_on_flags() {
    let dir = folder();
    let path = dir.path();
    run_quietly(&tiny(path, 2)).unwrap();
    let last = path.join("run/last.safetensors");
    let mut checkpoint = Checkpoint::load(&last).unwrap();
    checkpoint.settings.validate_every = 0;
    std::fs::write(&last, checkpoint.to_bytes().unwrap()).unwrap();
    let resume = ["train", "--resume", "--out", "run", "--steps", "3"];
    fails(path, &resume, 1, &["run/last.safetensors: was saved with --validate-every 0", "another checkpoint"]);
}

#[test]
fn the_best_model_of_a_run_without_a_last_checkpoint_is_kept() {
    let dir = folder();
    let path = dir.path();
    run_quietly(&tiny(path, 4)).unwrap();
    // As a full disk leaves it: the best is written first.
    std::fs::remove_file(path.join("run/last.safetensors")).unwrap();
    assert_kept_aside(path, "best.safetensors", "best-1.safetensors");
}

#[test]
fn a_run_is_locked_until_its_samples_are_composed() {
    let dir = folder();
    let path = dir.path();
    corpus(&path.join("corpus"), 4, 4, 48);
    let mut arguments = tiny_arguments(&["--steps", "2", "--validate-every", "1"]);
    let bars = 1 + arguments.iter().position(|argument| *argument == "--samples").unwrap();
    arguments[bars] = "5000";
    let mut child = program(path, &arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let (began, curve) = (Instant::now(), path.join("run/curve.jsonl"));
    while !std::fs::read_to_string(&curve).unwrap_or_default().contains("\"kind\":\"end\"") {
        assert!(child.try_wait().unwrap().is_none() && began.elapsed() < Duration::from_secs(120), "no end");
        std::thread::sleep(Duration::from_millis(10));
    }
    let process = format!("process {}", child.id());
    fails(path, &tiny_arguments(&["--force", "--steps", "1"]), 1, &[&process]);
    assert!(child.try_wait().unwrap().is_none(), "it was still composing");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A pipe blocks whoever opens it, and a file of this name may be anybody's.
#[test]
fn files_of_others_in_the_place_of_a_runs_are_refused() {
    let dir = folder();
    let path = dir.path();
    corpus(&path.join("corpus"), 4, 4, 48);
    std::fs::create_dir(path.join("run")).unwrap();
    let auto = tiny_arguments(&["--resume", "auto", "--steps", "1"]);
    let pipe = path.join("run/curve.jsonl");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    fails(path, &auto, 1, &["run/curve.jsonl", "is not an ordinary file"]);
    std::fs::remove_file(pipe).unwrap();
    std::fs::write(path.join("run/.lock"), "my own notes").unwrap();
    fails(path, &auto, 1, &["run/.lock", "is not a lock of this program"]);
    assert_eq!(std::fs::read_to_string(path.join("run/.lock")).unwrap(), "my own notes");
}

#[test]
fn what_was_asked_for_is_kept_when_a_run_goes_on() {
    let dir = folder();
    let path = dir.path();
    corpus(&path.join("corpus"), 4, 4, 48);
    let first = ["--steps", "2", "--save-every", "7", "--validate-every", "5", "--samples", "3"];
    let arguments: Vec<&str> = tiny_arguments(&first);
    // The last `--samples` counts.
    let zero = arguments.iter().position(|argument| *argument == "0").unwrap();
    let arguments: Vec<&str> =
        arguments.iter().enumerate().filter(|(i, _)| ![zero - 1, zero].contains(i)).map(|(_, a)| *a).collect();
    succeeds(path, &arguments);
    let options = TrainOptions {
        out: Some(path.join("run")),
        resume: ResumeMode::Always,
        data: Some(path.join("corpus")),
        ..TrainOptions::default()
    };
    let prepared = prepare(&options, &cpu()).unwrap();
    assert_eq!(prepared.destination, Destination::Resumed);
    assert_eq!((prepared.save_every, prepared.state.settings.validate_every), (7, 5));
    assert_eq!(prepared.state.settings.samples, Some(3));
}

#[test]
fn a_training_with_nothing_held_out_ends() {
    let dir = folder();
    let path = dir.path();
    corpus(&path.join("corpus"), 1, 4, 48);
    let mut options = TrainOptions { data: Some(path.join("corpus")), ..tiny(path, 1) };
    options.budget = deepj::checkpoint::StopConditions { patience: Some(3), ..Default::default() };
    let prepared = prepare(&options, &cpu()).unwrap();
    assert!(prepared.validation.is_empty() && prepared.state.settings.budget.epochs.is_some());
    assert!(prepared.notices.iter().any(|notice| notice.contains("stops after")), "{:?}", prepared.notices);
}

#[test]
fn evaluate_says_that_the_corpus_is_another() {
    let dir = folder();
    let path = dir.path();
    run_quietly(&tiny(path, 2)).unwrap();
    corpus(&path.join("other"), 5, 4, 50);
    let evaluate = |more: &[&str]| {
        let output = deepj(path, &[&["evaluate", "--checkpoint", "run", "--split", "all"], more].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(evaluate(&["--data", "other"]).contains("not the corpus of the training"));
    assert!(!evaluate(&[]).contains("not the corpus"));
}

/// A run of years, or a damaged number.
#[test]
fn absurd_seconds_panic_nowhere() {
    let dir = folder();
    let path = dir.path();
    run_quietly(&tiny(path, 2)).unwrap();
    let last = path.join("run/last.safetensors");
    let mut checkpoint = Checkpoint::load(&last).unwrap();
    checkpoint.progress.seconds = 1e300;
    std::fs::write(&last, checkpoint.to_bytes().unwrap()).unwrap();
    let output = deepj(path, &["train", "--resume", "--out", "run", "--steps", "3", "--samples", "0"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("panicked"), "{said}");
    let inspected =
        Command::new(env!("CARGO_BIN_EXE_deepj")).args(["inspect", "run"]).current_dir(path).output().unwrap();
    assert!(inspected.status.success(), "{}", String::from_utf8_lossy(&inspected.stderr));
}
