//! Profiles for tests.

use super::report::{Bound, Clock, FORMAT, Gap, Header, Kernel, Profile, Span, Summary, Track, VERSION};
use crate::gpu::{Capabilities, Machine};
use crate::peaks::Peaks;

/// A profile of kernels by name, shape and microseconds of a call in each run; each is called once.
pub fn profile(kernels: &[(&str, &str, &[f64])]) -> Profile {
    let runs = kernels.first().map_or(1, |(.., samples)| samples.len());
    let samples_ms: Vec<f64> = (0..runs).map(|run| kernels.iter().map(|(.., us)| us[run]).sum::<f64>() / 1e3).collect();
    let kernels: Vec<Kernel> = kernels.iter().map(|(name, shape, samples)| kernel(name, shape, samples)).collect();
    let (step_ms, n) = (samples_ms[0], kernels.len() as u64);
    Profile {
        header: Header {
            format: FORMAT.into(),
            version: VERSION,
            what: "train".into(),
            plan: "train B=2 T=16".into(),
            preset: "small".into(),
            batch: 2,
            seq: 16,
            precision: "f32".into(),
            recompute: false,
            machine: Machine::of(&Capabilities::portable()),
            clock: Clock::Device,
            runs,
            steps_per_run: 1,
            peaks: Peaks {
                f32_gflops: 100.0,
                f16_gflops: None,
                matrix_gflops: None,
                bandwidth_gbs: 10.0,
                workgroup_gbs: Some(50.0),
                launch_us: 2.0,
                readback_us: 20.0,
            },
        },
        spans: vec![Span { track: Track::Gpu, name: "a".into(), kernel: Some(0), start_us: 0.0, duration_us: 1.0 }],
        kernels,
        gaps: vec![Gap { name: "unaccounted".into(), total_ms: -0.001, share: -0.01 }],
        summary: Summary {
            step_ms,
            samples_ms,
            profiled_ms: step_ms,
            overhead: 0.0,
            unaccounted: -0.01,
            flops: 1000 * n,
            bytes: 100 * n,
            gflops: 1.0,
            flop_share: 0.01,
        },
    }
}

fn kernel(kernel: &str, shape: &str, samples: &[f64]) -> Kernel {
    let first = samples.first().copied().unwrap_or_default();
    Kernel {
        kernel: kernel.into(),
        variant: "tiled".into(),
        shape: shape.into(),
        calls: 1,
        dispatches: 1,
        total_ms: first / 1e3,
        share: 0.5,
        min_us: first,
        p50_us: first,
        p95_us: first,
        flops: 1000,
        bytes: 100,
        gflops: 1.0,
        gbs: 0.1,
        flop_share: 0.01,
        bandwidth_share: 0.01,
        intensity: 10.0,
        bound: Bound::Launch,
        workgroups: [1, 1, 1],
        workgroup_size: [64, 1, 1],
        workgroup_bytes: 0,
        gap_us: 1.0,
        compile_ms: Some(3.0),
        encode_us: Some(0.5),
        samples_us: samples.to_vec(),
    }
}
