//! A piece of a corpus.

use super::roll::Roll;

/// One piece of a corpus.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// `<genre>/<composer>/<file>` with `/` on every platform; distinct within the corpus.
    pub name: String,
    /// Its composer's index in the corpus's [`Styles`](super::Styles).
    pub style: usize,
    /// At least one time step long.
    pub roll: Roll,
    /// Quarter notes a minute on the average.
    pub mean_bpm: f64,
}
