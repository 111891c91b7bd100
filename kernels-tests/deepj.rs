//! The whole model: one training step with dropout and update, and generation, on every adapter against the f64 mirror;
//! the mirror's gradients against central differences; the portable kernels of the paper's sizes against WebGPU's limits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use deepj::gpu::{Capabilities, Checks, Device, Format, Gpu};
use deepj::graph::session::Variants;
use deepj::graph::{Init, Kind, Mirror, Plan, Session, mirror};
use deepj::models::deepj::{
    self as models, Built, Config, GenerateIo, Io, Join, Mode, Precision, Preset, StyleUse, build, build_generate,
};
use deepj::nn::{init, nadam};
use deepj::ops::random::{pcg4d, uniform01};
use deepj::ops::{Real, Step, View};
use libtest_mimic::{Failed, Trial};
use pollster::block_on;

use crate::harness::adapters::Adapter;
use crate::harness::bounded::{HALF_ROUNDOFF, ROUNDOFF, within};
use crate::harness::gradient::central_difference;
use crate::harness::kernel::Margin;
use crate::harness::{declaration, report::Report};

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

/// The paper's wiring, and every other that the configuration knows.
fn wirings() -> [(&'static str, Config); 6] {
    [
        ("style summed per layer", small()),
        ("style concatenated per layer", Config { join: Join::Concat, ..small() }),
        ("style as input", Config { style: StyleUse::Input, ..small() }),
        ("no style", Config { style: StyleUse::None, ..small() }),
        ("unmasked losses", Config { masked_losses: false, ..small() }),
        ("no dropout", Config { dropout: 0.0, input_dropout: 0.0, ..small() }),
    ]
}

/// The plans of all verbs, in every wiring and every way to train.
pub fn plans() -> Vec<Plan> {
    let ways = [Precision::F32, Precision::Mixed].into_iter().flat_map(|precision| {
        [false, true].map(|recompute| Mode::Train(models::Training { precision, recompute, ..with_clip() }))
    });
    let modes: Vec<Mode> = ways.chain([Mode::Evaluate]).collect();
    let of_wiring = |(name, config): (&str, Config)| {
        let steps = modes.iter().map(|&mode| build(&config, mode, 2, 5).map(|built| built.plan));
        let generation = [1, 3].map(|pieces| build_generate(&config, pieces, 4).map(|built| built.plan));
        let plans: Result<Vec<Plan>, _> = steps.chain(generation).collect();
        plans.unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    wirings().into_iter().flat_map(of_wiring).collect()
}

fn paper() -> Config {
    Config::preset(Preset::Paper, 4)
}

/// Uniform numbers in `[0, 1)`, a stream for each number.
fn uniform(stream: u32, len: usize) -> impl Iterator<Item = f32> {
    (0..len).map(move |i| uniform01(pcg4d([i as u32, stream, 0xdee9, 7])[0]))
}

/// Triples of play, replay and dynamics.
fn roll(stream: u32, cells: usize) -> Vec<f32> {
    let triples = uniform(stream, cells).zip(uniform(stream + 1, cells));
    triples.flat_map(|(a, b)| if a < 0.3 { [1.0, f32::from(b < 0.4), b] } else { [0.0; 3] }).collect()
}

/// Points in the simplex of styles.
fn styles(lanes: usize, styles: usize) -> Vec<f32> {
    let weights: Vec<f32> = uniform(40, lanes * styles).collect();
    weights.chunks(styles).flat_map(|w| w.iter().map(|x| x / w.iter().sum::<f32>()).collect::<Vec<_>>()).collect()
}

/// All parameters, as they are initialised but with biases that are not zero, and their arena.
fn params(plan: &Plan) -> (View, Vec<f32>) {
    let mut values = init::initialise(&plan.params, plan.params_len, 3);
    for (i, param) in plan.params.iter().enumerate().filter(|(_, param)| param.init == Init::Zero) {
        let range = param.view.start..param.view.start + param.view.len;
        values[range].iter_mut().zip(uniform(100 + i as u32, param.view.len)).for_each(|(x, r)| *x = 0.4 * r - 0.2);
    }
    (arena(plan, Kind::Params), values)
}

fn arena(plan: &Plan, kind: Kind) -> View {
    let tensor = plan.tensors.iter().position(|tensor| tensor.kind == kind).expect("a training plan has all arenas");
    View { tensor: deepj::ops::TensorId(tensor as u32), start: 0, len: plan.params_len, format: Format::F32 }
}

/// The update is compared too, gradients are clipped.
fn with_clip() -> models::Training {
    let optimizer = nadam::Settings { clip_norm: 0.5, ..nadam::Settings::default() };
    models::Training { optimizer, ..models::Training::default() }
}

/// A training plan with all that it reads.
struct Training {
    built: Built<Io>,
    config: Config,
    step: Step,
    given: Vec<(View, Vec<f32>)>,
    steps: usize,
    batch: usize,
    how: models::Training,
}

/// The loss scale of mixed precision.
const SCALE: f32 = 4096.0;

impl Training {
    fn new(config: Config, batch: usize, steps: usize, how: models::Training) -> Self {
        let built = build(&config, Mode::Train(how), batch, steps).expect("the configuration is valid");
        let scale = if how.precision == Precision::Mixed { SCALE } else { 1.0 };
        let mut step = Step { seed: 77, step: 12, unscale: 1.0 / scale, ..Step::default() };
        nadam::Schedule::default().advance(&with_clip().optimizer, &mut step);
        let (io, n) = (&built.io, config.notes);
        // The last step of the last lane is padding.
        let weight = |i| if i == batch * steps - 1 && i > 0 { 0.0 } else { 1.0 / (batch * steps * n) as f32 };
        let mut given = vec![
            params(&built.plan),
            (io.roll, roll(1, (steps + 1) * batch * n)),
            (io.start, (0..batch).map(|b| (b * 7) as f32 - 1.0).collect()),
            (io.weight, (0..batch * steps).map(weight).collect()),
            (io.style, styles(batch, config.styles)),
            (io.keep, (0..batch).map(|b| f32::from(b % 2 == 0)).collect()),
            (io.loss_weights.expect("a training plan"), vec![scale, 0.7 * scale, 1.3 * scale]),
        ];
        for (i, &state) in io.states.iter().enumerate() {
            given.push((state, uniform(20 + i as u32, state.len).map(|r| r - 0.5).collect()));
        }
        Self { built, config, step, given, steps, batch, how }
    }

    fn name(&self) -> String {
        let Config { notes, time_units, note_units, .. } = self.config;
        let (batch, steps) = (self.batch, self.steps);
        let precision = if self.how.precision == Precision::Mixed { " mixed" } else { "" };
        let recompute = if self.how.recompute { " recompute" } else { "" };
        format!("step B={batch} T={steps} N={notes} units {time_units} {note_units}{precision}{recompute}")
    }

    /// What is compared after a step: names, views, tolerances.
    fn results(&self) -> Vec<(String, View)> {
        let (plan, io) = (&self.built.plan, &self.built.io);
        let grads = arena(plan, Kind::Grads);
        let mut results = vec![
            ("losses".to_string(), io.losses),
            ("squared norm".to_string(), io.squared_norm.expect("a training plan")),
            ("updated parameters".to_string(), arena(plan, Kind::Params)),
        ];
        results.extend(io.states.iter().enumerate().map(|(i, &state)| (format!("state {i}"), state)));
        let gradient = |param: &deepj::graph::Param| View { tensor: grads.tensor, ..param.view };
        results.extend(plan.params.iter().map(|param| (format!("gradient of {}", param.name), gradient(param))));
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
        let Config { notes, taps, time_units, note_units, .. } = self.config;
        let layers = 2 * (time_units * self.steps + note_units * notes) + 3 * taps + time_units + 2 * note_units;
        // The way back has sums over the four gates.
        let k = layers + 4 * layers + self.batch * self.steps * notes;
        // In mixed precision values are rounded to 11 bits wherever they are stored: at each step of an LSTM, and a few
        // times a layer, there and back.
        let stored = match self.how.precision {
            Precision::F32 => 0,
            Precision::Mixed => 2 * (2 * self.steps + 2 * notes + 16),
        };
        LAMBDA * ((k as f64).sqrt() * ROUNDOFF + (stored as f64).sqrt() * HALF_ROUNDOFF)
    }

    /// One step on the CPU in `R`.
    fn mirror<R: Real>(&self) -> Vec<Vec<f64>> {
        let mut arenas = mirror::arenas::<R>(&self.built.plan);
        let mut mirror = Mirror::<R>::new(self.built.plan.clone());
        for (view, values) in &self.given {
            let target = mirror.get_mut(&mut arenas, *view);
            target.iter_mut().zip(values).for_each(|(to, &from)| *to = R::of(f64::from(from)));
        }
        mirror.run(&mut arenas, &self.step);
        let get = |(_, view): &(String, View)| mirror.get(&arenas, *view).iter().map(|x| x.to_f64()).collect();
        self.results().iter().map(get).collect()
    }

    /// One step on a device; where the model is small twice from the same state, which must give the same bits.
    fn on_device(&self, gpu: Gpu, variants: Variants) -> Result<Vec<Vec<f64>>, String> {
        let outcome: deepj::Result<Vec<Vec<Vec<f32>>>> = block_on(async {
            let mut session = Session::new(Device::Gpu(gpu), variants);
            let id = session.add(self.built.plan.clone()).await?;
            let views: Vec<View> = self.results().iter().map(|(_, view)| *view).collect();
            let mut runs = vec![];
            for _ in 0..if self.config == paper() { 1 } else { 2 } {
                for (view, values) in &self.given {
                    session.write(id, *view, values)?;
                }
                for moments in [Kind::Moment1, Kind::Moment2] {
                    let view = arena(&self.built.plan, moments);
                    session.write(id, view, &vec![0.0; view.len])?;
                }
                session.run(id, 1, &self.step)?;
                runs.push(session.read(id, &views).await?);
            }
            Ok(runs)
        });
        let runs = outcome.map_err(|error| error.to_string())?;
        let (results, again) = (&runs[0], &runs[runs.len() - 1]);
        for (((name, _), result), again) in self.results().iter().zip(results).zip(again) {
            if let Some(i) = result.iter().zip(again).position(|(a, b)| a.to_bits() != b.to_bits()) {
                return Err(format!("two runs differ: {name}[{i}] is {:e}, then {:e}", result[i], again[i]));
            }
        }
        Ok(results.iter().map(|result| result.iter().map(|&x| f64::from(x)).collect()).collect())
    }

    /// Compares the norm of the difference with the norm, result by result.
    fn compare(&self, results: &[Vec<f64>], wanted: &[Vec<f64>]) -> Result<Margin, String> {
        let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
        let tolerance = self.tolerance();
        let mut margin = Margin { share: 0.0, worst: String::new() };
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
    fn check_gradients(&self) -> Result<(), String> {
        let mut step = self.step;
        step.lr = 0.0;
        let mut arenas = mirror::arenas::<f64>(&self.built.plan);
        let mut mirror = Mirror::<f64>::new(self.built.plan.clone());
        let weights = [1.0, 0.7, 1.3f32].map(f64::from);
        // Runs a step from the given state, with one parameter shifted; returns the weighted loss.
        let mut run = |arenas: &mut mirror::Arenas<f64>, place: usize, shift: f64| {
            for (view, values) in &self.given {
                let target = mirror.get_mut(arenas, *view);
                target.iter_mut().zip(values).for_each(|(to, &from)| *to = f64::from(from));
            }
            arenas[0][place] += shift;
            mirror.run(arenas, &step);
            mirror.get(arenas, self.built.io.losses).iter().zip(weights).map(|(loss, weight)| loss * weight).sum()
        };
        let _: f64 = run(&mut arenas, 0, 0.0);
        let gradients = arenas[1].clone();
        for param in &self.built.plan.params {
            let View { start, len, .. } = param.view;
            // Prime steps through the parameter, so that rows, columns and gates are all met.
            for i in (0..3).map(|i| (i * 7919 + 101) % len) {
                let difference = central_difference(|shift| run(&mut arenas, start + i, shift));
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
struct Generation {
    built: Built<GenerateIo>,
    given: Vec<(View, Vec<f32>)>,
    step: Step,
    pieces: usize,
    notes: usize,
}

/// Time steps composed.
const COMPOSED: usize = 32;
/// How far probabilities may be apart. They come through `COMPOSED` steps of f32 arithmetic whose errors do not grow; this
/// is some hundred roundoffs, and too little for a listener or a statistic to notice.
const GAP: f64 = 1e-5;

impl Generation {
    fn new() -> Self {
        let (config, pieces) = (small(), 3);
        let built = build_generate(&config, pieces, COMPOSED).expect("the configuration is valid");
        let clock = [vec![-1.0; pieces], vec![0.0; pieces]].concat();
        let given = vec![
            params(&built.plan),
            (built.io.style, styles(pieces, config.styles)),
            (built.io.clock, clock),
            (built.io.notes, roll(60, pieces * config.notes)),
        ];
        let step = Step { seed: 5, temperature: 1.0, silence: 0.1, ..Step::default() };
        Self { built, given, step, pieces, notes: config.notes }
    }

    fn mirror<R: Real>(&self) -> Vec<f64> {
        let mut arenas = mirror::arenas::<R>(&self.built.plan);
        let mut mirror = Mirror::<R>::new(self.built.plan.clone());
        for (view, values) in &self.given {
            let target = mirror.get_mut(&mut arenas, *view);
            target.iter_mut().zip(values).for_each(|(to, &from)| *to = R::of(f64::from(from)));
        }
        (0..COMPOSED).for_each(|_| mirror.run(&mut arenas, &self.step));
        mirror.get(&arenas, self.built.io.roll).iter().map(|x| x.to_f64()).collect()
    }

    fn on_device(&self, gpu: Gpu, variants: Variants) -> Result<Vec<f64>, String> {
        let outcome: deepj::Result<Vec<Vec<f32>>> = block_on(async {
            let mut session = Session::new(Device::Gpu(gpu), variants);
            let id = session.add(self.built.plan.clone()).await?;
            for (view, values) in &self.given {
                session.write(id, *view, values)?;
            }
            session.run(id, COMPOSED as u32, &self.step)?;
            session.read(id, &[self.built.io.roll]).await
        });
        Ok(outcome.map_err(|error| error.to_string())?.iter().flatten().map(|&x| f64::from(x)).collect())
    }

    /// Each piece must be the same, up to a coin that fell on the other side because its probability was all but the
    /// coin's number; from there on the pieces are different music.
    fn compare(&self, roll: &[f64], wanted: &[f64]) -> Result<Margin, String> {
        let mut margin = Margin { share: 0.0, worst: String::new() };
        for piece in 0..self.pieces {
            let cells = (0..COMPOSED).flat_map(|t| (0..self.notes).map(move |n| (t, n)));
            for (t, n) in cells {
                let start = ((t * self.pieces + piece) * self.notes + n) * 5;
                let (cell, wanted) = (&roll[start..start + 5], &wanted[start..start + 5]);
                let gap = cell[2..].iter().zip(&wanted[2..]).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                let place = format!("piece {piece}, step {t}, note {n}");
                // A coin that fell otherwise changes the dynamics with it.
                let flipped = cell[..2] != wanted[..2];
                let gap = if flipped { (cell[3] - wanted[3]).abs().max((cell[4] - wanted[4]).abs()) } else { gap };
                if !within(gap, GAP) {
                    return Err(format!("{place}: {cell:?}, must be {wanted:?}"));
                }
                if gap / GAP > margin.share {
                    margin = Margin { share: gap / GAP, worst: format!("{place}: {gap:.1e} apart") };
                }
                if flipped {
                    println!("{place}: a coin fell on the other side, at probabilities {gap:.1e} apart");
                    break;
                }
            }
        }
        Ok(margin)
    }
}

/// For each op the last of its variants on this adapter; `None` where every op has just one.
fn last_variants(plan: &Plan, capabilities: &Capabilities) -> Option<Variants> {
    let mut variants = vec![];
    for node in &plan.nodes {
        if let [_, .., last] = node.op.variants(capabilities)[..] {
            variants.push((node.op.kernel().to_string(), last.to_string()));
        }
    }
    (!variants.is_empty()).then(|| Variants::pinned(variants))
}

/// The ways in which a small plan runs on an adapter: with every op's first variant, with the last ones, and cut into
/// bindings so small that most ops take several dispatches.
fn ways(plan: &Plan, adapter: &Adapter) -> Vec<(&'static str, Variants, bool)> {
    let last = last_variants(plan, &adapter.capabilities).map(|variants| ("last variants", variants, false));
    let mut ways = vec![("first variants", Variants::default(), false), ("16 KiB bindings", Variants::default(), true)];
    ways.extend(last);
    ways
}

/// The adapter's device, which takes bindings of at most 16 KiB where `cut`.
fn device(adapter: &Adapter, cut: bool) -> Result<Gpu, String> {
    let mut gpu = adapter.gpu(Checks::Trusted)?.clone();
    if cut {
        let capabilities = (*gpu.capabilities).clone();
        gpu.capabilities = Arc::new(Capabilities { max_storage_buffer_binding_size: 1 << 14, ..capabilities });
    }
    Ok(gpu)
}

/// Checks the first variant of every node against WebGPU's default limits and its shader.
fn check_portable(plan: &Plan) -> Result<(), String> {
    let portable = Capabilities::portable();
    plan.check_fits(&portable).map_err(|error| error.to_string())?;
    for node in &plan.nodes {
        let variants = node.op.variants(&portable);
        let first = variants.first().ok_or_else(|| format!("{}: no kernel", node.label()))?;
        declaration::check(node.op.as_ref(), first, &portable, &node.operands)
            .map_err(|error| format!("{}: {error}", node.label()))?;
    }
    Ok(())
}

/// The tests of the whole model. `ran` is told what ran on an adapter, and how long.
pub fn trials(
    adapters: &[Arc<Adapter>],
    report: &Arc<Report>,
    ran: impl Fn(String, Duration) + Clone + Send + Sync + 'static,
) -> Vec<Trial> {
    let mut trials = vec![];
    let how = |precision, recompute| models::Training { precision, recompute, ..with_clip() };
    for (config, batch, steps, how) in [
        (small(), 2, 5, with_clip()),
        (small(), 1, 1, with_clip()),
        (paper(), 1, 4, with_clip()),
        (small(), 2, 5, how(Precision::F32, true)),
        (small(), 2, 5, how(Precision::Mixed, false)),
        (small(), 2, 5, how(Precision::Mixed, true)),
    ] {
        let training = Arc::new(Training::new(config, batch, steps, how));
        let name = training.name();
        let oracle = Arc::new(std::sync::OnceLock::new());
        let check = {
            let (report, name, oracle) = (report.clone(), name.clone(), oracle.clone());
            move |training: &Training, way: &str, column: &str, results: Vec<Vec<f64>>| {
                let wanted = oracle.get_or_init(|| training.mirror::<f64>());
                let margin = training.compare(&results, wanted)?;
                report.enter(&format!("deepj step / {way}"), column, &format!("deepj/{name}/{way}/{column}"), &margin);
                Ok::<(), String>(())
            }
        };
        let (this, check_) = (training.clone(), check.clone());
        trials.push(Trial::test(format!("deepj/{name}/mirror f32/cpu"), move || {
            check_(&this, "mirror f32", "cpu", this.mirror::<f32>()).map_err(Failed::from)
        }));
        let half = training.how.precision == Precision::Mixed;
        for adapter in adapters.iter().filter(|adapter| !half || adapter.capabilities.shader_f16) {
            let ways = ways(&training.built.plan, adapter);
            // Software adapters take long over the paper's sizes.
            let ways = ways.into_iter().take(if training.config == paper() { 1 } else { 3 });
            for (way, variants, cut) in ways {
                let (this, check, adapter, ran) = (training.clone(), check.clone(), adapter.clone(), ran.clone());
                let path = format!("deepj/{name}/{way}/{}", adapter.name);
                trials.push(Trial::test(path.clone(), move || {
                    let _turn = adapter.turn();
                    let start = Instant::now();
                    let results = device(&adapter, cut).and_then(|gpu| this.on_device(gpu, variants));
                    ran(path, start.elapsed());
                    check(&this, way, &adapter.name, results?).map_err(Failed::from)
                }));
            }
        }
    }
    for (name, config) in wirings() {
        let training = Training::new(config, 2, 5, with_clip());
        let name = format!("deepj/{} {name}/central differences/cpu", training.name());
        trials.push(Trial::test(name, move || training.check_gradients().map_err(Failed::from)));
    }

    let generation = Arc::new(Generation::new());
    let name = "generate 32 steps of 3 pieces";
    let check = {
        let report = report.clone();
        move |generation: &Generation, way: &str, column: &str, roll: Vec<f64>| {
            let margin = generation.compare(&roll, &generation.mirror::<f64>())?;
            report.enter(&format!("deepj generate / {way}"), column, &format!("deepj/{name}/{way}/{column}"), &margin);
            Ok::<(), String>(())
        }
    };
    let (this, check_) = (generation.clone(), check.clone());
    trials.push(Trial::test(format!("deepj/{name}/mirror f32/cpu"), move || {
        check_(&this, "mirror f32", "cpu", this.mirror::<f32>()).map_err(Failed::from)
    }));
    for adapter in adapters {
        // The sweep over the notes is not cut: a thousand pieces fit the smallest limit that there is.
        let ways = ways(&generation.built.plan, adapter).into_iter().filter(|(_, _, cut)| !cut);
        for (way, variants, cut) in ways {
            let (this, check, adapter, ran) = (generation.clone(), check.clone(), adapter.clone(), ran.clone());
            let path = format!("deepj/{name}/{way}/{}", adapter.name);
            trials.push(Trial::test(path.clone(), move || {
                let _turn = adapter.turn();
                let start = Instant::now();
                let roll = device(&adapter, cut).and_then(|gpu| this.on_device(gpu, variants));
                ran(path, start.elapsed());
                check(&this, way, &adapter.name, roll?).map_err(Failed::from)
            }));
        }
    }

    let train = build(&paper(), Mode::Train(with_clip()), 8, 128).expect("the configuration is valid").plan;
    let generate = build_generate(&paper(), 16, 32).expect("the configuration is valid").plan;
    for plan in [train, generate] {
        let name = format!("deepj/paper {}/first variants/declaration", plan.name);
        trials.push(Trial::test(name, move || check_portable(&plan).map_err(Failed::from)));
    }
    trials
}
