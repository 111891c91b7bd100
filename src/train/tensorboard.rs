//! Scalars as TensorBoard reads them: a file of TFRecords, each a protobuf `Event`
//! (<https://github.com/tensorflow/tensorboard>, `tensorboard/compat/proto/event.proto` and `summary.proto`).
//!
//! The few messages needed are encoded by hand: fields are (number << 3 | wire type), then a varint (type 0), 8 bytes
//! (1), a varint length with bytes (2), or 4 bytes (5).

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use web_time::SystemTime;

use crate::Result;
use crate::checkpoint::refused;

/// The part of the name by which files of this program are told from others.
const MARK: &str = ".deepj.";
const PREFIX: &str = "events.out.tfevents.";

/// An open event file.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Begins a file in `folder` for a run that goes on after `step`; a new run removes those of the run it replaces.
    /// TensorBoard then forgets what earlier files of the folder say about later steps.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn create(folder: &Path, step: u64) -> Result<Self> {
        if step == 0 {
            remove_old(folder)?;
        }
        let path = folder.join(format!("{PREFIX}{}{MARK}{step}", now() as u64));
        let file = File::create(&path).map_err(|e| refused(&path, "written", &e))?;
        let mut events = Self { path, file };
        events.push(0, &length_delimited(3, b"brain.Event:2"))?;
        // SessionLog { status: START } is what makes TensorBoard forget.
        events.push(step, &length_delimited(7, &[1 << 3, 1]))?;
        Ok(events)
    }

    /// Writes scalars of one step.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn scalars(&mut self, step: u64, scalars: &[(&str, f64)]) -> Result<()> {
        let mut summary = vec![];
        for (tag, value) in scalars {
            let mut entry = length_delimited(1, tag.as_bytes());
            entry.push(2 << 3 | 5);
            entry.extend((*value as f32).to_le_bytes());
            summary.extend(length_delimited(1, &entry));
        }
        self.push(step, &length_delimited(5, &summary))
    }

    /// Writes `Event { wall_time, step, <what> }` as one TFRecord: length, its checksum, data, their checksum.
    fn push(&mut self, step: u64, what: &[u8]) -> Result<()> {
        let mut event = vec![1 << 3 | 1];
        event.extend(now().to_le_bytes());
        event.push(2 << 3);
        varint(&mut event, step);
        event.extend(what);
        let length = (event.len() as u64).to_le_bytes();
        let mut record = length.to_vec();
        record.extend(masked_crc(&length).to_le_bytes());
        record.extend(&event);
        record.extend(masked_crc(&event).to_le_bytes());
        self.file.write_all(&record).map_err(|e| refused(&self.path, "written", &e))
    }
}

fn remove_old(folder: &Path) -> Result<()> {
    let entries = std::fs::read_dir(folder).map_err(|e| refused(folder, "read", &e))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(PREFIX) && name.contains(MARK) {
            std::fs::remove_file(entry.path()).map_err(|e| refused(&entry.path(), "removed", &e))?;
        }
    }
    Ok(())
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |t| t.as_secs_f64())
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn length_delimited(field: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![field << 3 | 2];
    varint(&mut out, bytes.len() as u64);
    out.extend(bytes);
    out
}

/// CRC-32C, rotated and shifted as TFRecords want it.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message as (field, wire type, value or bytes).
    fn fields(mut bytes: &[u8]) -> Vec<(u64, u64, Vec<u8>)> {
        fn read_varint(bytes: &mut &[u8]) -> u64 {
            let (mut value, mut shift) = (0, 0);
            loop {
                let byte = bytes[0];
                *bytes = &bytes[1..];
                value |= u64::from(byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    return value;
                }
            }
        }
        let mut found = vec![];
        while !bytes.is_empty() {
            let key = read_varint(&mut bytes);
            let len = match key & 7 {
                0 => {
                    let value = read_varint(&mut bytes);
                    found.push((key >> 3, 0, value.to_le_bytes().to_vec()));
                    continue;
                }
                1 => 8,
                2 => read_varint(&mut bytes) as usize,
                5 => 4,
                other => panic!("wire type {other}"),
            };
            found.push((key >> 3, key & 7, bytes[..len].to_vec()));
            bytes = &bytes[len..];
        }
        found
    }

    /// The events of a file, checksums verified.
    fn records(bytes: &[u8]) -> Vec<Vec<u8>> {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let (mut at, mut found) = (0, vec![]);
        while at < bytes.len() {
            let len = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
            assert_eq!(word(at + 8), masked_crc(&bytes[at..at + 8]));
            let data = &bytes[at + 12..at + 12 + len];
            assert_eq!(word(at + 12 + len), masked_crc(data));
            found.push(data.to_vec());
            at += 16 + len;
        }
        found
    }

    #[test]
    fn scalars_read_back() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("events.out.tfevents.1.deepj.0"), b"old").unwrap();
        let mut file = EventFile::create(folder.path(), 0).unwrap();
        file.scalars(300, &[("train/loss", 0.25), ("train/play", -3.5)]).unwrap();
        let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().collect();
        assert_eq!(files.len(), 1, "the old run's file is removed");
        let events = records(&std::fs::read(files[0].path()).unwrap());
        assert_eq!(events.len(), 3);
        assert_eq!(fields(&events[0])[2], (3, 2, b"brain.Event:2".to_vec()));
        let scalars = fields(&events[2]);
        assert_eq!(scalars[0].0, 1, "wall time");
        assert_eq!(scalars[1], (2, 0, 300u64.to_le_bytes().to_vec()), "step");
        assert_eq!((scalars[2].0, scalars[2].1), (5, 2), "summary");
        let values: Vec<(String, f32)> = fields(&scalars[2].2)
            .iter()
            .map(|(_, _, value)| {
                let value = fields(value);
                assert_eq!((value[0].0, value[1].0, value[1].1), (1, 2, 5));
                (
                    String::from_utf8(value[0].2.clone()).unwrap(),
                    f32::from_le_bytes(value[1].2.clone().try_into().unwrap()),
                )
            })
            .collect();
        assert_eq!(values, [("train/loss".into(), 0.25), ("train/play".into(), -3.5)]);
    }

    /// The check value of CRC-32C for `123456789`, masked.
    #[test]
    fn the_checksum_is_castagnolis_masked() {
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(masked_crc(b"123456789"), 0xc78a_b0e5);
    }
}
