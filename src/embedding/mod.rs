//! What a model has learned of its styles: where composers stand to each other in the style embedding (paper, section VI-B and
//! figure 5).

mod map;
mod projection;

use std::collections::BTreeMap;

use serde::Serialize;

pub use map::draw;
pub use projection::{Place, Tsne, principal_components};

use crate::checkpoint::Checkpoint;
use crate::music::Composer;
use crate::shuffle::SplitMix64;
use crate::{Error, Result};
use projection::distance;

/// The styles of a model as points of its style embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// The composers, with their genres.
    pub composers: Vec<Composer>,
    /// A point of each, of as many dimensions as the embedding.
    pub points: Vec<Vec<f64>>,
}

/// Where one composer stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Standing {
    /// The composer.
    pub composer: String,
    /// Its genre.
    pub genre: String,
    /// The other composers, from the nearest on, with their distances.
    pub neighbours: Vec<(String, f64)>,
    /// By genre, the distance of the centre of its composers, without this one; none where that leaves no composer.
    pub centres: BTreeMap<String, Option<f64>>,
    /// The genre whose centre is nearest, among the others, and how far the composer stands on the way to it from the centre of its own:
    /// 0 there, 1 at the other, outside 0 to 1 beyond either.
    pub towards: Option<(String, f64)>,
}

/// Whether the genre predicts which composer is nearest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Clustering {
    /// The share of composers whose nearest neighbour is of their genre.
    pub share: f64,
    /// Its mean where the genres are dealt out to the composers at random.
    pub by_chance: f64,
    /// The share of such deals in which it is at least as large, the real one counted among them: the p value of a permutation test.
    pub p: f64,
    /// How many deals there were.
    pub permutations: usize,
}

impl Embedding {
    /// That of a checkpoint.
    ///
    /// # Errors
    /// A model without styles.
    pub fn of(checkpoint: &Checkpoint) -> Result<Self> {
        let model = &checkpoint.model;
        let param = model.style_rows().and_then(|name| model.layout().params().iter().find(|param| param.name == name));
        let composers = checkpoint.styles.composers().to_vec();
        let fits = |view_len: usize| !composers.is_empty() && view_len.is_multiple_of(composers.len());
        match param.filter(|param| fits(param.view.len)) {
            Some(param) => {
                let weights = checkpoint.weights();
                let rows = weights[param.view.start..][..param.view.len].chunks(param.view.len / composers.len());
                let points = rows.map(|row| row.iter().map(|&x| f64::from(x)).collect()).collect();
                Ok(Self { composers, points })
            }
            None => Err(Error::model(
                format!("the model {} knows no styles", model.architecture()),
                "take a checkpoint of a model that does",
            )),
        }
    }

    fn distance(&self, i: usize, j: usize) -> f64 {
        distance(&self.points[i], &self.points[j])
    }

    /// `[S, S]`, the distances of all pairs.
    pub fn distances(&self) -> Vec<Vec<f64>> {
        let all = 0..self.points.len();
        all.clone().map(|i| all.clone().map(|j| self.distance(i, j)).collect()).collect()
    }

    /// The nearest other composer of each; none where there is no other.
    fn nearest(&self) -> Vec<Option<usize>> {
        let all = 0..self.points.len();
        let others = |i: usize| all.clone().filter(move |j| *j != i);
        let nearest = |i| others(i).min_by(|&a, &b| self.distance(i, a).total_cmp(&self.distance(i, b)));
        all.clone().map(nearest).collect()
    }

    /// The centre of a genre's composers without composer `but`.
    fn centre(&self, genre: &str, but: usize) -> Option<Vec<f64>> {
        let of_genre = |i: &usize| *i != but && self.composers[*i].genre == genre;
        let members: Vec<&Vec<f64>> = (0..self.points.len()).filter(of_genre).map(|i| &self.points[i]).collect();
        let mean = |k: usize| members.iter().map(|point| point[k]).sum::<f64>() / members.len() as f64;
        (!members.is_empty()).then(|| (0..self.points[but].len()).map(mean).collect())
    }

    /// Where each composer stands.
    pub fn standings(&self) -> Vec<Standing> {
        let genres: Vec<&str> = {
            let mut genres: Vec<&str> = self.composers.iter().map(|composer| composer.genre.as_str()).collect();
            genres.sort_unstable();
            genres.dedup();
            genres
        };
        let standing = |(i, composer): (usize, &Composer)| {
            let point = &self.points[i];
            let mut neighbours: Vec<(String, f64)> = (0..self.points.len())
                .filter(|&j| j != i)
                .map(|j| (self.composers[j].name.clone(), self.distance(i, j)))
                .collect();
            neighbours.sort_by(|a, b| a.1.total_cmp(&b.1));
            let centres: BTreeMap<&str, Option<Vec<f64>>> =
                genres.iter().map(|genre| (*genre, self.centre(genre, i))).collect();
            let own = centres.get(composer.genre.as_str()).cloned().flatten();
            let others = centres.iter().filter(|(genre, _)| **genre != composer.genre);
            let others = others.filter_map(|(genre, centre)| Some((*genre, centre.as_ref()?)));
            let nearest = others.min_by(|a, b| distance(point, a.1).total_cmp(&distance(point, b.1)));
            let towards = own.zip(nearest).and_then(|(own, (genre, other))| {
                let way: f64 = own.iter().zip(other).map(|(a, b)| (b - a).powi(2)).sum();
                let gone: f64 = own.iter().zip(other).zip(point).map(|((a, b), x)| (x - a) * (b - a)).sum();
                (way > 0.0).then(|| (genre.to_string(), gone / way))
            });
            let centres = centres
                .into_iter()
                .map(|(genre, centre)| (genre.to_string(), centre.map(|centre| distance(point, &centre))));
            Standing {
                composer: composer.name.clone(),
                genre: composer.genre.clone(),
                neighbours,
                centres: centres.collect(),
                towards,
            }
        };
        self.composers.iter().enumerate().map(standing).collect()
    }

    /// Whether the genre predicts the nearest neighbour: a permutation test with a seed; `None` where there are fewer than two genres
    /// or three composers.
    pub fn clustering(&self, permutations: usize, seed: u64) -> Option<Clustering> {
        let nearest: Vec<usize> = self.nearest().into_iter().collect::<Option<_>>()?;
        let mut genres: Vec<&str> = self.composers.iter().map(|composer| composer.genre.as_str()).collect();
        if genres.len() < 3 || genres.iter().all(|genre| *genre == genres[0]) || permutations == 0 {
            return None;
        }
        let hits = |genres: &[&str]| nearest.iter().enumerate().filter(|&(i, &j)| genres[i] == genres[j]).count();
        let found = hits(&genres);
        let (mut as_many, mut sum) = (1, 0);
        for number in 0..permutations {
            SplitMix64::new(seed, number as u64).shuffle(&mut genres);
            let dealt = hits(&genres);
            as_many += usize::from(dealt >= found);
            sum += dealt;
        }
        let all = nearest.len() as f64;
        Some(Clustering {
            share: found as f64 / all,
            by_chance: sum as f64 / permutations as f64 / all,
            p: as_many as f64 / (permutations + 1) as f64,
            permutations,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn embedding(places: &[(&str, f64, f64)]) -> Embedding {
        let composer =
            |(i, place): (usize, &(&str, f64, f64))| Composer { genre: place.0.into(), name: format!("c{i}") };
        Embedding {
            composers: places.iter().enumerate().map(composer).collect(),
            points: places.iter().map(|&(_, x, y)| vec![x, y]).collect(),
        }
    }

    #[test]
    fn composers_stand_where_a_ruler_says() {
        let e = embedding(&[("a", 0.0, 0.0), ("a", 2.0, 0.0), ("b", 10.0, 3.0), ("b", 10.0, -3.0), ("a", 7.0, 1.0)]);
        let standings = e.standings();
        assert_eq!(standings[0].neighbours[0], ("c1".into(), 2.0));
        let last = &standings[4];
        // The others of its genre are around (1, 0), those of b around (10, 0).
        assert_eq!(last.towards.as_ref().unwrap().0, "b");
        assert!((last.towards.as_ref().unwrap().1 - 6.0 / 9.0).abs() < 1e-12);
        assert!((last.centres["b"].unwrap() - 10.0_f64.sqrt()).abs() < 1e-12);
        assert!((last.centres["a"].unwrap() - 37.0_f64.sqrt()).abs() < 1e-12);
        assert_eq!(e.distances()[2][3], 6.0);
        let alone = embedding(&[("a", 0.0, 0.0)]);
        assert_eq!((alone.standings()[0].centres["a"], &alone.standings()[0].towards), (None, &None));
        assert_eq!(alone.clustering(10, 0), None);
    }

    #[test]
    fn genres_that_cluster_are_told_from_those_that_do_not() {
        let places = |together: bool| -> Vec<(&str, f64, f64)> {
            let genre = |i: usize| ["a", "b", "c"][if together { i / 4 } else { i % 3 }];
            (0..12).map(|i| (genre(i), (i / 4 * 100) as f64 + (i % 4) as f64, (i * i % 5) as f64 * 0.1)).collect()
        };
        let found = embedding(&places(true)).clustering(2000, 0).unwrap();
        assert!(found.share == 1.0 && found.p < 0.01, "{found:?}");
        // Of twelve, three others share a genre: 3 of 11.
        assert!((found.by_chance - 3.0 / 11.0).abs() < 0.02, "{found:?}");
        let none = embedding(&places(false)).clustering(2000, 0).unwrap();
        assert!(none.share < 0.3 && none.p > 0.2, "{none:?}");
    }
}
