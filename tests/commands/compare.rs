//! `profile compare`: what scripts rely on, and what it answers to wrong use and bad input.

use std::path::Path;

use serde_json::Value;

use crate::{deepj, fails, folder, succeeds};

/// A folder with `a.jsonl`, a profile of a tiny training step; its times are replaced by steady ones, so that what is found
/// does not depend on what else the machine does.
fn with_profile() -> tempfile::TempDir {
    let dir = folder();
    let sizes = ["--set", "time_units=8", "--set", "note_units=8", "--set", "filters=4", "--set", "style_width=4"];
    let what = ["profile", "train", "--batch", "1", "--seq", "4", "--runs", "20", "--format", "jsonl", "-o", "a.jsonl"];
    succeeds(dir.path(), &[&what[..], &sizes].concat());
    changed(dir.path(), "a.jsonl", |record| {
        for (field, time) in [("samples_us", 100.0), ("samples_ms", 5.0)] {
            for (i, sample) in record[field].as_array_mut().into_iter().flatten().enumerate() {
                *sample = (time * (1.0 + 0.001 * (i % 7) as f64)).into();
            }
        }
    });
    dir
}

/// Writes `name`: the records of `a.jsonl`, changed.
fn changed(dir: &Path, name: &str, change: impl Fn(&mut Value)) {
    let text = std::fs::read_to_string(dir.join("a.jsonl")).unwrap();
    let lines = text.lines().map(|line| {
        let mut record = serde_json::from_str(line).unwrap();
        change(&mut record);
        format!("{record}\n")
    });
    std::fs::write(dir.join(name), lines.collect::<String>()).unwrap();
}

/// Multiplies the samples in `field` of a record.
fn stretch(record: &mut Value, field: &str, factor: f64) {
    for time in record[field].as_array_mut().unwrap() {
        *time = (time.as_f64().unwrap() * factor).into();
    }
}

#[test]
fn a_profile_differs_from_a_slower_one_and_not_from_itself() {
    let dir = with_profile();
    let path = dir.path();
    let compare = ["profile", "compare", "a.jsonl"];
    let with = |more: &[&'static str]| [&compare[..], more].concat();
    let table = succeeds(path, &with(&["a.jsonl"]));
    let kernels = std::fs::read_to_string(path.join("a.jsonl")).unwrap().matches("\"record\":\"kernel\"").count();
    assert!(kernels > 20 && table.matches("  ~  ").count() == kernels + 1, "{table}");
    assert!(table.contains("whole step") && table.contains("geometric mean of kernels"), "{table}");

    changed(path, "slow.jsonl", |record| {
        if record["kernel"] == "nadam" {
            stretch(record, "samples_us", 10.0);
        }
    });
    fails(path, &with(&["slow.jsonl"]), 1, &["slower by more than 5 %: nadam ", "--threshold"]);
    fails(path, &with(&["slow.jsonl", "--threshold", "899"]), 1, &["more than 899 %: nadam "]);
    succeeds(path, &with(&["slow.jsonl", "--threshold", "901"]));
    let faster = succeeds(path, &["profile", "compare", "slow.jsonl", "a.jsonl"]);
    assert!(faster.contains("-90.0 %"), "{faster}");
    changed(path, "step.jsonl", |record| {
        if record["record"] == "summary" {
            stretch(record, "samples_ms", 10.0);
        }
    });
    fails(path, &with(&["step.jsonl"]), 1, &["more than 5 %: the whole step"]);

    let output = deepj(path, &with(&["slow.jsonl", "--format", "jsonl"]));
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), kernels + 1);
    let nadam = records.iter().find(|record| record["kernel"] == "nadam").unwrap();
    assert_eq!(nadam["verdict"], "slower");
    assert!((nadam["change"].as_f64().unwrap() - 9.0).abs() < 1e-9 && nadam["p"].as_f64().unwrap() < 0.05);
    let [a, b] = [0, 1].map(|side| nadam["times"][side]["median"].as_f64().unwrap());
    assert!((b / a - 10.0).abs() < 1e-9);
    let summary = &records[kernels];
    assert_eq!(summary["regressions"], serde_json::json!([nadam["shape"]]));
    assert_eq!((&summary["threshold"], &summary["step"]["verdict"]), (&5.0.into(), &"same".into()));

    let output = deepj(path, &with(&["slow.jsonl", "--format", "markdown"]));
    let text = String::from_utf8(output.stdout).unwrap();
    let rows: Vec<_> = text.lines().take_while(|line| !line.is_empty()).collect();
    assert_eq!(rows.len(), kernels + 5);
    assert!(rows.iter().all(|row| row.matches('|').count() == 8), "{text}");
    assert!(rows.iter().any(|row| row.starts_with("| nadam ") && row.contains("| +900.0 % |")), "{text}");
}

#[test]
fn other_kernels_and_variants_are_listed() {
    let dir = with_profile();
    let path = dir.path();
    changed(path, "b.jsonl", |record| match record["kernel"].as_str() {
        Some("nadam") => record["shape"] = "nadam 7".into(),
        Some("features") => record["variant"] = "another".into(),
        _ => (),
    });
    let table = succeeds(path, &["profile", "compare", "a.jsonl", "b.jsonl"]);
    assert!(
        table.contains("only in a.jsonl: nadam ") && table.contains("only in b.jsonl: nadam 7 (mirror)"),
        "{table}"
    );
    let variants = table.lines().filter(|line| line.starts_with("another variant: features"));
    assert!(
        variants.clone().count() == 2 && variants.clone().all(|line| line.ends_with("mirror -> another")),
        "{table}"
    );
}

#[test]
fn too_few_runs_are_said_and_shown() {
    let dir = with_profile();
    let path = dir.path();
    changed(path, "b.jsonl", |record| {
        for field in ["samples_us", "samples_ms"] {
            if let Some(samples) = record[field].as_array_mut() {
                samples.truncate(2);
            }
        }
    });
    let output = deepj(path, &["profile", "compare", "b.jsonl", "b.jsonl"]);
    let [table, errors] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    // Nor is it a pass.
    assert!(output.status.code() == Some(1) && errors.contains("too few runs"), "{errors}");
    assert!(table.contains("too few runs") && table.contains("--runs") && !table.contains("  ~  "), "{table}");
}

#[test]
fn what_cannot_be_compared_is_refused_with_a_remedy() {
    let dir = with_profile();
    let path = dir.path();
    let refused = |file: &str, code: i32, texts: &[&str]| {
        fails(path, &["profile", "compare", "a.jsonl", file], code, texts);
        fails(path, &["profile", "compare", file, "a.jsonl"], code, texts);
    };
    changed(path, "other.jsonl", |record| {
        if record["record"] == "header" {
            record["machine"]["adapter"] = "another card".into();
            record["batch"] = 77.into();
        }
    });
    refused("other.jsonl", 2, &["adapter `", "`another card`", "`77`", "--force"]);
    let forced = deepj(path, &["profile", "compare", "a.jsonl", "other.jsonl", "--force"]);
    assert!(forced.status.success() && String::from_utf8_lossy(&forced.stderr).contains("note: "), "{forced:?}");
    changed(path, "version.jsonl", |record| {
        if record["record"] == "header" {
            record["version"] = 99.into();
        }
    });
    refused("version.jsonl", 1, &["version.jsonl: line 1", "version 99", "profile again"]);
    let text = std::fs::read_to_string(path.join("a.jsonl")).unwrap();
    std::fs::write(path.join("cut.jsonl"), &text[..text.len() / 2]).unwrap();
    refused("cut.jsonl", 1, &["cut.jsonl: line "]);
    std::fs::write(path.join("empty.jsonl"), "").unwrap();
    refused("empty.jsonl", 1, &["empty.jsonl: is empty", "deepj profile train"]);
    std::fs::write(path.join("music.mid"), b"MThd\0\0\0\x06\xff").unwrap();
    refused("music.mid", 1, &["music.mid: line 1"]);
    refused("none.jsonl", 1, &["none.jsonl: cannot be read", "check the path"]);
    refused(".", 1, &["not an ordinary file"]);
    for wrong in [&["--threshold", "-5"][..], &["--threshold", "much"], &["--threshold", "NaN"], &["--format", "csv"]] {
        fails(path, &[&["profile", "compare", "a.jsonl", "a.jsonl"], wrong].concat(), 2, &[]);
    }
    fails(path, &["profile", "compare", "a.jsonl"], 2, &["<SECOND>"]);
}
