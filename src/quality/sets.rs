//! Sets of pieces, and the excerpts that are measured.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use serde::Serialize;

use super::measures::BAR;
use crate::music::{NoteRange, Piece, Reading, Roll, Skipped, Styles, midi_files};
use crate::statistics::median;
use crate::{Error, Result};

/// A piece of a set.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Its path within the folder, with `/` on every platform.
    pub name: String,
    /// The folder that it is in, if any.
    pub genre: Option<String>,
    /// The folder within that of the genre.
    pub composer: Option<String>,
    /// At least one time step long.
    pub roll: Roll,
    /// Whether its velocities are its own.
    pub dynamics: bool,
}

/// Generated or real pieces.
#[derive(Clone, Debug, Serialize)]
pub struct Side {
    /// Where they are from, in words.
    pub place: String,
    /// The pieces; never none.
    #[serde(skip)]
    pub samples: Vec<Sample>,
    /// Files that are not read, and why.
    pub skipped: Vec<Skipped>,
    /// Notes that were left out since they lie outside the range or are drums, where that is known.
    pub left_out: Option<usize>,
}

impl Side {
    /// Reads all MIDI files in the folder `dir` and in those within. Of `a/b/…/c.mid`, a is the genre and b the composer; `a/c.mid`
    /// has a genre only, `c.mid` none. With `rests`, a piece is as long as its file says, else it ends with its last note. A file
    /// that cannot be used is skipped.
    ///
    /// # Errors
    /// The folder cannot be read, or none of its files.
    pub fn read(dir: &Path, range: NoteRange, pedal: bool, rests: bool) -> Result<Self> {
        let (files, mut skipped) = midi_files(dir)?;
        let read = |path: &Path| {
            let reading = Reading::read(path, range, pedal)?;
            let roll = if rests { reading.roll_with_rest()? } else { reading.roll.clone() };
            Ok((roll, reading.out_of_range + reading.drums))
        };
        let readings: Vec<Result<(Roll, usize)>> = files.par_iter().map(|file| read(&file.path)).collect();
        let (mut samples, mut left_out) = (Vec::new(), 0);
        for (file, reading) in files.into_iter().zip(readings) {
            match reading {
                Ok((roll, dropped)) => {
                    left_out += dropped;
                    let folders: Vec<&str> = file.name.split('/').collect();
                    let folder = |i: usize| folders.get(i).filter(|_| i + 1 < folders.len()).map(ToString::to_string);
                    let (genre, composer) = (folder(0), folder(1));
                    samples.push(Sample { name: file.name, genre, composer, roll, dynamics: true });
                }
                Err(e) => {
                    let prefix = format!("{}: ", file.path.display());
                    let reason = e.what.strip_prefix(&prefix).unwrap_or(&e.what).to_owned();
                    skipped.push(Skipped { file: file.name, reason });
                }
            }
        }
        if samples.is_empty() {
            let wrong: Vec<String> = skipped.iter().take(5).map(|of| format!("{}: {}", of.file, of.reason)).collect();
            let what = format!("holds no MIDI file that can be used ({})", wrong.join("; "));
            return Err(Error::file(dir, what, "repair the files, or widen the range with --notes LOW..=HIGH"));
        }
        Ok(Self { place: crate::files::path_text(dir), samples, skipped, left_out: Some(left_out) })
    }

    /// Pieces of a corpus; `styles` names their composers.
    pub fn of_pieces(place: impl Into<String>, pieces: &[Arc<Piece>], styles: &Styles) -> Self {
        let sample = |piece: &Arc<Piece>| {
            let composer = &styles.composers()[piece.style];
            Sample {
                name: piece.name.clone(),
                genre: Some(composer.genre.clone()),
                composer: Some(composer.name.clone()),
                roll: piece.roll.clone(),
                dynamics: piece.dynamics,
            }
        };
        let samples = pieces.iter().map(sample).collect();
        Self { place: place.into(), samples, skipped: vec![], left_out: None }
    }
}

/// The median length of `samples` in bars, at least 1; a bar that is begun counts.
pub fn median_bars(samples: &[Sample]) -> usize {
    let bars: Vec<f64> = samples.iter().map(|sample| sample.roll.steps().div_ceil(BAR) as f64).collect();
    (median(&bars).round() as usize).max(1)
}

/// How a side was cut into excerpts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cut {
    /// Pieces.
    pub pieces: usize,
    /// Excerpts of them.
    pub excerpts: usize,
    /// Pieces that are shorter than an excerpt, which were taken whole.
    pub shorter: usize,
    /// Time steps at the ends of pieces that are in no excerpt.
    pub steps_left_over: usize,
}

/// The time steps of the excerpts of each of `samples`: of `bars` bars, one behind the other, and what is left at the end of a
/// piece is in none. A piece of fewer bars is an excerpt, and so is every piece if `bars` is 0.
pub(super) fn cut(samples: &[Sample], bars: usize) -> (Vec<Vec<Range<usize>>>, Cut) {
    let length = bars.saturating_mul(BAR);
    let mut cut = Cut { pieces: samples.len(), ..Cut::default() };
    let ranges = samples.iter().map(|sample| {
        let steps = sample.roll.steps();
        cut.shorter += usize::from(bars > 0 && steps.div_ceil(BAR) < bars);
        let ranges: Vec<Range<usize>> = match steps <= length || bars == 0 {
            true => std::iter::once(0..steps).collect(),
            false => (0..steps / length).map(|i| i * length..(i + 1) * length).collect(),
        };
        cut.excerpts += ranges.len();
        cut.steps_left_over += steps - ranges.last().map_or(0, |last: &Range<usize>| last.end);
        ranges
    });
    (ranges.collect(), cut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::music::roll::RollNote;
    use crate::shape::Channels;

    fn sample(steps: usize) -> Sample {
        let range = NoteRange::default();
        let values = vec![0.0; steps * range.len() * Channels::PERFORMANCE.len()];
        let roll = Roll::from_values(range, Channels::PERFORMANCE, &values).unwrap();
        Sample { name: String::new(), genre: None, composer: None, roll, dynamics: true }
    }

    #[test]
    fn excerpts_are_of_one_length_where_pieces_are_long_enough() {
        let samples = [10, 32, 33, 100].map(sample);
        let (ranges, found) = cut(&samples, 2);
        let ends = |of: &[Vec<Range<usize>>]| of.iter().map(|of| of.iter().map(|range| range.end).collect()).collect();
        let found_ends: Vec<Vec<usize>> = ends(&ranges);
        assert_eq!(found_ends, [vec![10], vec![32], vec![32], vec![32, 64, 96]]);
        assert_eq!(ranges[3][2].start, 64);
        assert_eq!(found, Cut { pieces: 4, excerpts: 6, shorter: 1, steps_left_over: 5 });
        let (ranges, found) = cut(&samples, 0);
        let found_ends: Vec<Vec<usize>> = ends(&ranges);
        assert_eq!(found_ends, [10, 32, 33, 100].map(|steps| vec![steps]));
        assert_eq!(found, Cut { pieces: 4, excerpts: 4, shorter: 0, steps_left_over: 0 });
        assert_eq!((median_bars(&samples), median_bars(&samples[..1])), (3, 1));
    }

    #[test]
    fn what_sounds_on_into_an_excerpt_begins_with_it() {
        let roll = |notes: &[(usize, usize)]| {
            let note = |&(start, end)| RollNote { pitch: 60, velocity: 70, start, end, replay: false };
            Roll::from_notes(NoteRange::default(), notes.iter().map(note)).unwrap()
        };
        let whole = roll(&[(10, 16), (16, 20), (20, 24)]);
        assert_eq!(whole.excerpt(16, 99), roll(&[(0, 4), (4, 8)]));
        assert_eq!(whole.excerpt(18, 22), roll(&[(0, 2), (2, 4)]));
        assert_eq!(whole.excerpt(0, 24), whole);
        assert_eq!(whole.excerpt(30, 40).steps(), 0);
    }
}
