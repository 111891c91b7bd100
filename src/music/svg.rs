//! A picture of a roll: systems of bars one below the other, as on a page of music.
//!
//! Pitch goes up, time to the right. The colour of a note is its velocity, from pale for soft to dark for loud, so that
//! it reads in grey as well; a re-attack begins with a gap and a dark stroke. Rows of black keys are shaded, lines stand
//! below each C and at each bar.

use std::fmt::Write;

use super::roll::{Roll, RollMetre, RollNote};
use crate::xml::escape;

/// What is drawn besides the notes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Picture<'a> {
    /// The heading; any text.
    pub title: &'a str,
    /// Where the bars are; 4/4 where nothing is said.
    pub metres: &'a [RollMetre],
    /// Quarter notes a minute, where known.
    pub bpm: Option<f64>,
}

const STEP: usize = 8;
const ROW: usize = 6;
const LEFT: usize = 36;
const RIGHT: usize = 16;
const TOP: usize = 56;
const GAP: usize = 30;
const SYSTEM_STEPS: usize = 128;
const LEGEND: usize = 160;

/// Velocities 1 to 127 at equal distances.
const COLOURS: [[f64; 3]; 5] =
    [[244.0, 200.0, 150.0], [238.0, 128.0, 80.0], [200.0, 60.0, 104.0], [122.0, 34.0, 130.0], [40.0, 14.0, 84.0]];

/// The picture of `roll` as an SVG document.
pub fn draw(roll: &Roll, picture: &Picture) -> String {
    let mut svg = String::new();
    // Writing to a string cannot fail.
    let _ = document(&mut svg, roll, picture);
    svg
}

fn document(svg: &mut String, roll: &Roll, picture: &Picture) -> std::fmt::Result {
    let notes = roll.notes();
    let lowest = notes.first().map_or(60, |note| usize::from(note.pitch)) / 12 * 12;
    let highest = notes.last().map_or(60, |note| usize::from(note.pitch)) / 12 * 12 + 11;
    let bars = bars(roll.steps(), picture.metres);
    let systems = systems(&bars, roll.steps());

    let height = (highest - lowest + 1) * ROW;
    let widest = systems.iter().map(|system| system.len() * STEP).max().unwrap_or(0).max(4 * LEGEND);
    let (width, page) = (LEFT + widest + RIGHT, TOP + systems.len() * (height + GAP));
    writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{page}" viewBox="0 0 {width} {page}" font-family="sans-serif">"#
    )?;
    writeln!(svg, r##"<rect width="100%" height="100%" fill="#fff"/>"##)?;
    let title = escape(picture.title);
    writeln!(svg, r##"<text x="{LEFT}" y="22" font-size="15" font-weight="bold" fill="#222">{title}</text>"##)?;
    let bpm = picture.bpm.map_or(String::new(), |bpm| format!(", {bpm:.0} bpm"));
    let caption = format!("{} notes in {} bars{bpm}", notes.len(), bars.len());
    writeln!(svg, r##"<text x="{LEFT}" y="38" font-size="10" fill="#666">{caption}</text>"##)?;
    legend(svg, LEFT + widest - LEGEND)?;

    let mut by_system: Vec<Vec<RollNote>> = vec![Vec::new(); systems.len()];
    for note in notes {
        let first = systems.partition_point(|system| system.end <= note.start);
        for (system, notes) in systems.iter().zip(&mut by_system).skip(first).take_while(|(s, _)| s.start < note.end) {
            // What goes on from the system before is no onset here.
            let replay = note.replay && note.start >= system.start;
            notes.push(RollNote { start: note.start.max(system.start), end: note.end.min(system.end), replay, ..note });
        }
    }
    for (i, (system, notes)) in systems.iter().zip(&by_system).enumerate() {
        writeln!(svg, r#"<g transform="translate({LEFT} {})">"#, TOP + i * (height + GAP))?;
        grid(svg, system, &bars, lowest, highest)?;
        for note in notes {
            let x = (note.start - system.start) * STEP;
            let y = (highest - usize::from(note.pitch)) * ROW;
            let gap = if note.replay { 1.5 } else { 0.0 };
            let (left, wide) = (x as f64 + gap, ((note.end - note.start) * STEP) as f64 - gap - 0.5);
            let colour = colour(note.velocity);
            writeln!(
                svg,
                r#"<rect x="{left}" y="{y}.5" width="{wide}" height="{}" rx="1.5" fill="{colour}"/>"#,
                ROW - 1
            )?;
            if note.replay {
                writeln!(svg, r##"<path d="M{left} {y}v{ROW}" stroke="#111" stroke-width="1.5"/>"##)?;
            }
        }
        writeln!(svg, "</g>")?;
    }
    writeln!(svg, "</svg>")
}

/// The rows, bars and labels of one system.
fn grid(
    svg: &mut String,
    system: &std::ops::Range<usize>,
    bars: &[usize],
    lowest: usize,
    highest: usize,
) -> std::fmt::Result {
    let (width, height) = (system.len() * STEP, (highest - lowest + 1) * ROW);
    for pitch in lowest..=highest {
        let y = (highest - pitch) * ROW;
        if matches!(pitch % 12, 1 | 3 | 6 | 8 | 10) {
            writeln!(svg, r##"<rect y="{y}" width="{width}" height="{ROW}" fill="#f2f2f4"/>"##)?;
        }
        if pitch % 12 == 0 {
            let (line, text, octave) = (y + ROW, y + ROW - 1, pitch as i32 / 12 - 1);
            writeln!(svg, r##"<path d="M0 {line}h{width}" stroke="#b8b8c0" stroke-width=".7"/>"##)?;
            writeln!(svg, r##"<text x="-5" y="{text}" font-size="9" text-anchor="end" fill="#555">C{octave}</text>"##)?;
        }
    }
    let first = bars.partition_point(|&bar| bar < system.start);
    for (i, bar) in bars.iter().enumerate().skip(first).take_while(|(_, bar)| **bar < system.end) {
        let x = (bar - system.start) * STEP;
        writeln!(svg, r##"<path d="M{x} 0v{height}" stroke="#888"/>"##)?;
        writeln!(svg, r##"<text x="{}" y="-3" font-size="8" fill="#777">{}</text>"##, x + 2, i + 1)?;
    }
    writeln!(svg, r##"<rect width="{width}" height="{height}" fill="none" stroke="#888"/>"##)
}

fn legend(svg: &mut String, x: usize) -> std::fmt::Result {
    writeln!(svg, r#"<defs><linearGradient id="velocity">"#)?;
    for (i, stop) in [1u8, 32, 64, 96, 127].into_iter().enumerate() {
        writeln!(svg, r#"<stop offset="{}%" stop-color="{}"/>"#, i * 25, colour(stop))?;
    }
    writeln!(svg, "</linearGradient></defs>")?;
    writeln!(svg, r#"<rect x="{x}" y="14" width="{LEGEND}" height="8" rx="2" fill="url(#velocity)"/>"#)?;
    for (text, part) in [("pp", 33), ("mp", 60), ("mf", 75), ("f", 92), ("ff", 110)] {
        let x = x + LEGEND * part / 127;
        writeln!(
            svg,
            r##"<text x="{x}" y="34" font-size="9" font-style="italic" text-anchor="middle" fill="#555">{text}</text>"##
        )?;
    }
    Ok(())
}

fn colour(velocity: u8) -> String {
    let place = f64::from(velocity.clamp(1, 127) - 1) / 126.0 * (COLOURS.len() - 1) as f64;
    let from = (place as usize).min(COLOURS.len() - 2);
    let part = place - from as f64;
    let [r, g, b] = [0, 1, 2].map(|i| (COLOURS[from][i] * (1.0 - part) + COLOURS[from + 1][i] * part).round() as u8);
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// The time steps on which bars begin.
fn bars(steps: usize, metres: &[RollMetre]) -> Vec<usize> {
    let common = RollMetre { step: 0, numerator: 4, denominator: 4 };
    let mut bars = Vec::new();
    for (i, metre) in [common].iter().chain(metres).enumerate() {
        let end = metres.get(i).map_or(steps, |next| next.step.min(steps));
        // Bar k begins at k times the exact bar length, rounded down, so that rounding does not add up (3/32 is 1.5 time
        // steps). A bar is at least one time step long.
        let (sixteenths, parts) = (16 * usize::from(metre.numerator), usize::from(metre.denominator));
        let bar = |k: usize| metre.step + (k * sixteenths / parts).max(k);
        bars.extend((0..).map(bar).take_while(|&bar| bar < end));
    }
    bars
}

/// Cuts the time steps into systems of whole bars, at most [`SYSTEM_STEPS`] long; only a longer bar is cut.
fn systems(bars: &[usize], steps: usize) -> Vec<std::ops::Range<usize>> {
    let mut systems = Vec::new();
    let mut start = 0;
    while start < steps {
        let end = if steps - start <= SYSTEM_STEPS {
            steps
        } else {
            let last = bars[..bars.partition_point(|&bar| bar <= start + SYSTEM_STEPS)].last();
            last.copied().filter(|&bar| bar > start).unwrap_or(start + SYSTEM_STEPS)
        };
        systems.push(start..end);
        start = end;
    }
    systems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metre(step: usize, numerator: u8, denominator: u8) -> RollMetre {
        RollMetre { step, numerator, denominator }
    }

    #[test]
    fn bars_follow_the_metres() {
        assert_eq!(bars(40, &[]), [0, 16, 32]);
        assert_eq!(bars(30, &[metre(0, 3, 4), metre(24, 2, 4)]), [0, 12, 24]);
        assert_eq!(bars(30, &[metre(20, 6, 8)]), [0, 16, 20]);
        assert_eq!(bars(8, &[metre(0, 3, 32)]), [0, 1, 3, 4, 6, 7]);
        assert_eq!(bars(3, &[metre(0, 1, 64)]), [0, 1, 2]);
        assert_eq!(bars(3, &[metre(9, 1, 64)]), [0]);
    }

    #[test]
    fn systems_hold_whole_bars() {
        assert_eq!(systems(&bars(300, &[]), 300), [0..128, 128..256, 256..300]);
        assert_eq!(systems(&bars(250, &[metre(0, 3, 4)]), 250), [0..120, 120..240, 240..250]);
        assert_eq!(systems(&bars(300, &[metre(0, 255, 4)]), 300), [0..128, 128..256, 256..300]);
        assert!(systems(&[], 0).is_empty());
    }

    #[test]
    fn louder_is_darker() {
        let light = |velocity| {
            let colour = colour(velocity);
            (1..7).step_by(2).map(|i| u32::from_str_radix(&colour[i..i + 2], 16).unwrap()).sum::<u32>()
        };
        assert!((1..127).all(|velocity| light(velocity) >= light(velocity + 1)));
        assert!(light(1) > 500 && light(127) < 160);
    }
}
