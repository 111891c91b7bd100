//! Weights, and pieces that are composed with them bar by bar.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use deepj::checkpoint::{BUILTIN, Checkpoint, provide_builtin};
use deepj::generate::live::Live;
use deepj::generate::rights::Rights;
use deepj::generate::steering::Wishes;
use deepj::generate::{Composition, ENDINGS, SILENCE, TEMPERATURE};
use deepj::graph::session::Tune;
use deepj::music::midi::Writing;
use deepj::music::roll::BAR;
use deepj::music::{Reading, Roll, StylePath};
use serde::{Deserialize, Serialize};
use wasm_bindgen::prelude::*;

use crate::device::{Device, selection};
use crate::{Result, json, parsed, thrown, wrong};

/// What composes.
#[wasm_bindgen]
pub struct Weights {
    checkpoint: Arc<Checkpoint>,
    builtin: bool,
}

/// What the page shows of weights.
#[derive(Serialize)]
struct Described<'a> {
    builtin: bool,
    architecture: &'a str,
    parameters: usize,
    /// Genre and composer of each style; none of a model that knows no style.
    styles: Vec<[&'a str; 2]>,
    lowest: u8,
    highest: u8,
    /// The temperature where nothing is said.
    temperature: f32,
    /// Updates of its training.
    updates: u64,
    /// Whether training can go on from it.
    resumable: bool,
}

#[wasm_bindgen]
impl Weights {
    /// The weights within the program, of whose file these are the bytes.
    ///
    /// # Errors
    /// A file that is damaged.
    pub fn builtin(bytes: Vec<u8>) -> Result<Weights> {
        provide_builtin(bytes);
        Ok(Self { checkpoint: Arc::new(Checkpoint::builtin().map_err(thrown)?), builtin: true })
    }

    /// A checkpoint of this name.
    ///
    /// # Errors
    /// Bytes that are no checkpoint, or one of another version.
    pub fn read(name: &str, bytes: &[u8]) -> Result<Weights> {
        let checkpoint = Checkpoint::from_bytes(bytes)
            .map_err(|e| thrown(deepj::Error::file(name, e.what, e.remedy)))?;
        Ok(Self { checkpoint: Arc::new(checkpoint), builtin: false })
    }

    /// What they are, as JSON.
    ///
    /// # Errors
    /// None that is known of.
    pub fn describe(&self) -> Result<String> {
        let Checkpoint { model, styles, corpus, progress, resume, .. } = &*self.checkpoint;
        let known = model.roll().styles > 0;
        json(&Described {
            builtin: self.builtin,
            architecture: model.architecture(),
            parameters: model.layout().elements(),
            styles: styles.composers().iter().filter(|_| known).map(|c| [&*c.genre, &*c.name]).collect(),
            lowest: corpus.range.low(),
            highest: corpus.range.high(),
            temperature: self.temperature(),
            updates: progress.step,
            resumable: resume.is_some(),
        })
    }

    /// Reads a style as `deepj generate --style` does; returns notices, as JSON.
    ///
    /// # Errors
    /// What is no style of these weights.
    pub fn style(&self, expression: &str) -> Result<String> {
        json(&StylePath::parse(expression, &self.checkpoint.styles).map_err(thrown)?.1)
    }

    fn temperature(&self) -> f32 {
        if self.checkpoint.corpus.levels.is_empty() { 1.0 } else { TEMPERATURE }
    }

    fn rights(&self, given: bool) -> Rights {
        Rights::new(&self.checkpoint, Path::new(if self.builtin { BUILTIN } else { "the page's checkpoint" }), given)
    }
}

/// What the page wishes.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wanted {
    /// As for `deepj generate --style`; empty for all styles alike, or for a model that knows none.
    style: String,
    /// `null` goes on until somebody ends it.
    bars: Option<usize>,
    seed: u32,
    /// `null` for the weights' own.
    temperature: Option<f32>,
    /// Quarter notes a minute, for what the file says.
    tempo: f64,
    /// Whether it is closed with a chord.
    ending: bool,
}

/// A piece that is composed.
#[wasm_bindgen]
pub struct Piece {
    live: Live,
    stop: Arc<AtomicBool>,
    wanted: Wanted,
    temperature: f32,
    rights: Rights,
    /// What was changed on the way, so that the flags alone do not compose it again.
    changed: bool,
    given: bool,
    checkpoint: Arc<Checkpoint>,
    /// The piece as it is told of so far: up to here it has been played.
    told: usize,
    sounding: Vec<bool>,
    finished: Option<Roll>,
}

#[wasm_bindgen]
impl Piece {
    /// Begins a piece as `wanted` says in JSON, behind the MIDI file `given` of that name, if it has bytes.
    ///
    /// # Errors
    /// Wishes out of range, a file that is no MIDI, or a device that fails.
    pub async fn begin(weights: &Weights, device: &Device, wanted: &str, name: &str, given: &[u8]) -> Result<Piece> {
        let (mut wanted, checkpoint): (Wanted, _) = (parsed(wanted)?, weights.checkpoint.clone());
        let prime = match given {
            [] => None,
            bytes => {
                let reading = Reading::parse(name, bytes, checkpoint.corpus.range, false).map_err(thrown)?;
                Some(reading.roll_with_rest().map_err(thrown)?)
            }
        };
        if wanted.style.trim().is_empty() {
            let styles = &checkpoint.styles;
            wanted.style = (0..styles.len()).map(|i| styles.label(i)).collect::<Vec<_>>().join(",");
        }
        let (style, _) = StylePath::parse(&wanted.style, &checkpoint.styles).map_err(thrown)?;
        // A tempo that no file can have is found out before the work.
        Roll::from_notes(checkpoint.corpus.range, []).and_then(|roll| roll.to_midi(wanted.tempo)).map_err(thrown)?;
        let primed = prime.as_ref().map_or(0, Roll::steps);
        let temperature = wanted.temperature.unwrap_or(weights.temperature());
        let wishes = Wishes { levels: checkpoint.corpus.levels.clone(), ..Wishes::default() };
        let options = Composition {
            steps: wanted.bars.map_or(Live::most_steps(primed), |bars| bars.saturating_mul(BAR)),
            seed: wanted.seed,
            temperature,
            silence: SILENCE,
            endings: if wanted.ending { ENDINGS } else { 0 },
            prime,
            wishes,
            ..Composition::new(vec![style], 0)
        };
        let (given, stop) = (options.prime.is_some(), Arc::new(AtomicBool::new(false)));
        let live = Live::begin(checkpoint.clone(), options, device.get(), selection(Tune::Off), stop.clone());
        let (live, rights) = (live.await.map_err(thrown)?, weights.rights(given));
        let sounding = vec![false; checkpoint.corpus.range.len()];
        Ok(Self {
            live,
            stop,
            wanted,
            temperature,
            rights,
            changed: false,
            given,
            checkpoint,
            told: 0,
            sounding,
            finished: None,
        })
    }

    /// Composes the next bar, and returns what is played in it ([`Piece::events`]); `undefined` once nothing is left but the ending.
    ///
    /// # Errors
    /// A device that fails.
    #[wasm_bindgen(js_name = nextBar)]
    pub async fn next_bar(&mut self) -> Result<Option<Vec<f64>>> {
        match self.live.next_bar().await.map_err(thrown)? {
            Some(_) => self.events(&self.live.roll().map_err(thrown)?).map(Some),
            None => Ok(None),
        }
    }

    /// Composes the ending, and returns what is played in it.
    ///
    /// # Errors
    /// A device that fails.
    pub async fn finish(&mut self) -> Result<Vec<f64>> {
        let mut composed = self.live.finish().await.map_err(thrown)?;
        let roll = composed.rolls.swap_remove(0);
        self.finished = Some(roll.clone());
        if let Some(failure) = composed.failure {
            return Err(thrown(failure));
        }
        self.events(&roll)
    }

    /// Time steps so far.
    #[wasm_bindgen(getter)]
    pub fn steps(&self) -> usize {
        self.told
    }

    /// The style from the next bar on.
    ///
    /// # Errors
    /// What is no style of these weights.
    #[wasm_bindgen(js_name = changeStyle)]
    pub fn change_style(&mut self, expression: &str) -> Result<()> {
        self.live.change_style(StylePath::parse(expression, &self.checkpoint.styles).map_err(thrown)?.0);
        self.changed = true;
        Ok(())
    }

    /// The temperature from the next bar on.
    ///
    /// # Errors
    /// One that is out of range.
    #[wasm_bindgen(js_name = changeTemperature)]
    pub fn change_temperature(&mut self, temperature: f32) -> Result<()> {
        self.changed = true;
        self.live.change_temperature(temperature).map_err(thrown)
    }

    /// Lets it come to its end.
    #[wasm_bindgen(js_name = endSoon)]
    pub fn end_soon(&mut self) {
        self.changed = true;
        self.live.end_soon();
    }

    /// Ends the composing of an ending.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// The piece as a MIDI file at so many quarter notes a minute: as far as it is composed.
    ///
    /// # Errors
    /// A tempo that no file has.
    pub fn midi(&self, tempo: f64) -> Result<Vec<u8>> {
        let roll = self.finished.clone().map_or_else(|| self.live.roll(), Ok).map_err(thrown)?;
        let writing = Writing {
            two_hands: true,
            copyright: Some(self.rights.notice.clone()),
            texts: self.rights.texts(&self.how(tempo), None),
            ..Writing::new(tempo)
        };
        roll.to_midi_as(&writing).map_err(thrown)
    }

    /// The command that composes it again.
    pub fn how(&self, tempo: f64) -> String {
        let Wanted { style, bars, seed, ending, .. } = &self.wanted;
        let bars = bars.map_or(String::new(), |bars| format!(" --bars {bars}"));
        let ending = if *ending { "" } else { " --ending none" };
        let flags =
            format!("--style \"{style}\" --seed {seed} --tempo {tempo} --temperature {}{bars}{ending}", self.temperature);
        let given = if self.given { ", after a given beginning" } else { "" };
        let changed = if self.changed { ", and changed while it was played" } else { "" };
        format!("deepj generate {flags}{given}{changed}")
    }
}

impl Piece {
    /// What happens to keys from where it was told before: time step, pitch, and velocity, which is 0 where the key is let go of.
    fn events(&mut self, roll: &Roll) -> Result<Vec<f64>> {
        if roll.steps() < self.told {
            return Err(wrong("a piece that became shorter", "compose it again"));
        }
        let (low, mut events) = (roll.range().low(), vec![]);
        for t in self.told..roll.steps() {
            for (n, sounding) in self.sounding.iter_mut().enumerate() {
                let (cell, pitch) = (roll.step(t)[n], low + n as u8);
                let struck = cell.play() && (cell.replay() || !*sounding);
                if *sounding && (struck || !cell.play()) {
                    events.extend([t as f64, pitch.into(), 0.0]);
                }
                if struck {
                    events.extend([t as f64, pitch.into(), cell.velocity().into()]);
                }
                *sounding = cell.play();
            }
        }
        self.told = roll.steps();
        if self.finished.is_some() {
            let low = usize::from(low);
            for (n, _) in self.sounding.iter().enumerate().filter(|(_, sounding)| **sounding) {
                events.extend([self.told as f64, (low + n) as f64, 0.0]);
            }
            self.sounding.fill(false);
        }
        Ok(events)
    }
}
