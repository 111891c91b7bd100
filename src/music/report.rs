//! What a corpus holds, counted.

use std::fmt;

use serde::Serialize;

use super::reading::Reading;
use super::roll::Roll;
use super::stats::RollStats;
use super::styles::Styles;

/// A file that was not read, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Its name within the corpus.
    pub file: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Skipped {
    pub(super) fn new(file: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { file: file.into(), reason: reason.into() }
    }
}

/// What is odd about a file that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// Its name within the corpus.
    pub file: String,
    /// What is odd about it.
    pub warning: String,
}

/// What a set of files holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Files read.
    pub files: usize,
    /// Notes read within the range.
    pub notes: usize,
    /// Distinct pairs of time step and pitch on which a note begins.
    pub onsets: usize,
    /// Time steps, four a quarter note.
    pub steps: usize,
    /// Notes dropped because they are outside the range.
    pub out_of_range: usize,
    /// Notes dropped because they are on the drum channel.
    pub drums: usize,
    /// What is odd about the files: the number of lines.
    #[serde(rename = "warning_count")]
    pub warnings: usize,
    /// Files with a bar that is not as long as one of 4/4.
    pub other_metres: usize,
    /// Files that have no dynamics of their own: the velocities of their notes are alike.
    pub flat_dynamics: usize,
    /// Files whose first note is not on the beginning of a bar, or whose first bar is a short one.
    pub upbeats: usize,
}

impl Counts {
    /// Those of one file.
    pub(super) fn of(reading: &Reading) -> Self {
        let stats = RollStats::new(&reading.roll);
        Self {
            files: 1,
            notes: reading.notes,
            onsets: stats.onsets,
            steps: reading.roll.steps(),
            out_of_range: reading.out_of_range,
            drums: reading.drums,
            warnings: reading.warnings.len(),
            other_metres: usize::from(reading.other_metres()),
            flat_dynamics: usize::from(stats.flat_dynamics()),
            upbeats: usize::from(reading.upbeat()),
        }
    }

    /// Those of a piece that is no file's.
    pub(super) fn of_roll(roll: &Roll) -> Self {
        let notes = roll.notes().len();
        Self { files: 1, notes, onsets: notes, steps: roll.steps(), ..Self::default() }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.files += other.files;
        self.notes += other.notes;
        self.onsets += other.onsets;
        self.steps += other.steps;
        self.out_of_range += other.out_of_range;
        self.drums += other.drums;
        self.warnings += other.warnings;
        self.other_metres += other.other_metres;
        self.flat_dynamics += other.flat_dynamics;
        self.upbeats += other.upbeats;
    }
}

/// The files of one composer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ComposerReport {
    /// Name of the folder.
    pub composer: String,
    /// What it holds.
    #[serde(flatten)]
    pub counts: Counts,
}

/// The files of one genre.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GenreReport {
    /// Name of the folder.
    pub genre: String,
    /// What it holds.
    #[serde(flatten)]
    pub counts: Counts,
    /// By composer.
    pub composers: Vec<ComposerReport>,
}

/// What a corpus holds and what was left out. `Display` draws it as a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CorpusReport {
    /// Totals.
    #[serde(flatten)]
    pub counts: Counts,
    /// A number that changes with the name or content of any piece: CRC-32C.
    pub fingerprint: u32,
    /// By genre.
    pub genres: Vec<GenreReport>,
    /// Files that were not read.
    pub skipped: Vec<Skipped>,
    /// What is odd about files that were read. Not in the table, since it belongs on standard error.
    pub warnings: Vec<Warning>,
    /// What is odd about the corpus as a whole: names that may be one, pieces that are one.
    pub remarks: Vec<String>,
}

impl CorpusReport {
    /// The report on files of which `counts` holds those of each composer of `styles`.
    pub(super) fn new(
        styles: &Styles,
        counts: &[Counts],
        skipped: Vec<Skipped>,
        warnings: Vec<Warning>,
        remarks: Vec<String>,
        fingerprint: u32,
    ) -> Self {
        let mut report =
            Self { counts: Counts::default(), fingerprint, genres: Vec::new(), skipped, warnings, remarks };
        for (composer, counts) in styles.composers().iter().zip(counts) {
            report.counts.add(counts);
            if report.genres.last().is_none_or(|genre| genre.genre != composer.genre) {
                let genre = composer.genre.clone();
                report.genres.push(GenreReport { genre, counts: Counts::default(), composers: Vec::new() });
            }
            if let Some(genre) = report.genres.last_mut() {
                genre.counts.add(counts);
                genre.composers.push(ComposerReport { composer: composer.name.clone(), counts: counts.clone() });
            }
        }
        report
    }
}

/// A row of the table.
fn line(name: &str, [files, notes, onsets, steps, out_of_range, drums, warnings]: &[String; 7]) -> String {
    format!("{name:24} {files:>7} {notes:>9} {onsets:>9} {steps:>9} {out_of_range:>12} {drums:>7} {warnings:>8}")
}

impl fmt::Display for CorpusReport {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let row = |f: &mut fmt::Formatter, name: &str, c: &Counts| {
            let Counts { files, notes, onsets, steps, out_of_range, drums, warnings, .. } = c;
            let numbers = [files, notes, onsets, steps, out_of_range, drums, warnings].map(ToString::to_string);
            writeln!(f, "{}", line(name, &numbers))
        };
        let heads = ["files", "notes", "onsets", "steps", "out of range", "drums", "warnings"].map(String::from);
        writeln!(f, "{}", line("", &heads))?;
        for genre in &self.genres {
            row(f, &genre.genre, &genre.counts)?;
            for composer in &genre.composers {
                row(f, &format!("  {}", composer.composer), &composer.counts)?;
            }
        }
        row(f, "total", &self.counts)?;
        let Counts { files, other_metres, upbeats, flat_dynamics, .. } = self.counts;
        writeln!(
            f,
            "{other_metres} of {files} pieces are not in 4/4 throughout, {upbeats} begin with an upbeat: bars of 16 time steps are not \
             their bars"
        )?;
        if flat_dynamics > 0 {
            writeln!(
                f,
                "{flat_dynamics} of {files} pieces have no dynamics of their own, their velocities are alike: `train --flat-dynamics \
                 ignore` does not learn them"
            )?;
        }
        for Skipped { file, reason } in &self.skipped {
            writeln!(f, "skipped {file}: {reason}")?;
        }
        Ok(())
    }
}
