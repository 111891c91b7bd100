//! The split of a corpus by works: movements of one work sound alike, and would help to recognise each other.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::music::{Corpus, Piece};
use crate::shuffle::SplitMix64;

/// Pieces by part.
#[derive(Clone, Debug)]
pub struct Parts {
    /// To train on.
    pub train: Vec<Arc<Piece>>,
    /// To choose the best by.
    pub validation: Vec<Arc<Piece>>,
    /// To measure with.
    pub test: Vec<Arc<Piece>>,
}

/// The work that a piece belongs to, by its name: genre and composer, and of the file's name what stands before the first number
/// that is not part of a word, or up to the end of the first word with a number: `mz_330` of `mz_330_2.mid`, `bwv806` of
/// `bwv806-english-suite-i-bourree-i.mid`, `pathetique` of `pathetique_1.mid`. Names without a number are works of their own.
pub fn work_of(name: &str) -> String {
    let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let words: Vec<&str> = stem.split(['_', '-', ' ']).filter(|word| !word.is_empty()).collect();
    let numbered = |word: &&str| word.contains(|c: char| c.is_ascii_digit());
    let work = match words.iter().position(numbered) {
        // A number alone at the end is that of a movement.
        Some(last) if last > 0 && last + 1 == words.len() && words[last].chars().all(|c| c.is_ascii_digit()) => {
            &words[..last]
        }
        Some(first) => &words[..=first],
        None => &words[..],
    };
    format!("{folder}/{}", work.join("_")).to_lowercase()
}

impl Parts {
    /// Of each genre's works, in an order that `seed` fixes, every sixth to the test and every sixth to the validation, where the
    /// genre has three or more; others are trained on. All pieces of a work are in one part.
    pub fn of(corpus: &Corpus, seed: u64) -> Self {
        let mut genres: BTreeMap<&str, BTreeMap<String, Vec<Arc<Piece>>>> = BTreeMap::new();
        for piece in &corpus.pieces {
            let genre = corpus.styles.composers()[piece.style].genre.as_str();
            genres.entry(genre).or_default().entry(work_of(&piece.name)).or_default().push(piece.clone());
        }
        let mut parts = Self { train: vec![], validation: vec![], test: vec![] };
        for (genre, works) in genres {
            let mut works: Vec<Vec<Arc<Piece>>> = works.into_values().collect();
            SplitMix64::new(seed, u64::from(crc32c::crc32c(genre.as_bytes()))).shuffle(&mut works);
            let few = works.len() < 3;
            for (i, work) in works.into_iter().enumerate() {
                match i % 6 {
                    0 if !few => parts.test.extend(work),
                    1 if !few => parts.validation.extend(work),
                    _ => parts.train.extend(work),
                }
            }
        }
        for part in [&mut parts.train, &mut parts.validation, &mut parts.test] {
            part.sort_by(|a, b| a.name.cmp(&b.name));
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn movements_are_of_one_work() {
        for (name, work) in [
            ("classical/mozart/mz_330_2.mid", "classical/mozart/mz_330"),
            ("classical/mozart/mz_330_3.mid", "classical/mozart/mz_330"),
            ("baroque/bach/bwv806-english-suite-i-bourree-i.mid", "baroque/bach/bwv806"),
            ("classical/beethoven/pathetique_1.mid", "classical/beethoven/pathetique"),
            ("romantic/chopin/chpn_op10_e12.mid", "romantic/chopin/chpn_op10"),
            ("romantic/schumann/scn15_1.mid", "romantic/schumann/scn15"),
            ("romantic/chopin/elise.mid", "romantic/chopin/elise"),
            ("a/b/3.mid", "a/b/3"),
        ] {
            assert_eq!(work_of(name), work);
        }
    }
}
