//! How a device is opened.

/// Whether shaders are compiled with wgpu's run-time checks (array bounds, loop bounds, integer division).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checks {
    /// For tests: a shader that reads or writes out of bounds does no harm.
    Checked,
    /// For use: the shaders are our own and tested, and the checks cost time.
    #[default]
    Trusted,
}

/// Which limits and features a device is opened with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Limits {
    /// All that the adapter has.
    #[default]
    Adapter,
    /// WebGPU's defaults (or less, where the adapter has less) and no optional feature, to test portable variants.
    WebGpuDefaults,
}

/// How to open a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    pub checks: Checks,
    pub limits: Limits,
}
