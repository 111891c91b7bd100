//! Makes a [`Profile`] of what a [`Workload`] does: runs it with and without looking at the clock, in turn.
//!
//! A profiled run's wall time is that of its kernels (each dispatch's, by the profile's clock) and of gaps that have names:
//! between kernels; the submission, as long as one of nothing takes; reading the results. What these do not explain is a gap
//! of its own, negative where dispatches overlap. By the wall clock a dispatch's time holds a submission, which is
//! subtracted and counted among the gaps.

use std::collections::HashMap;
use std::time::Duration;

use super::report::{Bound, CPU_VARIANT, Clock, Gap, Header, Kernel, Profile, Span, Summary, Track};
use super::workload::Workload;
use crate::error::Result;
use crate::gpu::{self, Facts};
use crate::graph::session::{self, Timeline};
use crate::ops::Cost;
use crate::ops::order::COMPUTE_UNITS;
use crate::peaks::RooflineLimits;
use crate::statistics::{median, quantile, sorted};

/// A kernel of the workload's plan and its calls so far.
struct Calls {
    kernel: &'static str,
    variant: String,
    shape: String,
    cost: Cost,
    /// Dispatches of a call; 1 on the CPU.
    dispatches: usize,
    facts: Vec<Facts>,
    /// By run.
    runs: Vec<Vec<Call>>,
}

/// Microseconds of one call.
#[derive(Clone, Copy, Default)]
struct Call {
    busy: f64,
    gap: f64,
    encode: f64,
}

/// A profiled run; times in microseconds.
struct Run {
    wall: f64,
    /// In the order of [`Measuring::gap_names`].
    gaps: Vec<f64>,
    timeline: Timeline,
    reading: f64,
    latency: f64,
}

/// Runs `workload` `runs` times with and as often without looking at the clock, the one named if any. `progress` is told
/// how many of both are done.
///
/// # Errors
/// A lost device; timestamps that fail after the first run.
pub async fn measure(
    workload: &mut Workload,
    header: Header,
    clock: Option<gpu::Clock>,
    mut progress: impl FnMut(usize),
) -> Result<Profile> {
    // The first run may still compile, clear memory or raise clocks. It decides by which clock all others are told.
    workload.run().await?;
    let told = workload.timeline(clock).await?.0.clock;
    let clock = match told {
        Some(gpu::Clock::Device) => Clock::Device,
        Some(gpu::Clock::Wall) => Clock::Wall,
        None => Clock::Cpu,
    };
    let runs = header.runs;
    let mut measuring = Measuring::new(workload, Header { clock, steps_per_run: workload.times as usize, ..header });
    let mut unprofiled = vec![];
    for run in 0..runs {
        unprofiled.push(microseconds(workload.run().await?.wall));
        progress(2 * run + 1);
        let latency = microseconds(workload.session.latency().await?);
        let (timeline, reading) = workload.timeline(told).await?;
        measuring.add(workload, timeline, microseconds(reading), latency);
        progress(2 * run + 2);
    }
    Ok(measuring.finish(workload, &unprofiled))
}

fn microseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

struct Measuring {
    header: Header,
    calls: Vec<Calls>,
    /// The kernel of each node.
    kernel_of: Vec<usize>,
    runs: Vec<Run>,
}

impl Measuring {
    fn new(workload: &Workload, header: Header) -> Self {
        let plan = workload.plan();
        let chosen = workload.session.chosen(workload.program);
        let (mut calls, mut kernel_of) = (Vec::<Calls>::new(), vec![]);
        let mut known = HashMap::new();
        for (i, node) in plan.nodes.iter().enumerate() {
            let variant = chosen.get(i).map_or(CPU_VARIANT, |chosen| chosen.variant);
            let (kernel, shape) = (node.op.kernel(), node.op.label());
            let facts = workload.session.facts(workload.program, i);
            let dispatches = if header.clock == Clock::Cpu { 1 } else { facts.len() };
            // A node may be cut otherwise than another of its shape, where its operands stand elsewhere in their buffers.
            let place = known.entry((kernel, variant, shape.clone(), dispatches)).or_insert_with(|| {
                let (cost, variant) = (node.op.cost(), variant.to_string());
                calls.push(Calls { kernel, variant, shape, cost, dispatches, facts, runs: vec![] });
                calls.len() - 1
            });
            kernel_of.push(*place);
        }
        Self { header, calls, kernel_of, runs: vec![] }
    }

    /// What stands between kernels in a run; what is unaccounted comes behind them.
    fn gap_names(&self) -> &'static [&'static str] {
        match self.header.clock {
            Clock::Device => &["between kernels", "submission", "reading results"],
            Clock::Wall => &["encoding", "submissions", "reading results"],
            Clock::Cpu => &["between ops", "reading results"],
        }
    }

    /// Takes in a profiled run, after which reading the results took so many microseconds, while a submission of nothing
    /// takes `latency`.
    fn add(&mut self, workload: &Workload, timeline: Timeline, reading: f64, latency: f64) {
        for calls in &mut self.calls {
            calls.runs.push(vec![]);
        }
        // Dispatches of the call under way at each node.
        let mut begun = vec![0; workload.plan().nodes.len()];
        let (mut before, mut kernels, mut between, mut encoding) = (None, 0.0, 0.0, 0.0);
        for span in &timeline.spans {
            let calls = &mut self.calls[self.kernel_of[span.node]];
            let mut busy = us(span.end) - us(span.start);
            if self.header.clock == Clock::Wall {
                busy = (busy - latency).max(0.0);
            }
            let gap = before.map_or(0.0, |before: f64| (us(span.start) - before).max(0.0));
            let encode = microseconds(span.encoding);
            let done = &mut begun[span.node];
            if let (Some(run), true) = (calls.runs.last_mut(), *done == 0) {
                run.push(Call::default());
            }
            if let Some(last) = calls.runs.last_mut().and_then(|run| run.last_mut()) {
                *last = Call { busy: last.busy + busy, gap: last.gap + gap, encode: last.encode + encode };
            }
            *done = (*done + 1) % calls.dispatches;
            (kernels, between, encoding) = (kernels + busy, between + gap, encoding + encode);
            before = Some(before.map_or(us(span.end), |before| before.max(us(span.end))));
        }
        let submissions = latency * timeline.spans.len() as f64;
        let mut gaps = match self.header.clock {
            Clock::Device => vec![between, latency, reading],
            Clock::Wall => vec![encoding, submissions, reading],
            Clock::Cpu => vec![between, reading],
        };
        let wall = microseconds(timeline.wall) + reading;
        gaps.push(wall - kernels - gaps.iter().sum::<f64>());
        self.runs.push(Run { wall, gaps, timeline, reading, latency });
    }

    /// A run for a trace.
    fn spans(&self, workload: &Workload, run: &Run) -> Vec<Span> {
        let timeline = &run.timeline;
        let wall = microseconds(timeline.wall);
        let busy_until = timeline.spans.iter().map(|span| us(span.end)).fold(0.0, f64::max);
        // The device's clock has another origin than the CPU's: its last dispatch ends when the CPU is told, less half of
        // what telling takes.
        let (track, origin) = match self.header.clock {
            Clock::Device => (Track::Gpu, (wall - run.latency / 2.0 - busy_until).max(0.0)),
            Clock::Wall => (Track::Gpu, 0.0),
            Clock::Cpu => (Track::Cpu, 0.0),
        };
        let span = |span: &session::Span| Span {
            track,
            name: workload.plan().nodes[span.node].label(),
            kernel: Some(self.kernel_of[span.node]),
            start_us: origin + us(span.start),
            duration_us: us(span.end) - us(span.start),
        };
        let on_cpu = |name: &str, start_us: f64, duration_us: f64| Span {
            track: Track::Cpu,
            name: name.into(),
            kernel: None,
            start_us,
            duration_us,
        };
        let mut spans: Vec<Span> = timeline.spans.iter().map(span).collect();
        if self.header.clock == Clock::Device {
            let submitting = microseconds(timeline.submitting).min(wall);
            spans.push(on_cpu("submit", 0.0, submitting));
            spans.push(on_cpu("wait", submitting, wall - submitting));
        }
        spans.push(on_cpu("read results", wall, run.reading));
        spans
    }

    fn finish(self, workload: &Workload, unprofiled: &[f64]) -> Profile {
        let steps = self.header.steps_per_run as f64;
        let step_ms = median(unprofiled) / steps / 1e3;
        // Totals are those of one run, so that they add up.
        let mut by_wall: Vec<usize> = (0..self.runs.len()).collect();
        by_wall.sort_by(|&a, &b| self.runs[a].wall.total_cmp(&self.runs[b].wall));
        let middle = by_wall[(by_wall.len() - 1) / 2];
        let Run { wall, gaps, .. } = &self.runs[middle];
        let wall = *wall;
        let mut spans = self.spans(workload, &self.runs[middle]);
        let profiled_ms = wall / steps / 1e3;

        // Nodes whose grids are all empty run nothing.
        let ran = self.calls.iter().enumerate().filter(|(_, calls)| !calls.runs[middle].is_empty());
        let mut kernels: Vec<(usize, Kernel)> =
            ran.map(|(i, calls)| (i, kernel(calls, middle, wall, (&self.header, workload.is_on_hardware())))).collect();
        kernels.sort_by(|a, b| b.1.total_ms.total_cmp(&a.1.total_ms));
        let place: HashMap<usize, usize> = kernels.iter().enumerate().map(|(new, (old, _))| (*old, new)).collect();
        for span in &mut spans {
            span.kernel = span.kernel.map(|kernel| place[&kernel]);
        }
        let gap = |(name, us): (&str, &f64)| Gap { name: name.into(), total_ms: us / 1e3, share: us / wall };
        let gaps: Vec<Gap> = self.gap_names().iter().copied().chain(["unaccounted"]).zip(gaps).map(gap).collect();
        let [flops, bytes] = [|cost: Cost| cost.flops, |cost: Cost| cost.bytes].map(|of| {
            let all = self.calls.iter().map(|calls| of(calls.cost) * calls.runs[middle].len() as u64).sum::<u64>();
            all / self.header.steps_per_run as u64
        });
        let gflops = flops as f64 / step_ms / 1e6;
        let summary = Summary {
            step_ms,
            samples_ms: unprofiled.iter().map(|us| us / steps / 1e3).collect(),
            profiled_ms,
            overhead: profiled_ms / step_ms - 1.0,
            unaccounted: gaps.last().map_or(0.0, |gap| gap.share),
            flops,
            bytes,
            gflops,
            flop_share: gflops / self.header.peaks.f32_gflops,
        };
        let kernels = kernels.into_iter().map(|(_, kernel)| kernel).collect();
        Profile { header: self.header, kernels, gaps, summary, spans }
    }
}

/// The figures of a kernel; totals are those of the run number `middle`, which took `wall` microseconds.
fn kernel(calls: &Calls, middle: usize, wall: f64, (header, hardware): (&Header, bool)) -> Kernel {
    let Calls { kernel, variant, shape, cost, dispatches, facts, runs } = calls;
    let on_cpu = header.clock == Clock::Cpu;
    let of_calls = |time: fn(&Call) -> f64| sorted(&runs.iter().flatten().map(time).collect::<Vec<_>>());
    let busy = of_calls(|call| call.busy);
    let p50_us = quantile(&busy, 0.5);
    let total = runs[middle].iter().map(|call| call.busy).sum::<f64>();
    let (flops, bytes) = (cost.flops as f64, cost.bytes as f64);
    // Of a time that is too short for the clock there is no rate.
    let rate = |amount: f64| if p50_us > 0.0 { amount / p50_us / 1e3 } else { 0.0 };
    let (gflops, gbs) = (rate(flops), rate(bytes));
    let largest = facts.iter().max_by_key(|facts| facts.workgroups.iter().map(|&n| u64::from(n)).product::<u64>());
    let shader = largest.map_or(String::new(), |facts| facts.shader.to_string());
    let largest = largest.map(|facts| (facts.workgroups, facts.workgroup)).unwrap_or_default();
    let mut pipelines: Vec<_> = facts.iter().map(|facts| (facts.pipeline, facts.compile)).collect();
    pipelines.sort();
    pipelines.dedup();
    let compile_ms = pipelines.iter().map(|(_, compile)| compile.as_secs_f64() * 1e3).sum::<f64>();
    let flop_peak = flop_peak(variant, &header.peaks);
    // A software adapter has no more compute units than there are processors.
    let workgroups = hardware.then(|| largest.0.iter().map(|&n| u64::from(n)).product::<u64>());
    Kernel {
        kernel: kernel.to_string(),
        variant: variant.clone(),
        shape: shape.clone(),
        is_default: false,
        calls: runs[middle].len(),
        dispatches: if on_cpu { 0 } else { runs[middle].len() * dispatches },
        total_ms: total / 1e3,
        share: total / wall,
        min_us: busy.first().copied().unwrap_or_default(),
        p50_us,
        p95_us: quantile(&busy, 0.95),
        flops: cost.flops,
        bytes: cost.bytes,
        gflops,
        gbs,
        flop_share: gflops / flop_peak,
        bandwidth_share: gbs / header.peaks.bandwidth_gbs,
        intensity: if cost.bytes > 0 { flops / bytes } else { 0.0 },
        bound: bound(limits(*cost, *dispatches, flop_peak, &header.peaks), p50_us, workgroups),
        shader,
        compiled: None,
        workgroups: largest.0,
        workgroup_size: largest.1.size,
        workgroup_bytes: largest.1.memory,
        gap_us: quantile(&of_calls(|call| call.gap), 0.5),
        compile_ms: (!on_cpu).then_some(compile_ms),
        encode_us: (!on_cpu).then(|| quantile(&of_calls(|call| call.encode), 0.5)),
        samples_us: runs.iter().map(|run| run.iter().map(|call| call.busy).sum::<f64>() / run.len() as f64).collect(),
    }
}

/// The peak of the arithmetic that a variant uses, in 10^9 FLOP a second. All but matrix units sum in f32.
fn flop_peak(variant: &str, peaks: &RooflineLimits) -> f64 {
    match (variant, peaks.matrix_gflops) {
        ("cooperative", Some(peak)) => peak,
        _ => peaks.f32_gflops,
    }
}

/// A part of a call's time that one of its limits must explain at least to be what the time goes into.
const EXPLAINED: f64 = 0.25;

/// Microseconds that a call's arithmetic, compulsory traffic and dispatches would take at the device's roofline limits.
fn limits(cost: Cost, dispatches: usize, flop_peak: f64, peaks: &RooflineLimits) -> [(Bound, f64); 3] {
    [
        (Bound::Compute, cost.flops as f64 / flop_peak / 1e3),
        (Bound::Memory, cost.bytes as f64 / peaks.bandwidth_gbs / 1e3),
        (Bound::Launch, dispatches as f64 * peaks.launch_us),
    ]
}

/// What a call that took so long goes into: the longest of its limits, if that explains a quarter of it. Where none does, a GPU had
/// too few workgroups, or it waited.
fn bound(limits: [(Bound, f64); 3], us: f64, workgroups: Option<u64>) -> Bound {
    let longest = limits.into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
    match longest {
        Some((bound, limit)) if limit >= EXPLAINED * us => bound,
        _ if workgroups.is_some_and(|groups| groups < COMPUTE_UNITS as u64) => Bound::Occupancy,
        _ => Bound::Latency,
    }
}

fn us(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e3
}

impl Profile {
    /// The same of one step of several in a run.
    pub(super) fn per_step(mut self) -> Self {
        let steps = std::mem::replace(&mut self.header.steps_per_run, 1);
        for kernel in &mut self.kernels {
            kernel.total_ms /= steps as f64;
            kernel.calls /= steps;
            kernel.dispatches /= steps;
        }
        self.gaps.iter_mut().for_each(|gap| gap.total_ms /= steps as f64);
        self
    }

    /// Adds a profile of something else that ran after this one, of one step as this one, to be read as one.
    pub(super) fn join(&mut self, mut other: Self) {
        let (before, after) = (self.summary.profiled_ms, other.summary.profiled_ms);
        let all = before + after;
        let shares = |kernels: &mut [Kernel], gaps: &mut [Gap], part: f64| {
            kernels.iter_mut().for_each(|kernel| kernel.share *= part);
            gaps.iter_mut().for_each(|gap| gap.share *= part);
        };
        shares(&mut self.kernels, &mut self.gaps, before / all);
        shares(&mut other.kernels, &mut other.gaps, after / all);
        let end = self.spans.iter().map(|span| span.start_us + span.duration_us).fold(0.0, f64::max);
        let first = self.kernels.len();
        self.spans.extend(other.spans.into_iter().map(|span| Span {
            kernel: span.kernel.map(|kernel| first + kernel),
            start_us: end + span.start_us,
            ..span
        }));
        self.kernels.extend(other.kernels);
        for (gap, other) in self.gaps.iter_mut().zip(other.gaps) {
            (gap.total_ms, gap.share) = (gap.total_ms + other.total_ms, gap.share + other.share);
        }
        let (sum, added) = (&mut self.summary, other.summary);
        sum.step_ms += added.step_ms;
        sum.samples_ms.iter_mut().zip(added.samples_ms).for_each(|(ms, added)| *ms += added);
        sum.profiled_ms = all;
        sum.overhead = all / sum.step_ms - 1.0;
        sum.unaccounted = self.gaps.last().map_or(0.0, |gap| gap.share);
        sum.flops += added.flops;
        sum.bytes += added.bytes;
        sum.gflops = sum.flops as f64 / sum.step_ms / 1e6;
        sum.flop_share = sum.gflops / self.header.peaks.f32_gflops;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_time_goes_into_is_told_by_the_time_that_was_measured() {
        let limits = [(Bound::Compute, 5.0), (Bound::Memory, 8.0), (Bound::Launch, 3.0)];
        assert_eq!(bound(limits, 10.0, Some(1000)), Bound::Memory);
        assert_eq!(bound(limits, 32.0, Some(1000)), Bound::Memory, "a quarter");
        // As it was once called memory: half a percent of the FLOP peak and 0.8 % of the bandwidth.
        assert_eq!(bound(limits, 1000.0, Some(1000)), Bound::Latency);
        assert_eq!(bound(limits, 1000.0, Some(71)), Bound::Occupancy);
        assert_eq!(bound(limits, 1000.0, None), Bound::Latency, "the CPU has no workgroups");
        assert_eq!(bound(limits, 0.0, Some(1)), Bound::Memory, "too short for the clock");
    }
}
