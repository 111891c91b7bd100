//! Pieces for pages: what a page asks for, and a piece that it has composed bar by bar, told of as keys that are struck and let go of.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};

use super::rights::{Given, Rights};
use super::stepwise::Stepwise;
use super::{Composition, usual_temperature};
use crate::checkpoint::{BUILTIN, Checkpoint};
use crate::gpu::Device;
use crate::graph::session::KernelSelection;
use crate::music::midi::Writing;
use crate::music::roll::BAR;
use crate::music::{Reading, Roll, StylePath};
use crate::{Error, Result};

/// What composes: a checkpoint, and whether it is that within the program.
#[derive(Clone, Debug)]
pub struct Weights {
    pub checkpoint: Arc<Checkpoint>,
    pub builtin: bool,
}

/// What a page shows of weights.
#[derive(Debug, Serialize)]
pub struct Described<'a> {
    /// Whether they are those within the program.
    pub builtin: bool,
    /// The kind of network.
    pub architecture: &'a str,
    /// Weights of it.
    pub parameters: usize,
    /// Genre and composer of each style; none of a model that knows no style.
    pub styles: Vec<[&'a str; 2]>,
    /// The temperature where nothing is said.
    pub temperature: f32,
    /// Updates of its training.
    pub updates: u64,
    /// Whether training can go on from it.
    pub resumable: bool,
}

impl Weights {
    /// What they are.
    pub fn describe(&self) -> Described<'_> {
        let Checkpoint { model, styles, progress, resume, .. } = &*self.checkpoint;
        let known = model.roll().styles > 0;
        Described {
            builtin: self.builtin,
            architecture: model.architecture(),
            parameters: model.layout().elements(),
            styles: styles.composers().iter().filter(|_| known).map(|c| [&*c.genre, &*c.name]).collect(),
            temperature: self.temperature(),
            updates: progress.step,
            resumable: resume.is_some(),
        }
    }

    /// The temperature where nothing is said, as `deepj generate` has it.
    pub fn temperature(&self) -> f32 {
        usual_temperature(&self.checkpoint.corpus.levels)
    }
}

/// What a page asks for.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Request {
    /// As for `deepj generate --style`; empty for all styles alike, or for a model that knows none.
    pub style: String,
    /// `None` goes on until somebody ends it.
    pub bars: Option<usize>,
    /// Seed of all random draws.
    pub seed: u32,
    /// `None` for the weights' own.
    pub temperature: Option<f32>,
    /// Quarter notes a minute.
    pub tempo: f64,
    /// Whether it is closed with a chord.
    pub ending: bool,
}

/// A key at a time step: its pitch, and the velocity with which it is struck, or 0 where it is let go of.
pub type KeyEvent = (usize, u8, u8);

/// A piece on the way: without changes the one that `deepj generate` composes with the same flags.
pub struct LivePiece {
    stepwise: Stepwise,
    stop: Arc<AtomicBool>,
    request: Request,
    temperature: f32,
    style_emphasis: f32,
    rights: Rights,
    /// Whether something was changed on the way, so that the flags alone do not compose it again.
    changed: bool,
    given: bool,
    checkpoint: Arc<Checkpoint>,
    /// The time step up to which it was told of, and the keys that sound there.
    told: usize,
    sounding: Vec<bool>,
    finished: Option<Roll>,
}

impl LivePiece {
    /// Begins a piece, behind the MIDI file `given` (name and bytes), where there is one.
    ///
    /// # Errors
    /// Wishes out of range, a file that is no MIDI, or a device that fails.
    pub async fn begin(
        weights: &Weights,
        mut request: Request,
        given: Option<(&str, &[u8])>,
        device: Device,
        selection: KernelSelection,
    ) -> Result<Self> {
        let checkpoint = weights.checkpoint.clone();
        let reading = given.map(|(name, bytes)| Reading::parse(name, bytes, checkpoint.corpus.range, false));
        let prime = reading.transpose()?.map(|reading| reading.roll_with_rest()).transpose()?;
        if request.style.trim().is_empty() {
            let styles = &checkpoint.styles;
            request.style = (0..styles.len()).map(|i| styles.label(i)).collect::<Vec<_>>().join(",");
        }
        let (style, _) = StylePath::parse(&request.style, &checkpoint.styles)?;
        // A tempo that no file can have is found out before the work.
        Roll::from_notes(checkpoint.corpus.range, [])?.to_midi(request.tempo)?;
        let primed = prime.as_ref().map_or(0, Roll::steps);
        let temperature = request.temperature.unwrap_or(weights.temperature());
        let usual = Composition::usual(&checkpoint, vec![style], 0);
        let style_emphasis = usual.wishes.style_emphasis;
        let options = Composition {
            steps: request.bars.map_or(Stepwise::most_steps(primed), |bars| bars.saturating_mul(BAR)),
            seed: request.seed,
            temperature,
            endings: if request.ending { usual.endings } else { 0 },
            prime,
            ..usual
        };
        let stop = Arc::new(AtomicBool::new(false));
        let stepwise = Stepwise::begin(checkpoint.clone(), options, device, selection, stop.clone()).await?;
        let of = given.map(|(name, bytes)| Given::new(name.into(), bytes));
        let path = if weights.builtin { BUILTIN } else { "the page's checkpoint" };
        Ok(Self {
            stepwise,
            stop,
            request,
            temperature,
            style_emphasis,
            rights: Rights::new(&checkpoint, Path::new(path), of),
            changed: false,
            given: given.is_some(),
            told: 0,
            sounding: vec![false; checkpoint.corpus.range.len()],
            checkpoint,
            finished: None,
        })
    }

    /// Composes the next bar, and returns what happens in it; `None` once nothing is left but the ending.
    ///
    /// # Errors
    /// A device that fails.
    pub async fn next_bar(&mut self) -> Result<Option<Vec<KeyEvent>>> {
        match self.stepwise.next_bar().await? {
            Some(_) => self.events(&self.stepwise.roll()?).map(Some),
            None => Ok(None),
        }
    }

    /// Composes the ending, and returns what happens in it; all keys are let go of at its end.
    ///
    /// # Errors
    /// A device that fails; what was composed before is kept.
    pub async fn finish(&mut self) -> Result<Vec<KeyEvent>> {
        let mut composed = self.stepwise.finish().await?;
        let roll = composed.rolls.swap_remove(0);
        self.finished = Some(roll.clone());
        composed.failure.map_or_else(|| self.events(&roll), Err)
    }

    /// See [`Stepwise::prepare_ending`].
    ///
    /// # Errors
    /// As there.
    pub async fn prepare_ending(&self) -> Result<()> {
        self.stepwise.prepare_ending().await
    }

    /// Time steps of which was told.
    pub fn steps(&self) -> usize {
        self.told
    }

    /// See [`Stepwise::coins`].
    pub fn coins(&self, step: usize, pitch: u8) -> Option<[[f32; 2]; 2]> {
        self.stepwise.coins(step, pitch)
    }

    /// The style from the next bar on.
    ///
    /// # Errors
    /// What is no style of the weights.
    pub fn change_style(&mut self, expression: &str) -> Result<()> {
        self.stepwise.change_style(StylePath::parse(expression, &self.checkpoint.styles)?.0);
        self.changed = true;
        Ok(())
    }

    /// The temperature from the next bar on.
    ///
    /// # Errors
    /// One that is out of range.
    pub fn change_temperature(&mut self, temperature: f32) -> Result<()> {
        self.changed = true;
        self.stepwise.change_temperature(temperature)
    }

    /// Lets it come to its end.
    pub fn end_soon(&mut self) {
        self.changed = true;
        self.stepwise.end_soon();
    }

    /// What ends the composing of an ending once it is set, while that is under way.
    pub fn stopper(&self) -> Arc<AtomicBool> {
        self.stop.clone()
    }

    /// The piece as a MIDI file at so many quarter notes a minute, as far as it is composed.
    ///
    /// # Errors
    /// A tempo that no file has.
    pub fn midi(&self, tempo: f64) -> Result<Vec<u8>> {
        let roll = self.finished.clone().map_or_else(|| self.stepwise.roll(), Ok)?;
        let writing = Writing {
            two_hands: true,
            copyright: Some(self.rights.notice.clone()),
            texts: self.rights.texts(self.how(tempo), None),
            ..Writing::new(tempo)
        };
        roll.to_midi_as(&writing)
    }

    /// The command that composes it again.
    pub fn how(&self, tempo: f64) -> String {
        let Request { style, bars, seed, ending, .. } = &self.request;
        let bars = bars.map_or(String::new(), |bars| format!(" --bars {bars}"));
        let ending = if *ending { "" } else { " --ending none" };
        let (temperature, emphasis) = (self.temperature, self.style_emphasis);
        let given = if self.given { ", after a given beginning" } else { "" };
        let changed = if self.changed { ", and changed while it was played" } else { "" };
        format!(
            "deepj generate --style \"{style}\" --seed {seed} --tempo {tempo} --temperature {temperature} --style-emphasis {emphasis}{bars}{ending}{given}{changed}"
        )
    }

    /// What happens from where it was told before to the end of `roll`.
    fn events(&mut self, roll: &Roll) -> Result<Vec<KeyEvent>> {
        if roll.steps() < self.told {
            return Err(Error::run("a piece that became shorter", "compose it again"));
        }
        let (low, mut events) = (roll.range().low(), vec![]);
        for t in self.told..roll.steps() {
            for (n, sounding) in self.sounding.iter_mut().enumerate() {
                let (cell, pitch) = (roll.step(t)[n], low + n as u8);
                let struck = cell.play() && (cell.replay() || !*sounding);
                if *sounding && (struck || !cell.play()) {
                    events.push((t, pitch, 0));
                }
                if struck {
                    events.push((t, pitch, cell.velocity()));
                }
                *sounding = cell.play();
            }
        }
        self.told = roll.steps();
        if self.finished.is_some() {
            let held = self.sounding.iter().enumerate().filter(|(_, sounding)| **sounding);
            events.extend(held.map(|(n, _)| (self.told, low + n as u8, 0)));
            self.sounding.fill(false);
        }
        Ok(events)
    }
}

#[cfg(test)]
mod tests {
    use pollster::block_on;

    use super::*;
    use crate::music::roll::RollNote;

    fn piece(request: Request) -> LivePiece {
        let weights = Weights { checkpoint: Arc::new(Checkpoint::builtin().unwrap()), builtin: true };
        let device = Device::Cpu { why: String::new() };
        block_on(LivePiece::begin(&weights, request, None, device, KernelSelection::default())).unwrap()
    }

    #[test]
    fn what_is_told_is_what_the_file_has() {
        let request = r#"{"style":"bach","bars":4,"seed":2,"temperature":null,"tempo":90,"ending":true}"#;
        let mut piece = piece(serde_json::from_str(request).unwrap());
        let mut events = vec![];
        while let Some(more) = block_on(piece.next_bar()).unwrap() {
            events.extend(more);
        }
        events.extend(block_on(piece.finish()).unwrap());
        let (mut notes, mut open) = (vec![], std::collections::BTreeMap::new());
        for (step, pitch, velocity) in events {
            if let Some((start, velocity)) = open.remove(&pitch) {
                notes.push(RollNote { pitch, velocity, start, end: step, replay: false });
            }
            if velocity > 0 {
                open.insert(pitch, (step, velocity));
            }
        }
        assert!(open.is_empty(), "{open:?}");
        let bytes = piece.midi(90.0).unwrap();
        let range = piece.checkpoint.corpus.range;
        let written = Reading::parse("piece.mid", &bytes, range, true).unwrap().roll;
        let told = Roll::from_notes(range, notes).unwrap();
        let places = |roll: &Roll| roll.notes().iter().map(|n| (n.pitch, n.start, n.end)).collect::<Vec<_>>();
        assert_eq!(places(&told), places(&written));
        assert!(places(&told).len() > 10);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(
            text.contains("--style \"bach\" --seed 2 --tempo 90 --temperature 0.8 --style-emphasis 0.3 --bars 4"),
            "{text}"
        );
    }

    #[test]
    fn a_request_that_cannot_be_is_refused() {
        let with = |field: &str, value: serde_json::Value| {
            let mut request = serde_json::json!({
                "style": "bach", "bars": 4, "seed": 2, "temperature": null, "tempo": 90, "ending": true
            });
            request[field] = value;
            let request: Request = serde_json::from_value(request).unwrap();
            let weights = Weights { checkpoint: Arc::new(Checkpoint::builtin().unwrap()), builtin: true };
            let device = Device::Cpu { why: String::new() };
            let begun = block_on(LivePiece::begin(&weights, request, None, device, KernelSelection::default()));
            begun.err().map(|e| e.to_string()).unwrap_or_default()
        };
        for (field, value) in
            [("style", "bahc".into()), ("bars", 0.into()), ("tempo", 1e9.into()), ("temperature", (-1).into())]
        {
            assert!(!with(field, value).is_empty(), "{field}");
        }
    }
}
