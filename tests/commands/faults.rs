//! System calls that fail: each that a training or a generation makes on its files, one at a time, for several reasons; and disks
//! that are full after any byte.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::kills::temporaries;
use crate::states::{Uninterrupted, updates};
use crate::system_calls::{Call, calls, traced, traced_folder};
use crate::{corpus, folder, is_long, program, random, repeats, started_by, succeeds, tiny, tiny_arguments};

const REASONS: [&str; 5] = ["ENOSPC", "EIO", "EINTR", "EACCES", "EMFILE"];
const STEPS: u64 = 3;
const TRAINING: [&str; 6] = ["--resume", "auto", "--steps", "3", "--validate-every", "1"];

/// One call, by its name and number among those of this name in the first thread.
#[derive(Clone, Debug)]
struct Place {
    name: String,
    number: usize,
}

/// The calls on files in `folder` that the first thread makes.
fn places(calls: &[Call], folder: &Path) -> Vec<Place> {
    let first = calls[0].thread;
    let mut places = vec![];
    for (i, call) in calls.iter().enumerate().filter(|(_, call)| call.thread == first) {
        if call.is_within(folder) {
            let same = |other: &&Call| other.thread == first && other.name == call.name;
            places.push(Place { name: call.name.clone(), number: calls[..=i].iter().filter(same).count() });
        }
    }
    places
}

/// The program's end must be a success or an error that says what is wrong.
fn assert_said(output: &Output, what: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code();
    assert!(matches!(code, Some(0 | 1)) && !said.contains("panicked"), "{what}: {:?}: {said}", output.status);
    assert!(code == Some(0) || said.contains("error: "), "{what}: no error is said: {said}");
}

/// A training after what befell it: its files are whole, and the same command once more makes the rest of the same training.
fn assert_whole(dir: &Path, training: &mut Uninterrupted, output: &Output, what: &str) {
    assert_said(output, what);
    let run = dir.join("run");
    let step = training.check(&run);
    assert!(!output.status.success() || step == Some(STEPS), "{what}: it ended well with {step:?}");
    succeeds(dir, &tiny_arguments(&TRAINING));
    assert_eq!(training.check(&run), Some(STEPS), "{what}");
    assert_eq!(updates(&run).len() as u64, STEPS, "{what}");
    assert_eq!(temporaries(&run), 0, "{what}");
}

fn forget(dir: &Path) {
    let run = dir.join("run");
    if run.exists() {
        std::fs::remove_dir_all(run).unwrap();
    }
}

#[test]
fn a_call_that_fails_costs_a_training_nothing_that_was_saved() {
    let Some((_dir, path)) = traced_folder() else { return };
    let mut training = Uninterrupted::new(&tiny(&path, STEPS));
    let program = program(&path, &tiny_arguments(&TRAINING));
    let log = path.join("log");
    // Once before, for what the program keeps in its cache.
    assert!(traced(&program, &log, &[]).output().unwrap().status.success());
    forget(&path);
    assert!(traced(&program, &log, &[]).output().unwrap().status.success());
    let places = places(&calls(&log, &path), &path.join("run"));
    for name in ["openat", "write", "fsync", "fdatasync", "renameat", "mkdir", "flock"] {
        assert!(places.iter().any(|place| place.name == name), "no {name} among {places:?}");
    }
    let mut failed = 0;
    let mut faults = 0;
    for (i, place) in places.iter().enumerate() {
        for (j, reason) in REASONS.iter().enumerate() {
            // Else one in ten, with each of the reasons.
            if !is_long() && (i + j) % (2 * REASONS.len()) != 0 {
                continue;
            }
            forget(&path);
            let what = format!("{reason} at {} {}", place.name, place.number);
            let inject = format!("inject={}:error={reason}:when={}", place.name, place.number);
            let output = traced(&program, &log, &["-e", &inject]).output().unwrap();
            assert!(std::fs::read_to_string(&log).unwrap().contains("(INJECTED)"), "{what} did not come");
            assert_whole(&path, &mut training, &output, &what);
            faults += 1;
            failed += usize::from(!output.status.success());
        }
    }
    println!("{faults} faults at {} calls; {failed} ended the training, the others were overcome", places.len());
}

#[test]
fn a_call_that_fails_leaves_the_old_piece_or_the_new_one() {
    let Some((_dir, path)) = traced_folder() else { return };
    succeeds(&path, &tiny_arguments(&["--steps", "1"]));
    // Without a look at the training pieces, of which the file says what was found.
    let arguments = ["generate", "--checkpoint", "run", "--bars", "2", "--seed", "5", "--copies-bound", "0"];
    let arguments = [&arguments[..], &["-o", "pieces/piece.mid"]].concat();
    std::fs::create_dir(path.join("pieces")).unwrap();
    let piece = path.join("pieces/piece.mid");
    succeeds(&path, &arguments);
    let new = std::fs::read(&piece).unwrap();
    let (program, log) = (program(&path, &arguments), path.join("log"));
    assert!(traced(&program, &log, &[]).output().unwrap().status.success());
    let places = places(&calls(&log, &path), &path.join("pieces"));
    assert!(places.iter().any(|place| place.name == "renameat"), "{places:?}");
    for place in &places {
        for reason in REASONS {
            std::fs::write(&piece, "old").unwrap();
            let what = format!("{reason} at {} {}", place.name, place.number);
            let inject = format!("inject={}:error={reason}:when={}", place.name, place.number);
            let output = traced(&program, &log, &["-e", &inject]).output().unwrap();
            assert_said(&output, &what);
            let found = std::fs::read(&piece).unwrap();
            assert!(found == new || !output.status.success() && found == b"old", "{what}: {} bytes", found.len());
        }
    }
    println!("{} faults at {} calls", places.len() * REASONS.len(), places.len());
}

/// Of root alone, no folder's rights keep anything.
#[test]
fn a_folder_that_cannot_be_read_is_skipped_and_said() {
    let Some((_dir, path)) = traced_folder() else { return };
    let data = path.join("corpus");
    let closed = data.join("plain/closed");
    std::fs::create_dir(&closed).unwrap();
    let inject = ["-P", closed.to_str().unwrap(), "-e", "inject=openat:error=EACCES"];
    let corpus = |more: &[&str]| {
        // strace goes by the path as it is named.
        let arguments = [&["corpus", "--data", data.to_str().unwrap()], more].concat();
        traced(&program(&path, &arguments), &path.join("log"), &inject).output().unwrap()
    };
    let output = corpus(&[]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("skipped plain/closed: cannot be read: Permission denied"),
        "{said}"
    );
    let output = corpus(&["--strict"]);
    assert_said(&output, "--strict");
    assert!(String::from_utf8_lossy(&output.stderr).contains("corpus/plain/closed: cannot be read"));
}

/// As on some network and FUSE file systems.
#[test]
fn a_file_system_that_cannot_sync_folders_will_do() {
    let Some((_dir, path)) = traced_folder() else { return };
    let mut training = Uninterrupted::new(&tiny(&path, STEPS));
    std::fs::create_dir(path.join("run")).unwrap();
    for reason in ["EINVAL", "EOPNOTSUPP"] {
        let (run, inject) = (format!("{}/run", path.display()), format!("inject=fsync:error={reason}"));
        let inject = ["-P", path.to_str().unwrap(), "-P", &run, "-e", &inject];
        let log = path.join("log");
        let output = traced(&program(&path, &tiny_arguments(&TRAINING)), &log, &inject).output().unwrap();
        assert!(std::fs::read_to_string(&log).unwrap().contains("(INJECTED)"), "{reason} did not come");
        assert!(output.status.success(), "{reason}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(training.check(&path.join("run")), Some(STEPS), "{reason}");
        forget(&path);
    }
}

/// A limit on the size of files cuts the write that passes it short, and fails the next, as a full disk does.
#[test]
fn a_disk_that_is_full_after_any_byte_costs_a_training_nothing_that_was_saved() {
    if Command::new("prlimit").arg("--version").output().is_err() {
        println!("skipped: prlimit is missing");
        return;
    }
    let dir = folder();
    let path: PathBuf = dir.path().into();
    corpus(&path.join("corpus"), 4, 4, 48);
    let mut training = Uninterrupted::new(&tiny(&path, STEPS));
    let arguments = tiny_arguments(&TRAINING);
    succeeds(&path, &arguments);
    let largest = std::fs::metadata(path.join("run/last.safetensors")).unwrap().size();
    let (mut seed, mut failed) = (3, 0);
    let disks = repeats(20, 400);
    for i in 0..disks {
        forget(&path);
        // Half of them within the small files.
        let most = if i % 2 == 0 { largest + 100 } else { 3000 };
        let limit = random(&mut seed) % most;
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh", "prlimit", &format!("--fsize={limit}")]);
        let output = started_by(shell, &program(&path, &arguments)).output().unwrap();
        assert_whole(&path, &mut training, &output, &format!("files of {limit} bytes at most"));
        failed += usize::from(!output.status.success());
    }
    println!("{disks} disks, {failed} of them too small");
    assert!(failed > disks / 2);
}
