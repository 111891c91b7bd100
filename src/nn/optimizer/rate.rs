//! How the learning rate changes over the updates of a training.

use std::f64::consts::PI;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, nearest};

/// The form of a [`RateSchedule`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RateCurve {
    /// The rate stays as it is.
    #[default]
    Constant,
    /// It falls along half a period of a cosine (Loshchilov and Hutter 2017, "SGDR", without restarts), and stays there.
    Cosine,
    /// It falls all at once, again and again.
    Step,
}

impl RateCurve {
    const NAMES: [(&str, Self); 3] = [("constant", Self::Constant), ("cosine", Self::Cosine), ("step", Self::Step)];

    /// Its name in arguments.
    pub fn name(self) -> &'static str {
        Self::NAMES.into_iter().find(|(_, curve)| *curve == self).map_or("", |(name, _)| name)
    }
}

impl FromStr for RateCurve {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = Self::NAMES.into_iter().find(|(name, _)| *name == text);
        known.map(|(_, curve)| curve).ok_or_else(|| {
            let names = Self::NAMES.iter().map(|(name, _)| *name).collect();
            Error::usage(format!("there is no schedule `{text}` of the learning rate"), nearest(text, names))
        })
    }
}

/// What a training multiplies the optimiser's learning rate with, by the number of the update.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateSchedule {
    /// Its form.
    pub curve: RateCurve,
    /// Updates over which it falls (cosine), or from one fall to the next (step).
    pub steps: u64,
    /// What a fall leaves: of the whole (cosine), or each of them (step).
    pub factor: f64,
    /// Updates over which the rate first rises, in equal parts.
    pub warmup: u64,
    /// The number of updates made when it began: of a run that was resumed with another schedule.
    #[serde(default)]
    pub from: u64,
}

impl Default for RateSchedule {
    fn default() -> Self {
        Self { curve: RateCurve::Constant, steps: 1, factor: 1.0, warmup: 0, from: 0 }
    }
}

impl RateSchedule {
    /// Whether it changes nothing.
    pub fn is_constant(&self) -> bool {
        self.curve == RateCurve::Constant && self.warmup == 0
    }

    /// Looks at its numbers, which a file may hold.
    ///
    /// # Errors
    /// A fall over no update, or to what is no part of the rate.
    pub fn check(&self) -> Result<()> {
        if self.steps == 0 {
            return Err(Error::usage("--lr-steps 0", "give a number above 0"));
        }
        if !(0.0..=1.0).contains(&self.factor) {
            return Err(Error::usage(
                format!("--lr-factor {}", self.factor),
                "give what a fall leaves of the rate, 0 to 1",
            ));
        }
        Ok(())
    }

    /// The factor of the update before which `made` were made.
    pub fn factor(&self, made: u64) -> f64 {
        let made = made.saturating_sub(self.from);
        if made < self.warmup {
            return (made + 1) as f64 / self.warmup as f64;
        }
        let since = made - self.warmup;
        match self.curve {
            RateCurve::Constant => 1.0,
            RateCurve::Cosine => {
                let part = (since as f64 / self.steps as f64).min(1.0);
                self.factor + (1.0 - self.factor) * 0.5 * (1.0 + (PI * part).cos())
            }
            RateCurve::Step => self.factor.powf((since / self.steps) as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_and_falls() {
        let cosine = RateSchedule { curve: RateCurve::Cosine, steps: 100, factor: 0.1, warmup: 10, from: 0 };
        assert_eq!([0, 4, 9, 10].map(|made| cosine.factor(made)), [0.1, 0.5, 1.0, 1.0]);
        assert!((cosine.factor(60) - 0.55).abs() < 1e-12, "half of the way");
        assert!([110, 111, 100_000].iter().all(|&made| (cosine.factor(made) - 0.1).abs() < 1e-12));
        assert!((10..110).all(|made| cosine.factor(made) > cosine.factor(made + 1)));
        let step = RateSchedule { curve: RateCurve::Step, steps: 10, factor: 0.5, warmup: 0, from: 0 };
        assert_eq!([0, 9, 10, 29, 30].map(|made| step.factor(made)), [1.0, 1.0, 0.5, 0.25, 0.125]);
        assert!((0..200).all(|made| RateSchedule { from: 7, ..cosine }.factor(made + 7) == cosine.factor(made)));
        assert!(step.check().is_ok() && RateSchedule::default().check().is_ok());
        for bad in [RateSchedule { steps: 0, ..step }, RateSchedule { factor: f64::NAN, ..step }] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
        assert!(RateSchedule::default().is_constant() && !step.is_constant());
        assert!([0, 1, u64::MAX].iter().all(|&made| RateSchedule::default().factor(made) == 1.0));
        assert!([0, u64::MAX].iter().all(|&made| step.factor(made).is_finite() && cosine.factor(made).is_finite()));
    }

    #[test]
    fn curves_have_names() {
        for (name, curve) in RateCurve::NAMES {
            assert_eq!((name.parse::<RateCurve>().unwrap(), curve.name()), (curve, name));
            assert_eq!(serde_json::to_value(curve).unwrap(), name);
        }
        assert!("cosin".parse::<RateCurve>().unwrap_err().to_string().contains("did you mean `cosine`?"));
    }
}
