//! What the tests of all ops share.

pub mod adapters;
pub mod bounded;
pub mod case;
pub mod comparison;
pub mod gradient;
pub mod kernel;
mod matrices;
pub mod operands;
pub mod report;

pub use bounded::Bounded;
pub use case::{Case, Fill};
pub use gradient::{Builder, Gradient};
pub use operands::Operands;
