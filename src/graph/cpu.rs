//! Runs a plan on the CPU, in f32 or f64.

use super::builder::Node;
use super::placement::Home;
use super::plan::Plan;
use crate::gpu::{Access, Format};
use crate::ops::aligned::Aligned;
use crate::ops::{self, Args, Real, Uniforms, View};

/// The memory that all programs of a session on the CPU share, by [`Kind::shared`](super::Kind::shared): parameters, gradients,
/// the optimiser's buffers.
pub type Shared<R> = Vec<Aligned<R>>;

/// The shared memory of `plan`, all zero; buffers that it does not touch stay empty.
pub fn shared<R: Real>(plan: &Plan) -> Shared<R> {
    let mut shared = Shared::new();
    grow(&mut shared, plan);
    shared
}

/// Adds the buffers that `plan` is the first to touch.
pub(super) fn grow<R: Real>(shared: &mut Shared<R>, plan: &Plan) {
    for &number in &plan.shared {
        if number >= shared.len() {
            shared.resize_with(number + 1, || Aligned::zeros(0));
        }
        if shared[number].is_empty() {
            shared[number] = Aligned::zeros(plan.layout.len());
        }
    }
}

/// A plan with its buffers in host memory.
#[derive(Debug)]
pub struct CpuProgram<R> {
    plan: Plan,
    slots: Vec<Aligned<R>>,
}

impl<R: Real> CpuProgram<R> {
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
    pub fn get<'a>(&'a self, shared: &'a Shared<R>, view: View) -> &'a [R] {
        let View { start, len, .. } = self.plan.on_cpu(view);
        let storage = match self.plan.home(view) {
            Home::Shared(a) => &shared[a],
            Home::Slot(s) => &self.slots[s],
        };
        &storage[start..][..len]
    }

    /// The elements of a view, to be written.
    pub fn get_mut<'a>(&'a mut self, shared: &'a mut Shared<R>, view: View) -> &'a mut [R] {
        let (home, View { start, len, .. }) = (self.plan.home(view), self.plan.on_cpu(view));
        &mut self.storage(shared, home)[start..][..len]
    }

    fn storage<'a>(&'a mut self, shared: &'a mut Shared<R>, home: Home) -> &'a mut Aligned<R> {
        match home {
            Home::Shared(a) => &mut shared[a],
            Home::Slot(s) => &mut self.slots[s],
        }
    }

    /// Runs all nodes once.
    pub fn run(&mut self, shared: &mut Shared<R>, uniforms: &Uniforms) {
        for i in 0..self.plan.nodes.len() {
            self.run_node(shared, i, uniforms);
        }
    }

    /// Runs the plan `times` times in a row, what is the same in all of them once.
    pub fn repeat(&mut self, shared: &mut Shared<R>, times: u32, uniforms: &Uniforms) {
        self.plan.order(times).for_each(|i| self.run_node(shared, i, uniforms));
    }

    /// Runs node `i`.
    pub fn run_node(&mut self, shared: &mut Shared<R>, i: usize, uniforms: &Uniforms) {
        let Node { op, operands, .. } = &self.plan.nodes[i];
        let (op, operands) = (op.clone(), operands.clone());
        let args = op.args();
        // Storage that the node writes is taken out, so that the rest can be borrowed for reading beside it. The graph
        // has made sure that no node reads and writes one tensor through different operands.
        let mut written: Vec<(Home, usize, View)> = (args.iter().zip(&operands).enumerate())
            .filter(|(_, (arg, _))| arg.access == Access::ReadWrite)
            .map(|(operand, (_, &view))| (self.plan.home(view), operand, self.plan.on_cpu(view)))
            .collect();
        written.sort_by_key(|(home, _, view)| (*home, view.start));
        let mut taken: Vec<(Home, Aligned<R>)> = Vec::new();
        for &(home, ..) in &written {
            if taken.last().is_none_or(|(last, _)| *last != home) {
                taken.push((home, std::mem::take(self.storage(shared, home))));
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
        let reads = reads.map(|(_, &view)| self.get(shared, view)).collect();
        let writes = writes.into_iter().map(|(_, slice)| slice).collect();
        ops::run_on_cpu(op.as_ref(), uniforms, Args { reads, writes });
        // What a GPU stores as f16 is rounded here in the same places.
        for &(home, operand, view) in written.iter().filter(|(_, operand, _)| args[*operand].format == Format::F16) {
            debug_assert_eq!(args[operand].format, view.format);
            if let Some((_, storage)) = taken.iter_mut().find(|(taken, _)| *taken == home) {
                R::round_half(&mut storage[view.start..][..view.len]);
            }
        }
        for (home, storage) in taken {
            *self.storage(shared, home) = storage;
        }
    }

    /// Whether all that node `i` wrote is finite; call after [`CpuProgram::run_node`].
    pub fn finite(&self, shared: &Shared<R>, i: usize) -> bool {
        let finite = |view: &View| self.get(shared, *view).iter().all(|x| x.to_f64().is_finite());
        self.plan.written(i).iter().all(finite)
    }
}
