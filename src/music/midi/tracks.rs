//! Where the tracks of a file lie. The length that a track announces is held against its end-of-track event, and what cannot
//! be both is either said, where only one of them can be true, or refused.

use std::ops::Range;

use super::events::{EventKind, EventReader, Odd, RawEvent, Stop};
use super::warnings::{Oddity, Warnings};

/// The most tracks that a header can count.
const MAX_TRACKS: usize = 0xffff;

/// The bytes before the content of a chunk: four of its type, four of its length.
pub(super) const CHUNK_HEADER: usize = 8;

pub(super) const HEADER: &[u8] = b"MThd";
const TRACK: &[u8] = b"MTrk";

/// A track whose events can all be read.
#[derive(Clone, Copy)]
pub(super) struct Track {
    /// The first byte of its events.
    pub(super) start: usize,
    /// The byte after its last event.
    pub(super) end: usize,
    /// The tick at which it begins.
    pub(super) offset: u64,
    /// The tick at which it ends.
    pub(super) end_tick: u64,
}

/// Looks for tracks.
pub(super) struct TrackFinder<'a> {
    /// The file up to where tracks can be.
    pub(super) bytes: &'a [u8],
    /// The tracks that the header announces.
    pub(super) announced: usize,
    /// Whether tracks follow one another in time.
    pub(super) sequential: bool,
    pub(super) tracks: Vec<Track>,
    pub(super) warnings: Warnings,
}

/// An error says what is wrong and at which byte.
type Outcome<T> = std::result::Result<T, String>;

impl<'a> TrackFinder<'a> {
    /// Finds all tracks from byte `at` on.
    pub(super) fn search(&mut self, mut at: usize) -> Outcome<()> {
        while at < self.bytes.len() {
            at = match chunk(self.bytes, at) {
                Some((TRACK, length)) if self.tracks.len() < MAX_TRACKS => self.track(at, length)?,
                Some((TRACK, _)) => return Err(format!("has more than {MAX_TRACKS} tracks, the next at byte {at}")),
                Some((kind, length)) => self.foreign(at, kind, length),
                None => self.no_chunk(at)?,
            };
        }
        let (found, announced) = (self.tracks.len(), self.announced);
        if found == 0 && announced > 0 {
            let end = self.bytes.len();
            return Err(format!("is cut off: it announces {announced} tracks and ends at byte {end} after 0"));
        }
        if found != announced {
            let text = || format!("the header announces {announced} tracks, but {found} are there");
            self.warnings.add(Oddity::TrackCount, text);
        }
        Ok(())
    }

    /// Reads the track whose chunk begins at byte `at`, and returns where the next chunk begins.
    fn track(&mut self, at: usize, length: usize) -> Outcome<usize> {
        let start = at + CHUNK_HEADER;
        let announced_end = start.saturating_add(length);
        let offset = self.tracks.last().filter(|_| self.sequential).map_or(0, |track| track.end_tick);
        let mut reader = EventReader::new(self.bytes, start, offset);
        let mut crossing = None;
        loop {
            let place = reader.at;
            if place == announced_end && self.end_or_chunk(place) || whole_track(self.bytes, place) {
                let number = self.tracks.len() + 1;
                let text = || format!("track {number} has no end-of-track event (it ends at byte {place})");
                self.warnings.add(Oddity::MissingEnd, text);
                break;
            }
            let event = reader.next().map_err(|stop| self.no_event(at, length, place, crossing, &stop))?;
            if place < announced_end && reader.at > announced_end {
                crossing = Some(place);
            }
            self.note(&event, place, reader.at);
            if event.kind == Some(EventKind::TrackEnd) {
                break;
            }
        }
        let next = self.next_chunk(at, announced_end, reader.at, crossing)?;
        self.tracks.push(Track { start, end: reader.at, offset, end_tick: reader.tick });
        Ok(next)
    }

    /// Where the next chunk begins after the track at byte `at` which ended at byte `end`.
    fn next_chunk(&mut self, at: usize, announced: usize, end: usize, crossing: Option<usize>) -> Outcome<usize> {
        let (start, number) = (at + CHUNK_HEADER, self.tracks.len() + 1);
        let (length, there) = (announced - start, end - start);
        if end == announced {
            return Ok(end);
        }
        // The end-of-track event is where the file or the track before another one ends, so the length is what is wrong. Else
        // there are two ends to choose from.
        let ends_well = end == self.bytes.len() || matches!(chunk(self.bytes, end), Some((TRACK, _)));
        let ends_well = ends_well || end > announced && self.end_or_chunk(end);
        if end > announced && !(ends_well && find_track(self.bytes, announced..end).is_none()) {
            return Err(match crossing {
                Some(place) => format!(
                    "is malformed: the event at byte {place} (track {number}) goes beyond its track, which ends at byte {announced}"
                ),
                None => format!(
                    "is malformed: track {number} (byte {at}) announces {length} bytes and does not end there, nor is a track's end \
                     what it has at byte {end}"
                ),
            });
        }
        if ends_well {
            let text = || format!("track {number} (byte {at}) announces {length} bytes, but has {there}");
            self.warnings.add(Oddity::TrackLength, text);
            return Ok(end);
        }
        let next = announced.min(self.bytes.len());
        let unread = next - end;
        let text = || {
            format!(
                "track {number} ends at byte {end}, but was to be longer: {unread} bytes after its end were left unread"
            )
        };
        self.warnings.add(Oddity::EarlyEnd, text);
        Ok(next)
    }

    /// Why the track at byte `at` has no event at byte `place`.
    fn no_event(&self, at: usize, length: usize, place: usize, crossing: Option<usize>, stop: &Stop) -> String {
        let (start, number, announced) = (at + CHUNK_HEADER, self.tracks.len() + 1, self.announced);
        let end = start.saturating_add(length);
        if stop.short && end > self.bytes.len() {
            let there = self.bytes.len() - start;
            return format!(
                "is cut off: the part at byte {at} (track {number} of {announced}) announces {length} bytes, {there} are there"
            );
        }
        if let Some(crossing) = crossing {
            return format!(
                "is malformed: the event at byte {crossing} (track {number}) goes beyond its track, which ends at byte {end}"
            );
        }
        let beyond = if place < end { String::new() } else { format!(", which does not end at byte {end}") };
        format!("is malformed: no MIDI event at byte {place} (track {number}{beyond}): {}", stop.why)
    }

    /// Takes note of what is odd about the event from byte `place` to byte `end`.
    fn note(&mut self, event: &RawEvent, place: usize, end: usize) {
        let last = end - 1;
        match event.odd {
            None => {}
            Some(Odd::RealTime { byte }) => self.warnings.add(Oddity::RealTime, || {
                format!("byte {last} is {byte}, a real-time message, which no file should hold; it was passed over")
            }),
            Some(Odd::DataByte { byte }) => self
                .warnings
                .add(Oddity::DataByte, || format!("byte {last} is {byte}, a value above 127; it was taken for 127")),
            Some(Odd::Tempo) => {
                self.warnings.add(Oddity::Tempo, || format!("the tempo at byte {place} is none; it was passed over"));
            }
            Some(Odd::Metre) => {
                let text = || format!("the time signature at byte {place} is none; it was passed over");
                self.warnings.add(Oddity::Metre, text);
            }
        }
    }

    /// Passes over a chunk that is no track, and returns where the next one begins.
    fn foreign(&mut self, at: usize, kind: &[u8], length: usize) -> usize {
        let end = at + CHUNK_HEADER + length;
        if kind == HEADER {
            let (file, unread) = (self.bytes.len(), self.bytes.len() - at);
            let text = || format!("another MIDI file begins at byte {at}; its {unread} bytes were left unread");
            self.warnings.add(Oddity::Unread, text);
            return file;
        }
        // A length that is too large must not hide a track.
        let missing = self.tracks.len() < self.announced;
        let next = find_track(self.bytes, at..end).filter(|_| missing).unwrap_or(end);
        let text = || {
            let kind = String::from_utf8_lossy(kind);
            format!("the chunk `{kind}` of {} bytes at byte {at} is no track; it was passed over", next - at)
        };
        self.warnings.add(Oddity::ForeignChunk, text);
        next
    }

    /// Goes on from byte `at`, where no chunk begins.
    fn no_chunk(&mut self, at: usize) -> Outcome<usize> {
        let (rest, number, announced) = (&self.bytes[at..], self.tracks.len() + 1, self.announced);
        let missing = number <= announced;
        if missing && (TRACK.starts_with(rest) || rest.starts_with(TRACK)) {
            let there = rest.len();
            return Err(format!("is cut off: track {number} of {announced} begins at byte {at} and has {there} bytes"));
        }
        let end = self.bytes.len();
        let next = find_track(self.bytes, at..end).filter(|_| missing).unwrap_or(end);
        let text = || format!("{} bytes from byte {at} on belong to no track; they were left unread", next - at);
        self.warnings.add(Oddity::Unread, text);
        Ok(next)
    }

    fn end_or_chunk(&self, at: usize) -> bool {
        at == self.bytes.len() || chunk(self.bytes, at).is_some()
    }
}

/// Type and length of the chunk at byte `at`. A track may announce any length, another chunk must end within the file.
fn chunk(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let header = bytes.get(at..)?.get(..CHUNK_HEADER)?;
    let (kind, length) = header.split_at(4);
    let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
    let named = kind.iter().all(|byte| (b' '..=b'~').contains(byte));
    (kind == TRACK || named && length <= bytes.len() - at - CHUNK_HEADER).then_some((kind, length))
}

/// Whether a track begins at byte `at` that can be as long as it says.
fn whole_track(bytes: &[u8], at: usize) -> bool {
    let fits = |(_, length)| length <= bytes.len() - at - CHUNK_HEADER;
    bytes[at..].starts_with(TRACK) && chunk(bytes, at).is_some_and(fits)
}

/// The first byte of `range` at which a track begins.
fn find_track(bytes: &[u8], range: Range<usize>) -> Option<usize> {
    range.into_iter().find(|&at| bytes[at..].starts_with(TRACK) && chunk(bytes, at).is_some())
}
