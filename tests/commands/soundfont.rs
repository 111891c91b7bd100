//! SoundFonts that are made for tests, those of the documents too.

use std::f64::consts::TAU;

/// A chunk of a RIFF file.
fn chunk(kind: &[u8], content: &[u8]) -> Vec<u8> {
    [kind, &(content.len() as u32).to_le_bytes(), content].concat()
}

/// A name of 20 bytes.
fn name(text: &str) -> Vec<u8> {
    let mut name = text.as_bytes().to_vec();
    name.resize(20, 0);
    name
}

fn words(words: &[u16]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A SoundFont of one preset, a sine of 440 Hz on A4 that lasts as long as the key is down; of none without `preset`.
pub fn soundfont(preset: bool) -> Vec<u8> {
    let sine = (0..1046).map(|i| match i {
        // 100 samples a period, and the 46 zeros that the format asks for.
        0..1000 => (12_000.0 * (TAU * f64::from(i) / 100.0).sin()) as i16,
        _ => 0,
    });
    let sine: Vec<u8> = sine.flat_map(i16::to_le_bytes).collect();
    let header = |called: &str, bag: u16| [name(called), words(&[0, 0, bag]), vec![0; 12]].concat();
    let presets = if preset { [header("Sine", 0), header("EOP", 1)].concat() } else { header("EOP", 0) };
    let instruments = [name("Sine"), words(&[0]), name("EOI"), words(&[1])].concat();
    let places = [0_u32, 1000, 100, 900, 44_000].iter().flat_map(|x| x.to_le_bytes()).collect();
    let samples = [name("Sine"), places, vec![69, 0], words(&[0, 1]), name("EOS"), vec![0; 26]].concat();
    let (instrument, loops, sample) = (41, 54, 53);
    let lists = [
        chunk(b"phdr", &presets),
        chunk(b"pbag", &words(&[0, 0, 1, 0])),
        chunk(b"pmod", &[0; 10]),
        chunk(b"pgen", &words(&[instrument, 0, 0, 0])),
        chunk(b"inst", &instruments),
        chunk(b"ibag", &words(&[0, 0, 2, 0])),
        chunk(b"imod", &[0; 10]),
        chunk(b"igen", &words(&[loops, 1, sample, 0, 0, 0])),
        chunk(b"shdr", &samples),
    ];
    let information = [chunk(b"ifil", &words(&[2, 1])), chunk(b"INAM", b"Test\0\0")].concat();
    let content = [
        b"sfbk".to_vec(),
        chunk(b"LIST", &[b"INFO".to_vec(), information].concat()),
        chunk(b"LIST", &[b"sdta".to_vec(), chunk(b"smpl", &sine)].concat()),
        chunk(b"LIST", &[b"pdta".to_vec(), lists.concat()].concat()),
    ];
    chunk(b"RIFF", &content.concat())
}
