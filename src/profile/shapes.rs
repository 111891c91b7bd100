//! Ops by name and shape, as `deepj profile op NAME --shape FIELD=VALUE,…` asks for them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{Error, Result, nearest};
use crate::gpu::Format;
use crate::models::TypicalSizes;
use crate::nn::optimizer::{adadelta, nadam};
use crate::ops::biaxial_features::BiaxialFeatures;
use crate::ops::dropout::{Dropout, DropoutSite};
use crate::ops::features::{Features, FeaturesGrad};
use crate::ops::gemm::{Activation, Gemm, Layout, padded_width};
use crate::ops::heads::{self, HeadSet, Heads, HeadsInputGrad, HeadsWeightGrad};
use crate::ops::lstm::{Lstm, LstmGates, LstmGrad};
use crate::ops::lstm_pair::{LstmPair, LstmPairGrad, Pair};
use crate::ops::neighbours::Neighbours;
use crate::ops::note_input::{NoteInput, NoteInputGrad};
use crate::ops::note_sweep::{NoteSweep, Offsets};
use crate::ops::octave_conv::{self, OctaveConv, OctaveConvInputGrad, OctaveConvWeightGrad};
use crate::ops::reduce::{BroadcastRows, SquaredNorm, SumRows};
use crate::ops::softmax_loss::{SoftmaxLoss, SoftmaxLossGrad};
use crate::ops::{
    Op, RowGroups, adadelta::Adadelta, add::Add, carry, cast::Cast, ema::Ema, nadam::Nadam, tanh_grad::TanhGrad,
};

/// The largest operand: its elements must be countable by 32-bit words.
const MOST_ELEMENTS: usize = u32::MAX as usize;
/// The most work that sizes may multiply to, far beyond what runs in minutes.
const MOST_WORK: f64 = 1e15;

/// The fields of a shape that the user gave, and those that were asked for.
struct Fields {
    given: BTreeMap<String, String>,
    known: RefCell<BTreeSet<&'static str>>,
    /// Product of all sizes.
    work: RefCell<f64>,
}

impl Fields {
    fn parse(shape: &str) -> Result<Self> {
        let mut given = BTreeMap::new();
        for part in shape.split(',').filter(|part| !part.trim().is_empty()) {
            let Some((name, value)) = part.split_once('=') else {
                let what = format!("--shape {shape}: `{part}` has no `=`");
                return Err(Error::usage(what, "give for example --shape m=768,n=1024,k=256"));
            };
            if given.insert(name.trim().to_string(), value.trim().to_string()).is_some() {
                return Err(Error::usage(format!("--shape {shape}: `{}` is given twice", name.trim()), "give it once"));
            }
        }
        Ok(Self { given, known: RefCell::default(), work: RefCell::new(1.0) })
    }

    /// The value of a field, or `default` where it is not given.
    fn get<T: FromStr>(&self, name: &'static str, default: T, wanted: &str) -> Result<T> {
        self.known.borrow_mut().insert(name);
        let Some(value) = self.given.get(name) else { return Ok(default) };
        value.parse().map_err(|_| Error::usage(format!("--shape {name}={value}"), format!("{name} is {wanted}")))
    }

    fn size(&self, name: &'static str, default: usize) -> Result<usize> {
        let size = self.get(name, default, "a number from 1 on")?;
        if size == 0 || size > MOST_ELEMENTS {
            return Err(Error::usage(format!("--shape {name}={size}"), format!("give 1 to {MOST_ELEMENTS}")));
        }
        *self.work.borrow_mut() *= size as f64;
        if *self.work.borrow() > MOST_WORK {
            return Err(Error::usage("--shape: the op is too large", "give smaller sizes"));
        }
        Ok(size)
    }

    fn flag(&self, name: &'static str) -> Result<bool> {
        self.get(name, false, "true or false")
    }

    /// What a field's value stands for, or the first of `choices` where it is not given.
    fn one_of<T: Copy>(&self, name: &'static str, choices: &[(&str, T)]) -> Result<T> {
        self.known.borrow_mut().insert(name);
        let value = self.given.get(name).map_or(choices[0].0, String::as_str);
        let known = || choices.iter().map(|(name, _)| *name).collect();
        let chosen = choices.iter().find(|(choice, _)| *choice == value).map(|(_, choice)| *choice);
        chosen.ok_or_else(|| Error::usage(format!("--shape {name}={value}"), nearest(value, known())))
    }

    fn format(&self, name: &'static str) -> Result<Format> {
        self.one_of(name, &[("f32", Format::F32), ("f16", Format::F16)])
    }
}

/// Makes an op of a network's sizes, `batch` pieces and `steps` time steps, where fields do not say otherwise.
type Make = fn(&Fields, &TypicalSizes, usize, usize) -> Result<Arc<dyn Op>>;

/// The kernels by name, and the name of their op.
const KERNELS: [(&str, &str, Make); 25] = [
    ("adadelta", "adadelta", |f, _, _, _| {
        let adadelta::Adadelta { rho, epsilon, .. } = adadelta::Adadelta::default();
        Ok(Arc::new(Adadelta { len: f.size("len", 1 << 20)?, rho: rho as f32, epsilon: epsilon as f32 }))
    }),
    ("add", "add", |f, c, b, t| {
        Ok(Arc::new(Add { len: f.size("len", b * t * c.notes * c.time_units)?, stored: f.format("format")? }))
    }),
    ("biaxial_features", "biaxial_features", |f, c, b, t| {
        let (steps, batch, notes) = (f.size("steps", t)?, f.size("batch", b)?, f.size("notes", c.notes)?);
        Ok(Arc::new(BiaxialFeatures { steps, batch, notes, lowest: c.lowest, stored: f.format("format")? }))
    }),
    ("carry", "carry", |f, c, b, _| {
        let groups = RowGroups { inner: c.notes, sequences: b };
        let source = f.one_of("source", &[("keep", carry::Source::Keep(groups)), ("zero", carry::Source::Zero)])?;
        let (rows, width) = (f.size("rows", b * c.notes)?, f.size("width", c.time_units)?);
        Ok(Arc::new(carry::Carry { rows, width, source, stored: [f.format("from")?, f.format("to")?] }))
    }),
    ("cast", "cast", |f, c, b, t| {
        let to = f.one_of("to", &[("f16", Format::F16), ("f32", Format::F32)])?;
        Ok(Arc::new(Cast { len: f.size("len", b * t * c.notes * c.time_units)?, from: f.format("from")?, to }))
    }),
    ("dropout", "dropout", |f, c, b, t| {
        let rate = f.get("rate", c.dropout, "a number from 0 to below 1")?;
        if !(0.0..1.0).contains(&rate) {
            return Err(Error::usage(format!("--shape rate={rate}"), "rate is a number from 0 to below 1"));
        }
        let drop = DropoutSite { site: 1, rate, inner: 1 };
        Ok(Arc::new(Dropout { len: f.size("len", b * t * c.notes * c.time_units)?, drop, stored: f.format("format")? }))
    }),
    ("ema", "ema", |f, _, _, _| Ok(Arc::new(Ema { len: f.size("len", 1 << 20)?, decay: 0.999 }))),
    ("features", "features", |f, c, b, t| {
        let op = Features {
            steps: f.size("steps", t)?,
            batch: f.size("batch", b)?,
            notes: f.size("notes", c.notes)?,
            channels: c.channels,
            lowest: c.lowest,
            octave: f.size("octave", c.filters)?,
            beats: f.size("beats", c.beats)?,
            octave_drop: DropoutSite { site: 1, rate: c.dropout, inner: 1 },
            beat_drop: DropoutSite { site: 2, rate: c.input_dropout, inner: 1 },
            stored: f.format("format")?,
        };
        Ok(if backward(f)? { Arc::new(FeaturesGrad(op)) } else { Arc::new(op) })
    }),
    ("gemm", "gemm", |f, c, b, t| {
        let layout = f.one_of("layout", &[("NN", Layout::NN), ("NT", Layout::NT), ("TN", Layout::TN)])?;
        let m = f.size("m", b * t * c.notes)?;
        let product = Gemm::new(layout, m, f.size("n", 4 * c.time_units)?, f.size("k", c.time_units)?);
        let bias = f.flag("bias")?.then_some(RowGroups { inner: 1, sequences: 1 });
        let activation = if f.flag("tanh")? { Activation::Tanh } else { Activation::Identity };
        let accumulate = f.flag("accumulate")?;
        if accumulate && (bias.is_some() || activation == Activation::Tanh) {
            return Err(Error::usage("--shape accumulate=true with a bias or tanh", "a product that adds has neither"));
        }
        // As a layer of a width that vectors do not divide has it: its input's rows are padded, and those of that one's gradient.
        let strides = match (f.flag("padded")?, layout, product.strides) {
            (false, _, strides) => strides,
            (true, Layout::NT, [a, c]) => [a, padded_width(c)],
            (true, _, [a, c]) => [padded_width(a), c],
        };
        let formats = [f.format("a")?, f.format("b")?, f.format("c")?];
        Ok(Arc::new(Gemm { bias, activation, accumulate, ..product.padded(strides).of(formats) }))
    }),
    ("heads", "heads", |f, c, b, t| {
        let heads = if c.channels == 2 { HeadSet::notes(c.masked) } else { HeadSet::performance(c.masked) };
        let (rows, notes) = (f.size("rows", b * t)?, f.size("notes", c.notes)?);
        let units = f.size("units", c.upper_units)?;
        let drop = DropoutSite { site: 1, rate: c.dropout, inner: units };
        let shape = heads::Shape { rows, notes, units, heads, drop, stored: f.format("format")? };
        Ok(match f.one_of("pass", &[("forward", 0), ("input-gradient", 1), ("weight-gradient", 2)])? {
            0 => Arc::new(Heads(shape)),
            1 => Arc::new(HeadsInputGrad(shape)),
            _ => Arc::new(HeadsWeightGrad(shape)),
        })
    }),
    ("lstm_fwd", "lstm", |f, c, b, t| {
        let (steps, rows, units, weights, stored) = recurrence(f, c, b, t)?;
        Ok(Arc::new(Lstm { steps, rows, units, weights, stored }))
    }),
    ("lstm_bwd", "lstm", |f, c, b, t| {
        let (steps, rows, units, weights, stored) = recurrence(f, c, b, t)?;
        Ok(Arc::new(LstmGrad { steps, rows, units, weights, stored }))
    }),
    ("lstm_gates", "lstm", |f, c, b, t| {
        let rows = f.size("steps", t)? * f.size("rows", b * c.notes)?;
        Ok(Arc::new(LstmGates { rows, units: f.size("units", c.time_units)?, stored: f.format("format")? }))
    }),
    ("lstm_pair_fwd", "lstm_pair", |f, c, b, t| {
        let groups = RowGroups { inner: 1, sequences: 1 };
        Ok(Arc::new(LstmPair { pair: pair(f, c, b, t)?, groups }))
    }),
    ("lstm_pair_bwd", "lstm_pair", |f, c, b, t| Ok(Arc::new(LstmPairGrad { pair: pair(f, c, b, t)? }))),
    ("nadam", "nadam", |f, _, _, _| {
        let nadam::Nadam { beta1, beta2, epsilon, .. } = nadam::Nadam::default();
        let [beta1, beta2, epsilon] = [beta1, beta2, epsilon].map(|x| x as f32);
        Ok(Arc::new(Nadam { len: f.size("len", 1 << 20)?, beta1, beta2, epsilon }))
    }),
    ("neighbours", "neighbours", |f, c, b, t| {
        let octave_conv::Shape { rows, notes, channels, taps, .. } = octave(f, c, b, t)?;
        Ok(Arc::new(Neighbours { rows, notes, channels, taps }))
    }),
    ("note_input", "note_input", |f, c, b, t| {
        let (rows, notes) = (f.size("rows", b * t)?, f.size("notes", c.notes)?);
        let units = f.size("units", c.time_units)?;
        let drop = DropoutSite { site: 1, rate: c.dropout, inner: 1 };
        let chosen_drop = DropoutSite { site: 2, rate: c.input_dropout, inner: 1 };
        let stored = f.format("format")?;
        let op = NoteInput { rows, notes, units, channels: c.channels, drop, chosen_drop, stored };
        Ok(if backward(f)? { Arc::new(NoteInputGrad(op)) } else { Arc::new(op) })
    }),
    ("note_sweep", "note_sweep", |f, c, b, t| {
        let (pieces, notes) = (f.size("pieces", b)?, f.size("notes", c.notes)?);
        let lower = f.size("units", c.note_units)?;
        let upper = f.size("upper-units", if lower == c.note_units { c.upper_units } else { lower })?;
        let channels = f.size("channels", c.channels)?;
        let recurrent1 = 4 * lower * channels;
        let input2 = recurrent1 + 4 * lower * lower;
        let recurrent2 = input2 + 4 * lower * upper;
        let head = recurrent2 + 4 * upper * upper;
        let categorical = f.one_of("dynamics", &[("scalar", false), ("categorical", true)])?;
        let bins = if categorical { velocities(f)? } else { 0 };
        let heads = if bins > 0 { channels - 1 } else { channels };
        let head_bias = head + upper * heads;
        let at_bins = head_bias + heads;
        let bins_bias = at_bins + upper * bins;
        let offsets = Offsets { chosen: 0, recurrent1, input2, recurrent2, head, head_bias, bins: at_bins, bins_bias };
        let (window, weights, units) = (f.size("window", t)?, bins_bias + bins, [lower, upper]);
        Ok(Arc::new(NoteSweep { pieces, notes, units, channels, bins, window, weights, offsets }))
    }),
    ("octave_conv_fwd", "octave_conv", |f, c, b, t| Ok(Arc::new(OctaveConv(octave(f, c, b, t)?)))),
    ("octave_conv_weight_grad", "octave_conv", |f, c, b, t| Ok(Arc::new(OctaveConvWeightGrad(octave(f, c, b, t)?)))),
    ("octave_conv_input_grad", "octave_conv", |f, c, b, t| Ok(Arc::new(OctaveConvInputGrad(octave(f, c, b, t)?)))),
    ("reduce", "reduce", |f, c, b, t| {
        let groups = RowGroups { inner: 1, sequences: f.size("sequences", 1)? };
        let (rows, cols) = (f.size("rows", b * t * c.notes)?, f.size("cols", 4 * c.time_units)?);
        Ok(match f.one_of("what", &[("sum", 0), ("broadcast", 1), ("squared-norm", 2)])? {
            0 => Arc::new(SumRows::new(rows, cols, groups).of(f.format("format")?)),
            1 => Arc::new(BroadcastRows { rows, cols, groups }),
            _ => Arc::new(SquaredNorm { len: rows * cols }),
        })
    }),
    ("softmax_loss", "softmax_loss", |f, c, b, t| {
        let (rows, notes, bins) = (f.size("rows", b * t)?, f.size("notes", c.notes)?, velocities(f)?);
        let op = SoftmaxLoss { rows, notes, bins, channels: c.channels, channel: c.channels - 1, masked: c.masked };
        Ok(if backward(f)? { Arc::new(SoftmaxLossGrad(op)) } else { Arc::new(op) })
    }),
    ("tanh_grad", "tanh_grad", |f, c, b, t| {
        Ok(Arc::new(TanhGrad { len: f.size("len", b * t * c.notes * c.filters)? }))
    }),
];

/// Bins of a distribution over velocities.
fn velocities(f: &Fields) -> Result<usize> {
    match f.size("bins", 128)? {
        1 => Err(Error::usage("--shape bins=1", "give at least 2")),
        bins => Ok(bins),
    }
}

fn backward(f: &Fields) -> Result<bool> {
    f.one_of("pass", &[("forward", false), ("backward", true)])
}

type Recurrence = (usize, usize, usize, Format, Format);

/// Two LSTM layers of the time axis, their weights one behind the other.
fn pair(f: &Fields, c: &TypicalSizes, batch: usize, steps: usize) -> Result<Pair> {
    let (steps, rows, lower, weights_in, stored) = recurrence(f, c, batch, steps)?;
    let upper = f.size("upper", lower)?;
    if [lower, upper].iter().any(|units| !units.is_multiple_of(Pair::UNITS)) {
        let what = format!("--shape units={lower},upper={upper}: layers run one after the other");
        return Err(Error::usage(what, format!("give multiples of {}", Pair::UNITS)));
    }
    let [recurrent, input, upper_recurrent] = [lower * 4 * lower, lower * 4 * upper, upper * 4 * upper];
    Ok(Pair {
        steps,
        rows,
        units: [lower, upper],
        weights_len: recurrent + input + upper_recurrent,
        weights: [0, recurrent, recurrent + input],
        drop: DropoutSite { site: 1, rate: c.dropout, inner: lower },
        weights_in,
        stored,
    })
}

fn recurrence(f: &Fields, c: &TypicalSizes, b: usize, t: usize) -> Result<Recurrence> {
    let (steps, rows) = (f.size("steps", t)?, f.size("rows", b * c.notes)?);
    Ok((steps, rows, f.size("units", c.time_units)?, f.format("weights")?, f.format("format")?))
}

fn octave(f: &Fields, c: &TypicalSizes, b: usize, t: usize) -> Result<octave_conv::Shape> {
    let (rows, notes) = (f.size("rows", b * t)?, f.size("notes", c.notes)?);
    let (taps, filters) = (f.size("taps", c.taps)?, f.size("filters", c.filters)?);
    if taps.is_multiple_of(2) {
        return Err(Error::usage(format!("--shape taps={taps}"), "taps is an odd number"));
    }
    Ok(octave_conv::Shape { rows, notes, channels: f.size("channels", c.channels)?, taps, filters })
}

/// The kernels that `name`, a kernel's or an op's, stands for.
///
/// # Errors
/// Another name; the error has the nearest.
fn named(name: &str) -> Result<Vec<(&'static str, Make)>> {
    let found = KERNELS.iter().filter(|(kernel, op, _)| [*kernel, *op].contains(&name));
    let found: Vec<_> = found.map(|(kernel, _, make)| (*kernel, *make)).collect();
    if found.is_empty() {
        let known = KERNELS.iter().flat_map(|(kernel, op, _)| [*kernel, *op]).collect();
        return Err(Error::usage(format!("there is no op `{name}`"), nearest(name, known)));
    }
    Ok(found)
}

/// Fails on a name that no op or kernel has.
///
/// # Errors
/// It has the nearest.
pub fn check_name(name: &str) -> Result<()> {
    named(name).map(|_| ())
}

/// The ops that `name`, a kernel's or an op's, stands for, in the given shape. Sizes that it leaves open are those of
/// `config` with `batch` pieces and `steps` time steps.
///
/// # Errors
/// Unknown names and fields, with the nearest; values that no op can have.
pub fn shaped(
    name: &str,
    shape: &str,
    config: &TypicalSizes,
    (batch, steps): (usize, usize),
) -> Result<Vec<Arc<dyn Op>>> {
    let fields = Fields::parse(shape)?;
    let mut ops = vec![];
    for (_, make) in named(name)? {
        *fields.work.borrow_mut() = 1.0;
        ops.push(make(&fields, config, batch, steps)?);
    }
    let known = fields.known.into_inner();
    if let Some(unknown) = fields.given.keys().find(|field| !known.contains(field.as_str())) {
        return Err(Error::usage(format!("--shape: `{name}` has no field `{unknown}`"), nearest(unknown, known)));
    }
    for op in &ops {
        if let Some(arg) = op.args().iter().find(|arg| arg.len > MOST_ELEMENTS) {
            let what = format!("{}: `{}` has {} elements", op.label(), arg.name, arg.len);
            return Err(Error::usage(what, format!("at most {MOST_ELEMENTS} can be addressed; give smaller sizes")));
        }
    }
    Ok(ops)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Capabilities;
    use crate::models::deepj::{Config, DeepJ, Preset};
    use crate::models::{Model, PlanOptions};
    use crate::nn::optimizer::nadam::Nadam;
    use crate::profile::workload::training_plan;

    fn sizes() -> TypicalSizes {
        DeepJ::new(Config::preset(Preset::Small, 3)).unwrap().typical_sizes()
    }

    #[test]
    fn every_kernel_of_the_plans_has_a_shape_and_the_default_is_legal() {
        let (model, sizes) = (DeepJ::new(Config::preset(Preset::Small, 3)).unwrap(), sizes());
        let (pairs, portable) = (PlanOptions { pairs: true, ..PlanOptions::default() }, Capabilities::portable());
        let plans = [
            training_plan(&model, &Nadam::default(), Default::default(), (2, 3), None).unwrap().0,
            training_plan(&model, &Nadam::default(), pairs, (2, 3), Some(&portable)).unwrap().0,
            model.generation(2, 3).unwrap().compile().0,
        ];
        assert!(plans[1].nodes.iter().any(|node| node.op.name() == "lstm_pair"));
        for node in plans.iter().flat_map(|plan| &plan.nodes) {
            let made = shaped(node.op.kernel(), "", &sizes, (2, 3)).unwrap();
            assert!(made.iter().any(|op| op.kernel() == node.op.kernel()), "{}", node.op.kernel());
        }
        for (kernel, op, _) in KERNELS {
            let [made] = shaped(kernel, "", &sizes, (2, 3)).unwrap().try_into().unwrap();
            assert_eq!((made.kernel(), made.name()), (kernel, op));
            assert!(!made.supported(&portable).is_empty() || kernel == "cast", "{kernel}");
        }
    }

    #[test]
    fn shapes_are_taken_from_the_fields() {
        let shape = " m=768, n=1024 ,k=256,layout=TN,accumulate=true";
        let [op] = shaped("gemm", shape, &sizes(), (1, 1)).unwrap().try_into().unwrap();
        assert_eq!(op.label(), "gemm TN 768x1024x256 accumulate");
        let ops = shaped("lstm", "rows=48,steps=16,units=256", &sizes(), (1, 1)).unwrap();
        assert_eq!(ops.iter().map(|op| op.kernel()).collect::<Vec<_>>(), ["lstm_fwd", "lstm_bwd", "lstm_gates"]);
    }

    #[test]
    fn what_is_wrong_is_named_with_what_would_be_right() {
        for (name, shape, what, remedy) in [
            ("gem", "", "`gem`", "`gemm`"),
            ("gemm", "m", "`m` has no `=`", "m=768"),
            ("gemm", "m=1,m=2", "twice", "once"),
            ("gemm", "rows=3", "no field `rows`", "m"),
            ("gemm", "m=0", "m=0", "1 to"),
            ("gemm", "m=-3", "m=-3", "number"),
            ("gemm", "layout=TT", "layout=TT", "TN"),
            ("gemm", "m=4000000000,n=4000000000", "too large", "smaller"),
            ("gemm", "m=1000000,n=1000000,k=1", "elements", "smaller"),
            ("gemm", "accumulate=true,bias=true", "accumulate", "neither"),
            ("octave_conv", "taps=4", "taps=4", "odd"),
            ("dropout", "rate=1.5", "rate=1.5", "below 1"),
            ("lstm_fwd", "format=f64", "format=f64", "f16"),
        ] {
            let error = shaped(name, shape, &sizes(), (1, 1)).map(|_| ()).unwrap_err();
            assert!(error.what.contains(what) && error.remedy.contains(remedy), "{name} {shape}: {error}");
        }
    }
}
