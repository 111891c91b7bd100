//! Names of files, composers and genres: when two of them are one.

#[cfg(not(target_arch = "wasm32"))]
use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

/// Unicode's composed normal form (NFC): systems differ in whether an accent is a part of its letter, and no reader sees it.
pub(super) fn composed(name: &str) -> String {
    #[cfg(not(target_arch = "wasm32"))]
    return name.nfc().collect();
    // Browsers have the tables.
    #[cfg(target_arch = "wasm32")]
    return js_sys::JsString::from(name).normalize("NFC").into();
}

/// What is left of `name` without case and accents: names that agree in it may well be one.
pub(super) fn folded(name: &str) -> String {
    #[cfg(not(target_arch = "wasm32"))]
    let letters = name.nfd().filter(|&letter| !is_combining_mark(letter));
    #[cfg(target_arch = "wasm32")]
    let apart = String::from(js_sys::JsString::from(name).normalize("NFD"));
    // The accents of names; Unicode has more marks, in other blocks.
    #[cfg(target_arch = "wasm32")]
    let letters = apart.chars().filter(|letter| !('\u{300}'..='\u{36f}').contains(letter));
    letters.collect::<String>().to_lowercase()
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
