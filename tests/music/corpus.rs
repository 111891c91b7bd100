use std::fs;
use std::path::Path;

use deepj::music::{Baselines, Corpus, CorpusOptions, Part, Piece, Reading, Split};

use super::file::{midi, track};

/// A piece of `notes` notes of a quarter each.
fn piece(notes: usize) -> Vec<u8> {
    let events: Vec<(u32, &[u8])> = (0..2 * notes)
        .map(|i| if i % 2 == 0 { (0, &[0x90, 60, 100][..]) } else { (480, &[0x90, 60, 0][..]) })
        .collect();
    midi(0, 480, &[track(&events, 0)])
}

/// A folder with `files` in it.
pub fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    dir
}

fn read(dir: &Path) -> deepj::Result<Corpus> {
    Corpus::read(dir, &CorpusOptions::default())
}

fn refused(dir: &Path) -> String {
    read(dir).unwrap_err().to_string()
}

fn names(corpus: &Corpus) -> Vec<&str> {
    corpus.pieces.iter().map(|piece| piece.name.as_str()).collect()
}

#[test]
fn folders_are_styles() {
    let bytes = piece(2);
    let dir = folder(&[
        ("romantic/brahms/b.MID", &bytes),
        ("romantic/brahms/op76/a.midi", &bytes),
        ("classical/brahms/c.Mid", &bytes),
        ("baroque/bach/a.mid", &bytes),
        ("baroque/bach/.hidden.mid", &bytes),
        ("baroque/bach/README.txt", b"a text"),
        ("baroque/stray.mid", &bytes),
        (".git/objects/x", b""),
        ("README.md", b"a text"),
    ]);
    let corpus = read(dir.path()).unwrap();
    assert_eq!(
        names(&corpus),
        ["baroque/bach/a.mid", "classical/brahms/c.Mid", "romantic/brahms/b.MID", "romantic/brahms/op76/a.midi"]
    );
    let labels: Vec<String> = (0..3).map(|i| corpus.styles.label(i)).collect();
    assert_eq!(labels, ["bach", "classical/brahms", "romantic/brahms"]);
    assert_eq!(corpus.pieces.iter().map(|piece| piece.style).collect::<Vec<_>>(), [0, 1, 2, 2]);
    let report = serde_json::to_value(&corpus.report).unwrap();
    assert_eq!((&report["files"], &report["notes"], &report["steps"]), (&4.into(), &8.into(), &32.into()));
    assert_eq!(report["genres"][2]["composers"][0]["files"], 2);
    assert_eq!(report["skipped"][0]["file"], "baroque/stray.mid");
    assert!(corpus.report.to_string().contains("skipped baroque/stray.mid: is in no composer's folder"));
}

#[test]
fn broken_files_are_skipped_by_name_or_refused() {
    let good = piece(2);
    let dir = folder(&[("g/c/a.mid", &good), ("g/c/cut.mid", &good[..30]), ("g/c/text.mid", b"words")]);
    let corpus = read(dir.path()).unwrap();
    assert_eq!(names(&corpus), ["g/c/a.mid"]);
    let skipped = &corpus.report.skipped;
    assert_eq!((skipped[0].file.as_str(), skipped[1].file.as_str()), ("g/c/cut.mid", "g/c/text.mid"));
    assert!(skipped[0].reason.starts_with("is cut off: the part at byte 14"), "{}", skipped[0].reason);
    let strict = CorpusOptions { strict: true, ..Default::default() };
    let error = Corpus::read(dir.path(), &strict).unwrap_err().to_string();
    assert!(error.contains("cut.mid: is cut off"), "{error}");
}

#[test]
fn wrong_layouts_are_explained() {
    let bytes = piece(1);
    let broken: &[u8] = b"words";
    for (files, message) in [
        (&[][..], "holds neither a genre's folder"),
        (&[("a.mid", &bytes[..])], "no genre's folder, but 1 MIDI files"),
        (&[("bach/a.mid", &bytes)], "bach: is a genre without a composer's folder, but with 1 MIDI files"),
        (&[("baroque/bach/a.txt", &bytes)], "bach: is a composer without a MIDI file"),
        (&[("g/a/a.mid", &bytes), ("g/b/b.mid", broken)], "b: has no usable MIDI file (g/b/b.mid: is not a MIDI file"),
        (&[("g/a:b/a.mid", &bytes)], "'a:b' cannot be the name"),
    ] {
        let dir = folder(files);
        let error = refused(dir.path());
        assert!(error.contains(message) && error.contains(dir.path().to_str().unwrap()), "{error}");
        assert!(error.contains("<genre>/<composer>/*.mid") || message.contains("name"), "{error}");
    }
    assert!(refused(Path::new("no/such/folder")).contains("no/such/folder: cannot be read"));
    let dir = folder(&[("g/c/x.mid", &bytes)]);
    fs::create_dir(dir.path().join("empty")).unwrap();
    let skipped = read(dir.path()).unwrap().report.skipped;
    assert_eq!(
        (skipped[0].file.as_str(), skipped[0].reason.as_str()),
        ("empty", "is a genre without a composer's folder")
    );
}

#[cfg(unix)]
#[test]
fn links_are_followed_but_not_in_circles() {
    let dir = folder(&[("g/c/a.mid", &piece(1)), ("h/e/b.mid", &piece(1))]);
    let link = |from: &str, to: &str| std::os::unix::fs::symlink(from, dir.path().join(to)).unwrap();
    link("..", "g/c/up");
    link("../..", "g/c/top");
    link(".", "g/c/self");
    link("nowhere.mid", "g/c/dangling.mid");
    link("c", "g/d");
    let corpus = read(dir.path()).unwrap();
    assert_eq!(names(&corpus), ["g/c/a.mid", "g/d/a.mid", "h/e/b.mid"]);
    assert!(corpus.report.skipped.iter().any(|skipped| skipped.file == "g/c/dangling.mid"));
}

#[cfg(unix)]
#[test]
fn pipes_do_not_block() {
    let dir = folder(&[("g/c/a.mid", &piece(1))]);
    let made = std::process::Command::new("mkfifo").arg(dir.path().join("g/c/pipe.mid")).status();
    if made.is_ok_and(|status| status.success()) {
        assert!(read(dir.path()).unwrap().report.skipped[0].reason.contains("not an ordinary file"));
    }
}

/// A corpus in memory: composers with so many pieces each, all unlike.
fn corpus(composers: &[(&str, usize)]) -> Corpus {
    let files = composers.iter().enumerate().flat_map(|(c, &(composer, count))| {
        (0..count).map(move |i| (format!("{composer}/{i:02}.mid"), piece(100 * c + i + 1)))
    });
    let files: Vec<(String, Vec<u8>)> = files.collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    Corpus::from_files("embedded", &files, &CorpusOptions::default()).unwrap()
}

#[test]
fn the_fingerprint_follows_names_and_bytes() {
    let file = |name: &str, notes: usize| {
        let bytes = piece(notes);
        Corpus::from_files("", &[(name, &bytes)], &CorpusOptions::default()).unwrap().fingerprint()
    };
    assert_eq!(file("g/c/a.mid", 1), file("g/c/a.mid", 1));
    assert_ne!(file("g/c/a.mid", 1), file("g/c/a.mid", 2));
    assert_ne!(file("g/c/a.mid", 1), file("g/c/b.mid", 1));
    let dir = folder(&[("g/c/a.mid", &piece(1))]);
    assert_eq!(read(dir.path()).unwrap().fingerprint(), file("g/c/a.mid", 1));
}

#[test]
fn splits_are_by_piece_and_composer() {
    let corpus = corpus(&[("a/one", 1), ("a/two", 2), ("b/three", 3), ("b/five", 5), ("c/twenty", 20)]);
    let split = corpus.split(0);
    let count = |names: &[String], composer: &str| names.iter().filter(|name| name.starts_with(composer)).count();
    for (composer, expected) in [
        ("a/one", (1, 0, 0)),
        ("a/two", (2, 0, 0)),
        ("b/three", (2, 1, 0)),
        ("b/five", (3, 1, 1)),
        ("c/twenty", (16, 2, 2)),
    ] {
        let parts = (count(&split.train, composer), count(&split.validation, composer), count(&split.test, composer));
        assert_eq!(parts, expected, "{composer}");
    }
    let mut all: Vec<String> = [split.train.clone(), split.validation.clone(), split.test.clone()].concat();
    all.sort();
    assert_eq!(all, names(&corpus));

    assert_eq!(corpus.split(0), split);
    assert!((1..9).any(|seed| corpus.split(seed).validation != split.validation));
    let json = serde_json::to_string(&split).unwrap();
    assert_eq!(serde_json::from_str::<Split>(&json).unwrap(), split);
    let validation = corpus.part(&split, Part::Validation).unwrap();
    assert_eq!(validation.iter().map(|piece| piece.name.clone()).collect::<Vec<_>>(), split.validation);
    assert_eq!(corpus.part(&split, Part::All).unwrap().len(), 31);
}

/// Runs store their split, so a seed must give the same one in every version and on every platform.
#[test]
fn a_seed_gives_the_same_split_for_good() {
    let split = corpus(&[("c/twenty", 20)]).split(0);
    assert_eq!(split.validation, ["c/twenty/00.mid", "c/twenty/18.mid"]);
    assert_eq!(split.test, ["c/twenty/01.mid", "c/twenty/11.mid"]);
}

#[test]
fn a_composers_split_does_not_depend_on_others() {
    let alone = corpus(&[("c/twenty", 20)]).split(3);
    let among = corpus(&[("a/x", 7), ("c/twenty", 20)]).split(3);
    let of = |names: &[String]| names.iter().filter(|name| name.starts_with("c/")).cloned().collect::<Vec<_>>();
    assert_eq!((of(&among.validation), of(&among.test)), (alone.validation, alone.test));
}

#[test]
fn small_corpora_still_validate_where_they_can() {
    assert_eq!(corpus(&[("a/x", 2), ("a/y", 1)]).split(0).validation.len(), 1);
    assert!(corpus(&[("a/x", 1), ("a/y", 1)]).split(0).validation.is_empty());
}

#[test]
fn another_corpus_is_noticed() {
    let (small, large) = (corpus(&[("a/x", 3)]), corpus(&[("a/x", 4), ("b/y", 3)]));
    let error = small.part(&large.split(0), Part::Train).unwrap_err();
    assert!(error.what.contains("of the train split is not in this corpus"), "{error}");
    assert!(large.clone().with_styles(&small.styles).unwrap_err().what.contains("does not know the composer b/y"));
    let renumbered = corpus(&[("b/y", 3)]).with_styles(&large.styles).unwrap();
    assert!(renumbered.pieces.iter().all(|piece| piece.style == 1));
    assert_eq!(renumbered.styles, large.styles);
}

#[test]
fn baselines_of_a_known_corpus() {
    // Two steps: sounding, then silent, on the one pitch there is.
    let piece = |notes: &[(usize, usize)]| {
        let note = |&(start, end)| deepj::music::roll::RollNote { pitch: 60, velocity: 1, start, end, replay: false };
        let range = deepj::music::NoteRange::new(60, 60).unwrap();
        let roll = deepj::music::Roll::from_notes(range, notes.iter().map(note)).unwrap();
        Piece { name: String::new(), style: 0, roll, dynamics: true, mean_bpm: 120.0 }
    };
    // Train: 1 0 0 1. After silence (also the first step's): 1, 0, 1; after sound: 0.
    let train = [piece(&[(0, 1), (3, 4)])];
    // Held out: 0 1 1.
    let held_out = [piece(&[(1, 3)])];
    let baselines = Baselines::measure(&train, &held_out).unwrap();
    assert!((baselines.unigram - 2f64.ln()).abs() < 1e-12, "{baselines:?}");
    let bigram = -((2.0f64 / 5.0).ln() + (3.0f64 / 5.0).ln() + (1.0f64 / 3.0).ln()) / 3.0;
    assert!((baselines.bigram - bigram).abs() < 1e-12, "{baselines:?}");
    assert_eq!((baselines.fitted_steps, baselines.steps), (4, 3));
    assert!(Baselines::measure::<Piece>(&train, &[]).is_err());
}

#[test]
fn baselines_of_replay_and_dynamics() {
    let range = deepj::music::NoteRange::new(60, 60).unwrap();
    let piece = |notes: &[(u8, usize, usize)], dynamics: bool| {
        let note =
            |&(velocity, start, end)| deepj::music::roll::RollNote { pitch: 60, velocity, start, end, replay: false };
        let roll = deepj::music::Roll::from_notes(range, notes.iter().map(note)).unwrap();
        Piece { name: String::new(), style: 0, roll, dynamics, mean_bpm: 120.0 }
    };
    // Sounds on three steps, of which the second is struck again; the mean velocity of the steps is 200 / 3.
    let train = [piece(&[(100, 0, 1), (50, 1, 3)], true)];
    let heard = piece(&[(127, 0, 1), (64, 1, 2)], true);
    let both = [heard.clone(), piece(&[(127, 0, 1), (1, 1, 2)], false)];
    let baselines = Baselines::measure(&train, &both).unwrap();
    let replay = -((2.0f64 / 5.0).ln() + (3.0f64 / 5.0).ln()) / 2.0;
    assert!((baselines.replay_bce - replay).abs() < 1e-12, "{baselines:?}");
    let dynamics = ((1.0 - 200.0 / 3.0 / 127.0_f64).powi(2) + (64.0 / 127.0 - 1.0_f64).powi(2)) / 2.0;
    assert!((baselines.dynamics_mse - dynamics).abs() < 1e-6, "{baselines:?} {dynamics}");
    assert_eq!(Baselines::measure(&train, &both[1..]).unwrap().dynamics_mse, 0.0);
}

#[test]
fn the_programs_own_corpus_is_whole() {
    let strict = CorpusOptions { strict: true, ..Default::default() };
    let corpus = Corpus::from_files("data", deepj::data::FILES, &strict).unwrap();
    let report = &corpus.report;
    assert_eq!((corpus.styles.genres().len(), corpus.styles.len(), report.counts.files), (3, 6, 48));
    assert_eq!((report.counts.drums, report.skipped.len()), (0, 0));
    let split = corpus.split(0);
    for style in 0..corpus.styles.len() {
        let held_out = corpus.part(&split, Part::Validation).unwrap();
        assert!(held_out.iter().any(|piece| piece.style == style));
    }
    for piece in &corpus.pieces {
        let bytes = piece.roll.to_midi(120.0).unwrap();
        let again = Reading::parse(&piece.name, &bytes, corpus.range, false).unwrap();
        assert!(again.roll == piece.roll, "{}", piece.name);
    }
}
