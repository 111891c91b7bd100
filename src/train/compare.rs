//! Runs beside each other: what each was, how far it came, and the learning curves in one picture.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::{BEST, CURVE, LAST};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result, nearest};
use crate::files::{path_text, read_bounded, serialize_path};
use crate::memory::available_memory;

/// The largest curve that is read, in bytes: some four million updates.
const MAX_BYTES: u64 = 1 << 30;

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

/// One line of a curve, of an update or a validation.
pub type Point = BTreeMap<String, f64>;

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
    /// Updates, times through the training pieces, and seconds so far.
    pub updates: u64,
    /// Times through the training pieces.
    pub epochs: f64,
    /// Seconds of training.
    pub seconds: f64,
    /// The fingerprint of its corpus.
    pub corpus: String,
    /// The validation of the lowest loss, of which `best.safetensors` is.
    pub best: Option<Point>,
    /// The likelihood by which models of this kind are compared, by its name in curves.
    #[serde(skip)]
    pub likelihood: Option<&'static str>,
    /// Configuration and settings, each by its name.
    pub settings: BTreeMap<String, Value>,
    /// Updates.
    #[serde(skip)]
    pub training: Vec<Point>,
    /// Validations.
    #[serde(skip)]
    pub validations: Vec<Point>,
    /// Lines of the curve that are none.
    pub unreadable: usize,
}

impl Run {
    /// The run in a folder, also of one that is going on.
    ///
    /// # Errors
    /// A folder without a checkpoint or a curve.
    pub fn read(folder: &Path) -> Result<Self> {
        let file = [LAST, BEST].map(|name| folder.join(name)).into_iter().find(|path| path.exists());
        let remedy = "name the folder of a run, such as runs/first, in which `deepj train` has saved a checkpoint";
        let none = || Error::file(folder, format!("there is neither a {LAST} nor a {BEST}"), remedy);
        let Checkpoint { model, corpus, settings, progress, .. } = Checkpoint::load(file.ok_or_else(none)?)?;
        let bytes = read_bounded(&folder.join(CURVE), MAX_BYTES.min(available_memory().unwrap_or(u64::MAX)), remedy)?;
        let Curve { training, validations, unreadable } = Curve::parse(&bytes);
        let best = validations.iter().filter(|line| line["loss"].is_finite());
        let best = best.min_by(|a, b| a["loss"].total_cmp(&b["loss"])).cloned();
        let likelihood = model.losses().iter().find(|loss| loss.is_likelihood()).and_then(|loss| loss.nats_per_step);
        let mut all = flat("", &serde_json::from_str(&model.config()).unwrap_or_default());
        all.extend(flat("", &serde_json::json!(settings)));
        Ok(Self {
            folder: folder.into(),
            model: model.architecture().into(),
            parameters: model.layout().elements(),
            device: progress.device,
            updates: progress.step,
            epochs: progress.epochs,
            seconds: progress.seconds,
            corpus: format!("{:08x}", corpus.fingerprint),
            best,
            likelihood,
            settings: all,
            training,
            validations,
            unreadable,
        })
    }
}

/// A learning curve in memory.
#[derive(Debug, Default, PartialEq)]
struct Curve {
    training: Vec<Point>,
    validations: Vec<Point>,
    unreadable: usize,
}

impl Curve {
    fn parse(bytes: &[u8]) -> Self {
        let mut curve = Self::default();
        // A run that goes on may be in the middle of a line, which is none yet.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
            let Ok(Value::Object(fields)) = serde_json::from_slice(line) else {
                curve.unreadable += 1;
                continue;
            };
            let kind = fields.get("kind").and_then(Value::as_str).unwrap_or_default().to_string();
            // JSON has no infinity: a loss that is none is null.
            let number = |value: &Value| value.as_f64().or(value.is_null().then_some(f64::NAN));
            let point: Point = fields.iter().filter_map(|(name, value)| Some((name.clone(), number(value)?))).collect();
            let to = match &kind[..] {
                "train" => &mut curve.training,
                "validation" => &mut curve.validations,
                "end" => continue,
                _ => {
                    curve.unreadable += 1;
                    continue;
                }
            };
            match ["step", "loss", "seconds", "epochs"].iter().all(|name| point.contains_key(*name)) {
                true => to.push(point),
                false => curve.unreadable += 1,
            }
        }
        curve
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
        let known = |run: &Run| -> BTreeSet<String> {
            let lines = run.validations.iter().chain(&run.training);
            let beside = ["step", "epochs", "seconds", "steps", "files", "lr"];
            lines.flat_map(|line| line.keys()).filter(|name| !beside.contains(&name.as_str())).cloned().collect()
        };
        let likelihood = runs.first().and_then(|run| run.likelihood);
        let shared = runs.iter().map(known).reduce(|a, b| &a & &b).unwrap_or_default();
        let chosen = measure.or(likelihood.filter(|name| shared.contains(*name))).unwrap_or("loss");
        if !shared.contains(chosen) {
            let what = format!("not all curves have `{chosen}`");
            return Err(Error::usage(what, nearest(chosen, shared.iter().map(String::as_str).collect())));
        }
        let names: BTreeSet<&String> = runs.iter().flat_map(|run| run.settings.keys()).collect();
        let differs = |name: &&String| runs.iter().any(|run| run.settings.get(*name) != runs[0].settings.get(*name));
        let differing: Vec<String> = names.into_iter().filter(differs).cloned().collect();
        let notes = notes(&runs, &differing);
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

fn notes(runs: &[Run], differing: &[String]) -> Vec<String> {
    let mut notes = vec![];
    if runs.iter().any(|run| run.corpus != runs[0].corpus) {
        notes.push("the runs are of different corpora, so that losses are of different pieces".into());
    }
    if differing.iter().any(|name| name == "lowest" || name == "notes") {
        notes.push("the runs are of different pitches, which nats a time step are a sum over".into());
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
        let curve = Curve::parse(text.concat().as_bytes());
        assert_eq!((curve.training.len(), curve.validations.len(), curve.unreadable), (1, 1, 2));
        assert_eq!(curve.training[0]["loss"], 0.5);
        assert!(curve.validations[0]["loss"].is_nan());
    }

    #[test]
    fn settings_are_named_by_their_place() {
        let value = serde_json::json!({"a": 1, "b": {"c": [2], "d": {"e": "x"}}});
        let names: Vec<String> = flat("", &value).into_keys().collect();
        assert_eq!(names, ["a", "b.c", "b.d.e"]);
    }
}
