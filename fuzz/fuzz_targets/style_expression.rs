//! Style expressions: what is read is a point in the simplex of styles at every place of a piece, and what is refused is told how
//! to be written.

#![no_main]

use std::sync::LazyLock;

use deepj::music::{Composer, StylePath, Styles};
use deepj_fuzz::within;
use libfuzzer_sys::fuzz_target;

/// A composer in two genres, a composer named as a genre, names in other letter case and with accents.
static STYLES: LazyLock<Styles> = LazyLock::new(|| {
    let names = [
        ("baroque", "bach"),
        ("baroque", "handel"),
        ("baroque", "scarlatti"),
        ("classical", "brahms"),
        ("romantic", "brahms"),
        ("romantic", "Dvořák"),
        ("romantic", "baroque"),
        ("Romantic", "Bach"),
    ];
    let composer = |(genre, name): (&str, &str)| Composer { genre: genre.into(), name: name.into() };
    Styles::new(names.map(composer).into()).unwrap()
});

fuzz_target!(|text: &str| {
    let styles = &*STYLES;
    let most = 1024 * text.len() + (1 << 16);
    let path = match within(most, || StylePath::parse(text, styles)) {
        Ok((path, _)) => path,
        Err(e) => return assert!(!e.remedy.is_empty(), "{e}"),
    };
    for f in [-1.0, 0.0, 1e-300, 0.3, 0.5, 0.999, 1.0, f64::INFINITY, f64::NAN] {
        let style = path.at(f);
        assert_eq!(style.len(), styles.len());
        assert!(style.iter().all(|weight| (0.0..=1.0).contains(weight)), "{style:?} at {f}");
        let sum: f32 = style.iter().sum();
        assert!((sum - 1.0).abs() < 1e-5, "{style:?} at {f} sums to {sum}");
    }
    if path.is_constant() {
        assert_eq!(path.at(0.0), path.at(1.0));
    }
});
