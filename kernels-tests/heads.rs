//! Cases of `src/ops/heads.rs`: a sum of H products a logit, softplus and a product or a square of it, and sums over the
//! rows of a part in any order.

use crate::gpu::Format::{F16, F32};
use crate::ops::Uniforms;
use crate::ops::dropout::DropoutSite;
use crate::ops::heads::{Head, HeadSet, Heads, HeadsInputGrad, HeadsWeightGrad, Score, Shape};

use crate::shape::Slots;

use super::dropout::factor;
use super::harness::{Bounded, Builder, Case, Fill, Gradient, Operands};

/// The features after their dropout.
fn features(s: &Shape, operands: &Operands) -> Vec<Bounded> {
    let x = &operands["x"];
    let dropped = |i: usize| match s.drop.rate {
        0.0 => x[i],
        _ => x[i] * factor(s.drop, operands.uniforms, i),
    };
    (0..s.notes * s.rows * s.units).map(dropped).collect()
}

/// Rows of a part.
const RUN: usize = 128;

/// Number, note and rows of every part.
fn parts(s: &Shape) -> impl Iterator<Item = (usize, usize, std::ops::Range<usize>)> + use<> {
    let s = *s;
    let of_note = move |n| (0..s.rows).step_by(RUN).map(move |first| (n, first..(first + RUN).min(s.rows)));
    (0..s.notes).flat_map(of_note).enumerate().map(|(part, (n, rows))| (part, n, rows))
}

fn forward(op: &Heads, operands: &Operands) -> Vec<Vec<Bounded>> {
    let (s, c) = (&op.0, op.0.heads.len());
    let (w, bias) = (&operands["w"], &operands["bias"]);
    let (target, weight) = (&operands["target"], &operands["weight"]);
    let x = features(s, operands);
    let (mut losses, mut logit_grads) = (vec![], vec![]);
    for (_, n, rows) in parts(s) {
        let mut terms = vec![vec![]; c];
        for r in rows {
            let (i, j) = (n * s.rows + r, (r * s.notes + n) * s.heads.channels());
            for (head, &Head { score, masked }) in s.heads.heads().iter().enumerate() {
                let z = Bounded::dot(bias[head], (0..s.units).map(|k| (x[i * s.units + k], w[k * c + head])));
                let y = target[j + head];
                let (loss, grad) = match score {
                    Score::Squared => {
                        let error = z - y;
                        (error.squared(), error.doubled())
                    }
                    Score::Binary => (z.softplus() - y * z, z.sigmoid() - y),
                };
                let weight = weight[r * s.heads.channels() + head];
                let scale = if masked { weight * target[j] } else { weight };
                terms[head].push(scale * loss);
                logit_grads.push(scale * grad);
            }
        }
        losses.extend(terms.into_iter().map(|terms| Bounded::sum(Bounded::ZERO, terms)));
    }
    vec![losses, logit_grads]
}

/// `logit_grads * dlosses` of every cell, head by head.
fn dlogits(s: &Shape, operands: &Operands) -> Vec<Bounded> {
    let (grads, dlosses, c) = (&operands["logit_grads"], &operands["dlosses"], s.heads.len());
    let of_part = |(part, n, rows): (usize, usize, std::ops::Range<usize>)| {
        let of_cell =
            move |r: usize| (0..c).map(move |head| grads[(n * s.rows + r) * c + head] * dlosses[part * c + head]);
        rows.flat_map(of_cell)
    };
    parts(s).flat_map(of_part).collect()
}

fn input_grad(op: &HeadsInputGrad, operands: &Operands) -> Vec<Vec<Bounded>> {
    let (s, w, d, c) = (&op.0, &operands["w"], dlogits(&op.0, operands), op.0.heads.len());
    let of = |i: usize| {
        let (cell, j) = (i / s.units, i % s.units);
        let sum = Bounded::dot(Bounded::ZERO, (0..c).map(|head| (d[cell * c + head], w[j * c + head])));
        if s.drop.rate == 0.0 { sum } else { sum * factor(s.drop, operands.uniforms, i) }
    };
    vec![(0..s.notes * s.rows * s.units).map(of).collect()]
}

fn weight_grad(op: &HeadsWeightGrad, operands: &Operands) -> Vec<Vec<Bounded>> {
    let (s, d, c) = (&op.0, dlogits(&op.0, operands), op.0.heads.len());
    let x = features(s, operands);
    let (mut dw, mut dbias) = (vec![], vec![]);
    for (_, n, rows) in parts(s) {
        let cells = || rows.clone().map(|r| n * s.rows + r);
        for j in 0..s.units {
            let head = |head| Bounded::dot(Bounded::ZERO, cells().map(|i| (x[i * s.units + j], d[i * c + head])));
            dw.extend((0..c).map(head));
        }
        dbias.extend((0..c).map(|head| Bounded::sum(Bounded::ZERO, cells().map(|i| d[i * c + head]))));
    }
    vec![dw, dbias]
}

fn shape(rows: usize, notes: usize, units: usize) -> Shape {
    Shape { rows, notes, units, heads: HeadSet::performance(true), drop: DropoutSite::NONE, stored: F32 }
}

fn forward_case(shape: Shape) -> Case {
    let (rows, notes) = (shape.rows, shape.notes);
    // Of a row in five nothing counts, and of others not every head.
    let channels = shape.heads.channels();
    let counts = |i: usize| i / channels % 5 != 3 && i % 4 != 2;
    let weight = (0..rows * channels).map(|i| if counts(i) { 1.0 / (rows * notes) as f32 } else { 0.0 }).collect();
    let target = match shape.heads.channels() {
        3 => Fill::Roll(0.4),
        c => Fill::Values((0..rows * notes * c).map(|i| f32::from(i % 7 < 3 && i % c < 2)).collect()),
    };
    Case::new(Heads(shape), forward)
        .fill("x", Fill::Within(1.0))
        .fill("w", Fill::Within(4.0 / (shape.units as f32).sqrt()))
        .fill("bias", Fill::Within(1.0))
        .fill("target", target)
        .fill("weight", Fill::Values(weight))
}

/// The three ops on one shape.
fn cases_of(shape: Shape) -> [Case; 3] {
    let backward = |case: Case| case.fill("logit_grads", Fill::Within(1.0)).fill("dlosses", Fill::Uniform(0.5, 2.0));
    [
        forward_case(shape),
        backward(Case::new(HeadsInputGrad(shape), input_grad)).fill("w", Fill::Within(1.0)),
        backward(Case::new(HeadsWeightGrad(shape), weight_grad)).fill("x", Fill::Within(1.0)),
    ]
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    // One of each; the model's; a part and one cell less or more; features beside a power of two and beyond a workgroup.
    for (rows, notes, units) in
        [(1, 1, 1), (1, 48, 16), (37, 1, 7), (128, 2, 128), (127, 3, 32), (129, 3, 17), (300, 2, 33), (65, 2, 300)]
    {
        cases.extend(cases_of(shape(rows, notes, units)));
    }
    let special = |note: &str| forward_case(shape(70, 5, 12)).note(note);
    for stored in [F32, F16] {
        cases.extend(cases_of(Shape { heads: HeadSet::performance(false), stored, ..shape(70, 5, 12) }));
        // Play and replay alone, as a model without dynamics has them.
        cases.extend(cases_of(Shape { heads: HeadSet::notes(true), stored, ..shape(131, 4, 17) }));
        // The same of a target that has dynamics, which others predict.
        cases.extend(cases_of(Shape { heads: HeadSet::notes(true).of_channels(3), stored, ..shape(131, 4, 17) }));
    }
    cases.push(special("silent").fill("target", Fill::Constant(0.0)));
    cases.push(special("all play").fill("target", Fill::Constant(1.0)));
    cases.push(special("logits 1e4").fill("bias", Fill::Values(vec![1e4, -1e4, 1e4])));
    cases.push(special("no weight").fill("weight", Fill::Constant(0.0)));
    // Notes are cut, then rows and notes.
    cases.extend(cases_of(shape(150, 7, 40)).map(Case::small_bindings));
    cases.extend(cases_of(shape(700, 13, 9)).map(Case::small_bindings));
    cases.extend(cases_of(shape(130, 20, 3)).map(Case::small_grid));
    cases.extend(cases_of(shape(700, 3, 9)).map(Case::small_budget));
    // Features that are dropped, of two of a batch's five slots, in parts of a binding and of a budget.
    let slots = Slots { first: 1, count: 2, total: 5 };
    let uniforms = Uniforms { slots, seed: 3, update: 8, ..Uniforms::default() };
    let dropping =
        |shape: Shape, rate: f32| Shape { drop: DropoutSite { site: 19, rate, inner: shape.units }, ..shape };
    for stored in [F32, F16] {
        for of in [shape(130, 3, 17), shape(70, 5, 128)] {
            let of = Shape { stored, ..dropping(of, 0.4) };
            cases.extend(cases_of(of).map(|case| case.uniforms(uniforms).note("slots 1+2 of 5")));
        }
    }
    for stored in [F32, F16] {
        let unmasked = Shape { heads: HeadSet::performance(false), stored, ..shape(70, 5, 12) };
        cases.extend(cases_of(dropping(unmasked, 0.4)));
        cases.extend(cases_of(dropping(Shape { heads: HeadSet::notes(true), ..unmasked }, 0.4)));
    }
    cases.extend(cases_of(dropping(shape(700, 13, 9), 0.4)).map(Case::small_bindings));
    cases.extend(
        cases_of(dropping(Shape { heads: HeadSet::notes(true), ..shape(700, 3, 9) }, 0.2)).map(Case::small_budget),
    );
    for small in [shape(1, 1, 1), shape(129, 3, 17)] {
        cases.extend(cases_of(Shape { stored: F16, ..small }));
    }
    cases.extend(cases_of(Shape { stored: F16, ..shape(700, 13, 9) }).map(Case::small_bindings));
    cases
}

pub fn gradients() -> Vec<Gradient> {
    let check = |name: &str, rows: usize, heads: HeadSet, rate: f32| {
        Gradient::new(format!("heads {name}"), move |g: &mut Builder| {
            let drop = DropoutSite { site: 19, rate, inner: 4 };
            let shape = Shape { rows, notes: 5, units: 4, heads, drop, stored: F32 };
            let (cells, parts, c) = (rows * 5, shape.parts(), heads.len());
            let (x, w, bias) = (g.hidden(cells * 4), g.hidden(4 * c), g.hidden(c));
            let target = (0..cells * c).map(|i| [1.0, 0.0, 0.3, 0.0, 0.0, 0.0, 1.0, 1.0, 0.8][i % 9]).collect();
            let (target, weight) = (g.input_of(target), g.input(rows * heads.channels(), 1.0));
            let (losses, logit_grads) = (g.temp(parts * c), g.temp(cells * c));
            g.apply(Heads(shape), &[x, w, bias, target, weight, losses, logit_grads]);
            vec![losses]
        })
    };
    let [masked, unmasked] = [true, false].map(HeadSet::performance);
    vec![
        check("masked", 4, masked, 0.0),
        check("unmasked", 4, unmasked, 0.0),
        check("parts of a note", 131, masked, 0.0),
        check("two", 4, HeadSet::notes(true), 0.0),
        check("dropped", 4, masked, 0.4),
    ]
}
