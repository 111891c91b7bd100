//! MPI as a carrier. Collective operations are begun and then asked for now and then, not waited for in MPI, which would take a
//! whole processor core from the computation meanwhile, and would not hear that all is to end.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, Instant};

use mpi::environment::Universe;
use mpi::request::{Request, scope};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Root};
use mpi::{Threading, initialize_with_threading};

use super::NOT_ABORTED;
use super::transport::{Transport, in_rounds};
use crate::{Error, Result};

/// How long an operation is asked for without a pause: what takes less is worth no sleep.
const EAGER: Duration = Duration::from_micros(50);
/// The pause afterwards, which grows with what was waited so far, up to this.
const LONGEST_PAUSE: Duration = Duration::from_millis(1);
/// The part of the time waited so far that a pause takes.
const PAUSE: u32 = 32;
/// How long a process that was told to end waits for the others, or twice the longest wait before if that is longer: they may have been
/// killed, and whoever kills the last ones, as Slurm does, may take half a minute.
const GRACE: Duration = Duration::from_secs(8);
/// The most that it waits: all are to be gone within half a minute.
const LONGEST_GRACE: Duration = Duration::from_secs(25);
/// Bytes that an operation receives at once.
const ROUND: usize = 1 << 30;
/// How often a process looks whether its starter is still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// This process among those of MPI's world.
struct Mpi {
    world: SimpleCommunicator,
    abort: Arc<AtomicI32>,
    ending: Arc<AtomicBool>,
    /// The longest time that an operation has taken.
    longest: Cell<Duration>,
    // Last, since MPI ends with it.
    _universe: Universe,
}

/// Connects this process with the others. The thread that calls this makes all calls of MPI.
pub(super) fn connect(abort: Arc<AtomicI32>, ending: Arc<AtomicBool>) -> Result<Box<dyn Transport>> {
    watch_starter();
    let failed =
        || Error::run("MPI cannot be initialised", "see what its library says, and that mpirun is of the same");
    let (universe, _) = initialize_with_threading(Threading::Funneled).ok_or_else(failed)?;
    let world = universe.world();
    Ok(Box::new(Mpi { world, abort, ending, longest: Cell::default(), _universe: universe }))
}

/// Ends this process when that which has started it is gone: whoever kills `mpirun` leaves no process behind.
fn watch_starter() {
    // SAFETY: the call has no conditions.
    let parent = || unsafe { libc::getppid() };
    let starter = parent();
    let watch = move || {
        while parent() == starter {
            std::thread::sleep(LOOK_EVERY);
        }
        // SAFETY: the call has no conditions, and nothing is to run after it.
        unsafe { libc::_exit(1) }
    };
    // Without it all else works.
    let _ = std::thread::Builder::new().name("starter".into()).spawn(watch);
}

impl Mpi {
    /// Waits for an operation that was begun.
    fn wait<'a, D: ?Sized, S: mpi::request::Scope<'a>>(&self, mut request: Request<'a, D, S>) {
        let (began, mut told) = (Instant::now(), None);
        while let Err(pending) = request.test() {
            request = pending;
            let code = self.abort.load(Ordering::Relaxed);
            if code != NOT_ABORTED {
                self.world.abort(code);
            }
            if self.ending.load(Ordering::Relaxed) {
                let told = told.get_or_insert_with(Instant::now);
                if told.elapsed() > GRACE.max(2 * self.longest.get()).min(LONGEST_GRACE) {
                    self.world.abort(1);
                }
            }
            let waited = began.elapsed();
            if waited > EAGER {
                std::thread::sleep((waited / PAUSE).min(LONGEST_PAUSE));
            } else {
                std::thread::yield_now();
            }
        }
        self.longest.set(self.longest.get().max(began.elapsed()));
    }
}

impl Transport for Mpi {
    fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    fn size(&self) -> usize {
        self.world.size() as usize
    }

    fn all_to_all(&mut self, send: &[u8], received: &mut [u8]) -> Result<()> {
        in_rounds((send, received), (self.size(), ROUND), |send, received| {
            scope(|scope| self.wait(self.world.immediate_all_to_all_into(scope, send, received)));
        });
        Ok(())
    }

    fn all_gather(&mut self, send: &[u8], received: &mut [u8]) -> Result<()> {
        in_rounds((send, received), (self.size(), ROUND), |send, received| {
            scope(|scope| self.wait(self.world.immediate_all_gather_into(scope, send, received)));
        });
        Ok(())
    }

    fn broadcast(&mut self, bytes: &mut [u8]) -> Result<()> {
        let root = self.world.process_at_rank(0);
        scope(|scope| self.wait(root.immediate_broadcast_into(scope, bytes)));
        Ok(())
    }

    fn abort(&mut self, code: i32) {
        self.world.abort(code);
    }
}
