//! What is to be played, between those who compose and those who play.

use std::collections::VecDeque;

use parking_lot::Mutex;

use super::Event;

/// Seconds by which times that are sums may be off: what is due by less is due.
const ROUNDING: f64 = 1e-9;

/// A moment of the music.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Place {
    /// Seconds from the beginning.
    pub seconds: f64,
    /// Ticks from the beginning.
    pub tick: u32,
}

/// A part of the music in one tempo, such as a bar.
#[derive(Clone, Debug, PartialEq)]
pub struct Passage {
    /// Where it begins.
    pub from: Place,
    /// Where the next one begins.
    pub until: Place,
    /// Quarter notes a minute.
    pub bpm: f64,
    /// In the order in which they are sent; none before `from`, all before `until`.
    pub events: Vec<Event>,
}

/// Music that is not played yet.
#[derive(Default)]
pub struct Queue(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    events: VecDeque<Event>,
    /// Beginnings of passages, with their tempos.
    tempos: VecDeque<(Place, f64)>,
    /// Music is there until here.
    until: f64,
    /// What lies before was taken, and cannot be replaced.
    taken: f64,
    /// What sounds now.
    position: f64,
    /// Where the music ends, once that is known.
    end: Option<f64>,
    /// Whether it may be played.
    started: bool,
    /// Whether to stop, and whether nobody takes anything any more.
    stop: bool,
    closed: bool,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Next {
    Event(Event),
    /// A passage in this tempo begins.
    Tempo(Place, f64),
    /// Nothing until then; more may come before.
    Wait(f64),
    /// There is no music where there should be some.
    Starved(f64),
    /// The music ends there.
    End(f64),
    Stop,
}

impl Queue {
    /// Adds what comes next.
    pub fn append(&self, passage: Passage) {
        self.0.lock().append(passage);
    }

    /// Puts a passage in the place of all that begins with it or later; returns whether it came before any of that was
    /// taken, and does nothing else.
    pub fn replace(&self, passage: Passage) -> bool {
        let mut inner = self.0.lock();
        let from = passage.from.seconds;
        if inner.taken >= from {
            return false;
        }
        let events = inner.events.partition_point(|event| event.at < from);
        inner.events.truncate(events);
        let tempos = inner.tempos.partition_point(|(place, _)| place.seconds < from);
        inner.tempos.truncate(tempos);
        inner.end = None;
        inner.append(passage);
        true
    }

    /// It may be played from now on: what is there is enough to begin with.
    pub fn start(&self) {
        self.0.lock().started = true;
    }

    /// No more music will come, and what there is ends after so many seconds.
    pub fn end(&self, seconds: f64) {
        self.0.lock().end = Some(seconds);
    }

    /// Stops at once.
    pub fn stop(&self) {
        self.0.lock().stop = true;
    }

    /// Seconds of the music that have sounded.
    pub fn position(&self) -> f64 {
        self.0.lock().position
    }

    /// Seconds of the music that are out of reach: they have sounded, or are on their way.
    pub fn taken(&self) -> f64 {
        self.0.lock().taken
    }

    /// Whether nobody plays it any more.
    pub fn is_closed(&self) -> bool {
        self.0.lock().closed
    }

    pub(super) fn close(&self) {
        self.0.lock().closed = true;
    }

    /// Takes note of what sounds now, and returns whether to stop.
    pub(super) fn hear(&self, position: f64) -> bool {
        let mut inner = self.0.lock();
        inner.position = position;
        inner.stop
    }

    /// What comes next up to `horizon`, with `position` as what sounds.
    pub(super) fn next(&self, position: f64, horizon: f64) -> Next {
        let mut inner = self.0.lock();
        let horizon = horizon + ROUNDING;
        inner.position = position;
        if inner.stop {
            return Next::Stop;
        }
        if !inner.started {
            return Next::Starved(0.0);
        }
        let end = inner.end.unwrap_or(f64::INFINITY);
        let tempo = inner.tempos.front().map_or(f64::INFINITY, |(place, _)| place.seconds);
        let event = inner.events.front().map_or(f64::INFINITY, |event| event.at);
        let first = tempo.min(event);
        if first >= end && horizon >= end {
            return Next::End(end);
        }
        if first <= horizon {
            // Others may lie at the same moment; whoever would replace that is too late all the same.
            inner.taken = inner.taken.max(first);
            let next = match tempo <= event {
                true => inner.tempos.pop_front().map(|(place, bpm)| Next::Tempo(place, bpm)),
                false => inner.events.pop_front().map(Next::Event),
            };
            return next.unwrap_or(Next::Wait(horizon));
        }
        inner.taken = inner.taken.max(horizon.min(inner.until));
        if horizon >= inner.until && horizon < end {
            return Next::Starved(inner.until);
        }
        Next::Wait(first.min(end))
    }
}

impl Inner {
    fn append(&mut self, passage: Passage) {
        self.events.extend(passage.events);
        self.tempos.push_back((passage.from, passage.bpm));
        self.until = passage.until.seconds;
    }
}
