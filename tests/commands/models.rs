//! Every network and every switch of DeepJ through the commands: trained, gone on with, evaluated, composed with, from a given
//! beginning too, and profiled.

use serde_json::Value;

use crate::{corpus, fails, folder, succeeds};

const BIAXIAL: [&str; 8] =
    ["--model", "biaxial", "--set", "time_units=[8,6]", "--set", "note_units=[7,5]", "--notes", "40..=80"];

/// What makes each network tiny, and the loss of its that is like no other's.
pub fn networks() -> Vec<(&'static str, Vec<&'static str>, &'static str)> {
    let deepj = |switches: &[&'static str]| {
        let tiny = ["time_units=8", "note_units=8", "filters=4", "style_width=4"];
        tiny.iter().chain(switches).flat_map(|&field| ["--set", field]).collect::<Vec<_>>()
    };
    vec![
        ("biaxial", BIAXIAL.to_vec(), "replay_bce"),
        ("categorical", deepj(&["dynamics=categorical"]), "dynamics_ce"),
        ("direct", deepj(&["octave=direct"]), "dynamics_mse"),
        ("both", deepj(&["octave=direct", "dynamics=categorical", "style=input"]), "dynamics_ce"),
        ("unmasked", deepj(&["dynamics=categorical", "masked_losses=false"]), "dynamics_ce_of_all"),
        ("no-style", deepj(&["octave=direct", "style=none"]), "dynamics_mse"),
        ("concat", deepj(&["join=concat", "dynamics=categorical"]), "dynamics_ce"),
    ]
}

/// The lines of a curve without what depends on the clock.
fn curve(run: &std::path::Path) -> Vec<String> {
    let text = std::fs::read_to_string(run.join("curve.jsonl")).unwrap();
    let lines = text.lines().filter(|line| !line.contains("\"end\""));
    lines.map(|line| line.split(",\"seconds\"").next().unwrap().to_string()).collect()
}

#[test]
fn every_network_is_trained_evaluated_and_composed_with() {
    let dir = folder();
    let path = dir.path();
    corpus(&path.join("corpus"), 4, 4, 48);
    for (name, flags, loss) in networks() {
        let train = |out: &str, more: &[&str]| {
            let base = ["train", "--data", "corpus", "--batch", "2", "--seq", "16", "--validate-every", "2", "--json"];
            let arguments = [&base[..], &["--samples", "1", "--out", out], &flags, more].concat();
            serde_json::from_str::<Value>(&succeeds(path, &arguments)).unwrap()
        };
        let whole = format!("{name}-whole");
        let samples = train(&whole, &["--steps", "4"])["samples"].as_array().unwrap().len();
        assert_eq!(
            samples,
            if ["biaxial", "no-style"].contains(&name) { 1 } else { 2 },
            "{name}: a piece a genre, where it knows them"
        );
        let parts = format!("{name}-parts");
        train(&parts, &["--steps", "2"]);
        train(&parts, &["--steps", "4", "--resume"]);
        let lines = curve(&path.join(&whole));
        assert_eq!(curve(&path.join(parts)), lines, "{name}: gone on with");
        assert!(lines.iter().all(|line| line.contains(loss)), "{name}: no {loss} in {lines:?}");

        let evaluated = succeeds(path, &["evaluate", "--checkpoint", &whole, "--split", "validation", "--json"]);
        let evaluated: Value = serde_json::from_str(&evaluated).unwrap();
        let best = lines.iter().rev().find(|line| line.contains("\"best\":true")).unwrap();
        let best: Value = serde_json::from_str(&format!("{best}}}")).unwrap();
        // In windows of another length, so that sums round elsewhere.
        let [evaluated, best] = [evaluated, best].map(|metrics| metrics[loss].as_f64().unwrap());
        assert!((evaluated - best).abs() < 1e-6 * best, "{name}: {loss} is {evaluated}, was {best}");

        let (first, second) = (format!("{name}.mid"), format!("{name}-on.mid"));
        let generate = ["generate", "--checkpoint", &whole, "--bars", "1", "--seed", "3", "--json", "-o"];
        succeeds(path, &[&generate[..], &[&first]].concat());
        let prime = [&generate[..], &[&second, "--prime", "corpus/plain/smith/1.mid"]].concat();
        let steps = serde_json::from_str::<Value>(&succeeds(path, &prime)).unwrap()[0]["steps"].as_u64();
        assert!(steps > Some(16), "{name}: {steps:?} steps");
        succeeds(path, &["inspect", &whole]);
    }
}

#[test]
fn every_network_is_profiled() {
    let dir = folder();
    for (name, flags, _) in networks().into_iter().take(4) {
        let without_notes: Vec<&str> = flags.into_iter().take_while(|flag| *flag != "--notes").collect();
        for what in ["train", "generate"] {
            let base = ["profile", what, "--batch", "1", "--seq", "4", "--runs", "1", "--format", "csv"];
            let out = succeeds(dir.path(), &[&base[..], &without_notes].concat());
            let own = match (name, what) {
                ("biaxial", _) => "biaxial_features",
                ("categorical" | "both", "train") => "softmax_loss",
                ("categorical", _) => "K=128",
                _ => "neighbours",
            };
            assert!(out.contains(own), "{name} {what}: no {own} in {out}");
        }
    }
}

#[test]
fn what_a_network_does_not_have_is_refused() {
    let dir = folder();
    let path = dir.path();
    corpus(&path.join("corpus"), 4, 4, 48);
    let train = |more: &[&'static str]| [&["train", "--data", "corpus", "--out", "run"], more].concat();
    fails(path, &train(&["--model", "biaxal"]), 2, &["no model `biaxal`", "did you mean `biaxial`?", "deepj"]);
    fails(path, &train(&["--optimizer", "adadelt"]), 2, &["no optimiser `adadelt`", "did you mean `adadelta`?"]);
    fails(path, &train(&["--model", "biaxial", "--set", "filters=4"]), 2, &["--set filters", "there is dropout"]);
    fails(path, &train(&["--set", "dynamics=categoric"]), 2, &["--set dynamics", "categorical"]);
    fails(path, &train(&["--model", "biaxial", "--set", "time_units=[8]"]), 2, &["--set time_units"]);
    fails(path, &train(&["--model", "biaxial", "--set", "dropout=1"]), 2, &["dropout = 1", "below 1"]);
    succeeds(path, &[&train(&["--steps", "1", "--samples", "0", "--batch", "1", "--seq", "4"])[..], &BIAXIAL].concat());
    let generate = ["generate", "--checkpoint", "run", "--style", "smith", "-o", "a.mid"];
    fails(path, &generate, 2, &["--style smith", "biaxial knows no style", "leave out --style"]);
    let resume = ["train", "--resume", "--out", "run", "--model", "deepj", "--steps", "2"];
    fails(path, &resume, 2, &["begun with --model biaxial, not deepj"]);
}

/// The tables of docs/MODEL.md are those of the program.
#[test]
fn the_fields_of_configurations_are_documented() {
    let dir = folder();
    let page = std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/MODEL.md")).unwrap();
    for model in ["deepj", "biaxial"] {
        let table = succeeds(dir.path(), &["train", "--fields", "--model", model]);
        assert!(table.lines().count() > 5 && page.contains(&table), "docs/MODEL.md lacks this table:\n{table}");
        for row in table.lines().skip(2) {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let [_, field, values, paper, small, about, _] = cells[..] else { panic!("{row}") };
            assert!(!about.is_empty() && !values.is_empty(), "{row}");
            let field = field.trim_matches('`');
            for value in [paper, small] {
                let set = format!("{field}={}", value.trim_matches('`'));
                succeeds(dir.path(), &["train", "--model", model, "--set", &set, "--explain"]);
            }
        }
    }
    fails(dir.path(), &["train", "--fields", "--model", "deepjay"], 2, &["did you mean `deepj`?"]);
}
