//! Every command that the documents, the experiments and the program's own help show. Those of the program run, each in a folder as
//! a reader has it, shortened by the rules that docs/TESTING.md lists, and must succeed. Of other commands it is checked that what
//! they name is there and has the flags that they are given; so it is with flags in sentences, and with links. Figures that a
//! command tells in a moment are held against it.
//!
//! Names are `run/FILE:LINE COMMAND` and the like, and any part of them filters. `DEEPJ_DOCUMENTS=FOLDER` checks another copy of the
//! project's files, `DEEPJ_PROGRAM=FILE` by another program.

#[cfg(target_os = "linux")]
mod collect;
#[cfg(target_os = "linux")]
mod figures;
#[cfg(target_os = "linux")]
mod help;
#[cfg(target_os = "linux")]
mod others;
#[cfg(target_os = "linux")]
mod pages;
#[cfg(target_os = "linux")]
mod reader;
#[cfg(target_os = "linux")]
mod rules;
#[cfg(target_os = "linux")]
#[path = "../commands/soundfont.rs"]
mod soundfont;
#[cfg(target_os = "linux")]
mod things;
#[cfg(target_os = "linux")]
mod trials;
#[cfg(target_os = "linux")]
mod words;

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    use libtest_mimic::Arguments;
    let arguments = Arguments::from_args();
    match trials::all() {
        Ok(all) => {
            let left_out = all.left_out;
            let conclusion = libtest_mimic::run(&arguments, all.trials);
            if !arguments.list && arguments.filter.is_none() {
                left_out.iter().for_each(|line| println!("{line}"));
            }
            conclusion.exit_code()
        }
        Err(error) => {
            println!("FAILED: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The commands are those of a shell on Linux.
#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    println!("the commands of the documents run on Linux alone");
    ExitCode::SUCCESS
}
