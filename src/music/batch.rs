//! Batches: windows of pieces side by side, as a model reads them.
//!
//! A piece x_0..x_{L-1} is read as if one silent time step x_{-1} preceded it: the inputs are x_{-1}..x_{L-2}, the
//! targets x_0..x_{L-1}, so that the first time step is predicted from silence. Each slot of a batch holds T + 1 time
//! steps of one piece; the first T are inputs, the last T targets.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use super::piece::Piece;
use crate::shape::{Channel, Channels, Slots};
use crate::{Error, Result};

/// The shape of batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchShape {
    /// The slots that this process computes, B of them, and those of the whole batch: pieces side by side.
    pub slots: Slots,
    /// T, input time steps.
    pub steps: usize,
    /// S, width of the style vector.
    pub styles: usize,
    /// The C values of a cell (time step, pitch).
    pub channels: Channels,
}

/// What a model reads in one update or in one window of evaluation, as far as this process computes it. All arrays are
/// row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// `[T+1, B, N, C]`: the values of the N pitches. Time step k of slot b is time step `start[b] + k` of its piece; 0..T
    /// are inputs, 1..=T targets. Silent outside the piece.
    pub roll: Vec<f32>,
    /// `[B]`: the piece's time step that is the first input, from -1 (stateful) or -T (windowed) up.
    pub start: Vec<f32>,
    /// `[T, B, C]`: 1 / (`valid` * N) where the target counts, 0 elsewhere. So the sum of weight * loss over all cells
    /// (t, b, n) of the whole batch, over all processes, is the mean over the cells that count. Dynamics count only in pieces whose
    /// dynamics do ([`Piece::dynamics`]).
    pub weight: Vec<f32>,
    /// `[B, S]`: one-hot for the piece's composer; zero where the slot is empty.
    pub style: Vec<f32>,
    /// `[B]`: 1 where the slot continues the piece of the batch before and keeps its LSTM state, 0 where it starts from
    /// the zero state.
    pub keep: Vec<f32>,
    /// `[B]`: the slot's piece as an index into the sampler's pieces; `None` where the slot is empty.
    pub piece: Vec<Option<usize>>,
    /// The number of (t, b) whose target counts: of the whole batch over all processes, not of this process's slots. 0
    /// only where windows shorter than [`WINDOW_STRIDE`](super::sampler::WINDOW_STRIDE) all lie beyond the ends of their
    /// pieces.
    pub valid: usize,
}

impl Batch {
    /// The number of (t, b) whose target counts in place `channel` of `channels`, among this process's slots.
    pub fn counted(&self, channels: Channels, channel: Channel) -> usize {
        let place = channels.position(channel).unwrap_or(0);
        self.weight.iter().skip(place).step_by(channels.len()).filter(|weight| **weight != 0.0).count()
    }
}

/// The part of a piece that one slot of a batch holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// Index into the pieces.
    pub(super) piece: usize,
    /// The piece's time step that is the first input.
    pub(super) start: i64,
    /// Semitones by which it is moved, such that no note leaves the range.
    pub(super) interval: i8,
    /// See [`Batch::keep`].
    pub(super) keep: bool,
}

/// The pieces that batches are made of, and the shape of the batches.
#[derive(Clone, Debug)]
pub(super) struct Source {
    /// At least one, all with the same note range.
    pub(super) pieces: Vec<Arc<Piece>>,
    pub(super) shape: BatchShape,
    /// By piece: see [`Source::room`], once it was asked for.
    room: Vec<OnceLock<(i64, i64)>>,
}

impl Source {
    pub(super) fn new(pieces: Vec<Arc<Piece>>, shape: BatchShape) -> Result<Self> {
        let Some(first) = pieces.first() else {
            return Err(Error::usage("there is no piece to make batches of", "give a corpus with more pieces"));
        };
        shape.slots.check()?;
        if shape.steps == 0 {
            return Err(Error::usage("a batch without a time step", "raise --seq"));
        }
        let unfit = |piece: &&Arc<Piece>| {
            piece.roll.range() != first.roll.range() || shape.styles > 0 && piece.style >= shape.styles
        };
        if let Some(piece) = pieces.iter().find(unfit) {
            return Err(Error::model(
                format!("{} has another note range or a style beyond the {} known", piece.name, shape.styles),
                "read the corpus with the model's note range and styles",
            ));
        }
        let room = vec![OnceLock::new(); pieces.len()];
        Ok(Self { pieces, shape, room })
    }

    /// The time steps of a piece.
    pub(super) fn length(&self, piece: usize) -> i64 {
        self.pieces[piece].roll.steps() as i64
    }

    /// How far a piece can be moved down (0 or below) and up such that no note leaves the range.
    pub(super) fn room(&self, piece: usize) -> (i64, i64) {
        *self.room[piece].get_or_init(|| self.room_within(piece, 0..self.pieces[piece].roll.steps()))
    }

    /// The same for the window of a piece whose first input is time step `start`.
    pub(super) fn room_of_window(&self, piece: usize, start: i64) -> (i64, i64) {
        let steps = self.pieces[piece].roll.steps() as i64;
        let end = start + self.shape.steps as i64 + 1;
        self.room_within(piece, start.clamp(0, steps) as usize..end.clamp(0, steps) as usize)
    }

    fn room_within(&self, piece: usize, steps: Range<usize>) -> (i64, i64) {
        let roll = &self.pieces[piece].roll;
        let notes = roll.range().len();
        let (mut lowest, mut highest) = (notes - 1, 0);
        for step in steps {
            let sounds = |n: &usize| roll.step(step)[*n].play();
            lowest = (0..lowest).find(sounds).unwrap_or(lowest);
            highest = (highest + 1..notes).rev().find(sounds).unwrap_or(highest);
        }
        (-(lowest as i64), (notes - 1 - highest) as i64)
    }

    /// Whether a piece can be moved by so many semitones.
    pub(super) fn has_room(&self, piece: usize, interval: i8) -> bool {
        interval == 0 || (self.room(piece).0..=self.room(piece).1).contains(&i64::from(interval))
    }

    /// The time steps of `window` whose target counts: those before the end of the piece.
    fn valid(&self, window: &Window) -> usize {
        (self.length(window.piece) - 1 - window.start).clamp(0, self.shape.steps as i64) as usize
    }

    /// Some slots of the batch of `windows`: one window for each slot of the whole batch, `None` where it is empty.
    pub(super) fn batch(&self, windows: &[Option<Window>], slots: Slots) -> Batch {
        let BatchShape { steps, styles, channels, .. } = self.shape;
        let (count, n) = (slots.count, self.pieces[0].roll.range().len());
        let row = n * channels.len();
        let valid = windows.iter().flatten().map(|window| self.valid(window)).sum();
        let weight = 1.0 / (valid * n) as f32;
        let mut batch = Batch {
            roll: vec![0.0; (steps + 1) * count * row],
            start: vec![-1.0; count],
            weight: vec![0.0; steps * count * channels.len()],
            style: vec![0.0; count * styles],
            keep: vec![0.0; count],
            piece: vec![None; count],
            valid,
        };
        for (b, window) in windows[slots.range()].iter().enumerate() {
            let Some(window) = window else { continue };
            let piece = &self.pieces[window.piece];
            batch.start[b] = window.start as f32;
            batch.keep[b] = f32::from(u8::from(window.keep));
            batch.piece[b] = Some(window.piece);
            if styles > 0 {
                batch.style[b * styles + piece.style] = 1.0;
            }
            for k in 0..=steps {
                let values = &mut batch.roll[(k * count + b) * row..][..row];
                piece.roll.write_values(channels, window.start + k as i64, values);
                // What comes in on one side are the silent cells that go out on the other.
                let moved = usize::from(window.interval.unsigned_abs()) * channels.len();
                match window.interval > 0 {
                    true => values.rotate_right(moved),
                    false => values.rotate_left(moved),
                }
            }
            for k in 0..self.valid(window) {
                let weights = &mut batch.weight[(k * count + b) * channels.len()..];
                for (place, channel) in weights.iter_mut().zip(channels.iter()) {
                    let counts = channel != Channel::Dynamics || piece.dynamics;
                    *place = if counts { weight } else { 0.0 };
                }
            }
        }
        batch
    }
}
