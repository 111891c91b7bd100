//! What is written of composed pieces: MIDI, and where asked for sound, notation and a page.

use std::path::{Path, PathBuf};

use deepj::Result;
use deepj::checkpoint::{Checkpoint, is_builtin};
use deepj::files::{is_standard_stream, path_text, write_output};
use deepj::generate::page;
use deepj::music::hands::{self, Hand};
use deepj::music::key::Mode;
use deepj::music::midi::Writing;
use deepj::music::{Key, Roll, Score, musicxml};
use deepj::quality::{Copied, described};
use deepj::render::{Instrument, Options, Performance, wav_bytes, write_wav};

use midly::{MetaMessage, Smf, TrackEventKind};

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

/// Whether a piece may be used: what the model was trained on, and under what licence.
pub struct Rights {
    /// A sentence for the file's copyright notice.
    pub notice: String,
    /// What the model learned from.
    pub trained: String,
    /// The licence of the weights in full, where it is known.
    licence: Option<String>,
    /// The file that the piece begins with.
    given: Option<Given>,
}

/// Somebody's file.
struct Given {
    /// Its name, without folders.
    name: String,
    /// Its own copyright notices.
    notice: Option<String>,
}

/// The longest copyright notice of a given file that is told, in letters.
const LONGEST_NOTICE: usize = 500;

impl Given {
    fn new(file: &Path) -> Self {
        let name = if is_standard_stream(file) {
            "standard input".into()
        } else {
            path_text(file.file_name().unwrap_or_default())
        };
        // Whatever is odd about the file was said when its notes were read; without a notice there is none to be told.
        let bytes = std::fs::read(file).unwrap_or_default();
        let events = Smf::parse(&bytes).map(|smf| smf.tracks.concat()).unwrap_or_default();
        let notices = events.iter().filter_map(|event| match event.kind {
            TrackEventKind::Meta(MetaMessage::Copyright(text)) => {
                Some(String::from_utf8_lossy(text).trim().to_string())
            }
            _ => None,
        });
        let notice = notices.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ");
        let notice: String =
            notice.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_NOTICE).collect();
        Self { name, notice: (!notice.is_empty()).then_some(notice) }
    }
}

impl Rights {
    /// `given` is somebody's file with which the piece begins.
    pub fn new(checkpoint: &Checkpoint, path: &Path, given: Option<&Path>) -> Self {
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
            None => notice,
            Some(_) => "Composed by deepj behind a given beginning, whose rights it does not know; its authors claim none in what \
                     follows".into(),
        };
        Self { notice, trained, licence: checkpoint.corpus.licence.clone(), given: given.map(Given::new) }
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

    /// All of it about one piece: `how` it is composed again, and what it shares with training pieces, where somebody looked.
    pub fn texts(&self, how: String, copied: Option<String>) -> Vec<String> {
        let notice = self.given.as_ref().and_then(|given| given.notice.as_ref());
        let notice = notice.map(|notice| format!("The beginning's own copyright notice: {notice}"));
        [how, self.trained.clone(), copied.unwrap_or_else(nobody_looked)].into_iter().chain(notice).collect()
    }

    /// The same as a text to be read, with the licence of the weights in full.
    fn document(&self, made: &Made) -> String {
        let mut text = format!("{}\n\n", path_text(made.file.file_name().unwrap_or_default()));
        let mut part = |title: &str, content: &str| text.push_str(&format!("{title}\n\n{}\n\n", content.trim()));
        part("MAY I USE IT?", &format!("{}. This is not legal advice.", self.notice));
        if let Some(Given { name, notice }) = &self.given {
            let notice = match notice {
                Some(notice) => format!("Its own copyright notice: {notice}"),
                None => "It has no copyright notice of its own, which says nothing of its rights.".into(),
            };
            part("WHAT IT BEGINS WITH", &format!("{name}, whose rights deepj does not know. {notice}"));
        }
        part("WHAT THE WEIGHTS LEARNED FROM", &format!("{}.", self.trained));
        part("PASSAGES OF TRAINING PIECES", &format!("{}.", made.copied.clone().unwrap_or_else(nobody_looked)));
        part("WHAT COMPOSES IT AGAIN", &made.how);
        if let Some(licence) = &self.licence {
            part("THE LICENCE OF THE WEIGHTS", licence);
        }
        format!("{}\n", text.trim_end())
    }

    fn of(&self, made: &Made) -> Vec<String> {
        self.texts(made.how.clone(), made.copied.clone())
    }
}

fn nobody_looked() -> String {
    "Whether it repeats a training piece was not looked at (deepj evaluate --generated does)".into()
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
                texts: rights.of(made),
                ..Writing::new(self.tempo)
            };
            let midi = made.roll.to_midi_as(&writing)?;
            write_output(made.file, &midi)?;
            if let Some(file) = rights_file(made.file).filter(|_| self.rights) {
                write_output(&file, rights.document(made).as_bytes())?;
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
                    let texts = rights.of(made).into_iter().chain([rights.notice.clone()]).collect();
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
