//! `deepj render`.

use std::path::{Path, PathBuf};

use deepj::files::{Outputs, is_standard_stream, serialize_path};
use deepj::music::Score;
use deepj::render::{DEFAULT_RATE, Instrument, Options, Performance, Rendered, frames, write_wav};
use deepj::{Error, Result};
use serde::Serialize;

use super::{bar, claim, say, say_json, warn};

/// Endings of WAV files.
const WAV: &[&str] = &["wav", "wave"];

/// Play a MIDI file into a WAV file
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  deepj render piece.mid
  deepj render piece.mid -o piece.wav --soundfont piano.sf2
  deepj render piece.mid --seconds 45 --rate 48000 --json
  deepj generate -o - | deepj render - -o piece.wav")]
pub struct Render {
    /// A MIDI file, or - for standard input
    file: PathBuf,
    /// The WAV file to write, 16 bits in stereo [default: named as the MIDI file, in this folder]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Play on this SoundFont instead of the piano within the program
    #[arg(long, value_name = "FILE.sf2")]
    soundfont: Option<PathBuf>,
    /// Frames a second
    #[arg(long, value_name = "HZ", default_value_t = DEFAULT_RATE)]
    rate: u32,
    /// Cut or pad to exactly so many seconds, the last 10 ms fading out [default: the piece and 2 s]
    #[arg(long, value_name = "X")]
    seconds: Option<f64>,
    /// Fail if anything is odd about the file, instead of warning
    #[arg(long)]
    strict: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    #[serde(serialize_with = "serialize_path")]
    file: &'a Path,
    #[serde(serialize_with = "serialize_path")]
    output: &'a Path,
    rate: u32,
    frames: u64,
    seconds: f64,
    /// When the last note ends, in seconds.
    end: f64,
    /// The preset of the SoundFont; none for the piano within the program.
    preset: Option<&'a str>,
    notes: usize,
    drums: usize,
    /// Largest absolute value and root of the mean square, 1 is full scale.
    peak: f32,
    rms: f64,
    /// Samples that the limiter lowered.
    limited: u64,
    warnings: &'a [String],
}

impl Render {
    pub fn run(self) -> Result<()> {
        let output = self.output.clone().unwrap_or_else(|| default_name(&self.file));
        let piped = is_standard_stream(&output);
        if piped && self.json {
            return Err(Error::usage("a file and JSON, both on standard output", "name a file"));
        }
        let mut outputs = Outputs::default();
        outputs.reads(&self.file);
        self.soundfont.iter().for_each(|font| outputs.reads(font));
        claim(&mut outputs, Some(&output), WAV)?;
        let score = Score::read(&self.file, true)?;
        let performance = Performance::new(&score);
        let options = Options { rate: self.rate, seconds: self.seconds, ..Options::default() };
        let frames = frames(&performance, &options).map_err(|e| match e.kind {
            deepj::error::Kind::File => Error::file(&self.file, e.what, e.remedy),
            _ => e,
        })?;
        let instrument = Instrument::new(self.soundfont.as_deref())?;
        let mut warnings = score.warnings.clone();
        warnings.extend(instrument.silent(&performance)?);
        warn(&self.file, &warnings, self.strict)?;
        let bar = bar(frames, "{wide_bar} rendering {percent} % ETA {eta}");
        let rendered = write_wav(&output, &performance, &instrument, &options, |done| bar.set_position(done));
        bar.finish_and_clear();
        let rendered = rendered?;
        let report = Report {
            file: &self.file,
            output: &output,
            rate: self.rate,
            frames,
            seconds: frames as f64 / f64::from(self.rate),
            end: performance.end(),
            preset: instrument.preset(),
            notes: score.notes.len(),
            drums: score.drums,
            peak: rendered.peak,
            rms: rendered.rms,
            limited: rendered.limited,
            warnings: &warnings,
        };
        if self.json {
            return say_json(&report);
        }
        if !piped {
            print(&report, &rendered);
        }
        Ok(())
    }
}

fn print(report: &Report, rendered: &Rendered) {
    let Report { frames, rate, seconds, .. } = report;
    let decibels = |amplitude: f64| 20.0 * amplitude.max(1e-9).log10();
    let instrument = report.preset.map_or("the built-in piano".into(), |preset| format!("the preset `{preset}`"));
    let drums = if report.drums > 0 { format!("; {} drums left out", report.drums) } else { String::new() };
    let limited = match rendered.limited {
        0 => String::new(),
        samples => format!(", {samples} samples limited"),
    };
    say(report.output.display());
    say(format_args!("  {seconds:.3} s: {frames} frames of 2 channels and 16 bits at {rate} Hz, on {instrument}"));
    say(format_args!(
        "  {} notes, peak {:.1} dB, mean {:.1} dB of full scale{limited}{drums}",
        report.notes,
        decibels(f64::from(rendered.peak)),
        decibels(rendered.rms)
    ));
}

/// `piece.wav` for `folder/piece.mid`, in the current folder.
fn default_name(file: &Path) -> PathBuf {
    let named = file.file_stem().filter(|_| !is_standard_stream(file));
    named.map_or("piece.wav".into(), |stem| {
        let mut name = stem.to_os_string();
        name.push(".wav");
        name.into()
    })
}
