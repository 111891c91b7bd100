//! From MIDI files to what a model reads, and back: scores, piano rolls, corpora, styles and batches.
//!
//! The way in is [`Score`] (notes in ticks) to [`Roll`] (four time steps a quarter note) to [`Corpus`] (pieces by genre
//! and composer) to [`Batch`] (windows of pieces side by side, which a [`Sampler`] chooses). The way out is
//! [`Roll::to_midi`] and [`svg::draw`]. Nothing here knows of models or GPUs.

pub mod baselines;
pub mod batch;
mod corpus;
mod files;
pub mod hands;
pub mod key;
pub mod levels;
pub mod midi;
pub mod musicxml;
mod names;
mod piece;
pub mod pitch;
mod range;
mod reading;
mod report;
pub mod roll;
pub mod sampler;
mod split;
mod stats;
pub mod styles;
pub mod svg;

pub use baselines::{Baselines, unigram_of_each};
pub use batch::{Batch, BatchShape};
pub use corpus::{Corpus, CorpusOptions};
pub use files::{MidiFile, midi_files};
pub use key::Key;
pub use midi::Score;
pub use piece::{FlatDynamics, Piece};
pub use range::NoteRange;
pub use reading::Reading;
pub use report::{CorpusReport, Skipped, Warning};
pub use roll::Roll;
pub use sampler::{Augmentation, Bptt, Cursor, Evaluation, Sampler};
pub use split::{Part, Split};
pub use stats::RollStats;
pub use styles::{Composer, StylePath, Styles};
