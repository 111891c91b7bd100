//! What the events of a file play: notes.

use std::collections::btree_map::{BTreeMap, Entry};
use std::collections::{BTreeSet, VecDeque};
use std::ops::RangeInclusive;

use super::file::{Event, EventKind, File};

const DRUM_CHANNEL: u8 = 9;

/// One note; times in ticks of its [`Score`](super::Score).
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

/// What the events of a file play; notes in its ticks.
pub(super) struct Played {
    pub(super) notes: Vec<Note>,
    /// Notes dropped because they are on the drum channel.
    pub(super) drums: usize,
    /// Notes that had no note-off.
    pub(super) unclosed: usize,
}

/// Plays the events of `file`. With `pedal`, notes sound on until the sustain pedal is released.
pub(super) fn play(file: &File, pedal: bool) -> Played {
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
    /// The notes that nothing has closed yet, oldest first, as indices into `played.notes`. Empty lists
    /// are removed, so that closing a range of keys costs what is open, not 128 keys a channel.
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
