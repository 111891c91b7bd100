//! Names of files, composers and genres: when two of them are one.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

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
}
