//! What is odd about a MIDI file that can be read all the same.

/// A kind of oddity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Oddity {
    Wrapper,
    TrackCount,
    TrackLength,
    EarlyEnd,
    MissingEnd,
    ForeignChunk,
    Unread,
    RealTime,
    DataByte,
    Tempo,
    Metre,
    NoNoteOff,
    StrayNoteOff,
    Drums,
}

/// One line for each kind of oddity, in the order of their first: a damaged file can hold millions of one kind.
#[derive(Default)]
pub(super) struct Warnings(Vec<(Oddity, String, usize)>);

impl Warnings {
    /// Takes note of one more; `text` is asked for the first of its kind only.
    pub(super) fn add(&mut self, oddity: Oddity, text: impl FnOnce() -> String) {
        match self.0.iter_mut().find(|(known, ..)| *known == oddity) {
            Some((_, _, count)) => *count += 1,
            None => self.0.push((oddity, text(), 1)),
        }
    }

    /// One line each, without a final stop.
    pub(super) fn into_lines(self) -> Vec<String> {
        let line = |(_, text, count)| match count {
            1 => text,
            2 => format!("{text}; one more such place follows"),
            _ => format!("{text}; {} more such places follow", count - 1),
        };
        self.0.into_iter().map(line).collect()
    }
}
