//! Profiles of training, generation and single ops on the CPU and on every adapter: what they say adds up, and is what the
//! plan says.

use std::sync::{Arc, Mutex, PoisonError};

use deepj::gpu::{self, Device, DeviceChoice};
use deepj::graph::session::KernelSelection;
use deepj::models::{self, Model, PlanOptions};
use deepj::nn::optimizer::nadam::Nadam;
use deepj::peaks::RooflineLimits;
use deepj::profile::{Clock, Kernel, Profile, STYLES, Settings, Track, What, profile, trace, training_plan};
use pollster::block_on;

/// The part of a run's wall time that may be unaccounted for.
const UNACCOUNTED: f64 = 0.05;

/// Roofline limits on which nothing but percentages depends.
fn peaks() -> RooflineLimits {
    RooflineLimits {
        f32_gflops: 100.0,
        f16_gflops: None,
        matrix_gflops: None,
        bandwidth_gbs: 10.0,
        workgroup_gbs: None,
        launch_us: 1.0,
        readback_us: 10.0,
        cache_gbs: None,
        measurement: None,
    }
}

/// One at a time, so that they do not take each other's cores.
fn alone(test: impl FnOnce()) {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    test();
}

fn devices() -> Vec<(String, Device)> {
    let mut devices = vec![("cpu".to_string(), Device::Cpu { why: String::new() })];
    let adapters = block_on(gpu::adapters());
    if adapters.is_empty() {
        println!("skipped: no adapter here");
    }
    for (i, adapter) in adapters.iter().enumerate() {
        let device = block_on(gpu::open(&DeviceChoice::Index(i), gpu::OpenOptions::default())).unwrap();
        devices.push((adapter.to_string(), device));
    }
    devices
}

/// Half of the small preset's units: kernels long enough for a clock, in a test's time.
fn settings(runs: usize) -> Settings {
    let set = [("time_units", "64"), ("note_units", "32"), ("filters", "16")];
    Settings {
        preset: Some("small".into()),
        set: set.map(|(field, value)| (field.to_string(), value.to_string())).to_vec(),
        batch: Some(2),
        seq: Some(16),
        runs,
        ..Settings::default()
    }
}

/// Of an op whose shape says all sizes.
fn runs(runs: usize) -> Settings {
    Settings { runs, ..Settings::default() }
}

fn model() -> Arc<dyn Model> {
    let architecture = models::architecture(models::DEFAULT).unwrap();
    models::configure(architecture, "small", models::CorpusFacts::of(architecture, STYLES), &settings(1).set).unwrap()
}

fn run(what: &What, settings: &Settings, device: Device, selection: KernelSelection) -> Profile {
    block_on(profile(what, settings, device, selection, peaks(), |_, _| ())).unwrap()
}

/// What holds of any profile.
fn adds_up(name: &str, profile: &Profile) {
    let Profile { header, kernels, gaps, summary, spans } = profile;
    let busy: f64 = kernels.iter().map(|kernel| kernel.total_ms).sum();
    let idle: f64 = gaps.iter().map(|gap| gap.total_ms).sum();
    let wall = summary.profiled_ms * header.steps_per_run as f64;
    println!(
        "{name}, {}: {:.3} ms unprofiled, {:.3} profiled, kernels {:.1} %, unaccounted {:+.2} %",
        header.what,
        summary.step_ms,
        summary.profiled_ms,
        100.0 * busy / wall,
        100.0 * summary.unaccounted
    );
    assert_eq!(gaps.last().unwrap().name, "unaccounted");
    assert!(summary.unaccounted.abs() < UNACCOUNTED, "{name}: {gaps:?}");
    assert!((busy + idle - wall).abs() < 1e-6 * wall, "{name}: {busy} + {idle} of {wall} ms");
    assert!(kernels.windows(2).all(|pair| pair[0].total_ms >= pair[1].total_ms) || header.what.starts_with("op "));
    for kernel in kernels {
        assert_eq!(kernel.samples_us.len(), header.runs);
        assert!(kernel.calls > 0 && kernel.min_us <= kernel.p50_us && kernel.p50_us <= kernel.p95_us);
        assert!(kernel.samples_us.iter().all(|us| us.is_finite() && *us >= 0.0));
        match header.clock {
            Clock::Cpu => assert_eq!((kernel.dispatches, kernel.variant.as_str()), (0, "mirror")),
            _ => {
                assert!(kernel.dispatches >= kernel.calls);
                assert!(kernel.workgroups.iter().chain(&kernel.workgroup_size).all(|&n| n > 0), "{kernel:?}");
                assert!(kernel.compile_ms.unwrap() > 0.0 && kernel.encode_us.unwrap() > 0.0, "{kernel:?}");
            }
        }
    }
    for track in [Track::Gpu, Track::Cpu] {
        let spans: Vec<_> = spans.iter().filter(|span| span.track == track).collect();
        assert!(spans.windows(2).all(|pair| pair[0].start_us <= pair[1].start_us), "{name}: {track:?}");
    }
    is_a_trace(profile);
}

/// What a viewer needs of a trace, of real spans; the rest is tested in `src/profile/trace.rs`.
fn is_a_trace(profile: &Profile) {
    let text: serde_json::Value = serde_json::from_str(&trace(profile)).unwrap();
    let events = text["traceEvents"].as_array().unwrap();
    let named: Vec<_> = events.iter().filter(|event| event["name"] == "thread_name").collect();
    let (mut complete, mut kernels) = (0, 0);
    let mut last = std::collections::HashMap::new();
    for event in events.iter().filter(|event| event["ph"] != "M") {
        assert_eq!(event["ph"], "X");
        let [start, duration] = ["ts", "dur"].map(|field| event[field].as_f64().unwrap());
        let track = event["tid"].as_u64().unwrap();
        assert!(named.iter().any(|name| name["tid"] == track && name["pid"] == event["pid"]), "{event}");
        assert!(start >= *last.get(&track).unwrap_or(&0.0) && duration >= 0.0, "{event}");
        last.insert(track, start);
        complete += 1;
        if event["args"]["variant"].is_string() {
            assert!(event["args"]["flops"].is_u64() && event["args"]["bytes"].is_u64(), "{event}");
            kernels += 1;
        }
    }
    assert_eq!(complete, profile.spans.len());
    assert_eq!(kernels, profile.spans.iter().filter(|span| span.kernel.is_some()).count());
}

#[test]
fn a_training_step_is_accounted_for() {
    alone(|| {
        let (plan, _) =
            training_plan(model().as_ref(), &Nadam::default(), PlanOptions::default(), (2, 16), None).unwrap();
        for (name, device) in devices() {
            let found = run(&What::Train, &settings(3), device, KernelSelection::default());
            adds_up(&name, &found);
            assert_eq!(found.summary.flops, plan.cost().flops);
            assert_eq!(found.summary.bytes, plan.cost().bytes);
            assert_eq!(found.kernels.iter().map(|kernel| kernel.calls).sum::<usize>(), plan.nodes.len());
        }
    });
}

#[test]
fn generation_is_accounted_for() {
    alone(|| {
        let plan = model().generation(2, 16).unwrap().compile().0;
        for (name, device) in devices() {
            let found = run(&What::Generate, &settings(3), device, KernelSelection::default());
            adds_up(&name, &found);
            assert_eq!(found.header.steps_per_run, 16);
            // What depends on the style alone runs once in a submission.
            let calls = found.kernels.iter().map(|kernel| kernel.calls).sum::<usize>();
            assert_eq!(calls, plan.invariant + 16 * (plan.nodes.len() - plan.invariant));
        }
    });
}

/// As a device without timestamps is profiled; none of the software adapters lacks them, so one is told that it does.
#[test]
fn without_timestamps_the_wall_clock_tells() {
    alone(|| {
        for (name, mut device) in devices() {
            let Device::Gpu(gpu) = &mut device else { continue };
            Arc::make_mut(&mut gpu.capabilities).timestamp_query = false;
            let found = run(&What::Generate, &settings(3), device, KernelSelection::default());
            assert_eq!(found.header.clock, Clock::Wall);
            adds_up(&name, &found);
            assert!(found.gaps.iter().any(|gap| gap.name == "submissions" && gap.total_ms > 0.0));
        }
    });
}

/// Ops that read nothing but what they write: in a plan they would run once, however often it is repeated.
#[test]
fn ops_that_read_nothing_else_are_called_as_often_as_others() {
    alone(|| {
        // Large enough that the 0.1 ms which a wall clock around a dispatch cannot account for are no twentieth.
        for (op, shape) in [("carry", "rows=8192,width=512,source=zero"), ("lstm_gates", "rows=256,steps=16,units=128")]
        {
            let what = What::Op { name: op.into(), shape: Some(shape.into()) };
            for (name, device) in devices() {
                let found = run(&what, &runs(2), device, KernelSelection::default());
                adds_up(&name, &found);
                let Kernel { calls, flops, bytes, .. } = found.kernels[0];
                assert_eq!((calls, flops, bytes), (1, found.summary.flops, found.summary.bytes), "{name}: {op}");
            }
        }
    });
}

#[test]
fn an_op_is_profiled_in_every_variant_or_in_the_overridden_one() {
    alone(|| {
        let what = What::Op { name: "gemm".into(), shape: Some("m=192,n=128,k=64".into()) };
        for (name, device) in devices() {
            let supported = device.capabilities().map_or(1, |capabilities| {
                let op = deepj::ops::gemm::Gemm::new(deepj::ops::gemm::Layout::NN, 192, 128, 64);
                deepj::ops::Op::supported(&op, capabilities).len()
            });
            let found = run(&what, &runs(2), device.clone(), KernelSelection::default());
            println!("{name}: {} variants", found.kernels.len());
            assert_eq!(found.kernels.len(), supported);
            assert!(found.kernels.iter().all(|kernel| kernel.calls == 1 && kernel.flops == 2 * 192 * 128 * 64));
            if device.capabilities().is_some() {
                let overridden = KernelSelection::overriding(vec![("gemm".into(), "naive".into())]);
                let found = run(&what, &runs(2), device, overridden);
                assert_eq!(found.kernels.iter().map(|kernel| kernel.variant.as_str()).collect::<Vec<_>>(), ["naive"]);
            }
        }
    });
}

/// An option for sizes on which nothing depends is refused, and no other.
#[test]
fn sizes_that_a_shape_gives_are_not_asked_of_the_network() {
    let (device, selection) = (Device::Cpu { why: String::new() }, KernelSelection::default());
    let refused = |name: &str, shape: Option<&str>, settings: Settings| {
        let what = What::Op { name: name.into(), shape: shape.map(String::from) };
        let checked = deepj::profile::check(&what, &Settings { runs: 1, ..settings }, &device, &selection);
        checked.err().map(|e| e.what.split(' ').next().unwrap_or_default().to_string())
    };
    let batch = || Settings { batch: Some(3), ..Settings::default() };
    let seq = || Settings { seq: Some(3), ..Settings::default() };
    let preset = || Settings { preset: Some("small".into()), ..Settings::default() };
    let set = || Settings { set: vec![("time_units".into(), "64".into())], ..Settings::default() };
    let model = || Settings { model: Some("biaxial".into()), ..Settings::default() };
    for (name, shape, settings, flag) in [
        ("gemm", Some("m=8,n=8,k=8"), batch(), Some("--batch")),
        ("gemm", Some("m=8,n=8,k=8"), seq(), Some("--seq")),
        ("gemm", Some("m=8,n=8,k=8"), preset(), Some("--preset")),
        ("gemm", Some("m=8,n=8,k=8"), set(), Some("--set")),
        ("gemm", Some("m=8,n=8,k=8"), model(), Some("--model")),
        ("gemm", Some("n=8,k=8"), batch(), None),
        ("gemm", Some("n=8,k=8"), seq(), None),
        ("gemm", Some("m=8,n=8"), preset(), None),
        ("gemm", Some("m=8,n=8"), set(), None),
        ("gemm", Some("m=8,n=8"), batch(), Some("--batch")),
        // Which notes there are no field says.
        ("features", Some("steps=2,batch=2,notes=12,octave=4,beats=4"), set(), None),
        ("features", Some("steps=2,batch=2,notes=12,octave=4,beats=4"), batch(), Some("--batch")),
        ("gemm", None, batch(), None),
        ("gemm", None, seq(), None),
        // Of parameters, and of generation, which is profiled as that of one piece.
        ("nadam", None, batch(), Some("--batch")),
        ("note_sweep", None, seq(), Some("--seq")),
        ("note_sweep", None, set(), None),
    ] {
        assert_eq!(refused(name, shape, settings.clone()).as_deref(), flag, "{name} {shape:?} {settings:?}");
    }
}
