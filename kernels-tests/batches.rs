//! Runs tests in batches, each on one thread, beneath libtest-mimic, which knows single tests only.
//!
//! A batch's tests share what is costly to make and to keep, such as a device with the kernels compiled for it, and no thread
//! waits for what another has: each takes the next batch that may run. Libtest-mimic's own threads wait for the outcomes,
//! and report them under the names of the tests.

use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};

use libtest_mimic::{Arguments, Failed, Trial};

/// What a test does; an error says what is wrong.
pub type Test = Box<dyn FnOnce() -> Result<(), String> + Send>;

/// A test that has not run yet.
struct Waiting {
    test: Test,
    tell: Sender<thread::Result<Result<(), String>>>,
    /// Gone where libtest-mimic has dropped the test, since the user's filter leaves it out.
    wanted: Weak<()>,
}

struct Batch {
    alone: Option<String>,
    tests: Vec<Waiting>,
}

#[derive(Default)]
struct State {
    batches: VecDeque<Batch>,
    /// Why batches that run now keep others from running.
    busy: BTreeSet<String>,
    threads: Vec<JoinHandle<()>>,
    started: bool,
}

/// All batches, which begin in the order in which they were added.
pub struct Batches {
    state: Mutex<State>,
    /// A batch has ended.
    ended: Condvar,
    threads: usize,
}

impl Batches {
    /// No batch yet, and as many threads as the user wants tests to run on.
    pub fn new(arguments: &Arguments) -> Arc<Self> {
        let cores = || thread::available_parallelism().map_or(1, usize::from);
        let threads = arguments.test_threads.unwrap_or_else(cores).max(1);
        Arc::new(Self { state: Mutex::default(), ended: Condvar::new(), threads })
    }

    /// Adds tests that run one after the other on one thread, and never while another batch runs that is `alone` for the
    /// same reason. Returns them for libtest-mimic.
    pub fn add(self: &Arc<Self>, alone: Option<String>, tests: Vec<(String, Test)>) -> Vec<Trial> {
        let (trials, waiting) = tests
            .into_iter()
            .map(|(name, test)| {
                let (tell, outcome) = channel();
                let wanted = Arc::new(());
                let waiting = Waiting { test, tell, wanted: Arc::downgrade(&wanted) };
                let this = self.clone();
                let trial = Trial::test(name, move || {
                    this.start();
                    let outcome = wait(outcome);
                    drop(wanted);
                    outcome.map_err(Failed::from)
                });
                (trial, waiting)
            })
            .unzip();
        self.state().batches.push_back(Batch { alone, tests: waiting });
        trials
    }

    /// Waits until the threads are gone, and what their batches held with them.
    pub fn end(&self) {
        let threads = std::mem::take(&mut self.state().threads);
        // A test that panics does not take its thread with it.
        threads.into_iter().for_each(|thread| drop(thread.join()));
    }

    /// Starts the threads when the first test is waited for, when all that the filter leaves out is gone.
    fn start(self: &Arc<Self>) {
        let mut state = self.state();
        if !std::mem::replace(&mut state.started, true) {
            let this = || {
                let this = self.clone();
                move || while this.run_next() {}
            };
            state.threads = (0..self.threads).map(|_| thread::spawn(this())).collect();
        }
    }

    /// Runs the next batch; `false` where there is none.
    fn run_next(&self) -> bool {
        let Some(Batch { alone, tests }) = self.next() else { return false };
        for Waiting { test, tell, wanted } in tests {
            if wanted.strong_count() > 0 {
                // Nobody listens any more where libtest-mimic has given up.
                let _ = tell.send(catch_unwind(AssertUnwindSafe(test)));
            }
        }
        if let Some(reason) = alone {
            self.state().busy.remove(&reason);
            self.ended.notify_all();
        }
        true
    }

    /// The first batch that may run, as soon as there is one.
    fn next(&self) -> Option<Batch> {
        let mut state = self.state();
        while !state.batches.is_empty() {
            let State { batches, busy, .. } = &mut *state;
            let free = |batch: &Batch| batch.alone.as_ref().is_none_or(|reason| !busy.contains(reason));
            if let Some(batch) = batches.iter().position(free).and_then(|place| batches.remove(place)) {
                busy.extend(batch.alone.clone());
                return Some(batch);
            }
            state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What came of a test; a panic goes on here, where libtest-mimic knows whose it is.
fn wait(outcome: Receiver<thread::Result<Result<(), String>>>) -> Result<(), String> {
    match outcome.recv() {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panic)) => resume_unwind(panic),
        Err(_) => Err("its thread has ended without an outcome".into()),
    }
}
