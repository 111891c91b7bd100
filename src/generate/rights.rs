//! What a file with a composed piece says of whose it is.

use std::path::Path;

use midly::{MetaMessage, Smf, TrackEventKind};

use crate::checkpoint::{Checkpoint, is_builtin};
use crate::files::{is_standard_stream, path_text};
use crate::quality::{Copied, described};

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

/// Somebody's file, with which a piece begins.
pub struct Given {
    /// Its name, without folders.
    name: String,
    /// Its own copyright notices.
    notice: Option<String>,
}

/// The longest copyright notice of a given file that is told, in letters.
const LONGEST_NOTICE: usize = 500;

impl Given {
    /// The file of this name, without folders, and these bytes. Whatever is odd about them was said when its notes were read; where there
    /// is no notice, none is told.
    pub fn new(name: String, bytes: &[u8]) -> Self {
        let events = Smf::parse(bytes).map(|smf| smf.tracks.concat()).unwrap_or_default();
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

    /// A file on this machine, or what standard input had.
    pub fn of_file(file: &Path) -> Self {
        let name = if is_standard_stream(file) {
            "standard input".into()
        } else {
            path_text(file.file_name().unwrap_or_default())
        };
        Self::new(name, &std::fs::read(file).unwrap_or_default())
    }
}

impl Rights {
    /// Of pieces that the checkpoint at `path` composed, behind `given` where they begin with somebody's file.
    pub fn new(checkpoint: &Checkpoint, path: &Path, given: Option<Given>) -> Self {
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
        let notice = match &given {
            None => notice,
            Some(_) => "Composed by deepj behind a given beginning, whose rights it does not know; its authors claim none in what \
                     follows".into(),
        };
        Self { notice, trained, licence: checkpoint.corpus.licence.clone(), given }
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

    /// The same as a text to be read, of the piece in the file `name`, with the licence of the weights in full.
    pub fn document(&self, name: &str, how: &str, copied: Option<String>) -> String {
        let mut text = format!("{name}\n\n");
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
        part("PASSAGES OF TRAINING PIECES", &format!("{}.", copied.unwrap_or_else(nobody_looked)));
        part("WHAT COMPOSES IT AGAIN", how);
        if let Some(licence) = &self.licence {
            part("THE LICENCE OF THE WEIGHTS", licence);
        }
        format!("{}\n", text.trim_end())
    }
}

fn nobody_looked() -> String {
    "Whether it repeats a training piece was not looked at (deepj evaluate --generated does)".into()
}
