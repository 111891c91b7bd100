//! Whether a GPU still does anything: the submissions that finish, and for how long none has.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// What a device has finished; the callbacks of its submissions count.
#[derive(Default)]
pub(super) struct Activity {
    /// Submissions.
    finished: AtomicU64,
    /// The longest time, in milliseconds, for which a wait saw none finish before one did.
    longest: AtomicU64,
    /// Whether it was said that a wait is long.
    said: AtomicBool,
    #[cfg(test)]
    hangs: AtomicBool,
}

impl Activity {
    /// A submission is finished.
    pub fn finish(&self) {
        self.finished.fetch_add(1, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub fn hang(&self) {
        self.hangs.store(true, Ordering::Relaxed);
    }

    /// Whether tests have the device hang.
    #[cfg(test)]
    pub fn hangs(&self) -> bool {
        self.hangs.load(Ordering::Relaxed)
    }

    /// Whether this is the first call.
    pub fn first_to_say(&self) -> bool {
        !self.said.swap(true, Ordering::Relaxed)
    }
}

/// The most that one poll counts for. A poll takes much longer only where the process was stopped or the machine slept, and
/// that is not the GPU's silence.
const LONGEST_POLL: Duration = Duration::from_secs(1);
/// How long a GPU may finish nothing once a stop is asked for, and how long before that is said.
const AFTER_STOP: Duration = Duration::from_secs(5);
const WORTH_SAYING: Duration = Duration::from_secs(10);
/// An adapter that has taken long before may take this many times as long again.
const SLOWER: u32 = 3;

/// For how long one wait has seen nothing finish.
pub(super) struct Silence<'a> {
    activity: &'a Activity,
    finished: u64,
    lasted: Duration,
    /// The part of it after a stop was asked for.
    stopped: Duration,
}

impl<'a> Silence<'a> {
    /// At the beginning of a wait.
    pub fn new(activity: &'a Activity) -> Self {
        Self {
            activity,
            finished: activity.finished.load(Ordering::Relaxed),
            lasted: Duration::ZERO,
            stopped: Duration::ZERO,
        }
    }

    /// A poll that took so long is over; `stopped` is whether a stop was asked for.
    pub fn polled(&mut self, took: Duration, stopped: bool) {
        let took = took.min(LONGEST_POLL);
        self.lasted += took;
        self.stopped += if stopped { took } else { Duration::ZERO };
        let finished = self.activity.finished.load(Ordering::Relaxed);
        if finished != self.finished {
            self.activity.longest.fetch_max(self.lasted.as_millis() as u64, Ordering::Relaxed);
            (self.finished, self.lasted, self.stopped) = (finished, Duration::ZERO, Duration::ZERO);
        }
    }

    /// How long it has lasted.
    pub fn lasted(&self) -> Duration {
        self.lasted
    }

    /// Whether it is too long for someone who wants to stop.
    pub fn outlasts_a_stop(&self) -> bool {
        self.stopped >= AFTER_STOP && self.lasted >= self.unusual()
    }

    /// Whether whoever waits should know of it.
    pub fn is_worth_saying(&self) -> bool {
        self.lasted >= WORTH_SAYING.max(self.unusual())
    }

    fn unusual(&self) -> Duration {
        SLOWER * Duration::from_millis(self.activity.longest.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLICE: Duration = Duration::from_millis(50);

    fn seconds_until(silence: &mut Silence<'_>, met: impl Fn(&Silence<'_>) -> bool) -> f64 {
        let before = silence.lasted();
        while !met(silence) {
            silence.polled(SLICE, true);
            assert!(silence.lasted() < Duration::from_secs(1000));
        }
        (silence.lasted() - before).as_secs_f64()
    }

    #[test]
    fn what_finishes_breaks_the_silence() {
        let activity = Activity::default();
        let mut silence = Silence::new(&activity);
        for _ in 0..1000 {
            silence.polled(SLICE, true);
            silence.polled(SLICE, true);
            assert!(!silence.outlasts_a_stop());
            activity.finish();
            silence.polled(SLICE, true);
            assert_eq!(silence.lasted(), Duration::ZERO);
        }
    }

    #[test]
    fn an_adapter_that_is_slow_gets_more_time() {
        let activity = Activity::default();
        assert_eq!(seconds_until(&mut Silence::new(&activity), |silence| silence.outlasts_a_stop()), 5.0);
        assert_eq!(seconds_until(&mut Silence::new(&activity), |silence| silence.is_worth_saying()), 10.0);
        // A submission of eight seconds, which another wait has seen.
        let mut silence = Silence::new(&activity);
        (0..159).for_each(|_| silence.polled(SLICE, false));
        activity.finish();
        silence.polled(SLICE, false);
        let mut next = Silence::new(&activity);
        assert_eq!(seconds_until(&mut next, |silence| silence.outlasts_a_stop()), 24.0);
        assert!(next.is_worth_saying());
    }

    /// What was under way when the stop was asked for gets its time.
    #[test]
    fn a_stop_is_no_end_at_once() {
        let activity = Activity::default();
        let mut silence = Silence::new(&activity);
        (0..1000).for_each(|_| silence.polled(SLICE, false));
        assert!(!silence.outlasts_a_stop());
        assert_eq!(seconds_until(&mut silence, |silence| silence.outlasts_a_stop()), 5.0);
    }

    #[test]
    fn sleep_is_no_silence() {
        let activity = Activity::default();
        let mut silence = Silence::new(&activity);
        silence.polled(Duration::from_secs(3600), true);
        assert_eq!(silence.lasted(), Duration::from_secs(1));
    }
}
