//! `deepj inspect --hidden`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use deepj::checkpoint::Checkpoint;
use deepj::evaluate::{Inspection, LayerValues, layer_names, layer_values};
use deepj::files::{Outputs, is_standard_stream, npy, safetensors, write_output};
use deepj::music::StylePath;
use deepj::{Error, Result};
use serde::Serialize;

use super::super::signals::Signals;
use super::super::{DeviceArguments, bar, claim, read_piece, say, say_json, tell};

/// The name that stands for all layers.
const ALL: &str = "all";

#[derive(clap::Args)]
pub struct Arguments {
    /// Show what a layer makes of --piece, such as time.1; may be given several times; all for all layers. A wrong name is answered with
    /// the list
    #[arg(long, value_name = "LAYER", requires = "piece", help_heading = "What its layers make of a piece")]
    pub hidden: Vec<String>,
    /// The piece that is read, note by note as in evaluation
    #[arg(long, value_name = "FILE.mid", requires = "hidden", help_heading = "What its layers make of a piece")]
    piece: Option<PathBuf>,
    /// Only the time step T that is predicted, from 0 [default: all]
    #[arg(long, value_name = "T", requires = "hidden", help_heading = "What its layers make of a piece")]
    at: Option<usize>,
    /// The style of the piece: a composer, a genre or a mixture [default: all styles in equal parts]
    #[arg(long, value_name = "EXPR", requires = "hidden", help_heading = "What its layers make of a piece")]
    style: Option<String>,
    /// Write the values: one layer as .npy, any as .safetensors
    #[arg(short, long, value_name = "FILE", requires = "hidden", help_heading = "What its layers make of a piece")]
    output: Option<PathBuf>,
}

/// What is printed of a layer.
#[derive(Serialize)]
struct Summary<'a> {
    layer: &'a str,
    shape: &'a [usize],
    least: f32,
    mean: f64,
    largest: f32,
}

impl<'a> Summary<'a> {
    fn of(layer: &'a LayerValues) -> Self {
        let values = &layer.values;
        Self {
            layer: &layer.name,
            shape: &layer.shape,
            least: values.iter().copied().fold(f32::INFINITY, f32::min),
            mean: values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len() as f64,
            largest: values.iter().copied().fold(f32::NEG_INFINITY, f32::max),
        }
    }
}

impl Arguments {
    pub fn run(&self, path: &Path, checkpoint: &Checkpoint, device: &DeviceArguments, json: bool) -> Result<ExitCode> {
        let Some(file) = &self.piece else {
            return Err(Error::usage("--hidden without a piece", "name it by --piece"));
        };
        let piped = self.output.as_deref().is_some_and(is_standard_stream);
        if piped && json {
            return Err(Error::usage("a file and JSON, both on standard output", "name a file"));
        }
        let layers = match &self.hidden[..] {
            [all] if all == ALL => layer_names(checkpoint.model.as_ref())?,
            names if names.iter().any(|name| name == ALL) => {
                return Err(Error::usage(
                    format!("--hidden {ALL} and other layers"),
                    format!("leave out {ALL}, or them"),
                ));
            }
            names => names.to_vec(),
        };
        if let Some(i) = (0..layers.len()).find(|&i| layers[..i].contains(&layers[i])) {
            return Err(Error::usage(format!("--hidden {} is given twice", layers[i]), "name each layer once"));
        }
        let as_npy = self
            .output
            .as_deref()
            .is_some_and(|output| output.extension().is_some_and(|of| of.eq_ignore_ascii_case("npy")));
        if as_npy && layers.len() > 1 {
            let what = format!("{} layers in one .npy file", layers.len());
            return Err(Error::usage(what, "name one layer, or a file that ends in .safetensors"));
        }
        let mut outputs = Outputs::default();
        outputs.reads(path);
        outputs.reads(file);
        claim(&mut outputs, self.output.as_deref(), &["safetensors", "npy"])?;
        let style = self.style(checkpoint)?;
        let (reading, _) = read_piece(file, checkpoint, false)?;
        let inspection = Inspection { roll: reading.roll, style, layers, at: self.at };
        inspection.check(checkpoint.model.as_ref())?;
        let opened = device.open_in_time()?;
        let signals = Signals::listen("stopping");
        let opened = opened.waited_for(signals.wait_options());
        let bar = bar(inspection.roll.steps() as u64, "{wide_bar} time step {pos}/{len} ETA {eta}");
        let done = |steps: usize| bar.set_position(steps as u64);
        let made = layer_values(checkpoint, &inspection, opened, device.selection(), &signals.stop, done);
        let made = pollster::block_on(made);
        bar.finish_and_clear();
        let Some(values) = made? else {
            tell("interrupted: nothing was written");
            return Ok(signals.exit_code());
        };
        if let Some(output) = &self.output {
            let bytes = match &values[..] {
                [one] if as_npy => npy(&one.shape, &one.values),
                all => safetensors(all.iter().map(|one| (&one.name[..], &one.shape[..], &one.values[..])))?,
            };
            write_output(output, &bytes)?;
        }
        let summaries: Vec<Summary> = values.iter().map(Summary::of).collect();
        if json {
            say_json(&summaries)?;
        } else if !piped {
            say(format_args!("{:16} {:>16} {:>10} {:>10} {:>10}", "layer", "shape", "least", "mean", "largest"));
            for Summary { layer, shape, least, mean, largest } in summaries {
                let shape: Vec<String> = shape.iter().map(usize::to_string).collect();
                say(format_args!("{layer:16} {:>16} {least:10.4} {mean:10.4} {largest:10.4}", shape.join(" x ")));
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// A point in the simplex of styles; empty where the model knows none.
    fn style(&self, checkpoint: &Checkpoint) -> Result<Vec<f32>> {
        let styles = checkpoint.model.roll().styles;
        let Some(expression) = &self.style else { return Ok(vec![1.0 / styles as f32; styles]) };
        if styles == 0 {
            return Err(Error::usage("--style, and the model knows no styles", "leave it out"));
        }
        let (path, notices) = StylePath::parse(expression, &checkpoint.styles)?;
        if !path.is_constant() {
            let what = format!("--style \"{expression}\" moves from one style to another");
            return Err(Error::usage(what, "name one style or mixture"));
        }
        notices.into_iter().for_each(|notice| tell(format_args!("note: {notice}")));
        Ok(path.at(0.0))
    }
}
