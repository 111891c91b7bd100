//! The measured roofline limits, on the CPU and on every adapter of the machine.

use std::sync::Arc;
use std::time::Instant;

use deepj::gpu::{Capabilities, Device, DeviceChoice, OpenOptions, adapters, open};
use deepj::graph::session::KernelSelection;
use deepj::graph::{Graph, Init, Kind, Layout, Plan, Session};
use deepj::ops::Uniforms;
use deepj::ops::gemm::{self, Gemm};
use deepj::peaks::{RooflineLimits, measure};
use pollster::block_on;

/// Between two measurements on a machine that does other things as well, such as other tests. Without them they are a few
/// percent apart.
const FACTOR: f64 = 8.0;

fn on_every_device(test: impl Fn(&str, Device, Option<&Capabilities>)) {
    test("cpu", Device::Cpu { why: String::new() }, None);
    let found = block_on(adapters());
    if found.is_empty() {
        println!("skipped on adapters: there is none here");
    }
    for (index, capabilities) in found.iter().enumerate() {
        let device = block_on(open(&DeviceChoice::Index(index), OpenOptions::default())).unwrap();
        test(&capabilities.to_string(), device, Some(capabilities));
    }
}

/// Every figure; those that may be missing are 0 then.
fn figures(peaks: &RooflineLimits) -> [f64; 8] {
    let RooflineLimits { f32_gflops, f16_gflops, matrix_gflops, bandwidth_gbs, workgroup_gbs, launch_us, .. } = *peaks;
    let optional = [f16_gflops, matrix_gflops, workgroup_gbs, peaks.cache_gbs];
    let [f16, matrix, workgroup, caches] = optional.map(Option::unwrap_or_default);
    [f32_gflops, f16, matrix, bandwidth_gbs, workgroup, launch_us, peaks.readback_us, caches]
}

/// GFLOP/s of the product of two matrices of 1024 x 1024, the best of a few.
fn product(device: Device) -> f64 {
    const SIDE: usize = 1024;
    let mut layout = Layout::new();
    let w = layout.param("w", &[SIDE, SIDE], Init::Zero);
    let mut graph = Graph::new(Arc::new(layout));
    let x = graph.tensor("x", SIDE * SIDE, Kind::Input);
    let y = graph.tensor("y", SIDE * SIDE, Kind::State);
    graph.apply(Gemm::new(gemm::Layout::NN, SIDE, SIDE, SIDE), &[x, w, y]);
    let mut session = Session::new(device, KernelSelection::default());
    let id = block_on(session.add(Plan::compile("product", graph))).unwrap();
    let mut seconds = || {
        let began = Instant::now();
        session.run(id, 1, &Uniforms::default()).unwrap();
        block_on(session.read(id, &[y.slice(0, 1)])).unwrap();
        began.elapsed().as_secs_f64()
    };
    let best = (0..4).map(|_| seconds()).fold(f64::INFINITY, f64::min);
    2.0 * (SIDE as f64).powi(3) / best / 1e9
}

#[test]
fn peaks_are_measured_and_no_product_is_above_them() {
    on_every_device(|name, device, capabilities| {
        let began = Instant::now();
        let peaks = block_on(measure(&device)).unwrap();
        println!("{name}: {peaks:?} in {:.2} s", began.elapsed().as_secs_f64());
        let all = figures(&peaks);
        assert!(all.iter().all(|figure| figure.is_finite() && *figure >= 0.0), "{name}");
        assert!([peaks.f32_gflops, peaks.bandwidth_gbs, peaks.launch_us].iter().all(|figure| *figure > 0.0), "{name}");
        let f16 = capabilities.is_some_and(|capabilities| capabilities.shader_f16);
        assert_eq!(peaks.f16_gflops.is_some(), f16, "{name}");
        assert_eq!([peaks.workgroup_gbs.is_some(), peaks.readback_us > 0.0], [capabilities.is_some(); 2], "{name}");
        assert!(peaks.cache_gbs.is_some_and(|caches| caches > 0.0), "{name}");
        let measurement = peaks.measurement.as_ref().unwrap();
        assert!((0.0..1.0).contains(&measurement.spread) && measurement.on.len() == 10, "{name}: {measurement:?}");
        let product = product(device.clone());
        println!("{name}: a product has {product:.1} GFLOP/s");
        assert!(product <= peaks.f32_gflops, "{name}: {product} GFLOP/s beyond the peak of {}", peaks.f32_gflops);
        let again = figures(&block_on(measure(&device)).unwrap());
        println!("{name}: again {again:?}");
        for (a, b) in all.into_iter().zip(again) {
            assert!(a <= FACTOR * b && b <= FACTOR * a, "{name}: {all:?} and {again:?}");
        }
    });
}
