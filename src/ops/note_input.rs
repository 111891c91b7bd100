//! From the time axis to the note axis: transposes, applies dropout, and appends the values chosen for the next-lower
//! note (paper, section II-B; docs/MODEL.md, "Note axis").

use rayon::prelude::*;
use serde::Serialize;

use super::dropout::DropoutSite;
use super::gemm::padded_width;
use super::recorder::{Building, chunks, shader};
use super::{Arg, Args, Cost, Op, Real, Recorder, Tape, Uniforms, View, cpu_both, half_label};
use crate::error::Result;
use crate::gpu::{Capabilities, Format};

/// `y[n, (t, b), :] = h[t, b, n, :] * mask ++ chosen[t, b, n - 1, :] * mask`, zeros below the lowest note.
///
/// Operands: `h [T, B, N, H]`, `chosen [T, B, N, C]`, `y [N, T * B, H + C]` in rows padded with zeros ([`NoteInput::row`]).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NoteInput {
    /// T * B.
    pub rows: usize,
    /// N.
    pub notes: usize,
    /// H.
    pub units: usize,
    /// C, values of a chosen note.
    pub channels: usize,
    /// Dropout of the time axis' output.
    pub drop: DropoutSite,
    /// Dropout of the chosen notes.
    pub chosen_drop: DropoutSite,
    /// Format of `h`, `y` and their gradients.
    pub stored: Format,
}

/// `dh[t, b, n, :] = mask * dy[n, (t, b), ..H]`. Operands: `dy [N, T * B, H + C]` in padded rows, `dh [T, B, N, H]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NoteInputGrad(pub NoteInput);

impl NoteInput {
    fn cells(&self) -> usize {
        self.rows * self.notes
    }

    fn width(&self) -> usize {
        self.units + self.channels
    }

    /// Elements of a row of the result.
    pub fn row(&self) -> usize {
        padded_width(self.width())
    }

    fn blocks(&self, recorder: &Recorder<'_>) -> Vec<Block> {
        Block::all(recorder, (self.rows, self.notes), &[self.units, self.channels], self.row())
    }

    fn run_on_cpu<R: Real>(&self, uniforms: &Uniforms, args: Args<'_, R>) {
        let ([h, chosen], [y]) = args.take();
        let (rows, notes, units, row) = (self.rows, self.notes, self.units, self.row());
        y.par_chunks_mut(row).enumerate().for_each(|(i, y)| {
            let (n, r) = (i / rows, i % rows);
            let cell = r * notes + n;
            let (y_h, rest) = y.split_at_mut(units);
            let (y_chosen, padding) = rest.split_at_mut(self.channels);
            padding.fill(R::ZERO);
            self.drop.apply(uniforms, cell * units, &h[cell * units..][..units], y_h);
            for (j, y) in y_chosen.iter_mut().enumerate() {
                *y = if n == 0 {
                    R::ZERO
                } else {
                    let lower = (cell - 1) * self.channels + j;
                    chosen[lower] * self.chosen_drop.factor::<R>(uniforms, lower)
                };
            }
        });
    }
}

/// Some rows and notes of operands that stand row by row on one side and note by note on the other: what one dispatch
/// transposes.
#[derive(Clone, Copy)]
pub(super) struct Block {
    pub first_row: usize,
    pub rows: usize,
    pub first_note: usize,
    pub notes: usize,
    /// All rows and notes.
    of: (usize, usize),
}

impl Block {
    /// Cuts `rows` and `notes` into blocks of which one dispatch can do each. Operands that stand row by row have `row_widths`
    /// elements a cell, those that stand note by note `note_width`.
    pub fn all(
        recorder: &Recorder<'_>,
        (rows, notes): (usize, usize),
        row_widths: &[usize],
        note_width: usize,
    ) -> Vec<Self> {
        // What stands note by note spans whole notes, unless a block has but one note.
        let most_notes = recorder.rows_per_binding(&[rows * note_width]);
        let mut widths: Vec<usize> = row_widths.iter().map(|width| notes * width).collect();
        widths.push(note_width);
        let mut blocks = vec![];
        for (first_row, rows_of_block) in recorder.row_chunks(rows, &widths) {
            for (first_note, notes_of_block) in chunks(notes, most_notes) {
                let of = (rows, notes);
                blocks.push(Self { first_row, rows: rows_of_block, first_note, notes: notes_of_block, of });
            }
        }
        blocks
    }

    /// What the block costs of an op of all rows and notes.
    pub fn cost(&self, recorder: &Recorder<'_>) -> Cost {
        recorder.share(self.rows * self.notes, self.of.0 * self.of.1)
    }

    /// Start and length of the block's rows, all notes, in an operand `[rows, N, width]`.
    pub fn of_rows(&self, width: usize) -> (usize, usize) {
        (self.first_row * self.of.1 * width, self.rows * self.of.1 * width)
    }

    /// Start and length of what the block spans in an operand `[N, rows, width]`.
    pub fn of_notes(&self, width: usize) -> (usize, usize) {
        let start = self.first_note * self.of.0 + self.first_row;
        let len = (self.notes - 1) * self.of.0 + self.rows;
        (start * width, len * width)
    }

    /// The block and the sizes that it is cut from, as words.
    pub fn words<'r, 'a>(&self, building: Building<'r, 'a>) -> Building<'r, 'a> {
        let (rows, notes) = self.of;
        [self.first_row, self.rows, self.first_note, self.notes, rows, notes].into_iter().fold(building, Building::word)
    }
}

impl NoteInputGrad {
    fn run_on_cpu<R: Real>(&self, uniforms: &Uniforms, args: Args<'_, R>) {
        let ([dy], [dh]) = args.take();
        let (rows, notes, units, row) = (self.0.rows, self.0.notes, self.0.units, self.0.row());
        dh.par_chunks_mut(units).enumerate().for_each(|(cell, dh)| {
            let (r, n) = (cell / notes, cell % notes);
            self.0.drop.apply(uniforms, cell * units, &dy[(n * rows + r) * row..][..units], dh);
        });
    }
}

impl Op for NoteInput {
    fn name(&self) -> &'static str {
        "note_input"
    }

    fn label(&self) -> String {
        let half = half_label(self.stored);
        format!("note_input forward rows={} N={} H={}{half}", self.rows, self.notes, self.units)
    }

    fn args(&self) -> Vec<Arg> {
        vec![
            Arg::read("h", self.cells() * self.units).stored(self.stored),
            // That of the highest note is for none above it.
            Arg::read("chosen", self.cells() * self.channels).moving((self.cells() - self.rows) * self.channels),
            Arg::write("y", self.cells() * self.row()).stored(self.stored),
        ]
    }

    /// One multiplication an element, but for the zeros below the lowest note.
    fn cost(&self) -> Cost {
        let zeros = self.rows * self.channels;
        Cost { flops: (self.cells() * self.width() - zeros) as u64, bytes: self.operand_bytes() }
    }

    cpu_both!();

    fn variants(&self, _: &Capabilities) -> Vec<&'static str> {
        vec!["portable"]
    }

    fn record(&self, _: &str, recorder: &mut Recorder<'_>) -> Result<()> {
        for block in self.blocks(recorder) {
            let (h, chosen) = (block.of_rows(self.units), block.of_rows(self.channels));
            let y = block.of_notes(self.row());
            let building = recorder
                .dispatch(shader!("note_input", "forward", [], [("S", self.stored)]), block.cost(recorder))
                .read(0, h.0, h.1)
                .read(1, chosen.0, chosen.1)
                .write(2, y.0, y.1);
            let building = block.words(building).words(&[self.units, self.channels, self.row()]);
            let building = self.chosen_drop.words(self.drop.words(building));
            building.step().groups((block.rows * block.notes * self.row()).div_ceil(256));
        }
        Ok(())
    }

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
        let half = half_label(self.0.stored);
        format!("note_input backward rows={} N={} H={}{half}", self.0.rows, self.0.notes, self.0.units)
    }

    fn args(&self) -> Vec<Arg> {
        let cells = self.0.cells();
        let stored = self.0.stored;
        vec![
            Arg::read("dy", cells * self.0.row()).stored(stored).moving(cells * self.0.units),
            Arg::write("dh", cells * self.0.units).stored(stored),
        ]
    }

    fn cost(&self) -> Cost {
        Cost { flops: (self.0.cells() * self.0.units) as u64, bytes: self.operand_bytes() }
    }

    cpu_both!();

    fn variants(&self, _: &Capabilities) -> Vec<&'static str> {
        vec!["portable"]
    }

    fn record(&self, _: &str, recorder: &mut Recorder<'_>) -> Result<()> {
        let NoteInput { units, drop, .. } = self.0;
        for block in self.0.blocks(recorder) {
            let (dy, dh) = (block.of_notes(self.0.row()), block.of_rows(units));
            let building = recorder
                .dispatch(shader!("note_input", "backward", [], [("S", self.0.stored)]), block.cost(recorder))
                .read(0, dy.0, dy.1)
                .write(1, dh.0, dh.1);
            let building = drop.words(block.words(building).word(units).word(self.0.row()));
            building.step().groups((block.rows * block.notes * units).div_ceil(256));
        }
        Ok(())
    }
}
