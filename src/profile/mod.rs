//! Where the time of a step goes: kernel by kernel, with what each costs and what the device could do at most.

mod report;

pub use report::{Bound, Clock, FORMAT, Gap, Header, Kernel, Profile, Record, Span, Summary, Track, VERSION};
