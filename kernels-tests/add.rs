//! Cases of `src/ops/add.rs`: one correctly rounded addition an element.

use crate::gpu::Format::{F16, F32};
use crate::ops::add::Add;
use crate::ops::gemm::{Gemm, Layout};
use crate::ops::octave_conv::{OctaveConv, Shape};

use super::harness::{Bounded, Builder, Case, Fill, Gradient, Operands};

fn reference(_: &Add, operands: &Operands) -> Vec<Vec<Bounded>> {
    vec![operands["y"].iter().zip(operands["x"].iter()).map(|(&y, &x)| y + x).collect()]
}

pub fn cases() -> Vec<Case> {
    let stored = |len, stored| {
        Case::new(Add { len, stored }, reference).fill("x", Fill::Within(2.0)).fill("y", Fill::Within(1.0))
    };
    let case = |len| stored(len, F32);
    vec![
        case(1),
        case(61),
        case(64),
        case(1024).note("whole workgroups"),
        case(5003),
        case(40_009).small_bindings(),
        case(4700).small_grid(),
        case(5003).small_budget(),
        stored(1, F16),
        stored(5003, F16),
        stored(40_009, F16).small_bindings(),
    ]
}

/// A value used twice, where the op whose gradient comes second cannot add to what is there: `Add` joins the two.
pub fn gradients() -> Vec<Gradient> {
    let twice = |g: &mut Builder| {
        let shape = Shape { rows: 2, notes: 6, channels: 3, taps: 5, filters: 2 };
        let (x, conv, gemm) = (g.hidden(36), g.temp(24), g.temp(24));
        let (weight, bias) = (g.param(30, 0.5), g.param(2, 0.5));
        g.apply(OctaveConv(shape), &[x, weight, bias, conv]);
        let weight = g.param(6, 1.0);
        g.apply(Gemm::new(Layout::NN, 12, 2, 3), &[x, weight, gemm]);
        vec![conv, gemm]
    };
    vec![Gradient::new("add joins gradients", twice).through("add")]
}
