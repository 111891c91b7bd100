//! A small generator of pseudo-random numbers, the same on every platform, for draws that a seed must fix for good.

/// SplitMix64 (Steele, Lea and Flood 2014): a 64-bit counter and a mixing function.
pub(crate) struct SplitMix64(u64);

impl SplitMix64 {
    const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

    /// The generator of `seed` for one purpose: streams of one seed are independent of each other.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        Self(Self::mix(seed).wrapping_add(Self::mix(stream ^ Self::GAMMA)))
    }

    fn mix(mut z: u64) -> u64 {
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(Self::GAMMA);
        Self::mix(self.0)
    }

    /// A number in `0..bound`; the bias of at most `bound` / 2^64 is of no account here.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// Puts `items` in random order (Fisher and Yates).
    pub(crate) fn shuffle<T>(mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The orders are stored in users' checkpoints, by their seed: they may never change.
    #[test]
    fn known_order() {
        let mut items: Vec<u8> = (0..8).collect();
        SplitMix64::new(0, 0).shuffle(&mut items);
        assert_eq!(items, [7, 1, 0, 6, 3, 2, 4, 5]);
        // Published first outputs of SplitMix64 from state 1234567.
        let mut known = SplitMix64(1_234_567);
        assert_eq!([known.next(), known.next()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }

    #[test]
    fn every_order_comes_up() {
        let mut seen = std::collections::BTreeMap::new();
        for seed in 0..2400 {
            let mut items = [0, 1, 2, 3];
            items.iter_mut().enumerate().for_each(|(i, item)| *item = i);
            SplitMix64::new(seed, 7).shuffle(&mut items);
            *seen.entry(items).or_insert(0) += 1;
        }
        assert_eq!(seen.len(), 24);
        assert!(seen.values().all(|&count| (60..=140).contains(&count)), "{seen:?}");
    }
}
