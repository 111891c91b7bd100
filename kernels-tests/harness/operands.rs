//! The operands that an op's naive loops see: they note which elements these read and write, which is what an op must move at
//! least.

use std::cell::Cell;
use std::ops::{Index, IndexMut, Range};

use crate::gpu::Access;
use crate::ops::{Arg, Uniforms};

use super::bounded::Bounded;

/// The operands of an op before it runs, by name.
pub struct Operands<'a> {
    operands: Vec<Operand>,
    /// The run's uniforms.
    pub uniforms: &'a Uniforms,
}

impl<'a> Operands<'a> {
    /// `values` are those of `args`, one after the other.
    pub fn new(args: Vec<Arg>, values: Vec<Vec<Bounded>>, uniforms: &'a Uniforms) -> Self {
        let operand = |(arg, values): (Arg, Vec<Bounded>)| Operand {
            arg,
            touched: values.iter().map(|_| Cell::default()).collect(),
            values,
            in_place: Cell::new(false),
        };
        Self { operands: args.into_iter().zip(values).map(operand).collect(), uniforms }
    }

    /// Bytes that the naive loops have read and written, each element once for either. An operand that they have not taken
    /// [in place](Operand::in_place) they have made as a whole.
    pub fn bytes_moved(&self) -> u64 {
        self.operands.iter().map(|operand| operand.moved() * operand.arg.format.bytes()).sum()
    }
}

impl Index<&str> for Operands<'_> {
    type Output = Operand;

    fn index(&self, name: &str) -> &Operand {
        let found = self.operands.iter().find(|operand| operand.arg.name == name);
        found.unwrap_or_else(|| panic!("no operand `{name}`"))
    }
}

/// What naive loops did with an element.
#[derive(Clone, Copy, Default)]
struct Touched {
    /// Took the value from before the run.
    read: bool,
    written: bool,
}

/// One operand before the op runs.
pub struct Operand {
    arg: Arg,
    values: Vec<Bounded>,
    touched: Vec<Cell<Touched>>,
    in_place: Cell<bool>,
}

impl Operand {
    /// All elements, read one by one.
    pub fn iter(&self) -> impl Iterator<Item = &Bounded> + Clone {
        (0..self.values.len()).map(|i| &self[i])
    }

    /// The operand to be changed where it stands: what the naive loops leave alone is neither read nor written.
    pub fn in_place(&self) -> InPlace<'_> {
        self.in_place.set(true);
        InPlace { operand: self, values: self.values.clone() }
    }

    /// Elements that count as not read: the op's cost is that of a run which does without them.
    pub fn uncounted(&self, range: Range<usize>) -> &[Bounded] {
        &self.values[range]
    }

    fn reads(&self, range: Range<usize>) {
        for touched in &self.touched[range] {
            let before = touched.get();
            touched.set(Touched { read: before.read || !before.written, ..before });
        }
    }

    fn writes(&self, range: Range<usize>) {
        self.touched[range].iter().for_each(|touched| touched.set(Touched { written: true, ..touched.get() }));
    }

    fn moved(&self) -> u64 {
        let all_written = self.arg.access == Access::ReadWrite && !self.in_place.get();
        let touched = self.touched.iter().map(Cell::get);
        touched.map(|touched| u64::from(touched.read) + u64::from(touched.written || all_written)).sum()
    }
}

impl Index<usize> for Operand {
    type Output = Bounded;

    fn index(&self, i: usize) -> &Bounded {
        self.reads(i..i + 1);
        &self.values[i]
    }
}

impl Index<Range<usize>> for Operand {
    type Output = [Bounded];

    fn index(&self, range: Range<usize>) -> &[Bounded] {
        self.reads(range.clone());
        &self.values[range]
    }
}

/// An operand that is changed where it stands.
pub struct InPlace<'a> {
    operand: &'a Operand,
    values: Vec<Bounded>,
}

impl InPlace<'_> {
    /// What stands there now.
    pub fn end(self) -> Vec<Bounded> {
        self.values
    }
}

impl Index<usize> for InPlace<'_> {
    type Output = Bounded;

    fn index(&self, i: usize) -> &Bounded {
        self.operand.reads(i..i + 1);
        &self.values[i]
    }
}

impl IndexMut<usize> for InPlace<'_> {
    fn index_mut(&mut self, i: usize) -> &mut Bounded {
        self.operand.writes(i..i + 1);
        &mut self.values[i]
    }
}

impl Index<Range<usize>> for InPlace<'_> {
    type Output = [Bounded];

    fn index(&self, range: Range<usize>) -> &[Bounded] {
        self.operand.reads(range.clone());
        &self.values[range]
    }
}

impl IndexMut<Range<usize>> for InPlace<'_> {
    fn index_mut(&mut self, range: Range<usize>) -> &mut [Bounded] {
        self.operand.writes(range.clone());
        &mut self.values[range]
    }
}
