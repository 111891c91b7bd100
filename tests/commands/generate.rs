//! Composing, from the library.

use std::sync::atomic::{AtomicBool, Ordering};

use deepj::checkpoint::Checkpoint;
use deepj::evaluate::evaluate;
use deepj::generate::{Composition, generate};
use deepj::graph::session::KernelSelection;
use deepj::music::roll::{MAX_STEPS, RollNote};
use deepj::music::{CorpusOptions, NoteRange, Part, Roll, RollStats, StylePath};
use deepj::shape::Channels;
use deepj::train::read_corpus;

use crate::{cpu, folder, run_quietly, tiny};

fn trained(dir: &std::path::Path) -> Checkpoint {
    let outcome = run_quietly(&deepj::train::TrainOptions { lr: Some(0.01), ..tiny(dir, 30) }).unwrap();
    Checkpoint::load(outcome.best_checkpoint.unwrap()).unwrap()
}

fn options(checkpoint: &Checkpoint, styles: &[&str]) -> Composition {
    let path = |text: &&str| StylePath::parse(text, &checkpoint.styles).unwrap().0;
    Composition { seed: 1, ..Composition::new(styles.iter().map(path).collect(), 3) }
}

fn compose(checkpoint: &Checkpoint, options: &Composition) -> Vec<Roll> {
    let never = AtomicBool::new(false);
    let composed = generate(checkpoint, options, cpu(), KernelSelection::default(), &never, |_| ());
    pollster::block_on(composed).unwrap().rolls
}

#[test]
fn a_seed_makes_the_same_piece_again_and_another_makes_another() {
    let dir = folder();
    let checkpoint = trained(dir.path());
    let options = options(&checkpoint, &["plain", "plain", "fancy"]);
    let rolls = compose(&checkpoint, &options);
    assert_eq!(rolls, compose(&checkpoint, &options));
    assert!(rolls.iter().all(|roll| roll.steps() == 48 && RollStats::new(roll).notes > 0));
    assert_ne!(rolls[0], rolls[1], "pieces of a batch have draws of their own");
    assert_ne!(rolls, compose(&checkpoint, &Composition { seed: 2, ..options }));
}

#[test]
fn style_temperature_and_silence_matter() {
    let dir = folder();
    let checkpoint = trained(dir.path());
    let base = options(&checkpoint, &["plain"]);
    let plain = compose(&checkpoint, &base);
    assert_ne!(plain, compose(&checkpoint, &options(&checkpoint, &["fancy"])));
    // A path begins with its first style: the first bar is the same, the rest is not.
    let moving = compose(&checkpoint, &options(&checkpoint, &["plain -> fancy"]));
    let bar = |roll: &Roll, bar: usize| (0..16).map(|t| roll.step(bar * 16 + t).to_vec()).collect::<Vec<_>>();
    assert_eq!(bar(&moving[0], 0), bar(&plain[0], 0));
    assert_ne!(bar(&moving[0], 2), bar(&plain[0], 2));
    let notes = |temperature| {
        let rolls = compose(&checkpoint, &Composition { temperature, ..base.clone() });
        RollStats::new(&rolls[0]).notes
    };
    // Hot draws are fair, and most cells of music are silent; cold ones follow the likelier side.
    assert!(notes(100.0) > notes(1.0) && notes(0.01) < notes(1.0), "{} {} {}", notes(100.0), notes(1.0), notes(0.01));
    // From the first silent step on the temperature rises, until something sounds.
    let silence = |silence| {
        let rolls = compose(&checkpoint, &Composition { temperature: 0.3, silence, steps: 8 * 16, ..base.clone() });
        RollStats::new(&rolls[0]).silent_share
    };
    assert!(silence(10.0) < silence(0.0), "{} {}", silence(10.0), silence(0.0));
}

#[test]
fn a_given_beginning_is_kept_and_gone_on_from() {
    let dir = folder();
    let checkpoint = trained(dir.path());
    let corpus = read_corpus(Some(&dir.path().join("corpus")), &CorpusOptions::default()).unwrap();
    // Not a whole number of bars.
    let prime = corpus.pieces[1].roll.clone();
    assert_eq!(prime.steps() % 16, 4);
    let base = options(&checkpoint, &["plain", "plain"]);
    let rolls = compose(&checkpoint, &Composition { prime: Some(prime.clone()), ..base.clone() });
    for roll in &rolls {
        assert_eq!(roll.steps(), prime.steps() + 48);
        assert!((0..prime.steps()).all(|t| roll.step(t) == prime.step(t)));
    }
    assert_ne!(rolls[0], rolls[1]);
    let end = |roll: &Roll| (0..48).map(|t| roll.step(roll.steps() - 48 + t).to_vec()).collect::<Vec<_>>();
    assert_ne!(end(&rolls[0]), end(&compose(&checkpoint, &base)[0]), "the beginning is heard");
    let high = Roll::from_values(NoteRange::new(40, 87).unwrap(), Channels::PERFORMANCE, &[0.0; 48 * 3]).unwrap();
    let never = AtomicBool::new(false);
    let options = Composition { prime: Some(high), ..base };
    let error = pollster::block_on(generate(&checkpoint, &options, cpu(), KernelSelection::default(), &never, |_| ()));
    assert!(error.unwrap_err().what.contains("40..=87"));
}

#[test]
fn what_is_composed_when_stopped_is_kept() {
    let dir = folder();
    let checkpoint = trained(dir.path());
    let stop = AtomicBool::new(false);
    let until = |bars| {
        if bars == 2 {
            stop.store(true, Ordering::Relaxed);
        }
    };
    let options = options(&checkpoint, &["plain"]);
    let composed = generate(&checkpoint, &options, cpu(), KernelSelection::default(), &stop, until);
    let composed = pollster::block_on(composed).unwrap();
    assert!(composed.interrupted);
    assert_eq!(composed.rolls[0].steps(), 32);
}

#[test]
fn options_out_of_range_are_refused() {
    let dir = folder();
    let checkpoint = trained(dir.path());
    let base = options(&checkpoint, &["plain"]);
    let never = AtomicBool::new(false);
    let note = RollNote { pitch: 60, start: 0, end: MAX_STEPS, velocity: 64, replay: false };
    let longest = Roll::from_notes(checkpoint.corpus.range, [note]).unwrap();
    for options in [
        Composition { steps: 0, ..base.clone() },
        Composition { steps: usize::MAX, ..base.clone() },
        Composition { styles: vec![], ..base.clone() },
        Composition { temperature: 0.0, ..base.clone() },
        Composition { temperature: f32::NAN, ..base.clone() },
        Composition { silence: -1.0, ..base.clone() },
        // A beginning as long as a roll can be: nothing can follow.
        Composition { prime: Some(longest), ..base.clone() },
    ] {
        let composed = generate(&checkpoint, &options, cpu(), KernelSelection::default(), &never, |_| ());
        let error = pollster::block_on(composed).unwrap_err();
        assert!(error.exit_code() == 2 && !error.remedy.is_empty(), "{error}");
    }
}

/// The mean over whole pieces does not depend on how they are laid side by side, and training's validation is the same.
#[test]
fn evaluation_does_not_depend_on_the_batch() {
    let dir = folder();
    let checkpoint = trained(dir.path());
    let corpus = read_corpus(Some(&dir.path().join("corpus")), &CorpusOptions::default()).unwrap();
    let never = AtomicBool::new(false);
    let measure = |part, slots| {
        let pieces = corpus.part(&checkpoint.split, part).unwrap();
        let metrics = evaluate(&checkpoint, &pieces, slots, cpu(), KernelSelection::default(), &never, |_| ());
        pollster::block_on(metrics).unwrap().unwrap()
    };
    let near = |a: f64, b: f64| assert!((a - b).abs() <= 1e-6 * a.abs().max(b.abs()), "{a} and {b}");
    let (one, three) = (measure(Part::All, 1), measure(Part::All, 3));
    assert_eq!((one.steps, one.files), (three.steps, three.files));
    assert_eq!(one.files, corpus.pieces.len());
    assert_eq!(one.steps, corpus.pieces.iter().map(|piece| piece.roll.steps()).sum::<usize>());
    near(one.losses.total(), three.losses.total());
    near(one.losses.nats_per_step(), 48.0 * one.losses.get("play_bce").unwrap());
    near(one.losses.total(), one.losses.values().iter().sum());
    let best = checkpoint.progress.best.unwrap();
    near(measure(Part::Validation, 2).losses.total(), best.loss);
    near(measure(Part::Validation, 2).losses.nats_per_step(), best.nats_per_step);
}
