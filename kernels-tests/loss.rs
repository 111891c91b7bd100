//! Cases of `src/ops/loss.rs`: softplus and a product a logit, a square, and a sum over the notes in any order.

use deepj::ops::loss::{Loss, LossGrad, Shape};

use crate::harness::{Bounded, Builder, Case, Fill, Gradient, Operands};

fn forward(op: &Loss, operands: &Operands) -> Vec<Vec<Bounded>> {
    let s = &op.0;
    let (logits, target, weight) = (&operands["logits"], &operands["target"], &operands["weight"]);
    let mut losses = vec![];
    for r in 0..s.rows {
        for channel in 0..3 {
            let cell = |n: usize| {
                let (i, j) = ((n * s.rows + r) * 3 + channel, (r * s.notes + n) * 3);
                let (x, y) = (logits[i], target[j + channel]);
                let loss = match channel {
                    2 => (x - y).squared(),
                    _ => x.softplus() - y * x,
                };
                if s.masked && channel > 0 { target[j] * loss } else { loss }
            };
            losses.push(weight[r] * Bounded::sum(Bounded::ZERO, (0..s.notes).map(cell)));
        }
    }
    vec![losses]
}

fn backward(op: &LossGrad, operands: &Operands) -> Vec<Vec<Bounded>> {
    let s = &op.0;
    let (logits, target, weight) = (&operands["logits"], &operands["target"], &operands["weight"]);
    let dlosses = &operands["dlosses"];
    let mut d = vec![];
    for n in 0..s.notes {
        for r in 0..s.rows {
            let (i, j) = ((n * s.rows + r) * 3, (r * s.notes + n) * 3);
            let mask = if s.masked { target[j] * weight[r] } else { weight[r] };
            for channel in 0..3 {
                let (x, y) = (logits[i + channel], target[j + channel]);
                let error = match channel {
                    2 => (x - y).doubled(),
                    _ => x.sigmoid() - y,
                };
                let scale = if channel == 0 { weight[r] } else { mask };
                d.push(dlosses[r * 3 + channel] * scale * error);
            }
        }
    }
    vec![d]
}

fn cases_of(rows: usize, notes: usize, masked: bool) -> [Case; 2] {
    let shape = Shape { rows, notes, masked };
    let fill = |case: Case| {
        // A row in five does not count.
        let weight = (0..rows).map(|r| if r % 5 == 3 { 0.0 } else { 1.0 / (rows * notes) as f32 }).collect();
        case.fill("logits", Fill::Within(4.0)).fill("target", Fill::Roll(0.4)).fill("weight", Fill::Values(weight))
    };
    [
        fill(Case::new(Loss(shape), forward)),
        fill(Case::new(LossGrad(shape), backward)).fill("dlosses", Fill::Uniform(0.5, 2.0)),
    ]
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (rows, notes) in [(1, 1), (1, 48), (37, 1), (13, 48), (67, 29), (256, 12)] {
        cases.extend(cases_of(rows, notes, true));
    }
    cases.extend(cases_of(7, 13, false));
    for (note, target) in [("silent", 0.0), ("all play", 1.0)] {
        let target = |case: Case| case.fill("target", Fill::Constant(target)).note(note);
        cases.extend(cases_of(7, 13, true).map(target));
    }
    cases.extend(cases_of(11, 17, true).map(|case| case.fill("logits", Fill::Signs(1e4)).note("logits 1e4")));
    cases.extend(cases_of(5, 3, true).map(|case| case.fill("weight", Fill::Constant(0.0)).note("no weight")));
    cases.extend(cases_of(509, 13, true).map(Case::small_bindings));
    cases.extend(cases_of(300, 3, true).map(Case::small_grid));
    cases
}

pub fn gradients() -> Vec<Gradient> {
    let check = |name: &str, masked: bool| {
        Gradient::new(format!("loss {name}"), move |g: &mut Builder| {
            let shape = Shape { rows: 4, notes: 5, masked };
            let (logits, losses) = (g.hidden(60), g.temp(12));
            let target = g.input_of((0..60).map(|i| [1.0, 0.0, 0.3, 0.0, 0.0, 0.0, 1.0, 1.0, 0.8][i % 9]).collect());
            let weight = g.input_of(vec![0.5, 0.0, 0.25, 1.0]);
            g.apply(Loss(shape), &[logits, target, weight, losses]);
            vec![losses]
        })
    };
    vec![check("masked", true), check("unmasked", false)]
}
