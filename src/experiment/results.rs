//! What came of an experiment, and its files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::file::{Budget, Claim, Experiment, Run, folder_name};
use super::samples::FIGURES;
use super::table;
use crate::files::{read_bounded, refused, write_whole};
use crate::models::LossWeights;
use crate::{Error, Result};

/// The largest file of results that is read, in bytes; a run takes about a thousand.
pub(super) const MAX_BYTES: u64 = 64 << 20;

/// All results of an experiment, in the folder of its runs, as JSON.
pub const RESULTS: &str = "results.json";
/// The tables as Markdown.
const MARKDOWN: &str = "results.md";
/// The tables as CSV.
const CSV: &str = "results.csv";
/// The file of the experiment as its runs were begun.
const COPY: &str = "experiment.toml";
/// The result of a run, in its own folder: its presence says that the run is done.
const RESULT: &str = "result.json";

/// The files in the folder of an experiment.
pub const FILES: [&str; 4] = [RESULTS, MARKDOWN, CSV, COPY];

/// What came of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// The configuration's name.
    pub configuration: String,
    /// The seed.
    pub seed: u32,
    /// Why it has no figures, where it has none: a training that diverged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The update of the best validation, whose model was measured.
    pub best_update: Option<u64>,
    /// Parameters of the model.
    pub parameters: usize,
    /// What computed.
    pub device: String,
    /// The corpus' fingerprint.
    pub corpus: String,
    /// Training and validation pieces.
    pub pieces: [usize; 2],
    /// What the rolls of the pieces are: pitches, pedal and seed of the split. Validation figures of other rolls cannot be compared.
    pub rolls: String,
    /// How much losses count in `loss`; once where it is not said.
    #[serde(default, skip_serializing_if = "LossWeights::is_empty")]
    pub loss_weights: LossWeights,
    /// The day on which it ended (UTC).
    pub date: String,
    /// Updates, seconds and GFLOP of the training.
    pub cost: BTreeMap<String, f64>,
    /// Losses of the best validation, and `style_effect` where the model has styles.
    pub validation: BTreeMap<String, f64>,
    /// Figures of what the best model composed.
    pub samples: BTreeMap<String, f64>,
}

/// The names in [`RunResult::cost`], in the order of tables.
pub const COSTS: [&str; 5] = ["updates", "seconds", "seconds_per_update", "gflop", "parameters"];

/// Nats a time step that validation loses where each piece is said to be by another composer: how much the model makes of styles.
pub const STYLE_EFFECT: &str = "style_effect";

impl RunResult {
    /// Whether both have measured the same by a figure of this name, so that one's can be held against the other's.
    pub fn is_like(&self, other: &Self, measure: &str) -> bool {
        let of_validation = |run: &Self| run.validation.contains_key(measure);
        if !of_validation(self) || !of_validation(other) {
            return true;
        }
        // A sum is of the same losses or of others.
        let names =
            |run: &Self| run.validation.keys().filter(|name| *name != STYLE_EFFECT).cloned().collect::<Vec<_>>();
        let same_sum = || names(self) == names(other) && self.loss_weights == other.loss_weights;
        self.rolls == other.rolls && (measure != LOSS || same_sum())
    }

    /// A figure by name.
    pub fn get(&self, measure: &str) -> Option<f64> {
        [&self.validation, &self.samples, &self.cost].into_iter().find_map(|of| of.get(measure)).copied()
    }
}

/// The sum of a model's losses.
const LOSS: &str = "loss";

/// What came of the runs of an experiment so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// The experiment's name.
    pub name: String,
    /// What it is about.
    pub about: String,
    /// The configurations, in the order of tables.
    pub configurations: Vec<String>,
    /// The one that the others are compared with.
    pub baseline: String,
    /// The seeds.
    pub seeds: Vec<u32>,
    /// The budget of each run.
    pub budget: Budget,
    /// What made the runs: the program's version, and the command but for the device.
    pub made_by: String,
    /// What is claimed of the configurations.
    pub claims: Vec<Claim>,
    /// The runs that are done.
    pub runs: Vec<RunResult>,
}

/// As it is written: what can be computed of it is there for others to read.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(flatten)]
    results: &'a Results,
    table: Vec<table::Row>,
}

impl Results {
    /// Those in the file at `path`.
    ///
    /// # Errors
    /// A file that cannot be read, or holds something else, or one seed or run twice.
    pub fn read(path: &Path) -> Result<Self> {
        let remedy = "name a results.json that `deepj experiment` has written";
        Self::parse(path, &read_bounded(path, MAX_BYTES, remedy)?, remedy)
    }

    /// Those in the bytes of the file at `path`.
    pub(super) fn parse(path: &Path, bytes: &[u8], remedy: &str) -> Result<Self> {
        let results: Self = parse_json(path, bytes, remedy)?;
        let twice = |text: String| Err(Error::file(path, format!("{text} comes twice"), remedy));
        if let Some(i) = (0..results.seeds.len()).find(|&i| results.seeds[..i].contains(&results.seeds[i])) {
            return twice(format!("seed {}", results.seeds[i]));
        }
        let same = |a: &RunResult, b: &RunResult| (&a.configuration, a.seed) == (&b.configuration, b.seed);
        let runs = &results.runs;
        match (0..runs.len()).find(|&i| runs[..i].iter().any(|run| same(run, &runs[i]))) {
            Some(i) => twice(format!("the run of `{}` with seed {}", runs[i].configuration, runs[i].seed)),
            None => Ok(results),
        }
    }

    /// Those of the runs in the folder `out` that are done. No run is made.
    ///
    /// # Errors
    /// A folder without runs, or with those of another experiment; a file that cannot be read.
    pub fn gather(experiment: &Experiment, out: &Path) -> Result<Self> {
        check_copy(experiment, out)?;
        let mut results = Self::empty(experiment);
        for run in experiment.runs() {
            results.runs.extend(read_result(experiment, out, run)?);
        }
        Ok(results)
    }

    /// Before the first run.
    fn empty(experiment: &Experiment) -> Self {
        Self {
            name: experiment.name.clone(),
            about: experiment.about.trim().into(),
            configurations: experiment.configurations.iter().map(|of| of.name.clone()).collect(),
            baseline: experiment.baseline.clone(),
            seeds: experiment.seeds.clone(),
            budget: experiment.budget.clone(),
            made_by: experiment.made_by(),
            claims: experiment.claims.clone(),
            runs: vec![],
        }
    }

    /// How many runs there will be.
    pub fn planned(&self) -> usize {
        self.configurations.len() * self.seeds.len()
    }

    /// Replaces the experiment's files in the folder `out`.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn write(&self, out: &Path) -> Result<()> {
        write_whole(&out.join(RESULTS), self.to_json()?.as_bytes())?;
        write_whole(&out.join(CSV), table::csv(self)?.as_bytes())?;
        write_whole(&out.join(MARKDOWN), table::markdown(self).as_bytes())
    }

    /// The content of a [`RESULTS`] file.
    ///
    /// # Errors
    /// A figure that JSON has no number for.
    pub fn to_json(&self) -> Result<String> {
        to_json(&Written { results: self, table: table::rows(self) })
    }

    /// The result of a configuration with a seed.
    pub fn find(&self, configuration: &str, seed: u32) -> Option<&RunResult> {
        self.runs.iter().find(|run| run.configuration == configuration && run.seed == seed)
    }

    /// A configuration's figures of all seeds that have one.
    pub fn values(&self, configuration: &str, measure: &str) -> Vec<f64> {
        let of = |&seed: &u32| self.find(configuration, seed)?.get(measure);
        self.seeds.iter().filter_map(of).collect()
    }

    /// How much a configuration's figure differs from that of another with the same seed, for all seeds that have both; none where
    /// the figures do not mean the same.
    pub fn differences(&self, configuration: &str, against: &str, measure: &str) -> Vec<f64> {
        let of = |&seed: &u32| {
            let (one, other) = (self.find(configuration, seed)?, self.find(against, seed)?);
            let difference = one.get(measure)? - other.get(measure)?;
            one.is_like(other, measure).then_some(difference)
        };
        self.seeds.iter().filter_map(of).collect()
    }

    /// How many runs of these two configurations failed.
    pub fn failures(&self, configuration: &str, against: &str) -> usize {
        let of_either = |run: &&RunResult| [configuration, against].contains(&run.configuration.as_str());
        self.runs.iter().filter(of_either).filter(|run| run.failure.is_some()).count()
    }

    /// The names of all figures, in the order of tables: likelihoods by which models are compared before other losses.
    pub fn measures(&self) -> Vec<String> {
        let mut losses: Vec<&String> = self.runs.iter().flat_map(|run| run.validation.keys()).collect();
        losses.sort_by_key(|name| (!name.ends_with("_nats_per_step"), *name));
        losses.dedup();
        let composed = self.runs.iter().any(|run| !run.samples.is_empty());
        let figures = FIGURES.iter().map(|(name, _)| *name).filter(|_| composed);
        losses.into_iter().map(String::as_str).chain(figures).chain(COSTS).map(String::from).collect()
    }
}

/// The folder of a run in that of its experiment.
pub fn run_folder(experiment: &Experiment, out: &Path, run: Run) -> PathBuf {
    let name = folder_name(&experiment.configurations[run.configuration].name);
    out.join(name).join(format!("seed-{}", run.seed))
}

/// The result of a run, if it is done.
///
/// # Errors
/// A file that cannot be read, or that something else has written.
pub fn read_result(experiment: &Experiment, out: &Path, run: Run) -> Result<Option<RunResult>> {
    let path = run_folder(experiment, out, run).join(RESULT);
    match path.try_exists().map_err(|e| refused(&path, "read", &e))? {
        true => read_json(&path, "remove it: the run goes on from its last checkpoint and writes it again").map(Some),
        false => Ok(None),
    }
}

/// Writes the result of a run, which is done by that.
///
/// # Errors
/// What the file system refuses.
pub fn write_result(experiment: &Experiment, out: &Path, run: Run, result: &RunResult) -> Result<()> {
    write_whole(&run_folder(experiment, out, run).join(RESULT), to_json(result)?.as_bytes())
}

/// Fails where the runs in `out` are of another experiment than the file describes now, or of none.
fn check_copy(experiment: &Experiment, out: &Path) -> Result<()> {
    let path = out.join(COPY);
    let copy = Experiment::read(&path)?;
    match copy.difference(experiment) {
        Some(changed) => Err(Error::usage(
            format!(
                "{}: {changed} is not what the runs in {} were begun with",
                experiment.path.display(),
                out.display()
            ),
            format!("change it back ({} holds what it was), or name another folder with --out", path.display()),
        )),
        None => Ok(()),
    }
}

/// Begins in the folder `out`, or finds the experiment there that it goes on with.
///
/// # Errors
/// See [`check_copy`], or what the file system refuses.
pub fn begin(experiment: &Experiment, out: &Path) -> Result<()> {
    let path = out.join(COPY);
    if path.try_exists().map_err(|e| refused(&path, "read", &e))? {
        check_copy(experiment, out)?;
    }
    write_whole(&path, experiment.text.as_bytes())
}

fn read_json<T: for<'a> Deserialize<'a>>(path: &Path, remedy: &str) -> Result<T> {
    parse_json(path, &read_bounded(path, MAX_BYTES, remedy)?, remedy)
}

fn parse_json<T: for<'a> Deserialize<'a>>(path: &Path, bytes: &[u8], remedy: &str) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| Error::file(path, format!("holds no results: {e}"), remedy))
}

fn to_json(value: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(value);
    Ok(text.map_err(|e| Error::run(format!("the results cannot be written as JSON: {e}"), ""))? + "\n")
}
