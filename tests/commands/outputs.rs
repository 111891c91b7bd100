//! Files that commands write: a name is a promise, and nothing that is read or worth something is written over.

use serde_json::Value;

use crate::{corpus, deepj, fails, folder, succeeds, tiny_arguments};

fn with_run() -> tempfile::TempDir {
    let dir = folder();
    corpus(&dir.path().join("corpus"), 4, 4, 48);
    succeeds(dir.path(), &tiny_arguments(&["--steps", "2"]));
    dir
}

const GENERATE: [&str; 7] = ["generate", "--checkpoint", "run", "--bars", "1", "--seed", "1"];

#[test]
fn what_cannot_be_written_as_asked_is_refused_before_the_work() {
    let dir = with_run();
    let path = dir.path();
    let best = path.join("run/best.safetensors");
    let before = std::fs::read(&best).unwrap();
    std::fs::hard_link(&best, path.join("linked.mid")).unwrap();
    std::fs::copy(path.join("corpus/plain/smith/0.mid"), path.join("in.mid")).unwrap();
    let generate = |more: &[&'static str]| [&GENERATE[..], more].concat();
    for (arguments, code, text) in [
        (generate(&["-o", "piece.wav"]), 2, "only as .mid"),
        (generate(&["-o", "run/best.safetensors"]), 2, "only as .mid"),
        (generate(&["-o", "linked.mid"]), 1, "is read by this command"),
        (generate(&["-o", "in.mid", "--prime", "in.mid"]), 1, "is read by this command"),
        (generate(&["-o", "none/none/piece.mid"]), 1, "cannot be written"),
        (generate(&["-o", "corpus"]), 1, "is a folder"),
        (generate(&["-o", "-", "--json"]), 2, "standard output"),
        (generate(&["-o", "-", "--count", "2"]), 2, "standard output"),
        (generate(&["--count", "100000000000"]), 2, "1 to 1000 pieces"),
        (vec!["roll", "in.mid", "-o", "./in.mid"], 1, "is read by this command"),
        (vec!["roll", "in.mid", "--svg", "in.png"], 2, "only as .svg"),
        (vec!["roll", "in.mid", "-o", "both", "--svg", "both"], 1, "written twice"),
        (vec!["profile", "train", "--format", "csv", "-o", "figures.json"], 2, "only as .csv"),
        (vec!["verify", "--report", "report.txt"], 2, "only as .json"),
        (vec!["verify", "--report", "-"], 2, "use --json"),
        (vec!["roll", "in.mid", "-o", "-", "--json"], 2, "standard output"),
        (vec!["roll", "in.mid", "-o", "-", "--svg", "-"], 2, "two outputs on standard output"),
    ] {
        fails(path, &arguments, code, &[text]);
    }
    assert_eq!(std::fs::read(best).unwrap(), before);
    assert!(!path.join("none").exists());
    let output = deepj(path, &generate(&["-o", "made/piece.mid"]));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("made the folder made"), "{said}");
}

/// A folder in which nobody can make a file, not even the superuser that tests may run as.
#[cfg(target_os = "linux")]
#[test]
fn folders_are_tried_before_the_work() {
    let dir = with_run();
    let began = std::time::Instant::now();
    let much = ["--bars", "5000", "--count", "1000", "-o", "/proc/piece.mid"];
    fails(
        dir.path(),
        &[&["generate", "--checkpoint", "run"][..], &much].concat(),
        1,
        &["/proc/piece", "cannot be written"],
    );
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "it was composed first");
}

#[test]
fn a_piece_goes_to_standard_output() {
    let dir = with_run();
    let output = deepj(dir.path(), &[&GENERATE[..], &["-o", "-"]].concat());
    assert!(output.status.success());
    succeeds(dir.path(), &[&GENERATE[..], &["-o", "piece.mid"]].concat());
    let piece = std::fs::read(dir.path().join("piece.mid")).unwrap();
    assert_eq!(output.stdout, piece);
    let output = deepj(dir.path(), &["roll", "piece.mid", "-o", "-"]);
    succeeds(dir.path(), &["roll", "piece.mid", "-o", "heard.mid"]);
    assert_eq!(output.stdout, std::fs::read(dir.path().join("heard.mid")).unwrap(), "and nothing else");
}

#[test]
fn a_long_style_makes_no_name_too_long() {
    let dir = with_run();
    let style = ["smith:1"; 60].join(",");
    let printed =
        succeeds(dir.path(), &["generate", "--checkpoint", "run", "--bars", "1", "--style", &style, "--json"]);
    let printed: Value = serde_json::from_str(&printed).unwrap();
    assert!(dir.path().join(printed[0]["file"].as_str().unwrap()).exists(), "{printed}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_name_may_be_as_long_as_the_system_takes() {
    let dir = with_run();
    let long = format!("{}.mid", "n".repeat(251));
    succeeds(dir.path(), &[&GENERATE[..], &["-o", &long]].concat());
    assert!(dir.path().join(&long).exists());
    let longer = format!("{}.mid", "n".repeat(252));
    fails(dir.path(), &[&GENERATE[..], &["-o", &longer]].concat(), 1, &["cannot be written"]);
}

#[test]
fn samples_that_are_too_long_are_refused_before_the_training() {
    let dir = folder();
    corpus(&dir.path().join("corpus"), 4, 4, 48);
    let train = ["train", "--data", "corpus", "--out", "run", "--steps", "1", "--samples", "6000"];
    fails(dir.path(), &train, 2, &["--samples 6000", "5000 bars"]);
    assert!(!dir.path().join("run").exists());
}

#[test]
fn names_beyond_utf8_work_in_json_too() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let dir = with_run();
    let name = OsStr::from_bytes(b"caf\xe9.mid");
    let mut command = crate::program(dir.path(), &GENERATE);
    let output = command.args(["--count", "2", "--json", "-o"]).arg(name).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed[1]["file"], "caf\\xE9-2.mid");
    assert!(dir.path().join(OsStr::from_bytes(b"caf\xe9-2.mid")).exists());
}
