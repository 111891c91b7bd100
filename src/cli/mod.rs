//! The command line: one file per verb that has much to say.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Parser, Subcommand};
use deepj::gpu::{self, Device, DeviceChoice};
use deepj::graph::session::Variants;
use deepj::{Error, Result};
use serde::Serialize;

mod train;

const FIRST_STEPS: &str = "\
First steps:
  deepj train                                       learn from the corpus within the program
  deepj generate --style baroque -o piece.mid       compose with what was learned";

/// DeepJ: trains a network on MIDI files and composes piano music in a chosen mixture of styles.
#[derive(Parser)]
#[command(version, before_help = FIRST_STEPS, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Train(train::Train),
}

/// Where to compute; shared by all verbs that do.
#[derive(clap::Args)]
pub struct DeviceArguments {
    /// auto, cpu, an adapter's index or a part of its name (see `deepj adapters`)
    #[arg(long, env = "DEEPJ_DEVICE", default_value = "auto", value_name = "D")]
    device: DeviceChoice,
    /// Pin the kernel variant of an op; may be given several times
    #[arg(long = "variant", value_name = "OP=NAME", value_parser = pair)]
    variants: Vec<(String, String)>,
}

impl DeviceArguments {
    /// Opens the device and says which it is, with the reason where it is the CPU though nobody asked for that.
    fn open(&self) -> Result<Device> {
        let device = pollster::block_on(gpu::open(&self.device, gpu::Options::default()))?;
        if let (Device::Cpu { why }, DeviceChoice::Auto) = (&device, &self.device) {
            eprintln!("{why}: computing on the CPU");
        }
        Ok(device)
    }

    fn variants(&self) -> Variants {
        Variants(self.variants.clone())
    }
}

/// Splits `key=value`.
fn pair(text: &str) -> std::result::Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not of the form KEY=VALUE"))?;
    Ok((key.trim().into(), value.trim().into()))
}

/// Writes a line to standard output. A reader that has gone away, as in `deepj … | head`, ends the program quietly.
fn say(line: impl std::fmt::Display) {
    if let Err(e) = writeln!(io::stdout(), "{line}") {
        let quiet = e.kind() == io::ErrorKind::BrokenPipe;
        if !quiet {
            eprintln!("error: standard output: {e}");
        }
        std::process::exit(i32::from(!quiet));
    }
}

/// Writes a value as one line of JSON.
fn say_json(value: &impl Serialize) -> Result<()> {
    say(serde_json::to_string(value)
        .map_err(|e| Error::run(format!("the result cannot be written as JSON: {e}"), ""))?);
    Ok(())
}

/// A flag that Ctrl-C sets; a second Ctrl-C ends the program at once.
fn stop_flag() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = stop.clone();
    let set = ctrlc::set_handler(move || {
        if seen.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("\nstopping after this step; Ctrl-C again ends at once");
    });
    if let Err(e) = set {
        eprintln!("note: Ctrl-C will not save: {e}");
    }
    stop
}

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.verb {
        Verb::Train(verb) => verb.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::from(e.exit_code())
        }
    }
}
