//! Cases of `src/ops/dropout.rs`: a division and a multiplication an element. The mask's bits are compared in
//! `tests/gpu.rs` too.

use crate::gpu::Format::{F16, F32};
use crate::ops::Uniforms;
use crate::ops::dropout::{Dropout, DropoutSite};
use crate::ops::random::keep_mask;
use crate::shape::Slots;

use super::harness::{Bounded, Builder, Case, Fill, Gradient, Operands};

/// The factor of element `index`: exactly 0, or 1 / (1 - rate) with the error of a division. The element's number is the one
/// that it has in the whole batch.
pub fn factor(drop: DropoutSite, uniforms: &Uniforms, index: usize) -> Bounded {
    let DropoutSite { site, rate, inner } = drop;
    let index = match uniforms.slots {
        Slots { count, total, .. } if count == total => index,
        Slots { first, count, total } => {
            let (row, slot, within) = (index / inner / count, index / inner % count, index % inner);
            (row * total + first + slot) * inner + within
        }
    };
    match keep_mask(index as u32, site, rate, uniforms.seed, uniforms.update) {
        1.0 => Bounded::ONE,
        0.0 => Bounded::ZERO,
        value => Bounded::quotient(value),
    }
}

fn reference(op: &Dropout, operands: &Operands) -> Vec<Vec<Bounded>> {
    let kept = |(i, &x): (usize, &Bounded)| x * factor(op.drop, operands.uniforms, i);
    vec![operands["x"].iter().enumerate().map(kept).collect()]
}

pub fn cases() -> Vec<Case> {
    let stored = |len, rate, stored| {
        Case::new(Dropout { len, drop: DropoutSite { site: 17, rate, inner: 1 }, stored }, reference)
            .fill("x", Fill::Within(2.0))
    };
    let case = |len, rate| stored(len, rate, F32);
    // Some slots of a batch, 7 elements each.
    let of_batch = |first, count, stored| {
        let drop = DropoutSite { site: 17, rate: 0.4, inner: 7 };
        let uniforms = Uniforms { slots: Slots { first, count, total: 5 }, seed: 3, update: 8, ..Uniforms::default() };
        let op = Dropout { len: 6 * count * 7, drop, stored };
        Case::new(op, reference)
            .fill("x", Fill::Within(2.0))
            .uniforms(uniforms)
            .note(&format!("slots {first}+{count} of 5"))
    };
    let late = Uniforms { seed: u32::MAX, update: u32::MAX, ..Uniforms::default() };
    vec![
        case(1, 0.5),
        case(1009, 0.2),
        case(4096, 0.5),
        case(300, 0.0).note("keeps all"),
        case(300, 0.999).note("drops almost all"),
        case(517, 0.5).uniforms(late).note("largest counters"),
        case(33_013, 0.5).small_bindings(),
        case(4700, 0.5).small_grid(),
        case(1009, 0.2).small_budget(),
        stored(1, 0.5, F16),
        stored(1009, 0.2, F16),
        stored(33_013, 0.5, F16).small_bindings(),
        of_batch(0, 2, F32),
        of_batch(2, 3, F32),
        of_batch(4, 1, F16),
    ]
}

pub fn gradients() -> Vec<Gradient> {
    let dropped = |g: &mut Builder| {
        let (x, y) = (g.hidden(40), g.temp(40));
        g.apply(Dropout { len: 40, drop: DropoutSite { site: 3, rate: 0.4, inner: 1 }, stored: F32 }, &[x, y]);
        vec![y]
    };
    vec![Gradient::new("dropout", dropped)]
}
