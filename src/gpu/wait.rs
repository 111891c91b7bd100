//! Waiting for the GPU without spinning.

use std::future;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
#[cfg(not(target_arch = "wasm32"))]
use std::{panic::AssertUnwindSafe, sync::atomic::Ordering, time::Duration};

use parking_lot::Mutex;
#[cfg(not(target_arch = "wasm32"))]
use web_time::Instant;

use super::Gpu;
#[cfg(not(target_arch = "wasm32"))]
use super::{
    errors::{HUNG, SLOW},
    silence::Silence,
};
use crate::Result;
#[cfg(not(target_arch = "wasm32"))]
use crate::{Error, gpu::DeviceType};

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
            let mut state = self.0.lock();
            state.0 = Some(value);
            state.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll(&self, context: &Context<'_>) -> Poll<T> {
        let mut state = self.0.lock();
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
    /// Waits until all that was submitted has run.
    ///
    /// # Errors
    /// A device that is lost, out of memory, or given up ([`WaitOptions`](super::WaitOptions)).
    pub async fn wait(&self) -> Result<()> {
        let asked = || "waiting for the GPU".to_string();
        self.inner.faults.check(asked)?;
        let signal = Arc::new(Signal::default());
        let done = signal.clone();
        self.inner.queue.on_submitted_work_done(move || done.set(()));
        self.arrival(&signal, None, asked).await?;
        self.inner.faults.check(asked)
    }

    /// Waits for `signal`, which is set at the end of `submission`, or of all submissions so far. `asked` says what for.
    ///
    /// Natively each poll blocks for a bounded time, so that a caller who polls several futures gets on with the others;
    /// in a browser, callbacks wake the future, and the loss of the device.
    pub(super) async fn arrival<T>(
        &self,
        signal: &Arc<Signal<T>>,
        submission: Option<wgpu::SubmissionIndex>,
        asked: impl Fn() -> String,
    ) -> Result<T> {
        #[cfg(target_arch = "wasm32")]
        let _ = submission;
        #[cfg(not(target_arch = "wasm32"))]
        let (mut unheard, mut silence) = (0, Silence::new(&self.inner.activity));
        future::poll_fn(move |context| {
            if let Poll::Ready(value) = signal.poll(context) {
                return Poll::Ready(Ok(value));
            }
            #[cfg(not(target_arch = "wasm32"))]
            {
                let began = Instant::now();
                let finished = self.poll_for_a_while(submission.clone(), &asked);
                silence.polled(began.elapsed(), self.wait_options.stop.load(Ordering::Relaxed));
                if let Poll::Ready(value) = signal.poll(context) {
                    return Poll::Ready(Ok(value));
                }
                if finished? {
                    unheard += 1;
                    self.await_callback(unheard, &asked)?;
                } else {
                    self.bear(&silence, &asked)?;
                }
                context.waker().wake_by_ref();
            }
            #[cfg(target_arch = "wasm32")]
            self.inner.faults.wake(context.waker());
            self.inner.faults.check(&asked)?;
            Poll::Pending
        })
        .await
    }

    /// Lets the device run callbacks, and waits for a while until `submission` (or all so far) is finished; returns
    /// whether it is.
    #[cfg(not(target_arch = "wasm32"))]
    fn poll_for_a_while(&self, submission: Option<wgpu::SubmissionIndex>, asked: &impl Fn() -> String) -> Result<bool> {
        const SLICE: Duration = Duration::from_millis(50);
        let poll = wgpu::PollType::Wait { submission_index: submission, timeout: Some(SLICE) };
        #[cfg(test)]
        if self.inner.activity.hangs() {
            std::thread::sleep(SLICE);
            return Ok(false);
        }
        // wgpu panics here when it finds the device lost, after it has told the callback for lost devices.
        let reason = match std::panic::catch_unwind(AssertUnwindSafe(|| self.inner.device.poll(poll))) {
            Ok(Ok(_)) => return Ok(true),
            Ok(Err(wgpu::PollError::Timeout)) => return Ok(false),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the driver failed".into(),
        };
        self.inner.faults.check(asked)?;
        Err(Error::device(format!("{}: {reason}", asked()), "update the driver, or choose another device"))
    }

    /// Gives the device up where it has been silent for too long.
    #[cfg(not(target_arch = "wasm32"))]
    fn bear(&self, silence: &Silence<'_>, asked: &impl Fn() -> String) -> Result<()> {
        let options = &self.wait_options;
        let software = self.capabilities.device_type == DeviceType::Software;
        let (timeout, stopped) = (options.timeout(software), silence.outlasts_a_stop());
        let seconds = silence.lasted().as_secs();
        if stopped || silence.lasted() >= timeout {
            let until = if stopped { ", and a stop was asked for" } else { "" };
            let what = format!("the GPU does not answer: it has finished nothing for {seconds} s{until}");
            self.inner.faults.give_up(what, if software { SLOW } else { HUNG });
            // Dropping a queue waits for its submissions, which a hung GPU never finishes.
            std::mem::forget(self.inner.queue.clone());
        } else if silence.is_worth_saying()
            && let Some(notice) = &options.notice
            && self.inner.activity.first_to_say()
        {
            let limit = timeout.as_secs();
            notice(&format!(
                "{}: the GPU has finished nothing for {seconds} s; it is given up after {limit} s",
                asked()
            ));
        }
        self.inner.faults.check(asked)
    }

    /// The work is finished, but the signal is not set. Another thread that polled first may be about to set it, so this
    /// pauses; after about ten seconds it is an error.
    #[cfg(not(target_arch = "wasm32"))]
    fn await_callback(&self, count: u32, asked: &impl Fn() -> String) -> Result<()> {
        const PAUSE: Duration = Duration::from_millis(1);
        const PATIENCE: u32 = 10_000;
        if count > PATIENCE {
            return Err(Error::device(format!("{}: the driver never answered", asked()), "update the driver"));
        }
        std::thread::sleep(PAUSE);
        Ok(())
    }
}
