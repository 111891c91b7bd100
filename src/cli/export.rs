//! `deepj export`.

use std::path::PathBuf;

use deepj::Result;
use deepj::files::{Outputs, write_output};
use deepj::gpu::Format;

use super::{claim, load_checkpoint, say};

/// Endings of checkpoints.
const SAFETENSORS: &[&str] = &["safetensors"];

/// Write the weights of a checkpoint alone, to share them
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  deepj export --half -o weights.safetensors
  deepj export runs/first -o weights.safetensors")]
pub struct Export {
    /// A checkpoint, a run's folder, or builtin [default: the newest run's best, else builtin, the weights within the program]
    checkpoint: Option<PathBuf>,
    /// The file to write
    #[arg(short, long, value_name = "FILE.safetensors")]
    output: PathBuf,
    /// Write them as f16, in half the bytes: relative errors of up to 0.0005
    #[arg(long)]
    half: bool,
}

impl Export {
    pub fn run(self) -> Result<()> {
        let mut outputs = Outputs::default();
        let (path, checkpoint) = load_checkpoint(self.checkpoint.as_deref())?;
        outputs.reads(&path);
        claim(&mut outputs, Some(&self.output), SAFETENSORS)?;
        let format = if self.half { Format::F16 } else { Format::F32 };
        let bytes = checkpoint.weights_alone().to_bytes_as(format)?;
        write_output(&self.output, &bytes)?;
        say(format_args!("{}: {} bytes, the weights of {}", self.output.display(), bytes.len(), path.display()));
        Ok(())
    }
}
