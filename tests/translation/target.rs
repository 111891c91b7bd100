//! What every target has: ways to translate, and a compiler that says whether a translation is right.

use std::fmt;

use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};

use crate::shaders::Variant;

/// A translation, with all that its compiler is told.
#[derive(Clone, Debug)]
pub struct Unit {
    /// The shader, and for what it was translated.
    pub name: String,
    /// What the compiler reads.
    pub source: Vec<u8>,
    /// The entry point's name in it.
    pub entry: String,
    /// What else the compiler must know, such as a version.
    pub setting: &'static str,
}

/// A program, or library, that accepts or refuses translations.
pub struct Compiler {
    /// As `DEEPJ_REQUIRE_COMPILERS` names it.
    pub name: &'static str,
    /// How to get it.
    pub install: &'static str,
}

impl Unit {
    /// A text with the entry point `main`.
    pub fn text(name: &str, source: &str, setting: &'static str) -> Self {
        Self { name: name.into(), source: source.into(), entry: "main".into(), setting }
    }
}

/// What a compiler said of a translation.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Accepted,
    /// It is right but for a finding that is known, named here.
    Known(&'static str),
    /// The compiler's message.
    Refused(String),
}

/// A language that wgpu hands to a driver, with its compiler.
pub trait Target: Send + Sync {
    /// The language.
    fn name(&self) -> &'static str;

    /// Its compiler.
    fn compiler(&self) -> Compiler;

    /// The compiler's version, where it is here.
    fn version(&self) -> Option<String>;

    /// Why no device of this language takes the shader, if so.
    fn inapplicable(&self, variant: &Variant) -> Option<&'static str>;

    /// The translations that devices of different kinds and wgpu's checked and trusted shaders get.
    ///
    /// # Errors
    /// What naga says.
    fn translate(&self, variant: &Variant) -> Result<Vec<Unit>, String>;

    /// Asks the compiler, all together, since starting one takes longer than compiling.
    ///
    /// # Errors
    /// A compiler that cannot be run.
    fn compile(&self, units: &[Unit]) -> Result<Vec<Verdict>, String>;

    /// Mistakes of naga that are known, each of which some translation must have.
    fn known(&self) -> &'static [Finding] {
        &[]
    }

    /// Translations with a mistake each, and a part of the message that must come of it.
    ///
    /// # Errors
    /// One that cannot be made.
    fn broken(&self) -> Result<Vec<(Unit, &'static str)>, String>;
}

/// A mistake that naga is known for.
pub struct Finding {
    pub name: &'static str,
    /// What the compiler says of it.
    pub message: &'static str,
    /// Where it is reported.
    pub link: &'static str,
}

/// wgpu's run-time checks of a shader, as `create_shader_module` and `create_shader_module_trusted` set them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checks {
    Checked,
    Trusted,
}

impl Checks {
    pub const BOTH: [Self; 2] = [Self::Checked, Self::Trusted];

    pub fn checked(self) -> bool {
        self == Self::Checked
    }

    /// Indices are clamped, or not looked at.
    pub fn policies(self) -> BoundsCheckPolicies {
        let policy = if self.checked() { BoundsCheckPolicy::Restrict } else { BoundsCheckPolicy::Unchecked };
        BoundsCheckPolicies { index: policy, buffer: policy, image_load: policy, binding_array: Default::default() }
    }
}

impl fmt::Display for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.checked() { "checked" } else { "trusted" })
    }
}
