//! `deepj styles`.

use std::path::PathBuf;

use deepj::embedding::{Clustering, Embedding, Place, Standing, Tsne, draw, principal_components};
use deepj::files::{Outputs, write_output};
use deepj::music::Styles;
use deepj::{Error, Result};
use serde::Serialize;

use super::{Provenance, claim, load_checkpoint, say, say_json, tell};

/// Endings of pictures.
const SVG: &[&str] = &["svg"];

/// Show where a model's styles stand to each other
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  deepj styles
  deepj styles --map styles.svg --perplexity 5
  deepj styles --checkpoint runs/first --json")]
pub struct StylesCommand {
    /// A checkpoint, a run's folder, or builtin [default: the newest run's best, else builtin, the weights within the program]
    #[arg(long, value_name = "F")]
    checkpoint: Option<PathBuf>,
    /// Draw a map, by principal components and by t-SNE
    #[arg(long, value_name = "FILE.svg")]
    map: Option<PathBuf>,
    /// Neighbours of a style in t-SNE, lowered to a third of the other styles where these are few
    #[arg(long, value_name = "X", default_value_t = Tsne::default().perplexity)]
    perplexity: f64,
    /// Steps of t-SNE
    #[arg(long, value_name = "N", default_value_t = Tsne::default().steps)]
    steps: usize,
    /// Learning rate of t-SNE
    #[arg(long, value_name = "X", default_value_t = Tsne::default().learning_rate)]
    learning_rate: f64,
    /// Random deals of the genres, to test whether composers of one genre stand together
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    permutations: usize,
    /// Seed of the deals
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Print as JSON, with the distances of all pairs and the places on the maps
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    made: Provenance,
    checkpoint: String,
    styles: &'a Styles,
    standings: Vec<Standing>,
    distances: Vec<Vec<f64>>,
    clustering: Option<Clustering>,
    pca: Projected<'a>,
    tsne: Option<Projected<'a>>,
}

#[derive(Serialize)]
struct Projected<'a> {
    places: &'a [Place],
    /// Shares of the variance on both axes.
    #[serde(skip_serializing_if = "Option::is_none")]
    shares: Option<[f64; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    perplexity: Option<f64>,
    /// The Kullback-Leibler divergence in nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    divergence: Option<f64>,
}

/// The fewest styles of which t-SNE says anything: with three a perplexity of more than 1 has no neighbours to spare.
const FEWEST: usize = 5;
/// The most steps and deals: an hour of work for a hundred styles.
const MOST: usize = 1_000_000;

impl StylesCommand {
    pub fn run(self) -> Result<()> {
        let mut tsne = self.tsne()?;
        let (path, checkpoint) = load_checkpoint(self.checkpoint.as_deref())?;
        let embedding = Embedding::of(&checkpoint)?;
        let mut outputs = Outputs::default();
        outputs.reads(&path);
        claim(&mut outputs, self.map.as_deref(), SVG)?;
        let count = embedding.points.len();
        let most = Tsne::most_perplexity(count);
        let (pca, shares) = principal_components(&embedding.points);
        let mapped = (count >= FEWEST).then(|| {
            if tsne.perplexity > most {
                tell(format_args!(
                    "note: a perplexity of {} needs {} styles, and there are {count}: it is {most:.2}",
                    tsne.perplexity,
                    (3.0 * tsne.perplexity).ceil() + 1.0
                ));
                tsne.perplexity = most;
            }
            tsne.run(&embedding.points)
        });
        // A map that is worse than all styles in one place.
        let settled = |(_, divergence): &(Vec<Place>, f64)| *divergence < ((count * (count - 1)) as f64).ln();
        if !mapped.as_ref().is_none_or(settled) {
            return Err(Error::usage(
                format!("t-SNE does not settle with --learning-rate {}", self.learning_rate),
                "lower it; the paper has 10",
            ));
        }
        if mapped.is_none() {
            tell(format_args!("note: t-SNE needs {FEWEST} styles or more, and there are {count}: left out"));
        }
        let clustering = embedding.clustering(self.permutations, self.seed);
        let standings = embedding.standings();
        if let Some(map) = &self.map {
            let [first, second] = shares.map(|share| 100.0 * share);
            let caption = format!("principal components, {first:.0} % and {second:.0} % of the variance");
            let mut panels = vec![(caption, pca.clone())];
            if let Some((places, _)) = &mapped {
                let Tsne { perplexity, steps, learning_rate } = tsne;
                let caption =
                    format!("t-SNE, perplexity {perplexity:.3}, learning rate {learning_rate}, {steps} steps");
                panels.push((caption, places.clone()));
            }
            write_output(map, draw(&embedding, "Styles as the model has learned them", &panels).as_bytes())?;
        }
        if self.json {
            let tsne = mapped.as_ref().map(|(places, divergence)| Projected {
                places,
                shares: None,
                perplexity: Some(tsne.perplexity),
                divergence: Some(*divergence),
            });
            return say_json(&Report {
                made: Provenance::of(""),
                checkpoint: path.display().to_string(),
                styles: &checkpoint.styles,
                distances: embedding.distances(),
                standings,
                clustering,
                pca: Projected { places: &pca, shares: Some(shares), perplexity: None, divergence: None },
                tsne,
            });
        }
        print(&standings, &embedding, clustering);
        if let Some(map) = &self.map {
            say(format_args!("map: {}", map.display()));
        }
        Ok(())
    }

    /// The settings of t-SNE.
    fn tsne(&self) -> Result<Tsne> {
        let Self { perplexity, steps, learning_rate, permutations, .. } = *self;
        let positive = |flag: &str, value: f64| match value.is_finite() && value > 0.0 {
            true => Ok(()),
            false => Err(Error::usage(format!("--{flag} {value}"), "give a number above 0")),
        };
        positive("learning-rate", learning_rate)?;
        if !(perplexity.is_finite() && perplexity >= 1.0) {
            return Err(Error::usage(format!("--perplexity {perplexity}"), "give 1 or more neighbours"));
        }
        for (flag, value) in [("steps", steps), ("permutations", permutations)] {
            if value > MOST {
                return Err(Error::usage(format!("--{flag} {value}"), format!("give at most {MOST}")));
            }
        }
        Ok(Tsne { perplexity, steps, learning_rate })
    }
}

fn print(standings: &[Standing], embedding: &Embedding, clustering: Option<Clustering>) {
    let wide = standings.iter().map(|standing| standing.composer.chars().count()).max().unwrap_or(0);
    for (i, standing) in standings.iter().enumerate() {
        let Standing { composer, genre, neighbours, towards, .. } = standing;
        let near: Vec<String> =
            neighbours.iter().take(3).map(|(name, distance)| format!("{name} {distance:.2}")).collect();
        let towards =
            towards.as_ref().map_or(String::new(), |(other, part)| format!("; {part:+.2} of the way to {other}"));
        say(format_args!("{:>3} {composer:wide$} {genre:<12} nearest: {}{towards}", i + 1, near.join(", ")));
    }
    say("");
    say("distances");
    let numbers: String = (1..=standings.len()).map(|i| format!("{i:>6}")).collect();
    say(format_args!("{:wide$}    {numbers}", ""));
    for (i, row) in embedding.distances().iter().enumerate() {
        let row: String = row.iter().map(|distance| format!("{distance:>6.2}")).collect();
        say(format_args!("{:>3} {:wide$}{row}", i + 1, standings[i].composer));
    }
    say("");
    match clustering {
        Some(Clustering { share, by_chance, p, permutations }) => say(format_args!(
            "the nearest composer is of the same genre for {:.0} %, by chance {:.0} %: p = {p:.4} ({permutations} permutations)",
            100.0 * share,
            100.0 * by_chance
        )),
        None => say("too few composers or genres to tell whether genres stand together"),
    }
}
