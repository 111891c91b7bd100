//! `deepj adapters`.

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
        say("cpu: the CPU mirror, always there");
        if adapters.is_empty() {
            say("no GPU driver was found; install Vulkan's, for example with mesa-vulkan-drivers");
        }
        Ok(())
    }
}
