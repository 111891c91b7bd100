//! Devices that are lost in the middle of commands: they are destroyed, which no call of the command knows of. Without an adapter
//! the tests say so and pass.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use deepj::Error;
use deepj::checkpoint::{Checkpoint, StopConditions};
use deepj::error::Kind;
use deepj::evaluate::evaluate;
use deepj::generate::{Composed, Composition, generate};
use deepj::gpu::{Device, Gpu};
use deepj::graph::session::KernelSelection;
use deepj::music::{CorpusOptions, Part, Roll, StylePath};
use deepj::train::{Observer, ResumeMode, TrainOptions, UpdateRecord, ValidationRecord, prepare, read_corpus, train};
use pollster::block_on;

use crate::devices::on_adapters;
use crate::{cpu, folder, run_quietly, tiny};

/// Runs `test` on every adapter, which it opens anew as often as it likes.
fn on_gpus(test: impl Fn(&dyn Fn() -> Gpu)) {
    on_adapters(|_, _, device| {
        test(&|| match device() {
            Device::Gpu(gpu) => gpu,
            Device::Cpu { why } => panic!("{why}"),
        });
    });
}

/// Loses the device after an update, or in the validation after the first.
struct Losing {
    gpu: Gpu,
    after: Option<u64>,
    validations: usize,
}

impl Observer for Losing {
    fn stepped(&mut self, record: &UpdateRecord) {
        if Some(record.step) == self.after {
            self.gpu.destroy();
        }
    }

    fn validating(&mut self, _done: usize, _total: usize) {
        if self.after.is_none() && self.validations == 1 {
            self.gpu.destroy();
        }
    }

    fn validated(&mut self, _: &ValidationRecord) {
        self.validations += 1;
    }
}

/// Trains until the device is lost, after an update or in a validation.
fn lose(after: Option<u64>, options: &TrainOptions, gpu: Gpu) -> Error {
    let device = Device::Gpu(gpu.clone());
    let (mut observer, never) = (Losing { gpu, after, validations: 0 }, AtomicBool::new(false));
    let prepared = prepare(options, &cpu()).unwrap();
    block_on(train(prepared, device, KernelSelection::default(), &mut observer, &never)).unwrap_err()
}

fn assert_resumable(error: &Error, run: &Path, update: u64) {
    let text = error.to_string();
    let last = run.join("last.safetensors").display().to_string();
    let resume = format!("`deepj train --resume --out {}`", run.display());
    assert!(text.contains(&format!("the last checkpoint, of update {update}, is {last}")), "{text}");
    assert!(text.contains(&resume), "{text}");
    assert_eq!(Checkpoint::load(run.join("last.safetensors")).unwrap().progress.step, update);
}

#[test]
fn a_run_that_loses_its_device_names_the_checkpoint_to_go_on_from() {
    on_gpus(|gpu| {
        let dir = folder();
        let run = dir.path().join("run");
        let options = tiny(dir.path(), 100);
        let error = lose(Some(1), &options, gpu());
        let text = error.to_string();
        assert_eq!(error.kind, Kind::Device);
        assert!(text.contains("lost") && text.contains("no checkpoint yet") && !text.contains("--resume"), "{text}");

        let error = lose(Some(5), &TrainOptions { force: true, ..options }, gpu());
        assert!(error.what.starts_with("training after update ") && error.what.contains("lost"), "{error}");
        assert_resumable(&error, &run, 4);

        // As the error says, and then the checkpoint is the one that the run resumed from.
        let resumed = TrainOptions {
            resume: ResumeMode::Always,
            out: Some(run.clone()),
            validate_every: Some(50),
            ..TrainOptions::default()
        };
        assert_resumable(&lose(Some(6), &resumed, gpu()), &run, 4);
        let budget = StopConditions { steps: Some(6), ..StopConditions::default() };
        assert_eq!(run_quietly(&TrainOptions { budget, ..resumed }).unwrap().step, 6);
    });
}

#[test]
fn a_device_that_is_lost_in_a_validation_costs_what_came_after_the_last() {
    on_gpus(|gpu| {
        let dir = folder();
        let error = lose(None, &tiny(dir.path(), 100), gpu());
        assert!(error.what.starts_with("validating after update 4: "), "{error}");
        assert_resumable(&error, &dir.path().join("run"), 2);
    });
}

#[test]
fn bars_composed_before_a_device_is_lost_are_kept() {
    on_gpus(|gpu| {
        let dir = folder();
        run_quietly(&tiny(dir.path(), 2)).unwrap();
        let checkpoint = Checkpoint::load(dir.path().join("run/best.safetensors")).unwrap();
        let corpus = read_corpus(Some(&dir.path().join("corpus")), &CorpusOptions::default()).unwrap();
        let pieces = corpus.part(&checkpoint.split, Part::All).unwrap();
        let options = Composition {
            seed: 4,
            prime: Some(corpus.pieces[1].roll.clone()),
            ..Composition::new(vec![StylePath::parse("plain", &checkpoint.styles).unwrap().0; 2], 4)
        };
        let never = AtomicBool::new(false);
        // The device is lost after so many bars.
        let compose = |bars: Option<usize>| {
            let gpu = gpu();
            let lose = |done: usize| {
                if Some(done) == bars {
                    gpu.destroy();
                }
            };
            let device = Device::Gpu(gpu.clone());
            block_on(generate(&checkpoint, &options, device, KernelSelection::default(), &never, lose))
        };
        let whole = compose(None).unwrap();
        assert!(whole.failure.is_none() && !whole.interrupted);
        let Composed { rolls, interrupted, failure, .. } = compose(Some(2)).unwrap();
        let failure = failure.unwrap();
        assert!(interrupted && failure.what.contains("lost"), "{failure}");
        // The first bar is what the beginning leaves of its last.
        let steps = (corpus.pieces[1].roll.steps() / 16 + 2) * 16;
        for (part, whole) in rolls.iter().zip(&whole.rolls) {
            assert_eq!(part.steps(), steps);
            let onsets = |roll: &Roll| {
                let notes = roll.notes().into_iter().filter(|note| note.start < steps);
                notes.map(|note| (note.pitch, note.start)).collect::<Vec<_>>()
            };
            assert_eq!(onsets(part), onsets(whole));
        }
        // The beginning alone is no composition.
        assert!(compose(Some(0)).unwrap_err().what.contains("lost"));

        let gpu = gpu();
        let lose = |_| gpu.destroy();
        let device = Device::Gpu(gpu.clone());
        let measured = evaluate(&checkpoint, &pieces, 1, device, KernelSelection::default(), &never, lose);
        assert!(block_on(measured).unwrap_err().what.contains("lost"));
    });
}
