//! What the model of scaling is made of, measured: how long a rank computes, and what connects ranks.

use serde::{Deserialize, Serialize};
use web_time::Instant;

use super::{Link, Work};
use crate::distributed::Ranks;
use crate::gpu::Device;
use crate::graph::session::KernelSelection;
use crate::train::{Prepared, RanksRecord, TrainOptions, Trainer, Update, prepare_among};
use crate::{Error, Result};

/// Updates before those that are timed.
const WARM: usize = 2;
/// Numbers of the sums that a link is measured with, beside those of the gradients.
const SIZES: [usize; 5] = [1 << 10, 16 << 10, 128 << 10, 512 << 10, 2 << 20];
/// Seconds by which a sum may be off whatever its size.
const SHORT: f64 = 50e-6;
/// Sums of each size.
const SUMS: usize = 12;

/// Times of some updates, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// The median.
    pub seconds: f64,
    /// Standard deviation, as a part of the mean, without the slowest update, which something else may have delayed.
    pub scatter: f64,
    /// The median that this rank waited for others.
    pub waited: f64,
    /// Bytes that this rank sent in an update.
    pub bytes: u64,
}

/// Updates that all ranks made.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Together {
    /// How many ranks.
    pub ranks: u64,
    /// Their times, as the slowest rank has them.
    pub timing: Timing,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// A rank's work, a mean over all ranks.
    pub work: Work,
    /// What connects them; `None` where there is one rank.
    pub link: Option<Link>,
    /// Sums that were measured: bytes as they travel, and median seconds, the least time that one rank alone takes to copy and add as much taken away.
    pub sums: Vec<(u64, f64)>,
    /// Updates of all ranks together; `None` where there is one.
    pub together: Option<Together>,
    /// Slots of a rank.
    pub slots: usize,
    /// Parameters of the network.
    pub parameters: usize,
    /// Floating-point operations of an update of one rank.
    pub flops: u64,
}

/// Measures so many updates of one rank alone and of all together, and what connects them. `slots` are those of each rank.
///
/// # Errors
/// Options that cannot be trained, a device that fails, a rank that is gone.
pub async fn measure(
    options: &TrainOptions,
    slots: usize,
    updates: usize,
    (device, selection): (&Device, &KernelSelection),
    ranks: &Ranks,
) -> Result<Measured> {
    // What ends a rank alone between two collective operations ends all: only what waits for nobody is agreed on.
    let alone = one()?.with_wire(ranks.wire());
    // As many parts alone as together, and equal ones: unless it was said the one that a rank among many computes.
    let parts = options.accumulate.unwrap_or(1).max(1);
    let of = |batch: usize, among: &Ranks| {
        let options = TrainOptions { batch: Some(batch), accumulate: Some(parts), ..options.clone() };
        prepare_among(&options, device, among)
    };
    let fewer = (slots / 2 / parts * parts).max(parts).min(slots);
    let mut times = vec![];
    let mut facts = None;
    for slots in [slots, fewer] {
        ranks.meet()?;
        let own = match of(slots, &alone) {
            Ok(prepared) => time(prepared, updates, (device, selection)).await,
            Err(e) => Err(e),
        };
        let (timing, found) = ranks.agree(own)?;
        facts.get_or_insert(found);
        // All ranks are at it at once, as in a training.
        let each = ranks.all(&timing)?;
        let mean = |of: fn(&Timing) -> f64| each.iter().map(of).sum::<f64>() / each.len() as f64;
        times.push((mean(|timing| timing.seconds), mean(|timing| timing.scatter)));
    }
    let Some(Facts { bytes, after, parameters, flops }) = facts else {
        return Err(Error::run("nothing was timed", ""));
    };
    let (whole, scatter) = times[0];
    // Two times that noise has in the wrong order say nothing of what is fixed.
    let per_slot = match slots - fewer {
        0 => whole / slots as f64,
        more => ((whole - times[1].0) / more as f64).clamp(0.0, whole / slots as f64),
    };
    let work = Work { fixed: whole - per_slot * slots as f64, per_slot, scatter, bytes, after };
    if ranks.size() == 1 {
        return Ok(Measured { work, link: None, sums: vec![], together: None, slots, parameters, flops });
    }
    // Before the sums, which must be of one length on all ranks: they train the same network.
    let prepared = of(slots * ranks.size(), ranks)?;
    let sums = sums(ranks, &alone, parameters)?;
    let (timing, _) = time(prepared, updates, (device, selection)).await?;
    let each = ranks.all(&timing)?;
    let slowest = each.iter().copied().max_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let link = Some(fit(ranks.size() as u64, &sums));
    let together = slowest.map(|timing| Together { ranks: ranks.size() as u64, timing });
    Ok(Measured { work, link, sums, together, slots, parameters, flops })
}

/// A group of one rank, which does all that a rank of many does but for the network.
fn one() -> Result<Ranks> {
    Ranks::threads(1).pop().ok_or_else(|| Error::run("no thread can be started", ""))
}

/// What does not change from update to update.
struct Facts {
    bytes: [u64; 2],
    after: f64,
    parameters: usize,
    flops: u64,
}

/// Makes updates and times them.
async fn time(
    prepared: Prepared,
    updates: usize,
    (device, selection): (&Device, &KernelSelection),
) -> Result<(Timing, Facts)> {
    let mut trainer = Trainer::begin(prepared, device.clone(), selection.clone()).await?;
    let mut records = vec![];
    let mut before = Instant::now();
    let mut times = vec![];
    while records.len() < WARM + updates {
        let update = trainer.step().await?;
        let now = Instant::now();
        if let Some(Update::Made(record)) = update {
            records.extend(record.ranks.map(|record| *record));
            times.push((now - before).as_secs_f64());
        }
        before = now;
    }
    trainer.finish().await?;
    let (bytes, after, flops) = trainer.sums();
    let facts = Facts { bytes, after, parameters: trainer.model().layout().elements(), flops };
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(0.0)
    };
    let records: Vec<RanksRecord> = records.split_off(WARM);
    let mut times = times.split_off(WARM);
    times.sort_by(f64::total_cmp);
    let kept = &times[..(times.len() - 1).max(1)];
    let mean = kept.iter().sum::<f64>() / kept.len() as f64;
    let variance = kept.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / kept.len() as f64;
    let timing = Timing {
        seconds: median(times.clone()),
        scatter: variance.sqrt() / mean,
        waited: median(records.iter().map(|record| record.waited).collect()),
        bytes: records.last().map_or(0, |record| record.bytes),
    };
    Ok((timing, facts))
}

/// Sums of several sizes over all ranks: bytes, and median seconds beyond those of one rank.
fn sums(ranks: &Ranks, alone: &Ranks, parameters: usize) -> Result<Vec<(u64, f64)>> {
    let mut sizes = SIZES.to_vec();
    sizes.push(parameters);
    sizes.sort_unstable();
    let sorted = |ranks: &Ranks, len: usize| -> Result<Vec<f64>> {
        let mut times = vec![];
        for _ in 0..SUMS {
            ranks.meet()?;
            times.push(ranks.finish_sum(ranks.begin_sum(vec![1.0; len], vec![], 0)?)?.seconds);
        }
        times.sort_by(f64::total_cmp);
        Ok(times)
    };
    let mut found = vec![];
    for len in sizes {
        // The shortest, since on a busy machine copying alone may take longer than all together did.
        let own = sorted(alone, len)?[0];
        let together = ranks.all(&sorted(ranks, len)?[SUMS / 2])?.into_iter().fold(0.0, f64::max);
        found.push((ranks.wire().bytes(len as u64), (together - own).max(0.0)));
    }
    Ok(found)
}

/// Latency and bandwidth by which sums take about as long as these did: the least squares of relative errors.
fn fit(ranks: u64, sums: &[(u64, f64)]) -> Link {
    let others = (ranks - 1) as f64;
    // seconds = a + b bytes, weighted by 1 / seconds, but for what is too short to be timed well.
    let mut normal = [0.0_f64; 5];
    // A sum that takes no longer than copying and adding on one rank says nothing of the link; others do.
    let told = |(_, seconds): &&(u64, f64)| *seconds > 0.0;
    let all =
        if sums.iter().filter(told).count() < 2 { sums.to_vec() } else { sums.iter().filter(told).copied().collect() };
    for (bytes, seconds) in all {
        let weight = 1.0 / (seconds + SHORT).powi(2);
        let bytes = bytes as f64;
        for (sum, term) in normal.iter_mut().zip([1.0, bytes, bytes * bytes, seconds, bytes * seconds]) {
            *sum += weight * term;
        }
    }
    let [one, x, xx, y, xy] = normal;
    let determinant = (one * xx - x * x).max(f64::MIN_POSITIVE);
    let slope = ((one * xy - x * y) / determinant).max(1e-13);
    let constant = ((y - slope * x) / one.max(f64::MIN_POSITIVE)).max(0.0);
    Link { latency: constant / (2.0 * others), bandwidth: 2.0 * others / ranks as f64 / slope }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_found_again_by_its_sums() {
        let link = Link { latency: 30e-6, bandwidth: 1.2e8 };
        let sums = [4 << 10, 1 << 20, 8 << 20].map(|bytes| (bytes, link.sum_seconds(4, bytes)));
        let found = fit(4, &sums);
        assert!(
            (found.latency / link.latency - 1.0).abs() < 1e-6 && (found.bandwidth / link.bandwidth - 1.0).abs() < 1e-6
        );
        let with_hidden = fit(4, &[&sums[..], &[(20 << 20, 0.0)]].concat());
        assert_eq!(with_hidden, found, "a sum that is hidden by its copying says nothing");
    }
}
