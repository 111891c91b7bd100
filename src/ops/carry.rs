//! The LSTM state at the border of a window: starts it from zero, or slot by slot from zero or the last window.

use serde::Serialize;

use super::recorder::shader;
use super::{Arg, Args, Cost, Op, Real, Recorder, RowGroups, Uniforms, cpu_both};
use crate::Result;
use crate::gpu::{Capabilities, Format, Shader};

/// Where a state comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Source {
    /// All zero. Operands: `y`.
    Zero,
    /// A copy scaled row by row with `keep[sequence of the row]`: 1 carries on, 0 starts anew.
    /// Operands: `x`, `keep [sequences]`, `y`.
    Keep(RowGroups),
}

/// `y = source`, both `[rows, width]`. Gradients stop here: truncated backpropagation through time detaches the state.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Carry {
    /// Rows of the state.
    pub rows: usize,
    /// Columns of the state.
    pub width: usize,
    /// Where it comes from.
    pub source: Source,
    /// Formats of `x` and `y`.
    pub stored: [Format; 2],
}

impl Carry {
    fn run_on_cpu<R: Real>(&self, _: &Uniforms, args: Args<'_, R>) {
        match self.source {
            Source::Zero => {
                let ([], [y]) = args.take();
                y.fill(R::ZERO);
            }
            Source::Keep(groups) => {
                let ([x, keep], [y]) = args.take();
                for (r, (y, x)) in y.chunks_exact_mut(self.width).zip(x.chunks_exact(self.width)).enumerate() {
                    let factor = keep[groups.of(r)];
                    y.iter_mut().zip(x).for_each(|(y, &x)| *y = x * factor);
                }
            }
        }
    }
}

impl Op for Carry {
    fn name(&self) -> &'static str {
        "carry"
    }

    fn label(&self) -> String {
        let source = match self.source {
            Source::Zero => "zero",
            Source::Keep(_) => "keep",
        };
        let [from, to] = self.stored.map(Format::name);
        let formats = if self.stored == [Format::F32; 2] { String::new() } else { format!(" {from} to {to}") };
        format!("carry {source} {}x{}{formats}", self.rows, self.width)
    }

    fn args(&self) -> Vec<Arg> {
        let len = self.rows * self.width;
        let mut args = vec![];
        if self.source != Source::Zero {
            args.push(Arg::read("x", len).stored(self.stored[0]));
        }
        if let Source::Keep(groups) = self.source {
            args.push(Arg::read("keep", groups.sequences).moving(groups.among(self.rows)));
        }
        args.push(Arg::write("y", len).stored(self.stored[1]));
        args
    }

    fn cost(&self) -> Cost {
        let flops = if matches!(self.source, Source::Keep(_)) { (self.rows * self.width) as u64 } else { 0 };
        Cost { flops, bytes: self.operand_bytes() }
    }

    cpu_both!();

    fn variants(&self, _: &Capabilities) -> Vec<&'static str> {
        vec!["portable"]
    }

    fn record(&self, _: &str, recorder: &mut Recorder<'_>) -> Result<()> {
        let width = self.width;
        let types = |shader: Shader| Shader { types: vec![("X", self.stored[0]), ("Y", self.stored[1])], ..shader };
        for (row, rows) in recorder.row_chunks(self.rows, &[width]) {
            let (start, len) = (row * width, rows * width);
            let cost = recorder.share(rows, self.rows);
            let bound = match self.source {
                Source::Zero => {
                    recorder.dispatch(types(shader!("carry", "zero", [])), cost).write(0, start, len).word(len)
                }
                Source::Keep(groups) => {
                    let dispatch = recorder.dispatch(types(shader!("carry", "keep_rows", [])), cost);
                    let bound = dispatch.write(2, start, len).read(0, start, len).read_all(1).word(len);
                    bound.word(width).word(row).word(groups.inner).word(groups.sequences)
                }
            };
            bound.groups(len.div_ceil(256));
        }
        Ok(())
    }
}
