//! Runs beside each other: what each was, how far it came, and the learning curves in one picture.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::{BESIDE, BEST, CURVE, LAST};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result, nearest};
use crate::files::{open_ordinary, path_text, refused, serialize_path};
use crate::models::Loss;

/// The longest line of a curve that is read, in bytes; a line takes about 400.
const LONGEST_LINE: u64 = 1 << 16;

/// Along which axis curves are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Over {
    /// Updates.
    #[default]
    Updates,
    /// Seconds of training.
    Seconds,
    /// Times through the training pieces.
    Epochs,
}

impl Over {
    /// Its name in lines of a curve, and for people.
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Updates => ("step", "updates"),
            Self::Seconds => ("seconds", "seconds"),
            Self::Epochs => ("epochs", "epochs"),
        }
    }
}

impl std::str::FromStr for Over {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let all = [Self::Updates, Self::Seconds, Self::Epochs];
        let found = all.into_iter().find(|over| over.names().1 == text);
        found.ok_or_else(|| Error::usage(format!("`{text}` is no axis"), "give updates, seconds or epochs"))
    }
}

/// The figures of updates or validations, each as a column; not a number where a line does not have it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lines {
    columns: BTreeMap<String, Vec<f64>>,
    count: usize,
}

impl Lines {
    /// The values of a figure, one a line; none where no line has it.
    pub fn column(&self, name: &str) -> &[f64] {
        self.columns.get(name).map_or(&[], Vec::as_slice)
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The names of the figures of the model.
    fn figures(&self) -> impl Iterator<Item = &str> {
        self.columns.keys().map(String::as_str).filter(|name| !BESIDE.contains(name))
    }

    fn push(&mut self, figures: impl Iterator<Item = (String, f64)>) {
        for (name, value) in figures {
            let column = self.columns.entry(name).or_default();
            column.resize(self.count, f64::NAN);
            column.push(value);
        }
        self.count += 1;
        self.columns.values_mut().for_each(|column| column.resize(self.count, f64::NAN));
    }

    /// The line of this number by the names of its figures, without those that it does not have.
    fn line(&self, i: usize) -> BTreeMap<String, f64> {
        let of = |(name, column): (&String, &Vec<f64>)| Some((name.clone(), column[i])).filter(|(_, x)| x.is_finite());
        self.columns.iter().filter_map(of).collect()
    }
}

/// A run as its folder tells of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Run {
    /// Its folder.
    #[serde(serialize_with = "serialize_path")]
    pub folder: PathBuf,
    /// The model's name.
    pub model: String,
    /// Numbers that were learned.
    pub parameters: usize,
    /// What computed.
    pub device: String,
    /// Updates so far.
    pub updates: u64,
    /// Times through the training pieces.
    pub epochs: f64,
    /// Seconds of training.
    pub seconds: f64,
    /// The validation of the lowest loss, of which `best.safetensors` is.
    pub best: Option<BTreeMap<String, f64>>,
    /// The likelihood by which models of this kind are compared, by its name in curves.
    #[serde(skip)]
    likelihood: Option<&'static str>,
    /// What `loss` is the sum of.
    #[serde(skip)]
    losses: &'static [Loss],
    /// Corpus, split, configuration and settings, each by its name.
    pub settings: BTreeMap<String, Value>,
    /// Updates.
    #[serde(skip)]
    pub training: Lines,
    /// Validations.
    #[serde(skip)]
    pub validations: Lines,
    /// Lines of the curve that could not be read.
    pub unreadable: usize,
}

/// Settings that decide what validation is of: figures of other pieces, or other rolls of them, cannot be compared.
const OF_PIECES: [&str; 6] = ["corpus", "split_seed", "lowest", "notes", "pedal", "flat_dynamics"];

impl Run {
    /// The run in a folder, also of one that is going on.
    ///
    /// # Errors
    /// A folder without a checkpoint or a curve, a damaged checkpoint, or a curve without a line that can be read.
    pub fn read(folder: &Path) -> Result<Self> {
        let file = [LAST, BEST].map(|name| folder.join(name)).into_iter().find(|path| path.exists());
        let remedy = "name the folder of a run, such as runs/first, in which `deepj train` has saved a checkpoint";
        let none = || Error::file(folder, format!("there is neither a {LAST} nor a {BEST}"), remedy);
        let Checkpoint { model, corpus, settings, progress, split, .. } = Checkpoint::load(file.ok_or_else(none)?)?;
        let Curve { training, validations, unreadable } = Curve::read(&folder.join(CURVE))?;
        if training.is_empty() && validations.is_empty() {
            let what = format!("{CURVE} has no line that can be read");
            return Err(Error::file(folder, what, "leave the run out, or train it again"));
        }
        let losses = validations.column("loss").iter().enumerate().filter(|(_, loss)| loss.is_finite());
        let best = losses.min_by(|a, b| a.1.total_cmp(b.1)).map(|(i, _)| validations.line(i));
        let likelihood = model.losses().iter().find(|loss| loss.is_likelihood()).and_then(|loss| loss.nats_per_step);
        let mut all = flat("", &serde_json::from_str(&model.config()).unwrap_or_default());
        all.extend(flat("", &serde_json::json!(settings)));
        let cursor = &progress.cursor;
        all.extend(flat(
            "",
            &serde_json::json!({
                "corpus": format!("{:08x}", corpus.fingerprint), "split_seed": split.seed, "pedal": corpus.pedal,
                "flat_dynamics": corpus.flat_dynamics, "transpose": cursor.transpose, "balance": cursor.balance,
                "model": model.architecture(),
            }),
        ));
        // What is not set says nothing.
        all.retain(|_, value| !value.is_null());
        Ok(Self {
            folder: folder.into(),
            model: model.architecture().into(),
            parameters: model.layout().elements(),
            device: progress.device,
            updates: progress.step,
            epochs: progress.epochs,
            seconds: progress.seconds,
            best,
            likelihood,
            losses: model.losses(),
            settings: all,
            training,
            validations,
            unreadable,
        })
    }
}

/// A learning curve in memory: 8 bytes a number.
#[derive(Debug, Default, PartialEq)]
struct Curve {
    training: Lines,
    validations: Lines,
    unreadable: usize,
}

impl Curve {
    fn read(path: &Path) -> Result<Self> {
        let remedy = "name the folder of a run that `deepj train` has written";
        let file = open_ordinary(path, remedy)?;
        Self::parse(BufReader::new(file)).map_err(|e| refused(path, "read", &e))
    }

    fn parse(mut from: impl BufRead) -> io::Result<Self> {
        let (mut curve, mut line) = (Self::default(), vec![]);
        loop {
            line.clear();
            from.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)?;
            // A run that goes on may be in the middle of a line, which is none yet.
            match line.last() {
                Some(b'\n') => curve.add(&line),
                Some(_) if line.len() as u64 == LONGEST_LINE => curve.unreadable += 1,
                _ => return Ok(curve),
            }
        }
    }

    fn add(&mut self, line: &[u8]) {
        if line.trim_ascii().is_empty() {
            return;
        }
        let fields = match serde_json::from_slice(line) {
            Ok(Value::Object(fields)) => fields,
            _ => serde_json::Map::new(),
        };
        let to = match fields.get("kind").and_then(Value::as_str) {
            Some("train") => &mut self.training,
            Some("validation") => &mut self.validations,
            Some("end") => return,
            _ => {
                self.unreadable += 1;
                return;
            }
        };
        // JSON has no infinity: a loss that is none is null.
        let number = |value: &Value| value.as_f64().or(value.is_null().then_some(f64::NAN));
        let numbers = || fields.iter().filter_map(|(name, value)| Some((name.clone(), number(value)?)));
        let has = |name: &&str| fields.get(*name).and_then(number).is_some();
        match ["step", "loss", "seconds", "epochs"].iter().all(has) {
            true => to.push(numbers()),
            false => self.unreadable += 1,
        }
    }
}

/// The leaves of a JSON object by their names, those of objects within it behind that object's.
fn flat(prefix: &str, value: &Value) -> BTreeMap<String, Value> {
    let Value::Object(fields) = value else { return BTreeMap::new() };
    let mut leaves = BTreeMap::new();
    for (name, value) in fields {
        match value {
            Value::Object(_) => leaves.extend(flat(&format!("{prefix}{name}."), value)),
            value => {
                leaves.insert(format!("{prefix}{name}"), value.clone());
            }
        }
    }
    leaves
}

/// Runs that can be compared, and by what.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// In the order in which they were named.
    pub runs: Vec<Run>,
    /// A figure that the curves of all have.
    pub measure: String,
    /// Settings that are not the same in all runs.
    pub differing: Vec<String>,
    /// What makes figures of one name mean something else in some run.
    pub notes: Vec<String>,
}

impl Comparison {
    /// The runs in these folders by this measure, or by the likelihood where all have the same one, else by the loss.
    ///
    /// # Errors
    /// A folder that is none of a run, one that is named twice, or a measure that not all curves have.
    pub fn read(folders: &[PathBuf], measure: Option<&str>) -> Result<Self> {
        for (i, folder) in folders.iter().enumerate() {
            if folders[..i].iter().any(|other| same_file::is_same_file(other, folder).unwrap_or(false)) {
                return Err(Error::usage(format!("{} is named twice", path_text(folder)), "name each run once"));
            }
        }
        let runs = folders.iter().map(|folder| Run::read(folder)).collect::<Result<Vec<_>>>()?;
        // Of a run without a validation, what it learns by.
        let known = |run: &Run| -> BTreeSet<String> {
            let lines = if run.validations.is_empty() { &run.training } else { &run.validations };
            lines.figures().map(String::from).collect()
        };
        let likelihood = runs.first().and_then(|run| run.likelihood);
        let shared = runs.iter().map(known).reduce(|a, b| &a & &b).unwrap_or_default();
        let chosen = measure.or(likelihood.filter(|name| shared.contains(*name))).unwrap_or("loss");
        if let Some(run) = runs.iter().find(|run| !known(run).contains(chosen)) {
            let what = format!("{}: the curve has no `{chosen}`", path_text(&run.folder));
            return Err(Error::usage(what, nearest(chosen, shared.iter().map(String::as_str).collect())));
        }
        let names: BTreeSet<&String> = runs.iter().flat_map(|run| run.settings.keys()).collect();
        let differs = |name: &&String| runs.iter().any(|run| run.settings.get(*name) != runs[0].settings.get(*name));
        let differing: Vec<String> = names.into_iter().filter(differs).cloned().collect();
        let notes = notes(&runs, &differing, chosen);
        Ok(Self { measure: chosen.into(), differing, notes, runs })
    }

    /// What tells a run from the others, such as `dropout=0.3 seed=2`: settings in which it is not as more than half of them are.
    pub fn difference(&self, run: &Run) -> String {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), String::from);
        let is_usual = |name: &String| {
            let alike = self.runs.iter().filter(|other| other.settings.get(name) == run.settings.get(name));
            2 * alike.count() > self.runs.len()
        };
        let told = self.differing.iter().filter(|name| !is_usual(name));
        let of = |name: &String| Some(format!("{name}={}", text(run.settings.get(name)?)));
        told.filter_map(of).collect::<Vec<_>>().join(" ")
    }
}

/// What a run's `loss` is the sum of: the losses, and those weights that are not 1.
fn sum_of(run: &Run) -> (&'static [Loss], Vec<(&String, &Value)>) {
    (run.losses, run.settings.iter().filter(|(name, _)| name.starts_with("loss_weights")).collect())
}

fn notes(runs: &[Run], differing: &[String], measure: &str) -> Vec<String> {
    let mut notes = vec![];
    let of_pieces: Vec<&str> =
        OF_PIECES.into_iter().filter(|name| differing.iter().any(|other| other == name)).collect();
    if !of_pieces.is_empty() {
        let what = of_pieces.join(", ");
        notes.push(format!(
            "validations are of other pieces, or of other rolls of them, and cannot be compared: {what}"
        ));
    }
    let sums: Vec<_> = runs.iter().map(sum_of).collect();
    if measure == "loss" && sums.iter().any(|of| *of != sums[0]) {
        notes.push("`loss` is the sum of other losses, or of losses with other weights, and cannot be compared".into());
    }
    for run in runs.iter().filter(|run| run.unreadable > 0) {
        notes.push(format!("{}: unreadable lines of the curve: {}", path_text(&run.folder), run.unreadable));
    }
    for run in runs.iter().filter(|run| run.validations.is_empty()) {
        notes.push(format!("{}: not validated yet", path_text(&run.folder)));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_that_is_being_written_is_read_as_far_as_it_is_whole() {
        let line = |kind: &str, step: u32, loss: &str| {
            format!("{{\"kind\":\"{kind}\",\"step\":{step},\"epochs\":0.5,\"loss\":{loss},\"seconds\":2.0}}\n")
        };
        let text = [
            line("train", 1, "0.5"),
            "broken\n".into(),
            "{\"kind\":\"other\"}\n".into(),
            line("validation", 1, "null"),
            "{\"kind\":\"end\",\"step\":1}\n".into(),
            "{\"kind\":\"tra".into(),
        ];
        let curve = Curve::parse(text.concat().as_bytes()).unwrap();
        assert_eq!((curve.training.len(), curve.validations.len(), curve.unreadable), (1, 1, 2));
        assert_eq!(curve.training.column("loss"), [0.5]);
        assert!(curve.validations.column("loss")[0].is_nan() && curve.validations.line(0).len() == 3);
        let long = format!("{}\n{}", "x".repeat(70_000), line("train", 1, "0.5"));
        let curve = Curve::parse(long.as_bytes()).unwrap();
        assert_eq!((curve.training.len(), curve.unreadable), (1, 2), "read in parts");
    }

    #[test]
    fn a_line_may_have_figures_that_others_do_not() {
        let mut lines = Lines::default();
        lines.push([("a".to_string(), 1.0)].into_iter());
        lines.push([("b".to_string(), 2.0)].into_iter());
        assert!(lines.column("a")[1].is_nan() && lines.column("b")[0].is_nan() && lines.column("c").is_empty());
        assert_eq!((lines.line(1), lines.len()), (BTreeMap::from([("b".to_string(), 2.0)]), 2));
    }

    #[test]
    fn settings_are_named_by_their_place() {
        let value = serde_json::json!({"a": 1, "b": {"c": [2], "d": {"e": "x"}}});
        let names: Vec<String> = flat("", &value).into_keys().collect();
        assert_eq!(names, ["a", "b.c", "b.d.e"]);
    }
}
