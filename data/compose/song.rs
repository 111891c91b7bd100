//! A melody over chords: the part of classical and romantic pieces that is written phrase by phrase.

use super::line::{Line, Manner, Note, Other, Request, Slot, Want, rhythm};
use super::rng::Rng;
use super::texture::{bass_line, nearest, ornament};
use super::theory::{BAR, Harmony, Key};

/// Where a phrase comes to rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Anywhere in the last chord, as a rule a dominant.
    Open,
    /// The tonic.
    Closed,
}

/// What a phrase takes over from an earlier one; notes count from the phrase's beginning.
#[derive(Clone, Copy, Debug)]
pub enum Theme<'a> {
    /// Nothing.
    New,
    /// These notes as they are, as far as they go and the rhythms agree.
    Same(&'a [Note]),
    /// Their contour, bent to other chords or another key.
    Like(&'a [Note]),
}

/// A phrase to write.
#[derive(Clone, Copy, Debug)]
pub struct Phrase<'a> {
    pub key: Key,
    /// Roman numerals as in [`Harmony::push_bars`].
    pub harmony: &'a str,
    /// The melody's rhythm, a text a bar as in [`rhythm`].
    pub rhythms: &'a [&'a str],
    pub end: End,
    pub theme: Theme<'a>,
}

impl<'a> Phrase<'a> {
    /// A new phrase with an open end.
    pub fn new(key: Key, harmony: &'a str, rhythms: &'a [&'a str]) -> Self {
        Self { key, harmony, rhythms, end: End::Open, theme: Theme::New }
    }

    pub fn closed(self) -> Self {
        Self { end: End::Closed, ..self }
    }

    pub fn with(self, theme: Theme<'a>) -> Self {
        Self { theme, ..self }
    }
}

/// Melody, bass and chords so far.
pub struct Song {
    pub rng: Rng,
    pub harmony: Harmony,
    pub melody: Line,
    /// One note a chord: what figures stand on.
    pub bass: Line,
    manner: Manner,
    /// Lowest and highest pitch of the melody and of the bass.
    ranges: [(i32, i32); 2],
}

/// Melodies drawn for each phrase, of which the most singable is kept.
const DRAWS: usize = 16;

impl Song {
    pub fn new(rng: Rng, manner: Manner, melody: (i32, i32), bass: (i32, i32)) -> Self {
        Self {
            rng,
            harmony: Harmony::default(),
            melody: Line::default(),
            bass: Line::default(),
            manner,
            ranges: [melody, bass],
        }
    }

    /// Writes a phrase and returns its melody, counted from the phrase's beginning.
    pub fn sing(&mut self, phrase: Phrase) -> Vec<Note> {
        let from = self.harmony.end();
        self.harmony.push_bars(phrase.key, phrase.harmony);
        let last = self.bass.notes.last().map(|n| n.pitch);
        let [(low, high), (bottom, top)] = self.ranges;
        self.bass.insert(&bass_line(&self.harmony, from, self.harmony.end(), bottom, top, last));

        let mut slots: Vec<Slot> = Vec::new();
        for (bar, text) in phrase.rhythms.iter().enumerate() {
            let start = from + BAR * bar as i32;
            slots.extend(rhythm(text).0.iter().map(|&(at, len)| Slot { start: start + at, len, want: Want::Free }));
        }
        if let Theme::Same(notes) | Theme::Like(notes) = phrase.theme {
            let exact = matches!(phrase.theme, Theme::Same(_));
            for (i, (slot, note)) in slots.iter_mut().zip(notes).enumerate() {
                if note.start + from != slot.start {
                    break;
                }
                slot.want = match (exact, i) {
                    (true, _) => Want::Fixed(note.pitch),
                    (false, 0) => Want::Near(note.pitch, 1),
                    (false, _) => Want::Move(note.pitch - notes[i - 1].pitch, 5),
                };
            }
        }
        if let (End::Closed, Some(slot)) = (phrase.end, slots.last_mut()) {
            slot.want = Want::Fixed(nearest(phrase.key.tonic, (low + high) / 2, low, high));
        }
        let mut best: Option<(i32, Vec<Note>)> = None;
        for _ in 0..DRAWS {
            let others = [Other { line: &self.bass, above: false }];
            let request = Request {
                harmony: &self.harmony,
                slots: &slots,
                low,
                high,
                before: self.melody.before(from),
                others: &others,
                bass: false,
                manner: self.manner,
            };
            let (notes, cost) = request.write(&mut self.rng);
            let worth = grace(&notes) - cost / 3;
            if best.as_ref().is_none_or(|(most, _)| worth > *most) {
                best = Some((worth, notes));
            }
        }
        let notes = best.map(|b| b.1).unwrap_or_default();
        self.melody.insert(&notes);
        notes.iter().map(|n| Note { start: n.start - from, ..*n }).collect()
    }
}

impl Song {
    /// Varies the melody from `from` on: `often` in ten long notes are ornamented.
    pub fn vary(&mut self, from: i32, often: i32) {
        let at = self.melody.before(from).len();
        let plain = self.melody.notes.split_off(at);
        let varied = ornament(&plain, &self.harmony, &mut self.rng, often);
        self.melody.insert(&varied);
    }
}

/// How well a phrase sings: one peak, a range between a sixth and a tenth, some leaps, few hammered notes.
fn grace(notes: &[Note]) -> i32 {
    let pitches: Vec<i32> = notes.iter().map(|n| n.pitch).collect();
    let (low, high) = (pitches.iter().min().copied().unwrap_or(0), pitches.iter().max().copied().unwrap_or(0));
    let range = high - low;
    let count = |hit: &dyn Fn(&[i32]) -> bool| pitches.windows(2).filter(|w| hit(w)).count() as i32;
    let leaps = count(&|w| (w[1] - w[0]).abs() > 4);
    let repeats = count(&|w| w[1] == w[0]);
    let peaks = pitches.iter().filter(|&&p| p == high).count() as i32;
    let distinct = (low..=high).filter(|p| pitches.contains(p)).count() as i32;
    let span = 3 * (9 - range).max(0) + 3 * (range - 15).max(0);
    3 * distinct - span - 4 * (peaks - 1) - 4 * (leaps - 4).abs() - 3 * (repeats - 3).max(0)
}

/// Loudness over time: points joined by straight lines.
#[derive(Clone, Debug, Default)]
pub struct Dynamics {
    points: Vec<(i32, i32)>,
}

impl Dynamics {
    /// Loudness `level` at `step`; points come in order of time.
    pub fn point(&mut self, step: i32, level: i32) {
        self.points.push((step, level));
    }

    /// One loudness from `from` up to `to`.
    pub fn terrace(&mut self, from: i32, to: i32, level: i32) {
        self.point(from, level);
        self.point(to - 1, level);
    }

    pub fn at(&self, step: i32) -> i32 {
        let next = self.points.partition_point(|p| p.0 <= step);
        match (self.points[..next].last(), self.points.get(next)) {
            (Some(a), Some(b)) => a.1 + (b.1 - a.1) * (step - a.0) / (b.0 - a.0),
            (Some(only), None) | (None, Some(only)) => only.1,
            (None, None) => 64,
        }
    }
}
