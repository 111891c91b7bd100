//! Loops in the best vector instructions of the CPU at hand.

use super::Real;

/// Runs `f` compiled for the best vector instructions of this CPU.
#[inline(always)]
pub fn vectorized<T>(f: impl FnOnce() -> T) -> T {
    pulp::Arch::new().dispatch(f)
}

/// The sum of `a[i] b[i]`, in SIMD lanes that the compiler makes inside [`vectorized`].
#[inline(always)]
pub fn dot<R: Real>(a: &[R], b: &[R]) -> R {
    const LANES: usize = 32;
    let mut sums = [R::ZERO; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a.remainder().iter().zip(b.remainder()).map(|(&a, &b)| a * b).sum::<R>();
    for (a, b) in a.zip(b) {
        for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.into_iter().sum::<R>() + rest
}
