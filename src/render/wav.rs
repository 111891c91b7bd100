//! WAV files.

use std::io::{BufWriter, Cursor, Seek, Write};
use std::path::Path;

use hound::{SampleFormat, WavSpec, WavWriter};

use super::{Instrument, Options, Performance, Rendered, render};
use crate::files::{refused, write_output_with};
use crate::{Error, Result};

/// Renders `performance` to the WAV file at `path`, whole or not at all; `-` is standard output. `progress` is told the frames
/// that are done.
///
/// # Errors
/// Those of [`render`], and a file that cannot be written.
pub fn write_wav(
    path: &Path,
    performance: &Performance,
    instrument: &Instrument,
    options: &Options,
    progress: impl FnMut(u64),
) -> Result<Rendered> {
    write_output_with(path, |file| {
        write(BufWriter::new(file), performance, instrument, options, progress, |e| match e {
            hound::Error::IoError(e) => refused(path, "written", &e),
            e => Error::file(path, format!("cannot be written: {e}"), "give fewer --seconds"),
        })
    })
}

/// The bytes of [`write_wav`]'s file.
///
/// # Errors
/// Those of [`render`].
pub fn wav_bytes(performance: &Performance, instrument: &Instrument, options: &Options) -> Result<Vec<u8>> {
    let mut bytes = Cursor::new(vec![]);
    let unwritable = |e| Error::run(format!("the sound cannot be written: {e}"), "give fewer seconds");
    write(&mut bytes, performance, instrument, options, |_| (), unwritable)?;
    Ok(bytes.into_inner())
}

/// Writes the file to `out`; what goes wrong there becomes an error by `unwritable`.
fn write(
    out: impl Write + Seek,
    performance: &Performance,
    instrument: &Instrument,
    options: &Options,
    mut progress: impl FnMut(u64),
    unwritable: impl Fn(hound::Error) -> Error,
) -> Result<Rendered> {
    let format =
        WavSpec { channels: 2, sample_rate: options.rate, bits_per_sample: 16, sample_format: SampleFormat::Int };
    let mut wav = WavWriter::new(out, format).map_err(&unwritable)?;
    let mut done = 0;
    let rendered = render(performance, instrument, options, |block| {
        let samples = block.as_flattened();
        let mut writer = wav.get_i16_writer(samples.len() as u32);
        samples.iter().for_each(|&sample| writer.write_sample(sample));
        writer.flush().map_err(&unwritable)?;
        done += block.len() as u64;
        progress(done);
        Ok(())
    })?;
    wav.finalize().map_err(unwritable)?;
    Ok(rendered)
}
