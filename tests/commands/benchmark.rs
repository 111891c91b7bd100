//! `deepj benchmark`: data as published, the likelihood exact, in both averages, and bad files named.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use deepj::benchmark::PUBLISHED;
use deepj::benchmark::bl2012::{Data, Set};
use deepj::checkpoint::{Checkpoint, StopConditions};
use deepj::evaluate::{evaluate, evaluate_each};
use deepj::graph::session::KernelSelection;
use deepj::models::LossWeights;
use deepj::music::{Composer, Corpus, NoteRange, Part, Piece, Roll, Split, Styles};
use deepj::shape::{Channel, Channels};
use deepj::train::{Pieces, TrainOptions, prepare_pieces, train};
use pollster::block_on;
use serde_json::{Value, json};

use crate::{TINY, cpu, deepj, fails, folder, program, succeeds};

/// A set whose test pieces are of 2 and of 6 steps, as `JSB_Chorales.json` in `dir/bl2012`.
fn data(dir: &Path) -> PathBuf {
    let chord = |k: usize| vec![60 + k % 3, 64 + k % 3];
    let piece = |from: usize, steps: usize| (from..from + steps).map(|k| if k % 4 == 3 { vec![] } else { chord(k) });
    let piece = |from, steps| piece(from, steps).collect::<Vec<_>>();
    let train: Vec<_> = (0..4).map(|i| piece(i, 12 + i)).collect();
    let valid = [piece(1, 9), piece(2, 5)];
    let test = [piece(0, 2), piece(1, 6)];
    write(dir, &json!({"train": train, "valid": valid, "test": test}).to_string())
}

fn write(dir: &Path, text: &str) -> PathBuf {
    let folder = dir.join("bl2012");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(Set::Jsb.file());
    std::fs::write(&path, text).unwrap();
    path
}

/// The arguments of a tiny benchmark on the set in `bl2012`, with more.
fn arguments(more: &[&str]) -> Vec<String> {
    let fixed = ["benchmark", "bl2012", "--data", "bl2012", "--set", "jsb", "--batch", "2", "--seq", "8"];
    let sizes = TINY.iter().flat_map(|(name, value)| ["--config".into(), format!("{name}={value}")]);
    fixed.iter().map(ToString::to_string).chain(sizes).chain(more.iter().map(ToString::to_string)).collect()
}

/// What a tiny benchmark prints as JSON.
fn report(dir: &Path, more: &[&str]) -> Value {
    let arguments = arguments(&[more, &["--json"]].concat());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    serde_json::from_str(&succeeds(dir, &arguments)).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn near(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-9 * a.abs().max(1.0), "{a} {b}");
}

/// All pieces of `steps` time steps over three notes.
fn all_pieces(steps: u32) -> Vec<Piece> {
    let (range, play) = (NoteRange::new(60, 62).unwrap(), Channels::new(&[Channel::Play]).unwrap());
    let piece = |bits: u32| {
        let values: Vec<f32> = (0..3 * steps).map(|i| (bits >> i & 1) as f32).collect();
        let roll = Roll::from_values(range, play, &values).unwrap();
        Piece { name: format!("a/b/{bits:05}"), style: 0, roll, dynamics: true, mean_bpm: 120.0 }
    };
    (0..1 << (3 * steps)).map(piece).collect()
}

/// The probabilities of all pieces of two steps sum to 1 only if each note is given no more than the lower ones and the step
/// before, and the state between the steps is that of the piece.
#[test]
fn the_likelihood_is_exact() {
    let biaxial = [("time_units", "[8,6]"), ("note_units", "[7,5]")];
    is_exact("deepj", &TINY);
    is_exact("deepj", &[&TINY[..], &[("octave", "direct"), ("dynamics", "categorical"), ("style", "none")]].concat());
    is_exact("biaxial", &biaxial);
}

/// How `deepj benchmark` weighs the losses of a model.
fn of_play_alone(model: &str) -> LossWeights {
    let others: &[&str] = if model == "biaxial" { &["replay"] } else { &["replay", "dynamics"] };
    others.iter().map(|label| ((*label).into(), 0.0)).collect()
}

fn is_exact(model: &str, set: &[(&str, &str)]) {
    let dir = folder();
    let styles = Styles::new(vec![Composer { genre: "a".into(), name: "b".into() }]).unwrap();
    let corpus = Corpus::from_pieces(styles, all_pieces(2), 1).unwrap();
    let names: Vec<String> = corpus.pieces.iter().map(|piece| piece.name.clone()).collect();
    let split = Split { seed: 0, train: names[20..].into(), validation: names[..8].into(), test: names.clone() };
    let options = TrainOptions {
        out: Some(dir.path().join("run")),
        model: Some(model.into()),
        set: set.iter().map(|&(name, value)| (name.into(), value.into())).collect(),
        loss_weights: of_play_alone(model),
        batch: Some(2),
        seq: Some(2),
        lr: Some(if model == "biaxial" { 50.0 } else { 0.02 }),
        budget: StopConditions { steps: Some(20), ..StopConditions::default() },
        ..TrainOptions::default()
    };
    let (never, selection) = (AtomicBool::new(false), KernelSelection::default);
    let pieces = Pieces { corpus: corpus.clone(), split };
    let prepared = prepare_pieces(&options, &cpu(), &pieces).unwrap();
    let heads = |checkpoint: &Checkpoint| {
        let heads = checkpoint.model.layout().params().iter().find(|p| p.name == "heads.bias").unwrap().view;
        checkpoint.params[heads.start..][..heads.len].to_vec()
    };
    let before = heads(&prepared.state);
    let outcome = block_on(train(prepared, cpu(), selection(), &mut (), &never)).unwrap();
    let checkpoint = Checkpoint::load(outcome.last_checkpoint).unwrap();
    let after = heads(&checkpoint);
    assert!(before[0] != after[0] && before[1..] == after[1..], "only play was trained: {before:?} {after:?}");

    let each = block_on(evaluate_each(&checkpoint, &corpus.pieces, cpu(), selection(), &never, |_| ())).unwrap();
    let probability = |nats: f64| (-nats).exp();
    let sum: f64 = each.unwrap().iter().map(|m| probability(m.losses.nats_per_step() * m.steps as f64)).sum();
    assert!((sum - 1.0).abs() < 1e-4, "{sum}");
}

#[test]
fn the_two_averages_are_of_the_same_pieces() {
    let dir = folder();
    data(dir.path());
    let report = report(dir.path(), &["--steps", "6", "--validate-every", "3"]);
    let test = &report["test"];
    let (pooled, per_sequence) = (number(&test["pooled"]), number(&test["per_sequence"]));
    assert_eq!((&test["steps"], &test["sequences"]), (&8.into(), &2.into()));
    assert!(pooled != per_sequence);

    let checkpoint = Checkpoint::load(dir.path().join("runs/bl2012/jsb-deepj/best.safetensors")).unwrap();
    let (never, selection) = (AtomicBool::new(false), KernelSelection::default);
    let data = Data::read(&dir.path().join("bl2012"), Set::Jsb).unwrap();
    let pieces = data.part(Part::Test).unwrap();
    let metrics = |pieces: &[_], slots| {
        let metrics = block_on(evaluate(&checkpoint, pieces, slots, cpu(), selection(), &never, |_| ()));
        metrics.unwrap().unwrap()
    };
    // The network has the seven keys from 60 to 66.
    let outside = data.outside(&pieces[0]) / 2.0;
    near(outside, 81.0 * (1.0f64 - 1.0 / 56.0).ln());
    near(data.outside(&pieces[1]), 6.0 * outside);
    let of_one = |piece| outside - metrics(std::slice::from_ref(piece), 1).losses.nats_per_step();
    let alone: Vec<f64> = pieces.iter().map(of_one).collect();
    near(pooled, (2.0 * alone[0] + 6.0 * alone[1]) / 8.0);
    near(per_sequence, (alone[0] + alone[1]) / 2.0);
    assert!((pooled - outside + metrics(&pieces, 2).losses.nats_per_step()).abs() < 1e-4);

    // What training minimises and validation compares is play alone.
    assert_eq!(checkpoint.settings.loss_weights, of_play_alone("deepj"));
    let best = &report["run"]["best"];
    near(number(&best["loss"]) * 7.0, number(&best["play_nats_per_step"]));
}

#[test]
fn an_untrained_model_tosses_a_coin_for_each_key() {
    let dir = folder();
    data(dir.path());
    let report = report(dir.path(), &["--steps", "0"]);
    let pooled = number(&report["test"]["pooled"]);
    // A coin for each key of the network, but for what random weights make of it.
    let outside = 81.0 * (1.0f64 - 1.0 / 56.0).ln();
    assert!(((outside - pooled) / (7.0 * 2f64.ln()) - 1.0).abs() < 0.4, "{pooled}");
    assert_eq!(report["network_keys"], "60..=66");
    assert_eq!((&report["keys"], &report["train"], &report["validation"]), (&88.into(), &4.into(), &2.into()));
}

#[test]
fn the_1_gram_is_that_of_hand_computation() {
    let dir = folder();
    // Key 60 on 2 of 4 steps of the training, key 21 on 1; the test has one step with 60 and with 100, which
    // the network has not, and one with nothing.
    write(
        dir.path(),
        r#"{"train": [[[60], [60, 21]], [[], []]], "valid": [[[60]]], "test": [[[60, 100, 100]], [[]]]}"#,
    );
    let (one_gram, agrees) = Data::read(&dir.path().join("bl2012"), Set::Jsb).unwrap().one_gram().unwrap();
    let (p60, p21, other) = (3.0 / 6.0, 2.0 / 6.0, 1.0 / 6.0);
    let silent = |p: f64| (1.0 - p).ln();
    let rest = silent(p21) + 85.0 * silent(other);
    let (key_60, key_100) = (f64::ln(p60) + silent(p60), f64::ln(other) + silent(other));
    near(one_gram.pooled, (key_60 + key_100) / 2.0 + rest);
    assert!(!agrees, "these are other data");
    let arguments = arguments(&["--steps", "0"]);
    let output = deepj(dir.path(), &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(String::from_utf8_lossy(&output.stderr).contains("not the published one"));
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    for text in ["pooled", "per sequence", "RNN-RBM", "-6.27", "-5.118", "Table 1", "quote it with -5.19"] {
        assert!(table.contains(text), "no {text} in {table}");
    }
}

/// The folder of the real data, where there is one.
fn real_data() -> Option<PathBuf> {
    std::env::var_os("DEEPJ_BL2012").filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

#[test]
fn the_1_gram_of_the_real_data_is_the_published_row() {
    let Some(folder) = real_data() else {
        println!("skipped: no folder is named by DEEPJ_BL2012");
        return;
    };
    let published = PUBLISHED.iter().find(|row| row.model == "Note 1-gram").unwrap();
    for (set, row) in [(Set::PianoMidi, -11.05), (Set::Nottingham, -10.25), (Set::MuseData, -11.51), (Set::Jsb, -11.06)]
    {
        let (one_gram, agrees) = Data::read(&folder, set).unwrap().one_gram().unwrap();
        assert!(agrees && published.on(set) == row, "{set}: {one_gram:?}");
        assert_eq!(format!("{:.2}", one_gram.pooled), format!("{row:.2}"), "{set}");
    }
}

#[test]
fn the_same_command_goes_on_with_an_interrupted_run() {
    let dir = folder();
    data(dir.path());
    let common = ["--validate-every", "2", "--patience", "1000"];
    let whole = report(dir.path(), &[&common, &["--steps", "9", "--out", "whole"][..]].concat());
    // By a number of updates, and by a signal.
    report(dir.path(), &[&common, &["--steps", "4", "--out", "parts"][..]].concat());
    let parts = report(dir.path(), &[&common, &["--steps", "9", "--out", "parts"][..]].concat());
    assert_eq!((&parts["test"], &parts["one_gram"]), (&whole["test"], &whole["one_gram"]));
    assert_eq!(parts["run"]["best"], whole["run"]["best"]);
    // Again, where nothing is left to do.
    assert_eq!(report(dir.path(), &[&common, &["--steps", "9", "--out", "parts"][..]].concat())["test"], whole["test"]);
    let begun_with = ["--steps", "9", "--out", "parts", "--seed", "3"];
    let arguments = arguments(&begun_with);
    fails(dir.path(), &arguments.iter().map(String::as_str).collect::<Vec<_>>(), 2, &["--seed 0, not 3", "--out"]);
}

/// The default folder of a set is that of any configuration: none is taken for another.
#[test]
fn a_run_of_another_configuration_is_not_taken_for_this_one() {
    let dir = folder();
    data(dir.path());
    report(dir.path(), &["--steps", "2"]);
    let check = |more: &[&str], code, texts: &[&str]| {
        let arguments = arguments(more);
        fails(dir.path(), &arguments.iter().map(String::as_str).collect::<Vec<_>>(), code, texts);
    };
    check(&["--config", "style=none"], 2, &["begun with another configuration", "--out"]);
    check(&["--lr", "0.1"], 2, &["--lr 0.002, not 0.1", "--out"]);
    let plain = ["benchmark", "bl2012", "--data", "bl2012", "--set", "jsb", "--steps", "2"];
    fails(dir.path(), &plain, 2, &["jsb-deepj", "the run was begun with"]);
    let biaxial = "runs/bl2012/jsb-biaxial";
    let small = ["--config", "time_units=[8,8]", "--config", "note_units=[8,8]"];
    let of_biaxial = [&plain[..], &["--model", "biaxial", "--device", "cpu"], &small].concat();
    assert!(succeeds(dir.path(), &of_biaxial).contains("biaxial"));
    assert!(dir.path().join(biaxial).exists());
    // Patience is that of the beginning.
    let patience =
        || Checkpoint::load(dir.path().join(biaxial).join("last.safetensors")).unwrap().settings.budget.patience;
    assert_eq!(patience(), Some(20));
    succeeds(dir.path(), &[&of_biaxial[..], &["--force", "--patience", "50"]].concat());
    succeeds(dir.path(), &of_biaxial);
    assert_eq!(patience(), Some(50));
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_benchmark_that_goes_on_later() {
    let dir = folder();
    data(dir.path());
    let common = ["--validate-every", "2", "--patience", "1000000", "--out", "run"];
    let endless = arguments(&common);
    let endless: Vec<&str> = endless.iter().map(String::as_str).collect();
    let mut command = program(dir.path(), &endless);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    while !dir.path().join("run/last.safetensors").exists() {
        assert!(child.try_wait().unwrap().is_none() && began.elapsed() < Duration::from_secs(120), "no checkpoint");
        std::thread::sleep(Duration::from_millis(10));
    }
    // SAFETY: a signal to a child that was not waited for.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGINT) }, 0);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(output.stdout.is_empty() && said.contains("the same command goes on"), "{said}");
    let step = Checkpoint::load(dir.path().join("run/last.safetensors")).unwrap().progress.step;
    let report = report(dir.path(), &[&common[..], &["--steps", &(step + 1).to_string()]].concat());
    assert_eq!(number(&report["run"]["step"]), (step + 1) as f64);
}

#[test]
fn bad_files_are_named_with_their_place() {
    let dir = folder();
    let path = dir.path();
    let arguments = arguments(&["--steps", "0"]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let file = "bl2012/JSB_Chorales.json";
    fails(path, &arguments, 1, &[file, "is not there", "--data"]);
    let cases: [(&str, &[&str]); 12] = [
        ("", &["is cut off", "0 bytes"]),
        (r#"{"train": [[[60, 64], [6"#, &["is cut off", "ends after 24 bytes", "copy it again"]),
        (r#"{"train": [[[60]]], "valid": [[[60]]]}"#, &["byte 38", "missing field `test`"]),
        (r#"{"train": [[[60.5]]], "valid": [], "test": []}"#, &["byte 17", "60.5"]),
        ("{\"train\":\n[[[\"C\"]]], \"valid\": [], \"test\": []}", &["byte 16", "\"C\""]),
        ("MIDI", &["byte 1"]),
        (
            r#"{"train": [[[60], [64, 20]]], "valid": [[[60]]], "test": [[[60]]]}"#,
            &["`train`, piece 1, step 2", "20", "21..=108"],
        ),
        (r#"{"train": [[[60]]], "valid": [[[60]]], "test": [[[60]], [[109]]]}"#, &["`test`, piece 2, step 1", "109"]),
        (r#"{"train": [[[-1]]], "valid": [[[60]]], "test": [[[60]]]}"#, &["`train`, piece 1, step 1", "-1"]),
        (r#"{"train": [[[300]]], "valid": [[[60]]], "test": [[[60]]]}"#, &["`train`, piece 1, step 1", "300"]),
        (r#"{"train": [[[60]]], "valid": [], "test": [[[60]]]}"#, &["`valid` has no piece"]),
        (r#"{"train": [[[60]], []], "valid": [[[60]]], "test": [[[60]]]}"#, &["`train`, piece 2 has no time step"]),
    ];
    for (text, expected) in cases {
        write(path, text);
        fails(path, &arguments, 1, &[&[file], expected].concat());
    }
    let long = std::fs::File::create(path.join(file)).unwrap();
    long.set_len((16 << 20) + 1).unwrap();
    fails(path, &arguments, 1, &[file, "has more than the 16777216 bytes"]);
    assert!(!path.join("runs").exists(), "nothing was begun");
    let named = |set| ["benchmark", "bl2012", "--data", "bl2012", "--set", set];
    fails(path, &named("musedate"), 2, &["there is no set `musedate`", "did you mean `musedata`?"]);
}

#[test]
fn what_does_not_fit_is_said_in_the_flags_of_the_command() {
    let dir = folder();
    let path = dir.path();
    data(path);
    let check = |more: &[&str], code, texts: &[&str]| {
        let arguments = arguments(more);
        fails(path, &arguments.iter().map(String::as_str).collect::<Vec<_>>(), code, texts);
    };
    check(&["--config", "unit=3"], 2, &["--config unit: no such field", "time_units"]);
    check(&["--model", "depj"], 2, &["there is no model `depj`", "`deepj`"]);
    check(&["--lr", "0"], 2, &["--lr"]);
    // A benchmark's run is no corpus of MIDI files.
    report(path, &["--steps", "1", "--out", "run"]);
    fails(path, &["train", "--resume", "--out", "run"], 1, &["JSB_Chorales.json", "deepj benchmark"]);
    fails(path, &["evaluate", "--checkpoint", "run"], 1, &["JSB_Chorales.json", "deepj benchmark"]);
    // Other data in the same folder.
    write(path, r#"{"train": [[[60]]], "valid": [[[60]]], "test": [[[60]]]}"#);
    check(&["--steps", "1", "--out", "run"], 2, &["another corpus or set", "--out"]);
}
