//! `deepj roll`.

use std::path::{Path, PathBuf};

use deepj::files::{Outputs, is_standard_stream, serialize_path, write_output};
use deepj::music::svg::{Picture, draw};
use deepj::music::{NoteRange, Reading, RollStats};
use deepj::{Error, Result};
use serde::Serialize;

use super::{MIDI, claim, say, say_json, warn};

/// Turn a MIDI file into a piano roll and back, and show its figures
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  deepj roll piece.mid
  deepj roll piece.mid --json
  deepj generate -o - | deepj roll -
  deepj roll piece.mid --svg piece.svg
  deepj roll piece.mid -o as-the-model-hears-it.mid")]
pub struct Roll {
    /// A MIDI file, or - for standard input
    file: PathBuf,
    /// Write the roll as MIDI: what the model hears
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Draw the roll as SVG: velocity as colour, bars as grid
    #[arg(long, value_name = "FILE.svg")]
    svg: Option<PathBuf>,
    /// MIDI pitches of the roll
    #[arg(long, value_name = "LOW..=HIGH", default_value_t)]
    notes: NoteRange,
    /// Extend notes to the release of the sustain pedal
    #[arg(long)]
    pedal: bool,
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
    #[serde(flatten)]
    stats: &'a RollStats,
    warnings: &'a [String],
}

impl Roll {
    pub fn run(self) -> Result<()> {
        let piped = self.output.iter().chain(&self.svg).any(|file| is_standard_stream(file));
        if piped && self.json {
            return Err(Error::usage("a file and JSON, both on standard output", "name a file"));
        }
        let mut outputs = Outputs::default();
        outputs.reads(&self.file);
        claim(&mut outputs, self.output.as_deref(), MIDI)?;
        claim(&mut outputs, self.svg.as_deref(), &["svg"])?;
        let reading = Reading::read(&self.file, self.notes, self.pedal)?;
        warn(&self.file, &reading.warnings, self.strict)?;
        if let Some(path) = &self.output {
            reading.roll.write_midi(path, reading.mean_bpm.clamp(4.0, 1000.0))?;
        }
        if let Some(path) = &self.svg {
            let title = self.file.file_name().unwrap_or_default().to_string_lossy();
            let picture = Picture { title: &title, metres: &reading.metres, bpm: Some(reading.mean_bpm) };
            write_output(path, draw(&reading.roll, &picture).as_bytes())?;
        }
        let stats = reading.stats();
        if self.json {
            return say_json(&Report { file: &self.file, stats: &stats, warnings: &reading.warnings });
        }
        // Standard output is the file.
        if piped {
            return Ok(());
        }
        say(format_args!("{}", self.file.display()));
        print_stats(&stats);
        say(format_args!("  {:.0} % of the onsets lay off the grid", 100.0 * stats.off_grid_share));
        Ok(())
    }
}

/// The figures of a roll for people.
pub fn print_stats(s: &RollStats) {
    let bpm = s.bpm.map_or(String::new(), |bpm| format!(" at {bpm:.0} bpm"));
    say(format_args!("  {} steps ({:.1} bars of 16){bpm}", s.steps, s.steps as f64 / 16.0));
    say(format_args!(
        "  {} notes, {} onsets, {} of them replays; {} out of range, {} drums left out",
        s.notes, s.onsets, s.replays, s.out_of_range, s.drums
    ));
    if let (Some(low), Some(high)) = (s.lowest, s.highest) {
        say(format_args!(
            "  pitches {low} to {high}, {:.2} at once, {:.1} steps long, {:.0} % of steps silent",
            s.mean_polyphony,
            s.mean_note_steps,
            100.0 * s.silent_share
        ));
        say(format_args!("  velocity {:.0} +- {:.0}", s.mean_velocity, s.std_velocity));
    }
}
