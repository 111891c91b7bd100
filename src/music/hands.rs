//! Which hand plays which note of a piano piece.
//!
//! [`split`] assigns the notes of each onset to the hands at a split point: those below it go to the left hand, the
//! others to the right. Of all sequences of split points it takes one of the least total cost, found by dynamic
//! programming over the onsets (the idea of Viterbi's algorithm). What a note costs depends on where both hands have
//! been and on the notes that they hold, more states than can be listed; so of the states after an onset the best
//! eight go on, and equal ones are merged. Hands may cross at successive onsets and over held notes, not within one
//! onset.
//!
//! The cost of an onset is the sum over both hands of
//!
//! - the span of the notes struck, more above an octave, steeply above a tenth, and the span with held notes above an
//!   octave;
//! - notes above five, and playing while notes are held;
//! - the distance that the hand is moved, as far as its notes lie outside six semitones either way of where it was,
//!   divided by the time since it played last;
//! - crossing the notes that the other hand played last, the less the longer ago;
//! - other lengths and velocities than the hand played last: voices are alike in both;
//! - high notes in the left hand and low ones in the right, a little;
//!
//! and of a split between two notes that end together, which are more likely one chord. The weights were fitted to half
//! of the performances by Bernd Krueger that have a track a hand (<http://www.piano-midi.de>), by works, and judged by
//! the other half.

use super::roll::{Roll, RollNote};
use crate::Result;

/// A pianist's hand, and the staff on which its notes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hand {
    /// Plays what is on the lower staff.
    Left,
    /// Plays what is on the upper staff.
    Right,
}

/// States that are followed: with twice as many, 0.01 to 0.05 % more notes go to the hand that the performer meant, in
/// more than twice the time.
const BEAM: usize = 8;

/// Each semitone between the lowest and the highest note struck.
const SPAN: f32 = 0.05;
/// Each semitone of it above an octave.
const WIDE: f32 = 0.6;
/// Each semitone of it above a tenth, 16 semitones.
const TOO_WIDE: f32 = 2.0;
/// Each semitone above an octave between a note struck and one held.
const HELD: f32 = 0.3;
/// That a hand plays while it holds notes.
const BUSY: f32 = 0.2;
/// Each note above five.
const FINGERS: f32 = 2.0;
/// Each semitone that a hand moves, divided by the time steps since it played last and [`SETTLE`].
const MOVE: f32 = 0.375;
const SETTLE: f32 = 3.0;
/// Semitones that a hand reaches either way without being moved.
const REACH: f32 = 6.0;
/// How much of the way to the middle of its notes a hand goes in addition.
const DRIFT: f32 = 0.15;
/// Crossing what the other hand played last, divided by the time steps since then and [`PASSED`].
const CROSSING: f32 = 9.0;
const PASSED: f32 = 2.0;
/// 16 steps of velocity, or a length doubled or halved, in comparison with what the hand played last.
const LOUDNESS: f32 = 0.06;
const LENGTH: f32 = 0.07;
/// Notes next to each other that begin and end together, in different hands.
const TORN: f32 = 0.15;
/// Each semitone of a note of the left hand above [`HIGH`], or of the right hand below [`LOW`].
const REGISTER: f32 = 0.0125;
const HIGH: f32 = 60.0;
const LOW: f32 = 50.0;

/// The notes of an onset that one hand plays, and what they cost wherever the hand is.
#[derive(Clone, Copy)]
struct Chord {
    low: f32,
    high: f32,
    /// One bit a pitch.
    pitches: u128,
    /// Means.
    velocity: f32,
    log_length: f32,
    cost: f32,
}

impl Chord {
    /// `None` without notes; they are ordered by pitch.
    fn new(notes: &[RollNote], hand: usize) -> Option<Self> {
        let (low, high) = (f32::from(notes.first()?.pitch), f32::from(notes.last()?.pitch));
        let mean = |value: fn(&RollNote) -> f32| notes.iter().map(value).sum::<f32>() / notes.len() as f32;
        let off = |note: &RollNote| match hand {
            LEFT => (f32::from(note.pitch) - HIGH).max(0.0),
            _ => (LOW - f32::from(note.pitch)).max(0.0),
        };
        let span = high - low;
        Some(Self {
            low,
            high,
            pitches: notes.iter().fold(0, |pitches, note| pitches | 1 << note.pitch.min(127)),
            velocity: mean(|note| f32::from(note.velocity)),
            log_length: mean(|note| ((note.end.saturating_sub(note.start)).max(1) as f32).log2()),
            cost: SPAN * span
                + WIDE * (span - 12.0).max(0.0)
                + TOO_WIDE * (span - 16.0).max(0.0)
                + FINGERS * (notes.len() as f32 - 5.0).max(0.0)
                + REGISTER * notes.iter().map(off).sum::<f32>(),
        })
    }
}

/// Indices of the hands.
const LEFT: usize = 0;
const RIGHT: usize = 1;

/// What a hand played last.
#[derive(Clone, Copy, PartialEq)]
struct Played {
    /// The pitch above which the hand is.
    place: f32,
    low: f32,
    high: f32,
    velocity: f32,
    log_length: f32,
    /// Time step.
    at: usize,
}

impl Played {
    fn new(before: Option<Self>, chord: &Chord, at: usize) -> Self {
        let place = before.map_or((chord.low + chord.high) / 2.0, |before| before.moved(chord));
        let place = (place + DRIFT * ((chord.low + chord.high) / 2.0 - place)).round();
        let Chord { low, high, velocity, log_length, .. } = *chord;
        Self { place, low, high, velocity, log_length, at }
    }

    /// Where the hand is when it plays `chord`.
    fn moved(&self, chord: &Chord) -> f32 {
        if chord.high - chord.low > 2.0 * REACH {
            return (chord.low + chord.high) / 2.0;
        }
        self.place.clamp(chord.high - REACH, chord.low + REACH)
    }
}

/// The end of a sequence of splits.
#[derive(Clone, Copy)]
struct State {
    cost: f32,
    hands: [Option<Played>; 2],
    /// Of the sounding pitches those that the left hand holds.
    left: u128,
    /// Its last [`Choice`].
    choice: usize,
}

/// The split of one onset, in a tree of them.
#[derive(Clone, Copy)]
struct Choice {
    before: usize,
    /// Notes of the left hand.
    split: usize,
}

/// What it costs that `hand` plays `chord` at time step `at`; `alone` if the other hand plays nothing then.
fn cost(state: &State, hand: usize, chord: &Chord, sounding: u128, at: usize, alone: bool) -> f32 {
    let mut cost = chord.cost;
    let held = sounding & if hand == LEFT { state.left } else { !state.left };
    if held != 0 {
        let low = chord.low.min(held.trailing_zeros() as f32);
        let high = chord.high.max(held.ilog2() as f32);
        cost += BUSY + HELD * (high - low - 12.0).max(0.0);
    }
    if let Some(before) = &state.hands[hand] {
        let distance = (before.moved(chord) - before.place).abs();
        cost += MOVE * distance / ((at - before.at) as f32 + SETTLE)
            + LOUDNESS * (chord.velocity - before.velocity).abs() / 16.0
            + LENGTH * (chord.log_length - before.log_length).abs();
    }
    if let Some(other) = state.hands[1 - hand].as_ref().filter(|_| alone) {
        let crossed = if hand == LEFT { chord.high > other.low } else { chord.low < other.high };
        if crossed {
            cost += CROSSING / ((at - other.at) as f32 + PASSED);
        }
    }
    cost
}

/// The hand of each of the notes of a piece, which may be in any order. Pitches above 127 count as 127.
///
/// The time is proportional to the number of notes, but for sorting them and where many are struck at once.
///
/// # Examples
///
/// ```
/// use deepj::music::{hands::{Hand, split}, roll::RollNote};
///
/// let note = |pitch, start| RollNote { pitch, velocity: 80, start, end: start + 4, replay: false };
/// assert_eq!(split(&[note(76, 0), note(48, 0)]), [Hand::Right, Hand::Left]);
/// ```
pub fn split(notes: &[RollNote]) -> Vec<Hand> {
    let mut order: Vec<usize> = (0..notes.len()).collect();
    order.sort_by_key(|&i| (notes[i].start, notes[i].pitch));
    let mut choices = vec![Choice { before: 0, split: 0 }];
    let mut states = vec![State { cost: 0.0, hands: [None; 2], left: 0, choice: 0 }];
    let mut candidates: Vec<(f32, usize, usize)> = Vec::new();
    let mut sounding: u128 = 0;
    let mut ends = [0; 128];
    let onsets: Vec<&[usize]> = order.chunk_by(|&a, &b| notes[a].start == notes[b].start).collect();
    for onset in &onsets {
        let struck: Vec<RollNote> = onset.iter().map(|&i| notes[i]).collect();
        let at = struck[0].start;
        for pitch in pitches(sounding) {
            if ends[pitch] <= at || struck.iter().any(|note| usize::from(note.pitch) == pitch) {
                sounding &= !(1 << pitch);
            }
        }
        // What each split costs wherever the hands are, and both hands' notes.
        let splits: Vec<(f32, [Option<Chord>; 2])> = (0..=struck.len())
            .map(|k| {
                let torn = k > 0 && k < struck.len() && struck[k - 1].end == struck[k].end;
                let chords = [Chord::new(&struck[..k], LEFT), Chord::new(&struck[k..], RIGHT)];
                (if torn { TORN } else { 0.0 }, chords)
            })
            .collect();
        candidates.clear();
        for (s, state) in states.iter().enumerate() {
            for (k, (torn, chords)) in splits.iter().enumerate() {
                let of_hand = |hand: usize| {
                    let alone = chords[1 - hand].is_none();
                    chords[hand].as_ref().map_or(0.0, |chord| cost(state, hand, chord, sounding, at, alone))
                };
                candidates.push((state.cost + torn + of_hand(LEFT) + of_hand(RIGHT), s, k));
            }
        }
        candidates.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
        let least = candidates[0].0;
        let mut next: Vec<State> = Vec::with_capacity(BEAM);
        for &(cost, s, k) in &candidates {
            let State { mut hands, left, choice, .. } = states[s];
            for (hand, chord) in splits[k].1.iter().enumerate() {
                if let Some(chord) = chord {
                    hands[hand] = Some(Played::new(hands[hand], chord, at));
                }
            }
            let left = left & sounding | splits[k].1[LEFT].map_or(0, |chord| chord.pitches);
            if next.iter().any(|other| other.left == left && other.hands == hands) {
                continue;
            }
            choices.push(Choice { before: choice, split: k });
            next.push(State { cost: cost - least, hands, left, choice: choices.len() - 1 });
            if next.len() == BEAM {
                break;
            }
        }
        states = next;
        for note in &struck {
            let pitch = usize::from(note.pitch.min(127));
            sounding |= 1 << pitch;
            ends[pitch] = note.end;
        }
    }
    let mut hands = vec![Hand::Right; notes.len()];
    let mut choice = states[0].choice;
    for onset in onsets.iter().rev() {
        let Choice { before, split } = choices[choice];
        for &i in &onset[..split] {
            hands[i] = Hand::Left;
        }
        choice = before;
    }
    hands
}

/// The pitches of a set with one bit a pitch, from low to high.
fn pitches(mut set: u128) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let pitch = set.trailing_zeros() as usize;
        set &= set.wrapping_sub(1);
        (pitch < 128).then_some(pitch)
    })
}

impl Roll {
    /// The roll with the notes of one hand alone.
    ///
    /// # Errors
    /// Those of [`Roll::from_notes`].
    pub fn of_hand(&self, hand: Hand) -> Result<Self> {
        let notes = self.notes();
        let hands = split(&notes);
        let alone = notes.into_iter().zip(hands).filter(|(_, of)| *of == hand).map(|(note, _)| note);
        Self::from_notes(self.range(), alone)?.padded(self.steps())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{NoteRange, Roll};
    use super::Hand::{Left, Right};
    use super::*;

    fn note(pitch: u8, start: usize, end: usize) -> RollNote {
        RollNote { pitch, velocity: 80, start, end, replay: false }
    }

    #[test]
    fn two_registers_are_two_hands() {
        assert!(split(&[]).is_empty());
        // Four bars of broken chords below a melody, which comes down to where they began, so that no one pitch is
        // between them.
        let chords = (0..32).map(|i| note([48, 55, 60, 55][i % 4] - if i < 16 { 0 } else { 12 }, 2 * i, 2 * i + 2));
        let melody = (0..16).map(|i| note([79, 77, 76, 74][i % 4] - i as u8, 4 * i, 4 * i + 4));
        let notes: Vec<RollNote> = chords.chain(melody).collect();
        let pitches = |notes: &[RollNote]| notes.iter().map(|note| note.pitch).collect::<Vec<_>>();
        assert!(pitches(&notes[..32]).iter().max() >= pitches(&notes[32..]).iter().min());
        let expected = [vec![Left; 32], vec![Right; 16]].concat();
        assert_eq!(split(&notes), expected);
        // Nor does it matter much where they are.
        for shift in [0, 14] {
            let notes: Vec<RollNote> =
                notes.iter().map(|note| RollNote { pitch: note.pitch + shift - 7, ..*note }).collect();
            assert_eq!(split(&notes), expected);
        }
    }

    #[test]
    fn a_wide_chord_is_shared_and_a_narrow_one_is_not() {
        let chord = |pitches: &[u8]| split(&pitches.iter().map(|&pitch| note(pitch, 0, 4)).collect::<Vec<_>>());
        assert_eq!(chord(&[36, 43, 48, 52, 67, 72, 76, 79]), [Left, Left, Left, Left, Right, Right, Right, Right]);
        assert_eq!(chord(&[72, 76, 79]), [Right; 3]);
        assert_eq!(chord(&[36, 40, 43]), [Left; 3]);
        // Ten notes for ten fingers, the largest gap elsewhere.
        let ten = [48, 50, 52, 53, 55, 57, 59, 61, 62, 65];
        assert_eq!(chord(&ten), [[Left; 5], [Right; 5]].concat());
    }

    #[test]
    fn a_hand_crosses_over_a_chord_that_the_other_holds() {
        let held = [60, 64, 67].map(|pitch| note(pitch, 0, 32));
        let notes: Vec<RollNote> = held.into_iter().chain([note(36, 0, 8), note(91, 16, 24)]).collect();
        assert_eq!(split(&notes), [Right, Right, Right, Left, Left]);
        // Within reach of the right hand, the note is its own.
        let notes: Vec<RollNote> = held.into_iter().chain([note(36, 0, 8), note(72, 16, 24)]).collect();
        assert_eq!(split(&notes), [Right, Right, Right, Left, Right]);
    }

    #[test]
    fn held_notes_occupy_their_hand() {
        // The right hand holds two notes and the left one; what comes between is played by the one that reaches it.
        let held = [note(48, 0, 16), note(72, 0, 16), note(79, 0, 16)];
        let with = |pitch: u8| split(&[held[0], held[1], held[2], note(pitch, 8, 12)])[3];
        assert_eq!([with(53), with(57), with(67), with(69)], [Left, Left, Right, Right]);
    }

    #[test]
    fn a_passage_stays_in_the_hand_that_plays_it() {
        // A scale of the left hand up beyond middle C, while the right one rests after a chord above.
        let scale = [36, 38, 40, 41, 43, 45, 47, 48, 50, 52, 53, 55, 57, 59, 60, 62];
        let chord = [note(76, 0, 2), note(79, 0, 2), note(84, 0, 2)];
        let notes: Vec<RollNote> =
            scale.iter().zip(0..).map(|(&pitch, i)| note(pitch, i, i + 1)).chain(chord).collect();
        let hands = split(&notes);
        assert!(hands[..16].iter().all(|hand| *hand == Left), "{hands:?}");
    }

    #[test]
    fn leaps_and_crossings_cost_less_the_more_time_there_is() {
        let chord = |pitch| Chord::new(&[note(pitch, 0, 4)], LEFT).unwrap();
        let hands = [48, 64].map(|pitch| Some(Played::new(None, &chord(pitch), 0)));
        let state = State { cost: 0.0, hands, left: 0, choice: 0 };
        let costs = |pitch: u8, at: usize| cost(&state, LEFT, &chord(pitch), 0, at, true);
        assert_eq!(costs(54, 2), 0.0);
        assert!(costs(36, 2) > costs(40, 2) && costs(40, 2) > costs(40, 8) && costs(40, 8) > 0.0);
        // A semitone further on, the other hand was there.
        let crossing = |at| costs(65, at) - costs(64, at);
        assert!(crossing(2) > 2.0 && crossing(2) > crossing(16));
        // Not while the other hand plays too: then the split says which notes are above.
        assert!(cost(&state, LEFT, &chord(65), 0, 2, false) < costs(65, 2) - 2.0);
    }

    #[test]
    fn no_hand_strikes_two_octaves() {
        // Not even where the other one holds a note that is far away.
        assert_eq!(split(&[note(100, 0, 32), note(36, 16, 20), note(60, 16, 20)]), [Right, Left, Right]);
    }

    proptest! {
        #[test]
        fn the_order_of_notes_does_not_matter_and_no_onset_is_crossed(
            notes in proptest::collection::vec((21u8..=108, 0usize..60, 1usize..20, 1u8..=127), 0..80),
        ) {
            let range = NoteRange::new(21, 108).unwrap();
            let notes = notes.into_iter().map(|(pitch, start, steps, velocity)| RollNote {
                velocity,
                ..note(pitch, start, start + steps)
            });
            let mut notes = Roll::from_notes(range, notes).unwrap().notes();
            let mut hands = split(&notes);
            for (a, of_a) in notes.iter().zip(&hands) {
                for (b, of_b) in notes.iter().zip(&hands) {
                    prop_assert!(a.start != b.start || *of_a != Left || *of_b != Right || a.pitch < b.pitch);
                }
            }
            notes.reverse();
            hands.reverse();
            prop_assert_eq!(split(&notes), hands);
        }
    }
}
