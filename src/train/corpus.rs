//! The corpus of a run.

use std::path::Path;

use crate::checkpoint::Checkpoint;
use crate::music::{Corpus, CorpusOptions, NoteRange};
use crate::{Error, Result};

/// The corpus in the folder `data`, or the one within the program.
///
/// # Errors
/// See [`Corpus::read`].
pub fn read_corpus(data: Option<&Path>, options: &CorpusOptions) -> Result<Corpus> {
    match data {
        Some(dir) => Corpus::read(dir, options),
        None => Corpus::from_files("the program's corpus", &own()?, options),
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn own() -> Result<Vec<(&'static str, &'static [u8])>> {
    Ok(crate::data::FILES.to_vec())
}

/// The files of the program's corpus. A browser downloads them beside the program, which does without them for everything but
/// training on them.
#[cfg(target_arch = "wasm32")]
static FILES: std::sync::OnceLock<Vec<(String, Vec<u8>)>> = std::sync::OnceLock::new();

/// Hands in the files of `data/`: path and bytes of each. What is handed in later changes nothing.
#[cfg(target_arch = "wasm32")]
pub fn provide_corpus(files: Vec<(String, Vec<u8>)>) {
    let _ = FILES.set(files);
}

#[cfg(target_arch = "wasm32")]
fn own() -> Result<Vec<(&'static str, &'static [u8])>> {
    let missing = || Error::run("the program's corpus is not there yet", "wait until the page has loaded it");
    Ok(FILES.get().ok_or_else(missing)?.iter().map(|(path, bytes)| (&**path, &**bytes)).collect())
}

/// The corpus that a model was trained on, read as it was then, or another one in the folder `data`.
///
/// # Errors
/// A model that was not trained on MIDI files; and see [`Corpus::read`].
pub fn corpus_of(checkpoint: &Checkpoint, data: Option<&Path>, strict: bool) -> Result<Corpus> {
    corpus_of_range(checkpoint, data, strict, checkpoint.corpus.range)
}

/// [`corpus_of`] with other pitches than in training.
///
/// # Errors
/// Those of [`corpus_of`].
pub fn corpus_of_range(checkpoint: &Checkpoint, data: Option<&Path>, strict: bool, range: NoteRange) -> Result<Corpus> {
    let info = &checkpoint.corpus;
    let reading = CorpusOptions { range, pedal: info.pedal, flat_dynamics: info.flat_dynamics, strict };
    match (data, &info.data) {
        (None, Some(stored)) if Path::new(stored).is_file() => Err(Error::file(
            stored,
            "the model was trained on the pieces of a benchmark, not on a folder of MIDI files",
            "go on with it, or measure it, by `deepj benchmark`; or name a folder by --data",
        )),
        (None, Some(stored)) => read_corpus(Some(Path::new(stored)), &reading).map_err(|e| {
            let remedy = format!("that is where the corpus was in training; name its place with --data; {}", e.remedy);
            Error { remedy, ..e }
        }),
        (data, _) => read_corpus(data, &reading),
    }
}
