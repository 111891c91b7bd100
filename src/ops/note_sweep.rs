//! Generation along the note axis: from the lowest note to the highest, two LSTM layers, the heads and the random draws, each
//! note seeing what was chosen for the one below (paper, sections II-B and IV-B).

use rayon::prelude::*;
use serde::Serialize;

use super::lstm::cell;
use super::matmul::{Mat, matmul, transposed};
use super::random::{pcg4d, uniform01};
use super::recorder::{chunks, shader};
use super::vectorized::{dot, vectorized};
use super::{Arg, Args, Cost, Op, Real, Recorder, Uniforms, cpu_both};
use crate::error::{Error, Result};
use crate::gpu::Capabilities;

/// `Uniforms::forced` where all notes of a time step are given.
pub const GIVEN: f32 = 1.0;
/// `Uniforms::forced` where cells are given whose play is not negative.
pub const MIXED: f32 = 2.0;

/// Probabilities that the sweep reports of each note behind its channels: those of play and replay.
const PROBABILITIES: usize = 2;
/// Values of a piece's state: the clock and the number of silent steps so far.
pub const STATE: usize = 2;
/// Values of `control` behind those of the notes, in this order.
pub const CONTROLS: usize = 4;
/// What is added to the play logit of notes that sounded on the step before.
pub const HOLD: usize = 0;
/// What is added to replay logits.
pub const REPLAY: usize = 1;
/// What is added to the factor of dynamics, which is 1.
pub const GAIN: usize = 2;
/// What is added to dynamics.
pub const OFFSET: usize = 3;

/// Where the sweep's weights stand in its operand `weights`, in elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Offsets {
    /// `[C, 4H1]`: the rows of the first layer's input matrix that take the lower note.
    pub chosen: usize,
    /// `[H1, 4H1]`: the first layer's recurrent matrix.
    pub recurrent1: usize,
    /// `[H1, 4H2]`: the second layer's input matrix.
    pub input2: usize,
    /// `[H2, 4H2]`: the second layer's recurrent matrix.
    pub recurrent2: usize,
    /// `[H2, heads]`: the heads of one output each, of play, replay and dynamics, but for dynamics that are drawn from bins.
    pub head: usize,
    /// `[heads]`: their biases.
    pub head_bias: usize,
    /// `[H2, bins]`: the head of the bins of dynamics; not looked at where there are none.
    pub bins: usize,
    /// `[bins]`: its biases.
    pub bins_bias: usize,
}

/// One time step of generation for `pieces` pieces.
///
/// A cell has two channels, play and replay, or three, with dynamics. A note is played with probability
/// `sigmoid((logit + control) / T)`,
/// `T = temperature + silence * (silent steps so far)`; a played note that sounded in the step before is re-attacked by a
/// second random draw; its dynamics is the head's value, or `k / (bins - 1)` of a bin `k` drawn from their softmax, and what
/// `control` makes of it, clamped to 0..1. Draws depend on seed, time step, piece and note alone; pieces are numbered from the
/// first of [`Uniforms::slots`] on.
/// With [`Uniforms::forced`] at 1, notes are taken from `forced` instead, and only the states move; at 2 those cells of `forced` are taken
/// whose play is not negative, and the others drawn, each from what the lower ones make of it.
///
/// Operands:
/// - `weights [weights]`: see [`Offsets`];
/// - `input [pieces, N, 4H1]`: the first layer's input products with biases, without the lower note's part;
/// - `bias2 [pieces, 4H2]`: the second layer's biases with the style's part;
/// - `forced [window, pieces, N, C]`;
/// - `control [window, pieces, N + 4]`: what is added to the play logit of each note that did not sound on the step before; what is added to
///   it of those that did ([`HOLD`]), and to replay logits ([`REPLAY`]); then `g` and `o`, which make `(1 + g) v + o` of dynamics `v`
///   ([`GAIN`], [`OFFSET`]). Zeros leave a piece to the network;
/// - `notes [pieces, N, C]`: on entry the notes of the step before, on exit those of this step;
/// - `state [2, pieces]`: clocks (index in the piece of the step on entry; advanced by one), then silent steps so far;
/// - `roll [window, pieces, N, C + 2]`: row `clock mod window` receives notes and probabilities.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NoteSweep {
    /// Pieces composed together.
    pub pieces: usize,
    /// N.
    pub notes: usize,
    /// H1 and H2, units of the two note layers.
    pub units: [usize; 2],
    /// C, values of a note: 2 or 3.
    pub channels: usize,
    /// Bins that dynamics are drawn from; 0 where they are a head's own value, or where a note has none.
    pub bins: usize,
    /// Time steps that `roll` holds.
    pub window: usize,
    /// Elements of the operand `weights`.
    pub weights: usize,
    /// Where each matrix stands in it.
    pub offsets: Offsets,
}

impl NoteSweep {
    /// Values that the sweep reports of each note.
    pub fn reported(&self) -> usize {
        self.channels + PROBABILITIES
    }

    /// Values that control a time step of a piece.
    pub fn controls(&self) -> usize {
        self.notes + CONTROLS
    }

    /// Heads of one output each.
    fn heads(&self) -> usize {
        self.channels - usize::from(self.bins > 0)
    }

    fn run_on_cpu<R: Real>(&self, uniforms: &Uniforms, args: Args<'_, R>) {
        let ([weights, input, bias2, forced, control], [notes, state, roll]) = args.take();
        let (channels, reported) = (self.channels, self.reported());
        let per_piece = self.notes * channels;
        let chunk = self.pieces.div_ceil(rayon::current_num_threads().max(1));
        // Each thread sweeps its own pieces, as rows of one product; results are gathered into `roll` afterwards.
        let (clocks, silences) = state.split_at_mut(self.pieces);
        let row = |clock: R| (clock.to_f64() as i64).rem_euclid(self.window as i64) as usize;
        let reports: Vec<Vec<R>> = notes
            .par_chunks_mut(chunk * per_piece)
            .zip(clocks.par_chunks_mut(chunk))
            .zip(silences.par_chunks_mut(chunk))
            .enumerate()
            .map(|(i, ((notes, clocks), silences))| {
                let first = i * chunk;
                clocks.iter_mut().for_each(|clock| *clock += R::ONE);
                let mut report = vec![R::ZERO; clocks.len() * self.notes * reported];
                if uniforms.forced == GIVEN {
                    for (p, (notes, &clock)) in notes.chunks_exact_mut(per_piece).zip(&*clocks).enumerate() {
                        let start = (row(clock) * self.pieces + first + p) * per_piece;
                        notes.copy_from_slice(&forced[start..start + per_piece]);
                    }
                } else {
                    let rows: Vec<usize> =
                        clocks.iter().enumerate().map(|(p, &c)| row(c) * self.pieces + first + p).collect();
                    let now = Now { first, clocks, silences, rows: &rows, forced, control };
                    self.sweep(uniforms, now, [weights, input, bias2], notes, &mut report);
                }
                for (report, note) in report.chunks_exact_mut(reported).zip(notes.chunks_exact(channels)) {
                    report[..channels].copy_from_slice(note);
                }
                for (notes, silent) in notes.chunks_exact(per_piece).zip(silences) {
                    let rests = notes.iter().step_by(channels).all(|&play| play == R::ZERO);
                    *silent = if rests { *silent + R::ONE } else { R::ZERO };
                }
                report
            })
            .collect();
        let per_report = self.notes * reported;
        let reports = reports.iter().flat_map(|report| report.chunks_exact(per_report));
        for (piece, (report, &clock)) in reports.zip(&*clocks).enumerate() {
            roll[(row(clock) * self.pieces + piece) * per_report..][..per_report].copy_from_slice(report);
        }
    }

    /// Samples the notes of the pieces whose rows `notes` and `report` hold.
    fn sweep<R: Real>(
        &self,
        uniforms: &Uniforms,
        now: Now<'_, R>,
        [weights, input, bias2]: [&[R]; 3],
        notes: &mut [R],
        report: &mut [R],
    ) {
        let (n_notes, channels, first) = (self.notes, self.channels, now.first);
        let [units1, units2] = self.units;
        let pieces = now.clocks.len();
        let matrix =
            |offset: usize, rows: usize, units: usize| Mat::new(&weights[offset..], rows, 4 * units, 4 * units);
        let chosen_w = matrix(self.offsets.chosen, channels, units1);
        let recurrent1 = matrix(self.offsets.recurrent1, units1, units1);
        let input2 = matrix(self.offsets.input2, units1, units2);
        let recurrent2 = matrix(self.offsets.recurrent2, units2, units2);
        let heads = self.heads();
        let head = transposed(&weights[self.offsets.head..][..units2 * heads], units2, heads);
        let head_bias = &weights[self.offsets.head_bias..][..heads];
        let (mut layer1, mut layer2) = (SweepLayer::new(pieces, units1), SweepLayer::new(pieces, units2));
        let mut lower = vec![R::ZERO; pieces * channels];
        let mut logits = vec![R::ZERO; pieces * heads];
        for n in 0..n_notes {
            for (p, gates) in layer1.gates.chunks_exact_mut(4 * units1).enumerate() {
                gates.copy_from_slice(&input[((first + p) * n_notes + n) * 4 * units1..][..4 * units1]);
            }
            layer1.add(Mat::new(&lower, pieces, channels, channels), chosen_w);
            layer1.step(recurrent1);
            layer2.gates.copy_from_slice(&bias2[first * 4 * units2..][..pieces * 4 * units2]);
            layer2.add(Mat::new(&layer1.h, pieces, units1, units1), input2);
            layer2.step(recurrent2);
            vectorized(
                #[inline(always)]
                || {
                    for (logit, h) in logits.chunks_exact_mut(heads).zip(layer2.h.chunks_exact(units2)) {
                        for (i, head) in head.chunks_exact(units2).enumerate() {
                            logit[i] = head_bias[i] + dot(h, head);
                        }
                    }
                },
            );
            for p in 0..pieces {
                let temperature = R::of(uniforms.temperature as f64) + R::of(uniforms.silence as f64) * now.silences[p];
                let clock = now.clocks[p].to_f64() as i64 as u32;
                let piece = (uniforms.slots.first + first + p) as u32;
                let draws = pcg4d([n as u32, piece, clock, uniforms.seed]).map(|u| R::of(uniform01(u) as f64));
                let logit = &logits[p * heads..][..heads];
                let control = &now.control[now.rows[p] * self.controls()..][..self.controls()];
                let (control, behind) = control.split_at(n_notes);
                let cell = p * n_notes + n;
                let sounded = notes[cell * channels] > R::ZERO;
                let begin = if sounded { behind[HOLD] } else { control[n] };
                let p_play = ((logit[0] + begin) / temperature).sigmoid();
                let p_replay = ((logit[1] + behind[REPLAY]) / temperature).sigmoid();
                let lower = &mut lower[p * channels..][..channels];
                lower.fill(R::ZERO);
                let given = &now.forced[(now.rows[p] * n_notes + n) * channels..][..channels];
                if uniforms.forced == MIXED && given[0] >= R::ZERO {
                    lower.copy_from_slice(given);
                } else if draws[0] < p_play {
                    lower[0] = R::ONE;
                    lower[1] = if sounded && draws[1] < p_replay { R::ONE } else { R::ZERO };
                    lower[2..].iter_mut().zip(&logit[2..]).for_each(|(value, &head)| *value = head);
                    if self.bins > 0 {
                        lower[2] = self.draw_bin(weights, &layer2.h[p * units2..][..units2], draws[2]);
                    }
                    let (gain, offset) = (behind[GAIN], behind[OFFSET]);
                    lower[2..].iter_mut().for_each(|value| *value = clamp01(*value + gain * *value + offset));
                }
                notes[cell * channels..][..channels].copy_from_slice(lower);
                report[cell * (channels + PROBABILITIES) + channels..][..2].copy_from_slice(&[p_play, p_replay]);
            }
        }
    }
}

impl NoteSweep {
    /// The value, within 0..=1, of the bin that `draw` takes from the distribution that the second layer's output `h` makes.
    fn draw_bin<R: Real>(&self, weights: &[R], h: &[R], draw: R) -> R {
        let mut bins = weights[self.offsets.bins_bias..][..self.bins].to_vec();
        for (h, weights) in h.iter().zip(weights[self.offsets.bins..].chunks_exact(self.bins)) {
            bins.iter_mut().zip(weights).for_each(|(logit, &weight)| *logit += *h * weight);
        }
        let most = bins.iter().fold(bins[0], |a, &b| if a > b { a } else { b });
        bins.iter_mut().for_each(|bin| *bin = (*bin - most).exp());
        let share = draw * bins.iter().copied().sum();
        let mut sum = R::ZERO;
        let drawn = bins.iter().position(|&bin| {
            sum += bin;
            share < sum
        });
        // Rounding may leave the largest draws to none.
        let drawn = drawn.unwrap_or(self.bins - 1);
        R::of(drawn as f64) / R::of((self.bins - 1) as f64)
    }
}

/// An LSTM layer on the way from note to note, for some pieces.
struct SweepLayer<R> {
    pieces: usize,
    units: usize,
    /// `[pieces, 4H]`.
    gates: Vec<R>,
    /// `[pieces, H]` each: output, cell state, and the cell state of the note below.
    h: Vec<R>,
    c: Vec<R>,
    c_before: Vec<R>,
}

impl<R: Real> SweepLayer<R> {
    fn new(pieces: usize, units: usize) -> Self {
        let zeros = |len| vec![R::ZERO; len];
        let size = pieces * units;
        Self { pieces, units, gates: zeros(4 * size), h: zeros(size), c: zeros(size), c_before: zeros(size) }
    }

    /// Adds a product to the gates.
    fn add(&mut self, x: Mat<'_, R>, weights: Mat<'_, R>) {
        matmul(&mut self.gates, 4 * self.units, x, weights, true, false);
    }

    /// Adds the recurrent product to the gates and makes the new state of them.
    fn step(&mut self, recurrent: Mat<'_, R>) {
        let Self { pieces, units, gates, h, c, c_before } = self;
        let (pieces, units) = (*pieces, *units);
        matmul(gates, 4 * units, Mat::new(h, pieces, units, units), recurrent, true, false);
        c_before.copy_from_slice(c);
        vectorized(
            #[inline(always)]
            || {
                for p in 0..pieces {
                    let unit = p * units..(p + 1) * units;
                    let gates = &mut gates[p * 4 * units..(p + 1) * 4 * units];
                    cell(gates, &c_before[unit.clone()], &mut c[unit.clone()], &mut h[unit]);
                }
            },
        );
    }
}

/// Some of the pieces: the first one's number, their clocks at the step to be composed and silent steps before it; their rows, of
/// `[window, pieces]`, of `forced` and `control`.
struct Now<'a, R> {
    first: usize,
    clocks: &'a [R],
    silences: &'a [R],
    rows: &'a [usize],
    forced: &'a [R],
    control: &'a [R],
}

fn clamp01<R: Real>(x: R) -> R {
    if x > R::ONE {
        R::ONE
    } else if x > R::ZERO {
        x
    } else {
        R::ZERO
    }
}

impl Op for NoteSweep {
    fn name(&self) -> &'static str {
        "note_sweep"
    }

    fn label(&self) -> String {
        let [units1, units2] = self.units;
        let units = if units1 == units2 { units1.to_string() } else { format!("{units1},{units2}") };
        let channels = match (self.channels, self.bins) {
            (3, 0) => String::new(),
            (channels, 0) => format!(" C={channels}"),
            (_, bins) => format!(" K={bins}"),
        };
        format!("note_sweep pieces={} N={} H={units}{channels}", self.pieces, self.notes)
    }

    fn args(&self) -> Vec<Arg> {
        let (p, n, c) = (self.pieces, self.notes, self.channels);
        let [units1, units2] = self.units;
        let matrices =
            (c + units1) * 4 * units1 + (units1 + units2) * 4 * units2 + (units2 + 1) * (self.heads() + self.bins);
        vec![
            Arg::read("weights", self.weights).moving(matrices),
            Arg::read("input", p * n * 4 * units1),
            Arg::read("bias2", p * 4 * units2),
            Arg::read("forced", self.window * p * n * c).moving(0),
            // One row.
            Arg::read("control", self.window * p * self.controls()).moving(p * self.controls()),
            // Read is whether the note sounded.
            Arg::write("notes", p * n * c).moving(p * n * (1 + c)),
            Arg::update("state", p * STATE),
            // One row.
            Arg::write("roll", self.window * p * n * self.reported()).moving(p * n * self.reported()),
        ]
    }

    /// That of a time step that samples, not of one whose notes are given. A note costs its products (C + H1 rows of 4H1,
    /// H1 + H2 rows of 4H2, H2 rows of a head and of a bin each), 9 for each of H1 + H2 cells, and 8 for two draws and
    /// their control. Dynamics are drawn and controlled for those that play alone, which counts nothing.
    fn cost(&self) -> Cost {
        let ([h1, h2], c) = (self.units.map(|units| units as u64), self.channels as u64);
        let note = 2 * (c + h1) * 4 * h1
            + 2 * (h1 + h2) * 4 * h2
            + 2 * h2 * (self.heads() + self.bins) as u64
            + (h1 + h2) * 9
            + 8;
        let (p, n) = (self.pieces as u64, self.notes as u64);
        Cost { flops: p * n * note, bytes: self.operand_bytes() }
    }

    cpu_both!();

    fn variants(&self, _: &Capabilities) -> Vec<&'static str> {
        vec!["portable"]
    }

    /// One workgroup a piece. Operands grow with the number of pieces and are not cut, though the pieces are where all take
    /// too long for a watchdog: a thousand fit the smallest binding that WebGPU allows.
    fn record(&self, _: &str, recorder: &mut Recorder<'_>) -> Result<()> {
        let [units1, units2] = self.units;
        // Both layers' state, one layer's gates, the bins, and less than 256 bytes more.
        let memory = 4 * (2 * (units1 + units2) + 4 * units1.max(units2) + self.bins) + 256;
        let limit = recorder.capabilities.max_compute_workgroup_storage_size as usize;
        if memory > limit {
            let what = format!("{} needs {memory} bytes of workgroup memory, the device has {limit}", self.label());
            return Err(Error::device(what, "use --device cpu for a model of so many note units"));
        }
        let Offsets { chosen, recurrent1, input2, recurrent2, head, head_bias, bins, bins_bias } = self.offsets;
        let matrices = [chosen, recurrent1, input2, recurrent2, head, head_bias, bins, bins_bias];
        let most = recorder.parts_in_time(self.pieces, usize::MAX).max(1);
        for (first, pieces) in chunks(self.pieces, most) {
            let cost = recorder.share(pieces, self.pieces);
            let (two, binned) = (self.channels == 2, self.bins > 0);
            let [two, binned, scalar] = [two, binned, !two && !binned].map(usize::from);
            let consts = [("H1", units1), ("H2", units2), ("TWO", two), ("BINNED", binned), ("SCALAR", scalar)];
            let mut shader = shader!("note_sweep", "main", []);
            shader.consts.extend(consts.map(|(name, value)| (name, value as u32)));
            if binned == 1 {
                shader.consts.push(("BINS", self.bins as u32));
            }
            let dispatch = recorder.dispatch(shader, cost);
            let bound = (0..5).fold(dispatch, |dispatch, arg| dispatch.read_all(arg));
            let bound = (5..8).fold(bound, |dispatch, arg| dispatch.write_all(arg));
            let words = bound.words(&[first, pieces, self.pieces, self.notes, self.window]).words(&matrices);
            let words = words.words(&self.units);
            words.step().groups(pieces);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{TensorId, View};

    #[test]
    fn too_many_units_for_a_workgroup_are_an_error_that_names_the_limit() {
        let offsets = Offsets::default();
        let record = |units: usize| {
            let units = [units; 2];
            let weights = 4 * units[0] * units[0];
            let op = NoteSweep { pieces: 1, notes: 48, units, channels: 3, bins: 0, window: 1, weights, offsets };
            let views: Vec<View> = op
                .args()
                .iter()
                .map(|arg| View { tensor: TensorId(0), start: 0, len: arg.len, format: arg.format })
                .collect();
            Recorder::record(&op, "portable", &Capabilities::portable(), &views)
                .map(|recorded| recorded.dispatches.len())
        };
        assert_eq!(record(504).unwrap(), 1);
        let error = record(505).unwrap_err().to_string();
        assert!(error.contains("H=505") && error.contains("16384") && error.contains("`device` cpu"), "{error}");
    }
}
