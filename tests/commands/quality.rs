//! `evaluate --generated`, and the warning of `generate`.

use std::path::Path;
use std::process::Output;

use deepj::music::roll::RollNote;
use deepj::music::{NoteRange, Roll};
use deepj::quality::{BAR, MEASURES};
use serde_json::Value;

use crate::{corpus, deepj, fails, folder, random, succeeds, tiny_arguments};

/// Writes a piece of `bars` bars: a note on most eighths, of `pitches` pitches from `low` up.
fn piece(path: &Path, seed: u64, bars: usize, low: u8, pitches: u64) -> Roll {
    let mut state = seed;
    let mut notes = Vec::new();
    for i in 0..8 * bars {
        if i % 8 > 0 && random(&mut state).is_multiple_of(5) {
            continue;
        }
        let (pitch, length) = (low + (random(&mut state) % pitches) as u8, 1 + (random(&mut state) % 2) as usize);
        let velocity = 30 + (random(&mut state) % 80) as u8;
        notes.push(RollNote { pitch, velocity, start: 2 * i, end: 2 * i + length, replay: false });
    }
    let roll = Roll::from_notes(NoteRange::new(0, 127).unwrap(), notes).unwrap();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    roll.write_midi(path, 120.0).unwrap();
    roll
}

/// `real` with two genres of three composers, and `made` with a genre's pieces of one of them, others of the genre alone, and some of
/// none.
fn folders() -> tempfile::TempDir {
    let dir = folder();
    for (i, composer) in ["plain/smith", "plain/miller", "fancy/jones"].into_iter().enumerate() {
        for k in 0..4 {
            piece(&dir.path().join(format!("real/{composer}/{k}.mid")), (10 * i + k) as u64, 9, 50, 12);
        }
    }
    for k in 0..3 {
        piece(&dir.path().join(format!("made/plain/smith/{k}.mid")), 100 + k, 4, 50, 12);
        piece(&dir.path().join(format!("made/plain/{k}.mid")), 200 + k, 4, 50, 12);
        piece(&dir.path().join(format!("made/{k}.mid")), 300 + k, 4, 70, 5);
    }
    dir
}

fn report(dir: &Path, more: &[&str]) -> Value {
    let arguments = [&["evaluate", "--generated", "made", "--against", "real", "--json"][..], more].concat();
    serde_json::from_str(&succeeds(dir, &arguments)).unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A group's row of a measure.
fn row<'a>(group: &'a Value, measure: &str) -> &'a Value {
    group["rows"].as_array().unwrap().iter().find(|row| row["measure"] == measure).unwrap()
}

#[test]
fn each_genre_and_composer_is_compared() {
    let dir = folders();
    let report = report(dir.path(), &[]);
    assert_eq!((&report["bars"], &report["notes"]), (&4.into(), &"36..=83".into()));
    let groups = report["groups"].as_array().unwrap();
    let names: Vec<_> = groups.iter().map(|group| (group["genre"].as_str(), group["composer"].as_str())).collect();
    assert_eq!(names, [(None, None), (Some("plain"), None), (Some("plain"), Some("smith"))]);
    // Nine bars are two excerpts of four.
    let sizes: Vec<_> = groups.iter().map(|of| [&of["generated"]["pieces"], &of["real"]["excerpts"]]).collect();
    assert_eq!(sizes, [[9, 24], [6, 16], [3, 8]]);
    for group in groups {
        assert_eq!(group["rows"].as_array().unwrap().len(), MEASURES.len());
        let within = |key: &str| group["rows"].as_array().unwrap().iter().filter(|row| row[key] == true).count();
        assert_eq!(group["within_quartiles"], within("within_quartiles"));
        assert_eq!(group["within_extremes"], within("within_extremes"));
        let density = row(group, "note_density");
        assert!(density["distances"]["real"]["overlap"].as_f64().unwrap() > 0.3, "{density}");
        let real = &density["real"];
        let in_order = ["p1", "p25", "median", "p75", "p99"].map(|key| real[key].as_f64().unwrap());
        assert!(in_order.is_sorted(), "{real}");
    }
    // All are drawn alike, but those without a genre from five pitches.
    let narrow = &succeeds_of_top(dir.path())["groups"][0];
    assert_eq!(row(narrow, "pitch_range")["within_extremes"], false);
    let most = groups[0]["within_extremes"].as_u64().unwrap();
    assert!(most >= 10, "{most}");
    assert!(report["measures"].as_array().unwrap().iter().all(|of| !of["definition"].as_str().unwrap().is_empty()));
}

/// The pieces without a genre alone.
fn succeeds_of_top(dir: &Path) -> Value {
    std::fs::create_dir(dir.join("flat")).unwrap();
    for k in 0..3 {
        std::fs::copy(dir.join(format!("made/{k}.mid")), dir.join(format!("flat/{k}.mid"))).unwrap();
    }
    let arguments = ["evaluate", "--generated", "flat", "--against", "real", "--json"];
    serde_json::from_str(&succeeds(dir, &arguments)).unwrap()
}

#[test]
fn table_csv_and_picture_hold_all_groups_and_measures() {
    let dir = folders();
    let files = ["--csv", "quality.csv", "--svg", "quality.svg"];
    let table = succeeds(dir.path(), &[&["evaluate", "--generated", "made", "--against", "real"][..], &files].concat());
    for measure in &MEASURES {
        assert_eq!(table.matches(measure.label.trim()).count() % 3, 0, "{}: {table}", measure.label);
    }
    for text in [
        "all pieces: 9 pieces generated",
        "plain/smith: 3 pieces",
        "inside the 25th to 75th",
        "longest copy",
        "overlap",
    ] {
        assert!(table.contains(text), "no {text} in {table}");
    }
    let csv = std::fs::read_to_string(dir.path().join("quality.csv")).unwrap();
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    // Measures, the copies and two histograms.
    assert_eq!(records.len(), 3 * (MEASURES.len() + 3));
    assert!(!csv.contains("NaN") && !csv.contains("inf"));
    let svg = std::fs::read_to_string(dir.path().join("quality.svg")).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && !svg.contains("NaN"));
    assert_eq!(svg.matches("<g transform").count(), 1 + MEASURES.len() + 1, "a legend and a panel each");
    assert!(svg.contains("scale consistency") && svg.contains(">plain<") && !svg.contains(">smith<"));
}

#[test]
fn grids_notes_and_bars_can_be_chosen() {
    let dir = folders();
    let divergence = |more: &[&str]| {
        let report = report(dir.path(), more);
        row(&report["groups"][0], "note_length")["distances"]["real"]["divergence"].as_f64().unwrap()
    };
    assert_ne!(divergence(&[]), divergence(&["--mgeval-compatible"]));
    let whole = report(dir.path(), &["--bars", "0"]);
    assert_eq!((&whole["bars"], &whole["real_cut"]["excerpts"]), (&0.into(), &12.into()));
    let long = report(dir.path(), &["--bars", "100"]);
    assert_eq!((&long["real_cut"]["shorter"], &long["generated_cut"]["shorter"]), (&12.into(), &9.into()));
    let narrow = report(dir.path(), &["--notes", "50..=55"]);
    assert!(
        narrow["real"]["left_out"].as_u64().unwrap() > 0
            && narrow["generated"]["skipped"].as_array().unwrap().len() == 3
    );
}

#[test]
fn copied_passages_are_found_in_any_key() {
    let dir = folders();
    // Bars 3 to 5 of a real piece, three semitones higher, as bars 2 to 4.
    let real = piece(&dir.path().join("real/plain/smith/2.mid"), 2, 9, 50, 12);
    let copy = real.notes().into_iter().filter(|note| (2 * BAR..5 * BAR).contains(&note.start)).map(|note| RollNote {
        pitch: note.pitch + 3,
        start: note.start - BAR,
        end: note.start - BAR + 1,
        ..note
    });
    let copy = Roll::from_notes(NoteRange::default(), copy).unwrap();
    copy.write_midi(dir.path().join("made/plain/copy.mid"), 90.0).unwrap();
    let found = report(dir.path(), &["--bars", "4"]);
    let pieces = found["copies"]["pieces"].as_array().unwrap();
    let piece = pieces.iter().find(|piece| piece["file"] == "plain/copy.mid").unwrap();
    assert_eq!(piece["source"], "plain/smith/2.mid");
    let passage = &piece["passage"];
    assert_eq!([&passage["bar"], &passage["other_bar"], &passage["transposition"]], [2, 3, 3]);
    assert!(passage["bars"].as_f64().unwrap() > 2.5 && passage["bars"].as_f64().unwrap() <= 3.0, "{passage}");
    assert_eq!((&found["copies"]["beyond_bound"], &found["groups"][1]["beyond_bound"]), (&1.into(), &1.into()));
    assert_eq!(found["groups"][2]["beyond_bound"], 0);
    assert!(found["groups"][0]["longest_copy"]["real"]["p99"].as_f64().unwrap() < 2.0);
    // Others to look in, another bound.
    let elsewhere = report(dir.path(), &["--copies-from", "real/fancy", "--bars", "4"]);
    assert_eq!((&elsewhere["copies"]["beyond_bound"], &elsewhere["copies"]["sources"]), (&0.into(), &4.into()));
    assert_eq!(report(dir.path(), &["--copies-bound", "3", "--bars", "4"])["copies"]["beyond_bound"], 0);
    let table = succeeds(dir.path(), &["evaluate", "--generated", "made", "--against", "real"]);
    assert!(
        table.contains("plain/copy.mid, bar 2: ") && table.contains("3 semitones higher  (beyond the bound)"),
        "{table}"
    );
}

#[test]
fn folders_that_cannot_be_compared_are_answered() {
    let dir = folders();
    let path = dir.path();
    std::fs::create_dir(path.join("empty")).unwrap();
    std::fs::create_dir(path.join("broken")).unwrap();
    std::fs::write(path.join("broken/a.mid"), "no MIDI").unwrap();
    piece(&path.join("high/a.mid"), 1, 4, 100, 12);
    let evaluate = |more: &[&'static str]| [&["evaluate"][..], more].concat();
    for (arguments, code, texts) in [
        (evaluate(&["--generated", "empty", "--against", "real"]), 1, ["empty", "holds no MIDI file"]),
        (evaluate(&["--generated", "made", "--against", "empty"]), 1, ["empty", "holds no MIDI file"]),
        (evaluate(&["--generated", "none", "--against", "real"]), 1, ["none", "cannot be read"]),
        (
            evaluate(&["--generated", "broken", "--against", "real"]),
            1,
            ["holds no MIDI file that can be used", "a.mid"],
        ),
        (evaluate(&["--generated", "high", "--against", "real"]), 1, ["no note within 36..=83", "--notes"]),
        (evaluate(&["--generated", "made"]), 2, ["are not within it", "--against"]),
        (
            evaluate(&["--generated", "made", "--against", "real", "--split", "test"]),
            2,
            ["--split test", "--checkpoint"],
        ),
        (evaluate(&["--generated", "made", "--data", "real"]), 2, ["--data", "--generated"]),
        (evaluate(&["--against", "real"]), 2, ["--generated", "required"]),
        (evaluate(&["--generated", "made", "--against", "real", "--svg", "a.png"]), 2, ["only as .svg", "a.svg"]),
        (
            evaluate(&["--generated", "made", "--against", "real", "--csv", "-", "--json"]),
            2,
            ["standard output", "name"],
        ),
        (
            evaluate(&["--generated", "made", "--against", "real", "--copies-bound", "NaN"]),
            2,
            ["--copies-bound", "bars"],
        ),
    ] {
        let output = deepj(path, &arguments);
        // clap's errors have no remedy of ours.
        let errors = said(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
        assert!(texts.iter().all(|text| errors.contains(text)), "{arguments:?}: {errors}");
    }
}

#[test]
fn odd_folders_are_compared_as_far_as_they_can_be() {
    let dir = folders();
    let path = dir.path();
    // One piece, with notes outside, beside a broken file, of a genre that is not among the real ones.
    piece(&path.join("one/odd/a.mid"), 1, 4, 75, 20);
    std::fs::write(path.join("one/odd/b.mid"), "no MIDI").unwrap();
    let output = deepj(path, &["evaluate", "--generated", "one", "--against", "real", "--svg", "one.svg", "--json"]);
    let (errors, printed) = (said(&output), String::from_utf8(output.stdout.clone()).unwrap());
    assert!(output.status.success(), "{errors}");
    for text in [
        "skipped odd/b.mid",
        "notes outside 36..=83",
        "odd: real has no real piece",
        "distances need two excerpts a side",
    ] {
        assert!(errors.contains(text), "no {text} in {errors}");
    }
    let report: Value = serde_json::from_str(&printed).unwrap();
    let [all, odd] = [0, 1].map(|i| &report["groups"][i]);
    assert!(row(all, "polyphony")["within_extremes"].is_boolean() && row(all, "polyphony")["distances"].is_null());
    assert!(row(odd, "polyphony")["generated"]["median"].is_number() && row(odd, "polyphony")["real"].is_null());
    // A real folder of one piece, and a piece of one bar: no two bars to compare.
    piece(&path.join("single/plain/smith/a.mid"), 1, 1, 50, 12);
    let output = deepj(path, &["evaluate", "--generated", "single", "--against", "single"]);
    let table = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(output.status.success() && table.contains("undefined for 1 generated, 1 real"), "{table}");
    assert!(table.contains("0 of 0 inside") && !table.contains("NaN"), "{table}");
}

#[test]
fn a_checkpoint_tells_which_pieces_are_held_out() {
    let dir = folder();
    let path = dir.path();
    corpus(&path.join("corpus"), 6, 8, 48);
    succeeds(path, &tiny_arguments(&["--steps", "2"]));
    let compose = ["generate", "--checkpoint", "run", "--bars", "4", "--count", "3", "--seed", "1"];
    std::fs::create_dir(path.join("made")).unwrap();
    succeeds(path, &[&compose[..], &["-o", "made/piece.mid"]].concat());
    let evaluate = |more: &[&str]| -> Value {
        let arguments = [&["evaluate", "--generated", "made", "--checkpoint", "run", "--json"][..], more].concat();
        serde_json::from_str(&succeeds(path, &arguments)).unwrap()
    };
    let held_out = evaluate(&[]);
    let train = evaluate(&["--split", "train", "--against", "corpus"]);
    let pieces = |report: &Value| report["real_cut"]["pieces"].as_u64().unwrap();
    assert_eq!(pieces(&held_out) + pieces(&train), 12);
    assert_eq!(held_out["copies"]["sources"], pieces(&train));
    assert_eq!(held_out["real"]["place"], "corpus (held-out)");
    // Silence at the end was composed too.
    assert_eq!(held_out["generated_cut"]["shorter"], 0);
    // Another corpus is no reason to fail.
    piece(&path.join("other/plain/smith/a.mid"), 1, 8, 50, 12);
    let arguments = ["evaluate", "--generated", "made", "--checkpoint", "run", "--against", "other"];
    let output = deepj(path, &arguments);
    assert!(output.status.success() && said(&output).contains("not the corpus"), "{}", said(&output));
}

#[test]
fn generate_warns_of_copies() {
    let dir = folder();
    let path = dir.path();
    corpus(&path.join("corpus"), 6, 8, 48);
    succeeds(path, &tiny_arguments(&["--steps", "2"]));
    // Again the same notes, whatever becomes of the corpus.
    let alone = ["--as-learned", "--ending", "none"];
    let compose = ["generate", "--checkpoint", "run", "--bars", "8", "--seed", "1", "-o", "piece.mid"];
    let compose = [&compose[..], &alone].concat();
    let first = |more: &[&str]| {
        let printed = succeeds(path, &[&compose[..], &["--json"], more].concat());
        serde_json::from_str::<Value>(&printed).unwrap()[0].clone()
    };
    assert_eq!(first(&[])["copied"]["file"], "piece.mid");
    assert!(first(&["--copies-bound", "0"]).get("copied").is_none());
    fails(path, &[&compose[..], &["--copies-bound=-1"]].concat(), 2, &["--copies-bound"]);
    // A beginning is not composed, and not looked at: one that is a training piece is no copy.
    let output = deepj(path, &[&compose[..], &["--prime", "corpus/plain/smith/5.mid", "--copies-bound", "3"]].concat());
    assert!(output.status.success() && !said(&output).contains("shares a passage"), "{}", said(&output));
    // What was composed becomes what was learned.
    succeeds(path, &compose);
    for (genre, composer) in [("plain", "smith"), ("fancy", "jones")] {
        for i in 0..6 {
            std::fs::copy(path.join("piece.mid"), path.join(format!("corpus/{genre}/{composer}/{i}.mid"))).unwrap();
        }
    }
    let output = deepj(path, &compose);
    let warned = said(&output);
    assert!(
        output.status.success()
            && warned.contains("warning: piece.mid: shares a passage with a training piece, bar 1: "),
        "{warned}"
    );
    assert!(first(&[])["copied"]["passage"]["bars"].as_f64().unwrap() > 7.0);
    assert!(!said(&deepj(path, &[&compose[..], &["--copies-bound", "8"]].concat())).contains("warning"));
    std::fs::rename(path.join("corpus"), path.join("elsewhere")).unwrap();
    let output = deepj(path, &compose);
    assert!(output.status.success() && said(&output).contains("nobody looked whether"), "{}", said(&output));
}

/// The folders that `DEEPJ_MIDI` names, where pieces are many.
#[test]
fn many_real_pieces_take_seconds() {
    let Some(real) = std::env::var_os("DEEPJ_MIDI").filter(|folder| !folder.is_empty()) else {
        println!("skipped: set DEEPJ_MIDI to a folder of MIDI files");
        return;
    };
    let dir = folder();
    piece(&dir.path().join("made/a.mid"), 1, 16, 50, 12);
    let side = |path: &Path| deepj::quality::Side::read(path, NoteRange::default(), false, false).unwrap();
    let (made, real) = (side(&dir.path().join("made")), side(Path::new(&real)));
    let rolls: Vec<Roll> = made.samples.iter().map(|sample| sample.roll.clone()).collect();
    let began = std::time::Instant::now();
    let sources: Vec<&Roll> = real.samples.iter().map(|sample| &sample.roll).collect();
    deepj::quality::copies::copied(&rolls, sources);
    println!("{} pieces: {:?}", real.samples.len(), began.elapsed());
    assert!(began.elapsed().as_secs() < 30);
}
