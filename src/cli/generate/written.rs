//! What is written of composed pieces: MIDI, and where asked for sound, notation and a page.

use std::path::Path;

use deepj::Result;
use deepj::checkpoint::{Checkpoint, is_builtin};
use deepj::files::write_output;
use deepj::generate::page;
use deepj::music::hands::{self, Hand};
use deepj::music::key::Mode;
use deepj::music::midi::Writing;
use deepj::music::{Key, Roll, Score, musicxml};
use deepj::quality::{Copied, described};
use deepj::render::{Instrument, Options, Performance, wav_bytes, write_wav};

use crate::cli::tell;

/// Frames a second of the sound within a page, which is to stay small enough to be sent.
const PAGE_RATE: u32 = 22_050;

/// A piece to be written.
pub struct Made<'a> {
    pub roll: &'a Roll,
    pub file: &'a Path,
    /// From what it can be composed again.
    pub how: String,
    pub key: Option<Key>,
    /// What it shares with training pieces; `None` where nobody looked.
    pub copied: Option<String>,
}

/// How pieces are written.
pub struct Written<'a> {
    /// Quarter notes a minute.
    pub tempo: f64,
    /// The exact length, where one was asked for.
    pub seconds: Option<f64>,
    pub only: Option<Hand>,
    pub wav: bool,
    pub musicxml: bool,
    pub page: Option<&'a Path>,
}

/// Whether a piece may be used: what the model was trained on, and under what licence.
pub struct Rights {
    /// A sentence for the file's copyright notice.
    notice: String,
    /// What the model learned from.
    pub trained: String,
}

impl Rights {
    /// `given` says that the piece begins with somebody's file.
    pub fn new(checkpoint: &Checkpoint, path: &Path, given: bool) -> Self {
        let pieces = checkpoint.split.train.len();
        let from = checkpoint.corpus.data.as_deref().unwrap_or("the corpus within the program");
        let (notice, trained) = match (is_builtin(path), &checkpoint.corpus.licence) {
            (true, _) => (
                "Composed by deepj; its authors claim no rights in it: use it for anything, also for money".to_string(),
                format!(
                    "The weights learned from {pieces} pieces of piano-midi.de (CC BY-SA 3.0 Germany), the Mutopia Project and \
                     Knute Snortum (public domain, CC BY, CC BY-SA); a passage that repeats one has that piece's licence. \
                     Not legal advice; `deepj inspect builtin` prints all of it"
                ),
            ),
            (false, Some(_)) => (
                "Composed by deepj; its authors claim no rights in it".to_string(),
                format!(
                    "The weights are derived from those within deepj (CC BY-SA 4.0) and learned from {pieces} pieces of {from}"
                ),
            ),
            (false, None) => (
                "Composed by deepj; its authors claim no rights in it".to_string(),
                format!("The weights learned from {pieces} pieces of {from}, whose licences deepj does not know"),
            ),
        };
        let notice = match given {
            false => notice,
            true => "Composed by deepj behind a given beginning, whose rights it does not know; its authors claim none in what \
                     follows".into(),
        };
        Self { notice, trained }
    }

    /// What was found of copies, in words.
    pub fn copied(copied: &Copied) -> String {
        match (&copied.passage, &copied.source) {
            (Some(passage), Some(source)) => {
                format!("The longest passage shared with a training piece: {}", described(passage, source))
            }
            _ => "No passage of 8 onsets or more is shared with a training piece".into(),
        }
    }

    /// All of it about one piece.
    fn texts(&self, made: &Made) -> Vec<String> {
        let copied = made.copied.clone();
        let unknown =
            || "Whether it repeats a training piece was not looked at (deepj evaluate --generated does)".to_string();
        vec![made.how.clone(), self.trained.clone(), copied.unwrap_or_else(unknown)]
    }
}

impl Written<'_> {
    /// Writes all of it.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn write(&self, pieces: &[Made], rights: &Rights) -> Result<()> {
        let mut listed = vec![];
        for made in pieces {
            let writing = Writing {
                seconds: self.seconds,
                two_hands: self.only.is_none(),
                copyright: Some(rights.notice.clone()),
                texts: rights.texts(made),
                ..Writing::new(self.tempo)
            };
            let midi = made.roll.to_midi_as(&writing)?;
            write_output(made.file, &midi)?;
            if made.roll.sounding() == 0 && (self.wav || self.page.is_some()) {
                tell(format_args!("note: {}: no note was composed, so there is no sound of it", made.file.display()));
            } else if self.wav || self.page.is_some() {
                let score = Score::parse(made.file, &midi, true)?;
                let performance = Performance::new(&score);
                let options = Options { seconds: self.seconds, ..Options::default() };
                if self.wav {
                    write_wav(&made.file.with_extension("wav"), &performance, &Instrument::Piano, &options, |_| ())?;
                }
                if self.page.is_some() {
                    let options = Options { rate: PAGE_RATE, ..options };
                    let sound = wav_bytes(&performance, &Instrument::Piano, &options)?;
                    let name = made.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    let texts = rights.texts(made).into_iter().chain([rights.notice.clone()]).collect();
                    listed.push(page::Listed { name, roll: made.roll.clone(), bpm: self.tempo, sound, texts });
                }
            }
        }
        if let Some(file) = self.page {
            write_output(file, page::document(&listed).as_bytes())?;
        }
        // Last: notation has a smaller range than MIDI.
        pieces.iter().filter(|_| self.musicxml).try_for_each(|made| self.notation(made, rights))
    }

    fn notation(&self, made: &Made, rights: &Rights) -> Result<()> {
        let title = made.file.file_stem().unwrap_or_default().to_string_lossy();
        let notation = musicxml::Notation {
            title: &title,
            rights: &rights.notice,
            fifths: made.key.map_or(0, Key::fifths),
            minor: made.key.is_some_and(|key| key.mode() == Mode::Minor),
            bpm: Some(self.tempo),
            ..musicxml::Notation::default()
        };
        let notes = made.roll.notes();
        let hands = self.only.map_or_else(|| hands::split(&notes), |hand| vec![hand; notes.len()]);
        let written = musicxml::write(&notes, &hands, made.roll.steps(), &notation)?;
        if written.crowded > 0 {
            let (file, notes) = (made.file.display(), written.crowded);
            tell(format_args!(
                "note: {file}: {notes} notes are tied in more parts than they need: a staff has four voices"
            ));
        }
        write_output(&made.file.with_extension("musicxml"), written.xml.as_bytes())
    }
}
