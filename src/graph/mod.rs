//! A model as a list of nodes: written once as forward calls ([`Graph`]), extended by the backward pass (`backward.rs`),
//! compiled to a [`Plan`], run by a [`Session`] on a GPU or on the CPU.

mod backend;
mod backward;
mod builder;
pub mod cpu;
mod explain;
mod layout;
mod placement;
pub mod plan;
mod remembered;
mod selection;
pub mod session;
mod timeline;
mod tuner;

pub use builder::{Exposed, Graph, Kind, Node, RowOrder, Tensor};
pub use cpu::CpuProgram;
pub use explain::explain;
pub use layout::{Init, Layout, Param};
pub use placement::{Home, Slot};
pub use plan::Plan;
pub use session::{ProgramId, Session};
pub(crate) use tuner::Rivals;
pub use tuner::{Bench, KnownKernels, Times, candidates, known_kernels};
