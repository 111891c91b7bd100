//! The environment that the drivers need, set before any of them starts.
//!
//! The Vulkan loader reads its variables when it is first used and has no other way to be told of a driver or a layer.

/// Where Debian's package `chromium` has SwiftShader. No package registers it with the Vulkan loader.
#[cfg(target_os = "linux")]
const SWIFTSHADER: &str = "/usr/lib/chromium/vk_swiftshader_icd.json";

/// Makes SwiftShader visible beside the drivers that the system has, and gives Wayland's library, which the GL backend
/// asks for displays, a folder to look in, so that it does not complain. Does nothing where the variables are set. To be
/// called first of all.
#[cfg(target_os = "linux")]
pub fn prepare() {
    let unset = |name: &str| std::env::var_os(name).is_none();
    // A user's own list of drivers stays as it is.
    let own = ["VK_ADD_DRIVER_FILES", "VK_DRIVER_FILES", "VK_ICD_FILENAMES"];
    if own.into_iter().all(unset) && std::path::Path::new(SWIFTSHADER).exists() {
        set("VK_ADD_DRIVER_FILES", SWIFTSHADER);
    }
    if unset("XDG_RUNTIME_DIR") {
        set("XDG_RUNTIME_DIR", std::env::temp_dir());
    }
}

/// Other systems' drivers need nothing.
#[cfg(not(target_os = "linux"))]
pub fn prepare() {}

/// Sets a variable of this process.
///
/// # Panics
/// The process has more than one thread: another could read the environment meanwhile.
#[cfg(target_os = "linux")]
pub fn set(name: &str, value: impl AsRef<std::ffi::OsStr>) {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    assert_eq!(threads, 1, "{name} must be set before threads are started");
    // SAFETY: there is no other thread.
    unsafe { std::env::set_var(name, value) }
}
