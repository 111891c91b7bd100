//! A profile as a table: for a terminal, as CSV for other programs, as markdown for a report.

use std::fmt::Write;

use serde::Serialize;

use super::compare::{Change, Gain, Verdict, gains};
use super::report::Compiled;
use super::{Bound, Clock, Header, Kernel, Profile};
use crate::ops::order::COMPUTE_UNITS;
use crate::peaks::RooflineLimits;

/// Spaces between columns.
const SPACE: &str = "  ";

/// The profile for a terminal, kernels in the order of the profile, numbered.
///
/// Columns stand in the order in which they are read. Those that do not fit into `width` columns of characters go on below,
/// joined by the numbers; `None` is for any width.
pub fn table(profile: &Profile, width: Option<usize>) -> String {
    let width = width.unwrap_or(usize::MAX);
    let mut text = String::new();
    for (key, parts) in head(profile) {
        wrapped(&mut text, key, &parts, width);
    }
    let kernels = profile.kernels.len();
    let rank = Column::ranks(kernels);
    let mut columns = columns(profile).into_iter().peekable();
    let mut labels: &[Column] = &labels(profile);
    // Gaps and the sum stand below the kernels, in the first block alone.
    let mut rows = kernels + profile.gaps.len() + 1;
    while columns.peek().is_some() {
        let mut used = rank.width() + labels.iter().map(|label| SPACE.len() + label.width()).sum::<usize>();
        let mut block = vec![];
        while let Some(column) =
            columns.next_if(|column| block.is_empty() || used + SPACE.len() + column.width() <= width)
        {
            used += SPACE.len() + column.width();
            block.push(column);
        }
        text.push('\n');
        let shown: Vec<&Column> = [&rank].into_iter().chain(&block).chain(labels).collect();
        for line in 0..2 {
            row(&mut text, shown.iter().map(|column| column.padded(column.head[line])));
        }
        for i in 0..rows {
            if i + 1 == rows && rows > kernels {
                row(&mut text, shown.iter().map(|column| "-".repeat(column.width())));
            }
            row(&mut text, shown.iter().map(|column| column.padded(column.cell(i))));
        }
        labels = &labels[..1];
        rows = kernels;
    }
    text.push('\n');
    for (key, parts) in foot(profile) {
        wrapped(&mut text, key, &parts, width);
    }
    text
}

/// The essentials of the profile as a markdown table between a head and a foot.
pub fn markdown(profile: &Profile) -> String {
    let mut text = String::new();
    let list = |text: &mut String, lines: Vec<(&str, Vec<String>)>| {
        for (key, parts) in lines {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "- {key}: {}", cell(&parts.join(", ")));
        }
        text.push('\n');
    };
    list(&mut text, head(profile));
    let (columns, labels) = (columns(profile), labels(profile));
    let shown: Vec<&Column> = labels.iter().chain(columns.iter().filter(|column| column.essential)).collect();
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    text += &line(shown.iter().map(|column| column.head.join(" ").trim().into()).collect());
    text += &line(shown.iter().map(|column| if column.left { "---" } else { "---:" }.into()).collect());
    for i in 0..profile.kernels.len() + profile.gaps.len() + 1 {
        let tamed = |column: &&Column| if column.left { cell(column.cell(i)) } else { column.cell(i).into() };
        text += &line(shown.iter().map(tamed).collect());
    }
    text.push('\n');
    list(&mut text, foot(profile));
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// Text within a cell of a markdown table.
fn cell(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace('<', "\\<").replace(char::is_control, " ")
}

/// A column of the table: a heading of two lines, a cell for each kernel, and where it has them for each gap and the sum.
struct Column {
    head: [&'static str; 2],
    cells: Vec<String>,
    /// Text stands to the left, numbers to the right.
    left: bool,
    /// Whether markdown has it too.
    essential: bool,
}

impl Column {
    /// Numbers, all with as many decimals as leave the largest five or six digits. What is not zero but would look like it
    /// is `<0.1`; what is not finite has nothing to say.
    fn numbers(head: [&'static str; 2], values: impl IntoIterator<Item = Option<f64>>) -> Self {
        let values: Vec<Option<f64>> = values.into_iter().map(|value| value.filter(|v| v.is_finite())).collect();
        let decimals = match values.iter().flatten().fold(0.0, |most: f64, value| most.max(value.abs())) {
            most if most < 1.0 => 3,
            most if most < 1e3 => 2,
            most if most < 1e5 => 1,
            _ => 0,
        };
        Self::decimals(head, decimals, values)
    }

    fn decimals(head: [&'static str; 2], decimals: usize, values: impl IntoIterator<Item = Option<f64>>) -> Self {
        let least = 0.1f64.powi(decimals as i32);
        let cells = values.into_iter().map(|value| match value.filter(|v| v.is_finite()) {
            None => "-".into(),
            Some(value) if value > 0.0 && value < least / 2.0 => format!("<{least:.decimals$}"),
            // What rounds to zero has no sign.
            Some(value) if value.abs() < least / 2.0 => format!("{:.decimals$}", 0.0),
            Some(value) => format!("{value:.decimals$}"),
        });
        Self { head, cells: cells.collect(), left: false, essential: false }
    }

    fn text(head: [&'static str; 2], left: bool, cells: impl IntoIterator<Item = String>) -> Self {
        Self { head, cells: cells.into_iter().collect(), left, essential: false }
    }

    fn ranks(kernels: usize) -> Self {
        Self::text(["", "#"], false, (1..=kernels).map(|rank| rank.to_string()))
    }

    fn essential(self) -> Self {
        Self { essential: true, ..self }
    }

    fn cell(&self, row: usize) -> &str {
        self.cells.get(row).map_or("", String::as_str)
    }

    fn width(&self) -> usize {
        self.head
            .iter()
            .copied()
            .chain(self.cells.iter().map(String::as_str))
            .map(|t| t.chars().count())
            .max()
            .unwrap_or(0)
    }

    fn padded(&self, text: &str) -> String {
        let width = self.width();
        if self.left { format!("{text:width$}") } else { format!("{text:>width$}") }
    }
}

/// Everything but the names, what is read first first.
fn columns(profile: &Profile) -> Vec<Column> {
    let Profile { kernels, gaps, .. } = profile;
    let numbers = |head, value: fn(&Kernel) -> Option<f64>| Column::numbers(head, kernels.iter().map(value));
    let percent = |head, value: fn(&Kernel) -> f64| {
        Column::decimals(head, 1, kernels.iter().map(|kernel| Some(100.0 * value(kernel))))
    };
    let text = |head, value: fn(&Kernel) -> String| Column::text(head, false, kernels.iter().map(value));
    let whole = |kernel: fn(&Kernel) -> f64, gap: fn(&super::Gap) -> f64| {
        let parts: Vec<f64> = kernels.iter().map(kernel).chain(gaps.iter().map(gap)).collect();
        let sum = parts.iter().sum();
        parts.into_iter().chain([sum])
    };
    let totals = whole(|k| k.total_ms, |g| g.total_ms);
    let shares = whole(|k| k.share, |g| g.share);
    let compiled = |head, value: fn(&Compiled) -> u32| {
        text_of(head, kernels.iter().map(|kernel| kernel.compiled.as_ref().map(value)))
    };
    let mut of_compiler = vec![];
    if kernels.iter().any(|kernel| kernel.compiled.is_some()) {
        of_compiler.push(compiled(["regis-", "ters"], |compiled| compiled.registers).essential());
        of_compiler.push(compiled(["spills", ""], |compiled| compiled.spills));
        of_compiler.push(compiled(["waves", ""], |compiled| compiled.waves).essential());
    }
    let columns = vec![
        Column::decimals(["share", "%"], 1, shares.map(|share| Some(100.0 * share))).essential(),
        Column::numbers(["total", "ms"], totals.map(Some)).essential(),
        text(["calls", ""], |k| k.calls.to_string()).essential(),
        numbers(["p50", "us"], |k| Some(k.p50_us)).essential(),
        text(["bound", "by"], |k| k.bound.to_string()).essential(),
        percent(["% FLOP", "peak"], |k| k.flop_share).essential(),
        percent(["% GB/s", "peak"], |k| k.bandwidth_share).essential(),
        numbers(["GFLOP", "/s"], |k| Some(k.gflops)).essential(),
        numbers(["GB", "/s"], |k| Some(k.gbs)).essential(),
        numbers(["FLOP", "/byte"], |k| Some(k.intensity)).essential(),
        numbers(["MFLOP", "/call"], |k| Some(k.flops as f64 / 1e6)),
        numbers(["MB", "/call"], |k| Some(k.bytes as f64 / 1e6)),
        numbers(["min", "us"], |k| Some(k.min_us)),
        numbers(["p95", "us"], |k| Some(k.p95_us)),
        numbers(["gap", "us"], |k| Some(k.gap_us)),
        text(["work-", "groups"], |k| times(k.workgroups)),
        text(["group", "size"], |k| times(k.workgroup_size)),
        text(["group", "bytes"], |k| if k.dispatches == 0 { "-".into() } else { k.workgroup_bytes.to_string() }),
        numbers(["compile", "ms"], |k| k.compile_ms),
        numbers(["encode", "us"], |k| k.encode_us),
    ];
    columns.into_iter().chain(of_compiler).collect()
}

/// Whole numbers, or a dash.
fn text_of(head: [&'static str; 2], numbers: impl Iterator<Item = Option<u32>>) -> Column {
    Column::text(head, false, numbers.map(|number| number.map_or("-".into(), |number| number.to_string())))
}

/// Kernel, variant and shape; the names of gaps and of the sum stand with the kernels'.
fn labels(profile: &Profile) -> [Column; 3] {
    let kernels = &profile.kernels;
    let names = kernels.iter().map(|kernel| &kernel.kernel).chain(profile.gaps.iter().map(|gap| &gap.name));
    [
        Column::text(["", "kernel"], true, names.cloned().chain(["sum".into()])),
        Column::text(["", "variant"], true, kernels.iter().map(|kernel| kernel.variant.clone())),
        Column::text(["", "shape"], true, kernels.iter().map(|kernel| shape(kernel).into())),
    ]
}

/// The shape without the words that the kernel's name begins with: `NN 768x1024x256` of `gemm NN 768x1024x256`.
pub(super) fn shape(kernel: &Kernel) -> &str {
    let (mut name, mut shape) = (kernel.kernel.as_str(), kernel.shape.as_str());
    while let Some((word, rest)) = shape.split_once(' ') {
        match name.strip_prefix(word) {
            Some(more) if more.is_empty() || more.starts_with('_') => {
                (name, shape) = (more.trim_start_matches('_'), rest);
            }
            _ => break,
        }
    }
    shape
}

/// `6x64` of `[6, 64, 1]`; nothing of zeros.
pub(super) fn times([x, y, z]: [u32; 3]) -> String {
    match (x, y, z) {
        (0, ..) => "-".into(),
        (_, 1, 1) => format!("{x}"),
        (.., 1) => format!("{x}x{y}"),
        _ => format!("{x}x{y}x{z}"),
    }
}

/// Writes cells side by side, without spaces at the end.
fn row(text: &mut String, cells: impl Iterator<Item = String>) {
    let line = cells.collect::<Vec<_>>().join(SPACE);
    *text += line.trim_end();
    text.push('\n');
}

/// Writes `parts` after a key of the same width for all, in as many lines as they take.
fn wrapped(text: &mut String, key: &str, parts: &[String], width: usize) {
    const KEY: usize = 10;
    let mut line = format!("{key:KEY$}");
    for (i, part) in parts.iter().enumerate() {
        let comma = if i + 1 < parts.len() { "," } else { "" };
        if line.len() > KEY && line.chars().count() + 1 + part.chars().count() + comma.len() > width {
            *text += line.trim_end();
            text.push('\n');
            line = " ".repeat(KEY);
        }
        if line.len() > KEY {
            line.push(' ');
        }
        line += part;
        line += comma;
    }
    *text += line.trim_end();
    text.push('\n');
}

/// What was profiled, where, by which clock, and the peaks that percentages are parts of.
fn head(profile: &Profile) -> Vec<(&'static str, Vec<String>)> {
    let header = &profile.header;
    let peaks = &header.peaks;
    let mut what = vec![header.what.clone(), format!("plan `{}`", header.plan), header.preset.clone()];
    what.push(header.precision.clone());
    if header.recompute {
        what.push("recompute".into());
    }
    let steps = match header.steps_per_run {
        1 => "a step each".into(),
        steps => format!("{steps} steps each"),
    };
    let mut known = vec![rate("f32", "GFLOP/s", Some(peaks.f32_gflops))];
    known.push(rate("f16", "GFLOP/s", peaks.f16_gflops));
    known.push(rate("matrix", "GFLOP/s", peaks.matrix_gflops));
    known.push(rate("memory", "GB/s", Some(peaks.bandwidth_gbs)));
    known.push(rate("workgroup memory", "GB/s", peaks.workgroup_gbs));
    known.push(rate("caches", "GB/s", peaks.cache_gbs.filter(|caches| *caches > peaks.bandwidth_gbs)));
    known.push(rate("launch", "us", Some(peaks.launch_us)));
    known.push(rate("readback", "us", Some(peaks.readback_us)));
    vec![
        ("profile", what),
        ("machine", vec![header.machine.to_string(), format!("deepj {}", header.machine.deepj)]),
        ("clock", vec![clock(header).into()]),
        ("runs", vec![format!("{} profiled and as many unprofiled", header.runs), steps]),
        ("peaks", known.into_iter().flatten().chain(measurement(peaks)).collect()),
    ]
}

/// When the peaks were measured, and whether they may be too low.
fn measurement(peaks: &RooflineLimits) -> Vec<String> {
    let Some(measurement) = &peaks.measurement else { return vec![] };
    let mut said = vec![format!("measured on {}", measurement.on)];
    said.extend(measurement.doubt().map(|why| format!("perhaps too low ({why})")));
    said
}

/// The times of a step and what it reaches.
fn foot(profile: &Profile) -> Vec<(&'static str, Vec<String>)> {
    let summary = &profile.summary;
    let step = vec![
        format!("{} ms unprofiled", digits(summary.step_ms)),
        format!("{} ms profiled", digits(summary.profiled_ms)),
        format!("overhead of profiling {:.1} %", 100.0 * summary.overhead),
    ];
    let reached = vec![
        format!("{} GFLOP and {} GB a step", digits(summary.flops as f64 / 1e9), digits(summary.bytes as f64 / 1e9)),
        format!("unprofiled {} GFLOP/s", digits(summary.gflops)),
        format!("{:.1} % of the f32 peak", 100.0 * summary.flop_share),
    ];
    let run = match profile.header.steps_per_run {
        1 => "of a profiled step".into(),
        steps => format!("of a profiled run of {steps} steps"),
    };
    let mut notes = vec![
        format!("share and total are {run}, all else is of a call"),
        "bytes are compulsory: what is read and what is written, once".into(),
        "peaks are measured".into(),
        "a kernel is bound by what would take longest at them".into(),
        "if that is a quarter of its time".into(),
        format!("else by occupancy (on hardware, fewer than {COMPUTE_UNITS} workgroups) or latency"),
    ];
    if let Some(compiled) = profile.kernels.iter().find_map(|kernel| kernel.compiled.as_ref()) {
        notes.push(format!("registers, spills and waves a SIMD are those of {}, by a table", compiled.chip));
    }
    if profile.kernels.iter().any(|kernel| kernel.bandwidth_share > 1.0) {
        notes.push("more than 100 % of the memory's peak: caches".into());
    }
    if profile.kernels.iter().any(|kernel| kernel.flop_share > 1.0) {
        notes.push(
            "more than 100 % of the FLOP peak: the peak was measured too low (`deepj peaks` measures again)".into(),
        );
    }
    let mut lines = vec![("step", step), ("reached", reached), ("columns", notes)];
    lines.extend(best(profile).into_iter().map(|best| ("best", vec![best])));
    lines
}

/// Of an op that was profiled in several variants the fastest for each shape, and by how much it is faster than the first, which is the
/// default unless others were asked for; that no difference is shown where the runs do not tell the two apart.
fn best(profile: &Profile) -> Vec<String> {
    let mut shapes: Vec<Vec<&Kernel>> = vec![];
    for kernel in profile.kernels.iter().filter(|_| profile.header.what.starts_with("op ")) {
        match shapes.iter_mut().find(|of_shape| of_shape[0].shape == kernel.shape) {
            Some(of_shape) => of_shape.push(kernel),
            None => shapes.push(vec![kernel]),
        }
    }
    let pairs: Vec<[&Kernel; 2]> =
        shapes.iter().flat_map(|variants| variants[1..].iter().map(|other| [variants[0], *other])).collect();
    let mut gains = gains(&pairs, profile.header.clock).into_iter();
    let said = |variants: &Vec<&Kernel>| {
        let others: Vec<(&Kernel, Gain)> = variants[1..].iter().copied().zip(gains.by_ref()).collect();
        let Kernel { shape, variant, is_default, .. } = variants[0];
        let first = variant.clone() + if *is_default { ", the default" } else { "" };
        let median = |(_, (change, _)): &&(&Kernel, Gain)| change.times[1].median;
        let fastest = |of: &dyn Fn(&Change) -> bool| {
            let of = others.iter().filter(|(_, (change, _))| of(change));
            of.min_by(|a, b| median(a).total_cmp(&median(b)))
        };
        let parts = |(kernel, (change, [low, high])): &(&Kernel, Gain)| {
            let interval = format!("95 % interval {low:.2} to {high:.2}");
            (kernel.variant.clone(), format!("{:.2} x as fast", 1.0 / (1.0 + change.change)), interval)
        };
        if let Some((variant, gain, interval)) = fastest(&|change| change.verdict == Verdict::Faster).map(parts) {
            return Some(format!("{shape}: {variant}, {gain} as {first} ({interval})"));
        }
        let fastest = fastest(&|_| true)?;
        let (variant, gain, interval) = parts(fastest);
        let Change { change, verdict, .. } = fastest.1.0;
        Some(match verdict {
            _ if change >= 0.0 => format!("{shape}: {first}"),
            Verdict::Unknown => format!("{shape}: {first}; too few runs to tell whether {variant} is faster"),
            _ => format!("{shape}: {first}; no difference to {variant} is shown: {gain} ({interval})"),
        })
    };
    shapes.iter().filter_map(said).collect()
}

/// What told the times, in words.
pub(super) fn clock(header: &Header) -> &'static str {
    match header.clock {
        Clock::Device => "the device's timestamps around each dispatch",
        Clock::Wall => "wall clock around a submission for each dispatch, since there are no timestamps of use",
        Clock::Cpu => "wall clock around each op of the CPU backend",
    }
}

fn rate(name: &str, unit: &str, value: Option<f64>) -> Option<String> {
    value.map(|value| format!("{name} {} {unit}", digits(value)))
}

/// A number that stands alone, with three digits at least.
pub(super) fn digits(value: f64) -> String {
    match value.abs() {
        least if least >= 100.0 => format!("{value:.0}"),
        least if least >= 10.0 => format!("{value:.1}"),
        least if least >= 1.0 => format!("{value:.2}"),
        least if least > 0.0 => format!("{value:.3}"),
        _ => format!("{value}"),
    }
}

/// A line of the CSV file: a kernel, a gap, a step, or a peak.
#[derive(Default, Serialize)]
struct Line<'a> {
    record: &'static str,
    name: &'a str,
    kernel: &'a str,
    variant: &'a str,
    shape: &'a str,
    calls: Option<usize>,
    dispatches: Option<usize>,
    total_ms: Option<f64>,
    share: Option<f64>,
    overhead: Option<f64>,
    min_us: Option<f64>,
    p50_us: Option<f64>,
    p95_us: Option<f64>,
    flops: Option<u64>,
    bytes: Option<u64>,
    gflops: Option<f64>,
    gbs: Option<f64>,
    flop_share: Option<f64>,
    bandwidth_share: Option<f64>,
    intensity: Option<f64>,
    bound: Option<Bound>,
    shader: &'a str,
    is_default: Option<bool>,
    registers: Option<u32>,
    spills: Option<u32>,
    waves: Option<u32>,
    workgroups: String,
    workgroup_size: String,
    workgroup_bytes: Option<u64>,
    gap_us: Option<f64>,
    compile_ms: Option<f64>,
    encode_us: Option<f64>,
    what: &'a str,
    plan: &'a str,
    preset: &'a str,
    batch: usize,
    seq: usize,
    precision: &'a str,
    recompute: bool,
    clock: Option<Clock>,
    runs: usize,
    steps_per_run: usize,
    adapter: &'a str,
    backend: &'a str,
    driver: &'a str,
    driver_info: &'a str,
    deepj: &'a str,
}

/// The profile as CSV (RFC 4180 with line feeds), units in the names of columns.
///
/// Each line says what was profiled, where and how, so that files can be put together: a line for each `kernel`, each
/// `gap`, the `step` unprofiled and profiled, what profiling adds (`overhead`), and each measured `peak`.
#[expect(clippy::too_many_lines, reason = "a column a line, in the order of the file")]
pub fn csv(profile: &Profile) -> String {
    let Profile { header, kernels, gaps, summary, .. } = profile;
    let base = || Line {
        what: &header.what,
        plan: &header.plan,
        preset: &header.preset,
        batch: header.batch,
        seq: header.seq,
        precision: &header.precision,
        recompute: header.recompute,
        clock: Some(header.clock),
        runs: header.runs,
        steps_per_run: header.steps_per_run,
        adapter: &header.machine.adapter,
        backend: &header.machine.backend,
        driver: &header.machine.driver,
        driver_info: &header.machine.driver_info,
        deepj: &header.machine.deepj,
        ..Line::default()
    };
    let mut lines: Vec<Line> = vec![];
    lines.extend(kernels.iter().map(|k| Line {
        record: "kernel",
        kernel: &k.kernel,
        variant: &k.variant,
        shape: &k.shape,
        calls: Some(k.calls),
        dispatches: Some(k.dispatches),
        total_ms: Some(k.total_ms),
        share: Some(k.share),
        min_us: Some(k.min_us),
        p50_us: Some(k.p50_us),
        p95_us: Some(k.p95_us),
        flops: Some(k.flops),
        bytes: Some(k.bytes),
        gflops: Some(k.gflops),
        gbs: Some(k.gbs),
        flop_share: Some(k.flop_share),
        bandwidth_share: Some(k.bandwidth_share),
        intensity: Some(k.intensity),
        bound: Some(k.bound),
        workgroups: k.workgroups.map(|n| n.to_string()).join("x"),
        shader: &k.shader,
        is_default: k.is_default.then_some(true),
        registers: k.compiled.as_ref().map(|compiled| compiled.registers),
        spills: k.compiled.as_ref().map(|compiled| compiled.spills),
        waves: k.compiled.as_ref().map(|compiled| compiled.waves),
        workgroup_size: k.workgroup_size.map(|n| n.to_string()).join("x"),
        workgroup_bytes: Some(k.workgroup_bytes),
        gap_us: Some(k.gap_us),
        compile_ms: k.compile_ms,
        encode_us: k.encode_us,
        ..base()
    }));
    lines.extend(gaps.iter().map(|gap| Line {
        record: "gap",
        name: &gap.name,
        total_ms: Some(gap.total_ms),
        share: Some(gap.share),
        ..base()
    }));
    let step = |name, ms| Line {
        record: "step",
        name,
        total_ms: Some(ms),
        flops: Some(summary.flops),
        bytes: Some(summary.bytes),
        ..base()
    };
    lines.push(Line {
        gflops: Some(summary.gflops),
        flop_share: Some(summary.flop_share),
        ..step("unprofiled", summary.step_ms)
    });
    lines.push(step("profiled", summary.profiled_ms));
    let added = summary.profiled_ms - summary.step_ms;
    lines.push(Line {
        record: "overhead",
        name: "profiling",
        total_ms: Some(added),
        overhead: Some(summary.overhead),
        ..base()
    });
    let peak = |name| Line { record: "peak", name, ..base() };
    let peaks = &header.peaks;
    for (name, rate) in [("f32", Some(peaks.f32_gflops)), ("f16", peaks.f16_gflops), ("matrix", peaks.matrix_gflops)] {
        lines.extend(rate.map(|_| Line { gflops: rate, ..peak(name) }));
    }
    let memories =
        [("memory", Some(peaks.bandwidth_gbs)), ("workgroup memory", peaks.workgroup_gbs), ("caches", peaks.cache_gbs)];
    for (name, rate) in memories {
        lines.extend(rate.map(|_| Line { gbs: rate, ..peak(name) }));
    }
    lines.push(Line { p50_us: Some(peaks.launch_us), ..peak("launch") });
    lines.push(Line { p50_us: Some(peaks.readback_us), ..peak("readback") });

    let mut writer = csv::Writer::from_writer(vec![]);
    for line in lines {
        // Writing flat records to memory cannot fail.
        let _ = writer.serialize(line);
    }
    String::from_utf8(writer.into_inner().unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{profile, step};
    use super::*;
    use crate::profile::Gap;

    /// The words of the line that begins with these.
    fn line<'a>(text: &'a str, words: &[&str]) -> Vec<&'a str> {
        let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        lines.find(|line| line.starts_with(words)).unwrap_or_else(|| panic!("no line {words:?} in\n{text}"))
    }

    #[test]
    fn a_table_has_every_column_at_any_width() {
        let profile = step(12);
        let wide = table(&profile, None);
        let one = line(&wide, &["1", "48.1"]);
        let wanted = "1 48.1 10.40 2 5200.0 compute 19.5 4.0 9955.0 116.7 85.34 51766.1 606.60 5044.0 5720.0 0.900 \
                      1536x8 16x16 16384 31.50 1.70 lstm_fwd seq_r16 forward T=128 rows=768 H=256";
        assert_eq!(one.join(" "), wanted);
        for width in [0, 60, 100, 130, 180] {
            let table = table(&profile, Some(width));
            let longest = table.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(width < 100 || longest <= width, "{longest} of {width}:\n{table}");
            // What the one line of the widest says is there, below each other.
            let lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            let mut parts: Vec<&str> = lines.filter(|words| words.first() == Some(&"1")).flatten().collect();
            for word in &one {
                let place = parts.iter().position(|part| part == word);
                parts.remove(place.unwrap_or_else(|| panic!("{word} is missing at {width}:\n{table}")));
            }
            assert!(parts.iter().all(|rest| ["1", "lstm_fwd"].contains(rest)), "{parts:?}");
        }
    }

    #[test]
    fn gaps_and_the_sum_stand_below_the_kernels() {
        let text = table(&step(12), Some(100));
        assert_eq!(line(&text, &["5.0"]), ["5.0", "1.08", "between", "kernels"]);
        assert_eq!(line(&text, &["2.4"]), ["2.4", "0.52", "unaccounted"]);
        assert_eq!(line(&text, &["100.0"]), ["100.0", "21.63", "sum"]);
        assert!(text.contains("\nstep      21.2 ms unprofiled, 21.6 ms profiled, overhead of profiling 2.0 %\n"));
        assert!(text.contains("unprofiled 11628 GFLOP/s, 22.8 % of the f32 peak\n"));
        assert!(text.contains("machine   Accelerator <X> [vulkan, Driver 1.2.3], deepj 0.1.0\n"));
        assert!(
            text.contains("peaks     f32 51000 GFLOP/s, f16 98000 GFLOP/s, matrix 390000 GFLOP/s, memory 2900 GB/s,\n")
        );
    }

    #[test]
    fn the_best_variant_is_one_that_the_runs_tell_from_the_default() {
        let runs =
            |us: f64, runs: usize| (0..runs).map(|i| us * (1.0 + 0.01 * (i * 7 % 5) as f64)).collect::<Vec<f64>>();
        let best = |variants: &[(&str, f64)], n: usize| {
            let times: Vec<Vec<f64>> = variants.iter().map(|(_, us)| runs(*us, n)).collect();
            let kernels: Vec<_> = times.iter().map(|times| ("gemm", "gemm NN 8x8x8", &times[..])).collect();
            let mut profile = profile(&kernels);
            profile.header.what = "op gemm".into();
            profile.kernels.iter_mut().zip(variants).for_each(|(kernel, (name, _))| {
                kernel.variant = name.to_string();
                kernel.is_default = *name == "tiled";
            });
            let text = table(&profile, None);
            text.lines().find_map(|line| line.strip_prefix("best      gemm NN 8x8x8: ")).unwrap().to_string()
        };
        // A step of 2 % is within what two processes of one build differ by.
        let line = best(&[("tiled", 102.0), ("vector", 100.0), ("naive", 200.0)], 20);
        assert!(
            line.starts_with("tiled, the default; no difference to vector is shown: 1.02 x as fast (95 % interval 0.9")
        );
        let line = best(&[("tiled", 150.0), ("vector", 100.0), ("naive", 200.0)], 20);
        let (gain, interval) = line.split_once(" (95 % interval ").expect(&line);
        assert_eq!(gain, "vector, 1.50 x as fast as tiled, the default");
        let interval = interval.strip_suffix(')').unwrap();
        let bounds: Vec<f64> = interval.split(" to ").map(|bound| bound.parse().unwrap()).collect();
        assert!(1.3 < bounds[0] && bounds[0] < 1.48 && 1.52 < bounds[1] && bounds[1] < 1.7, "{line}");
        assert_eq!(best(&[("tiled", 100.0), ("vector", 150.0)], 20), "tiled, the default");
        assert_eq!(best(&[("naive", 100.0), ("vector", 150.0)], 20), "naive", "of those that were asked for");
        let line = best(&[("tiled", 150.0), ("vector", 100.0)], 3);
        assert_eq!(line, "tiled, the default; too few runs to tell whether vector is faster");
    }

    #[test]
    fn the_clock_is_named() {
        let mut profile = step(1);
        for (clock, words) in [
            (Clock::Device, "the device's timestamps"),
            (Clock::Wall, "since there are no timestamps"),
            (Clock::Cpu, "CPU backend"),
        ] {
            profile.header.clock = clock;
            assert!(table(&profile, None).contains(words) && markdown(&profile).contains(words));
        }
    }

    #[test]
    fn numbers_say_what_they_are() {
        let cells = |values: &[f64]| Column::numbers(["", ""], values.iter().map(|v| Some(*v))).cells;
        assert_eq!(cells(&[120_000.4, 3.0, 0.4, 0.0]), ["120000", "3", "<1", "0"]);
        assert_eq!(cells(&[5200.04, 0.06, 0.01]), ["5200.0", "0.1", "<0.1"]);
        assert_eq!(cells(&[0.25, -0.5, 1e-9]), ["0.250", "-0.500", "<0.001"]);
        assert_eq!(cells(&[f64::NAN, 1.0, f64::INFINITY]), ["-", "1.00", "-"]);
        assert_eq!(Column::numbers(["", ""], [None, Some(2.0)]).cells, ["-", "2.00"]);
        assert_eq!(
            [digits(123.4), digits(12.34), digits(1.234), digits(0.1234), digits(0.0)],
            ["123", "12.3", "1.23", "0.123", "0"]
        );
    }

    #[test]
    fn a_shape_repeats_no_word_of_the_kernel() {
        let mut kernel = step(1).kernels.remove(0);
        for (name, label, wanted) in [
            ("gemm", "gemm NN 768x1024x256", "NN 768x1024x256"),
            ("lstm_fwd", "lstm forward T=128", "forward T=128"),
            ("octave_conv_weight_grad", "octave_conv weight_grad 2048x48", "2048x48"),
            ("reduce_sum_rows", "reduce sum_rows 3x4", "3x4"),
            ("cast", "castle 1", "castle 1"),
            ("castle", "cast 1", "cast 1"),
            ("x", "", ""),
        ] {
            (kernel.kernel, kernel.shape) = (name.into(), label.into());
            assert_eq!(shape(&kernel), wanted);
        }
    }

    #[test]
    fn csv_reads_back() {
        let mut profile = step(3);
        profile.header.machine.adapter = "A \"B\", C\nD".into();
        profile.kernels[1].compile_ms = None;
        let text = csv(&profile);
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let names: Vec<String> = reader.headers().unwrap().iter().map(Into::into).collect();
        let rows: Vec<csv::StringRecord> = reader.records().map(|row| row.expect("as long as the head")).collect();
        let get = |row: usize, name: &str| &rows[row][names.iter().position(|n| n == name).unwrap()];
        let records: Vec<&str> = (0..rows.len()).map(|row| get(row, "record")).collect();
        let wanted = [("kernel", 3), ("gap", 2), ("step", 2), ("overhead", 1), ("peak", 7)];
        let wanted: Vec<&str> = wanted.into_iter().flat_map(|(name, n)| vec![name; n]).collect();
        assert_eq!(records, wanted);
        assert!((0..rows.len()).all(|row| get(row, "adapter") == "A \"B\", C\nD"));
        for (i, kernel) in profile.kernels.iter().enumerate() {
            assert_eq!(
                [get(i, "kernel"), get(i, "variant"), get(i, "shape")],
                [&kernel.kernel, &kernel.variant, &kernel.shape].map(String::as_str)
            );
            for (name, value) in [
                ("total_ms", kernel.total_ms),
                ("share", kernel.share),
                ("p95_us", kernel.p95_us),
                ("gflops", kernel.gflops),
                ("bandwidth_share", kernel.bandwidth_share),
            ] {
                assert_eq!(get(i, name).parse(), Ok(value), "{name}");
            }
            assert_eq!(get(i, "flops").parse(), Ok(kernel.flops));
            assert_eq!([get(i, "bound"), get(i, "workgroups"), get(i, "clock")], ["compute", "1536x8x1", "device"]);
        }
        assert_eq!([get(0, "compile_ms"), get(1, "compile_ms")], ["31.5", ""]);
        assert_eq!([get(4, "name"), get(5, "name"), get(6, "name")], ["unaccounted", "unprofiled", "profiled"]);
        assert_eq!(get(5, "total_ms").parse(), Ok(profile.summary.step_ms));
    }

    #[test]
    fn markdown_keeps_its_columns() {
        let mut profile = step(2);
        profile.kernels[0].shape = "a|b <c>\nd\\".into();
        profile.gaps.push(Gap { name: "unaccounted".into(), total_ms: -0.1, share: -0.001 });
        let text = markdown(&profile);
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(rows.len(), 2 + 2 + 3 + 1);
        let columns = |row: &str| row.replace("\\\\", "").replace("\\|", "").matches('|').count();
        assert!(rows.iter().all(|row| columns(row) == 14), "{text}");
        assert!(rows[0].starts_with("| kernel | variant | shape | share % | total ms |"));
        assert!(rows[2].contains("| a\\|b \\<c> d\\\\ |"), "{}", rows[2]);
    }

    #[test]
    fn a_profile_of_nothing_is_rendered() {
        let mut profile = step(0);
        profile.gaps.clear();
        profile.header.clock = Clock::Cpu;
        assert!(table(&profile, Some(1)).contains("sum") && markdown(&profile).contains("sum"));
        assert_eq!(csv(&profile).lines().count(), 1 + 3 + 7);
    }
}
