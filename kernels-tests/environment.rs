//! The environment that the drivers need, set before any of them starts.
//!
//! The Vulkan loader reads its variables when it is first used and has no other way to be told of a driver. Setting a
//! variable inside a running process is unsound where other threads may read the environment, as drivers do; so the test
//! program starts itself once more with the variables set.

/// Where Debian's package `chromium` has SwiftShader. No package registers it with the Vulkan loader.
#[cfg(target_os = "linux")]
const SWIFTSHADER: &str = "/usr/lib/chromium/vk_swiftshader_icd.json";

/// Makes SwiftShader visible beside the drivers that the system has, and gives Wayland's library, which the GL backend
/// asks for displays, a folder to look in, so that it does not complain. Does nothing where the variables are set.
#[cfg(target_os = "linux")]
pub fn prepare() {
    use std::os::unix::process::CommandExt;

    let unset = |name: &str| std::env::var_os(name).is_none();
    let mut variables = vec![];
    // A user's own list of drivers stays as it is.
    let own = ["VK_ADD_DRIVER_FILES", "VK_DRIVER_FILES", "VK_ICD_FILENAMES"];
    if own.into_iter().all(unset) && std::path::Path::new(SWIFTSHADER).exists() {
        variables.push(("VK_ADD_DRIVER_FILES", SWIFTSHADER.into()));
    }
    if unset("XDG_RUNTIME_DIR") {
        variables.push(("XDG_RUNTIME_DIR", std::env::temp_dir()));
    }
    if variables.is_empty() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let error = std::process::Command::new(program).args(std::env::args_os().skip(1)).envs(variables).exec();
    println!(
        "the test program cannot start itself again ({error}); drivers are looked for in the environment as it is"
    );
}

/// Other systems' drivers need nothing.
#[cfg(not(target_os = "linux"))]
pub fn prepare() {}
