//! A training that is stepped from outside, without files or with files in memory: what a browser's loop or an experiment does.

use std::sync::atomic::AtomicBool;

use deepj::checkpoint::{Checkpoint, StopConditions};
use deepj::evaluate::evaluate;
use deepj::gpu::{Device, DeviceChoice, OpenOptions, adapters, open};
use deepj::graph::session::KernelSelection;
use deepj::train::{LAST, Memory, Observer, Prepared, RunFiles, TrainOptions, Trainer, Update, prepare, train_into};
use pollster::block_on;

/// Updates that are made.
const UPDATES: u64 = 3;

struct Silent;

impl Observer for Silent {}

fn cpu() -> Device {
    Device::Cpu { why: String::new() }
}

fn prepared(device: &Device) -> Prepared {
    prepare(&options(), device).unwrap()
}

fn options() -> TrainOptions {
    let small = ["time_units", "note_units", "filters", "style_width"].map(|name| (name.into(), "4".into()));
    TrainOptions {
        preset: Some("small".into()),
        set: small.into(),
        batch: Some(2),
        seq: Some(8),
        budget: StopConditions { steps: Some(UPDATES), ..StopConditions::default() },
        ..TrainOptions::default()
    }
}

#[test]
fn a_trainer_makes_the_updates_of_a_run() {
    let mut files = Memory::default();
    let stop = AtomicBool::new(false);
    let (prepared_run, selection) = (prepared(&cpu()), KernelSelection::default());
    let run = async { train_into(&mut files, prepared_run, cpu(), selection, &mut Silent, &stop).await };
    let outcome = block_on(run).unwrap();
    assert_eq!(outcome.step, UPDATES);
    let saved = Checkpoint::from_bytes(&files.read(LAST).unwrap().unwrap()).unwrap();

    let mut trainer = block_on(Trainer::begin(prepared(&cpu()), cpu(), KernelSelection::default())).unwrap();
    let before = block_on(trainer.snapshot()).unwrap();
    for step in 1..=UPDATES {
        let made = block_on(trainer.step()).unwrap();
        assert!(matches!(made, Some(Update::Made(record)) if record.step == step));
    }
    let after = block_on(trainer.snapshot()).unwrap();
    assert_ne!(before.params, after.params);
    assert_eq!((saved.params, saved.resume), (after.params, Some(after.resume)));
}

/// On a GPU an update is read while the next one runs.
#[test]
fn an_update_under_way_is_not_saved() {
    let Some(adapter) = block_on(adapters()).into_iter().position(|adapter| adapter.backend == "vulkan") else {
        println!("skipped: no Vulkan adapter is here");
        return;
    };
    let device = block_on(open(&DeviceChoice::Index(adapter), OpenOptions::default())).unwrap();
    let prepared = prepared(&device);
    let mut trainer = block_on(Trainer::begin(prepared, device, KernelSelection::default())).unwrap();
    assert!(block_on(trainer.step()).unwrap().is_none());
    assert_eq!((trainer.progress().step, trainer.submitted()), (0, 1));
    let error = block_on(trainer.snapshot()).unwrap_err();
    assert!(error.what.contains("under way") && error.remedy.contains("finish"), "{error}");
    assert!(matches!(block_on(trainer.finish()).unwrap(), Some(Update::Made(record)) if record.step == 1));
    assert!(block_on(trainer.snapshot()).is_ok());
}

/// The mean of the parameters after each update, with weights that fall by the decay; validation takes it and leaves the parameters.
#[test]
fn the_running_mean_is_that_of_all_updates() {
    let decay = 0.6;
    let prepared = prepare(&TrainOptions { ema: Some(decay), ..options() }, &cpu()).unwrap();
    let (pieces, first) = (prepared.validation.clone(), prepared.state.clone());
    assert_eq!(*first.weights(), first.params, "before the first update");
    let mut trainer = block_on(Trainer::begin(prepared, cpu(), KernelSelection::default())).unwrap();
    let (mut sum, mut weights) = (vec![0.0f64; first.params.len()], 0.0);
    for _ in 0..UPDATES {
        block_on(trainer.step()).unwrap();
        let params = block_on(trainer.snapshot()).unwrap().params;
        sum.iter_mut().zip(&params).for_each(|(sum, &p)| *sum = decay * *sum + f64::from(p));
        weights = decay * weights + 1.0;
    }
    let never = AtomicBool::new(false);
    let validated = block_on(trainer.validate(&pieces, &never, |_| ())).unwrap().unwrap();
    let after = block_on(trainer.snapshot()).unwrap();
    let progress = trainer.progress().clone();
    let saved = Checkpoint { params: after.params, mean: after.mean, progress, resume: Some(after.resume), ..first };
    let loaded = Checkpoint::from_bytes(&saved.to_bytes().unwrap()).unwrap();
    assert_eq!(loaded, saved);
    for (i, (found, sum)) in loaded.weights().iter().zip(&sum).enumerate() {
        assert!((f64::from(*found) - sum / weights).abs() < 1e-6, "parameter {i}: {found}, not {}", sum / weights);
    }
    assert!(*loaded.weights() != loaded.params);
    let slots = loaded.settings.batch;
    let loss = |checkpoint: &Checkpoint| {
        let metrics = evaluate(checkpoint, &pieces, slots, cpu(), KernelSelection::default(), &never, |_| ());
        block_on(metrics).unwrap().unwrap().losses.total()
    };
    // In windows of another length, so that sums round elsewhere.
    let (of_mean, validated) = (loss(&loaded), validated.losses.total());
    assert!((of_mean - validated).abs() < 1e-6, "{of_mean} {validated}");
    let of_params = loss(&Checkpoint { mean: None, ..loaded });
    assert!((of_params - validated).abs() > 1e-4, "{of_params} {validated}");
}
