//! A profile as a picture: the roofline, on which each kernel stands below what the device could do at most.
//!
//! The model is that of S. Williams, A. Waterman and D. Patterson, *Roofline: An Insightful Visual Performance Model for
//! Multicore Architectures*, Communications of the ACM 52 (4), 2009. A kernel that does `I` floating-point operations for
//! each byte can reach `min(peak, I * bandwidth)`; here bytes are the compulsory ones, so that a kernel which reads them
//! more than once stands further below its roof, and one whose operands stay in caches may stand above.
//!
//! What a kernel's time goes into is told by the lightness of its dot, so that the picture reads in grey as well.

use std::fmt::Write;

use super::table::{clock, digits, shape};
use super::{Bound, Header, Kernel, Profile};
use crate::xml::escape;

const WIDTH: f64 = 900.0;
/// The plot's sides.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 764.0;
const TOP: f64 = 112.0;
const BOTTOM: f64 = 500.0;
/// Width of the strips at the plot's sides for kernels that do no arithmetic or move no bytes.
const STRIP: f64 = 34.0;
/// Height of a line of the list below.
const LINE: f64 = 16.0;
/// The mark of the whole step.
const STEP: &str = r##"<path d="M-6 0l6 -6l6 6l-6 6z" fill="#fff" stroke="#111" stroke-width="1.6"/>"##;
/// How many kernels are named.
const NAMED: usize = 12;
/// Radius of a dot that has all the time, and of the smallest.
const RADII: [f64; 2] = [40.0, 2.5];
/// How many points a label may be further away for its line not to cross another label.
const CROSSING: f64 = 200.0;
/// Size of the labels' letters, and the width of one for which room is kept.
const LETTER: [f64; 2] = [11.0, 6.3];

/// The roofline of the profile's device with a dot for each kernel as an SVG document of 900 points' width.
///
/// Both axes are logarithmic: floating-point operations a compulsory byte to the right, GFLOP/s at the median call upwards.
/// The area of a dot is its share of the time. The kernels that take most of it are numbered, named, and listed below.
/// Kernels without arithmetic stand in a strip to the left, as far below its roof as their traffic is below the bandwidth.
pub fn roofline(profile: &Profile) -> String {
    let mut svg = String::new();
    // Writing to a string cannot fail.
    let _ = document(&mut svg, profile);
    svg
}

/// A logarithmic axis.
#[derive(Clone, Copy, Debug)]
struct Axis {
    /// Powers of ten at the ends.
    range: [f64; 2],
    /// Where the ends are drawn.
    ends: [f64; 2],
}

impl Axis {
    /// An axis that holds all values and some space on both sides.
    fn new(values: impl Iterator<Item = f64>, space: [f64; 2], ends: [f64; 2]) -> Self {
        let (least, most) = values
            .filter(|value| positive(*value))
            .map(f64::log10)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| (least.min(value), most.max(value)));
        let (least, most) = if least > most { (0.0, 0.0) } else { (least, most) };
        Self { range: [least - space[0], most + space[1]], ends }
    }

    fn at(&self, value: f64) -> f64 {
        let [from, to] = self.range;
        let part = ((value.log10() - from) / (to - from)).clamp(0.0, 1.0);
        self.ends[0] + part * (self.ends[1] - self.ends[0])
    }

    /// The values at the ends.
    fn least(&self) -> f64 {
        10f64.powf(self.range[0])
    }

    fn most(&self) -> f64 {
        10f64.powf(self.range[1])
    }

    /// Powers of ten to be named, no more than about ten, and where they are.
    fn decades(&self) -> impl Iterator<Item = (i32, f64)> {
        let [from, to] = self.range.map(|end| end.floor() as i32);
        let step = ((to - from) / 10 + 1) as usize;
        (from + 1..=to).step_by(step).map(|power| (power, self.at(10f64.powi(power))))
    }
}

fn positive(value: f64) -> bool {
    value.is_finite() && value > 0.0
}

/// The roofs: what the device can do at most in each arithmetic, its bandwidth, and that of its caches.
struct Roofs {
    /// The highest first.
    peaks: Vec<(&'static str, f64)>,
    bandwidth: Option<f64>,
    caches: Option<f64>,
}

impl Roofs {
    fn of(profile: &Profile) -> Self {
        let peaks = &profile.header.peaks;
        let all = [("matrix", peaks.matrix_gflops), ("f16", peaks.f16_gflops), ("f32", Some(peaks.f32_gflops))];
        let mut known: Vec<_> =
            all.into_iter().filter_map(|(name, peak)| Some((name, peak.filter(|p| positive(*p))?))).collect();
        known.sort_by(|a, b| b.1.total_cmp(&a.1));
        let [bandwidth, caches] =
            [Some(peaks.bandwidth_gbs), peaks.cache_gbs].map(|rate| rate.filter(|b| positive(*b)));
        Self {
            peaks: known,
            bandwidth,
            caches: caches.filter(|caches| bandwidth.is_none_or(|memory| *caches > memory)),
        }
    }

    /// The intensity from which on arithmetic is the limit.
    fn ridges(&self) -> impl Iterator<Item = f64> {
        self.peaks.iter().filter_map(|(_, peak)| Some(peak / self.bandwidth?))
    }
}

/// Where a kernel stands.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    /// At an intensity and a rate in GFLOP/s.
    Plot(f64, f64),
    /// No arithmetic: at this part of the bandwidth.
    NoFlops(f64),
    /// No bytes: at this rate in GFLOP/s.
    NoBytes(f64),
    /// Without a time, or without work.
    Nowhere,
}

fn place(kernel: &Kernel) -> Place {
    match (kernel.flops, kernel.bytes) {
        (1.., 1..) if positive(kernel.gflops) => Place::Plot(kernel.flops as f64 / kernel.bytes as f64, kernel.gflops),
        (1.., 0) if positive(kernel.gflops) => Place::NoBytes(kernel.gflops),
        (0, 1..) if positive(kernel.bandwidth_share) => Place::NoFlops(kernel.bandwidth_share),
        _ => Place::Nowhere,
    }
}

/// A kernel's dot. The number is its place in the profile, from 1, as in the table.
struct Dot<'a> {
    kernel: &'a Kernel,
    number: usize,
    x: f64,
    y: f64,
    radius: f64,
}

/// Left, top, right and bottom.
type Frame = [f64; 4];

fn overlap(a: &Frame, b: &Frame) -> f64 {
    let side = |low: usize, high: usize| (a[high].min(b[high]) - a[low].max(b[low])).max(0.0);
    side(0, 2) * side(1, 3)
}

fn around(x: f64, y: f64, half: f64) -> Frame {
    [x - half, y - half, x + half, y + half]
}

/// Small frames along a line between two points.
fn along([x1, y1, x2, y2]: [f64; 4]) -> impl Iterator<Item = Frame> {
    let steps = ((x2 - x1).hypot(y2 - y1) / 6.0).ceil().max(1.0);
    (0..=steps as usize).map(move |i| {
        let part = i as f64 / steps;
        around(x1 + part * (x2 - x1), y1 + part * (y2 - y1), 2.0)
    })
}

fn radius(share: f64) -> f64 {
    let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
    (RADII[0] * share.sqrt()).max(RADII[1])
}

/// From dark to pale.
fn colour(bound: Bound) -> &'static str {
    match bound {
        Bound::Compute => "#1f3f77",
        Bound::Memory => "#e0803a",
        Bound::Launch => "#f7e3b5",
        Bound::Occupancy => "#8fb8a8",
        Bound::Latency => "#cfcfcf",
    }
}

// Over 80 lines: one element of the picture after the other.
fn document(svg: &mut String, profile: &Profile) -> std::fmt::Result {
    let roofs = Roofs::of(profile);
    let places: Vec<Place> = profile.kernels.iter().map(place).collect();
    let has = |wanted: fn(&Place) -> bool| places.iter().any(wanted);
    let left = LEFT + if has(|place| matches!(place, Place::NoFlops(_))) { STRIP } else { 0.0 };
    let right = RIGHT - if has(|place| matches!(place, Place::NoBytes(_))) { STRIP } else { 0.0 };

    let intensities = places.iter().filter_map(|place| match place {
        Place::Plot(intensity, _) => Some(*intensity),
        _ => None,
    });
    let step = [profile.summary.flops as f64 / profile.summary.bytes as f64, profile.summary.gflops];
    let x = Axis::new(intensities.chain(roofs.ridges()).chain([step[0]]), [0.4, 0.7], [left, right]);
    // The strip's roof: the bandwidth at the plot's left side.
    let strip = roofs.bandwidth.map_or(1.0, |bandwidth| bandwidth * x.least());
    let rates = places.iter().filter_map(|place| match *place {
        Place::Plot(_, rate) | Place::NoBytes(rate) => Some(rate),
        Place::NoFlops(part) => Some(part * strip),
        Place::Nowhere => None,
    });
    let peaks = roofs.peaks.iter().map(|(_, peak)| *peak);
    let y = Axis::new(rates.chain(peaks).chain([strip, step[1]]), [0.3, 0.35], [BOTTOM, TOP]);

    let mut dots = vec![];
    for (number, (kernel, place)) in profile.kernels.iter().zip(&places).enumerate() {
        let (x, y) = match *place {
            Place::Plot(intensity, rate) => (x.at(intensity), y.at(rate)),
            Place::NoFlops(part) => (LEFT + STRIP / 2.0, y.at(part * strip)),
            Place::NoBytes(rate) => (RIGHT - STRIP / 2.0, y.at(rate)),
            Place::Nowhere => continue,
        };
        dots.push(Dot { kernel, number: number + 1, x, y, radius: radius(kernel.share) });
    }
    dots.sort_by(|a, b| b.kernel.share.total_cmp(&a.kernel.share));
    let named = &dots[..dots.len().min(NAMED)];
    let height = BOTTOM + 74.0 + LINE * named.len() as f64;

    writeln!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="{}" fill="#333">"##,
        LETTER[0]
    )?;
    writeln!(svg, r##"<rect width="100%" height="100%" fill="#fff"/>"##)?;
    heading(svg, profile)?;
    legend(svg, places.iter().filter(|place| **place == Place::Nowhere).count())?;
    grid(svg, &x, &y)?;
    let lines = draw_roofs(svg, &roofs, &x, &y)?;

    for dot in &dots {
        let Dot { kernel, x, y, radius, .. } = dot;
        writeln!(
            svg,
            r##"<circle cx="{x:.1}" cy="{y:.1}" r="{radius:.1}" fill="{}" fill-opacity=".8" stroke="#222" stroke-width=".8"><title>{}</title></circle>"##,
            colour(kernel.bound),
            escape(&format!("{}, {}, {}: {:.1} %", kernel.kernel, kernel.variant, kernel.shape, 100.0 * kernel.share))
        )?;
    }
    if step.iter().all(|value| positive(*value)) {
        let (x, y) = (x.at(step[0]), y.at(step[1]));
        writeln!(svg, r#"<g transform="translate({x:.1} {y:.1})">{STEP}</g>"#)?;
    }
    let labels = labels(named, &dots, &lines);
    for [x1, y1, x2, y2] in labels.iter().filter_map(|label| label.leader) {
        for (colour, width) in [("#fff", 2.4), ("#333", 0.8)] {
            writeln!(
                svg,
                r#"<path d="M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}" stroke="{colour}" stroke-width="{width}" stroke-linecap="round"/>"#
            )?;
        }
    }
    for Label { text, frame, .. } in &labels {
        writeln!(
            svg,
            r##"<text x="{:.1}" y="{:.1}" fill="#111" stroke="#fff" stroke-width="3" paint-order="stroke">{}</text>"##,
            frame[0],
            frame[3] - 3.0,
            escape(text)
        )?;
    }
    list(svg, named)?;
    writeln!(svg, "</svg>")
}

fn heading(svg: &mut String, profile: &Profile) -> std::fmt::Result {
    let Profile { header, summary, .. } = profile;
    let title = format!("Roofline of {}", header.plan);
    writeln!(
        svg,
        r##"<text x="{LEFT}" y="26" font-size="15" font-weight="bold" fill="#222">{}</text>"##,
        escape(&title)
    )?;
    let recompute = if header.recompute { ", recompute" } else { "" };
    let Header { machine, preset, precision, .. } = header;
    let machine = format!("{machine}, deepj {}; {preset}, {precision}{recompute}", machine.deepj);
    let step = format!(
        "step {} ms: {}FLOP/s, {:.1} % of the f32 peak; times by {}",
        digits(summary.step_ms),
        si(summary.gflops),
        100.0 * summary.flop_share,
        clock(header)
    );
    for (y, line) in [(44, machine), (60, step)] {
        writeln!(svg, r##"<text x="{LEFT}" y="{y}" fill="#555">{}</text>"##, escape(&line))?;
    }
    Ok(())
}

/// What dots say, above the plot.
fn legend(svg: &mut String, left_out: usize) -> std::fmt::Result {
    let y = TOP - 24.0;
    let mut x = LEFT;
    let mut entry = |x: &mut f64, mark: &str, half: f64, text: &str| -> std::fmt::Result {
        writeln!(svg, r#"<g transform="translate({:.1} {y})">{mark}</g>"#, *x + half)?;
        writeln!(svg, r#"<text x="{:.1}" y="{}">{text}</text>"#, *x + 2.0 * half + 4.0, y + 4.0)?;
        *x += 2.0 * half + 18.0 + LETTER[1] * text.chars().count() as f64;
        Ok(())
    };
    let circle = |radius: f64, colour: &str| {
        format!(r##"<circle r="{radius:.1}" fill="{colour}" fill-opacity=".8" stroke="#222" stroke-width=".8"/>"##)
    };
    for bound in [Bound::Compute, Bound::Memory, Bound::Launch, Bound::Occupancy, Bound::Latency] {
        entry(&mut x, &circle(6.0, colour(bound)), 6.0, &format!("{bound} bound"))?;
    }
    for (i, percent) in [1, 10].into_iter().enumerate() {
        let radius = radius(f64::from(percent) / 100.0);
        let what = if i == 0 { " of the time" } else { "" };
        entry(&mut x, &circle(radius, "#fff"), radius, &format!("{percent} %{what}"))?;
    }
    entry(&mut x, STEP, 6.0, "whole step")?;
    if left_out > 0 {
        entry(&mut x, "", 0.0, &format!("left out, without a time or work: {left_out}"))?;
    }
    Ok(())
}

fn grid(svg: &mut String, x: &Axis, y: &Axis) -> std::fmt::Result {
    let (width, height) = (RIGHT - LEFT, BOTTOM - TOP);
    for (power, at) in y.decades() {
        writeln!(svg, r##"<path d="M{LEFT} {at:.1}h{width}" stroke="#e4e4e8"/>"##)?;
        let (prefix, own) = prefix(power + 9);
        let value = 10f64.powi(power + 9 - own);
        writeln!(svg, r#"<text x="{}" y="{:.1}" text-anchor="end">{value} {prefix}</text>"#, LEFT - 6.0, at + 4.0)?;
    }
    for (power, at) in x.decades() {
        writeln!(svg, r##"<path d="M{at:.1} {TOP}v{height}" stroke="#e4e4e8"/>"##)?;
        let value = if (-4..=4).contains(&power) { 10f64.powi(power).to_string() } else { format!("1e{power}") };
        writeln!(svg, r#"<text x="{at:.1}" y="{}" text-anchor="middle">{value}</text>"#, BOTTOM + 16.0)?;
    }
    let [left, right] = x.ends;
    for (at, from, to, name) in [(left, LEFT, left, "no FLOP"), (right, right, RIGHT, "no bytes")] {
        if to > from {
            writeln!(svg, r##"<path d="M{at} {TOP}v{height}" stroke="#888" stroke-dasharray="2 3"/>"##)?;
            let middle = (from + to) / 2.0;
            writeln!(
                svg,
                r#"<text x="{middle}" y="{}" font-size="9" text-anchor="middle">{name}</text>"#,
                BOTTOM + 15.0
            )?;
        }
    }
    writeln!(svg, r##"<rect x="{LEFT}" y="{TOP}" width="{width}" height="{height}" fill="none" stroke="#888"/>"##)?;
    let (middle, bottom) = ((left + right) / 2.0, BOTTOM + 34.0);
    writeln!(svg, r#"<text x="{middle}" y="{bottom}" text-anchor="middle">FLOP per compulsory byte</text>"#)?;
    let middle = (TOP + BOTTOM) / 2.0;
    writeln!(svg, r#"<text transform="translate(16 {middle}) rotate(-90)" text-anchor="middle">FLOP/s</text>"#)
}

/// Draws the roofs with their names; what they cover.
fn draw_roofs(svg: &mut String, roofs: &Roofs, x: &Axis, y: &Axis) -> Result<Vec<Frame>, std::fmt::Error> {
    let mut covered = vec![];
    let mut line = |svg: &mut String, dashes: &str, [x1, y1, x2, y2]: Frame| {
        covered.extend(along([x1, y1, x2, y2]));
        writeln!(
            svg,
            r##"<path d="M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}" stroke="#111" stroke-width="1.6" stroke-dasharray="{dashes}"/>"##
        )
    };
    // Names of the flat roofs stand to the right, apart from each other.
    let mut free = 0.0f64;
    for (name, peak) in &roofs.peaks {
        let fastest = roofs.caches.or(roofs.bandwidth);
        let (height, from) = (y.at(*peak), fastest.map_or(x.ends[0], |bandwidth| x.at(peak / bandwidth)));
        line(svg, dashes(name), [from, height, RIGHT, height])?;
        let text = (height + 4.0).max(free);
        free = text + LETTER[0] + 3.0;
        writeln!(
            svg,
            r##"<path d="M{RIGHT} {height:.1}l8 {:.1}" stroke="#777" stroke-width=".7"/>"##,
            text - 4.0 - height
        )?;
        writeln!(svg, r#"<text x="{}" y="{text:.1}">{name} {}FLOP/s</text>"#, RIGHT + 10.0, si(*peak))?;
    }
    let mut names = vec![];
    for (name, bandwidth) in [("memory", roofs.bandwidth), ("caches", roofs.caches)] {
        let Some(bandwidth) = bandwidth else { continue };
        let dashes = dashes(name);
        let highest = roofs.peaks.first().map_or(f64::INFINITY, |(_, peak)| *peak);
        let end = (highest / bandwidth).min(x.most()).min(y.most() / bandwidth);
        let (x1, y1) = (x.ends[0], y.at(bandwidth * x.least()));
        let (x2, y2) = (x.at(end), y.at(bandwidth * end));
        if x1 > LEFT {
            line(svg, dashes, [LEFT, y1, x1, y1])?;
        }
        line(svg, dashes, [x1, y1, x2, y2])?;
        let (cos, sin) = ((x2 - x1) / (x2 - x1).hypot(y2 - y1), (y2 - y1) / (x2 - x1).hypot(y2 - y1));
        let name = format!("{name} {}B/s", si(bandwidth));
        let (along, above) = (12.0, 5.0);
        let (x0, y0) = (x1 + along * cos + above * sin, y1 + along * sin - above * cos);
        writeln!(
            svg,
            r#"<text transform="translate({x0:.1} {y0:.1}) rotate({:.1})">{name}</text>"#,
            sin.atan2(cos).to_degrees()
        )?;
        let letters = 0..name.chars().count();
        names.extend(letters.map(|i| {
            let along = LETTER[1] * (i as f64 + 0.5);
            around(x0 + along * cos + 4.0 * sin, y0 + along * sin - 4.0 * cos, 5.0)
        }));
    }
    covered.extend(names);
    Ok(covered)
}

fn dashes(roof: &str) -> &'static str {
    match roof {
        "f16" => "8 4",
        "matrix" => "2 3",
        "caches" => "1 4",
        _ => "",
    }
}

/// The name of a dot.
struct Label {
    text: String,
    frame: Frame,
    /// A line from the dot, where the label is not beside it.
    leader: Option<[f64; 4]>,
}

/// Labels of the `named` dots, none over another, and over as little as can be of `dots`, of lines to other labels and of
/// what else is `covered`. A dot without a free place around has none.
fn labels(named: &[Dot], dots: &[Dot], covered: &[Frame]) -> Vec<Label> {
    let (others, dots) = (dots, dots.iter().map(|dot| around(dot.x, dot.y, dot.radius)).collect::<Vec<Frame>>());
    let mut labels: Vec<Label> = vec![];
    for dot in named {
        // Where a kernel of one shape ran in several variants, these are what tells dots apart.
        let alike = |other: &&Dot| other.kernel.shape == dot.kernel.shape && other.kernel.variant != dot.kernel.variant;
        let text = match others.iter().any(|other| alike(&other)) {
            true => format!("{} {} {}", dot.number, dot.kernel.kernel, dot.kernel.variant),
            false => format!("{} {}", dot.number, dot.kernel.kernel),
        };
        let half = [LETTER[1] * text.chars().count() as f64 / 2.0, LETTER[0] / 2.0 + 1.0];
        let mut best: Option<(f64, Label)> = None;
        for distance in [3.0, 12.0, 24.0, 40.0, 60.0, 85.0, 115.0, 150.0, 190.0] {
            for direction in 0..16 {
                let (sin, cos) = (f64::from(direction) * std::f64::consts::PI / 8.0).sin_cos();
                let x = dot.x + cos * (dot.radius + distance + half[0]);
                let y = dot.y - sin * (dot.radius + distance + half[1]);
                let frame = [x - half[0], y - half[1], x + half[0], y + half[1]];
                let inside = frame[0] > LEFT && frame[1] > TOP && frame[2] < RIGHT && frame[3] < BOTTOM;
                let nearest = [dot.x.clamp(frame[0], frame[2]), dot.y.clamp(frame[1], frame[3])];
                let leader = (distance > 12.0).then_some([dot.x, dot.y, nearest[0], nearest[1]]);
                if !inside || labels.iter().any(|label| overlap(&label.frame, &frame) > 0.0) {
                    continue;
                }
                let crossed = |leader: Option<[f64; 4]>, frame: &Frame| {
                    leader.into_iter().flat_map(along).any(|point| overlap(&point, frame) > 0.0)
                };
                let crossings = labels
                    .iter()
                    .filter(|label| crossed(leader, &label.frame) || crossed(label.leader, &frame))
                    .count();
                let over = |frames: &[Frame]| frames.iter().map(|other| overlap(other, &frame)).sum::<f64>();
                let cost = distance + 2.0 * over(&dots) + over(covered) + CROSSING * crossings as f64;
                if best.as_ref().is_none_or(|(least, _)| cost < *least) {
                    best = Some((cost, Label { text: text.clone(), frame, leader }));
                }
            }
        }
        labels.extend(best.map(|(_, label)| label));
    }
    labels
}

/// The named kernels, below the plot.
fn list(svg: &mut String, named: &[Dot]) -> std::fmt::Result {
    // Where columns of numbers end, and others begin.
    const COLUMNS: [(f64, bool); 9] = [
        (LEFT - 16.0, true),
        (LEFT + 36.0, true),
        (LEFT + 50.0, false),
        (LEFT + 200.0, false),
        (LEFT + 280.0, false),
        (680.0, true),
        (746.0, true),
        (812.0, true),
        (824.0, false),
    ];
    let mut line = |y: f64, colour: &str, cells: [&str; 9]| -> std::fmt::Result {
        for ((x, end), cell) in COLUMNS.into_iter().zip(cells) {
            let anchor = if end { r#" text-anchor="end""# } else { "" };
            writeln!(svg, r#"<text x="{x}" y="{y}" fill="{colour}"{anchor}>{}</text>"#, escape(cell))?;
        }
        Ok(())
    };
    let mut y = BOTTOM + 60.0;
    if !named.is_empty() {
        line(y, "#777", ["", "share", "kernel", "variant", "shape", "GFLOP/s", "% FLOP", "% GB/s", "bound by"])?;
    }
    for Dot { kernel, number, .. } in named {
        y += LINE;
        let percent = |part: f64| format!("{:.1} %", 100.0 * part);
        line(
            y,
            "#222",
            [
                &number.to_string(),
                &percent(kernel.share),
                &kernel.kernel,
                &kernel.variant,
                shape(kernel),
                &digits(kernel.gflops),
                &percent(kernel.flop_share),
                &percent(kernel.bandwidth_share),
                &kernel.bound.to_string(),
            ],
        )?;
    }
    Ok(())
}

/// The prefix of the metric system for numbers of this power of ten, and its own power.
fn prefix(power: i32) -> (&'static str, i32) {
    const PREFIXES: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    let place = power.div_euclid(3).clamp(0, 6);
    (PREFIXES[place as usize], 3 * place)
}

/// `51.2 T` of 51,200, which counts thousands of millions.
fn si(giga: f64) -> String {
    if !positive(giga) {
        return format!("{giga} G");
    }
    let (prefix, power) = prefix(giga.log10().floor() as i32 + 9);
    format!("{} {prefix}", digits(giga * 10f64.powi(9 - power)))
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::step;
    use super::*;

    /// What stands between `start` and `end` in each of the text's places.
    fn all<'a>(text: &'a str, start: &str, end: &str) -> Vec<&'a str> {
        text.split(start).skip(1).filter_map(|rest| rest.split(end).next()).collect()
    }

    fn check(profile: &Profile) -> String {
        let svg = roofline(profile);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        for tag in ["svg", "g", "text", "circle", "title"] {
            let opened = svg.matches(&format!("<{tag} ")).count() + svg.matches(&format!("<{tag}>")).count();
            let closed = svg.matches(&format!("</{tag}>")).count();
            let alone = all(&svg, &format!("<{tag} "), ">").iter().filter(|tag| tag.ends_with('/')).count();
            assert_eq!(opened, closed + alone, "<{tag}>");
        }
        svg
    }

    /// Middle and radius of each kernel's dot.
    fn dots(svg: &str) -> Vec<[f64; 3]> {
        let number = |tag: &str, name| all(tag, name, "\"")[0].parse().unwrap();
        let circles = all(svg, "<circle cx", "/title>");
        circles.into_iter().map(|tag| [number(tag, "=\""), number(tag, "cy=\""), number(tag, "r=\"")]).collect()
    }

    #[test]
    fn kernels_stand_at_their_intensity_and_rate() {
        let mut profile = step(3);
        let svg = check(&profile);
        let [one, two, three] = dots(&svg)[..] else { panic!("three dots") };
        // lstm_fwd 85.3 FLOP a byte and 9,955 GFLOP/s, gemm 102.2 and 17,772, gemm 43.0 and 14,018.
        assert!(three[0] < one[0] && one[0] < two[0] && two[1] < three[1] && three[1] < one[1]);
        let decade = |from: f64, to: f64, distance: f64| distance / (to / from).log10();
        let across = [decade(85.338, 102.180, two[0] - one[0]), decade(43.0, 85.338, one[0] - three[0])];
        let up = [decade(9955.0, 17772.3, one[1] - two[1]), decade(9955.0, 14018.3, one[1] - three[1])];
        for [a, b] in [across, up] {
            assert!((a / b - 1.0).abs() < 0.02, "logarithmic: {a} and {b} points a decade");
        }
        let area = |dot: [f64; 3]| dot[2] * dot[2];
        let shares = profile.kernels[0].share / profile.kernels[1].share;
        assert!((area(one) / area(two) / shares - 1.0).abs() < 0.02, "areas are shares");
        // A kernel at the peak stands on its roof.
        profile.kernels[0].gflops = profile.header.peaks.f32_gflops;
        let svg = check(&profile);
        let roofs: Vec<&str> = all(&svg, "stroke-width=\"1.6\" stroke-dasharray=\"", "\"");
        assert_eq!(roofs, ["2 3", "8 4", "", ""], "matrix, f16, f32, memory");
        let f32_roof = svg.lines().find(|line| line.ends_with("stroke-dasharray=\"\"/>")).unwrap();
        assert!(f32_roof.contains(&format!("L{RIGHT:.1} {:.1}\"", dots(&svg)[0][1])), "{f32_roof}");
    }

    #[test]
    fn every_kernel_has_a_dot_and_the_largest_dozen_a_name() {
        for count in [0, 1, 3, 12, 40, 200] {
            let svg = check(&step(count));
            assert_eq!(dots(&svg).len(), count);
            let labels = svg.matches("paint-order=\"stroke\"").count();
            assert_eq!(labels, count.min(NAMED), "of {count}");
        }
        // The profile of an op has its kernels in another order than that of time.
        let mut profile = step(40);
        profile.kernels.reverse();
        let svg = check(&profile);
        assert!(svg.contains(">40 lstm_fwd</text>") && !svg.contains(">1 gemm"), "numbers are those of the table");
    }

    #[test]
    fn labels_overlap_neither_each_other_nor_the_frame() {
        let profile = step(40);
        let crowd: Vec<Dot> = profile.kernels[..NAMED]
            .iter()
            .enumerate()
            .map(|(i, kernel)| Dot { kernel, number: i + 1, x: RIGHT - 9.0, y: TOP + 5.0 + i as f64, radius: 9.0 })
            .collect();
        let labels = labels(&crowd, &crowd, &[]);
        assert_eq!(labels.len(), NAMED);
        for (i, Label { frame, text, .. }) in labels.iter().enumerate() {
            assert!(frame[0] > LEFT && frame[1] > TOP && frame[2] < RIGHT && frame[3] < BOTTOM, "{text}: {frame:?}");
            for other in &labels[..i] {
                assert_eq!(overlap(frame, &other.frame), 0.0, "{text} and {}", other.text);
            }
        }
        assert!(overlap(&[0.0, 0.0, 2.0, 2.0], &[1.0, 1.0, 3.0, 4.0]) == 1.0);
    }

    #[test]
    fn work_that_no_logarithm_has_breaks_nothing() {
        let mut profile = step(6);
        let set = |kernel: &mut Kernel, flops, bytes, gflops, bandwidth_share, share| {
            *kernel = Kernel { flops, bytes, gflops, bandwidth_share, share, ..kernel.clone() };
        };
        set(&mut profile.kernels[0], 0, 4096, 0.0, 0.5, 0.4);
        set(&mut profile.kernels[1], 4096, 0, 3.0, 0.0, 0.3);
        set(&mut profile.kernels[2], 4096, 4096, f64::INFINITY, f64::INFINITY, 0.2);
        set(&mut profile.kernels[3], 0, 0, f64::NAN, f64::NAN, f64::NAN);
        set(&mut profile.kernels[4], u64::MAX, 1, 1e300, 1e300, 1e300);
        set(&mut profile.kernels[5], 1, u64::MAX, 1e-300, 1e-300, -1.0);
        let svg = check(&profile);
        assert!(svg.contains("no FLOP") && svg.contains("no bytes"));
        assert!(svg.contains("left out, without a time or work: 2"));
        assert_eq!(dots(&svg).len(), 4);

        let peaks = &mut profile.header.peaks;
        (peaks.f32_gflops, peaks.bandwidth_gbs) = (0.0, f64::NAN);
        (peaks.f16_gflops, peaks.matrix_gflops) = (None, Some(f64::INFINITY));
        profile.summary.gflops = f64::NAN;
        profile.summary.flop_share = 0.0;
        profile.kernels.truncate(3);
        assert!(!roofline(&profile).contains("<path d=\"MNaN"));
        profile.summary.bytes = 0;
        profile.kernels.clear();
        assert_eq!(dots(&roofline(&profile)).len(), 0);
    }

    #[test]
    fn text_is_escaped_and_numbers_have_prefixes() {
        assert!(check(&step(1)).contains("Accelerator &lt;X&gt; [vulkan"));
        assert_eq!([si(51_200.0), si(100.0), si(2.9e-3), si(999_999.0)], ["51.2 T", "100 G", "2.90 M", "1000 T"]);
        assert_eq!([si(1e-12), si(1e12), si(0.0)], ["0.001 ", "1000 E", "0 G"]);
    }
}
