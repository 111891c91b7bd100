//! Scalars as TensorBoard reads them: a file of TFRecords, each a protobuf `Event`
//! (<https://github.com/tensorflow/tensorboard>, `tensorboard/compat/proto/event.proto` and `summary.proto`).
//!
//! The few messages needed are encoded by hand: fields are (number << 3 | wire type), then a varint (type 0), 8 bytes
//! (1), a varint length with bytes (2), or 4 bytes (5).

use super::run_files::RunFiles;
use crate::Result;
use crate::calendar::since_1970;

/// The part of the name by which files of this program are told from others.
const MARK: &str = ".deepj.";
const PREFIX: &str = "events.out.tfevents.";

/// Whether a file of this name is one of ours.
pub fn is_event_file(name: &str) -> bool {
    name.starts_with(PREFIX) && name.contains(MARK)
}

/// An event file that is appended to.
#[derive(Debug)]
pub struct EventFile {
    name: String,
}

impl EventFile {
    /// Begins a file for a run that goes on after `step`. TensorBoard then forgets what earlier files of the folder say about
    /// later updates.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn create(files: &mut dyn RunFiles, step: u64) -> Result<Self> {
        let events = Self { name: format!("{PREFIX}{}{MARK}{step}", since_1970().as_secs()) };
        files.write(&events.name, &[])?;
        events.push(files, 0, &length_delimited(3, b"brain.Event:2"))?;
        // SessionLog { status: START } is what makes TensorBoard forget, from its own step on.
        let next = if step == 0 { 0 } else { step + 1 };
        events.push(files, next, &length_delimited(7, &[1 << 3, 1]))?;
        Ok(events)
    }

    /// Writes scalars of one update.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn scalars(&self, files: &mut dyn RunFiles, step: u64, scalars: &[(String, f64)]) -> Result<()> {
        let mut summary = vec![];
        for (tag, value) in scalars {
            let mut entry = length_delimited(1, tag.as_bytes());
            entry.push(2 << 3 | 5);
            entry.extend((*value as f32).to_le_bytes());
            summary.extend(length_delimited(1, &entry));
        }
        self.push(files, step, &length_delimited(5, &summary))
    }

    /// Writes `Event { wall_time, step, <what> }` as one TFRecord: length, its checksum, data, their checksum.
    fn push(&self, files: &mut dyn RunFiles, step: u64, what: &[u8]) -> Result<()> {
        let mut event = vec![1 << 3 | 1];
        event.extend(since_1970().as_secs_f64().to_le_bytes());
        event.push(2 << 3);
        varint(&mut event, step);
        event.extend(what);
        let length = (event.len() as u64).to_le_bytes();
        let mut record = length.to_vec();
        record.extend(masked_crc(&length).to_le_bytes());
        record.extend(&event);
        record.extend(masked_crc(&event).to_le_bytes());
        files.append(&self.name, &record)
    }
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
    use crate::train::run_files::Memory;

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
        let mut files = Memory::default();
        let file = EventFile::create(&mut files, 0).unwrap();
        file.scalars(&mut files, 300, &[("train/loss".into(), 0.25), ("train/play".into(), -3.5)]).unwrap();
        let names = files.names().unwrap();
        assert!(
            names.len() == 1 && is_event_file(&names[0]) && !is_event_file("events.out.tfevents.1.other"),
            "{names:?}"
        );
        let events = records(&files.read(&names[0]).unwrap().unwrap());
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

    /// TensorBoard forgets what has the marker's step or a later one, so the marker must not have that of the last update.
    #[test]
    fn a_run_that_goes_on_keeps_every_update() {
        for (step, marker) in [(0u64, 0u64), (7, 8)] {
            let mut files = Memory::default();
            EventFile::create(&mut files, step).unwrap();
            let names = files.names().unwrap();
            let events = records(&files.read(&names[0]).unwrap().unwrap());
            assert_eq!(fields(&events[1])[1], (2, 0, marker.to_le_bytes().to_vec()));
        }
    }

    /// The check value of CRC-32C for `123456789`, masked.
    #[test]
    fn the_checksum_is_castagnolis_masked() {
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(masked_crc(b"123456789"), 0xc78a_b0e5);
    }
}
