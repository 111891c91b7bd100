//! MIDI files: what can be read is the same roll when it is written and read again, and memory follows the length of the file
//! and of the roll.

#![no_main]

use deepj::music::midi::MAX_BYTES;
use deepj::music::roll::MAX_STEPS;
use deepj::music::{NoteRange, Reading};
use deepj_fuzz::within;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    assert!(bytes.len() as u64 <= MAX_BYTES);
    let range = NoteRange::new(0, 127).unwrap();
    for pedal in [false, true] {
        let most = MAX_STEPS * range.len() + 64 * bytes.len() + (1 << 16);
        let Ok(reading) = within(most, || Reading::parse("piece.mid", bytes, range, pedal)) else { continue };
        let notes = reading.roll.notes();
        assert!(!notes.is_empty() && notes.len() <= reading.notes);
        assert!(notes.iter().all(|note| note.start < note.end && (1..=127).contains(&note.velocity)));
        // What is written of longer pieces is no other, only slower.
        if reading.roll.steps() > 1 << 14 {
            continue;
        }
        // A rest that makes the roll too long is an error.
        let roll = reading.roll_with_rest().unwrap_or_else(|_| reading.roll.clone());
        let bpm = reading.mean_bpm.clamp(4.0, 1000.0);
        let written = roll.to_midi(bpm).unwrap();
        let again = Reading::parse("written.mid", &written, range, pedal).unwrap();
        assert!(again.warnings.is_empty(), "{:?}", again.warnings);
        assert_eq!(again.left_out(), None);
        assert!((again.mean_bpm / bpm - 1.0).abs() < 1e-4, "{bpm} bpm became {}", again.mean_bpm);
        assert!(again.roll_with_rest().unwrap() == roll, "another roll");
    }
});
