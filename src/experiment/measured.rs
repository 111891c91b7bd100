//! What other commands measured, as their files have it: likelihoods beside published ones, speeds beside other programs'.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Deserialize;

use super::table::escaped;

use crate::statistics::median;

/// What `deepj benchmark --json` printed.
#[derive(Clone, Debug, Deserialize)]
pub struct Measured {
    set: String,
    command: String,
    date: String,
    device: String,
    model: String,
    parameters: usize,
    run: OfRun,
    test: Averages,
    one_gram: Averages,
    published: Vec<Row>,
}

#[derive(Clone, Debug, Deserialize)]
struct OfRun {
    step: u64,
    epochs: f64,
    seconds: f64,
}

#[derive(Clone, Debug, Deserialize)]
struct Averages {
    pooled: f64,
    per_sequence: f64,
}

#[derive(Clone, Debug, Deserialize)]
struct Row {
    model: String,
    value: f64,
    convention: String,
    source: String,
    remark: Option<String>,
}

/// What `deepj evaluate --json` printed: the losses of a checkpoint on pieces.
#[derive(Clone, Debug, Deserialize)]
pub struct Evaluated {
    command: String,
    date: String,
    device: String,
    checkpoint: String,
    split: String,
    #[serde(flatten)]
    all: Losses,
    #[serde(default)]
    genres: BTreeMap<String, Losses>,
    baselines: Option<Trivial>,
    /// Pieces of the split that were not in the corpus.
    #[serde(default)]
    missing: usize,
}

#[derive(Clone, Debug, Deserialize)]
struct Losses {
    play_nats_per_step: f64,
    /// Of a model with masked losses.
    replay_bce: Option<f64>,
    /// Of a model that draws dynamics as a number.
    dynamics_mse: Option<f64>,
    /// Pieces that have dynamics of their own, which that loss is of.
    with_dynamics: usize,
    files: usize,
    steps: usize,
}

/// What predictors without a network reach on the same pieces.
#[derive(Clone, Debug, Deserialize)]
struct Trivial {
    fitted_steps: usize,
    unigram: f64,
    bigram: f64,
    replay_bce: f64,
    dynamics_mse: f64,
}

/// One measurement of `benches/peers/compare.py`.
#[derive(Clone, Debug, Deserialize)]
pub struct Speed {
    engine: String,
    #[serde(default = "deepj")]
    model: String,
    batch: usize,
    #[serde(alias = "seq")]
    steps: usize,
    median_s: f64,
}

fn deepj() -> String {
    "deepj".into()
}

/// Appends a table a set, and the commands.
pub fn append_likelihoods(all: &[&Measured], text: &mut String) {
    if all.is_empty() {
        return;
    }
    text.push_str(
        "## Likelihood beside published figures\n\nThe test log-likelihood in nats a time step, summed over 88 keys \
         ([BENCHMARKS.md](BENCHMARKS.md)).\n",
    );
    let mut sets: BTreeMap<&str, Vec<&Measured>> = BTreeMap::new();
    all.iter().for_each(|measured| sets.entry(&measured.set).or_default().push(measured));
    for (set, measured) in sets {
        let _ = writeln!(text, "\n**{set}**\n\n| | pooled | per sequence | |\n|---|---|---|---|");
        for Measured { model, parameters, run, test, device, date, .. } in &measured {
            let OfRun { step, epochs, seconds } = run;
            let _ = writeln!(
                text,
                "| **{model}, measured** | **{:.3}** | {:.3} | {parameters} parameters, {step} updates, {epochs:.1} epochs, \
                 {:.0} minutes on {device}, {date} |",
                test.pooled,
                test.per_sequence,
                seconds / 60.0
            );
        }
        if let Some(Measured { one_gram, published, .. }) = measured.first() {
            let _ = writeln!(
                text,
                "| note 1-gram, measured | {:.2} | {:.2} | must be the published row |",
                one_gram.pooled, one_gram.per_sequence
            );
            for Row { model, value, convention, source, remark } in published {
                let remark = remark.as_ref().map_or(String::new(), |remark| format!("; {remark}"));
                let bound = if convention == "pooled-bound" { "a bound; " } else { "" };
                let _ = writeln!(text, "| {model} | {value} | | {bound}{source}{remark} |");
            }
        }
        text.push_str("\n```\n");
        measured.iter().for_each(|measured| text.push_str(&format!("{}\n", measured.command)));
        text.push_str("```\n");
    }
}

/// Appends a table of the losses on all pieces, on those of each genre, and of predictors without a network.
pub fn append_losses(of: &Evaluated, text: &mut String) {
    let Evaluated { command, date, device, checkpoint, split, all, genres, baselines, missing } = of;
    let Losses { files, steps, .. } = all;
    let _ = writeln!(
        text,
        "\n## Losses of {} on {files} pieces ({split})\n\n{steps} time steps{}; {device}, {date}. Replay is a mean over cells, dynamics \
         over cells of pieces that have dynamics of their own.\n\n| | pieces | play, nats a step | replay, nats a cell | dynamics, \
         squared error |\n|---|---|---|---|---|",
        escaped(checkpoint),
        match missing {
            0 => String::new(),
            missing => format!(", {missing} more pieces of the split are not in this corpus"),
        }
    );
    let number = |x: f64| format!("{x:.5}");
    for (name, of) in [("**all**", all)].into_iter().chain(genres.iter().map(|(name, of)| (name.as_str(), of))) {
        let Losses { play_nats_per_step, replay_bce, dynamics_mse, with_dynamics, files, .. } = of;
        let replay = replay_bce.map_or(String::new(), number);
        let dynamics = dynamics_mse.filter(|_| *with_dynamics > 0).map_or(String::new(), number);
        let name = escaped(name);
        let _ = writeln!(text, "| {name} | {files} | {play_nats_per_step:.3} | {replay} | {dynamics} |");
    }
    if let Some(Trivial { unigram, bigram, replay_bce, dynamics_mse, fitted_steps }) = baselines {
        let _ = writeln!(
            text,
            "| by pitch, of dynamics the mean of the piece so far; fitted on {fitted_steps} time steps of training pieces | {files} | {unigram:.3} | \
             {replay_bce:.5} | {dynamics_mse:.5} |\n| by pitch and the step before | {files} | {bigram:.3} | | |"
        );
    }
    let _ = writeln!(text, "\n```\n{command}\n```");
}

/// Appends a table of training steps, each program's median and our speed over its own, round by round.
pub fn append_speeds(all: &[&Speed], text: &mut String) {
    let mut works: BTreeMap<(&str, usize, usize), BTreeMap<&str, Vec<f64>>> = BTreeMap::new();
    // Only our own lines say which network it is; a peer's turn comes after ours.
    let mut model = "deepj";
    for speed in all {
        if speed.engine == OURS {
            model = &speed.model;
        }
        let of = works.entry((model, speed.batch, speed.steps)).or_default();
        of.entry(&speed.engine).or_default().push(speed.median_s);
    }
    if works.is_empty() {
        return;
    }
    text.push_str("\n## Speed beside other programs\n\n`benches/peers/compare.py`: medians over rounds of turns.\n\n");
    text.push_str("| training step | ours | beside | its time | our speed over its own |\n|---|---|---|---|---|\n");
    for ((model, batch, steps), engines) in works {
        let Some(ours) = engines.get(OURS) else { continue };
        for (engine, theirs) in engines.iter().filter(|(engine, _)| **engine != OURS) {
            let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| theirs / ours).collect();
            let _ = writeln!(
                text,
                "| {model} B={batch} T={steps} | {:.3} s | {engine} | {:.3} s | **{:.2} x** ({} rounds) |",
                median(ours),
                median(theirs),
                median(&ratios),
                ratios.len()
            );
        }
    }
}

/// The engine that is this program.
const OURS: &str = "ours";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_compared_round_by_round() {
        let line = |text: &str| serde_json::from_str::<Speed>(text).unwrap();
        let mut all = vec![];
        for (ours, theirs) in [(1.0, 2.0), (2.0, 8.0), (1.0, 1.5)] {
            all.push(line(&format!(r#"{{"engine":"ours","model":"biaxial","batch":4,"seq":128,"median_s":{ours}}}"#)));
            all.push(line(&format!(r#"{{"engine":"PyTorch eager","batch":4,"steps":128,"median_s":{theirs}}}"#)));
        }
        let mut text = String::new();
        append_speeds(&all.iter().collect::<Vec<_>>(), &mut text);
        let expected = "| biaxial B=4 T=128 | 1.000 s | PyTorch eager | 2.000 s | **2.00 x** (3 rounds) |";
        assert!(text.contains(expected), "{text}");
    }
}
