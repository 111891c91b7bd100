//! A training that is cut at many places is the uninterrupted one to the bit, whatever cut it.

use std::path::Path;

use deepj::checkpoint::StopConditions;
use deepj::train::{ResumeMode, TrainOptions};

use crate::states::Uninterrupted;
use crate::{folder, random, repeats, run_quietly, tiny};

/// All ways to take windows and to store values whose states differ.
const KINDS: [(&str, &str); 4] =
    [("stateful", "f32"), ("windowed", "f32"), ("stateful", "mixed"), ("windowed", "mixed")];

/// A tiny training of a kind.
fn tiny_of(dir: &Path, (bptt, precision): (&str, &str)) -> TrainOptions {
    TrainOptions { bptt: bptt.parse().ok(), precision: precision.parse().ok(), ..tiny(dir, 1) }
}

#[test]
fn a_training_cut_at_many_places_is_the_uninterrupted_one() {
    let mut seed = 1;
    for kind in KINDS {
        let dir = folder();
        let options = tiny_of(dir.path(), kind);
        let mut training = Uninterrupted::new(&options);
        let mut step = 0;
        for _ in 0..repeats(10, 50) {
            step += 1 + random(&mut seed) % 6;
            let budget = StopConditions { steps: Some(step), ..StopConditions::default() };
            run_quietly(&TrainOptions { resume: ResumeMode::Auto, budget, ..options.clone() }).unwrap();
            assert_eq!(training.check(&dir.path().join("run")), Some(step), "{kind:?}");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_training_that_signals_end_is_the_uninterrupted_one() {
    use std::process::Stdio;
    use std::time::Duration;

    use crate::signals::{hangups_are_ignored, send, wait_until};
    use crate::{program, tiny_arguments};

    let mut seed = 2;
    for kind in KINDS {
        let dir = folder();
        let path = dir.path();
        let mut training = Uninterrupted::new(&tiny_of(path, kind));
        let more = ["--resume", "auto", "--steps", "100000000", "--bptt", kind.0, "--precision", kind.1];
        let arguments = tiny_arguments(&[&more[..], &["--validate-every", "2000"]].concat());
        let run = path.join("run");
        let mut before = None;
        for signal in ["INT", "TERM", "HUP", "USR1"].repeat(repeats(1, 12)) {
            if signal == "HUP" && hangups_are_ignored() {
                println!("skipped: these tests run under nohup or the like, and so do the programs they start");
                continue;
            }
            let length = || std::fs::metadata(run.join("curve.jsonl")).map_or(0, |file| file.len());
            let old = length();
            let mut child = program(path, &arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            wait_until(&mut child, "update", || length() > old);
            std::thread::sleep(Duration::from_micros(random(&mut seed) % 50_000));
            let last = run.join("last.safetensors");
            let changed = || std::fs::metadata(&last).and_then(|file| file.modified()).ok();
            let old = changed();
            send(&child, signal);
            if signal == "USR1" {
                // The signal has it saved, and nothing more is before the kill.
                wait_until(&mut child, "checkpoint", || changed() != old);
                child.kill().unwrap();
            }
            let status = child.wait().unwrap();
            assert_eq!(status.code().is_none(), signal == "USR1", "{signal}: {status}");
            let step = training.check(&run);
            assert!(step > before, "{signal}: {before:?} was saved, {step:?} is left");
            before = step;
        }
    }
}
