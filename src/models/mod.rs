//! Models: configuration and wiring, readable beside the paper's figure.

pub mod deepj;
