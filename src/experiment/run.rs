//! Making the runs of an experiment, each begun, gone on with or known to be done.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use super::file::{Configuration, Experiment, Run};
use super::results::{self, COSTS, Results, RunResult, run_folder};
use super::samples::{self, FIGURES};
use crate::calendar::today;
use crate::checkpoint::Checkpoint;
use crate::error::{Kind, nearest};
use crate::files::{FileLock, make_folder};
use crate::gpu::Device;
use crate::graph::session::KernelSelection;
use crate::models::Loss;
use crate::train::{self, End, Folder, Prepared, RunFiles, Started, UpdateRecord, ValidationRecord, prepare};
use crate::{Error, Result};

/// A run that is about to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Next<'a> {
    /// The configuration's name.
    pub configuration: &'a str,
    /// The seed.
    pub seed: u32,
    /// Runs that are done.
    pub done: usize,
    /// All runs.
    pub planned: usize,
    /// Seconds until all are done, judged by those that are; `None` before there are any.
    pub seconds_left: Option<f64>,
}

/// Is told how an experiment goes. All methods do nothing unless implemented.
pub trait Observer: train::Observer {
    /// Before a run begins or goes on.
    fn begins(&mut self, _: &Next) {}
    /// After a run.
    fn ended(&mut self, _: &RunResult) {}
}

/// Observes nothing.
impl Observer for () {}

/// Makes all runs of the experiment that are not done, in folders within `out`, until `stop` is set. What is done is in the files
/// there after each run. The same call goes on, also in the middle of a run, and comes to the same results.
///
/// # Errors
/// A configuration that cannot be trained, all of which are looked at before the first run; runs in `out` that are another
/// experiment's; a device that fails, or a file that cannot be written. A loss that is not finite is that run's result.
pub async fn run(
    experiment: &Experiment,
    out: &Path,
    device: Device,
    selection: KernelSelection,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
) -> Result<Results> {
    let corpora = check(experiment, &device, &selection)?;
    make_folder(out)?;
    let _lock = FileLock::acquire(out)?;
    results::begin(experiment, out)?;
    let mut results = Results::gather(experiment, out)?;
    check_corpora(experiment, out, &results, &corpora)?;
    let mut runner = Runner { experiment, out, device, selection, observer, stop };
    let runs = experiment.runs();
    for (i, &run) in runs.iter().enumerate() {
        let name = &experiment.configurations[run.configuration].name;
        if results.find(name, run.seed).is_some() {
            continue;
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
        runner.observer.begins(&Next {
            configuration: name,
            seed: run.seed,
            done: results.runs.len(),
            planned: runs.len(),
            seconds_left: seconds_left(experiment, &runs[i..], &results),
        });
        let made = runner.make(run, &results).await;
        let remedy = "what was done is kept, and the same command goes on from there";
        let made = made.map_err(|e| e.during(format!("configuration `{name}`, seed {}", run.seed), remedy))?;
        let Some(result) = made else { break };
        results::write_result(experiment, out, run, &result)?;
        runner.observer.ended(&result);
        results = Results::gather(experiment, out)?;
        results.write(out)?;
    }
    results.write(out)?;
    Ok(results)
}

/// Seconds of these runs, by what those of their configurations took, else by what all took.
fn seconds_left(experiment: &Experiment, left: &[Run], results: &Results) -> Option<f64> {
    let mean = |values: Vec<f64>| (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
    let all = results.runs.iter().filter_map(|run| run.get("seconds")).collect();
    let budget = experiment.budget.minutes.map(|minutes| 60.0 * minutes);
    let of_any = mean(all).or(budget)?;
    let trained = left.iter().map(|run| &experiment.configurations[run.configuration]);
    let trained = trained.filter(|configuration| configuration.model_of.is_none());
    Some(trained.map(|configuration| mean(results.values(&configuration.name, "seconds")).unwrap_or(of_any)).sum())
}

/// Looks at all configurations before the first run, and returns the fingerprint of each one's corpus.
fn check(experiment: &Experiment, device: &Device, selection: &KernelSelection) -> Result<BTreeMap<String, String>> {
    let mut corpora = BTreeMap::new();
    let mut losses: BTreeMap<&str, &[Loss]> = BTreeMap::new();
    for run in experiment.runs().into_iter().filter(|run| run.seed == experiment.seeds[0]) {
        let configuration = &experiment.configurations[run.configuration];
        let of = |e: Error| {
            let what = format!("{}: configuration `{}`: {}", experiment.path.display(), configuration.name, e.what);
            Error { what, ..e }
        };
        let origin = configuration.model_of.as_ref().and_then(|origin| losses.get(origin.as_str()));
        if let Some(origin) = origin.copied() {
            losses.insert(&configuration.name, origin);
            continue;
        }
        let prepared = prepare(&experiment.options(run, None), device).map_err(of)?;
        check_one(experiment, configuration, &prepared, device, selection).map_err(of)?;
        losses.insert(&configuration.name, prepared.state.model.losses());
        corpora.insert(configuration.name.clone(), fingerprint(&prepared));
    }
    for claim in &experiment.claims {
        for configuration in [&claim.configuration, &claim.against] {
            let of = losses.get(configuration.as_str()).copied().unwrap_or_default();
            let likelihoods = of.iter().filter_map(|loss| loss.nats_per_step);
            let mut known: BTreeSet<&str> = of.iter().map(|loss| loss.key).chain(likelihoods).chain(["loss"]).collect();
            known.extend(COSTS);
            known.extend(FIGURES.iter().map(|(name, _)| *name).filter(|_| experiment.samples.is_some()));
            if !known.contains(claim.measure.as_str()) {
                let file = experiment.path.display();
                let what = format!("{file}: claim \"{}\": `{configuration}` has no `{}`", claim.text, claim.measure);
                return Err(Error::usage(what, nearest(&claim.measure, known)));
            }
        }
    }
    Ok(corpora)
}

fn check_one(
    experiment: &Experiment,
    configuration: &Configuration,
    prepared: &Prepared,
    device: &Device,
    selection: &KernelSelection,
) -> Result<()> {
    if prepared.validation.is_empty() {
        let what = "no composer has two pieces, so nothing is held out by which runs could be compared";
        return Err(Error::usage(what, "give a larger corpus with --data"));
    }
    train::check(prepared, device, selection)?;
    let Some(samples) = &experiment.samples else { return Ok(()) };
    let state = &prepared.state;
    let (_, composition) = samples::composition(samples, configuration, state)?;
    state.model.generation(composition.styles.len(), state.model.roll().beats).map(drop)
}

fn fingerprint(prepared: &Prepared) -> String {
    format!("{:08x}", prepared.state.corpus.fingerprint)
}

/// Fails where a run that is done was of another corpus.
fn check_corpora(
    experiment: &Experiment,
    out: &Path,
    results: &Results,
    corpora: &BTreeMap<String, String>,
) -> Result<()> {
    let other = |run: &&RunResult| corpora.get(&run.configuration).is_some_and(|corpus| *corpus != run.corpus);
    let Some(run) = results.runs.iter().find(other) else { return Ok(()) };
    let corpus = experiment.data.as_ref().map_or("the program's own".into(), |data| data.display().to_string());
    Err(Error::usage(
        format!(
            "{}: the runs were begun with another corpus (fingerprint {}, that of {corpus} is {})",
            out.display(),
            run.corpus,
            corpora[&run.configuration]
        ),
        "give the corpus that they were begun with by --data, or name another folder with --out",
    ))
}

/// What makes one run after another.
struct Runner<'a> {
    experiment: &'a Experiment,
    out: &'a Path,
    device: Device,
    selection: KernelSelection,
    observer: &'a mut dyn Observer,
    stop: &'a AtomicBool,
}

impl Runner<'_> {
    /// Makes a run to its end; `None` if it was stopped.
    async fn make(&mut self, run: Run, results: &Results) -> Result<Option<RunResult>> {
        let configuration = &self.experiment.configurations[run.configuration];
        let folder = run_folder(self.experiment, self.out, run);
        let (result, origin, _held) = match &configuration.model_of {
            Some(origin) => {
                let missing = || Error::run(format!("there is no run of `{origin}`"), "");
                let of_origin = results.find(origin, run.seed).ok_or_else(missing)?.clone();
                let place = self.experiment.configurations.iter().position(|other| other.name == *origin);
                let place = Run { configuration: place.unwrap_or(run.configuration), ..run };
                let held = Folder::open(&folder)?;
                let result = RunResult { configuration: configuration.name.clone(), date: today(), ..of_origin };
                (result, run_folder(self.experiment, self.out, place), Some(held))
            }
            None => {
                let Some((result, held)) = self.train(run, &folder).await? else { return Ok(None) };
                (result, folder.clone(), held)
            }
        };
        let Some(samples) = self.experiment.samples.as_ref().filter(|_| result.failure.is_none()) else {
            return Ok(Some(result));
        };
        let checkpoint = Checkpoint::load(origin.join(train::BEST))?;
        let composition = samples::composition(samples, configuration, &checkpoint)?;
        let (device, selection) = (self.device.clone(), self.selection.clone());
        match samples::compose(composition, &checkpoint, &folder, device, selection, self.stop).await {
            Err(e) if e.kind == Kind::Run => Ok(Some(RunResult { failure: Some(e.what), ..result })),
            figures => Ok(figures?.map(|samples| RunResult { samples, ..result })),
        }
    }

    /// Trains to the end, and reads the best validation from the curve, which is the same however often the run was cut; `None` if
    /// it was stopped.
    async fn train(&mut self, run: Run, folder: &Path) -> Result<Option<(RunResult, Option<Folder>)>> {
        let prepared = prepare(&self.experiment.options(run, Some(folder.into())), &self.device)?;
        let mut result = RunResult {
            configuration: self.experiment.configurations[run.configuration].name.clone(),
            seed: run.seed,
            failure: None,
            best_update: None,
            parameters: prepared.state.model.layout().elements(),
            device: String::new(),
            corpus: fingerprint(&prepared),
            pieces: [prepared.train_files, prepared.validation.len()],
            date: today(),
            cost: BTreeMap::new(),
            validation: BTreeMap::new(),
            samples: BTreeMap::new(),
        };
        let (device, selection) = (self.device.clone(), self.selection.clone());
        let mut recorder = Recorder { inner: &mut *self.observer, flops: 0, device: String::new() };
        let trained = train::train_and_hold(prepared, device, selection, &mut recorder, self.stop).await;
        let (flops, device) = (recorder.flops, recorder.device);
        result.device = device;
        let (outcome, held) = match trained {
            Ok((outcome, _)) if outcome.end == End::Interrupted => return Ok(None),
            Ok(trained) => trained,
            Err(e) if e.kind == Kind::Run => {
                result.failure = Some(e.what);
                return Ok(Some((result, None)));
            }
            Err(e) => return Err(e),
        };
        let costs = [outcome.step as f64, outcome.seconds, outcome.step as f64 * flops as f64 / 1e9];
        result.cost = COSTS.iter().map(|name| name.to_string()).zip(costs).collect();
        let best = outcome.best.map(|best| best.step);
        (result.best_update, result.validation) = (best, validation(&held, best)?);
        Ok(Some((result, Some(held))))
    }
}

/// The curve's validation after update `best`.
fn validation(files: &dyn RunFiles, best: Option<u64>) -> Result<BTreeMap<String, f64>> {
    let curve = files.read(train::CURVE)?.unwrap_or_default();
    let lines = curve.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let mut validations = lines.filter(|line| line["kind"] == "validation" && line["step"].as_u64() == best);
    let line = validations.next_back();
    let Some(Value::Object(line)) = line.filter(|_| best.is_some()) else {
        return Err(Error::file(
            files.path(train::CURVE),
            "the best validation is not in the curve",
            "remove the run's folder, and the run begins anew",
        ));
    };
    let not_losses = ["kind", "step", "epochs", "steps", "files", "best", "seconds"];
    let losses = line.into_iter().filter(|(name, _)| !not_losses.contains(&name.as_str()));
    Ok(losses.filter_map(|(name, value)| Some((name, value.as_f64()?))).collect())
}

/// Passes on what training tells, and keeps what a result needs.
struct Recorder<'a> {
    inner: &'a mut dyn Observer,
    flops: u64,
    device: String,
}

impl train::Observer for Recorder<'_> {
    fn started(&mut self, started: &Started) {
        self.flops = started.flops;
        self.device.clone_from(&started.device);
        self.inner.started(started);
    }

    fn stepped(&mut self, record: &UpdateRecord) {
        self.inner.stepped(record);
    }

    fn overflowed(&mut self, step: u64, scale: f32) {
        self.inner.overflowed(step, scale);
    }

    fn validating(&mut self, done: usize, total: usize) {
        self.inner.validating(done, total);
    }

    fn validated(&mut self, record: &ValidationRecord) {
        self.inner.validated(record);
    }

    fn wants_checkpoint(&mut self) -> bool {
        self.inner.wants_checkpoint()
    }

    fn saved(&mut self, path: &Path) {
        self.inner.saved(path);
    }
}
