//! The words of a line that a document shows, as a shell splits it.

/// A word.
#[derive(Clone, Debug, PartialEq)]
pub struct Word {
    /// Without its quotes.
    pub text: String,
    /// Whether the shell sees it as it stands: with no quotes, so that `*` and `|` mean something.
    pub bare: bool,
}

impl Word {
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        let plain = |c: char| c.is_alphanumeric() || "-_=./,:+".contains(c);
        Self { bare: !text.is_empty() && text.chars().all(plain), text }
    }

    /// How it is written for a shell.
    pub fn quoted(&self) -> String {
        if self.bare { self.text.clone() } else { format!("'{}'", self.text.replace('\'', r"'\''")) }
    }
}

/// Splits a line at its blanks. A `#` that begins a word begins a comment.
///
/// # Errors
/// A quote is open at the end.
pub fn split(line: &str) -> Result<Vec<Word>, String> {
    let mut words = vec![];
    let (mut word, mut quote) = (None::<Word>, None);
    for c in line.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => word.get_or_insert_with(|| Word::new("")).text.push(c),
            None if c == '#' && word.is_none() => break,
            None if c.is_whitespace() => words.extend(word.take()),
            None => {
                let word = word.get_or_insert_with(|| Word { text: String::new(), bare: true });
                match c {
                    '"' | '\'' => {
                        quote = Some(c);
                        word.bare = false;
                    }
                    _ => word.text.push(c),
                }
            }
        }
    }
    if quote.is_some() {
        return Err(format!("a quote is open at the end of: {line}"));
    }
    words.extend(word);
    Ok(words)
}

/// The line of these words.
pub fn join(words: &[Word]) -> String {
    words.iter().map(Word::quoted).collect::<Vec<_>>().join(" ")
}

/// How many words in front set variables, as in `DEEPJ_QUICK=1 cargo test`.
pub fn settings(words: &[Word]) -> usize {
    let is_setting = |word: &Word| {
        let name = word.text.split_once('=').map_or("", |(name, _)| name);
        word.bare && !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_' || c.is_ascii_digit())
    };
    words.iter().take_while(|word| is_setting(word)).count()
}
