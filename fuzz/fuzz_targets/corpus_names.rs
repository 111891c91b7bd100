//! Names of a corpus's files, a line each: every file is a piece of its composer, whom a style expression can name, and the order
//! in which files are found does not matter.

#![no_main]

use std::sync::LazyLock;

use deepj::music::roll::RollNote;
use deepj::music::{Composer, Corpus, CorpusOptions, NoteRange, Roll, StylePath, Styles};
use libfuzzer_sys::fuzz_target;

static PIECE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let note = RollNote { pitch: 60, velocity: 80, start: 0, end: 4, replay: false };
    Roll::from_notes(NoteRange::default(), [note]).unwrap().to_midi(100.0).unwrap()
});

fuzz_target!(|names: &str| {
    let mut files: Vec<(&str, &[u8])> = names.lines().take(16).map(|name| (name, &PIECE[..])).collect();
    let corpus = match Corpus::from_files("corpus", &files, &CorpusOptions::default()) {
        Ok(corpus) => corpus,
        Err(e) => return assert!(!e.remedy.is_empty(), "{e}"),
    };
    assert_eq!(corpus.pieces.len(), files.len());
    for piece in &corpus.pieces {
        let parts: Vec<&str> = piece.name.splitn(3, '/').collect();
        let composer = Composer { genre: parts[0].into(), name: parts[1].into() };
        assert_eq!(corpus.styles.index(&composer), Some(piece.style), "{}", piece.name);
    }
    for i in 0..corpus.styles.len() {
        let label = corpus.styles.label(i);
        let (path, _) = StylePath::parse(&label, &corpus.styles).unwrap();
        let expected: Vec<f32> = (0..corpus.styles.len()).map(|j| f32::from(u8::from(i == j))).collect();
        assert_eq!(path.at(0.0), expected, "{label}");
    }
    for genre in corpus.styles.genres() {
        StylePath::parse(genre, &corpus.styles).unwrap();
    }
    let json = serde_json::to_string(&corpus.styles).unwrap();
    assert_eq!(serde_json::from_str::<Styles>(&json).unwrap(), corpus.styles);

    files.reverse();
    let reversed = Corpus::from_files("corpus", &files, &CorpusOptions::default()).unwrap();
    assert_eq!(reversed.fingerprint(), corpus.fingerprint());
});
