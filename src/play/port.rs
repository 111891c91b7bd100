//! MIDI ports, by `midir`: ALSA's on Linux (JACK's with its feature `jack`), CoreMIDI's on macOS, those of WinMM on
//! Windows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use midir::{MidiIO, MidiInput, MidiInputConnection, MidiOutput, MidiOutputConnection};

use super::{Clock, Message, Sink, SystemClock};
use crate::{Error, Result};

/// The name under which other programs see this one.
const CLIENT: &str = "deepj";
/// How often is looked whether a port is still there: a port that is gone takes messages all the same.
const WATCH: Duration = Duration::from_millis(500);
/// How long the last messages have to leave: a driver may send them in blocks.
const FLUSH: Duration = Duration::from_millis(60);
/// All notes off, on the first channel.
const ALL_OFF: [u8; 3] = [0xB0, 123, 0];

/// Names of the ports that take music.
///
/// # Errors
/// The system has no MIDI.
pub fn outputs() -> Result<Vec<String>> {
    output().map(|midi| names(&midi))
}

/// Names of the ports that send something, such as controllers.
///
/// # Errors
/// The system has no MIDI.
pub fn inputs() -> Result<Vec<String>> {
    input().map(|midi| names(&midi))
}

fn output() -> Result<MidiOutput> {
    MidiOutput::new(CLIENT).map_err(no_midi)
}

fn input() -> Result<MidiInput> {
    MidiInput::new(CLIENT).map_err(no_midi)
}

fn no_midi(e: midir::InitError) -> Error {
    let remedy = match cfg!(target_os = "linux") {
        true => "load ALSA's sequencer (`modprobe snd-seq`), whose /dev/snd/seq this user must be allowed to open",
        false => "see whether the system knows any MIDI device",
    };
    Error::run(format!("MIDI ports cannot be used: {e}"), remedy)
}

fn names(midi: &impl MidiIO) -> Vec<String> {
    midi.ports().iter().filter_map(|port| midi.port_name(port).ok()).collect()
}

/// The port of this name, or the only one that has it as a part of its name, in any case; with its whole name.
fn find<M: MidiIO>(midi: &M, name: &str, flag: &str) -> Result<(M::Port, String)> {
    let all: Vec<(M::Port, String)> =
        midi.ports().into_iter().filter_map(|port| midi.port_name(&port).ok().map(|name| (port, name))).collect();
    let chosen = choose(all.iter().map(|(_, name)| name.as_str()), name).map_err(|found| {
        let listed = |names: Vec<&str>| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        match found {
            found if !found.is_empty() => Error::usage(
                format!("{flag} {name} is a part of more than one name: {}", listed(found)),
                "give a longer part",
            ),
            _ if all.is_empty() => Error::usage(
                format!("{flag} {name}: there is no such MIDI port, nor any other"),
                "connect a device, or start the program that has the port; `deepj play --list-ports` lists them",
            ),
            _ => Error::usage(
                format!("{flag} {name}: there is no such MIDI port"),
                format!("there are {}", listed(all.iter().map(|(_, name)| name.as_str()).collect())),
            ),
        }
    })?;
    let (port, name) = &all[chosen];
    Ok((port.clone(), name.clone()))
}

/// The place of the one that is meant by `name`; else all that could be.
fn choose<'a>(names: impl Iterator<Item = &'a str>, name: &str) -> std::result::Result<usize, Vec<&'a str>> {
    let names: Vec<&str> = names.collect();
    if let Some(exact) = names.iter().position(|other| *other == name) {
        return Ok(exact);
    }
    let part = name.to_lowercase();
    let similar: Vec<usize> = (0..names.len()).filter(|&i| names[i].to_lowercase().contains(&part)).collect();
    match similar[..] {
        [one] => Ok(one),
        _ => Err(similar.into_iter().map(|i| names[i]).collect()),
    }
}

/// Sets a flag when a port is gone, as long as somebody else has the flag.
fn watch(gone: &Arc<AtomicBool>, mut is_there: impl FnMut() -> bool + Send + 'static) {
    let gone = Arc::downgrade(gone);
    let look = move || {
        while let Some(gone) = gone.upgrade() {
            if !is_there() {
                gone.store(true, Ordering::Relaxed);
                return;
            }
            drop(gone);
            std::thread::sleep(WATCH);
        }
    };
    // Without a thread nobody watches, and music is played all the same.
    drop(std::thread::Builder::new().name("midi port".into()).spawn(look));
}

/// A port that plays.
pub struct PortSink {
    clock: SystemClock,
    name: String,
    connection: MidiOutputConnection,
    down: [bool; 128],
    gone: Arc<AtomicBool>,
}

impl PortSink {
    /// The port of this name, or the only one with this part of a name.
    ///
    /// # Errors
    /// The system has no MIDI, or no such port.
    pub fn open(name: &str) -> Result<Self> {
        let midi = output()?;
        let (port, name) = find(&midi, name, "--port")?;
        let gone = Arc::default();
        let id = port.id();
        let listing = output()?;
        watch(&gone, move || listing.find_port_by_id(&id).is_some());
        let connection = midi.connect(&port, "music").map_err(|e| refused(&name, &e.to_string()))?;
        Ok(Self::new(name, connection, gone))
    }

    /// A port of this program's own, to which others connect.
    ///
    /// # Errors
    /// The system has no MIDI, or no ports of programs.
    #[cfg(unix)]
    pub fn virtual_port(name: &str) -> Result<Self> {
        use midir::os::unix::VirtualOutput;
        let connection = output()?.create_virtual(name).map_err(|e| refused(name, &e.to_string()))?;
        Ok(Self::new(name.into(), connection, Arc::default()))
    }

    /// There are none on this system.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(unix))]
    pub fn virtual_port(name: &str) -> Result<Self> {
        let what = format!("--virtual-port {name}: this system has no MIDI ports of programs");
        Err(Error::usage(what, "install a loopback MIDI driver, and give its port with --port"))
    }

    fn new(name: String, connection: MidiOutputConnection, gone: Arc<AtomicBool>) -> Self {
        Self { clock: SystemClock::default(), name, connection, down: [false; 128], gone }
    }

    /// Its whole name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn lost(&self, why: &str) -> Error {
        Error::run(
            format!("the MIDI port `{}` {why}", self.name),
            "connect the device again, or start the program that had the port, and play again; `deepj play --list-ports` \
             lists ports",
        )
    }
}

fn refused(name: &str, why: &str) -> Error {
    Error::run(format!("the MIDI port `{name}` cannot be opened: {why}"), "see whether another program has it alone")
}

impl Sink for PortSink {
    fn clock(&self) -> &dyn Clock {
        &self.clock
    }

    fn send(&mut self, _: f64, message: Message) -> Result<()> {
        let bytes = match message {
            Message::Down { pitch, velocity } => [0x90, pitch & 127, velocity & 127],
            Message::Up { pitch } => [0x80, pitch & 127, 64],
        };
        self.down[usize::from(bytes[1])] = matches!(message, Message::Down { .. });
        self.connection.send(&bytes).map_err(|e| self.lost(&format!("takes nothing any more: {e}")))
    }

    fn advance(&mut self, _: f64) -> Result<()> {
        if self.gone.load(Ordering::Relaxed) { Err(self.lost("is gone")) } else { Ok(()) }
    }

    fn silence(&mut self) {
        for pitch in (0..128u8).filter(|&pitch| self.down[usize::from(pitch)]) {
            // Whoever is gone does not sound either.
            let _ = self.connection.send(&[0x80, pitch, 64]);
        }
        let _ = self.connection.send(&ALL_OFF);
        self.down = [false; 128];
        std::thread::sleep(FLUSH);
    }
}

/// A port that is listened to.
pub struct Listener {
    name: String,
    _connection: MidiInputConnection<()>,
    gone: Arc<AtomicBool>,
}

impl Listener {
    /// Hands each message of the port of this name, or the only one with this part of a name, to `heard`.
    ///
    /// # Errors
    /// The system has no MIDI, or no such port.
    pub fn open(name: &str, mut heard: impl FnMut(&[u8]) + Send + 'static) -> Result<Self> {
        let midi = input()?;
        let (port, name) = find(&midi, name, "--control")?;
        let gone = Arc::default();
        let id = port.id();
        let listing = input()?;
        watch(&gone, move || listing.find_port_by_id(&id).is_some());
        let connection = midi.connect(&port, "control", move |_, message, ()| heard(message), ());
        let _connection = connection.map_err(|e| refused(&name, &e.to_string()))?;
        Ok(Self { name, _connection, gone })
    }

    /// Its whole name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is gone.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_found_by_its_name_or_a_part_of_it() {
        let names = ["Midi Through:0", "Grand Piano:0", "Piano", "Synth:1"];
        let of = |name| choose(names.into_iter(), name);
        assert_eq!((of("Piano"), of("synth"), of("grand")), (Ok(2), Ok(3), Ok(1)));
        assert_eq!(of("piano"), Err(vec!["Grand Piano:0", "Piano"]));
        assert_eq!(of("organ"), Err(vec![]));
    }
}
