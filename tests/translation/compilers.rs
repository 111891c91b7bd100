//! Finding compilers, and running them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::target::Unit;

/// A file of the folder in which `.ci/compilers` puts what no Debian package has.
pub fn installed(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/compilers").join(path);
    path.exists().then_some(path)
}

/// The first line with a version of what `program --version` prints; `None` where it cannot be run.
pub fn version(program: impl AsRef<Path>) -> Option<String> {
    let output = Command::new(program.as_ref()).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.contains(|c: char| c.is_ascii_digit()))?;
    output.status.success().then(|| line.trim().into())
}

/// Runs a program to its end on this standard input.
///
/// # Errors
/// A program that cannot be started, or that a signal ended.
pub fn run(command: &mut Command, input: &[u8]) -> Result<Output, String> {
    let name = command.get_program().display().to_string();
    let at = |error: std::io::Error| format!("{name} does not run: {error}");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(at)?;
    let stdin = child.stdin.take();
    let output = std::thread::scope(|scope| {
        // A program that is not interested in all of it closes its end.
        scope.spawn(|| stdin.map(|mut stdin| stdin.write_all(input)));
        child.wait_with_output()
    });
    let output = output.map_err(at)?;
    match output.status.code() {
        Some(_) => Ok(output),
        None => Err(format!("{name} crashes: {}\n{}", output.status, text(&output))),
    }
}

/// All that a program said.
pub fn text(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&text).trim().into()
}

/// Translations as files, `0.<extension>` and so on.
///
/// # Errors
/// A folder or file that cannot be written.
pub fn files(units: &[Unit], extension: &str) -> Result<TempDir, String> {
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    for (i, unit) in units.iter().enumerate() {
        let path = folder.path().join(format!("{i}.{extension}"));
        fs::write(&path, &unit.source).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(folder)
}
