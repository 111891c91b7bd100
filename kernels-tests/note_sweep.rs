//! Cases of `src/ops/note_sweep.rs`. The reference follows both layers, the heads and the random draws note by note, with
//! errors growing as in `lstm`. A draw that falls nearer to its probability than that is off by would make the case a matter
//! of luck; the reference refuses it, and the case needs another seed.

use crate::ops::Uniforms;
use crate::ops::note_sweep::{GAIN, GIVEN, HOLD, MIXED, NoteSweep, OFFSET, Offsets, REPLAY};
use crate::ops::random::{pcg4d, uniform01};
use crate::shape::Slots;

use super::harness::bounded::uncounted;
use super::harness::operands::InPlace;
use super::harness::{Bounded, Case, Fill, Operands};
use super::lstm::cell;

fn reference(op: &NoteSweep, operands: &Operands) -> Vec<Vec<Bounded>> {
    let (pieces, notes, c) = (op.pieces, op.notes, op.channels);
    let [mut chosen, mut state, mut roll] = ["notes", "state", "roll"].map(|name| operands[name].in_place());
    for p in 0..pieces {
        let clock = state[p].value + 1.0;
        let row = ((clock as i64).rem_euclid(op.window as i64) as usize * pieces + p) * notes;
        let silent = state[pieces + p];
        let mut probabilities = vec![[Bounded::ZERO; 2]; notes];
        if operands.uniforms.forced == GIVEN {
            chosen[p * notes * c..(p + 1) * notes * c].copy_from_slice(&operands["forced"][row * c..(row + notes) * c]);
        } else {
            sweep(op, operands, (p, clock, row / notes, silent), &mut chosen, &mut probabilities);
        }
        let mine = &chosen[p * notes * c..(p + 1) * notes * c];
        for (n, (note, probabilities)) in mine.chunks(c).zip(probabilities).enumerate() {
            let report = (row + n) * (c + 2);
            roll[report..report + c].copy_from_slice(note);
            roll[report + c..report + c + 2].copy_from_slice(&probabilities);
        }
        let rests = mine.iter().step_by(c).all(|play| play.value == 0.0);
        state[p] = Bounded::exact(clock);
        state[pieces + p] = Bounded::exact(if rests { silent.value + 1.0 } else { 0.0 });
    }
    [chosen, state, roll].map(InPlace::end).into()
}

fn sweep(
    op: &NoteSweep,
    operands: &Operands,
    (p, clock, row, silent): (usize, f64, usize, Bounded),
    chosen: &mut InPlace<'_>,
    probabilities: &mut [[Bounded; 2]],
) {
    let ([units1, units2], at, c) = (op.units, &op.offsets, op.channels);
    let weights = &operands["weights"];
    // A column of the matrix `[.., 4 units]` that starts at `offset`.
    let column = |offset: usize, units: usize, gate: usize, j: usize| {
        move |k: usize| weights[offset + (k * 4 + gate) * units + j]
    };
    let mut lower = vec![Bounded::ZERO; c];
    let zeros = |units| vec![Bounded::ZERO; units];
    let ([mut h1, mut c1], [mut h2, mut c2]) = ([0; 2].map(|_| zeros(units1)), [0; 2].map(|_| zeros(units2)));
    for (n, probabilities) in probabilities.iter_mut().enumerate() {
        let before = h1.clone();
        for j in 0..units1 {
            let z = [0, 1, 2, 3].map(|gate| {
                let start = operands["input"][((p * op.notes + n) * 4 + gate) * units1 + j];
                let from_lower = (0..c).map(|k| (lower[k], column(at.chosen, units1, gate, j)(k)));
                let from_before = (0..units1).map(|k| (before[k], column(at.recurrent1, units1, gate, j)(k)));
                Bounded::dot(start, from_lower.chain(from_before))
            });
            (_, c1[j], h1[j]) = cell(z, c1[j]);
        }
        let before = h2.clone();
        for j in 0..units2 {
            let z = [0, 1, 2, 3].map(|gate| {
                let start = operands["bias2"][(p * 4 + gate) * units2 + j];
                let from_below = (0..units1).map(|k| (h1[k], column(at.input2, units2, gate, j)(k)));
                let from_before = (0..units2).map(|k| (before[k], column(at.recurrent2, units2, gate, j)(k)));
                Bounded::dot(start, from_below.chain(from_before))
            });
            (_, c2[j], h2[j]) = cell(z, c2[j]);
        }
        let logit = |head: usize, bias: usize, count: usize, i: usize| {
            Bounded::dot(weights[bias + i], (0..units2).map(|k| (h2[k], weights[head + k * count + i])))
        };
        let heads = if op.bins > 0 { 2 } else { c };
        let logits: Vec<Bounded> = (0..heads).map(|i| logit(at.head, at.head_bias, heads, i)).collect();
        let bins: Vec<_> = (0..op.bins).map(|i| logit(at.bins, at.bins_bias, op.bins, i)).collect();
        let Uniforms { temperature, silence, seed, slots, .. } = *operands.uniforms;
        let temperature = Bounded::exact(temperature) + Bounded::exact(silence) * silent;
        let (begin, behind) = operands["control"][row * op.controls()..(row + 1) * op.controls()].split_at(op.notes);
        let note = (p * op.notes + n) * c;
        let sounded = chosen[note].value > 0.0;
        let begin = if sounded { behind[HOLD] } else { begin[n] };
        *probabilities = [logits[0] + begin, logits[1] + behind[REPLAY]].map(|logit| (logit / temperature).sigmoid());
        let draws = pcg4d([n as u32, (slots.first + p) as u32, clock as i64 as u32, seed]).map(uniform01);
        let falls = |i: usize| {
            let gap = f64::from(draws[i]) - probabilities[i].value;
            assert!(
                gap.abs() > probabilities[i].error,
                "draw {i} of note {n} is {gap:e} off its mark: take another seed"
            );
            gap < 0.0
        };
        lower = vec![Bounded::ZERO; c];
        let cell = (row * op.notes + n) * c;
        let given = (operands.uniforms.forced == MIXED).then(|| operands["forced"].uncounted(cell..cell + c));
        if let Some(given) = given.filter(|given| given[0].value >= 0.0) {
            lower.copy_from_slice(given);
        } else if falls(0) {
            let replayed = sounded && falls(1);
            lower = vec![Bounded::ONE, if replayed { Bounded::ONE } else { Bounded::ZERO }];
            lower.extend(&logits[2..]);
            // For notes that play alone.
            uncounted(|| {
                if op.bins > 0 {
                    lower.push(drawn(&bins, draws[2], n));
                }
                for value in &mut lower[2..] {
                    let controlled = *value + behind[GAIN] * *value + behind[OFFSET];
                    *value = Bounded { value: controlled.value.clamp(0.0, 1.0), ..controlled };
                }
            });
        }
        chosen[note..note + c].copy_from_slice(&lower);
    }
}

/// The value of the bin that `draw` takes from a distribution with these logits, for note `n`.
fn drawn(bins: &[Bounded], draw: f32, n: usize) -> Bounded {
    let largest = bins.iter().copied().max_by(|a, b| a.value.total_cmp(&b.value)).unwrap_or(Bounded::ZERO);
    let each: Vec<Bounded> = bins.iter().map(|&bin| (bin - largest).exp()).collect();
    let share = Bounded::exact(draw) * Bounded::sum(Bounded::ZERO, each.iter().copied());
    let passes = |bin: &usize| {
        let sum = Bounded::sum(Bounded::ZERO, each[..=*bin].iter().copied());
        let gap = sum.value - share.value;
        assert!(gap.abs() > sum.error + share.error, "the bin of note {n} is {gap:e} off its mark: take another seed");
        gap > 0.0
    };
    let bin = (0..bins.len()).find(passes).unwrap_or(bins.len() - 1);
    Bounded::quotient(bin as f64 / (bins.len() - 1) as f64)
}

/// The sweep's weights one after the other, some elements apart.
fn op(pieces: usize, notes: usize, units: usize, window: usize) -> NoteSweep {
    sweep_of(pieces, notes, [units; 2], 3, window)
}

/// The same of layers of different widths, or without dynamics.
fn sweep_of(pieces: usize, notes: usize, units: [usize; 2], channels: usize, window: usize) -> NoteSweep {
    sweep_with(pieces, notes, units, (channels, 0), window)
}

/// The same, with dynamics drawn from so many bins where there are some.
fn sweep_with(
    pieces: usize,
    notes: usize,
    units: [usize; 2],
    (channels, bins): (usize, usize),
    window: usize,
) -> NoteSweep {
    let [h1, h2] = units;
    let heads = if bins > 0 { 2 } else { channels };
    let (chosen, input2) = (channels * 4 * h1, 4 * h1 * h2);
    let sizes = [chosen, 4 * h1 * h1, input2, 4 * h2 * h2, heads * h2, heads, bins * h2, bins];
    let mut end = 0;
    let [chosen, recurrent1, input2, recurrent2, head, head_bias, at_bins, bins_bias] = sizes.map(|len| {
        let start = end + 5;
        end = start + len;
        start
    });
    let offsets = Offsets { chosen, recurrent1, input2, recurrent2, head, head_bias, bins: at_bins, bins_bias };
    NoteSweep { pieces, notes, units, channels, bins, window, weights: end, offsets }
}

fn case(op: NoteSweep) -> Case {
    let (pieces, units, cells) = (op.pieces, op.units[0].max(op.units[1]), op.pieces * op.notes);
    // Where a note has two channels, one that repeats.
    let notes = |times: usize| match op.channels {
        3 => Fill::Roll(0.3),
        c => Fill::Values((0..times * cells * c).map(|i| f32::from(i % 11 < 4)).collect()),
    };
    let (forced, before) = (notes(op.window), notes(1));
    let clocks = (0..pieces).map(|p| [-1.0, 0.0, 30.0, 100_000.0][p % 4]);
    let silences = (0..pieces).map(|p| [0.0, 3.0, 1.0][p % 3]);
    Case::new(op, reference)
        .fill("weights", Fill::Within(0.8 / (units as f32).sqrt()))
        .fill("input", Fill::Within(2.0))
        .fill("bias2", Fill::Within(1.0))
        .fill("forced", forced)
        .fill("control", Fill::Within(0.5))
        .fill("notes", before)
        .fill("state", Fill::Values(clocks.chain(silences).collect()))
        .fill("roll", Fill::Within(1.0))
        .uniforms(Uniforms { seed: 20, temperature: 1.0, silence: 0.1, ..Uniforms::default() })
}

pub fn cases() -> Vec<Case> {
    let forced = Uniforms { forced: GIVEN, temperature: 1.0, ..Uniforms::default() };
    let slots = Slots { first: 2, count: 3, total: 5 };
    let others = Uniforms { seed: 20, temperature: 1.0, silence: 0.1, slots, ..Uniforms::default() };
    // Three cells in four are drawn.
    let mixed = |op: NoteSweep| {
        let cells = op.window * op.pieces * op.notes;
        let given = (0..cells).flat_map(|i| match i % 8 {
            0 => vec![1.0, f32::from(u8::from(i % 3 == 0)), 0.7],
            4 => vec![0.0; 3],
            _ => vec![-1.0, 0.0, 0.0],
        });
        let given = given.enumerate().filter(|(i, _)| i % 3 < op.channels).map(|(_, value)| value).collect();
        let uniforms = Uniforms { seed: 20, forced: MIXED, temperature: 1.0, silence: 0.1, ..Uniforms::default() };
        case(op).uniforms(uniforms).fill("forced", Fill::Values(given)).note("some cells given").shortcut()
    };
    // So large that the heads' biases decide every draw.
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
        case(sweep_of(3, 7, [13, 6], 3, 2)),
        case(sweep_of(2, 5, [5, 70], 2, 2)),
        case(sweep_with(2, 9, [16, 12], (3, 128), 2)),
        case(sweep_with(3, 7, [9, 20], (3, 5), 2)),
        case(sweep_with(1, 5, [8, 8], (3, 300), 2)),
        case(sweep_of(2, 9, [100, 50], 2, 3)),
        case(sweep_of(3, 9, [16, 8], 2, 4)).uniforms(forced).note("two channels, given").shortcut(),
        case(op(19, 4, 12, 2)).small_grid(),
        case(op(5, 7, 13, 2)).small_budget(),
        case(op(2, 9, 16, 2)).fill("input", Fill::Signs(1e4)).note("pre-activations 1e4"),
        certain("silence", -50.0),
        certain("all play", 50.0),
        case(op(3, 9, 16, 4)).uniforms(forced).note("given").shortcut(),
        mixed(op(3, 19, 16, 4)),
        mixed(op(3, 9, 16, 4)).fill("control", Fill::Constant(-50.0)).note("given notes alone"),
        mixed(sweep_of(2, 11, [16, 8], 2, 3)),
        mixed(sweep_with(2, 9, [16, 12], (3, 5), 2)),
        case(op(3, 9, 16, 4)).fill("control", Fill::Constant(0.0)).note("no control"),
        case(op(3, 9, 16, 4)).uniforms(others).note("pieces 2+3 of 5"),
        case(op(2, 9, 16, 4)).fill("control", Fill::Within(8.0)).note("strong control"),
        case(op(3, 9, 16, 4)).uniforms(forced).fill("forced", Fill::Constant(0.0)).note("given silence").shortcut(),
    ]
}
