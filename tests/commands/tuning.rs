//! Measured kernels: remembered, overridden, and without a trace in what is computed. Without an adapter the tests say so and
//! pass.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use deepj::gpu::{self, Device};
use deepj::graph::session::{Event, KernelSelection, Origin, Tune};
use deepj::graph::{Graph, Init, Kind, Layout, Plan, ProgramId, Session};
use deepj::ops::View;
use deepj::ops::gemm::{self, Gemm};
use deepj::train::{Observer, TrainOptions, UpdateRecord, prepare, train};
use pollster::block_on;
use serde_json::{Value, json};

use crate::devices::on_adapters;
use crate::{corpus, cpu, deepj, fails, folder, program, tiny, tiny_arguments};

/// What tuning said: kernels measured, kernels left, notices.
#[derive(Clone, Debug, Default, PartialEq)]
struct Said {
    measured: usize,
    left: usize,
    notices: Vec<String>,
}

/// A kernel selection that is measured and remembered in `file`, and what tuning will have said.
fn selection(tune: Tune, file: &Path, overrides: &[(&str, &str)]) -> (KernelSelection, Arc<Mutex<Said>>) {
    let said = Arc::new(Mutex::new(Said::default()));
    let seen = said.clone();
    let observer = move |event: &Event<'_>| {
        let mut said = seen.lock().unwrap();
        match event {
            Event::Finished(tuned) => {
                said.measured += tuned.measured;
                said.left += tuned.left;
            }
            Event::Notice(text) => said.notices.push(text.to_string()),
            Event::Started { .. } | Event::Measuring { .. } => (),
        }
    };
    let overrides = overrides.iter().map(|(kernel, variant)| (kernel.to_string(), variant.to_string())).collect();
    let remembered = Some(file.into());
    (
        KernelSelection {
            overrides,
            tune,
            remembered,
            observer: Some(Arc::new(observer)),
            ..KernelSelection::default()
        },
        said,
    )
}

/// One product of `rows` rows by a parameter.
fn product(rows: usize) -> (Plan, View) {
    let mut layout = Layout::new();
    let w = layout.param("w", &[64, 64], Init::Zero);
    let mut graph = Graph::new(Arc::new(layout));
    let x = graph.tensor("x", rows * 64, Kind::Input);
    let y = graph.tensor("y", rows * 64, Kind::State);
    graph.apply(Gemm::new(gemm::Layout::NN, rows, 64, 64), &[x, w, y]);
    (Plan::compile("product", graph), y)
}

fn add(device: Device, selection: KernelSelection, plan: Plan) -> (Session, ProgramId) {
    let mut session = Session::new(device, selection);
    let id = block_on(session.add(plan)).unwrap();
    (session, id)
}

/// The variant that a session chooses for the one kernel of a product, why, and what tuning said.
fn choice(device: Device, tune: Tune, file: &Path, overrides: &[(&str, &str)]) -> (&'static str, Origin, Said) {
    let (selection, said) = selection(tune, file, overrides);
    let (session, id) = add(device, selection, product(256).0);
    let [chosen] = session.chosen(id)[..] else { panic!("one node") };
    let said = said.lock().unwrap().clone();
    (chosen.variant, chosen.origin, said)
}

#[test]
fn what_was_measured_is_remembered_until_forced() {
    on_adapters(|_, _, device| {
        let dir = folder();
        let file = dir.path().join("cache/tuning.json");
        let once = Said { measured: 1, ..Said::default() };
        let choose = |tune, overrides: &[(&str, &str)]| choice(device(), tune, &file, overrides);

        let (first, origin, said) = choose(Tune::Off, &[]);
        assert_eq!((origin, said, file.exists()), (Origin::Default, Said::default(), false));
        let overridden = choose(Tune::Force, &[("gemm", "naive")]);
        assert_eq!((overridden, file.exists()), (("naive", Origin::Override, Said::default()), false));

        let (chosen, origin, said) = choose(Tune::On, &[]);
        assert_eq!((origin, said), (Origin::Tuned, once.clone()));
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(choose(Tune::On, &[]), (chosen, Origin::Tuned, Said::default()));
        assert_eq!(choose(Tune::Off, &[]), (first, Origin::Default, Said::default()));
        assert_eq!(choose(Tune::On, &[("gemm", "tiled")]), ("tiled", Origin::Override, Said::default()));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
        assert_eq!(choose(Tune::Force, &[]).2, once);

        // The remembered times decide: another is chosen once the file calls it the fastest.
        let mut records: Value = serde_json::from_str(&text).unwrap();
        let kernels = &mut records["records"][0]["kernels"];
        let shape = &kernels[0]["shape"];
        assert_eq!(
            [&shape["m"], &shape["n"], &shape["k"], &shape["layout"]],
            [&json!(256), &json!(64), &json!(64), &json!("NN")]
        );
        let us = &mut kernels[0]["us"];
        let other = us.as_object().unwrap().keys().find(|variant| *variant != chosen).unwrap().clone();
        us[&other] = 1e-3.into();
        std::fs::write(&file, records.to_string()).unwrap();
        assert_eq!(choose(Tune::On, &[]), (other.as_str(), Origin::Tuned, Said::default()));
        // Shaders that have changed since are measured again.
        records["records"][0]["kernels"][0]["shaders"] = 1.into();
        std::fs::write(&file, records.to_string()).unwrap();
        assert_eq!(choose(Tune::On, &[]).2, once);
    });
}

#[test]
fn a_broken_file_is_said_once_and_written_anew() {
    on_adapters(|_, _, device| {
        let dir = folder();
        let file = dir.path().join("tuning.json");
        std::fs::write(&file, "{\"format\": \"deepj tuning\", \"ver").unwrap();
        let (chosen, _, said) = choice(device(), Tune::On, &file, &[]);
        assert_eq!((said.measured, said.notices.len()), (1, 1), "{said:?}");
        assert!(said.notices[0].contains("tuning.json"), "{said:?}");
        assert_eq!(choice(device(), Tune::On, &file, &[]), (chosen, Origin::Tuned, Said::default()));
        // A folder in its place cannot be replaced: the run goes on without.
        let folder = dir.path().join("folder");
        std::fs::create_dir(&folder).unwrap();
        let (_, origin, said) = choice(device(), Tune::On, &folder, &[]);
        assert_eq!((origin, said.measured, said.notices.len()), (Origin::Tuned, 1, 2), "{said:?}");
    });
}

#[test]
fn measuring_touches_no_parameter_and_no_state() {
    on_adapters(|_, _, device| {
        let dir = folder();
        let (selection, said) = selection(Tune::Force, &dir.path().join("tuning.json"), &[]);
        let (plan, _) = product(256);
        let (mut session, first) = add(device(), selection, plan);
        let params = session.plan(first).buffer(Kind::Params);
        let values: Vec<f32> = (0..params.len).map(|i| i as f32).collect();
        session.write(first, params, &values).unwrap();
        let (plan, state) = product(512);
        let second = block_on(session.add(plan)).unwrap();
        assert_eq!(said.lock().unwrap().measured, 2);
        let params = session.plan(second).buffer(Kind::Params);
        let read = block_on(session.read(second, &[params, state])).unwrap();
        assert_eq!(read[0], values);
        assert!(read[1].iter().all(|&y| y == 0.0));
    });
}

#[derive(Default)]
struct Losses(Vec<[u64; 4]>);

impl Observer for Losses {
    fn stepped(&mut self, r: &UpdateRecord) {
        self.0.push(
            [r.losses.values()[0], r.losses.values()[1], r.losses.values()[2], r.gradient_norm].map(f64::to_bits),
        );
    }
}

/// A run that measures and one that remembers take the same kernels, and have the same losses to the bit.
#[test]
fn a_tuned_run_is_the_remembered_one_to_the_bit() {
    on_adapters(|_, _, device| {
        let dir = folder();
        let file = dir.path().join("tuning.json");
        let losses = |tune| {
            let options = TrainOptions { force: true, ..tiny(dir.path(), 3) };
            let (selection, said) = selection(tune, &file, &[("gemm", "register")]);
            let (mut losses, never) = (Losses::default(), AtomicBool::new(false));
            block_on(train(prepare(&options, &cpu()).unwrap(), device(), selection, &mut losses, &never)).unwrap();
            let said = said.lock().unwrap().clone();
            (losses.0, said)
        };
        let (tuned, said) = losses(Tune::Force);
        if said.left > 0 {
            println!("skipped: measuring takes too long here");
            return;
        }
        assert!(said.measured > 1, "{said:?}");
        assert_eq!(losses(Tune::On), (tuned, Said::default()));
    });
}

#[test]
fn the_program_tunes_once_and_keeps_standard_output_clean() {
    if block_on(gpu::adapters()).is_empty() {
        println!("skipped: no adapter here");
        return;
    }
    let dir = folder();
    let path = dir.path();
    corpus(&path.join("corpus"), 4, 4, 48);
    let run = |more: &[&str], tune: &str| {
        let arguments = tiny_arguments(&[&["--steps", "1", "--device", "0"], more].concat());
        let output = program(path, &arguments).env("XDG_CACHE_HOME", path).env("DEEPJ_TUNE", tune).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{errors}");
        (String::from_utf8(output.stdout).unwrap(), errors)
    };
    let overrides = ["--variant", "gemm=register", "--variant", "lstm_bwd=naive", "--json", "--force"];
    let [file, peaks] = ["deepj/tuning.json", "deepj/peaks.json"].map(|name| path.join(name));
    let (_, errors) = run(&overrides, "off");
    assert!(!errors.contains("tun") && !file.exists() && !peaks.exists(), "{errors}");
    let (out, errors) = run(&overrides, "on");
    assert!(errors.contains("remembered in") && errors.contains("tuning.json") && file.exists(), "{errors}");
    assert!(peaks.exists());
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["step"], 1);
    let (_, errors) = run(&overrides, "on");
    assert!(!errors.contains("tun"), "{errors}");
    let (plan, _) = run(&["--variant", "gemm=register", "--variant", "lstm_bwd=naive", "--explain", "--force"], "on");
    for (node, kernel) in [
        ("gemm NN", "register, overridden"),
        ("lstm backward", "naive, overridden"),
        ("lstm forward", ", tuned"),
        ("nadam", ", default"),
    ] {
        assert!(plan.lines().any(|line| line.contains(node) && line.contains(kernel)), "{node}, {kernel}: {plan}");
    }
}

#[test]
fn overrides_of_what_there_is_not_are_wrong_use() {
    let dir = folder();
    let path = dir.path();
    corpus(&path.join("corpus"), 4, 4, 48);
    fails(path, &tiny_arguments(&["--variant", "gemm=naive"]), 2, &["gemm=naive", "CPU"]);
    fails(path, &tiny_arguments(&["--tune", "never"]), 2, &["never"]);
    if block_on(gpu::adapters()).is_empty() {
        println!("skipped: no adapter here");
        return;
    }
    let by_user = |by_user| tiny_arguments(&["--device", "0", "--tune", "off", "--variant", by_user]);
    fails(path, &by_user("lstm_fwt=naive"), 2, &["lstm_fwt", "did you mean `lstm_fwd`?", "gemm"]);
    fails(path, &by_user("lstm_fwd=nave"), 2, &["nave", "did you mean `naive`?", "block"]);
    fails(path, &by_user("lstm_fwd"), 2, &["no `=`"]);
    // An override that training alone has does not disturb the samples at its end.
    let mut arguments = by_user("lstm_bwd=naive");
    arguments.extend(["--steps", "1", "--seed", "1"]);
    let samples = arguments.iter().position(|a| *a == "--samples").unwrap();
    arguments[samples + 1] = "1";
    let output = deepj(path, &arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
