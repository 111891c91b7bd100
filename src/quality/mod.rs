//! How good pieces are: measures of generated pieces beside those of real ones, and what they copy.
//!
//! A [`Side`] is a set of pieces, generated or real. [`compare`] cuts both into excerpts of one length, takes all [`MEASURES`] of
//! each and says for each genre and composer where the generated ones lie among the real ones ([`Report`]); `distances` compares
//! how much each set differs within itself and from the other, `copies` finds the longest passage that pieces share. `frechet`
//! compares features of a classifier. What the numbers mean is in `docs/QUALITY.md`.

mod contrasts;
pub mod copies;
pub mod distances;
mod frechet;
pub mod measures;
mod report;
mod sets;
mod suffixes;
mod svg;

pub use contrasts::{Contrast, Difference};
pub use distances::Grids;
pub use frechet::frechet;
pub use measures::{BAR, HISTOGRAMS, MEASURES};
pub use report::{
    Copied, Copies, Frechet, Group, HistogramRow, Percentiles, Report, Row, Values, add_frechet, compare, described,
    find_copies,
};
pub use sets::{Cut, Sample, Side, median_bars};
pub use svg::draw;
