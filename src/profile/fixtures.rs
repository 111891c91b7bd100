//! Profiles for tests.

use super::report::{Bound, Clock, FORMAT, Gap, Header, Kernel, Profile, Span, Summary, Track, VERSION};
use crate::gpu::{Capabilities, Machine};
use crate::peaks::RooflineLimits;

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
            peaks: RooflineLimits {
                f32_gflops: 100.0,
                f16_gflops: None,
                matrix_gflops: None,
                bandwidth_gbs: 10.0,
                workgroup_gbs: Some(50.0),
                launch_us: 2.0,
                readback_us: 20.0,
                cache_gbs: None,
                measurement: None,
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
        is_default: false,
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
        shader: "gemm.wgsl `tiled` START=0".into(),
        compiled: None,
        workgroups: [1, 1, 1],
        workgroup_size: [64, 1, 1],
        workgroup_bytes: 0,
        gap_us: 1.0,
        compile_ms: Some(3.0),
        encode_us: Some(0.5),
        samples_us: samples.to_vec(),
    }
}

/// Kernel, variant, shape, MFLOP and MB of a call, its microseconds.
type Sketch = (&'static str, &'static str, &'static str, f64, f64, f64);

const SKETCHES: [Sketch; 12] = [
    ("lstm_fwd", "seq_r16", "lstm forward T=128 rows=768 H=256", 51766.1, 606.6, 5200.0),
    ("gemm", "split", "gemm TN 256x1024x98304", 51539.6, 504.4, 2900.0),
    ("gemm", "register", "gemm NN 98304x1024x94 bias", 18924.7, 440.1, 1350.0),
    ("dropout", "flat", "dropout 25165824 rate 0.5", 25.2, 201.3, 101.0),
    ("reduce_sum_rows", "tree", "reduce sum_rows 98304x1024 to 16", 100.7, 402.7, 190.0),
    ("octave_conv_weight_grad", "tiled", "octave_conv weight_grad 2048x48 3->64 taps 25", 821.0, 26.4, 160.0),
    ("cast", "flat", "cast 196608 f32 to f32", 0.0, 1.6, 2.4),
    ("carry", "flat", "carry keep 768x256", 0.2, 1.6, 2.5),
    ("features_fwd", "flat", "features forward T=128 B=16 N=48 width 94", 6.4, 63.3, 44.0),
    ("heads_fwd", "rows", "heads forward rows=2048 N=48 H=128", 78.4, 52.7, 40.0),
    ("gemm", "naive", "gemm NN 16x64x6 bias", 0.012, 0.006, 2.1),
    ("nadam", "flat", "nadam 1234567", 14.8, 34.6, 21.0),
];

/// A profile of an update with so many kernels on a GPU, each called twice, the costliest first.
pub fn step(kernels: usize) -> Profile {
    let base = profile(&[]);
    let peaks = RooflineLimits {
        f32_gflops: 51_000.0,
        f16_gflops: Some(98_000.0),
        matrix_gflops: Some(390_000.0),
        bandwidth_gbs: 2_900.0,
        workgroup_gbs: Some(21_000.0),
        launch_us: 1.6,
        readback_us: 19.0,
        cache_gbs: None,
        measurement: None,
    };
    let mut kernels: Vec<Kernel> = (0..kernels).map(|i| sketched(i, &peaks)).collect();
    kernels.sort_by(|a, b| b.total_ms.total_cmp(&a.total_ms));
    let busy: f64 = kernels.iter().map(|k| k.total_ms).sum();
    let wall = busy.max(1.0) * 1.08;
    kernels.iter_mut().for_each(|kernel| kernel.share = kernel.total_ms / wall);
    let gap = |name: &str, total_ms: f64| Gap { name: name.into(), total_ms, share: total_ms / wall };
    let step_ms = wall / 1.02;
    let flops = kernels.iter().map(|k| k.flops * k.calls as u64).sum();
    let gflops = flops as f64 / step_ms / 1e6;
    let flop_share = gflops / peaks.f32_gflops;
    Profile {
        header: Header {
            plan: "train B=16 T=128".into(),
            preset: "paper".into(),
            batch: 16,
            seq: 128,
            machine: Machine {
                adapter: "Accelerator <X>".into(),
                backend: "vulkan".into(),
                driver: "Driver".into(),
                driver_info: "1.2.3".into(),
                ..base.header.machine
            },
            runs: 20,
            peaks,
            ..base.header
        },
        gaps: vec![gap("between kernels", 0.05 * wall), gap("unaccounted", 0.95 * wall - busy)],
        summary: Summary {
            step_ms,
            samples_ms: vec![step_ms; 20],
            profiled_ms: wall,
            overhead: 0.02,
            unaccounted: 0.95 - busy / wall,
            flops,
            bytes: kernels.iter().map(|k| k.bytes * k.calls as u64).sum(),
            gflops,
            flop_share,
        },
        spans: spans(&kernels),
        kernels,
    }
}

/// A kernel of the sketches, slower in each round through them.
fn sketched(i: usize, peaks: &RooflineLimits) -> Kernel {
    let (name, variant, shape, mflop, mb, us) = SKETCHES[i % SKETCHES.len()];
    let round = i / SKETCHES.len();
    let us = us * (1.0 + 0.4 * round as f64);
    let (flops, bytes) = ((mflop * 1e6) as u64, (mb * 1e6) as u64);
    let (gflops, gbs) = (flops as f64 / us / 1e3, bytes as f64 / us / 1e3);
    let (flop_share, bandwidth_share) = (gflops / peaks.f32_gflops, gbs / peaks.bandwidth_gbs);
    let bound = match () {
        () if us < 3.0 => Bound::Launch,
        () if flop_share > bandwidth_share => Bound::Compute,
        () => Bound::Memory,
    };
    let shape = if round == 0 { shape.into() } else { format!("{shape} again {round}") };
    Kernel {
        variant: variant.into(),
        calls: 2,
        dispatches: 4,
        total_ms: 2.0 * us / 1e3,
        min_us: 0.97 * us,
        p95_us: 1.1 * us,
        flops,
        bytes,
        gflops,
        gbs,
        flop_share,
        bandwidth_share,
        intensity: flops as f64 / bytes as f64,
        bound,
        workgroups: [1536, 8, 1],
        workgroup_size: [16, 16, 1],
        workgroup_bytes: 16384,
        gap_us: 0.9,
        compile_ms: Some(31.5),
        encode_us: Some(1.7),
        ..kernel(name, &shape, &[us; 20])
    }
}

/// The CPU encodes, submits within that, and waits; the GPU runs each kernel's calls one after the other.
fn spans(kernels: &[Kernel]) -> Vec<Span> {
    let span = |track, name: &str, kernel, start_us, duration_us| Span {
        track,
        name: name.into(),
        kernel,
        start_us,
        duration_us,
    };
    let mut spans = vec![
        span(Track::Cpu, "encode", None, 0.0, 120.5),
        span(Track::Cpu, "submit", None, 100.25, 20.25),
        span(Track::Cpu, "wait", None, 120.5, 30_000.0),
    ];
    let mut start = 130.0;
    for (i, kernel) in kernels.iter().enumerate() {
        for call in 0..2 {
            spans.push(span(Track::Gpu, &format!("time.{call}: {}", kernel.shape), Some(i), start, kernel.p50_us));
            start += kernel.p50_us + 0.9;
        }
    }
    spans
}
