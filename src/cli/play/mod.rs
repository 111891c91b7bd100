//! `deepj play`: flags, and the threads; [`outputs`] has where it plays to.

mod outputs;

use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use deepj::checkpoint::Checkpoint;
use deepj::files::{Outputs, is_standard_stream, path_text, write_output};
use deepj::generate::curve::{Curve, DENSITY, DYNAMICS, Quantity};
use deepj::generate::live::Manner;
use deepj::generate::rights::{Given, Rights};
use deepj::generate::steering::{NOMINAL, Wishes};
use deepj::generate::{MAX_BARS, SILENCE, usual_style_emphasis, usual_temperature};
use deepj::gpu::Device;
use deepj::music::midi::Writing;
use deepj::music::{Key, NoteRange, Score, StylePath};
use deepj::play::composer::{Composer, Length, Request};
use deepj::play::control::{Change, ControllerMap};
use deepj::play::{Played, Queue, Report, hurry, passage_of, schedule};
use deepj::render::Performance;
use deepj::{Error, Result};
use serde::Serialize;

use super::generate::{Prime, seed_of_the_clock, style_of};
use super::{DeviceArguments, MIDI, claim, load_checkpoint, pair, say, say_json, signals::Signals, tell, warn};
use outputs::Output;

/// Play a MIDI file, or compose without end and play it
#[derive(clap::Args)]
#[command(after_help = "\
While it composes, a line on standard input is heard from the next bar on:
  style bach:0.7,chopin:0.3 | density 1.5 | dynamics ff | temperature 0.9 | tempo 90 | key D minor | stop

Examples:
  deepj play piece.mid
  deepj play --style romantic --dynamics mp
  deepj play --style \"bach -> chopin\" --seconds 90 -o played.mid
  deepj play --port synth --control keyboard --map 21=romantic
  deepj play --list-ports")]
pub struct Play {
    /// A MIDI file, or - for standard input [default: compose, until Ctrl-C or `stop`]
    file: Option<PathBuf>,
    /// Play to the MIDI port with this part of a name [default: to the system's audio]
    #[arg(long, value_name = "NAME", group = "to")]
    port: Option<String>,
    /// Play to a MIDI port of this name that others connect to (Linux and macOS)
    #[arg(long, value_name = "NAME", group = "to")]
    virtual_port: Option<String>,
    /// Play to the audio device with this part of a name
    #[arg(long, value_name = "NAME", group = "to")]
    audio_device: Option<String>,
    /// Play to nobody, in time: for -o, or to measure
    #[arg(long, group = "to")]
    silent: bool,
    /// Sound as this SoundFont instead of the piano within the program
    #[arg(long, value_name = "FILE.sf2", conflicts_with_all = ["port", "virtual_port"])]
    soundfont: Option<PathBuf>,
    /// Print audio devices and MIDI ports, and play nothing
    #[arg(long)]
    list_ports: bool,
    /// Stop after so many seconds
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    seconds: Option<f64>,
    /// Write what was played to this MIDI file, also after Ctrl-C
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Fail if anything is odd about the file that is read, instead of warning
    #[arg(long)]
    strict: bool,
    /// Print figures as JSON in the end
    #[arg(long)]
    json: bool,
    #[command(flatten, next_help_heading = "Composing")]
    composing: ComposingArguments,
    #[command(flatten, next_help_heading = "Device")]
    device: DeviceArguments,
}

/// What is composed. A file is played as it is.
#[derive(clap::Args)]
struct ComposingArguments {
    /// A checkpoint, a run's folder, or builtin [default: the newest run's best, else builtin, the weights within the
    /// program]
    #[arg(long, value_name = "F", conflicts_with = "file")]
    checkpoint: Option<PathBuf>,
    /// A composer or genre, a mixture, or with --bars or --seconds a path: see `deepj generate` [default: all styles in
    /// equal parts]
    #[arg(long, value_name = "EXPR", conflicts_with = "file")]
    style: Option<String>,
    /// Stop after so many bars, behind those of --prime
    #[arg(long, value_name = "N", conflicts_with_all = ["file", "seconds"],
        value_parser = clap::value_parser!(u32).range(1..=MAX_BARS as i64))]
    bars: Option<u32>,
    /// Quarter notes a minute [default: 120, or that of --prime]
    #[arg(long, value_name = "BPM", conflicts_with = "file")]
    tempo: Option<f64>,
    /// Prefer the notes of this key, such as "D minor"
    #[arg(long, conflicts_with = "file")]
    key: Option<Key>,
    /// Pitches, such as C3..C6
    #[arg(long, value_name = "LOW..HIGH", conflicts_with = "file")]
    range: Option<NoteRange>,
    /// How loud: a sign such as mf, or a velocity [default: as the style]
    #[arg(long, value_name = "SIGN", conflicts_with = "file")]
    dynamics: Option<String>,
    /// How dense, as a multiple of the style [default: 1]
    #[arg(long, value_name = "X", conflicts_with = "file")]
    density: Option<String>,
    /// 1 samples what was learned, less is safer, more is wilder [default: 0.8, or 1 with --as-learned]
    #[arg(long, value_name = "X", conflicts_with = "file")]
    temperature: Option<f32>,
    /// Let the network alone decide how dense and how loud
    #[arg(long, conflicts_with = "file")]
    as_learned: bool,
    /// How much further the style is moved from the mean of all styles [default: 0.3, or 0 with --as-learned]
    #[arg(long, value_name = "X", conflicts_with = "file", allow_negative_numbers = true)]
    style_emphasis: Option<f32>,
    /// Seed of all random draws [default: from the clock, and printed]
    #[arg(long, value_name = "N", conflicts_with = "file")]
    seed: Option<u32>,
    /// Play this MIDI file first, and go on from there
    #[arg(long, value_name = "FILE.mid", conflicts_with = "file")]
    prime: Option<PathBuf>,
    /// Be controlled by the MIDI port with this part of a name
    #[arg(long, value_name = "NAME", conflicts_with = "file")]
    control: Option<String>,
    /// What a controller changes: density, dynamics, temperature, tempo, stop, a style, or none; may be given several
    /// times [default: 1 density, 7 dynamics, 74 temperature, 75 tempo, from 20 on the genres]
    #[arg(long = "map", value_name = "CC=WHAT", value_parser = pair, conflicts_with = "file")]
    maps: Vec<(String, String)>,
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Figures {
    /// The file that was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u32>,
    interrupted: bool,
    seconds: f64,
    notes: usize,
    /// Milliseconds by which events were late; `null` without events.
    late_median: Option<f64>,
    late_99: Option<f64>,
    late_most: Option<f64>,
    /// Milliseconds by which lateness grew in a minute.
    drift_a_minute: Option<f64>,
    /// How often music waited until it was composed, and seconds in all.
    pauses: usize,
    paused: f64,
}

/// What is played, and what a file says of it.
struct Playing {
    played: Played,
    /// Why composing failed, if it did.
    failure: Option<Error>,
    seed: Option<u32>,
    copyright: Option<String>,
    texts: Vec<String>,
}

impl Play {
    pub fn run(self) -> Result<ExitCode> {
        if self.list_ports {
            outputs::list();
            return Ok(ExitCode::SUCCESS);
        }
        if let Some(seconds) = self.seconds.filter(|seconds| !(*seconds > 0.0 && seconds.is_finite())) {
            return Err(Error::usage(format!("--seconds {seconds}"), "give a number above 0"));
        }
        let piped = self.output.as_deref().is_some_and(is_standard_stream);
        if piped && self.json {
            return Err(Error::usage("a file and JSON, both on standard output", "name a file with -o"));
        }
        let mut claimed = Outputs::default();
        let read = [&self.file, &self.composing.prime, &self.soundfont];
        read.into_iter().flatten().for_each(|file| claimed.reads(file));
        claim(&mut claimed, self.output.as_deref(), MIDI)?;
        let signals = Signals::listen("ending what sounds, and writing what was played");
        let playing = match &self.file {
            Some(file) => self.file(file, &signals)?,
            None => self.compose(&signals)?,
        };
        self.finish(playing, &signals, piped)
    }

    fn output(&self) -> Output {
        match (&self.port, &self.virtual_port) {
            (Some(port), _) => Output::Port(port.clone()),
            (_, Some(port)) => Output::VirtualPort(port.clone()),
            _ if self.silent => Output::Silent,
            _ => Output::Audio { device: self.audio_device.clone(), soundfont: self.soundfont.clone() },
        }
    }

    /// Plays a file.
    fn file(&self, file: &Path, signals: &Signals) -> Result<Playing> {
        let score = Score::read(file, true)?;
        warn(file, &score.warnings, self.strict)?;
        let performance = Performance::new(&score);
        let bpm = score.mean_bpm.clamp(4.0, 1000.0);
        let end = self.seconds.map_or(performance.end(), |seconds| seconds.min(performance.end()));
        let (sender, lines) = mpsc::channel();
        if !is_standard_stream(file) {
            read_lines(sender);
        }
        let played = self.play(&format!("{}, {end:.1} s,", file.display()), |queue| {
            queue.append(passage_of(&performance, bpm));
            queue.end(end);
            queue.start();
            while !queue.is_closed() {
                if signals.is_set() {
                    queue.stop();
                }
                match lines.recv_timeout(Duration::from_millis(20)) {
                    Ok(Change::Stop) => queue.stop(),
                    Ok(_) => tell("note: a file is played as it is; `stop` stops it"),
                    Err(RecvTimeoutError::Timeout) => (),
                    Err(RecvTimeoutError::Disconnected) => std::thread::sleep(Duration::from_millis(20)),
                }
            }
            Ok(())
        })?;
        let (played, failure) = played;
        let texts = vec!["Played by deepj from a given file, whose rights it does not know".into()];
        Ok(Playing { played, failure, seed: None, copyright: None, texts })
    }

    /// Composes and plays.
    fn compose(&self, signals: &Signals) -> Result<Playing> {
        let own = &self.composing;
        let (path, checkpoint) = load_checkpoint(own.checkpoint.as_deref())?;
        let Prime { roll: beginning, tempo, .. } = match &own.prime {
            Some(file) => Prime::read(file, &checkpoint, self.strict)?,
            None => Prime::default(),
        };
        let bpm = own.tempo.or(tempo).unwrap_or(120.0);
        if !(4.0..=1000.0).contains(&bpm) {
            return Err(Error::usage(format!("--tempo {bpm}"), "give a tempo from 4 to 1000 bpm"));
        }
        let length = match (own.bars, self.seconds) {
            (Some(bars), _) => Length::Bars(bars as usize),
            (None, Some(seconds)) => Length::Seconds(seconds),
            (None, None) => Length::Endless,
        };
        let (expression, style) = style_of(own.style.as_deref(), &checkpoint, usize::MAX)?;
        let map = own.controllers(&checkpoint)?;
        let seed = own.seed.unwrap_or_else(seed_of_the_clock);
        let request = Request {
            manner: own.manner(&checkpoint, &style)?,
            style,
            silence: SILENCE,
            seed,
            bpm,
            length,
            beginning,
            faders: map.styles().into_iter().map(str::to_string).collect(),
        };
        request.manner.check(&checkpoint)?;
        let rights = Rights::new(&checkpoint, &path, own.prime.as_deref().map(Given::of_file));
        let (sender, changes) = mpsc::channel();
        let listener = own.control.as_deref().map(|name| listen(name, map, sender.clone())).transpose()?;
        read_lines(sender);
        let device = self.device.open_in_time()?.waited_for(signals.wait_options());
        let mut changed = 0;
        let in_words = own.style.as_ref().map_or("all styles in equal parts".into(), |style| format!("style {style}"));
        let what = format!("composing with {}, {in_words}, seed {seed},", path.display());
        let played = self.play(&what, |queue| {
            let mut said = |change: Result<String>| match change {
                Ok(text) => {
                    changed += 1;
                    tell(text);
                }
                Err(e) => tell(format_args!("error: {e:#}")),
            };
            self.composing((&checkpoint, request, device), queue, (&changes, listener.as_ref()), signals, &mut said)
        })?;
        let (played, failure) = played;
        let changes = if changed > 0 { ", and changed while it sounded" } else { "" };
        let how = format!("deepj play {}{changes}", own.flags((&expression, seed, bpm), length));
        let texts = rights.texts(how, None);
        Ok(Playing { played, failure, seed: Some(seed), copyright: Some(rights.notice), texts })
    }

    /// Fills the queue until nobody plays it.
    fn composing(
        &self,
        (checkpoint, request, device): (&Checkpoint, Request, Device),
        queue: &Queue,
        (changes, listener): (&Receiver<Change>, Option<&outputs::Listener>),
        signals: &Signals,
        said: &mut dyn FnMut(Result<String>),
    ) -> Result<()> {
        let composing = async {
            let mut composer = Composer::new(checkpoint, request, device, self.device.selection()).await?;
            let mut is_told = false;
            let mut look = || {
                let gone = listener.filter(|listener| !is_told && listener.is_gone());
                if let Some(listener) = gone {
                    is_told = true;
                    let name = listener.name();
                    tell(format_args!(
                        "warning: the MIDI port `{name}` is gone: music goes on, and lines are heard still"
                    ));
                }
                signals.is_set()
            };
            composer.run(queue, changes, &mut look, said).await
        };
        pollster::block_on(composing)
    }

    /// Plays what `fill` puts into a queue. Returns what was played, and why `fill` failed, if it did.
    fn play(&self, what: &str, fill: impl FnOnce(&Queue) -> Result<()>) -> Result<(Played, Option<Error>)> {
        let (queue, output) = (Queue::default(), self.output());
        let (opening, opened) = mpsc::channel();
        let play = || match output.open() {
            Err(e) => {
                let _ = opening.send(Err(e));
                None
            }
            Ok((mut sink, name)) => {
                let _ = opening.send(Ok(name));
                hurry();
                Some(schedule(&queue, &mut *sink, &mut || {
                    tell(
                        "warning: music is composed more slowly than it is played, and waits at a bar line: give a slower --tempo, \
                         end other programs, or compute on another --device",
                    );
                }))
            }
        };
        let ended = || Error::run("the thread that plays has ended", "this is a mistake in deepj");
        std::thread::scope(|scope| {
            let player = scope.spawn(play);
            let to = opened.recv().map_err(|_| ended())??;
            tell(format_args!("{what} to {to}; Ctrl-C stops"));
            let failure = fill(&queue).err();
            queue.stop();
            let played = player.join().map_err(|_| ended())?.ok_or_else(ended)?;
            Ok((played, failure))
        })
    }

    /// Writes and prints what was played.
    fn finish(&self, playing: Playing, signals: &Signals, piped: bool) -> Result<ExitCode> {
        let Playing { played: Played { take, report, failure: lost }, failure, seed, copyright, texts } = playing;
        let written = self.output.as_deref().filter(|_| !take.notes().is_empty());
        if let Some(file) = written {
            let writing = Writing { two_hands: true, copyright, texts, ..Writing::new(120.0) };
            write_output(file, &take.to_midi(&writing)?)?;
            if take.is_full() {
                tell(format_args!("note: {}: has the first nine hours, more than that is not read", file.display()));
            }
        }
        let failure = match lost.or(failure) {
            Some(e) if report.notes == 0 => return Err(e),
            failure => failure,
        };
        let ms = |seconds: f64| (seconds * 1e6).round() / 1e3;
        if self.json {
            say_json(&Figures {
                output: written.map(path_text),
                seed,
                interrupted: signals.is_set(),
                seconds: ms(report.seconds) / 1e3,
                notes: report.notes,
                late_median: report.late_by(0.5).map(ms),
                late_99: report.late_by(0.99).map(ms),
                late_most: report.late_by(1.0).map(ms),
                drift_a_minute: report.drift().map(|drift| ms(60.0 * drift)),
                pauses: report.pauses,
                paused: ms(report.paused) / 1e3,
            })?;
        } else if !piped {
            describe(&report);
            match written {
                Some(file) => say(format_args!("written to {}", file.display())),
                None if self.output.is_some() => say("nothing was played, so nothing is written"),
                None => (),
            }
        }
        if let Some(e) = failure {
            let saved = match written {
                Some(file) => format!("what was played is in {}", file.display()),
                None => "with -o FILE, what was played would have been written".into(),
            };
            return Err(e.during(format_args!("after {:.1} s", report.seconds), saved));
        }
        Ok(if signals.is_set() { signals.exit_code() } else { ExitCode::SUCCESS })
    }
}

/// Prints how it went.
fn describe(report: &Report) {
    let late = |share| report.late_by(share).map_or(0.0, |late| 1e3 * late);
    say(format_args!(
        "played {:.1} s, {} notes; late by {:.2} ms at the median, {:.2} ms at most",
        report.seconds,
        report.notes,
        late(0.5),
        late(1.0)
    ));
    if report.pauses > 0 {
        say(format_args!("music waited {} times to be composed, {:.2} s in all", report.pauses, report.paused));
    }
}

impl ComposingArguments {
    /// How it is to be, but for its style.
    fn manner(&self, checkpoint: &Checkpoint, style: &StylePath) -> Result<Manner> {
        let value = |text: &Option<String>, quantity: Quantity| -> Result<Option<Curve>> {
            let Some(text) = text else { return Ok(None) };
            let Some(value) = (quantity.value)(text) else {
                return Err(Error::usage(format!("--{} {text}", quantity.name), format!("give {}", quantity.allowed)));
            };
            Ok(Some(Curve::constant(value)))
        };
        let levels = if self.as_learned { vec![] } else { checkpoint.corpus.levels.clone() };
        if self.density.is_some() && levels.is_empty() {
            tell(format_args!(
                "note: it is not known how dense the style's pieces are: a density of 1 is {NOMINAL} onsets a bar"
            ));
        }
        let temperature = self.temperature.unwrap_or_else(|| usual_temperature(&levels));
        let wishes = Wishes {
            dynamics: value(&self.dynamics, DYNAMICS)?,
            density: value(&self.density, DENSITY)?,
            range: self.range,
            key: self.key,
            style_emphasis: self.style_emphasis.unwrap_or_else(|| usual_style_emphasis(&levels)),
            levels,
        };
        Ok(Manner { style: style.at(0.0), temperature, wishes })
    }

    /// What each controller changes.
    fn controllers(&self, checkpoint: &Checkpoint) -> Result<ControllerMap> {
        let styles = &checkpoint.styles;
        let genres = if checkpoint.model.roll().styles == 0 { vec![] } else { styles.genres() };
        let mut map = ControllerMap::new(&genres);
        let is_style = |text: &str| StylePath::parse(text, styles).is_ok_and(|(path, _)| path.is_constant());
        self.maps.iter().try_for_each(|(number, what)| map.set(number, what, is_style))?;
        Ok(map)
    }

    /// The flags that compose it again, but for the files that they name.
    fn flags(&self, (expression, seed, bpm): (&str, u32, f64), length: Length) -> String {
        let flags = [
            Some(format!("--style \"{expression}\" --seed {seed} --tempo {bpm}")),
            self.key.map(|key| format!("--key \"{key}\"")),
            self.range.map(|range| format!("--range {}", range.names())),
            self.dynamics.as_ref().map(|dynamics| format!("--dynamics {dynamics}")),
            self.density.as_ref().map(|density| format!("--density {density}")),
            self.temperature.map(|temperature| format!("--temperature {temperature}")),
            self.style_emphasis.map(|emphasis| format!("--style-emphasis {emphasis}")),
            self.as_learned.then(|| "--as-learned".into()),
            match length {
                Length::Bars(bars) => Some(format!("--bars {bars}")),
                Length::Seconds(seconds) => Some(format!("--seconds {seconds}")),
                Length::Endless => None,
            },
            self.prime.as_ref().map(|_| "after a given beginning".into()),
        ];
        flags.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

/// Sends what a MIDI port changes.
fn listen(name: &str, map: ControllerMap, changes: Sender<Change>) -> Result<outputs::Listener> {
    let listener = outputs::listen(name, move |message| {
        // Nobody waits for changes once the music has ended.
        map.change(message).into_iter().for_each(|change| drop(changes.send(change)));
    })?;
    Ok(listener)
}

/// Sends what lines on standard input change, from a thread of its own, until they end.
fn read_lines(changes: Sender<Change>) {
    // A program in the background of a terminal is stopped when it reads; ignored, reading is an error there.
    #[cfg(unix)]
    // SAFETY: no handler is set, but one of the two that the system has.
    unsafe {
        libc::signal(libc::SIGTTIN, libc::SIG_IGN);
    }
    let read = move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            match Change::parse(&line) {
                Ok(None) => (),
                Ok(Some(change)) => {
                    if changes.send(change).is_err() {
                        return;
                    }
                }
                Err(e) => tell(format_args!("error: {e:#}")),
            }
        }
    };
    if let Err(e) = std::thread::Builder::new().name("lines".into()).spawn(read) {
        tell(format_args!("note: lines on standard input are not heard: {e}"));
    }
}
