//! Runs workers in processes of their own and collects what they tell. A driver that crashes or hangs costs one check: the
//! next worker goes on behind it.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::report::{DeviceReport, Failure, Outcome};
use super::worker::{Event, Target};
use crate::gpu::{Capabilities, Machine};

/// After so long without a word a worker hangs: drivers' own watchdogs act within seconds, but a software adapter may
/// compile a large shader for a minute, and more beside other programs.
const SILENCE: Duration = Duration::from_secs(300);
/// How often a stop is looked for.
const GLANCE: Duration = Duration::from_millis(200);
/// Workers of a device that may end badly before the rest of its tasks is given up.
const CRASHES: usize = 8;
/// Bytes of a worker's last words.
const LAST_WORDS: usize = 2000;

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
    Silent,
    Died(String),
}

impl Supervisor<'_> {
    /// Verifies one device. `progress` is told what runs, the number of tasks done and that of all. Whatever happens, what was
    /// found until then is returned.
    pub fn verify(
        &self,
        target: Target,
        capabilities: Option<Capabilities>,
        mut progress: impl FnMut(&str, usize, usize),
    ) -> DeviceReport {
        let machine = capabilities.as_ref().map_or_else(Machine::cpu, Machine::of);
        let mut report = DeviceReport::new(machine, capabilities);
        let began = Instant::now();
        let (mut from, mut total) = (0, 0);
        for crash in 0.. {
            let mut current = None;
            let end = self.worker(target, from, |event| {
                match event {
                    Event::Tasks(tasks) => total = tasks,
                    Event::Begun { task, name, row } => {
                        progress(&name, task, total);
                        current = Some((task, name, row));
                    }
                    event => enter(&mut report, event, current.as_ref().map(|(_, name, row)| (name, row.as_ref()))),
                };
            });
            let why = match end {
                End::Done => break,
                End::Stopped => {
                    report.failures.push(Failure::new("verify", "was stopped before its end", None));
                    break;
                }
                End::Silent => format!("no word for {} s: it hangs", self.silence().as_secs()),
                End::Died(how) => how,
            };
            let Some((task, name, row)) = current else {
                report.failures.push(Failure::new("opening the device", &why, None));
                break;
            };
            match row {
                Some((row, pass)) => {
                    let failed = Outcome::Failed { error: why, known: None };
                    report.row(&row, pass).enter(&name, failed, vec![]);
                }
                None => report.failures.push(Failure::new(&name, &why, None)),
            }
            from = task + 1;
            if from >= total {
                break;
            }
            if crash + 1 == CRASHES {
                let what = format!("{} tasks were not tried after {CRASHES} crashes", total - from);
                report.failures.push(Failure::new("verify", &what, None));
                break;
            }
        }
        report.seconds = began.elapsed().as_secs_f64();
        report
    }

    fn silence(&self) -> Duration {
        self.silence.unwrap_or(SILENCE)
    }

    /// Runs one worker and hands on what it tells.
    fn worker(&self, target: Target, from: usize, mut hear: impl FnMut(Event)) -> End {
        let mut command = (self.command)(target, from);
        let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = match started {
            Ok(child) => child,
            Err(e) => return End::Died(format!("the program cannot start itself again: {e}")),
        };
        let (events, words) = (listen(&mut child), last_words(&mut child));
        let mut heard = Instant::now();
        let end = loop {
            match events.recv_timeout(GLANCE) {
                Ok(Event::End) => break End::Done,
                Ok(event) => {
                    heard = Instant::now();
                    hear(event);
                }
                Err(RecvTimeoutError::Disconnected) => break End::Died(String::new()),
                Err(RecvTimeoutError::Timeout) if self.stop.load(Ordering::Relaxed) => break End::Stopped,
                Err(RecvTimeoutError::Timeout) if heard.elapsed() > self.silence() => break End::Silent,
                Err(RecvTimeoutError::Timeout) => (),
            }
        };
        match end {
            // Some drivers crash when they are unloaded; everything is told by then.
            End::Done => drop(child.wait()),
            End::Died(_) if self.stop.load(Ordering::Relaxed) => {
                drop(child.wait());
                return End::Stopped;
            }
            End::Died(_) => {
                let status = child.wait().map_or_else(|e| e.to_string(), |status| ended(&status));
                let words = words.join().unwrap_or_default();
                return End::Died(format!("the process {status} {}", words.trim()).trim().into());
            }
            // One that hangs in the driver may not even die; nobody waits for it.
            End::Stopped | End::Silent => drop(child.kill()),
        }
        end
    }
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

/// The end of what the child writes on standard error.
fn last_words(child: &mut Child) -> thread::JoinHandle<String> {
    let errors = child.stderr.take();
    thread::spawn(move || {
        let (mut kept, mut buffer) = (vec![], [0; 4096]);
        let Some(mut errors) = errors else { return String::new() };
        while let Ok(read @ 1..) = errors.read(&mut buffer) {
            kept.extend_from_slice(&buffer[..read]);
            kept.drain(..kept.len().saturating_sub(LAST_WORDS));
        }
        String::from_utf8_lossy(&kept).into_owned()
    })
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

/// Enters what a worker tells of the task that it is at.
fn enter(report: &mut DeviceReport, event: Event, current: Option<(&String, Option<&(String, super::kernels::Pass)>)>) {
    match event {
        Event::Checked { outcome, flips } => {
            if let Some((name, Some((row, pass)))) = current {
                report.row(row, *pass).enter(name, outcome, flips);
            }
        }
        Event::Period(period) => report.timestamp_period_ns = Some(period),
        Event::Trained(training) => report.training = Some(training),
        Event::Generated(generation) => report.generation = Some(generation),
        Event::Peaks(peaks) => report.peaks = Some(peaks),
        Event::Timed(timing) => report.timings.push(timing),
        Event::Failed(failure) => report.failures.push(failure),
        Event::Tasks(_) | Event::Begun { .. } | Event::Alive | Event::End => (),
    }
}

/// This program.
///
/// # Errors
/// A program that cannot be found, since it was moved.
pub fn this_program() -> crate::Result<PathBuf> {
    let moved = |e| crate::Error::run(format!("the program cannot find itself: {e}"), "start it by its whole path");
    std::env::current_exe().map_err(moved)
}
