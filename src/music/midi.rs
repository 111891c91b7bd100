//! Standard MIDI Files to notes.
//!
//! `midly` reads headers and events; this module walks the chunks itself, since `midly` quietly accepts a file that was
//! cut off, and turns events into notes. Rules, where the format leaves room:
//!
//! - All tracks and channels are merged, except channel 10 (drums), which is counted and dropped.
//! - A note-on with velocity 0 is a note-off. A note-off closes the oldest open note of its track, channel and pitch:
//!   legato sequences strike a key again shortly before they release it. Where a key has more note-ons than note-offs,
//!   some were lost, and a note-on closes the notes before it, so that one lost event does not stretch all later notes.
//! - Controllers 120 and 123 (all sound or all notes off) close the notes of their track and channel. A note nobody
//!   closes ends with its track.
//! - Running status survives meta and system-exclusive events: the format forbids it, but files that rely on it exist.
//! - The tracks of a type 2 file are played one after another.
//! - Tempo and metre are metadata. Only where the division is in SMPTE frames, so that ticks are time, the tempo map
//!   (120 bpm where the file has none) turns ticks into quarter notes.

use std::collections::btree_map::{BTreeMap, Entry};
use std::collections::{BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::path::Path;

use midly::{EventIter, MetaMessage, MidiMessage, Timing, TrackEventKind};

use super::roll::{MAX_STEPS, STEPS_PER_QUARTER};
use crate::{Error, Result};

/// The largest file that is read, in bytes; piano pieces take well under one MiB.
pub const MAX_BYTES: u64 = 16 << 20;

/// Ticks a quarter note of a [`Score`] that came from a file with SMPTE division.
const SMPTE_DIVISION: u32 = 960;

/// Microseconds a quarter note where a file says nothing: 120 bpm.
const DEFAULT_TEMPO: u32 = 500_000;

const DRUM_CHANNEL: u8 = 9;
const SUSTAIN_PEDAL: u8 = 64;
const ALL_SOUND_OFF: u8 = 120;
const ALL_NOTES_OFF: u8 = 123;

/// One note; times in ticks of its [`Score`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// MIDI pitch, 0..=127; 60 is middle C.
    pub pitch: u8,
    /// Note-on velocity, 1..=127.
    pub velocity: u8,
    /// Tick of the note-on.
    pub start: u64,
    /// Tick of the note-off, not before `start`.
    pub end: u64,
}

/// A time signature and the tick from which it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metre {
    /// Tick of its [`Score`].
    pub tick: u64,
    /// Beats a bar, at least 1.
    pub numerator: u8,
    /// The beat as a fraction of a whole note: 1, 2, 4, … 64.
    pub denominator: u8,
}

/// The notes of a MIDI file, all tracks and channels merged, and what is known about them.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// The file's type: 0 (one track), 1 (tracks in parallel) or 2 (tracks in sequence).
    pub format: u8,
    /// Number of tracks in the file.
    pub tracks: usize,
    /// Ticks a quarter note.
    pub division: u32,
    /// Notes ordered by start, pitch, end and velocity. Never empty.
    pub notes: Vec<Note>,
    /// Quarter notes a minute, averaged over the time from the beginning to the last note's end.
    pub mean_bpm: f64,
    /// Time signatures in order; empty where the file has none.
    pub metres: Vec<Metre>,
    /// Notes dropped because they are on the drum channel.
    pub drums: usize,
    /// Notes that had no note-off and were closed at their track's end.
    pub unclosed: usize,
}

/// An event that matters here, at a tick of the file.
struct Event {
    tick: u64,
    track: usize,
    kind: EventKind,
}

enum EventKind {
    On { channel: u8, pitch: u8, velocity: u8 },
    Off { channel: u8, pitch: u8 },
    Pedal { channel: u8, down: bool },
    Silence { channel: u8 },
    Tempo(u32),
    Metre { numerator: u8, denominator: u8 },
    TrackEnd,
}

impl Score {
    /// Reads the MIDI file at `path`. With `pedal`, notes sound on until the sustain pedal (controller 64) is released.
    ///
    /// # Errors
    /// The file cannot be read, is larger than [`MAX_BYTES`], or [`Score::parse`] refuses its content.
    pub fn read(path: impl AsRef<Path>, pedal: bool) -> Result<Self> {
        let path = path.as_ref();
        Self::parse(path, &read_file(path)?, pedal)
    }

    /// Reads the `bytes` of a MIDI file; `name` is used in errors only.
    ///
    /// # Errors
    /// Not a MIDI file, cut off, malformed (each with the place), without notes, with drums only, or longer than
    /// [`MAX_STEPS`] sixteenths.
    pub fn parse(name: impl AsRef<Path>, bytes: &[u8], pedal: bool) -> Result<Self> {
        let name = name.as_ref();
        let mut file = File::parse(name, bytes)?;
        file.events.sort_by_key(|event| event.tick); // stable: events of one tick keep the file's order

        let clock = Clock::new(name, file.timing, &file.events)?;
        let played = play(&file, pedal);
        if played.notes.is_empty() {
            return Err(match played.drums {
                0 => Error::file(name, "holds no notes", "Give a MIDI file with notes in it."),
                drums => Error::file(
                    name,
                    format!("holds only drums ({drums} notes on channel 10)"),
                    "Drums are left out; give a MIDI file with notes on another channel.",
                ),
            });
        }

        let last = played.notes.iter().map(|note| note.end).max().unwrap_or(0);
        let limit = MAX_STEPS as f64 / f64::from(STEPS_PER_QUARTER);
        let quarters = clock.at(last).0;
        if quarters > limit {
            return Err(Error::file(
                name,
                format!("lasts {quarters:.0} quarter notes, more than the {limit:.0} that are read"),
                "Cut the file, or look for a note-off or an end of track that comes far too late.",
            ));
        }

        let mut notes: Vec<Note> = played
            .notes
            .iter()
            .map(|note| Note { start: clock.tick(note.start), end: clock.tick(note.end), ..*note })
            .collect();
        notes.sort_by_key(|note| (note.start, note.pitch, note.end, note.velocity));
        let metres = file.events.iter().filter_map(|event| match event.kind {
            EventKind::Metre { numerator, denominator } if event.tick <= last => {
                Some(Metre { tick: clock.tick(event.tick), numerator, denominator })
            }
            _ => None,
        });
        Ok(Self {
            format: file.format,
            tracks: file.tracks,
            division: clock.division,
            notes,
            mean_bpm: clock.mean_bpm(last),
            metres: metres.collect(),
            drums: played.drums,
            unclosed: played.unclosed,
        })
    }
}

/// The content of the file at `path`, if it is an ordinary file of at most [`MAX_BYTES`].
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>> {
    let unreadable =
        |e: std::io::Error| Error::file(path, format!("cannot be read: {e}"), "Check the path and rights.");
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    // A pipe or a device could block for ever or never end.
    if !metadata.is_file() {
        return Err(Error::file(path, "is not an ordinary file", "Give the path of a MIDI file."));
    }
    if metadata.len() > MAX_BYTES {
        return Err(Error::file(
            path,
            format!("has {} bytes, more than the {MAX_BYTES} that are read", metadata.len()),
            "Is it a MIDI file? Piano pieces take well under 1 MiB.",
        ));
    }
    std::fs::read(path).map_err(unreadable)
}

/// A file taken apart, ticks as it has them.
struct File {
    format: u8,
    timing: Timing,
    tracks: usize,
    events: Vec<Event>,
}

impl File {
    fn parse(name: &Path, bytes: &[u8]) -> Result<Self> {
        let broken = |what: String| Error::file(name, what, "The file is damaged or was cut off; fetch it again.");
        if bytes.is_empty() {
            return Err(broken("is empty (0 bytes)".into()));
        }
        if !b"MThd".starts_with(&bytes[..bytes.len().min(4)]) && !bytes.starts_with(b"RIFF") {
            return Err(Error::file(
                name,
                "is not a MIDI file (it does not begin with MThd)",
                "Give a Standard MIDI File, whatever its name ends in.",
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

/// What the events of a file play; notes in its ticks.
struct Played {
    notes: Vec<Note>,
    drums: usize,
    unclosed: usize,
}

/// Plays the events of `file`, which are ordered by tick.
fn play(file: &File, pedal: bool) -> Played {
    let mut surplus: BTreeMap<Key, i64> = BTreeMap::new();
    for event in &file.events {
        match event.kind {
            EventKind::On { channel, pitch, .. } => *surplus.entry((event.track, channel, pitch)).or_default() += 1,
            EventKind::Off { channel, pitch } => *surplus.entry((event.track, channel, pitch)).or_default() -= 1,
            _ => {}
        }
    }
    let mut player = Player {
        lossy: surplus.into_iter().filter(|&(_, surplus)| surplus > 0).map(|(key, _)| key).collect(),
        played: Played { notes: Vec::new(), drums: 0, unclosed: 0 },
        open: BTreeMap::new(),
        pedal_down: [false; 16],
        held: Default::default(),
    };
    for event in &file.events {
        player.step(event, pedal);
        if file.format == 2 && matches!(event.kind, EventKind::TrackEnd) {
            player.release_pedals(event.tick); // the next track is another pattern
        }
    }
    player.release_pedals(file.events.last().map_or(0, |event| event.tick));
    player.played
}

/// Track, channel and pitch.
type Key = (usize, u8, u8);

struct Player {
    /// Keys with more note-ons than note-offs.
    lossy: BTreeSet<Key>,
    played: Played,
    /// The notes nobody closed yet, oldest first, as indices into `played.notes`. No list is empty, so that the costs
    /// follow the notes and not the keys.
    open: BTreeMap<Key, VecDeque<usize>>,
    pedal_down: [bool; 16],
    /// Closed notes that the pedal lets sound on, by channel.
    held: [Vec<usize>; 16],
}

impl Player {
    fn step(&mut self, event: &Event, pedal: bool) {
        let (tick, track) = (event.tick, event.track);
        match event.kind {
            EventKind::On { channel: DRUM_CHANNEL, .. } => self.played.drums += 1,
            EventKind::On { channel, pitch, velocity } => {
                let key = (track, channel, pitch);
                if self.lossy.contains(&key) {
                    self.close_keys(key..=key, tick);
                }
                self.open.entry(key).or_default().push_back(self.played.notes.len());
                self.played.notes.push(Note { pitch, velocity, start: tick, end: tick });
            }
            EventKind::Off { channel, pitch } => {
                if let Entry::Occupied(mut open) = self.open.entry((track, channel, pitch)) {
                    let oldest = open.get_mut().pop_front();
                    if open.get().is_empty() {
                        open.remove();
                    }
                    oldest.into_iter().for_each(|note| self.close(note, channel, tick));
                }
            }
            EventKind::Silence { channel } => {
                self.close_keys((track, channel, 0)..=(track, channel, 127), tick);
            }
            EventKind::Pedal { channel, down } if pedal => {
                self.pedal_down[usize::from(channel)] = down;
                if !down {
                    self.release(channel, tick);
                }
            }
            EventKind::TrackEnd => self.played.unclosed += self.close_keys((track, 0, 0)..=(track, 15, 127), tick),
            EventKind::Pedal { .. } | EventKind::Tempo(_) | EventKind::Metre { .. } => {}
        }
    }

    /// Closes all open notes of `keys` and returns their number.
    fn close_keys(&mut self, keys: RangeInclusive<Key>, tick: u64) -> usize {
        let keys: Vec<Key> = self.open.range(keys).map(|(&key, _)| key).collect();
        let mut closed = 0;
        for key in keys {
            for note in self.open.remove(&key).into_iter().flatten() {
                self.close(note, key.1, tick);
                closed += 1;
            }
        }
        closed
    }

    /// The key of `note` goes up at `tick`; the pedal may let it sound on.
    fn close(&mut self, note: usize, channel: u8, tick: u64) {
        self.played.notes[note].end = tick;
        if self.pedal_down[usize::from(channel)] {
            self.held[usize::from(channel)].push(note);
        }
    }

    fn release(&mut self, channel: u8, tick: u64) {
        for note in self.held[usize::from(channel)].drain(..) {
            self.played.notes[note].end = tick;
        }
    }

    fn release_pedals(&mut self, tick: u64) {
        for channel in 0..16 {
            self.pedal_down[usize::from(channel)] = false;
            self.release(channel, tick);
        }
    }
}

/// Turns ticks of a file into quarter notes, seconds and ticks of a [`Score`].
struct Clock {
    /// Ticks of the score a quarter note.
    division: u32,
    /// Whether ticks of the file are ticks of the score; else they are parts of a second.
    metrical: bool,
    /// Ticks of the file a quarter note, or a second.
    ticks: f64,
    /// Spans of one tempo, in order; the first begins at tick 0.
    spans: Vec<Span>,
}

struct Span {
    tick: u64,
    quarters: f64,
    seconds: f64,
    /// Seconds a quarter note.
    tempo: f64,
}

impl Clock {
    fn new(name: &Path, timing: Timing, events: &[Event]) -> Result<Self> {
        let (metrical, division, ticks) = match timing {
            Timing::Metrical(division) => (true, u32::from(division.as_int()), f64::from(division.as_int())),
            Timing::Timecode(fps, parts) => (false, SMPTE_DIVISION, f64::from(fps.as_f32()) * f64::from(parts)),
        };
        if ticks == 0.0 {
            return Err(Error::file(
                name,
                "has a division of 0 ticks (bytes 12 and 13 of the header)",
                "The file is damaged; fetch it again.",
            ));
        }
        let first = Span { tick: 0, quarters: 0.0, seconds: 0.0, tempo: f64::from(DEFAULT_TEMPO) * 1e-6 };
        let mut clock = Self { division, metrical, ticks, spans: vec![first] };
        for event in events {
            if let EventKind::Tempo(tempo) = event.kind {
                let (quarters, seconds) = clock.at(event.tick);
                clock.spans.push(Span { tick: event.tick, quarters, seconds, tempo: f64::from(tempo) * 1e-6 });
            }
        }
        Ok(clock)
    }

    fn span(&self, tick: u64) -> &Span {
        &self.spans[self.spans.partition_point(|span| span.tick <= tick) - 1]
    }

    /// Quarter notes and seconds from the beginning to `tick` of the file.
    fn at(&self, tick: u64) -> (f64, f64) {
        let span = self.span(tick);
        let units = (tick - span.tick) as f64 / self.ticks;
        let (quarters, seconds) = if self.metrical { (units, units * span.tempo) } else { (units / span.tempo, units) };
        (span.quarters + quarters, span.seconds + seconds)
    }

    /// The tick of the score nearest to `tick` of the file.
    fn tick(&self, tick: u64) -> u64 {
        if self.metrical { tick } else { (self.at(tick).0 * f64::from(self.division)).round() as u64 }
    }

    /// Quarter notes a minute on the average from the beginning to `end`.
    fn mean_bpm(&self, end: u64) -> f64 {
        let (quarters, seconds) = self.at(end);
        let tempo = if seconds > 0.0 { seconds / quarters } else { self.span(end).tempo };
        60.0 / tempo
    }
}
