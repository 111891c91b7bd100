//! Where `deepj play` plays to. What this program was built without is told with how to build it.

use std::path::PathBuf;

use deepj::Result;
#[cfg(not(all(feature = "audio", feature = "midi-port")))]
use deepj::play::unbuilt;
use deepj::play::{Silent, Sink};

use crate::cli::say;

/// What plays, and where.
pub enum Output {
    /// The system's audio, or the device with this part of a name, as a SoundFont sounds or the piano within the
    /// program.
    Audio { device: Option<String>, soundfont: Option<PathBuf> },
    /// A MIDI port, by a part of its name.
    Port(String),
    /// A MIDI port of this program's own.
    VirtualPort(String),
    /// Nowhere.
    Silent,
}

impl Output {
    /// Opens it, and tells what it is in words. It stays on the thread that opens it.
    pub fn open(self) -> Result<(Box<dyn Sink>, String)> {
        match self {
            Self::Silent => Ok((Box::<Silent>::default(), "nobody, in time".into())),
            Self::Audio { device, soundfont } => audio(device, soundfont),
            Self::Port(name) => port(&name, false),
            Self::VirtualPort(name) => port(&name, true),
        }
    }
}

#[cfg(feature = "audio")]
fn audio(device: Option<String>, soundfont: Option<PathBuf>) -> Result<(Box<dyn Sink>, String)> {
    let instrument = deepj::render::Instrument::new(soundfont.as_deref())?;
    let sink = deepj::play::audio::AudioSink::open(device.as_deref(), &instrument)?;
    let name = format!("the audio device `{}`", sink.name());
    Ok((Box::new(sink), name))
}

#[cfg(not(feature = "audio"))]
fn audio(device: Option<String>, soundfont: Option<PathBuf>) -> Result<(Box<dyn Sink>, String)> {
    drop((device, soundfont));
    let mut e = unbuilt("playing through the system's audio", "audio");
    e.remedy += "\n  or play to a MIDI port with --port, or make a file with `deepj render` or `deepj generate --wav`";
    Err(e)
}

#[cfg(feature = "midi-port")]
fn port(name: &str, is_virtual: bool) -> Result<(Box<dyn Sink>, String)> {
    use deepj::play::port::PortSink;
    let sink = if is_virtual { PortSink::virtual_port(name)? } else { PortSink::open(name)? };
    let text = format!("the MIDI port `{}`", sink.name());
    Ok((Box::new(sink), text))
}

#[cfg(not(feature = "midi-port"))]
fn port(name: &str, is_virtual: bool) -> Result<(Box<dyn Sink>, String)> {
    let flag = if is_virtual { "--virtual-port" } else { "--port" };
    Err(unbuilt(&format!("{flag} {name}: playing to a MIDI port"), "midi-port"))
}

/// What is held while a port is listened to.
#[cfg(feature = "midi-port")]
pub type Listener = deepj::play::port::Listener;

/// There is none in this program.
#[cfg(not(feature = "midi-port"))]
pub struct Listener;

/// Hands each message of a MIDI port to `heard`.
#[cfg(feature = "midi-port")]
pub fn listen(name: &str, heard: impl FnMut(&[u8]) + Send + 'static) -> Result<Listener> {
    Listener::open(name, heard)
}

/// Tells that this program cannot.
#[cfg(not(feature = "midi-port"))]
pub fn listen(name: &str, _: impl FnMut(&[u8]) + Send + 'static) -> Result<Listener> {
    Err(unbuilt(&format!("--control {name}: listening to a MIDI port"), "midi-port"))
}

#[cfg(not(feature = "midi-port"))]
impl Listener {
    /// Never.
    pub fn is_gone(&self) -> bool {
        false
    }

    /// None.
    pub fn name(&self) -> &str {
        ""
    }
}

/// Prints what there is to play to, and to be controlled by.
pub fn list() {
    let missing = |feature: &str| {
        vec![format!("none: built without; `cargo build --release --features {feature}` builds it with")]
    };
    let lines = |names: Result<Vec<String>>| match names {
        Ok(names) if names.is_empty() => vec!["none".into()],
        Ok(names) => names,
        Err(e) => vec![format!("none: {}", e.what)],
    };
    #[cfg(feature = "audio")]
    let audio = lines(deepj::play::audio::devices());
    #[cfg(not(feature = "audio"))]
    let audio = missing("audio");
    #[cfg(feature = "midi-port")]
    let (outputs, inputs) = (lines(deepj::play::port::outputs()), lines(deepj::play::port::inputs()));
    #[cfg(not(feature = "midi-port"))]
    let (outputs, inputs) = (missing("midi-port"), missing("midi-port"));
    let _ = (missing, lines);
    for (title, names) in [
        ("audio devices (--audio-device)", audio),
        ("MIDI ports to play to (--port)", outputs),
        ("MIDI ports to be controlled by (--control)", inputs),
    ] {
        say(format_args!("{title}:"));
        names.iter().for_each(|name| say(format_args!("  {name}")));
    }
}
