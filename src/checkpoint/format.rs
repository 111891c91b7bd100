//! Checkpoints as bytes: the safetensors layout, and all that is checked when one is read.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use half::f16;
use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView, View as Stored};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Checkpoint, CorpusInfo, Progress, Resume, Settings};
use crate::files::{LFS_POINTER, LFS_REMEDY, is_lfs_pointer, refused};
use crate::gpu::Format;
use crate::graph::{Layout, Param};
use crate::models::{self, losses};
use crate::music::{NoteRange, Split, Styles};
use crate::{Error, Result};

/// The value of the metadata's `format`.
pub const FORMAT: &str = "deepj";
/// The value of the metadata's `version`: files of another version are refused.
pub const VERSION: &str = "1";
/// The metadata's field that holds the checksum of all the rest; files from before there was one lack it.
const CHECKSUM: &str = "crc32c";
const RETRAIN: &str = "take another checkpoint (a run keeps best.safetensors and last.safetensors), or train again";

/// A tensor on its way to a file.
#[derive(Clone, Copy)]
struct Tensor<'a> {
    shape: &'a [usize],
    data: &'a [f32],
    format: Format,
}

impl Stored for Tensor<'_> {
    fn dtype(&self) -> Dtype {
        match self.format {
            Format::F32 => Dtype::F32,
            Format::F16 => Dtype::F16,
        }
    }
    fn shape(&self) -> &[usize] {
        self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        if self.format == Format::F16 {
            return self.data.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect::<Vec<u8>>().into();
        }
        // safetensors is little-endian, as are f32 on every machine but a few.
        if cfg!(target_endian = "little") {
            return bytemuck::cast_slice(self.data).into();
        }
        self.data.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>().into()
    }
    fn data_len(&self) -> usize {
        self.format.bytes() as usize * self.data.len()
    }
}

/// The largest header that is read by itself, in bytes.
const MOST_HEADER: u64 = 64 << 20;

/// Before the names of parameters: their running mean.
const MEAN: &str = "mean.";
/// Before the names of parameters: see [`Resume::owed`].
const OWED: &str = "owed.";

impl Checkpoint {
    /// The file's bytes.
    ///
    /// # Errors
    /// Metadata that cannot be written as JSON: an infinite number.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.to_bytes_as(Format::F32)
    }

    /// The same with all tensors in this format. Files in f16 are half as large, to be used and not to be resumed: who reads one has
    /// the rounded values.
    ///
    /// # Errors
    /// As [`Checkpoint::to_bytes`], or a value that is too large for the format.
    pub fn to_bytes_as(&self, format: Format) -> Result<Vec<u8>> {
        let too_large = |x: &&f32| format == Format::F16 && !f16::from_f32(**x).is_finite();
        if let Some(x) = self.params.iter().chain(self.mean.iter().flatten()).find(too_large) {
            return Err(Error::model(format!("a parameter is {x}, which f16 cannot hold"), "write the file in f32"));
        }
        let layout = self.model.layout();
        let states = self.model.states(self.settings.batch);
        let mut tensors: Vec<(String, Tensor)> = vec![];
        fn stored<'a>(format: Format) -> impl Fn(&'a [usize], &'a [f32]) -> Tensor<'a> {
            move |shape, data| Tensor { shape, data, format }
        }
        let tensor = stored(format);
        let slice = |buffer: &'_ [f32], p: &Param| p.view.start..(p.view.start + p.view.len).min(buffer.len());
        let buffers = self.settings.optimizer.0.buffers();
        for p in layout.params() {
            tensors.push((p.name.clone(), tensor(&p.shape, &self.params[slice(&self.params, p)])));
            if let Some(mean) = &self.mean {
                tensors.push((format!("{MEAN}{}", p.name), tensor(&p.shape, &mean[slice(mean, p)])));
            }
            if let Some(owed) = self.resume.as_ref().and_then(|resume| resume.owed.as_ref()) {
                tensors.push((format!("{OWED}{}", p.name), tensor(&p.shape, &owed[slice(owed, p)])));
            }
            for (prefix, buffer) in buffers.iter().zip(self.resume.iter().flat_map(|r| &r.moments)) {
                let name = format!("optimizer.{prefix}.{}", p.name);
                tensors.push((name, tensor(&p.shape, &buffer[slice(buffer, p)])));
            }
        }
        for (state, data) in states.iter().zip(self.resume.iter().flat_map(|r| &r.states)) {
            tensors.push((state.name.clone(), tensor(&state.shape, data)));
        }
        let mut metadata = HashMap::from([
            ("format".to_string(), FORMAT.to_string()),
            ("version".to_string(), VERSION.to_string()),
            ("model".to_string(), self.model.architecture().to_string()),
            ("config".to_string(), self.model.config()),
            ("styles".to_string(), json(&self.styles)?),
            ("split".to_string(), json(&self.split)?),
            ("corpus".to_string(), json(&self.corpus)?),
            ("settings".to_string(), json(&self.settings)?),
            ("progress".to_string(), json(&self.progress)?),
        ]);
        metadata
            .insert(CHECKSUM.to_string(), checksum(&metadata, tensors.iter().map(|(name, tensor)| (name, *tensor))));
        safetensors::serialize(tensors, Some(metadata))
            .map_err(|e| Error::run(format!("the checkpoint cannot be laid out: {e}"), ""))
    }

    /// Reads how far training had come from the header of the checkpoint at `path` alone, which takes no time; the checksum,
    /// which is of the whole file, is not held against it.
    ///
    /// # Errors
    /// The file cannot be read, or does not begin as a checkpoint does.
    pub fn read_progress(path: &Path) -> Result<Progress> {
        #[derive(Deserialize)]
        struct Header {
            #[serde(rename = "__metadata__")]
            metadata: HashMap<String, String>,
        }
        let read = || -> io::Result<(usize, Vec<u8>)> {
            let mut file = File::open(path)?;
            let mut length = [0; size_of::<u64>()];
            file.read_exact(&mut length)?;
            let length = u64::from_le_bytes(length).min(MOST_HEADER);
            let mut header = vec![];
            file.take(length).read_to_end(&mut header)?;
            Ok((length as usize, header))
        };
        let (length, header) = read().map_err(|e| refused(path, "read", &e))?;
        let in_file = |e: Error| Error::file(path, e.what, e.remedy);
        let header = serde_json::from_slice::<Header>(&header);
        let header = header.map_err(|_| in_file(damaged(&SafeTensorError::InvalidHeaderLength, length)))?;
        field(&header.metadata, "progress").map_err(in_file)
    }

    /// Reads a checkpoint from the bytes of its file.
    ///
    /// # Errors
    /// As [`Checkpoint::load`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        if is_lfs_pointer(bytes) {
            return Err(Error::model(LFS_POINTER, LFS_REMEDY));
        }
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| damaged(&e, bytes.len()))?;
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| damaged(&e, bytes.len()))?;
        let Some(meta) = header.metadata() else {
            return Err(wrong("has no metadata, so it is not one of deepj's"));
        };
        if meta.get("format").map(String::as_str) != Some(FORMAT) {
            return Err(wrong("is a safetensors file, but not one of deepj's"));
        }
        match meta.get("version").map(String::as_str) {
            Some(VERSION) => {}
            other => {
                return Err(Error::model(
                    format!("is a checkpoint of version {}, this program reads {VERSION}", other.unwrap_or("unknown")),
                    "use the program that wrote it, or train again",
                ));
            }
        }
        verify_checksum(meta, &tensors)?;
        // Files from before there was a choice of models do not name theirs.
        let name = meta.get("model").map_or(models::DEFAULT, String::as_str);
        let model = models::architecture(name)?.model(field(meta, "config")?);
        let model = model.map_err(|e| wrong(format!("metadata: `config`: {}; {}", e.what, e.remedy)))?;
        let styles: Styles = field(meta, "styles")?;
        let split: Split = field(meta, "split")?;
        let corpus: CorpusInfo = field(meta, "corpus")?;
        let settings: Settings = field(meta, "settings")?;
        let progress: Progress = field(meta, "progress")?;
        losses::check_weights(model.losses(), &settings.loss_weights)
            .map_err(|e| wrong(format!("metadata: `settings`: {}; {}", e.what, e.remedy)))?;
        let roll = model.roll();
        if roll.styles > 0 && styles.len() != roll.styles {
            return Err(wrong(format!("names {} styles, but its configuration has {}", styles.len(), roll.styles)));
        }
        let pitch = |pitch: usize| u8::try_from(pitch).unwrap_or(u8::MAX);
        let top = roll.lowest.saturating_add(roll.notes).saturating_sub(1);
        let range =
            NoteRange::new(pitch(roll.lowest), pitch(top)).map_err(|e| wrong(format!("configuration: {}", e.what)))?;
        if corpus.range != range {
            return Err(wrong(format!("has a corpus of pitches {}, but a configuration of {range}", corpus.range)));
        }
        let mut read = Reader { tensors: &tensors, left: tensors.names().into_iter().collect() };
        let layout = model.layout();
        let params = read.buffer("", layout)?;
        let mean = settings.ema.map(|_| read.buffer(MEAN, layout)).transpose()?;
        let buffers = settings.optimizer.0.buffers().iter().map(|name| format!("optimizer.{name}."));
        let (buffers, states) = (buffers.collect::<Vec<_>>(), model.states(settings.batch));
        // All that a resumed training needs is there, or nothing of it.
        let needed = |tensor: &&str| {
            buffers.iter().any(|prefix| tensor.starts_with(prefix)) || states.iter().any(|state| state.name == *tensor)
        };
        let resume = if read.left.iter().any(needed) || buffers.is_empty() && states.is_empty() {
            let moments = buffers.iter().map(|prefix| read.buffer(prefix, layout)).collect::<Result<_>>()?;
            let states = states.iter().map(|state| read.tensor(&state.name, &state.shape)).collect::<Result<_>>()?;
            let owes = read.left.iter().any(|tensor| tensor.starts_with(OWED));
            let owed = owes.then(|| read.buffer(OWED, layout)).transpose()?;
            Some(Resume { moments, states, owed })
        } else {
            None
        };
        if let Some(name) = read.left.first() {
            return Err(wrong(format!("holds a tensor `{name}` that its configuration does not have")));
        }
        Ok(Self { model, styles, split, corpus, settings, progress, params, mean, resume })
    }
}

/// The CRC-32C, in hexadecimal, of all that a file says: the metadata but for the checksum itself, and each tensor with its name,
/// type, shape and bytes. Both are taken in the order of their names, as safetensors stores neither in a certain order, and
/// lengths stand before what they count, so that no byte can move from one part to the next unnoticed.
fn checksum(
    metadata: &HashMap<String, String>,
    tensors: impl Iterator<Item = (impl AsRef<str>, impl Stored)>,
) -> String {
    let mut crc = 0;
    let mut add = |bytes: &[u8]| {
        crc = crc32c::crc32c_append(crc, &(bytes.len() as u64).to_le_bytes());
        crc = crc32c::crc32c_append(crc, bytes);
    };
    let metadata: BTreeMap<_, _> = metadata.iter().filter(|(name, _)| *name != CHECKSUM).collect();
    for (name, value) in metadata {
        add(name.as_bytes());
        add(value.as_bytes());
    }
    let mut tensors: Vec<_> = tensors.collect();
    tensors.sort_by(|(a, _), (b, _)| a.as_ref().cmp(b.as_ref()));
    for (name, tensor) in tensors {
        add(name.as_ref().as_bytes());
        add(format!("{} {:?}", tensor.dtype(), tensor.shape()).as_bytes());
        add(&tensor.data());
    }
    format!("{crc:08x}")
}

/// Holds the content of a file against the checksum that was saved with it, if one was.
fn verify_checksum(metadata: &HashMap<String, String>, tensors: &SafeTensors) -> Result<()> {
    let Some(saved) = metadata.get(CHECKSUM) else { return Ok(()) };
    let found = checksum(metadata, tensors.iter());
    if *saved == found {
        return Ok(());
    }
    Err(Error::model(
        format!("is damaged: its content has the checksum {found}, not {saved}, which was saved with it"),
        format!("copy it again from where it was saved, {RETRAIN}"),
    ))
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::run(format!("metadata cannot be written: {e}"), ""))
}

fn wrong(what: impl Into<String>) -> Error {
    Error::model(what, RETRAIN)
}

/// One JSON string of the metadata.
fn field<T: DeserializeOwned>(meta: &HashMap<String, String>, name: &str) -> Result<T> {
    let text = meta.get(name).ok_or_else(|| wrong(format!("metadata: `{name}` is missing")))?;
    serde_json::from_str(text).map_err(|e| wrong(format!("metadata: `{name}`: {e}")))
}

/// What the safetensors crate found, in words for a user.
fn damaged(e: &SafeTensorError, len: usize) -> Error {
    let what = match e {
        SafeTensorError::HeaderTooSmall => format!("is cut off: it has {len} bytes"),
        SafeTensorError::InvalidHeaderLength => {
            format!("is cut off within its header ({len} bytes), or no safetensors file")
        }
        SafeTensorError::HeaderTooLarge => "is no safetensors file: the length of its header makes no sense".into(),
        SafeTensorError::MetadataIncompleteBuffer => {
            format!("is cut off within its tensors, or has bytes too many ({len} bytes)")
        }
        other => format!("is damaged or no safetensors file: {other}"),
    };
    wrong(what)
}

/// Takes tensors by name and notes which are left.
struct Reader<'a> {
    tensors: &'a SafeTensors<'a>,
    left: BTreeSet<&'a str>,
}

impl<'a> Reader<'a> {
    /// A tensor of exactly this shape.
    fn find(&mut self, name: &str, shape: &[usize]) -> Result<TensorView<'a>> {
        let Ok(found) = self.tensors.tensor(name) else {
            return Err(wrong(format!("the tensor `{name}` is missing")));
        };
        self.left.remove(name);
        if !matches!(found.dtype(), Dtype::F32 | Dtype::F16) {
            return Err(wrong(format!("the tensor `{name}` is of type {}, not F32 or F16", found.dtype())));
        }
        if found.shape() != shape {
            return Err(wrong(format!(
                "the tensor `{name}` has the shape {:?}, the configuration asks for {shape:?}",
                found.shape()
            )));
        }
        Ok(found)
    }

    /// The values of a tensor of exactly this shape, all finite.
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let found = self.find(name, shape)?;
        let bytes = found.data();
        let values: Vec<f32> = match found.dtype() {
            Dtype::F16 => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            _ => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        };
        match values.iter().position(|x| !x.is_finite()) {
            Some(i) => Err(wrong(format!("the tensor `{name}` holds {} at element {i}", values[i]))),
            None => Ok(values),
        }
    }

    /// The tensors `prefix<parameter>` at their places in a buffer.
    fn buffer(&mut self, prefix: &str, layout: &Layout) -> Result<Vec<f32>> {
        let name = |p: &Param| format!("{prefix}{}", p.name);
        // A configuration may ask for more than there is memory, but not for more than the file holds.
        for p in layout.params() {
            self.find(&name(p), &p.shape)?;
        }
        let mut buffer = vec![0.0; layout.len()];
        for p in layout.params() {
            let values = self.tensor(&name(p), &p.shape)?;
            buffer[p.view.start..][..p.view.len].copy_from_slice(&values);
        }
        Ok(buffer)
    }
}
