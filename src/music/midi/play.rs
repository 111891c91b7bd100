//! What the events of a file play: notes.

use std::collections::btree_map::{BTreeMap, Entry};
use std::collections::{BTreeSet, VecDeque};
use std::ops::RangeInclusive;

use super::clock::Clock;
use super::events::EventKind;
use super::file::{Event, File};
use super::percussion::Percussion;

/// Channel 10, counted from 0.
pub(super) const DRUM_CHANNEL: u8 = 9;

/// One note; times in ticks of its [`Score`](super::Score).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// MIDI pitch, 0..=127; 60 is middle C.
    pub pitch: u8,
    /// Note-on velocity, 1..=127.
    pub velocity: u8,
    /// Tick of the note-on.
    pub start: u32,
    /// Tick of the note-off, not before `start`.
    pub end: u32,
}

/// What the events of a file play.
pub(super) struct Played {
    /// In the order of their beginnings; times that 32 bits cannot hold are the largest that they can.
    pub(super) notes: Vec<Note>,
    /// Notes dropped because they are on the drum channel.
    pub(super) percussion: Percussion,
    /// Notes that were closed at their track's end.
    pub(super) unclosed: usize,
    /// Notes that were closed since their key was struck again.
    pub(super) struck_again: usize,
    /// Note-offs of keys on which no note was open.
    pub(super) stray_offs: usize,
}

/// Plays the events of `file`. With `pedal`, notes sound on until the sustain pedal is released.
pub(super) fn play(file: &File, clock: &Clock, pedal: bool) -> Played {
    let Survey { lossy, notes, stray_offs } = survey(file);
    let mut player = Player {
        clock,
        pedal,
        lossy,
        played: Played {
            notes: Vec::with_capacity(notes),
            percussion: Percussion::default(),
            unclosed: 0,
            struck_again: 0,
            stray_offs,
        },
        guessed: Vec::new(),
        open: BTreeMap::new(),
        pedal_down: [false; 16],
        held: Default::default(),
    };
    let mut end = 0;
    for event in file.events() {
        player.step(&event);
        if file.format == 2 && event.kind == EventKind::TrackEnd {
            player.release_pedals(event.tick); // the next track is another pattern
        }
        end = event.tick;
    }
    player.release_pedals(end);
    player.shorten_guesses();
    player.played
}

/// Track, channel and pitch.
type Key = (usize, u8, u8);

/// What must be known of all events before the first is played.
struct Survey {
    /// Keys on which a note is open at the end of their track, since a note-off was lost.
    lossy: BTreeSet<Key>,
    /// The number of notes.
    notes: usize,
    /// The number of note-offs of keys on which no note was open.
    stray_offs: usize,
}

fn survey(file: &File) -> Survey {
    let mut survey = Survey { lossy: BTreeSet::new(), notes: 0, stray_offs: 0 };
    // The number of notes that are open; no number is 0.
    let mut open: BTreeMap<Key, usize> = BTreeMap::new();
    let close = |open: &mut BTreeMap<Key, usize>, keys: RangeInclusive<Key>| -> Vec<Key> {
        let keys: Vec<Key> = open.range(keys).map(|(&key, _)| key).collect();
        for key in &keys {
            open.remove(key);
        }
        keys
    };
    for Event { track, kind, .. } in file.events() {
        match kind {
            EventKind::On { channel: DRUM_CHANNEL, .. } | EventKind::Off { channel: DRUM_CHANNEL, .. } => {}
            EventKind::On { channel, pitch, .. } => {
                *open.entry((track, channel, pitch)).or_default() += 1;
                survey.notes += 1;
            }
            EventKind::Off { channel, pitch } => match open.entry((track, channel, pitch)) {
                Entry::Occupied(mut open) if *open.get() > 1 => *open.get_mut() -= 1,
                Entry::Occupied(open) => drop(open.remove()),
                Entry::Vacant(_) => survey.stray_offs += 1,
            },
            EventKind::Silence { channel } => drop(close(&mut open, keys_of(track, channel..=channel))),
            EventKind::TrackEnd => survey.lossy.extend(close(&mut open, keys_of(track, 0..=15))),
            EventKind::Pedal { .. } | EventKind::Tempo(_) | EventKind::Metre { .. } => {}
        }
    }
    survey
}

fn keys_of(track: usize, channels: RangeInclusive<u8>) -> RangeInclusive<Key> {
    (track, *channels.start(), 0)..=(track, *channels.end(), 127)
}

struct Player<'a> {
    clock: &'a Clock,
    pedal: bool,
    lossy: BTreeSet<Key>,
    played: Played,
    /// The notes whose end is a guess, as they have no note-off, as indices into `played.notes`.
    guessed: Vec<u32>,
    /// The notes that nothing has closed yet, oldest first, as indices into `played.notes`. No list is empty, so that the costs
    /// follow the notes and not the keys.
    open: BTreeMap<Key, VecDeque<u32>>,
    pedal_down: [bool; 16],
    /// Closed notes that the pedal lets sound on, by channel.
    held: [Vec<u32>; 16],
}

impl Player<'_> {
    fn step(&mut self, event: &Event) {
        let (tick, track) = (self.tick(event.tick), event.track);
        match event.kind {
            EventKind::On { channel: DRUM_CHANNEL, pitch, .. } => self.played.percussion.on(track, pitch, tick),
            EventKind::Off { channel: DRUM_CHANNEL, pitch } => self.played.percussion.off(track, pitch, tick),
            EventKind::On { channel, pitch, velocity } => {
                let key = (track, channel, pitch);
                if self.lossy.contains(&key) {
                    self.played.struck_again += self.guess_ends(key..=key, tick);
                }
                self.open.entry(key).or_default().push_back(self.played.notes.len() as u32);
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
            EventKind::Silence { channel } => drop(self.close_keys(keys_of(track, channel..=channel), tick)),
            EventKind::Pedal { channel, down } if self.pedal => {
                self.pedal_down[usize::from(channel)] = down;
                if !down {
                    self.release(channel, tick);
                }
            }
            EventKind::TrackEnd => self.played.unclosed += self.guess_ends(keys_of(track, 0..=15), tick),
            EventKind::Pedal { .. } | EventKind::Tempo(_) | EventKind::Metre { .. } => {}
        }
    }

    fn tick(&self, tick: u64) -> u32 {
        u32::try_from(self.clock.tick(tick)).unwrap_or(u32::MAX)
    }

    /// Closes all open notes of `keys`, which have no note-off, and returns their number.
    fn guess_ends(&mut self, keys: RangeInclusive<Key>, tick: u32) -> usize {
        let closed = self.close_keys(keys, tick);
        self.guessed.extend(&closed);
        closed.len()
    }

    /// Closes all open notes of `keys` and returns them.
    fn close_keys(&mut self, keys: RangeInclusive<Key>, tick: u32) -> Vec<u32> {
        let keys: Vec<Key> = self.open.range(keys).map(|(&key, _)| key).collect();
        let mut closed = Vec::new();
        for key in keys {
            for note in self.open.remove(&key).into_iter().flatten() {
                self.close(note, key.1, tick);
                closed.push(note);
            }
        }
        closed
    }

    /// The key of `note` goes up at `tick`; the pedal may let it sound on.
    fn close(&mut self, note: u32, channel: u8, tick: u32) {
        self.played.notes[note as usize].end = tick;
        if self.pedal_down[usize::from(channel)] {
            self.held[usize::from(channel)].push(note);
        }
    }

    fn release(&mut self, channel: u8, tick: u32) {
        for note in self.held[usize::from(channel)].drain(..) {
            self.played.notes[note as usize].end = tick;
        }
    }

    fn release_pedals(&mut self, tick: u64) {
        let tick = self.tick(tick);
        for channel in 0..16 {
            self.pedal_down[usize::from(channel)] = false;
            self.release(channel, tick);
        }
    }

    /// Lets no note whose end is a guess last longer than the longest of the others: the key may be struck again much later,
    /// or never.
    fn shorten_guesses(&mut self) {
        self.guessed.sort_unstable();
        let guessed = |note: &usize| self.guessed.binary_search(&(*note as u32)).is_ok();
        let notes = &self.played.notes;
        let length = |note: usize| notes[note].end - notes[note].start;
        let Some(longest) = (0..notes.len()).filter(|note| !guessed(note)).map(length).max() else {
            return;
        };
        for &note in &self.guessed {
            let note = &mut self.played.notes[note as usize];
            note.end = note.end.min(note.start.saturating_add(longest));
        }
    }
}
