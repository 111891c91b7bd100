//! How a training of many ranks scales: a model of the time of an update, whose numbers are measured, for more ranks than there are.
//!
//! An update of `N` ranks takes what one rank computes, and what of the sums of gradients does not hide behind that. A sum of `n`
//! bytes is an exchange of shards and their gathering ([`crate::distributed`]): `2 (N - 1)` messages one after the other, and
//! `2 (N - 1) / N n` bytes through each rank's link (Thakur, Rabenseifner and Gropp 2005, "Optimization of collective
//! communication operations in MPICH", section 4.2 and 4.3). The slowest of `N` ranks is waited for by all: where times scatter
//! normally, it is `sqrt(2 ln N)` standard deviations over the mean.

use serde::Serialize;

mod measure;

pub use measure::{Measured, Timing, Together, measure};

/// What connects ranks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Link {
    /// Seconds that a message takes beside its bytes.
    pub latency: f64,
    /// Bytes a second through the link of a rank.
    pub bandwidth: f64,
}

/// What a rank has to do.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Work {
    /// Seconds of an update whatever the number of slots, copies for the sums and the update itself included.
    pub fixed: f64,
    /// Seconds that a slot of the batch adds.
    pub per_slot: f64,
    /// Standard deviation of a rank's time, as a part of it.
    pub scatter: f64,
    /// Bytes of gradients that are done early, and of the others, as they travel.
    pub bytes: [u64; 2],
    /// The part of the computing that is left when the former are done.
    pub after: f64,
}

impl Work {
    /// Seconds of an update of one rank with so many slots.
    pub fn seconds(&self, slots: f64) -> f64 {
        self.fixed + self.per_slot * slots
    }
}

/// What the time of an update goes into, beside computing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Limit {
    /// Nothing takes 5 % of it.
    Computing,
    /// The work that does not shrink with a rank's slots.
    Fixed,
    /// Messages, however short.
    Latency,
    /// Bytes through a link.
    Bandwidth,
    /// The slowest rank.
    Scatter,
}

impl Limit {
    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Computing => "computing",
            Self::Fixed => "work that each rank repeats",
            Self::Latency => "latency",
            Self::Bandwidth => "bandwidth",
            Self::Scatter => "the slowest rank",
        }
    }
}

/// What is predicted of an update.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Predicted {
    /// Ranks.
    pub ranks: u64,
    /// Slots of the whole batch.
    pub batch: f64,
    /// Seconds of an update.
    pub seconds: f64,
    /// Of these, those in which nothing is computed.
    pub waiting: f64,
    /// How many times as many slots a second as one rank with the same work has, for each rank: 1 where nothing is lost.
    pub efficiency: f64,
    /// What takes most of what is lost.
    pub limit: Limit,
}

/// What takes less of an update than this is no limit.
const NEGLIGIBLE: f64 = 0.05;

impl Link {
    /// Seconds of the messages and of the bytes of a sum over so many ranks.
    fn sum(&self, ranks: u64, bytes: u64) -> [f64; 2] {
        if ranks <= 1 || bytes == 0 {
            return [0.0; 2];
        }
        let others = (ranks - 1) as f64;
        [2.0 * others * self.latency, 2.0 * others / ranks as f64 * bytes as f64 / self.bandwidth]
    }

    /// Seconds of a sum over so many ranks.
    pub fn sum_seconds(&self, ranks: u64, bytes: u64) -> f64 {
        self.sum(ranks, bytes).iter().sum()
    }
}

/// An update of so many ranks with a batch of so many slots; `reference` are the slots a second of one rank alone, by which efficiency
/// is judged.
pub fn predict(work: &Work, link: &Link, ranks: u64, batch: f64, reference: f64) -> Predicted {
    let slots = batch / ranks as f64;
    let computing = work.seconds(slots);
    let scatter = computing * work.scatter * (2.0 * (ranks as f64).ln()).sqrt();
    let [early, late] = work.bytes.map(|bytes| link.sum(ranks, bytes));
    let hidden = computing * work.after;
    // What of the early sum is left when the device is done goes before the other one.
    let share = |sum: [f64; 2]| {
        let whole: f64 = sum.iter().sum();
        let seen = (whole - hidden).max(0.0);
        sum.map(|part| if whole > 0.0 { seen * part / whole } else { 0.0 })
    };
    let early = share(early);
    let (latency, bandwidth) = (early[0] + late[0], early[1] + late[1]);
    let seconds = computing + scatter + latency + bandwidth;
    let lost = [
        (Limit::Fixed, work.fixed),
        (Limit::Latency, latency),
        (Limit::Bandwidth, bandwidth),
        (Limit::Scatter, scatter),
    ];
    let most = lost.into_iter().filter(|(_, lost)| *lost > NEGLIGIBLE * seconds).max_by(|a, b| a.1.total_cmp(&b.1));
    Predicted {
        ranks,
        batch,
        seconds,
        waiting: scatter + latency + bandwidth,
        efficiency: batch / seconds / (reference * ranks as f64),
        limit: most.map_or(Limit::Computing, |(limit, _)| limit),
    }
}

/// Weak scaling: `slots` on each of `ranks`.
pub fn weak(work: &Work, link: &Link, ranks: u64, slots: usize) -> Predicted {
    let slots = slots as f64;
    predict(work, link, ranks, slots * ranks as f64, slots / work.seconds(slots))
}

/// Strong scaling: `batch` slots, divided; `None` where there are more ranks than slots.
pub fn strong(work: &Work, link: &Link, ranks: u64, batch: usize) -> Option<Predicted> {
    let whole = batch as f64;
    (ranks <= batch as u64).then(|| predict(work, link, ranks, whole, whole / work.seconds(whole)))
}

/// The most updates that are timed.
pub const MOST_UPDATES: usize = 100_000;

/// The most ranks that are predicted.
pub const MOST_RANKS: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: Work = Work { fixed: 0.0, per_slot: 0.1, scatter: 0.0, bytes: [0, 8_000_000], after: 0.0 };
    const LINK: Link = Link { latency: 1e-4, bandwidth: 1e9 };

    #[test]
    fn a_rank_alone_loses_nothing() {
        let alone = weak(&WORK, &LINK, 1, 4);
        assert_eq!((alone.seconds, alone.waiting, alone.limit), (0.4, 0.0, Limit::Computing));
        assert!((alone.efficiency - 1.0).abs() < 1e-12);
    }

    #[test]
    fn bytes_through_a_link_approach_twice_those_of_the_gradients() {
        let two = LINK.sum_seconds(2, 8_000_000);
        assert!((two - (2e-4 + 0.008)).abs() < 1e-12, "{two}");
        let many = LINK.sum_seconds(4096, 8_000_000);
        assert!((many - (2.0 * 4095.0 * 1e-4 + 0.016 * 4095.0 / 4096.0)).abs() < 1e-9, "{many}");
    }

    #[test]
    fn what_limits_is_named() {
        assert_eq!(weak(&WORK, &LINK, 4, 4).limit, Limit::Computing);
        assert_eq!(weak(&WORK, &LINK, 4096, 4).limit, Limit::Latency);
        assert_eq!(weak(&WORK, &Link { bandwidth: 1e8, ..LINK }, 4, 4).limit, Limit::Bandwidth);
        assert_eq!(weak(&Work { scatter: 0.1, ..WORK }, &LINK, 64, 4).limit, Limit::Scatter);
        assert_eq!(strong(&Work { fixed: 0.1, ..WORK }, &LINK, 16, 16).unwrap().limit, Limit::Fixed);
        assert_eq!(strong(&WORK, &LINK, 32, 16), None);
    }

    #[test]
    fn what_hides_behind_the_computing_costs_nothing() {
        let early = Work { bytes: [8_000_000, 0], after: 0.5, ..WORK };
        assert_eq!(weak(&early, &LINK, 2, 4).waiting, 0.0);
        let slow = Link { bandwidth: 1e7, ..LINK };
        let seen = weak(&early, &slow, 2, 4).waiting;
        assert!((seen - (slow.sum_seconds(2, 8_000_000) - 0.2)).abs() < 1e-9, "{seen}");
    }
}
