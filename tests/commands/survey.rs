//! `deepj survey`: what listeners get, what they must not know, and what their answers say.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use deepj::survey::loudness::Meter;
use serde_json::{Value, json};

use crate::render::{QUARTER, frames_of, midi, note};
use crate::soundfont::soundfont;
use crate::{deepj, fails, folder, succeeds};

const RATE: u32 = 16_000;

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Writes a MIDI file of one note after another, from `low` up, two a second.
fn scale(path: &Path, low: u8, velocity: u8, notes: u32) {
    let mut events: Vec<(u32, [u8; 3])> = vec![];
    for i in 0..notes {
        let pitch = low + (5 * i % 24) as u8;
        events.extend([(i * QUARTER, [0x90, pitch, velocity]), ((i + 1) * QUARTER, [0x80, pitch, 0])]);
    }
    midi(path, &events.iter().map(|(tick, event)| (*tick, &event[..])).collect::<Vec<_>>());
}

/// Two folders in `dir`: five soft pieces of `ours`, and three loud ones of `theirs`, all of 8 seconds.
fn sides(dir: &Path) {
    for (side, count, low, velocity) in [("ours", 5, 36, 20), ("theirs", 3, 60, 120)] {
        std::fs::create_dir(dir.join(side)).unwrap();
        for i in 0..count {
            let ending = if i == 0 { "MIDI" } else { "mid" };
            scale(&dir.join(side).join(format!("{side}-{i}.{ending}")), low + i, velocity, 16);
        }
        std::fs::write(dir.join(side).join("notes.txt"), "no music").unwrap();
    }
}

const MAKE: [&str; 9] = ["survey", "ours", "theirs", "--rate", "16000", "--seconds", "3", "--seed", "1"];

/// Makes the survey of [`sides`] in `dir`; returns what was printed, and the key.
fn made(dir: &Path) -> (Value, Value) {
    let out = succeeds(dir, &[&MAKE[..], &["--json"]].concat());
    (serde_json::from_str(&out).unwrap(), read(&dir.join("survey.key.json")))
}

/// The pairs of a key, each with its name and its clips: ours, then theirs.
fn pairs(key: &Value) -> Vec<(String, [String; 2])> {
    let text = |value: &Value| value.as_str().unwrap().to_string();
    let clips = |pair: &Value| [0, 1].map(|side| text(&pair["clips"][side]["clip"]));
    key["pairs"].as_array().unwrap().iter().map(|pair| (text(&pair["pair"]), clips(pair))).collect()
}

fn names(folder: &Path) -> BTreeSet<String> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// All files below a folder, with their contents.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = vec![];
    for name in names(folder) {
        let path = folder.join(name);
        match path.is_dir() {
            true => all.extend(contents(&path)),
            false => all.push((path.clone(), std::fs::read(path).unwrap())),
        }
    }
    all
}

#[test]
fn clips_are_alike_but_for_the_music() {
    let dir = folder();
    let path = dir.path();
    sides(path);
    let arguments = ["survey", "ours", "theirs", "--rate", "16000", "--seconds", "6", "--seed", "1", "--json"];
    let out: Value = serde_json::from_str(&succeeds(path, &arguments)).unwrap();
    let key = read(&path.join("survey.key.json"));
    assert_eq!((out["pairs"].as_u64(), out["clips"].as_u64(), out["seed"].as_u64()), (Some(3), Some(6), Some(1)));
    assert_eq!((out["survey"].clone(), out["names"].clone()), (key["survey"].clone(), json!(["ours", "theirs"])));
    assert_eq!(names(&path.join("survey")), ["clips", "index.html"].map(Into::into).into());
    let bytes: usize = contents(&path.join("survey")).iter().map(|(_, bytes)| bytes.len()).sum();
    assert_eq!(out["bytes"].as_u64(), Some(bytes as u64));
    let loudness = out["loudness"].as_f64().unwrap();
    let (mut heard, mut gains) = (vec![], vec![]);
    for pair in key["pairs"].as_array().unwrap() {
        assert_eq!(pair["frames"].as_u64(), Some(6 * u64::from(RATE)));
        for (clip, side) in pair["clips"].as_array().unwrap().iter().zip(["ours", "theirs"]) {
            assert!(clip["file"].as_str().unwrap().starts_with(side), "{clip}");
            let name = clip["clip"].as_str().unwrap();
            let wav = std::fs::read(path.join(format!("survey/clips/{name}.wav"))).unwrap();
            assert_eq!(clip["crc32c"].as_u64(), Some(crc32c::crc32c(&wav).into()));
            heard.push(frames_of(&wav));
            gains.push(clip["gain"].as_f64().unwrap());
        }
    }
    for frames in &heard {
        assert_eq!(frames.len(), 6 * RATE as usize, "to the frame");
        let channel = |i: usize| frames.iter().map(|frame| frame[i] as f32).collect::<Vec<_>>();
        let mut meter = Meter::new(RATE);
        meter.push(&channel(0), &channel(1));
        // The fade is not there when it is measured.
        assert!((meter.loudness().unwrap() - loudness).abs() < 0.7, "{:?}, {loudness}", meter.loudness());
        assert!(meter.peak() <= 0.801, "{}", meter.peak());
        assert_eq!(frames.last(), Some(&[0.0, 0.0]));
    }
    // Before their fade they have one mean square too, as far as their pitches let loudness follow it.
    let rms: Vec<f64> = heard
        .iter()
        .map(|frames| {
            let part = frames[..5 * RATE as usize].as_flattened();
            10.0 * (part.iter().map(|x| x * x).sum::<f64>() / part.len() as f64).log10()
        })
        .collect();
    let range = |values: &[f64]| {
        values.iter().copied().fold(f64::MIN, f64::max) - values.iter().copied().fold(f64::MAX, f64::min)
    };
    assert!(range(&rms) < 3.5 && range(&gains) > 10.0, "{rms:?} {gains:?}");
}

#[test]
fn what_listeners_get_does_not_tell_the_sides() {
    let dir = folder();
    let path = dir.path();
    sides(path);
    let (_, key) = made(path);
    let page = std::fs::read_to_string(path.join("survey/index.html")).unwrap();
    for text in ["ours", "theirs", "ours-0", ".mid", "MIDI", "\"gain\"", "http:", "https:", "fetch("] {
        assert!(!page.contains(text), "{text}");
    }
    for (pair, clips) in pairs(&key) {
        let [a, b] = clips.map(|clip| page.find(&clip).unwrap());
        assert!(page.contains(&pair) && a != b);
    }
    // Which of a pair is named first is a matter of chance, over seeds.
    let mut first = 0;
    for seed in 0..20 {
        let seed = seed.to_string();
        let out = format!("of-{seed}");
        let arguments = ["survey", "ours", "theirs", "--rate", "16000", "--seconds", "1", "--pairs", "1"];
        succeeds(path, &[&arguments[..], &["--seed", &seed, "--out", &out]].concat());
        let page = std::fs::read_to_string(path.join(&out).join("index.html")).unwrap();
        let (_, [ours, theirs]) = pairs(&read(&path.join(format!("{out}.key.json")))).remove(0);
        first += u32::from(page.find(&ours) < page.find(&theirs));
        let files: Vec<String> = names(&path.join(&out).join("clips")).into_iter().collect();
        assert_eq!(files[0].starts_with(&ours), page.find(&ours) < page.find(&theirs));
    }
    assert!((4..=16).contains(&first), "{first} of 20");
}

#[test]
fn a_seed_makes_one_survey() {
    let dir = folder();
    let path = dir.path();
    sides(path);
    made(path);
    let before = contents(path);
    std::fs::remove_dir_all(path.join("survey")).unwrap();
    std::fs::remove_file(path.join("survey.key.json")).unwrap();
    made(path);
    assert!(before == contents(path));
    let more = ["--seed", "2", "--out", "other", "--key", "keys/other.json", "--names", "A one,B"];
    succeeds(path, &[&MAKE[..7], &more].concat());
    let (key, other) = (read(&path.join("survey.key.json")), read(&path.join("keys/other.json")));
    assert_eq!(other["names"], json!(["A one", "B"]));
    assert!(key["survey"] != other["survey"] && pairs(&key) != pairs(&other));
    // Titles and questions may hold anything.
    let more = ["--out", "third", "--title", "</script><b>&", "--question", "Which \"one\"?", "--closing", "{{DATA}}"];
    let said = succeeds(path, &[&MAKE[..], &more].concat());
    assert!(said.contains("third/index.html") && said.contains("third.key.json: keep it"), "{said}");
    let page = std::fs::read_to_string(path.join("third/index.html")).unwrap();
    assert!(page.contains("<h1>&lt;/script&gt;&lt;b&gt;&amp;</h1>") && page.contains(r#"Which \"one\"?"#), "{page}");
}

#[test]
fn pieces_of_different_lengths_make_clips_of_one() {
    let dir = folder();
    let path = dir.path();
    sides(path);
    // 6 s beside 8 s, after a rest that is left out; and both have the 2 s in which they die away.
    std::fs::create_dir(path.join("short")).unwrap();
    midi(&path.join("short/s.mid"), &[(20 * QUARTER, &[0x90, 60, 90]), (32 * QUARTER, &[0x80, 60, 0])]);
    let output = deepj(path, &["survey", "short", "theirs", "--rate", "16000"]);
    let said = String::from_utf8_lossy(&output.stderr);
    for text in ["short/s.mid: sounds for 8.0 s; both clips", "note: 2 of 3 pieces of `theirs` are in no pair"] {
        assert!(output.status.success() && said.contains(text), "{said}");
    }
    let key = read(&path.join("survey.key.json"));
    assert_eq!(key["pairs"][0]["frames"].as_u64(), Some(8 * u64::from(RATE)));
    let (_, clips) = pairs(&key).remove(0);
    for clip in clips {
        let frames = frames_of(&std::fs::read(path.join(format!("survey/clips/{clip}.wav"))).unwrap());
        assert_eq!(frames.len(), 8 * RATE as usize);
        let start = frames.iter().position(|frame| frame[0].abs() > 1e-3).unwrap();
        assert!(start < RATE as usize / 10, "begins at once: {start}");
    }
    fails(path, &["survey", "short", "theirs", "--out", "b", "--strict"], 1, &["s.mid: sounds for 8.0 s", "--strict"]);
    assert!(!path.join("b").exists() && !path.join("b.key.json").exists());
}

#[test]
fn what_makes_no_survey_is_answered_and_leaves_nothing() {
    let dir = folder();
    let path = dir.path();
    sides(path);
    for side in ["empty", "short", "broken", "full", "silent", "a/same", "b/same"] {
        std::fs::create_dir_all(path.join(side)).unwrap();
    }
    for i in 0..3 {
        note(&path.join(format!("short/{i}.mid")), 60, 90, QUARTER);
    }
    scale(&path.join("broken/good.mid"), 60, 90, 16);
    std::fs::write(path.join("broken/bad.mid"), b"MThd").unwrap();
    std::fs::write(path.join("full/kept"), "kept").unwrap();
    std::fs::write(path.join("bad.sf2"), &soundfont(true)[..1000]).unwrap();
    let mut one_key = soundfont(true);
    let zone = one_key.windows(4).position(|bytes| bytes == b"igen").unwrap() + 8;
    one_key[zone..zone + 4].copy_from_slice(&[43, 0, 1, 1]);
    std::fs::write(path.join("one-key.sf2"), one_key).unwrap();
    // The first note sounds for a moment, the next is not in the clip.
    midi(
        &path.join("silent/s.mid"),
        &[(0, &[0x90, 127, 1]), (1, &[0x80, 127, 0]), (99 * QUARTER, &[0x90, 60, 90]), (100 * QUARTER, &[0x80, 60, 0])],
    );
    for side in ["a/same", "b/same"] {
        scale(&path.join(side).join("s.mid"), 60, 90, 16);
    }
    std::fs::write(path.join("old.key.json"), "a key").unwrap();
    let before = contents(path);
    for (arguments, code, texts) in [
        (&["ours"][..], 2, &["one folder", "two folders"][..]),
        (&["ours", "theirs", "empty"], 2, &["3 folders"]),
        (&["ours", "ours"], 2, &["ours is compared with itself"]),
        (&["ours", "ours/../ours"], 2, &["compared with itself"]),
        (&["ours", "empty"], 1, &["empty: holds no MIDI files"]),
        (&["empty", "ours"], 1, &["empty: holds no MIDI files"]),
        (&["ours", "none"], 1, &["none: cannot be read"]),
        (&["ours", "theirs/theirs-1.mid"], 1, &["theirs-1.mid: cannot be read"]),
        (&["ours", "broken"], 1, &["bad.mid: "]),
        (&["short", "ours"], 1, &["short/0.mid: sounds for 0.5 s, less than the 5 s", "short/1.mid, short/2.mid"]),
        (&["ours", "silent"], 1, &["silent/s.mid: is silent for its first 10.0 s"]),
        (&["ours", "theirs", "--pairs", "4"], 2, &["4 pairs of 5 and 3 pieces", "1 to 3"]),
        (&["ours", "theirs", "--pairs", "0"], 2, &["0 pairs"]),
        (&["ours", "theirs", "--seconds", "0.5"], 2, &["clips of 0.5 seconds", "1 to 600"]),
        (&["ours", "theirs", "--seconds", "nan"], 2, &["NaN"]),
        (&["ours", "theirs", "--rate", "1"], 2, &["a rate of 1 Hz"]),
        (&["ours", "theirs", "--names", "one"], 2, &["two names"]),
        (&["ours", "theirs", "--names", "one,one"], 2, &["both sides are called `one`"]),
        (&["ours", "theirs", "--out", "full"], 1, &["full: the folder is not empty"]),
        (&["ours", "theirs", "--out", "bad.sf2"], 1, &["bad.sf2: is no folder"]),
        (&["ours", "theirs", "--out", "none/none/survey"], 1, &["cannot be"]),
        (&["ours", "theirs", "--out", "."], 2, &["has no name"]),
        (&["ours", "theirs", "--out", "old"], 1, &["old.key.json: is there already", "could not be scored"]),
        (&["ours", "theirs", "--key", "./survey/key.json"], 2, &["the key would be in the folder"]),
        (&["ours", "theirs", "--key", "key.txt"], 2, &["key.txt"]),
        (&["ours", "theirs", "--soundfont", "bad.sf2"], 1, &["bad.sf2: is cut off", "leave out --soundfont"]),
        (&["ours", "theirs", "--soundfont", "none.sf2"], 1, &["none.sf2: cannot be read"]),
        (&["ours", "theirs", "--soundfont", "one-key.sf2"], 1, &["one-key.sf2: its preset `Sine` has no sound"]),
        (&["ours", "theirs", "--score", "--pairs", "3"], 2, &["--pairs"]),
    ] {
        fails(path, &[&["survey"][..], arguments].concat(), code, texts);
        assert!(before == contents(path), "{arguments:?}");
    }
    // Folders of one name are told apart, and an empty folder is filled.
    std::fs::create_dir(path.join("survey")).unwrap();
    succeeds(path, &["survey", "a/same", "b/same", "--seconds", "1"]);
    assert_eq!(read(&path.join("survey.key.json"))["names"], json!(["a/same", "b/same"]));
    std::fs::write(path.join("good.sf2"), soundfont(true)).unwrap();
    let font = ["--out", "font", "--soundfont", "good.sf2"];
    succeeds(path, &[&["survey", "ours", "theirs", "--seconds", "1"][..], &font].concat());
    assert_eq!(read(&path.join("font.key.json"))["preset"], json!("Sine"));
}

/// A limit on the size of files fails as a full disk does.
#[cfg(unix)]
#[test]
fn a_full_disk_and_a_signal_leave_nothing() {
    use crate::signals::{send, wait_until};
    use crate::{program, started_by};
    let dir = folder();
    let path = dir.path();
    sides(path);
    let before = names(path);
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; ulimit -f 100; exec \"$@\"", "sh"]);
    let output = started_by(shell, &program(path, &MAKE)).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(1) && said.contains("cannot be written") && said.contains("make room"),
        "{said}"
    );
    assert_eq!(names(path), before);
    // Long enough to be stopped.
    for side in ["ours", "theirs"] {
        scale(&path.join(side).join("long.mid"), 40, 90, 1500);
    }
    let long = ["survey", "ours", "theirs", "--seconds", "600", "--rate", "192000"];
    let mut child = program(path, &long).stderr(std::process::Stdio::null()).spawn().unwrap();
    wait_until(&mut child, "folder", || names(path).iter().any(|name| name.ends_with(".tmp")));
    send(&child, "INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(names(path), before);
}

/// The checksum of answers, as docs/SURVEY.md has it.
fn checksum(file: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), Into::into);
    let mut lines: Vec<String> =
        ["format", "version", "survey", "listener", "familiarity"].iter().map(|name| text(&file[name])).collect();
    for answer in file["answers"].as_array().unwrap() {
        let mut parts: Vec<String> =
            ["pair", "first", "second", "chosen"].iter().map(|name| text(&answer[name])).collect();
        parts.extend(answer["heard"].as_array().unwrap().iter().map(text));
        lines.push(parts.join(" "));
    }
    format!("{:08x}", crc32c::crc32c((lines.join("\n") + "\n").as_bytes()))
}

/// A listener's file with its checksum: of each pair the side that was chosen, and the one that was shown first.
fn answers(key: &Value, listener: &str, familiarity: &str, choices: &[(usize, usize)]) -> Value {
    let answers: Vec<Value> = pairs(key)
        .into_iter()
        .zip(choices)
        .map(|((pair, clips), &(chosen, first))| {
            json!({"pair": pair, "first": clips[first], "second": clips[1 - first], "chosen": clips[chosen], "heard": [3000, 2990]})
        })
        .collect();
    sealed(json!({
        "format": "deepj survey answers",
        "version": 1,
        "survey": key["survey"],
        "listener": listener,
        "familiarity": familiarity,
        "answers": answers,
    }))
}

fn sealed(mut file: Value) -> Value {
    file["crc32c"] = checksum(&file).into();
    file
}

#[test]
fn answers_are_scored() {
    let dir = folder();
    let path = dir.path();
    sides(path);
    let (_, key) = made(path);
    std::fs::create_dir(path.join("answers")).unwrap();
    let write = |name: &str, file: &Value| std::fs::write(path.join("answers").join(name), file.to_string()).unwrap();
    write("a.json", &answers(&key, "one", "none", &[(0, 0), (0, 1), (1, 1)]));
    write("b.json", &answers(&key, "two", "musician", &[(0, 0), (0, 0), (1, 0)]));
    let out: Value = serde_json::from_str(&succeeds(path, &["survey", "--score", "answers", "--json"])).unwrap();
    let all = &out["preference"];
    assert_eq!(
        (out["listeners"].as_u64(), all["chosen"].as_u64(), all["answers"].as_u64()),
        (Some(2), Some(4), Some(6))
    );
    let close = |value: &Value, wanted: f64| (value.as_f64().unwrap() - wanted).abs() < 1e-5;
    // Wilson's interval of 4 of 6, by hand; p = 2 (1 + 6 + 15) / 64.
    assert!(close(&all["share"], 2.0 / 3.0) && close(&all["p"], 0.6875), "{all}");
    assert!(close(&all["interval"][0], 0.29999) && close(&all["interval"][1], 0.90323), "{all}");
    // Both listeners chose two of three, so that drawing listeners changes nothing.
    assert!(close(&out["over_listeners"][0], 2.0 / 3.0) && close(&out["over_listeners"][1], 2.0 / 3.0));
    // The first shown was chosen as the 1st and 3rd by one, as the 1st and 2nd by the other.
    assert_eq!(out["shown_first"]["chosen"].as_u64(), Some(4));
    assert_eq!(
        (out["familiarity"]["musician"]["chosen"].as_u64(), out["familiarity"]["some"].as_null()),
        (Some(2), Some(()))
    );
    let chosen: Vec<Option<u64>> =
        out["pairs"].as_array().unwrap().iter().map(|pair| pair["preference"]["chosen"].as_u64()).collect();
    assert_eq!(chosen, [Some(2), Some(2), Some(0)]);
    assert_eq!((out["paper"]["chosen"].as_u64(), out["paper"]["answers"].as_u64()), (Some(210), Some(300)));
    assert_eq!(out["left_out"], json!([]));

    // One listener, two of three pairs, by names of files and of the key.
    write("c.json", &answers(&key, "three", "", &[(0, 0), (0, 1)]));
    std::fs::rename(path.join("survey.key.json"), path.join("k.json")).unwrap();
    fails(path, &["survey", "--score", "answers/c.json"], 1, &["survey.key.json: cannot be read"]);
    let said = succeeds(path, &["survey", "--score", "answers/c.json", "--key", "k.json"]);
    for text in [
        "Which piece do you prefer?",
        "2 answers of 1 listener\n",
        "`ours` over `theirs`: 2 of 2, 100.0 % (95 %: 34.2 to 100.0 %), p = 0.500",
        "shown first over shown second: 1 of 2",
        "DeepJ over Biaxial in the paper: 210 of 300, 70.0 % (95 %: 64.6 to 74.9 %), p = 3.3e-12",
        "no answers: ours/",
    ] {
        assert!(said.contains(text), "{text}: {said}");
    }
    assert!(!said.contains("bootstrap"), "{said}");
}

#[test]
fn answers_that_were_edited_do_not_count() {
    let dir = folder();
    let path = dir.path();
    sides(path);
    let (_, key) = made(path);
    let good = answers(&key, "one", "some", &[(0, 0), (0, 1), (1, 1)]);
    let [first, second, ..] = &pairs(&key)[..] else { panic!() };
    let changed = |name: &str, to: Value| {
        let mut file = good.clone();
        *file.pointer_mut(name).unwrap() = to;
        file
    };
    let text = good.to_string();
    let repaired = |name: &str, to: Value| sealed(changed(name, to)).to_string();
    let bad: Vec<(String, &str)> = vec![
        (changed("/answers/0/chosen", first.1[1].clone().into()).to_string(), "was edited: its checksum is "),
        (changed("/listener", "two".into()).to_string(), "was edited"),
        (changed("/answers/1/heard/0", 9.into()).to_string(), "was edited"),
        (changed("/crc32c", "00000000".into()).to_string(), "it says 00000000"),
        (repaired("/survey", "12345678".into()), "is of the survey 12345678, and the key of "),
        (repaired("/answers/0/pair", "nowhere".into()), "answer 1: the survey has no pair `nowhere`"),
        (repaired("/answers/0/first", second.1[0].clone().into()), "is not of the pair"),
        (repaired("/answers/0/chosen", second.1[0].clone().into()), "is chosen of"),
        (repaired("/answers/0/second", first.1[0].clone().into()), "answer 1: both clips are"),
        (repaired("/answers/1", good["answers"][0].clone()), "answer 2: the pair"),
        (repaired("/familiarity", "very".into()), "says `very` of familiarity"),
        (repaired("/answers", json!([])), "holds no answers"),
        (repaired("/version", 2.into()), "version 2, not"),
        (repaired("/answers/0/heard", json!([1, 2, 3])), "is not a file of answers: "),
        (repaired("/answers/0/heard/1", json!(-1)), "is not a file of answers: "),
        (text.replacen("pair", "pear", 1), "unknown field `pear`"),
        (text[..text.len() / 2].to_string(), "is not a file of answers: EOF"),
        (String::new(), "is not a file of answers"),
        ("[]".into(), "is not a file of answers"),
        ("\0\u{7f}".into(), "is not a file of answers"),
    ];
    for (content, what) in &bad {
        std::fs::write(path.join("bad.json"), content).unwrap();
        fails(path, &["survey", "--score", "bad.json"], 1, &["bad.json: ", what]);
    }
    // Beside good ones they are left out, or an error where that is asked for.
    std::fs::create_dir(path.join("answers")).unwrap();
    let write = |name: &str, content: &str| std::fs::write(path.join("answers").join(name), content).unwrap();
    for (i, (content, _)) in bad.iter().enumerate() {
        write(&format!("bad-{i:02}.json"), content);
    }
    write("good.json", &text);
    let scored = |more: &[&str]| -> Value {
        serde_json::from_str(&succeeds(path, &[&["survey", "--score", "answers", "--json"], more].concat())).unwrap()
    };
    let out = scored(&[]);
    assert_eq!(out["left_out"].as_array().map(Vec::len), Some(bad.len()));
    assert_eq!((out["listeners"].as_u64(), out["preference"]["answers"].as_u64()), (Some(1), Some(3)));
    let more = format!("and {} more files that do not count", bad.len() - 1);
    fails(path, &["survey", "--score", "answers", "--strict"], 1, &["bad-00.json: was edited", &more]);
    // Of one listener's files the fullest counts, whatever their order; written anew with other white space it is unchanged.
    std::fs::remove_dir_all(path.join("answers")).unwrap();
    std::fs::create_dir(path.join("answers")).unwrap();
    write("0.json", &answers(&key, "one", "some", &[(1, 0)]).to_string());
    write("1.json", &serde_json::to_string_pretty(&good).unwrap());
    write("2.json", &answers(&key, "one", "some", &[(1, 0), (1, 0)]).to_string());
    write("3.json", &text);
    let out = scored(&[]);
    assert_eq!((out["listeners"].as_u64(), out["preference"]["chosen"].as_u64()), (Some(1), Some(2)));
    let left_out: Vec<&str> = out["left_out"].as_array().unwrap().iter().map(|what| what.as_str().unwrap()).collect();
    assert!(left_out[0].contains("0.json: is of the listener one, as is answers/1.json"), "{left_out:?}");
    assert!(left_out.len() == 3 && left_out[2].contains("3.json: holds the same answers as"), "{left_out:?}");
    // Keys.
    let key = std::fs::read_to_string(path.join("survey.key.json")).unwrap();
    for (content, what) in [
        (key.replacen("ours", "them", 1), "key.json: was changed"),
        (key[..key.len() / 2].to_string(), "key.json: is not the key of a survey: EOF"),
        (text, "key.json: is not the key of a survey"),
    ] {
        std::fs::write(path.join("key.json"), content).unwrap();
        fails(path, &["survey", "--score", "answers", "--key", "key.json"], 1, &[what, "--key"]);
    }
    std::fs::create_dir(path.join("nothing")).unwrap();
    fails(path, &["survey", "--score", "nothing"], 1, &["nothing: holds no answers (.json)"]);
    fails(path, &["survey", "--score", "none.json"], 1, &["none.json: cannot be read"]);
    fails(path, &["survey", "--score"], 2, &["required"]);
}

/// Runs a program, if it is here.
fn others(command: &mut Command) -> Option<Output> {
    let output = command.output();
    if output.is_err() {
        println!("skipped: {} is not here", command.get_program().display());
    }
    output.ok()
}

/// The page's own functions, without a browser.
#[test]
fn the_page_makes_answers_that_count() {
    let dir = folder();
    let path = dir.path();
    sides(path);
    made(path);
    std::fs::create_dir(path.join("answers")).unwrap();
    std::fs::write(path.join("listen.js"), include_str!("survey_node.js")).unwrap();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/survey/page.js");
    let Some(output) = others(Command::new("node").arg("listen.js").arg(page).current_dir(path)) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let orders: usize = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    assert!((20..=48).contains(&orders), "{orders} orders");
    let out: Value =
        serde_json::from_str(&succeeds(path, &["survey", "--score", "answers", "--strict", "--json"])).unwrap();
    assert_eq!((out["listeners"].as_u64(), out["preference"]["answers"].as_u64()), (Some(60), Some(180)));
    assert_eq!(out["shown_first"]["chosen"].as_u64(), Some(90));
    assert_eq!(out["familiarity"]["much"]["answers"].as_u64(), Some(180));
}

/// The page in a browser: with its keys through all pairs, and once loaded again on the way.
#[test]
fn the_page_works_in_a_browser() {
    let dir = folder();
    let path = dir.path();
    sides(path);
    made(path);
    let page = std::fs::read_to_string(path.join("survey/index.html")).unwrap();
    let listener = format!("<script>{}</script>", include_str!("survey_browser.js"));
    let tested = page.replacen("<script type=", &(listener + "<script type="), 1);
    std::fs::write(path.join("survey/tested.html"), tested).unwrap();
    let mut browser = Command::new("chromium");
    browser.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--mute-audio",
        "--virtual-time-budget=5000",
        "--dump-dom",
    ]);
    browser.arg(format!("--user-data-dir={}", path.join("profile").display()));
    browser.arg(format!("file://{}", path.join("survey/tested.html").display())).current_dir(path);
    let Some(output) = others(&mut browser) else { return };
    let dom = String::from_utf8_lossy(&output.stdout);
    let Some((_, text)) = dom.split_once("<pre id=\"out\">") else {
        panic!("{dom}\n{}", String::from_utf8_lossy(&output.stderr));
    };
    let text = text.split("</pre>").next().unwrap();
    assert!(!text.starts_with("FAILED"), "{text}");
    std::fs::write(path.join("answers.json"), text).unwrap();
    let out: Value = serde_json::from_str(&succeeds(path, &["survey", "--score", "answers.json", "--json"])).unwrap();
    assert_eq!((out["preference"]["answers"].as_u64(), out["shown_first"]["chosen"].as_u64()), (Some(3), Some(2)));
    assert_eq!(out["familiarity"]["some"]["answers"].as_u64(), Some(3));
}
