//! Verification beside the checks themselves: workers that crash or hang, reports as files, the matrix of many.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use deepj::gpu::{Capabilities, Machine};
use deepj::verify::kernels::Pass;
use deepj::verify::kernels::harness::comparison::Margin;
use deepj::verify::{DeviceReport, Event, Failure, Outcome, Report, Supervisor, Target, markdown, merged, targets};

fn line(event: &Event) -> String {
    format!("echo '{}'\n", serde_json::to_string(event).unwrap())
}

/// The lines of a worker that does `tasks` checks from number `from` on.
fn checks(from: usize, tasks: usize) -> String {
    let check = |task| {
        let name = format!("add/{task}/portable/here");
        let begun = Event::Begun { task, name, row: Some(("add / portable".into(), Pass::Forward)) };
        let passed = Event::Checked {
            outcome: Outcome::Passed(Margin { share: 0.1, worst: "y[0]".into() }),
            other_draws: vec![],
        };
        line(&begun) + &line(&passed)
    };
    (from..tasks).map(check).collect()
}

/// Verifies with workers that are shell scripts, told by the first task.
#[cfg(unix)]
fn supervised(tasks: usize, script: impl Fn(usize) -> String) -> DeviceReport {
    supervised_until(tasks, script, &AtomicBool::new(false), |_| ())
}

/// The same; `progress` is told how many checks have passed. A busy machine starts a shell in less than the silence.
#[cfg(unix)]
fn supervised_until(
    tasks: usize,
    script: impl Fn(usize) -> String,
    stop: &AtomicBool,
    progress: impl Fn(usize),
) -> DeviceReport {
    let command = |_, from| {
        let mut command = Command::new("sh");
        let machine = Machine::of(&Capabilities::portable());
        command.args(["-c", &(line(&Event::Tasks { tasks, machine }) + &script(from))]);
        command
    };
    let supervisor = Supervisor { command: &command, stop, silence: Some(Duration::from_secs(5)) };
    let mut first = None;
    let report = supervisor.verify(Target::Adapter(0), Some(Capabilities::portable()), |report, _, _| {
        first.get_or_insert_with(|| report.running.clone());
        progress(report.counts().values().map(|[_, passed]| passed).sum());
    });
    // What the report on the disk says of a machine that stands still at once.
    assert_eq!(first, Some(Some("opening the device".into())));
    report
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
    let report = supervised(6, script);
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
    let report = supervised(6, script);
    assert!(began.elapsed() < Duration::from_secs(30));
    assert!(report.defects()[0].contains("hangs"), "{:?}", report.defects());
    assert_eq!(report.counts()[&Pass::Forward], [5, 5]);
}

#[cfg(unix)]
#[test]
fn a_device_that_crashes_always_is_given_up() {
    let report = supervised(20, |from| begins(from, "exit 3"));
    assert_eq!(report.counts()[&Pass::Backward], [8, 0]);
    assert!(report.failures[0].error.contains("12 tasks"), "{:?}", report.failures);
    // Before anything begins nothing can be passed over.
    let report = supervised(6, |_| "echo 'error: no luck' >&2; exit 1".into());
    let [failure] = &report.failures[..] else { panic!("{report:?}") };
    assert!(failure.name.contains("opening") && failure.error.contains("no luck"), "{failure:?}");
}

#[cfg(unix)]
#[test]
fn what_was_found_before_a_stop_is_kept() {
    let (stop, began) = (AtomicBool::new(false), Instant::now());
    let script = |_| checks(0, 3) + &begins(3, "exec sleep 100");
    let report = supervised_until(6, script, &stop, |passed| stop.store(passed == 3, Ordering::Relaxed));
    assert_eq!(report.counts()[&Pass::Forward], [3, 3]);
    assert!(report.defects().iter().any(|defect| defect.contains("stopped")), "{:?}", report.defects());
    assert!(began.elapsed() < Duration::from_secs(30));
}

#[cfg(unix)]
#[test]
fn results_that_are_lost_are_missed() {
    let whole: Vec<String> = checks(0, 6).lines().map(String::from).collect();
    for lost in 0..whole.len() {
        let mut lines = whole.clone();
        // As a driver does that writes without an end of line.
        lines[lost] = lines[lost].replace("echo '", "echo 'driver: ");
        let script = |from| match from {
            0 => lines.join("\n") + "\n" + &line(&Event::End),
            other => panic!("goes on at {other}"),
        };
        let report = supervised(6, script);
        assert_eq!(report.counts()[&Pass::Forward][1], 5, "line {lost}");
        assert!(!report.defects().is_empty(), "line {lost}");
    }
    let report = supervised(6, |_| checks(0, 5) + &line(&Event::End));
    assert!(report.defects()[0].contains("1 tasks told nothing"), "{:?}", report.defects());
    assert_eq!(supervised(6, |_| checks(0, 6) + &line(&Event::End)).defects(), Vec::<String>::new());
}

#[cfg(unix)]
#[test]
fn a_worker_that_stays_after_its_end_is_not_waited_for() {
    let began = Instant::now();
    let report = supervised(6, |_| checks(0, 6) + &line(&Event::End) + "exec sleep 100");
    assert!(report.defects().is_empty() && began.elapsed() < Duration::from_secs(30));
}

#[cfg(unix)]
#[test]
fn a_device_that_is_being_reset_is_tried_again() {
    let starts = AtomicUsize::new(0);
    let script = |from| match (from, starts.fetch_add(1, Ordering::Relaxed)) {
        (0, _) => begins(0, "kill -KILL $$"),
        (1, 1) => "echo 'error: no device' >&2; exit 1".into(),
        (1, _) => checks(1, 6) + &line(&Event::End),
        (other, _) => panic!("goes on at {other}"),
    };
    let report = supervised(6, script);
    assert_eq!(report.counts()[&Pass::Forward], [5, 5]);
    assert_eq!(report.defects().len(), 1, "{:?}", report.defects());
}

#[cfg(unix)]
#[test]
fn the_cause_of_a_crash_is_kept_and_names_no_user() {
    let noise = "for i in 1 2 3 4 5 6 7 8 9; do echo 'MESA: a warning that tells nothing of what follows it' >&2; done";
    let cause = "echo 'THE CAUSE in /home/jane doe/deepj/x.rs' >&2; kill -ABRT $$";
    let report = supervised(1, |from| begins(from, &format!("{noise}; {noise}; {cause}")));
    let defect = &report.defects()[0];
    assert!(defect.contains("THE CAUSE in /home/~/deepj/x.rs"), "{defect}");
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
    assert_eq!(Report::read(&path).unwrap().to_json().unwrap(), written.to_json().unwrap());
}

#[test]
fn what_is_no_report_is_refused_with_its_place() {
    let name = Path::new("their.json");
    let good = report("one", "2026-01-01", 0).to_json().unwrap();
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
    assert!(text.contains("- `gemm/0: y[3] is 7 | not 8`"), "{text}");
}

#[test]
fn a_device_without_checks_does_not_work() {
    let empty = DeviceReport::new(Machine::cpu(), None);
    assert_eq!(empty.defects(), ["no check ran"]);
}

#[test]
fn errors_name_no_users() {
    let public = |error: &str| Failure::new("case", error, None).error;
    for (error, expected) in [
        ("cannot write /home/jane/.cache/mesa/x", "cannot write /home/~/.cache/mesa/x"),
        ("C:\\Users\\Jane Doe\\x and c:\\users\\jane doe\\y", "C:\\Users\\~\\x and c:\\users\\~\\y"),
        ("\"C:\\\\Users\\\\Jane Doe\\\\x\"", "\"C:\\\\Users\\\\~\\\\x\""),
        ("at /Users/jane", "at /Users/~"),
        ("y[3] is 7, must be 8", "y[3] is 7, must be 8"),
    ] {
        assert_eq!(public(error), expected);
    }
    let here = std::env::current_dir().unwrap().join("src");
    assert!(public(&format!("panicked at {}", here.display())).ends_with("/src"), "{}", public(here.to_str().unwrap()));
    assert!(!public(&format!("panicked at {}", here.display())).contains(here.to_str().unwrap()));
    assert!(public(&"x".repeat(10_000)).len() < 1000);
}

#[test]
fn a_partial_report_does_not_hide_failures() {
    let failing = report("one", "2026-01-01", 3);
    let partial = Report { complete: false, ..report("one", "2026-01-02", 0) };
    let fine = report("one", "2026-01-01", 0);
    let reports = [partial, failing, fine];
    let columns = merged(&reports);
    assert_eq!(columns.len(), 1);
    assert!(markdown(&columns).contains("3 of 10 fail"));
    let other_build = Report { shaders: "another".into(), ..report("one", "2026-01-01", 0) };
    assert_eq!(merged(&[reports[1].clone(), other_build]).len(), 2);
}

/// What ran when a machine stood still has failed, also beside a report in which all is well.
#[test]
fn a_lock_up_is_not_made_good_by_another_report() {
    let mut locked = Report { complete: false, ..report("one", "2026-01-01", 0) };
    locked.devices[0].running = Some("gemm/7".into());
    let fine = report("one", "2026-01-02", 0);
    for reports in [[locked.clone(), fine.clone()], [fine.clone(), locked]] {
        let columns = merged(&reports);
        assert_eq!((columns.len(), columns[0].device.defects().len()), (1, 1));
        let text = markdown(&columns);
        assert!(text.contains("| 1 failure |") && text.contains("gemm/7: was running"), "{text}");
    }
}

/// Of parts that both have a row the failures are all kept, whichever has more cases.
#[test]
fn parts_that_are_joined_keep_all_failures() {
    let part = |failures: usize| Report { complete: false, ..report("one", "2026-01-01", failures) };
    for reports in [[part(0), part(2)], [part(2), part(0)]] {
        let columns = merged(&reports);
        assert_eq!(columns[0].device.defects().len(), 2);
        assert_eq!(columns[0].device.counts()[&Pass::Forward], [10, 8]);
        assert!(markdown(&columns).contains("**2 of 10 fail**"));
    }
}

#[test]
fn the_summary_says_what_failed() {
    use deepj::verify::{Generation, Training, summary};
    let Report { mut devices, .. } = report("one", "2026-01-01", 0);
    let device = &mut devices[0];
    let losses = vec![1.0; 20];
    device.training =
        Some(Training { cpu: losses.clone(), losses, off_by: 0.3, tolerance: 1e-4, error: None, seconds: 1.0 });
    let error = Some("piece 0 is other music".into());
    device.generation = Some(Generation { steps: 64, pieces: 4, margin: None, other_draws: vec![], error });
    let text = summary(device);
    assert!(
        text.contains("FAILED       short training") && text.contains("FAILED       generation: piece 0"),
        "{text}"
    );
    assert!(!text.contains("like the f64 reference's"), "{text}");
    // A failure that is known is no defect, and does not count as passed.
    let known = Outcome::Failed { error: "y[0]".into(), known: Some("a driver's defect".into()) };
    device.row("gemm NN / tiled", Pass::Forward).enter("gemm/10", known, vec![]);
    assert_eq!(device.defects().len(), 2);
    let whole = Report { devices, ..report("one", "2026-01-01", 0) };
    assert!(markdown(&merged(&[whole])).contains("10 (25 %), 1 known"));
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
    let here = [
        adapter("Arc A770", Discrete, "vulkan"),
        adapter("Arc A770", Discrete, "dx12"),
        adapter("WARP", Software, "dx12"),
    ];
    for (choice, expected) in [
        ("auto", vec![0, 1]),
        ("all", vec![0, 1, 2]),
        ("cpu", vec![]),
        ("2", vec![2]),
        ("DX12", vec![1, 2]),
        ("CPU", vec![]),
        ("770", vec![0, 1]),
    ] {
        assert_eq!(targets(choice, &here).unwrap(), expected, "{choice}");
    }
    assert_eq!(targets("auto", &here[2..]).unwrap(), [0], "without hardware those in software");
    for choice in ["nvidia", "3", "", "-1"] {
        let error = targets(choice, &here).unwrap_err().to_string();
        assert!(error.contains("1: Arc A770 [dx12, discrete]"), "{error}");
    }
    assert!(targets("auto", &[]).unwrap().is_empty());
}

/// The reports that the project keeps.
fn kept() -> Vec<std::path::PathBuf> {
    let runs = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/runs")).unwrap();
    let mut paths: Vec<_> =
        runs.map(|run| run.unwrap().path().join("verify.json")).filter(|path| path.exists()).collect();
    paths.sort();
    paths
}

#[test]
fn the_page_of_adapters_is_what_the_kept_reports_say() {
    let reports: Vec<Report> = kept().iter().map(|path| Report::read(path).unwrap()).collect();
    assert!(reports.iter().any(|report| report.complete && report.devices.len() > 1), "{:?}", kept());
    let page = include_str!("../docs/ADAPTERS.md");
    let matrix = markdown(&merged(&reports));
    assert!(
        page.contains(matrix.trim()),
        "docs/ADAPTERS.md is not `deepj verify --merge benches/runs/*/verify.json --markdown`"
    );
}
