//! What changes while music is played: lines that somebody types, and the controllers of a MIDI keyboard.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::nearest;
use crate::generate::curve::{DENSITY, DYNAMICS, Quantity};
use crate::music::Key;
use crate::{Error, Result};

/// Something that is to be otherwise from the next bar on.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The style, as an expression.
    Style(String),
    /// How much of a style there is beside the others, from 0 to 1.
    Weight(String, f64),
    /// Density as a multiple of the style's.
    Density(f64),
    /// The velocity that is wanted, or that of the style again.
    Dynamics(Option<f64>),
    /// Divides the logits.
    Temperature(f32),
    /// Quarter notes a minute.
    Tempo(f64),
    /// The key whose scale is preferred, or none.
    Key(Option<Key>),
    /// To stop.
    Stop,
}

/// The words that lines begin with.
const WORDS: [&str; 7] = ["style", "density", "dynamics", "temperature", "tempo", "key", "stop"];

/// The tempos that can be asked for while music is played.
const TEMPOS: std::ops::RangeInclusive<f64> = 4.0..=1000.0;

impl Change {
    /// Reads a line: a word, and what it is to be from now on, such as `density 1.5`. `None` of an empty one.
    ///
    /// # Errors
    /// A word that is none, or a value that the word does not take.
    pub fn parse(line: &str) -> Result<Option<Self>> {
        let line = line.trim();
        let (word, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let value = value.trim();
        let wrong = |allowed: &str| {
            let what = if value.is_empty() { format!("`{word}` without a value") } else { format!("`{word} {value}`") };
            Error::usage(what, format!("give {allowed}"))
        };
        let of = |quantity: Quantity| (quantity.value)(value).ok_or_else(|| wrong(quantity.allowed));
        let number = |allowed: &str| value.parse::<f64>().map_err(|_| wrong(allowed));
        Ok(Some(match word {
            "" => return Ok(None),
            "stop" | "quit" => Self::Stop,
            "style" if value.is_empty() => {
                return Err(wrong("a composer, a genre or a mixture, such as bach:0.7,chopin:0.3"));
            }
            "style" => Self::Style(value.into()),
            "density" => Self::Density(of(DENSITY)?),
            "dynamics" if value == "none" => Self::Dynamics(None),
            "dynamics" => Self::Dynamics(Some(of(DYNAMICS)?)),
            "temperature" => {
                let allowed = "0.01 to 100; 1 samples what was learned";
                let temperature = number(allowed)? as f32;
                if !(0.01..=100.0).contains(&temperature) {
                    return Err(wrong(allowed));
                }
                Self::Temperature(temperature)
            }
            "tempo" => {
                let allowed = "quarter notes a minute, 4 to 1000";
                Self::Tempo(Some(number(allowed)?).filter(|bpm| TEMPOS.contains(bpm)).ok_or_else(|| wrong(allowed))?)
            }
            "key" if value == "none" => Self::Key(None),
            "key" => Self::Key(Some(value.parse()?)),
            _ => return Err(Error::usage(format!("`{word}` changes nothing"), nearest(word, WORDS.into()))),
        }))
    }
}

/// What a controller changes.
#[derive(Clone, Debug, PartialEq)]
enum Target {
    Density,
    Dynamics,
    Temperature,
    Tempo,
    Stop,
    Style(String),
}

/// Which controller changes what.
#[derive(Clone, Debug)]
pub struct ControllerMap(BTreeMap<u8, Target>);

/// Controllers for what every model has, by the numbers that keyboards send: modulation wheel, volume, brightness,
/// sound controller 6.
const USUAL: [(u8, Target); 4] =
    [(1, Target::Density), (7, Target::Dynamics), (74, Target::Temperature), (75, Target::Tempo)];
/// The first controller for a style, and how many there are.
const STYLES: (u8, usize) = (20, 8);

impl ControllerMap {
    /// The usual controllers, with a controller for each of `genres` in their order, from 20 to 27.
    pub fn new(genres: &[&str]) -> Self {
        let styles = genres.iter().take(STYLES.1).enumerate();
        let styles = styles.map(|(i, genre)| (STYLES.0 + i as u8, Target::Style((*genre).into())));
        Self(USUAL.into_iter().chain(styles).collect())
    }

    /// Changes what a controller does: `cc=what`, where `what` is density, dynamics, temperature, tempo, stop, none, or
    /// a style that `is_style` knows.
    ///
    /// # Errors
    /// No number from 0 to 127, or nothing that can be changed.
    pub fn set(&mut self, number: &str, what: &str, is_style: impl Fn(&str) -> bool) -> Result<()> {
        let Some(number) = number.trim().parse::<u8>().ok().filter(|number| *number < 128) else {
            let what = format!("--map {number}={what}: `{number}` is no controller");
            return Err(Error::usage(what, "give a number from 0 to 127, such as --map 74=density"));
        };
        let target = match what.trim() {
            "density" => Target::Density,
            "dynamics" => Target::Dynamics,
            "temperature" => Target::Temperature,
            "tempo" => Target::Tempo,
            "stop" => Target::Stop,
            "none" => {
                self.0.remove(&number);
                return Ok(());
            }
            style if is_style(style) => Target::Style(style.into()),
            other => {
                let known = BTreeSet::from(["density", "dynamics", "temperature", "tempo", "stop", "none"]);
                let remedy = format!("{}, or a composer or genre of the checkpoint", nearest(other, known));
                return Err(Error::usage(format!("--map {number}={other}: `{other}` cannot be changed"), remedy));
            }
        };
        self.0.insert(number, target);
        Ok(())
    }

    /// The styles that have a controller.
    pub fn styles(&self) -> Vec<&str> {
        let styles = self.0.values().filter_map(|target| match target {
            Target::Style(style) => Some(style.as_str()),
            _ => None,
        });
        styles.collect()
    }

    /// What a message of a MIDI port changes, if it changes anything: a controller, or a sequencer's stop.
    pub fn change(&self, message: &[u8]) -> Option<Change> {
        match *message {
            [0xFC, ..] => Some(Change::Stop),
            [status, number, value, ..] if status & 0xF0 == 0xB0 => {
                let value = f64::from(value & 127);
                Some(match self.0.get(&number)? {
                    // Twice as much for 32 more, and 1 in the middle.
                    Target::Density => Change::Density((((value - 64.0) / 32.0).exp2() * 100.0).round() / 100.0),
                    Target::Dynamics => Change::Dynamics(Some(value.max(1.0))),
                    Target::Temperature => Change::Temperature(((50.0 + value / 1.28).round() / 100.0) as f32),
                    Target::Tempo => Change::Tempo((40.0 + value * 200.0 / 127.0).round()),
                    Target::Style(style) => Change::Weight(style.clone(), (value / 1.27).round() / 100.0),
                    Target::Stop if value >= 64.0 => Change::Stop,
                    Target::Stop => return None,
                })
            }
            _ => None,
        }
    }
}

/// Adds a change to those that wait to be made, in the place of one of the same thing.
pub fn gather(waiting: &mut Vec<Change>, change: Change) {
    use std::mem::discriminant;
    let same = |other: &Change| match (other, &change) {
        (Change::Weight(one, _), Change::Weight(other, _)) => one == other,
        (Change::Weight(..), Change::Style(_)) => true,
        _ => discriminant(other) == discriminant(&change),
    };
    waiting.retain(|other| !same(other));
    waiting.push(change);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_what_changes() {
        for (line, change) in [
            ("style bach:1", Change::Style("bach:1".into())),
            ("  style  bach:0.5, chopin:0.5 ", Change::Style("bach:0.5, chopin:0.5".into())),
            ("density 1.5", Change::Density(1.5)),
            ("dynamics ff", Change::Dynamics(Some(112.0))),
            ("dynamics none", Change::Dynamics(None)),
            ("temperature 0.9", Change::Temperature(0.9)),
            ("tempo 90", Change::Tempo(90.0)),
            ("key D minor", Change::Key(Some("D minor".parse().unwrap()))),
            ("key none", Change::Key(None)),
            ("stop", Change::Stop),
        ] {
            assert_eq!(Change::parse(line).unwrap(), Some(change), "{line}");
        }
        assert_eq!(Change::parse("  ").unwrap(), None);
        for (line, named) in [
            ("tempi 90", "did you mean `tempo`?"),
            ("density", "`density` without a value"),
            ("density 11", "from 0.1 to 10"),
            ("dynamics loud", "ppp, pp"),
            ("temperature 0", "0.01 to 100"),
            ("temperature x", "0.01 to 100"),
            ("tempo 2000", "4 to 1000"),
            ("tempo NaN", "4 to 1000"),
            ("style", "a composer"),
            ("key H", "H"),
        ] {
            let error = Change::parse(line).unwrap_err().to_string();
            assert!(error.contains(named), "{line}: {error}");
        }
    }

    #[test]
    fn controllers_change_what_the_map_says() {
        let mut map = ControllerMap::new(&["baroque", "classical"]);
        assert_eq!(map.styles(), ["baroque", "classical"]);
        let of = |map: &ControllerMap, number, value| map.change(&[0xB3, number, value]);
        assert_eq!(of(&map, 1, 64), Some(Change::Density(1.0)));
        assert_eq!(of(&map, 1, 96), Some(Change::Density(2.0)));
        assert_eq!(of(&map, 1, 0), Some(Change::Density(0.25)));
        assert_eq!(of(&map, 7, 0), Some(Change::Dynamics(Some(1.0))));
        assert_eq!(of(&map, 7, 127), Some(Change::Dynamics(Some(127.0))));
        assert_eq!(of(&map, 74, 64), Some(Change::Temperature(1.0)));
        assert_eq!((of(&map, 75, 0), of(&map, 75, 127)), (Some(Change::Tempo(40.0)), Some(Change::Tempo(240.0))));
        assert_eq!(of(&map, 21, 127), Some(Change::Weight("classical".into(), 1.0)));
        assert_eq!(of(&map, 22, 127), None);
        assert_eq!((map.change(&[0x90, 1, 64]), map.change(&[0xB0, 1]), map.change(&[])), (None, None, None));
        assert_eq!(map.change(&[0xFC]), Some(Change::Stop));
        map.set("1", "none", |_| false).unwrap();
        map.set("22", "bach", |style| style == "bach").unwrap();
        map.set("23", "stop", |_| false).unwrap();
        assert_eq!(of(&map, 1, 64), None);
        assert_eq!(of(&map, 22, 0), Some(Change::Weight("bach".into(), 0.0)));
        assert_eq!((of(&map, 23, 63), of(&map, 23, 64)), (None, Some(Change::Stop)));
        for (number, what) in [("128", "tempo"), ("x", "tempo"), ("1", "densty")] {
            assert!(map.set(number, what, |_| false).is_err(), "{number}={what}");
        }
    }

    #[test]
    fn of_many_changes_of_one_thing_the_last_counts() {
        let mut waiting = vec![];
        let weight = |style: &str, value| Change::Weight(style.into(), value);
        let changes = [
            Change::Density(2.0),
            weight("a", 0.1),
            Change::Tempo(90.0),
            weight("b", 0.2),
            Change::Density(3.0),
            weight("a", 0.3),
        ];
        changes.into_iter().for_each(|change| gather(&mut waiting, change));
        assert_eq!(waiting, [Change::Tempo(90.0), weight("b", 0.2), Change::Density(3.0), weight("a", 0.3)]);
        gather(&mut waiting, Change::Style("c".into()));
        assert_eq!(waiting, [Change::Tempo(90.0), Change::Density(3.0), Change::Style("c".into())]);
    }
}
