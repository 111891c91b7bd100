//! A model of another kind in one file: an LSTM over time with a softmax over the pitches of the next time step, trained by plain
//! gradient descent. Its loss is an op of its own, without a GPU kernel.

use deepj::graph::{Graph, Kind, Layout, session::KernelSelection};
use deepj::models::network::{Inputs, Network, Outputs};
use deepj::models::{CorpusFacts, DefaultOn, Likelihood, Loss, PresetInfo, RollShape, StateShape, register};
use deepj::nn::{dense::Dense, lstm, lstm::LstmLayer, optimizer};
use deepj::ops::{Arg, Args, Cost, Op, Real, Tape, Uniforms, View, cpu_both, gemm, nadam::Nadam};
use deepj::train::{Prepared, ResumeMode, TrainOptions, prepare, train};
use deepj::{
    checkpoint::Checkpoint,
    evaluate::evaluate,
    generate::samples,
    gpu::Device,
    shape::{Channel, Channels},
};
use pollster::block_on;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The sum over rows of `weight * -(sum over n of play_n ln softmax(z)_n)`, and its gradient. Operands: `z [rows, N]`,
/// `target [rows, N, C]`, `weight [rows, C]`, `loss [1]`, `dz [rows, N]`.
#[derive(Debug, Serialize)]
struct SoftmaxLoss {
    rows: usize,
    notes: usize,
}

impl SoftmaxLoss {
    fn run_on_cpu<R: Real>(&self, _: &Uniforms, args: Args<'_, R>) {
        let ([z, target, weight], [loss, dz]) = args.take();
        loss[0] = R::ZERO;
        for (r, (z, dz)) in z.chunks(self.notes).zip(dz.chunks_mut(self.notes)).enumerate() {
            let play = target[r * self.notes * C..].iter().step_by(C).take(self.notes);
            let playing: R = play.clone().copied().sum();
            let largest = z.iter().fold(z[0], |a, &b| if a > b { a } else { b });
            let sum: R = z.iter().map(|&z| (z - largest).exp()).sum();
            for ((&z, &play), dz) in z.iter().zip(play).zip(dz) {
                loss[0] += weight[r * C] * play * (largest - z + (sum - R::ONE).ln_1p());
                *dz = weight[r * C] * (playing * (z - largest).exp() / sum - play);
            }
        }
    }
}

impl Op for SoftmaxLoss {
    fn args(&self) -> Vec<Arg> {
        let (rows, cells) = (self.rows, self.rows * self.notes);
        let reads = [Arg::read("z", cells), Arg::read("target", cells * C), Arg::read("weight", rows * C)];
        [&reads[..], &[Arg::write("loss", 1), Arg::write("dz", cells)]].concat()
    }
    fn cost(&self) -> Cost {
        Cost { flops: 14 * (self.rows * self.notes) as u64, bytes: self.operand_bytes() }
    }
    fn gradient(&self, tape: &mut dyn Tape, operands: &[View]) {
        let Some(dloss) = tape.grad(operands[3]) else { return };
        let scaled = gemm::Gemm::new(gemm::Layout::NN, operands[4].len, 1, 1);
        tape.contribute(operands[0], Box::new(scaled), &[operands[4], dloss]);
    }
    cpu_both!();
}

/// `p -= lr g`: Nadam's op with moments that count nothing.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Sgd {
    lr: f64,
}

impl optimizer::Rule for Sgd {
    const NAME: &str = "sgd";
    fn append(&self, graph: &mut Graph, squared_norm: View) {
        let [g, p] = [Kind::Grads, Kind::Params].map(|kind| graph.shared(kind));
        let [m, v] = ["m", "v"].map(|name| graph.tensor(name, g.len, Kind::State));
        graph.apply(Nadam { len: g.len, beta1: 0.0, beta2: 0.0, epsilon: 1.0 }, &[g, squared_norm, p, m, v]);
    }
    fn advance(&self, _: &mut optimizer::Schedule, uniforms: &mut Uniforms) {
        (uniforms.lr, uniforms.factors) = (self.lr as f32, [0.0, 1.0, 0.0]);
    }
}

/// Values of a cell.
const C: usize = Channels::NOTES.len();

/// The network by its configuration.
#[derive(Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
struct PitchLstm {
    lowest: usize,
    notes: usize,
    units: std::num::NonZeroU16,
}

impl Network for PitchLstm {
    type Layers = (LstmLayer, Dense);
    const NAME: &str = "pitch-lstm";
    const PRESETS: &[PresetInfo] = &[PresetInfo { name: "tiny", batch: (4, 64), default_on: DefaultOn::Neither }];
    const LOSSES: &[Loss] = &[Loss {
        key: "softmax",
        label: "softmax",
        channel: Channel::Play,
        nats_per_step: Some("nats_per_step"),
        likelihood: Likelihood::Exact,
    }];
    fn preset(_: &str, CorpusFacts { lowest, notes, .. }: CorpusFacts) -> Self {
        Self { lowest, notes, units: 32u16.try_into().unwrap() }
    }
    fn roll(&self) -> RollShape {
        RollShape { lowest: self.lowest, notes: self.notes, channels: Channels::NOTES, beats: 16, styles: 0 }
    }
    fn layers(&self, layout: &mut Layout) -> Self::Layers {
        let units = self.units.get().into();
        (LstmLayer::plain(layout, "lstm", self.notes * C, units), Dense::new(layout, "logits", units, self.notes))
    }
    fn states(&self, slots: usize) -> Vec<StateShape> {
        ["carried.h", "carried.c"].map(|name| StateShape::new(name, [slots, self.units.get().into()])).into()
    }
    fn forward(&self, (lstm, logits): &Self::Layers, graph: &mut Graph, inputs: &Inputs) -> Outputs {
        let rows = lstm::Rows::of_slots(inputs.slots, inputs.steps);
        let carried = lstm::State::Carried { keep: Some(inputs.keep) };
        let out = lstm.forward(graph, inputs.seen(), rows, (lstm.bias, 1), carried);
        let op = SoftmaxLoss { rows: inputs.slots * inputs.steps, notes: self.notes };
        let z = logits.forward(graph, out.h, op.rows, gemm::Activation::Identity);
        let (losses, dz) = (graph.tensor("loss", 1, Kind::Output), graph.temp("dz", z.len));
        graph.apply(op, &[z, inputs.target(), inputs.weight, losses, dz]);
        Outputs { losses, states: out.state.into_iter().flatten().collect() }
    }
}

#[test]
fn a_model_of_another_kind_trains_evaluates_saves_and_resumes() {
    register::<PitchLstm>();
    optimizer::register::<Sgd>();
    let (folder, stop) = (tempfile::tempdir().unwrap(), std::sync::atomic::AtomicBool::new(false));
    let (cpu, auto) = (|| Device::Cpu { why: String::new() }, KernelSelection::default);
    let run = |name: &str, steps: u64, resume| {
        let out = folder.path().join(name);
        let mut options = TrainOptions { resume, out: Some(out.clone()), ..TrainOptions::default() };
        (options.model, options.optimizer) = (Some("pitch-lstm".into()), Some("sgd".into()));
        (options.lr, options.validate_every, options.budget.steps) = (Some(100.0), Some(20), Some(steps));
        let prepared = prepare(&options, &cpu()).unwrap();
        block_on(train(prepared.clone(), cpu(), auto(), &mut (), &stop)).unwrap();
        let curve = std::fs::read_to_string(out.join("curve.jsonl")).unwrap();
        let lines =
            curve.lines().filter(|line| !line.contains("\"end\"")).map(|line| line.split(",\"seconds\"").next());
        (prepared, lines.map(|line| line.unwrap().to_string()).collect::<Vec<_>>())
    };
    let (Prepared { state: untrained, validation: pieces, .. }, whole) = run("whole", 40, ResumeMode::Never);
    run("parts", 20, ResumeMode::Never);
    assert_eq!(run("parts", 40, ResumeMode::Always).1, whole);
    assert!(whole.iter().all(|line| line.contains(r#""softmax":"#) && !line.contains("play")));
    let file = std::fs::read(folder.path().join("whole/last.safetensors")).unwrap();
    let trained = Checkpoint::from_bytes(&file).unwrap();
    let loss = |of| block_on(evaluate(of, &pieces, 4, cpu(), auto(), &stop, |_| ())).unwrap().unwrap().losses.total();
    assert!(whole.last().unwrap().contains(&format!(r#""softmax":{},"#, loss(&trained))), "{whole:?}");
    assert!(loss(&trained) < 0.85 * loss(&untrained));
    assert!(block_on(samples(&trained, 1, cpu(), auto(), &stop)).unwrap_err().what.contains("pitch-lstm cannot"));
    // To a process without the model its name is as unknown as any other; with another name for the checksum the file has none.
    let text: String = file.iter().map(|&byte| byte as char).collect();
    let text = text.replace("pitch-lstm", "other-lstm").replace("crc32c", "number");
    let e = Checkpoint::from_bytes(&text.chars().map(|c| c as u8).collect::<Vec<_>>()).unwrap_err().to_string();
    assert!(e.contains("`other-lstm`") && e.contains("there is biaxial, deepj, pitch-lstm"), "{e}");
}
