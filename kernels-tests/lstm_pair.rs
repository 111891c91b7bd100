//! Cases of `src/ops/lstm_pair.rs`: the formulas of two layers, one time step after the other. As in `lstm`, the bounds grow along the
//! sequence.

use crate::gpu::Format::{F16, F32};
use crate::ops::cast::Cast;
use crate::ops::dropout::DropoutSite;
use crate::ops::lstm_pair::{LstmPair, LstmPairGrad, Pair};
use crate::ops::{RowGroups, Uniforms, View};
use crate::shape::Slots;

use super::dropout::factor;
use super::harness::operands::InPlace;
use super::harness::{Bounded, Builder, Case, Fill, Gradient, Operands};
use super::lstm::{cell, cell_grad};

fn forward(op: &LstmPair, operands: &Operands) -> Vec<Vec<Bounded>> {
    let Pair { steps, rows, units: [lower, upper], weights: [recurrent, input, upper_recurrent], drop, stored, .. } =
        op.pair;
    let (weights, bias) = (&operands["weights"], &operands["bias"]);
    let weight = |start: usize, k: usize, units: usize, column: usize| weights[start + k * 4 * units + column];
    let [mut gates, mut h, mut x, mut upper_gates, mut upper_h, mut c] =
        ["gates", "h", "x", "upper_gates", "upper_h", "c"].map(|name| operands[name].in_place());
    let cells = rows * (lower + upper);
    for t in 0..steps {
        for r in 0..rows {
            let before = (t * rows + r) * lower;
            for j in 0..lower {
                let place = |gate: usize| 4 * before + gate * lower + j;
                let z = [0, 1, 2, 3].map(|gate| {
                    let column = gate * lower + j;
                    let pairs = (0..lower).map(|k| (h[before + k], weight(recurrent, k, lower, column)));
                    Bounded::dot(gates[place(gate)], pairs)
                });
                let (c_before, after) = (t * cells + r * lower + j, before + rows * lower + j);
                let activated;
                (activated, c[c_before + cells], h[after]) = cell(z, c[c_before]);
                h[after] = h[after].rounded(stored);
                x[before + j] = (h[after] * factor(drop, operands.uniforms, before + j)).rounded(stored);
                (0..4).for_each(|gate| gates[place(gate)] = activated[gate]);
            }
        }
        for r in 0..rows {
            let (below, before) = ((t * rows + r) * lower, (t * rows + r) * upper);
            for j in 0..upper {
                let z = [0, 1, 2, 3].map(|gate| {
                    let column = gate * upper + j;
                    let from_below = (0..lower).map(|k| (x[below + k], weight(input, k, upper, column)));
                    let from_before =
                        (0..upper).map(|k| (upper_h[before + k], weight(upper_recurrent, k, upper, column)));
                    let start = bias[op.groups.of(r) * 4 * upper + column];
                    Bounded::dot(start, from_below.chain(from_before))
                });
                let (c_before, after) = (t * cells + rows * lower + r * upper + j, before + rows * upper + j);
                let activated;
                (activated, c[c_before + cells], upper_h[after]) = cell(z, c[c_before]);
                upper_h[after] = upper_h[after].rounded(stored);
                (0..4).for_each(|gate| upper_gates[4 * before + gate * upper + j] = activated[gate]);
            }
        }
    }
    [gates, h, x, upper_gates, upper_h, c].map(InPlace::end).into()
}

fn backward(op: &LstmPairGrad, operands: &Operands) -> Vec<Vec<Bounded>> {
    let Pair { steps, rows, units: [lower, upper], weights: [recurrent, input, upper_recurrent], drop, stored, .. } =
        op.pair;
    let (weights, dh, c) = (&operands["weights"], &operands["dh"], &operands["c"]);
    let [mut gates, mut upper_gates] = ["gates", "upper_gates"].map(|name| operands[name].in_place());
    let cells = rows * (lower + upper);
    let (mut dc, mut upper_dc) = (vec![Bounded::ZERO; rows * lower], vec![Bounded::ZERO; rows * upper]);
    // Row `unit` of a matrix [., 4 units] with the gradients of the gates of one row of one step.
    let back = |start: Bounded, of: &InPlace, first: usize, (matrix, unit, units): (usize, usize, usize)| {
        Bounded::dot(start, (0..4 * units).map(|k| (of[first + k], weights[matrix + unit * 4 * units + k])))
    };
    for t in (0..steps).rev() {
        for r in 0..rows {
            for j in 0..upper {
                let (place, at) = ((t * rows + r) * 4 * upper, r * upper + j);
                let mut dh = dh[t * rows * upper + at];
                if t + 1 < steps {
                    dh = back(dh, &upper_gates, place + rows * 4 * upper, (upper_recurrent, j, upper));
                }
                let c_before = t * cells + rows * lower + at;
                let grads = cell_grad(
                    [0, 1, 2, 3].map(|gate| upper_gates[place + gate * upper + j]),
                    c[c_before],
                    c[c_before + cells],
                    dh,
                    &mut upper_dc[at],
                );
                (0..4).for_each(|gate| upper_gates[place + gate * upper + j] = grads[gate].rounded(stored));
            }
        }
        for r in 0..rows {
            for j in 0..lower {
                let (place, at) = ((t * rows + r) * 4 * lower, r * lower + j);
                let above = back(Bounded::ZERO, &upper_gates, (t * rows + r) * 4 * upper, (input, j, upper));
                let mut dh = above * factor(drop, operands.uniforms, t * rows * lower + at);
                if t + 1 < steps {
                    dh = back(dh, &gates, place + rows * 4 * lower, (recurrent, j, lower));
                }
                let c_before = t * cells + at;
                let grads = cell_grad(
                    [0, 1, 2, 3].map(|gate| gates[place + gate * lower + j]),
                    c[c_before],
                    c[c_before + cells],
                    dh,
                    &mut dc[at],
                );
                (0..4).for_each(|gate| gates[place + gate * lower + j] = grads[gate].rounded(stored));
            }
        }
    }
    vec![gates.end(), upper_gates.end(), vec![Bounded::ANYTHING; cells]]
}

/// Sizes with some parameters before, between and behind the three matrices.
fn pair(steps: usize, rows: usize, [lower, upper]: [usize; 2], rate: f32) -> Pair {
    let input = 8 + lower * 4 * lower + 16;
    let upper_recurrent = input + lower * 4 * upper + 4;
    Pair {
        steps,
        rows,
        units: [lower, upper],
        weights_len: upper_recurrent + upper * 4 * upper + 12,
        weights: [8, input, upper_recurrent],
        drop: DropoutSite { site: 18, rate, inner: lower },
        weights_in: F32,
        stored: F32,
    }
}

fn cases_of(pair: Pair, groups: RowGroups) -> [Case; 2] {
    let Pair { rows, units: [lower, upper], .. } = pair;
    let scale = 1.0 / (lower.max(upper) as f32).sqrt();
    [
        Case::new(LstmPair { pair, groups }, forward)
            .fill("weights", Fill::Within(scale))
            .fill("bias", Fill::Within(1.0))
            .fill("gates", Fill::Within(2.0))
            .fill("h", Fill::Within(1.0).only_first(rows * lower))
            .fill("upper_h", Fill::Within(1.0).only_first(rows * upper))
            .fill("c", Fill::Within(1.5).only_first(rows * (lower + upper))),
        Case::new(LstmPairGrad { pair }, backward)
            .fill("weights", Fill::Within(scale))
            .fill("dh", Fill::Within(1.0))
            .fill("c", Fill::Within(1.5))
            .fill("gates", Fill::Gates(lower))
            .fill("upper_gates", Fill::Gates(upper)),
    ]
    .map(Case::by_vectors)
}

pub fn cases() -> Vec<Case> {
    const ONE: RowGroups = RowGroups { inner: 1, sequences: 1 };
    let mut cases = vec![];
    // One step; one row; a lower layer that is wider, and one that is narrower; as many rows as tiles have, and more.
    for (steps, rows, units) in
        [(1, 1, [32, 32]), (1, 5, [64, 32]), (4, 1, [32, 32]), (3, 17, [32, 64]), (2, 64, [64, 64]), (2, 67, [96, 32])]
    {
        cases.extend(cases_of(pair(steps, rows, units, 0.4), ONE));
    }
    cases.extend(cases_of(pair(2, 3, [256, 128], 0.5), ONE));
    cases.extend(cases_of(pair(3, 9, [32, 32], 0.0), ONE).map(|case| case.note("without dropout")));
    // Two of a batch's five slots, of three rows each, with a bias for each.
    let mut two = pair(3, 6, [32, 32], 0.4);
    two.drop.inner = 3 * 32;
    let uniforms =
        Uniforms { slots: Slots { first: 1, count: 2, total: 5 }, seed: 3, update: 8, ..Uniforms::default() };
    let of_two = cases_of(two, RowGroups { inner: 3, sequences: 2 });
    cases.extend(of_two.map(|case| case.uniforms(uniforms).note("slots 1+2 of 5")));
    cases.extend(cases_of(pair(2, 67, [96, 32], 0.4), ONE).map(Case::small_grid));
    // Drivers compile these kernels for long, so one pair of formats stands for all.
    let halves = Pair { weights_in: F16, stored: F16, ..pair(2, 19, [32, 64], 0.4) };
    cases.extend(cases_of(halves, ONE));
    cases
}

pub fn gradients() -> Vec<Gradient> {
    let of = |steps: usize, rows: usize, units: [usize; 2]| {
        Gradient::new(
            format!("lstm pair T={steps} rows={rows} H={} G={}", units[0], units[1]),
            move |g: &mut Builder| {
                let [lower, upper] = units;
                let mut pair = pair(steps, rows, units, 0.4);
                // One parameter behind the other, as a network has them.
                let matrices = [lower * 4 * lower, lower * 4 * upper, upper * 4 * upper].map(|len| g.param(len, 0.5));
                let from = matrices[0].start;
                pair.weights = matrices.map(|matrix| matrix.start - from);
                pair.weights_len = pair.weights[2] + matrices[2].len;
                let weights = View { len: pair.weights_len, ..matrices[0] };
                let gates = g.hidden(steps * rows * 4 * lower);
                let bias = g.hidden(4 * upper);
                let [x, upper_gates] = [lower, 4 * upper].map(|width| g.temp(steps * rows * width));
                let [h, upper_h, c] = [lower, upper, lower + upper].map(|width| {
                    let (start, all) = (g.input(rows * width, 1.0), g.temp((steps + 1) * rows * width));
                    let copy = Cast { len: rows * width, from: F32, to: F32 };
                    g.apply(copy, &[start, all.slice(0, rows * width)]);
                    all
                });
                let groups = RowGroups { inner: 1, sequences: 1 };
                g.apply(LstmPair { pair, groups }, &[weights, bias, gates, h, x, upper_gates, upper_h, c]);
                vec![upper_h.slice(rows * upper, steps * rows * upper)]
            },
        )
    };
    vec![of(1, 2, [3, 2]), of(3, 2, [2, 3])]
}
