//! The driver's compiled pipelines, kept between runs in the user's cache folder.
//!
//! A cache saves time and nothing else, so whatever goes wrong with it is passed over.

use std::io::Write;
use std::path::{Path, PathBuf};

/// Where the pipelines of the driver with this key are kept, if the user has a cache folder.
pub(super) fn path(key: &str) -> Option<PathBuf> {
    Some(super::cache_folder()?.join("pipelines").join(key))
}

/// The driver's data in the file at `path`, if it is whole. A driver may trust what it is given, so a damaged file must
/// not reach it.
pub(super) fn load(path: &Path) -> Option<Vec<u8>> {
    let mut data = std::fs::read(path).ok()?;
    let checksum = data.split_off(data.len().checked_sub(4)?);
    (checksum == crc32c::crc32c(&data).to_le_bytes()).then_some(data)
}

/// Replaces the file at `path` by the driver's `data`, at once: another process reads the old file or the new one.
pub(super) fn save(path: &Path, data: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new(""));
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(data)?;
    file.write_all(&crc32c::crc32c(data).to_le_bytes())?;
    file.persist(path)?;
    Ok(())
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
            save(&path, data).unwrap();
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
