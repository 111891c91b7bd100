//! Cases of `src/ops/reduce.rs`: sums in any order, each term through as many additions as there are terms at most.

use crate::gpu::Format::F16;
use crate::ops::RowGroups;
use crate::ops::reduce::{BroadcastRows, SquaredNorm, SumRows};

use super::harness::{Bounded, Builder, Case, Fill, Gradient, Operands};

const ONE: RowGroups = RowGroups { inner: 1, sequences: 1 };

fn sum_rows(op: &SumRows, operands: &Operands) -> Vec<Vec<Bounded>> {
    let (x, y, cols) = (&operands["x"], &operands["y"], op.cols);
    let mut rows: Vec<Vec<usize>> = vec![vec![]; op.groups.sequences];
    (0..op.rows).for_each(|r| rows[r / op.groups.inner % op.groups.sequences].push(r));
    let sum = |i: usize| {
        let start = if op.accumulate { y[i] } else { Bounded::ZERO };
        Bounded::sum(start, rows[i / cols].iter().map(|r| x[r * cols + i % cols]))
    };
    vec![(0..op.groups.sequences * cols).map(sum).collect()]
}

fn broadcast_rows(op: &BroadcastRows, operands: &Operands) -> Vec<Vec<Bounded>> {
    let sequence = |r: usize| r / op.groups.inner % op.groups.sequences;
    let element = |i: usize| operands["y"][sequence(i / op.cols) * op.cols + i % op.cols];
    vec![(0..op.rows * op.cols).map(element).collect()]
}

fn squared_norm(op: &SquaredNorm, operands: &Operands) -> Vec<Vec<Bounded>> {
    let squares = |x: &[Bounded]| Bounded::dot(Bounded::ZERO, x.iter().map(|&x| (x, x)));
    vec![operands["x"][0..op.len].chunks(1024).map(squares).collect()]
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    let sum = |rows, cols, groups| Case::new(SumRows::new(rows, cols, groups), sum_rows).fill("x", Fill::Within(1.0));
    let slots = |inner, sequences| RowGroups { inner, sequences };
    for (rows, cols, groups) in [
        (1, 1, ONE),
        (1, 37, ONE),
        (640, 3, ONE),
        (129, 96, ONE),
        (1031, 65, ONE),
        (39, 24, slots(13, 3)),
        (35, 17, slots(1, 7)),
        (312, 12, slots(13, 4)),
        (5, 9, slots(1, 5)),
    ] {
        cases.push(sum(rows, cols, groups));
        let adding = SumRows { accumulate: true, ..SumRows::new(rows, cols, groups) };
        cases.push(Case::new(adding, sum_rows).fill("x", Fill::Within(1.0)).fill("y", Fill::Within(1.0)));
    }
    cases.push(sum(2311, 1, ONE).fill("x", Fill::Uniform(-0.5, 1.0)));
    cases.push(sum(513, 8, ONE).fill("x", Fill::Signs(1e4)).note("cancels"));
    cases.push(sum(1103, 24, ONE).small_bindings());
    cases.push(sum(1104, 24, slots(23, 3)).small_bindings());
    cases.push(sum(1105, 24, slots(1, 5)).small_bindings());
    cases.push(sum(60, 100, slots(1, 5)).small_grid());
    cases.push(sum(1103, 24, ONE).small_budget().sums_parts());
    cases.push(sum(312, 12, slots(13, 4)).small_budget().sums_parts());

    for (rows, cols, groups) in [(1, 1, ONE), (1031, 65, ONE), (312, 12, slots(13, 4))] {
        let op = SumRows::new(rows, cols, groups).of(F16);
        cases.push(Case::new(op, sum_rows).fill("x", Fill::Within(1.0)));
    }
    let op = SumRows::new(1104, 24, slots(23, 3)).of(F16);
    cases.push(Case::new(op, sum_rows).fill("x", Fill::Within(1.0)).small_bindings());

    let broadcast = |rows, cols, groups| {
        Case::new(BroadcastRows { rows, cols, groups }, broadcast_rows).fill("y", Fill::Within(1.0))
    };
    for (rows, cols, groups) in [(1, 1, ONE), (41, 1, ONE), (1, 41, ONE), (39, 24, slots(13, 3)), (35, 17, slots(1, 7))]
    {
        cases.push(broadcast(rows, cols, groups));
    }
    cases.push(broadcast(32, 24, slots(8, 4)).note("whole workgroups"));
    cases.push(broadcast(701, 29, slots(1, 3)).small_bindings());
    cases.push(broadcast(90, 64, slots(1, 5)).small_grid());
    cases.push(broadcast(39, 24, slots(13, 3)).small_budget());

    let norm = |len| Case::new(SquaredNorm { len }, squared_norm).fill("x", Fill::Within(0.1));
    cases.extend([norm(1), norm(1023), norm(1024), norm(1025), norm(7001)]);
    cases.push(norm(3000).fill("x", Fill::Constant(0.0)).note("zero"));
    cases.push(norm(40_009).small_bindings());
    cases.push(norm(19 * 1024).small_grid());
    cases.push(norm(7001).small_budget());
    cases
}

pub fn gradients() -> Vec<Gradient> {
    let groups = RowGroups { inner: 2, sequences: 3 };
    let sum = move |g: &mut Builder| {
        let (x, y) = (g.hidden(12 * 4), g.temp(3 * 4));
        g.apply(SumRows::new(12, 4, groups), &[x, y]);
        vec![y]
    };
    let broadcast = move |g: &mut Builder| {
        let (y, x) = (g.hidden(3 * 4), g.temp(12 * 4));
        g.apply(BroadcastRows { rows: 12, cols: 4, groups }, &[y, x]);
        vec![x]
    };
    // A bias of two products: the second sum is added to the first.
    let twice = move |g: &mut Builder| {
        use crate::ops::gemm::{Gemm, Layout};
        let bias = g.param(3 * 4, 1.0);
        let product = |g: &mut Builder| {
            let (x, w, y) = (g.hidden(12 * 5), g.param(5 * 4, 1.0), g.temp(12 * 4));
            g.apply(Gemm::new(Layout::NN, 12, 4, 5).with_bias(groups), &[x, w, bias, y]);
            y
        };
        vec![product(g), product(g)]
    };
    vec![
        Gradient::new("reduce sum_rows", sum),
        Gradient::new("reduce broadcast_rows", broadcast),
        Gradient::new("reduce sum_rows of a shared bias", twice).through("accumulate"),
    ]
}
