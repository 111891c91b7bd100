//! A roll as sheet music: MusicXML 4.0 with a piano's two staves (W3C Music Notation Community Group,
//! <https://www.w3.org/2021/06/musicxml40/>), for MuseScore, Finale, Sibelius, Dorico and what else reads it.
//!
//! Every note keeps its onset and its length: what one note value cannot express is tied together of several, and notes
//! of a staff that overlap go to voices of their own, at most four a staff. Beams and stems are left to the program
//! that reads the file. Velocities become dynamic marks where the level changes for some bars; each note's own velocity
//! is in the MIDI file only.

use std::fmt::Write;

use super::hands::{self, Hand};
use super::roll::{BAR, MAX_STEPS, Roll, RollNote, STEPS_PER_QUARTER};
use crate::xml::escape;
use crate::{Error, Result};

/// Voices a staff: what notation programs offer.
const VOICES: usize = 4;

/// The keys of a piano as MIDI pitches.
const LOWEST: u8 = 21;
const HIGHEST: u8 = 108;

/// Dynamic marks with the velocities that MuseScore 3 plays for them.
const DYNAMICS: [(&str, f64); 6] = [("pp", 33.0), ("p", 49.0), ("mp", 64.0), ("mf", 80.0), ("f", 96.0), ("ff", 112.0)];

/// How far from a mark's velocity the mean of a bar must be for another mark: half a level and a margin, so that a
/// piece between two levels does not get a mark every few bars.
const OTHER_LEVEL: f64 = 11.0;

/// What a score says besides its notes.
#[derive(Clone, Copy, Debug)]
pub struct Notation<'a> {
    /// The title, any text; empty for none.
    pub title: &'a str,
    /// Licence or copyright, any text; empty for none.
    pub rights: &'a str,
    /// The program that wrote the file, with its version.
    pub software: &'a str,
    /// The key signature: sharps if positive, flats if negative, -7..=7.
    pub fifths: i8,
    /// Whether the key is minor: A minor instead of C major.
    pub minor: bool,
    /// The tempo mark in quarter notes a minute, 4..=1000; none where not known.
    pub bpm: Option<f64>,
    /// Beats a bar, and the beat as a fraction of a whole note: (4, 4) for common time. A bar is a whole number of time
    /// steps.
    pub metre: (u8, u8),
}

impl Default for Notation<'_> {
    /// C major, 4/4, no title, rights or tempo.
    fn default() -> Self {
        let software = concat!("deepj ", env!("CARGO_PKG_VERSION"));
        Self { title: "", rights: "", software, fifths: 0, minor: false, bpm: None, metre: (4, 4) }
    }
}

/// A score that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The MusicXML document.
    pub xml: String,
    /// Bars.
    pub bars: usize,
    /// Notes for which four voices a staff did not suffice. They sound as they should, but are cut into tied parts
    /// wherever another note of their voice begins or ends.
    pub crowded: usize,
}

impl Roll {
    /// The roll as a MusicXML document, its notes dealt to both hands by [`hands::split`]. The last bar is filled with
    /// rests.
    ///
    /// # Errors
    /// Those of [`write()`].
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> deepj::Result<()> {
    /// use deepj::music::{NoteRange, Roll, musicxml::Notation, roll::RollNote};
    ///
    /// let note = RollNote { pitch: 60, velocity: 80, start: 0, end: 5, replay: false };
    /// let roll = Roll::from_notes(NoteRange::default(), [note])?;
    /// let written = roll.to_musicxml(&Notation { title: "Five sixteenths", ..Notation::default() })?;
    /// assert!(written.xml.contains("<type>quarter</type>") && written.bars == 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn to_musicxml(&self, notation: &Notation) -> Result<Written> {
        let notes = self.notes();
        write(&notes, &hands::split(&notes), self.steps(), notation)
    }
}

/// `notes`, each played by the hand at the same place of `hands`, as a MusicXML document of at least `steps` time
/// steps: the right hand's notes on the upper staff, the left hand's on the lower one.
///
/// # Errors
/// - `hands` has another length than `notes`.
/// - A note lies outside a piano's keys, ends before it begins or overlaps with another of its pitch; of these
///   [`Roll::notes`] has only the first.
/// - The key signature, metre or tempo of `notation` cannot be written.
/// - The piece is longer than [`MAX_STEPS`].
pub fn write(notes: &[RollNote], hands: &[Hand], steps: usize, notation: &Notation) -> Result<Written> {
    let metre = Metre::new(notation.metre)?;
    check(notes, hands, steps, notation)?;
    let bars = notes.iter().map(|note| note.end).fold(steps, usize::max).div_ceil(metre.bar).max(1);
    let mut crowded = 0;
    let staves = [Hand::Right, Hand::Left].map(|hand| {
        let staff: Vec<RollNote> =
            notes.iter().zip(hands).filter(|(_, played_by)| **played_by == hand).map(|(note, _)| *note).collect();
        let (voices, surplus) = voices(staff, metre.bar);
        crowded += surplus;
        voices.map(|notes| chords(&notes, &metre, bars))
    });
    let mut xml = String::new();
    // Writing to a string cannot fail.
    let _ = document(&mut xml, staves, &dynamics(notes, metre.bar), &metre, notation);
    Ok(Written { xml, bars, crowded })
}

/// Whether all can be written; see [`write()`].
fn check(notes: &[RollNote], hands: &[Hand], steps: usize, notation: &Notation) -> Result<()> {
    if hands.len() != notes.len() {
        return Err(Error::usage(
            format!("{} hands for {} notes", hands.len(), notes.len()),
            "give one hand a note, as `hands::split` does",
        ));
    }
    if let Some(note) = notes.iter().find(|note| !(LOWEST..=HIGHEST).contains(&note.pitch)) {
        return Err(Error::usage(
            format!("MIDI pitch {} is no key of a piano, which has {LOWEST}..={HIGHEST}", note.pitch),
            "leave the note out or transpose it",
        ));
    }
    let mut order: Vec<&RollNote> = notes.iter().collect();
    order.sort_unstable_by_key(|note| (note.pitch, note.start));
    let overlap = order.windows(2).find(|pair| pair[0].pitch == pair[1].pitch && pair[0].end > pair[1].start);
    if let Some(note) = notes.iter().find(|note| note.end <= note.start).or(overlap.map(|pair| pair[1])) {
        let RollNote { pitch, start, .. } = note;
        return Err(Error::usage(
            format!("the note of pitch {pitch} at time step {start} overlaps with another or has no length"),
            "make a roll of the notes and take its notes",
        ));
    }
    let end = notes.iter().map(|note| note.end).fold(steps, usize::max);
    if end > MAX_STEPS {
        return Err(Error::model(
            format!("a score of {end} time steps, more than the {MAX_STEPS} allowed"),
            "cut the piece into shorter ones",
        ));
    }
    if !(-7..=7).contains(&notation.fifths) {
        return Err(Error::usage(
            format!("a key signature of {} fifths", notation.fifths),
            "give -7 (seven flats) to 7 (seven sharps)",
        ));
    }
    match notation.bpm {
        Some(bpm) if !(4.0..=1000.0).contains(&bpm) => {
            Err(Error::usage(format!("a tempo of {bpm} bpm"), "give a tempo from 4 to 1000 bpm"))
        }
        _ => Ok(()),
    }
}

/// Where the beats are.
struct Metre {
    /// Time steps of a bar.
    bar: usize,
    /// Time steps of the metre's unit, at least one.
    unit: usize,
    /// Three units are a beat, as in 6/8.
    compound: bool,
}

impl Metre {
    fn new((numerator, denominator): (u8, u8)) -> Result<Self> {
        let sixteenths = BAR * usize::from(numerator);
        let parts = usize::from(denominator);
        if numerator == 0 || !denominator.is_power_of_two() || !sixteenths.is_multiple_of(parts) {
            return Err(Error::usage(
                format!("a metre of {numerator}/{denominator}"),
                "give one whose bars are whole sixteenths, for example 4/4",
            ));
        }
        let compound = numerator > 3 && numerator.is_multiple_of(3);
        Ok(Self { bar: sixteenths / parts, unit: (BAR / parts).max(1), compound })
    }

    /// How strong the time step `place` of a bar is.
    fn strength(&self, place: usize) -> u32 {
        if place.is_multiple_of(self.bar) {
            return 5;
        }
        if self.compound {
            return match place.is_multiple_of(3 * self.unit) {
                true => 3,
                false => place.trailing_zeros().min(self.unit.ilog2()),
            };
        }
        // The middle of a bar of four quarters is stronger than its other beats; a bar of three or five has none.
        place.trailing_zeros().min(if self.bar.is_multiple_of(8) { 3 } else { 2 })
    }

    /// Cuts the time steps `from..to` of a bar into note values, so that the beats can be seen: a value may reach over
    /// a place that is as strong as its beginning or end, an undotted note (a syncopation) over one that is stronger by
    /// one level. Rests are stricter.
    fn values(&self, from: usize, to: usize, rest: bool, values: &mut Vec<(usize, usize)>) {
        let Some(strongest) = (from + 1..to).map(|place| self.strength(place)).max() else {
            values.push((from, to));
            return;
        };
        let ends = self.strength(from).max(self.strength(to));
        let allowed = note_type(to - from).is_some_and(|(_, dotted)| match rest {
            true => strongest < ends && (!dotted || self.compound && from.is_multiple_of(3 * self.unit)),
            false => strongest <= ends + u32::from(!dotted),
        });
        if allowed {
            values.push((from, to));
            return;
        }
        let mut places = (from + 1..to).filter(|&place| self.strength(place) == strongest);
        // From a strong beat the longest value comes first, to a strong beat last.
        let place = if self.strength(from) >= strongest { places.next_back() } else { places.next() };
        let place = place.unwrap_or(to - 1);
        self.values(from, place, rest, values);
        self.values(place, to, rest, values);
    }
}

/// The name of the note value of `steps` time steps and whether it is dotted; `None` where it takes several.
fn note_type(steps: usize) -> Option<(&'static str, bool)> {
    let undotted = |steps| match steps {
        1 => Some("16th"),
        2 => Some("eighth"),
        4 => Some("quarter"),
        8 => Some("half"),
        16 => Some("whole"),
        _ => None,
    };
    let dotted = || undotted(steps / 3 * 2).filter(|_| steps.is_multiple_of(3));
    undotted(steps).map(|name| (name, false)).or_else(|| dotted().map(|name| (name, true)))
}

/// What a voice has played last, while notes are dealt to voices.
#[derive(Clone, Copy)]
struct Voice {
    /// The time step from which it is silent.
    end: usize,
    /// Pitch of its last chord.
    pitch: u8,
}

/// The notes of a staff by voices, each by onset, and how many notes were left when all voices sounded: these are in
/// the last voice nevertheless.
///
/// Notes of the same onset and end are one chord. Chords go to voices that are silent: several of one onset from high
/// to low to the first such voices, a single one to a voice that ends with its onset or lies near in pitch.
fn voices(mut notes: Vec<RollNote>, bar: usize) -> ([Vec<RollNote>; VOICES], usize) {
    notes.sort_unstable_by_key(|note| (note.start, note.end, note.pitch));
    let mut chords: Vec<&[RollNote]> = notes.chunk_by(|a, b| (a.start, a.end) == (b.start, b.end)).collect();
    let top = |chord: &[RollNote]| chord[chord.len() - 1].pitch;
    chords.sort_by_key(|chord| (chord[0].start, u8::MAX - top(chord)));
    let mut dealt: [Vec<RollNote>; VOICES] = Default::default();
    let mut voices: [Option<Voice>; VOICES] = [None; VOICES];
    let mut crowded = 0;
    for onset in chords.chunk_by(|a, b| a[0].start == b[0].start) {
        let (start, pitch) = (onset[0][0].start, top(onset[0]));
        let mut silent: Vec<usize> =
            (0..VOICES).filter(|&v| voices[v].is_none_or(|voice| voice.end <= start)).collect();
        if onset.len() == 1 {
            // Semitones: what a new voice, or a rest within a bar, is worth.
            silent.sort_by_key(|&v| {
                let (gap, distance) = match voices[v] {
                    Some(voice) if voice.end == start => (0, voice.pitch.abs_diff(pitch)),
                    Some(voice) if voice.end / bar == start / bar => (6, voice.pitch.abs_diff(pitch)),
                    _ => (24 * v, 6),
                };
                6 * v + gap + usize::from(distance.min(24))
            });
        }
        let mut silent = silent.into_iter();
        for chord in onset {
            let v = silent.next().unwrap_or_else(|| {
                crowded += chord.len();
                VOICES - 1
            });
            let end = voices[v].map_or(0, |voice| voice.end).max(chord[0].end);
            voices[v] = Some(Voice { end, pitch: top(chord) });
            dealt[v].extend_from_slice(chord);
        }
    }
    (dealt, crowded)
}

/// A note as it is written: one note value of it.
struct Head {
    pitch: u8,
    /// Whether it goes on from the note before, and to the note after it.
    tied: [bool; 2],
    /// The accidental that is printed.
    accidental: Option<&'static str>,
}

/// What a voice plays during one note value.
struct Chord {
    start: usize,
    end: usize,
    /// From low to high, at least one.
    heads: Vec<Head>,
}

/// The chords of one voice by bars, without its rests: cut where a note of the voice begins or ends, at bar lines and
/// into note values.
fn chords(notes: &[RollNote], metre: &Metre, bars: usize) -> Vec<Vec<Chord>> {
    let mut places: Vec<usize> = notes.iter().flat_map(|note| [note.start, note.end]).collect();
    places.sort_unstable();
    places.dedup();
    let mut by_bar: Vec<Vec<Chord>> = Vec::new();
    by_bar.resize_with(bars, Vec::new);
    let mut sounding: Vec<RollNote> = Vec::new();
    let mut coming = notes.iter().peekable();
    let mut values = Vec::new();
    for pair in places.windows(2) {
        let (mut from, to) = (pair[0], pair[1]);
        sounding.retain(|note| note.end > from);
        while let Some(note) = coming.next_if(|note| note.start <= from) {
            sounding.push(*note);
        }
        sounding.sort_unstable_by_key(|note| note.pitch);
        while from < to && !sounding.is_empty() {
            let bar = from / metre.bar;
            let line = bar * metre.bar;
            let end = to.min(line + metre.bar);
            metre.values(from - line, end - line, false, &mut values);
            by_bar[bar].extend(values.drain(..).map(|(start, end)| {
                let (start, end) = (line + start, line + end);
                let head = |note: &RollNote| Head {
                    pitch: note.pitch,
                    tied: [note.start < start, note.end > end],
                    accidental: None,
                };
                Chord { start, end, heads: sounding.iter().map(head).collect() }
            }));
            from = end;
        }
    }
    by_bar
}

/// A spelt pitch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Spelling {
    /// 0 for C to 6 for B.
    step: u8,
    /// -2 for a double flat to 2 for a double sharp.
    alter: i8,
    /// 4 from middle C up.
    octave: i8,
}

/// Spells a MIDI pitch: of its names on the line of fifths (F, C, G and so on) the one within the twelve of the key.
/// They are, in C major, A flat to C sharp, and in A minor, E flat to G sharp, so that leading notes and the chords
/// that a key borrows from its parallel are spelt as usual.
fn spell(pitch: u8, fifths: i8, minor: bool) -> Spelling {
    let first = i32::from(fifths) - if minor { 3 } else { 4 };
    let pitch = i32::from(pitch);
    let name = first + (7 * pitch - first).rem_euclid(12);
    // F is -1, so that seven names follow without a change of sharps or flats.
    let alter = (name + 1).div_euclid(7);
    let natural = pitch - alter;
    let step = (4 * name).rem_euclid(7);
    Spelling { step: step as u8, alter: alter as i8, octave: (natural.div_euclid(12) - 1) as i8 }
}

/// Sharps or flats of the signature on `step`.
fn signature(step: u8, fifths: i8) -> i8 {
    // The place of the step among F, C, G, D, A, E, B.
    let place = (2 * i32::from(step) + 1).rem_euclid(7);
    (i32::from(fifths) - place + 6).div_euclid(7) as i8
}

/// Sets the accidentals of one bar of a staff: they hold for all voices, to the end of the bar, in one octave.
fn set_accidentals(voices: &mut [&mut Vec<Chord>], notation: &Notation) {
    let mut order: Vec<(usize, usize, usize)> = Vec::new();
    for (v, chords) in voices.iter().enumerate() {
        order.extend(chords.iter().enumerate().map(|(c, chord)| (chord.start, v, c)));
    }
    order.sort_unstable();
    let mut places: Vec<(i8, u8, Option<i8>)> = Vec::new();
    for (_, v, c) in order {
        for head in &mut voices[v][c].heads {
            let Spelling { step, alter, octave } = spell(head.pitch, notation.fifths, notation.minor);
            let usual = signature(step, notation.fifths);
            let i = places.iter().position(|&(o, s, _)| (o, s) == (octave, step)).unwrap_or_else(|| {
                places.push((octave, step, Some(usual)));
                places.len() - 1
            });
            let holds = &mut places[i].2;
            if head.tied[0] {
                // A tie brings its accidental over the bar line; what holds for later notes is then said by each.
                if *holds != Some(alter) {
                    *holds = None;
                }
            } else if *holds != Some(alter) {
                *holds = Some(alter);
                head.accidental = Some(match alter {
                    -2 => "flat-flat",
                    -1 => "flat",
                    1 => "sharp",
                    2 => "double-sharp",
                    _ => "natural",
                });
            }
        }
    }
}

/// Dynamic marks, as the bar and the place in [`DYNAMICS`]: one for the first notes, then one where the mean velocity
/// of two successive bars with onsets is at another level.
fn dynamics(notes: &[RollNote], bar: usize) -> Vec<(usize, usize)> {
    let mut onsets: Vec<(usize, f64)> = notes.iter().map(|note| (note.start / bar, f64::from(note.velocity))).collect();
    onsets.sort_unstable_by_key(|&(bar, _)| bar);
    let means: Vec<(usize, f64)> = onsets
        .chunk_by(|a, b| a.0 == b.0)
        .map(|bar| (bar[0].0, bar.iter().map(|(_, velocity)| velocity).sum::<f64>() / bar.len() as f64))
        .collect();
    let nearest = |velocity: f64| {
        let distance = |i: &usize| (DYNAMICS[*i].1 - velocity).abs();
        (0..DYNAMICS.len()).min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or_default()
    };
    let mut marks: Vec<(usize, usize)> = Vec::new();
    for (i, &(bar, mean)) in means.iter().enumerate() {
        let Some(&(_, next)) = means.get(i + 1).or(means.get(i).filter(|_| marks.is_empty())) else { break };
        let level = nearest(f64::midpoint(mean, next));
        if let Some(&(_, current)) = marks.last() {
            let [now, then] = [mean, next].map(|velocity| velocity - DYNAMICS[current].1);
            if now.abs().min(then.abs()) < OTHER_LEVEL || (now > 0.0) != (then > 0.0) || level == current {
                continue;
            }
        }
        marks.push((bar, level));
    }
    marks
}

/// Writes the document; `staves` has each staff's voices, and these their chords by bars.
fn document(
    xml: &mut String,
    mut staves: [[Vec<Vec<Chord>>; VOICES]; 2],
    marks: &[(usize, usize)],
    metre: &Metre,
    notation: &Notation,
) -> std::fmt::Result {
    head(xml, notation)?;
    let bars = staves[0][0].len();
    let mut marks = marks.iter().peekable();
    for bar in 0..bars {
        writeln!(xml, r#"    <measure number="{}">"#, bar + 1)?;
        if bar == 0 {
            attributes(xml, notation)?;
        }
        if let Some(&(_, level)) = marks.next_if(|mark| mark.0 == bar) {
            let (mark, velocity) = DYNAMICS[level];
            writeln!(xml, r#"      <direction placement="below">"#)?;
            writeln!(xml, "        <direction-type><dynamics><{mark}/></dynamics></direction-type>")?;
            // As a percentage of velocity 90.
            writeln!(xml, r#"        <staff>1</staff><sound dynamics="{:.2}"/>"#, velocity / 0.9)?;
            writeln!(xml, "      </direction>")?;
        }
        let mut first = true;
        for (staff, voices) in staves.iter_mut().enumerate() {
            let mut voices: Vec<&mut Vec<Chord>> = voices.iter_mut().map(|bars| &mut bars[bar]).collect();
            set_accidentals(&mut voices, notation);
            for (v, chords) in voices.iter().enumerate().filter(|(v, chords)| *v == 0 || !chords.is_empty()) {
                if !first {
                    writeln!(xml, "      <backup><duration>{}</duration></backup>", metre.bar)?;
                }
                first = false;
                voice(xml, chords, bar * metre.bar, metre, Place { staff, voice: v }, notation)?;
            }
        }
        if bar + 1 == bars {
            writeln!(xml, r#"      <barline location="right"><bar-style>light-heavy</bar-style></barline>"#)?;
        }
        writeln!(xml, "    </measure>")?;
    }
    writeln!(xml, "  </part>\n</score-partwise>")
}

/// All that stands before the first measure.
fn head(xml: &mut String, notation: &Notation) -> std::fmt::Result {
    writeln!(xml, r#"<?xml version="1.0" encoding="UTF-8"?>"#)?;
    writeln!(xml, r#"<!DOCTYPE score-partwise PUBLIC "-//Recordare//DTD MusicXML 4.0 Partwise//EN""#)?;
    writeln!(xml, r#"  "http://www.musicxml.org/dtds/partwise.dtd">"#)?;
    writeln!(xml, r#"<score-partwise version="4.0">"#)?;
    if !notation.title.is_empty() {
        writeln!(xml, "  <work><work-title>{}</work-title></work>", escape(notation.title))?;
    }
    writeln!(xml, "  <identification>")?;
    if !notation.rights.is_empty() {
        writeln!(xml, "    <rights>{}</rights>", escape(notation.rights))?;
    }
    writeln!(xml, "    <encoding>")?;
    writeln!(xml, "      <software>{}</software>", escape(notation.software))?;
    writeln!(xml, r#"      <supports element="accidental" type="yes"/>"#)?;
    writeln!(xml, r#"      <supports element="beam" type="no"/>"#)?;
    writeln!(xml, r#"      <supports element="stem" type="no"/>"#)?;
    writeln!(xml, "    </encoding>\n  </identification>")?;
    writeln!(xml, "  <part-list>")?;
    writeln!(xml, r#"    <score-part id="P1">"#)?;
    writeln!(xml, "      <part-name>Piano</part-name>")?;
    writeln!(xml, r#"      <score-instrument id="P1-I1"><instrument-name>Piano</instrument-name></score-instrument>"#)?;
    writeln!(xml, r#"      <midi-instrument id="P1-I1">"#)?;
    writeln!(xml, "        <midi-channel>1</midi-channel><midi-program>1</midi-program>")?;
    writeln!(xml, "      </midi-instrument>")?;
    writeln!(xml, "    </score-part>\n  </part-list>")?;
    writeln!(xml, r#"  <part id="P1">"#)
}

/// Key, metre and clefs, and the tempo mark.
fn attributes(xml: &mut String, notation: &Notation) -> std::fmt::Result {
    let mode = if notation.minor { "minor" } else { "major" };
    let (beats, beat_type) = notation.metre;
    writeln!(xml, "      <attributes>")?;
    writeln!(xml, "        <divisions>{STEPS_PER_QUARTER}</divisions>")?;
    writeln!(xml, "        <key><fifths>{}</fifths><mode>{mode}</mode></key>", notation.fifths)?;
    writeln!(xml, "        <time><beats>{beats}</beats><beat-type>{beat_type}</beat-type></time>")?;
    writeln!(xml, "        <staves>2</staves>")?;
    writeln!(xml, r#"        <clef number="1"><sign>G</sign><line>2</line></clef>"#)?;
    writeln!(xml, r#"        <clef number="2"><sign>F</sign><line>4</line></clef>"#)?;
    writeln!(xml, "      </attributes>")?;
    if let Some(bpm) = notation.bpm {
        let bpm = (100.0 * bpm).round() / 100.0;
        writeln!(xml, r#"      <direction placement="above">"#)?;
        writeln!(xml, "        <direction-type>")?;
        writeln!(xml, "          <metronome><beat-unit>quarter</beat-unit><per-minute>{bpm}</per-minute></metronome>")?;
        writeln!(xml, "        </direction-type>")?;
        writeln!(xml, r#"        <staff>1</staff><sound tempo="{bpm}"/>"#)?;
        writeln!(xml, "      </direction>")?;
    }
    Ok(())
}

/// Where a voice is, counted from 0.
#[derive(Clone, Copy)]
struct Place {
    staff: usize,
    voice: usize,
}

impl Place {
    /// Its number in the part: 1 to 4 on the upper staff, 5 to 8 on the lower.
    fn number(self) -> usize {
        self.staff * VOICES + self.voice + 1
    }
}

/// One voice of the bar that begins on time step `line`, and what is silent of it: as rests in a staff's first voice,
/// unseen in the others.
fn voice(
    xml: &mut String,
    chords: &[Chord],
    line: usize,
    metre: &Metre,
    place: Place,
    notation: &Notation,
) -> std::fmt::Result {
    let (number, staff) = (place.number(), place.staff + 1);
    if chords.is_empty() {
        write!(xml, r#"      <note><rest measure="yes"/><duration>{}</duration>"#, metre.bar)?;
        return writeln!(xml, "<voice>{number}</voice><staff>{staff}</staff></note>");
    }
    let mut now = 0;
    let mut rests = Vec::new();
    let ends = chords.iter().map(|chord| (Some(chord), chord.start - line)).chain([(None, metre.bar)]);
    for (chord, start) in ends {
        if start > now && place.voice > 0 {
            let steps = start - now;
            writeln!(
                xml,
                "      <forward><duration>{steps}</duration><voice>{number}</voice><staff>{staff}</staff></forward>"
            )?;
        } else if start > now {
            metre.values(now, start, true, &mut rests);
        }
        for (from, to) in rests.drain(..) {
            note(xml, "<rest/>", to - from, None, place, notation)?;
        }
        let Some(chord) = chord else { break };
        for (i, head) in chord.heads.iter().enumerate() {
            let before = if i > 0 { "<chord/>" } else { "" };
            note(xml, before, chord.end - chord.start, Some(head), place, notation)?;
        }
        now = chord.end - line;
    }
    Ok(())
}

/// One `<note>`, a rest without `head`; `before` is what stands at its beginning.
fn note(
    xml: &mut String,
    before: &str,
    steps: usize,
    head: Option<&Head>,
    place: Place,
    notation: &Notation,
) -> std::fmt::Result {
    const TIES: [&str; 2] = ["stop", "start"];
    let ties = || TIES.iter().zip(head.map_or([false; 2], |head| head.tied)).filter(|(_, tied)| *tied);
    write!(xml, "      <note>{before}")?;
    if let Some(head) = head {
        let Spelling { step, alter, octave } = spell(head.pitch, notation.fifths, notation.minor);
        write!(xml, "<pitch><step>{}</step>", ["C", "D", "E", "F", "G", "A", "B"][usize::from(step)])?;
        if alter != 0 {
            write!(xml, "<alter>{alter}</alter>")?;
        }
        write!(xml, "<octave>{octave}</octave></pitch>")?;
    }
    write!(xml, "<duration>{steps}</duration>")?;
    for (kind, _) in ties() {
        write!(xml, r#"<tie type="{kind}"/>"#)?;
    }
    write!(xml, "<voice>{}</voice>", place.number())?;
    if let Some((name, dotted)) = note_type(steps) {
        write!(xml, "<type>{name}</type>{}", if dotted { "<dot/>" } else { "" })?;
    }
    if let Some(accidental) = head.and_then(|head| head.accidental) {
        write!(xml, "<accidental>{accidental}</accidental>")?;
    }
    write!(xml, "<staff>{}</staff>", place.staff + 1)?;
    if ties().next().is_some() {
        write!(xml, "<notations>")?;
        for (kind, _) in ties() {
            write!(xml, r#"<tied type="{kind}"/>"#)?;
        }
        write!(xml, "</notations>")?;
    }
    writeln!(xml, "</note>")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::range::NoteRange;
    use super::*;

    fn note(pitch: u8, start: usize, end: usize) -> RollNote {
        RollNote { pitch, velocity: 80, start, end, replay: false }
    }

    /// A score of notes that the right hand plays.
    fn right(notes: &[RollNote], notation: &Notation) -> String {
        write(notes, &vec![Hand::Right; notes.len()], 0, notation).unwrap().xml
    }

    /// The text of an element's first occurrence.
    fn text<'a>(xml: &'a str, element: &str) -> Option<&'a str> {
        let (_, rest) = xml.split_once(&format!("<{element}>"))?;
        rest.split_once("</").map(|(text, _)| text)
    }

    fn number(xml: &str, element: &str) -> Option<usize> {
        text(xml, element).map(|text| text.parse().unwrap())
    }

    /// The notes and rests of staff 1, as they are written: "E4 quarter- sharp" with "-" for a tie and "+" for a
    /// chord's further notes.
    fn staff(xml: &str) -> Vec<String> {
        let notes = xml.lines().filter(|line| line.contains("<note>") && line.contains("<staff>1</staff>"));
        notes.map(written).collect()
    }

    fn written(note: &str) -> String {
        let pitch = text(note, "step").map_or("rest".into(), |step| {
            let alter = text(note, "alter").map_or("", |alter| match alter {
                "-2" => "bb",
                "-1" => "b",
                "1" => "#",
                _ => "x",
            });
            format!("{step}{alter}{}", text(note, "octave").unwrap())
        });
        let chord = if note.contains("<chord/>") { "+" } else { "" };
        let dot = if note.contains("<dot/>") { "." } else { "" };
        let tie = if note.contains(r#"<tie type="start"/>"#) { "-" } else { "" };
        let accidental = text(note, "accidental").map_or(String::new(), |name| format!(" {name}"));
        format!("{chord}{pitch} {}{dot}{tie}{accidental}", text(note, "type").unwrap_or("bar"))
    }

    /// The notes of a document as (pitch, start, end, staff), tied ones joined; every voice of every measure must be
    /// full, and every tie must have two ends.
    fn read(xml: &str, bar: usize) -> Vec<(u8, usize, usize, usize)> {
        let mut notes = Vec::new();
        let mut open: BTreeMap<(usize, u8), (usize, usize)> = BTreeMap::new();
        for (i, measure) in xml.split("<measure ").skip(1).enumerate() {
            let (mut now, mut last) = (0, 0);
            let mut sums: BTreeMap<(usize, usize), usize> = BTreeMap::new();
            let mut found = Vec::new();
            for line in measure.lines() {
                let steps = number(line, "duration").unwrap_or(0);
                let place = || (number(line, "staff").unwrap(), number(line, "voice").unwrap());
                if line.contains("<backup>") {
                    now -= steps;
                } else if line.contains("<forward>") || line.contains("<note>") && !line.contains("<chord/>") {
                    let sum = sums.entry(place()).or_default();
                    assert_eq!(*sum, now, "{line}");
                    (last, now) = (now, now + steps);
                    *sum = now;
                }
                if let Some(step) = text(line, "step") {
                    assert_eq!(last + steps, now, "a chord of one length: {line}");
                    let natural = [9, 11, 0, 2, 4, 5, 7][usize::from(step.as_bytes()[0] - b'A')];
                    let alter: i32 = text(line, "alter").map_or(0, |alter| alter.parse().unwrap());
                    let pitch = (12 * (number(line, "octave").unwrap() + 1) + natural) as i32 + alter;
                    found.push((last + i * bar, now + i * bar, place().0, pitch as u8, line));
                }
            }
            assert!(sums.values().all(|sum| *sum == bar), "measure {}: {sums:?}", i + 1);
            assert!(sums.contains_key(&(1, 1)) && sums.contains_key(&(2, 5)));
            assert!(sums.keys().all(|&(staff, voice)| (4 * staff - 3..=4 * staff).contains(&voice)));
            found.sort();
            for (start, end, staff, pitch, line) in found {
                let begin = match (open.remove(&(staff, pitch)), line.contains(r#"<tie type="stop"/>"#)) {
                    (Some((begin, until)), true) if until == start => begin,
                    (None, false) => start,
                    _ => panic!("a tie with one end: {line}"),
                };
                match line.contains(r#"<tie type="start"/>"#) {
                    true => drop(open.insert((staff, pitch), (begin, end))),
                    false => notes.push((pitch, begin, end, staff)),
                }
            }
        }
        assert!(open.is_empty(), "{open:?}");
        notes.sort_unstable();
        notes
    }

    #[test]
    fn five_sixteenths_are_a_quarter_and_a_sixteenth() {
        let xml = right(&[note(60, 0, 5)], &Notation::default());
        assert_eq!(staff(&xml), ["C4 quarter-", "C4 16th", "rest 16th", "rest eighth", "rest half"]);
        assert_eq!(xml.matches("<tied ").count(), 2);
    }

    #[test]
    fn note_values_show_the_beats() {
        let values = |metre: (u8, u8), from: usize, to: usize| {
            let mut values = Vec::new();
            Metre::new(metre).unwrap().values(from, to, false, &mut values);
            values.into_iter().map(|(from, to)| to - from).collect::<Vec<_>>()
        };
        // A syncopation, one over the middle of the bar, a half note on the second beat, a dotted half before the bar
        // line.
        assert_eq!(values((4, 4), 2, 6), [4]);
        assert_eq!(values((4, 4), 6, 10), [2, 2]);
        assert_eq!(values((4, 4), 4, 12), [8]);
        assert_eq!(values((4, 4), 4, 16), [12]);
        assert_eq!(values((4, 4), 0, 7), [4, 3]);
        assert_eq!(values((4, 4), 3, 16), [1, 4, 8]);
        assert_eq!(values((4, 4), 4, 10), [4, 2]);
        assert_eq!(values((3, 4), 0, 12), [12]);
        assert_eq!(values((3, 4), 6, 10), [4]);
        assert_eq!(values((6, 8), 4, 8), [2, 2]);
        assert_eq!(values((6, 8), 0, 6), [6]);
        assert_eq!(values((12, 8), 0, 24), [24]);
        assert_eq!(values((5, 4), 0, 20), [16, 4]);
    }

    #[test]
    fn notes_are_tied_over_bar_lines() {
        let xml = right(&[note(61, 12, 36)], &Notation::default());
        let notes = ["rest half", "rest quarter", "C#4 quarter- sharp", "C#4 whole-", "C#4 quarter"];
        assert_eq!(staff(&xml)[..5], notes);
        // The sharp came over the bar line: the next note of its line says what it is.
        let xml = right(&[note(61, 12, 20), note(60, 20, 24), note(60, 24, 32)], &Notation::default());
        assert_eq!(staff(&xml)[3..], ["C#4 quarter", "C4 quarter natural", "C4 half"]);
    }

    #[test]
    fn notes_that_begin_and_end_together_are_a_chord_and_others_need_voices() {
        let xml = right(&[note(67, 0, 16), note(64, 0, 16), note(60, 0, 4), note(59, 4, 16)], &Notation::default());
        assert_eq!(staff(&xml), ["E4 whole", "+G4 whole", "C4 quarter", "B3 half."]);
        assert_eq!(xml.matches("<voice>2</voice>").count(), 2);
        assert!(!xml.contains("<voice>3</voice>"));
    }

    #[test]
    fn a_fifth_voice_is_tied_and_counted() {
        // Four long notes, then two short ones while all of them sound.
        let mut notes: Vec<RollNote> = (0..4).map(|i| note(72 - i, usize::from(i), 16)).collect();
        notes.extend([note(60, 4, 5), note(62, 7, 9)]);
        let written = write(&notes, &[Hand::Right; 6], 0, &Notation::default()).unwrap();
        assert_eq!(written.crowded, 2);
        notes.sort_by_key(|note| note.pitch);
        let expected: Vec<_> = notes.iter().map(|note| (note.pitch, note.start, note.end, 1)).collect();
        assert_eq!(read(&written.xml, 16), expected);
    }

    #[test]
    fn simultaneous_voices_are_in_the_order_of_their_pitches() {
        // After a low note of the first voice; the silence of the second is no rest.
        let notes = [note(60, 0, 4), note(62, 4, 8), note(79, 4, 16), note(55, 8, 16)];
        let xml = right(&notes, &Notation::default());
        assert_eq!(staff(&xml), ["C4 quarter", "G5 half.", "D4 quarter", "G3 half"]);
        assert_eq!(xml.matches("<forward><duration>4</duration><voice>2</voice>").count(), 1);
        // The higher of two is in the first voice, though the second is nearer.
        let xml = right(&[note(79, 0, 3), note(60, 0, 4), note(62, 4, 8), note(55, 4, 16)], &Notation::default());
        assert_eq!(staff(&xml), ["G5 eighth.", "rest 16th", "D4 quarter", "rest half", "C4 quarter", "G3 half."]);
    }

    #[test]
    fn pitches_are_spelt_for_the_key() {
        let names = |fifths: i8, minor: bool| {
            let name = |pitch: u8| {
                let Spelling { step, alter, octave } = spell(pitch, fifths, minor);
                let step = ["C", "D", "E", "F", "G", "A", "B"][usize::from(step)];
                let alter = ["bb", "b", "", "#", "x"][(alter + 2) as usize];
                format!("{step}{alter}{octave}")
            };
            (60..72).map(name).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names(0, false), "C4 C#4 D4 Eb4 E4 F4 F#4 G4 Ab4 A4 Bb4 B4");
        assert_eq!(names(0, true), "C4 C#4 D4 Eb4 E4 F4 F#4 G4 G#4 A4 Bb4 B4");
        assert_eq!(names(-1, true), "C4 C#4 D4 Eb4 E4 F4 F#4 G4 Ab4 A4 Bb4 B4");
        assert_eq!(names(-4, false), "C4 Db4 D4 Eb4 Fb4 F4 Gb4 G4 Ab4 A4 Bb4 Cb5");
        assert_eq!(names(7, false), "B#3 C#4 Cx4 D#4 E4 E#4 F#4 Fx4 G#4 A4 A#4 B4");
        assert_eq!(names(-7, false), "C4 Db4 Ebb4 Eb4 Fb4 F4 Gb4 Abb4 Ab4 Bbb4 Bb4 Cb5");
    }

    #[test]
    fn accidentals_say_what_the_signature_does_not() {
        // D minor: B flat is in the signature, the leading note is not, and holds to the end of the bar.
        let d_minor = Notation { fifths: -1, minor: true, ..Notation::default() };
        let melody = [70, 61, 61, 62, 61, 71];
        let notes: Vec<RollNote> = melody.iter().zip(0..).map(|(&pitch, i)| note(pitch, 4 * i, 4 * i + 4)).collect();
        let names = ["Bb4 quarter", "C#4 quarter sharp", "C#4 quarter", "D4 quarter"];
        let xml = right(&notes, &d_minor);
        assert_eq!(staff(&xml)[..4], names);
        assert_eq!(staff(&xml)[4..6], ["C#4 quarter sharp", "B4 quarter natural"]);
        assert!(xml.contains("<key><fifths>-1</fifths><mode>minor</mode></key>"));
        // A flat major: four flats, of which none is printed.
        let a_flat = Notation { fifths: -4, ..Notation::default() };
        let scale = [68, 70, 72, 73, 75, 77, 79, 80];
        let notes: Vec<RollNote> = scale.iter().zip(0..).map(|(&pitch, i)| note(pitch, 2 * i, 2 * i + 2)).collect();
        let names = ["Ab4", "Bb4", "C5", "Db5", "Eb5", "F5", "G5", "Ab5"].map(|name| format!("{name} eighth"));
        assert_eq!(staff(&right(&notes, &a_flat)), names);
    }

    #[test]
    fn accidentals_hold_for_all_voices_of_a_staff() {
        // C sharp in the lower voice, later the same line in the upper one.
        let notes = [note(76, 0, 8), note(73, 4, 6), note(72, 8, 16)];
        assert_eq!(staff(&right(&notes, &Notation::default())), ["E5 half", "C5 half natural", "C#5 eighth sharp"]);
    }

    #[test]
    fn dynamics_follow_levels_that_last() {
        let bars = |velocities: &[u8]| {
            let notes: Vec<RollNote> = velocities
                .iter()
                .zip(0..)
                .map(|(&velocity, i)| RollNote { velocity, ..note(60, 16 * i, 16 * i + 4) })
                .collect();
            dynamics(&notes, 16).into_iter().map(|(bar, mark)| (bar, DYNAMICS[mark].0)).collect::<Vec<_>>()
        };
        assert_eq!(bars(&[50, 48, 52, 95, 98, 97, 50, 96, 78, 80]), [(0, "p"), (3, "f"), (8, "mf")]);
        assert_eq!(bars(&[80; 9]), [(0, "mf")]);
        assert_eq!(bars(&[72, 73, 72, 71, 74, 73]), [(0, "mf")]);
        assert_eq!(bars(&[64, 64, 40, 110, 64, 64]), [(0, "mp")]);
        assert_eq!(bars(&[127]), [(0, "ff")]);
        assert!(bars(&[]).is_empty());
    }

    #[test]
    fn an_empty_piece_is_a_bar_of_rests() {
        let written = write(&[], &[], 0, &Notation::default()).unwrap();
        assert_eq!((written.bars, written.xml.matches(r#"<rest measure="yes"/>"#).count()), (1, 2));
        assert!(read(&written.xml, 16).is_empty());
        // Silence at the end of a roll is part of the piece.
        assert_eq!(write(&[note(60, 0, 4)], &[Hand::Left], 33, &Notation::default()).unwrap().bars, 3);
    }

    #[test]
    fn texts_are_escaped_and_marks_written() {
        let notation = Notation {
            title: "A & <B>",
            rights: "CC0 & more",
            software: "x<y",
            bpm: Some(96.504),
            metre: (3, 4),
            ..Notation::default()
        };
        let xml = right(&[note(60, 0, 12)], &notation);
        assert!(xml.contains("<work-title>A &amp; &lt;B&gt;</work-title>") && xml.contains("<rights>CC0 &amp; more<"));
        assert!(xml.contains("<software>x&lt;y</software>") && xml.contains("<per-minute>96.5</per-minute>"));
        assert!(xml.contains("<beats>3</beats><beat-type>4</beat-type>") && xml.contains("<mf/>"));
        assert_eq!(staff(&xml), ["C4 half."]);
        let bare = right(&[], &Notation::default());
        assert!(!bare.contains("<work>") && !bare.contains("<rights>") && !bare.contains("<metronome>"));
        assert_eq!(bare.matches("light-heavy").count(), 1);
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let with = |notation: Notation| write(&[note(60, 0, 1)], &[Hand::Right], 0, &notation).unwrap_err().what;
        let plain = Notation::default();
        assert!(with(Notation { fifths: 8, ..plain }).contains("8 fifths"));
        assert!(with(Notation { bpm: Some(f64::NAN), ..plain }).contains("NaN bpm"));
        assert!(with(Notation { metre: (4, 3), ..plain }).contains("4/3"));
        assert!(with(Notation { metre: (3, 32), ..plain }).contains("3/32"));
        assert!(with(Notation { metre: (0, 4), ..plain }).contains("0/4"));
        assert!(with(Notation { metre: (4, 0), ..plain }).contains("4/0"));
        let of = |notes: &[RollNote], hands: &[Hand]| write(notes, hands, 0, &plain).unwrap_err().what;
        assert!(of(&[note(60, 0, 1)], &[]).contains("0 hands for 1 notes"));
        assert!(of(&[note(20, 0, 1)], &[Hand::Left]).contains("pitch 20"));
        assert!(of(&[note(60, 3, 3)], &[Hand::Left]).contains("time step 3"));
        assert!(of(&[note(60, 0, 4), note(60, 3, 5)], &[Hand::Left; 2]).contains("time step 3"));
        assert!(of(&[note(60, 0, MAX_STEPS + 1)], &[Hand::Left]).contains("more than"));
    }

    proptest! {
        #[test]
        fn every_score_has_the_notes_of_its_roll_in_full_bars(
            notes in proptest::collection::vec((21u8..=108, 0usize..90, 1usize..40, any::<bool>()), 0..60),
            range in (21u8..80, 4u8..28),
            metre in proptest::sample::select(vec![
                (4u8, 4u8), (3, 4), (2, 4), (6, 8), (12, 8), (5, 4), (5, 16), (7, 8), (3, 2),
            ]),
            fifths in -7i8..=7,
            minor: bool,
        ) {
            let range = NoteRange::new(range.0, range.0 + range.1).unwrap();
            let within = notes.iter().map(|&(pitch, start, steps, _)| note(pitch, start, start + steps));
            let roll = Roll::from_notes(range, within).unwrap();
            let rolled = roll.notes();
            let hands: Vec<Hand> = rolled
                .iter()
                .enumerate()
                .map(|(i, _)| if notes[i % notes.len()].3 { Hand::Left } else { Hand::Right })
                .collect();
            let written = write(&rolled, &hands, 0, &Notation { metre, fifths, minor, ..Notation::default() }).unwrap();
            let mut expected: Vec<_> = rolled
                .iter()
                .zip(&hands)
                .map(|(note, &hand)| (note.pitch, note.start, note.end, if hand == Hand::Right { 1 } else { 2 }))
                .collect();
            expected.sort_unstable();
            let bar = 16 * usize::from(metre.0) / usize::from(metre.1);
            prop_assert_eq!(read(&written.xml, bar), expected);
            prop_assert_eq!(written.bars, roll.steps().div_ceil(bar).max(1));
            // As many notes as voices fit in any case.
            if rolled.len() <= VOICES {
                prop_assert_eq!(written.crowded, 0);
            }
        }
    }
}
