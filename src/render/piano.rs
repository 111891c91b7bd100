//! The piano within the program: a sum of decaying sines, whose frequencies, strengths and decays follow what was measured on
//! pianos. It is a model of a string's modes, not of its motion: each partial is a phasor that turns and shrinks.
//!
//! | fact | here | source |
//! |---|---|---|
//! | A stiff string's partials are sharp: `f(n) = n f0 sqrt(1 + B n²)` | [`inharmonicity`] is the sum of an exponential for the bass bridge and one for the treble bridge; the first partial is at equal temperament with A4 = 440 Hz | H. Fletcher, *Normal vibration frequencies of a stiff piano string*, JASA 36, 1964; Rigaud, David, Daudet, *A parametric model and estimation techniques for the inharmonicity and tuning of the piano*, JASA 133, 2013 |
//! | A partial decays at a rate of `b1 + b2 f²`, faster to the treble | [`decay`] interpolates between the strings C2, C4 and C7 exponentially | Bensa, Bilbao, Kronland-Martinet, Smith, *The simulation of piano string vibration*, JASA 114, 2003 |
//! | A tone decays fast at first and slowly later, since the strings of a key are coupled | the lower partials are two phasors: one decays faster than the rate above, one more slowly and detuned by a third of a cent | Weinreich, *Coupled piano strings*, JASA 62, 1977 |
//! | The hammer touches the string for several ms in the bass and less than 1 ms in the treble, and for a shorter time the harder it strikes; what is shorter than the contact is excited weakly | [`contact`]; a partial has the strength `1 / (1 + (2 f contact)²)`, the envelope of a half sine's spectrum, so harder is brighter | Askenfelt and Jansson, *From touch to string vibration*, in *Five lectures on the acoustics of the piano*, 1990 |
//! | Partials with a node where the hammer strikes are weak; it strikes at about an eighth of the length, nearer to the end in the treble | `sin(n π place)` | Conklin, *Piano design factors*, in the same lectures |
//! | The soundboard radiates little below 100 Hz | a high-pass of second order, by which the first partials of the bass are weak | Wogram, *The strings and the soundboard*, in the same lectures |
//! | Synthesisers take velocity to amplitude by a square law | [`loudness`], with 50 dB from 1 to 127 | Dannenberg, *The interpretation of MIDI velocity*, ICMC 2006 |
//!
//! The rest is chosen by taste: the sound of the hammer and the key bed is five short low modes; the two phasors have other
//! shares when the key is struck hard, so that a loud tone decays faster at first; the damper is an exponential of 20 ms (treble)
//! to 80 ms (bass) on the whole tone, and the highest keys have none, as on a piano; low keys are a little to the left and high
//! ones to the right. All keys are tuned to equal temperament, without the stretched octaves of a tuned piano.
//!
//! A tone begins with the rise of half a cosine, as long as half of the contact, and all its strings' sines begin at zero; its
//! end is an exponential that runs on until it is below what 16 bits can tell. So nothing clicks. There is no limit to the number
//! of tones at a time, and a tone costs nothing once all its partials are below what 16 bits can tell.

use std::f64::consts::{PI, TAU};

use super::{BLOCK, Result, Source, Strike};

/// Frames by which a phasor is turned in one step: as many as fill a vector register of 512 bits.
const LANES: usize = 16;
/// The amplitude of a partial that is not heard, less than half of the step of 16 bits.
const SILENCE: f64 = 1e-5;
/// The gain at which a damped tone ends.
const DAMPED: f64 = 1e-4;
/// The root of the sum of the squares of all partials' amplitudes at velocity 127.
const FULL: f64 = 0.22;
/// Decibels from velocity 1 to 127.
const DYNAMIC_RANGE: f64 = 50.0;
/// Partials that are looked at, those of them that are two phasors, and the highest frequency.
const PARTIALS: usize = 60;
const DOUBLE: usize = 12;
const HIGHEST: f64 = 15_000.0;
/// The same as a part of the rate, which must not reach one half.
const HIGHEST_OF_RATE: f64 = 0.45;
/// The pitches of a piano; beyond them a string is as the nearest of these, but for its frequency.
const LOWEST_KEY: f64 = 21.0;
const HIGHEST_KEY: f64 = 108.0;
/// The highest key with a damper.
const LAST_DAMPER: u8 = 89;
/// Seconds in which the rest of a tone falls by e when its string is struck again.
const RESTRIKE: f64 = 0.02;

/// The modes of the hammer's sound: hertz, decay per second, share.
const KNOCK: [(f64, f64, f64); 5] =
    [(92.0, 55.0, 1.0), (143.0, 70.0, 0.8), (221.0, 85.0, 0.6), (347.0, 110.0, 0.45), (529.0, 140.0, 0.3)];

/// Hertz of the first partial.
pub fn fundamental(pitch: u8) -> f64 {
    440.0 * libm::exp2((f64::from(pitch) - 69.0) / 12.0)
}

/// The coefficient B of a key's string.
pub fn inharmonicity(pitch: u8) -> f64 {
    let key = key(pitch);
    libm::exp(-0.0847 * key - 5.82) + libm::exp(0.0926 * key - 13.64)
}

/// The decay of a partial of `frequency` hertz on a key's string, per second.
pub fn decay(pitch: u8, frequency: f64) -> f64 {
    let above = key(pitch) - 60.0;
    1.1 * libm::exp(0.06 * above) + 1e-7 * libm::exp(0.045 * above) * frequency * frequency
}

/// Seconds for which the hammer touches the string.
pub fn contact(pitch: u8, velocity: u8) -> f64 {
    let height = (key(pitch) - LOWEST_KEY) / (HIGHEST_KEY - LOWEST_KEY);
    0.005 * libm::pow(0.16, height) * (1.5 - 0.85 * f64::from(velocity) / 127.0)
}

/// The amplitude of a tone, 1 for velocity 127.
pub fn loudness(velocity: u8) -> f64 {
    let root = libm::pow(10.0, DYNAMIC_RANGE / 40.0);
    let offset = 127.0 / (126.0 * root) - 1.0 / 126.0;
    let amplitude = (1.0 - offset) / 127.0 * f64::from(velocity) + offset;
    amplitude * amplitude
}

fn key(pitch: u8) -> f64 {
    f64::from(pitch).clamp(LOWEST_KEY, HIGHEST_KEY)
}

/// One partial: hertz, amplitude, decay per second, phase at the strike.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Partial {
    frequency: f64,
    amplitude: f64,
    decay: f64,
    phase: f64,
}

/// What a key sounds like when it is struck, at `rate` frames a second.
fn partials(pitch: u8, velocity: u8, rate: f64) -> Vec<Partial> {
    let (stiffness, contact) = (inharmonicity(pitch), contact(pitch, velocity));
    let highest = HIGHEST.min(HIGHEST_OF_RATE * rate);
    let ideal = fundamental(pitch) / libm::sqrt(1.0 + stiffness);
    // At an eighth of the string up to C5, at a seventeenth for the highest key.
    let place = 0.125 - 0.066 * ((key(pitch) - 72.0) / 36.0).max(0.0);
    let strings = (1..=PARTIALS).map(|n| {
        let n = n as f64;
        let frequency = n * ideal * libm::sqrt(1.0 + stiffness * n * n);
        let hammer = 1.0 / (1.0 + (2.0 * frequency * contact) * (2.0 * frequency * contact));
        let board = frequency * frequency / (frequency * frequency + 90.0 * 90.0);
        // The hammer is not a point, so no partial is missing altogether.
        let node = libm::sin(n * PI * place).abs().max(0.05);
        (frequency, hammer * board * node)
    });
    let strings: Vec<(f64, f64)> = strings.take_while(|(frequency, _)| *frequency < highest).collect();
    let energy: f64 = strings.iter().map(|(_, strength)| strength * strength).sum();
    if energy == 0.0 {
        return vec![];
    }
    // The treble is the softest; the bass has many partials, which begin together.
    let softer = if key(pitch) > 60.0 { 3.0 * (key(pitch) - 60.0) / 48.0 } else { 2.0 * (60.0 - key(pitch)) / 39.0 };
    let level = FULL * libm::pow(10.0, -softer / 20.0) * loudness(velocity);
    let hardness = f64::from(velocity) / 127.0;
    let later = 0.35 - 0.2 * hardness;
    let mut all = vec![];
    for (i, &(frequency, strength)) in strings.iter().enumerate() {
        let (amplitude, decay) = (level * strength / libm::sqrt(energy), decay(pitch, frequency));
        if i >= DOUBLE {
            all.push(Partial { frequency, amplitude, decay: 1.2 * decay, phase: 0.0 });
            continue;
        }
        all.push(Partial { frequency, amplitude: (1.0 - later) * amplitude, decay: 1.4 * decay, phase: 0.0 });
        let detuned = frequency * if i % 2 == 0 { 1.0002 } else { 0.9998 };
        all.push(Partial { frequency: detuned, amplitude: later * amplitude, decay: 0.5 * decay, phase: 0.0 });
    }
    // Heard most in the treble, whose strings ring least.
    let knock = level * (0.03 + 0.12 * ((key(pitch) - LOWEST_KEY) / 87.0)) * (0.4 + 0.6 * hardness);
    let modes = KNOCK.iter().enumerate().map(|(i, &(frequency, decay, share))| Partial {
        frequency: frequency * (1.0 + 0.002 * (key(pitch) - 60.0)),
        amplitude: share * knock,
        decay,
        phase: 2.4 * i as f64,
    });
    all.extend(modes);
    all.retain(|partial| partial.amplitude > SILENCE);
    all
}

/// How high a key lies: 0 the lowest, 1 the highest.
fn height(pitch: u8) -> f64 {
    (key(pitch) - LOWEST_KEY) / (HIGHEST_KEY - LOWEST_KEY)
}

/// What a tone is multiplied by in a frame once its string is damped, or struck again.
fn damper(pitch: u8, restruck: bool, rate: f64) -> f64 {
    let fall = match restruck {
        true => RESTRIKE,
        false if pitch > LAST_DAMPER => f64::INFINITY,
        false => 0.08 * libm::pow(0.25, height(pitch)),
    };
    libm::exp(-1.0 / (fall * rate))
}

/// A partial that sounds: the imaginary parts of the phasors of [`LANES`] frames are its samples.
struct Phasor {
    real: [f32; LANES],
    imaginary: [f32; LANES],
    /// What turns it by [`LANES`] frames.
    turn: [f32; 2],
    /// Frames until it is not heard.
    left: u64,
}

impl Phasor {
    /// `early` frames before the strike.
    fn new(partial: &Partial, rate: f64, early: usize) -> Self {
        let (angle, shrink) = (TAU * partial.frequency / rate, -partial.decay / rate);
        let at = |frames: f64| {
            let size = libm::exp(shrink * frames);
            (size * libm::cos(angle * frames), size * libm::sin(angle * frames))
        };
        let (mut real, mut imaginary) = ([0.0; LANES], [0.0; LANES]);
        let (sine, cosine) =
            (partial.amplitude * libm::sin(partial.phase), partial.amplitude * libm::cos(partial.phase));
        for lane in 0..LANES {
            let (x, y) = at(lane as f64 - early as f64);
            (real[lane], imaginary[lane]) = ((cosine * x - sine * y) as f32, (cosine * y + sine * x) as f32);
        }
        let (x, y) = at(LANES as f64);
        let left = (libm::log(partial.amplitude / SILENCE) / partial.decay * rate) as u64 + LANES as u64;
        Self { real, imaginary, turn: [x as f32, y as f32], left }
    }

    /// Adds its next samples, a multiple of [`LANES`], to `out`.
    #[inline(always)]
    fn add(&mut self, out: &mut [f32]) {
        let [x, y] = self.turn;
        let (mut real, mut imaginary) = (self.real, self.imaginary);
        for group in out.chunks_exact_mut(LANES) {
            for lane in 0..LANES {
                group[lane] += imaginary[lane];
                let turned = real[lane] * x - imaginary[lane] * y;
                imaginary[lane] = real[lane] * y + imaginary[lane] * x;
                real[lane] = turned;
            }
        }
        (self.real, self.imaginary) = (real, imaginary);
        self.left = self.left.saturating_sub(out.len() as u64);
    }
}

/// A struck string that sounds. Frames are counted from the beginning of the next block.
struct Tone {
    pitch: u8,
    /// Where the hammer hits it; negative once the tone sounds.
    start: i64,
    /// Where it is damped or struck again.
    end: i64,
    /// Frames of the rise at the beginning.
    rise: i64,
    /// The damper's gain, and what it is multiplied by in a frame.
    gain: f64,
    damper: f64,
    /// Left and right.
    pan: [f32; 2],
    phasors: Vec<Phasor>,
}

impl Tone {
    fn new(strike: &Strike, at: usize, end: u64, rate: f64) -> Self {
        let height = height(strike.pitch);
        let angle = PI / 4.0 * (1.0 + 0.7 * (height - 0.5));
        let phasors = partials(strike.pitch, strike.velocity, rate);
        Self {
            pitch: strike.pitch,
            start: at as i64,
            end: end as i64,
            rise: ((0.5 * contact(strike.pitch, strike.velocity)).max(0.0005) * rate) as i64,
            gain: 1.0,
            damper: damper(strike.pitch, strike.restruck, rate),
            pan: [libm::cos(angle) as f32, libm::sin(angle) as f32],
            // Its samples are made in groups that begin where those of the block do.
            phasors: phasors.iter().map(|partial| Phasor::new(partial, rate, at % LANES)).collect(),
        }
    }

    /// Adds its sound to the next block, which is [`BLOCK`] frames long; `mono` is room for as many.
    #[inline(always)]
    fn add(&mut self, mono: &mut [f32], left: &mut [f32], right: &mut [f32]) {
        let first = self.start.max(0) as usize;
        let mono = &mut mono[first / LANES * LANES..];
        mono.fill(0.0);
        self.phasors.iter_mut().for_each(|phasor| phasor.add(mono));
        self.phasors.retain(|phasor| phasor.left > 0);
        let mono = &mut mono[first % LANES..];
        let risen = (self.start + self.rise - first as i64).clamp(0, mono.len() as i64) as usize;
        for (i, sample) in mono[..risen].iter_mut().enumerate() {
            let frames = (first + i) as i64 - self.start;
            *sample *= (0.5 - 0.5 * libm::cos(PI * frames as f64 / self.rise as f64)) as f32;
        }
        let held = (self.end - first as i64).clamp(0, mono.len() as i64) as usize;
        for sample in &mut mono[held..] {
            self.gain *= self.damper;
            *sample *= self.gain as f32;
        }
        for ((left, right), sample) in left[first..].iter_mut().zip(&mut right[first..]).zip(&*mono) {
            *left += self.pan[0] * sample;
            *right += self.pan[1] * sample;
        }
        self.start -= BLOCK as i64;
        self.end -= BLOCK as i64;
    }

    fn is_over(&self) -> bool {
        self.phasors.is_empty() || self.gain < DAMPED
    }
}

/// The piano, and the tones that sound on it.
pub(super) struct Piano {
    rate: f64,
    tones: Vec<Tone>,
    mono: Vec<f32>,
    /// The block as the tones make it, which may be longer than what is asked for.
    left: Vec<f32>,
    right: Vec<f32>,
}

impl Piano {
    pub(super) fn new(rate: u32) -> Self {
        let block = || vec![0.0; BLOCK];
        Self { rate: rate.into(), tones: vec![], mono: block(), left: block(), right: block() }
    }
}

impl Source for Piano {
    fn strike(&mut self, strike: &Strike, at: usize, end: u64) {
        self.tones.push(Tone::new(strike, at, end, self.rate));
    }

    fn release(&mut self, pitch: u8, at: usize, restruck: bool) {
        let held = |tone: &&mut Tone| tone.pitch == pitch && tone.end > at as i64;
        for tone in self.tones.iter_mut().filter(held) {
            (tone.end, tone.damper) = (at as i64, damper(pitch, restruck, self.rate));
        }
    }

    fn fill(&mut self, left: &mut [f32], right: &mut [f32]) -> Result<()> {
        self.left.fill(0.0);
        self.right.fill(0.0);
        let Self { tones, mono, left: all_left, right: all_right, .. } = self;
        // Wider vectors make the same products and sums in the same order.
        pulp::Arch::new().dispatch(|| tones.iter_mut().for_each(|tone| tone.add(mono, all_left, all_right)));
        tones.retain(|tone| !tone.is_over());
        left.copy_from_slice(&all_left[..left.len()]);
        right.copy_from_slice(&all_right[..right.len()]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{performance, samples};
    use super::super::{Options, Performance};
    use super::*;

    /// The left and the right channel together.
    fn sound(piece: &Performance) -> Vec<f64> {
        samples(piece, &Options::default()).iter().map(|[left, right]| left + right).collect()
    }

    fn rms(part: &[f64]) -> f64 {
        (part.iter().map(|x| x * x).sum::<f64>() / part.len() as f64).sqrt()
    }

    /// The amplitude of a frequency, by a window that keeps others out.
    fn amplitude(part: &[f64], frequency: f64) -> f64 {
        let (mut real, mut imaginary, mut sum) = (0.0, 0.0, 0.0);
        for (i, x) in part.iter().enumerate() {
            let window = 0.5 - 0.5 * (TAU * i as f64 / part.len() as f64).cos();
            let angle = TAU * frequency * i as f64 / 44_100.0;
            (real, imaginary) = (real + window * x * angle.cos(), imaginary + window * x * angle.sin());
            sum += window;
        }
        2.0 * f64::hypot(real, imaginary) / sum
    }

    #[test]
    fn every_key_sounds_at_its_pitch_and_within_the_headroom() {
        for pitch in (21..=108).step_by(3) {
            let all = samples(&performance(&[(pitch, 127, 0.0, 1.0)]), &Options::default());
            let peak = all.iter().flatten().fold(0.0_f64, |peak, x| peak.max(x.abs()));
            assert!((0.08..0.5).contains(&peak), "{pitch}: a peak of {peak}");
            let mono: Vec<f64> = all[2000..22_000].iter().map(|[left, right]| left + right).collect();
            // The first partial of the lowest keys is weak.
            let n = if pitch < 40 { 2.0 } else { 1.0 };
            let ideal = fundamental(pitch) / (1.0 + inharmonicity(pitch)).sqrt();
            let expected = n * ideal * (1.0 + inharmonicity(pitch) * n * n).sqrt();
            let here = amplitude(&mono, expected);
            let beside =
                [0.8, 0.9, 1.1, 1.2].map(|part| amplitude(&mono, expected * part)).into_iter().fold(0.0, f64::max);
            assert!(here > 10.0 * beside, "{pitch}: {here} at {expected} Hz, {beside} beside it");
        }
    }

    #[test]
    fn harder_is_louder_brighter_and_decays_faster_at_first() {
        let tone = |velocity| sound(&performance(&[(60, velocity, 0.0, 4.0)]));
        let tones = [20, 50, 80, 110, 127].map(tone);
        let bright = |tone: &[f64]| amplitude(&tone[2000..30_000], 1320.0) / amplitude(&tone[2000..30_000], 262.0);
        let dies = |tone: &[f64]| rms(&tone[88_200..110_000]) / rms(&tone[4410..22_050]);
        for pair in tones.windows(2) {
            assert!(rms(&pair[1]) > 1.15 * rms(&pair[0]));
            assert!(bright(&pair[1]) > 1.05 * bright(&pair[0]));
            assert!(dies(&pair[1]) < dies(&pair[0]));
        }
    }

    #[test]
    fn the_treble_decays_faster_than_the_bass() {
        let lasts = |pitch| {
            let tone = sound(&performance(&[(pitch, 90, 0.0, 3.0)]));
            rms(&tone[88_200..110_250]) / rms(&tone[4410..26_460])
        };
        let lasting = [33, 57, 81, 105].map(lasts);
        assert!(lasting.is_sorted_by(|a, b| a > b), "{lasting:?}");
        assert!(lasting[0] > 0.3 && lasting[3] < 0.01, "{lasting:?}");
    }

    #[test]
    fn low_keys_are_left_and_high_ones_right() {
        let sides = |pitch| {
            let all = samples(&performance(&[(pitch, 90, 0.0, 0.5)]), &Options::default());
            let side = |i: usize| rms(&all.iter().map(|frame| frame[i]).collect::<Vec<_>>());
            side(1) / side(0)
        };
        let sides = [30, 64, 100].map(sides);
        assert!(
            (0.5..0.9).contains(&sides[0]) && (0.95..1.05).contains(&sides[1]) && (1.1..2.0).contains(&sides[2]),
            "{sides:?}"
        );
    }

    /// What is rendered in blocks is what one formula gives: nothing is lost or doubled where blocks meet.
    #[test]
    fn phasors_are_the_decaying_sines_they_stand_for() {
        let partial = Partial { frequency: 331.0, amplitude: 0.3, decay: 1.5, phase: 0.7 };
        let (rate, early) = (44_100.0, 5);
        let mut phasor = Phasor::new(&partial, rate, early);
        let mut out = vec![0.0; 100 * BLOCK];
        out.chunks_mut(BLOCK).for_each(|block| phasor.add(block));
        for (i, x) in out.iter().enumerate() {
            let t = (i as f64 - early as f64) / rate;
            let expected = 0.3 * (-1.5 * t).exp() * (TAU * 331.0 * t + 0.7).sin();
            assert!((f64::from(*x) - expected).abs() < 2e-4, "frame {i}: {x}, not {expected}");
        }
    }

    /// The bytes of a file do not depend on the machine's vectors.
    #[test]
    fn wide_vectors_give_the_same_bits() {
        let partial = Partial { frequency: 4186.0, amplitude: 0.2, decay: 9.0, phase: 0.0 };
        let [mut wide, mut plain] = [vec![0.0; 40 * BLOCK], vec![0.0; 40 * BLOCK]];
        let [mut a, mut b] = [Phasor::new(&partial, 48_000.0, 3), Phasor::new(&partial, 48_000.0, 3)];
        pulp::Arch::new().dispatch(|| a.add(&mut wide));
        b.add(&mut plain);
        assert!(wide == plain);
    }

    /// Where in a block a tone begins changes nothing but its time.
    #[test]
    fn a_tone_is_the_same_at_any_time() {
        let at = |frame: usize| {
            let start = frame as f64 / 44_100.0;
            sound(&performance(&[(57, 90, start, start + 0.3)]))[frame..frame + 30_000].to_vec()
        };
        let first = at(0);
        for frame in [1, 15, 16, 1000, 1023, 1024, 44_100] {
            let other = at(frame);
            let far = first.iter().zip(&other).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(far < 2e-4, "frame {frame}: {far}");
        }
    }

    #[test]
    fn strange_keys_and_rates_make_no_strange_sound() {
        for rate in [16_000, 192_000] {
            for pitch in [0, 1, 20, 109, 127] {
                let all = samples(&performance(&[(pitch, 127, 0.0, 0.1)]), &Options { rate, ..Options::default() });
                assert!(all.iter().flatten().all(|x| x.abs() < 0.6), "{pitch} at {rate} Hz");
            }
        }
    }
}
