//! A finished piece and its Standard MIDI File.

use super::line::Note;
use super::theory::{BAR, Key};
use midly::{Format, Header, MetaMessage, MidiMessage, Smf, Timing, Track, TrackEvent, TrackEventKind};

/// Ticks in a sixteenth: 480 to the quarter.
const TICKS: i32 = 120;

/// Tracks of notes, the key, the tempo.
pub struct Score {
    pub key: Key,
    pub bars: i32,
    /// (step, beats a minute), in order of time.
    tempi: Vec<(i32, i32)>,
    tracks: Vec<(&'static str, Vec<(Note, i32)>)>,
}

impl Score {
    pub fn new(key: Key, bars: i32) -> Self {
        Self { key, bars, tempi: Vec::new(), tracks: Vec::new() }
    }

    /// A new track, by its index.
    pub fn track(&mut self, name: &'static str) -> usize {
        self.tracks.push((name, Vec::new()));
        self.tracks.len() - 1
    }

    /// The tempo from `step` on.
    pub fn tempo(&mut self, step: i32, beats_a_minute: i32) {
        self.tempi.push((step, beats_a_minute));
    }

    /// Adds a note; the velocity is brought into 1..=127.
    pub fn add(&mut self, track: usize, note: Note, velocity: i32) {
        self.tracks[track].1.push((note, velocity.clamp(1, 127)));
    }

    /// Makes each pitch sound once at a time over all tracks, as on one keyboard: of two notes that begin together the
    /// longer stays; a note is cut where the same pitch is struck again, and the new one sounds as long as either.
    pub fn unify(&mut self) {
        let mut all: Vec<(usize, usize)> =
            self.tracks.iter().enumerate().flat_map(|(t, track)| (0..track.1.len()).map(move |i| (t, i))).collect();
        let note = |tracks: &[(&str, Vec<(Note, i32)>)], (t, i): (usize, usize)| tracks[t].1[i].0;
        all.sort_by_key(|&at| {
            let n = note(&self.tracks, at);
            (n.pitch, n.start, -n.len)
        });
        let mut dropped: Vec<(usize, usize)> = Vec::new();
        let mut last: Option<(usize, usize)> = None;
        for at in all {
            let n = note(&self.tracks, at);
            if let Some(before) = last.filter(|&b| note(&self.tracks, b).pitch == n.pitch) {
                let held = note(&self.tracks, before);
                if held.start == n.start {
                    dropped.push(at);
                    continue;
                }
                if held.end() > n.start {
                    self.tracks[before.0].1[before.1].0.len = n.start - held.start;
                    self.tracks[at.0].1[at.1].0.len = held.end().max(n.end()) - n.start;
                }
            }
            last = Some(at);
        }
        dropped.sort();
        for (t, i) in dropped.into_iter().rev() {
            self.tracks[t].1.remove(i);
        }
    }

    /// All notes with their velocities.
    pub fn notes(&self) -> impl Iterator<Item = (Note, i32)> + '_ {
        self.tracks.iter().flat_map(|track| track.1.iter().copied())
    }

    /// The piece, once unified, as a type 1 file: a track for title, tempo, metre and key, then the tracks of notes.
    pub fn midi(&self, title: &str) -> Vec<u8> {
        let meta =
            |delta: i32, message| TrackEvent { delta: (delta as u32).into(), kind: TrackEventKind::Meta(message) };
        let mut conductor: Track = vec![
            meta(0, MetaMessage::TrackName(title.as_bytes())),
            meta(0, MetaMessage::TimeSignature(4, 2, 24, 8)),
            meta(0, MetaMessage::KeySignature(self.key.signature(), self.key.is_minor())),
        ];
        let mut at = 0;
        for &(step, bpm) in &self.tempi {
            conductor.push(meta((step - at) * TICKS, MetaMessage::Tempo((60_000_000 / bpm as u32).into())));
            at = step;
        }
        conductor.push(meta((self.bars * BAR - at) * TICKS, MetaMessage::EndOfTrack));
        let mut tracks = vec![conductor];
        for (name, notes) in &self.tracks {
            let midi = |message| TrackEventKind::Midi { channel: 0.into(), message };
            // Releases come before attacks of the same moment.
            let mut events: Vec<(i32, bool, i32, i32)> = Vec::new();
            for &(n, velocity) in notes {
                events.push((n.start, true, n.pitch, velocity));
                events.push((n.end(), false, n.pitch, 0));
            }
            events.sort();
            let program = TrackEvent { delta: 0.into(), kind: midi(MidiMessage::ProgramChange { program: 0.into() }) };
            let mut track: Track = vec![meta(0, MetaMessage::TrackName(name.as_bytes())), program];
            let mut at = 0;
            for (step, _, pitch, velocity) in events {
                let delta = ((step - at) * TICKS) as u32;
                let message = MidiMessage::NoteOn { key: (pitch as u8).into(), vel: (velocity as u8).into() };
                track.push(TrackEvent { delta: delta.into(), kind: midi(message) });
                at = step;
            }
            track.push(meta((self.bars * BAR - at).max(0) * TICKS, MetaMessage::EndOfTrack));
            tracks.push(track);
        }
        let header = Header::new(Format::Parallel, Timing::Metrical(480.into()));
        let mut bytes = Vec::new();
        Smf { header, tracks }.write_std(&mut bytes).expect("writing to memory cannot fail");
        bytes
    }
}
