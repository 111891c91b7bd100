//! Times one training step, or generation, of DeepJ in the paper's sizes and prints one JSON line:
//! `cargo bench --bench step -- [--batch 4] [--seq 128] [--runs 5] [--generate] [--precision f32]
//! [--recompute] [--device cpu] [--tune on] [--variant KERNEL=NAME]`.
//!
//! The median of the runs follows one warm-up run. Data are random with the density of real rolls: the work hardly
//! depends on them. On a GPU `replay_cpu_ms` is the time in which the CPU submits a run of the plan and encodes the
//! next, which it does while the GPU works, and `replay_share` its part of the whole; `submit_share` is the part that the
//! GPU waits for. A driver that computes within the submission, such as Mesa's GL in software, makes them all of it.

use std::sync::Arc;
use std::time::Instant;

use deepj::error::{Error, Result};
use deepj::gpu::{self, DeviceChoice, Format, Options};
use deepj::graph::Session;
use deepj::graph::session::{Event, Variants};
use deepj::models::deepj::{Config, Mode, Preset, Training, build, build_generate};
use deepj::nn::loss_scale::LossScale;
use deepj::nn::{init, nadam};
use deepj::ops::random::{pcg4d, uniform01};
use deepj::ops::{Step, View};

struct Flags {
    batch: usize,
    seq: usize,
    runs: usize,
    generate: bool,
    training: Training,
    device: DeviceChoice,
    variants: Variants,
}

fn flags() -> Result<Flags> {
    let variants = Variants {
        tune: std::env::var("DEEPJ_TUNE").unwrap_or("on".into()).parse()?,
        remembered: Variants::file(),
        observer: Some(Arc::new(|event| match event {
            Event::Notice(text) => eprintln!("note: {text}"),
            Event::Finished(tuned) => eprintln!("{tuned}"),
            Event::Started { .. } | Event::Measuring { .. } => (),
        })),
        ..Variants::default()
    };
    let (training, device) = (Training::default(), DeviceChoice::Cpu);
    let mut flags = Flags { batch: 4, seq: 128, runs: 5, generate: false, training, device, variants };
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let mut value = || args.next().ok_or_else(|| Error::usage(format!("{flag} wants a value"), ""));
        let number = |text: String| text.parse().map_err(|_| Error::usage(format!("`{text}` is not a number"), ""));
        match flag.as_str() {
            "--batch" => flags.batch = number(value()?)?,
            "--seq" => flags.seq = number(value()?)?,
            "--runs" => flags.runs = number(value()?)?,
            "--device" => flags.device = value()?.parse()?,
            "--tune" => flags.variants.tune = value()?.parse()?,
            "--variant" => {
                let text = value()?;
                let Some((kernel, variant)) = text.split_once('=') else {
                    return Err(Error::usage(format!("`{text}` has no `=`"), "give --variant KERNEL=NAME"));
                };
                flags.variants.pins.push((kernel.into(), variant.into()));
            }
            "--generate" => flags.generate = true,
            "--precision" => flags.training.precision = value()?.parse()?,
            "--recompute" => flags.training.recompute = true,
            "--bench" => {} // cargo's own
            _ => return Err(Error::usage(format!("unknown flag {flag}"), "see the head of benches/step.rs")),
        }
    }
    Ok(flags)
}

/// `cells` triples of play, replay and dynamics at 8 % density.
fn notes(cells: usize) -> Vec<f32> {
    let cell = |i: usize| {
        let [play, replay, dynamics, _] = pcg4d([i as u32, 0, 0, 1]).map(uniform01);
        let play = f32::from(play < 0.08);
        [play, play * f32::from(replay < 0.3), play * dynamics]
    };
    (0..cells).flat_map(cell).collect()
}

async fn bench(flags: Flags) -> Result<()> {
    let config = Config::preset(Preset::Paper, 23);
    let device = gpu::open(&flags.device, Options::default()).await?;
    let mut session = Session::new(device, flags.variants.clone());
    let Flags { batch, seq, runs, .. } = flags;
    let scale = LossScale::default();
    let (id, outputs, flops, times);
    if flags.generate {
        let built = build_generate(&config, batch, seq)?;
        (outputs, flops, times) = (built.io.roll, built.plan.cost().flops * seq as u64, seq as u32);
        let (params, len, io) = (built.plan.params.clone(), built.plan.params_len, built.io);
        if let Some(capabilities) = session.capabilities() {
            flags.variants.check(&built.plan, capabilities)?;
        }
        id = session.add(built.plan).await?;
        write_params(&mut session, id, &params, len)?;
        session.write(id, io.style, &one_hot(batch, 23))?;
    } else {
        let built = build(&config, Mode::Train(flags.training), batch, seq)?;
        (outputs, flops, times) = (built.io.losses, built.plan.cost().flops, 1);
        let (params, len, io) = (built.plan.params.clone(), built.plan.params_len, built.io);
        if let Some(capabilities) = session.capabilities() {
            flags.variants.check(&built.plan, capabilities)?;
        }
        id = session.add(built.plan).await?;
        write_params(&mut session, id, &params, len)?;
        session.write(id, io.roll, &notes((seq + 1) * batch * config.notes))?;
        session.write(id, io.style, &one_hot(batch, 23))?;
        session.write(id, io.weight, &vec![1.0 / (batch * seq * config.notes) as f32; batch * seq])?;
        if let Some(weights) = io.loss_weights {
            session.write(id, weights, &[scale.factor(); 3])?;
        }
    }
    let plan_mib = session.plan(id).memory_bytes(session.capabilities().is_none()) as f64 / f64::from(1 << 20);
    let unscale = if flags.generate { 1.0 } else { 1.0 / scale.factor() };
    let mut step = Step { seed: 1, temperature: 1.0, unscale, ..Step::default() };
    let mut schedule = nadam::Schedule::default();
    let (mut seconds, mut submitting, mut replaying) = (vec![], vec![], vec![]);
    let mut last = vec![];
    for _ in 0..=runs {
        step.step += 1;
        schedule.advance(&nadam::Settings::default(), &mut step);
        let start = Instant::now();
        session.run(id, times, &step)?;
        submitting.push(start.elapsed().as_secs_f64());
        session.prepare(id, times)?;
        replaying.push(start.elapsed().as_secs_f64());
        last = session.read(id, &[outputs]).await?.remove(0);
        seconds.push(start.elapsed().as_secs_f64());
    }
    for times in [&mut seconds, &mut submitting, &mut replaying] {
        times.remove(0);
        times.sort_by(f64::total_cmp);
    }
    let [median, submit, replay] = [&seconds, &submitting, &replaying].map(|times| times[times.len() / 2]);
    // On the CPU a run is the work itself.
    let on_gpu = session.capabilities().is_some();
    let what = if flags.generate { "generate" } else { "train" };
    let result = serde_json::json!({
        "what": what, "device": session.capabilities().map_or("cpu".into(), |c| c.to_string()),
        "precision": flags.training.precision, "recompute": flags.training.recompute, "plan_mib": plan_mib,
        "batch": batch, "seq": seq, "runs": runs, "median_s": median, "min_s": seconds[0],
        "max_s": seconds[seconds.len() - 1], "gflops": flops as f64 / median / 1e9,
        "steps_per_s": times as f64 / median, "check": &last[..3], "peak_rss_mib": peak_rss_mib(),
        "replay_cpu_ms": on_gpu.then_some(replay / f64::from(times) * 1e3), "replay_share": on_gpu.then_some(replay / median),
        "submit_share": on_gpu.then_some(submit / median), "dispatches": session.dispatches(id),
    });
    println!("{result}");
    Ok(())
}

fn write_params(
    session: &mut Session,
    id: deepj::graph::ProgramId,
    params: &[deepj::graph::Param],
    len: usize,
) -> Result<()> {
    let tensor = params[0].view.tensor;
    session.write(id, View { tensor, start: 0, len, format: Format::F32 }, &init::initialise(params, len, 1))
}

fn one_hot(rows: usize, width: usize) -> Vec<f32> {
    (0..rows * width).map(|i| f32::from(i % width == i / width % width)).collect()
}

/// The process' peak memory, where the system tells (Linux).
fn peak_rss_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
}

fn main() {
    if let Err(error) = flags().and_then(|f| pollster::block_on(bench(f))) {
        eprintln!("error: {error}");
        std::process::exit(error.exit_code().into());
    }
}
