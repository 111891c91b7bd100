//! Whether two profiles differ by more than the same program profiled twice would.
//!
//! A test of all runs of one profile against all of the other asks the wrong question. Runs of one process are alike in
//! ways that the next process is not: where memory came to lie, which clock the device kept to, what else the machine did
//! (Georges, Buytaert & Eeckhout 2007; Mytkowicz et al. 2009; Kalibera & Jones 2013). With enough runs such a test calls
//! any two processes different. A kernel has changed here only if two things are true at once, so the larger of the two
//! p counts (an intersection-union test, Berger 1982), and it changed in the same direction by both:
//!
//! - **More than from run to run.** The runs of each profile are cut into `BLOCKS` blocks of consecutive ones, whose
//!   medians count as independent where neighbouring runs do not (batch means, Schmeiser 1982). These are compared by the
//!   exact Mann-Whitney U test. It says nothing of what differs between processes.
//! - **More than from process to process.** Times are compared as logarithms. With `s` the standard error of the blocks
//!   (at two sizes of block, the larger counts: Flyvbjerg & Petersen 1989) and `r` the spread from run to run (by quartiles), a
//!   kernel is taken to vary by `s^2 + (scale r)^2 + floor^2 + clock^2` between two profiles of one build. What is unsteady
//!   from run to run is unsteady from process to process; how much so, `scale`, is read off the kernels that most changes
//!   leave alone: it is so large that four fifths of them differ as a normal distribution would have it (an empirical
//!   null, Efron 2004), and no less than `LEAST_SCALE`. All kernels of one name have one vote together, since a change of
//!   a shader meets all its shapes. The median over the names of how much they changed is what the machine changed, and is
//!   subtracted first. With fewer than `FEWEST_NAMES` names there is nothing to read it off: nothing is subtracted, and
//!   the scale is 1.
//!
//! `FLOOR` and `clock_us` are what is never believed: effects of layout, and what a clock or a cold cache adds to a call of a
//! microsecond. The whole step is tested like a kernel, but nothing is subtracted, and it varies no less than its kernels do
//! together, each by its part of the time.
//!
//! Of many kernels some would differ by chance: the p are adjusted so that the chance of one false alarm in a comparison is
//! [`LEVEL`] (Holm 1979). So few runs may not reach that level, however different; then the answer is "unknown", not "same".
//! About 20 runs are wanted: two in each block.

use std::collections::BTreeMap;

use serde::Serialize;

use super::report::{Clock, Header, Kernel, Profile};
use super::statistics::{
    blocks, holm, mann_whitney, median, median_interval, normal_p, normal_z, quantile, smallest_p, spread,
    standard_error,
};
use crate::error::{Error, Result};

/// The chance that a comparison of two profiles of one build names any kernel.
pub const LEVEL: f64 = 0.05;
/// Blocks of consecutive runs, at most.
const BLOCKS: usize = 10;
/// The standard deviation of a logarithm that is not believed whatever the runs say.
const FLOOR: f64 = 0.01;
/// How much kernels vary between processes at least, as a part of what they vary between runs.
const LEAST_SCALE: f64 = 0.5;
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
        Clock::Mirror => 0.25,
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
    /// The smallest `|change|`, about, that would have been told from none.
    pub visible: f64,
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

impl Comparison {
    /// What is slower by more than `threshold`, as a part of the first time: shapes of kernels, and "the whole step".
    pub fn regressions(&self, threshold: f64) -> Vec<&str> {
        let rows = self.rows.iter().map(|row| (row.shape.as_str(), &row.change));
        let all = rows.chain([("the whole step", &self.step)]);
        all.filter(|(_, c)| c.verdict == Verdict::Slower && c.change > threshold).map(|(name, _)| name).collect()
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
    /// Medians of blocks, as logarithms.
    blocks: [Vec<f64>; 2],
    /// Difference of the medians' logarithms.
    difference: f64,
    /// Variance of the difference as the blocks have it, with what is not believed.
    variance: f64,
    /// How the two vary from run to run, together.
    spread: f64,
}

impl<'a> Pair<'a> {
    /// `clock` is what is not believed, in the unit of the samples, `shortest` the shortest time.
    fn new(samples: [&'a [f64]; 2], clock: f64, shortest: f64) -> Self {
        let logs = samples.map(|times| times.iter().map(|t| t.max(shortest).ln()).collect::<Vec<_>>());
        let medians = logs.each_ref().map(|logs| median(logs));
        let error = |logs: &Vec<f64>| {
            let errors = [BLOCKS, BLOCKS / 2].map(|count| standard_error(&blocks(logs, count)));
            errors.into_iter().fold(0.0, f64::max)
        };
        let squares = |f: &dyn Fn(usize) -> f64| f(0).powi(2) + f(1).powi(2);
        Self {
            samples,
            blocks: logs.each_ref().map(|logs| blocks(logs, BLOCKS)),
            difference: medians[1] - medians[0],
            variance: squares(&|i| error(&logs[i])) + squares(&|i| clock / medians[i].exp()) + FLOOR * FLOOR,
            spread: squares(&|i| spread(&logs[i])).sqrt(),
        }
    }

    /// How large `scale` must be for a difference of this size to be `z` standard deviations.
    fn scale(&self, difference: f64, z: f64) -> f64 {
        ((difference / z).powi(2) - self.variance).max(0.0).sqrt() / self.spread.max(f64::MIN_POSITIVE)
    }

    fn p(&self, machine: f64, noise: f64) -> f64 {
        let beyond = self.difference - machine;
        if beyond * self.difference < 0.0 {
            return 1.0;
        }
        normal_p(beyond / noise).max(mann_whitney(&self.blocks[0], &self.blocks[1]))
    }

    /// `least` is the p at which one difference alone is believed.
    fn change(&self, noise: f64, p: f64, least: f64) -> Change {
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
        let visible = (normal_z(least) * noise).exp_m1();
        Change { times, change: self.difference.exp_m1(), visible, p, verdict }
    }
}

/// Pairs of kernels of one name and shape, of one variant where both have it, and those without a partner.
fn pairs<'a>(a: &'a [Kernel], b: &'a [Kernel]) -> (Vec<[&'a Kernel; 2]>, [Vec<&'a Kernel>; 2]) {
    let mut left: Vec<Option<&Kernel>> = b.iter().map(Some).collect();
    let mut partners: Vec<Option<&Kernel>> = vec![None; a.len()];
    for strict in [true, false] {
        for (kernel, partner) in a.iter().zip(&mut partners).filter(|(_, partner)| partner.is_none()) {
            let fits = |other: &&mut Option<&Kernel>| {
                other.is_some_and(|other| {
                    let same = (&other.kernel, &other.shape) == (&kernel.kernel, &kernel.shape);
                    same && (!strict || other.variant == kernel.variant)
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
    let noise = |pair: &Pair, spread: f64| (pair.variance + (scale * spread).powi(2)).sqrt();
    let noises: Vec<f64> = measured.iter().map(|pair| noise(pair, pair.spread)).collect();

    // The step varies as its kernels do, all of them together.
    let total =
        |side: usize| -> f64 { found.iter().map(|k| k[side].calls as f64 * median(&k[side].samples_us) / 1e3).sum() };
    let total_ms = [total(0), total(1)];
    let weight = |kernel: &Kernel| kernel.calls as f64 * median(&kernel.samples_us) / 1e3 / total_ms[0];
    let together: f64 = found.iter().zip(&measured).map(|(k, pair)| weight(k[0]) * pair.spread).sum();
    let step = Pair::new([&a.summary.samples_ms, &b.summary.samples_ms], clock / 1e3, SHORTEST_US / 1e3);
    let step_noise = noise(&step, step.spread.max(if together.is_finite() { together } else { 0.0 }));

    let tests = (measured.iter().zip(&noises)).map(|(pair, &noise)| pair.p(change, noise));
    let p = holm(&tests.chain([step.p(0.0, step_noise)]).collect::<Vec<_>>());
    let least = LEVEL / p.len() as f64;
    let rows: Vec<Row> = (found.iter().zip(&measured).zip(noises.iter().zip(&p)))
        .map(|((kernels, pair), (&noise, &p))| Row {
            kernel: kernels[0].kernel.clone(),
            shape: kernels[0].shape.clone(),
            variants: kernels.map(|k| k.variant.clone()),
            change: pair.change(noise, p, least),
        })
        .collect();
    let step = step.change(step_noise, p[p.len() - 1], least);

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

fn notes(rows: &[Row], step: &Change, machine: Option<f64>, least: f64) -> Vec<String> {
    let mut notes = vec![];
    let all = || rows.iter().map(|row| &row.change).chain([step]);
    let unknown = all().filter(|change| change.verdict == Verdict::Unknown).count();
    if unknown > 0 {
        let wanted = (1..).find(|&n| smallest_p(n, n) <= least).unwrap_or(BLOCKS);
        notes.push(format!(
            "{unknown} of {} have too few runs for any difference to be significant: profile with --runs {wanted} at \
             least, better {}",
            rows.len() + 1,
            2 * BLOCKS
        ));
    }
    match machine {
        None if !rows.is_empty() => notes.push(
            "too few different kernels to tell a change of the machine from theirs: profile both in turn, several times"
                .into(),
        ),
        Some(change) if change.abs() > FLOOR => notes.push(format!(
            "all kernels together changed by {:+.1} %, taken for the machine's doing: a kernel must differ from that too",
            100.0 * change.exp_m1()
        )),
        _ => (),
    }
    let mut visible: Vec<f64> = rows.iter().map(|row| row.change.visible).collect();
    visible.sort_by(f64::total_cmp);
    if !visible.is_empty() {
        notes.push(format!(
            "of half of the kernels a change below {:.0} % would not have shown",
            100.0 * quantile(&visible, 0.5)
        ));
    }
    notes
}
