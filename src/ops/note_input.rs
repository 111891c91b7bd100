//! From the time axis to the note axis: turns the layout, applies dropout, and appends the triple chosen for the
//! next-lower note (paper, section II-B; spec, section 2.6).

use rayon::prelude::*;

use super::dropout::Drop;
use super::{Arg, Args, Cost, Op, Real, Step, Tape, View, mirror_both};

/// Channels of a note: play, replay, dynamics.
pub const CHANNELS: usize = 3;

/// `y[n, (t, b), :] = h[t, b, n, :] * mask ++ chosen[t, b, n - 1, :] * mask`, zeros below the lowest note.
///
/// Operands: `h [T, B, N, H]`, `chosen [T, B, N, 3]`, `y [N, T * B, H + 3]`.
#[derive(Clone, Debug, PartialEq)]
pub struct NoteInput {
    /// T * B.
    pub rows: usize,
    /// N.
    pub notes: usize,
    /// H.
    pub units: usize,
    /// Dropout of the time axis' output.
    pub drop: Drop,
    /// Dropout of the chosen notes.
    pub chosen_drop: Drop,
}

/// `dh[t, b, n, :] = mask * dy[n, (t, b), ..H]`. Operands: `dy [N, T * B, H + 3]`, `dh [T, B, N, H]`.
#[derive(Clone, Debug, PartialEq)]
pub struct NoteInputGrad(pub NoteInput);

impl NoteInput {
    fn cells(&self) -> usize {
        self.rows * self.notes
    }

    fn width(&self) -> usize {
        self.units + CHANNELS
    }

    fn mirror<R: Real>(&self, step: &Step, args: Args<'_, R>) {
        let ([h, chosen], [y]) = args.take();
        let (rows, notes, units, width) = (self.rows, self.notes, self.units, self.width());
        y.par_chunks_mut(width).enumerate().for_each(|(i, y)| {
            let (n, r) = (i / rows, i % rows);
            let cell = r * notes + n;
            let (y_h, y_chosen) = y.split_at_mut(units);
            for (j, (y, &h)) in y_h.iter_mut().zip(&h[cell * units..][..units]).enumerate() {
                *y = h * self.drop.factor::<R>(step, cell * units + j);
            }
            for (j, y) in y_chosen.iter_mut().enumerate() {
                *y = if n == 0 {
                    R::ZERO
                } else {
                    let lower = (cell - 1) * CHANNELS + j;
                    chosen[lower] * self.chosen_drop.factor::<R>(step, lower)
                };
            }
        });
    }
}

impl NoteInputGrad {
    fn mirror<R: Real>(&self, step: &Step, args: Args<'_, R>) {
        let ([dy], [dh]) = args.take();
        let (rows, notes, units, width) = (self.0.rows, self.0.notes, self.0.units, self.0.width());
        dh.par_chunks_mut(units).enumerate().for_each(|(cell, dh)| {
            let (r, n) = (cell / notes, cell % notes);
            for (j, (dh, &dy)) in dh.iter_mut().zip(&dy[(n * rows + r) * width..]).enumerate() {
                *dh = dy * self.0.drop.factor::<R>(step, cell * units + j);
            }
        });
    }
}

impl Op for NoteInput {
    fn name(&self) -> &'static str {
        "note_input"
    }

    fn label(&self) -> String {
        format!("note_input forward rows={} N={} H={}", self.rows, self.notes, self.units)
    }

    fn args(&self) -> Vec<Arg> {
        vec![
            Arg::read("h", self.cells() * self.units),
            Arg::read("chosen", self.cells() * CHANNELS),
            Arg::write("y", self.cells() * self.width()),
        ]
    }

    /// One multiplication an element, but for the zeros below the lowest note.
    fn cost(&self) -> Cost {
        let zeros = self.rows * CHANNELS;
        Cost { flops: (self.cells() * self.width() - zeros) as u64, bytes: self.operand_bytes() }
    }

    mirror_both!();

    /// The chosen notes get no gradient: they are the targets.
    fn gradient(&self, tape: &mut dyn Tape, operands: &[View]) {
        let Some(dy) = tape.grad(operands[2]) else { return };
        tape.contribute(operands[0], Box::new(NoteInputGrad(self.clone())), &[dy]);
    }
}

impl Op for NoteInputGrad {
    fn name(&self) -> &'static str {
        "note_input"
    }

    fn label(&self) -> String {
        format!("note_input backward rows={} N={} H={}", self.0.rows, self.0.notes, self.0.units)
    }

    fn args(&self) -> Vec<Arg> {
        let cells = self.0.cells();
        vec![Arg::read("dy", cells * self.0.width()), Arg::write("dh", cells * self.0.units)]
    }

    fn cost(&self) -> Cost {
        Cost { flops: (self.0.cells() * self.0.units) as u64, bytes: self.operand_bytes() }
    }

    mirror_both!();
}
