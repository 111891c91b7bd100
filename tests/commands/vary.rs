//! `deepj vary`: what stays of a piece, and what is composed anew in it.

use std::path::Path;

use deepj::music::hands::{Hand, split};
use deepj::music::roll::RollNote;
use deepj::music::{NoteRange, Reading, Roll};
use serde_json::Value;

use crate::{fails, folder, succeeds};

fn roll(dir: &Path, file: &str) -> Roll {
    Reading::parse(file, &std::fs::read(dir.join(file)).unwrap(), NoteRange::default(), false).unwrap().roll
}

/// A piece of so many bars by the weights within the program.
fn piece(dir: &Path, bars: &str) -> Roll {
    let compose = ["generate", "--checkpoint", "builtin", "--style", "mozart", "--seed", "4", "--bars", bars];
    succeeds(dir, &[&compose[..], &["-o", "piece.mid"]].concat());
    roll(dir, "piece.mid")
}

fn varied(dir: &Path, more: &[&str]) -> Value {
    let base = ["vary", "piece.mid", "--checkpoint", "builtin", "--style", "mozart", "--seed", "1", "--json"];
    serde_json::from_str(&succeeds(dir, &[&base[..], more].concat())).unwrap()
}

fn cells(roll: &Roll, steps: std::ops::Range<usize>) -> Vec<Vec<deepj::music::roll::Cell>> {
    steps.map(|t| roll.step(t).to_vec()).collect()
}

#[test]
fn bars_are_composed_anew_between_those_that_stay() {
    let dir = folder();
    let path = dir.path();
    let given = piece(path, "10");
    let json = varied(path, &["--bars", "4..6", "--count", "2", "-o", "v.mid"]);
    for (i, file) in ["v-1.mid", "v-2.mid"].iter().enumerate() {
        let new = roll(path, file);
        assert_eq!(new.steps(), given.steps());
        assert_eq!(cells(&new, 0..48), cells(&given, 0..48));
        assert_ne!(cells(&new, 48..96), cells(&given, 48..96));
        // What sounds on from the new bars is struck again, or not, on the first step after them.
        let plays = |roll: &Roll| {
            cells(roll, 96..160)
                .into_iter()
                .map(|row| row.into_iter().map(|cell| cell.play()).collect())
                .collect::<Vec<Vec<_>>>()
        };
        assert_eq!(plays(&new), plays(&given));
        assert!(json[i]["nats_after"].as_f64().unwrap() > 0.0);
    }
    let nats = |i: usize| json[i]["nats_after"].as_f64().unwrap();
    assert!(nats(0) <= nats(1), "the likeliest first: {json}");
    // Of many the best is likelier than of few.
    let best = |candidates| {
        let json = varied(path, &["--bars", "4..6", "--candidates", candidates, "-o", "w.mid"]);
        json[0]["nats_after"].as_f64().unwrap()
    };
    assert!(best("40") < best("1"));
}

#[test]
fn a_hand_is_kept_note_by_note() {
    let dir = folder();
    let path = dir.path();
    let given = piece(path, "8");
    for (flag, hand) in [("right", Hand::Right), ("left", Hand::Left)] {
        varied(path, &["--bars", "3..6", "--keep", flag, "-o", "v.mid"]);
        let new = roll(path, "v.mid").notes();
        let notes = given.notes();
        let within = |note: &RollNote| (32..96).contains(&note.start) && note.end < 96;
        let kept: Vec<&RollNote> =
            notes.iter().zip(split(&notes)).filter(|(note, of)| within(note) && *of == hand).map(|(n, _)| n).collect();
        assert!(!kept.is_empty());
        for note in kept {
            let same = |other: &RollNote| {
                (other.pitch, other.start, other.end, other.velocity)
                    == (note.pitch, note.start, note.end, note.velocity)
            };
            assert!(new.iter().any(same), "{note:?}");
        }
        let others =
            |notes: &[RollNote]| notes.iter().filter(|n| within(n)).map(|n| (n.start, n.pitch)).collect::<Vec<_>>();
        assert_ne!(others(&new), others(&notes));
    }
}

#[test]
fn a_variant_is_less_or_more_dense_and_begins_the_same() {
    let dir = folder();
    let path = dir.path();
    let given = piece(path, "12");
    let onsets = |more: &[&str]| {
        varied(path, &[more, &["--candidates", "8", "-o", "v.mid"]].concat());
        let new = roll(path, "v.mid");
        assert_eq!(cells(&new, 0..32), cells(&given, 0..32));
        assert_eq!(new.steps(), given.steps());
        new.notes().iter().filter(|note| note.start >= 32).count()
    };
    let (less, more) = (onsets(&["--less-dense"]), onsets(&["--more-dense"]));
    assert!(2 * less < more + less / 2, "{less} {more}");
}

#[test]
fn what_cannot_be_varied_is_named() {
    let dir = folder();
    let path = dir.path();
    piece(path, "4");
    let vary = ["vary", "piece.mid", "--checkpoint", "builtin", "-o", "v.mid"];
    for (wrong, texts) in [
        (["--bars", "5..8"], ["bars 5 to 8", "4 bars"]),
        (["--bars", "3..2"], ["--bars 3..2", "5..8"]),
        (["--bars", "0..2"], ["--bars 0..2", "from 1"]),
        (["--bars", "two"], ["--bars two", "5..8"]),
        (["--count", "99"], ["99 variants", "32"]),
        (["--keep", "both"], ["both", "left"]),
    ] {
        fails(path, &[&vary[..], &wrong].concat(), 2, &texts);
    }
    fails(path, &[&vary[..], &["--less-dense", "--more-dense"]].concat(), 2, &["--less-dense"]);
    // What is odd about a style is said as by `generate`.
    let path_of_three = ["--style", "bach -> mozart -> chopin -> liszt -> haydn", "--bars", "3..3"];
    let said = crate::deepj(path, &[&vary[..], &path_of_three, &["--candidates", "1"]].concat());
    assert!(String::from_utf8_lossy(&said.stderr).contains("5 stations but the piece only 4 bars"), "{said:?}");
    std::fs::remove_file(path.join("v.mid")).unwrap();
    fails(path, &["vary", "none.mid", "--checkpoint", "builtin"], 1, &["none.mid"]);
    assert!(!path.join("v.mid").exists());
}
