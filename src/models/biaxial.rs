//! The Biaxial LSTM (Johnson 2015, "Composing Music With Recurrent Neural Networks"; 2017, "Generating Polyphonic Music Using Tied
//! Parallel Networks"): what DeepJ was compared with (paper, section IV; docs/MODEL.md, "The Biaxial LSTM").

use std::ops::RangeInclusive;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::axes::{self, Axes, Composing, LAYERS, Pass};
use super::losses::REPLAY_OF_ALL;
use super::network::{ArchitectureOf, Built, Inputs, Network, Outputs};
use super::{CorpusFacts, DefaultOn, Generation, Loss, PresetInfo, RollShape, StateShape, TypicalSizes};
use crate::error::{Error, Result};
use crate::graph::{Graph, Layout};
use crate::nn::losses::{Heads, Scores};
use crate::nn::lstm::LstmLayer;
use crate::nn::optimizer::Rule;
use crate::nn::optimizer::adadelta::Adadelta;
use crate::ops::View;
use crate::ops::biaxial_features::{BiaxialFeatures, WIDTH};
use crate::ops::heads::HeadSet;
use crate::shape::Channels;

/// The Biaxial LSTM as a kind of network.
pub static BIAXIAL: ArchitectureOf<Config> = ArchitectureOf::NEW;

/// The values of a cell.
const CHANNELS: Channels = Channels::NOTES;
/// Time steps of a bar: its features hold four bits of the time step.
const BEATS: usize = 16;

const PRESETS: [PresetInfo; 2] = [
    PresetInfo { name: "paper", batch: (10, 128), default_on: DefaultOn::Gpu },
    PresetInfo { name: "small", batch: (4, 64), default_on: DefaultOn::Cpu },
];

/// All that defines the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// MIDI pitch of the lowest note.
    pub lowest: usize,
    /// N, number of notes.
    pub notes: usize,
    /// Units of the LSTM layers of the time axis, lower layer first.
    pub time_units: [usize; LAYERS],
    /// Units of the LSTM layers of the note axis, lower layer first.
    pub note_units: [usize; LAYERS],
    /// Dropout after each LSTM layer: 0 to below 1.
    pub dropout: f32,
    /// Whether replay counts only where the target plays.
    pub masked_losses: bool,
}

impl Config {
    /// Appends the time axis' input on `batch` slots of `steps` time steps.
    fn features(&self, g: &mut Graph, (batch, steps): (usize, usize), notes: View, start: View) -> View {
        let op = BiaxialFeatures { steps, batch, notes: self.notes, lowest: self.lowest, stored: g.stored() };
        g.scope("features", |g| {
            let x = g.temp_as("features", steps * batch * self.notes * WIDTH, op.stored);
            g.apply(op, &[notes, start, x]);
            g.drop_after_forward(x);
            x
        })
    }
}

impl Network for Config {
    type Layers = Axes;
    const NAME: &'static str = "biaxial";
    const PRESETS: &'static [PresetInfo] = &PRESETS;
    const LOSSES: &'static [Loss] = &[Loss::PLAY, Loss::REPLAY];
    const PITCHES: RangeInclusive<u8> = 24..=101;
    const OPTIMIZER: &'static str = Adadelta::NAME;

    fn losses(&self) -> &'static [Loss] {
        match self.masked_losses {
            true => Self::LOSSES,
            false => &[Loss::PLAY, REPLAY_OF_ALL],
        }
    }

    fn preset(name: &str, CorpusFacts { lowest, notes, .. }: CorpusFacts) -> Self {
        let (time_units, note_units) = if name == "paper" { ([300, 300], [100, 50]) } else { ([128, 128], [64, 32]) };
        Self { lowest, notes, time_units, note_units, dropout: 0.5, masked_losses: true }
    }

    fn check(&self) -> Result<()> {
        let of_axis = |name: &'static str, units: [usize; LAYERS]| units.map(|units| (name, units));
        let units = [of_axis("time_units", self.time_units), of_axis("note_units", self.note_units)];
        for (name, value) in units.into_iter().flatten().chain([("notes", self.notes)]) {
            if value == 0 || value > 1 << 16 {
                return Err(Error::model(format!("configuration: {name} = {value}"), "it must be 1 to 65536"));
            }
        }
        super::check_pitches(self.lowest, self.notes)?;
        super::check_rate("dropout", self.dropout)
    }

    fn roll(&self) -> RollShape {
        RollShape { lowest: self.lowest, notes: self.notes, channels: CHANNELS, beats: BEATS, styles: 0 }
    }

    fn layers(&self, layout: &mut Layout) -> Axes {
        let ([t0, t1], [n0, n1]) = (self.time_units, self.note_units);
        let mut layer = |name: &str, inputs: usize, units: usize| LstmLayer::plain(layout, name, inputs, units);
        let time = [layer("time.0", WIDTH, t0), layer("time.1", t0, t1)];
        let note = [layer("note.0", t1 + CHANNELS.len(), n0), layer("note.1", n0, n1)];
        Axes { time, note, heads: Heads::new(layout, n1, CHANNELS.len(), 0) }
    }

    fn states(&self, slots: usize) -> Vec<StateShape> {
        axes::states(slots, self.notes, self.time_units)
    }

    fn forward(&self, axes: &Axes, g: &mut Graph, inputs: &Inputs) -> Outputs {
        let x = self.features(g, (inputs.slots, inputs.steps), inputs.seen(), inputs.start);
        let dropout = if inputs.training { self.dropout } else { 0.0 };
        let scores = Scores { heads: HeadSet::notes(self.masked_losses), binned: None };
        let pass = Pass { notes: self.notes, channels: CHANNELS.len(), scores, dropout, chosen_dropout: 0.0 };
        let (losses, states) = axes.forward(g, x, &axes.plain_biases(), inputs, pass);
        Outputs { losses, states }
    }

    fn generation(built: &Built<Self>, pieces: usize, window: usize) -> Result<Generation> {
        let (c, axes) = (&built.config, &built.layers);
        let sizes = (c.notes, CHANNELS.len(), 0);
        Ok(axes.time_step(&built.layout, sizes, (pieces, window), |g, Composing { notes, clock, .. }| {
            (axes.plain_biases(), c.features(g, (pieces, 1), notes, clock))
        }))
    }

    fn typical_sizes(&self) -> TypicalSizes {
        let ([time_units, _], [note_units, upper_units]) = (self.time_units, self.note_units);
        let (dropout, masked) = (self.dropout, self.masked_losses);
        TypicalSizes { time_units, note_units, upper_units, dropout, masked, ..TypicalSizes::of(self.roll()) }
    }
}
