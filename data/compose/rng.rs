//! The generator's only source of chance: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), integers only, so that a
//! seed gives the same notes on every platform.

/// A seeded stream of 64-bit numbers.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A stream of its own for a part of the work (a composer, a piece, a draft), so that a change in one leaves the
    /// others as they are.
    pub fn branch(&self, part: u64) -> Self {
        let mut branch = self.clone();
        branch.0 = branch.next() ^ part.wrapping_mul(0xA24B_AED4_963E_E407);
        branch
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A whole number in `0..n`; `n` is at least 1.
    pub fn below(&mut self, n: i32) -> i32 {
        ((self.next() >> 32).wrapping_mul(n as u64) >> 32) as i32
    }

    /// True `n` times in `of`.
    pub fn chance(&mut self, n: i32, of: i32) -> bool {
        self.below(of) < n
    }

    /// One of `items`, which must not be empty.
    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as i32) as usize]
    }
}
