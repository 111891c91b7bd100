//! Cases of `src/ops/softmax_loss.rs`: K exponentials, their sum and its logarithm a cell, and sums over the rows of a part in any
//! order.

use crate::ops::softmax_loss::{SoftmaxLoss, SoftmaxLossGrad};

use super::harness::{Bounded, Builder, Case, Fill, Gradient, Operands};

/// Rows of a part.
const RUN: usize = 128;

/// What a cell counts, 0 where it does not, and its bin.
fn wanted(op: &SoftmaxLoss, operands: &Operands, n: usize, r: usize) -> (Bounded, usize) {
    let target = |channel: usize| operands["target"][(r * op.notes + n) * op.channels + channel];
    let weight = operands["weight"][r * op.channels + op.channel];
    let scale = if op.masked { weight * target(0) } else { weight };
    let bin = (target(op.channel).value * (op.bins - 1) as f64).round() as usize;
    (scale, bin)
}

/// The largest logit of a cell, `e^(z - largest)` of all, and their sum.
fn exponentials(op: &SoftmaxLoss, operands: &Operands, n: usize, r: usize) -> (Bounded, Vec<Bounded>, Bounded) {
    let first = (n * op.rows + r) * op.bins;
    let z: Vec<Bounded> = (first..first + op.bins).map(|i| operands["z"][i]).collect();
    let largest = z.iter().copied().max_by(|a, b| a.value.total_cmp(&b.value)).unwrap_or(Bounded::ZERO);
    let each: Vec<Bounded> = z.iter().map(|&z| (z - largest).exp()).collect();
    let sum = Bounded::sum(Bounded::ZERO, each.iter().copied());
    (largest, each, sum)
}

fn forward(op: &SoftmaxLoss, operands: &Operands) -> Vec<Vec<Bounded>> {
    let mut losses = vec![];
    for n in 0..op.notes {
        for first in (0..op.rows).step_by(RUN) {
            let terms = (first..op.rows.min(first + RUN)).map(|r| {
                let (scale, bin) = wanted(op, operands, n, r);
                let (largest, _, sum) = exponentials(op, operands, n, r);
                scale * (sum.ln() + largest - operands["z"][(n * op.rows + r) * op.bins + bin])
            });
            losses.push(Bounded::sum(Bounded::ZERO, terms));
        }
    }
    vec![losses]
}

fn backward(op: &SoftmaxLossGrad, operands: &Operands) -> Vec<Vec<Bounded>> {
    let op = &op.0;
    let runs = op.rows.div_ceil(RUN);
    let mut dz = vec![];
    for n in 0..op.notes {
        for r in 0..op.rows {
            let (scale, bin) = wanted(op, operands, n, r);
            let scale = scale * operands["dlosses"][n * runs + r / RUN];
            let (_, each, sum) = exponentials(op, operands, n, r);
            let one_hot = |k| if k == bin { Bounded::ONE } else { Bounded::ZERO };
            dz.extend(each.iter().enumerate().map(|(k, &e)| scale * (e / sum - one_hot(k))));
        }
    }
    vec![dz]
}

fn op(rows: usize, notes: usize, bins: usize) -> SoftmaxLoss {
    SoftmaxLoss { rows, notes, bins, channels: 3, channel: 2, masked: true }
}

/// Both ops on one shape.
fn cases_of(op: SoftmaxLoss) -> [Case; 2] {
    let (rows, cells) = (op.rows, op.rows * op.notes);
    // A row in five does not count; what other channels count is not read.
    let counts = |i: usize| i / op.channels % 5 != 3 && i % op.channels == op.channel;
    let weight: Vec<f32> = (0..rows * op.channels).map(|i| if counts(i) { 1.0 / cells as f32 } else { 0.0 }).collect();
    let filled = |case: Case| {
        let target = match op.channels {
            3 => Fill::Roll(0.4),
            c => Fill::Values((0..cells * c).map(|i| f32::from(i % 7 < 3)).collect()),
        };
        case.fill("z", Fill::Within(3.0)).fill("target", target).fill("weight", Fill::Values(weight.clone()))
    };
    [
        filled(Case::new(op, forward)),
        filled(Case::new(SoftmaxLossGrad(op), backward)).fill("dlosses", Fill::Uniform(0.5, 2.0)),
    ]
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for (rows, notes, bins) in
        [(1, 1, 2), (3, 48, 128), (37, 2, 7), (127, 3, 5), (128, 1, 128), (129, 3, 3), (300, 2, 11), (5, 2, 300)]
    {
        cases.extend(cases_of(op(rows, notes, bins)));
    }
    cases.extend(cases_of(SoftmaxLoss { masked: false, ..op(70, 5, 12) }));
    cases.extend(cases_of(SoftmaxLoss { channels: 2, channel: 1, ..op(70, 5, 12) }).map(|case| case.note("C=2")));
    let special =
        |note: &'static str, with: fn(Case) -> Case| cases_of(op(70, 5, 12)).map(|case| with(case).note(note));
    cases.extend(special("silent", |case| case.fill("target", Fill::Constant(0.0))));
    cases.extend(special("loudest", |case| case.fill("target", Fill::Constant(1.0))));
    cases.extend(special("logits 1e4", |case| case.fill("z", Fill::Signs(1e4))));
    // Notes are cut, then runs of rows.
    cases.extend(cases_of(op(300, 7, 40)).map(Case::small_bindings));
    cases.extend(cases_of(op(700, 3, 40)).map(Case::small_bindings));
    cases.extend(cases_of(op(130, 20, 3)).map(Case::small_grid));
    cases.extend(cases_of(op(700, 3, 9)).map(Case::small_budget));
    cases
}

pub fn gradients() -> Vec<Gradient> {
    let check = |name: &str, rows: usize, masked: bool| {
        Gradient::new(format!("softmax_loss {name}"), move |g: &mut Builder| {
            let op = SoftmaxLoss { masked, ..op(rows, 5, 6) };
            let z = g.hidden(rows * 5 * 6);
            let target = (0..rows * 15).map(|i| [1.0, 0.0, 0.4, 0.0, 0.0, 0.0, 1.0, 1.0, 0.8][i % 9]).collect();
            let (target, weight) = (g.input_of(target), g.input(rows * 3, 1.0));
            let losses = g.temp(op.parts());
            g.apply(op, &[z, target, weight, losses]);
            vec![losses]
        })
    };
    vec![check("masked", 4, true), check("unmasked", 4, false), check("parts of a note", 131, true)]
}
