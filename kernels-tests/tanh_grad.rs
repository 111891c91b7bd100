//! Cases of `src/ops/tanh_grad.rs`: four roundings an element. It has no gradient; those of `gemm` go through it.

use crate::ops::tanh_grad::TanhGrad;

use super::harness::{Bounded, Case, Fill, Operands};

fn reference(_: &TanhGrad, operands: &Operands) -> Vec<Vec<Bounded>> {
    let dx = |(&y, &dy): (&Bounded, &Bounded)| dy * (Bounded::ONE - y * y);
    vec![operands["y"].iter().zip(operands["dy"].iter()).map(dx).collect()]
}

pub fn cases() -> Vec<Case> {
    let case = |len| Case::new(TanhGrad { len }, reference).fill("y", Fill::Within(1.0)).fill("dy", Fill::Within(3.0));
    vec![
        case(1),
        case(67),
        case(1024).note("whole workgroups"),
        case(4099),
        case(131).fill("y", Fill::Signs(1.0)).note("saturated"),
        case(35_003).small_bindings(),
        case(4700).small_grid(),
        case(4099).small_budget(),
    ]
}
