//! The scheduler by a clock that moves only when somebody waits.

use std::cell::{Cell, RefCell};

use super::queue::{Passage, Place};
use super::*;
use crate::Error;
use crate::music::midi::Writing;
use crate::music::{NoteRange, Reading};

type Hook<'a> = Box<dyn FnMut(f64) + 'a>;

/// A clock that is as late as it is told to be whenever somebody waits, and does something at each wait.
struct Virtual<'a> {
    now: Cell<f64>,
    late: f64,
    hook: RefCell<Hook<'a>>,
}

impl Clock for Virtual<'_> {
    fn now(&self) -> f64 {
        self.now.get()
    }

    fn sleep_until(&self, seconds: f64) {
        self.now.set(self.now.get().max(seconds) + self.late);
        (self.hook.borrow_mut())(self.now.get());
    }
}

/// Keeps what it is sent, with the time at which it came and the time that it was for.
struct Recorder<'a> {
    clock: Virtual<'a>,
    ahead: f64,
    got: Vec<(f64, f64, Message)>,
    fails_after: usize,
    silenced: usize,
    advanced: f64,
}

impl<'a> Recorder<'a> {
    fn new(begin: f64, hook: impl FnMut(f64) + 'a) -> Self {
        let clock = Virtual { now: Cell::new(begin), late: 0.0, hook: RefCell::new(Box::new(hook)) };
        Self { clock, ahead: 0.0, got: vec![], fails_after: usize::MAX, silenced: 0, advanced: 0.0 }
    }

    fn pitches(&self) -> Vec<(u8, bool)> {
        let of = |message| match message {
            Message::Down { pitch, .. } => (pitch, true),
            Message::Up { pitch } => (pitch, false),
        };
        self.got.iter().map(|(_, _, message)| of(*message)).collect()
    }
}

impl Sink for Recorder<'_> {
    fn clock(&self) -> &dyn Clock {
        &self.clock
    }

    fn ahead(&self) -> f64 {
        self.ahead
    }

    fn send(&mut self, at: f64, message: Message) -> crate::Result<()> {
        assert!(at >= self.advanced - 1e-9, "{message:?} for {at}, when all up to {} was there", self.advanced);
        if self.got.len() >= self.fails_after {
            return Err(Error::run("the port is gone", "connect it"));
        }
        self.got.push((self.clock.now(), at, message));
        Ok(())
    }

    fn advance(&mut self, until: f64) -> crate::Result<()> {
        self.advanced = until;
        Ok(())
    }

    fn silence(&mut self) {
        self.silenced += 1;
    }
}

/// A bar of 2 s at 120 bpm: a note on each quarter, of which the last sounds on into the next bar, where `before` ends.
fn bar(number: u32, pitch: u8, before: Option<u8>) -> Passage {
    let place =
        |quarter: u32| Place { seconds: f64::from(4 * number + quarter) * 0.5, tick: (4 * number + quarter) * 480 };
    let event = |quarter: u32, message| Event { at: place(quarter).seconds, tick: place(quarter).tick, message };
    let mut events: Vec<Event> = before.map(|pitch| event(0, Message::Up { pitch })).into_iter().collect();
    for quarter in 0..4 {
        if quarter > 0 {
            events.push(event(quarter, Message::Up { pitch }));
        }
        events.push(event(quarter, Message::Down { pitch, velocity: 80 }));
    }
    Passage { from: place(0), until: place(4), bpm: 120.0, events }
}

fn play(queue: &Queue, sink: &mut Recorder) -> (Played, usize) {
    let mut starved = 0;
    let played = schedule(queue, sink, &mut || starved += 1);
    (played, starved)
}

#[test]
fn each_event_comes_at_its_time_and_lateness_does_not_add_up() {
    let queue = Queue::default();
    let bars = 300;
    (0..bars).for_each(|number| queue.append(bar(number, 60, (number > 0).then_some(60))));
    queue.end(f64::from(bars) * 2.0);
    queue.start();
    // Each sleep ends 3 ms too late.
    let mut sink = Recorder::new(17.0, |_| ());
    sink.clock.late = 0.003;
    let (Played { report, failure, .. }, starved) = play(&queue, &mut sink);
    assert!(failure.is_none() && starved == 0 && sink.silenced == 1 && queue.is_closed());
    assert_eq!(report.notes, 1200);
    for (i, (came, at, _)) in sink.got.iter().filter(|got| matches!(got.2, Message::Down { .. })).enumerate() {
        assert!((at - 17.0 - 0.5 * i as f64).abs() < 1e-9, "note {i} for {at}");
        assert!((0.0..=0.003 + 1e-9).contains(&(came - at)), "note {i} came at {came}, not {at}");
    }
    assert!(report.late_by(1.0).unwrap() < 0.0031 && report.drift().unwrap().abs() < 1e-6, "{:?}", report.drift());
    assert_eq!((report.seconds, sink.pitches().last()), (600.0, Some(&(60, false))), "no key stays down");
}

#[test]
fn what_wants_events_ahead_gets_them_ahead_and_for_the_same_time() {
    let queue = Queue::default();
    (0..3).for_each(|number| queue.append(bar(number, 60, (number > 0).then_some(60))));
    queue.end(6.0);
    queue.start();
    let mut sink = Recorder::new(0.0, |_| ());
    sink.ahead = 0.25;
    play(&queue, &mut sink);
    for (came, at, message) in &sink.got {
        let (early, begin) = (at - came, sink.got[0].1);
        assert!((early - 0.25).abs() < 0.011, "{message:?} came {early} s early");
        assert!(((at - begin) / 0.5).fract().abs() < 1e-9);
    }
    assert!((sink.clock.now() - 6.25).abs() < 0.02, "{}", sink.clock.now());
}

#[test]
fn music_that_is_not_there_in_time_comes_later_and_none_is_lost() {
    let queue = Queue::default();
    queue.append(bar(0, 60, None));
    queue.start();
    // The second bar is there 0.7 s too late, and the third at the same time.
    let mut is_there = false;
    let mut sink = Recorder::new(0.0, |now| {
        if now >= 2.7 && !std::mem::replace(&mut is_there, now >= 2.7) {
            queue.append(bar(1, 62, Some(60)));
            queue.append(bar(2, 64, Some(62)));
            queue.end(6.0);
        }
    });
    let (Played { report, .. }, starved) = play(&queue, &mut sink);
    assert_eq!((starved, report.pauses, report.notes), (1, 1, 12));
    assert!((report.paused - 0.7).abs() < 0.02, "{}", report.paused);
    let at = |pitch| sink.got.iter().find(|got| got.2 == Message::Down { pitch, velocity: 80 }).unwrap().1;
    assert!((at(62) - 2.7).abs() < 0.02 && (at(64) - at(62) - 2.0).abs() < 1e-9, "{} {}", at(62), at(64));
    assert!(report.late_by(1.0).unwrap() < 1e-9, "a pause is no lateness");
}

#[test]
fn a_bar_is_replaced_before_it_is_heard_and_not_after() {
    let queue = Queue::default();
    queue.append(bar(0, 60, None));
    queue.append(bar(1, 62, Some(60)));
    queue.append(bar(2, 64, Some(62)));
    queue.end(6.0);
    queue.start();
    let mut replaced = vec![];
    let mut sink = Recorder::new(0.0, |now| {
        if now >= 1.9 && replaced.is_empty() {
            replaced.push(queue.replace(bar(1, 72, Some(60))));
            queue.append(bar(2, 74, Some(72)));
            queue.end(6.0);
        }
        if now >= 2.1 && replaced.len() == 1 {
            replaced.push(queue.replace(bar(1, 84, Some(60))));
        }
    });
    let (played, _) = play(&queue, &mut sink);
    let heard: Vec<u8> = sink.pitches().iter().filter(|(_, down)| *down).map(|(pitch, _)| *pitch).collect();
    assert_eq!(heard, [60, 60, 60, 60, 72, 72, 72, 72, 74, 74, 74, 74]);
    assert_eq!(played.take.notes().len(), 12);
    drop(sink);
    assert_eq!(replaced, [true, false]);
}

#[test]
fn a_bar_that_has_begun_is_not_replaced() {
    use super::queue::Next;
    let queue = Queue::default();
    queue.append(bar(0, 60, None));
    queue.append(bar(1, 62, Some(60)));
    queue.start();
    while !matches!(queue.next(2.0, 2.0), Next::Event(event) if event.at == 2.0) {}
    // The key of the first bar went up; that of the second is still to go down.
    assert!(!queue.replace(bar(1, 72, Some(60))));
    assert!(matches!(queue.next(2.0, 2.0), Next::Event(Event { message: Message::Down { pitch: 62, .. }, .. })));
}

#[test]
fn who_stops_hears_nothing_more_and_keeps_what_was_heard() {
    let queue = Queue::default();
    (0..4).for_each(|number| queue.append(bar(number, 60 + number as u8, (number > 0).then(|| 59 + number as u8))));
    queue.start();
    let mut sink = Recorder::new(5.0, |now| {
        if now >= 5.0 + 2.7 {
            queue.stop();
        }
    });
    let (Played { take, report, failure }, _) = play(&queue, &mut sink);
    assert!(failure.is_none() && sink.silenced == 1 && sink.clock.now() < 7.73);
    assert_eq!((report.notes, take.notes().len()), (6, 6));
    let bytes = take.to_midi(&Writing { two_hands: true, ..Writing::new(120.0) }).unwrap();
    let reading = Reading::parse("take", &bytes, NoteRange::default(), false).unwrap();
    // Five quarters and the beginning of a sixth, which ends where it was stopped.
    assert_eq!((reading.notes, reading.roll.steps()), (6, 22));
}

#[test]
fn of_what_was_sent_ahead_only_what_sounded_is_kept() {
    let queue = Queue::default();
    queue.append(bar(0, 60, None));
    queue.start();
    let mut sink = Recorder::new(0.0, |now| {
        if now >= 0.25 + 0.4 {
            queue.stop();
        }
    });
    sink.ahead = 0.25;
    let (Played { take, .. }, _) = play(&queue, &mut sink);
    // The second quarter, at 0.5 s, was sent.
    assert_eq!((sink.got.len(), take.notes().len()), (3, 1), "{:?}", sink.got);
}

#[test]
fn a_sink_that_fails_ends_it_and_what_was_played_is_kept() {
    let queue = Queue::default();
    queue.append(bar(0, 60, None));
    queue.end(2.0);
    queue.start();
    let mut sink = Recorder::new(0.0, |_| ());
    sink.fails_after = 3;
    let (Played { take, failure, .. }, _) = play(&queue, &mut sink);
    assert!(failure.unwrap().what.contains("gone") && queue.is_closed() && sink.silenced == 1);
    assert_eq!(take.notes().len(), 2);
}

#[test]
fn a_take_has_the_tempos_in_which_it_was_played() {
    let queue = Queue::default();
    queue.append(bar(0, 60, None));
    // Four quarters of 1 s.
    let place = |quarter: u32| Place { seconds: 2.0 + f64::from(quarter), tick: (4 + quarter) * 480 };
    let down = |quarter| Event {
        at: place(quarter).seconds,
        tick: place(quarter).tick,
        message: Message::Down { pitch: 70 + quarter as u8, velocity: 64 },
    };
    let up = Event { message: Message::Up { pitch: 60 }, ..down(0) };
    let events = vec![up, down(0), down(1), down(2), down(3)];
    queue.append(Passage { from: place(0), until: place(4), bpm: 60.0, events });
    queue.end(6.0);
    queue.start();
    let (Played { take, .. }, _) = play(&queue, &mut Recorder::new(0.0, |_| ()));
    let bytes = take.to_midi(&Writing::new(120.0)).unwrap();
    let score = crate::music::Score::parse("take", &bytes, false).unwrap();
    let starts: Vec<f64> = score.notes.iter().map(|note| score.seconds(note.start.into())).collect();
    assert_eq!(starts, [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0]);
    assert!((score.seconds(score.end) - 6.0).abs() < 1e-9);
}

#[test]
fn who_fills_the_queue_of_a_player_that_panics_does_not_wait_for_ever() {
    let queue = Queue::default();
    queue.append(bar(0, 60, None));
    queue.start();
    let mut sink = Recorder::new(0.0, |_| panic!("a mistake in a driver"));
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| play(&queue, &mut sink).1));
    assert!(ended.is_err() && queue.is_closed());
}

#[test]
fn a_file_is_played_at_its_times() {
    let notes = [(60, 90, 0.25, 1.0), (64, 80, 0.5, 1.0), (60, 70, 1.0, 1.5)];
    let performance = crate::render::Performance::from_notes(notes.into_iter());
    let passage = passage_of(&performance, 100.0);
    let heard: Vec<(f64, bool)> =
        passage.events.iter().map(|event| (event.at, matches!(event.message, Message::Down { .. }))).collect();
    assert_eq!(heard, [(0.25, true), (0.5, true), (1.0, false), (1.0, false), (1.0, true), (1.5, false)]);
    assert_eq!(passage.events[1].tick, 400);
}

/// The composer and the scheduler on threads of their own, by the real clock, with changes while it plays.
#[test]
fn composed_music_changes_at_a_bar_line_while_it_plays() {
    use std::sync::mpsc;

    use super::composer::{Composer, Length, Request};
    use super::control::Change;
    use crate::checkpoint::Checkpoint;
    use crate::generate::live::Manner;
    use crate::generate::steering::Wishes;
    use crate::gpu::Device;
    use crate::graph::session::KernelSelection;
    use crate::music::StylePath;

    let checkpoint = Checkpoint::builtin().unwrap();
    let (style, _) = StylePath::parse("baroque", &checkpoint.styles).unwrap();
    let manner = Manner { style: vec![], temperature: 0.8, wishes: Wishes::default() };
    // Bars of half a second.
    let request = Request {
        style,
        manner,
        silence: 0.1,
        seed: 3,
        bpm: 480.0,
        length: Length::Bars(8),
        beginning: None,
        faders: vec!["baroque".into(), "romantic".into()],
    };
    let queue = Queue::default();
    let (sender, changes) = mpsc::channel();
    let mut said = vec![];
    let played = std::thread::scope(|scope| {
        let player = scope.spawn(|| schedule(&queue, &mut Silent::default(), &mut || ()));
        scope.spawn(|| {
            while queue.position() < 0.6 && !queue.is_closed() {
                std::thread::sleep(Duration::from_millis(5));
            }
            let weight = |name: &str, value| Change::Weight(name.into(), value);
            let wrong = Change::Style("nobody".into());
            let all = [wrong, Change::Tempo(240.0), weight("baroque", 0.0), weight("romantic", 0.5)];
            all.into_iter().for_each(|change| sender.send(change).unwrap());
        });
        let device = Device::Cpu { why: String::new() };
        let composing = async {
            let mut composer = Composer::new(&checkpoint, request, device, KernelSelection::default()).await?;
            composer.run(&queue, &changes, &mut || false, &mut |what| said.push(what)).await
        };
        pollster::block_on(composing).unwrap();
        player.join().unwrap()
    });
    let [wrong, made] = &said[..] else { panic!("{said:?}") };
    assert!(wrong.as_ref().unwrap_err().what.contains("nobody"), "{wrong:?}");
    let made = made.as_ref().unwrap();
    let (bar, what) = made.strip_prefix("from bar ").unwrap().split_once(" on: ").unwrap();
    assert_eq!(what, "tempo 240, style romantic 1.00");
    let bar: u32 = bar.parse().unwrap();
    assert!((3..=5).contains(&bar), "heard from bar {bar} on, which was asked for in the second");
    let bytes = played.take.to_midi(&Writing::new(120.0)).unwrap();
    let score = crate::music::Score::parse("take", &bytes, false).unwrap();
    let changed = f64::from(bar - 1) * 0.5;
    let seconds = changed + f64::from(9 - bar);
    assert!((score.seconds(score.end) - seconds).abs() < 1e-6, "{} and {seconds}", score.seconds(score.end));
    assert!((score.seconds(u64::from(bar - 1) * 1920) - changed).abs() < 1e-6);
}
