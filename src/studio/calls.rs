//! What the page's worker calls: the functions of the WebAssembly module of `web/`, on this machine's devices.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use pollster::block_on;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Answer;
use crate::checkpoint::Checkpoint;
use crate::generate::request::{LivePiece, Request, Weights};
use crate::gpu::{Device, DeviceType};
use crate::graph::session::KernelSelection;
use crate::music::{Score, StylePath};
use crate::render::timed::TimedPiano;
use crate::render::{BLOCK, Instrument, Options, Performance, wav_bytes};
use crate::{Error, Result};

/// Objects of pages that are kept; of more those unused for longest are forgotten, since a page that is closed does not say so.
const MOST_OBJECTS: usize = 48;

/// What a page holds by a number.
#[derive(Clone)]
enum Object {
    Device(Device),
    Weights(Arc<Weights>),
    /// And what ends the composing of its ending, while a call has the piece.
    Piece(Arc<Mutex<LivePiece>>, Arc<AtomicBool>),
    Piano(Arc<Mutex<TimedPiano>>),
}

/// Opens the device that was chosen.
pub type Opening = Box<dyn Fn() -> Result<Device> + Send + Sync>;

/// The objects of all pages.
pub struct Calls {
    device: Mutex<Device>,
    /// Opens it again after it was lost.
    open: Opening,
    selection: KernelSelection,
    objects: Mutex<Objects>,
}

#[derive(Default)]
struct Objects {
    /// By number, each with the moment of its last use.
    kept: BTreeMap<u64, (Object, u64)>,
    /// Counts the uses; a fresh object's number is that of its first.
    uses: u64,
}

impl Objects {
    fn keep(&mut self, object: Object) -> u64 {
        self.uses += 1;
        let id = self.uses;
        self.kept.insert(id, (object, id));
        while self.kept.len() > MOST_OBJECTS {
            let oldest = self.kept.iter().min_by_key(|(_, (_, used))| *used).map(|(id, _)| *id);
            oldest.and_then(|id| self.kept.remove(&id));
        }
        id
    }

    fn used(&mut self, id: u64) -> Option<Object> {
        self.uses += 1;
        let (object, used) = self.kept.get_mut(&id)?;
        *used = self.uses;
        Some(object.clone())
    }
}

/// Which object a call is about.
#[derive(Deserialize)]
struct Id {
    id: u64,
}

impl Calls {
    /// # Errors
    /// A device that cannot be opened.
    pub fn new(open: Opening, selection: KernelSelection) -> Result<Self> {
        Ok(Self { device: Mutex::new(open()?), open, selection, objects: Mutex::default() })
    }

    fn keep(&self, object: Object) -> u64 {
        self.objects.lock().keep(object)
    }

    /// The device that was chosen, opened again if it was lost.
    fn chosen(&self) -> Result<Device> {
        let mut device = self.device.lock();
        if matches!(&*device, Device::Gpu(gpu) if gpu.is_lost()) {
            *device = (self.open)()?;
        }
        Ok(device.clone())
    }

    fn object(&self, id: u64) -> Result<Object> {
        let gone = || Error::usage("the page speaks of something that is gone", "reload the page");
        self.objects.lock().used(id).ok_or_else(gone)
    }

    /// Calls a method with arguments in JSON, escaped as in an address.
    ///
    /// # Errors
    /// What is no method, arguments that it does not take, and its own errors.
    pub fn call(&self, method: &str, arguments: &str, body: &[u8]) -> Result<Answer> {
        let text = unescaped(arguments)?;
        let given: Value = serde_json::from_str(&text).map_err(|e| wrong(&e))?;
        let (of, name) = method.split_once('.').unwrap_or(("", method));
        match of {
            "device" => self.device(name, given),
            "weights" => self.weights(name, given, body),
            "piece" => self.piece(name, given, body),
            "piano" => self.piano(name, given, body),
            _ => self.plain(name, given, body),
        }
    }

    fn plain(&self, name: &str, given: Value, body: &[u8]) -> Result<Answer> {
        let named = || given["name"].as_str().unwrap_or("the file").to_string();
        match name {
            "version" => Ok(Answer::Json(env!("CARGO_PKG_VERSION").into())),
            "free" => {
                self.objects.lock().kept.remove(&taken::<Id>(given)?.id);
                Ok(Answer::Json(Value::Null))
            }
            "readMidi" => {
                let score = Score::parse(named(), body, true)?;
                let performance = Performance::new(&score);
                Ok(Answer::Json(json!({
                    "events": performance.events(),
                    "tempo": score.mean_bpm,
                    "seconds": performance.end(),
                    "bar": 240.0 / score.mean_bpm,
                    "warnings": score.warnings,
                })))
            }
            "wav" => {
                let performance = Performance::new(&Score::parse(named(), body, true)?);
                wav_bytes(&performance, &Instrument::Piano, &Options::default()).map(Answer::Bytes)
            }
            _ => Err(Error::usage(format!("there is no call `{name}`"), "reload the page")),
        }
    }

    fn device(&self, name: &str, given: Value) -> Result<Answer> {
        #[derive(Deserialize)]
        struct Open {
            cpu: bool,
        }
        if name != "open" {
            return self.plain(name, given, &[]);
        }
        let device = match taken::<Open>(given)?.cpu {
            true => Device::Cpu { why: "the page asked for it".into() },
            false => self.chosen()?,
        };
        if let (Device::Cpu { why }, false) =
            (&device, matches!(&device, Device::Cpu { why } if why.starts_with("the page")))
        {
            return Err(Error::device(why.clone(), "choose the CPU, or start the studio with another --device"));
        }
        let able = device.capabilities();
        let software = able.is_some_and(|able| able.device_type == DeviceType::Software);
        let name = able.map_or("CPU", |able| &able.name).to_string();
        let capabilities = json!(able);
        let id = self.keep(Object::Device(device.clone()));
        let cpu = device.capabilities().is_none();
        Ok(Answer::Json(
            json!({ "id": id, "cpu": cpu, "software": software, "name": name, "capabilities": capabilities }),
        ))
    }

    fn weights(&self, name: &str, given: Value, body: &[u8]) -> Result<Answer> {
        #[derive(Deserialize)]
        struct Style {
            id: u64,
            expression: String,
        }
        let (checkpoint, builtin) = match name {
            "builtin" => (Checkpoint::builtin()?, true),
            "read" => {
                let file = given["name"].as_str().unwrap_or("the checkpoint").to_string();
                (Checkpoint::from_bytes(body).map_err(|e| Error::file(file, e.what, e.remedy))?, false)
            }
            "style" => {
                let Style { id, expression } = taken(given)?;
                let Object::Weights(weights) = self.object(id)? else { return Err(other_kind()) };
                return Ok(Answer::Json(json!(StylePath::parse(&expression, &weights.checkpoint.styles)?.1)));
            }
            _ => return self.plain(name, given, body),
        };
        let weights = Weights { checkpoint: Arc::new(checkpoint), builtin };
        let described = json!(weights.describe());
        let id = self.keep(Object::Weights(Arc::new(weights)));
        Ok(Answer::Json(json!({ "id": id, "described": described })))
    }

    fn piece(&self, name: &str, given: Value, body: &[u8]) -> Result<Answer> {
        #[derive(Deserialize)]
        struct Begin {
            weights: u64,
            device: u64,
            wanted: String,
            name: String,
        }
        if name == "begin" {
            let Begin { weights, device, wanted, name } = taken(given)?;
            let (Object::Weights(weights), Object::Device(device)) = (self.object(weights)?, self.object(device)?)
            else {
                return Err(other_kind());
            };
            let request: Request = serde_json::from_str(&wanted).map_err(|e| wrong(&e))?;
            let given = (!body.is_empty()).then_some((&*name, body));
            let piece = block_on(LivePiece::begin(&weights, request, given, device, self.selection.clone()))?;
            let stop = piece.stopper();
            let id = self.keep(Object::Piece(Arc::new(Mutex::new(piece)), stop));
            return Ok(Answer::Json(json!({ "id": id })));
        }
        let Object::Piece(piece, stop) = self.object(given["id"].as_u64().unwrap_or(0))? else {
            return Err(other_kind());
        };
        if name == "stop" {
            stop.store(true, Ordering::Relaxed);
            return Ok(Answer::Json(Value::Null));
        }
        let mut piece = piece.lock();
        let tempo = given["tempo"].as_f64().unwrap_or(120.0);
        match name {
            "nextBar" => {
                let events = block_on(piece.next_bar())?;
                Ok(Answer::Json(json!({ "events": events, "steps": piece.steps() })))
            }
            "finish" => {
                let events = block_on(piece.finish())?;
                Ok(Answer::Json(json!({ "events": events, "steps": piece.steps() })))
            }
            "prepareEnding" => block_on(piece.prepare_ending()).map(|()| Answer::Json(Value::Null)),
            "changeStyle" => {
                piece.change_style(given["expression"].as_str().unwrap_or_default()).map(|()| Answer::Json(Value::Null))
            }
            "changeTemperature" => {
                let temperature = given["temperature"].as_f64().unwrap_or(-1.0);
                piece.change_temperature(temperature as f32).map(|()| Answer::Json(Value::Null))
            }
            "endSoon" => {
                piece.end_soon();
                Ok(Answer::Json(Value::Null))
            }
            "midi" => piece.midi(tempo).map(Answer::Bytes),
            "how" => Ok(Answer::Json(piece.how(tempo).into())),
            _ => Err(Error::usage(format!("a piece has no `{name}`"), "reload the page")),
        }
    }

    fn piano(&self, name: &str, given: Value, body: &[u8]) -> Result<Answer> {
        #[derive(Deserialize)]
        struct New {
            rate: u32,
        }
        #[derive(Deserialize)]
        struct Fill {
            id: u64,
            seconds: f64,
            rate: u32,
        }
        if name == "new" {
            let piano = TimedPiano::new(taken::<New>(given)?.rate)?;
            return Ok(Answer::Json(json!({ "id": self.keep(Object::Piano(Arc::new(Mutex::new(piano)))) })));
        }
        let Fill { id, seconds, rate } = taken(given)?;
        // Seconds, pitch, velocity.
        let events: Vec<(f64, u8, u8)> = serde_json::from_slice(body).map_err(|e| wrong(&e))?;
        let Object::Piano(piano) = self.object(id)? else { return Err(other_kind()) };
        let mut piano = piano.lock();
        for (at, pitch, velocity) in events {
            piano.add(at, pitch, velocity);
        }
        if !(0.0..=60.0).contains(&seconds) {
            return Err(Error::usage(format!("{seconds} seconds of sound at once"), "reload the page"));
        }
        let (mut left, mut right) = (vec![], vec![]);
        let blocks = (seconds * f64::from(rate.min(192_000)) / BLOCK as f64).ceil().max(1.0) as usize;
        (0..blocks).try_for_each(|_| piano.fill(&mut left, &mut right))?;
        // Whether nothing sounds any more stands before the sound.
        let head = [f32::from(u8::from(piano.is_silent()))];
        let all = head.iter().chain(&left).chain(&right);
        Ok(Answer::Bytes(all.flat_map(|sample| sample.to_le_bytes()).collect()))
    }
}

fn taken<T: DeserializeOwned>(given: Value) -> Result<T> {
    serde_json::from_value(given).map_err(|e| wrong(&e))
}

fn wrong(e: &serde_json::Error) -> Error {
    Error::usage(format!("a call that cannot be read: {e}"), "reload the page")
}

fn other_kind() -> Error {
    Error::usage("the page takes one thing for another", "reload the page")
}

/// Text with `%41` for A, as the page's `encodeURIComponent` writes it.
fn unescaped(text: &str) -> Result<String> {
    let cut = || Error::usage("a call with an escape that is none", "reload the page");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16)).ok_or_else(cut);
        bytes.push((16 * digit()? + digit()?) as u8);
    }
    String::from_utf8(bytes).map_err(|_| cut())
}

/// The other way, for tests.
#[cfg(test)]
pub fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_however_much_is_kept() {
        let mut objects = Objects::default();
        let object = || Object::Device(Device::Cpu { why: String::new() });
        let (first, second) = (objects.keep(object()), objects.keep(object()));
        for _ in 0..2 * MOST_OBJECTS {
            objects.keep(object());
            assert!(objects.used(first).is_some());
        }
        assert!(objects.used(second).is_none());
        assert_eq!(objects.kept.len(), MOST_OBJECTS);
    }
}
