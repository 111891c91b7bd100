//! The pitches of a roll.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The MIDI pitches `low..=high` that a roll holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NoteRange {
    low: u8,
    high: u8,
}

impl NoteRange {
    /// The pitches `low..=high`.
    ///
    /// # Errors
    /// `low` is above `high`, or `high` above 127.
    pub fn new(low: u8, high: u8) -> Result<Self> {
        if low > high || high > 127 {
            return Err(Error::usage(
                format!("{low}..={high} is no range of MIDI pitches"),
                "give LOW..=HIGH with 0 <= LOW <= HIGH <= 127, for example 36..=83",
            ));
        }
        Ok(Self { low, high })
    }

    /// The lowest pitch.
    pub fn low(self) -> u8 {
        self.low
    }

    /// The highest pitch.
    pub fn high(self) -> u8 {
        self.high
    }

    /// The number N of pitches, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "a range is never empty")]
    pub fn len(self) -> usize {
        usize::from(self.high - self.low) + 1
    }

    /// The index of `pitch` in the range, 0 for the lowest; `None` outside.
    pub fn index(self, pitch: u8) -> Option<usize> {
        (self.low..=self.high).contains(&pitch).then(|| usize::from(pitch - self.low))
    }
}

impl Default for NoteRange {
    /// The paper's four octaves, 36..=83.
    fn default() -> Self {
        Self { low: 36, high: 83 }
    }
}

impl fmt::Display for NoteRange {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}..={}", self.low, self.high)
    }
}

impl FromStr for NoteRange {
    type Err = Error;

    /// Reads `LOW..=HIGH`.
    fn from_str(text: &str) -> Result<Self> {
        let bad =
            || Error::usage(format!("'{text}' is no range of MIDI pitches"), "give LOW..=HIGH, for example 36..=83");
        let (low, high) = text.split_once("..=").ok_or_else(bad)?;
        let pitch = |text: &str| text.trim().parse().map_err(|_| bad());
        Self::new(pitch(low)?, pitch(high)?)
    }
}

impl TryFrom<String> for NoteRange {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<NoteRange> for String {
    fn from(range: NoteRange) -> Self {
        range.to_string()
    }
}
