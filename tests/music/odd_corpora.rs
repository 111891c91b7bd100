//! Folders that hold more than a corpus, names that may be one, and pieces that are.

use std::path::Path;

use deepj::music::{Corpus, CorpusOptions, Part, StylePath};

use super::corpus::folder;
use super::file::{midi, track};

/// A piece of quarter notes with these pitches and a velocity, `rest` ticks after its beginning.
fn piece(pitches: &[u8], velocity: u8, rest: u32) -> Vec<u8> {
    let bytes: Vec<[[u8; 3]; 2]> = pitches.iter().map(|&pitch| [[0x90, pitch, velocity], [0x80, pitch, 0]]).collect();
    let events = bytes.iter().flat_map(|[on, off]| [(0, on.as_slice()), (480, off.as_slice())]);
    let mut events: Vec<(u32, &[u8])> = events.collect();
    events[0].0 = rest;
    midi(0, 480, &[track(&events, 0)])
}

/// A piece unlike any other with another number.
fn nth(n: u8) -> Vec<u8> {
    piece(&[60, 61 + n % 12, 60 + n / 12], 64, 0)
}

fn read(dir: &Path) -> Corpus {
    Corpus::read(dir, &CorpusOptions::default()).unwrap()
}

/// Names of what was skipped, with the reasons.
fn skipped(corpus: &Corpus) -> Vec<(&str, &str)> {
    corpus.report.skipped.iter().map(|skipped| (skipped.file.as_str(), skipped.reason.as_str())).collect()
}

#[test]
fn folders_that_are_no_genre() {
    let (good, text): (_, &[u8]) = (nth(0), b"text");
    let dir = folder(&[
        ("baroque/bach/a.mid", &good),
        ("baroque/docs/notes.txt", text),
        ("__MACOSX/baroque/bach/._a.mid", text),
        ("docs/index.html", text),
        ("flat/a.mid", &good),
    ]);
    for empty in ["lost+found", "empty", "romantic/chopin"] {
        std::fs::create_dir_all(dir.path().join(empty)).unwrap();
    }
    let corpus = read(dir.path());
    assert_eq!(corpus.pieces.len(), 1);
    let composer = "is a composer without a MIDI file";
    let genre = "is a genre without a composer's folder";
    assert_eq!(
        skipped(&corpus),
        [
            ("__MACOSX/baroque", composer),
            ("baroque/docs", composer),
            ("docs", genre),
            ("empty", genre),
            ("flat", "is a genre without a composer's folder, but with 1 MIDI files of its own"),
            ("lost+found", genre),
            ("romantic/chopin", composer),
        ]
    );
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_read() {
    use std::os::unix::fs::PermissionsExt;
    let dir = folder(&[("g/c/a.mid", &nth(0)), ("h/d/a.mid", &nth(1))]);
    let closed = dir.path().join("h");
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o0)).unwrap();
    let unreadable = std::fs::read_dir(&closed).is_err(); // but for the superuser
    let corpus = read(dir.path());
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o755)).unwrap();
    if unreadable {
        assert!(
            skipped(&corpus)[0].0 == "h" && skipped(&corpus)[0].1.starts_with("cannot be read"),
            "{:?}",
            skipped(&corpus)
        );
    }
}

#[test]
fn files_are_recognised_by_content() {
    let bytes: Vec<Vec<u8>> = (0..5).map(nth).collect();
    let mut riff = b"RIFF\0\0\0\0RMIDdata".to_vec();
    riff.extend((bytes[4].len() as u32).to_le_bytes());
    riff.extend(&bytes[4]);
    let dir = folder(&[
        ("g/c/a.kar", &bytes[0]),
        ("g/c/b.SMF", &bytes[1]),
        ("g/c/c.rmi", &riff),
        ("g/c/d", &bytes[2]),
        ("g/c/README", b"text"),
        ("g/c/e.rmi", b"RIFF\0\0\0\0WAVE"),
        ("g/c/f.kar", b"version https://git-lfs.github.com/spec/v1\n"),
        ("g/c/g.txt", b"text"),
        ("g/stray", &bytes[3]),
        ("all.zip", b"PK"),
        ("g/more.tar.gz", b""),
        ("g/c/old.7z", b""),
    ]);
    let corpus = read(dir.path());
    let names: Vec<&str> = corpus.pieces.iter().map(|piece| piece.name.as_str()).collect();
    assert_eq!(names, ["g/c/a.kar", "g/c/b.SMF", "g/c/c.rmi", "g/c/d"]);
    let (none, archive) =
        ("is not a MIDI file (it does not begin with MThd)", "is an archive; unpack it if there are pieces in it");
    assert_eq!(
        skipped(&corpus)[..6],
        [
            ("all.zip", archive),
            ("g/stray", "is in no composer's folder"),
            ("g/more.tar.gz", archive),
            ("g/c/README", none),
            ("g/c/e.rmi", none),
            ("g/c/old.7z", archive),
        ]
    );
    assert!(skipped(&corpus)[6].1.contains("git lfs pull"));
}

#[test]
fn layout_errors_come_at_once() {
    let (good, text): (_, &[u8]) = (nth(0), b"text");
    let refused = |files: &[(&str, &[u8])], strict| {
        let options = CorpusOptions { strict, ..CorpusOptions::default() };
        Corpus::read(folder(files).path(), &options).unwrap_err().to_string()
    };
    let none = refused(&[("bach/a.mid", &good), ("docs/x.txt", text), ("g/c/x.txt", text)], false);
    for text in
        ["bach: is a genre without", "docs: is a genre without", "g/c: is a composer without", "<genre>/<composer>"]
    {
        assert!(none.contains(text), "no '{text}' in: {none}");
    }
    let names = refused(&[("g/a:b/a.mid", &good), ("g/c,d/a.mid", &good)], false);
    assert!(names.contains("'a:b' cannot be") && names.contains("'c,d' cannot be"), "{names}");
    let broken: &[(&str, &[u8])] = &[("g/a/a.mid", text), ("g/b/b.mid", text), ("g/c/c.mid", &good)];
    let unusable = refused(broken, false);
    for text in ["a: has no usable MIDI file (g/a/a.mid", "b: has no usable MIDI file (g/b/b.mid"] {
        assert!(unusable.contains(text), "no '{text}' in: {unusable}");
    }
    let strict = refused(broken, true);
    assert!(strict.contains("a.mid: is not a MIDI file") && strict.contains("b.mid: is not a MIDI file"), "{strict}");
}

/// `Dvořák` with letters that have their accents, and with accents of their own.
const COMPOSED: &str = "Dvo\u{159}\u{e1}k";
const DECOMPOSED: &str = "Dvor\u{30c}a\u{301}k";

#[test]
fn names_compare_in_unicode_normal_form() {
    let name = |folder: &str, n: u8| format!("romantic/{folder}/{n}.mid");
    let corpus = |names: &[String]| {
        let files: Vec<(&str, Vec<u8>)> = names.iter().zip(0..).map(|(name, n)| (name.as_str(), nth(n))).collect();
        let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
        let dir = folder(&files);
        read(dir.path())
    };
    let (mac, linux) = (corpus(&[name(DECOMPOSED, 0)]), corpus(&[name(COMPOSED, 0)]));
    assert_eq!((mac.fingerprint(), &mac.styles), (linux.fingerprint(), &linux.styles));
    for text in ["dvo\u{159}\u{e1}k", "dvor\u{30c}a\u{301}k", DECOMPOSED] {
        assert!(StylePath::parse(text, &mac.styles).is_ok(), "{text}");
    }
    // A checkpoint that was made before names had one form.
    let old =
        deepj::music::Styles::new(vec![deepj::music::Composer { genre: "romantic".into(), name: DECOMPOSED.into() }]);
    let old = old.unwrap();
    assert!(StylePath::parse("dvo\u{159}\u{e1}k", &old).is_ok() && linux.clone().with_styles(&old).is_ok());
    let mut split = mac.split(0);
    split.train = vec![name(DECOMPOSED, 0)];
    assert_eq!(mac.part(&split, Part::Train).unwrap().len(), 1);
    // Both forms side by side, as an archive from a Mac is unpacked over a folder.
    let both = corpus(&[name(COMPOSED, 0), name(COMPOSED, 1), name(DECOMPOSED, 0), name(DECOMPOSED, 2)]);
    assert_eq!((both.styles.len(), both.pieces.len()), (1, 4));
    let names: std::collections::BTreeSet<&str> = both.pieces.iter().map(|piece| piece.name.as_str()).collect();
    assert_eq!(names.len(), 4, "{names:?}");
    assert!(both.report.remarks[0].contains("2 folders are named romantic/Dvo"), "{:?}", both.report.remarks);
}

/// Of two spellings of one name, neither composed, one becomes the composed one: always the same, wherever it stands.
#[test]
fn the_order_of_files_does_not_matter() {
    let names = [format!("romantic/{DECOMPOSED}/a.mid"), "romantic/Dvor\u{30c}\u{e1}k/a.mid".to_string()];
    let (one, two) = (nth(0), nth(1));
    let files = [(names[0].as_str(), one.as_slice()), (names[1].as_str(), two.as_slice())];
    let fingerprint = |files: [(&str, &[u8]); 2]| {
        Corpus::from_files("corpus", &files, &CorpusOptions::default()).unwrap().fingerprint()
    };
    assert_eq!(fingerprint(files), fingerprint([files[1], files[0]]));
}

#[test]
fn names_that_are_alike_are_said() {
    let bytes: Vec<Vec<u8>> = (0..4).map(nth).collect();
    let dir = folder(&[
        ("Classical/haydn/a.mid", &bytes[0]),
        ("classical/mozart/a.mid", &bytes[1]),
        ("romantic/Dvorak/a.mid", &bytes[2]),
        (&format!("romantic/{COMPOSED}/a.mid"), &bytes[3]),
    ]);
    let corpus = read(dir.path());
    assert_eq!((corpus.styles.len(), corpus.styles.genres().len()), (4, 3));
    let remarks = corpus.report.remarks;
    assert_eq!(
        remarks,
        [
            format!(
                "Dvorak and {COMPOSED} are 2 composers, though their names are alike; rename the folders if they are one"
            ),
            "Classical and classical are 2 genres, though their names are alike; rename the folders if they are one"
                .into(),
        ]
    );
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_no_text_stay_apart() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    for (name, n) in [(&b"Dvo\xf8\xe1k"[..], 0), (b"Dvo\xf9\xe1k", 1)] {
        let folder = dir.path().join("romantic").join(OsStr::from_bytes(name));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("a.mid"), nth(n)).unwrap();
    }
    let corpus = read(dir.path());
    let names: Vec<&str> = corpus.styles.composers().iter().map(|composer| composer.name.as_str()).collect();
    assert_eq!(names, [r"Dvo\xF8\xE1k", r"Dvo\xF9\xE1k"]);
    assert_eq!(corpus.pieces.len(), 2);
}

#[test]
fn equal_pieces_stay_in_one_part() {
    let tune = [60, 64, 67, 72, 71];
    let higher = tune.map(|pitch| pitch + 3);
    let mut files: Vec<(String, Vec<u8>)> = (0..20).map(|n| (format!("g/c/{n:02}.mid"), nth(n))).collect();
    files.extend([
        ("g/c/a.mid".into(), piece(&tune, 64, 0)),
        ("g/c/loud.mid".into(), piece(&tune, 120, 0)),
        ("g/d/higher.mid".into(), piece(&higher, 64, 0)),
        ("g/d/late.mid".into(), piece(&tune, 64, 960)),
        ("g/d/unlike.mid".into(), piece(&[60, 64, 67, 72, 70], 64, 0)),
    ]);
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let corpus = Corpus::from_files("", &files, &CorpusOptions::default()).unwrap();
    let equal = ["g/c/a.mid", "g/c/loud.mid", "g/d/higher.mid", "g/d/late.mid"];
    for seed in 0..50 {
        let split = corpus.split(seed);
        assert!(equal.iter().all(|name| split.train.iter().any(|other| other == name)), "seed {seed}");
        assert_eq!((split.validation.len(), split.test.len()), (3, 2), "seed {seed}: as many as before");
    }
    let text = "g/c/a.mid, g/c/loud.mid, g/d/higher.mid and g/d/late.mid are one piece";
    assert!(corpus.report.remarks[0].contains(text), "{:?}", corpus.report.remarks);
    // Where all are one, there is nothing to hold out.
    let one: Vec<(&str, &[u8])> = files.iter().filter(|(name, _)| equal.contains(name)).copied().collect();
    let split = Corpus::from_files("", &one, &CorpusOptions::default()).unwrap().split(0);
    assert_eq!((split.train.len(), split.validation.len()), (4, 0));
}

#[test]
fn metres_and_upbeats_are_counted() {
    let with = |metres: &[(u32, [u8; 2])], rest| {
        let metres: Vec<(u32, [u8; 7])> =
            metres.iter().map(|&(delta, [n, exponent])| (delta, [0xff, 0x58, 4, n, exponent, 24, 8])).collect();
        let metres: Vec<(u32, &[u8])> = metres.iter().map(|(delta, bytes)| (*delta, bytes.as_slice())).collect();
        let note = track(&[(rest, &[0x90, 60, 64]), (4800, &[0x80, 60, 64])], 0);
        midi(1, 480, &[track(&metres, 0), note])
    };
    let count = |bytes: &[u8]| {
        let report = Corpus::from_files("", &[("g/c/a.mid", bytes)], &CorpusOptions::default()).unwrap().report;
        let line = format!(
            "{} of 1 pieces are not in 4/4 throughout, {} begin with an upbeat",
            report.counts.other_metres, report.counts.upbeats
        );
        assert!(report.to_string().contains(&line), "{report}");
        (report.counts.other_metres, report.counts.upbeats)
    };
    assert_eq!(count(&with(&[], 0)), (0, 0));
    assert_eq!(count(&with(&[(0, [2, 1])], 1920)), (0, 0), "2/2, after a bar of rest");
    assert_eq!(count(&with(&[(0, [3, 2])], 0)), (1, 0));
    assert_eq!(count(&with(&[(0, [3, 2])], 1440)), (1, 0), "a bar of 3/4 is no upbeat");
    assert_eq!(count(&with(&[], 1440)), (0, 1));
    assert_eq!(count(&with(&[(0, [1, 2]), (480, [4, 2])], 0)), (1, 1), "a first bar of 1/4");
}
