//! `deepj play` where there is no device: what it keeps, what it hears on standard input, how it ends, and what it says is missing.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Stdio};

use deepj::music::{NoteRange, Reading, Score};
use midly::{MetaMessage, Smf, TrackEventKind};
use serde_json::Value;

use crate::{fails, folder, program, succeeds};

const SILENT: [&str; 8] = ["play", "--silent", "--checkpoint", "builtin", "--seed", "1", "--style", "baroque"];

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn score(path: &Path) -> Score {
    Score::parse(path, &std::fs::read(path).unwrap(), true).unwrap()
}

/// The file's length in seconds, by its own tempos.
fn seconds(path: &Path) -> f64 {
    let score = score(path);
    score.seconds(score.end)
}

fn texts(path: &Path) -> Vec<String> {
    let bytes = std::fs::read(path).unwrap();
    let smf = Smf::parse(&bytes).unwrap();
    let text = |kind: &TrackEventKind| match kind {
        TrackEventKind::Meta(MetaMessage::Text(text) | MetaMessage::Copyright(text)) => {
            Some(String::from_utf8_lossy(text).into_owned())
        }
        _ => None,
    };
    smf.tracks[0].iter().filter_map(|event| text(&event.kind)).collect()
}

#[test]
fn what_was_composed_and_played_is_kept() {
    let dir = folder();
    let path = dir.path();
    let figures = json(&succeeds(path, &[&SILENT[..], &["--seconds", "3", "--json", "-o", "a.mid"]].concat()));
    assert!((figures["seconds"].as_f64().unwrap() - 3.0).abs() < 1e-3, "{figures}");
    assert!((seconds(&path.join("a.mid")) - 3.0).abs() < 1e-3);
    let notes = score(&path.join("a.mid")).notes.len() as u64;
    assert!(notes > 3 && figures["notes"].as_u64() == Some(notes), "{figures} {notes}");
    let texts = texts(&path.join("a.mid"));
    assert!(
        texts[0].contains("authors claim no rights") && texts[1].contains("deepj play --style \"baroque\" --seed 1")
    );
    // The same seed plays the same; bars are behind the beginning.
    let again = json(&succeeds(path, &[&SILENT[..], &["--seconds", "3", "--json", "-o", "b.mid"]].concat()));
    assert_eq!(again["notes"], figures["notes"]);
    assert_eq!(score(&path.join("a.mid")).notes, score(&path.join("b.mid")).notes);
    let prime = ["--prime", "a.mid", "--bars", "1", "--tempo", "480", "--json", "-o", "c.mid"];
    succeeds(path, &[&SILENT[..], &prime].concat());
    assert!((seconds(&path.join("c.mid")) - 1.5).abs() < 1e-3, "two bars of the beginning, and one more");
}

#[test]
fn a_file_is_played_as_it_is() {
    let dir = folder();
    let path = dir.path();
    let generate =
        ["generate", "--checkpoint", "builtin", "--seed", "1", "--bars", "2", "--tempo", "240", "-o", "a.mid"];
    succeeds(path, &generate);
    let figures = json(&succeeds(path, &["play", "a.mid", "--silent", "--json", "-o", "b.mid"]));
    let (given, played) = (score(&path.join("a.mid")), score(&path.join("b.mid")));
    assert_eq!(figures["notes"].as_u64(), Some(given.notes.len() as u64), "{figures}");
    for (a, b) in given.notes.iter().zip(&played.notes) {
        assert_eq!((a.pitch, a.velocity), (b.pitch, b.velocity));
        assert!((given.seconds(a.start.into()) - played.seconds(b.start.into())).abs() < 1e-3);
        assert!((given.seconds(a.end.into()) - played.seconds(b.end.into())).abs() < 1e-3);
    }
    let half = json(&succeeds(path, &["play", "a.mid", "--silent", "--json", "--seconds", "0.5"]));
    assert!(half["notes"].as_u64() < figures["notes"].as_u64() && half["seconds"] == 0.5, "{half}");
}

/// Lines of standard error, as the program prints them.
fn lines(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap)
}

#[test]
fn lines_are_heard_from_the_next_bar_on() {
    let dir = folder();
    let path = dir.path();
    // Bars of a second.
    let arguments = [&SILENT[..], &["--tempo", "240", "-o", "a.mid"]].concat();
    let mut command = program(path, &arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut said = lines(&mut child);
    said.by_ref().find(|line| line.contains("to nobody")).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1200));
    stdin.write_all(b"tempo 480\nstyle bahc\ndensity 2\nnonsense 1\n").unwrap();
    let mut heard: Vec<String> = said.by_ref().filter(|line| !line.starts_with(' ')).take(3).collect();
    heard.sort();
    assert!(heard[0].starts_with("error: ") && heard[1].starts_with("error: "), "{heard:?}");
    let (bar, what) = heard[2].strip_prefix("from bar ").unwrap().split_once(" on: ").unwrap();
    assert_eq!(what, "tempo 480, density 2");
    let bar: u32 = bar.parse().unwrap();
    assert!((3..=5).contains(&bar), "{bar}");
    std::thread::sleep(std::time::Duration::from_millis(4000));
    stdin.write_all(b"stop\n").unwrap();
    assert!(child.wait().unwrap().success());
    let played = score(&path.join("a.mid"));
    let changes = f64::from(bar - 1);
    assert!((played.seconds(u64::from(bar - 1) * 1920) - changes).abs() < 1e-3);
    assert!((played.seconds(u64::from(bar + 1) * 1920) - changes - 1.0).abs() < 1e-3, "bars of half a second then");
    assert!(texts(&path.join("a.mid"))[1].contains("changed while it sounded"));
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_it_cleanly_and_what_was_played_is_written() {
    let dir = folder();
    let path = dir.path();
    let mut command = program(path, &[&SILENT[..], &["-o", "a.mid", "--json"]].concat());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = lines(&mut child);
    said.by_ref().find(|line| line.contains("to nobody")).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(3000));
    crate::signals::send(&child, "INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let figures = json(&String::from_utf8(output.stdout).unwrap());
    assert!(figures["interrupted"] == true && figures["output"] == "a.mid", "{figures}");
    let played = figures["seconds"].as_f64().unwrap();
    assert!((0.5..4.0).contains(&played), "{figures}");
    // All notes end, the last where it was interrupted.
    let length = seconds(&path.join("a.mid"));
    assert!((length - played).abs() < 2e-3, "{length} {played}");
    let bytes = std::fs::read(path.join("a.mid")).unwrap();
    let reading = Reading::parse("a.mid", &bytes, NoteRange::default(), false).unwrap();
    assert!(reading.warnings.is_empty() && reading.notes > 0, "{:?}", reading.warnings);
}

#[test]
fn what_cannot_be_played_is_said_before_anything_sounds() {
    let dir = folder();
    let path = dir.path();
    let silent = |more: &[&'static str]| [&SILENT[..6], more].concat();
    fails(path, &["play", "none.mid", "--silent"], 1, &["none.mid"]);
    fails(path, &["play", "a.mid", "--style", "bach"], 2, &["--style", "cannot be used with"]);
    fails(path, &silent(&["--style", "bahc"]), 2, &["bahc"]);
    fails(path, &silent(&["--style", "bach -> chopin"]), 2, &["--bars or --seconds"]);
    fails(path, &silent(&["--density", "11"]), 2, &["--density 11", "0.1 to 10"]);
    fails(path, &silent(&["--dynamics", "loud"]), 2, &["--dynamics loud", "ppp"]);
    fails(path, &silent(&["--tempo", "2"]), 2, &["--tempo 2", "4 to 1000"]);
    fails(path, &silent(&["--seconds", "0"]), 2, &["--seconds 0"]);
    fails(path, &silent(&["--bars", "0"]), 2, &["--bars"]);
    fails(path, &silent(&["--temperature", "0"]), 2, &["a temperature of 0"]);
    fails(path, &silent(&["--map", "128=density"]), 2, &["128", "0 to 127"]);
    fails(path, &silent(&["--map", "1=densty"]), 2, &["did you mean `density`?"]);
    fails(path, &silent(&["-o", "a.wav"]), 2, &["a.wav", "a.mid"]);
    fails(path, &silent(&["--port", "x"]), 2, &["--silent", "--port"]);
    assert!(!path.join("a.mid").exists());
    let listed = succeeds(path, &["play", "--list-ports"]);
    assert!(listed.contains("MIDI ports to play to (--port):\n  "), "{listed}");
}

/// What this program was built without is said, with how to build it; else that there is no such device.
#[test]
fn what_is_not_built_in_is_said_with_the_remedy() {
    let dir = folder();
    let path = dir.path();
    let generate = ["generate", "--checkpoint", "builtin", "--seed", "1", "--bars", "1", "-o", "a.mid"];
    succeeds(path, &generate);
    let built = |feature| format!("cargo build --release --features {feature}");
    match cfg!(feature = "audio") {
        false => fails(path, &["play", "a.mid"], 2, &["without it", &built("audio"), "--port"]),
        true => fails(
            path,
            &["play", "a.mid", "--audio-device", "no such device"],
            if has_audio(path) { 2 } else { 1 },
            &["audio device"],
        ),
    }
    let endless = ["play", "--checkpoint", "builtin", "--control", "none", "--silent", "--seconds", "1"];
    match cfg!(feature = "midi-port") {
        false => {
            fails(path, &["play", "a.mid", "--port", "synth"], 2, &["--port synth", &built("midi-port")]);
            fails(path, &["play", "a.mid", "--virtual-port", "x"], 2, &["--virtual-port x", &built("midi-port")]);
            fails(path, &endless, 2, &["--control none", &built("midi-port")]);
        }
        true => {
            let code = if has_midi(path) { 2 } else { 1 };
            fails(path, &["play", "a.mid", "--port", "no such port"], code, &["MIDI port"]);
            fails(path, &endless, code, &["MIDI port"]);
        }
    }
}

fn has_audio(path: &Path) -> bool {
    !succeeds(path, &["play", "--list-ports"]).contains("(--audio-device):\n  none")
}

fn has_midi(path: &Path) -> bool {
    !succeeds(path, &["play", "--list-ports"]).contains("MIDI ports cannot be used")
}
