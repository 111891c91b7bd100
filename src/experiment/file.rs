//! The file of an experiment: configurations by seeds under one budget, and the claims that they test.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::results::FILES;
use crate::checkpoint::StopConditions;
use crate::error::{nearest, nearest_expected};
use crate::files::{path_text, read_bounded};
use crate::generate::MAX_BARS;
use crate::train::{ResumeMode, TrainOptions};
use crate::{Error, Result};

/// The largest file that is read, in bytes; experiments take some thousand.
const MAX_BYTES: u64 = 1 << 20;

/// An experiment as its file describes it, checked as far as that is possible without the corpus and a device.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// Where the file is.
    pub path: PathBuf,
    /// What is in it.
    pub text: String,
    /// Its name, after which the folder of its runs is named.
    pub name: String,
    /// What it is about; stands above its tables.
    pub about: String,
    /// The corpus' folder; `None` for the pieces within the program.
    pub data: Option<PathBuf>,
    /// The seeds that each configuration is trained with.
    pub seeds: Vec<u32>,
    /// The configuration that the others are compared with.
    pub baseline: String,
    /// When each run stops.
    pub budget: Budget,
    /// What each run composes at its end.
    pub samples: Option<Samples>,
    /// What is compared, the settings of `[base]` among each one's own.
    pub configurations: Vec<Configuration>,
    /// What is claimed of them.
    pub claims: Vec<Claim>,
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    name: String,
    #[serde(default)]
    about: String,
    data: Option<PathBuf>,
    seeds: Vec<u32>,
    baseline: Option<String>,
    budget: Budget,
    #[serde(default)]
    base: Keys,
    samples: Option<Samples>,
    #[serde(rename = "configuration")]
    configurations: Vec<Keys>,
    #[serde(default, rename = "claim")]
    claims: Vec<Claim>,
}

/// What stands in a table, and where.
type Keys = BTreeMap<Spanned<String>, toml::Value>;

/// When a run stops, and how often it validates and saves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Budget {
    /// After so many updates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// After so many minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minutes: Option<f64>,
    /// Updates between validations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validate_every: Option<u64>,
    /// Updates between checkpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub save_every: Option<u64>,
}

/// What each run composes at its end with its best checkpoint.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Samples {
    /// Pieces of each genre.
    pub pieces: usize,
    /// Bars of a piece.
    pub bars: usize,
    /// As in [`crate::generate::Composition`].
    #[serde(default = "one")]
    pub temperature: f32,
}

fn one() -> f32 {
    1.0
}

/// What is compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Configuration {
    /// Its name in tables.
    pub name: String,
    /// The configuration whose models it takes: nothing is trained, only the samples differ.
    pub model_of: Option<String>,
    /// Whether silence raises the temperature of its samples; it does unless told otherwise.
    pub silence_temperature: Option<bool>,
    /// The settings of its training, as `deepj train` has them.
    pub training: TrainOptions,
}

/// What a configuration has beside the settings of a training.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct Own {
    name: String,
    model_of: Option<String>,
    silence_temperature: Option<bool>,
}

/// What is said of two configurations, to be held against what is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Claim {
    /// In words.
    pub text: String,
    /// The configuration of which it is said; the baseline unless named.
    #[serde(default)]
    pub configuration: String,
    /// The one that it is compared with.
    pub against: String,
    /// The figure.
    pub measure: String,
    /// How it is said to differ.
    pub expected: Direction,
}

/// On which side of another figure one lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Below it.
    Lower,
    /// Above it.
    Higher,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lower => "lower",
            Self::Higher => "higher",
        })
    }
}

/// One run: a configuration with a seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The configuration's place in the file.
    pub configuration: usize,
    /// The seed.
    pub seed: u32,
}

/// The longest name, in bytes: it becomes that of a folder.
const MOST_NAME: usize = 100;

impl Experiment {
    /// Reads the file at `path` and checks it.
    ///
    /// # Errors
    /// A file that cannot be read, a key that there is not (the nearest is named), no seeds, no budget, no configuration, or names
    /// that are missing, come twice or lead nowhere.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = read_bounded(path, MAX_BYTES, "name an experiment, a file in TOML")?;
        let text = String::from_utf8(bytes);
        let text = text.map_err(|_| Error::file(path, "is not text in UTF-8", "name an experiment, a file in TOML"))?;
        Self::parse(path, text)
    }

    /// The experiment in `text`; errors call it `path`, and what it names relative to itself is beside that.
    ///
    /// # Errors
    /// As [`Experiment::read`].
    pub fn parse(path: &Path, text: String) -> Result<Self> {
        let written = toml::from_str::<Written>(&text).map_err(|e| {
            let line = e.span().map(|span| 1 + text[..span.start].matches('\n').count());
            let place = line.map_or(String::new(), |line| format!("line {line}: "));
            let (what, remedy) = match nearest_expected(e.message()) {
                Some(remedy) => (e.message().split(", expected").next().unwrap_or_default(), remedy),
                None => (e.message(), SHOWN.into()),
            };
            wrong(path, format!("{place}{what}"), remedy)
        })?;
        let Written { name, about, data, seeds, baseline, budget, base, samples, configurations, mut claims } = written;
        let (of_base, _) = settings(path, &text, &base)?;
        if !of_base.name.is_empty() || of_base.model_of.is_some() {
            let remedy = "it holds what all configurations share; leave name and model-of out";
            return Err(wrong(path, "[base] is no configuration", remedy));
        }
        let of = |keys: &Keys| configuration(path, &text, keys, &base);
        let configurations = configurations.iter().map(of).collect::<Result<Vec<_>>>()?;
        let first = configurations.first().map_or(String::new(), |first| first.name.clone());
        let baseline = baseline.unwrap_or(first);
        for claim in &mut claims {
            if claim.configuration.is_empty() {
                claim.configuration.clone_from(&baseline);
            }
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        let data = data.map(|data| folder.join(data));
        let path = path.to_path_buf();
        let new = Self { path, text, name, about, data, seeds, baseline, budget, samples, configurations, claims };
        new.check()?;
        Ok(new)
    }

    fn check(&self) -> Result<()> {
        let wrong = |what: String, remedy: &str| Err(wrong(&self.path, what, remedy));
        if self.seeds.is_empty() {
            return wrong("there are no seeds".into(), "give some, such as seeds = [0, 1, 2]");
        }
        if let Some(seed) = self.seeds.iter().enumerate().find(|(i, seed)| self.seeds[..*i].contains(seed)) {
            return wrong(format!("seed {} comes twice", seed.1), "give each one once");
        }
        match (self.budget.steps, self.budget.minutes) {
            (Some(steps), None) if steps > 0 => {}
            (None, Some(minutes)) if minutes > 0.0 && minutes.is_finite() => {}
            (None, None) => return wrong("[budget] is of nothing".into(), "give steps or minutes"),
            (Some(_), Some(_)) => return wrong("[budget] has steps and minutes".into(), "give one of them"),
            _ => return wrong("[budget] is of nothing".into(), "give steps or minutes above 0"),
        }
        if let Some(samples) = &self.samples
            && (samples.pieces == 0 || samples.bars == 0 || samples.bars > MAX_BARS)
        {
            let remedy = format!("give at least 1 piece, and 1 to {MAX_BARS} bars; leave [samples] out for none");
            return wrong(format!("[samples] is of {} pieces of {} bars", samples.pieces, samples.bars), &remedy);
        }
        check_name(&self.path, "name", &self.name)?;
        self.check_configurations()?;
        self.known("baseline", &self.baseline)?;
        for claim in &self.claims {
            let of = format!("claim \"{}\"", claim.text);
            self.known(&of, &claim.configuration)?;
            self.known(&of, &claim.against)?;
            if claim.configuration == claim.against {
                return wrong(format!("{of} compares `{}` with itself", claim.against), "name two configurations");
            }
        }
        Ok(())
    }

    fn check_configurations(&self) -> Result<()> {
        let wrong = |what: String, remedy: &str| Err(wrong(&self.path, what, remedy));
        if self.configurations.is_empty() {
            return wrong("there is no [[configuration]]".into(), "give at least one");
        }
        for (i, configuration) in self.configurations.iter().enumerate() {
            let name = &configuration.name;
            check_name(&self.path, &format!("[[configuration]] number {}: name", i + 1), name)?;
            // Folders that differ in case only are one on some systems.
            let folder = |name: &str| folder_name(name).to_lowercase();
            if FILES.contains(&folder(name).as_str()) {
                let what = format!("configuration `{name}` has the name of a file in the experiment's folder");
                return wrong(what, "give it another name: its folder is there");
            }
            if let Some(other) = self.configurations[..i].iter().find(|other| folder(&other.name) == folder(name)) {
                let what = match other.name == *name {
                    true => format!("two configurations are named `{name}`"),
                    false => format!("configurations `{}` and `{name}` would have one folder", other.name),
                };
                return wrong(what, "give them different names");
            }
            if configuration.silence_temperature.is_some() && self.samples.is_none() {
                let what = format!("configuration `{name}` has `silence-temperature`, but nothing is composed");
                return wrong(what, "add [samples] with pieces and bars");
            }
            if let Some(origin) = &configuration.model_of {
                self.known(&format!("configuration `{name}`: model-of"), origin)?;
                if self.samples.is_none() || self.find(origin).is_none_or(|origin| origin.model_of.is_some()) {
                    let what = format!("configuration `{name}` has `model-of`, but it cannot differ from `{origin}`");
                    return wrong(what, "add [samples], and name a configuration that is trained");
                }
            }
        }
        Ok(())
    }

    /// Fails where there is no configuration of this name.
    fn known(&self, of: &str, name: &str) -> Result<()> {
        if self.find(name).is_some() {
            return Ok(());
        }
        let names = self.configurations.iter().map(|other| other.name.as_str()).collect::<BTreeSet<_>>();
        Err(wrong(&self.path, format!("{of}: there is no configuration `{name}`"), nearest(name, names)))
    }

    /// The configuration of this name.
    pub fn find(&self, name: &str) -> Option<&Configuration> {
        self.configurations.iter().find(|configuration| configuration.name == name)
    }

    /// All runs in the order in which they are made: seed by seed, so that there is something to compare soon, and a model before
    /// those who take it.
    pub fn runs(&self) -> Vec<Run> {
        let of = |seed: u32, trained: bool| {
            let numbered = self.configurations.iter().enumerate();
            let chosen = numbered.filter(move |(_, configuration)| configuration.model_of.is_none() == trained);
            chosen.map(move |(configuration, _)| Run { configuration, seed })
        };
        self.seeds.iter().flat_map(|&seed| of(seed, true).chain(of(seed, false))).collect()
    }

    /// What a run is asked to do, in this folder.
    pub fn options(&self, run: Run, out: Option<PathBuf>) -> TrainOptions {
        let of = &self.configurations[run.configuration];
        let Budget { steps, minutes, validate_every, save_every } = self.budget;
        TrainOptions {
            data: self.data.clone(),
            resume: if out.is_some() { ResumeMode::Auto } else { ResumeMode::Never },
            out,
            whole: true,
            seed: Some(run.seed),
            budget: StopConditions { steps, minutes, ..StopConditions::default() },
            validate_every,
            save_every,
            ..of.training.clone()
        }
    }

    /// What makes the runs: the program's version, and the command but for the device.
    pub fn made_by(&self) -> String {
        let data = self.data.as_ref().map_or(String::new(), |data| format!(" --data {}", path_text(data)));
        format!("deepj {}: `deepj experiment {}{data}`", env!("CARGO_PKG_VERSION"), path_text(&self.path))
    }

    /// What of the other makes other runs, if anything does: words, claims and the place of the corpus do not.
    pub fn difference(&self, other: &Self) -> Option<String> {
        if self.seeds != other.seeds {
            return Some("seeds".into());
        }
        if self.budget != other.budget {
            return Some("[budget]".into());
        }
        if self.samples != other.samples {
            return Some("[samples]".into());
        }
        let unlike = |configuration: &&Configuration| other.find(&configuration.name) != Some(*configuration);
        if let Some(changed) = self.configurations.iter().find(unlike) {
            return Some(format!("configuration `{}`", changed.name));
        }
        let gone = other.configurations.iter().find(|configuration| self.find(&configuration.name).is_none());
        gone.map(|gone| format!("configuration `{}`", gone.name))
    }
}

/// The configuration in a table, with what it leaves open taken from `base`.
fn configuration(path: &Path, text: &str, keys: &Keys, base: &Keys) -> Result<Configuration> {
    let (own, training) = settings(path, text, keys)?;
    if own.model_of.is_some() && training != TrainOptions::default() {
        let what = format!("configuration `{}` has settings of a training and `model-of`", own.name);
        return Err(wrong(path, what, "leave out one or the other: with `model-of` nothing is trained"));
    }
    let mut both = base.clone();
    // Another network has other fields.
    let model = |keys: &Keys| keys.iter().find(|(key, _)| key.get_ref() == "model").map(|(_, value)| value.clone());
    if model(keys).is_some_and(|own| Some(own) != model(base)) {
        both.retain(|key, _| key.get_ref() != "set");
    }
    for (key, value) in keys {
        match (both.get_mut(key), value) {
            // Fields of the network one by one.
            (Some(toml::Value::Table(of_base)), toml::Value::Table(own)) => of_base.extend(own.clone()),
            _ => drop(both.insert(key.clone(), value.clone())),
        }
    }
    let (own, training) = settings(path, text, &both)?;
    let Own { name, model_of, silence_temperature } = own;
    Ok(Configuration { name, model_of, silence_temperature, training })
}

/// What a table says, key by key, so that an error has the line of its key.
fn settings(path: &Path, text: &str, keys: &Keys) -> Result<(Own, TrainOptions)> {
    let (mut own, mut training) = (toml::Table::new(), toml::Table::new());
    for (key, value) in keys {
        let (name, place) = (key.get_ref(), key.span().start);
        let one = toml::Table::from_iter([(name.clone(), value.clone())]);
        let of_own = one.clone().try_into::<Own>();
        let of_training = one.try_into::<TrainOptions>();
        let unknown = |message: &str| message.starts_with("unknown field");
        let into = match (of_own, of_training) {
            (Ok(_), _) => &mut own,
            (_, Ok(_)) => &mut training,
            (Err(of_own), Err(of_training)) => {
                // It is of the one that knows the key; where neither does, settings of a training are meant.
                let e = if unknown(of_own.message()) { of_training } else { of_own };
                return Err(in_key(path, text, place, name, e.message()));
            }
        };
        into.insert(name.clone(), value.clone());
    }
    fn all<T: DeserializeOwned>(path: &Path, table: toml::Table) -> Result<T> {
        table.try_into().map_err(|e: toml::de::Error| wrong(path, e.message().to_owned(), SHOWN))
    }
    Ok((all(path, own)?, all(path, training)?))
}

/// The remedy of a file that cannot be made sense of.
const SHOWN: &str = "docs/EXPERIMENTS.md shows a whole file";

/// An error over a key, at a byte of the text.
fn in_key(path: &Path, text: &str, place: usize, key: &str, message: &str) -> Error {
    let line = 1 + text.get(..place).unwrap_or_default().matches('\n').count();
    match nearest_expected(message) {
        Some(remedy) => {
            let what = message.split(", expected").next().unwrap_or_default();
            wrong(path, format!("line {line}: {what}"), remedy)
        }
        None => wrong(path, format!("line {line}: {key}: {}", message.trim_end()), SHOWN),
    }
}

/// An error over what is in the file.
fn wrong(path: &Path, what: impl std::fmt::Display, remedy: impl Into<String>) -> Error {
    Error::usage(format!("{}: {what}", path.display()), remedy)
}

fn check_name(path: &Path, of: &str, name: &str) -> Result<()> {
    if folder_name(name).is_empty() || name.len() > MOST_NAME {
        let remedy = format!("give it letters or digits, at most {MOST_NAME} bytes: a folder is named after it");
        return Err(wrong(path, format!("{of} is `{name}`"), remedy));
    }
    Ok(())
}

/// The name of a folder for what has this name.
pub fn folder_name(name: &str) -> String {
    let kept = |c: char| if c.is_alphanumeric() || "-_+=.".contains(c) { c } else { '-' };
    name.chars().map(kept).collect::<String>().trim_matches(['-', '.']).into()
}
