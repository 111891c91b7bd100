//! The part of the tests that is for the time between two edits: `DEEPJ_QUICK=1`, see `docs/TESTING.md`.

use std::fmt;
use std::sync::Arc;

use deepj::verify::kernels::harness::adapters::Adapter;

/// All that needs no adapter, and on one adapter the cases that tell most.
pub struct Quick {
    /// The adapter that runs kernels, if there is one.
    pub adapter: Option<Arc<Adapter>>,
}

impl Quick {
    /// What the user asks for: `1` for the machine's first adapter, or a part of the name of another.
    ///
    /// # Errors
    /// A name that no adapter has.
    pub fn asked(adapters: &[Arc<Adapter>]) -> Result<Option<Self>, String> {
        let asked = std::env::var("DEEPJ_QUICK").unwrap_or_default().to_lowercase();
        let adapter = match asked.trim() {
            "" | "0" => return Ok(None),
            "1" => adapters.first(),
            name => {
                let named = adapters.iter().find(|adapter| adapter.name.contains(name));
                let names = || adapters.iter().map(|adapter| adapter.name.as_str()).collect::<Vec<_>>().join(", ");
                Some(named.ok_or_else(|| format!("DEEPJ_QUICK names no adapter by `{name}`; here are: {}", names()))?)
            }
        };
        Ok(Some(Self { adapter: adapter.cloned() }))
    }
}

impl fmt::Display for Quick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on = self.adapter.as_ref().map_or("no adapter", |adapter| &adapter.name);
        write!(f, "DEEPJ_QUICK: the largest case of each kind on {on}, not all cases on all adapters")
    }
}
