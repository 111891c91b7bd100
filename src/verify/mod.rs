//! Verification: whether everything works on an adapter, and how fast.

#[path = "../../kernels-tests/mod.rs"]
pub mod kernels;
