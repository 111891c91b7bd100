//! What carries bytes between ranks, and the one that needs no network: ranks that are threads of one process.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::{Error, Result};

/// The collective operations that everything else here is made of. All ranks of a group call them in the same order, each
/// with as many bytes as the others.
pub(super) trait Transport {
    /// This process' number, from 0.
    fn rank(&self) -> usize;
    /// How many ranks there are.
    fn size(&self) -> usize;
    /// Sends part `i` of `send` to rank `i` and receives part `i` of `received` from it; the parts are of equal length.
    ///
    /// # Errors
    /// A rank that is gone.
    fn all_to_all(&mut self, send: &[u8], received: &mut [u8]) -> Result<()>;
    /// Sends `send` to all ranks; part `i` of `received` is that of rank `i`.
    ///
    /// # Errors
    /// A rank that is gone.
    fn all_gather(&mut self, send: &[u8], received: &mut [u8]) -> Result<()>;
    /// Fills `bytes` on all ranks with those of rank 0.
    ///
    /// # Errors
    /// A rank that is gone.
    fn broadcast(&mut self, bytes: &mut [u8]) -> Result<()>;
    /// Ends the work of all ranks: where they are processes, these processes, with this exit code.
    fn abort(&mut self, code: i32);
}

/// Makes a collective operation in rounds, each of which receives at most `most` bytes from all of `size` ranks together: a message
/// of MPI counts its bytes in 31 bits. `send` is one part, or one for each rank.
#[cfg(any(test, feature = "mpi"))]
pub(super) fn in_rounds(
    (send, received): (&[u8], &mut [u8]),
    (size, most): (usize, usize),
    mut operation: impl FnMut(&[u8], &mut [u8]),
) {
    let len = received.len() / size;
    let round = (most / size).max(1);
    if len <= round {
        return operation(send, received);
    }
    for start in (0..len).step_by(round) {
        let count = round.min(len - start);
        let own: Vec<u8> = send.chunks_exact(len).flat_map(|part| &part[start..][..count]).copied().collect();
        let mut of_all = vec![0; count * size];
        operation(&own, &mut of_all);
        for (part, own) in received.chunks_exact_mut(len).zip(of_all.chunks_exact(count)) {
            part[start..][..count].copy_from_slice(own);
        }
    }
}

/// What threads that are ranks share.
struct Exchange {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// By rank, what it sends.
    sent: Vec<Arc<Vec<u8>>>,
    /// Ranks that have come to the meeting under way.
    arrived: usize,
    /// The number of meetings so far.
    meeting: u64,
    /// A rank has given up.
    aborted: bool,
}

/// A rank that is a thread.
pub(super) struct Thread {
    rank: usize,
    size: usize,
    exchange: Arc<Exchange>,
}

impl Thread {
    /// So many of them.
    pub fn group(size: usize) -> Vec<Self> {
        let state = State { sent: vec![Arc::default(); size], arrived: 0, meeting: 0, aborted: false };
        let exchange = Arc::new(Exchange { state: Mutex::new(state), changed: Condvar::new() });
        (0..size).map(|rank| Self { rank, size, exchange: exchange.clone() }).collect()
    }

    /// Waits for all ranks and returns what each of them shows; this one shows `sent` from now on, where there is something.
    fn meet(&self, sent: Option<&[u8]>) -> Result<Vec<Arc<Vec<u8>>>> {
        let gone = || Err(Error::run("another rank has given up", ""));
        let mut state = self.exchange.state.lock();
        if state.aborted {
            return gone();
        }
        if let Some(sent) = sent {
            state.sent[self.rank] = Arc::new(sent.to_vec());
        }
        state.arrived += 1;
        let meeting = state.meeting;
        if state.arrived == self.size {
            state.arrived = 0;
            state.meeting += 1;
            self.exchange.changed.notify_all();
        }
        while state.meeting == meeting {
            if state.aborted {
                return gone();
            }
            self.exchange.changed.wait(&mut state);
        }
        let all = state.sent.clone();
        drop(state);
        Ok(all)
    }

    /// [`Self::meet`] twice, so that nobody writes for the next meeting what others still have to see of this one.
    fn exchange(&self, sent: &[u8]) -> Result<Vec<Arc<Vec<u8>>>> {
        let all = self.meet(Some(sent))?;
        self.meet(None)?;
        Ok(all)
    }
}

impl Transport for Thread {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn all_to_all(&mut self, send: &[u8], received: &mut [u8]) -> Result<()> {
        let len = send.len() / self.size;
        let all = self.exchange(send)?;
        for (part, sent) in received.chunks_exact_mut(len.max(1)).zip(&all) {
            part.copy_from_slice(&sent[self.rank * len..][..len]);
        }
        Ok(())
    }

    fn all_gather(&mut self, send: &[u8], received: &mut [u8]) -> Result<()> {
        let all = self.exchange(send)?;
        for (part, sent) in received.chunks_exact_mut(send.len().max(1)).zip(&all) {
            part.copy_from_slice(sent);
        }
        Ok(())
    }

    fn broadcast(&mut self, bytes: &mut [u8]) -> Result<()> {
        let all = self.exchange(if self.rank == 0 { bytes } else { &[] })?;
        bytes.copy_from_slice(&all[0]);
        Ok(())
    }

    fn abort(&mut self, _: i32) {
        self.exchange.state.lock().aborted = true;
        self.exchange.changed.notify_all();
    }
}

/// For tests: what `of` makes of each of so many ranks that run beside each other.
#[cfg(test)]
pub(super) fn on_ranks<T: Send>(size: usize, of: impl Fn(Thread) -> T + Sync) -> Vec<T> {
    let of = &of;
    std::thread::scope(|scope| {
        let running: Vec<_> = Thread::group(size).into_iter().map(|rank| scope.spawn(move || of(rank))).collect();
        running.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_receive_what_one_operation_would() {
        for (size, len, most) in [(3, 7, 6), (3, 7, 2), (2, 8, 8), (4, 0, 8), (1, 5, 2), (2, 3, 100)] {
            let bytes = |rank: usize, count: usize| (0..count).map(|i| (100 * rank + i) as u8).collect::<Vec<_>>();
            // To each rank another part, or one to all.
            for parts in [size, 1] {
                let received = on_ranks(size, |mut rank| {
                    let own = bytes(rank.rank(), parts * len);
                    let mut whole = vec![0; size * len];
                    let mut in_parts = whole.clone();
                    let largest = std::cell::Cell::new(0);
                    let mut operation = |send: &[u8], received: &mut [u8]| {
                        largest.set(largest.get().max(received.len()));
                        let done =
                            if parts == 1 { rank.all_gather(send, received) } else { rank.all_to_all(send, received) };
                        done.unwrap();
                    };
                    operation(&own, &mut whole);
                    largest.set(0);
                    in_rounds((&own, &mut in_parts), (size, most), &mut operation);
                    assert!(largest.get() <= most.max(size), "{} bytes at once, {most} wanted", largest.get());
                    (whole, in_parts)
                });
                for (whole, in_parts) in received {
                    assert_eq!(whole, in_parts, "{size} ranks, {len} bytes, {parts} parts");
                }
            }
        }
    }
}
