//! Training of several processes that `mpirun` starts: the same as of one, whatever befalls them. With the feature `mpi`, and
//! Open MPI's `mpirun` on the path.
#![cfg(all(feature = "mpi", unix))]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use deepj::checkpoint::Checkpoint;
use deepj::music::{NoteRange, Roll, roll::RollNote};
use serde_json::Value;

/// How long all processes may take to end when one has failed.
const ALL_END: Duration = Duration::from_secs(30);

/// Whether `DEEPJ_LONG` asks for tests as long as docs/SCALE.md tells of.
fn is_long() -> bool {
    std::env::var_os("DEEPJ_LONG").is_some_and(|value| !value.is_empty())
}

/// A folder with a small corpus in `corpus`.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    corpus(&folder.path().join("corpus"), 4);
    folder
}

/// Writes a corpus of two genres with one composer each and `files` pieces of different lengths.
fn corpus(dir: &Path, files: usize) {
    for (genre, composer, step) in [("plain", "smith", 4), ("fancy", "jones", 3)] {
        let folder = dir.join(genre).join(composer);
        std::fs::create_dir_all(&folder).unwrap();
        for i in 0..files {
            let notes = (0..16 + 4 * i).map(|k| RollNote {
                pitch: 48 + (k * step + i) as u8 % 24,
                velocity: 40 + (k % 60) as u8,
                start: k * 4,
                end: k * 4 + 4,
                replay: false,
            });
            let roll = Roll::from_notes(NoteRange::default(), notes).unwrap();
            roll.write_midi(folder.join(format!("{i}.mid")), 100.0).unwrap();
        }
    }
}

fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_deepj").into()
}

/// `mpirun` with what comes before the program, in the folder `dir`.
fn mpirun(dir: &Path, before: &[&str]) -> Command {
    let mut command = Command::new("mpirun");
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    command.args(["--allow-run-as-root", "--oversubscribe"]).args(before);
    command.current_dir(dir).env("DEEPJ_DEVICE", "cpu").env("XDG_CACHE_HOME", cache);
    command
}

/// The arguments of a tiny training into `run`, with more.
fn tiny<'a>(run: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let arguments = ["train", "--data", "corpus", "--out", run, "--batch", "4", "--seq", "16", "--samples", "0"];
    let sizes = ["time_units=8", "note_units=8", "filters=4", "style_width=4"].map(|size| ["--set", size]);
    arguments.into_iter().chain(sizes.into_iter().flatten()).chain(more.iter().copied()).collect()
}

/// So many ranks with these arguments; one without `mpirun`.
fn ranks(dir: &Path, count: usize, arguments: &[&str]) -> Command {
    if count == 1 {
        let mut command = Command::new(program());
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
        command.current_dir(dir).env("DEEPJ_DEVICE", "cpu").env("XDG_CACHE_HOME", cache);
        command.args(arguments);
        return command;
    }
    let mut command = mpirun(dir, &["-n", &count.to_string()]);
    command.arg(program()).args(arguments);
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn succeeds(dir: &Path, count: usize, arguments: &[&str]) -> Output {
    let output = ranks(dir, count, arguments).output().unwrap();
    assert!(output.status.success(), "{count} ranks {arguments:?}: {}", said(&output));
    output
}

/// An error that is said once, with all of `texts`, before the first update.
fn assert_refused(output: &Output, texts: &[&str]) {
    let said = said(output);
    assert!(!output.status.success(), "{said}");
    assert_eq!(said.matches("error: ").count(), 1, "{said}");
    assert!(!said.contains("panicked") && !said.contains("update 1,"), "{said}");
    for text in texts {
        assert!(said.contains(text), "no '{text}' in: {said}");
    }
}

/// The lines of a run's curve of this kind.
fn curve(run: &Path, kind: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join("curve.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["kind"] == kind).collect()
}

/// The numbers of `name` in a run's curve.
fn numbers(run: &Path, kind: &str, name: &str) -> Vec<f64> {
    curve(run, kind).iter().map(|line| line[name].as_f64().unwrap()).collect()
}

/// Fails unless each number is that of the other run, to so much of its value.
fn assert_near(one: &[f64], other: &[f64], tolerance: f64, what: &str) {
    assert_eq!(one.len(), other.len(), "{what}");
    for (i, (a, b)) in one.iter().zip(other).enumerate() {
        assert!((a - b).abs() <= tolerance * b.abs(), "{what}, place {i}: {a}, not {b}");
    }
}

fn last(run: &Path) -> Checkpoint {
    Checkpoint::load(run.join("last.safetensors")).unwrap()
}

/// Fails unless two checkpoints are of the same training, to the bit.
fn assert_same(one: &Path, other: &Path) {
    let (mut one, other) = (last(one), last(other));
    (one.progress.seconds, one.progress.saved) = (other.progress.seconds, other.progress.saved);
    one.corpus.data.clone_from(&other.corpus.data);
    assert!(one.params == other.params && one.resume == other.resume, "parameters, moments or states differ");
    assert_eq!(one.progress, other.progress);
}

/// The flags of 60 updates of a tiny network with this batch, or of 200 of the small preset.
fn of_batch<'a>(run: &'a str, batch: &'a str, long: bool, more: &[&'a str]) -> Vec<&'a str> {
    let length = ["--steps", if long { "200" } else { "60" }, "--validate-every", "30", "--batch", batch];
    let mut arguments = match long {
        true => vec!["train", "--out", run, "--preset", "small", "--seq", "32", "--samples", "0"],
        false => {
            let mut arguments = tiny(run, &[]);
            // The batch of `tiny` gives way.
            let batch = arguments.iter().position(|argument| *argument == "--batch").unwrap();
            arguments.drain(batch..batch + 2);
            arguments
        }
    };
    arguments.extend(length.into_iter().chain(more.iter().copied()));
    arguments
}

/// Whoever starts 1, 2 or 4 ranks, or no `mpirun` at all, trains the same network to the bit.
#[test]
fn the_number_of_ranks_changes_nothing() {
    let dir = folder();
    succeeds(dir.path(), 1, &of_batch("one", "8", is_long(), &[]));
    let one = dir.path().join("one");
    for (count, name) in [("1", "of-1"), ("2", "of-2"), ("4", "of-4")] {
        let output = mpirun(dir.path(), &["-n", count])
            .arg(program())
            .args(of_batch(name, "8", is_long(), &[]))
            .output()
            .unwrap();
        assert!(output.status.success(), "{count} ranks: {}", said(&output));
        let run = dir.path().join(name);
        let [of_ranks, of_one] = [&run, &one].map(|run| last(run));
        assert!(of_ranks.params == of_one.params && of_ranks.resume == of_one.resume, "{count} ranks");
        assert_eq!(numbers(&run, "train", "loss"), numbers(&one, "train", "loss"), "{count} ranks");
        // Validation is divided by pieces, and its mean is not the same sum.
        let [of_ranks, of_one] = [&run, &one].map(|run| numbers(run, "validation", "loss"));
        assert_near(&of_ranks, &of_one, 1e-5, &format!("validation by {count} ranks"));
    }
}

/// Where ranks do not share the parts of one process: three of them, and slots that are summed all at once. Over 200 updates at the
/// default rate those of four ranks are not near (docs/SCALE.md), so these are made at a rate at which rounding does not grow.
#[test]
fn other_sums_change_nothing_but_rounding() {
    let dir = folder();
    let (at_once, slowly) = (["--accumulate", "1"], ["--accumulate", "1", "--lr", "0.0005"]);
    let of_four = if is_long() { &slowly[..] } else { &at_once };
    for (count, batch, long, more, name) in [
        (3, "9", false, &[][..], "three"),
        (2, "8", is_long(), &at_once, "two-at-once"),
        (4, "8", is_long(), of_four, "four-at-once"),
    ] {
        let names = [1, count].map(|count| format!("{name}-{count}"));
        let arguments = names.each_ref().map(|run| of_batch(run, batch, long, more));
        succeeds(dir.path(), 1, &arguments[0]);
        let output = succeeds(dir.path(), count, &arguments[1]);
        let [one, run] = names.each_ref().map(|run| dir.path().join(run));
        for (kind, number) in [("train", "loss"), ("validation", "loss"), ("train", "epochs")] {
            let what = format!("{count} ranks, {kind} {number}");
            assert_near(&numbers(&run, kind, number), &numbers(&one, kind, number), 1e-5, &what);
        }
        let said = said(&output);
        assert_eq!(said.matches(" parameters on ").count(), 1, "one voice: {said}");
        assert!(
            said.contains(&format!("ranks 0 {} {} on ", if count == 2 { "and" } else { "to" }, count - 1)),
            "{said}"
        );
    }
}

#[test]
fn ranks_that_train_again_make_the_same_bits() {
    let dir = folder();
    let [first, again] = ["first", "again"].map(|run| {
        succeeds(dir.path(), 4, &of_batch(run, "12", false, &["--accumulate", "1"]));
        dir.path().join(run)
    });
    assert_same(&first, &again);
    assert_eq!(numbers(&first, "train", "loss"), numbers(&again, "train", "loss"));
}

#[test]
fn a_checkpoint_knows_no_ranks() {
    let dir = folder();
    let steps = |run, steps| tiny(run, &["--resume", "auto", "--steps", steps, "--validate-every", "4"]);
    succeeds(dir.path(), 4, &steps("whole", "16"));
    let whole = dir.path().join("whole");
    for (count, name) in [(4, "by-4"), (2, "by-2"), (1, "by-1")] {
        succeeds(dir.path(), 4, &steps(name, "8"));
        succeeds(dir.path(), count, &steps(name, "16"));
        let run = dir.path().join(name);
        if count == 4 {
            assert_same(&run, &whole);
        }
        assert_near(&numbers(&run, "train", "loss"), &numbers(&whole, "train", "loss"), 1e-5, name);
        assert_near(&numbers(&run, "validation", "loss"), &numbers(&whole, "validation", "loss"), 1e-5, name);
    }
}

#[test]
fn sums_in_f16_learn_as_well_and_resume_to_the_bit() {
    let dir = folder();
    let steps =
        |run, steps| tiny(run, &["--resume", "auto", "--steps", steps, "--validate-every", "20", "--allreduce", "f16"]);
    succeeds(dir.path(), 2, &steps("whole", "60"));
    succeeds(dir.path(), 2, &steps("parts", "40"));
    succeeds(dir.path(), 2, &steps("parts", "60"));
    assert_same(&dir.path().join("parts"), &dir.path().join("whole"));
    succeeds(dir.path(), 2, &tiny("f32", &["--steps", "60", "--validate-every", "20"]));
    let losses = ["whole", "f32"].map(|run| numbers(&dir.path().join(run), "train", "loss"));
    assert_ne!(losses[0], losses[1]);
    assert_near(&losses[0], &losses[1], 1e-3, "f16");
}

#[test]
fn accumulated_parts_and_mixed_precision_are_shared_too() {
    let dir = folder();
    for more in [["--accumulate", "2"], ["--precision", "mixed"], ["--ema", "0.9"]] {
        let arguments = |run| tiny(run, &[&["--steps", "12", "--validate-every", "6", "--force"], &more[..]].concat());
        succeeds(dir.path(), 1, &arguments("one"));
        succeeds(dir.path(), 2, &arguments("two"));
        // f16 within the network rounds other sums.
        let tolerance = if more[1] == "mixed" { 1e-3 } else { 1e-5 };
        for kind in ["train", "validation"] {
            let [two, one] = ["two", "one"].map(|run| numbers(&dir.path().join(run), kind, "loss"));
            assert_near(&two, &one, tolerance, &format!("{more:?}, {kind}"));
        }
    }
}

/// The losses of 4 ranks with these devices, in turn.
fn losses_on(dir: &Path, device: &str, count: usize) -> Vec<f64> {
    let name = format!("{}-{count}", device.replace(',', "-"));
    let arguments = tiny(&name, &["--steps", "8", "--validate-every", "4", "--device", device]);
    succeeds(dir, count, &arguments);
    numbers(&dir.join(&name), "train", "loss")
}

/// On lavapipe, a GPU in software, where it is installed; and on both together.
#[test]
fn devices_of_all_kinds_train_together() {
    let dir = folder();
    let adapters = Command::new(program()).args(["adapters", "--json"]).output().unwrap();
    if !String::from_utf8_lossy(&adapters.stdout).contains("llvmpipe") {
        let required = std::env::var("DEEPJ_REQUIRE_ADAPTERS").unwrap_or_default();
        assert!(!required.contains("lavapipe"), "lavapipe is missing");
        return;
    }
    let of = |device: &str, count: usize| losses_on(dir.path(), device, count);
    let cpu = of("cpu", 4);
    assert_near(&of("llvmpipe", 1), &of("cpu", 1), 1e-5, "one rank");
    assert_near(&of("llvmpipe", 4), &cpu, 1e-5, "four ranks");
    assert_near(&of("cpu,llvmpipe", 4), &cpu, 1e-5, "two of each");
}

#[test]
fn what_does_not_fit_together_is_refused_before_the_first_update() {
    let dir = folder();
    let run = |count: usize, more: &[&str]| ranks(dir.path(), count, &tiny("run", more)).output().unwrap();
    assert_refused(
        &run(3, &["--steps", "2"]),
        &["a batch of 4 has no 3 equal parts", "--batch 3 or 6", "start 2 ranks"],
    );
    assert_refused(&run(5, &["--steps", "2"]), &["5 ranks for a batch of 4", "at most 4 ranks"]);
    assert_refused(&run(2, &["--steps", "2", "--accumulate", "4"]), &["--accumulate 4", "2 slots"]);

    // One command line for each rank.
    let both = |other: &Path, one: &[&str], two: &[&str]| {
        let mut command = mpirun(dir.path(), &["-n", "1"]);
        command.arg(program()).args(tiny("run", one)).args([":", "-n", "1"]).arg(other).args(tiny("run", two));
        command.output().unwrap()
    };
    let own = program();
    let steps = ["--steps", "2"];
    assert_refused(
        &both(&own, &steps, &["--steps", "2", "--lr", "0.5"]),
        &["not all ranks train the same", "rank 1 on ", "0.5"],
    );
    corpus(&dir.path().join("other"), 5);
    let other = ["--steps", "2", "--data", "other"];
    let mut command = mpirun(dir.path(), &["-n", "1"]);
    command.arg(&own).args(tiny("run", &steps)).args([":", "-n", "1"]).arg(&own);
    let arguments: Vec<&str> = tiny("run", &other).into_iter().collect();
    let data = arguments.iter().position(|argument| *argument == "--data").unwrap();
    command.args(&arguments[..data]).args(&arguments[data + 2..]);
    assert_refused(&command.output().unwrap(), &["rank 1 on ", "a corpus of fingerprint"]);
    assert_refused(&both(&own, &steps, &["--steps", "2", "--allreduce", "f16"]), &["rank 1 on ", "allreduce"]);

    // Another build of the program: a byte behind its end changes nothing but its checksum.
    let copy = dir.path().join("deepj");
    let mut bytes = std::fs::read(&own).unwrap();
    bytes.push(0);
    std::fs::copy(&own, &copy).unwrap();
    std::fs::write(&copy, bytes).unwrap();
    assert_refused(&both(&copy, &steps, &steps), &["rank 1 on ", "a build of checksum"]);
    // What all have is said once.
    let mut long = tiny("run", &["--steps", "2"]);
    let bars = long.iter().position(|argument| *argument == "--samples").unwrap() + 1;
    long[bars] = "99999999";
    assert_refused(&ranks(dir.path(), 2, &long).output().unwrap(), &["--samples 99999999"]);
    let output = ranks(dir.path(), 2, &["scale", "--preset", "vast"]).output().unwrap();
    assert_refused(&output, &["vast"]);
    let output = ranks(dir.path(), 2, &["experiment", "none.toml"]).output().unwrap();
    assert_refused(&output, &["none.toml"]);
    assert!(!said(&output).contains("rank "), "{}", said(&output));
    // One that fails before it joins says so itself.
    let mut command = mpirun(dir.path(), &["-n", "1"]);
    command.arg(&own).args(tiny("run", &steps)).args([":", "-n", "1"]).arg(&own).args(["inspect", "nothing"]);
    assert_refused(&command.output().unwrap(), &["rank 1: ", "nothing"]);
    // One that cannot be read has its rank's name.
    assert_refused(
        &both(&own, &steps, &["--steps", "2", "--init", "none.safetensors"]),
        &["rank 1 on ", "none.safetensors"],
    );
    assert!(!dir.path().join("run").exists(), "nothing was begun");
}

#[test]
fn a_folder_that_rank_0_alone_sees_is_enough() {
    let dir = folder();
    let elsewhere = tempfile::tempdir().unwrap();
    corpus(&elsewhere.path().join("corpus"), 4);
    for steps in ["4", "8"] {
        let arguments = tiny("run", &["--steps", steps, "--validate-every", "2", "--resume", "auto"]);
        let mut command = mpirun(dir.path(), &["-n", "1"]);
        command.arg(program()).args(&arguments).args([":", "-n", "1", "--wdir"]).arg(elsewhere.path());
        let output = command.arg(program()).args(&arguments).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }
    assert_eq!(last(&dir.path().join("run")).progress.step, 8);
    assert!(!elsewhere.path().join("run").exists());
}

/// A training without end in `dir/run`, which has saved once. `mpirun` gives it so many seconds to save when it is told to end; what it
/// says goes to the file `said`.
fn endless(dir: &Path, count: usize, seconds: u32) -> Child {
    let arguments = tiny("run", &["--resume", "auto", "--steps", "1000000", "--validate-every", "10"]);
    let saved = || std::fs::metadata(dir.join("run/last.safetensors")).ok().and_then(|file| file.modified().ok());
    let before = saved();
    let [count, seconds] = [count as u32, seconds].map(|number| number.to_string());
    let mut command = mpirun(dir, &["--mca", "odls_base_sigkill_timeout", &seconds, "-n", &count]);
    command.arg(program()).args(arguments);
    let mut child = begun(&mut command, dir);
    let began = Instant::now();
    while saved() == before {
        assert!(child.try_wait().unwrap().is_none(), "it ended before a checkpoint");
        assert!(began.elapsed() < Duration::from_secs(60), "no checkpoint");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

/// The command, running, with a file for what it says: nobody reads a pipe meanwhile.
fn begun(command: &mut Command, dir: &Path) -> Child {
    let file = std::fs::File::create(dir.join("said")).unwrap();
    command.stdout(Stdio::null()).stderr(file).spawn().unwrap()
}

/// The processes of the program that work in `dir`.
fn processes(dir: &Path) -> Vec<u32> {
    let dir = dir.canonicalize().unwrap();
    let mut found = vec![];
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let is_ours = std::fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe == program())
            && std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == dir);
        if is_ours {
            found.push(id);
        }
    }
    found
}

fn send(signal: &str, id: u32) {
    assert!(Command::new("kill").args([format!("-{signal}"), id.to_string()]).status().unwrap().success());
}

/// Waits for the end of `child` and of all processes in `dir`, which must come in time. Returns what it said, and its exit code.
fn ended(mut child: Child, dir: &Path) -> (String, Option<i32>) {
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() || !processes(dir).is_empty() {
        if began.elapsed() > ALL_END {
            processes(dir).into_iter().for_each(|id| send("KILL", id));
            let _ = child.kill();
            panic!("not all processes ended in {ALL_END:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let code = child.wait().unwrap().code();
    (String::from_utf8_lossy(&std::fs::read(dir.join("said")).unwrap()).into_owned(), code)
}

/// The next number of a generator.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// Kills at random instants of a random rank, 50 of one of four where the time is there; then the training goes on to its end, which is
/// that of one which nobody killed, to the bit.
#[cfg(target_os = "linux")]
#[test]
fn a_killed_rank_ends_all_and_the_training_goes_on_exactly() {
    let dir = folder();
    let (kills, count) = if is_long() { (50, 4) } else { (4, 2) };
    let (mut state, mut longest, mut steps) = (7, Duration::ZERO, 0);
    for _ in 0..kills {
        let child = endless(dir.path(), count, 1);
        std::thread::sleep(Duration::from_millis(random(&mut state) % 600));
        let all = processes(dir.path());
        let began = Instant::now();
        send("KILL", all[random(&mut state) as usize % all.len()]);
        let (_, code) = ended(child, dir.path());
        longest = longest.max(began.elapsed());
        assert_ne!(code, Some(0));
        let now = last(&dir.path().join("run")).progress.step;
        assert!(now >= steps, "update {now} after {steps}");
        steps = now;
    }
    println!("{kills} kills of one of {count} ranks: all ended within {longest:?}, {steps} updates were saved");
    let end = (steps + 10).to_string();
    let arguments = |run| tiny(run, &["--resume", "auto", "--steps", &end, "--validate-every", "10"]);
    succeeds(dir.path(), count, &arguments("run"));
    succeeds(dir.path(), count, &arguments("whole"));
    let [run, whole] = ["run", "whole"].map(|name| dir.path().join(name));
    assert_same(&run, &whole);
    assert_eq!(numbers(&run, "train", "loss"), numbers(&whole, "train", "loss"));
}

#[cfg(target_os = "linux")]
#[test]
fn nothing_is_left_when_mpirun_itself_is_killed() {
    let dir = folder();
    let child = endless(dir.path(), 2, 1);
    send("KILL", child.id());
    ended(child, dir.path());
    last(&dir.path().join("run"));
}

#[cfg(target_os = "linux")]
#[test]
fn signals_of_schedulers_save_and_end_with_their_number() {
    let dir = folder();
    for (signal, number) in [("TERM", 15), ("USR1", 10)] {
        // To one rank, which the others hear of.
        let child = endless(dir.path(), 2, 5);
        let before = last(&dir.path().join("run")).progress.step;
        let all = processes(dir.path());
        send(signal, all[all.len() - 1]);
        let (said, code) = ended(child, dir.path());
        assert_eq!(code, Some(128 + number), "{signal}: {said}");
        assert!(last(&dir.path().join("run")).progress.step > before, "{signal}");
        let end = curve(&dir.path().join("run"), "end");
        assert_eq!(end.last().unwrap()["end"], "interrupted", "{signal}");
        // To mpirun, which passes it on.
        let child = endless(dir.path(), 2, 5);
        let before = last(&dir.path().join("run")).progress.step;
        send(signal, child.id());
        let (said, code) = ended(child, dir.path());
        assert_ne!(code, Some(0), "{signal}: {said}");
        assert!(last(&dir.path().join("run")).progress.step > before, "{signal}: {said}");
    }
}

/// A file system that takes no more bytes: a limit on the length of files does the same.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_of_rank_0_ends_all() {
    let dir = folder();
    let script = "trap '' XFSZ; if [ \"$OMPI_COMM_WORLD_RANK\" = 0 ]; then ulimit -f 20; fi; exec \"$@\"";
    let mut command = mpirun(dir.path(), &["-n", "2", "sh", "-c", script, "sh"]);
    command.arg(program()).args(tiny("run", &["--steps", "100000", "--validate-every", "10"]));
    let child = begun(&mut command, dir.path());
    let (said, code) = ended(child, dir.path());
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(said.matches("error: ").count(), 1, "{said}");
    assert!(said.contains("rank 0 on ") && said.contains(".safetensors"), "{said}");
}

#[test]
fn commands_that_are_not_divided_say_so() {
    let dir = folder();
    let output = ranks(dir.path(), 2, &["evaluate", "--checkpoint", "builtin"]).output().unwrap();
    let said = said(&output);
    assert!(!output.status.success() && said.contains("OMPI_COMM_WORLD_SIZE=2"), "{said}");
}

#[test]
fn pieces_composed_by_several_are_those_of_one() {
    let dir = folder();
    succeeds(dir.path(), 1, &tiny("run", &["--steps", "4", "--validate-every", "2"]));
    let how = ["--checkpoint", "run", "--count", "3", "--candidates", "5", "--seed", "1", "--bars", "2"];
    for (count, name) in [(1, "one.mid"), (2, "two.mid")] {
        succeeds(dir.path(), count, &[&["generate", "-o", name], &how[..]].concat());
    }
    let piece = |name: &str, number: usize| std::fs::read(dir.path().join(format!("{name}-{number}.mid"))).unwrap();
    for number in 1..=3 {
        assert!(piece("one", number) == piece("two", number), "piece {number}");
    }
    assert_ne!(piece("one", 1), piece("one", 2));
}

/// Two runs, tiny.
const EXPERIMENT: &str = r#"
name = "two runs"
data = "corpus"
seeds = [0, 1]
budget = { steps = 4, validate-every = 2 }

[base]
batch = 2
seq = 16
set = { time_units = 8, note_units = 8, filters = 4, style_width = 4 }

[[configuration]]
name = "deepj"
"#;

#[test]
fn runs_of_an_experiment_are_divided() {
    let dir = folder();
    std::fs::write(dir.path().join("two.toml"), EXPERIMENT).unwrap();
    let results = [(1, "one"), (2, "two")].map(|(count, out)| {
        let output = succeeds(dir.path(), count, &["experiment", "two.toml", "--out", out]);
        assert_eq!(String::from_utf8_lossy(&output.stdout).matches("Files: ").count(), 1, "one voice");
        let text = std::fs::read_to_string(dir.path().join(out).join("results.json")).unwrap();
        let mut results: Value = serde_json::from_str(&text).unwrap();
        for run in results["runs"].as_array_mut().unwrap() {
            run.as_object_mut().unwrap().remove("date");
            // Which has fewer threads for each of two.
            run.as_object_mut().unwrap().remove("device");
            run["cost"].as_object_mut().unwrap().retain(|name, _| !name.starts_with("seconds"));
        }
        results["runs"].clone()
    });
    assert_eq!(results[0].as_array().unwrap().len(), 2);
    assert_eq!(results[0], results[1]);
}

#[test]
fn plans_are_explained_for_each_rank() {
    let dir = folder();
    let output = succeeds(dir.path(), 2, &tiny("run", &["--explain"]));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("ranks 0 and 1 on ") && text.contains("all plans together"), "{text}");
    assert_eq!(text.matches("all plans together").count(), 1, "once where they are alike");
    assert!(said(&output).contains("2 slots of the batch each"), "{}", said(&output));
}

#[test]
fn scaling_is_predicted_and_held_against_what_was_measured() {
    let dir = folder();
    let sizes = ["--set", "time_units=8", "--set", "note_units=8"];
    let arguments = [&["scale", "--batch", "2", "--seq", "16", "--updates", "4", "--json"][..], &sizes].concat();
    let output = succeeds(dir.path(), 2, &arguments);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["check"]["ranks"], 2);
    assert!(report["check"]["measured"].as_f64().unwrap() > 0.0 && report["link"]["bandwidth"].as_f64().unwrap() > 0.0);
    assert_eq!(report["weak"].as_array().unwrap().len(), 13, "up to 4096 ranks");
    // Bytes are those of the wire. What a rank of two sends may be padded to blocks of 1,024 numbers, twice in each of two sums.
    let sent = |report: &Value| [0, 1].map(|i| report["check"]["bytes"][i].as_u64().unwrap());
    let [whole, least] = sent(&report);
    let sums = [0, 1].map(|i| report["measured"]["work"]["bytes"][i].as_u64().unwrap());
    assert!(sums[0] > 0 && sums[0] + sums[1] == least, "{sums:?} of {least}");
    assert!((least..least + 4 * 4 * 1024 + 1000).contains(&whole), "{whole} bytes, of {least}");
    let more = [&arguments[..], &["--allreduce", "f16", "--accumulate", "2"]].concat();
    let report: Value = serde_json::from_slice(&succeeds(dir.path(), 2, &more).stdout).unwrap();
    let [halved, least_halved] = sent(&report);
    assert!((least_halved..least_halved + 4 * 2 * 1028 + 1000).contains(&halved), "{halved} bytes, of {least_halved}");
    // Each of two sums, of the gradients that travel early and of the others, has whole bytes.
    let halved: u64 = sums.map(|bytes| (bytes * 2052).div_ceil(4096)).iter().sum();
    assert_eq!(least_halved, halved);
    let output = ranks(dir.path(), 2, &["scale", "--updates", "18446744073709551615"]).output().unwrap();
    assert_refused(&output, &["--updates 18446744073709551615"]);
    let output = ranks(dir.path(), 1, &arguments).output().unwrap();
    assert_refused(&output, &["what connects machines"]);
}
