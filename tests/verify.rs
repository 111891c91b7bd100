//! Verification beside the checks themselves: workers that crash or hang, reports as files, the matrix of many.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use deepj::gpu::{Capabilities, Machine};
use deepj::verify::kernels::Pass;
use deepj::verify::kernels::harness::kernel::Margin;
use deepj::verify::{DeviceReport, Event, Failure, Outcome, Report, Supervisor, Target, markdown, merged, targets};

fn line(event: &Event) -> String {
    format!("echo '{}'\n", serde_json::to_string(event).unwrap())
}

/// The lines of a worker that does `tasks` checks from number `from` on.
fn checks(from: usize, tasks: usize) -> String {
    let check = |task| {
        let name = format!("add/{task}/portable/here");
        let begun = Event::Begun { task, name, row: Some(("add / portable".into(), Pass::Forward)) };
        let passed =
            Event::Checked { outcome: Outcome::Passed(Margin { share: 0.1, worst: "y[0]".into() }), flips: vec![] };
        line(&begun) + &line(&passed)
    };
    (from..tasks).map(check).collect()
}

/// Verifies with workers that are shell scripts, told by the first task.
#[cfg(unix)]
fn supervised(tasks: usize, script: impl Fn(usize) -> String, stop: &AtomicBool) -> DeviceReport {
    let command = |_, from| {
        let mut command = Command::new("sh");
        command.args(["-c", &(line(&Event::Tasks(tasks)) + &script(from))]);
        command
    };
    let supervisor = Supervisor { command: &command, stop, silence: Some(Duration::from_millis(400)) };
    supervisor.verify(Target::Adapter(0), Some(Capabilities::portable()), |_, _, _| ())
}

/// Begins check number `task`, then does `end`.
fn begins(task: usize, end: &str) -> String {
    let name = format!("lstm/{task}/naive/here");
    line(&Event::Begun { task, name, row: Some(("lstm / naive".into(), Pass::Backward)) }) + end + "\n"
}

#[cfg(unix)]
#[test]
fn a_crash_fails_the_check_and_the_rest_runs() {
    let script = |from| match from {
        0 => checks(0, 2) + &begins(2, "echo 'driver: out of luck' >&2; kill -SEGV $$"),
        3 => checks(3, 6) + &line(&Event::End),
        other => panic!("goes on at {other}"),
    };
    let report = supervised(6, script, &AtomicBool::new(false));
    let row = |name| report.checks.iter().find(|row| row.name == name).unwrap();
    assert_eq!((row("add / portable").cases, row("add / portable").passed), (5, 5));
    let [failure] = &row("lstm / naive").failures[..] else { panic!("{report:?}") };
    assert!(failure.error.contains("signal 11") && failure.error.contains("out of luck"), "{failure:?}");
    assert_eq!(report.defects().len(), 1, "{:?}", report.defects());
}

#[cfg(unix)]
#[test]
fn a_hang_fails_the_check_and_the_rest_runs() {
    let began = Instant::now();
    let script = |from| match from {
        0 => begins(0, "exec sleep 100"),
        1 => checks(1, 6) + &line(&Event::End),
        other => panic!("goes on at {other}"),
    };
    let report = supervised(6, script, &AtomicBool::new(false));
    assert!(began.elapsed() < Duration::from_secs(30));
    assert!(report.defects()[0].contains("hangs"), "{:?}", report.defects());
    assert_eq!(report.counts()[&Pass::Forward], [5, 5]);
}

#[cfg(unix)]
#[test]
fn a_device_that_crashes_always_is_given_up() {
    let report = supervised(20, |from| begins(from, "exit 3"), &AtomicBool::new(false));
    assert_eq!(report.counts()[&Pass::Backward], [8, 0]);
    assert!(report.failures[0].error.contains("12 tasks"), "{:?}", report.failures);
    // Before anything begins nothing can be passed over.
    let report = supervised(6, |_| "echo 'error: no luck' >&2; exit 1".into(), &AtomicBool::new(false));
    let [failure] = &report.failures[..] else { panic!("{report:?}") };
    assert!(failure.name.contains("opening") && failure.error.contains("no luck"), "{failure:?}");
}

#[cfg(unix)]
#[test]
fn what_was_found_before_a_stop_is_kept() {
    let stop = AtomicBool::new(true);
    let report = supervised(6, |_| checks(0, 3) + "exec sleep 100", &stop);
    assert!(report.defects().iter().any(|defect| defect.contains("stopped")), "{:?}", report.defects());
    assert!(report.seconds < 30.0);
}

/// A report with one device, of which `failing` of 10 cases fail.
fn report(name: &str, date: &str, failing: usize) -> Report {
    let capabilities = Capabilities { name: name.into(), ..Capabilities::portable() };
    let mut device = DeviceReport::new(Machine::of(&capabilities), Some(capabilities));
    for case in 0..10 {
        let outcome = match case < failing {
            true => Outcome::Failed { error: "y[3] is 7 | not 8".into(), known: None },
            false => Outcome::Passed(Margin { share: 0.25, worst: "y[0]".into() }),
        };
        device.row("gemm NN / tiled", Pass::Forward).enter(&format!("gemm/{case}"), outcome, vec![]);
    }
    Report { date: date.into(), complete: true, devices: vec![device], ..Report::new() }
}

#[test]
fn reports_are_read_as_they_were_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    let written = report("one", "2026-01-01", 3);
    written.write(&path).unwrap();
    assert_eq!(Report::read(&path).unwrap().to_json(), written.to_json());
}

#[test]
fn what_is_no_report_is_refused_with_its_place() {
    let name = Path::new("their.json");
    let good = report("one", "2026-01-01", 0).to_json();
    for (text, words) in [
        (String::new(), "line 1"),
        ("{".into(), "line 1"),
        (good[..good.len() / 2].into(), "no report"),
        ("[1, 2]".into(), "no report"),
        ("{\"format\": \"something\", \"version\": 1}".into(), "`something`"),
        (good.replace("\"version\": 1", "\"version\": 2"), "version 2"),
        (good.replace("\"cases\"", "\"case\""), "cases"),
    ] {
        let error = Report::parse(name, text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("their.json") && error.contains(words), "{error}, expected {words}");
    }
    assert!(Report::read(Path::new("/nowhere/report.json")).is_err());
    assert!(Report::read(Path::new(".")).is_err());
}

#[test]
fn the_matrix_has_the_newest_report_of_each_device() {
    let reports = [report("one", "2026-01-02", 0), report("two", "2026-01-01", 4), report("one", "2026-01-01", 9)];
    let columns = merged(&reports);
    assert_eq!(columns.len(), 2);
    assert_eq!(columns[0].report.date, "2026-01-02");
    let text = markdown(&columns);
    assert!(text.contains("| gemm NN | 10 (25 %) | **4 of 10 fail** |"), "{text}");
    assert!(text.contains("| all forward | 10 (25 %) |"), "{text}");
    // Every line of a table has as many cells as its head, whatever stands in them.
    for table in text.split("\n\n").filter(|table| table.starts_with('|')) {
        let cells = |line: &str| line.replace("\\|", "").matches('|').count();
        let mut lines = table.lines().filter(|line| line.starts_with('|')).map(cells);
        let head = lines.next();
        assert!(lines.all(|cells| Some(cells) == head), "{table}");
    }
    assert!(text.contains("- gemm/0: y[3] is 7 | not 8"), "{text}");
}

#[test]
fn a_device_without_checks_does_not_work() {
    let empty = DeviceReport::new(Machine::cpu(), None);
    assert_eq!(empty.defects(), ["no check ran"]);
}

#[test]
fn errors_name_no_users() {
    let error = "cannot write /home/jane/.cache/mesa/x, C:\\Users\\Jane Doe\\x or /Users/jane: at";
    let Failure { error, .. } = Failure::new("case", error, None);
    assert!(!error.to_lowercase().contains("jane"), "{error}");
    assert!(error.contains("/home/~/.cache/mesa/x") && error.contains("/Users/~: at"), "{error}");
    assert!(Failure::new("case", &"x".repeat(10_000), None).error.len() < 1000);
}

#[test]
fn devices_are_chosen_by_kind_index_or_name() {
    use deepj::gpu::DeviceType::{Discrete, Software};
    let adapter = |name: &str, device_type, backend: &str| Capabilities {
        name: name.into(),
        device_type,
        backend: backend.into(),
        ..Capabilities::portable()
    };
    let here =
        [adapter("Arc", Discrete, "vulkan"), adapter("Arc", Discrete, "dx12"), adapter("WARP", Software, "dx12")];
    for (choice, expected) in
        [("auto", vec![0, 1]), ("all", vec![0, 1, 2]), ("cpu", vec![]), ("2", vec![2]), ("DX12", vec![1, 2])]
    {
        assert_eq!(targets(choice, &here).unwrap(), expected, "{choice}");
    }
    assert_eq!(targets("auto", &here[2..]).unwrap(), [0], "without hardware those in software");
    for choice in ["nvidia", "3", "", "-1"] {
        let error = targets(choice, &here).unwrap_err().to_string();
        assert!(error.contains("1: Arc [dx12, discrete]"), "{error}");
    }
    assert!(targets("auto", &[]).unwrap().is_empty());
}
