//! The learning curves of several runs as one picture.

use std::fmt::Write;

use super::compare::{Comparison, Lines, Over, Run};
use crate::charts::{COLOURS, ticks};
use crate::files::path_text;
use crate::statistics::{quantile, sorted};
use crate::xml::escape;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 62.0;
const TOP: f64 = 46.0;
const PLOT: [f64; 2] = [780.0, 380.0];
const ROW: f64 = 20.0;
/// Points of a training curve, each a mean over its share of the updates.
const POINTS: usize = 120;

/// The curves as an SVG document: validations as points, updates as thin lines.
pub fn draw(comparison: &Comparison, over: Over) -> String {
    let mut svg = String::new();
    // Writing to a string cannot fail.
    let _ = document(&mut svg, comparison, over);
    svg
}

/// The places of a measure in lines of a curve; what no picture can hold is left out.
fn places(lines: &Lines, over: Over, measure: &str) -> Vec<[f64; 2]> {
    let places = lines.column(over.names().0).iter().zip(lines.column(measure)).map(|(&x, &y)| [x, y]);
    places.filter(|place| place.iter().all(|value| value.abs() < 1e100)).collect()
}

/// Means over neighbours, so that a curve has at most [`POINTS`].
fn smoothed(places: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let each = places.len().div_ceil(POINTS).max(1);
    let mean = |part: &[[f64; 2]], i: usize| part.iter().map(|place| place[i]).sum::<f64>() / part.len() as f64;
    places.chunks(each).map(|part| [mean(part, 0), mean(part, 1)]).collect()
}

/// The ends of the axes. The first updates of a training lose so much more than all later ones that these would lie in one line:
/// the upper end is that of the validations and of nine tenths of the updates.
fn ends(curves: &[[Vec<[f64; 2]>; 2]]) -> [[f64; 2]; 2] {
    let right = curves.iter().flatten().flatten().map(|place| place[0]).fold(0.0, f64::max);
    let right = if right > 0.0 { right } else { 1.0 };
    let values = |i: usize| -> Vec<f64> { curves.iter().flat_map(|curve| &curve[i]).map(|place| place[1]).collect() };
    let (training, validations) = (sorted(&values(0)), values(1));
    let mut shown = validations;
    if !training.is_empty() {
        shown.extend([training[0], quantile(&training, 0.9)]);
    }
    let (low, high) = shown.iter().fold((f64::MAX, f64::MIN), |(low, high), &y| (low.min(y), high.max(y)));
    if low > high {
        return [[0.0, right], [0.0, 1.0]];
    }
    let margin = if high > low { 0.05 * (high - low) } else { 0.5 * high.abs().max(1e-9) };
    [[0.0, right], [low - margin, high + margin]]
}

/// As much of a line as the picture is wide.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 118;
    match text.chars().count() > LONGEST {
        true => text.chars().take(LONGEST - 1).chain(['…']).collect(),
        false => text.into(),
    }
}

fn document(svg: &mut String, comparison: &Comparison, over: Over) -> std::fmt::Result {
    let measure = &comparison.measure;
    let of = |run: &Run| [smoothed(&places(&run.training, over, measure)), places(&run.validations, over, measure)];
    let curves: Vec<[Vec<[f64; 2]>; 2]> = comparison.runs.iter().map(of).collect();
    let [[left, right], [low, high]] = ends(&curves);
    let [wide, tall] = PLOT;
    let x = |value: f64| LEFT + (value - left) / (right - left) * wide;
    let y = |value: f64| TOP + (high - value) / (high - low) * tall;
    let height = TOP + tall + 56.0 + ROW * comparison.runs.len() as f64 + 10.0;
    writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">"#
    )?;
    writeln!(svg, r##"<rect width="100%" height="100%" fill="#fff"/>"##)?;
    writeln!(
        svg,
        r##"<text x="{LEFT}" y="22" font-size="14" font-weight="bold" fill="#222">{}<tspan font-weight="normal" fill="#666"> of validations (points) and updates (thin, means)</tspan></text>"##,
        escape(measure)
    )?;
    writeln!(svg, r#"<clipPath id="plot"><rect x="{LEFT}" y="{TOP}" width="{wide}" height="{tall}"/></clipPath>"#)?;
    let bottom = TOP + tall;
    for (value, text) in ticks(low, high) {
        let y = y(value);
        writeln!(svg, r##"<path d="M{LEFT} {y:.1}h{wide}" stroke="#e6e6ea"/>"##)?;
        let (x, y) = (LEFT - 6.0, y + 4.0);
        writeln!(svg, r##"<text x="{x}" y="{y:.1}" font-size="11" text-anchor="end" fill="#666">{text}</text>"##)?;
    }
    for (value, text) in ticks(left, right) {
        let x = x(value);
        writeln!(svg, r##"<path d="M{x:.1} {bottom}v4" stroke="#999"/>"##)?;
        let y = bottom + 18.0;
        writeln!(svg, r##"<text x="{x:.1}" y="{y}" font-size="11" text-anchor="middle" fill="#666">{text}</text>"##)?;
    }
    let (middle, below) = (LEFT + wide / 2.0, bottom + 36.0);
    let axis = over.names().1;
    writeln!(svg, r##"<text x="{middle}" y="{below}" font-size="12" text-anchor="middle" fill="#444">{axis}</text>"##)?;
    writeln!(svg, r##"<rect x="{LEFT}" y="{TOP}" width="{wide}" height="{tall}" fill="none" stroke="#999"/>"##)?;
    for (i, (run, [training, validations])) in comparison.runs.iter().zip(&curves).enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let dashes = if i < COLOURS.len() { "" } else { r#" stroke-dasharray="5 3""# };
        let line = |places: &[[f64; 2]]| {
            let steps = places.iter().map(|place| format!("{:.1} {:.1}", x(place[0]), y(place[1])));
            format!("M{}", steps.collect::<Vec<_>>().join("L"))
        };
        writeln!(svg, r#"<g clip-path="url(#plot)" fill="none" stroke="{colour}"{dashes}>"#)?;
        if !training.is_empty() {
            writeln!(svg, r#"<path d="{}" stroke-width="1" stroke-opacity=".45"/>"#, line(training))?;
        }
        if !validations.is_empty() {
            writeln!(svg, r#"<path d="{}" stroke-width="2"/>"#, line(validations))?;
        }
        for [at, value] in validations {
            writeln!(svg, r#"<circle cx="{:.1}" cy="{:.1}" r="3" fill="{colour}"/>"#, x(*at), y(*value))?;
        }
        writeln!(svg, "</g>")?;
        let y = bottom + 60.0 + ROW * i as f64;
        writeln!(svg, r#"<path d="M{LEFT} {y}h24" stroke="{colour}" stroke-width="2"{dashes}/>"#)?;
        let best = run.best.as_ref().and_then(|best| best.get(measure));
        let best = best.map_or(String::new(), |best| format!(": {best:.4}"));
        let text = format!("{}{best}  {}", path_text(&run.folder), comparison.difference(run));
        let text = shortened(text.trim_end());
        let (x, y) = (LEFT + 32.0, y + 4.0);
        writeln!(svg, r##"<text x="{x}" y="{y}" font-size="12" fill="#333">{}</text>"##, escape(&text))?;
    }
    writeln!(svg, "</svg>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_curves_become_means_of_neighbours() {
        let places: Vec<[f64; 2]> = (0..600).map(|i| [f64::from(i), f64::from(i % 5)]).collect();
        let smoothed = smoothed(&places);
        assert_eq!((smoothed.len(), smoothed[0]), (POINTS, [2.0, 2.0]));
    }

    #[test]
    fn the_axis_does_not_reach_to_the_first_updates() {
        let mut training: Vec<[f64; 2]> = (1..100).map(|i| [f64::from(i), 5.0]).collect();
        training.insert(0, [0.0, 500.0]);
        let [[_, right], [low, high]] = ends(&[[training, vec![[50.0, 6.0]]]]);
        assert!(right == 99.0 && low < 5.0 && (6.0..7.0).contains(&high), "{right} {low} {high}");
        assert_eq!(ends(&[[vec![], vec![]]])[1], [0.0, 1.0], "nothing to draw");
    }
}
