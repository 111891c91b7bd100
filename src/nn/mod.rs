//! Layers made of ops. A layer declares its parameters and appends its nodes; what it is, the ops say.

pub mod dense;
pub mod dropout;
pub mod init;
pub mod loss_scale;
pub mod losses;
pub mod lstm;
pub mod octave_conv;
pub mod optimizer;
pub mod style;
