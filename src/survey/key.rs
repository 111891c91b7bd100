//! The key of a survey: which clip is whose.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::files::read_bounded;
use crate::{Error, Result};

/// The largest key that is read, in bytes.
const MAX_BYTES: u64 = 16 << 20;
const FORMAT: &str = "deepj survey key";
const VERSION: u32 = 1;
const REMEDY: &str = "give the key that `deepj survey` wrote for this survey, unchanged, by --key";

/// Which clip is whose, and how the survey was made. It is not for listeners.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    pub(super) format: String,
    pub(super) version: u32,
    /// A checksum of all the rest, by which answers are known as those of this survey.
    pub survey: String,
    /// What listeners read above the survey.
    pub title: String,
    /// What they are asked of each pair.
    pub question: String,
    /// What the sides are called.
    pub names: [String; 2],
    /// The seed of pairs, orders and names of clips.
    pub seed: u32,
    /// The SoundFont's preset; none for the piano within the program.
    pub preset: Option<String>,
    /// Frames a second.
    pub rate: u32,
    /// What all clips were levelled to, in LUFS.
    pub loudness: f64,
    /// The pairs, in the order of their names.
    pub pairs: Vec<KeyPair>,
}

/// Two clips that are compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPair {
    /// Its name.
    pub pair: String,
    /// Frames of each of its clips.
    pub frames: u64,
    /// That of the first side, and that of the second.
    pub clips: [KeyClip; 2],
}

/// A clip.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyClip {
    /// Its name, which is that of its file.
    pub clip: String,
    /// The file that it plays.
    pub file: String,
    /// By how much it was made louder, in dB.
    pub gain: f64,
    /// CRC-32C of its WAV file.
    pub crc32c: u32,
}

impl Key {
    /// The same with its format, version and checksum.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub(super) fn sealed(mut self) -> Result<Self> {
        (self.format, self.version) = (FORMAT.into(), VERSION);
        self.survey = self.checksum()?;
        Ok(self)
    }

    fn checksum(&self) -> Result<String> {
        let rest = Self { survey: String::new(), ..self.clone() };
        Ok(format!("{:08x}", crc32c::crc32c(&to_json(&rest)?)))
    }

    /// The content of its file.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(unwritable)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads the key at `path`.
    ///
    /// # Errors
    /// The file cannot be read, and those of [`Key::parse`].
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(path, &read_bounded(path, MAX_BYTES, REMEDY)?)
    }

    /// Reads the content of a key; `path` is for errors only.
    ///
    /// # Errors
    /// What is no key, that of a later version, or one that was changed.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let key: Self = serde_json::from_slice(bytes)
            .map_err(|e| Error::file(path, format!("is not the key of a survey: {e}"), REMEDY))?;
        if key.format != FORMAT || key.version != VERSION {
            let what = format!("is `{}`, version {}, not `{FORMAT}`, version {VERSION}", key.format, key.version);
            return Err(Error::file(path, what, REMEDY));
        }
        let checksum = key.checksum()?;
        if checksum != key.survey {
            let what = format!("was changed: its checksum is {checksum}, and it says {}", key.survey);
            return Err(Error::file(path, what, REMEDY));
        }
        Ok(key)
    }

    /// The pair of this name.
    pub fn pair(&self, name: &str) -> Option<&KeyPair> {
        self.pairs.iter().find(|pair| pair.pair == name)
    }
}

impl KeyPair {
    /// The side that the clip of this name is of: 0 or 1.
    pub fn side(&self, clip: &str) -> Option<usize> {
        self.clips.iter().position(|known| known.clip == clip)
    }
}

fn to_json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(unwritable)
}

fn unwritable(e: serde_json::Error) -> Error {
    Error::run(format!("the key of the survey cannot be written as JSON: {e}"), "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        let clip = |name: &str, gain| KeyClip { clip: name.into(), file: "a.mid".into(), gain, crc32c: 7 };
        let pairs = vec![KeyPair { pair: "p".into(), frames: 9, clips: [clip("x", -0.1), clip("y", 1.0 / 3.0)] }];
        Key { names: ["A".into(), "B".into()], loudness: -20.1, pairs, ..Key::default() }.sealed().unwrap()
    }

    #[test]
    fn a_key_is_the_same_when_it_is_read() {
        let key = key();
        assert_eq!(Key::parse(Path::new("key"), &key.to_bytes().unwrap()).unwrap(), key);
        assert_eq!(key.pair("p").and_then(|pair| pair.side("y")), Some(1));
        assert!(key.pair("q").is_none() && key.pairs[0].side("z").is_none());
    }

    #[test]
    fn a_key_that_was_changed_is_refused() {
        let text = String::from_utf8(key().to_bytes().unwrap()).unwrap();
        for (from, to, what) in [
            ("\"x\"", "\"w\"", "was changed"),
            ("\"A\"", "\"B\"", "was changed"),
            ("-20.1", "-20.2", "was changed"),
            ("\"version\": 1", "\"version\": 2", "version 2"),
            ("survey key", "survey", "is `deepj survey`"),
            ("\"seed\"", "\"sed\"", "unknown field"),
            ("{", "", "is not the key"),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text);
            let error = Key::parse(Path::new("key"), changed.as_bytes()).unwrap_err();
            assert!(error.what.starts_with("key: ") && error.what.contains(what), "{error}");
        }
        // White space is no change.
        Key::parse(Path::new("key"), text.replace('\n', " ").as_bytes()).unwrap();
    }
}
