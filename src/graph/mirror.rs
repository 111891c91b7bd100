//! Runs a plan on the CPU, in f32 or f64.

use super::Node;
use super::placement::Home;
use super::plan::Plan;
use crate::gpu::{Access, Format};
use crate::ops::real::Aligned;
use crate::ops::{self, Args, Real, Step, View};

/// The memory that all programs of a CPU session share: parameters, gradients, moments.
pub type Arenas<R> = [Aligned<R>; 4];

/// Arenas for `plan`, all zero; those it does not touch stay empty.
pub fn arenas<R: Real>(plan: &Plan) -> Arenas<R> {
    plan.arenas.map(|used| Aligned::zeros(if used { plan.params_len } else { 0 }))
}

/// A plan with its buffers in host memory.
#[derive(Debug)]
pub struct Mirror<R> {
    plan: Plan,
    slots: Vec<Aligned<R>>,
}

impl<R: Real> Mirror<R> {
    /// Allocates the buffers, all zero.
    pub fn new(plan: Plan) -> Self {
        let slots = plan.slots().iter().map(|slot| Aligned::zeros(slot.len())).collect();
        Self { plan, slots }
    }

    /// What is run.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The elements of a view.
    pub fn get<'a>(&'a self, arenas: &'a Arenas<R>, view: View) -> &'a [R] {
        let View { start, len, .. } = self.plan.in_mirror(view);
        let storage = match self.plan.home(view) {
            Home::Arena(a) => &arenas[a],
            Home::Slot(s) => &self.slots[s],
        };
        &storage[start..][..len]
    }

    /// The elements of a view, to be written.
    pub fn get_mut<'a>(&'a mut self, arenas: &'a mut Arenas<R>, view: View) -> &'a mut [R] {
        let (home, View { start, len, .. }) = (self.plan.home(view), self.plan.in_mirror(view));
        &mut self.storage(arenas, home)[start..][..len]
    }

    fn storage<'a>(&'a mut self, arenas: &'a mut Arenas<R>, home: Home) -> &'a mut Aligned<R> {
        match home {
            Home::Arena(a) => &mut arenas[a],
            Home::Slot(s) => &mut self.slots[s],
        }
    }

    /// Runs all nodes once.
    pub fn run(&mut self, arenas: &mut Arenas<R>, step: &Step) {
        for i in 0..self.plan.nodes.len() {
            self.run_node(arenas, i, step);
        }
    }

    /// Runs the plan `times` times in a row, what is the same in all of them once.
    pub fn repeat(&mut self, arenas: &mut Arenas<R>, times: u32, step: &Step) {
        self.plan.order(times).for_each(|i| self.run_node(arenas, i, step));
    }

    /// Runs node `i`.
    pub fn run_node(&mut self, arenas: &mut Arenas<R>, i: usize, step: &Step) {
        let Node { op, operands, .. } = &self.plan.nodes[i];
        let (op, operands) = (op.clone(), operands.clone());
        let args = op.args();
        // Storage that the node writes is taken out, so that the rest can be borrowed for reading beside it. The graph
        // has made sure that no node reads and writes one tensor through different operands.
        let mut written: Vec<(Home, usize, View)> = (args.iter().zip(&operands).enumerate())
            .filter(|(_, (arg, _))| arg.access == Access::ReadWrite)
            .map(|(operand, (_, &view))| (self.plan.home(view), operand, self.plan.in_mirror(view)))
            .collect();
        written.sort_by_key(|(home, _, view)| (*home, view.start));
        let mut taken: Vec<(Home, Aligned<R>)> = Vec::new();
        for &(home, ..) in &written {
            if taken.last().is_none_or(|(last, _)| *last != home) {
                taken.push((home, std::mem::take(self.storage(arenas, home))));
            }
        }
        let mut writes: Vec<(usize, &mut [R])> = Vec::new();
        for (home, storage) in &mut taken {
            let mut rest = &mut storage[..];
            let mut passed = 0;
            for &(_, operand, view) in written.iter().filter(|(h, ..)| h == home) {
                let (slice, tail) = rest[view.start - passed..].split_at_mut(view.len);
                writes.push((operand, slice));
                (rest, passed) = (tail, view.start + view.len);
            }
        }
        writes.sort_by_key(|(operand, _)| *operand);
        let reads = args.iter().zip(&operands).filter(|(arg, _)| arg.access == Access::Read);
        let reads = reads.map(|(_, &view)| self.get(arenas, view)).collect();
        let writes = writes.into_iter().map(|(_, slice)| slice).collect();
        ops::mirror(op.as_ref(), step, Args { reads, writes });
        // What a GPU stores as f16 is rounded here in the same places.
        for &(home, operand, view) in written.iter().filter(|(_, operand, _)| args[*operand].format == Format::F16) {
            debug_assert_eq!(args[operand].format, view.format);
            if let Some((_, storage)) = taken.iter_mut().find(|(taken, _)| *taken == home) {
                R::round_half(&mut storage[view.start..][..view.len]);
            }
        }
        for (home, storage) in taken {
            *self.storage(arenas, home) = storage;
        }
    }

    /// Whether all that node `i` wrote is finite; call after [`Mirror::run_node`].
    pub fn finite(&self, arenas: &Arenas<R>, i: usize) -> bool {
        let finite = |view: &View| self.get(arenas, *view).iter().all(|x| x.to_f64().is_finite());
        self.plan.written(i).iter().all(finite)
    }
}
