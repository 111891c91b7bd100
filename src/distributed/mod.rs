//! Processes that work on one thing together, as ranks of a group: sums that are the same to the bit everywhere, values from all
//! to all, and errors that are said once. MPI carries the bytes between processes (with the cargo feature `mpi`), memory between
//! threads ([`Ranks::threads`]).
//!
//! One thread of a process makes all of its calls, one after the other, so that a sum goes on while the device computes.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Kind;
use crate::shape::Slots;
use crate::{Error, Result};

mod launch;
#[cfg(feature = "mpi")]
mod mpi;
mod sum;
mod transport;

pub use launch::{Launched, launched};
pub(crate) use sum::pairwise;
pub use sum::{Summed, Wire};

use sum::Feedback;
use transport::{Thread, Transport};

/// The exit code that [`Ranks::abort`] has not been asked for.
const NOT_ABORTED: i32 = -1;

/// This process as one of several that work together. Copies are of one and the same rank.
#[derive(Clone)]
pub struct Ranks {
    inner: Arc<Inner>,
    wire: Wire,
}

struct Inner {
    rank: usize,
    size: usize,
    /// By rank; there once they have told each other.
    members: OnceLock<Vec<Member>>,
    /// What asks the thread that communicates, and that thread.
    thread: Mutex<Option<(Sender<Job>, JoinHandle<()>)>>,
    /// The exit code that all ranks are to end with, seen also by a collective operation that waits.
    abort: Arc<AtomicI32>,
    /// Whether this process was told to end.
    ending: Arc<AtomicBool>,
    /// Nanoseconds that this rank has waited for others.
    waited: AtomicU64,
    /// Whether all ranks have one and the same error, which rank 0 tells.
    agreed: AtomicBool,
}

/// A rank, as the others know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The machine's name.
    pub host: String,
    /// The processor cores that it may run on, as a text that is the same for ranks that share them.
    pub cores: String,
    /// How many these are.
    pub core_count: usize,
}

/// What the thread that communicates is asked for.
enum Job {
    Sum { values: Vec<f32>, note: Vec<u8>, wire: Wire, vector: usize, reply: Sender<Result<Summed>> },
    Gather { bytes: Vec<u8>, reply: Sender<Result<Vec<Vec<u8>>>> },
    Broadcast { bytes: Vec<u8>, reply: Sender<Result<Vec<u8>>> },
    Owed { vector: usize, len: usize, reply: Sender<Vec<f32>> },
    Owe { vector: usize, owed: Vec<f32> },
    TakeBack { vector: usize },
    Rescale { vector: usize, factor: f32 },
    Abort,
}

/// An error on its way to other ranks: exit code, whether it is a device's, what is wrong, the remedy.
type Said = (u8, bool, String, String);

/// A sum under way; see [`Ranks::begin_sum`].
pub struct Sum(Receiver<Result<Summed>>);

impl fmt::Debug for Ranks {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "rank {} of {}", self.rank(), self.size())
    }
}

impl Ranks {
    /// This process among those that `mpirun` or a scheduler has started; `None` where it was started alone.
    ///
    /// # Errors
    /// Several processes that this build cannot connect: one without the feature `mpi`, or with another MPI than the one that has
    /// started them.
    pub fn join() -> Result<Option<Self>> {
        let Some(launched) = launched() else { return Ok(None) };
        if launched.size == Some(1) {
            return Ok(None);
        }
        connect(&launched)
    }

    /// Ranks that are threads of this process: for tests, and for a program with several devices.
    pub fn threads(size: usize) -> Vec<Self> {
        let group = Thread::group(size);
        let starting: Vec<_> = group
            .into_iter()
            .map(|thread| {
                std::thread::spawn(move || Self::over(move |_, _| Ok(Box::new(thread) as Box<dyn Transport>)))
            })
            .collect();
        starting.into_iter().filter_map(|thread| thread.join().ok()?.ok()).collect()
    }

    /// The rank that `connect` makes, in the thread that will communicate. It is given the exit code to end with as soon as
    /// there is one, and told when the process is to end.
    fn over<F>(connect: F) -> Result<Self>
    where
        F: FnOnce(Arc<AtomicI32>, Arc<AtomicBool>) -> Result<Box<dyn Transport>> + Send + 'static,
    {
        let (abort, ending) = (Arc::new(AtomicI32::new(NOT_ABORTED)), Arc::new(AtomicBool::new(false)));
        let (jobs, asked) = channel();
        let (tell, told) = channel();
        let (code, told_to_end) = (abort.clone(), ending.clone());
        let run = move || match connect(code.clone(), told_to_end) {
            Ok(mut transport) => {
                let _ = tell.send(Ok((transport.rank(), transport.size())));
                serve(transport.as_mut(), &asked, &code);
            }
            Err(e) => drop(tell.send(Err(e))),
        };
        let thread = std::thread::Builder::new().name("communication".into()).spawn(run);
        let thread = thread.map_err(|e| Error::run(format!("no thread can be started: {e}"), ""))?;
        let (rank, size) = told.recv().map_err(|_| lost())??;
        let inner = Inner {
            rank,
            size,
            members: OnceLock::new(),
            thread: Mutex::new(Some((jobs, thread))),
            abort,
            ending,
            waited: AtomicU64::new(0),
            agreed: AtomicBool::new(false),
        };
        let ranks = Self { inner: Arc::new(inner), wire: Wire::F32 };
        let members = ranks.all(&Member::of_this_process())?;
        ranks.inner.members.get_or_init(|| members);
        Ok(ranks)
    }

    /// The same, with sums of gradients that travel like this.
    #[must_use]
    pub fn with_wire(self, wire: Wire) -> Self {
        Self { wire, ..self }
    }

    /// How sums of gradients travel.
    pub fn wire(&self) -> Wire {
        self.wire
    }

    /// This process' number, from 0.
    pub fn rank(&self) -> usize {
        self.inner.rank
    }

    /// How many ranks there are.
    pub fn size(&self) -> usize {
        self.inner.size
    }

    /// Whether this rank speaks and writes files for all.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// The slots of this rank, of a batch of `total`, a multiple of the number of ranks.
    pub fn slots(&self, total: usize) -> Slots {
        Slots::part(total, self.rank(), self.size())
    }

    /// All ranks, by number.
    pub fn members(&self) -> &[Member] {
        self.inner.members.get().map_or(&[], |members| members)
    }

    /// A rank, for people.
    pub fn name_of(&self, rank: usize) -> String {
        format!("rank {rank} on {}", self.members()[rank].host)
    }

    /// Ranks, for people, those of one host together: `ranks 0 to 3 on a, rank 4 on b`.
    pub fn names_of(&self, ranks: &[usize]) -> String {
        let mut groups: Vec<(usize, usize)> = vec![];
        for &rank in ranks {
            match groups.last_mut() {
                Some((_, last)) if *last + 1 == rank && self.members()[*last].host == self.members()[rank].host => {
                    *last = rank;
                }
                _ => groups.push((rank, rank)),
            }
        }
        let name = |&(first, last): &(usize, usize)| match last - first {
            0 => self.name_of(first),
            1 => format!("ranks {first} and {last} on {}", self.members()[first].host),
            _ => format!("ranks {first} to {last} on {}", self.members()[first].host),
        };
        groups.iter().map(name).collect::<Vec<_>>().join(", ")
    }

    /// This rank's number among those of its host, from 0, and how many these are.
    pub fn on_host(&self) -> (usize, usize) {
        let host = &self.members()[self.rank()].host;
        let same = |ranks: &[Member]| ranks.iter().filter(|member| member.host == *host).count();
        (same(&self.members()[..self.rank()]), same(self.members()))
    }

    /// The processor cores for this rank, where ranks that may run on the same ones divide them.
    pub fn cores(&self) -> usize {
        let own = &self.members()[self.rank()];
        let sharing = self.members().iter().filter(|other| (&other.host, &other.cores) == (&own.host, &own.cores));
        (own.core_count / sharing.count()).max(1)
    }

    /// Begins to sum `values` over all ranks, and shows `note`, of one length everywhere, to all. As f16, what is owed is kept by
    /// `vector`: a number for each vector that is summed again and again.
    ///
    /// # Errors
    /// A communication that has ended.
    pub fn begin_sum(&self, values: Vec<f32>, note: Vec<u8>, vector: usize) -> Result<Sum> {
        let ((reply, told), wire) = (channel(), self.wire);
        self.ask(Job::Sum { values, note, wire, vector, reply })?;
        Ok(Sum(told))
    }

    /// Waits for a sum.
    ///
    /// # Errors
    /// A rank that is gone.
    pub fn finish_sum(&self, sum: Sum) -> Result<Summed> {
        self.wait(&sum.0)?
    }

    /// The bytes that each rank gives, by rank.
    ///
    /// # Errors
    /// A rank that is gone.
    pub fn gather(&self, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>> {
        let (reply, told) = channel();
        self.ask(Job::Gather { bytes, reply })?;
        self.wait(&told)?
    }

    /// The value that each rank gives, by rank.
    ///
    /// # Errors
    /// A rank that is gone, or whose value cannot be read.
    pub fn all<T: Serialize + DeserializeOwned>(&self, value: &T) -> Result<Vec<T>> {
        let unreadable = |e: serde_json::Error| {
            Error::run(format!("ranks do not understand each other: {e}"), "start the same program on all hosts")
        };
        let all = self.gather(serde_json::to_vec(value).map_err(unreadable)?)?;
        all.iter().map(|bytes| serde_json::from_slice(bytes).map_err(unreadable)).collect()
    }

    /// The bytes that rank 0 gives; those of the others are not looked at.
    ///
    /// # Errors
    /// A rank that is gone.
    pub fn from_first(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        let (reply, told) = channel();
        self.ask(Job::Broadcast { bytes, reply })?;
        self.wait(&told)?
    }

    /// Returns when all ranks have come here.
    ///
    /// # Errors
    /// A rank that is gone.
    pub fn meet(&self) -> Result<()> {
        self.gather(vec![]).map(drop)
    }

    /// What came of something that all ranks did, each for itself: where it failed on one, all fail, with what each of these says. Not
    /// for what waits for other ranks on its way, where one that fails would leave the others waiting.
    ///
    /// # Errors
    /// Those of any rank, each with the ranks that have it. [`Ranks::is_agreed`] is true from then on.
    pub fn agree<T>(&self, result: Result<T>) -> Result<T> {
        let own = result.as_ref().err().map(|e| (e.exit_code(), e.is_of_device(), e.what.clone(), e.remedy.clone()));
        // Where the ranks cannot tell each other, an error of this one's own says more.
        let all = match self.all::<Option<Said>>(&own) {
            Ok(all) => all,
            Err(e) => return Err(result.err().unwrap_or(e)),
        };
        let mut said: Vec<(Said, Vec<usize>)> = vec![];
        for (rank, error) in all.into_iter().enumerate() {
            let Some(error) = error else { continue };
            match said.iter_mut().find(|(other, _)| *other == error) {
                Some((_, ranks)) => ranks.push(rank),
                None => said.push((error, vec![rank])),
            }
        }
        let Some(((code, of_device, ..), _)) = said.first() else { return result };
        self.inner.agreed.store(true, Ordering::Relaxed);
        let kind = match (code, of_device, &result) {
            (_, _, Err(e)) => e.kind,
            (2, ..) => Kind::Usage,
            (_, true, _) => Kind::Device,
            _ => Kind::Run,
        };
        // One that all have needs no names.
        if let [((_, _, what, remedy), ranks)] = &said[..]
            && ranks.len() == self.size()
        {
            return Err(Error::new(kind, what, remedy));
        }
        let last = said.len() - 1;
        let mut whole = (String::new(), String::new());
        for (i, ((_, _, what, remedy), ranks)) in said.iter().enumerate() {
            whole.0.push_str(&format!("{}: {what}", self.names_of(ranks)));
            match i {
                _ if i == last => whole.1.clone_from(remedy),
                _ if remedy.is_empty() => whole.0.push('\n'),
                _ => whole.0.push_str(&format!("\n  {remedy}\n")),
            }
        }
        Err(Error::new(kind, whole.0, whole.1))
    }

    /// The same where this process may be alone.
    ///
    /// # Errors
    /// As [`Ranks::agree`].
    pub fn agree_if_several<T>(ranks: Option<&Self>, result: Result<T>) -> Result<T> {
        match ranks {
            Some(ranks) => ranks.agree(result),
            None => result,
        }
    }

    /// Says that an error which this rank is about to return is one and the same on all ranks.
    pub fn all_have_it(&self) {
        self.inner.agreed.store(true, Ordering::Relaxed);
    }

    /// Whether all ranks have the error that this one has: then rank 0 tells it, and all end by themselves.
    pub fn is_agreed(&self) -> bool {
        self.inner.agreed.load(Ordering::Relaxed)
    }

    /// Ends all ranks, for an error that this one alone has: processes with this exit code.
    pub fn abort(&self, code: u8) {
        self.inner.abort.store(code.into(), Ordering::Relaxed);
        // A process ends in there.
        if self.ask(Job::Abort).is_ok() {
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// To be set when this process is told to end: it no longer waits long for ranks that do not come.
    pub fn ending(&self) -> Arc<AtomicBool> {
        self.inner.ending.clone()
    }

    /// Seconds that this rank has waited for sums and other values of others so far.
    pub fn seconds_waited(&self) -> f64 {
        self.inner.waited.load(Ordering::Relaxed) as f64 / 1e9
    }

    /// What this rank still owes to sums of `vector`, whose numbers travelled as f16; nothing from now on.
    ///
    /// # Errors
    /// A communication that has ended.
    pub fn take_owed(&self, vector: usize, len: usize) -> Result<Vec<f32>> {
        let (reply, told) = channel();
        self.ask(Job::Owed { vector, len, reply })?;
        self.wait(&told)
    }

    /// Has this rank owe `owed` to sums of `vector`.
    ///
    /// # Errors
    /// A communication that has ended.
    pub fn owe(&self, vector: usize, owed: Vec<f32>) -> Result<()> {
        self.ask(Job::Owe { vector, owed })
    }

    /// Takes back the last sum of `vector`, which has come and is not used: what was owed before it is owed again.
    ///
    /// # Errors
    /// A communication that has ended.
    pub fn take_back(&self, vector: usize) -> Result<()> {
        self.ask(Job::TakeBack { vector })
    }

    /// Says that sums of `vector` are from now on of values `factor`, a power of two, times as large, and so is what is owed to them.
    ///
    /// # Errors
    /// A communication that has ended.
    pub fn rescale(&self, vector: usize, factor: f32) -> Result<()> {
        self.ask(Job::Rescale { vector, factor })
    }

    fn ask(&self, job: Job) -> Result<()> {
        let thread = self.inner.thread.lock();
        let (jobs, _) = thread.as_ref().ok_or_else(lost)?;
        jobs.send(job).map_err(|_| lost())
    }

    fn wait<T>(&self, told: &Receiver<T>) -> Result<T> {
        let began = web_time::Instant::now();
        let value = told.recv().map_err(|_| lost());
        self.inner.waited.fetch_add(began.elapsed().as_nanos() as u64, Ordering::Relaxed);
        value
    }
}

impl Drop for Inner {
    /// Leaves the group in order.
    fn drop(&mut self) {
        let Some((jobs, thread)) = self.thread.lock().take() else { return };
        drop(jobs);
        let _ = thread.join();
    }
}

/// Connects the processes that were started together.
#[cfg(feature = "mpi")]
fn connect(launched: &Launched) -> Result<Option<Ranks>> {
    let ranks = Ranks::over(mpi::connect)?;
    match (ranks.size(), launched.size) {
        (1, None) => Ok(None),
        (1, Some(size)) => Err(Error::usage(
            format!("{} processes were started together ({}), but each is alone in its MPI", size, launched.variable),
            "start them by the mpirun of the MPI library that this program was built with, or build it with the other one",
        )),
        _ => Ok(Some(ranks)),
    }
}

#[cfg(not(feature = "mpi"))]
fn connect(launched: &Launched) -> Result<Option<Ranks>> {
    match launched.size {
        // One step of a scheduler may be a process that is alone.
        None => Ok(None),
        Some(size) => Err(Error::usage(
            format!(
                "{size} processes were started together ({}), but this program was built without MPI: each would do the same",
                launched.variable
            ),
            "build it by `cargo build --release --features mpi`, or start it without mpirun",
        )),
    }
}

fn lost() -> Error {
    Error::run(
        "the connection to the other ranks has ended",
        "see what the others say, and start all again: a training goes on by --resume",
    )
}

/// Does what it is asked for until nobody is left to ask.
fn serve(transport: &mut dyn Transport, asked: &Receiver<Job>, abort: &AtomicI32) {
    let mut vectors: Vec<Feedback> = vec![];
    while let Ok(job) = asked.recv() {
        // Whoever has asked may be gone.
        match job {
            Job::Sum { values, note, wire, vector, reply } => {
                let feedback = (wire == Wire::F16).then(|| kept(&mut vectors, vector));
                drop(reply.send(sum::sum(transport, values, &note, feedback)));
            }
            Job::Gather { bytes, reply } => drop(reply.send(gather(transport, &bytes))),
            Job::Broadcast { bytes, reply } => drop(reply.send(broadcast(transport, bytes))),
            Job::Owed { vector, len, reply } => {
                let rank = transport.rank();
                drop(reply.send(kept(&mut vectors, vector).take(len, rank)));
            }
            Job::Owe { vector, owed } => kept(&mut vectors, vector).owe(owed),
            Job::TakeBack { vector } => kept(&mut vectors, vector).take_back(),
            Job::Rescale { vector, factor } => kept(&mut vectors, vector).rescale(factor),
            Job::Abort => {}
        }
        let code = abort.load(Ordering::Relaxed);
        if code != NOT_ABORTED {
            transport.abort(code);
            return;
        }
    }
}

fn kept(vectors: &mut Vec<Feedback>, vector: usize) -> &mut Feedback {
    if vectors.len() <= vector {
        vectors.resize_with(vector + 1, Feedback::default);
    }
    &mut vectors[vector]
}

/// The bytes of all ranks, of any lengths.
fn gather(transport: &mut dyn Transport, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut lengths = vec![0_u64; transport.size()];
    let own = [bytes.len() as u64];
    transport.all_gather(bytemuck::cast_slice(&own), bytemuck::cast_slice_mut(&mut lengths))?;
    let longest = lengths.iter().copied().max().unwrap_or(0) as usize;
    let mut padded = bytes.to_vec();
    padded.resize(longest, 0);
    let mut received = vec![0; longest * transport.size()];
    if longest > 0 {
        transport.all_gather(&padded, &mut received)?;
    }
    let of_rank = |(rank, &len): (usize, &u64)| received[rank * longest..][..len as usize].to_vec();
    Ok(lengths.iter().enumerate().map(of_rank).collect())
}

/// The bytes of rank 0, of any length.
fn broadcast(transport: &mut dyn Transport, mut bytes: Vec<u8>) -> Result<Vec<u8>> {
    let mut len = [bytes.len() as u64];
    transport.broadcast(bytemuck::cast_slice_mut(&mut len))?;
    bytes.resize(len[0] as usize, 0);
    // A message of MPI has at most 2^31 - 1 bytes.
    for part in bytes.chunks_mut(1 << 30) {
        transport.broadcast(part)?;
    }
    Ok(bytes)
}

impl Member {
    fn of_this_process() -> Self {
        let (cores, core_count) = launch::cores();
        Self { host: launch::host(), cores, core_count }
    }
}
