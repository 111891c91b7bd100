//! Signals: those that end a command once its work is saved, and the one that asks for a checkpoint.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use deepj::Result;
use deepj::distributed::Ranks;
use deepj::gpu::WaitOptions;

use super::tell;

/// What signals have asked for since they were first listened to.
#[derive(Clone)]
pub struct Signals {
    /// Set by Ctrl-C (SIGINT), SIGTERM and SIGHUP. Another one ends the program at once.
    pub stop: Arc<AtomicBool>,
    /// Set by SIGUSR1, unless that ends: save, and go on.
    pub save: Arc<AtomicBool>,
    /// The number of the signal that set `stop`.
    by: Arc<AtomicI32>,
    /// Where several processes work on one thing, what tells that this one is to end. A scheduler sends all of them SIGUSR1 shortly
    /// before their time is up, so that ends too.
    ending: Option<Arc<AtomicBool>>,
}

impl Signals {
    /// Listens to signals from now on. `doing` is what a signal begins, for the message: "stopping and saving".
    pub fn listen(doing: &'static str) -> Self {
        Self::listen_as(doing, None)
    }

    /// The same where SIGUSR1 ends the command too.
    pub fn listen_among(doing: &'static str, ranks: &Ranks) -> Self {
        Self::listen_as(doing, Some(ranks.ending()))
    }

    fn listen_as(doing: &'static str, ending: Option<Arc<AtomicBool>>) -> Self {
        let signals = Self { stop: Arc::default(), save: Arc::default(), by: Arc::default(), ending };
        if let Err(e) = system::listen(signals.clone(), doing) {
            tell(format_args!("note: Ctrl-C will end at once, without saving: {e}"));
        }
        signals
    }

    /// Whether one has asked to stop.
    pub fn is_set(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// How to wait for a GPU meanwhile: no longer than it takes to know that it hangs, once a signal has come.
    pub fn wait_options(&self) -> WaitOptions {
        let notice = |text: &str| tell(format_args!("note: {text}"));
        WaitOptions { stop: self.stop.clone(), notice: Some(Arc::new(notice)), timeout: None }
    }

    /// The exit code of a command that a signal has ended early: 128 and the signal's number, as shells have it.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(exit_code(self.by.load(Ordering::Relaxed)))
    }

    /// The same where several processes end together, of which not all need have been sent the signal; `None` where none was.
    ///
    /// # Errors
    /// A process that is gone.
    pub fn exit_code_of_all(&self, ranks: &Ranks) -> Result<Option<ExitCode>> {
        let all = ranks.all(&self.by.load(Ordering::Relaxed))?;
        Ok(all.into_iter().max().filter(|by| *by > 0).map(|by| ExitCode::from(exit_code(by))))
    }

    fn stop(&self, signal: i32, doing: &str) {
        if self.stop.swap(true, Ordering::Relaxed) {
            system::exit(i32::from(exit_code(signal)));
        }
        self.by.store(signal, Ordering::Relaxed);
        self.ending.iter().for_each(|ending| ending.store(true, Ordering::Relaxed));
        tell(format_args!("\n{}: {doing}; once more ends at once", name(signal)));
    }
}

fn exit_code(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

#[cfg(unix)]
mod system {
    use std::io;
    use std::sync::atomic::Ordering;

    use libc::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};

    use super::Signals;

    pub fn listen(signals: Signals, doing: &'static str) -> io::Result<()> {
        // `nohup` ignores SIGHUP for the programs that it starts: they are to outlive their terminal.
        let ending = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| *signal != SIGHUP || !is_ignored(SIGHUP));
        let mut arriving = signal_hook::iterator::Signals::new(ending.chain([SIGUSR1]))?;
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in arriving.forever() {
                match signal {
                    SIGUSR1 if signals.ending.is_none() => signals.save.store(true, Ordering::Relaxed),
                    _ => signals.stop(signal, doing),
                }
            }
        })?;
        Ok(())
    }

    /// Ends the process without what others have it do at its end: a driver may wait there for a GPU that hangs.
    pub fn exit(code: i32) {
        signal_hook::low_level::exit(code)
    }

    /// Whether the process was started with this signal ignored.
    fn is_ignored(signal: i32) -> bool {
        // SAFETY: without a new action `sigaction` only writes the present one to where it is told, a whole value of its type,
        // of which zeros are a valid one.
        unsafe {
            let mut now = std::mem::zeroed::<libc::sigaction>();
            libc::sigaction(signal, std::ptr::null(), &mut now) == 0 && now.sa_sigaction == libc::SIG_IGN
        }
    }
}

#[cfg(not(unix))]
mod system {
    use super::Signals;

    /// The number of Ctrl-C where signals have numbers.
    const SIGINT: i32 = 2;

    pub use std::process::exit;

    pub fn listen(signals: Signals, doing: &'static str) -> Result<(), ctrlc::Error> {
        ctrlc::set_handler(move || signals.stop(SIGINT, doing))
    }
}

fn name(signal: i32) -> &'static str {
    match signal {
        1 => "SIGHUP",
        10 => "SIGUSR1",
        15 => "SIGTERM",
        _ => "interrupted",
    }
}
