//! Standard MIDI Files: read as notes, and written from rolls.
//!
//! Reading goes from bytes to tracks (`tracks.rs`) and their events (`events.rs`), which `file.rs` merges, from events to
//! notes (`play.rs`) and from ticks to quarter notes (`clock.rs`); [`Score`] is all of it. Nothing is lost or invented without
//! a word: what can be read with certainty is read, with a line in [`Score::warnings`] where it is odd, and where nobody can
//! know what follows, the file is refused with the byte. Rules, where the format leaves room:
//!
//! - All tracks and channels are merged, except channel 10 (drums), which is counted and dropped.
//! - A note-on with velocity 0 is a note-off. A note-off closes the oldest open note of its track, channel and pitch:
//!   legato sequences strike a key again shortly before they release it. Where a note is open at the end of the track, a
//!   note-off of this key was lost, and a note-on of it closes the notes before it, so that one lost event does not stretch all
//!   later notes.
//! - Controllers 120 and 123 (all sound or all notes off) close the notes of their track and channel. A note that nothing
//!   closes ends with its track. A note without a note-off lasts no longer than the longest that has one.
//! - Running status survives meta and system-exclusive events: the format forbids it, but files that rely on it exist.
//! - The tracks of a type 2 file are played one after another.
//! - A track ends with its end-of-track event. If the length that it announces is another, the event decides where the file
//!   or another track follows it; else the length does, and what lies between is left unread.
//! - Chunks that are no tracks, real-time bytes, and what follows the last track are passed over. A controller's value above
//!   127 is taken for 127; a key or velocity above it is an error.
//! - Tempo and metre are metadata. Only where the division is in SMPTE frames, so that ticks are time, the tempo map
//!   (120 bpm where the file has none) turns ticks into quarter notes.

mod clock;
mod events;
mod file;
mod percussion;
mod play;
mod score;
mod tracks;
mod warnings;
mod write;

pub use file::MAX_BYTES;
pub(super) use file::{is_midi, read_file};
pub use play::Note;
pub use score::{Metre, Score};
pub use write::{DIVISION, Writing, write_notes};
