//! Cases of `src/ops/nadam.rs`: 17 operations a parameter, a root and a division among them.

use crate::ops::Uniforms;
use crate::ops::nadam::Nadam;

use super::harness::bounded::uncounted;
use super::harness::operands::InPlace;
use super::harness::{Bounded, Case, Fill, Operands};

/// What gradients of this squared norm are multiplied with; once an update, so it is not counted.
pub fn gradient_scale(uniforms: &Uniforms, squared_norm: Bounded) -> Bounded {
    uncounted(|| {
        let norm = squared_norm.sqrt() * Bounded::exact(uniforms.unscale);
        let clips = uniforms.clip_norm > 0.0 && norm.value > f64::from(uniforms.clip_norm);
        let clip = if clips { Bounded::exact(uniforms.clip_norm) / norm } else { Bounded::ONE };
        clip * Bounded::exact(uniforms.unscale)
    })
}

fn reference(op: &Nadam, operands: &Operands) -> Vec<Vec<Bounded>> {
    let (uniforms, squared_norm) = (operands.uniforms, operands["squared_norm"][0]);
    let [mut p, mut m, mut v] = ["p", "m", "v"].map(|name| operands[name].in_place());
    if !squared_norm.value.is_finite() {
        return [p, m, v].map(InPlace::end).into();
    }
    let exact = |x: f32| Bounded::exact(x);
    // 1 - beta is exact in f32 where beta is at least 1/2 (Sterbenz).
    let rest = |beta: f32| Bounded::exact(1.0 - f64::from(beta));
    let scale = gradient_scale(uniforms, squared_norm);
    for (i, &g) in operands["g"].iter().enumerate() {
        let g = g * scale;
        m[i] = exact(op.beta1) * m[i] + rest(op.beta1) * g;
        v[i] = exact(op.beta2) * v[i] + rest(op.beta2) * g * g;
        let ahead = exact(uniforms.factors[1]) * g + exact(uniforms.factors[0]) * m[i];
        let spread = (exact(uniforms.factors[2]) * v[i]).sqrt() + exact(op.epsilon);
        p[i] = p[i] - exact(uniforms.lr) * ahead / spread;
    }
    [p, m, v].map(InPlace::end).into()
}

fn uniforms(clip_norm: f32) -> Uniforms {
    Uniforms { lr: 0.002, factors: [0.71, 0.29, 41.3], clip_norm, ..Uniforms::default() }
}

fn case(len: usize) -> Case {
    Case::new(Nadam { len, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }, reference)
        .fill("g", Fill::Within(0.1))
        .fill("squared_norm", Fill::Constant(7.0))
        .fill("p", Fill::Within(0.5))
        .fill("m", Fill::Within(0.05))
        .fill("v", Fill::Uniform(0.0, 1e-3))
        .uniforms(uniforms(0.0))
}

pub fn cases() -> Vec<Case> {
    let start = |case: Case| {
        let zero = || Fill::Constant(0.0);
        let uniforms = Uniforms { factors: [0.71, 0.29, 1000.0], ..uniforms(0.0) };
        case.fill("m", zero()).fill("v", zero()).uniforms(uniforms).note("first update")
    };
    let norm = |value: f32, note: &str| {
        case(301).fill("squared_norm", Fill::Constant(value)).uniforms(uniforms(1.0)).note(note)
    };
    let scaled = |clip: f32, note: &str| {
        let uniforms = Uniforms { unscale: 1.0 / 1024.0, ..uniforms(clip) };
        case(301).fill("g", Fill::Within(100.0)).fill("squared_norm", Fill::Constant(7e4)).uniforms(uniforms).note(note)
    };
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
        scaled(1.0, "loss scale"),
        scaled(1e-3, "loss scale and clip"),
        case(40_009).small_bindings(),
        case(4700).small_grid(),
        case(5003).small_budget(),
    ]
}
