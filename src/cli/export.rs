//! `deepj export`.

use std::path::PathBuf;

use deepj::files::{Outputs, write_output};
use deepj::gpu::Format;
use deepj::music::Part;
use deepj::music::levels::levels;
use deepj::train::corpus_of;
use deepj::{Error, Result};

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
    /// Store anew how dense and how loud each style is, from the training pieces among those of this folder
    #[arg(long, value_name = "DIR")]
    levels_of: Option<PathBuf>,
    /// Write them as f16, in half the bytes: relative errors of up to 0.0005
    #[arg(long)]
    half: bool,
}

impl Export {
    pub fn run(self) -> Result<()> {
        let mut outputs = Outputs::default();
        let (path, mut checkpoint) = load_checkpoint(self.checkpoint.as_deref())?;
        outputs.reads(&path);
        claim(&mut outputs, Some(&self.output), SAFETENSORS)?;
        if let Some(dir) = &self.levels_of {
            let corpus = corpus_of(&checkpoint, Some(dir), false)?;
            if corpus.styles != checkpoint.styles {
                let what = format!("{}: its styles are not those of {}", dir.display(), path.display());
                return Err(Error::usage(what, "name the folder of the training"));
            }
            let pieces = corpus.part(&checkpoint.split, Part::Train)?;
            checkpoint.corpus.levels = levels(&pieces, checkpoint.styles.len());
        }
        let format = if self.half { Format::F16 } else { Format::F32 };
        let bytes = checkpoint.weights_alone().to_bytes_as(format)?;
        write_output(&self.output, &bytes)?;
        say(format_args!("{}: {} bytes, the weights of {}", self.output.display(), bytes.len(), path.display()));
        Ok(())
    }
}
