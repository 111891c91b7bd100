//! Endings: a network of these stops rather than ends, so the last bars are composed many times over, and the one that closes best
//! is kept.
//!
//! A close is a chord that begins within the last [`LONGEST`] time steps, of a short piece within its last twelfth or half note, and
//! is held to the end; what was composed behind it is left out. [`Close::score`] adds up what makes one:
//!
//! | | points |
//! |---|---|
//! | the tonic is the lowest note of the chord | 1.5 |
//! | all its notes are of the tonic's triad; of those that are not, the share | 1.5, less 3 times the share |
//! | it has more than one pitch class | 0.25 |
//! | it begins on the first beat of a bar; on the third; on another | 0.75; 0.5; 0.25 |
//! | the lowest note before it is the fifth degree, or its leading tone sounds: a cadence | 0.75 |
//! | it is held for a half note or longer; shorter, in proportion | 0.75 |
//! | nothing sounds before it for more than a quarter note | -1 |
//!
//! The weights are choices of this program, after what textbooks of harmony say of an authentic cadence (Piston, *Harmony*,
//! chapter "The harmonic structure of the phrase"); they are not fitted to anything.

use crate::Result;
use crate::music::roll::{BAR, RollNote, STEPS_PER_QUARTER};
use crate::music::{Key, Roll};

const QUARTER: usize = STEPS_PER_QUARTER as usize;
/// The longest last chord in time steps: a bar and a half.
pub const LONGEST: usize = BAR + BAR / 2;
/// The time steps at the end that are composed anew.
pub const ANEW: usize = 2 * BAR;

/// A last chord.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Close {
    /// Time step on which it begins.
    pub onset: usize,
    /// See the module; 5.5 at most.
    pub score: f64,
}

/// The longest last chord of a piece of so many time steps.
fn longest(steps: usize) -> usize {
    LONGEST.min((steps / 12).max(2 * QUARTER))
}

/// The best last chord of `roll` in this key that begins at `from` or later; `None` where no note begins there.
pub fn close(roll: &Roll, from: usize, key: Key) -> Option<Close> {
    let (notes, steps) = (roll.notes(), roll.steps());
    let from = from.max(steps.saturating_sub(longest(steps)));
    let mut onsets: Vec<usize> = notes.iter().map(|note| note.start).filter(|start| *start >= from).collect();
    onsets.sort_unstable();
    onsets.dedup();
    let closes = onsets.into_iter().map(|onset| Close { onset, score: score(&notes, onset, steps, key) });
    closes.max_by(|a, b| a.score.total_cmp(&b.score))
}

fn score(notes: &[RollNote], onset: usize, steps: usize, key: Key) -> f64 {
    let sounds = |at: usize| notes.iter().filter(move |note| note.start <= at && at < note.end);
    let degree = |pitch: u8| key.degree(pitch);
    let chord: Vec<&RollNote> = sounds(onset).collect();
    let tonic_below = chord.iter().min_by_key(|note| note.pitch).is_some_and(|note| degree(note.pitch) == 0);
    let foreign = chord.iter().filter(|note| !key.triad().contains(&degree(note.pitch))).count() as f64;
    let foreign = foreign / chord.len().max(1) as f64;
    let several = chord.iter().any(|note| note.pitch % 12 != chord[0].pitch % 12);
    let beat = match onset % BAR {
        0 => 0.75,
        step if step == BAR / 2 => 0.5,
        step if step % QUARTER == 0 => 0.25,
        _ => 0.0,
    };
    // The last time step before it on which anything sounds.
    let before = (0..onset).rev().find(|&at| sounds(at).next().is_some());
    let lowest = before.and_then(|at| sounds(at).map(|note| note.pitch).min());
    let cadence = lowest.is_some_and(|pitch| degree(pitch) == 7)
        || before.is_some_and(|at| sounds(at).any(|note| degree(note.pitch) == 11));
    let silent = before.is_none_or(|before| onset - before > QUARTER + 1);
    let points = |is: bool, points: f64| if is { points } else { 0.0 };
    points(tonic_below, 1.5)
        + (1.5 - 3.0 * foreign)
        + points(several, 0.25)
        + beat
        + points(cadence, 0.75)
        + 0.75 * ((steps - onset) as f64 / (2 * QUARTER) as f64).min(1.0)
        - points(silent, 1.0)
}

/// `roll` with the chord of `close` held to its end, and nothing behind it.
///
/// # Errors
/// Those of [`Roll::from_notes`].
pub fn closed(roll: &Roll, close: Close) -> Result<Roll> {
    let steps = roll.steps();
    let notes = roll.notes().into_iter().filter(|note| note.start <= close.onset).map(|mut note| {
        if note.end > close.onset {
            note.end = steps;
        }
        note
    });
    Roll::from_notes(roll.range(), notes)?.padded(steps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::music::NoteRange;

    /// Rests before the notes, so that the piece is long enough for a long last chord.
    const BEFORE: usize = 16 * BAR;

    fn roll(notes: &[(u8, usize, usize)], steps: usize) -> Roll {
        let note = |&(pitch, start, end): &(u8, usize, usize)| RollNote {
            pitch,
            velocity: 64,
            start: BEFORE + start,
            end: BEFORE + end,
            replay: false,
        };
        Roll::from_notes(NoteRange::default(), notes.iter().map(note)).unwrap().padded(BEFORE + steps).unwrap()
    }

    #[test]
    fn a_cadence_closes_best_and_is_held_to_the_end() {
        let key: Key = "D minor".parse().unwrap();
        // A, then D F A on the first beat of the last bar, then an E that goes on.
        let roll = roll(&[(45, 8, 16), (61, 8, 16), (38, 16, 20), (65, 16, 18), (69, 16, 20), (64, 24, 28)], 32);
        let close = close(&roll, 0, key).unwrap();
        assert_eq!((close.onset, close.score), (BEFORE + 16, 5.5));
        let closed = closed(&roll, close).unwrap();
        assert_eq!(closed.steps(), BEFORE + 32);
        let notes = closed.notes();
        let held: Vec<_> = notes.iter().filter(|note| note.end == BEFORE + 32).map(|note| note.pitch).collect();
        assert_eq!(held, [38, 65, 69]);
        assert_eq!(notes.len(), 5);
    }

    #[test]
    fn what_a_close_lacks_costs_points() {
        let key: Key = "C major".parse().unwrap();
        let best = |notes: &[(u8, usize, usize)]| close(&roll(notes, 32), 0, key).unwrap().score;
        let cadence = best(&[(43, 8, 16), (48, 16, 32), (64, 16, 32)]);
        assert_eq!(cadence, 5.5);
        for worse in [
            [(41, 8, 16), (48, 16, 32), (64, 16, 32)], // no fifth degree before
            [(43, 8, 16), (52, 16, 32), (60, 16, 32)], // the third below
            [(43, 8, 16), (48, 16, 32), (62, 16, 32)], // a note of another chord
            [(43, 8, 18), (48, 18, 32), (64, 18, 32)], // between beats
            [(43, 8, 28), (48, 28, 32), (64, 28, 32)], // a quarter note
            [(43, 2, 8), (48, 16, 32), (64, 16, 32)],  // after a rest
            [(43, 8, 16), (48, 16, 32), (60, 16, 32)], // an octave
        ] {
            assert!(best(&worse) < cadence, "{worse:?}");
        }
        assert_eq!(close(&roll(&[(60, 0, 4)], 32), BEFORE + 8, key), None);
    }

    #[test]
    fn a_short_piece_has_a_short_last_chord() {
        assert_eq!([32, 12 * BAR, 18 * BAR, 100 * BAR].map(longest), [2 * QUARTER, BAR, LONGEST, LONGEST]);
        let key: Key = "C major".parse().unwrap();
        let roll = roll(&[(43, 8, 16), (48, 16, 26), (50, 26, 32)], 32);
        let short = roll.excerpt(BEFORE, BEFORE + 32);
        assert_eq!(close(&roll, 0, key).map(|close| close.onset), Some(BEFORE + 16));
        assert_eq!(close(&short, 0, key).map(|close| close.onset), Some(26));
    }
}
