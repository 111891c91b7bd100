//! Weights, and pieces that are composed with them bar by bar.

use std::sync::Arc;

use deepj::checkpoint::{Checkpoint, provide_builtin};
use deepj::generate::request::{self, KeyEvent, LivePiece};
use deepj::music::StylePath;
use wasm_bindgen::prelude::*;

use crate::device::{Device, selection};
use crate::train::Stop;
use crate::{Result, json, parsed, thrown};

/// What composes.
#[wasm_bindgen]
pub struct Weights(request::Weights);

#[wasm_bindgen]
impl Weights {
    /// The weights within the program, of whose file these are the bytes.
    ///
    /// # Errors
    /// A file that is damaged.
    pub fn builtin(bytes: Vec<u8>) -> Result<Weights> {
        provide_builtin(bytes);
        let checkpoint = Arc::new(Checkpoint::builtin().map_err(thrown)?);
        Ok(Self(request::Weights { checkpoint, builtin: true }))
    }

    /// A checkpoint of this name.
    ///
    /// # Errors
    /// Bytes that are no checkpoint, or one of another version.
    pub fn read(name: &str, bytes: &[u8]) -> Result<Weights> {
        let named = |e: deepj::Error| thrown(deepj::Error::file(name, e.what, e.remedy));
        let checkpoint = Arc::new(Checkpoint::from_bytes(bytes).map_err(named)?);
        Ok(Self(request::Weights { checkpoint, builtin: false }))
    }

    /// What they are, as JSON.
    ///
    /// # Errors
    /// None that is known of.
    pub fn describe(&self) -> Result<String> {
        json(&self.0.describe())
    }

    /// Reads a style as `deepj generate --style` does; returns notices, as JSON.
    ///
    /// # Errors
    /// What is no style of these weights.
    pub fn style(&self, expression: &str) -> Result<String> {
        json(&StylePath::parse(expression, &self.0.checkpoint.styles).map_err(thrown)?.1)
    }
}

/// A piece that is composed.
#[wasm_bindgen]
pub struct Piece(LivePiece);

#[wasm_bindgen]
impl Piece {
    /// Begins a piece as `wanted` says in JSON, behind the MIDI file `given` of that name, if it has bytes.
    ///
    /// # Errors
    /// Wishes out of range, a file that is no MIDI, or a device that fails.
    pub async fn begin(weights: &Weights, device: &Device, wanted: &str, name: &str, given: &[u8]) -> Result<Piece> {
        let given = (!given.is_empty()).then_some((name, given));
        let piece = LivePiece::begin(&weights.0, parsed(wanted)?, given, device.get(), selection());
        piece.await.map(Self).map_err(thrown)
    }

    /// Composes the next bar, and returns what happens in it: time step, pitch, and velocity, which is 0 where the key is let go of;
    /// `undefined` once nothing is left but the ending.
    ///
    /// # Errors
    /// A device that fails.
    #[wasm_bindgen(js_name = nextBar)]
    pub async fn next_bar(&mut self) -> Result<Option<Vec<u32>>> {
        Ok(self.0.next_bar().await.map_err(thrown)?.map(flat))
    }

    /// Composes the ending, and returns what happens in it.
    ///
    /// # Errors
    /// A device that fails.
    pub async fn finish(&mut self) -> Result<Vec<u32>> {
        self.0.finish().await.map(flat).map_err(thrown)
    }

    /// Compiles what the ending needs; with measuring on, measures that too.
    ///
    /// # Errors
    /// A device that fails.
    #[wasm_bindgen(js_name = prepareEnding)]
    pub async fn prepare_ending(&self) -> Result<()> {
        self.0.prepare_ending().await.map_err(thrown)
    }

    /// Time steps so far.
    #[wasm_bindgen(getter)]
    pub fn steps(&self) -> usize {
        self.0.steps()
    }

    /// The coins that were tossed for a pitch on a time step of the bar composed last: probability and number that was drawn, of play and
    /// of replay.
    pub fn coins(&self, step: usize, pitch: u8) -> Option<Vec<f32>> {
        self.0.coins(step, pitch).map(|coins| coins.concat())
    }

    /// The style from the next bar on.
    ///
    /// # Errors
    /// What is no style of these weights.
    #[wasm_bindgen(js_name = changeStyle)]
    pub fn change_style(&mut self, expression: &str) -> Result<()> {
        self.0.change_style(expression).map_err(thrown)
    }

    /// The temperature from the next bar on.
    ///
    /// # Errors
    /// One that is out of range.
    #[wasm_bindgen(js_name = changeTemperature)]
    pub fn change_temperature(&mut self, temperature: f32) -> Result<()> {
        self.0.change_temperature(temperature).map_err(thrown)
    }

    /// Lets it come to its end.
    #[wasm_bindgen(js_name = endSoon)]
    pub fn end_soon(&mut self) {
        self.0.end_soon();
    }

    /// What ends the composing of an ending, while that is under way.
    pub fn stopper(&self) -> Stop {
        Stop::of(self.0.stopper())
    }

    /// The piece as a MIDI file at so many quarter notes a minute: as far as it is composed.
    ///
    /// # Errors
    /// A tempo that no file has.
    pub fn midi(&self, tempo: f64) -> Result<Vec<u8>> {
        self.0.midi(tempo).map_err(thrown)
    }

    /// The command that composes it again.
    pub fn how(&self, tempo: f64) -> String {
        self.0.how(tempo)
    }
}

fn flat(events: Vec<KeyEvent>) -> Vec<u32> {
    events.into_iter().flat_map(|(step, pitch, velocity)| [step as u32, pitch.into(), velocity.into()]).collect()
}
