//! The `gpu` module on every adapter of the machine: buffers, programs, errors, and the shaders' common functions.

use std::sync::Arc;

use deepj::error::Kind;
use deepj::gpu::{
    Access, Binding, Capabilities, Checks, Cost, Device, DeviceChoice, Dispatch, Format, Gpu, Limits, OpenOptions,
    Shader, WatchdogBudget, adapters, open,
};
use deepj::ops::random;
use pollster::block_on;

/// Runs `test` on every adapter, with all its limits and checked shaders, with trusted ones, and with WebGPU's defaults.
fn on_every_adapter(test: impl Fn(&Gpu)) {
    let found = block_on(adapters());
    if found.is_empty() {
        println!("skipped: no adapter here");
    }
    for (index, capabilities) in found.iter().enumerate() {
        for (checks, limits) in [
            (Checks::Checked, Limits::Adapter),
            (Checks::Trusted, Limits::Adapter),
            (Checks::Checked, Limits::WebGpuDefaults),
        ] {
            println!("{capabilities}, {checks:?}, {limits:?}");
            match block_on(open(&DeviceChoice::Index(index), OpenOptions { checks, limits })).unwrap() {
                Device::Gpu(gpu) => test(&gpu),
                Device::Cpu { why } => panic!("{why}"),
            }
        }
    }
}

/// y = a x + y, in workgroups of SIZE.
const SAXPY: &str = "
struct Params { n: u32, a: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
const SIZE: u32 = 1u;

@compute @workgroup_size(SIZE)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < p.n {
        y[id.x] += p.a * x[id.x];
    }
}
";

fn shader(op: &'static str, source: &'static str) -> Shader {
    Shader { op, source, entry: "main", consts: vec![], types: vec![] }
}

fn read(arg: usize, start: u64, len: u64) -> Binding {
    Binding { arg, access: Access::Read, format: Format::F32, start, len }
}

fn write(arg: usize, start: u64, len: u64) -> Binding {
    Binding { arg, access: Access::ReadWrite, format: Format::F32, start, len }
}

/// Saxpy of `n` elements at the starts of `x` and `y`, whose args are 0 and `y_arg`.
fn saxpy(a: f32, n: u64, x: u64, y_arg: usize, y: u64) -> Dispatch {
    Dispatch {
        shader: Shader { consts: vec![("SIZE", 64)], ..shader("saxpy", SAXPY) },
        bindings: vec![read(0, x, n), write(y_arg, y, n)],
        params: vec![n as u32, a.to_bits()],
        grid: [n.div_ceil(64) as u32, 1, 1],
        uses_uniforms: false,
        cost: Cost::default(),
    }
}

fn sequence(n: usize) -> Vec<f32> {
    (0..n).map(|i| i as f32).collect()
}

#[test]
fn the_beginning_of_a_program_may_run_once() {
    on_every_adapter(|gpu| {
        block_on(async {
            let x = gpu.buffer("x", 64).await.unwrap();
            let y = gpu.buffer("y", 64).await.unwrap();
            gpu.write(&x, 0, &[1.0; 64]).unwrap();
            let buffers = [&x, &y];
            let dispatches = [100.0, 10.0, 1.0].map(|a| (saxpy(a, 64, 0, 1, 0), &buffers[..]));
            let program = gpu.program("saxpy", &dispatches).await.unwrap().once(1);
            gpu.submit(&program, 3, &[0; 16]).unwrap();
            assert_eq!(gpu.read(&[(&y, 0, 64)]).await.unwrap()[0], [133.0; 64]);
            // Ranges are of all dispatches.
            gpu.run_range(&program, 1..3, &[0; 16]).await.unwrap();
            gpu.run_range(&program, 0..1, &[0; 16]).await.unwrap();
            assert_eq!(gpu.read(&[(&y, 0, 64)]).await.unwrap()[0], [244.0; 64]);
        })
    });
}

#[test]
fn a_program_runs_on_ranges_as_often_as_asked() {
    on_every_adapter(|gpu| {
        block_on(async {
            let x = gpu.buffer("x", 300).await.unwrap();
            let y = gpu.buffer("y", 500).await.unwrap();
            gpu.write(&x, 0, &sequence(300)).unwrap();
            gpu.write(&y, 10, &[1000.0; 490]).unwrap();
            let skipped = Dispatch { grid: [1, 0, 1], ..saxpy(f32::NAN, 100, 0, 1, 0) };
            let dispatches = [
                (saxpy(2.0, 100, 64, 1, 128), &[&x, &y][..]),
                (skipped, &[&x, &y]),
                (saxpy(0.5, 300, 0, 1, 192), &[&x, &y]),
            ];
            let program = gpu.program("saxpy", &dispatches).await.unwrap();
            assert_eq!(program.len(), 3);
            gpu.submit(&program, 3, &[0; 16]).unwrap();
            gpu.wait().await.unwrap();
            // Alone, the first dispatch adds once more.
            gpu.run_range(&program, 0..1, &[0; 16]).await.unwrap();

            let expected: Vec<f32> = (0..500)
                .map(|i| {
                    let mut value = if i < 10 { 0.0 } else { 1000.0 };
                    if (128..228).contains(&i) {
                        value += 4.0 * 2.0 * (64 + i - 128) as f32;
                    }
                    if (192..492).contains(&i) {
                        value += 3.0 * 0.5 * (i - 192) as f32;
                    }
                    value
                })
                .collect();
            let parts = gpu.read(&[(&y, 0, 500), (&x, 299, 1), (&x, 7, 0), (&y, 5, 100)]).await.unwrap();
            assert_eq!(parts[0], expected);
            assert_eq!(parts[1..3], [vec![299.0], vec![]]);
            assert_eq!(parts[3], expected[5..105]);

            let error = gpu.run_range(&program, 2..4, &[0; 16]).await.unwrap_err().to_string();
            assert!(error.contains("2..4") && error.contains("has 3"), "{error}");
        });
    });
}

#[test]
fn what_was_encoded_ahead_runs_once_and_only_as_often_as_asked() {
    on_every_adapter(|gpu| {
        block_on(async {
            let [x, y] = [gpu.buffer("x", 1).await.unwrap(), gpu.buffer("y", 1).await.unwrap()];
            gpu.write(&x, 0, &[1.0]).unwrap();
            let program = gpu.program("saxpy", &[(saxpy(1.0, 1, 0, 1, 0), &[&x, &y])]).await.unwrap();
            let mut expected = 0.0;
            for (prepared, times) in [(3, 3), (3, 2), (1, 1), (0, 5), (2, 2)] {
                if prepared > 0 {
                    gpu.prepare(&program, prepared).unwrap();
                }
                gpu.submit(&program, times, &[0; 16]).unwrap();
                expected += times as f32;
                assert_eq!(gpu.read(&[(&y, 0, 1)]).await.unwrap(), [[expected]], "{prepared} prepared, {times} asked");
            }
        });
    });
}

/// Reads take what was there when they began, finish in any order, and may be dropped, mapped or not.
#[test]
fn several_reads_are_pending_at_once() {
    on_every_adapter(|gpu| {
        block_on(async {
            let [x, y] = [gpu.buffer("x", 64).await.unwrap(), gpu.buffer("y", 64).await.unwrap()];
            gpu.write(&x, 0, &sequence(64)).unwrap();
            let program = gpu.program("saxpy", &[(saxpy(1.0, 64, 0, 1, 0), &[&x, &y])]).await.unwrap();
            let expected = |times: usize| (0..64).map(|i| (times * i) as f32).collect::<Vec<_>>();
            // The second round has the staging buffers of the first.
            for round in 0..2 {
                let before = 3 * round;
                gpu.submit(&program, 1, &[0; 16]).unwrap();
                let first = gpu.begin_read(&[(&y, 0, 64)]).await.unwrap();
                gpu.submit(&program, 1, &[0; 16]).unwrap();
                let nothing = gpu.begin_read(&[(&y, 3, 0)]).await.unwrap();
                let dropped = gpu.begin_read(&[(&y, 0, 64)]).await.unwrap();
                drop(gpu.begin_read(&[(&y, 0, 1)]).await.unwrap());
                let second = gpu.begin_read(&[(&y, 1, 2), (&x, 63, 1), (&y, 60, 4)]).await.unwrap();
                gpu.submit(&program, 1, &[0; 16]).unwrap();

                let twice = expected(before + 2);
                let parts = [twice[1..3].to_vec(), vec![63.0], twice[60..].to_vec()];
                assert_eq!(gpu.finish_read(second).await.unwrap(), parts);
                drop(dropped);
                assert_eq!(gpu.finish_read(first).await.unwrap(), [expected(before + 1)]);
                assert_eq!(gpu.finish_read(nothing).await.unwrap(), [[0.0; 0]]);
                assert_eq!(gpu.read(&[(&y, 0, 64)]).await.unwrap(), [expected(before + 3)]);
            }
            let error = gpu.begin_read(&[(&y, 60, 5)]).await.err().expect("an error").to_string();
            assert!(error.contains("5 elements at 60"), "{error}");
        });
    });
}

/// Each program appends a digit; a submission holds all of them, or one, or less than one.
#[test]
fn programs_run_one_after_the_other_however_they_are_submitted() {
    const APPEND: &str = "
        @group(0) @binding(1) var<storage, read_write> y: array<f32>;
        @group(1) @binding(0) var<uniform> uniforms: Uniforms;
        const DIGIT: u32 = 0u;
        @compute @workgroup_size(1) fn main() { y[0] = 10.0 * y[0] + f32(DIGIT + uniforms.update); }";
    on_every_adapter(|gpu| {
        for flops in [0, 6, 11] {
            let mut gpu = gpu.clone();
            Arc::make_mut(&mut gpu.capabilities).budget = Some(WatchdogBudget { flops: 10, bytes: 1, groups: 1 });
            block_on(async {
                let y = gpu.buffer("y", 1).await.unwrap();
                let program = async |digit| {
                    let append = Dispatch {
                        shader: Shader { consts: vec![("DIGIT", digit)], ..shader("append", APPEND) },
                        bindings: vec![write(0, 0, 1)],
                        params: vec![],
                        grid: [1; 3],
                        uses_uniforms: true,
                        cost: Cost { flops, bytes: 0 },
                    };
                    gpu.program("append", &[(append, &[&y])]).await.unwrap()
                };
                let [one, two] = [program(1).await, program(2).await];
                let mut words = [0; 16];
                for (added, expected) in [(0, 12212.0), (1, 23323.0)] {
                    gpu.write(&y, 0, &[0.0]).unwrap();
                    gpu.prepare(&two, 2).unwrap();
                    words[1] = added;
                    gpu.submit_all(&[(&one, 1), (&two, 2), (&one, 1), (&two, 1)], &words).unwrap();
                    gpu.submit_all(&[], &words).unwrap();
                    assert_eq!(gpu.read(&[(&y, 0, 1)]).await.unwrap(), [[expected]], "{flops} of 10");
                }
            });
        }
    });
}

#[test]
fn one_buffer_may_be_read_and_written_in_disjoint_ranges() {
    on_every_adapter(|gpu| {
        block_on(async {
            let shared = gpu.buffer("shared", 256).await.unwrap();
            gpu.write(&shared, 0, &sequence(64)).unwrap();
            let program = gpu.program("shared", &[(saxpy(3.0, 64, 0, 0, 128), &[&shared])]).await.unwrap();
            gpu.submit(&program, 1, &[0; 16]).unwrap();
            let now = gpu.read(&[(&shared, 0, 256)]).await.unwrap().remove(0);
            assert_eq!(now[..64], sequence(64));
            assert!(now[128..192].iter().zip(sequence(64)).all(|(y, x)| *y == 3.0 * x));
            assert!(now[64..128].iter().chain(&now[192..]).all(|&y| y == 0.0));

            let error =
                gpu.program("overlap", &[(saxpy(3.0, 65, 0, 0, 64), &[&shared])]).await.err().unwrap().to_string();
            assert!(error.contains("shaders/saxpy.wgsl") && error.contains("overlap"), "{error}");
        });
    });
}

/// The four words of pcg4d, in halves that f32 holds exactly; then uniform01 and keep_mask.
const RANDOM: &str = "
struct Params { n: u32, rate: f32, kept: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<f32>; // [n, 10]
@group(1) @binding(0) var<uniform> uniforms: Uniforms;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= p.n {
        return;
    }
    let hash = pcg4d(vec4<u32>(id.x, id.x * 77u, uniforms.update, uniforms.seed));
    for (var i = 0u; i < 4u; i++) {
        y[id.x * 10u + 2u * i] = f32(hash[i] >> 16u);
        y[id.x * 10u + 2u * i + 1u] = f32(hash[i] & 0xffffu);
    }
    y[id.x * 10u + 8u] = uniform01(hash.x);
    y[id.x * 10u + 9u] = keep_mask(id.x, 5u, p.rate, p.kept, uniforms.seed, uniforms.update);
}
";

#[test]
fn random_numbers_are_those_of_the_host() {
    on_every_adapter(|gpu| {
        block_on(async {
            let (n, rate, seed, step) = (1000u32, 0.2f32, 0xdead_beef, 123_456_789);
            let y = gpu.buffer("y", 10 * u64::from(n)).await.unwrap();
            let dispatch = Dispatch {
                shader: shader("random", RANDOM),
                bindings: vec![write(0, 0, 10 * u64::from(n))],
                params: vec![n, rate.to_bits(), (1.0 / (1.0 - rate)).to_bits()],
                grid: [n.div_ceil(64), 1, 1],
                uses_uniforms: true,
                cost: Cost::default(),
            };
            let program = gpu.program("random", &[(dispatch, &[&y])]).await.unwrap();
            let mut words = [0; 16];
            words[..2].copy_from_slice(&[seed, step]);
            gpu.submit(&program, 1, &words).unwrap();
            let values = gpu.read(&[(&y, 0, y.len())]).await.unwrap().remove(0);
            for (i, row) in (0..n).zip(values.chunks_exact(10)) {
                let hash = random::pcg4d([i, i.wrapping_mul(77), step, seed]);
                for (word, halves) in hash.iter().zip(row.chunks_exact(2)) {
                    assert_eq!(halves, [(word >> 16) as f32, (word & 0xffff) as f32]);
                }
                assert_eq!(row[8], random::uniform01(hash[0]));
                assert_eq!(row[9], random::keep_mask(i, 5, rate, seed, step));
            }
        });
    });
}

/// sigmoid_, tanh_ and softplus of x.
const ACTIVATIONS: &str = "
@group(0) @binding(1) var<storage, read> x: array<f32>; // [n]
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // [3, n]

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let n = arrayLength(&x);
    if id.x < n {
        y[id.x] = sigmoid_(x[id.x]);
        y[n + id.x] = tanh_(x[id.x]);
        y[2u * n + id.x] = softplus(x[id.x]);
    }
}
";

#[test]
fn activations_are_finite_and_right_far_out() {
    on_every_adapter(|gpu| {
        block_on(async {
            let mut inputs: Vec<f32> = (-4000..=4000).map(|i| i as f32 * 0.005).collect();
            for far in [30.0, 79.0, 88.0, 89.0, 104.0, 1e3, 1e4, 1e30] {
                inputs.extend([far, -far]);
            }
            let n = inputs.len() as u64;
            let x = gpu.buffer("x", n).await.unwrap();
            let y = gpu.buffer("y", 3 * n).await.unwrap();
            gpu.write(&x, 0, &inputs).unwrap();
            let dispatch = Dispatch {
                shader: shader("activations", ACTIVATIONS),
                bindings: vec![read(0, 0, n), write(1, 0, 3 * n)],
                params: vec![],
                grid: [n.div_ceil(64) as u32, 1, 1],
                uses_uniforms: false,
                cost: Cost::default(),
            };
            let program = gpu.program("activations", &[(dispatch, &[&x, &y])]).await.unwrap();
            gpu.submit(&program, 1, &[0; 16]).unwrap();
            let values = gpu.read(&[(&y, 0, y.len())]).await.unwrap().remove(0);
            let exact: [fn(f64) -> f64; 3] =
                [|x| 1.0 / (1.0 + (-x).exp()), f64::tanh, |x| x.max(0.0) + (-x.abs()).exp().ln_1p()];
            for (function, values) in exact.iter().zip(values.chunks_exact(inputs.len())) {
                for (&x, &value) in inputs.iter().zip(values) {
                    let expected = function(f64::from(x));
                    // WGSL's log is good to 2^-21 between 1/2 and 2, its exp to 3 + 2 |x| units in the last place.
                    let tolerance = 1e-6 + 2e-7 * expected.abs();
                    assert!((f64::from(value) - expected).abs() <= tolerance, "f({x}) = {value}, expected {expected}");
                }
            }
        });
    });
}

fn program_error(gpu: &Gpu, dispatch: Dispatch) -> String {
    block_on(async {
        let x = gpu.buffer("x", 128).await.unwrap();
        let y = gpu.buffer("y", 128).await.unwrap();
        let error = gpu.program("wrong", &[(dispatch, &[&x, &y])]).await.err().expect("an error").to_string();
        // The device is as good as before.
        let program = gpu.program("right", &[(saxpy(1.0, 64, 0, 1, 0), &[&x, &y])]).await.unwrap();
        gpu.submit(&program, 1, &[0; 16]).unwrap();
        gpu.wait().await.unwrap();
        error
    })
}

#[test]
fn a_wrong_shader_is_an_error_that_names_the_op() {
    on_every_adapter(|gpu| {
        let wrong = |source| Dispatch { shader: shader("wrong_op", source), ..saxpy(1.0, 64, 0, 1, 0) };
        let cases = [
            (wrong("fn main() { let x = ; }"), "expected expression"),
            (wrong("@compute @workgroup_size(1) fn main() { let x: u32 = 1.5f; }"), "u32"),
            (wrong("@compute @workgroup_size(1) fn other() {}"), "main"),
            (wrong("@compute @workgroup_size(4096) fn main() {}"), "4096"),
            (
                wrong("var<workgroup> a: array<f32, 1000000>; @compute @workgroup_size(1) fn main() { a[0] = 1.0; }"),
                "4000000 bytes",
            ),
            // Declared as it is not bound.
            (
                wrong(
                    "@group(0) @binding(2) var<storage, read> y: array<f32>;
                    @compute @workgroup_size(1) fn main() { let a = y[0]; }",
                ),
                "binding",
            ),
            // Parameters longer than those given.
            (
                wrong(
                    "@group(0) @binding(0) var<uniform> p: array<vec4<u32>, 2>;
                    @compute @workgroup_size(1) fn main() { let a = p[1]; }",
                ),
                "32",
            ),
            (Dispatch { grid: [1 << 24, 1 << 24, 1 << 31], ..wrong(SAXPY) }, "in a dimension"),
        ];
        for (dispatch, reason) in cases {
            let error = program_error(gpu, dispatch);
            assert!(error.contains("shaders/wrong_op.wgsl") && error.contains(reason), "{error}, expected {reason}");
        }
        let refused = wrong("@compute @workgroup_size(1) fn main() { let x: u32 = 1.5f; }");
        let [x, y] = ["x", "y"].map(|name| block_on(gpu.buffer(name, 128)).unwrap());
        let error = block_on(gpu.program("wrong", &[(refused, &[&x, &y])])).err().expect("an error");
        assert_eq!(error.kind, Kind::Shader, "{error}");
        let missing = Shader { consts: vec![("TILE", 1)], ..shader("wrong_op", SAXPY) };
        let error = program_error(gpu, Dispatch { shader: missing, ..saxpy(1.0, 64, 0, 1, 0) });
        assert!(error.contains("wrong_op") && error.contains("TILE"), "{error}");
    });
}

/// With WebGPU's limits a device has no more than these, says so, and refuses shaders that need a feature.
#[test]
fn a_device_with_webgpus_limits_has_no_more() {
    const F16: &str = "enable f16; @group(0) @binding(1) var<storage, read> x: array<f16>;
        @group(0) @binding(2) var<storage, read_write> y: array<f32>;
        @compute @workgroup_size(64) fn main() { y[0] = f32(x[0]); }";
    const SUBGROUP: &str = "@group(0) @binding(1) var<storage, read> x: array<f32>;
        @group(0) @binding(2) var<storage, read_write> y: array<f32>;
        @compute @workgroup_size(64) fn main() { y[0] = subgroupAdd(x[0]); }";
    let least = Capabilities::portable();
    for (index, adapter) in block_on(adapters()).into_iter().enumerate() {
        println!("{adapter}");
        let options = OpenOptions { checks: Checks::Checked, limits: Limits::WebGpuDefaults };
        let Device::Gpu(gpu) = block_on(open(&DeviceChoice::Index(index), options)).unwrap() else {
            panic!("an adapter is no CPU")
        };
        let has = &*gpu.capabilities;
        assert_eq!(*has, adapter.webgpu_defaults());
        assert!(!has.shader_f16 && !has.subgroup && has.cooperative_matrix.is_empty(), "{has:?}");
        assert!(!has.timestamp_query && !has.pipeline_cache && has.features.is_empty(), "{has:?}");
        for (has, least) in [
            (has.max_buffer_size, least.max_buffer_size),
            (has.max_storage_buffer_binding_size, least.max_storage_buffer_binding_size),
            (has.max_storage_buffers_per_shader_stage.into(), least.max_storage_buffers_per_shader_stage.into()),
            (has.max_compute_workgroup_storage_size.into(), least.max_compute_workgroup_storage_size.into()),
            (has.max_compute_invocations_per_workgroup.into(), least.max_compute_invocations_per_workgroup.into()),
            (has.max_compute_workgroups_per_dimension.into(), least.max_compute_workgroups_per_dimension.into()),
        ] {
            assert!(has <= least, "{has} where WebGPU has {least}");
        }
        for (source, feature) in [(F16, "F16"), (SUBGROUP, "SUBGROUP")] {
            let dispatch = Dispatch { shader: shader("wrong_op", source), ..saxpy(1.0, 64, 0, 1, 0) };
            let error = program_error(&gpu, dispatch);
            assert!(error.to_uppercase().contains(feature), "{error}");
        }
    }
}

#[test]
fn a_buffer_too_large_is_an_error_that_names_the_size() {
    on_every_adapter(|gpu| {
        block_on(async {
            for elements in [gpu.capabilities.max_buffer_size / 4 + 1, u64::MAX] {
                let error = gpu.buffer("huge", elements).await.err().expect("an error").to_string();
                assert!(error.contains("huge") && error.contains("GiB") || error.contains("MiB"), "{error}");
            }
            let small = gpu.buffer("small", 10).await.unwrap();
            let error = gpu.write(&small, 8, &[1.0; 3]).unwrap_err().to_string();
            assert!(error.contains("3 elements at 8") && error.contains("small"), "{error}");
            let error = gpu.read(&[(&small, u64::MAX, 1)]).await.unwrap_err().to_string();
            assert!(error.contains("which has 10"), "{error}");
            assert_eq!(gpu.read(&[(&small, 0, 10)]).await.unwrap(), [vec![0.0; 10]]);
        });
    });
}

#[test]
fn an_unknown_device_lists_the_adapters() {
    for choice in ["no such device", "99"] {
        let choice = choice.parse().unwrap();
        let error = block_on(open(&choice, OpenOptions::default())).err().expect("an error");
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        assert!(text.contains("cpu"), "{text}");
        for capabilities in block_on(adapters()) {
            assert!(text.contains(&capabilities.name), "{text}");
        }
    }
}

#[test]
fn devices_are_chosen_by_name_and_software_only_if_named() {
    let found = block_on(adapters());
    for (index, capabilities) in found.iter().enumerate() {
        let part = capabilities.to_string().to_uppercase();
        if found[..index].iter().any(|earlier| earlier.to_string().to_uppercase().contains(&part)) {
            continue;
        }
        match block_on(open(&part.parse().unwrap(), OpenOptions::default())).unwrap() {
            Device::Gpu(gpu) => assert_eq!(gpu.capabilities.name, capabilities.name),
            Device::Cpu { why } => panic!("{why}"),
        }
    }
    use deepj::gpu::DeviceType::{Discrete, Integrated};
    match block_on(open(&DeviceChoice::Auto, OpenOptions::default())).unwrap() {
        Device::Gpu(gpu) => assert!(matches!(gpu.capabilities.device_type, Discrete | Integrated)),
        Device::Cpu { why } => assert!(!why.is_empty()),
    }
    assert!(matches!(block_on(open(&DeviceChoice::Cpu, OpenOptions::default())).unwrap(), Device::Cpu { .. }));
}
