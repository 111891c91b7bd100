//! The cost of a whole training update in closed form (docs/PERFORMANCE.md, "What an update costs"), held against the sum
//! over the plan's ops. What an op declares is held against a count of what its reference does in `kernels-tests`.

use deepj::models::deepj::{Config, DeepJ, Preset};
use deepj::models::{PlanOptions, Precision};
use deepj::nn::optimizer::nadam::Nadam;
use deepj::ops::Cost;
use deepj::profile::training_plan;

/// FLOPs, and elements read and written: of f32, 4 bytes each.
#[derive(Clone, Copy, Default)]
struct Sum {
    flops: u64,
    moved: u64,
}

impl Sum {
    fn add(&mut self, times: u64, flops: u64, moved: u64) {
        self.flops += times * flops;
        self.moved += times * moved;
    }
}

/// A layer of LSTM cells: inputs, units, and sequences, each of so many steps.
#[derive(Clone, Copy)]
struct Layer {
    inputs: u64,
    units: u64,
    sequences: u64,
    steps: u64,
}

/// A training update of the paper's wiring, f32, nothing computed again. `b`, `t` and `n` are batch, time steps and notes,
/// `params` the parameters with their padding, `r` the cells of the batch: (time step, note) pairs of all pieces.
struct Step {
    b: u64,
    t: u64,
    n: u64,
    r: u64,
    params: u64,
    config: Config,
}

impl Step {
    fn layers(&self) -> [Layer; 4] {
        let Self { b, t, n, .. } = *self;
        let (time, note) = (self.config.time_units as u64, self.config.note_units as u64);
        let on_time = |inputs| Layer { inputs, units: time, sequences: b * n, steps: t };
        let on_notes = |inputs| Layer { inputs, units: note, sequences: b * t, steps: n };
        [on_time(self.config.feature_width() as u64), on_time(time), on_notes(time + 3), on_notes(note)]
    }

    /// The products of the LSTM layers: a cell's gates are `4H (I + H)` multiply-adds, and as many again for the gradients of
    /// inputs and weights each. No gradient goes back through the recurrent weights from the first step.
    fn layers_products(&self) -> u64 {
        let of_layer = |l: Layer| {
            let cell = 3 * 2 * 4 * l.units * (l.inputs + l.units);
            l.sequences * (l.steps * cell - 2 * 4 * l.units * l.units)
        };
        self.layers().map(of_layer).iter().sum()
    }

    /// What a cell (time step, note) costs besides.
    fn cells(&self) -> Sum {
        let Config { filters, time_units, note_units, .. } = self.config;
        let (filters, time, note) = (filters as u64, time_units as u64, note_units as u64);
        let features = self.config.feature_width() as u64;
        let mut sum = Sum::default();
        for Layer { inputs, units, .. } in self.layers() {
            // Gates' functions forward and backward, the bias' gradient.
            let forward = inputs + 4 * units + 10 * units;
            let backward = 10 * units + 5 * units + 2 * (4 * units + inputs) + 4 * units;
            sum.add(self.r, (9 + 23 + 4) * units, forward + backward);
        }
        // Padding of the rows of an axis' input and of its gradient.
        let padding = |width: u64| width.next_multiple_of(8) - width;
        sum.add(self.r, 0, 2 * (padding(features) + padding(time + 3)));
        // Dropout of notes, between layers (forward and backward), in the heads (and in their gradients), and on the way to the
        // note axis with the notes below.
        sum.add(self.r, 3, 2 * 3);
        sum.add(self.r, 2 * (time + note), 4 * (time + note));
        sum.add(self.r, 3 * note, 0);
        sum.add(self.r, 2 * time + 3, 4 * time + 2 * 3);
        // Heads: logits and losses, the gradients of features and weights.
        sum.add(self.r, 3 * 2 * 3 * note + 30 + 3 + 6, 3 * note + 4 * 3);
        // Pitch-class counts and octave features, their dropout back.
        sum.add(self.r, filters + 1 + filters, 1 + filters + features + 2 * filters);
        // The convolution's tanh and its gradient, the bias' gradient; what its products read and write.
        sum.add(self.r, (1 + 3 + 1) * filters, (3 + filters) + 3 * filters + (3 + filters) + filters);
        sum
    }

    /// The octave convolution's products, forward and for the weights: `taps` for each note, but those beyond the axis.
    fn convolution_products(&self) -> u64 {
        let half = self.config.taps as u64 / 2;
        let inside: u64 = (0..self.n).map(|note| (note + half).min(self.n - 1) + 1 - note.saturating_sub(half)).sum();
        2 * 2 * self.b * self.t * inside * 3 * self.config.filters as u64
    }

    /// What does not grow with all of batch, time steps and notes.
    fn rest(&self) -> Sum {
        let Self { b, t, n, params, .. } = *self;
        let Config { styles, style_width, filters, taps, note_units, .. } = self.config;
        let [styles, style, filters, taps, note] = [styles, style_width, filters, taps, note_units].map(|x| x as u64);
        let mut sum = Sum::default();
        for (i, Layer { inputs, units, sequences, steps }) in self.layers().into_iter().enumerate() {
            let gates = 4 * units;
            // Weights: products forward and back read them, gradients are written; a bias row a piece.
            sum.add(1, 0, 3 * inputs * gates + (2 + u64::from(steps > 1)) * units * gates + 2 * b * gates);
            // Slots of h and c before the first step, dc.
            sum.add(sequences * units, 0, 4);
            // States start from zero, or where they ended times `keep`, and are kept.
            match i < 2 {
                true => {
                    sum.add(sequences * units, 2, 2 * 2 + 2 * 2);
                    sum.add(b, 0, 2);
                }
                false => sum.add(sequences * units, 0, 2),
            }
            // Style: h' = tanh(e W' + b') and its dropout, the gates' bias h' W + b; then back, adding to the gradients of
            // W and, after the first layer, of e.
            let hidden = 2 * style * inputs;
            let bias = 2 * gates * inputs;
            sum.add(b, 3 * hidden + 3 * bias + (1 + 1 + 1 + 3 + 1) * inputs + gates, 0);
            sum.add(1, 0, (b + inputs) * style + inputs + b * inputs + 2 * b * inputs);
            sum.add(1, 0, b * inputs + inputs * gates + gates + b * gates);
            sum.add(1, 0, (b * gates + inputs * gates + b * inputs) + (b * inputs + b * gates + 2 * inputs * gates));
            sum.add(1, 0, (b * gates + gates) + 2 * b * inputs + 3 * b * inputs);
            let adds = if i == 3 { 1 } else { 2 };
            sum.add(1, 0, (b * inputs + style * inputs + adds * b * style) + (b * style + b * inputs + style * inputs));
            sum.add(1, 0, b * inputs + inputs);
        }
        // The style embedding, and back.
        sum.add(b * style, 2 * 2 * styles + 1, 0);
        sum.add(1, 0, 2 * (b * styles + styles * style + b * style) + style + b * style + style);
        // The lowest note has none below it, and the highest is below none.
        sum.flops -= 3 * b * t;
        sum.moved -= 3 * b * t;
        // Weights of heads and convolution with their gradients; losses of parts of 128 rows, summed.
        let parts = n * (b * t).div_ceil(128);
        let head = 3 * note;
        sum.add(parts, 3 + head + 3, 3 + (3 + 3 + 3 + 3) + (head + 3) + (head + 3));
        sum.add(1, 0, head + 3 + 3 * b * t + 3 + 3 + head + head + 3);
        sum.add(1, 0, (3 * taps * filters + filters) + 3 * taps * filters + filters + b);
        // The update: the norm in parts of 1024, 17 a parameter.
        let partials = params.div_ceil(1024);
        sum.add(1, 2 * params + partials + 17 * params, params + 2 * partials + 1 + 1 + 7 * params);
        sum
    }

    fn cost(&self) -> Cost {
        let (cells, rest) = (self.cells(), self.rest());
        Cost {
            flops: self.layers_products() + self.convolution_products() + cells.flops + rest.flops,
            bytes: 4 * (cells.moved + rest.moved),
        }
    }
}

fn plan(config: &Config, options: PlanOptions, b: usize, t: usize) -> (Cost, u64) {
    let model = DeepJ::new(config.clone()).unwrap();
    let (plan, _) = training_plan(&model, &Nadam::default(), options, (b, t), None).unwrap();
    (plan.cost(), plan.layout.len() as u64)
}

fn closed(config: &Config, b: usize, t: usize, params: u64) -> Step {
    let n = config.notes;
    Step { b: b as u64, t: t as u64, n: n as u64, r: (b * t * n) as u64, params, config: config.clone() }
}

#[test]
fn a_step_costs_what_the_closed_form_says() {
    let narrow = Config {
        notes: 13,
        beats: 4,
        style_width: 6,
        filters: 5,
        taps: 5,
        time_units: 24,
        note_units: 12,
        ..Config::preset(Preset::Paper, 3)
    };
    for config in [Config::preset(Preset::Paper, 23), Config::preset(Preset::Small, 6), narrow] {
        for (b, t) in [(16, 128), (1, 1), (1, 7), (3, 50), (64, 128)] {
            let (cost, params) = plan(&config, PlanOptions::default(), b, t);
            assert_eq!(cost, closed(&config, b, t, params).cost(), "B={b} T={t} {config:?}");
            let mixed = PlanOptions { precision: Precision::Mixed, ..PlanOptions::default() };
            assert_eq!(plan(&config, mixed, b, t).0.flops, cost.flops, "mixed, B={b} T={t}");
        }
    }
}

/// The paper's update, B=16 T=128, as docs/PERFORMANCE.md has it.
#[test]
fn the_page_of_performance_has_these_figures() {
    let config = Config::preset(Preset::Paper, 23);
    let (cost, params) = plan(&config, PlanOptions::default(), 16, 128);
    let step = closed(&config, 16, 128, params);
    let sums: u64 = step.layers().iter().map(|l| l.units * (l.inputs + l.units)).sum();
    let forward = 8 * step.r * sums;
    let giga = |amount: u64| format!("{:.2}", amount as f64 / 1e9);
    // At the end of a row of the table.
    let cell = |amount: u64| format!("| {} | |", giga(amount));
    let with = |precision, recompute| {
        let (cost, _) = plan(&config, PlanOptions { precision, recompute, pairs: false }, 16, 128);
        format!("{:.1} TFLOP and {:.1} GB", cost.flops as f64 / 1e12, cost.bytes as f64 / 1e9)
    };
    let figures = [
        cell(forward),
        cell(step.layers_products() - forward),
        cell(step.convolution_products()),
        cell(step.cells().flops),
        cell(step.rest().flops),
        format!("{:.4} TFLOP", cost.flops as f64 / 1e12),
        format!("= {} GB for the cells", giga(4 * step.cells().moved)),
        format!("and {} for weights", giga(4 * step.rest().moved)),
        format!("{} FLOP a byte", cost.flops / cost.bytes),
        format!("{} GB", giga(cost.bytes)),
        with(Precision::Mixed, false),
        with(Precision::F32, true),
    ];
    let page: Vec<&str> = include_str!("../docs/PERFORMANCE.md").split_whitespace().collect();
    let page = page.join(" ");
    for figure in figures {
        assert!(page.contains(&figure), "docs/PERFORMANCE.md lacks {figure}");
    }
}
