//! Generation: a checkpoint composes pieces, step by step from silence or from a given beginning.
//!
//! [`generate`] composes; what is wished of a piece steers the sampler ([`steering`]), and of pieces that were composed side by
//! side the best are taken ([`choose`]) and given an ending ([`ending`]).

use std::borrow::Cow;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use crate::checkpoint::Checkpoint;
use crate::distributed::Ranks;
use crate::gpu::Device;
use crate::graph::session::KernelSelection;
use crate::music::levels::Level;
use crate::music::roll::{BAR, MAX_STEPS};
use crate::music::{Roll, StylePath};
use crate::ops::Uniforms;
use crate::ops::note_sweep::GIVEN;
use crate::quality::copies;
use crate::shape::Slots;
use crate::{Error, Result};
use choose::Judged;
use generator::{Forced, Generator, Moment};
use steering::{Steering, Wishes};

pub mod choose;
pub mod curve;
pub mod ending;
mod generator;
pub mod live;
pub mod page;
pub mod request;
pub mod rights;
pub mod steering;
pub mod stepwise;
pub mod vary;

/// What to compose.
#[derive(Clone, Debug)]
pub struct Composition {
    /// One style path a piece; the number of pieces composed together. A path runs over the composed bars.
    pub styles: Vec<StylePath>,
    /// Time steps to compose, 16 a bar, after the beginning if one is given.
    pub steps: usize,
    /// Seed of all random draws; piece number b of a batch has draws of its own.
    pub seed: u32,
    /// Divides the logits of play and replay: 1 samples what was learned, less is safer, more is wilder.
    pub temperature: f32,
    /// What each silent step in a row adds to the temperature (paper, section IV-B).
    pub silence: f32,
    /// The beginning that all pieces share, in the checkpoint's range of pitches.
    pub prime: Option<Roll>,
    /// What is wished beside the style.
    pub wishes: Wishes,
    /// How many of the pieces to keep, the best by [`choose`]; all where it is not said.
    pub keep: Option<usize>,
    /// How often the last bars of each kept piece are composed, to take the best [`ending`]; 0 leaves pieces to end as they do.
    pub endings: usize,
    /// Training pieces, from which kept pieces are to be distant; may be empty.
    pub sources: Vec<Roll>,
}

/// What each silent step in a row adds to the temperature in the paper.
pub const SILENCE: f32 = 0.1;
/// The longest piece, in bars: three hours of music.
pub const MAX_BARS: usize = 5_000;
/// The most pieces composed together.
pub const MAX_PIECES: usize = 1_000;
/// The most continuations among which an ending is chosen.
pub const MAX_ENDINGS: usize = 256;
/// The continuations among which [`Composition::usual`] chooses an ending.
pub const ENDINGS: usize = 16;
/// Continuations that are composed side by side.
const TOGETHER: usize = 64;

impl Composition {
    /// So many bars in each of `styles`, as the network by itself composes them, with the paper's temperatures and the seed 0.
    pub fn new(styles: Vec<StylePath>, bars: usize) -> Self {
        Self {
            styles,
            steps: bars.saturating_mul(BAR),
            seed: 0,
            temperature: 1.0,
            silence: SILENCE,
            prime: None,
            wishes: Wishes::default(),
            keep: None,
            endings: 0,
            sources: vec![],
        }
    }

    /// So many bars in each of `styles`, as `deepj generate` composes them where nothing is wished: density and loudness drawn to
    /// those of the style's training pieces, where the checkpoint knows these, at [`usual_temperature`], with
    /// [`usual_style_emphasis`] and an ending.
    pub fn usual(checkpoint: &Checkpoint, styles: Vec<StylePath>, bars: usize) -> Self {
        let levels = checkpoint.corpus.levels.clone();
        Self {
            temperature: usual_temperature(&levels),
            wishes: Wishes { style_emphasis: usual_style_emphasis(&levels), levels, ..Wishes::default() },
            endings: ENDINGS,
            ..Self::new(styles, bars)
        }
    }

    /// The bars to compose, of which the last may not be whole.
    pub fn bars(&self) -> usize {
        self.steps.div_ceil(BAR)
    }

    /// The time steps at the end that are composed anew for an ending; none of a piece of less than two bars.
    pub fn ending_steps(&self) -> usize {
        if self.endings == 0 || self.steps < 2 * BAR { 0 } else { ending::ANEW.min(self.steps / 2) }
    }
}

/// The temperature where none is asked for: 0.8 where density and loudness are drawn to `levels` (docs/COMPOSING.md has what other
/// temperatures do), 1 where there are none.
pub fn usual_temperature(levels: &[Option<Level>]) -> f32 {
    if levels.is_empty() { 1.0 } else { 0.8 }
}

/// The [`Wishes::style_emphasis`] where none is asked for: 0.3 where density and loudness are drawn to `levels`, 0 where there are none.
pub fn usual_style_emphasis(levels: &[Option<Level>]) -> f32 {
    if levels.is_empty() { 0.0 } else { 0.3 }
}

/// Pieces, as far as they were composed.
#[derive(Debug)]
pub struct Composed {
    /// One roll a piece that was kept, the given beginning included; the best first, where some were chosen.
    pub rolls: Vec<Roll>,
    /// How these were judged.
    pub kept: Vec<Judged>,
    /// How the others were judged.
    pub others: Vec<Judged>,
    /// The points of each kept piece's close ([`ending`]); `None` of one without.
    pub closes: Vec<Option<f64>>,
    /// Whether `stop` or a failure ended it early.
    pub interrupted: bool,
    /// Why the device failed after some bars, if it did.
    pub failure: Option<Error>,
}

/// Composes. `progress` is told the bars done after each submission, `stop` ends it after a bar.
///
/// # Errors
/// Options out of range, a device that fails before a bar is composed, or a model whose probabilities are not finite.
///
/// # Examples
///
/// ```
/// # fn main() -> deepj::Result<()> {
/// use std::sync::atomic::AtomicBool;
///
/// use deepj::checkpoint::Checkpoint;
/// use deepj::generate::{Composition, generate};
/// use deepj::music::StylePath;
/// use deepj::prelude::*;
///
/// let checkpoint = Checkpoint::builtin()?;
/// let (style, _) = StylePath::parse("bach:0.7, chopin:0.3", &checkpoint.styles)?;
/// let wanted = Composition { seed: 1, ..Composition::new(vec![style], 1) };
/// let (device, selection) = (Device::Cpu { why: String::new() }, KernelSelection::default());
/// let stop = AtomicBool::new(false);
/// let composed = pollster::block_on(generate(&checkpoint, &wanted, device, selection, &stop, |_bars| ()))?;
/// assert_eq!(composed.rolls[0].steps(), 16);
/// let bytes = composed.rolls[0].to_midi(120.0)?;
/// assert!(bytes.starts_with(b"MThd"));
/// # Ok(())
/// # }
/// ```
pub async fn generate(
    checkpoint: &Checkpoint,
    options: &Composition,
    device: Device,
    selection: KernelSelection,
    stop: &AtomicBool,
    progress: impl FnMut(usize),
) -> Result<Composed> {
    compose(checkpoint, options, (device, selection), stop, progress, None).await
}

/// The same, the pieces divided over `ranks`; all of these have all pieces then, the same as one process would have composed. A device
/// that fails on one rank fails there, whatever the others have composed.
///
/// # Errors
/// As [`generate`], or a rank that is gone.
pub async fn generate_among(
    checkpoint: &Checkpoint,
    options: &Composition,
    on: (Device, KernelSelection),
    stop: &AtomicBool,
    progress: impl FnMut(usize),
    ranks: &Ranks,
) -> Result<Composed> {
    compose(checkpoint, options, on, stop, progress, Some(ranks)).await
}

async fn compose(
    checkpoint: &Checkpoint,
    options: &Composition,
    (device, selection): (Device, KernelSelection),
    stop: &AtomicBool,
    mut progress: impl FnMut(usize),
    ranks: Option<&Ranks>,
) -> Result<Composed> {
    options.check(checkpoint)?;
    let primed = options.prime.as_ref().map_or(0, Roll::steps);
    let fork = primed + options.steps - options.ending_steps();
    let bar = checkpoint.model.roll().beats;
    let mut told = |done: usize| progress(done.saturating_sub(primed).div_ceil(bar).min(options.steps.div_ceil(bar)));
    let own = own_pieces(options.styles.len(), ranks);
    let setting = Setting { checkpoint, options, device, selection, stop, primed, bar, own: own.clone() };
    let mut ensemble = match own.is_empty() {
        true => None,
        false => Some(Ensemble::new(&setting, options.styles[own.clone()].to_vec(), own.start).await?),
    };
    let failure = match &mut ensemble {
        Some(ensemble) => ensemble.compose(&setting, fork, &mut told).await?,
        None => None,
    };
    setting.conclude((ensemble.as_ref(), failure), ranks, &mut told).await
}

/// What one composition is made with.
struct Setting<'a> {
    checkpoint: &'a Checkpoint,
    options: &'a Composition,
    device: Device,
    selection: KernelSelection,
    stop: &'a AtomicBool,
    /// Time steps of the given beginning, and of a bar as the model counts.
    primed: usize,
    bar: usize,
    /// The pieces that this process composes, by their numbers.
    own: Range<usize>,
}

/// The pieces, of so many, that this process composes.
fn own_pieces(count: usize, ranks: Option<&Ranks>) -> Range<usize> {
    ranks.map_or(0..count, |ranks| pieces_of(count, ranks.rank(), ranks.size()))
}

/// Those that rank `rank` of `size` composes.
fn pieces_of(count: usize, rank: usize, size: usize) -> Range<usize> {
    rank * count / size..(rank + 1) * count / size
}

impl Setting<'_> {
    /// The values of the pieces of all ranks, as far as all have come, and whether that is as far as time step `until`.
    fn of_all(&self, own: &[Vec<f32>], ranks: &Ranks, until: usize) -> Result<(Cow<'static, [Vec<f32>]>, bool)> {
        let row = self.row();
        let all = ranks.gather(bytemuck::cast_slice(&own.concat()).to_vec())?;
        let mut values: Vec<Vec<f32>> = vec![];
        for (rank, bytes) in all.iter().enumerate() {
            let pieces = pieces_of(self.options.styles.len(), rank, ranks.size()).len();
            let numbers = bytemuck::pod_collect_to_vec::<u8, f32>(bytes);
            let piece = |i: usize| numbers[i * numbers.len() / pieces..][..numbers.len() / pieces].to_vec();
            values.extend((0..pieces).map(piece));
        }
        let least = values.iter().map(Vec::len).min().unwrap_or(0);
        values.iter_mut().for_each(|values| values.truncate(least));
        Ok((values.into(), least == until * row))
    }

    /// Gives all ranks the endings that each has made of its pieces among those that are kept; whether all have theirs.
    fn ended_by_all(
        &self,
        kept: &[Judged],
        rolls: &mut [Roll],
        closes: &mut [Option<f64>],
        whole: bool,
        ranks: &Ranks,
    ) -> Result<bool> {
        let (range, channels) = (self.checkpoint.corpus.range, self.checkpoint.model.roll().channels);
        let is_own = |i: usize| self.own.contains(&kept[i].candidate);
        let values = |roll: &Roll| {
            let mut values = vec![0.0; roll.steps() * self.row()];
            for (t, row) in values.chunks_exact_mut(self.row()).enumerate() {
                roll.write_values(channels, t as i64, row);
            }
            values
        };
        let own: Vec<(usize, Option<u64>, Vec<f32>)> = (0..kept.len())
            .filter(|&i| is_own(i))
            .map(|i| (i, closes[i].map(f64::to_bits), values(&rolls[i])))
            .collect();
        let mut all_whole = true;
        for (of_rank, whole) in ranks.all(&(own, whole))? {
            all_whole &= whole;
            for (i, close, values) in of_rank {
                closes[i] = close.map(f64::from_bits);
                rolls[i] = Roll::from_values(range, channels, &values)?;
            }
        }
        Ok(all_whole)
    }

    /// The numbers of a time step of a piece.
    fn row(&self) -> usize {
        self.checkpoint.corpus.range.len() * self.checkpoint.model.roll().channels.len()
    }

    /// The style of each piece on the bar of a time step.
    fn styles(&self, turns: &[Turn], step: usize) -> Vec<Vec<f32>> {
        // The first composed bar has the path's first style, the last one its last.
        let bars = (self.options.steps.div_ceil(self.bar) - 1).max(1);
        let place = (step.saturating_sub(self.primed) / self.bar) as f64 / bars as f64;
        paths(turns, step).iter().map(|path| path.at(place.min(1.0))).collect()
    }

    /// The style of each piece, a mean over the bars that are composed.
    fn mean_styles(&self, turns: &[Turn]) -> Vec<Vec<f32>> {
        let bars = self.options.steps.div_ceil(self.bar);
        let mut sum = self.styles(turns, self.primed);
        for bar in 1..bars {
            let styles = self.styles(turns, self.primed + bar * self.bar);
            sum.iter_mut().flatten().zip(styles.iter().flatten()).for_each(|(sum, weight)| *sum += weight);
        }
        sum.iter_mut().flatten().for_each(|sum| *sum /= bars as f32);
        sum
    }

    fn rolls(&self, values: &[Vec<f32>]) -> Result<Vec<Roll>> {
        let (range, channels) = (self.checkpoint.corpus.range, self.checkpoint.model.roll().channels);
        values.iter().map(|values| Roll::from_values(range, channels, values)).collect()
    }

    /// Which pieces are kept, the best first, or all in their order; then the others.
    fn chosen(&self, rolls: &[Roll], styles: &[Vec<f32>]) -> (Vec<Judged>, Vec<Judged>) {
        let Composition { wishes, sources, keep, .. } = self.options;
        let copied = (!sources.is_empty() && keep.is_some()).then(|| {
            let composed: Vec<Roll> = rolls.iter().map(|roll| roll.excerpt(self.primed, roll.steps())).collect();
            let passages = copies::copied(&composed, sources.par_iter());
            passages.into_iter().map(|passage| passage.map_or(0.0, |passage| passage.bars)).collect::<Vec<_>>()
        });
        let count = keep.unwrap_or(rolls.len());
        let (mut kept, others) = choose::choose(rolls, styles, (wishes, self.primed), copied.as_deref(), count);
        if keep.is_none() {
            kept.sort_by_key(|judged| judged.candidate);
        }
        (kept, others)
    }
}

/// One style path a piece, and the time step from which they hold.
type Turn = (usize, Vec<StylePath>);

/// The style paths that hold on a time step.
fn paths(turns: &[Turn], step: usize) -> &[StylePath] {
    let turn = turns.partition_point(|(from, _)| *from <= step).max(1);
    &turns[turn - 1].1
}

/// Pieces that are composed side by side.
struct Ensemble {
    generator: Generator,
    styles: Vec<Turn>,
    /// The channels of each piece's notes, from a time step on.
    values: Vec<Vec<f32>>,
    steering: Steering,
    uniforms: Uniforms,
    /// Time steps of the piece that are done.
    done: usize,
}

impl Ensemble {
    /// Pieces in these styles; `first` is the number of the first, by which draws are told apart.
    async fn new(setting: &Setting<'_>, styles: Vec<StylePath>, first: usize) -> Result<Self> {
        let Setting { checkpoint, options, .. } = *setting;
        let (pieces, roll) = (styles.len(), checkpoint.model.roll());
        let steering = Steering::new(&options.wishes, options.prime.as_ref(), (checkpoint.corpus.range, roll), pieces)?;
        // A window is a bar: the style changes from bar to bar, and one submission runs a bar, or a beat where the density changes.
        let (device, selection) = (setting.device.clone(), setting.selection.clone());
        let generator = Generator::new(checkpoint, pieces, setting.bar, device, selection).await?;
        let uniforms = Uniforms {
            seed: options.seed,
            silence: options.silence,
            temperature: options.temperature,
            slots: Slots { first, count: pieces, total: first + pieces },
            ..Uniforms::default()
        };
        Ok(Self { generator, styles: vec![(0, styles)], values: vec![vec![]; pieces], steering, uniforms, done: 0 })
    }

    /// Goes on until a time step of the piece, or until it is stopped. Returns why the device failed after some bars, if it did.
    async fn compose(
        &mut self,
        setting: &Setting<'_>,
        until: usize,
        told: &mut impl FnMut(usize),
    ) -> Result<Option<Error>> {
        let primed = setting.primed;
        // A bar that was begun is made whole.
        while self.done < until && !(setting.stop.load(Ordering::Relaxed) && self.done.is_multiple_of(setting.bar)) {
            // Up to the end of the beginning, then to the next border of the window.
            let end = if self.done < primed { primed.min(until) } else { until };
            let window = if self.done < primed { setting.bar } else { self.steering.listening().min(setting.bar) };
            let steps = self.done..end.min((self.done / window + 1) * window);
            let forced = setting.options.prime.as_ref().filter(|_| self.done < primed);
            self.uniforms.forced = if forced.is_some() { GIVEN } else { 0.0 };
            let styles = setting.styles(&self.styles, self.done);
            if forced.is_none() && !self.steering.is_idle() {
                self.generator.control(&self.steering.control(steps.clone(), setting.bar, &styles))?;
            }
            let channels = setting.checkpoint.model.roll().channels;
            let value = forced
                .map(|prime| move |t: usize, _: usize, row: &mut [f32]| prime.write_values(channels, t as i64, row));
            let given = value.as_ref().map(|value| Forced { value, nats: None });
            let heard = self.steering.emphasised(&styles);
            match self.generator.run(steps.clone(), given, &heard, &self.uniforms, &mut self.values).await {
                Ok(()) => self.done = steps.end,
                // The bars before it were read back.
                Err(e) if e.is_of_device() && self.done > primed => return Ok(Some(e)),
                Err(e) => return Err(e),
            }
            if forced.is_none() && !self.steering.is_idle() {
                self.steering.hear(steps, &self.values, &styles);
            }
            if self.done == until || self.done.is_multiple_of(setting.bar) {
                told(self.done);
            }
        }
        Ok(None)
    }

    /// Composes the last bars of each of `rolls` many times from here on, and gives it the best close. Returns whether all have one;
    /// what was stopped before stays as it is.
    ///
    /// # Errors
    /// A device that fails; the pieces that are done have their ending.
    async fn end(
        &self,
        setting: &Setting<'_>,
        kept: &[Judged],
        rolls: &mut [Roll],
        closes: &mut [Option<f64>],
        told: &mut impl FnMut(usize),
    ) -> Result<bool> {
        let (options, fork) = (setting.options, self.done);
        let total = fork + options.ending_steps();
        let at_once = (TOGETHER / options.endings).clamp(1, kept.len());
        let moments = self.generator.moments().await?;
        let (row, first) = (setting.row(), setting.own.start);
        let lanes = |group: &[usize]| -> Vec<usize> {
            // The last group may be smaller: what is composed for the places that are left is not looked at.
            let places = group.iter().chain(std::iter::repeat(&group[0])).take(at_once);
            places.flat_map(|&i| std::iter::repeat_n(i, options.endings)).collect()
        };
        let all: Vec<usize> = (0..kept.len()).collect();
        let mut ensemble: Option<Self> = None;
        for group in all.chunks(at_once) {
            // Draws depend on the place in a group, so groups are those of one process, as far as some of it is this one's.
            let is_own = |i: &&usize| setting.own.contains(&kept[**i].candidate);
            let Some(one) = group.iter().find(is_own) else { continue };
            let owned = |i: usize| if setting.own.contains(&kept[i].candidate) { i } else { *one };
            let lanes: Vec<usize> = lanes(group).into_iter().map(|i| kept[owned(i)].candidate - first).collect();
            let styles: Vec<StylePath> = lanes.iter().map(|&i| paths(&self.styles, fork)[i].clone()).collect();
            let ensemble = match &mut ensemble {
                Some(ensemble) => ensemble,
                None => ensemble.insert(Self::new(setting, styles.clone(), 0).await?),
            };
            ensemble.styles = vec![(0, styles)];
            ensemble.generator.go_on(&lanes.iter().map(|&i| &moments[i]).collect::<Vec<&Moment>>())?;
            ensemble.steering.go_on(lanes.iter().map(|&i| self.steering.heard()[i]).collect());
            ensemble.done = fork;
            // The time step before, so that it is known what begins.
            let last = |&i: &usize| self.values[i][self.values[i].len() - row..].to_vec();
            ensemble.values = lanes.iter().map(last).collect();
            // Bars of all groups, as if they were done one after the other.
            let (before, count) = (group[0], kept.len());
            let mut group_told =
                |done: usize| told(fork + (before * (total - fork) + (done - fork) * group.len()) / count);
            if let Some(e) = ensemble.compose(setting, total, &mut group_told).await? {
                return Err(e);
            }
            if ensemble.done < total {
                return Ok(false);
            }
            for (place, &i) in group.iter().enumerate().filter(|(_, i)| is_own(i)) {
                let continuations = &ensemble.values[place * options.endings..][..options.endings];
                let continuations: Vec<Vec<f32>> = continuations.iter().map(|values| values[row..].to_vec()).collect();
                (rolls[i], closes[i]) =
                    setting.ended(&rolls[i], &kept[i], &self.values[kept[i].candidate - first], &continuations)?;
            }
        }
        Ok(true)
    }
}

impl Setting<'_> {
    /// Chooses among the pieces as far as they are composed, gives those that are long enough an ending, and moves velocities, key and
    /// range. Of several ranks each may have some of the pieces, or none, and has all afterwards.
    async fn conclude(
        &self,
        (ensemble, mut failure): (Option<&Ensemble>, Option<Error>),
        ranks: Option<&Ranks>,
        told: &mut impl FnMut(usize),
    ) -> Result<Composed> {
        let Setting { checkpoint, options, primed, .. } = *self;
        let total = primed + options.steps;
        let fork = total - options.ending_steps();
        let done = ensemble.map_or(fork, |ensemble| ensemble.done);
        let values = ensemble.map_or(&[][..], |ensemble| &ensemble.values);
        let (values, mut whole) = match ranks {
            None => (Cow::Borrowed(values), done == fork),
            Some(ranks) => {
                // What one rank alone cannot go on with ends all.
                failure.take().map_or(Ok(()), Err)?;
                self.of_all(values, ranks, fork)?
            }
        };
        let rolls = self.rolls(&values)?;
        let styles = match ensemble.filter(|_| ranks.is_none()) {
            Some(ensemble) => self.mean_styles(&ensemble.styles),
            None => self.mean_styles(&[(0, options.styles.clone())]),
        };
        let (kept, others) = self.chosen(&rolls, &styles);
        let mut rolls: Vec<Roll> = kept.iter().map(|judged| rolls[judged.candidate].clone()).collect();
        let mut closes = vec![None; rolls.len()];
        if whole
            && fork < total
            && let Some(ensemble) = ensemble
        {
            match ensemble.end(self, &kept, &mut rolls, &mut closes, told).await {
                Ok(done) => whole = done,
                Err(e) if e.is_of_device() && ranks.is_none() => failure = Some(e),
                Err(e) => return Err(e),
            }
        }
        if let Some(ranks) = ranks {
            whole &= self.ended_by_all(&kept, &mut rolls, &mut closes, whole, ranks)?;
        }
        let of_model = (checkpoint.corpus.range, checkpoint.model.roll());
        let steering = Steering::new(&options.wishes, options.prime.as_ref(), of_model, 1)?;
        for (roll, judged) in rolls.iter_mut().zip(&kept) {
            *roll = steering.leveled(roll.clone(), &styles[judged.candidate], primed)?;
            if judged.moved != 0 {
                *roll = roll.transposed(judged.moved)?;
            }
            if let Some(range) = options.wishes.range.filter(|_| options.prime.is_none()) {
                *roll = roll.folded_into(range)?;
            }
        }
        Ok(Composed { rolls, kept, others, closes, interrupted: !whole, failure })
    }

    /// The piece of `values` with the best close of its `continuations`, and that close's points; without one where no note begins in
    /// any of them.
    fn ended(
        &self,
        roll: &Roll,
        judged: &Judged,
        values: &[f32],
        continuations: &[Vec<f32>],
    ) -> Result<(Roll, Option<f64>)> {
        let fork = roll.steps();
        let whole: Vec<Vec<f32>> = continuations.iter().map(|more| [values, more].concat()).collect();
        let mut best: Option<(Roll, ending::Close)> = None;
        for roll in self.rolls(&whole)? {
            let key = judged.estimate.and_then(|key| ending::close(&roll, fork, key));
            if let Some(close) = key
                && best.as_ref().is_none_or(|(_, best)| close.score > best.score)
            {
                best = Some((roll, close));
            }
        }
        match best {
            Some((roll, close)) => Ok((ending::closed(&roll, close)?, Some(close.score))),
            None => Ok((self.rolls(&whole[..1])?.swap_remove(0), None)),
        }
    }
}

impl Composition {
    /// Whether `checkpoint` can compose it; [`generate`] asks first.
    ///
    /// # Errors
    /// Options out of range, or a beginning in another range of pitches.
    pub fn check(&self, checkpoint: &Checkpoint) -> Result<()> {
        if self.styles.is_empty() || self.styles.len() > MAX_PIECES {
            let what = format!("{} pieces at once", self.styles.len());
            return Err(Error::usage(what, format!("compose 1 to {MAX_PIECES} pieces")));
        }
        if self.steps == 0 || self.steps.div_ceil(BAR) > MAX_BARS {
            let what = format!("a piece of {} bars", self.steps as f64 / BAR as f64);
            return Err(Error::usage(what, format!("compose a time step, a sixteenth of a bar, to {MAX_BARS} bars")));
        }
        if self.keep.is_some_and(|keep| keep == 0 || keep > self.styles.len()) {
            let what = format!("{} pieces to keep of {} candidates", self.keep.unwrap_or(0), self.styles.len());
            return Err(Error::usage(what, "compose at least as many candidates as are kept"));
        }
        if self.endings > MAX_ENDINGS {
            let what = format!("{} continuations to choose an ending from", self.endings);
            return Err(Error::usage(what, format!("compose at most {MAX_ENDINGS}")));
        }
        if !(0.01..=100.0).contains(&self.temperature) {
            let what = format!("a temperature of {}", self.temperature);
            return Err(Error::usage(what, "give 0.01 to 100; 1 samples what was learned"));
        }
        if !(0.0..=100.0).contains(&self.silence) {
            return Err(Error::usage(format!("a silence temperature of {}", self.silence), "give 0 to 100"));
        }
        // Before any work: a beginning is listened to in as much time as it takes to compose it.
        let primed = self.prime.as_ref().map_or(0, Roll::steps);
        if primed.div_ceil(BAR) + self.bars() > MAX_BARS {
            let (given, bars) = (primed.div_ceil(BAR), self.bars());
            return Err(Error::usage(
                format!("a beginning of {given} bars and {bars} more, but a piece has at most {MAX_BARS}"),
                "give a shorter beginning, without a long rest at its end, or compose fewer bars",
            ));
        }
        if self.steps.saturating_add(primed) > MAX_STEPS {
            let what = format!("a beginning of {primed} time steps and {} more", self.steps);
            return Err(Error::usage(what, format!("compose fewer bars: a piece has at most {MAX_STEPS} time steps")));
        }
        if let Some(prime) = &self.prime
            && prime.range() != checkpoint.corpus.range
        {
            return Err(Error::usage(
                format!(
                    "a beginning with the pitches {}, but the model has {}",
                    prime.range(),
                    checkpoint.corpus.range
                ),
                "read it in the model's range",
            ));
        }
        if let (Some(range), Some(_)) = (self.wishes.range.filter(|range| range.len() < 12), self.wishes.key) {
            let what = format!("a key within {}, less than an octave", range.names());
            return Err(Error::usage(what, "leave out the key, or give at least twelve pitches"));
        }
        let (range, roll) = (checkpoint.corpus.range, checkpoint.model.roll());
        Steering::new(&self.wishes, self.prime.as_ref(), (range, roll), 0).map(drop)
    }
}

/// Each genre's name and style; of a model that knows no style its own name and one way to compose.
///
/// # Errors
/// See [`StylePath::parse`].
pub fn genre_styles(checkpoint: &Checkpoint) -> Result<Vec<(String, StylePath)>> {
    let styles = &checkpoint.styles;
    // A composer may have a genre's name, so the genre is spelt out composer by composer.
    let spelt = |genre: &str| {
        let composers = styles.composers().iter().filter(|c| c.genre == genre);
        composers.map(|c| format!("{}/{}", c.genre, c.name)).collect::<Vec<_>>().join(",")
    };
    let path = |genre: &str| Ok(StylePath::parse(&spelt(genre), styles)?.0);
    let genres = styles.genres().into_iter();
    match checkpoint.model.roll().styles {
        0 => genres.take(1).map(|genre| Ok((checkpoint.model.architecture().into(), path(genre)?))).collect(),
        _ => genres.map(|genre| Ok((genre.to_string(), path(genre)?))).collect(),
    }
}

/// One short piece of each genre, or one where the model knows no style, composed together: what it sounds like. `None` if `stop`
/// was set. Overrides of kernels that only training has are passed over.
///
/// # Errors
/// As [`generate`].
pub async fn samples(
    checkpoint: &Checkpoint,
    bars: usize,
    device: Device,
    selection: KernelSelection,
    stop: &AtomicBool,
) -> Result<Option<Vec<(String, Roll)>>> {
    let (names, styles): (Vec<String>, _) = genre_styles(checkpoint)?.into_iter().unzip();
    let options = Composition { seed: checkpoint.settings.seed, ..Composition::new(styles, bars) };
    let selection = KernelSelection { overrides_elsewhere: true, ..selection };
    let composed = generate(checkpoint, &options, device, selection, stop, |_| ()).await?;
    if let Some(failure) = composed.failure {
        return Err(failure);
    }
    Ok((!composed.interrupted).then(|| names.into_iter().zip(composed.rolls).collect()))
}
