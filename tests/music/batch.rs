use std::collections::BTreeMap;
use std::sync::Arc;

use deepj::music::roll::RollNote;
use deepj::music::sampler::{SlotCursor, WINDOW_STRIDE};
use deepj::music::{Augmentation, Batch, BatchShape, Bptt, Cursor, Evaluation, NoteRange, Piece, Roll, Sampler};
use deepj::shape::{Channel, Channels, Slots};

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
        Arc::new(Piece { name: format!("g/c/{i}"), style: i % 2, roll, dynamics: i % 3 != 1, mean_bpm: 120.0 })
    };
    lengths.iter().enumerate().map(piece).collect()
}

fn shape(slots: usize, steps: usize) -> BatchShape {
    BatchShape { slots: Slots::all(slots), steps, styles: 2, channels: Channels::PERFORMANCE }
}

/// Checks every number of `batch` against the contract, and returns `(piece, target step)` of all cells that count.
fn checked(batch: &Batch, pieces: &[Arc<Piece>], shape: BatchShape) -> Vec<(usize, i64)> {
    let BatchShape { slots: Slots { count, .. }, steps, styles, channels } = shape;
    let (n, row) = (48, 48 * channels.len());
    assert_eq!(batch.roll.len(), (steps + 1) * count * row);
    let c = channels.len();
    assert_eq!((batch.weight.len(), batch.style.len()), (steps * count * c, count * styles));
    assert_eq!((batch.start.len(), batch.keep.len(), batch.piece.len()), (count, count, count));
    let mut targets = Vec::new();
    for b in 0..count {
        let piece = batch.piece[b].map(|piece| &pieces[piece]);
        let style: Vec<f32> = (0..styles).map(|s| f32::from(piece.is_some_and(|piece| piece.style == s))).collect();
        assert_eq!(batch.style[b * styles..][..styles], style);
        for k in 0..=steps {
            let t = batch.start[b] as i64 + k as i64;
            let mut expected = vec![0.0; row];
            if let Some(piece) = piece {
                piece.roll.write_values(channels, t, &mut expected);
            }
            assert_eq!(batch.roll[(k * count + b) * row..][..row], expected, "slot {b} step {k}");
            if k > 0 {
                let counts = piece.is_some_and(|piece| t < piece.roll.steps() as i64);
                let dynamics = piece.is_some_and(|piece| piece.dynamics);
                for (channel, &weight) in channels.iter().zip(&batch.weight[((k - 1) * count + b) * c..][..c]) {
                    let counts = counts && (channel != Channel::Dynamics || dynamics);
                    assert_eq!(weight, if counts { 1.0 / (batch.valid * n) as f32 } else { 0.0 });
                }
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
    for (slots, steps) in [(1, 8), (3, 8), (3, 1), (16, 16), (2, 200)] {
        let pieces = pieces(&LENGTHS);
        let shape = shape(slots, steps);
        let sampler = Evaluation::new(pieces.clone(), shape).unwrap();
        let batches: Vec<Batch> = sampler.clone().collect();
        assert_eq!(batches, sampler.collect::<Vec<_>>());
        let targets = batches.iter().flat_map(|batch| checked(batch, &pieces, shape));
        assert_eq!(count(targets), count(every_step()), "{slots} slots, {steps} steps");
        continuous(&batches, shape);
    }
}

/// A slot keeps its state exactly where it goes on with the piece of the batch before; else it starts at -1.
fn continuous(batches: &[Batch], shape: BatchShape) {
    for b in 0..shape.slots.count {
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
fn stateful_sampling_takes_every_piece_once_an_epoch() {
    let (pieces, shape) = (pieces(&LENGTHS), shape(3, 8));
    let mut sampler = Sampler::new(Bptt::Stateful, pieces.clone(), shape, 5).unwrap();
    let batches: Vec<Batch> = (0..60).map(|_| sampler.next_batch()).collect();
    continuous(&batches, shape);
    let mut begun = Vec::new();
    let mut targets = Vec::new();
    for batch in &batches {
        targets.extend(checked(batch, &pieces, shape));
        assert!(batch.piece.iter().all(Option::is_some), "no slot waits");
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
fn one_epoch_of_one_slot_is_each_step_once() {
    let (pieces, shape) = (pieces(&LENGTHS), shape(1, 8));
    let mut sampler = Sampler::new(Bptt::Stateful, pieces.clone(), shape, 5).unwrap();
    let mut targets = Vec::new();
    while sampler.epochs() < 1.0 {
        targets.extend(checked(&sampler.next_batch(), &pieces, shape));
    }
    assert_eq!(sampler.epochs(), 1.0);
    assert_eq!(count(targets), count(every_step()));
}

#[test]
fn windowed_sampling_is_the_authors() {
    let (pieces, shape) = (pieces(&LENGTHS), shape(1, 32));
    let mut sampler = Sampler::new(Bptt::Windowed, pieces.clone(), shape, 5).unwrap();
    let (mut starts, mut targets) = (Vec::new(), Vec::new());
    while sampler.epochs() < 1.0 {
        let batch = sampler.next_batch();
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

/// A window shorter than the distance to the next can lie beyond the end of its piece: it has no target, and no weight.
#[test]
fn windows_without_a_target_weigh_nothing() {
    let (pieces, shape) = (pieces(&LENGTHS), shape(1, 7));
    let mut sampler = Sampler::new(Bptt::Windowed, pieces.clone(), shape, 5).unwrap();
    let mut empty = 0;
    while sampler.epochs() < 1.0 {
        let batch = sampler.next_batch();
        empty += usize::from(checked(&batch, &pieces, shape).is_empty());
        assert!(batch.weight.iter().all(|weight| weight.is_finite()));
    }
    assert_eq!(empty, 3, "the last windows of the pieces of 7, 40 and 100 time steps");
}

#[test]
fn a_resumed_sampler_goes_on_as_the_first() {
    for bptt in [Bptt::Stateful, Bptt::Windowed] {
        let (pieces, shape) = (pieces(&LENGTHS), shape(4, 8));
        let mut sampler = Sampler::new(bptt, pieces.clone(), shape, 9).unwrap();
        for _ in 0..40 {
            let json = serde_json::to_string(sampler.cursor()).unwrap();
            let cursor: Cursor = serde_json::from_str(&json).unwrap();
            let mut resumed = Sampler::resume(cursor, pieces.clone(), shape).unwrap();
            let mut first = sampler.clone();
            for _ in 0..12 {
                assert_eq!(first.next_batch(), resumed.next_batch(), "{bptt:?}");
            }
            assert_eq!(first.cursor(), resumed.cursor());
            assert_eq!(first.epochs(), resumed.epochs());
            sampler.next_batch();
        }
    }
}

#[test]
fn seeds_give_orders() {
    let first = |seed| {
        let mut sampler = Sampler::new(Bptt::Stateful, pieces(&LENGTHS), shape(4, 8), seed).unwrap();
        sampler.next_batch().piece
    };
    assert_eq!(first(1), first(1));
    assert!((0..20).any(|seed| first(seed) != first(1)));
}

#[test]
fn misfits_are_refused() {
    let shape = shape(2, 8);
    assert!(Sampler::new(Bptt::Stateful, vec![], shape, 0).is_err());
    assert!(Evaluation::new(vec![], shape).is_err());
    for bad in [
        BatchShape { slots: Slots::all(0), ..shape },
        BatchShape { slots: Slots { first: 1, count: 2, total: 2 }, ..shape },
        BatchShape { steps: 0, ..shape },
        BatchShape { styles: 1, ..shape },
    ] {
        assert!(Sampler::new(Bptt::Stateful, pieces(&LENGTHS), bad, 0).is_err());
    }
    let cursor = Sampler::new(Bptt::Stateful, pieces(&LENGTHS), shape, 0).unwrap().cursor().clone();
    let slot =
        |piece, next| Cursor { slots: vec![None, Some(SlotCursor { piece, next, interval: 0 })], ..cursor.clone() };
    for bad in [
        Cursor { taken: 8, ..cursor.clone() },
        Cursor { slots: vec![None], ..cursor.clone() },
        Cursor { bptt: Bptt::Windowed, ..cursor.clone() },
        slot(7, 0),
        slot(1, 39),
        slot(1, -1),
        slot(1, i64::MAX),
    ] {
        assert!(Sampler::resume(bad.clone(), pieces(&LENGTHS), shape).is_err(), "{bad:?}");
    }
    assert!(Sampler::resume(slot(1, 38), pieces(&LENGTHS), shape).is_ok());
    // The pieces have notes from pitch 40 to at most 49, of 36 to 83.
    let moved = |interval| Cursor {
        slots: vec![None, Some(SlotCursor { piece: 1, next: 0, interval })],
        transpose: 3,
        ..cursor.clone()
    };
    assert!(Sampler::resume(moved(-4), pieces(&LENGTHS), shape).is_ok());
    for bad in [-5, 35, i8::MIN, i8::MAX] {
        assert!(Sampler::resume(moved(bad), pieces(&LENGTHS), shape).is_err(), "{bad}");
    }
}

/// The notes of slot `b`, by how many semitones they stand above those of its piece; none where nothing sounds.
fn interval(batch: &Batch, pieces: &[Arc<Piece>], shape: BatchShape, b: usize) -> Option<i64> {
    let BatchShape { slots, steps, channels, .. } = shape;
    let row = 48 * channels.len();
    let piece = &pieces[batch.piece[b].unwrap()];
    let mut found = None;
    for k in 0..=steps {
        let mut still = vec![0.0; row];
        piece.roll.write_values(channels, batch.start[b] as i64 + k as i64, &mut still);
        let moved = &batch.roll[(k * slots.count + b) * row..][..row];
        let lowest = |values: &[f32]| values.chunks(channels.len()).position(|cell| cell[0] == 1.0);
        let Some(here) = lowest(moved) else {
            assert!(lowest(&still).is_none());
            continue;
        };
        let by = here as i64 - lowest(&still).unwrap() as i64;
        assert!(found.is_none_or(|found| found == by), "one interval a window");
        found = Some(by);
        let shifted = |n: i64| usize::try_from(n - by).ok().filter(|n| *n < 48);
        for n in 0..48 {
            let expected = shifted(n).map_or(&[0.0; 3][..], |from| &still[from * channels.len()..][..channels.len()]);
            assert_eq!(&moved[n as usize * channels.len()..][..channels.len()], expected, "{k} {n} {by}");
        }
    }
    found
}

#[test]
fn pieces_are_moved_by_intervals_that_keep_their_notes() {
    for bptt in [Bptt::Stateful, Bptt::Windowed] {
        let (pieces, shape) = (pieces(&LENGTHS), shape(3, 8));
        let augmentation = Augmentation { transpose: 6, ..Augmentation::default() };
        let new = || Sampler::augmented(bptt, pieces.clone(), shape, 5, augmentation).unwrap();
        let (mut sampler, mut of_slots) = (new(), vec![None; 3]);
        let mut seen = BTreeMap::new();
        for number in 0..600 {
            // Resumed now and then from what a checkpoint holds.
            if number % 50 == 7 {
                let text = serde_json::to_string(sampler.cursor()).unwrap();
                sampler = Sampler::resume(serde_json::from_str(&text).unwrap(), pieces.clone(), shape).unwrap();
            }
            let batch = sampler.next_batch();
            for (b, of_slot) in of_slots.iter_mut().enumerate() {
                let by = interval(&batch, &pieces, shape, b);
                if batch.keep[b] == 1.0 {
                    assert!(by.is_none() || *of_slot == by, "{bptt:?}: a piece is moved as a whole");
                } else if by.is_some() {
                    *seen.entry(by.unwrap()).or_insert(0) += 1;
                    *of_slot = by;
                }
            }
        }
        // Down to the lowest pitch of the range, which is four semitones below the lowest note that all pieces can have.
        let lowest = *seen.keys().next().unwrap();
        assert!((-6..=-4).contains(&lowest) && seen.keys().next_back() == Some(&6), "{bptt:?} {seen:?}");
        assert!((-4..=6).all(|by| seen.get(&by).is_some_and(|count| *count > 5)), "{bptt:?} {seen:?}");
        // The same again, and something else with another seed.
        let intervals = |seed| {
            let mut sampler = Sampler::augmented(bptt, pieces.clone(), shape, seed, augmentation).unwrap();
            (0..30).map(|_| sampler.next_batch().roll).collect::<Vec<_>>()
        };
        assert!(intervals(1) == intervals(1) && intervals(1) != intervals(2));
    }
}

#[test]
fn composers_take_part_by_the_power_of_their_music() {
    // Composer 0 has eleven pieces, composer 1 one, all of a length.
    let mut pieces = pieces(&[20; 12]);
    for (i, piece) in pieces.iter_mut().enumerate() {
        *piece = Arc::new(Piece { style: usize::from(i == 7), ..(**piece).clone() });
    }
    for (bptt, balance, share) in [
        (Bptt::Stateful, 1.0, 1.0 / 12.0),
        (Bptt::Stateful, 0.5, 1.0 / (1.0 + 11f64.sqrt())),
        (Bptt::Stateful, 0.0, 0.5),
        (Bptt::Windowed, 0.5, 1.0 / (1.0 + 11f64.sqrt())),
    ] {
        let augmentation = Augmentation { balance, ..Augmentation::default() };
        let mut sampler = Sampler::augmented(bptt, pieces.clone(), shape(1, 32), 3, augmentation).unwrap();
        let windows = if bptt == Bptt::Windowed { 3 } else { 1 };
        let mut taken = [0; 12];
        for number in 0..1200 * windows {
            if number % 100 == 55 {
                sampler = Sampler::resume(sampler.cursor().clone(), pieces.clone(), shape(1, 32)).unwrap();
            }
            taken[sampler.next_batch().piece[0].unwrap()] += 1;
        }
        let all = (1200 * windows) as f64;
        assert!((taken[7] as f64 / all - share).abs() < 0.005, "{bptt:?} {balance}: {taken:?}");
        // None of the others is drowned.
        let others = taken.iter().enumerate().filter(|(i, _)| *i != 7).map(|(_, count)| *count);
        let (least, most) = (others.clone().min().unwrap(), others.max().unwrap());
        assert!(most - least <= 2 * windows, "{bptt:?} {balance}: {taken:?}");
        assert!((sampler.epochs() - 100.0).abs() < 1.0, "{}", sampler.epochs());
    }
}

/// The batches of `parts` of one batch, put side by side.
fn side_by_side(parts: &[Batch], shapes: &[BatchShape]) -> Batch {
    /// `[rows, B, width]` of each part to one of all.
    fn join<T: Copy>(parts: &[(&[T], usize)], rows: usize) -> Vec<T> {
        let row = |r| parts.iter().flat_map(move |(part, len)| part[r * len..][..*len].iter().copied());
        (0..rows).flat_map(row).collect()
    }
    let BatchShape { steps, styles, channels, .. } = shapes[0];
    let of = |width: usize, field: fn(&Batch) -> &[f32], rows: usize| {
        let of_part = |(part, shape): (_, &BatchShape)| (field(part), shape.slots.count * width);
        join(&parts.iter().zip(shapes).map(of_part).collect::<Vec<_>>(), rows)
    };
    assert!(parts.iter().all(|part| part.valid == parts[0].valid));
    Batch {
        roll: of(48 * channels.len(), |batch| &batch.roll, steps + 1),
        start: of(1, |batch| &batch.start, 1),
        weight: of(channels.len(), |batch| &batch.weight, steps),
        style: of(styles, |batch| &batch.style, 1),
        keep: of(1, |batch| &batch.keep, 1),
        piece: parts.iter().flat_map(|part| part.piece.clone()).collect(),
        valid: parts[0].valid,
    }
}

/// Shapes that share a batch of `total` slots, so many each.
fn shares<const P: usize>(counts: [usize; P], whole: BatchShape) -> [BatchShape; P] {
    let mut first = 0;
    counts.map(|count| {
        first += count;
        BatchShape { slots: Slots { first: first - count, count, total: whole.slots.total }, ..whole }
    })
}

#[test]
fn processes_that_share_a_batch_make_the_batch_of_one() {
    for bptt in [Bptt::Stateful, Bptt::Windowed] {
        for channels in [Channels::PERFORMANCE, Channels::NOTES] {
            let (pieces, whole) = (pieces(&LENGTHS), BatchShape { channels, ..shape(5, 8) });
            let shapes = shares([2, 3], whole);
            let mut one = Sampler::new(bptt, pieces.clone(), whole, 11).unwrap();
            let mut parts = shapes.map(|shape| Sampler::new(bptt, pieces.clone(), shape, 11).unwrap());
            for _ in 0..150 {
                let batches = [0, 1].map(|p: usize| parts[p].next_batch());
                assert_eq!(side_by_side(&batches, &shapes), one.next_batch());
                assert!(parts.iter().all(|part| part.cursor() == one.cursor()));
            }
            assert!(one.epochs() > 3.0, "{}", one.epochs());
            // Whoever goes on may be another number of processes.
            let mut resumed = Sampler::resume(parts[1].cursor().clone(), pieces, whole).unwrap();
            assert_eq!(resumed.next_batch(), one.next_batch());
        }
    }
}

#[test]
fn processes_that_share_an_evaluation_make_that_of_one() {
    let (pieces, whole) = (pieces(&LENGTHS), shape(4, 8));
    let shapes = shares([1, 2, 1], whole);
    let mut parts = shapes.map(|shape| Evaluation::new(pieces.clone(), shape).unwrap());
    for batch in Evaluation::new(pieces.clone(), whole).unwrap() {
        let batches = [0, 1, 2].map(|p: usize| parts[p].next().unwrap());
        assert_eq!(side_by_side(&batches, &shapes), batch);
    }
    assert!(parts.iter_mut().all(|part| part.next().is_none()), "all end together");
}

/// Checkpoints hold cursors: what an older version wrote is read, and written again as it was.
#[test]
fn a_cursor_is_stored_as_it_always_was() {
    let stateful =
        r#"{"bptt":"stateful","seed":9,"epoch":2,"taken":3,"finished":15,"lanes":[null,{"piece":1,"next":7}]}"#;
    let windowed = r#"{"bptt":"windowed","seed":9,"epoch":2,"taken":3,"finished":15,"lanes":[]}"#;
    for stored in [stateful, windowed] {
        let cursor: Cursor = serde_json::from_str(stored).unwrap();
        assert_eq!(serde_json::to_string(&cursor).unwrap(), stored);
        Sampler::resume(cursor, pieces(&LENGTHS), shape(2, 8)).unwrap();
    }
}
