//! The system's audio, by `cpal`.
//!
//! Sound is made ahead, on the thread that plays, into a ring that the device's callback empties. The clock is the
//! device's: it counts the frames that the device has taken from the ring, so events stand still relative to the sound
//! whatever the device's rate really is. Where the ring is empty the clock stands still, and no sound is lost.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{ErrorKind, FromSample, I24, SampleFormat, SizedSample, StreamConfig};
use parking_lot::Mutex;
use rtrb::{Consumer, Producer, RingBuffer};

use super::{Clock, Message, Sink};
use crate::render::{BLOCK, Instrument, LiveInstrument};
use crate::{Error, Result};

/// Seconds that sound is made ahead.
const AHEAD: f64 = 0.25;
/// Seconds for the sound to die away at the end.
const TAIL: f64 = 2.0;
/// How long a device may take nothing before it counts as gone.
const STALLED: Duration = Duration::from_secs(5);
/// Blocks in which the sound fades when it is ended at once.
const FADE: usize = 4;

/// Names of the devices that sound, that of the system first.
///
/// # Errors
/// The system has no audio.
pub fn devices() -> Result<Vec<String>> {
    let mut names = vec![];
    for host in hosts() {
        let first = host.default_output_device();
        let all = host.output_devices().into_iter().flatten();
        names.extend(first.into_iter().chain(all).map(|device| name_of(&device)));
    }
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    if names.is_empty() { Err(no_audio()) } else { Ok(names) }
}

/// The system's usual one, then the others.
fn hosts() -> Vec<cpal::Host> {
    let usual = cpal::default_host();
    let others = cpal::available_hosts().into_iter().filter(|id| *id != usual.id());
    let others: Vec<cpal::Host> = others.filter_map(|id| cpal::host_from_id(id).ok()).collect();
    std::iter::once(usual).chain(others).collect()
}

fn name_of(device: &cpal::Device) -> String {
    device.description().map_or_else(|_| device.to_string(), |description| description.name().to_string())
}

fn no_audio() -> Error {
    Error::run("there is no audio device", "play to a MIDI port with --port, or make a file with `deepj render`")
}

fn find(wanted: Option<&str>) -> Result<cpal::Device> {
    let Some(wanted) = wanted else {
        // A system may name a device that it has not: then another of its kinds of audio may have one.
        let mut all: Vec<cpal::Device> = hosts().iter().filter_map(HostTrait::default_output_device).collect();
        let usable = all.iter().position(|device| device.default_output_config().is_ok());
        return (!all.is_empty()).then(|| all.swap_remove(usable.unwrap_or(0))).ok_or_else(no_audio);
    };
    let part = wanted.to_lowercase();
    let all = hosts().into_iter().flat_map(|host| host.output_devices().into_iter().flatten().collect::<Vec<_>>());
    let found = all.into_iter().find(|device| name_of(device).to_lowercase().contains(&part));
    found.ok_or_else(|| match devices() {
        Ok(names) => {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            Error::usage(
                format!("--audio-device {wanted}: there is no such audio device"),
                format!("there are {}", names.join(", ")),
            )
        }
        Err(e) => e,
    })
}

/// Frames that the device has taken.
struct AudioClock {
    frames: Arc<AtomicU64>,
    rate: f64,
}

impl Clock for AudioClock {
    fn now(&self) -> f64 {
        self.frames.load(Ordering::Relaxed) as f64 / self.rate
    }

    fn sleep_until(&self, seconds: f64) {
        let left = seconds - self.now();
        if left > 0.0 {
            std::thread::sleep(Duration::from_secs_f64(left.min(1.0)));
        }
    }
}

/// An audio device that plays.
pub struct AudioSink {
    /// Sound stops with it.
    _stream: cpal::Stream,
    name: String,
    rate: u32,
    clock: AudioClock,
    instrument: LiveInstrument,
    ring: Producer<[f32; 2]>,
    /// Frames that were made.
    made: u64,
    /// What comes in frames that are not made yet.
    events: VecDeque<(u64, Message)>,
    failure: Arc<Mutex<Option<String>>>,
    /// Frames when the device last took some, and the time.
    alive: (u64, Instant),
}

impl AudioSink {
    /// The device that has this part of a name, or the system's, on which an instrument plays.
    ///
    /// # Errors
    /// No such device, or one that takes no sound.
    pub fn open(wanted: Option<&str>, instrument: &Instrument) -> Result<Self> {
        let device = find(wanted)?;
        let name = name_of(&device);
        let refused = |e: cpal::Error| {
            let what = format!("the audio device `{name}` cannot be used: {e}");
            Error::run(what, "close programs that have it alone, or name another with --audio-device")
        };
        let supported = device.default_output_config().map_err(refused)?;
        let (config, rate) = (supported.config(), supported.sample_rate());
        let instrument = LiveInstrument::new(instrument, rate)?;
        let room = (AHEAD * f64::from(rate)) as usize + BLOCK;
        let (ring, taken) = RingBuffer::new(room);
        let frames = Arc::new(AtomicU64::new(0));
        let failure = Arc::new(Mutex::new(None));
        let output =
            Output { taken, frames: frames.clone(), channels: usize::from(config.channels), failure: failure.clone() };
        let stream = match supported.sample_format() {
            SampleFormat::F32 => output.start::<f32>(&device, config),
            SampleFormat::F64 => output.start::<f64>(&device, config),
            SampleFormat::I8 => output.start::<i8>(&device, config),
            SampleFormat::I16 => output.start::<i16>(&device, config),
            SampleFormat::I24 => output.start::<I24>(&device, config),
            SampleFormat::I32 => output.start::<i32>(&device, config),
            SampleFormat::U8 => output.start::<u8>(&device, config),
            SampleFormat::U16 => output.start::<u16>(&device, config),
            SampleFormat::U32 => output.start::<u32>(&device, config),
            other => {
                let what = format!("the audio device `{name}` takes samples as {other}");
                return Err(Error::run(what, "name another with --audio-device"));
            }
        };
        let _stream = stream.map_err(refused)?;
        let clock = AudioClock { frames, rate: rate.into() };
        let alive = (0, Instant::now());
        Ok(Self { _stream, name, rate, clock, instrument, ring, made: 0, events: VecDeque::new(), failure, alive })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn check(&mut self) -> Result<()> {
        let frames = self.clock.frames.load(Ordering::Relaxed);
        if frames != self.alive.0 {
            self.alive = (frames, Instant::now());
        }
        let stalled = self.alive.1.elapsed() > STALLED;
        let why = self.failure.lock().take().or(stalled.then(|| "has taken no sound for 5 s".into()));
        match why {
            None => Ok(()),
            Some(why) => Err(Error::run(
                format!("the audio device `{}` is lost: {why}", self.name),
                "connect it again, or name another with --audio-device, and play again",
            )),
        }
    }

    /// Makes a block if there is room for it; `gain` goes from its first value to its second.
    fn block(&mut self, gain: (f32, f32)) -> Result<bool> {
        if self.ring.slots() < BLOCK {
            return Ok(false);
        }
        let end = self.made + BLOCK as u64;
        let due = self.events.partition_point(|(frame, _)| *frame < end);
        for (frame, message) in self.events.drain(..due) {
            let at = frame.saturating_sub(self.made) as usize;
            match message {
                Message::Down { pitch, velocity } => self.instrument.press(pitch, velocity, at),
                Message::Up { pitch } => self.instrument.release(pitch, at),
            }
        }
        for (i, frame) in self.instrument.block()?.enumerate() {
            let gain = gain.0 + (gain.1 - gain.0) * i as f32 / BLOCK as f32;
            // There is room for all of it.
            let _ = self.ring.push(frame.map(|sample| gain * sample));
        }
        self.made = end;
        Ok(true)
    }
}

impl Sink for AudioSink {
    fn clock(&self) -> &dyn Clock {
        &self.clock
    }

    fn ahead(&self) -> f64 {
        AHEAD
    }

    fn tail(&self) -> f64 {
        TAIL
    }

    fn send(&mut self, at: f64, message: Message) -> Result<()> {
        self.events.push_back(((at * f64::from(self.rate)).round() as u64, message));
        Ok(())
    }

    fn advance(&mut self, until: f64) -> Result<()> {
        self.check()?;
        let until = (until * f64::from(self.rate)) as u64;
        while self.made + BLOCK as u64 <= until && self.block((1.0, 1.0))? {}
        Ok(())
    }

    fn silence(&mut self) {
        self.events.clear();
        self.instrument.release_all();
        let part = |i: usize| 1.0 - i as f32 / FADE as f32;
        let (mut faded, began) = (0, Instant::now());
        // What was made before is heard first; a device that is lost takes nothing more.
        while began.elapsed() < Duration::from_secs_f64(4.0 * AHEAD) && self.check().is_ok() {
            if faded < FADE {
                match self.block((part(faded), part(faded + 1))) {
                    Ok(made) => faded += usize::from(made),
                    Err(_) => return,
                }
            } else if self.clock.frames.load(Ordering::Relaxed) >= self.made {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// What the device's callback has.
struct Output {
    taken: Consumer<[f32; 2]>,
    frames: Arc<AtomicU64>,
    channels: usize,
    failure: Arc<Mutex<Option<String>>>,
}

impl Output {
    fn start<T: SizedSample + FromSample<f32>>(
        self,
        device: &cpal::Device,
        config: StreamConfig,
    ) -> std::result::Result<cpal::Stream, cpal::Error> {
        let Self { mut taken, frames, channels, failure } = self;
        let data = move |data: &mut [T], _: &cpal::OutputCallbackInfo| {
            let mut count = 0;
            for frame in data.chunks_mut(channels) {
                let [left, right] = taken.pop().map_or([0.0; 2], |frame| {
                    count += 1;
                    frame
                });
                frame.fill(T::from_sample(0.0));
                match frame {
                    [mono] => *mono = T::from_sample(0.5 * (left + right)),
                    [first, second, ..] => (*first, *second) = (T::from_sample(left), T::from_sample(right)),
                    [] => (),
                }
            }
            frames.fetch_add(count, Ordering::Relaxed);
        };
        let failed = move |e: cpal::Error| match e.kind() {
            // Sound goes on.
            ErrorKind::DeviceChanged | ErrorKind::Xrun | ErrorKind::RealtimeDenied => (),
            _ => *failure.lock() = Some(e.to_string()),
        };
        let stream = device.build_output_stream(config, data, failed, None)?;
        stream.play()?;
        Ok(stream)
    }
}
