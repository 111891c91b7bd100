//! The adapters of the machine, and the choice of one.
//!
//! wgpu's own variables apply, such as `WGPU_BACKEND=vulkan,gl`. Where `XDG_RUNTIME_DIR` is not set, as on a bare machine or
//! in a container, Wayland's library complains on standard error when the GL backend looks for adapters; that is harmless
//! if EGL can do without a display, as Mesa's can.

use std::str::FromStr;
use std::sync::Arc;

use super::{Capabilities, DeviceType, Gpu, Machine, OpenOptions, WaitOptions, WatchdogBudget};
use crate::{Error, Result};

/// Which device to compute on, as `--device` and `DEEPJ_DEVICE` name it.
///
/// # Examples
///
/// ```
/// # fn main() -> deepj::Result<()> {
/// use deepj::prelude::*;
///
/// assert_eq!("auto".parse::<DeviceChoice>()?, DeviceChoice::Auto);
/// assert_eq!("1".parse::<DeviceChoice>()?, DeviceChoice::Index(1));
/// assert_eq!("nvidia".parse::<DeviceChoice>()?, DeviceChoice::Name("nvidia".into()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A discrete GPU, else an integrated one, else the CPU backend.
    Auto,
    /// The CPU backend.
    Cpu,
    /// The adapter at this place of [`adapters`]; where there are not so many, the first whose line contains the number: 3060.
    Index(usize),
    /// The first adapter whose line in the listing contains this text, in either case.
    Name(String),
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let name = text.trim();
        match name.to_lowercase().as_str() {
            "" => Err(Error::usage("an empty device name", "use auto, cpu, an adapter's index, or a part of its name")),
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            _ => Ok(name.parse().map_or_else(|_| Self::Name(name.into()), Self::Index)),
        }
    }
}

impl DeviceChoice {
    /// What this is for the process of this number, from 0, among several on one machine: of a list with commas, the name at that
    /// place, the list from its beginning again where there are more processes.
    ///
    /// # Errors
    /// An empty name in the list.
    pub fn of_process(&self, number: usize) -> Result<Self> {
        match self {
            Self::Name(list) if list.contains(',') => {
                let names: Vec<&str> = list.split(',').collect();
                names[number % names.len()].parse()
            }
            one => Ok(one.clone()),
        }
    }
}

/// What there is to compute on.
///
/// # Examples
///
/// ```
/// # fn main() -> deepj::Result<()> {
/// use deepj::prelude::*;
///
/// match open_blocking(&"cpu".parse::<DeviceChoice>()?, OpenOptions::default())? {
///     Device::Gpu(gpu) => println!("{}", gpu.capabilities),
///     Device::Cpu { why } => println!("the CPU computes: {why}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub enum Device {
    Gpu(Gpu),
    /// The CPU backend, and why it was chosen: a sentence for the user.
    Cpu {
        why: String,
    },
}

impl Device {
    /// The GPU's capabilities, or `None` on the CPU.
    pub fn capabilities(&self) -> Option<&Capabilities> {
        match self {
            Self::Gpu(gpu) => Some(&gpu.capabilities),
            Self::Cpu { .. } => None,
        }
    }

    /// The same device with this budget for programs that are built from now on; unchanged where there is no watchdog.
    pub fn within(mut self, budget: WatchdogBudget) -> Self {
        if let Self::Gpu(gpu) = &mut self
            && gpu.capabilities.budget.is_some()
        {
            Arc::make_mut(&mut gpu.capabilities).budget = Some(budget);
        }
        self
    }

    /// The same device, waited for as `options` say.
    pub fn waited_for(mut self, options: WaitOptions) -> Self {
        if let Self::Gpu(gpu) = &mut self {
            gpu.wait_options = options;
        }
        self
    }

    /// What measured times depend on.
    pub fn machine(&self) -> Machine {
        self.capabilities().map_or_else(Machine::cpu, Machine::of)
    }
}

/// Every adapter that can run compute shaders, discrete GPUs first, then integrated ones, software drivers last. Empty
/// where there is no driver. The order is stable on one machine, so an index can be used again.
///
/// # Examples
///
/// ```
/// for adapter in pollster::block_on(deepj::prelude::adapters()) {
///     println!("{}: f16 {}, subgroups {}", adapter.name, adapter.shader_f16, adapter.subgroup);
/// }
/// ```
pub async fn adapters() -> Vec<Capabilities> {
    enumerate().await.into_iter().map(|(capabilities, _)| capabilities).collect()
}

/// Says that `WGPU_BACKEND` is set, if it is, where that may be why there is no adapter.
pub fn excluded_by_environment() -> Option<String> {
    let wanted = std::env::var("WGPU_BACKEND").ok()?;
    Some(match wanted.trim() {
        "" => "WGPU_BACKEND is set and empty, which leaves out all backends; unset it".into(),
        wanted => format!("WGPU_BACKEND={wanted} leaves out the adapters of all other backends"),
    })
}

/// Opens the device that `choice` names.
///
/// `Auto` passes over a GPU that cannot be opened and says so in [`Device::Cpu`]'s `why`.
///
/// # Errors
/// A name or index that no adapter has (the error lists what there is), or a chosen adapter that cannot be opened.
pub async fn open(choice: &DeviceChoice, options: OpenOptions) -> Result<Device> {
    open_for(choice, 0, options).await
}

/// The same for the process of this number, from 0, among several on one machine: with `Auto` they take one GPU after the other.
///
/// # Errors
/// As [`open()`].
pub async fn open_for(choice: &DeviceChoice, process: usize, options: OpenOptions) -> Result<Device> {
    if *choice == DeviceChoice::Cpu {
        return Ok(Device::Cpu { why: "the CPU was asked for".into() });
    }
    let found = enumerate().await;
    let named = |part: &str| found.iter().position(|(capabilities, _)| capabilities.is_called(part));
    let chosen = match choice {
        DeviceChoice::Auto | DeviceChoice::Cpu => return Ok(auto(found, process, options).await),
        DeviceChoice::Index(index) if *index < found.len() => Some(*index),
        DeviceChoice::Index(number) => named(&number.to_string()),
        DeviceChoice::Name(part) => named(part),
    };
    match chosen.and_then(|index| found.get(index)) {
        Some((_, adapter)) => Gpu::open(adapter, options).await.map(Device::Gpu),
        None => Err(unknown_device(choice, found.iter().map(|(capabilities, _)| capabilities))),
    }
}

/// As [`open()`], for callers that are not async.
///
/// # Errors
/// The same.
///
/// # Examples
///
/// ```
/// # fn main() -> deepj::Result<()> {
/// use deepj::prelude::*;
///
/// // DeviceChoice::Auto takes the best GPU, and the CPU where there is none.
/// let device = open_blocking(&"cpu".parse()?, OpenOptions::default())?;
/// assert!(device.capabilities().is_none(), "the CPU");
/// # Ok(())
/// # }
/// ```
#[cfg(not(target_arch = "wasm32"))]
pub fn open_blocking(choice: &DeviceChoice, options: OpenOptions) -> Result<Device> {
    pollster::block_on(open(choice, options))
}

async fn auto(found: Vec<(Capabilities, wgpu::Adapter)>, process: usize, options: OpenOptions) -> Device {
    let mut reasons = Vec::new();
    for adapter in in_turn(&found, process) {
        match Gpu::open(adapter, options).await {
            Ok(gpu) => return Device::Gpu(gpu),
            Err(error) => reasons.push(error.what),
        }
    }
    let mut why = if reasons.is_empty() { "no GPU was found".into() } else { reasons.join("; ") };
    if reasons.is_empty() && !found.is_empty() {
        // A software driver is much slower than the CPU backend, and an unknown or virtual device may be one.
        let names: Vec<_> = found.iter().map(|(capabilities, _)| capabilities.to_string()).collect();
        why.push_str(&format!(" ({} only if named)", names.join(", ")));
    }
    if let (true, Some(excluded)) = (found.is_empty(), excluded_by_environment()) {
        why.push_str(&format!(" ({excluded})"));
    }
    if reasons.is_empty() {
        why.push_str(gpu_of_windows(&std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default()));
    }
    Device::Cpu { why }
}

/// The GPUs in the order in which the process of this number tries them. One that several drivers reach counts once; an integrated
/// one is only shared among processes where there is no discrete one.
fn in_turn(found: &[(Capabilities, wgpu::Adapter)], process: usize) -> Vec<&wgpu::Adapter> {
    let of = |wanted: DeviceType| {
        let same = move |(capabilities, _): &&(Capabilities, wgpu::Adapter)| capabilities.device_type == wanted;
        found.iter().filter(same).collect::<Vec<_>>()
    };
    let (mut first, mut second) = (of(DeviceType::Discrete), of(DeviceType::Integrated));
    if first.is_empty() {
        std::mem::swap(&mut first, &mut second);
    }
    // All adapters of one backend come before those of the next, so those of the first backend are distinct devices.
    let backend = first.first().map(|(capabilities, _)| capabilities.backend.clone());
    let devices = first.iter().filter(|(capabilities, _)| Some(&capabilities.backend) == backend.as_ref()).count();
    if devices > 0 {
        first[..devices].rotate_left(process % devices);
    }
    first.into_iter().chain(second).map(|(_, adapter)| adapter).collect()
}

/// How programs get at the GPU in the Windows Subsystem for Linux, where `release` is the name of its kernel; nothing elsewhere.
/// Mesa has drivers on Direct3D 12 there, of which that for Vulkan, Dozen, passes no conformance tests.
fn gpu_of_windows(release: &str) -> &'static str {
    if !release.to_lowercase().contains("microsoft") {
        return "";
    }
    "; in WSL, set GALLIUM_DRIVER=d3d12 for Mesa's OpenGL on Windows' GPU, or, where Mesa's Dozen driver is installed, \
     WGPU_ALLOW_UNDERLYING_NONCOMPLIANT_ADAPTER=1 for its Vulkan; a build for Windows needs neither"
}

fn unknown_device<'a>(choice: &DeviceChoice, found: impl Iterator<Item = &'a Capabilities>) -> Error {
    let what = match choice {
        DeviceChoice::Index(index) => format!("there is no adapter {index}, and none whose name contains that"),
        DeviceChoice::Name(part) => format!("no adapter's name contains `{part}`"),
        DeviceChoice::Auto | DeviceChoice::Cpu => "no adapter".into(),
    };
    let mut lines: Vec<_> = found.enumerate().map(|(index, capabilities)| format!("{index}: {capabilities}")).collect();
    lines.push("cpu: always there".into());
    let excluded = excluded_by_environment().map_or(String::new(), |excluded| format!("\n{excluded}"));
    Error::usage(what, format!("choose one of\n    {}{excluded}", lines.join("\n    ")))
}

async fn enumerate() -> Vec<(Capabilities, wgpu::Adapter)> {
    let mut description = wgpu::InstanceDescriptor::new_without_display_handle();
    // No dispatch is indirect, so the shader that would validate those is not needed.
    description.flags.remove(wgpu::InstanceFlags::VALIDATION_INDIRECT_CALL);
    let instance = wgpu::Instance::new(description.with_env());
    let adapters = instance.enumerate_adapters(wgpu::Backends::all()).await;
    let mut found: Vec<_> = adapters
        .into_iter()
        .filter(|adapter| adapter.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS))
        .map(|adapter| (Capabilities::of_adapter(&adapter), adapter))
        .collect();
    // wgpu lists backend after backend, the native ones before GL, and the sort keeps that order within a rank.
    found.sort_by_key(|(capabilities, _)| match capabilities.device_type {
        DeviceType::Discrete => 0,
        DeviceType::Integrated => 1,
        DeviceType::Virtual => 2,
        DeviceType::Unknown => 3,
        DeviceType::Software => 4,
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_choices_parse() {
        let parse = |text: &str| text.parse::<DeviceChoice>();
        assert_eq!(parse("auto").unwrap(), DeviceChoice::Auto);
        assert_eq!(parse("cpu").unwrap(), DeviceChoice::Cpu);
        assert_eq!([parse("CPU").unwrap(), parse("Auto").unwrap()], [DeviceChoice::Cpu, DeviceChoice::Auto]);
        assert_eq!(parse("1").unwrap(), DeviceChoice::Index(1));
        assert_eq!(parse("RTX 30").unwrap(), DeviceChoice::Name("RTX 30".into()));
        assert_eq!(parse(" ").unwrap_err().exit_code(), 2);
    }

    #[test]
    fn processes_of_a_machine_take_their_place_in_a_list() {
        let list: DeviceChoice = "cpu,1,RTX".parse().unwrap();
        let of: Vec<DeviceChoice> = (0..4).map(|number| list.of_process(number).unwrap()).collect();
        let first = DeviceChoice::Cpu;
        assert_eq!(of, [first.clone(), DeviceChoice::Index(1), DeviceChoice::Name("RTX".into()), first]);
        assert_eq!(DeviceChoice::Auto.of_process(3).unwrap(), DeviceChoice::Auto);
        assert!("cpu,".parse::<DeviceChoice>().unwrap().of_process(1).is_err());
    }

    #[test]
    fn the_way_to_a_gpu_is_said_in_wsl_alone() {
        for release in ["5.15.167.4-microsoft-standard-WSL2\n", "4.4.0-19041-Microsoft\n"] {
            assert!(gpu_of_windows(release).contains("GALLIUM_DRIVER=d3d12"), "{release}");
        }
        assert_eq!([gpu_of_windows("6.1.0-28-amd64\n"), gpu_of_windows("")], ["", ""]);
    }

    #[test]
    fn an_unknown_device_is_wrong_use_and_lists_what_there_is() {
        let error = unknown_device(&DeviceChoice::Index(7), [Capabilities::portable()].iter());
        assert_eq!(error.exit_code(), 2);
        let text = error.to_string();
        assert!(
            text.contains("adapter 7") && text.contains("0: WebGPU default limits") && text.contains("cpu"),
            "{text}"
        );
    }
}
