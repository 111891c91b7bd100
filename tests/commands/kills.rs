//! Trainings that save often, killed at any instant.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::states::{Uninterrupted, updates};
use crate::{corpus, folder, is_long, program, random, repeats, tiny, tiny_arguments};

/// Kills of one run.
const KILLS: usize = 25;

/// The files that a write which was cut off left in the folder.
pub fn temporaries(run: &Path) -> usize {
    let names = std::fs::read_dir(run).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.filter(|name| name.as_encoded_bytes().ends_with(b".tmp")).count()
}

#[test]
fn a_kill_leaves_the_old_checkpoint_or_the_new_one() {
    let dir = folder();
    corpus(&dir.path().join("corpus"), 4, 4, 48);
    let mut training = Uninterrupted::new(&tiny(dir.path(), 1));
    let (mut kills, mut cut_off, mut without, mut seed) = (0, 0, 0, 12);
    // The time of a start and a few updates here, so that kills fall on all of it.
    let began = Instant::now();
    assert!(go_on(dir.path(), "first", "20").status().unwrap().success());
    let whole = began.elapsed();
    for round in 0..repeats(2, 40) {
        let name = format!("run-{round}");
        let run = dir.path().join(&name);
        let mut before = None;
        for _ in 0..KILLS {
            let mut child = go_on(dir.path(), &name, "1000000").spawn().unwrap();
            std::thread::sleep(Duration::from_micros(random(&mut seed) % (whole.as_micros() as u64)));
            child.kill().unwrap();
            let status = child.wait().unwrap();
            assert!(!status.success(), "it was killed");
            kills += 1;
            let step = training.check(&run);
            assert!(step >= before, "update {before:?} was saved, {step:?} is left");
            before = step;
            without += usize::from(step.is_none());
            let left = temporaries(&run);
            assert!(left <= 2, "{left} temporary files gather");
            cut_off += left;
        }
        let end = before.unwrap_or(0) + 2;
        let out = go_on(dir.path(), &name, &end.to_string()).status().unwrap();
        assert!(out.success());
        assert_eq!(training.check(&run), Some(end));
        assert_eq!(updates(&run).len() as u64, end);
        assert_eq!(temporaries(&run), 0);
        std::fs::remove_dir_all(run).unwrap();
    }
    println!("{kills} kills: {cut_off} files were being written, {without} times there was no checkpoint yet");
    assert!(!is_long() || cut_off > 0 && without > 0, "the kills did not fall on all of a training");
}

/// A training in the folder `name` that saves after each update, begun or gone on with.
fn go_on(dir: &Path, name: &str, steps: &str) -> Command {
    let often = ["--resume", "auto", "--validate-every", "1", "--steps", steps];
    let mut arguments = tiny_arguments(&often);
    let run = arguments.iter().position(|argument| *argument == "run").unwrap();
    arguments[run] = name;
    let mut command = program(dir, &arguments);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}
