//! What listeners answered, and what that says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Key;
use crate::files::read_bounded;
use crate::shuffle::SplitMix64;
use crate::statistics::{binomial_p, quantile, sorted, wilson};
use crate::{Error, Result};

/// The largest file of answers that is read, in bytes; a page writes less than 300 a pair.
const MAX_BYTES: u64 = 4 << 20;
pub(super) const FORMAT: &str = "deepj survey answers";
pub(super) const VERSION: u32 = 1;
/// What listeners may say of how familiar they are with classical music.
pub const FAMILIARITY: [&str; 4] = ["none", "some", "much", "musician"];
/// Surveys that are drawn of the listeners for an interval.
const DRAWS: usize = 10_000;
/// The seed of these draws.
const SEED: u64 = 0;
const OTHER: &str = "give files that the page of this survey saved, unchanged; --key names another survey's key";
const EDITED: &str = "ask the listener for the file as the page saved it";

/// The file of one listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answers {
    format: String,
    version: u32,
    /// That of the key.
    pub survey: String,
    /// A random name.
    pub listener: String,
    /// One of [`FAMILIARITY`], or nothing where it was not said.
    pub familiarity: String,
    /// One for each pair that was answered, in the order in which they were shown.
    pub answers: Vec<Answer>,
    /// CRC-32C of the rest in hexadecimal digits, by which files that were edited are noticed.
    crc32c: String,
}

/// What a listener chose of one pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The pair's name.
    pub pair: String,
    /// The clip that was shown first, and the other.
    pub first: String,
    /// See `first`.
    pub second: String,
    /// One of these.
    pub chosen: String,
    /// Milliseconds of each that were heard.
    pub heard: [u32; 2],
}

impl Answers {
    /// The checksum, as the page computes it: of each value in a line of its own, and those of an answer in one line.
    pub fn checksum(&self) -> String {
        let Self { format, version, survey, listener, familiarity, .. } = self;
        let mut text = format!("{format}\n{version}\n{survey}\n{listener}\n{familiarity}\n");
        for Answer { pair, first, second, chosen, heard } in &self.answers {
            text.push_str(&format!("{pair} {first} {second} {chosen} {} {}\n", heard[0], heard[1]));
        }
        format!("{:08x}", crc32c::crc32c(text.as_bytes()))
    }

    /// Reads the file at `path`.
    ///
    /// # Errors
    /// The file cannot be read, and those of [`Answers::parse`].
    pub fn read(path: &Path, key: &Key) -> Result<Self> {
        Self::parse(path, &read_bounded(path, MAX_BYTES, OTHER)?, key)
    }

    /// Reads the content of a file; `path` is for errors only.
    ///
    /// # Errors
    /// What is no file of answers, or one that was changed, of another survey, or without answers.
    pub fn parse(path: &Path, bytes: &[u8], key: &Key) -> Result<Self> {
        let answers: Self = serde_json::from_slice(bytes)
            .map_err(|e| Error::file(path, format!("is not a file of answers: {e}"), OTHER))?;
        if answers.format != FORMAT || answers.version != VERSION {
            let (format, version) = (&answers.format, answers.version);
            let what = format!("is `{format}`, version {version}, not `{FORMAT}`, version {VERSION}");
            return Err(Error::file(path, what, OTHER));
        }
        if answers.survey != key.survey {
            let what = format!("is of the survey {}, and the key of {}", answers.survey, key.survey);
            return Err(Error::file(path, what, OTHER));
        }
        // What does not fit says more than the checksum, so it is looked at first.
        answers.check(key).map_err(|what| Error::file(path, what, EDITED))?;
        let checksum = answers.checksum();
        if checksum != answers.crc32c {
            let what = format!("was edited: its checksum is {checksum}, and it says {}", answers.crc32c);
            return Err(Error::file(path, what, EDITED));
        }
        if answers.answers.is_empty() {
            return Err(Error::file(path, "holds no answers", "leave it out"));
        }
        Ok(answers)
    }

    /// What is wrong with it.
    fn check(&self, key: &Key) -> std::result::Result<(), String> {
        if !self.familiarity.is_empty() && !FAMILIARITY.contains(&&*self.familiarity) {
            let known = FAMILIARITY.join(", ");
            return Err(format!("says `{}` of familiarity; there is {known}, or nothing", self.familiarity));
        }
        let mut seen = BTreeSet::new();
        for (i, Answer { pair, first, second, chosen, .. }) in self.answers.iter().enumerate() {
            let number = i + 1;
            let Some(known) = key.pair(pair) else {
                return Err(format!("answer {number}: the survey has no pair `{pair}`"));
            };
            if !seen.insert(pair) {
                return Err(format!("answer {number}: the pair `{pair}` is answered twice"));
            }
            if let Some(clip) = [first, second].into_iter().find(|clip| known.side(clip).is_none()) {
                return Err(format!("answer {number}: the clip `{clip}` is not of the pair `{pair}`"));
            }
            if first == second {
                return Err(format!("answer {number}: both clips are `{first}`"));
            }
            if chosen != first && chosen != second {
                return Err(format!("answer {number}: `{chosen}` is chosen of `{first}` and `{second}`"));
            }
        }
        Ok(())
    }
}

/// Reads all files. The second list is of those that do not count, and why: those that [`Answers::read`] refuses, and where a
/// listener's answers are in several files all but the fullest.
pub fn read_answers(key: &Key, files: &[PathBuf]) -> (Vec<Answers>, Vec<Error>) {
    let (mut counted, mut errors): (Vec<(&PathBuf, Answers)>, Vec<Error>) = (vec![], vec![]);
    for file in files {
        let mut next = match Answers::read(file, key) {
            Ok(answers) => (file, answers),
            Err(e) => {
                errors.push(e);
                continue;
            }
        };
        let Some(other) = counted.iter_mut().find(|(_, other)| other.listener == next.1.listener) else {
            counted.push(next);
            continue;
        };
        if next.1.answers.len() > other.1.answers.len() {
            std::mem::swap(other, &mut next);
        }
        let (listener, fuller) = (&other.1.listener, other.0.display());
        let what = match next.1 == other.1 {
            true => format!("holds the same answers as {fuller}"),
            false => format!("is of the listener {listener}, as is {fuller}, which counts and holds no fewer answers"),
        };
        errors.push(Error::file(next.0, what, "give one file of each listener"));
    }
    (counted.into_iter().map(|(_, answers)| answers).collect(), errors)
}

/// How often one of two was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Preference {
    /// How often it was chosen.
    pub chosen: u64,
    /// Of how many answers.
    pub answers: u64,
    /// Its share, 0..=1.
    pub share: f64,
    /// The 95 % score interval of the share (Wilson 1927).
    pub interval: [f64; 2],
    /// Two-sided p of the exact binomial test against a half.
    pub p: f64,
}

impl Preference {
    /// So many of `answers`, at least one.
    pub fn of(chosen: u64, answers: u64) -> Self {
        let (interval, p) = (wilson(chosen, answers), binomial_p(chosen, answers));
        Self { chosen, answers, share: chosen as f64 / answers as f64, interval, p }
    }

    /// How often `choice` is true of these; `None` of no answers.
    fn over<'a>(answers: impl Iterator<Item = &'a Answer>, choice: impl Fn(&Answer) -> bool) -> Option<Self> {
        let (chosen, all) = answers.fold((0, 0), |(chosen, all), answer| (chosen + u64::from(choice(answer)), all + 1));
        (all > 0).then(|| Self::of(chosen, all))
    }
}

/// What the paper's survey found: DeepJ over the Biaxial LSTM.
pub fn paper() -> Preference {
    Preference::of(210, 300)
}

/// What came of one pair.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PairScore {
    /// Its name.
    pub pair: String,
    /// The files of both sides.
    pub files: [String; 2],
    /// How often the first side's was chosen; none where nobody answered.
    pub preference: Option<Preference>,
}

/// What came of a survey. Preferences are for the first side.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// The key's.
    pub survey: String,
    /// What was asked.
    pub question: String,
    /// The sides.
    pub names: [String; 2],
    /// Listeners who answered.
    pub listeners: usize,
    /// How often the first side was chosen.
    pub preference: Preference,
    /// The 95 % interval of the share where listeners are drawn, not answers (percentiles of a bootstrap, Efron 1979); none of
    /// fewer than two.
    pub over_listeners: Option<[f64; 2]>,
    /// How often the clip was chosen that was shown first, whoever's it was.
    pub shown_first: Preference,
    /// The preference of listeners by what they said of their familiarity with classical music.
    pub familiarity: BTreeMap<String, Preference>,
    /// Each pair.
    pub pairs: Vec<PairScore>,
}

/// What these answers to the survey with `key` say.
///
/// # Errors
/// There are no answers.
pub fn score(key: &Key, answers: &[Answers]) -> Result<Score> {
    let is_first_side = |answer: &Answer| key.pair(&answer.pair).and_then(|pair| pair.side(&answer.chosen)) == Some(0);
    let all = || answers.iter().flat_map(|answers| &answers.answers);
    let none = || Error::run("there are no answers", "give the files that the survey's page saved");
    let familiar = |name: &&str| {
        let theirs = answers.iter().filter(|answers| answers.familiarity == **name);
        let preference = Preference::over(theirs.flat_map(|answers| &answers.answers), is_first_side)?;
        Some((name.to_string(), preference))
    };
    let listeners: Vec<[u64; 2]> = answers
        .iter()
        .map(|answers| {
            let chosen = answers.answers.iter().filter(|answer| is_first_side(answer)).count();
            [chosen as u64, answers.answers.len() as u64]
        })
        .collect();
    let pairs = key.pairs.iter().map(|pair| PairScore {
        pair: pair.pair.clone(),
        files: pair.clips.each_ref().map(|clip| clip.file.clone()),
        preference: Preference::over(all().filter(|answer| answer.pair == pair.pair), is_first_side),
    });
    Ok(Score {
        survey: key.survey.clone(),
        question: key.question.clone(),
        names: key.names.clone(),
        listeners: answers.len(),
        preference: Preference::over(all(), is_first_side).ok_or_else(none)?,
        over_listeners: bootstrap(&listeners),
        shown_first: Preference::over(all(), |answer| answer.chosen == answer.first).ok_or_else(none)?,
        familiarity: FAMILIARITY.iter().filter_map(familiar).collect(),
        pairs: pairs.collect(),
    })
}

/// The 95 % percentile interval of the share over draws of as many listeners, each of whom chose so many of so many answers.
fn bootstrap(listeners: &[[u64; 2]]) -> Option<[f64; 2]> {
    if listeners.len() < 2 {
        return None;
    }
    let mut random = SplitMix64::new(SEED, 0);
    let mut draw = || {
        let drawn = (0..listeners.len()).map(|_| listeners[random.below(listeners.len())]);
        let [chosen, all] = drawn.fold([0, 0], |sum, listener| [sum[0] + listener[0], sum[1] + listener[1]]);
        chosen as f64 / all as f64
    };
    let shares = sorted(&(0..DRAWS).map(|_| draw()).collect::<Vec<_>>());
    Some([quantile(&shares, 0.025), quantile(&shares, 0.975)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_papers_interval_is_wilsons() {
        // 70 % +- 5.16 %, it says.
        let Preference { share, interval: [low, high], p, .. } = paper();
        assert!((share - 0.7).abs() < 1e-12 && p < 1e-11);
        assert!(((high - low) / 2.0 - 0.0516).abs() < 5e-5, "{low} {high}");
    }

    #[test]
    fn the_bootstrap_draws_listeners() {
        assert_eq!(bootstrap(&[[3, 10]]), None);
        assert_eq!(bootstrap(&[[3, 10], [3, 10], [6, 20]]), Some([0.3, 0.3]), "all alike");
        // Two who never agree: 0, 1/2 and 1 are drawn with chances of 1/4, 1/2 and 1/4.
        assert_eq!(bootstrap(&[[0, 10], [10, 10]]), Some([0.0, 1.0]));
        // Of many listeners with one answer each it comes near the interval of the answers.
        let many: Vec<[u64; 2]> = (0..300).map(|i| [u64::from(i < 210), 1]).collect();
        let [low, high] = bootstrap(&many).unwrap();
        assert!((low - 0.648).abs() < 0.01 && (high - 0.752).abs() < 0.01, "{low} {high}");
    }
}
