//! What a file with a composed piece says of whose it is.

use std::path::Path;

use crate::checkpoint::{Checkpoint, is_builtin};
use crate::quality::{Copied, described};

/// Whether a piece may be used: what the model was trained on, and under what licence.
pub struct Rights {
    /// A sentence for the file's copyright notice.
    pub notice: String,
    /// What the model learned from.
    pub trained: String,
}

impl Rights {
    /// Of pieces that the checkpoint at `path` composed; `given` says that the piece begins with somebody's file.
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

    /// All of it about one piece: from what it can be composed again, and what it shares with training pieces, where somebody looked.
    pub fn texts(&self, how: &str, copied: Option<&str>) -> Vec<String> {
        let unknown = "Whether it repeats a training piece was not looked at (deepj evaluate --generated does)";
        vec![how.into(), self.trained.clone(), copied.unwrap_or(unknown).into()]
    }
}
