//! What is wished of a piece that `deepj generate` composes, with the weights within the program, which know music: lengths, keys,
//! curves, endings, choices, and what is written beside the MIDI.

use std::path::Path;

use deepj::checkpoint::Checkpoint;
use deepj::music::key::{self, Key};
use deepj::music::roll::RollNote;
use deepj::music::{NoteRange, Reading, Roll, Score};
use midly::{Format, MetaMessage, Smf, TrackEventKind};
use serde_json::Value;

use crate::render::frames_of;
use crate::{fails, folder, succeeds, tiny};

const BUILTIN: [&str; 5] = ["generate", "--checkpoint", "builtin", "--seed", "2"];

/// What is printed as JSON of pieces composed with these flags.
fn composed(dir: &Path, more: &[&str]) -> Value {
    let text = succeeds(dir, &[&BUILTIN[..], &["--json"], more].concat());
    serde_json::from_str(&text).unwrap()
}

fn roll(dir: &Path, file: &str) -> Roll {
    let reading = Reading::parse(file, &std::fs::read(dir.join(file)).unwrap(), NoteRange::new(0, 127).unwrap(), false);
    reading.unwrap().roll
}

/// Seconds of a MIDI file up to its end of track, by its own events.
fn seconds(bytes: &[u8]) -> f64 {
    let smf = Smf::parse(bytes).unwrap();
    let midly::Timing::Metrical(division) = smf.header.timing else { panic!("{:?}", smf.header) };
    let tempo = smf.tracks[0].iter().find_map(|event| match event.kind {
        TrackEventKind::Meta(MetaMessage::Tempo(tempo)) => Some(tempo.as_int()),
        _ => None,
    });
    let ends: Vec<u32> = smf.tracks.iter().map(|track| track.iter().map(|event| event.delta.as_int()).sum()).collect();
    assert!(ends.iter().all(|end| *end == ends[0]), "{ends:?}");
    f64::from(ends[0]) / f64::from(division.as_int()) * f64::from(tempo.unwrap()) / 1e6
}

#[test]
fn a_piece_is_as_long_as_wished_in_the_file_and_as_sound() {
    let dir = folder();
    let path = dir.path();
    for (wished, tempo) in [("10.3", "71.3"), ("3.001", "40"), ("0.4", "200")] {
        composed(path, &["--seconds", wished, "--tempo", tempo, "--wav", "-o", "a.mid"]);
        let bytes = std::fs::read(path.join("a.mid")).unwrap();
        let wished: f64 = wished.parse().unwrap();
        assert!((seconds(&bytes) - wished).abs() < 1e-3, "{wished} {}", seconds(&bytes));
        let score = Score::parse("a.mid", &bytes, true).unwrap();
        assert!(score.notes.iter().all(|note| score.seconds(u64::from(note.end)) <= wished + 1e-3));
        let frames = frames_of(&std::fs::read(path.join("a.wav")).unwrap()).len();
        assert_eq!(frames, (wished * 44_100.0).round() as usize);
    }
    // Two bars and a half.
    assert_eq!(composed(path, &["--bars", "2.5", "-o", "a.mid"])[0]["steps"], 40);
    // With a beginning, seconds are those of the whole and bars those behind it.
    let prime = ["--prime", "a.mid", "--tempo", "120", "-o", "b.mid"];
    let with = |more: &[&str]| composed(path, &[&prime[..], more].concat())[0]["steps"].as_u64().unwrap();
    let given = with(&["--bars", "1"]) - 16;
    assert!(given <= 40 && with(&["--seconds", "8"]) == 64);
    fails(path, &[&BUILTIN[..], &["--bars", "2.51", "-o", "c.mid"]].concat(), 2, &["--bars 2.51", "give 2.5"]);
    let short = [&BUILTIN[..], &prime, &["--seconds", "1"]].concat();
    fails(path, &short, 2, &["--seconds 1", "the beginning alone takes"]);
    for wrong in [["--seconds", "0"], ["--seconds", "nan"], ["--bars", "0"], ["--bars", "1e99"]] {
        fails(path, &[&BUILTIN[..], &wrong, &["-o", "c.mid"]].concat(), 2, &[wrong[0]]);
    }
}

#[test]
fn a_piece_is_in_the_key_and_among_the_pitches_wished() {
    let dir = folder();
    let path = dir.path();
    for (wished, style) in [("D minor", "romantic"), ("F# major", "classical"), ("Bb", "baroque")] {
        let json = composed(path, &["--bars", "8", "--style", style, "--key", wished, "-o", "a.mid"]);
        assert_eq!(key::estimate(&roll(path, "a.mid").notes()).unwrap().key, wished.parse::<Key>().unwrap(), "{json}");
    }
    let low_and_high = |more: &[&str]| {
        let json = composed(path, &[&["--bars", "4", "-o", "a.mid"][..], more].concat());
        [&json[0]["lowest"], &json[0]["highest"]].map(|pitch| pitch.as_u64().unwrap())
    };
    let [low, high] = low_and_high(&["--range", "C4..G4"]);
    assert!(low >= 60 && high <= 67, "{low} {high}");
    let [low, high] = low_and_high(&["--range", "60..=71", "--key", "E minor"]);
    assert!(low >= 60 && high <= 71, "{low} {high}");
    let [low, _] = low_and_high(&["--range", "C4..G4", "--transpose", "-12"]);
    assert!((48..=55).contains(&low), "{low}");
    for (wrong, texts) in [
        (["--key", "H minor"], ["H minor", "D minor"]),
        (["--range", "C7..C8"], ["C7..C8", "C2..B5"]),
        (["--range", "C4"], ["C4", "C2..B5"]),
        (["--transpose", "99"], ["99", "-24"]),
    ] {
        fails(path, &[&BUILTIN[..], &wrong, &["-o", "c.mid"]].concat(), 2, &texts);
    }
    let narrow = ["--key", "C", "--range", "C4..E4", "-o", "c.mid"];
    fails(path, &[&BUILTIN[..], &narrow].concat(), 2, &["less than an octave"]);
}

/// The mean of `value` over the onsets of bars, where there are any.
fn by_bar(roll: &Roll, value: impl Fn(&[RollNote]) -> f64) -> Vec<f64> {
    let notes = roll.notes();
    let of_bar = |bar| notes.iter().copied().filter(|note| note.start / 16 == bar).collect::<Vec<_>>();
    (0..roll.steps() / 16).map(|bar| value(&of_bar(bar))).collect()
}

#[test]
fn loudness_and_density_follow_their_curves() {
    let dir = folder();
    let path = dir.path();
    let velocity =
        |notes: &[RollNote]| notes.iter().map(|note| f64::from(note.velocity)).sum::<f64>() / notes.len().max(1) as f64;
    composed(path, &["--bars", "16", "--dynamics", "pp@0 ff@8 pp@32", "--ending", "none", "-o", "a.mid"]);
    let loudness = by_bar(&roll(path, "a.mid"), velocity);
    let middle = loudness[3..5].iter().sum::<f64>() / 2.0;
    assert!(middle > 90.0 && loudness[0] < 70.0 && loudness[15] < 50.0, "{loudness:?}");

    let onsets = |curve: &str| {
        composed(path, &["--bars", "16", "--density", curve, "--ending", "none", "-o", "a.mid"]);
        by_bar(&roll(path, "a.mid"), |notes| notes.len() as f64)
    };
    let sum = |bars: &[f64]| bars.iter().sum::<f64>();
    let (few, many) = (onsets("0.4"), onsets("1.6"));
    assert!(sum(&many) > 2.5 * sum(&few), "{few:?} {many:?}");
    let rising = onsets("0.4@1b 1.6@16b");
    assert!(sum(&rising[11..]) > 2.0 * sum(&rising[..5]), "{rising:?}");

    // Without wishes as loud as the style's pieces, and with a beginning as loud as that.
    let level = |json: &Value| json[0]["mean_velocity"].as_f64().unwrap();
    let bach = composed(path, &["--bars", "8", "--style", "bach", "-o", "a.mid"]);
    assert!((level(&bach) - 88.9).abs() < 2.0, "{bach}");
    let soft = Roll::from_notes(
        NoteRange::default(),
        roll(path, "a.mid").notes().into_iter().map(|mut note| {
            note.velocity = 35;
            note
        }),
    );
    soft.unwrap().write_midi(path.join("soft.mid"), 120.0).unwrap();
    composed(path, &["--bars", "4", "--style", "bach", "--prime", "soft.mid", "-o", "b.mid"]);
    let after = by_bar(&roll(path, "b.mid"), velocity)[8..].to_vec();
    assert!(after.iter().all(|velocity| *velocity < 60.0), "{after:?}");

    for (wrong, texts) in [
        (["--dynamics", "p@0 loud@3"], ["`loud`", "ppp"]),
        (["--density", "1@0 2@99"], ["`2@99`", "beyond the end"]),
        (["--density", "-1"], ["-1", "density"]),
        (["--mood", "sad"], ["sad", "calm"]),
    ] {
        fails(path, &[&BUILTIN[..], &["--bars", "8", "-o", "c.mid"], &wrong].concat(), 2, &texts);
    }
}

#[test]
fn a_mood_says_what_it_sets() {
    let dir = folder();
    let path = dir.path();
    let output = crate::deepj(path, &[&BUILTIN[..], &["--bars", "2", "--mood", "calm", "-o", "a.mid"]].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("--density 0.6 --dynamics p --temperature 0.8"), "{said}");
    let mean = |mood: &str| {
        composed(path, &["--bars", "4", "--mood", mood, "-o", "a.mid"])[0]["mean_velocity"].as_f64().unwrap()
    };
    assert!(mean("calm") + 20.0 < mean("lively"));
}

#[test]
fn a_piece_ends_with_a_chord_that_is_held_or_as_the_network_ends_it() {
    let dir = folder();
    let path = dir.path();
    for seed in ["1", "2", "3"] {
        let bars = ["--bars", "6", "--style", "classical", "--seed", seed, "--json", "-o", "a.mid"];
        let json = succeeds(path, &[&["generate", "--checkpoint", "builtin"][..], &bars].concat());
        let json: Value = serde_json::from_str(&json).unwrap();
        assert!(json[0]["close"].as_f64().unwrap() > 2.5, "{json}");
        let roll = roll(path, "a.mid");
        let notes = roll.notes();
        let last = notes.iter().map(|note| note.start).max().unwrap();
        assert!(roll.steps() == 96 && last <= 92, "{last}");
        let held: Vec<_> = notes.iter().filter(|note| note.end > last).collect();
        assert!(!held.is_empty() && held.iter().all(|note| note.end == 96), "{held:?}");
        // The bars before are those that are composed without an ending.
        let without = [&["generate", "--checkpoint", "builtin", "--ending", "none"][..], &bars[..6], &["-o", "b.mid"]];
        succeeds(path, &without.concat());
        let onsets = |file| {
            let notes = self::roll(path, file).notes();
            notes.into_iter().filter(|n| n.start < 64).map(|n| (n.start, n.pitch)).collect::<Vec<_>>()
        };
        assert_eq!(onsets("a.mid"), onsets("b.mid"));
    }
    assert!(composed(path, &["--bars", "4", "--ending", "none", "-o", "a.mid"])[0].get("close").is_none());
}

#[test]
fn the_network_alone_composes_as_the_library_does() {
    use deepj::generate::{Composition, generate};
    use deepj::graph::session::KernelSelection;
    use deepj::music::StylePath;

    let dir = folder();
    composed(dir.path(), &["--bars", "4", "--style", "bach", "--as-learned", "--ending", "none", "-o", "a.mid"]);
    let checkpoint = Checkpoint::builtin().unwrap();
    let style = StylePath::parse("bach", &checkpoint.styles).unwrap().0;
    let options = Composition { seed: 2, ..Composition::new(vec![style], 4) };
    let never = std::sync::atomic::AtomicBool::new(false);
    let rolls = generate(&checkpoint, &options, crate::cpu(), KernelSelection::default(), &never, |_| ());
    let rolls = pollster::block_on(rolls).unwrap().rolls;
    assert_eq!(roll(dir.path(), "a.mid").notes(), rolls[0].notes());
}

#[test]
fn a_style_stands_out_as_much_as_is_said() {
    let dir = folder();
    let piece = |name: &str, more: &[&str]| {
        let flags = ["--bars", "4", "--style", "classical", "--ending", "none", "-o", name];
        composed(dir.path(), &[&flags[..], more].concat());
        let text = std::fs::read(dir.path().join(name)).unwrap();
        let said = String::from_utf8_lossy(&text).into_owned();
        (roll(dir.path(), name).notes(), said)
    };
    let (usual, said) = piece("usual.mid", &[]);
    assert!(said.contains("--style-emphasis 0.3"), "{said}");
    assert_eq!(piece("said.mid", &["--style-emphasis", "0.3"]).0, usual);
    let (learned, said) = piece("learned.mid", &["--style-emphasis", "0"]);
    assert!(said.contains("--style-emphasis 0 "), "{said}");
    assert_ne!(learned, usual);
    let wrong = ["generate", "--checkpoint", "builtin", "--style-emphasis", "-1", "-o", "none.mid"];
    fails(dir.path(), &wrong, 2, &["a style emphasis of -1", "0 to 5"]);
    assert!(!dir.path().join("none.mid").exists());
}

#[test]
fn the_best_of_many_are_kept_and_it_is_said_why() {
    let dir = folder();
    let path = dir.path();
    let wishes = ["--bars", "4", "--key", "A minor", "--candidates", "12", "--count", "3", "-o", "a.mid"];
    let json = composed(path, &wishes);
    let kept = json.as_array().unwrap();
    assert_eq!(kept.len(), 3);
    let mut candidates: Vec<u64> = kept.iter().map(|piece| piece["piece"].as_u64().unwrap()).collect();
    candidates.sort_unstable();
    candidates.dedup();
    assert!(candidates.len() == 3 && candidates.iter().all(|&piece| piece < 12), "{candidates:?}");
    // Each is in the wanted key, or moved there.
    let wanted: Key = "A minor".parse().unwrap();
    for piece in kept {
        let heard: Key = piece["judged"]["key"][0].as_str().unwrap().parse().unwrap();
        let moved = piece["judged"]["moved"].as_i64().and_then(|moved| i8::try_from(moved).ok());
        assert!(moved.is_some() && heard.least_interval(wanted) == moved, "{piece}");
    }
    // The same again, with the reasons for people.
    let text = succeeds(path, &[&BUILTIN[..], &wishes].concat());
    assert!(text.contains("points") && text.contains("not kept: 9"), "{text}");
    assert!(["a-1.mid", "a-2.mid", "a-3.mid"].iter().all(|file| path.join(file).exists()));
    let too_few = [&BUILTIN[..], &["--candidates", "2", "--count", "3", "-o", "b.mid"]].concat();
    fails(path, &too_few, 2, &["--candidates 2", "--count 3"]);
}

#[test]
fn a_file_has_both_hands_its_rights_and_companions() {
    let dir = folder();
    let path = dir.path();
    let beside = ["--bars", "4", "--style", "chopin", "--wav", "--musicxml", "--page", "page.html", "-o", "a.mid"];
    composed(path, &beside);
    let bytes = std::fs::read(path.join("a.mid")).unwrap();
    let smf = Smf::parse(&bytes).unwrap();
    assert_eq!((smf.header.format, smf.tracks.len()), (Format::Parallel, 3));
    let texts: Vec<String> = smf.tracks[0]
        .iter()
        .filter_map(|event| match event.kind {
            TrackEventKind::Meta(MetaMessage::Text(text) | MetaMessage::Copyright(text)) => {
                Some(String::from_utf8(text.to_vec()).unwrap())
            }
            _ => None,
        })
        .collect();
    let all = texts.join("\n");
    for said in ["use it for anything", "--seed 2", "piano-midi.de", "was not looked at"] {
        assert!(all.contains(said), "{said}: {all}");
    }
    let notation = std::fs::read_to_string(path.join("a.musicxml")).unwrap();
    assert!(notation.contains("<staves>2</staves>") && notation.contains("use it for anything"));
    let page = std::fs::read_to_string(path.join("page.html")).unwrap();
    assert!(page.contains("data:audio/wav;base64,UklGR") && page.contains("<svg") && page.contains("a.mid"));
    assert!(!page.contains("http://") || page.contains("xmlns=\"http://www.w3.org/2000/svg\""));
    // Together the hands play all notes.
    let whole = roll(path, "a.mid").notes();
    let hand = |only: &str| {
        composed(path, &["--bars", "4", "--style", "chopin", "--only", only, "-o", "b.mid"]);
        roll(path, "b.mid").notes().into_iter().map(|note| (note.start, note.pitch)).collect::<Vec<_>>()
    };
    let mut both = [hand("left"), hand("right")].concat();
    let mut all: Vec<_> = whole.iter().map(|note| (note.start, note.pitch)).collect();
    both.sort_unstable();
    all.sort_unstable();
    assert_eq!(both, all);
    let piped = [&BUILTIN[..], &["--bars", "1", "--wav", "-o", "-"]].concat();
    fails(path, &piped, 2, &["standard output", ".wav"]);
    let page = [&BUILTIN[..], &["--bars", "1", "--page", "-", "-o", "c.mid"]].concat();
    fails(path, &page, 2, &["page"]);
}

#[test]
fn a_run_stores_the_levels_of_its_styles_and_export_stores_them_anew() {
    let dir = folder();
    let path = dir.path();
    crate::run_quietly(&tiny(path, 2)).unwrap();
    let checkpoint = Checkpoint::load(path.join("run/last.safetensors")).unwrap();
    let levels = checkpoint.corpus.levels.clone();
    assert_eq!(levels.len(), 2);
    // A note a quarter, one after the other.
    let level = levels[0].unwrap();
    assert!((level.density - 4.0).abs() < 0.1 && (level.polyphony - 1.0).abs() < 1e-3, "{level:?}");
    let mut old = checkpoint;
    old.corpus.levels = vec![];
    old.save(path.join("old.safetensors")).unwrap();
    let anew = ["export", "old.safetensors", "--levels-of", "corpus", "-o", "new.safetensors"];
    succeeds(path, &anew);
    assert_eq!(Checkpoint::load(path.join("new.safetensors")).unwrap().corpus.levels, levels);
    // Where nothing is known of the style, it is said what a density means.
    let dense = ["generate", "--checkpoint", "old.safetensors", "--bars", "2", "--density", "2", "-o", "a.mid"];
    let said = crate::deepj(path, &dense);
    assert!(String::from_utf8_lossy(&said.stderr).contains("12 onsets a bar"), "{said:?}");
    fails(path, &["export", "old.safetensors", "--levels-of", "run", "-o", "b.safetensors"], 1, &["run"]);
}

#[test]
fn a_file_beside_the_piece_says_what_may_be_done_with_it() {
    let dir = folder();
    let path = dir.path();
    let read = |name: &str| std::fs::read_to_string(path.join(name)).unwrap();
    composed(path, &["--bars", "1", "--copies-bound", "0", "-o", "a.mid"]);
    let text = read("a.rights.txt");
    for part in [
        "a.mid\n",
        "authors claim no rights in it",
        "CC BY-SA 3.0",
        "was not looked at",
        "CC-BY-SA-4.0",
        "not legal advice",
    ] {
        assert!(text.contains(part), "no '{part}' in: {text}");
    }
    let how = text.lines().find(|line| line.starts_with("deepj generate ")).unwrap();
    assert!(how.contains("--seed 2") && how.contains("--copies-bound 0"), "{how}");
    assert!(!text.contains("WHAT IT BEGINS WITH"), "{text}");
    // A beginning has rights of its own, and its notice goes along.
    composed(path, &["--bars", "1", "--prime", "a.mid", "-o", "b.mid", "--count", "2", "--candidates", "2"]);
    let text = read("b-2.rights.txt");
    for part in ["b-2.mid\n", "a.mid, whose rights deepj does not know", "Its own copyright notice: Composed by deepj"]
    {
        assert!(text.contains(part), "no '{part}' in: {text}");
    }
    let bytes = std::fs::read(path.join("b-2.mid")).unwrap();
    assert!(String::from_utf8_lossy(&bytes).contains("The beginning's own copyright notice: Composed by deepj"));
    composed(path, &["--bars", "1", "--no-rights", "-o", "c.mid"]);
    assert!(path.join("c.mid").exists() && !path.join("c.rights.txt").exists());
    // What was there before is replaced, and what is read is left alone.
    std::fs::copy(path.join("a.mid"), path.join("d.rights.txt")).unwrap();
    let clash = ["--bars", "1", "--prime", "d.rights.txt", "-o", "d.mid"];
    fails(path, &[&BUILTIN[..], &clash].concat(), 1, &["d.rights.txt", "is read by this command"]);
}
