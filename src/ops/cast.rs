//! Copies, in another format or the same: the f16 weights that the products of a mixed-precision plan read, and LSTM states
//! that go from window to window.

use rayon::prelude::*;
use serde::Serialize;

use super::recorder::shader;
use super::{Arg, Args, Cost, Op, Real, Recorder, Uniforms, cpu_both};
use crate::Result;
use crate::gpu::{Capabilities, Format};

/// `y = x`, rounded to the format of `y`. Operands: `x [len]`, `y [len]`.
///
/// No gradient of its own: the graph hands that of a weight's copy to the weight, and truncated backpropagation through
/// time detaches states.
///
/// # Examples
///
/// ```
/// # fn main() -> deepj::Result<()> {
/// use deepj::prelude::*;
///
/// // Rounded to f16 and back: 11 bits of a third are left.
/// let mut graph = Graph::without_params();
/// let x = graph.tensor("x", 1, Kind::Input);
/// let (half, y) = (graph.temp_as("half", 1, Format::F16), graph.tensor("y", 1, Kind::Output));
/// graph.apply(Cast { len: 1, from: Format::F32, to: Format::F16 }, &[x, half]);
/// graph.apply(Cast { len: 1, from: Format::F16, to: Format::F32 }, &[half, y]);
/// let mut session = Session::new(Device::Cpu { why: String::new() }, KernelSelection::default());
/// let program = session.add_all_blocking(vec![Plan::compile("halves", graph)])?[0];
/// session.write(program, x, &[1.0 / 3.0])?;
/// session.run(program, 1, &Uniforms::default())?;
/// assert_eq!(session.read_blocking(program, &[y])?, [[0.333_251_95]]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cast {
    /// Elements.
    pub len: usize,
    /// Format of `x`.
    pub from: Format,
    /// Format of `y`.
    pub to: Format,
}

impl Cast {
    fn run_on_cpu<R: Real>(&self, _: &Uniforms, args: Args<'_, R>) {
        let ([x], [y]) = args.take();
        const BLOCK: usize = 1 << 14;
        y.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).for_each(|(y, x)| y.copy_from_slice(x));
    }
}

impl Op for Cast {
    fn name(&self) -> &'static str {
        "cast"
    }

    fn label(&self) -> String {
        format!("cast {} {} to {}", self.len, self.from.name(), self.to.name())
    }

    fn args(&self) -> Vec<Arg> {
        vec![Arg::read("x", self.len).stored(self.from), Arg::write("y", self.len).stored(self.to)]
    }

    fn cost(&self) -> Cost {
        Cost { flops: 0, bytes: self.operand_bytes() }
    }

    cpu_both!();

    fn variants(&self, _: &Capabilities) -> Vec<&'static str> {
        vec!["portable"]
    }

    fn record(&self, _: &str, recorder: &mut Recorder<'_>) -> Result<()> {
        for (start, len) in recorder.row_chunks(self.len, &[1]) {
            let cost = recorder.share(len, self.len);
            let dispatch = recorder.dispatch(shader!("cast", "main", [], [("X", self.from), ("Y", self.to)]), cost);
            dispatch.read(0, start, len).write(1, start, len).word(len).groups(len.div_ceil(256));
        }
        Ok(())
    }
}
