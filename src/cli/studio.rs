//! `deepj studio`.

use std::path::PathBuf;
use std::process::Command;

use deepj::checkpoint::RUNS;
use deepj::studio::{Options, serve};
use deepj::{Error, Result};

use super::{DeviceArguments, say, tell};

/// Compose and listen in a browser on this machine's devices, and watch runs
#[derive(clap::Args)]
#[command(after_help = "\
The page is served to this machine alone, from within the program; nothing is sent anywhere. Ctrl-C ends it.

Examples:
  deepj studio --open
  deepj studio --port 8000 --runs elsewhere/runs")]
pub struct StudioCommand {
    /// Where to serve it; 0 takes a port that is free
    #[arg(long, value_name = "N", default_value_t = 0)]
    port: u16,
    /// The folder of runs
    #[arg(long, value_name = "DIR", default_value = RUNS)]
    runs: PathBuf,
    /// Open the page in the browser
    #[arg(long)]
    open: bool,
    #[command(flatten, next_help_heading = "Device")]
    device: DeviceArguments,
}

impl StudioCommand {
    pub fn run(self) -> Result<()> {
        let selection = self.device.selection();
        let options =
            Options { port: self.port, runs: self.runs, open: Box::new(move || self.device.open()), selection };
        serve(options, |address| {
            say(address);
            if self.open
                && let Err(e) = opened(address)
            {
                tell(format_args!("note: {}; {}", e.what, e.remedy));
            }
        })
    }
}

/// Has the system open an address in the user's browser.
fn opened(address: &str) -> Result<()> {
    let (program, arguments): (&str, &[&str]) = if cfg!(windows) {
        ("rundll32", &["url.dll,FileProtocolHandler"])
    } else if cfg!(target_os = "macos") {
        ("open", &[])
    } else {
        ("xdg-open", &[])
    };
    let failed =
        |e| Error::run(format!("no browser could be started ({program}: {e})"), format!("open {address} in one"));
    Command::new(program).args(arguments).arg(address).spawn().map(drop).map_err(failed)
}
