//! The commands on every adapter present, held against the CPU backend. Without an adapter the tests say so and pass.

use std::sync::atomic::AtomicBool;

use deepj::checkpoint::{Checkpoint, StopConditions};
use deepj::evaluate::evaluate;
use deepj::generate::{Composition, generate};
use deepj::gpu::{self, Capabilities, Device, DeviceChoice};
use deepj::graph::session::KernelSelection;
use deepj::music::{CorpusOptions, Part, StylePath};
use deepj::train::{Observer, ResumeMode, TrainOptions, UpdateRecord, prepare, read_corpus, train};

use crate::{cpu, folder, tiny};

#[derive(Default)]
struct Losses(Vec<[f64; 4]>);

impl Observer for Losses {
    fn stepped(&mut self, r: &UpdateRecord) {
        self.0.push([r.losses.values()[0], r.losses.values()[1], r.losses.values()[2], r.gradient_norm]);
    }
}

fn losses(options: &TrainOptions, device: Device) -> Vec<[f64; 4]> {
    let mut losses = Losses::default();
    let prepared = prepare(options, &cpu()).unwrap();
    let never = AtomicBool::new(false);
    pollster::block_on(train(prepared, device, KernelSelection::default(), &mut losses, &never)).unwrap();
    losses.0
}

/// Runs `test` on every adapter, with its index.
pub fn on_adapters(test: impl Fn(usize, &Capabilities, &dyn Fn() -> Device)) {
    let adapters = pollster::block_on(gpu::adapters());
    if adapters.is_empty() {
        println!("skipped: no adapter here");
    }
    for (index, adapter) in adapters.iter().enumerate() {
        println!("{adapter}");
        let choice = DeviceChoice::Index(index);
        test(index, adapter, &|| pollster::block_on(gpu::open(&choice, gpu::OpenOptions::default())).unwrap());
    }
}

/// From one seed, the losses of a few updates are the CPU backend's but for rounding, which the optimiser amplifies: where a
/// gradient is nearly 0, Nadam moves the parameter by the learning rate in the direction of its sign.
#[test]
fn a_gpu_trains_as_the_cpu_does() {
    on_adapters(|_, adapter, device| {
        let dir = folder();
        let options = tiny(dir.path(), 6);
        let expected = losses(&options, cpu());
        let found = losses(&TrainOptions { force: true, ..options }, device());
        let mut worst: f64 = 0.0;
        for (step, (a, b)) in expected.iter().zip(&found).enumerate() {
            for (a, b) in a.iter().zip(b) {
                let off = (a - b).abs() / a.abs().max(1e-6);
                let tolerance = if step == 0 { 1e-6 } else { 1e-4 };
                assert!(off <= tolerance, "{adapter}, update {}: {a} and {b} are {off:.1e} apart", step + 1);
                worst = worst.max(off / tolerance);
            }
        }
        println!("{adapter}: {:.0} % of tolerance", 100.0 * worst);
    });
}

#[test]
fn a_gpu_resumes_to_the_bit() {
    on_adapters(|_, adapter, device| {
        let dir = folder();
        let whole = tiny(dir.path(), 5);
        let expected = losses(&whole, device());
        let out = Some(dir.path().join("parts"));
        let mut found = losses(&TrainOptions { out: out.clone(), ..tiny(dir.path(), 3) }, device());
        let budget = StopConditions { steps: Some(5), ..StopConditions::default() };
        found.extend(losses(
            &TrainOptions { out, resume: ResumeMode::Always, budget, ..TrainOptions::default() },
            device(),
        ));
        assert_eq!(expected, found, "{adapter}");
    });
}

#[test]
fn a_gpu_evaluates_as_the_cpu_does_and_composes_the_same_twice() {
    on_adapters(|_, adapter, device| {
        let dir = folder();
        losses(&tiny(dir.path(), 20), cpu());
        let checkpoint = Checkpoint::load(dir.path().join("run/best.safetensors")).unwrap();
        let corpus = read_corpus(Some(&dir.path().join("corpus")), &CorpusOptions::default()).unwrap();
        let pieces = corpus.part(&checkpoint.split, Part::All).unwrap();
        let never = AtomicBool::new(false);
        let measure = |device| {
            let metrics = evaluate(&checkpoint, &pieces, 3, device, KernelSelection::default(), &never, |_| ());
            pollster::block_on(metrics).unwrap().unwrap()
        };
        let (expected, found) = (measure(cpu()), measure(device()));
        assert_eq!(expected.steps, found.steps);
        assert!(
            (expected.losses.total() - found.losses.total()).abs() <= 1e-5 * expected.losses.total(),
            "{adapter}: {expected:?} {found:?}"
        );

        let options = Composition {
            seed: 4,
            prime: Some(corpus.pieces[1].roll.clone()),
            ..Composition::new(
                ["plain", "plain -> fancy"].map(|s| StylePath::parse(s, &checkpoint.styles).unwrap().0).into(),
                3,
            )
        };
        let compose = || {
            let composed = generate(&checkpoint, &options, device(), KernelSelection::default(), &never, |_| ());
            pollster::block_on(composed).unwrap().rolls
        };
        let rolls = compose();
        assert_eq!(rolls, compose(), "{adapter}");
        assert!(rolls.iter().all(|roll| roll.steps() == corpus.pieces[1].roll.steps() + 48), "{adapter}");
    });
}
