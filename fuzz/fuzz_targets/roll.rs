//! Rolls: notes, MIDI files and a model's values are the same roll again when they were made of one.

#![no_main]

use deepj::music::roll::RollNote;
use deepj::music::{NoteRange, Reading, Roll};
use deepj::shape::Channels;
use libfuzzer_sys::fuzz_target;

/// The ends of the range; pitch, velocity, first time step and length of notes; time steps of rest; what a model may answer.
type Input = (u8, u8, Vec<(u8, u8, u16, u8)>, u8, Vec<f32>);

fuzz_target!(|input: Input| {
    let (low, high, notes, rest, values) = input;
    let Ok(range) = NoteRange::new(low, high) else { return };
    let notes = notes.into_iter().map(|(pitch, velocity, start, length)| {
        // Longer rolls are no other ones, only slower.
        let start = usize::from(start % 1024);
        RollNote { pitch, velocity, start, end: start + usize::from(length), replay: false }
    });
    let roll = Roll::from_notes(range, notes).unwrap();
    assert!(Roll::from_notes(range, roll.notes()).unwrap() == roll, "the notes of a roll are another");
    same_again(&roll.padded(roll.steps() + usize::from(rest)).unwrap());

    let channels = Channels::PERFORMANCE;
    let step = range.len() * channels.len();
    let values = &values[..values.len() / step * step];
    same_again(&Roll::from_values(range, channels, values).unwrap());
});

fn same_again(roll: &Roll) {
    let (range, channels) = (roll.range(), Channels::PERFORMANCE);
    let step = range.len() * channels.len();
    let mut values = vec![f32::NAN; roll.steps() * step];
    for (t, values) in values.chunks_exact_mut(step).enumerate() {
        roll.write_values(channels, t as i64, values);
    }
    assert!(Roll::from_values(range, channels, &values).unwrap() == *roll, "the values of a roll are another");

    let reading = Reading::parse("roll.mid", &roll.to_midi(100.0).unwrap(), range, false);
    match reading {
        Ok(reading) => assert!(reading.roll_with_rest().unwrap() == *roll, "the MIDI file of a roll is another"),
        Err(e) => assert!(roll.notes().is_empty() && e.what.contains("holds no notes"), "{e}"),
    }
}
