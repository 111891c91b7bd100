//! A generation program in a session of its own.

use std::ops::Range;

use crate::checkpoint::Checkpoint;
use crate::gpu::Device;
use crate::graph::session::KernelSelection;
use crate::graph::{Kind, ProgramId, Session};
use crate::models::{GenerationIo, RollShape};
use crate::ops::Uniforms;
use crate::{Error, Result};

/// Composes the time steps of some pieces side by side, in windows.
pub(super) struct Generator {
    session: Session,
    program: ProgramId,
    io: GenerationIo,
    roll: RollShape,
    window: usize,
    pieces: usize,
    /// What the program has told of the last window.
    told: Vec<f32>,
}

/// Cells that are given.
pub(super) struct Forced<'a> {
    /// Writes the row of a time step of a piece.
    pub value: &'a dyn Fn(usize, usize, &mut [f32]),
    /// Where the nats of each piece's notes are added up, if they are asked for.
    pub nats: Option<&'a mut [f64]>,
}

/// All that a piece goes on from: the values of each of its states.
#[derive(Clone)]
pub(super) struct Moment(Vec<Vec<f32>>);

impl Generator {
    /// For so many pieces, from silence.
    pub async fn new(
        checkpoint: &Checkpoint,
        pieces: usize,
        window: usize,
        device: Device,
        selection: KernelSelection,
    ) -> Result<Self> {
        let (plan, io) = checkpoint.model.generation(pieces, window)?.compile();
        let mut session = Session::new(device, selection);
        let program = session.add(plan).await?;
        let params = session.plan(program).buffer(Kind::Params);
        session.write(program, params, &checkpoint.weights())?;
        // The step before the first is -1, and no step was silent.
        let mut clock = vec![-1.0; pieces];
        clock.resize(io.clock.len, 0.0);
        session.write(program, io.clock, &clock)?;
        Ok(Self { session, program, io, roll: checkpoint.model.roll(), window, pieces, told: vec![] })
    }

    /// The probabilities of play and replay of note number `note` of a piece, on a time step of the last window.
    pub fn probabilities(&self, step: usize, piece: usize, note: usize) -> Option<[f32; 2]> {
        let (reported, channels) = (self.io.reported, self.roll.channels.len());
        let place = ((step % self.window * self.pieces + piece) * self.roll.notes + note) * reported + channels;
        Some([*self.told.get(place)?, *self.told.get(place + 1)?])
    }

    /// What each piece goes on from.
    pub async fn moments(&self) -> Result<Vec<Moment>> {
        let views: Vec<_> = [self.io.notes, self.io.clock].into_iter().chain(self.io.states.iter().copied()).collect();
        let values = self.session.read(self.program, &views).await?;
        let of_piece = |piece: usize| {
            let part = |(i, values): (usize, &Vec<f32>)| match i {
                // Two rows of one value a piece.
                1 => vec![values[piece], values[self.pieces + piece]],
                _ => {
                    let len = values.len() / self.pieces;
                    values[piece * len..][..len].to_vec()
                }
            };
            Moment(values.iter().enumerate().map(part).collect())
        };
        Ok((0..self.pieces).map(of_piece).collect())
    }

    /// Goes on from `moments`, one for each piece.
    pub fn go_on(&mut self, moments: &[&Moment]) -> Result<()> {
        let views = [self.io.notes, self.io.clock].into_iter().chain(self.io.states.clone());
        for (i, view) in views.enumerate() {
            let parts = moments.iter().map(|Moment(parts)| &parts[i]);
            let values: Vec<f32> = match i {
                1 => [0, 1].iter().flat_map(|&row| parts.clone().map(move |part| part[row])).collect(),
                _ => parts.flatten().copied().collect(),
            };
            self.session.write(self.program, view, &values)?;
        }
        Ok(())
    }

    /// Sets what the sampler adds in the window.
    pub fn control(&mut self, control: &[f32]) -> Result<()> {
        self.session.write(self.program, self.io.control, control)
    }

    /// Sets each piece's style.
    fn style(&mut self, styles: &[Vec<f32>]) -> Result<()> {
        let Some(style) = self.io.style else { return Ok(()) };
        self.session.write(self.program, style, &styles.concat())
    }

    /// Puts given cells where the program looks for them.
    fn force(&mut self, value: &dyn Fn(usize, usize, &mut [f32]), steps: Range<usize>) -> Result<()> {
        let row = self.roll.notes * self.roll.channels.len();
        let mut forced = vec![0.0; self.io.forced.len];
        for t in steps {
            let rows = forced[t % self.window * self.pieces * row..][..self.pieces * row].chunks_exact_mut(row);
            rows.enumerate().for_each(|(piece, row)| value(t, piece, row));
        }
        self.session.write(self.program, self.io.forced, &forced)
    }

    /// Runs steps of one window, with given cells if there are any, in these styles, and appends the channels of each piece's notes to
    /// its values.
    pub async fn run(
        &mut self,
        steps: Range<usize>,
        mut forced: Option<Forced<'_>>,
        styles: &[Vec<f32>],
        uniforms: &Uniforms,
        values: &mut [Vec<f32>],
    ) -> Result<()> {
        if let Some(forced) = &forced {
            self.force(forced.value, steps.clone())?;
        }
        self.style(styles)?;
        self.session.run(self.program, steps.len() as u32, uniforms)?;
        self.session.prepare(self.program, steps.len() as u32)?;
        let roll = self.session.read(self.program, &[self.io.roll]).await?.swap_remove(0);
        let (reported, channels) = (self.io.reported, self.roll.channels.len());
        let row = self.roll.notes * reported;
        for t in steps {
            let rows = roll[t % self.window * values.len() * row..].chunks_exact(row);
            for (b, (values, row)) in values.iter_mut().zip(rows).enumerate() {
                if !row.iter().all(|x| x.is_finite()) {
                    let what = format!("the probabilities of piece {}, step {t}, are not finite", b + 1);
                    return Err(Error::run(what, "take another checkpoint"));
                }
                if let Some(nats) = forced.as_mut().and_then(|forced| forced.nats.as_deref_mut()) {
                    let last = values.len().checked_sub(self.roll.notes * channels).map(|start| &values[start..]);
                    nats[b] += nats_of(row, (reported, channels), last);
                }
                values.extend(row.chunks_exact(reported).flat_map(|note| &note[..channels]));
            }
        }
        self.told = roll;
        Ok(())
    }
}

/// Nats of what was played on a time step, by the probabilities from which it would be drawn; `last` is the step before.
fn nats_of(row: &[f32], (reported, channels): (usize, usize), last: Option<&[f32]>) -> f64 {
    // A probability that was rounded to 0 or 1 is not certain.
    let nats = |happened: bool, p: f32| -f64::from(if happened { p } else { 1.0 - p }).max(1e-7).ln();
    let of_note = |(n, note): (usize, &[f32])| {
        let played = note[0] > 0.0;
        let sounded = last.is_some_and(|last| last[n * channels] > 0.0);
        let replay = if played && sounded { nats(note[1] > 0.0, note[channels + 1]) } else { 0.0 };
        nats(played, note[channels]) + replay
    };
    row.chunks_exact(reported).enumerate().map(of_note).sum()
}
