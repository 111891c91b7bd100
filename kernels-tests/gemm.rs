//! Cases of `src/ops/gemm.rs`: sums of k products in any order, fused or not, that start from the bias or from what is
//! added to; then tanh.

use crate::gpu::Format::{F16, F32};
use crate::ops::RowGroups;
use crate::ops::gemm::{Activation, Gemm, Layout};
use crate::ops::octave_conv::{OctaveConv, Shape};

use super::harness::{Bounded, Builder, Case, Fill, Gradient, Operands};

fn reference(op: &Gemm, operands: &Operands) -> Vec<Vec<Bounded>> {
    let (m, n, k, [a_row, c_row]) = (op.m, op.n, op.k, op.strides);
    let (a, b) = (&operands["a"], &operands["b"]);
    let mut c = Vec::with_capacity(m * c_row);
    for i in 0..m {
        for j in 0..c_row {
            let start = match (op.bias, op.accumulate) {
                (Some(groups), _) => operands["bias"][i / groups.inner % groups.sequences * n + j],
                (None, true) => operands["c"][i * c_row + j],
                (None, false) => Bounded::ZERO,
            };
            if j >= n {
                c.push(start);
                continue;
            }
            let pair = |p: usize| match op.layout {
                Layout::NN => (a[i * a_row + p], b[p * n + j]),
                Layout::NT => (a[i * a_row + p], b[j * k + p]),
                Layout::TN => (a[p * a_row + i], b[p * n + j]),
            };
            let z = Bounded::dot(start, (0..k).map(pair));
            c.push(if op.activation == Activation::Tanh { z.tanh() } else { z });
        }
    }
    vec![c]
}

const LAYOUTS: [Layout; 3] = [Layout::NN, Layout::NT, Layout::TN];
/// One element, one row, one column, one product; primes; a tile and one more; those of the model, scaled down; a long
/// sum.
const SHAPES: [(usize, usize, usize); 10] = [
    (1, 1, 1),
    (1, 37, 29),
    (41, 1, 23),
    (19, 31, 1),
    (17, 33, 5),
    (64, 64, 32),
    (65, 129, 17),
    (130, 96, 94),
    (12, 256, 64),
    (7, 5, 1031),
];

fn case(op: Gemm) -> Case {
    let (bias, accumulate, k) = (op.bias.is_some(), op.accumulate, op.k);
    let (a_columns, n, [a_row, c_row]) = (if op.layout == Layout::TN { op.m } else { k }, op.n, op.strides);
    // Sums stay around 1, where tanh is neither linear nor flat.
    let case = Case::new(op, reference).fill("a", Fill::Within(1.0).in_rows(a_columns, a_row));
    let case = case.fill("b", Fill::Within(3.0 / (k as f32).sqrt()));
    let case = if bias { case.fill("bias", Fill::Within(1.0)) } else { case };
    if accumulate { case.fill("c", Fill::Within(1.0).in_rows(n, c_row)) } else { case }
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for layout in LAYOUTS {
        for (m, n, k) in SHAPES {
            let op = Gemm::new(layout, m, n, k);
            cases.push(case(op.clone()));
            cases.push(case(Gemm { accumulate: true, ..op.clone() }));
            if layout == Layout::NN {
                cases.push(case(op.clone().with_bias_vector()));
                cases.push(case(op.clone().with_bias_vector().with_tanh()));
                cases.push(case(op.clone().with_tanh()));
                cases.push(case(op.with_bias(RowGroups { inner: 3, sequences: 4 })).note("of 4 slots of 3"));
            }
        }
    }
    let far = case(Gemm::new(Layout::NN, 21, 35, 40).with_bias_vector().with_tanh());
    cases.push(far.fill("bias", Fill::Signs(1e4)).note("pre-activations 1e4"));
    // One product each, and sums of a few.
    for (m, n, k) in [(37, 41, 1), (36, 68, 4)] {
        let near = case(Gemm::new(Layout::NN, m, n, k).with_tanh());
        let near = near.fill("a", Fill::Magnitudes(1e-5, 1.0)).fill("b", Fill::Magnitudes(0.1, 1.0));
        cases.push(near.note("pre-activations near 0"));
    }
    let zero = case(Gemm::new(Layout::NN, 21, 35, 40));
    cases.push(zero.fill("a", Fill::Constant(0.0)).note("zero"));
    // Rows of a and c are cut, in TN the sum; then, with a wide b, the sum, or the columns of c.
    cases.push(
        case(Gemm::new(Layout::NN, 701, 40, 30).with_bias(RowGroups { inner: 50, sequences: 3 })).small_bindings(),
    );
    cases.push(case(Gemm::new(Layout::NN, 701, 40, 30).with_bias_vector().with_tanh()).small_bindings());
    cases.push(case(Gemm { accumulate: true, ..Gemm::new(Layout::NN, 523, 33, 35) }).small_bindings());
    cases.push(case(Gemm::new(Layout::NT, 701, 30, 40)).small_bindings());
    cases.push(case(Gemm { accumulate: true, ..Gemm::new(Layout::NT, 701, 30, 40) }).small_bindings());
    cases.push(case(Gemm::new(Layout::NN, 9, 103, 211).with_bias_vector().with_tanh()).small_bindings());
    cases.push(
        case(Gemm::new(Layout::NN, 173, 101, 199).with_bias(RowGroups { inner: 2, sequences: 5 })).small_bindings(),
    );
    cases.push(case(Gemm::new(Layout::NT, 173, 601, 30)).small_bindings());
    cases.push(case(Gemm::new(Layout::TN, 24, 40, 701)).small_bindings());
    cases.push(case(Gemm { accumulate: true, ..Gemm::new(Layout::TN, 24, 40, 701) }).small_bindings());
    // Sums in slices, with what is done at their end, and more than one slice of a part.
    cases.push(case(Gemm::new(Layout::NN, 30, 36, 1540).with_bias(RowGroups { inner: 4, sequences: 3 }).with_tanh()));
    cases.push(case(Gemm { accumulate: true, ..Gemm::new(Layout::TN, 94, 132, 1300) }));
    cases.push(case(Gemm::new(Layout::TN, 16, 32, 600)).note("whole workgroups"));
    cases.push(case(Gemm::new(Layout::TN, 20, 12, 2700)).small_bindings());
    cases.push(case(Gemm::new(Layout::TN, 9, 10, 5000)).small_grid());
    // Rows, and in TN the sum.
    cases
        .push(case(Gemm::new(Layout::NN, 201, 40, 30).with_bias(RowGroups { inner: 50, sequences: 3 })).small_budget());
    cases.push(case(Gemm::new(Layout::NN, 201, 40, 30).with_bias_vector().with_tanh()).small_budget());
    cases.push(case(Gemm { accumulate: true, ..Gemm::new(Layout::NT, 201, 30, 40) }).small_budget());
    cases.push(case(Gemm::new(Layout::TN, 24, 40, 701)).small_budget().sums_parts());
    cases.push(case(Gemm { accumulate: true, ..Gemm::new(Layout::TN, 24, 40, 2701) }).small_budget().sums_parts());
    // Sums in slices.
    cases.push(case(Gemm::new(Layout::NN, 60, 36, 1540).with_bias_vector().with_tanh()).small_budget());
    cases.extend(halves());
    cases.extend(padded());
    cases.push(case(Gemm::new(Layout::NN, 12, 4600, 9).with_bias_vector()).small_grid());
    cases.push(case(Gemm::new(Layout::TN, 70, 66, 600)).small_grid());
    cases.push(case(Gemm::new(Layout::TN, 70, 390, 9)).small_grid());
    cases
}

/// What a layer is made of whose width vectors do not divide: its input and the gradient of that have padded rows.
fn padded() -> Vec<Case> {
    let mut cases = vec![];
    let row = |width: usize| width.next_multiple_of(8);
    for (rows, inputs, gates) in [(130, 94, 96), (65, 259, 132), (3, 1, 4), (41, 17, 37), (9, 31, 256)] {
        let ops = [
            Gemm::new(Layout::NN, rows, gates, inputs).padded([row(inputs), gates]).with_bias_vector(),
            Gemm::new(Layout::NT, rows, inputs, gates).padded([gates, row(inputs)]),
            Gemm::new(Layout::TN, inputs, gates, rows).padded([row(inputs), gates]),
        ];
        for op in ops {
            let formats = if op.layout == Layout::TN { [F16, F16, F32] } else { [F16; 3] };
            // As plans have them, and at any place.
            cases.push(case(op.clone()).by_vectors());
            cases.push(case(op.clone().of(formats)));
            if op.bias.is_none() {
                cases.push(case(Gemm { accumulate: true, ..op }));
            }
        }
    }
    // B with padded A along k, sums in slices, columns of C that are cut, parts of bindings and of budgets.
    cases.push(case(Gemm::new(Layout::NT, 37, 20, 94).padded([96, 20])));
    cases.push(case(Gemm::new(Layout::NN, 30, 36, 1540).padded([1544, 36])));
    cases.push(case(Gemm::new(Layout::NT, 12, 26, 1024).padded([1024, 32])));
    cases.push(case(Gemm::new(Layout::TN, 94, 132, 1300).padded([96, 132])));
    cases.push(case(Gemm::new(Layout::NN, 701, 40, 30).padded([32, 40])).small_bindings());
    cases.push(case(Gemm::new(Layout::NT, 173, 601, 28).padded([28, 608])).small_bindings());
    cases.push(case(Gemm::new(Layout::TN, 30, 40, 701).padded([32, 40])).small_bindings());
    cases.push(case(Gemm { accumulate: true, ..Gemm::new(Layout::NT, 201, 30, 40).padded([40, 32]) }).small_budget());
    cases.push(case(Gemm::new(Layout::NT, 12, 4598, 12).padded([12, 4600])).small_grid());
    cases
}

/// Operands stored as f16: all of them, each alone, and what mixed precision makes of a layer and its gradients.
fn halves() -> Vec<Case> {
    let mut cases = vec![];
    for layout in LAYOUTS {
        for (m, n, k) in [(1, 1, 1), (65, 129, 17), (64, 64, 32), (20, 36, 1031)] {
            let op = Gemm::new(layout, m, n, k);
            cases.push(case(op.clone().of([F16, F16, F16])));
            cases.push(case(Gemm { accumulate: true, ..op.clone().of([F16, F16, F16]) }));
            cases.push(case(op.clone().of([F16, F16, F32])));
            cases.push(case(Gemm { accumulate: true, ..op.of([F16, F16, F32]) }));
        }
        for formats in [[F16, F32, F32], [F32, F16, F32], [F32, F32, F16]] {
            cases.push(case(Gemm::new(layout, 24, 40, 36).of(formats)));
        }
    }
    let layer = Gemm::new(Layout::NN, 33, 68, 44).of([F16, F16, F16]);
    cases.push(case(layer.clone().with_bias(RowGroups { inner: 3, sequences: 4 })));
    cases.push(case(layer.clone().with_bias_vector().with_tanh()));
    cases.push(case(layer).fill("a", Fill::Within(1e-6)).note("subnormal halves"));
    // As the logits of categorical dynamics are made.
    cases.push(case(Gemm::new(Layout::NN, 33, 128, 12).of([F16, F32, F32]).with_bias_vector()));
    cases.push(case(Gemm::new(Layout::NN, 701, 40, 30).of([F16, F16, F16]).with_bias_vector()).small_bindings());
    cases.push(case(Gemm::new(Layout::NN, 2201, 12, 9).of([F16, F16, F32])).small_grid());
    cases.push(case(Gemm::new(Layout::NT, 173, 601, 30).of([F16, F16, F16])).small_bindings());
    cases.push(case(Gemm::new(Layout::TN, 24, 40, 1701).of([F16, F16, F32])).small_bindings());
    cases
}

pub fn gradients() -> Vec<Gradient> {
    let mut gradients = vec![];
    let groups = RowGroups { inner: 2, sequences: 3 };
    for layout in LAYOUTS {
        let op = Gemm::new(layout, 6, 5, 4);
        for op in [op.clone(), op.clone().with_tanh(), op.clone().with_bias_vector(), op.with_bias(groups).with_tanh()]
        {
            let name = crate::ops::Op::label(&op);
            gradients.push(Gradient::new(name, move |g: &mut Builder| {
                let (a, b, c) = (g.hidden(op.m * op.k), g.hidden(op.k * op.n), g.temp(op.m * op.n));
                match op.bias {
                    Some(groups) => {
                        let bias = g.hidden(groups.sequences * op.n);
                        g.apply(op.clone(), &[a, b, bias, c]);
                    }
                    None => g.apply(op.clone(), &[a, b, c]),
                }
                vec![c]
            }));
        }
    }
    // A value used twice, where the op whose gradient comes second adds to what is there.
    let twice = |g: &mut Builder| {
        let shape = Shape { rows: 2, notes: 6, channels: 3, taps: 5, filters: 2 };
        let (x, conv, gemm) = (g.hidden(36), g.temp(24), g.temp(24));
        let weight = g.param(6, 1.0);
        g.apply(Gemm::new(Layout::NN, 12, 2, 3), &[x, weight, gemm]);
        let (weight, bias) = (g.param(30, 0.5), g.param(2, 0.5));
        g.apply(OctaveConv(shape), &[x, weight, bias, conv]);
        vec![conv, gemm]
    };
    gradients.push(Gradient::new("gemm adds to a gradient", twice).through("accumulate"));
    gradients
}
