//! Signals, and a standard error that nobody reads: neither may cost work.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{corpus, folder, program, started_by, succeeds, tiny_arguments};

pub fn send(child: &Child, signal: &str) {
    let sent = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// Waits until `met`, as long as the process runs.
pub fn wait_until(child: &mut Child, what: &str, met: impl Fn() -> bool) {
    let began = Instant::now();
    while !met() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before {what}");
        assert!(began.elapsed() < Duration::from_secs(120), "no {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn printed(child: &mut Child) -> String {
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    out
}

/// Whether programs that this process starts ignore SIGHUP, where the system tells.
pub fn hangups_are_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

/// `deepj` by a shell, which sets up something before: `program arguments` stand for `"$@"` in `script`.
fn by_shell(dir: &Path, script: &str, arguments: &[&str]) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]);
    started_by(shell, &program(dir, arguments))
}

/// A training without end in `dir`, which has saved once.
fn endless(mut command: Command, dir: &Path) -> Child {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    wait_until(&mut child, "checkpoint", || dir.join("run/last.safetensors").exists());
    child
}

const ENDLESS: [&str; 5] = ["--steps", "100000000", "--validate-every", "50", "--json"];

/// The number of updates in the last checkpoint.
fn saved(dir: &Path) -> Option<u64> {
    let inspected: Value =
        serde_json::from_str(&succeeds(dir, &["inspect", "run/last.safetensors", "--json"])).unwrap();
    inspected["progress"]["step"].as_u64()
}

#[test]
fn signals_save_and_end_with_codes_of_their_own() {
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        if signal == "HUP" && hangups_are_ignored() {
            println!("skipped: these tests run under nohup or the like, and so do the programs they start");
            continue;
        }
        let dir = folder();
        let path = dir.path();
        corpus(&path.join("corpus"), 4, 4, 48);
        let mut child = endless(program(path, &tiny_arguments(&ENDLESS)), path);
        send(&child, signal);
        let out = printed(&mut child);
        assert_eq!(child.wait().unwrap().code(), Some(code), "{signal}");
        let out: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(out["end"].as_str(), Some("interrupted"), "{signal}");
        assert_eq!(saved(path), out["step"].as_u64(), "{signal}: saved where it stopped");
    }
}

#[test]
fn sigusr1_saves_and_training_goes_on() {
    let dir = folder();
    let path = dir.path();
    corpus(&path.join("corpus"), 4, 4, 48);
    let rarely = ["--steps", "100000000", "--validate-every", "100000000"];
    let mut child =
        program(path, &tiny_arguments(&rarely)).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until(&mut child, "curve", || path.join("run/curve.jsonl").exists());
    send(&child, "USR1");
    wait_until(&mut child, "checkpoint", || path.join("run/last.safetensors").exists());
    let first = saved(path).unwrap();
    let before = std::fs::metadata(path.join("run/curve.jsonl")).unwrap().len();
    wait_until(&mut child, "update", || std::fs::metadata(path.join("run/curve.jsonl")).unwrap().len() > before);
    send(&child, "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(saved(path).unwrap() > first);
}

/// As `nohup` starts it.
#[test]
fn a_hangup_that_was_to_be_ignored_is_ignored() {
    let dir = folder();
    let path = dir.path();
    corpus(&path.join("corpus"), 4, 4, 48);
    let mut child = endless(by_shell(path, "trap '' HUP; exec \"$@\"", &tiny_arguments(&ENDLESS)), path);
    send(&child, "HUP");
    let before = std::fs::metadata(path.join("run/curve.jsonl")).unwrap().len();
    wait_until(&mut child, "update", || {
        std::fs::metadata(path.join("run/curve.jsonl")).unwrap().len() > before + 10_000
    });
    send(&child, "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

#[test]
fn what_was_composed_until_a_signal_is_written() {
    let dir = folder();
    let path = dir.path();
    corpus(&path.join("corpus"), 4, 4, 48);
    succeeds(path, &tiny_arguments(&["--steps", "2"]));
    let many = ["generate", "--checkpoint", "run", "--bars", "5000", "--count", "8", "-o", "piece.mid", "--json"];
    let mut child = program(path, &many).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(700));
    send(&child, "TERM");
    let out = printed(&mut child);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    let out: Value = serde_json::from_str(&out).unwrap();
    let pieces = out.as_array().unwrap();
    assert!(pieces.len() == 8 && pieces.iter().all(|piece| piece["interrupted"] == true), "{out}");
    assert!(path.join("piece-1.mid").exists() && path.join("piece-8.mid").exists());
}

/// Endings take most of the time of short pieces, so a signal in the middle comes while they are chosen.
#[test]
fn a_signal_while_endings_are_chosen_tells_which_pieces_are_shorter() {
    let dir = folder();
    let path = dir.path();
    let arguments = [
        "generate",
        "--checkpoint",
        "builtin",
        "--bars",
        "4",
        "--count",
        "6",
        "--seed",
        "1",
        "--json",
        "-o",
        "piece.mid",
    ];
    let began = Instant::now();
    succeeds(path, &arguments);
    let takes = began.elapsed();
    for part in [0.6, 0.4, 0.8, 0.5, 0.7, 0.3, 0.9] {
        let mut child = program(path, &arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(takes.mul_f64(part));
        if child.try_wait().unwrap().is_none() {
            send(&child, "INT");
        }
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let Some(line) = said.lines().find(|line| line.starts_with("interrupted while endings were chosen")) else {
            // Too early or too late: this machine does something else too.
            continue;
        };
        assert_eq!(output.status.code(), Some(130), "{said}");
        let pieces: Value = serde_json::from_slice(&output.stdout).unwrap();
        let short = pieces.as_array().unwrap().iter().filter(|piece| piece["steps"] == 32);
        let names: Vec<&str> = short.map(|piece| piece["file"].as_str().unwrap()).collect();
        let told = format!("{} of 6 pieces have none and are 2 bars shorter: {}", names.len(), names.join(", "));
        assert!(!names.is_empty() && line.ends_with(&told), "{line}, and short are {names:?}");
        return;
    }
    panic!("no signal came while endings were chosen");
}

/// Where Debian's package `chromium` has SwiftShader. Other drivers in software compute within the submission.
const SWIFTSHADER: &str = "/usr/lib/chromium/vk_swiftshader_icd.json";

/// Whoever wants to stop cannot tell a GPU that hangs from one that is far too slow: here SwiftShader, in the first update at the
/// paper's size.
#[test]
fn a_signal_ends_a_command_whose_gpu_does_not_answer() {
    if !Path::new(SWIFTSHADER).exists() {
        println!("skipped: no SwiftShader here");
        return;
    }
    let dir = folder();
    let path = dir.path();
    corpus(&path.join("corpus"), 4, 40, 48);
    let paper = ["--preset", "paper", "--batch", "8", "--seq", "128", "--tune", "off", "--device", "swiftshader"];
    let once = ["train", "--data", "corpus", "--out", "run", "--steps", "1", "--samples", "0"];
    let arguments = [&once[..], &paper].concat();
    let mut command = program(path, &arguments);
    let mut child = command.env("VK_ADD_DRIVER_FILES", SWIFTSHADER).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let Some(said) = lines.by_ref().find(|line| line.contains("the GPU has finished nothing for 10 s")) else {
        assert!(child.wait().unwrap().success());
        println!("skipped: SwiftShader makes an update at the paper's size in less than 10 s here");
        return;
    };
    assert!(said.starts_with("note: ") && said.contains("given up after 3600 s"), "{said}");
    let began = Instant::now();
    send(&child, "INT");
    let rest = lines.collect::<Vec<_>>().join("\n");
    assert_eq!(child.wait().unwrap().code(), Some(1), "{rest}");
    // What is under way gets 5 s, and the end of it no more than as long again.
    let seconds = began.elapsed().as_secs_f64();
    assert!((5.0..10.0).contains(&seconds), "{seconds} s");
    let why = "the GPU does not answer: it has finished nothing for 1";
    for text in ["error: training after update 0: ", why, "--device", "this run has written no checkpoint yet"] {
        assert!(rest.contains(text), "no '{text}' in: {rest}");
    }
    assert!(!rest.contains("panicked"), "{rest}");
}

#[test]
fn a_second_signal_ends_at_once() {
    let dir = folder();
    let path = dir.path();
    corpus(&path.join("corpus"), 4, 40, 48);
    // An update takes the CPU many seconds.
    let paper = ["--preset", "paper", "--batch", "8", "--seq", "128"];
    let arguments = [&["train", "--data", "corpus", "--out", "run"], &paper[..]].concat();
    let mut child = program(path, &arguments).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let beginning = lines.by_ref().find(|line| line.contains("parameters on cpu")).expect("the beginning");
    assert!(beginning.contains(" an update in 4 parts, "), "{beginning}");
    send(&child, "TERM");
    lines.by_ref().find(|line| line.contains("stopping and saving")).expect("an answer");
    let began = Instant::now();
    send(&child, "INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn a_standard_error_that_takes_nothing_costs_no_work() {
    let scripts = ["exec \"$@\" 2>&-", "exec \"$@\" 2>/dev/full", "{ \"$@\"; echo $? >code; } 2>&1 >/dev/null | true"];
    for script in scripts.iter().filter(|script| !script.contains("/dev/full") || Path::new("/dev/full").exists()) {
        let dir = folder();
        let path = dir.path();
        corpus(&path.join("corpus"), 4, 4, 48);
        let arguments = tiny_arguments(&["--steps", "20", "--validate-every", "5"]);
        let output = by_shell(path, script, &arguments).output().unwrap();
        assert!(output.status.success(), "{script}: {:?}", output.status);
        if let Ok(code) = std::fs::read_to_string(path.join("code")) {
            assert_eq!(code.trim(), "0", "{script}");
        }
        assert_eq!(saved(path), Some(20), "{script}");
        succeeds(path, &["generate", "--checkpoint", "run", "--bars", "1", "-o", "piece.mid"]);
    }
}
