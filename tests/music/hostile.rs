//! Files that nobody meant to be read: a hundred thousand mutants, held against another reader where both accept them, and
//! files of 16 MB that are all of one kind.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use deepj::music::{NoteRange, Reading, Score};
use midly::{EventIter, Format, MetaMessage, MidiMessage, Timing, TrackEventKind};
use rayon::prelude::*;

use super::file::midi;

/// A counter-based generator (SplitMix64): a seed gives the same mutant on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn byte(&mut self, below: usize) -> u8 {
        self.below(below) as u8
    }
}

/// A number of one to four bytes; sometimes with more of them than it needs.
fn quantity(random: &mut Random, value: usize) -> Vec<u8> {
    let needed = (1..4).find(|&n| value < 1 << (7 * n)).unwrap_or(4);
    let bytes = if random.one_in(20) { 4 } else { needed };
    (0..bytes).rev().map(|i| (value >> (7 * i)) as u8 & 0x7f | if i > 0 { 0x80 } else { 0 }).collect()
}

/// A track of legal events, some of which no sequencer would write.
fn odd_track(random: &mut Random, keys: usize) -> Vec<u8> {
    let (mut bytes, mut status) = (Vec::new(), 0);
    for _ in 0..random.below(60) {
        let delta = if random.one_in(3) { 0 } else { random.below(300) };
        bytes.extend(quantity(random, delta));
        let channel = if random.one_in(12) { 9 } else { random.byte(2) };
        let key = 60 + random.byte(keys);
        let (next, data): (u8, Vec<u8>) = match random.below(12) {
            0..4 => (0x90 | channel, vec![key, random.byte(128)]),
            4..7 => (0x80 | channel, vec![key, random.byte(128)]),
            7 => (0x90 | channel, vec![key, 0]),
            8 => (0xb0 | channel, vec![[64, 120, 123, 7][random.below(4)], random.byte(128)]),
            9 => ([0xa0, 0xe0][random.below(2)] | channel, vec![random.byte(128), random.byte(128)]),
            10 => ([0xc0, 0xd0][random.below(2)] | channel, vec![random.byte(128)]),
            _ => {
                let start = [&[0xff, 1][..], &[0xff, 0x7f], &[0xff, 0x60], &[0xf0], &[0xf7]][random.below(5)];
                bytes.extend(start);
                let length = random.below(140);
                bytes.extend(quantity(random, length));
                bytes.extend((0..length).map(|_| random.byte(256)));
                continue;
            }
        };
        if next != status || random.one_in(2) {
            bytes.push(next);
        }
        status = next;
        bytes.extend(data);
    }
    // One note at least, and the end.
    bytes.extend([0, 0x90, 60, 64, 10, 0x80, 60, 64, 0, 0xff, 0x2f, 0]);
    bytes
}

/// A legal file, some of which no sequencer would write.
fn odd_file(random: &mut Random) -> Vec<u8> {
    let format = random.byte(3);
    let tracks = if format == 0 { 1 } else { 1 + random.below(3) };
    let keys = 1 + random.below(8);
    let tracks: Vec<Vec<u8>> = (0..tracks).map(|_| odd_track(random, keys)).collect();
    let division = 1 + random.below(0x7fff) as u16;
    let mut bytes = midi(format, division, &tracks);
    if random.one_in(8) {
        bytes.splice(4..8, [0, 0, 0, 9]);
        bytes.splice(14..14, [1, 2, 3]); // a longer header
    }
    if random.one_in(8) {
        bytes.extend(b"XFKM\0\0\0\x02ab");
    }
    if random.one_in(8) {
        let [all, inner] = [12, 0].map(|more| (bytes.len() as u32 + more).to_le_bytes());
        bytes = [b"RIFF", &all[..], b"RMIDdata", &inner, &bytes].concat();
    }
    bytes
}

/// Changes some bytes, or takes, doubles or moves a few.
fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..1 + random.below(3) {
        let place = random.below(bytes.len());
        let span = place..(place + random.below(12)).min(bytes.len());
        match random.below(8) {
            0 => bytes[place] = random.byte(256),
            1 => bytes[place] ^= 1 << random.below(8),
            2 => bytes[place] = [0, 0x7f, 0x80, 0xff, 0x2f, 0xf8][random.below(6)],
            3 => bytes.insert(place, random.byte(256)),
            4 => drop(bytes.drain(span)),
            5 => bytes.extend_from_within(span),
            6 => {
                let copy = bytes[span].to_vec();
                bytes.splice(place..place, copy);
            }
            _ if random.one_in(4) => bytes.truncate(place.max(1)),
            _ => bytes[place] = bytes[place].wrapping_add(1),
        }
        if bytes.is_empty() {
            bytes.push(0);
        }
    }
}

/// Pitch, velocity, beginning and end.
type Note = (u8, u8, u64, u64);

#[derive(Clone, Copy)]
enum What {
    On(u8),
    Off,
    End,
}

/// Notes and the number of drums as `midly` and a naive pairing, one key after another, have them; `None` where `midly` refuses
/// the file or its ticks are time.
fn naive(bytes: &[u8]) -> Option<(Vec<Note>, usize)> {
    let (header, tracks) = midly::parse(bytes).ok()?;
    let Timing::Metrical(_) = header.timing else { return None };
    let (mut notes, mut open, mut drums, mut offset) = (Vec::new(), Vec::new(), 0, 0);
    for track in tracks {
        let (mut events, end) = (Vec::new(), events_of(track.ok()?, offset, &mut drums)?);
        events.extend(end.0);
        let keys: BTreeSet<usize> = events.iter().map(|event| event.0).collect();
        for key in keys {
            let of_key: Vec<(u64, What)> = events.iter().filter(|event| event.0 == key).map(|event| event.1).collect();
            let (mut first, lossy) = pair(&of_key, end.1, false, (key % 128) as u8);
            if lossy {
                first = pair(&of_key, end.1, true, (key % 128) as u8).0;
            }
            open.extend(first.iter().filter(|note| note.1).map(|note| note.0));
            notes.extend(first.iter().filter(|note| !note.1).map(|note| note.0));
        }
        offset = if header.format == Format::Sequential { end.1 } else { 0 };
    }
    if let Some(longest) = notes.iter().map(|note| note.3 - note.2).max() {
        open.iter_mut().for_each(|note| note.3 = note.3.min(note.2 + longest));
    }
    notes.extend(open);
    notes.sort_by_key(|&(pitch, velocity, start, end)| (start, pitch, end, velocity));
    Some((notes, drums))
}

/// What happens to each key (channel and pitch) of a track, and when it ends.
#[expect(clippy::type_complexity, reason = "used once")]
fn events_of(mut track: EventIter, start: u64, drums: &mut usize) -> Option<(Vec<(usize, (u64, What))>, u64)> {
    let (mut events, mut tick, mut status) = (Vec::new(), start, None);
    while !track.unread().is_empty() {
        let event = track.next()?.ok()?;
        status = track.running_status().or(status);
        *track.running_status_mut() = status;
        tick += u64::from(event.delta.as_int());
        match event.kind {
            TrackEventKind::Meta(MetaMessage::EndOfTrack) => break,
            TrackEventKind::Midi { channel, message } => {
                let channel = usize::from(channel.as_int());
                let mut add = |key: u8, what| events.push((128 * channel + usize::from(key), (tick, what)));
                match message {
                    MidiMessage::NoteOn { vel, .. } if channel == 9 => *drums += usize::from(vel > 0),
                    MidiMessage::NoteOff { .. } if channel == 9 => {}
                    MidiMessage::NoteOn { key, vel } if vel > 0 => add(key.as_int(), What::On(vel.as_int())),
                    MidiMessage::NoteOn { key, .. } | MidiMessage::NoteOff { key, .. } => add(key.as_int(), What::Off),
                    MidiMessage::Controller { controller, .. } if [120, 123].contains(&controller.as_int()) => {
                        (0..128).for_each(|key| add(key, What::End));
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
    Some((events, tick))
}

/// The notes of one key, each with whether it has no note-off, and whether there is such a one.
fn pair(events: &[(u64, What)], end: u64, restrike: bool, pitch: u8) -> (Vec<(Note, bool)>, bool) {
    let mut notes = Vec::new();
    let mut open: Vec<(u64, u8)> = Vec::new();
    for &(tick, what) in events {
        let mut close = |(start, velocity), open| notes.push(((pitch, velocity, start, tick), open));
        match what {
            What::On(velocity) => {
                if restrike {
                    open.drain(..).for_each(|note| close(note, true));
                }
                open.push((tick, velocity));
            }
            What::Off if open.is_empty() => {}
            What::Off => close(open.remove(0), false),
            What::End => open.drain(..).for_each(|note| close(note, false)),
        }
    }
    let lossy = !open.is_empty();
    notes.extend(open.into_iter().map(|(start, velocity)| ((pitch, velocity, start, end), true)));
    (notes, lossy)
}

/// Reads `bytes` as all commands do and says whether two readers agree; `None` where there is nothing to compare.
fn agreed(bytes: &[u8]) -> Option<bool> {
    let start = Instant::now();
    let score = Score::parse("mutant.mid", bytes, false);
    let _ = Reading::parse("mutant.mid", bytes, NoteRange::default(), true);
    assert!(start.elapsed() < Duration::from_secs(1), "a small file takes long: {bytes:?}");
    let score = score.ok()?;
    // Of a file that midly reads otherwise there is a warning.
    let harmless = ["note-off", "channel 10", "`XFKM`"];
    if !score.warnings.iter().all(|warning| harmless.iter().any(|text| warning.contains(text))) {
        return None;
    }
    let (notes, drums) = naive(bytes)?;
    let read: Vec<Note> = score.notes.iter().map(|n| (n.pitch, n.velocity, n.start.into(), n.end.into())).collect();
    Some(read == notes && score.drums == drums)
}

#[test]
fn a_hundred_thousand_mutants() {
    const MUTANTS: usize = 100_000;
    let (compared, legal) = (AtomicUsize::new(0), AtomicUsize::new(0));
    (0..MUTANTS).into_par_iter().for_each(|seed| {
        let mut random = Random(seed as u64);
        let mut bytes = match seed % 16 {
            // Real pieces are larger and take most of the time.
            0 => deepj::data::FILES[random.below(deepj::data::FILES.len())].1.to_vec(),
            _ => odd_file(&mut random),
        };
        // A part of them is left as it is, so that what must be read is.
        let as_is = random.one_in(4);
        if !as_is {
            mutate(&mut random, &mut bytes);
        }
        let agreed = agreed(&bytes);
        assert!(agreed != Some(false), "seed {seed}: midly and a naive pairing read other notes: {bytes:?}");
        compared.fetch_add(usize::from(agreed.is_some()), Ordering::Relaxed);
        legal.fetch_add(usize::from(as_is && agreed.is_some()), Ordering::Relaxed);
        if as_is && agreed.is_none() {
            // Far apart, the last note may be too late.
            let error = Score::parse("mutant.mid", &bytes, false).map(|score| score.warnings);
            assert!(error.as_ref().is_err_and(|e| e.what.contains("quarter notes")), "seed {seed}: {error:?}");
        }
    });
    let (compared, legal) = (compared.into_inner(), legal.into_inner());
    println!("{compared} of {MUTANTS} compared, {legal} of them legal");
    assert!(compared > MUTANTS / 3 && legal > MUTANTS / 5, "{compared} {legal}");
}

/// Files of 16 MB that repeat `unit`, in one track or as chunks.
fn repeated(before: &[u8], unit: &[u8]) -> Vec<u8> {
    const BYTES: usize = 16 << 20;
    let mut body = before.to_vec();
    let count = (BYTES - 64 - before.len()) / unit.len();
    body.extend(unit.repeat(count));
    body
}

fn large(kind: &str) -> Vec<u8> {
    // Deltas of 0, but for a division so fine that a million of 1 are short.
    let track = |unit: &[u8]| {
        let start = [0, 0x90, 60, 64, 100, 60, 0];
        midi(0, 0x7fff, &[[repeated(&start, unit), vec![0, 0xff, 0x2f, 0]].concat()])
    };
    match kind {
        "note-ons of one key" => track(&[0, 0x90, 60, 64]),
        "note-ons in running status" => track(&[1, 60, 64]),
        "notes of many keys" => {
            let chord: Vec<u8> =
                (36..84).flat_map(|key| [0, key, 64]).chain((36..84).flat_map(|key| [9, key, 0])).collect();
            track(&chord)
        }
        "notes that are all open before they end" => {
            let half = (16 << 20) / 6 - 100;
            let (ons, offs) = ([1, 60, 64].repeat(half), [1, 60, 0].repeat(half));
            midi(0, 0x7fff, &[[&[0, 0x90, 60, 64][..], &ons, &offs, &[1, 60, 0, 0, 0xff, 0x2f, 0]].concat()])
        }
        "drums" => track(&[0, 0x99, 36, 64]),
        "tempos" => track(&[1, 0xff, 0x51, 3, 7, 0xa1, 0x20]),
        "time signatures" => track(&[0, 0xff, 0x58, 4, 3, 2, 24, 8]),
        "pedals" => track(&[0, 0xb0, 64, 127, 0, 0xb0, 64, 0]),
        "real-time bytes" => track(&[0, 0xf8]),
        "all notes off" => track(&[0, 0xb0, 123, 0]),
        "tracks" => {
            let mut bytes = midi(1, 480, &[vec![0, 0x90, 60, 64, 100, 60, 0, 0, 0xff, 0x2f, 0]]);
            bytes.extend(repeated(&[], b"MTrk\0\0\0\0"));
            bytes
        }
        "chunks" => {
            let mut bytes = midi(1, 480, &[vec![0, 0x90, 60, 64, 100, 60, 0, 0, 0xff, 0x2f, 0]]);
            bytes[11] = 99;
            bytes.extend(repeated(&[], b"XFIH\0\0\0\0"));
            bytes
        }
        _ => panic!("{kind}"),
    }
}

/// Names the file that a child of this test reads.
const CHILD: &str = "DEEPJ_MIDI_MEMORY_OF";

/// The largest number of bytes that this process has had, where the system tells (Linux).
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(1024 * line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?)
}

#[test]
fn a_large_file_takes_little_memory_and_time() {
    if let Ok(path) = std::env::var(CHILD) {
        for pedal in [false, true] {
            let reading = Reading::read(&path, NoteRange::new(0, 127).unwrap(), pedal);
            println!("\nread: {:?}", reading.map(|reading| reading.stats().onsets).map_err(|e| e.what));
        }
        println!("peak: {}", peak().unwrap_or(0));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for kind in [
        "note-ons of one key",
        "note-ons in running status",
        "notes of many keys",
        "notes that are all open before they end",
        "drums",
        "tempos",
        "time signatures",
        "pedals",
        "real-time bytes",
        "all notes off",
        "tracks",
        "chunks",
    ] {
        let path = dir.path().join("large.mid");
        let bytes = large(kind);
        assert!(bytes.len() > 15 << 20 && bytes.len() <= 16 << 20, "{kind}: {}", bytes.len());
        std::fs::write(&path, bytes).unwrap();
        let start = Instant::now();
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["hostile::a_large_file_takes_little_memory_and_time", "--exact", "--nocapture"]).env(CHILD, &path);
        let output = child.output().unwrap();
        let out = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{kind}: {out}{}", String::from_utf8_lossy(&output.stderr));
        let peak = out.lines().find_map(|line| line.strip_prefix("peak: ")).unwrap().parse::<u64>().unwrap();
        let read: Vec<&str> = out.lines().filter(|line| line.starts_with("read: ")).collect();
        println!("{kind}: {:.0} MB, {:.1} s, {read:?}", peak as f64 / 1e6, start.elapsed().as_secs_f64());
        assert!(peak < 256_000_000, "{kind}: {peak} bytes");
        assert!(start.elapsed() < Duration::from_secs(60), "{kind}");
    }
}
