//! The driver's compiled pipelines, kept between runs in the user's cache folder.
//!
//! A cache saves time and nothing else, so whatever goes wrong with it is ignored.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Result;
use crate::files::{make_folder, write_whole};

/// The pipelines that the driver has compiled on one device.
pub(super) struct PipelineCache {
    /// What wgpu takes and adds to.
    pub raw: wgpu::PipelineCache,
    path: PathBuf,
    /// Whether pipelines were compiled that the file may lack.
    grown: AtomicBool,
}

impl PipelineCache {
    /// What earlier runs kept; `None` where the driver keeps nothing, or the user has no cache folder.
    pub fn open(adapter: &wgpu::Adapter, device: &wgpu::Device) -> Option<Self> {
        if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let path = path(&wgpu::util::pipeline_cache_key(&adapter.get_info())?)?;
        let data = load(&path);
        let description = wgpu::PipelineCacheDescriptor { label: None, data: data.as_deref(), fallback: true };
        // SAFETY: the data came from `get_data`, as far as its checksum tells; wgpu and the driver refuse data of another
        // version or device.
        let raw = unsafe { device.create_pipeline_cache(&description) };
        Some(Self { raw, path, grown: false.into() })
    }

    /// A pipeline was compiled.
    pub fn grow(&self) {
        self.grown.store(true, Ordering::Relaxed);
    }

    /// Writes the file, if it may lack something.
    pub fn save(&self) {
        if self.grown.swap(false, Ordering::Relaxed)
            && let Some(data) = self.raw.get_data()
        {
            // Nothing depends on it, see above.
            let _ = save(&self.path, data);
        }
    }
}

/// Where the pipelines of the driver with this key are kept, if the user has a cache folder.
fn path(key: &str) -> Option<PathBuf> {
    Some(super::cache_folder()?.join("pipelines").join(key))
}

/// The driver's data in the file at `path`, if it is intact. A driver may trust its input, so a damaged file must not reach
/// it.
fn load(path: &Path) -> Option<Vec<u8>> {
    let mut data = std::fs::read(path).ok()?;
    let checksum = data.split_off(data.len().checked_sub(4)?);
    (checksum == crc32c::crc32c(&data).to_le_bytes()).then_some(data)
}

/// Replaces the file at `path` by the driver's `data`, at once: another process reads the old file or the new one.
fn save(path: &Path, mut data: Vec<u8>) -> Result<()> {
    data.extend(crc32c::crc32c(&data).to_le_bytes());
    make_folder(path.parent().unwrap_or(Path::new("")))?;
    write_whole(path, &data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded_and_damage_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipelines").join("key");
        assert_eq!(load(&path), None);
        for data in [&b"pipelines"[..], b"", b"newer pipelines"] {
            save(&path, data.to_vec()).unwrap();
            assert_eq!(load(&path).as_deref(), Some(data));
        }
        let whole = std::fs::read(&path).unwrap();
        for len in 0..whole.len() {
            std::fs::write(&path, &whole[..len]).unwrap();
            assert_eq!(load(&path), None, "cut to {len} bytes");
        }
        let mut flipped = whole.clone();
        flipped[3] ^= 1;
        std::fs::write(&path, flipped).unwrap();
        assert_eq!(load(&path), None);
    }
}
