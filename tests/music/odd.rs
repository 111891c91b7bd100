//! MIDI files that are damaged or odd: what must be read, what must be said of it, and what must be refused.

use deepj::music::{NoteRange, Reading, Score};

use super::file::{midi, track};

/// The scale of C major from middle C, a quarter note each: what every file here means to hold.
const SCALE: [u8; 8] = [60, 62, 64, 65, 67, 69, 71, 72];

/// The bytes of quarter notes with these pitches, without an end of track; nine bytes a note.
fn quarters(channel: u8, pitches: &[u8]) -> Vec<u8> {
    let note = |&pitch: &u8| [0, 0x90 | channel, pitch, 64, 0x83, 0x60, 0x80 | channel, pitch, 64];
    pitches.iter().flat_map(note).collect()
}

const END: [u8; 4] = [0, 0xff, 0x2f, 0];

fn scale() -> Vec<u8> {
    [quarters(0, &SCALE), END.into()].concat()
}

/// The scale with `bytes` between its first four notes and the rest.
fn scale_around(bytes: &[u8]) -> Vec<u8> {
    let notes = quarters(0, &SCALE);
    [&notes[..36], bytes, &notes[36..], &END].concat()
}

/// `track` of a file, announced with another length.
fn announced(length: u32, track: &[u8]) -> Vec<u8> {
    [&b"MTrk"[..], &length.to_be_bytes(), track].concat()
}

/// A file of `chunks`, whose header announces so many tracks.
fn file(format: u8, tracks: u8, chunks: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = midi(format, 480, &[]);
    bytes[11] = tracks;
    bytes.extend(chunks.concat());
    bytes
}

fn whole(track: &[u8]) -> Vec<u8> {
    announced(track.len() as u32, track)
}

fn score(bytes: &[u8]) -> Score {
    Score::parse("piece.mid", bytes, false).unwrap()
}

fn refused(bytes: &[u8]) -> String {
    Score::parse("piece.mid", bytes, false).unwrap_err().what
}

/// The pitches in order, and the only warning.
fn warned(bytes: &[u8]) -> (Vec<u8>, String) {
    let mut score = score(bytes);
    assert_eq!(score.warnings.len(), 1, "{:?}", score.warnings);
    (score.notes.iter().map(|note| note.pitch).collect(), score.warnings.remove(0))
}

/// The whole scale is read, with one warning that contains `text`.
fn scale_with_warning(bytes: &[u8], text: &str) {
    let (pitches, warning) = warned(bytes);
    assert_eq!(pitches, SCALE, "{warning}");
    assert!(warning.contains(text) && !warning.contains('\n'), "no '{text}' in: {warning}");
}

#[test]
fn what_is_in_order_has_no_warning() {
    let two = file(1, 2, &[whole(&scale()), whole(&scale())]);
    for bytes in [file(0, 1, &[whole(&scale())]), two] {
        assert_eq!(score(&bytes).warnings, [""; 0]);
    }
    for (name, bytes) in deepj::data::FILES {
        assert_eq!(Reading::parse(name, bytes, NoteRange::default(), false).unwrap().warnings, [""; 0], "{name}");
    }
}

#[test]
fn a_delta_time_has_at_most_four_bytes() {
    // Before the first note-off after 36 bytes of notes, which begin at byte 22.
    let long = [&[0, 0x90, 66, 64, 0x81][..], &[0xff; 7], &[0x7f, 0x80, 66, 64]].concat();
    let error = refused(&file(0, 1, &[whole(&scale_around(&long))]));
    assert!(error.contains("no MIDI event at byte 62 (track 1): the delta time at byte 62 has more than 4"), "{error}");
    // Four are allowed, and five are too many even where they mean a small number.
    let four = [0x80, 0x80, 0x80, 0x05, 0xb0, 7, 1];
    assert_eq!(score(&file(0, 1, &[whole(&scale_around(&four))])).warnings, [""; 0]);
    let five = [0x80, 0x80, 0x80, 0x80, 0x05, 0xb0, 7, 1];
    assert!(refused(&file(0, 1, &[whole(&scale_around(&five))])).contains("delta time at byte 58"));
    // A length is such a number too.
    let length = [0, 0xff, 1, 0x80, 0x80, 0x80, 0x80, 0x01, b'a'];
    let error = refused(&file(0, 1, &[whole(&scale_around(&length))]));
    assert!(error.contains("no MIDI event at byte 58 (track 1): the length at byte 61 has more than 4"), "{error}");
}

#[test]
fn a_text_within_its_track_and_its_file() {
    // 512 bytes that are not there; the first note ends at byte 31.
    let notes = quarters(0, &SCALE);
    let long = |after: &[Vec<u8>]| {
        let track = [&notes[..9], &[0, 0xff, 1, 0x84, 0], b"abc", &notes, &END].concat();
        file(1, 1 + after.len() as u8, &[vec![whole(&track)], after.to_vec()].concat())
    };
    let error = refused(&long(&[]));
    assert!(
        error.contains("no MIDI event at byte 31 (track 1): the length at byte 34 announces 512 bytes, 79 are"),
        "{error}"
    );
    // In the track after it there are as many.
    let error = refused(&long(&[whole(&[quarters(0, &[60; 99]), END.into()].concat())]));
    assert!(error.contains("the event at byte 31 (track 1) goes beyond its track, which ends at byte 115"), "{error}");
}

#[test]
fn a_track_that_announces_too_little() {
    let track = scale();
    // Between two events, within one, at the first byte of the end of track, at its last, and at no byte at all.
    for length in [36, 37, 41, 72, 75, 1, 0] {
        let text = format!("track 1 (byte 14) announces {length} bytes, but has 76");
        scale_with_warning(&file(0, 1, &[announced(length, &track)]), &text);
        for tracks in [[announced(length, &track), whole(&track)], [whole(&track), announced(length, &track)]] {
            let (pitches, warning) = warned(&file(1, 2, &tracks));
            assert!(pitches.len() == 16 && warning.contains("bytes, but has 76"), "{length}: {warning}");
        }
    }
    let (pitches, warning) = warned(&file(1, 2, &[whole(&track), announced(36, &track)]));
    assert!(pitches.len() == 16 && warning.contains("track 2 (byte 98) announces 36 bytes"), "{warning}");
    // Where more bytes follow its end than a track can be told from, nobody knows which length is true.
    let junk = [announced(36, &track), vec![1, 2, 3]];
    let error = refused(&file(0, 1, &junk));
    assert!(error.contains("track 1 (byte 14) announces 36 bytes and does not end there"), "{error}");
}

#[test]
fn a_track_that_announces_too_much() {
    let track = scale();
    for length in [77, 80, 1 << 20, u32::MAX] {
        let text = format!("track 1 (byte 14) announces {length} bytes, but has 76");
        scale_with_warning(&file(0, 1, &[announced(length, &track)]), &text);
        let two = [announced(length, &track), whole(&track)];
        let (pitches, warning) = warned(&file(1, 2, &two));
        assert!(pitches.len() == 16 && warning.contains("but has 76"), "{length}: {warning}");
    }
    // A file that ends within an event, or before the end of its track, was cut off.
    for missing in [1, 4, 5, 40] {
        let cut = &track[..76 - missing];
        let error = refused(&file(0, 1, &[announced(76, cut)]));
        assert!(error.contains("is cut off: the part at byte 14 (track 1 of 1) announces 76 bytes"), "{error}");
    }
}

#[test]
fn tracks_are_those_that_are_there() {
    let track = whole(&scale());
    scale_with_warning(&file(1, 2, std::slice::from_ref(&track)), "the header announces 2 tracks, but 1 are there");
    let (pitches, warning) = warned(&file(1, 1, &[track.clone(), track.clone()]));
    assert!(pitches.len() == 16 && warning.contains("announces 1 tracks, but 2 are there"), "{warning}");
    let (pitches, warning) = warned(&file(0, 2, &[track.clone(), track.clone()]));
    assert!(pitches.len() == 16 && warning.contains("type 0 has one track, but 2 are there"), "{warning}");
    // A track of which only the beginning is there.
    for end in 1..8 {
        let error = refused(&file(1, 2, &[track.clone(), b"MTrk\0\0\0\0"[..end].to_vec()]));
        assert!(error.contains("is cut off: track 2 of 2 begins at byte 98"), "{error}");
    }
}

#[test]
fn chunks_that_are_no_tracks() {
    let (track, vendor) = (whole(&scale()), b"XFIH\0\0\0\x0chello vendor".to_vec());
    let text = "the chunk `XFIH` of 20 bytes at byte";
    for chunks in [[track.clone(), vendor.clone()], [vendor.clone(), track.clone()]] {
        scale_with_warning(&file(0, 1, &chunks), text);
        let counted = score(&file(0, 2, &chunks));
        assert_eq!((counted.notes.len(), counted.warnings.len()), (8, 2), "counted as a track: {:?}", counted.warnings);
    }
    // One that claims the track after it, and bytes that are no chunk.
    let greedy = b"XFIH\0\0\0\x20hello vendor".to_vec();
    scale_with_warning(&file(0, 1, &[greedy, track.clone()]), text);
    scale_with_warning(&file(0, 1, &[vec![0, 1, 2], track.clone()]), "3 bytes from byte 14 on belong to no track");
    scale_with_warning(&file(0, 1, &[track.clone(), vec![0; 40]]), "40 bytes from byte 98 on belong to no track");
    // Two files in one do not play together.
    let other = file(0, 1, &[whole(&[quarters(0, &[40; 8]), END.into()].concat())]);
    scale_with_warning(
        &file(0, 1, &[track, other]),
        "another MIDI file begins at byte 98; its 98 bytes were left unread",
    );
}

#[test]
fn a_track_without_an_end() {
    let track = quarters(0, &SCALE);
    scale_with_warning(&file(0, 1, &[whole(&track)]), "track 1 has no end-of-track event");
    let (pitches, _) = warned(&file(1, 2, &[whole(&track), whole(&scale())]));
    assert_eq!(pitches.len(), 16);
    // Without a true length, the next track ends it.
    let score = score(&file(1, 2, &[announced(200, &track), whole(&scale())]));
    assert_eq!((score.notes.len(), score.warnings.len()), (16, 2), "{:?}", score.warnings);
}

#[test]
fn an_end_of_track_amid_a_track() {
    let (pitches, warning) = warned(&file(0, 1, &[whole(&scale_around(&END))]));
    assert_eq!(pitches, SCALE[..4]);
    assert!(warning.contains("track 1 ends at byte 62") && warning.contains("40 bytes after its end"), "{warning}");
}

#[test]
fn values_above_127_and_real_time_bytes() {
    let around = |bytes: &[u8]| file(0, 1, &[whole(&scale_around(bytes))]);
    scale_with_warning(&around(&[0, 0xb0, 7, 255]), "byte 61 is 255, a value above 127; it was taken for 127");
    scale_with_warning(&around(&[0, 0xc0, 200]), "byte 60 is 200, a value above 127");
    scale_with_warning(&around(&[0, 0xe0, 0, 200]), "byte 61 is 200, a value above 127");
    for byte in 0xf8..0xff {
        scale_with_warning(&around(&[0, byte]), &format!("byte 59 is {byte}, a real-time message"));
    }
    let many = [0, 0xf8].repeat(1000);
    scale_with_warning(&around(&many), "it was passed over; 999 more such places follow");
    // Which controller, key or velocity is meant cannot be known, nor what follows it.
    for (bytes, place) in [([0, 0xb0, 200, 1], 60), ([0, 0x90, 200, 1], 60), ([0, 0x90, 1, 200], 61)] {
        let error = refused(&around(&bytes));
        assert!(error.contains(&format!("no MIDI event at byte 58 (track 1): byte {place} is 200")), "{error}");
    }
    let error = refused(&around(&[0, 0xf2, 0, 0]));
    assert!(error.contains("byte 59 is 242, a status byte that no file can hold"), "{error}");
    let error = refused(&file(0, 1, &[whole(&[0, 60, 64])]));
    assert!(error.contains("byte 23 is 60, and no status byte came before it"), "{error}");
}

/// Pitch, beginning and end of each note.
fn notes(bytes: &[u8]) -> Vec<(u8, u32, u32)> {
    score(bytes).notes.iter().map(|note| (note.pitch, note.start, note.end)).collect()
}

#[test]
fn a_note_off_before_its_note() {
    // Off and on at once, a second on 440 ticks later, and the one off that is left after 440 more.
    let events: &[(u32, &[u8])] = &[(0, &[0x90, 60, 0]), (0, &[60, 127]), (440, &[60, 127]), (440, &[60, 0])];
    let bytes = midi(0, 480, &[track(events, 100_000)]);
    assert_eq!(notes(&bytes), [(60, 0, 440), (60, 440, 880)]);
    let warnings = score(&bytes).warnings;
    assert!(warnings[0].contains("1 of 2 notes have no note-off"), "{warnings:?}");
    assert!(warnings[1].contains("1 note-offs came where no note was open"), "{warnings:?}");
}

#[test]
fn a_lost_note_off_does_not_hold_a_note_for_bars() {
    let struck: &[(u32, &[u8])] =
        &[(0, &[0x90, 60, 64]), (480, &[0x80, 60, 64]), (480, &[0x80, 60, 64]), (480, &[0x90, 60, 64])];
    let bars = [[(0, &[0x90, 64, 64][..]), (480, &[0x80, 64, 64])]; 32].concat();
    let again: &[(u32, &[u8])] = &[(0, &[0x90, 60, 64]), (480, &[0x80, 60, 64])];
    for end in [again, &[]] {
        let all = [struck, &bars, end].concat();
        let bytes = midi(0, 480, &[track(&all, 0)]);
        let low: Vec<_> = notes(&bytes).into_iter().filter(|note| note.0 == 60).collect();
        assert_eq!(low[..2], [(60, 0, 480), (60, 1440, 1920)], "as long as the longest of the others");
        assert!(score(&bytes).warnings[0].contains("1 of "), "{:?}", score(&bytes).warnings);
    }
}

#[test]
fn notes_without_any_note_off() {
    let ons: Vec<(u32, Vec<u8>)> = SCALE.iter().map(|&pitch| (480, vec![0x90, pitch, 64])).collect();
    let ons: Vec<(u32, &[u8])> = ons.iter().map(|(delta, bytes)| (*delta, bytes.as_slice())).collect();
    scale_with_warning(&midi(0, 480, &[track(&ons, 480)]), "8 of 8 notes have no note-off");
    // The same key again and again.
    let one: Vec<(u32, &[u8])> = vec![(480, &[0x90, 60, 64]); 8];
    let bytes = midi(0, 480, &[track(&one, 480)]);
    assert!(warned(&bytes).1.contains("8 of 8 notes have no note-off"));
    assert!(notes(&bytes).iter().all(|note| note.2 - note.1 == 480));
}

#[test]
fn a_piano_part_on_the_drum_channel() {
    let drums = |pitches: &[u8]| {
        let part = [quarters(9, pitches), END.into()].concat();
        score(&file(1, 2, &[whole(&scale()), whole(&part)]))
    };
    let left_hand = drums(&[48, 50, 52, 53, 55, 57, 59, 60]);
    assert_eq!((left_hand.drums, left_hand.notes.len()), (8, 8));
    let text = "the 8 notes on channel 10 were left out as drums, but look like a piano part (8 keys from 48 to 60, 1.0 quarter";
    assert!(left_hand.warnings[0].contains(text), "{:?}", left_hand.warnings);
    // A kit of drums, held as long as the file's author wrote them.
    let kit = drums(&[36, 42, 38, 42, 36, 42, 38, 46, 49, 41, 45]);
    assert_eq!((kit.drums, kit.warnings.len()), (11, 0), "{:?}", kit.warnings);
}

fn reading(bytes: &[u8]) -> Reading {
    Reading::parse("piece.mid", bytes, NoteRange::default(), false).unwrap()
}

#[test]
fn playing_off_the_grid() {
    // Sixteenths are 120 ticks. A generator of no quality is random enough.
    let mut state = 1u32;
    let mut random = |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % below
    };
    let free: Vec<(u32, &[u8])> =
        (0..500).flat_map(|_| [(random(240), &[0x90, 60, 64][..]), (random(240), &[0x80, 60, 64][..])]).collect();
    let played = reading(&midi(0, 480, &[track(&free, 0)]));
    assert!((0.7..0.8).contains(&played.off_grid_share), "{}", played.off_grid_share);
    let text = format!("{:.0} % of the onsets lie off the grid", 100.0 * played.off_grid_share);
    assert!(played.warnings[0].contains(&text), "{:?}", played.warnings);
    assert_eq!(played.stats().off_grid_share, played.off_grid_share);
    // A person who plays evenly is on it, but not one who plays triplets.
    let pairs = |on: u32, off: u32| {
        let events: Vec<(u32, &[u8])> = [(on, &[0x90, 60, 64][..]), (off, &[0x80, 60, 64][..])].repeat(99);
        reading(&midi(0, 480, &[track(&events, 0)])).off_grid_share
    };
    assert_eq!(pairs(0, 480), 0.0);
    assert!((0.6..0.7).contains(&pairs(0, 160)));
    let uneven: Vec<(u32, &[u8])> = [(12, &[0x90, 60, 64][..]), (108, &[0x80, 60, 64][..])].repeat(99);
    assert_eq!(reading(&midi(0, 480, &[track(&uneven, 0)])).off_grid_share, 0.0);
}

#[test]
fn a_rest_at_the_end() {
    // A bar of quarters, and the end of track a bar later.
    let events = [quarters(0, &SCALE[..4]), vec![0x8f, 0, 0xff, 0x2f, 0]].concat();
    let reading = reading(&file(0, 1, &[whole(&events)]));
    assert_eq!((reading.roll.steps(), reading.rest), (16, 16), "a corpus has no use for the rest");
    let with_rest = reading.roll_with_rest().unwrap();
    assert_eq!(with_rest.steps(), 32);
    assert!((0..16).all(|t| with_rest.step(t) == reading.roll.step(t)));
    assert!((16..32).all(|t| with_rest.step(t).iter().all(|cell| !cell.play())));
    // A late end of track harms a piece of a corpus as little as before, but nothing can begin with it.
    let late = track(&[(0, &[0x90, 60, 1]), (480, &[60, 0])], 0x0fff_ffff);
    let late = self::reading(&midi(0, 480, &[late]));
    assert_eq!(late.roll.steps(), 4);
    assert!(late.roll_with_rest().unwrap_err().what.contains("more than the 262144"));
}

#[test]
fn what_was_left_out_in_words() {
    assert_eq!(reading(&file(0, 1, &[whole(&scale())])).left_out(), None);
    let high = [quarters(0, &[60, 100, 100]), quarters(9, &[36]), END.into()].concat();
    let text = "of 4 notes these were left out: 2 outside 36..=83, 1 on channel 10 (drums)";
    assert_eq!(reading(&file(0, 1, &[whole(&high)])).left_out().as_deref(), Some(text));
}

#[test]
fn a_pointer_of_git_lfs() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";
    let error = Score::parse("piece.mid", pointer, false).unwrap_err();
    assert!(error.what.contains("piece.mid: is a Git LFS pointer") && error.what.contains("git lfs pull"), "{error}");
    let error = deepj::checkpoint::Checkpoint::from_bytes(pointer).unwrap_err();
    assert!(error.what.contains("is a Git LFS pointer") && error.what.contains("git lfs pull"), "{error}");
}

#[test]
fn a_riff_wrapper_that_is_wrong() {
    let inner = file(0, 1, &[whole(&scale())]);
    let wrapped = |length: u32, before: &[u8]| {
        let content = [b"RMID", before, b"data", &length.to_le_bytes(), &inner, b"LIST\0\0\0\0"].concat();
        [b"RIFF", &(content.len() as u32).to_le_bytes()[..], &content].concat()
    };
    let right = inner.len() as u32;
    assert_eq!(score(&wrapped(right, b"")).warnings, [""; 0]);
    assert_eq!(score(&wrapped(right, b"DISP\x03\0\0\0abc\0")).warnings, [""; 0], "an odd chunk before it");
    let long = score(&wrapped(99_999, b""));
    assert!(
        long.notes.len() == 8 && long.warnings[0].contains("RIFF wrapper (byte 12) announces 99999"),
        "{:?}",
        long.warnings
    );
    assert!(refused(&wrapped(right - 5, b"")).contains("is cut off"), "the place counts from the file's beginning");
    let mut short = wrapped(right, b"");
    short[4] -= 9;
    let short = score(&short);
    assert!(
        short.notes.len() == 8 && short.warnings[0].contains("RIFF wrapper (byte 0) announces"),
        "{:?}",
        short.warnings
    );
    assert!(refused(b"RIFF\0\0\0\0WAVE").contains("is a RIFF file, but does not hold MIDI"));
    assert!(refused(b"RIFF\0\0\0\0RMID").contains("without MIDI data"));
}
