//! What workers have told of a device's tasks, as its report.

use super::kernels::Pass;
use super::report::{DeviceReport, Failure, Outcome};
use super::worker::Event;

/// A task that has begun and not ended.
struct Current {
    name: String,
    row: Option<(String, Pass)>,
}

/// What is known of a device's tasks.
pub struct Collected {
    /// What was found so far.
    pub report: DeviceReport,
    /// The number of the next task.
    pub next: usize,
    /// The number of all.
    pub total: usize,
    current: Option<Current>,
}

impl Collected {
    /// Nothing so far.
    pub fn new(report: DeviceReport) -> Self {
        Self { report, next: 0, total: 0, current: None }
    }

    /// Enters what a worker tells.
    pub fn enter(&mut self, event: Event) {
        match event {
            Event::Tasks { tasks, machine } => {
                self.total = tasks;
                if machine != self.report.machine {
                    self.fail("adapters", &format!("they have changed: this one is now {machine}"));
                }
            }
            Event::Begun { task, name, row } => {
                self.fail_lost();
                if task != self.next {
                    self.fail("verify", &format!("tasks {} to {task} told nothing", self.next));
                }
                self.next = task + 1;
                self.report.running = Some(name.clone());
                self.current = Some(Current { name, row });
            }
            Event::Checked { outcome, other_draws } => match self.current.take() {
                Some(Current { name, row: Some((row, pass)) }) => {
                    self.report.row(&row, pass).enter(&name, outcome, other_draws)
                }
                _ => self.fail("verify", "a result came without its check"),
            },
            Event::Period(period) => self.report.timestamp_period_ns = Some(period),
            Event::Alive | Event::End => (),
            Event::Trained(training) => self.done(|report| report.training = Some(training)),
            Event::Generated(generation) => self.done(|report| report.generation = Some(generation)),
            Event::RooflineLimits(peaks) => self.done(|report| report.peaks = Some(peaks)),
            Event::Timed(timing) => self.done(|report| report.timings.push(timing)),
            Event::Failed(failure) => self.done(|report| report.failures.push(failure)),
        }
    }

    fn done(&mut self, enter: impl FnOnce(&mut DeviceReport)) {
        self.current = None;
        enter(&mut self.report);
    }

    /// Enters what went wrong beside checks.
    pub fn fail(&mut self, name: &str, error: &str) {
        self.report.failures.push(Failure::new(name, error, None));
    }

    /// Fails the task that has begun, if one has.
    fn fail_current(&mut self, error: &str) {
        match self.current.take() {
            Some(Current { name, row: Some((row, pass)) }) => {
                let failed = Outcome::Failed { error: error.into(), known: None };
                self.report.row(&row, pass).enter(&name, failed, vec![]);
            }
            Some(Current { name, row: None }) => self.fail(&name, error),
            None => (),
        }
    }

    /// What did the tasks came to a bad end.
    pub fn crash(&mut self, why: &str) {
        match self.current {
            Some(_) => self.fail_current(why),
            None => self.fail("between two tasks", why),
        }
    }

    /// Fails the task whose end was not told.
    pub fn fail_lost(&mut self) {
        self.fail_current("its result was lost on the way: a driver may have written into the middle of it");
    }

    /// Tasks that have not begun.
    pub fn left(&self) -> usize {
        self.total.saturating_sub(self.next)
    }
}
