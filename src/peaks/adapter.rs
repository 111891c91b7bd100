//! The roofline limits of an adapter, by `shaders/peaks.wgsl`.
//!
//! A time is the wall clock around submitting and waiting, that of a submission of nothing left out; runs are encoded before.
//! What disturbs a run only makes it slower, so that of several the fastest counts, in latencies too.

use web_time::Instant;

use super::{Measurement, RooflineLimits, load};
use crate::error::Kind;
use crate::gpu::{
    Access, Binding, Buffer, Capabilities, Cost, DeviceType, Dispatch, Format, Gpu, Program, Shader, shader_text,
};
use crate::{Error, Result};

/// How long a run should take at least, in seconds, on hardware and on software adapters: long against a submission of
/// nothing, short for a watchdog, and on a CPU short enough to end before another program gets its turn.
const RUN: [f64; 2] = [0.005, 0.002];
/// Workgroups of a run, on hardware and on software adapters. Enough that the last ones, which do not fill a large GPU,
/// hardly count.
const GROUPS: [u32; 2] = [16384, 64];
/// Seconds of running each shader, and how many runs there are at least. They run in turn: clocks rise under load, and
/// all meet them.
const SAMPLING: [f64; 2] = [0.04, 0.1];
const FEWEST_RUNS: usize = 4;
/// Submissions of nothing of which the fastest is left out of all times.
const SUBMISSIONS: usize = 20;
/// Loops, or copies, of a run at most, so that it ends where clocks are wrong.
const MOST_LOOPS: u32 = 1 << 24;
/// The most copies of one submission.
const MOST_COPIES: u32 = 1 << 14;
/// Dispatches of nothing whose latency is measured.
const LAUNCHES: [u32; 2] = [1000, 200];
/// Bytes of each of the two buffers of a copy: together beyond the caches of adapters, and at least enough for a sum of
/// each invocation.
const BUFFER: [u64; 2] = [256 << 20, 64 << 20];
const SMALLEST_BUFFER: u64 = 16 << 20;
/// Invocations of a workgroup.
const SIZE: u64 = 256;
/// Elements that all workgroups read again and again: 512 KiB, which caches of GPUs hold.
const CACHED: u64 = 1 << 17;
/// Elements that a workgroup copies: four vectors an invocation.
const GROUP_COPIES: u64 = 4 * 4 * SIZE;

/// What a shader is run for.
#[derive(Clone, Copy, PartialEq)]
enum Rate {
    F32,
    F16,
    Matrix,
    Bandwidth,
    Cache,
    Workgroup,
}

/// One way to reach a limit.
struct Shape {
    rate: Rate,
    shader: Shader,
    /// FLOP, or bytes, of a workgroup: in a loop, of which the shader does as many as it is told, or in all of a copy.
    work: u64,
}

/// A shape with as many loops, or copies, as take long enough.
struct Candidate {
    rate: Rate,
    program: Program,
    times: u32,
    /// FLOP, or bytes, of all.
    work: f64,
    /// Seconds of each run.
    seconds: Vec<f64>,
}

impl Candidate {
    /// FLOP, or bytes, a second, run by run, in 10^9.
    fn rates(&self) -> Vec<f64> {
        self.seconds.iter().map(|seconds| self.work / seconds / 1e9).collect()
    }

    fn best(&self) -> f64 {
        self.rates().into_iter().fold(0.0, f64::max)
    }
}

/// Measures an adapter, its matrix units only if asked for.
///
/// # Errors
/// A lost device, too little memory, or a driver that refuses every shader of a limit that all adapters have.
pub(super) async fn measure(gpu: &Gpu, matrices: bool) -> Result<RooflineLimits> {
    let bench = Bench::new(gpu).await?;
    let mut candidates = vec![];
    let mut refused = None;
    for shape in shapes(&gpu.capabilities, matrices) {
        match bench.candidate(&shape).await {
            Ok(candidate) => candidates.push(candidate),
            // Another shape may do. What else fails may work another time, and limits without it would be remembered.
            Err(e) if e.kind == Kind::Shader => refused = Some(e),
            Err(e) => return Err(e),
        }
    }
    let (load, sampling) = (load(), SAMPLING[bench.software]);
    let nothing = bench.nothing().await?;
    let mut latencies = [f64::INFINITY; 2];
    for round in 0..(sampling / RUN[bench.software]) as usize {
        let fastest = |candidate: &Candidate| candidate.seconds.iter().copied().fold(f64::INFINITY, f64::min);
        let due = |candidate: &&mut Candidate| round < FEWEST_RUNS || round as f64 * fastest(candidate) < sampling;
        for candidate in candidates.iter_mut().filter(due) {
            candidate.seconds.push(bench.seconds(&candidate.program, candidate.times).await?);
        }
        let seconds = bench.latencies(&nothing).await?;
        latencies = [0, 1].map(|i| seconds[i].min(latencies[i]));
    }
    let fastest = |rate: Rate| {
        let of_rate = candidates.iter().filter(|candidate| candidate.rate == rate);
        of_rate.max_by(|a, b| a.best().total_cmp(&b.best()))
    };
    let best = |rate: Rate| fastest(rate).map(Candidate::best);
    let rates = |rate: Rate| fastest(rate).map(Candidate::rates).unwrap_or_default();
    let (Some(f32_gflops), Some(bandwidth_gbs)) = (best(Rate::F32), best(Rate::Bandwidth)) else {
        return Err(refused.unwrap_or_else(|| Error::device("the adapter runs no shader", "update its driver")));
    };
    let [launch_us, readback_us] = latencies.map(|seconds| seconds * 1e6);
    Ok(RooflineLimits {
        f32_gflops,
        f16_gflops: best(Rate::F16),
        matrix_gflops: best(Rate::Matrix),
        bandwidth_gbs,
        workgroup_gbs: best(Rate::Workgroup),
        launch_us,
        readback_us,
        cache_gbs: best(Rate::Cache),
        measurement: Some(Measurement::now(load, [&rates(Rate::F32), &rates(Rate::Bandwidth)])),
    })
}

/// The shaders that measuring an adapter with these capabilities runs.
pub fn shaders(capabilities: &Capabilities) -> Vec<Shader> {
    let shapes = shapes(capabilities, true).into_iter().map(|shape| shape.shader);
    shapes.chain([shader("nothing", vec![])]).collect()
}

/// All that there is to try.
fn shapes(capabilities: &Capabilities, matrices: bool) -> Vec<Shape> {
    const CHAINS: [(&str, u64); 3] = [("scalars", 64), ("vectors", 64), ("more_vectors", 128)];
    let shape = |rate, entry, types, work: u64| Shape { rate, shader: shader(entry, types), work: work * SIZE };
    let mut shapes: Vec<_> = CHAINS.map(|(entry, flops)| shape(Rate::F32, entry, vec![], flops)).into();
    if capabilities.shader_f16 {
        shapes.extend(CHAINS.map(|(entry, flops)| shape(Rate::F16, entry, vec![("S", Format::F16)], flops)));
    }
    shapes.push(shape(Rate::Workgroup, "shared_scalars", vec![], 32));
    shapes.push(shape(Rate::Workgroup, "shared_vectors", vec![], 128));
    shapes.push(shape(Rate::Bandwidth, "copy", vec![], 2 * 4 * GROUP_COPIES / SIZE));
    shapes.push(shape(Rate::Cache, "cached", vec![], 64));
    // An invocation writes one of the SIZE sums of its workgroup.
    let fits = 4 * u64::from(capabilities.subgroup_max_size) <= SIZE;
    if matrices && fits && capabilities.multiplies_matrices(4) {
        let shader = Shader {
            op: "peaks_cooperative",
            source: shader_text!("peaks_cooperative"),
            entry: "matrices",
            consts: vec![("INVOCATIONS", capabilities.subgroup_max_size)],
            types: vec![("S", Format::F16)],
        };
        shapes.push(Shape { rate: Rate::Matrix, shader, work: 4 * 4 * 2 * 16 * 16 * 16 });
    }
    shapes
}

fn shader(entry: &'static str, types: Vec<(&'static str, Format)>) -> Shader {
    let source = shader_text!("peaks");
    Shader { op: "peaks", source, entry, consts: vec![], types }
}

/// Where measuring happens.
struct Bench<'a> {
    gpu: &'a Gpu,
    /// 0 on hardware, 1 on a software adapter.
    software: usize,
    /// What a copy reads and writes; sums are written to the second.
    buffers: [Buffer; 2],
    /// Seconds of a submission of nothing.
    latency: f64,
}

impl<'a> Bench<'a> {
    async fn new(gpu: &'a Gpu) -> Result<Self> {
        let software = usize::from(gpu.capabilities.device_type == DeviceType::Software);
        let mut bench = Self { gpu, software, buffers: buffers(gpu, software).await?, latency: 0.0 };
        let nothing = gpu.program("nothing", &[]).await?;
        let mut latency = f64::INFINITY;
        for _ in 0..SUBMISSIONS {
            latency = latency.min(bench.seconds(&nothing, 1).await?);
        }
        bench.latency = latency;
        Ok(bench)
    }

    /// Seconds of `times` runs in one submission, that of a submission of nothing left out.
    async fn seconds(&self, program: &Program, times: u32) -> Result<f64> {
        Ok((self.gpu.time(program, times).await?.as_secs_f64() - self.latency).max(1e-9))
    }

    /// A run of the shape with so many loops, which a copy has not, and the numbers of a multiply-add.
    fn dispatch(&self, shape: &Shape, loops: u32, [factor, summand]: [f32; 2]) -> Dispatch {
        let shader = shape.shader.clone();
        let groups = GROUPS[self.software];
        let sums = binding(1, Access::ReadWrite, u64::from(groups) * SIZE);
        let params = vec![loops, factor.to_bits(), summand.to_bits()];
        let (bindings, params, groups) = match shape.rate {
            Rate::Bandwidth => {
                let len = self.buffers[0].len();
                let bindings = vec![binding(0, Access::Read, len), binding(1, Access::ReadWrite, len)];
                (bindings, vec![], (len / GROUP_COPIES) as u32)
            }
            Rate::Cache => (vec![binding(0, Access::Read, CACHED), sums], params, groups),
            _ => (vec![sums], params, groups),
        };
        Dispatch { shader, bindings, params, grid: [groups, 1, 1], uses_uniforms: false, cost: Cost::default() }
    }

    /// The shape with as many loops, or copies, as take [`RUN`].
    async fn candidate(&self, shape: &Shape) -> Result<Candidate> {
        let [source, copied] = &self.buffers;
        // A driver may still be compiling, or clearing memory, when a program runs for the first time.
        let mut warm = false;
        let mut amount = 1;
        loop {
            let (loops, times, most) = match shape.rate {
                Rate::Bandwidth => (1, amount, MOST_COPIES),
                _ => (amount, 1, MOST_LOOPS),
            };
            let dispatch = self.dispatch(shape, loops, [-1.0, 1.0]);
            let work = shape.work as f64 * f64::from(dispatch.grid[0]) * f64::from(amount);
            let program = self.gpu.program(shape.shader.entry, &[(dispatch, &[source, copied])]).await?;
            if !warm {
                self.seconds(&program, times).await?;
                warm = true;
            }
            let best = self.seconds(&program, times).await?;
            if best >= RUN[self.software] || amount >= most {
                return Ok(Candidate { rate: shape.rate, program, times, work, seconds: vec![best] });
            }
            amount *= (1.2 * RUN[self.software] / best).clamp(2.0, 8.0) as u32;
        }
    }

    /// A dispatch that does nothing but need what the one before left.
    async fn nothing(&self) -> Result<Program> {
        let bindings = vec![binding(0, Access::ReadWrite, 1)];
        let shader = shader("nothing", vec![]);
        let cost = Cost::default();
        let dispatch = Dispatch { shader, bindings, params: vec![], grid: [1; 3], uses_uniforms: false, cost };
        self.gpu.program("nothing", &[(dispatch, &[&self.buffers[1]])]).await
    }

    /// Seconds of a dispatch of many, and from a submission to its result.
    async fn latencies(&self, nothing: &Program) -> Result<[f64; 2]> {
        let launches = LAUNCHES[self.software];
        let launch = self.seconds(nothing, launches).await? / f64::from(launches);
        self.gpu.prepare(nothing, 1)?;
        let began = Instant::now();
        self.gpu.submit(nothing, 1, &[0; 16])?;
        self.gpu.read(&[(&self.buffers[1], 0, 1)]).await?;
        Ok([launch, began.elapsed().as_secs_f64()])
    }
}

fn binding(arg: usize, access: Access, len: u64) -> Binding {
    Binding { arg, access, format: Format::F32, start: 0, len }
}

/// The buffers of a copy, as large as the device allows and has left.
async fn buffers(gpu: &Gpu, software: usize) -> Result<[Buffer; 2]> {
    let capabilities = &gpu.capabilities;
    let mut bytes =
        capabilities.max_storage_buffer_binding_size.min(capabilities.max_buffer_size).min(BUFFER[software]);
    loop {
        let elements = bytes / 4 / GROUP_COPIES * GROUP_COPIES;
        let made = async { Ok([gpu.buffer("copied from", elements).await?, gpu.buffer("copied to", elements).await?]) };
        match made.await {
            Ok(buffers) => return Ok(buffers),
            Err(e) if bytes / 2 < SMALLEST_BUFFER => return Err(e),
            Err(_) => bytes /= 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Device, DeviceChoice, OpenOptions, adapters, open};
    use pollster::block_on;
    use wgpu::naga;

    #[test]
    fn there_are_shapes_for_what_an_adapter_has() {
        let rates = |capabilities: &Capabilities, matrices| {
            let shapes = shapes(capabilities, matrices);
            [Rate::F32, Rate::F16, Rate::Matrix].map(|rate| shapes.iter().any(|shape| shape.rate == rate))
        };
        assert_eq!(rates(&Capabilities::portable(), true), [true, false, false]);
        assert_eq!(rates(&Capabilities::able(), true), [true; 3]);
        assert_eq!(rates(&Capabilities::able(), false), [true, true, false]);
        let other = Capabilities { subgroup_min_size: 16, ..Capabilities::able() };
        assert_eq!(rates(&other, true), [true, true, false], "subgroups of several sizes");
    }

    /// With and without what the preprocessor puts in: editors work with the raw file.
    #[test]
    fn all_shaders_are_valid() {
        for Shape { shader, .. } in shapes(&Capabilities::able(), true) {
            let raw = Shader { consts: vec![], types: vec![], ..shader.clone() };
            for text in [shader.wgsl().unwrap(), raw.wgsl().unwrap()] {
                let module =
                    naga::front::wgsl::parse_str(&text).unwrap_or_else(|e| panic!("{}", e.emit_to_string(&text)));
                let (flags, capabilities) = (naga::valid::ValidationFlags::all(), naga::valid::Capabilities::all());
                let valid = naga::valid::Validator::new(flags, capabilities).validate(&module);
                valid.unwrap_or_else(|e| panic!("{}: {}", shader.entry, e.emit_to_string(&text)));
                assert!(module.entry_points.iter().any(|entry| entry.name == shader.entry), "{}", shader.entry);
            }
        }
    }

    /// What each shape computes tells how much it does: a step of a chain that adds 1 makes its sum larger by 1, and every
    /// word of workgroup memory is read as often as any other.
    #[test]
    fn shapes_do_the_work_that_is_counted() {
        const LOOPS: u32 = 256;
        let found = block_on(adapters());
        if found.is_empty() {
            println!("skipped: no adapter here");
        }
        for index in 0..found.len() {
            let opened = block_on(open(&DeviceChoice::Index(index), OpenOptions::default())).unwrap();
            let Device::Gpu(gpu) = opened else { panic!("an adapter is no CPU") };
            let bench = block_on(Bench::new(&gpu)).unwrap();
            let [source, copied] = &bench.buffers;
            let numbers: Vec<f32> = (0..source.len()).map(|i| (i % 65_521) as f32).collect();
            gpu.write(source, 0, &numbers).unwrap();
            let run = |dispatch, len| {
                let program = block_on(gpu.program("test", &[(dispatch, &[source, copied])])).unwrap();
                gpu.submit(&program, 1, &[0; 16]).unwrap();
                block_on(gpu.read(&[(copied, 0, len)])).unwrap().remove(0)
            };
            for shape in shapes(&gpu.capabilities, false) {
                let name = format!("{}: {} {:?}", gpu.capabilities, shape.shader.entry, shape.shader.types);
                println!("{name}");
                let sums = |loops| run(bench.dispatch(&shape, loops, [1.0, 1.0]), SIZE);
                match shape.rate {
                    Rate::Bandwidth => {
                        let dispatch = bench.dispatch(&shape, 1, [0.0; 2]);
                        let work = u64::from(dispatch.grid[0]) * shape.work;
                        assert_eq!(work, 2 * 4 * source.len(), "{name}");
                        assert!(run(dispatch, source.len()) == numbers, "{name}");
                    }
                    Rate::Cache => {
                        // Each invocation's vectors lie 256 apart, and the sum of all stands in for what was read.
                        let of = |id: u64| -> f64 {
                            let vector = |i: u64| (0..4).map(move |word| (4 * (i % (CACHED / 4)) + word) % 65_521);
                            let vectors = (0..4 * u64::from(LOOPS)).flat_map(|i| vector(id % SIZE + SIZE * i));
                            vectors.map(|word| word as f64).sum()
                        };
                        for (id, sum) in (0..).zip(sums(LOOPS)) {
                            let wanted = of(id);
                            assert!((f64::from(sum) - wanted).abs() <= 1e-4 * wanted, "{name}: {sum}, not {wanted}");
                        }
                        assert_eq!(shape.work, 4 * 16 * SIZE, "{name}");
                    }
                    Rate::Workgroup => {
                        // The numbers are 0, 1/256 and so on to 255/256.
                        let bytes = sums(LOOPS).iter().map(|sum| 4.0 * sum / (255.0 / 512.0)).sum::<f32>();
                        assert_eq!(bytes as u64, u64::from(LOOPS) * shape.work, "{name}");
                    }
                    Rate::F32 | Rate::F16 => {
                        // So few that f16 counts them exactly.
                        let (before, after) = (sums(0), sums(2));
                        let steps = before.iter().zip(after).map(|(before, after)| after - before).sum::<f32>();
                        assert_eq!(2 * steps as u64, 2 * shape.work, "{name}");
                    }
                    Rate::Matrix => unreachable!("not asked for"),
                }
            }
        }
    }
}
