//! What the fuzz targets share: a limit on memory.

use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Runs `work`, which may hold at most `most` bytes at a time beside those that were allocated before.
///
/// # Panics
/// It held more.
pub fn within<T>(most: usize, work: impl FnOnce() -> T) -> T {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let result = work();
    let held = MEMORY.peak_usage().saturating_sub(before);
    assert!(held <= most, "{held} bytes were allocated at a time, more than {most}");
    result
}
