//! What a run composes, and its figures.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::file::{Configuration, Samples};
use crate::checkpoint::Checkpoint;
use crate::generate::{Composition, SILENCE, generate, genre_styles};
use crate::gpu::Device;
use crate::graph::session::KernelSelection;
use crate::music::RollStats;
use crate::shape::{Channel, Channels};
use crate::train::SAMPLE;
use crate::{Error, Result};

/// A figure of a piece.
pub type Figure = fn(&RollStats) -> f64;

/// The figures of pieces by name, in the order of tables.
pub const FIGURES: [(&str, Figure); 7] = [
    ("silent_share", |stats| stats.silent_share),
    ("longest_rest", |stats| stats.longest_rest as f64),
    ("mean_polyphony", |stats| stats.mean_polyphony),
    ("onsets_per_step", |stats| share(stats.onsets, stats.steps)),
    ("replay_share", |stats| share(stats.replays, stats.onsets)),
    ("mean_velocity", |stats| stats.mean_velocity),
    ("std_velocity", |stats| stats.std_velocity),
];

/// The figures of pieces that have these values of a cell: velocities only where the model composes them.
pub fn figures(channels: Channels) -> impl Iterator<Item = (&'static str, Figure)> {
    let dynamics = channels.iter().any(|channel| channel == Channel::Dynamics);
    FIGURES.into_iter().filter(move |(name, _)| dynamics || !name.ends_with("_velocity"))
}

fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// Quarter notes a minute of the pieces as files.
const TEMPO: f64 = 120.0;

/// What a configuration composes with this checkpoint, and the names of the pieces.
///
/// # Errors
/// More pieces, or longer ones, than can be composed.
pub fn composition(
    samples: &Samples,
    configuration: &Configuration,
    checkpoint: &Checkpoint,
) -> Result<(Vec<String>, Composition)> {
    let genres = genre_styles(checkpoint)?;
    let named = genres.into_iter().flat_map(|(genre, style)| {
        (1..=samples.pieces).map(move |number| (format!("{genre}-{number}"), style.clone()))
    });
    let (names, styles) = named.unzip();
    let composition = Composition {
        seed: checkpoint.settings.seed,
        temperature: samples.temperature,
        silence: if configuration.silence_temperature == Some(false) { 0.0 } else { SILENCE },
        ..Composition::new(styles, samples.bars)
    };
    composition.check(checkpoint)?;
    Ok((names, composition))
}

/// Composes into `folder`, and returns the figures, each a mean over pieces; `None` if `stop` was set.
///
/// # Errors
/// As [`generate`], or a file that cannot be written.
pub async fn compose(
    (names, composition): (Vec<String>, Composition),
    checkpoint: &Checkpoint,
    folder: &Path,
    device: Device,
    selection: KernelSelection,
    stop: &AtomicBool,
) -> Result<Option<BTreeMap<String, f64>>> {
    // Overrides may be of kernels that only training has.
    let selection = KernelSelection { overrides_elsewhere: true, ..selection };
    let composed = generate(checkpoint, &composition, device, selection, stop, |_| ()).await?;
    if let Some(failure) = composed.failure {
        return Err(failure);
    }
    if composed.interrupted {
        return Ok(None);
    }
    for (name, roll) in names.iter().zip(&composed.rolls) {
        roll.write_midi(folder.join(format!("{SAMPLE}{name}.mid")), TEMPO)?;
    }
    let stats: Vec<RollStats> = composed.rolls.iter().map(RollStats::new).collect();
    if stats.is_empty() {
        return Err(Error::run("nothing was composed", ""));
    }
    let mean = |figure: Figure| stats.iter().map(figure).sum::<f64>() / stats.len() as f64;
    let figures = figures(checkpoint.model.roll().channels);
    Ok(Some(figures.map(|(name, figure)| (name.to_string(), mean(figure))).collect()))
}
