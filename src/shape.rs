//! The shape of what a model reads, as words that both the music and the models use: the values of a cell of a piano
//! roll, and the slots of a batch that a process computes.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// One value of a cell (time step, pitch) of a piano roll.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// 1 while the note sounds, else 0.
    Play,
    /// 1 where the note is struck again on this time step, having sounded on the one before, else 0. It means something
    /// only where [`Channel::Play`] is 1.
    Replay,
    /// Velocity / 127 of the note's last onset, within 0..=1. It means something only where [`Channel::Play`] is 1.
    Dynamics,
}

impl Channel {
    /// The channel's name in messages and files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Play => "play",
            Self::Replay => "replay",
            Self::Dynamics => "dynamics",
        }
    }
}

/// The most channels of a cell: each once.
const MAX_CHANNELS: usize = 3;

/// The values of a cell in the order in which a model reads and writes them: distinct channels, [`Channel::Play`] first.
/// Serialised as a list of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Channel>", into = "Vec<Channel>")]
pub struct Channels {
    /// The places from `len` on hold [`Channel::Play`], so that equal lists are equal values.
    list: [Channel; MAX_CHANNELS],
    len: usize,
}

impl Channels {
    /// Notes with the loudness of their onsets: play, replay, dynamics. DeepJ's.
    pub const PERFORMANCE: Self = Self { list: [Channel::Play, Channel::Replay, Channel::Dynamics], len: 3 };
    /// Notes without loudness: play, replay.
    pub const NOTES: Self = Self { list: [Channel::Play, Channel::Replay, Channel::Play], len: 2 };

    /// The channels of `list`, in this order.
    ///
    /// # Errors
    /// The list is empty or does not begin with [`Channel::Play`], or names a channel twice.
    pub fn new(list: &[Channel]) -> Result<Self> {
        let wrong = if list.first() != Some(&Channel::Play) {
            "do not begin with play"
        } else if list.iter().enumerate().any(|(i, channel)| list[..i].contains(channel)) {
            "name one twice"
        } else {
            let mut channels = Self { list: [Channel::Play; MAX_CHANNELS], len: list.len() };
            channels.list[..list.len()].copy_from_slice(list);
            return Ok(channels);
        };
        let names: Vec<&str> = list.iter().map(|channel| channel.name()).collect();
        Err(Error::model(
            format!("the channels [{}] of a cell {wrong}", names.join(", ")),
            "give play and then other channels, each once",
        ))
    }

    /// The number C of channels, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "play is always there")]
    pub const fn len(self) -> usize {
        self.len
    }

    /// The channels in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Channel> + Clone {
        self.list[..self.len].iter().copied()
    }

    /// Whether a cell has this channel.
    pub fn contains(self, channel: Channel) -> bool {
        self.position(channel).is_some()
    }

    /// The place of `channel` among the values of a cell, from 0; `None` where a cell does not have it.
    pub fn position(self, channel: Channel) -> Option<usize> {
        self.iter().position(|own| own == channel)
    }
}

impl fmt::Display for Channels {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for (i, channel) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            f.write_str(channel.name())?;
        }
        Ok(())
    }
}

impl TryFrom<Vec<Channel>> for Channels {
    type Error = Error;

    fn try_from(list: Vec<Channel>) -> Result<Self> {
        Self::new(&list)
    }
}

impl From<Channels> for Vec<Channel> {
    fn from(channels: Channels) -> Self {
        channels.iter().collect()
    }
}

/// The batch slots that this process computes, of a batch that several processes may share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slots {
    /// The first slot, counted in the whole batch.
    pub first: usize,
    /// How many slots from there.
    pub count: usize,
    /// The slots of the whole batch, over all processes: pieces side by side.
    pub total: usize,
}

impl Slots {
    /// All slots of a batch of `total`: one process computes the whole of it.
    pub const fn all(total: usize) -> Self {
        Self { first: 0, count: total, total }
    }

    /// Those of one of `parties` equal parts of a batch of `total`, by number; `total` is a multiple of `parties`.
    pub const fn part(total: usize, number: usize, parties: usize) -> Self {
        let count = total / parties;
        Self { first: number * count, count, total }
    }

    /// In how many parts the CPU computes them unless it is said: of 4 equal parts of the whole batch, or 2 where it has no 4,
    /// those that are this process'. Gradients are summed by pairs of parts, then of processes, so 1, 2 and 4 processes make the same
    /// sums of a batch that 4 divides.
    pub fn parts_on_cpu(self) -> usize {
        let Self { count, total, .. } = self;
        let of_all = [4, 2].into_iter().find(|parts| total.is_multiple_of(*parts)).unwrap_or(1);
        let processes = total / count.max(1);
        if processes > 0 && of_all.is_multiple_of(processes) { of_all / processes } else { 1 }
    }

    /// The slots as numbers in the whole batch, where [`Slots::check`] accepts them.
    pub const fn range(self) -> Range<usize> {
        self.first..self.first + self.count
    }

    /// Checks that there is a slot and that all lie within the batch.
    ///
    /// # Errors
    /// No slot, or a slot beyond the last one of the batch.
    pub fn check(self) -> Result<()> {
        let Self { first, count, total } = self;
        if count == 0 {
            return Err(Error::usage("a batch without a slot", "raise --batch"));
        }
        if first.checked_add(count).is_none_or(|end| end > total) {
            return Err(Error::usage(
                format!("{count} batch slots from number {first} on, of a batch of {total}"),
                "give slots within the batch",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_a_list() {
        use Channel::{Dynamics, Play, Replay};
        for (channels, list) in
            [(Channels::PERFORMANCE, &[Play, Replay, Dynamics][..]), (Channels::NOTES, &[Play, Replay])]
        {
            assert_eq!(Channels::new(list).unwrap(), channels);
            assert_eq!(channels.iter().collect::<Vec<_>>(), list);
            assert_eq!((channels.len(), channels.iter().len()), (list.len(), list.len()));
            for channel in [Play, Replay, Dynamics] {
                assert_eq!(channels.position(channel), list.iter().position(|own| *own == channel));
                assert_eq!(channels.contains(channel), list.contains(&channel));
            }
        }
        assert_eq!(Channels::PERFORMANCE.to_string(), "play, replay, dynamics");
        let other = Channels::new(&[Play, Dynamics]).unwrap();
        assert_eq!(other.position(Dynamics), Some(1));
        assert_ne!(other, Channels::NOTES);
        for list in [&[][..], &[Replay], &[Replay, Play], &[Play, Play], &[Play, Replay, Dynamics, Replay]] {
            assert!(Channels::new(list).is_err(), "{list:?}");
        }
    }

    #[test]
    fn channels_are_stored_by_name() {
        let json = serde_json::to_string(&Channels::PERFORMANCE).unwrap();
        assert_eq!(json, r#"["play","replay","dynamics"]"#);
        assert_eq!(serde_json::from_str::<Channels>(&json).unwrap(), Channels::PERFORMANCE);
        for bad in ["[]", r#"["replay"]"#, r#"["play","play"]"#, r#"["play","loudness"]"#] {
            assert!(serde_json::from_str::<Channels>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn slots_lie_within_the_batch() {
        assert_eq!(Slots::all(3), Slots { first: 0, count: 3, total: 3 });
        assert_eq!(Slots { first: 2, count: 2, total: 4 }.range(), 2..4);
        for good in [Slots::all(1), Slots { first: 2, count: 2, total: 4 }] {
            assert!(good.check().is_ok(), "{good:?}");
        }
        let parts = |total: usize, processes: usize| Slots::part(total, 0, processes).parts_on_cpu();
        assert_eq!([1, 2, 4, 8].map(|processes| parts(8, processes)), [4, 2, 1, 1]);
        assert_eq!([1, 2, 4].map(|processes| parts(4, processes)), [4, 2, 1]);
        assert_eq!([1, 3, 4].map(|processes| parts(12, processes)), [4, 1, 1]);
        assert_eq!([1, 2, 3, 4, 6, 7, 64].map(|total| parts(total, 1)), [1, 2, 1, 4, 2, 1, 4]);
        for bad in [
            Slots::all(0),
            Slots { first: 0, count: 0, total: 4 },
            Slots { first: 3, count: 2, total: 4 },
            Slots { first: usize::MAX, count: 1, total: 4 },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
