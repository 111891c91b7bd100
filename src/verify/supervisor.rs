//! Runs workers in processes of their own and collects what they tell. A driver that crashes or hangs costs one check: the
//! next worker goes on behind it.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::collected::Collected;
use super::report::DeviceReport;
use super::worker::{Event, Target};
use crate::gpu::{Capabilities, Machine};

/// After so long without a word a worker hangs: drivers' own watchdogs act within seconds, but a software adapter may
/// compile a large shader for a minute, and more beside other programs.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(300);
/// How long listing the adapters may take: drivers are loaded for it.
const LISTING: Duration = Duration::from_secs(60);
/// How often a stop is looked for.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How long a process may take to exit: after its last event, in which drivers are unloaded, or after it was killed.
const EXIT_TIMEOUT: Duration = Duration::from_secs(3);
/// Workers of a device that may end badly before the rest of its tasks is given up.
const MAX_CRASHES: usize = 8;
/// Times that a device is tried again which cannot be opened after a crash: a GPU that is being reset takes a second or more.
const RETRIES: usize = 5;
const PAUSE: Duration = Duration::from_secs(2);
/// Bytes of a worker's last words: the end of what it writes to standard error, where the cause stands.
const STDERR_TAIL: usize = 450;

/// How workers are started.
pub struct Supervisor<'a> {
    /// The program and its arguments, to which the device and the first task are added.
    pub command: &'a dyn Fn(Target, usize) -> Command,
    /// Ends everything when it is set.
    pub stop: &'a AtomicBool,
    /// After so long without a word a worker is taken to hang; `None` for five minutes.
    pub silence: Option<Duration>,
}

/// How a worker came to its end.
enum End {
    Done,
    Stopped,
    Bad(String),
}

impl Supervisor<'_> {
    /// Verifies one device. `progress` is told what is known so far, the number of tasks done and that of all. Whatever
    /// happens, what was found until then is returned.
    pub fn verify(
        &self,
        target: Target,
        capabilities: Option<Capabilities>,
        mut progress: impl FnMut(&DeviceReport, usize, usize),
    ) -> DeviceReport {
        let machine = capabilities.as_ref().map_or_else(Machine::cpu, Machine::of);
        let mut state = Collected::new(DeviceReport::new(machine, capabilities));
        let began = Instant::now();
        // A machine may stand still as soon as its driver is asked for the device.
        state.report.running = Some("opening the device".into());
        progress(&state.report, 0, 0);
        let (mut crashes, mut retries) = (0, 0);
        loop {
            let from = state.next;
            let end = self.worker(target, from, |event| {
                let begins = matches!(event, Event::Begun { .. });
                state.enter(event);
                if begins {
                    state.report.seconds = began.elapsed().as_secs_f64();
                    progress(&state.report, state.next - 1, state.total);
                }
            });
            match end {
                End::Done => {
                    state.fail_lost();
                    if state.left() > 0 {
                        state.fail("verify", &format!("{} tasks told nothing", state.left()));
                    }
                    break;
                }
                End::Stopped => {
                    state.fail("verify", &format!("was stopped with {} tasks left", state.left()));
                    break;
                }
                // Nothing has begun, so nothing can be passed over.
                End::Bad(_) if state.next == from && from > 0 && state.left() > 0 && retries < RETRIES => {
                    retries += 1;
                    thread::sleep(PAUSE);
                    continue;
                }
                End::Bad(why) if state.next == from && (from == 0 || state.left() > 0) => {
                    let left =
                        if from > 0 { format!("; {} tasks were not tried", state.left()) } else { String::new() };
                    state.fail("opening the device", &format!("{why}{left}"));
                    break;
                }
                End::Bad(why) => {
                    (crashes, retries) = (crashes + 1, 0);
                    state.crash(&why);
                }
            }
            if state.left() == 0 {
                break;
            }
            if crashes == MAX_CRASHES {
                state.fail("verify", &format!("{} tasks were not tried after {MAX_CRASHES} crashes", state.left()));
                break;
            }
        }
        state.report.running = None;
        state.report.seconds = began.elapsed().as_secs_f64();
        state.report
    }

    /// Runs one worker and hands on what it tells.
    fn worker(&self, target: Target, from: usize, mut enter: impl FnMut(Event)) -> End {
        let mut command = (self.command)(target, from);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C is for the supervisor, which ends the worker and keeps what was found.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(e) => return End::Bad(format!("the program cannot start itself again: {e}")),
        };
        let (events, words) = (listen(&mut child), stderr_tail(&mut child));
        let silence = self.silence.unwrap_or(SILENCE_TIMEOUT);
        let mut heard = Instant::now();
        loop {
            if self.stop.load(Ordering::Relaxed) {
                let _ = child.kill();
                wait_for_exit(&mut child);
                return End::Stopped;
            }
            match events.recv_timeout(POLL_INTERVAL) {
                Ok(Event::End) => {
                    // Some drivers crash or hang when they are unloaded; everything is told by then.
                    if wait_for_exit(&mut child).is_none() {
                        let _ = child.kill();
                        wait_for_exit(&mut child);
                    }
                    return End::Done;
                }
                Ok(event) => {
                    heard = Instant::now();
                    enter(event);
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = wait_for_exit(&mut child).map_or("closed its output".into(), |status| ended(&status));
                    let _ = child.kill();
                    let words = words.recv_timeout(EXIT_TIMEOUT).unwrap_or_default();
                    // Where Ctrl-C reaches the worker too, as on Windows, that may end first.
                    if self.stop.load(Ordering::Relaxed) {
                        return End::Stopped;
                    }
                    return End::Bad(format!("the process {status} {}", words.trim()).trim().into());
                }
                Err(RecvTimeoutError::Timeout) if heard.elapsed() > silence => {
                    let _ = child.kill();
                    wait_for_exit(&mut child);
                    return End::Bad(format!("no word for {} s: it hangs", silence.as_secs_f64()));
                }
                Err(RecvTimeoutError::Timeout) => (),
            }
        }
    }
}

/// Waits for a moment that the child is gone; `None` for one that stays, as a process can that hangs in its driver.
fn wait_for_exit(child: &mut Child) -> Option<ExitStatus> {
    let began = Instant::now();
    while began.elapsed() < EXIT_TIMEOUT {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) => thread::sleep(Duration::from_millis(10)),
            Err(_) => return None,
        }
    }
    None
}

/// The lines of the child's standard output as events; lines that are none, as drivers print them, are passed over.
fn listen(child: &mut Child) -> Receiver<Event> {
    let (tell, events) = mpsc::channel();
    if let Some(output) = child.stdout.take() {
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                if let Ok(event) = serde_json::from_slice(&line)
                    && tell.send(event).is_err()
                {
                    return;
                }
            }
        });
    }
    events
}

/// The end of what the child writes on standard error, once it is whole.
fn stderr_tail(child: &mut Child) -> Receiver<String> {
    let (tell, words) = mpsc::channel();
    if let Some(mut errors) = child.stderr.take() {
        thread::spawn(move || {
            let (mut kept, mut buffer) = (vec![], [0; 4096]);
            while let Ok(read @ 1..) = errors.read(&mut buffer) {
                kept.extend_from_slice(&buffer[..read]);
                kept.drain(..kept.len().saturating_sub(STDERR_TAIL));
            }
            // Nobody may listen any more.
            let _ = tell.send(String::from_utf8_lossy(&kept).into_owned());
        });
    }
    words
}

/// How a process ended.
fn ended(status: &ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(status) {
        return format!("was ended by signal {signal}");
    }
    match status.code() {
        Some(code) => format!("ended with code {code:#x}"),
        None => "ended without a code".into(),
    }
}

/// The adapters as another process finds them, so that a driver which crashes or hangs at this does no harm.
///
/// # Errors
/// What became of that process.
pub fn adapters(mut command: Command) -> Result<Vec<Capabilities>, String> {
    let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = started.map_err(|e| format!("the program cannot start itself again: {e}"))?;
    let words = stderr_tail(&mut child);
    let (tell, lists) = mpsc::channel();
    if let Some(output) = child.stdout.take() {
        thread::spawn(move || {
            let lines = BufReader::new(output).split(b'\n').map_while(Result::ok);
            let _ = lines.filter_map(|line| serde_json::from_slice(&line).ok()).try_for_each(|list| tell.send(list));
        });
    }
    let found = lists.recv_timeout(LISTING);
    let status = wait_for_exit(&mut child).map_or("hangs".into(), |status| ended(&status));
    let _ = child.kill();
    found.map_err(|_| format!("the process {status} {}", words.recv_timeout(EXIT_TIMEOUT).unwrap_or_default().trim()))
}

/// This program.
///
/// # Errors
/// A program that cannot be found, since it was moved.
pub fn this_program() -> crate::Result<PathBuf> {
    let moved = |e| crate::Error::run(format!("the program cannot find itself: {e}"), "start it by its whole path");
    std::env::current_exe().map_err(moved)
}
