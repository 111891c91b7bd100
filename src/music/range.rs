//! The pitches of a roll.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::pitch;
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
                "give LOW..=HIGH with 0 <= LOW <= HIGH <= 127, for example 36..=83 or C2..B5",
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

    /// The range in names of pitches, lowest and highest: `C2..B5`.
    pub fn names(self) -> String {
        format!("{}..{}", pitch::name(self.low), pitch::name(self.high))
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

    /// Reads `LOW..=HIGH`, each a MIDI number or a name ([`pitch::parse`]), and of names `LOW..HIGH` and `LOW-HIGH`
    /// too. Both ends belong to the range in all forms; numbers have the first one only, since `36..83` leaves open
    /// whether 83 does.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> deepj::Result<()> {
    /// use deepj::music::NoteRange;
    ///
    /// let range: NoteRange = "C2..B5".parse()?;
    /// assert_eq!((range.to_string(), range.names()), ("36..=83".to_string(), "C2..B5".to_string()));
    /// # Ok(())
    /// # }
    /// ```
    fn from_str(text: &str) -> Result<Self> {
        let example = "give LOW..=HIGH in MIDI numbers or LOW..HIGH in names, both ends included: 36..=83 or C2..B5";
        let no_range = || Error::usage(format!("'{text}' is no range of MIDI pitches"), example);
        if let Some((low, high)) = text.split_once("..=") {
            let pitch = |end| pitch::parse(end).map_err(|e| Error::usage(format!("'{text}': {}", e.what), e.remedy));
            return Self::new(pitch(low)?, pitch(high)?);
        }
        let pitch = |end: &str| pitch::of_name(end.trim()).and_then(|pitch| u8::try_from(pitch).ok());
        let of_names = |(low, high)| Some((pitch(low)?, pitch(high)?));
        // The minus of octave -1 is a hyphen, too: at most one of the splits has a name on both sides.
        let mut hyphens = text.match_indices('-').map(|(i, hyphen)| (&text[..i], &text[i + hyphen.len()..]));
        let ends = text.split_once("..").and_then(of_names).or_else(|| hyphens.find_map(of_names));
        let (low, high) = ends.ok_or_else(no_range)?;
        Self::new(low, high)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_from_numbers_and_names() {
        let known = [
            ("36..=83", 36, 83),
            ("36 ..= 83", 36, 83),
            ("C3..C6", 48, 84),
            ("c3 .. c6", 48, 84),
            ("C3..=C6", 48, 84),
            ("C3..=84", 48, 84),
            ("C3-C6", 48, 84),
            ("Db3 - F♯5", 49, 78),
            ("C-1-B-1", 0, 11),
            ("C-1..G9", 0, 127),
            ("A0-A0", 21, 21),
        ];
        for (text, low, high) in known {
            assert_eq!(text.parse::<NoteRange>().unwrap(), NoteRange { low, high }, "{text}");
        }
    }

    #[test]
    fn every_range_is_read_from_its_names_and_its_display() {
        for low in 0..=127 {
            for high in low..=127 {
                let range = NoteRange { low, high };
                assert_eq!(range.names().parse::<NoteRange>().unwrap(), range);
                assert_eq!(range.names().replace("..", "-").parse::<NoteRange>().unwrap(), range);
                assert_eq!(range.to_string().parse::<NoteRange>().unwrap(), range);
            }
        }
        assert_eq!(NoteRange::default().names(), "C2..B5");
        assert_eq!(NoteRange::default().to_string(), "36..=83");
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in [
            "", "C3", "36-83", "36..83", "C3..", "..C6", "C6..C3", "83..=36", "C3..H6", "C3..84", "0..=128", "A9..B9",
            "C3-C4-C5",
        ] {
            let error = text.parse::<NoteRange>().unwrap_err();
            assert!(error.remedy.contains("127") || error.remedy.contains("C2..B5"), "{text}: {error}");
        }
        let error = "C3..=H6".parse::<NoteRange>().unwrap_err();
        assert!(error.what.contains("C3..=H6") && error.what.contains("'H6' is no pitch"), "{error}");
    }
}
