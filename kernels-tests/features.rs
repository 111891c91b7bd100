//! Cases of `src/ops/features.rs`: a count sums an octave's notes, an octave feature is multiplied once, the rest are
//! constants.

use crate::gpu::Format::{F16, F32};
use crate::ops::Uniforms;
use crate::ops::dropout::DropoutSite;
use crate::ops::features::{Features, FeaturesGrad};
use crate::shape::Slots;

use super::dropout::factor;
use super::harness::{Bounded, Builder, Case, Fill, Gradient, Operands};

fn forward(op: &Features, operands: &Operands) -> Vec<Vec<Bounded>> {
    let (notes, octave, start) = (&operands["notes"], &operands["octave"], &operands["start"]);
    let mut y = vec![];
    for t in 0..op.steps {
        for b in 0..op.batch {
            let row = (t * op.batch + b) * op.notes;
            let beat = (start[b].value as i64 + t as i64).rem_euclid(op.beats as i64) as usize;
            let mut counts = [Bounded::ZERO; 12];
            for (class, count) in counts.iter_mut().enumerate() {
                let same = (0..op.notes).filter(|n| (op.lowest + n) % 12 == class);
                *count = Bounded::sum(Bounded::ZERO, same.map(|n| notes[(row + n) * op.channels]));
            }
            for n in 0..op.notes {
                let class = (op.lowest + n) % 12;
                y.push(Bounded::quotient(n as f64 / op.notes as f64));
                y.extend((0..12).map(|c| if c == class { Bounded::ONE } else { Bounded::ZERO }));
                y.push(counts[class]);
                for f in 0..op.octave {
                    let i = (row + n) * op.octave + f;
                    y.push(octave[i] * factor(op.octave_drop, operands.uniforms, i));
                }
                let in_beat = factor(op.beat_drop, operands.uniforms, (t * op.batch + b) * op.beats + beat);
                y.extend((0..op.beats).map(|q| if q == beat { in_beat } else { Bounded::ZERO }));
                y.extend(vec![Bounded::ZERO; op.width().next_multiple_of(8) - op.width()]);
            }
        }
    }
    vec![y]
}

fn backward(op: &FeaturesGrad, operands: &Operands) -> Vec<Vec<Bounded>> {
    let op = &op.0;
    let (dy, width) = (&operands["dy"], (14 + op.octave + op.beats).next_multiple_of(8));
    let mut d = vec![];
    for cell in 0..op.steps * op.batch * op.notes {
        for f in 0..op.octave {
            d.push(dy[cell * width + 14 + f] * factor(op.octave_drop, operands.uniforms, cell * op.octave + f));
        }
    }
    vec![d]
}

fn op(steps: usize, batch: usize, notes: usize, octave: usize, beats: usize, rates: [f32; 2]) -> Features {
    let [octave_drop, beat_drop] = [0, 1].map(|i| DropoutSite { site: 3 - i as u32, rate: rates[i], inner: 1 });
    Features { steps, batch, notes, channels: 3, lowest: 36, octave, beats, octave_drop, beat_drop, stored: F32 }
}

fn cases_of(op: Features) -> [Case; 2] {
    let starts = (0..op.batch).map(|b| [0.0, 17.0, -3.0, 65_000.0, -1.0][b % 5]).collect();
    [
        Case::new(op.clone(), forward)
            .fill("notes", Fill::Roll(0.5))
            .fill("octave", Fill::Within(1.0))
            .fill("start", Fill::Values(starts)),
        Case::new(FeaturesGrad(op), backward).fill("dy", Fill::Within(1.0)),
    ]
}

pub fn cases() -> Vec<Case> {
    const ON: [f32; 2] = [0.4, 0.2];
    const OFF: [f32; 2] = [0.0, 0.0];
    let mut cases = vec![];
    for (op, note) in [
        (op(1, 1, 1, 1, 1, ON), ""),
        (op(1, 1, 48, 64, 16, OFF), "without dropout"),
        (op(3, 2, 48, 64, 16, ON), ""),
        (op(5, 3, 13, 7, 6, ON), ""),
        (Features { lowest: 23, ..op(2, 5, 29, 32, 16, ON) }, "from B"),
        (op(37, 1, 5, 3, 16, ON), ""),
        (op(4, 2, 8, 12, 6, ON), "whole workgroups"),
    ] {
        cases.extend(cases_of(op).map(|case| if note.is_empty() { case } else { case.note(note) }));
    }
    let [all, _] = cases_of(op(2, 2, 25, 4, 16, OFF));
    cases.push(all.fill("notes", Fill::Constant(1.0)).note("all play"));
    let [dropped_out, _] = cases_of(op(2, 2, 25, 4, 16, ON));
    cases.push(dropped_out.fill("notes", Fill::Uniform(0.0, 1.25)).note("notes of any size"));
    // Play and replay alone, as the whole batch and as two of its five slots.
    let two = || Features { channels: 2, ..op(3, 2, 13, 7, 16, ON) };
    let [two_channels, _] = cases_of(two());
    cases.push(two_channels.fill("notes", Fill::Uniform(0.0, 1.0)).note("two channels"));
    let slots = Slots { first: 2, count: 2, total: 5 };
    let of_batch = |mut op: Features| {
        (op.octave_drop.inner, op.beat_drop.inner) = (op.notes * op.octave, op.beats);
        cases_of(op).map(|case| {
            case.uniforms(Uniforms { slots, seed: 3, update: 8, ..Uniforms::default() }).note("slots 2+2 of 5")
        })
    };
    cases.extend(of_batch(two()));
    cases.extend(cases_of(op(13, 5, 11, 9, 16, ON)).map(Case::small_bindings));
    cases.extend(cases_of(op(5, 5, 13, 16, 16, ON)).map(Case::small_grid));
    cases.extend(cases_of(op(5, 3, 13, 7, 6, ON)).map(Case::small_budget));
    for op in [op(3, 2, 48, 64, 16, ON), op(5, 3, 13, 7, 6, ON)] {
        cases.extend(cases_of(Features { stored: F16, ..op }));
    }
    cases.extend(cases_of(Features { stored: F16, ..op(13, 5, 11, 9, 16, ON) }).map(Case::small_bindings));
    cases
}

pub fn gradients() -> Vec<Gradient> {
    let features = |g: &mut Builder| {
        let op = op(3, 2, 5, 4, 6, [0.4, 0.2]);
        let notes = g.input_of((0..90).map(|i| f64::from(i % 7 == 0)).collect());
        let (octave, start) = (g.hidden(30 * 4), g.input_of(vec![-2.0, 5.0]));
        let y = g.temp(30 * op.row());
        g.apply(op, &[notes, octave, start, y]);
        vec![y]
    };
    vec![Gradient::new("features", features)]
}
