//! Cases of `src/ops/biaxial_features.rs`: a count sums an octave's notes, the rest are copies and constants. It has no gradient.

use crate::gpu::Format::{F16, F32};
use crate::ops::biaxial_features::BiaxialFeatures;

use super::harness::{Bounded, Case, Fill, Operands};

fn reference(op: &BiaxialFeatures, operands: &Operands) -> Vec<Vec<Bounded>> {
    let (notes, start) = (&operands["notes"], &operands["start"]);
    let n_notes = op.notes as i64;
    let mut y = vec![];
    for t in 0..op.steps {
        for b in 0..op.batch {
            let row = (t * op.batch + b) * op.notes;
            let time = (start[b].value as i64 + t as i64).rem_euclid(16);
            let counts: [Bounded; 12] = std::array::from_fn(|class| {
                let same = (0..op.notes).filter(|m| (op.lowest + m) % 12 == class);
                Bounded::sum(Bounded::ZERO, same.map(|m| notes[(row + m) * 2]))
            });
            for n in 0..n_notes {
                let class = (op.lowest + n as usize) % 12;
                y.push(Bounded::exact(n as f64));
                y.extend((0..12).map(|c| if c == class { Bounded::ONE } else { Bounded::ZERO }));
                for m in n - 12..=n + 12 {
                    let inside = (0..n_notes).contains(&m);
                    let at = |c| notes[(row + m as usize) * 2 + c];
                    y.extend([0, 1].map(|c| if inside { at(c) } else { Bounded::ZERO }));
                }
                y.extend((0..12).map(|j| counts[(class + j) % 12]));
                y.extend((0..4).map(|bit| Bounded::exact(if time >> bit & 1 == 1 { 1.0 } else { -1.0 })));
                y.push(Bounded::ONE);
            }
        }
    }
    vec![y]
}

fn op(steps: usize, batch: usize, notes: usize, lowest: usize) -> BiaxialFeatures {
    BiaxialFeatures { steps, batch, notes, lowest, stored: F32 }
}

fn case(op: BiaxialFeatures) -> Case {
    let cells = op.steps * op.batch * op.notes;
    let starts = (0..op.batch).map(|b| [0.0, 13.0, -3.0, 65_000.0, -1.0][b % 5]).collect();
    Case::new(op, reference)
        .fill("notes", Fill::Values((0..cells * 2).map(|i| f32::from(i * 7 % 11 < 4)).collect()))
        .fill("start", Fill::Values(starts))
}

pub fn cases() -> Vec<Case> {
    let of_any_size = |op| case(op).fill("notes", Fill::Uniform(0.0, 1.25)).note("notes of any size");
    vec![
        case(op(1, 1, 1, 0)),
        case(op(2, 1, 78, 24)),
        case(op(5, 3, 13, 36)),
        case(op(19, 5, 5, 23)),
        case(op(4, 2, 16, 7)).note("whole workgroups"),
        of_any_size(op(3, 2, 29, 35)),
        case(op(7, 5, 29, 24)).small_bindings(),
        case(op(5, 5, 13, 24)).small_grid(),
        case(op(5, 5, 13, 24)).small_budget(),
        of_any_size(BiaxialFeatures { stored: F16, ..op(3, 2, 29, 35) }),
        case(BiaxialFeatures { stored: F16, ..op(5, 3, 13, 36) }),
    ]
}
