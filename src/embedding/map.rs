//! A picture of the styles: two maps side by side, by principal components and by t-SNE. A genre has a colour and a shape, so that it
//! reads in grey as well; colours are those of Okabe and Ito (2008), which people who see few colours tell apart.

use std::fmt::Write;

use super::{Embedding, Place};
use crate::charts::COLOURS;
use crate::xml::escape;

const SIDE: f64 = 460.0;
const MARGIN: f64 = 28.0;
const TOP: f64 = 84.0;
/// Half the size of a mark.
const MARK: f64 = 5.0;
/// Height of a label, and the width of a letter, for the search of a free place.
const LETTER: (f64, f64) = (6.2, 11.0);

/// The maps as an SVG document: `panels` are a caption and the places of all composers each.
pub fn draw(embedding: &Embedding, title: &str, panels: &[(String, Vec<Place>)]) -> String {
    let mut svg = String::new();
    // Writing to a string cannot fail.
    let _ = document(&mut svg, embedding, title, panels);
    svg
}

fn document(svg: &mut String, embedding: &Embedding, title: &str, panels: &[(String, Vec<Place>)]) -> std::fmt::Result {
    let mut genres: Vec<&str> = embedding.composers.iter().map(|composer| composer.genre.as_str()).collect();
    genres.sort_unstable();
    genres.dedup();
    let number = |genre: &str| genres.iter().position(|known| *known == genre).unwrap_or(0);
    let (width, height) = (panels.len() as f64 * (SIDE + MARGIN) + MARGIN, TOP + SIDE + MARGIN);
    writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-family="sans-serif">"#
    )?;
    writeln!(svg, r##"<rect width="100%" height="100%" fill="#fff"/>"##)?;
    let title = escape(title);
    writeln!(svg, r##"<text x="{MARGIN}" y="24" font-size="15" font-weight="bold" fill="#222">{title}</text>"##)?;
    let mut x = MARGIN + MARK;
    for genre in &genres {
        mark(svg, number(genre), [x, 42.0])?;
        let name = escape(genre);
        writeln!(svg, r##"<text x="{}" y="46" font-size="12" fill="#222">{name}</text>"##, x + 10.0)?;
        x += 40.0 + 7.0 * genre.chars().count() as f64;
    }
    for (i, (caption, places)) in panels.iter().enumerate() {
        let left = MARGIN + i as f64 * (SIDE + MARGIN);
        let caption = escape(caption);
        writeln!(svg, r##"<text x="{left}" y="{}" font-size="11" fill="#555">{caption}</text>"##, TOP - 8.0)?;
        writeln!(svg, r##"<rect x="{left}" y="{TOP}" width="{SIDE}" height="{SIDE}" fill="none" stroke="#bbb"/>"##)?;
        let places = on_page(places, left);
        for (composer, &place) in embedding.composers.iter().zip(&places) {
            mark(svg, number(&composer.genre), place)?;
        }
        let mut taken: Vec<[f64; 4]> = places.iter().map(|[x, y]| [x - MARK, y - MARK, x + MARK, y + MARK]).collect();
        for (composer, &place) in embedding.composers.iter().zip(&places) {
            let (wide, high) = (composer.name.chars().count() as f64 * LETTER.0, LETTER.1);
            let [x, y] = label(place, (wide, high), left, &taken);
            taken.push([x, y - high, x + wide, y]);
            let name = escape(&composer.name);
            writeln!(svg, r##"<text x="{x:.1}" y="{:.1}" font-size="11" fill="#222">{name}</text>"##, y - 2.0)?;
        }
    }
    writeln!(svg, "</svg>")
}

/// The places within the square of a panel, both axes at one scale.
fn on_page(places: &[Place], left: f64) -> Vec<[f64; 2]> {
    let bounds = |axis: usize| {
        let of = || places.iter().map(move |place| place[axis]);
        (of().fold(f64::INFINITY, f64::min), of().fold(f64::NEG_INFINITY, f64::max))
    };
    let [x, y] = [bounds(0), bounds(1)];
    let extent = (x.1 - x.0).max(y.1 - y.0).max(1e-12);
    let scale = (SIDE - 120.0) / extent;
    let middle = |(low, high): (f64, f64)| (low + high) / 2.0;
    let on = |place: &Place| {
        [left + SIDE / 2.0 + (place[0] - middle(x)) * scale, TOP + SIDE / 2.0 - (place[1] - middle(y)) * scale]
    };
    places.iter().map(on).collect()
}

/// A genre's mark: a circle, a square, a triangle or a diamond.
fn mark(svg: &mut String, genre: usize, [x, y]: [f64; 2]) -> std::fmt::Result {
    let colour = COLOURS[genre % COLOURS.len()];
    let r = MARK;
    match genre % 4 {
        0 => writeln!(svg, r#"<circle cx="{x:.1}" cy="{y:.1}" r="{r}" fill="{colour}"/>"#),
        1 => {
            let side = 2.0 * r - 1.0;
            let (x, y) = (x - side / 2.0, y - side / 2.0);
            writeln!(svg, r#"<rect x="{x:.1}" y="{y:.1}" width="{side}" height="{side}" fill="{colour}"/>"#)
        }
        2 => writeln!(svg, r#"<path d="M{x:.1} {:.1}l{r} {}h-{}z" fill="{colour}"/>"#, y - r, 2.0 * r - 1.0, 2.0 * r),
        _ => writeln!(svg, r#"<path d="M{x:.1} {:.1}l{r} {r}l-{r} {r}l-{r} -{r}z" fill="{colour}"/>"#, y - r),
    }
}

/// Where the label of a mark begins, on its lower left: of the places around the mark that with the least beneath it.
fn label([x, y]: [f64; 2], (wide, high): (f64, f64), left: f64, taken: &[[f64; 4]]) -> [f64; 2] {
    let away = MARK + 2.0;
    let mut best = ([x + away, y + high / 2.0], f64::INFINITY);
    for distance in [0.0, 10.0, 22.0] {
        let away = away + distance;
        let around = [
            [x + away, y + high / 2.0],
            [x - away - wide, y + high / 2.0],
            [x - wide / 2.0, y - away],
            [x - wide / 2.0, y + away + high],
            [x + away, y - away],
            [x + away, y + away + high],
            [x - away - wide, y - away],
            [x - away - wide, y + away + high],
        ];
        for [x, y] in around {
            let overlap = |a: (f64, f64), b: (f64, f64)| (a.1.min(b.1) - a.0.max(b.0)).max(0.0);
            let area = |to: &[f64; 4]| overlap((x, x + wide), (to[0], to[2])) * overlap((y - high, y), (to[1], to[3]));
            let inside = overlap((x, x + wide), (left, left + SIDE)) * overlap((y - high, y), (TOP, TOP + SIDE));
            let cost = taken.iter().map(area).sum::<f64>() + 2.0 * (wide * high - inside) + distance;
            if cost < best.1 {
                best = ([x, y], cost);
            }
        }
    }
    best.0
}
