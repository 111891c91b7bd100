//! What is written of composed pieces: MIDI, and where asked for sound, notation and a page.

use std::path::{Path, PathBuf};

use deepj::Result;
use deepj::files::{is_standard_stream, path_text, write_output};
use deepj::generate::page;
use deepj::generate::rights::Rights;
use deepj::music::hands::{self, Hand};
use deepj::music::key::Mode;
use deepj::music::midi::Writing;
use deepj::music::{Key, Roll, Score, musicxml};
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
    /// Whether what may be done with a piece stands in a file beside it too.
    pub rights: bool,
}

/// The longest name of a file, in bytes, that all systems take.
const LONGEST_NAME: usize = 255;

/// The file beside a piece that says what may be done with it; none beside standard output, a pipe or a device, or where the name would
/// be too long.
pub fn rights_file(piece: &Path) -> Option<PathBuf> {
    let is_special = std::fs::metadata(piece).is_ok_and(|found| !found.is_file());
    let file = piece.with_extension("rights.txt");
    let fits = file.file_name().is_some_and(|name| name.len() <= LONGEST_NAME);
    (fits && !is_standard_stream(piece) && !is_special).then_some(file)
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
                texts: rights.texts(made.how.clone(), made.copied.clone()),
                ..Writing::new(self.tempo)
            };
            let midi = made.roll.to_midi_as(&writing)?;
            write_output(made.file, &midi)?;
            if let Some(file) = rights_file(made.file).filter(|_| self.rights) {
                let name = path_text(made.file.file_name().unwrap_or_default());
                write_output(&file, rights.document(&name, &made.how, made.copied.clone()).as_bytes())?;
            }
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
                    let texts = rights
                        .texts(made.how.clone(), made.copied.clone())
                        .into_iter()
                        .chain([rights.notice.clone()])
                        .collect();
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
