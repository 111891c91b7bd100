//! Dynamic loss scaling (Micikevicius et al. 2018, "Mixed Precision Training", section 3.2): gradients are made as much
//! larger as f16 can hold, so that the small ones do not vanish, and smaller again when they overflow.

use serde::{Deserialize, Serialize};

/// Updates without an overflow after which the scale is doubled.
const GROW_AFTER: u64 = 500;
/// The largest exponent of the scale: gradients of a mean over 10^5 cells are far below 2^-8.
const LARGEST: u32 = 24;

/// What the losses' gradient is multiplied with; part of a checkpoint. A power of two, so that scaling rounds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossScale {
    exponent: u32,
    /// Updates since the scale was last changed.
    good: u64,
}

impl Default for LossScale {
    fn default() -> Self {
        Self { exponent: 16, good: 0 }
    }
}

impl LossScale {
    /// The factor.
    pub fn factor(&self) -> f32 {
        (self.exponent as f32).exp2()
    }

    /// Counts an update whose gradients were finite.
    pub fn grow(&mut self) {
        self.good += 1;
        if self.good >= GROW_AFTER && self.exponent < LARGEST {
            *self = Self { exponent: self.exponent + 1, good: 0 };
        }
    }

    /// Halves the scale after gradients that were not finite; false where it is 1 already, so that scaling is not to
    /// blame.
    pub fn shrink(&mut self) -> bool {
        let lowered = self.exponent.checked_sub(1);
        if let Some(exponent) = lowered {
            *self = Self { exponent, good: 0 };
        }
        lowered.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_halves_at_once_and_doubles_after_many_updates() {
        let mut scale = LossScale::default();
        assert_eq!(scale.factor(), 65_536.0);
        assert!(scale.shrink());
        assert_eq!(scale.factor(), 32_768.0);
        (1..GROW_AFTER).for_each(|_| scale.grow());
        assert_eq!(scale.factor(), 32_768.0);
        scale.grow();
        assert_eq!(scale.factor(), 65_536.0);
        (0..100 * GROW_AFTER).for_each(|_| scale.grow());
        assert_eq!(scale.factor(), 16_777_216.0);
        assert_eq!((0..100).filter(|_| scale.shrink()).count(), 24);
        assert_eq!(scale.factor(), 1.0);
    }
}
