//! Where plans run: one device, one set of shared buffers, any number of programs on them.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::backend::{Backend, Cpu, OnGpu, Pending};
use super::layout::Layout;
use super::plan::Plan;
use crate::error::{Error, Result};
use crate::gpu::{self, Capabilities, Device, Facts};
use crate::ops::{Uniforms, View};

pub use super::selection::{Chosen, Event, KernelSelection, Observer, Origin, Tune, Tuned};
pub use super::timeline::{Span, Timeline};

/// Which program of a session.
///
/// # Examples
///
/// ```
/// # fn main() -> deepj::Result<()> {
/// use deepj::prelude::*;
///
/// let mut session = Session::new(Device::Cpu { why: String::new() }, KernelSelection::default());
/// let plan = Plan::compile("nothing yet", Graph::without_params());
/// let program: ProgramId = session.add_all_blocking(vec![plan])?[0];
/// assert_eq!(session.plan(program).name, "nothing yet");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProgramId(usize);

/// Values that were asked for and may still be computed; see [`Session::begin_read`]. To drop it is to forget them.
pub struct Reading(Pending);

/// A device with the parameters of one model and the programs that use them.
///
/// All programs must come from models that declare the same parameters, so that they agree on the layout of shared buffers.
///
/// # Examples
///
/// ```
/// # fn main() -> deepj::Result<()> {
/// use deepj::prelude::*;
///
/// // A state is kept from run to run: here it is copied to the output and grows by what is put in.
/// let mut graph = Graph::without_params();
/// let (x, state) = (graph.tensor("x", 2, Kind::Input), graph.tensor("state", 2, Kind::State));
/// graph.apply(deepj::ops::add::Add { len: 2, stored: Format::F32 }, &[x, state]);
///
/// let mut session = Session::new(Device::Cpu { why: String::new() }, KernelSelection::default());
/// let program = session.add_all_blocking(vec![Plan::compile("sums", graph)])?[0];
/// session.write(program, x, &[1.0, 0.5])?;
/// session.run(program, 3, &Uniforms::default())?; // three times in a row, on a GPU in one submission
/// assert_eq!(session.read_blocking(program, &[state])?, [[3.0, 1.5]]);
/// # Ok(())
/// # }
/// ```
pub struct Session {
    backend: Box<dyn Backend>,
    selection: KernelSelection,
    layout: Option<Arc<Layout>>,
    programs: usize,
}

impl Session {
    /// A session on this device, without programs.
    pub fn new(device: Device, selection: KernelSelection) -> Self {
        let backend: Box<dyn Backend> = match device {
            Device::Cpu { .. } => Box::new(Cpu::default()),
            Device::Gpu(gpu) => Box::new(OnGpu::new(gpu, &selection)),
        };
        Self { backend, selection, layout: None, programs: 0 }
    }

    /// The GPU's capabilities, or `None` on the CPU.
    pub fn capabilities(&self) -> Option<&Capabilities> {
        self.backend.capabilities()
    }

    /// Bytes of the scratch memory that the programs' kernels share, beside what the plans say.
    pub fn scratch_bytes(&self) -> u64 {
        self.backend.scratch_bytes()
    }

    /// Adds programs that belong together: each kernel that the user has overridden must be one of theirs. Chooses the kernels,
    /// which may take seconds of measuring (see [`KernelSelection`]), and allocates the programs' buffers and those shared ones that
    /// they are the first to touch.
    ///
    /// # Errors
    /// An override that no kernel of these plans fits; parameters laid out otherwise than in earlier programs; a buffer
    /// over the adapter's limit or out of memory; a kernel that the driver refuses.
    pub async fn add_all(&mut self, plans: Vec<Plan>) -> Result<Vec<ProgramId>> {
        self.selection.check(&plans.iter().collect::<Vec<_>>(), self.backend.capabilities())?;
        let mut programs = vec![];
        for plan in plans {
            programs.push(self.add_unchecked(plan).await?);
        }
        Ok(programs)
    }

    /// As [`Session::add_all`], for callers that are not async.
    ///
    /// # Errors
    /// The same.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn add_all_blocking(&mut self, plans: Vec<Plan>) -> Result<Vec<ProgramId>> {
        pollster::block_on(self.add_all(plans))
    }

    /// As [`Session::read`], for callers that are not async.
    ///
    /// # Errors
    /// The same.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn read_blocking(&self, id: ProgramId, views: &[View]) -> Result<Vec<Vec<f32>>> {
        pollster::block_on(self.read(id, views))
    }

    /// Adds one program.
    ///
    /// # Errors
    /// As [`Session::add_all`].
    pub async fn add(&mut self, plan: Plan) -> Result<ProgramId> {
        self.selection.check(&[&plan], self.backend.capabilities())?;
        self.add_unchecked(plan).await
    }

    async fn add_unchecked(&mut self, plan: Plan) -> Result<ProgramId> {
        if **self.layout.get_or_insert_with(|| plan.layout.clone()) != *plan.layout {
            let what = format!("the plan `{}` has other parameters than the session's first", plan.name);
            return Err(Error::model(what, "build all plans of a session from one configuration"));
        }
        self.backend.add(plan, &self.selection).await?;
        self.programs += 1;
        Ok(ProgramId(self.programs - 1))
    }

    /// The plan of a program.
    pub fn plan(&self, id: ProgramId) -> &Plan {
        self.backend.plan(id.0)
    }

    /// The kernel that each node of a program runs; empty on the CPU.
    pub fn chosen(&self, id: ProgramId) -> &[Chosen] {
        self.backend.chosen(id.0)
    }

    /// Dispatches of one run of a program; 0 on the CPU.
    pub fn dispatches(&self, id: ProgramId) -> usize {
        self.backend.dispatches(id.0)
    }

    /// Writes a view, which takes effect before the next run.
    ///
    /// # Errors
    /// A lost device; `data` of another length than the view's.
    pub fn write(&mut self, id: ProgramId, view: View, data: &[f32]) -> Result<()> {
        if view.len != data.len() {
            let what =
                format!("{} numbers for a view of {} in the plan `{}`", data.len(), view.len, self.plan(id).name);
            return Err(Error::model(what, "write as many as the view has"));
        }
        self.backend.write(id.0, view, data)
    }

    /// Waits for what was submitted and reads views, all in one copy.
    ///
    /// # Errors
    /// A lost device, or what went wrong in runs submitted before.
    pub async fn read(&self, id: ProgramId, views: &[View]) -> Result<Vec<Vec<f32>>> {
        let views: Vec<_> = views.iter().map(|&view| (id, view)).collect();
        let reading = self.begin_read(&views).await?;
        self.finish_read(reading).await
    }

    /// Asks for views of any programs, all in one copy, as what was submitted before leaves them. The device goes on
    /// meanwhile, and later runs change nothing of what is read.
    ///
    /// # Errors
    /// A lost device, or what went wrong in runs submitted before.
    pub async fn begin_read(&self, views: &[(ProgramId, View)]) -> Result<Reading> {
        let views: Vec<_> = views.iter().map(|&(id, view)| (id.0, view)).collect();
        self.backend.begin_read(&views).await.map(Reading)
    }

    /// Waits for what [`Session::begin_read`] asked for.
    ///
    /// # Errors
    /// As there.
    pub async fn finish_read(&self, reading: Reading) -> Result<Vec<Vec<f32>>> {
        self.backend.finish_read(reading.0).await
    }

    /// Runs the program `times` times in a row, on a GPU in one submission; what is the same in all of them runs once.
    ///
    /// # Errors
    /// A lost device.
    pub fn run(&mut self, id: ProgramId, times: u32, uniforms: &Uniforms) -> Result<()> {
        self.backend.run(&[(id.0, times)], uniforms)
    }

    /// Runs programs once each, one after the other, on a GPU in one submission.
    ///
    /// # Errors
    /// A lost device.
    pub fn run_all(&mut self, ids: &[ProgramId], uniforms: &Uniforms) -> Result<()> {
        self.backend.run(&ids.iter().map(|id| (id.0, 1)).collect::<Vec<_>>(), uniforms)
    }

    /// Runs some of a program's nodes once: to look at what they have made while the others run.
    ///
    /// # Errors
    /// A lost device.
    pub fn run_nodes(&mut self, id: ProgramId, nodes: Range<usize>, uniforms: &Uniforms) -> Result<()> {
        self.backend.run_nodes(id.0, nodes, uniforms)
    }

    /// Does ahead what it can of the next [`Session::run`] of as many `times`; after a run, the GPU works meanwhile.
    ///
    /// # Errors
    /// A lost device.
    pub fn prepare(&self, id: ProgramId, times: u32) -> Result<()> {
        self.backend.prepare(id.0, times)
    }

    /// Runs the program `times` times in a row and tells when each part of each node ran, by this clock or by the best that
    /// the device has; see [`Gpu::timeline`](gpu::Gpu::timeline).
    ///
    /// # Errors
    /// A lost device; timestamps that are asked for and of no use.
    pub async fn timeline(
        &mut self,
        id: ProgramId,
        times: u32,
        uniforms: &Uniforms,
        clock: Option<gpu::Clock>,
    ) -> Result<Timeline> {
        self.backend.timeline((id.0, times), uniforms, clock).await
    }

    /// From a submission of nothing to its end; zero on the CPU.
    ///
    /// # Errors
    /// A lost device.
    pub async fn latency(&self) -> Result<Duration> {
        self.backend.latency().await
    }

    /// What is known of the dispatches of a program's node, those with empty grids left out; none on the CPU.
    pub fn facts(&self, id: ProgramId, node: usize) -> Vec<Facts> {
        self.backend.facts(id.0, node)
    }

    /// Runs the program once, node by node, and names the first node that writes a value that is not finite.
    ///
    /// # Errors
    /// A lost device.
    pub async fn first_non_finite(&mut self, id: ProgramId, uniforms: &Uniforms) -> Result<Option<String>> {
        self.backend.first_non_finite(id.0, uniforms).await
    }

    /// Waits until everything submitted has run.
    ///
    /// # Errors
    /// A lost device, or what went wrong in runs submitted before.
    pub async fn wait(&self) -> Result<()> {
        self.backend.wait().await
    }
}
