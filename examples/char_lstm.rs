//! The same engine learns to write text: an LSTM over characters, trained on Shakespeare's sonnets.
//!
//! ```text
//! cargo run --release --example char_lstm -- [DEVICE] [UPDATES]     (auto, cpu, or a part of an adapter's name; 1,500)
//! ```
//!
//! A model is made of layers and ops; the graph appends the backward pass; a session runs plans on a GPU or on the CPU.

use std::io::{ErrorKind, Write};
use std::sync::Arc;
use std::time::Instant;

use deepj::ops::random::{pcg4d, uniform01};
use deepj::prelude::*;

const TEXT: &str = include_str!("../data/sonnets.txt");
/// Pieces of text side by side, characters of a window, units of the LSTM.
const BATCH: usize = 32;
const STEPS: usize = 64;
const UNITS: usize = 256;

/// The layers, whose parameters a layout declares.
struct Model {
    lstm: LstmLayer,
    logits: Dense,
    characters: usize,
}

impl Model {
    fn new(layout: &mut Layout, characters: usize) -> Self {
        let lstm = LstmLayer::plain(layout, "lstm", characters, UNITS);
        Self { lstm, logits: Dense::new(layout, "logits", UNITS, characters), characters }
    }

    /// Appends the network on characters as one-hot vectors, `[steps, batch, characters]`; returns these and the logits. The state
    /// is carried from run to run.
    fn forward(&self, graph: &mut Graph, steps: usize, batch: usize) -> [View; 2] {
        let x = graph.tensor("characters", steps * batch * self.characters, Kind::Input);
        let rows = Rows::of_slots(batch, steps);
        let out = self.lstm.forward(graph, x, rows, (self.lstm.bias, 1), State::Carried { keep: None });
        [x, self.logits.forward(graph, out.h, steps * batch, Activation::Identity)]
    }

    fn one_hot(&self, characters: &[usize]) -> Vec<f32> {
        let mut vectors = vec![0.0; characters.len() * self.characters];
        characters.iter().enumerate().for_each(|(i, c)| vectors[i * self.characters + c] = 1.0);
        vectors
    }
}

/// Prints at once. A reader that has gone, as in `… | head -1`, ends the program quietly.
fn say(text: std::fmt::Arguments) {
    let mut out = std::io::stdout().lock();
    if let Err(e) = out.write_fmt(text).and_then(|()| out.flush()) {
        let quiet = e.kind() == ErrorKind::BrokenPipe;
        if !quiet {
            let _ = writeln!(std::io::stderr(), "error: standard output: {e}");
        }
        std::process::exit(i32::from(!quiet));
    }
}

fn main() -> deepj::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let device: DeviceChoice = arguments.first().map_or("auto", String::as_str).parse()?;
    let no_number = |_| Error::usage("the second argument is no number of updates", "give for example 1500");
    let updates: usize = arguments.get(1).map_or(Ok(1500), |n| n.parse().map_err(no_number))?;

    // The characters of the text in order, and the text as their numbers.
    let mut alphabet: Vec<char> = TEXT.chars().collect();
    alphabet.sort_unstable();
    alphabet.dedup();
    let text: Vec<usize> = TEXT.chars().filter_map(|c| alphabet.binary_search(&c).ok()).collect();

    let mut layout = Layout::new();
    let model = Model::new(&mut layout, alphabet.len());
    let layout = Arc::new(layout);

    // Loss: mean cross-entropy of the next character. Its op takes targets as parts of the last class.
    let (rows, classes) = (STEPS * BATCH, alphabet.len());
    let mut graph = Graph::new(layout.clone());
    let [x, z] = model.forward(&mut graph, STEPS, BATCH);
    let op = SoftmaxLoss { rows, notes: 1, bins: classes, channels: 1, channel: 0, masked: false };
    let [target, weight, seed] =
        [("target", rows), ("weight", rows), ("seed", 1)].map(|(name, len)| graph.tensor(name, len, Kind::Input));
    let parts = graph.temp("losses", op.parts());
    graph.apply(op, &[z, target, weight, parts]);
    let loss = graph.tensor("loss", 1, Kind::Output);
    graph.apply(SumRows::all(op.parts(), 1), &[parts, loss]);
    graph.backward(loss, seed)?;

    // A plan that writes one character after the other shares the parameters.
    let mut writing = Graph::new(layout.clone());
    let [next, logits] = model.forward(&mut writing, 1, 1);
    let out = writing.tensor("out", classes, Kind::Output);
    writing.apply(Cast { len: classes, from: Format::F32, to: Format::F32 }, &[logits, out]);

    let nadam = optimizer::make("nadam", serde_json::json!({ "lr": 0.002, "clip_norm": 5.0 }))?;
    let (update, _) = optimizer::plan(nadam.as_ref(), None, &layout);
    let device = open_blocking(&device, OpenOptions::default())?;
    let parameters = layout.params().iter().map(|param| param.view.len).sum::<usize>();
    say(format_args!("{}: {} characters, {parameters} parameters\n", device.machine(), text.len()));
    let mut session = Session::new(device, KernelSelection::default());
    let plans = vec![Plan::compile("train", graph), update, Plan::compile("write", writing)];
    let [train, update, write] = session.add_all_blocking(plans)?[..] else { unreachable!("three plans") };
    session.write(train, session.plan(train).buffer(Kind::Params), &initialise(&layout, 1))?;
    session.write(train, weight, &vec![1.0 / rows as f32; rows])?;
    session.write(train, seed, &[1.0])?;

    // Each slot reads a part of its own, from its beginning to its end and again.
    let length = (text.len() - 1) / BATCH / STEPS * STEPS;
    let (mut schedule, began, mut mean) = (Schedule::default(), Instant::now(), f32::NAN);
    for i in 0..updates {
        let at = |t: usize, b: usize| b * length + (i * STEPS) % length + t;
        let window = |ahead: usize| (0..rows).map(|r| text[at(r / BATCH, r % BATCH) + ahead]).collect::<Vec<_>>();
        let targets: Vec<f32> = window(1).iter().map(|c| *c as f32 / (classes - 1) as f32).collect();
        session.write(train, x, &model.one_hot(&window(0)))?;
        session.write(train, target, &targets)?;
        let mut uniforms = Uniforms { update: i as u32, ..Uniforms::default() };
        nadam.advance(&mut schedule, &mut uniforms);
        session.run_all(&[train, update], &uniforms)?;
        let now = session.read_blocking(train, &[loss])?[0][0];
        mean = if mean.is_nan() { now } else { 0.98 * mean + 0.02 * now };
        if (i + 1) % 100 == 0 {
            let rate = (i + 1) as f64 / began.elapsed().as_secs_f64();
            say(format_args!("update {}: {mean:.3} nats a character, {rate:.1} updates/s\n", i + 1));
        }
    }

    // Each character is drawn from what the one before led to.
    let mut character = text[0];
    for i in 0..500u32 {
        session.write(write, next, &model.one_hot(&[character]))?;
        session.run(write, 1, &Uniforms::default())?;
        let logits = session.read_blocking(write, &[out])?.remove(0);
        let most = logits.iter().copied().fold(f32::MIN, f32::max);
        let likelihoods: Vec<f32> = logits.iter().map(|z| ((z - most) / 0.7).exp()).collect();
        let mut left = uniform01(pcg4d([i, 1, 2, 3])[0]) * likelihoods.iter().sum::<f32>();
        let drawn = likelihoods.iter().position(|likelihood| {
            left -= likelihood;
            left < 0.0
        });
        character = drawn.unwrap_or(0);
        say(format_args!("{}", alphabet[character]));
    }
    say(format_args!("\n"));
    Ok(())
}
