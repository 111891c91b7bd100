//! Which variants of a kernel come first where none was measured: the first that fits an adapter runs, and tuning measures from
//! there. All of it stands here, by family of adapter, with what it rests on: timings of software adapters (docs/REJECTED.md), and for
//! hardware what real compilers make of the kernels (docs/ISA.md).
//!
//! Where hardware has one order for all families, their compilers agree: what comes first neither spills nor uses scratch on any of
//! the chips of docs/ISA.md, and waits for memory least. A family that differs gets an arm of its own.

use crate::gpu::{Capabilities, DeviceType};

/// Compute units of a large GPU, a Radeon RX 6800 XT: with fewer workgroups some have none.
pub const COMPUTE_UNITS: usize = 72;

/// Adapters whose compilers and memory are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Drivers that run on the CPU: an invocation is a SIMD lane, workgroup memory is memory like any other, and loads cost most.
    Software,
    /// GCN and RDNA.
    Amd,
    /// Xe.
    Intel,
    /// Turing and later.
    Nvidia,
    /// M1 and later.
    Apple,
    /// Adreno, Mali, PowerVR, VideoCore.
    Mobile,
    /// What is not known.
    Other,
}

impl Family {
    /// The family of an adapter: by its kind, its vendor's PCI identifier, or Metal, which tells none.
    pub fn of(capabilities: &Capabilities) -> Self {
        match (capabilities.device_type, capabilities.vendor) {
            (DeviceType::Software, _) => Self::Software,
            (_, 0x1002 | 0x1022) => Self::Amd,
            (_, 0x8086) => Self::Intel,
            (_, 0x10de) => Self::Nvidia,
            (_, 0x106b) => Self::Apple,
            (_, 0x5143 | 0x13b5 | 0x1010 | 0x14e4) => Self::Mobile,
            (_, 0) if capabilities.backend == "metal" => Self::Apple,
            _ => Self::Other,
        }
    }
}

/// Products. `direct` has the fewest loads. On hardware `vector` has the shortest code and waits least: 79 to 86 % of an RX 6800 XT's
/// peak by the static model; of a small product, `tiled` makes more workgroups.
pub fn products(family: Family, is_small: bool) -> Vec<&'static str> {
    match (family, is_small) {
        (Family::Software, _) => vec!["direct", "register", "vector", "tiled", "naive"],
        (_, false) => vec!["vector", "register", "direct", "tiled", "naive"],
        (_, true) => vec!["tiled", "vector", "register", "direct", "naive"],
    }
}

/// Where `subgroup` stands among so many other variants of a product: second in software, since it is the fastest on one of these
/// adapters; last on hardware, where it spills on Intel and M1.
pub fn place_of_subgroup(family: Family, others: usize) -> usize {
    if family == Family::Software { 1 } else { others }
}

/// Where `split`, which cuts a long sum, stands among so many others: in software a slice more is only more to add up; on hardware
/// tiles alone would leave most of a GPU idle.
pub fn place_of_split(family: Family, others: usize) -> usize {
    if family == Family::Software { others } else { 0 }
}

/// Kinds of kernels that make a step of an LSTM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LstmKernels {
    /// Without workgroup memory.
    Block,
    /// Tiles.
    Tiled,
    /// Tiles in parts, read ahead by vectors.
    Split,
}

/// LSTM steps. `block` holds arrays with an index that compilers do not know: in registers in software, where it is the fastest, but in
/// scratch memory on every GPU. On RDNA 2 `split` has 88 % multiply-adds forward and 80 to 89 % backward, `step` 78 and 52 %.
pub fn lstm_steps(family: Family) -> [LstmKernels; 3] {
    use LstmKernels::{Block, Split, Tiled};
    match family {
        Family::Software => [Block, Tiled, Split],
        _ => [Split, Tiled, Block],
    }
}

/// Whether two LSTM layers run beside each other where nobody measured whether that pays: half as many dispatches, each of which costs microseconds on hardware and nothing
/// worth saving in software.
pub fn pairs(family: Family) -> bool {
    family != Family::Software
}

/// The weight gradient of the octave convolution, by filters of a workgroup: fewer make more workgroups, of which a large GPU has too
/// few else.
pub fn octave_weight_grad(family: Family) -> Vec<&'static str> {
    match family {
        Family::Software => vec!["filters_8", "filters_4"],
        _ => vec!["filters_4", "filters_8"],
    }
}

/// Heads. A load that differs by invocation is a loop over the SIMD lanes in software, so there the kernel without workgroup memory,
/// which reads less, comes first.
pub fn heads(family: Family) -> Vec<&'static str> {
    match family {
        Family::Software => vec!["naive", "workgroup"],
        _ => vec!["workgroup", "naive"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapters_are_known_by_vendor_and_kind() {
        let of = |device_type, vendor, backend: &str| {
            Family::of(&Capabilities { device_type, vendor, backend: backend.into(), ..Capabilities::portable() })
        };
        let discrete = DeviceType::Discrete;
        assert_eq!(of(discrete, 0x1002, "vulkan"), Family::Amd);
        assert_eq!(of(DeviceType::Integrated, 0x8086, "dx12"), Family::Intel);
        assert_eq!(of(discrete, 0x10de, "vulkan"), Family::Nvidia);
        assert_eq!(of(DeviceType::Integrated, 0, "metal"), Family::Apple);
        assert_eq!(of(DeviceType::Integrated, 0x5143, "vulkan"), Family::Mobile);
        assert_eq!(of(discrete, 0x1234, "vulkan"), Family::Other);
        assert_eq!(of(DeviceType::Software, 0x10005, "vulkan"), Family::Software);
    }
}
