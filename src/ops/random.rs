//! Counter-based random numbers: the same functions as in `shaders/common.wgsl`, bit for bit.
//!
//! A value is a hash of its coordinates (element, site, update, seed), so it needs no state, does not depend on the order
//! of evaluation, and can be computed again in the backward pass.

use crate::shape::Slots;

/// Hash of four words: pcg4d of Jarzynski & Olano, "Hash Functions for GPU Rendering", JCGT 9(3), 2020.
#[inline(always)] // as what follows: so that loops over elements vectorise
pub fn pcg4d(key: [u32; 4]) -> [u32; 4] {
    let mut v = key.map(|word| word.wrapping_mul(1664525).wrapping_add(1013904223));
    mix(&mut v);
    v = v.map(|word| word ^ (word >> 16));
    mix(&mut v);
    v
}

#[inline(always)]
fn mix(v: &mut [u32; 4]) {
    v[0] = v[0].wrapping_add(v[1].wrapping_mul(v[3]));
    v[1] = v[1].wrapping_add(v[2].wrapping_mul(v[0]));
    v[2] = v[2].wrapping_add(v[0].wrapping_mul(v[1]));
    v[3] = v[3].wrapping_add(v[1].wrapping_mul(v[2]));
}

/// A multiple of 2^-24 in [0, 1) from a hash; exact in f32.
pub fn uniform01(hash: u32) -> f32 {
    (hash >> 8) as f32 / (1 << 24) as f32
}

/// Inverted dropout's factor for element `index` of dropout site `site`: 0 with probability `rate`, else `1 / (1 - rate)`.
/// `0 <= rate < 1`.
pub fn keep_mask(index: u32, site: u32, rate: f32, seed: u32, update: u32) -> f32 {
    if keeps(index, site, dropped(rate), seed, update) { 1.0 / (1.0 - rate) } else { 0.0 }
}

/// How many of 2^24 equally likely values of a hash stand for an element that is dropped.
pub fn dropped(rate: f32) -> u32 {
    // Exact: a power of two scales, and what is compared are multiples of 2^-24.
    (rate * (1 << 24) as f32).ceil() as u32
}

/// Whether element `index` of a dropout site is kept, whose rate is such that so many of 2^24 are [`dropped`].
#[inline(always)]
pub fn keeps(index: u32, site: u32, dropped: u32, seed: u32, update: u32) -> bool {
    pcg4d([index, site, update, seed])[0] >> 8 >= dropped
}

/// The number that element `index` of a tensor `[outer, B, inner]` of this process' batch slots has in the tensor of the whole
/// batch, so that masks do not depend on who computes a slot. The number itself where this process computes the whole batch.
#[inline(always)]
pub fn in_whole_batch(index: u32, inner: u32, slots: Slots) -> u32 {
    let Slots { first, count, total } = slots;
    if count == total {
        return index;
    }
    let row = index / (count as u32 * inner);
    index + (row * (total - count) as u32 + first as u32) * inner
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_numbered_as_in_the_whole_batch() {
        let (outer, total, inner) = (3, 5, 7);
        let whole = |o: u32, slot: u32, i: u32| (o * total + slot) * inner + i;
        for (first, count) in [(0, 5), (0, 2), (2, 3), (4, 1)] {
            let slots = Slots { first, count, total: total as usize };
            let mut index = 0;
            for o in 0..outer {
                for slot in 0..count {
                    for i in 0..inner {
                        let expected = whole(o, (first + slot) as u32, i);
                        assert_eq!(in_whole_batch(index, inner, slots), expected, "{slots:?}: {o}, {slot}, {i}");
                        index += 1;
                    }
                }
            }
        }
    }

    #[test]
    fn pcg4d_differs_in_every_word_of_its_key() {
        let base = pcg4d([0; 4]);
        for i in 0..4 {
            let mut key = [0; 4];
            key[i] = 1;
            let changed = pcg4d(key);
            let bits: u32 = base.iter().zip(changed).map(|(a, b)| (a ^ b).count_ones()).sum();
            assert!((40..=88).contains(&bits), "one key bit of word {i} changes {bits} of 128 bits");
        }
    }

    #[test]
    fn keep_mask_keeps_the_mean_and_the_share() {
        let (n, rate) = (100_000, 0.2);
        let kept = (0..n)
            .map(|i| keep_mask(i, 3, rate, 42, 7))
            .filter(|&m| m != 0.0)
            .inspect(|&m| assert_eq!(m, 1.25))
            .count();
        // Binomial(100000, 0.8) has standard deviation 126.
        assert!((kept as i64 - 80_000).abs() < 5 * 126, "{kept} of {n} kept");
        assert!((0..1000).all(|i| keep_mask(i, 0, 0.0, 1, 1) == 1.0));
        // As shaders compare it.
        for rate in [1e-9, 0.1, 0.2, 0.5, 1.0 / 3.0, 0.999_999_9] {
            let drops = |i| uniform01(pcg4d([i, 2, 9, 4])[0]) < rate;
            assert!((0..n).all(|i| drops(i) == (keep_mask(i, 2, rate, 4, 9) == 0.0)), "{rate}");
            for value in [dropped(rate).saturating_sub(1), dropped(rate), dropped(rate) + 1] {
                assert_eq!(uniform01(value << 8) < rate, value < dropped(rate), "{rate} {value}");
            }
        }
    }
}
