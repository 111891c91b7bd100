//! The measures of one excerpt.

use serde::Serialize;

/// Time steps of a bar, whatever a piece's own bars are.
pub use crate::music::roll::BAR;
use crate::music::roll::RollNote;
use crate::music::{Roll, RollStats};

/// What an excerpt's measures are made of.
#[derive(Clone, Debug)]
pub struct Excerpt {
    stats: RollStats,
    /// Ordered by pitch, then by onset.
    notes: Vec<RollNote>,
    /// Whether its velocities are its own.
    dynamics: bool,
}

impl Excerpt {
    /// Of `roll`, whose velocities are measured if they are its own (`dynamics`).
    pub fn new(roll: &Roll, dynamics: bool) -> Self {
        Self { stats: RollStats::new(roll), notes: roll.notes(), dynamics }
    }

    /// Bars, the last of which may be shorter.
    pub fn bars(&self) -> usize {
        self.stats.steps.div_ceil(BAR)
    }

    /// A mean over notes, if there are any.
    fn of_notes(&self, mean: f64) -> Option<f64> {
        (!self.notes.is_empty()).then_some(mean)
    }

    /// Notes by pitch class, for each bar.
    fn pitch_classes_by_bar(&self) -> Vec<[usize; 12]> {
        let mut bars = vec![[0; 12]; self.bars()];
        for note in &self.notes {
            bars[note.start / BAR][usize::from(note.pitch % 12)] += 1;
        }
        bars
    }

    /// The entropy of pitch classes in bits, mean over all windows of `width` bars in which a note begins.
    fn mean_entropy(&self, width: usize) -> Option<f64> {
        let bars = self.pitch_classes_by_bar();
        let windows = bars.windows(width.min(bars.len()).max(1)).map(|window| {
            let mut sum = [0; 12];
            window.iter().for_each(|bar| sum.iter_mut().zip(bar).for_each(|(sum, count)| *sum += count));
            sum
        });
        mean(windows.filter_map(|counts| entropy(&counts)))
    }

    /// For each bar the time steps within it on which a note begins, a bit each.
    fn grooves(&self) -> Vec<u16> {
        let mut grooves = vec![0; self.bars()];
        self.notes.iter().for_each(|note| grooves[note.start / BAR] |= 1 << (note.start % BAR));
        grooves
    }

    /// For each bar a bit for each time step within it and pitch class that begins there: 12 words of 16 bits.
    fn patterns(&self) -> Vec<[u16; 12]> {
        let mut patterns = vec![[0; 12]; self.bars()];
        for note in &self.notes {
            patterns[note.start / BAR][usize::from(note.pitch % 12)] |= 1 << (note.start % BAR);
        }
        patterns
    }
}

/// A number for each excerpt, unless it is undefined there.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Measure {
    /// Its name in files.
    pub key: &'static str,
    /// Its name for people.
    pub label: &'static str,
    /// What it counts.
    pub unit: &'static str,
    /// What it is, and whose definition that is.
    pub definition: &'static str,
    /// Computes it; `None` where it is undefined.
    #[serde(skip)]
    pub of: fn(&Excerpt) -> Option<f64>,
}

/// All measures, in the order of tables.
pub const MEASURES: [Measure; 14] = [
    Measure {
        key: "pitch_class_entropy",
        label: "pitch-class entropy",
        unit: "bits",
        definition: "entropy of the histogram of the notes' pitch classes (MusPy, Dong et al. 2020)",
        of: |excerpt| entropy(&excerpt.stats.pitch_classes),
    },
    Measure {
        key: "pitch_class_entropy_1",
        label: "  of one bar",
        unit: "bits",
        definition: "the same of each bar in which a note begins, mean (H1 of Wu & Yang 2020)",
        of: |excerpt| excerpt.mean_entropy(1),
    },
    Measure {
        key: "pitch_class_entropy_4",
        label: "  of four bars",
        unit: "bits",
        definition: "the same of every four bars that follow one another, mean (H4 of Wu & Yang 2020)",
        of: |excerpt| excerpt.mean_entropy(4),
    },
    Measure {
        key: "scale_consistency",
        label: "scale consistency",
        unit: "share",
        definition: "the largest share of the notes that lies in one of the 24 major and natural minor scales (Mogren 2016; MusPy)",
        of: scale_consistency,
    },
    Measure {
        key: "polyphony",
        label: "polyphony",
        unit: "notes",
        definition: "notes that sound at once, mean over the time steps on which any does (MusPy)",
        of: |excerpt| excerpt.of_notes(excerpt.stats.mean_polyphony),
    },
    Measure {
        key: "note_density",
        label: "note density",
        unit: "onsets/bar",
        definition: "onsets a bar of 16 time steps (note density, as in jSymbolic, but by bars instead of seconds)",
        of: |excerpt| share(excerpt.stats.onsets * BAR, excerpt.stats.steps),
    },
    Measure {
        key: "note_length",
        label: "note length",
        unit: "steps",
        definition: "mean length of a note in time steps, a re-attack ending the note before (average note duration of jSymbolic)",
        of: |excerpt| excerpt.of_notes(excerpt.stats.mean_note_steps),
    },
    Measure {
        key: "pitch_range",
        label: "range",
        unit: "semitones",
        definition: "from the lowest to the highest note (pitch range of Yang & Lerch 2020; MusPy)",
        of: |excerpt| Some(f64::from(excerpt.stats.highest?) - f64::from(excerpt.stats.lowest?)),
    },
    Measure {
        key: "silent_share",
        label: "silence",
        unit: "share",
        definition: "time steps on which nothing sounds (MusPy's empty-beat rate, by time steps instead of beats)",
        of: |excerpt| (excerpt.stats.steps > 0).then_some(excerpt.stats.silent_share),
    },
    Measure {
        key: "groove_consistency",
        label: "groove consistency",
        unit: "share",
        definition: "1 minus the share of the 16 time steps on which just one of two bars that follow one another has an onset, mean \
                     (MusPy, after the grooving similarity of Wu & Yang 2020)",
        of: groove_consistency,
    },
    Measure {
        key: "mean_velocity",
        label: "velocity, mean",
        unit: "1..127",
        definition: "mean MIDI velocity of the onsets",
        of: |excerpt| excerpt.of_notes(excerpt.stats.mean_velocity).filter(|_| excerpt.dynamics),
    },
    Measure {
        key: "velocity_variance",
        label: "velocity, variance",
        unit: "",
        definition: "variance of the onsets' MIDI velocity",
        of: |excerpt| excerpt.of_notes(excerpt.stats.std_velocity.powi(2)).filter(|_| excerpt.dynamics),
    },
    Measure {
        key: "replay_share",
        label: "re-attacks",
        unit: "share",
        definition: "onsets of a note that sounded on the time step before (replay of DeepJ, Mao et al. 2018)",
        of: |excerpt| share(excerpt.stats.replays, excerpt.stats.onsets),
    },
    Measure {
        key: "self_similarity",
        label: "self-similarity",
        unit: "cosine",
        definition: "how like each bar is to the likest of those before it, mean: the cosine of vectors that say for each of 16 time \
                     steps and 12 pitch classes whether one begins there (a self-similarity matrix as Foote's of 1999, by bars)",
        of: self_similarity,
    },
];

/// A histogram for each excerpt, which sums to 1: for distances only.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Histogram {
    /// Its name in files.
    pub key: &'static str,
    /// Its name for people.
    pub label: &'static str,
    /// What it is, and whose definition that is.
    pub definition: &'static str,
    /// Computes it; `None` where there is no note.
    #[serde(skip)]
    pub of: fn(&Excerpt) -> Option<Vec<f64>>,
}

/// All histograms, in the order of tables.
pub const HISTOGRAMS: [Histogram; 2] = [
    Histogram {
        key: "pitch_class_histogram",
        label: "pitch classes",
        definition: "shares of the notes by pitch class (Yang & Lerch 2020)",
        of: |excerpt| normalised(&excerpt.stats.pitch_classes),
    },
    Histogram {
        key: "note_length_histogram",
        label: "note lengths",
        definition: "shares of the notes by length: 1 to 16 time steps, and longer (Yang & Lerch 2020, who have 12 note values)",
        of: |excerpt| {
            let mut lengths = [0; BAR + 1];
            excerpt.notes.iter().for_each(|note| lengths[(note.end - note.start - 1).min(BAR)] += 1);
            normalised(&lengths)
        },
    },
];

fn share(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0);
    values.for_each(|value| (sum, count) = (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

fn normalised(counts: &[usize]) -> Option<Vec<f64>> {
    let sum = counts.iter().sum();
    counts.iter().map(|&count| share(count, sum)).collect()
}

/// Shannon's, in bits; `None` where nothing is counted.
fn entropy(counts: &[usize; 12]) -> Option<f64> {
    let shares = normalised(counts)?;
    Some(shares.into_iter().filter(|share| *share > 0.0).map(|share| -share * share.log2()).sum())
}

fn scale_consistency(excerpt: &Excerpt) -> Option<f64> {
    // The natural minor scale of a key has the notes of the major scale three semitones above.
    const MAJOR: [usize; 7] = [0, 2, 4, 5, 7, 9, 11];
    let counts = &excerpt.stats.pitch_classes;
    let within = |root: usize| MAJOR.iter().map(|step| counts[(root + step) % 12]).sum();
    share((0..12).map(within).max().unwrap_or(0), counts.iter().sum())
}

fn groove_consistency(excerpt: &Excerpt) -> Option<f64> {
    let grooves = excerpt.grooves();
    let distance = |pair: &[u16]| f64::from((pair[0] ^ pair[1]).count_ones()) / BAR as f64;
    excerpt.of_notes(1.0 - mean(grooves.windows(2).map(distance))?)
}

fn self_similarity(excerpt: &Excerpt) -> Option<f64> {
    let bits = |pattern: &[u16; 12]| pattern.iter().map(|word| word.count_ones()).sum::<u32>();
    let patterns: Vec<([u16; 12], u32)> = excerpt.patterns().into_iter().map(|bar| (bar, bits(&bar))).collect();
    let sounding: Vec<_> = patterns.into_iter().filter(|(_, bits)| *bits > 0).collect();
    let cosine = |(a, bits_a): &([u16; 12], u32), (b, bits_b): &([u16; 12], u32)| {
        let common: u32 = a.iter().zip(b).map(|(a, b)| (a & b).count_ones()).sum();
        f64::from(common) / (f64::from(*bits_a) * f64::from(*bits_b)).sqrt()
    };
    let likest = |i: usize| sounding[..i].iter().map(|before| cosine(&sounding[i], before)).fold(0.0, f64::max);
    mean((1..sounding.len()).map(likest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::music::NoteRange;

    fn excerpt(notes: &[(u8, u8, usize, usize)], steps: usize) -> Excerpt {
        let notes =
            notes.iter().map(|&(pitch, velocity, start, end)| RollNote { pitch, velocity, start, end, replay: false });
        Excerpt::new(&Roll::from_notes(NoteRange::default(), notes).unwrap().padded(steps).unwrap(), true)
    }

    fn measure(key: &str, excerpt: &Excerpt) -> Option<f64> {
        (MEASURES.iter().find(|measure| measure.key == key).unwrap().of)(excerpt)
    }

    fn near(key: &str, excerpt: &Excerpt, expected: f64) {
        let value = measure(key, excerpt).unwrap();
        assert!((value - expected).abs() < 1e-9, "{key}: {value}, not {expected}");
    }

    /// Three bars: C4 struck twice without a pause, E4 and C5 in the first, C4 and F#4 in the second, nothing in the third.
    fn three_bars() -> Excerpt {
        excerpt(
            &[(60, 40, 0, 4), (60, 60, 4, 8), (64, 80, 4, 8), (72, 60, 8, 12), (60, 60, 16, 18), (66, 60, 24, 28)],
            48,
        )
    }

    #[test]
    fn pitches() {
        let piece = three_bars();
        // C four times, E and F# once: 4/6 and twice 1/6.
        let whole = 4.0 / 6.0 * 1.5f64.log2() + 2.0 / 6.0 * 6f64.log2();
        near("pitch_class_entropy", &piece, whole);
        // C C E C: 3/4 and 1/4; C F#: 1 bit; the third bar has no note.
        let first = 0.75 * (4.0f64 / 3.0).log2() + 0.25 * 2.0;
        near("pitch_class_entropy_1", &piece, (first + 1.0) / 2.0);
        near("pitch_class_entropy_4", &piece, whole);
        // G major has C, E and F#.
        near("scale_consistency", &piece, 1.0);
        near("scale_consistency", &excerpt(&[(60, 9, 0, 1), (61, 9, 1, 2), (62, 9, 2, 3), (67, 9, 3, 4)], 4), 0.75);
        near("pitch_range", &piece, 12.0);
        // Windows of four bars of five: bars 0 to 3 and 1 to 4.
        let five = excerpt(&[(60, 9, 0, 1), (61, 9, 20, 21), (62, 9, 70, 71)], 80);
        near("pitch_class_entropy_4", &five, 1.0);
        near("pitch_class_entropy_1", &five, 0.0);
    }

    #[test]
    fn time() {
        let piece = three_bars();
        // Sounding cells: 4 + 4 + 4 + 4 + 2 + 4 = 22 on 12 + 2 + 4 = 18 time steps.
        near("polyphony", &piece, 22.0 / 18.0);
        near("note_length", &piece, 22.0 / 6.0);
        near("note_density", &piece, 2.0);
        near("silent_share", &piece, 30.0 / 48.0);
        near("replay_share", &piece, 1.0 / 6.0);
        // Onsets on 0, 4, 8; on 0, 8; none: one of 16 differs, then two.
        near("groove_consistency", &piece, 1.0 - (1.0 / 16.0 + 2.0 / 16.0) / 2.0);
        // Vectors: C0 C4 E4 C8; C0 F#8: one in common of 4 and 2. The bar without a note does not count.
        near("self_similarity", &piece, 1.0 / 8f64.sqrt());
        near("self_similarity", &excerpt(&[(60, 9, 0, 1), (62, 9, 16, 17), (72, 9, 32, 33)], 48), 0.5);
    }

    #[test]
    fn velocities() {
        near("mean_velocity", &three_bars(), 60.0);
        near("velocity_variance", &three_bars(), 800.0 / 6.0);
        let others = Excerpt { dynamics: false, ..three_bars() };
        assert_eq!(measure("mean_velocity", &others).or(measure("velocity_variance", &others)), None);
    }

    #[test]
    fn what_is_undefined_is_no_number() {
        let silent = excerpt(&[], 32);
        for measure in &MEASURES {
            let expected = match measure.key {
                "note_density" => Some(0.0),
                "silent_share" => Some(1.0),
                _ => None,
            };
            assert_eq!((measure.of)(&silent), expected, "{}", measure.key);
        }
        let bar = excerpt(&[(60, 9, 0, 1)], 16);
        assert_eq!(measure("groove_consistency", &bar).or(measure("self_similarity", &bar)), None);
        assert!(MEASURES.iter().all(|measure| (measure.of)(&excerpt(&[], 0)).is_none()));
        assert!(HISTOGRAMS.iter().all(|histogram| (histogram.of)(&silent).is_none()));
    }

    #[test]
    fn histograms() {
        let [classes, lengths] = HISTOGRAMS.map(|histogram| (histogram.of)(&three_bars()).unwrap());
        assert_eq!((classes[0], classes[4], classes[6]), (4.0 / 6.0, 1.0 / 6.0, 1.0 / 6.0));
        assert_eq!((lengths.len(), lengths[1], lengths[3]), (17, 1.0 / 6.0, 5.0 / 6.0));
        let long = (HISTOGRAMS[1].of)(&excerpt(&[(60, 9, 0, 99), (61, 9, 0, 16)], 99)).unwrap();
        assert_eq!((long[15], long[16]), (0.5, 0.5));
    }
}
