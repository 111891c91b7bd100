//! Cases of `src/ops/note_sweep.rs`. The reference follows both layers, the heads and the coins note by note, with errors
//! growing as in `lstm`. A coin that falls nearer to its probability than that is off by would make the case a matter
//! of luck; the reference refuses it, and the case needs another seed.

use crate::ops::Step;
use crate::ops::note_sweep::{NoteSweep, Offsets};
use crate::ops::random::{pcg4d, uniform01};

use super::harness::operands::InPlace;
use super::harness::{Bounded, Case, Fill, Operands};
use super::lstm::cell;

fn reference(op: &NoteSweep, operands: &Operands) -> Vec<Vec<Bounded>> {
    let (pieces, notes) = (op.pieces, op.notes);
    let [mut chosen, mut state, mut roll] = ["notes", "state", "roll"].map(|name| operands[name].in_place());
    for p in 0..pieces {
        let clock = state[p].value + 1.0;
        let row = ((clock as i64).rem_euclid(op.window as i64) as usize * pieces + p) * notes;
        let silent = state[pieces + p];
        let mut probabilities = vec![[Bounded::ZERO; 2]; notes];
        if operands.step.forced != 0.0 {
            chosen[p * notes * 3..(p + 1) * notes * 3].copy_from_slice(&operands["forced"][row * 3..(row + notes) * 3]);
        } else {
            sweep(op, operands, (p, clock, silent), &mut chosen, &mut probabilities);
        }
        let mine = &chosen[p * notes * 3..(p + 1) * notes * 3];
        for (n, (note, probabilities)) in mine.chunks(3).zip(probabilities).enumerate() {
            let report = (row + n) * 5;
            roll[report..report + 3].copy_from_slice(note);
            roll[report + 3..report + 5].copy_from_slice(&probabilities);
        }
        let rests = mine.iter().step_by(3).all(|play| play.value == 0.0);
        state[p] = Bounded::exact(clock);
        state[pieces + p] = Bounded::exact(if rests { silent.value + 1.0 } else { 0.0 });
    }
    [chosen, state, roll].map(InPlace::end).into()
}

fn sweep(
    op: &NoteSweep,
    operands: &Operands,
    (p, clock, silent): (usize, f64, Bounded),
    chosen: &mut InPlace<'_>,
    probabilities: &mut [[Bounded; 2]],
) {
    let (units, at) = (op.units, &op.offsets);
    let weights = &operands["weights"];
    // A column of the matrix `[.., 4H]` that starts at `offset`.
    let column = |offset: usize, gate: usize, j: usize| move |k: usize| weights[offset + (k * 4 + gate) * units + j];
    let mut lower = [Bounded::ZERO; 3];
    let zeros = vec![Bounded::ZERO; units];
    let [mut h1, mut c1, mut h2, mut c2] = [0; 4].map(|_| zeros.clone());
    for (n, probabilities) in probabilities.iter_mut().enumerate() {
        let before = h1.clone();
        for j in 0..units {
            let z = [0, 1, 2, 3].map(|gate| {
                let start = operands["input"][((p * op.notes + n) * 4 + gate) * units + j];
                let from_lower = (0..3).map(|k| (lower[k], column(at.chosen, gate, j)(k)));
                let from_before = (0..units).map(|k| (before[k], column(at.recurrent1, gate, j)(k)));
                Bounded::dot(start, from_lower.chain(from_before))
            });
            (_, c1[j], h1[j]) = cell(z, c1[j]);
        }
        let before = h2.clone();
        for j in 0..units {
            let z = [0, 1, 2, 3].map(|gate| {
                let start = operands["bias2"][(p * 4 + gate) * units + j];
                let from_below = (0..units).map(|k| (h1[k], column(at.input2, gate, j)(k)));
                let from_before = (0..units).map(|k| (before[k], column(at.recurrent2, gate, j)(k)));
                Bounded::dot(start, from_below.chain(from_before))
            });
            (_, c2[j], h2[j]) = cell(z, c2[j]);
        }
        let logits = [0, 1, 2].map(|i| {
            Bounded::dot(weights[at.head_bias + i], (0..units).map(|k| (h2[k], weights[at.head + k * 3 + i])))
        });
        let Step { temperature, silence, seed, .. } = *operands.step;
        let temperature = Bounded::exact(temperature) + Bounded::exact(silence) * silent;
        *probabilities = [0, 1].map(|i| (logits[i] / temperature).sigmoid());
        let coins = pcg4d([n as u32, p as u32, clock as i64 as u32, seed]).map(uniform01);
        let falls = |i: usize| {
            let gap = f64::from(coins[i]) - probabilities[i].value;
            assert!(
                gap.abs() > probabilities[i].error,
                "coin {i} of note {n} is {gap:e} off its mark: take another seed"
            );
            gap < 0.0
        };
        let note = (p * op.notes + n) * 3;
        let sounded = chosen[note].value > 0.0;
        lower = [Bounded::ZERO; 3];
        if falls(0) {
            let replayed = sounded && falls(1);
            let dynamics = Bounded { value: logits[2].value.clamp(0.0, 1.0), ..logits[2] };
            lower = [Bounded::ONE, if replayed { Bounded::ONE } else { Bounded::ZERO }, dynamics];
        }
        chosen[note..note + 3].copy_from_slice(&lower);
    }
}

/// The sweep's weights one after the other, some elements apart.
fn op(pieces: usize, notes: usize, units: usize, window: usize) -> NoteSweep {
    let square = 4 * units * units;
    let mut end = 0;
    let [chosen, recurrent1, input2, recurrent2, head, head_bias] = [12 * units, square, square, square, 3 * units, 3]
        .map(|len| {
            let start = end + 5;
            end = start + len;
            start
        });
    let offsets = Offsets { chosen, recurrent1, input2, recurrent2, head, head_bias };
    NoteSweep { pieces, notes, units, window, weights: end, offsets }
}

fn case(op: NoteSweep) -> Case {
    let (pieces, units) = (op.pieces, op.units);
    let clocks = (0..pieces).map(|p| [-1.0, 0.0, 30.0, 100_000.0][p % 4]);
    let silences = (0..pieces).map(|p| [0.0, 3.0, 1.0][p % 3]);
    Case::new(op, reference)
        .fill("weights", Fill::Within(0.8 / (units as f32).sqrt()))
        .fill("input", Fill::Within(2.0))
        .fill("bias2", Fill::Within(1.0))
        .fill("forced", Fill::Roll(0.3))
        .fill("notes", Fill::Roll(0.3))
        .fill("state", Fill::Values(clocks.chain(silences).collect()))
        .fill("roll", Fill::Within(1.0))
        .step(Step { seed: 20, temperature: 1.0, silence: 0.1, ..Step::default() })
}

pub fn cases() -> Vec<Case> {
    let forced = Step { forced: 1.0, temperature: 1.0, ..Step::default() };
    // So large that the heads' biases decide every coin.
    let certain = |note: &str, bias: f32| {
        let op = op(3, 9, 8, 2);
        let head_bias = op.offsets.head_bias;
        case(op)
            .fill("weights", Fill::First(head_bias, Box::new(Fill::Within(0.2)), Box::new(Fill::Constant(bias))))
            .note(note)
    };
    vec![
        case(op(1, 1, 1, 1)),
        case(op(1, 48, 16, 4)),
        case(op(5, 13, 24, 3)),
        case(op(2, 5, 64, 2)),
        case(op(1, 3, 128, 2)),
        case(op(33, 4, 12, 1)),
        case(op(3, 7, 13, 2)),
        case(op(19, 4, 12, 2)).small_grid(),
        case(op(5, 7, 13, 2)).small_budget(),
        case(op(2, 9, 16, 2)).fill("input", Fill::Signs(1e4)).note("pre-activations 1e4"),
        certain("silence", -50.0),
        certain("all play", 50.0),
        case(op(3, 9, 16, 4)).step(forced).note("led").shortcut(),
        case(op(3, 9, 16, 4)).step(forced).fill("forced", Fill::Constant(0.0)).note("led to silence").shortcut(),
    ]
}
