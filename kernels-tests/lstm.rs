//! Cases of `src/ops/lstm.rs`. The naive loops are the cell's formula, one time step after the other; what `h` and `c` are
//! off by after one enters the next through the recurrent matrix, so the bound grows along the sequence. With the weights here, of
//! the size that initialisation gives, it stays small enough to mean something.

use crate::gpu::Format::{self, F16, F32};
use crate::ops::cast::Cast;
use crate::ops::lstm::{Lstm, LstmGates, LstmGrad};

use super::harness::operands::InPlace;
use super::harness::{Bounded, Builder, Case, Fill, Gradient, Operands};

/// One unit: gates `i f g o` before activation and the cell's state before; returns the activated gates, `c` and `h`.
pub fn cell(z: [Bounded; 4], c_before: Bounded) -> ([Bounded; 4], Bounded, Bounded) {
    let [i, f, g, o] = [z[0].sigmoid(), z[1].sigmoid(), z[2].tanh(), z[3].sigmoid()];
    let c = f * c_before + i * g;
    ([i, f, g, o], c, o * c.tanh())
}

/// One unit backwards: from its activated gates, its state before and after the step, and the gradients of `h` and of the state after,
/// those of its pre-activations; leaves that of the state before.
pub fn cell_grad(gates: [Bounded; 4], c_before: Bounded, c: Bounded, dh: Bounded, dc: &mut Bounded) -> [Bounded; 4] {
    let [i, f, g, o] = gates;
    let (one, tc) = (Bounded::ONE, c.tanh());
    let d = *dc + dh * o * (one - tc * tc);
    *dc = d * f;
    [d * g * i * (one - i), d * c_before * f * (one - f), d * i * (one - g * g), dh * tc * o * (one - o)]
}

fn forward(op: &Lstm, operands: &Operands) -> Vec<Vec<Bounded>> {
    let (rows, units) = (op.rows, op.units);
    let recurrent = &operands["recurrent"];
    let [mut gates, mut h, mut c] = ["gates", "h", "c"].map(|name| operands[name].in_place());
    for t in 0..op.steps {
        for r in 0..rows {
            let before = (t * rows + r) * units;
            for j in 0..units {
                let place = |gate: usize| (t * rows + r) * 4 * units + gate * units + j;
                let z = [0, 1, 2, 3].map(|gate| {
                    let pairs = (0..units).map(|k| (h[before + k], recurrent[k * 4 * units + gate * units + j]));
                    Bounded::dot(gates[place(gate)], pairs)
                });
                let after = before + rows * units + j;
                let activated;
                (activated, c[after], h[after]) = cell(z, c[before + j]);
                h[after] = h[after].rounded(op.stored);
                (0..4).for_each(|gate| gates[place(gate)] = activated[gate]);
            }
        }
    }
    [gates, h, c].map(InPlace::end).into()
}

fn backward(op: &LstmGrad, operands: &Operands) -> Vec<Vec<Bounded>> {
    let (rows, units) = (op.rows, op.units);
    let (recurrent, dh, c) = (&operands["recurrent"], &operands["dh"], &operands["c"]);
    let mut gates = operands["gates"].in_place();
    let mut dc = vec![Bounded::ZERO; rows * units];
    for t in (0..op.steps).rev() {
        for r in 0..rows {
            for j in 0..units {
                let (cell, place) = (r * units + j, |gate: usize| (t * rows + r) * 4 * units + gate * units + j);
                let mut dh = dh[t * rows * units + cell];
                if t + 1 < op.steps {
                    let next = ((t + 1) * rows + r) * 4 * units;
                    dh = Bounded::dot(dh, (0..4 * units).map(|k| (gates[next + k], recurrent[j * 4 * units + k])));
                }
                let (c_before, c) = (c[t * rows * units + cell], c[(t + 1) * rows * units + cell]);
                let grads = cell_grad([0, 1, 2, 3].map(|gate| gates[place(gate)]), c_before, c, dh, &mut dc[cell]);
                (0..4).for_each(|gate| gates[place(gate)] = grads[gate].rounded(op.stored));
            }
        }
    }
    vec![gates.end(), vec![Bounded::ANYTHING; rows * units]]
}

fn activate(op: &LstmGates, operands: &Operands) -> Vec<Vec<Bounded>> {
    let gates = operands["gates"].iter().enumerate();
    let activated = gates.map(|(i, z)| if i / op.units % 4 == 2 { z.tanh() } else { z.sigmoid() });
    vec![activated.collect()]
}

fn cases_of(steps: usize, rows: usize, units: usize) -> [Case; 2] {
    cases_in((F32, F32), steps, rows, units)
}

fn cases_in((weights, stored): (Format, Format), steps: usize, rows: usize, units: usize) -> [Case; 2] {
    let state = rows * units;
    let scale = 1.0 / (units as f32).sqrt();
    [
        Case::new(Lstm { steps, rows, units, weights, stored }, forward)
            .fill("recurrent", Fill::Within(scale))
            .fill("gates", Fill::Within(2.0))
            .fill("h", Fill::Within(1.0).only_first(state))
            .fill("c", Fill::Within(1.5).only_first(state)),
        Case::new(LstmGrad { steps, rows, units, weights, stored }, backward)
            .fill("recurrent", Fill::Within(scale))
            .fill("dh", Fill::Within(1.0))
            .fill("c", Fill::Within(1.5))
            .fill("gates", Fill::Gates(units)),
    ]
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    // One unit; one time step; one row; primes; blocks of rows and one more; the model's widths with few rows and time steps.
    for (steps, rows, units) in [
        (1, 1, 1),
        (1, 5, 8),
        (5, 1, 16),
        (3, 17, 13),
        (7, 33, 32),
        (4, 6, 64),
        (3, 9, 128),
        (2, 5, 256),
        (12, 3, 24),
        (2, 131, 20),
        // Units that blocks of 32 do not divide.
        (3, 40, 48),
        // More units than invocations of a workgroup.
        (2, 6, 300),
    ] {
        cases.extend(cases_of(steps, rows, units));
    }
    let zero = || Fill::Constant(0.0);
    let [fresh, _] = cases_of(4, 7, 16);
    let state = 7 * 16;
    cases.push(fresh.fill("h", zero().only_first(state)).fill("c", zero().only_first(state)).note("from zero"));
    let near = || Fill::Magnitudes(1e-5, 0.1);
    let [forward, backward] = cases_of(1, 7, 16);
    let forward = forward.fill("gates", near()).fill("h", zero().only_first(state)).fill("c", near().only_first(state));
    cases.push(forward.note("pre-activations near 0"));
    cases.push(backward.fill("c", near()).note("c near 0"));
    let [far, _] = cases_of(4, 7, 16);
    cases.push(far.fill("gates", Fill::Signs(1e4)).note("pre-activations 1e4"));
    let [_, flat] = cases_of(4, 7, 16);
    cases.push(flat.fill("gates", Fill::Bits(0.5)).fill("c", Fill::Signs(1e4)).note("saturated"));
    cases.extend(cases_of(20, 11, 24).map(Case::small_bindings));
    cases.extend(cases_of(3, 190, 24).map(Case::small_bindings));
    cases.extend(cases_of(2, 220, 36).map(Case::small_grid));
    // Some time steps of all rows, then some rows of a time step.
    cases.extend(cases_of(7, 33, 32).map(Case::small_budget));
    cases.extend(cases_of(2, 67, 20).map(Case::small_budget));
    // The same where storage is read by vectors.
    cases.extend(cases_of(2, 67, 48).map(Case::small_budget));
    cases.extend(cases_of(3, 190, 32).map(Case::small_bindings));
    for formats in [(F16, F32), (F32, F16), (F16, F16)] {
        cases.extend(cases_in(formats, 3, 17, 13));
        cases.extend(cases_in(formats, 2, 67, 20));
        cases.extend(cases_in(formats, 3, 40, 48));
    }
    cases.extend(cases_in((F16, F16), 2, 5, 256));
    cases.extend(cases_in((F16, F16), 3, 190, 24).map(Case::small_bindings));
    let gates = |rows: usize, units: usize, stored: Format| {
        Case::new(LstmGates { rows, units, stored }, activate).fill("gates", Fill::Within(4.0))
    };
    for stored in [F32, F16] {
        cases.extend([gates(1, 1, stored), gates(17, 13, stored), gates(70, 64, stored)]);
        cases.push(gates(700, 24, stored).small_bindings());
        cases.push(gates(50, 24, stored).small_grid());
        cases.push(gates(70, 64, stored).small_budget());
        cases.push(gates(7, 16, stored).fill("gates", Fill::Signs(1e4)).note("pre-activations 1e4"));
        cases.push(gates(7, 16, stored).fill("gates", near()).note("pre-activations near 0"));
    }
    cases
}

pub fn gradients() -> Vec<Gradient> {
    let check = |steps: usize, rows: usize, units: usize, again: bool| {
        let how = if again { " gates made again" } else { "" };
        Gradient::new(format!("lstm T={steps} rows={rows} H={units}{how}"), move |g: &mut Builder| {
            let state = rows * units;
            let (gates, recurrent) = (g.hidden(steps * rows * 4 * units), g.param(units * 4 * units, 0.5));
            let [h, c] = [0; 2].map(|_| {
                let (start, all) = (g.input(state, 1.0), g.temp((steps + 1) * state));
                let copy = Cast { len: state, from: Format::F32, to: Format::F32 };
                g.apply(copy, &[start, all.slice(0, state)]);
                all
            });
            if again {
                g.drop_after_forward(gates);
            }
            g.apply(Lstm { steps, rows, units, weights: F32, stored: F32 }, &[recurrent, gates, h, c]);
            vec![h.slice(state, steps * state)]
        })
    };
    let check_again = |steps, rows, units| check(steps, rows, units, true).through("lstm gates");
    vec![check(1, 2, 3, false), check(5, 1, 4, false), check(4, 3, 5, false), check_again(4, 3, 5)]
}
