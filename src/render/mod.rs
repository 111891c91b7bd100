//! A MIDI file as sound: what the file plays, in its own tempos, dynamics and pedalling, as 16-bit PCM in stereo.
//!
//! `Score` has notes in ticks, whose ends are where the pedal lets go of them; [`Performance`] has the keys of one piano in
//! seconds. An [`Instrument`] makes sound of them in blocks of [`BLOCK`] frames: the piano within the program ([`piano`]) or a
//! SoundFont ([`soundfont`]). Memory follows the notes of the file and not its length, since each block is handed on before the
//! next one is made. A frame is the samples of both channels at one time.
//!
//! **Length.** [`frames`] tells it before anything is rendered: the end of the last note, which is where the key is up and the
//! pedal lets go, rounded to a frame, and [`tail`] more, in which the sound dies away. [`Options::seconds`] replaces this by
//! another length, to the frame. The last [`FADE`] of a second fade to zero in either case.
//!
//! **Level.** It is fixed, so that a soft piece stays soft and any part of a piece is as loud as within the whole. Instruments
//! leave headroom: a note of the piano has a peak of less than half of full scale. What is above [`KNEE`] all the same
//! is bent below [`CEILING`] by a hyperbolic tangent whose slope at the knee is 1, sample by sample; so nothing clips, and what
//! happens at one time does not depend on another. [`Options::gain`] makes all of a piece louder or softer before that, and
//! [`sound`] hands on what comes before it: by it a piece can be measured, and given a level.
//!
//! The same file gives the same bytes. The piano takes its functions from `libm` and adds in a fixed order, so this holds between
//! machines too; `rustysynth` takes them from the system.

pub mod piano;
pub mod soundfont;

mod live;
mod performance;
pub mod timed;
mod wav;

pub use live::LiveInstrument;
pub use performance::{Performance, Strike};
pub use soundfont::SoundFont;
pub use wav::{wav_bytes, write_wav};

use std::path::Path;

use crate::{Error, Result};
use piano::Piano;

/// Frames that are rendered at once.
pub const BLOCK: usize = 1024;
/// The longest that is rendered, in seconds: two hours.
pub const MAX_SECONDS: f64 = 7200.0;
/// Seconds of the fade at the end.
pub const FADE: f64 = 0.01;
/// The largest absolute value of a sample that is left as it is; 1 is full scale.
pub const KNEE: f32 = 0.8;
/// What no absolute value of a sample goes beyond.
pub const CEILING: f32 = 0.99;

/// Frames a second where nothing else is asked for.
pub const DEFAULT_RATE: u32 = 44_100;
/// The frames a second that can be asked for.
const RATES: std::ops::RangeInclusive<u32> = 16_000..=192_000;
/// The shortest that can be asked for, in seconds.
const MIN_SECONDS: f64 = 0.001;
/// Bytes of a frame in the file, and the most that a WAV file, whose lengths have 32 bits, can hold of them.
const FRAME_BYTES: u64 = 4;
const MAX_BYTES: u64 = u32::MAX as u64 - 64;

/// How a performance is rendered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Frames a second.
    pub rate: u32,
    /// The length, where it is not to be that of the performance: what is longer is cut, what is shorter ends in silence.
    pub seconds: Option<f64>,
    /// What all samples are multiplied by before the limiter.
    pub gain: f32,
    /// Seconds of the fade at the end.
    pub fade: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self { rate: DEFAULT_RATE, seconds: None, gain: 1.0, fade: FADE }
    }
}

/// What plays.
pub enum Instrument {
    /// The piano within the program.
    Piano,
    /// A SoundFont's piano, or what it has in the place of one.
    SoundFont(SoundFont),
}

impl Instrument {
    /// The piano within the program, or the SoundFont at this path.
    ///
    /// # Errors
    /// Those of [`SoundFont::read`].
    pub fn new(soundfont: Option<&Path>) -> Result<Self> {
        soundfont.map_or(Ok(Self::Piano), |path| SoundFont::read(path).map(Self::SoundFont))
    }

    /// The SoundFont's preset that plays; none for the piano within the program.
    pub fn preset(&self) -> Option<&str> {
        match self {
            Self::Piano => None,
            Self::SoundFont(font) => Some(font.preset()),
        }
    }

    /// What plays it at `rate` frames a second.
    fn source(&self, rate: u32) -> Result<Box<dyn Source>> {
        Ok(match self {
            Self::Piano => Box::new(Piano::new(rate)),
            Self::SoundFont(font) => Box::new(font.player(rate)?),
        })
    }

    /// What to say of notes that the SoundFont has no sound for.
    ///
    /// # Errors
    /// These are all notes of `performance`.
    pub fn silent(&self, performance: &Performance) -> Result<Option<String>> {
        let Self::SoundFont(font) = self else { return Ok(None) };
        let (silent, all) = (font.silent_strikes(performance), performance.strikes().len());
        if silent == all {
            let what = format!("its preset `{}` has no sound for any of the {all} notes", font.preset());
            return Err(Error::file(font.path(), what, "give a SoundFont of a piano, or leave out --soundfont"));
        }
        let what = || format!("the SoundFont's preset `{}` has no sound for {silent} of {all} notes", font.preset());
        Ok((silent > 0).then(what))
    }
}

/// What was rendered.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rendered {
    /// Its length.
    pub frames: u64,
    /// The largest absolute value of a sample, at most [`CEILING`].
    pub peak: f32,
    /// The root of the mean square of all samples of both channels.
    pub rms: f64,
    /// Samples that were above [`KNEE`].
    pub limited: u64,
}

/// Frames after the last note's end at `rate` frames a second: 2 seconds.
pub fn tail(rate: u32) -> u64 {
    2 * u64::from(rate)
}

/// The number of frames that [`render`] makes of `performance`. Those of a time `t` are `round(t * rate)`.
///
/// # Errors
/// A rate or a length that cannot be asked for, a performance of more than [`MAX_SECONDS`], or more frames than a WAV file holds.
pub fn frames(performance: &Performance, options: &Options) -> Result<u64> {
    let Options { rate, seconds, .. } = *options;
    if !RATES.contains(&rate) {
        let (low, high) = (RATES.start(), RATES.end());
        return Err(Error::usage(format!("a rate of {rate} Hz"), format!("give a --rate from {low} to {high}")));
    }
    let frames = match seconds {
        Some(seconds) if (MIN_SECONDS..=MAX_SECONDS).contains(&seconds) => frame_at(seconds, rate),
        Some(seconds) => {
            let remedy = format!("give --seconds from {MIN_SECONDS} to {MAX_SECONDS}");
            return Err(Error::usage(format!("a length of {seconds} seconds"), remedy));
        }
        None if performance.end > MAX_SECONDS => {
            let what = format!(
                "lasts {:.2} hours ({:.0} seconds), more than the {} hours that are rendered",
                performance.end / 3600.0,
                performance.end,
                MAX_SECONDS / 3600.0
            );
            let remedy =
                "render its beginning with --seconds X, or look for a note-off or a pedal that comes far too late";
            return Err(Error::new(crate::error::Kind::File, what, remedy));
        }
        None => frame_at(performance.end, rate) + tail(rate),
    };
    if frames * FRAME_BYTES > MAX_BYTES {
        let what = format!("{frames} frames at {rate} Hz, more than the 4 GiB that a WAV file can hold");
        return Err(Error::usage(what, "give a lower --rate, or fewer --seconds"));
    }
    Ok(frames)
}

/// The frame at `seconds` seconds, at least 0 and at most [`MAX_SECONDS`].
fn frame_at(seconds: f64, rate: u32) -> u64 {
    (seconds * f64::from(rate)).round() as u64
}

/// The frame at which a string is damped of which it is not yet known when: further ahead than anything is played.
const FAR: u64 = i64::MAX as u64 / 2;

/// What makes sound of strikes.
trait Source: Send {
    /// The key is struck at frame `at` of the block that is filled next, `end` frames after the beginning of this block its
    /// string is damped.
    fn strike(&mut self, strike: &Strike, at: usize, end: u64);

    /// The string of a key that was struck without an end (at [`FAR`]) is damped at frame `at` of the block that is filled next, or
    /// struck again.
    fn release(&mut self, pitch: u8, at: usize, restruck: bool);

    /// Fills the next block; all but the last of them have [`BLOCK`] frames.
    ///
    /// # Errors
    /// The SoundFont makes no sound of it.
    fn fill(&mut self, left: &mut [f32], right: &mut [f32]) -> Result<()>;
}

/// Renders `performance` and hands each block to `sink`, [`frames`] frames in all.
///
/// # Errors
/// Those of [`frames`] and of `sink`, and a SoundFont that turns out to be damaged.
pub fn render(
    performance: &Performance,
    instrument: &Instrument,
    options: &Options,
    mut sink: impl FnMut(&[[i16; 2]]) -> Result<()>,
) -> Result<Rendered> {
    let total = frames(performance, options)?;
    let fade = frame_at(options.fade, options.rate).min(total);
    let mut block = Vec::with_capacity(BLOCK);
    let (mut rendered, mut squares) = (Rendered { frames: total, ..Rendered::default() }, 0.0);
    let mut begin = 0;
    sound(performance, instrument, options, |left, right| {
        block.clear();
        for (i, channels) in left.iter().zip(right).map(|(&left, &right)| [left, right]).enumerate() {
            let remaining = total - begin - i as u64 - 1;
            let gain = if remaining < fade { remaining as f32 / fade as f32 } else { 1.0 };
            block.push(channels.map(|sample| {
                let sample = options.gain * sample;
                rendered.limited += u64::from(sample.abs() > KNEE);
                let sample = gain * limit(sample);
                rendered.peak = rendered.peak.max(sample.abs());
                squares += f64::from(sample * sample);
                (sample * f32::from(i16::MAX)).round() as i16
            }));
        }
        begin += block.len() as u64;
        sink(&block)
    })?;
    rendered.rms = (squares / (2 * total.max(1)) as f64).sqrt();
    Ok(rendered)
}

/// Makes the sound of `performance` without gain, limiter and fade, and hands the samples of each block, left and right, to
/// `sink`: [`frames`] frames in all.
///
/// # Errors
/// As [`render`].
pub fn sound(
    performance: &Performance,
    instrument: &Instrument,
    options: &Options,
    mut sink: impl FnMut(&[f32], &[f32]) -> Result<()>,
) -> Result<()> {
    let (total, rate) = (frames(performance, options)?, options.rate);
    let mut source = instrument.source(rate)?;
    let mut strikes = performance.strikes.iter().peekable();
    let (mut left, mut right) = (vec![0.0; BLOCK], vec![0.0; BLOCK]);
    let mut begin = 0;
    while begin < total {
        let count = BLOCK.min((total - begin) as usize);
        let end = begin + count as u64;
        // Strikes beyond the longest time there is are beyond the end as well, whatever their frame is.
        let within = |strike: &&Strike| strike.start <= MAX_SECONDS && frame_at(strike.start, rate) < end;
        while let Some(strike) = strikes.next_if(within) {
            let at = frame_at(strike.start, rate) - begin;
            source.strike(strike, at as usize, frame_at(strike.end.min(2.0 * MAX_SECONDS), rate) - begin);
        }
        let (left, right) = (&mut left[..count], &mut right[..count]);
        source.fill(left, right)?;
        sink(left, right)?;
        begin = end;
    }
    Ok(())
}

/// The soft limiter: nothing changes up to [`KNEE`], and nothing comes out above [`CEILING`].
fn limit(sample: f32) -> f32 {
    const ROOM: f32 = CEILING - KNEE;
    let size = sample.abs();
    if size <= KNEE { sample } else { (KNEE + ROOM * libm::tanhf((size - KNEE) / ROOM)).copysign(sample) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A performance of these strikes: pitch, velocity, start and end.
    pub(super) fn performance(strikes: &[(u8, u8, f64, f64)]) -> Performance {
        Performance::from_notes(strikes.iter().copied())
    }

    /// All frames as numbers from -1 to 1.
    pub(super) fn samples(performance: &Performance, options: &Options) -> Vec<[f64; 2]> {
        let mut all = vec![];
        let sink = |block: &[[i16; 2]]| {
            all.extend(block.iter().map(|frame| frame.map(|sample| f64::from(sample) / f64::from(i16::MAX))));
            Ok(())
        };
        render(performance, &Instrument::Piano, options, sink).unwrap();
        all
    }

    #[test]
    fn lengths_are_exact_to_the_frame() {
        let piece = performance(&[(60, 64, 0.0, 1.000_01), (64, 64, 0.5, 0.75)]);
        for rate in [16_000, 22_050, 44_100, 48_000, 192_000] {
            let options = Options { rate, ..Options::default() };
            let expected = (1.000_01 * f64::from(rate)).round() as u64 + 2 * u64::from(rate);
            assert_eq!(frames(&piece, &options).unwrap(), expected);
            assert_eq!(samples(&piece, &options).len() as u64, expected, "{rate} Hz");
        }
        for seconds in [0.001, 0.01, 0.5, 1.0 / 3.0, 10.0] {
            let options = Options { seconds: Some(seconds), ..Options::default() };
            assert_eq!(samples(&piece, &options).len() as u64, (seconds * 44_100.0).round() as u64);
        }
    }

    #[test]
    fn what_cannot_be_rendered_is_refused_with_its_length() {
        let long = performance(&[(60, 64, 0.0, 1.0), (60, 64, 9000.0, 9900.0)]);
        let error = frames(&long, &Options::default()).unwrap_err();
        assert!(error.what.contains("2.75 hours (9900 seconds)") && error.remedy.contains("--seconds"), "{error}");
        let options = Options { seconds: Some(0.1), ..Options::default() };
        assert_eq!(samples(&long, &options).len(), 4410, "its beginning is rendered");
        for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY, 7200.1] {
            let error = frames(&long, &Options { seconds: Some(seconds), ..Options::default() }).unwrap_err();
            assert!(error.what.contains("a length of"), "{error}");
        }
        for rate in [0, 15_999, 192_001, u32::MAX] {
            assert!(frames(&long, &Options { rate, ..Options::default() }).unwrap_err().what.contains("Hz"));
        }
        let error = frames(&long, &Options { rate: 192_000, seconds: Some(7000.0), ..Options::default() }).unwrap_err();
        assert!(error.what.contains("4 GiB") && error.remedy.contains("--rate"), "{error}");
    }

    #[test]
    fn the_limiter_bends_and_never_clips() {
        for i in 0..=1000 {
            let x = i as f32 / 100.0;
            let y = limit(x);
            assert!(y <= CEILING && y <= x && (x > KNEE || y == x) && limit(-x) == -y, "{x}: {y}");
            assert!(limit(x + 0.01) >= y && limit(x + 0.01) - y <= 0.0101, "no step at {x}");
        }
    }

    #[test]
    fn the_loudest_piece_does_not_clip() {
        let strikes: Vec<_> = (21..=108).map(|pitch| (pitch, 127, 0.0, 0.3)).collect();
        let piece = performance(&strikes);
        let mut peak = 0;
        let sink = |block: &[[i16; 2]]| {
            peak = block.as_flattened().iter().map(|x| i32::from(*x).abs()).max().unwrap_or(0).max(peak);
            Ok(())
        };
        let rendered = render(&piece, &Instrument::Piano, &Options::default(), sink).unwrap();
        assert!(rendered.limited > 0 && rendered.peak <= CEILING, "{rendered:?}");
        assert!((20_000..=32_440).contains(&peak), "{peak}");
    }

    #[test]
    fn the_end_fades() {
        let options = Options { seconds: Some(0.5), ..Options::default() };
        let all = samples(&performance(&[(60, 127, 0.0, 5.0)]), &options);
        let peak = |part: &[[f64; 2]]| part.iter().flatten().fold(0.0_f64, |peak, x| peak.max(x.abs()));
        let (before, last) = (peak(&all[20_000..21_000]), peak(&all[all.len() - 45..]));
        assert!(before > 0.01 && last < 0.15 * before, "{before} {last}");
        assert_eq!(all.last(), Some(&[0.0, 0.0]));
    }

    #[test]
    fn gain_comes_before_the_limiter_and_the_fade_is_as_long_as_asked_for() {
        let piece = performance(&[(60, 90, 0.0, 5.0)]);
        let options = Options { seconds: Some(1.0), ..Options::default() };
        let (whole, half) = (samples(&piece, &options), samples(&piece, &Options { gain: 0.5, ..options }));
        for (whole, half) in whole.as_flattened().iter().zip(half.as_flattened()) {
            assert!((whole - 2.0 * half).abs() < 1e-4, "{whole} {half}");
        }
        let loud = samples(&piece, &Options { gain: 1000.0, ..options });
        let peak = loud.as_flattened().iter().fold(0.0_f64, |peak, x| peak.max(x.abs()));
        assert!(peak > 0.98 && peak <= f64::from(CEILING) + 1e-4, "{peak}");
        let faded = samples(&piece, &Options { fade: 0.5, ..options });
        assert!(faded[..22_000] == whole[..22_000]);
        for i in (22_051..43_000).step_by(1000) {
            let expected = whole[i].map(|x| x * (44_099 - i) as f64 / 22_050.0);
            let far = |k: usize| (faded[i][k] - expected[k]).abs();
            assert!(far(0) < 1e-4 && far(1) < 1e-4, "{i}");
        }
    }

    #[test]
    fn a_sink_that_fails_ends_it() {
        let mut blocks = 0;
        let sink = |_: &[[i16; 2]]| {
            blocks += 1;
            Err(Error::run("full", ""))
        };
        let piece = performance(&[(60, 64, 0.0, 1.0)]);
        let error = render(&piece, &Instrument::Piano, &Options::default(), sink).unwrap_err();
        assert_eq!((error.what.as_str(), blocks), ("full", 1));
    }
}
