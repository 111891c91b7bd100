//! Cases of `src/ops/cast.rs`: a copy, rounded to the format that it is stored in.

use crate::gpu::Format::{self, F16, F32};
use crate::ops::cast::Cast;

use super::harness::{Bounded, Case, Fill, Operands};

fn reference(_: &Cast, operands: &Operands) -> Vec<Vec<Bounded>> {
    vec![operands["x"].iter().copied().collect()]
}

pub fn cases() -> Vec<Case> {
    let case = |len, from: Format, to| Case::new(Cast { len, from, to }, reference).fill("x", Fill::Within(2.0));
    vec![
        case(1, F32, F32),
        case(1073, F32, F32),
        case(1024, F32, F32).note("whole workgroups"),
        case(21_700, F32, F32).small_bindings(),
        case(4700, F32, F32).small_grid(),
        case(1073, F32, F32).small_budget(),
        case(1009, F32, F16).small_budget(),
        case(1073, F16, F16),
        case(1, F32, F16),
        case(1009, F32, F16),
        case(1009, F16, F32),
        case(517, F32, F16).fill("x", Fill::Within(1e-6)).note("subnormal halves"),
        case(517, F32, F16).fill("x", Fill::Signs(65_504.0)).note("largest half"),
        case(40_009, F32, F16).small_bindings(),
        case(4700, F32, F16).small_grid(),
    ]
}
