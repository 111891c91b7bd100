//! SoundFonts (`.sf2`), played by `rustysynth`.
//!
//! All parts play the SoundFont's piano: the preset 0 of bank 0, or the first by bank and number where that is missing. A note
//! begins with the first of the synthesiser's blocks of 16 frames at or after its time.
//!
//! `rustysynth` takes lengths and indices of a file on trust. So `check` walks through a file before it is loaded: each length
//! must lie within the file, and the indices of each list must rise, since a list that goes back and forth would ask for memory
//! of the square of its size. What is wrong beyond that ends in a panic there, which becomes an error here.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustysynth::{SoundFontError, Synthesizer, SynthesizerSettings};

use super::{FAR, Performance, Source, Strike};
use crate::files::{LFS_POINTER, LFS_REMEDY, is_lfs_pointer, refused};
use crate::memory::available_memory;
use crate::{Error, Result};

/// The largest SoundFont that is read, in bytes.
pub const MAX_BYTES: u64 = 1 << 30;

/// Frames that the synthesiser makes at once, 0.4 ms at 44.1 kHz.
const STEP: usize = 16;
/// The most voices at once that the synthesiser has; a note takes one or two.
const VOICES: usize = 256;
/// The most records of a list, whose indices have 16 bits, with its end.
const MAX_RECORDS: u64 = 65_537;
/// The most regions that are looked through at a strike.
const MAX_REGIONS: usize = 1 << 16;

const DAMAGED: &str =
    "the file is damaged or was cut off; fetch it again, or leave out --soundfont for the built-in piano";
const OTHER: &str = "give a SoundFont 2 file (.sf2), or leave out --soundfont for the built-in piano";

/// A SoundFont in memory.
pub struct SoundFont {
    path: PathBuf,
    font: Arc<rustysynth::SoundFont>,
    /// The index of the preset that is played.
    preset: usize,
}

impl SoundFont {
    /// Reads the SoundFont at `path`.
    ///
    /// # Errors
    /// The file cannot be read, is larger than [`MAX_BYTES`] or than the memory that is left, is no SoundFont, is damaged, or has
    /// no presets.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let unreadable = |e: io::Error| refused(path, "read", &e);
        let metadata = fs::metadata(path).map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(Error::file(path, "is not an ordinary file", OTHER));
        }
        let bytes = metadata.len();
        let left = available_memory().unwrap_or(u64::MAX);
        if bytes > MAX_BYTES || bytes > left {
            let what = match bytes > MAX_BYTES {
                true => format!("has {bytes} bytes, more than the {MAX_BYTES} of a SoundFont that are read"),
                false => format!("has {bytes} bytes, but the system has only {left} bytes of memory left"),
            };
            return Err(Error::file(path, what, "give a smaller SoundFont, or leave out --soundfont"));
        }
        let mut file = BufReader::new(File::open(path).map_err(unreadable)?);
        let mut start = Vec::new();
        file.by_ref().take(64).read_to_end(&mut start).map_err(unreadable)?;
        if is_lfs_pointer(&start) {
            return Err(Error::file(path, LFS_POINTER, LFS_REMEDY));
        }
        if !start.starts_with(b"RIFF") || start.get(8..12) != Some(b"sfbk") {
            return Err(Error::file(path, "is not a SoundFont (no RIFF at byte 0, no sfbk at byte 8)", OTHER));
        }
        check(&mut file, bytes).map_err(|what| Error::file(path, what, DAMAGED))?;
        file.rewind().map_err(unreadable)?;
        Self::load(path, file)
    }

    /// Loads what [`check`] found good.
    fn load(path: &Path, mut file: impl Read) -> Result<Self> {
        let font = guarded(path, || rustysynth::SoundFont::new(&mut file))?.map_err(|e| match e {
            SoundFontError::PresetNotFound => Error::file(path, "has no presets", OTHER),
            SoundFontError::UnsupportedSampleFormat => {
                Error::file(path, "has compressed samples (SoundFont 3)", "convert it to SoundFont 2 (.sf2)")
            }
            e => Error::file(path, format!("cannot be used: {e}"), DAMAGED),
        })?;
        // As the synthesiser chooses it.
        let presets = font.get_presets().iter();
        let numbers: Vec<i32> = presets.map(|p| p.get_bank_number().wrapping_shl(16) | p.get_patch_number()).collect();
        let first = || (0..numbers.len()).min_by_key(|&i| numbers[i]);
        let Some(preset) = numbers.iter().rposition(|&number| number == 0).or_else(first) else {
            return Err(Error::file(path, "has no presets", OTHER));
        };
        let regions = font.get_presets()[preset].get_regions().iter();
        let pairs: usize =
            regions.map(|region| font.get_instruments()[region.get_instrument_id()].get_regions().len()).sum();
        if pairs > MAX_REGIONS {
            let what = format!("its piano has {pairs} regions, more than the {MAX_REGIONS} that are played");
            return Err(Error::file(path, what, OTHER));
        }
        Ok(Self { path: path.into(), font: Arc::new(font), preset })
    }

    /// The file that it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name of the preset that is played.
    pub fn preset(&self) -> &str {
        self.font.get_presets()[self.preset].get_name()
    }

    /// How many strikes of `performance` it has no sound for.
    pub fn silent_strikes(&self, performance: &Performance) -> usize {
        let regions = self.font.get_presets()[self.preset].get_regions();
        let sounds = |pitch: u8, velocity: u8| {
            let (key, velocity) = (pitch.into(), velocity.into());
            regions.iter().filter(|region| region.contains(key, velocity)).any(|region| {
                let instrument = &self.font.get_instruments()[region.get_instrument_id()];
                instrument.get_regions().iter().any(|region| region.contains(key, velocity))
            })
        };
        let mut known = vec![[None; 128]; 128];
        let silent = performance.strikes().iter().filter(|strike| {
            let known = &mut known[usize::from(strike.pitch)][usize::from(strike.velocity)];
            !*known.get_or_insert_with(|| sounds(strike.pitch, strike.velocity))
        });
        silent.count()
    }

    /// What plays it at `rate` frames a second.
    pub(super) fn player(&self, rate: u32) -> Result<Player> {
        let mut settings = SynthesizerSettings::new(rate as i32);
        (settings.block_size, settings.maximum_polyphony) = (STEP, VOICES);
        let synthesizer = guarded(&self.path, || Synthesizer::new(&self.font, &settings))?
            .map_err(|e| Error::usage(format!("the SoundFont cannot be played: {e}"), "give another --rate"))?;
        Ok(Player { path: self.path.clone(), synthesizer, events: vec![] })
    }
}

/// What `work` returns, or an error of the SoundFont if it panics.
fn guarded<T>(path: &Path, work: impl FnOnce() -> T) -> Result<T> {
    // Nothing that a panic leaves half done is used again.
    catch_unwind(AssertUnwindSafe(work))
        .map_err(|_| Error::file(path, "cannot be played: its indices contradict", DAMAGED))
}

/// Plays a SoundFont.
pub(super) struct Player {
    path: PathBuf,
    synthesizer: Synthesizer,
    /// Frame from the beginning of the next block, whether the key goes down, pitch, velocity. At one frame keys go up first.
    events: Vec<(u64, bool, u8, u8)>,
}

impl Source for Player {
    fn strike(&mut self, strike: &Strike, at: usize, end: u64) {
        self.events.push((at as u64, true, strike.pitch, strike.velocity));
        // A key that goes up in the moment in which it went down would go up first.
        self.events.push((end.max(at as u64 + 1), false, strike.pitch, strike.velocity));
    }

    fn release(&mut self, pitch: u8, at: usize, _restruck: bool) {
        // Where a key is struck without an end, its end lies too far ahead to come.
        self.events.retain(|&(end, down, key, _)| down || key != pitch || end < FAR);
        self.events.push((at as u64, false, pitch, 0));
    }

    fn fill(&mut self, left: &mut [f32], right: &mut [f32]) -> Result<()> {
        self.events.sort_unstable();
        let within = self.events.partition_point(|&(at, ..)| at < left.len() as u64);
        let Self { path, synthesizer, events } = self;
        guarded(path, || {
            let mut done = 0;
            for (at, down, pitch, velocity) in events.drain(..within) {
                let at = at as usize;
                synthesizer.render(&mut left[done..at], &mut right[done..at]);
                done = at;
                match down {
                    true => synthesizer.note_on(0, pitch.into(), velocity.into()),
                    false => synthesizer.note_off(0, pitch.into()),
                }
            }
            synthesizer.render(&mut left[done..], &mut right[done..]);
        })?;
        self.events.iter_mut().for_each(|(at, ..)| *at -= left.len() as u64);
        match left.iter().chain(&*right).all(|sample| sample.is_finite()) {
            true => Ok(()),
            false => Err(Error::file(&self.path, "cannot be played: its filters make no finite sound", DAMAGED)),
        }
    }
}

/// Looks whether `rustysynth` can read the `bytes` of a SoundFont without asking for more memory than follows their number. What
/// comes back is what is wrong, and at which byte.
fn check(file: &mut (impl Read + Seek), bytes: u64) -> std::result::Result<(), String> {
    let mut walk = Walk { file, at: 12, bytes };
    for name in [b"INFO", b"sdta", b"pdta"] {
        let (place, list) = (walk.at, text(name));
        let (kind, length) = walk.chunk()?;
        let first = walk.read(4)?;
        if &kind != b"LIST" || first != name {
            return Err(format!("has no list {list} at byte {place}"));
        }
        let end = walk.at - 4 + length;
        while walk.at < end {
            let place = walk.at;
            let (kind, length) = walk.chunk()?;
            // Of a version four bytes are read, whatever its length is.
            if matches!(&kind, b"ifil" | b"iver") && length != 4 {
                return Err(format!("has a version of {length} bytes at byte {place}"));
            }
            match records(&kind).filter(|_| name == b"pdta") {
                Some((size, index)) => walk.records(place, &kind, length, size, index)?,
                None => walk.pass(length)?,
            }
        }
    }
    Ok(())
}

/// The bytes of a list's records, and at which of them the index of another list's record stands, if there is one that rises.
fn records(kind: &[u8; 4]) -> Option<(u64, Option<usize>)> {
    match kind {
        b"phdr" => Some((38, Some(24))),
        b"inst" => Some((22, Some(20))),
        b"pbag" | b"ibag" => Some((4, Some(0))),
        b"pgen" | b"igen" => Some((4, None)),
        b"shdr" => Some((46, None)),
        _ => None,
    }
}

fn text(name: &[u8; 4]) -> String {
    format!("`{}`", String::from_utf8_lossy(name))
}

/// Where a file is looked at.
struct Walk<'a, R> {
    file: &'a mut R,
    at: u64,
    bytes: u64,
}

impl<R: Read + Seek> Walk<'_, R> {
    /// The type and the length of the chunk here, whose content must be there.
    fn chunk(&mut self) -> std::result::Result<([u8; 4], u64), String> {
        let place = self.at;
        let header = self.read(8)?;
        let kind = [header[0], header[1], header[2], header[3]];
        let length = u64::from(u32::from_le_bytes([header[4], header[5], header[6], header[7]]));
        let there = self.bytes.saturating_sub(self.at);
        if length > there {
            let name = text(&kind);
            return Err(format!(
                "is cut off: the part {name} at byte {place} announces {length} bytes, {there} are there"
            ));
        }
        Ok((kind, length))
    }

    fn read(&mut self, count: usize) -> std::result::Result<Vec<u8>, String> {
        let mut content = vec![0; count];
        let read = self.file.seek(SeekFrom::Start(self.at)).and_then(|_| self.file.read_exact(&mut content));
        read.map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => format!("is cut off at byte {}", self.bytes),
            _ => format!("cannot be read: {e}"),
        })?;
        self.at += count as u64;
        Ok(content)
    }

    fn pass(&mut self, length: u64) -> std::result::Result<(), String> {
        self.at += length;
        Ok(())
    }

    /// Passes over the list at byte `place`.
    fn records(
        &mut self,
        place: u64,
        kind: &[u8; 4],
        length: u64,
        size: u64,
        index: Option<usize>,
    ) -> std::result::Result<(), String> {
        let name = text(kind);
        if length == 0 || !length.is_multiple_of(size) || length / size > MAX_RECORDS {
            return Err(format!("has a list {name} of {length} bytes at byte {place}, which cannot be"));
        }
        let Some(index) = index else {
            return self.pass(length);
        };
        let content = self.read(length as usize)?;
        let record = content.chunks_exact(size as usize);
        let indices = record.map(|record| u16::from_le_bytes([record[index], record[index + 1]]));
        match indices.is_sorted() {
            true => Ok(()),
            false => Err(format!("has a list {name} at byte {place} whose indices do not rise")),
        }
    }
}
