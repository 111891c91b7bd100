//! Names of files, composers and genres: when two of them are one.

use std::ffi::OsStr;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// `name` as text. Bytes that are no UTF-8 are escaped, as in `Dvo\xF8\xE1k`, so that two names stay two.
pub(super) fn text(name: &OsStr) -> String {
    let mut text = String::new();
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02X}")));
    }
    text
}

/// Unicode's composed normal form (NFC): systems differ in whether an accent is a part of its letter, and no reader sees it.
pub(super) fn composed(name: &str) -> String {
    name.nfc().collect()
}

/// What is left of `name` without case and accents: names that agree in it may well be one.
pub(super) fn folded(name: &str) -> String {
    name.nfd().filter(|&letter| !is_combining_mark(letter)).collect::<String>().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let (one, two) = ("Dvo\u{159}\u{e1}k", "Dvor\u{30c}a\u{301}k");
        assert!(one != two && composed(one) == composed(two));
        assert_eq!(folded(one), "dvorak");
        assert_eq!(folded("DVORAK"), "dvorak");
    }

    #[cfg(unix)]
    #[test]
    fn bytes_that_are_no_text() {
        use std::os::unix::ffi::OsStrExt;
        assert_eq!(text(OsStr::from_bytes(b"Dvo\xf8\xe1k")), r"Dvo\xF8\xE1k");
        assert_eq!(text(OsStr::new("Dvo\u{159}\u{e1}k")), "Dvo\u{159}\u{e1}k");
    }
}
