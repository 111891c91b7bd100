//! The matter of a baroque piece: a subject, drawn by rule (a head that leaps and fills, a tail that runs in sequence),
//! and a countersubject, written against it in counterpoint invertible at the octave.

use super::line::{BREACH, Line, Manner, Note, Other, Request, Slot, Want, rhythm};
use super::rng::Rng;
use super::theory::{BEAT, Chord, Harmony, Key};

/// The subject: bolder in its leaps.
const BOLD: Manner = Manner { repeat: 5, leaps: [1, 1, 4], run: 4, accent: BREACH, noise: 14, fifth: 3 };
/// The countersubject: no fourths or fifths on the beat, since they turn into each other when the voices change places.
const INVERTIBLE: Manner = Manner { repeat: 8, leaps: [3, 5, 11], run: 0, accent: BREACH, noise: 8, fifth: 60 };

/// How a subject is built: one degree of the key a beat, and by how many steps the tail's cell moves when it comes
/// again. The head is half of it, the tail twice the cell.
#[derive(Clone, Copy)]
pub struct Frame {
    degrees: &'static [i32],
    shift: i32,
}

/// Frames of one bar.
pub const SHORT_FRAMES: &[Frame] = &[
    Frame { degrees: &[1, 1, 4, 5], shift: 1 },
    Frame { degrees: &[1, 1, 6, 5], shift: -1 },
    Frame { degrees: &[1, 5, 6, 5], shift: -1 },
];
/// Frames of two bars.
pub const LONG_FRAMES: &[Frame] = &[
    Frame { degrees: &[1, 1, 5, 1, 6, 2, 5, 1], shift: -1 },
    Frame { degrees: &[1, 1, 5, 5, 6, 2, 5, 1], shift: -1 },
    Frame { degrees: &[1, 5, 1, 1, 6, 2, 5, 1], shift: -1 },
    Frame { degrees: &[1, 4, 5, 1, 6, 2, 5, 1], shift: -1 },
];
const SHORT_HEADS: &[&str] = &["-2 2 2 2", "2 2 1 1 2", "-1 1 1 1 2 2", "4 2 2", "3 1 2 2", "2 1 1 2 2", "-2 1 1 2 2"];
const LONG_HEADS: &[&str] = &[
    "4 4 2 2 4",
    "-2 2 2 2 2 2 4",
    "4 2 2 2 1 1 4",
    "6 2 4 2 2",
    "2 2 4 2 2 2 2",
    "-2 2 4 3 1 4",
    "4 4 4 4",
    "6 1 1 4 2 2",
    "-2 1 1 2 2 2 2 2 2",
    "4 2 2 6 2",
];
const SHORT_CELLS: &[&str] = &["1 1 1 1", "2 1 1", "1 1 2"];
const LONG_CELLS: &[&str] =
    &["1 1 1 1 2 2", "2 1 1 1 1 2", "1 1 1 1 1 1 1 1", "2 2 1 1 1 1", "-1 1 1 1 2 2", "3 1 1 1 1 1"];

/// A note of a theme: offset, length, scale step.
pub type Motif = Vec<(i32, i32, i32)>;

/// A subject and its countersubject, under the same chords.
pub struct Theme {
    pub degrees: &'static [i32],
    pub subject: Motif,
    pub counter: Motif,
}

impl Theme {
    /// Length in sixteenths.
    pub fn len(&self) -> i32 {
        self.degrees.len() as i32 * BEAT
    }
}

/// Sound themes of which the most memorable is taken, and draws after which a flawed one must do.
const SOUND: usize = 12;
const DRAWS: usize = 400;

/// Draws a subject and a countersubject.
pub fn draw(rng: &mut Rng, key: Key, frames: &'static [Frame]) -> Theme {
    let (mut best, mut most) = draw_one(rng, key, frames);
    let mut sound = 0;
    for _ in 0..DRAWS {
        let (theme, worth) = draw_one(rng, key, frames);
        sound += usize::from(worth.is_some());
        // None is less than any worth.
        if worth > most {
            (best, most) = (theme, worth);
        }
        if sound == SOUND {
            break;
        }
    }
    best
}

/// One theme and, if it keeps the rules, its worth.
fn draw_one(rng: &mut Rng, key: Key, frames: &'static [Frame]) -> (Theme, Option<i32>) {
    let frame = rng.pick(frames);
    let harmony = beats(key, frame.degrees);
    let (subject, worth) = subject(rng, key, &harmony, frame);
    let (counter, sound) = counter(rng, key, &harmony, &subject);
    let steps = |line: &Line| -> Motif {
        line.notes.iter().map(|n| (n.start, n.len, harmony.at(n.start).step(n.pitch))).collect()
    };
    let theme = Theme { degrees: frame.degrees, subject: steps(&subject), counter: steps(&counter) };
    (theme, worth.filter(|_| sound))
}

/// One chord a beat.
fn beats(key: Key, degrees: &[i32]) -> Harmony {
    let mut harmony = Harmony::default();
    push_degrees(&mut harmony, key, degrees, BEAT);
    harmony
}

/// Adds the diatonic triads of `degrees`, `len` sixteenths each, equal neighbours joined.
pub fn push_degrees(harmony: &mut Harmony, key: Key, degrees: &[i32], len: i32) {
    for run in degrees.chunk_by(|a, b| a == b) {
        harmony.push(Chord::diatonic(key, run[0]), len * run.len() as i32);
    }
}

/// Draws a subject around the tonic above middle C and weighs it; None if it breaks a rule or has no profile.
fn subject(rng: &mut Rng, key: Key, harmony: &Harmony, frame: Frame) -> (Line, Option<i32>) {
    let short = frame.degrees.len() == 4;
    let tonic = 60 + key.tonic;
    let (low, high) = (tonic - 5, tonic + 12);
    let (head, head_len) = rhythm(rng.pick(if short { SHORT_HEADS } else { LONG_HEADS }));
    let (cell, cell_len) = rhythm(rng.pick(if short { SHORT_CELLS } else { LONG_CELLS }));
    let first = if rng.chance(1, 2) { tonic } else { tonic + 7 };
    let slots: Vec<Slot> = (head.iter().map(|&(start, len)| (start, len)))
        .chain(cell.iter().map(|&(start, len)| (head_len + start, len)))
        .enumerate()
        .map(|(i, (start, len))| Slot { start, len, want: if i == 0 { Want::Fixed(first) } else { Want::Free } })
        .collect();
    let request = Request { harmony, slots: &slots, low, high, before: &[], others: &[], bass: false, manner: BOLD };
    let (mut notes, _) = request.write(rng);
    // The tail: the cell again, a step lower or higher, bent to the chord.
    let cell_notes: Vec<Note> = notes[head.len()..].to_vec();
    let total = frame.degrees.len() as i32 * BEAT;
    let times = (total - head_len) / cell_len;
    for time in 1..times {
        for n in &cell_notes {
            let start = n.start + time * cell_len;
            let step = harmony.at(n.start).step(n.pitch) + time * frame.shift;
            notes.push(Note { start, len: n.len, pitch: harmony.at(start).pitch(step) });
        }
    }
    mend_augmented(&mut notes, key);
    // The whole must keep the rules of melody, also where the cells meet.
    let fixed: Vec<Slot> =
        notes.iter().map(|n| Slot { start: n.start, len: n.len, want: Want::Fixed(n.pitch) }).collect();
    let manner = Manner { noise: 0, ..BOLD };
    let check = Request { slots: &fixed, manner, ..request };
    let cost = check.write(rng).1;
    let worth = profile(&notes).filter(|_| cost < BREACH / 2).map(|profile| profile - cost / 4);
    (Line { notes }, worth)
}

/// How memorable a subject is; None if it is too plain or too wide.
fn profile(notes: &[Note]) -> Option<i32> {
    let pitches: Vec<i32> = notes.iter().map(|n| n.pitch).collect();
    let (low, high) = (*pitches.iter().min()?, *pitches.iter().max()?);
    let moves: Vec<i32> = pitches.windows(2).map(|w| w[1] - w[0]).collect();
    let wide = moves.iter().filter(|m| m.abs() >= 5).count() as i32;
    let skips = moves.iter().filter(|m| m.abs() >= 3).count() as i32;
    let turns = moves.windows(2).filter(|w| w[0].signum() * w[1].signum() < 0).count() as i32;
    let peaks = pitches.iter().filter(|&&p| p == high).count() as i32;
    let distinct = (low..=high).filter(|p| pitches.contains(p)).count() as i32;
    let steps = moves.iter().filter(|m| matches!(m.abs(), 1 | 2)).count() as i32;
    let fits =
        (7..=14).contains(&(high - low)) && distinct >= 5 && (1..=4).contains(&wide) && steps * 2 >= moves.len() as i32;
    fits.then_some(4 * wide.min(2) + 2 * skips.min(4) + distinct - turns / 2 - 3 * peaks)
}

/// Raises the sixth degree of a minor key where a line would else take an augmented second to the leading tone.
pub fn mend_augmented(notes: &mut [Note], key: Key) {
    if !key.is_minor() {
        return;
    }
    let degree = |pitch: i32| (pitch - key.tonic).rem_euclid(12);
    for i in 0..notes.len() {
        let next_to =
            |j: Option<&Note>| j.is_some_and(|n| degree(n.pitch) == 11 && (n.pitch - notes[i].pitch).abs() == 3);
        if degree(notes[i].pitch) == 8 && (next_to(notes.get(i + 1)) || next_to(notes.get(i.wrapping_sub(1)))) {
            notes[i].pitch += 1;
        }
    }
}

/// Writes a countersubject above `subject`, and says whether it keeps the rules either way up.
fn counter(rng: &mut Rng, key: Key, harmony: &Harmony, subject: &Line) -> (Line, bool) {
    let rest = if rng.chance(1, 3) { 2 } else { 0 };
    let slots = complement(rng, &[subject], rest, harmony.end());
    let tonic = 60 + key.tonic;
    let others = [Other { line: subject, above: false }];
    let request = Request {
        harmony,
        slots: &slots,
        low: tonic,
        high: tonic + 19,
        before: &[],
        others: &others,
        bass: true,
        manner: INVERTIBLE,
    };
    let (notes, cost) = request.write(rng);
    (Line { notes }, cost < BREACH / 2)
}

/// A rhythm that moves where `others` rest and rests where they move, in `from..to`, so that the sixteenths are passed on.
pub fn complement(rng: &mut Rng, others: &[&Line], from: i32, to: i32) -> Vec<Slot> {
    let mut lens: Vec<(i32, i32)> = Vec::new();
    let mut at = from;
    while at < to {
        let beat_end = ((at / BEAT + 1) * BEAT).min(to);
        let struck = |t: &i32| others.iter().any(|l| l.at(*t).is_some_and(|n| n.start == *t));
        let figure: &[i32] = match (beat_end - at, (at..beat_end).filter(struck).count()) {
            (4, 0..=1) => rng.pick(&[&[1, 1, 1, 1][..], &[1, 1, 1, 1], &[2, 1, 1], &[1, 1, 2]]),
            (4, 2) => rng.pick(&[&[1, 1, 1, 1][..], &[1, 1, 1, 1], &[2, 1, 1], &[2, 2]]),
            (4, _) => rng.pick(&[&[2, 2][..], &[2, 2], &[4], &[4]]),
            (2, _) => &[2],
            (3, _) => &[1, 1, 1],
            _ => &[1],
        };
        for &len in figure {
            lens.push((at, len));
            at += len;
        }
    }
    // Ties over the beat make room for suspensions.
    let mut slots: Vec<Slot> = Vec::new();
    for (start, len) in lens {
        match slots.last_mut() {
            Some(last) if last.len == BEAT && len == BEAT && rng.chance(1, 2) => last.len += len,
            Some(last) if last.len == 2 && len == 4 && rng.chance(1, 3) => last.len += len,
            _ => slots.push(Slot { start, len, want: Want::Free }),
        }
    }
    slots
}
