//! The bytes of a MIDI file as events in ticks. `midly` reads headers and events; the chunks are read here, since `midly`
//! quietly accepts a file that was cut off.

use std::path::Path;

use midly::{EventIter, MetaMessage, MidiMessage, Timing, TrackEventKind};

use crate::{Error, Result};

/// The largest file that is read, in bytes; piano pieces take well under one MiB.
pub const MAX_BYTES: u64 = 16 << 20;

const SUSTAIN_PEDAL: u8 = 64;
const ALL_SOUND_OFF: u8 = 120;
const ALL_NOTES_OFF: u8 = 123;

/// The content of the file at `path`, if it is an ordinary file of at most [`MAX_BYTES`].
pub(in crate::music) fn read_file(path: &Path) -> Result<Vec<u8>> {
    let unreadable =
        |e: std::io::Error| Error::file(path, format!("cannot be read: {e}"), "check the path and its rights");
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    // A pipe or a device could block for ever or never end.
    if !metadata.is_file() {
        return Err(Error::file(path, "is not an ordinary file", "give the path of a MIDI file"));
    }
    if metadata.len() > MAX_BYTES {
        return Err(Error::file(
            path,
            format!("has {} bytes, more than the {MAX_BYTES} that are read", metadata.len()),
            "give a MIDI file; piano pieces take well under 1 MiB",
        ));
    }
    std::fs::read(path).map_err(unreadable)
}

/// An event that matters here, at a tick of the file.
pub(super) struct Event {
    pub(super) tick: u64,
    pub(super) track: usize,
    pub(super) kind: EventKind,
}

/// What happens at an event.
pub(super) enum EventKind {
    On { channel: u8, pitch: u8, velocity: u8 },
    Off { channel: u8, pitch: u8 },
    Pedal { channel: u8, down: bool },
    Silence { channel: u8 },
    Tempo(u32),
    Metre { numerator: u8, denominator: u8 },
    TrackEnd,
}

/// What a file holds, in its own ticks.
pub(super) struct File {
    /// The file's type: 0, 1 or 2.
    pub(super) format: u8,
    pub(super) timing: Timing,
    /// The number of tracks.
    pub(super) tracks: usize,
    /// Ordered by tick; those of one tick in the file's order.
    pub(super) events: Vec<Event>,
}

impl File {
    pub(super) fn parse(name: &Path, bytes: &[u8]) -> Result<Self> {
        let broken = |what: String| Error::file(name, what, "the file is damaged or was cut off; fetch it again");
        if bytes.is_empty() {
            return Err(broken("is empty (0 bytes)".into()));
        }
        if !b"MThd".starts_with(&bytes[..bytes.len().min(4)]) && !bytes.starts_with(b"RIFF") {
            return Err(Error::file(
                name,
                "is not a MIDI file (it does not begin with MThd)",
                "give a Standard MIDI File, whatever its name ends in",
            ));
        }
        let (header, chunks) = midly::parse(bytes).map_err(|e| broken(format!("has a damaged header: {e}")))?;
        let announced = chunks.size_hint().0;
        let mut rest = chunks.unread();
        // `rest` is a part of `bytes`, also where the file stands in a RIFF wrapper.
        let place = |part: &[u8]| part.as_ptr() as usize - bytes.as_ptr() as usize;

        let sequential = header.format == midly::Format::Sequential;
        let (mut tracks, mut events, mut offset) = (0, Vec::new(), 0);
        while !rest.is_empty() {
            if rest.len() < 8 || (tracks == announced && !rest.starts_with(b"MTrk")) {
                break; // a cut-off chunk header is found by the count of tracks below
            }
            let at = place(rest);
            let length = u32::from_be_bytes([rest[4], rest[5], rest[6], rest[7]]) as usize;
            let (kind, body) = (&rest[..4], &rest[8..]);
            if length > body.len() {
                return Err(broken(format!(
                    "is cut off: the part at byte {at} (track {} of {announced}) announces {length} bytes, {} are there",
                    tracks + 1,
                    body.len()
                )));
            }
            if kind == b"MTrk" {
                let end = read_track(&body[..length], tracks, offset, &mut events).map_err(|stop| {
                    broken(format!("is malformed: no MIDI event at byte {} (track {})", place(stop), tracks + 1))
                })?;
                if sequential {
                    offset = end;
                }
                tracks += 1;
            }
            rest = &body[length..];
        }
        if tracks < announced {
            let end = bytes.len();
            return Err(broken(format!(
                "is cut off: it announces {announced} tracks and ends at byte {end} after {tracks}"
            )));
        }
        let format = match header.format {
            midly::Format::SingleTrack => 0,
            midly::Format::Parallel => 1,
            midly::Format::Sequential => 2,
        };
        events.sort_by_key(|event| event.tick); // stable: events of one tick keep the file's order
        Ok(Self { format, timing: header.timing, tracks, events })
    }
}

/// Appends the events of one track that begins at tick `offset`, and returns the tick at which it ends. The error is the
/// part of the track at which reading stopped.
fn read_track<'a>(
    bytes: &'a [u8],
    track: usize,
    offset: u64,
    events: &mut Vec<Event>,
) -> std::result::Result<u64, &'a [u8]> {
    let mut iter = EventIter::new(bytes);
    let mut tick = offset;
    let mut status = None;
    loop {
        let unread = iter.unread();
        if unread.is_empty() {
            break;
        }
        // Without its `strict` feature midly ends the iteration at a malformed event.
        let Some(Ok(event)) = iter.next() else { return Err(unread) };
        match iter.running_status() {
            Some(_) => status = iter.running_status(),
            None => *iter.running_status_mut() = status,
        }
        // At most MAX_BYTES events of less than 2^28 ticks each: no overflow.
        tick += u64::from(event.delta.as_int());
        let kind = match event.kind {
            TrackEventKind::Midi { channel, message } => channel_event(channel.as_int(), message),
            TrackEventKind::Meta(MetaMessage::Tempo(tempo)) if tempo.as_int() > 0 => {
                Some(EventKind::Tempo(tempo.as_int()))
            }
            TrackEventKind::Meta(MetaMessage::TimeSignature(numerator, exponent, ..))
                if numerator > 0 && exponent <= 6 =>
            {
                Some(EventKind::Metre { numerator, denominator: 1 << exponent })
            }
            TrackEventKind::Meta(MetaMessage::EndOfTrack) => break,
            _ => None,
        };
        events.extend(kind.map(|kind| Event { tick, track, kind }));
    }
    events.push(Event { tick, track, kind: EventKind::TrackEnd });
    Ok(tick)
}

fn channel_event(channel: u8, message: MidiMessage) -> Option<EventKind> {
    match message {
        MidiMessage::NoteOn { key, vel } if vel.as_int() > 0 => {
            Some(EventKind::On { channel, pitch: key.as_int(), velocity: vel.as_int() })
        }
        MidiMessage::NoteOn { key, .. } | MidiMessage::NoteOff { key, .. } => {
            Some(EventKind::Off { channel, pitch: key.as_int() })
        }
        MidiMessage::Controller { controller, value } => match controller.as_int() {
            SUSTAIN_PEDAL => Some(EventKind::Pedal { channel, down: value.as_int() >= 64 }),
            ALL_SOUND_OFF | ALL_NOTES_OFF => Some(EventKind::Silence { channel }),
            _ => None,
        },
        _ => None,
    }
}
