//! Keys, chords and progressions. Pitches are MIDI numbers; a *step* counts scale degrees upwards from the lowest
//! tonic of the key, seven to the octave; a step becomes a pitch through the chord that sounds, since the chord
//! decides which degrees are raised or lowered.

/// Sixteenths in a bar of 4/4.
pub const BAR: i32 = 16;
/// Sixteenths in a beat.
pub const BEAT: i32 = 4;

const MAJOR: [i32; 7] = [0, 2, 4, 5, 7, 9, 11];
const MINOR: [i32; 7] = [0, 2, 3, 5, 7, 8, 10];

/// Major or (natural) minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Major,
    Minor,
}

/// A tonic (0 = C .. 11 = B) and a mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    pub tonic: i32,
    pub mode: Mode,
}

impl Key {
    pub const fn major(tonic: i32) -> Self {
        Self { tonic: tonic.rem_euclid(12), mode: Mode::Major }
    }

    pub const fn minor(tonic: i32) -> Self {
        Self { tonic: tonic.rem_euclid(12), mode: Mode::Minor }
    }

    pub fn is_minor(self) -> bool {
        self.mode == Mode::Minor
    }

    /// Semitones of the seven degrees above the tonic.
    pub fn scale(self) -> [i32; 7] {
        if self.is_minor() { MINOR } else { MAJOR }
    }

    /// The closely related key whose tonic is `degree` (1..=7) of this one, in the mode of the diatonic triad there;
    /// the fifth of a minor key is minor, as for the answer of a fugue.
    pub fn related(self, degree: i32) -> Self {
        let tonic = self.tonic + self.scale()[(degree - 1) as usize];
        let major = match self.mode {
            Mode::Major => matches!(degree, 1 | 4 | 5),
            Mode::Minor => matches!(degree, 3 | 6 | 7),
        };
        if major { Self::major(tonic) } else { Self::minor(tonic) }
    }

    /// Sharps (positive) or flats (negative) of the key signature, -6..=6.
    pub fn signature(self) -> i8 {
        let major = if self.is_minor() { self.tonic + 3 } else { self.tonic };
        let fifths = (major * 7).rem_euclid(12);
        (if fifths > 6 { fifths - 12 } else { fifths }) as i8
    }

    /// The key's name as in a file name: `f-sharp-minor`.
    pub fn name(self) -> String {
        const FLATS: [&str; 12] = ["c", "d-flat", "d", "e-flat", "e", "f", "g-flat", "g", "a-flat", "a", "b-flat", "b"];
        const SHARPS: [&str; 12] =
            ["c", "c-sharp", "d", "d-sharp", "e", "f", "f-sharp", "g", "g-sharp", "a", "a-sharp", "b"];
        let names = if self.signature() < 0 { FLATS } else { SHARPS };
        format!("{}-{}", names[self.tonic as usize], if self.is_minor() { "minor" } else { "major" })
    }
}

/// A chord in a key: its tones, its bass, and how it bends the scale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chord {
    pub key: Key,
    /// Pitch classes from the root up in thirds.
    pub tones: Vec<i32>,
    /// Pitch class that belongs in the bass.
    pub bass: i32,
    /// Semitones above the tonic of each degree while this chord sounds.
    pub scale: [i32; 7],
    /// Pitch class that wants to rise a semitone: the third of a dominant, the root of a diminished chord.
    pub leading: Option<i32>,
    /// Pitch class that wants to fall a step.
    pub seventh: Option<i32>,
}

impl Chord {
    /// Reads a Roman numeral: optional `b` or `#`, numeral (upper case major, lower case minor), optional `o`
    /// (diminished), `%` (half-diminished) or `+` (augmented), optional figures `6 64 7 65 43 42`, optional `/X` (as if
    /// X were the tonic). Also `N6` (Neapolitan), `It`, `Fr` and `Ger` (augmented sixths). Roots are those of the key's
    /// own scale, except that `viio` and `vii%` in minor stand on the raised seventh degree.
    ///
    /// # Panics
    /// On a text that is not of this form: the texts are the generator's own tables.
    pub fn roman(key: Key, text: &str) -> Self {
        let sixth = if key.is_minor() { 0 } else { -1 };
        match text {
            "N6" => return Self::build(key, &[(1, 1), (3, 5), (5, 8)], 1, None, None),
            "It" => return Self::build(key, &[(3, 6), (5, 8), (0, 0)], 1, Some(6), None),
            "Fr" => return Self::build(key, &[(1, 2), (3, 6), (5, 8), (0, 0)], 2, Some(6), None),
            "Ger" => {
                let third = key.scale()[2] + sixth;
                return Self::build(key, &[(3, 6), (5, 8), (0, 0), (2, third)], 1, Some(6), None);
            }
            _ => {}
        }
        let (body, target) = text.split_once('/').unwrap_or((text, ""));
        let (at, base) = if target.is_empty() { (0, 0) } else { numeral(key, target).0 };
        let local = match (target.is_empty(), numeral(key, target).1) {
            (true, _) => key,
            (false, true) => Key::major(key.tonic + base),
            (false, false) => Key::minor(key.tonic + base),
        };
        let ((degree, mut root), upper, altered, rest) = {
            let (place, upper, rest) = numeral(local, body);
            (place, upper, place.1 != local.scale()[place.0], rest)
        };
        let (quality, figures) = match rest.chars().next() {
            Some(mark @ ('o' | '%' | '+')) => (mark, &rest[1..]),
            _ => (' ', rest),
        };
        if degree == 6 && matches!(quality, 'o' | '%') {
            root = 11;
        }
        let (third, fifth) = match (quality, upper) {
            ('o' | '%', _) => (3, 6),
            ('+', _) => (4, 8),
            (_, true) => (4, 7),
            (_, false) => (3, 7),
        };
        let seventh = match quality {
            'o' => 9,
            _ if altered => 10,
            _ => (local.scale()[(degree + 6) % 7] - root).rem_euclid(12),
        };
        let mut places = vec![(degree, root), (degree + 2, root + third), (degree + 4, root + fifth)];
        if matches!(figures, "7" | "65" | "43" | "42") {
            places.push((degree + 6, root + seventh));
        }
        let inversion = match figures {
            "" | "7" => 0,
            "6" | "65" => 1,
            "64" | "43" => 2,
            "42" => 3,
            _ => panic!("`{text}` is no Roman numeral of this generator"),
        };
        let places: Vec<_> = places.iter().map(|&(d, s)| ((d + at) % 7, (s + base).rem_euclid(12))).collect();
        let leading = match (degree, quality, upper) {
            (4, ' ', true) => Some(places[1].1),
            (6, 'o' | '%', _) => Some(places[0].1),
            _ => None,
        };
        let falls = places.get(3).map(|p| p.1);
        Self::build(key, &places, inversion, leading, falls)
    }

    /// The diatonic triad on `degree` (1..=7); the fifth is major in both modes, the seventh of minor is the
    /// subtonic.
    pub fn diatonic(key: Key, degree: i32) -> Self {
        let names = match key.mode {
            Mode::Major => ["I", "ii", "iii", "IV", "V", "vi", "viio"],
            Mode::Minor => ["i", "iio", "III", "iv", "V", "VI", "VII"],
        };
        Self::roman(key, names[(degree - 1) as usize])
    }

    /// `places` are (degree 0..7, semitones above the tonic) from the root up.
    fn build(key: Key, places: &[(usize, i32)], bass: usize, leading: Option<i32>, seventh: Option<i32>) -> Self {
        let mut scale = key.scale();
        for &(degree, semitones) in places {
            // The nearest bend of the degree: C flat lies below C.
            scale[degree] += (semitones - scale[degree] + 6).rem_euclid(12) - 6;
        }
        let class = |semitones: i32| (key.tonic + semitones).rem_euclid(12);
        Self {
            key,
            tones: places.iter().map(|p| class(p.1)).collect(),
            bass: class(places[bass].1),
            scale,
            leading: leading.map(class),
            seventh: seventh.map(class),
        }
    }

    /// Whether `pitch` is a tone of the chord.
    pub fn has(&self, pitch: i32) -> bool {
        self.tones.contains(&pitch.rem_euclid(12))
    }

    /// Whether `pitch` belongs to the scale that the chord bends. Under the dominant of a minor key the raised sixth
    /// degree belongs too: a line takes it on the way to the leading tone.
    pub fn in_scale(&self, pitch: i32) -> bool {
        let above = (pitch - self.key.tonic).rem_euclid(12);
        self.scale.iter().any(|s| s.rem_euclid(12) == above) || (self.raised_sixth() == Some(pitch.rem_euclid(12)))
    }

    /// Pitch class of the raised sixth degree, where the chord raises the seventh of a minor key.
    pub fn raised_sixth(&self) -> Option<i32> {
        (self.key.is_minor() && self.scale[6] == 11).then(|| (self.key.tonic + 9).rem_euclid(12))
    }

    /// The pitch of a scale step under this chord.
    pub fn pitch(&self, step: i32) -> i32 {
        self.key.tonic + 12 * step.div_euclid(7) + self.scale[step.rem_euclid(7) as usize]
    }

    /// The scale step of `pitch` under this chord; a pitch foreign to the scale counts as the step above or at it.
    pub fn step(&self, pitch: i32) -> i32 {
        let near = (pitch - self.key.tonic).div_euclid(12) * 7;
        (near - 1..near + 8).find(|&step| self.pitch(step) == pitch).unwrap_or_else(|| {
            // A raised sixth or another chromatic tone: the degree whose natural form lies just below it.
            (near..near + 7).rev().find(|&step| self.pitch(step) < pitch).unwrap_or(near)
        })
    }
}

/// Reads accidental and numeral: ((degree 0..7, semitones above the tonic), upper case, what follows).
fn numeral(key: Key, text: &str) -> ((usize, i32), bool, &str) {
    let (shift, text) = match text.chars().next() {
        Some('b') => (-1, &text[1..]),
        Some('#') => (1, &text[1..]),
        _ => (0, text),
    };
    let end = text.find(|c| !matches!(c, 'i' | 'v' | 'I' | 'V')).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let numerals = ["I", "II", "III", "IV", "V", "VI", "VII"];
    let degree = numerals.iter().position(|n| n.eq_ignore_ascii_case(name)).unwrap_or(0);
    let upper = name.starts_with(['I', 'V']);
    ((degree, key.scale()[degree] + shift), upper, rest)
}

/// The chords of a piece in time.
#[derive(Clone, Debug, Default)]
pub struct Harmony {
    chords: Vec<Chord>,
    /// Where each chord ends.
    ends: Vec<i32>,
    /// Index into both for each sixteenth.
    at: Vec<usize>,
}

impl Harmony {
    /// Adds `chord` for `len` sixteenths.
    pub fn push(&mut self, chord: Chord, len: i32) {
        self.chords.push(chord);
        self.at.extend(std::iter::repeat_n(self.chords.len() - 1, len as usize));
        self.ends.push(self.end());
    }

    /// Adds bars written as `"I | V65 I | ii6 V"`: Roman numerals, each bar shared evenly by its chords.
    pub fn push_bars(&mut self, key: Key, text: &str) {
        for bar in text.split('|') {
            let names: Vec<_> = bar.split_whitespace().collect();
            for name in &names {
                self.push(Chord::roman(key, name), BAR / names.len() as i32);
            }
        }
    }

    /// Sixteenths laid so far.
    pub fn end(&self) -> i32 {
        self.at.len() as i32
    }

    /// The chord at `step`; the first before the beginning, the last after the end.
    pub fn at(&self, step: i32) -> &Chord {
        &self.chords[self.at[step.clamp(0, self.end() - 1) as usize]]
    }

    /// Whether a new chord begins at `step`.
    pub fn changes(&self, step: i32) -> bool {
        step > 0 && step < self.end() && self.at[step as usize] != self.at[step as usize - 1]
    }

    /// Where the chord at `step` ends.
    pub fn next_change(&self, step: i32) -> i32 {
        self.ends[self.at[step.clamp(0, self.end() - 1) as usize]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roman_numerals_spell_the_chords_they_name() {
        let c_major = [
            ("V65", vec![7, 11, 2, 5], 11),
            ("vii%7", vec![11, 2, 5, 9], 11),
            ("V7/V", vec![2, 6, 9, 0], 2),
            ("viio7/ii", vec![1, 4, 7, 10], 1),
            ("bVI", vec![8, 0, 3], 8),
            ("N6", vec![1, 5, 8], 5),
            ("Ger", vec![6, 8, 0, 3], 8),
            ("IV64", vec![5, 9, 0], 0),
        ];
        let c_minor = [
            ("V7", vec![7, 11, 2, 5], 7),
            ("viio7", vec![11, 2, 5, 8], 11),
            ("VI", vec![8, 0, 3], 8),
            ("vi", vec![8, 11, 3], 8),
            ("ii%65", vec![2, 5, 8, 0], 5),
            ("V65/iv", vec![0, 4, 7, 10], 4),
            ("Ger", vec![6, 8, 0, 3], 8),
        ];
        for (key, chords) in [(Key::major(0), &c_major[..]), (Key::minor(0), &c_minor[..])] {
            for (text, tones, bass) in chords {
                let chord = Chord::roman(key, text);
                assert_eq!((&chord.tones, chord.bass), (tones, *bass), "{text} in {}", key.name());
            }
        }
        // The same a fourth higher.
        assert_eq!(Chord::roman(Key::minor(5), "viio7").tones, [4, 7, 10, 1]);
    }

    #[test]
    fn steps_and_pitches_are_inverse() {
        let chord = Chord::roman(Key::minor(9), "V7");
        for step in 20..50 {
            assert_eq!(chord.step(chord.pitch(step)), step);
        }
        // G sharp, not G, is the seventh degree of A minor under its dominant.
        assert_eq!(chord.pitch(41), 9 + 60 + 11);
        assert!(chord.in_scale(68) && !chord.in_scale(67));
    }

    #[test]
    fn keys_have_their_signatures_and_names() {
        let named = |key: Key| (key.signature(), key.name());
        assert_eq!(named(Key::major(10)), (-2, "b-flat-major".into()));
        assert_eq!(named(Key::minor(6)), (3, "f-sharp-minor".into()));
        assert_eq!(named(Key::minor(0)), (-3, "c-minor".into()));
        assert_eq!(named(Key::major(1)), (-5, "d-flat-major".into()));
        assert_eq!(Key::minor(0).related(3), Key::major(3));
        assert_eq!(Key::major(0).related(6), Key::minor(9));
    }
}
