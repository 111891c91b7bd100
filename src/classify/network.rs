//! The classifier's network: a dense layer on the notes of a time step, an LSTM layer over time, and on each time step a
//! distribution over genres and one over composers.

use std::sync::Arc;

use super::{Batch, Classes, Settings, Verdict, Window};
use crate::Result;
use crate::gpu::{Device, Format};
use crate::graph::session::{KernelSelection, Session};
use crate::graph::{Graph, Kind, Layout, Plan, ProgramId};
use crate::music::{NoteRange, Roll};
use crate::nn::dense::Dense;
use crate::nn::dropout::dropped;
use crate::nn::init::initialise;
use crate::nn::lstm::{LstmLayer, Rows, State};
use crate::nn::optimizer::{self, Optimizer, Schedule};
use crate::ops::cast::Cast;
use crate::ops::dropout::DropoutSite;
use crate::ops::gemm::Activation;
use crate::ops::reduce::SumRows;
use crate::ops::softmax_loss::SoftmaxLoss;
use crate::ops::{Uniforms, View};
use crate::shape::{Channels, Slots};

/// The layers.
struct Layers {
    input: Dense,
    lstm: LstmLayer,
    genre: Dense,
    composer: Dense,
}

/// What a training update reads and gives.
struct Training {
    roll: View,
    weight: View,
    /// `[T, B]`: a genre as a number from 0 to 1, and a composer so.
    targets: [View; 2],
    /// `[2]`.
    losses: View,
}

/// What hearing reads and gives: of each row of `[T, B]` logits of genres and composers, and the LSTM's units.
pub(super) struct Outputs {
    roll: View,
    rows: [View; 3],
}

/// Layers, plans and parameters on a device.
pub(super) struct Network {
    session: Session,
    training: (ProgramId, Training),
    hearing: (ProgramId, Outputs),
    optimizer: Arc<dyn Optimizer>,
    schedule: Schedule,
    settings: Settings,
    range: NoteRange,
    /// Genres and composers.
    classes: [usize; 2],
    /// The number of each composer's genre.
    genre_of: Vec<usize>,
    updates: u32,
}

/// Share of the composers' loss in the gradient: what they tell of the genre, and no more.
const COMPOSERS: f32 = 0.5;

impl Layers {
    fn new(layout: &mut Layout, inputs: usize, units: usize, [genres, composers]: [usize; 2]) -> Self {
        Self {
            input: Dense::new(layout, "input", inputs, units),
            lstm: LstmLayer::plain(layout, "lstm", units, units),
            genre: Dense::new(layout, "genre", units, genres),
            composer: Dense::new(layout, "composer", units, composers),
        }
    }

    /// Appends the layers on `roll [T, B, N * 2]`; returns the LSTM's units and the logits of both distributions, a row each for
    /// each of `[T, B]`.
    fn forward(&self, graph: &mut Graph, roll: View, (batch, steps): (usize, usize), dropout: f32) -> [View; 3] {
        let (rows, units) = (batch * steps, self.lstm.units);
        let drop = |site| DropoutSite { site, rate: dropout, inner: units };
        let x = graph.scope("input", |graph| self.input.forward(graph, roll, rows, Activation::Tanh));
        let x = dropped(graph, x, drop(0));
        let of_time = Rows::of_slots(batch, steps);
        let h = graph.scope("lstm", |graph| self.lstm.forward(graph, x, of_time, (self.lstm.bias, 1), State::Zero)).h;
        let x = dropped(graph, h, drop(1));
        let mut logits =
            |name: &str, dense: &Dense| graph.scope(name, |graph| dense.forward(graph, x, rows, Activation::Identity));
        [h, logits("genre", &self.genre), logits("composer", &self.composer)]
    }
}

impl Network {
    pub(super) async fn new(
        classes: &Classes,
        range: NoteRange,
        settings: &Settings,
        device: Device,
        selection: KernelSelection,
    ) -> Result<Self> {
        let Settings { batch, steps, units, dropout, learning_rate, seed, .. } = *settings;
        let counts = [classes.genres.len(), classes.styles.len()];
        let inputs = range.len() * Channels::NOTES.len();
        let mut layout = Layout::new();
        let layers = Layers::new(&mut layout, inputs, units, counts);
        let layout = Arc::new(layout);
        let rows = batch * steps;

        let mut graph = Graph::new(layout.clone());
        let mut input = |name: &str, len: usize| graph.tensor(name, len, Kind::Input);
        let (roll, weight) = (input("roll", rows * inputs), input("weight", rows));
        let targets = [input("genres", rows), input("composers", rows)];
        let seed_of = input("loss_weights", 2);
        let [_, genre, composer] = layers.forward(&mut graph, roll, (batch, steps), dropout);
        let losses = graph.tensor("losses", 2, Kind::Output);
        for (i, (z, target)) in [genre, composer].into_iter().zip(targets).enumerate() {
            let op = SoftmaxLoss { rows, notes: 1, bins: counts[i], channels: 1, channel: 0, masked: false };
            let parts = op.parts();
            let of_parts = graph.temp("losses_of_parts", parts);
            graph.apply(op, &[z, target, weight, of_parts]);
            graph.apply(SumRows::all(parts, 1), &[of_parts, losses.slice(i, 1)]);
        }
        graph.backward(losses, seed_of)?;
        let settings_of = serde_json::json!({ "lr": learning_rate, "clip_norm": 1.0 });
        let optimizer = optimizer::make(optimizer::DEFAULT, settings_of)?;
        optimizer::append(optimizer.as_ref(), None, &mut graph);
        let training = Plan::compile(format!("train the classifier B={batch} T={steps}"), graph);

        let mut graph = Graph::new(layout.clone());
        let heard = graph.tensor("roll", rows * inputs, Kind::Input);
        let made = layers.forward(&mut graph, heard, (batch, steps), 0.0);
        let outputs = made.map(|made| {
            let out = graph.tensor("rows", made.len, Kind::Output);
            graph.apply(Cast { len: made.len, from: Format::F32, to: Format::F32 }, &[made, out]);
            out
        });
        let hearing = Plan::compile(format!("hear B={batch} T={steps}"), graph);

        let mut session = Session::new(device, selection);
        let programs = session.add_all(vec![training, hearing]).await?;
        let (first, second) = (programs[0], programs[1]);
        let params = session.plan(first).buffer(Kind::Params);
        session.write(first, params, &initialise(&layout, seed))?;
        session.write(first, seed_of, &[1.0, COMPOSERS])?;
        Ok(Self {
            session,
            training: (first, Training { roll, weight, targets, losses }),
            hearing: (second, Outputs { roll: heard, rows: outputs }),
            optimizer,
            schedule: Schedule::default(),
            settings: settings.clone(),
            range,
            classes: counts,
            genre_of: (0..counts[1]).map(|style| classes.genre_of(style)).collect(),
            updates: 0,
        })
    }

    /// One update; returns the genre's cross-entropy in nats, a mean over time steps.
    pub(super) async fn update(&mut self, batch: &Batch) -> Result<f64> {
        let (program, io) = &self.training;
        let (program, steps) = (*program, self.settings.steps);
        self.session.write(program, io.roll, &batch.roll)?;
        self.session.write(program, io.weight, &batch.weight)?;
        let of_class = |class: usize, count: usize| class as f32 / (count - 1).max(1) as f32;
        let genres = batch.styles.iter().map(|&style| of_class(self.genre_of[style], self.classes[0])).collect();
        let composers = batch.styles.iter().map(|&style| of_class(style, self.classes[1])).collect();
        let each: [Vec<f32>; 2] = [genres, composers];
        for (view, values) in io.targets.into_iter().zip(each) {
            self.session.write(program, view, &values.repeat(steps))?;
        }
        let batch = self.settings.batch;
        let mut uniforms = Uniforms {
            seed: self.settings.seed,
            update: self.updates,
            unscale: 1.0,
            slots: Slots::all(batch),
            ..Uniforms::default()
        };
        self.optimizer.advance(&mut self.schedule, &mut uniforms);
        self.session.run(program, 1, &uniforms)?;
        self.updates += 1;
        let losses = self.session.read(program, &[io.losses]).await?.swap_remove(0);
        Ok(f64::from(losses[0]))
    }

    /// See [`super::Classifier::hear`].
    pub(super) async fn hear<'a>(&mut self, rolls: impl IntoIterator<Item = &'a Roll>) -> Result<Vec<Verdict>> {
        let (batch, steps, units) = (self.settings.batch, self.settings.steps, self.settings.units);
        let [genres, composers] = self.classes;
        let rolls: Vec<&Roll> = rolls.into_iter().collect();
        let whole = |(i, roll): (usize, &&'a Roll)| {
            let roll = *roll;
            let window = move |start| (i, Window { roll: Some(roll), start, interval: 0, style: 0 });
            (0..roll.steps()).step_by(steps).map(window).collect::<Vec<_>>()
        };
        let windows: Vec<(usize, Window)> = rolls.iter().enumerate().flat_map(whole).collect();
        let mut sums: Vec<(Verdict, usize)> = rolls
            .iter()
            .map(|_| {
                let (genres, composers, features) = (vec![0.0; genres], vec![0.0; composers], vec![0.0; units]);
                (Verdict { genres, composers, features }, 0)
            })
            .collect();
        let (program, io) = (self.hearing.0, &self.hearing.1);
        for side_by_side in windows.chunks(batch) {
            let empty = Window { roll: None, start: 0, interval: 0, style: 0 };
            let mut of_batch: Vec<Window> = side_by_side.iter().map(|(_, window)| *window).collect();
            of_batch.resize(batch, empty);
            let read = Batch::new(steps, self.range, &of_batch);
            self.session.write(program, io.roll, &read.roll)?;
            self.session.run(program, 1, &Uniforms::default())?;
            let made = self.session.read(program, &io.rows).await?;
            for (b, (roll, _)) in side_by_side.iter().enumerate() {
                let (sum, count) = &mut sums[*roll];
                for row in (0..steps).map(|t| t * batch + b).filter(|&row| read.weight[row] > 0.0) {
                    let of = |which: usize, width: usize| &made[which][row * width..][..width];
                    sum.features.iter_mut().zip(of(0, units)).for_each(|(sum, &x)| *sum += f64::from(x));
                    add_log_probabilities(&mut sum.genres, of(1, genres));
                    add_log_probabilities(&mut sum.composers, of(2, composers));
                    *count += 1;
                }
            }
        }
        let finished = |(mut verdict, count): (Verdict, usize)| {
            let count = count.max(1) as f64;
            verdict.features.iter_mut().for_each(|sum| *sum /= count);
            for sums in [&mut verdict.genres, &mut verdict.composers] {
                sums.iter_mut().for_each(|sum| *sum /= count);
                let largest = sums.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                sums.iter_mut().for_each(|sum| *sum = (*sum - largest).exp());
                let total: f64 = sums.iter().sum();
                sums.iter_mut().for_each(|sum| *sum /= total);
            }
            verdict
        };
        Ok(sums.into_iter().map(finished).collect())
    }

    /// The parameter buffer.
    pub(super) async fn parameters(&self) -> Result<Vec<f32>> {
        let program = self.training.0;
        let view = self.session.plan(program).buffer(Kind::Params);
        Ok(self.session.read(program, &[view]).await?.swap_remove(0))
    }

    pub(super) fn set_parameters(&mut self, values: &[f32]) -> Result<()> {
        let program = self.training.0;
        let view = self.session.plan(program).buffer(Kind::Params);
        self.session.write(program, view, values)
    }
}

/// Adds the logarithms of the probabilities that logits stand for.
fn add_log_probabilities(sums: &mut [f64], logits: &[f32]) {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = logits.iter().map(|&z| f64::from(z - largest).exp()).sum();
    sums.iter_mut().zip(logits).for_each(|(sum, &z)| *sum += f64::from(z - largest) - total.ln());
}
