//! Buffers on a device, and writing into them.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Gpu;
use super::check::bytes;
use crate::{Error, Result};

/// A buffer of f32 on a device, zero when made.
pub struct Buffer {
    /// Different for every buffer of the process.
    pub(super) id: u64,
    pub(super) raw: wgpu::Buffer,
    label: String,
    len: u64,
}

impl Buffer {
    /// Length in elements.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no element.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Elements from `start` on in bytes; an error says that one was `doing` that.
    pub(super) fn range(&self, start: u64, len: u64, doing: &str) -> Result<Range<u64>> {
        match start.checked_add(len) {
            Some(end) if end <= self.len => Ok(start * 4..end * 4),
            _ => Err(Error::device(
                format!("{doing} {len} elements at {start} of buffer `{}`, which has {}", self.label, self.len),
                "the range must lie inside the buffer",
            )),
        }
    }
}

impl Gpu {
    /// A buffer of `elements` zeros.
    ///
    /// # Errors
    /// More than the device allows or has left; the message says how much was asked for.
    pub async fn buffer(&self, label: &str, elements: u64) -> Result<Buffer> {
        // WebGPU has no empty bindings; one element makes an empty buffer harmless.
        let size = elements.max(1).saturating_mul(4);
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let raw = self.raw_buffer(label, size, usage).await?;
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Ok(Buffer { id: NEXT.fetch_add(1, Ordering::Relaxed), raw, label: label.into(), len: elements })
    }

    pub(super) async fn raw_buffer(&self, label: &str, size: u64, usage: wgpu::BufferUsages) -> Result<wgpu::Buffer> {
        let limit = self.capabilities.max_buffer_size;
        if size > limit {
            return Err(Error::device(
                format!("buffer `{label}` of {} is larger than the device allows, {}", bytes(size), bytes(limit)),
                "lower the batch or the sequence length, or use another device",
            ));
        }
        let asked = || format!("a buffer `{label}` of {}", bytes(size));
        let description = wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false };
        self.inner.faults.scoped(asked, || self.inner.device.create_buffer(&description)).await
    }

    /// Writes `data` into `buffer` from element `start` on, before anything submitted later runs.
    ///
    /// # Errors
    /// A range outside of the buffer, or a device that is lost or out of memory.
    pub fn write(&self, buffer: &Buffer, start: u64, data: &[f32]) -> Result<()> {
        let range = buffer.range(start, data.len() as u64, "cannot write")?;
        self.write_bytes(&buffer.raw, range.start, bytemuck::cast_slice(data));
        self.inner.faults.check(|| format!("writing {} to buffer `{}`", bytes(range.end - range.start), buffer.label))
    }

    pub(super) fn write_bytes(&self, buffer: &wgpu::Buffer, offset: u64, data: &[u8]) {
        self.inner.queue.write_buffer(buffer, offset, data);
    }
}
