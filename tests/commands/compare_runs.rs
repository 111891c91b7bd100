//! `deepj compare-runs`: one table and one picture of several runs.

use deepj::train::TrainOptions;
use serde_json::Value;

use crate::{fails, folder, run_quietly, succeeds, tiny};

#[test]
fn runs_are_told_apart_by_what_differs() {
    let dir = folder();
    let path = dir.path();
    run_quietly(&TrainOptions { out: Some(path.join("one")), ..tiny(path, 4) }).unwrap();
    run_quietly(&TrainOptions { out: Some(path.join("two")), seed: Some(7), lr: Some(0.01), ..tiny(path, 6) }).unwrap();
    let text = succeeds(path, &["compare-runs", "one", "two", "--svg", "curves.svg"]);
    let row = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_string();
    assert!(row("two").contains("seed=7") && row("two").contains("lr=0.01"), "{text}");
    assert!(row("one").contains("seed=0") && !row("one").contains("time_units"), "{text}");
    assert!(text.starts_with("`best` is play_nats_per_step"), "{text}");

    let json = succeeds(path, &["compare-runs", "one", "two", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json["runs"][0]["updates"].as_u64(), json["runs"][1]["updates"].as_u64()), (Some(4), Some(6)));
    // The best validation is the one of which the run's own file is.
    let curve = std::fs::read_to_string(path.join("two/curve.jsonl")).unwrap();
    let best = curve.lines().rev().find(|line| line.contains("\"best\":true")).unwrap();
    let best: Value = serde_json::from_str(best).unwrap();
    assert_eq!(json["runs"][1]["best"]["step"], best["step"].as_f64().unwrap());
    assert_eq!(json["runs"][1]["best"]["play_nats_per_step"], best["play_nats_per_step"]);
    let table: f64 = row("two").split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!((table - best["play_nats_per_step"].as_f64().unwrap()).abs() < 1e-3, "{text}");

    // Beside a third like the first, that needs no word.
    run_quietly(&TrainOptions { out: Some(path.join("three")), ..tiny(path, 4) }).unwrap();
    let text = succeeds(path, &["compare-runs", "one", "two", "three"]);
    let row = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_string();
    assert!(row("two").contains("seed=7") && !row("one").contains("seed="), "{text}");

    let svg = std::fs::read_to_string(path.join("curves.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>") && !svg.contains("NaN"), "{svg}");
    // A point a validation: after updates 2 and 4, and after 2, 4 and 6.
    assert_eq!(svg.matches("<circle").count(), 5, "{svg}");
    for over in ["seconds", "epochs"] {
        let picture = succeeds(path, &["compare-runs", "one", "--svg", "-", "--over", over]);
        assert!(picture.contains(&format!(">{over}<")) && !picture.contains("NaN"), "{picture}");
    }
}

#[test]
fn what_cannot_be_compared_is_said() {
    let dir = folder();
    let path = dir.path();
    run_quietly(&TrainOptions { out: Some(path.join("one")), ..tiny(path, 2) }).unwrap();
    std::fs::create_dir(path.join("empty")).unwrap();
    std::fs::create_dir(path.join("silent")).unwrap();
    std::fs::copy(path.join("one/last.safetensors"), path.join("silent/last.safetensors")).unwrap();
    std::fs::write(path.join("silent/curve.jsonl"), "no line\n").unwrap();
    for (flags, what, code) in [
        (&["one", "./one"][..], "named twice", 2),
        (&["one", "empty"], "neither a last.safetensors nor a best.safetensors", 1),
        (&["one", "none"], "none", 1),
        (&["one", "silent"], "silent: curve.jsonl has no line that can be read", 1),
        (&["one", "--measure", "play_bc"], "did you mean `play_bce`?", 2),
        (&["one", "--over", "days"], "give updates, seconds or epochs", 2),
        (&["one", "--svg", "-", "--json"], "both on standard output", 2),
        (&["one", "--svg", "picture.png"], "picture.png", 2),
    ] {
        fails(path, &[&["compare-runs"], flags].concat(), code, &[what]);
    }
    // Another corpus, and lines that are none, are said and keep nothing from being compared.
    crate::corpus(&path.join("other"), 4, 5, 50);
    let other = TrainOptions { data: Some(path.join("other")), out: Some(path.join("two")), ..tiny(path, 2) };
    run_quietly(&other).unwrap();
    let curve = path.join("two/curve.jsonl");
    let text = std::fs::read_to_string(&curve).unwrap();
    std::fs::write(&curve, format!("half a line\n{text}")).unwrap();
    let json: Value = serde_json::from_str(&succeeds(path, &["compare-runs", "one", "two", "--json"])).unwrap();
    let notes = json["notes"].to_string();
    assert!(
        notes.contains("other pieces")
            && notes.contains("corpus")
            && notes.contains("unreadable lines of the curve: 1"),
        "{notes}"
    );
    assert_eq!(json["runs"][1]["unreadable"], 1);
    // The same pieces in another split, and another sum of losses.
    let split = TrainOptions { split_seed: Some(5), out: Some(path.join("three")), ..tiny(path, 2) };
    run_quietly(&split).unwrap();
    let mut weighted = TrainOptions { out: Some(path.join("four")), ..tiny(path, 2) };
    weighted.loss_weights = [("dynamics".to_string(), 5.0)].into_iter().collect();
    run_quietly(&weighted).unwrap();
    let notes = |arguments: &[&str]| {
        let json = succeeds(path, &[&["compare-runs", "--json", "one"], arguments].concat());
        serde_json::from_str::<Value>(&json).unwrap()["notes"].to_string()
    };
    assert!(notes(&["three"]).contains("split_seed"));
    assert!(notes(&["four", "--measure", "loss"]).contains("other weights"));
    assert_eq!(notes(&["four"]), "[]");
}

/// Opening one would wait for ever.
#[cfg(unix)]
#[test]
fn a_curve_that_is_a_pipe_is_refused() {
    let dir = folder();
    let path = dir.path();
    run_quietly(&TrainOptions { out: Some(path.join("one")), ..tiny(path, 2) }).unwrap();
    let curve = path.join("one/curve.jsonl");
    std::fs::remove_file(&curve).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&curve).status().unwrap().success());
    fails(path, &["compare-runs", "one"], 1, &["curve.jsonl: is not an ordinary file"]);
}

/// A link to a file of a run is not written through.
#[cfg(unix)]
#[test]
fn a_run_that_is_compared_is_not_written_over() {
    let dir = folder();
    let path = dir.path();
    run_quietly(&TrainOptions { out: Some(path.join("one")), ..tiny(path, 2) }).unwrap();
    for name in ["best.safetensors", "last.safetensors", "curve.jsonl"] {
        let before = std::fs::read(path.join("one").join(name)).unwrap();
        let link = format!("{name}.svg");
        std::os::unix::fs::symlink(path.join("one").join(name), path.join(&link)).unwrap();
        fails(path, &["compare-runs", "one", "--svg", &link], 1, &["is read by this command"]);
        assert_eq!(before, std::fs::read(path.join("one").join(name)).unwrap());
    }
}
