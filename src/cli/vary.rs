//! `deepj vary`.

use std::path::PathBuf;
use std::process::ExitCode;

use deepj::files::{Outputs, is_standard_stream, path_text};
use deepj::generate::curve::Curve;
use deepj::generate::rights::{Given, Rights};
use deepj::generate::steering::Wishes;
use deepj::generate::vary::{Variation, Varied, vary};
use deepj::music::RollStats;
use deepj::music::hands::Hand;
use deepj::music::levels::Level;
use deepj::music::midi::Writing;
use deepj::music::roll::BAR;
use deepj::{Error, Result};
use serde::Serialize;

use super::generate::{HandArgument, numbered, seed_of_the_clock, style_of};
use super::{DeviceArguments, MIDI, bar, claim, load_checkpoint, read_piece, roll, say, say_json, signals::Signals};

/// Make variants of a piece: some bars composed anew between those that stay
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  deepj vary piece.mid --bars 5..8 -o variant.mid
  deepj vary piece.mid --bars 9..16 --keep right --count 3 -o variant.mid
  deepj vary piece.mid --less-dense --style romantic --seed 7")]
pub struct Vary {
    /// A MIDI file, or - for standard input
    file: PathBuf,
    /// A checkpoint, a run's folder, or builtin [default: the newest run's best, else builtin, the weights within the program]
    #[arg(long, value_name = "F")]
    checkpoint: Option<PathBuf>,
    /// Bars to compose anew, from 1 on, both included [default: all behind the first two]
    #[arg(long, value_name = "FIRST..LAST")]
    bars: Option<String>,
    /// Keep the notes of one hand
    #[arg(long, value_name = "left|right")]
    keep: Option<HandArgument>,
    /// With fewer notes: six of ten
    #[arg(long, conflicts_with = "more_dense")]
    less_dense: bool,
    /// With more notes: sixteen for ten
    #[arg(long)]
    more_dense: bool,
    /// The style of what is composed: see `deepj generate` [default: all styles in equal parts]
    #[arg(long, value_name = "EXPR")]
    style: Option<String>,
    /// Variants to make; their files are numbered
    #[arg(long, value_name = "N", default_value_t = 1)]
    count: usize,
    /// Compose so many and take those after which the rest of the piece is likeliest
    #[arg(long, value_name = "N", default_value_t = 32)]
    candidates: usize,
    /// Seed of all random draws [default: from the clock, and printed]
    #[arg(long, value_name = "N")]
    seed: Option<u32>,
    /// 1 samples what was learned, less is safer, more is wilder
    #[arg(long, value_name = "X", default_value_t = 0.9)]
    temperature: f32,
    /// Fail if anything is odd about the file or left out of it, instead of warning
    #[arg(long)]
    strict: bool,
    /// The MIDI file to write [default: the piece's name with `-variant`, in this folder]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print figures as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArguments,
}

/// What is printed as JSON of one variant.
#[derive(Serialize)]
struct Variant {
    file: String,
    seed: u32,
    /// Nats a time step of what comes after, and those in the given piece; `null` where nothing does.
    nats_after: Option<f64>,
    nats_after_before: Option<f64>,
    #[serde(flatten)]
    stats: RollStats,
}

impl Vary {
    pub fn run(self) -> Result<ExitCode> {
        let (path, checkpoint) = load_checkpoint(self.checkpoint.as_deref())?;
        let (reading, _) = read_piece(&self.file, &checkpoint, self.strict)?;
        let piece = reading.roll.clone();
        let tempo = reading.mean_bpm.clamp(4.0, 1000.0);
        let seed = self.seed.unwrap_or_else(seed_of_the_clock);
        let bar_steps = checkpoint.model.roll().beats;
        let variation = Variation {
            steps: self.steps(piece.steps(), bar_steps)?,
            style: style_of(self.style.as_deref(), &checkpoint, piece.steps().div_ceil(bar_steps))?.1,
            keep: self.keep.map(Hand::from),
            wishes: self.wishes(&RollStats::new(&piece), checkpoint.styles.len()),
            candidates: self.candidates,
            count: self.count,
            seed,
            temperature: self.temperature,
            piece,
        };
        variation.check(&checkpoint)?;
        let output = self.output.clone().unwrap_or_else(|| {
            let name = self.file.file_stem().filter(|_| !is_standard_stream(&self.file));
            format!("{}-variant.mid", name.unwrap_or("piece".as_ref()).to_string_lossy()).into()
        });
        if is_standard_stream(&output) && (self.count > 1 || self.json) {
            let what = "more than one variant, or JSON as well, on standard output";
            return Err(Error::usage(what, "name a file with -o"));
        }
        let files: Vec<PathBuf> = (0..self.count).map(|i| numbered(&output, i, self.count)).collect();
        let mut outputs = Outputs::default();
        outputs.reads(&path);
        outputs.reads(&self.file);
        files.iter().try_for_each(|file| claim(&mut outputs, Some(file), MIDI))?;
        let device = self.device.open_in_time()?;
        let signals = Signals::listen("stopping after this bar; nothing is written");
        let device = device.waited_for(signals.wait_options());
        let bar = bar(variation.piece.steps() as u64, "{wide_bar} step {pos}/{len} ETA {eta}");
        let progress = |done: usize| bar.set_position(done as u64);
        let varied =
            pollster::block_on(vary(&checkpoint, &variation, device, self.device.selection(), &signals.stop, progress));
        bar.finish_and_clear();
        let (varied, before) = varied?;
        if varied.is_empty() {
            return Ok(signals.exit_code());
        }
        let (mut variants, rights) = (vec![], Rights::new(&checkpoint, &path, Some(Given::of_file(&self.file))));
        for (Varied { roll, nats }, file) in varied.iter().zip(&files) {
            // The rest is the given piece's, whose rights are not known.
            let (first, last) = (variation.steps.start / bar_steps + 1, variation.steps.end.div_ceil(bar_steps));
            let anew = format!("Bars {first} to {last} composed anew by deepj. {}", rights.trained);
            let writing = Writing { two_hands: true, texts: vec![anew], ..Writing::new(tempo) };
            deepj::files::write_output(file, &roll.to_midi_as(&writing)?)?;
            let stats = RollStats::new(roll);
            variants.push(Variant { file: path_text(file), seed, nats_after: *nats, nats_after_before: before, stats });
        }
        if self.json {
            say_json(&variants)?;
        } else if !is_standard_stream(&output) {
            say(format_args!("composed with {}, seed {seed}", path.display()));
            for Variant { file, nats_after, nats_after_before, stats, .. } in &variants {
                say(file);
                roll::print_stats(stats);
                if let Some((nats, before)) = nats_after.zip(*nats_after_before) {
                    say(format_args!("  what comes after: {nats:.2} nats a step, {before:.2} in the given piece"));
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The time steps of the bars to be composed anew.
    fn steps(&self, all: usize, bar: usize) -> Result<std::ops::Range<usize>> {
        let Some(text) = &self.bars else {
            if all <= 2 * bar {
                let what = format!("a piece of {} bars, of which the first two stay", all as f64 / bar as f64);
                return Err(Error::usage(what, "name the bars to compose anew by --bars, such as 1..1"));
            }
            return Ok(2 * bar..all);
        };
        let wrong = || {
            let what = format!("--bars {text}");
            Error::usage(what, "give the first and the last bar, counted from 1, such as 5..8, or one, such as 5")
        };
        let (first, last) = text.split_once("..").unwrap_or((text, text));
        let number = |text: &str| text.trim().trim_start_matches('=').parse::<usize>().map_err(|_| wrong());
        let (first, last) = (number(first)?, number(last)?);
        if first == 0 || last < first || last > usize::MAX / bar {
            return Err(wrong());
        }
        let start = (first - 1) * bar;
        // The last bar of a piece may not be whole.
        Ok(start..if last * bar < all + bar { (last * bar).min(all) } else { last * bar })
    }

    /// As dense as the piece, or as was asked for.
    fn wishes(&self, piece: &RollStats, styles: usize) -> Wishes {
        let factor = match (self.less_dense, self.more_dense) {
            (true, _) => 0.6,
            (_, true) => 1.6,
            _ => 1.0,
        };
        // The level from which the factor counts is the piece's own, whatever the style.
        let density = (piece.onsets as f64 / (piece.steps.max(1) as f64 / BAR as f64)) as f32;
        let own = Level { density, polyphony: piece.mean_polyphony as f32, velocity: None };
        let levels = if piece.onsets > 0 { vec![Some(own); styles] } else { vec![] };
        Wishes { density: Some(Curve::constant(factor)), levels, ..Wishes::default() }
    }
}
