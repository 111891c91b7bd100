//! The project's piano, for what is played as it comes and for files.

use deepj::music::Score;
use deepj::music::roll::STEPS_PER_QUARTER;
use deepj::render::timed::TimedPiano;
use deepj::render::{BLOCK, Instrument, Options, Performance, wav_bytes};
use serde::Serialize;
use wasm_bindgen::prelude::*;

use crate::{Result, json, thrown};

/// A piano that plays.
#[wasm_bindgen]
pub struct Piano(TimedPiano);

#[wasm_bindgen]
impl Piano {
    /// At so many frames a second.
    ///
    /// # Errors
    /// A rate that it has not.
    #[wasm_bindgen(constructor)]
    pub fn new(rate: u32) -> Result<Piano> {
        TimedPiano::new(rate).map(Self).map_err(thrown)
    }

    /// Strikes a key at a time in seconds, or lets go of it where the velocity is 0.
    pub fn add(&mut self, seconds: f64, pitch: u8, velocity: u8) {
        self.0.add(seconds, pitch, velocity);
    }

    /// Seconds made so far.
    #[wasm_bindgen(getter)]
    pub fn seconds(&self) -> f64 {
        self.0.seconds()
    }

    /// Whether nothing sounds and nothing is to come.
    #[wasm_bindgen(getter)]
    pub fn silent(&self) -> bool {
        self.0.is_silent()
    }

    /// The next so many seconds, in whole blocks: all of the left channel, then all of the right one.
    ///
    /// # Errors
    /// None that is known of.
    pub fn fill(&mut self, seconds: f64, rate: u32) -> Result<Vec<f32>> {
        let (mut left, mut right) = (vec![], vec![]);
        let blocks = (seconds * f64::from(rate) / BLOCK as f64).ceil().max(1.0) as usize;
        (0..blocks).try_for_each(|_| self.0.fill(&mut left, &mut right)).map_err(thrown)?;
        left.append(&mut right);
        Ok(left)
    }
}

/// What a MIDI file plays.
#[derive(Serialize)]
struct Played {
    /// Seconds, pitch, velocity (0 where a key is let go of), in the order of the times.
    events: Vec<(f64, u8, u8)>,
    /// Quarter notes a minute on the average.
    tempo: f64,
    seconds: f64,
    /// Seconds of each bar of four quarter notes in the mean tempo.
    bar: f64,
    warnings: Vec<String>,
}

/// What the MIDI file of these bytes plays, as JSON.
///
/// # Errors
/// Bytes that are no MIDI file.
#[wasm_bindgen(js_name = readMidi)]
pub fn read_midi(name: &str, bytes: &[u8]) -> Result<String> {
    let score = Score::parse(name, bytes, true).map_err(thrown)?;
    let performance = Performance::new(&score);
    let events = performance.events();
    let bar = 16.0 * 60.0 / score.mean_bpm / f64::from(STEPS_PER_QUARTER);
    let (tempo, seconds) = (score.mean_bpm, performance.end());
    json(&Played { events, tempo, seconds, bar, warnings: score.warnings })
}

/// The MIDI file of these bytes as a WAV file.
///
/// # Errors
/// Bytes that are no MIDI file, or one that lasts too long.
#[wasm_bindgen]
pub fn wav(name: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let performance = Performance::new(&Score::parse(name, bytes, true).map_err(thrown)?);
    wav_bytes(&performance, &Instrument::Piano, &Options::default()).map_err(thrown)
}
