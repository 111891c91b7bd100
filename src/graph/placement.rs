//! Which memory each tensor of a plan has, and when.
//!
//! Inputs, states and outputs have buffers of their own. Temporaries share buffers, in time and in space: the largest
//! choose first, and each takes the lowest place of the smallest buffer where it overlaps no other in both ("greedy by
//! size", Pisarchyk & Lee 2020, "Efficient Memory Management for Deep Neural Net Inference").

use std::cmp::Reverse;
use std::collections::HashSet;

use super::builder::{Kind, Node, Tensor};
use crate::gpu::{Access, Capabilities, Format};
use crate::ops::View;

/// Where a tensor's memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Home {
    /// In a buffer that all programs of a session share, by [`Kind::shared`].
    Shared(usize),
    /// In a buffer of the program.
    Slot(usize),
}

/// A buffer of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its size.
    pub bytes: u64,
    /// The least bytes of an element among its tenants: what an element of the CPU backend stands for.
    unit: u64,
}

impl Slot {
    /// Elements that the CPU backend needs, which keeps each as one number whatever its format.
    pub fn len(&self) -> usize {
        (self.bytes / self.unit) as usize
    }

    /// Its bytes on the adapter with these capabilities, or on the CPU, which keeps all values as f32.
    pub fn bytes_on(&self, adapter: Option<&Capabilities>) -> u64 {
        if adapter.is_some() { self.bytes } else { 4 * self.len() as u64 }
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }
}

/// Where each tensor is.
#[derive(Clone, Debug)]
pub(super) struct Placement {
    pub slots: Vec<Slot>,
    /// By tensor: home, and first byte there.
    places: Vec<(Home, u64)>,
}

/// A temporary in a buffer: its bytes, the nodes during which it lives.
struct Tenant {
    id: usize,
    bytes: (u64, u64),
    life: (usize, usize),
}

/// Tensors start on multiples of so many bytes, which every adapter can bind.
const ALIGNMENT: u64 = Format::F32.alignment() * 4;

impl Placement {
    /// `invariant` nodes at the beginning are not repeated with the others: what those read of them stays.
    pub fn new(tensors: &[Tensor], nodes: &[Node], invariant: usize) -> Self {
        let mut lives: Vec<Option<(usize, usize)>> = vec![None; tensors.len()];
        // WebGPU binds a buffer in one dispatch either for reading or for writing, whatever the ranges, and the CPU
        // backend borrows as strictly: so what a node reads is not beside what it writes.
        let mut apart: HashSet<(usize, usize)> = HashSet::new();
        for (i, node) in nodes.iter().enumerate() {
            let ids: Vec<usize> = node.operands.iter().map(|view| view.tensor.0 as usize).collect();
            for &id in &ids {
                lives[id] = Some((lives[id].map_or(i, |(first, _)| first), i));
            }
            let args = node.op.args();
            for (&written, _) in ids.iter().zip(&args).filter(|(_, arg)| arg.access == Access::ReadWrite) {
                for (&read, _) in ids.iter().zip(&args).filter(|(_, arg)| arg.access == Access::Read) {
                    apart.extend([(written, read), (read, written)]);
                }
            }
        }
        for (_, last) in lives.iter_mut().flatten().filter(|(first, last)| *first < invariant && *last >= invariant) {
            *last = nodes.len();
        }
        let mut slots: Vec<Slot> = vec![];
        let mut places = vec![(Home::Slot(usize::MAX), 0); tensors.len()];
        for (id, tensor) in tensors.iter().enumerate() {
            if let Some(number) = tensor.kind.shared() {
                places[id].0 = Home::Shared(number);
            } else if tensor.kind != Kind::Temp {
                places[id].0 = Home::Slot(slots.len());
                slots.push(Slot { bytes: tensor.bytes(), unit: tensor.format.bytes() });
            }
        }
        let shared_from = slots.len();
        let mut tenants: Vec<Vec<Tenant>> = vec![];
        let mut temps: Vec<(Reverse<u64>, (usize, usize), usize)> = (tensors.iter().enumerate())
            .filter(|(_, tensor)| tensor.kind == Kind::Temp)
            .filter_map(|(id, tensor)| Some((Reverse(tensor.bytes().next_multiple_of(4)), lives[id]?, id)))
            .collect();
        temps.sort_unstable();
        for (Reverse(bytes), life, id) in temps {
            let unit = tensors[id].format.bytes();
            let found = (0..tenants.len())
                .filter_map(|s| {
                    let size = slots[shared_from + s].bytes;
                    Some((size, s, gap(&tenants[s], &apart, (id, bytes, life), size)?))
                })
                .min();
            let (slot, start) = match found {
                Some((_, slot, start)) => (slot, start),
                None => {
                    tenants.push(vec![]);
                    slots.push(Slot { bytes, unit });
                    (tenants.len() - 1, 0)
                }
            };
            tenants[slot].push(Tenant { id, bytes: (start, start + bytes), life });
            let shared = &mut slots[shared_from + slot];
            shared.unit = shared.unit.min(unit);
            places[id] = (Home::Slot(shared_from + slot), start);
        }
        Self { slots, places }
    }

    /// Where the tensor of this number lives.
    pub fn place(&self, tensor: usize) -> Home {
        self.places[tensor].0
    }

    /// Where the view's tensor lives.
    pub fn home(&self, view: View) -> Home {
        self.place(view.tensor.0 as usize)
    }

    /// The view with its start counted from the buffer's.
    pub fn in_buffer(&self, view: View) -> View {
        let (_, first) = self.places[view.tensor.0 as usize];
        View { start: view.start + (first / view.format.bytes()) as usize, ..view }
    }

    /// The view with its start counted in the CPU backend's storage.
    pub fn on_cpu(&self, view: View) -> View {
        let (home, first) = self.places[view.tensor.0 as usize];
        match home {
            Home::Shared(_) => view,
            Home::Slot(slot) => View { start: view.start + (first / self.slots[slot].unit) as usize, ..view },
        }
    }
}

/// The lowest start for a temporary (id, bytes, life) in a buffer of `size` bytes; `None` where there is none.
fn gap(
    tenants: &[Tenant],
    apart: &HashSet<(usize, usize)>,
    (id, bytes, life): (usize, u64, (usize, usize)),
    size: u64,
) -> Option<u64> {
    let mut beside: Vec<&Tenant> =
        tenants.iter().filter(|other| life.0 <= other.life.1 && other.life.0 <= life.1).collect();
    if beside.iter().any(|other| apart.contains(&(id, other.id))) {
        return None;
    }
    beside.sort_unstable_by_key(|other| other.bytes);
    let mut start = 0;
    for other in beside {
        if start + bytes <= other.bytes.0 {
            break;
        }
        start = start.max(other.bytes.1.next_multiple_of(ALIGNMENT));
    }
    (start + bytes <= size).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Graph, Plan};
    use crate::models::deepj::{Config, DeepJ, Preset};
    use crate::models::{Model, PlanOptions, Precision};
    use crate::ops::add::Add;

    fn plans() -> Vec<Plan> {
        let model = DeepJ::new(Config::preset(Preset::Small, 6)).unwrap();
        let all =
            [(Precision::F32, false), (Precision::F32, true), (Precision::Mixed, false), (Precision::Mixed, true)];
        let options = |(precision, recompute)| PlanOptions { precision, recompute, pairs: !recompute };
        all.map(|which| model.training(options(which), 3, 8).unwrap().compile().0).into()
    }

    #[test]
    fn no_two_tensors_have_the_same_memory_at_the_same_time() {
        for plan in plans() {
            let mut lives = vec![None; plan.tensors.len()];
            for (i, node) in plan.nodes.iter().enumerate() {
                for view in &node.operands {
                    let life: &mut Option<(usize, usize, View)> = &mut lives[view.tensor.0 as usize];
                    *life = Some((life.map_or(i, |(first, ..)| first), i, *view));
                }
            }
            let whole = |view: View| View { start: 0, len: plan.tensors[view.tensor.0 as usize].len, ..view };
            let alive: Vec<_> = lives.into_iter().flatten().map(|(from, to, view)| (from, to, whole(view))).collect();
            let mut shared = 0;
            for (i, (from, to, a)) in alive.iter().enumerate() {
                for (other_from, other_to, b) in &alive[..i] {
                    if plan.home(*a) != plan.home(*b) {
                        continue;
                    }
                    shared += 1;
                    if to < other_from || other_to < from {
                        continue;
                    }
                    let bytes = |v: View| {
                        let start = plan.in_buffer(v).start as u64 * v.format.bytes();
                        (start, start + v.len as u64 * v.format.bytes())
                    };
                    let on_cpu = |v: View| {
                        let start = plan.on_cpu(v).start as u64;
                        (start, start + v.len as u64)
                    };
                    for (a, b) in [(bytes(*a), bytes(*b)), (on_cpu(*a), on_cpu(*b))] {
                        assert!(a.1 <= b.0 || b.1 <= a.0, "{a:?} and {b:?}");
                    }
                }
            }
            assert!(shared > 10, "nothing is shared");
        }
    }

    #[test]
    fn what_a_node_reads_is_not_in_the_buffer_that_it_writes() {
        for plan in plans() {
            for node in &plan.nodes {
                let args = node.op.args();
                let homes = |access| {
                    let with = args.iter().zip(&node.operands).filter(move |(arg, _)| arg.access == access);
                    with.map(|(_, view)| plan.home(*view)).collect::<Vec<_>>()
                };
                let written = homes(Access::ReadWrite);
                assert!(homes(Access::Read).iter().all(|home| !written.contains(home)), "{}", node.label());
            }
        }
    }

    #[test]
    fn small_tensors_stand_side_by_side_in_a_large_one_that_is_not_needed_any_more() {
        let mut graph = Graph::without_params();
        let large = graph.temp("large", 1000);
        let [a, b, c] = ["a", "b", "c"].map(|name| graph.temp(name, 300));
        let sum = graph.tensor("sum", 300, Kind::Output);
        let add = |len| Add { len, stored: Format::F32 };
        graph.apply(add(300), &[large.slice(0, 300), sum]);
        [a, b, c].iter().for_each(|&x| graph.apply(add(300), &[sum, x]));
        [a, b, c].iter().for_each(|&x| graph.apply(add(300), &[x, sum]));
        let plan = Plan::compile("test", graph);
        assert_eq!(plan.slots().len(), 2);
        assert_eq!([a, b, c].map(|x| plan.in_buffer(x).start), [0, 320, 640]);
    }
}
