//! DeepJ on wgpu: a hand-written GPU compute engine that trains and runs DeepJ, a model that composes polyphonic
//! piano music in a chosen mixture of composers' styles.
//!
//! # A model of your own
//!
//! The engine below the model is of use without it. A model declares parameters in a [`Layout`](graph::Layout) and is written once,
//! as calls that append ops to a [`Graph`](graph::Graph), which appends its own backward pass. A [`Session`](graph::Session) runs
//! it on any GPU that Vulkan, Metal or Direct3D 12 reaches, or on the CPU. Here a dense layer with tanh and one without learn the
//! exclusive or; `examples/char_lstm.rs` is an LSTM that learns to write.
//!
//! ```
//! use std::sync::Arc;
//! use deepj::prelude::*;
//!
//! # fn main() -> deepj::Result<()> {
//! // Parameters: two layers.
//! let mut layout = Layout::new();
//! let hidden = Dense::new(&mut layout, "hidden", 2, 8);
//! let output = Dense::new(&mut layout, "output", 8, 1);
//! let layout = Arc::new(layout);
//!
//! // Forward: four rows of two numbers, to four of one. Backward: from the error, which is the gradient of half its square.
//! let mut graph = Graph::new(layout.clone());
//! let x = graph.tensor("x", 4 * 2, Kind::Input);
//! let error = graph.tensor("error", 4, Kind::Input);
//! let h = hidden.forward(&mut graph, x, 4, Activation::Tanh);
//! let y = output.forward(&mut graph, h, 4, Activation::Identity);
//! let out = graph.tensor("out", 4, Kind::Output);
//! graph.apply(Cast { len: 4, from: Format::F32, to: Format::F32 }, &[y, out]);
//! graph.backward(y, error)?;
//!
//! // The update is a plan of its own on the same buffers.
//! let nadam = optimizer::make("nadam", json!({ "lr": 0.02 }))?;
//! let (update, _) = optimizer::plan(nadam.as_ref(), None, &layout);
//!
//! let device = open_blocking(&DeviceChoice::Cpu, OpenOptions::default())?; // DeviceChoice::Auto takes a GPU
//! let mut session = Session::new(device, KernelSelection::default());
//! let programs = session.add_all_blocking(vec![Plan::compile("xor", graph), update])?;
//! let (model, update) = (programs[0], programs[1]);
//! session.write(model, session.plan(model).buffer(Kind::Params), &initialise(&layout, 1))?;
//! session.write(model, x, &[0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0])?;
//!
//! let (wanted, mut schedule, mut found) = ([0.0, 1.0, 1.0, 0.0], Schedule::default(), vec![0.0; 4]);
//! for _ in 0..300 {
//!     session.write(model, error, &found.iter().zip(wanted).map(|(y, w)| y - w).collect::<Vec<f32>>())?;
//!     let mut uniforms = Uniforms::default();
//!     nadam.advance(&mut schedule, &mut uniforms);
//!     session.run_all(&[model, update], &uniforms)?;
//!     found = session.read_blocking(model, &[out])?.remove(0);
//! }
//! assert!(found.iter().zip(wanted).all(|(y, w)| (y - w).abs() < 0.1), "{found:?}");
//! # Ok(())
//! # }
//! ```
//!
//! [`prelude`] has what that takes. An op of one's own, with gradient and kernels, is an `impl` of [`ops::Op`]; `docs/NEW-OP.md` leads
//! through one. A network that the commands train, evaluate and save is an `impl` of [`models::network::Network`].
//!
//! # The modules
//!
//! Imports go one way: the commands (`train`, `generate`, …) use `models`, which use `nn`, `graph`, `ops`, `gpu`. `music`
//! knows nothing of GPUs. See `docs/ARCHITECTURE.md`.

pub mod benchmark;
pub mod calendar;
mod charts;
pub mod checkpoint;
pub mod classify;
#[cfg(not(target_arch = "wasm32"))]
#[path = "../data/mod.rs"]
pub mod data;
pub mod distributed;
mod eigen;
pub mod embedding;
pub mod error;
pub mod evaluate;
#[cfg(not(target_arch = "wasm32"))]
pub mod experiment;
pub mod files;
pub mod generate;
pub mod gpu;
pub mod graph;
mod memory;
pub mod models;
pub mod music;
pub mod nn;
pub mod ops;
pub mod peaks;
#[cfg(not(target_arch = "wasm32"))]
pub mod play;
pub mod profile;
pub mod quality;
pub mod render;
#[cfg(not(target_arch = "wasm32"))]
pub mod scale;
pub mod shape;
mod shuffle;
mod statistics;
#[cfg(all(feature = "studio", not(target_arch = "wasm32")))]
pub mod studio;
pub mod survey;
pub mod train;
pub mod verify;
mod xml;

pub use error::{Error, Result};

/// What a model of one's own takes, in one place.
pub mod prelude {
    #[cfg(not(target_arch = "wasm32"))]
    pub use crate::gpu::open_blocking;
    pub use crate::gpu::{Device, DeviceChoice, Format, OpenOptions, adapters, open};
    pub use crate::graph::session::KernelSelection;
    pub use crate::graph::{Graph, Kind, Layout, Plan, ProgramId, Session};
    pub use crate::nn::dense::Dense;
    pub use crate::nn::dropout::dropped;
    pub use crate::nn::init::initialise;
    pub use crate::nn::lstm::{LstmLayer, Rows, State};
    pub use crate::nn::optimizer::{self, Schedule};
    pub use crate::ops::cast::Cast;
    pub use crate::ops::dropout::DropoutSite;
    pub use crate::ops::gemm::{Activation, Gemm};
    pub use crate::ops::reduce::SumRows;
    pub use crate::ops::softmax_loss::SoftmaxLoss;
    pub use crate::ops::{Op, Uniforms, View};
    pub use crate::{Error, Result};
    /// What settings of an optimiser are written with.
    pub use serde_json::json;
}
