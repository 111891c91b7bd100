//! Faults that the driver reports: over what was asked of it, or later, outside of any call.

use std::future::Future;
use std::sync::Arc;
#[cfg(target_arch = "wasm32")]
use std::task::Waker;

use parking_lot::Mutex;

use crate::error::Kind;
use crate::{Error, Result};

/// The faults of one device.
pub(super) struct Faults {
    device: wgpu::Device,
    reported: Arc<Reported>,
}

/// What the driver reported outside of any call.
#[derive(Default)]
struct Reported {
    lost: Mutex<Option<Fault>>,
    uncaptured: Mutex<Option<Fault>>,
    /// Who waits for callbacks, which a lost device need not make. Natively they look by themselves.
    #[cfg(target_arch = "wasm32")]
    waiting: Mutex<Vec<Waker>>,
}

impl Reported {
    fn lose(&self, fault: Fault) {
        self.lost.lock().get_or_insert(fault);
        #[cfg(target_arch = "wasm32")]
        std::mem::take(&mut *self.waiting.lock()).into_iter().for_each(Waker::wake);
    }
}

const LOST: &str =
    "the driver gave up, was updated, or the device was removed; start again, with a smaller batch if it recurs";
#[cfg(not(target_arch = "wasm32"))]
pub(super) const HUNG: &str = "start again with a smaller batch or on another --device, and update the driver if it recurs; a GPU that \
                    stays hung works again after a restart of the machine";
/// Software does not hang, but it may be slow beyond patience.
#[cfg(not(target_arch = "wasm32"))]
pub(super) const SLOW: &str = "this adapter computes in software; use a smaller batch or --device cpu, which is faster";

/// An error of the driver, in words for the user.
struct Fault {
    kind: Kind,
    what: String,
    remedy: &'static str,
}

impl Faults {
    /// Listens to what the driver reports of `device` from now on.
    pub fn of(device: &wgpu::Device) -> Self {
        let reported = Arc::new(Reported::default());
        let listening = reported.clone();
        device.set_device_lost_callback(move |reason, message| {
            let what = format!("the device is lost ({})", format!("{reason:?} {message}").trim());
            listening.lose(Fault { kind: Kind::Device, what, remedy: LOST });
        });
        let listening = reported.clone();
        device.on_uncaptured_error(Arc::new(move |error| {
            listening.uncaptured.lock().get_or_insert(Fault::of(&error));
        }));
        Self { device: device.clone(), reported }
    }

    /// Does `work` on the device and returns what it made; `asked` says what was asked for.
    ///
    /// # Errors
    /// What the driver reports over `work`, or reported since the last call.
    pub fn scoped<T>(&self, asked: impl Fn() -> String, work: impl FnOnce() -> T) -> impl Future<Output = Result<T>> {
        self.scoped_as(Kind::Device, asked, work)
    }

    /// As [`Faults::scoped`]; a failure of the device that is over `work` is of this kind.
    ///
    /// # Errors
    /// As [`Faults::scoped`].
    pub fn scoped_as<T>(
        &self,
        kind: Kind,
        asked: impl Fn() -> String,
        work: impl FnOnce() -> T,
    ) -> impl Future<Output = Result<T>> {
        use wgpu::ErrorFilter::{Internal, OutOfMemory, Validation};
        // Scopes belong to the thread, so they are closed before the future is handed out.
        let [memory, internal, validation] =
            [OutOfMemory, Internal, Validation].map(|filter| self.device.push_error_scope(filter));
        let made = work();
        let (validation, internal, memory) = (validation.pop(), internal.pop(), memory.pop());
        async move {
            let (memory, internal, validation) = (memory.await, internal.await, validation.await);
            if let Some(error) = memory.or(internal).or(validation) {
                // A lost device fails whatever it is asked.
                self.check_lost(&asked)?;
                let fault = Fault::of(&error);
                let kind = if fault.kind == Kind::Device { kind } else { fault.kind };
                return Err(Fault { kind, ..fault }.met(&asked()));
            }
            self.check(asked)?;
            Ok(made)
        }
    }

    /// Counts the device as lost from now on.
    pub fn give_up(&self, what: String, remedy: &'static str) {
        self.reported.lose(Fault { kind: Kind::Device, what, remedy });
    }

    /// Has `waker` woken when the device is lost.
    #[cfg(target_arch = "wasm32")]
    pub fn wake(&self, waker: &Waker) {
        let mut waiting = self.reported.waiting.lock();
        waiting.retain(|other| !other.will_wake(waker));
        waiting.push(waker.clone());
    }

    /// Has the next call meet a fault of this kind.
    #[cfg(test)]
    pub fn inject(&self, kind: Kind) {
        *self.reported.uncaptured.lock() = Some(Fault { kind, what: "injected".into(), remedy: "" });
    }

    /// Whether the device is lost, so that every call is an error.
    pub fn is_lost(&self) -> bool {
        self.reported.lost.lock().is_some()
    }

    fn check_lost(&self, asked: impl Fn() -> String) -> Result<()> {
        self.reported.lost.lock().as_ref().map_or(Ok(()), |fault| Err(fault.met(&asked())))
    }

    /// Whether the driver has reported nothing; `asked` says what is being done.
    ///
    /// # Errors
    /// What the driver reported since the last call; at every call, once the device is lost.
    pub fn check(&self, asked: impl Fn() -> String) -> Result<()> {
        self.check_lost(&asked)?;
        match self.reported.uncaptured.lock().take() {
            Some(fault) => Err(fault.met(&asked())),
            None => Ok(()),
        }
    }
}

impl Fault {
    fn of(error: &wgpu::Error) -> Self {
        let (kind, what, remedy) = match error {
            wgpu::Error::OutOfMemory { .. } => (
                Kind::Memory,
                "the GPU is out of memory".into(),
                "lower the batch or the sequence length, close other programs that use the GPU, or use --device cpu",
            ),
            wgpu::Error::Validation { description, .. } => {
                (Kind::Device, format!("refused: {}", description.trim()), "the shader or the plan has a defect")
            }
            wgpu::Error::Internal { description, .. } => (
                Kind::Device,
                format!("the driver failed: {}", description.trim()),
                "update the driver, or choose another device with --device (`deepj adapters` lists them)",
            ),
        };
        Self { kind, what, remedy }
    }

    fn met(&self, asked: &str) -> Error {
        Error::new(self.kind, format!("{asked}: {}", self.what), self.remedy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_ran_out_is_told_from_a_defect() {
        let source = || Box::new(std::io::Error::other("source")) as _;
        let out_of_memory = Fault::of(&wgpu::Error::OutOfMemory { source: source() }).met("a buffer of 3 bytes");
        assert_eq!(out_of_memory.kind, Kind::Memory);
        assert!(out_of_memory.what.starts_with("a buffer of 3 bytes: ") && out_of_memory.remedy.contains("batch"));
        assert_eq!(out_of_memory.exit_code(), 1);
        let description = String::from(" no such binding\n");
        let defect = Fault::of(&wgpu::Error::Validation { source: source(), description }).met("binding");
        assert_eq!((defect.kind, defect.what.as_str()), (Kind::Device, "binding: refused: no such binding"));
    }
}
