//! Reading back: a copy into a buffer that the host can map, and the wait for it.

use std::sync::Arc;

use super::check::bytes;
use super::wait::Signal;
use super::{Buffer, Gpu};
use crate::{Error, Result};

/// Staging buffers that are kept: enough for two small reads in flight beside a large one.
const MOST_STAGING: usize = 3;

/// A read that was submitted and not yet waited for: [`Gpu::begin_read`] makes it, [`Gpu::finish_read`] takes it. Dropping it
/// is harmless and discards the values.
pub struct PendingRead {
    /// Bytes of each part.
    sizes: Vec<u64>,
    /// None where there is nothing to read.
    copy: Option<PendingCopy>,
}

struct PendingCopy {
    staging: wgpu::Buffer,
    submission: wgpu::SubmissionIndex,
    /// Set when `staging` is mapped, or cannot be mapped and why.
    mapped: Arc<Signal<std::result::Result<(), String>>>,
}

fn reading_back(size: u64) -> String {
    format!("reading {} back", bytes(size))
}

impl Gpu {
    /// Reads `(buffer, start, elements)` each, after all that was submitted, with one copy and one map for all:
    /// [`Gpu::begin_read`] and [`Gpu::finish_read`] in a row.
    ///
    /// # Errors
    /// A range outside of its buffer, more in all than one buffer may hold, or a device that is lost or out of memory.
    pub async fn read(&self, parts: &[(&Buffer, u64, u64)]) -> Result<Vec<Vec<f32>>> {
        let pending = self.begin_read(parts).await?;
        self.finish_read(pending).await
    }

    /// Submits the copy of `(buffer, start, elements)` each, as they are after all that was submitted so far, and does not wait
    /// for it. What is submitted later does not change what is read. Several reads may be pending at once.
    ///
    /// # Errors
    /// A range outside of its buffer, more in all than one buffer may hold, or a device that is lost or out of memory.
    pub async fn begin_read(&self, parts: &[(&Buffer, u64, u64)]) -> Result<PendingRead> {
        let ranges: Vec<_> = parts
            .iter()
            .map(|(buffer, start, len)| buffer.range(*start, *len, "cannot read"))
            .collect::<Result<_>>()?;
        let sizes: Vec<_> = ranges.iter().map(|range| range.end - range.start).collect();
        let size = sizes.iter().sum::<u64>();
        if size == 0 {
            return Ok(PendingRead { sizes, copy: None });
        }
        let asked = || reading_back(size);
        self.inner.faults.check(asked)?;

        let staging = match self.take_staging(size) {
            Some(staging) => staging,
            None => {
                let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
                self.raw_buffer("read back", size, usage).await?
            }
        };
        let mut encoder = self.inner.device.create_command_encoder(&Default::default());
        let mut offset = 0;
        for ((buffer, ..), range) in parts.iter().zip(&ranges) {
            let len = range.end - range.start;
            if len > 0 {
                encoder.copy_buffer_to_buffer(&buffer.raw, range.start, &staging, offset, len);
            }
            offset += len;
        }
        let submission = self.submit_buffers([encoder.finish()]);
        let mapped = Arc::new(Signal::default());
        let signal = mapped.clone();
        staging.map_async(wgpu::MapMode::Read, ..size, move |result| {
            signal.set(result.map_err(|error| error.to_string()))
        });
        self.inner.faults.check(asked)?;
        Ok(PendingRead { sizes, copy: Some(PendingCopy { staging, submission, mapped }) })
    }

    /// Waits until what `pending` reads has arrived, and returns it: the elements of each part in the order in which
    /// [`Gpu::begin_read`] was given them. Does not wait for what was submitted after.
    ///
    /// # Errors
    /// A device that is lost or out of memory.
    pub async fn finish_read(&self, pending: PendingRead) -> Result<Vec<Vec<f32>>> {
        let PendingRead { sizes, copy } = pending;
        let Some(PendingCopy { staging, submission, mapped }) = copy else {
            return Ok(vec![Vec::new(); sizes.len()]);
        };
        let size = sizes.iter().sum::<u64>();
        let asked = || reading_back(size);
        let refused = |error: String| Error::device(format!("{}: {error}", asked()), "");
        let mapped = self.arrival(&mapped, Some(submission), asked).await?;
        // What became of the device says more than that a buffer cannot be mapped.
        self.inner.faults.check(asked)?;
        mapped.map_err(refused)?;

        let view = staging.get_mapped_range(..size).map_err(|error| refused(error.to_string()))?;
        let mut rest = &view[..];
        let mut results = Vec::with_capacity(sizes.len());
        for size in sizes {
            let (part, after) = rest.split_at(size as usize);
            results.push(bytemuck::pod_collect_to_vec(part));
            rest = after;
        }
        drop(view);
        staging.unmap();
        self.keep_staging(staging);
        Ok(results)
    }

    /// The smallest of the kept staging buffers that holds `size` bytes.
    fn take_staging(&self, size: u64) -> Option<wgpu::Buffer> {
        let mut kept = self.inner.staging.lock();
        let large = kept.iter().enumerate().filter(|(_, staging)| staging.size() >= size);
        let smallest = large.min_by_key(|(_, staging)| staging.size()).map(|(i, _)| i)?;
        Some(kept.remove(smallest))
    }

    /// Keeps a staging buffer for later reads, in place of the one that was unused for longest.
    fn keep_staging(&self, staging: wgpu::Buffer) {
        let mut kept = self.inner.staging.lock();
        kept.push(staging);
        if kept.len() > MOST_STAGING {
            kept.remove(0);
        }
    }
}
