//! Values that change over a piece, as a user writes them: `p@0 ff@30 p@45`.

use crate::music::roll::BAR;
use crate::{Error, Result};

/// A value for each time step of a piece: straight lines between points, and level before the first and after the last.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Time step of the piece and value, from early to late; at least one.
    points: Vec<(f64, f64)>,
}

/// What a curve's values are, and how they are written.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    /// What it is called, such as `dynamics`.
    pub name: &'static str,
    /// The value that a word stands for.
    pub value: fn(&str) -> Option<f64>,
    /// What may be given, for errors.
    pub allowed: &'static str,
}

/// Dynamics as velocities, 1 to 127, or by their Italian signs.
pub const DYNAMICS: Quantity = Quantity {
    name: "dynamics",
    value: velocity,
    allowed: "ppp, pp, p, mp, mf, f, ff, fff or a velocity from 1 to 127",
};

/// Density as a multiple of that of the style.
pub const DENSITY: Quantity = Quantity {
    name: "density",
    value: |text| text.parse().ok().filter(|x| (0.1..=10.0).contains(x)),
    allowed: "a multiple of the style's density, from 0.1 to 10, such as 0.5",
};

/// The signs and their velocities, those of notation programs (MuseScore's handbook, "Dynamics").
pub const SIGNS: [(&str, u8); 8] =
    [("ppp", 16), ("pp", 33), ("p", 49), ("mp", 64), ("mf", 80), ("f", 96), ("ff", 112), ("fff", 126)];

fn velocity(text: &str) -> Option<f64> {
    let sign = SIGNS.iter().find(|(sign, _)| *sign == text).map(|(_, velocity)| f64::from(*velocity));
    sign.or_else(|| text.parse().ok().filter(|x| (1.0..=127.0).contains(x)))
}

/// The time axis of a piece, to which places in seconds and bars are put.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Time steps of the piece.
    pub steps: usize,
    /// Seconds a time step.
    pub seconds: f64,
}

impl Clock {
    /// Seconds of the piece.
    fn end(&self) -> f64 {
        self.steps as f64 * self.seconds
    }

    /// The time step of `place`: seconds (`30`, `30s`), or the beginning of a bar, counted from 1 (`9b`).
    fn step(&self, place: &str) -> Option<f64> {
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|x| x.is_finite() && *x >= 0.0);
        match place.strip_suffix(['b', 'B']) {
            Some(bar) => number(bar).filter(|bar| *bar >= 1.0).map(|bar| (bar - 1.0) * BAR as f64),
            None => number(place.strip_suffix(['s', 'S']).unwrap_or(place)).map(|seconds| seconds / self.seconds),
        }
    }
}

impl Curve {
    /// The same value all the way.
    pub fn constant(value: f64) -> Self {
        Self { points: vec![(0.0, value)] }
    }

    /// Reads values with their places, `VALUE@PLACE` one after the other, or a single value without a place. A place is in seconds
    /// (`30` or `30s`) or the beginning of a bar, counted from 1 (`9b`).
    ///
    /// # Errors
    /// A value or a place that is none, places that go back, or one beyond the end of the piece.
    pub fn parse(text: &str, quantity: Quantity, clock: Clock) -> Result<Self> {
        let Quantity { name, allowed, .. } = quantity;
        let wrong = |what: String, remedy: String| Err(Error::usage(format!("--{name} \"{text}\": {what}"), remedy));
        let words: Vec<&str> = text.split([' ', ',']).filter(|word| !word.is_empty()).collect();
        let mut points: Vec<(f64, f64)> = vec![];
        for word in &words {
            let (value, place) = match word.split_once('@') {
                Some((value, place)) => (value, Some(place)),
                None if words.len() == 1 => (*word, None),
                None => return wrong(format!("`{word}` has no place"), format!("write {word}@0, or give it alone")),
            };
            let Some(value) = (quantity.value)(value) else {
                return wrong(format!("`{value}` is no {name}"), format!("give {allowed}"));
            };
            let Some(step) = place.map_or(Some(0.0), |place| clock.step(place)) else {
                let place = place.unwrap_or_default();
                let remedy = "give seconds, such as 30, or the beginning of a bar from 1 on, such as 9b";
                return wrong(format!("`{place}` is no place"), remedy.into());
            };
            // A place at the very end may be off by rounding.
            if step > clock.steps as f64 + 1e-6 {
                let (end, bars) = (clock.end(), clock.steps as f64 / BAR as f64);
                let what = format!("`{word}` lies beyond the end of the piece");
                return wrong(what, format!("it ends after {end:.3} seconds, {bars:.2} bars"));
            }
            if points.last().is_some_and(|(last, _)| step <= *last) {
                return wrong(format!("`{word}` lies at or before the place before it"), "order them".into());
            }
            points.push((step, value));
        }
        match points.is_empty() {
            true => wrong("there is no value".into(), format!("give {allowed}")),
            false => Ok(Self { points }),
        }
    }

    /// The value at a time step of the piece.
    pub fn at(&self, step: f64) -> f64 {
        let after = self.points.partition_point(|(place, _)| *place <= step);
        match (after.checked_sub(1).map(|i| self.points[i]), self.points.get(after)) {
            (Some((from, a)), Some(&(to, b))) => a + (b - a) * (step - from) / (to - from),
            (Some((_, value)), None) | (None, Some(&(_, value))) => value,
            (None, None) => 0.0,
        }
    }

    /// The mean over time steps.
    pub fn mean(&self, steps: std::ops::Range<usize>) -> f64 {
        let count = steps.len().max(1) as f64;
        steps.map(|step| self.at(step as f64)).sum::<f64>() / count
    }

    /// The geometric mean from its first point to its last.
    pub fn geometric_mean(&self) -> f64 {
        let (first, last) = (self.points[0].0, self.points[self.points.len() - 1].0);
        let places = (0..=64).map(|i| first + (last - first) * f64::from(i) / 64.0);
        (places.map(|step| self.at(step).ln()).sum::<f64>() / 65.0).exp()
    }

    /// Whether it has one value.
    pub fn is_constant(&self) -> bool {
        self.points.iter().all(|(_, value)| *value == self.points[0].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOCK: Clock = Clock { steps: 216, seconds: 45.0 / 216.0 };

    #[test]
    fn values_change_in_straight_lines_between_places() {
        let curve = Curve::parse("p@0 ff@30 p@45", DYNAMICS, CLOCK).unwrap();
        assert_eq!((curve.at(0.0), curve.at(144.0), curve.at(216.0)), (49.0, 112.0, 49.0));
        assert_eq!((curve.at(72.0), curve.at(1e9)), (80.5, 49.0));
        let bars = Curve::parse("0.5@2b, 1.5@4b", DENSITY, CLOCK).unwrap();
        assert_eq!((bars.at(0.0), bars.at(16.0), bars.at(32.0), bars.at(48.0)), (0.5, 0.5, 1.0, 1.5));
        // Of 32 values, the last of which is a step before the end.
        assert!((bars.mean(16..48) - (0.5 + 31.0 / 64.0)).abs() < 1e-12);
        assert_eq!(Curve::parse("mf", DYNAMICS, CLOCK).unwrap(), Curve::constant(80.0));
    }

    #[test]
    fn what_is_no_curve_is_named() {
        for (text, named) in [
            ("", "no value"),
            ("q@0", "`q`"),
            ("p@0 f", "`f` has no place"),
            ("p@0 f@x", "`x`"),
            ("p@0 f@-1", "`-1`"),
            ("p@0 f@0b", "`0b`"),
            ("p@0 f@46", "beyond the end"),
            ("p@10 f@10", "at or before"),
            ("0@0", "`0`"),
            ("p@0 f@NaN", "`NaN`"),
        ] {
            let error = Curve::parse(text, DYNAMICS, CLOCK).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
        assert!(Curve::parse("11@0", DENSITY, CLOCK).is_err() && Curve::parse("NaN", DENSITY, CLOCK).is_err());
    }
}
