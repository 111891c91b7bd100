//! Cases of `src/ops/note_input.rs`: each element is moved and multiplied once.

use crate::gpu::Format::{F16, F32};
use crate::ops::Uniforms;
use crate::ops::dropout::DropoutSite;
use crate::ops::note_input::{NoteInput, NoteInputGrad};
use crate::shape::Slots;

use super::dropout::factor;
use super::harness::{Bounded, Builder, Case, Fill, Gradient, Operands};

fn forward(op: &NoteInput, operands: &Operands) -> Vec<Vec<Bounded>> {
    let (h, chosen, c) = (&operands["h"], &operands["chosen"], op.channels);
    let mut y = vec![];
    for n in 0..op.notes {
        for r in 0..op.rows {
            let cell = r * op.notes + n;
            for j in cell * op.units..(cell + 1) * op.units {
                y.push(h[j] * factor(op.drop, operands.uniforms, j));
            }
            match n {
                0 => y.extend(vec![Bounded::ZERO; c]),
                _ => y.extend(
                    (c * (cell - 1)..c * cell).map(|j| chosen[j] * factor(op.chosen_drop, operands.uniforms, j)),
                ),
            }
            y.extend(vec![Bounded::ZERO; (op.units + c).next_multiple_of(8) - op.units - c]);
        }
    }
    vec![y]
}

fn backward(op: &NoteInputGrad, operands: &Operands) -> Vec<Vec<Bounded>> {
    let op = &op.0;
    let (dy, width) = (&operands["dy"], (op.units + op.channels).next_multiple_of(8));
    let element = |i: usize| {
        let (cell, j) = (i / op.units, i % op.units);
        let (r, n) = (cell / op.notes, cell % op.notes);
        dy[(n * op.rows + r) * width + j] * factor(op.drop, operands.uniforms, i)
    };
    vec![(0..op.rows * op.notes * op.units).map(element).collect()]
}

fn op(rows: usize, notes: usize, units: usize, [rate, chosen_rate]: [f32; 2]) -> NoteInput {
    let (drop, chosen_drop) =
        (DropoutSite { site: 17, rate, inner: 1 }, DropoutSite { site: 4, rate: chosen_rate, inner: 1 });
    NoteInput { rows, notes, units, channels: 3, drop, chosen_drop, stored: F32 }
}

fn cases_of(op: NoteInput) -> [Case; 2] {
    [
        Case::new(op.clone(), forward).fill("h", Fill::Within(1.0)).fill("chosen", Fill::Roll(0.5)),
        Case::new(NoteInputGrad(op), backward).fill("dy", Fill::Within(1.0)),
    ]
}

pub fn cases() -> Vec<Case> {
    const ON: [f32; 2] = [0.4, 0.2];
    let mut cases = vec![];
    for op in [op(1, 1, 1, ON), op(1, 48, 256, ON), op(7, 48, 16, ON), op(19, 13, 29, ON), op(37, 1, 5, ON)] {
        cases.extend(cases_of(op));
    }
    cases.extend(cases_of(op(5, 11, 24, [0.0, 0.0])).map(|case| case.note("without dropout")));
    cases.extend(cases_of(op(16, 16, 5, ON)).map(|case| case.note("whole workgroups")));
    let [all, _] = cases_of(op(5, 7, 8, ON));
    cases.push(all.fill("chosen", Fill::Constant(1.0)).note("all chosen"));
    // Play and replay alone, of two of a batch's five slots.
    let slots = Slots { first: 1, count: 2, total: 5 };
    let mut two = NoteInput { channels: 2, ..op(6, 7, 5, ON) };
    (two.drop.inner, two.chosen_drop.inner) = (7 * 5, 7 * 2);
    let uniforms = Uniforms { slots, seed: 3, update: 8, ..Uniforms::default() };
    cases.extend(cases_of(two).map(|case| case.uniforms(uniforms).note("two channels, slots 1+2 of 5")));
    cases.extend(cases_of(op(67, 11, 29, ON)).map(Case::small_bindings));
    cases.extend(cases_of(op(31, 13, 16, ON)).map(Case::small_grid));
    cases.extend(cases_of(op(19, 13, 29, ON)).map(Case::small_budget));
    for op in [op(1, 1, 1, ON), op(19, 13, 29, ON)] {
        cases.extend(cases_of(NoteInput { stored: F16, ..op }));
    }
    cases.extend(cases_of(NoteInput { stored: F16, ..op(67, 11, 29, ON) }).map(Case::small_bindings));
    cases
}

pub fn gradients() -> Vec<Gradient> {
    let transposed = |g: &mut Builder| {
        let op = op(4, 5, 6, [0.4, 0.2]);
        let (h, chosen, y) = (g.hidden(120), g.input(60, 1.0), g.temp(20 * op.row()));
        g.apply(op, &[h, chosen, y]);
        vec![y]
    };
    vec![Gradient::new("note_input", transposed)]
}
