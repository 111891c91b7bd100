//! Cases of `src/ops/octave_conv.rs`: sums of products in any order that start from the bias, then tanh. Taps beyond the
//! pitch axis are no terms.

use crate::ops::octave_conv::{OctaveConv, OctaveConvInputGrad, OctaveConvWeightGrad, Shape};

use super::harness::{Bounded, Builder, Case, Fill, Gradient, Operands};

/// The input note that tap `k` of output note `n` sees.
fn seen(s: &Shape, n: usize, k: usize) -> Option<usize> {
    (n + k).checked_sub(s.taps / 2).filter(|&m| m < s.notes)
}

fn forward(op: &OctaveConv, operands: &Operands) -> Vec<Vec<Bounded>> {
    let s = &op.0;
    let (x, w, bias) = (&operands["x"], &operands["w"], &operands["bias"]);
    let mut y = vec![];
    for r in 0..s.rows {
        for n in 0..s.notes {
            for f in 0..s.filters {
                let taps = (0..s.taps).filter_map(|k| seen(s, n, k).map(|m| (k, m)));
                let pairs = taps.flat_map(|(k, m)| {
                    (0..s.channels)
                        .map(move |c| ((r * s.notes + m) * s.channels + c, (k * s.channels + c) * s.filters + f))
                });
                y.push(Bounded::dot(bias[f], pairs.map(|(i, j)| (x[i], w[j]))).tanh());
            }
        }
    }
    vec![y]
}

fn weight_grad(op: &OctaveConvWeightGrad, operands: &Operands) -> Vec<Vec<Bounded>> {
    let s = &op.0;
    let (x, dz) = (&operands["x"], &operands["dz"]);
    let mut dw = vec![];
    for k in 0..s.taps {
        for c in 0..s.channels {
            for f in 0..s.filters {
                let places = (0..s.rows).flat_map(|r| (0..s.notes).map(move |n| (r, n)));
                let pairs = places.filter_map(|(r, n)| {
                    let m = seen(s, n, k)?;
                    Some((x[(r * s.notes + m) * s.channels + c], dz[(r * s.notes + n) * s.filters + f]))
                });
                dw.push(Bounded::dot(Bounded::ZERO, pairs));
            }
        }
    }
    vec![dw]
}

fn input_grad(op: &OctaveConvInputGrad, operands: &Operands) -> Vec<Vec<Bounded>> {
    let s = &op.0;
    let (w, dz) = (&operands["w"], &operands["dz"]);
    let mut dx = vec![];
    for r in 0..s.rows {
        for m in 0..s.notes {
            for c in 0..s.channels {
                let places = (0..s.notes).flat_map(|n| (0..s.taps).map(move |k| (n, k)));
                let reached = places.filter(|&(n, k)| seen(s, n, k) == Some(m));
                let pairs = reached.flat_map(|(n, k)| {
                    (0..s.filters)
                        .map(move |f| ((k * s.channels + c) * s.filters + f, (r * s.notes + n) * s.filters + f))
                });
                dx.push(Bounded::dot(Bounded::ZERO, pairs.map(|(i, j)| (w[i], dz[j]))));
            }
        }
    }
    vec![dx]
}

const fn shape(rows: usize, notes: usize, channels: usize, taps: usize, filters: usize) -> Shape {
    Shape { rows, notes, channels, taps, filters }
}

/// One element; an axis of one note; an axis narrower than the taps reach; primes; the model's, with few rows and with
/// the filters of both presets.
const SHAPES: [Shape; 9] = [
    shape(1, 1, 1, 1, 1),
    shape(3, 1, 3, 25, 4),
    shape(2, 7, 3, 25, 5),
    shape(1, 48, 3, 25, 64),
    shape(7, 48, 3, 25, 32),
    shape(19, 13, 3, 5, 8),
    shape(5, 29, 2, 7, 11),
    shape(67, 11, 3, 25, 16),
    shape(3, 31, 3, 25, 65),
];

fn cases_of(s: Shape) -> [Case; 3] {
    [
        Case::new(OctaveConv(s), forward)
            .fill("x", Fill::Roll(0.4))
            .fill("w", Fill::Within(0.5))
            .fill("bias", Fill::Within(0.5)),
        Case::new(OctaveConvWeightGrad(s), weight_grad).fill("x", Fill::Roll(0.4)).fill("dz", Fill::Within(1.0)),
        Case::new(OctaveConvInputGrad(s), input_grad).fill("w", Fill::Within(0.5)).fill("dz", Fill::Within(1.0)),
    ]
}

pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = SHAPES.into_iter().flat_map(cases_of).collect();
    let s = shape(3, 17, 3, 25, 12);
    let [all, all_grad, _] = cases_of(s);
    cases.push(all.fill("x", Fill::Constant(1.0)).note("all play"));
    cases.push(all_grad.fill("x", Fill::Constant(1.0)).note("all play"));
    let [silent, silent_grad, _] = cases_of(s);
    cases.push(silent.fill("x", Fill::Constant(0.0)).note("silent"));
    cases.push(silent_grad.fill("x", Fill::Constant(0.0)).note("silent"));
    let [far, ..] = cases_of(s);
    cases.push(far.fill("bias", Fill::Signs(1e4)).note("pre-activations 1e4"));
    let [near, ..] = cases_of(s);
    let near = near.fill("x", Fill::Constant(0.0)).fill("bias", Fill::Magnitudes(1e-5, 0.1));
    cases.push(near.note("pre-activations near 0"));
    cases.extend(cases_of(shape(4, 16, 3, 5, 8)).map(|case| case.note("whole workgroups")));
    cases.extend(cases_of(shape(83, 13, 3, 5, 17)).map(Case::small_bindings));
    cases.extend(cases_of(shape(441, 13, 3, 3, 2)).map(Case::small_bindings));
    cases.extend(cases_of(shape(31, 13, 3, 7, 33)).map(Case::small_grid));
    let [forward, weight_grad, input_grad] = cases_of(shape(23, 13, 3, 5, 9)).map(Case::small_budget);
    cases.extend([forward, weight_grad.sums_parts(), input_grad]);
    cases
}

pub fn gradients() -> Vec<Gradient> {
    let check = |name: &str, s: Shape| {
        Gradient::new(format!("octave_conv {name}"), move |g: &mut Builder| {
            let (x, y) = (g.hidden(s.rows * s.notes * s.channels), g.temp(s.rows * s.notes * s.filters));
            let (w, bias) = (g.param(s.taps * s.channels * s.filters, 0.3), g.param(s.filters, 0.3));
            g.apply(OctaveConv(s), &[x, w, bias, y]);
            vec![y]
        })
    };
    vec![check("5 taps", shape(3, 9, 3, 5, 4)), check("more taps than notes", shape(2, 4, 3, 7, 2))]
}
