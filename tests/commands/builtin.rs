//! The weights within the program: what composes in a fresh clone.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use deepj::checkpoint::{BUILTIN, Checkpoint, LICENCE};
use deepj::experiment::{Source, page_within};
use deepj::generate::{Composition, generate};
use deepj::gpu::Device;
use deepj::graph::session::KernelSelection;
use deepj::music::{NoteRange, Reading, StylePath};
use serde_json::Value;

use crate::{corpus, deepj, fails, folder, succeeds, tiny_arguments};

const WEIGHTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/weights");

fn read(file: &Path) -> Reading {
    Reading::read(file, NoteRange::default(), false).unwrap()
}

/// Where there is no run, the first thing that a musician tries makes music.
#[test]
fn a_fresh_clone_composes_in_each_genre() {
    let dir = folder();
    let path = dir.path();
    for genre in ["baroque", "classical", "romantic"] {
        let file = format!("{genre}.mid");
        let output = deepj(path, &["generate", "--style", genre, "--bars", "8", "--seed", "3", "-o", &file]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("no run in runs/ has a best.safetensors"), "{said}");
        assert!(!said.contains("copied"), "nobody asked: {said}");
        let reading = read(&path.join(&file));
        assert!(reading.warnings.is_empty() && reading.left_out().is_none(), "{:?}", reading.warnings);
        let roll = reading.roll_with_rest().unwrap();
        assert!(roll.notes().len() > 32, "{genre}: {} notes in 8 bars", roll.notes().len());
    }
    // By name the same, and without a word.
    let named =
        ["generate", "--checkpoint", BUILTIN, "--style", "baroque", "--bars", "8", "--seed", "3", "-o", "again.mid"];
    let output = deepj(path, &named);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("note: no run"), "{said}");
    assert_eq!(std::fs::read(path.join("baroque.mid")).unwrap(), std::fs::read(path.join("again.mid")).unwrap());
    // Who asks for copies is told that nobody can look.
    let output = deepj(path, &[&named[..], &["--copies-bound", "1"]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("nobody looked whether the model has copied"), "{said}");
}

/// What a program that uses the library gets by [`Composition::usual`] is what `generate` writes where nothing is wished.
#[test]
fn the_usual_composition_is_the_command_s() {
    let dir = folder();
    let arguments = ["--device", "cpu", "--style", "baroque", "--bars", "4", "--seed", "3", "-o", "piece.mid"];
    succeeds(dir.path(), &[&["generate", "--checkpoint", BUILTIN], &arguments[..]].concat());
    let written = read(&dir.path().join("piece.mid")).roll_with_rest().unwrap();

    let checkpoint = Checkpoint::named(Path::new(BUILTIN)).unwrap();
    let style = StylePath::parse("baroque", &checkpoint.styles).unwrap().0;
    let device = Device::Cpu { why: String::new() };
    let composed = |composition: Composition| {
        let composition = Composition { seed: 3, ..composition };
        let never = AtomicBool::new(false);
        let composing = generate(&checkpoint, &composition, device.clone(), KernelSelection::default(), &never, |_| ());
        pollster::block_on(composing).unwrap().rolls.remove(0)
    };
    let usual = composed(Composition::usual(&checkpoint, vec![style.clone()], 4));
    assert_eq!(written.notes(), usual.notes());
    assert_ne!(usual.notes(), composed(Composition::new(vec![style], 4)).notes(), "as learned");
}

#[test]
fn a_run_comes_before_the_weights_within_the_program() {
    let dir = folder();
    let path = dir.path();
    corpus(&path.join("corpus"), 4, 4, 48);
    let mut arguments = tiny_arguments(&["--steps", "1"]);
    arguments.drain(3..5); // --out run
    succeeds(path, &arguments);
    let newest: Value = serde_json::from_str(&succeeds(path, &["inspect", "--json"])).unwrap();
    assert!(
        newest["checkpoint"].as_str().unwrap().starts_with("runs/") && newest["corpus"].get("licence").is_none(),
        "{newest}"
    );
    let builtin: Value = serde_json::from_str(&succeeds(path, &["inspect", BUILTIN, "--json"])).unwrap();
    assert_eq!((&builtin["checkpoint"], &builtin["corpus"]["licence"]), (&BUILTIN.into(), &LICENCE.into()));
    // A folder of that name is named otherwise.
    fails(path, &["inspect", "./builtin"], 1, &["./builtin"]);
    // What others trained goes on from it.
    let tuned = "train --data corpus --out tuned --init builtin --steps 1 --batch 1 --seq 4 --samples 0";
    let output = deepj(path, &tuned.split(' ').collect::<Vec<_>>());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Under the same licence, like what is exported.
    succeeds(path, &["export", "builtin", "-o", "exported.safetensors"]);
    for derived in ["tuned", "exported.safetensors"] {
        assert!(succeeds(path, &["inspect", derived]).contains("CC-BY-SA-4.0"), "{derived}");
    }
}

#[test]
fn inspect_says_what_may_be_done_with_weights_and_music() {
    let dir = folder();
    let text = succeeds(dir.path(), &["inspect"]);
    for words in ["builtin", "CC-BY-SA-4.0", "Bernd Krueger", "SOURCES.tsv", "The music that they compose"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let styles = succeeds(dir.path(), &["styles"]);
    // Its pieces are not within the program.
    fails(dir.path(), &["evaluate"], 2, &["are not within it", "--data"]);
    std::fs::create_dir(dir.path().join("pieces")).unwrap();
    fails(dir.path(), &["evaluate", "--generated", "pieces"], 2, &["are not within it", "--against"]);
    assert!(styles.contains("beethoven") && styles.contains("of the same genre for"), "{styles}");
}

/// Each piece with its licence and whom to credit, and no other piece.
#[test]
fn the_sources_are_the_pieces_of_the_training() {
    let split = Checkpoint::builtin().unwrap().split;
    let trained: BTreeSet<&str> =
        [&split.train, &split.validation, &split.test].into_iter().flatten().map(String::as_str).collect();
    let text = std::fs::read_to_string(format!("{WEIGHTS}/SOURCES.tsv")).unwrap();
    let rows: Vec<Vec<&str>> = text.lines().skip(1).map(|line| line.split('\t').collect()).collect();
    let listed: BTreeSet<&str> = rows.iter().map(|row| row[0]).collect();
    assert_eq!((listed.len(), rows.len()), (trained.len(), trained.len()));
    assert_eq!(listed, trained);
    for row in &rows {
        let [_, _, composer, licence, credit, source] = row[..] else { panic!("{row:?}") };
        let free = ["Public Domain", "CC BY 2", "CC BY 3", "CC BY 4", "CC BY-SA "];
        assert!(free.iter().any(|free| licence.starts_with(free)), "{row:?}");
        assert!(![composer, credit, source].contains(&""), "{row:?}");
    }
    let bytes = std::fs::metadata(format!("{WEIGHTS}/deepj.safetensors")).unwrap().len();
    assert!(bytes <= 3_000_000, "{bytes} bytes within the program");
}

/// The figures of the card are those of the committed results.
#[test]
fn the_card_is_made_of_the_committed_results() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries = std::fs::read_dir(root.join("experiments/results")).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    let mut files: Vec<String> =
        names.filter(|name| name.starts_with("weights-")).map(|name| format!("experiments/results/{name}")).collect();
    files.sort();
    assert!(!files.is_empty());
    let sources: Vec<Source> = files.iter().map(|file| Source::read(&root.join(file)).unwrap()).collect();
    let command = format!("deepj experiment --report docs/WEIGHTS.md {}", files.join(" "));
    let card = std::fs::read_to_string(root.join("docs/WEIGHTS.md")).unwrap();
    assert!(
        page_within(&card, &sources, &command).unwrap().unwrap() == card,
        "docs/WEIGHTS.md is not what `{command}` makes"
    );
}

/// A corpus may be a part of the one that was trained on, as a user has one of two collections.
#[test]
fn what_is_there_of_a_split_is_measured() {
    let dir = folder();
    let path = dir.path();
    corpus(&path.join("corpus"), 20, 4, 48);
    succeeds(path, &tiny_arguments(&["--steps", "1"]));
    let split = Checkpoint::load(path.join("run/best.safetensors")).unwrap().split;
    let (first, rest) = split.validation.split_first().unwrap();
    assert!(!rest.is_empty(), "{split:?}");
    std::fs::remove_file(path.join("corpus").join(first)).unwrap();
    let arguments = ["evaluate", "--checkpoint", "run", "--data", "corpus", "--json"];
    let output = deepj(path, &arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    let all = split.validation.len();
    let note = format!("{} of the {all} pieces of the validation split are in this corpus", all - 1);
    assert!(output.status.success() && said.contains(&note), "{said}");
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(figures["files"], all - 1);
    // Genres together are all, each step counting alike.
    let genres = figures["genres"].as_object().unwrap();
    let sum = |key: &str| -> f64 {
        genres.values().map(|of| of[key].as_f64().unwrap() * of["steps"].as_f64().unwrap()).sum()
    };
    let steps = figures["steps"].as_f64().unwrap();
    let by_genre = sum("play_nats_per_step") / steps;
    assert!(
        genres.len() == 2 && (by_genre - figures["play_nats_per_step"].as_f64().unwrap()).abs() < 1e-9,
        "{figures}"
    );
    for name in rest {
        std::fs::remove_file(path.join("corpus").join(name)).unwrap();
    }
    fails(path, &arguments[..5], 2, &["of the validation split is not in this corpus"]);
}
