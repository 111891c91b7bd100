//! What the files of a run must hold at any time: the state after one of its updates, as an uninterrupted training has it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use deepj::checkpoint::{Checkpoint, Resume};
use deepj::graph::session::KernelSelection;
use deepj::train::{TrainOptions, Trainer, prepare};
use pollster::block_on;
use serde_json::Value;

use crate::cpu;

/// Fingerprints of one state: of the parameters, and of all that a resumed training needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    params: u64,
    all: u64,
}

impl State {
    fn of(params: &[f32], resume: Option<&Resume>) -> Self {
        let mut hasher = DefaultHasher::new();
        let mut add = |values: &[f32]| bytemuck::cast_slice::<f32, u32>(values).hash(&mut hasher);
        add(params);
        let state = hasher.finish();
        let mut add = |values: &[f32]| bytemuck::cast_slice::<f32, u32>(values).hash(&mut hasher);
        if let Some(resume) = resume {
            resume.moments.iter().chain(&resume.states).for_each(|values| add(values));
        }
        Self { params: state, all: hasher.finish() }
    }
}

/// A training that nothing interrupts, with the state after each update.
pub struct Uninterrupted {
    trainer: Trainer,
    states: Vec<State>,
}

impl Uninterrupted {
    /// The training that these options ask for, in memory.
    pub fn new(options: &TrainOptions) -> Self {
        let prepared = prepare(options, &cpu()).unwrap();
        let trainer = block_on(Trainer::begin(prepared, cpu(), KernelSelection::default())).unwrap();
        let mut new = Self { trainer, states: vec![] };
        new.push();
        new
    }

    fn push(&mut self) {
        let snapshot = block_on(self.trainer.snapshot()).unwrap();
        self.states.push(State::of(&snapshot.params, Some(&snapshot.resume)));
    }

    /// The state after `step` updates.
    pub fn state(&mut self, step: u64) -> State {
        while self.states.len() as u64 <= step {
            // An update in mixed precision may be left out.
            let before = self.trainer.progress().step;
            while self.trainer.progress().step == before {
                block_on(self.trainer.step()).unwrap();
            }
            self.push();
        }
        self.states[step as usize]
    }

    /// Fails unless the checkpoints in `run` that are there are whole and of this training, and its curve has every update before
    /// them once. Returns the number of updates in the last checkpoint; `None` where there is none.
    pub fn check(&mut self, run: &Path) -> Option<u64> {
        let load = |name: &str| run.join(name).exists().then(|| Checkpoint::load(run.join(name)).unwrap());
        let [last, best] = ["last.safetensors", "best.safetensors"].map(load);
        if let Some(best) = best {
            let found = State::of(&best.params, None);
            assert_eq!(found.params, self.state(best.progress.step).params, "best, update {}", best.progress.step);
        }
        let last = last?;
        let step = last.progress.step;
        assert_eq!(State::of(&last.params, last.resume.as_ref()), self.state(step), "last, update {step}");
        let updates: Vec<u64> = updates(run).into_iter().filter(|update| *update <= step).collect();
        assert_eq!(updates, (1..=step).collect::<Vec<_>>(), "the curve, update {step}");
        Some(step)
    }
}

/// The updates in the curve of the run, in its order.
pub fn updates(run: &Path) -> Vec<u64> {
    let curve = std::fs::read(run.join("curve.jsonl")).unwrap_or_default();
    let lines = curve.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    lines.filter(|line| line["kind"] == "train").filter_map(|line| line["step"].as_u64()).collect()
}
