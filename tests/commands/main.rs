//! The commands, from the library and from the command line, on models so small that they train in moments.

mod benchmark;
mod builtin;
mod checkpoint;
mod classify;
mod cli;
mod compare;
mod compare_runs;
#[cfg(target_os = "linux")]
mod crashes;
mod devices;
mod experiment;
mod failing_devices;
#[cfg(target_os = "linux")]
mod faults;
mod generate;
#[cfg(target_os = "linux")]
mod kills;
mod layers;
mod models;
#[cfg(target_os = "linux")]
mod network;
mod odd_files;
mod outputs;
mod peaks;
mod play;
mod precision;
mod profile;
mod quality;
mod render;
mod repeats;
mod resumes;
#[cfg(unix)]
mod runs;
#[cfg(unix)]
mod signals;
mod soundfont;
mod states;
mod styles;
mod survey;
#[cfg(target_os = "linux")]
mod system_calls;
mod train;
mod tuning;
mod vary;
mod verify;
mod wishes;

use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;

use deepj::checkpoint::StopConditions;
use deepj::gpu::Device;
use deepj::graph::session::KernelSelection;
use deepj::music::{NoteRange, Roll, roll::RollNote};
use deepj::train::{Observer, Outcome, TrainOptions, prepare, train};

/// Fields of the configuration that make a network of 3,000 parameters.
const TINY: [(&str, &str); 4] = [("time_units", "8"), ("note_units", "8"), ("filters", "4"), ("style_width", "4")];

/// Whether `DEEPJ_LONG` asks for tests as long as docs/TRUST.md tells of.
fn is_long() -> bool {
    std::env::var_os("DEEPJ_LONG").is_some_and(|value| !value.is_empty())
}

/// How often a test does something that it could do for ever.
fn repeats(few: usize, many: usize) -> usize {
    if is_long() { many } else { few }
}

/// The next number of a SplitMix64 generator, which is the same on every machine.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// A folder that goes away with the test.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Writes a corpus of two genres with one composer each and `files` pieces of about `bars` bars: broken chords from
/// pitch `low` up.
fn corpus(dir: &Path, files: usize, bars: usize, low: u8) {
    for (genre, composer, step) in [("plain", "smith", 4), ("fancy", "jones", 3)] {
        let folder = dir.join(genre).join(composer);
        std::fs::create_dir_all(&folder).unwrap();
        for i in 0..files {
            let notes = (0..bars * 4 + i).map(|k| RollNote {
                pitch: low + (k * step + i) as u8 % 24,
                velocity: 40 + (k % 60) as u8,
                start: k * 4,
                end: k * 4 + 4,
                replay: false,
            });
            let roll = Roll::from_notes(NoteRange::default(), notes).unwrap();
            roll.write_midi(folder.join(format!("{i}.mid")), 100.0).unwrap();
        }
    }
}

/// A tiny run on the corpus in `dir/corpus`, which is made if it is not there, kept in `dir/run`.
fn tiny(dir: &Path, steps: u64) -> TrainOptions {
    let data = dir.join("corpus");
    if !data.exists() {
        corpus(&data, 4, 4, 48);
    }
    TrainOptions {
        data: Some(data),
        out: Some(dir.join("run")),
        set: TINY.map(|(name, value)| (name.into(), value.into())).into(),
        batch: Some(2),
        seq: Some(16),
        validate_every: Some(2),
        budget: StopConditions { steps: Some(steps), ..StopConditions::default() },
        ..TrainOptions::default()
    }
}

fn cpu() -> Device {
    Device::Cpu { why: String::new() }
}

/// Runs on the CPU.
fn run(options: &TrainOptions, observer: &mut dyn Observer, stop: &AtomicBool) -> deepj::Result<Outcome> {
    pollster::block_on(train(prepare(options, &cpu())?, cpu(), KernelSelection::default(), observer, stop))
}

/// Runs on the CPU to the end.
fn run_quietly(options: &TrainOptions) -> deepj::Result<Outcome> {
    run(options, &mut (), &AtomicBool::new(false))
}

/// The program in the folder `dir`, on the CPU. What it remembers of the machine stays with the tests, for all of them.
fn program(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_deepj"));
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    command.current_dir(dir).env("DEEPJ_DEVICE", "cpu").env("XDG_CACHE_HOME", cache).args(arguments);
    command
}

/// `program` started by `starter`, a command that runs the one behind its own arguments.
#[cfg(unix)]
fn started_by(mut starter: Command, program: &Command) -> Command {
    starter.arg(program.get_program()).args(program.get_args());
    starter.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(folder) = program.get_current_dir() {
        starter.current_dir(folder);
    }
    starter
}

fn deepj(dir: &Path, arguments: &[&str]) -> Output {
    program(dir, arguments).output().unwrap()
}

/// Runs the program, which must succeed, and returns what it printed.
fn succeeds(dir: &Path, arguments: &[&str]) -> String {
    let output = deepj(dir, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "deepj {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs the program, which must fail with this exit code and an error that contains all of `texts`.
fn fails(dir: &Path, arguments: &[&str], code: i32, texts: &[&str]) {
    let output = deepj(dir, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "deepj {arguments:?}: {errors}");
    assert!(errors.contains("error: ") && !errors.contains("panicked"), "deepj {arguments:?}: {errors}");
    for text in texts {
        assert!(errors.contains(text), "deepj {arguments:?}: no '{text}' in: {errors}");
    }
}

/// The arguments of a tiny run on the corpus in `corpus`, with more.
fn tiny_arguments<'a>(more: &[&'a str]) -> Vec<&'a str> {
    const ARGUMENTS: [&str; 19] = [
        "train",
        "--data",
        "corpus",
        "--out",
        "run",
        "--batch",
        "2",
        "--seq",
        "16",
        "--samples",
        "0",
        "--set",
        "time_units=8",
        "--set",
        "note_units=8",
        "--set",
        "filters=4",
        "--set",
        "style_width=4",
    ];
    ARGUMENTS.iter().copied().chain(more.iter().copied()).collect()
}
