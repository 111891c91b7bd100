//! `deepj adapters`.

use deepj::verify::INSTALL;
use deepj::{Result, gpu};

use super::{say, say_json};

/// List what there is to compute on
#[derive(clap::Args)]
pub struct Adapters {
    /// Print names, limits and features as JSON
    #[arg(long)]
    json: bool,
}

impl Adapters {
    pub fn run(self) -> Result<()> {
        let adapters = pollster::block_on(gpu::adapters());
        if self.json {
            return say_json(&adapters);
        }
        for (index, adapter) in adapters.iter().enumerate() {
            say(format_args!("{index}: {adapter}"));
        }
        say("cpu: the CPU backend, always there");
        if adapters.is_empty() {
            say("no GPU driver was found; what to install:");
            INSTALL.iter().for_each(|line| say(format_args!("  {line}")));
        }
        Ok(())
    }
}
