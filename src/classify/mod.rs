//! Whose music a piece sounds like: a classifier of genre and composer, by which the style of generated pieces is measured
//! (paper, section VI-A and figure 4, which asked listeners).
//!
//! It hears which notes sound and which are struck again, and no velocities: corpora differ in how they came by these, and a
//! classifier would hear the typesetter. It is trained on pieces that are moved by random intervals, so that keys say nothing.

mod cheap;
mod network;
mod score;
mod works;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

pub use cheap::Cheap;
pub use score::{Confusion, Estimate, Named};
pub use works::{Parts, work_of};

use crate::gpu::Device;
use crate::graph::session::KernelSelection;
use crate::music::roll::BAR;
use crate::music::{Corpus, NoteRange, Piece, Roll, Styles};
use crate::shape::Channels;
use crate::shuffle::SplitMix64;
use crate::{Error, Result};
use network::Network;

/// How a classifier is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Seed of the split, the initial values, the windows and the dropout masks.
    pub seed: u32,
    /// The most updates.
    pub updates: usize,
    /// Updates between two validations.
    pub validate_every: usize,
    /// Validations without a better one after which it ends.
    pub patience: usize,
    /// Units of both layers.
    pub units: usize,
    /// B, windows side by side.
    pub batch: usize,
    /// T, time steps of a window, 16 a bar.
    pub steps: usize,
    /// Dropout after both layers.
    pub dropout: f32,
    /// Nadam's learning rate.
    pub learning_rate: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seed: 0,
            updates: 2000,
            validate_every: 100,
            patience: 6,
            units: 64,
            batch: 16,
            steps: 128,
            dropout: 0.4,
            learning_rate: 0.002,
        }
    }
}

/// Semitones up or down by which a window is moved at most, as far as its notes stay in the range.
const TRANSPOSE: i64 = 6;

/// What a classifier tells apart.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Classes {
    /// The composers, with their genres.
    pub styles: Styles,
    /// The genres, in the order of the composers'.
    pub genres: Vec<String>,
}

impl Classes {
    /// Those of some composers.
    ///
    /// # Errors
    /// Fewer than two genres.
    pub fn new(styles: Styles) -> Result<Self> {
        let genres: Vec<String> = styles.genres().into_iter().map(String::from).collect();
        if genres.len() < 2 {
            return Err(Error::usage(
                format!("the corpus has one genre, {}: there is nothing to tell apart", genres.concat()),
                "give a corpus with two or more folders <genre>/<composer>",
            ));
        }
        Ok(Self { styles, genres })
    }

    /// The number of a composer's genre.
    pub fn genre_of(&self, style: usize) -> usize {
        let genre = self.styles.composers().get(style).map(|composer| composer.genre.as_str());
        self.genres.iter().position(|known| Some(known.as_str()) == genre).unwrap_or(0)
    }

    /// The number of a genre by its name.
    pub fn genre(&self, name: &str) -> Option<usize> {
        self.genres.iter().position(|known| known == name)
    }
}

/// What a classifier says of a piece.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// A probability of each genre.
    pub genres: Vec<f64>,
    /// A probability of each composer.
    pub composers: Vec<f64>,
    /// What the network's last layer makes of the piece, a mean over its time steps.
    #[serde(skip)]
    pub features: Vec<f64>,
}

impl Verdict {
    /// The genre of highest probability.
    pub fn genre(&self) -> usize {
        most(&self.genres)
    }

    /// The composer of highest probability.
    pub fn composer(&self) -> usize {
        most(&self.composers)
    }
}

fn most(values: &[f64]) -> usize {
    values.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(i, _)| i)
}

/// A trained classifier on a device.
pub struct Classifier {
    /// What it tells apart.
    pub classes: Classes,
    /// The pitches that it hears.
    pub range: NoteRange,
    /// Updates after which it was best on the validation pieces.
    pub updates: usize,
    network: Network,
}

/// How a training goes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Progress {
    /// Updates made.
    pub updates: usize,
    /// The genre's cross-entropy in nats, a mean over time steps of the training windows since the last validation.
    pub loss: f64,
    /// That of whole validation pieces, a mean over genres.
    pub validation: f64,
    /// The share of them whose genre is named, a mean over genres.
    pub named: f64,
}

impl Classifier {
    /// Trains a classifier on the training pieces of `parts`, as long as the validation pieces are told apart better; `None` where
    /// `stop` was set meanwhile.
    ///
    /// # Errors
    /// Settings out of range, fewer than two genres with training and validation pieces, a device that fails.
    pub async fn train(
        corpus: &Corpus,
        parts: &Parts,
        settings: &Settings,
        device: Device,
        selection: KernelSelection,
        stop: &AtomicBool,
        mut progress: impl FnMut(&Progress),
    ) -> Result<Option<Self>> {
        check(settings)?;
        let classes = Classes::new(corpus.styles.clone())?;
        let mut windows = Windows::new(&parts.train, &classes, corpus.range, settings)?;
        for genre in 0..classes.genres.len() {
            if !parts.validation.iter().any(|piece| classes.genre_of(piece.style) == genre) {
                return Err(Error::usage(
                    format!("no work of the genre {} is left for validation", classes.genres[genre]),
                    "give at least three works of each genre",
                ));
            }
        }
        let mut network = Network::new(&classes, corpus.range, settings, device, selection).await?;
        let mut best: Option<(f64, usize, Vec<f32>)> = None;
        let (mut loss, mut since) = (0.0, 0);
        for update in 1..=settings.updates {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            loss += network.update(&windows.next(&classes)).await?;
            if !loss.is_finite() {
                return Err(Error::run("the classifier's loss is not finite", "lower its learning rate"));
            }
            if update % settings.validate_every != 0 && update != settings.updates {
                continue;
            }
            let verdicts = network.hear(parts.validation.iter().map(|piece| &piece.roll)).await?;
            let (validation, named) = measured(&classes, &parts.validation, &verdicts);
            let count = (update - 1) % settings.validate_every + 1;
            progress(&Progress { updates: update, loss: loss / count as f64, validation, named });
            loss = 0.0;
            if best.as_ref().is_none_or(|(before, ..)| validation < *before) {
                best = Some((validation, update, network.parameters().await?));
                since = 0;
            } else {
                since += 1;
                if since >= settings.patience {
                    break;
                }
            }
        }
        let Some((_, updates, parameters)) = best else { return Ok(None) };
        network.set_parameters(&parameters)?;
        Ok(Some(Self { classes, range: corpus.range, updates, network }))
    }

    /// What it says of each roll: a geometric mean of what it says at each time step, in windows that begin from silence. Rolls without
    /// a time step have equal probabilities.
    ///
    /// # Errors
    /// A roll of other pitches, or a device that fails.
    pub async fn hear<'a>(&mut self, rolls: impl IntoIterator<Item = &'a Roll>) -> Result<Vec<Verdict>> {
        let rolls: Vec<&Roll> = rolls.into_iter().collect();
        if let Some(other) = rolls.iter().find(|roll| roll.range() != self.range) {
            return Err(Error::model(
                format!("a roll of the pitches {}, and the classifier hears {}", other.range(), self.range),
                "read it with the classifier's pitches",
            ));
        }
        self.network.hear(rolls).await
    }
}

/// The cross-entropy of the genres and the share that was named, means over genres.
fn measured(classes: &Classes, pieces: &[Arc<Piece>], verdicts: &[Verdict]) -> (f64, f64) {
    let mut by_genre = vec![(0.0, 0.0, 0.0); classes.genres.len()];
    for (piece, verdict) in pieces.iter().zip(verdicts) {
        let genre = classes.genre_of(piece.style);
        by_genre[genre].0 += 1.0;
        by_genre[genre].1 -= verdict.genres[genre].max(1e-12).ln();
        by_genre[genre].2 += f64::from(u8::from(verdict.genre() == genre));
    }
    let genres = by_genre.iter().filter(|sums| sums.0 > 0.0);
    let count = genres.clone().count() as f64;
    (
        genres.clone().map(|sums| sums.1 / sums.0).sum::<f64>() / count,
        genres.map(|sums| sums.2 / sums.0).sum::<f64>() / count,
    )
}

/// The most windows, time steps of one and units: what a batch of them takes stays below a gigabyte.
const MOST: usize = 1024;

fn check(settings: &Settings) -> Result<()> {
    let Settings { updates, validate_every, units, batch, steps, dropout, learning_rate, .. } = *settings;
    let sizes = [("updates", updates, 1 << 20), ("validate_every", validate_every, 1 << 20)];
    for (name, value, most) in
        sizes.into_iter().chain([("units", units, MOST), ("batch", batch, MOST), ("steps", steps, MOST)])
    {
        if value == 0 || value > most {
            return Err(Error::usage(format!("a classifier with {name} {value}"), format!("give 1 to {most}")));
        }
    }
    if !(0.0..1.0).contains(&dropout) || !learning_rate.is_finite() || learning_rate <= 0.0 {
        return Err(Error::usage(
            format!("a classifier with dropout {dropout} and learning rate {learning_rate}"),
            "give a dropout from 0 up to but without 1, and a rate above 0",
        ));
    }
    Ok(())
}

/// Some windows side by side: what the network reads.
struct Batch {
    /// `[T, B, N, 2]`: play and replay.
    roll: Vec<f32>,
    /// `[T, B]`: 1 / (time steps that count), 0 where a window is beyond its piece.
    weight: Vec<f32>,
    /// `[B]`: the composer.
    styles: Vec<usize>,
}

impl Batch {
    fn new(steps: usize, range: NoteRange, windows: &[Window]) -> Self {
        let row = range.len() * Channels::NOTES.len();
        let batch = windows.len();
        let within =
            |window: &Window| window.roll.map_or(0, |roll| roll.steps().saturating_sub(window.start).min(steps));
        let valid: usize = windows.iter().map(within).sum();
        let mut roll = vec![0.0; steps * batch * row];
        let mut weight = vec![0.0; steps * batch];
        for (b, window) in windows.iter().enumerate() {
            let Some(of) = window.roll else { continue };
            for t in 0..within(window) {
                let values = &mut roll[(t * batch + b) * row..][..row];
                of.write_values(Channels::NOTES, (window.start + t) as i64, values);
                let moved = window.interval.unsigned_abs() as usize * Channels::NOTES.len();
                match window.interval > 0 {
                    true => values.rotate_right(moved),
                    false => values.rotate_left(moved),
                }
                weight[t * batch + b] = 1.0 / valid as f32;
            }
        }
        Self { roll, weight, styles: windows.iter().map(|window| window.style).collect() }
    }
}

/// The part of a roll that a window holds; none where it is empty.
#[derive(Clone, Copy)]
struct Window<'a> {
    roll: Option<&'a Roll>,
    /// Its first time step.
    start: usize,
    /// Semitones by which it is moved.
    interval: i64,
    /// The composer.
    style: usize,
}

/// Training windows: genres alike, of a genre each composer by the square root of its pieces, and of a composer pieces alike.
struct Windows {
    pieces: Vec<Arc<Piece>>,
    range: NoteRange,
    /// By genre: composers with their pieces, and the sum of the shares up to each.
    genres: Vec<Vec<(f64, Vec<usize>)>>,
    settings: Settings,
    number: u64,
}

impl Windows {
    fn new(pieces: &[Arc<Piece>], classes: &Classes, range: NoteRange, settings: &Settings) -> Result<Self> {
        let mut by_genre: Vec<BTreeMap<usize, Vec<usize>>> = vec![BTreeMap::new(); classes.genres.len()];
        for (i, piece) in pieces.iter().enumerate() {
            by_genre[classes.genre_of(piece.style)].entry(piece.style).or_default().push(i);
        }
        if let Some(genre) = by_genre.iter().position(BTreeMap::is_empty) {
            return Err(Error::usage(
                format!("no work of the genre {} is left for training", classes.genres[genre]),
                "give at least three works of each genre",
            ));
        }
        let cumulated = |composers: BTreeMap<usize, Vec<usize>>| {
            let mut sum = 0.0;
            let of_composer = |pieces: Vec<usize>| {
                sum += (pieces.len() as f64).sqrt();
                (sum, pieces)
            };
            composers.into_values().map(of_composer).collect()
        };
        let genres = by_genre.into_iter().map(cumulated).collect();
        Ok(Self { pieces: pieces.to_vec(), range, genres, settings: settings.clone(), number: 0 })
    }

    fn next(&mut self, classes: &Classes) -> Batch {
        /// What the random numbers of a window are for.
        const STREAM: u64 = 0x636c_6173_7369_6679;
        /// Parts into which a share is cut.
        const FINE: usize = 1 << 30;
        let Settings { batch, steps, seed, .. } = self.settings;
        let mut windows = vec![];
        for _ in 0..batch {
            let mut random = SplitMix64::new(u64::from(seed) ^ STREAM, self.number);
            let composers = &self.genres[(self.number % classes.genres.len() as u64) as usize];
            self.number += 1;
            let total = composers.last().map_or(0.0, |last| last.0);
            let drawn = random.below(FINE) as f64 / FINE as f64 * total;
            let composer = composers.partition_point(|(sum, _)| *sum <= drawn).min(composers.len() - 1);
            let of_composer = &composers[composer].1;
            let piece = &self.pieces[of_composer[random.below(of_composer.len())]];
            let bars = piece.roll.steps().saturating_sub(steps) / BAR;
            let start = random.below(bars + 1) * BAR;
            let (low, high) = room(&piece.roll, start, steps);
            let interval = low + random.below((high - low) as usize + 1) as i64;
            windows.push(Window { roll: Some(&piece.roll), start, interval, style: piece.style });
        }
        Batch::new(steps, self.range, &windows)
    }
}

/// How far a window can be moved down and up such that its notes stay in the range, [`TRANSPOSE`] semitones at most.
fn room(roll: &Roll, start: usize, steps: usize) -> (i64, i64) {
    let notes = roll.range().len();
    let (mut lowest, mut highest) = (notes, 0);
    for t in start..roll.steps().min(start + steps) {
        let mut sounding = roll.step(t).iter().enumerate().filter(|(_, cell)| cell.play()).map(|(n, _)| n);
        if let Some(first) = sounding.next() {
            lowest = lowest.min(first);
            highest = highest.max(sounding.next_back().unwrap_or(first));
        }
    }
    if lowest == notes {
        return (0, 0);
    }
    (-(lowest as i64).min(TRANSPOSE), ((notes - 1 - highest) as i64).min(TRANSPOSE))
}
