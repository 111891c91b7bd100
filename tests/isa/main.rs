//! Every kernel through the compiler of a real GPU's driver, without the GPU: RADV, Mesa's driver for AMD, compiles for chips that are
//! not there. What it says of registers, spills, private memory and code is held against budgets and against `table.tsv`, so that
//! each change shows what it does to them. docs/ISA.md says what the numbers mean.
//!
//! `DEEPJ_ISA_TABLE=tests/isa/table.tsv` writes the table anew, `DEEPJ_ISA_DUMP=FOLDER` the machine code of the paper's
//! plans, for benches/isa/model.py, `DEEPJ_ISA_WGSL=FILE` compiles a file instead. A driver that is missing is named; `DEEPJ_REQUIRE_DRIVERS=radv` makes
//! the run fail then.

#[cfg(target_os = "linux")]
mod assembly;
#[path = "../translation/compilers.rs"]
#[allow(dead_code)] // The rest is used there.
mod compilers;
#[cfg(target_os = "linux")]
mod driver;
#[cfg(target_os = "linux")]
mod kernels;
#[path = "../translation/shaders.rs"]
#[allow(dead_code)] // As above.
mod shaders;
#[path = "../translation/spirv.rs"]
#[allow(dead_code)] // As above.
mod spirv;
#[cfg(target_os = "linux")]
mod suite;
#[cfg(target_os = "linux")]
mod table;
#[path = "../translation/target.rs"]
#[allow(dead_code)] // As above.
mod target;

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    suite::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    println!("no test: Mesa's drivers for chips that are not there are Linux programs");
    match std::env::var_os("DEEPJ_REQUIRE_DRIVERS") {
        Some(names) if !names.is_empty() => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}
