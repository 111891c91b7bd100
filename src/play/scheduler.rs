//! Each event at its time.

use super::queue::Next;
use super::{Message, Queue, Sink, Take};
use crate::{Error, Result};

/// The longest sleep, in seconds: so soon is noticed that somebody wants to stop.
const SLICE: f64 = 0.01;
/// Times by which events were late that are kept for the median.
const KEPT: usize = 1_000_000;

/// How well time was kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Keys that went down.
    pub notes: usize,
    /// Seconds of music that were played.
    pub seconds: f64,
    /// By how many seconds events were late, in their order; the first million. Where a sink wants them ahead, one is
    /// late if the sink has already made what sounds at its time.
    late: Vec<f32>,
    /// How often time waited for music that was not there yet, and for how many seconds in all.
    pub pauses: usize,
    /// See `pauses`.
    pub paused: f64,
    /// Sums for a straight line through (seconds, seconds late): 1, t, l, t t, t l.
    sums: [f64; 5],
}

impl Report {
    fn late(&mut self, at: f64, by: f64) {
        if self.late.len() < KEPT {
            self.late.push(by as f32);
        }
        let moments = [1.0, at, by, at * at, at * by];
        self.sums.iter_mut().zip(moments).for_each(|(sum, moment)| *sum += moment);
    }

    /// The lateness in seconds that a share of all events stayed below, 0.5 for the median and 1 for the most; `None`
    /// without events.
    pub fn late_by(&self, share: f64) -> Option<f64> {
        let mut late = self.late.clone();
        late.sort_by(f32::total_cmp);
        let last = late.len().checked_sub(1)?;
        Some(f64::from(late[(share * last as f64).round() as usize]))
    }

    /// By how many seconds lateness grew in a second of music, by a straight line through all events; `None` where
    /// there are too few.
    pub fn drift(&self) -> Option<f64> {
        let [n, t, l, tt, tl] = self.sums;
        let spread = n * tt - t * t;
        (n >= 3.0 && spread > 0.0).then(|| (n * tl - t * l) / spread)
    }
}

/// What was played, and how it ended.
pub struct Played {
    /// All that sounded.
    pub take: Take,
    /// How well time was kept.
    pub report: Report,
    /// Why the device failed, if it did.
    pub failure: Option<Error>,
}

/// Plays what is in the queue until its end, until it is stopped or until the sink fails; nothing sounds on. `starved`
/// is told once that music was not there in time.
pub fn schedule(queue: &Queue, sink: &mut dyn Sink, starved: &mut dyn FnMut()) -> Played {
    let _closed = Closing(queue);
    let mut player = Player { take: Take::default(), report: Report::default(), down: [false; 128], behind: None };
    let failure = player.play(queue, sink, starved).err();
    sink.silence();
    let Player { mut take, mut report, .. } = player;
    report.seconds = queue.position();
    take.end(report.seconds);
    Played { take, report, failure }
}

/// Closes the queue when the playing has ended, be it by a panic: whoever fills it would wait for ever.
struct Closing<'a>(&'a Queue);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

struct Player {
    take: Take,
    report: Report,
    down: [bool; 128],
    /// Seconds of the clock at which the music is at zero; not known before there is music.
    behind: Option<f64>,
}

impl Player {
    fn play(&mut self, queue: &Queue, sink: &mut dyn Sink, starved: &mut dyn FnMut()) -> Result<()> {
        let ahead = sink.ahead();
        // Where the music broke off, if it did.
        let mut broken: Option<f64> = None;
        // Up to where a sink that wants events ahead has made what sounds, in seconds of its clock.
        let mut made = f64::NEG_INFINITY;
        loop {
            let now = sink.clock().now();
            let mut behind = *self.behind.get_or_insert(now + ahead);
            if let Some(until) = broken {
                let lack = now + ahead - behind - until;
                self.report.paused += lack;
                behind += lack;
                self.behind = Some(behind);
            }
            let horizon = now + ahead - behind;
            let wait = match queue.next((now - behind).max(0.0), horizon) {
                Next::Event(event) => {
                    let late = if ahead > 0.0 { (made - behind - event.at).max(0.0) } else { horizon - event.at };
                    self.report.late(event.at, late);
                    sink.send(event.at + behind, event.message)?;
                    self.heard(event.message);
                    self.take.event(event);
                    continue;
                }
                Next::Tempo(place, bpm) => {
                    self.take.tempo(place, bpm);
                    broken = None;
                    continue;
                }
                Next::Wait(until) => until + behind - ahead,
                Next::Starved(until) => {
                    // Before the first bar nothing is missing yet.
                    if until == 0.0 {
                        self.behind = None;
                    } else if broken.is_none() {
                        if self.report.pauses == 0 {
                            starved();
                        }
                        self.report.pauses += 1;
                        broken = Some(until);
                    }
                    f64::INFINITY
                }
                Next::End(end) => return self.end(queue, (end, behind), sink),
                Next::Stop => return Ok(()),
            };
            made = now + ahead;
            sink.advance(made)?;
            let now = sink.clock().now();
            sink.clock().sleep_until(wait.min(now + SLICE));
        }
    }

    fn heard(&mut self, message: Message) {
        match message {
            Message::Down { pitch, .. } => {
                self.report.notes += 1;
                self.down[usize::from(pitch & 127)] = true;
            }
            Message::Up { pitch } => self.down[usize::from(pitch & 127)] = false,
        }
    }

    /// At the end of the music all keys go up, and the sound dies away.
    fn end(&mut self, queue: &Queue, (end, behind): (f64, f64), sink: &mut dyn Sink) -> Result<()> {
        for pitch in (0..128u8).filter(|&pitch| self.down[usize::from(pitch)]) {
            sink.send(end + behind, Message::Up { pitch })?;
        }
        let (last, ahead) = (end + behind + sink.tail(), sink.ahead());
        loop {
            let now = sink.clock().now();
            if queue.hear((now - behind).clamp(0.0, end)) || now >= last {
                return Ok(());
            }
            sink.advance(now + ahead)?;
            let now = sink.clock().now();
            sink.clock().sleep_until(last.min(now + SLICE));
        }
    }
}
