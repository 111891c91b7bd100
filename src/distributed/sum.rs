//! Sums over ranks in a fixed order, the same bits on all of them: each rank sums a shard of the values, pair by pair, and all
//! gather the shards. Each rank sends `2 (N - 1) / N` times the values, which is the least that a sum can do with
//! (Patarasuk and Yuan 2009, "Bandwidth optimal all-reduce algorithms for clusters of workstations").

use std::str::FromStr;

use half::f16;
use serde::{Deserialize, Serialize};
use web_time::Instant;

use super::transport::Transport;
use crate::{Error, Result};

/// How numbers travel between ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wire {
    /// As they are.
    #[default]
    F32,
    /// As f16, which halves the bytes. What rounding takes away is added to what is sent next (error feedback: Seide et al.
    /// 2014, "1-bit stochastic gradient descent").
    F16,
}

impl Wire {
    /// As the command line has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        }
    }
}

impl Wire {
    /// Bytes of so many numbers on their way.
    pub const fn bytes(self, numbers: u64) -> u64 {
        match self {
            Self::F32 => 4 * numbers,
            Self::F16 => (numbers * BLOCK_BYTES as u64).div_ceil(BLOCK as u64),
        }
    }
}

impl FromStr for Wire {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            _ => Err(Error::usage(format!("`{text}` is no way for gradients to travel"), "use f32 or f16")),
        }
    }
}

/// Numbers that share a scale when they travel as f16; shards are multiples of it.
const BLOCK: usize = 1024;
/// Bytes of a block as f16, with its scale before it.
const BLOCK_BYTES: usize = 4 + 2 * BLOCK;

/// What rounding has taken away so far from one vector that is summed again and again.
#[derive(Debug, Default)]
pub(super) struct Feedback {
    /// From what this rank sends, by element of the vector, padding included.
    sent: Vec<f32>,
    /// From the shard that this rank sums.
    shard: Vec<f32>,
    /// Both as they were before the last sum.
    before: (Vec<f32>, Vec<f32>),
}

impl Feedback {
    /// All that this rank still owes to a sum of `len` elements, and nothing from now on.
    pub fn take(&mut self, len: usize, rank: usize) -> Vec<f32> {
        let mut owed = std::mem::take(&mut self.sent);
        let shard = std::mem::take(&mut self.shard);
        owed.resize(owed.len().max(len), 0.0);
        let start = rank * shard.len();
        owed.iter_mut().skip(start).zip(&shard).for_each(|(owed, shard)| *owed += shard);
        owed.truncate(len);
        owed
    }

    /// This rank owes `owed`.
    pub fn owe(&mut self, owed: Vec<f32>) {
        *self = Self { sent: owed, ..Self::default() };
    }

    /// Takes the last sum back, which nobody will use.
    pub fn take_back(&mut self) {
        (self.sent, self.shard) = std::mem::take(&mut self.before);
    }

    /// The sums to come are of values so many times as large, a power of two.
    pub fn rescale(&mut self, factor: f32) {
        self.sent.iter_mut().chain(&mut self.shard).for_each(|owed| *owed *= factor);
    }
}

/// A sum, and what each rank had to say beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Summed {
    /// The sum over all ranks, the same bits on each.
    pub values: Vec<f32>,
    /// By rank.
    pub notes: Vec<Vec<u8>>,
    /// Bytes that this rank sent to others.
    pub bytes: u64,
    /// Seconds from the beginning of the sum to its end.
    pub seconds: f64,
}

/// The elements of a vector that each of `size` ranks sums, padding included.
fn shard_len(len: usize, size: usize) -> usize {
    len.div_ceil(size).next_multiple_of(BLOCK)
}

/// The sum of `values` over all ranks; `note` is shown to all, and is of one length everywhere. With `feedback` numbers travel as
/// f16.
///
/// # Errors
/// A rank that is gone.
pub(super) fn sum(
    transport: &mut dyn Transport,
    mut values: Vec<f32>,
    note: &[u8],
    feedback: Option<&mut Feedback>,
) -> Result<Summed> {
    let began = Instant::now();
    let (size, len) = (transport.size(), values.len());
    let shard = shard_len(len, size);
    values.resize(shard * size, 0.0);
    let (send, received): (Vec<u8>, Vec<u8>);
    match feedback {
        None => {
            let mut parts = vec![0.0_f32; values.len()];
            transport.all_to_all(bytemuck::cast_slice(&values), bytemuck::cast_slice_mut(&mut parts))?;
            let sum = pairwise(&parts.chunks_exact(shard.max(1)).collect::<Vec<_>>());
            send = [bytemuck::cast_slice(&sum), note].concat();
            received = gather(transport, &send)?;
            let sums = received.chunks_exact(send.len().max(1)).zip(values.chunks_exact_mut(shard.max(1)));
            sums.for_each(|(bytes, values)| {
                bytemuck::cast_slice_mut(values).copy_from_slice(&bytes[..4 * shard]);
            });
        }
        Some(feedback) => {
            feedback.sent.resize(values.len(), 0.0);
            feedback.shard.resize(shard, 0.0);
            feedback.before.0.clone_from(&feedback.sent);
            feedback.before.1.clone_from(&feedback.shard);
            let coded = encode(&values, &mut feedback.sent);
            let mut parts = vec![0; coded.len()];
            transport.all_to_all(&coded, &mut parts)?;
            let mut decoded = vec![0.0_f32; values.len()];
            decode(&parts, &mut decoded);
            let sum = pairwise(&decoded.chunks_exact(shard.max(1)).collect::<Vec<_>>());
            send = [&encode(&sum, &mut feedback.shard)[..], note].concat();
            received = gather(transport, &send)?;
            let sums = received.chunks_exact(send.len().max(1)).zip(values.chunks_exact_mut(shard.max(1)));
            sums.for_each(|(bytes, values)| decode(&bytes[..bytes.len() - note.len()], values));
        }
    }
    let notes = received.chunks_exact(send.len().max(1)).map(|bytes| bytes[bytes.len() - note.len()..].to_vec());
    let notes = notes.collect();
    values.truncate(len);
    let bytes = 2 * (size as u64 - 1) * send.len() as u64 - (size as u64 - 1) * note.len() as u64;
    Ok(Summed { values, notes, bytes, seconds: began.elapsed().as_secs_f64() })
}

/// What all ranks send, one after the other.
fn gather(transport: &mut dyn Transport, send: &[u8]) -> Result<Vec<u8>> {
    let mut received = vec![0; send.len() * transport.size()];
    transport.all_gather(send, &mut received)?;
    Ok(received)
}

/// The sum of vectors of one length: neighbours are summed, then neighbours of these sums, and so on. Ranks that sum parts of a
/// batch so, before these sums are summed over ranks so, make the same additions as one process with all parts, if their number
/// is a power of two on each.
pub fn pairwise(parts: &[&[f32]]) -> Vec<f32> {
    match parts {
        [] => vec![],
        [one] => one.to_vec(),
        _ => {
            let (left, right) = parts.split_at(parts.len().next_power_of_two() / 2);
            let mut sum = pairwise(left);
            sum.iter_mut().zip(pairwise(right)).for_each(|(sum, x)| *sum += x);
            sum
        }
    }
}

/// `values` with what is owed to them, as blocks of f16 with a scale each; `owed` becomes what rounding takes away now. A block that
/// is not finite stays so, and what is owed to it stays owed: its update is not made, and [`Feedback::take_back`] sees to the others.
fn encode(values: &[f32], owed: &mut [f32]) -> Vec<u8> {
    let mut coded = Vec::with_capacity(values.len() / BLOCK * BLOCK_BYTES);
    let mut sums = [0.0_f32; BLOCK];
    for (values, owed) in values.chunks_exact(BLOCK).zip(owed.chunks_exact_mut(BLOCK)) {
        let mut largest = 0.0_f32;
        let mut finite = true;
        for ((sum, value), owed) in sums.iter_mut().zip(values).zip(&*owed) {
            *sum = value + owed;
            finite &= sum.is_finite();
            largest = largest.max(sum.abs());
        }
        // The power of two above the largest, so that scaling rounds nothing; not so small that its inverse overflows.
        let exponent = (largest.to_bits() >> 23).clamp(1, 252) + 1;
        let scale = if finite { f32::from_bits(exponent << 23) } else { f32::NAN };
        coded.extend(scale.to_le_bytes());
        let inverse = 1.0 / scale;
        for (sum, owed) in sums.iter().zip(owed) {
            let half = f16::from_f32(sum * inverse);
            coded.extend(half.to_le_bytes());
            if finite {
                *owed = sum - half.to_f32() * scale;
            }
        }
    }
    coded
}

/// The numbers of [`encode`].
fn decode(coded: &[u8], values: &mut [f32]) {
    for (coded, values) in coded.chunks_exact(BLOCK_BYTES).zip(values.chunks_exact_mut(BLOCK)) {
        let (scale, halves) = coded.split_at(4);
        let scale = f32::from_le_bytes([scale[0], scale[1], scale[2], scale[3]]);
        for (half, value) in halves.chunks_exact(2).zip(values) {
            *value = f16::from_le_bytes([half[0], half[1]]).to_f32() * scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::transport::on_ranks;
    use super::*;

    /// Numbers of many magnitudes.
    fn numbers(rank: usize, len: usize) -> Vec<f32> {
        let number = |i: usize| ((i * 7919 + rank * 104_729) % 1013) as f32 - 500.0;
        (0..len).map(|i| number(i) * 10.0_f32.powi(-((i % 7) as i32))).collect()
    }

    #[test]
    fn parts_summed_by_several_are_the_sum_of_all() {
        let parts: Vec<Vec<f32>> = (0..16).map(|part| numbers(part, 500)).collect();
        let parts: Vec<&[f32]> = parts.iter().map(Vec::as_slice).collect();
        for count in [4, 8, 16] {
            let whole = pairwise(&parts[..count]);
            for each in [1, 2, 4] {
                let sums: Vec<Vec<f32>> = parts[..count].chunks(each).map(pairwise).collect();
                assert_eq!(pairwise(&sums.iter().map(Vec::as_slice).collect::<Vec<_>>()), whole);
            }
        }
        let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(|part| parts[part][7]);
        assert_eq!(pairwise(&parts[..5])[7], ((a + b) + (c + d)) + e);
        assert_eq!(pairwise(&parts[..3])[7], (a + b) + c);
        assert!(pairwise(&[]).is_empty());
    }

    #[test]
    fn all_ranks_have_the_sum_by_pairs() {
        for (size, len) in [(1, 5), (2, 1), (3, 4097), (4, 10_000), (5, 3000), (4, 0)] {
            let sums = on_ranks(size, |mut rank| {
                let values = numbers(rank.rank(), len);
                let note = [rank.rank() as u8; 3];
                sum(&mut rank, values, &note, None).unwrap()
            });
            let of: Vec<Vec<f32>> = (0..size).map(|rank| numbers(rank, len)).collect();
            let expected = pairwise(&of.iter().map(Vec::as_slice).collect::<Vec<_>>());
            for sum in sums {
                assert_eq!(sum.values, expected);
                assert_eq!(sum.notes, (0..size).map(|rank| vec![rank as u8; 3]).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn what_f16_takes_away_is_added_later() {
        let (size, len, rounds) = (3, 5000, 64);
        let ends = on_ranks(size, |mut rank| {
            let mut feedback = Feedback::default();
            let mut total = vec![0.0_f64; len];
            let mut first = vec![];
            for round in 0..rounds {
                let values = numbers(rank.rank(), len);
                let found = sum(&mut rank, values, &[], Some(&mut feedback)).unwrap().values;
                total.iter_mut().zip(&found).for_each(|(total, &x)| *total += f64::from(x));
                if round == 0 {
                    first = found;
                }
            }
            let number = rank.rank();
            (first, total, feedback.take(len, number))
        });
        let exact: Vec<f64> =
            (0..len).map(|i| (0..size).map(|rank| f64::from(numbers(rank, len)[i])).sum::<f64>()).collect();
        let largest = exact.iter().fold(0.0, |a: f64, b| a.max(b.abs()));
        for (first, total, _) in &ends {
            assert_eq!((first, total), (&ends[0].0, &ends[0].1), "all ranks have the same bits");
            let off = first.iter().zip(&exact).map(|(&a, b)| (f64::from(a) - b).abs()).fold(0.0, f64::max);
            assert!(off > 0.0 && off < largest / 1024.0, "{off}");
        }
        for i in 0..len {
            let owed: f64 = ends.iter().map(|(.., owed)| f64::from(owed[i])).sum();
            let off = (ends[0].1[i] + owed - f64::from(rounds) * exact[i]).abs();
            assert!(off < 1e-2, "element {i}: {off}");
        }
    }

    #[test]
    fn a_sum_taken_back_and_another_scale_lose_nothing() {
        let (size, len) = (2, 3000);
        let sums = on_ranks(size, |mut rank| {
            let number = rank.rank();
            let scaled = |round: usize, scale: f32| {
                numbers(rank.rank() + size * round, len).iter().map(|x| scale * x).collect::<Vec<_>>()
            };
            let rounds = [scaled(0, 1.0), scaled(1, 1.0), scaled(1, 8.0)];
            let [mut plain, mut spoilt, mut larger] = [(); 3].map(|()| Feedback::default());
            let [first, second, second_scaled] = rounds;
            let mut one = |values: &[f32], feedback: &mut Feedback| {
                sum(&mut rank, values.to_vec(), &[], Some(feedback)).unwrap().values
            };
            for feedback in [&mut plain, &mut spoilt, &mut larger] {
                one(&first, feedback);
            }
            // One that overflowed in its first block alone.
            let mut overflowed = second.iter().map(|x| 3.0 * x).collect::<Vec<_>>();
            overflowed[0] = f32::INFINITY;
            one(&overflowed, &mut spoilt);
            spoilt.take_back();
            larger.rescale(8.0);
            let after = one(&second, &mut plain);
            assert_eq!(one(&second, &mut spoilt), after);
            let after_scaled = one(&second_scaled, &mut larger);
            assert_eq!(after_scaled.iter().map(|x| x / 8.0).collect::<Vec<_>>(), after);
            larger.rescale(1.0 / 8.0);
            let owed = plain.take(len, number);
            assert!(owed.iter().any(|x| *x != 0.0));
            assert!(owed == spoilt.take(len, number) && owed == larger.take(len, number));
        });
        assert_eq!(sums.len(), size);
    }

    #[test]
    fn what_is_not_finite_stays_so_and_nothing_is_lost() {
        let ends = on_ranks(2, |mut rank| {
            let mut feedback = Feedback::default();
            let mut values = numbers(rank.rank(), 3000);
            sum(&mut rank, values.clone(), &[], Some(&mut feedback)).unwrap();
            values[2000] = if rank.rank() == 1 { f32::INFINITY } else { 0.0 };
            let spoilt = sum(&mut rank, values, &[], Some(&mut feedback)).unwrap().values;
            (spoilt, feedback.take(3000, rank.rank()))
        });
        for (spoilt, owed) in ends {
            assert!(!spoilt[2000].is_finite() && spoilt[0].is_finite());
            assert!(owed.iter().all(|x| x.is_finite()));
        }
    }
}
