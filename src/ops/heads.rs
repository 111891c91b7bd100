//! The heads and their losses in one pass over the last layer's features: logits stay where they are made (paper, section
//! III-B; docs/MODEL.md, "Loss"). What each head means is data: [`HeadSet`].

use rayon::prelude::*;
use serde::Serialize;

use super::dropout::DropoutSite;
use super::order::{self, Family};
use super::recorder::{Building, chunks, shader};
use super::reduce::SumRows;
use super::vectorized::{dot, vectorized};
use super::{Arg, Args, Cost, Op, Real, Recorder, Tape, Uniforms, View, cpu_both, half_label, unknown_variant};
use crate::error::{Error, Result};
use crate::gpu::{Capabilities, Format, Shader};

/// Rows of a part: what a workgroup sums up, of one note. The constant of this name in the shader.
const RUN: usize = 128;

/// How a head's output is scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Score {
    /// The output is a logit, the target 0 or 1: binary cross-entropy.
    Binary,
    /// The output is the value itself: squared error.
    Squared,
}

/// One output of a cell, predicted from its features. Head `i` predicts channel `i` of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Head {
    /// How it is scored.
    pub score: Score,
    /// Whether it counts only where the first channel of the target, play, is 1.
    pub masked: bool,
}

/// The heads of a model, two or three of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct HeadSet {
    list: [Head; MAX_HEADS],
    len: usize,
    /// Values of a cell of the target.
    channels: usize,
}

/// The most heads: kernels hold a cell's outputs in one vector.
const MAX_HEADS: usize = 3;

impl HeadSet {
    /// These heads.
    ///
    /// # Errors
    /// Fewer than two or more than three.
    pub fn new(heads: &[Head]) -> Result<Self> {
        if !(2..=MAX_HEADS).contains(&heads.len()) {
            return Err(Error::model(
                format!("{} heads of one output", heads.len()),
                "a model has two or three of them",
            ));
        }
        let mut list = [Head { score: Score::Binary, masked: false }; MAX_HEADS];
        list[..heads.len()].copy_from_slice(heads);
        Ok(Self { list, len: heads.len(), channels: heads.len() })
    }

    /// The same for a target whose cells have so many values, the first of which these heads predict.
    pub const fn of_channels(self, channels: usize) -> Self {
        Self { channels, ..self }
    }

    /// Play and replay; `masked` is whether the latter counts only where the target plays.
    pub const fn notes(masked: bool) -> Self {
        let [play, replay] = [Head { score: Score::Binary, masked: false }, Head { score: Score::Binary, masked }];
        Self { list: [play, replay, play], len: 2, channels: 2 }
    }

    /// Play, replay and dynamics; `masked` is whether the latter two count only where the target plays (the paper's way; off
    /// to measure its claim).
    pub const fn performance(masked: bool) -> Self {
        Self {
            list: [
                Head { score: Score::Binary, masked: false },
                Head { score: Score::Binary, masked },
                Head { score: Score::Squared, masked },
            ],
            len: 3,
            channels: 3,
        }
    }

    /// C, how many there are.
    #[expect(clippy::len_without_is_empty, reason = "there are two at least")]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Values of a cell of the target.
    pub const fn channels(&self) -> usize {
        self.channels
    }

    /// The heads, in the order of the target's channels.
    pub fn heads(&self) -> &[Head] {
        &self.list[..self.len]
    }

    /// A word with a bit for each head, from the lowest, that is set where `of` the head is true.
    fn bits(&self, of: impl Fn(&Head) -> bool) -> u32 {
        self.heads().iter().zip(0..).map(|(head, bit)| u32::from(of(head)) << bit).sum()
    }
}

/// The sizes and heads that the op and its gradients share.
///
/// Features stand note by note, `[N, rows, H]`. A part is a run of up to 128 rows of one note; parts are numbered note
/// by note.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Shape {
    /// T * B.
    pub rows: usize,
    /// N.
    pub notes: usize,
    /// H, features of a cell.
    pub units: usize,
    /// C heads.
    pub heads: HeadSet,
    /// Dropout of the features.
    pub drop: DropoutSite,
    /// Format of the features and their gradients.
    pub stored: Format,
}

/// Logits `z = x w + bias`, and of each part the sum over its cells of `weight[r, head] * mask * loss` head by head, with the
/// derivative of each loss by its own logit.
///
/// With `weight = 1 / (valid cells)` on valid rows and 0 elsewhere, the sums over parts are means over the valid (t, b, n)
/// cells.
///
/// Operands: `x [N, rows, H]`, `w [H, C]`, `bias [C]`, `target [rows, N, channels]` (C of them, unless the set says otherwise),
/// `weight [rows, channels]`, `losses [parts, C]`, `logit_grads [N, rows, C]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Heads(pub Shape);

/// `dx = (logit_grads * dlosses) w^T`. Operands: `w`, `logit_grads`, `dlosses [parts, C]`, `dx [N, rows, H]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeadsInputGrad(pub Shape);

/// Of each part `dw = x^T (logit_grads * dlosses)` and `dbias = sum of logit_grads * dlosses`.
///
/// Operands: `x`, `logit_grads`, `dlosses [parts, C]`, `dw [parts, H, C]`, `dbias [parts, C]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeadsWeightGrad(pub Shape);

impl Shape {
    /// Whether features are dropped at all.
    fn drops(&self) -> bool {
        self.drop.rate > 0.0
    }

    /// What the masks of a cell cost.
    fn masks(&self) -> usize {
        if self.drops() { self.units } else { 0 }
    }

    /// The features of a cell, with dropout; `room` has place for them.
    fn dropped<'a, R: Real>(&self, uniforms: &Uniforms, cell: usize, x: &'a [R], room: &'a mut [R]) -> &'a [R] {
        if !self.drops() {
            return x;
        }
        self.drop.apply(uniforms, cell * self.units, x, room);
        room
    }

    /// Number of parts.
    pub fn parts(&self) -> usize {
        self.notes * self.runs()
    }

    /// Parts of a note.
    fn runs(&self) -> usize {
        self.rows.div_ceil(RUN)
    }

    fn cells(&self) -> usize {
        self.rows * self.notes
    }

    /// The first cell of a part, and its cells.
    fn cells_of(&self, part: usize) -> (usize, usize) {
        let (note, row) = (part / self.runs(), part % self.runs() * RUN);
        (note * self.rows + row, RUN.min(self.rows - row))
    }

    /// `data [N, rows, width]` cut into its parts.
    fn split<'a, R>(&self, mut data: &'a mut [R], width: usize) -> Vec<&'a mut [R]> {
        let part = |part| {
            let (head, tail) = std::mem::take(&mut data).split_at_mut(self.cells_of(part).1 * width);
            data = tail;
            head
        };
        (0..self.parts()).map(part).collect()
    }

    fn label(&self, what: &str) -> String {
        let heads = match self.heads {
            heads if heads == HeadSet::performance(true) => String::new(),
            heads if heads == HeadSet::performance(false) => " unmasked".into(),
            heads if heads.channels == heads.len => format!(" C={}", heads.len),
            heads => format!(" C={} of {}", heads.len, heads.channels),
        };
        let drop = if self.drops() { " dropout" } else { "" };
        let half = half_label(self.stored);
        format!("heads {what} rows={} N={} H={}{heads}{drop}{half}", self.rows, self.notes, self.units)
    }

    /// The shader of an entry point with its constants.
    fn shader(&self, entry: &'static str) -> Shader {
        let (run, units, two) = (RUN as u32, self.units as u32, u32::from(self.heads.len == 2));
        let mut consts = vec![("RUN", run), ("H", units), ("TWO", two)];
        if entry.starts_with("forward") {
            consts.push(("MASKED", self.heads.bits(|head| head.masked)));
            consts.push(("SQUARED", self.heads.bits(|head| head.score == Score::Squared)));
            consts.push(("CHANNELS", self.heads.channels as u32));
        } else {
            consts.push(("COLS", cols(self.units) as u32));
        }
        if self.drops() {
            consts.push(("DROPS", 1));
        }
        Shader { consts, ..shader!("heads", entry, [], [("S", self.stored)]) }
    }

    /// The kernels of all three ops.
    fn variants(capabilities: &Capabilities) -> Vec<&'static str> {
        order::heads(Family::of(capabilities))
    }

    /// Cuts the parts into blocks of which one dispatch can do each: some runs of some notes.
    fn blocks(&self, recorder: &Recorder<'_>) -> Vec<Block> {
        let most_runs = recorder.rows_per_binding(&[self.notes * self.heads.channels, self.units]) / RUN;
        let most_runs = most_runs.min(recorder.parts_in_time(self.runs(), usize::MAX));
        let most_notes = recorder.rows_per_binding(&[self.rows * self.units]);
        let mut blocks = vec![];
        for (run, runs) in chunks(self.runs(), most_runs.max(1)) {
            let rows = (runs * RUN).min(self.rows - run * RUN);
            for (note, notes) in chunks(self.notes, most_notes) {
                blocks.push(Block { run, runs, rows, note, notes, shape: *self });
            }
        }
        blocks
    }
}

/// What one dispatch makes: the runs from `run` on, `rows` rows, of the notes from `note` on.
struct Block {
    run: usize,
    runs: usize,
    rows: usize,
    note: usize,
    notes: usize,
    shape: Shape,
}

impl Block {
    /// Start and length of what the block spans in an operand `[N, rows, width]`.
    fn cells(&self, width: usize) -> (usize, usize) {
        let start = self.note * self.shape.rows + self.run * RUN;
        let len = (self.notes - 1) * self.shape.rows + self.rows;
        (start * width, len * width)
    }

    fn parts(&self) -> usize {
        self.runs * self.notes
    }

    /// The words that the shaders have after the offsets.
    fn words<'r, 'a>(&self, building: Building<'r, 'a>) -> Building<'r, 'a> {
        let Shape { rows, notes, drop, .. } = &self.shape;
        let building = building.words(&[self.run, self.runs, self.note, self.notes, *rows, *notes]);
        let building = drop.words(building);
        if self.shape.drops() { building.step() } else { building }
    }
}

/// The entry point of a variant.
fn entry(op: &dyn Op, variant: &str, [naive, workgroup]: [&'static str; 2]) -> Result<&'static str> {
    match variant {
        "naive" => Ok(naive),
        "workgroup" => Ok(workgroup),
        _ => Err(unknown_variant(op, variant)),
    }
}

/// `w [H, C]` head by head.
fn columns<R: Real, const C: usize>(w: &[R]) -> [Vec<R>; C] {
    std::array::from_fn(|head| w.iter().skip(head).step_by(C).copied().collect())
}

impl Heads {
    fn run_on_cpu<R: Real>(&self, uniforms: &Uniforms, args: Args<'_, R>) {
        match self.0.heads.len {
            2 => self.run::<R, 2>(uniforms, args),
            _ => self.run::<R, 3>(uniforms, args),
        }
    }

    fn run<R: Real, const C: usize>(&self, uniforms: &Uniforms, args: Args<'_, R>) {
        let ([x, w, bias, target, weight], [losses, logit_grads]) = args.take();
        let s = &self.0;
        let w = columns::<R, C>(w);
        let parts = losses.par_chunks_exact_mut(C).zip(s.split(logit_grads, C));
        parts.enumerate().for_each(|(part, (losses, logit_grads))| {
            let (first, _) = s.cells_of(part);
            let mut room = vec![R::ZERO; s.masks()];
            vectorized(
                #[inline(always)]
                || {
                    losses.fill(R::ZERO);
                    for (cell, logit_grads) in (first..).zip(logit_grads.chunks_exact_mut(C)) {
                        let (n, r) = (cell / s.rows, cell % s.rows);
                        let x = s.dropped(uniforms, cell, &x[cell * s.units..][..s.units], &mut room);
                        let target = &target[(r * s.notes + n) * s.heads.channels..][..C];
                        for (i, head) in s.heads.list[..C].iter().enumerate() {
                            let z = bias[i] + dot(x, &w[i]);
                            let y = target[i];
                            let (loss, grad) = match head.score {
                                Score::Squared => ((z - y) * (z - y), (z - y) + (z - y)),
                                // Cross-entropy of logit z and target y: ln(1 + e^z) - y z.
                                Score::Binary => (z.softplus() - y * z, z.sigmoid() - y),
                            };
                            let weight = weight[r * s.heads.channels + i];
                            let scale = if head.masked { weight * target[0] } else { weight };
                            losses[i] += scale * loss;
                            logit_grads[i] = scale * grad;
                        }
                    }
                },
            );
        });
    }
}

/// `logit_grads * dlosses` of one cell.
#[inline(always)]
fn scaled<R: Real, const C: usize>(logit_grads: &[R], dlosses: &[R]) -> [R; C] {
    std::array::from_fn(|head| logit_grads[head] * dlosses[head])
}

impl HeadsInputGrad {
    fn run_on_cpu<R: Real>(&self, uniforms: &Uniforms, args: Args<'_, R>) {
        match self.0.heads.len {
            2 => self.run::<R, 2>(uniforms, args),
            _ => self.run::<R, 3>(uniforms, args),
        }
    }

    fn run<R: Real, const C: usize>(&self, uniforms: &Uniforms, args: Args<'_, R>) {
        let ([w, logit_grads, dlosses], [dx]) = args.take();
        let s = &self.0;
        let w = columns::<R, C>(w);
        s.split(dx, s.units).into_par_iter().enumerate().for_each(|(part, dx)| {
            let (first, _) = s.cells_of(part);
            let dlosses = &dlosses[part * C..][..C];
            let mut room = vec![R::ZERO; s.masks()];
            vectorized(
                #[inline(always)]
                || {
                    let w: [&[R]; C] = std::array::from_fn(|head| &w[head][..s.units]);
                    let cells = logit_grads[first * C..].chunks(C).zip(dx.chunks_exact_mut(s.units));
                    for (cell, (grads, dx)) in (first..).zip(cells) {
                        let d: [R; C] = scaled(grads, dlosses);
                        dx.iter_mut().zip(w[0]).for_each(|(dx, &w)| *dx = d[0] * w);
                        for head in 1..C {
                            dx.iter_mut().zip(w[head]).for_each(|(dx, &w)| *dx += d[head] * w);
                        }
                        if s.drops() {
                            room.copy_from_slice(dx);
                            s.drop.apply(uniforms, cell * s.units, &room, dx);
                        }
                    }
                },
            );
        });
    }
}

impl HeadsWeightGrad {
    fn run_on_cpu<R: Real>(&self, uniforms: &Uniforms, args: Args<'_, R>) {
        match self.0.heads.len {
            2 => self.run::<R, 2>(uniforms, args),
            _ => self.run::<R, 3>(uniforms, args),
        }
    }

    fn run<R: Real, const C: usize>(&self, uniforms: &Uniforms, args: Args<'_, R>) {
        let ([x, logit_grads, dlosses], [dw, dbias]) = args.take();
        let s = &self.0;
        let parts = dw.par_chunks_exact_mut(s.units * C).zip(dbias.par_chunks_exact_mut(C));
        parts.enumerate().for_each(|(part, (dw, dbias))| {
            let (first, cells) = s.cells_of(part);
            let dlosses = &dlosses[part * C..][..C];
            let mut sums: [Vec<R>; C] = std::array::from_fn(|_| vec![R::ZERO; s.units]);
            let mut room = vec![R::ZERO; s.masks()];
            dbias.fill(R::ZERO);
            vectorized(
                #[inline(always)]
                || {
                    let mut sums = sums.each_mut().map(|sums| &mut sums[..s.units]);
                    for cell in first..first + cells {
                        let d: [R; C] = scaled(&logit_grads[cell * C..], dlosses);
                        dbias.iter_mut().zip(d).for_each(|(sum, d)| *sum += d);
                        let x = s.dropped(uniforms, cell, &x[cell * s.units..][..s.units], &mut room);
                        for (sums, d) in sums.iter_mut().zip(d) {
                            sums.iter_mut().zip(x).for_each(|(sum, &x)| *sum += d * x);
                        }
                    }
                },
            );
            for (j, dw) in dw.chunks_exact_mut(C).enumerate() {
                dw.iter_mut().zip(&sums).for_each(|(dw, sums)| *dw = sums[j]);
            }
        });
    }
}

impl Op for Heads {
    fn name(&self) -> &'static str {
        "heads"
    }

    fn label(&self) -> String {
        self.0.label("forward")
    }

    fn args(&self) -> Vec<Arg> {
        let (s, c) = (&self.0, self.0.heads.len);
        vec![
            Arg::read("x", s.cells() * s.units).stored(s.stored),
            Arg::read("w", s.units * c),
            Arg::read("bias", c),
            Arg::read("target", s.cells() * s.heads.channels).moving(s.cells() * c),
            Arg::read("weight", s.rows * s.heads.channels).moving(s.rows * c),
            Arg::write("losses", s.parts() * c),
            Arg::write("logit_grads", s.cells() * c),
        ]
    }

    /// A cell costs its products; of each head 6 for a cross-entropy (4 of them softplus) and 2 for its gradient, or 3 for a
    /// square and its gradient, 2 for the scales, 1 for the sum; and 1 for a mask. A feature that may be dropped costs 1.
    fn cost(&self) -> Cost {
        let heads = self.0.heads.heads();
        let scores = heads.iter().map(|head| if head.score == Score::Squared { 3 } else { 8 } + 3).sum::<usize>();
        let masks = heads.iter().filter(|head| head.masked).count();
        let cell = 2 * self.0.units * heads.len() + scores + masks + self.0.masks();
        Cost { flops: (self.0.cells() * cell) as u64, bytes: self.operand_bytes() }
    }

    cpu_both!();

    fn variants(&self, capabilities: &Capabilities) -> Vec<&'static str> {
        Shape::variants(capabilities)
    }

    fn record(&self, variant: &str, recorder: &mut Recorder<'_>) -> Result<()> {
        let (s, c) = (&self.0, self.0.heads.len);
        let entry = entry(self, variant, ["forward_naive", "forward_workgroup"])?;
        for block in s.blocks(recorder) {
            let (x, grads) = (block.cells(s.units), block.cells(c));
            let (row, per_row) = (block.run * RUN, s.notes * s.heads.channels);
            let weights = s.heads.channels;
            let building = recorder
                .dispatch(s.shader(entry), recorder.share(block.parts(), s.parts()))
                .read(0, x.0, x.1)
                .read_all(1)
                .read_all(2)
                .read(3, row * per_row, block.rows * per_row)
                .read(4, row * weights, block.rows * weights)
                .write_all(5)
                .write(6, grads.0, grads.1);
            block.words(building).groups(block.parts());
        }
        Ok(())
    }

    fn gradient(&self, tape: &mut dyn Tape, operands: &[View]) {
        let [x, w, bias, _, _, losses, logit_grads] = *operands else { return };
        let Some(dlosses) = tape.grad(losses) else { return };
        tape.contribute(x, Box::new(HeadsInputGrad(self.0)), &[w, logit_grads, dlosses]);
        let (parts, c) = (self.0.parts(), self.0.heads.len);
        let (dw, dbias) = (tape.temp("dw", parts * w.len, Format::F32), tape.temp("dbias", parts * c, Format::F32));
        tape.push(Box::new(HeadsWeightGrad(self.0)), &[x, logit_grads, dlosses, dw, dbias]);
        tape.contribute(w, Box::new(SumRows::all(parts, w.len)), &[dw]);
        tape.contribute(bias, Box::new(SumRows::all(parts, c)), &[dbias]);
    }
}

impl Op for HeadsInputGrad {
    fn name(&self) -> &'static str {
        "heads"
    }

    fn label(&self) -> String {
        self.0.label("input gradient")
    }

    fn args(&self) -> Vec<Arg> {
        let (s, c) = (&self.0, self.0.heads.len);
        vec![
            Arg::read("w", s.units * c),
            Arg::read("logit_grads", s.cells() * c),
            Arg::read("dlosses", s.parts() * c),
            Arg::write("dx", s.cells() * s.units).stored(s.stored),
        ]
    }

    /// A cell costs C scales and C multiply-adds a feature, and 1 for its dropout.
    fn cost(&self) -> Cost {
        let c = self.0.heads.len;
        let cell = c + 2 * c * self.0.units + self.0.masks();
        Cost { flops: (self.0.cells() * cell) as u64, bytes: self.operand_bytes() }
    }

    cpu_both!();

    fn variants(&self, capabilities: &Capabilities) -> Vec<&'static str> {
        Shape::variants(capabilities)
    }

    fn record(&self, variant: &str, recorder: &mut Recorder<'_>) -> Result<()> {
        let (s, c) = (&self.0, self.0.heads.len);
        let entry = entry(self, variant, ["input_grad_naive", "input_grad_workgroup"])?;
        for block in s.blocks(recorder) {
            let (grads, dx) = (block.cells(c), block.cells(s.units));
            let building = recorder
                .dispatch(s.shader(entry), recorder.share(block.parts(), s.parts()))
                .read_all(0)
                .read(1, grads.0, grads.1)
                .read_all(2)
                .write(3, dx.0, dx.1);
            block.words(building).groups(block.parts());
        }
        Ok(())
    }
}

impl Op for HeadsWeightGrad {
    fn name(&self) -> &'static str {
        "heads"
    }

    fn label(&self) -> String {
        self.0.label("weight gradient")
    }

    fn args(&self) -> Vec<Arg> {
        let (s, c) = (&self.0, self.0.heads.len);
        vec![
            Arg::read("x", s.cells() * s.units).stored(s.stored),
            Arg::read("logit_grads", s.cells() * c),
            Arg::read("dlosses", s.parts() * c),
            Arg::write("dw", s.parts() * s.units * c),
            Arg::write("dbias", s.parts() * c),
        ]
    }

    /// A cell costs C scales, C multiply-adds a feature, 1 for its dropout, and C sums.
    fn cost(&self) -> Cost {
        let c = self.0.heads.len;
        let cell = c + 2 * c * self.0.units + c + self.0.masks();
        Cost { flops: (self.0.cells() * cell) as u64, bytes: self.operand_bytes() }
    }

    cpu_both!();

    fn variants(&self, capabilities: &Capabilities) -> Vec<&'static str> {
        Shape::variants(capabilities)
    }

    fn record(&self, variant: &str, recorder: &mut Recorder<'_>) -> Result<()> {
        let (s, c) = (&self.0, self.0.heads.len);
        let entry = entry(self, variant, ["weight_grad_naive", "weight_grad_workgroup"])?;
        for block in s.blocks(recorder) {
            let (x, grads) = (block.cells(s.units), block.cells(c));
            let building = recorder
                .dispatch(s.shader(entry), recorder.share(block.parts(), s.parts()))
                .read(0, x.0, x.1)
                .read(1, grads.0, grads.1)
                .read_all(2)
                .write_all(3)
                .write_all(4);
            block.words(building).groups(block.parts());
        }
        Ok(())
    }
}

/// Features that the invocations of a workgroup make side by side.
fn cols(units: usize) -> usize {
    units.next_power_of_two().clamp(16, 256)
}
