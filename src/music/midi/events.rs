//! The bytes of a track as events. `midly` does not tell where an event lies, takes the first four bytes of a longer number
//! and cuts a text that is too long; here each of these is an error with its place.

const SUSTAIN_PEDAL: u8 = 64;
const ALL_SOUND_OFF: u8 = 120;
const ALL_NOTES_OFF: u8 = 123;

/// The most bytes of a variable-length quantity.
const QUANTITY_BYTES: usize = 4;

/// What happens at an event, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventKind {
    On { channel: u8, pitch: u8, velocity: u8 },
    Off { channel: u8, pitch: u8 },
    Pedal { channel: u8, down: bool },
    Silence { channel: u8 },
    Tempo(u32),
    Metre { numerator: u8, denominator: u8 },
    TrackEnd,
}

/// What is wrong with an event that can be read all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Odd {
    /// A byte of live MIDI, such as a clock, which no file should hold.
    RealTime { byte: u8 },
    /// A data byte above 127 whose event does not depend on it.
    DataByte { byte: u8 },
    /// A tempo that is no time.
    Tempo,
    /// A metre that is none.
    Metre,
}

/// An event as it stands in the file.
pub(super) struct RawEvent {
    /// `None` where it does not matter here.
    pub(super) kind: Option<EventKind>,
    pub(super) odd: Option<Odd>,
}

/// Why there is no event.
pub(super) struct Stop {
    pub(super) why: String,
    /// Whether the bytes ran out.
    pub(super) short: bool,
}

/// Reads events one after another.
#[derive(Clone)]
pub(super) struct EventReader<'a> {
    /// The file up to where events can be.
    bytes: &'a [u8],
    /// The next byte.
    pub(super) at: usize,
    /// The tick of the last event.
    pub(super) tick: u64,
    running_status: Option<u8>,
}

type Outcome<T> = std::result::Result<T, Stop>;

impl<'a> EventReader<'a> {
    /// Reads from byte `at` of `bytes`, which is at `tick`.
    pub(super) fn new(bytes: &'a [u8], at: usize, tick: u64) -> Self {
        Self { bytes, at, tick, running_status: None }
    }

    /// The next event. After an error the place within the file means nothing.
    pub(super) fn next(&mut self) -> Outcome<RawEvent> {
        // A file has far fewer than 2^36 events of less than 2^28 ticks each: no overflow.
        self.tick += self.quantity("delta time")? as u64;
        let place = self.at;
        let status = match self.byte()? {
            data @ 0..0x80 => {
                self.at = place;
                let none = || wrong(format!("byte {place} is {data}, and no status byte came before it"));
                self.running_status.ok_or_else(none)?
            }
            status => status,
        };
        match status {
            0x80..0xf0 => {
                // It survives meta and system-exclusive events: the format forbids it, but files that rely on it exist.
                self.running_status = Some(status);
                self.channel_event(status)
            }
            0xf0 | 0xf7 => self.block().map(|_| RawEvent { kind: None, odd: None }),
            0xff => self.meta_event(),
            0xf8.. => Ok(RawEvent { kind: None, odd: Some(Odd::RealTime { byte: status }) }),
            _ => Err(wrong(format!("byte {place} is {status}, a status byte that no file can hold"))),
        }
    }

    fn channel_event(&mut self, status: u8) -> Outcome<RawEvent> {
        let (channel, message) = (status & 0x0f, status >> 4);
        let place = self.at;
        let first = self.byte()?;
        let value = if matches!(message, 0xc | 0xd) { first } else { self.byte()? };
        // A key, or which controller, cannot be guessed. A value can, and the next event follows it in any case.
        let needed = if matches!(message, 8 | 9) { first.max(value) } else { first };
        if needed > 127 && !matches!(message, 0xc | 0xd) {
            let (place, byte) = if first > 127 { (place, first) } else { (place + 1, value) };
            return Err(wrong(format!("byte {place} is {byte}, but data bytes are at most 127")));
        }
        let kind = match (message, first) {
            (9, pitch) if value > 0 => Some(EventKind::On { channel, pitch, velocity: value }),
            (8 | 9, pitch) => Some(EventKind::Off { channel, pitch }),
            (0xb, SUSTAIN_PEDAL) => Some(EventKind::Pedal { channel, down: value >= 64 }),
            (0xb, ALL_SOUND_OFF | ALL_NOTES_OFF) => Some(EventKind::Silence { channel }),
            _ => None,
        };
        Ok(RawEvent { kind, odd: (value > 127).then_some(Odd::DataByte { byte: value }) })
    }

    fn meta_event(&mut self) -> Outcome<RawEvent> {
        let kind = self.byte()?;
        let content = self.block()?;
        let (kind, odd) = match (kind, content) {
            (0x2f, _) => (Some(EventKind::TrackEnd), None),
            (0x51, &[a, b, c, ..]) if (a, b, c) != (0, 0, 0) => {
                (Some(EventKind::Tempo(u32::from_be_bytes([0, a, b, c]))), None)
            }
            (0x51, _) => (None, Some(Odd::Tempo)),
            (0x58, &[numerator @ (1..), exponent @ 0..=6, _, _, ..]) => {
                (Some(EventKind::Metre { numerator, denominator: 1 << exponent }), None)
            }
            (0x58, _) => (None, Some(Odd::Metre)),
            _ => (None, None),
        };
        Ok(RawEvent { kind, odd })
    }

    fn byte(&mut self) -> Outcome<u8> {
        let Some(&byte) = self.bytes.get(self.at) else {
            return Err(Stop { why: "the file ends within it".into(), short: true });
        };
        self.at += 1;
        Ok(byte)
    }

    /// A number of one to four bytes with seven bits each.
    fn quantity(&mut self, name: &str) -> Outcome<usize> {
        let place = self.at;
        let mut value = 0;
        for _ in 0..QUANTITY_BYTES {
            let byte = self.byte()?;
            value = value << 7 | usize::from(byte & 0x7f);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(wrong(format!("the {name} at byte {place} has more than {QUANTITY_BYTES} bytes")))
    }

    /// A length, and so many bytes.
    fn block(&mut self) -> Outcome<&'a [u8]> {
        let place = self.at;
        let length = self.quantity("length")?;
        let rest = &self.bytes[self.at..];
        let Some(block) = rest.get(..length) else {
            let why = format!("the length at byte {place} announces {length} bytes, {} are there", rest.len());
            return Err(Stop { why, short: true });
        };
        self.at += length;
        Ok(block)
    }
}

fn wrong(why: String) -> Stop {
    Stop { why, short: false }
}
