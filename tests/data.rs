//! The shipped corpus: that it is what the generator makes, that its files are clean, and that the genres differ in the
//! ways they are meant to.

#[path = "../data/compose/mod.rs"]
mod compose;

use midly::{Format, MetaMessage, MidiMessage, Smf, Timing, TrackEventKind};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::LazyLock;

/// Ticks in a sixteenth, sixteenths in a bar.
const SIXTEENTH: u32 = 120;
const BAR: u32 = 16;

/// A note in sixteenths.
#[derive(Clone, Copy, Debug)]
struct Note {
    start: u32,
    len: u32,
    pitch: i32,
    velocity: i32,
}

impl Note {
    fn end(&self) -> u32 {
        self.start + self.len
    }
}

struct Piece {
    path: &'static str,
    /// Sharps (flats negative) and whether minor, as the key signature says.
    key: (i32, bool),
    /// Tracks with notes, each in order of time; the first is the highest voice, the last the lowest.
    tracks: Vec<Vec<Note>>,
}

impl Piece {
    fn notes(&self) -> Vec<Note> {
        self.tracks.concat()
    }

    fn steps(&self) -> u32 {
        self.notes().iter().map(Note::end).max().unwrap_or(0)
    }

    fn bars(&self) -> u32 {
        self.steps().div_ceil(BAR)
    }

    fn tonic(&self) -> i32 {
        let major = (self.key.0 * 7).rem_euclid(12);
        if self.key.1 { (major + 9) % 12 } else { major }
    }

    fn genre(&self) -> &str {
        self.path.split('/').next().unwrap_or("")
    }

    fn composer(&self) -> &str {
        self.path.split('/').nth(1).unwrap_or("")
    }

    fn velocity_deviation(&self) -> f64 {
        let velocities: Vec<f64> = self.notes().iter().map(|n| f64::from(n.velocity)).collect();
        let mean = velocities.iter().sum::<f64>() / velocities.len() as f64;
        (velocities.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / velocities.len() as f64).sqrt()
    }

    /// How many notes sound in each sixteenth.
    fn sounding(&self) -> Vec<usize> {
        let notes = self.notes();
        (0..self.steps()).map(|t| notes.iter().filter(|n| n.start <= t && t < n.end()).count()).collect()
    }

    fn silence(&self) -> f64 {
        let sounding = self.sounding();
        sounding.iter().filter(|&&s| s == 0).count() as f64 / sounding.len() as f64
    }

    fn polyphony(&self) -> f64 {
        let sounding = self.sounding();
        sounding.iter().sum::<usize>() as f64 / sounding.len() as f64
    }

    /// Share of notes that follow one of the same pitch without a gap.
    fn repeated(&self) -> f64 {
        let notes = self.notes();
        let follows = |n: &&Note| notes.iter().any(|m| m.pitch == n.pitch && m.end() == n.start);
        notes.iter().filter(follows).count() as f64 / notes.len() as f64
    }

    /// Share of notes outside the scale of the home key, melodic minor included.
    fn chromatic(&self) -> f64 {
        let scale: &[i32] = if self.key.1 { &[0, 2, 3, 5, 7, 8, 9, 10, 11] } else { &[0, 2, 4, 5, 7, 9, 11] };
        let notes = self.notes();
        let outside = |n: &&Note| !scale.contains(&(n.pitch - self.tonic()).rem_euclid(12));
        notes.iter().filter(outside).count() as f64 / notes.len() as f64
    }
}

static PIECES: LazyLock<Vec<Piece>> =
    LazyLock::new(|| deepj::data::FILES.iter().map(|&(path, bytes)| read(path, bytes)).collect());

fn of(folder: &str) -> Vec<&'static Piece> {
    let pieces: Vec<_> = PIECES.iter().filter(|p| p.path.starts_with(folder)).collect();
    assert!(!pieces.is_empty(), "no pieces in {folder}");
    pieces
}

/// Reads a piece and checks what a clean file has: form, grid, every note closed after a time, none overlapping itself.
fn read(path: &'static str, bytes: &[u8]) -> Piece {
    let smf = Smf::parse(bytes).unwrap_or_else(|e| panic!("{path}: {e}"));
    assert_eq!(smf.header.format, Format::Parallel, "{path}");
    assert_eq!(smf.header.timing, Timing::Metrical(480.into()), "{path}");
    let (mut key, mut tempo, mut metre) = (None, false, None);
    let mut tracks = Vec::new();
    for track in &smf.tracks {
        let (mut now, mut held, mut notes): (u32, Vec<(u32, i32, i32)>, Vec<Note>) = (0, Vec::new(), Vec::new());
        let mut program = None;
        for event in track {
            now += event.delta.as_int();
            match event.kind {
                TrackEventKind::Meta(MetaMessage::KeySignature(sharps, minor)) => {
                    key = Some((i32::from(sharps), minor))
                }
                TrackEventKind::Meta(MetaMessage::Tempo(_)) => tempo = true,
                TrackEventKind::Meta(MetaMessage::TimeSignature(upper, lower, _, _)) => metre = Some((upper, lower)),
                TrackEventKind::Midi { message: MidiMessage::ProgramChange { program: p }, .. } => {
                    program = Some(p.as_int())
                }
                TrackEventKind::Midi { message: MidiMessage::NoteOn { key, vel }, .. } if vel > 0 => {
                    assert_eq!(now % SIXTEENTH, 0, "{path}: a note off the grid at tick {now}");
                    held.push((now, i32::from(key.as_int()), i32::from(vel.as_int())));
                }
                TrackEventKind::Midi {
                    message: MidiMessage::NoteOn { key, .. } | MidiMessage::NoteOff { key, .. },
                    ..
                } => {
                    let pitch = i32::from(key.as_int());
                    let at = held.iter().position(|h| h.1 == pitch);
                    let (start, pitch, velocity) =
                        held.remove(at.unwrap_or_else(|| panic!("{path}: {pitch} is not held at {now}")));
                    assert!(now > start, "{path}: a note of no length at tick {now}");
                    let (start, len) = (start / SIXTEENTH, (now - start) / SIXTEENTH);
                    notes.push(Note { start, len, pitch, velocity });
                }
                _ => {}
            }
        }
        assert!(held.is_empty(), "{path}: notes left hanging: {held:?}");
        if !notes.is_empty() {
            assert_eq!(program, Some(0), "{path}: not a piano");
            notes.sort_by_key(|n| (n.start, n.pitch));
            tracks.push(notes);
        }
    }
    assert!(tempo, "{path}: no tempo");
    assert_eq!(metre, Some((4, 2)), "{path}: metre");
    let piece = Piece { path, key: key.unwrap_or_else(|| panic!("{path}: no key signature")), tracks };
    let mut notes = piece.notes();
    notes.sort_by_key(|n| (n.pitch, n.start));
    for pair in notes.windows(2) {
        let overlap = pair[0].pitch == pair[1].pitch && pair[0].end() > pair[1].start;
        assert!(!overlap, "{path}: {:?} overlaps {:?}", pair[0], pair[1]);
    }
    piece
}

#[test]
fn composing_again_gives_the_shipped_files() {
    let folder = tempfile::tempdir().unwrap();
    let table = compose::write(folder.path(), compose::SEED).unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("data");
    let same = |name: &str| {
        let (new, old) = (folder.path().join(name), shipped.join(name));
        assert!(
            std::fs::read(new).unwrap() == std::fs::read(old).unwrap(),
            "data/{name} is not what make_corpus writes"
        );
    };
    same("mod.rs");
    for (path, bytes) in deepj::data::FILES {
        same(path);
        assert!(std::fs::read(shipped.join(path)).unwrap() == *bytes, "data/{path} is not what the library embeds");
    }
    let mut files = 0;
    for genre in ["baroque", "classical", "romantic"] {
        for composer in std::fs::read_dir(shipped.join(genre)).unwrap() {
            files += std::fs::read_dir(composer.unwrap().path()).unwrap().count();
        }
    }
    assert_eq!(files, deepj::data::FILES.len(), "files in data/ that make_corpus does not write");
    let readme = std::fs::read_to_string(shipped.join("README.md")).unwrap();
    assert!(readme.contains(&table), "the table in data/README.md is not the one make_corpus measures:\n{table}");
}

#[test]
fn there_are_enough_pieces_long_enough() {
    let bytes: usize = deepj::data::FILES.iter().map(|f| f.1.len()).sum();
    assert!(PIECES.len() >= 36 && bytes < 400_000, "{} pieces, {bytes} bytes", PIECES.len());
    let folders: BTreeSet<_> = PIECES.iter().map(|p| (p.genre(), p.composer())).collect();
    assert_eq!(folders.len(), 6);
    for genre in ["baroque", "classical", "romantic"] {
        assert_eq!(folders.iter().filter(|f| f.0 == genre).count(), 2, "{genre}");
    }
    for piece in PIECES.iter() {
        assert!((24..=40).contains(&piece.bars()), "{}: {} bars", piece.path, piece.bars());
    }
}

#[test]
fn pitches_stay_in_the_models_range() {
    for piece in PIECES.iter() {
        let notes = piece.notes();
        let outside = notes.iter().filter(|n| !(36..=83).contains(&n.pitch)).count();
        assert!(outside * 50 <= notes.len(), "{}: {outside} of {} notes outside 36..=83", piece.path, notes.len());
    }
}

#[test]
fn all_keys_occur_and_each_genre_has_all_tonics() {
    let keys: BTreeSet<_> = PIECES.iter().map(|p| (p.tonic(), p.key.1)).collect();
    assert_eq!(keys.len(), 24);
    for genre in ["baroque", "classical", "romantic"] {
        let tonics: BTreeSet<_> = of(genre).iter().map(|p| p.tonic()).collect();
        assert_eq!(tonics.len(), 12, "{genre}: {tonics:?}");
    }
}

#[test]
fn pieces_end_on_the_tonic_chord() {
    for piece in PIECES.iter() {
        let end = piece.steps();
        let last: Vec<Note> = piece.notes().into_iter().filter(|n| n.end() > end - 4).collect();
        let above = |n: &Note| (n.pitch - piece.tonic()).rem_euclid(12);
        // A third of either kind: baroque pieces in minor end in major.
        assert!(last.iter().all(|n| matches!(above(n), 0 | 3 | 4 | 7)), "{}: ends on {last:?}", piece.path);
        let bar: Vec<Note> = piece.notes().into_iter().filter(|n| n.end() > (piece.bars() - 1) * BAR).collect();
        let bass = bar.iter().min_by_key(|n| n.pitch).unwrap();
        assert_eq!(above(bass), 0, "{}: the last bar stands on {bass:?}", piece.path);
    }
}

#[test]
fn every_genre_strikes_notes_again() {
    for genre in ["baroque", "classical", "romantic"] {
        let pieces = of(genre);
        let share = pieces.iter().map(|p| p.repeated()).sum::<f64>() / pieces.len() as f64;
        assert!(share > 0.03, "{genre}: {share:.3} of the notes are re-attacks");
    }
}

#[test]
fn dynamics_tell_the_genres_apart() {
    for piece in PIECES.iter() {
        let deviation = piece.velocity_deviation();
        let expected = match piece.genre() {
            "baroque" => 0.5..3.0,
            "classical" => 11.0..17.0,
            _ => 18.0..30.0,
        };
        assert!(expected.contains(&deviation), "{}: std of velocity {deviation:.1}, not in {expected:?}", piece.path);
    }
}

#[test]
fn silence_texture_and_chromatic_notes_tell_the_genres_apart() {
    let mean = |genre: &str, f: &dyn Fn(&Piece) -> f64| {
        let pieces = of(genre);
        pieces.iter().map(|p| f(p)).sum::<f64>() / pieces.len() as f64
    };
    for piece in PIECES.iter() {
        let silence = piece.silence();
        let expected = if piece.genre() == "classical" { 0.08..0.25 } else { 0.0..0.07 };
        assert!(expected.contains(&silence), "{}: {silence:.3} of the steps are silent", piece.path);
    }
    let polyphony = ["classical", "baroque", "romantic"].map(|genre| mean(genre, &Piece::polyphony));
    assert!(polyphony[0] + 0.4 < polyphony[1] && polyphony[1] + 0.8 < polyphony[2], "{polyphony:?}");
    let chromatic = ["classical", "baroque", "romantic"].map(|genre| mean(genre, &Piece::chromatic));
    assert!(chromatic[0].max(chromatic[1]) * 2.0 < chromatic[2], "{chromatic:?}");
}

/// Places where `subject` comes again in `voice`: same rhythm, every interval the same within a semitone (the answer
/// in another mode bends them). Gives the transposition of each.
fn entries(subject: &[Note], voice: &[Note]) -> Vec<i32> {
    let mut found = Vec::new();
    for first in voice {
        let matches = subject.iter().all(|s| {
            let (start, pitch) = (first.start + s.start - subject[0].start, first.pitch + s.pitch - subject[0].pitch);
            voice.iter().any(|n| n.start == start && n.len == s.len && (n.pitch - pitch).abs() <= 1)
        });
        if matches {
            found.push(first.pitch - subject[0].pitch);
        }
    }
    found
}

/// The notes before a second voice enters, in a baroque piece the subject.
fn opening(piece: &Piece) -> (usize, Vec<Note>) {
    let voice = (0..piece.tracks.len()).min_by_key(|&v| piece.tracks[v][0].start).unwrap();
    let others = (0..piece.tracks.len()).filter(|&v| v != voice);
    // Subjects may begin with a rest, so the answer's bar counts from its barline.
    let until = others.map(|v| piece.tracks[v][0].start / BAR * BAR).min().unwrap();
    (voice, piece.tracks[voice].iter().copied().filter(|n| n.start < until).collect())
}

#[test]
fn baroque_subjects_come_again_in_other_voices() {
    for piece in of("baroque") {
        let (voice, subject) = opening(piece);
        assert!(subject.len() >= 6, "{}: a subject of {} notes", piece.path, subject.len());
        let mut answered = BTreeSet::new();
        let mut transpositions = BTreeSet::new();
        for v in 0..piece.tracks.len() {
            let found = entries(&subject, &piece.tracks[v]);
            transpositions.extend(found.iter().map(|t| t.rem_euclid(12)));
            if v != voice && !found.is_empty() {
                answered.insert(v);
            }
        }
        assert_eq!(
            answered.len(),
            piece.tracks.len() - 1,
            "{}: only voices {answered:?} take up the subject",
            piece.path
        );
        assert!(transpositions.len() >= 3, "{}: the subject stays at {transpositions:?}", piece.path);
    }
    // The measure tells something: no left hand of a sonatina sings the melody's first phrase.
    for piece in of("classical") {
        let phrase: Vec<Note> = piece.tracks[0].iter().copied().filter(|n| n.start < 2 * BAR).collect();
        assert!(entries(&phrase, &piece.tracks[1]).is_empty(), "{}", piece.path);
    }
}

#[test]
fn baroque_outer_voices_have_no_parallels_on_strong_beats() {
    let mut pairs = 0;
    for piece in of("baroque") {
        let (upper, lower) = (&piece.tracks[0], piece.tracks.last().unwrap());
        let at = |voice: &[Note], step: u32| voice.iter().rfind(|n| n.start <= step && step < n.end()).map(|n| n.pitch);
        // The first and third beats of each bar; the final chord has more notes than voices.
        for step in (8..piece.steps() - BAR).step_by(8) {
            let (before, now) = ([at(upper, step - 8), at(lower, step - 8)], [at(upper, step), at(lower, step)]);
            let ([Some(a), Some(b)], [Some(c), Some(d)]) = (before, now) else { continue };
            pairs += 1;
            let (was, is) = ((a - b).rem_euclid(12), (c - d).rem_euclid(12));
            let parallel = was == is && matches!(is, 0 | 7) && a != c && b != d;
            assert!(!parallel, "{}: parallels into bar {}, step {}", piece.path, step / BAR + 1, step % BAR);
        }
    }
    assert!(pairs > 400, "only {pairs} pairs of strong beats compared");
}

/// Share of the bars in which the lowest track plays low, high, middle, high in even notes from a beat on,
/// spread over a chord.
fn alberti(piece: &Piece) -> f64 {
    let left = piece.tracks.last().unwrap();
    let figure = |w: &[Note]| {
        let even = w.windows(2).all(|p| p[1].start == p[0].end() && p[1].len == p[0].len);
        even && w[0].start.is_multiple_of(4)
            && w[0].pitch + 3 <= w[2].pitch
            && w[2].pitch + 2 <= w[1].pitch
            && w[1].pitch == w[3].pitch
    };
    let bars: BTreeSet<u32> = left.windows(4).filter(|w| figure(w)).map(|w| w[0].start / BAR).collect();
    bars.len() as f64 / f64::from(piece.bars())
}

#[test]
fn sonatinas_stand_on_alberti_basses() {
    for piece in PIECES.iter() {
        let share = alberti(piece);
        match piece.composer() {
            "linden" => assert!(share > 0.3, "{}: Alberti in {share:.2} of the bars", piece.path),
            "marlow" => {}
            _ => assert!(share < 0.1, "{}: Alberti in {share:.2} of the bars", piece.path),
        }
    }
}

#[test]
fn nocturnes_spread_their_chords_and_ballades_repeat_them() {
    for piece in of("romantic/sorel") {
        let left = &piece.tracks[1];
        let wide = (0..piece.bars()).filter(|bar| {
            let pitches = left.iter().filter(|n| n.start / BAR == *bar).map(|n| n.pitch);
            pitches.clone().max().unwrap_or(0) - pitches.min().unwrap_or(0) >= 16
        });
        let share = wide.count() as f64 / f64::from(piece.bars());
        assert!(share > 0.8, "{}: {share:.2} of the bars span a tenth", piece.path);
        assert!(piece.repeated() < 0.35, "{}: {:.2}", piece.path, piece.repeated());
    }
    for piece in of("romantic/vasky") {
        assert!(piece.repeated() > 0.4, "{}: {:.2}", piece.path, piece.repeated());
    }
}
