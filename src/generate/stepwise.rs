//! One piece, composed bar by bar by whoever asks for the next one, who may change its style and temperature on the way: as
//! [`generate`](super::generate) composes it, with the same notes where nothing is changed.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::{Composed, Composition, Ensemble, MAX_BARS, Setting, ending};
use crate::Result;
use crate::checkpoint::Checkpoint;
use crate::gpu::Device;
use crate::graph::session::KernelSelection;
use crate::music::roll::BAR;
use crate::music::{Roll, StylePath};
use crate::ops::random::{pcg4d, uniform01};

/// A piece on the way.
///
/// # Examples
///
/// ```
/// # fn main() -> deepj::Result<()> {
/// use std::sync::Arc;
/// use std::sync::atomic::AtomicBool;
///
/// use deepj::checkpoint::Checkpoint;
/// use deepj::generate::{Composition, stepwise::Stepwise};
/// use deepj::music::StylePath;
/// use deepj::prelude::*;
///
/// let checkpoint = Arc::new(Checkpoint::builtin()?);
/// let (style, _) = StylePath::parse("bach", &checkpoint.styles)?;
/// let wanted = Composition::new(vec![style], 2);
/// let (device, stop) = (Device::Cpu { why: String::new() }, Arc::new(AtomicBool::new(false)));
/// let mut piece = pollster::block_on(Stepwise::begin(checkpoint, wanted, device, KernelSelection::default(), stop))?;
/// while let Some(steps) = pollster::block_on(piece.next_bar())? {
///     println!("{steps:?}: {} notes so far", piece.roll()?.notes().len());
/// }
/// assert_eq!(pollster::block_on(piece.finish())?.rolls[0].steps(), 32);
/// # Ok(())
/// # }
/// ```
pub struct Stepwise {
    held: Held,
    ensemble: Ensemble,
}

/// What the piece is composed with.
struct Held {
    checkpoint: Arc<Checkpoint>,
    options: Composition,
    device: Device,
    selection: KernelSelection,
    stop: Arc<AtomicBool>,
}

impl Held {
    fn setting(&self) -> Setting<'_> {
        let Self { checkpoint, options, device, selection, stop } = self;
        let (primed, bar) = (options.prime.as_ref().map_or(0, Roll::steps), checkpoint.model.roll().beats);
        let (device, selection, own) = (device.clone(), selection.clone(), 0..options.styles.len());
        Setting { checkpoint, options, device, selection, stop, primed, bar, own }
    }

    /// The time step at which the ending begins.
    fn fork(&self) -> usize {
        self.primed() + self.options.steps - self.options.ending_steps()
    }

    fn primed(&self) -> usize {
        self.options.prime.as_ref().map_or(0, Roll::steps)
    }
}

impl Stepwise {
    /// The most time steps that a piece may have behind a beginning of so many: for one that goes on until somebody ends it.
    pub fn most_steps(primed: usize) -> usize {
        MAX_BARS.saturating_sub(primed.div_ceil(BAR)).max(1) * BAR
    }

    /// Compiles what is needed; nothing is composed yet. `stop` ends the composing of an ending.
    ///
    /// # Errors
    /// As [`generate`](super::generate).
    pub async fn begin(
        checkpoint: Arc<Checkpoint>,
        options: Composition,
        device: Device,
        selection: KernelSelection,
        stop: Arc<AtomicBool>,
    ) -> Result<Self> {
        options.check(&checkpoint)?;
        let held = Held { checkpoint, options, device, selection, stop };
        let ensemble = Ensemble::new(&held.setting(), held.options.styles.clone(), 0).await?;
        Ok(Self { held, ensemble })
    }

    /// Compiles, and where kernels are measured measures, what only the ending needs, so that nothing waits for that while the piece is
    /// heard.
    ///
    /// # Errors
    /// As [`Stepwise::begin`].
    pub async fn prepare_ending(&self) -> Result<()> {
        let lanes = self.held.options.endings;
        if lanes == 0 {
            return Ok(());
        }
        let styles = vec![self.held.options.styles[0].clone(); lanes];
        Ensemble::new(&self.held.setting(), styles, 0).await.map(drop)
    }

    /// Composes the next bar, before the first one listening to the given beginning, and returns its time steps; `None` once there
    /// is nothing left but the ending, which [`Stepwise::finish`] composes.
    ///
    /// # Errors
    /// A device that fails, or a model whose probabilities are not finite. The bars before it are still there.
    pub async fn next_bar(&mut self) -> Result<Option<Range<usize>>> {
        let (setting, fork) = (self.held.setting(), self.held.fork());
        let start = self.ensemble.done.max(setting.primed);
        if start >= fork {
            return Ok(None);
        }
        let end = fork.min((start / setting.bar + 1) * setting.bar);
        match self.ensemble.compose(&setting, end, &mut |_| ()).await? {
            Some(failure) => Err(failure),
            None if self.ensemble.done < end => Ok(None),
            None => Ok(Some(start..end)),
        }
    }

    /// The first piece as far as it is composed, the given beginning included, with the velocities that were drawn.
    ///
    /// # Errors
    /// None that is known of.
    pub fn roll(&self) -> Result<Roll> {
        Ok(self.held.setting().rolls(&self.ensemble.values[..1])?.swap_remove(0))
    }

    /// The coins that were tossed for a pitch on a time step of the bar that was composed last: whether it plays, and whether it is
    /// struck again. Each is the probability and the number that was drawn; below the probability it is so. Devices round otherwise, so
    /// of a coin whose numbers are close together they may see other sides.
    pub fn coins(&self, step: usize, pitch: u8) -> Option<[[f32; 2]; 2]> {
        let note = self.held.checkpoint.corpus.range.index(pitch)?;
        let probabilities = self.ensemble.generator.probabilities(step, 0, note)?;
        let numbers = pcg4d([note as u32, 0, step as u32, self.ensemble.uniforms.seed]).map(uniform01);
        Some([[probabilities[0], numbers[0]], [probabilities[1], numbers[1]]])
    }

    /// Goes on in another style from the next bar on: a path over the whole piece.
    pub fn change_style(&mut self, style: StylePath) {
        let (done, pieces) = (self.ensemble.done, self.held.options.styles.len());
        self.ensemble.styles.push((done, vec![style; pieces]));
    }

    /// Goes on at another temperature from the next bar on.
    ///
    /// # Errors
    /// A temperature that is out of range.
    pub fn change_temperature(&mut self, temperature: f32) -> Result<()> {
        let before = std::mem::replace(&mut self.held.options.temperature, temperature);
        if let Err(e) = self.held.options.check(&self.held.checkpoint) {
            self.held.options.temperature = before;
            return Err(e);
        }
        self.ensemble.uniforms.temperature = temperature;
        Ok(())
    }

    /// Lets the piece come to its end as soon as it can, in place of where it was to end.
    pub fn end_soon(&mut self) {
        let composed = self.ensemble.done.saturating_sub(self.held.primed());
        let ending = if self.held.options.endings > 0 { ending::ANEW } else { 0 };
        self.held.options.steps = (composed + ending).clamp(1, self.held.options.steps);
    }

    /// Composes the ending, if nothing else is left, and makes of the piece what [`generate`](super::generate) makes of it; earlier it
    /// makes that of what there is.
    ///
    /// # Errors
    /// As [`generate`](super::generate).
    pub async fn finish(&self) -> Result<Composed> {
        self.held.setting().conclude((Some(&self.ensemble), None), None, &mut |_| ()).await
    }
}

#[cfg(test)]
mod tests {
    use pollster::block_on;

    use super::*;
    use crate::generate::generate;
    use crate::generate::steering::Wishes;

    fn wanted(checkpoint: &Checkpoint, style: &str) -> Composition {
        let (style, _) = StylePath::parse(style, &checkpoint.styles).unwrap();
        let wishes = Wishes { levels: checkpoint.corpus.levels.clone(), ..Wishes::default() };
        Composition { seed: 3, temperature: 0.8, endings: 2, wishes, ..Composition::new(vec![style], 5) }
    }

    fn begun(checkpoint: &Arc<Checkpoint>, options: Composition) -> Stepwise {
        let (device, stop) = (Device::Cpu { why: String::new() }, Arc::new(AtomicBool::new(false)));
        block_on(Stepwise::begin(checkpoint.clone(), options, device, KernelSelection::default(), stop)).unwrap()
    }

    #[test]
    fn bar_by_bar_it_is_the_piece_that_is_composed_at_once() {
        let checkpoint = Arc::new(Checkpoint::builtin().unwrap());
        let prime = Roll::from_notes(checkpoint.corpus.range, []).unwrap().padded(21).unwrap();
        for prime in [None, Some(prime)] {
            let options = Composition { prime, ..wanted(&checkpoint, "bach -> chopin") };
            let device = Device::Cpu { why: String::new() };
            let stop = AtomicBool::new(false);
            let at_once =
                block_on(generate(&checkpoint, &options, device, KernelSelection::default(), &stop, |_| ())).unwrap();
            let primed = options.prime.as_ref().map_or(0, Roll::steps);
            let mut piece = begun(&checkpoint, options);
            let (mut bars, mut next) = (0, primed);
            while let Some(steps) = block_on(piece.next_bar()).unwrap() {
                assert_eq!((steps.start, piece.roll().unwrap().steps()), (next, steps.end));
                (bars, next) = (bars + 1, steps.end);
            }
            assert_eq!((bars, next), (if primed > 0 { 4 } else { 3 }, primed + 48));
            let composed = block_on(piece.finish()).unwrap();
            assert_eq!((composed.rolls, composed.interrupted), (at_once.rolls, false));
        }
    }

    #[test]
    fn coins_are_those_that_made_the_notes() {
        let checkpoint = Arc::new(Checkpoint::builtin().unwrap());
        let mut piece = begun(&checkpoint, wanted(&checkpoint, "bach"));
        (0..2).for_each(|_| assert!(block_on(piece.next_bar()).unwrap().is_some()));
        let (roll, mut played) = (piece.roll().unwrap(), 0);
        for step in 16..32 {
            for (n, cell) in roll.step(step).iter().enumerate() {
                let [[probability, number], _] = piece.coins(step, roll.range().low() + n as u8).unwrap();
                assert_eq!(cell.play(), number < probability, "step {step}, note {n}: {number} and {probability}");
                played += usize::from(cell.play());
            }
        }
        assert!(played > 0);
        assert_eq!(piece.coins(16, 0), None, "no pitch of the model's");
    }

    #[test]
    fn a_change_is_heard_from_the_next_bar_on_and_an_end_comes_when_asked_for() {
        let checkpoint = Arc::new(Checkpoint::builtin().unwrap());
        let options = Composition { steps: Stepwise::most_steps(0), ..wanted(&checkpoint, "bach") };
        let [mut changed, mut unchanged] = [options.clone(), options].map(|options| begun(&checkpoint, options));
        for piece in [&mut changed, &mut unchanged] {
            (0..2).for_each(|_| assert!(block_on(piece.next_bar()).unwrap().is_some()));
        }
        changed.change_style(StylePath::parse("chopin", &checkpoint.styles).unwrap().0);
        changed.change_temperature(1.1).unwrap();
        assert!(changed.change_temperature(1e9).is_err());
        for piece in [&mut changed, &mut unchanged] {
            (0..2).for_each(|_| assert!(block_on(piece.next_bar()).unwrap().is_some()));
        }
        let [changed_roll, roll] = [&changed, &unchanged].map(|piece| piece.roll().unwrap());
        assert_eq!(changed_roll.excerpt(0, 32), roll.excerpt(0, 32));
        assert_ne!(changed_roll.excerpt(32, 64), roll.excerpt(32, 64));
        changed.end_soon();
        assert_eq!(block_on(changed.next_bar()).unwrap(), None);
        let composed = block_on(changed.finish()).unwrap();
        assert!(composed.closes[0].is_some() && !composed.interrupted);
        assert_eq!(composed.rolls[0].steps(), 64 + ending::ANEW);
        assert!(block_on(unchanged.finish()).unwrap().interrupted, "what there is of one that goes on");
    }
}
