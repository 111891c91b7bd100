use std::path::{Path, PathBuf};

use deepj::music::roll::{Cell, DEFAULT_VELOCITY, MAX_STEPS, RollNote};
use deepj::music::svg::{Picture, draw};
use deepj::music::{NoteRange, Reading, Roll, RollStats};
use deepj::shape::{Channel, Channels};
use proptest::prelude::*;

use super::file::{midi, track};

fn note(pitch: u8, velocity: u8, start: usize, end: usize) -> RollNote {
    RollNote { pitch, velocity, start, end, replay: false }
}

fn roll(notes: &[RollNote]) -> Roll {
    Roll::from_notes(NoteRange::default(), notes.iter().copied()).unwrap()
}

/// The row of one pitch: `.` silent, `-` sounding, `o` onset after silence, `R` re-attack.
fn row(roll: &Roll, pitch: u8) -> String {
    let n = roll.range().index(pitch).unwrap();
    (0..roll.steps())
        .map(|t| match roll.step(t)[n] {
            cell if cell.replay() => 'R',
            _ if roll.onset(t, n) => 'o',
            cell if cell.play() => '-',
            _ => '.',
        })
        .collect()
}

fn velocities(roll: &Roll, pitch: u8) -> Vec<u8> {
    let n = roll.range().index(pitch).unwrap();
    (0..roll.steps()).map(|t| roll.step(t)[n].velocity()).collect()
}

#[test]
fn onsets_and_releases_go_to_the_nearest_step() {
    // 120 ticks a step; halves go up.
    for (start, end, expected) in [
        (0, 120, "o"),
        (59, 181, "o-"),
        (60, 179, ".o"),
        (60, 180, ".o"),
        (60, 300, ".o-"),
        (100, 101, ".o"),
        (0, 0, "o"),
    ] {
        let events: &[(u32, &[u8])] = &[(start, &[0x90, 60, 1]), (end - start, &[60, 0])];
        let reading = Reading::parse("", &midi(0, 480, &[track(events, 0)]), NoteRange::default(), false).unwrap();
        assert_eq!(row(&reading.roll, 60), expected, "{start}..{end}");
    }
}

#[test]
fn replay_is_an_onset_on_a_note_that_sounds() {
    assert_eq!(row(&roll(&[note(60, 1, 0, 2), note(60, 2, 2, 4)]), 60), "o-R-");
    assert_eq!(row(&roll(&[note(60, 1, 0, 2), note(60, 2, 3, 4)]), 60), "o-.o");
    // Overlapping: re-attacked, and sounding until the last one ends.
    let overlap = roll(&[note(60, 9, 0, 6), note(60, 5, 2, 3)]);
    assert_eq!((row(&overlap, 60).as_str(), velocities(&overlap, 60)), ("o-R---", vec![9, 9, 5, 5, 5, 5]));
    // Two on one step: the louder; a note of no length sounds for one step.
    let double = roll(&[note(60, 9, 1, 1), note(60, 5, 1, 3)]);
    assert_eq!((row(&double, 60).as_str(), velocities(&double, 60)), (".o-", vec![0, 9, 9]));
}

#[test]
fn values_are_play_replay_dynamics() {
    let roll = roll(&[note(60, 127, 0, 1), note(60, 64, 1, 2)]);
    let n = roll.range().index(60).unwrap();
    let soft = Channels::new(&[Channel::Play, Channel::Dynamics, Channel::Replay]).unwrap();
    for (channels, cell) in [
        (Channels::PERFORMANCE, &[1.0, 1.0, 64.0 / 127.0][..]),
        (Channels::NOTES, &[1.0, 1.0]),
        (soft, &[1.0, 64.0 / 127.0, 1.0]),
    ] {
        let c = channels.len();
        let mut values = vec![9.0; 48 * c];
        roll.write_values(channels, 1, &mut values);
        assert_eq!(values[n * c..][..c], *cell);
        assert_eq!(values.iter().filter(|&&v| v != 0.0).count(), c);
        for outside in [-1, 2, i64::MIN, i64::MAX] {
            values.fill(9.0);
            roll.write_values(channels, outside, &mut values);
            assert!(values.iter().all(|&v| v == 0.0));
        }
    }
}

#[test]
fn a_models_values_become_canonical() {
    let range = NoteRange::new(60, 60).unwrap();
    let values = [
        [1.0, 1.0, 0.5],      // a re-attack of nothing: an onset
        [1.0, 0.0, 0.9],      // holds the velocity of its onset
        [1.0, 1.0, f32::NAN], // struck again, at the least velocity
        [0.0, 1.0, 1.0],      // no note
        [f32::NAN, 0.0, 1.0], // no note
        [1.0, 0.0, 7.0],      // as loud as can be
    ];
    let roll = Roll::from_values(range, Channels::PERFORMANCE, values.as_flattened()).unwrap();
    assert_eq!(row(&roll, 60), "o-R..o");
    assert_eq!(velocities(&roll, 60), [64, 64, 1, 0, 0, 127]);
    let error = Roll::from_values(range, Channels::PERFORMANCE, &[0.0; 4]).unwrap_err();
    assert!(error.to_string().contains("[steps, 1, 3]") && error.to_string().contains("play, replay, dynamics"));

    let notes: Vec<f32> = values.iter().flat_map(|value| [value[0], value[1]]).collect();
    let roll = Roll::from_values(range, Channels::NOTES, &notes).unwrap();
    assert_eq!(row(&roll, 60), "o-R..o");
    assert_eq!(velocities(&roll, 60), [1, 1, 1, 0, 0, 1].map(|sounds| sounds * DEFAULT_VELOCITY));
    assert!(Roll::from_values(range, Channels::NOTES, &[0.0; 3]).is_err());
    // Without replay a note that goes on is one note.
    let plays = [1.0, 1.0, 0.0, 1.0];
    assert_eq!(row(&Roll::from_values(range, Channels::new(&[Channel::Play]).unwrap(), &plays).unwrap(), 60), "o-.o");
}

#[test]
fn limits() {
    assert!(Roll::from_notes(NoteRange::default(), [note(60, 1, MAX_STEPS, 0)]).is_err());
    assert!(Roll::from_notes(NoteRange::default(), [note(60, 1, usize::MAX, 0)]).is_err());
    assert!("84..=36".parse::<NoteRange>().is_err() && "0..=128".parse::<NoteRange>().is_err());
    assert!("36-83".parse::<NoteRange>().is_err());
    assert_eq!("36..=83".parse::<NoteRange>().unwrap(), NoteRange::default());
    let json = serde_json::to_string(&NoteRange::default()).unwrap();
    assert_eq!(
        (json.as_str(), serde_json::from_str::<NoteRange>(&json).unwrap()),
        ("\"36..=83\"", NoteRange::default())
    );
    for bpm in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(roll(&[note(60, 1, 0, 1)]).to_midi(bpm).is_err());
    }
}

#[test]
fn notes_outside_the_range_are_counted() {
    let events: &[(u32, &[u8])] =
        &[(0, &[0x90, 35, 1]), (0, &[36, 1]), (0, &[83, 1]), (0, &[84, 1]), (120, &[36, 0]), (0, &[83, 0])];
    let bytes = midi(0, 480, &[track(events, 480)]);
    let reading = Reading::parse("", &bytes, NoteRange::default(), false).unwrap();
    assert_eq!((reading.notes, reading.out_of_range, reading.roll.steps()), (2, 2, 1));
    let error = Reading::parse("low.mid", &bytes, NoteRange::new(50, 60).unwrap(), false).unwrap_err();
    assert!(error.to_string().contains("notes outside: 4") && error.to_string().contains("`notes`"), "{error}");
}

#[test]
fn statistics() {
    let roll = roll(&[note(60, 100, 0, 2), note(60, 50, 2, 4), note(64, 60, 2, 3), note(36, 90, 6, 8)]);
    let stats = RollStats::new(&roll);
    assert_eq!((stats.notes, stats.onsets, stats.steps, stats.replays), (4, 4, 8, 1));
    assert_eq!((stats.silent_share, stats.longest_rest), (0.25, 2));
    assert_eq!((stats.mean_polyphony, stats.mean_note_steps), (7.0 / 6.0, 1.75));
    assert_eq!((stats.mean_velocity, stats.lowest, stats.highest), (75.0, Some(36), Some(64)));
    assert!((stats.std_velocity - 425f64.sqrt()).abs() < 1e-12, "{}", stats.std_velocity);
    assert_eq!(stats.pitch_classes, [3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    // Silence has figures too.
    let silence = RollStats::new(&Roll::from_notes(NoteRange::default(), []).unwrap());
    assert_eq!((silence.steps, silence.mean_velocity, silence.mean_polyphony), (0, 0.0, 0.0));

    // Two notes on one step and pitch are two notes and one onset.
    let events: &[(u32, &[u8])] =
        &[(0, &[0x90, 60, 1]), (0, &[0x91, 60, 1]), (120, &[0x80, 60, 0]), (0, &[0x81, 60, 0])];
    let stats = Reading::parse("", &midi(0, 480, &[track(events, 0)]), NoteRange::default(), false).unwrap().stats();
    let json = serde_json::to_value(&stats).unwrap();
    for (name, value) in [("notes", 2), ("onsets", 1), ("steps", 1), ("out_of_range", 0)] {
        assert_eq!(json[name], value, "{name}");
    }
}

/// Reads what was written, event by event, as a player would.
#[test]
fn written_files_are_playable() {
    let roll = roll(&[note(60, 100, 1, 3), note(60, 50, 3, 4), note(62, 50, 1, 3), note(83, 1, 0, 9)]);
    let bytes = roll.to_midi(90.0).unwrap();
    let smf = midly::Smf::parse(&bytes).unwrap();
    assert_eq!((smf.header.format, smf.tracks.len()), (midly::Format::SingleTrack, 1));
    let mut sounding = [false; 128];
    let (mut tick, mut ons, mut last_on, mut tempo, mut program) = (0, 0, None, None, None);
    for event in &smf.tracks[0] {
        tick += event.delta.as_int();
        match event.kind {
            midly::TrackEventKind::Midi { message: midly::MidiMessage::NoteOn { key, vel }, .. } => {
                assert!(vel >= 1 && program.is_some() && tempo.is_some());
                assert!(!std::mem::replace(&mut sounding[usize::from(key.as_int())], true), "struck while sounding");
                ons += 1;
                last_on = Some(tick);
            }
            midly::TrackEventKind::Midi { message: midly::MidiMessage::NoteOff { key, .. }, .. } => {
                assert!(std::mem::replace(&mut sounding[usize::from(key.as_int())], false), "released while silent");
                assert_ne!(last_on, Some(tick), "voices are freed before others are needed");
            }
            midly::TrackEventKind::Midi { message: midly::MidiMessage::ProgramChange { program: p }, .. } => {
                program = Some(p.as_int());
            }
            midly::TrackEventKind::Meta(midly::MetaMessage::Tempo(t)) => tempo = Some(t.as_int()),
            _ => {}
        }
    }
    assert!(!sounding.contains(&true), "a note hangs");
    assert_eq!((ons, tempo, program, tick), (4, Some(666_667), Some(0), 9 * 120));
    assert_eq!(smf.tracks[0].last().unwrap().kind, midly::TrackEventKind::Meta(midly::MetaMessage::EndOfTrack));
}

/// A roll as a model with `channels` writes it, of which the last step sounds: a MIDI file has no note for silence at the
/// end.
fn any_roll(channels: Channels) -> impl Strategy<Value = Roll> {
    let range = (0u8..=127, 0u8..=127).prop_map(|(a, b)| NoteRange::new(a.min(b), a.max(b)).unwrap());
    (range, 1usize..40).prop_flat_map(move |(range, steps)| {
        let cell = (0u8..3, any::<bool>(), 1u8..=127).prop_map(|(silent, replay, v)| {
            [f32::from(silent == 0), f32::from(u8::from(replay)), f32::from(v) / 127.0]
        });
        prop::collection::vec(cell, steps * range.len()).prop_map(move |mut cells| {
            let last = cells.len() - 1;
            cells[last][0] = 1.0;
            let values: Vec<f32> = cells.iter().flat_map(|cell| &cell[..channels.len()]).copied().collect();
            Roll::from_values(range, channels, &values).unwrap()
        })
    })
}

/// Either kind of channels, with a roll of them.
fn any_channels() -> impl Strategy<Value = (Channels, Roll)> {
    prop_oneof![Just(Channels::PERFORMANCE), Just(Channels::NOTES)]
        .prop_flat_map(|channels| any_roll(channels).prop_map(move |roll| (channels, roll)))
}

proptest! {
    #[test]
    fn roll_to_values_to_roll_is_the_identity((channels, roll) in any_channels()) {
        let row = roll.range().len() * channels.len();
        let mut values = vec![9.0; roll.steps() * row];
        for (t, values) in values.chunks_exact_mut(row).enumerate() {
            roll.write_values(channels, t as i64, values);
        }
        prop_assert_eq!(Roll::from_values(roll.range(), channels, &values).unwrap(), roll);
    }

    #[test]
    fn roll_to_midi_to_roll_is_the_identity((_, roll) in any_channels(), bpm in 4.0f64..=1000.0) {
        let reading = Reading::parse("", &roll.to_midi(bpm).unwrap(), roll.range(), false).unwrap();
        prop_assert_eq!(&reading.roll, &roll);
        prop_assert_eq!(reading.notes, roll.notes().len());
        prop_assert!((reading.mean_bpm / bpm - 1.0).abs() < 1e-4);
        prop_assert_eq!(Roll::from_notes(roll.range(), roll.notes()).unwrap(), roll);
    }

    #[test]
    fn rolls_follow_the_definition(notes in prop::collection::vec((30u8..90, 1u8..=127, 0usize..30, 0usize..9), 1..60)) {
        let range = NoteRange::default();
        let notes: Vec<RollNote> = notes.iter().map(|&(p, v, s, l)| note(p, v, s, s + l)).collect();
        let roll = roll(&notes);
        for (n, pitch) in (range.low()..=range.high()).enumerate() {
            let of_pitch: Vec<_> = notes.iter().filter(|note| note.pitch == pitch).collect();
            for t in 0..roll.steps() {
                let cell = roll.step(t)[n];
                let sounds = |t: usize| of_pitch.iter().any(|note| (note.start..note.end.max(note.start + 1)).contains(&t));
                let onset = of_pitch.iter().any(|note| note.start == t);
                prop_assert_eq!(cell.play(), sounds(t));
                prop_assert_eq!(cell.replay(), onset && t > 0 && sounds(t - 1));
                prop_assert_eq!(roll.onset(t, n), onset);
                if onset {
                    let loudest = of_pitch.iter().filter(|note| note.start == t).map(|note| note.velocity).max();
                    prop_assert_eq!(Some(cell.velocity()), loudest);
                } else if cell != Cell::SILENT {
                    prop_assert_eq!(cell.velocity(), roll.step(t - 1)[n].velocity());
                }
            }
        }
    }
}

/// The MIDI files in the folder that `DEEPJ_MIDI` names, and in the folders within.
fn files_at_hand() -> Vec<PathBuf> {
    fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                collect(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "mid") {
                files.push(path);
            }
        }
    }
    let mut files = Vec::new();
    if let Some(folder) = std::env::var_os("DEEPJ_MIDI") {
        collect(Path::new(&folder), &mut files);
        assert!(!files.is_empty(), "no MIDI files in DEEPJ_MIDI={}", folder.display());
    }
    files
}

#[test]
fn real_files_survive_the_round_trip() {
    let files = files_at_hand();
    if files.is_empty() {
        println!("skipped: set DEEPJ_MIDI to a folder of MIDI files");
    }
    for path in files {
        for pedal in [false, true] {
            let reading = Reading::read(&path, NoteRange::default(), pedal).unwrap();
            let again =
                Reading::parse(&path, &reading.roll.to_midi(120.0).unwrap(), NoteRange::default(), false).unwrap();
            assert!(again.roll == reading.roll, "{}", path.display());
        }
    }
}

#[test]
fn pictures_show_every_note() {
    let long = note(72, 30, 120, 140); // from the first system into the second
    let roll = roll(&[note(60, 100, 0, 2), note(60, 110, 2, 4), note(72, 30, 118, 120), long]);
    let svg = draw(&roll, &Picture { title: "<Bach> & sons", metres: &[], bpm: Some(96.4) });
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    assert!(svg.contains("&lt;Bach&gt; &amp; sons") && svg.contains("4 notes in 9 bars, 96 bpm"));
    assert_eq!(svg.matches("<g transform").count(), 2);
    assert_eq!(svg.matches(r#"rx="1.5""#).count(), 5, "the long note is drawn in both systems");
    assert_eq!(svg.matches(r##"stroke="#111""##).count(), 2, "two re-attacks, one of them the long note's");
    for label in [">C4<", ">C5<", ">9<"] {
        assert!(svg.contains(label), "{label}");
    }
    assert!(draw(&Roll::from_notes(NoteRange::default(), []).unwrap(), &Picture::default()).contains("0 notes"));
}
