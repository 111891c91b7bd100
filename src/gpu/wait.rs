//! Waiting for the GPU without spinning.

use std::sync::Mutex;
use std::task::{Context, Poll, Waker};
use std::{future, sync::Arc};

use super::Gpu;
use super::device::lock;
use crate::Result;

/// A value that a callback of the driver delivers.
pub(super) struct Signal<T>(Mutex<(Option<T>, Option<Waker>)>);

impl<T> Default for Signal<T> {
    fn default() -> Self {
        Self(Mutex::new((None, None)))
    }
}

impl<T> Signal<T> {
    pub(super) fn set(&self, value: T) {
        let waker = {
            let mut state = lock(&self.0);
            state.0 = Some(value);
            state.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll(&self, context: &Context<'_>) -> Poll<T> {
        let mut state = lock(&self.0);
        match state.0.take() {
            Some(value) => Poll::Ready(value),
            None => {
                state.1 = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Gpu {
    /// Waits for `signal`, which the end of `submission` (or of all submissions so far) sets. `asked` says what for.
    pub(super) async fn arrival<T>(
        &self,
        signal: &Arc<Signal<T>>,
        submission: Option<wgpu::SubmissionIndex>,
        asked: impl Fn() -> String,
    ) -> Result<T> {
        #[cfg(target_arch = "wasm32")]
        let _ = submission; // The browser runs the callbacks by itself.
        #[cfg(not(target_arch = "wasm32"))]
        let mut empty_polls = 0;
        future::poll_fn(move |context| {
            if let Poll::Ready(value) = signal.poll(context) {
                return Poll::Ready(Ok(value));
            }
            #[cfg(not(target_arch = "wasm32"))]
            {
                let polled = self.poll_for_a_while(submission.clone(), &mut empty_polls, &asked);
                if let Poll::Ready(value) = signal.poll(context) {
                    return Poll::Ready(Ok(value));
                }
                polled?;
                context.waker().wake_by_ref();
            }
            self.faults(&asked)?;
            Poll::Pending
        })
        .await
    }

    /// Lets the device work off callbacks, blocking for a bounded time, so that a caller who polls several futures gets
    /// on with the others.
    #[cfg(not(target_arch = "wasm32"))]
    fn poll_for_a_while(
        &self,
        submission_index: Option<wgpu::SubmissionIndex>,
        empty_polls: &mut u32,
        asked: impl Fn() -> String,
    ) -> Result<()> {
        use std::time::Duration;

        use crate::Error;

        const SLICE: Duration = Duration::from_millis(50);
        const PAUSE: Duration = Duration::from_millis(1);
        const PATIENCE: u32 = 10_000;

        let poll = wgpu::PollType::Wait { submission_index, timeout: Some(SLICE) };
        // wgpu panics here when it finds the device lost, after telling the callback for lost devices.
        let polled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.inner.device.poll(poll)));
        match polled {
            Ok(Err(wgpu::PollError::Timeout)) => Ok(()),
            // Another thread may have polled before us and be about to call back; if nothing comes, nothing will.
            Ok(Ok(_)) if *empty_polls < PATIENCE => {
                *empty_polls += 1;
                std::thread::sleep(PAUSE);
                Ok(())
            }
            Ok(Ok(_)) => Err(Error::device(format!("{}: the driver never answered", asked()), "update the driver")),
            Ok(Err(error)) => {
                self.faults(&asked)?;
                Err(Error::device(format!("{}: {error}", asked()), ""))
            }
            Err(_) => {
                self.faults(&asked)?;
                Err(Error::device(format!("{}: the driver failed", asked()), "update the driver"))
            }
        }
    }
}
