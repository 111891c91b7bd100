//! Generation: a checkpoint composes pieces, step by step from silence or from a given beginning.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::checkpoint::Checkpoint;
use crate::gpu::Device;
use crate::graph::session::KernelSelection;
use crate::graph::{Kind, ProgramId, Session};
use crate::models::{GenerationIo, RollShape};
use crate::music::roll::MAX_STEPS;
use crate::music::{Roll, StylePath};
use crate::ops::Uniforms;
use crate::{Error, Result};

/// What to compose.
#[derive(Clone, Debug)]
pub struct Composition {
    /// One style path a piece; the number of pieces composed together. A path runs over the composed bars.
    pub styles: Vec<StylePath>,
    /// Bars to compose, after the beginning if one is given.
    pub bars: usize,
    /// Seed of all random draws; piece number b of a batch has draws of its own.
    pub seed: u32,
    /// Divides the logits of play and replay: 1 samples what was learned, less is safer, more is wilder.
    pub temperature: f32,
    /// What each silent step in a row adds to the temperature (paper, section IV-B).
    pub silence: f32,
    /// The beginning that all pieces share, in the checkpoint's range of pitches.
    pub prime: Option<Roll>,
}

/// What each silent step in a row adds to the temperature in the paper.
pub const SILENCE: f32 = 0.1;
/// The longest piece, in bars: three hours of music.
pub const MAX_BARS: usize = 5_000;
/// The most pieces composed together.
pub const MAX_PIECES: usize = 1_000;

/// Pieces, as far as they were composed.
#[derive(Debug)]
pub struct Composed {
    /// One roll a piece, the given beginning included.
    pub rolls: Vec<Roll>,
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
/// use deepj::generate::{Composition, SILENCE, generate};
/// use deepj::music::StylePath;
/// use deepj::prelude::*;
///
/// let checkpoint = Checkpoint::builtin()?;
/// let (style, _) = StylePath::parse("bach:0.7, chopin:0.3", &checkpoint.styles)?;
/// let wanted = Composition { styles: vec![style], bars: 1, seed: 1, temperature: 1.0, silence: SILENCE, prime: None };
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
    mut progress: impl FnMut(usize),
) -> Result<Composed> {
    options.check(checkpoint)?;
    let RollShape { beats, channels, .. } = checkpoint.model.roll();
    let pieces = options.styles.len();
    // A window is a bar: the style changes from bar to bar, and one submission runs a bar.
    let bar = beats;
    let mut generator = Generator::new(checkpoint, pieces, bar, device, selection).await?;
    let primed = options.prime.as_ref().map_or(0, Roll::steps);
    let total = primed + options.bars * bar;
    let mut values: Vec<Vec<f32>> = vec![vec![]; pieces];
    let mut uniforms = Uniforms {
        seed: options.seed,
        silence: options.silence,
        temperature: options.temperature,
        ..Uniforms::default()
    };
    let (mut done, mut failure) = (0, None);
    while done < total && !stop.load(Ordering::Relaxed) {
        // Up to the end of the beginning, then to the next border of the window.
        let until = if done < primed { primed } else { total }.min((done / bar + 1) * bar);
        let forced = options.prime.as_ref().filter(|_| done < primed);
        uniforms.forced = if forced.is_some() { 1.0 } else { 0.0 };
        // The first composed bar has the path's first style, the last one its last.
        let place = (done.saturating_sub(primed) / bar) as f64 / (options.bars - 1).max(1) as f64;
        match generator.run(done..until, forced, (&options.styles, place), &uniforms, &mut values).await {
            Ok(()) => done = until,
            // The bars before it were read back.
            Err(e) if e.is_of_device() && done > primed => {
                failure = Some(e);
                break;
            }
            Err(e) => return Err(e),
        }
        progress(done.saturating_sub(primed).div_ceil(bar));
    }
    let range = checkpoint.corpus.range;
    let rolls = values.iter().map(|values| Roll::from_values(range, channels, values)).collect::<Result<_>>()?;
    Ok(Composed { rolls, interrupted: done < total, failure })
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
        if self.bars == 0 || self.bars > MAX_BARS {
            return Err(Error::usage(
                format!("a piece of {} bars", self.bars),
                format!("compose 1 to {MAX_BARS} bars"),
            ));
        }
        if !(0.01..=100.0).contains(&self.temperature) {
            let what = format!("a temperature of {}", self.temperature);
            return Err(Error::usage(what, "give 0.01 to 100; 1 samples what was learned"));
        }
        if !(0.0..=100.0).contains(&self.silence) {
            return Err(Error::usage(format!("a silence temperature of {}", self.silence), "give 0 to 100"));
        }
        // Before any work: a beginning is listened to in as much time as it takes to compose it.
        let (beats, primed) = (checkpoint.model.roll().beats, self.prime.as_ref().map_or(0, Roll::steps));
        if primed.div_ceil(beats) + self.bars > MAX_BARS {
            let (given, bars) = (primed.div_ceil(beats), self.bars);
            return Err(Error::usage(
                format!("a beginning of {given} bars and {bars} more, but a piece has at most {MAX_BARS}"),
                "give a shorter beginning, without a long rest at its end, or compose fewer bars",
            ));
        }
        if self.bars.saturating_mul(beats).saturating_add(primed) > MAX_STEPS {
            let what = format!("a beginning of {primed} time steps and {} bars of {beats}", self.bars);
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
        Ok(())
    }
}

/// A generation program in a session of its own.
struct Generator {
    session: Session,
    program: ProgramId,
    io: GenerationIo,
    roll: RollShape,
    window: usize,
}

impl Generator {
    async fn new(
        checkpoint: &Checkpoint,
        pieces: usize,
        window: usize,
        device: Device,
        selection: KernelSelection,
    ) -> Result<Self> {
        let (plan, io) = checkpoint.model.generation(pieces, window)?.compile();
        let mut session = Session::new(device, selection);
        let program = session.add(plan).await?;
        let params = session.plan(program).buffer(Kind::Params);
        session.write(program, params, &checkpoint.weights())?;
        // From silence: the step before the first is -1, and no step was silent.
        let mut clock = vec![-1.0; pieces];
        clock.resize(io.clock.len, 0.0);
        session.write(program, io.clock, &clock)?;
        Ok(Self { session, program, io, roll: checkpoint.model.roll(), window })
    }

    /// Sets each piece's style at the part `place` of the way.
    fn style(&mut self, styles: &[StylePath], place: f64) -> Result<()> {
        let Some(style) = self.io.style else { return Ok(()) };
        let points: Vec<f32> = styles.iter().flat_map(|path| path.at(place)).collect();
        self.session.write(self.program, style, &points)
    }

    /// Puts steps of the beginning where the program looks for them.
    fn force(&mut self, prime: &Roll, steps: std::ops::Range<usize>) -> Result<()> {
        let row = self.roll.notes * self.roll.channels.len();
        let pieces = self.io.forced.len / (self.window * row);
        let mut forced = vec![0.0; self.io.forced.len];
        for t in steps {
            for piece in forced[t % self.window * pieces * row..][..pieces * row].chunks_exact_mut(row) {
                prime.write_values(self.roll.channels, t as i64, piece);
            }
        }
        self.session.write(self.program, self.io.forced, &forced)
    }

    /// Runs steps of one window, of the beginning `forced` if that is given, in these styles at a part of the way, and appends
    /// the channels of each piece's notes to its values.
    async fn run(
        &mut self,
        steps: std::ops::Range<usize>,
        forced: Option<&Roll>,
        (styles, place): (&[StylePath], f64),
        uniforms: &Uniforms,
        values: &mut [Vec<f32>],
    ) -> Result<()> {
        if let Some(prime) = forced {
            self.force(prime, steps.clone())?;
        }
        self.style(styles, place)?;
        self.session.run(self.program, steps.len() as u32, uniforms)?;
        self.session.prepare(self.program, steps.len() as u32)?;
        let roll = self.session.read(self.program, &[self.io.roll]).await?.swap_remove(0);
        let (reported, channels) = (self.io.reported, self.roll.channels.len());
        let row = self.roll.notes * reported;
        for t in steps {
            let rows = roll[t % self.window * values.len() * row..].chunks_exact(row);
            for (b, (values, row)) in values.iter_mut().zip(rows).enumerate() {
                if !row.iter().all(|x| x.is_finite()) {
                    let what = format!("the probabilities of piece {}, step {t}, are not finite", b + 1);
                    return Err(Error::run(what, "take another checkpoint"));
                }
                values.extend(row.chunks_exact(reported).flat_map(|note| &note[..channels]));
            }
        }
        Ok(())
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
    let options =
        Composition { styles, bars, seed: checkpoint.settings.seed, temperature: 1.0, silence: SILENCE, prime: None };
    let selection = KernelSelection { overrides_elsewhere: true, ..selection };
    let composed = generate(checkpoint, &options, device, selection, stop, |_| ()).await?;
    if let Some(failure) = composed.failure {
        return Err(failure);
    }
    Ok((!composed.interrupted).then(|| names.into_iter().zip(composed.rolls).collect()))
}
