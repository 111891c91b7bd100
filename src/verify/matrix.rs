//! Reports for people: a summary of one device, and of many the matrix of ops and adapters.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::kernels::Pass;
use super::report::{DeviceReport, Failure, Report, Row};
use crate::gpu::Capabilities;
use crate::peaks::RooflineLimits;

/// A device and the report that it is of.
pub struct Column<'a> {
    /// The report; of several that were joined the first.
    pub report: &'a Report,
    /// The device.
    pub device: Cow<'a, DeviceReport>,
    /// Reports of the same device that this one was taken instead of, and those that were joined with it, in words.
    pub others: Vec<String>,
}

/// One column for each device. Two reports are of the same device if driver, system and this program's build are the same; then
/// the complete one is taken, else the newer, else the one with more failures, but parts (`--only`) of which none is complete are
/// joined. Columns stand in the order of the reports, CPU backends last.
pub fn merged(reports: &[Report]) -> Vec<Column<'_>> {
    let all = reports.iter().flat_map(|report| report.devices.iter().map(move |device| (report, device)));
    let mut columns: Vec<Column> = vec![];
    for (report, device) in all {
        let column = Column { report, device: Cow::Borrowed(device), others: vec![] };
        let same = |other: &&mut Column| other.device.machine == device.machine && other.report.is_of_build(report);
        match columns.iter_mut().find(same) {
            Some(other) => other.meet(column),
            None => columns.push(column),
        }
    }
    columns.sort_by_key(|column| column.device.capabilities.is_none());
    columns
}

impl<'a> Column<'a> {
    /// Takes in another of the same device and build.
    fn meet(&mut self, mut other: Self) {
        let told = |column: &Self| {
            let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
            let failures = match column.device.defects().len() {
                0 => String::new(),
                failures => format!(" and {}", counted(failures, "failure")),
            };
            format!("the one of {} with {}{failures}", column.report.date, counted(column.cases(), "case"))
        };
        if !self.report.complete && !other.report.complete {
            self.others.push(format!("joined with {}", told(&other)));
            self.device.to_mut().join(&other.device);
            return;
        }
        let worth = |column: &Self| {
            let failures = column.device.defects().len();
            (column.report.complete, column.report.date.clone(), failures)
        };
        if worth(self) < worth(&other) {
            std::mem::swap(self, &mut other);
        }
        self.others.append(&mut other.others.clone());
        self.others.push(format!("taken instead of {}", told(&other)));
        // A report that did not come to its end tells of a crash or a machine that stood still: another does not make that good.
        if other.report.complete {
            return;
        }
        let own = self.device.defects();
        let defects = other.device.defects().into_iter().filter(|defect| !own.contains(defect));
        let of = format!("in the report of {} that was not taken", other.report.date);
        let failures: Vec<Failure> =
            defects.map(|defect| Failure { name: of.clone(), error: defect, known: None }).collect();
        if !failures.is_empty() {
            self.device.to_mut().failures.extend(failures);
        }
    }

    fn cases(&self) -> usize {
        self.device.checks.iter().map(|row| row.cases).sum()
    }

    /// What its reader should know: the report's notes, and which other reports it stands for.
    fn notes(&self) -> impl Iterator<Item = &String> {
        self.report.notes.iter().chain(&self.others)
    }

    /// Whether it works, in a word or two.
    fn verdict(&self) -> String {
        match (self.device.defects().len(), self.report.complete) {
            (0, true) => "yes".into(),
            (0, false) => "as far as it was run".into(),
            (1, _) => "1 failure".into(),
            (failures, _) => format!("{failures} failures"),
        }
    }
}

/// The lines of a table in markdown.
fn table(text: &mut String, head: &[String], rows: impl IntoIterator<Item = Vec<String>>) {
    let mut line = |cells: &[String]| {
        let cells: Vec<String> =
            cells.iter().map(|cell| cell.replace('|', "\\|").replace('<', "&lt;").replace('\n', " ")).collect();
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    };
    line(head);
    line(&head.iter().map(|_| "---".to_string()).collect::<Vec<_>>());
    rows.into_iter().for_each(|row| line(&row));
    text.push('\n');
}

/// A share of a tolerance.
fn percent(share: f64) -> String {
    if share == 0.0 { "exact".into() } else { format!("{:.0} %", (100.0 * share).max(1.0)) }
}

/// Cases that passed and how near they came to their tolerance, or how many did not.
fn cell<'a>(rows: impl Iterator<Item = &'a Row>) -> String {
    let (mut cases, mut known, mut failed, mut worst) = (0, 0, 0, 0.0f64);
    for row in rows {
        let excused = row.failures.iter().filter(|failure| failure.known.is_some()).count();
        (cases, known, failed) = (cases + row.cases, known + excused, failed + row.failures.len() - excused);
        worst = worst.max(row.worst.share);
    }
    let passed = cases.saturating_sub(known + failed);
    match (cases, failed, known) {
        (0, ..) => "-".into(),
        (_, 0, 0) => format!("{passed} ({})", percent(worst)),
        (_, 0, _) => format!("{passed} ({}), {known} known", percent(worst)),
        (..) => format!("**{failed} of {cases} fail**"),
    }
}

/// The names of rows in the order of the first column that has them.
fn names<'a>(columns: &'a [Column<'_>], name: impl Fn(&'a Row) -> &'a str) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    let rows = columns.iter().flat_map(|column| &column.device.checks);
    rows.map(name).filter(|name| seen.insert(*name)).collect()
}

/// The devices, whether they work, every op on every device, speeds, and what failed, in markdown.
#[expect(clippy::too_many_lines, reason = "a row of the page after the other")]
pub fn markdown(columns: &[Column]) -> String {
    if columns.is_empty() {
        return "No device was verified.\n".into();
    }
    let mut text = String::new();
    let numbered = || columns.iter().enumerate().map(|(i, column)| (i + 1, column));
    let head = |first: &str| -> Vec<String> {
        std::iter::once(first.to_string()).chain(numbered().map(|(i, _)| i.to_string())).collect()
    };
    let line = |name: &str, cell: &dyn Fn(&Column) -> String| -> Vec<String> {
        std::iter::once(name.to_string()).chain(columns.iter().map(cell)).collect()
    };

    let titles = ["", "device", "driver", "system", "deepj", "day", "works"].map(String::from);
    let adapters = numbered().map(|(i, column)| {
        let (machine, report) = (&column.device.machine, column.report);
        let driver = format!("{} {}", machine.driver, machine.driver_info);
        let name = match column.device.capabilities {
            Some(_) => column.device.name(),
            None => format!("CPU backend on {}", machine.adapter),
        };
        let build = format!("{} {}", report.deepj, report.shaders);
        let cells = [name, driver.trim().into(), report.system.clone(), build, report.date.clone(), column.verdict()];
        std::iter::once(i.to_string()).chain(cells).collect()
    });
    table(&mut text, &titles, adapters);

    for (i, column) in numbered() {
        for note in column.notes() {
            text.push_str(&format!("- {i}: {}\n", note.replace('\n', " ").replace('<', "&lt;")));
        }
    }
    if columns.iter().any(|column| column.notes().next().is_some()) {
        text.push('\n');
    }

    text.push_str("What it has:\n\n");
    let able = |show: &'static dyn Fn(&Capabilities) -> String| {
        move |column: &Column| column.device.capabilities.as_ref().map_or_else(|| "-".into(), show)
    };
    let period = |column: &Column| match (&column.device.capabilities, column.device.timestamp_period_ns) {
        (Some(able), Some(period)) if able.timestamp_query => format!("{period:.3} ns"),
        _ => "-".into(),
    };
    let facts = [
        line("f16 in shaders", &able(&|able| yes_no(able.shader_f16))),
        line(
            "subgroup sizes",
            &able(&|able| match able.subgroup {
                true => format!("{} to {}", able.subgroup_min_size, able.subgroup_max_size),
                false => "-".into(),
            }),
        ),
        line("matrix units", &able(&|able| yes_no(!able.cooperative_matrix.is_empty()))),
        line("tick of timestamps", &period),
        line("workgroup memory", &able(&|able| format!("{} KiB", able.max_compute_workgroup_storage_size >> 10))),
        line("largest binding", &able(&|able| format!("{} MiB", able.max_storage_buffer_binding_size >> 20))),
    ];
    table(&mut text, &head("")[..], facts);

    text.push_str("Cases that passed, and the largest error as a share of its tolerance:\n\n");
    let ops = names(columns, Row::op);
    let rows = ops.iter().map(|op| line(op, &|column| cell(column.device.checks.iter().filter(|row| row.op() == *op))));
    let passes =
        [(Pass::Forward, "all forward"), (Pass::Backward, "all backward"), (Pass::Update, "all of the update")];
    let sums = passes
        .map(|(pass, name)| line(name, &|column| cell(column.device.checks.iter().filter(|row| row.pass == pass))));
    table(&mut text, &head("op"), rows.chain(sums));

    text.push_str("The model, and how fast it is:\n\n");
    let mut rows = vec![
        line("losses of a short training are off the CPU backend's by", &|column| match &column.device.training {
            Some(training) if training.works() => {
                format!("{:.1e} in {} updates", training.off_by, training.losses.len())
            }
            Some(_) => "**failed**".into(),
            None => "-".into(),
        }),
        line("the f64 reference's notes", &|column| match &column.device.generation {
            Some(generation) if generation.error.is_some() => "**other music**".into(),
            Some(generation) => match generation.other_draws.first() {
                None => format!("the same {} steps of {} pieces", generation.steps, generation.pieces),
                Some(_) => generation.other_draws.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            },
            None => "-".into(),
        }),
    ];
    type Show = fn(&RooflineLimits) -> Option<String>;
    let peaks: [(&str, Show); 5] = [
        ("peak in f32, GFLOP/s", |peaks| Some(format!("{:.0}", peaks.f32_gflops))),
        ("in f16", |peaks| peaks.f16_gflops.map(|x| format!("{x:.0}"))),
        ("of matrix units", |peaks| peaks.matrix_gflops.map(|x| format!("{x:.0}"))),
        ("device memory, GB/s", |peaks| Some(format!("{:.1}", peaks.bandwidth_gbs))),
        ("a dispatch, us", |peaks| Some(format!("{:.1}", peaks.launch_us))),
    ];
    rows.extend(peaks.map(|(name, figure)| {
        line(name, &|column| column.device.peaks.as_ref().and_then(figure).unwrap_or_else(|| "-".into()))
    }));
    let mut timed: Vec<&str> = vec![];
    for timing in columns.iter().flat_map(|column| &column.device.timings) {
        if !timed.contains(&timing.name.as_str()) {
            timed.push(&timing.name);
        }
    }
    rows.extend(timed.into_iter().map(|name| {
        line(name, &|column| match column.device.timings.iter().find(|timing| timing.name == name) {
            Some(timing) => format!("{:.1} ms, {:.0} GFLOP/s, {}", timing.ms, timing.gflops, timing.rate),
            None => "-".into(),
        })
    }));
    rows.push(line("the verification took", &|column| format!("{:.0} s", column.device.seconds)));
    table(&mut text, &head(""), rows);

    for (i, column) in numbered() {
        let known = column.device.checks.iter().flat_map(|row| &row.failures);
        let known = known.filter_map(|failure| Some(format!("{}: known: {}", failure.name, failure.known.as_ref()?)));
        let failures: Vec<String> = column.device.defects().into_iter().chain(known).collect();
        if !failures.is_empty() {
            text.push_str(&format!("What failed on {i}:\n\n"));
            for failure in failures {
                text.push_str(&format!("- `{}`\n", failure.replace('\n', " ").replace('`', "'")));
            }
            text.push('\n');
        }
    }

    text.push_str("<details><summary>By variant</summary>\n\n");
    let rows = names(columns, |row| &row.name);
    let rows =
        rows.iter().map(|name| line(name, &|column| cell(column.device.checks.iter().filter(|r| r.name == *name))));
    table(&mut text, &head("op / variant"), rows);
    text.push_str("</details>\n");
    text
}

fn yes_no(has: bool) -> String {
    if has { "yes" } else { "no" }.into()
}

/// What came of a device, for a terminal, and what there is to know of its reports.
pub fn merged_summary(column: &Column) -> String {
    let incomplete =
        "the report is of chosen checks, or did not come to its end: other checks and devices may be missing";
    let incomplete = (!column.report.complete).then(|| incomplete.to_string());
    let notes = column.notes().chain(&incomplete).map(|note| format!("  {:12} {note}\n", "note"));
    summary(&column.device) + &notes.collect::<String>()
}

/// What came of a device, for a terminal.
pub fn summary(device: &DeviceReport) -> String {
    /// Failures that are listed; the report has all.
    const LISTED: usize = 10;
    let mut text = format!("{}\n", device.name());
    let mut line = |what: &str, found: String| text.push_str(&format!("  {what:12} {found}\n"));
    for (pass, [cases, passed]) in device.counts() {
        let name = match pass {
            Pass::Forward => "forward",
            Pass::Backward => "backward",
            Pass::Update => "update",
            Pass::Model => "whole model",
        };
        line(name, format!("{passed} of {cases} cases passed"));
    }
    let worst = device.checks.iter().max_by(|a, b| a.worst.share.total_cmp(&b.worst.share));
    if let Some(row) = worst {
        line("margin", format!("{} of the tolerance at most ({})", percent(row.worst.share), row.name));
    }
    // Those that do not work are among the defects below.
    if let Some(training) = device.training.as_ref().filter(|training| training.works()) {
        let (updates, off_by) = (training.losses.len(), training.off_by);
        line("training", format!("{updates} updates, losses off the CPU backend's by {off_by:.1e}"));
    }
    if let Some(generation) = device.generation.as_ref().filter(|generation| generation.error.is_none()) {
        let same = format!("{} steps of {} pieces like the f64 reference's", generation.steps, generation.pieces);
        line("generation", generation.other_draws.first().map_or(same, ToString::to_string));
    }
    if let Some(peaks) = &device.peaks {
        let doubt = peaks.doubt().map_or(String::new(), |doubt| format!("; perhaps too low: {doubt}"));
        line("limits", format!("{:.0} GFLOP/s in f32, {:.1} GB/s{doubt}", peaks.f32_gflops, peaks.bandwidth_gbs));
    }
    for timing in &device.timings {
        line("time", format!("{}: {:.1} ms, {:.0} GFLOP/s, {}", timing.name, timing.ms, timing.gflops, timing.rate));
    }
    line("took", format!("{:.0} s", device.seconds));
    let defects = device.defects();
    for defect in defects.iter().take(LISTED) {
        line("FAILED", defect.clone());
    }
    if defects.len() > LISTED {
        line("FAILED", format!("and {} more, see the report", defects.len() - LISTED));
    }
    text
}
