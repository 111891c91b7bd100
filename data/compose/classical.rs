//! Classical pieces: phrases of four bars that ask and answer, functional harmony with cadences, a clear melody over
//! a broken chord, piano against forte, and air between the phrases.

use super::line::{Manner, Note};
use super::rng::Rng;
use super::score::Score;
use super::song::{Dynamics, Phrase, Song, Theme};
use super::texture::{AFTERBEAT, ALBERTI, ALBERTI_FAST, BROKEN, DETACHED, DRUM, Figure, MURKY, OOM_PAH, play};
use super::theory::{BAR, BEAT, Key};

/// A singing line: triads and steps, now and then an appoggiatura.
const CANTABILE: Manner = Manner { repeat: 7, leaps: [1, 3, 9], run: 8, accent: 9, noise: 9, fifth: 0 };
/// A dance: more leaps and repeated notes.
const DANCE: Manner = Manner { repeat: 4, leaps: [1, 1, 5], run: 6, accent: 14, noise: 10, fifth: 0 };

const PIANO: i32 = 50;
const FORTE: i32 = 77;

/// Two opening bars, two bars to a half cadence, two bars to an authentic cadence.
#[derive(Clone, Copy)]
struct Period {
    opening: &'static str,
    half: &'static str,
    full: &'static str,
}

impl Period {
    /// The chords of the question and of the answer.
    fn texts(&self) -> (String, String) {
        ([self.opening, self.half].join(" | "), [self.opening, self.full].join(" | "))
    }
}

const MAJOR_PERIODS: &[Period] = &[
    Period { opening: "I | V43 I", half: "ii6 ii65 | V", full: "ii6 ii6 I64 V7 | I" },
    Period { opening: "I | IV I6", half: "ii6 V65/V | V", full: "IV ii6 I64 V7 | I" },
    Period { opening: "I | V65 I", half: "I6 IV | V", full: "vi ii6 I64 V7 | I" },
    Period { opening: "I | ii6 V7", half: "I V65/V | V", full: "I ii6 I64 V7 | I" },
    Period { opening: "I V65 | I", half: "vi ii6 | V", full: "vi IV I64 V7 | I" },
];
const MINOR_PERIODS: &[Period] = &[
    Period { opening: "i | V43 i", half: "iv6 iv | V", full: "iv iio6 i64 V7 | i" },
    Period { opening: "i | iv i6", half: "VI iv | V", full: "VI iio6 i64 V7 | i" },
    Period { opening: "i V65 | i", half: "i6 iv | V", full: "i6 iv i64 V7 | i" },
];
/// Eight bars: an idea on the tonic, again on the dominant, then a run to the cadence.
const SENTENCES: &[&str] = &[
    "I | V43 | V65 | I | I6 | IV | ii6 ii6 I64 V7 | I",
    "I | I | V7 | V7 | vi | ii6 | I64 V7 | I",
    "I | V7 | V65 | I | V65/IV | IV | I64 V7 | I",
];
/// Four bars that leave the home key for that of the dominant, in which they are written.
const TRANSITIONS: &[&str] = &["IV | V65 I | ii6 V65/V | V", "IV I6 | ii65 V | I V65/V | V", "vi | ii6 | V65/V | V"];
/// Four bars in a minor key.
const MIDDLES: &[&str] = &["i | V43 i | iv i6 | V", "i | V65 | i6 iv | V", "i V65 | i | iio6 V65/V | V"];
/// Four bars over the dominant that lead back.
const RETURNS: &[&str] = &["V | I64 V | I64 V | V7", "V7 | I64 | ii65 V7/V | V7", "V | iv6 V | iv6 V | V7"];

const IDEAS: &[(&str, &str)] = &[
    ("6 2 4 4", "6 2 4 -4"),
    ("8 4 4", "3 1 4 4 -4"),
    ("4 2 2 4 4", "4 2 2 4 -4"),
    ("8 6 2", "4 4 4 -4"),
    ("6 1 1 4 4", "8 4 -4"),
    ("4 4 2 2 2 2", "8 4 -4"),
    ("12 2 2", "4 4 4 -4"),
];
const RUNS: &[&str] = &[
    "4 4 1 1 1 1 2 2",
    "1 1 1 1 1 1 1 1 4 4",
    "2 2 2 2 2 2 2 2",
    "4 1 1 1 1 2 2 2 2",
    "1 1 1 1 2 2 1 1 1 1 2 2",
    "1 1 1 1 1 1 1 1 1 1 1 1 2 2",
];
const BEFORE_CADENCE: &[&str] = &["4 4 4 4", "4 2 2 4 2 2", "2 2 2 2 4 4", "6 2 4 3 1", "4 1 1 1 1 4 4", "4 4 6 2"];
const DANCES: &[(&str, &str)] = &[
    ("2 2 2 2 4 4", "2 2 2 2 4 4"),
    ("4 4 2 2 2 2", "4 4 8"),
    ("4 2 2 4 4", "4 2 2 4 4"),
    ("4 4 4 2 2", "4 4 4 2 2"),
    ("3 1 2 2 4 4", "3 1 2 2 4 4"),
    ("1 1 1 1 4 4 4", "1 1 1 1 4 4 4"),
];

struct Builder {
    song: Song,
    /// What the left hand plays from when to when.
    figures: Vec<(i32, i32, Figure)>,
    dynamics: Dynamics,
    /// Length of a quarter in the melody as it is played: shorter than 4 is detached.
    quarter: i32,
    /// Where phrases begin.
    phrases: Vec<i32>,
}

/// How a phrase is dressed.
#[derive(Clone, Copy)]
struct Dress {
    figure: Figure,
    level: i32,
    /// Whether both hands rest in the second half of the last bar.
    breath: bool,
}

const fn dress(figure: Figure, level: i32) -> Dress {
    Dress { figure, level, breath: true }
}

impl Builder {
    fn new(rng: Rng, manner: Manner, quarter: i32) -> Self {
        let song = Song::new(rng, manner, (64, 82), (41, 55));
        Self { song, figures: Vec::new(), dynamics: Dynamics::default(), quarter, phrases: Vec::new() }
    }

    fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        self.song.rng.pick(items)
    }

    /// Writes a phrase in both hands; returns its melody.
    fn phrase(&mut self, phrase: Phrase, dress: Dress) -> Vec<Note> {
        let from = self.song.harmony.end();
        let notes = self.song.sing(phrase);
        let to = self.song.harmony.end();
        let cadence = if dress.breath { to - BAR } else { to };
        self.figures.push((from, cadence, dress.figure));
        if dress.breath {
            self.figures.push((cadence, cadence + 2 * BEAT, DETACHED));
        }
        self.dynamics.terrace(from, to, dress.level);
        self.phrases.push(from);
        notes
    }

    /// Leads into each phrase that begins after a rest with two eighths: a repeated note or a step towards it.
    fn add_upbeats(&mut self) {
        for from in self.phrases.clone() {
            let song = &mut self.song;
            let lead = from - BEAT;
            let Some(first) = song.melody.next(from).filter(|n| n.start == from) else { continue };
            if from == 0 || song.melody.at(lead).is_some() || song.melody.at(from - 1).is_some() {
                continue;
            }
            let chord = song.harmony.at(from);
            let step = chord.step(first.pitch);
            let way = song.rng.pick(&[[-2, -1], [2, 1], [0, 0]]);
            let note = |i: i32| Note { start: lead + 2 * i, len: 2, pitch: chord.pitch(step + way[i as usize]) };
            song.melody.insert(&[note(0), note(1)]);
        }
    }

    fn score(mut self, key: Key) -> Score {
        let song = &mut self.song;
        let mut score = Score::new(key, song.harmony.end() / BAR);
        let right = score.track("Right hand");
        let left = score.track("Left hand");
        let accent = |at: i32| i32::from(at % BEAT == 0) * 2 + i32::from(at % BAR == 0) * 3;
        for (i, n) in song.melody.notes.iter().enumerate() {
            let ends = song.melody.notes.get(i + 1).is_none_or(|m| m.start > n.end());
            let len = if n.len == BEAT && !ends { self.quarter } else { n.len };
            score.add(right, Note { len, ..*n }, self.dynamics.at(n.start) + accent(n.start) + song.rng.below(4));
        }
        for &(from, to, figure) in &self.figures {
            for n in play(&song.harmony, &song.bass, figure, from, to) {
                let level = self.dynamics.at(n.start) - 9 + accent(n.start) / 2;
                score.add(left, n, level + song.rng.below(3));
            }
        }
        score
    }
}

/// A sonatina movement over Alberti basses: theme, transition, second theme in the dominant; then either the theme in
/// the minor and all of it at home, or straight back and the second theme at home too.
pub fn sonatina(key: Key, number: u64, mut rng: Rng) -> Score {
    let fast = number % 3 == 1;
    let alberti = if fast { ALBERTI_FAST } else { ALBERTI };
    let minor = key.is_minor();
    let period = rng.pick(if minor { MINOR_PERIODS } else { MAJOR_PERIODS });
    let (one, two) = rng.pick(IDEAS);
    let mut b = Builder::new(rng, CANTABILE, 4);

    let (question, answer) = period.texts();
    let rhythms = [one, two, b.pick(BEFORE_CADENCE), "4 4 -8"];
    let asks = Phrase::new(key, &question, &rhythms);
    let first = b.phrase(asks, dress(alberti, PIANO));
    let opening: Vec<Note> = first.iter().copied().filter(|n| n.start < 2 * BAR).collect();
    let rhythms = [one, two, b.pick(RUNS), "4 -12"];
    let answers = Phrase::new(key, &answer, &rhythms).closed();
    let reply = b.phrase(answers.with(Theme::Same(&opening)), dress(alberti, FORTE));

    // A minor home goes to its relative major, as the style has it.
    let second = key.related(if minor { 3 } else { 5 });
    let busy = b.pick(&[DRUM, MURKY]);
    let rhythms = [b.pick(RUNS), b.pick(RUNS), b.pick(RUNS), "4 -4 4 -4"];
    let harmony = b.pick(TRANSITIONS);
    b.phrase(Phrase::new(second, harmony, &rhythms), dress(busy, FORTE));

    let (one_b, two_b) = b.pick(IDEAS);
    let sentence: Vec<&str> = b.pick(SENTENCES).split('|').collect();
    let texts = [sentence[..2].join("|"), sentence[2..4].join("|"), sentence[4..].join("|")];
    let figure = b.pick(&[alberti, BROKEN]);
    let close = [b.pick(RUNS), b.pick(RUNS), b.pick(BEFORE_CADENCE), "4 -4 4 -4"];
    let sing = |b: &mut Builder, key: Key, before: &[Vec<Note>]| -> Vec<Vec<Note>> {
        let theme = |part: usize| before.get(part).map_or(Theme::New, |notes| Theme::Like(notes));
        let (rhythms, plain) = ([one_b, two_b], Dress { breath: false, ..dress(figure, PIANO) });
        let statement = b.phrase(Phrase::new(key, &texts[0], &rhythms).with(theme(0)), plain);
        let again = Phrase::new(key, &texts[1], &rhythms);
        let echo = b.phrase(again.with(if before.is_empty() { Theme::Like(&statement) } else { theme(1) }), plain);
        let run = b.phrase(Phrase::new(key, &texts[2], &close).closed().with(theme(2)), dress(alberti, FORTE));
        vec![statement, echo, run]
    };
    let song = sing(&mut b, second, &[]);

    let through_minor = number.is_multiple_of(2);
    if through_minor {
        let middle = key.related(if minor { 4 } else { 6 });
        let rhythms = [one, two, b.pick(BEFORE_CADENCE), "4 4 -8"];
        let phrase = Phrase::new(middle, b.pick(MIDDLES), &rhythms);
        b.phrase(phrase.with(Theme::Like(&opening)), dress(alberti, PIANO));
    }
    let harmony = if minor { "V | i64 V | i64 V | V7" } else { b.pick(RETURNS) };
    let rhythms = [b.pick(RUNS), b.pick(RUNS), "2 2 2 2 2 2 2 2", "8 -8"];
    b.phrase(Phrase::new(key, harmony, &rhythms), dress(busy, FORTE));
    if through_minor {
        b.phrase(asks.with(Theme::Same(&first)), dress(alberti, PIANO));
    }
    b.phrase(answers.with(Theme::Same(&reply)), dress(alberti, FORTE));
    if !through_minor {
        sing(&mut b, if minor { Key::major(key.tonic) } else { key }, &song);
    }
    let harmony = if minor && through_minor { "i V7 | i V7 | i" } else { "I V7 | I V7 | I" };
    b.phrase(Phrase::new(key, harmony, &["4 4 4 4", "2 2 2 2 4 4", "4 -4 4 -4"]).closed(), dress(DRUM, FORTE + 8));
    let mut score = b.score(key);
    score.tempo(0, if fast { 100 } else { 126 } + 4 * (number as i32 % 3));
    score
}

/// A rondo in the step of a dance: refrain, episode in the dominant, refrain, episode in the minor, refrain varied.
pub fn rondo(key: Key, number: u64, mut rng: Rng) -> Score {
    let minor = key.is_minor();
    let period = rng.pick(if minor { MINOR_PERIODS } else { MAJOR_PERIODS });
    let (one, two) = rng.pick(DANCES);
    let dance = rng.pick(&[OOM_PAH, AFTERBEAT, OOM_PAH]);
    let mut b = Builder::new(rng, DANCE, 2);

    let (question, answer) = period.texts();
    let rhythms = [one, two, b.pick(BEFORE_CADENCE), "4 4 -8"];
    let asks = Phrase::new(key, &question, &rhythms);
    let first = b.phrase(asks, dress(dance, PIANO));
    let opening: Vec<Note> = first.iter().copied().filter(|n| n.start < 2 * BAR).collect();
    let rhythms = [one, two, b.pick(BEFORE_CADENCE), "4 4 -8"];
    let answers = Phrase::new(key, &answer, &rhythms).closed();
    let reply = b.phrase(answers.with(Theme::Same(&opening)), dress(dance, FORTE));

    // Two bars loud, the same two as a soft echo, twice.
    let second = key.related(if minor { 3 } else { 5 });
    let (one_b, two_b) = b.pick(DANCES);
    for (harmony, ends) in [("I V65 | I", false), ("ii6 I64 V7 V7 | I", true)] {
        let rhythms = [one_b, if ends { "4 4 -8" } else { two_b }];
        let call = Phrase::new(second, harmony, &rhythms);
        let call = if ends { call.closed() } else { call };
        let loud = Dress { breath: ends, ..dress(b.pick(&[BROKEN, DRUM]), FORTE) };
        let notes = b.phrase(call, loud);
        b.phrase(call.with(Theme::Same(&notes)), Dress { level: PIANO - 6, ..loud });
    }

    b.phrase(asks.with(Theme::Same(&first)), dress(dance, PIANO));
    b.phrase(answers.with(Theme::Same(&reply)), dress(dance, FORTE));

    let middle = key.related(if minor { 4 } else { 6 });
    let figure = b.pick(&[ALBERTI_FAST, BROKEN]);
    let (one_c, two_c) = b.pick(IDEAS);
    let rhythms = [one_c, two_c, b.pick(BEFORE_CADENCE), "4 4 -8"];
    let harmony = b.pick(MIDDLES);
    let sung = b.phrase(Phrase::new(middle, harmony, &rhythms), dress(figure, PIANO));
    let harmony = if minor { "iio6 | V65/V | V V7 | V7" } else { "ii6 | V65/V | V V7 | V7" };
    let rhythms = [one_c, two_c, b.pick(RUNS), "8 -8"];
    b.phrase(Phrase::new(key, harmony, &rhythms).with(Theme::Like(&sung)), dress(MURKY, FORTE));

    for (phrase, notes, level) in [(asks, &first, PIANO), (answers, &reply, FORTE)] {
        let from = b.song.harmony.end();
        b.phrase(phrase.with(Theme::Same(notes)), dress(dance, level));
        b.song.vary(from, 6);
    }
    b.add_upbeats();
    let mut score = b.score(key);
    score.tempo(0, 112 + 4 * (number as i32 % 5));
    score
}
