//! Cases of `src/ops/neighbours.rs`: copies alone. It has no gradient.

use crate::ops::neighbours::Neighbours;

use super::harness::{Bounded, Case, Fill, Operands};

fn reference(op: &Neighbours, operands: &Operands) -> Vec<Vec<Bounded>> {
    let x = &operands["x"];
    let mut y = vec![];
    for row in 0..op.rows {
        for n in 0..op.notes as i64 {
            for k in 0..op.taps as i64 {
                let m = n + k - op.taps as i64 / 2;
                let inside = (0..op.notes as i64).contains(&m);
                let at = |c| x[(row * op.notes + m as usize) * op.channels + c];
                y.extend((0..op.channels).map(|c| if inside { at(c) } else { Bounded::ZERO }));
            }
        }
    }
    vec![y]
}

pub fn cases() -> Vec<Case> {
    let case = |rows, notes, channels, taps| {
        Case::new(Neighbours { rows, notes, channels, taps }, reference).fill("x", Fill::Within(1.0))
    };
    vec![
        case(1, 1, 1, 1),
        case(6, 48, 3, 25),
        case(5, 13, 2, 7),
        case(3, 5, 3, 25).note("wider than the range"),
        case(4, 8, 4, 2 * 8 - 1).note("whole workgroups"),
        case(61, 11, 3, 9).small_bindings(),
        case(29, 13, 3, 13).small_grid(),
        case(29, 13, 3, 13).small_budget(),
    ]
}
