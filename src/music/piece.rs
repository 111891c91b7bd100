//! A piece of a corpus.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::roll::Roll;
use crate::{Error, Result};

/// What is made of the velocities of pieces that have no dynamics of their own: of typeset ones, say, whose notes are all alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlatDynamics {
    /// They are learned like others.
    #[default]
    Learn,
    /// They are read, but neither learned nor evaluated.
    Ignore,
}

impl FlatDynamics {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Learn => "learn",
            Self::Ignore => "ignore",
        }
    }

    /// Whether velocities are learned as they are.
    pub fn is_learn(&self) -> bool {
        *self == Self::Learn
    }
}

impl FromStr for FlatDynamics {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Learn, Self::Ignore].into_iter().find(|known| known.name() == text).ok_or_else(|| {
            Error::usage(format!("'{text}' is nothing to do with flat dynamics"), "give learn or ignore")
        })
    }
}

/// One piece of a corpus.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// `<genre>/<composer>/<file>` with `/` on every platform; distinct within the corpus.
    pub name: String,
    /// Its composer's index in the corpus's [`Styles`](super::Styles).
    pub style: usize,
    /// At least one time step long.
    pub roll: Roll,
    /// Whether its dynamics are learned and evaluated.
    pub dynamics: bool,
    /// Quarter notes a minute on the average.
    pub mean_bpm: f64,
}
