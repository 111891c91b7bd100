//! The `music` module: MIDI files to rolls, corpora and batches, and back.

mod batch;
mod corpus;
mod hostile;
mod midi;
mod odd;
mod odd_corpora;
mod roll;

/// Hand-made MIDI files, byte by byte.
mod file {
    /// A file of `format` with `division` and the bodies of its tracks.
    pub fn midi(format: u8, division: u16, tracks: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = b"MThd\0\0\0\x06\0".to_vec();
        bytes.push(format);
        bytes.extend((tracks.len() as u16).to_be_bytes());
        bytes.extend(division.to_be_bytes());
        for track in tracks {
            bytes.extend(b"MTrk");
            bytes.extend((track.len() as u32).to_be_bytes());
            bytes.extend(track);
        }
        bytes
    }

    /// A track of `(delta, bytes of the event)`, with its end `rest` ticks after the last.
    pub fn track(events: &[(u32, &[u8])], rest: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        for &(delta, event) in events.iter().chain([&(rest, &[0xff, 0x2f, 0][..])]) {
            for shift in [21, 14, 7] {
                if delta >> shift > 0 {
                    bytes.push(0x80 | (delta >> shift & 0x7f) as u8);
                }
            }
            bytes.push((delta & 0x7f) as u8);
            bytes.extend(event);
        }
        bytes
    }
}
