//! Two LSTM layers, one above the other, whose steps run beside each other: while the upper layer makes a step, the lower one makes
//! the next (Appleyard et al. 2016, "Optimizing Performance of Recurrent Neural Networks on GPUs"). A sequence of T steps
//! takes T + 1 dispatches instead of 2 T, each with twice as much to do. The product and the dropout between the layers are made step
//! by step too.

use serde::Serialize;

use super::dropout::DropoutSite;
use super::gemm::{Gemm, Layout};
use super::lstm::{self, BACKWARD_SPLITS, FORWARD_SPLITS, Named, SPLIT_GROUPS, Split};
use super::matmul::{Mat, matmul};
use super::reduce::SumRows;
use super::{Arg, Args, Cost, Op, Real, Recorder, RowGroups, Tape, Uniforms, View, cpu_both, half_if_all};
use crate::Result;
use crate::gpu::{Capabilities, Format, Shader, shader_text};

/// The sizes of two layers that run beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Pair {
    /// T, steps of the sequence.
    pub steps: usize,
    /// Independent sequences.
    pub rows: usize,
    /// H and G, units of the lower and the upper layer, multiples of [`Pair::UNITS`].
    pub units: [usize; 2],
    /// Length of the range of parameters that holds the weights of both layers.
    pub weights_len: usize,
    /// Where in it the lower layer's recurrent weights begin, the upper one's input weights, and its recurrent ones: multiples of 4.
    pub weights: [usize; 3],
    /// Dropout between the layers.
    pub drop: DropoutSite,
    /// Format of the weights.
    pub weights_in: Format,
    /// Format of gates, `h` and `x`.
    pub stored: Format,
}

/// The layers forward: for each step t, [`super::lstm::Lstm`] of the lower layer, `x[t] = h[t+1] * mask`, and `Lstm` of the upper layer
/// on `x[t] W + bias`.
///
/// Operands:
/// - `weights`: the range of parameters with `[H, 4H]`, `[H, 4G]` and `[G, 4G]`;
/// - `bias [sequences, 4G]`: the upper layer's, one for each sequence that `groups` tells apart;
/// - `gates [T, rows, 4H]`: on entry the lower layer's input products with bias, on exit its activated gates;
/// - `h [T+1, rows, H]`: the lower layer's; slot 0 is the initial state;
/// - `x [T, rows, H]`: what the upper layer reads;
/// - `upper_gates [T, rows, 4G]`: its activated gates;
/// - `upper_h [T+1, rows, G]`: slot 0 is the initial state;
/// - `c [T+1, rows H + rows G]`: of the lower layer, then of the upper one; slot 0 is the initial state.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LstmPair {
    /// Sizes.
    pub pair: Pair,
    /// Which sequence of `bias` a row belongs to.
    pub groups: RowGroups,
}

/// The gradient of [`LstmPair`] with respect to both layers' pre-activations.
///
/// Operands:
/// - `weights`: as forward;
/// - `dh [T, rows, G]`: gradients of `upper_h[1..=T]` from above;
/// - `c`: as the forward pass left it;
/// - `gates`, `upper_gates`: on entry the activated gates, on exit the gradients of the pre-activations;
/// - `dc [rows H + rows G]`: scratch, the gradients of `c` on their way back.
///
/// As in [`super::lstm::LstmGrad`], backpropagation stops at the initial state.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LstmPairGrad {
    /// Sizes.
    pub pair: Pair,
}

impl Pair {
    /// What the layers' units must be multiples of: the tiles of all kernels divide them then.
    pub const UNITS: usize = 32;

    /// Whether layers of such units can run beside each other on this adapter: not where two steps are too much for a binding, or for
    /// a watchdog.
    pub fn fits(&self, capabilities: &Capabilities) -> bool {
        let [h, g] = self.units;
        let widest = (2 * 4 * h.max(g)).max(3 * (h + g)) * self.rows * size_of::<f32>();
        let even = self.units.iter().all(|units| units.is_multiple_of(Self::UNITS));
        let bound = widest.max(self.weights_len * size_of::<f32>()) as u64;
        let groups: usize = self.units.iter().map(|&units| BACKWARD_SPLITS[0].1.groups(self.rows, units)).sum();
        let cost = LstmPairGrad { pair: *self }.cost();
        let in_time = capabilities.budget.is_none_or(|budget| budget.parts(self.steps + 1, cost, groups as u64) > 0);
        even && bound <= capabilities.max_storage_buffer_binding_size && in_time
    }

    /// Multiply-adds of a row in one step.
    fn products(&self) -> usize {
        let [h, g] = self.units;
        4 * (h * h + h * g + g * g)
    }

    fn matrices<'a, R>(&self, weights: &'a [R]) -> [Mat<'a, R>; 3] {
        let [h, g] = self.units;
        let matrix = |start: usize, rows: usize, units: usize| {
            Mat::new(&weights[start..][..rows * 4 * units], rows, 4 * units, 4 * units)
        };
        let [recurrent, input, upper] = self.weights;
        [matrix(recurrent, h, h), matrix(input, h, g), matrix(upper, g, g)]
    }

    /// Rounds to what is stored.
    fn round<R: Real>(&self, values: &mut [R]) {
        if self.stored == Format::F16 {
            R::round_half(values);
        }
    }

    fn label(&self, way: &str) -> String {
        let Self { steps, rows, units: [h, g], drop, weights_in, stored, .. } = self;
        let formats = lstm::formats_label(*weights_in, *stored);
        format!("lstm pair {way} T={steps} rows={rows} H={h} G={g} rate {}{formats}", drop.rate)
    }

    /// Kernels by their number of rows, the one to take unmeasured first; none where the layers cannot run beside each other.
    fn kernels(&self, all: &Named<Split>, capabilities: &Capabilities) -> Vec<(&'static str, Split)> {
        let groups = |split: Split| self.units.iter().map(|&units| split.groups(self.rows, units)).sum::<usize>();
        match self.fits(capabilities) {
            true => lstm::by_size(all, self.rows, Split::rows, |split| groups(split) >= SPLIT_GROUPS),
            false => vec![],
        }
    }

    fn shader(&self, split: Split, entry: &'static str) -> Shader {
        let formats = [self.weights_in, self.stored];
        let source = shader_text!("lstm_pair", "lstm");
        let types = vec![("W", formats[0]), ("S", formats[1]), ("Ahead", half_if_all(formats))];
        Shader { op: "lstm_pair", source, types, ..split.shader(entry, true) }
    }
}

impl LstmPair {
    /// Step by step, each over all rows.
    fn run_on_cpu<R: Real>(&self, uniforms: &Uniforms, args: Args<'_, R>) {
        let ([weights, bias], [gates, h, x, upper_gates, upper_h, c]) = args.take();
        let Pair { rows, units: [lower, upper], drop, .. } = self.pair;
        let [recurrent, input, upper_recurrent] = self.pair.matrices(weights);
        let (size, upper_size) = (rows * lower, rows * upper);
        for t in 0..self.pair.steps {
            let (c_before, c) = c[t * (size + upper_size)..].split_at_mut(size + upper_size);
            let (c_before, upper_c_before) = c_before.split_at(size);
            let (c, upper_c) = c[..size + upper_size].split_at_mut(size);

            let gates = &mut gates[t * 4 * size..][..4 * size];
            let (h_before, h) = h[t * size..][..2 * size].split_at_mut(size);
            matmul(gates, 4 * lower, Mat::new(h_before, rows, lower, lower), recurrent, true, true);
            cells(lower, gates, c_before, c, h);
            self.pair.round(h);
            let x = &mut x[t * size..][..size];
            drop.apply(uniforms, t * size, h, x);
            self.pair.round(x);

            let gates = &mut upper_gates[t * 4 * upper_size..][..4 * upper_size];
            for (row, gates) in gates.chunks_exact_mut(4 * upper).enumerate() {
                gates.copy_from_slice(&bias[self.groups.of(row) * 4 * upper..][..4 * upper]);
            }
            let (h_before, h) = upper_h[t * upper_size..][..2 * upper_size].split_at_mut(upper_size);
            matmul(gates, 4 * upper, Mat::new(x, rows, lower, lower), input, true, true);
            matmul(gates, 4 * upper, Mat::new(h_before, rows, upper, upper), upper_recurrent, true, true);
            cells(upper, gates, upper_c_before, upper_c, h);
            self.pair.round(h);
        }
    }

    fn kernels(&self, capabilities: &Capabilities) -> Vec<(&'static str, Split)> {
        self.pair.kernels(&FORWARD_SPLITS, capabilities)
    }
}

/// One step of all rows.
fn cells<R: Real>(units: usize, gates: &mut [R], c_before: &[R], c: &mut [R], h: &mut [R]) {
    let states = c_before.chunks_exact(units).zip(c.chunks_exact_mut(units)).zip(h.chunks_exact_mut(units));
    for (gates, ((c_before, c), h)) in gates.chunks_exact_mut(4 * units).zip(states) {
        lstm::cell(gates, c_before, c, h);
    }
}

impl LstmPairGrad {
    fn run_on_cpu<R: Real>(&self, uniforms: &Uniforms, args: Args<'_, R>) {
        let ([weights, dh, c], [gates, upper_gates, dc]) = args.take();
        let Pair { steps, rows, units: [lower, upper], drop, .. } = self.pair;
        let [recurrent, input, upper_recurrent] = self.pair.matrices(weights);
        let (size, upper_size) = (rows * lower, rows * upper);
        dc.fill(R::ZERO);
        let (dc, upper_dc) = dc.split_at_mut(size);
        let mut above = vec![R::ZERO; size];
        let mut total = above.clone();
        for t in (0..steps).rev() {
            let (c_before, c) = c[t * (size + upper_size)..].split_at(size + upper_size);
            let (c_before, upper_c_before) = c_before.split_at(size);
            let (c, upper_c) = c[..size + upper_size].split_at(size);

            let (of_upper, later) = upper_gates[t * 4 * upper_size..].split_at_mut(4 * upper_size);
            let mut upper_total = dh[t * upper_size..][..upper_size].to_vec();
            if let Some(later) = later.get(..4 * upper_size) {
                let later = Mat::new(later, rows, 4 * upper, 4 * upper);
                matmul(&mut upper_total, upper, later, upper_recurrent.t(), true, true);
            }
            cell_grads(upper, of_upper, &upper_total, (upper_c_before, upper_c), upper_dc);
            self.pair.round(of_upper);

            matmul(&mut above, lower, Mat::new(of_upper, rows, 4 * upper, 4 * upper), input.t(), false, true);
            drop.apply(uniforms, t * size, &above, &mut total);
            let (of_lower, later) = gates[t * 4 * size..].split_at_mut(4 * size);
            if let Some(later) = later.get(..4 * size) {
                let later = Mat::new(later, rows, 4 * lower, 4 * lower);
                matmul(&mut total, lower, later, recurrent.t(), true, true);
            }
            cell_grads(lower, of_lower, &total, (c_before, c), dc);
            self.pair.round(of_lower);
        }
    }

    fn kernels(&self, capabilities: &Capabilities) -> Vec<(&'static str, Split)> {
        self.pair.kernels(&BACKWARD_SPLITS, capabilities)
    }
}

/// One step of all rows backwards.
fn cell_grads<R: Real>(units: usize, gates: &mut [R], dh: &[R], (c_before, c): (&[R], &[R]), dc: &mut [R]) {
    let states = c_before.chunks_exact(units).zip(c.chunks_exact(units)).zip(dc.chunks_exact_mut(units));
    for ((gates, dh), ((c_before, c), dc)) in gates.chunks_exact_mut(4 * units).zip(dh.chunks_exact(units)).zip(states)
    {
        lstm::cell_grad(gates, dh, c_before, c, dc);
    }
}

impl Op for LstmPair {
    fn name(&self) -> &'static str {
        "lstm_pair"
    }

    fn kernel(&self) -> &'static str {
        "lstm_pair_fwd"
    }

    fn label(&self) -> String {
        self.pair.label("forward")
    }

    fn args(&self) -> Vec<Arg> {
        let Pair { steps, rows, units: [h, g], weights_len, weights_in, stored, .. } = self.pair;
        let all = steps * rows;
        vec![
            Arg::read("weights", weights_len).stored(weights_in).moving(self.pair.products()),
            Arg::read("bias", self.groups.sequences * 4 * g),
            Arg::update("gates", all * 4 * h).stored(stored),
            Arg::write("h", (all + rows) * h).stored(stored),
            Arg::write("x", all * h).stored(stored),
            Arg::write("upper_gates", all * 4 * g).stored(stored),
            Arg::write("upper_h", (all + rows) * g).stored(stored),
            Arg::write("c", (all + rows) * (h + g)),
        ]
    }

    /// As two layers with the product and the dropout between them.
    fn cost(&self) -> Cost {
        let Pair { steps, rows, units: [h, g], .. } = self.pair;
        let a_row = 2 * self.pair.products() + 9 * (h + g) + h;
        Cost { flops: (steps * rows * a_row) as u64, bytes: self.operand_bytes() }
    }

    cpu_both!();

    fn variants(&self, capabilities: &Capabilities) -> Vec<&'static str> {
        self.kernels(capabilities).into_iter().map(|(name, _)| name).collect()
    }

    fn record(&self, variant: &str, recorder: &mut Recorder<'_>) -> Result<()> {
        let split = lstm::named(self.kernels(recorder.capabilities), self, variant)?;
        let Pair { steps, rows, units: [h, g], weights: [recurrent, input, upper_recurrent], drop, .. } = self.pair;
        let cells = rows * (h + g);
        for d in 0..=steps {
            // The steps of the lower and the upper layer; where one has none, what is bound for it is not looked at.
            let (lower, upper) = (d.min(steps - 1), d.max(1) - 1);
            let (ahead, lower_groups) = (lower - upper, if d < steps { split.groups(rows, h) } else { 0 });
            let upper_groups = if d > 0 { split.groups(rows, g) } else { 0 };
            let building = recorder
                .dispatch(self.pair.shader(split, "forward"), recorder.share(1, steps + 1))
                .read_all(0)
                .read_all(1)
                .write(2, lower * rows * 4 * h, rows * 4 * h)
                .write(3, lower * rows * h, 2 * rows * h)
                .write(4, upper * rows * h, (1 + ahead) * rows * h)
                .write(5, upper * rows * 4 * g, rows * 4 * g)
                .write(6, upper * rows * g, 2 * rows * g)
                .write(7, upper * cells, (2 + ahead) * cells)
                .words(&[recurrent, input, upper_recurrent, lower_groups, lower, ahead, rows, h, g])
                .words(&[self.groups.inner, self.groups.sequences]);
            drop.words(building).step().groups(lower_groups + upper_groups);
        }
        Ok(())
    }

    fn excerpt(&self, flops: u64) -> Option<Box<dyn Op>> {
        let steps = lstm::excerpt(self.pair.steps, self.cost().flops, flops)?;
        Some(Box::new(Self { pair: Pair { steps, ..self.pair }, ..self.clone() }))
    }

    fn gradient(&self, tape: &mut dyn Tape, operands: &[View]) {
        let [weights, bias, gates, h, x, upper_gates, upper_h, c] = *operands else { return };
        let Pair { steps, rows, units: [lower, upper], weights: starts, stored, .. } = self.pair;
        let all = steps * rows;
        let Some(dh) = tape.grad(upper_h.slice(rows * upper, all * upper)) else { return };
        let dc = tape.temp("dc", rows * (lower + upper), Format::F32);
        tape.push(Box::new(LstmPairGrad { pair: self.pair }), &[weights, dh, c, gates, upper_gates, dc]);
        tape.set_grad(gates, gates);
        tape.contribute(bias, Box::new(SumRows::new(all, 4 * upper, self.groups).of(stored)), &[upper_gates]);
        let (h, upper_h) = (h.slice(0, all * lower), upper_h.slice(0, all * upper));
        for (start, from, of, from_units, units) in [
            (starts[0], h, gates, lower, lower),
            (starts[1], x, upper_gates, lower, upper),
            (starts[2], upper_h, upper_gates, upper, upper),
        ] {
            let matrix = weights.slice(start, from_units * 4 * units);
            let product = Gemm::new(Layout::TN, from_units, 4 * units, all);
            let product = product.of([stored, stored, tape.grad_format(matrix)]);
            tape.contribute(matrix, Box::new(product), &[from, of]);
        }
    }
}

impl Op for LstmPairGrad {
    fn name(&self) -> &'static str {
        "lstm_pair"
    }

    fn kernel(&self) -> &'static str {
        "lstm_pair_bwd"
    }

    fn label(&self) -> String {
        self.pair.label("backward")
    }

    fn args(&self) -> Vec<Arg> {
        let Pair { steps, rows, units: [h, g], weights_len, weights_in, stored, .. } = self.pair;
        let all = steps * rows;
        // As for one layer: the last step has none after it.
        let read = if steps > 1 { self.pair.products() } else { 4 * h * g };
        vec![
            Arg::read("weights", weights_len).stored(weights_in).moving(read),
            Arg::read("dh", all * g).stored(stored),
            Arg::read("c", (all + rows) * (h + g)),
            Arg::update("gates", all * 4 * h).stored(stored),
            Arg::update("upper_gates", all * 4 * g).stored(stored),
            Arg::write("dc", rows * (h + g)),
        ]
    }

    /// The last step has none after it whose gradients would come back through the recurrent weights; the product between the layers
    /// is made in all steps.
    fn cost(&self) -> Cost {
        let Pair { steps, rows, units: [h, g], .. } = self.pair;
        let (steps, rows, between) = (steps as u64, rows as u64, (8 * h * g + h) as u64);
        let recurrent = (8 * (h * h + g * g)) as u64;
        let flops = rows * (steps * (between + 23 * (h + g) as u64) + steps.saturating_sub(1) * recurrent);
        Cost { flops, bytes: self.operand_bytes() }
    }

    cpu_both!();

    fn variants(&self, capabilities: &Capabilities) -> Vec<&'static str> {
        self.kernels(capabilities).into_iter().map(|(name, _)| name).collect()
    }

    fn record(&self, variant: &str, recorder: &mut Recorder<'_>) -> Result<()> {
        let split = lstm::named(self.kernels(recorder.capabilities), self, variant)?;
        let Pair { steps, rows, units: [h, g], weights: [recurrent, input, upper_recurrent], drop, .. } = self.pair;
        let cells = rows * (h + g);
        for d in 0..=steps {
            // The steps of the upper layer, which has none at the end, and of the lower one, which has none at first.
            let (upper, lower) = ((steps - 1).saturating_sub(d), (steps - d).min(steps - 1));
            let (has_upper, has_lower) = (d < steps, d > 0);
            let ahead = lower - upper;
            let (later, upper_later) = (has_lower && lower + 1 < steps, has_upper && upper + 1 < steps);
            let upper_groups = if has_upper { split.groups(rows, g) } else { 0 };
            let lower_groups = if has_lower { split.groups(rows, h) } else { 0 };
            let building = recorder
                .dispatch(self.pair.shader(split, "backward"), recorder.share(1, steps + 1))
                .read_all(0)
                .read(1, upper * rows * g, rows * g)
                .read(2, upper * cells, (2 + ahead) * cells)
                .write(3, lower * rows * 4 * h, (1 + usize::from(later)) * rows * 4 * h)
                .write(4, upper * rows * 4 * g, (1 + usize::from(upper_later)) * rows * 4 * g)
                .write_all(5)
                .words(&[recurrent, input, upper_recurrent, upper_groups, lower, ahead])
                .words(&[later.into(), upper_later.into(), rows, h, g]);
            drop.words(building).step().groups(upper_groups + lower_groups);
        }
        Ok(())
    }

    fn excerpt(&self, flops: u64) -> Option<Box<dyn Op>> {
        let steps = lstm::excerpt(self.pair.steps, self.cost().flops, flops)?;
        Some(Box::new(Self { pair: Pair { steps, ..self.pair } }))
    }
}
