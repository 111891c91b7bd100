//! A picture of a report: for each measure and genre the real values beside the generated ones.

use std::fmt::Write;

use super::distances::Density;
use super::measures::MEASURES;
use super::report::{Group, Percentiles, Report, Row};
use crate::charts::ticks;
use crate::statistics::{quantile, sorted};
use crate::xml::escape;

const REAL: &str = "#8296ab";
const GENERATED: &str = "#d9702e";
const COLUMNS: usize = 4;
const LEFT: f64 = 24.0;
const TOP: f64 = 92.0;
/// Height of a panel, and of what is drawn in it.
const PANEL: f64 = 226.0;
const PLOT: f64 = 140.0;
const AXIS: f64 = 46.0;
/// Width of a group.
const SLOT: f64 = 66.0;
/// The widest that one side of a group is.
const HALF: f64 = 25.0;
/// More genres would not be told apart.
const MOST: usize = 8;

/// The picture of `report` as an SVG document: a panel for each measure, and in it for each genre the real excerpts to the left
/// and the generated ones to the right.
pub fn draw(report: &Report) -> String {
    let mut svg = String::new();
    // Writing to a string cannot fail.
    let _ = document(&mut svg, report);
    svg
}

/// The genres; all pieces where there is none.
fn drawn(report: &Report) -> Vec<&Group> {
    let genres = report.groups.iter().filter(|group| group.genre.is_some() && group.composer.is_none());
    let genres: Vec<&Group> = genres.take(MOST).collect();
    if genres.is_empty() { report.groups.iter().take(1).collect() } else { genres }
}

fn document(svg: &mut String, report: &Report) -> std::fmt::Result {
    let groups = drawn(report);
    let mut panels: Vec<(&str, &str, Vec<&Row>)> = Vec::new();
    for (i, measure) in MEASURES.iter().enumerate() {
        panels.push((measure.label, measure.unit, groups.iter().map(|group| &group.rows[i]).collect()));
    }
    let copies: Vec<&Row> = groups.iter().filter_map(|group| group.longest_copy.as_ref()).collect();
    if copies.len() == groups.len() {
        panels.push(("longest copy", "bars", copies));
    }
    let wide = (AXIS + SLOT * groups.len() as f64 + 20.0).max(232.0);
    let (width, height) =
        (2.0 * LEFT + COLUMNS as f64 * wide, TOP + panels.len().div_ceil(COLUMNS) as f64 * PANEL + 8.0);
    writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-family="sans-serif">"#
    )?;
    writeln!(svg, r##"<rect width="100%" height="100%" fill="#fff"/>"##)?;
    head(svg, report)?;
    for (i, (label, unit, rows)) in panels.iter().enumerate() {
        let (x, y) = (LEFT + (i % COLUMNS) as f64 * wide, TOP + (i / COLUMNS) as f64 * PANEL);
        writeln!(svg, r#"<g transform="translate({x} {y})">"#)?;
        let (label, unit) = (escape(label.trim()), if unit.is_empty() { String::new() } else { format!(", {unit}") });
        // "of one bar" stands below what it is of in tables.
        let label = if label.starts_with("of ") { format!("entropy {label}") } else { label };
        writeln!(
            svg,
            r##"<text x="0" y="14" font-size="12" font-weight="bold" fill="#222">{label}<tspan font-weight="normal" fill="#777">{unit}</tspan></text>"##
        )?;
        panel(svg, &groups, rows, wide)?;
        writeln!(svg, "</g>")?;
    }
    writeln!(svg, "</svg>")
}

/// Title and legend.
fn head(svg: &mut String, report: &Report) -> std::fmt::Result {
    let (generated, real) = (escape(&report.generated.place), escape(&report.real.place));
    writeln!(
        svg,
        r##"<text x="{LEFT}" y="26" font-size="16" font-weight="bold" fill="#222">Generated pieces beside real ones</text>"##
    )?;
    let length = if report.bars == 0 { "whole pieces".into() } else { format!("excerpts of {} bars", report.bars) };
    let (mine, theirs) = (report.generated_cut.excerpts, report.real_cut.excerpts);
    writeln!(
        svg,
        r##"<text x="{LEFT}" y="44" font-size="11" fill="#666">{mine} of {generated}, {theirs} of {real}; {length}</text>"##
    )?;
    writeln!(svg, r#"<g transform="translate({LEFT} 56)" font-size="11">"#)?;
    writeln!(
        svg,
        r##"<rect width="12" height="12" fill="{REAL}"/><text x="17" y="10" fill="#444">real, 25 % to 75 % darker</text>"##
    )?;
    writeln!(
        svg,
        r##"<rect x="176" width="12" height="12" fill="{GENERATED}"/><text x="193" y="10" fill="#444">generated, line: median</text>"##
    )?;
    let text = ["median inside 25 % to 75 %", "inside 1 % to 99 %", "outside"];
    for (x, (text, mark)) in [345.0, 525.0, 660.0].into_iter().zip(text.into_iter().zip(0..)) {
        verdict(svg, x, 6.0, mark)?;
        writeln!(svg, r##"<text x="{}" y="10" fill="#444">{text}</text>"##, x + 10.0)?;
    }
    writeln!(svg, "</g>")
}

/// A disc for inside the quartiles, a ring for inside the extremes, a cross for outside.
fn verdict(svg: &mut String, x: f64, y: f64, mark: usize) -> std::fmt::Result {
    match mark {
        0 => writeln!(svg, r##"<circle cx="{x}" cy="{y}" r="4.5" fill="#2b7a4b"/>"##),
        1 => writeln!(svg, r##"<circle cx="{x}" cy="{y}" r="3.7" fill="none" stroke="#2b7a4b" stroke-width="1.6"/>"##),
        _ => {
            let (left, top) = (x - 4.0, y - 4.0);
            writeln!(svg, r##"<path d="M{left} {top}l8 8m0 -8l-8 8" stroke="#b3261e" stroke-width="2"/>"##)
        }
    }
}

fn panel(svg: &mut String, groups: &[&Group], rows: &[&Row], wide: f64) -> std::fmt::Result {
    // Half a percent at either end of either side does not count, so that one odd piece does not flatten all others.
    let ends =
        rows.iter().flat_map(|row| [&row.values.generated, &row.values.real]).filter(|values| !values.is_empty());
    let ends: Vec<f64> = ends.flat_map(|values| [0.005, 0.995].map(|part| quantile(&sorted(values), part))).collect();
    let (mut low, mut high) =
        ends.iter().fold((f64::MAX, f64::MIN), |(low, high), end| (low.min(*end), high.max(*end)));
    if ends.is_empty() {
        (low, high) = (0.0, 1.0);
    }
    let margin = if high > low { 0.06 * (high - low) } else { 0.5 };
    let never_negative = low >= 0.0;
    (low, high) = (low - margin, high + margin);
    if never_negative {
        low = low.max(0.0);
    }
    let (top, bottom) = (26.0, 26.0 + PLOT);
    let place = |value: f64| bottom - (value.clamp(low, high) - low) / (high - low) * PLOT;
    let right = wide - 20.0;
    for (tick, text) in ticks(low, high) {
        let y = place(tick);
        writeln!(svg, r##"<path d="M{AXIS} {y:.1}H{right}" stroke="#e6e6ea"/>"##)?;
        writeln!(
            svg,
            r##"<text x="{}" y="{:.1}" font-size="9" text-anchor="end" fill="#777">{text}</text>"##,
            AXIS - 5.0,
            y + 3.0
        )?;
    }
    let copy = rows.iter().any(|row| row.measure == "longest_copy");
    let slot = (right - AXIS) / groups.len() as f64;
    for (i, (group, row)) in groups.iter().zip(rows).enumerate() {
        let x = AXIS + (i as f64 + 0.5) * slot;
        half(svg, x - 1.0, -1.0, REAL, &row.values.real, (low, high), &place)?;
        half(svg, x + 1.0, 1.0, GENERATED, &row.values.generated, (low, high), &place)?;
        if let Some(Percentiles { p25, p75, median, .. }) = row.real {
            let (y, tall) = (place(p75), (place(p25) - place(p75)).max(1.0));
            writeln!(
                svg,
                r##"<rect x="{:.1}" y="{y:.1}" width="5" height="{tall:.1}" fill="#3d5166"/><circle cx="{:.1}" cy="{:.1}" r="2" fill="#fff"/>"##,
                x - 6.0,
                x - 3.5,
                place(median)
            )?;
        }
        if let Some(Percentiles { median, .. }) = row.generated {
            let y = place(median);
            writeln!(svg, r##"<path d="M{:.1} {y:.1}h{HALF}" stroke="#7a2f05" stroke-width="2"/>"##, x + 1.0)?;
        }
        let mark = match (row.within_quartiles, row.within_extremes) {
            (Some(true), _) => Some(0),
            (_, Some(true)) => Some(1),
            (_, Some(false)) => Some(2),
            _ => None,
        };
        if let Some(mark) = mark.filter(|_| !copy) {
            verdict(svg, x, bottom + 12.0, mark)?;
        }
        let label = escape(&shortened(&group.label()));
        writeln!(
            svg,
            r##"<text x="{x:.1}" y="{:.1}" font-size="10" text-anchor="middle" fill="#444">{label}</text>"##,
            bottom + 30.0
        )?;
    }
    writeln!(svg, r##"<path d="M{AXIS} {top}V{bottom}H{right}" fill="none" stroke="#999"/>"##)
}

/// One side of a violin, from `x` to the left (-1) or to the right (1); a line where all values are alike.
fn half(
    svg: &mut String,
    x: f64,
    side: f64,
    colour: &str,
    values: &[f64],
    (low, high): (f64, f64),
    place: &impl Fn(f64) -> f64,
) -> std::fmt::Result {
    const POINTS: usize = 80;
    let Some(density) = Density::new(values) else {
        return match values.first() {
            Some(value) => {
                let y = place(*value);
                writeln!(svg, r##"<path d="M{x:.1} {y:.1}h{}" stroke="{colour}" stroke-width="3"/>"##, side * HALF)
            }
            None => Ok(()),
        };
    };
    let (from, to) = density.ends();
    let (from, to) = (from.max(low), to.min(high));
    let at = |i: usize| from + (to - from) * i as f64 / (POINTS - 1) as f64;
    let dense: Vec<f64> = (0..POINTS).map(|i| density.at(at(i))).collect();
    let most = dense.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let mut path = format!("M{x:.1} {:.1}", place(from));
    for (i, dense) in dense.iter().enumerate() {
        write!(path, "L{:.1} {:.1}", x + side * HALF * dense / most, place(at(i)))?;
    }
    write!(path, "L{x:.1} {:.1}Z", place(to))?;
    writeln!(svg, r##"<path d="{path}" fill="{colour}" fill-opacity=".75"/>"##)
}

fn shortened(label: &str) -> String {
    const LONGEST: usize = 12;
    match label.chars().count() > LONGEST {
        true => label.chars().take(LONGEST - 1).chain(['…']).collect(),
        false => label.into(),
    }
}
