//! Standard MIDI Files: read as notes, and written from rolls.
//!
//! Reading goes from bytes to events (`file.rs`), from events to notes (`play.rs`) and from ticks to quarter notes
//! (`clock.rs`); [`Score`] is the three together. Rules, where the format leaves room:
//!
//! - All tracks and channels are merged, except channel 10 (drums), which is counted and dropped.
//! - A note-on with velocity 0 is a note-off. A note-off closes the oldest open note of its track, channel and pitch:
//!   legato sequences strike a key again shortly before they release it. Where a key has more note-ons than note-offs,
//!   some were lost, and a note-on closes the notes before it, so that one lost event does not stretch all later notes.
//! - Controllers 120 and 123 (all sound or all notes off) close the notes of their track and channel. A note that nothing
//!   closes ends with its track.
//! - Running status survives meta and system-exclusive events: the format forbids it, but files that rely on it exist.
//! - The tracks of a type 2 file are played one after another.
//! - Tempo and metre are metadata. Only where the division is in SMPTE frames, so that ticks are time, the tempo map
//!   (120 bpm where the file has none) turns ticks into quarter notes.

mod clock;
mod file;
mod play;
mod score;
mod write;

pub use file::MAX_BYTES;
pub(super) use file::read_file;
pub use play::Note;
pub use score::{Metre, Score};
