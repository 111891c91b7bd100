//! Holds gradients against central differences, in f64 and without a GPU.
//!
//! The op stands in the middle of a small graph. What goes in comes from a product with parameters, so that the op's
//! gradient has to reach them; what comes out is weighted with random numbers, so that the gradient that arrives differs
//! from element to element and an op that ignores it fails.

use std::collections::HashMap;
use std::sync::Arc;

use crate::graph::{CpuProgram, Graph, Init, Kind, Layout, Plan, cpu};
use crate::ops::gemm::{self, Gemm};
use crate::ops::random::{pcg4d, uniform01};
use crate::ops::{Op, Uniforms, View};

use super::bounded::within;

/// Half the distance between the points of the difference, `2^-10`.
const H: f64 = 1.0 / 1024.0;

/// The fourth-order central difference `(8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12h` is off by `h^4 / 30` times the fifth
/// derivative, 3e-14 of it, and by the roundings of `f`, some `u / h = 1e-13` of the terms that `f` sums. Fifth
/// derivatives of tanh and sigmoid are below 20 and the graphs are shallow, with weights around 1 and some hundred terms
/// of that size: 1e-9 leaves a factor of ten to what that makes.
pub const TOLERANCE: f64 = 1e-9;

/// Estimates the derivative of `f` at 0; see [`TOLERANCE`].
pub fn central_difference(mut f: impl FnMut(f64) -> f64) -> f64 {
    let near = f(H) - f(-H);
    let far = f(2.0 * H) - f(-2.0 * H);
    (8.0 * near - far) / (12.0 * H)
}

/// Appends to a graph and returns the results.
type Build = dyn Fn(&mut Builder) -> Vec<View> + Send + Sync;

/// A graph with an op whose gradient is to be checked.
pub struct Gradient {
    /// The op's name and what is special.
    pub name: String,
    build: Box<Build>,
    expected: &'static str,
}

impl Gradient {
    /// A check named `name`; `build` appends the op and what it needs, and returns its results.
    pub fn new(name: impl Into<String>, build: impl Fn(&mut Builder) -> Vec<View> + Send + Sync + 'static) -> Self {
        Self { name: name.into(), build: Box::new(build), expected: "" }
    }

    /// The label of a backward node must contain this.
    pub fn through(self, expected: &'static str) -> Self {
        Self { expected, ..self }
    }
}

/// A graph under construction, with the values of what it reads.
pub struct Builder {
    graph: Graph,
    /// The parameters declared so far.
    layout: Layout,
    inputs: Vec<(View, Vec<f64>)>,
    params: HashMap<View, Vec<f64>>,
    drawn: u32,
}

impl Builder {
    /// A graph over these parameters, of which none is declared yet.
    fn over(layout: Layout) -> Self {
        let graph = Graph::new(Arc::new(layout));
        Self { graph, layout: Layout::new(), inputs: vec![], params: HashMap::new(), drawn: 0 }
    }

    fn random(&mut self, len: usize, scale: f64) -> Vec<f64> {
        self.drawn += 1;
        let value = |i: usize| f64::from(uniform01(pcg4d([i as u32, self.drawn, 0x96ad, 1])[0]));
        (0..len).map(|i| (2.0 * value(i) - 1.0) * scale).collect()
    }

    /// A parameter of `len` elements in `[-scale, scale)`.
    pub fn param(&mut self, len: usize, scale: f64) -> View {
        let values = self.random(len, scale);
        let name = format!("{}", self.params.len());
        let view = self.layout.param(&name, &[len], Init::Zero);
        self.params.insert(view, values);
        view
    }

    /// Values without a gradient, in `[-scale, scale)`.
    pub fn input(&mut self, len: usize, scale: f64) -> View {
        let values = self.random(len, scale);
        self.input_of(values)
    }

    /// These values, without a gradient.
    pub fn input_of(&mut self, values: Vec<f64>) -> View {
        let view = self.graph.tensor("input", values.len(), Kind::Input);
        self.inputs.push((view, values));
        view
    }

    /// A value of `len` elements, around 1 in size, that depends on parameters: row by row 3 random numbers times a matrix.
    pub fn hidden(&mut self, len: usize) -> View {
        let columns = (1..=8).rev().find(|columns| len.is_multiple_of(*columns)).unwrap_or(1);
        let rows = len / columns;
        let (x, w) = (self.input(rows * 3, 1.0), self.param(3 * columns, 1.0));
        let y = self.temp(len);
        self.apply(Gemm::new(gemm::Layout::NN, rows, columns, 3), &[x, w, y]);
        y
    }

    /// A temporary.
    pub fn temp(&mut self, len: usize) -> View {
        self.graph.temp("value", len)
    }

    /// Lets go of a value after the forward pass, so that the backward pass makes it again.
    pub fn drop_after_forward(&mut self, x: View) {
        self.graph.recompute();
        self.graph.drop_after_forward(x);
    }

    /// Appends a node.
    pub fn apply(&mut self, op: impl Op + 'static, operands: &[View]) {
        self.graph.apply(op, operands);
    }
}

/// Compares the gradient of every parameter, element by element.
///
/// # Errors
/// The first element that differs, or a backward pass that does not go the way that was expected.
pub fn check(gradient: &Gradient) -> Result<(), String> {
    // Built once over more parameters than it may have, to learn which they are.
    let mut room = Layout::new();
    room.param("room", &[1 << 20], Init::Zero);
    let mut first = Builder::over(room);
    (gradient.build)(&mut first);
    let mut builder = Builder::over(first.layout);
    let results = (gradient.build)(&mut builder);
    let loss = builder.graph.tensor("loss", 1, Kind::Output);
    for (i, y) in results.into_iter().enumerate() {
        let weights = builder.input(y.len, 1.0);
        let product = Gemm { accumulate: i > 0, ..Gemm::new(gemm::Layout::NN, 1, 1, y.len) };
        builder.apply(product, &[y, weights, loss]);
    }
    let seed = builder.input_of(vec![1.0]);

    let forward = Plan::compile("forward", builder.graph.clone());
    builder.graph.backward(loss, seed).map_err(|error| error.to_string())?;
    let backward = Plan::compile("backward", builder.graph.clone());
    let added = &backward.nodes[forward.nodes.len()..];
    if !added.iter().any(|node| node.op.label().contains(gradient.expected)) {
        return Err(format!("no backward node is `{}`", gradient.expected));
    }
    let uniforms = Uniforms { seed: 11, update: 5, ..Uniforms::default() };

    let mut shared = cpu::shared::<f64>(&backward);
    let set = |program: &mut CpuProgram<f64>, shared: &mut cpu::Shared<f64>| {
        let given = builder.inputs.iter().map(|(view, values)| (view, values)).chain(&builder.params);
        for (view, values) in given {
            program.get_mut(shared, *view).copy_from_slice(values);
        }
    };
    let mut backward = CpuProgram::new(backward);
    set(&mut backward, &mut shared);
    backward.run(&mut shared, &uniforms);
    let gradients = shared[1].clone();

    let mut forward = CpuProgram::new(forward);
    set(&mut forward, &mut shared);
    for (view, values) in &builder.params {
        let largest = gradients[view.start..][..view.len].iter().fold(0.0f64, |a, b| a.max(b.abs()));
        if largest < 1e-3 {
            return Err(format!("the gradient of a parameter of {} elements is all but zero", view.len));
        }
        for (i, &value) in values.iter().enumerate() {
            let place = view.start + i;
            let difference = central_difference(|shift| {
                shared[0][place] = value + shift;
                forward.run(&mut shared, &uniforms);
                forward.get(&shared, loss)[0]
            });
            shared[0][place] = value;
            let computed = gradients[place];
            if !within((computed - difference).abs(), TOLERANCE * largest.max(1.0)) {
                let len = view.len;
                return Err(format!("element {i} of {len}: gradient {computed:e}, central difference {difference:e}"));
            }
        }
    }
    Ok(())
}
