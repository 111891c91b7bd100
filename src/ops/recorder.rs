//! How an op becomes dispatches: binds ranges of its operands and leaves alignment to one place.

use super::View;
use crate::error::{Error, Result};
use crate::gpu::{Access, Binding, Capabilities, Cost, Dispatch, Format, Shader, WatchdogBudget};

/// The shader file `shaders/<op>.wgsl`, its entry point, compile-time constants and element types.
macro_rules! shader {
    ($op:literal, $entry:expr, [$($const:tt),* $(,)?]) => {
        shader!($op, $entry, [$($const),*], [])
    };
    ($op:literal, $entry:expr, [$(($name:expr, $value:expr)),* $(,)?], [$(($type:expr, $format:expr)),* $(,)?]) => {
        $crate::gpu::Shader {
            op: $op,
            source: $crate::gpu::shader_text!($op),
            entry: $entry,
            consts: vec![$(($name, $value as u32)),*],
            types: vec![$(($type, $format)),*],
        }
    };
}
pub(crate) use shader;

/// An op as dispatches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// In the order in which they run.
    pub dispatches: Vec<Dispatch>,
    /// Elements of scratch memory that they need, bound as the operand behind the op's last.
    pub scratch: usize,
}

impl Recorded {
    /// The largest part of a budget that one of the dispatches takes.
    pub fn longest(&self, budget: &WatchdogBudget) -> f64 {
        self.dispatches.iter().map(|dispatch| budget.share(dispatch.cost, dispatch.groups())).fold(0.0, f64::max)
    }
}

/// Collects the dispatches of one op.
pub struct Recorder<'a> {
    /// What the adapter can do.
    pub capabilities: &'a Capabilities,
    operands: &'a [View],
    /// Of the whole op.
    cost: Cost,
    recorded: Recorded,
    scratch_format: Format,
}

impl<'a> Recorder<'a> {
    /// Records `op` in one of its variants.
    ///
    /// # Errors
    /// A variant that the op does not have on these capabilities; an op of which even the least part that it can be cut into
    /// would take too long for a watchdog.
    pub fn record(
        op: &dyn super::Op,
        variant: &str,
        capabilities: &'a Capabilities,
        operands: &'a [View],
    ) -> Result<Recorded> {
        if !op.supported(capabilities).contains(&variant) {
            return Err(super::unknown_variant(op, variant));
        }
        let (recorded, scratch_format) = (Recorded::default(), Format::F32);
        let mut recorder = Self { capabilities, operands, cost: op.cost(), recorded, scratch_format };
        op.record(variant, &mut recorder)?;
        let recorded = recorder.recorded;
        match capabilities.budget.map(|budget| recorded.longest(&budget)) {
            Some(share) if share > 1.0 => Err(Error::device(
                format!(
                    "{}: one of its dispatches would take {:.0} ms at the roofline limits of {}, and drivers end those that take too \
                     long: {:.0} ms are allowed",
                    op.label(),
                    1e3 * WatchdogBudget::SECONDS * share,
                    capabilities.name,
                    1e3 * WatchdogBudget::SECONDS
                ),
                "choose fewer units or a smaller --batch or --count, let `deepj peaks` measure the device if it has not yet, \
                 or use --device cpu",
            )),
            _ => Ok(recorded),
        }
    }

    /// What `part` of the op's `whole` costs.
    pub fn share(&self, part: usize, whole: usize) -> Cost {
        self.cost.part(part, whole)
    }

    /// How many of the op's `parts`, all alike, one dispatch of so many workgroups may do so that no watchdog ends it; 0 where
    /// one is too much.
    pub fn parts_in_time(&self, parts: usize, groups: usize) -> usize {
        self.in_time(self.cost, parts, groups)
    }

    /// The same of parts that cost `cost` together.
    pub fn in_time(&self, cost: Cost, parts: usize, groups: usize) -> usize {
        self.capabilities.budget.map_or(parts, |budget| budget.parts(parts, cost, groups as u64))
    }

    /// Asks for memory of so many elements while the op runs, and returns the operand as which dispatches bind it. It holds
    /// anything before the op's first dispatch and is lost after its last.
    pub fn scratch(&mut self, elements: usize) -> usize {
        self.recorded.scratch = self.recorded.scratch.max(elements);
        self.operands.len()
    }

    /// The same of elements in this format, which all scratch memory of the op then has.
    pub fn scratch_as(&mut self, elements: usize, format: Format) -> usize {
        self.scratch_format = format;
        self.scratch((elements * format.bytes() as usize).div_ceil(Format::F32.bytes() as usize))
    }

    /// Elements from where a binding of operand `arg` from `start` on begins to `start`.
    pub fn offset(&self, arg: usize, start: usize) -> usize {
        let (absolute, format) = self.place(arg, start);
        absolute % format.alignment() as usize
    }

    /// Where element `start` of operand `arg` stands in its buffer, and its format. Scratch memory begins its buffer.
    fn place(&self, arg: usize, start: usize) -> (usize, Format) {
        self.operands.get(arg).map_or((start, self.scratch_format), |view| (view.start + start, view.format))
    }

    /// Starts a dispatch that does so much ([`Recorder::share`]); finish it with [`Building::groups`] or [`Building::grid`].
    pub fn dispatch(&mut self, shader: Shader, cost: Cost) -> Building<'_, 'a> {
        let dispatch = Dispatch { shader, bindings: vec![], params: vec![], grid: [0; 3], uses_uniforms: false, cost };
        Building { recorder: self, dispatch, words: vec![] }
    }

    /// How many rows one dispatch may cover so that no binding passes the adapter's limit, when the operands that are
    /// cut hold `widths` elements a row, in any format. At least 1.
    pub fn rows_per_binding(&self, widths: &[usize]) -> usize {
        let limit = (self.capabilities.max_storage_buffer_binding_size / 4) as usize;
        let widest = widths.iter().copied().max().unwrap_or(1).max(1);
        (limit.saturating_sub(Format::F16.alignment() as usize) / widest).max(1)
    }

    /// The op's `rows` rows, which bring workgroups with them, cut into runs of which none passes the adapter's limits
    /// ([`Self::rows_per_binding`], [`Self::parts_in_time`]): first row and number of rows of each.
    pub fn row_chunks(&self, rows: usize, widths: &[usize]) -> impl Iterator<Item = (usize, usize)> + use<> {
        self.sum_chunks(rows, widths, usize::MAX)
    }

    /// The same of rows that are summed up by so many workgroups, however few rows there are.
    pub fn sum_chunks(
        &self,
        rows: usize,
        widths: &[usize],
        groups: usize,
    ) -> impl Iterator<Item = (usize, usize)> + use<> {
        chunks(rows, self.rows_per_binding(widths).min(self.parts_in_time(rows, groups)).max(1))
    }
}

/// `len` cut into runs of at most `most`: start and length of each.
pub fn chunks(len: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..len).step_by(most).map(move |start| (start, most.min(len - start)))
}

/// A dispatch under construction. The shader's `Params` start with one offset word for each storage binding, in binding
/// order (elements between the bound range's start and the operand's), then the op's own words.
pub struct Building<'r, 'a> {
    recorder: &'r mut Recorder<'a>,
    dispatch: Dispatch,
    words: Vec<u32>,
}

impl Building<'_, '_> {
    fn bind(mut self, arg: usize, start: usize, len: usize, access: Access) -> Self {
        let (absolute, format) = self.recorder.place(arg, start);
        // The remainder goes to the shader as an offset.
        let offset = self.recorder.offset(arg, start);
        let (start, len) = ((absolute - offset) as u64, (len + offset) as u64);
        self.dispatch.bindings.push(Binding { arg, access, format, start, len });
        self.dispatch.params.push(offset as u32);
        self
    }

    /// Binds elements `[start, start + len)` of operand `arg` for reading.
    pub fn read(self, arg: usize, start: usize, len: usize) -> Self {
        self.bind(arg, start, len, Access::Read)
    }

    /// Binds elements `[start, start + len)` of operand `arg` for reading and writing.
    pub fn write(self, arg: usize, start: usize, len: usize) -> Self {
        self.bind(arg, start, len, Access::ReadWrite)
    }

    /// Binds the whole of operand `arg` for reading.
    pub fn read_all(self, arg: usize) -> Self {
        let len = self.recorder.operands[arg].len;
        self.read(arg, 0, len)
    }

    /// Binds the whole of operand `arg` for reading and writing.
    pub fn write_all(self, arg: usize) -> Self {
        let len = self.recorder.operands[arg].len;
        self.write(arg, 0, len)
    }

    /// Appends an integer parameter.
    pub fn word(mut self, value: usize) -> Self {
        self.words.push(value as u32);
        self
    }

    /// Appends integer parameters.
    pub fn words(mut self, values: &[usize]) -> Self {
        self.words.extend(values.iter().map(|&value| value as u32));
        self
    }

    /// Appends a float parameter.
    pub fn float(mut self, value: f32) -> Self {
        self.words.push(value.to_bits());
        self
    }

    /// Binds the per-run words at `@group(1) @binding(0)`.
    pub fn step(mut self) -> Self {
        self.dispatch.uses_uniforms = true;
        self
    }

    /// Ends the dispatch with `groups` workgroups in a line, folded into x and y where x alone may not hold them: a
    /// shader's group number is `workgroup_id.y * num_workgroups.x + workgroup_id.x` (`group_number` in
    /// `shaders/common.wgsl`), and surplus groups must do nothing.
    pub fn groups(self, groups: usize) {
        let limit = self.recorder.capabilities.max_compute_workgroups_per_dimension.max(1) as usize;
        let rows = groups.div_ceil(limit).max(1);
        let x = groups.div_ceil(rows);
        self.grid([x, rows, 1])
    }

    /// Ends the dispatch with this grid of workgroups.
    pub fn grid(mut self, grid: [usize; 3]) {
        self.dispatch.params.append(&mut self.words);
        self.dispatch.grid = grid.map(|g| g as u32);
        self.recorder.recorded.dispatches.push(self.dispatch);
    }
}
