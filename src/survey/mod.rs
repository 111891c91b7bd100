//! Listening surveys: blind pairs of clips of two systems, a page on which listeners choose one of each, and what came of it.
//!
//! [`Plan`] draws the pairs, [`make`] renders their clips into a folder that any static host can serve and writes the [`Key`]
//! elsewhere, [`Answers`] are read of the files that listeners send back, and [`score`] makes a [`Score`] of them.
//!
//! **Blind.** Names of clips are random numbers. The page lists pairs by their names and the clips of a pair by theirs, shuffles both
//! for each listener, and stores an answer as the name of a clip. Clips are rendered in the order of their names, so that the times
//! of the files tell nothing. Only the key, outside of the folder, knows what a clip is of.
//!
//! **Fair.** Both clips of a pair begin with their first notes, have the same number of frames and fade out over [`FADE`] seconds.
//! All clips of a survey have the same integrated loudness ([`loudness`]), [`LOUDEST`] or as much less as lets no sample of any clip
//! reach the limiter.
//!
//! **The same again.** The same files, options and seed make the same survey, byte by byte.

pub mod loudness;

mod key;
mod page;
mod score;

pub use key::{Key, KeyClip, KeyPair};
pub use score::{Answer, Answers, FAMILIARITY, PairScore, Preference, Score, paper, read_answers, score};

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use loudness::Meter;

use crate::files::{check_new_folder, make_new_folder, path_text, refused, remove, write_folder, write_whole};
use crate::music::Score as Music;
use crate::render::{self, Instrument, KNEE, Performance, sound, tail, write_wav};
use crate::shuffle::SplitMix64;
use crate::{Error, Result};

/// Seconds of the fade at a clip's end.
pub const FADE: f64 = 1.0;
/// The loudness that clips have at most, in LUFS.
pub const LOUDEST: f64 = -18.0;
/// The shortest that a piece may be, in seconds, where clips are not shorter themselves.
pub const SHORTEST: f64 = 5.0;
/// The lengths of clips that can be asked for, in seconds.
const SECONDS: std::ops::RangeInclusive<f64> = 1.0..=600.0;
/// Pairs where nothing else is asked for, if there are so many pieces: those of the paper.
pub const PAIRS: usize = 15;
/// Seconds of each clip that are to be heard before a pair can be answered, if it has so many.
const HEARD: f64 = 10.0;
/// The folder of the clips in that of the survey.
const CLIPS: &str = "clips";
const PAGE: &str = "index.html";

/// How a survey is made.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// How many pairs; without a number as many as the smaller side has pieces, at most [`PAIRS`].
    pub pairs: Option<usize>,
    /// The length of clips, where both pieces of a pair are that long.
    pub seconds: f64,
    /// Frames a second.
    pub rate: u32,
    /// The seed of all random draws.
    pub seed: u32,
    /// What stands above the page.
    pub title: String,
    /// What is asked of each pair.
    pub question: String,
    /// What listeners are asked to do with the file of their answers.
    pub closing: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            pairs: None,
            seconds: 30.0,
            rate: render::DEFAULT_RATE,
            seed: 0,
            title: "Listening survey".into(),
            question: "Which piece do you prefer?".into(),
            closing:
                "When you are done, save your answers as a file, and send it to the person who asked you to take part."
                    .into(),
        }
    }
}

/// A piece of one side.
pub struct Piece {
    /// Its file.
    pub path: PathBuf,
    /// What is odd about the file, one sentence each.
    pub warnings: Vec<String>,
    performance: Performance,
}

/// The pieces of one system.
pub struct Side {
    /// What it is called in the key.
    pub name: String,
    /// Its pieces, in the order of their names.
    pub pieces: Vec<Piece>,
}

impl Side {
    /// Reads the MIDI files in the folder `path`, not those in folders below it. The side is called as the folder.
    ///
    /// # Errors
    /// A folder that cannot be read or holds no MIDI files, or a file that cannot be rendered. No file is left out: a system that
    /// writes files without music would gain by that.
    pub fn read(path: &Path, instrument: &Instrument) -> Result<Self> {
        const REMEDY: &str = "name a folder with the pieces of one system, as .mid files";
        let unreadable = |e| refused(path, "read", &e);
        let mut files = vec![];
        for entry in std::fs::read_dir(path).map_err(unreadable)? {
            let file = entry.map_err(unreadable)?.path();
            let ending = file.extension().unwrap_or_default().to_ascii_lowercase();
            let hidden = file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if (ending == "mid" || ending == "midi") && !hidden {
                files.push(file);
            }
        }
        if files.is_empty() {
            return Err(Error::file(path, "holds no MIDI files (.mid, .midi)", REMEDY));
        }
        files.sort();
        let read = |path: PathBuf| {
            let score = Music::read(&path, true)?;
            let performance = Performance::new(&score).without_rest();
            let mut warnings = score.warnings;
            warnings.extend(instrument.silent(&performance)?);
            Ok(Piece { path, warnings, performance })
        };
        let pieces = files.into_iter().map(read).collect::<Result<Vec<_>>>()?;
        Ok(Self { name: path.file_name().map_or_else(|| path_text(path), path_text), pieces })
    }
}

/// A clip that is to be rendered.
struct Clip<'a> {
    name: String,
    piece: &'a Piece,
}

/// Two clips that are to be compared.
struct Pair<'a> {
    name: String,
    frames: u64,
    /// That of the first side, and that of the second.
    clips: [Clip<'a>; 2],
}

/// The pairs of a survey, drawn and named, in the order of their names.
pub struct Plan<'a> {
    options: Options,
    names: [String; 2],
    pairs: Vec<Pair<'a>>,
}

impl<'a> Plan<'a> {
    /// Draws the pairs: the pieces of each side in random order, side by side. Each piece is in one pair at most.
    ///
    /// # Errors
    /// Options that cannot be had, a piece that is shorter than [`SHORTEST`], or sides of one name.
    pub fn new(sides: &'a [Side; 2], options: Options) -> Result<Self> {
        if !SECONDS.contains(&options.seconds) {
            let (low, high) = (SECONDS.start(), SECONDS.end());
            let what = format!("clips of {} seconds", options.seconds);
            return Err(Error::usage(what, format!("give --seconds from {low} to {high}")));
        }
        if sides[0].name == sides[1].name {
            let what = format!("both sides are called `{}`", sides[0].name);
            return Err(Error::usage(what, "give two --names, such as --names ours,theirs"));
        }
        let [a, b] = [0, 1].map(|side| sides[side].pieces.len());
        let count = options.pairs.unwrap_or(a.min(b).min(PAIRS));
        if count == 0 || count > a.min(b) {
            let what = format!("{count} pairs of {a} and {b} pieces, each of which is in one pair at most");
            return Err(Error::usage(what, format!("give --pairs from 1 to {}", a.min(b))));
        }
        check_lengths(sides, options.seconds)?;
        let [a, b] = [0, 1].map(|side| {
            let mut pieces: Vec<&Piece> = sides[side].pieces.iter().collect();
            SplitMix64::new(options.seed.into(), side as u64).shuffle(&mut pieces);
            pieces
        });
        let mut names = Names::new(options.seed);
        let pair = |(a, b): (&'a Piece, &'a Piece)| {
            let frames = [a, b].map(|piece| frames_of(piece, &options));
            let mut clip = |piece| Clip { name: names.next(), piece };
            let clips = [clip(a), clip(b)];
            Pair { name: names.next(), frames: frames[0].min(frames[1]), clips }
        };
        let mut pairs: Vec<Pair> = a.into_iter().zip(b).take(count).map(pair).collect();
        pairs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { options, names: [0, 1].map(|side| sides[side].name.clone()), pairs })
    }

    /// How many pairs there are.
    pub fn pairs(&self) -> usize {
        self.pairs.len()
    }

    /// The frames of all clips.
    pub fn frames(&self) -> u64 {
        self.pairs.iter().map(|pair| 2 * pair.frames).sum()
    }

    /// The shortest and the longest clip, in seconds.
    pub fn lengths(&self) -> [f64; 2] {
        let frames = || self.pairs.iter().map(|pair| pair.frames);
        [frames().min(), frames().max()].map(|frames| frames.unwrap_or(0) as f64 / f64::from(self.options.rate))
    }

    /// What is to be said of pairs that are shorter than was asked for, by the file that makes them so.
    pub fn shortened(&self) -> impl Iterator<Item = (&Path, String)> {
        let options = &self.options;
        let wanted = (options.seconds * f64::from(options.rate)).round() as u64;
        self.pairs.iter().filter(move |pair| pair.frames < wanted).filter_map(|pair| {
            let clip = pair.clips.iter().find(|clip| frames_of(clip.piece, options) == pair.frames)?;
            let seconds = pair.frames as f64 / f64::from(options.rate);
            Some((&*clip.piece.path, format!("sounds for {seconds:.1} s; both clips of its pair are cut to that")))
        })
    }

    /// All clips with their frames, in the order of their names.
    fn clips(&self) -> Vec<(&Clip<'a>, u64)> {
        let mut clips: Vec<_> =
            self.pairs.iter().flat_map(|pair| pair.clips.iter().map(|clip| (clip, pair.frames))).collect();
        clips.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        clips
    }
}

/// The frames that a clip of `piece` has where nothing but itself limits it: the piece, and the time in which it dies away.
fn frames_of(piece: &Piece, options: &Options) -> u64 {
    let frames = |seconds: f64| (seconds * f64::from(options.rate)).round() as u64;
    frames(options.seconds).min(frames(piece.performance.end()) + tail(options.rate))
}

/// Fails on pieces that are too short to be judged, and names them all.
fn check_lengths(sides: &[Side; 2], seconds: f64) -> Result<()> {
    let least = SHORTEST.min(seconds);
    let pieces = sides.iter().flat_map(|side| &side.pieces);
    let short: Vec<&Piece> = pieces.filter(|piece| piece.performance.end() < least).collect();
    let Some(first) = short.first() else { return Ok(()) };
    let others: Vec<String> = short[1..].iter().map(|piece| path_text(&piece.path)).collect();
    let others = if others.is_empty() { String::new() } else { format!(" (as do {})", others.join(", ")) };
    let end = first.performance.end();
    let what = format!("sounds for {end:.1} s, less than the {least} s that a clip needs{others}");
    Err(Error::file(&first.path, what, "move it away, or replace it by a longer piece"))
}

/// Random names that are all different.
struct Names {
    random: SplitMix64,
    taken: BTreeSet<u64>,
}

impl Names {
    fn new(seed: u32) -> Self {
        Self { random: SplitMix64::new(seed.into(), 2), taken: BTreeSet::new() }
    }

    fn next(&mut self) -> String {
        loop {
            let name = self.random.next();
            if self.taken.insert(name) {
                return format!("{name:016x}");
            }
        }
    }
}

/// What was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Made {
    /// The key, as it was written.
    pub key: Key,
    /// Bytes of all files in the folder.
    pub bytes: u64,
}

/// Makes the survey: the folder `out`, which is whole or not there, and the file `key` outside of it. Neither replaces anything but
/// an empty folder: answers that are still out would be lost with the key. `progress` is told the frames that are done, of twice
/// [`Plan::frames`]. Returns `None`, with nothing made, if `stop` was set.
///
/// # Errors
/// A folder that holds something, a key that is there already or would be within the folder, a clip that is silent, those of
/// [`sound`], and what the system refuses.
pub fn make(
    plan: &Plan,
    instrument: &Instrument,
    out: &Path,
    key: &Path,
    mut progress: impl FnMut(u64),
    stop: &AtomicBool,
) -> Result<Option<Made>> {
    check(out, key)?;
    let mut keyed = false;
    let stopped = || Error::run("stopped", "");
    let written = write_folder(out, |folder| {
        let mut done = 0;
        let mut more = |frames: u64| {
            done += frames;
            progress(done);
            if stop.load(Ordering::Relaxed) { Err(stopped()) } else { Ok(()) }
        };
        let levels = measure(plan, instrument, &mut more)?;
        let made = write_clips(plan, instrument, &levels, folder, &mut more)?;
        let page = page::page(&made.key, &plan.options);
        write_whole(&folder.join(PAGE), page.as_bytes())?;
        write_whole(key, &made.key.to_bytes()?)?;
        keyed = true;
        Ok(Made { bytes: made.bytes + page.len() as u64, ..made })
    });
    match written {
        Ok(made) => Ok(Some(made)),
        Err(_) if stop.load(Ordering::Relaxed) && !keyed => Ok(None),
        Err(e) => {
            if keyed {
                remove(key)?;
            }
            Err(e)
        }
    }
}

/// Fails where [`make`] would, because of what is there already.
///
/// # Errors
/// As those of [`make`] for the folder and the key.
pub fn check(out: &Path, key: &Path) -> Result<()> {
    check_new_folder(out)?;
    if key.symlink_metadata().is_ok() {
        let remedy = "name another by --key; without it, answers to the survey that it belongs to could not be scored";
        return Err(Error::file(key, "is there already", remedy));
    }
    let above = key.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let whole = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.into());
    let inside = whole(above).starts_with(whole(out)) || same_file::is_same_file(above, out).unwrap_or(false);
    if inside {
        return Err(Error::usage(
            format!("{}: the key would be in the folder that listeners see", path_text(key)),
            "name a place outside of it by --key",
        ));
    }
    Ok(())
}

/// How loud a clip is before it is levelled.
struct Level {
    loudness: f64,
    peak: f64,
}

/// The levels of all clips, in the order of [`Plan::clips`].
fn measure(plan: &Plan, instrument: &Instrument, more: &mut impl FnMut(u64) -> Result<()>) -> Result<Vec<Level>> {
    let mut levels = vec![];
    for (clip, frames) in plan.clips() {
        let options = clip_options(&plan.options, frames, 1.0);
        let mut meter = Meter::new(options.rate);
        sound(&clip.piece.performance, instrument, &options, |left, right| {
            meter.push(left, right);
            more(left.len() as u64)
        })?;
        let loudness = meter.loudness().ok_or_else(|| {
            let what = format!("is silent for its first {:.1} s", frames as f64 / f64::from(options.rate));
            Error::file(&clip.piece.path, what, "move it away, or replace it by a piece that can be heard")
        })?;
        levels.push(Level { loudness, peak: meter.peak().into() });
    }
    Ok(levels)
}

/// Renders the clips, levelled, into a folder in `folder`.
fn write_clips(
    plan: &Plan,
    instrument: &Instrument,
    levels: &[Level],
    folder: &Path,
    more: &mut impl FnMut(u64) -> Result<()>,
) -> Result<Made> {
    // So loud a clip can be before a sample comes to the limiter.
    let most = |level: &Level| level.loudness + 20.0 * libm::log10(f64::from(KNEE) / level.peak);
    let loudness = levels.iter().map(most).fold(LOUDEST, f64::min);
    let clips = folder.join(CLIPS);
    make_new_folder(&clips).map_err(|e| refused(&clips, "made", &e))?;
    let (mut written, mut bytes) = (vec![], 0);
    for ((clip, frames), level) in plan.clips().into_iter().zip(levels) {
        let gain = loudness - level.loudness;
        let options = clip_options(&plan.options, frames, libm::pow(10.0, gain / 20.0) as f32);
        let path = clips.join(format!("{}.wav", clip.name));
        write_wav(&path, &clip.piece.performance, instrument, &options, |_| ())?;
        more(frames)?;
        let content = std::fs::read(&path).map_err(|e| refused(&path, "read", &e))?;
        bytes += content.len() as u64;
        let file = path_text(&clip.piece.path);
        written.push(KeyClip { clip: clip.name.clone(), file, gain, crc32c: crc32c::crc32c(&content) });
    }
    let find = |clip: &Clip| written.iter().find(|written| written.clip == clip.name).cloned();
    let mut pairs = vec![];
    for pair in &plan.pairs {
        let [Some(a), Some(b)] = [0, 1].map(|side| find(&pair.clips[side])) else { continue };
        pairs.push(KeyPair { pair: pair.name.clone(), frames: pair.frames, clips: [a, b] });
    }
    let Options { rate, seed, title, question, .. } = plan.options.clone();
    let (names, preset) = (plan.names.clone(), instrument.preset().map(Into::into));
    let key = Key { title, question, names, seed, preset, rate, loudness, pairs, ..Key::default() }.sealed()?;
    Ok(Made { key, bytes })
}

/// How a clip is rendered.
fn clip_options(options: &Options, frames: u64, gain: f32) -> render::Options {
    let rate = options.rate;
    render::Options { rate, seconds: Some(frames as f64 / f64::from(rate)), gain, fade: FADE }
}
