//! What is wished of the pieces that `deepj generate` composes: the flags, and what the library makes of them.

use deepj::checkpoint::Checkpoint;
use deepj::generate::curve::{Clock, Curve, DENSITY, DYNAMICS};
use deepj::generate::steering::Wishes;
use deepj::generate::{ENDINGS, MAX_BARS, MAX_PIECES, usual_style_emphasis, usual_temperature};
use deepj::music::levels::Level;
use deepj::music::roll::STEPS_PER_QUARTER;
use deepj::music::{Key, NoteRange};
use deepj::shape::Channel;
use deepj::{Error, Result};

use crate::cli::tell;

/// The bars of a piece where nothing is said.
const BARS: f64 = 32.0;
/// Candidates for each piece, where something is wished that some of them meet better than others, and the least of them; where the
/// density is to change, which single bars follow least, there are more.
const CANDIDATES: usize = 8;
const LEAST_CANDIDATES: usize = 32;
const LEAST_BY_DENSITY: usize = 64;

/// How long, in which key, how loud, how dense.
#[derive(clap::Args)]
pub struct WishArguments {
    /// Bars to compose, 16 steps each, behind what --prime gives [default: 32]
    #[arg(long, value_name = "N", conflicts_with = "seconds", allow_negative_numbers = true)]
    bars: Option<f64>,
    /// Length of the piece in seconds, with what --prime gives: the file's to a thousandth, and the sound's to a sample
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub seconds: Option<f64>,
    /// Compose in this key, such as "D minor"
    #[arg(long)]
    key: Option<Key>,
    /// Move the piece by so many semitones
    #[arg(long, value_name = "N", default_value_t = 0, allow_hyphen_values = true,
        value_parser = clap::value_parser!(i8).range(-24..=24))]
    pub transpose: i8,
    /// Pitches, such as C3..C6
    #[arg(long, value_name = "LOW..HIGH")]
    range: Option<NoteRange>,
    /// Dynamics, such as mf, or over the piece, in seconds or from the beginning of bars: "p@0 ff@30 p@45", "p@1b f@9b"
    #[arg(long, value_name = "CURVE", allow_negative_numbers = true)]
    dynamics: Option<String>,
    /// Density as a multiple of the style's, such as 0.7, or over the piece: "0.5@0 1.2@30"
    #[arg(long, value_name = "CURVE", allow_negative_numbers = true)]
    density: Option<String>,
    /// Density, dynamics and temperature in a word, where they are not given by themselves
    #[arg(long, value_name = "calm|lively")]
    mood: Option<Mood>,
    /// Let the network alone decide how dense and how loud: without this, density and loudness are drawn to those of the style's pieces
    #[arg(long)]
    as_learned: bool,
    /// How much further the style is moved from the mean of all styles: 0 is the style as it was learned, 1 twice as different
    /// [default: 0.3, or 0 with --as-learned]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    style_emphasis: Option<f32>,
    /// Compose so many and keep the best [default: as many as --count; with --key, --dynamics, --density
    /// or --mood 8 times as many, at least 32, or 64 where the density changes]
    #[arg(long, value_name = "N")]
    candidates: Option<usize>,
    /// Close the piece with a chord, the best of 16 continuations of its last two bars, or let it break off as in the paper
    #[arg(long, value_name = "chosen|none", default_value = "chosen")]
    ending: Ending,
}

/// A word for several wishes.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Mood {
    Calm,
    Lively,
}

impl Mood {
    /// Density, dynamics and temperature.
    fn sets(self) -> (f64, &'static str, f32) {
        match self {
            Self::Calm => (0.6, "p", 0.8),
            Self::Lively => (1.4, "f", 0.9),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Ending {
    Chosen,
    None,
}

/// How long a piece is.
pub struct Length {
    /// Time steps to compose.
    pub steps: usize,
    /// The whole piece.
    pub clock: Clock,
}

impl WishArguments {
    /// The length behind a beginning of `primed` time steps, at so many quarter notes a minute; `bar` time steps are a bar.
    ///
    /// # Errors
    /// A length that is none, or one that the beginning already has.
    pub fn length(&self, primed: usize, tempo: f64, bar: usize) -> Result<Length> {
        let seconds = 60.0 / tempo / f64::from(STEPS_PER_QUARTER);
        let steps = match self.seconds {
            Some(wanted) => {
                let steps = (wanted / seconds - 1e-6).ceil();
                let most = MAX_BARS * bar;
                if !(wanted > 0.0 && steps <= most as f64) {
                    let remedy = format!("give a number above 0, at most {:.0} at {tempo} bpm", most as f64 * seconds);
                    return Err(Error::usage(format!("--seconds {wanted}"), remedy));
                }
                let steps = steps as usize;
                if steps <= primed {
                    let given = primed as f64 * seconds;
                    let what =
                        format!("--seconds {wanted}: the beginning alone takes {given:.3} seconds at {tempo} bpm");
                    return Err(Error::usage(what, "give more seconds, a faster --tempo or a shorter beginning"));
                }
                steps - primed
            }
            None => {
                let bars = self.bars.unwrap_or(BARS);
                let steps = bars * bar as f64;
                if !(steps >= 1.0 && steps <= (MAX_BARS * bar) as f64) {
                    let remedy = format!("give a number above 0, at most {MAX_BARS}, such as 32 or 13.5");
                    return Err(Error::usage(format!("--bars {bars}"), remedy));
                }
                if steps.fract() != 0.0 {
                    let nearest = steps.round() / bar as f64;
                    let what = format!("--bars {bars} is no whole number of time steps, of which a bar has {bar}");
                    return Err(Error::usage(what, format!("give {nearest}")));
                }
                steps as usize
            }
        };
        Ok(Length { steps, clock: Clock { steps: primed.saturating_add(steps), seconds } })
    }

    /// What is wished of a piece of this length.
    ///
    /// # Errors
    /// Curves that are none.
    pub fn wishes(&self, checkpoint: &Checkpoint, clock: Clock) -> Result<Wishes> {
        let levels = self.levels(checkpoint).to_vec();
        let mood = self.mood.map(Mood::sets);
        let has_dynamics = checkpoint.model.roll().channels.contains(Channel::Dynamics);
        let of_mood = mood.map(|(_, dynamics, _)| dynamics).filter(|_| has_dynamics);
        let dynamics = self.dynamics.as_deref().or(of_mood);
        let dynamics = dynamics.map(|text| Curve::parse(text, DYNAMICS, clock)).transpose()?;
        let density = self.density.as_deref().map(|text| Curve::parse(text, DENSITY, clock)).transpose()?;
        let density = density.or(mood.map(|(density, ..)| Curve::constant(density)));
        let model = checkpoint.corpus.range;
        let beyond = |range: &NoteRange| range.low() < model.low() || range.high() > model.high();
        let meets = |range: &NoteRange| range.low() <= model.high() && range.high() >= model.low();
        if let Some(range) = self.range.filter(beyond).filter(meets) {
            let (wanted, has) = (range.names(), model.names());
            tell(format_args!(
                "note: --range {wanted}: the model composes within {has}, and notes beyond are moved there by --transpose alone"
            ));
        }
        if density.is_some() && levels.is_empty() {
            let nominal = deepj::generate::steering::NOMINAL;
            tell(format_args!(
                "note: it is not known how dense the style's pieces are: a density of 1 is {nominal} onsets a bar"
            ));
        }
        let style_emphasis = self.style_emphasis(checkpoint);
        Ok(Wishes { dynamics, density, range: self.range, key: self.key, levels, style_emphasis })
    }

    /// The temperature, where the user gave none.
    pub fn temperature(&self, checkpoint: &Checkpoint) -> f32 {
        self.mood.map_or_else(|| usual_temperature(self.levels(checkpoint)), |mood| mood.sets().2)
    }

    /// How much the style stands out.
    fn style_emphasis(&self, checkpoint: &Checkpoint) -> f32 {
        self.style_emphasis.unwrap_or_else(|| usual_style_emphasis(self.levels(checkpoint)))
    }

    /// The density and loudness of styles to which pieces are drawn.
    fn levels<'a>(&self, checkpoint: &'a Checkpoint) -> &'a [Option<Level>] {
        if self.as_learned { &[] } else { &checkpoint.corpus.levels }
    }

    /// What the mood stands for, in words; `temperature` says whether that too.
    pub fn mood(&self, checkpoint: &Checkpoint, temperature: bool) -> Option<String> {
        let has_dynamics = checkpoint.model.roll().channels.contains(Channel::Dynamics);
        let (density, dynamics, degree) = self.mood?.sets();
        let set = [
            self.density.is_none().then(|| format!("--density {density}")),
            (has_dynamics && self.dynamics.is_none()).then(|| format!("--dynamics {dynamics}")),
            temperature.then(|| format!("--temperature {degree}")),
        ];
        let set: Vec<String> = set.into_iter().flatten().collect();
        (!set.is_empty()).then(|| set.join(" "))
    }

    /// What was wished, as flags.
    pub fn flags(&self) -> Vec<String> {
        let quoted = |flag: &str, text: &Option<String>| text.as_ref().map(|text| format!("{flag} \"{text}\""));
        let flags = [
            self.bars.map(|bars| format!("--bars {bars}")),
            self.seconds.map(|seconds| format!("--seconds {seconds}")),
            self.key.map(|key| format!("--key \"{key}\"")),
            (self.transpose != 0).then(|| format!("--transpose {}", self.transpose)),
            self.range.map(|range| format!("--range {}", range.names())),
            quoted("--dynamics", &self.dynamics),
            quoted("--density", &self.density),
            self.mood.map(|mood| format!("--mood {}", if mood == Mood::Calm { "calm" } else { "lively" })),
            self.as_learned.then(|| "--as-learned".into()),
            self.candidates.map(|candidates| format!("--candidates {candidates}")),
            (self.ending == Ending::None).then(|| "--ending none".into()),
        ];
        flags.into_iter().flatten().collect()
    }

    /// How many to compose for `count` pieces.
    pub fn candidates(&self, count: usize) -> usize {
        let curves = self.dynamics.is_some() || self.density.is_some() || self.mood.is_some();
        let changes = self.density.as_deref().is_some_and(|density| density.contains('@'));
        let least = if changes { LEAST_BY_DENSITY } else { LEAST_CANDIDATES };
        let more = if curves || self.key.is_some() { (CANDIDATES * count).max(least) } else { count };
        self.candidates.unwrap_or(more.min(MAX_PIECES).max(count))
    }

    /// Continuations from which an ending is chosen.
    pub fn endings(&self) -> usize {
        if self.ending == Ending::None { 0 } else { ENDINGS }
    }
}
