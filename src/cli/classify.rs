//! `deepj classify`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use deepj::checkpoint::Checkpoint;
use deepj::classify::{Cheap, Classes, Classifier, Confusion, Estimate, Named, Parts, Progress, Settings};
use deepj::generate::{Composed, Composition, generate};
use deepj::gpu::Device;
use deepj::music::roll::BAR;
use deepj::music::{Corpus, CorpusOptions, NoteRange, Roll, StylePath, Styles};
use deepj::train::read_corpus;
use deepj::{Error, Result};
use serde::Serialize;

use super::{DeviceArguments, Provenance, bar, checkpoint_file, say, say_json, signals::Signals, tell};

/// Measure whether styles are heard: name genre and composer of pieces
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  deepj classify --data midi
  deepj classify --data midi --checkpoint runs/first --count 30
  deepj classify --data midi --checkpoint runs/first --sweep \"bach -> chopin\" --json")]
pub struct Classify {
    /// The corpus to learn from: a folder with <genre>/<composer>/*.mid [default: the pieces within the program]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Name also what this checkpoint, the best of this run, or builtin composes
    #[arg(long, value_name = "F")]
    checkpoint: Option<PathBuf>,
    /// Pieces that it composes of each genre, and of each mixture of a sweep
    #[arg(long, value_name = "N", default_value_t = 30, requires = "checkpoint")]
    count: usize,
    /// Have it compose as the network alone does, not as `generate`: neither drawn to the density and loudness of the style's
    /// pieces, nor with a chosen ending, at a temperature of 1
    #[arg(long, requires = "checkpoint")]
    as_learned: bool,
    /// Follow the probability of the second style of "bach -> chopin" over mixtures of both
    #[arg(long, value_name = "A -> B", requires = "checkpoint")]
    sweep: Option<String>,
    /// Bars of a piece that are heard, from its beginning, and that are composed
    #[arg(long, value_name = "N", default_value_t = 32)]
    bars: usize,
    /// MIDI pitches of the rolls [default: the checkpoint's, or 36..=83]
    #[arg(long, value_name = "LOW..=HIGH", conflicts_with = "checkpoint")]
    notes: Option<NoteRange>,
    /// The most updates of the classifier
    #[arg(long, value_name = "N", default_value_t = Settings::default().updates)]
    updates: usize,
    /// Seed of the split, the classifier and what is composed
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u32,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArguments,
}

/// How often something was named, with what it was taken for.
#[derive(Serialize)]
struct Score {
    #[serde(flatten)]
    estimate: Option<Estimate>,
    confusion: Confusion,
}

impl Score {
    fn of(pieces: &[Named], classes: usize) -> Self {
        Self { estimate: Estimate::of(pieces), confusion: Confusion::of(pieces, classes) }
    }
}

#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    made: Provenance,
    checkpoint: Option<String>,
    genres: &'a [String],
    composers: &'a Styles,
    settings: Settings,
    updates: usize,
    bars: usize,
    train: usize,
    validation: usize,
    test: usize,
    /// What guessing reaches.
    chance: f64,
    /// Held-out pieces: genre and composer named, and the genre by density, polyphony and range alone.
    real: Score,
    real_composers: Score,
    real_cheap: Score,
    generated: Option<Generated>,
    sweep: Option<Sweep>,
}

/// Pieces that the checkpoint composed in each genre's style.
#[derive(Serialize)]
struct Generated {
    count: usize,
    /// Taken for the genre that was named to the model.
    named: Score,
    /// Taken for the genre after it, as if the styles had been exchanged.
    exchanged: Score,
    cheap: Score,
}

/// Mixtures of two styles.
#[derive(Serialize)]
struct Sweep {
    from: String,
    to: String,
    /// By mixture: the second style's weight, and the mean probability that it has beside the first's.
    points: Vec<(f64, f64)>,
    monotone: bool,
}

/// Mixtures of a sweep, both ends included.
const MIXTURES: usize = 5;

impl Classify {
    pub fn run(self) -> Result<ExitCode> {
        if self.count == 0 || self.bars == 0 {
            return Err(Error::usage(format!("--count {} --bars {}", self.count, self.bars), "give 1 or more of each"));
        }
        let file = self.checkpoint.as_deref().map(checkpoint_file);
        let checkpoint = match file {
            Some(file) => Some((file.clone(), Checkpoint::named(&file)?)),
            None => None,
        };
        let range = checkpoint.as_ref().map(|(_, checkpoint)| checkpoint.corpus.range).or(self.notes);
        let options = CorpusOptions { range: range.unwrap_or_default(), ..CorpusOptions::default() };
        let corpus = read_corpus(self.data.as_deref(), &options)?;
        let classes = Classes::new(corpus.styles.clone())?;
        let sweep = self.sweep(&classes, checkpoint.as_ref().map(|(_, checkpoint)| checkpoint))?;
        if let Some((path, checkpoint)) = &checkpoint {
            check_styles(path, checkpoint, &classes)?;
        }
        let device = self.device.open_in_time()?;
        let signals = Signals::listen("stopping");
        let device = device.waited_for(signals.wait_options());

        let heard = Heard { device, signals: &signals, parts: Parts::of(&corpus, u64::from(self.seed)), classes };
        let Some(report) = self.measure(&corpus, &heard, checkpoint.as_ref(), sweep)? else {
            tell("interrupted: nothing was measured");
            return Ok(signals.exit_code());
        };
        if self.json {
            say_json(&report)?;
        } else {
            print(&report);
        }
        Ok(ExitCode::SUCCESS)
    }

    /// All that is measured; `None` where it was interrupted.
    fn measure<'a>(
        &self,
        corpus: &Corpus,
        heard: &'a Heard,
        checkpoint: Option<&(PathBuf, Checkpoint)>,
        sweep: Option<Ends>,
    ) -> Result<Option<Report<'a>>> {
        let Heard { device, signals, parts, classes } = heard;
        let settings = Settings { seed: self.seed, updates: self.updates, ..Settings::default() };
        let bar = bar(settings.updates as u64, "{wide_bar} learning {pos}/{len} {msg}");
        let progress = |progress: &Progress| {
            bar.set_position(progress.updates as u64);
            bar.set_message(format!("{:.0} % named", 100.0 * progress.named));
        };
        let selection = self.device.selection();
        let training = Classifier::train(corpus, parts, &settings, device.clone(), selection, &signals.stop, progress);
        let trained = pollster::block_on(training);
        bar.finish_and_clear();
        let Some(mut classifier) = trained? else { return Ok(None) };
        let cheap = {
            let rolls: Vec<Roll> = parts.train.iter().map(|piece| self.beginning(&piece.roll)).collect();
            let classes_of = parts.train.iter().map(|piece| classes.genre_of(piece.style));
            Cheap::fit(&rolls.iter().zip(classes_of).collect::<Vec<_>>(), classes.genres.len())
        };
        let [real, real_composers, real_cheap] = self.real(heard, &mut classifier, &cheap)?;
        let (mut generated, mut swept) = (None, None);
        if let Some((_, checkpoint)) = checkpoint {
            generated = self.generated(heard, checkpoint, &mut classifier, &cheap)?;
            if generated.is_none() {
                return Ok(None);
            }
            if let Some(sweep) = sweep {
                let Some(points) = self.follow(heard, &mut classifier, checkpoint, &sweep)? else { return Ok(None) };
                let monotone = points.windows(2).all(|pair| pair[0].1 <= pair[1].1);
                swept = Some(Sweep { from: sweep.from.1, to: sweep.to.1, points, monotone });
            }
        }
        Ok(Some(Report {
            made: Provenance::of(device.machine().to_string()),
            checkpoint: checkpoint.map(|(path, _)| path.display().to_string()),
            genres: &classes.genres,
            composers: &classes.styles,
            updates: classifier.updates,
            settings,
            bars: self.bars,
            train: parts.train.len(),
            validation: parts.validation.len(),
            test: parts.test.len(),
            chance: 1.0 / classes.genres.len() as f64,
            real,
            real_composers,
            real_cheap,
            generated,
            sweep: swept,
        }))
    }

    /// How often held-out pieces are named: genre, composer, and genre by the baseline.
    fn real(&self, heard: &Heard, classifier: &mut Classifier, cheap: &Cheap) -> Result<[Score; 3]> {
        let Heard { parts, classes, .. } = heard;
        let rolls: Vec<Roll> = parts.test.iter().map(|piece| self.beginning(&piece.roll)).collect();
        let verdicts = pollster::block_on(classifier.hear(&rolls))?;
        let (mut genres, mut composers, mut by_cheap) = (vec![], vec![], vec![]);
        for ((piece, verdict), roll) in parts.test.iter().zip(&verdicts).zip(&rolls) {
            let is = classes.genre_of(piece.style);
            genres.push(Named { is, named: verdict.genre() });
            composers.push(Named { is: piece.style, named: verdict.composer() });
            by_cheap.push(Named { is, named: cheap.class(roll) });
        }
        let count = classes.genres.len();
        Ok([Score::of(&genres, count), Score::of(&composers, classes.styles.len()), Score::of(&by_cheap, count)])
    }

    /// How often what a checkpoint composes in each genre is named; `None` where it was interrupted.
    fn generated(
        &self,
        heard: &Heard,
        checkpoint: &Checkpoint,
        classifier: &mut Classifier,
        cheap: &Cheap,
    ) -> Result<Option<Generated>> {
        let genres = &heard.classes.genres;
        let (mut named, mut by_cheap) = (vec![], vec![]);
        for (genre, name) in genres.iter().enumerate() {
            let styles = vec![StylePath::parse(name, &checkpoint.styles)?.0; self.count];
            let Some(rolls) = self.compose(heard, checkpoint, styles, genre as u32)? else { return Ok(None) };
            let verdicts = pollster::block_on(classifier.hear(&rolls))?;
            named.extend(verdicts.iter().map(|verdict| Named { is: genre, named: verdict.genre() }));
            by_cheap.extend(rolls.iter().map(|roll| Named { is: genre, named: cheap.class(roll) }));
        }
        let exchange = |piece: &Named| Named { is: (piece.is + 1) % genres.len(), named: piece.named };
        let exchanged: Vec<Named> = named.iter().map(exchange).collect();
        let score = |pieces: &[Named]| Score::of(pieces, genres.len());
        let (named, exchanged, cheap) = (score(&named), score(&exchanged), score(&by_cheap));
        Ok(Some(Generated { count: self.count, named, exchanged, cheap }))
    }

    /// What is heard of a roll: its first bars.
    fn beginning(&self, roll: &Roll) -> Roll {
        roll.excerpt(0, self.bars.saturating_mul(BAR))
    }

    /// The two styles of the sweep.
    fn sweep(&self, classes: &Classes, checkpoint: Option<&Checkpoint>) -> Result<Option<Ends>> {
        let Some(text) = &self.sweep else { return Ok(None) };
        let wrong = || Error::usage(format!("--sweep \"{text}\""), "give two styles, such as \"bach -> chopin\"");
        let (from, to) = text.split_once("->").ok_or_else(wrong)?;
        let end = |name: &str| {
            // A style alone is the same with any weight: `bach:1`.
            let name = name.trim();
            let weighted =
                name.rsplit_once(':').filter(|(_, weight)| weight.parse().is_ok_and(|weight: f32| weight > 0.0));
            let name = weighted.map_or(name, |(name, _)| name);
            let genre = classes.genre(name).map(Class::Genre);
            let composer = classes.styles.composers().iter().position(|composer| composer.name == name);
            let class = genre.or(composer.map(Class::Composer)).ok_or_else(|| {
                Error::usage(format!("--sweep: the corpus has no genre or composer `{name}`"), "name one that it has")
            })?;
            if let Some(checkpoint) = checkpoint {
                StylePath::parse(name, &checkpoint.styles)?;
            }
            Ok((class, name.to_string()))
        };
        let (from, to) = (end(from)?, end(to)?);
        if std::mem::discriminant(&from.0) != std::mem::discriminant(&to.0) || from.1 == to.1 {
            return Err(Error::usage(format!("--sweep \"{text}\""), "give two composers, or two genres"));
        }
        Ok(Some(Ends { from, to }))
    }

    /// Composes pieces; `None` where it was interrupted.
    fn compose(
        &self,
        Heard { device, signals, .. }: &Heard,
        checkpoint: &Checkpoint,
        styles: Vec<StylePath>,
        number: u32,
    ) -> Result<Option<Vec<Roll>>> {
        let options = Composition {
            seed: self.seed.wrapping_mul(1000).wrapping_add(number),
            ..if self.as_learned {
                Composition::new(styles, self.bars)
            } else {
                Composition::usual(checkpoint, styles, self.bars)
            }
        };
        let bar = bar(self.bars as u64, "{wide_bar} composing, bar {pos}/{len} ETA {eta}");
        let progress = |done: usize| bar.set_position(done as u64);
        let selection = self.device.selection();
        let composing = generate(checkpoint, &options, device.clone(), selection, &signals.stop, progress);
        let composed = pollster::block_on(composing);
        bar.finish_and_clear();
        let Composed { rolls, interrupted, failure, .. } = composed?;
        match failure {
            Some(e) => Err(e),
            None => Ok((!interrupted).then_some(rolls)),
        }
    }

    /// The probability of the second style beside the first's, for each mixture.
    fn follow(
        &self,
        heard: &Heard,
        classifier: &mut Classifier,
        checkpoint: &Checkpoint,
        Ends { from, to }: &Ends,
    ) -> Result<Option<Vec<(f64, f64)>>> {
        let mut points = vec![];
        for i in 0..MIXTURES {
            let weight = i as f64 / (MIXTURES - 1) as f64;
            let expression = match i {
                0 => from.1.clone(),
                i if i + 1 == MIXTURES => to.1.clone(),
                _ => format!("{}:{},{}:{}", from.1, 1.0 - weight, to.1, weight),
            };
            let styles = vec![StylePath::parse(&expression, &checkpoint.styles)?.0; self.count];
            // The same draws for each mixture.
            let Some(rolls) = self.compose(heard, checkpoint, styles, 500)? else { return Ok(None) };
            let verdicts = pollster::block_on(classifier.hear(&rolls))?;
            let of = |class: &Class, verdict: &deepj::classify::Verdict| match class {
                Class::Genre(genre) => verdict.genres[*genre],
                Class::Composer(composer) => verdict.composers[*composer],
            };
            let beside = |verdict| of(&to.0, verdict) / (of(&from.0, verdict) + of(&to.0, verdict)).max(1e-300);
            points.push((weight, verdicts.iter().map(beside).sum::<f64>() / verdicts.len() as f64));
        }
        Ok(Some(points))
    }
}

/// Who hears: the device, what may stop it, the pieces, and what is told apart.
struct Heard<'a> {
    device: Device,
    signals: &'a Signals,
    parts: Parts,
    classes: Classes,
}

/// A genre or a composer by its number.
enum Class {
    Genre(usize),
    Composer(usize),
}

/// The styles from which and to which a sweep goes, with their names.
struct Ends {
    from: (Class, String),
    to: (Class, String),
}

/// Fails where a checkpoint cannot compose in the genres that are told apart.
fn check_styles(path: &Path, checkpoint: &Checkpoint, classes: &Classes) -> Result<()> {
    if checkpoint.model.roll().styles == 0 {
        let what = format!("the model {} knows no styles", checkpoint.model.architecture());
        return Err(Error::file(path, what, "take a checkpoint of a model that does"));
    }
    let known = checkpoint.styles.genres();
    match classes.genres.iter().find(|genre| !known.contains(&genre.as_str())) {
        Some(genre) => Err(Error::file(
            path,
            format!("the model does not know the genre {genre} of the corpus"),
            "give the corpus that it was trained on, or one with the same folders",
        )),
        None => Ok(()),
    }
}

fn print(report: &Report) {
    let Report { genres, train, validation, test, updates, .. } = report;
    say(format_args!(
        "{train} training, {validation} validation and {test} test pieces, split by work; best after {updates} updates"
    ));
    say(format_args!("genre named, a mean over {}: share (95 % interval)", genres.join(", ")));
    say(format_args!("  {:<44} {:>4.0} %", "chance", 100.0 * report.chance));
    let line = |name: &str, score: &Score| {
        if let Some(Estimate { share, interval: [low, high], pieces }) = score.estimate {
            let [share, low, high] = [share, low, high].map(|x| 100.0 * x);
            say(format_args!("  {name:<44} {share:>4.0} % ({low:.0} to {high:.0}), {pieces} pieces"));
        }
    };
    line("real pieces, held out", &report.real);
    line("the same by density, polyphony and range", &report.real_cheap);
    if let Some(generated) = &report.generated {
        line("generated in the named style", &generated.named);
        line("the same by density, polyphony and range", &generated.cheap);
        line("generated, styles exchanged", &generated.exchanged);
    }
    say("composer named, a mean over composers");
    line("real pieces, held out", &report.real_composers);
    let confusion = |name: &str, Confusion(counts): &Confusion| {
        say(format_args!("{name}: taken for {}", genres.join(", ")));
        for (genre, row) in genres.iter().zip(counts) {
            say(format_args!("  {genre:<14}{}", row.iter().map(|n| format!("{n:>6}")).collect::<String>()));
        }
    };
    confusion("real pieces", &report.real.confusion);
    if let Some(generated) = &report.generated {
        confusion("generated pieces", &generated.named.confusion);
    }
    if let Some(Sweep { from, to, points, monotone }) = &report.sweep {
        let points: Vec<String> = points.iter().map(|(weight, p)| format!("{weight:.2}: {p:.3}")).collect();
        let verdict = if *monotone { "monotone" } else { "not monotone" };
        say(format_args!("from {from} to {to}, probability of {to} by its weight: {}; {verdict}", points.join(", ")));
    }
}
