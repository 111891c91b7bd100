//! Statistics of a roll.

use serde::Serialize;

use super::roll::{Roll, RollMetre, RollNote};

/// Statistics of a roll.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RollStats {
    /// Notes read within the range.
    pub notes: usize,
    /// Distinct pairs of time step and pitch on which a note begins.
    pub onsets: usize,
    /// Length in time steps, four a quarter note.
    pub steps: usize,
    /// Notes dropped because they are outside the range.
    pub out_of_range: usize,
    /// Notes dropped because they are on the drum channel.
    pub drums: usize,
    /// The share of the file's onsets that lay off the grid, by more than an eighth of a time step, 0..=1.
    pub off_grid_share: f64,
    /// Onsets on a note that sounded on the time step before.
    pub replays: usize,
    /// The share of time steps on which nothing sounds, 0..=1.
    pub silent_share: f64,
    /// The longest stretch of time steps on which nothing sounds.
    pub longest_rest: usize,
    /// Sounding notes, averaged over the time steps on which any sounds.
    pub mean_polyphony: f64,
    /// Mean length of a note in time steps.
    pub mean_note_steps: f64,
    /// Mean velocity of the onsets, 1..=127.
    pub mean_velocity: f64,
    /// Standard deviation of the onsets' velocity.
    pub std_velocity: f64,
    /// The lowest pitch that sounds.
    pub lowest: Option<u8>,
    /// The highest pitch that sounds.
    pub highest: Option<u8>,
    /// Onsets by pitch class, C first.
    pub pitch_classes: [usize; 12],
    /// Quarter notes a minute, where known.
    pub bpm: Option<f64>,
    /// Time signatures, where known.
    pub metres: Vec<RollMetre>,
}

/// Standard deviation of velocities below which dynamics are flat. Of the 270 performances of piano-midi.de that of the least
/// dynamic one is 5.7; of 477 typeset pieces it is below 3.5 in two thirds, which have one velocity or a few.
const FLAT: f64 = 4.0;

impl RollStats {
    /// Whether the notes have no dynamics of their own.
    pub fn flat_dynamics(&self) -> bool {
        self.std_velocity < FLAT
    }

    /// The statistics of `roll`, of which nothing else is known.
    pub fn new(roll: &Roll) -> Self {
        let notes = roll.notes();
        let steps = roll.steps();
        let polyphony = |t: usize| roll.step(t).iter().filter(|cell| cell.play()).count();
        let (mut rest, mut longest_rest) = (0, 0);
        for t in 0..steps {
            rest = if polyphony(t) > 0 { 0 } else { rest + 1 };
            longest_rest = longest_rest.max(rest);
        }
        let sounding = (0..steps).filter(|&t| polyphony(t) > 0).count();
        let cells: usize = (0..steps).map(polyphony).sum();
        let mean = |sum: f64, count: usize| if count > 0 { sum / count as f64 } else { 0.0 };
        let velocity = |note: &RollNote| f64::from(note.velocity);
        let mean_velocity = mean(notes.iter().map(velocity).sum(), notes.len());
        let variance = mean(notes.iter().map(|note| (velocity(note) - mean_velocity).powi(2)).sum(), notes.len());
        let mut pitch_classes = [0; 12];
        for note in &notes {
            pitch_classes[usize::from(note.pitch % 12)] += 1;
        }
        Self {
            notes: notes.len(),
            onsets: notes.len(),
            steps,
            out_of_range: 0,
            drums: 0,
            off_grid_share: 0.0,
            replays: notes.iter().filter(|note| note.replay).count(),
            silent_share: mean((steps - sounding) as f64, steps),
            longest_rest,
            mean_polyphony: mean(cells as f64, sounding),
            mean_note_steps: mean(cells as f64, notes.len()),
            mean_velocity,
            std_velocity: variance.sqrt(),
            lowest: notes.first().map(|note| note.pitch),
            highest: notes.last().map(|note| note.pitch),
            pitch_classes,
            bpm: None,
            metres: Vec::new(),
        }
    }
}
