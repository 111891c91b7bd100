//! Music that is heard while it is composed.
//!
//! [`schedule`] takes events from a [`Queue`] and gives each to a [`Sink`] at its time by a [`Clock`]. It knows nothing
//! of devices: sinks are the system's audio (`audio`), a MIDI port (`port`), or what a test records. All times are
//! seconds from the beginning, each computed by itself and none from the one before, so that they cannot drift.
//! [`Composer`](composer::Composer) fills the queue bar by bar, a little ahead of what sounds; what nobody has heard
//! yet can be composed anew ([`Queue::replace`]), so that a change ([`control`]) is heard from the next bar on.
//!
//! Where music is not there in time, time waits for it: the events behind it come later by as much, and none is lost.

#[cfg(feature = "audio")]
pub mod audio;
pub mod composer;
pub mod control;
#[cfg(feature = "midi-port")]
pub mod port;

mod piece;
mod queue;
mod scheduler;
mod take;
#[cfg(test)]
mod tests;

pub use piece::passage_of;
pub use queue::{Passage, Place, Queue};
pub use scheduler::{Played, Report, schedule};
pub use take::Take;

use std::time::{Duration, Instant};

use crate::Result;
use crate::music::midi::DIVISION;

/// A key of a piano.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// It goes up.
    Up {
        /// MIDI pitch.
        pitch: u8,
    },
    /// It goes down.
    Down {
        /// MIDI pitch.
        pitch: u8,
        /// 1..=127.
        velocity: u8,
    },
}

/// A message and its time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event {
    /// Seconds from the beginning of the music.
    pub at: f64,
    /// Ticks from there, [`DIVISION`] a quarter note: where the event stands in a file, whatever the tempo is.
    pub tick: u32,
    /// What happens.
    pub message: Message,
}

/// Time as it passes.
pub trait Clock {
    /// Seconds since some moment.
    fn now(&self) -> f64;

    /// Waits until [`Clock::now`] is at least `seconds`, as nearly as it can.
    fn sleep_until(&self, seconds: f64);
}

/// The system's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    /// It begins now.
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl SystemClock {
    /// The moment at which it was zero.
    pub fn origin(&self) -> Instant {
        self.0
    }
}

impl Clock for SystemClock {
    fn now(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }

    fn sleep_until(&self, seconds: f64) {
        let left = seconds - self.now();
        if left > 0.0 {
            std::thread::sleep(Duration::from_secs_f64(left));
        }
    }
}

/// Where events go.
pub trait Sink {
    /// The clock by which it plays.
    fn clock(&self) -> &dyn Clock;

    /// How many seconds before its time it wants each event; sound is made ahead, a MIDI port takes what is due.
    fn ahead(&self) -> f64 {
        0.0
    }

    /// Seconds that it sounds on behind the last event.
    fn tail(&self) -> f64 {
        0.0
    }

    /// Takes a message that is to sound at `at` seconds of its clock.
    ///
    /// # Errors
    /// A device that is gone.
    fn send(&mut self, at: f64, message: Message) -> Result<()>;

    /// Every few milliseconds: all messages before `until` seconds of its clock have been sent.
    ///
    /// # Errors
    /// A device that is gone.
    fn advance(&mut self, until: f64) -> Result<()> {
        let _ = until;
        Ok(())
    }

    /// Ends all that sounds, at once. It may be called when the device is gone.
    fn silence(&mut self);
}

/// Keeps time, and lets nobody hear it.
#[derive(Default)]
pub struct Silent(SystemClock);

impl Sink for Silent {
    fn clock(&self) -> &dyn Clock {
        &self.0
    }

    fn send(&mut self, _: f64, _: Message) -> Result<()> {
        Ok(())
    }

    fn silence(&mut self) {}
}

/// Asks Linux to run this thread before all others whenever it has something to do, as who keeps time needs on a busy
/// machine. Nothing happens where the user may not ask for that, within the limit `rtprio` (see `ulimit -r`), and on
/// other systems.
pub fn hurry() {
    #[cfg(target_os = "linux")]
    // SAFETY: it changes the thread that calls, by a whole value of the type, of which zeros are a valid one.
    unsafe {
        let mut wanted = std::mem::zeroed::<libc::sched_param>();
        wanted.sched_priority = 10;
        libc::pthread_setschedparam(libc::pthread_self(), libc::SCHED_RR, &wanted);
    }
}

/// Seconds of a tick at so many quarter notes a minute.
pub(crate) fn tick_seconds(bpm: f64) -> f64 {
    60.0 / bpm / f64::from(DIVISION)
}

/// The output of a `deepj` that was built without it: how to build it with.
pub fn unbuilt(what: &str, feature: &str) -> crate::Error {
    crate::Error::usage(
        format!("{what}: this deepj was built without it"),
        format!(
            "build it with `cargo build --release --features {feature}`, on Debian after `apt install libasound2-dev pkg-config`"
        ),
    )
}
