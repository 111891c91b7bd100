//! A case: an op with its shape, how its operands are filled, and the naive loops that its f64 reference is held against.

use std::fmt;
use std::sync::OnceLock;

use crate::gpu::{Access, Capabilities, WatchdogBudget};
use crate::ops::random::{pcg4d, uniform01};
use crate::ops::{self, Args, Cost, Op, Uniforms};

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::bounded::{Bounded, ROUNDOFF, counted, within};
use super::comparison::{Margin, UNWRITTEN, compare, held, is_unwritten};
use super::operands::Operands;

/// What an operand holds before the op runs.
#[derive(Clone, Debug)]
pub enum Fill {
    /// Nothing yet: a NaN, which shows in the result of an op that reads it.
    Unwritten,
    /// Uniform in `[-x, x)`.
    Within(f32),
    /// Uniform in `[low, high)`.
    Uniform(f32, f32),
    /// Of either sign, the magnitude's logarithm uniform between those of these two.
    Magnitudes(f32, f32),
    /// The same everywhere.
    Constant(f32),
    /// `-x` or `x`.
    Signs(f32),
    /// 1 with this probability, else 0.
    Bits(f32),
    /// Triples of play (1 with this probability), replay and dynamics, both 0 where play is.
    Roll(f32),
    /// Activated gates i, f, g, o of so many units: g in `(-1, 1)`, the others in `(0, 1)`.
    Gates(usize),
    /// These.
    Values(Vec<f32>),
    /// So many elements in the first way, all others in the second.
    First(usize, Box<Fill>, Box<Fill>),
    /// Rows of so many elements in this way, padded with zeros to so many.
    Padded([usize; 2], Box<Fill>),
}

impl Fill {
    /// So many elements in this way, all others unwritten.
    pub fn only_first(self, count: usize) -> Self {
        Fill::First(count, Box::new(self), Box::new(Fill::Unwritten))
    }

    /// Rows of so many elements in this way, padded with zeros to so many.
    pub fn in_rows(self, columns: usize, row: usize) -> Self {
        Fill::Padded([columns, row], Box::new(self))
    }

    /// Element `i`, a function of `i` and `key`.
    fn element(&self, i: usize, key: [u32; 2]) -> f32 {
        let random = |index: usize, word: usize| uniform01(pcg4d([index as u32, 0x7e57, key[0], key[1]])[word]);
        let r = random(i, 0);
        match self {
            Fill::Unwritten => f32::from_bits(UNWRITTEN),
            Fill::Within(x) => (2.0 * r - 1.0) * x,
            Fill::Uniform(low, high) => low + r * (high - low),
            Fill::Magnitudes(low, high) => (low * (high / low).powf(r)).copysign(random(i, 1) - 0.5),
            Fill::Constant(x) => *x,
            Fill::Signs(x) => x.copysign(r - 0.5),
            Fill::Bits(p) => f32::from(r < *p),
            Fill::Roll(p) => {
                let triple = i / 3 * 3;
                let play = random(triple, 0) < *p;
                match i % 3 {
                    0 => f32::from(play),
                    1 => f32::from(play && random(triple, 1) < 0.3),
                    _ => f32::from(play) * random(triple, 2),
                }
            }
            Fill::Gates(units) => {
                if i / units % 4 == 2 {
                    2.0 * r - 1.0
                } else {
                    r
                }
            }
            Fill::Values(values) => values[i],
            Fill::Padded([columns, row], fill) => {
                if i % row < *columns {
                    fill.element(i, key)
                } else {
                    0.0
                }
            }
            Fill::First(count, first, rest) => if i < *count { first } else { rest }.element(i, key),
        }
    }
}

/// What the op must make of a case's operands.
pub struct Oracle {
    /// All operands before the run, in the order of [`Op::args`].
    pub inputs: Vec<Vec<f32>>,
    /// The written operands after the run, in the order of [`Op::args`]: the f64 reference's values, the naive
    /// loops' bounds.
    pub wanted: Vec<Vec<Bounded>>,
    /// Operations of the naive loops, and what they read and wrote.
    counted: Cost,
}

/// Makes a device's capabilities those of a lesser one.
type Limits = dyn Fn(&mut Capabilities) + Send + Sync;

type Naive = dyn Fn(&Operands<'_>) -> Vec<Vec<Bounded>> + Send + Sync;

/// One op with its operands.
pub struct Case {
    /// The op with its shape.
    pub op: Box<dyn Op>,
    /// The run's uniforms.
    pub uniforms: Uniforms,
    note: String,
    fills: Vec<Option<Fill>>,
    naive: Box<Naive>,
    limits: Option<Box<Limits>>,
    /// Whether the results have the same bits without the limits.
    same_bits: bool,
    shortcut: bool,
    /// What operands' starts are multiples of.
    alignment: usize,
    oracle: OnceLock<Result<Oracle, String>>,
}

impl Case {
    /// A case of `op`. `naive` takes the operands and returns what the written ones must be, in their order.
    pub fn new<O: Op + Clone + 'static>(op: O, naive: fn(&O, &Operands<'_>) -> Vec<Vec<Bounded>>) -> Self {
        let copy = op.clone();
        Self {
            fills: op.args().iter().map(|_| None).collect(),
            op: Box::new(op),
            uniforms: Uniforms { seed: 0x5eed, update: 3, ..Uniforms::default() },
            note: String::new(),
            naive: Box::new(move |operands| naive(&copy, operands)),
            limits: None,
            same_bits: false,
            shortcut: false,
            alignment: 1,
            oracle: OnceLock::new(),
        }
    }

    /// Fills the operand of this name. Every operand that is read needs a fill; one that is written may do without.
    pub fn fill(mut self, name: &str, fill: Fill) -> Self {
        let place = self.op.args().iter().position(|arg| arg.name == name);
        self.fills[place.unwrap_or_else(|| panic!("{}: no operand `{name}`", self.op.label()))] = Some(fill);
        self
    }

    /// What is special about this case, for its name.
    pub fn note(mut self, note: &str) -> Self {
        self.note = format!(" {note}");
        self
    }

    /// The run's uniforms.
    pub fn uniforms(mut self, uniforms: Uniforms) -> Self {
        self.uniforms = uniforms;
        self
    }

    /// Records the op as for an adapter that binds at most 64 KiB of a buffer, so that small shapes are cut as large ones
    /// are elsewhere.
    pub fn small_bindings(mut self) -> Self {
        self.note.push_str(" 64 KiB bindings");
        self.limits = Some(Box::new(|capabilities| capabilities.max_storage_buffer_binding_size = 1 << 16));
        self
    }

    /// Records the op as for an adapter whose grids are at most 17 workgroups wide, so that lines of them are folded.
    pub fn small_grid(mut self) -> Self {
        self.note.push_str(" 17 workgroups a side");
        self.limits = Some(Box::new(|capabilities| capabilities.max_compute_workgroups_per_dimension = 17));
        self
    }

    /// Records the op as for an adapter so slow that a dispatch may do a third of it at most, which changes no bit.
    pub fn small_budget(mut self) -> Self {
        self.note.push_str(" in thirds");
        self.same_bits = true;
        let Cost { flops, bytes } = self.op.cost();
        let [flops, bytes] = [flops, bytes].map(|all| all.div_ceil(3).max(1));
        self.limits =
            Some(Box::new(move |capabilities| capabilities.budget = Some(WatchdogBudget { flops, bytes, groups: 1 })));
        self
    }

    /// The op does less here than its cost, which knows shapes alone, can say.
    pub fn shortcut(mut self) -> Self {
        self.shortcut = true;
        self
    }

    /// The op is cut into parts of a sum, which comes to other bits.
    pub fn sums_parts(mut self) -> Self {
        self.same_bits = false;
        self
    }

    /// The op reads vectors of four: its operands begin at multiples of as many elements, as those of a plan do.
    pub fn by_vectors(mut self) -> Self {
        self.alignment = 4;
        self
    }

    /// What the operands' starts are multiples of.
    pub fn alignment(&self) -> usize {
        self.alignment
    }

    /// Whether the results must have the same bits as those of the op recorded for the device as it is.
    pub fn has_same_bits(&self) -> bool {
        self.same_bits
    }

    /// Whether the op is recorded as for a lesser device.
    pub fn is_limited(&self) -> bool {
        self.limits.is_some()
    }

    /// The capabilities that the op is recorded for on a device with these.
    pub fn limited(&self, capabilities: &Capabilities) -> Capabilities {
        let mut limited = capabilities.clone();
        if let Some(limits) = &self.limits {
            limits(&mut limited);
        }
        limited
    }

    fn inputs(&self) -> Vec<Vec<f32>> {
        let label = self.to_string();
        let seed = label.bytes().fold(2_166_136_261, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(16_777_619));
        (self.op.args().iter().zip(&self.fills).enumerate())
            .map(|(operand, (arg, fill))| {
                let fill = match (fill, arg.access) {
                    (Some(fill), _) => fill,
                    (None, Access::ReadWrite) => &Fill::Unwritten,
                    (None, Access::Read) => panic!("{label}: operand `{}` has no fill", arg.name),
                };
                (0..arg.len).map(|i| held(fill.element(i, [operand as u32, seed]), arg.format)).collect()
            })
            .collect()
    }

    /// What the op must give: from its f64 reference, which is held against the naive loops here.
    ///
    /// # Errors
    /// Where the two differ.
    pub fn oracle(&self) -> Result<&Oracle, String> {
        self.oracle.get_or_init(|| self.consult()).as_ref().map_err(Clone::clone)
    }

    fn consult(&self) -> Result<Oracle, String> {
        let inputs = self.inputs();
        let (mut wanted, counted) = self.naive(&inputs);
        let computed = run_on_cpu::<f64>(self.op.as_ref(), &self.uniforms, &inputs);
        for ((name, computed), wanted) in self.written(computed).into_iter().zip(&mut wanted) {
            assert_eq!(wanted.len(), computed.len(), "{self}: the naive loops give another length for `{name}`");
            for (i, (wanted, computed)) in wanted.iter_mut().zip(computed).enumerate() {
                // The same bound with f64's roundoff, once for the reference and once for the naive loops' own arithmetic.
                let bound = 2.0 * wanted.error * (f64::EPSILON / 2.0) / ROUNDOFF;
                let untouched = is_unwritten(computed) && is_unwritten(wanted.value);
                if !untouched && !within((computed - wanted.value).abs(), bound) {
                    let value = wanted.value;
                    return Err(format!("the f64 reference's {name}[{i}] is {computed:e}, the naive loops' {value:e}"));
                }
                wanted.value = computed;
            }
            says_something(wanted).map_err(|error| format!("{name}: {error}"))?;
        }
        let args = self.op.args().into_iter().filter(|arg| arg.access == Access::ReadWrite);
        for (arg, wanted) in args.zip(&mut wanted) {
            wanted.iter_mut().for_each(|wanted| *wanted = wanted.stored(arg.format));
        }
        Ok(Oracle { inputs, wanted, counted })
    }

    /// Names to the written operands, in their order.
    pub fn written<T>(&self, values: Vec<T>) -> Vec<(&'static str, T)> {
        let args = self.op.args().into_iter().filter(|arg| arg.access == Access::ReadWrite);
        args.map(|arg| arg.name).zip(values).collect()
    }

    fn naive(&self, inputs: &[Vec<f32>]) -> (Vec<Vec<Bounded>>, Cost) {
        let values = inputs.iter().map(|operand| operand.iter().map(|&x| Bounded::exact(x)).collect()).collect();
        let operands = Operands::new(self.op.args(), values, &self.uniforms);
        let (written, flops) = counted(|| (self.naive)(&operands));
        (written, Cost { flops, bytes: operands.bytes_moved() })
    }

    /// Holds the declared cost against what the naive loops did: their operations, and the elements that they read and wrote.
    ///
    /// # Errors
    /// What differs.
    pub fn check_cost(&self) -> Result<(), String> {
        let (declared, counted) = (self.op.cost(), self.oracle()?.counted);
        for (what, declared, counted) in
            [("FLOPs", declared.flops, counted.flops), ("bytes", declared.bytes, counted.bytes)]
        {
            let agree = if self.shortcut { counted <= declared } else { counted == declared };
            if !agree {
                return Err(format!("{declared} {what} are declared, the naive loops count {counted}"));
            }
        }
        Ok(())
    }
}

/// The op's label and what is special about the case: `gemm NN 17x33x5 bias`.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.op.label(), self.note)
    }
}

/// A bound that is not small beside the values would let much pass: then the case needs other shapes or weights.
fn says_something(wanted: &[Bounded]) -> Result<(), String> {
    let largest = |numbers: &mut dyn Iterator<Item = f64>| numbers.filter(|x| x.is_finite()).fold(0.0, f64::max);
    let bound = largest(&mut wanted.iter().map(|x| x.error));
    let value = largest(&mut wanted.iter().map(|x| x.value.abs()));
    match bound <= 0.05 * value.max(1e-3) {
        true => Ok(()),
        false => Err(format!("values up to {value:e} have bounds up to {bound:e}, which say nothing")),
    }
}

/// Runs the op on the CPU in `R`; returns the written operands.
pub fn run_on_cpu<R: ops::Real>(op: &dyn Op, uniforms: &Uniforms, inputs: &[Vec<f32>]) -> Vec<Vec<R>> {
    let args = op.args();
    let mut values: Vec<Vec<R>> =
        inputs.iter().map(|operand| operand.iter().map(|&x| R::of(f64::from(x))).collect()).collect();
    let (mut reads, mut writes) = (vec![], vec![]);
    for (value, arg) in values.iter_mut().zip(&args) {
        match arg.access {
            Access::Read => reads.push(&value[..]),
            Access::ReadWrite => writes.push(&mut value[..]),
        }
    }
    ops::run_on_cpu(op, uniforms, Args { reads, writes });
    let written = values.into_iter().zip(&args).filter(|(_, arg)| arg.access == Access::ReadWrite);
    written.map(|(value, _)| value).collect()
}

/// The CPU backend in f32 against the f64 reference, on three threads where there are any; it runs twice, which must give the same
/// bits.
///
/// # Errors
/// A result beyond its tolerance, bits that differ, or threads that cannot be started.
pub fn check_cpu(case: &Case) -> Result<Margin, String> {
    // More than one thread on any machine.
    static THREADS: OnceLock<Result<ThreadPool, String>> = OnceLock::new();
    let start = || ThreadPoolBuilder::new().num_threads(3).build().map_err(|error| error.to_string());
    let oracle = case.oracle()?;
    let on_this = || run_on_cpu::<f32>(case.op.as_ref(), &case.uniforms, &oracle.inputs);
    let threads = if cfg!(target_arch = "wasm32") { None } else { Some(THREADS.get_or_init(start).as_ref()?) };
    let run = || threads.map_or_else(on_this, |threads| threads.install(on_this));
    let (results, again) = (run(), run());
    for ((name, result), again) in case.written(results.clone()).into_iter().zip(again) {
        if let Some(i) = result.iter().zip(&again).position(|(a, b)| a.to_bits() != b.to_bits()) {
            return Err(format!("two runs differ: {name}[{i}] is {:e}, then {:e}", result[i], again[i]));
        }
    }
    compare(&case.written(results), &oracle.wanted)
}
