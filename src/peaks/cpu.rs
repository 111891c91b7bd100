//! The roofline limits of the CPU, with the threads and the vector instructions that the CPU backend has.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use web_time::{Duration, Instant};

use super::{Measurement, RooflineLimits, load};
use crate::memory::available_memory;
use crate::{Error, Result};

/// How long multiply-adds are tried with each number of chains, and how long copies are.
const CHAINS_TIME: Duration = Duration::from_millis(60);
const COPY_TIME: Duration = Duration::from_millis(300);
/// How often what takes some microseconds is done for one look at the clock: a browser's moves every 0.1 ms.
const REPEATS: u32 = if cfg!(target_arch = "wasm32") { 64 } else { 1 };
/// Steps of a chain between two looks at the clock: a tenth of a millisecond or so, in which other programs seldom
/// interrupt.
const STEPS: u32 = 40_000;
/// Bytes of each of the two buffers of a copy, together beyond the last-level cache of most machines, and at least.
const BUFFER: u64 = 256 << 20;
const SMALLEST_BUFFER: u64 = 1 << 20;
/// How long copies within caches are tried, elements of each, and copies between two looks at the clock.
const CACHE_TIME: Duration = Duration::from_millis(40);
const CACHED: usize = 1 << 14;
const CACHED_COPIES: usize = 64;
/// Elements that a thread copies at a time.
const PIECE: usize = 1 << 17;
/// Loops that do nothing in a sample, and samples.
const LOOPS: u32 = 200;
const SAMPLES: usize = 20;

/// Measures the CPU.
///
/// # Errors
/// Too little memory.
pub(super) fn measure() -> Result<RooflineLimits> {
    let load = load();
    // Latency times throughput is 8 to 10 instructions on x86 with its 16 registers, and 16 on some ARM with their 32.
    let (f32_gflops, chains) =
        [gflops::<12>(), gflops::<24>()].into_iter().max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or_default();
    let copies = bandwidths_gbs()?;
    let best = |rates: &[f64]| rates.iter().copied().fold(0.0, f64::max);
    Ok(RooflineLimits {
        f32_gflops,
        f16_gflops: None,
        matrix_gflops: None,
        bandwidth_gbs: best(&copies),
        workgroup_gbs: None,
        launch_us: launch_us(),
        readback_us: 0.0,
        cache_gbs: Some(cache_gbs()),
        measurement: Some(Measurement::now(load, [&chains, &copies])),
    })
}

/// [`STEPS`] multiply-adds in each of `N` independent chains of vectors. Returns a sum of all, and how many lanes a vector has.
struct Chains<const N: usize>;

impl<const N: usize> WithSimd for Chains<N> {
    type Output = (f32, usize);

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> (f32, usize) {
        // x becomes 1 - x and then x again; the compiler must not know.
        let [factor, summand] = [-1.0, 1.0].map(|x| simd.splat_f32s(black_box(x)));
        let mut chains: [S::f32s; N] = std::array::from_fn(|i| simd.splat_f32s(black_box(i as f32 * 0.125)));
        for _ in 0..STEPS {
            for x in &mut chains {
                *x = simd.mul_add_e_f32s(*x, factor, summand);
            }
        }
        let sum = chains.into_iter().fold(simd.splat_f32s(0.0), |sum, x| simd.add_f32s(sum, x));
        (simd.reduce_sum_f32s(sum), S::F32_LANES)
    }
}

/// What all threads together do: the sum of each one's fastest [`STEPS`] steps, so that other programs on the machine, which
/// interrupt this one or that, do not count as a slow processor. Beside it the rates of each thread's steps, as parts of its best.
fn gflops<const N: usize>() -> (f64, Vec<f64>) {
    let threads = rayon::current_num_threads();
    let at_work = AtomicUsize::new(0);
    let began = Instant::now();
    let rates = rayon::broadcast(|_| {
        at_work.fetch_add(1, Ordering::Relaxed);
        let [mut alone, mut together] = [0.0f64; 2];
        let mut rates = vec![];
        while began.elapsed() < CHAINS_TIME || alone == 0.0 {
            let began = Instant::now();
            let mut lanes = 0;
            for _ in 0..REPEATS {
                let sum;
                (sum, lanes) = Arch::new().dispatch(Chains::<N>);
                black_box(sum);
            }
            let steps = f64::from(STEPS) * f64::from(REPEATS);
            let rate = 2.0 * steps * (N * lanes) as f64 / began.elapsed().as_secs_f64() / 1e9;
            alone = alone.max(rate);
            rates.push(rate);
            // Threads share clocks, and two may share a core: with the others idle one would be faster.
            if at_work.load(Ordering::Relaxed) == threads {
                together = together.max(rate);
            }
        }
        at_work.fetch_sub(1, Ordering::Relaxed);
        rates.iter_mut().for_each(|rate| *rate /= alone);
        (if together > 0.0 { together } else { alone }, rates)
    });
    // More threads than cores take turns.
    let cores = std::thread::available_parallelism().map_or(threads, usize::from).min(threads);
    let all = rates.iter().map(|(rate, _)| rate).sum::<f64>() * cores as f64 / threads as f64;
    (all, rates.into_iter().flat_map(|(_, rates)| rates).collect())
}

/// Bytes read and written by all threads together, copy by copy.
fn bandwidths_gbs() -> Result<Vec<f64>> {
    let mut bytes = available_memory().map_or(BUFFER, |available| BUFFER.min(available / 8)).max(SMALLEST_BUFFER);
    let [source, mut copied] = loop {
        let elements = bytes as usize / 4;
        match [numbers(elements), numbers(elements)] {
            [Some(source), Some(copied)] => break [source, copied],
            _ if bytes / 2 < SMALLEST_BUFFER => {
                return Err(Error::memory("there is no memory to measure", "close other programs"));
            }
            _ => bytes /= 2,
        }
    };
    let began = Instant::now();
    let mut rates = vec![];
    while began.elapsed() < COPY_TIME || rates.is_empty() {
        let began = Instant::now();
        let pieces = copied.par_chunks_mut(PIECE).zip(source.par_chunks(PIECE));
        pieces.for_each(|(copied, source)| copied.copy_from_slice(source));
        black_box(&copied);
        rates.push(2.0 * 4.0 * source.len() as f64 / began.elapsed().as_secs_f64() / 1e9);
    }
    Ok(rates)
}

/// Bytes read and written by all threads together where each copies within its second-level cache: the sum of each one's fastest.
fn cache_gbs() -> f64 {
    let began = Instant::now();
    let rates = rayon::broadcast(|_| {
        let (source, mut copied) = (vec![1.0f32; CACHED], vec![0.0f32; CACHED]);
        let mut best = 0.0f64;
        while began.elapsed() < CACHE_TIME || best == 0.0 {
            let began = Instant::now();
            for _ in 0..CACHED_COPIES * REPEATS as usize {
                black_box(&mut copied).copy_from_slice(black_box(&source));
            }
            let bytes = 2.0 * 4.0 * (CACHED * CACHED_COPIES) as f64 * f64::from(REPEATS);
            best = best.max(bytes / began.elapsed().as_secs_f64() / 1e9);
        }
        best
    });
    rates.into_iter().sum()
}

/// Numbers in memory that the threads have touched, if there is so much.
fn numbers(len: usize) -> Option<Vec<f32>> {
    let mut numbers = Vec::new();
    numbers.try_reserve_exact(len).ok()?;
    numbers.par_extend(rayon::iter::repeat_n(1.0, len));
    Some(numbers)
}

/// Loops after which a clock that did not move is taken to stand still.
const MOST_LOOPS: u32 = 1 << 22;

/// Microseconds of a parallel loop that does nothing.
fn launch_us() -> f64 {
    let threads = rayon::current_num_threads();
    let sample = |_| {
        let mut loops = LOOPS * REPEATS;
        loop {
            let began = Instant::now();
            for _ in 0..loops {
                (0..threads).into_par_iter().with_max_len(1).for_each(|i| _ = black_box(i));
            }
            let seconds = began.elapsed().as_secs_f64();
            // The clock of a browser moves by 0.1 ms at a time.
            if seconds > 0.0 || loops >= MOST_LOOPS {
                return seconds / f64::from(loops);
            }
            loops *= 2;
        }
    };
    (0..SAMPLES).map(sample).fold(f64::INFINITY, f64::min) * 1e6
}
