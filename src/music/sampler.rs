//! Batch samplers: which part of which piece stands in which slot of a batch, in training and in evaluation.
//!
//! Several processes can share one batch, each with some of its slots ([`Slots`]). Every process
//! then samples all slots of the whole batch and computes its own. So pieces, order and cursor do not depend on how many
//! processes there are.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::batch::{Batch, BatchShape, Source, Window};
use super::piece::Piece;
use crate::shape::Slots;
use crate::shuffle::SplitMix64;
use crate::{Error, Result};

/// Time steps from one window of a piece to the next in [`Bptt::Windowed`]: a bar.
pub const WINDOW_STRIDE: usize = 16;

/// How backpropagation through time cuts the pieces into windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bptt {
    /// Every slot reads one piece from its beginning, T time steps a batch, and carries the LSTM state from batch to
    /// batch.
    Stateful,
    /// The authors' way: windows of T time steps, one every [`WINDOW_STRIDE`], over pieces with T silent time steps
    /// before them, each window from the zero state.
    Windowed,
}

impl std::str::FromStr for Bptt {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "stateful" => Ok(Self::Stateful),
            "windowed" => Ok(Self::Windowed),
            _ => Err(Error::usage(format!("'{text}' is no way to train"), "give stateful or windowed")),
        }
    }
}

/// What training does with the pieces beside reading them; part of a [`Cursor`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Augmentation {
    /// The most semitones by which a piece (stateful) or a window (windowed) is moved, up or down. The interval is drawn among those
    /// that keep all of its notes in the range.
    pub transpose: u8,
    /// The power of the length of a composer's music with which it takes part: 1 as in the corpus, 0 all composers alike.
    pub balance: f64,
}

impl Default for Augmentation {
    fn default() -> Self {
        Self { transpose: 0, balance: 1.0 }
    }
}

/// How far a [`Sampler`] has come. With the same pieces and batch size, a sampler resumed from it goes on as the first
/// would have, also where another number of processes shares the batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cursor {
    /// How the pieces are cut into windows.
    pub bptt: Bptt,
    /// The seed of the orders.
    pub seed: u64,
    /// See [`Augmentation`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub transpose: u8,
    /// See [`Augmentation`].
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub balance: f64,
    /// The epoch whose order is being drawn from.
    pub epoch: u64,
    /// How many pieces (stateful) or windows (windowed) of the epoch's order have been taken.
    pub taken: usize,
    /// Pieces (stateful) or windows (windowed) that were read to their end, over all epochs.
    pub finished: u64,
    /// Stateful: what each slot of the whole batch is in the middle of. Empty for windowed. Checkpoints call it `lanes`.
    #[serde(rename = "lanes")]
    pub slots: Vec<Option<SlotCursor>>,
}

/// How far a slot has come in its piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotCursor {
    /// Index into the sampler's pieces.
    pub piece: usize,
    /// The time step that is the slot's next input, from 0 up: a slot that has not begun its piece has no cursor.
    pub next: i64,
    /// Semitones by which the piece is moved.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interval: i8,
}

fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn one() -> f64 {
    1.0
}

fn is_one(value: &f64) -> bool {
    *value == 1.0
}

/// A piece (stateful) or window (windowed) of an epoch's order.
#[derive(Clone, Copy, Debug)]
struct Item {
    piece: usize,
    /// The piece's time step that is the first input.
    start: i64,
    /// Semitones by which it is moved.
    interval: i8,
}

/// The batch sampler of training: endless batches in an order that a seed fixes.
///
/// Each epoch takes every piece (or window) exactly once, in an order shuffled by seed and epoch; slots pass from one
/// epoch to the next without a gap. In stateful sampling a slot whose piece ends takes the next one in the next batch,
/// and the rest of its window has weight 0. In windowed sampling the last window of a piece may reach beyond its end, so
/// that every time step is a target; the authors drop up to 15 time steps there.
///
/// Where composers are balanced, an epoch takes as many pieces (or windows) as there are, of each composer its share, and each of a
/// composer's pieces once before any of them comes again. The share of composer `c` of the time is that of `time_c ^ balance`, as
/// languages are balanced in translation (Arivazhagan et al. 2019, arXiv 1907.05019).
#[derive(Clone, Debug)]
pub struct Sampler {
    source: Source,
    cursor: Cursor,
    /// All pieces, or windows.
    items: usize,
    /// The order of the epoch.
    order: Vec<(usize, i64)>,
}

/// What random streams are for, beside the orders of epochs, whose streams are the epochs' numbers.
const INTERVALS: u64 = 0x696e_7465_7276_616c;
const ROUNDS: u64 = 0x726f_756e_6473;

impl Sampler {
    /// A sampler at the beginning of the first epoch.
    ///
    /// # Errors
    /// No pieces, pieces of different note ranges, a style beyond those of the shape, or a shape without a slot or a time
    /// step.
    pub fn new(bptt: Bptt, pieces: Vec<Arc<Piece>>, shape: BatchShape, seed: u64) -> Result<Self> {
        Self::augmented(bptt, pieces, shape, seed, Augmentation::default())
    }

    /// The same with pieces moved and composers balanced.
    ///
    /// # Errors
    /// Those of [`Sampler::new`].
    pub fn augmented(
        bptt: Bptt,
        pieces: Vec<Arc<Piece>>,
        shape: BatchShape,
        seed: u64,
        Augmentation { transpose, balance }: Augmentation,
    ) -> Result<Self> {
        let slots = match bptt {
            Bptt::Stateful => vec![None; shape.slots.total],
            Bptt::Windowed => Vec::new(),
        };
        let cursor = Cursor { bptt, seed, transpose, balance, epoch: 0, taken: 0, finished: 0, slots };
        Self::resume(cursor, pieces, shape)
    }

    /// A sampler that goes on at `cursor`.
    ///
    /// # Errors
    /// Those of [`Sampler::new`], and a cursor that does not fit the pieces or the shape.
    pub fn resume(cursor: Cursor, pieces: Vec<Arc<Piece>>, shape: BatchShape) -> Result<Self> {
        let source = Source::new(pieces, shape)?;
        let mut sampler = Self { source, cursor, items: 0, order: Vec::new() };
        sampler.items = (0..sampler.source.pieces.len()).map(|piece| sampler.of_piece(piece).len()).sum();
        sampler.order = sampler.shuffled();
        let slots = if sampler.cursor.bptt == Bptt::Stateful { shape.slots.total } else { 0 };
        let in_piece = |slot: &SlotCursor| {
            slot.piece < sampler.source.pieces.len()
                && (0..sampler.source.length(slot.piece) - 1).contains(&slot.next)
                && sampler.source.has_room(slot.piece, slot.interval)
        };
        if sampler.cursor.slots.len() != slots
            || sampler.cursor.taken > sampler.order.len()
            || !sampler.cursor.slots.iter().flatten().all(in_piece)
        {
            return Err(Error::model(
                "the batch sampler's cursor stored in the checkpoint does not fit this corpus or batch",
                "resume with the corpus, --batch, --seq and --bptt that the run was started with",
            ));
        }
        Ok(sampler)
    }

    /// How far the sampler has come with the batches made so far.
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// The shape of the batches.
    pub fn shape(&self) -> BatchShape {
        self.source.shape
    }

    /// How many of the pieces can be moved at all within the range, and how many there are.
    pub fn movable(&self) -> (usize, usize) {
        let all = self.source.pieces.len();
        ((0..all).filter(|&piece| self.source.room(piece) != (0, 0)).count(), all)
    }

    /// The epochs done, with the part of the one under way: pieces or windows read to their end per piece or window.
    pub fn epochs(&self) -> f64 {
        self.cursor.finished as f64 / self.items as f64
    }

    /// Where the windows of a piece start that are in the order: at its beginning only where a slot goes on from there.
    fn of_piece(&self, piece: usize) -> Vec<(usize, i64)> {
        let steps = self.source.shape.steps as i64;
        match self.cursor.bptt {
            Bptt::Stateful => vec![(piece, -1)],
            // The last target of a window is its start + steps: the windows go on until that is the last time step.
            Bptt::Windowed => {
                let last = (self.source.length(piece) as usize - 1).next_multiple_of(WINDOW_STRIDE);
                (0..=last).step_by(WINDOW_STRIDE).map(|place| (piece, place as i64 - steps)).collect()
            }
        }
    }

    /// The order of the cursor's epoch.
    fn shuffled(&self) -> Vec<(usize, i64)> {
        let mut order = match self.cursor.balance == 1.0 {
            true => (0..self.source.pieces.len()).flat_map(|piece| self.of_piece(piece)).collect(),
            false => self.balanced(),
        };
        SplitMix64::new(self.cursor.seed, self.cursor.epoch).shuffle(&mut order);
        order
    }

    /// What the cursor's epoch takes of each composer. After any number of epochs a composer has had its share to within one piece.
    fn balanced(&self) -> Vec<(usize, i64)> {
        let mut composers: BTreeMap<usize, Vec<(usize, i64)>> = BTreeMap::new();
        for (number, piece) in self.source.pieces.iter().enumerate() {
            composers.entry(piece.style).or_default().extend(self.of_piece(number));
        }
        // Time steps of one piece or window.
        let length = |items: &[(usize, i64)]| match self.cursor.bptt {
            Bptt::Stateful => {
                items.iter().map(|&(piece, _)| self.source.length(piece) as f64).sum::<f64>() / items.len() as f64
            }
            Bptt::Windowed => self.source.shape.steps as f64,
        };
        let share = |items: &[(usize, i64)]| {
            let length = length(items);
            (items.len() as f64 * length).powf(self.cursor.balance) / length
        };
        let all: f64 = composers.values().map(|items| share(items)).sum();
        let mut order = vec![];
        for (&composer, items) in &composers {
            let an_epoch = self.items as f64 * share(items) / all;
            let before = |epoch: u64| (epoch as f64 * an_epoch) as u64;
            let mut round = (u64::MAX, vec![]);
            for number in before(self.cursor.epoch)..before(self.cursor.epoch + 1) {
                let (this, place) = (number / items.len() as u64, (number % items.len() as u64) as usize);
                if round.0 != this {
                    round = (this, items.clone());
                    SplitMix64::new(self.cursor.seed ^ ROUNDS ^ (composer as u64) << 32, this).shuffle(&mut round.1);
                }
                order.push(round.1[place]);
            }
        }
        order
    }

    /// The next piece or window of the order.
    fn take(&mut self) -> Item {
        // An epoch in which no composer's turn comes is empty.
        while self.cursor.taken >= self.order.len() {
            self.cursor.epoch += 1;
            self.cursor.taken = 0;
            self.order = self.shuffled();
        }
        let number = self.cursor.taken as u64;
        self.cursor.taken += 1;
        let (piece, start) = self.order[self.cursor.taken - 1];
        let interval = match self.cursor.transpose {
            0 => 0,
            most => {
                let room = match self.cursor.bptt {
                    Bptt::Stateful => self.source.room(piece),
                    Bptt::Windowed => self.source.room_of_window(piece, start),
                };
                let (low, high) = (room.0.max(-i64::from(most)), room.1.min(i64::from(most)));
                let mut random = SplitMix64::new(self.cursor.seed ^ INTERVALS, self.cursor.epoch << 32 | number);
                (low + random.below((high - low) as usize + 1) as i64) as i8
            }
        };
        Item { piece, start, interval }
    }

    /// This process's slots of the next batch.
    pub fn next_batch(&mut self) -> Batch {
        let windows = self.next_windows();
        self.source.batch(&windows, self.source.shape.slots)
    }

    /// The next batch in parts, each with some of its slots.
    pub fn next_batches(&mut self, parts: &[Slots]) -> Vec<Batch> {
        let windows = self.next_windows();
        parts.iter().map(|&part| self.source.batch(&windows, part)).collect()
    }

    /// What stands in the slots of the whole batch next.
    fn next_windows(&mut self) -> Vec<Option<Window>> {
        let BatchShape { slots, steps, .. } = self.source.shape;
        let mut windows = Vec::with_capacity(slots.total);
        for b in 0..slots.total {
            let going_on = self.cursor.slots.get(b).copied().flatten();
            let goes_on = |slot: SlotCursor| Item { piece: slot.piece, start: slot.next, interval: slot.interval };
            let Item { piece, start, interval } = going_on.map_or_else(|| self.take(), goes_on);
            windows.push(Some(Window { piece, start, interval, keep: going_on.is_some() }));
            let next = start + steps as i64;
            let ended = self.cursor.bptt == Bptt::Windowed || next + 1 >= self.source.length(piece);
            self.cursor.finished += u64::from(ended);
            if let Some(slot) = self.cursor.slots.get_mut(b) {
                *slot = (!ended).then_some(SlotCursor { piece, next, interval });
            }
        }
        windows
    }
}

/// The batch sampler of evaluation: every time step of every piece is a target exactly once, and the LSTM state is
/// carried. An iterator that ends. Slots with nothing left are empty. The longest pieces come first, so that slots end
/// close together.
#[derive(Clone, Debug)]
pub struct Evaluation {
    source: Source,
    /// Pieces that no slot has begun.
    waiting: VecDeque<usize>,
    /// What stands in each slot of the whole batch next.
    slots: Vec<Option<Window>>,
}

impl Evaluation {
    /// A sampler of `pieces`. No more slots are used than there are pieces, but batches have `shape`.
    ///
    /// # Errors
    /// Those of [`Sampler::new`].
    pub fn new(pieces: Vec<Arc<Piece>>, shape: BatchShape) -> Result<Self> {
        let source = Source::new(pieces, shape)?;
        let mut waiting: Vec<usize> = (0..source.pieces.len()).collect();
        waiting.sort_by_key(|&piece| std::cmp::Reverse(source.length(piece)));
        Ok(Self { source, waiting: waiting.into(), slots: vec![None; shape.slots.total] })
    }
}

impl Iterator for Evaluation {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        for slot in &mut self.slots {
            if slot.is_none() {
                *slot = self.waiting.pop_front().map(|piece| Window { piece, start: -1, interval: 0, keep: false });
            }
        }
        if self.slots.iter().all(Option::is_none) {
            return None;
        }
        let batch = self.source.batch(&self.slots, self.source.shape.slots);
        let steps = self.source.shape.steps as i64;
        for slot in &mut self.slots {
            *slot = slot
                .map(|window| Window { start: window.start + steps, keep: true, ..window })
                .filter(|window| window.start + 1 < self.source.length(window.piece));
        }
        Some(batch)
    }
}
