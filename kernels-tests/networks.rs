//! Whole networks: one update with dropout, and generation, on an adapter against the f64 reference; the
//! program's gradients against central differences.

use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::gpu::{Capabilities, Checks, Device, Gpu, WatchdogBudget};
use crate::graph::session::KernelSelection;
use crate::graph::{CpuProgram, Init, Kind, Plan, Session, cpu};
use crate::models::deepj::{Config, DeepJ, Dynamics, Join, Octave, Preset, StyleUse};
use crate::models::network::Built;
use crate::models::{GenerationIo, Model, PlanOptions, Precision, SequenceIo, TypicalSizes, biaxial};
use crate::nn::init;
use crate::nn::optimizer::nadam::Nadam;
use crate::nn::optimizer::{self, Optimizer, Schedule};
use crate::ops::random::{pcg4d, uniform01};
use crate::ops::{Real, Uniforms, View};
use serde::{Deserialize, Serialize};

use super::harness::adapters::Adapter;
use super::harness::bounded::{HALF_ROUNDOFF, ROUNDOFF, within};
use super::harness::comparison::Margin;
use super::harness::gradient::central_difference;

/// All layers, small: 13 notes, units 24 and 12.
fn small() -> Config {
    Config {
        notes: 13,
        beats: 4,
        style_width: 6,
        filters: 5,
        taps: 5,
        time_units: 24,
        note_units: 12,
        ..Config::preset(Preset::Paper, 3)
    }
}

/// The same with layers that can run beside each other.
fn paired() -> Config {
    Config { time_units: 32, note_units: 64, ..small() }
}

/// How two layers of an axis run beside each other.
fn pairs(precision: Precision) -> PlanOptions {
    PlanOptions { precision, recompute: false, pairs: true }
}

/// A network, boxed; the configurations here are valid.
fn deepj(config: Config) -> Arc<dyn Model> {
    Arc::new(DeepJ::new(config).expect("the configuration is valid"))
}

/// The Biaxial LSTM, small, its layers of different widths.
fn biaxial() -> Arc<dyn Model> {
    let (time_units, note_units) = ([20, 24], [12, 6]);
    let config = biaxial::Config { lowest: 35, notes: 13, time_units, note_units, dropout: 0.5, masked_losses: true };
    Arc::new(Built::new(config).expect("the configuration is valid"))
}

/// The paper's wiring, every other that DeepJ's configuration knows, and the other networks.
fn wirings() -> [(&'static str, Arc<dyn Model>); 9] {
    let of = |name, config| (name, deepj(config));
    [
        of("style summed per layer", small()),
        of("style concatenated per layer", Config { join: Join::Concat, ..small() }),
        of("style as input", Config { style: StyleUse::Input, ..small() }),
        of("no style", Config { style: StyleUse::None, ..small() }),
        of("octave as it is", Config { octave: Octave::Direct, ..small() }),
        of("categorical dynamics", Config { dynamics: Dynamics::Categorical, ..small() }),
        of("unmasked losses", Config { masked_losses: false, ..small() }),
        of("no dropout", Config { dropout: 0.0, input_dropout: 0.0, ..small() }),
        ("biaxial", biaxial()),
    ]
}

/// The plans of all commands, in every wiring and every way to train.
pub fn plans() -> Vec<Plan> {
    let ways = [Precision::F32, Precision::Mixed]
        .into_iter()
        .flat_map(|precision| [false, true].map(|recompute| PlanOptions { precision, recompute, pairs: false }));
    let ways: Vec<PlanOptions> = ways.collect();
    let of_wiring = |(name, model): (&str, Arc<dyn Model>)| {
        let training = ways.iter().map(|&options| Ok(model.training(options, 2, 5)?.compile().0));
        let others =
            [Ok(optimizer::plan(&clipping(), None, model.layout()).0), Ok(model.evaluation(2, 5)?.compile().0)];
        let generation = [1, 3].map(|pieces| Ok(model.generation(pieces, 4)?.compile().0));
        let plans: crate::Result<Vec<Plan>> = training.chain(others).chain(generation).collect();
        plans.map_err(|e| crate::Error::model(format!("{name}: {e}"), ""))
    };
    let all = wirings().into_iter().flat_map(|wiring| of_wiring(wiring).unwrap_or_else(|e| panic!("{e}")));
    let of_pairs = [Precision::F32, Precision::Mixed].map(|precision| {
        deepj(paired()).training(pairs(precision), 2, 5).expect("the configuration is valid").compile().0
    });
    all.chain(of_pairs).collect()
}

fn paper() -> Arc<dyn Model> {
    deepj(Config::preset(Preset::Paper, 4))
}

/// Uniform numbers in `[0, 1)`, a stream for each number.
fn uniform(stream: u32, len: usize) -> impl Iterator<Item = f32> {
    (0..len).map(move |i| uniform01(pcg4d([i as u32, stream, 0xdee9, 7])[0]))
}

/// Cells of play, replay and, where there are three channels, dynamics.
fn roll(stream: u32, cells: usize, channels: usize) -> Vec<f32> {
    let pairs = uniform(stream, cells).zip(uniform(stream + 1, cells));
    let cell = |(a, b)| if a < 0.3 { [1.0, f32::from(b < 0.4), b] } else { [0.0; 3] };
    pairs.flat_map(|pair| cell(pair).into_iter().take(channels)).collect()
}

/// Points in the simplex of styles.
fn styles(slots: usize, styles: usize) -> Vec<f32> {
    let weights: Vec<f32> = uniform(40, slots * styles).collect();
    weights.chunks(styles).flat_map(|w| w.iter().map(|x| x / w.iter().sum::<f32>()).collect::<Vec<_>>()).collect()
}

/// All parameters, as they are initialised but with biases that are not zero, and their buffer.
fn params(plan: &Plan) -> (View, Vec<f32>) {
    let mut values = init::initialise(&plan.layout, 3);
    for (i, param) in plan.layout.params().iter().enumerate().filter(|(_, param)| param.init == Init::Zero) {
        let range = param.view.start..param.view.start + param.view.len;
        values[range].iter_mut().zip(uniform(100 + i as u32, param.view.len)).for_each(|(x, r)| *x = 0.4 * r - 0.2);
    }
    (plan.buffer(Kind::Params), values)
}

/// The update is compared too, gradients are clipped.
fn clipping() -> Nadam {
    Nadam { clip_norm: 0.5, ..Nadam::default() }
}

/// The plan of a training update, gradients and update in one, with all that it reads.
pub struct TrainingCase {
    plan: Plan,
    io: SequenceIo,
    squared_norm: View,
    model: Arc<dyn Model>,
    uniforms: Uniforms,
    given: Vec<(View, Vec<f32>)>,
    steps: usize,
    batch: usize,
    options: PlanOptions,
    /// What is special about the network.
    what: &'static str,
    oracle: OnceLock<Vec<Vec<f64>>>,
}

/// Weights of the losses.
const LOSS_WEIGHTS: [f32; 3] = [1.0, 0.7, 1.3];

/// The loss scale of mixed precision.
const SCALE: f32 = 4096.0;

impl TrainingCase {
    fn new(model: Arc<dyn Model>, batch: usize, steps: usize, options: PlanOptions) -> Self {
        let mut sequence = model.training(options, batch, steps).expect("the configuration is valid");
        let squared_norm = optimizer::append(&clipping(), None, &mut sequence.graph);
        let (plan, io) = sequence.compile();
        let scale = if options.precision == Precision::Mixed { SCALE } else { 1.0 };
        let mut uniforms = Uniforms { seed: 77, update: 12, unscale: 1.0 / scale, ..Uniforms::default() };
        clipping().advance(&mut Schedule::default(), &mut uniforms);
        let (n, channels) = (model.roll().notes, model.roll().channels.len());
        // The last time step of the last slot is padding.
        // In the first slot only notes count.
        let last = |i: usize| i / channels == batch * steps - 1 && i >= channels;
        let counts = |i: usize| !last(i) && (!(i / channels).is_multiple_of(batch) || i % channels < 2);
        let weight = |i| if counts(i) { 1.0 / (batch * steps * n) as f32 } else { 0.0 };
        let mut given = vec![
            params(&plan),
            (io.roll, roll(1, (steps + 1) * batch * n, channels)),
            (io.start, (0..batch).map(|b| (b * 7) as f32 - 1.0).collect()),
            (io.weight, (0..batch * steps * channels).map(weight).collect()),
            (io.keep, (0..batch).map(|b| f32::from(b % 2 == 0)).collect()),
        ];
        given.extend(io.style.map(|view| (view, styles(batch, model.roll().styles))));
        let weights = LOSS_WEIGHTS.map(|weight| weight * scale);
        given.extend(io.loss_weights.map(|view| (view, weights[..view.len].to_vec())));
        for (i, &state) in io.states.iter().enumerate() {
            given.push((state, uniform(20 + i as u32, state.len).map(|r| r - 0.5).collect()));
        }
        Self {
            plan,
            io,
            squared_norm,
            model,
            uniforms,
            given,
            steps,
            batch,
            options,
            what: "",
            oracle: OnceLock::new(),
        }
    }

    /// Those that run on every adapter: the paper's wiring small, with the paper's sizes, in mixed precision and with
    /// recomputation; and what has ops of its own, in either precision.
    pub fn all() -> Vec<Self> {
        let plain = PlanOptions::default();
        let how = |precision, recompute| PlanOptions { precision, recompute, pairs: false };
        let (model, mixed) = (|| deepj(small()), how(Precision::Mixed, false));
        let binned = || deepj(Config { octave: Octave::Direct, dynamics: Dynamics::Categorical, ..small() });
        vec![
            Self::new(model(), 2, 5, plain),
            Self::new(model(), 1, 1, plain),
            Self::new(paper(), 1, 4, plain),
            Self::new(model(), 2, 5, how(Precision::F32, true)),
            Self::new(model(), 2, 5, mixed),
            Self::new(model(), 2, 5, how(Precision::Mixed, true)),
            Self { what: " direct categorical", ..Self::new(binned(), 2, 5, plain) },
            Self { what: " direct categorical", ..Self::new(binned(), 2, 5, mixed) },
            Self { what: " pairs", ..Self::new(deepj(paired()), 2, 5, pairs(Precision::F32)) },
            Self { what: " pairs", ..Self::new(deepj(paired()), 2, 5, pairs(Precision::Mixed)) },
            Self { what: " biaxial", ..Self::new(biaxial(), 2, 5, plain) },
            Self { what: " biaxial", ..Self::new(biaxial(), 2, 5, mixed) },
        ]
    }

    /// In every wiring that there is.
    pub fn of_wirings() -> impl Iterator<Item = (&'static str, Self)> {
        wirings().into_iter().map(|(name, model)| (name, Self::new(model, 2, 5, PlanOptions::default())))
    }

    /// Sizes and what is special.
    pub fn name(&self) -> String {
        let TypicalSizes { notes, time_units, note_units, .. } = self.model.typical_sizes();
        let (batch, steps, what) = (self.batch, self.steps, self.what);
        let precision = if self.options.precision == Precision::Mixed { " mixed" } else { "" };
        let recompute = if self.options.recompute { " recompute" } else { "" };
        format!("update B={batch} T={steps} N={notes} units {time_units} {note_units}{what}{precision}{recompute}")
    }

    /// What is compared after an update: names, views, tolerances.
    fn results(&self) -> Vec<(String, View)> {
        let (plan, io) = (&self.plan, &self.io);
        let grads = plan.buffer(Kind::Grads);
        let mut results = vec![
            ("losses".to_string(), io.losses),
            ("squared norm".to_string(), self.squared_norm),
            ("updated parameters".to_string(), plan.buffer(Kind::Params)),
        ];
        results.extend(io.states.iter().enumerate().map(|(i, &state)| (format!("state {i}"), state)));
        let gradient = |param: &crate::graph::Param| View { tensor: grads.tensor, ..param.view };
        results
            .extend(plan.layout.params().iter().map(|param| (format!("gradient of {}", param.name), gradient(param))));
        results
    }

    /// How far a result's vector may be off, relative to its norm.
    ///
    /// Rounding errors are as good as independent and of mean zero, so those of `k` operations in a row come to
    /// `lambda sqrt(k)` roundoffs, with a probability of `2 exp(-lambda^2 / 2)` for more (Higham & Mary 2019, SIAM J. Sci.
    /// Comput. 41(5)); with weights as they are initialised, a layer passes errors on without amplifying them. `k` is
    /// the longest way through the model and back: at each step of an LSTM its recurrent sum, at each layer its
    /// input's sum, then the sum over all rows that makes a weight's gradient.
    fn tolerance(&self) -> f64 {
        const LAMBDA: f64 = 4.0;
        let TypicalSizes { notes, taps, time_units, note_units, .. } = self.model.typical_sizes();
        let layers = 2 * (time_units * self.steps + note_units * notes) + 3 * taps + time_units + 2 * note_units;
        // The way back has sums over the four gates.
        let k = layers + 4 * layers + self.batch * self.steps * notes;
        // In mixed precision values are rounded to 11 bits wherever they are stored: at each step of an LSTM, and a few
        // times a layer, there and back.
        let stored = match self.options.precision {
            Precision::F32 => 0,
            Precision::Mixed => 2 * (2 * self.steps + 2 * notes + 16),
        };
        LAMBDA * ((k as f64).sqrt() * ROUNDOFF + (stored as f64).sqrt() * HALF_ROUNDOFF)
    }

    /// Whether it has the paper's sizes, over which software adapters take long.
    fn is_paper(&self) -> bool {
        *self.model == *paper()
    }

    /// One step on the CPU in `R`.
    fn run_on_cpu<R: Real>(&self) -> Vec<Vec<f64>> {
        let mut shared = cpu::shared::<R>(&self.plan);
        let mut program = CpuProgram::<R>::new(self.plan.clone());
        for (view, values) in &self.given {
            let target = program.get_mut(&mut shared, *view);
            target.iter_mut().zip(values).for_each(|(to, &from)| *to = R::of(f64::from(from)));
        }
        program.run(&mut shared, &self.uniforms);
        let get = |(_, view): &(String, View)| program.get(&shared, *view).iter().map(|x| x.to_f64()).collect();
        self.results().iter().map(get).collect()
    }

    /// One update on a device; where the model is small twice from the same state, which must give the same bits.
    async fn on_device(&self, gpu: Gpu, selection: KernelSelection) -> Result<Vec<Vec<f64>>, String> {
        let outcome: crate::Result<Vec<Vec<Vec<f32>>>> = async {
            let mut session = Session::new(Device::Gpu(gpu), selection);
            let id = session.add(self.plan.clone()).await?;
            let views: Vec<View> = self.results().iter().map(|(_, view)| *view).collect();
            let mut runs = vec![];
            for _ in 0..if self.is_paper() { 1 } else { 2 } {
                for (view, values) in &self.given {
                    session.write(id, *view, values)?;
                }
                for moments in [0, 1] {
                    let view = self.plan.buffer(Kind::Optimizer(moments));
                    session.write(id, view, &vec![0.0; view.len])?;
                }
                session.run(id, 1, &self.uniforms)?;
                runs.push(session.read(id, &views).await?);
            }
            Ok(runs)
        }
        .await;
        let runs = outcome.map_err(|error| error.to_string())?;
        let (results, again) = (&runs[0], &runs[runs.len() - 1]);
        for (((name, _), result), again) in self.results().iter().zip(results).zip(again) {
            if let Some(i) = result.iter().zip(again).position(|(a, b)| a.to_bits() != b.to_bits()) {
                return Err(format!("two runs differ: {name}[{i}] is {:e}, then {:e}", result[i], again[i]));
            }
        }
        Ok(results.iter().map(|result| result.iter().map(|&x| f64::from(x)).collect()).collect())
    }

    /// The CPU backend in f32 against f64.
    ///
    /// # Errors
    /// A result beyond its tolerance.
    pub fn check_cpu(&self) -> Result<Margin, String> {
        self.compare(&self.run_on_cpu::<f32>())
    }

    /// The ways in which it runs on an adapter; none where that lacks f16 and the step needs it.
    pub fn ways(&self, adapter: &Adapter) -> Vec<Way> {
        if self.options.precision == Precision::Mixed && !adapter.capabilities.shader_f16 {
            return vec![];
        }
        let most = match adapter.is_portable() {
            // One will do: the largest of the small ones, as it is by default.
            true => usize::from(!self.is_paper() && self.steps > 1 && !self.options.recompute),
            false if self.is_paper() => 1,
            false => usize::MAX,
        };
        ways(&self.plan, &adapter.capabilities).into_iter().take(most).collect()
    }

    /// The step on an adapter against the f64 reference.
    ///
    /// # Errors
    /// A device that fails, two runs that differ, a result beyond its tolerance.
    pub async fn check(&self, adapter: &Adapter, way: &Way) -> Result<Margin, String> {
        self.compare(&self.on_device(way.device(adapter).await?, way.selection.clone()).await?)
    }

    /// Compares the norm of the difference from the f64 reference with the norm, result by result.
    fn compare(&self, results: &[Vec<f64>]) -> Result<Margin, String> {
        let wanted = self.oracle.get_or_init(|| self.run_on_cpu::<f64>());
        let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
        let tolerance = self.tolerance();
        let mut margin = Margin::none();
        for (((name, _), result), wanted) in self.results().into_iter().zip(results).zip(wanted) {
            let size = norm(&mut wanted.iter().copied());
            let error = norm(&mut result.iter().zip(wanted).map(|(a, b)| a - b));
            if size == 0.0 {
                return Err(format!("{name} is zero"));
            }
            let relative = error / size;
            if !within(relative, tolerance) {
                return Err(format!("{name} is off by {relative:e} of its norm, {tolerance:.1e} is allowed"));
            }
            if relative / tolerance > margin.share {
                let worst = format!("{name} is off by {relative:.1e} of its norm, {tolerance:.1e} is allowed");
                margin = Margin { share: relative / tolerance, worst };
            }
        }
        Ok(margin)
    }

    /// Some entries of each parameter's gradient against central differences of the losses.
    ///
    /// # Errors
    /// The first gradient that differs.
    pub fn check_gradients(&self) -> Result<(), String> {
        let mut uniforms = self.uniforms;
        uniforms.lr = 0.0;
        let mut shared = cpu::shared::<f64>(&self.plan);
        let mut program = CpuProgram::<f64>::new(self.plan.clone());
        let weights = LOSS_WEIGHTS.map(f64::from);
        // Computes the losses from the given state, with one parameter shifted; returns the weighted loss.
        let mut run = |shared: &mut cpu::Shared<f64>, place: usize, shift: f64| {
            for (view, values) in &self.given {
                let target = program.get_mut(shared, *view);
                target.iter_mut().zip(values).for_each(|(to, &from)| *to = f64::from(from));
            }
            shared[0][place] += shift;
            program.run(shared, &uniforms);
            program.get(shared, self.io.losses).iter().zip(weights).map(|(loss, weight)| loss * weight).sum()
        };
        let _: f64 = run(&mut shared, 0, 0.0);
        let gradients = shared[1].clone();
        for param in self.plan.layout.params() {
            let View { start, len, .. } = param.view;
            // Prime steps through the parameter, so that rows, columns and gates are all met.
            for i in (0..3).map(|i| (i * 7919 + 101) % len) {
                let difference = central_difference(|shift| run(&mut shared, start + i, shift));
                let gradient = gradients[start + i];
                if !within((gradient - difference).abs(), GRADIENT_TOLERANCE) {
                    let name = &param.name;
                    return Err(format!("{name}[{i}]: gradient {gradient:e}, central difference {difference:e}"));
                }
            }
        }
        Ok(())
    }
}

/// The losses are around 1, so their roundings make up to 1e-12 of the difference, see `harness::gradient::TOLERANCE`; their
/// fifth derivatives are taken through all layers, each of which may multiply them by its own, hence ten times that.
const GRADIENT_TOLERANCE: f64 = 1e-10;

/// A generation plan with all that it reads.
pub struct GenerationCase {
    plan: Plan,
    io: GenerationIo,
    given: Vec<(View, Vec<f32>)>,
    uniforms: Uniforms,
    pieces: usize,
    steps: usize,
    notes: usize,
    /// What is special about the network.
    what: &'static str,
    oracle: OnceLock<Vec<f64>>,
}

/// How far probabilities may be apart. They come through some dozen steps of f32 arithmetic whose errors do not grow; this
/// is some hundred roundoffs, and too little for a listener or a statistic to notice.
const GAP: f64 = 1e-5;

/// A random draw with another result than in the reference. From there on the pieces are different music.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OtherDraw {
    /// Which piece.
    pub piece: usize,
    /// Which time step.
    pub step: usize,
    /// Which note, from the lowest.
    pub note: usize,
    /// How far apart the probabilities were.
    pub gap: f64,
}

impl fmt::Display for OtherDraw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { piece, step, note, gap } = self;
        write!(
            f,
            "piece {piece}, step {step}, note {note}: a random draw has another result, at probabilities {gap:.1e} apart"
        )
    }
}

impl GenerationCase {
    /// Those of the tests: small networks, 3 pieces of 64 steps, after steps that sound.
    pub fn all() -> [Self; 3] {
        let binned = Config { octave: Octave::Direct, dynamics: Dynamics::Categorical, ..small() };
        [
            Self::after_sounds(deepj(small()).as_ref(), ""),
            Self::after_sounds(deepj(binned).as_ref(), " direct categorical"),
            Self::after_sounds(biaxial().as_ref(), " biaxial"),
        ]
    }

    fn after_sounds(model: &dyn Model, what: &'static str) -> Self {
        let pieces = 3;
        let (plan, io) = model.generation(pieces, 64).expect("the configuration is valid").compile();
        let (view, values) = params(&plan);
        let rolls = model.roll();
        let mut given = vec![(view, values), (io.notes, roll(60, pieces * rolls.notes, rolls.channels.len()))];
        given.extend(io.style.map(|view| (view, styles(pieces, rolls.styles))));
        Self { what, ..Self::with(model, (plan, io), (pieces, 64), given) }
    }

    /// `pieces` pieces of `steps` steps from silence, piece number b in style b, by the model with these parameters.
    ///
    /// # Errors
    /// A configuration that cannot be built.
    pub fn new(model: &dyn Model, params: Vec<f32>, pieces: usize, steps: usize) -> crate::Result<Self> {
        let (plan, io) = model.generation(pieces, steps)?.compile();
        let known = model.roll().styles;
        let style = (0..pieces * known).map(|i| f32::from(i % known == i / known % known)).collect();
        let mut given = vec![(plan.buffer(Kind::Params), params)];
        given.extend(io.style.map(|view| (view, style)));
        Ok(Self::with(model, (plan, io), (pieces, steps), given))
    }

    fn with(
        model: &dyn Model,
        (plan, io): (Plan, GenerationIo),
        (pieces, steps): (usize, usize),
        mut given: Vec<(View, Vec<f32>)>,
    ) -> Self {
        given.push((io.clock, [vec![-1.0; pieces], vec![0.0; pieces]].concat()));
        let uniforms = Uniforms { seed: 5, temperature: 1.0, silence: 0.1, ..Uniforms::default() };
        Self { plan, io, given, uniforms, pieces, steps, notes: model.roll().notes, what: "", oracle: OnceLock::new() }
    }

    /// Sizes.
    pub fn name(&self) -> String {
        format!("generate {} steps of {} pieces{}", self.steps, self.pieces, self.what)
    }

    /// Composes on the CPU in `R`.
    fn run_on_cpu<R: Real>(&self) -> Vec<f64> {
        let mut shared = cpu::shared::<R>(&self.plan);
        let mut program = CpuProgram::<R>::new(self.plan.clone());
        for (view, values) in &self.given {
            let target = program.get_mut(&mut shared, *view);
            target.iter_mut().zip(values).for_each(|(to, &from)| *to = R::of(f64::from(from)));
        }
        (0..self.steps).for_each(|_| program.run(&mut shared, &self.uniforms));
        program.get(&shared, self.io.roll).iter().map(|x| x.to_f64()).collect()
    }

    async fn on_device(&self, gpu: Gpu, selection: KernelSelection) -> Result<Vec<f64>, String> {
        let outcome: crate::Result<Vec<Vec<f32>>> = async {
            let mut session = Session::new(Device::Gpu(gpu), selection);
            let id = session.add(self.plan.clone()).await?;
            for (view, values) in &self.given {
                session.write(id, *view, values)?;
            }
            session.run(id, self.steps as u32, &self.uniforms)?;
            session.read(id, &[self.io.roll]).await
        }
        .await;
        Ok(outcome.map_err(|error| error.to_string())?.iter().flatten().map(|&x| f64::from(x)).collect())
    }

    /// The CPU backend in f32 against f64, as in [`GenerationCase::check`].
    ///
    /// # Errors
    /// Other music.
    pub fn check_cpu(&self) -> Result<(Margin, Vec<OtherDraw>), String> {
        self.compare(&self.run_on_cpu::<f32>())
    }

    /// The ways in which it runs on an adapter. The sweep over the notes is not cut for bindings: a thousand pieces fit the
    /// smallest limit that there is.
    pub fn ways(&self, adapter: &Adapter) -> Vec<Way> {
        let most = if adapter.is_portable() { 1 } else { usize::MAX };
        let ways = ways(&self.plan, &adapter.capabilities).into_iter().filter(|way| way.name != SMALL_BINDINGS);
        ways.take(most).collect()
    }

    /// Composes on an adapter; each piece must be that of the f64 reference, up to a random draw with another result because
    /// its probability was all but the drawn number. These are returned.
    ///
    /// # Errors
    /// A device that fails, or other music.
    pub async fn check(&self, adapter: &Adapter, way: &Way) -> Result<(Margin, Vec<OtherDraw>), String> {
        self.compare(&self.on_device(way.device(adapter).await?, way.selection.clone()).await?)
    }

    fn compare(&self, roll: &[f64]) -> Result<(Margin, Vec<OtherDraw>), String> {
        let wanted = self.oracle.get_or_init(|| self.run_on_cpu::<f64>());
        let (mut margin, mut other_draws) = (Margin::none(), vec![]);
        for piece in 0..self.pieces {
            let cells = (0..self.steps).flat_map(|t| (0..self.notes).map(move |n| (t, n)));
            for (step, note) in cells {
                let reported = self.io.reported;
                let start = ((step * self.pieces + piece) * self.notes + note) * reported;
                let (cell, wanted) = (&roll[start..start + reported], &wanted[start..start + reported]);
                let place = format!("piece {piece}, step {step}, note {note}");
                let other = |why: &str| Err(format!("{place}: {cell:?}, must be {wanted:?}{why}"));
                let apart = |i: usize| (cell[i] - wanted[i]).abs();
                // A random draw with another result changes the dynamics with it.
                let flipped = (0..2).find(|&i| cell[i] != wanted[i]);
                let probabilities = reported - 2;
                let compared = if flipped.is_some() { probabilities..reported } else { 2..reported };
                if !compared.clone().all(|i| within(apart(i), GAP)) {
                    return other("");
                }
                let gap = compared.map(apart).fold(0.0, f64::max);
                if let Some(draw) = flipped {
                    let number =
                        pcg4d([note as u32, piece as u32, step as u32, self.uniforms.seed]).map(uniform01)[draw];
                    let edge = (f64::from(number) - wanted[probabilities + draw]).abs();
                    if !within(edge, GAP) {
                        return other(&format!("; the drawn number, {number}, is not at the probability"));
                    }
                }
                if gap / GAP > margin.share {
                    let worst = format!("{place}: {gap:.1e} apart, {GAP:.0e} is allowed");
                    margin = Margin { share: gap / GAP, worst };
                }
                if flipped.is_some() {
                    other_draws.push(OtherDraw { piece, step, note, gap });
                    break;
                }
            }
        }
        Ok((margin, other_draws))
    }
}

/// A way in which a plan runs on an adapter.
pub struct Way {
    /// What is special about it.
    pub name: &'static str,
    selection: KernelSelection,
    /// Which of the device's limits are smaller than it says, so that most ops take several dispatches.
    limit: Option<fn(&mut Capabilities)>,
}

impl Way {
    async fn device(&self, adapter: &Adapter) -> Result<Gpu, String> {
        let mut gpu = adapter.gpu(Checks::Trusted).await?;
        if let Some(limit) = self.limit {
            limit(Arc::make_mut(&mut gpu.capabilities));
        }
        Ok(gpu)
    }
}

/// The way with bindings of 16 KiB at most.
const SMALL_BINDINGS: &str = "16 KiB bindings";

/// The ways in which a small plan runs: with every op's first variant, with those cut for bindings and for a watchdog, and with
/// the last variants, where an op has several.
fn ways(plan: &Plan, capabilities: &Capabilities) -> Vec<Way> {
    let way = |name, selection, limit| Way { name, selection, limit };
    let bindings: fn(&mut Capabilities) = |capabilities| capabilities.max_storage_buffer_binding_size = 1 << 14;
    // Most ops take several dispatches, and a run several submissions.
    let budget: fn(&mut Capabilities) =
        |capabilities| capabilities.budget = Some(WatchdogBudget { flops: 1 << 17, bytes: 1 << 15, groups: 1 });
    let mut ways = vec![
        way("first variants", KernelSelection::default(), None),
        way(SMALL_BINDINGS, KernelSelection::default(), Some(bindings)),
        way("small budget", KernelSelection::default(), Some(budget)),
    ];
    // Layers run beside each other only where that fits.
    ways.retain(|way| {
        let mut lesser = capabilities.clone();
        way.limit.into_iter().for_each(|limit| limit(&mut lesser));
        plan.nodes.iter().all(|node| !node.op.supported(&lesser).is_empty())
    });
    let mut last = vec![];
    for node in &plan.nodes {
        if let [_, .., variant] = node.op.variants(capabilities)[..] {
            last.push((node.op.kernel().to_string(), variant.to_string()));
        }
    }
    if !last.is_empty() {
        ways.push(way("last variants", KernelSelection::overriding(last), None));
    }
    ways
}

/// The plans of the paper's sizes, training and generation.
pub fn paper_plans() -> [Plan; 4] {
    let model = paper();
    let [apart, pairs] = [PlanOptions::default(), pairs(Precision::F32)]
        .map(|options| model.training(options, 8, 128).expect("the configuration is valid").compile().0);
    let generation = model.generation(16, 32).expect("the configuration is valid");
    [apart, pairs, optimizer::plan(&clipping(), None, model.layout()).0, generation.compile().0]
}
