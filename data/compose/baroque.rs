//! Baroque pieces: imitation on one subject.
//!
//! A plan of entries and episodes carries a subject and its countersubject ([`super::theme`]) through related keys.
//! Episodes fall through the circle of fifths. What no entry or sequence settles is written by the beam search of
//! [`super::line`]; a draft with parallel fifths or octaves is thrown away.

use super::line::{BREACH, Line, Manner, Note, Other, Request, Slot, Want, parallels, rhythm};
use super::rng::Rng;
use super::score::Score;
use super::texture::nearest;
use super::theme::{self, Frame, LONG_FRAMES, SHORT_FRAMES, Theme, complement, mend_augmented, push_degrees};
use super::theory::{BAR, BEAT, Harmony, Key};

/// Strict counterpoint.
const STRICT: Manner = Manner { repeat: 7, leaps: [3, 5, 11], run: 0, accent: BREACH, noise: 6, fifth: 3 };

/// What comes next in a piece; `degree` names the key by its place in the home key.
#[derive(Clone, Copy)]
enum Part {
    /// The subject in `voice`, the countersubject in `counter`.
    Entry { voice: usize, degree: i32, counter: Option<usize> },
    /// So many half-bars (an even number, at most six) of falling fifths that end on the dominant of the new key.
    Episode { degree: i32, chords: usize },
    /// A bar that leads back to the home key.
    Link,
    /// Bars over a repeated dominant in the bass.
    Pedal { bars: i32 },
    /// Cadence and final chord.
    Close,
}

const fn entry(voice: usize, degree: i32, counter: usize) -> Part {
    Part::Entry { voice, degree, counter: Some(counter) }
}

const fn alone(voice: usize) -> Part {
    Part::Entry { voice, degree: 1, counter: None }
}

const fn episode(degree: i32, chords: usize) -> Part {
    Part::Episode { degree, chords }
}

use Part::{Close, Link, Pedal};

// The plans: voice 0 is the highest. They stand in lines, since one part a line would hide their shape.

/// For inventions on subjects of one bar, which end on the dominant, so that each entry answers the last.
#[rustfmt::skip]
const SHORT_INVENTIONS: &[&[Part]] = &[
    &[
        alone(0), entry(1, 1, 0), episode(3, 6), entry(0, 3, 1), entry(1, 3, 0), episode(5, 4), entry(0, 5, 1),
        entry(1, 5, 0), episode(1, 4), entry(1, 1, 0), episode(4, 4), entry(0, 4, 1), entry(1, 4, 0),
        episode(1, 6), Pedal { bars: 1 }, entry(0, 1, 1), entry(1, 1, 0), Close,
    ],
    &[
        alone(1), entry(0, 1, 1), episode(3, 6), entry(1, 3, 0), entry(0, 3, 1), episode(5, 4), entry(1, 5, 0),
        entry(0, 5, 1), episode(1, 4), entry(0, 1, 1), episode(4, 4), entry(1, 4, 0), episode(1, 6),
        entry(0, 1, 1), Pedal { bars: 2 }, entry(1, 1, 0), entry(0, 1, 1), Close,
    ],
];
/// For inventions on subjects of two bars.
#[rustfmt::skip]
const LONG_INVENTIONS: &[&[Part]] = &[
    &[
        alone(0), entry(1, 1, 0), episode(3, 6), entry(0, 3, 1), entry(1, 3, 0), episode(5, 4), entry(1, 5, 0),
        episode(1, 4), Pedal { bars: 1 }, entry(0, 1, 1), episode(1, 6), entry(1, 1, 0), Close,
    ],
    &[
        alone(0), entry(1, 1, 0), episode(3, 6), entry(1, 3, 0), episode(4, 4), entry(0, 4, 1), entry(1, 4, 0),
        episode(1, 6), entry(0, 1, 1), Pedal { bars: 2 }, entry(1, 1, 0), Close,
    ],
];
#[rustfmt::skip]
const MAJOR_FUGHETTAS: &[&[Part]] = &[
    &[
        alone(1), entry(0, 5, 1), Link, entry(2, 1, 0), episode(6, 4), entry(0, 6, 2), episode(4, 4),
        entry(2, 4, 1), episode(1, 6), Pedal { bars: 1 }, entry(0, 1, 1), entry(2, 1, 0), Close,
    ],
    &[
        alone(0), entry(1, 5, 0), Link, entry(2, 1, 1), episode(6, 4), entry(1, 6, 0), episode(2, 4),
        entry(0, 2, 2), episode(1, 6), entry(2, 1, 0), Pedal { bars: 2 }, entry(0, 1, 2), Close,
    ],
];
#[rustfmt::skip]
const MINOR_FUGHETTAS: &[&[Part]] = &[
    &[
        alone(1), entry(0, 5, 1), Link, entry(2, 1, 0), episode(3, 6), entry(0, 3, 2), episode(4, 4),
        entry(2, 4, 1), episode(1, 6), Pedal { bars: 1 }, entry(1, 1, 2), entry(2, 1, 0), Close,
    ],
    &[
        alone(0), entry(1, 5, 0), Link, entry(2, 1, 0), episode(3, 6), entry(1, 3, 0), episode(5, 4),
        entry(0, 5, 2), episode(1, 4), Pedal { bars: 2 }, entry(2, 1, 1), entry(0, 1, 2), Close,
    ],
];

/// A stretch of one voice still to be written; `end` is the note (pitch, length) that it must lead to at `to`.
struct Gap {
    voice: usize,
    from: i32,
    to: i32,
    end: Option<(i32, i32)>,
}

struct Builder {
    rng: Rng,
    home: Key,
    theme: Theme,
    harmony: Harmony,
    voices: Vec<Line>,
    ranges: &'static [(i32, i32)],
    gaps: Vec<Gap>,
    /// Starts of the subject's entries, for the dynamics.
    entries: Vec<(usize, i32)>,
}

const TWO_VOICES: &[(i32, i32)] = &[(60, 83), (36, 62)];
const THREE_VOICES: &[(i32, i32)] = &[(64, 83), (53, 74), (36, 60)];

/// A two-voice invention; odd numbers have a subject of two bars, even ones of one.
pub fn invention(key: Key, number: u64, rng: Rng) -> Score {
    let (plans, frames) =
        if number % 2 == 1 { (LONG_INVENTIONS, LONG_FRAMES) } else { (SHORT_INVENTIONS, SHORT_FRAMES) };
    let plan = plans[(number / 2) as usize % plans.len()];
    let mut score = draft_until_clean(key, rng, frames, TWO_VOICES, plan);
    score.tempo(0, 84 + 4 * (number as i32 % 4));
    score
}

/// A three-voice fughetta.
pub fn fughetta(key: Key, number: u64, rng: Rng) -> Score {
    let plans = if key.is_minor() { MINOR_FUGHETTAS } else { MAJOR_FUGHETTAS };
    let plan = plans[(number / 2) as usize % plans.len()];
    let mut score = draft_until_clean(key, rng, LONG_FRAMES, THREE_VOICES, plan);
    score.tempo(0, 66 + 4 * (number as i32 % 4));
    score
}

/// Drafts of one piece, of which the least faulty is taken; the first without a fault ends the search.
const DRAFTS: u64 = 60;

fn draft_until_clean(
    key: Key,
    rng: Rng,
    frames: &'static [Frame],
    ranges: &'static [(i32, i32)],
    plan: &[Part],
) -> Score {
    let draft = |number: u64| {
        let piece = Builder::compose(key, rng.branch(number), frames, ranges, plan);
        let faults = piece.faults(0, piece.harmony.end());
        (piece, faults)
    };
    let mut best = draft(0);
    for number in 1..DRAFTS {
        if best.1 == 0 {
            break;
        }
        let next = draft(number);
        if next.1 < best.1 {
            best = next;
        }
    }
    best.0.score()
}

impl Builder {
    fn compose(key: Key, mut rng: Rng, frames: &'static [Frame], ranges: &'static [(i32, i32)], plan: &[Part]) -> Self {
        let theme = theme::draw(&mut rng, key, frames);
        let mut piece = Self {
            rng,
            home: key,
            theme,
            harmony: Harmony::default(),
            voices: vec![Line::default(); ranges.len()],
            ranges,
            gaps: Vec::new(),
            entries: Vec::new(),
        };
        for &part in plan {
            piece.lay(part);
        }
        piece.fill_gaps();
        piece
    }

    fn lay(&mut self, part: Part) {
        let from = self.harmony.end();
        match part {
            Part::Entry { voice, degree, counter } => self.lay_entry(voice, degree, counter),
            Part::Episode { degree, chords } => self.lay_episode(self.home.related(degree), chords),
            Part::Link => {
                let bar = if self.home.is_minor() { "i6 iv V V7" } else { "I6 IV V V7" };
                self.harmony.push_bars(self.home, bar);
                for voice in self.sounding() {
                    self.gaps.push(Gap { voice, from, to: from + BAR, end: None });
                }
            }
            Part::Pedal { bars } => self.lay_pedal(bars),
            Part::Close => self.lay_close(),
        }
    }

    /// Voices that have entered, the lowest first.
    fn sounding(&self) -> Vec<usize> {
        (0..self.voices.len()).rev().filter(|&v| !self.voices[v].notes.is_empty()).collect()
    }

    fn lay_entry(&mut self, voice: usize, degree: i32, counter: Option<usize>) {
        let from = self.harmony.end();
        let key = self.home.related(degree);
        push_degrees(&mut self.harmony, key, self.theme.degrees, BEAT);
        let to = self.harmony.end();
        let free: Vec<usize> = self.sounding().into_iter().filter(|&v| v != voice && Some(v) != counter).collect();
        self.place(voice, from, true, key);
        if let Some(counter) = counter {
            self.place(counter, from, false, key);
        }
        for voice in free {
            self.gaps.push(Gap { voice, from, to, end: None });
        }
        self.entries.push((voice, from));
    }

    /// Puts the subject or the countersubject into a voice, in the octave that suits range, neighbours and line.
    fn place(&mut self, voice: usize, from: i32, is_subject: bool, key: Key) {
        let motif = if is_subject { &self.theme.subject } else { &self.theme.counter };
        let mut notes: Vec<Note> = motif
            .iter()
            .map(|&(at, len, step)| Note { start: from + at, len, pitch: self.harmony.at(from + at).pitch(step) })
            .collect();
        mend_augmented(&mut notes, key);
        let last = self.voices[voice].notes.last().map(|n| n.pitch);
        let (low, high) = self.ranges[voice];
        let cost = |shift: i32| -> i32 {
            let pitches = notes.iter().map(|n| n.pitch + shift);
            let outside: i32 = pitches.clone().map(|p| (low - p).max(0) + (p - high).max(0)).sum();
            let mean = pitches.sum::<i32>() / notes.len() as i32;
            let leap = last.map_or(0, |p| ((notes[0].pitch + shift - p).abs() - 4).max(0));
            let crossing: usize = (0..self.voices.len())
                .filter(|&v| v != voice)
                .map(|v| {
                    let line = &self.voices[v];
                    let crosses = |n: &&Note| {
                        (n.start..n.end()).any(|t| {
                            line.at(t).is_some_and(|o| {
                                (o.pitch > n.pitch + shift) != (v < voice) || o.pitch == n.pitch + shift
                            })
                        })
                    };
                    notes.iter().filter(crosses).count()
                })
                .sum();
            6 * outside + 40 * crossing as i32 + (mean - (low + high) / 2).abs() + leap
        };
        let shift = (-4..=2).map(|octave| 12 * octave).min_by_key(|&shift| cost(shift)).unwrap_or(0);
        for note in &mut notes {
            note.pitch += shift;
        }
        self.voices[voice].insert(&notes);
    }

    fn faults(&self, from: i32, to: i32) -> usize {
        let n = self.voices.len();
        let mut faults = 0;
        for a in 0..n {
            for b in a + 1..n {
                let (upper, lower) = (&self.voices[a], &self.voices[b]);
                faults += parallels(upper, lower, from, to);
                let crossed = |&t: &i32| {
                    let (u, l) = (upper.at(t), lower.at(t));
                    u.zip(l).is_some_and(|(u, l)| (u.start == t || l.start == t) && u.pitch < l.pitch)
                };
                faults += (from..to).filter(crossed).count();
            }
        }
        for line in &self.voices {
            for pair in line.notes.windows(2) {
                let leap = (pair[1].pitch - pair[0].pitch).abs();
                let inside = (from..to).contains(&pair[1].start) && pair[1].start - pair[0].end() < 2;
                faults += usize::from(inside && (leap > 12 || leap == 11));
            }
        }
        faults
    }

    /// Falling fifths, two chords a bar; the first bar is composed and comes again a step lower in each bar.
    fn lay_episode(&mut self, key: Key, chords: usize) {
        const FIFTHS: [i32; 7] = [1, 4, 7, 3, 6, 2, 5];
        let degrees = &FIFTHS[7 - chords..];
        let from = self.harmony.end();
        push_degrees(&mut self.harmony, key, degrees, 2 * BEAT);
        let to = self.harmony.end();
        let mut best: Option<(usize, Vec<Line>)> = None;
        let clean = self.voices.clone();
        for _ in 0..40 {
            self.voices.clone_from(&clean);
            self.sequence(from, to);
            let faults = self.faults(from, to);
            if best.as_ref().is_none_or(|(fewest, _)| faults < *fewest) {
                best = Some((faults, self.voices.clone()));
            }
            if faults == 0 {
                break;
            }
        }
        if let Some((_, voices)) = best {
            self.voices = voices;
        }
    }

    fn sequence(&mut self, from: i32, to: i32) {
        let half = 2 * BEAT;
        let upper = self.voices.len() - 1;
        // Who leads the two upper voices, or the two there are.
        let leader = self.rng.below(2) as usize;
        let pair = [leader, 1 - leader];
        let motif = self.motif();
        let supports: &[&str] = match (motif.len() >= 6, upper) {
            (true, 1) => &["2 2 2 2", "2 2 2 2", "4 2 2", "2 2 4"],
            (true, _) => &["4 4", "2 2 4", "8", "4 2 2"],
            (false, _) => &["1 1 1 1 2 2", "1 1 1 1 1 1 1 1", "2 1 1 2 1 1", "2 2 1 1 1 1"],
        };
        let mut plans: Vec<(usize, Vec<Slot>)> = Vec::new();
        for (turn, &voice) in pair.iter().enumerate() {
            let own = from + half * turn as i32;
            let rest = from + half * (1 - turn as i32);
            let (support, _) = rhythm(self.rng.pick(supports));
            let mut slots: Vec<Slot> =
                motif.iter().map(|&(at, len, by)| Slot { start: own + at, len, want: by }).collect();
            slots.extend(support.iter().map(|&(at, len)| Slot { start: rest + at, len, want: Want::Free }));
            slots.sort_by_key(|s| s.start);
            plans.push((voice, slots));
        }
        if upper == 2 {
            let (walk, _) = rhythm(self.rng.pick(&["4 4 4 4", "2 2 2 2 2 2 2 2", "4 2 2 4 2 2", "8 8"]));
            let slots = walk.iter().map(|&(at, len)| Slot { start: from + at, len, want: Want::Free }).collect();
            plans.insert(0, (2, slots));
        }
        for (voice, slots) in plans {
            let (low, high) = self.ranges[voice];
            // Room for the way down.
            let notes = self.write(voice, &slots, (low + (to - from) / BAR * 2, high), STRICT);
            let mut copies = notes.clone();
            for time in 1.. {
                let shift = time * BAR;
                if from + shift >= to {
                    break;
                }
                for n in notes.iter().filter(|n| n.start + shift < to) {
                    let start = n.start + shift;
                    let step = self.harmony.at(n.start).step(n.pitch) - time;
                    let len = n.len.min(to - start);
                    copies.push(Note { start, len, pitch: self.harmony.at(start).pitch(step) });
                }
            }
            let key = self.harmony.at(from).key;
            mend_augmented(&mut copies, key);
            self.voices[voice].insert(&copies);
        }
    }

    /// Half a bar of the subject as a contour: where it moves most.
    fn motif(&mut self) -> Vec<(i32, i32, Want)> {
        let half = 2 * BEAT;
        let subject = &self.theme.subject;
        let windows = self.theme.len() / half;
        let busiest = (0..windows).max_by_key(|w| subject.iter().filter(|n| n.0 / half == *w).count()).unwrap_or(0);
        let notes: Vec<_> = subject.iter().filter(|n| n.0 / half == busiest).collect();
        let mut motif = Vec::new();
        for (i, &&(at, len, step)) in notes.iter().enumerate() {
            let want = if i == 0 { Want::Free } else { Want::Move((step - notes[i - 1].2) * 12 / 7, 6) };
            motif.push((at - busiest * half, len.min(half - (at - busiest * half)), want));
        }
        motif
    }

    /// Writes one voice against all others.
    fn write(&mut self, voice: usize, slots: &[Slot], range: (i32, i32), manner: Manner) -> Vec<Note> {
        let Some(first) = slots.first() else { return Vec::new() };
        let others: Vec<Other> = (0..self.voices.len())
            .filter(|&v| v != voice)
            .map(|v| Other { line: &self.voices[v], above: v < voice })
            .collect();
        let request = Request {
            harmony: &self.harmony,
            slots,
            low: range.0,
            high: range.1,
            before: self.voices[voice].before(first.start),
            others: &others,
            bass: voice + 1 == self.voices.len(),
            manner,
        };
        request.write(&mut self.rng).0
    }

    /// The bass repeats the dominant; the others move above it.
    fn lay_pedal(&mut self, bars: i32) {
        let from = self.harmony.end();
        let minor = self.home.is_minor();
        for bar in 0..bars {
            let text = match (minor, bar + 1 == bars) {
                (true, true) => "i64 V7",
                (true, false) => "V i64",
                (false, true) => "I64 V7",
                (false, false) => "V I64",
            };
            self.harmony.push_bars(self.home, text);
        }
        let to = self.harmony.end();
        let bass = self.voices.len() - 1;
        let class = (self.home.tonic + 7).rem_euclid(12);
        let pitch = (36..48).find(|p| p % 12 == class).unwrap_or(43);
        let pulse = if self.rng.chance(1, 2) { BEAT } else { 2 };
        let notes: Vec<Note> =
            (from..to).step_by(pulse as usize).map(|start| Note { start, len: pulse, pitch }).collect();
        self.voices[bass].insert(&notes);
        for voice in (0..bass).rev() {
            self.gaps.push(Gap { voice, from, to, end: None });
        }
    }

    /// Cadence in the home key and a final chord, major also in minor.
    fn lay_close(&mut self) {
        let from = self.harmony.end();
        let minor = self.home.is_minor();
        self.harmony.push_bars(self.home, if minor { "i iv V V7 | I" } else { "I ii6 V V7 | I" });
        let to = from + BAR;
        let tonic = self.home.tonic;
        let bass = self.voices.len() - 1;
        for voice in (0..self.voices.len()).rev() {
            let (low, high) = self.ranges[voice];
            let middle_voice = voice != bass && voice != 0;
            let class = tonic + if middle_voice { 4 } else { 0 };
            let end = nearest(class, if voice == bass { 42 } else { (low + high) / 2 }, low, high);
            self.gaps.push(Gap { voice, from, to, end: Some((end, BAR)) });
        }
    }

    /// Writes what is still open, in order of time.
    fn fill_gaps(&mut self) {
        for gap in std::mem::take(&mut self.gaps) {
            let bass = gap.voice + 1 == self.voices.len();
            let others: Vec<&Line> =
                (0..self.voices.len()).filter(|&v| v != gap.voice).map(|v| &self.voices[v]).collect();
            let mut best: Option<(i32, Vec<Note>)> = None;
            let mut rhythms = Vec::new();
            for _ in 0..6 {
                let mut slots = complement(&mut self.rng, &others, gap.from, gap.to);
                if bass && gap.end.is_some() {
                    slots = (gap.from..gap.to)
                        .step_by(BEAT as usize)
                        .map(|start| Slot { start, len: BEAT, want: Want::Free })
                        .collect();
                }
                rhythms.push(slots);
            }
            for mut slots in rhythms {
                let link = match gap.end {
                    Some((pitch, len)) => Some((pitch, len)),
                    None => self.voices[gap.voice].next(gap.to).filter(|n| n.start == gap.to).map(|n| (n.pitch, n.len)),
                };
                if let Some((pitch, len)) = link {
                    slots.push(Slot { start: gap.to, len, want: Want::Fixed(pitch) });
                }
                let mut notes = self.write(gap.voice, &slots, self.ranges[gap.voice], STRICT);
                if gap.end.is_none() && link.is_some() {
                    notes.pop();
                }
                let kept = self.voices[gap.voice].clone();
                self.voices[gap.voice].insert(&notes);
                let faults = self.faults(gap.from, gap.to + 1) as i32;
                self.voices[gap.voice] = kept;
                if best.as_ref().is_none_or(|(fewest, _)| faults < *fewest) {
                    best = Some((faults, notes));
                }
                if faults == 0 {
                    break;
                }
            }
            if let Some((_, notes)) = best {
                self.voices[gap.voice].insert(&notes);
            }
        }
    }

    /// Steady dynamics: the beat and the subject stand out by a hair.
    fn score(mut self) -> Score {
        let names: &[&str] =
            if self.voices.len() == 2 { &["Upper voice", "Lower voice"] } else { &["Soprano", "Alto", "Bass"] };
        let end = self.harmony.end();
        let mut score = Score::new(self.home, end / BAR);
        for (voice, line) in self.voices.iter().enumerate() {
            let track = score.track(names[voice]);
            for n in &line.notes {
                let in_entry =
                    self.entries.iter().any(|&(v, at)| v == voice && (at..at + self.theme.len()).contains(&n.start));
                let accent = i32::from(n.start % BEAT == 0) + i32::from(n.start % BAR == 0);
                let velocity = 64 + accent + if in_entry { 2 } else { 0 } + self.rng.below(3);
                score.add(track, *n, velocity);
                if n.end() == end && self.voices.len() == 2 && voice == 0 {
                    // Two voices end on a full chord.
                    let chord = self.harmony.at(n.start);
                    for pitch in (n.pitch - 9..n.pitch).filter(|&p| chord.has(p)) {
                        score.add(track, Note { pitch, ..*n }, velocity);
                    }
                }
            }
        }
        score
    }
}
