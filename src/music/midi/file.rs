//! The bytes of a MIDI file as events in ticks.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, IsTerminal};
use std::path::Path;

use midly::num::u15;
use midly::{Fps, Timing};

use super::events::{EventKind, EventReader};
use super::tracks::{CHUNK_HEADER, HEADER, Track, TrackFinder};
use super::warnings::{Oddity, Warnings};
use crate::files::{LFS_POINTER, LFS_REMEDY, is_lfs_pointer, is_standard_stream, read_bounded, read_from};
use crate::{Error, Result};

/// The largest file that is read, in bytes; piano pieces take well under one MiB.
pub const MAX_BYTES: u64 = 16 << 20;

/// The content of a header chunk that is used: type, number of tracks, division.
const HEADER_CONTENT: usize = 6;

/// The ways in which bytes of a MIDI file begin: plain, or within a RIFF file.
const RIFF: &[u8] = b"RIFF";
const RIFF_MIDI: &[u8] = b"RMID";

/// The content of the file at `path`, if it is an ordinary file of at most [`MAX_BYTES`], or of standard input where `path` is
/// `-`.
pub(in crate::music) fn read_file(path: &Path) -> Result<Vec<u8>> {
    const REMEDY: &str = "give the path of a MIDI file, which takes well under 1 MiB, or - for standard input";
    if !is_standard_stream(path) {
        return read_bounded(path, MAX_BYTES, REMEDY);
    }
    if io::stdin().is_terminal() {
        return Err(Error::usage("standard input is a terminal", "redirect a MIDI file to it, or name one"));
    }
    read_from(io::stdin(), path, MAX_BYTES, REMEDY)
}

/// An event that matters here, at a tick of the file.
pub(super) struct Event {
    pub(super) tick: u64,
    pub(super) track: usize,
    pub(super) kind: EventKind,
}

/// What a file holds, in its own ticks. Events are read from the bytes whenever they are asked for: as a list they would
/// take many times the memory of the file.
pub(super) struct File<'a> {
    /// The file's type: 0, 1 or 2.
    pub(super) format: u8,
    pub(super) timing: Timing,
    pub(super) tracks: Vec<Track>,
    bytes: &'a [u8],
}

/// Whether `bytes`, the beginning of a file, are those of a MIDI file, whatever its name ends in.
pub(in crate::music) fn is_midi(bytes: &[u8]) -> bool {
    bytes.starts_with(HEADER) || bytes.starts_with(RIFF) && bytes.get(8..12) == Some(RIFF_MIDI)
}

impl<'a> File<'a> {
    /// Reads all of `bytes` once, so that nothing can go wrong later. The second result is what is odd about them.
    pub(super) fn parse(name: &Path, bytes: &'a [u8]) -> Result<(Self, Warnings)> {
        let broken = |what: String| Error::file(name, what, "the file is damaged or was cut off; fetch it again");
        if bytes.is_empty() {
            return Err(broken("is empty (0 bytes)".into()));
        }
        if is_lfs_pointer(bytes) {
            return Err(Error::file(name, LFS_POINTER, LFS_REMEDY));
        }
        if !HEADER.starts_with(&bytes[..bytes.len().min(HEADER.len())]) && !bytes.starts_with(RIFF) {
            return Err(Error::file(
                name,
                "is not a MIDI file (it does not begin with MThd)",
                "give a Standard MIDI File, whatever its name ends in",
            ));
        }
        let mut warnings = Warnings::default();
        let (start, bytes) = unwrap(bytes, &mut warnings).map_err(broken)?;
        let Header { format, announced, timing, end } = Header::parse(bytes, start).map_err(broken)?;
        let sequential = format == 2;
        let mut finder = TrackFinder { bytes, announced, sequential, tracks: Vec::new(), warnings };
        finder.search(end).map_err(broken)?;
        let TrackFinder { tracks, mut warnings, .. } = finder;
        if format == 0 && tracks.len() > 1 {
            let text = || format!("a file of type 0 has one track, but {} are there; they play together", tracks.len());
            warnings.add(Oddity::TrackCount, text);
        }
        Ok((Self { format, timing, tracks, bytes }, warnings))
    }

    /// All events, ordered by tick; those of one tick in the file's order.
    pub(super) fn events(&self) -> Events<'_> {
        let cursor = |track: &Track| Cursor {
            reader: EventReader::new(&self.bytes[..track.end], track.start, track.offset),
            next: None,
        };
        let mut events = Events { cursors: self.tracks.iter().map(cursor).collect(), order: BinaryHeap::new() };
        for track in 0..events.cursors.len() {
            let tick = events.cursors[track].advance();
            events.order.extend(tick.map(|tick| Reverse((tick, track))));
        }
        events
    }
}

/// The events of all tracks, merged.
pub(super) struct Events<'a> {
    cursors: Vec<Cursor<'a>>,
    /// Tick of the next event and number of the track, for each track that is not at its end. So events of one tick come in the
    /// file's order.
    order: BinaryHeap<Reverse<(u64, usize)>>,
}

struct Cursor<'a> {
    reader: EventReader<'a>,
    next: Option<EventKind>,
}

impl Cursor<'_> {
    /// Goes to the next event that matters and returns its tick, unless the track is at its end.
    fn advance(&mut self) -> Option<u64> {
        if self.next == Some(EventKind::TrackEnd) {
            return None;
        }
        // What cannot be read, or is not there, is the end of a track that lacks its end-of-track event.
        self.next = loop {
            match self.reader.next() {
                Ok(event) if event.kind.is_none() => {}
                Ok(event) => break event.kind,
                Err(_) => break Some(EventKind::TrackEnd),
            }
        };
        Some(self.reader.tick)
    }
}

impl Iterator for Events<'_> {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let mut first = self.order.peek_mut()?;
        let Reverse((tick, track)) = *first;
        let cursor = &mut self.cursors[track];
        let kind = cursor.next?;
        match cursor.advance() {
            Some(next) => *first = Reverse((next, track)),
            None => drop(std::collections::binary_heap::PeekMut::pop(first)),
        }
        Some(Event { tick, track, kind })
    }
}

/// What the header chunk says.
struct Header {
    format: u8,
    announced: usize,
    timing: Timing,
    /// The byte after it.
    end: usize,
}

impl Header {
    /// Reads the header chunk at byte `start`.
    fn parse(bytes: &[u8], start: usize) -> std::result::Result<Self, String> {
        let rest = &bytes[start..];
        let there = rest.len();
        let Some(&[_, _, _, _, l0, l1, l2, l3, f0, f1, t0, t1, d0, d1]) = rest.first_chunk() else {
            return Err(format!("has a damaged header: it has {there} bytes, at least 14 are needed"));
        };
        if !rest.starts_with(HEADER) {
            return Err(format!("has a damaged header: no MThd at byte {start}"));
        }
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        if length < HEADER_CONTENT || length > there - CHUNK_HEADER {
            let place = start + 4;
            return Err(format!("has a damaged header: its length (byte {place}) is {length}, but should be 6"));
        }
        let format = u16::from_be_bytes([f0, f1]);
        if format > 2 {
            return Err(format!(
                "has a damaged header: its type (byte {}) is {format}, but should be 0, 1 or 2",
                start + 8
            ));
        }
        let division = u16::from_be_bytes([d0, d1]);
        let timing = if division < 0x8000 {
            Timing::Metrical(u15::new(division))
        } else {
            let frames = d0.wrapping_neg();
            let fps = Fps::from_int(frames).ok_or_else(|| {
                format!(
                    "has a damaged header: {frames} frames a second (byte {}), but 24, 25, 29 or 30 exist",
                    start + 12
                )
            })?;
            Timing::Timecode(fps, d1)
        };
        let announced = usize::from(u16::from_be_bytes([t0, t1]));
        Ok(Self { format: format as u8, announced, timing, end: start + CHUNK_HEADER + length })
    }
}

/// Where the MIDI data of `bytes` begins, and `bytes` to where it ends; these are a part if it stands in a RIFF file.
fn unwrap<'a>(bytes: &'a [u8], warnings: &mut Warnings) -> std::result::Result<(usize, &'a [u8]), String> {
    if !bytes.starts_with(RIFF) {
        return Ok((0, bytes));
    }
    if bytes.get(8..12) != Some(RIFF_MIDI) {
        return Err("is a RIFF file, but does not hold MIDI (no RMID at byte 8)".into());
    }
    let [announced, there] = [u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) as usize, bytes.len() - 8];
    if announced != there && announced + announced % 2 != there {
        let text = || format!("its RIFF wrapper (byte 0) announces {announced} bytes, {there} are there");
        warnings.add(Oddity::Wrapper, text);
    }
    let mut at = 12;
    while let Some(&[a, b, c, d, l0, l1, l2, l3]) = bytes[at.min(bytes.len())..].first_chunk() {
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let start = at + 8;
        if &[a, b, c, d] == b"data" {
            let there = bytes.len() - start;
            if length > there {
                let text =
                    || format!("its RIFF wrapper (byte {at}) announces {length} bytes of MIDI, {there} are there");
                warnings.add(Oddity::Wrapper, text);
            }
            return Ok((start, &bytes[..start + length.min(there)]));
        }
        at = start.saturating_add(length).saturating_add(length % 2); // chunks begin at even bytes
    }
    Err("is a RIFF file without MIDI data (no chunk `data`)".into())
}
