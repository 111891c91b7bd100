//! What a GPU's compiler made of a profile's kernels, from the table of the test `isa` (docs/ISA.md): registers and waves.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use super::report::{Compiled, Profile};
use crate::error::{Error, Result, nearest};
use crate::files::read_bounded;

/// A table is no larger.
const MAX_BYTES: u64 = 16 << 20;
const REMEDY: &str = "give the project's tests/isa/table.tsv, or one that DEEPJ_ISA_TABLE wrote";

/// What the table in `file` says of the shaders on a chip (`navi21`), by shader.
///
/// # Errors
/// A file that cannot be read or is no such table; a chip that it does not have.
pub fn compiled(file: &Path, chip: &str) -> Result<HashMap<String, Compiled>> {
    let bytes = read_bounded(file, MAX_BYTES, REMEDY)?;
    let text = String::from_utf8(bytes).map_err(|_| Error::file(file, "is no text", REMEDY))?;
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let head: Vec<&str> = lines.next().unwrap_or_default().split('\t').collect();
    let chips: BTreeSet<&str> = head.iter().filter_map(|name| name.strip_suffix(" vgprs")).collect();
    if head.first() != Some(&"shader") || chips.is_empty() {
        return Err(Error::file(file, "is no table of compiled shaders", REMEDY));
    }
    if !chips.contains(&chip) {
        return Err(Error::usage(format!("{}: has no chip `{chip}`", file.display()), nearest(chip, chips)));
    }
    let column = |of: &str| head.iter().position(|name| *name == format!("{chip} {of}"));
    let [Some(registers), Some(spills), Some(waves)] = ["vgprs", "spills", "waves"].map(column) else {
        return Err(Error::file(file, format!("lacks registers, spills or waves of {chip}"), REMEDY));
    };
    let mut known = HashMap::new();
    for line in lines {
        let cells: Vec<&str> = line.split('\t').collect();
        let number = |column: usize| cells.get(column).and_then(|cell| cell.parse().ok());
        let (Some(registers), Some(spills), Some(waves)) = (number(registers), number(spills), number(waves)) else {
            continue;
        };
        // Where a binding is writable since another writes to its buffer, the figures are the same but for a few bytes of code.
        let shader = cells[0].split(", binding").next().unwrap_or_default();
        known.insert(shader.to_string(), Compiled { chip: chip.into(), registers, spills, waves });
    }
    Ok(known)
}

impl Profile {
    /// Adds to each kernel what is known of its largest dispatch's shader. Returns of how many of the kernels anything is.
    pub fn add_compiled(&mut self, known: &HashMap<String, Compiled>) -> usize {
        for kernel in &mut self.kernels {
            kernel.compiled = known.get(&kernel.shader).cloned();
        }
        self.kernels.iter().filter(|kernel| kernel.compiled.is_some()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;

    #[test]
    fn registers_and_waves_come_from_the_table() {
        let mut profile = fixtures::profile(&[("gemm", "gemm NN 1x1x1", &[1.0]), ("add", "add 5", &[1.0])]);
        profile.kernels[0].shader = "gemm.wgsl `tiled` START=0".into();
        profile.kernels[1].shader = "add.wgsl `main` S=f16".into();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("table.tsv");
        let table = "# Null hardware\nshader\ta vgprs\ta spills\ta waves\tb vgprs\tb spills\tb waves\n\
                     gemm.wgsl `tiled` START=0, binding 4 writable\t24\t0\t10\t32\t1\t16\n\
                     gemm.wgsl `tiled` START=1\t9\t9\t9\t9\t9\t9\n";
        std::fs::write(&file, table).unwrap();
        assert_eq!(profile.add_compiled(&compiled(&file, "b").unwrap()), 1);
        assert_eq!(
            profile.kernels[0].compiled,
            Some(Compiled { chip: "b".into(), registers: 32, spills: 1, waves: 16 })
        );
        assert_eq!(profile.kernels[1].compiled, None);
        let error = compiled(&file, "c").unwrap_err();
        assert!(error.what.contains("no chip `c`") && error.remedy.contains('a'), "{error:?}");
        std::fs::write(&file, "a,b\n").unwrap();
        assert!(compiled(&file, "a").unwrap_err().what.contains("is no table"));
    }

    /// That the names here are those of the committed table.
    #[test]
    fn the_committed_table_is_read() {
        let mut profile = fixtures::profile(&[("add", "add 5", &[1.0])]);
        profile.kernels[0].shader = "add.wgsl `main` S=f32".into();
        let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/isa/table.tsv");
        assert_eq!(profile.add_compiled(&compiled(&table, "navi21").unwrap()), 1);
    }
}
