//! The memory that a plan says it needs (`train --explain`), held against what the system reports of the process (on the
//! CPU) and what the driver's allocator reports (on adapters).

use std::process::Command;

use deepj::gpu::{Device, DeviceChoice, OpenOptions, adapters, open};
use deepj::graph::session::KernelSelection;
use deepj::graph::{Plan, Session};
use deepj::models::deepj::{Config, DeepJ, Preset};
use deepj::models::{PlanOptions, Precision};
use deepj::nn::optimizer::nadam::Nadam;
use deepj::ops::Uniforms;
use deepj::profile::training_plan;
use pollster::block_on;

/// A plan may be off by this share.
const TOLERANCE: f64 = 0.02;

/// Resident bytes of this process, where the system tells (Linux).
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(1024 * line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?)
}

fn compare(what: &str, planned: u64, reported: u64) {
    let off = reported as f64 / planned as f64 - 1.0;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!("{what}: planned {:.1} MiB, reported {:.1} MiB, {:+.2} %", mib(planned), mib(reported), 100.0 * off);
    assert!(off.abs() < TOLERANCE, "{what} is off by {:.1} %", 100.0 * off);
}

/// Names the plan that a child of this test measures on the CPU.
const CHILD: &str = "DEEPJ_MEMORY_OF";

fn plan(options: PlanOptions) -> Plan {
    let model = DeepJ::new(Config::preset(Preset::Paper, 23)).unwrap();
    training_plan(&model, &Nadam::default(), options, (8, 64), None).unwrap().0
}

fn on_the_cpu(name: &str, options: PlanOptions) {
    let run = || {
        let mut session = Session::new(Device::Cpu { why: String::new() }, KernelSelection::default());
        let id = block_on(session.add(plan(options))).unwrap();
        session.run(id, 1, &Uniforms::default()).unwrap();
        session
    };
    // Once before, so that threads and the matrix products' scratch memory, which stay, are there.
    drop(run());
    let Some(before) = resident() else {
        println!("skipped: this system does not tell the memory of a process");
        return;
    };
    let _session = run();
    compare(&format!("cpu, {name}"), plan(options).memory_bytes(None), resident().unwrap() - before);
}

/// In a process of its own whose allocator gives large blocks back when they are freed (glibc otherwise keeps up to 64 MiB): what
/// it kept of an earlier plan would be missing from what this one takes.
fn in_a_child(name: &str) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    let child = child
        .args(["a_plan_takes_the_memory_that_it_says", "--exact", "--nocapture"])
        .env(CHILD, name)
        .env("MALLOC_MMAP_THRESHOLD_", "131072");
    let output = child.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let said: Vec<&str> = out.lines().filter(|line| line.starts_with("cpu, ") || line.starts_with("skipped")).collect();
    assert!(output.status.success() && said.len() == 1, "{name}: {out}{err}");
    println!("{}", said[0]);
}

#[test]
fn a_plan_takes_the_memory_that_it_says() {
    let plans = [
        ("f32", PlanOptions::default()),
        ("recomputed", PlanOptions { recompute: true, ..PlanOptions::default() }),
        ("mixed", PlanOptions { precision: Precision::Mixed, ..PlanOptions::default() }),
        ("mixed, recomputed", PlanOptions { precision: Precision::Mixed, recompute: true, pairs: false }),
    ];
    if let Ok(child) = std::env::var(CHILD) {
        let (name, options) = plans.into_iter().find(|(name, _)| *name == child).unwrap();
        return on_the_cpu(name, options);
    }
    for (name, options) in plans {
        in_a_child(name);
        for (i, capabilities) in block_on(adapters()).into_iter().enumerate() {
            if options.precision == Precision::Mixed && !capabilities.shader_f16 {
                println!("skipped: {capabilities} has no f16 in shaders");
                continue;
            }
            let Device::Gpu(gpu) = block_on(open(&DeviceChoice::Index(i), OpenOptions::default())).unwrap() else {
                panic!("{capabilities} is listed and not opened");
            };
            let Some(before) = gpu.allocated_bytes() else {
                println!("skipped: the driver of {capabilities} does not tell what is allocated");
                continue;
            };
            let mut session = Session::new(Device::Gpu(gpu.clone()), KernelSelection::default());
            block_on(session.add(plan(options))).unwrap();
            let planned = plan(options).memory_bytes(Some(&capabilities)) + session.scratch_bytes();
            compare(&format!("{capabilities}, {name}"), planned, gpu.allocated_bytes().unwrap() - before);
        }
    }
}
