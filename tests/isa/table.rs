//! The table of all kernels, `table.tsv`: what the compiler made of each for each chip.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::driver::Compiled;

/// What a kernel takes of a chip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Taken {
    /// Vector registers of a lane.
    pub vgprs: u64,
    /// Scalar registers.
    pub sgprs: u64,
    /// Registers that were spilled to memory, of both kinds.
    pub spills: u64,
    /// Bytes of private memory.
    pub scratch: u64,
    /// Bytes of workgroup memory.
    pub lds: u64,
    /// Waves that a SIMD holds at once.
    pub waves: u64,
    /// Bytes of machine code.
    pub code: u64,
}

impl Taken {
    /// Of RADV's statistics.
    ///
    /// # Errors
    /// One that is missing.
    pub fn of(compiled: &Compiled) -> Result<Self, String> {
        let of = |name: &str| {
            let found = compiled.statistics.get(name).copied();
            found.ok_or_else(|| format!("the driver has no `{name}`, but {:?}", compiled.statistics.keys()))
        };
        Ok(Self {
            vgprs: of("VGPRs")?,
            sgprs: of("SGPRs")?,
            spills: of("Spilled VGPRs")? + of("Spilled SGPRs")?,
            scratch: of("Scratch size")?,
            lds: of("LDS size")?,
            waves: of("Subgroups per SIMD")?,
            code: of("Code size")?,
        })
    }

    fn fields(&self) -> [u64; FIELDS.len()] {
        let Self { vgprs, sgprs, spills, scratch, lds, waves, code } = *self;
        [vgprs, sgprs, spills, scratch, lds, waves, code]
    }
}

const FIELDS: [&str; 7] = ["vgprs", "sgprs", "spills", "scratch", "lds", "waves", "code"];

/// By shader, then by chip.
pub type Table = BTreeMap<String, BTreeMap<&'static str, Taken>>;

/// The text of the file. `made_by` is the driver with its version.
pub fn written(table: &Table, chips: &[&'static str], made_by: &str) -> String {
    let heads = chips.iter().flat_map(|chip| FIELDS.map(|field| format!("{chip} {field}")));
    let heads: Vec<String> = std::iter::once("shader".into()).chain(heads).collect();
    let mut text = format!("# {made_by}\n{}\n", heads.join("\t"));
    for (shader, of) in table {
        let fields = chips.iter().flat_map(|chip| match of.get(chip) {
            Some(taken) => taken.fields().map(|field| field.to_string()),
            None => FIELDS.map(|_| "-".to_string()),
        });
        let row: Vec<String> = std::iter::once(shader.clone()).chain(fields).collect();
        text += &(row.join("\t") + "\n");
    }
    text
}

/// The lines in which two texts of the table differ: gone, changed and new ones.
pub fn differences(before: &str, now: &str) -> Vec<String> {
    let rows = |text: &str| -> BTreeMap<String, String> {
        let split = |line: &str| line.split_once('\t').map(|(name, rest)| (name.to_string(), rest.to_string()));
        text.lines().filter(|line| !line.starts_with('#')).filter_map(split).collect()
    };
    let (before, now) = (rows(before), rows(now));
    let names: std::collections::BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let of = |name: &String| match (before.get(name), now.get(name)) {
        (Some(before), Some(now)) if before == now => None,
        (Some(before), Some(now)) => Some(format!("{name}\n  was {before}\n  is  {now}")),
        (Some(_), None) => Some(format!("{name}\n  is no more")),
        (None, _) => Some(format!("{name}\n  is new")),
    };
    names.into_iter().filter_map(of).collect()
}
