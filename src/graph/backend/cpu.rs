//! Plans on the CPU, in f32. A run is over when it returns.

use std::ops::Range;
use std::time::Duration;

use web_time::Instant;

use super::{Backend, Pending, Task};
use crate::error::Result;
use crate::gpu::Clock;
use crate::graph::Plan;
use crate::graph::cpu::{self, CpuProgram, Shared};
use crate::graph::selection::KernelSelection;
use crate::graph::timeline::{Span, Timeline};
use crate::ops::{Uniforms, View};

/// Programs in host memory.
#[derive(Default)]
pub(in crate::graph) struct Cpu {
    shared: Shared<f32>,
    programs: Vec<CpuProgram<f32>>,
}

impl Backend for Cpu {
    fn add<'a>(&'a mut self, plan: Plan, _selection: &'a KernelSelection) -> Task<'a, ()> {
        cpu::grow(&mut self.shared, &plan);
        self.programs.push(CpuProgram::new(plan));
        Box::pin(async { Ok(()) })
    }

    fn plan(&self, program: usize) -> &Plan {
        self.programs[program].plan()
    }

    fn write(&mut self, program: usize, view: View, data: &[f32]) -> Result<()> {
        self.programs[program].get_mut(&mut self.shared, view).copy_from_slice(data);
        Ok(())
    }

    fn begin_read<'a>(&'a self, views: &'a [(usize, View)]) -> Task<'a, Pending> {
        let read = |&(program, view): &(usize, View)| self.programs[program].get(&self.shared, view).to_vec();
        let values = views.iter().map(read).collect();
        Box::pin(async { Ok(Pending::Ready(values)) })
    }

    fn finish_read(&self, pending: Pending) -> Task<'_, Vec<Vec<f32>>> {
        Box::pin(async {
            match pending {
                Pending::Ready(values) => Ok(values),
                Pending::Gpu(_) => unreachable!("reads of the CPU are ready at once"),
            }
        })
    }

    fn run(&mut self, runs: &[(usize, u32)], uniforms: &Uniforms) -> Result<()> {
        let Self { shared, programs } = self;
        // From a thread of the pool, nodes start their parallel parts without waking it first.
        rayon::scope(|_| runs.iter().for_each(|&(program, times)| programs[program].repeat(shared, times, uniforms)));
        Ok(())
    }

    fn run_nodes(&mut self, program: usize, nodes: Range<usize>, uniforms: &Uniforms) -> Result<()> {
        let Self { shared, programs } = self;
        rayon::scope(|_| nodes.for_each(|node| programs[program].run_node(shared, node, uniforms)));
        Ok(())
    }

    fn timeline<'a>(
        &'a mut self,
        (program, times): (usize, u32),
        uniforms: &'a Uniforms,
        _: Option<Clock>,
    ) -> Task<'a, Timeline> {
        let Self { shared, programs } = self;
        let program = &mut programs[program];
        let timed = rayon::scope(|_| {
            let began = Instant::now();
            let mut spans = vec![];
            for node in program.plan().order(times) {
                let start = began.elapsed().as_nanos() as u64;
                program.run_node(shared, node, uniforms);
                spans.push(Span { node, start, end: began.elapsed().as_nanos() as u64, encoding: Duration::ZERO });
            }
            Timeline { clock: None, spans, submitting: Duration::ZERO, wall: began.elapsed() }
        });
        Box::pin(async { Ok(timed) })
    }

    fn first_non_finite<'a>(&'a mut self, program: usize, uniforms: &'a Uniforms) -> Task<'a, Option<String>> {
        let Self { shared, programs } = self;
        let program = &mut programs[program];
        let found = (0..program.plan().nodes.len()).find(|&node| {
            program.run_node(shared, node, uniforms);
            !program.finite(shared, node)
        });
        let name = found.map(|node| program.plan().nodes[node].label());
        Box::pin(async { Ok(name) })
    }
}
