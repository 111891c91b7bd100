//! A piece that is composed bar by bar while it sounds: what is wished may change with each bar, and bars that nobody
//! has heard yet are composed anew.

use super::generator::{Forced, Generator, Moment};
use super::steering::{Heard, Steering, Wishes};
use crate::checkpoint::Checkpoint;
use crate::gpu::Device;
use crate::graph::session::KernelSelection;
use crate::music::Roll;
use crate::music::levels::mixed;
use crate::ops::Uniforms;
use crate::ops::note_sweep::GIVEN;
use crate::{Error, Result};

/// By how much what was heard of velocities counts less a bar later.
const FADING: f64 = 0.5;
/// The largest factor by which velocities are spread, and its inverse the smallest.
const MOST_SPREAD: f64 = 2.5;

/// How the next bar is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Manner {
    /// Weight by style.
    pub style: Vec<f32>,
    /// Divides the logits, as [`super::Composition::temperature`].
    pub temperature: f32,
    /// What is wished beside the style; curves at their first value.
    pub wishes: Wishes,
}

/// What happens on a time step of a bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveEvent {
    /// Time step of the bar, from 0.
    pub step: usize,
    /// MIDI pitch.
    pub pitch: u8,
    /// The velocity of a key that goes down, 1..=127; `None` of one that goes up.
    pub down: Option<u8>,
}

/// A piece that goes on without an end.
pub struct Live<'a> {
    checkpoint: &'a Checkpoint,
    generator: Generator,
    steering: Steering,
    uniforms: Uniforms,
    /// Time steps of a bar.
    bar: usize,
    /// The channels of the last time step's notes; empty before the first.
    last: Vec<f32>,
    done: usize,
    loudness: Loudness,
}

/// Where a piece can go on from.
#[derive(Clone)]
pub struct Mark {
    moment: Moment,
    heard: Vec<Heard>,
    last: Vec<f32>,
    done: usize,
    loudness: Loudness,
}

impl<'a> Live<'a> {
    /// From silence, or behind a beginning that [`Live::hear`] will be given. `silence` is
    /// [`super::Composition::silence`].
    ///
    /// # Errors
    /// Wishes that the model cannot meet, or a device that fails.
    pub async fn new(
        checkpoint: &'a Checkpoint,
        (manner, beginning): (&Manner, Option<&Roll>),
        (seed, silence): (u32, f32),
        device: Device,
        selection: KernelSelection,
    ) -> Result<Self> {
        let roll = checkpoint.model.roll();
        let steering = Steering::new(&manner.wishes, beginning, (checkpoint.corpus.range, roll), 1)?;
        let generator = Generator::new(checkpoint, 1, roll.beats, device, selection).await?;
        let uniforms = Uniforms { seed, silence, ..Uniforms::default() };
        let loudness = Loudness::default();
        Ok(Self { checkpoint, generator, steering, uniforms, bar: roll.beats, last: vec![], done: 0, loudness })
    }

    /// Time steps of a bar.
    pub fn bar_steps(&self) -> usize {
        self.bar
    }

    /// Composes the next bar. Of keys that go up and down on one time step the former come first; keys that are down at
    /// its end stay down until an event of a later bar.
    ///
    /// # Errors
    /// A device that fails, or probabilities that are not finite.
    pub async fn compose(&mut self, manner: &Manner) -> Result<Vec<LiveEvent>> {
        self.steering.wish(&manner.wishes);
        let styles = std::slice::from_ref(&manner.style);
        let steps = self.done..self.done + self.bar;
        if !self.steering.is_idle() {
            self.generator.control(&self.steering.control(steps.clone(), self.bar, styles))?;
        }
        self.uniforms.forced = 0.0;
        self.uniforms.temperature = manner.temperature;
        let values = self.run(None, styles).await?;
        if !self.steering.is_idle() {
            self.steering.hear(steps, std::slice::from_ref(&values), styles);
        }
        let mut events = self.events(&values)?;
        self.loudness.level(&mut events, manner);
        Ok(events)
    }

    /// Hears a bar of a given beginning, `number` from 0 on, and returns what it plays. A bar that is not whole is
    /// filled with a rest.
    ///
    /// # Errors
    /// Those of [`Live::compose`].
    pub async fn hear(&mut self, beginning: &Roll, number: usize, manner: &Manner) -> Result<Vec<LiveEvent>> {
        self.uniforms.forced = GIVEN;
        self.uniforms.temperature = manner.temperature;
        let first = number * self.bar;
        let values = self.run(Some((beginning, first)), std::slice::from_ref(&manner.style)).await?;
        self.events(&values)
    }

    /// Runs a bar, which may be given from a time step of a roll on; what comes back begins with the time step before it, where there is
    /// one.
    async fn run(&mut self, given: Option<(&Roll, usize)>, styles: &[Vec<f32>]) -> Result<Vec<f32>> {
        let steps = self.done..self.done + self.bar;
        let (channels, begin) = (self.checkpoint.model.roll().channels, self.done);
        let value = given.map(|(roll, first)| {
            move |t: usize, _: usize, row: &mut [f32]| roll.write_values(channels, (first + t - begin) as i64, row)
        });
        let forced = value.as_ref().map(|value| Forced { value, nats: None });
        let mut values = [self.last.clone()];
        let styles = self.steering.emphasised(styles);
        self.generator.run(steps.clone(), forced, &styles, &self.uniforms, &mut values).await?;
        let [values] = values;
        self.done = steps.end;
        Ok(values)
    }

    /// What happens in the bar at the end of `values`, of which the last time step is kept.
    fn events(&mut self, values: &[f32]) -> Result<Vec<LiveEvent>> {
        let (range, roll) = (self.checkpoint.corpus.range, self.checkpoint.model.roll());
        let before = usize::from(!self.last.is_empty());
        let row = roll.notes * roll.channels.len();
        let steps = before + self.bar;
        let heard = Roll::from_values(range, roll.channels, values)?;
        let mut events = vec![];
        for note in heard.notes() {
            if note.start >= before {
                let down = Some(note.velocity);
                events.push(LiveEvent { step: note.start - before, pitch: note.pitch, down });
            }
            if note.end < steps {
                events.push(LiveEvent { step: note.end - before, pitch: note.pitch, down: None });
            }
        }
        events.sort_by_key(|event| (event.step, event.down.is_some(), event.pitch));
        self.last = values[values.len() - row..].to_vec();
        Ok(events)
    }

    /// Where the piece stands.
    ///
    /// # Errors
    /// A device that fails.
    pub async fn mark(&self) -> Result<Mark> {
        let moment = self.generator.moments().await?.swap_remove(0);
        let (heard, last) = (self.steering.heard().to_vec(), self.last.clone());
        Ok(Mark { moment, heard, last, done: self.done, loudness: self.loudness.clone() })
    }

    /// Goes on from there. The same wishes compose the same again.
    ///
    /// # Errors
    /// A device that fails.
    pub fn go_back(&mut self, mark: &Mark) -> Result<()> {
        self.generator.go_on(&[&mark.moment])?;
        self.steering.go_on(mark.heard.clone());
        (self.last, self.done, self.loudness) = (mark.last.clone(), mark.done, mark.loudness.clone());
        Ok(())
    }
}

impl Manner {
    /// Whether the model of a checkpoint can compose so.
    ///
    /// # Errors
    /// A temperature out of range, or wishes that the model cannot meet.
    pub fn check(&self, checkpoint: &Checkpoint) -> Result<()> {
        if !(0.01..=100.0).contains(&self.temperature) {
            let what = format!("a temperature of {}", self.temperature);
            return Err(Error::usage(what, "give 0.01 to 100; 1 samples what was learned"));
        }
        Steering::new(&self.wishes, None, (checkpoint.corpus.range, checkpoint.model.roll()), 0).map(drop)
    }

    /// The velocities that are wanted: their mean, and their deviation where a style says it; `None` where it is left
    /// to the network.
    fn velocities(&self) -> Option<(f64, Option<f64>)> {
        let wished = self.wishes.dynamics.as_ref().map(|curve| (curve.at(0.0), None));
        let level = mixed(&self.wishes.levels, &self.style).and_then(|level| level.velocity);
        wished.or(level.map(|level| (f64::from(level.mean), Some(f64::from(level.deviation)))))
    }
}

/// What was heard of velocities, the latest bars counting most, by which later ones are moved: there is no whole piece
/// yet whose mean could be known.
#[derive(Clone, Debug, Default, PartialEq)]
struct Loudness {
    /// Weighted number of onsets, sum of their velocities and of their squares.
    sums: [f64; 3],
    wanted: Option<(f64, Option<f64>)>,
}

impl Loudness {
    /// Moves velocities so that the mean of the last bars is the wanted one, and spreads them as the style's vary.
    fn level(&mut self, events: &mut [LiveEvent], manner: &Manner) {
        let wanted = manner.velocities();
        // What was heard before says nothing of what is wanted otherwise from now on.
        if wanted != self.wanted {
            *self = Self { wanted, ..Self::default() };
        }
        self.sums = self.sums.map(|sum| sum * FADING);
        for velocity in events.iter().filter_map(|event| event.down).map(f64::from) {
            let moments = [1.0, velocity, velocity * velocity];
            self.sums.iter_mut().zip(moments).for_each(|(sum, moment)| *sum += moment);
        }
        let [count, sum, squares] = self.sums;
        let Some((mean, deviation)) = wanted.filter(|_| count > 0.0) else { return };
        let heard = sum / count;
        let spread = (squares / count - heard * heard).max(0.0).sqrt();
        let factor = deviation.map_or(1.0, |wanted| (wanted / spread.max(1e-3)).clamp(1.0 / MOST_SPREAD, MOST_SPREAD));
        for velocity in events.iter_mut().filter_map(|event| event.down.as_mut()) {
            *velocity = (mean + factor * (f64::from(*velocity) - heard)).round().clamp(1.0, 127.0) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::curve::Curve;
    use crate::music::StylePath;

    fn manner(checkpoint: &Checkpoint, wishes: Wishes) -> Manner {
        let style = StylePath::parse("baroque", &checkpoint.styles).unwrap().0.at(0.0);
        Manner { style, temperature: 0.8, wishes }
    }

    fn live<'a>(checkpoint: &'a Checkpoint, manner: &Manner, beginning: Option<&Roll>) -> Live<'a> {
        let device = Device::Cpu { why: String::new() };
        let new = Live::new(checkpoint, (manner, beginning), (1, 0.1), device, KernelSelection::default());
        pollster::block_on(new).unwrap()
    }

    /// Of many bars what is down and what goes up: each key goes up before it goes down again, and only where it is
    /// down.
    fn follow(down: &mut Vec<u8>, events: &[LiveEvent]) {
        for event in events {
            let held = down.iter().position(|&pitch| pitch == event.pitch);
            match (held, event.down) {
                (None, Some(velocity)) => {
                    assert!((1..=127).contains(&velocity));
                    down.push(event.pitch);
                }
                (Some(i), None) => drop(down.swap_remove(i)),
                _ => panic!("{event:?} while {down:?} are down"),
            }
        }
    }

    #[test]
    fn bars_go_on_from_each_other_and_can_be_composed_anew() {
        let checkpoint = Checkpoint::builtin().unwrap();
        let levels = checkpoint.corpus.levels.clone();
        let plain = manner(&checkpoint, Wishes { levels: levels.clone(), ..Wishes::default() });
        let mut live = live(&checkpoint, &plain, None);
        let mut down = vec![];
        for _ in 0..4 {
            follow(&mut down, &pollster::block_on(live.compose(&plain)).unwrap());
        }
        let (mark, held) = (pollster::block_on(live.mark()).unwrap(), down.clone());
        let first: Vec<_> = (0..3).map(|_| pollster::block_on(live.compose(&plain)).unwrap()).collect();
        live.go_back(&mark).unwrap();
        let again: Vec<_> = (0..3).map(|_| pollster::block_on(live.compose(&plain)).unwrap()).collect();
        assert_eq!(first, again, "from one mark in one manner the same comes twice");
        let wishes = Wishes {
            dynamics: Some(Curve::constant(30.0)),
            density: Some(Curve::constant(3.0)),
            levels,
            ..Wishes::default()
        };
        let other = manner(&checkpoint, wishes);
        live.go_back(&mark).unwrap();
        let mut down = held;
        let changed: Vec<_> = (0..3).map(|_| pollster::block_on(live.compose(&other)).unwrap()).collect();
        changed.iter().for_each(|events| follow(&mut down, events));
        let onsets = |bars: &[Vec<LiveEvent>]| bars.iter().flatten().filter(|event| event.down.is_some()).count();
        assert!(onsets(&changed) > onsets(&first), "{} and {}", onsets(&changed), onsets(&first));
        let velocities: Vec<f64> = changed[0].iter().filter_map(|event| event.down).map(f64::from).collect();
        let mean = velocities.iter().sum::<f64>() / velocities.len() as f64;
        assert!((mean - 30.0).abs() < 3.0, "soft from its first bar on: {mean}");
    }

    #[test]
    fn a_beginning_is_played_as_it_is_given() {
        let checkpoint = Checkpoint::builtin().unwrap();
        let note = |pitch, start, end| crate::music::roll::RollNote { pitch, velocity: 70, start, end, replay: false };
        let notes = [note(60, 0, 20), note(64, 4, 8), note(67, 18, 24)];
        let beginning = Roll::from_notes(checkpoint.corpus.range, notes).unwrap();
        let plain = manner(&checkpoint, Wishes::default());
        let mut live = live(&checkpoint, &plain, Some(&beginning));
        let heard = |live: &mut Live, number| pollster::block_on(live.hear(&beginning, number, &plain)).unwrap();
        let event = |step, pitch, down| LiveEvent { step, pitch, down };
        let first = [event(0, 60, Some(70)), event(4, 64, Some(70)), event(8, 64, None)];
        assert_eq!(heard(&mut live, 0), first);
        let second = [event(2, 67, Some(70)), event(4, 60, None), event(8, 67, None)];
        assert_eq!(heard(&mut live, 1), second);
        let mut down = vec![];
        follow(&mut down, &pollster::block_on(live.compose(&plain)).unwrap());
    }
}
