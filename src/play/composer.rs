//! Composes ahead of what sounds, bar by bar, and composes anew what nobody has heard yet when something changes.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::control::{Change, gather};
use super::queue::{Passage, Place, Queue};
use super::{Event, Message, tick_seconds};
use crate::checkpoint::Checkpoint;
use crate::generate::curve::Curve;
use crate::generate::live::{Live, Manner, Mark};
use crate::gpu::Device;
use crate::graph::session::KernelSelection;
use crate::music::midi::DIVISION;
use crate::music::roll::{Roll, STEPS_PER_QUARTER};
use crate::music::{Key, StylePath};
use crate::{Error, Result};

/// Bars that are composed ahead of what sounds.
pub const AHEAD: usize = 2;
const TICKS_PER_STEP: u32 = DIVISION as u32 / STEPS_PER_QUARTER;
/// A change is made when no other has come for so long, or when the first has waited for so long: a controller sends
/// many.
const SETTLED: Duration = Duration::from_millis(60);
const PATIENCE: Duration = Duration::from_millis(250);
/// How long to wait for a change before looking whether a bar is wanted.
const LOOK: Duration = Duration::from_millis(10);
/// Seconds that a bar must be away to be composed anew, beside the time that this takes.
const MARGIN: f64 = 0.03;

/// How long music goes on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Length {
    /// Until it is stopped.
    Endless,
    /// So many bars behind the beginning.
    Bars(usize),
    /// So many seconds, the beginning included.
    Seconds(f64),
}

/// What to compose.
pub struct Request {
    /// The style, over the bars of a length that is known, else its beginning.
    pub style: StylePath,
    /// The rest of how it is to be; its style does not count.
    pub manner: Manner,
    /// What each silent step in a row adds to the temperature.
    pub silence: f32,
    /// Seed of all random draws.
    pub seed: u32,
    /// Quarter notes a minute.
    pub bpm: f64,
    /// How long it goes on.
    pub length: Length,
    /// What is played first, in the checkpoint's range of pitches.
    pub beginning: Option<Roll>,
    /// Styles that have a controller.
    pub faders: Vec<String>,
}

/// Composes while it sounds.
pub struct Composer<'a> {
    checkpoint: &'a Checkpoint,
    live: Live<'a>,
    request: Request,
    /// Whether the style follows its path, since nobody has changed it.
    follows: bool,
    faders: Vec<Fader>,
    /// Where the piece stood before each bar that is not heard yet; the last is the one to be composed next.
    bars: VecDeque<Bar>,
    /// Bars of the beginning.
    given: usize,
    /// Seconds that composing a bar takes.
    takes: f64,
}

/// A bar that is not heard yet, and the state before it.
struct Bar {
    number: usize,
    from: Place,
    mark: Mark,
}

/// A style with a controller.
struct Fader {
    name: String,
    style: Vec<f32>,
    level: f32,
}

impl<'a> Composer<'a> {
    /// Gets ready for the first bar.
    ///
    /// # Errors
    /// A request that the model cannot meet, or a device that fails.
    pub async fn new(
        checkpoint: &'a Checkpoint,
        mut request: Request,
        device: Device,
        selection: KernelSelection,
    ) -> Result<Self> {
        request.manner.style = request.style.at(0.0);
        request.manner.check(checkpoint)?;
        if request.length == Length::Endless && !request.style.is_constant() {
            let what = "a style that changes over a piece without an end";
            return Err(Error::usage(what, "say how long it is, by --bars or --seconds"));
        }
        let (manner, draws) = (&request.manner, (request.seed, request.silence));
        let live = Live::new(checkpoint, (manner, request.beginning.as_ref()), draws, device, selection).await?;
        let style = |name: &String| -> Result<Fader> {
            let style = StylePath::parse(name, &checkpoint.styles)?.0.at(0.0);
            Ok(Fader { name: name.clone(), style, level: 0.0 })
        };
        let faders = request.faders.iter().map(style).collect::<Result<_>>()?;
        let given = request.beginning.as_ref().map_or(0, |roll| roll.steps().div_ceil(live.bar_steps()));
        let first = Bar { number: 0, from: Place::default(), mark: live.mark().await? };
        let mut composer =
            Self { checkpoint, live, request, follows: true, faders, bars: [first].into(), given, takes: 0.0 };
        composer.set_faders();
        Ok(composer)
    }

    /// Composes until nobody plays the queue any more, or `stop` says to stop. `changes` are made as they come; what is
    /// printed of each, or what is wrong with it, goes to `said`.
    ///
    /// # Errors
    /// A device that fails; what was composed before is in the queue.
    pub async fn run(
        &mut self,
        queue: &Queue,
        changes: &Receiver<Change>,
        stop: &mut dyn FnMut() -> bool,
        said: &mut dyn FnMut(Result<String>),
    ) -> Result<()> {
        let mut waiting: Vec<Change> = vec![];
        let (mut first, mut last) = (Instant::now(), Instant::now());
        let mut started = false;
        while !queue.is_closed() {
            if stop() {
                queue.stop();
            }
            let is_settled = last.elapsed() >= SETTLED || first.elapsed() >= PATIENCE;
            if !waiting.is_empty() && is_settled {
                self.change(queue, std::mem::take(&mut waiting), said).await?;
            }
            if !self.is_whole() && self.wants_more(queue) {
                self.go_on(queue).await?;
                continue;
            }
            if !started {
                queue.start();
                started = true;
            }
            match changes.recv_timeout(LOOK) {
                Ok(Change::Stop) => queue.stop(),
                Ok(change) => {
                    last = Instant::now();
                    first = if waiting.is_empty() { last } else { first };
                    gather(&mut waiting, change);
                }
                Err(RecvTimeoutError::Timeout) => (),
                // Nobody will change anything any more.
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(LOOK),
            }
        }
        Ok(())
    }

    fn next(&self) -> (usize, Place) {
        self.bars.back().map_or((0, Place::default()), |bar| (bar.number, bar.from))
    }

    /// Seconds of a bar.
    fn bar_seconds(&self) -> f64 {
        f64::from(TICKS_PER_STEP) * tick_seconds(self.request.bpm) * self.live.bar_steps() as f64
    }

    /// Whether all of it is composed.
    fn is_whole(&self) -> bool {
        let (number, from) = self.next();
        match self.request.length {
            Length::Endless => false,
            Length::Bars(bars) => number >= self.given + bars,
            Length::Seconds(seconds) => from.seconds >= seconds,
        }
    }

    fn wants_more(&self, queue: &Queue) -> bool {
        self.next().1.seconds - queue.taken() < AHEAD as f64 * self.bar_seconds()
    }

    /// Composes the next bar and adds it to the queue.
    async fn go_on(&mut self, queue: &Queue) -> Result<()> {
        let (number, from) = self.next();
        let passage = self.passage(number, from).await?;
        let until = passage.until;
        queue.append(passage);
        self.stand(queue, number + 1, until).await
    }

    /// Takes note of where the piece stands before a bar, and of the end where that is it.
    async fn stand(&mut self, queue: &Queue, number: usize, from: Place) -> Result<()> {
        self.bars.push_back(Bar { number, from, mark: self.live.mark().await? });
        if self.is_whole() {
            queue.end(if let Length::Seconds(seconds) = self.request.length { seconds } else { from.seconds });
        }
        let taken = queue.taken();
        while self.bars.len() > 1 && self.bars[0].from.seconds < taken {
            self.bars.pop_front();
        }
        Ok(())
    }

    /// Composes bar `number`, before which the piece stands.
    async fn passage(&mut self, number: usize, from: Place) -> Result<Passage> {
        let began = Instant::now();
        if self.follows {
            self.request.manner.style = self.request.style.at(self.place(number, from));
        }
        let manner = &self.request.manner;
        let events = match &self.request.beginning {
            Some(beginning) if number < self.given => self.live.hear(beginning, number, manner).await?,
            _ => self.live.compose(manner).await?,
        };
        let bpm = self.request.bpm;
        let place = |step: usize| {
            let ticks = step as u32 * TICKS_PER_STEP;
            let seconds = from.seconds + f64::from(ticks) * tick_seconds(bpm);
            Place { seconds, tick: from.tick.saturating_add(ticks) }
        };
        let events = events.iter().map(|event| {
            let Place { seconds: at, tick } = place(event.step);
            let pitch = event.pitch;
            let message = event.down.map_or(Message::Up { pitch }, |velocity| Message::Down { pitch, velocity });
            Event { at, tick, message }
        });
        let passage = Passage { from, until: place(self.live.bar_steps()), bpm, events: events.collect() };
        // The slowest of the last bars, as the next may be as slow.
        self.takes = began.elapsed().as_secs_f64().max(0.8 * self.takes);
        Ok(passage)
    }

    /// How far a bar is on the style's path: the first composed bar at its beginning, the last at its end.
    fn place(&self, number: usize, from: Place) -> f64 {
        let place = match self.request.length {
            Length::Endless => 0.0,
            Length::Bars(bars) => number.saturating_sub(self.given) as f64 / bars.saturating_sub(1).max(1) as f64,
            Length::Seconds(seconds) => from.seconds / (seconds - self.bar_seconds()).max(1e-3),
        };
        place.clamp(0.0, 1.0)
    }

    /// Makes changes from the first bar on that can be composed anew in time.
    async fn change(
        &mut self,
        queue: &Queue,
        changes: Vec<Change>,
        said: &mut dyn FnMut(Result<String>),
    ) -> Result<()> {
        let mut made = vec![];
        let (weights, changes): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|change| matches!(change, Change::Weight(..)));
        // Controllers of styles are heard together, and behind a style that was typed.
        let mixed = (!weights.is_empty()).then_some(weights);
        let all = changes.into_iter().map(|change| vec![change]).chain(mixed);
        for changes in all {
            match self.make(changes) {
                Ok(what) => made.push(what),
                Err(e) => said(Err(e)),
            }
        }
        if !made.is_empty() {
            let number = self.anew(queue).await?;
            said(Ok(format!("from bar {} on: {}", number + 1, made.join(", "))));
        }
        Ok(())
    }

    /// Composes the first bar anew that can be, and returns its number; bars behind it are left to be composed.
    async fn anew(&mut self, queue: &Queue) -> Result<usize> {
        for i in 0..self.bars.len() {
            let Bar { number, from, .. } = self.bars[i];
            let is_next = i + 1 == self.bars.len();
            if !is_next && from.seconds < queue.taken() + MARGIN + 1.5 * self.takes {
                continue;
            }
            self.live.go_back(&self.bars[i].mark)?;
            if is_next {
                return Ok(number);
            }
            let passage = self.passage(number, from).await?;
            let until = passage.until;
            // It has begun to sound meanwhile if not.
            if queue.replace(passage) {
                self.bars.truncate(i + 1);
                self.stand(queue, number + 1, until).await?;
                return Ok(number);
            }
        }
        Ok(self.next().0)
    }

    /// Makes a change, or moves controllers of styles, for all bars that are composed from now on, and returns it in
    /// words.
    fn make(&mut self, mut changes: Vec<Change>) -> Result<String> {
        let mut manner = self.request.manner.clone();
        let Some(change) = changes.pop_if(|change| !matches!(change, Change::Weight(..))) else {
            return self.fade(&changes);
        };
        let text = match change {
            Change::Style(text) => {
                self.check_styles()?;
                let (path, _) = StylePath::parse(&text, &self.checkpoint.styles)?;
                if !path.is_constant() {
                    let what = format!("style {text}: a path, while it is not known how long it is to take");
                    return Err(Error::usage(what, "give one style or mixture at a time"));
                }
                self.request.manner.style = path.at(0.0);
                self.follows = false;
                self.set_faders();
                return Ok(format!("style {text}"));
            }
            Change::Density(density) => {
                manner.wishes.density = Some(Curve::constant(density));
                format!("density {density}")
            }
            Change::Dynamics(velocity) => {
                manner.wishes.dynamics = velocity.map(Curve::constant);
                velocity.map_or("dynamics of the style".into(), |velocity| format!("dynamics {velocity}"))
            }
            Change::Temperature(temperature) => {
                manner.temperature = temperature;
                format!("temperature {temperature}")
            }
            Change::Key(key) => {
                manner.wishes.key = key;
                key.map_or("any key".into(), |key: Key| format!("key {key}"))
            }
            Change::Tempo(bpm) => {
                self.request.bpm = bpm;
                return Ok(format!("tempo {bpm}"));
            }
            Change::Stop | Change::Weight(..) => return Ok(String::new()),
        };
        manner.check(self.checkpoint)?;
        self.request.manner = manner;
        Ok(text)
    }

    fn check_styles(&self) -> Result<()> {
        match self.checkpoint.model.roll().styles {
            0 => {
                let what = format!("the model {} knows no style", self.checkpoint.model.architecture());
                Err(Error::usage(what, "take a checkpoint of a model that does"))
            }
            _ => Ok(()),
        }
    }

    /// Each controller stands where the style is.
    fn set_faders(&mut self) {
        let now = &self.request.manner.style;
        for fader in &mut self.faders {
            let members = fader.style.iter().zip(now).filter(|(weight, _)| **weight > 0.0);
            fader.level = members.map(|(_, now)| now).sum();
        }
    }

    /// Moves controllers of styles; the mixture is that of all of them.
    fn fade(&mut self, weights: &[Change]) -> Result<String> {
        self.check_styles()?;
        for weight in weights {
            let Change::Weight(name, level) = weight else { continue };
            let moved = self.faders.iter_mut().filter(|fader| fader.name == *name);
            moved.for_each(|fader| fader.level = *level as f32);
        }
        let mut mixture = vec![0.0; self.request.manner.style.len()];
        for Fader { style, level, .. } in &self.faders {
            mixture.iter_mut().zip(style).for_each(|(sum, weight)| *sum += level * weight);
        }
        let sum: f32 = mixture.iter().sum();
        if sum <= 0.0 {
            let what = "all controllers of styles are at zero";
            return Err(Error::usage(what, "the style stays as it was; move one of them up"));
        }
        mixture.iter_mut().for_each(|weight| *weight /= sum);
        (self.request.manner.style, self.follows) = (mixture, false);
        let levels: f32 = self.faders.iter().map(|fader| fader.level).sum();
        let audible = self.faders.iter().filter(|fader| fader.level > 0.0);
        let words: Vec<String> = audible.map(|fader| format!("{} {:.2}", fader.name, fader.level / levels)).collect();
        Ok(format!("style {}", words.join(" + ")))
    }
}
