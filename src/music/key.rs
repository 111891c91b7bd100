//! Keys: their names, the key of a piece, and the interval from one key to another.
//!
//! [`estimate`] follows Krumhansl and Schmuckler (C. L. Krumhansl, Cognitive Foundations of Musical Pitch, 1990,
//! chapter 4): it takes how long each pitch class sounds, and correlates that with a profile of each of the 24 keys.
//! Beside the whole piece its first bars count once more, and its last ones a quarter. Of what was measured on 493
//! keyboard pieces whose key is known from titles and catalogues this is right most often: of whole pieces in 96.8 %,
//! of their first 32 bars in 94.3 % (`docs/REJECTED.md`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::pitch;
use super::roll::{BAR, RollNote};
use crate::{Error, Result};

/// Whether the third above the tonic is major or minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Major.
    Major,
    /// Minor, whichever of its scales.
    Minor,
}

/// One of the 24 keys, without regard to spelling: F sharp major and G flat major are one. Serialised as its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key {
    tonic: u8,
    mode: Mode,
}

/// The tonics of major keys from C up, spelled so that the signature has the fewest accidentals; of F# and Gb, which
/// both have six, the first.
const MAJOR: [&str; 12] = ["C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B"];

/// The same of minor keys; of D# and Eb the second.
const MINOR: [&str; 12] = ["C", "C#", "D", "Eb", "E", "F", "F#", "G", "G#", "A", "Bb", "B"];

impl Key {
    /// The key with the pitch class of `tonic`, a MIDI pitch of any octave (0 is C).
    pub fn new(tonic: u8, mode: Mode) -> Self {
        Self { tonic: tonic % 12, mode }
    }

    /// All keys: the major ones from C up, then the minor ones.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        (0..24).map(|i: u8| Self::new(i, if i < 12 { Mode::Major } else { Mode::Minor }))
    }

    /// The place of the key in [`Key::all`].
    fn index(self) -> usize {
        usize::from(self.tonic) + if self.mode == Mode::Minor { 12 } else { 0 }
    }

    /// The pitch class of the tonic, 0..=11, 0 for C.
    pub fn tonic(self) -> u8 {
        self.tonic
    }

    /// The mode.
    pub fn mode(self) -> Mode {
        self.mode
    }

    /// The key signature on the circle of fifths, -6..=6: sharps if positive, flats if negative, as the key's name is
    /// spelled.
    pub fn fifths(self) -> i8 {
        // A fifth is seven semitones, and 7 * 7 = 1 modulo 12.
        let major = if self.mode == Mode::Minor { self.relative().tonic } else { self.tonic };
        let fifths = (7 * major % 12) as i8;
        // Six is F# major or Eb minor.
        if fifths > 6 || fifths == 6 && self.mode == Mode::Minor { fifths - 12 } else { fifths }
    }

    /// The key of the other mode with the same signature: A minor of C major.
    pub fn relative(self) -> Self {
        match self.mode {
            Mode::Major => Self::new(self.tonic + 9, Mode::Minor),
            Mode::Minor => Self::new(self.tonic + 3, Mode::Major),
        }
    }

    /// The key of the other mode with the same tonic: C minor of C major.
    pub fn parallel(self) -> Self {
        match self.mode {
            Mode::Major => Self::new(self.tonic, Mode::Minor),
            Mode::Minor => Self::new(self.tonic, Mode::Major),
        }
    }

    /// The smallest transposition that takes a piece in this key to `wanted`, in semitones, -5..=6. `None` where the
    /// modes differ: transposing changes no mode, so no interval leads there.
    pub fn least_interval(self, wanted: Self) -> Option<i8> {
        let up = ((wanted.tonic + 12 - self.tonic) % 12) as i8;
        (self.mode == wanted.mode).then_some(if up > 6 { up - 12 } else { up })
    }

    /// The key of a piece in this one that is moved by so many semitones.
    pub fn moved(self, semitones: i8) -> Self {
        Self::new((i16::from(self.tonic) + i16::from(semitones)).rem_euclid(12) as u8, self.mode)
    }

    /// Semitones from the tonic up to a pitch, 0..=11.
    pub fn degree(self, pitch: u8) -> u8 {
        (pitch % 12 + 12 - self.tonic) % 12
    }

    /// Whether a pitch belongs to its scale: the major one; in minor the natural one, and the raised sixth and seventh degree of
    /// the melodic one.
    pub fn has(self, pitch: u8) -> bool {
        let scale: &[u8] = match self.mode {
            Mode::Major => &[0, 2, 4, 5, 7, 9, 11],
            Mode::Minor => &[0, 2, 3, 5, 7, 8, 9, 10, 11],
        };
        scale.contains(&self.degree(pitch))
    }

    /// The degrees of the tonic's triad, in semitones above the tonic.
    pub fn triad(self) -> [u8; 3] {
        [0, if self.mode == Mode::Major { 4 } else { 3 }, 7]
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Major => "major",
            Self::Minor => "minor",
        })
    }
}

/// The name with the usual spelling of the tonic: `D minor`, `Eb major`, `F# major`.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let tonics = if self.mode == Mode::Major { MAJOR } else { MINOR };
        write!(f, "{} {}", tonics[usize::from(self.tonic)], self.mode)
    }
}

impl FromStr for Key {
    type Err = Error;

    /// Reads the tonic, a letter with at most one accidental (`#`, `♯`, `sharp`, `b`, `♭`, `flat`), and the mode:
    /// `major`, `maj` or `M`, `minor`, `min` or `m`. Without a mode, the case of the letter decides, as is usual: `D`
    /// is D major, `d` is D minor, `bb` is B flat minor. With one, the letter may have either case. Letters are
    /// English: `B` is a semitone below C.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> deepj::Result<()> {
    /// use deepj::music::key::Key;
    ///
    /// for text in ["Bb minor", "bb", "Bbm", "b flat minor"] {
    ///     assert_eq!(text.parse::<Key>()?.to_string(), "Bb minor");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    fn from_str(text: &str) -> Result<Self> {
        let of_text = || {
            let separators = [' ', '-', '_'];
            let text = text.trim();
            let (letter, sign, rest) = pitch::split_letter(text)?;
            let rest = rest.trim_start_matches(separators);
            // Words of letters only, so a byte is a character.
            let word = |word: &str| rest.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
            let (sign, rest) = match sign {
                0 if word("sharp") => (1, &rest["sharp".len()..]),
                0 if word("flat") => (-1, &rest["flat".len()..]),
                _ => (sign, rest),
            };
            let mode = match rest.trim_start_matches(separators) {
                "" if text.starts_with(|letter: char| letter.is_ascii_lowercase()) => Mode::Minor,
                "" | "M" => Mode::Major,
                "m" => Mode::Minor,
                mode if ["major", "maj"].iter().any(|name| name.eq_ignore_ascii_case(mode)) => Mode::Major,
                mode if ["minor", "min"].iter().any(|name| name.eq_ignore_ascii_case(mode)) => Mode::Minor,
                _ => return None,
            };
            Some(Self::new((letter + sign).rem_euclid(12) as u8, mode))
        };
        of_text().ok_or_else(|| {
            Error::usage(
                format!("'{text}' is no key"),
                "give a tonic A to G, with # or b, and major or minor: `D minor`, `F# major`, `Eb` and `c` for short",
            )
        })
    }
}

impl TryFrom<String> for Key {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.to_string()
    }
}

/// The key that [`estimate`] hears.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The key of the highest score.
    pub key: Key,
    /// How far its score is above the second highest, 0..=2. Of the pieces measured 98 % were right from 0.1 up, and 6
    /// of 10 below 0.05.
    pub confidence: f64,
    /// The correlation of the piece with each key, -1..=1, in the order of [`Key::all`].
    pub scores: [f64; 24],
}

impl Estimate {
    /// The correlation of the piece with `key`, -1..=1.
    pub fn score(&self, key: Key) -> f64 {
        self.scores[key.index()]
    }
}

/// How often each pitch class occurs in segments of pieces in a major key, from the tonic up: D. Temperley, Music and
/// Probability (2007), chapter 6, from the excerpts in Kostka and Payne's Tonal Harmony.
const MAJOR_PROFILE: [f64; 12] = [0.748, 0.060, 0.488, 0.082, 0.670, 0.460, 0.096, 0.715, 0.104, 0.366, 0.057, 0.400];

/// The same in a minor key.
const MINOR_PROFILE: [f64; 12] = [0.712, 0.084, 0.474, 0.618, 0.049, 0.460, 0.105, 0.747, 0.404, 0.067, 0.133, 0.330];

/// Published profiles of a major and a minor key, from the tonic up, by which [`agreement`] hears a piece: C. L. Krumhansl and
/// E. J. Kessler, Tracing the dynamic changes in perceived tonal organization (1982); B. Aarden, Dynamic melodic expectancy
/// (2003), from the folk songs of Essen; H. Bellman, About the determination of key of a musical excerpt (2005), after H. Budge;
/// Temperley as above. Others judge what was chosen by these (`benches/wishes.py`).
const PUBLISHED: [[[f64; 12]; 2]; 4] = [
    [
        [6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88],
        [6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17],
    ],
    [
        [17.7661, 0.1456, 14.9265, 0.1602, 19.8049, 11.3587, 0.2912, 22.0620, 0.1456, 8.1549, 0.2330, 4.9512],
        [18.2648, 0.7376, 14.0499, 16.8599, 0.7025, 14.4362, 0.7025, 18.6161, 4.5662, 1.9319, 7.3762, 1.7562],
    ],
    [
        [16.80, 0.86, 12.95, 1.41, 13.49, 11.93, 1.25, 20.28, 1.80, 8.04, 0.62, 10.57],
        [18.16, 0.69, 12.99, 13.34, 1.07, 11.15, 1.38, 21.07, 7.49, 1.53, 0.92, 10.21],
    ],
    [MAJOR_PROFILE, MINOR_PROFILE],
];

/// A difference between correlations by which a key is clear ([`agreement`]).
pub const CLEAR: f64 = 0.1;

/// Time steps at either end of a piece that count on their own, beside the whole.
const END: usize = 4 * BAR;

/// What the first [`END`] time steps count, where the whole piece counts 1.
const FIRST: f64 = 1.0;

/// The same for the last ones. They say much of a whole piece and little of an excerpt, which may end in any key.
const LAST: f64 = 0.25;

/// The values less their mean, of length 1; `None` if they are all the same.
fn standardised(values: [f64; 12]) -> Option<[f64; 12]> {
    let mean = values.iter().sum::<f64>() / 12.0;
    let centred = values.map(|value| value - mean);
    let length = centred.iter().map(|value| value * value).sum::<f64>().sqrt();
    (length > 1e-9).then(|| centred.map(|value| value / length))
}

/// The share of each pitch class in the time that notes sound from step `from` up to `to`; all 0 where none does.
fn shares(notes: &[RollNote], from: usize, to: usize) -> [f64; 12] {
    let mut shares = [0.0; 12];
    for note in notes {
        shares[usize::from(note.pitch % 12)] += note.end.min(to).saturating_sub(note.start.max(from)) as f64;
    }
    let sum: f64 = shares.iter().sum();
    shares.map(|share| if sum > 0.0 { share / sum } else { 0.0 })
}

/// The key of a piece or excerpt, from its notes in any order; `None` where there is none, or all pitch classes sound
/// equally long.
///
/// # Examples
///
/// ```
/// use deepj::music::{key, roll::RollNote};
///
/// // The scale of A harmonic minor, up from A3.
/// let scale = [57, 59, 60, 62, 64, 65, 68, 69];
/// let note = |(i, pitch)| RollNote { pitch, velocity: 80, start: 4 * i, end: 4 * i + 4, replay: false };
/// let notes: Vec<RollNote> = scale.into_iter().enumerate().map(note).collect();
/// assert_eq!(key::estimate(&notes).map(|estimate| estimate.key.to_string()).as_deref(), Some("A minor"));
/// assert!(key::estimate(&[]).is_none());
/// ```
pub fn estimate(notes: &[RollNote]) -> Option<Estimate> {
    let start = notes.iter().map(|note| note.start).min()?;
    let end = notes.iter().map(|note| note.end).max()?;
    let whole = shares(notes, start, end);
    let first = shares(notes, start, start.saturating_add(END));
    let last = shares(notes, end.saturating_sub(END).max(start), end);
    let piece = standardised(std::array::from_fn(|i| whole[i] + FIRST * first[i] + LAST * last[i]))?;
    estimate_by(&piece, &[MAJOR_PROFILE, MINOR_PROFILE])
}

/// How clearly the whole of a piece, each of its time steps alike, is heard in `key` by four published pairs of profiles, -1..=1: by
/// how much the correlation with the key's profile is above that with the best of all others, [`CLEAR`] at most, as a part of that and
/// a mean over the pairs. Programs that estimate keys by one of these pairs are no independent judges of pieces that were chosen by
/// this.
///
/// # Examples
///
/// ```
/// use deepj::music::{key, roll::RollNote};
///
/// let note = |(i, pitch)| RollNote { pitch, velocity: 80, start: 4 * i, end: 4 * i + 4, replay: false };
/// let cadence: Vec<RollNote> = [48, 64, 67, 53, 65, 69, 55, 59, 62, 48, 64, 67].into_iter().enumerate().map(note).collect();
/// assert!(key::agreement(&cadence, "C major".parse()?) > 0.5);
/// assert_eq!(key::agreement(&cadence, "B major".parse()?), -1.0);
/// # Ok::<(), deepj::Error>(())
/// ```
pub fn agreement(notes: &[RollNote], key: Key) -> f64 {
    let Some(piece) = standardised(shares(notes, 0, usize::MAX)) else { return 0.0 };
    let clear = |profiles: &[[f64; 12]; 2]| {
        let Some(heard) = estimate_by(&piece, profiles) else { return 0.0 };
        let others = Key::all().filter(|other| *other != key).map(|other| heard.score(other));
        let best = others.fold(f64::NEG_INFINITY, f64::max);
        ((heard.score(key) - best) / CLEAR).clamp(-1.0, 1.0)
    };
    PUBLISHED.iter().map(clear).sum::<f64>() / PUBLISHED.len() as f64
}

/// The key of a piece with these standardised shares of pitch classes, by a profile of major and one of minor.
fn estimate_by(piece: &[f64; 12], [major, minor]: &[[f64; 12]; 2]) -> Option<Estimate> {
    let (major, minor) = (standardised(*major)?, standardised(*minor)?);
    let mut scores = [0.0; 24];
    let (mut best, mut second) = ((f64::NEG_INFINITY, Key::new(0, Mode::Major)), f64::NEG_INFINITY);
    for key in Key::all() {
        let profile = if key.mode == Mode::Major { &major } else { &minor };
        let score = (0..12).map(|i| profile[i] * piece[(i + usize::from(key.tonic)) % 12]).sum();
        scores[key.index()] = score;
        if score > best.0 {
            (best, second) = ((score, key), best.0);
        } else {
            second = second.max(score);
        }
    }
    Some(Estimate { key: best.1, confidence: best.0 - second, scores })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        text.parse().unwrap()
    }

    /// Chords one after another, each for `steps` time steps.
    fn chords(chords: &[&[u8]], steps: usize) -> Vec<RollNote> {
        let notes = chords.iter().enumerate().flat_map(|(i, chord)| {
            let note =
                move |&pitch| RollNote { pitch, velocity: 80, start: i * steps, end: (i + 1) * steps, replay: false };
            chord.iter().map(note)
        });
        notes.collect()
    }

    #[test]
    fn all_keys_are_read_from_their_names() {
        let names: Vec<String> = Key::all().map(|key| key.to_string()).collect();
        assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), 24);
        for (key, name) in Key::all().zip(&names) {
            let (tonic, mode) = name.split_once(' ').unwrap();
            let (short, letter) = if mode == "major" { (tonic.to_string(), 'M') } else { (tonic.to_lowercase(), 'm') };
            let words = format!("{} {mode}", tonic.replacen('#', " sharp", 1).replacen('b', "-flat", 1));
            for text in [name.clone(), name.to_lowercase(), short, format!("{tonic}{letter}"), words] {
                assert_eq!(text.parse::<Key>().unwrap(), key, "{text}");
            }
            assert_eq!(serde_json::to_string(&key).unwrap(), format!("\"{name}\""));
            assert_eq!(serde_json::from_str::<Key>(&format!("\"{name}\"")).unwrap(), key);
        }
    }

    #[test]
    fn the_case_of_a_letter_is_the_mode_where_no_word_is() {
        let known = [
            ("D", "D major"),
            ("d", "D minor"),
            ("B", "B major"),
            ("b", "B minor"),
            ("Bb", "Bb major"),
            ("bb", "Bb minor"),
            ("d major", "D major"),
            ("D minor", "D minor"),
            ("Dm", "D minor"),
            ("dM", "D major"),
            ("f♯", "F# minor"),
            ("B flat minor", "Bb minor"),
            ("E-flat MAJOR", "Eb major"),
            ("e♭ maj", "Eb major"),
            ("a-minor", "A minor"),
            (" Gb ", "F# major"),
            ("Cb major", "B major"),
            ("b# min", "C minor"),
            ("d# minor", "Eb minor"),
        ];
        for (text, name) in known {
            assert_eq!(key(text).to_string(), name, "{text}");
        }
        for text in
            ["", "H", "major", "D dorian", "Dmin or", "C##", "Bb flat", "C sharp sharp", "D mino", "♭", "4", "é minor"]
        {
            let error = text.parse::<Key>().unwrap_err();
            assert!(error.what.contains(&format!("'{text}'")) && error.remedy.contains("D minor"), "{text}: {error}");
        }
    }

    #[test]
    fn signatures_are_those_of_notation() {
        let major = [0, -5, 2, -3, 4, -1, 6, 1, -4, 3, -2, 5];
        let minor = [-3, 4, -1, -6, 1, -4, 3, -2, 5, 0, -5, 2];
        assert!(Key::all().map(Key::fifths).eq(major.into_iter().chain(minor)));
        for key in Key::all() {
            // The name's accidental is one of the signature: Bb in F minor, none in F major.
            let name = key.to_string();
            assert!(!name.contains('#') || key.fifths() > 0, "{name}");
            assert!(!name.contains('b') || key.fifths() < 0, "{name}");
        }
    }

    #[test]
    fn relative_and_parallel_keys() {
        assert_eq!((key("C").relative(), key("C").parallel()), (key("a"), key("c")));
        assert_eq!((key("Eb").relative(), key("b").parallel()), (key("c"), key("B")));
        for key in Key::all() {
            assert_eq!((key.relative().relative(), key.parallel().parallel()), (key, key));
            assert_eq!(key.relative().fifths().rem_euclid(12), key.fifths().rem_euclid(12));
        }
    }

    #[test]
    fn the_least_interval_leads_to_the_key_and_to_no_other_mode() {
        for from in Key::all() {
            for to in Key::all() {
                match from.least_interval(to) {
                    Some(interval) => {
                        assert!((-5..=6).contains(&interval) && from.mode() == to.mode());
                        assert_eq!((from.tonic() as i8 + interval).rem_euclid(12), to.tonic() as i8);
                    }
                    None => assert_ne!(from.mode(), to.mode()),
                }
            }
        }
        assert_eq!(key("C").least_interval(key("G")), Some(-5));
        assert_eq!(key("g").least_interval(key("d")), Some(-5));
        assert_eq!(key("C").least_interval(key("F#")), Some(6));
        assert_eq!(key("a").least_interval(key("C")), None);
    }

    #[test]
    fn scales_and_cadences_are_in_their_key() {
        for key in Key::all() {
            let tonic = 48 + key.tonic();
            let scale: [u8; 8] = match key.mode() {
                Mode::Major => [0, 2, 4, 5, 7, 9, 11, 12],
                Mode::Minor => [0, 2, 3, 5, 7, 8, 11, 12],
            };
            let degree = |i: usize| tonic + scale[i % 7] + if i >= 7 { 12 } else { 0 };
            let triad = |i: usize| [degree(i), degree(i + 2), degree(i + 4)];
            let (one, four, five) = (triad(0), triad(3), triad(4));
            let seventh = [five[0], five[1], five[2], degree(3)];
            let cadence = chords(&[&one, &four, &seventh, &one], 8);
            let scale: Vec<[u8; 1]> = scale.map(|step| [tonic + step]).into();
            let scale = chords(&scale.iter().map(|pitch| &pitch[..]).collect::<Vec<_>>(), 2);
            for notes in [cadence, scale] {
                let estimate = estimate(&notes).unwrap();
                assert_eq!(estimate.key, key);
                assert!(estimate.confidence > 0.0);
                assert_eq!(estimate.score(key), estimate.scores.into_iter().fold(-1.0, f64::max));
                let second = Key::all().filter(|&other| other != key).map(|other| estimate.score(other));
                assert!((second.fold(-1.0, f64::max) + estimate.confidence - estimate.score(key)).abs() < 1e-12);
            }
        }
    }

    /// The beginning of Bach's prelude in C major, BWV 846, which leads to G major.
    #[test]
    fn a_piece_that_modulates_is_in_the_key_of_its_beginning() {
        let bars: [[u8; 5]; 11] = [
            [60, 64, 67, 72, 76],
            [60, 62, 69, 74, 77],
            [59, 62, 67, 74, 77],
            [60, 64, 67, 72, 76],
            [60, 64, 69, 76, 81],
            [60, 62, 66, 69, 74],
            [59, 62, 67, 74, 79],
            [59, 60, 64, 67, 72],
            [57, 60, 64, 67, 72],
            [50, 57, 62, 66, 72],
            [55, 59, 62, 67, 71],
        ];
        let mut notes = Vec::new();
        for half in 0..2 * bars.len() {
            let (bar, start) = (&bars[half / 2], 8 * half);
            let mut note = |i: usize, from: usize, to: usize| {
                notes.push(RollNote {
                    pitch: bar[i],
                    velocity: 80,
                    start: start + from,
                    end: start + to,
                    replay: false,
                });
            };
            note(0, 0, 8);
            note(1, 1, 8);
            for (i, at) in [(2, 2), (3, 3), (4, 4), (2, 5), (3, 6), (4, 7)] {
                note(i, at, at + 1);
            }
        }
        assert_eq!(estimate(&notes).unwrap().key, key("C"));
        // Its end alone is not.
        let end: Vec<RollNote> = notes.iter().copied().filter(|note| note.start >= 8 * 16).collect();
        assert_eq!(estimate(&end).unwrap().key, key("G"));
        // An octave, the order of the notes and a rest before them make no difference; an interval moves the key.
        let moved = notes.iter().rev().map(|note| RollNote {
            pitch: note.pitch - 9,
            start: note.start + 500,
            end: note.end + 500,
            ..*note
        });
        let (there, here) = (estimate(&moved.collect::<Vec<_>>()).unwrap(), estimate(&notes).unwrap());
        assert_eq!(there.key, key("Eb"));
        assert!((there.confidence - here.confidence).abs() < 1e-12);
    }

    #[test]
    fn the_beginning_counts_most_and_the_end_a_little() {
        // A bar in C major and one in G major.
        let (c, g): ([&[u8]; 4], [&[u8]; 4]) = (
            [&[48, 64, 67], &[53, 65, 69], &[55, 65, 71], &[48, 64, 67]],
            [&[55, 62, 71], &[50, 66, 69], &[55, 62, 71], &[50, 66, 69]],
        );
        let piece = |bars: &[(usize, [&[u8]; 4])]| {
            let bars = bars.iter().flat_map(|&(count, cadence)| std::iter::repeat_n(cadence, count));
            estimate(&chords(&bars.flatten().collect::<Vec<_>>(), 4)).unwrap()
        };
        // The greater part and the end are in G major, as all would be but for its beginning.
        assert_eq!((piece(&[(4, c), (10, g)]).key, piece(&[(10, g), (4, c)]).key), (key("C"), key("G")));
        // The same bars otherwise, but for the order of the last twelve.
        let (there, back) = (piece(&[(8, c), (8, g)]), piece(&[(4, c), (8, g), (4, c)]));
        assert!(back.score(key("C")) > there.score(key("C")));
        assert!(back.score(key("G")) < there.score(key("G")));
    }

    /// The beginning of Beethoven's sonata in C sharp minor, op. 27 no. 2.
    #[test]
    fn a_piece_in_a_minor_key() {
        let tonic: &[u8] = &[37, 49, 56, 61, 64];
        let second: &[u8] = &[35, 47, 56, 61, 64];
        let (six, two): (&[u8], &[u8]) = (&[33, 45, 57, 61, 64], &[30, 42, 57, 62, 66]);
        let five: [&[u8]; 4] =
            [&[32, 44, 56, 60, 66], &[32, 44, 56, 61, 64], &[32, 44, 56, 61, 63], &[32, 44, 54, 60, 63]];
        let quarters = [&[tonic; 4][..], &[second; 4], &[six, six, two, two], &five, &[tonic; 4]].concat();
        let estimate = estimate(&chords(&quarters, 4)).unwrap();
        assert_eq!(estimate.key, key("C# minor"));
        assert!(estimate.score(key("C# minor")) > 0.7);
    }

    #[test]
    fn nothing_is_in_no_key() {
        assert_eq!(estimate(&[]), None);
        let all: Vec<u8> = (48..60).collect();
        assert_eq!(estimate(&chords(&[&all], 4)), None);
        assert!(estimate(&chords(&[&[60]], 4)).unwrap().confidence >= 0.0);
    }
}
