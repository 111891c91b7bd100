//! `deepj train`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use deepj::checkpoint::Checkpoint;
use deepj::distributed::{Ranks, Wire};
use deepj::files::path_text;
use deepj::generate::{self, MAX_BARS};
use deepj::gpu::Device;
use deepj::graph::session::KernelSelection;
use deepj::models::{self, Loss};
use deepj::music::{FlatDynamics, NoteRange};
use deepj::peaks::RooflineLimits;
use deepj::train::{
    End, LAST, Observer, Outcome, RanksRecord, ResumeMode, SAMPLE, Started, TrainOptions, UpdateRecord,
    ValidationRecord, explain, prepare, prepare_among, train_and_hold,
};
use deepj::{Error, Result};
use indicatif::{HumanDuration, ProgressBar};
use serde::Serialize;

use super::training::TrainingArguments;
use super::{
    TrainingDeviceArguments, bar, checkpoint_file, nats, pair, ranks, say, say_json, signals::Signals, tell, updates,
};

/// Train a model; without arguments on the pieces within the program
#[derive(Args)]
#[command(after_help = "\
Examples:
  deepj train
  deepj train --data midi --preset paper --out runs/first --steps 20000
  deepj train --out runs/first --resume --steps 40000
  deepj train --data midi --set dropout=0.3 --explain
  deepj train --fields --model biaxial
  deepj train --data midi --steps 20000 --warmup 200 --lr-schedule cosine --transpose 6 --balance
  deepj train --data midi --model biaxial
  mpirun -n 4 deepj train --data midi --batch 32 --out runs/first --resume auto")]
pub struct Train {
    /// The corpus: a folder with <genre>/<composer>/*.mid [default: the pieces within the program]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The run's folder [default: runs/<date-time>-<preset>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Go on with the run in --out [default: the newest in runs] exactly where it was saved last; with `auto` begin where there is
    /// none
    #[arg(long, value_name = "auto", num_args = 0..=1, default_missing_value = "always")]
    resume: Option<ResumeMode>,
    /// Replace the run in --out
    #[arg(long, conflicts_with = "resume")]
    force: bool,
    /// Begin with the parameters of this checkpoint, or of the best in this run, as far as they fit: for other pieces or styles. Sizes
    /// and pitches are its own unless given
    #[arg(long, value_name = "CHECKPOINT", conflicts_with = "resume")]
    init: Option<PathBuf>,
    /// Change one field of the network's configuration, for example dropout=0.3 or time_units=64; --fields lists them
    #[arg(long, value_name = "FIELD=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
    /// Print the fields of --model that --set may change, their values and what they are in each preset, and end
    #[arg(long, conflicts_with_all = ["data", "out", "resume", "force", "init", "set", "explain"])]
    fields: bool,
    #[command(flatten)]
    training: TrainingArguments,
    /// Seed of the split into training, validation and test pieces [default: 0]
    #[arg(long, value_name = "N")]
    split_seed: Option<u64>,
    /// MIDI pitches of the rolls [default: 36..=83 for deepj, 24..=101 for biaxial]
    #[arg(long, value_name = "LOW..=HIGH")]
    notes: Option<NoteRange>,
    /// Extend notes to the release of the sustain pedal
    #[arg(long)]
    pedal: bool,
    /// What pieces are for that have no dynamics of their own, as typeset ones: learn (like others) or ignore (their notes are
    /// learned, their velocities are not) [default: learn]
    #[arg(long, value_name = "learn|ignore")]
    flat_dynamics: Option<FlatDynamics>,
    /// Fail if one file of the corpus cannot be used or is odd, instead of skipping it or reading what can be read
    #[arg(long)]
    strict: bool,
    /// Bars of the pieces composed at the end, one a genre; 0 for none [default: 16]
    #[arg(long, value_name = "N")]
    samples: Option<usize>,
    /// How gradients travel between the ranks of an mpirun: f32, or f16 (half the bytes; what rounding takes away is added to the next
    /// sum) [default: f32]
    #[arg(long, value_name = "f32|f16")]
    allreduce: Option<Wire>,
    /// Print what would run, with its cost and memory, and end
    #[arg(long)]
    explain: bool,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: TrainingDeviceArguments,
}

impl Train {
    pub fn run(self) -> Result<ExitCode> {
        if self.fields {
            let name = self.training.model.as_deref().unwrap_or(models::DEFAULT);
            let architecture = models::architecture(name)?;
            match self.json {
                true => say_json(&models::fields(architecture)?)?,
                false => say(models::fields_table(architecture)?.trim_end()),
            }
            return Ok(ExitCode::SUCCESS);
        }
        let wire = self.allreduce.unwrap_or_default();
        let ranks = ranks::join(wire)?;
        if ranks.is_none() && self.allreduce.is_some() {
            tell("note: --allreduce has no effect on a process that trains alone");
        }
        let done = self.train(ranks.as_ref());
        ranks::conclude(ranks, done)
    }

    /// Trains, alone or as one of several.
    fn train(self, ranks: Option<&Ranks>) -> Result<ExitCode> {
        let options = TrainOptions {
            data: self.data,
            out: self.out,
            resume: self.resume.unwrap_or_default(),
            force: self.force,
            set: self.set,
            init: self.init.as_deref().map(checkpoint_file),
            notes: self.notes,
            pedal: self.pedal,
            flat_dynamics: self.flat_dynamics,
            strict: self.strict,
            split_seed: self.split_seed,
            samples: self.samples,
            ..self.training.options()
        };
        let device = match ranks {
            None => self.device.open()?,
            Some(ranks) => ranks.agree(self.device.open_for(ranks.on_host().0))?,
        };
        let selection = self.device.selection();
        let prepared = match ranks {
            None => prepare(&options, &device)?,
            Some(ranks) => prepare_among(&options, &device, ranks)?,
        };
        if let Some(ranks) = ranks {
            let slots = prepared.state.settings.batch / ranks.size();
            ranks::listing(ranks, &device, slots)?.iter().for_each(tell);
        }
        if self.explain {
            let device = self.device.in_time(device.clone(), self.device.remembered_peaks(&device).as_ref());
            let plans = explain(&prepared, &device, &selection);
            let plans = match ranks {
                None => plans?,
                Some(ranks) => of_ranks(ranks, ranks.agree(plans)?)?,
            };
            say(plans.trim_end());
            return Ok(ExitCode::SUCCESS);
        }
        let bars = prepared.state.settings.samples.unwrap_or(SAMPLE_BARS);
        if bars > MAX_BARS {
            // All have the same settings.
            ranks.iter().for_each(|ranks| ranks.all_have_it());
            let what = format!("--samples {bars}");
            return Err(Error::usage(what, format!("a piece has at most {MAX_BARS} bars; 0 composes none")));
        }
        let doing = "stopping and saving";
        let signals = ranks.map_or_else(|| Signals::listen(doing), |ranks| Signals::listen_among(doing, ranks));
        let device = device.waited_for(signals.wait_options());
        let (own, peaks) = self.device.peaks_of_all(&device, ranks)?;
        let device = self.device.in_time(device, own.as_ref());
        let mut progress = Progress::new(peaks, signals.save.clone());
        let trained = train_and_hold(prepared, device.clone(), selection.clone(), &mut progress, &signals.stop);
        let outcome = pollster::block_on(trained);
        progress.bar.finish_and_clear();
        // Held while samples are composed into it.
        let (outcome, folder) = outcome?;
        if let Some(ranks) = ranks
            && let Some(code) = signals.exit_code_of_all(ranks)?
        {
            print(&outcome, self.json, progress.losses, &[])?;
            return Ok(code);
        }
        if folder.is_none() {
            return Ok(ExitCode::SUCCESS);
        }
        let (samples, failure) = match &outcome.best_checkpoint {
            Some(best) if bars > 0 && outcome.end != End::Interrupted => {
                let mut samples = vec![];
                let composed = compose_samples(best, bars, device, selection, &signals.stop, &mut samples);
                (samples, composed.err())
            }
            _ => (vec![], None),
        };
        print(&outcome, self.json, progress.losses, &samples)?;
        if let Some(e) = failure {
            return Err(e.during("composing samples", "the run itself has ended and is saved"));
        }
        // Also where a signal came while the samples were composed.
        Ok(if signals.stop.load(Ordering::Relaxed) { signals.exit_code() } else { ExitCode::SUCCESS })
    }
}

/// Composes a piece of each genre with the checkpoint `best`, beside it, and lists the files written in `samples`.
fn compose_samples(
    best: &Path,
    bars: usize,
    device: Device,
    selection: KernelSelection,
    stop: &AtomicBool,
    samples: &mut Vec<PathBuf>,
) -> Result<()> {
    let checkpoint = Checkpoint::load(best)?;
    let composed = generate::samples(&checkpoint, bars, device, selection, stop);
    let Some(composed) = pollster::block_on(composed)? else {
        tell("note: stopped before the samples were composed; `deepj generate` composes from the run");
        return Ok(());
    };
    let mut written = Ok(());
    for (genre, roll) in composed {
        let file = best.with_file_name(format!("{SAMPLE}{genre}.mid"));
        // One that cannot be written costs no other.
        match roll.write_midi(&file, SAMPLE_TEMPO) {
            Ok(()) => samples.push(file),
            Err(e) => written = written.and(Err(e)),
        }
    }
    written
}

/// Bars of the pieces composed at the end.
const SAMPLE_BARS: usize = 16;

/// Quarter notes a minute of the pieces composed at the end.
const SAMPLE_TEMPO: f64 = 120.0;

/// What is printed as JSON.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    outcome: &'a Outcome,
    samples: Vec<String>,
}

/// Prints what came of a run, for people or as JSON.
fn print(outcome: &Outcome, json: bool, losses: &[Loss], samples: &[PathBuf]) -> Result<()> {
    match json {
        true => say_json(&Report { outcome, samples: samples.iter().map(path_text).collect() }),
        false => {
            print_outcome(outcome, losses, samples);
            Ok(())
        }
    }
}

/// The plans of all ranks, once where they are the same.
fn of_ranks(ranks: &Ranks, plans: String) -> Result<String> {
    let all = ranks.all(&plans)?;
    let mut texts: Vec<(&String, Vec<usize>)> = vec![];
    for (rank, text) in all.iter().enumerate() {
        match texts.iter_mut().find(|(known, _)| *known == text) {
            Some((_, ranks)) => ranks.push(rank),
            None => texts.push((text, vec![rank])),
        }
    }
    let each = |(text, numbers): &(&String, Vec<usize>)| {
        let has = if numbers.len() == 1 { "has" } else { "each have" };
        format!("{} {has}\n{text}", ranks.names_of(numbers))
    };
    Ok(texts.iter().map(each).collect())
}

fn print_outcome(outcome: &Outcome, losses: &[Loss], samples: &[PathBuf]) {
    let end = match outcome.end {
        End::Steps => "all updates are made",
        End::Epochs => "all epochs are done",
        End::Minutes => "the time is up",
        End::Patience => "the validation loss has stopped falling",
        End::Interrupted => "interrupted; --resume goes on from here",
    };
    // Seconds of a damaged checkpoint may be beyond what a duration can hold.
    let took = HumanDuration(Duration::try_from_secs_f64(outcome.seconds).unwrap_or(Duration::MAX));
    say(format_args!("{}, {:.2} epochs in {took}: {end}", updates(outcome.step), outcome.epochs));
    if let Some(best) = outcome.best {
        say(format_args!(
            "best after update {}: validation loss {:.4}{}",
            best.step,
            best.loss,
            nats(losses, best.nats_per_step, true)
        ));
    }
    for path in outcome.best_checkpoint.iter().chain([&outcome.last_checkpoint]).chain(samples) {
        say(format_args!("  {}", path.display()));
    }
}

/// Shows how training goes, on standard error: a bar on a terminal, a line now and then elsewhere.
pub(super) struct Progress {
    pub(super) bar: ProgressBar,
    flops: u64,
    /// What the device can do at most, if that is known. Sums are f32 in mixed precision too.
    peaks: Option<RooflineLimits>,
    /// What the losses are.
    losses: &'static [Loss],
    since: Mean,
    /// When this part of the run began, and how much of the budget was used up then.
    began: (Instant, f64),
    /// Whether there was a line.
    told: bool,
    /// Set where a checkpoint is wanted now.
    save: Arc<AtomicBool>,
    /// Whether it is still to be said that there is one.
    saving: bool,
}

/// Sums since the last line.
struct Mean {
    began: Instant,
    updates: u32,
    /// By loss.
    losses: Vec<f64>,
    nats: f64,
    /// Of updates that several ranks made.
    ranks: RanksRecord,
    /// How often each rank was the slowest.
    slowest: BTreeMap<usize, u32>,
}

impl Mean {
    fn new(losses: &[Loss]) -> Self {
        let (ranks, slowest) = (RanksRecord::default(), BTreeMap::new());
        Self { began: Instant::now(), updates: 0, losses: vec![0.0; losses.len()], nats: 0.0, ranks, slowest }
    }

    fn add(&mut self, record: &RanksRecord) {
        self.ranks.seconds += record.seconds;
        self.ranks.waited += record.waited;
        self.ranks.slowest_seconds += record.slowest_seconds;
        self.ranks.mean_seconds += record.mean_seconds;
        *self.slowest.entry(record.slowest).or_default() += 1;
    }

    /// How much of the time went into communication, and who was waited for; empty where nobody else trains.
    fn of_ranks(&self) -> String {
        let Some((slowest, _)) = self.slowest.iter().max_by_key(|(_, times)| **times) else { return String::new() };
        let share = 100.0 * self.ranks.waited / self.ranks.seconds.max(1e-9);
        let longer = 100.0 * (self.ranks.slowest_seconds / self.ranks.mean_seconds.max(1e-9) - 1.0);
        format!(", {share:.0} % of the time in communication, slowest rank {slowest} ({longer:.0} % over the mean)")
    }
}

/// Time between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Time between two texts beside the bar.
const TEXT_EVERY: Duration = Duration::from_secs(1);
/// Length of the bar.
const BAR: u64 = 10_000;

impl Progress {
    pub(super) fn new(peaks: Option<RooflineLimits>, save: Arc<AtomicBool>) -> Self {
        let bar = bar(BAR, "{wide_bar} {percent}%\n{msg}");
        Self {
            bar,
            flops: 0,
            peaks,
            losses: &[],
            since: Mean::new(&[]),
            began: (Instant::now(), 0.0),
            told: false,
            save,
            saving: false,
        }
    }

    pub(super) fn line(&self, text: impl Display) {
        if self.bar.is_hidden() {
            tell(text);
        } else {
            self.bar.println(text.to_string());
        }
    }

    /// What part of the device's peak a rate is.
    fn of_peak(&self, gflops: f64) -> String {
        let Some(peaks) = &self.peaks else { return String::new() };
        let doubtful = if peaks.doubt().is_some() { ", which is doubtful" } else { "" };
        format!(" ({:.1} % of the f32 peak{doubtful})", 100.0 * gflops / peaks.f32_gflops)
    }

    /// The time left, judged by the part of the budget that this part of the run has used up so far.
    fn eta(&self, done: f64) -> String {
        let (began, before) = self.began;
        let left = began.elapsed().as_secs_f64() * (1.0 - done) / (done - before).max(1e-9);
        match Duration::try_from_secs_f64(left) {
            Ok(left) => format!(", {} left", HumanDuration(left)),
            Err(_) => String::new(),
        }
    }
}

impl Observer for Progress {
    fn started(&mut self, s: &Started) {
        for notice in &s.notices {
            tell(format_args!("note: {notice}"));
        }
        tell(format_args!(
            "{}: {} parameters on {}, {} training and {} validation pieces, {:.1} GFLOP an update{}, {:.0} MiB",
            s.out,
            s.parameters,
            s.device,
            s.train_files,
            s.validation_files,
            s.flops as f64 / 1e9,
            if s.parts > 1 { format!(" in {} parts", s.parts) } else { String::new() },
            s.memory_bytes as f64 / f64::from(1 << 20)
        ));
        // Once, where several runs follow one another.
        if let Some(peaks) = &self.peaks
            && self.flops == 0
        {
            let on = peaks.measurement.as_ref().map_or(String::new(), |measurement| format!(", on {}", measurement.on));
            let doubt = peaks.doubt().map_or(String::new(), |why| format!("; perhaps too low: {why}"));
            tell(format_args!("measured peak of the device in f32: {:.1} GFLOP/s{on}{doubt}", peaks.f32_gflops));
        }
        if s.step > 0 {
            tell(format_args!("going on after update {}", s.step));
        }
        self.flops = s.flops;
        self.losses = s.losses;
        self.since = Mean::new(s.losses);
        self.began = (Instant::now(), s.done.unwrap_or(0.0));
    }

    fn stepped(&mut self, r: &UpdateRecord) {
        self.since.updates += 1;
        r.ranks.iter().for_each(|record| self.since.add(record));
        self.since.nats += r.losses.nats_per_step();
        for (sum, (_, loss)) in self.since.losses.iter_mut().zip(r.losses.iter()) {
            *sum += loss;
        }
        if let Some(done) = r.done {
            self.bar.set_position((done * BAR as f64) as u64);
        }
        let elapsed = self.since.began.elapsed();
        // The first line comes soon, so that its reader sees how fast it goes.
        if elapsed < if self.bar.is_hidden() && self.told { LINE_EVERY } else { TEXT_EVERY } {
            return;
        }
        self.told = true;
        let n = f64::from(self.since.updates);
        let losses = r.losses.with_values(self.since.losses.iter().map(|sum| sum / n));
        let rate = n / elapsed.as_secs_f64();
        let gflops = rate * self.flops as f64 / 1e9;
        let text = format!(
            "update {}, epoch {:.2}: loss {:.4} ({}){}; {rate:.2} updates/s, {gflops:.1} GFLOP/s{}{}{}",
            r.step,
            r.epochs,
            losses.total(),
            losses.listing(),
            nats(self.losses, self.since.nats / n, false),
            self.of_peak(gflops),
            self.since.of_ranks(),
            r.done.map_or(String::new(), |done| self.eta(done))
        );
        if self.bar.is_hidden() {
            tell(text);
        } else {
            self.bar.set_message(text);
        }
        self.since = Mean::new(self.losses);
    }

    fn overflowed(&mut self, step: u64, scale: f32) {
        self.line(format_args!("a gradient after update {step} overflowed; the loss scale is now {scale}"));
    }

    fn validating(&mut self, done: usize, total: usize) {
        self.bar.set_message(format!("validating: {} % of {total} steps", 100 * done / total.max(1)));
    }

    fn validated(&mut self, r: &ValidationRecord) {
        let losses = &r.metrics.losses;
        self.line(format_args!(
            "validation after update {}: loss {:.4} ({}){}{}",
            r.step,
            losses.total(),
            losses.listing(),
            nats(self.losses, losses.nats_per_step(), false),
            if r.best { ", the best so far" } else { "" }
        ));
        self.since = Mean::new(self.losses);
    }

    fn wants_checkpoint(&mut self) -> bool {
        let wanted = self.save.swap(false, Ordering::Relaxed);
        self.saving |= wanted;
        wanted
    }

    fn saved(&mut self, path: &Path) {
        if self.saving && path.ends_with(LAST) {
            self.saving = false;
            self.line(format_args!("saved {}", path.display()));
        }
    }
}
