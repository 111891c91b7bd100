//! DeepJ's configuration: all sizes, rates and switches; saved in every checkpoint.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::models::{check_pitches, check_rate};

/// How the style embedding reaches the network (docs/MODEL.md, "Switches").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StyleUse {
    /// Not at all.
    None,
    /// As more input of the first layer: what the paper tried first and found ignored.
    Input,
    /// As global conditioning of every LSTM layer: the paper's model.
    PerLayer,
}

/// How a layer's style joins its input (docs/MODEL.md, "Switches").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Join {
    /// Added: the paper's model.
    Sum,
    /// Concatenated.
    Concat,
}

/// How a note sees the octave around it (docs/MODEL.md, "Switches").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Octave {
    /// Through a learned 1-D convolution: the paper's model.
    Conv,
    /// As it is: each note's raw neighbours, as many as the convolution has taps.
    Direct,
}

/// How dynamics are represented (docs/MODEL.md, "Switches").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Dynamics {
    /// One linear output, the velocity divided by 127: the paper's model.
    Scalar,
    /// A distribution over 128 velocities, of which one is drawn: what the paper tried and dropped.
    Categorical,
}

/// Named sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// The paper's sizes: 1.27 million parameters at 23 styles.
    Paper,
    /// Half the units on each axis, for machines without a GPU: a quarter of the work.
    Small,
}

/// All that defines the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// MIDI pitch of the lowest note.
    pub lowest: usize,
    /// N, number of notes.
    pub notes: usize,
    /// q, time steps of a bar.
    pub beats: usize,
    /// S, number of composers' styles.
    pub styles: usize,
    /// Width of the style embedding.
    pub style_width: usize,
    /// Features of the octave convolution; without effect where there is none.
    pub filters: usize,
    /// Notes that a note sees, itself in their middle: the taps of the octave convolution. Odd.
    pub taps: usize,
    /// Units of each LSTM layer of the time axis.
    pub time_units: usize,
    /// Units of each LSTM layer of the note axis.
    pub note_units: usize,
    /// Dropout of notes, beat and chosen notes: 0 to below 1.
    pub input_dropout: f32,
    /// Dropout everywhere else: 0 to below 1.
    pub dropout: f32,
    /// How style reaches the network.
    pub style: StyleUse,
    /// How a layer's style joins its input.
    pub join: Join,
    /// How a note sees the octave around it.
    pub octave: Octave,
    /// How dynamics are represented.
    pub dynamics: Dynamics,
    /// Whether replay and dynamics count only where the target plays.
    pub masked_losses: bool,
}

impl Config {
    /// The configuration of a preset for this many styles.
    pub fn preset(preset: Preset, styles: usize) -> Self {
        let paper = Self {
            lowest: 36,
            notes: 48,
            beats: 16,
            styles,
            style_width: 64,
            filters: 64,
            taps: 25,
            time_units: 256,
            note_units: 128,
            input_dropout: 0.2,
            dropout: 0.5,
            style: StyleUse::PerLayer,
            join: Join::Sum,
            octave: Octave::Conv,
            dynamics: Dynamics::Scalar,
            masked_losses: true,
        };
        match preset {
            Preset::Paper => paper,
            Preset::Small => Self { style_width: 32, filters: 32, time_units: 128, note_units: 64, ..paper },
        }
    }

    /// Fails on sizes that make no network.
    ///
    /// # Errors
    /// Names the field and what it may be.
    pub fn check(&self) -> Result<()> {
        let sizes = [
            ("notes", self.notes),
            ("beats", self.beats),
            ("styles", self.styles),
            ("style_width", self.style_width),
            ("filters", self.filters),
            ("taps", self.taps),
            ("time_units", self.time_units),
            ("note_units", self.note_units),
        ];
        for (name, value) in sizes {
            if value == 0 || value > 1 << 16 {
                return Err(Error::model(format!("configuration: {name} = {value}"), "it must be 1 to 65536"));
            }
        }
        if self.taps.is_multiple_of(2) {
            return Err(Error::model(format!("configuration: taps = {}", self.taps), "it must be odd"));
        }
        check_pitches(self.lowest, self.notes)?;
        check_rate("input_dropout", self.input_dropout)?;
        check_rate("dropout", self.dropout)
    }
}
