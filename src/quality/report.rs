//! Generated pieces beside real ones: the comparison, its table and its CSV.

use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::ops::Range;

use rayon::prelude::*;
use serde::Serialize;

use super::contrasts::{Contrast, Difference, OfPieces, contrasts};
use super::copies::{DISTINCT, Line, Member, ONSETS, Passage, Shared};
use super::distances::{Distances, Grids, Similarity, distances};
use super::frechet::frechet;
use super::measures::{BAR, Excerpt, HISTOGRAMS, Histogram, MEASURES, Measure};
use super::sets::{Cut, Sample, Side, cut};
use crate::music::NoteRange;
use crate::statistics::{quantile, sorted};
use crate::{Error, Result};

/// What a report says at its head and for each genre and composer.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The generated pieces.
    pub generated: Side,
    /// The real pieces.
    pub real: Side,
    /// The pitches that both were read with.
    pub notes: NoteRange,
    /// Bars of an excerpt, 16 time steps each; 0 where pieces are whole.
    pub bars: usize,
    /// How the generated pieces were cut.
    pub generated_cut: Cut,
    /// How the real pieces were cut.
    pub real_cut: Cut,
    /// Where densities of distances were compared.
    pub grids: Grids,
    /// What the measures are.
    pub measures: &'static [Measure],
    /// What the histograms are.
    pub histograms: &'static [Histogram],
    /// All pieces, then each genre with its composers.
    pub groups: Vec<Group>,
    /// Each genre beside each other one.
    pub contrasts: Vec<Contrast>,
    /// What generated pieces share with real ones, if that was looked for.
    pub copies: Option<Copies>,
    /// Fréchet distances over the features of a classifier, if that was asked for: of all pieces, then of each genre that has two
    /// pieces or more on both sides.
    pub frechet: Vec<Frechet>,
}

/// The Fréchet distance between the features of generated and of real pieces.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Frechet {
    /// None of all pieces.
    pub genre: Option<String>,
    /// Generated pieces.
    pub generated: usize,
    /// Real pieces, which the classifier was not trained on.
    pub real: usize,
    /// The distance.
    pub distance: f64,
    /// That of every second real piece from the others, to hold it against: of sets half as large, which makes it larger. None of fewer
    /// than four real pieces.
    pub among_real: Option<f64>,
}

/// The pieces of a genre, of a composer, or all.
#[derive(Clone, Debug, Serialize)]
pub struct Group {
    /// None of all pieces.
    pub genre: Option<String>,
    /// None of all composers of a genre.
    pub composer: Option<String>,
    /// The generated pieces.
    pub generated: Size,
    /// The real pieces.
    pub real: Size,
    /// How many medians of generated excerpts lie within the 25th to 75th percentile of real ones.
    pub within_quartiles: usize,
    /// How many within the 1st to 99th.
    pub within_extremes: usize,
    /// Of how many measures that can be said.
    pub compared: usize,
    /// One for each measure.
    pub rows: Vec<Row>,
    /// One for each histogram.
    pub histograms: Vec<HistogramRow>,
    /// The longest passage that is shared with a source of copies, in bars: of generated pieces, and of excerpts of the sources;
    /// 0 where none counts.
    pub longest_copy: Option<Row>,
    /// Of generated pieces, how many share more than the bound.
    pub beyond_bound: Option<usize>,
}

/// A histogram of a group.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct HistogramRow {
    /// The histogram's key.
    pub histogram: &'static str,
    /// Distances within and between the sets; none with fewer than two excerpts a side.
    pub distances: Option<Distances>,
}

/// How large a group is on one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Size {
    /// Pieces.
    pub pieces: usize,
    /// Excerpts of them.
    pub excerpts: usize,
}

/// A measure of a group.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The measure's key.
    pub measure: &'static str,
    /// Of generated excerpts; none where it is undefined for all.
    pub generated: Option<Percentiles>,
    /// Of real excerpts; none where it is undefined for all.
    pub real: Option<Percentiles>,
    /// Generated excerpts for which it is undefined.
    pub generated_undefined: usize,
    /// Real excerpts for which it is undefined.
    pub real_undefined: usize,
    /// Whether the generated median lies within the 25th to 75th percentile of the real ones, if there are two.
    pub within_quartiles: Option<bool>,
    /// Whether within the 1st to 99th.
    pub within_extremes: Option<bool>,
    /// Distances within and between the sets; none with fewer than two excerpts a side.
    pub distances: Option<Distances>,
    /// All values, for pictures.
    #[serde(skip)]
    pub values: Values,
}

/// The values of a measure.
#[derive(Clone, Debug, Default)]
pub struct Values {
    /// Of generated excerpts.
    pub generated: Vec<f64>,
    /// Of real excerpts.
    pub real: Vec<f64>,
}

/// Where the values of a set lie, between two of them in proportion.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Percentiles {
    /// How many there are.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// The 1st percentile.
    pub p1: f64,
    /// The 25th.
    pub p25: f64,
    /// The median.
    pub median: f64,
    /// The 75th.
    pub p75: f64,
    /// The 99th.
    pub p99: f64,
}

impl Percentiles {
    /// Of `values`; `None` of none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let sorted = sorted(values);
        let [p1, p25, median, p75, p99] = [0.01, 0.25, 0.5, 0.75, 0.99].map(|part| quantile(&sorted, part));
        let count = values.len();
        (count > 0).then(|| Self { count, mean: values.iter().sum::<f64>() / count as f64, p1, p25, median, p75, p99 })
    }
}

impl Row {
    fn new(measure: &'static str, values: [Vec<Option<f64>>; 2], grids: Option<Grids>) -> Self {
        let [generated_undefined, real_undefined] =
            [0, 1].map(|side: usize| values[side].iter().filter(|value| value.is_none()).count());
        let [generated_values, real_values] = values.map(|values| values.into_iter().flatten().collect::<Vec<f64>>());
        let [generated, real] = [&generated_values, &real_values].map(|values| Percentiles::of(values));
        let within = |bounds: fn(&Percentiles) -> Range<f64>| {
            let (generated, real) = (generated?, real.filter(|real| real.count > 1)?);
            let Range { start, end } = bounds(&real);
            Some((start..=end).contains(&generated.median))
        };
        let alone = |values: &[f64]| values.iter().map(|value| vec![*value]).collect::<Vec<_>>();
        Self {
            measure,
            generated,
            real,
            generated_undefined,
            real_undefined,
            within_quartiles: within(|real| real.p25..real.p75),
            within_extremes: within(|real| real.p1..real.p99),
            distances: grids.and_then(|grids| distances(&alone(&generated_values), &alone(&real_values), grids)),
            values: Values { generated: generated_values, real: real_values },
        }
    }
}

/// An excerpt of a side with all that is measured of it.
struct Measured {
    sample: usize,
    measures: Vec<Option<f64>>,
    histograms: Vec<Option<Vec<f64>>>,
}

fn measured(samples: &[Sample], bars: usize) -> (Vec<Measured>, Cut) {
    let (ranges, cut) = cut(samples, bars);
    let excerpts: Vec<(usize, Range<usize>)> =
        ranges.into_iter().enumerate().flat_map(|(i, of)| of.into_iter().map(move |range| (i, range))).collect();
    let measure = |(sample, range): (usize, Range<usize>)| {
        let Sample { roll, dynamics, .. } = &samples[sample];
        let excerpt = Excerpt::new(&roll.excerpt(range.start, range.end), *dynamics);
        Measured {
            sample,
            measures: MEASURES.iter().map(|measure| (measure.of)(&excerpt)).collect(),
            histograms: HISTOGRAMS.iter().map(|histogram| (histogram.of)(&excerpt)).collect(),
        }
    };
    (excerpts.into_par_iter().map(measure).collect(), cut)
}

/// The means over the excerpts of each piece.
fn of_pieces<'a>(samples: &'a [Sample], excerpts: &[Measured]) -> OfPieces<'a> {
    let mean = |piece: usize, measure: usize| {
        let of = excerpts.iter().filter(|excerpt| excerpt.sample == piece);
        let values: Vec<f64> = of.filter_map(|excerpt| excerpt.measures[measure]).collect();
        Percentiles::of(&values).map(|of| of.mean)
    };
    let means = (0..samples.len()).into_par_iter();
    let means = means.map(|piece| (0..MEASURES.len()).map(|measure| mean(piece, measure)).collect()).collect();
    OfPieces { samples, means }
}

/// Whose pieces are compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Whose {
    genre: Option<String>,
    composer: Option<String>,
}

impl Whose {
    fn has(&self, sample: &Sample) -> bool {
        (self.genre.is_none() || self.genre == sample.genre)
            && (self.composer.is_none() || self.composer == sample.composer)
    }
}

/// All pieces, each genre of `samples` and each composer in it, in the order of their names.
fn groups(samples: &[Sample]) -> Vec<Whose> {
    let mut all = BTreeSet::from([Whose { genre: None, composer: None }]);
    for Sample { genre, composer, .. } in samples {
        all.insert(Whose { genre: genre.clone(), composer: None });
        all.insert(Whose { genre: genre.clone(), composer: composer.clone() });
    }
    all.into_iter().collect()
}

/// Compares `generated` pieces with `real` ones, both read with the pitches `notes`, in excerpts of `bars` bars (0: whole).
pub fn compare(generated: Side, real: Side, notes: NoteRange, bars: usize, grids: Grids) -> Report {
    let (of_generated, generated_cut) = measured(&generated.samples, bars);
    let (of_real, real_cut) = measured(&real.samples, bars);
    let group = |whose: Whose| {
        let [mine, theirs] = [(&generated, &of_generated), (&real, &of_real)].map(|(side, excerpts)| {
            excerpts.iter().filter(|excerpt| whose.has(&side.samples[excerpt.sample])).collect::<Vec<_>>()
        });
        let size = |side: &Side, excerpts: &[&Measured]| Size {
            pieces: side.samples.iter().filter(|sample| whose.has(sample)).count(),
            excerpts: excerpts.len(),
        };
        let row = |(i, measure): (usize, &Measure)| {
            let values = [&mine, &theirs].map(|side| side.iter().map(|excerpt| excerpt.measures[i]).collect());
            Row::new(measure.key, values, Some(grids))
        };
        let rows: Vec<Row> = MEASURES.par_iter().enumerate().map(row).collect();
        let histogram = |(i, histogram): (usize, &Histogram)| {
            let [mine, theirs] = [&mine, &theirs]
                .map(|side| side.iter().filter_map(|excerpt| excerpt.histograms[i].clone()).collect::<Vec<Vec<f64>>>());
            HistogramRow { histogram: histogram.key, distances: distances(&mine, &theirs, grids) }
        };
        let count = |of: fn(&Row) -> Option<bool>| rows.iter().filter(|row| of(row) == Some(true)).count();
        Group {
            generated: size(&generated, &mine),
            real: size(&real, &theirs),
            within_quartiles: count(|row| row.within_quartiles),
            within_extremes: count(|row| row.within_extremes),
            compared: rows.iter().filter(|row| row.within_quartiles.is_some()).count(),
            histograms: HISTOGRAMS.par_iter().enumerate().map(histogram).collect(),
            genre: whose.genre.clone(),
            composer: whose.composer.clone(),
            rows,
            longest_copy: None,
            beyond_bound: None,
        }
    };
    let groups = groups(&generated.samples).into_iter().map(group).collect();
    let contrasts = contrasts(&of_pieces(&generated.samples, &of_generated), &of_pieces(&real.samples, &of_real));
    Report {
        generated,
        real,
        notes,
        bars,
        generated_cut,
        real_cut,
        grids,
        measures: &MEASURES,
        histograms: &HISTOGRAMS,
        groups,
        contrasts,
        copies: None,
        frechet: vec![],
    }
}

/// Adds the Fréchet distances to a report: `generated` are a classifier's features of its generated pieces, in their order, `real`
/// genre and features of real ones.
///
/// # Errors
/// Features that have no distance; see [`frechet()`].
pub fn add_frechet(report: &mut Report, generated: &[Vec<f64>], real: &[(String, Vec<f64>)]) -> Result<()> {
    let samples = &report.generated.samples;
    let genres: BTreeSet<&String> = samples.iter().filter_map(|sample| sample.genre.as_ref()).collect();
    let mut rows = vec![];
    for genre in [None].into_iter().chain(genres.into_iter().map(Some)) {
        let of = |other: Option<&String>| genre.is_none() || other == genre;
        let mine = samples.iter().zip(generated).filter(|(sample, _)| of(sample.genre.as_ref()));
        let mine: Vec<Vec<f64>> = mine.map(|(_, features)| features.clone()).collect();
        let theirs: Vec<Vec<f64>> =
            real.iter().filter(|(other, _)| of(Some(other))).map(|(_, features)| features.clone()).collect();
        if mine.len() < 2 || theirs.len() < 2 {
            continue;
        }
        let half = |odd: usize| theirs.iter().skip(odd).step_by(2).cloned().collect::<Vec<_>>();
        let among_real = (theirs.len() >= 4).then(|| frechet(&half(0), &half(1))).transpose()?;
        let (distance, genre) = (frechet(&mine, &theirs)?, genre.cloned());
        rows.push(Frechet { genre, generated: mine.len(), real: theirs.len(), distance, among_real });
    }
    report.frechet = rows;
    Ok(())
}

/// What generated pieces share with real ones.
#[derive(Clone, Debug, Serialize)]
pub struct Copies {
    /// Where the sources are from.
    pub place: String,
    /// How many sources there are.
    pub sources: usize,
    /// The bound in bars.
    pub bound: f64,
    /// Generated pieces that share more.
    pub beyond_bound: usize,
    /// Each generated piece.
    pub pieces: Vec<Copied>,
}

/// The longest passage that a generated piece shares with a source.
#[derive(Clone, Debug, Serialize)]
pub struct Copied {
    /// The generated piece.
    pub file: String,
    /// The passage; none where none counts.
    pub passage: Option<Passage>,
    /// The source that has it too.
    pub source: Option<String>,
}

/// Looks for passages of the generated pieces of `report` in `sources`, and of the sources in one another.
pub fn find_copies(report: &mut Report, sources: &Side, bound: f64) {
    let generated = &report.generated.samples;
    let all: Vec<&Sample> = sources.samples.iter().chain(generated).collect();
    let lines: Vec<Line> = all.par_iter().map(|sample| Line::new(&sample.roll)).collect();
    let count = sources.samples.len();
    let members: Vec<Member> = lines.iter().enumerate().map(|(i, line)| Member { line, source: i < count }).collect();
    let shared = Shared::new(&members);
    let of_generated: Vec<Option<Passage>> = (count..lines.len()).into_par_iter().map(|i| shared.longest(i)).collect();
    let (ranges, _) = cut(&sources.samples, report.bars);
    let of_sources: Vec<Vec<f64>> = (ranges.par_iter().enumerate())
        .map(|(i, ranges)| shared.longest_within(i, ranges).iter().map(|passage| bars(passage.as_ref())).collect())
        .collect();
    for group in &mut report.groups {
        let whose = Whose { genre: group.genre.clone(), composer: group.composer.clone() };
        let own: Vec<Option<f64>> = (generated.iter().zip(&of_generated))
            .filter(|(sample, _)| whose.has(sample))
            .map(|(_, passage)| Some(bars(passage.as_ref())))
            .collect();
        let real = (sources.samples.iter().zip(&of_sources)).filter(|(sample, _)| whose.has(sample));
        let real = real.flat_map(|(_, bars)| bars.iter().copied().map(Some)).collect();
        group.beyond_bound = Some(own.iter().flatten().filter(|bars| **bars > bound).count());
        group.longest_copy = Some(Row::new("longest_copy", [own, real], None));
    }
    let pieces: Vec<Copied> = (generated.iter().zip(of_generated))
        .map(|(sample, passage)| {
            let source = passage.as_ref().map(|passage| sources.samples[passage.other].name.clone());
            Copied { file: sample.name.clone(), passage, source }
        })
        .collect();
    let beyond_bound = pieces.iter().filter(|piece| bars(piece.passage.as_ref()) > bound).count();
    report.copies = Some(Copies { place: sources.place.clone(), sources: count, bound, beyond_bound, pieces });
}

fn bars(passage: Option<&Passage>) -> f64 {
    passage.map_or(0.0, |passage| passage.bars)
}

impl Group {
    /// `all pieces`, `baroque` or `baroque/bach`.
    pub fn label(&self) -> String {
        match (&self.genre, &self.composer) {
            (None, _) => "all pieces".into(),
            (Some(genre), None) => genre.clone(),
            (Some(genre), Some(composer)) => format!("{genre}/{composer}"),
        }
    }
}

impl Report {
    /// What has to be known of the comparison, a sentence each without a final stop.
    pub fn notices(&self) -> Vec<String> {
        let mut notices = Vec::new();
        for side in [&self.generated, &self.real] {
            notices.extend(side.skipped.iter().map(|of| format!("skipped {}: {}", of.file, of.reason)));
            if let Some(notes @ 1..) = side.left_out {
                let (place, range) = (&side.place, self.notes);
                notices.push(format!("{place}: {notes} notes outside {range}, or of drums, were left out"));
            }
        }
        for group in &self.groups {
            let (label, Group { generated, real, .. }) = (group.label(), group);
            if real.excerpts == 0 {
                notices.push(format!("{label}: {} has no real piece of it to compare with", self.real.place));
            } else if generated.excerpts < 2 || real.excerpts < 2 {
                let (few, many) = (generated.excerpts, real.excerpts);
                notices.push(format!(
                    "{label}: distances need two excerpts a side, but there are {few} generated and {many} real ones"
                ));
            }
        }
        notices
    }

    /// A row for each group and measure.
    ///
    /// # Errors
    /// None that can come of memory.
    pub fn csv(&self) -> Result<String> {
        let failed = |e: &dyn fmt::Display| Error::run(format!("the table cannot be written as CSV: {e}"), "");
        let mut writer = csv::Writer::from_writer(vec![]);
        let heads = [
            "genre",
            "composer",
            "measure",
            "unit",
            "generated_count",
            "generated_undefined",
            "generated_mean",
            "generated_p1",
            "generated_p25",
            "generated_median",
            "generated_p75",
            "generated_p99",
            "real_count",
            "real_undefined",
            "real_mean",
            "real_p1",
            "real_p25",
            "real_median",
            "real_p75",
            "real_p99",
            "within_quartiles",
            "within_extremes",
            "within_generated_distance",
            "within_real_distance",
            "between_distance",
            "generated_overlap",
            "generated_divergence",
            "real_overlap",
            "real_divergence",
        ];
        writer.write_record(heads).map_err(|e| failed(&e))?;
        for group in &self.groups {
            let name = |name: &Option<String>| name.clone().unwrap_or_default();
            let names = [name(&group.genre), name(&group.composer)];
            for row in group.rows.iter().chain(&group.longest_copy) {
                let bool = |value: Option<bool>| value.map_or(String::new(), |value| value.to_string());
                let record = [row.measure.to_string(), unit(row.measure).into()].into_iter();
                let record = record.chain(percentiles(row.generated, row.generated_undefined));
                let record = record.chain(percentiles(row.real, row.real_undefined));
                let record = record.chain([bool(row.within_quartiles), bool(row.within_extremes)]);
                let record = names.clone().into_iter().chain(record).chain(distance_fields(row.distances));
                writer.write_record(record).map_err(|e| failed(&e))?;
            }
            for HistogramRow { histogram, distances } in &group.histograms {
                let empty = std::iter::repeat_n(String::new(), 19);
                let record = names.clone().into_iter().chain([histogram.to_string()]).chain(empty);
                writer.write_record(record.chain(distance_fields(*distances))).map_err(|e| failed(&e))?;
            }
        }
        let bytes = writer.into_inner().map_err(|e| failed(&e))?;
        String::from_utf8(bytes).map_err(|e| failed(&e))
    }

    /// The table of one group.
    fn table(&self, f: &mut fmt::Formatter, group: &Group) -> fmt::Result {
        let Group { generated, real, .. } = group;
        writeln!(f, "{}: {} generated, {} real", group.label(), size(generated), size(real))?;
        writeln!(
            f,
            "{:20} {:>10} {:>9}  {:>8} {:>8} {:>8} {:>8} {:>8}  {:>5} {:>4}  {:>7} {:>7}",
            "", "", "generated", "1 %", "25 %", "median", "75 %", "99 %", "25-75", "1-99", "overlap", "KL"
        )?;
        for row in &group.rows {
            self.line(f, label(row.measure), unit(row.measure), row, row.distances.and_then(|of| of.real))?;
        }
        for HistogramRow { histogram: key, distances } in &group.histograms {
            let label = HISTOGRAMS.iter().find(|histogram| histogram.key == *key).map_or("", |of| of.label);
            if let Some(Similarity { overlap, divergence }) = distances.and_then(|of| of.real) {
                writeln!(f, "{label:20} {:72} {:>7} {:>7}", "", figure(overlap), figure(divergence))?;
            }
        }
        if let Some(row) = &group.longest_copy {
            self.line(f, "longest copy", "bars", row, None)?;
        }
        let Group { within_quartiles, within_extremes, compared, .. } = group;
        writeln!(
            f,
            "{within_quartiles} of {compared} inside the 25th to 75th percentile of real excerpts, {within_extremes} of {compared} \
             inside the 1st to 99th"
        )?;
        if let (Some(beyond), Some(copies)) = (group.beyond_bound, &self.copies) {
            writeln!(
                f,
                "{beyond} of {} pieces share more than {} bars with a real piece",
                generated.pieces, copies.bound
            )?;
        }
        Ok(())
    }

    /// How genres differ in what the paper says of them; the JSON has it of all measures.
    fn write_contrasts(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let said = self.contrasts.iter().filter(|of| ["polyphony", "velocity_variance"].contains(&of.measure));
        for (i, Contrast { measure, genre, against, generated, real }) in said.enumerate() {
            if i == 0 {
                writeln!(f, "\ngenres beside each other: difference of the means of pieces, with 95 % intervals")?;
            }
            let difference = |of: &Option<Difference>| {
                of.as_ref().map_or("-".into(), |Difference { mean, interval: [low, high] }| {
                    format!("{} ({} to {})", figure(*mean), figure(*low), figure(*high))
                })
            };
            let (label, generated, real) = (label(measure), difference(generated), difference(real));
            writeln!(f, "{label:20} {genre} less {against}: generated {generated}, real {real}")?;
        }
        Ok(())
    }

    fn line(
        &self,
        f: &mut fmt::Formatter,
        label: &str,
        unit: &str,
        row: &Row,
        like: Option<Similarity>,
    ) -> fmt::Result {
        let real = |of: fn(&Percentiles) -> f64| row.real.as_ref().map_or(String::new(), |real| figure(of(real)));
        let inside = |within: Option<bool>| within.map_or("", |within| if within { "yes" } else { "no" });
        // Of copies fewer are better, not as many as there are in real pieces.
        let copy = row.measure == "longest_copy";
        let [quartiles, extremes] =
            [row.within_quartiles, row.within_extremes].map(|within| if copy { "" } else { inside(within) });
        let line = format!(
            "{label:20} {unit:>10} {:>9}  {:>8} {:>8} {:>8} {:>8} {:>8}  {quartiles:>5} {extremes:>4}  {:>7} {:>7}",
            row.generated.map_or("-".into(), |of| figure(of.median)),
            real(|of| of.p1),
            real(|of| of.p25),
            real(|of| of.median),
            real(|of| of.p75),
            real(|of| of.p99),
            like.map_or(String::new(), |like| figure(like.overlap)),
            like.map_or(String::new(), |like| figure(like.divergence)),
        );
        let undefined = match (row.generated_undefined, row.real_undefined) {
            (0, 0) => String::new(),
            (generated, real) => format!("  (undefined for {generated} generated, {real} real)"),
        };
        writeln!(f, "{}{undefined}", line.trim_end())
    }
}

impl fmt::Display for Report {
    /// The tables for people.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let length = match self.bars {
            0 => "whole pieces".into(),
            bars => format!("excerpts of {bars} bars of 16 time steps"),
        };
        writeln!(f, "{}, notes {}", length, self.notes)?;
        for (kind, side, cut) in
            [("generated", &self.generated, &self.generated_cut), ("real", &self.real, &self.real_cut)]
        {
            let Cut { pieces, excerpts, shorter, steps_left_over } = cut;
            write!(f, "{kind}: {pieces} pieces of {}, {excerpts} excerpts", side.place)?;
            if *shorter > 0 {
                write!(f, "; {shorter} pieces are shorter")?;
            }
            if *steps_left_over > 0 {
                write!(f, "; {} bars at the ends of pieces are in none", steps_left_over.div_ceil(BAR))?;
            }
            writeln!(f)?;
        }
        for group in &self.groups {
            writeln!(f)?;
            self.table(f, group)?;
        }
        self.write_contrasts(f)?;
        for Frechet { genre, generated, real, distance, among_real } in &self.frechet {
            let genre = genre.as_deref().unwrap_or("all pieces");
            let among = among_real.map_or(String::new(), |among| format!(", of real ones among each other {among:.2}"));
            writeln!(
                f,
                "{genre}: Fréchet distance over the classifier's features {distance:.2}{among} ({generated} generated, {real} real \
                 pieces)"
            )?;
        }
        let Some(copies) = &self.copies else { return Ok(()) };
        writeln!(f)?;
        let Copies { place, sources, bound, .. } = copies;
        writeln!(
            f,
            "passages shared with {sources} pieces of {place} (of {ONSETS} onsets, {DISTINCT} of them different, and more):"
        )?;
        let mut pieces: Vec<&Copied> = copies.pieces.iter().filter(|piece| piece.passage.is_some()).collect();
        pieces.sort_by(|a, b| bars(b.passage.as_ref()).total_cmp(&bars(a.passage.as_ref())));
        const MOST: usize = 10;
        for Copied { file, passage, source } in pieces.iter().take(MOST) {
            let (Some(passage), Some(source)) = (passage, source) else { continue };
            let beyond = if passage.bars > *bound { "  (beyond the bound)" } else { "" };
            writeln!(f, "  {file}, {}{beyond}", described(passage, source))?;
        }
        if pieces.is_empty() {
            writeln!(f, "  none")?;
        } else if pieces.len() > MOST {
            writeln!(f, "  and {} more pieces share shorter ones", pieces.len() - MOST)?;
        }
        Ok(())
    }
}

/// `bar 3: 2.5 bars (20 onsets) of baroque/bach/1.mid, bar 17, 5 semitones lower`.
pub fn described(passage: &Passage, source: &str) -> String {
    let Passage { bars, onsets, bar, other_bar, transposition, .. } = passage;
    let mut text = format!("bar {bar}: {} bars ({onsets} onsets) of {source}, bar {other_bar}", figure(*bars));
    let semitones = transposition.unsigned_abs();
    let plural = if semitones == 1 { "" } else { "s" };
    let _ = match transposition.signum() {
        0 => Ok(()),
        1 => write!(text, ", {semitones} semitone{plural} higher"),
        _ => write!(text, ", {semitones} semitone{plural} lower"),
    };
    text
}

fn size(size: &Size) -> String {
    let Size { pieces, excerpts } = size;
    match pieces == excerpts {
        true => format!("{pieces} pieces"),
        false => format!("{excerpts} excerpts of {pieces} pieces"),
    }
}

fn label(key: &str) -> &'static str {
    MEASURES.iter().find(|measure| measure.key == key).map_or("longest copy", |measure| measure.label)
}

fn unit(key: &str) -> &'static str {
    MEASURES.iter().find(|measure| measure.key == key).map_or("bars", |measure| measure.unit)
}

fn percentiles(of: Option<Percentiles>, undefined: usize) -> impl Iterator<Item = String> {
    let numbers = match of {
        Some(Percentiles { mean, p1, p25, median, p75, p99, .. }) => {
            [mean, p1, p25, median, p75, p99].map(|x| x.to_string())
        }
        None => [const { String::new() }; 6],
    };
    [of.map_or(0, |of| of.count), undefined].map(|count| count.to_string()).into_iter().chain(numbers)
}

fn distance_fields(distances: Option<Distances>) -> [String; 7] {
    let text = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
    let similarity = |of: fn(&Distances) -> Option<Similarity>| distances.as_ref().and_then(of);
    let (generated, real) = (similarity(|of| of.generated), similarity(|of| of.real));
    [
        text(distances.map(|of| of.within_generated.mean)),
        text(distances.map(|of| of.within_real.mean)),
        text(distances.map(|of| of.between.mean)),
        text(generated.map(|of| of.overlap)),
        text(generated.map(|of| of.divergence)),
        text(real.map(|of| of.overlap)),
        text(real.map(|of| of.divergence)),
    ]
}

/// Three digits behind the point of small numbers, fewer of large ones.
fn figure(value: f64) -> String {
    let digits = match value.abs() {
        100.0.. => 1,
        10.0.. => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}
