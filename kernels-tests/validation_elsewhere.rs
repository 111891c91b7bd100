//! The validation layer is run on Linux alone.

/// Never there.
pub enum Layer {}

impl Layer {
    /// Starts nothing.
    ///
    /// # Errors
    /// The layer is asked for.
    pub fn start() -> Result<Option<Self>, String> {
        match std::env::var_os("DEEPJ_VALIDATION") {
            Some(value) if !value.is_empty() && value != "0" => Err("DEEPJ_VALIDATION is for Linux".into()),
            _ => Ok(None),
        }
    }

    /// See `validation.rs`.
    pub fn self_test(&self) -> Vec<(String, Result<(), String>)> {
        match *self {}
    }

    /// See `validation.rs`.
    pub fn watch<T>(&self, _run: impl FnOnce() -> T) -> (T, Result<(), String>) {
        match *self {}
    }

    /// See `validation.rs`.
    pub fn finish(&self, _whole: bool, _close: impl FnOnce()) -> bool {
        match *self {}
    }
}
