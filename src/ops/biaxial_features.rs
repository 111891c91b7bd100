//! What the time axis of the Biaxial LSTM sees of each note, in the order of its author's code (docs/MODEL.md, "The Biaxial
//! LSTM"): all of it is computed from the notes and from indices.

use rayon::prelude::*;
use serde::Serialize;

use super::features::OCTAVE;
use super::recorder::shader;
use super::{Arg, Args, Cost, Op, Real, Recorder, Uniforms, cpu_both, half_label};
use crate::error::Result;
use crate::gpu::{Capabilities, Format};

/// Notes below and above a note that it sees.
const REACH: usize = 12;
/// Values of a cell: play and replay.
const CHANNELS: usize = 2;
/// Bits of the time step in its bar.
const BEAT_BITS: usize = 4;
/// Columns before the neighbourhood: note index, pitch class.
const BEFORE: usize = 1 + OCTAVE;
/// Columns of the neighbourhood.
const AROUND: usize = (2 * REACH + 1) * CHANNELS;
/// Columns of the result.
pub const WIDTH: usize = BEFORE + AROUND + OCTAVE + BEAT_BITS + 1;

/// Joins, in this order: note index `n` (1), pitch class one-hot (12), play and replay of the 25 notes from 12 below to 12
/// above, zero beyond the range (50), how many notes of each pitch class sound in this step, from the note's own class up (12),
/// the lowest four bits of the time step as -1 or 1, lowest first (4), and a 1 (1).
///
/// Operands: `notes [T, B, N, 2]`, `start [B]` (index in the piece of the first step; may be negative), `y [T, B, N, 80]`. There is
/// no gradient: all is the model's input.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BiaxialFeatures {
    /// T.
    pub steps: usize,
    /// B.
    pub batch: usize,
    /// N.
    pub notes: usize,
    /// MIDI pitch of note 0, which decides the pitch classes.
    pub lowest: usize,
    /// Format of `y`.
    pub stored: Format,
}

impl BiaxialFeatures {
    fn cells(&self) -> usize {
        self.steps * self.batch * self.notes
    }

    fn run_on_cpu<R: Real>(&self, _: &Uniforms, args: Args<'_, R>) {
        let ([notes, start], [y]) = args.take();
        let n_notes = self.notes;
        y.par_chunks_mut(n_notes * WIDTH).enumerate().for_each(|(tb, y)| {
            let notes = &notes[tb * n_notes * CHANNELS..][..n_notes * CHANNELS];
            let mut counts = [R::ZERO; OCTAVE];
            for (n, note) in notes.chunks_exact(CHANNELS).enumerate() {
                counts[(self.lowest + n) % OCTAVE] += note[0];
            }
            let (t, b) = (tb / self.batch, tb % self.batch);
            let time = (start[b].to_f64() as i64 + t as i64).rem_euclid(1 << BEAT_BITS);
            for (n, y) in y.chunks_exact_mut(WIDTH).enumerate() {
                y.fill(R::ZERO);
                let class = (self.lowest + n) % OCTAVE;
                y[0] = R::of(n as f64);
                y[1 + class] = R::ONE;
                // Of the neighbourhood what lies in the range.
                let (from, to) = (n.saturating_sub(REACH), (n + REACH + 1).min(n_notes));
                let first = BEFORE + (from + REACH - n) * CHANNELS;
                y[first..][..(to - from) * CHANNELS].copy_from_slice(&notes[from * CHANNELS..to * CHANNELS]);
                let (around, rest) = (BEFORE + AROUND, BEFORE + AROUND + OCTAVE);
                (0..OCTAVE).for_each(|j| y[around + j] = counts[(class + j) % OCTAVE]);
                (0..BEAT_BITS).for_each(|bit| y[rest + bit] = R::of((2 * (time >> bit & 1) - 1) as f64));
                y[WIDTH - 1] = R::ONE;
            }
        });
    }
}

impl Op for BiaxialFeatures {
    fn name(&self) -> &'static str {
        "biaxial_features"
    }

    fn label(&self) -> String {
        format!("biaxial_features T={} B={} N={}{}", self.steps, self.batch, self.notes, half_label(self.stored))
    }

    fn args(&self) -> Vec<Arg> {
        let cells = self.cells();
        vec![
            Arg::read("notes", cells * CHANNELS),
            Arg::read("start", self.batch),
            Arg::write("y", cells * WIDTH).stored(self.stored),
        ]
    }

    /// One addition for each note's count.
    fn cost(&self) -> Cost {
        Cost { flops: self.cells() as u64, bytes: self.operand_bytes() }
    }

    cpu_both!();

    fn variants(&self, _: &Capabilities) -> Vec<&'static str> {
        vec!["portable"]
    }

    fn record(&self, _: &str, recorder: &mut Recorder<'_>) -> Result<()> {
        let [notes, y] = [CHANNELS, WIDTH].map(|width| self.notes * width);
        let rows = self.steps * self.batch;
        for (first, count) in recorder.row_chunks(rows, &[notes, y]) {
            recorder
                .dispatch(shader!("biaxial_features", "main", [], [("S", self.stored)]), recorder.share(count, rows))
                .read(0, first * notes, count * notes)
                .read_all(1)
                .write(2, first * y, count * y)
                .words(&[first, count, self.batch, self.notes, self.lowest])
                .groups((count * y).div_ceil(256));
        }
        Ok(())
    }
}
