//! Cases of `src/ops/carry.rs`: a zero is exact, a kept row is multiplied once.

use crate::gpu::Format::{F16, F32};
use crate::ops::RowGroups;
use crate::ops::carry::{Carry, Source};

use super::harness::{Bounded, Case, Fill, Operands};

fn reference(op: &Carry, operands: &Operands) -> Vec<Vec<Bounded>> {
    let element = |i: usize| match op.source {
        Source::Zero => Bounded::ZERO,
        Source::Keep(groups) => {
            let sequence = i / op.width / groups.inner % groups.sequences;
            operands["x"][i] * operands["keep"][sequence]
        }
    };
    vec![(0..op.rows * op.width).map(element).collect()]
}

pub fn cases() -> Vec<Case> {
    let stored = |rows, width, source, stored| {
        let case = Case::new(Carry { rows, width, source, stored }, reference);
        match source {
            Source::Zero => case,
            Source::Keep(_) => case.fill("x", Fill::Within(1.0)).fill("keep", Fill::Bits(0.5)),
        }
    };
    let case = |rows, width, source| stored(rows, width, source, [F32; 2]);
    let keep = |inner, sequences| Source::Keep(RowGroups { inner, sequences });
    vec![
        case(1, 1, Source::Zero),
        case(37, 29, Source::Zero),
        case(700, 31, Source::Zero).small_bindings(),
        case(1, 1, keep(1, 1)),
        case(39, 29, keep(13, 3)),
        case(30, 7, keep(1, 6)).note("interleaved"),
        case(32, 32, keep(8, 4)).note("whole workgroups"),
        case(32, 32, Source::Zero).note("whole workgroups"),
        case(39, 16, keep(13, 3)).fill("keep", Fill::Constant(0.0)).note("all start anew"),
        case(39, 16, keep(13, 3)).fill("keep", Fill::Constant(1.0)).note("all carry on"),
        case(720, 31, keep(48, 15)).small_bindings(),
        case(76, 64, Source::Zero).small_grid(),
        case(76, 64, keep(12, 5)).small_grid(),
        case(37, 29, Source::Zero).small_budget(),
        case(39, 29, keep(13, 3)).small_budget(),
        stored(37, 29, Source::Zero, [F32, F16]),
        stored(37, 29, Source::Zero, [F16, F16]),
        stored(39, 29, keep(13, 3), [F32, F16]),
        stored(720, 31, keep(48, 15), [F32, F16]).small_bindings(),
    ]
}
