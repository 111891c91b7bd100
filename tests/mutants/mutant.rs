//! A kernel broken on purpose: one place of a shader's text that says something else.

use deepj::gpu::{COMMON, Dispatch, Shader};

/// A kernel broken by hand.
pub struct Mutant {
    /// `file/entry`: the entry point of `shaders/<file>.wgsl` that runs the broken text; others keep theirs.
    pub kernel: &'static str,
    /// What is wrong with it.
    pub what: &'static str,
    find: &'static str,
    replace: &'static str,
    /// The name of a case that must fail with it.
    pub case: &'static str,
}

/// A mutant of `kernel` that has `replace` where `find` stands, once, in the shader's own text or else in the common one.
pub const fn mutant(
    kernel: &'static str,
    what: &'static str,
    find: &'static str,
    replace: &'static str,
    case: &'static str,
) -> Mutant {
    Mutant { kernel, what, find, replace, case }
}

impl Mutant {
    /// The broken text of a shader.
    ///
    /// # Errors
    /// A place that does not exist, or more than one.
    pub fn text(&self, source: &str) -> Result<String, String> {
        let text = if source.contains(self.find) { source.into() } else { with_common(source) };
        match text.matches(self.find).count() {
            1 => Ok(text.replacen(self.find, self.replace, 1)),
            count => Err(format!("{}: {}: {count} places in its shader read `{}`", self.kernel, self.what, self.find)),
        }
    }
}

/// A broken text in the place of a kernel's own.
#[derive(Clone, Copy)]
pub struct Broken {
    file: &'static str,
    entry: &'static str,
    text: &'static str,
}

impl Broken {
    /// `text` for the kernel of this shader. It stays for as long as the program runs, as shaders' texts do.
    pub fn new(shader: &Shader, text: String) -> Self {
        Self { file: shader.op, entry: shader.entry, text: text.leak() }
    }

    fn is_of(&self, shader: &Shader) -> bool {
        (shader.op, shader.entry) == (self.file, self.entry)
    }

    /// What is compiled of a shader of the kernel.
    fn wgsl(&self, shader: &Shader) -> Result<String, String> {
        Shader { source: self.text, ..shader.clone() }.wgsl().map_err(|error| error.to_string())
    }

    /// Puts the broken text into a dispatch, if it is of the kernel.
    pub fn put(&self, dispatch: &mut Dispatch) {
        if self.is_of(&dispatch.shader) {
            dispatch.shader.source = self.text;
        }
    }

    /// Whether a shader says something else with it: a line may be left out by a constant.
    pub fn changes(&self, shader: &Shader) -> bool {
        self.is_of(shader) && self.wgsl(shader).ok() != shader.wgsl().ok()
    }

    /// Whether a shader of the kernel is still one.
    ///
    /// # Errors
    /// What naga has against it.
    pub fn validate(&self, shader: &Shader) -> Result<(), String> {
        let text = self.wgsl(shader)?;
        let module = naga::front::wgsl::parse_str(&text).map_err(|error| error.emit_to_string(&text))?;
        let mut validator =
            naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::all());
        validator.validate(&module).map(|_| ()).map_err(|error| error.emit_to_string(&text))
    }
}

/// What the names of the common text have behind them where a shader has a copy of its own.
pub const OWN: &str = "_own";

/// A shader's text with a copy of the common text that can be broken for it alone. The preprocessor puts the common text
/// behind it once more, so the copy has other names.
pub fn with_common(source: &str) -> String {
    let name = |line: &'static str| {
        let declared = line.strip_prefix("fn ").or(line.strip_prefix("struct "))?;
        words(declared).next().map(|(_, name)| name)
    };
    let names: Vec<&str> = COMMON.lines().filter_map(name).collect();
    let text = format!("{source}\n{COMMON}");
    let mut renamed = String::with_capacity(2 * text.len());
    let mut end = 0;
    for (start, word) in words(&text) {
        renamed.push_str(&text[end..start]);
        renamed.push_str(word);
        if names.contains(&word) {
            renamed.push_str(OWN);
        }
        end = start + word.len();
    }
    renamed + &text[end..]
}

/// The names, keywords and numbers of a text, with their places.
pub fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut rest = 0;
    std::iter::from_fn(move || {
        let start = rest + text[rest..].find(is_part)?;
        let word = text[start..].split(|c| !is_part(c)).next()?;
        rest = start + word.len();
        Some((start, word))
    })
}
