//! DeepJ in Burn, to time beside this project's own: ends with one JSON line. See README.md in the folder above.

mod model;

use std::path::PathBuf;
use std::time::Instant;

use burn::module::Module;
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{Device, Tensor};
use clap::{Parser, ValueEnum};
use safetensors::SafeTensors;
use serde_json::json;

use model::{BEATS, Batch, CHANNELS, DeepJ, FILTERS, LAYERS, NOTE_UNITS, NOTES, TAPS, one_hot, tensor, values};

/// The version of Burn that Cargo.toml asks for.
const BURN: &str = "0.22.1";

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Mode {
    /// A training step: forward, backward, update.
    Train,
    /// Losses without dropout.
    Eval,
    /// Composing.
    Gen,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Backend {
    #[cfg(feature = "flex")]
    Flex,
    #[cfg(feature = "wgpu")]
    Wgpu,
}

/// DeepJ in Burn, to time beside ours
#[derive(Parser)]
struct Args {
    #[arg(long, default_value = "train")]
    mode: Mode,
    #[arg(long, default_value = "flex")]
    backend: Backend,
    /// Sequences of a batch, or pieces composed together
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Time steps
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,
    /// Timed runs
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Untimed runs before
    #[arg(long, default_value_t = 1)]
    warmup: u32,
    /// Weights: a checkpoint of `deepj train`, of the paper's sizes
    #[arg(long)]
    checkpoint: Option<PathBuf>,
    /// Evaluate this piece: a safetensors file of `cells [T, N, 3]` and `style [S]`
    #[arg(long)]
    roll: Option<PathBuf>,
    /// One JSON line instead of lines of text
    #[arg(long)]
    json: bool,
}

/// The first steps of pieces that are all alike in density: 8 % of cells play, 30 % of those are struck again.
fn synthetic(batch: usize, steps: usize, styles: usize, device: &Device) -> Batch {
    let cell = |i: usize| {
        // Multiplicative hashing spreads the indices evenly (Knuth, volume 3, section 6.4).
        let [play, replay, dynamics] = [2_654_435_761u32, 2_246_822_519, 3_266_489_917]
            .map(|k| (i as u32).wrapping_mul(k) as f32 / u32::MAX as f32);
        let play = f32::from(play < 0.08);
        [play, play * f32::from(replay < 0.3), play * dynamics]
    };
    let cells = (0..batch * (steps + 1) * NOTES).flat_map(cell).collect();
    let all: Tensor<4> = tensor(cells, [batch, steps + 1, NOTES, CHANNELS], device);
    let beat = (0..batch * steps).flat_map(|i| one_hot(i % steps % BEATS, BEATS)).collect();
    let style = (0..batch).flat_map(|i| one_hot(i % styles, styles)).collect();
    Batch {
        seen: all.clone().slice_dim(1, 0..steps),
        target: all.slice_dim(1, 1..steps + 1),
        beat: tensor(beat, [batch, steps, BEATS], device),
        style: tensor(style, [batch, styles], device),
    }
}

/// A whole piece, predicted from silence.
fn piece(file: &SafeTensors, device: &Device) -> Result<Batch, String> {
    let (cells, shape) = values(file, "cells")?;
    let [steps, NOTES, CHANNELS] = shape[..] else { return Err(format!("cells {shape:?}: wanted [T, 48, 3]")) };
    let (style, _) = values(file, "style")?;
    let target: Tensor<4> = tensor(cells, [1, steps, NOTES, CHANNELS], device);
    let silence = Tensor::zeros([1, 1, NOTES, CHANNELS], device);
    // The silence before the piece is the last step of a bar.
    let beat = (0..steps).flat_map(|t| one_hot((t + BEATS - 1) % BEATS, BEATS)).collect();
    let styles = style.len();
    Ok(Batch {
        seen: Tensor::cat(vec![silence, target.clone().slice_dim(1, 0..steps - 1)], 1),
        target,
        beat: tensor(beat, [1, steps, BEATS], device),
        style: tensor(style, [1, styles], device),
    })
}

/// FLOPs of a note's step: forward, and those that a training step adds, which makes no gradient of the input notes.
fn flops() -> [usize; 2] {
    let octave = 2 * TAPS * CHANNELS * FILTERS;
    let layers: usize = LAYERS.iter().map(|[inputs, units]| 2 * (inputs + units) * 4 * units).sum();
    let forward = octave + layers + 2 * NOTE_UNITS * CHANNELS;
    [forward, 2 * forward - octave]
}

fn scalar(x: &Tensor<1>) -> f32 {
    x.clone().into_scalar()
}

fn read(path: &PathBuf) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn parse(bytes: &[u8]) -> Result<SafeTensors<'_>, String> {
    SafeTensors::deserialize(bytes).map_err(|e| e.to_string())
}

fn run(args: &Args) -> Result<serde_json::Value, String> {
    let device = match args.backend {
        #[cfg(feature = "flex")]
        Backend::Flex => Device::flex(),
        #[cfg(feature = "wgpu")]
        Backend::Wgpu => Device::wgpu(burn::tensor::DeviceKind::DefaultDevice),
    };
    // Dropout and the record of operations are on where the device differentiates.
    let device = if args.mode == Mode::Train { device.autodiff() } else { device };
    device.seed(0);
    let checkpoint = args.checkpoint.as_ref().map(read).transpose()?;
    let checkpoint = checkpoint.as_deref().map(parse).transpose()?;
    let styles = match &checkpoint {
        Some(file) => values(file, "style.embedding.weight")?.1[0],
        None => 23,
    };
    let mut model = DeepJ::new(styles, &device);
    if let Some(file) = &checkpoint {
        model = model.load(file, &device)?;
    }
    let params = model.num_params();
    let (batch, steps) = (args.batch as usize, args.steps as usize);
    let data = match &args.roll {
        Some(path) => piece(&parse(&read(path)?)?, &device)?,
        None => synthetic(batch, steps, styles, &device),
    };
    let mut optimizer = AdamConfig::new().init();
    let (mut losses, mut seconds) = (vec![], vec![]);
    for _ in 0..=args.warmup + args.runs {
        let start = Instant::now();
        match args.mode {
            Mode::Train => {
                let parts = model.losses(&data);
                let [play, replay, dynamics] = parts.clone();
                let gradients = GradientsParams::from_grads((play + replay + dynamics).backward(), &model);
                model = optimizer.step(2e-3, model, gradients);
                losses.push(parts.each_ref().map(scalar));
            }
            Mode::Eval => losses.push(model.losses(&data).each_ref().map(scalar)),
            Mode::Gen => {
                model.generate(data.style.clone(), steps).into_data();
            }
        }
        device.sync().map_err(|e| format!("{e:?}"))?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    let first = seconds[0];
    seconds.drain(..=args.warmup as usize);
    seconds.sort_by(f64::total_cmp);
    let (median, min, max) = (seconds[seconds.len() / 2], seconds[0], seconds[seconds.len() - 1]);
    let mut result = json!({
        "framework": "Burn", "version": BURN, "mode": format!("{:?}", args.mode).to_lowercase(),
        "device": format!("{:?}", args.backend).to_lowercase(), "batch": batch, "steps": steps, "params": params,
        "optim": "adam", "first_step_s": first, "runs": args.runs, "median_s": median, "min_s": min, "max_s": max,
    });
    if args.mode == Mode::Gen {
        result["steps_per_s"] = json!(steps as f64 / median);
    } else {
        let [forward, backward] = flops();
        let each = forward + if args.mode == Mode::Train { backward } else { 0 };
        let gflop = (each * NOTES * batch * steps) as f64 / 1e9;
        result["gflop"] = json!(gflop);
        result["gflops"] = json!(gflop / median);
        result["losses"] = json!([losses[0], losses[losses.len() - 1]]);
    }
    result["peak_rss_mib"] = json!(proc("/proc/self/status", "VmHWM:").map(|kib| kib / 1024.0));
    result["load1"] = json!(proc("/proc/loadavg", ""));
    Ok(result)
}

/// The number after `key` in a file that the system makes up, where there is one (Linux).
fn proc(path: &str, key: &str) -> Option<f64> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

fn main() {
    let args = Args::parse();
    match run(&args) {
        Ok(result) if args.json => println!("{result}"),
        Ok(result) => println!("{result:#}"),
        Err(error) => {
            eprintln!("error: {error}");
            std::process::exit(1);
        }
    }
}
