//! The parameters of a model as a value: names, shapes, places in the parameter buffer, initial values. It is made by
//! declaring them, without a plan or a device.

use crate::gpu::Format;
use crate::ops::{TensorId, View};

/// How a parameter starts (docs/MODEL.md, "Initialisation").
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Uniform in `+-sqrt(6 / (fan_in + fan_out))` (Glorot & Bengio 2010).
    Glorot {
        /// Inputs of one output.
        fan_in: usize,
        /// Outputs of one input.
        fan_out: usize,
    },
    /// Each `[H, H]` gate block orthogonal (Saxe et al. 2013).
    OrthogonalGates,
    /// All zero.
    Zero,
    /// LSTM bias in gate order i, f, g, o: zero but 1 for the forget gate (Jozefowicz et al. 2015).
    ForgetOne,
}

/// A named parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// Name in checkpoints.
    pub name: String,
    /// Shape, row-major.
    pub shape: Vec<usize>,
    /// Where it stands in the parameter buffer.
    pub view: View,
    /// How it starts.
    pub init: Init,
}

/// Parameters start on multiples of 64 elements (256 bytes), which every adapter can bind.
const PARAM_ALIGN: usize = 64;

/// All parameters of a model, in the order of their declaration, one after the other in one buffer.
///
/// # Examples
///
/// ```
/// use deepj::prelude::*;
///
/// let mut layout = Layout::new();
/// layout.scope("encoder", |layout| Dense::new(layout, "hidden", 3, 5));
/// let names: Vec<&str> = layout.params().iter().map(|param| param.name.as_str()).collect();
/// assert_eq!(names, ["encoder.hidden.weight", "encoder.hidden.bias"]);
/// assert_eq!(layout.elements(), 3 * 5 + 5);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    params: Vec<Param>,
    scope: Vec<String>,
}

impl Layout {
    /// The parameter buffer's tensor: the first of every graph.
    pub(super) const TENSOR: TensorId = TensorId(0);

    /// A layout without parameters.
    pub fn new() -> Self {
        Self::default()
    }

    /// Declares a parameter.
    pub fn param(&mut self, name: &str, shape: &[usize], init: Init) -> View {
        let (start, len) = (self.len(), shape.iter().product());
        let view = View { tensor: Self::TENSOR, start, len, format: Format::F32 };
        let name = self.scope.iter().map(String::as_str).chain([name]).collect::<Vec<_>>().join(".");
        self.params.push(Param { name, shape: shape.to_vec(), view, init });
        view
    }

    /// Runs `f` with `name` put before the names of the parameters that it declares.
    pub fn scope<T>(&mut self, name: &str, f: impl FnOnce(&mut Self) -> T) -> T {
        self.scope.push(name.to_string());
        let result = f(self);
        self.scope.pop();
        result
    }

    /// The parameters in the order of their declaration.
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// Elements of the parameter buffer, padding included.
    pub fn len(&self) -> usize {
        self.params.last().map_or(0, |p| (p.view.start + p.view.len).next_multiple_of(PARAM_ALIGN))
    }

    /// Whether there is no parameter.
    pub fn is_empty(&self) -> bool {
        self.params.is_empty()
    }

    /// Number of parameters' elements, padding left out.
    pub fn elements(&self) -> usize {
        self.params.iter().map(|p| p.view.len).sum()
    }
}
