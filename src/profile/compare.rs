//! Whether two profiles differ by more than the same program profiled twice would.
//!
//! A test of all runs of one profile against all of the other asks the wrong question. Runs of one process are alike in
//! ways that the next process is not: where memory came to lie, which clock the device kept to, what else the machine did
//! (Georges, Buytaert & Eeckhout 2007; Mytkowicz et al. 2009; Kalibera & Jones 2013). With enough runs such a test calls
//! any two processes different. A kernel has changed here only if two things are true at once, so the larger of the two
//! p counts (an intersection-union test, Berger 1982), and it changed in the same direction by both:
//!
//! - **More than from run to run**: by the exact Mann-Whitney U test of the runs. Of more than `BLOCKS` runs in a profile
//!   medians of so many blocks of consecutive ones are compared, since neighbouring runs are alike (batch means, Schmeiser
//!   1982). It says nothing of what differs between processes.
//! - **More than from process to process.** Times are compared as logarithms. A kernel is taken to vary between two
//!   profiles of one build by `s^2 + (scale r)^2 + floor^2 + clock^2`, where `r` is its spread from run to run, judged by the
//!   fast side, as other programs only make runs slower, and `s` the standard error of the median. What is unsteady from
//!   run to run is unsteady from process to process; how much so, `scale`, is read off the kernels that most changes leave
//!   alone: it is so large that four fifths of them differ as a normal distribution would have it (an empirical null,
//!   Efron 2004), and no less than `LEAST_SCALE`. All kernels of one name have one vote together, since a change of a
//!   shader meets all its shapes. The median over the names of how much they changed is what the machine changed, and is
//!   subtracted first. With fewer than `FEWEST_NAMES` names there is nothing to read it off: nothing is subtracted, and the
//!   scale is 1.
//!
//! `FLOOR` and `clock_us` are what is never believed: effects of layout, and what a clock or a cold cache adds to a call of
//! a microsecond. The whole step is tested like a kernel, and what the machine changed is subtracted from it too; it varies no less
//! than its kernels do together, each by its part of the time. A program all of whose kernels are slower by one factor looks like a
//! slower machine here, which the comparison says: [`super::ab`] runs both in turn and tells the two apart.
//!
//! Of many kernels some would differ by chance: the p are adjusted so that the chance of one false alarm in a comparison is
//! [`LEVEL`] if the model holds (Holm 1979). So few runs may not reach that level, however different; then the answer is
//! "unknown", not "same". About 20 runs are wanted.

use std::collections::BTreeMap;

use serde::Serialize;

use super::report::{Clock, Header, Kernel, Profile};
use crate::error::{Error, Result};
use crate::statistics::{
    blocks, holm, mann_whitney, median, median_interval, normal_p, normal_z, quantile, smallest_p, spread,
    standard_error,
};

/// The chance that a comparison of two profiles of one build names any kernel.
pub const LEVEL: f64 = 0.05;
/// How many values of a profile count as independent, at most.
const BLOCKS: usize = 25;
/// Runs that are enough for most ends.
const WANTED: usize = 20;
/// The standard deviation of a logarithm that is not believed whatever the runs say.
const FLOOR: f64 = 0.02;
/// How much kernels vary between processes at least, as a part of what they vary between runs.
const LEAST_SCALE: f64 = 0.7;
/// Names of kernels from which on it can be told how much profiles vary between processes.
const FEWEST_NAMES: usize = 5;
/// The part of the kernels that are taken to be unchanged, and in how many standard deviations of a normal distribution
/// so many lie.
const UNCHANGED: (f64, f64) = (0.8, 1.2816);
/// The shortest time of which a logarithm is taken, in microseconds.
const SHORTEST_US: f64 = 1e-3;

/// The standard deviation of a call's time that is not believed, in microseconds: steps of a GPU's timestamps; on the CPU
/// whether the operands of a short call are in a cache; around a submission whether the driver's thread slept.
fn clock_us(clock: Clock) -> f64 {
    match clock {
        Clock::Device => 0.05,
        Clock::Cpu => 0.25,
        Clock::Wall => 2.0,
    }
}

/// What a comparison found of one kernel, or of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// No difference beyond what two profiles of one build show.
    Same,
    /// The second is faster.
    Faster,
    /// The second is slower.
    Slower,
    /// There are too few runs to tell.
    Unknown,
}

/// A median time of one profile: of kernels in microseconds a call, of the whole in milliseconds a step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The median.
    pub median: f64,
    /// Between which bounds it lies with 95 % confidence, judged by blocks of runs; `None` of fewer than 6 runs.
    pub interval: Option<[f64; 2]>,
    /// Runs.
    pub runs: usize,
}

/// What became of a time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// In each profile.
    pub times: [Estimate; 2],
    /// Second median / first - 1.
    pub change: f64,
    /// The same without what the machine changed; see [`Comparison::machine`].
    pub beyond: f64,
    /// The smallest `|change|`, about, that would have been told from none; `None` where none would.
    pub visible: Option<f64>,
    /// The chance of such a difference between two profiles of one build, adjusted for the number of kernels.
    pub p: f64,
    /// Whether it differs.
    pub verdict: Verdict,
}

/// A kernel of one shape that is in both profiles.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Name of the kernel.
    pub kernel: String,
    /// Op, mode and shape.
    pub shape: String,
    /// The variant that ran in each.
    pub variants: [String; 2],
    /// What became of a call's time.
    #[serde(flatten)]
    pub change: Change,
}

/// A kernel that only one profile has.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alone {
    /// Name of the kernel.
    pub kernel: String,
    /// Op, mode and shape.
    pub shape: String,
    /// Its variant.
    pub variant: String,
    /// Microseconds of a call.
    pub median: f64,
}

/// What differs between two profiles.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Kernels in both, in the order of the first.
    pub rows: Vec<Row>,
    /// Kernels of the first alone, and of the second.
    pub alone: [Vec<Alone>; 2],
    /// The unprofiled step.
    pub step: Change,
    /// Geometric mean of the ratios of the medians, second to first, over all rows; 1 of none.
    pub geometric_mean: f64,
    /// Milliseconds that the kernels of the rows take in a run of each: median times calls, summed.
    pub total_ms: [f64; 2],
    /// By what factor the machine changed: the median over the names of kernels; `None` where there are too few.
    pub machine: Option<f64>,
    /// What the reader should know of how far this goes.
    pub notes: Vec<String>,
}

/// What a comparison comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Judgement<'a> {
    /// Nothing is slower by more than what is allowed.
    Fine,
    /// These are.
    Slower(Vec<&'a str>),
    /// All kernels together are, by this part: the machine's doing, or the program's.
    Undecided(f64),
    /// It cannot be told, for this reason.
    Unknown(&'static str),
}

impl Comparison {
    /// What the comparison comes to where times may become slower by `threshold`, a part of the first: the one rule by which a
    /// program may fail on it.
    pub fn judgement(&self, threshold: f64) -> Judgement<'_> {
        let (slower, drift) = (self.regressions(threshold), self.machine.map_or(0.0, |factor| factor - 1.0));
        match () {
            () if !slower.is_empty() => Judgement::Slower(slower),
            () if drift > threshold => Judgement::Undecided(drift),
            () if self.rows.is_empty() => Judgement::Unknown("no kernel is in both profiles"),
            () if self.step.verdict == Verdict::Unknown => Judgement::Unknown("there are too few runs"),
            () => Judgement::Fine,
        }
    }

    /// What is slower by more than `threshold`, as a part of the first time, with and without what the machine changed: shapes of
    /// kernels, and "the whole step".
    pub fn regressions(&self, threshold: f64) -> Vec<&str> {
        let rows = self.rows.iter().map(|row| (row.shape.as_str(), &row.change));
        let all = rows.chain([("the whole step", &self.step)]);
        all.filter(|(_, c)| c.verdict == Verdict::Slower && c.change.min(c.beyond) > threshold)
            .map(|(name, _)| name)
            .collect()
    }
}

/// Fails if times of the two say nothing of each other: another machine, other work, another clock. The version of the
/// program may differ.
///
/// # Errors
/// Names all that differs.
pub fn comparable(a: &Header, b: &Header) -> Result<()> {
    let fields = |h: &Header| {
        let m = &h.machine;
        let [batch, seq, steps] = [h.batch, h.seq, h.steps_per_run].map(|n| n.to_string());
        [
            ("adapter", m.adapter.clone()),
            ("vendor", format!("{:#06x}", m.vendor)),
            ("device", format!("{:#06x}", m.device)),
            ("backend", m.backend.clone()),
            ("driver", format!("{} {}", m.driver, m.driver_info).trim().into()),
            ("clock", format!("{:?}", h.clock).to_lowercase()),
            ("work", h.what.clone()),
            ("plan", h.plan.clone()),
            ("preset", h.preset.clone()),
            ("batch", batch),
            ("seq", seq),
            ("steps a run", steps),
            ("precision", h.precision.clone()),
            ("recompute", h.recompute.to_string()),
        ]
    };
    let other = fields(a).into_iter().zip(fields(b)).filter(|(a, b)| a != b);
    let other: Vec<String> = other.map(|((name, a), (_, b))| format!("{name} `{a}` and `{b}`")).collect();
    if other.is_empty() {
        return Ok(());
    }
    Err(Error::usage(
        format!("the profiles differ in more than the program: {}", other.join(", ")),
        "profile both on one machine with the same flags, or compare them all the same with --force",
    ))
}

/// What is measured of a time in both profiles.
struct Pair<'a> {
    samples: [&'a [f64]; 2],
    /// Medians of blocks of runs, as logarithms.
    blocks: [Vec<f64>; 2],
    /// Difference of the medians' logarithms.
    difference: f64,
    /// Variance of the difference from run to run, with what is not believed.
    variance: f64,
    /// The two spreads from run to run, together.
    spread: f64,
}

impl<'a> Pair<'a> {
    /// `clock` is what is not believed, in the unit of the samples, `shortest` the shortest time.
    fn new(samples: [&'a [f64]; 2], clock: f64, shortest: f64) -> Self {
        let logs = samples.map(|times| times.iter().map(|t| t.max(shortest).ln()).collect::<Vec<_>>());
        let medians = logs.each_ref().map(|logs| median(logs));
        let spreads = logs.each_ref().map(|logs| spread(logs));
        let error = |i: usize| standard_error(spreads[i], logs[i].len().min(BLOCKS));
        let squares = |f: &dyn Fn(usize) -> f64| f(0).powi(2) + f(1).powi(2);
        Self {
            samples,
            blocks: logs.each_ref().map(|logs| blocks(logs, BLOCKS)),
            difference: medians[1] - medians[0],
            variance: squares(&error) + squares(&|i| clock / medians[i].exp()) + FLOOR * FLOOR,
            spread: squares(&|i| spreads[i]).sqrt(),
        }
    }

    /// How large `scale` must be for a difference of this size to be `z` standard deviations.
    fn scale(&self, difference: f64, z: f64) -> f64 {
        ((difference / z).powi(2) - self.variance).max(0.0).sqrt() / self.spread.max(f64::MIN_POSITIVE)
    }

    /// The standard deviation of the difference between two profiles of one build, of what varies by `spread` from run to run and so
    /// many times as much from process to process.
    fn noise(&self, spread: f64, scale: f64) -> f64 {
        (self.variance + (scale * spread).powi(2)).sqrt()
    }

    fn p(&self, machine: f64, noise: f64) -> f64 {
        let beyond = self.difference - machine;
        if beyond * self.difference < 0.0 {
            return 1.0;
        }
        normal_p(beyond / noise).max(mann_whitney(&self.blocks[0], &self.blocks[1]))
    }

    /// `least` is the p at which one difference alone is believed.
    fn change(&self, machine: f64, noise: f64, p: f64, least: f64) -> Change {
        let times = self.samples.map(|samples| {
            let median = median(samples);
            let interval = median_interval(&blocks(samples, BLOCKS));
            // The median of all may lie outside where it is not that of the blocks.
            let interval = interval.map(|[low, high]| [low.min(median), high.max(median)]);
            Estimate { median, interval, runs: samples.len() }
        });
        let verdict = match () {
            _ if smallest_p(self.blocks[0].len(), self.blocks[1].len()) > least => Verdict::Unknown,
            _ if p > LEVEL => Verdict::Same,
            _ if self.difference > 0.0 => Verdict::Slower,
            _ => Verdict::Faster,
        };
        let visible = Some((normal_z(least) * noise).exp_m1()).filter(|visible| visible.is_finite());
        let beyond = (self.difference - machine).exp_m1();
        Change { times, change: self.difference.exp_m1(), beyond, visible, p, verdict }
    }
}

/// Pairs of kernels of one name and shape, of one variant, and called and cut alike, where both have it, and those without
/// a partner.
fn pairs<'a>(a: &'a [Kernel], b: &'a [Kernel]) -> (Vec<[&'a Kernel; 2]>, [Vec<&'a Kernel>; 2]) {
    let mut left: Vec<Option<&Kernel>> = b.iter().map(Some).collect();
    let mut partners: Vec<Option<&Kernel>> = vec![None; a.len()];
    let calls = |kernel: &Kernel| (kernel.calls, kernel.dispatches);
    for strict in [2, 1, 0] {
        for (kernel, partner) in a.iter().zip(&mut partners).filter(|(_, partner)| partner.is_none()) {
            let fits = |other: &&mut Option<&Kernel>| {
                other.is_some_and(|other| {
                    let same = (&other.kernel, &other.shape) == (&kernel.kernel, &kernel.shape);
                    let alike = strict < 1 || other.variant == kernel.variant;
                    same && alike && (strict < 2 || calls(other) == calls(kernel))
                })
            };
            *partner = left.iter_mut().find(fits).and_then(Option::take);
        }
    }
    let found = a.iter().zip(&partners).filter_map(|(a, b)| b.map(|b| [a, b])).collect();
    let first = a.iter().zip(&partners).filter(|(_, b)| b.is_none()).map(|(a, _)| a).collect();
    (found, [first, left.into_iter().flatten().collect()])
}

/// By how much all kernels differ, as a logarithm, and the scale; `None` of too few names.
fn machine(names: &BTreeMap<&str, Vec<&Pair<'_>>>) -> Option<(f64, f64)> {
    if names.len() < FEWEST_NAMES {
        return None;
    }
    let differences = |pairs: &Vec<&Pair<'_>>| median(&pairs.iter().map(|pair| pair.difference).collect::<Vec<_>>());
    let machine = median(&names.values().map(differences).collect::<Vec<_>>());
    let votes = names.values().flat_map(|pairs| pairs.iter().map(move |pair| (pair, 1.0 / pairs.len() as f64)));
    let mut scales: Vec<(f64, f64)> =
        votes.map(|(pair, vote)| (pair.scale(pair.difference - machine, UNCHANGED.1), vote)).collect();
    scales.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut votes = 0.0;
    let scale = scales.iter().find(|(_, vote)| {
        votes += vote;
        votes >= UNCHANGED.0 * names.len() as f64
    });
    Some((machine, scale.map_or(1.0, |(scale, _)| *scale)))
}

/// Compares the second profile with the first; see [`comparable`].
pub fn compare(a: &Profile, b: &Profile) -> Comparison {
    let (found, alone) = pairs(&a.kernels, &b.kernels);
    let clock = clock_us(a.header.clock).max(clock_us(b.header.clock));
    let measured: Vec<Pair> =
        (found.iter()).map(|kernels| Pair::new(kernels.map(|k| k.samples_us.as_slice()), clock, SHORTEST_US)).collect();
    let mut names: BTreeMap<&str, Vec<&Pair>> = BTreeMap::new();
    for ([kernel, _], pair) in found.iter().zip(&measured) {
        names.entry(&kernel.kernel).or_default().push(pair);
    }
    let machine = machine(&names);
    let (change, scale) = machine.unwrap_or((0.0, 1.0));
    let scale = scale.clamp(LEAST_SCALE, 1e3);
    let noises: Vec<f64> = measured.iter().map(|pair| pair.noise(pair.spread, scale)).collect();

    // The step varies as its kernels do, all of them together.
    let total =
        |side: usize| -> f64 { found.iter().map(|k| k[side].calls as f64 * median(&k[side].samples_us) / 1e3).sum() };
    let total_ms = [total(0), total(1)];
    let weight = |kernel: &Kernel| kernel.calls as f64 * median(&kernel.samples_us) / 1e3 / total_ms[0];
    let together: f64 = found.iter().zip(&measured).map(|(k, pair)| weight(k[0]) * pair.spread).sum();
    let step = Pair::new([&a.summary.samples_ms, &b.summary.samples_ms], clock / 1e3, SHORTEST_US / 1e3);
    let step_noise = step.noise(step.spread.max(if together.is_finite() { together } else { 0.0 }), scale);

    let tests = (measured.iter().zip(&noises)).map(|(pair, &noise)| pair.p(change, noise));
    let p = holm(&tests.chain([step.p(change, step_noise)]).collect::<Vec<_>>());
    let least = LEVEL / p.len() as f64;
    let rows: Vec<Row> = (found.iter().zip(&measured).zip(noises.iter().zip(&p)))
        .map(|((kernels, pair), (&noise, &p))| Row {
            kernel: kernels[0].kernel.clone(),
            shape: kernels[0].shape.clone(),
            variants: kernels.map(|k| k.variant.clone()),
            change: pair.change(change, noise, p, least),
        })
        .collect();
    let step = step.change(change, step_noise, p[p.len() - 1], least);

    let mean = measured.iter().map(|pair| pair.difference).sum::<f64>() / measured.len().max(1) as f64;
    let alone = alone.map(|kernels| {
        let alone = |k: &Kernel| Alone {
            kernel: k.kernel.clone(),
            shape: k.shape.clone(),
            variant: k.variant.clone(),
            median: median(&k.samples_us),
        };
        kernels.into_iter().map(alone).collect()
    });
    let notes = notes(&rows, &step, machine.map(|(change, _)| change), least);
    Comparison {
        rows,
        alone,
        step,
        geometric_mean: mean.exp(),
        total_ms,
        machine: machine.map(|(change, _)| change.exp()),
        notes,
    }
}

/// What became of a time, and the bounds of first median / second with 95 % confidence, of all that were compared together.
pub(super) type Gain = (Change, [f64; 2]);

/// Compares the second kernel of each pair with the first as [`compare`] does where there are too few names to tell what the
/// machine changed: of variants of an op, which one process has timed one after the other.
pub(super) fn gains(pairs: &[[&Kernel; 2]], clock: Clock) -> Vec<Gain> {
    let samples = pairs.iter().map(|kernels| kernels.map(|kernel| kernel.samples_us.as_slice()));
    let measured: Vec<Pair> = samples.map(|samples| Pair::new(samples, clock_us(clock), SHORTEST_US)).collect();
    let noises: Vec<f64> = measured.iter().map(|pair| pair.noise(pair.spread, 1.0)).collect();
    let p = holm(&measured.iter().zip(&noises).map(|(pair, &noise)| pair.p(0.0, noise)).collect::<Vec<_>>());
    let least = LEVEL / p.len() as f64;
    let gain = |((pair, &noise), &p): ((&Pair, &f64), &f64)| {
        let half = normal_z(least) * noise;
        (pair.change(0.0, noise, p, least), [-half, half].map(|off| (off - pair.difference).exp()))
    };
    measured.iter().zip(&noises).zip(&p).map(gain).collect()
}

fn notes(rows: &[Row], step: &Change, machine: Option<f64>, least: f64) -> Vec<String> {
    let mut notes = vec![];
    let all = || rows.iter().map(|row| &row.change).chain([step]);
    let unknown = all().filter(|change| change.verdict == Verdict::Unknown).count();
    if unknown > 0 {
        let wanted = (1..).find(|&n| smallest_p(n, n) <= least).unwrap_or(BLOCKS);
        notes.push(format!(
            "{unknown} of {} have too few runs for any difference to be significant: profile with --runs {wanted} at \
             least, better {WANTED}",
            rows.len() + 1
        ));
    }
    match machine {
        None if !rows.is_empty() => notes.push(
            "too few different kernels to tell a change of the machine from theirs: profile both in turn, several times"
                .into(),
        ),
        Some(change) if change.abs() > FLOOR => notes.push(format!(
            "all kernels together changed by {:+.1} %, taken for the machine's doing: a kernel, and the step, must differ from that \
             too; `deepj profile ab` runs both in turn and tells whether it is the program's",
            100.0 * change.exp_m1()
        )),
        _ => (),
    }
    let mut visible: Vec<f64> = rows.iter().filter_map(|row| row.change.visible).collect();
    visible.sort_by(f64::total_cmp);
    if !visible.is_empty() {
        notes.push(format!(
            "of half of the kernels a change below {:.0} % would not have shown",
            100.0 * quantile(&visible, 0.5)
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use web_time::Instant;

    use super::*;
    use crate::gpu::{Capabilities, Device, Format};
    use crate::graph::session::KernelSelection;
    use crate::ops::add::Add;
    use crate::ops::cast::Cast;
    use crate::ops::dropout::{Dropout, DropoutSite};
    use crate::ops::gemm::{Gemm, Layout};
    use crate::ops::random::{pcg4d, uniform01};
    use crate::ops::reduce::SumRows;
    use crate::ops::tanh_grad::TanhGrad;
    use crate::ops::{Args, Cost, Op, Recorder, Uniforms};
    use crate::profile::fixtures;
    use crate::profile::{Workload, measure};

    /// Normally distributed numbers that a seed determines.
    struct Random(u32, u32);

    impl Random {
        fn uniform(&mut self) -> f64 {
            self.1 += 1;
            f64::from(uniform01(pcg4d([self.0, self.1, 7, 11])[0]))
        }

        fn normal(&mut self) -> f64 {
            (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
        }
    }

    const NAMES: [&str; 10] =
        ["add", "carry", "cast", "dropout", "gemm", "heads", "lstm_bwd", "lstm_fwd", "nadam", "reduce"];
    const SHAPES: usize = 4;

    /// The times of one process: each kernel's differ from the last process' by 1 %, all drift together as the machine does
    /// (the next run is like the last), and a tenth of the runs is disturbed by something else. `slow` are the kernels of
    /// this name that take 1.2 times as long.
    fn process(seed: u32, slow: &str) -> Profile {
        let mut random = Random(seed, 0);
        let (mut drift, shift) = (random.normal(), 0.03 * random.normal());
        let drifts: Vec<f64> = (0..WANTED)
            .map(|_| {
                drift = 0.9 * drift + (1.0f64 - 0.9 * 0.9).sqrt() * random.normal();
                0.02 * drift + shift
            })
            .collect();
        let mut times: Vec<(&str, String, Vec<f64>)> = vec![];
        for (i, name) in NAMES.iter().enumerate() {
            for shape in 0..SHAPES {
                let usual = 20.0 * 1.7f64.powi((i + shape) as i32) * if *name == slow { 1.2 } else { 1.0 };
                let own = 0.01 * random.normal();
                let mut time = |drift: &f64| {
                    let disturbed = if random.uniform() < 0.1 { random.uniform() } else { 0.0 };
                    usual * (own + drift + 0.01 * random.normal() + disturbed).exp()
                };
                times.push((name, format!("{name} {shape}"), drifts.iter().map(&mut time).collect()));
            }
        }
        let kernels: Vec<(&str, &str, &[f64])> =
            times.iter().map(|(name, shape, times)| (*name, shape.as_str(), times.as_slice())).collect();
        fixtures::profile(&kernels)
    }

    #[test]
    fn processes_of_one_build_are_the_same_where_the_plain_test_says_otherwise() {
        let (mut all, mut same, mut plain, mut alarms) = (0, 0, 0, 0);
        for repeat in 0..20 {
            let (a, b) = (process(2 * repeat, ""), process(2 * repeat + 1, ""));
            let comparison = compare(&a, &b);
            all += comparison.rows.len();
            same += comparison.rows.iter().filter(|row| row.change.verdict == Verdict::Same).count();
            plain += (a.kernels.iter().zip(&b.kernels))
                .filter(|(a, b)| mann_whitney(&a.samples_us, &b.samples_us) > 0.05)
                .count();
            alarms += usize::from(!comparison.regressions(0.05).is_empty());
        }
        assert_eq!(all, 20 * NAMES.len() * SHAPES);
        assert!(plain < all * 7 / 10, "the plain test finds {plain} of {all} the same: too easy");
        assert!(same >= all * 99 / 100 && alarms <= 2, "{same} of {all} the same, {alarms} alarms");
    }

    #[test]
    fn a_kernel_slower_by_a_fifth_is_named_and_no_other() {
        for (i, slow) in NAMES.into_iter().enumerate() {
            for repeat in 0..2 {
                let seed = 1000 + 10 * i as u32 + 2 * repeat;
                let comparison = compare(&process(seed, ""), &process(seed + 1, slow));
                let own: Vec<_> = comparison.rows.iter().filter(|row| row.kernel == slow).collect();
                let found = own.iter().filter(|row| row.change.verdict == Verdict::Slower).count();
                assert!(found >= 3, "{slow}: {own:#?}");
                let regressions = comparison.regressions(0.05);
                assert!(regressions.iter().any(|name| name.starts_with(slow)), "{regressions:?}");
                let others = comparison.rows.iter().filter(|row| row.kernel != slow);
                assert_eq!(
                    others.filter(|row| row.change.verdict != Verdict::Same).count(),
                    0,
                    "{slow} {comparison:#?}"
                );
                let faster = compare(&process(seed + 1, slow), &process(seed, ""));
                assert!(faster.rows.iter().any(|row| row.change.verdict == Verdict::Faster));
                assert_eq!(faster.regressions(0.05), Vec::<&str>::new());
            }
        }
    }

    /// A profile of one kernel a name, each taking `times`.
    fn flat(times: &[f64]) -> Profile {
        let kernels: Vec<_> = NAMES.map(|name| (name, name, times)).into();
        fixtures::profile(&kernels)
    }

    fn steady(us: f64, runs: usize) -> Vec<f64> {
        (0..runs).map(|i| us * (1.0 + 0.001 * (i % 7) as f64)).collect()
    }

    #[test]
    fn a_whole_step_can_be_slower_where_kernels_are_not() {
        let (a, mut b) = (flat(&steady(100.0, 20)), flat(&steady(100.0, 20)));
        b.summary.samples_ms.iter_mut().for_each(|ms| *ms *= 1.3);
        assert_eq!(compare(&a, &b).judgement(0.05), Judgement::Slower(vec!["the whole step"]));
        assert_eq!(compare(&a, &b).judgement(0.4), Judgement::Fine, "allowed");
    }

    #[test]
    fn too_few_runs_are_said() {
        let wanted = |runs: usize| {
            let comparison = compare(&flat(&steady(100.0, runs)), &flat(&steady(200.0, runs)));
            let unknown = comparison.rows.iter().filter(|row| row.change.verdict == Verdict::Unknown).count();
            let said = comparison.notes.iter().any(|note| note.contains("--runs 6 at least, better 20"));
            (unknown, said)
        };
        // Of 11 tests one alone needs p = 0.05 / 11 = 0.0045: 2 / binomial(12, 6) is 0.0022, 2 / binomial(10, 5) 0.0079.
        assert_eq!([1, 3, 5].map(wanted), [(10, true); 3]);
        assert_eq!([6, 20].map(wanted), [(0, false); 2]);
        // Nor is it said that nothing is slower.
        let few = compare(&flat(&steady(100.0, 2)), &flat(&steady(100.0, 2)));
        assert_eq!(few.judgement(0.05), Judgement::Unknown("there are too few runs"));
        let times = steady(100.0, 20);
        let other = fixtures::profile(&[("another", "another", &times[..])]);
        assert_eq!(compare(&flat(&times), &other).judgement(0.05), Judgement::Unknown("no kernel is in both profiles"));
    }

    #[test]
    fn sums_and_means_are_what_they_say() {
        let (a, b) = (flat(&steady(100.0, 21)), flat(&steady(200.0, 21)));
        let comparison = compare(&a, &b);
        assert!((comparison.geometric_mean - 2.0).abs() < 1e-9, "{}", comparison.geometric_mean);
        let [first, second] = comparison.total_ms;
        assert!((first - 1.003).abs() < 1e-9 && (second - 2.006).abs() < 1e-9, "{first} {second}");
        // All alike: the machine's doing, or the whole program's, which cannot be told apart.
        assert!((comparison.machine.unwrap() - 2.0).abs() < 1e-9);
        assert_eq!(comparison.regressions(0.05), Vec::<&str>::new());
        assert!(matches!(comparison.judgement(0.05), Judgement::Undecided(drift) if (drift - 1.0).abs() < 1e-9));
        assert_eq!(comparison.judgement(1.1), Judgement::Fine);
        let Estimate { median, interval, runs } = &comparison.rows[0].change.times[0];
        // The sixth and the sixteenth of 21, three of each of seven times.
        let [low, high] = interval.unwrap();
        for (found, wanted) in [(low, 100.1), (*median, 100.3), (high, 100.5)] {
            assert!((found - wanted).abs() < 1e-9, "{found} {wanted}");
        }
        assert_eq!(*runs, 21);
    }

    #[test]
    fn kernels_find_their_partners() {
        let (mut a, mut b) = (flat(&steady(100.0, 8)), flat(&steady(100.0, 8)));
        // Two variants of a shape in one, one of another name in the other, one that is missing.
        a.kernels[1] = Kernel { variant: "naive".into(), ..a.kernels[0].clone() };
        b.kernels[1] = Kernel { variant: "vector".into(), ..b.kernels[0].clone() };
        b.kernels.swap(0, 1);
        b.kernels.remove(9);
        let comparison = compare(&a, &b);
        let variants: Vec<_> =
            comparison.rows[..3].iter().map(|row| row.variants.each_ref().map(String::as_str)).collect();
        assert_eq!(variants, [["tiled", "tiled"], ["naive", "vector"], ["tiled", "tiled"]]);
        let alone =
            comparison.alone.each_ref().map(|kernels| kernels.iter().map(|k| k.shape.as_str()).collect::<Vec<_>>());
        assert_eq!(alone, [vec!["reduce"], vec![]]);
        let nothing = fixtures::profile(&[]);
        assert_eq!(compare(&nothing, &nothing).geometric_mean, 1.0);
    }

    #[test]
    fn times_that_no_clock_tells_are_the_same() {
        for us in [0.0, 1e-9, 1e300] {
            let comparison = compare(&flat(&[us; 20]), &flat(&[0.04; 20]));
            assert!(us > 1.0 || comparison.rows.iter().all(|row| row.change.verdict == Verdict::Same));
        }
        // A call of a microsecond that takes a tenth more.
        let mut slower = flat(&steady(1.0, 20));
        slower.kernels[3].samples_us = steady(1.1, 20);
        assert_eq!(compare(&flat(&steady(1.0, 20)), &slower).rows[3].change.verdict, Verdict::Same);
    }

    #[test]
    fn what_is_not_comparable_is_named() {
        let a = fixtures::profile(&[("add", "add 4", &[1.0])]).header;
        assert!(comparable(&a, &a).is_ok());
        let mut b = a.clone();
        b.machine.deepj = "9.9.9".into();
        assert!(comparable(&a, &b).is_ok(), "versions are what is compared");
        (b.machine.adapter, b.batch, b.clock) = ("another".into(), 99, Clock::Wall);
        let e = comparable(&a, &b).unwrap_err();
        assert_eq!(e.exit_code(), 2);
        for text in ["adapter `", "and `another`", "batch `", "and `99`", "clock `device` and `wall`", "`force`"] {
            assert!(e.to_string().contains(text), "{text}: {e}");
        }
        assert!(!e.what.contains("preset"), "{e}");
    }

    /// An op that takes so long on the CPU, whatever else the threads of the CPU backend, which all tests share, have to do.
    #[derive(Debug)]
    struct Takes(Arc<dyn Op>, Duration);

    impl Op for Takes {
        fn name(&self) -> &'static str {
            self.0.name()
        }
        fn label(&self) -> String {
            self.0.label()
        }
        fn args(&self) -> Vec<crate::ops::Arg> {
            self.0.args()
        }
        fn cost(&self) -> Cost {
            self.0.cost()
        }
        fn cpu_f32(&self, _: &Uniforms, _: Args<'_, f32>) {
            let began = Instant::now();
            while began.elapsed() < self.1 {
                std::hint::spin_loop();
            }
        }
        fn cpu_f64(&self, uniforms: &Uniforms, args: Args<'_, f64>) {
            self.0.cpu_f64(uniforms, args);
        }
        fn variants(&self, capabilities: &Capabilities) -> Vec<&'static str> {
            self.0.variants(capabilities)
        }
        fn record(&self, variant: &str, recorder: &mut Recorder<'_>) -> Result<()> {
            self.0.record(variant, recorder)
        }
    }

    /// Profiles of these ops through the CPU backend's clock, the second of each pair with the slow one, which takes a fifth more
    /// time, measured in turn.
    fn real(slow: &str) -> [Profile; 2] {
        let (len, stored) = (1 << 16, Format::F32);
        let drop = DropoutSite { rate: 0.5, ..DropoutSite::NONE };
        let ops: [Arc<dyn Op>; 6] = [
            Arc::new(Dropout { len, drop, stored }),
            Arc::new(TanhGrad { len }),
            Arc::new(Add { len, stored }),
            Arc::new(Cast { len, from: stored, to: stored }),
            Arc::new(SumRows::all(256, 512)),
            Arc::new(Gemm::new(Layout::NN, 48, 64, 64)),
        ];
        let header = Header { runs: 30, ..fixtures::profile(&[]).header };
        let mut whole: [Option<Profile>; 2] = [None, None];
        for op in ops {
            for (side, whole) in whole.iter_mut().enumerate() {
                let burning = side == 1 && op.name() == slow;
                let op = Arc::new(Takes(op.clone(), Duration::from_micros(if burning { 180 } else { 150 })));
                let device = Device::Cpu { why: String::new() };
                let profile = pollster::block_on(async {
                    let mut workload = Workload::op(op, device, KernelSelection::default()).await?;
                    measure::measure(&mut workload, header.clone(), None, |_| ()).await
                });
                let profile = profile.unwrap();
                match whole {
                    None => *whole = Some(profile),
                    Some(whole) => whole.join(profile),
                }
            }
        }
        whole.map(Option::unwrap)
    }

    #[test]
    fn an_op_that_burns_a_fifth_more_time_is_named_by_real_clocks() {
        // The machine may be busy with other things: most of the tries count, and most of the other kernels.
        const TRIES: usize = 5;
        let (mut named, mut others) = (0, 0);
        for _ in 0..TRIES {
            let [a, b] = real("dropout");
            assert_eq!(a.header.clock, Clock::Cpu);
            let comparison = compare(&a, &b);
            for row in &comparison.rows {
                match (row.kernel.as_str(), row.change.verdict) {
                    ("dropout", Verdict::Slower) => named += 1,
                    ("dropout", _) | (_, Verdict::Same) => (),
                    _ => others += 1,
                }
            }
        }
        assert!(named > TRIES / 2, "named {named} times in {TRIES}");
        assert!(others <= 1, "{others} of {} others were named", 5 * TRIES);
    }
}
