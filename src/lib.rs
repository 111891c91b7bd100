//! DeepJ on wgpu: a hand-written GPU compute engine that trains and runs DeepJ, a model that composes polyphonic
//! piano music in a chosen mixture of composers' styles.
//!
//! Imports go one way: the commands (`train`, `generate`, …) use `models`, which use `nn`, `graph`, `ops`, `gpu`. `music`
//! knows nothing of GPUs. See `docs/ARCHITECTURE.md`.

pub mod benchmark;
pub mod calendar;
pub mod checkpoint;
pub mod classify;
#[path = "../data/mod.rs"]
pub mod data;
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
pub mod profile;
pub mod quality;
pub mod render;
pub mod shape;
mod shuffle;
mod statistics;
pub mod survey;
pub mod train;
#[cfg(not(target_arch = "wasm32"))]
pub mod verify;
mod xml;

pub use error::{Error, Result};
