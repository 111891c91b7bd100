//! What the left hand does: bass notes, voicings and the figures that break a chord.

use super::line::{Line, Note};
use super::rng::Rng;
use super::theory::{BEAT, Chord, Harmony};

/// The pitch of class `class` nearest to `near` within `low..=high`.
pub fn nearest(class: i32, near: i32, low: i32, high: i32) -> i32 {
    let fits = |p: &i32| (p - class).rem_euclid(12) == 0;
    (low..=high).filter(fits).min_by_key(|p| (p - near).abs()).unwrap_or(near)
}

/// One bass note for each chord in `from..to`, moving by the shortest way inside `low..=high`.
pub fn bass_line(harmony: &Harmony, from: i32, to: i32, low: i32, high: i32, last: Option<i32>) -> Vec<Note> {
    let mut near = last.unwrap_or((low + high) / 2);
    let mut notes = Vec::new();
    let mut at = from;
    while at < to {
        let end = harmony.next_change(at).min(to);
        near = nearest(harmony.at(at).bass, near, low, high);
        notes.push(Note { start: at, len: end - at, pitch: near });
        at = end;
    }
    notes
}

/// The chord in close position above a bass note, the bass first. Of a seventh chord over its root the fifth is left out.
pub fn close_position(chord: &Chord, bass: i32, size: usize) -> Vec<i32> {
    let mut classes: Vec<i32> = chord.tones.iter().copied().filter(|&c| c != bass.rem_euclid(12)).collect();
    if classes.len() >= size {
        // Third and seventh say more than the fifth.
        classes.retain(|&c| c != chord.tones[2]);
    }
    let mut pitches = vec![bass];
    let mut above: Vec<i32> = classes.iter().map(|&c| bass + 2 + (c - bass - 2).rem_euclid(12)).collect();
    above.sort_unstable();
    pitches.extend(above.into_iter().take(size - 1));
    pitches
}

/// Five tones of the chord from a bass note up, spread evenly over up to two octaves, nothing above `top`.
pub fn wide_position(chord: &Chord, bass: i32, top: i32) -> Vec<i32> {
    let top = top.min(bass + 24);
    let ladder = |gap: i32| -> Vec<i32> { (bass + gap..=top).filter(|&p| chord.has(p)).collect() };
    // A fifth or more above the bass, if enough tones are left.
    let mut tones = ladder(6);
    if tones.len() < 4 {
        tones = ladder(3);
    }
    let last = tones.len().saturating_sub(1);
    std::iter::once(bass).chain((0..4).filter_map(|i| tones.get(i * last / 3).copied())).collect()
}

/// Three tones of the chord in close position, the highest at most `roof`, as near as can be to the tones before. The
/// bass's own tone is left to it where there are enough others.
pub fn smooth_chord(chord: &Chord, bass: i32, before: &[i32], roof: i32) -> Vec<i32> {
    let spare = chord.tones.len() > 3;
    let classes: Vec<i32> = chord.tones.iter().copied().filter(|&c| !spare || c != bass.rem_euclid(12)).collect();
    let position =
        |base: i32| -> Vec<i32> { (base..base + 12).filter(|p| classes.contains(&p.rem_euclid(12))).take(3).collect() };
    let distance = |pitches: &Vec<i32>| -> i32 { pitches.iter().zip(before).map(|(a, b)| (a - b).abs()).sum() };
    (roof - 19..=roof - 7)
        .map(position)
        .filter(|pitches| pitches.iter().all(|&p| p <= roof))
        .min_by_key(distance)
        .unwrap_or_default()
}

/// A way to play a chord: columns of places in its voicing, from its beginning on and over again until it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure {
    /// Places struck together, one word a column: 0 the bass, `o` its octave, 1 and 2 the tones above, `-` a rest.
    pub places: &'static str,
    /// Length of a column in sixteenths.
    pub len: i32,
    /// Sixteenths of it that sound.
    pub hold: i32,
}

pub const ALBERTI: Figure = Figure { places: "0 2 1 2", len: 2, hold: 2 };
pub const ALBERTI_FAST: Figure = Figure { places: "0 2 1 2", len: 1, hold: 1 };
pub const BROKEN: Figure = Figure { places: "0 1 2 1", len: 2, hold: 2 };
pub const OOM_PAH: Figure = Figure { places: "0 12", len: 4, hold: 2 };
pub const AFTERBEAT: Figure = Figure { places: "0 12 12 12", len: 2, hold: 1 };
pub const DRUM: Figure = Figure { places: "0 12 12 12", len: 2, hold: 2 };
pub const MURKY: Figure = Figure { places: "0 o", len: 2, hold: 2 };
pub const DETACHED: Figure = Figure { places: "012 -", len: 4, hold: 3 };

/// Plays the chords of `from..to` over `bass` as `figure` says.
pub fn play(harmony: &Harmony, bass: &Line, figure: Figure, from: i32, to: i32) -> Vec<Note> {
    let columns: Vec<&str> = figure.places.split_whitespace().collect();
    let mut notes = Vec::new();
    let mut at = from;
    while at < to {
        let end = harmony.next_change(at).min(to);
        let Some(low) = bass.at(at) else { break };
        let voicing = close_position(harmony.at(at), low.pitch, 3);
        let mut column = 0;
        while at < end {
            let len = figure.len.min(end - at);
            for place in columns[column % columns.len()].chars() {
                let pitch = match place {
                    'o' => Some(low.pitch + 12),
                    _ => place.to_digit(10).and_then(|p| voicing.get(p as usize).copied()),
                };
                notes.extend(pitch.map(|pitch| Note { start: at, len: len.min(figure.hold), pitch }));
            }
            at += len;
            column += 1;
        }
    }
    notes
}

/// A varied return of a melody: long notes are broken by neighbours and passing notes.
pub fn ornament(notes: &[Note], harmony: &Harmony, rng: &mut Rng, often: i32) -> Vec<Note> {
    let mut out = Vec::new();
    for (i, &n) in notes.iter().enumerate() {
        let next = notes.get(i + 1).filter(|m| m.start == n.end());
        let chord = harmony.at(n.start);
        let step = chord.step(n.pitch);
        let plain = n.len < BEAT || !chord.has(n.pitch) || !rng.chance(often, 10);
        let Some(next) = next.filter(|_| !plain) else {
            out.push(n);
            continue;
        };
        let late = harmony.at(n.end() - 1);
        let by = late.step(next.pitch) - step;
        // Sixteenths before the next note, as steps from this one: a run, a turn, a passing or neighbouring note.
        let tail: Vec<i32> = match by.abs() {
            4..=7 if n.len >= 2 * BEAT => (1..by.abs()).map(|t| t * by.signum()).collect(),
            0..=1 if n.len >= 2 * BEAT => vec![1, 0, -1, 0],
            2 | 3 => (1..by.abs()).map(|t| t * by.signum()).collect(),
            1 => vec![1, 0],
            0 => vec![-1],
            _ => Vec::new(),
        };
        let unit = if n.len >= 6 && tail.len() == 1 { 2 } else { 1 };
        let head = n.len - unit * tail.len() as i32;
        out.push(Note { len: head, ..n });
        for (k, &t) in tail.iter().enumerate() {
            let start = n.start + head + unit * k as i32;
            out.push(Note { start, len: unit, pitch: harmony.at(start).pitch(step + t) });
        }
    }
    out
}
