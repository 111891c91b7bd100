//! What a dispatch of a shader is made of: plain data, which needs no driver.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use parking_lot::Mutex;
use serde::Serialize;

use super::Cost;
use crate::error::{Error, Kind, Result};

/// The functions that every shader may use: `shaders/common.wgsl`.
pub const COMMON: &str = include_str!("../../shaders/common.wgsl");

/// What a shader does to a bound buffer; `Read` is `var<storage, read>`, `ReadWrite` is `var<storage, read_write>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    Read,
    ReadWrite,
}

/// How the elements of a buffer are stored. Kernels compute in f32 whatever the format.
///
/// # Examples
///
/// ```
/// use deepj::prelude::*;
///
/// assert_eq!([Format::F32, Format::F16].map(Format::bytes), [4, 2]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// IEEE 754 binary32.
    #[default]
    F32,
    /// IEEE 754 binary16; needs `shader_f16`.
    F16,
}

impl Format {
    /// Bytes of an element.
    pub const fn bytes(self) -> u64 {
        match self {
            Format::F32 => 4,
            Format::F16 => 2,
        }
    }

    /// The type's name in WGSL, and in listings.
    pub const fn name(self) -> &'static str {
        match self {
            Format::F32 => "f32",
            Format::F16 => "f16",
        }
    }

    /// Elements between supported starts of a binding: 256 bytes, the largest alignment that a device may ask for.
    pub const fn alignment(self) -> u64 {
        256 / self.bytes()
    }
}

/// One entry point of an op's WGSL text, with the values of its compile-time constants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shader {
    /// The op's name; its text is `shaders/<op>.wgsl`.
    pub op: &'static str,
    /// The text of the op's own file, as it was compiled in, or from the folder which [`SHADERS`] names.
    pub source: &'static str,
    /// The entry point's name in `source`.
    pub entry: &'static str,
    /// Values for `const NAME: u32 = …u;` declarations of `source`.
    pub consts: Vec<(&'static str, u32)>,
    /// Element types for `alias NAME = f32;` declarations of `source`.
    pub types: Vec<(&'static str, Format)>,
}

impl Shader {
    /// The text to compile: `source` with its constants and types put in, then [`COMMON`]. A line that ends in `// if NAME`
    /// is left out where the constant of that name is 0, one that ends in `// unless NAME` where it is not: for what no
    /// condition of WGSL can choose, such as the type of a binding. Line numbers stay the same.
    ///
    /// # Errors
    /// A name in `consts` that `source` does not declare on a line of its own as `const NAME: u32 = <digits>u;`, or one in
    /// `types` that it does not declare as `alias NAME = f32;`; a file in the folder which [`SHADERS`] names that cannot be read.
    pub fn wgsl(&self) -> Result<String> {
        let (source, common) = (self.source, shader_text!("common"));
        let texts = TEXTS.lock();
        if let Some(what) = [self.op, "common"].iter().find_map(|name| texts.get(name)?.as_ref().err()) {
            let remedy = format!("{SHADERS} names the project's folder `shaders`, or a copy of it");
            return Err(Error::new(Kind::File, what, remedy));
        }
        drop(texts);
        let mut found = vec![false; self.consts.len()];
        let mut aliased = vec![false; self.types.len()];
        let mut text = String::with_capacity(source.len() + common.len() + 16);
        if self.types.iter().any(|(_, format)| *format == Format::F16) {
            text.push_str("enable f16; ");
        }
        for line in source.lines() {
            if condition(line).is_some_and(|(name, wanted)| (self.value(source, name) != 0) != wanted) {
                text.push('\n');
                continue;
            }
            if let Some(name) = line.strip_prefix("alias ").and_then(|rest| rest.strip_suffix(" = f32;"))
                && let Some(i) = self.types.iter().position(|(wanted, _)| *wanted == name)
            {
                aliased[i] = true;
                text.push_str(&format!("alias {name} = {};\n", self.types[i].1.name()));
                continue;
            }
            let declared = constant_declaration(line)
                .and_then(|(name, digits)| Some((self.consts.iter().position(|(wanted, _)| *wanted == name)?, digits)));
            match declared {
                Some((i, digits)) => {
                    found[i] = true;
                    text.push_str(&line[..digits.start]);
                    text.push_str(&self.consts[i].1.to_string());
                    text.push_str(&line[digits.end..]);
                }
                None => text.push_str(line),
            }
            text.push('\n');
        }
        if let Some(missing) = found.iter().position(|found| !found) {
            let name = self.consts[missing].0;
            return Err(Error::device(
                format!("shaders/{}.wgsl declares no constant `{name}`, which its op sets", self.op),
                format!("it needs a line of the form `const {name}: u32 = 1u;`"),
            ));
        }
        if let Some(missing) = aliased.iter().position(|aliased| !aliased) {
            let name = self.types[missing].0;
            return Err(Error::device(
                format!("shaders/{}.wgsl declares no type `{name}`, which its op sets", self.op),
                format!("it needs a line of the form `alias {name} = f32;`"),
            ));
        }
        text.push_str(common);
        Ok(text)
    }

    /// File, entry point, constants and types: ``gemm.wgsl `tiled` START=0 StoredA=f32``.
    pub fn name(&self) -> String {
        let consts = self.consts.iter().map(|(name, value)| format!(" {name}={value}"));
        let types = self.types.iter().map(|(name, format)| format!(" {name}={}", format.name()));
        let told: String = consts.chain(types).collect();
        format!("{}.wgsl `{}`{told}", self.op, self.entry)
    }

    /// The value of a constant: as set, else as `source` declares it, else 0.
    fn value(&self, source: &str, name: &str) -> u32 {
        let set = self.consts.iter().find(|(wanted, _)| *wanted == name).map(|(_, value)| *value);
        let declared = || {
            source.lines().find_map(|line| {
                let (found, digits) = constant_declaration(line)?;
                if found == name { line[digits].parse().ok() } else { None }
            })
        };
        set.or_else(declared).unwrap_or_default()
    }
}

/// The variable that names a folder from which shaders are read instead of the program, for those who change them: a changed file
/// needs no build.
pub const SHADERS: &str = "DEEPJ_SHADERS";

/// The folder that [`SHADERS`] names, if it does.
pub fn shaders_folder() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let named = || std::env::var_os(SHADERS).filter(|folder| !folder.is_empty()).map(PathBuf::from);
    FOLDER.get_or_init(named).as_deref()
}

/// These files of the folder, one after the other.
fn read(folder: &Path, files: &[&str]) -> std::result::Result<String, String> {
    let text = |name: &&str| {
        let path = folder.join(format!("{name}.wgsl"));
        std::fs::read_to_string(&path).map_err(|e| format!("{}: cannot be read ({e})", path.display()))
    };
    files.iter().map(text).collect()
}

/// A text that was read, or what was wrong with its file.
type Text = std::result::Result<&'static str, String>;

/// The texts that were read from the folder which [`SHADERS`] names, by their first files.
static TEXTS: Mutex<BTreeMap<&str, Text>> = Mutex::new(BTreeMap::new());

/// The text of a shader that these files of `shaders/` make, one after the other.
macro_rules! shader_text {
    ($($file:literal),+) => {
        $crate::gpu::text_of(
            &[$($file),+],
            concat!($(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $file, ".wgsl"))),+),
        )
    };
}
pub(crate) use shader_text;

/// The text of these files: `built_in`, or that of the folder which [`SHADERS`] names, read once. Of one that cannot be read it is
/// `built_in` until it is compiled, which fails ([`Shader::wgsl`]).
pub(crate) fn text_of(files: &'static [&'static str], built_in: &'static str) -> &'static str {
    let Some(folder) = shaders_folder() else { return built_in };
    let mut texts = TEXTS.lock();
    let read = || read(folder, files).map(|text| &*text.leak());
    let text = texts.entry(files[0]).or_insert_with(read);
    text.as_ref().map_or(built_in, |text| text)
}

/// The constant on which a line depends, and whether it is kept where that is not 0.
fn condition(line: &str) -> Option<(&str, bool)> {
    let (_, comment) = line.rsplit_once("// ")?;
    let (word, name) = comment.split_once(' ')?;
    let is_constant = name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    match word {
        "if" if is_constant => Some((name, true)),
        "unless" if is_constant => Some((name, false)),
        _ => None,
    }
}

/// The name and the place of the digits in a line `const NAME: u32 = <digits>u;`.
fn constant_declaration(line: &str) -> Option<(&str, std::ops::Range<usize>)> {
    let (name, value) = line.trim_start().strip_prefix("const ")?.split_once(": u32 = ")?;
    let digits = value.len() - value.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let rest = &value[digits..];
    let start = line.len() - value.len();
    (digits > 0 && rest.starts_with("u;")).then_some((name.trim(), start..start + digits))
}

/// `text` with every storage buffer at `@binding(binding)` declared `read_write` instead of `read`; `None` where there is
/// none.
pub fn with_writable(text: &str, binding: usize) -> Option<String> {
    let place = format!("@group(0) @binding({binding}) var<storage, read>");
    let writable = format!("@group(0) @binding({binding}) var<storage, read_write>");
    text.contains(&place).then(|| text.replace(&place, &writable))
}

/// A range of one of the op's operands, bound as a storage buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Binding {
    /// Which operand of the op.
    pub arg: usize,
    pub access: Access,
    /// How the operand's elements are stored.
    pub format: Format,
    /// First element, a multiple of [`Format::alignment`].
    pub start: u64,
    /// Elements, more than 0.
    pub len: u64,
}

impl Binding {
    /// First byte and number of bytes: whole words, as WebGPU demands, so with f16 it may take in one element more.
    pub fn bytes(&self) -> (u64, u64) {
        let size = self.format.bytes();
        (self.start.saturating_mul(size), self.len.saturating_mul(size).saturating_add(3) & !3)
    }
}

/// One run of a shader.
///
/// In WGSL the op's parameters are `@group(0) @binding(0) var<uniform> p: Params;`, the storage buffers follow at
/// `@group(0) @binding(1)` and up in the order of `bindings`, and the uniforms are
/// `@group(1) @binding(0) var<uniform> uniforms: Uniforms;`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Dispatch {
    pub shader: Shader,
    pub bindings: Vec<Binding>,
    /// The words of `Params`: u32, or f32 by its bits. Fixed when the program is built.
    pub params: Vec<u32>,
    /// Workgroups in x, y, z. A zero leaves the dispatch out.
    pub grid: [u32; 3],
    /// Whether the shader reads the uniforms.
    pub uses_uniforms: bool,
    /// What it costs; zero where no watchdog could notice it.
    pub cost: Cost,
}

impl Dispatch {
    /// How messages name it.
    pub(super) fn name(&self) -> String {
        let folder = shaders_folder().unwrap_or(Path::new("shaders")).display();
        format!("{folder}/{}.wgsl, `{}`", self.shader.op, self.shader.entry)
    }

    /// The size of its uniform block in bytes: its words, padded to 16 bytes.
    pub(super) fn params_size(&self) -> u64 {
        (self.params.len() as u64 * 4).next_multiple_of(16).max(16)
    }

    /// Workgroups in all.
    pub fn groups(&self) -> u64 {
        self.grid.iter().map(|&groups| u64::from(groups)).fold(1, u64::saturating_mul)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "// tile\nconst TILE: u32 = 16u; // rows\nconst TILES: u32 = TILE * 2u;\nconst N: u32 = 4u;\n";

    fn shader(consts: Vec<(&'static str, u32)>) -> Shader {
        Shader { op: "example", source: SOURCE, entry: "main", consts, types: vec![] }
    }

    /// What is read where a folder is named is what the program holds.
    #[test]
    fn files_are_read_one_after_the_other() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
        assert_eq!(read(&folder, &["gemm_subgroup", "gemm"]).unwrap(), shader_text!("gemm_subgroup", "gemm"));
        assert_eq!(read(&folder, &["common"]).unwrap(), COMMON);
        assert!(read(&folder, &["nothing"]).unwrap_err().contains("nothing.wgsl"));
    }

    #[test]
    fn constants_are_replaced_where_they_are_declared() {
        let text = shader(vec![("N", 7), ("TILE", 32)]).wgsl().unwrap();
        let expected = "// tile\nconst TILE: u32 = 32u; // rows\nconst TILES: u32 = TILE * 2u;\nconst N: u32 = 7u;\n";
        assert_eq!(text, format!("{expected}{COMMON}"));
    }

    #[test]
    fn lines_stay_or_go_by_their_constant_and_keep_their_numbers() {
        const SOURCE: &str = "const WIDE: u32 = 0u;\na; // if WIDE\nb; // [m] // unless WIDE\nc; // if it is wide\n";
        let text =
            |consts| Shader { op: "example", source: SOURCE, entry: "main", consts, types: vec![] }.wgsl().unwrap();
        let declared = "const WIDE: u32 = 0u;\n\nb; // [m] // unless WIDE\nc; // if it is wide\n";
        assert_eq!(text(vec![]), format!("{declared}{COMMON}"));
        let set = "const WIDE: u32 = 2u;\na; // if WIDE\n\nc; // if it is wide\n";
        assert_eq!(text(vec![("WIDE", 2)]), format!("{set}{COMMON}"));
    }

    #[test]
    fn an_undeclared_constant_is_an_error_that_names_shader_and_constant() {
        // TILES is declared, but by an expression, which the preprocessor must not lose.
        for name in ["M", "TILES"] {
            let error = shader(vec![(name, 1)]).wgsl().unwrap_err().to_string();
            assert!(error.contains("shaders/example.wgsl") && error.contains(name), "{error}");
        }
    }

    #[test]
    fn types_are_replaced_where_they_are_declared() {
        let source = "// tile\nalias S = f32;\nalias T = f32;\n";
        let shader = |types| Shader { op: "example", source, entry: "main", consts: vec![], types };
        let text = shader(vec![("S", Format::F16), ("T", Format::F32)]).wgsl().unwrap();
        assert_eq!(text, format!("enable f16; // tile\nalias S = f16;\nalias T = f32;\n{COMMON}"));
        naga::front::wgsl::parse_str(&text).unwrap_or_else(|error| panic!("{}", error.emit_to_string(&text)));
        assert_eq!(shader(vec![("S", Format::F32)]).wgsl().unwrap(), format!("{source}{COMMON}"));
        let error = shader(vec![("U", Format::F16)]).wgsl().unwrap_err().to_string();
        assert!(error.contains("shaders/example.wgsl") && error.contains("`U`"), "{error}");
    }

    #[test]
    fn the_common_text_parses_by_itself() {
        naga::front::wgsl::parse_str(COMMON).unwrap_or_else(|error| panic!("{}", error.emit_to_string(COMMON)));
    }
}
