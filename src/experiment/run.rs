//! Making the runs of an experiment, each begun, gone on with or known to be done.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use super::file::{Claim, Configuration, Experiment, Run};
use super::results::{self, COSTS, Results, RunResult, STYLE_EFFECT, run_folder};
use super::samples::{self, FIGURES};
use crate::calendar::today;
use crate::checkpoint::Checkpoint;
use crate::distributed::Ranks;
use crate::error::{Kind, nearest};
use crate::evaluate::evaluate;
use crate::files::{FileLock, make_folder};
use crate::gpu::Device;
use crate::graph::session::KernelSelection;
use crate::models::{Loss, LossWeights};
use crate::music::{CorpusOptions, Piece};
use crate::shape::Channels;
use crate::train::{
    self, End, Folder, Pieces, Prepared, RunFiles, Started, UpdateRecord, ValidationRecord, prepare, prepare_pieces,
    read_corpus,
};
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
    let results = Results::gather(experiment, out)?;
    check_corpora(experiment, out, &results, &corpora)?;
    let mut runner = Runner { experiment, out, device, selection, observer, stop };
    let results = runner.make_all(&experiment.runs(), results, |_| true).await?;
    results.write(out)?;
    Ok(results)
}

/// The same, the runs divided over `ranks`, which all see the folder `out`. Each run is made by one rank alone.
///
/// # Errors
/// As [`run`]; on one rank alone where one of its runs fails.
pub async fn run_among(
    experiment: &Experiment,
    out: &Path,
    (device, selection): (Device, KernelSelection),
    observer: &mut dyn Observer,
    stop: &AtomicBool,
    ranks: &Ranks,
) -> Result<Results> {
    let corpora = ranks.agree(check(experiment, &device, &selection))?;
    let begin = || {
        make_folder(out)?;
        let lock = FileLock::acquire(out)?;
        results::begin(experiment, out)?;
        Ok(Some(lock))
    };
    let _lock = ranks.agree(if ranks.is_first() { begin() } else { Ok(None) })?;
    let results = ranks.agree(Results::gather(experiment, out).and_then(|results| {
        check_corpora(experiment, out, &results, &corpora)?;
        Ok(results)
    }))?;
    let mut runner = Runner { experiment, out, device, selection, observer, stop };
    let is_own = |number: usize| number % ranks.size() == ranks.rank();
    let mut results = results;
    // What composes with the models of other runs comes when all of these are there.
    let trains = |run: &Run| experiment.configurations[run.configuration].model_of.is_none();
    let (trained, others): (Vec<Run>, Vec<Run>) = experiment.runs().into_iter().partition(trains);
    for runs in [trained, others] {
        let undone = |run: &Run| results.find(&experiment.configurations[run.configuration].name, run.seed).is_none();
        let runs: Vec<Run> = runs.into_iter().filter(undone).collect();
        runner.make_all(&runs, results, is_own).await?;
        ranks.meet()?;
        results = ranks.agree(Results::gather(experiment, out))?;
        // Who was stopped has left runs that others may need.
        if ranks.all(&stop.load(Ordering::Relaxed))?.into_iter().any(|stopped| stopped) {
            break;
        }
    }
    ranks.agree(if ranks.is_first() { results.write(out) } else { Ok(()) })?;
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

/// What is known of a configuration before its first run.
struct Known {
    losses: &'static [Loss],
    loss_weights: LossWeights,
    /// See [`RunResult::rolls`].
    rolls: String,
    channels: Channels,
    /// The network knows styles, several of them.
    styles: bool,
    fingerprint: String,
}

impl Known {
    fn of(prepared: &Prepared) -> Self {
        let roll = prepared.state.model.roll();
        Self {
            losses: prepared.state.model.losses(),
            loss_weights: prepared.state.settings.loss_weights.clone(),
            rolls: rolls(prepared),
            channels: roll.channels,
            styles: roll.styles > 1,
            fingerprint: fingerprint(prepared),
        }
    }

    /// The figures that a run of it will have.
    fn measures(&self, samples: bool) -> BTreeSet<&'static str> {
        let likelihoods = self.losses.iter().filter_map(|loss| loss.nats_per_step);
        let mut known: BTreeSet<&str> = self.losses.iter().map(|loss| loss.key).chain(likelihoods).collect();
        known.insert("loss");
        known.extend(self.styles.then_some(STYLE_EFFECT));
        known.extend(COSTS);
        if samples {
            known.extend(samples::figures(self.channels).map(|(name, _)| name));
        }
        known
    }
}

/// Looks at all configurations and claims before the first run, and returns the fingerprint of each configuration's corpus.
///
/// # Errors
/// A configuration that cannot be trained, or a claim about figures that there will not be, or that do not mean the same.
pub fn check(
    experiment: &Experiment,
    device: &Device,
    selection: &KernelSelection,
) -> Result<BTreeMap<String, String>> {
    let mut known: BTreeMap<&str, Known> = BTreeMap::new();
    // Each corpus is read once, however many configurations there are.
    let mut corpora: Vec<(CorpusOptions, u64, Pieces)> = vec![];
    for run in experiment.runs().into_iter().filter(|run| run.seed == experiment.seeds[0]) {
        let configuration = &experiment.configurations[run.configuration];
        if configuration.model_of.is_some() {
            continue;
        }
        let of = |e: Error| {
            let what = format!("{}: configuration `{}`: {}", experiment.path.display(), configuration.name, e.what);
            Error { what, ..e }
        };
        let options = experiment.options(run, None).complete(device).map_err(of)?;
        let (range, seed) = (options.notes.unwrap_or_default(), options.split_seed.unwrap_or_default());
        let reading = CorpusOptions {
            range,
            pedal: options.pedal,
            flat_dynamics: options.flat_dynamics.unwrap_or_default(),
            strict: options.strict,
        };
        let place = match corpora.iter().position(|(other, split, _)| *other == reading && *split == seed) {
            Some(place) => place,
            None => {
                let corpus = read_corpus(options.data.as_deref(), &reading).map_err(of)?;
                let split = corpus.split(seed);
                corpora.push((reading, seed, Pieces { corpus, split }));
                corpora.len() - 1
            }
        };
        let prepared = prepare_pieces(&options, device, &corpora[place].2).map_err(of)?;
        check_one(experiment, configuration, &prepared, device, selection).map_err(of)?;
        known.insert(&configuration.name, Known::of(&prepared));
    }
    experiment.claims.iter().try_for_each(|claim| check_claim(experiment, claim, &known))?;
    Ok(known.into_iter().map(|(name, known)| (name.into(), known.fingerprint)).collect())
}

/// Fails on a claim about figures that one of the configurations does not have, or that do not mean the same in both.
fn check_claim(experiment: &Experiment, claim: &Claim, known: &BTreeMap<&str, Known>) -> Result<()> {
    let wrong = |what: String, remedy: String| {
        Err(Error::usage(format!("{}: claim \"{}\": {what}", experiment.path.display(), claim.text), remedy))
    };
    let mut both = vec![];
    for name in [&claim.configuration, &claim.against] {
        let configuration = experiment.find(name);
        let origin = configuration.and_then(|configuration| configuration.model_of.as_ref());
        let Some(of) = known.get(origin.unwrap_or(name).as_str()) else { continue };
        let mut measures = of.measures(experiment.samples.is_some());
        if origin.is_some() {
            // Nothing is trained.
            measures.retain(|measure| FIGURES.iter().any(|(figure, _)| figure == measure));
        }
        if !measures.contains(claim.measure.as_str()) {
            return wrong(format!("`{name}` has no `{}`", claim.measure), nearest(&claim.measure, measures));
        }
        both.push(of);
    }
    let of_samples = FIGURES.iter().any(|(figure, _)| *figure == claim.measure);
    let is_cost = COSTS.contains(&claim.measure.as_str());
    if let [one, other] = both[..]
        && !of_samples
        && !is_cost
    {
        if one.rolls != other.rolls {
            let what = format!("`{}` is of other rolls in each: {}, and {}", claim.measure, one.rolls, other.rolls);
            return wrong(what, "give both the same notes, pedal and split-seed".into());
        }
        if claim.measure == "loss" && (one.losses, &one.loss_weights) != (other.losses, &other.loss_weights) {
            let what = "`loss` is another sum in each".to_string();
            return wrong(what, "name a loss that both have, such as play_nats_per_step".into());
        }
    }
    Ok(())
}

/// See [`RunResult::rolls`].
fn rolls(prepared: &Prepared) -> String {
    let state = &prepared.state;
    let pedal = if state.corpus.pedal { ", with pedal" } else { "" };
    format!("pitches {}{pedal}, split {}", state.corpus.range, state.split.seed)
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
    /// Makes those of `runs` that are this process' own, by their number, and not done; writes all results after each. Returns them.
    async fn make_all(
        &mut self,
        runs: &[Run],
        mut results: Results,
        is_own: impl Fn(usize) -> bool,
    ) -> Result<Results> {
        let (experiment, out, planned) = (self.experiment, self.out, self.experiment.runs().len());
        for (i, &run) in runs.iter().enumerate().filter(|(i, _)| is_own(*i)) {
            let name = &experiment.configurations[run.configuration].name;
            if results.find(name, run.seed).is_some() {
                continue;
            }
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let seconds_left = seconds_left(experiment, &runs[i..], &results);
            let (seed, done) = (run.seed, results.runs.len());
            self.observer.begins(&Next { configuration: name, seed, done, planned, seconds_left });
            let made = self.make(run, &results).await;
            let remedy = "what was done is kept, and the same command goes on from there";
            let made = made.map_err(|e| e.during(format!("configuration `{name}`, seed {seed}"), remedy))?;
            let Some(result) = made else { break };
            results::write_result(experiment, out, run, &result)?;
            self.observer.ended(&result);
            results = Results::gather(experiment, out)?;
            results.write(out)?;
        }
        Ok(results)
    }

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
                let result = RunResult {
                    configuration: configuration.name.clone(),
                    date: today(),
                    failure: of_origin.failure.as_ref().map(|_| format!("the run of `{origin}` failed")),
                    best_update: None,
                    // Those are the origin's: nothing was trained.
                    cost: BTreeMap::new(),
                    validation: BTreeMap::new(),
                    ..of_origin
                };
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
        let held_out = prepared.validation.clone();
        if self.experiment.budget.steps.is_some_and(|steps| prepared.state.progress.step > steps) {
            let what = format!("{}: the run has more updates than the budget", folder.display());
            return Err(Error::usage(what, "remove its folder, and it begins anew"));
        }
        let mut result = RunResult {
            configuration: self.experiment.configurations[run.configuration].name.clone(),
            seed: run.seed,
            failure: None,
            best_update: None,
            parameters: prepared.state.model.layout().elements(),
            device: self.device.machine().to_string(),
            corpus: fingerprint(&prepared),
            pieces: [prepared.train_files, prepared.validation.len()],
            rolls: rolls(&prepared),
            loss_weights: prepared.state.settings.loss_weights.clone(),
            date: today(),
            cost: BTreeMap::new(),
            validation: BTreeMap::new(),
            samples: BTreeMap::new(),
        };
        let (device, selection) = (self.device.clone(), self.selection.clone());
        let mut recorder = Recorder { inner: &mut *self.observer, flops: 0 };
        let trained = train::train_and_hold(prepared, device, selection, &mut recorder, self.stop).await;
        let flops = recorder.flops;
        let (outcome, held) = match trained {
            Ok((outcome, _)) if outcome.end == End::Interrupted => return Ok(None),
            Ok(trained) => trained,
            Err(e) if e.kind == Kind::Run => {
                result.failure = Some(e.what);
                return Ok(Some((result, None)));
            }
            Err(e) => return Err(e),
        };
        let Some(held) = held else { return Err(Error::run("a run without files", "")) };
        let (updates, seconds) = (outcome.step as f64, outcome.seconds);
        let costs = [updates, seconds, seconds / updates, updates * flops as f64 / 1e9, result.parameters as f64];
        result.cost = COSTS.iter().map(|name| name.to_string()).zip(costs).collect();
        let best = outcome.best.map(|best| best.step);
        (result.best_update, result.validation) = (best, validation(&held, best)?);
        let Some(effect) = self.style_effect(&held, held_out, &result).await? else { return Ok(None) };
        result.validation.extend(effect.map(|effect| (STYLE_EFFECT.into(), effect)));
        Ok(Some((result, Some(held))))
    }

    /// [`STYLE_EFFECT`] of the best model on the validation pieces, none of a model without several styles; `None` if it was stopped.
    async fn style_effect(
        &self,
        files: &Folder,
        pieces: Vec<Arc<Piece>>,
        result: &RunResult,
    ) -> Result<Option<Option<f64>>> {
        let checkpoint = Checkpoint::load(files.path(train::BEST))?;
        let styles = checkpoint.model.roll().styles;
        let right = checkpoint.model.losses().iter().find(|loss| loss.is_likelihood());
        let right = right.and_then(|loss| result.validation.get(loss.nats_per_step?).copied());
        let Some(right) = right.filter(|_| styles > 1) else { return Ok(Some(None)) };
        let exchanged = |piece: &Arc<Piece>| Arc::new(Piece { style: (piece.style + 1) % styles, ..(**piece).clone() });
        let pieces: Vec<Arc<Piece>> = pieces.iter().map(exchanged).collect();
        // Overrides may be of kernels that only training has.
        let selection = KernelSelection { overrides_elsewhere: true, ..self.selection.clone() };
        let slots = checkpoint.settings.batch;
        let wrong = evaluate(&checkpoint, &pieces, slots, self.device.clone(), selection, self.stop, |_| ()).await?;
        Ok(wrong.map(|wrong| Some(wrong.losses.nats_per_step() - right)))
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
    let losses = line.into_iter().filter(|(name, _)| !train::BESIDE.contains(&name.as_str()));
    Ok(losses.filter_map(|(name, value)| Some((name, value.as_f64()?))).collect())
}

/// Passes on what training tells, and keeps what a result needs.
struct Recorder<'a> {
    inner: &'a mut dyn Observer,
    flops: u64,
}

impl train::Observer for Recorder<'_> {
    fn started(&mut self, started: &Started) {
        self.flops = started.flops;
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
