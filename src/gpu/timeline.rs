//! When each dispatch of a program runs.

use std::time::Duration;

use web_time::Instant;

use super::program::Commands;
use super::{Gpu, Program};
use crate::{Error, Result};

/// Which clock measured the times of a [`Timeline`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Timestamps that the device wrote at the beginning and end of passes of one dispatch each.
    Device,
    /// The CPU's clock, around submissions of one dispatch each: longer by the latency of a submission.
    Wall,
}

/// When a dispatch ran.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stamp {
    /// Its place in the program.
    pub dispatch: usize,
    /// Nanoseconds since the device's clock, or since the run began by the CPU's.
    pub start: u64,
    /// The end.
    pub end: u64,
    /// CPU time in which it was recorded, with an equal share of the encoding, which wgpu does for all passes at once.
    pub encoding: Duration,
}

/// When the dispatches of a submission ran.
#[derive(Clone, Debug, PartialEq)]
pub struct Timeline {
    /// Which clock measured the times.
    pub clock: Clock,
    /// In the order in which they ran; by the device's clock counted from the first one's start.
    pub stamps: Vec<Stamp>,
    /// CPU time of the submission, or of all submissions together by the CPU's clock; nearly all of the time on a driver that
    /// computes within it.
    pub submitting: Duration,
    /// From the beginning of the first submission to the end of all work. By the device's clock, all dispatches were encoded
    /// before; by the CPU's clock, each is encoded right before it runs.
    pub wall: Duration,
}

/// Submissions of which [`Gpu::latency`] takes the median.
const LATENCIES: usize = 9;
/// Dispatches whose two timestamps one query set holds.
const SET: usize = (wgpu::QUERY_SET_MAX_QUERIES / 2) as usize;
/// How far the device's clock may run ahead of the CPU's before it counts as wrong: a factor, and nanoseconds on top.
const DRIFT: (f64, f64) = (1.1, 1e6);

impl Gpu {
    /// Runs the program `times` times over, each dispatch in a pass of its own, and reports when each ran: by timestamps where
    /// the device has usable ones (on some systems they are all zero), else by the CPU's clock. With a `clock`, by that one
    /// and no other, so that several runs can be measured by the same clock.
    ///
    /// # Errors
    /// A device that is lost or out of memory; timestamps that are asked for and unusable.
    pub async fn timeline(
        &self,
        program: &Program,
        times: u32,
        uniforms: &[u32; 16],
        clock: Option<Clock>,
    ) -> Result<Timeline> {
        if self.capabilities.timestamp_query
            && clock != Some(Clock::Wall)
            && let Some(timeline) = self.stamped(program, times, uniforms).await?
        {
            return Ok(timeline);
        }
        match clock {
            Some(Clock::Device) => Err(Error::device("the device's timestamps failed amid a profile", "profile again")),
            _ => self.timed(program, times, uniforms).await,
        }
    }

    /// How long `times` runs of the program take, encoded ahead.
    ///
    /// # Errors
    /// A device that is lost or out of memory.
    pub async fn time(&self, program: &Program, times: u32) -> Result<Duration> {
        self.prepare(program, times)?;
        let began = Instant::now();
        self.submit(program, times, &[0; 16])?;
        self.wait().await?;
        Ok(began.elapsed())
    }

    /// From a submission of no work to its end: the median of several.
    ///
    /// # Errors
    /// A device that is lost or out of memory.
    pub async fn latency(&self) -> Result<Duration> {
        let mut times = [Duration::ZERO; LATENCIES];
        for time in &mut times {
            let commands = self.inner.device.create_command_encoder(&Default::default()).finish();
            let began = Instant::now();
            self.submit_buffers([commands]);
            self.wait().await?;
            *time = began.elapsed();
        }
        times.sort();
        Ok(times[LATENCIES / 2])
    }

    /// Nanoseconds of a tick of the device's clock.
    pub fn timestamp_period(&self) -> f64 {
        f64::from(self.inner.queue.get_timestamp_period())
    }

    /// By timestamps; `None` where they are unusable.
    async fn stamped(&self, program: &Program, times: u32, uniforms: &[u32; 16]) -> Result<Option<Timeline>> {
        let device = &self.inner.device;
        let submissions = program.submissions(0..program.len(), times)?;
        let order: Vec<_> = submissions.iter().flat_map(|(dispatches, _)| dispatches).copied().collect();
        let sets = order.len().div_ceil(SET);
        let read = self.buffer("timestamps", 4 * order.len() as u64).await?;
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let resolved = self.raw_buffer("timestamps, resolved", (sets.max(1) * SET * 16) as u64, usage).await?;
        let make = || {
            let set = |_| {
                let count = wgpu::QUERY_SET_MAX_QUERIES;
                device.create_query_set(&wgpu::QuerySetDescriptor {
                    label: None,
                    ty: wgpu::QueryType::Timestamp,
                    count,
                })
            };
            (0..sets).map(set).collect::<Vec<_>>()
        };
        let query_sets = self.inner.faults.scoped(|| "timestamps".to_string(), make).await?;

        let new_encoder = || device.create_command_encoder(&Default::default());
        let mut encoders = vec![];
        let mut encodings = Vec::with_capacity(order.len());
        for (dispatches, share) in submissions {
            let mut encoder = new_encoder();
            for dispatch in dispatches {
                let began = Instant::now();
                let i = encodings.len();
                let first = (2 * (i % SET)) as u32;
                let writes = wgpu::ComputePassTimestampWrites {
                    query_set: &query_sets[i / SET],
                    beginning_of_pass_write_index: Some(first),
                    end_of_pass_write_index: Some(first + 1),
                };
                program.record(&mut encoder, std::iter::once(dispatch), Some(writes));
                encodings.push(began.elapsed());
            }
            encoders.push((encoder, share));
        }
        let (mut encoder, share) = encoders.pop().unwrap_or_else(|| (new_encoder(), 0.0));
        for (i, set) in query_sets.iter().enumerate() {
            let count = (order.len() - i * SET).min(SET) as u32;
            encoder.resolve_query_set(set, 0..2 * count, &resolved, (i * SET * 16) as u64);
        }
        if !order.is_empty() {
            encoder.copy_buffer_to_buffer(&resolved, 0, &read.raw, 0, 16 * order.len() as u64);
        }
        // wgpu encodes all passes here.
        let began = Instant::now();
        let finish = |(encoder, share): (wgpu::CommandEncoder, f64)| Commands { raw: encoder.finish(), share };
        let commands = encoders.into_iter().chain([(encoder, share)]).map(finish).collect();
        let each = began.elapsed() / order.len().max(1) as u32;
        encodings.iter_mut().for_each(|time| *time += each);
        let start = Instant::now();
        self.submit_commands(&[program], commands, uniforms)?;
        let submitting = start.elapsed();
        self.wait().await?;
        let wall = start.elapsed();

        let words = self.read(&[(&read, 0, read.len())]).await?.swap_remove(0);
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&words[..4 * order.len()]);
        let period = self.timestamp_period();
        let Some(spans) = spans(&ticks, period, wall) else { return Ok(None) };
        let stamps = order.into_iter().zip(spans).zip(encodings);
        let stamps = stamps.map(|((dispatch, [start, end]), encoding)| Stamp { dispatch, start, end, encoding });
        let stamps = stamps.collect();
        Ok(Some(Timeline { clock: Clock::Device, stamps, submitting, wall }))
    }

    /// By the CPU's clock.
    async fn timed(&self, program: &Program, times: u32, uniforms: &[u32; 16]) -> Result<Timeline> {
        let mut stamps = vec![];
        let mut submitting = Duration::ZERO;
        let start = Instant::now();
        for dispatch in program.order(0..program.len(), times)? {
            let began = start.elapsed();
            let mut encoder = self.inner.device.create_command_encoder(&Default::default());
            program.record(&mut encoder, std::iter::once(dispatch), None);
            let commands = Commands { raw: encoder.finish(), share: 0.0 };
            let encoded = start.elapsed();
            self.submit_commands(&[program], vec![commands], uniforms)?;
            submitting += start.elapsed() - encoded;
            self.wait().await?;
            let [from, to] = [encoded, start.elapsed()].map(|time| time.as_nanos() as u64);
            stamps.push(Stamp { dispatch, start: from, end: to, encoding: encoded - began });
        }
        Ok(Timeline { clock: Clock::Wall, stamps, submitting, wall: start.elapsed() })
    }
}

/// Start and end of each dispatch in nanoseconds since the first one's start, from pairs of ticks of `period` nanoseconds;
/// `None` where they are zero, run backwards, stand still, or span more time than has passed.
fn spans(ticks: &[u64], period: f64, wall: Duration) -> Option<Vec<[u64; 2]>> {
    let Some(&origin) = ticks.first() else { return Some(vec![]) };
    let last = *ticks.iter().max()?;
    if ticks.contains(&0) || ticks.chunks(2).any(|pair| pair[0] > pair[1]) || ticks.iter().any(|&tick| tick < origin) {
        return None;
    }
    let nanoseconds = |tick: u64| (tick - origin) as f64 * period;
    let (factor, constant) = DRIFT;
    if last == origin || nanoseconds(last) > factor * wall.as_nanos() as f64 + constant {
        return None;
    }
    Some(ticks.chunks_exact(2).map(|pair| [pair[0], pair[1]].map(|tick| nanoseconds(tick) as u64)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: Duration = Duration::from_micros(100);

    #[test]
    fn ticks_become_nanoseconds_since_the_first() {
        assert_eq!(spans(&[100, 110, 120, 150], 2.0, WALL), Some(vec![[0, 20], [40, 100]]));
        assert_eq!(spans(&[], 2.0, WALL), Some(vec![]));
    }

    #[test]
    fn timestamps_of_no_use_are_refused() {
        for (ticks, why) in [
            ([0, 0, 0, 0], "none are written"),
            ([100, 110, 0, 0], "some are not written"),
            ([100, 110, 150, 120], "an end before its start"),
            ([100, 110, 90, 120], "a start before the first"),
            ([100, 100, 100, 100], "the clock stands still"),
            ([100, 110, 120, 100 + 2_000_000], "more time than has passed"),
        ] {
            assert_eq!(spans(&ticks, 1.0, WALL), None, "{why}");
        }
    }
}
