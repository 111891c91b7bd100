//! The notes of channel 10, which are drums, unless somebody put a piano part there.

use std::collections::BTreeMap;

/// The keys of bass drum, snare, hi-hat and ride in General MIDI, of which most drum parts mostly consist.
const COMMON_DRUMS: [u8; 9] = [35, 36, 38, 40, 42, 44, 46, 51, 53];
/// A piano part has at least so many keys.
const PIANO_KEYS: usize = 4;
/// Drums are struck, piano keys are held: the notes of a piano part last at least so many quarter notes on the average.
const PIANO_QUARTERS: f64 = 0.5;

/// What is known of the notes of the drum channel.
pub(super) struct Percussion {
    /// How many begin on each key.
    onsets: [usize; 128],
    /// The notes that were closed, and the sum of their lengths in ticks.
    closed: usize,
    ticks: u64,
    /// When the open note of a track and key began.
    open: BTreeMap<(usize, u8), u32>,
}

impl Default for Percussion {
    fn default() -> Self {
        Self { onsets: [0; 128], closed: 0, ticks: 0, open: BTreeMap::new() }
    }
}

impl Percussion {
    pub(super) fn on(&mut self, track: usize, pitch: u8, tick: u32) {
        self.onsets[usize::from(pitch)] += 1;
        self.open.insert((track, pitch), tick);
    }

    pub(super) fn off(&mut self, track: usize, pitch: u8, tick: u32) {
        if let Some(start) = self.open.remove(&(track, pitch)) {
            self.closed += 1;
            self.ticks += u64::from(tick - start);
        }
    }

    /// The number of notes.
    pub(super) fn notes(&self) -> usize {
        self.onsets.iter().sum()
    }

    /// What speaks for a piano part, if anything does; `division` is the ticks of a quarter note.
    pub(super) fn piano(&self, division: u32) -> Option<String> {
        let keys: Vec<usize> = (0..128).filter(|&key| self.onsets[key] > 0).collect();
        let quarters = self.ticks as f64 / f64::from(division) / self.closed.max(1) as f64;
        let drums: usize = COMMON_DRUMS.iter().map(|&key| self.onsets[usize::from(key)]).sum();
        if keys.len() < PIANO_KEYS || quarters < PIANO_QUARTERS || 2 * drums > self.notes() {
            return None;
        }
        let (low, high) = (keys[0], keys[keys.len() - 1]);
        Some(format!("{} keys from {low} to {high}, {quarters:.1} quarter notes long on the average", keys.len()))
    }
}
