//! The split of a corpus into training, validation and test pieces.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::corpus::Corpus;
use super::names::composed;
use super::piece::Piece;
use super::styles::Composer;
use crate::shuffle::SplitMix64;
use crate::{Error, Result};

/// Which pieces go to training, to validation and to the test, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// The seed it was made with.
    pub seed: u64,
    /// Names of training pieces, ordered.
    pub train: Vec<String>,
    /// Names of validation pieces, ordered; empty only where no composer has two pieces.
    pub validation: Vec<String>,
    /// Names of test pieces, ordered.
    pub test: Vec<String>,
}

/// A part of a [`Split`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The training pieces.
    Train,
    /// The validation pieces.
    Validation,
    /// The test pieces.
    Test,
    /// The validation and the test pieces.
    HeldOut,
    /// Every piece of the corpus.
    All,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
            Self::HeldOut => "held-out",
            Self::All => "all",
        })
    }
}

impl std::str::FromStr for Part {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Train, Self::Validation, Self::Test, Self::HeldOut, Self::All]
            .into_iter()
            .find(|part| part.to_string() == text)
            .ok_or_else(|| {
                Error::usage(format!("'{text}' is no split"), "give train, validation, test, held-out or all")
            })
    }
}

impl Split {
    /// The names of a part, ordered; none of all pieces, which a split need not know.
    fn names(&self, part: Part) -> Option<Vec<&String>> {
        let mut names: Vec<&String> = match part {
            Part::Train => self.train.iter().collect(),
            Part::Validation => self.validation.iter().collect(),
            Part::Test => self.test.iter().collect(),
            Part::HeldOut => self.validation.iter().chain(&self.test).collect(),
            Part::All => return None,
        };
        names.sort();
        Some(names)
    }
}

impl Corpus {
    /// Splits the pieces into training, validation and test, composer by composer.
    ///
    /// Of a composer's n pieces, n/10 (rounded) go to the test and n/10 to the validation, which gets at least one where n is
    /// 3 or more. Composers with one or two pieces give none. If no composer has three, each composer with two gives one to
    /// the validation. Which ones depends on `seed` and on the composer's own pieces only. Pieces that are
    /// equal to another, of any composer, go to training, so that none is in two parts.
    pub fn split(&self, seed: u64) -> Split {
        let mut split = Split { seed, train: Vec::new(), validation: Vec::new(), test: Vec::new() };
        let count = |style| self.pieces.iter().filter(|piece| piece.style == style).count();
        let scarce = (0..self.styles.len()).all(|style| count(style) < 3);
        for (style, Composer { genre, name }) in self.styles.composers().iter().enumerate() {
            let pieces = self.pieces.iter().filter(|piece| piece.style == style);
            let mut names: Vec<String> = pieces.map(|piece| piece.name.clone()).collect();
            let stream = u64::from(crc32c::crc32c(format!("{genre}/{name}").as_bytes()));
            SplitMix64::new(seed, stream).shuffle(&mut names);
            let tenth = (names.len() + 5) / 10;
            let validation = if names.len() >= 3 || scarce && names.len() == 2 { tenth.max(1) } else { 0 };
            // What is also in training would measure memory.
            let (equal, mut names): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| self.equal.contains(name));
            split.validation.extend(names.drain(..validation.min(names.len())));
            split.test.extend(names.drain(..tenth.min((names.len() + equal.len()).saturating_sub(1)).min(names.len())));
            split.train.extend(names.into_iter().chain(equal));
        }
        for part in [&mut split.train, &mut split.validation, &mut split.test] {
            part.sort();
        }
        split
    }

    /// The piece of this name.
    fn find(&self, name: &str) -> Option<&Arc<Piece>> {
        let find = |name: &str| self.pieces.binary_search_by(|piece| piece.name.as_str().cmp(name));
        // Names of older checkpoints have the Unicode form of the system that they are from.
        find(name).or_else(|_| find(&composed(name))).ok().map(|i| &self.pieces[i])
    }

    /// The pieces of one part of `split`, in the order of their names.
    ///
    /// # Errors
    /// A piece of it is not in this corpus.
    pub fn part(&self, split: &Split, part: Part) -> Result<Vec<Arc<Piece>>> {
        let Some(names) = split.names(part) else { return Ok(self.pieces.clone()) };
        let piece = |name: &String| {
            self.find(name).cloned().ok_or_else(|| {
                Error::usage(
                    format!("{name} of the {part} split is not in this corpus"),
                    "give the corpus that the split was made from, or take all pieces",
                )
            })
        };
        names.into_iter().map(piece).collect()
    }

    /// The pieces of one part of `split` that are in this corpus, which may be a part of the one that was split, and how many are
    /// not.
    ///
    /// # Errors
    /// None of them is in this corpus.
    pub fn part_that_is_here(&self, split: &Split, part: Part) -> Result<(Vec<Arc<Piece>>, usize)> {
        let names = split.names(part).unwrap_or_default();
        let here: Vec<_> = names.iter().filter_map(|name| self.find(name).cloned()).collect();
        match here.is_empty() {
            true => self.part(split, part).map(|pieces| (pieces, 0)),
            false => {
                let missing = names.len() - here.len();
                Ok((here, missing))
            }
        }
    }
}
