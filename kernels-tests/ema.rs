//! Cases of `src/ops/ema.rs`: four roundings a parameter. It has no gradient.

use crate::ops::ema::Ema;

use super::harness::{Bounded, Case, Fill, Operands};

fn reference(op: &Ema, operands: &Operands) -> Vec<Vec<Bounded>> {
    let mut mean = operands["mean"].in_place();
    if operands["squared_norm"][0].value.is_finite() {
        // Exact in f32, as the decay is at least 1/2 (Sterbenz).
        let (decay, rest) = (Bounded::exact(op.decay), Bounded::exact(1.0 - f64::from(op.decay)));
        for (i, &p) in operands["p"].iter().enumerate() {
            mean[i] = decay * mean[i] + rest * p;
        }
    }
    vec![mean.end()]
}

fn case(len: usize) -> Case {
    Case::new(Ema { len, decay: 0.9 }, reference)
        .fill("squared_norm", Fill::Constant(7.0))
        .fill("p", Fill::Within(0.5))
        .fill("mean", Fill::Within(0.5))
}

pub fn cases() -> Vec<Case> {
    let norm = |value: f32, note: &str| case(301).fill("squared_norm", Fill::Constant(value)).note(note);
    vec![
        case(1),
        case(61),
        case(1024),
        case(5003),
        case(517).fill("mean", Fill::Constant(0.0)).note("first update"),
        norm(f32::INFINITY, "infinite norm").shortcut(),
        norm(f32::NAN, "norm not a number").shortcut(),
        case(40_009).small_bindings(),
        case(4700).small_grid(),
        case(5003).small_budget(),
    ]
}
