//! Failures that are known and not ours: drivers' defects, by adapter, each with its reason and a link. A case in this table
//! that passes makes the run fail, so that the table stays true.

/// One known failure.
#[derive(Debug)]
pub struct Known {
    /// Part of the adapter's name as tests print it, such as `swiftshader`.
    pub adapter: &'static str,
    /// Part of the case's name without the adapter, such as `gemm/NT` or `lstm/forward T=1`.
    pub case: &'static str,
    /// Why it fails.
    pub reason: &'static str,
    /// Where it is reported.
    pub link: &'static str,
}

/// All of them.
pub const KNOWN: &[Known] = &[];

/// The entry for a case on an adapter.
pub fn find(case: &str, adapter: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| case.contains(known.case) && adapter.contains(known.adapter))
}
