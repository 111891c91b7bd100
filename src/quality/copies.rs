//! The longest passage that a piece shares with others.
//!
//! A passage is a number of time steps on which notes begin, one after the other: the chord that begins on each, as intervals
//! from its lowest note, and from each to the next the time and the interval between the lowest notes. So a transposed copy is
//! the same passage, and neither velocities nor lengths of notes matter. A rest of more than a bar ends a passage. It counts from
//! [`ONSETS`] time steps on, if [`DISTINCT`] of them differ: repeated notes, trills and runs along a scale are nobody's own.
//!
//! All pieces are put into one text, and the order of its suffixes gives the longest passage that begins at any place, exactly.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use rayon::prelude::*;
use serde::Serialize;

use super::measures::BAR;
use super::suffixes::{common, order};
use crate::music::Roll;

/// Time steps with onsets that a passage has at least.
pub const ONSETS: usize = 8;

/// How many of its steps from one onset to the next differ at least, in time, interval or chord.
pub const DISTINCT: usize = 4;

/// The longest time in time steps from one onset of a passage to the next.
pub const PAUSE: u32 = BAR as u32;

/// A time step on which notes begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Onset {
    /// The time step.
    step: u32,
    /// The lowest pitch that begins.
    lowest: u8,
    /// A bit for each pitch that begins, from the lowest up.
    chord: u128,
}

/// What of a piece is compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line(Vec<Onset>);

impl Line {
    /// Of `roll`.
    pub fn new(roll: &Roll) -> Self {
        let mut line = Vec::new();
        for t in 0..roll.steps() {
            let before = t.checked_sub(1).map(|t| roll.step(t));
            let begins = |n: usize| {
                let cell = roll.step(t)[n];
                cell.replay() || cell.play() && before.is_none_or(|before| !before[n].play())
            };
            let mut chord = (0..roll.range().len()).filter(|&n| begins(n));
            let Some(first) = chord.next() else { continue };
            let chord = chord.fold(1, |bits, n| bits | 1 << (n - first));
            line.push(Onset { step: t as u32, lowest: roll.range().low() + first as u8, chord });
        }
        Self(line)
    }

    /// Time, interval and chord from the onset before to number `i`, from 1.
    fn movement(&self, i: usize) -> (u32, i16, u128) {
        let (a, b) = (&self.0[i - 1], &self.0[i]);
        (b.step - a.step, i16::from(b.lowest) - i16::from(a.lowest), b.chord)
    }

    /// A number that two lines share if they are equal but for transposition and the rest before the first note.
    fn likeness(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.0.first().map(|onset| onset.chord).hash(&mut hasher);
        (1..self.0.len()).for_each(|i| self.movement(i).hash(&mut hasher));
        hasher.finish()
    }

    /// For each onset how many must follow it at least, so that [`DISTINCT`] of the movements to them differ; none where the line
    /// ends before.
    fn until_distinct(&self) -> Vec<Option<usize>> {
        let mut until = vec![None; self.0.len()];
        // The movements nearest behind, each once with its onset, the nearest first.
        let mut seen: Vec<((u32, i16, u128), usize)> = Vec::with_capacity(DISTINCT + 1);
        for i in (0..self.0.len().saturating_sub(1)).rev() {
            let movement = self.movement(i + 1);
            seen.retain(|(known, _)| *known != movement);
            seen.insert(0, (movement, i + 1));
            seen.truncate(DISTINCT);
            until[i] = seen.get(DISTINCT - 1).map(|(_, last)| last - i);
        }
        until
    }
}

/// One of the lines that are compared.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// What is compared.
    pub line: &'a Line,
    /// Whether others may have copied from it.
    pub source: bool,
}

/// The longest passage that begins on one onset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Match {
    /// Onsets of the passage.
    onsets: u32,
    /// The place in the text where it is too.
    other: u32,
}

/// A passage that two pieces share. Bars are of 16 time steps and count from 1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Passage {
    /// From its first onset to its last, that time step with it, in bars.
    pub bars: f64,
    /// The same in time steps.
    pub steps: usize,
    /// Time steps on which notes begin.
    pub onsets: usize,
    /// The bar in which it begins.
    pub bar: usize,
    /// The time step on which it begins, from 0.
    pub step: usize,
    /// The number of the other piece among those compared.
    #[serde(skip)]
    pub other: usize,
    /// The bar of the other piece in which it begins.
    pub other_bar: usize,
    /// Semitones from the other piece up to this one.
    pub transposition: i16,
}

impl Passage {
    /// The passage where `steps` time steps stand before the piece that it was found in.
    pub fn move_by(&mut self, steps: usize) {
        self.step += steps;
        self.bar = self.step / BAR + 1;
    }
}

/// For all pieces, the longest passages that they share with sources which are other works.
pub struct Shared<'a> {
    members: &'a [Member<'a>],
    /// Where each member begins in the text, and where the last ends.
    starts: Vec<usize>,
    matches: Vec<Match>,
}

/// Numbers from 0 for `keys`, in their order.
fn numbered<T: Copy + Ord + Send + Sync>(keys: &[T]) -> Vec<u32> {
    let mut distinct = keys.to_vec();
    distinct.par_sort_unstable();
    distinct.dedup();
    keys.par_iter().map(|key| distinct.partition_point(|known| known < key) as u32).collect()
}

impl<'a> Shared<'a> {
    /// Compares `members`. Those that are equal but for transposition and lengths are one work, if both are sources, and not
    /// compared with one another.
    pub fn new(members: &'a [Member<'a>]) -> Self {
        let mut starts = vec![0];
        let mut works = HashMap::new();
        let mut owners: Vec<(u32, bool)> = Vec::new();
        for (i, Member { line, source }) in members.iter().enumerate() {
            let work = if *source { *works.entry(line.likeness()).or_insert(i) } else { i };
            owners.extend(std::iter::repeat_n((work as u32, *source), line.0.len()));
            starts.push(owners.len());
        }
        let chords: Vec<u128> =
            members.iter().flat_map(|member| member.line.0.iter().map(|onset| onset.chord)).collect();
        let chords = numbered(&chords);
        // A chord and the way on to the next, which at the end of a passage is like no other.
        let mut symbols = Vec::with_capacity(chords.len());
        for Member { line, .. } in members {
            for i in 0..line.0.len() {
                let at = symbols.len() as u64;
                let way = match line.0.get(i + 1).map(|_| line.movement(i + 1)) {
                    Some((time, interval, _)) if time <= PAUSE => {
                        u64::from(time) << 16 | (i64::from(interval) + 256) as u64
                    }
                    _ => 1 << 31 | at,
                };
                symbols.push(u64::from(chords[symbols.len()]) << 32 | way);
            }
        }
        let text = numbered(&symbols);
        let order = order(&text);
        let mut halves = common(&text, &order);
        // A common chord whose way on differs is half a symbol. There is one behind all that is common, since ends differ.
        for at in 1..order.len() {
            let [a, b] = [order[at - 1], order[at]].map(|i| chords[(i + halves[at]) as usize]);
            halves[at] = 2 * halves[at] + u32::from(a == b);
        }
        let mut best = vec![Match::default(); text.len()];
        nearest(order.iter().copied().zip(halves.iter().copied()), &owners, &mut best);
        let upwards = halves.iter().copied().skip(1).chain([0]).collect::<Vec<u32>>();
        nearest(order.iter().copied().zip(upwards).rev(), &owners, &mut best);
        best.iter_mut().for_each(|half| half.onsets = half.onsets.div_ceil(2));
        Self { members, starts, matches: best }
    }

    /// The longest passage of member `i`; `None` where there is none that counts.
    pub fn longest(&self, i: usize) -> Option<Passage> {
        self.longest_within(i, std::slice::from_ref(&(0..usize::MAX))).pop().flatten()
    }

    /// The longest passage of member `i` within each of these ranges of time steps.
    pub fn longest_within(&self, i: usize, ranges: &[std::ops::Range<usize>]) -> Vec<Option<Passage>> {
        let line = &self.members[i].line;
        let until = line.until_distinct();
        let matches = &self.matches[self.starts[i]..self.starts[i + 1]];
        let within = |range: &std::ops::Range<usize>| {
            let before = |step: usize| line.0.partition_point(|onset| (onset.step as usize) < step);
            let (from, to) = (before(range.start), before(range.end));
            let (mut longest, mut found) = (0, None);
            for at in from..to {
                let onsets = (matches[at].onsets as usize).min(to - at);
                let enough = until[at].is_some_and(|until| until < onsets) && onsets >= ONSETS;
                let steps = if enough { line.0[at + onsets - 1].step - line.0[at].step + 1 } else { 0 };
                if steps > longest {
                    (longest, found) = (steps, Some((at, onsets)));
                }
            }
            found.map(|(at, onsets)| self.passage(line, at, onsets, longest as usize, matches[at].other as usize))
        };
        ranges.iter().map(within).collect()
    }

    fn passage(&self, line: &Line, at: usize, onsets: usize, steps: usize, other: usize) -> Passage {
        let member = self.starts.partition_point(|start| *start <= other) - 1;
        let (here, there) = (&line.0[at], &self.members[member].line.0[other - self.starts[member]]);
        Passage {
            bars: steps as f64 / BAR as f64,
            steps,
            onsets,
            bar: here.step as usize / BAR + 1,
            step: here.step as usize,
            other: member,
            other_bar: there.step as usize / BAR + 1,
            transposition: i16::from(here.lowest) - i16::from(there.lowest),
        }
    }
}

/// Goes through suffixes in order, each with how much it has in common with the one before, and notes for each the nearest source
/// of another work.
fn nearest(suffixes: impl Iterator<Item = (u32, u32)>, owners: &[(u32, bool)], best: &mut [Match]) {
    // The nearest source, and the nearest of another work than that; with what is common to all since.
    let mut last: Option<(u32, Match)> = None;
    let mut other: Option<(u32, Match)> = None;
    for (i, common) in suffixes {
        for (_, since) in last.iter_mut().chain(other.iter_mut()) {
            since.onsets = since.onsets.min(common);
        }
        let (work, source) = owners[i as usize];
        let found = last.filter(|(of, _)| *of != work).or(other.filter(|(of, _)| *of != work));
        if let Some((_, found)) = found
            && found.onsets > best[i as usize].onsets
        {
            best[i as usize] = found;
        }
        if source {
            if last.is_some_and(|(of, _)| of != work) {
                other = last;
            }
            last = Some((work, Match { onsets: u32::MAX, other: i }));
        }
    }
}

/// The longest passage of each of `rolls` that is in one of `sources` too, whose number is [`Passage::other`].
pub fn copied<'a>(rolls: &[Roll], sources: impl IntoParallelIterator<Item = &'a Roll>) -> Vec<Option<Passage>> {
    let sources: Vec<Line> = sources.into_par_iter().map(Line::new).collect();
    let lines: Vec<Line> = rolls.par_iter().map(Line::new).collect();
    let of = |line, source| Member { line, source };
    let members: Vec<Member> =
        sources.iter().map(|line| of(line, true)).chain(lines.iter().map(|line| of(line, false))).collect();
    let shared = Shared::new(&members);
    (0..rolls.len()).map(|i| shared.longest(sources.len() + i)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::music::NoteRange;
    use crate::music::roll::RollNote;

    fn drawn(state: &mut u64, below: u64) -> usize {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((*state >> 33) % below) as usize
    }

    /// `onsets` chords of one or two of `pitches` pitches, one to three time steps apart.
    fn melody(state: &mut u64, onsets: usize, pitches: u64) -> Vec<RollNote> {
        let mut start = 0;
        let mut notes = Vec::new();
        for _ in 0..onsets {
            start += 1 + drawn(state, 3);
            for _ in 0..1 + drawn(state, 2) {
                let pitch = 50 + drawn(state, pitches) as u8;
                notes.push(RollNote { pitch, velocity: 64, start, end: start + 1, replay: false });
            }
        }
        notes
    }

    fn roll(notes: &[RollNote]) -> Roll {
        Roll::from_notes(NoteRange::default(), notes.iter().copied()).unwrap()
    }

    fn moved(notes: &[RollNote], steps: usize, semitones: i16) -> impl Iterator<Item = RollNote> {
        notes.iter().map(move |note| RollNote {
            pitch: (i16::from(note.pitch) + semitones) as u8,
            velocity: 100 - note.velocity / 2,
            start: note.start + steps,
            end: note.end + steps + 1,
            replay: false,
        })
    }

    #[test]
    fn a_transposed_passage_is_found_where_it_is() {
        let mut state = 1;
        let [source, other] = [0; 2].map(|_| melody(&mut state, 200, 24));
        let [first, last] = [40, 80];
        let part: Vec<RollNote> = source.iter().filter(|note| (first..=last).contains(&note.start)).copied().collect();
        let (from, to) = (part[0].start, part[part.len() - 1].start);
        // Behind two bars of something else, five semitones lower.
        let own: Vec<RollNote> = melody(&mut state, 60, 24).into_iter().filter(|note| note.start < 30).collect();
        let copy: Vec<RollNote> = own.into_iter().chain(moved(&part, 32 - from, -5)).collect();
        let sources = [roll(&other), roll(&source)];
        let found = copied(&[roll(&copy)], &sources).pop().unwrap().unwrap();
        assert_eq!((found.other, found.transposition), (1, -5));
        // What precedes may happen to go on with it.
        assert!(found.steps > to - from && found.steps <= to - from + 6, "{found:?}");
        assert!(
            found.step <= 32 && found.step >= 27 && found.other_bar == (from - (32 - found.step)) / BAR + 1,
            "{found:?}"
        );
        assert_eq!(found.bars, found.steps as f64 / 16.0);
    }

    #[test]
    fn a_whole_copy_is_as_long_as_the_piece_and_a_shuffled_one_is_none() {
        let mut state = 2;
        let source = melody(&mut state, 200, 24);
        let whole =
            copied(&[roll(&moved(&source, 7, 3).collect::<Vec<_>>())], &[roll(&source)]).pop().unwrap().unwrap();
        assert_eq!(whole.steps, source[source.len() - 1].start - source[0].start + 1);
        assert_eq!((whole.step, whole.bar, whole.other_bar, whole.transposition), (source[0].start + 7, 1, 1, 3));
        // The same notes on other time steps.
        let mut starts: Vec<usize> = source.iter().map(|note| note.start).collect();
        (1..starts.len()).rev().for_each(|i| starts.swap(i, drawn(&mut state, i as u64 + 1)));
        let shuffled: Vec<RollNote> =
            (source.iter().zip(starts)).map(|(note, start)| RollNote { start, end: start + 1, ..*note }).collect();
        assert_eq!(copied(&[roll(&shuffled)], &[roll(&source)]), [None]);
    }

    /// Against all pairs of onsets, where few symbols make many matches.
    #[test]
    fn all_that_is_shared_is_found() {
        for seed in 0..60 {
            let mut state = seed;
            let pitches = 1 + seed % 3;
            let mut lines: Vec<Line> =
                (0..6).map(|i| Line::new(&roll(&melody(&mut state, 20 + 10 * i, pitches)))).collect();
            lines.push(lines[2].clone()); // one work
            lines.push(Line::default());
            let members: Vec<Member> =
                lines.iter().enumerate().map(|(i, line)| Member { line, source: i != 1 }).collect();
            let shared = Shared::new(&members);
            for (i, member) in members.iter().enumerate() {
                let mut longest = 0;
                for (j, other) in members.iter().enumerate() {
                    if i != j && other.source && !(member.source && member.line == other.line) {
                        longest = longest.max(naive(member.line, other.line));
                    }
                }
                let found = shared.longest(i);
                assert_eq!(found.as_ref().map_or(0, |found| found.steps), longest, "{seed}: {i} {found:?}");
            }
        }
    }

    fn naive(a: &Line, b: &Line) -> usize {
        let mut longest = 0;
        for i in 0..a.0.len() {
            for j in 0..b.0.len() {
                if a.0[i].chord != b.0[j].chord {
                    continue;
                }
                let mut movements = Vec::new();
                for k in 1..(a.0.len() - i).min(b.0.len() - j) {
                    let movement = a.movement(i + k);
                    if movement != b.movement(j + k) || movement.0 > PAUSE {
                        break;
                    }
                    movements.push(movement);
                }
                let onsets = movements.len() + 1;
                let steps = a.0[i + onsets - 1].step - a.0[i].step + 1;
                movements.sort_unstable();
                movements.dedup();
                if onsets >= ONSETS && movements.len() >= DISTINCT {
                    longest = longest.max(steps as usize);
                }
            }
        }
        longest
    }

    #[test]
    fn rests_repeated_notes_and_runs_are_nobodys() {
        let note = |pitch: u8, start: usize| RollNote { pitch, velocity: 64, start, end: start + 1, replay: false };
        let repeated: Vec<RollNote> = (0..200).map(|i| note(60, 2 * i)).collect();
        let run: Vec<RollNote> = (0..40).map(|i| note(40 + i, usize::from(i))).collect();
        // Six notes, a rest of two bars, six notes: two passages, each too short.
        let halves: Vec<RollNote> = [0, 1, 3, 6, 7, 11]
            .into_iter()
            .flat_map(|at| [note(60 + at as u8, at), note(60 + at as u8, 44 + at)])
            .collect();
        let all = [roll(&repeated), roll(&run), roll(&halves), roll(&[])];
        assert_eq!(copied(&all, &all), vec![None; 4]);
    }

    #[test]
    fn passages_are_cut_to_a_range() {
        let mut state = 5;
        let source = melody(&mut state, 100, 24);
        let lines = [Line::new(&roll(&source)), Line::new(&roll(&moved(&source, 0, 1).collect::<Vec<_>>()))];
        let members = [Member { line: &lines[0], source: true }, Member { line: &lines[1], source: false }];
        let shared = Shared::new(&members);
        let found = shared.longest_within(1, &[0..64, 64..128, 0..9]);
        let steps = |i: usize| found[i].as_ref().map_or(0, |found| found.steps);
        assert!((60..=64).contains(&steps(0)) && (60..=64).contains(&steps(1)) && steps(2) == 0, "{found:?}");
        // The source has nothing in common with itself.
        assert_eq!(shared.longest(0), None);
    }

    #[test]
    fn repeats_take_no_time() {
        let notes =
            (0..60_000).map(|i| RollNote { pitch: 60, velocity: 1, start: 4 * i, end: 4 * i + 1, replay: false });
        let long = Roll::from_notes(NoteRange::default(), notes).unwrap();
        let began = std::time::Instant::now();
        assert_eq!(copied(std::slice::from_ref(&long), [&long, &long]), [None]);
        assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
    }
}
