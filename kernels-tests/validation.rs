//! The Khronos validation layer beneath the tests: with `DEEPJ_VALIDATION=1` it looks into every call that reaches a Vulkan
//! driver, and what it says makes the test fail during which it says it. `DEEPJ_VALIDATION=PATH` takes the layer's library
//! from another place than Debian's package `chromium`, which has a newer one than `vulkan-validationlayers`.
//!
//! The layer is put between loader and driver by the loader's variables, beneath a program that is otherwise the same:
//! wgpu's own way (`WGPU_VALIDATION`) changes the SPIR-V that it writes, and drops five messages that it knows. Its log is
//! a pipe, since every instance opens the file anew and would cut off what another wrote.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Mutex, PoisonError};

use ash::vk;
use pollster::block_on;
use wgpu::hal::api::Vulkan;

use crate::environment;

/// Where Debian's package `chromium` has the layer. It comes without a manifest for the loader.
const LIBRARY: &str = "/usr/lib/chromium/libVkLayer_khronos_validation.so";
/// The layer's name.
const NAME: &str = "VK_LAYER_KHRONOS_validation";
/// A line that no layer writes.
const END: &str = "end of what was said so far";

/// A message that is known and not ours. One that is not met in a run of all tests makes the run fail, so that the table
/// stays true.
struct Known {
    /// The message's identifier.
    id: &'static str,
    reason: &'static str,
    /// Where it is reported.
    link: &'static str,
}

const KNOWN: [Known; 1] = [Known {
    id: "VUID-StandaloneSpirv-None-10684",
    reason: "naga 30 gives arrays in workgroup memory an ArrayStride",
    link: "https://github.com/gfx-rs/wgpu/issues/7696",
}];

/// The layer, beneath every Vulkan instance of the process.
pub struct Layer {
    /// As the library itself tells it.
    version: String,
    library: PathBuf,
    log: Mutex<Log>,
    /// How often each of [`KNOWN`] was met.
    known: Mutex<BTreeMap<&'static str, usize>>,
    /// Holds the manifest.
    _folder: tempfile::TempDir,
}

/// Both ends of what the layer writes.
struct Log {
    lines: Receiver<String>,
    writer: PipeWriter,
}

struct Message {
    /// Such as `VUID-…`, `SYNC-HAZARD-…`; empty where the text has another form.
    id: String,
    text: String,
}

impl Layer {
    /// Puts the layer beneath all that follows, if `DEEPJ_VALIDATION` asks for it. To be called while the process has one
    /// thread.
    ///
    /// # Errors
    /// A library that is not there or no validation layer; no folder for its manifest.
    pub fn start() -> Result<Option<Self>, String> {
        let library = match std::env::var_os("DEEPJ_VALIDATION") {
            None => return Ok(None),
            Some(value) if value.is_empty() || value == "0" => return Ok(None),
            Some(value) if value == "1" => PathBuf::from(LIBRARY),
            Some(value) => PathBuf::from(value),
        };
        let version = version(&library).map_err(|error| {
            let place = library.display();
            format!("{place}: no validation layer: {error}; Debian: apt-get install chromium, or DEEPJ_VALIDATION=PATH")
        })?;
        let failed = |error: std::io::Error| format!("the validation layer cannot be prepared: {error}");
        let folder = tempfile::tempdir().map_err(failed)?;
        let manifest = serde_json::json!({
            "file_format_version": "1.2.0",
            "layer": {
                "name": NAME,
                "type": "GLOBAL",
                "library_path": library,
                "api_version": version,
                "implementation_version": "1",
                "description": "Khronos Validation Layer",
            },
        });
        std::fs::write(folder.path().join("layer.json"), manifest.to_string()).map_err(failed)?;
        let (reader, writer) = std::io::pipe().map_err(failed)?;
        environment::set("VK_LAYER_PATH", folder.path());
        environment::set("VK_INSTANCE_LAYERS", NAME);
        let settings = [
            ("DEBUG_ACTION", "VK_DBG_LAYER_ACTION_LOG_MSG"),
            ("LOG_FILENAME", &format!("/proc/self/fd/{}", writer.as_raw_fd())),
            ("REPORT_FLAGS", "error,warn,perf"),
            ("ENABLE_MESSAGE_LIMIT", "false"),
            // It would leave a file behind.
            ("CHECK_SHADERS_CACHING", "false"),
            ("VALIDATE_SYNC", "true"),
            // Without it only transfers are looked at.
            ("SYNCVAL_SHADER_ACCESSES_HEURISTIC", "true"),
        ];
        for (name, value) in settings {
            environment::set(&format!("VK_KHRONOS_VALIDATION_{name}"), value);
        }
        let log = Mutex::new(Log { lines: lines(reader), writer });
        Ok(Some(Self { version, library, log, known: Mutex::default(), _folder: folder }))
    }

    /// Uses every Vulkan adapter wrongly, and tells of each whether the layer said so.
    pub fn self_test(&self) -> Vec<(String, Result<(), String>)> {
        let mut description = wgpu::InstanceDescriptor::new_without_display_handle();
        description.backends = wgpu::Backends::VULKAN;
        let adapters = block_on(wgpu::Instance::new(description).enumerate_adapters(wgpu::Backends::VULKAN));
        let test = |adapter: wgpu::Adapter| (adapter.get_info().name, self.notices(&adapter));
        adapters.into_iter().map(test).collect()
    }

    fn notices(&self, adapter: &wgpu::Adapter) -> Result<(), String> {
        let mut log = locked(&self.log);
        misuse(adapter)?;
        let messages = log.messages();
        let said = |id: &str, part: &str| messages.iter().any(|said| said.id.contains(id) && said.text.contains(part));
        if !said("VUID-VkShaderModuleCreateInfo-pCode", "") {
            return Err("a shader without a memory model was not noticed".into());
        }
        if !said("SYNC-HAZARD-WRITE-AFTER-WRITE", "vkCmdDispatch") {
            return Err("two dispatches that write one buffer without a barrier were not noticed".into());
        }
        Ok(())
    }

    /// Runs what uses a Vulkan adapter, when nothing else does that is watched, so that what is said is said of it. Returns
    /// its result, and whether nothing but what is known was said.
    pub fn watch<T>(&self, run: impl FnOnce() -> T) -> (T, Result<(), String>) {
        let mut log = locked(&self.log);
        let result = run();
        let mut unknown = vec![];
        for message in log.messages() {
            match KNOWN.iter().find(|known| known.id == message.id) {
                Some(known) => *locked(&self.known).entry(known.id).or_default() += 1,
                None => unknown.push(message.text),
            }
        }
        let valid = if unknown.is_empty() { Ok(()) } else { Err(format!("validation layer: {}", unknown.join("\n"))) };
        (result, valid)
    }

    /// Runs what lets go of the adapters, and prints what is known and was said. Returns whether all is well: all that is
    /// known was met, if the run was `whole`, and nothing else was said outside of tests.
    pub fn finish(&self, whole: bool, close: impl FnOnce()) -> bool {
        let ((), valid) = self.watch(close);
        if let Err(said) = &valid {
            println!("FAILED: {said}");
        }
        println!("beneath Vulkan: validation layer {}, {}", self.version, self.library.display());
        let known = locked(&self.known);
        let mut all_met = true;
        for Known { id, reason, link } in &KNOWN {
            let count = known.get(id).copied().unwrap_or_default();
            println!("known, {count} times: {id}, {reason} ({link})");
            if whole && count == 0 {
                println!("FAILED: {id} is listed in validation.rs, and was not met");
                all_met = false;
            }
        }
        valid.is_ok() && all_met
    }
}

impl Log {
    /// What was said since the last call, as the layer writes before a call of Vulkan's returns.
    fn messages(&mut self) -> Vec<Message> {
        let sent = writeln!(self.writer, "{END}");
        let mut messages: Vec<Message> = vec![];
        for line in self.lines.iter().take_while(|line| sent.is_ok() && !line.ends_with(END)) {
            let head = line.starts_with("Validation ").then(|| line.split_once("[ ")).flatten();
            if let Some((id, _)) = head.and_then(|(_, rest)| rest.split_once(" ]")) {
                messages.push(Message { id: id.into(), text: line });
            } else if let Some(last) = messages.last_mut() {
                last.text.push('\n');
                last.text.push_str(&line);
            } else {
                messages.push(Message { id: String::new(), text: line });
            }
        }
        messages
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The lines that come through a pipe, read as they come, so that the layer never waits for a reader.
fn lines(pipe: PipeReader) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The version of Vulkan's specification that the layer in a library knows.
fn version(library: &Path) -> Result<String, String> {
    let mut layer = vk::LayerProperties::default();
    // SAFETY: the library of a layer exports this function for the loader. It writes one element at most, as it is told.
    unsafe {
        let library = libloading::Library::new(library).map_err(|error| error.to_string())?;
        let function =
            library.get::<vk::PFN_vkEnumerateInstanceLayerProperties>(b"vkEnumerateInstanceLayerProperties\0");
        // What it returns says no more than the name, which stays empty if it fails.
        let _ = function.map_err(|error| error.to_string())?(&mut 1, &mut layer);
    }
    if !layer.layer_name_as_c_str().is_ok_and(|name| name.to_bytes() == NAME.as_bytes()) {
        return Err(format!("it has no {NAME}"));
    }
    let version = layer.spec_version;
    let [major, minor, patch] =
        [vk::api_version_major(version), vk::api_version_minor(version), vk::api_version_patch(version)];
    Ok(format!("{major}.{minor}.{patch}"))
}

/// Gives the driver a shader that is none, and records two dispatches that write the same memory without a barrier, as wgpu
/// does not know that two of its buffers are one. Nothing is run.
fn misuse(adapter: &wgpu::Adapter) -> Result<(), String> {
    let (device, _queue) = block_on(adapter.request_device(&Default::default())).map_err(|error| error.to_string())?;
    let usage = wgpu::BufferUsages::STORAGE;
    let description = wgpu::BufferDescriptor { label: None, size: 16, usage, mapped_at_creation: false };
    let buffer = device.create_buffer(&description);
    // SAFETY: drivers copy a module's words and look at them when a pipeline is built, and none is. The second name of the
    // buffer does not outlive it, and the commands are never submitted.
    let alias = unsafe {
        let (raw, handle) = (device.as_hal::<Vulkan>(), buffer.as_hal::<Vulkan>());
        let (raw, handle) = raw.zip(handle).ok_or("not a Vulkan device")?;
        let words = [0x0723_0203, 0x0001_0000, 0, 1, 0];
        let module = vk::ShaderModuleCreateInfo::default().code(&words);
        if let Ok(module) = raw.raw_device().create_shader_module(&module, None) {
            raw.raw_device().destroy_shader_module(module, None);
        }
        let same = wgpu::hal::vulkan::Buffer::from_raw_externally_owned(handle.raw_handle(), Box::new(|| {}));
        device.create_buffer_from_hal::<Vulkan>(same, &description)
    };
    let source = "@group(0) @binding(0) var<storage, read_write> x: array<u32, 4>;
        @compute @workgroup_size(1) fn main() { x[0] = 1u; }";
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: None,
        source: wgpu::ShaderSource::Wgsl(source.into()),
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: None,
        layout: None,
        module: &module,
        entry_point: None,
        compilation_options: Default::default(),
        cache: None,
    });
    let mut encoder = device.create_command_encoder(&Default::default());
    let mut pass = encoder.begin_compute_pass(&Default::default());
    pass.set_pipeline(&pipeline);
    for buffer in [&buffer, &alias] {
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &[wgpu::BindGroupEntry { binding: 0, resource: buffer.as_entire_binding() }],
        });
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(1, 1, 1);
    }
    drop(pass);
    drop(encoder.finish());
    Ok(())
}
