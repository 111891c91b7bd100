//! From MIDI files to what a model reads, and back: scores, piano rolls, corpora, styles and batches.
//!
//! The way in is [`midi::Score`] (notes in ticks) to [`roll::Roll`] (four steps a quarter note) to [`corpus::Corpus`]
//! (pieces by genre and composer) to [`batch::Batch`]. The way out is [`roll::Roll::to_midi`] and [`svg::draw`].
//! Nothing here knows of models or GPUs.

pub mod batch;
pub mod corpus;
pub mod floors;
pub mod midi;
pub mod roll;
mod shuffle;
pub mod styles;
pub mod svg;

pub use batch::{Batch, BatchShape, Bptt, Cursor, Evaluation, Training};
pub use corpus::{Corpus, CorpusOptions, CorpusReport, Part, Piece, Split};
pub use floors::Floors;
pub use midi::Score;
pub use roll::{NoteRange, Reading, Roll, RollStats};
pub use styles::{Composer, StylePath, Styles};
