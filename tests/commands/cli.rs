//! The program: what scripts rely on, and what it answers to wrong use and bad input.

use std::io::Read;
use std::process::Stdio;

use serde_json::Value;

use crate::{corpus, deepj, fails, folder, program, succeeds, tiny_arguments};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// A folder with a corpus and a tiny run.
fn with_run() -> tempfile::TempDir {
    let dir = folder();
    corpus(&dir.path().join("corpus"), 4, 4, 48);
    succeeds(dir.path(), &tiny_arguments(&["--steps", "3", "--json"]));
    dir
}

#[test]
fn help_shows_the_two_commands_a_newcomer_needs() {
    let dir = folder();
    let help = succeeds(dir.path(), &["--help"]);
    assert!(help.contains("deepj train  ") && help.contains("deepj generate --style baroque -o piece.mid"), "{help}");
    assert!(help.lines().count() <= 24, "more than a screen:\n{help}");
    for command in ["train", "generate", "evaluate", "roll", "render", "play", "survey", "corpus", "inspect", "peaks"] {
        let help = succeeds(dir.path(), &[command, "--help"]);
        assert!(help.contains("Examples:") && help.contains("--json"), "{command}: {help}");
    }
}

#[test]
fn train_prints_json_and_keeps_progress_off_standard_output() {
    let dir = folder();
    corpus(&dir.path().join("corpus"), 4, 4, 48);
    let all = ["--steps", "2", "--epochs", "9", "--lr", "0.001", "--seed", "7", "--bptt", "windowed", "--json"];
    let out = json(&succeeds(dir.path(), &tiny_arguments(&all)));
    assert_eq!((out["end"].as_str(), out["step"].as_u64()), (Some("steps"), Some(2)));
    assert!(out["best"]["loss"].as_f64().is_some() && out["samples"].as_array().is_some_and(Vec::is_empty));
    for file in ["best.safetensors", "last.safetensors", "curve.jsonl"] {
        assert!(dir.path().join("run").join(file).exists(), "{file}");
    }
    let out =
        json(&succeeds(dir.path(), &["train", "--resume", "--out", "run", "--steps", "4", "--samples", "2", "--json"]));
    assert_eq!(out["step"].as_u64(), Some(4));
    assert_eq!(out["samples"].as_array().map(Vec::len), Some(2), "one a genre");
    assert!(dir.path().join("run/sample-plain.mid").exists());
}

#[test]
fn explain_prints_the_plan_and_leaves_nothing_behind() {
    let dir = folder();
    corpus(&dir.path().join("corpus"), 4, 4, 48);
    let plan = succeeds(dir.path(), &tiny_arguments(&["--explain"]));
    for text in [
        "plan `train B=1 T=16`",
        "the first plan 2 times",
        "plan `evaluate",
        "nadam",
        "GFLOP",
        "all plans together",
        "MiB of memory",
    ] {
        assert!(plan.contains(text), "{text}: {plan}");
    }
    assert!(!dir.path().join("run").exists());
}

#[test]
fn generate_writes_the_files_it_names() {
    let dir = with_run();
    let path = dir.path();
    let one = ["generate", "--checkpoint", "run", "--style", "plain", "--bars", "2", "--seed", "5"];
    let arguments = [&one[..], &["-o", "out/a.mid", "--tempo", "90", "--json"]].concat();
    let out = json(&succeeds(path, &arguments));
    assert_eq!((out[0]["file"].as_str(), out[0]["seed"].as_u64()), (Some("out/a.mid"), Some(5)));
    assert_eq!(out[0]["style"], json(r#"[[["smith", 1.0]]]"#));
    succeeds(path, &[&one[..], &["-o", "out/b.mid", "--tempo", "90"]].concat());
    let read = |name: &str| std::fs::read(path.join(name)).unwrap();
    assert_eq!(read("out/a.mid"), read("out/b.mid"), "one seed, one file");

    let three = [&one[..], &["--count", "3", "-o", "c.mid", "--prime", "out/a.mid", "--json"]].concat();
    let out = json(&succeeds(path, &three));
    assert_eq!(out.as_array().map(Vec::len), Some(3));
    let roll = json(&succeeds(path, &["roll", "c-2.mid", "--json"]));
    assert_eq!(roll["bpm"].as_f64().map(f64::round), Some(90.0), "the beginning's tempo");
    assert_ne!(read("c-1.mid"), read("c-2.mid"));

    let note = deepj(path, &[&one[..6], &["--style", "smith:1,jones:3", "--no-silence-temperature"]].concat());
    assert!(!note.status.success(), "--style twice");
    let mixed = ["generate", "--checkpoint", "run", "--style", "smith:1,jones:3", "--bars", "1", "--seed", "3"];
    let output = deepj(path, &mixed);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("summed to 4, normalised"), "{said}");
    assert!(path.join("smith-1-jones-3-3.mid").exists(), "named by style and seed");

    fails(path, &["generate", "--checkpoint", "run", "--style", "smth"], 2, &["'smth'", "did you mean 'smith'?"]);
    fails(path, &[&one[..], &["--tempo", "0"]].concat(), 2, &["tempo"]);
    fails(path, &[&one[..], &["--temperature", "0"]].concat(), 2, &["temperature of 0"]);
    fails(path, &[&one[..], &["--prime", "nowhere.mid"]].concat(), 1, &["nowhere.mid"]);
    fails(path, &[&one[..], &["-o", "corpus"]].concat(), 1, &["corpus: is a folder"]);
    fails(path, &[&one[..], &["-o", "c-1.mid/x.mid"]].concat(), 1, &["c-1.mid", "another folder"]);
}

#[test]
fn the_newest_run_is_the_default() {
    let dir = folder();
    fails(dir.path(), &["train", "--resume"], 1, &["runs: there is no run"]);
    corpus(&dir.path().join("corpus"), 4, 4, 48);
    let mut arguments = tiny_arguments(&["--steps", "1"]);
    arguments.drain(3..5); // --out run
    succeeds(dir.path(), &arguments);
    let runs: Vec<_> = std::fs::read_dir(dir.path().join("runs")).unwrap().flatten().collect();
    let name = runs[0].file_name().into_string().unwrap();
    assert!(runs.len() == 1 && name.starts_with("20") && name.ends_with("-small"), "{name}");
    let out = json(&succeeds(dir.path(), &["inspect", "--json"]));
    assert_eq!(out["progress"]["step"].as_u64(), Some(1));
    let out = json(&succeeds(dir.path(), &["train", "--resume", "--steps", "2", "--samples", "0", "--json"]));
    assert_eq!(out["step"].as_u64(), Some(2));
}

#[test]
fn evaluate_prints_the_figures() {
    let dir = with_run();
    let path = dir.path();
    for (split, files) in [("train", 6), ("validation", 2), ("all", 8)] {
        let arguments = ["evaluate", "--checkpoint", "run/last.safetensors", "--data", "corpus", "--split", split];
        let out = json(&succeeds(path, &[&arguments[..], &["--json"]].concat()));
        for key in ["play_nats_per_step", "play_bce", "replay_bce", "dynamics_mse", "loss"] {
            assert!(out[key].as_f64().is_some_and(|x| x > 0.0), "{key}: {out}");
        }
        assert_eq!(out["files"].as_u64(), Some(files), "{split}");
        assert!(out["steps"].as_u64().is_some_and(|steps| steps >= 64 * files));
    }
    assert!(succeeds(path, &["evaluate", "--checkpoint", "run"]).contains("nats a step"));
    std::fs::create_dir(path.join("elsewhere")).unwrap();
    fails(&path.join("elsewhere"), &["evaluate", "--checkpoint", "../run"], 1, &["corpus", "--data"]);
    fails(path, &["evaluate", "--checkpoint", "run", "--split", "test"], 2, &["no pieces", "--split"]);
    fails(path, &["evaluate", "--checkpoint", "run", "--split", "most"], 2, &["most"]);
    // Another corpus: its pieces are not those of the split, but all of them can be measured.
    corpus(&path.join("other"), 5, 4, 40);
    for (composer, i) in (0..5).flat_map(|i| [("plain/smith", i), ("fancy/jones", i)]) {
        let folder = path.join("other").join(composer);
        std::fs::rename(folder.join(format!("{i}.mid")), folder.join(format!("new-{i}.mid"))).unwrap();
    }
    let other = ["evaluate", "--checkpoint", "run", "--data", "other"];
    let out = json(&succeeds(path, &[&other[..], &["--split", "all", "--json"]].concat()));
    assert_eq!(out["files"].as_u64(), Some(10));
    fails(path, &[&other[..], &["--split", "train"]].concat(), 2, &["not in this corpus", "all"]);
    std::fs::rename(path.join("other/plain/smith"), path.join("other/plain/brown")).unwrap();
    fails(path, &[&other[..], &["--split", "all"]].concat(), 2, &["plain/brown", "trained on"]);
}

#[test]
fn roll_corpus_inspect_and_adapters_print_json() {
    let dir = with_run();
    let path = dir.path();
    let file = "corpus/plain/smith/1.mid";
    let out = json(&succeeds(path, &["roll", file, "--json", "-o", "again.mid", "--svg", "picture.svg"]));
    assert_eq!((out["notes"].as_u64(), out["onsets"].as_u64()), (Some(17), Some(17)));
    assert_eq!((out["steps"].as_u64(), out["out_of_range"].as_u64()), (Some(68), Some(0)));
    assert!(std::fs::read_to_string(path.join("picture.svg")).unwrap().starts_with("<svg"));
    let again = json(&succeeds(path, &["roll", "again.mid", "--json"]));
    assert_eq!(again["onsets"], out["onsets"], "there and back");
    let high = json(&succeeds(path, &["roll", file, "--json", "--notes", "60..=83"]));
    assert!(high["out_of_range"].as_u64().is_some_and(|n| n > 0 && n < 17));

    let out = json(&succeeds(path, &["corpus", "--data", "corpus", "--baselines", "--json"]));
    assert_eq!(json(&succeeds(path, &["corpus", "--data", "corpus", "--floors", "--json"])), out, "its older name");
    assert_eq!((out["files"].as_u64(), out["split"]["validation"].as_u64()), (Some(8), Some(2)));
    assert!(out["floors"]["validation"]["bigram"].as_f64() < out["floors"]["validation"]["unigram"].as_f64());
    assert_eq!(json(&succeeds(path, &["corpus", "--json"]))["files"].as_u64(), Some(deepj::data::FILES.len() as u64));

    let out = json(&succeeds(path, &["inspect", "run/last.safetensors", "--json"]));
    assert_eq!(out["tensors"]["time.0.recurrent"]["shape"], json("[8, 32]"));
    assert_eq!((out["resumable"].as_bool(), out["config"]["time_units"].as_u64()), (Some(true), Some(8)));
    assert!(succeeds(path, &["inspect", "run"]).contains("jones, smith"));

    assert!(json(&succeeds(path, &["adapters", "--json"])).is_array());
    assert!(succeeds(path, &["adapters"]).contains("cpu: "));
}

#[test]
fn wrong_use_ends_with_two_and_a_remedy() {
    let dir = with_run();
    let path = dir.path();
    for arguments in [
        &["trian"][..],
        &["train", "--batch", "many"],
        &["train", "--batch", "0"],
        &["train", "--preset", "large"],
        &["train", "--bptt", "backwards"],
        &["train", "--resume", "--force"],
        &["train", "--set", "dropout"],
        &["train", "--device", "no such device"],
        &["train", "--device", "999"],
        &["roll", "a.mid", "--notes", "83..=36"],
        &["generate", "--checkpoint", "run", "--count", "0"],
        &["evaluate", "--checkpoint", "run", "--batch", "0"],
    ] {
        fails(path, arguments, 2, &[]);
    }
    fails(path, &["train", "--device", "no such device"], 2, &["no such device", "cpu: always there"]);
    fails(path, &tiny_arguments(&["--steps", "5"]), 1, &["run/last.safetensors", "--resume", "--force"]);
    corpus(&path.join("other"), 4, 4, 50);
    let resume = ["train", "--resume", "--out", "run", "--data", "other"];
    fails(path, &resume, 2, &["another corpus", "fingerprint", "--data"]);
    fails(path, &["train", "--resume", "--out", "run", "--batch", "4"], 2, &["--batch 2, not 4"]);
    #[cfg(target_os = "linux")]
    fails(path, &["train", "--set", "time_units=65536"], 1, &["more than the system has left", "--set"]);
    // A name that is no Unicode is as good as any.
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        let name = std::ffi::OsStr::from_bytes(b"no\xff");
        let output = program(path, &["roll", "--device", "cpu"]).arg(name).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains("--device") && !said.contains("panicked"), "{said}");
    }
    // The variable stands for the flag.
    let with = |name: &str, value: &str| program(path, &["train", "--explain"]).env(name, value).output().unwrap();
    for (name, value) in [("DEEPJ_DEVICE", "nonsense"), ("DEEPJ_TUNE", "sometimes")] {
        let output = with(name, value);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(&format!("{name}={value}")), "{said}");
    }
    // One that has no effect on the CPU is refused as a flag, but the variable is for whatever device there is.
    fails(path, &["train", "--explain", "--tune", "force"], 2, &["--tune force is for a GPU", "the CPU computes"]);
    for (name, value) in [("DEEPJ_TUNE", ""), ("DEEPJ_TUNE", "force"), ("DEEPJ_DEVICE", ""), ("DEEPJ_DEVICE", "CPU")] {
        assert!(with(name, value).status.success(), "{name}={value}");
    }
    for (name, value) in [("WGPU_BACKEND", "directx"), ("WGPU_ADAPTER_NAME", "some card")] {
        let said = String::from_utf8_lossy(&with(name, value).stderr).into_owned();
        assert!(said.contains(name) && said.contains(value), "{said}");
    }
    let path_of_three = ["generate", "--checkpoint", "run", "--style", "smith -> jones -> smith", "--bars", "2"];
    let said = String::from_utf8_lossy(&deepj(path, &path_of_three).stderr).into_owned();
    assert!(said.contains("3 stations"), "{said}");
}

#[test]
fn bad_corpora_are_named_with_what_to_do() {
    let dir = folder();
    let path = dir.path();
    let file = |name: &str, bytes: &[u8]| {
        let file = path.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
    };
    std::fs::create_dir(path.join("empty")).unwrap();
    file("flat/a.mid", b"");
    file("text/genre/composer/notes.mid", b"this is no music");
    corpus(&path.join("good"), 4, 4, 48);
    let whole = std::fs::read(path.join("good/plain/smith/0.mid")).unwrap();
    file("cut/genre/composer/cut.mid", &whole[..whole.len() / 2]);
    // A drum note, and a track in which nothing happens.
    let head = b"MThd\0\0\0\x06\0\0\0\x01\0\x60MTrk";
    file("drums/genre/composer/d.mid", &[&head[..], b"\0\0\0\x0c\0\x99\x24\x40\x60\x89\x24\0\0\xff\x2f\0"].concat());
    file("silent/genre/composer/s.mid", &[&head[..], b"\0\0\0\x04\0\xff\x2f\0"].concat());
    let layout = "<genre>/<composer>/*.mid";
    for (data, texts) in [
        ("nowhere", &["nowhere"][..]),
        ("empty", &["empty", layout]),
        ("flat", &["no genre's folder", layout]),
        ("text", &["text/genre/composer", "notes.mid", layout]),
        ("cut", &["cut/genre/composer", "cut.mid"]),
        ("drums", &["drums/genre/composer", "d.mid", "drum"]),
        ("silent", &["silent/genre/composer", "s.mid"]),
    ] {
        for command in ["train", "corpus"] {
            fails(path, &[command, "--data", data], 1, texts);
        }
    }
    // One bad file among good ones is skipped and said, or refused where asked.
    file("good/plain/smith/bad.mid", b"no music");
    assert!(succeeds(path, &["corpus", "--data", "good"]).contains("skipped plain/smith/bad.mid"));
    fails(path, &["corpus", "--data", "good", "--strict"], 1, &["bad.mid"]);
    fails(path, &["roll", "text/genre/composer/notes.mid"], 1, &["notes.mid"]);
    assert!(!path.join("runs").exists(), "nothing was begun");
}

#[test]
fn a_damaged_checkpoint_is_named() {
    let dir = with_run();
    let path = dir.path();
    let bytes = std::fs::read(path.join("run/best.safetensors")).unwrap();
    std::fs::write(path.join("run/best.safetensors"), &bytes[..bytes.len() / 2]).unwrap();
    for command in ["generate", "evaluate"] {
        fails(path, &[command, "--checkpoint", "run"], 1, &["run/best.safetensors", "cut off", "last.safetensors"]);
    }
    fails(path, &["inspect", "run"], 1, &["run/best.safetensors", "cut off"]);
    fails(path, &["inspect", "corpus/plain/smith/0.mid"], 1, &["0.mid", "safetensors"]);
}

/// A run that was stopped before its first validation.
#[test]
fn a_run_that_validated_nothing_yet_gives_its_last_checkpoint() {
    let dir = with_run();
    let path = dir.path();
    std::fs::remove_file(path.join("run/best.safetensors")).unwrap();
    let output = deepj(path, &["generate", "--checkpoint", "run", "--bars", "1", "-o", "piece.mid"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("run has no best.safetensors"), "{said}");
    assert!(path.join("piece.mid").exists());
    std::fs::remove_file(path.join("run/last.safetensors")).unwrap();
    fails(path, &["generate", "--checkpoint", "run", "--bars", "1", "-o", "other.mid"], 1, &["run/best.safetensors"]);
}

/// A limit on the size of files fails as a full disk does: amid writing.
#[cfg(unix)]
#[test]
fn a_full_disk_ends_a_run_and_keeps_what_was_saved() {
    let dir = with_run();
    let path = dir.path();
    let before = std::fs::read(path.join("run/last.safetensors")).unwrap();
    let resume = ["train", "--resume", "--out", "run", "--steps", "5"];
    let limited = program(path, &resume);
    let mut shell = std::process::Command::new("sh");
    // 64 blocks of 512 bytes: more than the model takes, less than with its moments.
    shell.args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$@\"", "sh"]).arg(limited.get_program());
    shell.envs(limited.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = shell.args(limited.get_args()).current_dir(path).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    for text in ["run/last.safetensors: cannot be written", "make room"] {
        assert!(errors.contains(text), "no '{text}' in: {errors}");
    }
    assert_eq!(std::fs::read(path.join("run/last.safetensors")).unwrap(), before);
    succeeds(path, &resume);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let dir = with_run();
    let mut child =
        program(dir.path(), &["train", "--explain"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert!(child.wait().unwrap().success() && !errors.contains("panicked"), "{errors}");
}

/// Each of the processes that `mpirun` starts would train the same network.
#[cfg(not(feature = "mpi"))]
#[test]
fn a_build_without_mpi_refuses_to_be_one_of_several() {
    let dir = folder();
    for (name, value) in [("OMPI_COMM_WORLD_SIZE", "4"), ("PMI_SIZE", "2")] {
        for arguments in [&["train", "--steps", "1", "--out", "run"][..], &["generate", "--checkpoint", "builtin"]] {
            let output = program(dir.path(), arguments).env(name, value).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert!(said.contains(&format!("{name}={value}")) && said.contains("--features mpi"), "{said}");
        }
    }
    assert!(!dir.path().join("run").exists());
    // One process alone trains as ever.
    let alone = program(dir.path(), &["train", "--fields"]).env("OMPI_COMM_WORLD_SIZE", "1").output().unwrap();
    assert!(alone.status.success());
}
