//! The corpus that ships with the crate: 48 short piano pieces in three genres by six invented composers, made by
//! `data/make_corpus.rs` with seed 1. This file is made by it too. `data/README.md` describes the pieces.

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_bytes!($path))),*]
    };
}

/// The pieces in order: path `<genre>/<composer>/<nn>-<title>.mid` and the bytes of a Standard MIDI File of type 1.
pub const FILES: &[(&str, &[u8])] = files![
    "baroque/arden/01-invention-in-c-minor.mid",
    "baroque/arden/02-invention-in-d-minor.mid",
    "baroque/arden/03-invention-in-e-minor.mid",
    "baroque/arden/04-invention-in-f-minor.mid",
    "baroque/arden/05-invention-in-f-sharp-minor.mid",
    "baroque/arden/06-invention-in-g-minor.mid",
    "baroque/arden/07-invention-in-a-minor.mid",
    "baroque/arden/08-invention-in-b-minor.mid",
    "baroque/corvo/01-fughetta-in-c-major.mid",
    "baroque/corvo/02-fughetta-in-c-sharp-minor.mid",
    "baroque/corvo/03-fughetta-in-g-major.mid",
    "baroque/corvo/04-fughetta-in-d-sharp-minor.mid",
    "baroque/corvo/05-fughetta-in-f-major.mid",
    "baroque/corvo/06-fughetta-in-g-sharp-minor.mid",
    "baroque/corvo/07-fughetta-in-d-major.mid",
    "baroque/corvo/08-fughetta-in-b-flat-minor.mid",
    "classical/linden/01-sonatina-in-g-major.mid",
    "classical/linden/02-sonatina-in-f-major.mid",
    "classical/linden/03-sonatina-in-c-major.mid",
    "classical/linden/04-sonatina-in-b-flat-major.mid",
    "classical/linden/05-sonatina-in-d-minor.mid",
    "classical/linden/06-sonatina-in-a-major.mid",
    "classical/linden/07-sonatina-in-e-flat-major.mid",
    "classical/linden/08-sonatina-in-e-major.mid",
    "classical/marlow/01-rondo-in-d-major.mid",
    "classical/marlow/02-rondo-in-a-flat-major.mid",
    "classical/marlow/03-rondo-in-a-minor.mid",
    "classical/marlow/04-rondo-in-d-flat-major.mid",
    "classical/marlow/05-rondo-in-b-major.mid",
    "classical/marlow/06-rondo-in-c-minor.mid",
    "classical/marlow/07-rondo-in-f-sharp-major.mid",
    "classical/marlow/08-rondo-in-g-major.mid",
    "romantic/sorel/01-nocturne-in-c-sharp-minor.mid",
    "romantic/sorel/02-nocturne-in-a-flat-major.mid",
    "romantic/sorel/03-nocturne-in-f-minor.mid",
    "romantic/sorel/04-nocturne-in-d-sharp-minor.mid",
    "romantic/sorel/05-nocturne-in-e-major.mid",
    "romantic/sorel/06-nocturne-in-g-minor.mid",
    "romantic/sorel/07-nocturne-in-b-minor.mid",
    "romantic/sorel/08-nocturne-in-d-major.mid",
    "romantic/vasky/01-ballade-in-c-minor.mid",
    "romantic/vasky/02-ballade-in-e-minor.mid",
    "romantic/vasky/03-ballade-in-b-major.mid",
    "romantic/vasky/04-ballade-in-f-sharp-minor.mid",
    "romantic/vasky/05-ballade-in-a-minor.mid",
    "romantic/vasky/06-ballade-in-b-flat-minor.mid",
    "romantic/vasky/07-ballade-in-g-major.mid",
    "romantic/vasky/08-ballade-in-d-minor.mid",
];
