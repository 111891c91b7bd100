//! Cases of `src/ops/adadelta.rs`: about 17 roundings a parameter. It has no gradient.

use crate::ops::Uniforms;
use crate::ops::adadelta::Adadelta;

use super::harness::operands::InPlace;
use super::harness::{Bounded, Case, Fill, Operands};
use super::nadam::gradient_scale;

fn reference(op: &Adadelta, operands: &Operands) -> Vec<Vec<Bounded>> {
    let (uniforms, squared_norm) = (operands.uniforms, operands["squared_norm"][0]);
    let [mut p, mut s, mut d] = ["p", "s", "d"].map(|name| operands[name].in_place());
    if !squared_norm.value.is_finite() {
        return [p, s, d].map(InPlace::end).into();
    }
    let [rho, epsilon, lr] = [op.rho, op.epsilon, uniforms.lr].map(Bounded::exact);
    // Exact in f32, as rho is at least 1/2 (Sterbenz).
    let rest = Bounded::exact(1.0 - f64::from(op.rho));
    let scale = gradient_scale(uniforms, squared_norm);
    for (i, &g) in operands["g"].iter().enumerate() {
        let g = g * scale;
        s[i] = rho * s[i] + rest * g * g;
        let step = g * (d[i] + epsilon).sqrt() / (s[i] + epsilon).sqrt();
        d[i] = rho * d[i] + rest * step * step;
        p[i] = p[i] - lr * step;
    }
    [p, s, d].map(InPlace::end).into()
}

fn uniforms(clip_norm: f32) -> Uniforms {
    Uniforms { lr: 0.7, clip_norm, ..Uniforms::default() }
}

fn case(len: usize) -> Case {
    Case::new(Adadelta { len, rho: 0.95, epsilon: 1e-6 }, reference)
        .fill("g", Fill::Within(0.1))
        .fill("squared_norm", Fill::Constant(7.0))
        .fill("p", Fill::Within(0.5))
        .fill("s", Fill::Uniform(0.0, 1e-2))
        .fill("d", Fill::Uniform(0.0, 1e-4))
        .uniforms(uniforms(0.0))
}

pub fn cases() -> Vec<Case> {
    let start = |case: Case| {
        let zero = || Fill::Constant(0.0);
        case.fill("s", zero()).fill("d", zero()).note("first update")
    };
    let norm = |value: f32, note: &str| {
        case(301).fill("squared_norm", Fill::Constant(value)).uniforms(uniforms(1.0)).note(note)
    };
    let scaled = Uniforms { unscale: 1.0 / 1024.0, ..uniforms(1e-3) };
    vec![
        case(1),
        case(61),
        case(1024),
        case(5003),
        start(case(517)),
        start(case(517)).fill("g", Fill::Constant(0.0)).note("without gradients"),
        norm(16.0, "clipped"),
        norm(0.25, "below the clip"),
        norm(f32::INFINITY, "infinite norm").shortcut(),
        norm(f32::NAN, "norm not a number").shortcut(),
        case(301)
            .fill("g", Fill::Within(100.0))
            .fill("squared_norm", Fill::Constant(7e4))
            .uniforms(scaled)
            .note("loss scale and clip"),
        case(40_009).small_bindings(),
        case(4700).small_grid(),
        case(5003).small_budget(),
    ]
}
