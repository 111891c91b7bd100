//! The same again gives the same bits, and long trainings stay finite.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use deepj::checkpoint::Checkpoint;
use deepj::graph::session::KernelSelection;
use deepj::train::{Observer, TrainOptions, UpdateRecord, prepare, train};

use crate::devices::on_adapters;
use crate::{cpu, folder, is_long, repeats, succeeds, tiny, tiny_arguments};

/// The parameters and losses of the run in `dir`, and the notes that it composes.
fn result(dir: &Path, device: &str) -> (Vec<u32>, Vec<String>, Vec<u8>) {
    // What the tuner chooses may differ from time to time, and with it the last bits.
    let steps = ["--steps", "20", "--validate-every", "10", "--force", "--tune", "off", "--device", device];
    succeeds(dir, &tiny_arguments(&steps));
    let piece = dir.join("piece.mid");
    let styles = "plain:2, fancy -> fancy";
    let generate = ["generate", "--checkpoint", "run/last.safetensors", "--style", styles, "--seed", "7"];
    succeeds(dir, &[&generate[..], &["--bars", "4", "-o", "piece.mid", "--tune", "off", "--device", device]].concat());
    let last = Checkpoint::load(dir.join("run/last.safetensors")).unwrap();
    let resume = last.resume.unwrap();
    let values = [&last.params].into_iter().chain(&resume.moments).chain(&resume.states).flatten();
    let curve = std::fs::read_to_string(dir.join("run/curve.jsonl")).unwrap();
    // All but the time.
    let lines = curve.lines().map(|line| line.split(",\"seconds\":").next().unwrap().to_string()).collect();
    (values.map(|value| value.to_bits()).collect(), lines, std::fs::read(piece).unwrap())
}

#[test]
fn the_same_training_and_piece_again_have_the_same_bits() {
    let again = |device: &str| {
        let dir = folder();
        tiny(dir.path(), 1);
        let first = result(dir.path(), device);
        assert!(first.0.len() > 1000 && first.1.len() == 23 && first.2.len() > 100, "{:?}", first.1);
        for i in 1..repeats(5, 100) {
            let found = result(dir.path(), device);
            assert!(found.0 == first.0, "{device}: other parameters in repeat {i}");
            assert_eq!(found.1, first.1, "{device}: another curve in repeat {i}");
            assert!(found.2 == first.2, "{device}: another piece in repeat {i}");
        }
    };
    again("cpu");
    // Drivers in software compile for many seconds in each process.
    if is_long() {
        on_adapters(|index, _, _| again(&index.to_string()));
    }
}

#[derive(Default)]
struct Finite {
    updates: u64,
    first: f64,
    last: f64,
}

impl Observer for Finite {
    fn stepped(&mut self, record: &UpdateRecord) {
        let mut values = record.losses.values().iter().chain([&record.gradient_norm]);
        assert!(values.all(|value| value.is_finite()), "update {}: {:?}", record.step, record.losses);
        self.updates += 1;
        self.last = record.losses.total();
        if self.updates == 1 {
            self.first = self.last;
        }
    }
}

#[test]
fn long_trainings_stay_finite_and_learn() {
    let long = |device: &dyn Fn() -> deepj::gpu::Device, name: &str| {
        let steps = repeats(100, 2000) as u64;
        let dir = folder();
        let options = TrainOptions { validate_every: Some(500), ..tiny(dir.path(), steps) };
        let mut seen = Finite::default();
        let never = AtomicBool::new(false);
        let prepared = prepare(&options, &cpu()).unwrap();
        let run = train(prepared, device(), KernelSelection::default(), &mut seen, &never);
        pollster::block_on(run).unwrap();
        let last = Checkpoint::load(dir.path().join("run/last.safetensors")).unwrap();
        assert!(last.params.iter().all(|value| value.is_finite()), "{name}");
        assert_eq!(seen.updates, steps, "{name}");
        println!("{name}: {steps} updates, loss {:.4} to {:.4}", seen.first, seen.last);
        assert!(seen.last < 0.5 * seen.first, "{name}: {} to {}", seen.first, seen.last);
    };
    long(&cpu, "cpu");
    if is_long() {
        on_adapters(|_, adapter, device| long(device, &adapter.to_string()));
    }
}
