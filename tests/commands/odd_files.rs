//! What the commands say of MIDI files that are odd, damaged, or none.

use std::path::Path;
use std::time::Instant;
#[cfg(unix)]
use std::{fs::File, process::Stdio};

use serde_json::Value;

#[cfg(unix)]
use crate::program;
use crate::{corpus, deepj, fails, folder, succeeds, tiny_arguments};

const HEAD: &[u8] = b"MThd\0\0\0\x06\0\0\0\x01\x01\xe0MTrk";
const END: &[u8] = &[0, 0xff, 0x2f, 0];

/// Writes a file with one track of `events`.
fn write(dir: &Path, name: &str, events: &[u8]) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, [HEAD, &(events.len() as u32).to_be_bytes(), events].concat()).unwrap();
}

/// Quarter notes with these pitches on a channel.
fn quarters(channel: u8, pitches: &[u8]) -> Vec<u8> {
    let note = |&pitch: &u8| [0, 0x90 | channel, pitch, 64, 0x83, 0x60, 0x80 | channel, pitch, 64];
    pitches.iter().flat_map(note).collect()
}

/// A bar of quarter notes, with a controller value of 255 at its end.
fn odd() -> Vec<u8> {
    [&quarters(0, &[60, 62, 64, 65]), &[0, 0xb0, 7, 255][..], END].concat()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Runs the program, which must succeed, and returns what it printed to standard output and to standard error.
fn both(dir: &Path, arguments: &[&str]) -> (String, String) {
    let output = deepj(dir, arguments);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    (String::from_utf8(output.stdout).unwrap(), errors)
}

#[test]
fn roll_warns_or_refuses() {
    let dir = folder();
    let path = dir.path();
    write(path, "odd.mid", &odd());
    let (out, errors) = both(path, &["roll", "odd.mid", "--json"]);
    assert_eq!(errors, "warning: odd.mid: byte 61 is 255, a value above 127; it was taken for 127\n");
    let warnings = json(&out)["warnings"].clone();
    assert_eq!(warnings, json(r#"["byte 61 is 255, a value above 127; it was taken for 127"]"#));
    fails(path, &["roll", "odd.mid", "--strict"], 1, &["odd.mid: byte 61 is 255", "--strict"]);
    write(path, "good.mid", &[&quarters(0, &[60]), END].concat());
    let (out, errors) = both(path, &["roll", "good.mid", "--json", "--strict"]);
    assert_eq!((json(&out)["warnings"].clone(), errors.as_str()), (json("[]"), ""));
    std::fs::write(path.join("lfs.mid"), "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n").unwrap();
    fails(path, &["roll", "lfs.mid"], 1, &["lfs.mid", "git lfs pull"]);
}

#[cfg(unix)]
#[test]
fn a_dash_is_standard_input() {
    let dir = folder();
    let path = dir.path();
    write(path, "good.mid", &[&quarters(0, &[60, 62, 64]), END].concat());
    let roll = |arguments: &[&str], input: Stdio| {
        let output = program(path, arguments).stdin(input).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let good = || File::open(path.join("good.mid")).unwrap().into();
    let (code, out) = roll(&["roll", "-", "--json"], good());
    assert_eq!((code, json(&out)["file"].clone(), json(&out)["notes"].clone()), (Some(0), "-".into(), 3.into()));
    let (code, _) = roll(&["roll", "-", "-o", "again.mid"], good());
    assert!(code == Some(0) && path.join("again.mid").exists());
    let (code, errors) = roll(&["roll", "-"], Stdio::null());
    assert!(code == Some(1) && errors.contains("error: -: is empty"), "{errors}");
    let (code, errors) = roll(&["roll", "-"], File::open("/dev/zero").unwrap().into());
    assert!(code == Some(1) && errors.contains("error: -: has more than the 16777216 bytes"), "{errors}");
    let (code, errors) = roll(&["roll", "/dev/null"], good());
    assert!(code == Some(1) && errors.contains("or - for standard input"), "{errors}");
}

/// A terminal would obey them.
#[cfg(unix)]
#[test]
fn control_characters_of_names_are_escaped() {
    let dir = folder();
    fails(dir.path(), &["roll", "\u{1b}[31mred\u{9b}.mid"], 1, &["error: \\u001b[31mred\\u009b.mid: cannot be read"]);
}

#[test]
fn corpus_has_columns_of_drums_and_warnings() {
    let dir = folder();
    let path = dir.path();
    let left = [48, 50, 52, 53, 55, 57, 59, 60];
    write(path, "midi/g/c/left.mid", &[quarters(0, &[60, 62]), quarters(9, &left), END.into()].concat());
    write(path, "midi/g/c/odd.mid", &odd());
    let (out, errors) = both(path, &["corpus", "--data", "midi"]);
    for text in ["warning: g/c/left.mid: the 8 notes on channel 10", "warning: g/c/odd.mid: byte 61 is 255"] {
        assert!(errors.contains(text), "no '{text}' in: {errors}");
    }
    let columns = |line: &str| -> Vec<String> { line.split_whitespace().rev().take(2).map(String::from).collect() };
    let row = |name: &str| columns(out.lines().find(|line| line.trim().starts_with(name)).unwrap());
    assert_eq!(
        (row("files"), row("c "), row("total")),
        (
            ["warnings", "drums"].map(String::from).into(),
            ["2", "8"].map(String::from).into(),
            ["2", "8"].map(String::from).into()
        )
    );
    let out = json(&succeeds(path, &["corpus", "--data", "midi", "--json"]));
    assert_eq!(out["warnings"][1]["file"], "g/c/odd.mid");
    assert_eq!((out["drums"].as_u64(), out["warning_count"].as_u64()), (Some(8), Some(2)));
    fails(path, &["corpus", "--data", "midi", "--strict"], 1, &["g/c/left.mid: the 8 notes", "--strict"]);
    write(path, "good/g/c/a.mid", &[&quarters(0, &[60, 62]), END].concat());
    succeeds(path, &["corpus", "--data", "good", "--strict"]);
    std::fs::create_dir(path.join("good/g/empty")).unwrap();
    write(path, "good/stray.mid", &[&quarters(0, &[60]), END].concat());
    succeeds(path, &["corpus", "--data", "good"]);
    let strict = ["good/stray.mid: is in no composer's folder", "good/g/empty: is a composer without a MIDI file"];
    fails(path, &["corpus", "--data", "good", "--strict"], 1, &strict);
}

#[test]
fn a_beginning_is_heard_whole_or_said() {
    let dir = folder();
    let path = dir.path();
    corpus(&path.join("corpus"), 4, 4, 48);
    succeeds(path, &tiny_arguments(&["--steps", "1"]));
    let generate = |prime| {
        ["generate", "--checkpoint", "run", "--bars", "1", "--seed", "1", "-o", "a.mid", "--json", "--prime", prime]
    };
    // A bar and a bar of rest: what is composed begins with the third.
    write(path, "rest.mid", &[&quarters(0, &[60, 62, 64, 65]), &[0x8f, 0, 0xff, 0x2f, 0][..]].concat());
    let (out, errors) = both(path, &generate("rest.mid"));
    assert_eq!((json(&out)[0]["steps"].as_u64(), errors.contains("warning")), (Some(48), false), "{errors}");
    let composed = deepj::music::Reading::read(path.join("a.mid"), Default::default(), false).unwrap();
    assert!((16..32).all(|t| composed.roll.step(t).iter().all(|cell| !cell.play())), "the rest is kept");

    write(path, "poor.mid", &[&quarters(0, &[60, 62, 100, 100]), END].concat());
    let (out, errors) = both(path, &generate("poor.mid"));
    let text = "of 4 notes these were left out: 2 outside 36..=83";
    assert!(errors.contains(&format!("warning: poor.mid: {text}")), "{errors}");
    assert_eq!(json(&out)[0]["warnings"], json(&format!("[\"{text}\"]")));
    fails(path, &[&generate("poor.mid")[..], &["--strict"]].concat(), 1, &["poor.mid: of 4 notes"]);
    write(path, "odd.mid", &odd());
    let (out, errors) = both(path, &generate("odd.mid"));
    assert!(errors.contains("warning: odd.mid: byte 61 is 255") && json(&out)[0]["warnings"].is_array(), "{errors}");

    // 65,520 quarter notes between the first and the last note, and as many after it.
    let start = Instant::now();
    for end in [
        &[0x8e, 0xff, 0xc4, 0, 0x90, 60, 64, 0x83, 0x60, 0x80, 60, 64, 0, 0xff, 0x2f, 0][..],
        &[0x8e, 0xff, 0xc4, 0, 0xff, 0x2f, 0],
    ] {
        write(path, "long.mid", &[&quarters(0, &[60]), end].concat());
        fails(path, &generate("long.mid"), 2, &["a beginning of 1638", "1 more, but a piece has at most 5000"]);
    }
    assert!(start.elapsed().as_secs() < 5, "refused before the work");

    std::fs::write(path.join("lfs.safetensors"), "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
        .unwrap();
    for command in ["generate", "evaluate"] {
        fails(path, &[command, "--checkpoint", "lfs.safetensors"], 1, &["lfs.safetensors", "git lfs pull"]);
    }
    fails(path, &["inspect", "lfs.safetensors"], 1, &["lfs.safetensors", "git lfs pull"]);
}

#[test]
fn train_warns_of_odd_files_too() {
    let dir = folder();
    let path = dir.path();
    corpus(&path.join("corpus"), 4, 4, 48);
    write(path, "corpus/plain/smith/odd.mid", &odd());
    let (_, errors) = both(path, &tiny_arguments(&["--steps", "1"]));
    let warning = "warning: plain/smith/odd.mid: byte 61 is 255, a value above 127; it was taken for 127";
    assert!(errors.contains(warning) && errors.contains("`deepj corpus` lists them"), "{errors}");
}
