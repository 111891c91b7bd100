//! Training in mixed precision and with recomputation: the same learning in less memory.

use std::sync::atomic::AtomicBool;

use deepj::checkpoint::StopConditions;
use deepj::gpu::{self, Device, DeviceChoice};
use deepj::graph::session::KernelSelection;
use deepj::models::deepj::{Config, DeepJ, Preset};
use deepj::models::{PlanOptions, Precision};
use deepj::nn::loss_scale::LossScale;
use deepj::nn::optimizer::nadam::Nadam;
use deepj::profile::training_plan;
use deepj::train::{Observer, ResumeMode, TrainOptions, UpdateRecord, prepare, train};

use crate::{cpu, deepj, fails, folder, succeeds, tiny, tiny_arguments};

/// Losses and gradient norm of each update, its loss scale, and the scales after overflows.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    updates: Vec<[f64; 4]>,
    scales: Vec<Option<f32>>,
    overflows: Vec<f32>,
}

impl Observer for Seen {
    fn stepped(&mut self, r: &UpdateRecord) {
        self.updates.push([r.losses.values()[0], r.losses.values()[1], r.losses.values()[2], r.gradient_norm]);
        self.scales.push(r.loss_scale);
    }

    fn overflowed(&mut self, _: u64, scale: f32) {
        self.overflows.push(scale);
    }
}

fn watch(options: &TrainOptions, scale: Option<LossScale>, device: Device) -> Seen {
    let mut seen = Seen::default();
    let mut prepared = prepare(options, &cpu()).unwrap();
    if let Some(scale) = scale {
        prepared.state.progress.loss_scale = scale;
    }
    let never = AtomicBool::new(false);
    pollster::block_on(train(prepared, device, KernelSelection::default(), &mut seen, &never)).unwrap();
    seen
}

/// The largest relative difference of what two runs saw.
fn apart(a: &Seen, b: &Seen) -> f64 {
    assert_eq!(a.updates.len(), b.updates.len());
    let pairs = a.updates.iter().flatten().zip(b.updates.iter().flatten());
    pairs.map(|(a, b)| (a - b).abs() / a.abs().max(1e-6)).fold(0.0, f64::max)
}

fn mixed(options: TrainOptions) -> TrainOptions {
    TrainOptions { precision: Some(Precision::Mixed), ..options }
}

#[test]
fn mixed_precision_is_near_f32_and_not_the_same() {
    let dir = folder();
    let plain = watch(&tiny(dir.path(), 6), None, cpu());
    let force = |options: TrainOptions| TrainOptions { force: true, ..options };
    let rounded = watch(&force(mixed(tiny(dir.path(), 6))), None, cpu());
    let off = apart(&plain, &rounded);
    println!("mixed and f32 are up to {off:.1e} apart");
    // Some tens of roundings to 11 bits between input and losses, and six updates.
    assert!(off > 1e-6 && off < 2e-2, "{off:e}");
    assert_eq!((plain.scales[0], rounded.scales[0]), (None, Some(65_536.0)));
}

#[test]
fn mixed_precision_resumes_to_the_bit() {
    let dir = folder();
    let whole = watch(&mixed(tiny(dir.path(), 5)), None, cpu());
    let out = Some(dir.path().join("parts"));
    let mut parts = watch(&mixed(TrainOptions { out: out.clone(), ..tiny(dir.path(), 3) }), None, cpu());
    let budget = StopConditions { steps: Some(5), ..StopConditions::default() };
    let rest = watch(&TrainOptions { out, resume: ResumeMode::Always, budget, ..TrainOptions::default() }, None, cpu());
    parts.updates.extend(rest.updates);
    parts.scales.extend(rest.scales);
    assert_eq!(whole, parts);
}

#[test]
fn a_gradient_that_overflows_halves_the_scale_and_costs_no_update() {
    let dir = folder();
    // Few cells make large gradients of the mean, and the largest scale takes them beyond f16.
    let options = mixed(TrainOptions { batch: Some(1), seq: Some(2), ..tiny(dir.path(), 4) });
    let largest: LossScale = serde_json::from_str(r#"{"exponent": 24, "good": 0}"#).unwrap();
    let seen = watch(&options, Some(largest), cpu());
    assert!(!seen.overflows.is_empty(), "nothing overflowed");
    assert_eq!(seen.overflows[0], 8_388_608.0);
    assert_eq!(seen.updates.len(), 4);
    assert!(seen.updates.iter().flatten().all(|x| x.is_finite()));
    assert_eq!(seen.scales.last().unwrap(), &seen.overflows.last().copied());
}

#[test]
fn recomputing_changes_the_memory_and_hardly_a_bit() {
    let dir = folder();
    let kept = watch(&tiny(dir.path(), 4), None, cpu());
    let again = watch(&TrainOptions { force: true, recompute: true, ..tiny(dir.path(), 4) }, None, cpu());
    // Gates computed by one product over all steps round otherwise than step by step.
    let off = apart(&kept, &again);
    assert!(off < 1e-4, "{off:e}");

    let model = DeepJ::new(Config::preset(Preset::Paper, 23)).unwrap();
    let adapter = gpu::Capabilities::portable();
    let plan = |options| training_plan(&model, &Nadam::default(), options, (16, 128), None).unwrap().0;
    let mib = |precision, recompute| {
        plan(PlanOptions { precision, recompute, pairs: false }).memory_bytes(Some(&adapter)) as f64
            / f64::from(1 << 20)
    };
    let [f32, mixed] =
        [Precision::F32, Precision::Mixed].map(|precision| [mib(precision, false), mib(precision, true)]);
    println!("MiB, plain and recomputed, of f32 and mixed: {f32:.1?}, {mixed:.1?}");
    // As docs/TRAINING.md has it.
    for (found, page) in f32.into_iter().chain(mixed).zip([2113.0, 1088.8, 1230.2, 704.4]) {
        assert!((found - page).abs() < 0.5, "{found} MiB, the page has {page}");
    }
}

#[test]
fn adapters_train_in_mixed_precision_as_the_cpu_does_or_say_why_not() {
    let adapters = pollster::block_on(gpu::adapters());
    if adapters.is_empty() {
        println!("skipped: no adapter here");
    }
    for (index, adapter) in adapters.iter().enumerate() {
        let dir = folder();
        if !adapter.shader_f16 {
            tiny(dir.path(), 1);
            let index = index.to_string();
            let arguments = tiny_arguments(&["--precision", "mixed", "--device", &index]);
            fails(dir.path(), &arguments, 2, &["no 16-bit floats", "--precision f32"]);
            println!("{adapter}: has no f16, says so");
            continue;
        }
        let open = || pollster::block_on(gpu::open(&DeviceChoice::Index(index), gpu::OpenOptions::default())).unwrap();
        let options = mixed(tiny(dir.path(), 4));
        let expected = watch(&options, None, cpu());
        for recompute in [false, true] {
            let found = watch(&TrainOptions { force: true, recompute, ..options.clone() }, None, open());
            let off = apart(&expected, &found);
            println!("{adapter}, recompute {recompute}: {off:.1e} from the CPU backend");
            // A rounding to the other neighbour here and there, which is 1e-3 of one value among many.
            assert!(off < 5e-3, "{adapter}: {off:e}");
        }
    }
}

#[test]
fn precision_is_told_and_kept() {
    let dir = folder();
    tiny(dir.path(), 1);
    let explain = |more: &[&str]| succeeds(dir.path(), &tiny_arguments(&[more, &["--explain"]].concat()));
    assert!(explain(&["--precision", "mixed"]).contains("f16"));
    assert!(!explain(&[]).contains("f16"));
    assert!(explain(&["--recompute"]).contains("again"));
    fails(dir.path(), &tiny_arguments(&["--precision", "half"]), 2, &["half", "f32"]);
    let notes = deepj(dir.path(), &tiny_arguments(&["--precision", "mixed", "--steps", "1"]));
    assert!(String::from_utf8_lossy(&notes.stderr).contains("rounds as a GPU would"));
    fails(dir.path(), &["train", "--out", "run", "--resume", "--precision", "f32"], 2, &["--precision mixed"]);
}
