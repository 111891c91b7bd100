//! `deepj classify`: styles that differ are told apart, and what cannot be measured is said.

use deepj::train::TrainOptions;
use serde_json::Value;

use crate::{corpus, fails, folder, run_quietly, succeeds, tiny};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Two composers with chords of their own; all keys occur.
#[test]
fn two_manners_are_told_apart() {
    let dir = folder();
    corpus(&dir.path().join("corpus"), 18, 8, 48);
    let base = ["classify", "--data", "corpus", "--device", "cpu", "--updates", "200", "--bars", "8", "--json"];
    let report = json(&succeeds(dir.path(), &base));
    assert_eq!((&report["genres"][0], &report["genres"][1]), (&"fancy".into(), &"plain".into()));
    assert_eq!((&report["train"], &report["validation"], &report["test"]), (&24.into(), &6.into(), &6.into()));
    assert_eq!(report["chance"], 0.5);
    let share = |score: &Value| score["share"].as_f64().unwrap();
    assert!(share(&report["real"]) > 0.9, "{}", report["real"]);
    assert!(share(&report["real_composers"]) > 0.9, "a genre has one composer");
    assert!(report["generated"].is_null() && report["sweep"].is_null());
    assert_eq!(report, json(&succeeds(dir.path(), &base)), "the same each time");

    // What a hardly trained model composes sounds alike in all styles; all figures are there.
    run_quietly(&TrainOptions { data: Some(dir.path().join("corpus")), ..tiny(dir.path(), 2) }).unwrap();
    let more = ["--checkpoint", "run", "--count", "3", "--sweep", "smith:1 -> jones:2"];
    let report = json(&succeeds(dir.path(), &[&base[..], &more].concat()));
    let generated = &report["generated"];
    assert_eq!((&generated["count"], &generated["named"]["pieces"]), (&3.into(), &6.into()));
    // As the network alone composes, these are other pieces.
    let learned = json(&succeeds(dir.path(), &[&base[..], &more, &["--as-learned"]].concat()));
    assert_ne!(learned["sweep"]["points"], report["sweep"]["points"]);
    // Of two genres one or the other is named.
    assert!((share(&generated["named"]) + share(&generated["exchanged"]) - 1.0).abs() < 1e-9, "{generated}");
    let points = report["sweep"]["points"].as_array().unwrap();
    assert_eq!((points.len(), &points[0][0], &points[4][0]), (5, &0.0.into(), &1.0.into()));
    assert!(points.iter().all(|point| (0.0..=1.0).contains(&point[1].as_f64().unwrap())));
    let text = succeeds(dir.path(), &[&base[..base.len() - 1], &more].concat());
    for part in ["real pieces, held out", "generated in the named style", "from smith to jones", "chance"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn what_cannot_be_told_apart_is_said() {
    let dir = folder();
    corpus(&dir.path().join("corpus"), 2, 2, 48);
    let base = ["classify", "--data", "corpus", "--device", "cpu"];
    fails(dir.path(), &base, 2, &["no work of the genre", "three works"]);
    let with = |more: &[&'static str]| [&base[..], more].concat();
    fails(dir.path(), &with(&["--bars", "0"]), 2, &["--bars 0", "1 or more"]);
    fails(dir.path(), &with(&["--updates", "0"]), 2, &["updates 0", "1 to"]);
    fails(dir.path(), &with(&["--checkpoint", "none"]), 1, &["none"]);
    fails(dir.path(), &with(&["--sweep", "smith -> jones"]), 2, &["--checkpoint"]);
    fails(dir.path(), &with(&["--as-learned"]), 2, &["--checkpoint"]);
    run_quietly(&tiny(dir.path(), 1)).unwrap();
    let sweep = |text: &'static str| with(&["--checkpoint", "run", "--sweep", text]);
    fails(dir.path(), &sweep("smith"), 2, &["two styles"]);
    fails(dir.path(), &sweep("smith -> bach"), 2, &["`bach`"]);
    fails(dir.path(), &sweep("smith -> fancy"), 2, &["two composers, or two genres"]);
    std::fs::remove_dir_all(dir.path().join("corpus/fancy")).unwrap();
    fails(dir.path(), &base, 2, &["one genre, plain"]);
    let plain = folder();
    corpus(&plain.path().join("corpus"), 4, 4, 48);
    let set = [tiny(plain.path(), 1).set, vec![("style".into(), "none".into())]].concat();
    run_quietly(&TrainOptions { set, ..tiny(plain.path(), 1) }).unwrap();
    fails(plain.path(), &with(&["--checkpoint", "run"]), 1, &["knows no styles"]);
}
