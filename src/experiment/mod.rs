//! Experiments: configurations by seeds under one budget, one run after another, and what came of them in tables. An
//! [`Experiment`] is read of a file, [`run`] makes its runs, each in a folder of its own and each going on where it was stopped,
//! and [`Results`] are written as JSON, CSV and Markdown. [`page`] holds claims against such results, beside what
//! other commands measured.

mod file;
mod measured;
mod report;
mod results;
mod run;
mod samples;
mod statistics;
mod style;
mod table;

pub use file::{Budget, Claim, Configuration, Direction, Experiment, Run, Samples, folder_name};
pub use measured::{Measured, Speed};
pub use report::{Source, Verdict, page, page_within};
pub use results::{RESULTS, Results, RunResult};
pub use run::{Next, Observer, check, run, run_among};
pub use statistics::Summary;
pub use table::{Row, csv, markdown, rows};
