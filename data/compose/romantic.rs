//! Romantic pieces: a long melody over wide chords, chromatic harmony (augmented sixths, the Neapolitan, chromatic
//! mediants, applied and diminished chords), and loudness that swells and fades over whole phrases.

use super::line::{Manner, Note};
use super::rng::Rng;
use super::score::Score;
use super::song::{Dynamics, Phrase, Song, Theme};
use super::texture::{smooth_chord, wide_position};
use super::theory::{BAR, BEAT, Key, Mode};

/// A line that sings: wide upward leaps, appoggiaturas.
const EXPRESSIVE: Manner = Manner { repeat: 6, leaps: [2, 2, 5], run: 4, accent: 7, noise: 9, fifth: 0 };

/// Eight bars that end on the dominant and the same opening led home.
#[derive(Clone, Copy)]
struct Period {
    open: &'static str,
    closed: &'static str,
}

const MINOR_SONGS: &[Period] = &[
    Period {
        open: "i | V65/iv | iv | viio7/V | i64 | Ger | V | V7",
        closed: "i | V65/iv | iv | viio7/V | i64 | N6 | i64 V7 | i",
    },
    Period { open: "i | VI | N6 | V7 | i | viio7/iv | iv6 | V7", closed: "i | VI | N6 | V7 | i6 | ii%65 | i64 V7 | i" },
    Period {
        open: "i | viio7/V | V7 | i | V7/VI | VI | Ger | V7",
        closed: "i | viio7/V | V7 | i | V7/VI | VI Ger | i64 V7 | i",
    },
];
const MAJOR_SONGS: &[Period] = &[
    Period {
        open: "I | V65/ii | ii | iv6 | I64 | bVI | V | V7",
        closed: "I | V65/ii | ii | iv6 | I64 | viio7/V | I64 V7 | I",
    },
    Period {
        open: "I | viio7/ii | ii | V7 | vi | V7/V | Ger | V7",
        closed: "I | viio7/ii | ii | V7 | vi | N6 | I64 V7 | I",
    },
    Period { open: "I | bVI | iv6 | V7 | I | viio7/V | V | V7", closed: "I | bVI | iv6 | V7 | I6 | iv | I64 V7 | I" },
];
const MINOR_BALLADS: &[Period] = &[
    Period {
        open: "i | vi | iv | Ger V | i VI | N6 viio7/V | i64 | V7",
        closed: "i | vi | iv | Ger V | i VI | N6 viio7/V | i64 V7 | i",
    },
    Period {
        open: "i V65 | i VI | iv viio7/V | V | i V65/VI | VI N6 | Ger | V7",
        closed: "i V65 | i VI | iv viio7/V | V | i V65/VI | VI N6 | i64 V7 | i",
    },
    Period {
        open: "i | III | vi | V7 | i | iv viio7/V | i64 Ger | V7",
        closed: "i | III | vi | V7 | i | iv viio7/V | i64 V7 | i",
    },
];
const MAJOR_BALLADS: &[Period] = &[
    Period {
        open: "I | bVI | bIII | V7 | I V65/IV | IV iv | I64 Ger | V7",
        closed: "I | bVI | bIII | V7 | I V65/IV | IV iv | I64 V7 | I",
    },
    Period {
        open: "I | iii | bVI | V7 | I | iv viio7/V | I64 | V7",
        closed: "I | iii | bVI | V7 | I | iv viio7/V | I64 V7 | I",
    },
];
/// The middle of a song, in a key a third away.
const MIDDLES: &[&str] = &[
    "I | viio7/ii | ii | V7 | I | bIII | bVI | V7",
    "I V65/IV | IV iv | I64 | V7 | bVI | bVI | iv6 | V7",
    "I | iii | bVI | V7 | I V7/ii | ii V7/V | I64 | V7",
];

const SONG_IDEAS: &[(&str, &str)] =
    &[("12 4", "8 4 4"), ("8 6 2", "12 4"), ("10 2 4", "8 8"), ("6 2 8", "6 2 4 4"), ("-4 8 4", "8 4 4")];
const SONG_ENDS: &[&str] = &["8 4 4", "6 2 4 4", "4 4 8", "2 2 2 2 8"];
const BALLAD_IDEAS: &[(&str, &str)] =
    &[("6 2 4 4", "8 8"), ("4 4 8", "6 2 8"), ("3 1 4 8", "3 1 4 4 4"), ("8 6 2", "4 4 4 4"), ("12 3 1", "8 8")];
const BALLAD_ENDS: &[&str] = &["4 4 4 4", "6 2 4 4", "8 4 4", "3 1 3 1 8"];

/// Orders in which arpeggios visit the places of a wide chord, the bass first.
const SHAPES: &[&[usize]] = &[&[0, 1, 2, 3, 4, 3, 2, 1], &[0, 2, 1, 3, 2, 4, 3, 2], &[0, 1, 3, 2, 4, 2, 3, 1]];

/// What the left hand does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    /// Wide arpeggios in notes of so many sixteenths.
    Arpeggio(i32),
    /// A bass octave and a repeated chord, in eighths.
    Repeated,
    /// Bass octaves alone.
    Octaves,
}

/// How thick the melody is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Right {
    Single,
    Octaves,
    /// Octaves filled with the chord.
    Chords,
}

struct Section {
    from: i32,
    /// Where the left hand stops.
    to: i32,
    left: Left,
    right: Right,
}

struct Builder {
    song: Song,
    sections: Vec<Section>,
    dynamics: Dynamics,
    /// The order in which an arpeggio visits its places, over and over.
    shape: &'static [usize],
    /// Whether repeated chords also sound with the bass.
    full: bool,
    /// Beats a minute.
    tempo: i32,
    /// Bars in which the music hesitates.
    slow: Vec<i32>,
}

impl Builder {
    fn new(mut rng: Rng, melody: (i32, i32), tempo: i32) -> Self {
        let shape = rng.pick(SHAPES);
        let full = rng.chance(1, 2);
        let song = Song::new(rng, EXPRESSIVE, melody, (36, 48));
        Self { song, sections: Vec::new(), dynamics: Dynamics::default(), shape, full, tempo, slow: Vec::new() }
    }

    fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        self.song.rng.pick(items)
    }

    /// Writes a phrase; `swell` is the loudness at its beginning, its peak and its end; in the last `pause` sixteenths
    /// both hands are silent if the melody is.
    fn phrase(&mut self, phrase: Phrase, left: Left, right: Right, swell: [i32; 3], pause: i32) -> Vec<Note> {
        let from = self.song.harmony.end();
        let notes = self.song.sing(phrase);
        let to = self.song.harmony.end();
        self.sections.push(Section { from, to: to - pause, left, right });
        self.dynamics.point(from, swell[0]);
        self.dynamics.point(from + (to - from) * 5 / 8, swell[1]);
        self.dynamics.point(to - 1, swell[2]);
        self.slow.push(to - BAR);
        notes
    }

    /// The rhythms of eight bars on an idea of two, with a rest at the end.
    fn rhythms(&mut self, idea: (&'static str, &'static str), ends: &[&'static str]) -> [&'static str; 8] {
        [idea.0, idea.1, idea.0, self.pick(ends), idea.0, idea.1, self.pick(ends), "12 -4"]
    }

    fn score(mut self, key: Key) -> Score {
        let end = self.song.harmony.end();
        let mut score = Score::new(key, end / BAR);
        score.tempo(0, self.tempo);
        for &at in &self.slow {
            score.tempo(at, self.tempo * 7 / 8);
            score.tempo(at + BAR, self.tempo);
        }
        let right = score.track("Right hand");
        let left = score.track("Left hand");
        let song = &mut self.song;
        let mut chord_before: Vec<i32> = vec![55, 59, 62];
        for section in &self.sections {
            let inside = |n: &&Note| (section.from..section.to).contains(&n.start);
            for n in song.melody.notes.iter().filter(inside) {
                let level = self.dynamics.at(n.start) + 8;
                score.add(right, *n, level + song.rng.below(5));
                // Sixteenths stay single: a hand cannot run in octaves.
                if section.right != Right::Single && n.len > 1 {
                    score.add(right, Note { pitch: n.pitch - 12, ..*n }, level - 6 + song.rng.below(4));
                }
                if section.right == Right::Chords && n.len >= BEAT {
                    let chord = song.harmony.at(n.start);
                    let fill = (n.pitch - 10..n.pitch - 2).filter(|&p| chord.has(p)).step_by(2);
                    for pitch in fill {
                        score.add(right, Note { pitch, ..*n }, level - 10 + song.rng.below(4));
                    }
                }
            }
            let mut at = section.from;
            while at < section.to {
                let until = song.harmony.next_change(at).min(section.to).min((at / BAR + 1) * BAR);
                let chord = song.harmony.at(at);
                let bass = song.bass.at(at).map_or(43, |n| n.pitch);
                let mut strike = |start: i32, len: i32, pitch: i32, soft: i32| {
                    let len = len.min(until - start);
                    let level = self.dynamics.at(start) - soft + song.rng.below(5);
                    score.add(left, Note { start, len, pitch }, level);
                };
                if at == end - BAR {
                    // The last chord is struck once, from the bass up, and held.
                    for (i, pitch) in (0..).zip(wide_position(chord, bass, 60)) {
                        strike(at + i, BAR, pitch, 4 + i);
                    }
                    break;
                }
                match section.left {
                    Left::Arpeggio(unit) => {
                        let voicing = wide_position(chord, bass, 66);
                        for (i, start) in (at..until).step_by(unit as usize).enumerate() {
                            let place = self.shape[i % self.shape.len()];
                            let (hold, soft) = if place == 0 { (8, 3) } else { (2 * unit, 9) };
                            strike(start, hold, voicing[place], soft);
                        }
                    }
                    Left::Repeated => {
                        let roof = song.melody.at(at).map_or(66, |n| n.pitch - 1).min(66);
                        chord_before = smooth_chord(chord, bass, &chord_before, roof);
                        for start in (at..until).step_by(2) {
                            let on_bass = (start - at) % (2 * BEAT) == 0;
                            if on_bass {
                                strike(start, 2 * BEAT, bass, 2);
                                strike(start, 2, bass + 12, 6);
                            }
                            if !on_bass || self.full {
                                chord_before.iter().for_each(|&pitch| strike(start, 2, pitch, 10));
                            }
                        }
                    }
                    Left::Octaves => {
                        for start in (at..until).step_by(BEAT as usize) {
                            strike(start, BEAT, bass, 2);
                            strike(start, BEAT, bass + 12, 4);
                        }
                    }
                }
                at = until;
            }
        }
        score
    }
}

/// A key a third away, in major: the other side of the mood.
fn mediant(rng: &mut Rng, key: Key) -> Key {
    let by = match key.mode {
        Mode::Minor => rng.pick(&[8, 4, 3]),
        Mode::Major => rng.pick(&[8, 4, 3, 9]),
    };
    Key::major(key.tonic + by)
}

/// A nocturne: a song over wide arpeggios, its middle in a distant key and in haste, its return in octaves.
pub fn nocturne(key: Key, number: u64, mut rng: Rng) -> Score {
    let minor = key.is_minor();
    let period = rng.pick(if minor { MINOR_SONGS } else { MAJOR_SONGS });
    let middle = mediant(&mut rng, key);
    let idea = rng.pick(SONG_IDEAS);
    let mut b = Builder::new(rng, (65, 82), 60 + 4 * (number as i32 % 4));
    let slow = Left::Arpeggio(2);
    let tonic = if minor { "i" } else { "I" };

    b.phrase(Phrase::new(key, tonic, &["-16"]), slow, Right::Single, [34, 40, 38], 0);
    let rhythms = b.rhythms(idea, SONG_ENDS);
    let asks = Phrase::new(key, period.open, &rhythms);
    let first = b.phrase(asks, slow, Right::Single, [40, 62, 44], 4);
    let opening: Vec<Note> = first.iter().copied().filter(|n| n.start < 4 * BAR).collect();
    let answers = Phrase::new(key, period.closed, &rhythms).closed();
    let from = b.song.harmony.end();
    let reply = b.phrase(answers.with(Theme::Same(&opening)), slow, Right::Single, [44, 70, 42], 4);
    b.song.vary(from, 6);

    let other = b.pick(SONG_IDEAS);
    let rhythms = b.rhythms(other, SONG_ENDS);
    let harmony = b.pick(MIDDLES);
    b.phrase(Phrase::new(middle, harmony, &rhythms), Left::Arpeggio(1), Right::Octaves, [54, 104, 74], 0);
    let back = if minor { "N6 | viio7/V | V7" } else { "iv6 | viio7/V | V7" };
    b.phrase(Phrase::new(key, back, &["8 8", "8 4 4", "4 2 2 4 -4"]), slow, Right::Single, [70, 56, 38], 4);

    let from = b.song.harmony.end();
    b.phrase(answers.with(Theme::Same(&reply)), slow, Right::Octaves, [46, 92, 48], 4);
    b.song.vary(from, 4);
    let coda = match (minor, b.song.rng.chance(1, 2)) {
        (true, true) => "i | N6 | V7 | i",
        (true, false) => "iv6 | viio7 | i64 V7 | i",
        (false, true) => "I | iv6 | V7 | I",
        (false, false) => "bVI | iv6 | I64 V7 | I",
    };
    b.phrase(Phrase::new(key, coda, &["8 8", "12 4", "8 8", "16"]).closed(), slow, Right::Single, [46, 40, 34], 0);
    b.score(key)
}

/// A ballade: a song over repeated chords, told again a third higher, a stormy middle in full chords, a return.
pub fn ballade(key: Key, number: u64, mut rng: Rng) -> Score {
    let minor = key.is_minor();
    let period = rng.pick(if minor { MINOR_BALLADS } else { MAJOR_BALLADS });
    let idea = rng.pick(BALLAD_IDEAS);
    let mut b = Builder::new(rng, (66, 82), 84 + 6 * (number as i32 % 4));

    let intro = if minor { "i | V" } else { "I | V" };
    b.phrase(Phrase::new(key, intro, &["8 4 4", "8 -8"]), Left::Octaves, Right::Octaves, [84, 92, 50], 8);
    let rhythms = b.rhythms(idea, BALLAD_ENDS);
    let asks = Phrase::new(key, period.open, &rhythms);
    let first = b.phrase(asks, Left::Repeated, Right::Single, [40, 68, 46], 4);
    let higher = Key { tonic: (key.tonic + 3) % 12, ..key };
    let told = Phrase::new(higher, period.closed, &rhythms).closed();
    b.phrase(told.with(Theme::Like(&first)), Left::Repeated, Right::Octaves, [52, 90, 64], 4);

    let storm = if minor {
        "i V65/iv | iv viio7/V | V V65/VI | VI viio7/iv | iv Ger | i64 | viio7/V V7 | i"
    } else {
        "I V65/IV | IV viio7/V | V V65/vi | vi viio7/ii | ii Ger | I64 | viio7/V V7 | I"
    };
    let other = b.pick(BALLAD_IDEAS);
    let stormy = b.rhythms(other, BALLAD_ENDS);
    b.phrase(Phrase::new(key, storm, &stormy).closed(), Left::Repeated, Right::Chords, [74, 112, 96], 4);
    let back = if minor { "N6 | V7" } else { "iv6 | V7" };
    b.phrase(Phrase::new(key, back, &["8 8", "8 -8"]), Left::Arpeggio(1), Right::Single, [84, 60, 36], 8);

    let opening: Vec<Note> = first.iter().copied().filter(|n| n.start < 5 * BAR).collect();
    let returns = Phrase::new(key, period.closed, &rhythms).closed().with(Theme::Same(&opening));
    let triumph = number.is_multiple_of(2);
    let (left, right, swell) = if triumph {
        (Left::Repeated, Right::Chords, [60, 108, 100])
    } else {
        (Left::Arpeggio(2), Right::Single, [40, 56, 36])
    };
    b.phrase(returns, left, right, swell, 4);
    let coda = if minor { "i VI | N6 | i64 V7 | i" } else { "I bVI | iv6 | I64 V7 | I" };
    let swell = if triumph { [92, 112, 104] } else { [42, 38, 34] };
    let coda = Phrase::new(key, coda, &["4 4 8", "8 8", "8 4 4", "16"]).closed();
    b.phrase(coda, if triumph { Left::Octaves } else { Left::Repeated }, Right::Chords, swell, 0);
    b.score(key)
}
