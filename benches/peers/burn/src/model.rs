//! DeepJ as Burn's own modules, in the sizes and with the dropout places of `src/models/deepj` of this project.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv1d, Conv1dConfig};
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig, Lstm, LstmConfig, LstmState, PaddingConfig1d};
use burn::tensor::{Device, Distribution, Tensor, TensorData, activation};
use safetensors::SafeTensors;

/// N, notes; the lowest is MIDI pitch 36, a C, so that note n is of pitch class n mod 12.
pub const NOTES: usize = 48;
/// Play, replay, dynamics.
pub const CHANNELS: usize = 3;
/// q, steps of a bar.
pub const BEATS: usize = 16;
pub const OCTAVE: usize = 12;
pub const TAPS: usize = 25;
pub const FILTERS: usize = 64;
pub const STYLE: usize = 64;
pub const TIME_UNITS: usize = 256;
pub const NOTE_UNITS: usize = 128;
/// Pitch position, pitch class, pitch-class count, octave features, beat: 94.
pub const FEATURES: usize = 1 + OCTAVE + 1 + FILTERS + BEATS;
/// Inputs and units of the layers: two of the time axis, two of the note axis.
pub const LAYERS: [[usize; 2]; 4] =
    [[FEATURES, TIME_UNITS], [TIME_UNITS, TIME_UNITS], [TIME_UNITS + CHANNELS, NOTE_UNITS], [NOTE_UNITS, NOTE_UNITS]];

type States = [Option<LstmState<2>>; 2];

/// What a step of training or evaluation reads.
pub struct Batch {
    /// `[B, T, N, 3]`: the steps before those to be predicted.
    pub seen: Tensor<4>,
    /// `[B, T, N, 3]`
    pub target: Tensor<4>,
    /// `[B, T, q]`: the place in the bar of each step of `seen`.
    pub beat: Tensor<3>,
    /// `[B, S]`
    pub style: Tensor<2>,
}

/// An LSTM layer with the layer that turns the style embedding into what is added to its input.
#[derive(Module, Debug)]
struct Conditioned {
    style: Linear,
    lstm: Lstm,
}

impl Conditioned {
    fn new([inputs, units]: [usize; 2], device: &Device) -> Self {
        let mut lstm = LstmConfig::new(inputs, units, true).init(device);
        // Burn adds two biases to each gate. One does the same, and is what we have.
        for gate in gates(&mut lstm) {
            gate.hidden_transform.bias = None;
        }
        Self { style: LinearConfig::new(STYLE, inputs).init(device), lstm }
    }

    /// `x [B * rows, steps, I]` with the conditioning `h [B, I]` of its sequence added, through the LSTM.
    fn forward(&self, x: Tensor<3>, h: &Tensor<2>, state: Option<LstmState<2>>) -> (Tensor<3>, LstmState<2>) {
        let ([all, steps, inputs], [batch, _]) = (x.dims(), h.dims());
        let h = h.clone().reshape([batch, 1, 1, inputs]);
        let x = x.reshape([batch, all / batch, steps, inputs]) + h;
        self.lstm.forward(x.reshape([all, steps, inputs]), state)
    }
}

fn gates(lstm: &mut Lstm) -> impl Iterator<Item = &mut burn::nn::GateController> {
    // i, f, g, o: the order of our checkpoints.
    [Some(&mut lstm.input_gate), lstm.forget_gate.as_mut(), Some(&mut lstm.cell_gate), Some(&mut lstm.output_gate)]
        .into_iter()
        .flatten()
}

#[derive(Module, Debug)]
pub struct DeepJ {
    embedding: Linear,
    octave: Conv1d,
    layers: Vec<Conditioned>,
    heads: Linear,
    input_dropout: Dropout,
    dropout: Dropout,
    /// `[1, 1, N, 13]`: pitch position and pitch class of each note.
    places: Tensor<4>,
    /// `[N, N]`: 1 where two notes are of one pitch class.
    same_class: Tensor<2>,
}

impl DeepJ {
    pub fn new(styles: usize, device: &Device) -> Self {
        let octave = Conv1dConfig::new(CHANNELS, FILTERS, TAPS)
            .with_padding(PaddingConfig1d::Explicit(TAPS / 2, TAPS / 2))
            .init(device);
        let place = |n: usize| {
            let class = (0..OCTAVE).map(move |class| f32::from(class == n % OCTAVE));
            std::iter::once(n as f32 / NOTES as f32).chain(class)
        };
        let same = (0..NOTES * NOTES).map(|i| f32::from(i / NOTES % OCTAVE == i % NOTES % OCTAVE));
        Self {
            embedding: LinearConfig::new(styles, STYLE).init(device),
            octave,
            layers: LAYERS.map(|sizes| Conditioned::new(sizes, device)).into(),
            heads: LinearConfig::new(NOTE_UNITS, CHANNELS).init(device),
            input_dropout: DropoutConfig::new(0.2).init(),
            dropout: DropoutConfig::new(0.5).init(),
            places: tensor((0..NOTES).flat_map(place).collect(), [1, 1, NOTES, 1 + OCTAVE], device),
            same_class: tensor(same.collect(), [NOTES, NOTES], device),
        }
    }

    /// The weights of one of our checkpoints.
    pub fn load(mut self, file: &SafeTensors, device: &Device) -> Result<Self, String> {
        let read = |name: &str| values(file, name);
        let matrix = |name: &str| -> Result<_, String> {
            let (data, shape) = read(name)?;
            let shape: [usize; 2] = shape.try_into().map_err(|_| format!("{name} is no matrix"))?;
            Ok(tensor(data, shape, device))
        };
        let vector = |name: &str| -> Result<Tensor<1>, String> {
            let (data, shape) = read(name)?;
            Ok(tensor(data, [shape.iter().product()], device))
        };
        let linear = |into: &mut Linear, name: &str| -> Result<(), String> {
            into.weight = Param::from_tensor(matrix(&format!("{name}.weight"))?);
            into.bias = Some(Param::from_tensor(vector(&format!("{name}.bias"))?));
            Ok(())
        };
        linear(&mut self.embedding, "style.embedding")?;
        linear(&mut self.heads, "heads")?;
        // Ours is [taps, channels, filters], Burn's [filters, channels, taps].
        let (data, _) = read("octave.weight")?;
        let kernel: Tensor<3> = tensor(data, [TAPS, CHANNELS, FILTERS], device);
        self.octave.weight = Param::from_tensor(kernel.permute([2, 1, 0]));
        self.octave.bias = Some(Param::from_tensor(vector("octave.bias")?));
        for (layer, name) in self.layers.iter_mut().zip(["time.0", "time.1", "note.0", "note.1"]) {
            linear(&mut layer.style, &format!("{name}.style"))?;
            let (input, recurrent) = (matrix(&format!("{name}.input"))?, matrix(&format!("{name}.recurrent"))?);
            let bias = vector(&format!("{name}.bias"))?;
            let units = layer.lstm.d_hidden;
            for (i, gate) in gates(&mut layer.lstm).enumerate() {
                let columns = i * units..(i + 1) * units;
                gate.input_transform.weight = Param::from_tensor(input.clone().slice_dim(1, columns.clone()));
                gate.hidden_transform.weight = Param::from_tensor(recurrent.clone().slice_dim(1, columns.clone()));
                gate.input_transform.bias = Some(Param::from_tensor(bias.clone().slice_dim(0, columns)));
            }
        }
        Ok(self)
    }

    /// What each layer adds to its input: `[B, I]` from the style `[B, S]`.
    fn conditions(&self, style: Tensor<2>) -> Vec<Tensor<2>> {
        let e = self.embedding.forward(style);
        let of = |layer: &Conditioned| self.dropout.forward(activation::tanh(layer.style.forward(e.clone())));
        self.layers.iter().map(of).collect()
    }

    /// `[B * N, T, 94]` from `notes [B, T, N, 3]` and `beat [B, T, q]`.
    fn features(&self, notes: Tensor<4>, beat: Tensor<3>) -> Tensor<3> {
        let [b, t, n, _] = notes.dims();
        let rows = notes.clone().reshape([b * t, n, CHANNELS]).swap_dims(1, 2);
        let octave = activation::tanh(self.octave.forward(rows)).swap_dims(1, 2).reshape([b, t, n, FILTERS]);
        let play = notes.slice_dim(3, 0..1).reshape([b * t, n]);
        let counts = play.matmul(self.same_class.clone()).reshape([b, t, n, 1]);
        let places = self.places.clone().expand([b, t, n, 1 + OCTAVE]);
        let beat = beat.reshape([b, t, 1, BEATS]).expand([b, t, n, BEATS]);
        let x = Tensor::cat(vec![places, counts, self.dropout.forward(octave), beat], 3);
        x.swap_dims(1, 2).reshape([b * n, t, FEATURES])
    }

    /// Play, replay and dynamics `[B, T, N, 3]`; the first two as logits.
    fn forward(&self, batch: &Batch) -> Tensor<4> {
        let [b, t, n, _] = batch.seen.dims();
        let h = self.conditions(batch.style.clone());
        let (notes, beat) = (batch.seen.clone(), batch.beat.clone());
        let x = self.features(self.input_dropout.forward(notes), self.input_dropout.forward(beat));
        let through = |layer: usize, x| {
            let (x, _) = self.layers[layer].forward(x, &h[layer], None);
            self.dropout.forward(x)
        };
        let x = through(1, through(0, x)).reshape([b, n, t, TIME_UNITS]).swap_dims(1, 2);
        let chosen = self.input_dropout.forward(batch.target.clone()).slice_dim(2, 0..n - 1);
        let silence = Tensor::zeros([b, t, 1, CHANNELS], &chosen.device());
        let x = Tensor::cat(vec![x, Tensor::cat(vec![silence, chosen], 2)], 3);
        let x = x.reshape([b * t, n, TIME_UNITS + CHANNELS]);
        self.heads.forward(through(3, through(2, x))).reshape([b, t, n, CHANNELS])
    }

    /// Play, replay and dynamics, `[1]` each: means over all cells; the last two count where the target plays.
    pub fn losses(&self, batch: &Batch) -> [Tensor<1>; 3] {
        let z = self.forward(batch);
        let [z, y] = [z, batch.target.clone()].map(|x| [0, 1, 2].map(|i| x.clone().slice_dim(3, i..i + 1)));
        let play = y[0].clone();
        let cross = |z: &Tensor<4>, y: &Tensor<4>| {
            activation::relu(z.clone()) - z.clone() * y.clone() + z.clone().abs().neg().exp().log1p()
        };
        let off = z[2].clone() - y[2].clone();
        [cross(&z[0], &play).mean(), (cross(&z[1], &y[1]) * play.clone()).mean(), (off.clone() * off * play).mean()]
    }

    /// Composes `steps` steps in the style of each row of `style [P, S]`; returns the last, `[P, N, 3]`.
    pub fn generate(&self, style: Tensor<2>, steps: usize) -> Tensor<3> {
        let (device, [pieces, _]) = (style.device(), style.dims());
        let h = self.conditions(style);
        let mut states: States = [None, None];
        let mut notes = Tensor::<3>::zeros([pieces, NOTES, CHANNELS], &device);
        let through = |layer: usize, x, state: &mut Option<LstmState<2>>| {
            let (x, new) = self.layers[layer].forward(x, &h[layer], state.take());
            *state = Some(new);
            x
        };
        for step in 0..steps {
            let beat = tensor(one_hot(step % BEATS, BEATS).collect(), [1, 1, BEATS], &device);
            let x = self.features(notes.unsqueeze_dim(1), beat.expand([pieces, 1, BEATS]));
            let x = through(0, x, &mut states[0]);
            let x = through(1, x, &mut states[1]).reshape([pieces, NOTES, TIME_UNITS]);
            let draws = Tensor::<3>::random([pieces, NOTES, 2], Distribution::Uniform(0.0, 1.0), &device);
            let mut states: States = [None, None];
            let mut chosen = vec![Tensor::<3>::zeros([pieces, 1, CHANNELS], &device)];
            for n in 0..NOTES {
                let x = Tensor::cat(vec![x.clone().slice_dim(1, n..n + 1), chosen[n].clone()], 2);
                let x = through(2, x, &mut states[0]);
                let z = self.heads.forward(through(3, x, &mut states[1]));
                let odds = activation::sigmoid(z.clone().slice_dim(2, 0..2));
                let heads = draws.clone().slice_dim(1, n..n + 1).lower(odds).float();
                let play = heads.clone().slice_dim(2, 0..1);
                let rest = Tensor::cat(vec![heads.slice_dim(2, 1..2), z.slice_dim(2, 2..3)], 2);
                chosen.push(Tensor::cat(vec![play.clone(), rest * play], 2));
            }
            notes = Tensor::cat(chosen.split_off(1), 1);
        }
        notes
    }
}

pub fn one_hot(i: usize, width: usize) -> impl Iterator<Item = f32> {
    (0..width).map(move |j| f32::from(i == j))
}

pub fn tensor<const D: usize>(data: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(data, shape), device)
}

/// Values and shape of a tensor of a file.
pub fn values(file: &SafeTensors, name: &str) -> Result<(Vec<f32>, Vec<usize>), String> {
    let tensor = file.tensor(name).map_err(|e| format!("{name}: {e}"))?;
    if tensor.dtype() != safetensors::Dtype::F32 {
        return Err(format!("{name} is not f32"));
    }
    let (words, _) = tensor.data().as_chunks();
    Ok((words.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(), tensor.shape().into()))
}
