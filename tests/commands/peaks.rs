//! Roofline limits as they are remembered, printed, and held against training's speed.

use std::fs;
use std::path::Path;

use deepj::gpu::{self, Device, Machine};
use deepj::peaks::{Measurement, RooflineLimits, of, recall, remember, replace};
use pollster::block_on;
use serde_json::Value;

use crate::{corpus, folder, program};

/// No machine's own.
const PEAKS: RooflineLimits = RooflineLimits {
    f32_gflops: 12_345.0,
    f16_gflops: None,
    matrix_gflops: Some(3.5),
    bandwidth_gbs: 4.5,
    workgroup_gbs: None,
    launch_us: 6.5,
    readback_us: 0.0,
    cache_gbs: None,
    measurement: Some(Measurement { on: String::new(), load: None, spread: 0.0 }),
};

/// The roofline limits of the CPU as remembered in `file`, and what was said.
fn peaks_of_cpu(file: Option<&Path>) -> (RooflineLimits, Vec<String>) {
    let mut notices = vec![];
    let device = Device::Cpu { why: String::new() };
    let peaks = block_on(of(&device, file, |text| notices.push(text.into()))).unwrap();
    (peaks, notices)
}

/// Whether these were measured at one time: what is read from a file may be off in the last place.
fn same(a: &RooflineLimits, b: &RooflineLimits) -> bool {
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-12 * a.abs();
    near(a.f32_gflops, b.f32_gflops) && near(a.bandwidth_gbs, b.bandwidth_gbs) && near(a.launch_us, b.launch_us)
}

/// Runs the program with the user's cache folder in `dir`; standard output and standard error.
fn run(dir: &Path, arguments: &[&str]) -> [String; 2] {
    let output = program(dir, arguments).env("XDG_CACHE_HOME", dir).output().unwrap();
    let [out, errors] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(output.status.success(), "deepj {arguments:?}: {errors}");
    [out, errors]
}

#[test]
fn what_is_remembered_is_not_measured_again() {
    let dir = folder();
    let file = dir.path().join("cache/peaks.json");
    remember(&file, &Machine::cpu(), &PEAKS).unwrap();
    assert_eq!(peaks_of_cpu(Some(&file)), (PEAKS, vec![]));
    assert_ne!(peaks_of_cpu(None).0, PEAKS);
    // Another machine's say nothing.
    let other = Machine { driver: "another number of threads".into(), ..Machine::cpu() };
    let others = dir.path().join("others.json");
    remember(&others, &other, &PEAKS).unwrap();
    let (measured, _) = peaks_of_cpu(Some(&others));
    assert_ne!(measured, PEAKS);
    assert!(same(&recall(&others, &Machine::cpu()).unwrap().unwrap(), &measured));
    // Nor are they where nothing is known against them; what was measured beside other work is, and the better figures stay.
    let measured = |load| Some(Measurement { on: "2026-11-29".into(), load: Some(load), spread: 0.0 });
    let quiet = RooflineLimits { measurement: measured(0.1), ..PEAKS };
    replace(&file, &Machine::cpu(), &quiet).unwrap();
    assert_eq!(peaks_of_cpu(Some(&file)), (quiet, vec![]));
    let busy = RooflineLimits { bandwidth_gbs: 1e-3, measurement: measured(0.9), ..PEAKS };
    replace(&file, &Machine::cpu(), &busy).unwrap();
    let (again, notices) = peaks_of_cpu(Some(&file));
    assert!(again.bandwidth_gbs > 0.1 && again.f32_gflops == busy.f32_gflops && notices.is_empty(), "{again:?}");
    assert_ne!(again.measurement, busy.measurement);
    // As an earlier version kept them: nobody knows how busy the machine was.
    let old = RooflineLimits { bandwidth_gbs: 1e-3, measurement: None, ..PEAKS };
    replace(&file, &Machine::cpu(), &old).unwrap();
    assert!(peaks_of_cpu(Some(&file)).0.bandwidth_gbs > 0.1);
}

#[test]
fn a_file_of_no_use_is_said_and_replaced() {
    let dir = folder();
    let file = dir.path().join("peaks.json");
    for text in
        ["{\"format\": \"deepj peaks\", \"ver", "{\"format\": \"deepj peaks\", \"version\": 99, \"records\": []}"]
    {
        fs::write(&file, text).unwrap();
        let (measured, notices) = peaks_of_cpu(Some(&file));
        assert!(notices.len() == 1 && notices[0].contains("peaks.json"), "{notices:?}");
        let again = recall(&file, &Machine::cpu()).unwrap().unwrap();
        assert!(same(&again, &measured), "{measured:?}, {again:?}");
    }
    // A folder in its place cannot be replaced.
    let (_, notices) = peaks_of_cpu(Some(dir.path()));
    assert!(notices.len() == 2 && notices[1].contains("cannot be written"), "{notices:?}");
}

#[test]
fn the_program_measures_anew_and_remembers() {
    let dir = folder();
    let path = dir.path();
    let file = path.join("deepj/peaks.json");
    let [out, _] = run(path, &["peaks", "--json", "--tune", "off"]);
    let measured: Value = serde_json::from_str(&out).unwrap();
    assert!(measured["peaks"]["f32_gflops"].as_f64().is_some_and(|gflops| gflops > 0.0), "{out}");
    assert_eq!((measured["machine"]["backend"].as_str(), measured["remembered"].is_null()), (Some("cpu"), true));
    assert!(!file.exists());

    remember(&file, &Machine::cpu(), &PEAKS).unwrap();
    // What is remembered is better by far, and stays unless it is to be forgotten.
    let [_, errors] = run(path, &["peaks"]);
    let line = errors.lines().find(|line| line.starts_with("note: f32: ")).unwrap_or_else(|| panic!("{errors}"));
    assert!(line.contains(&format!("{:.1} GFLOP/s remembered, ", PEAKS.f32_gflops)), "{line}");
    assert!(line.ends_with(" measured now; the remembered one is kept"), "{line}");
    let kept = || recall(&file, &Machine::cpu()).unwrap().unwrap();
    assert_eq!((kept().f32_gflops, kept().matrix_gflops), (PEAKS.f32_gflops, PEAKS.matrix_gflops));
    let [out, errors] = run(path, &["peaks", "--tune", "force"]);
    let line = "note: matrix units: 3.5 GFLOP/s remembered, none measured now; this time's is kept\n";
    assert!(errors.contains(line), "{errors}");
    assert!(errors.contains("remembered in") && errors.contains("peaks.json"), "{errors}");
    let line =
        |what: &str| out.lines().find(|line| line.trim_start().starts_with(what)).unwrap_or_default().to_string();
    assert!(line("f32").contains("GFLOP/s") && line("device memory").contains("GB/s"), "{out}");
    assert!(line("launch").contains(" us ") && line("f16").ends_with("none"), "{out}");
    let remembered = kept();
    assert!(remembered.f32_gflops < PEAKS.f32_gflops, "{remembered:?}");
    assert!(line("f32").contains(&format!(" {:.1} ", remembered.f32_gflops)), "{remembered:?}: {out}");

    if block_on(gpu::adapters()).is_empty() {
        println!("skipped on an adapter: there is none here");
        return;
    }
    let [out, _] = run(path, &["peaks", "--json", "--device", "0"]);
    let measured: Value = serde_json::from_str(&out).unwrap();
    assert!(measured["peaks"]["workgroup_gbs"].as_f64().is_some_and(|gbs| gbs > 0.0), "{out}");
    assert!(measured["remembered"].as_str().is_some_and(|path| path.ends_with("peaks.json")), "{out}");
    assert_eq!(kept(), remembered, "the CPU's stay");
}

#[test]
fn training_shows_its_speed_in_percent_of_the_peak() {
    let dir = folder();
    let path = dir.path();
    corpus(&path.join("corpus"), 4, 4, 48);
    let file = path.join("deepj/peaks.json");
    remember(&file, &Machine::cpu(), &PEAKS).unwrap();
    let train = |tune| {
        let budget = ["--minutes", "0.05", "--validate-every", "1000000", "--samples", "0"];
        let arguments = ["train", "--data", "corpus", "--out", "run", "--force", "--json", "--tune", tune];
        let [out, errors] = run(path, &[&arguments[..], &budget].concat());
        assert!(serde_json::from_str::<Value>(&out).is_ok(), "{out}");
        let peak = errors.split("measured peak of the device in f32: ").nth(1).and_then(|rest| rest.split(' ').next());
        let (speed, percent) =
            errors.split_once(" % of the f32 peak").expect("a line of progress").0.rsplit_once(" GFLOP/s (").unwrap();
        let speed = speed.rsplit(' ').next().unwrap();
        let [peak, speed, percent] = [peak.unwrap(), speed, percent].map(|number| number.parse::<f64>().expect(number));
        // As printed, to one digit.
        assert!((percent - 100.0 * speed / peak).abs() <= 0.05 + 100.0 * 0.05 / peak + 1e-9, "{errors}");
        peak
    };
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(train("on"), PEAKS.f32_gflops, "remembered");
    assert_ne!(train("off"), PEAKS.f32_gflops, "measured");
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    // A broken file is replaced.
    fs::write(&file, "{").unwrap();
    assert_ne!(train("on"), PEAKS.f32_gflops, "measured");
    assert_ne!(fs::read_to_string(&file).unwrap(), "{");
}
