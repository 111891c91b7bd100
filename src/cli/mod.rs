//! The command line: one file per command.

use std::ffi::OsStr;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use deepj::checkpoint::{BUILTIN, Checkpoint, RUNS, is_builtin, newest_if_any};
use deepj::files::Outputs;
use deepj::gpu::{self, Device, DeviceChoice};
use deepj::graph::session::{Event, KernelSelection, Observer, Tune};
use deepj::models::{Loss, Model};
use deepj::music::Reading;
use deepj::peaks::RooflineLimits;
use deepj::train::{BEST, LAST};
use deepj::{Error, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::value::RawValue;

mod adapters;
mod benchmark;
mod classify;
mod compare_runs;
mod corpus;
mod evaluate;
mod experiment;
mod export;
mod generate;
mod inspect;
mod peaks;
mod play;
mod profile;
mod ranks;
mod render;
mod roll;
mod scale;
mod signals;
#[cfg(feature = "studio")]
mod studio;
mod styles;
mod survey;
mod train;
mod training;
mod vary;
mod verify;

/// clap's own, but for headings and blank lines: all commands are to be seen at once in a terminal of 24 lines.
const HELP: &str = "\
{about}
{usage-heading} {usage} (-h, --help; -V, --version). Commands:
{subcommands}
First steps: deepj generate --style baroque -o piece.mid   compose; deepj train   learn from pieces";

/// DeepJ learns from MIDI files and composes piano music in a chosen mixture of styles.
#[derive(Parser)]
#[command(version, help_template = HELP, max_term_width = 110, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Train(train::Train),
    Generate(generate::Generate),
    Vary(vary::Vary),
    Evaluate(evaluate::Evaluate),
    Experiment(experiment::ExperimentCommand),
    CompareRuns(compare_runs::CompareRuns),
    Roll(roll::Roll),
    Render(render::Render),
    Play(play::Play),
    Survey(survey::Survey),
    Corpus(corpus::CorpusCommand),
    Inspect(inspect::Inspect),
    Export(export::Export),
    Styles(styles::StylesCommand),
    Classify(classify::Classify),
    Adapters(adapters::Adapters),
    Peaks(peaks::PeaksCommand),
    Profile(profile::ProfileCommand),
    Verify(verify::VerifyCommand),
    Benchmark(benchmark::BenchmarkCommand),
    #[cfg(feature = "studio")]
    Studio(studio::StudioCommand),
    Scale(scale::Scale),
}

/// Where to compute.
#[derive(clap::Args)]
struct DeviceArgument {
    /// auto, cpu, an adapter's index or a part of its name (see `deepj adapters`)
    #[arg(long, env = "DEEPJ_DEVICE", default_value = "auto", value_name = "D")]
    device: DeviceChoice,
}

impl DeviceArgument {
    /// Opens the device; says why it is the CPU where nobody asked for that.
    fn open(&self) -> Result<Device> {
        self.open_for(0)
    }

    /// The same for the process of this number among several on the machine.
    fn open_for(&self, process: usize) -> Result<Device> {
        say_ignored_variables();
        if let Some(folder) = gpu::shaders_folder() {
            tell(format_args!("note: {}={}: shaders are read from there", gpu::SHADERS, folder.display()));
        }
        let open =
            async { gpu::open_for(&self.device.of_process(process)?, process, gpu::OpenOptions::default()).await };
        let device = pollster::block_on(open).map_err(|mut e| {
            if let Some(variable) = variable_of("--device") {
                e.what = format!("{variable}: {}", e.what);
            }
            e
        })?;
        if let (Device::Cpu { why }, DeviceChoice::Auto) = (&device, &self.device) {
            tell(format_args!("{why}: computing on the CPU"));
        }
        Ok(device)
    }
}

/// Says of variables that wgpu's other programs heed, or that it would misread, that they do nothing here.
fn say_ignored_variables() {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    if let Some(name) = set("WGPU_ADAPTER_NAME") {
        tell(format_args!("note: WGPU_ADAPTER_NAME={name} has no effect; use --device or DEEPJ_DEVICE"));
    }
    let known = ["vulkan", "vk", "dx12", "d3d12", "metal", "mtl", "opengl", "gles", "gl", "webgpu"];
    let backends = set("WGPU_BACKEND").unwrap_or_default().to_lowercase();
    for unknown in backends.split(',').map(str::trim).filter(|name| !name.is_empty() && !known.contains(name)) {
        tell(format_args!("note: WGPU_BACKEND: there is no `{unknown}`; there are vulkan, dx12, metal and gl"));
    }
}

/// Where and how to compute; shared by all commands that do.
#[derive(clap::Args)]
struct DeviceArguments {
    #[command(flatten)]
    device: DeviceArgument,
    /// Measure the GPU's kernels: on (those not measured before), off, or force (all again)
    #[arg(long, env = "DEEPJ_TUNE", default_value = "on", value_name = "off|on|force")]
    tune: Tune,
    /// Override which variant of a GPU kernel runs, such as lstm_fwd=step_32; may be given several times (see `train --explain`)
    #[arg(long = "variant", value_name = "KERNEL=NAME", value_parser = pair)]
    variants: Vec<(String, String)>,
}

/// Where and how to train.
#[derive(clap::Args)]
struct TrainingDeviceArguments {
    #[command(flatten)]
    device: DeviceArguments,
    /// Train two LSTM layers step by step beside each other, in half as many dispatches [default: on on a GPU, off in software]
    #[arg(long, value_name = "on|off")]
    pairs: Option<Switch>,
}

impl TrainingDeviceArguments {
    fn selection(&self) -> KernelSelection {
        KernelSelection { pairs: self.pairs.map(|pairs| pairs == Switch::On), ..self.device.selection() }
    }
}

/// All but how kernels are chosen is as for any command.
impl Deref for TrainingDeviceArguments {
    type Target = DeviceArguments;

    fn deref(&self) -> &DeviceArguments {
        &self.device
    }
}

/// Whether something is done.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Switch {
    On,
    Off,
}

impl DeviceArguments {
    /// Opens the device, which must be a GPU if a variant is overridden or kernels are to be measured again.
    fn open(&self) -> Result<Device> {
        self.open_for(0)
    }

    /// The same for the process of this number among several on the machine.
    fn open_for(&self, process: usize) -> Result<Device> {
        let device = self.device.open_for(process)?;
        self.selection().check_device(device.capabilities())?;
        // A variable is for whatever device there is.
        if self.tune == Tune::Force && device.capabilities().is_none() && is_given("--tune") {
            return Err(Error::usage(
                "--tune force is for a GPU, but the CPU computes",
                "leave it out, or choose a GPU with --device (`deepj adapters` lists them)",
            ));
        }
        Ok(device)
    }

    fn selection(&self) -> KernelSelection {
        KernelSelection {
            overrides: self.variants.clone(),
            overrides_elsewhere: false,
            pairs: None,
            tune: self.tune,
            remembered: KernelSelection::file(),
            observer: Some(tuning_observer()),
            check: Some(Arc::new(|able, kernel, variant| {
                pollster::block_on(deepj::verify::kernels::check_variant(able, kernel, variant))
            })),
        }
    }

    /// Opens the device, whose dispatches will end before a watchdog ends them: by its roofline limits as remembered, else measured now.
    fn open_in_time(&self) -> Result<Device> {
        let device = self.open()?;
        let watched = device.capabilities().is_some_and(|capabilities| capabilities.budget.is_some());
        let peaks = if watched && self.tune != Tune::Off { self.known_peaks(&device) } else { None };
        Ok(self.in_time(device, peaks.as_ref()))
    }

    /// The device, whose dispatches will end before a watchdog ends them if it has these roofline limits. With tuning off they are
    /// those of a slow GPU, so that nothing measured decides in which order sums are made.
    fn in_time(&self, device: Device, peaks: Option<&RooflineLimits>) -> Device {
        match peaks {
            Some(peaks) if self.tune != Tune::Off => device.within(peaks.budget()),
            _ => device,
        }
    }

    /// As [`Self::peaks`], but for a note where these cannot be measured.
    fn known_peaks(&self, device: &Device) -> Option<RooflineLimits> {
        self.peaks(device)
            .map_err(|e| tell(format_args!("note: the device's roofline limits are not known: {}", e.what)))
            .ok()
    }

    /// What the device can do at most, where that is remembered.
    fn remembered_peaks(&self, device: &Device) -> Option<RooflineLimits> {
        deepj::peaks::recall(&peaks_file(self.tune)?, &device.machine()).ok()?
    }

    /// What the device can do at most: as remembered, else measured now.
    fn peaks(&self, device: &Device) -> Result<RooflineLimits> {
        let file = peaks_file(self.tune);
        let known = deepj::peaks::of(device, file.as_deref(), |text| tell(format_args!("note: {text}")));
        pollster::block_on(known)
    }
}

/// Where roofline limits are remembered; without tuning nowhere, since no file is touched then.
fn peaks_file(tune: Tune) -> Option<PathBuf> {
    deepj::peaks::file().filter(|_| tune != Tune::Off)
}

/// Keeps Wayland's library, which looks for a display when adapters are listed, from calling its absence an error on a
/// machine or in a container that has none.
#[cfg(target_os = "linux")]
fn quiet_wayland() {
    const FOLDER: &str = "XDG_RUNTIME_DIR";
    if std::env::var_os(FOLDER).is_none() {
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var(FOLDER, std::env::temp_dir()) };
    }
}

/// Keeps the panics quiet that the library catches and makes errors of: that by which wgpu says that a device is lost, and those
/// of `rustysynth` in a damaged SoundFont.
fn leave_to_errors() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload().downcast_ref::<String>();
        let lost = text.is_some_and(|text| text.starts_with("Error in Device::poll"));
        let soundfont = panic.location().is_some_and(|place| place.file().contains("rustysynth"));
        if !lost && !soundfont {
            usual(panic);
        }
    }));
}

/// The variables that stand for flags.
const VARIABLES: [(&str, &str); 2] = [("--device", "DEEPJ_DEVICE"), ("--tune", "DEEPJ_TUNE")];

/// The command line, on which an empty variable gives no value to its flag, as scripts mean it.
fn command_line() -> clap::Command {
    fn without_empty_variables(command: clap::Command) -> clap::Command {
        let is_empty = |variable: &OsStr| std::env::var_os(variable).is_some_and(|value| value.is_empty());
        let command = command.mut_args(|arg| match arg.get_env() {
            Some(variable) if is_empty(variable) => arg.env(Resettable::Reset),
            _ => arg,
        });
        command.mut_subcommands(without_empty_variables)
    }
    let mut command = without_empty_variables(Arguments::command());
    command.build();
    // `deepj help train` works, but `--help` is to fit on a screen.
    command.mut_subcommand("help", |help| help.hide(true))
}

/// Whether a flag stands on the command line: what has its value from a variable or by default was not asked for here.
fn is_given(flag: &str) -> bool {
    let names =
        |argument: &str| argument.strip_prefix(flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('='));
    std::env::args_os().any(|argument| argument.to_str().is_some_and(names))
}

/// The variable from which a flag has its value, with it, where the flag itself was not given.
fn variable_of(flag: &str) -> Option<String> {
    let (_, variable) = VARIABLES.iter().find(|(known, _)| *known == flag && !is_given(flag))?;
    let value = std::env::var_os(variable)?;
    Some(format!("{variable}={}", value.display()))
}

/// The arguments, or the end of the program with what is wrong with them; of a variable's value with its name.
fn arguments() -> Arguments {
    let matches = command_line().try_get_matches();
    matches.and_then(|matches| Arguments::from_arg_matches(&matches)).unwrap_or_else(|e| {
        if let Some(ContextValue::String(argument)) = e.get(ContextKind::InvalidArg)
            && let Some(variable) = argument.split(' ').next().and_then(variable_of)
        {
            tell(format_args!("note: {variable} is set in the environment"));
        }
        ranks::leave_to_first(e.exit_code());
        e.exit()
    })
}

/// Runs the program.
pub fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    quiet_wayland();
    leave_to_errors();
    let whole = |()| ExitCode::SUCCESS;
    let done = match arguments().command {
        Command::Benchmark(_) | Command::Classify(_) | Command::Evaluate(_) | Command::Vary(_) if ranks::several() => {
            Err(ranks::not_divided())
        }
        Command::Train(command) => command.run(),
        Command::Generate(command) => command.run(),
        Command::Vary(command) => command.run(),
        Command::Evaluate(command) => command.run(),
        Command::Experiment(command) => command.run(),
        Command::CompareRuns(command) => command.run().map(whole),
        Command::Roll(command) => command.run().map(whole),
        Command::Render(command) => command.run().map(whole),
        Command::Play(command) => command.run(),
        Command::Survey(command) => command.run(),
        Command::Corpus(command) => command.run().map(whole),
        Command::Inspect(command) => command.run(),
        Command::Export(command) => command.run().map(whole),
        Command::Styles(command) => command.run().map(whole),
        Command::Classify(command) => command.run(),
        Command::Adapters(command) => command.run().map(whole),
        Command::Peaks(command) => command.run().map(whole),
        Command::Profile(command) => command.run().map(whole),
        Command::Verify(command) => command.run(),
        Command::Benchmark(command) => command.run(),
        #[cfg(feature = "studio")]
        Command::Studio(command) => command.run().map(whole),
        Command::Scale(command) => command.run(),
    };
    match done {
        Ok(code) => code,
        Err(e) => {
            tell(format_args!("error: {}{e:#}", ranks::behind_the_first()));
            ExitCode::from(e.exit_code())
        }
    }
}

/// Splits `key=value`.
fn pair(text: &str) -> std::result::Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("`{text}` has no `=`"))?;
    Ok((key.trim().into(), value.trim().into()))
}

/// Writes what is odd about `file` to standard error, a line each; an error where that is to be `strict`.
fn warn(file: &Path, warnings: &[String], strict: bool) -> Result<()> {
    match warnings {
        [first, rest @ ..] if strict => {
            let more = if rest.is_empty() { String::new() } else { format!(" (and {} more)", rest.len()) };
            Err(Error::file(
                file,
                format!("{first}{more}"),
                "repair the file, or leave out --strict to go on with a warning",
            ))
        }
        _ => {
            warnings.iter().for_each(|warning| tell(format_args!("warning: {}: {warning}", file.display())));
            Ok(())
        }
    }
}

/// Reads a MIDI file as the model of a checkpoint hears it, and says what is odd about it or was left out.
fn read_piece(file: &Path, checkpoint: &Checkpoint, strict: bool) -> Result<(Reading, Vec<String>)> {
    let range = checkpoint.corpus.range;
    let reading =
        Reading::read(file, range, checkpoint.corpus.pedal).map_err(|e| match e.remedy.contains("--notes") {
            // The range is the model's, which no flag changes here.
            true => Error { remedy: format!("transpose the piece: the model reads the pitches {range}"), ..e },
            false => e,
        })?;
    let mut warnings = reading.warnings.clone();
    warnings.extend(reading.left_out());
    warn(file, &warnings, strict)?;
    Ok((reading, warnings))
}

/// A line whose control characters, such as names of files may have, are escaped as in JSON: a terminal would obey them.
fn printable(line: impl Display) -> String {
    let mut text = String::new();
    for c in line.to_string().chars() {
        match c {
            '\n' | '\t' => text.push(c),
            c if c.is_control() => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
    text + "\n"
}

/// Writes a line to standard output. A reader that has gone away, as in `deepj … | head`, ends the program quietly.
fn say(line: impl Display) {
    if ranks::is_silent() {
        return;
    }
    if let Err(e) = io::stdout().write_all(printable(line).as_bytes()) {
        let quiet = e.kind() == io::ErrorKind::BrokenPipe;
        if !quiet {
            tell(format_args!("error: standard output: {e}"));
        }
        std::process::exit(i32::from(!quiet));
    }
}

/// Writes a line to standard error. What nobody can read is not worth any work: a closed or full standard error is passed
/// over. The line is written at once, so that it stays one among those of other processes.
fn tell(line: impl Display) {
    if ranks::is_silent() {
        return;
    }
    let _ = io::stderr().write_all(printable(line).as_bytes());
}

/// Endings of MIDI files.
const MIDI: &[&str] = &["mid", "midi"];

/// Takes note of a file to be written, if one was named, and says which folder was made for it.
fn claim(outputs: &mut Outputs, path: Option<&Path>, endings: &[&str]) -> Result<()> {
    if let Some(folder) = path.map_or(Ok(None), |path| outputs.claim(path, endings))? {
        tell(format_args!("note: made the folder {}", folder.display()));
    }
    Ok(())
}

/// `1 update` or `2 updates`.
fn updates(count: u64) -> String {
    format!("{count} update{}", if count == 1 { "" } else { "s" })
}

/// What made a result that may become a file of the project.
#[derive(Serialize)]
struct Provenance {
    /// The command that was given.
    command: String,
    /// The day on which it ended (UTC).
    date: String,
    /// Where it was computed; empty where no device was used.
    #[serde(skip_serializing_if = "String::is_empty")]
    device: String,
}

impl Provenance {
    /// That of this process.
    fn of(device: impl Into<String>) -> Self {
        let quoted = |text: String| if text.contains([' ', '"', '\'']) { format!("{text:?}") } else { text };
        let given = std::env::args_os().skip(1).map(|argument| quoted(argument.to_string_lossy().into()));
        let words = std::iter::once("deepj".into()).chain(given);
        Self { command: words.collect::<Vec<_>>().join(" "), date: deepj::calendar::today(), device: device.into() }
    }
}

/// What a model is, as commands print it in JSON.
#[derive(Serialize)]
struct ModelReport {
    model: &'static str,
    config: Box<RawValue>,
    parameters: usize,
}

impl ModelReport {
    fn of(model: &dyn Model) -> Result<Self> {
        let config = RawValue::from_string(model.config());
        let config = config.map_err(|e| Error::run(format!("metadata: {e}"), ""))?;
        Ok(Self { model: model.architecture(), config, parameters: model.layout().elements() })
    }
}

/// Writes a value as one line of JSON.
fn say_json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string(value);
    say(text.map_err(|e| Error::run(format!("the result cannot be written as JSON: {e}"), ""))?);
    Ok(())
}

/// `, 5.123 nats a step`, or `, play 5.123 nats a step`: the likelihood by which models are compared, where one of the losses is
/// one.
fn nats(losses: &[Loss], value: f64, named: bool) -> String {
    let likelihood = losses.iter().find(|loss| loss.is_likelihood());
    likelihood.map_or(String::new(), |loss| match named {
        true => format!(", {} {value:.3} nats a step", loss.label),
        false => format!(", {value:.3} nats a step"),
    })
}

/// # Errors
/// `--copies-bound` with a number of bars that is none.
fn check_copies_bound(bars: f64) -> Result<()> {
    match bars.is_finite() && bars >= 0.0 {
        true => Ok(()),
        false => Err(Error::usage(format!("--copies-bound {bars}"), "give a number of bars, 0 or more")),
    }
}

/// A bar on standard error, hidden where that is not a terminal.
fn bar(len: u64, template: &str) -> ProgressBar {
    if !io::stderr().is_terminal() || ranks::is_silent() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(len);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// Shows how tuning goes, on standard error: a bar on a terminal, lines elsewhere.
fn tuning_observer() -> Observer {
    let bar = bar(0, "{wide_bar} tuning kernel {pos}/{len}: {msg}");
    Arc::new(move |event| match event {
        Event::Started { plan, kernels } => {
            bar.reset();
            bar.set_length(*kernels as u64);
            if bar.is_hidden() {
                tell(format_args!("tuning {kernels} kernels of `{plan}`"));
            }
        }
        Event::Measuring { done, label } => {
            bar.set_message(label.to_string());
            bar.set_position(*done as u64);
        }
        Event::Notice(text) if bar.is_hidden() => tell(format_args!("note: {text}")),
        Event::Notice(text) => bar.println(format!("note: {text}")),
        Event::Finished(tuned) => {
            bar.finish_and_clear();
            tell(tuned);
        }
    })
}

/// The named checkpoint, in a run's folder its best one, or the last where nothing was validated yet.
fn checkpoint_file(named: &Path) -> PathBuf {
    if !named.is_dir() || is_builtin(named) {
        return named.to_path_buf();
    }
    let [best, last] = [BEST, LAST].map(|file| named.join(file));
    if best.exists() || !last.exists() {
        return best;
    }
    tell(format_args!("note: {} has no {BEST}, since nothing was validated yet: {LAST} is taken", named.display()));
    last
}

/// The pieces that the weights within the program have learned from are not within the program.
fn no_corpus(flag: &str) -> Error {
    let what = "the pieces that the weights within the program have learned from are not within it";
    Error::usage(what, format!("name a folder of pieces with {flag}, or a checkpoint of your own with --checkpoint"))
}

/// The named checkpoint, in a run's folder its best one; else that of the newest run, or the one within the program where there is no
/// run.
fn load_checkpoint(named: Option<&Path>) -> Result<(PathBuf, Checkpoint)> {
    let path = match named.map(checkpoint_file) {
        Some(named) => Some(named),
        None => newest_if_any(Path::new(RUNS), BEST)?,
    };
    let path = match path {
        Some(path) => path,
        None => {
            tell(format_args!(
                "note: no run in {RUNS}/ has a {BEST}: the weights within the program are taken (`deepj inspect {BUILTIN}`)"
            ));
            BUILTIN.into()
        }
    };
    if named.is_some() && is_builtin(&path) && path.exists() {
        tell(format_args!("note: {BUILTIN} names the weights within the program, ./{BUILTIN} what is in this folder"));
    }
    let checkpoint = Checkpoint::named(&path)?;
    Ok((path, checkpoint))
}
