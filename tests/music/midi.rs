use deepj::error::Kind;
use deepj::music::midi::Note;
use deepj::music::{NoteRange, Reading, Score};
use proptest::prelude::*;

use super::file::{midi, track};

fn score(bytes: &[u8]) -> Score {
    Score::parse("piece.mid", bytes, false).unwrap()
}

/// `(pitch, velocity, start, end)` of every note.
fn notes(bytes: &[u8]) -> Vec<(u8, u8, u64, u64)> {
    score(bytes).notes.iter().map(|n| (n.pitch, n.velocity, n.start.into(), n.end.into())).collect()
}

fn refused(bytes: &[u8]) -> String {
    let error = Score::parse("folder/piece.mid", bytes, false).unwrap_err();
    assert_eq!(error.kind, Kind::File);
    assert!(error.what.starts_with("folder/piece.mid: ") && !error.remedy.is_empty(), "{error}");
    error.what
}

/// Middle C for 480 ticks.
const NOTE: &[(u32, &[u8])] = &[(0, &[0x90, 60, 100]), (480, &[0x80, 60, 0])];

#[test]
fn type_0() {
    let bytes = midi(0, 480, &[track(NOTE, 0)]);
    let score = score(&bytes);
    assert_eq!(score.notes, [Note { pitch: 60, velocity: 100, start: 0, end: 480 }]);
    assert_eq!((score.format, score.tracks, score.division, score.mean_bpm), (0, 1, 480, 120.0));
}

#[test]
fn type_1_merges_tracks_and_channels() {
    let left = track(&[(480, &[0x91, 40, 50]), (480, &[0x81, 40, 0])], 0);
    let bytes = midi(1, 480, &[track(&[], 0), track(NOTE, 0), left]);
    assert_eq!(notes(&bytes), [(60, 100, 0, 480), (40, 50, 480, 960)]);
}

#[test]
fn type_2_plays_tracks_in_turn() {
    let bytes = midi(2, 480, &[track(NOTE, 20), track(&[], 100), track(NOTE, 0)]);
    assert_eq!(notes(&bytes), [(60, 100, 0, 480), (60, 100, 600, 1080)]);
}

#[test]
fn running_status_and_velocity_zero() {
    let events: &[(u32, &[u8])] = &[(0, &[0x90, 60, 100]), (10, &[60, 0]), (0, &[62, 90]), (10, &[62, 0])];
    assert_eq!(notes(&midi(0, 480, &[track(events, 0)])), [(60, 100, 0, 10), (62, 90, 10, 20)]);
}

#[test]
fn running_status_survives_meta_events() {
    let events: &[(u32, &[u8])] = &[(0, &[0x90, 60, 100]), (5, &[0xff, 1, 2, b'h', b'i']), (5, &[60, 0])];
    assert_eq!(notes(&midi(0, 480, &[track(events, 0)])), [(60, 100, 0, 10)]);
}

#[test]
fn smpte_ticks_become_quarters_through_the_tempo() {
    // 25 frames of 40 ticks: 1000 ticks a second. 120 bpm for a second, then 60 bpm.
    let slow: &[u8] = &[0xff, 0x51, 3, 0x0f, 0x42, 0x40];
    let events: &[(u32, &[u8])] =
        &[(0, &[0x90, 60, 100]), (500, &[60, 0]), (500, slow), (0, &[0x90, 62, 100]), (1000, &[62, 0])];
    let bytes = midi(0, 0xe728, &[track(events, 0)]);
    let quarter = u64::from(score(&bytes).division);
    assert_eq!(notes(&bytes), [(60, 100, 0, quarter), (62, 100, 2 * quarter, 3 * quarter)]);
    assert!((score(&bytes).mean_bpm - 90.0).abs() < 1e-9);
    assert_eq!([0, 1, 2, 3].map(|quarters| score(&bytes).seconds(quarters * quarter)), [0.0, 0.5, 1.0, 2.0]);
    // 29.97 frames, which the header calls 29.
    assert_eq!(
        Reading::parse(
            "",
            &midi(0, 0xe364, &[track(&[(0, &[0x90, 60, 1]), (5994, &[60, 0])], 0)]),
            NoteRange::default(),
            false
        )
        .unwrap()
        .roll
        .steps(),
        16
    );
}

#[test]
fn tempo_and_metre_are_kept() {
    let events: &[(u32, &[u8])] = &[
        (0, &[0xff, 0x51, 3, 0x0f, 0x42, 0x40]), // 60 bpm
        (0, &[0xff, 0x58, 4, 3, 2, 24, 8]),
        (0, &[0x90, 60, 1]),
        (480, &[0xff, 0x51, 3, 0x03, 0xd0, 0x90]), // 240 bpm
        (480, &[0xff, 0x58, 4, 6, 3, 24, 8]),
        (960, &[60, 0]),
        (0, &[0xff, 0x51, 3, 0, 0, 0]), // no tempo at all
    ];
    let score = score(&midi(0, 480, &[track(events, 0)]));
    assert!((score.mean_bpm - 4.0 / 1.75 * 60.0).abs() < 1e-9, "{}", score.mean_bpm);
    assert_eq!([0, 240, 480, 960, 1920].map(|tick| score.seconds(tick)), [0.0, 0.5, 1.0, 1.25, 1.75]);
    let metres: Vec<_> = score.metres.iter().map(|m| (m.tick, m.numerator, m.denominator)).collect();
    assert_eq!(metres, [(0, 3, 4), (960, 6, 8)]);
}

#[test]
fn a_key_struck_before_it_is_released() {
    // As legato sequences have it: the first note's end comes shortly after the second's beginning.
    let events: &[(u32, &[u8])] = &[(0, &[0x90, 60, 1]), (100, &[60, 2]), (5, &[60, 0]), (95, &[60, 0])];
    assert_eq!(notes(&midi(0, 480, &[track(events, 0)])), [(60, 1, 0, 105), (60, 2, 100, 200)]);
}

#[test]
fn a_lost_note_off_does_not_stretch_later_notes() {
    let events: &[(u32, &[u8])] =
        &[(0, &[0x90, 60, 1]), (100, &[60, 2]), (100, &[60, 0]), (200, &[60, 3]), (100, &[60, 0]), (100, &[64, 4])];
    let bytes = midi(0, 480, &[track(events, 50)]);
    assert_eq!(notes(&bytes), [(60, 1, 0, 100), (60, 2, 100, 200), (60, 3, 400, 500), (64, 4, 600, 650)]);
    assert_eq!(score(&bytes).unclosed, 1);
}

#[test]
fn unclosed_notes_end_with_their_own_track() {
    let bytes = midi(1, 480, &[track(&[(0, &[0x90, 60, 1])], 480), track(&[(0, &[0x90, 62, 1])], 960)]);
    assert_eq!(notes(&bytes), [(60, 1, 0, 480), (62, 1, 0, 960)]);
}

#[test]
fn all_notes_off() {
    let events: &[(u32, &[u8])] =
        &[(0, &[0x90, 60, 1]), (0, &[0x91, 62, 1]), (100, &[0xb0, 123, 0]), (100, &[0x81, 62, 0])];
    assert_eq!(notes(&midi(0, 480, &[track(events, 0)])), [(60, 1, 0, 100), (62, 1, 0, 200)]);
}

#[test]
fn the_pedal_extends_notes_only_if_asked() {
    let hands = track(&[(0, &[0x90, 60, 1]), (100, &[60, 0]), (400, &[62, 1]), (100, &[62, 0])], 0);
    let pedal = track(&[(50, &[0xb0, 64, 127]), (250, &[0xb0, 64, 0]), (250, &[0xb0, 64, 64])], 200);
    let bytes = midi(1, 480, &[hands, pedal]);
    assert_eq!(notes(&bytes), [(60, 1, 0, 100), (62, 1, 500, 600)]);
    let held = Score::parse("", &bytes, true).unwrap();
    // The second is held to the end of the file, where nobody lifts the pedal.
    assert_eq!(held.notes.iter().map(|n| (n.start, n.end)).collect::<Vec<_>>(), [(0, 300), (500, 750)]);
}

#[test]
fn the_pedal_of_one_pattern_does_not_hold_the_next() {
    let first = track(&[(0, &[0xb0, 64, 127]), (0, &[0x90, 60, 1]), (100, &[60, 0])], 100);
    let held = Score::parse("", &midi(2, 480, &[first, track(NOTE, 480)]), true).unwrap();
    assert_eq!(held.notes.iter().map(|n| (n.start, n.end)).collect::<Vec<_>>(), [(0, 200), (200, 680)]);
}

#[test]
fn the_pedal_holds_across_a_lift_of_the_key_only() {
    // A key still down when the pedal goes up sounds on.
    let events: &[(u32, &[u8])] =
        &[(0, &[0xb0, 64, 127]), (0, &[0x90, 60, 1]), (100, &[0xb0, 64, 0]), (100, &[0x80, 60, 0])];
    let held = Score::parse("", &midi(0, 480, &[track(events, 0)]), true).unwrap();
    assert_eq!(held.notes[0].end, 200);
}

#[test]
fn drums_are_dropped_and_counted() {
    let drum: &[(u32, &[u8])] = &[(0, &[0x99, 35, 100]), (10, &[0x89, 35, 0])];
    assert_eq!(score(&midi(1, 480, &[track(NOTE, 0), track(drum, 0)])).drums, 1);
    assert!(refused(&midi(1, 480, &[track(drum, 0)])).contains("only drums (1 notes"));
}

#[test]
fn a_riff_wrapper_is_opened() {
    let inner = midi(0, 480, &[track(NOTE, 0)]);
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((inner.len() as u32 + 12).to_le_bytes());
    bytes.extend(b"RMIDdata");
    bytes.extend((inner.len() as u32).to_le_bytes());
    bytes.extend(&inner);
    assert_eq!(notes(&bytes), [(60, 100, 0, 480)]);
}

#[test]
fn refusals_name_the_place() {
    assert!(refused(b"").contains("empty (0 bytes)"));
    assert!(refused(b"Dear diary, today I practised.").contains("not a MIDI file"));
    assert!(refused(&midi(0, 480, &[track(&[], 0)])).contains("no notes"));
    assert!(refused(&midi(0, 480, &[])).contains("no notes"));
    assert!(refused(&midi(0, 0, &[track(NOTE, 0)])).contains("division of 0"));
    assert!(refused(&midi(0, 0xe700, &[track(NOTE, 0)])).contains("division of 0"));
    // Bytes 14.. are the track: 8 of header, 4 of the first event, then a status byte that no file may hold.
    let malformed = midi(0, 480, &[track(&[NOTE[0], (0, &[0xf4])], 0)]);
    assert!(refused(&malformed).contains("no MIDI event at byte 26 (track 1)"), "{}", refused(&malformed));
    let mut cut = midi(1, 480, &[track(NOTE, 0), track(NOTE, 0)]);
    cut.truncate(cut.len() - 3);
    assert!(
        refused(&cut).contains("the part at byte 35 (track 2 of 2) announces 13 bytes, 10 are there"),
        "{}",
        refused(&cut)
    );
}

#[test]
fn absurd_lengths_are_refused_without_the_memory() {
    let long: Vec<(u32, &[u8])> = vec![(0x0fff_ffff, &[0x90, 60, 1]); 1000];
    assert!(refused(&midi(0, 1, &[track(&long, 0)])).contains("quarter notes, more than the 65536"));
    assert!(refused(&midi(0, 1, &[track(&[(0, &[0x90, 60, 1])], 0x0fff_ffff)])).contains("quarter notes"));
    // A late end of track harms nobody.
    assert_eq!(notes(&midi(0, 480, &[track(NOTE, 0x0fff_ffff)])), [(60, 100, 0, 480)]);
    // A track of four gigabytes that is not there; its end is.
    let mut huge = midi(0, 480, &[track(NOTE, 0)]);
    huge[18..22].copy_from_slice(&[0xff; 4]);
    assert_eq!(notes(&huge), [(60, 100, 0, 480)]);
    huge.truncate(huge.len() - 4);
    assert!(refused(&huge).contains("announces 4294967295 bytes"));
}

/// A file that uses every kind of event.
fn rich() -> Vec<u8> {
    let meta = track(
        &[
            (0, &[0xff, 3, 4, b'n', b'a', b'm', b'e']),
            (0, &[0xff, 0x58, 4, 3, 2, 24, 8]),
            (0, &[0xff, 0x59, 2, 0xfd, 1]),
            (0, &[0xff, 0x51, 3, 7, 0xa1, 0x20]),
            (0, &[0xff, 0x54, 5, 0, 0, 0, 0, 0]),
            (0, &[0xf0, 3, 1, 2, 0xf7]),
        ],
        0,
    );
    let hands = track(
        &[
            (0, &[0xc0, 0]),
            (0, &[0xb0, 64, 127]),
            (0, &[0x90, 60, 100]),
            (240, &[64, 100]),
            (240, &[0x80, 60, 0]),
            (0, &[0xe0, 0, 64]),
            (3, &[0xd0, 9]),
            (300, &[0xa0, 64, 9]),
            (0, &[0x90, 64, 0]),
            (0, &[0x99, 35, 100]),
            (9, &[0xb0, 64, 0]),
        ],
        480,
    );
    midi(1, 480, &[meta, hands, track(NOTE, 0)])
}

#[test]
fn truncated_at_every_byte() {
    let bytes = rich();
    assert_eq!(score(&bytes).notes.len(), 3);
    // Where a whole track is missing, the header counts too many: those that are there are read, with a warning.
    let ends = |end: &usize| bytes[*end..].starts_with(b"MTrk");
    let borders: Vec<usize> = (15..bytes.len()).filter(ends).collect();
    for end in 0..bytes.len() {
        for pedal in [false, true] {
            match Score::parse("piece.mid", &bytes[..end], pedal) {
                Ok(score) => assert!(end == borders[1] && score.warnings.len() == 1, "a part of a file is no file"),
                Err(error) => assert!(end != borders[1], "{error}"),
            }
        }
    }
}

#[test]
fn any_one_byte_changed() {
    let bytes = rich();
    for place in 0..bytes.len() {
        for value in 0..=255 {
            let mut bytes = bytes.clone();
            bytes[place] = value;
            // Whatever it says, it neither panics nor hangs.
            let _ = Reading::parse("piece.mid", &bytes, NoteRange::default(), true);
        }
    }
}

proptest! {
    #[test]
    fn any_bytes(track in prop::collection::vec(any::<u8>(), 0..400), format in 0u8..3, division: u16) {
        let _ = Reading::parse("piece.mid", &midi(format, division, &[track]), NoteRange::default(), true);
    }
}
