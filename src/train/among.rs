//! Updates that several ranks make together: each makes the gradients of its slots, all sum them, and each updates its own
//! parameters, which stay the same bits everywhere.
//!
//! Gradients that are done early, those of the axis of notes, are summed while the device computes the rest. With them travels
//! what each rank wishes, so that all end and save after one and the same update.

use std::ops::Range;

use web_time::Instant;

use super::observer::RanksRecord;
use super::plans::Plans;
use super::trainer::Trainer;
use crate::distributed::{Ranks, Sum, Summed, Wire, pairwise};
use crate::evaluate::feed;
use crate::gpu::Device;
use crate::graph::plan::joined;
use crate::graph::session::KernelSelection;
use crate::graph::{Kind, ProgramId, Session};
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
    /// How many nodes make gradients that are done early, and the ranges of these; none where they are not to travel early.
    early: (usize, Vec<Range<usize>>),
    /// The ranges of all others.
    late: Vec<Range<usize>>,
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
    /// What is known before the first update. Nothing that a rank does between this and the first update waits for others.
    ///
    /// # Errors
    /// A rank that is gone.
    pub fn new(ranks: Ranks, device: &Device, plans: &Plans) -> Result<Self> {
        let own = device.capabilities().map_or("cpu".into(), |adapter| format!("{adapter} {}", device.machine()));
        let (cut, early) = plans.early.clone();
        let all: Vec<(String, Vec<Range<usize>>)> = ranks.all(&(own, early.clone()))?;
        let alike = all.iter().all(|(device, _)| *device == all[0].0);
        let cpu = || Session::new(Device::Cpu { why: String::new() }, KernelSelection::default());
        // Plans differ by device and by choice of kernels, but a sum is of one and the same vector.
        let early = if all.iter().all(|(_, other)| *other == early) { early } else { vec![] };
        let params = plans.gradients.layout.params().iter();
        let params = params.map(|param| param.view.start..param.view.start + param.view.len);
        let is_early = |range: &Range<usize>| early.iter().any(|of| of.start <= range.start && range.end <= of.end);
        let late = joined(params.filter(|range| !is_early(range)).collect());
        let (early, none) = ((cut, early), Wishes::default());
        Ok(Self { ranks, host: (!alike).then(cpu), wishes: none, agreed: none, early, late, seconds: 0.0 })
    }

    /// The rows of this rank's slots in the states of all.
    pub fn own_states(&self, states: &[Vec<f32>], total: usize) -> Vec<Vec<f32>> {
        let Slots { first, count, .. } = self.ranks.slots(total);
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
        let (losses, early) = match batches {
            [batch] => {
                feed(&mut self.session, self.gradients, &self.io, batch)?;
                (None, self.gradients_among(uniforms, &ranks).await?)
            }
            batches => {
                let (losses, early) = self.accumulate(batches, uniforms, Some(&ranks)).await?;
                (Some(losses), early)
            }
        };
        let mut views = self.views(LATE);
        views.push(self.io.losses);
        let mut read = self.session.read(self.gradients, &views).await?;
        let losses = losses.or(read.pop()).unwrap_or_default();
        let note = Note { losses, wishes, seconds, hash: hash.unwrap_or_default() };
        let late = ranks.begin_sum(read.concat(), note.to_bytes(), LATE)?;
        let early = early.map(|sum| ranks.finish_sum(sum)).transpose()?;
        let late = ranks.finish_sum(late)?;
        let waited = ranks.seconds_waited() - waited_before;

        let notes = late.notes.iter().map(|note| Note::from_bytes(note)).collect::<Result<Vec<_>>>()?;
        let mut record = self.record_of(&notes, [Some(&late), early.as_ref()]);
        self.take_update([Some(late), early], uniforms).await?;
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
        let losses: Vec<&[f32]> = notes.iter().map(|note| &note.losses[..]).collect();
        Ok((pairwise(&losses), record))
    }

    /// The gradients that are summed as this vector.
    fn views(&self, vector: usize) -> Vec<View> {
        let grads = self.session.plan(self.gradients).buffer(Kind::Grads);
        let Some(among) = &self.among else { return vec![] };
        let ranges = if vector == EARLY { &among.early.1 } else { &among.late };
        ranges.iter().map(|range| grads.slice(range.start, range.len())).collect()
    }

    /// Makes the gradients of the last part of this rank's slots, which was fed to the device, with their sum over its parts, and
    /// begins to sum over all ranks those that are done early. Losses are left to be read.
    pub(super) async fn gradients_among(&mut self, uniforms: &Uniforms, ranks: &Ranks) -> Result<Option<Sum>> {
        let views = self.views(EARLY);
        let programs = self.last_programs(self.among.as_ref().map_or(0, |among| among.early.0));
        if views.is_empty() {
            let programs: Vec<ProgramId> = programs.into_iter().map(|(program, _)| program).collect();
            self.session.run_all(&programs, uniforms)?;
            return Ok(None);
        }
        for &(program, early) in &programs {
            self.session.run_nodes(program, 0..early, uniforms)?;
        }
        let views: Vec<_> = views.into_iter().map(|view| (self.gradients, view)).collect();
        let reading = self.session.begin_read(&views).await?;
        // A GPU goes on by itself; the CPU computes in the call, so the sum is to be under way before.
        let on_gpu = self.session.capabilities().is_some();
        let run_rest = |session: &mut Session| {
            programs.iter().try_for_each(|&(program, early)| {
                session.run_nodes(program, early..session.plan(program).nodes.len(), uniforms)
            })
        };
        if on_gpu {
            run_rest(&mut self.session)?;
        }
        let values = self.session.finish_read(reading).await?.concat();
        let sum = ranks.begin_sum(values, vec![], EARLY)?;
        if !on_gpu {
            run_rest(&mut self.session)?;
        }
        Ok(Some(sum))
    }

    /// Gives the summed gradients, by vector, to the update, and submits it.
    async fn take_update(&mut self, sums: [Option<Summed>; 2], uniforms: &Uniforms) -> Result<()> {
        let mut parts: Vec<(View, Vec<f32>)> = vec![];
        for (vector, sum) in sums.into_iter().enumerate() {
            let Some(sum) = sum else { continue };
            let mut values = &sum.values[..];
            for view in self.views(vector) {
                let (own, rest) = values.split_at(view.len);
                parts.push((view, own.to_vec()));
                values = rest;
            }
        }
        let Some(host) = self.among.as_mut().and_then(|among| among.host.as_mut()) else {
            parts.iter().try_for_each(|(view, values)| self.session.write(self.gradients, *view, values))?;
            return self.session.run(self.update, 1, uniforms);
        };
        let grads = host.plan(self.update).buffer(Kind::Grads);
        for (view, values) in &parts {
            host.write(self.update, grads.slice(view.start, view.len), values)?;
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
        RanksRecord {
            seconds: 0.0,
            waited: 0.0,
            bytes: sums.into_iter().flatten().map(|sum| sum.bytes).sum(),
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

    /// Bytes of the gradients that are summed early and of the others, as they travel, the part of the computing that is left when the former are
    /// done, and the operations of an update.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn sums(&self) -> ([u64; 2], f64, u64) {
        let plan = self.session.plan(self.gradients);
        let flops = |nodes: &[crate::graph::Node]| nodes.iter().map(|node| node.op.cost().flops).sum::<u64>();
        let cut = self
            .among
            .as_ref()
            .filter(|among| !among.early.1.is_empty())
            .map_or(plan.nodes.len(), |among| among.early.0);
        let after = flops(&plan.nodes[cut..]) as f64 / (flops(&plan.nodes) * self.parts.len() as u64).max(1) as f64;
        let all = plan.cost().flops * self.parts.len() as u64 + self.updating().plan(self.update).cost().flops;
        let wire = self.ranks().map(Ranks::wire).unwrap_or_default();
        let bytes = |vector: usize| wire.bytes(self.views(vector).iter().map(|view| view.len as u64).sum());
        ([bytes(EARLY), bytes(LATE)], after, all)
    }

    /// What all ranks owe to sums of gradients that travel as f16, without the loss scale, summed, on all of them; rank 0 owes it from now on, so that a run which goes on
    /// is as one that begins from the checkpoint. `None` where nothing is rounded.
    pub(super) fn settle(&self) -> Result<Option<Vec<f32>>> {
        let Some(among) = self.among.as_ref().filter(|among| among.ranks.wire() == Wire::F16) else { return Ok(None) };
        let whole = among.ranks.clone().with_wire(Wire::F32);
        let mut all = vec![0.0; self.session.plan(self.gradients).layout.len()];
        for vector in [LATE, EARLY] {
            let views = self.views(vector);
            let mut own = among.ranks.take_owed(vector, views.iter().map(|view| view.len).sum())?;
            own.iter_mut().for_each(|owed| *owed /= self.scale);
            let sum = whole.finish_sum(whole.begin_sum(own, vec![], vector)?)?.values;
            let mut values = &sum[..];
            for view in views {
                let (own, rest) = values.split_at(view.len);
                all[view.start..][..view.len].copy_from_slice(own);
                values = rest;
            }
        }
        self.owe(Some(all.clone()))?;
        Ok(Some(all))
    }

    /// Has rank 0 owe this to the sums to come, and the others nothing, whatever they trained before.
    pub(super) fn owe(&self, owed: Option<Vec<f32>>) -> Result<()> {
        let Some(ranks) = self.ranks() else { return Ok(()) };
        let owed = owed.filter(|_| ranks.is_first());
        for vector in [LATE, EARLY] {
            let of = |owed: &Vec<f32>| {
                let own = self.views(vector).into_iter().flat_map(|view| &owed[view.start..][..view.len]);
                own.map(|owed| owed * self.scale).collect()
            };
            ranks.owe(vector, owed.as_ref().map(of).unwrap_or_default())?;
        }
        Ok(())
    }

    /// The sums of this update are not used: its gradients overflowed.
    pub(super) fn take_sums_back(&self) -> Result<()> {
        let ranks = self.ranks().filter(|ranks| ranks.wire() == Wire::F16);
        ranks.map_or(Ok(()), |ranks| [LATE, EARLY].into_iter().try_for_each(|vector| ranks.take_back(vector)))
    }

    /// The gradients to be summed will be so many times as large.
    pub(super) fn rescale_sums(&self, factor: f32) -> Result<()> {
        let ranks = self.ranks().filter(|ranks| factor != 1.0 && ranks.wire() == Wire::F16);
        ranks.map_or(Ok(()), |ranks| [LATE, EARLY].into_iter().try_for_each(|vector| ranks.rescale(vector, factor)))
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
    use crate::gpu::{DeviceChoice, OpenOptions, adapters, open};
    use crate::graph::session::Tune;
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

    /// 8 slots in 4 parts, which 1, 2 and 4 ranks share: on the CPU by themselves, on an adapter because they are told to. What is
    /// done early of the last part of several is summed early.
    #[test]
    fn ranks_that_share_the_parts_of_a_batch_make_the_bits_of_one_process() {
        let adapter = (!block_on(adapters()).is_empty()).then_some(DeviceChoice::Index(0));
        for choice in [Some(DeviceChoice::Cpu), adapter].into_iter().flatten() {
            let made = |ranks: Option<&Ranks>| {
                let device = block_on(open(&choice, OpenOptions::default())).unwrap();
                let on_cpu = device.capabilities().is_none();
                let accumulate = (!on_cpu).then_some(4 / ranks.map_or(1, Ranks::size));
                let options = TrainOptions { accumulate, ..options(8) };
                let prepared = match ranks {
                    None => prepare(&options, &device),
                    Some(ranks) => prepare_among(&options, &device, ranks),
                };
                let off = KernelSelection { tune: Tune::Off, ..KernelSelection::default() };
                let mut trainer = block_on(Trainer::begin(prepared.unwrap(), device, off)).unwrap();
                assert_eq!(trainer.parts.len(), 4 / ranks.map_or(1, Ranks::size));
                if ranks.is_some() {
                    let ([early, late], after, _) = trainer.sums();
                    assert!(early > 0 && late > 0 && after > 0.0, "{early} bytes early, {late} late, {after} is left");
                }
                let mut losses = vec![];
                while losses.len() < 3 {
                    if let Some(Update::Made(record)) = block_on(trainer.step()).unwrap() {
                        losses.push(record.losses.total());
                    }
                }
                block_on(trainer.finish()).unwrap();
                (losses, block_on(trainer.snapshot()).unwrap().params)
            };
            let alone = made(None);
            for size in [1, 2, 4] {
                let of_ranks = on_ranks(size, |ranks| made(Some(&ranks)));
                assert!(of_ranks.iter().all(|of_rank| *of_rank == alone), "{size} ranks on {choice:?}");
            }
        }
    }

    #[test]
    fn gradients_of_the_axis_of_notes_are_done_early() {
        let ranks = Ranks::threads(1).pop().unwrap();
        let options = TrainOptions { preset: Some("small".into()), set: vec![], accumulate: Some(1), ..options(4) };
        let prepared = prepare_among(&options, &cpu(), &ranks).unwrap();
        let trainer = block_on(Trainer::begin(prepared, cpu(), KernelSelection::default())).unwrap();
        let ([early, late], after, _) = trainer.sums();
        let params = trainer.model().layout().params();
        let bytes = |of: &str| {
            let own = params.iter().filter(|param| param.name.starts_with(of) && !param.name.contains("style"));
            own.map(|param| 4 * param.view.len as u64).sum::<u64>()
        };
        assert!(early >= bytes("note.") + bytes("heads."), "{early} bytes");
        let of_style = params.iter().filter(|param| param.name.contains("style"));
        let styles: usize = of_style.map(|param| param.view.len).sum();
        assert_eq!(early + late, bytes("") + 4 * styles as u64);
        assert!(after > 0.2, "{after} of the computing is left");
    }

    /// The tiny network, whose gradients are cut elsewhere on rank 1.
    #[test]
    fn gradients_travel_early_only_where_all_ranks_have_them_early() {
        let early = on_ranks(2, |ranks| {
            let prepared = prepare_among(&options(4), &cpu(), &ranks).unwrap();
            let mut plans = plans::checked(&prepared, &cpu(), &KernelSelection::default()).unwrap();
            let own = Among::new(ranks.clone(), &cpu(), &plans).unwrap().early.1;
            // As of a plan whose gradients are all done at its end.
            if ranks.rank() == 1 {
                plans.early = Default::default();
            }
            let among = Among::new(ranks.clone(), &cpu(), &plans).unwrap();
            let all = plans.gradients.layout.params().iter().map(|param| param.view.len).sum::<usize>();
            assert_eq!(among.late.iter().map(Range::len).sum::<usize>(), all);
            (own, among.early.1)
        });
        for (own, among) in early {
            assert!(!own.is_empty() && among.is_empty());
        }
    }

    #[test]
    fn parameters_that_differ_end_the_run_with_both_names() {
        let errors = on_ranks(4, |ranks| {
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
    fn a_rank_whose_device_is_lost_ends_all() {
        if block_on(adapters()).is_empty() {
            println!("skipped: no adapter here");
            return;
        }
        let errors = on_ranks(2, |ranks| {
            let device = block_on(open(&DeviceChoice::Index(0), OpenOptions::default())).unwrap();
            let prepared = prepare_among(&options(4), &device, &ranks).unwrap();
            let off = KernelSelection { tune: Tune::Off, ..KernelSelection::default() };
            let mut trainer = block_on(Trainer::begin(prepared, device.clone(), off)).unwrap();
            block_on(trainer.step()).unwrap();
            if let (1, Device::Gpu(gpu)) = (ranks.rank(), &device) {
                gpu.destroy();
            }
            let failed = (0..3).find_map(|_| block_on(trainer.step()).err()).map(|e| e.what);
            // As the program does.
            ranks.abort(1);
            failed
        });
        let [first, second] = [0, 1].map(|rank| errors[rank].clone().unwrap_or_default());
        assert!(second.contains("the device is lost"), "{second}");
        assert!(!first.is_empty() && !first.contains("the device is lost"), "the other ends too: {first}");
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
            let plans = plans::checked(&prepared, &cpu(), &KernelSelection::default()).unwrap();
            let mut among = Among::new(ranks.clone(), &cpu(), &plans).unwrap();
            assert!(among.host.is_none());
            among.host = Some(Session::new(cpu(), KernelSelection::default()));
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
