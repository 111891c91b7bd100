//! One voice, and how it is written: a beam search over pitches that weighs the rules of melody and counterpoint
//! against the chords and the voices already there.

use super::rng::Rng;
use super::theory::{BEAT, Harmony};

/// A note on the sixteenth grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    pub start: i32,
    pub len: i32,
    pub pitch: i32,
}

impl Note {
    pub fn end(self) -> i32 {
        self.start + self.len
    }

    fn covers(self, step: i32) -> bool {
        self.start <= step && step < self.end()
    }
}

/// A single voice: notes in order of time, none overlapping.
#[derive(Clone, Debug, Default)]
pub struct Line {
    pub notes: Vec<Note>,
}

impl Line {
    /// Puts notes, in order of time, into the voice where it is silent so far.
    pub fn insert(&mut self, notes: &[Note]) {
        if let Some(first) = notes.first() {
            let at = self.notes.partition_point(|n| n.start < first.start);
            self.notes.splice(at..at, notes.iter().copied());
        }
    }

    /// The note that sounds at `step`.
    pub fn at(&self, step: i32) -> Option<Note> {
        let next = self.notes.partition_point(|n| n.start <= step);
        self.notes[..next].last().copied().filter(|n| n.covers(step))
    }

    /// The notes that start before `step`.
    pub fn before(&self, step: i32) -> &[Note] {
        &self.notes[..self.notes.partition_point(|n| n.start < step)]
    }

    /// The first note that starts at `step` or later.
    pub fn next(&self, step: i32) -> Option<Note> {
        self.notes.get(self.notes.partition_point(|n| n.start < step)).copied()
    }
}

/// Reads a rhythm such as `"-2 2 4 | 6 2"`: lengths in sixteenths, negative for rests, bars for the eye.
/// Returns (offset, length) of each note and the length of the whole.
pub fn rhythm(text: &str) -> (Vec<(i32, i32)>, i32) {
    let mut at = 0;
    let mut notes = Vec::new();
    for len in text.split_whitespace().filter_map(|word| word.parse::<i32>().ok()) {
        if len > 0 {
            notes.push((at, len));
        }
        at += len.abs();
    }
    (notes, at)
}

/// What is asked of one note.
#[derive(Clone, Copy, Debug)]
pub enum Want {
    /// Nothing in particular.
    Free,
    /// This pitch.
    Fixed(i32),
    /// A pitch near this one: (pitch, cost a semitone).
    Near(i32, i32),
    /// A move of about so many semitones from the last note: (semitones, cost a semitone beyond the first).
    Move(i32, i32),
}

/// A note whose place in time is settled and whose pitch is sought.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    pub start: i32,
    pub len: i32,
    pub want: Want,
}

/// The taste of a style; all values are costs.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// A repeated note.
    pub repeat: i32,
    /// A third, a fourth or fifth, a wider leap.
    pub leaps: [i32; 3],
    /// A leap wider than a third between sixteenths, on top; half of it where they turn back.
    pub run: i32,
    /// A dissonance on the beat that is not prepared but falls or rises by step: an appoggiatura.
    pub accent: i32,
    /// Random cost below this on each pitch, so that each draft differs.
    pub noise: i32,
    /// A fourth or fifth on the beat: high where the counterpoint must be invertible at the octave.
    pub fifth: i32,
}

/// The cost of a broken rule; what is dearer than this is not good counterpoint.
pub const BREACH: i32 = 1000;

/// Drafts kept after each note.
const WIDTH: usize = 72;

/// A voice already written, seen from the one being written.
#[derive(Clone, Copy)]
pub struct Other<'a> {
    pub line: &'a Line,
    /// Whether it lies above.
    pub above: bool,
}

/// Everything the search needs to know about the voice to write.
pub struct Request<'a> {
    pub harmony: &'a Harmony,
    pub slots: &'a [Slot],
    pub low: i32,
    pub high: i32,
    /// This voice up to the first slot.
    pub before: &'a [Note],
    pub others: &'a [Other<'a>],
    /// Whether this is the lowest voice, which follows the chords' inversions.
    pub bass: bool,
    pub manner: Manner,
}

impl Request<'_> {
    /// The best line found and its cost. Every slot gets a pitch: rules that cannot be kept cost `BREACH` each.
    pub fn write(&self, rng: &mut Rng) -> (Vec<Note>, i32) {
        let mut drafts: Vec<(Vec<i32>, i32)> = vec![(Vec::new(), 0)];
        for slot in self.slots {
            let chord = self.harmony.at(slot.start);
            let pitches: Vec<(i32, i32)> = match slot.want {
                Want::Fixed(pitch) => vec![(pitch, 0)],
                _ => (self.low..=self.high)
                    .filter(|&p| chord.in_scale(p))
                    .map(|p| (p, rng.below(self.manner.noise + 1)))
                    .collect(),
            };
            let mut next: Vec<(usize, i32, i32)> = Vec::with_capacity(drafts.len() * pitches.len());
            for (i, (draft, cost)) in drafts.iter().enumerate() {
                next.extend(pitches.iter().map(|&(p, noise)| (i, p, cost + noise + self.cost(draft, slot, p))));
            }
            next.sort_by_key(|&(_, _, cost)| cost);
            // Drafts that end alike have the same future: two of each kind are enough, so that the beam stays wide.
            let mut kept: Vec<(Vec<i32>, i32)> = Vec::with_capacity(WIDTH);
            let mut ends: Vec<(i32, i32)> = Vec::with_capacity(WIDTH);
            for (i, pitch, cost) in next {
                let end = (drafts[i].0.last().copied().unwrap_or(0), pitch);
                if ends.iter().filter(|&&e| e == end).count() < 2 {
                    ends.push(end);
                    let mut pitches = drafts[i].0.clone();
                    pitches.push(pitch);
                    kept.push((pitches, cost));
                    if kept.len() == WIDTH {
                        break;
                    }
                }
            }
            drafts = kept;
        }
        let (pitches, cost) = drafts.swap_remove(0);
        let note = |(slot, pitch): (&Slot, i32)| Note { start: slot.start, len: slot.len, pitch };
        (self.slots.iter().zip(pitches).map(note).collect(), cost)
    }

    /// The `n`-th note back from the end of `draft`, across the border to what was there before.
    fn back(&self, draft: &[i32], n: usize) -> Option<Note> {
        match draft.len().checked_sub(n + 1) {
            Some(i) => Some(Note { start: self.slots[i].start, len: self.slots[i].len, pitch: draft[i] }),
            None => self.before.len().checked_sub(n + 1 - draft.len()).map(|i| self.before[i]),
        }
    }

    /// The note of this voice at `step`, which lies before the slot being filled.
    fn at(&self, draft: &[i32], step: i32) -> Option<Note> {
        let mut n = 0;
        while let Some(note) = self.back(draft, n) {
            if note.start <= step {
                return Some(note).filter(|n| n.covers(step));
            }
            n += 1;
        }
        None
    }

    fn cost(&self, draft: &[i32], slot: &Slot, pitch: i32) -> i32 {
        let wish = match slot.want {
            Want::Near(target, weight) => weight * (pitch - target).abs(),
            Want::Move(by, weight) => match self.back(draft, 0) {
                Some(last) => weight * ((pitch - last.pitch - by).abs() - 1).max(0),
                None => 0,
            },
            Want::Free | Want::Fixed(_) => 0,
        };
        let note = Note { start: slot.start, len: slot.len, pitch };
        let mut cost = wish + self.melody(draft, note) + self.dissonance(draft, note);
        for other in self.others {
            cost += self.against(draft, note, other);
        }
        cost + self.harmony_of(note)
    }

    /// What the line itself says: intervals, recovery from leaps, tendency of leading tone and seventh.
    fn melody(&self, draft: &[i32], note: Note) -> i32 {
        // After a longer rest a phrase begins anew.
        let Some(last) = self.back(draft, 0).filter(|n| note.start - n.end() < BEAT) else { return 0 };
        let manner = &self.manner;
        let by = note.pitch - last.pitch;
        let mut cost = match by.abs() {
            0 if note.len == 1 || last.len == 1 => 2 * manner.repeat,
            0 => manner.repeat,
            12 if self.bass => manner.leaps[1],
            1 | 2 => 0,
            3 | 4 => manner.leaps[0],
            5 | 7 => manner.leaps[1],
            8 | 9 | 12 => manner.leaps[2],
            6 => manner.leaps[2] + 20,
            10 | 11 => manner.leaps[2] + 40,
            _ => BREACH,
        };
        if note.len == 1 && last.len == 1 && by.abs() > 4 {
            cost += manner.run;
        }
        let from = self.harmony.at(last.start);
        let to = self.harmony.at(note.start);
        if let Some(before) = self.back(draft, 1).filter(|n| last.start - n.end() < BEAT) {
            let earlier = last.pitch - before.pitch;
            let onward = by.signum() == earlier.signum();
            if note.len == 1 && last.len == 1 && by.signum() == -earlier.signum() {
                cost += manner.run / 2;
            }
            if earlier.abs() > 4 && onward && by.abs() > 2 {
                cost += if (note.pitch - before.pitch).abs() > 12 { 60 } else { 12 };
            }
            if earlier.abs() > 7 && onward {
                cost += 10;
            }
            if by.abs() > 4 && onward && earlier.abs() <= 2 {
                cost += 4;
            }
            // Swinging between two notes.
            if by != 0 && before.pitch == note.pitch && self.back(draft, 2).is_some_and(|n| n.pitch == last.pitch) {
                cost += 14;
            }
        }
        let class = last.pitch.rem_euclid(12);
        if from != to {
            if from.leading == Some(class) && by != 1 && !to.has(last.pitch) {
                cost += 30;
            }
            if from.seventh == Some(class) && !(-2..=0).contains(&by) {
                cost += 25;
            }
        }
        let degree = |pitch: i32| (pitch - from.key.tonic).rem_euclid(12);
        if from.key.is_minor() && from.key == to.key {
            let pair = (degree(last.pitch), degree(note.pitch));
            let augmented = pair == (8, 11) || pair == (11, 8);
            let stranded = from.raised_sixth() == Some(class) && !from.has(last.pitch) && pair.1 != 11;
            if (augmented && by.abs() == 3) || stranded {
                cost += BREACH;
            }
        }
        cost
    }

    /// Tones foreign to the chord: passing and neighbouring notes off the beat, suspensions and, at a price,
    /// appoggiaturas on it.
    fn dissonance(&self, draft: &[i32], note: Note) -> i32 {
        let mut cost = 0;
        let last = self.back(draft, 0);
        let by = last.map_or(99, |n| note.pitch - n.pitch);
        let close = last.is_some_and(|n| note.start - n.end() < 2);
        let foreign = |n: Note| !self.harmony.at(n.start).has(n.pitch);
        // Held across a change of chord into a dissonance: a suspension, which falls by step.
        let suspended = |n: Note| {
            let change = self.harmony.next_change(n.start);
            change < n.end() && !self.harmony.at(change).has(n.pitch)
        };
        if let Some(last) = last.filter(|_| close) {
            if suspended(last) {
                let resolved = (-2..=-1).contains(&by) && !foreign(note);
                cost += if resolved { -12 } else { BREACH };
            } else if foreign(last) {
                let stepwise = matches!(by.abs(), 1 | 2);
                cost += if stepwise { 0 } else { BREACH };
                if last.start % BEAT == 0 && (foreign(note) || by > 1) {
                    cost += 20;
                }
            }
        }
        if foreign(note) {
            let stepwise = close && matches!(by.abs(), 1 | 2);
            if note.start % BEAT == 0 {
                cost += self.manner.accent + if stepwise || by == 0 { 0 } else { 10 };
            } else if !stepwise {
                cost += BREACH;
            }
            if note.len > BEAT || (note.len == BEAT && self.manner.accent >= BREACH) {
                cost += BREACH;
            }
            if last.is_some_and(foreign) {
                cost += 5;
            }
            cost += note.len;
        }
        if suspended(note) {
            let change = self.harmony.next_change(note.start);
            let syncopated = change % BEAT == 0 && change - note.start >= 2 && !foreign(note);
            cost += if syncopated { 0 } else { BREACH };
        }
        cost
    }

    /// The chord's wishes for the bass.
    fn harmony_of(&self, note: Note) -> i32 {
        let chord = self.harmony.at(note.start);
        let class = note.pitch.rem_euclid(12);
        if !self.bass || !chord.has(note.pitch) || class == chord.bass {
            return 0;
        }
        let arrives = self.harmony.changes(note.start);
        let fifth = chord.tones[2] == class;
        match (arrives, note.start % BEAT == 0) {
            (true, _) => 8 + if fifth { 22 } else { 0 },
            (false, true) => 2 + if fifth { 8 } else { 0 },
            (false, false) => 0,
        }
    }

    /// Two voices together: crossing, parallels, doubled tendency tones, colour, contrary motion.
    fn against(&self, draft: &[i32], note: Note, other: &Other) -> i32 {
        let mut cost = 0;
        let start = note.start;
        for step in start..note.end() {
            if let Some(o) = other.line.at(step) {
                let gap = if other.above { o.pitch - note.pitch } else { note.pitch - o.pitch };
                if gap < 0 {
                    cost += BREACH;
                } else if gap == 0 && (step == start || o.start == step) {
                    cost += 25;
                }
            }
        }
        for beat in (start..note.end()).filter(|t| t % BEAT == 0) {
            for span in [BEAT, 2 * BEAT] {
                if span == 2 * BEAT && beat % span != 0 {
                    continue;
                }
                let mine = if beat - span >= start { Some(note) } else { self.at(draft, beat - span) };
                if parallel((mine, other.line.at(beat - span)), (Some(note), other.line.at(beat)), self.manner.fifth) {
                    cost += BREACH;
                }
            }
        }
        let Some(theirs) = other.line.at(start) else { return cost };
        let chord = self.harmony.at(start);
        let class = note.pitch.rem_euclid(12);
        let interval = (note.pitch - theirs.pitch).abs() % 12;
        let together = theirs.start == start;
        let imperfect = matches!(interval, 3 | 4 | 8 | 9);
        if start % BEAT == 0 {
            cost += match interval {
                3 | 4 | 8 | 9 => -4,
                0 => 9,
                5 | 7 => self.manner.fifth,
                _ => 3,
            };
        } else if together && !imperfect && !(chord.has(note.pitch) && chord.has(theirs.pitch)) {
            cost += if matches!(interval, 1 | 11) { 10 } else { 4 };
        }
        if theirs.pitch.rem_euclid(12) == class {
            if chord.leading == Some(class) {
                cost += BREACH;
            } else if chord.seventh == Some(class) {
                cost += 14;
            }
        }
        let (Some(mine), Some(was)) = (self.at(draft, start - 1), other.line.at(start - 1)) else { return cost };
        if together {
            if parallel((Some(mine), Some(was)), (Some(note), Some(theirs)), self.manner.fifth) {
                cost += BREACH;
            }
            let (a, b) = ((note.pitch - mine.pitch).signum(), (theirs.pitch - was.pitch).signum());
            if a * b < 0 {
                cost -= 2;
            } else if a * b > 0 && matches!(interval, 0 | 7) && (note.pitch - mine.pitch).abs() > 2 {
                cost += 12;
            }
        }
        cost
    }
}

/// Whether two voices move from one perfect interval to the same again: unisons, octaves, fifths, and fourths too
/// where `fifth` says that the voices will be inverted.
fn parallel(from: (Option<Note>, Option<Note>), to: (Option<Note>, Option<Note>), fifth: i32) -> bool {
    let ((Some(a), Some(b)), (Some(c), Some(d))) = (from, to) else { return false };
    let was = (a.pitch - b.pitch).abs() % 12;
    let is = (c.pitch - d.pitch).abs() % 12;
    let invertible = fifth > 20 && matches!((was, is), (5, 5) | (5, 7) | (7, 5));
    a.pitch != c.pitch && b.pitch != d.pitch && ((was == is && matches!(is, 0 | 7)) || invertible)
}

/// Breaches of part-writing between two finished voices in `from..to`: parallel octaves and fifths from note to note,
/// from beat to beat and from half-bar to half-bar.
pub fn parallels(a: &Line, b: &Line, from: i32, to: i32) -> usize {
    (from..to)
        .filter(|&t| {
            let now = (a.at(t), b.at(t));
            let attack = now.0.is_some_and(|n| n.start == t) && now.1.is_some_and(|n| n.start == t);
            let spans = [(1, attack), (BEAT, t % BEAT == 0), (2 * BEAT, t % (2 * BEAT) == 0)];
            spans.iter().any(|&(span, due)| due && parallel((a.at(t - span), b.at(t - span)), now, 0))
        })
        .count()
}
