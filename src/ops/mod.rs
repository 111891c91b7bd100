//! Operations, one file per op, same name as its shader.

pub mod random;
