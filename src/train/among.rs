//! Updates that several ranks make together: each makes the gradients of its slots, all sum them, and each updates its own
//! parameters, which stay the same bits everywhere.
//!
//! Gradients that are done early, those of the axis of notes, are summed while the device computes the rest. With them travels
//! what each rank wishes, so that all end and save after one and the same update.

use web_time::Instant;

use super::observer::RanksRecord;
use super::trainer::Trainer;
use crate::distributed::{Ranks, Sum, Summed, Wire};
use crate::evaluate::feed;
use crate::gpu::Device;
use crate::graph::session::KernelSelection;
use crate::graph::{Kind, Node, Session};
use crate::music::Batch;
use crate::ops::{Uniforms, View};
use crate::shape::Slots;
use crate::{Error, Result};

/// Updates between two comparisons of the parameters of all ranks.
const COMPARE_EVERY: u64 = 50;

/// The numbers of the vectors that are summed: the gradients that are done early, and the others.
const EARLY: usize = 1;
const LATE: usize = 0;

/// What a rank asks all others for, in the update that it makes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    /// To end.
    pub stop: bool,
    /// To save, and go on.
    pub save: bool,
    /// To end since the time is up; only that of rank 0 counts.
    pub time_up: bool,
}

/// What a trainer knows of the others.
pub(super) struct Among {
    pub ranks: Ranks,
    /// Where the update is computed if devices are not alike, which would round it differently: on the CPU of each rank.
    pub host: Option<Session>,
    /// What this rank asks for next.
    pub wishes: Wishes,
    /// What any rank has asked for, as of the last update that was submitted.
    pub agreed: Wishes,
    /// The node behind which gradients from this element on are done.
    early: Option<(usize, usize)>,
    /// Seconds that this rank computed for the update before.
    seconds: f64,
}

/// What a rank shows the others in an update.
struct Note {
    losses: Vec<f32>,
    wishes: Wishes,
    seconds: f32,
    /// Of the parameters before the update, where they are compared.
    hash: u32,
}

impl Note {
    fn to_bytes(&self) -> Vec<u8> {
        let wishes = [self.wishes.stop, self.wishes.save, self.wishes.time_up].map(|wish| f32::from(u8::from(wish)));
        let numbers = self.losses.iter().copied().chain(wishes).chain([self.seconds]);
        let bits = numbers.map(f32::to_bits).chain([self.hash]);
        bits.flat_map(u32::to_le_bytes).collect()
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let words: Vec<u32> =
            bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect();
        let Some((losses, &[stop, save, time_up, seconds, hash])) = words.split_last_chunk::<5>() else {
            return Err(Error::run("the ranks do not understand each other", "start the same program on all hosts"));
        };
        Ok(Self {
            losses: losses.iter().map(|&bits| f32::from_bits(bits)).collect(),
            wishes: Wishes { stop: stop != 0, save: save != 0, time_up: time_up != 0 },
            seconds: f32::from_bits(seconds),
            hash,
        })
    }
}

impl Among {
    /// What is known before the first update.
    ///
    /// # Errors
    /// A rank that is gone.
    pub fn new(ranks: Ranks, device: &Device) -> Result<Self> {
        let own = device.capabilities().map_or("cpu".into(), |adapter| format!("{adapter} {}", device.machine()));
        let all = ranks.all(&own)?;
        let alike = all.iter().all(|device| *device == all[0]);
        let cpu = || Session::new(Device::Cpu { why: String::new() }, KernelSelection::default());
        let none = Wishes::default();
        Ok(Self { ranks, host: (!alike).then(cpu), wishes: none, agreed: none, early: None, seconds: 0.0 })
    }

    /// The slots of this rank, of a batch of so many.
    pub fn slots(&self, total: usize) -> Slots {
        Slots::part(total, self.ranks.rank(), self.ranks.size())
    }

    /// The rows of this rank's slots in the states of all.
    pub fn own_states(&self, states: &[Vec<f32>], total: usize) -> Vec<Vec<f32>> {
        let Slots { first, count, .. } = self.slots(total);
        let rows = |state: &Vec<f32>| {
            let row = state.len() / total;
            state[first * row..][..count * row].to_vec()
        };
        states.iter().map(rows).collect()
    }

    /// The states of all slots, on all ranks, of those of each.
    ///
    /// # Errors
    /// A rank that is gone.
    pub fn all_states(&self, own: &[Vec<f32>]) -> Result<Vec<Vec<f32>>> {
        let of_state = |state: &Vec<f32>| {
            let all = self.ranks.gather(bytemuck::cast_slice(state).to_vec())?;
            Ok(all.iter().flat_map(|bytes| bytemuck::pod_collect_to_vec::<u8, f32>(bytes)).collect())
        };
        own.iter().map(of_state).collect()
    }
}

impl Trainer {
    /// Makes the gradients of this rank's slots, the sum of all ranks', and submits the update; returns the losses of the whole batch.
    pub(super) async fn submit_among(
        &mut self,
        batches: &[Batch],
        uniforms: &Uniforms,
    ) -> Result<(Vec<f32>, RanksRecord)> {
        let none = || Error::run("a rank that has no others", "");
        let began = Instant::now();
        let hash = self.hash_if_due(u64::from(uniforms.update)).await?;
        let among = self.among.as_ref().ok_or_else(none)?;
        let (ranks, wishes, seconds) = (among.ranks.clone(), among.wishes, among.seconds as f32);
        let waited_before = ranks.seconds_waited();
        let grads = self.session.plan(self.gradients).buffer(Kind::Grads);
        let (early, losses) = match batches {
            [batch] => self.gradients_among(batch, uniforms, &ranks, grads).await?,
            batches => (None, Some(self.accumulate(batches, uniforms).await?)),
        };
        let rest = early.as_ref().map_or(grads, |(_, first)| grads.slice(0, *first));
        let mut read = self.session.read(self.gradients, &[rest, self.io.losses]).await?;
        let losses = losses.or(read.pop()).unwrap_or_default();
        let note = Note { losses, wishes, seconds, hash: hash.unwrap_or_default() };
        let late = ranks.begin_sum(read.swap_remove(0), note.to_bytes(), LATE)?;
        let early = early.map(|(sum, first)| ranks.finish_sum(sum).map(|sum| (sum, first))).transpose()?;
        let late = ranks.finish_sum(late)?;
        let waited = ranks.seconds_waited() - waited_before;

        let notes = late.notes.iter().map(|note| Note::from_bytes(note)).collect::<Result<Vec<_>>>()?;
        let mut record = self.record_of(&notes, [Some(&late), early.as_ref().map(|(sum, _)| sum)]);
        self.take_update(&late, early, grads, uniforms).await?;
        let among = self.among.as_mut().ok_or_else(none)?;
        among.seconds = began.elapsed().as_secs_f64() - waited;
        (record.seconds, record.waited) = (began.elapsed().as_secs_f64(), waited);
        among.agreed = Wishes {
            stop: notes.iter().any(|note| note.wishes.stop),
            save: notes.iter().any(|note| note.wishes.save),
            time_up: notes[0].wishes.time_up,
        };
        if hash.is_some() {
            self.compare(&notes)?;
        }
        let mut losses = vec![0.0_f32; self.io.losses.len];
        for note in &notes {
            losses.iter_mut().zip(&note.losses).for_each(|(sum, loss)| *sum += loss);
        }
        Ok((losses, record))
    }

    /// Makes the gradients of this rank's slots, and begins to sum those that are done early: returns that sum with its first element.
    /// Losses are left to be read.
    async fn gradients_among(
        &mut self,
        batch: &Batch,
        uniforms: &Uniforms,
        ranks: &Ranks,
        grads: View,
    ) -> Result<(Option<(Sum, usize)>, Option<Vec<f32>>)> {
        feed(&mut self.session, self.gradients, &self.io, batch)?;
        let Some((cut, first)) = self.among.as_ref().and_then(|among| among.early) else {
            self.session.run(self.gradients, 1, uniforms)?;
            return Ok((None, None));
        };
        let nodes = self.session.plan(self.gradients).nodes.len();
        self.session.run_nodes(self.gradients, 0..cut, uniforms)?;
        let early = grads.slice(first, grads.len - first);
        let reading = self.session.begin_read(&[(self.gradients, early)]).await?;
        // A GPU goes on by itself; the CPU computes in the call, so the sum is to be under way before.
        let on_gpu = self.session.capabilities().is_some();
        if on_gpu {
            self.session.run_nodes(self.gradients, cut..nodes, uniforms)?;
        }
        let values = self.session.finish_read(reading).await?.swap_remove(0);
        let sum = ranks.begin_sum(values, vec![], EARLY)?;
        if !on_gpu {
            self.session.run_nodes(self.gradients, cut..nodes, uniforms)?;
        }
        Ok((Some((sum, first)), None))
    }

    /// Gives the summed gradients to the update, and submits it.
    async fn take_update(
        &mut self,
        late: &Summed,
        early: Option<(Summed, usize)>,
        grads: View,
        uniforms: &Uniforms,
    ) -> Result<()> {
        let parts = [Some((&late.values, 0)), early.as_ref().map(|(sum, first)| (&sum.values, *first))];
        let Some(host) = self.among.as_mut().and_then(|among| among.host.as_mut()) else {
            for (values, first) in parts.into_iter().flatten() {
                self.session.write(self.gradients, grads.slice(first, values.len()), values)?;
            }
            return self.session.run(self.update, 1, uniforms);
        };
        let grads = host.plan(self.update).buffer(Kind::Grads);
        for (values, first) in parts.into_iter().flatten() {
            host.write(self.update, grads.slice(first, values.len()), values)?;
        }
        host.run(self.update, 1, uniforms)?;
        let params = host.plan(self.update).buffer(Kind::Params);
        let params = host.read(self.update, &[params]).await?.swap_remove(0);
        let place = self.session.plan(self.gradients).buffer(Kind::Params);
        self.session.write(self.gradients, place, &params)
    }

    /// What an update took.
    fn record_of(&self, notes: &[Note], sums: [Option<&Summed>; 2]) -> RanksRecord {
        let slowest = notes.iter().enumerate().max_by(|a, b| a.1.seconds.total_cmp(&b.1.seconds));
        let sums = || sums.into_iter().flatten();
        RanksRecord {
            seconds: 0.0,
            waited: 0.0,
            summing: sums().map(|sum| sum.seconds).sum(),
            bytes: sums().map(|sum| sum.bytes).sum(),
            slowest: slowest.map_or(0, |(rank, _)| rank),
            slowest_seconds: slowest.map_or(0.0, |(_, note)| f64::from(note.seconds)),
            mean_seconds: notes.iter().map(|note| f64::from(note.seconds)).sum::<f64>() / notes.len() as f64,
        }
    }

    /// A checksum of the parameters before update `number`, from 0, where it is time to compare them.
    async fn hash_if_due(&self, number: u64) -> Result<Option<u32>> {
        if !number.is_multiple_of(COMPARE_EVERY) {
            return Ok(None);
        }
        let params = self.session.plan(self.gradients).buffer(Kind::Params);
        let params = self.session.read(self.gradients, &[params]).await?.swap_remove(0);
        Ok(Some(crc32c::crc32c(bytemuck::cast_slice(&params))))
    }

    /// Fails where the parameters of two ranks are not the same bits.
    fn compare(&self, notes: &[Note]) -> Result<()> {
        let Some(among) = &self.among else { return Ok(()) };
        let Some(other) = notes.iter().position(|note| note.hash != notes[0].hash) else { return Ok(()) };
        among.ranks.all_have_it();
        let [first, other] = [0, other].map(|rank| among.ranks.name_of(rank));
        Err(Error::run(
            format!("before update {}: the parameters of {first} and of {other} differ", self.submitted() + 1),
            "go on from the last checkpoint, which all ranks share; if it happens again, the memory or the device of one of \
             them is faulty: `deepj verify` tests it",
        ))
    }

    /// Bytes of the gradients that are summed early and of the others, the part of the computing that is left when the former are
    /// done, and the operations of an update.
    pub(crate) fn sums(&self) -> ([u64; 2], f64, u64) {
        let plan = self.session.plan(self.gradients);
        let (len, nodes) = (plan.layout.len(), plan.nodes.len());
        let (cut, first) = self.among.as_ref().and_then(|among| among.early).unwrap_or((nodes, len));
        let flops = |nodes: &[Node]| nodes.iter().map(|node| node.op.cost().flops).sum::<u64>();
        let after = flops(&plan.nodes[cut..]) as f64 / flops(&plan.nodes).max(1) as f64;
        let all = plan.cost().flops * self.parts.len() as u64 + self.updating().plan(self.update).cost().flops;
        let bytes = |elements: usize| size_of::<f32>() as u64 * elements as u64;
        ([bytes(len - first), bytes(first)], after, all)
    }

    /// Finds out which gradients can travel early.
    pub(super) fn look_for_early_gradients(&mut self) {
        let early = self.session.plan(self.gradients).early_gradients();
        if let Some(among) = &mut self.among {
            among.early = early.filter(|_| self.parts.len() == 1);
        }
    }

    /// What all ranks owe to sums that travel as f16, summed, on all of them; rank 0 owes it from now on, so that a run which goes on
    /// is as one that begins from the checkpoint. `None` where nothing is rounded.
    pub(super) fn settle(&self) -> Result<Option<Vec<f32>>> {
        let Some(among) = self.among.as_ref().filter(|among| among.ranks.wire() == Wire::F16) else { return Ok(None) };
        let len = self.session.plan(self.gradients).layout.len();
        let first = among.early.map_or(len, |(_, first)| first);
        let mut own = among.ranks.take_owed(LATE, first)?;
        own.extend(among.ranks.take_owed(EARLY, len - first)?);
        let whole = among.ranks.clone().with_wire(Wire::F32);
        let owed = whole.finish_sum(whole.begin_sum(own, vec![], LATE)?)?.values;
        self.owe(Some(owed.clone()))?;
        Ok(Some(owed))
    }

    /// Has rank 0 owe this to the sums to come.
    pub(super) fn owe(&self, owed: Option<Vec<f32>>) -> Result<()> {
        let Some(among) = self.among.as_ref().filter(|among| among.ranks.is_first()) else { return Ok(()) };
        let Some(mut owed) = owed else { return Ok(()) };
        let first = among.early.map_or(owed.len(), |(_, first)| first);
        among.ranks.owe(EARLY, owed.split_off(first))?;
        among.ranks.owe(LATE, owed)
    }

    /// Asks all ranks for something, in the next update.
    pub(super) fn wish(&mut self, wishes: Wishes) {
        if let Some(among) = &mut self.among {
            among.wishes = wishes;
        }
    }

    /// What the ranks have agreed on; `None` where this process trains alone.
    pub(super) fn agreed(&self) -> Option<Wishes> {
        self.among.as_ref().map(|among| among.agreed)
    }

    /// The ranks that train together.
    pub(super) fn ranks(&self) -> Option<&Ranks> {
        self.among.as_ref().map(|among| &among.ranks)
    }

    /// The session of the update.
    pub(super) fn updating(&self) -> &Session {
        self.among.as_ref().and_then(|among| among.host.as_ref()).unwrap_or(&self.session)
    }
}

#[cfg(test)]
mod tests {
    use pollster::block_on;

    use super::super::plans;
    use super::super::trainer::Start;
    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::train::{Prepared, TrainOptions, Update, prepare, prepare_among};

    fn options(batch: usize) -> TrainOptions {
        let sizes = ["time_units", "note_units", "filters", "style_width"].map(|field| (field.into(), "4".into()));
        TrainOptions { set: sizes.into(), batch: Some(batch), seq: Some(8), ..TrainOptions::default() }
    }

    fn cpu() -> Device {
        Device::Cpu { why: String::new() }
    }

    /// The losses of so many updates, and the parameters after them.
    fn updates(mut trainer: Trainer, count: usize) -> Result<(Vec<f64>, Vec<f32>)> {
        let mut losses = vec![];
        for _ in 0..count {
            if let Some(Update::Made(record)) = block_on(trainer.step())? {
                losses.push(record.losses.total());
            }
        }
        Ok((losses, block_on(trainer.snapshot())?.params))
    }

    /// What `of` makes of each of so many ranks.
    fn on_ranks<T: Send>(size: usize, of: impl Fn(Ranks) -> T + Sync) -> Vec<T> {
        let of = &of;
        std::thread::scope(|scope| {
            let running: Vec<_> = Ranks::threads(size).into_iter().map(|rank| scope.spawn(move || of(rank))).collect();
            running.into_iter().map(|rank| rank.join().unwrap()).collect()
        })
    }

    fn trainer(ranks: &Ranks) -> Result<Trainer> {
        let prepared = prepare_among(&options(4), &cpu(), ranks)?;
        block_on(Trainer::begin(prepared, cpu(), KernelSelection::default()))
    }

    #[test]
    fn ranks_make_the_updates_of_one_process() {
        const UPDATES: usize = 6;
        let prepared = prepare(&options(4), &cpu()).unwrap();
        let alone = block_on(Trainer::begin(prepared, cpu(), KernelSelection::default())).unwrap();
        let (alone, _) = updates(alone, UPDATES).unwrap();
        for size in [1, 2, 4] {
            let of_ranks = on_ranks(size, |ranks| updates(trainer(&ranks).unwrap(), UPDATES).unwrap());
            let (losses, params) = &of_ranks[0];
            assert_eq!(losses.len(), UPDATES);
            for (found, expected) in losses.iter().zip(&alone) {
                assert!((found - expected).abs() < 1e-5 * expected, "{size} ranks: {losses:?}, not {alone:?}");
            }
            for other in &of_ranks {
                assert!(other.0 == *losses && other.1 == *params, "all ranks have the same bits");
            }
        }
    }

    #[test]
    fn gradients_of_the_axis_of_notes_are_done_early() {
        let ranks = Ranks::threads(1).pop().unwrap();
        let trainer = trainer(&ranks).unwrap();
        let ([early, late], after, _) = trainer.sums();
        let layout = trainer.model().layout();
        let first = layout.params().iter().find(|param| param.name.starts_with("note.0")).unwrap();
        assert_eq!(late, 4 * first.view.start as u64, "from the first layer over notes on");
        assert!(early > 0 && after > 0.2, "{after} of the computing is left");
    }

    #[test]
    fn parameters_that_differ_end_the_run_with_both_names() {
        let errors = on_ranks(3, |ranks| {
            let mut trainer = trainer(&ranks).unwrap();
            if ranks.rank() == 2 {
                let first = trainer.session.plan(trainer.gradients).buffer(Kind::Params).slice(0, 1);
                trainer.session.write(trainer.gradients, first, &[0.5]).unwrap();
            }
            let error = updates(trainer, 1).unwrap_err();
            (error.what, ranks.is_agreed())
        });
        for (what, agreed) in errors {
            assert!(what.contains("rank 0 on ") && what.contains("rank 2 on ") && agreed, "{what}");
        }
    }

    #[test]
    fn what_one_rank_wishes_all_hear() {
        let heard = on_ranks(2, |ranks| {
            let mut trainer = trainer(&ranks).unwrap();
            let second = ranks.rank() == 1;
            trainer.wish(Wishes { stop: second, save: !second, time_up: second });
            block_on(trainer.step()).unwrap();
            trainer.agreed().unwrap()
        });
        let all = Wishes { stop: true, save: true, time_up: false };
        assert_eq!(heard, [all, all], "the clock is that of rank 0");
    }

    /// A device that rounds otherwise would end as another one does; here both are the CPU, and only their names differ.
    #[test]
    fn devices_that_are_not_alike_have_the_same_parameters() {
        let params = on_ranks(2, |ranks| {
            let prepared = prepare_among(&options(4), &cpu(), &ranks).unwrap();
            let mut among = Among::new(ranks.clone(), &cpu()).unwrap();
            assert!(among.host.is_none());
            among.host = Some(Session::new(cpu(), KernelSelection::default()));
            let plans = plans::checked(&prepared, &cpu(), &KernelSelection::default()).unwrap();
            let Prepared { state, sampler, .. } = prepared;
            let Checkpoint { model, settings, progress, params, mean, resume, .. } = state;
            let (resume, validates, among) = (resume.unwrap(), false, Some(among));
            let start = Start { model, settings, progress, params, mean, resume, sampler, validates, among };
            let with_host = block_on(Trainer::new(start, plans, cpu(), KernelSelection::default())).unwrap();
            let without = trainer(&ranks).unwrap();
            [updates(with_host, 3).unwrap(), updates(without, 3).unwrap()]
        });
        for [with_host, without] in &params {
            assert_eq!(with_host, without);
        }
        assert_eq!(params[0], params[1]);
    }
}
