//! Training: what is resumed, stopped or fails keeps what it must.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use deepj::checkpoint::{Checkpoint, StopConditions};
use deepj::evaluate::evaluate;
use deepj::graph::session::KernelSelection;
use deepj::music::roll::RollNote;
use deepj::music::{Bptt, FlatDynamics, NoteRange, Piece, Reading, Roll};
use deepj::train::{End, Observer, ResumeMode, TrainOptions, UpdateRecord, ValidationRecord, corpus_of, prepare};
use serde_json::Value;

use crate::{corpus, cpu, fails, folder, run, run_quietly, tiny, tiny_arguments};

/// Records losses to the bit, and asks to stop after some update.
#[derive(Default)]
struct Record {
    steps: Vec<(u64, [u64; 5])>,
    validations: Vec<(u64, [u64; 4])>,
    stop_after: Option<u64>,
    stop: &'static AtomicBoolCell,
}

/// A flag that both the observer and the run see.
#[derive(Default)]
struct AtomicBoolCell(AtomicBool);

impl Default for &'static AtomicBoolCell {
    fn default() -> Self {
        Box::leak(Box::default())
    }
}

impl Observer for Record {
    fn stepped(&mut self, r: &UpdateRecord) {
        let [play, replay, dynamics] = r.losses.values()[..] else { panic!("three losses") };
        let values = [r.losses.total(), play, replay, dynamics, r.gradient_norm];
        self.steps.push((r.step, values.map(f64::to_bits)));
        if self.stop_after == Some(r.step) {
            self.stop.0.store(true, Ordering::Relaxed);
        }
    }

    fn validated(&mut self, r: &ValidationRecord) {
        let m = &r.metrics;
        let [play, replay, dynamics] = m.losses.values()[..] else { panic!("three losses") };
        self.validations.push((r.step, [m.losses.total(), play, replay, dynamics].map(f64::to_bits)));
    }
}

fn record(options: &TrainOptions, stop_after: Option<u64>) -> (Record, deepj::train::Outcome) {
    let mut record = Record { stop_after, ..Record::default() };
    let stop = &record.stop.0;
    let outcome = run(options, &mut record, stop).unwrap();
    (record, outcome)
}

/// All that matters of a checkpoint but the time it took.
fn last(options: &TrainOptions) -> Checkpoint {
    let path = options.out.as_ref().unwrap().join("last.safetensors");
    let mut checkpoint = Checkpoint::load(path).unwrap();
    (checkpoint.progress.seconds, checkpoint.progress.saved) = (0.0, 0);
    checkpoint.settings.budget = StopConditions::default();
    checkpoint
}

#[test]
fn a_resumed_run_is_the_uninterrupted_one_to_the_bit() {
    for bptt in [Bptt::Stateful, Bptt::Windowed] {
        let dir = folder();
        let whole = TrainOptions { bptt: Some(bptt), ..tiny(dir.path(), 9) };
        let (expected, outcome) = record(&whole, None);
        assert_eq!((outcome.end, outcome.step), (End::Steps, 9));
        assert_eq!(expected.validations.iter().map(|v| v.0).collect::<Vec<_>>(), [2, 4, 6, 8, 9]);

        // Ended by Ctrl-C after update 3, by the number of updates after 6, and then gone on with to the end.
        let parts = TrainOptions { out: Some(dir.path().join("parts")), ..whole.clone() };
        let (first, outcome) = record(&parts, Some(3));
        assert_eq!((outcome.end, outcome.step), (End::Interrupted, 3));
        let go_on = |steps| TrainOptions {
            out: parts.out.clone(),
            resume: ResumeMode::Always,
            budget: StopConditions { steps: Some(steps), ..StopConditions::default() },
            ..TrainOptions::default()
        };
        let (second, _) = record(&go_on(6), None);
        let (third, _) = record(&go_on(9), None);
        let steps: Vec<_> = [&first, &second, &third].into_iter().flat_map(|r| &r.steps).collect();
        assert_eq!(steps, expected.steps.iter().collect::<Vec<_>>(), "{bptt:?}");
        let validations: Vec<_> = [&first, &second, &third].into_iter().flat_map(|r| &r.validations).collect();
        assert_eq!(validations, expected.validations.iter().collect::<Vec<_>>(), "{bptt:?}");
        assert_eq!(last(&whole), last(&parts), "{bptt:?}");
    }
}

#[test]
fn the_curve_has_every_update_once_also_after_a_crash() {
    let dir = folder();
    let options = tiny(dir.path(), 4);
    run_quietly(&options).unwrap();
    let path = dir.path().join("run/curve.jsonl");
    // As if the run had gone on and was killed before its next checkpoint, in the middle of a line.
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.push_str("{\"kind\":\"train\",\"step\":5,\"loss\":1.0}\n{\"kind\":\"train\",\"st");
    std::fs::write(&path, text).unwrap();
    let budget = StopConditions { steps: Some(6), ..StopConditions::default() };
    run_quietly(&TrainOptions { resume: ResumeMode::Always, out: options.out, budget, ..TrainOptions::default() })
        .unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ends = lines.iter().filter(|line| line["kind"] == "end").map(|line| (&line["step"], &line["end"]));
    assert_eq!(ends.collect::<Vec<_>>(), [(&4.into(), &"steps".into()), (&6.into(), &"steps".into())]);
    let unreadable = std::fs::read_to_string(dir.path().join("run/curve-unreadable.jsonl")).unwrap();
    assert_eq!(unreadable, "{\"kind\":\"train\",\"st\n", "kept, though it cannot be read");
    let lines: Vec<Value> = lines.into_iter().filter(|line| line["kind"] != "end").collect();
    let of = |kind: &str| lines.iter().filter(|l| l["kind"] == kind).map(|l| l["step"].as_u64().unwrap()).collect();
    let (train, validation): (Vec<u64>, Vec<u64>) = (of("train"), of("validation"));
    assert_eq!(train, [1, 2, 3, 4, 5, 6]);
    assert_eq!(validation, [2, 4, 6]);
    for key in ["loss", "play_bce", "replay_bce", "dynamics_mse", "play_nats_per_step"] {
        assert!(lines.iter().all(|line| line[key].as_f64().is_some_and(f64::is_finite)), "{key}");
    }
    let nats = |l: &Value| l["play_nats_per_step"].as_f64().unwrap() / l["play_bce"].as_f64().unwrap();
    assert!(lines.iter().all(|line| (nats(line) - 48.0).abs() < 1e-9));
}

#[test]
fn training_learns() {
    let dir = folder();
    let options = TrainOptions { lr: Some(0.01), ..tiny(dir.path(), 60) };
    let (record, outcome) = record(&options, None);
    // Untrained, a cell of play costs about ln 2; one pitch of 48 sounds at a time, so that even a constant guess costs
    // less than 0.11, and the chords are regular.
    let (first, best) = (f64::from_bits(record.steps[0].1[0]), outcome.best.unwrap().loss);
    assert!(first > 0.6 && best < 0.15, "{first} {best}");
}

#[test]
fn training_stops_when_the_validation_loss_stops_falling() {
    let dir = folder();
    // With hardly any step size the loss does not fall further than the first validation by chance alone.
    let budget = StopConditions { patience: Some(3), steps: Some(500), ..StopConditions::default() };
    let options = TrainOptions { lr: Some(1e-30), validate_every: Some(1), budget, ..tiny(dir.path(), 0) };
    let outcome = run_quietly(&options).unwrap();
    assert_eq!((outcome.end, outcome.step), (End::Patience, 4));
    assert_eq!(outcome.best.unwrap().step, 1);
}

#[test]
fn epochs_and_minutes_end_a_run() {
    let dir = folder();
    let epochs = StopConditions { epochs: Some(2.0), ..StopConditions::default() };
    let outcome = run_quietly(&TrainOptions { budget: epochs, ..tiny(dir.path(), 0) }).unwrap();
    assert_eq!(outcome.end, End::Epochs);
    assert!((2.0..2.5).contains(&outcome.epochs), "{}", outcome.epochs);
    let minutes = StopConditions { minutes: Some(1e-9), ..StopConditions::default() };
    let options = TrainOptions { budget: minutes, force: true, ..tiny(dir.path(), 0) };
    let outcome = run_quietly(&options).unwrap();
    assert_eq!((outcome.end, outcome.step), (End::Minutes, 0));
}

#[test]
fn a_loss_that_is_not_finite_names_the_op_and_leaves_the_checkpoints() {
    let dir = folder();
    // The first update moves every parameter by about the learning rate; the next forward pass overflows.
    let bad = TrainOptions {
        lr: Some(1e38),
        out: Some(dir.path().join("bad")),
        validate_every: Some(100),
        save_every: Some(1),
        ..tiny(dir.path(), 9)
    };
    let error = run_quietly(&bad).unwrap_err().to_string();
    assert!(error.contains("not finite, first in the op `") && error.contains("`lr`"), "{error}");
    assert_eq!(last(&bad).progress.step, 1, "saved before it went wrong");
}

#[test]
fn a_folder_with_a_run_is_not_overwritten_unasked() {
    let dir = folder();
    let options = tiny(dir.path(), 2);
    run_quietly(&options).unwrap();
    let error = run_quietly(&options).unwrap_err().to_string();
    assert!(
        error.contains("holds a run already") && error.contains("`resume`") && error.contains("`force`"),
        "{error}"
    );
    run_quietly(&TrainOptions { force: true, ..options }).unwrap();
}

#[test]
fn what_a_run_was_begun_with_cannot_be_changed_by_resuming() {
    let dir = folder();
    let options = tiny(dir.path(), 2);
    run_quietly(&options).unwrap();
    let resume = TrainOptions { resume: ResumeMode::Always, ..options.clone() };
    assert!(prepare(&resume, &cpu()).is_ok(), "the same flags again are welcome");
    let other = dir.path().join("other");
    corpus(&other, 4, 4, 50);
    let refused = [
        (TrainOptions { data: Some(other), ..resume.clone() }, "another corpus"),
        (TrainOptions { batch: Some(3), ..resume.clone() }, "--batch 2, not 3"),
        (TrainOptions { seq: Some(8), ..resume.clone() }, "--seq 16, not 8"),
        (TrainOptions { seed: Some(1), ..resume.clone() }, "--seed 0, not 1"),
        (TrainOptions { lr: Some(0.1), whole: true, ..resume.clone() }, "--lr 0.002, not 0.1"),
        (TrainOptions { warmup: Some(3), whole: true, ..resume.clone() }, "--lr-schedule constant"),
        (TrainOptions { transpose: Some(3), ..resume.clone() }, "--transpose 0, not 3"),
        (TrainOptions { balance: Some(0.5), ..resume.clone() }, "--balance 1.0, not 0.5"),
        (TrainOptions { batch: None, whole: true, ..resume.clone() }, "--batch 2, not 4"),
        (TrainOptions { set: vec![], whole: true, ..resume.clone() }, "another configuration"),
        (TrainOptions { bptt: Some(Bptt::Windowed), ..resume.clone() }, "--bptt stateful, not windowed"),
        (TrainOptions { preset: Some("paper".into()), set: vec![], ..resume.clone() }, "another configuration"),
        (TrainOptions { set: vec![("dropout".into(), "0.1".into())], ..resume.clone() }, "another configuration"),
    ];
    for (options, text) in refused {
        let error = prepare(&options, &cpu()).unwrap_err();
        assert!(error.what.contains(text) && !error.remedy.is_empty(), "{error}");
    }
    let nothing =
        TrainOptions { out: Some(dir.path().join("nothing")), resume: ResumeMode::Always, ..TrainOptions::default() };
    assert!(prepare(&nothing, &cpu()).unwrap_err().what.contains("no run to go on with"));
    // The best checkpoint has no moments.
    std::fs::copy(dir.path().join("run/best.safetensors"), dir.path().join("run/last.safetensors")).unwrap();
    assert!(prepare(&resume, &cpu()).unwrap_err().what.contains("no optimiser state"));
}

/// With the learning rate's schedule, moved pieces and balanced composers: gone on with to the bit, and each line of the curve says
/// its rate.
#[test]
fn a_recipe_goes_on_exactly_and_its_rate_can_be_changed() {
    let dir = folder();
    let recipe = |steps, out: &str| TrainOptions {
        lr_schedule: "cosine".parse().ok(),
        lr_steps: Some(6),
        lr_factor: Some(0.5),
        warmup: Some(2),
        transpose: Some(5),
        balance: Some(0.5),
        ema: Some(0.9),
        out: Some(dir.path().join(out)),
        ..tiny(dir.path(), steps)
    };
    let rates = |out: &str| -> Vec<f64> {
        let text = std::fs::read_to_string(dir.path().join(out).join("curve.jsonl")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let trained = lines.filter(|line| line["kind"] == "train");
        trained.map(|line| (line["lr"].as_f64().unwrap() * 1e7).round() / 1e7).collect()
    };
    let (whole, _) = record(&recipe(9, "whole"), None);
    let cosine = |part: f64| 0.5 + 0.25 * (1.0 + (std::f64::consts::PI * part).cos());
    let expected: Vec<f64> =
        [0.5, 1.0, 1.0, cosine(1.0 / 6.0), cosine(2.0 / 6.0), 0.75, cosine(4.0 / 6.0), cosine(5.0 / 6.0), 0.5]
            .map(|factor| (0.002 * factor * 1e7_f64).round() / 1e7)
            .into();
    assert_eq!(rates("whole"), expected);
    let (first, _) = record(&recipe(4, "parts"), None);
    let on = |steps| TrainOptions { resume: ResumeMode::Always, ..recipe(steps, "parts") };
    let (second, _) = record(&on(9), None);
    assert_eq!([first.steps, second.steps].concat(), whole.steps);
    assert_eq!([first.validations, second.validations].concat(), whole.validations);
    assert_eq!(last(&recipe(9, "parts")), last(&recipe(9, "whole")));
    let best = Checkpoint::load(dir.path().join("parts/best.safetensors")).unwrap();
    assert!(*best.weights() != best.params, "the mean, and the parameters beside it");
    let e = prepare(&TrainOptions { ema: Some(0.5), ..on(10) }, &cpu()).unwrap_err().to_string();
    assert!(e.contains("`ema` 0.9, not 0.5"), "{e}");

    let changed = TrainOptions { lr: Some(0.01), lr_schedule: "step".parse().ok(), lr_steps: Some(2), ..on(13) };
    let changed = TrainOptions { lr_factor: Some(0.1), warmup: Some(0), ..changed };
    let prepared = prepare(&changed, &cpu()).unwrap();
    assert!(prepared.notices.iter().any(|text| text.contains("from update 9 on")), "{:?}", prepared.notices);
    run_quietly(&changed).unwrap();
    assert_eq!(rates("parts")[9..], [0.01, 0.01, 0.001, 0.001]);
    // What is not said stays; a schedule that is said again does not begin again.
    let budget = StopConditions { steps: Some(14), ..StopConditions::default() };
    let same = TrainOptions { budget, ..changed };
    run_quietly(&same).unwrap();
    assert_eq!(rates("parts")[13..], [0.0001]);
    let refused = |options: TrainOptions, text: &str| {
        let e = prepare(&TrainOptions { out: Some(dir.path().join("none")), ..options }, &cpu()).unwrap_err();
        assert!(e.to_string().contains(text), "{e}");
    };
    let plain = tiny(dir.path(), 2);
    refused(TrainOptions { lr_steps: Some(3), ..plain.clone() }, "`lr_schedule` cosine or step");
    refused(TrainOptions { lr_schedule: "step".parse().ok(), ..plain.clone() }, "`lr_steps`");
    refused(TrainOptions { lr_factor: Some(2.0), ..recipe(2, "none") }, "`lr_factor` 2");
    refused(TrainOptions { ema: Some(1.0), ..plain.clone() }, "`ema` 1");
    refused(TrainOptions { transpose: Some(25), ..plain.clone() }, "`transpose` 25");
    refused(TrainOptions { balance: Some(f64::NAN), ..plain.clone() }, "`balance` NaN");
    // A file that says what no flag can.
    let mut file = Checkpoint::load(dir.path().join("parts/last.safetensors")).unwrap();
    file.settings.rate.steps = 0;
    file.save(dir.path().join("parts/last.safetensors")).unwrap();
    let damaged = TrainOptions { resume: ResumeMode::Always, out: Some(dir.path().join("parts")), ..plain.clone() };
    let e = prepare(&TrainOptions { set: vec![], ..damaged }, &cpu()).unwrap_err().to_string();
    assert!(e.contains("last.safetensors") && e.contains("`lr_steps` 0"), "{e}");
    let endless = StopConditions { minutes: Some(1.0), ..StopConditions::default() };
    refused(TrainOptions { lr_schedule: "cosine".parse().ok(), budget: endless, ..plain }, "`lr_steps`, or `steps`");
}

/// With dropout, carried states and pieces that end in the middle of windows.
#[test]
fn a_batch_in_parts_makes_the_update_of_the_whole() {
    let dir = folder();
    let of = |parts, steps, out: &str| {
        let out = Some(dir.path().join(out));
        TrainOptions { batch: Some(4), accumulate: Some(parts), out, ..tiny(dir.path(), steps) }
    };
    let (whole, _) = record(&of(1, 8, "whole"), None);
    let near = |a: &Record, b: &[(u64, [u64; 5])]| {
        assert_eq!(a.steps.len(), b.len());
        for ((_, a), (step, b)) in a.steps.iter().zip(b) {
            for (a, b) in a.iter().zip(b).map(|(a, b)| (f64::from_bits(*a), f64::from_bits(*b))) {
                assert!((a - b).abs() <= 1e-4 * a.abs(), "update {step}: {b}, not {a}");
            }
        }
    };
    // Unless it is said, the CPU takes a quarter of the slots at a time.
    let prepared = prepare(&TrainOptions { accumulate: None, ..of(1, 1, "explained") }, &cpu()).unwrap();
    let explained = deepj::train::explain(&prepared, &cpu(), &KernelSelection::default()).unwrap();
    assert!(explained.contains("plan `train B=1 ") && explained.contains("runs the first plan 4 times"), "{explained}");
    for parts in [2, 4] {
        let (made, _) = record(&of(parts, 8, &format!("{parts}-parts")), None);
        near(&whole, &made.steps);
        assert!(made.steps != whole.steps, "sums are made in another order");
    }
    // Gone on with to the bit, and with another number of parts.
    let (first, _) = record(&of(2, 3, "on"), None);
    let on = |parts, steps| TrainOptions { resume: ResumeMode::Always, ..of(parts, steps, "on") };
    let (second, _) = record(&on(2, 5), None);
    let (two, _) = record(&of(2, 5, "two"), None);
    assert_eq!([first.steps.clone(), second.steps.clone()].concat(), two.steps);
    assert_eq!(last(&of(2, 5, "on")), last(&of(2, 5, "two")));
    let (third, _) = record(&on(1, 8), None);
    near(&whole, &[first.steps, second.steps, third.steps].concat());
    for parts in [0, 3] {
        let e = prepare(&of(parts, 2, "none"), &cpu()).unwrap_err().to_string();
        assert!(e.contains(&format!("`accumulate` {parts} with a batch of 4")), "{e}");
    }
}

/// Fine-tuning: what fits is taken, a composer that both know keeps its style, one that is new begins with the mean of all.
#[test]
fn a_run_begins_with_the_parameters_of_another() {
    let dir = folder();
    let path = dir.path();
    let first = TrainOptions { notes: "40..=80".parse().ok(), ema: Some(0.5), ..tiny(path, 3) };
    run_quietly(&first).unwrap();
    let origin = Checkpoint::load(path.join("run/best.safetensors")).unwrap();
    corpus(&path.join("other"), 4, 4, 50);
    std::fs::rename(path.join("other/fancy/jones"), path.join("other/fancy/brown")).unwrap();
    let with = |options: TrainOptions| {
        let (data, out, init) = (path.join("other"), path.join("tuned"), path.join("run/best.safetensors"));
        TrainOptions { data: Some(data), out: Some(out), init: Some(init), ..options }
    };
    let tuned = prepare(&with(TrainOptions::default()), &cpu()).unwrap();
    assert_eq!(tuned.state.corpus.range, origin.corpus.range);
    assert_eq!(tuned.state.model.config(), origin.model.config(), "sizes are the origin's");
    let of = |checkpoint: &Checkpoint, name: &str| {
        let param = checkpoint.model.layout().params().iter().find(|param| param.name == name).unwrap().clone();
        checkpoint.weights()[param.view.start..][..param.view.len].to_vec()
    };
    for param in origin.model.layout().params().iter().filter(|param| param.name != "style.embedding.weight") {
        assert_eq!(of(&tuned.state, &param.name), of(&origin, &param.name), "{}", param.name);
    }
    // Styles are fancy/jones, then plain/smith; fancy/brown is new.
    let [new, old] = [&tuned.state, &origin].map(|checkpoint| of(checkpoint, "style.embedding.weight"));
    let width = old.len() / 2;
    assert_eq!(new[width..], old[width..]);
    for i in 0..width {
        assert!((new[i] - (old[i] + old[width + i]) / 2.0).abs() < 1e-7, "{new:?} {old:?}");
    }
    let said = tuned.notices.join("; ");
    assert!(said.contains("begin with the mean of its own: brown") && !said.contains("not taken"), "{said}");
    run_quietly(&with(tiny(path, 2))).unwrap();

    let wider =
        with(TrainOptions { set: vec![("note_units".into(), "16".into())], force: true, ..TrainOptions::default() });
    let said = prepare(&wider, &cpu()).unwrap().notices.join("; ");
    assert!(said.contains("not taken, as there are none or they have other shapes: note.0.input"), "{said}");
    let biaxial = with(TrainOptions { model: Some("biaxial".into()), force: true, ..TrainOptions::default() });
    let e = prepare(&biaxial, &cpu()).unwrap_err().to_string();
    assert!(e.contains("is of the model deepj, not biaxial"), "{e}");
    let none = TrainOptions { init: Some(path.join("none")), ..tiny(path, 2) };
    assert!(prepare(&none, &cpu()).unwrap_err().to_string().contains("none"));
}

#[test]
fn values_out_of_range_are_refused() {
    let dir = folder();
    let options = tiny(dir.path(), 2);
    let set = |name: &str, value: &str| vec![(name.to_string(), value.to_string())];
    let refused = [
        (TrainOptions { lr: Some(0.0), ..options.clone() }, "--lr"),
        (TrainOptions { lr: Some(f64::NAN), ..options.clone() }, "--lr"),
        (TrainOptions { clip_norm: Some(-1.0), ..options.clone() }, "--clip-norm"),
        (TrainOptions { batch: Some(0), ..options.clone() }, "--batch 0"),
        (TrainOptions { seq: Some(usize::MAX), ..options.clone() }, "--seq"),
        (TrainOptions { validate_every: Some(0), ..options.clone() }, "--validate-every"),
        (TrainOptions { save_every: Some(0), ..options.clone() }, "--save-every"),
        (TrainOptions { set: set("dropout", "1.5"), ..options.clone() }, "dropout"),
        (TrainOptions { set: set("taps", "24"), ..options.clone() }, "taps"),
        (TrainOptions { set: set("units", "24"), ..options.clone() }, "units: no such field"),
        (TrainOptions { set: set("time_units", "many"), ..options.clone() }, "time_units"),
        (TrainOptions { set: set("styles", "3"), ..options.clone() }, "no such field"),
    ];
    for (options, text) in refused {
        let error = prepare(&options, &cpu()).unwrap_err();
        assert!(error.exit_code() == 2 && error.what.contains(text) && !error.remedy.is_empty(), "{error}");
    }
}

#[test]
fn without_held_out_pieces_the_last_model_is_the_best() {
    let dir = folder();
    corpus(&dir.path().join("corpus"), 1, 4, 48);
    let options = tiny(dir.path(), 3);
    let prepared = prepare(&options, &cpu()).unwrap();
    assert!(prepared.notices.iter().any(|notice| notice.contains("nothing is held out")));
    let outcome = run_quietly(&options).unwrap();
    assert_eq!(outcome.best, None);
    let best = Checkpoint::load(outcome.best_checkpoint.unwrap()).unwrap();
    assert_eq!(best.params, last(&options).params);
}

/// A piece whose velocities are alike teaches notes and no dynamics, and is measured so.
#[test]
fn flat_dynamics_are_not_learned() {
    let dir = folder();
    let of = |flat, out: &str| TrainOptions {
        flat_dynamics: Some(flat),
        out: Some(dir.path().join(out)),
        ..tiny(dir.path(), 3)
    };
    let learn = of(FlatDynamics::Learn, "learn");
    // Of the two composers one plays all notes alike.
    for i in 0..4 {
        let path = dir.path().join(format!("corpus/fancy/jones/{i}.mid"));
        let roll = Reading::read(&path, NoteRange::default(), false).unwrap().roll;
        let flat = roll.notes().into_iter().map(|note| RollNote { velocity: 90, ..note });
        Roll::from_notes(NoteRange::default(), flat).unwrap().write_midi(&path, 100.0).unwrap();
    }
    let ignore = of(FlatDynamics::Ignore, "ignore");
    let [first, second] = [&learn, &ignore].map(|options| record(options, None).0);
    let bits = |record: &Record, loss: usize| record.steps[0].1[loss];
    assert_eq!((bits(&first, 1), bits(&first, 2)), (bits(&second, 1), bits(&second, 2)), "notes");
    assert!(f64::from_bits(bits(&first, 3)) > f64::from_bits(bits(&second, 3)), "dynamics");

    let checkpoint = last(&ignore);
    let corpus = corpus_of(&checkpoint, None, true).unwrap();
    assert_eq!(corpus.pieces.iter().filter(|piece| piece.dynamics).count(), 4);
    assert_eq!(corpus.report.counts.flat_dynamics, 4);
    let measured = |pieces: &[Arc<Piece>]| {
        let selection = KernelSelection::default();
        let (stop, quiet) = (AtomicBool::new(false), |_| ());
        let metrics = evaluate(&checkpoint, pieces, 3, cpu(), selection, &stop, quiet);
        pollster::block_on(metrics).unwrap().unwrap().losses
    };
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-6 * a.abs(), "{a} {b}");
    let (played, flat): (Vec<_>, Vec<_>) = corpus.pieces.iter().cloned().partition(|piece| piece.dynamics);
    let [all, played, flat] = [&corpus.pieces, &played, &flat].map(|pieces| measured(pieces));
    near(all.values()[2], played.values()[2]);
    near(all.nats().nth(2).unwrap().1, played.nats().nth(2).unwrap().1);
    assert_eq!((flat.values()[2], flat.nats().count()), (0.0, 2));
    assert!(flat.values()[0] > 0.0 && all.values()[0] != played.values()[0], "notes of all pieces count");

    // Where nothing but flat pieces is there, the head of dynamics stays as it was.
    std::fs::remove_dir_all(dir.path().join("corpus/plain")).unwrap();
    for (flat, stays) in [(FlatDynamics::Ignore, true), (FlatDynamics::Learn, false)] {
        let options = of(flat, &format!("alone-{stays}"));
        let before = prepare(&options, &cpu()).unwrap().state;
        run_quietly(&options).unwrap();
        let bias = before.model.layout().params().iter().find(|param| param.name == "heads.bias").unwrap();
        let of = |params: &[f32]| params[bias.view.start + 2];
        assert_eq!(of(&before.params) == of(&last(&options).params), stays);
    }
    let other = TrainOptions { resume: ResumeMode::Always, ..of(FlatDynamics::Learn, "alone-true") };
    let e = prepare(&other, &cpu()).unwrap_err().to_string();
    assert!(e.contains("`flat_dynamics` ignore, not learn"), "{e}");
}

/// The weights are in the gradient, and in the sum that is reported and validated; what is reported of each loss has none.
#[test]
fn a_loss_counts_as_often_as_it_is_said() {
    let dir = folder();
    corpus(&dir.path().join("corpus"), 4, 4, 48);
    let first = |name: &str, weights: &[(&str, f64)]| -> Value {
        let loss_weights = weights.iter().map(|&(label, weight)| (label.into(), weight)).collect();
        let out = Some(dir.path().join(name));
        run_quietly(&TrainOptions { loss_weights, out, ..tiny(dir.path(), 1) }).unwrap();
        let curve = std::fs::read_to_string(dir.path().join(name).join("curve.jsonl")).unwrap();
        serde_json::from_str(curve.lines().next().unwrap()).unwrap()
    };
    let number = |record: &Value, name: &str| record[name].as_f64().unwrap();
    let near = |a: f64, b: f64| assert!((a - b).abs() <= 1e-5 * b.abs(), "{a} {b}");
    let once = first("once", &[]);
    let twice = first("twice", &[("play", 2.0), ("replay", 2.0), ("dynamics", 2.0)]);
    near(number(&twice, "gradient_norm"), 2.0 * number(&once, "gradient_norm"));
    near(number(&twice, "loss"), 2.0 * number(&once, "loss"));
    let ten = first("ten", &[("dynamics", 10.0)]);
    near(number(&ten, "loss"), number(&once, "loss") + 9.0 * number(&once, "dynamics_mse"));
    assert!(number(&ten, "gradient_norm") > number(&once, "gradient_norm"));
    for name in ["play_bce", "replay_bce", "dynamics_mse"] {
        assert_eq!([&twice, &ten].map(|record| number(record, name)), [number(&once, name); 2], "{name}");
    }
    let sum =
        |name: &str| Checkpoint::load(dir.path().join(name).join("best.safetensors")).unwrap().progress.best.unwrap();
    assert!(sum("ten").loss > sum("once").loss + 1e-3, "validation has the weights too");

    let with = |weight: &'static str| tiny_arguments(&["--loss-weight", weight]);
    let again = ["--out", "ten", "--resume", "--steps", "2", "--loss-weight", "dynamics=3"];
    fails(dir.path(), &[&["train"][..], &again].concat(), 2, &["--loss-weight", "dynamics=10", "dynamics=3"]);
    fails(dir.path(), &with("volume=2"), 2, &["`volume`", "play, replay, dynamics"]);
    fails(dir.path(), &with("play=-1"), 2, &["`play` counts -1"]);
    fails(dir.path(), &with("play=much"), 2, &["`much` is no number"]);
}

/// Also of threads that would have a row of an LSTM each.
#[test]
fn the_number_of_threads_changes_no_bit() {
    let dir = folder();
    let params = |threads: usize| {
        let options = TrainOptions { out: Some(dir.path().join(threads.to_string())), ..tiny(dir.path(), 4) };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run_quietly(&options)).unwrap();
        last(&options).params
    };
    let one = params(1);
    for threads in [2, 24, 100] {
        assert!(params(threads) == one, "{threads} threads");
    }
}
