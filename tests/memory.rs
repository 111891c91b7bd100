//! The memory that a plan says it needs (`train --explain`), held against what the system reports of the process (on the
//! CPU) and what the driver's allocator reports (on adapters).

use deepj::gpu::{Device, DeviceChoice, OpenOptions, adapters, open};
use deepj::graph::Session;
use deepj::graph::session::KernelSelection;
use deepj::models::deepj::{Config, DeepJ, Preset};
use deepj::models::{Precision, Storage};
use deepj::nn::optimizer::nadam::Nadam;
use deepj::ops::Uniforms;
use deepj::profile::training_plan;
use pollster::block_on;

/// A plan may be off by this share.
const TOLERANCE: f64 = 0.05;

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

/// One after the other: what the system reports is of the whole process.
#[test]
fn a_plan_takes_the_memory_that_it_says() {
    let model = DeepJ::new(Config::preset(Preset::Paper, 23)).unwrap();
    let plans = [
        ("f32", Storage::default()),
        ("recomputed", Storage { recompute: true, ..Storage::default() }),
        ("mixed", Storage { precision: Precision::Mixed, ..Storage::default() }),
        ("mixed, recomputed", Storage { precision: Precision::Mixed, recompute: true }),
    ];
    for (name, storage) in plans {
        let plan = || training_plan(&model, &Nadam::default(), storage, (8, 64)).unwrap().0;
        match resident() {
            Some(before) => {
                let mut session = Session::new(Device::Cpu { why: String::new() }, KernelSelection::default());
                let id = block_on(session.add(plan())).unwrap();
                session.run(id, 1, &Uniforms::default()).unwrap();
                compare(&format!("cpu, {name}"), plan().memory_bytes(None), resident().unwrap() - before);
            }
            None => println!("skipped: this system does not tell the memory of a process"),
        }
        for (i, capabilities) in block_on(adapters()).into_iter().enumerate() {
            if storage.precision == Precision::Mixed && !capabilities.shader_f16 {
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
            block_on(session.add(plan())).unwrap();
            let planned = plan().memory_bytes(Some(&capabilities)) + session.scratch_bytes();
            compare(&format!("{capabilities}, {name}"), planned, gpu.allocated_bytes().unwrap() - before);
        }
    }
}
