//! Generation along the note axis: from the lowest note to the highest, two LSTM layers, three heads and the coin flips,
//! each note seeing what was chosen for the one below (paper, sections II-B and IV-B).

use rayon::prelude::*;

use super::lstm::cell;
use super::note_input::CHANNELS;
use super::random::{pcg4d, uniform01};
use super::real::{Mat, dot, matmul, transposed, vectorized};
use super::recorder::{chunks, shader};
use super::{Arg, Args, Cost, Op, Real, Recorder, Step, mirror_both};
use crate::error::{Error, Result};
use crate::gpu::Capabilities;

/// Values that the sweep reports of each note: play, replay, dynamics, and the probabilities of the two coin flips.
pub const REPORTED: usize = CHANNELS + 2;
/// Values of a piece's state: the clock and the number of silent steps so far.
pub const STATE: usize = 2;

/// Where the sweep's weights stand in its operand `weights`, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// `[3, 4H]`: the rows of the first layer's input matrix that take the lower note.
    pub chosen: usize,
    /// `[H, 4H]`: the first layer's recurrent matrix.
    pub recurrent1: usize,
    /// `[H, 4H]`: the second layer's input matrix.
    pub input2: usize,
    /// `[H, 4H]`: the second layer's recurrent matrix.
    pub recurrent2: usize,
    /// `[H, 3]`: the heads.
    pub head: usize,
    /// `[3]`: the heads' biases.
    pub head_bias: usize,
}

/// One time step of generation for `pieces` pieces.
///
/// A note is played with probability `sigmoid(logit / T)`, `T = temperature + silence * (silent steps so far)`; a played
/// note that sounded in the step before is re-attacked by a second coin flip; its dynamics is the head's value clamped
/// to 0..1. Coins depend on seed, time step, piece and note alone. With `Step::forced` set, notes are taken from
/// `forced` instead, and only the states move.
///
/// Operands:
/// - `weights [weights]`: see [`Offsets`];
/// - `input [pieces, N, 4H]`: the first layer's input products with biases, without the lower note's part;
/// - `bias2 [pieces, 4H]`: the second layer's biases with the style's part;
/// - `forced [window, pieces, N, 3]`;
/// - `notes [pieces, N, 3]`: on entry the notes of the step before, on exit those of this step;
/// - `state [2, pieces]`: clocks (index in the piece of the step on entry; advanced by one), then silent steps so far;
/// - `roll [window, pieces, N, 5]`: row `clock mod window` receives notes and probabilities.
#[derive(Clone, Debug, PartialEq)]
pub struct NoteSweep {
    /// Pieces composed together.
    pub pieces: usize,
    /// N.
    pub notes: usize,
    /// H, units of both note layers.
    pub units: usize,
    /// Time steps that `roll` holds.
    pub window: usize,
    /// Elements of the operand `weights`.
    pub weights: usize,
    /// Where each matrix stands in it.
    pub offsets: Offsets,
}

impl NoteSweep {
    fn mirror<R: Real>(&self, step: &Step, args: Args<'_, R>) {
        let ([weights, input, bias2, forced], [notes, state, roll]) = args.take();
        let per_piece = self.notes * CHANNELS;
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
                let mut report = vec![R::ZERO; clocks.len() * self.notes * REPORTED];
                if step.forced != 0.0 {
                    for (p, (notes, &clock)) in notes.chunks_exact_mut(per_piece).zip(&*clocks).enumerate() {
                        let start = (row(clock) * self.pieces + first + p) * per_piece;
                        notes.copy_from_slice(&forced[start..start + per_piece]);
                    }
                } else {
                    let now = Now { first, clocks, silences };
                    self.sweep(step, now, [weights, input, bias2], notes, &mut report);
                }
                for (report, note) in report.chunks_exact_mut(REPORTED).zip(notes.chunks_exact(CHANNELS)) {
                    report[..CHANNELS].copy_from_slice(note);
                }
                for (notes, silent) in notes.chunks_exact(per_piece).zip(silences) {
                    let rests = notes.iter().step_by(CHANNELS).all(|&play| play == R::ZERO);
                    *silent = if rests { *silent + R::ONE } else { R::ZERO };
                }
                report
            })
            .collect();
        let per_report = self.notes * REPORTED;
        let reports = reports.iter().flat_map(|report| report.chunks_exact(per_report));
        for (piece, (report, &clock)) in reports.zip(&*clocks).enumerate() {
            roll[(row(clock) * self.pieces + piece) * per_report..][..per_report].copy_from_slice(report);
        }
    }

    /// Samples the notes of the pieces whose rows `notes` and `report` hold.
    fn sweep<R: Real>(
        &self,
        step: &Step,
        now: Now<'_, R>,
        [weights, input, bias2]: [&[R]; 3],
        notes: &mut [R],
        report: &mut [R],
    ) {
        let (n_notes, h, first) = (self.notes, self.units, now.first);
        let pieces = now.clocks.len();
        let matrix = |offset: usize, rows: usize, cols: usize| Mat::new(&weights[offset..], rows, cols, cols);
        let chosen_w = matrix(self.offsets.chosen, CHANNELS, 4 * h);
        let recurrent1 = matrix(self.offsets.recurrent1, h, 4 * h);
        let input2 = matrix(self.offsets.input2, h, 4 * h);
        let recurrent2 = matrix(self.offsets.recurrent2, h, 4 * h);
        let head = transposed(&weights[self.offsets.head..][..h * CHANNELS], h, CHANNELS);
        let head_bias = &weights[self.offsets.head_bias..][..CHANNELS];
        let zeros = || vec![R::ZERO; pieces * h];
        let (mut h1, mut c1, mut h2, mut c2, mut c_before) = (zeros(), zeros(), zeros(), zeros(), zeros());
        let mut gates = vec![R::ZERO; pieces * 4 * h];
        let mut lower = vec![R::ZERO; pieces * CHANNELS];
        let mut logits = vec![R::ZERO; pieces * CHANNELS];
        let mut activate = |gates: &mut [R], c: &mut [R], h_out: &mut [R]| {
            c_before.copy_from_slice(c);
            vectorized(
                #[inline(always)]
                || {
                    for p in 0..pieces {
                        let unit = p * h..(p + 1) * h;
                        let gates = &mut gates[p * 4 * h..(p + 1) * 4 * h];
                        cell(gates, &c_before[unit.clone()], &mut c[unit.clone()], &mut h_out[unit]);
                    }
                },
            );
        };
        for n in 0..n_notes {
            for (p, gates) in gates.chunks_exact_mut(4 * h).enumerate() {
                gates.copy_from_slice(&input[((first + p) * n_notes + n) * 4 * h..][..4 * h]);
            }
            matmul(&mut gates, 4 * h, Mat::new(&lower, pieces, CHANNELS, CHANNELS), chosen_w, true, false);
            matmul(&mut gates, 4 * h, Mat::new(&h1, pieces, h, h), recurrent1, true, false);
            activate(&mut gates, &mut c1, &mut h1);
            gates.copy_from_slice(&bias2[first * 4 * h..][..pieces * 4 * h]);
            matmul(&mut gates, 4 * h, Mat::new(&h1, pieces, h, h), input2, true, false);
            matmul(&mut gates, 4 * h, Mat::new(&h2, pieces, h, h), recurrent2, true, false);
            activate(&mut gates, &mut c2, &mut h2);
            vectorized(
                #[inline(always)]
                || {
                    for (logit, h2) in logits.chunks_exact_mut(CHANNELS).zip(h2.chunks_exact(h)) {
                        for (i, head) in head.chunks_exact(h).enumerate() {
                            logit[i] = head_bias[i] + dot(h2, head);
                        }
                    }
                },
            );
            for p in 0..pieces {
                let temperature = R::of(step.temperature as f64) + R::of(step.silence as f64) * now.silences[p];
                let clock = now.clocks[p].to_f64() as i64 as u32;
                let coins = pcg4d([n as u32, (first + p) as u32, clock, step.seed]).map(|u| R::of(uniform01(u) as f64));
                let logit = &logits[p * CHANNELS..][..CHANNELS];
                let p_play = (logit[0] / temperature).sigmoid();
                let p_replay = (logit[1] / temperature).sigmoid();
                let cell = p * n_notes + n;
                let sounded = notes[cell * CHANNELS] > R::ZERO;
                let lower = &mut lower[p * CHANNELS..][..CHANNELS];
                lower.fill(R::ZERO);
                if coins[0] < p_play {
                    lower[0] = R::ONE;
                    lower[1] = if sounded && coins[1] < p_replay { R::ONE } else { R::ZERO };
                    lower[2] = clamp01(logit[2]);
                }
                notes[cell * CHANNELS..][..CHANNELS].copy_from_slice(lower);
                report[cell * REPORTED + CHANNELS..][..2].copy_from_slice(&[p_play, p_replay]);
            }
        }
    }
}

/// Some of the pieces: the first one's number, their clocks at the step to be composed and silent steps before it.
struct Now<'a, R> {
    first: usize,
    clocks: &'a [R],
    silences: &'a [R],
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
        format!("note_sweep pieces={} N={} H={}", self.pieces, self.notes, self.units)
    }

    fn args(&self) -> Vec<Arg> {
        let (p, n, h) = (self.pieces, self.notes, self.units);
        let matrices = (CHANNELS + 3 * h) * 4 * h + (h + 1) * CHANNELS;
        vec![
            Arg::read("weights", self.weights).moving(matrices),
            Arg::read("input", p * n * 4 * h),
            Arg::read("bias2", p * 4 * h),
            Arg::read("forced", self.window * p * n * CHANNELS).moving(0),
            // Read is whether the note sounded.
            Arg::write("notes", p * n * CHANNELS).moving(p * n * (1 + CHANNELS)),
            Arg::update("state", p * STATE),
            // One row.
            Arg::write("roll", self.window * p * n * REPORTED).moving(p * n * REPORTED),
        ]
    }

    /// That of a step that samples, not of one that is led. A note costs its products (3 + 3H rows of 4H, H rows of 3), 9
    /// for each of 2H cells, and 6 for two coins.
    fn cost(&self) -> Cost {
        let h = self.units as u64;
        let note = 2 * (3 + 3 * h) * 4 * h + 2 * h * 3 + 2 * h * 9 + 6;
        let (p, n) = (self.pieces as u64, self.notes as u64);
        Cost { flops: p * n * note, bytes: self.operand_bytes() }
    }

    mirror_both!();

    fn variants(&self, _: &Capabilities) -> Vec<&'static str> {
        vec!["portable"]
    }

    /// One workgroup a piece. Operands grow with the number of pieces and are not cut, though the pieces are where all take
    /// too long for a watchdog: a thousand fit the smallest binding that WebGPU allows.
    fn record(&self, _: &str, recorder: &mut Recorder<'_>) -> Result<()> {
        // Both layers' state, one layer's gates, and less than 256 bytes more.
        let memory = 4 * 8 * self.units + 256;
        let limit = recorder.capabilities.max_compute_workgroup_storage_size as usize;
        if memory > limit {
            let what = format!("{} needs {memory} bytes of workgroup memory, the device has {limit}", self.label());
            return Err(Error::device(what, "use --device cpu for a model of so many note units"));
        }
        let Offsets { chosen, recurrent1, input2, recurrent2, head, head_bias } = self.offsets;
        let matrices = [chosen, recurrent1, input2, recurrent2, head, head_bias];
        let most = recorder.parts_in_time(self.pieces, usize::MAX).max(1);
        for (first, pieces) in chunks(self.pieces, most) {
            let cost = recorder.share(pieces, self.pieces);
            let dispatch = recorder.dispatch(shader!("note_sweep", "main", [("H", self.units)]), cost);
            let bound = (0..4).fold(dispatch, |dispatch, arg| dispatch.read_all(arg));
            let bound = (4..7).fold(bound, |dispatch, arg| dispatch.write_all(arg));
            let words = bound.words(&[first, pieces, self.pieces, self.notes, self.window]).words(&matrices);
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
        let offsets = Offsets { chosen: 0, recurrent1: 0, input2: 0, recurrent2: 0, head: 0, head_bias: 0 };
        let record = |units: usize| {
            let op = NoteSweep { pieces: 1, notes: 48, units, window: 1, weights: 4 * units * units, offsets };
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
        assert!(error.contains("H=505") && error.contains("16384") && error.contains("--device cpu"), "{error}");
    }
}
