//! How what a user wishes of a piece becomes numbers that the sampler adds to the network's: see `control` of
//! [`NoteSweep`](crate::ops::note_sweep::NoteSweep). Each piece is heard bar by bar, or beat by beat, and what is
//! added follows what was played.

use std::borrow::Cow;
use std::ops::Range;

use super::curve::Curve;
use crate::models::RollShape;
use crate::music::levels::{Level, Velocities, mixed};
use crate::music::roll::{BAR, RollNote};
use crate::music::{Key, NoteRange, Roll};
use crate::ops::note_sweep::{CONTROLS, GAIN, HOLD, OFFSET};
use crate::shape::Channel;
use crate::{Error, Result};

/// What is wished of pieces, beside their style. The default wishes nothing, and the network alone composes, as in the paper.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wishes {
    /// Velocities, 1..=127, over the time steps of the piece.
    pub dynamics: Option<Curve>,
    /// Onsets a bar over the time steps of the piece, as a multiple of the style's.
    pub density: Option<Curve>,
    /// Pitches on which notes may begin.
    pub range: Option<NoteRange>,
    /// The key whose scale is preferred.
    pub key: Option<Key>,
    /// Density, polyphony and velocities of each style's pieces ([`crate::checkpoint::CorpusInfo::levels`]), to which
    /// those of the composed piece are drawn. Without any, a density is one of [`NOMINAL`].
    pub levels: Vec<Option<Level>>,
    /// By how much of itself the style's difference from all styles alike is made larger before the network hears it: 0 is the style as
    /// it was learned, 1 is twice as different. Levels are those of the style as it is.
    pub style_emphasis: f32,
}

/// The largest [`Wishes::style_emphasis`].
pub const MOST_EMPHASIS: f32 = 5.0;

/// Onsets a bar that a density of 1 is, where nothing is known of the style.
pub const NOMINAL: f64 = 12.0;

/// What is added to the logit of a note outside the range: it is never drawn.
pub(super) const NEVER: f32 = -1e4;
/// What is added to the logit of a note that would begin outside the key's scale.
const OUTSIDE_SCALE: f32 = -1.25;
/// What is added to that of the key's tonic, in any octave: the scale alone is that of several keys.
const TONIC: f32 = 0.5;
/// The largest change of the logits of notes that begin, and of notes that go on.
const MOST_ONSET: f64 = 4.0;
const MOST_HOLD: f64 = 4.0;
/// How much of the difference between wanted and heard logarithms a bar changes the logits by: of notes that go on, and of those that
/// begin.
const HOLD_RATE: f64 = 1.0;
const ONSET_RATE: f64 = 0.4;
/// The latter where the wanted density changes: what single bars happen to have would be taken for more than the curve.
const CURVE_RATE: f64 = 0.1;
/// Time steps after which is listened where the wanted density changes: what the first beats of a bar have too few of, the others may
/// have more.
const BEAT: usize = BAR / 4;
/// The part of the onsets that are missing, or too many, that is still owed after another beat.
const OWED_KEPT: f64 = 0.5;
/// A beat is to have its own onsets and those that are owed: how much of the logarithm of that, as a multiple of its own, is added to
/// the logits, and the largest such multiple.
const OWED_GAIN: f64 = 0.7;
const MOST_OWED: f64 = 3.0;
/// By how much more than its own logarithm the curve of density leads, where it is above or below its mean: what the network hears of
/// the bars before holds it back.
const FORWARD: f64 = 3.0;
/// What is added to the logits of notes at the beginning of a piece from silence whose density is wished, and the time steps in which
/// that falls to a third: without it the first bars have less than half of the onsets of later ones.
const START: f64 = 1.5;
const START_STEPS: f64 = 24.0;
/// The part of the difference to the wanted velocity that a time step takes away: of a curve, and of what goes on after a given
/// beginning, where the network changes the dynamics more by itself.
const PULL: f32 = 0.3;
const PULL_AFTER_PRIME: f32 = 0.5;
/// The part of what is left of the difference from the style's mean velocity that is added before anything was heard.
const AHEAD: f32 = 0.5;
/// How much of the difference between wanted and heard velocities a bar changes what is added to them by, and the most of it.
const LOUDNESS_RATE: f64 = 0.3;
const MOST_LOUDER: f64 = 60.0;
/// Bars at the end of a given beginning from which its level is taken.
const PRIME_BARS: usize = 4;
/// The largest factor by which velocities of a piece are spread, and its inverse the smallest.
const MOST_SPREAD: f64 = 2.5;

/// What steers the pieces of one composition.
pub struct Steering {
    wishes: Wishes,
    /// Level of the velocities at the end of the given beginning.
    prime: Option<f32>,
    range: NoteRange,
    roll: RollShape,
    /// The mean of the curve of density.
    mean: f64,
    /// Whether nothing was given before.
    from_silence: bool,
    pieces: Vec<Heard>,
}

/// What is added to the logits of a piece because of what was heard of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Heard {
    onset: f64,
    hold: f64,
    /// Onsets that are missing beside the wanted density, where that changes over the piece.
    owed: f64,
    /// What is added to velocities, beside what draws them to the wanted ones.
    louder: f64,
}

impl Steering {
    /// For so many pieces with the pitches `range`.
    ///
    /// # Errors
    /// A range that has no pitch of the model's, an emphasis out of range, or dynamics of a model that has none.
    pub fn new(
        wishes: &Wishes,
        prime: Option<&Roll>,
        (range, roll): (NoteRange, RollShape),
        pieces: usize,
    ) -> Result<Self> {
        if let Some(wanted) = wishes.range
            && (wanted.high() < range.low() || wanted.low() > range.high())
        {
            let what = format!("no note between {} is one of the model's, {}", wanted.names(), range.names());
            return Err(Error::usage(what, "give a range that has some of them"));
        }
        if !(0.0..=MOST_EMPHASIS).contains(&wishes.style_emphasis) {
            let what = format!("a style emphasis of {}", wishes.style_emphasis);
            return Err(Error::usage(what, format!("give 0 to {MOST_EMPHASIS}; 0 is the style as it was learned")));
        }
        if wishes.dynamics.is_some() && !roll.channels.contains(Channel::Dynamics) {
            return Err(Error::usage("dynamics for a model whose notes have none", "leave them out"));
        }
        let from_silence = prime.is_none();
        let prime = prime.and_then(|prime| {
            let from = prime.steps().saturating_sub(PRIME_BARS * BAR);
            let notes: Vec<f32> =
                prime.notes().iter().filter(|n| n.start >= from).map(|n| f32::from(n.velocity)).collect();
            (!notes.is_empty()).then(|| notes.iter().sum::<f32>() / notes.len() as f32)
        });
        let mean = wishes.density.as_ref().map_or(1.0, Curve::geometric_mean);
        Ok(Self {
            wishes: wishes.clone(),
            prime,
            range,
            roll,
            mean,
            from_silence,
            pieces: vec![Heard::default(); pieces],
        })
    }

    /// The same within a piece of which the beginning is there, as dense as the level says: what is wished leads as much as a change of
    /// it would.
    pub fn within(self) -> Self {
        Self { from_silence: false, mean: 1.0, ..self }
    }

    /// Whether nothing is ever added.
    pub fn is_idle(&self) -> bool {
        self.wishes == Wishes::default()
    }

    /// The weights of styles, one row a piece, as the network is to hear them; rows still sum to what they did.
    pub fn emphasised<'a>(&self, styles: &'a [Vec<f32>]) -> Cow<'a, [Vec<f32>]> {
        let emphasis = self.wishes.style_emphasis;
        if emphasis == 0.0 {
            return styles.into();
        }
        let stand_out = |style: &Vec<f32>| {
            let mean = style.iter().sum::<f32>() / style.len() as f32;
            style.iter().map(|weight| weight + emphasis * (weight - mean)).collect()
        };
        styles.iter().map(stand_out).collect()
    }

    /// What was heard of each piece.
    pub fn heard(&self) -> &[Heard] {
        &self.pieces
    }

    /// Wishes something else from now on, the same all the way.
    pub fn wish(&mut self, wishes: &Wishes) {
        if self.wishes != *wishes {
            self.mean = wishes.density.as_ref().map_or(1.0, Curve::geometric_mean);
            self.wishes = wishes.clone();
        }
    }

    /// After how many time steps the pieces are to be heard.
    pub fn listening(&self) -> usize {
        if self.follows() { BEAT } else { BAR }
    }

    /// Whether the wanted density changes over the piece.
    fn follows(&self) -> bool {
        self.wishes.density.as_ref().is_some_and(|curve| !curve.is_constant())
    }

    /// Goes on from what was heard of other pieces, one for each of these.
    pub fn go_on(&mut self, heard: Vec<Heard>) {
        self.pieces = heard;
    }

    /// What is added on the time steps `steps` of one window: rows `[window, pieces, N + 4]`.
    pub fn control(&self, steps: Range<usize>, window: usize, styles: &[Vec<f32>]) -> Vec<f32> {
        let (notes, pieces) = (self.roll.notes, self.pieces.len());
        let row = notes + CONTROLS;
        let mut control = vec![0.0; window * pieces * row];
        let pitches: Vec<f32> = (0..notes).map(|n| self.of_pitch(self.range.low() + n as u8)).collect();
        for t in steps {
            let rows = control[t % window * pieces * row..][..pieces * row].chunks_exact_mut(row);
            for ((row, heard), style) in rows.zip(&self.pieces).zip(styles) {
                let (begin, behind) = row.split_at_mut(notes);
                let density = self.density(style, t);
                let ahead = density.map_or(0.0, |d| {
                    d.mean.ln() + FORWARD * (d.factor / d.mean).ln() + self.start(t) + d.owing(heard.owed)
                });
                let onset = (heard.onset + ahead).clamp(-MOST_ONSET, MOST_ONSET);
                begin.iter_mut().zip(&pitches).for_each(|(begin, pitch)| *begin = onset as f32 + pitch);
                behind[HOLD] = heard.hold as f32;
                if let Some((velocity, pull)) = self.velocity(t) {
                    let level = mixed(&self.wishes.levels, style).and_then(|level| level.velocity);
                    let ahead = level.map_or(0.0, |level| AHEAD * (1.0 - pull) * (velocity - level.mean));
                    (behind[GAIN], behind[OFFSET]) = (-pull, (pull * velocity + ahead + heard.louder as f32) / 127.0);
                }
            }
        }
        control
    }

    /// Listens to the last time steps, `steps` of the piece, of each piece's `values`, and changes what is added from then on.
    pub fn hear(&mut self, steps: Range<usize>, values: &[Vec<f32>], styles: &[Vec<f32>]) {
        let channels = self.roll.channels.len();
        let row = self.roll.notes * channels;
        let dynamics = self.roll.channels.position(Channel::Dynamics);
        // Of a bar; what is heard may be a part of one.
        let part = steps.len() as f64 / BAR as f64;
        let follows = self.follows();
        let rate = part * if follows { CURVE_RATE } else { ONSET_RATE };
        let velocity = self.velocity((steps.start + steps.end) / 2);
        for (piece, values) in values.iter().enumerate() {
            let wanted = self.density(&styles[piece], (steps.start + steps.end) / 2);
            let (before, bar) = values.split_at(values.len() - steps.len() * row);
            let (mut onsets, mut cells, mut sounding, mut loud) = (0, 0, 0, 0.0);
            let mut last = before.len().checked_sub(row).map(|start| &before[start..]);
            for step in bar.chunks_exact(row) {
                let mut notes = 0;
                for (n, note) in step.chunks_exact(channels).enumerate() {
                    let sounded = last.is_some_and(|last| last[n * channels] > 0.0);
                    if note[0] > 0.0 && (note[1] > 0.0 || !sounded) {
                        onsets += 1;
                        loud += dynamics.map_or(0.0, |i| f64::from(note[i]) * 127.0);
                    }
                    notes += usize::from(note[0] > 0.0);
                }
                (cells, sounding) = (cells + notes, sounding + usize::from(notes > 0));
                last = Some(step);
            }
            let heard = &mut self.pieces[piece];
            if let Some((velocity, _)) = velocity.filter(|_| onsets > 0) {
                let off = f64::from(velocity) - loud / f64::from(onsets);
                heard.louder = (heard.louder + part * LOUDNESS_RATE * off).clamp(-MOST_LOUDER, MOST_LOUDER);
            }
            let Some(wanted) = wanted else { continue };
            if follows {
                heard.owed = OWED_KEPT * heard.owed + part * wanted.onsets * wanted.factor - f64::from(onsets);
            }
            let onsets = f64::from(onsets) / part;
            let off = ((wanted.onsets * wanted.factor + 1.0) / (onsets + 1.0)).ln();
            heard.onset = (heard.onset + rate * off).clamp(-MOST_ONSET, MOST_ONSET);
            if let Some(polyphony) = wanted.polyphony.filter(|_| sounding > 0) {
                let off = (polyphony * wanted.factor.sqrt() * sounding as f64 / cells as f64).ln();
                heard.hold = (heard.hold + part * HOLD_RATE * off).clamp(-MOST_HOLD, MOST_HOLD);
            }
        }
    }

    /// What is added to the logits of notes that begin because the piece has just begun.
    fn start(&self, t: usize) -> f64 {
        if self.from_silence { START * (-(t as f64) / START_STEPS).exp() } else { 0.0 }
    }

    /// What is added to the logit of a note of this pitch that would begin.
    fn of_pitch(&self, pitch: u8) -> f32 {
        let outside = self.wishes.range.is_some_and(|range| range.index(pitch).is_none());
        match self.wishes.key {
            _ if outside => NEVER,
            Some(key) if !key.has(pitch) => OUTSIDE_SCALE,
            Some(key) if key.degree(pitch) == 0 => TONIC,
            _ => 0.0,
        }
    }

    /// The density at a time step in a style; `None` where nobody wishes any.
    fn density(&self, style: &[f32], t: usize) -> Option<Density> {
        let level = mixed(&self.wishes.levels, style);
        let factor = self.wishes.density.as_ref().map(|curve| curve.at(t as f64));
        (level.is_some() || factor.is_some()).then(|| Density {
            onsets: level.map_or(NOMINAL, |level| f64::from(level.density)),
            polyphony: level.map(|level| f64::from(level.polyphony)),
            factor: factor.unwrap_or(1.0),
            mean: self.mean,
        })
    }

    /// The wanted velocity at a time step, and how strongly it is drawn there; `None` where it is left to the network.
    fn velocity(&self, t: usize) -> Option<(f32, f32)> {
        let curve = self.wishes.dynamics.as_ref().map(|curve| (curve.at(t as f64) as f32, PULL));
        let prime = self.prime.filter(|_| !self.wishes.levels.is_empty());
        curve.or(prime.map(|velocity| (velocity, PULL_AFTER_PRIME)))
    }

    /// The piece with the velocities that are wished behind its first `given` time steps: where a curve or a given beginning says how loud,
    /// each is moved by what the mean around it is off; else all are moved to the mean of their style and spread as its are.
    ///
    /// # Errors
    /// Those of [`Roll::from_notes`].
    pub fn leveled(&self, roll: Roll, style: &[f32], given: usize) -> Result<Roll> {
        if !self.roll.channels.contains(Channel::Dynamics) {
            return Ok(roll);
        }
        if self.velocity(given).is_some() {
            return self.centred(&roll, given);
        }
        let level = mixed(&self.wishes.levels, style).and_then(|level| level.velocity);
        match level.filter(|_| given == 0) {
            Some(level) => with_velocities(roll, level),
            None => Ok(roll),
        }
    }

    /// The roll with each velocity moved by what the weighted mean of those around it is off.
    fn centred(&self, roll: &Roll, given: usize) -> Result<Roll> {
        let notes = roll.notes();
        // By time step: the number of onsets, and the sum of what their velocities are off.
        let mut sums = vec![[0.0; 2]; roll.steps()];
        // What is given stays, and is nobody's measure.
        for note in notes.iter().filter(|note| note.start >= given) {
            let wished =
                self.velocity(note.start).map_or(0.0, |(wished, _)| f64::from(wished) - f64::from(note.velocity));
            sums[note.start][0] += 1.0;
            sums[note.start][1] += wished;
        }
        let off = |t: usize| {
            let steps = t.saturating_sub(2 * BAR)..(t + 2 * BAR).min(sums.len());
            let weighted = steps.map(|at| {
                let distance = (at as f64 - t as f64) / (BAR / 2) as f64;
                ((-distance * distance / 2.0).exp(), sums[at])
            });
            let (count, sum) = weighted.fold((0.0, 0.0), |(n, v), (w, [count, sum])| (n + w * count, v + w * sum));
            sum / count
        };
        let moved = notes.iter().map(|note| {
            let by = if note.start >= given { off(note.start) } else { 0.0 };
            RollNote { velocity: (f64::from(note.velocity) + by).round().clamp(1.0, 127.0) as u8, ..*note }
        });
        Roll::from_notes(roll.range(), moved)?.padded(roll.steps())
    }
}

struct Density {
    /// Onsets a bar of the style.
    onsets: f64,
    /// Notes that sound together in the style.
    polyphony: Option<f64>,
    /// What multiple of them is wished, and the mean of that over the piece.
    factor: f64,
    mean: f64,
}

impl Density {
    /// What is added to logits because so many onsets are owed.
    fn owing(&self, owed: f64) -> f64 {
        let beat = self.onsets * self.factor * BEAT as f64 / BAR as f64;
        OWED_GAIN * (1.0 + owed / beat).clamp(1.0 / MOST_OWED, MOST_OWED).ln()
    }
}

/// The roll with velocities of this mean and, within limits, this deviation.
fn with_velocities(roll: Roll, Velocities { mean, deviation }: Velocities) -> Result<Roll> {
    let mut notes = roll.notes();
    let count = notes.len().max(1) as f64;
    let velocity = |note: &RollNote| f64::from(note.velocity);
    let played = notes.iter().map(velocity).sum::<f64>() / count;
    let variance = notes.iter().map(|note| (velocity(note) - played).powi(2)).sum::<f64>() / count;
    let factor = (f64::from(deviation) / variance.sqrt().max(1e-3)).clamp(1.0 / MOST_SPREAD, MOST_SPREAD);
    for note in &mut notes {
        note.velocity = (f64::from(mean) + factor * (velocity(note) - played)).round().clamp(1.0, 127.0) as u8;
    }
    Roll::from_notes(roll.range(), notes)?.padded(roll.steps())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::Channels;

    const ROLL: RollShape = RollShape { lowest: 60, notes: 12, channels: Channels::PERFORMANCE, beats: 16, styles: 1 };

    fn steering(wishes: &Wishes, prime: Option<&Roll>) -> Steering {
        Steering::new(wishes, prime, (NoteRange::new(60, 71).unwrap(), ROLL), 1).unwrap()
    }

    fn level(density: f32, polyphony: f32) -> Vec<Option<Level>> {
        let velocity = Some(Velocities { mean: 60.0, deviation: 20.0 });
        vec![Some(Level { density, polyphony, velocity })]
    }

    /// The row of a time step.
    fn row(steering: &Steering, t: usize) -> Vec<f32> {
        let (row, control) = (12 + CONTROLS, steering.control(t..t + 1, 16, &[vec![1.0]]));
        assert!(control.iter().enumerate().all(|(i, x)| i / row == t % 16 || *x == 0.0), "other steps are left alone");
        control[t % 16 * row..][..row].to_vec()
    }

    #[test]
    fn foreign_notes_are_rarer_and_those_outside_the_range_impossible() {
        let wishes = Wishes {
            range: Some(NoteRange::new(62, 90).unwrap()),
            key: Some("D major".parse().unwrap()),
            ..Wishes::default()
        };
        let row = row(&steering(&wishes, None), 5);
        assert_eq!(row[..6], [NEVER, NEVER, TONIC, OUTSIDE_SCALE, 0.0, OUTSIDE_SCALE]);
        assert_eq!(row[12..], [0.0; CONTROLS]);
        let far = Wishes { range: Some(NoteRange::new(80, 90).unwrap()), ..Wishes::default() };
        assert!(Steering::new(&far, None, (NoteRange::new(60, 71).unwrap(), ROLL), 1).is_err());
    }

    /// What a beat has too few of, the next is to have more.
    #[test]
    fn where_density_changes_what_a_beat_lacks_is_owed() {
        let clock = crate::generate::curve::Clock { steps: 32, seconds: 0.125 };
        let curve = Curve::parse("1@1b 1.01@3b", crate::generate::curve::DENSITY, clock).unwrap();
        let wishes = Wishes { density: Some(curve), levels: level(8.0, 2.0), ..Wishes::default() };
        assert_eq!(steering(&wishes, None).listening(), 4);
        let constant = Wishes { density: Some(Curve::constant(1.0)), ..wishes.clone() };
        assert_eq!(steering(&constant, None).listening(), 16);
        let added = |notes: usize| {
            let mut steering = steering(&wishes, None).within();
            let before = row(&steering, 4)[0];
            let beat = bar(notes, 1)[..4 * 12 * 3].to_vec();
            steering.hear(0..4, &[beat], &[vec![1.0]]);
            row(&steering, 4)[0] - before
        };
        // Two onsets a beat are wished; `bar` has one a time step, as many as it is asked for.
        let [none, two, four] = [0, 2, 4].map(added);
        // Owed are two of two: ln(1 + 2 / 2), beside a quarter of the slow rate for the bar as it would go on.
        let expected = 0.25 * CURVE_RATE * 9f64.ln() + OWED_GAIN * 2f64.ln();
        assert!((f64::from(none) - expected).abs() < 0.01, "{none} {expected}");
        assert!(two.abs() < 0.01 && four < -0.5, "{two} {four}");
    }

    #[test]
    fn a_style_stands_out_from_the_mean_of_all() {
        let steering = |style_emphasis| {
            let wishes = Wishes { style_emphasis, ..Wishes::default() };
            Steering::new(&wishes, None, (NoteRange::new(60, 71).unwrap(), ROLL), 1)
        };
        let styles = [vec![1.0, 0.0, 0.0, 0.0], vec![0.25; 4], vec![]];
        let emphasised = steering(0.5).unwrap().emphasised(&styles).into_owned();
        assert_eq!(emphasised, [vec![1.375, -0.125, -0.125, -0.125], vec![0.25; 4], vec![]]);
        assert_eq!(steering(0.0).unwrap().emphasised(&styles), &styles[..]);
        for wrong in [-0.1, 5.1, f32::NAN, f32::INFINITY] {
            assert!(steering(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn dynamics_are_drawn_to_the_curve_and_after_a_beginning_to_its_end() {
        let loud = Wishes { dynamics: Some(Curve::constant(127.0)), ..Wishes::default() };
        let drawn = row(&steering(&loud, None), 0);
        assert_eq!(drawn[12 + GAIN..], [-PULL, PULL]);
        let notes = [(30, 0), (90, 80), (100, 90)].map(|(velocity, start)| RollNote {
            pitch: 60,
            velocity,
            start,
            end: start + 2,
            replay: false,
        });
        let prime = Roll::from_notes(NoteRange::new(60, 71).unwrap(), notes).unwrap();
        let wishes = Wishes { levels: level(8.0, 2.0), ..Wishes::default() };
        // The first note lies more than four bars before the end.
        let drawn = row(&steering(&wishes, Some(&prime)), 3);
        let ahead = AHEAD * (1.0 - PULL_AFTER_PRIME) * (95.0 - 60.0);
        assert!((drawn[12 + OFFSET] - (PULL_AFTER_PRIME * 95.0 + ahead) / 127.0).abs() < 1e-6, "{drawn:?}");
        assert_eq!(row(&steering(&wishes, None), 3)[12 + GAIN..], [0.0; 2]);
    }

    /// Values of a bar with so many notes of so many time steps, one after the other on pitches of their own.
    fn bar(notes: usize, length: usize) -> Vec<f32> {
        let mut values = vec![0.0; 16 * 12 * 3];
        for note in 0..notes {
            for t in 0..length {
                values[((note + t) % 16 * 12 + note % 12) * 3] = 1.0;
            }
        }
        values
    }

    #[test]
    fn what_was_heard_changes_what_is_added() {
        let wishes = Wishes { levels: level(8.0, 2.0), ..Wishes::default() };
        let after = |values: Vec<f32>| {
            let mut steering = steering(&wishes, None);
            steering.hear(0..16, &[values], &[vec![1.0]]);
            let row = row(&steering, 15);
            (row[0] - steering.start(15) as f32, row[12 + HOLD])
        };
        let (onset, hold) = after(bar(2, 2));
        assert!(onset > 0.0 && hold > 0.0, "few and short: {onset} {hold}");
        let (onset, hold) = after(bar(12, 8));
        assert!(onset < 0.0 && hold < 0.0, "many and long: {onset} {hold}");
        // 8 onsets as wished; 16 cells on 9 time steps, where 18 were wished.
        let (onset, hold) = after(bar(8, 2));
        assert!(
            onset.abs() < 1e-6 && (f64::from(hold) - HOLD_RATE * (18.0f64 / 16.0).ln()).abs() < 1e-6,
            "{onset} {hold}"
        );
        // Softer than the curve: louder from then on.
        let loud = Wishes { dynamics: Some(Curve::constant(90.0)), ..Wishes::default() };
        let mut soft = steering(&loud, None);
        let before = row(&soft, 0)[12 + OFFSET];
        soft.hear(0..16, &[bar(4, 2)], &[vec![1.0]]);
        assert!(row(&soft, 0)[12 + OFFSET] > before);
        // Silence says nothing of how many notes sound together.
        let (onset, hold) = after(bar(0, 0));
        assert!(onset > 0.0 && hold == 0.0, "{onset} {hold}");
        // Twice the density: the curve leads, before anything was heard.
        let twice = Wishes { density: Some(Curve::constant(2.0)), ..wishes.clone() };
        let [at_first, later] = [0, 15].map(|t| row(&steering(&twice, None), t)[0]);
        assert!((at_first - (2f64.ln() + START) as f32).abs() < 1e-6 && later < at_first && later > 2f32.ln());
        let clock = crate::generate::curve::Clock { steps: 32, seconds: 0.125 };
        let rising = Curve::parse("1@1b 4@3b", crate::generate::curve::DENSITY, clock).unwrap();
        let rising = steering(&Wishes { density: Some(rising), ..wishes.clone() }, None);
        assert!(row(&rising, 31)[0] > 4f32.ln() && row(&rising, 31)[0] > row(&rising, 20)[0], "ahead of its mean");
    }

    #[test]
    fn velocities_get_the_styles_mean_and_deviation_within_limits() {
        let notes = [50, 54, 58, 62].iter().enumerate().map(|(i, &velocity)| RollNote {
            pitch: 60,
            velocity,
            start: 2 * i,
            end: 2 * i + 1,
            replay: false,
        });
        let roll = Roll::from_notes(NoteRange::new(60, 71).unwrap(), notes).unwrap().padded(16).unwrap();
        let wishes = Wishes { levels: level(8.0, 2.0), ..Wishes::default() };
        let leveled = steering(&wishes, None).leveled(roll.clone(), &[1.0], 0).unwrap();
        // A deviation of 4.5 becomes 2.5 times as large, not 20.
        assert_eq!(leveled.notes().iter().map(|note| note.velocity).collect::<Vec<_>>(), [45, 55, 65, 75]);
        assert_eq!(leveled.steps(), 16);
        // Where a curve says how loud, the mean is that, and what is louder than its surroundings stays so.
        let curve = Wishes { dynamics: Some(Curve::constant(30.0)), ..wishes };
        let centred = steering(&curve, None).leveled(roll.clone(), &[1.0], 0).unwrap();
        let velocities: Vec<u8> = centred.notes().iter().map(|note| note.velocity).collect();
        assert!(velocities.is_sorted() && velocities[0] < 30 && velocities[3] > 30, "{velocities:?}");
        let given = steering(&curve, None).leveled(roll.clone(), &[1.0], 3).unwrap();
        assert_eq!(given.notes()[..2], roll.notes()[..2], "what is given stays");
    }
}
