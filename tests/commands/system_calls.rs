//! The system calls that the program makes, as strace shows them, and with which it makes them fail.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{corpus, folder, started_by};

/// All that changes files.
const CALLS: &str = "openat,write,writev,pwrite64,pwritev,sendfile,copy_file_range,fallocate,fsync,fdatasync,sync_file_range,\
                     rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,rmdir,mkdir,mkdirat,ftruncate,\
                     truncate,lseek,flock,dup,dup2,dup3";

/// A call that came back.
pub struct Call {
    /// The thread that made it.
    pub thread: u32,
    pub name: String,
    arguments: Vec<String>,
    /// What paths are relative to.
    current: PathBuf,
    /// What came back; negative for an error.
    pub result: i64,
}

impl Call {
    /// The text of argument `i`, or of what a descriptor leads to.
    pub fn bytes(&self, i: usize) -> Vec<u8> {
        let argument = &self.arguments[i];
        let digits = argument.split("\\x").skip(1).map(|pair| u8::from_str_radix(&pair[..2], 16).unwrap());
        digits.collect()
    }

    /// The path of argument `i`, absolute.
    pub fn path(&self, i: usize) -> PathBuf {
        self.current.join(OsStr::from_bytes(&self.bytes(i)))
    }

    /// The number of argument `i`.
    pub fn number(&self, i: usize) -> i64 {
        self.arguments[i].split('<').next().and_then(|digits| digits.parse().ok()).unwrap()
    }

    /// Whether argument `i` has this flag.
    pub fn has(&self, i: usize, flag: &str) -> bool {
        self.arguments[i].split('|').any(|one| one == flag)
    }

    /// Whether it is about a file in `folder`, whose path is absolute.
    pub fn is_within(&self, folder: &Path) -> bool {
        (0..self.arguments.len()).any(|i| self.is_path(i) && self.path(i).starts_with(folder))
    }

    fn is_path(&self, i: usize) -> bool {
        let is_data = i == 1 && self.name.contains("write");
        self.arguments[i].contains("\\x") && !is_data && !self.arguments[i].starts_with("AT_FDCWD")
    }
}

/// Whether strace is here and may be used. Where `DEEPJ_REQUIRE_STRACE` is set, it must be.
pub fn can_be_traced() -> bool {
    let found = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output();
    let can = found.is_ok_and(|output| output.status.success());
    assert!(can || std::env::var_os("DEEPJ_REQUIRE_STRACE").is_none(), "strace is missing, or may not trace");
    if !can {
        println!("skipped: strace is missing, or may not trace");
    }
    can
}

/// A folder with a corpus, and its path as system calls name it; `None` where nothing can be traced.
pub fn traced_folder() -> Option<(tempfile::TempDir, PathBuf)> {
    can_be_traced().then(|| {
        let dir = folder();
        let path = dir.path().canonicalize().unwrap();
        corpus(&path.join("corpus"), 4, 4, 48);
        (dir, path)
    })
}

/// `program` under strace, which writes to `log` and does `more`.
pub fn traced(program: &Command, log: &Path, more: &[&str]) -> Command {
    let mut command = Command::new("strace");
    command.args(["-f", "--seccomp-bpf", "-qq", "-y", "-xx", "-s", "100000000", "-e"]);
    command.arg(format!("trace={CALLS}")).arg("-o").arg(log).args(more);
    started_by(command, program)
}

/// The calls in a log of [`traced`], in the order in which they came back, of a program that ran in `current`.
pub fn calls(log: &Path, current: &Path) -> Vec<Call> {
    let text = std::fs::read_to_string(log).unwrap();
    let mut begun: Vec<(u32, String)> = vec![];
    let mut calls = vec![];
    for line in text.lines() {
        let (thread, rest) = line.split_once(' ').unwrap();
        let (thread, rest) = (thread.parse().unwrap(), rest.trim_start());
        if let Some(first) = rest.strip_suffix(" <unfinished ...>") {
            begun.push((thread, first.into()));
            continue;
        }
        let whole = match rest.split_once(" resumed>") {
            Some((_, second)) if rest.starts_with("<...") => {
                let i = begun.iter().position(|(other, _)| *other == thread).unwrap();
                begun.swap_remove(i).1 + second
            }
            _ => rest.into(),
        };
        calls.extend(call(thread, &whole, current));
    }
    calls
}

/// One call; none for the lines about signals and ends.
fn call(thread: u32, line: &str, current: &Path) -> Option<Call> {
    let (name, rest) = line.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(" = ")?;
    let arguments = arguments.trim_end().strip_suffix(')')?;
    let digits = result.split(|c: char| c != '-' && !c.is_ascii_digit()).next()?;
    let arguments = arguments.split(", ").map(str::to_string).collect();
    Some(Call { thread, name: name.into(), arguments, current: current.into(), result: digits.parse().ok()? })
}
