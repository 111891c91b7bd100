//! What the time axis sees of each note: its place, its pitch class, what sounds around it, the beat. Everything but the
//! octave convolution is computed here from indices, so nothing of it is uploaded or stored as a one-hot.

use rayon::prelude::*;
use serde::Serialize;

use super::dropout::DropoutSite;
use super::gemm::padded_width;
use super::recorder::shader;
use super::{Arg, Args, Cost, Op, Real, Recorder, Tape, Uniforms, View, cpu_both, half_label};
use crate::error::Result;
use crate::gpu::{Capabilities, Format};

/// Semitones of an octave.
pub const OCTAVE: usize = 12;
/// Columns before the octave features: pitch position, pitch class, pitch-class count.
pub const BEFORE_OCTAVE: usize = 1 + OCTAVE + 1;

/// Joins, in this order: pitch position `n / N` (1), pitch class one-hot (12), how many notes of this pitch class sound
/// in this step (1), the octave features with dropout, the beat one-hot with dropout (docs/MODEL.md,
/// "Note features").
///
/// Operands: `notes [T, B, N, C]` (already dropped out), `octave [T, B, N, F]`, `start [B]` (index in the piece of the
/// first step, which decides the beat; may be negative), `y [T, B, N, 14 + F + q]`, in rows padded with zeros
/// ([`Features::row`]).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Features {
    /// T.
    pub steps: usize,
    /// B.
    pub batch: usize,
    /// N.
    pub notes: usize,
    /// C, values of a cell of `notes`, the first of which is play.
    pub channels: usize,
    /// MIDI pitch of note 0, which decides the pitch classes.
    pub lowest: usize,
    /// F, columns of the octave features.
    pub octave: usize,
    /// q, steps of a bar.
    pub beats: usize,
    /// Dropout of the octave features.
    pub octave_drop: DropoutSite,
    /// Dropout of the beat: one mask for all notes of a step.
    pub beat_drop: DropoutSite,
    /// Format of `y` and its gradient.
    pub stored: Format,
}

/// `doctave = mask * dy[.., 14 .. 14 + F]`. Operands: `dy [T, B, N, 14 + F + q]` in padded rows, `doctave [T, B, N, F]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FeaturesGrad(pub Features);

impl Features {
    /// Columns of the result.
    pub fn width(&self) -> usize {
        BEFORE_OCTAVE + self.octave + self.beats
    }

    /// Elements of a row of the result.
    pub fn row(&self) -> usize {
        padded_width(self.width())
    }

    fn cells(&self) -> usize {
        self.steps * self.batch * self.notes
    }

    fn run_on_cpu<R: Real>(&self, uniforms: &Uniforms, args: Args<'_, R>) {
        let ([notes, octave, start], [y]) = args.take();
        let (n_notes, width) = (self.notes, self.row());
        y.par_chunks_mut(n_notes * width).enumerate().for_each(|(tb, y)| {
            let notes = &notes[tb * n_notes * self.channels..][..n_notes * self.channels];
            let mut counts = [R::ZERO; OCTAVE];
            for n in 0..n_notes {
                counts[(self.lowest + n) % OCTAVE] += notes[n * self.channels];
            }
            let (t, b) = (tb / self.batch, tb % self.batch);
            let beat = (start[b].to_f64() as i64 + t as i64).rem_euclid(self.beats as i64) as usize;
            let beat_value = self.beat_drop.factor::<R>(uniforms, tb * self.beats + beat);
            for (n, y) in y.chunks_exact_mut(width).enumerate() {
                y.fill(R::ZERO);
                let class = (self.lowest + n) % OCTAVE;
                y[0] = R::of(n as f64 / n_notes as f64);
                y[1 + class] = R::ONE;
                y[1 + OCTAVE] = counts[class];
                let cell = (tb * n_notes + n) * self.octave;
                let of_octave = &mut y[BEFORE_OCTAVE..][..self.octave];
                self.octave_drop.apply(uniforms, cell, &octave[cell..][..self.octave], of_octave);
                y[BEFORE_OCTAVE + self.octave + beat] = beat_value;
            }
        });
    }
}

impl FeaturesGrad {
    fn run_on_cpu<R: Real>(&self, uniforms: &Uniforms, args: Args<'_, R>) {
        let ([dy], [doctave]) = args.take();
        let (f, width) = (self.0.octave, self.0.row());
        doctave.par_chunks_mut(f).zip(dy.par_chunks(width)).enumerate().for_each(|(cell, (doctave, dy))| {
            self.0.octave_drop.apply(uniforms, cell * f, &dy[BEFORE_OCTAVE..][..f], doctave);
        });
    }
}

impl Op for Features {
    fn name(&self) -> &'static str {
        "features"
    }

    fn label(&self) -> String {
        format!(
            "features forward T={} B={} N={} width {}{}",
            self.steps,
            self.batch,
            self.notes,
            self.width(),
            half_label(self.stored)
        )
    }

    fn args(&self) -> Vec<Arg> {
        let cells = self.cells();
        vec![
            // Of each cell, whether the note plays.
            Arg::read("notes", cells * self.channels).moving(cells),
            Arg::read("octave", cells * self.octave),
            Arg::read("start", self.batch),
            Arg::write("y", cells * self.row()).stored(self.stored),
        ]
    }

    /// One multiplication for each octave feature, one addition for each note's count.
    fn cost(&self) -> Cost {
        Cost { flops: (self.cells() * (self.octave + 1)) as u64, bytes: self.operand_bytes() }
    }

    cpu_both!();

    fn variants(&self, _: &Capabilities) -> Vec<&'static str> {
        vec!["portable"]
    }

    fn record(&self, _: &str, recorder: &mut Recorder<'_>) -> Result<()> {
        let [notes, octave, y] = [self.channels, self.octave, self.row()].map(|width| self.notes * width);
        let rows = self.steps * self.batch;
        for (first, count) in recorder.row_chunks(rows, &[notes, octave, y]) {
            let building = recorder
                .dispatch(shader!("features", "forward", [], [("S", self.stored)]), recorder.share(count, rows))
                .read(0, first * notes, count * notes)
                .read(1, first * octave, count * octave)
                .read_all(2)
                .write(3, first * y, count * y)
                .words(&[first, count, self.batch, self.notes, self.channels, self.lowest, self.octave, self.beats])
                .word(self.row());
            let building = self.beat_drop.words(self.octave_drop.words(building));
            building.step().groups((count * y).div_ceil(256));
        }
        Ok(())
    }

    /// The notes get no gradient: they are the model's input.
    fn gradient(&self, tape: &mut dyn Tape, operands: &[View]) {
        let Some(dy) = tape.grad(operands[3]) else { return };
        tape.contribute(operands[1], Box::new(FeaturesGrad(self.clone())), &[dy]);
    }
}

impl Op for FeaturesGrad {
    fn name(&self) -> &'static str {
        "features"
    }

    fn label(&self) -> String {
        format!(
            "features backward T={} B={} N={} width {}{}",
            self.0.steps,
            self.0.batch,
            self.0.notes,
            self.0.width(),
            half_label(self.0.stored)
        )
    }

    fn args(&self) -> Vec<Arg> {
        let cells = self.0.cells();
        vec![
            Arg::read("dy", cells * self.0.row()).stored(self.0.stored).moving(cells * self.0.octave),
            Arg::write("doctave", cells * self.0.octave),
        ]
    }

    fn cost(&self) -> Cost {
        Cost { flops: (self.0.cells() * self.0.octave) as u64, bytes: self.operand_bytes() }
    }

    cpu_both!();

    fn variants(&self, _: &Capabilities) -> Vec<&'static str> {
        vec!["portable"]
    }

    fn record(&self, _: &str, recorder: &mut Recorder<'_>) -> Result<()> {
        let Features { octave, octave_drop: drop, .. } = self.0;
        let width = self.0.row();
        let cells = self.0.cells();
        for (first, count) in recorder.row_chunks(cells, &[width]) {
            let building = recorder
                .dispatch(shader!("features", "backward", [], [("S", self.0.stored)]), recorder.share(count, cells))
                .read(0, first * width, count * width)
                .write(1, first * octave, count * octave)
                .words(&[first, count, octave, width]);
            drop.words(building).step().groups((count * octave).div_ceil(256));
        }
        Ok(())
    }
}
