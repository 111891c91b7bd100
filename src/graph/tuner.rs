//! Measures the variants of a plan's kernels on the adapter, on the plan's own shapes or excerpts of them.
//!
//! A time is the wall clock around submitting and waiting for so many repetitions in one submission that they take
//! [`LATENCIES`] times as long as a submission of nothing, which is subtracted. Encoding does not count, since runs are
//! encoded while the GPU works on the one before. Operands are buffers of zeros made for it: no tensor of a plan is
//! touched, and no kernel's time depends on values.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use web_time::{Duration, Instant};

use super::plan::Plan;
use super::remembered::{self, Checked, Kernels, Key, Known, Measured};
use super::selection::{Event, KernelSelection, Tune, Tuned};
use crate::error::{Kind, Result};
use crate::gpu::{Buffer, Capabilities, DeviceType, Gpu, Machine, Program, Shader};
use crate::ops::{Arg, Op, Recorded, Recorder, TensorId, View};

/// Time for tuning in a session, on hardware and on software adapters. A kernel whose variants are not all measured by then
/// is left for the next run.
const LIMIT: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(20)];
/// How many of a kernel's variants are measured, the likeliest of which come first: on a software adapter most of the time
/// goes into compiling them, seconds each.
const CANDIDATES: [usize; 2] = [usize::MAX, 2];
/// How long one run of an excerpt should take, on hardware and on software adapters.
const RUN: [f64; 2] = [0.002, 0.010];
/// The least that the repetitions of one submission should take, in seconds and in submissions of nothing.
const SAMPLE: f64 = 0.004;
const LATENCIES: f64 = 20.0;
/// Samples of each variant, one variant after the other in turn, so that a change of clocks meets all alike.
const ROUNDS: usize = 3;
/// A variant that takes this many times as long as the fastest is not sampled.
const HOPELESS: f64 = 3.0;
/// The first excerpt's floating-point operations.
const START: u64 = 1 << 24;
/// Seconds from which on a single run is sample enough.
const LONG: f64 = 0.02;
/// The most dispatches of a submission.
const MOST_DISPATCHES: usize = 20_000;

/// What is known of an adapter's kernels, and the time that finding out took.
pub(super) struct Tuner {
    machine: Machine,
    remembered: Kernels,
    /// Experimental variants that were tried.
    checked: Vec<Checked>,
    fastest: HashMap<Key, &'static str>,
    spent: Duration,
}

/// A kernel on a shape that has to be measured.
pub(super) struct Job<'a> {
    op: &'a dyn Op,
    key: Key,
    label: String,
    supported: Vec<&'static str>,
    shaders: u32,
    /// Cost of all nodes alike.
    weight: u64,
}

/// What came of measuring a kernel.
struct Outcome {
    measured: Measured,
    /// Whether a variant failed in a way that may pass.
    may_pass: bool,
}

impl Tuner {
    /// What is remembered; says so where the file is of no use.
    pub fn new(selection: &KernelSelection, capabilities: &Capabilities) -> Self {
        let machine = Machine::of(capabilities);
        let mut known = Known::default();
        if let (Tune::On, Some(path)) = (selection.tune, selection.remembered()) {
            match remembered::load(path, &machine) {
                Ok(found) => known = found,
                Err(why) => selection.tell(&Event::Notice(&format!(
                    "{}: not a file of remembered kernels ({why}), it will be written anew",
                    path.display()
                ))),
            }
        }
        let Known { kernels: remembered, checked } = known;
        Self { machine, remembered, checked, fastest: HashMap::new(), spent: Duration::ZERO }
    }

    /// What came of trying an experimental variant, if its text has been tried.
    fn tried(&self, op: &dyn Op, variant: &str, text: u32) -> Option<&Checked> {
        let is_it = |checked: &&Checked| (&*checked.kernel, &*checked.variant) == (op.kernel(), variant);
        self.checked.iter().find(is_it).filter(|checked| checked.text == text)
    }

    /// The variants of an op that are measured: all that are supported, without those on experimental features that have not
    /// passed a check; on a software adapter the likeliest two.
    fn candidates(&self, op: &dyn Op, capabilities: &Capabilities) -> Vec<&'static str> {
        let passed = |variant: &str| {
            let checked = text(op, variant, capabilities).and_then(|text| self.tried(op, variant, text));
            checked.is_some_and(|checked| checked.wrong.is_none())
        };
        candidates_with(op, capabilities, passed)
    }

    /// Tries the experimental variants of the plan's kernels that have not been tried. What came of it is remembered, beforehand
    /// that a check did not end: a driver may end the program.
    fn check(&mut self, plan: &Plan, selection: &KernelSelection, capabilities: &Capabilities) {
        let Some(check) = &selection.check else { return };
        for op in plan.nodes.iter().map(|node| node.op.as_ref()) {
            let supported = op.supported(capabilities);
            if selection.override_for(op, &supported).is_some() {
                continue;
            }
            for variant in op.experimental().iter().filter(|variant| supported.contains(variant)) {
                let Some(text) = text(op, variant, capabilities) else { continue };
                if self.tried(op, variant, text).is_some() {
                    continue;
                }
                let (kernel, name) = (op.kernel(), variant.to_string());
                let outcome = |wrong| Checked { kernel: kernel.into(), variant: name.clone(), text, wrong };
                let remember = |checked: Checked| {
                    let known = Known { checked: vec![checked], ..Known::default() };
                    let saved =
                        selection.remembered().map_or(Ok(()), |path| remembered::save(path, &self.machine, &known));
                    saved.is_ok()
                };
                // Where it cannot be remembered that a check did not end, there is none.
                if !remember(outcome(Some("its check did not end".into()))) {
                    continue;
                }
                let wrong = check(capabilities, kernel, variant).err();
                if let Some(wrong) = &wrong {
                    selection.tell(&Event::Notice(&format!("{kernel}={name} is left out: {wrong}")));
                }
                remember(outcome(wrong.clone()));
                let tried = outcome(wrong);
                self.checked.retain(|old| (&*old.kernel, &old.variant) != (kernel, &name));
                self.checked.push(tried);
            }
        }
    }

    /// The fastest variant of `op`, if it is known.
    pub fn fastest(&self, op: &dyn Op) -> Option<&'static str> {
        self.fastest.get(&Key::of(op)).copied()
    }

    /// Measures what is not known of the plan's kernels, the costliest first, and remembers it. Kernels with an override and
    /// those with one supported variant are left alone.
    ///
    /// # Errors
    /// A lost device. A variant that fails otherwise is passed over with a notice.
    pub async fn tune(&mut self, gpu: &Gpu, plan: &Plan, selection: &KernelSelection) -> Result<()> {
        if selection.tune == Tune::Off {
            return Ok(());
        }
        self.check(plan, selection, &gpu.capabilities);
        let jobs = self.recall(plan, selection, &gpu.capabilities);
        if jobs.is_empty() {
            return Ok(());
        }
        let began = Instant::now();
        selection.tell(&Event::Started { plan: &plan.name, kernels: jobs.len() });
        let software = software(&gpu.capabilities);
        let mut bench = Bench::new(gpu).await?;
        let mut found = Kernels::new();
        let mut measured = 0;
        for (done, job) in jobs.iter().enumerate() {
            selection.tell(&Event::Measuring { done, label: &job.label });
            let late = || self.spent + began.elapsed() >= LIMIT[software];
            let Some(times) = bench.measure(job, &late, &|text| selection.tell(&Event::Notice(text))).await? else {
                break;
            };
            if let Some(fastest) = times.measured.fastest(&job.supported) {
                self.fastest.insert(job.key.clone(), fastest);
                // What has failed for a reason that may pass is tried again another time.
                if !times.may_pass {
                    found.insert(job.key.clone(), times.measured);
                }
            }
            measured += 1;
        }
        drop(bench);
        self.spent += began.elapsed();
        let (plan, left, seconds) = (plan.name.clone(), jobs.len() - measured, began.elapsed().as_secs_f64());
        finish(selection, &self.machine, found, Tuned { plan, measured, left, seconds, remembered: None });
        Ok(())
    }

    /// Looks up what is remembered of the plan's kernels, and lists what is not, the costliest first.
    pub fn recall<'a>(
        &mut self,
        plan: &'a Plan,
        selection: &KernelSelection,
        capabilities: &Capabilities,
    ) -> Vec<Job<'a>> {
        let mut jobs: Vec<Job<'a>> = vec![];
        for node in &plan.nodes {
            let op = node.op.as_ref();
            let (key, cost) = (Key::of(op), op.cost());
            let weight = cost.flops.max(cost.bytes);
            if let Some(job) = jobs.iter_mut().find(|job| job.key == key) {
                job.weight += weight;
                continue;
            }
            let overridden = selection.override_for(op, &op.supported(capabilities)).is_some();
            let supported = self.candidates(op, capabilities);
            if supported.len() < 2 || overridden || self.fastest(op).is_some() {
                continue;
            }
            // Where a shader's text cannot be made, recording the plan will say why.
            let Some(shaders) = shaders(op, &supported, capabilities) else { continue };
            let remembered = self.remembered.get(&key).filter(|times| times.shaders == shaders);
            match remembered.and_then(|times| times.fastest(&supported)) {
                Some(fastest) => _ = self.fastest.insert(key, fastest),
                None => jobs.push(Job { op, key, label: op.label(), supported, shaders, weight }),
            }
        }
        jobs.sort_by_key(|job| Reverse(job.weight));
        jobs
    }
}

/// Remembers what was measured, and tells that measuring is over.
fn finish(selection: &KernelSelection, machine: &Machine, kernels: Kernels, tuned: Tuned) {
    let mut remembered = selection.remembered();
    if let Some(path) = remembered
        && let Err(e) = remembered::save(path, machine, &Known { kernels, ..Known::default() })
    {
        selection.tell(&Event::Notice(&e.what));
        remembered = None;
    }
    selection.tell(&Event::Finished(&Tuned { remembered: remembered.map(Into::into), ..tuned }));
}

/// What is remembered of an adapter's kernels.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownKernels {
    /// How many kernels and shapes were measured.
    pub measured: usize,
    /// Experimental variants that were tried (`gemm=cooperative`), with what is wrong with them, if anything is.
    pub tried: Vec<(String, Option<String>)>,
}

/// Looks up what the file remembers of an adapter's kernels.
///
/// # Errors
/// Why the file is of no use.
pub fn known_kernels(file: &Path, capabilities: &Capabilities) -> std::result::Result<KnownKernels, String> {
    let Known { kernels, checked } = remembered::load(file, &Machine::of(capabilities))?;
    let tried = checked.into_iter().map(|checked| (format!("{}={}", checked.kernel, checked.variant), checked.wrong));
    Ok(KnownKernels { measured: kernels.len(), tried: tried.collect() })
}

/// The variants of an op that are measured unasked: all that are supported, without those on experimental features; on a
/// software adapter the likeliest two.
pub fn candidates(op: &dyn Op, capabilities: &Capabilities) -> Vec<&'static str> {
    candidates_with(op, capabilities, |_| false)
}

/// The same with those on experimental features that have `passed` a check.
fn candidates_with(op: &dyn Op, capabilities: &Capabilities, passed: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let mut supported = op.supported(capabilities);
    supported.retain(|variant| !op.experimental().contains(variant) || passed(variant));
    supported.truncate(CANDIDATES[software(capabilities)]);
    supported
}

/// A checksum of the files of the shaders that `op` runs in a variant; `None` where it cannot be recorded.
fn text(op: &dyn Op, variant: &str, capabilities: &Capabilities) -> Option<u32> {
    let dispatches = Recorder::record(op, variant, capabilities, &views(op)).ok()?.dispatches;
    let mut sources: Vec<&str> = dispatches.iter().map(|dispatch| dispatch.shader.source).collect();
    sources.sort_unstable();
    sources.dedup();
    Some(sources.into_iter().fold(0, |sum, source| crc32c::crc32c_append(sum, source.as_bytes())))
}

/// The place of an adapter's constants among those for hardware and for software.
fn software(capabilities: &Capabilities) -> usize {
    usize::from(capabilities.device_type == DeviceType::Software)
}

/// A checksum of the text of all shaders that `op` runs in these variants; `None` where one cannot be recorded.
fn shaders(op: &dyn Op, supported: &[&'static str], capabilities: &Capabilities) -> Option<u32> {
    let operands = views(op);
    let mut seen: Vec<Shader> = vec![];
    for variant in supported {
        for dispatch in Recorder::record(op, variant, capabilities, &operands).ok()?.dispatches {
            if !seen.contains(&dispatch.shader) {
                seen.push(dispatch.shader);
            }
        }
    }
    seen.iter().try_fold(0, |sum, shader| Some(crc32c::crc32c_append(sum, shader.wgsl().ok()?.as_bytes())))
}

/// A tensor for each operand.
fn views(op: &dyn Op) -> Vec<View> {
    let view = |(arg, id): (Arg, u32)| View { tensor: TensorId(id), start: 0, len: arg.len, format: arg.format };
    op.args().into_iter().zip(0..).map(view).collect()
}

/// Ops, with how many of each there are.
type Counts<'a> = Vec<(&'a dyn Op, usize)>;

/// Two plans that compute the same, and which is the faster: the sum of what each takes for the kernels and shapes that the other
/// has not, or fewer of, all in their first variants.
pub struct Rivals<'a> {
    /// By plan its name, and those ops with how many more of each it has.
    sides: [(&'static str, Counts<'a>); 2],
    key: Key,
    shaders: u32,
}

impl<'a> Rivals<'a> {
    /// `None` where neither plan has anything for itself, or a shader's text cannot be made.
    pub fn new(plans: [(&'static str, &'a Plan); 2], capabilities: &Capabilities) -> Option<Self> {
        let counts = plans.map(|(_, plan)| {
            let mut counts: BTreeMap<Key, (&dyn Op, usize)> = BTreeMap::new();
            for node in &plan.nodes {
                counts.entry(Key::of(node.op.as_ref())).or_insert((node.op.as_ref(), 0)).1 += 1;
            }
            counts
        });
        let more = |own: usize| {
            let more = |(key, (op, count)): (&Key, &(&'a dyn Op, usize))| {
                let others = counts[1 - own].get(key).map_or(0, |(_, count)| *count);
                (*op, count.saturating_sub(others))
            };
            (plans[own].0, counts[own].iter().map(more).filter(|(_, more)| *more > 0).collect::<Counts<'_>>())
        };
        let sides = [more(0), more(1)];
        let of = |(op, count): &(&dyn Op, usize)| format!("{count} {}", op.label());
        let [a, b] = [0, 1].map(|side: usize| (sides[side].0, sides[side].1.iter().map(of).collect::<Vec<_>>()));
        let key = Key::named("plan", &serde_json::json!({ a.0: a.1, b.0: b.1 }));
        let ops = || sides.iter().flat_map(|(_, ops)| ops);
        let text = |(op, _): &(&dyn Op, usize)| shaders(*op, &[*op.supported(capabilities).first()?], capabilities);
        let shaders = ops().try_fold(0, |sum, op| Some(crc32c::crc32c_append(sum, &text(op)?.to_le_bytes())))?;
        (ops().next().is_some()).then_some(Self { sides, key, shaders })
    }

    /// The name of the faster, if it is remembered.
    pub fn remembered(&self, selection: &KernelSelection, capabilities: &Capabilities) -> Option<&'static str> {
        let known = remembered::load(selection.remembered()?, &Machine::of(capabilities)).ok()?;
        let times = known.kernels.get(&self.key).filter(|times| times.shaders == self.shaders)?;
        times.fastest(&self.sides.each_ref().map(|(name, _)| *name))
    }

    /// Measures both and remembers it; returns the name of the faster. `None`, with a notice, where one cannot be measured.
    ///
    /// # Errors
    /// A lost device.
    pub async fn measure(&self, gpu: &Gpu, selection: &KernelSelection) -> Result<Option<&'static str>> {
        let began = Instant::now();
        let count = self.sides.iter().map(|(_, ops)| ops.len()).sum();
        let names = self.sides.each_ref().map(|(name, _)| *name);
        let plan = names.join(" or ");
        selection.tell(&Event::Started { plan: &plan, kernels: count });
        let mut bench = Bench::new(gpu).await?;
        // By side, and by op its samples.
        let mut seconds = self.sides.each_ref().map(|(_, ops)| vec![vec![]; ops.len()]);
        for round in 0..ROUNDS {
            if round > 0 && began.elapsed() >= LIMIT[software(&gpu.capabilities)] {
                break;
            }
            let mut done = 0;
            for ((_, ops), seconds) in self.sides.iter().zip(&mut seconds) {
                for ((op, _), samples) in ops.iter().zip(seconds) {
                    selection.tell(&Event::Measuring { done, label: &op.label() });
                    done += 1;
                    let first = &op.supported(&gpu.capabilities)[..1];
                    let is_long = samples.first().is_none_or(|seconds| *seconds >= LONG);
                    for times in bench.times(*op, first, usize::from(!is_long)).await {
                        match times.samples {
                            Ok(more) => samples.extend(more),
                            Err(e) if gpu.wait().await.is_err() => return Err(e),
                            Err(e) => {
                                selection.tell(&Event::Notice(&format!("{} is not timed: {}", op.label(), e.what)));
                                return Ok(None);
                            }
                        }
                    }
                }
            }
        }
        let mut measured = Measured { shaders: self.shaders, us: BTreeMap::new() };
        for ((name, ops), seconds) in self.sides.iter().zip(&mut seconds) {
            let sum: f64 = ops.iter().zip(seconds).map(|((_, count), samples)| *count as f64 * median(samples)).sum();
            measured.us.insert((*name).into(), Some(sum * 1e6));
        }
        let faster = measured.fastest(&names);
        let kernels = Kernels::from([(self.key.clone(), measured)]);
        let seconds = began.elapsed().as_secs_f64();
        let tuned = Tuned { plan, measured: count, left: 0, seconds, remembered: None };
        finish(selection, &Machine::of(&gpu.capabilities), kernels, tuned);
        Ok(faster)
    }
}

/// The times of an op's variant.
#[derive(Debug)]
pub struct Times {
    /// The variant.
    pub variant: &'static str,
    /// Seconds of a run, sample by sample; a single one where the variant is far behind the fastest.
    pub samples: Result<Vec<f64>>,
}

/// Where measuring happens.
pub struct Bench<'a> {
    gpu: &'a Gpu,
    /// By place among the operands, scratch memory behind them; grown as needed.
    memory: Vec<Buffer>,
    /// Shaders that have run.
    compiled: Vec<Shader>,
    /// Seconds of a submission of nothing.
    latency: f64,
    /// Seconds that a run of an excerpt should take.
    run: f64,
}

/// A variant that runs.
struct Candidate {
    variant: &'static str,
    program: Program,
    /// Seconds of one run, then of each sample's runs.
    once: f64,
    samples: Vec<f64>,
    /// Runs of the longest submission so far.
    times: f64,
}

impl<'a> Bench<'a> {
    /// Memory for measuring on this adapter, none so far.
    ///
    /// # Errors
    /// A lost device.
    pub async fn new(gpu: &'a Gpu) -> Result<Self> {
        let latency = gpu.latency().await?.as_secs_f64();
        let run = RUN[software(&gpu.capabilities)];
        Ok(Self { gpu, memory: vec![], compiled: vec![], latency, run })
    }

    /// Times an op as it is in these variants, so many samples of each in turn.
    pub async fn times(&mut self, op: &dyn Op, variants: &[&'static str], samples: usize) -> Vec<Times> {
        let mut candidates = vec![];
        for &variant in variants {
            candidates.push((variant, self.candidate(op, variant).await));
        }
        let running = candidates.iter().filter_map(|(_, candidate)| candidate.as_ref().ok());
        let best = running.map(|candidate| candidate.once).fold(f64::INFINITY, f64::min);
        for _ in 0..samples {
            for (_, outcome) in &mut candidates {
                if let Ok(candidate) = outcome
                    && !self.is_hopeless(candidate, best)
                    && let Err(e) = self.sample(candidate).await
                {
                    *outcome = Err(e);
                }
            }
        }
        let samples = |Candidate { once, samples, .. }| if samples.is_empty() { vec![once] } else { samples };
        candidates.into_iter().map(|(variant, outcome)| Times { variant, samples: outcome.map(samples) }).collect()
    }

    /// Whether a variant is so far behind the best that it is not sampled. Of what is shorter than a submission of nothing, one run says
    /// little.
    fn is_hopeless(&self, candidate: &Candidate, best: f64) -> bool {
        candidate.once > HOPELESS * best.max(self.latency)
    }

    /// Takes a sample of enough runs.
    async fn sample(&self, candidate: &mut Candidate) -> Result<()> {
        /// By how many times a submission may be longer than one that was timed.
        const GROWTH: f64 = 16.0;
        let enough = SAMPLE.max(LATENCIES * self.latency);
        let most = (MOST_DISPATCHES / candidate.program.len().max(1)).max(1) as f64;
        // What one run takes is next to nothing beside a long latency, so how many are enough is found step by step.
        let mut times = candidate.times;
        loop {
            let wanted = (enough / candidate.once).ceil().clamp(1.0, most);
            times = wanted.min(GROWTH * times);
            let seconds = self.seconds(&candidate.program, times as u32).await?;
            candidate.once = seconds / times;
            if times == most || seconds >= enough / 2.0 {
                candidate.times = times;
                candidate.samples.push(candidate.once);
                return Ok(());
            }
        }
    }

    /// Seconds of `times` runs in one submission, that of a submission of nothing left out.
    async fn seconds(&self, program: &Program, times: u32) -> Result<f64> {
        Ok((self.gpu.time(program, times).await?.as_secs_f64() - self.latency).max(1e-9))
    }

    /// A variant of `op` on buffers of its own, and the seconds of a run; not of the first where a driver may still be
    /// compiling or clearing then.
    async fn candidate(&mut self, op: &dyn Op, variant: &'static str) -> Result<Candidate> {
        let Recorded { dispatches, scratch } = Recorder::record(op, variant, &self.gpu.capabilities, &views(op))?;
        let operands =
            op.args().into_iter().map(|arg| arg.bytes().div_ceil(4)).chain((scratch > 0).then_some(scratch as u64));
        let mut cold = false;
        let mut used = 0;
        for len in operands {
            if self.memory.get(used).is_none_or(|buffer| buffer.len() < len) {
                // The old one goes first, so that its memory can be had.
                self.memory.truncate(used);
                self.memory.push(self.gpu.buffer("operand", len).await?);
                cold = true;
            }
            used += 1;
        }
        for dispatch in &dispatches {
            if !self.compiled.contains(&dispatch.shader) {
                self.compiled.push(dispatch.shader.clone());
                cold = true;
            }
        }
        let operands: Vec<&Buffer> = self.memory[..used].iter().collect();
        let steps: Vec<_> = dispatches.into_iter().map(|dispatch| (dispatch, operands.as_slice())).collect();
        let program = self.gpu.program(op.kernel(), &steps).await?;
        if cold {
            self.seconds(&program, 1).await?;
        }
        let once = self.seconds(&program, 1).await?;
        Ok(Candidate { variant, program, once, samples: vec![], times: 1.0 })
    }

    /// What remains of a failure, once `notice` is told: whether it may pass. Memory that ran out may be free another time, and
    /// a driver that failed may work; a shader that it refuses it refuses again.
    ///
    /// # Errors
    /// The failure itself where the device is lost.
    async fn survive(&self, job: &Job<'_>, variant: &str, e: crate::Error, notice: &dyn Fn(&str)) -> Result<bool> {
        if self.gpu.wait().await.is_err() {
            return Err(e);
        }
        notice(&format!("{} is left out: {} ({})", variant, e.what, job.label));
        Ok(e.kind != Kind::Shader)
    }

    /// The times of all variants; `None` where it got too late.
    async fn measure(
        &mut self,
        job: &Job<'_>,
        late: &dyn Fn() -> bool,
        notice: &dyn Fn(&str),
    ) -> Result<Option<Outcome>> {
        let mut us: BTreeMap<_, _> = job.supported.iter().map(|v| (v.to_string(), None)).collect();
        let mut candidates: Vec<Candidate> = vec![];
        let (mut best, mut may_pass) = (f64::INFINITY, false);
        let excerpt = self.excerpt(job).await;
        for &variant in &job.supported {
            if late() {
                return Ok(None);
            }
            match self.candidate(excerpt.as_deref().unwrap_or(job.op), variant).await {
                Ok(candidate) => {
                    best = best.min(candidate.once);
                    candidates.push(candidate);
                }
                Err(e) => may_pass |= self.survive(job, variant, e, notice).await?,
            }
        }
        for _ in 0..ROUNDS {
            for mut candidate in std::mem::take(&mut candidates) {
                let outcome =
                    if self.is_hopeless(&candidate, best) { Ok(()) } else { self.sample(&mut candidate).await };
                match outcome {
                    Ok(()) => candidates.push(candidate),
                    Err(e) => may_pass |= self.survive(job, candidate.variant, e, notice).await?,
                }
            }
        }
        for candidate in &mut candidates {
            let seconds = if candidate.samples.is_empty() { candidate.once } else { median(&mut candidate.samples) };
            us.insert(candidate.variant.into(), Some(seconds * 1e6));
        }
        Ok(Some(Outcome { measured: Measured { shaders: job.shaders, us }, may_pass }))
    }

    /// A part of the op that its first variant runs in about the time that a run should take; `None` for all of it.
    async fn excerpt(&mut self, job: &Job<'_>) -> Option<Box<dyn Op>> {
        let mut flops = START;
        loop {
            let part = job.op.excerpt(flops)?;
            // A variant may want a shape that is not too small.
            if !part.supported(&self.gpu.capabilities).starts_with(&job.supported) {
                flops = flops.saturating_mul(2);
                continue;
            }
            // Where it fails, so it will again when it is measured, and is dealt with then.
            let Ok(Candidate { once, .. }) = self.candidate(part.as_ref(), job.supported[0]).await else {
                return Some(part);
            };
            if once > self.run / 2.0 {
                return Some(part);
            }
            flops = flops.saturating_mul((self.run / once).clamp(2.0, 8.0) as u64);
        }
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use pollster::block_on;

    use super::*;
    use crate::error;
    use crate::gpu::{Device, DeviceChoice, Format, OpenOptions, WaitOptions, adapters, open};
    use crate::graph::selection::{Check, Observer, Origin};
    use crate::graph::{Graph, Kind};
    use crate::ops::gemm::{Gemm, Layout};

    /// A file may remember variants that are no longer there: the driver lost a feature, or another build wrote it.
    #[test]
    fn remembered_variants_that_there_are_not_are_passed_over() {
        let mut graph = Graph::without_params();
        let [a, b] = ["a", "b"].map(|name| graph.temp(name, 64 * 64));
        let c = graph.tensor("c", 64 * 64, Kind::Output);
        let product = Gemm::new(Layout::NN, 64, 64, 64);
        graph.apply(product.clone(), &[a, b, c]);
        let plan = Plan::compile("test", graph);
        let with = Capabilities { device_type: DeviceType::Discrete, ..Capabilities::able() };
        let without = Capabilities { subgroup: false, ..with.clone() };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tuning.json");
        let selection =
            KernelSelection { tune: Tune::On, remembered: Some(file.clone()), ..KernelSelection::default() };
        let chosen = |capabilities: &Capabilities| {
            let mut tuner = Tuner::new(&selection, capabilities);
            let measured_anew = tuner.recall(&plan, &selection, capabilities).len();
            let chosen = selection.choose(&plan, capabilities, |op| tuner.fastest(op))[0];
            (chosen.variant, chosen.origin, measured_anew)
        };
        // Whatever the file holds the checksum of.
        for of in [&with, &without] {
            let shaders = shaders(&product, &candidates(&product, of), of).unwrap();
            let us = candidates(&product, &with)
                .into_iter()
                .map(|v| (v.into(), Some(if v == "subgroup" { 1.0 } else { 2.0 })));
            let times = Measured { shaders, us: us.collect() };
            let kernels = Kernels::from([(Key::of(&product), times)]);
            let known = Known { kernels, ..Known::default() };
            remembered::save(&file, &Machine::of(&with), &known).unwrap();
            let default = (product.supported(&without)[0], Origin::Default, 1);
            assert_eq!(chosen(&without), default);
            let expected = if of == &with { ("subgroup", Origin::Tuned, 0) } else { default };
            assert_eq!(chosen(&with), expected);
        }
    }

    /// A product of 64 rows, too small for an excerpt.
    fn small_product() -> Plan {
        let mut graph = Graph::without_params();
        let [a, b] = ["a", "b"].map(|name| graph.temp(name, 64 * 64));
        let c = graph.tensor("c", 64 * 64, Kind::Output);
        graph.apply(Gemm::new(Layout::NN, 64, 64, 64), &[a, b, c]);
        Plan::compile("test", graph)
    }

    /// What fails while the first variant is measured is remembered only where the driver would refuse it again.
    #[test]
    fn failures_that_may_pass_are_not_remembered() {
        type Failing = fn(&Gpu);
        // With the timeout, and whether tuning goes on.
        let passing: [(Failing, Option<u64>, bool); 4] = [
            (|gpu| gpu.inject(error::Kind::Memory), None, true),
            (|gpu| gpu.inject(error::Kind::Device), None, true),
            (Gpu::destroy, None, false),
            (Gpu::hang, Some(1), false),
        ];
        if block_on(adapters()).is_empty() {
            println!("skipped: no adapter here");
            return;
        }
        let open = |timeout: Option<u64>| {
            let options = WaitOptions { timeout: timeout.map(Duration::from_secs), ..WaitOptions::default() };
            match block_on(open(&DeviceChoice::Index(0), OpenOptions::default())).unwrap().waited_for(options) {
                Device::Gpu(gpu) => gpu,
                Device::Cpu { why } => panic!("{why}"),
            }
        };
        let plan = small_product();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tuning.json");
        // What tuning a new device comes to, and the times that are remembered then.
        let tune = |fail: Option<Failing>, timeout| {
            let gpu = open(timeout);
            let failing = gpu.clone();
            let observer: Observer = Arc::new(move |event| {
                if let (Event::Measuring { .. }, Some(fail)) = (event, fail) {
                    fail(&failing);
                }
            });
            let (remembered, observer) = (Some(file.clone()), Some(observer));
            let selection = KernelSelection { tune: Tune::On, remembered, observer, ..KernelSelection::default() };
            let done = block_on(Tuner::new(&selection, &gpu.capabilities).tune(&gpu, &plan, &selection));
            let Known { kernels, .. } = remembered::load(&file, &Machine::of(&gpu.capabilities)).unwrap();
            println!("{:?}", done.as_ref().err());
            (done.is_ok(), kernels.into_values().next().map(|measured| measured.us))
        };
        for (i, (fail, timeout, goes_on)) in passing.into_iter().enumerate() {
            assert_eq!(tune(Some(fail), timeout), (goes_on, None), "failure {i}");
        }
        let (_, refused) = tune(Some(|gpu| gpu.inject(error::Kind::Shader)), None);
        assert_eq!(refused.unwrap().values().filter(|us| us.is_none()).count(), 1);
        std::fs::remove_file(&file).unwrap();
        let (_, measured) = tune(None, None);
        assert!(measured.unwrap().values().all(Option::is_some));
    }

    #[test]
    fn experimental_variants_are_not_measured_unasked() {
        let mut graph = Graph::without_params();
        let [a, b] = ["a", "b"].map(|name| graph.temp_as(name, 64 * 64, Format::F16));
        let c = graph.tensor("c", 64 * 64, Kind::Output);
        let product = Gemm::new(Layout::NN, 64, 64, 64).of([Format::F16, Format::F16, Format::F32]);
        graph.apply(product.clone(), &[a, b, c]);
        let plan = Plan::compile("test", graph);
        let capabilities = Capabilities { device_type: DeviceType::Discrete, ..Capabilities::able() };
        assert!(product.supported(&capabilities).contains(&"cooperative"));
        let selection = KernelSelection { tune: Tune::Force, ..KernelSelection::default() };
        let mut tuner = Tuner::new(&selection, &capabilities);
        let jobs = tuner.recall(&plan, &selection, &capabilities);
        assert_eq!(jobs.len(), 1);
        assert!(jobs[0].supported.len() > 3 && !jobs[0].supported.contains(&"cooperative"), "{:?}", jobs[0].supported);
        // With a check that it passes it is; the check is made once, and what came of it is remembered.
        for wrong in [None, Some("gemm NN 1x1x1: 2 is not 1".to_string())] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("tuning.json");
            let (times, machine) = (Arc::new(AtomicU32::new(0)), Machine::of(&capabilities));
            let (counter, result, path, of) = (times.clone(), wrong.clone(), file.clone(), machine.clone());
            let check: Check = Arc::new(move |_, kernel, variant| {
                assert_eq!((kernel, variant), ("gemm", "cooperative"));
                let during = remembered::load(&path, &of).unwrap().checked;
                assert!(during[0].wrong.as_ref().is_some_and(|wrong| wrong.contains("did not end")), "{during:?}");
                counter.fetch_add(1, Ordering::Relaxed);
                result.clone().map_or(Ok(()), Err)
            });
            let checked = KernelSelection {
                tune: Tune::On,
                remembered: Some(file.clone()),
                check: Some(check),
                ..KernelSelection::default()
            };
            for _ in 0..2 {
                let mut tuner = Tuner::new(&checked, &capabilities);
                tuner.check(&plan, &checked, &capabilities);
                let jobs = tuner.recall(&plan, &checked, &capabilities);
                assert_eq!(jobs[0].supported.contains(&"cooperative"), wrong.is_none(), "{:?}", jobs[0].supported);
                assert_eq!(times.load(Ordering::Relaxed), 1);
            }
            // Nor is it of other text.
            let mut tuner = Tuner::new(&checked, &capabilities);
            tuner.checked[0].text += 1;
            assert!(!tuner.recall(&plan, &checked, &capabilities)[0].supported.contains(&"cooperative"));
        }
        let overridden = KernelSelection::overriding(vec![("gemm".into(), "cooperative".into())]);
        let chosen = overridden.choose(&plan, &capabilities, |_| None);
        assert_eq!(chosen[0].variant, "cooperative");
    }
}
