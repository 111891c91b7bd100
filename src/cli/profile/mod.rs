//! `deepj profile`.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand, ValueEnum};
use deepj::files::{Outputs, write_output};
use deepj::graph::session::Tune;
use deepj::models::Precision;
use deepj::profile::{Profile, Settings, What, check, csv, markdown, profile, roofline, table, trace};
use deepj::shape::Slots;
use deepj::{Error, Result};

use super::{TrainingDeviceArguments, bar, claim, is_given, pair, say, tell};

mod ab;
mod compare;

/// Time between two lines about one kernel where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// See where the time goes, kernel by kernel, on any GPU or on the CPU
#[derive(Args)]
#[command(after_help = "\
Examples:
  deepj profile train
  deepj profile train --device nvidia --preset paper --batch 16 --roofline roofline.svg
  deepj profile generate --format trace -o trace.json      (opens in ui.perfetto.dev)
  deepj profile op gemm --shape m=768,n=1024,k=256
  deepj profile train --format jsonl -o before.jsonl       (change something)
  deepj profile train --format jsonl -o after.jsonl
  deepj profile compare before.jsonl after.jsonl
  deepj profile ab --a=\"--variant gemm=tiled\" --b=\"--variant gemm=direct\"")]
pub struct ProfileCommand {
    #[command(subcommand)]
    what: Command,
}

#[derive(Subcommand)]
enum Command {
    /// An update: forward and backward pass, optimiser
    Train(ProfileOptions),
    /// Some time steps of generation in one submission
    Generate(ProfileOptions),
    /// One op in all its variants, or in those overridden by --variant
    Op {
        /// An op or a kernel: gemm, lstm, lstm_fwd, octave_conv, …
        name: String,
        /// Sizes and modes; those of training's plan where it is left out
        #[arg(long, value_name = "FIELD=VALUE,…")]
        shape: Option<String>,
        #[command(flatten)]
        options: ProfileOptions,
    },
    Compare(compare::Compare),
    Ab(ab::Ab),
}

#[derive(Args)]
struct ProfileOptions {
    /// The network: deepj or biaxial [default: deepj]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Sizes of the network: small or paper [default: paper on a GPU, small on the CPU]
    #[arg(long)]
    preset: Option<String>,
    /// Change one field of the network's configuration, for example time_units=64
    #[arg(long, value_name = "FIELD=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
    /// Pieces side by side [default: as in training; of generation 1]
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Time steps of a window [default: as in training], of generation in one submission [default: 16, a bar]
    #[arg(long, value_name = "N")]
    seq: Option<usize>,
    /// How values are stored: f32 or mixed
    #[arg(long, default_value = "f32")]
    precision: Precision,
    /// Compute gates again in the backward pass instead of keeping them
    #[arg(long)]
    recompute: bool,
    /// Profiled runs; as many unprofiled ones are timed in turn
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: u16,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Write there instead of printing
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Also show registers and waves from a table of compiled shaders, such as the project's tests/isa/table.tsv
    #[arg(long, value_name = "TABLE.tsv")]
    isa: Option<PathBuf>,
    /// The chip of that table
    #[arg(long, value_name = "NAME", default_value = "navi21", requires = "isa")]
    isa_chip: String,
    /// Also draw the roofline with each kernel on it
    #[arg(long, value_name = "FILE.svg")]
    roofline: Option<PathBuf>,
    #[command(flatten)]
    device: TrainingDeviceArguments,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// For a terminal
    Table,
    /// All figures, for spreadsheets
    Csv,
    /// All figures, for `profile compare`
    Jsonl,
    /// Chrome's trace events, for ui.perfetto.dev
    Trace,
    /// The main figures, for an issue
    Markdown,
}

impl ProfileCommand {
    pub fn run(self) -> Result<()> {
        match self.what {
            Command::Train(options) => options.run(&What::Train),
            Command::Generate(options) => options.run(&What::Generate),
            Command::Op { name, shape, options } => options.run(&What::Op { name, shape }),
            Command::Compare(compare) => compare.run(),
            Command::Ab(ab) => ab.run(),
        }
    }
}

impl ProfileOptions {
    fn run(self, what: &What) -> Result<()> {
        let mut outputs = Outputs::default();
        claim(&mut outputs, self.output.as_deref(), self.format.endings())?;
        claim(&mut outputs, self.roofline.as_deref(), &["svg"])?;
        let settings = Settings {
            model: self.model,
            preset: self.preset,
            set: self.set,
            batch: self.batch,
            seq: self.seq,
            precision: self.precision,
            recompute: self.recompute,
            runs: self.runs.into(),
        };
        let device = self.device.open()?;
        let selection = self.device.selection();
        check(what, &settings, &device, &selection)?;
        let on_cpu = device.capabilities().is_none();
        let without_registers = match self.format {
            _ if on_cpu => Some("leave it out: the CPU runs no shaders"),
            Format::Trace => Some("leave it out: a trace shows times alone"),
            _ => None,
        };
        if let (Some(remedy), true) = (without_registers, self.isa.is_some()) {
            return Err(Error::usage("--isa has no effect here", remedy));
        }
        if matches!(what, What::Op { .. }) && self.device.tune == Tune::Force && is_given("--tune") {
            let remedy = "leave it out: every variant is timed, and none is chosen by what was measured before";
            return Err(Error::usage("--tune force has no effect here", remedy));
        }
        let compiled = self.isa.as_deref().map(|table| deepj::profile::compiled(table, &self.isa_chip)).transpose()?;
        let mut peaks = self.device.peaks(&device)?;
        if peaks.matrix_gflops.is_none() && selection.overrides.iter().any(|(_, variant)| variant == "cooperative") {
            // Matrix units run where they are asked for, as they are here.
            peaks = pollster::block_on(deepj::peaks::measure(&device))?;
        }
        let device = self.device.in_time(device, Some(&peaks));
        let bar = bar(1000, "{wide_bar} profiling {msg} ETA {eta}");
        let began = Instant::now();
        let mut told = (String::new(), Instant::now());
        let progress = |what: &str, done: f64| {
            bar.set_message(what.to_string());
            bar.set_position((1000.0 * done) as u64);
            // Without a terminal a line for each kernel, and now and then one more.
            if bar.is_hidden() && (told.0 != what || told.1.elapsed() > LINE_EVERY) {
                let left = began.elapsed().as_secs_f64() * (1.0 - done) / done.max(1e-9);
                let left = if done > 0.0 { format!(", about {left:.0} s left") } else { String::new() };
                tell(format_args!("profiling {what}: {:.1} %{left}", 100.0 * done));
                told = (what.to_string(), Instant::now());
            }
        };
        let profiled = pollster::block_on(profile(what, &settings, device, selection, peaks, progress));
        bar.finish_and_clear();
        let mut profiled = profiled?;
        if let (Some(table), Some(compiled)) = (&self.isa, &compiled)
            && profiled.add_compiled(compiled) == 0
        {
            tell(format_args!("note: {} knows none of these kernels", table.display()));
        }
        let parts = Slots::all(profiled.header.batch).parts_on_cpu();
        if on_cpu && matches!(what, What::Train) && parts > 1 {
            tell(format_args!(
                "note: profiled is a batch at once; `train` on the CPU computes it in {parts} parts (--accumulate)"
            ));
        }
        let text = self.format.text(&profiled, self.output.is_none());
        match &self.output {
            Some(file) => {
                write_output(file, text.as_bytes())?;
                tell(format_args!("profile: {}", file.display()));
            }
            None => say(text.trim_end()),
        }
        if let Some(file) = &self.roofline {
            write_output(file, roofline(&profiled).as_bytes())?;
            tell(format_args!("roofline: {}", file.display()));
        }
        Ok(())
    }
}

impl Format {
    /// Of names of files in this format.
    fn endings(self) -> &'static [&'static str] {
        match self {
            Self::Table => &["txt"],
            Self::Csv => &["csv"],
            Self::Jsonl => &["jsonl"],
            Self::Trace => &["json"],
            Self::Markdown => &["md"],
        }
    }

    fn text(self, profile: &Profile, printed: bool) -> String {
        match self {
            Self::Table => {
                let terminal = printed && io::stdout().is_terminal();
                table(
                    profile,
                    terminal.then(terminal_size::terminal_size).flatten().map(|(width, _)| usize::from(width.0)),
                )
            }
            Self::Csv => csv(profile),
            Self::Jsonl => profile.to_jsonl(),
            Self::Trace => trace(profile),
            Self::Markdown => markdown(profile),
        }
    }
}
