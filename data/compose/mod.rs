//! The composer of the corpus: three genres, two invented composers in each, eight pieces by each.
//!
//! Everything is decided by rules and a seed in whole numbers, so that the same seed gives the same bytes everywhere.
//! [`theory`] knows keys and chords, [`line`] writes a voice, [`theme`] draws subjects from which [`baroque`] builds
//! imitation, [`song`] and [`texture`] give [`classical`] and [`romantic`] their melody and accompaniment, [`score`]
//! makes the MIDI file.

mod baroque;
mod classical;
mod line;
mod rng;
mod romantic;
mod score;
mod song;
mod statistics;
mod texture;
mod theme;
mod theory;

use rng::Rng;
use score::Score;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use theory::Key;

/// The seed of the shipped corpus.
pub const SEED: u64 = 1;

/// A composer who never lived.
struct Composer {
    genre: &'static str,
    name: &'static str,
    form: &'static str,
    write: fn(Key, u64, Rng) -> Score,
    keys: [Key; 8],
}

/// The keys are spread so that all 24 occur and each genre has all twelve tonics: a style must not be told by its key.
const COMPOSERS: [Composer; 6] = [
    Composer {
        genre: "baroque",
        name: "arden",
        form: "invention",
        write: baroque::invention,
        keys: [
            Key::minor(0),
            Key::minor(2),
            Key::minor(4),
            Key::minor(5),
            Key::minor(6),
            Key::minor(7),
            Key::minor(9),
            Key::minor(11),
        ],
    },
    Composer {
        genre: "baroque",
        name: "corvo",
        form: "fughetta",
        write: baroque::fughetta,
        keys: [
            Key::major(0),
            Key::minor(1),
            Key::major(7),
            Key::minor(3),
            Key::major(5),
            Key::minor(8),
            Key::major(2),
            Key::minor(10),
        ],
    },
    Composer {
        genre: "classical",
        name: "linden",
        form: "sonatina",
        write: classical::sonatina,
        keys: [
            Key::major(7),
            Key::major(5),
            Key::major(0),
            Key::major(10),
            Key::minor(2),
            Key::major(9),
            Key::major(3),
            Key::major(4),
        ],
    },
    Composer {
        genre: "classical",
        name: "marlow",
        form: "rondo",
        write: classical::rondo,
        keys: [
            Key::major(2),
            Key::major(8),
            Key::minor(9),
            Key::major(1),
            Key::major(11),
            Key::minor(0),
            Key::major(6),
            Key::major(7),
        ],
    },
    Composer {
        genre: "romantic",
        name: "sorel",
        form: "nocturne",
        write: romantic::nocturne,
        keys: [
            Key::minor(1),
            Key::major(8),
            Key::minor(5),
            Key::minor(3),
            Key::major(4),
            Key::minor(7),
            Key::minor(11),
            Key::major(2),
        ],
    },
    Composer {
        genre: "romantic",
        name: "vasky",
        form: "ballade",
        write: romantic::ballade,
        keys: [
            Key::minor(0),
            Key::minor(4),
            Key::major(11),
            Key::minor(6),
            Key::minor(9),
            Key::minor(10),
            Key::major(7),
            Key::minor(2),
        ],
    },
];

/// Composes the corpus of `seed` into `folder`: the pieces as `<genre>/<composer>/<nn>-<title>.mid` and `mod.rs`, which
/// embeds them. Earlier pieces of these composers there (`<nn>-*.mid`) are removed. Returns a table of statistics in
/// Markdown.
///
/// # Errors
/// The path that could not be written and why.
pub fn write(folder: &Path, seed: u64) -> Result<String, String> {
    let mut paths = Vec::new();
    let mut rows = Vec::new();
    for (composer, branch) in COMPOSERS.iter().zip(0..) {
        let home = folder.join(composer.genre).join(composer.name);
        fs::create_dir_all(&home).map_err(|e| format!("{}: {e}", home.display()))?;
        remove_pieces(&home)?;
        let mut scores = Vec::new();
        for (number, &key) in (0..).zip(&composer.keys) {
            let rng = Rng::new(seed).branch(branch).branch(number);
            let mut score = (composer.write)(key, number, rng);
            score.unify();
            let title = format!("{}-in-{}", composer.form, key.name());
            let name = format!("{:02}-{title}.mid", number + 1);
            let path = home.join(&name);
            fs::write(&path, score.midi(&title)).map_err(|e| format!("{}: {e}", path.display()))?;
            paths.push(format!("{}/{}/{name}", composer.genre, composer.name));
            scores.push(score);
        }
        rows.push((composer.genre, composer.name, scores));
    }
    let path = folder.join("mod.rs");
    fs::write(&path, module(&paths, seed)).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(statistics::table(&rows))
}

/// Removes `<nn>-*.mid` in `folder`.
fn remove_pieces(folder: &Path) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("{}: {e}", folder.display());
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let numbered = name.len() > 3 && name.as_bytes()[..2].iter().all(u8::is_ascii_digit) && &name[2..3] == "-";
        if numbered && name.ends_with(".mid") {
            fs::remove_file(&path).map_err(failed)?;
        }
    }
    Ok(())
}

/// The Rust module that embeds the files at `paths`.
fn module(paths: &[String], seed: u64) -> String {
    let mut text = format!(
        "//! The corpus that ships with the crate: {} short piano pieces in three genres by six invented composers, made by\n\
         //! `data/make_corpus.rs` with seed {seed}. This file is made by it too. `data/README.md` describes the pieces.\n\n\
         macro_rules! files {{\n    ($($path:literal),* $(,)?) => {{\n        &[$(($path, include_bytes!($path))),*]\n    }};\n}}\n\n\
         /// The pieces in order: path `<genre>/<composer>/<nn>-<title>.mid` and the bytes of a Standard MIDI File of type 1.\n\
         pub const FILES: &[(&str, &[u8])] = files![\n",
        paths.len()
    );
    for path in paths {
        let _ = writeln!(text, "    {path:?},");
    }
    text + "];\n"
}
