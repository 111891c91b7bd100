//! `deepj generate`: flags, and the way from them to files; [`wishes`] has what is wished of pieces, [`written`] what is made of them.

mod wishes;
mod written;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use deepj::checkpoint::{Checkpoint, is_builtin};
use deepj::distributed::{Ranks, Wire};
use deepj::files::{Outputs, is_standard_stream, path_text, serialize_path};
use deepj::generate::choose::Judged;
use deepj::generate::rights::{Given, Rights};
use deepj::generate::{Composed, Composition, MAX_PIECES, SILENCE, generate, generate_among};
use deepj::music::hands::Hand;
use deepj::music::{self, Part, RollStats, StylePath, Styles};
use deepj::quality::{Copied, copies, described};
use deepj::train::corpus_of;
use deepj::{Error, Result};
use rayon::prelude::*;
use serde::Serialize;

use wishes::{Length, WishArguments};
use written::{Made, Written, rights_file};

use super::{
    DeviceArguments, MIDI, bar, check_copies_bound, claim, load_checkpoint, ranks, read_piece, roll, say, say_json,
    signals::Signals, tell,
};

/// Compose pieces
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  deepj generate --style baroque -o piece.mid
  deepj generate --style \"baroque:0.7,romantic:0.3\" --bars 64 --count 4 -o mixed.mid
  deepj generate --style \"baroque -> romantic\" --seed 7 --prime beginning.mid
  deepj generate --seconds 45 --tempo 72 --key \"D minor\" --dynamics \"p@0 ff@30 p@45\" --mood calm --wav -o cue.mid")]
pub struct Generate {
    /// A checkpoint, a run's folder, or builtin [default: the newest run's best, else builtin, the weights within the program]
    #[arg(long, value_name = "F")]
    checkpoint: Option<PathBuf>,
    /// A composer or genre, a mixture such as "bach:0.7,chopin:0.3", or a path such as "bach -> chopin" [default: all
    /// styles in equal parts]
    #[arg(long, value_name = "EXPR")]
    style: Option<String>,
    /// Pieces to compose at once; their files are numbered
    #[arg(long, value_name = "N", default_value_t = 1)]
    count: usize,
    /// Seed of all random draws [default: from the clock, and printed]
    #[arg(long, value_name = "N")]
    seed: Option<u32>,
    /// 1 samples what was learned, less is safer, more is wilder [default: 0.8, that of --mood, or 1 with
    /// --as-learned]
    #[arg(long, value_name = "X")]
    temperature: Option<f32>,
    /// Do not raise the temperature while nothing sounds
    #[arg(long)]
    no_silence_temperature: bool,
    /// Quarter notes a minute [default: 120, or that of --prime]
    #[arg(long, value_name = "BPM")]
    tempo: Option<f64>,
    /// Begin with this MIDI file, rests at its end included, and go on from there
    #[arg(long, value_name = "FILE.mid")]
    prime: Option<PathBuf>,
    /// Fail if anything is odd about the file of --prime or left out of it, instead of warning
    #[arg(long)]
    strict: bool,
    /// Warn of a piece that shares more than so many bars with a training piece; 0 does not look [default: 2, and 0 for builtin, whose
    /// pieces are not within the program]
    #[arg(long, value_name = "BARS")]
    copies_bound: Option<f64>,
    /// The MIDI file to write [default: named by style and seed]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the notes of one hand alone
    #[arg(long, value_name = "left|right")]
    only: Option<HandArgument>,
    /// Write each piece as sound too, to a WAV file beside it
    #[arg(long)]
    wav: bool,
    /// Write each piece as notation too, to a MusicXML file beside it
    #[arg(long)]
    musicxml: bool,
    /// Write a page with all pieces, their rolls and their sound, in one file
    #[arg(long, value_name = "FILE.html")]
    page: Option<PathBuf>,
    /// Write no file beside each piece that says what may be done with it; the MIDI file says it even so
    #[arg(long)]
    no_rights: bool,
    /// Print figures, styles, seed and files as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten, next_help_heading = "Wishes")]
    wishes: WishArguments,
    #[command(flatten, next_help_heading = "Device")]
    device: DeviceArguments,
}

/// A hand of a pianist.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(super) enum HandArgument {
    Left,
    Right,
}

impl From<HandArgument> for Hand {
    fn from(hand: HandArgument) -> Self {
        match hand {
            HandArgument::Left => Self::Left,
            HandArgument::Right => Self::Right,
        }
    }
}

/// What is to be composed, and where it goes.
struct Request {
    /// The checkpoint's file.
    path: PathBuf,
    checkpoint: Checkpoint,
    options: Composition,
    /// The style as it was written, and what it means.
    expression: String,
    style: StylePath,
    tempo: f64,
    files: Vec<PathBuf>,
    /// What is odd about the given beginning.
    warnings: Vec<String>,
}

/// Bars that a piece may share with a training piece without a warning.
const COPIES_BOUND: f64 = 2.0;

impl Request {
    /// Which pieces have no ending since there was an interrupt while endings were chosen, in words.
    fn shorter(&self, composed: &Composed) -> Option<String> {
        let total = self.options.prime.as_ref().map_or(0, music::Roll::steps) + self.options.steps;
        let missing = self.options.ending_steps();
        let short = |(roll, file): (&music::Roll, &PathBuf)| (roll.steps() < total).then(|| path_text(file));
        let files: Vec<String> = composed.rolls.iter().zip(&self.files).filter_map(short).collect();
        let before = composed.rolls.iter().any(|roll| roll.steps() < total - missing);
        if !composed.interrupted || missing == 0 || before || files.is_empty() {
            return None;
        }
        let bars = missing as f64 / self.checkpoint.model.roll().beats as f64;
        let (count, all, names) = (files.len(), composed.rolls.len(), files.join(", "));
        Some(format!(
            "interrupted while endings were chosen: {count} of {all} pieces have none and are {bars} bars shorter: {names}"
        ))
    }
}

/// What is printed as JSON of one piece.
#[derive(Serialize)]
struct Piece<'a> {
    #[serde(serialize_with = "serialize_path")]
    file: &'a Path,
    seed: u32,
    /// Number within the batch, from 0.
    piece: usize,
    tempo: f64,
    interrupted: bool,
    /// Weight by style at the beginning and, where it moves, at the end; empty for a model that knows no style.
    style: Vec<Vec<(String, f32)>>,
    /// What was odd about the beginning, and left out of it.
    warnings: &'a [String],
    /// How it was judged among the candidates.
    judged: &'a Judged,
    /// Points of its last chord; left out where no ending was chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    close: Option<f64>,
    /// The longest passage that it shares with a training piece, without its given beginning; left out where nobody looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    copied: Option<&'a Copied>,
    #[serde(flatten)]
    stats: RollStats,
}

impl Generate {
    pub fn run(self) -> Result<ExitCode> {
        let ranks = ranks::join(Wire::F32)?;
        let done = self.generate(ranks.as_ref());
        ranks::conclude(ranks, done)
    }

    /// Composes, alone or with other processes, each of which composes some of the pieces.
    fn generate(mut self, ranks: Option<&Ranks>) -> Result<ExitCode> {
        if let Some(ranks) = ranks {
            let seed = ranks.all(&self.seed.unwrap_or_else(seed_of_the_clock))?;
            self.seed = seed.first().copied();
        }
        // Locked until all is written.
        let (mut request, _outputs) = Ranks::agree_if_several(ranks, self.request(ranks.is_none_or(Ranks::is_first)))?;
        if let Some(ranks) = ranks {
            self.check_alike(&request, ranks)?;
        }
        if let Some(sets) = self.wishes.mood(&request.checkpoint, self.temperature.is_none()) {
            tell(format_args!("note: the mood stands for {sets}"));
        }
        if request.options.keep.is_some() && self.looks(&request.path) {
            let sources = self.sources(&request.checkpoint);
            request.options.sources = sources.into_iter().map(|piece| piece.roll.clone()).collect();
        }
        let device = match ranks {
            None => self.device.open_in_time()?,
            Some(ranks) => {
                let device = ranks.agree(self.device.open_for(ranks.on_host().0))?;
                let (peaks, _) = self.device.peaks_of_all(&device, Some(ranks))?;
                self.device.in_time(device, peaks.as_ref())
            }
        };
        let signals = Signals::listen("stopping after this bar, and writing what there is");
        let device = device.waited_for(signals.wait_options());
        let all = request.options.steps.div_ceil(request.checkpoint.model.roll().beats);
        let bar = bar(all as u64, "{wide_bar} bar {pos}/{len} ETA {eta}");
        let mut bars = 0;
        let progress = |done: usize| {
            bars = done;
            bar.set_position(done as u64);
        };
        let (selection, stop) = (self.device.selection(), &signals.stop);
        let (checkpoint, options) = (&request.checkpoint, &request.options);
        let composed = match ranks {
            None => pollster::block_on(generate(checkpoint, options, device, selection, stop, progress)),
            Some(ranks) => {
                let on = (device, selection);
                pollster::block_on(generate_among(checkpoint, options, on, stop, progress, ranks))
            }
        };
        bar.finish_and_clear();
        let mut composed = composed.map_err(|e| match e.is_of_device() {
            true => e.during("composing the first bar", "no bar was composed, and nothing was written"),
            false => e,
        })?;
        let interrupted_by = match ranks {
            None => signals.exit_code(),
            Some(ranks) => signals.exit_code_of_all(ranks)?.unwrap_or(ExitCode::SUCCESS),
        };
        if ranks.is_some_and(|ranks| !ranks.is_first()) {
            return Ok(if composed.interrupted { interrupted_by } else { ExitCode::SUCCESS });
        }
        let given = request.options.prime.as_ref().map_or(0, music::Roll::steps);
        let nothing = composed.rolls.iter().all(|roll| roll.steps() <= given);
        if composed.interrupted && composed.failure.is_none() && nothing {
            tell("interrupted before the first bar was composed: nothing is written");
            return Ok(interrupted_by);
        }
        if let Some(what) = request.shorter(&composed) {
            tell(what);
        }
        for roll in &mut composed.rolls {
            if self.wishes.transpose != 0 {
                *roll = roll.transposed(self.wishes.transpose)?;
            }
            if let Some(hand) = self.only {
                *roll = roll.of_hand(hand.into())?;
            }
        }
        let copied = self.write(&request, &composed)?;
        self.say(&request, &composed, &copied)?;
        match composed.failure {
            Some(e) => {
                let doing = format!("composing bar {} of {all}", bars + 1);
                Err(e.during(doing, "what was composed until then is written"))
            }
            None if composed.interrupted => Ok(interrupted_by),
            None => Ok(ExitCode::SUCCESS),
        }
    }

    /// Fails unless all ranks are about to compose the same.
    fn check_alike(&self, request: &Request, ranks: &Ranks) -> Result<()> {
        let weights = crc32c::crc32c(bytemuck::cast_slice(&request.checkpoint.weights()));
        let own = (env!("CARGO_PKG_VERSION"), weights, format!("{:?}", request.options));
        let own = (crc32c::crc32c(format!("{own:?}").as_bytes()), weights);
        let all = ranks.all(&own)?;
        let others: Vec<usize> = (0..all.len()).filter(|&rank| all[rank] != all[0]).collect();
        if others.is_empty() {
            return Ok(());
        }
        ranks.all_have_it();
        let what =
            if others.iter().any(|&rank| all[rank].1 != all[0].1) { "another checkpoint" } else { "other flags" };
        let what = format!("{} would compose with {what} than {}", ranks.names_of(&others), ranks.name_of(0));
        Err(Error::usage(what, "start one program with the same flags and copies of the same files"))
    }

    /// All that is known before the work, with the outputs, which can be written: a piece is worth the time it took. A process that
    /// does not write claims none.
    fn request(&self, writes: bool) -> Result<(Request, Outputs)> {
        let (path, checkpoint) = load_checkpoint(self.checkpoint.as_deref())?;
        check_copies_bound(self.copies_bound.unwrap_or(COPIES_BOUND))?;
        let Prime { roll: prime, tempo, warnings } = match &self.prime {
            Some(file) => Prime::read(file, &checkpoint, self.strict)?,
            None => Prime::default(),
        };
        let tempo = self.tempo.or(tempo).unwrap_or(120.0);
        // A tempo that no file can have is found out before the work, not after it.
        music::Roll::from_notes(checkpoint.corpus.range, [])?.to_midi(tempo)?;
        let primed = prime.as_ref().map_or(0, music::Roll::steps);
        let bar = checkpoint.model.roll().beats;
        let Length { steps, clock } = self.wishes.length(primed, tempo, bar)?;
        let wishes = self.wishes.wishes(&checkpoint, clock)?;
        let (expression, style) = style_of(self.style.as_deref(), &checkpoint, steps.div_ceil(bar))?;
        let seed = self.seed.unwrap_or_else(seed_of_the_clock);
        let (files, outputs) = self.files(&path, seed, writes)?;
        let candidates = self.wishes.candidates(self.count);
        if candidates < self.count {
            let what = format!("--candidates {candidates} for --count {}", self.count);
            return Err(Error::usage(what, "compose at least as many candidates as pieces are kept"));
        }
        let options = Composition {
            styles: vec![style.clone(); candidates],
            steps,
            seed,
            temperature: self.temperature.unwrap_or_else(|| self.wishes.temperature(&checkpoint)),
            silence: if self.no_silence_temperature { 0.0 } else { SILENCE },
            prime,
            wishes,
            keep: (candidates > self.count).then_some(self.count),
            endings: self.wishes.endings(),
            sources: vec![],
        };
        options.check(&checkpoint)?;
        Ok((Request { path, checkpoint, options, expression, style, tempo, files, warnings }, outputs))
    }

    /// Writes the pieces, and what was asked for beside them. Returns what they share with training pieces, where somebody looked.
    fn write(&self, request: &Request, composed: &Composed) -> Result<Vec<Copied>> {
        let Request { path, checkpoint, options, files, tempo, .. } = request;
        let Composed { rolls, kept, .. } = composed;
        // Who interrupts does not want to wait.
        let done = !composed.interrupted && composed.failure.is_none();
        let looks = done && self.looks(path);
        let copied = if looks { self.copied(checkpoint, rolls, files, options.prime.as_ref()) } else { vec![] };
        let written = Written {
            tempo: *tempo,
            seconds: self.wishes.seconds.filter(|_| done),
            only: self.only.map(Hand::from),
            wav: self.wav && done,
            musicxml: self.musicxml && done,
            page: self.page.as_deref().filter(|_| done),
            rights: !self.no_rights && done,
        };
        let made = rolls.iter().zip(files).enumerate().map(|(i, (roll, file))| Made {
            roll,
            file,
            how: self.how(request, kept[i].candidate),
            key: options.wishes.key.or(kept[i].estimate).map(|key| key.moved(self.wishes.transpose)),
            copied: copied.get(i).map(Rights::copied),
        });
        let rights = Rights::new(checkpoint, path, self.prime.as_deref().map(Given::of_file));
        written.write(&made.collect::<Vec<_>>(), &rights)?;
        Ok(copied)
    }

    /// Prints what was composed.
    fn say(&self, request: &Request, composed: &Composed, copied: &[Copied]) -> Result<()> {
        let Request { path, checkpoint, options, files, style, expression, .. } = request;
        let Composed { rolls, kept, others, closes, interrupted, .. } = composed;
        let (styles, knows_styles) = (&checkpoint.styles, checkpoint.model.roll().styles > 0);
        let seed = options.seed;
        let mut pieces = vec![];
        for (i, (roll, file)) in rolls.iter().zip(files).enumerate() {
            let ends = if style.is_constant() { vec![0.0] } else { vec![0.0, 1.0] };
            let ends = if knows_styles { ends } else { vec![] };
            pieces.push(Piece {
                file,
                seed,
                piece: kept[i].candidate,
                tempo: request.tempo,
                interrupted: *interrupted,
                style: ends.into_iter().map(|f| weights(&style.at(f), styles)).collect(),
                warnings: &request.warnings,
                judged: &kept[i],
                close: closes[i],
                copied: copied.get(i),
                stats: RollStats::new(roll),
            });
        }
        if self.json {
            return say_json(&pieces);
        }
        // Standard output is the piece.
        if files.iter().any(|file| is_standard_stream(file)) {
            return Ok(());
        }
        if *interrupted {
            say("interrupted: this is what was composed so far");
        }
        let style = if knows_styles { format!(", style {expression}") } else { String::new() };
        say(format_args!("composed with {}{style}, seed {seed}", path.display()));
        for Piece { file, stats, judged, close, .. } in &pieces {
            say(file.display());
            roll::print_stats(stats);
            if options.keep.is_some() {
                let close = close.map_or(String::new(), |close| format!(", ending {close:.1} of 5.5"));
                let (place, points, why) = (judged.candidate + 1, judged.points, judged.why());
                say(format_args!("  candidate {place}, {points:.2} points: {why}{close}"));
            }
        }
        if let Some(best) = others.first() {
            let (count, why, points) = (others.len(), best.why(), best.points);
            say(format_args!("not kept: {count}, the best with {points:.2} points: {why}"));
        }
        Ok(())
    }

    /// Whether copies are looked for: the pieces of the weights within the program are hardly at hand.
    fn looks(&self, checkpoint: &Path) -> bool {
        self.copies_bound.map_or(!is_builtin(checkpoint), |bars| bars > 0.0)
    }

    /// The training pieces; none, with a note, where they cannot be read.
    fn sources(&self, checkpoint: &Checkpoint) -> Vec<Arc<music::Piece>> {
        let corpus = corpus_of(checkpoint, None, false);
        corpus.and_then(|corpus| corpus.part(&checkpoint.split, Part::Train)).unwrap_or_else(|e| {
            tell(format_args!("note: nobody looked whether the model has copied from its training pieces: {}", e.what));
            vec![]
        })
    }

    /// What each of `rolls` shares with the training pieces behind its beginning, `prime`, with a warning where that is long; none, with
    /// a note, where the training pieces cannot be read.
    fn copied(
        &self,
        checkpoint: &Checkpoint,
        rolls: &[music::Roll],
        files: &[PathBuf],
        prime: Option<&music::Roll>,
    ) -> Vec<Copied> {
        let bound = self.copies_bound.unwrap_or(COPIES_BOUND);
        let training = self.sources(checkpoint);
        if training.is_empty() {
            return vec![];
        }
        let given = prime.map_or(0, music::Roll::steps);
        let composed: Vec<music::Roll> = rolls.iter().map(|roll| roll.excerpt(given, roll.steps())).collect();
        let passages = copies::copied(&composed, training.par_iter().map(|piece| &piece.roll));
        let mut copied = vec![];
        for (mut passage, file) in passages.into_iter().zip(files) {
            let source = passage.as_ref().map(|passage| training[passage.other].name.clone());
            if let Some(passage) = &mut passage {
                passage.move_by(given);
            }
            if let (Some(passage), Some(source)) = (&passage, &source)
                && passage.bars > bound
            {
                let what = described(passage, source);
                tell(format_args!("warning: {}: shares a passage with a training piece, {what}", file.display()));
            }
            copied.push(Copied { file: path_text(file), passage, source });
        }
        copied
    }

    /// The flags that compose a piece again, but for the files that they name.
    fn how(&self, request: &Request, candidate: usize) -> String {
        let Request { expression, tempo, .. } = request;
        let Composition { styles, seed, temperature, .. } = &request.options;
        let emphasis = request.options.wishes.style_emphasis;
        let (style, emphasis) = match request.checkpoint.model.roll().styles {
            // Nothing may be said of a style that the model does not hear.
            0 => (String::new(), String::new()),
            _ => (format!("--style \"{expression}\" "), format!(" --style-emphasis {emphasis}")),
        };
        let flags = format!("{style}--seed {seed} --tempo {tempo} --temperature {temperature}{emphasis}");
        let more = [
            (self.count > 1).then(|| format!("--count {}", self.count)),
            self.no_silence_temperature.then(|| "--no-silence-temperature".into()),
            self.copies_bound.map(|bars| format!("--copies-bound {bars}")),
            self.only
                .map(|only| format!("--only {}", if matches!(only, HandArgument::Left) { "left" } else { "right" })),
        ];
        let more: Vec<String> = more.into_iter().flatten().collect();
        let flags = [vec![flags], self.wishes.flags(), more].concat().join(" ");
        let (place, all) = (candidate + 1, styles.len());
        let prime = if self.prime.is_some() { ", after a given beginning" } else { "" };
        format!("deepj generate {flags}: candidate {place} of {all}{prime}")
    }

    /// The files to be written, which can be.
    fn files(&self, checkpoint: &Path, seed: u32, writes: bool) -> Result<(Vec<PathBuf>, Outputs)> {
        if self.count == 0 || self.count > MAX_PIECES {
            let what = format!("--count {}", self.count);
            return Err(Error::usage(what, format!("compose 1 to {MAX_PIECES} pieces")));
        }
        let name = self.style.as_deref().unwrap_or("all");
        let output = self.output.clone().unwrap_or_else(|| default_name(name, seed));
        if is_standard_stream(&output) && (self.count > 1 || self.json) {
            let what = "more than one piece, or JSON as well, on standard output";
            return Err(Error::usage(what, "name a file with -o"));
        }
        let files: Vec<PathBuf> = (0..self.count).map(|i| numbered(&output, i, self.count)).collect();
        let mut outputs = Outputs::default();
        if !writes {
            return Ok((files, outputs));
        }
        outputs.reads(checkpoint);
        self.prime.iter().for_each(|prime| outputs.reads(prime));
        files.iter().try_for_each(|file| claim(&mut outputs, Some(file), MIDI))?;
        if !self.no_rights {
            files
                .iter()
                .filter_map(|file| rights_file(file))
                .try_for_each(|file| claim(&mut outputs, Some(&file), &["txt"]))?;
        }
        let beside = [(self.wav, "wav"), (self.musicxml, "musicxml")];
        for (_, ending) in beside.into_iter().filter(|(wanted, _)| *wanted) {
            if is_standard_stream(&output) {
                let what = format!("a piece on standard output and a .{ending} file beside it");
                return Err(Error::usage(what, "name a file with -o"));
            }
            files.iter().try_for_each(|file| claim(&mut outputs, Some(&file.with_extension(ending)), &[ending]))?;
        }
        if self.page.as_deref().is_some_and(is_standard_stream) {
            return Err(Error::usage("a page on standard output", "name a file with --page"));
        }
        claim(&mut outputs, self.page.as_deref(), &["html", "htm"])?;
        Ok((files, outputs))
    }
}

/// The style that `--style` names, all styles in equal parts without it, for so many bars; with the expression for it.
///
/// # Errors
/// A style for a model that knows none, or an expression that is none.
pub(super) fn style_of(expression: Option<&str>, checkpoint: &Checkpoint, bars: usize) -> Result<(String, StylePath)> {
    if let Some(style) = expression.filter(|_| checkpoint.model.roll().styles == 0) {
        let what = format!("--style {style}: the model {} knows no style", checkpoint.model.architecture());
        return Err(Error::usage(what, "leave out --style, or take a checkpoint of a model that does"));
    }
    let styles = &checkpoint.styles;
    let all = || (0..styles.len()).map(|i| styles.label(i)).collect::<Vec<_>>().join(",");
    let expression = expression.map_or_else(all, str::to_string);
    let (style, notices) = StylePath::parse(&expression, styles)?;
    let stations = style.stations();
    if stations > bars {
        tell(format_args!(
            "note: the style has {stations} stations but the piece only {bars} bars, so not all of them are heard"
        ));
    }
    for notice in notices {
        tell(format_args!("note: {notice}"));
    }
    Ok((expression, style))
}

/// A given beginning.
#[derive(Default)]
pub(super) struct Prime {
    pub roll: Option<music::Roll>,
    pub tempo: Option<f64>,
    warnings: Vec<String>,
}

impl Prime {
    /// Reads `file` as the model hears it, and says what is odd about it or was left out.
    pub fn read(file: &Path, checkpoint: &Checkpoint, strict: bool) -> Result<Self> {
        let (reading, warnings) = read_piece(file, checkpoint, strict)?;
        let roll = reading.roll_with_rest().map_err(|e| Error::file(file, e.what, e.remedy))?;
        Ok(Self { roll: Some(roll), tempo: Some(reading.mean_bpm.clamp(4.0, 1000.0)), warnings })
    }
}

pub(super) fn seed_of_the_clock() -> u32 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_millis() as u32)
}

/// The styles that weigh anything.
fn weights(point: &[f32], styles: &Styles) -> Vec<(String, f32)> {
    let named = point.iter().enumerate().map(|(i, &weight)| (styles.label(i), weight));
    named.filter(|(_, weight)| *weight > 0.0).collect()
}

/// `piece.mid` for one piece, `piece-03.mid` for the third of ten.
pub(super) fn numbered(output: &Path, i: usize, count: usize) -> PathBuf {
    if count == 1 {
        return output.to_path_buf();
    }
    let digits = count.to_string().len();
    let mut name = output.file_stem().unwrap_or_default().to_os_string();
    name.push(format!("-{:0digits$}.", i + 1));
    name.push(output.extension().unwrap_or(OsStr::new("mid")));
    output.with_file_name(name)
}

/// Bytes of the style's part of a file name.
const LONGEST_NAME: usize = 100;

/// A file name from what was asked for.
fn default_name(style: &str, seed: u32) -> PathBuf {
    let plain: String = style.chars().map(|c| if c.is_alphanumeric() { c } else { ' ' }).collect();
    let words: Vec<&str> = plain.split_whitespace().collect();
    let mut name = words.join("-");
    // A long expression makes a long name, and file systems take 255 bytes.
    while name.len() > LONGEST_NAME {
        name.pop();
    }
    format!("{name}-{seed}.mid").into()
}
