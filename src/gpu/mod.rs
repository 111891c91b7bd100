//! WebGPU and nothing above it: adapters and their capabilities, buffers, pipelines, recording, reading back.

mod adapter;
mod budget;
mod buffer;
mod cache_folder;
mod capabilities;
mod check;
mod device;
mod errors;
mod kernel;
mod machine;
mod options;
mod pipeline;
#[cfg(not(target_arch = "wasm32"))]
mod pipeline_cache;
mod program;
mod read;
mod remembered;
#[cfg(not(target_arch = "wasm32"))]
mod silence;
mod timeline;
mod wait;

#[cfg(not(target_arch = "wasm32"))]
pub use adapter::open_blocking;
pub use adapter::{Device, DeviceChoice, adapters, excluded_by_environment, open, open_for};
pub use budget::{Cost, WatchdogBudget};
pub use buffer::Buffer;
pub use cache_folder::cache_folder;
pub use capabilities::{Capabilities, CooperativeMatrix, DeviceType};
pub use check::Workgroup;
pub use device::Gpu;
pub use kernel::{Access, Binding, COMMON, Dispatch, Format, SHADERS, Shader, shaders_folder, with_writable};
pub(crate) use kernel::{shader_text, text_of};
pub use machine::Machine;
pub use options::{Checks, Limits, Notice, OpenOptions, WaitOptions};
pub use program::{Facts, Program};
pub use read::PendingRead;
pub(crate) use remembered::Remembered;
#[cfg(target_arch = "wasm32")]
pub use remembered::{remember_text, remembered_text};
pub use timeline::{Clock, Stamp, Timeline};

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    use std::time::{Duration, Instant};

    use super::wait::Signal;
    use super::*;

    /// Opens an adapter, to be waited for like this; `None` where there is none.
    async fn first_adapter(options: WaitOptions) -> Option<Gpu> {
        if adapters().await.is_empty() {
            println!("skipped: no adapter here");
            return None;
        }
        match open(&DeviceChoice::Index(0), OpenOptions::default()).await.unwrap().waited_for(options) {
            Device::Gpu(gpu) => Some(gpu),
            Device::Cpu { why } => panic!("{why}"),
        }
    }

    #[test]
    fn a_hung_gpu_is_given_up_at_its_time_or_when_someone_stops() {
        pollster::block_on(async {
            for stopped in [false, true] {
                let timeout = Some(Duration::from_secs(if stopped { 60 } else { 1 }));
                let options = WaitOptions { timeout, ..WaitOptions::default() };
                let Some(gpu) = first_adapter(options.clone()).await else { return };
                let buffer = gpu.buffer("buffer", 10).await.unwrap();
                gpu.wait().await.unwrap();
                let pending = gpu.begin_read(&[(&buffer, 0, 10)]).await.unwrap();
                gpu.hang();
                options.stop.store(stopped, Ordering::Relaxed);
                let began = Instant::now();
                let error = gpu.finish_read(pending).await.unwrap_err();
                let seconds = began.elapsed().as_secs_f64();
                let expected = if stopped { 5.0 } else { 1.0 };
                assert!((expected..expected + 3.0).contains(&seconds), "{seconds} s");
                let text = error.to_string();
                assert!(text.contains("does not answer") && text.contains("`device`"), "{text}");
                assert_eq!(text.contains("a stop was asked for"), stopped, "{text}");
                // Nobody waits for it again.
                assert!(gpu.wait().await.unwrap_err().to_string().contains("does not answer"));
                drop((buffer, gpu));
                assert!(began.elapsed().as_secs_f64() < seconds + 1.0);
            }
        });
    }

    #[test]
    fn a_lost_device_is_an_error_of_every_call() {
        pollster::block_on(async {
            let found = adapters().await;
            if found.is_empty() {
                println!("skipped: no adapter here");
            }
            for index in 0..found.len() {
                let Ok(Device::Gpu(gpu)) = open(&DeviceChoice::Index(index), OpenOptions::default()).await else {
                    panic!("adapter {index} cannot be opened");
                };
                let buffer = gpu.buffer("buffer", 10).await.unwrap();
                let program = gpu.program("empty", &[]).await.unwrap();
                gpu.wait().await.unwrap();
                gpu.inner.device.destroy();
                // Whoever was waiting is told.
                let signal = Arc::new(Signal::<()>::default());
                let errors = [
                    gpu.arrival(&signal, None, || "waiting".into()).await.err(),
                    gpu.wait().await.err(),
                    gpu.buffer("more", 10).await.err(),
                    gpu.write(&buffer, 0, &[1.0]).err(),
                    gpu.submit(&program, 1, &[0; 16]).err(),
                    gpu.read(&[(&buffer, 0, 10)]).await.err(),
                    gpu.program("more", &[]).await.err(),
                ];
                for error in errors {
                    let error = error.expect("an error").to_string();
                    assert!(error.contains("lost"), "{error}");
                }
            }
        });
    }
}
