use std::collections::BTreeMap;
use std::sync::Arc;

use deepj::music::batch::{LaneCursor, WINDOW_STRIDE};
use deepj::music::roll::RollNote;
use deepj::music::{Batch, BatchShape, Bptt, Cursor, Evaluation, NoteRange, Piece, Roll, Training};

/// Pieces of the given lengths, each step unlike any other: piece i sounds at velocity i + 1 on pitches that spell t.
fn pieces(lengths: &[usize]) -> Vec<Arc<Piece>> {
    let piece = |(i, &length): (usize, &usize)| {
        let step = |t| {
            let bits = (0..10u8).filter(move |bit| t >> bit & 1 == 1 || *bit == 9);
            bits.map(move |bit| RollNote {
                pitch: 40 + bit,
                velocity: i as u8 + 1,
                start: t,
                end: t + 1,
                replay: false,
            })
        };
        let roll = Roll::from_notes(NoteRange::default(), (0..length).flat_map(step)).unwrap();
        Arc::new(Piece { name: format!("g/c/{i}"), style: i % 2, roll, mean_bpm: 120.0 })
    };
    lengths.iter().enumerate().map(piece).collect()
}

fn shape(lanes: usize, steps: usize) -> BatchShape {
    BatchShape { lanes, steps, styles: 2 }
}

/// Checks every number of `batch` against the contract, and returns `(piece, target step)` of all cells that count.
fn checked(batch: &Batch, pieces: &[Arc<Piece>], shape: BatchShape) -> Vec<(usize, i64)> {
    let BatchShape { lanes, steps, styles } = shape;
    let n = 48;
    assert_eq!(batch.roll.len(), (steps + 1) * lanes * n * 3);
    assert_eq!((batch.weight.len(), batch.style.len()), (steps * lanes, lanes * styles));
    assert_eq!((batch.start.len(), batch.keep.len(), batch.piece.len()), (lanes, lanes, lanes));
    let mut targets = Vec::new();
    for b in 0..lanes {
        let piece = batch.piece[b].map(|piece| &pieces[piece]);
        let style: Vec<f32> = (0..styles).map(|s| f32::from(piece.is_some_and(|piece| piece.style == s))).collect();
        assert_eq!(batch.style[b * styles..][..styles], style);
        for k in 0..=steps {
            let t = batch.start[b] as i64 + k as i64;
            let mut expected = vec![0.0; n * 3];
            if let Some(piece) = piece {
                piece.roll.write_values(t, &mut expected);
            }
            assert_eq!(batch.roll[(k * lanes + b) * n * 3..][..n * 3], expected, "lane {b} step {k}");
            if k > 0 {
                let counts = piece.is_some_and(|piece| t < piece.roll.steps() as i64);
                let weight = batch.weight[(k - 1) * lanes + b];
                assert_eq!(weight, if counts { 1.0 / (batch.valid * n) as f32 } else { 0.0 });
                targets.extend(counts.then(|| (batch.piece[b].unwrap(), t)));
            }
        }
    }
    assert_eq!(targets.len(), batch.valid);
    targets
}

/// How often each target came.
fn count(targets: impl IntoIterator<Item = (usize, i64)>) -> BTreeMap<(usize, i64), usize> {
    let mut counts = BTreeMap::new();
    for target in targets {
        *counts.entry(target).or_default() += 1;
    }
    counts
}

const LENGTHS: [usize; 7] = [1, 40, 7, 16, 17, 33, 100];

fn every_step() -> impl Iterator<Item = (usize, i64)> {
    LENGTHS.iter().enumerate().flat_map(|(piece, &length)| (0..length as i64).map(move |t| (piece, t)))
}

#[test]
fn evaluation_counts_every_step_once_and_ends() {
    for (lanes, steps) in [(1, 8), (3, 8), (3, 1), (16, 16), (2, 200)] {
        let pieces = pieces(&LENGTHS);
        let shape = shape(lanes, steps);
        let walk = Evaluation::new(pieces.clone(), shape).unwrap();
        let batches: Vec<Batch> = walk.clone().collect();
        assert_eq!(batches, walk.collect::<Vec<_>>());
        let targets = batches.iter().flat_map(|batch| checked(batch, &pieces, shape));
        assert_eq!(count(targets), count(every_step()), "{lanes} lanes, {steps} steps");
        continuous(&batches, shape);
    }
}

/// A lane keeps its state exactly where it goes on with the piece of the batch before; else it starts at -1.
fn continuous(batches: &[Batch], shape: BatchShape) {
    for b in 0..shape.lanes {
        let mut before: Option<(usize, f32)> = None;
        for batch in batches {
            let now = batch.piece[b].map(|piece| (piece, batch.start[b]));
            if let Some((piece, start)) = now {
                let goes_on = before == Some((piece, start - shape.steps as f32));
                assert_eq!(batch.keep[b], f32::from(goes_on));
                assert!(goes_on || start == -1.0);
            } else {
                assert_eq!(batch.keep[b], 0.0);
            }
            before = now;
        }
    }
}

#[test]
fn the_stateful_walk_takes_every_piece_once_an_epoch() {
    let (pieces, shape) = (pieces(&LENGTHS), shape(3, 8));
    let mut walk = Training::new(Bptt::Stateful, pieces.clone(), shape, 5).unwrap();
    let batches: Vec<Batch> = (0..60).map(|_| walk.next_batch()).collect();
    continuous(&batches, shape);
    let mut begun = Vec::new();
    let mut targets = Vec::new();
    for batch in &batches {
        targets.extend(checked(batch, &pieces, shape));
        assert!(batch.piece.iter().all(Option::is_some), "no lane waits");
        begun.extend((0..3).filter(|&b| batch.keep[b] == 0.0).map(|b| batch.piece[b].unwrap()));
    }
    let epochs: Vec<&[usize]> = begun.chunks_exact(LENGTHS.len()).collect();
    assert!(epochs.len() > 3);
    for epoch in &epochs {
        let mut sorted = epoch.to_vec();
        sorted.sort();
        assert_eq!(sorted, [0, 1, 2, 3, 4, 5, 6]);
    }
    assert!(epochs.windows(2).any(|pair| pair[0] != pair[1]), "shuffled anew");
    // Of a piece that was begun f times and ended each time, each step came f times.
    let counts = count(targets);
    let times = |piece| begun.iter().filter(|&&begun| begun == piece).count();
    for ((piece, t), count) in counts {
        assert!(times(piece) - count <= 3, "step {t} of piece {piece}: {count} of {}", times(piece));
        assert!(t > 0 || times(piece) == count);
    }
}

#[test]
fn one_epoch_of_one_lane_is_each_step_once() {
    let (pieces, shape) = (pieces(&LENGTHS), shape(1, 8));
    let mut walk = Training::new(Bptt::Stateful, pieces.clone(), shape, 5).unwrap();
    let mut targets = Vec::new();
    while walk.epochs() < 1.0 {
        targets.extend(checked(&walk.next_batch(), &pieces, shape));
    }
    assert_eq!(walk.epochs(), 1.0);
    assert_eq!(count(targets), count(every_step()));
}

#[test]
fn the_windowed_walk_is_the_authors() {
    let (pieces, shape) = (pieces(&LENGTHS), shape(1, 32));
    let mut walk = Training::new(Bptt::Windowed, pieces.clone(), shape, 5).unwrap();
    let (mut starts, mut targets) = (Vec::new(), Vec::new());
    while walk.epochs() < 1.0 {
        let batch = walk.next_batch();
        targets.extend(checked(&batch, &pieces, shape));
        assert_eq!(batch.keep, [0.0]);
        starts.push((batch.piece[0].unwrap(), batch.start[0] as i64));
    }
    assert!(!starts.is_sorted(), "shuffled");
    starts.sort();
    let expected = LENGTHS.iter().enumerate().flat_map(|(piece, &length)| {
        let windows = (length - 1).div_ceil(WINDOW_STRIDE) as i64;
        (0..=windows).map(move |window| (piece, window * WINDOW_STRIDE as i64 - 32))
    });
    assert_eq!(starts, expected.collect::<Vec<_>>());
    let counts = count(targets);
    for (piece, t) in every_step() {
        // 32 / 16 windows hold each step, but the last bar's only one.
        let last_bar = LENGTHS[piece] as i64 - t <= WINDOW_STRIDE as i64;
        assert!(counts[&(piece, t)] == 2 || last_bar && counts[&(piece, t)] == 1, "step {t} of piece {piece}");
    }
    // The silent steps before the piece are targets as well.
    assert_eq!(counts[&(6, -31)], 1);
}

#[test]
fn a_resumed_walk_goes_on_as_the_first() {
    for bptt in [Bptt::Stateful, Bptt::Windowed] {
        let (pieces, shape) = (pieces(&LENGTHS), shape(4, 8));
        let mut walk = Training::new(bptt, pieces.clone(), shape, 9).unwrap();
        for _ in 0..40 {
            let json = serde_json::to_string(walk.cursor()).unwrap();
            let cursor: Cursor = serde_json::from_str(&json).unwrap();
            let mut resumed = Training::resume(cursor, pieces.clone(), shape).unwrap();
            let mut first = walk.clone();
            for _ in 0..12 {
                assert_eq!(first.next_batch(), resumed.next_batch(), "{bptt:?}");
            }
            assert_eq!(first.cursor(), resumed.cursor());
            assert_eq!(first.epochs(), resumed.epochs());
            walk.next_batch();
        }
    }
}

#[test]
fn seeds_give_orders() {
    let first = |seed| {
        let mut walk = Training::new(Bptt::Stateful, pieces(&LENGTHS), shape(4, 8), seed).unwrap();
        walk.next_batch().piece
    };
    assert_eq!(first(1), first(1));
    assert!((0..20).any(|seed| first(seed) != first(1)));
}

#[test]
fn misfits_are_refused() {
    let shape = shape(2, 8);
    assert!(Training::new(Bptt::Stateful, vec![], shape, 0).is_err());
    assert!(Evaluation::new(vec![], shape).is_err());
    for bad in [BatchShape { lanes: 0, ..shape }, BatchShape { steps: 0, ..shape }, BatchShape { styles: 1, ..shape }] {
        assert!(Training::new(Bptt::Stateful, pieces(&LENGTHS), bad, 0).is_err());
    }
    let cursor = Training::new(Bptt::Stateful, pieces(&LENGTHS), shape, 0).unwrap().cursor().clone();
    let lane = |piece, next| Cursor { lanes: vec![None, Some(LaneCursor { piece, next })], ..cursor.clone() };
    for bad in [
        Cursor { taken: 8, ..cursor.clone() },
        Cursor { lanes: vec![None], ..cursor.clone() },
        Cursor { bptt: Bptt::Windowed, ..cursor.clone() },
        lane(7, 0),
        lane(1, 39),
        lane(1, -2),
        lane(1, i64::MAX),
    ] {
        assert!(Training::resume(bad.clone(), pieces(&LENGTHS), shape).is_err(), "{bad:?}");
    }
    assert!(Training::resume(lane(1, 38), pieces(&LENGTHS), shape).is_ok());
}
