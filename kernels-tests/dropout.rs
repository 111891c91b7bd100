//! Cases of `src/ops/dropout.rs`: a division and a multiplication an element. The mask's bits are compared in
//! `tests/gpu.rs` too.

use crate::gpu::Format::{F16, F32};
use crate::ops::Step;
use crate::ops::dropout::{Drop, Dropout};
use crate::ops::random::keep_mask;

use super::harness::{Bounded, Builder, Case, Fill, Gradient, Operands};

/// The factor of element `index`: exactly 0, or 1 / (1 - rate) with the error of a division.
pub fn factor(drop: Drop, step: &Step, index: usize) -> Bounded {
    let Drop { site, rate } = drop;
    match keep_mask(index as u32, site, rate, step.seed, step.step) {
        1.0 => Bounded::ONE,
        0.0 => Bounded::ZERO,
        value => Bounded::quotient(value),
    }
}

fn reference(op: &Dropout, operands: &Operands) -> Vec<Vec<Bounded>> {
    let kept = |(i, &x): (usize, &Bounded)| x * factor(op.drop, operands.step, i);
    vec![operands["x"].iter().enumerate().map(kept).collect()]
}

pub fn cases() -> Vec<Case> {
    let stored = |len, rate, stored| {
        Case::new(Dropout { len, drop: Drop { site: 17, rate }, stored }, reference).fill("x", Fill::Within(2.0))
    };
    let case = |len, rate| stored(len, rate, F32);
    let late = Step { seed: u32::MAX, step: u32::MAX, ..Step::default() };
    vec![
        case(1, 0.5),
        case(1009, 0.2),
        case(4096, 0.5),
        case(300, 0.0).note("keeps all"),
        case(300, 0.999).note("drops almost all"),
        case(517, 0.5).step(late).note("largest counters"),
        case(33_013, 0.5).small_bindings(),
        case(4700, 0.5).small_grid(),
        case(1009, 0.2).small_budget(),
        stored(1, 0.5, F16),
        stored(1009, 0.2, F16),
        stored(33_013, 0.5, F16).small_bindings(),
    ]
}

pub fn gradients() -> Vec<Gradient> {
    let dropped = |g: &mut Builder| {
        let (x, y) = (g.hidden(40), g.temp(40));
        g.apply(Dropout { len: 40, drop: Drop { site: 3, rate: 0.4 }, stored: F32 }, &[x, y]);
        vec![y]
    };
    vec![Gradient::new("dropout", dropped)]
}
