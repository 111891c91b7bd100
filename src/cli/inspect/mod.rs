//! `deepj inspect`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use deepj::checkpoint::{Checkpoint, CorpusInfo, Progress, Settings, norms};
use deepj::music::Styles;
use deepj::{Error, Result};
use serde::Serialize;

use super::{DeviceArguments, ModelReport, load_checkpoint, nats, say, say_json, updates};

mod layers;

/// Show what is in a checkpoint, or what its layers make of a piece
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  deepj inspect
  deepj inspect runs/first/last.safetensors --json
  deepj inspect --hidden time.1 --at 16 --piece piece.mid --style baroque -o time-1.npy
  deepj inspect builtin --hidden all --piece piece.mid -o layers.safetensors")]
pub struct Inspect {
    /// A checkpoint, a run's folder, or builtin [default: the newest run's best, else builtin, the weights within the program]
    checkpoint: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    layers: layers::Arguments,
    #[command(flatten)]
    device: DeviceArguments,
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Report<'a> {
    checkpoint: String,
    #[serde(flatten)]
    model: ModelReport,
    styles: &'a Styles,
    corpus: &'a CorpusInfo,
    settings: &'a Settings,
    progress: &'a Progress,
    resumable: bool,
    tensors: BTreeMap<String, TensorReport>,
}

#[derive(Serialize)]
struct TensorReport {
    shape: Vec<usize>,
    norm: f64,
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::run(format!("metadata: {e}"), ""))
}

impl Inspect {
    pub fn run(self) -> Result<ExitCode> {
        let (path, checkpoint) = load_checkpoint(self.checkpoint.as_deref())?;
        if self.layers.hidden.is_empty() && !self.device.variants.is_empty() {
            return Err(Error::usage(
                "--variant, and nothing is computed",
                "leave it out, or name a layer by --hidden",
            ));
        }
        if !self.layers.hidden.is_empty() {
            return self.layers.run(&path, &checkpoint, &self.device, self.json);
        }
        self.show(&path, &checkpoint).map(|()| ExitCode::SUCCESS)
    }

    fn show(&self, path: &Path, checkpoint: &Checkpoint) -> Result<()> {
        let norms = norms(checkpoint);
        let tensors: BTreeMap<String, TensorReport> =
            norms.into_iter().map(|(name, (shape, norm))| (name, TensorReport { shape, norm })).collect();
        let parameters: usize = tensors.values().map(|t| t.shape.iter().product::<usize>()).sum();
        let Checkpoint { model, styles, corpus, settings, progress, split, resume, .. } = checkpoint;
        let resumable = resume.is_some();
        let config = model.config();
        if self.json {
            let checkpoint = path.display().to_string();
            return say_json(&Report {
                checkpoint,
                model: ModelReport::of(model.as_ref())?,
                styles,
                corpus,
                settings,
                progress,
                resumable,
                tensors,
            });
        }
        say(format_args!("{}{}", path.display(), if resumable { " (can be resumed)" } else { "" }));
        say(format_args!("model     {}", model.architecture()));
        say(format_args!("config    {config}"));
        say(format_args!("settings  {}", json(settings)?));
        let names: Vec<String> = (0..styles.len()).map(|i| styles.label(i)).collect();
        say(format_args!("styles    {}", names.join(", ")));
        say(format_args!(
            "corpus    {} (fingerprint {:08x}; {} training, {} validation, {} test pieces)",
            corpus.data.as_deref().unwrap_or("within the program"),
            corpus.fingerprint,
            split.train.len(),
            split.validation.len(),
            split.test.len()
        ));
        say(format_args!(
            "trained   {}, {:.2} epochs, {:.0} s on {}",
            updates(progress.step),
            progress.epochs,
            progress.seconds,
            progress.device
        ));
        if let Some(best) = progress.best {
            say(format_args!(
                "best      loss {:.4}{}, after update {}",
                best.loss,
                nats(model.losses(), best.nats_per_step, true),
                best.step
            ));
        }
        say(format_args!("{:32} {:>14} {:>12}", "parameter", "shape", "norm"));
        for (name, t) in &tensors {
            let shape: Vec<String> = t.shape.iter().map(usize::to_string).collect();
            say(format_args!("{name:32} {:>14} {:>12.4}", shape.join(" x "), t.norm));
        }
        say(format_args!("{parameters} parameters"));
        if let Some(licence) = &corpus.licence {
            say(format_args!("\n{}", licence.trim_end()));
        }
        Ok(())
    }
}
