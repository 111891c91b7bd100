//! The order of all suffixes of a text.

use rayon::prelude::*;

/// The beginnings of the suffixes of `text` in ascending order, by prefix doubling (Manber & Myers 1993) of those that are not
/// yet told apart (Larsson & Sadakane 2007): O(n log² n), whatever repeats. A suffix that is the beginning of another one comes
/// before it. Symbols are less than the number of them.
pub(super) fn order(text: &[u32]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..text.len() as u32).collect();
    order.par_sort_unstable_by_key(|&i| (text[i as usize], i));
    // The place in `order` at which the suffixes begin that are not told apart from this one.
    let mut rank = vec![0u32; text.len()];
    let mut alike: Vec<(u32, u32)> = Vec::new();
    let mut start = 0;
    for group in order.chunk_by(|&i, &j| text[i as usize] == text[j as usize]) {
        group.iter().for_each(|&i| rank[i as usize] = start);
        let end = start + group.len() as u32;
        if group.len() > 1 {
            alike.push((start, end));
        }
        start = end;
    }
    let mut known = 1;
    while !alike.is_empty() {
        // A suffix that ends there comes first.
        let key = |i: u32| rank.get(i as usize + known).map_or(0, |rank| rank + 1);
        let refine = |groups: &[(u32, u32)]| {
            let (mut placed, mut still) = (Vec::new(), Vec::new());
            for &(start, end) in groups {
                let from = placed.len();
                placed.extend(order[start as usize..end as usize].iter().map(|&i| (key(i), i)));
                placed[from..].sort_unstable();
                let mut at = start;
                for group in placed[from..].chunk_by_mut(|a, b| a.0 == b.0) {
                    let next = at + group.len() as u32;
                    if group.len() > 1 {
                        still.push((at, next));
                    }
                    group.iter_mut().for_each(|(key, _)| *key = at);
                    at = next;
                }
            }
            (placed, still)
        };
        let refined: Vec<_> = alike.par_chunks(256).map(refine).collect();
        let mut groups = alike.iter().flat_map(|&(start, end)| start..end);
        let mut still = Vec::new();
        for (placed, more) in refined {
            for (new, i) in placed {
                rank[i as usize] = new;
                if let Some(place) = groups.next() {
                    order[place as usize] = i;
                }
            }
            still.extend(more);
        }
        alike = still;
        known *= 2;
    }
    order
}

/// For each place in `order` how many symbols the suffix there begins with in common with the one before it, 0 for the first
/// (Kasai et al. 2001).
pub(super) fn common(text: &[u32], order: &[u32]) -> Vec<u32> {
    let mut place = vec![0u32; text.len()];
    order.iter().enumerate().for_each(|(at, &i)| place[i as usize] = at as u32);
    let mut common = vec![0u32; text.len()];
    let mut length = 0usize;
    for i in 0..text.len() {
        let at = place[i] as usize;
        if at == 0 {
            length = 0;
            continue;
        }
        let j = order[at - 1] as usize;
        length += text[i + length..].iter().zip(&text[j + length..]).take_while(|(a, b)| a == b).count();
        common[at] = length as u32;
        length = length.saturating_sub(1);
    }
    common
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(text: &[u32]) -> Vec<u32> {
        let mut order: Vec<u32> = (0..text.len() as u32).collect();
        order.sort_by_key(|&i| &text[i as usize..]);
        order
    }

    #[test]
    fn suffixes_are_in_order() {
        let mut state = 1u64;
        let mut drawn = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for symbols in [1, 2, 3, 50] {
            for length in [0, 1, 2, 7, 100, 1500] {
                let text: Vec<u32> = (0..length).map(|_| drawn(symbols) as u32).collect();
                let order = order(&text);
                assert_eq!(order, naive(&text), "{length} of {symbols}");
                for (at, &length) in common(&text, &order).iter().enumerate().skip(1) {
                    let (a, b) = (&text[order[at - 1] as usize..], &text[order[at] as usize..]);
                    assert_eq!(length as usize, a.iter().zip(b).take_while(|(a, b)| a == b).count());
                }
            }
        }
    }

    #[test]
    fn one_symbol_again_and_again_takes_no_time() {
        let text = vec![0; 300_000];
        let began = std::time::Instant::now();
        let order = order(&text);
        assert!(order.iter().rev().enumerate().all(|(i, &suffix)| i == suffix as usize));
        assert_eq!(common(&text, &order)[299_999], 299_999);
        assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
    }
}
