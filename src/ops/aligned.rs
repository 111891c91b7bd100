//! Storage that starts on a cache line.

use std::ops::{Deref, DerefMut};

use super::Real;

/// Numbers that start on a cache line: a vector load that crosses two costs twice, which allocators with their headers
/// make every one.
#[derive(Debug, Default)]
pub struct Aligned<R> {
    /// Some numbers longer than what is in use; never grows, so that it stays where it is.
    data: Vec<R>,
    start: usize,
    len: usize,
}

impl<R: Real> Aligned<R> {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        const LINE: usize = 64;
        let data = vec![R::ZERO; len + LINE / size_of::<R>()];
        let start = data.as_ptr().align_offset(LINE).min(data.len() - len);
        Self { data, start, len }
    }
}

impl<R: Real> Clone for Aligned<R> {
    fn clone(&self) -> Self {
        let mut copy = Self::zeros(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

impl<R> Deref for Aligned<R> {
    type Target = [R];

    fn deref(&self) -> &[R] {
        &self.data[self.start..self.start + self.len]
    }
}

impl<R> DerefMut for Aligned<R> {
    fn deref_mut(&mut self) -> &mut [R] {
        &mut self.data[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_numbers_start_on_a_cache_line() {
        for len in [0, 1, 5, 1000] {
            let numbers = Aligned::<f32>::zeros(len);
            assert_eq!((numbers.len(), numbers.as_ptr() as usize % 64), (len, 0));
            assert_eq!(numbers.clone().as_ptr() as usize % 64, 0);
        }
    }
}
