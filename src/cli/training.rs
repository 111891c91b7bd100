//! The flags of a training, which `deepj train` and `deepj benchmark` have alike.

use clap::Args;
use deepj::checkpoint::StopConditions;
use deepj::models::Precision;
use deepj::music::Bptt;
use deepj::nn::optimizer::RateCurve;
use deepj::train::TrainOptions;

use super::pair;

/// How a network is trained; see [`TrainOptions`].
#[derive(Args)]
pub struct TrainingArguments {
    /// The network: deepj, or biaxial, the Biaxial LSTM that it was compared with [default: deepj]
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Sizes of the network: small or paper [default: paper on a GPU, small on the CPU]
    #[arg(long)]
    preset: Option<String>,
    /// Pieces side by side in a batch [default: with the paper's sizes 16, for biaxial 10; with the small ones 4]
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Compute a batch in so many parts, one after the other, which takes less memory [default: 1 on a GPU; on
    /// the CPU 4, or 2 where 4 does not divide the batch]
    #[arg(long, value_name = "N")]
    accumulate: Option<usize>,
    /// Time steps of a window, 16 a bar [default: 128 with the paper's sizes, 64 with the small ones]
    #[arg(long, value_name = "N")]
    seq: Option<usize>,
    /// How windows are taken from pieces: stateful (carrying the state) or windowed (the authors' way) [default: stateful]
    #[arg(long)]
    bptt: Option<Bptt>,
    /// Transpose training pieces by up to so many semitones up or down, as far as their notes stay in the range [default: 0]
    #[arg(long, value_name = "N")]
    transpose: Option<u8>,
    /// Train composers with little music more often: the share of each is that of its length to this power, 0.5 unless given; 1 is as
    /// in the corpus, 0 all composers alike [default: 1]
    #[arg(long, value_name = "X", num_args = 0..=1, default_missing_value = "0.5")]
    balance: Option<f64>,
    /// The optimiser: nadam or adadelta [default: nadam for deepj, adadelta for biaxial]
    #[arg(long, value_name = "NAME")]
    optimizer: Option<String>,
    /// Learning rate [default: 0.002 with nadam, 1 with adadelta]
    #[arg(long, value_name = "X")]
    lr: Option<f64>,
    /// How the learning rate changes: constant, cosine (falls along a cosine) or step (falls at once, again and again) [default:
    /// constant]
    #[arg(long, value_name = "NAME")]
    lr_schedule: Option<RateCurve>,
    /// Updates over which the rate falls (cosine) [default: --steps], or from one fall to the next (step)
    #[arg(long, value_name = "N")]
    lr_steps: Option<u64>,
    /// What a fall leaves of the rate [default: cosine 0.01, step 0.5]
    #[arg(long, value_name = "X")]
    lr_factor: Option<f64>,
    /// Updates over which the rate rises at first [default: 0]
    #[arg(long, value_name = "N")]
    warmup: Option<u64>,
    /// Keep a running mean of the weights of which an update leaves so much, 0.999 unless given, and validate and compose with it; 0
    /// for none [default: 0]
    #[arg(long, value_name = "X", num_args = 0..=1, default_missing_value = "0.999")]
    ema: Option<f64>,
    /// Let a loss count more, or less: play, replay or dynamics [default: each once]
    #[arg(long, value_name = "LOSS=X", value_parser = weight)]
    loss_weight: Vec<(String, f64)>,
    /// Limit the global gradient norm; 0 for no limit [default: 0 with nadam, 5 with adadelta]
    #[arg(long, value_name = "X")]
    clip_norm: Option<f64>,
    /// How values are stored: f32, or mixed (activations and weights as f16, sums and parameters as f32) [default: f32]
    #[arg(long)]
    precision: Option<Precision>,
    /// Halve the memory: compute gates again in the backward pass instead of keeping them
    #[arg(long)]
    recompute: bool,
    /// Seed of initial values, orders and dropout [default: 0]
    #[arg(long, value_name = "N")]
    seed: Option<u32>,
    /// Stop after so many updates
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// Stop after so many times through the training pieces
    #[arg(long, value_name = "N")]
    epochs: Option<f64>,
    /// Stop after so many minutes
    #[arg(long, value_name = "N")]
    minutes: Option<f64>,
    /// Stop after so many validations without a better loss [default: 10 where nothing else ends the training; 20 in benchmarks]
    #[arg(long, value_name = "N")]
    patience: Option<u64>,
    /// Updates between validations [default: an epoch, at most 200]
    #[arg(long, value_name = "N")]
    validate_every: Option<u64>,
    /// Updates between checkpoints [default: as validations]
    #[arg(long, value_name = "N")]
    save_every: Option<u64>,
}

/// `dynamics=10`: a loss, and how much it counts.
fn weight(text: &str) -> Result<(String, f64), String> {
    let (loss, weight) = pair(text)?;
    let number = weight.parse().map_err(|_| format!("`{weight}` is no number"))?;
    Ok((loss, number))
}

impl TrainingArguments {
    /// What was said.
    pub fn options(&self) -> TrainOptions {
        TrainOptions {
            model: self.model.clone(),
            preset: self.preset.clone(),
            bptt: self.bptt,
            batch: self.batch,
            accumulate: self.accumulate,
            seq: self.seq,
            transpose: self.transpose,
            balance: self.balance,
            optimizer: self.optimizer.clone(),
            lr: self.lr,
            lr_schedule: self.lr_schedule,
            lr_steps: self.lr_steps,
            lr_factor: self.lr_factor,
            warmup: self.warmup,
            ema: self.ema,
            loss_weights: self.loss_weight.iter().cloned().collect(),
            clip_norm: self.clip_norm,
            precision: self.precision,
            recompute: self.recompute,
            seed: self.seed,
            budget: StopConditions {
                steps: self.steps,
                epochs: self.epochs,
                minutes: self.minutes,
                patience: self.patience,
            },
            validate_every: self.validate_every,
            save_every: self.save_every,
            ..TrainOptions::default()
        }
    }
}
