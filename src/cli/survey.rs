//! `deepj survey`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use deepj::files::{Outputs, path_text, refused, serialize_path};
use deepj::render::{DEFAULT_RATE, Instrument};
use deepj::survey::{self, Key, Made, Options, Plan, Preference, Score, Side};
use deepj::{Error, Result};
use serde::Serialize;

use super::{bar, claim, say, say_json, signals::Signals, tell, warn};

/// Make a blind listening survey of two folders of pieces, or score its answers
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  deepj survey samples/deepj samples/biaxial --out survey
  deepj survey samples/deepj samples/biaxial --pairs 20 --seconds 20 --soundfont piano.sf2
  deepj survey --score answers/*.json
  deepj survey --score answers --key survey.key.json --json")]
pub struct Survey {
    /// Two folders of MIDI files, one of each system; with --score files of answers, or folders of them
    #[arg(value_name = "DIR|FILE", required = true)]
    paths: Vec<PathBuf>,
    /// Make nothing: score the answers in these files
    #[arg(long)]
    score: bool,
    /// The folder to make, with a page and its clips; it must not be there, or be empty
    #[arg(long, value_name = "DIR", default_value = "survey")]
    out: PathBuf,
    /// The file that says which clip is whose, not for listeners [default: <out>.key.json]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Pairs to draw [default: the pieces of the smaller side, at most 15]
    #[arg(long, value_name = "N", conflicts_with = "score")]
    pairs: Option<usize>,
    /// Seconds of each clip, less where a piece of a pair is shorter
    #[arg(long, value_name = "X", default_value_t = 30.0, conflicts_with = "score")]
    seconds: f64,
    /// Seed of all random draws [default: from the clock, and kept in the key]
    #[arg(long, value_name = "N", conflicts_with = "score")]
    seed: Option<u32>,
    /// Play on this SoundFont instead of the piano within the program
    #[arg(long, value_name = "FILE.sf2", conflicts_with = "score")]
    soundfont: Option<PathBuf>,
    /// Frames a second
    #[arg(long, value_name = "HZ", default_value_t = DEFAULT_RATE, conflicts_with = "score")]
    rate: u32,
    /// What stands above the page
    #[arg(long, value_name = "TEXT", conflicts_with = "score")]
    title: Option<String>,
    /// What is asked of each pair
    #[arg(long, value_name = "TEXT", conflicts_with = "score")]
    question: Option<String>,
    /// What listeners are told to do with the file of their answers
    #[arg(long, value_name = "TEXT", conflicts_with = "score")]
    closing: Option<String>,
    /// What the systems are called in the key and in the score, not on the page [default: as their folders]
    #[arg(long, value_name = "A,B", conflicts_with = "score")]
    names: Option<String>,
    /// Fail if anything is odd about a file, instead of warning; with --score if any answers do not count
    #[arg(long)]
    strict: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// What is printed as JSON of a survey that was made.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(serialize_with = "serialize_path")]
    out: &'a Path,
    #[serde(serialize_with = "serialize_path")]
    key: &'a Path,
    survey: &'a str,
    seed: u32,
    names: &'a [String; 2],
    pairs: usize,
    clips: usize,
    /// The shortest and the longest clip.
    seconds: [f64; 2],
    rate: u32,
    /// What all clips were levelled to, in LUFS.
    loudness: f64,
    /// Of the whole folder.
    bytes: u64,
    warnings: Vec<String>,
}

/// What is printed as JSON of a score.
#[derive(Serialize)]
struct ScoreReport<'a> {
    #[serde(flatten)]
    score: &'a Score,
    /// What the paper's survey found.
    paper: Preference,
    /// What is wrong with the files that do not count.
    left_out: Vec<String>,
}

impl Survey {
    pub fn run(self) -> Result<ExitCode> {
        let key = self.key.clone().map_or_else(|| key_of(&self.out), Ok)?;
        if self.score {
            return self.score(&key).map(|()| ExitCode::SUCCESS);
        }
        let [a, b] = &self.paths[..] else {
            let what = format!(
                "{} to be compared",
                match self.paths.len() {
                    1 => "one folder".into(),
                    count => format!("{count} folders"),
                }
            );
            return Err(Error::usage(what, "name two folders of MIDI files, or --score and files of answers"));
        };
        self.make(&key, [a, b])
    }

    fn make(&self, key: &Path, folders: [&Path; 2]) -> Result<ExitCode> {
        if same_file::is_same_file(folders[0], folders[1]).unwrap_or(false) {
            let what = format!("{} is compared with itself", path_text(folders[0]));
            return Err(Error::usage(what, "name two folders, one of each system"));
        }
        survey::check(&self.out, key)?;
        let mut outputs = Outputs::default();
        claim(&mut outputs, Some(key), &["json"])?;
        let instrument = Instrument::new(self.soundfont.as_deref())?;
        let mut sides = [Side::read(folders[0], &instrument)?, Side::read(folders[1], &instrument)?];
        self.name(&mut sides, folders)?;
        for piece in sides.iter().flat_map(|side| &side.pieces) {
            warn(&piece.path, &piece.warnings, self.strict)?;
        }
        let plan = Plan::new(&sides, self.options())?;
        let mut warnings: Vec<String> = sides.iter().flat_map(|side| &side.pieces).flat_map(said_of).collect();
        for (file, what) in plan.shortened() {
            warn(file, std::slice::from_ref(&what), self.strict)?;
            warnings.push(format!("{}: {what}", path_text(file)));
        }
        for side in &sides {
            let left = side.pieces.len() - plan.pairs();
            if left > 0 {
                tell(format_args!("note: {left} of {} pieces of `{}` are in no pair", side.pieces.len(), side.name));
            }
        }
        let signals = Signals::listen("stopping, with nothing made");
        let bar = bar(2 * plan.frames(), "{wide_bar} rendering {percent} % ETA {eta}");
        let made = survey::make(&plan, &instrument, &self.out, key, |done| bar.set_position(done), &signals.stop);
        bar.finish_and_clear();
        match made? {
            Some(made) => self.show(key, &plan, &made, warnings).map(|()| ExitCode::SUCCESS),
            None => Ok(signals.exit_code()),
        }
    }

    /// Calls the sides as the command line does; as their whole paths where folders of one name are compared.
    fn name(&self, sides: &mut [Side; 2], folders: [&Path; 2]) -> Result<()> {
        let names = match &self.names {
            Some(names) => {
                let (a, b) =
                    names.split_once(',').filter(|(a, b)| !a.trim().is_empty() && !b.trim().is_empty()).ok_or_else(
                        || Error::usage(format!("--names {names}"), "give two names, such as --names ours,theirs"),
                    )?;
                [a.trim().to_string(), b.trim().to_string()]
            }
            None if sides[0].name == sides[1].name => folders.map(path_text),
            None => return Ok(()),
        };
        sides.iter_mut().zip(names).for_each(|(side, name)| side.name = name);
        Ok(())
    }

    fn options(&self) -> Options {
        let usual = Options::default();
        Options {
            pairs: self.pairs,
            seconds: self.seconds,
            rate: self.rate,
            seed: self.seed.unwrap_or_else(|| {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                // The clock's finest digits: nobody is to guess them.
                now.map_or(0, |now| now.subsec_nanos() ^ now.as_secs() as u32)
            }),
            title: self.title.clone().unwrap_or(usual.title),
            question: self.question.clone().unwrap_or(usual.question),
            closing: self.closing.clone().unwrap_or(usual.closing),
        }
    }

    fn show(&self, key: &Path, plan: &Plan, made: &Made, warnings: Vec<String>) -> Result<()> {
        let Key { survey, seed, names, loudness, rate, pairs, .. } = &made.key;
        let [shortest, longest] = plan.lengths();
        let (out, clips) = (&*self.out, 2 * pairs.len());
        if self.json {
            return say_json(&Report {
                out,
                key,
                survey,
                seed: *seed,
                names,
                pairs: pairs.len(),
                clips,
                seconds: [shortest, longest],
                rate: *rate,
                loudness: *loudness,
                bytes: made.bytes,
                warnings,
            });
        }
        let length =
            if shortest < longest { format!("{shortest:.1} to {longest:.1} s") } else { format!("{longest:.1} s") };
        say(out.join("index.html").display());
        let (pairs, [a, b]) = (counted(pairs.len() as u64, "pair"), names);
        say(format_args!("  {pairs} of `{a}` and `{b}`, {clips} clips of {length} at {rate} Hz"));
        say(format_args!("  levelled to {loudness:.1} LUFS; {:.1} MB in all; seed {seed}", made.bytes as f64 / 1e6));
        say(format_args!("  The key is {}: keep it, and keep it from listeners.", key.display()));
        Ok(())
    }

    fn score(&self, key: &Path) -> Result<()> {
        let key = Key::read(key)?;
        let mut files = vec![];
        for path in &self.paths {
            if path.is_dir() { files.extend(answers_in(path)?) } else { files.push(path.clone()) }
        }
        let (answers, errors) = survey::read_answers(&key, &files);
        if let Some(first) = errors.first().filter(|_| self.strict || answers.is_empty()) {
            let more = errors.len() - 1;
            let more = if more == 0 { String::new() } else { format!(" (and {more} more files that do not count)") };
            return Err(Error::new(first.kind, format!("{}{more}", first.what), first.remedy.clone()));
        }
        let left_out: Vec<String> = errors.iter().map(|e| e.what.clone()).collect();
        left_out.iter().for_each(|what| tell(format_args!("warning: left out: {what}")));
        let score = survey::score(&key, &answers)?;
        if self.json {
            return say_json(&ScoreReport { score: &score, paper: survey::paper(), left_out });
        }
        print(&score, files.len(), left_out.len());
        Ok(())
    }
}

/// What is odd about a piece, with its name.
fn said_of(piece: &survey::Piece) -> impl Iterator<Item = String> {
    piece.warnings.iter().map(|what| format!("{}: {what}", path_text(&piece.path)))
}

/// Where the key of the survey in the folder `out` is, unless another place is named.
fn key_of(out: &Path) -> Result<PathBuf> {
    let name = out.file_name().ok_or_else(|| {
        Error::usage(format!("--out {}: has no name", path_text(out)), "name a folder that is to be made")
    })?;
    let mut name: OsString = name.into();
    name.push(".key.json");
    Ok(out.with_file_name(name))
}

/// The files of answers in a folder, in the order of their names.
fn answers_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |e| refused(folder, "read", &e);
    let mut files = vec![];
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json")) {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(Error::file(
            folder,
            "holds no answers (.json)",
            "name the folder of the files that listeners saved",
        ));
    }
    files.sort();
    Ok(files)
}

fn print(score: &Score, files: usize, left_out: usize) {
    let Score { names: [a, b], preference, over_listeners, .. } = score;
    let out = if left_out > 0 { format!(" ({left_out} of {files} files left out)") } else { String::new() };
    say(&score.question);
    let (answers, listeners) = (counted(preference.answers, "answer"), counted(score.listeners as u64, "listener"));
    say(format_args!("  {answers} of {listeners}{out}"));
    say(format_args!("  `{a}` over `{b}`: {}", line(preference)));
    if let Some([low, high]) = over_listeners {
        let (low, high) = (100.0 * low, 100.0 * high);
        say(format_args!(
            "  over listeners, whose answers depend on each other: 95 % within {low:.1} to {high:.1} % (bootstrap)"
        ));
    }
    say(format_args!("  shown first over shown second: {}", line(&score.shown_first)));
    say(format_args!("  beside it, DeepJ over Biaxial in the paper: {}", line(&survey::paper())));
    if !score.familiarity.is_empty() {
        say(format_args!("\n`{a}` over `{b}`, by familiarity with classical music:"));
        for (name, preference) in &score.familiarity {
            say(format_args!("  {name}: {}", line(preference)));
        }
    }
    say(format_args!("\n`{a}` over `{b}`, by pair:"));
    for pair in &score.pairs {
        let [ours, theirs] = &pair.files;
        let share = pair.preference.map_or("no answers".into(), |one| format!("{} of {}", one.chosen, one.answers));
        say(format_args!("  {share}: {ours} over {theirs}"));
    }
}

/// `1 answer` or `2 answers`.
fn counted(count: u64, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

/// `210 of 300, 70.0 % (95 %: 64.6 to 74.9 %), p = 3.3e-12`
fn line(preference: &Preference) -> String {
    let Preference { chosen, answers, share, interval: [low, high], p } = preference;
    let p = if *p < 0.001 { format!("{p:.1e}") } else { format!("{p:.3}") };
    let [share, low, high] = [share, low, high].map(|x| 100.0 * x);
    format!("{chosen} of {answers}, {share:.1} % (95 %: {low:.1} to {high:.1} %), p = {p}")
}
