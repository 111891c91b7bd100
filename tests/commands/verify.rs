//! `deepj verify` from the command line.

use std::fs;

use deepj::gpu::Machine;
use deepj::verify::kernels::Pass;
use deepj::verify::kernels::harness::comparison::Margin;
use deepj::verify::{DeviceReport, Outcome, Report};

use super::{deepj, fails, folder, program, succeeds};

#[test]
fn a_machine_without_adapters_gets_a_report_and_is_told_why() {
    let dir = folder();
    // There is no Metal here, so no adapter is found; on a Mac there is no Direct3D.
    let other = if cfg!(target_os = "macos") { "dx12" } else { "metal" };
    let arguments = ["verify", "--device", "auto", "--only", "add/61", "--report", "report.json"];
    let output = program(dir.path(), &arguments).env("WGPU_BACKEND", other).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let why = format!("WGPU_BACKEND={other} leaves out the adapters of all other backends");
    assert!(errors.contains(&why), "{errors}");
    let report = Report::read(&dir.path().join("report.json")).unwrap();
    assert!(report.notes.iter().any(|note| note.contains(&why)), "{:?}", report.notes);
    let [cpu] = &report.devices[..] else { panic!("{} devices", report.devices.len()) };
    assert!(cpu.capabilities.is_none() && cpu.defects().is_empty());
    assert_eq!(cpu.checks.iter().map(|row| row.cases).sum::<usize>(), 2, "{:?}", cpu.checks);
}

#[cfg(target_os = "linux")]
#[test]
fn a_machine_without_drivers_is_told_what_to_install() {
    let dir = folder();
    let mut program =
        program(dir.path(), &["verify", "--device", "auto", "--only", "add/61", "--report", "report.json"]);
    for drivers in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES", "__EGL_VENDOR_LIBRARY_FILENAMES"] {
        program.env(drivers, "/nonexistent");
    }
    let output = program.env_remove("WGPU_BACKEND").output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    for system in ["Debian", "Fedora", "Arch", "Windows", "macOS"] {
        assert!(errors.contains(system), "{errors}");
    }
    let report = Report::read(&dir.path().join("report.json")).unwrap();
    assert!(report.notes.iter().any(|note| note.contains("mesa-vulkan-drivers")), "{:?}", report.notes);
}

#[test]
fn every_adapter_is_verified() {
    let dir = folder();
    let adapters = pollster::block_on(deepj::gpu::adapters()).len();
    if adapters == 0 {
        println!("no adapter here: only the CPU backend is verified");
    }
    succeeds(dir.path(), &["verify", "--device", "all", "--only", "add/61", "--report", "report.json"]);
    let report = Report::read(&dir.path().join("report.json")).unwrap();
    assert_eq!(report.devices.len(), 1 + adapters);
    assert!(!report.complete, "a selection is not all");
    for device in &report.devices[1..] {
        assert_eq!(device.checks.len(), 1, "{}", device.name());
        assert!(device.checks[0].passed >= 1 && device.defects().is_empty(), "{:?}", device.checks);
        assert!(device.timestamp_period_ns.is_some());
    }
    let shown = succeeds(dir.path(), &["verify", "--merge", "report.json", "report.json", "--markdown"]);
    assert!(shown.contains("| add |"), "{shown}");
}

#[test]
fn a_report_names_neither_machine_nor_user() {
    let dir = folder();
    succeeds(dir.path(), &["verify", "--only", "add/61", "--report", "report.json"]);
    let text = fs::read_to_string(dir.path().join("report.json")).unwrap();
    let host = fs::read_to_string("/etc/hostname").unwrap_or_default();
    let mut private = vec![dir.path().display().to_string(), env!("CARGO_MANIFEST_DIR").to_string()];
    private.extend(["HOME", "HOSTNAME"].iter().filter_map(|name| std::env::var(name).ok()));
    private.push(host.trim().to_string());
    for name in private.iter().filter(|name| name.len() > 3) {
        assert!(!text.contains(name.as_str()), "the report contains {name}");
    }
}

/// A script that merges the reports of many machines learns of a failure by the exit code, and by the error of which one.
#[test]
fn merging_fails_where_a_report_does() {
    let dir = folder();
    let write = |name: &str, date: &str, devices: Vec<DeviceReport>| {
        let report = Report { date: date.into(), complete: true, devices, ..Report::new() };
        report.write(&dir.path().join(name)).unwrap();
    };
    let device = |outcome: Option<Outcome>| {
        let mut device = DeviceReport::new(Machine::cpu(), None);
        if let Some(outcome) = outcome {
            device.row("add / mirror", Pass::Forward).enter("add/1", outcome, vec![]);
        }
        vec![device]
    };
    let passed = || Some(Outcome::Passed(Margin { share: 0.1, worst: "y[0]".into() }));
    write("fine.json", "2026-01-02", device(passed()));
    write("failed.json", "2026-01-01", device(Some(Outcome::Failed { error: "y[0] is 7".into(), known: None })));
    write("without-checks.json", "2026-01-01", device(None));
    write("without-devices.json", "2026-01-01", vec![]);
    let text = succeeds(dir.path(), &["verify", "--merge", "fine.json", "fine.json"]);
    assert!(!text.contains("did not come to its end"), "{text}");
    let part = Report { complete: false, ..Report::read(&dir.path().join("fine.json")).unwrap() };
    part.write(&dir.path().join("part.json")).unwrap();
    let text = succeeds(dir.path(), &["verify", "--merge", "part.json"]);
    assert!(text.contains("did not come to its end"), "{text}");
    for (file, why, shown, in_words) in [
        ("failed.json", "CPU backend", "| 1 failure |", "add/1: y[0] is 7"),
        ("without-checks.json", "CPU backend", "`no check ran`", "no check ran"),
        ("without-devices.json", "no device in it: nothing was verified", "No device was verified.", ""),
    ] {
        let said = format!("{file} ({why})");
        for (arguments, shown) in
            [(&["verify", "--merge", file, "--markdown"][..], shown), (&["verify", "--merge", file], in_words)]
        {
            fails(dir.path(), arguments, 1, &[&said]);
            let output = String::from_utf8(deepj(dir.path(), arguments).stdout).unwrap();
            assert!(output.contains(shown), "{output}");
        }
        // Also beside one of the same device in whose place it does not stand.
        fails(dir.path(), &["verify", "--merge", "fine.json", file], 1, &[&said]);
    }
    let output = deepj(dir.path(), &["verify", "--merge", "fine.json", "failed.json"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("taken instead of the one of 2026-01-01 with 1 case and 1 failure"), "{text}");
}

#[test]
fn wrong_use_is_refused_before_anything_runs() {
    let dir = folder();
    fs::write(dir.path().join("broken.json"), "{\"format\": \"deepj verify\", \"version\": 1, ").unwrap();
    for (arguments, texts) in [
        (&["verify", "--device", "no such GPU"][..], &["no such GPU"][..]),
        (&["verify", "--report", "no/folder/report.json"], &["no/folder/report.json"]),
        (&["verify", "--merge", "broken.json"], &["broken.json", "line 1"]),
        (&["verify", "--merge", "absent.json"], &["absent.json"]),
        (&["verify", "--only", "no such check"], &["no such check"]),
    ] {
        let code = if texts.contains(&"no such GPU") || texts.contains(&"no such check") { 2 } else { 1 };
        fails(dir.path(), arguments, code, texts);
    }
    fails(dir.path(), &["verify", "--markdown"], 2, &["--merge"]);
    fails(dir.path(), &["verify", "--device", "cpu", "--merge", "broken.json"], 2, &["--device has no effect here"]);
}

#[cfg(unix)]
#[test]
fn an_interrupted_verification_leaves_its_report() {
    let dir = folder();
    let mut child = program(dir.path(), &["verify", "--report", "report.json"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // What was found is written every second.
    let began = std::time::Instant::now();
    let found = |report: &Report| report.devices[0].checks.iter().any(|row| row.passed > 0);
    let report = loop {
        assert!(child.try_wait().unwrap().is_none() && began.elapsed().as_secs() < 120, "no report is written");
        match Report::read(&dir.path().join("report.json")) {
            Ok(report) if found(&report) => break report,
            _ => std::thread::sleep(std::time::Duration::from_millis(20)),
        }
    };
    assert!(!report.complete && report.devices[0].running.is_some(), "{:?}", report.devices);
    std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let report = Report::read(&dir.path().join("report.json")).unwrap();
    assert!(!report.complete);
    let [cpu] = &report.devices[..] else { panic!("{} devices", report.devices.len()) };
    assert!(found(&report), "what was found is kept");
    assert!(cpu.defects().iter().any(|defect| defect.contains("stopped")), "{:?}", cpu.defects());
}
