//! What other commands say of styles, as their files have it: where they stand to each other, whether they are heard, and what
//! generated pieces are like beside real ones.

use std::fmt::Write;

use serde::Deserialize;

use super::file::Direction;
use super::report::Verdict;
use super::table::escaped;

/// One of these, told by its fields.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum OfStyle {
    /// What `deepj classify --json` printed.
    Classified(Box<Classified>),
    /// What `deepj styles --json` printed.
    Standing(Standing),
    /// What `deepj evaluate --generated --json` printed.
    Quality(Quality),
}

/// Shares of pieces whose genre was named.
#[derive(Clone, Debug, Deserialize)]
pub struct Classified {
    command: String,
    date: String,
    device: String,
    chance: f64,
    real: Score,
    real_cheap: Score,
    generated: Option<Generated>,
    sweep: Option<Sweep>,
}

#[derive(Clone, Debug, Deserialize)]
struct Score {
    share: f64,
    interval: [f64; 2],
    pieces: usize,
}

#[derive(Clone, Debug, Deserialize)]
struct Generated {
    named: Score,
    exchanged: Score,
    cheap: Score,
}

#[derive(Clone, Debug, Deserialize)]
struct Sweep {
    from: String,
    to: String,
    points: Vec<(f64, f64)>,
    monotone: bool,
}

/// Places in the style embedding.
#[derive(Clone, Debug, Deserialize)]
pub struct Standing {
    command: String,
    date: String,
    standings: Vec<Composer>,
    clustering: Option<Clustering>,
}

#[derive(Clone, Debug, Deserialize)]
struct Composer {
    composer: String,
    genre: String,
    towards: Option<(String, f64)>,
}

#[derive(Clone, Debug, Deserialize)]
struct Clustering {
    share: f64,
    by_chance: f64,
    p: f64,
}

/// Measures of generated pieces beside real ones.
#[derive(Clone, Debug, Deserialize)]
pub struct Quality {
    command: String,
    date: String,
    bars: usize,
    groups: Vec<Group>,
    #[serde(default)]
    contrasts: Vec<Contrast>,
}

#[derive(Clone, Debug, Deserialize)]
struct Contrast {
    measure: String,
    genre: String,
    against: String,
    generated: Option<Difference>,
    real: Option<Difference>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Difference {
    mean: f64,
    interval: [f64; 2],
}

/// What the paper says of genres (section 5): the measure, and that it is lower or higher in one genre than in another.
const OF_GENRES: [(&str, &str, Direction, &str, &str); 3] = [
    ("velocity_variance", "variance of the velocity", Direction::Lower, "baroque", "classical"),
    ("velocity_variance", "variance of the velocity", Direction::Lower, "baroque", "romantic"),
    ("polyphony", "polyphony", Direction::Higher, "baroque", "classical"),
];

#[derive(Clone, Debug, Deserialize)]
struct Group {
    genre: Option<String>,
    composer: Option<String>,
    generated: Size,
    real: Size,
    within_quartiles: usize,
    within_extremes: usize,
    compared: usize,
    beyond_bound: Option<usize>,
}

#[derive(Clone, Debug, Deserialize)]
struct Size {
    pieces: usize,
}

/// Appends a section on one of them.
pub fn append(of: &OfStyle, text: &mut String) {
    // Writing to a string cannot fail.
    let _ = match of {
        OfStyle::Classified(of) => append_classified(of, text),
        OfStyle::Standing(of) => append_standing(of, text),
        OfStyle::Quality(of) => append_quality(of, text),
    };
}

fn append_classified(of: &Classified, text: &mut String) -> std::fmt::Result {
    let Classified { command, date, device, chance, real, real_cheap, generated, sweep } = of;
    writeln!(
        text,
        "\n## Whether styles are heard (figure 4)\n\nThe genre that a classifier names, a mean over genres, with 95 % intervals"
    )?;
    writeln!(
        text,
        "([STYLES.md](STYLES.md)); {device}, {date}.\n\n| | named | pieces | listeners of the paper |\n|---|---|---|---|"
    )?;
    writeln!(text, "| chance | {:.0} % | | |", 100.0 * chance)?;
    let mut row = |name: &str, score: &Score, paper: &str| {
        let Score { share, interval: [low, high], pieces } = score;
        let [share, low, high] = [share, low, high].map(|x| 100.0 * x);
        writeln!(text, "| {name} | {share:.0} % ({low:.0} to {high:.0}) | {pieces} | {paper} |")
    };
    row("real pieces, held out", real, "52 % +- 13.56")?;
    row("the same by density, polyphony and range", real_cheap, "")?;
    if let Some(Generated { named, exchanged, cheap }) = generated {
        row("generated in the named style", named, "59 % +- 13.36")?;
        row("the same by density, polyphony and range", cheap, "")?;
        row("generated, styles exchanged", exchanged, "")?;
    }
    if let Some(Sweep { from, to, points, monotone }) = sweep {
        let points: Vec<String> = points.iter().map(|(weight, p)| format!("{weight:.2}: {p:.3}")).collect();
        let verdict = if *monotone { "monotone" } else { "not monotone" };
        let (from, to) = (escaped(from), escaped(to));
        writeln!(
            text,
            "\nFrom {from} to {to}, the probability of {to} by its weight: {}; {verdict}.",
            points.join(", ")
        )?;
    }
    writeln!(text, "\n```\n{command}\n```")
}

fn append_standing(of: &Standing, text: &mut String) -> std::fmt::Result {
    let Standing { command, date, standings, clustering } = of;
    writeln!(text, "\n## Where styles stand (figure 5)\n")?;
    if let Some(Clustering { share, by_chance, p }) = clustering {
        let [share, by_chance] = [share, by_chance].map(|x| 100.0 * x);
        writeln!(
            text,
            "The nearest composer is of the same genre for {share:.0} %, by chance {by_chance:.0} % (p = {p:.4}); {date}. The paper: \
             composers of one period stand together."
        )?;
    }
    let beethoven = standings.iter().find(|of| of.composer == "beethoven");
    if let Some(Composer { genre, towards: Some((other, part)), .. }) = beethoven {
        writeln!(
            text,
            "\nBeethoven stands {part:+.2} of the way from the centre of the other {genre} composers to that of the {other} ones. The \
             paper: between classical and romantic."
        )?;
    }
    writeln!(text, "\n```\n{command}\n```")
}

fn append_quality(of: &Quality, text: &mut String) -> std::fmt::Result {
    let Quality { command, date, bars, groups, contrasts } = of;
    writeln!(
        text,
        "\n## Generated pieces beside real ones\n\nMedians of measures in excerpts of {bars} bars ([QUALITY.md](QUALITY.md)); {date}.\n"
    )?;
    writeln!(
        text,
        "| | generated | real | inside the 25th to 75th percentile | inside the 1st to 99th | pieces that copy beyond the bound |\n\
         |---|---|---|---|---|---|"
    )?;
    for group in groups.iter().filter(|group| group.composer.is_none()) {
        let Group { genre, generated, real, within_quartiles, within_extremes, compared, beyond_bound, .. } = group;
        let genre = genre.as_deref().map_or("all".into(), escaped);
        let copies = beyond_bound.map_or(String::new(), |pieces| pieces.to_string());
        writeln!(
            text,
            "| {genre} | {} | {} | {within_quartiles} of {compared} | {within_extremes} of {compared} | {copies} |",
            generated.pieces, real.pieces
        )?;
    }
    append_contrasts(contrasts, text)?;
    writeln!(text, "\n```\n{command}\n```")
}

/// What the paper says of genres, where both genres are there.
fn append_contrasts(contrasts: &[Contrast], text: &mut String) -> std::fmt::Result {
    let said = OF_GENRES.iter().filter_map(|claim @ (measure, _, _, genre, against)| {
        let is_it = |of: &&Contrast| (&of.measure[..], &of.genre[..], &of.against[..]) == (measure, genre, against);
        contrasts.iter().find(is_it).map(|contrast| (claim, contrast))
    });
    for (i, ((_, measure, expected, genre, against), Contrast { generated, real, .. })) in said.enumerate() {
        if i == 0 {
            writeln!(
                text,
                "\nWhat the paper says of genres: differences of the means of pieces, with 95 % intervals (Welch's t).\n\n| claim | \
                 generated | verdict | real |\n|---|---|---|---|"
            )?;
        }
        let difference = |of: &Option<Difference>| {
            of.as_ref().map_or("not measured".into(), |Difference { mean, interval: [low, high] }| {
                format!("{mean:.2} ({low:.2} to {high:.2})")
            })
        };
        let verdict = Verdict::of(*expected, generated.map(|of| of.interval));
        let (generated, real) = (difference(generated), difference(real));
        writeln!(text, "| {measure} {expected} in {genre} than in {against} | {generated} | {verdict} | {real} |")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_each_kind_are_told_apart() {
        let score = r#"{"share":0.75,"interval":[0.5,0.9],"pieces":40,"confusion":[[3,1],[1,3]]}"#;
        let section = |json: &str| {
            let mut text = String::new();
            append(&serde_json::from_str(json).unwrap(), &mut text);
            text
        };
        let text = section(&format!(
            r#"{{"command":"deepj classify","date":"2026-11-29","device":"cpu","chance":0.5,"real":{score},"real_cheap":{score},
            "generated":{{"named":{score},"exchanged":{score},"cheap":{score}}},
            "sweep":{{"from":"a","to":"b","points":[[0.0,0.1],[1.0,0.8]],"monotone":true}}}}"#
        ));
        assert!(text.contains("| generated in the named style | 75 % (50 to 90) | 40 | 59 % +- 13.36 |"), "{text}");
        assert!(text.contains("0.00: 0.100, 1.00: 0.800; monotone."), "{text}");
        let text = section(
            r#"{"command":"deepj styles","date":"2026-11-29","clustering":{"share":0.5,"by_chance":0.25,"p":0.03,"permutations":9},
            "standings":[{"composer":"beethoven","genre":"classical","towards":["romantic",0.4]}]}"#,
        );
        assert!(text.contains("for 50 %, by chance 25 % (p = 0.0300)"), "{text}");
        assert!(text.contains("+0.40 of the way from the centre of the other classical composers"), "{text}");
        let text = section(
            r#"{"command":"deepj evaluate","date":"2026-11-29","bars":32,"groups":[{"genre":"baroque","composer":null,
            "generated":{"pieces":30,"excerpts":30},"real":{"pieces":9,"excerpts":20},"within_quartiles":7,"within_extremes":12,
            "compared":13,"beyond_bound":0}],"contrasts":[
            {"measure":"polyphony","genre":"baroque","against":"classical","generated":{"mean":0.5,"interval":[0.1,0.9]},"real":null},
            {"measure":"velocity_variance","genre":"baroque","against":"classical","generated":{"mean":2.0,"interval":[1.0,3.0]},
            "real":{"mean":-9.0,"interval":[-12.0,-6.0]}}]}"#,
        );
        assert!(
            text.contains("higher in baroque than in classical | 0.50 (0.10 to 0.90) | confirmed | not measured |"),
            "{text}"
        );
        assert!(text.contains("| 2.00 (1.00 to 3.00) | not confirmed | -9.00 (-12.00 to -6.00) |"), "{text}");
        assert!(text.contains("| baroque | 30 | 9 | 7 of 13 | 12 of 13 | 0 |"), "{text}");
    }
}
