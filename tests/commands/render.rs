//! `deepj render`: what a MIDI file plays, heard in the WAV file.

use std::f64::consts::TAU;
use std::io::Cursor;
use std::path::Path;

use deepj::music::Score;
use deepj::render::{Instrument, Options, Performance, SoundFont, frames, render, tail};
use serde_json::Value;

use crate::soundfont::soundfont;
use crate::{deepj, fails, folder, program, random, succeeds};

const RATE: usize = 44_100;

/// Ticks of a quarter note, which last half a second where no tempo says otherwise.
pub const QUARTER: u32 = 480;

/// Writes a MIDI file of one track: ticks from the beginning, and the bytes of an event.
pub fn midi(path: &Path, events: &[(u32, &[u8])]) {
    let mut track = vec![];
    let mut now = 0;
    for (tick, event) in events.iter().copied().chain([(events.last().unwrap().0, &[0xff, 0x2f, 0][..])]) {
        let delta = tick - now;
        for shift in [21, 14, 7] {
            if delta >> shift > 0 {
                track.push(0x80 | (delta >> shift & 0x7f) as u8);
            }
        }
        track.push((delta & 0x7f) as u8);
        track.extend(event);
        now = tick;
    }
    let head = b"MThd\0\0\0\x06\0\0\0\x01\x01\xe0MTrk";
    std::fs::write(path, [&head[..], &(track.len() as u32).to_be_bytes(), &track].concat()).unwrap();
}

/// Writes a MIDI file of one note that lasts `ticks`.
pub fn note(path: &Path, pitch: u8, velocity: u8, ticks: u32) {
    midi(path, &[(0, &[0x90, pitch, velocity]), (ticks, &[0x80, pitch, 0])]);
}

/// The frames of a WAV file, as numbers from -1 to 1.
pub fn frames_of(bytes: &[u8]) -> Vec<[f64; 2]> {
    let mut wav = hound::WavReader::new(Cursor::new(bytes)).unwrap();
    let format = wav.spec();
    assert_eq!((format.channels, format.bits_per_sample), (2, 16));
    let samples: Vec<f64> = wav.samples::<i16>().map(|x| f64::from(x.unwrap()) / 32768.0).collect();
    samples.as_chunks().0.to_vec()
}

/// Renders `piece.mid` in the folder; both channels together.
fn heard(dir: &Path, more: &[&str]) -> Vec<f64> {
    succeeds(dir, &[&["render", "piece.mid"][..], more].concat());
    let frames = frames_of(&std::fs::read(dir.join("piece.wav")).unwrap());
    frames.iter().map(|[left, right]| (left + right) / 2.0).collect()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn rms(sound: &[f64]) -> f64 {
    (sound.iter().map(|x| x * x).sum::<f64>() / sound.len() as f64).sqrt()
}

/// The largest step from one sample to the next.
fn jump(sound: &[f64]) -> f64 {
    sound.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f64::max)
}

/// The frequency of the partial near `near` hertz, by how far its phase goes in a tenth of a second.
fn frequency(sound: &[f64], near: f64) -> f64 {
    let phase = |part: &[f64]| {
        let (mut real, mut imaginary) = (0.0, 0.0);
        for (i, x) in part.iter().enumerate() {
            let window = 0.5 - 0.5 * (TAU * i as f64 / part.len() as f64).cos();
            let angle = TAU * near * i as f64 / RATE as f64;
            (real, imaginary) = (real + window * x * angle.cos(), imaginary - window * x * angle.sin());
        }
        imaginary.atan2(real)
    };
    let (step, length) = (RATE / 10, RATE / 5);
    let turned = phase(&sound[step..step + length]) - phase(&sound[..length]) - TAU * near * 0.1;
    near + (turned - TAU * (turned / TAU).round()) / (TAU * 0.1)
}

#[test]
fn a_piece_of_the_corpus_is_played_to_the_frame() {
    let dir = folder();
    let path = dir.path();
    let piece = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/romantic/vasky");
    let piece = std::fs::read_dir(piece).unwrap().map(|entry| entry.unwrap().path()).min().unwrap();
    let named = piece.to_str().unwrap();
    let out = json(&succeeds(path, &["render", named, "--json"]));
    let written = path.join(piece.file_stem().unwrap()).with_extension("wav");
    assert_eq!(out["output"].as_str(), written.file_name().unwrap().to_str(), "in the current folder");
    let bytes = std::fs::read(&written).unwrap();
    let all = frames_of(&bytes);

    let score = Score::read(&piece, true).unwrap();
    let performance = Performance::new(&score);
    let last = score.notes.iter().map(|note| score.seconds(note.end.into())).fold(0.0, f64::max);
    let expected = (last * RATE as f64).round() as usize + 2 * RATE;
    assert_eq!((all.len(), tail(RATE as u32)), (expected, 2 * RATE as u64));
    assert_eq!(frames(&performance, &Options::default()).unwrap(), expected as u64);
    assert_eq!(out["frames"].as_u64(), Some(expected as u64));
    assert_eq!(out["notes"].as_u64(), Some(score.notes.len() as u64));
    assert_eq!((out["rate"].as_u64(), out["preset"].is_null()), (Some(44_100), true));

    let peak = all.iter().flatten().fold(0.0_f64, |peak, x| peak.max(x.abs()));
    assert!((0.1..0.995).contains(&peak), "{peak}");
    assert!((out["peak"].as_f64().unwrap() - peak).abs() < 1e-3);
    let sides = [0, 1].map(|side| all.iter().map(|frame| frame[side]).collect::<Vec<_>>());
    let mean = rms(&[&sides[0][..], &sides[1]].concat());
    assert!((0.01..0.3).contains(&mean) && (out["rms"].as_f64().unwrap() - mean).abs() < 1e-4, "{mean}");
    assert_ne!(sides[0], sides[1], "stereo");
    assert_eq!(all[expected - 1], [0.0, 0.0]);

    let output = deepj(path, &["render", named, "-o", "-"]);
    assert!(output.status.success() && output.stdout == bytes, "standard output is the same file and nothing else");
    let said = succeeds(path, &["render", named, "-o", "again.wav"]);
    assert!(said.contains("again.wav") && said.contains(&format!("{expected} frames")), "{said}");
    assert!(std::fs::read(path.join("again.wav")).unwrap() == bytes, "the same every time");
}

#[test]
fn a_dash_is_standard_input() {
    let dir = folder();
    let path = dir.path();
    note(&path.join("note.mid"), 69, 90, QUARTER);
    let render = |more: &[&str]| {
        let input = std::fs::File::open(path.join("note.mid")).unwrap();
        let output = program(path, &[&["render", "-"], more].concat()).stdin(input).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let out = json(&String::from_utf8(render(&["--json"])).unwrap());
    assert_eq!((out["file"].as_str(), out["output"].as_str()), (Some("-"), Some("piece.wav")));
    assert_eq!(frames_of(&render(&["-o", "-"])).len(), RATE / 2 + 2 * RATE);
}

#[test]
fn tempos_are_followed() {
    let dir = folder();
    let path = dir.path();
    let tempo = |quarters_a_minute: u32| {
        let [_, a, b, c] = (60_000_000 / quarters_a_minute).to_be_bytes();
        [0xff, 0x51, 3, a, b, c]
    };
    // A second of rest; then a quarter of a second of sound.
    let (slow, fast) = (tempo(60), tempo(240));
    let on = [0x90, 69, 90];
    midi(
        &path.join("piece.mid"),
        &[(0, &slow), (QUARTER, &fast), (QUARTER, &on), (2 * QUARTER, &[0x80, 69, 0]), (99 * QUARTER, &slow)],
    );
    let sound = heard(path, &[]);
    assert_eq!(sound.len(), RATE + RATE / 4 + 2 * RATE, "the rest after the last note does not count");
    assert!(sound[..=RATE].iter().all(|x| *x == 0.0), "it begins on its frame");
    assert!(rms(&sound[RATE + 10..RATE + 200]) > 1e-3);
    assert!(rms(&sound[RATE + RATE / 4 + RATE / 2..]) < 1e-3, "and ends in time");
    for rate in ["22050", "48000"] {
        let out = json(&succeeds(path, &["render", "piece.mid", "--rate", rate, "--json"]));
        let rate: f64 = rate.parse().unwrap();
        assert_eq!(out["frames"].as_u64(), Some((1.25 * rate).round() as u64 + 2 * rate as u64));
    }
}

#[test]
fn a_soft_note_begins_and_ends_without_a_click() {
    let dir = folder();
    let path = dir.path();
    for pitch in [24, 36, 60, 84] {
        note(&path.join("piece.mid"), pitch, 25, QUARTER);
        let sound = heard(path, &[]);
        let end = RATE / 2;
        let within = jump(&sound[RATE / 50..end]);
        let (start, release) = (jump(&sound[..RATE / 100]), jump(&sound[end - 10..end + RATE / 4]));
        assert!(within > 0.0 && release <= within, "{pitch}: {release} where it ends, {within} before");
        assert!(sound[0] == 0.0 && sound[..5].iter().all(|x| x.abs() < 1e-3), "{pitch}: {:?}", &sound[..5]);
        assert!(start < 1.5 * within.max(1e-3), "{pitch}: {start} where it begins, {within} later");
        assert!(rms(&sound[end + RATE..]) < 1e-4, "{pitch} is damped");
    }
}

#[test]
fn velocity_is_loudness_and_a4_is_440_hertz() {
    let dir = folder();
    let path = dir.path();
    let tone = |velocity| {
        note(&path.join("piece.mid"), 69, velocity, 4 * QUARTER);
        heard(path, &[])
    };
    let tones = [1, 20, 64, 100, 127].map(tone);
    assert!(tones.windows(2).all(|pair| rms(&pair[1][..RATE]) > 1.2 * rms(&pair[0][..RATE])));
    for tone in &tones[2..] {
        let heard = frequency(&tone[RATE / 5..], 440.0);
        assert!((heard - 440.0).abs() < 0.2, "{heard} Hz");
    }
    // Of all channels but the drums'.
    midi(&path.join("piece.mid"), &[(0, &[0x95, 69, 64]), (0, &[0x99, 50, 127]), (4 * QUARTER, &[0x85, 69, 0])]);
    let out = json(&succeeds(path, &["render", "piece.mid", "--json"]));
    assert_eq!((out["notes"].as_u64(), out["drums"].as_u64()), (Some(1), Some(1)));
    let sound = frames_of(&std::fs::read(path.join("piece.wav")).unwrap());
    let sound: Vec<f64> = sound.iter().map(|[left, right]| (left + right) / 2.0).collect();
    assert!(sound == tones[2]);
}

#[test]
fn the_pedal_holds_notes() {
    let dir = folder();
    let path = dir.path();
    let short = [(0, &[0x90, 60, 80][..]), (QUARTER / 2, &[0x80, 60, 0])];
    midi(&path.join("piece.mid"), &short);
    let without = heard(path, &[]);
    assert_eq!(without.len(), RATE / 4 + 2 * RATE);
    let pedal = [(0, &[0xb0, 64, 127][..]), short[0], short[1], (6 * QUARTER, &[0xb0, 64, 0])];
    midi(&path.join("piece.mid"), &pedal);
    let with = heard(path, &[]);
    assert_eq!(with.len(), 3 * RATE + 2 * RATE, "to where the pedal goes up");
    let (held, damped) = (rms(&with[RATE..2 * RATE]), rms(&without[RATE..2 * RATE]));
    assert!(held > 0.005 && damped < 1e-4, "{held} {damped}");
    assert!(rms(&with[3 * RATE + RATE / 2..]) < 1e-4, "and damps them");
}

#[test]
fn seconds_are_exact() {
    let dir = folder();
    let path = dir.path();
    note(&path.join("piece.mid"), 60, 90, 8 * QUARTER);
    let whole = heard(path, &[]);
    let cut = heard(path, &["--seconds", "1.5"]);
    assert_eq!(cut.len(), RATE * 3 / 2);
    let fade = cut.len() - RATE / 100;
    assert!(cut[..fade] == whole[..fade], "the same until the fade");
    assert!(jump(&cut[fade..]) < 2.0 * jump(&cut[fade - RATE / 10..fade]) && cut.last() == Some(&0.0));
    let padded = heard(path, &["--seconds", "45"]);
    assert_eq!(padded.len(), 45 * RATE);
    assert!(padded[10 * RATE..].iter().all(|x| *x == 0.0));
    let third = heard(path, &["--seconds", "0.3333333", "--rate", "48000"]);
    assert_eq!(third.len(), 16_000);
}

#[test]
fn what_cannot_be_rendered_is_refused() {
    let dir = folder();
    let path = dir.path();
    note(&path.join("piece.mid"), 60, 90, QUARTER);
    std::fs::copy(path.join("piece.mid"), path.join("named.wav")).unwrap();
    std::fs::write(path.join("empty.mid"), "").unwrap();
    midi(&path.join("silent.mid"), &[(0, &[0xff, 0x51, 3, 7, 0xa1, 0x20])]);
    midi(&path.join("drums.mid"), &[(0, &[0x99, 40, 90]), (QUARTER, &[0x89, 40, 0])]);
    note(&path.join("hours.mid"), 60, 90, 3 * 7200 * QUARTER);
    note(&path.join("days.mid"), 60, 90, (1 << 28) - 1);
    for (arguments, code, texts) in [
        (&["render", "named.wav"][..], 1, &["named.wav: is read by this command"][..]),
        (&["render", "named.wav", "-o", "./named.wav"], 1, &["is read by this command"]),
        (&["render", "piece.mid", "--soundfont", "named.wav", "-o", "named.wav"], 1, &["is read by this command"]),
        (&["render", "piece.mid", "-o", "piece.mp3"], 2, &["only as .wav"]),
        (&["render", "piece.mid", "-o", "none/none/piece.wav"], 1, &["cannot be written"]),
        (&["render", "piece.mid", "-o", "-", "--json"], 2, &["standard output", "name a file"]),
        (&["render", "none.mid"], 1, &["none.mid: cannot be read"]),
        (&["render", "empty.mid"], 1, &["empty.mid: is empty"]),
        (&["render", "silent.mid"], 1, &["silent.mid: holds no notes"]),
        (&["render", "drums.mid"], 1, &["drums.mid: holds only drums"]),
        (&["render", "hours.mid"], 1, &["hours.mid: lasts 3.00 hours", "more than the 2 hours", "--seconds"]),
        (&["render", "days.mid"], 1, &["days.mid: lasts 559241 quarter notes", "77.7 hours"]),
        (&["render", "piece.mid", "--seconds", "0"], 2, &["a length of 0 seconds", "--seconds"]),
        (&["render", "piece.mid", "--seconds", "7201"], 2, &["a length of 7201 seconds"]),
        (&["render", "piece.mid", "--seconds", "nan"], 2, &["a length of NaN seconds"]),
        (&["render", "piece.mid", "--rate", "8000"], 2, &["a rate of 8000 Hz", "16000 to 192000"]),
        (&["render", "piece.mid", "--seconds", "7000", "--rate", "192000"], 2, &["4 GiB", "--rate"]),
    ] {
        fails(path, arguments, code, texts);
        assert!(["piece.wav", "hours.wav", "days.wav"].iter().all(|name| !path.join(name).exists()), "{arguments:?}");
    }
    let out = json(&succeeds(path, &["render", "hours.mid", "--seconds", "0.25", "--json"]));
    assert_eq!(out["frames"].as_u64(), Some(11_025), "its beginning");
    midi(&path.join("odd.mid"), &[(0, &[0x90, 60, 64]), (QUARTER, &[0xb0, 7, 255]), (QUARTER, &[0x80, 60, 0])]);
    fails(path, &["render", "odd.mid", "--strict"], 1, &["255, a value above 127", "--strict"]);
    let out = json(&succeeds(path, &["render", "odd.mid", "--json"]));
    assert_eq!(out["warnings"].as_array().map(Vec::len), Some(1));
}

/// Where the content of a SoundFont's list begins.
fn list(font: &[u8], kind: &[u8]) -> usize {
    font.windows(kind.len()).position(|bytes| bytes == kind).unwrap() + 8
}

#[test]
fn a_soundfont_plays() {
    let dir = folder();
    let path = dir.path();
    std::fs::write(path.join("sine.sf2"), soundfont(true)).unwrap();
    note(&path.join("piece.mid"), 69, 100, 4 * QUARTER);
    let sound = heard(path, &["--soundfont", "sine.sf2"]);
    assert_eq!(sound.len(), 4 * RATE);
    let pitch = frequency(&sound[RATE / 2..], 440.0);
    assert!((pitch - 440.0).abs() < 0.2, "{pitch} Hz");
    assert!(rms(&sound[RATE..2 * RATE]) > 0.01 && rms(&sound[7 * RATE / 2..]) < 0.001);
    let out = json(&succeeds(path, &["render", "piece.mid", "--soundfont", "sine.sf2", "--json"]));
    assert_eq!(out["preset"].as_str(), Some("Sine"));
    // An octave higher, softer, from the second beat on; and to the frame.
    midi(&path.join("piece.mid"), &[(QUARTER, &[0x90, 81, 60]), (3 * QUARTER, &[0x80, 81, 0])]);
    let higher = heard(path, &["--soundfont", "sine.sf2", "--seconds", "2"]);
    assert_eq!(higher.len(), 2 * RATE);
    let start = higher.iter().position(|x| *x != 0.0).unwrap();
    assert!((RATE / 2..RATE / 2 + 64).contains(&start), "{start}");
    let pitch = frequency(&higher[3 * RATE / 4..], 880.0);
    assert!((pitch - 880.0).abs() < 0.4, "{pitch} Hz");
    assert!(rms(&higher[RATE..5 * RATE / 4]) < 0.7 * rms(&sound[RATE..5 * RATE / 4]));
    assert!(heard(path, &["--soundfont", "sine.sf2", "--seconds", "2"]) == higher, "the same every time");
}

#[test]
fn a_soundfont_that_cannot_be_used_is_named() {
    let dir = folder();
    let path = dir.path();
    note(&path.join("piece.mid"), 69, 100, QUARTER);
    let good = soundfont(true);
    let changed = |kind: &[u8], at: usize, bytes: &[u8]| {
        let mut font = good.clone();
        let at = list(&font, kind).wrapping_add(at);
        font[at..at + bytes.len()].copy_from_slice(bytes);
        font
    };
    let built_in = "leave out --soundfont";
    for (content, texts) in [
        (b"no music".to_vec(), &["is not a SoundFont", built_in][..]),
        (vec![], &["is not a SoundFont"]),
        (good[..12].to_vec(), &["is cut off at byte 12", built_in]),
        (good[..good.len() / 2].to_vec(), &["is cut off: the part `LIST`"]),
        (good[..good.len() - 1].to_vec(), &["is cut off: the part `LIST`"]),
        (changed(b"smpl", 0, b"OggS"), &["compressed samples", "convert it"]),
        (changed(b"smpl", 0, &[0; 4])[..12].to_vec(), &["is cut off"]),
        // A part that announces 4 GiB.
        (changed(b"INAM", 0_usize.wrapping_sub(4), &[0xff; 4]), &["the part `INAM`", "announces 4294967295 bytes"]),
        // Indices that fall, a length that is none, a zone and a sample that are not there.
        (changed(b"pbag", 0, &[9]), &["`pbag`", "do not rise"]),
        (changed(b"ibag", 0_usize.wrapping_sub(4), &[7]), &["`ibag` of 7 bytes"]),
        (changed(b"phdr", 38 + 24, &[9]), &["its indices contradict"]),
        (changed(b"igen", 6, &[9]), &["invalid sample ID '9'"]),
        (changed(b"shdr", 24, &[0xff; 4]), &["cannot be used: sanity check failed"]),
        (soundfont(false), &["has no presets", built_in]),
        // A range of keys without the one that is played.
        (changed(b"igen", 0, &[43, 0, 0, 60]), &["its preset `Sine` has no sound for any of the 1 notes"]),
    ] {
        std::fs::write(path.join("bad.sf2"), content).unwrap();
        let texts = [&["bad.sf2: "], texts].concat();
        fails(path, &["render", "piece.mid", "--soundfont", "bad.sf2"], 1, &texts);
    }
    fails(
        path,
        &["render", "piece.mid", "--soundfont", "none.sf2"],
        1,
        &["none.sf2: cannot be read", "check the path"],
    );
    fails(path, &["render", "piece.mid", "--soundfont", "."], 1, &[".: is not an ordinary file"]);
    // Most of it is a hole, which takes no room on the disk.
    std::fs::File::create(path.join("large.sf2")).unwrap().set_len((1 << 30) + 1).unwrap();
    fails(
        path,
        &["render", "piece.mid", "--soundfont", "large.sf2"],
        1,
        &["large.sf2: has 1073741825 bytes", "smaller"],
    );
    assert!(!path.join("piece.wav").exists());
    // Only some of the notes are within a range of keys.
    std::fs::write(path.join("some.sf2"), changed(b"igen", 0, &[43, 0, 0, 69])).unwrap();
    midi(
        &path.join("piece.mid"),
        &[(0, &[0x90, 69, 9]), (0, &[0x90, 70, 9]), (QUARTER, &[0x80, 69, 0]), (QUARTER, &[0x80, 70, 0])],
    );
    let out = json(&succeeds(path, &["render", "piece.mid", "--soundfont", "some.sf2", "--json"]));
    assert!(out["warnings"][0].as_str().is_some_and(|text| text.contains("no sound for 1 of 2 notes")), "{out}");
}

/// Whatever a SoundFont holds, it plays or is an error.
#[test]
fn damaged_soundfonts_are_errors_or_play() {
    let dir = folder();
    let path = dir.path().join("bad.sf2");
    let midi = dir.path().join("piece.mid");
    note(&midi, 69, 100, QUARTER);
    let performance = Performance::new(&Score::read(&midi, true).unwrap());
    let options = Options { seconds: Some(0.7), ..Options::default() };
    let plays = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let font = SoundFont::read(&path)?;
        font.silent_strikes(&performance);
        let mut count = 0;
        let sink = |block: &[[i16; 2]]| {
            count += block.len();
            Ok(())
        };
        render(&performance, &Instrument::SoundFont(font), &options, sink).map(|_| count)
    };
    let good = soundfont(true);
    assert_eq!(plays(&good).unwrap(), 30_870);
    // Panics are caught, but would be written for each.
    let (mut errors, mut state) = (0, 1);
    for end in (0..good.len()).filter(|end| *end < 300 || *end > 2300 || end % 97 == 0) {
        assert!(plays(&good[..end]).is_err(), "{end} bytes");
    }
    let tables = list(&good, b"pdta") - 16;
    for round in 0..crate::repeats(600, 20_000) {
        let mut bytes = good.clone();
        for _ in 0..=random(&mut state) % 4 {
            // Half of them in the tables, where most can go wrong.
            let from = if round % 2 == 0 { tables } else { 0 };
            let at = from + random(&mut state) as usize % (bytes.len() - from);
            bytes[at] = random(&mut state) as u8;
        }
        match plays(&bytes) {
            Ok(count) => assert_eq!(count, 30_870),
            Err(e) => {
                assert!(e.to_string().contains("bad.sf2: ") && !e.remedy.is_empty(), "{e}");
                errors += 1;
            }
        }
    }
    assert!(errors > 50, "{errors} of them were damaged enough");
}
