//! Batches of rolls for a model, and the walks that make them.
//!
//! A piece x_0..x_{L-1} is read as if one silent step x_{-1} preceded it: the inputs are x_{-1}..x_{L-2}, the targets
//! x_0..x_{L-1}, so that the first step is predicted from silence. A batch holds B lanes of T + 1 steps; its first T are
//! inputs, its last T targets.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::corpus::Piece;
use super::shuffle::SplitMix64;
use crate::{Error, Result};

/// Steps between two windows of one piece in [`Bptt::Windowed`]: a bar.
pub const WINDOW_STRIDE: usize = 16;

/// The shape of batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchShape {
    /// B, pieces side by side.
    pub lanes: usize,
    /// T, input steps.
    pub steps: usize,
    /// S, width of the style vector.
    pub styles: usize,
}

/// What a model reads in one step of training or evaluation; all arrays row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// `[T+1, B, N, 3]`: play, replay, dynamics. Step k of lane b is step `start[b] + k` of its piece; inputs are steps
    /// 0..T, targets steps 1..=T. Silent outside the piece.
    pub roll: Vec<f32>,
    /// `[B]`: the place in the piece of the first input step, from -1 (stateful) or -T (windowed) up.
    pub start: Vec<f32>,
    /// `[T, B]`: 1 / (valid cells (t,b) of the batch * N) where the target counts, 0 elsewhere; so the sum of
    /// weight * loss over all cells (t,b,n) is the mean over those that count.
    pub weight: Vec<f32>,
    /// `[B, S]`: one-hot for the piece's composer; zero where the lane is empty.
    pub style: Vec<f32>,
    /// `[B]`: 1 where the lane goes on from the batch before and keeps its LSTM state, 0 where it starts from zero state.
    pub keep: Vec<f32>,
    /// `[B]`: the lane's piece as an index into the walk's pieces; `None` where the lane is empty.
    pub piece: Vec<Option<usize>>,
    /// The number of (t,b) whose target counts, at least 1.
    pub valid: usize,
}

/// The part of a piece that one lane of a batch holds.
#[derive(Clone, Copy, Debug)]
struct Window {
    piece: usize,
    /// The first input step.
    start: i64,
    keep: bool,
}

/// The pieces of a walk and the shape of its batches.
#[derive(Clone, Debug)]
struct Source {
    pieces: Vec<Arc<Piece>>,
    shape: BatchShape,
}

impl Source {
    fn new(pieces: Vec<Arc<Piece>>, shape: BatchShape) -> Result<Self> {
        let Some(first) = pieces.first() else {
            return Err(Error::usage("there is no piece to make batches of", "Give a corpus with more pieces."));
        };
        if shape.lanes == 0 || shape.steps == 0 {
            return Err(Error::usage("a batch needs at least one lane and one step", "Raise --batch or --seq."));
        }
        let unfit = |piece: &&Arc<Piece>| piece.roll.range() != first.roll.range() || piece.style >= shape.styles;
        if let Some(piece) = pieces.iter().find(unfit) {
            return Err(Error::model(
                format!("{} has another note range or a style beyond the {} known", piece.name, shape.styles),
                "Read the corpus with the model's note range and styles.",
            ));
        }
        Ok(Self { pieces, shape })
    }

    fn length(&self, piece: usize) -> i64 {
        self.pieces[piece].roll.steps() as i64
    }

    /// A batch of one window a lane, at least one of which holds a target.
    fn batch(&self, windows: &[Option<Window>]) -> Batch {
        let BatchShape { lanes, steps, styles } = self.shape;
        let n = self.pieces[0].roll.range().len();
        let mut batch = Batch {
            roll: vec![0.0; (steps + 1) * lanes * n * 3],
            start: vec![-1.0; lanes],
            weight: vec![0.0; steps * lanes],
            style: vec![0.0; lanes * styles],
            keep: vec![0.0; lanes],
            piece: vec![None; lanes],
            valid: 0,
        };
        for (b, window) in windows.iter().enumerate() {
            let Some(Window { piece, start, keep }) = *window else { continue };
            batch.start[b] = start as f32;
            batch.keep[b] = f32::from(u8::from(keep));
            batch.piece[b] = Some(piece);
            let piece = &self.pieces[piece];
            batch.style[b * styles + piece.style] = 1.0;
            for k in 0..=steps {
                let t = start + k as i64;
                piece.roll.write_values(t, &mut batch.roll[(k * lanes + b) * n * 3..][..n * 3]);
                if k > 0 && t < piece.roll.steps() as i64 {
                    batch.weight[(k - 1) * lanes + b] = 1.0;
                    batch.valid += 1;
                }
            }
        }
        let weight = 1.0 / (batch.valid * n) as f32;
        batch.weight.iter_mut().for_each(|valid| *valid *= weight);
        batch
    }
}

/// How training walks through the pieces (spec: backpropagation through time).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bptt {
    /// Every lane walks one piece from its beginning and carries the LSTM state from batch to batch.
    Stateful,
    /// The authors' way: windows of T steps, one every [`WINDOW_STRIDE`], over pieces with T silent steps put before
    /// them, each from zero state.
    Windowed,
}

impl std::str::FromStr for Bptt {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "stateful" => Ok(Self::Stateful),
            "windowed" => Ok(Self::Windowed),
            _ => Err(Error::usage(format!("'{text}' is no way to train"), "Give stateful or windowed.")),
        }
    }
}

/// Where a training walk stands. With the same pieces and shape, a walk resumed from it goes on as the first would have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The kind of walk.
    pub bptt: Bptt,
    /// The seed of its orders.
    pub seed: u64,
    /// The epoch whose order is being drawn from.
    pub epoch: u64,
    /// How many pieces (stateful) or windows (windowed) of the epoch's order have been taken.
    pub taken: usize,
    /// Pieces (stateful) or windows (windowed) that were walked to their end, over all epochs.
    pub finished: u64,
    /// Stateful: what each lane is in the middle of. Empty for windowed.
    pub lanes: Vec<Option<LaneCursor>>,
}

/// Where a lane stands in its piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneCursor {
    /// Index into the walk's pieces.
    pub piece: usize,
    /// The next input step; above -1, since a lane takes a new piece only when it begins it.
    pub next: i64,
}

/// An endless, seeded walk through training pieces, one batch after the other.
///
/// Each epoch takes every piece (or window) exactly once, in an order shuffled by seed and epoch; lanes pass from one
/// epoch to the next without a gap. In the stateful walk a lane whose piece ends takes the next one in the next batch,
/// and the rest of its window has weight 0. In the windowed walk the last window of a piece may reach over its end, so
/// that every step is a target; the authors drop up to 15 steps there.
#[derive(Clone, Debug)]
pub struct Training {
    source: Source,
    cursor: Cursor,
    /// The order of the epoch: pieces and starts of windows.
    order: Vec<(usize, i64)>,
}

impl Training {
    /// A walk from the beginning.
    ///
    /// # Errors
    /// No pieces, an empty shape, or pieces of different note ranges.
    pub fn new(bptt: Bptt, pieces: Vec<Arc<Piece>>, shape: BatchShape, seed: u64) -> Result<Self> {
        let lanes = match bptt {
            Bptt::Stateful => vec![None; shape.lanes],
            Bptt::Windowed => Vec::new(),
        };
        Self::resume(Cursor { bptt, seed, epoch: 0, taken: 0, finished: 0, lanes }, pieces, shape)
    }

    /// A walk that goes on at `cursor`.
    ///
    /// # Errors
    /// Those of [`Training::new`], and a cursor that does not fit the pieces or the shape.
    pub fn resume(cursor: Cursor, pieces: Vec<Arc<Piece>>, shape: BatchShape) -> Result<Self> {
        let source = Source::new(pieces, shape)?;
        let mut walk = Self { source, cursor, order: Vec::new() };
        walk.order = walk.shuffled();
        let lanes = if walk.cursor.bptt == Bptt::Stateful { shape.lanes } else { 0 };
        let in_piece = |lane: &LaneCursor| {
            lane.piece < walk.source.pieces.len() && (-1..walk.source.length(lane.piece) - 1).contains(&lane.next)
        };
        if walk.cursor.lanes.len() != lanes
            || walk.cursor.taken > walk.order.len()
            || !walk.cursor.lanes.iter().flatten().all(in_piece)
        {
            return Err(Error::model(
                "the walk through the corpus stored in the checkpoint does not fit this corpus or batch",
                "Resume with the corpus, --batch, --seq and --bptt that the run was started with.",
            ));
        }
        Ok(walk)
    }

    /// Where the walk stands after the batches made so far.
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// How often the walk has been through the pieces, with the part of the epoch: pieces or windows walked to their
    /// end per piece or window.
    pub fn epochs(&self) -> f64 {
        self.cursor.finished as f64 / self.order.len() as f64
    }

    /// The order of the cursor's epoch.
    fn shuffled(&self) -> Vec<(usize, i64)> {
        let pieces = 0..self.source.pieces.len();
        let steps = self.source.shape.steps as i64;
        let mut order: Vec<(usize, i64)> = match self.cursor.bptt {
            Bptt::Stateful => pieces.map(|piece| (piece, -1)).collect(),
            // The last target of a window is its start + steps: the windows go on until that is the last step.
            Bptt::Windowed => pieces
                .flat_map(|piece| {
                    let last = (self.source.length(piece) as usize - 1).next_multiple_of(WINDOW_STRIDE);
                    (0..=last).step_by(WINDOW_STRIDE).map(move |place| (piece, place as i64 - steps))
                })
                .collect(),
        };
        SplitMix64::new(self.cursor.seed, self.cursor.epoch).shuffle(&mut order);
        order
    }

    /// The next piece or window of the order.
    fn take(&mut self) -> (usize, i64) {
        if self.cursor.taken == self.order.len() {
            self.cursor.epoch += 1;
            self.cursor.taken = 0;
            self.order = self.shuffled();
        }
        self.cursor.taken += 1;
        self.order[self.cursor.taken - 1]
    }

    /// The next batch.
    pub fn next_batch(&mut self) -> Batch {
        let steps = self.source.shape.steps as i64;
        let mut windows = Vec::with_capacity(self.source.shape.lanes);
        for b in 0..self.source.shape.lanes {
            let going_on = self.cursor.lanes.get(b).copied().flatten();
            let (piece, start) = going_on.map_or_else(|| self.take(), |lane| (lane.piece, lane.next));
            windows.push(Some(Window { piece, start, keep: going_on.is_some() }));
            let next = start + steps;
            let ended = self.cursor.bptt == Bptt::Windowed || next + 1 >= self.source.length(piece);
            self.cursor.finished += u64::from(ended);
            if let Some(lane) = self.cursor.lanes.get_mut(b) {
                *lane = (!ended).then_some(LaneCursor { piece, next });
            }
        }
        self.source.batch(&windows)
    }
}

/// A walk through every step of every piece exactly once, stateful, for evaluation: an iterator that ends. Lanes with
/// nothing left are empty. The longest pieces come first, so that lanes end close together.
#[derive(Clone, Debug)]
pub struct Evaluation {
    source: Source,
    /// Pieces that no lane has begun.
    waiting: VecDeque<usize>,
    lanes: Vec<Option<Window>>,
}

impl Evaluation {
    /// A walk through `pieces`. No more lanes are used than there are pieces, but batches have `shape`.
    ///
    /// # Errors
    /// No pieces, an empty shape, or pieces of different note ranges.
    pub fn new(pieces: Vec<Arc<Piece>>, shape: BatchShape) -> Result<Self> {
        let source = Source::new(pieces, shape)?;
        let mut waiting: Vec<usize> = (0..source.pieces.len()).collect();
        waiting.sort_by_key(|&piece| std::cmp::Reverse(source.length(piece)));
        Ok(Self { source, waiting: waiting.into(), lanes: vec![None; shape.lanes] })
    }

    /// The pieces, in the order that [`Batch::piece`] counts.
    pub fn pieces(&self) -> &[Arc<Piece>] {
        &self.source.pieces
    }
}

impl Iterator for Evaluation {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        for lane in &mut self.lanes {
            if lane.is_none() {
                *lane = self.waiting.pop_front().map(|piece| Window { piece, start: -1, keep: false });
            }
        }
        if self.lanes.iter().all(Option::is_none) {
            return None;
        }
        let batch = self.source.batch(&self.lanes);
        let steps = self.source.shape.steps as i64;
        for lane in &mut self.lanes {
            *lane = lane
                .map(|window| Window { start: window.start + steps, keep: true, ..window })
                .filter(|window| window.start + 1 < self.source.length(window.piece));
        }
        Some(batch)
    }
}
